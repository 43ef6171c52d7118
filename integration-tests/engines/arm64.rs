//! The programs for arm64 beside those of this machine: the same verdicts, messages, exit codes and events, byte for byte.
//!
//! They run under qemu's emulation of a process: instructions, structures and flags are arm64's, and system calls are
//! answered by this machine's kernel. A real runtime for arm64 does not start a container like that: runc and crun clone
//! with flags that qemu refuses, and execute themselves from memory. So the wrapper is tried before a script.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::node::{ID, Node};
use crate::support::{needs, program, run};

const LEVELS: [&str; 4] = ["baseline:latest", "baseline:v1.24", "restricted:latest", "restricted:v1.24"];

/// A policy in each mode, and one that cannot be read.
const POLICIES: [&str; 3] = [
    "mode = \"enforce\"\n[defaults]\nenforce = \"restricted\"\n",
    "mode = \"audit\"\n[defaults]\nenforce = \"restricted\"\nwarn = \"restricted\"\n",
    "mode = \"enfarce\"\n",
];

/// The tool of this machine and the one for arm64, or why they cannot be compared.
fn tools(test: &str) -> Option<[PathBuf; 2]> {
    if !needs::can_run(test, &[program::EMULATOR, "readelf"]) {
        return None;
    }
    let Some(arm64) = program::arm64() else {
        needs::skip(test, "a build of this source for arm64 (make build TARGET=aarch64-unknown-linux-musl)");
        return None;
    };
    Some([program::binary(), arm64])
}

/// A command that runs a program, emulated where it is not this machine's.
fn command(program: &Path, is_emulated: bool) -> Command {
    if !is_emulated {
        return Command::new(program);
    }
    let mut command = Command::new(program::EMULATOR);
    command.arg(program);
    command
}

/// Exit code and both outputs, as text.
fn answer(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// The events of a node without the time that they were written at, which are forgotten.
fn take_events(node: &Node) -> Vec<Value> {
    let mut events = node.events();
    for event in &mut events {
        assert!(event.as_object_mut().unwrap().remove("__REALTIME_TIMESTAMP").is_some(), "{event}");
    }
    let _ = fs::remove_file(node.decisions());
    events
}

#[test]
fn every_captured_container_is_evaluated_as_on_this_machine() {
    let Some(tools) = tools("arm64::every_captured_container_is_evaluated_as_on_this_machine") else {
        return;
    };
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("integration-tests/corpus");
    let folders = |folder: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    let mut cases: Vec<PathBuf> = folders(&corpus).iter().flat_map(|engine| folders(engine)).collect();
    cases.sort();
    let policy = tempfile::NamedTempFile::new().unwrap();
    fs::write(policy.path(), POLICIES[0]).unwrap();
    for level in LEVELS {
        let [own, arm64] = [(&tools[0], false), (&tools[1], true)].map(|(tool, is_emulated)| {
            let mut check = command(tool, is_emulated);
            check
                .args(["check", "--format", "json", "--level", level, "--policy"])
                .arg(policy.path())
                .args(&cases);
            answer(&check.output().unwrap())
        });
        let (own_lines, arm64_lines) = (own.1.lines(), arm64.1.lines());
        for (own, arm64) in own_lines.clone().zip(arm64_lines) {
            assert_eq!(own, arm64, "{level}");
        }
        assert!(
            own_lines.count() >= cases.len() && own.0 == Some(1) && own.2.is_empty(),
            "{level}: {}",
            own.2
        );
        assert!(own == arm64, "{level}: {:?}, {:?}: {}", own.0, arm64.0, arm64.2);
    }
}

/// What is different on a node.
type Change = fn(&Node);

#[test]
fn the_hook_answers_and_logs_the_same() {
    let Some(tools) = tools("arm64::the_hook_answers_and_logs_the_same") else { return };
    // (what is different, exit code by policy: enforce, audit, one that is broken)
    let rows: [(&str, Change, [i32; 3]); 8] = [
        ("a container that complies", |_| {}, [0, 0, 2]),
        ("a writable root", |node| drop(node.refused_config("shop")), [30, 0, 2]),
        ("root, and everything of the host's", |node| change(node, everything), [13, 0, 2]),
        ("an exempt namespace", |node| drop(node.config("kube-system")), [0, 0, 0]),
        ("no config.json", |node| fs::remove_file(node.bundle().join("config.json")).unwrap(), [2, 0, 2]),
        (
            "a FIFO in its place",
            |node| {
                let path = node.bundle().join("config.json");
                fs::remove_file(&path).unwrap();
                nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
            },
            [2, 0, 2],
        ),
        (
            "a link to itself",
            |node| {
                let path = node.bundle().join("config.json");
                fs::remove_file(&path).unwrap();
                symlink(&path, &path).unwrap();
            },
            [2, 0, 2],
        ),
        ("16 MB and a byte", |node| large(&node.bundle().join("config.json")), [2, 0, 2]),
    ];
    for (what, change, codes) in rows {
        for (policy, code) in POLICIES.into_iter().zip(codes) {
            let node = Node::new(policy);
            change(&node);
            let [own, arm64] = [(&tools[0], false), (&tools[1], true)].map(|(tool, is_emulated)| {
                let mut hook = command(&tool.with_file_name("pss-guard-gate"), is_emulated);
                hook.args(["hook", "--engine", "containerd", "--root"]).arg(node.root());
                let answer = answer(&run::feed(&mut hook, node.state().as_bytes()));
                (answer, take_events(&node))
            });
            assert_eq!(own.0.0, Some(code), "{what}, {policy}: {own:?}");
            assert_eq!(own, arm64, "{what}, {policy}");
        }
    }
}

/// Changes the container's spec.
fn change(node: &Node, change: fn(&mut Value)) {
    let path = node.bundle().join("config.json");
    let mut spec: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut spec);
    fs::write(&path, spec.to_string()).unwrap();
}

/// Mounts, devices and namespaces are what the kernel is asked about.
fn everything(spec: &mut Value) {
    spec["process"]["user"]["uid"] = 0.into();
    spec["process"]["noNewPrivileges"] = false.into();
    spec["linux"]["namespaces"] = serde_json::json!([{"type": "mount"}]);
    spec["linux"]["devices"] = serde_json::json!([{"path": "/dev/mem", "type": "c", "major": 1, "minor": 1}]);
    let mounts = spec["mounts"].as_array_mut().unwrap();
    mounts.extend(["/etc", "/proc/1/root", "/dev/null", "/nothing/here"].map(|source| {
        serde_json::json!({"destination": format!("/m{source}"), "type": "bind", "source": source, "options": ["rbind"]})
    }));
}

fn large(path: &Path) {
    fs::File::create(path).unwrap().set_len((16 << 20) + 1).unwrap();
}

#[test]
fn the_wrapper_hands_over_and_refuses_the_same() {
    let Some(tools) = tools("arm64::the_wrapper_hands_over_and_refuses_the_same") else { return };
    // (command line, what it comes to in enforce mode for a container that complies, and for one that does not)
    let rows = [
        ("--log @L --log-format json create --bundle @B id", [7, 30]),
        ("--root /r --log @L run -b @B -d id", [7, 30]),
        ("--log @L --log-format json create --bundle /nothing id", [2, 2]),
        ("--root /r state id", [7, 7]),
        ("--version", [7, 7]),
    ];
    for (line, codes) in rows {
        for (complies, code) in [true, false].into_iter().zip(codes) {
            let node = Node::new(POLICIES[0]);
            if !complies {
                node.refused_config("shop");
            }
            let script = "#!/bin/sh\nfor word in \"$@\"; do echo \"$word\"; done\nexit 7\n";
            let runtime = node.file("bin/runtime", script);
            fs::set_permissions(&runtime, fs::Permissions::from_mode(0o755)).unwrap();
            let entry = program::entry(node.root(), "containerd", "runc", &runtime);
            let (gate, log) = (node.path("var/lib/pss-guard/bin/pss-guard-gate"), node.path("log"));
            let line =
                line.replace("@B", node.bundle().to_str().unwrap()).replace("@L", log.to_str().unwrap());
            let [own, arm64] = [(&tools[0], false), (&tools[1], true)].map(|(tool, is_emulated)| {
                fs::remove_file(&gate).unwrap();
                symlink(tool.with_file_name("pss-guard-gate"), &gate).unwrap();
                let mut wrapper = command(&entry, is_emulated);
                let answer = answer(&wrapper.args(line.split(' ')).output().unwrap());
                let said = without_times(&run::read(&log));
                let _ = fs::remove_file(&log);
                (answer, said, take_events(&node))
            });
            assert_eq!(own.0.0, Some(code), "{line}: {own:?}");
            assert_eq!(own, arm64, "{line}, {ID}");
        }
    }
}

/// A runtime's log without its times.
fn without_times(log: &str) -> String {
    let has_no_time = |word: &&str| !word.contains("time");
    log.split(' ').flat_map(|word| word.split(',')).filter(has_no_time).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_programs_load_with_any_size_of_pages() {
    let Some([_, tool]) = tools("arm64::the_programs_load_with_any_size_of_pages") else { return };
    for program in [tool.with_file_name("pss-guard-gate"), tool] {
        let mut readelf = Command::new("readelf");
        let shown = run::run(readelf.args(["--wide", "--file-header", "--program-headers"]).arg(&program));
        let shown = shown.expect_success().stdout;
        assert!(shown.contains("AArch64") && !shown.contains("INTERP"), "{shown}");
        let segments: Vec<&str> =
            shown.lines().filter(|line| line.trim_start().starts_with("LOAD")).collect();
        // The largest page of an arm64 kernel (`CONFIG_ARM64_64K_PAGES`): one that is aligned to less is not mapped.
        let is_aligned = |line: &&str| line.trim_end().ends_with(" 0x10000");
        assert!(
            !segments.is_empty() && segments.iter().all(is_aligned),
            "{}: {segments:?}",
            program.display()
        );
    }
}
