//! What does systemd make of `systemd/`? The units are sound and shut in, and a node that starts has what starts need.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use clap::Parser as _;
use tempfile::TempDir;

use crate::support::units::{AGENT, FOLDER, GATE, TOOL, UNITS};
use crate::support::{needs, run};

const TMPFILES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/pss-guard.tmpfiles");

const CLI: &str = "usr/local/sbin/pss-guard";

#[test]
fn systemd_finds_no_fault_in_the_units() {
    if !needs::can_run("systemd_finds_no_fault_in_the_units", &["systemd-analyze"]) {
        return;
    }
    let shipped = fs::read_dir(FOLDER).expect("a folder of the repository").flatten();
    let shipped = shipped.filter_map(|entry| entry.file_name().into_string().ok());
    let is_unit =
        |name: &String| [".service", ".socket", ".timer", ".path"].iter().any(|end| name.ends_with(end));
    assert_eq!(shipped.filter(is_unit).collect::<BTreeSet<_>>(), UNITS.map(str::to_owned).into());
    let root = Root::new();
    for program in [TOOL, GATE, AGENT, "bin/sh"] {
        root.write(program, "#!/bin/sh\n");
        fs::set_permissions(root.0.path().join(program), fs::Permissions::from_mode(0o755))
            .expect("a file of ours");
    }
    for unit in UNITS {
        root.write(&format!("etc/systemd/system/{unit}"), &run::read(&Path::new(FOLDER).join(unit)));
    }
    // What every unit leans on, without this machine's units and their faults.
    for target in
        ["sysinit", "basic", "multi-user", "shutdown", "sockets", "timers", "paths", "time-sync", "time-set"]
    {
        root.write(&format!("usr/lib/systemd/system/{target}.target"), "[Unit]\n");
    }
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no", "--root"]).arg(root.0.path()).args(UNITS);
    let done = run::run(&mut verify).expect_success();
    // A key that systemd does not know is a warning, and no failure.
    assert!(done.stderr.is_empty(), "{done}");
}

/// The commands of the units are the program's own, and what they write has a folder.
#[test]
fn the_units_call_commands_that_there_are() {
    let mut called = Vec::new();
    for unit in UNITS {
        let text = run::read(&Path::new(FOLDER).join(unit));
        for line in text.lines().filter_map(|line| line.strip_prefix("ExecStart=")) {
            // A program of another workspace.
            if unit == "pss-guard-agent.service" {
                assert_eq!(line, "pss-guard-agent run --kubeconfig=${KUBECONFIG} $OPTIONS");
                continue;
            }
            let (_, line) = line.trim_end_matches('\'').rsplit_once(" | ").unwrap_or(("", line));
            let line =
                line.strip_prefix("/var/lib/pss-guard/bin/").unwrap_or_else(|| panic!("{unit}: {line}"));
            let parsed = pss_guard::cli::arguments::Cli::try_parse_from(line.split_whitespace());
            assert!(parsed.is_ok(), "{unit}: {line}: {}", parsed.unwrap_err());
            called.push(line.to_owned());
        }
        // Before anything writes for the gate, and at every boot. Who may write less has it done from outside.
        let before: Vec<&str> = text.lines().filter(|line| line.starts_with("ExecStartPre=")).collect();
        let expected = match unit {
            "pss-guard-namespaces.service" | "pss-guard-status.service" => Some("-"),
            "pss-guard-agent.service" => Some("-+"),
            _ => None,
        };
        let publishes = expected.map(|how| format!("ExecStartPre={how}/{GATE} publish-formats"));
        assert_eq!(before, publishes.iter().map(String::as_str).collect::<Vec<_>>(), "{unit}");
    }
    assert_eq!(called.len(), 7, "{called:?}");
}

/// What a packager takes from `hooks/` must lead where the installer puts its links.
#[test]
fn the_files_for_packagers_name_the_entries_of_the_installer() {
    use pss_guard::install::entry_path;
    use pss_guard::pss::facts::Engine;
    type Way<'a> = &'a [&'a str];
    let containerd: Way<'_> = &["plugins", "io.containerd.cri.v1.runtime", "containerd", "runtimes", "runc"];
    let rows: [(&str, Vec<&str>, _); 2] = [
        (
            include_str!("../../hooks/containerd-2.toml"),
            [containerd, &["options", "BinaryName"]].concat(),
            entry_path(Engine::Containerd, "runc"),
        ),
        (
            include_str!("../../hooks/crio-runtime.conf"),
            vec!["crio", "runtime", "runtimes", "crun", "runtime_path"],
            entry_path(Engine::CriO, "crun"),
        ),
    ];
    for (text, way, expected) in rows {
        let file: toml::Value = toml::from_str(text).expect("TOML");
        let found = way.iter().fold(&file, |value, key| &value[*key]);
        assert_eq!(found.as_str(), expected.to_str(), "{way:?}");
    }
}

#[test]
fn the_units_can_do_little_but_read() {
    if !needs::can_run("the_units_can_do_little_but_read", &["systemd-analyze"]) {
        return;
    }
    for unit in UNITS.iter().filter(|unit| unit.ends_with(".service")) {
        let mut security = Command::new("systemd-analyze");
        // Exposure of at most 2.5 of 10; what is left is root, the network namespace and the sight of all processes.
        security.args(["security", "--no-pager", "--offline=true", "--threshold=25"]);
        run::run(security.arg(Path::new(FOLDER).join(unit))).expect_success();
    }
}

#[test]
fn at_boot_whatever_a_start_needs_is_there_again() {
    if !needs::can_run("at_boot_whatever_a_start_needs_is_there_again", &["systemd-tmpfiles"]) {
        return;
    }
    let shop = "namespaces/shop.json";
    let (kept, live) = (format!("var/lib/pss-guard/{shop}"), format!("run/pss-guard/{shop}"));
    let beside = format!("{CLI}-gate");
    let pods = ["pods/dab344e9-1d4f-4e7d-941e-7a1219bef1c5.json", "static/kube-system_etcd-n1.json"];
    let [kept_pod, kept_static] = pods.map(|pod| format!("var/lib/pss-guard/{pod}"));
    let [live_pod, live_static] = pods.map(|pod| format!("run/pss-guard/{pod}"));
    let rows: [(Given<'_>, Expected<'_>); 11] = [
        // Facts of pods come back, each folder by itself. Where nobody brought any there is no folder.
        (&[(&kept_pod, "{}")], &[(&live_pod, Some("{}")), ("run/pss-guard/static", None)]),
        (&[(&kept_static, "{}")], &[(&live_static, Some("{}")), ("run/pss-guard/pods", None)]),
        (
            &[("var/lib/pss-guard/agent/cluster.json", "{}")],
            &[("run/pss-guard/agent/cluster.json", Some("{}")), ("run/pss-guard/pods", None)],
        ),
        (&[], &[(GATE, None), (TOOL, None), (CLI, None), (&live, None)]),
        (&[(CLI, "new")], &[(TOOL, Some("new")), (GATE, None), (CLI, Some("new"))]),
        (&[(&beside, "new")], &[(GATE, Some("new")), (TOOL, None), (CLI, None)]),
        (&[(TOOL, "old")], &[(TOOL, Some("old")), (CLI, None)]),
        (&[(GATE, "old"), (&beside, "new")], &[(GATE, Some("old")), (&beside, Some("new"))]),
        (&[(TOOL, "old"), (CLI, "new")], &[(TOOL, Some("old")), (CLI, Some("new"))]),
        (&[(&kept, "{}")], &[(&kept, Some("{}")), (&live, Some("{}"))]),
        // Something wrote the levels before us; it knows better.
        (&[(&kept, "{}"), ("run/pss-guard/namespaces/a.json", "{ }")], &[(&live, None)]),
    ];
    for (before, after) in rows {
        let root = Root::new();
        for (path, content) in before {
            root.write(path, content);
        }
        // A second boot changes nothing.
        for _ in 0..2 {
            root.boot();
            for (path, content) in after {
                let path = root.0.path().join(path);
                assert_eq!(path.exists(), content.is_some(), "{} of {before:?}", path.display());
                let found = fs::read_to_string(&path).ok();
                assert_eq!(found.as_deref(), *content, "{} of {before:?}", path.display());
            }
            assert_eq!(root.mode("run/pss-guard"), 0o755, "{before:?}");
        }
        if before.iter().any(|(path, _)| *path == CLI) {
            assert_eq!(root.mode(TOOL), 0o755, "{before:?}");
        }
    }
}

/// Files that are there before a boot.
type Given<'a> = &'a [(&'a str, &'a str)];
/// Files that must be there after it, or must not.
type Expected<'a> = &'a [(&'a str, Option<&'a str>)];

/// The root directory of a node that is off.
struct Root(TempDir);

impl Root {
    fn new() -> Self {
        let root = Self(tempfile::tempdir().expect("a temporary directory"));
        root.write("etc/passwd", "root:x:0:0::/:/bin/sh\n");
        root.write("etc/group", "root:x:0:\n");
        root
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().expect("a directory")).expect("directories");
        fs::write(&path, content).expect("a file in a fresh directory");
    }

    /// What systemd-tmpfiles-setup.service does before any engine starts.
    fn boot(&self) {
        let mut tmpfiles = Command::new("systemd-tmpfiles");
        tmpfiles.args(["--create", "--boot", "--root"]).arg(self.0.path()).arg(TMPFILES);
        let done = run::run(&mut tmpfiles).expect_success();
        assert!(done.stderr.is_empty(), "{done}");
    }

    fn mode(&self, path: &str) -> u32 {
        let path = self.0.path().join(path);
        fs::metadata(path).expect("a file or folder").permissions().mode() & 0o7777
    }
}
