//! Has CRI-O read the gate's hook again. It watches its folders of hooks, and drops a hook silently whose program is missing
//! when it reads the file (`pkg/hooks/read.go` and `monitor.go` in container-libs). A gate that comes back changes no file there,
//! so it would stay dropped until CRI-O is restarted.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Failure, Report, Step};
use crate::atomic::fault;
use crate::install::engines::hooks_d;
use crate::install::standing::{Standing, changed};
use crate::install::transaction::manifest;
use crate::install::{Method, labels};
use crate::node::host::Live;
use crate::node::procfs::Process;
use crate::pss::facts::Engine;

/// The hook's files among those that an installation shares with others.
pub(super) fn files(shared: &[PathBuf]) -> Vec<PathBuf> {
    shared.iter().filter(|path| hooks_d::is_ours(path)).cloned().collect()
}

/// The hook's files of CRI-O; none where the gate is installed for it in another way.
pub(super) fn of_crio(node: &Live) -> Result<Vec<PathBuf>, Failure> {
    let installed = manifest(node, Engine::CriO.name())?;
    let by_hook = installed.filter(|installed| installed.method == Some(Method::Hook));
    Ok(by_hook.map(|installed| files(&installed.shared)).unwrap_or_default())
}

/// Whether a process watches no folder in which one of them lies: it reads none of them before it is restarted.
pub(crate) fn is_unwatched(process: &Process, files: &[PathBuf]) -> bool {
    let folders = || files.iter().filter_map(|file| file.parent());
    folders().next().is_some() && folders().all(|folder| process.watches(folder) == Some(false))
}

/// Those of them that CRI-O may have read while there was no gate.
pub(super) fn stale(node: &Live, standing: &Standing<'_>, mut files: Vec<PathBuf>) -> Vec<PathBuf> {
    let gate = standing.untouched_gate();
    files.retain(|path| gate.is_none_or(|gate| changed(node, path).is_none_or(|read| read < gate)));
    files
}

/// Writes these again, so that CRI-O reads them. Where that cannot be, the gate stands all the same, and a restart does it.
pub(super) fn read_again(node: &Live, paths: &[PathBuf], report: Report<'_>) {
    for path in paths {
        match write_again(node, path) {
            Ok(()) => report(Step::Wrote(path)),
            Err(failure) => report(Step::NotDone(&format!(
                "{}; CRI-O may have dropped the hook, until it is restarted",
                failure.says
            ))),
        }
    }
}

fn write_again(node: &Live, path: &Path) -> Result<(), Failure> {
    let place = node.place(path);
    let bytes = fs::read(&place).map_err(fault("read", &place))?;
    Ok(labels::replace(node, path, &place, &bytes, 0o644)?)
}
