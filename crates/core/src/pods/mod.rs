//! Stores what the API server knows of this node's pods, one small file each: `pods/<uid>.json`, and for static pods
//! `static/<namespace>_<name>.json`. The gate reads exactly one.
//!
//! What admission reads of a pod cannot change under one UID, except that ephemeral containers are added
//! (`pkg/apis/core/validation/validation.go` ValidatePodUpdate). So a file never becomes wrong. At most it lacks an ephemeral
//! container, and it outlives its writer.
//!
//! These facts are what a pod *declares* ([`PodFacts`]). What a node *observes* of a container is [`pss::facts::Facts`].

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use pss::pod::{Annotations, Pod, PodSpec, Strict};
use serde::{Deserialize, Serialize};

use crate::files::{self, FileError, Links, Owner};
use crate::formats::Format;
use crate::level::{is_dns_label, workload};

mod import;
mod object;
mod store;

pub use import::{ImportError, Imported, Kept, import};
pub use object::{About, Object};
pub use store::{Changes, Extent, Store, StoreError};

/// The largest file, in bytes. A pod of three containers takes 1 KiB. An API server takes no request of more than 3 MiB
/// (`MaxRequestBodyBytes` in apiserver `pkg/server/config.go`): no author can make the facts of a pod too large for a file.
pub const LIMIT: u64 = 4 << 20;

/// The folder of pods that the API server knows, below `/run/pss-guard` and, for the next boot, `/var/lib/pss-guard`.
pub const PODS: &str = "pods";
/// The folder of static pods beside it.
pub const STATIC: &str = "static";

/// What is known of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodFacts {
    /// The format's version, of [`Format::Pod`].
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
    /// Nobody brings facts to this node, or not yet: there is no folder, or nothing in it.
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
    #[error(
        "{} has the format version {version}, and this program reads {} to {}",
        .path.display(), Format::Pod.versions().start(), Format::Pod.versions().end()
    )]
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

impl PodsError {
    /// Whether the file is not there.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::File(error) if error.is_missing())
    }
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
            v: *Format::Pod.versions().end(),
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

/// The UID in the facts of a static pod. The kubelet makes it of the whole object in Go's own form
/// (`pkg/kubelet/config/common.go` applyDefaults), so nobody else can; no reader compares it.
const NO_UID: &str = "00000000000000000000000000000000";

impl PodFacts {
    /// Facts of a static pod, by the name that the kubelet gives it.
    #[must_use]
    pub fn of_static(namespace: &str, name: &str, pod: Pod) -> Self {
        Self::new(Whose { uid: NO_UID, namespace, name }, None, Source::Static, pod)
    }
}

/// Whether a text can be a UID, and so a file's name: an object's UID is a UUID, a static pod's 32 hex digits.
#[must_use]
pub fn is_uid(uid: &str) -> bool {
    (1..=64).contains(&uid.len()) && uid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

/// Where facts of a pod are: by whose word, and the file's name without `.json`. `None` where there can be none.
fn place(whose: Whose<'_>) -> Result<Option<(Source, String)>, PodsError> {
    let Whose { uid, namespace, name } = whose;
    if !is_uid(uid) {
        return Err(PodsError::Uid(uid.chars().take(64).collect()));
    }
    if !workload::is_static(uid) {
        return Ok(Some((Source::Api, uid.to_owned())));
    }
    // What the kubelet gives to a static pod is a label and a subdomain. Neither has the letter between them.
    let sound = is_dns_label(namespace) && is_subdomain(name);
    Ok(sound.then(|| (Source::Static, format!("{namespace}_{name}"))))
}

/// RFC 1123, as the API server checks names of pods.
fn is_subdomain(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_dns_label)
}

/// The facts of the pod that a container says it is of, from below a folder such as `/run/pss-guard`. Costs the same
/// however many there are.
pub fn read(folder: &Path, whose: Whose<'_>) -> Result<Found, PodsError> {
    let Some((source, file)) = place(whose)? else { return Ok(Found::Missing) };
    let folder = folder.join(source.folder());
    match fs::metadata(&folder) {
        Ok(metadata) => files::check_folder(&folder, &metadata)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::NoFolder),
        Err(source) => return Err(FileError::Open { path: folder, source }.into()),
    }
    let path = folder.join(format!("{file}.json"));
    let bytes = match files::read_as(&path, Links::Refuse, Owner::Root, LIMIT) {
        Ok((_, _, bytes)) => bytes,
        Err(error) if error.is_missing() && crate::store::is_unfilled(&folder) => return Ok(Found::NoFolder),
        Err(error) if error.is_missing() => return Ok(Found::Missing),
        Err(error) => return Err(error.into()),
    };
    let facts = parse(&bytes, &path)?;
    let same = facts.source == source && facts.namespace == whose.namespace && facts.name == whose.name;
    if !same || !(source == Source::Static || facts.uid == whose.uid) {
        let theirs = facts.whose().to_string();
        return Err(PodsError::Other { path, theirs, ours: whose.to_string() });
    }
    Ok(Found::Facts(Box::new(facts.split())))
}

/// Whether facts of any pod of a source are known here. Until they are, none is missing: [`read`] says [`Found::NoFolder`].
#[must_use]
pub fn are_known(folder: &Path, source: Source) -> bool {
    crate::store::is_filled(&folder.join(source.folder()))
}

impl Source {
    /// The folder of its facts.
    #[must_use]
    pub const fn folder(self) -> &'static str {
        match self {
            Self::Api => PODS,
            Self::Static => STATIC,
        }
    }
}

impl PodFacts {
    /// The pod's workload as exceptions name it, empty if it has none; `None` of a static pod, whose facts may lift nothing.
    #[must_use]
    pub fn workload(&self) -> Option<&str> {
        let owner = self.owner.as_ref().map(|owner| workload::of_controller(&owner.kind, &owner.name));
        (self.source == Source::Api).then_some(owner.unwrap_or_default())
    }

    /// Whose they are.
    #[must_use]
    pub fn whose(&self) -> Whose<'_> {
        Whose { uid: &self.uid, namespace: &self.namespace, name: &self.name }
    }

    fn split(mut self) -> (Self, Pod) {
        let (annotations, spec) = (std::mem::take(&mut self.annotations), std::mem::take(&mut self.spec));
        (self, Pod { annotations: annotations.0, spec: spec.0 })
    }
}

/// Parses facts: an unknown key of a known version is not ours.
/// Whether a file of facts can be used, for whichever pod it is.
///
/// # Errors
///
/// It cannot be believed or read, or is no facts.
pub fn check(path: &Path) -> Result<(), PodsError> {
    let (_, _, bytes) = files::read_as(path, Links::Refuse, Owner::Root, LIMIT)?;
    parse(&bytes, path).map(drop)
}

fn parse(bytes: &[u8], path: &Path) -> Result<PodFacts, PodsError> {
    #[derive(Deserialize)]
    struct Version {
        v: u32,
    }
    let parsed = serde_json::from_slice::<PodFacts>(bytes);
    let version = match &parsed {
        Ok(facts) => facts.v,
        // Where the version is not even a number, the first error says more.
        Err(_) => {
            serde_json::from_slice::<Version>(bytes).map_or(*Format::Pod.versions().end(), |head| head.v)
        }
    };
    if !Format::Pod.versions().contains(&version) {
        return Err(PodsError::Version { path: path.to_owned(), version });
    }
    parsed.map_err(|source| PodsError::Parse { path: path.to_owned(), source })
}
