//! Is the gate where engines look for it, and can nobody but root change it?

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::{Checks, Setting, State};
use crate::files::{self, FileError, Owner};
use crate::install::node::Node as _;
use crate::install::{Entry, GATE, entry_path};
use crate::pss::facts::Engine;
use crate::report::text::line;

/// Looks at the gate binary; gives back what it says of its version.
pub(super) fn binary(setting: &Setting<'_>, engine: Engine, checks: &mut Checks) -> Option<String> {
    let again = format!("`pss-guard install --engine {}` puts it there again", engine.name());
    let path = setting.live.place(Path::new(GATE));
    let metadata = match fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(source) => {
            let error = FileError::Open { path, source };
            checks.add(State::Wrong, "gate", format!("{}; {again}", line(&error)));
            return None;
        }
    };
    if let Err(error) = files::judge(&path, &metadata, Owner::Root, u64::MAX) {
        checks.add(State::Wrong, "gate", line(&error));
        return None;
    }
    if metadata.permissions().mode() & 0o111 != 0o111 {
        let says = format!("{} cannot be executed by everybody; {again}", path.display());
        checks.add(State::Wrong, "gate", says);
        return None;
    }
    if !folders_are_roots(setting, Path::new(GATE), checks) {
        return None;
    }
    let said = setting.live.output(Path::new(GATE), &["--version"]);
    let version = said.as_deref().and_then(|said| said.trim().strip_prefix("pss-guard ")).map(str::to_owned);
    let own = env!("CARGO_PKG_VERSION");
    match &version {
        Some(version) if version == own => checks.add(State::Ok, "gate", format!("{GATE}, version {own}")),
        Some(version) => {
            let says = format!(
                "{GATE} is version {version}, this program is {own}; `pss-guard install --engine {}` replaces it",
                engine.name()
            );
            checks.add(State::Open, "gate", says);
        }
        None if setting.live.place(Path::new("/")) == Path::new("/") => {
            checks.add(State::Wrong, "gate", format!("{GATE} does not run (`{GATE} --version`); {again}"));
        }
        None => checks.add(State::Ok, "gate", path.display().to_string()),
    }
    version
}

/// Whether only root can put files where this one is.
fn folders_are_roots(setting: &Setting<'_>, path: &Path, checks: &mut Checks) -> bool {
    let top = Path::new("/var/lib");
    let folders = path.ancestors().skip(1).take_while(|folder| *folder != top);
    for folder in folders {
        let folder = setting.live.place(folder);
        let judged = match fs::metadata(&folder) {
            Ok(metadata) => files::judge_folder(&folder, &metadata),
            Err(source) => Err(FileError::Open { path: folder, source }),
        };
        if let Err(error) = judged {
            checks.add(State::Wrong, "gate", line(&error));
            return false;
        }
    }
    true
}

/// Looks at the links by which the wrapper knows what it stands for.
pub(super) fn entries(setting: &Setting<'_>, engine: Engine, entries: &[Entry], checks: &mut Checks) {
    let mut right = true;
    for entry in entries {
        let path = entry_path(engine, &entry.handler);
        if let Err(wrong) = links(setting, &path) {
            let says = format!("{wrong}; `pss-guard install --engine {}` mends it", engine.name());
            checks.add(State::Wrong, "entries", says);
            right = false;
        } else {
            right &= folders_are_roots(setting, &path, checks);
        }
    }
    if right && !entries.is_empty() {
        let lead = |entry: &Entry| format!("{} leads to {}", entry.handler, entry.runtime.display());
        let list: Vec<String> = entries.iter().map(lead).collect();
        checks.add(State::Ok, "entries", list.join(", "));
    }
}

/// Why the two links of an entry are not as they should be.
fn links(setting: &Setting<'_>, path: &Path) -> Result<(), String> {
    let live = &setting.live;
    let file = |path: &Path| fs::metadata(live.place(path)).ok().map(|file| (file.dev(), file.ino()));
    let gate = file(Path::new(GATE));
    match (live.link(path), file(path)) {
        (None, _) => return Err(format!("{} is missing", path.display())),
        (Some(to), own) if own.is_none() || own != gate => {
            return Err(format!("{} leads to {} and not to the gate", path.display(), to.display()));
        }
        _ => {}
    }
    let runtime: PathBuf = path.with_file_name("runtime");
    let Some(to) = live.link(&runtime) else { return Err(format!("{} is missing", runtime.display())) };
    let shown = format!("{} leads to {}", runtime.display(), to.display());
    if !to.is_absolute() || !live.is_program(&to) {
        let other = live.find_again(to.clone());
        let then = if other == to {
            "no container starts with it".to_owned()
        } else {
            format!("{} is called in its place", other.display())
        };
        return Err(format!("{shown}, which is no program: {then}"));
    }
    if file(&to) == gate {
        return Err(format!("{shown}, which is the gate itself: no container starts with it"));
    }
    Ok(())
}
