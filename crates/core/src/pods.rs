//! Stores what the API server knows of this node's pods, one small file each: `pods/<uid>.json`, and for static pods
//! `static/<namespace>_<name>.json`. The gate reads exactly one.
//!
//! What admission reads of a pod cannot change under one UID, but for ephemeral containers that are added
//! (`pkg/apis/core/validation/validation.go` ValidatePodUpdate). So a file is never stale, and outlives its writer.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use pss::pod::{Annotations, Pod, PodSpec, Strict};
use serde::{Deserialize, Serialize};

use crate::files::{self, FileError, Links, Owner};
use crate::level::{is_dns_label, workload};

/// The format that this program reads and writes.
pub const VERSION: u32 = 1;

/// A pod of three containers takes 1 KiB; one of some hundred containers fits.
pub const LIMIT: u64 = 64 << 10;

/// The folder of pods that the API server knows, below `/run/pss-guard` and, for the next boot, `/var/lib/pss-guard`.
pub const PODS: &str = "pods";
/// The folder of static pods beside it.
pub const STATIC: &str = "static";

/// What is known of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodFacts {
    /// The format's version: [`VERSION`].
    v: u32,
    /// The UID, which the API server chooses and never gives twice.
    pub uid: String,
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The workload that it belongs to, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Workload>,
    /// Who says so.
    pub source: Source,
    /// The annotations that the standard reads.
    #[serde(default, skip_serializing_if = "is_empty")]
    annotations: Strict<Annotations>,
    /// The fields that the standard reads.
    spec: Strict<PodSpec>,
}

/// The workload of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// Where facts come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The API server.
    Api,
    /// A manifest in the kubelet's folder. Its UID is a hash that only the kubelet computes.
    Static,
}

/// What is known of a container's pod.
#[derive(Debug)]
pub enum Found {
    /// Nobody brings facts to this node.
    NoFolder,
    /// Others are known, this one is not.
    Missing,
    /// These.
    Facts(Box<(PodFacts, Pod)>),
}

/// Whose facts are asked for, in config.json's words.
#[derive(Clone, Copy, Debug)]
pub struct Whose<'a> {
    /// The UID.
    pub uid: &'a str,
    /// The namespace.
    pub namespace: &'a str,
    /// The name.
    pub name: &'a str,
}

impl fmt::Display for Whose<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} ({})", self.namespace, self.name, self.uid)
    }
}

/// Why facts are not used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PodsError {
    /// The identity must not become part of a path.
    #[error("{0:?} cannot be the UID of a pod")]
    Uid(String),
    /// The file or its folder cannot be believed or read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is no facts.
    #[error("parse {} as facts of a pod (`pss-guard pods import` rewrites it)", .path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The file is of another format version.
    #[error("{} has the format version {version}, and this program reads {VERSION}", .path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// The file is of another pod.
    #[error("{} is of pod {theirs}, and the container is of {ours}", .path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        theirs: String,
        /// Whose the container is.
        ours: String,
    },
}

fn is_empty(annotations: &Strict<Annotations>) -> bool {
    annotations.0.is_empty()
}

impl PodFacts {
    /// Facts of a pod.
    #[must_use]
    pub fn new(whose: Whose<'_>, owner: Option<Workload>, source: Source, pod: Pod) -> Self {
        let Whose { uid, namespace, name } = whose;
        let (uid, namespace, name) = (uid.to_owned(), namespace.to_owned(), name.to_owned());
        Self {
            v: VERSION,
            uid,
            namespace,
            name,
            owner,
            source,
            annotations: Strict(pod.annotations),
            spec: Strict(pod.spec),
        }
    }
}

/// Whether a text can be a UID, and so a file's name: an object's UID is a UUID, a static pod's 32 hex digits.
#[must_use]
pub fn is_uid(uid: &str) -> bool {
    (1..=64).contains(&uid.len()) && uid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

/// The facts of the pod that a container says it is of, from below a folder such as `/run/pss-guard`. Costs the same
/// however many there are.
pub fn read(folder: &Path, whose: Whose<'_>) -> Result<Found, PodsError> {
    let Whose { uid, namespace, name } = whose;
    if !is_uid(uid) {
        return Err(PodsError::Uid(uid.chars().take(64).collect()));
    }
    let is_static = workload::is_static(uid);
    if is_static && !(is_dns_label(namespace) && name.split('.').all(is_dns_label)) {
        return Ok(Found::Missing);
    }
    let (folder, file) = if is_static {
        (folder.join(STATIC), format!("{namespace}_{name}.json"))
    } else {
        (folder.join(PODS), format!("{uid}.json"))
    };
    match fs::metadata(&folder) {
        Ok(metadata) => files::check_folder(&folder, &metadata)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::NoFolder),
        Err(source) => return Err(FileError::Open { path: folder, source }.into()),
    }
    let path = folder.join(file);
    let bytes = match files::read_as(&path, Links::Refuse, Owner::Root, LIMIT) {
        Ok((_, _, bytes)) => bytes,
        Err(error) if error.is_missing() => return Ok(Found::Missing),
        Err(error) => return Err(error.into()),
    };
    let facts = parse(&bytes, &path)?;
    let expected = if is_static { Source::Static } else { Source::Api };
    let same = facts.source == expected && facts.namespace == namespace && facts.name == name;
    if !same || !(is_static || facts.uid == uid) {
        let theirs = Whose { uid: &facts.uid, namespace: &facts.namespace, name: &facts.name }.to_string();
        return Err(PodsError::Other { path, theirs, ours: whose.to_string() });
    }
    Ok(Found::Facts(Box::new(facts.split())))
}

impl PodFacts {
    fn split(mut self) -> (Self, Pod) {
        let (annotations, spec) = (std::mem::take(&mut self.annotations), std::mem::take(&mut self.spec));
        (self, Pod { annotations: annotations.0, spec: spec.0 })
    }
}

/// Parses facts: an unknown key of a known version is not ours.
fn parse(bytes: &[u8], path: &Path) -> Result<PodFacts, PodsError> {
    #[derive(Deserialize)]
    struct Version {
        v: u32,
    }
    let fail = |source| PodsError::Parse { path: path.to_owned(), source };
    match serde_json::from_slice::<PodFacts>(bytes) {
        Ok(facts) if facts.v == VERSION => Ok(facts),
        Ok(PodFacts { v: version, .. }) => Err(PodsError::Version { path: path.to_owned(), version }),
        Err(source) => match serde_json::from_slice::<Version>(bytes) {
            Ok(Version { v }) if v != VERSION => {
                Err(PodsError::Version { path: path.to_owned(), version: v })
            }
            _ => Err(fail(source)),
        },
    }
}
