//! Where a distribution lets others change containerd's configuration, and where its programs are.

use std::path::{Path, PathBuf};

use super::config::Source;
use crate::files::FileError;
use crate::install::{Change, Plan, PlanError, Request};
use crate::node::distribution::{Change as Way, Distribution};
use crate::node::host::{Node, Untried};
use crate::node::recognize::starts_with_another;
use crate::node::systemd;

/// What makes containerd's unit read the copy of a file that cannot be written (Flatcar).
pub(super) const UNIT_DROP_IN: &str = "/etc/systemd/system/containerd.service.d/10-pss-guard.conf";

/// The variable that Flatcar's unit passes to `containerd --config`.
const VARIABLE: &str = "Environment=CONTAINERD_CONFIG=";

/// The head of the unit's drop-in.
const UNIT_HEADER: &str = "# Written by `pss-guard install`, removed by `pss-guard uninstall`.";

/// Which file is edited, and how.
pub(super) fn source<'a>(node: &dyn Node, request: &Request<'a>) -> Result<Source<'a>, PlanError> {
    let distribution = request.distribution;
    let usual = Path::new(&*distribution.config);
    if let Some(other) = request.config.filter(|named| *named != usual) {
        return Ok(Source::edit(other));
    }
    Ok(match &distribution.change {
        Way::Edit => Source::edit(usual),
        Way::DropIn { restarts } => {
            Source { only_drop_in: Some(distribution.name), restarts: *restarts, ..Source::edit(usual) }
        }
        Way::Template(path) => Source::edit(Path::new(&**path)),
        Way::Copy(to) => {
            let is_read = node.read(Path::new(UNIT_DROP_IN))?.as_deref() == Some(unit(to).as_bytes());
            Source { copy_of: (!is_read).then_some(usual), ..Source::edit(Path::new(&**to)) }
        }
        Way::No { why, instead } => {
            return Err(PlanError::Unsupported {
                what: format!("the gate cannot be installed on {}: {why}", distribution.name),
                instead: (*instead).to_owned(),
            });
        }
    })
}

/// Completes the plan for a copy: the unit has to read it, and it must not stand in the place of somebody's file.
pub(super) fn finish(
    node: &dyn Node,
    request: &Request<'_>,
    source: &Source<'_>,
    plan: &mut Plan,
) -> Result<(), PlanError> {
    let Way::Copy(to) = &request.distribution.change else { return Ok(()) };
    if source.main != Path::new(&**to) {
        return Ok(());
    }
    if let (Some(from), Some(there)) = (source.copy_of, node.read(source.main)?) {
        // A run that did not come to its end may have left it.
        plan.changes.retain(|change| change.path != source.main || change.after != there);
        if plan.changes.iter().any(|change| change.path == source.main) {
            return Err(PlanError::Unsupported {
                what: format!("{to} is there, and containerd reads {} and not it", from.display()),
                instead: format!(
                    "move it away, or let the unit name it ({VARIABLE}{to}) and restart containerd first"
                ),
            });
        }
    }
    let path = PathBuf::from(UNIT_DROP_IN);
    let (before, after) = (node.read(&path)?, unit(to).into_bytes());
    if before.as_ref() != Some(&after) {
        plan.changes.push(Change { path, before, after });
    }
    Ok(())
}

/// Refuses a plan for files that containerd would not read once its unit starts it again: one that names another, or has
/// mounts over them. Where somebody has named the file, that word counts.
pub(super) fn is_read(
    node: &dyn Node,
    request: &Request<'_>,
    source: &Source<'_>,
    files: &[PathBuf],
    plan: &Plan,
) -> Result<(), PlanError> {
    let distribution = request.distribution;
    let Some(unit) = distribution.unit.filter(|_| request.config.is_none()) else { return Ok(()) };
    let drop_in = plan.changes.iter().find(|change| change.path == Path::new(UNIT_DROP_IN));
    let planned = drop_in.map(|change| (change.path.as_path(), change.after.as_slice()));
    // What cannot be followed is the recognition's to refuse, where nothing else tells.
    let Ok(Some(service)) = systemd::service_with(node, unit, planned) else { return Ok(()) };
    if !distribution.brings_engine()
        && let Some(what) = starts_with_another(&service, unit, source.main)
    {
        let instead = match &distribution.change {
            Way::Copy(_) => format!("remove what names it after {UNIT_DROP_IN}"),
            _ => format!(
                "have the unit name {}, or `pss-guard uninstall --engine containerd` and install again",
                source.main.display()
            ),
        };
        return Err(PlanError::Unsupported { what, instead });
    }
    let folder = |path: &'_ PathBuf| match path.parent() {
        Some(folder) if folder != Path::new("/") => folder.to_owned(),
        _ => path.clone(),
    };
    let runtimes = plan.entries.iter().map(|entry| entry.runtime.clone());
    for path in files.iter().map(folder).chain(runtimes).chain([PathBuf::from(PRODUCT)]) {
        service.sees(node, &path).map_err(|error| PlanError::Unsupported {
            what: error.to_string(),
            instead: "remove that, or name with --config the file that containerd reads".to_owned(),
        })?;
    }
    Ok(())
}

/// The folder of the gate and its links.
const PRODUCT: &str = "/var/lib/pss-guard";

/// The text of the unit's drop-in.
fn unit(config: &str) -> String {
    format!("{UNIT_HEADER}\n[Service]\n{VARIABLE}{config}\n")
}

/// The unit's drop-in without what is ours; `None` if nothing else is in it.
pub(super) fn strip_unit(now: &[u8]) -> Option<Vec<u8>> {
    let text = String::from_utf8_lossy(now);
    let is_ours = |line: &&str| line.trim() == UNIT_HEADER || line.trim().starts_with(VARIABLE);
    let rest: String = text.split_inclusive('\n').filter(|line| !is_ours(line)).collect();
    let says = |line: &str| !line.trim().is_empty() && line.trim() != "[Service]";
    rest.lines().any(says).then(|| rest.into_bytes())
}

/// A node on which the distribution's own folders of programs come first.
pub(super) struct WithPrograms<'a> {
    pub(super) node: &'a dyn Node,
    pub(super) distribution: &'a Distribution,
}

impl Node for WithPrograms<'_> {
    fn find(&self, name: &str) -> Option<PathBuf> {
        self.distribution.find(self.node, name)
    }

    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, FileError> {
        self.node.read(path)
    }

    fn list(&self, folder: &Path) -> Vec<String> {
        self.node.list(folder)
    }

    fn link(&self, path: &Path) -> Option<PathBuf> {
        self.node.link(path)
    }

    fn is_program(&self, path: &Path) -> bool {
        self.node.is_program(path)
    }

    fn output(&self, program: &Path, arguments: &[&str]) -> Option<String> {
        self.node.output(program, arguments)
    }

    fn trial(
        &self,
        program: &Path,
        arguments: &[&str],
        files: &[(String, Vec<u8>)],
    ) -> Result<String, Untried> {
        self.node.trial(program, arguments, files)
    }

    fn is_folder(&self, path: &Path) -> bool {
        self.node.is_folder(path)
    }
}
