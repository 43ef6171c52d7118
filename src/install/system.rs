//! What does a node get beside the gate? The files for systemd: the folder under `/run` and what a start needs are
//! there again after a boot, the journal knows the events, and a boot says whether the gate stands.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::node::{Live, Node};
use super::run::run;
use super::{Change, Plan, Refusal};

/// The installation that all engines share.
pub const NAME: &str = "systemd";

/// The unit that asks for the status at every boot.
const UNIT: &str = "pss-guard-status.service";

/// Where each file goes, and where a package has it instead.
const FILES: [(&str, &str, &str); 3] = [
    (
        "/etc/tmpfiles.d/pss-guard.conf",
        "/usr/lib/tmpfiles.d/pss-guard.conf",
        include_str!("../../systemd/pss-guard.tmpfiles"),
    ),
    (
        "/usr/local/lib/systemd/catalog/pss-guard.catalog",
        "/usr/lib/systemd/catalog/pss-guard.catalog",
        include_str!("../../systemd/pss-guard.catalog"),
    ),
    (
        "/etc/systemd/system/pss-guard-status.service",
        "/usr/lib/systemd/system/pss-guard-status.service",
        include_str!("../../systemd/pss-guard-status.service"),
    ),
];

/// The files for systemd, on a node that has it and as far as no package brought them.
pub fn plan(node: &dyn Node) -> Result<Plan, Refusal> {
    let mut plan = Plan::default();
    if node.find("systemctl").is_none() {
        return Ok(plan);
    }
    for (path, packaged, text) in FILES {
        if node.read(Path::new(packaged))?.is_some() {
            continue;
        }
        let before = node.read(Path::new(path))?;
        if before.as_deref() != Some(text.as_bytes()) {
            plan.changes.push(Change { path: path.into(), before, after: text.into() });
        }
    }
    Ok(plan)
}

/// Has systemd take notice of the new files; what failed, a sentence each. No container needs any of it.
#[must_use]
pub fn enable(node: &Live) -> Vec<String> {
    let root = format!("--root={}", node.root().display());
    let commands: &[&[&str]] = match (node.is_running(), has_systemd()) {
        (true, true) => &[
            &["systemctl", "daemon-reload"],
            &["systemctl", "enable", "--quiet", UNIT],
            &["journalctl", "--update-catalog"],
        ],
        // Another init, or a container: nobody to tell.
        (true, false) => &[&["journalctl", "--update-catalog"]],
        (false, _) => &[&["systemctl", &root, "enable", "--quiet", UNIT]],
    };
    commands.iter().filter_map(|command| complaint(command)).collect()
}

/// Has systemd let go of the files, while they are still there: a unit that is gone cannot be disabled.
#[must_use]
pub fn disable(node: &Live) -> Vec<String> {
    let root = format!("--root={}", node.root().display());
    let command: &[&str] = match (node.is_running(), has_systemd()) {
        (true, true) => &["systemctl", "disable", "--quiet", UNIT],
        (true, false) => return Vec::new(),
        (false, _) => &["systemctl", &root, "disable", "--quiet", UNIT],
    };
    complaint(command).into_iter().collect()
}

/// Has systemd take notice that the files are gone.
#[must_use]
pub fn forget(node: &Live) -> Vec<String> {
    let commands: &[&[&str]] = match (node.is_running(), has_systemd()) {
        (true, true) => &[&["systemctl", "daemon-reload"], &["journalctl", "--update-catalog"]],
        (true, false) => &[&["journalctl", "--update-catalog"]],
        (false, _) => &[],
    };
    commands.iter().filter_map(|command| complaint(command)).collect()
}

/// `sd_booted(3)`.
fn has_systemd() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

fn complaint(command: &[&str]) -> Option<String> {
    let (program, arguments) = command.split_first()?;
    let said = match run(Command::new(program).args(arguments), Duration::from_secs(60)) {
        Ok(done) if done.ok => return None,
        Ok(done) => done.stderr.trim().to_owned(),
        Err(error) => crate::report::text::line(&error),
    };
    Some(format!("{}: {said}", command.join(" ")))
}
