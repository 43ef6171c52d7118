//! Writes facts of pods: one by one, as an agent hears of them, or all that a list has.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{LIMIT, PodFacts, PodsError, Source, Whose, is_subdomain, place};
use crate::atomic::{Lasts, WriteError, fault};
use crate::formats::{self, Format, NothingInCommon};
use crate::level::is_dns_label;
use crate::paths::Paths;
use crate::store;

/// Why facts are not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The gate reads no version of the files that this program writes.
    #[error("{0}; nothing was changed")]
    Format(#[from] NothingInCommon),
    /// The identity must not become part of a path.
    #[error(transparent)]
    Uid(#[from] PodsError),
    /// No pod is called that, or a pod of the other source.
    #[error("{0:?} can be no pod of the source {1:?}; nothing was changed")]
    Name(String, Source),
    /// The gate would not read them.
    #[error("the facts of pod {0} are larger than {LIMIT} bytes")]
    TooLarge(String),
    /// Two pods with one name.
    #[error("pod {0} is in the list twice; nothing was changed")]
    Twice(String),
    /// A list without pods would drop them all.
    #[error(
        "the list has no pods that count; objects that are marked as mirrors of static pods, or have a UID like one, may be \
         forged: the kubelet's own list has static pods (/api/v1/nodes/NODE/proxy/pods); nothing was changed"
    )]
    Empty,
    /// A file cannot be changed.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The next boot would bring back older facts.
    #[error("facts of pods were written, but cannot be saved for the next boot")]
    Keep(#[source] WriteError),
}

/// What a list brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// How many pods have facts now, as far as the list knows.
    pub pods: usize,
    /// How many of them are new or have other facts.
    pub changed: usize,
    /// How many were removed, because their pods are gone.
    pub removed: usize,
    /// Pods of which no facts fit a file.
    pub too_large: Vec<String>,
}

/// Whether a list is all there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent<'g> {
    /// It is: what it lacks is removed, and the folder's time says when that was.
    All,
    /// It is, and of what it lacks these are removed, by the names of their files without `.json`.
    Gone(&'g BTreeSet<String>),
    /// It may lack some: nothing is removed.
    Some,
}

/// The folders of facts of pods, and their copies for the next boot.
///
/// A file is written only if it is to say something else: pods change all the time, and hardly ever what admission reads
/// of them.
#[derive(Clone, Debug)]
pub struct Store {
    version: u32,
    live: PathBuf,
    kept: PathBuf,
}

impl Store {
    /// The node's own. The files will be of the version that its gate reads.
    pub fn of(paths: &Paths) -> Result<Self, StoreError> {
        let version = formats::agreed(&paths.formats(), Format::Pod)?;
        Ok(Self { version, live: paths.told(), kept: paths.kept() })
    }

    /// Writes the facts of one pod. Whether anything changed; if so, the next boot knows of it after [`Self::keep`].
    pub fn put(&self, facts: &PodFacts) -> Result<bool, StoreError> {
        let (source, name) = checked(facts.source, facts.whose())?;
        let content = self.content(facts)?;
        self.change(source, |folder| store::put(folder, &name, &content, Lasts::Processes))
    }

    /// Removes the facts of a pod that is gone from this node, by the name of their file without `.json`. Whether there were
    /// any; if so, the next boot knows of it after [`Self::keep`].
    pub fn remove(&self, source: Source, name: &str) -> Result<bool, StoreError> {
        if !is_name(source, name) {
            return Err(StoreError::Name(name.chars().take(256).collect(), source));
        }
        self.change(source, |folder| store::remove(folder, name))
    }

    /// The names of the files that there are, without `.json`.
    pub fn names(&self, source: Source) -> Result<BTreeSet<String>, StoreError> {
        let [live, _] = self.folders(source);
        Ok(store::names(&live, |name| is_name(source, name))?)
    }

    /// Copies everything for the next boot. It waits for the disk, and changes of the folders do not wait for it.
    pub fn keep(&self) -> Result<(), StoreError> {
        for source in [Source::Api, Source::Static] {
            let [live, kept] = self.folders(source);
            if live.is_dir() {
                store::copy(&live, &kept, |name| is_name(source, name)).map_err(StoreError::Keep)?;
            }
        }
        Ok(())
    }

    /// How many files of one source the copy for the next boot lacks.
    pub fn uncopied(&self, source: Source) -> Result<usize, StoreError> {
        let [live, kept] = self.folders(source);
        Ok(store::uncopied(&live, &kept, |name| is_name(source, name))?)
    }

    /// Writes the facts of all pods of a list, which may be all of the API's, all static ones, both or neither. Everything is
    /// checked before anything changes; what is too large for a file goes without, because a pod's author decides how large
    /// it is. What changed of the API's pods, and of static ones.
    pub fn replace_all(
        &self,
        all: &[PodFacts],
        of_api: Extent<'_>,
        of_static: Extent<'_>,
    ) -> Result<[Changes; 2], StoreError> {
        if all.is_empty() {
            return Err(StoreError::Empty);
        }
        let mut api = (BTreeMap::new(), Vec::new());
        let mut own = (BTreeMap::new(), Vec::new());
        for facts in all {
            let (source, name) = checked(facts.source, facts.whose())?;
            let (wanted, too_large) = if source == Source::Api { &mut api } else { &mut own };
            match self.content(facts) {
                Err(StoreError::TooLarge(pod)) => too_large.push(pod),
                content => {
                    if wanted.insert(name, content?).is_some() {
                        return Err(StoreError::Twice(facts.whose().to_string()));
                    }
                }
            }
        }
        let filled = |source, extent, (wanted, too_large): (BTreeMap<_, _>, Vec<String>)| {
            self.fill(source, extent, &wanted).map(|done| Changes { too_large, ..done })
        };
        Ok([filled(Source::Api, of_api, api)?, filled(Source::Static, of_static, own)?])
    }

    fn fill(
        &self,
        source: Source,
        extent: Extent<'_>,
        wanted: &BTreeMap<String, String>,
    ) -> Result<Changes, StoreError> {
        // A folder without files would make every pod a missing one.
        if wanted.is_empty() && extent == Extent::Some {
            return Ok(Changes::default());
        }
        let is_stale = |name: &str| match extent {
            Extent::All => is_name(source, name),
            Extent::Gone(gone) => gone.contains(name) && is_name(source, name),
            Extent::Some => false,
        };
        let [live, kept] = self.folders(source);
        let _lock = store::lock(&live)?;
        let fill = || store::fill(&live, wanted, is_stale, Lasts::Processes);
        let done = if extent == Extent::Some { store::keeping_time(&live, fill) } else { fill() }?;
        // Afterwards: a full disk must not keep the node from what is known now.
        store::keep(&kept, wanted, is_stale).map_err(StoreError::Keep)?;
        let store::Changes { changed, removed } = done;
        Ok(Changes { pods: wanted.len(), changed, removed, too_large: Vec::new() })
    }

    fn folders(&self, source: Source) -> [PathBuf; 2] {
        [&self.live, &self.kept].map(|folder| folder.join(source.folder()))
    }

    fn change(
        &self,
        source: Source,
        change: impl FnOnce(&Path) -> Result<bool, WriteError>,
    ) -> Result<bool, StoreError> {
        let [live, _] = self.folders(source);
        Ok(store::change(&live, change)?)
    }

    fn content(&self, facts: &PodFacts) -> Result<String, StoreError> {
        let versioned = PodFacts { v: self.version, ..facts.clone() };
        let mut text = serde_json::to_string(&versioned)
            .map_err(|error| fault("write", &self.live)(std::io::Error::other(error)))?;
        text.push('\n');
        if text.len() as u64 > LIMIT {
            return Err(StoreError::TooLarge(facts.whose().to_string()));
        }
        Ok(text)
    }
}

impl PodFacts {
    /// The name of their file without `.json`; `None` if the gate would look for them nowhere.
    #[must_use]
    pub fn file_name(&self) -> Option<String> {
        checked(self.source, self.whose()).ok().map(|(_, name)| name)
    }
}

/// Whether a file can be one of ours, by its name without `.json`.
fn is_name(source: Source, name: &str) -> bool {
    match source {
        Source::Api => super::is_uid(name),
        Source::Static => name
            .split_once('_')
            .is_some_and(|(namespace, name)| is_dns_label(namespace) && is_subdomain(name)),
    }
}

/// Where these facts are, if the gate would look for them there.
fn checked(source: Source, whose: Whose<'_>) -> Result<(Source, String), StoreError> {
    let sound = is_dns_label(whose.namespace) && is_subdomain(whose.name);
    let place = place(whose)?.filter(|(expected, _)| sound && *expected == source);
    place.ok_or_else(|| StoreError::Name(whose.to_string().chars().take(256).collect(), source))
}
