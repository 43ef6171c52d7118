//! The cluster's version, as the node is told it: `agent/cluster.json` says what `latest` stands for where the policy has no
//! `[cluster] version`.
//!
//! The API server evaluates `latest` at its own version (`k8s.io/pod-security-admission`, `api/helpers.go` GetAPIVersion), so
//! a node that knows this version gives the same answer. A file that cannot be trusted or read counts as missing: `latest` is
//! the newest version that this program knows then.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pss::Minor;
use serde::de::{Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer};

use crate::atomic::{Lasts, WriteError};
use crate::files::{self, FileError, Links, Owner};
use crate::formats::{self, Format, NothingInCommon};
use crate::paths::Paths;
use crate::store;

/// The folder of what the agent says of itself and of the cluster, below `/run/pss-guard` and, for the next boot,
/// `/var/lib/pss-guard`.
pub const AGENT: &str = "agent";

/// The file's name without `.json`.
const NAME: &str = "cluster";

/// The oldest minor that is believed: the first release whose API server has this admission switched on by default. Whoever can
/// write the file, such as a stolen agent, could switch controls off by an older one. From here on an older version of the
/// standard is never looser than a newer one, but that `hostProbesAndHostLifecycle` came with v1.34.
pub const OLDEST: Minor = 23;

/// What the node is told of the cluster's version.
#[derive(Clone, Debug, Default)]
pub enum Told {
    /// Nothing, or nobody needs to know.
    #[default]
    Nothing,
    /// The minor of the API server.
    Minor(Minor),
    /// There is a file, and it does not count.
    Unusable(Arc<ClusterError>),
}

impl PartialEq for Told {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Nothing, Self::Nothing) => true,
            (Self::Minor(own), Self::Minor(other)) => own == other,
            (Self::Unusable(own), Self::Unusable(other)) => own.to_string() == other.to_string(),
            _ => false,
        }
    }
}

impl Eq for Told {}

/// Why the cluster's version is not known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// The file or its folder cannot be believed or read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is something else.
    #[error("parse {} as the cluster's version (`pss-guard cluster import` rewrites it)", .path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// It could switch controls off.
    #[error(
        "{} has v1.{minor}; a version below v1.{OLDEST} is believed of nobody but the policy ([cluster] version)",
        .path.display()
    )]
    Old {
        /// The file.
        path: PathBuf,
        /// What it has.
        minor: Minor,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct File {
    #[serde(rename = "v", deserialize_with = "version")]
    _v: (),
    minor: Minor,
    /// Users whom admission exempts. No node learns who created a pod, so the gate cannot use it.
    #[serde(default, rename = "exemptUsers")]
    _exempt_users: Option<IgnoredAny>,
}

fn version<'de, D: Deserializer<'de>>(from: D) -> Result<(), D::Error> {
    let (version, known) = (u32::deserialize(from)?, Format::Cluster.versions());
    if known.contains(&version) {
        return Ok(());
    }
    let (oldest, newest) = (known.start(), known.end());
    Err(D::Error::custom(format_args!(
        "it has the format version {version}, and this program reads {oldest} to {newest}"
    )))
}

/// Where the file is, below a folder such as `/run/pss-guard`.
#[must_use]
pub fn path(folder: &Path) -> PathBuf {
    folder.join(AGENT).join(NAME).with_extension("json")
}

/// What the file below a folder such as `/run/pss-guard` says.
#[must_use]
pub fn told(folder: &Path) -> Told {
    match read(folder) {
        Ok(None) => Told::Nothing,
        Ok(Some(minor)) => Told::Minor(minor),
        Err(error) => Told::Unusable(Arc::new(error)),
    }
}

fn read(folder: &Path) -> Result<Option<Minor>, ClusterError> {
    if files::open_folder(&folder.join(AGENT))?.is_none() {
        return Ok(None);
    }
    let path = path(folder);
    let bytes = match files::read_as(&path, Links::Refuse, Owner::Root, store::LIMIT) {
        Ok((_, _, bytes)) => bytes,
        Err(error) if error.is_missing() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match serde_json::from_slice(&bytes) {
        Ok(File { minor, .. }) if minor < OLDEST => Err(ClusterError::Old { path, minor }),
        Ok(File { minor, .. }) => Ok(Some(minor)),
        Err(source) => Err(ClusterError::Parse { path, source }),
    }
}

/// Why the cluster's version is not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The gate reads no version of the file that this program writes.
    #[error("{0}; nothing was changed")]
    Format(#[from] NothingInCommon),
    /// The gate would not believe it.
    #[error(
        "v1.{0} is below v1.{OLDEST}, which the gate believes of nobody but the policy ([cluster] version); nothing was changed"
    )]
    Old(Minor),
    /// The input cannot be read.
    #[error("read the API server's version from standard input")]
    Input(#[source] io::Error),
    /// The input is something else.
    #[error("expected the output of kubectl get --raw /version; nothing was changed")]
    Parse(#[source] serde_json::Error),
    /// No minor version of Kubernetes 1.
    #[error("the API server's version {0:?} is not of the form 1.x; nothing was changed")]
    Version(String),
    /// The file cannot be changed.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The next boot would bring back an older version.
    #[error("the cluster's version was written, but cannot be saved for the next boot")]
    Keep(#[source] WriteError),
}

/// Writes the API server's minor version for this boot and the next, in the format's version that this node's gate reads.
/// Whether anything changed.
pub fn put(paths: &Paths, minor: Minor) -> Result<bool, StoreError> {
    let version = formats::agreed(&paths.formats(), Format::Cluster)?;
    if minor < OLDEST {
        return Err(StoreError::Old(minor));
    }
    let content = format!("{{\"v\":{version},\"minor\":{minor}}}\n");
    let put = |folder: PathBuf, lasts| store::put_alone(&folder.join(AGENT), NAME, &content, lasts);
    let changed = put(paths.told(), Lasts::Processes)?;
    put(paths.kept(), Lasts::PowerCuts).map_err(StoreError::Keep)?;
    Ok(changed)
}

/// What `/version` of an API server answers (apimachinery, `pkg/version/types.go`).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Info {
    major: String,
    minor: String,
    /// What it behaves as, which is what admission goes by since v1.35.
    emulation_major: Option<String>,
    emulation_minor: Option<String>,
}

/// Writes the version that `kubectl get --raw /version` prints. The minor, and whether anything changed.
pub fn import(input: &mut dyn Read, paths: &Paths) -> Result<(Minor, bool), StoreError> {
    let mut bytes = Vec::new();
    input.take(store::LIMIT).read_to_end(&mut bytes).map_err(StoreError::Input)?;
    let info: Info = serde_json::from_slice(&bytes).map_err(StoreError::Parse)?;
    let major = info.emulation_major.unwrap_or(info.major);
    let minor = info.emulation_minor.unwrap_or(info.minor);
    // Some providers write "36+".
    let parsed = minor.strip_suffix('+').unwrap_or(&minor).parse();
    match parsed {
        Ok(parsed) if major == "1" => Ok((parsed, put(paths, parsed)?)),
        _ => Err(StoreError::Version(format!("{major}.{minor}").chars().take(32).collect())),
    }
}

#[cfg(test)]
mod tests {
    use pss::controls::CONTROLS;
    use pss::{NEWEST, Origin};

    use super::OLDEST;

    /// A control that comes later is one that a forged file switches off: whoever adds one reads the doc of [`OLDEST`]. What
    /// `procMount_restricted` forbids, `procMount` forbade until then.
    #[test]
    fn no_believed_version_lacks_what_a_newer_one_forbids_but_one() {
        let upstreams = CONTROLS.iter().filter(|control| control.origin == Origin::Upstream);
        let late = upstreams.filter(|control| control.at(OLDEST).is_none() && control.at(NEWEST).is_some());
        let ids: Vec<_> = late.map(|control| control.id).collect();
        assert_eq!(ids, ["hostProbesAndHostLifecycle", "procMount_restricted"]);
    }
}
