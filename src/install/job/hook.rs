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
use crate::pss::facts::Engine;

/// The hook's files of an installation for CRI-O; none where it is installed in another way.
pub(super) fn files(node: &Live) -> Result<Vec<PathBuf>, Failure> {
    let installed = manifest(node, Engine::CriO.name())?;
    let by_hook = installed.filter(|installed| installed.method == Some(Method::Hook));
    let shared = by_hook.into_iter().flat_map(|installed| installed.shared);
    Ok(shared.filter(|path| hooks_d::is_ours(path)).collect())
}

/// Those of them that CRI-O may have read while there was no gate.
pub(super) fn stale(node: &Live, standing: &Standing<'_>) -> Result<Vec<PathBuf>, Failure> {
    let gate = standing.untouched_gate();
    let is_stale =
        |path: &PathBuf| gate.is_none_or(|gate| changed(node, path).is_none_or(|read| read < gate));
    Ok(files(node)?.into_iter().filter(is_stale).collect())
}

/// Writes these again, so that CRI-O reads them.
pub(super) fn read_again(node: &Live, paths: &[PathBuf], report: Report<'_>) -> Result<(), Failure> {
    for path in paths {
        write_again(node, path)?;
        report(Step::Wrote(path));
    }
    Ok(())
}

fn write_again(node: &Live, path: &Path) -> Result<(), Failure> {
    let place = node.place(path);
    let bytes = fs::read(&place).map_err(fault("read", &place))?;
    Ok(labels::replace(node, path, &place, &bytes, 0o644)?)
}
