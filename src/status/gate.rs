//! Checks that the gate is where the engines look for it, and that only root can change it.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::{Checks, Setting, State, program};
use crate::files::{self, FileError, Owner};
use crate::install::standing::Standing;
use crate::install::{Entry, GATE, TOOL, directory, entry_path, labels};
use crate::message::line;
use crate::node::host::Node as _;
use crate::node::selinux::Mode;
use crate::pss::facts::Engine;

/// Looks at the gate binary; gives back what it says of its version, and whether it can be executed.
pub(super) fn binary(setting: &Setting<'_>, engine: Engine, checks: &mut Checks) -> (Option<String>, bool) {
    let again = format!("`pss-guard install --engine {}` restores it", engine.name());
    let path = setting.live.place(Path::new(GATE));
    let fault_of_tool = program::fault(&setting.live, Path::new(TOOL));
    if let Some(fault) = &fault_of_tool {
        let says = format!("{TOOL}, which systemd's units call, {fault}; {again}");
        checks.add(State::Wrong, "tool", says);
    }
    if let Some(fault) = program::fault(&setting.live, Path::new(GATE)) {
        // An installation of before: its one program goes on evaluating, and this version puts two in its place.
        let is_older = !path.exists() && fault_of_tool.is_none();
        let older = if is_older {
            format!("; {TOOL} of an older version may stand in its place")
        } else {
            String::new()
        };
        checks.add(State::Wrong, "gate", format!("{GATE} {fault}{older}; {again}"));
        return (None, false);
    }
    let judged = match fs::metadata(&path) {
        Ok(metadata) if metadata.permissions().mode() & 0o111 != 0o111 => {
            let says = format!("{} cannot be executed by all users; {again}", path.display());
            checks.add(State::Wrong, "gate", says);
            return (None, true);
        }
        Ok(metadata) => files::check(&path, &metadata, Owner::Root, u64::MAX),
        Err(source) => Err(FileError::Open { path: path.clone(), source }),
    };
    if let Err(error) = judged {
        checks.add(State::Wrong, "gate", line(&error));
        return (None, true);
    }
    if !folders_are_roots(setting, Path::new(GATE), checks) {
        return (None, true);
    }
    label(setting, checks);
    let said = setting.live.output(Path::new(GATE), &["--version"]);
    let version =
        said.as_deref().and_then(|said| said.trim().strip_prefix("pss-guard-gate ")).map(str::to_owned);
    if Standing::of(&setting.live).is_replaced() {
        checks.add(State::Wrong, "gate", format!("{GATE} is not the program that was installed; {again}"));
        let runs = version.is_some() || setting.live.place(Path::new("/")) != Path::new("/");
        return (version, runs);
    }
    let own = env!("CARGO_PKG_VERSION");
    let directory = directory::in_force(&setting.live);
    let lies = if directory == Path::new(directory::FOLDER) {
        String::new()
    } else {
        format!(", in {}", directory.display())
    };
    match &version {
        Some(version) if version == own => {
            checks.add(State::Ok, "gate", format!("{GATE}, version {own}{lies}"));
        }
        Some(version) => {
            let says = format!(
                "{GATE} is version {version}, this program is {own}; `pss-guard install --engine {}` replaces it",
                engine.name()
            );
            checks.add(State::Note, "gate", says);
        }
        None if setting.live.place(Path::new("/")) == Path::new("/") => {
            let says = format!("{GATE} does not run (`{GATE} --version`); {again}");
            checks.add(State::Wrong, "gate", says);
            return (None, false);
        }
        None => checks.add(State::Ok, "gate", format!("{}{lies}", path.display())),
    }
    (version, true)
}

/// Looks at the labels of the two programs, where SELinux asks for one.
fn label(setting: &Setting<'_>, checks: &mut Checks) {
    for program in [GATE, TOOL] {
        if let Some((mode, fault)) = labels::fault(&setting.live, Path::new(program)) {
            let state = if mode == Mode::Enforcing { State::Wrong } else { State::Note };
            checks.add(state, "label", format!("{program} {fault}"));
        }
    }
    if let Some(says) = labels::is_temporary(&setting.live) {
        checks.add(State::Note, "label", says);
    }
}

/// Whether only root can put files where this one is.
fn folders_are_roots(setting: &Setting<'_>, path: &Path, checks: &mut Checks) -> bool {
    let top = Path::new("/var/lib");
    let folders = path.ancestors().skip(1).take_while(|folder| *folder != top);
    for folder in folders {
        let folder = setting.live.place(folder);
        let judged = match fs::metadata(&folder) {
            Ok(metadata) => files::check_folder(&folder, &metadata),
            Err(source) => Err(FileError::Open { path: folder, source }),
        };
        if let Err(error) = judged {
            checks.add(State::Wrong, "gate", line(&error));
            return false;
        }
    }
    // Of the usual directory that was all: what lies above it is the system's.
    match directory::check(&setting.live, &directory::in_force(&setting.live)) {
        Ok(()) => true,
        Err(error) => {
            let says =
                format!("{} leads to a directory that does not do: {}", directory::FOLDER, line(&error));
            checks.add(State::Wrong, "gate", says);
            false
        }
    }
}

/// Looks at the links by which the wrapper knows what it stands for. Says whether all of them can be executed.
pub(super) fn entries(setting: &Setting<'_>, engine: Engine, entries: &[Entry], checks: &mut Checks) -> bool {
    let (mut right, mut all_run) = (true, true);
    for entry in entries {
        let path = entry_path(engine, &entry.handler);
        if let Err((says, runs)) = links(setting, &path) {
            let mut says = format!("{says}; `pss-guard install --engine {}` fixes it", engine.name());
            if !runs {
                // For whoever cannot wait for that: see docs/operations.md.
                let by_hand = format!(
                    "; by hand, without the gate: `ln -sfn {} {}`",
                    entry.runtime.display(),
                    path.display()
                );
                says.push_str(&by_hand);
            }
            checks.add(State::Wrong, "entries", says);
            right = false;
            all_run &= runs;
        } else {
            right &= folders_are_roots(setting, &path, checks);
        }
    }
    if right && !entries.is_empty() {
        let lead = |entry: &Entry| format!("{} leads to {}", entry.handler, entry.runtime.display());
        let list: Vec<String> = entries.iter().map(lead).collect();
        checks.add(State::Ok, "entries", list.join(", "));
    }
    all_run
}

/// Why the two links of an entry are not as they should be, and whether what is started by them runs all the same.
fn links(setting: &Setting<'_>, path: &Path) -> Result<(), (String, bool)> {
    let live = &setting.live;
    let file = |path: &Path| fs::metadata(live.place(path)).ok().map(|file| (file.dev(), file.ino()));
    let dead = |says: String| {
        Err((format!("{says}: no container starts with it, and none is killed or deleted"), false))
    };
    let gate = file(Path::new(GATE));
    match (live.link(path), file(path)) {
        (None, _) => return dead(format!("{} is missing", path.display())),
        (Some(to), None) => {
            return dead(format!("{} leads to {}, which is missing", path.display(), to.display()));
        }
        (Some(to), own) if own != gate => {
            let runs = program::fault(live, path).is_none();
            return Err((format!("{} leads to {} and not to the gate", path.display(), to.display()), runs));
        }
        _ => {}
    }
    if let Some(fault) = program::fault(live, path) {
        return dead(format!("{} leads to the gate, which {fault}", path.display()));
    }
    let runtime: PathBuf = path.with_file_name("runtime");
    let Some(to) = live.link(&runtime) else { return dead(format!("{} is missing", runtime.display())) };
    let shown = format!("{} leads to {}", runtime.display(), to.display());
    if !to.is_absolute() || !live.is_program(&to) {
        let other = live.find_again(to.clone());
        if other == to {
            return dead(format!("{shown}, which is not a program"));
        }
        return Err((
            format!("{shown}, which is not a program: {} is called instead", other.display()),
            program::fault(live, &other).is_none(),
        ));
    }
    if file(&to) == gate {
        return dead(format!("{shown}, which is the gate itself"));
    }
    match program::fault(live, &to) {
        Some(fault) => dead(format!("{shown}, which {fault}")),
        None => Ok(()),
    }
}
