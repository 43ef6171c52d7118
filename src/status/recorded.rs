//! Reads an engine's manifest, as the installer recorded it.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::files::{self, Links, Owner};
use crate::install::engines::hooks_d;
use crate::install::{Entry, Method, transaction};
use crate::message::line;
use crate::node::distribution::{Distribution, PLAIN};
use crate::node::host::{LIMIT, Live, Node as _};
use crate::pss::facts::Engine;

/// An installation.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    pub(crate) method: Method,
    /// The engine's configuration, where it is not the usual one.
    pub(crate) config: Option<PathBuf>,
    /// The distribution that the engine's files were of.
    pub(crate) distribution: Distribution,
    /// Since when the gate has been there.
    pub(crate) written: SystemTime,
    /// Whether the engine only sees it after a restart.
    pub(crate) restart: bool,
    /// The runtimes that the gate was put in front of.
    pub(crate) entries: Vec<Entry>,
    /// The files of the hook, in folders that the engine watches.
    pub(crate) hooks: Vec<PathBuf>,
}

/// The installation for an engine, if there is one; an error is a sentence.
pub(super) fn recorded(live: &Live, engine: Engine) -> Option<Result<Recorded, String>> {
    let path = Path::new("/var/lib/pss-guard/install").join(engine.name()).join("manifest.json");
    let place = live.place(&path);
    // Who can write it can have this program look elsewhere.
    let metadata = match files::read_as(&place, Links::Refuse, Owner::Root, LIMIT) {
        Ok((_, metadata, _)) => metadata,
        Err(error) if error.is_missing() => return None,
        Err(error) => return Some(Err(line(&error))),
    };
    let manifest = match transaction::manifest(live, engine.name()) {
        Ok(manifest) => manifest?,
        Err(error) => return Some(Err(line(&error))),
    };
    let Some(method) = manifest.method else {
        return Some(Err(format!("{} names no method", place.display())));
    };
    let restart =
        crate::install::engines::of(engine).is_some_and(|installer| installer.needs_restart(method));
    let written = newest_copy(live, engine).unwrap_or(metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH));
    let (config, entries, distribution) =
        (manifest.config, manifest.entries, manifest.distribution.unwrap_or_else(|| PLAIN.clone()));
    let hooks = manifest.shared.into_iter().filter(|path| hooks_d::is_ours(path)).collect();
    Some(Ok(Recorded { method, config, distribution, written, restart, entries, hooks }))
}

/// When the installer last changed a file of the engine: it keeps a copy of what it writes.
fn newest_copy(live: &Live, engine: Engine) -> Option<SystemTime> {
    let folder = Path::new("/var/lib/pss-guard/install").join(engine.name());
    let copies = live
        .list(&folder)
        .into_iter()
        .filter(|name| Path::new(name).extension().is_some_and(|end| end == "after"));
    let written =
        copies.filter_map(|name| std::fs::metadata(live.place(&folder.join(name))).ok()?.modified().ok());
    written.max()
}
