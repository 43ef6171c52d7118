//! Installs the files beside the gate: units, tmpfiles snippet, message catalog, and the manual that all of them
//! refer to.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::transaction::{TransactionError, installations, manifest};
use super::{Change, GATE, Plan, PlanError};
use crate::node::host::{Live, Node};
use crate::node::run::run;
use crate::node::systemd;

/// The installation that all engines share.
pub const NAME: &str = "systemd";

/// The engines that the gate is installed for: every installation but this one, which serves them all, and those that go
/// with an engine's.
#[must_use]
pub fn engines(node: &Live) -> Vec<String> {
    installations(node)
        .into_iter()
        .filter(|name| name != NAME && !name.starts_with(super::persist::PREFIX))
        .collect()
}

/// The unit that asks for the status at every boot.
const UNIT: &str = "pss-guard-status.service";

/// What puts the gate back where an engine's configuration lost it; `install --persist` enables it.
const PERSISTENCE: [&str; 2] = ["pss-guard-install.path", "pss-guard-install.service"];

/// The file that its path unit watches on every node.
pub const WATCHED: &str = "/etc/containerd/config.toml";

/// The agent, where it runs on the host.
const AGENT: &str = "pss-guard-agent.service";

/// What only the admin enables.
const WATCHERS: [&str; 4] =
    [AGENT, "pss-guard-namespaces.timer", "pss-guard-scan.timer", "pss-guard-textfile.timer"];

/// What older versions installed, and no program of this one answers to.
const RETIRED: [&str; 2] = ["pss-guard-metrics.socket", "pss-guard-metrics.service"];

/// Where the installer puts units.
const FOLDER: &str = "/etc/systemd/system";

/// A unit: where it goes, where a package has it instead, and its text.
macro_rules! unit {
    ($name:literal) => {
        (
            concat!("/etc/systemd/system/", $name),
            concat!("/usr/lib/systemd/system/", $name),
            include_str!(concat!("../../systemd/", $name)),
        )
    };
}

/// What a boot does before any engine starts.
const TMPFILES: &str = "/etc/tmpfiles.d/pss-guard.conf";

/// Where that file, as it is shipped, has the programs.
const PROGRAMS: &str = "/usr/local/sbin";

/// Where each file goes, and where a package has it instead.
const FILES: [(&str, &str, &str); 12] = [
    (TMPFILES, "/usr/lib/tmpfiles.d/pss-guard.conf", include_str!("../../systemd/pss-guard.tmpfiles")),
    unit!("pss-guard-status.service"),
    unit!("pss-guard-agent.service"),
    unit!("pss-guard-namespaces.timer"),
    unit!("pss-guard-namespaces.service"),
    unit!("pss-guard-scan.timer"),
    unit!("pss-guard-scan.service"),
    unit!("pss-guard-textfile.timer"),
    unit!("pss-guard-textfile.service"),
    unit!("pss-guard-install.path"),
    unit!("pss-guard-install.service"),
    // The last, because `/usr` may be read-only; journald reads no folder of the admin's in `/etc`.
    (
        "/usr/local/lib/systemd/catalog/pss-guard.catalog",
        "/usr/lib/systemd/catalog/pss-guard.catalog",
        include_str!("../../systemd/pss-guard.catalog"),
    ),
];

/// A page of the manual that the units refer to.
#[derive(Clone, Debug)]
pub struct Manual {
    /// Its section.
    pub section: u8,
    /// Its file name: `pss-guard.8`.
    pub name: String,
    /// The page, in roff.
    pub text: String,
}

impl Manual {
    /// Where it goes, and where a package has it instead.
    fn places(&self) -> (String, String) {
        let Self { section, name, .. } = self;
        (
            format!("/usr/local/share/man/man{section}/{name}"),
            format!("/usr/share/man/man{section}/{name}.gz"),
        )
    }
}

/// The files for systemd, and the manual that they name, on a node that has it and as far as no package brought them.
/// `programs` is the folder of those that people call.
pub fn plan(node: &dyn Node, manual: &[Manual], programs: &Path) -> Result<Plan, PlanError> {
    let mut plan = Plan::default();
    if node.find("systemctl").is_none() {
        return Ok(plan);
    }
    let files = FILES
        .map(|(path, packaged, text)| (path.to_owned(), packaged.to_owned(), text_for(path, text, programs)));
    let pages = manual.iter().map(|page| {
        let (path, packaged) = page.places();
        (path, packaged, page.text.as_bytes().to_owned())
    });
    for (path, packaged, text) in files.into_iter().chain(pages) {
        if node.read(Path::new(&packaged))?.is_some() {
            continue;
        }
        let before = node.read(Path::new(&path))?;
        if before.as_deref() != Some(&text) {
            plan.changes.push(Change { path: path.into(), before, after: text });
        }
    }
    Ok(plan)
}

/// A file as this node needs it: a boot takes lost programs from the folder that they are in.
fn text_for(path: &str, text: &str, programs: &Path) -> Vec<u8> {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "/-._+".contains(letter);
    // Another letter may be one that tmpfiles.d(5) reads: `%`, a blank.
    match programs.to_str().filter(|folder| path == TMPFILES && folder.chars().all(is_plain)) {
        Some(folder) => text.replace(PROGRAMS, folder).into(),
        None => text.into(),
    }
}

/// The folder from which a boot here takes lost programs, by the file that was installed.
#[must_use]
pub fn programs_of_a_boot(node: &dyn Node) -> Option<PathBuf> {
    let snippet = String::from_utf8(node.read(Path::new(TMPFILES)).ok()??).ok()?;
    let source = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let is_gate = fields.next() == Some("C") && fields.next() == Some(GATE);
        Path::new(fields.last().filter(|_| is_gate)?).parent().map(Path::to_owned)
    };
    snippet.lines().find_map(source)
}

/// How systemd takes notice of the new files.
#[must_use]
pub fn notices(node: &Live) -> Vec<Vec<String>> {
    let root = format!("--root={}", node.root().display());
    let commands: &[&[&str]] = match (node.is_running(), has_systemd()) {
        (true, true) => &[
            // As at a boot: the levels that were imported before an earlier uninstallation hold again.
            &["systemd-tmpfiles", "--create", "pss-guard.conf"],
            &["systemctl", "daemon-reload"],
            &["systemctl", "enable", "--quiet", UNIT],
            &["journalctl", "--update-catalog"],
        ],
        // Another init, or a container: nobody to tell.
        (true, false) => &[&["journalctl", "--update-catalog"]],
        (false, _) => &[&["systemctl", &root, "enable", "--quiet", UNIT]],
    };
    commands.iter().map(|command| command.iter().map(ToString::to_string).collect()).collect()
}

/// Has it do so; what failed, a sentence each. No container needs any of it.
#[must_use]
pub fn enable(node: &Live) -> Vec<String> {
    let complain = |command: Vec<String>| complaint(&command.iter().map(String::as_str).collect::<Vec<_>>());
    notices(node).into_iter().filter_map(complain).collect()
}

/// Has systemd let go of the files, while they are still there: a unit that is gone cannot be disabled. What the admin
/// enabled besides would call a gate that is gone.
#[must_use]
pub fn disable(node: &Live) -> Vec<String> {
    let_go(node, [UNIT].into_iter().chain(WATCHERS).chain(PERSISTENCE).chain(RETIRED))
}

/// The units of an older version that are installed, and that this one does without.
pub fn retired(node: &Live) -> Result<Vec<PathBuf>, TransactionError> {
    let files = manifest(node, NAME)?.map_or_else(Vec::new, |manifest| manifest.files);
    let is_retired = |path: &PathBuf| RETIRED.iter().any(|unit| *path == Path::new(FOLDER).join(unit));
    Ok(files.into_iter().map(|file| file.path).filter(is_retired).collect())
}

/// Has systemd let go of them, while they are still there; what failed, a sentence.
#[must_use]
pub fn retire(node: &Live) -> Vec<String> {
    let_go(node, RETIRED.into_iter())
}

/// Has systemd put no gate back any more; what failed, a sentence.
#[must_use]
pub fn unwatch(node: &Live) -> Vec<String> {
    let_go(node, PERSISTENCE.into_iter())
}

fn let_go(node: &Live, units: impl Iterator<Item = &'static str>) -> Vec<String> {
    let root = format!("--root={}", node.root().display());
    let command: &[&str] = match (node.is_running(), has_systemd()) {
        (true, true) => &["systemctl", "disable", "--quiet", "--now"],
        (true, false) => &["systemctl", "disable", "--quiet"],
        (false, _) => &["systemctl", &root, "disable", "--quiet"],
    };
    // In a chroot, where they were enabled from outside. Another init has none.
    let is_due = |unit: &&str| !node.is_running() || has_systemd() || systemd::is_enabled(node, unit);
    let units: Vec<&str> = units.filter(|unit| is_there(node, unit)).filter(is_due).collect();
    let nothing = units.is_empty();
    (!nothing).then(|| complaint(&[command, &units].concat())).flatten().into_iter().collect()
}

fn is_there(node: &Live, unit: &str) -> bool {
    let folders = [FOLDER, "/usr/lib/systemd/system"].into_iter();
    folders.map(|folder| Path::new(folder).join(unit)).any(|path| node.place(&path).exists())
}

/// Has systemd start the agent's new program, if it runs, whoever started it; what failed, a sentence. What the agent has written
/// stays meanwhile.
#[must_use]
pub fn restart_agent(node: &Live) -> Vec<String> {
    let is_due = node.is_running() && has_systemd() && is_there(node, AGENT);
    let restart = ["systemctl", "try-restart", "--no-block", AGENT];
    is_due.then(|| complaint(&restart)).flatten().into_iter().collect()
}

/// Whether a file is a unit of systemd, or a drop-in of one.
#[must_use]
pub fn is_of_a_unit(path: &Path) -> bool {
    [FOLDER, "/run/systemd/system"].iter().any(|folder| path.starts_with(folder))
}

/// Has systemd read its units again; what failed, a sentence.
#[must_use]
pub fn reload(node: &Live) -> Vec<String> {
    let has_systemd = node.is_running() && has_systemd();
    has_systemd.then(|| complaint(&["systemctl", "daemon-reload"])).flatten().into_iter().collect()
}

/// Whether systemd can put the gate back here.
#[must_use]
pub fn can_watch(node: &Live) -> bool {
    node.find("systemctl").is_some() && (!node.is_running() || has_systemd())
}

/// Has systemd put the gate back from now on where an engine's configuration loses it; what failed, a sentence each.
#[must_use]
pub fn watch(node: &Live) -> Vec<String> {
    let root = format!("--root={}", node.root().display());
    let [path, service] = PERSISTENCE;
    let commands: &[&[&str]] = match (node.is_running(), has_systemd()) {
        (true, true) => &[
            &["systemctl", "daemon-reload"],
            &["systemctl", "enable", "--quiet", path, service],
            // It may watch other files by now.
            &["systemctl", "restart", path],
        ],
        (true, false) => return vec!["there is no systemd that could put the gate back".to_owned()],
        (false, _) => &[&["systemctl", &root, "enable", "--quiet", path, service]],
    };
    commands.iter().filter_map(|command| complaint(command)).collect()
}

/// The first of the units that put the gate back that no boot starts.
#[must_use]
pub fn unwatched(node: &Live) -> Option<&'static str> {
    PERSISTENCE.into_iter().find(|unit| !systemd::is_enabled(node, unit))
}

/// Has systemd watch no longer until the next boot; what failed, a sentence.
#[must_use]
pub fn stop_watching(node: &Live) -> Vec<String> {
    let has_systemd = node.is_running() && has_systemd();
    has_systemd.then(|| complaint(&["systemctl", "stop", PERSISTENCE[0]])).flatten().into_iter().collect()
}

/// What the admin has put beside our units (`systemctl edit`), as far as it is there.
#[must_use]
pub fn beside(node: &Live) -> Vec<PathBuf> {
    let retired = RETIRED.iter().map(|unit| PathBuf::from(format!("{FOLDER}/{unit}.d")));
    let folders = FILES.iter().map(|(path, _, _)| PathBuf::from(format!("{path}.d"))).chain(retired);
    folders.filter(|folder| node.is_folder(folder)).collect()
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
        Ok(done) if done.stderr.trim().is_empty() => format!("failed with {}", done.how),
        Ok(done) => done.stderr.trim().lines().collect::<Vec<_>>().join("; "),
        Err(error) => crate::message::line(&error),
    };
    Some(format!("{}: {said}", command.join(" ")))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{FILES, TMPFILES};
    use crate::cli::manual::manual;
    use crate::node::host::fake::Fake;
    use crate::pss::facts::Engine;

    #[test]
    fn a_node_with_systemd_gets_what_no_package_brought() {
        let pages = manual();
        let plan = |node: &Fake| super::plan(node, &pages, Path::new("/usr/local/sbin"));
        assert_eq!(plan(&Fake::default()).unwrap().changes.len(), 0, "another init");
        let node = || Fake::default().program("/usr/bin/systemctl");
        let all = plan(&node()).unwrap();
        assert_eq!(all.changes.len(), FILES.len() + pages.len());
        assert_eq!(plan(&node().after(Engine::Containerd, &all)).unwrap().changes.len(), 0, "twice");
        let paths =
            ["man8/pss-guard.8", "man8/pss-guard-gate.8", "man8/pss-guard-agent.8", "man5/pss-guard.toml.5"];
        assert_eq!(pages.len(), paths.len());
        for (path, page) in paths.iter().zip(&pages) {
            let written = all.changes.iter().find(|change| change.path.ends_with(path)).unwrap();
            assert_eq!(written.after, page.text.as_bytes(), "{path}");
        }
        let packaged = FILES.iter().map(|(_, packaged, _)| (*packaged).to_owned());
        for path in packaged.chain(pages.iter().map(|page| page.places().1)) {
            let rest = plan(&node().file(&path, "theirs")).unwrap();
            assert_eq!(rest.changes.len(), all.changes.len() - 1, "{path}");
        }
    }

    #[test]
    fn a_boot_restores_the_programs_from_the_folder_that_they_are_in() {
        let node = Fake::default().program("/usr/bin/systemctl");
        for (folder, named) in [
            ("/usr/local/sbin", "/usr/local/sbin"),
            ("/usr/sbin", "/usr/sbin"),
            ("/opt/pss-guard-0.1.0/sbin", "/opt/pss-guard-0.1.0/sbin"),
            // What systemd would read as something else.
            ("/opt/100%n", "/usr/local/sbin"),
            ("/opt/my programs", "/usr/local/sbin"),
        ] {
            let plan = super::plan(&node, &[], Path::new(folder)).unwrap();
            let snippet = plan.changes.iter().find(|change| change.path == Path::new(TMPFILES)).unwrap();
            let snippet = String::from_utf8(snippet.after.clone()).unwrap();
            let sources: Vec<&str> = snippet
                .lines()
                .filter(|line| line.starts_with("C /var/lib/pss-guard/bin/"))
                .filter_map(|line| line.rsplit(' ').next())
                .collect();
            let node = Fake::default().file(TMPFILES, &snippet);
            assert_eq!(super::programs_of_a_boot(&node).as_deref(), Some(Path::new(named)), "{folder}");
            assert_eq!(
                sources,
                [format!("{named}/pss-guard-gate"), format!("{named}/pss-guard")],
                "{folder}\n{snippet}"
            );
        }
    }
}
