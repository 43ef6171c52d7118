//! Does a package do on a node what people expect of one? From the first installation to the last byte, with a containerd that
//! starts containers all the time.
//!
//! There is no root file system of Fedora or openSUSE to be had from Debian's mirror. So rpm is Debian's own, with an empty
//! database, on the same Debian; its scripts run under the shell that they name.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Format, can_run, folder};
use crate::support::cri;
use crate::support::documents;
use crate::support::engine::{Engine, Kind, Layout};
use crate::support::machine::{self, Machine};
use crate::support::pod::Pod;
use crate::support::run::{self, Done};

const GATE: &str = "/var/lib/pss-guard/bin/pss-guard-gate";
const TOOL: &str = "/var/lib/pss-guard/bin/pss-guard";
const ENTRY: &str = "/var/lib/pss-guard/runtimes/containerd/runc/pss-guard-runtime";
const CONFIG: &str = "/etc/containerd/config.toml";
const POLICY: &str = "/etc/pss-guard/policy.toml";
const FORMATS: &str = "/run/pss-guard/gate/formats";

#[test]
fn a_deb_from_the_first_installation_to_the_purge() {
    tell("node::a_deb_from_the_first_installation_to_the_purge", Format::Deb);
}

#[test]
fn an_rpm_from_the_first_installation_to_the_removal() {
    tell("node::an_rpm_from_the_first_installation_to_the_removal", Format::Rpm);
}

/// A node with a package manager.
struct Node {
    engine: Engine,
    format: Format,
    restart: String,
}

impl Node {
    fn up(format: Format) -> Self {
        let machine = Machine::up_on(Some(&folder("PSS_GUARD_DEBIAN")));
        // What every other test calls, and no package brings.
        machine.run(&["rm", "/opt/pss-guard", "/opt/pss-guard-gate"]).expect_success();
        for version in ["old", "new"] {
            let package = format.package(version);
            let to = machine.path(&format!("/run/machine/{version}.{}", format.name()));
            fs::copy(package, to).expect("a copy of a package");
        }
        let engine = Engine::up_on(machine, Kind::Containerd16, Layout::DEFAULT, Vec::new());
        let restart = engine.restart_command();
        Self { engine, format, restart }
    }

    fn run(&self, line: &[&str]) -> Done {
        self.engine.machine.run(line)
    }

    /// Installs a version, whichever is there.
    fn install(&self, version: &str) -> Done {
        let file = format!("/run/machine/{version}.{}", self.format.name());
        match self.format {
            Format::Deb => self.run(&["dpkg", "--install", &file]),
            // Nothing of Debian is in rpm's database, not even the shell.
            Format::Rpm => self.run(&["rpm", "--upgrade", "--oldpackage", "--nodeps", &file]),
        }
    }

    fn remove(&self) -> Done {
        match self.format {
            Format::Deb => self.run(&["dpkg", "--remove", "pss-guard"]),
            Format::Rpm => self.run(&["rpm", "--erase", "pss-guard"]),
        }
    }

    /// What the package manager has of it, in its words.
    fn state(&self) -> String {
        let done = match self.format {
            Format::Deb => {
                self.run(&["dpkg-query", "--show", "--showformat=${Status} ${Version}", "pss-guard"])
            }
            Format::Rpm => self.run(&["rpm", "--query", "pss-guard"]),
        };
        done.stdout.trim().to_owned()
    }

    fn tool(&self, arguments: &[&str]) -> Done {
        self.run(&[&["pss-guard"], arguments].concat())
    }

    fn bytes(&self, path: &str) -> Vec<u8> {
        fs::read(self.engine.machine.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Whether everything that is called is what the package brought.
    fn is_all_of_the_package(&self) -> bool {
        self.bytes(GATE) == self.bytes("/usr/sbin/pss-guard-gate")
            && self.bytes(TOOL) == self.bytes("/usr/sbin/pss-guard")
    }

    fn exists(&self, path: &str) -> bool {
        fs::symlink_metadata(self.engine.machine.path(path)).is_ok()
    }

    /// Everything of ours that is on the node, by its name.
    fn left(&self) -> String {
        let find = "find / -xdev -name '*pss-guard*' ! -path '/proc/*' ! -path '/tmp/*' ! -path '/root/*'; \
                    find /run /var/log /var/lib/pss-guard -name '*pss-guard*' 2>/dev/null";
        self.run(&["sh", "-c", find]).stdout
    }

    /// A pod that everybody lets start: its container runs.
    fn starts(&self, when: &str) {
        let attempt = cri::start(&self.engine, &Pod::compliant());
        assert!(attempt.ran, "{when}\n{attempt}");
    }

    fn gated(&self) {
        let restart = ["--restart", "--restart-command", &self.restart];
        let done = self.tool(&[&["install", "--engine", "auto"][..], &restart].concat()).expect_success();
        assert!(done.stdout.contains("seen: a harmless probe started"), "{done}");
    }

    fn policy(&self, text: &str) {
        self.engine.machine.write(POLICY, text);
    }
}

/// Tells it, on a node of its own.
fn tell(test: &str, format: Format) {
    if !can_run(test, &[]) || !Kind::Containerd16.can_run(test) {
        return;
    }
    let mut node = Node::up(format);
    let before = node.engine.machine.snapshot();
    let config = node.bytes(CONFIG);
    node.starts("before the package");

    first(&node, &before);
    hour(&node, &config);
    upgrades(&node);
    refused(&node);
    let removed = removed(&mut node);
    if format == Format::Deb {
        purged(&mut node);
    } else {
        // rpm has no purge: what stays was listed, with the commands.
        let said: Vec<&str> = removed.split('`').filter(|part| part.starts_with("rm -r ")).collect();
        for folder in ["/etc/pss-guard", "/var/lib/pss-guard", "/run/pss-guard", "/var/log/pss-guard"] {
            if !node.exists(folder) {
                continue;
            }
            let is_named =
                said.iter().flat_map(|command| command.split(' ')).any(|word| word.starts_with(folder));
            assert!(is_named, "{folder} in\n{removed}");
            node.run(&["rm", "-rf", folder]).expect_success();
        }
    }
    node.starts("after everything");
    assert_eq!(node.left(), "", "something is left");
    let changed = machine::changed(&before, &node.engine.machine.snapshot());
    assert!(changed.is_empty(), "{changed:#?}");
}

/// A package touches no engine and enables no unit, and says what comes next.
fn first(node: &Node, before: &[String]) {
    let done = node.install("old").expect_success();
    assert!(done.stdout.contains("pss-guard install --engine auto --dry-run"), "{done}");
    assert!(node.state().contains("0.0.1"), "{}", node.state());
    let changed = machine::changed(before, &node.engine.machine.snapshot());
    assert!(changed.is_empty(), "{changed:#?}");
    assert!(!node.exists("/var/lib/pss-guard"), "{done}");
    node.tool(&["--version"]).expect_success();
    node.starts("with the package, without the gate");
}

/// Two commands to a gate that only watches, one to see what would break, one to undo: those of the README, word for word.
fn hour(node: &Node, config: &[u8]) {
    let machine = &node.engine.machine;
    // A clean Debian has no sudo, and no systemd runs here.
    let restart = format!("[ \"$*\" = 'restart containerd.service' ] || exit 1\n{}", node.restart);
    for (name, script) in [("sudo", "exec \"$@\""), ("systemctl", &restart)] {
        machine.write(&format!("/usr/local/sbin/{name}"), &format!("#!/bin/sh\n{script}\n"));
        node.run(&["chmod", "755", &format!("/usr/local/sbin/{name}")]).expect_success();
    }
    let follow = |line: &String| node.run(&["sh", "-c", line]).expect_success();
    let commands = documents::commands_of("Install");
    let [_, _, dry_run, install, status] = &commands[..] else { panic!("other commands: {commands:?}") };
    let shown = follow(dry_run);
    assert!(shown.stdout.contains("+++ /etc/containerd/config.toml"), "{shown}");
    assert!(!node.exists("/var/lib/pss-guard"), "a dry run changes nothing");
    let installed = follow(install);
    assert!(installed.stdout.contains("seen: a harmless probe started"), "{installed}");
    let status = follow(status);
    assert!(status.stdout.starts_with("auditing: the gate is active for containerd"), "{status}");
    // A boot that finds no programs takes them from the package, so no start is without a gate.
    node.run(&["rm", GATE, TOOL]).expect_success();
    node.run(&["systemd-tmpfiles", "--create", "--boot", "pss-guard.conf"]).expect_success();
    assert!(node.is_all_of_the_package(), "what a boot restored");
    // Units call the installed copy, for instance when an engine's file was overwritten. A boot still restores from the package's folder.
    node.run(&[TOOL, "install", "--engine", "auto"]).expect_success();
    assert!(!node.exists("/usr/local/sbin/pss-guard"), "a second program on the PATH");
    let snippet = String::from_utf8(node.bytes("/etc/tmpfiles.d/pss-guard.conf")).expect("text");
    assert!(snippet.contains(" /usr/sbin/pss-guard-gate\n"), "{snippet}");
    let bare = cri::ask(&node.engine, &Pod::bare());
    assert!(bare.ran, "audit mode stops nothing: {:?}", bare.calls);
    let readme = documents::read("README.md");
    let line = |begin: &str| {
        let mut lines = readme.lines().filter_map(|line| line.strip_prefix("    "));
        lines.find(|line| line.starts_with(begin)).expect("a command of the README").to_owned()
    };
    let scan = follow(&line("sudo pss-guard scan"));
    assert!(scan.stdout.contains("1 of 1 container in 1 pod would be refused"), "{scan}");
    let attempt = bare.end(&node.engine);
    assert!(attempt.ran, "{attempt}");
    follow(&line("sudo pss-guard uninstall"));
    assert_eq!(node.bytes(CONFIG), config, "the engine's file is as it was, byte for byte");
    node.run(&["rm", "/usr/local/sbin/sudo", "/usr/local/sbin/systemctl"]).expect_success();
}

/// No start fails while the programs are replaced, in either direction, and no container that runs notices.
fn upgrades(node: &Node) {
    node.gated();
    let machine = &node.engine.machine;
    let asked = cri::ask(&node.engine, &Pod::compliant());
    assert!(asked.ran, "{:?}", asked.calls);
    let process = machine.read("/run/machine/engine.pid");
    let gated = node.bytes(CONFIG);
    // The command on the PATH as a tarball has it: the package's own comes with the gate, too.
    for program in ["pss-guard", "pss-guard-gate"] {
        let mark = format!("/var/lib/pss-guard/install/command{}", program.trim_start_matches("pss-guard"));
        node.run(&["cp", &format!("/usr/sbin/{program}"), "/usr/local/sbin/"]).expect_success();
        machine.write(&mark, "");
    }
    // As many starts as this machine can do, and pods beside them.
    let starts = format!(
        "while [ ! -e /run/machine/enough ]; do
             if said=$({ENTRY} --version 2>&1); then echo >>/run/machine/started; else echo \"$said\" >>/run/machine/failed; fi
         done"
    );
    let loops = [
        machine.start("starts-1", &["sh", "-c", &starts]),
        machine.start("starts-2", &["sh", "-c", &starts]),
    ];
    let is_over = AtomicBool::new(false);
    let pods = std::thread::scope(|scope| {
        let pods = scope.spawn(|| {
            let mut pods = 0;
            while !is_over.load(Ordering::Relaxed) {
                node.starts("while the package is upgraded");
                pods += 1;
            }
            pods
        });
        let mut last = node.bytes(GATE);
        for version in ["new", "old", "new"] {
            node.run(&["rm", "-f", FORMATS]).expect_success();
            let done = node.install(version);
            let is_new = node.is_all_of_the_package() && node.bytes(GATE) != last;
            last = node.bytes(GATE);
            if !(done.code == Some(0) && is_new && node.exists(FORMATS)) {
                is_over.store(true, Ordering::Relaxed);
                panic!("{version}: the gate is another: {is_new}\n{done}");
            }
            assert!(done.stdout.contains(&format!("wrote {GATE}")), "{done}");
        }
        is_over.store(true, Ordering::Relaxed);
        pods.join().expect("no pod fails")
    });
    machine.write("/run/machine/enough", "");
    for starts in loops {
        machine.stop(starts);
    }
    let (started, failed) =
        (machine.read("/run/machine/started").lines().count(), machine.read("/run/machine/failed"));
    eprintln!("{:?}: {started} starts and {pods} pods during three upgrades", node.format);
    assert!(
        pods > 0 && started > 100 && failed.is_empty(),
        "{started} starts, {pods} pods; failed: {failed}"
    );

    assert!(node.state().contains("0.0.2"), "{}", node.state());
    assert_eq!(machine.read("/run/machine/engine.pid"), process, "the engine was not restarted");
    assert_eq!(node.bytes(CONFIG), gated, "nor was its file changed");
    assert_eq!(node.bytes("/usr/local/sbin/pss-guard"), node.bytes(TOOL), "a shell finds the same version");
    node.tool(&["status"]).expect_success();
    let ended = asked.end(&node.engine);
    assert!(ended.ran, "{ended}");
    // What is installed twice is replaced once.
    let again = node.tool(&["install", "--programs"]).expect_success();
    assert!(again.stdout.contains("already installed; nothing changed"), "{again}");
}

/// A version that does not understand the policy is refused, and nothing of the gate was replaced.
fn refused(node: &Node) {
    let (gate, tool, packaged) = (node.bytes(GATE), node.bytes(TOOL), node.bytes("/usr/sbin/pss-guard"));
    // The gate that is installed goes by this one, which was the last good.
    node.policy("mode = \"audit\"\n");
    node.starts("with a policy");
    node.policy("modus = \"enforce\"\n");
    let done = node.install("old");
    assert!(done.stderr.contains("this version cannot use the policy"), "{done}");
    assert!(done.stderr.contains("unknown key \"modus\""), "{done}");
    assert_eq!((node.bytes(GATE), node.bytes(TOOL)), (gate, tool), "{done}");
    match node.format {
        // dpkg goes back, and has nothing to configure.
        Format::Deb => {
            assert_ne!(done.code, Some(0), "{done}");
            assert_eq!(node.state(), "install ok installed 0.0.2-1", "{done}");
            assert_eq!(node.bytes("/usr/sbin/pss-guard"), packaged, "{done}");
            node.run(&["dpkg", "--audit"]).expect_success();
        }
        // rpm has asked when it cannot go back any more.
        Format::Rpm => {
            assert!(node.state().contains("0.0.1") && !node.is_all_of_the_package(), "{done}");
            assert!(done.stderr.contains("run `/usr/sbin/pss-guard install --programs`"), "{done}");
        }
    }
    node.starts("with an upgrade that was refused");
    node.policy("mode = \"audit\"\n");
    if node.format == Format::Rpm {
        node.run(&["/usr/sbin/pss-guard", "install", "--programs"]).expect_success();
        assert!(node.is_all_of_the_package());
    }
    node.install("old").code.filter(|code| *code == 0 || node.format == Format::Rpm).expect("a downgrade");
    assert!(node.state().contains("0.0.1") && node.is_all_of_the_package(), "{}", node.state());
    node.install("new").expect_success();
}

/// The gate goes with the package, or the package stays; what runs goes on, and what starts meanwhile starts. What was said.
fn removed(node: &mut Node) -> String {
    let broken = node.bytes(CONFIG);
    node.engine.machine.write(CONFIG, "[[[\n");
    let done = node.remove();
    assert!(done.code != Some(0) && done.stderr.contains("the package was not removed"), "{done}");
    assert!(node.state().contains("0.0.2") && node.exists(GATE), "{}\n{done}", node.state());
    fs::write(node.engine.machine.path(CONFIG), broken).expect("a file of ours");
    node.tool(&["status"]).expect_success();

    let asked = cri::ask(&node.engine, &Pod::compliant());
    assert!(asked.ran, "{:?}", asked.calls);
    let done = node.remove().expect_success();
    let said = format!("{}{}", done.stdout, done.stderr);
    assert!(said.contains("containerd still runs with its previous configuration"), "{done}");
    assert!(!node.exists(GATE) && node.exists(ENTRY) && !node.exists("/usr/sbin/pss-guard"), "{done}");
    assert!(!node.exists("/usr/local/sbin/pss-guard"), "{done}");
    assert!(said.contains("/etc/pss-guard") && node.exists(POLICY), "the policy stays: {done}");
    node.starts("without the package, before the engine was restarted");
    if node.format == Format::Deb {
        // Too early: the engine and a container call what is in there.
        let done = node.run(&["dpkg", "--purge", "pss-guard"]).expect_success();
        assert!(done.stderr.contains("/var/lib/pss-guard stays"), "{done}");
        assert!(node.exists(ENTRY) && !node.exists("/etc/pss-guard"), "{done}");
        node.starts("purged, before the engine was restarted");
    }
    let ended = asked.end(&node.engine);
    assert!(ended.ran, "{ended}");
    node.engine.restart();
    node.restart = node.engine.restart_command();
    said
}

/// In the usual order nothing is left.
fn purged(node: &mut Node) {
    node.install("new").expect_success();
    node.policy("mode = \"audit\"\n");
    node.gated();
    let asked = cri::ask(&node.engine, &Pod::compliant());
    node.remove().expect_success();
    node.engine.restart();
    // A container that was started through the gate is enough.
    let script = "/var/lib/dpkg/info/pss-guard.postrm";
    let kept: PathBuf = node.engine.machine.path("/run/machine/postrm");
    fs::copy(node.engine.machine.path(script), kept).expect("a copy of a script");
    let done = node.run(&["sh", "/run/machine/postrm", "purge"]).expect_success();
    assert!(done.stderr.contains("/var/lib/pss-guard stays"), "{done}");
    let ended = asked.end(&node.engine);
    assert!(ended.ran, "{ended}");
    let done = node.run(&["dpkg", "--purge", "pss-guard"]).expect_success();
    assert_eq!(done.stderr, "", "{done}");
    node.run(&["rm", "/run/machine/postrm"]).expect_success();
    assert_ne!(node.run(&["dpkg-query", "--show", "pss-guard"]).code, Some(0));
    assert!(run::eventually(|| node.left().is_empty()), "{}", node.left());
}
