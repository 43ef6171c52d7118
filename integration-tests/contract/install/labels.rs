//! What are files labelled on a node with SELinux, and what if they cannot be?

use std::fs;
use std::process::Command;

use pss_guard::node::selinux::{label, set_label_at};

use super::{CONTAINERD, CRIO, Host, assert_same};
use crate::support::{needs, program, run};

const CONFIG: &str = "etc/containerd/config.toml";
const NEW: &str = "etc/crio/crio.conf.d/99-pss-guard.conf";
const GATE: &str = "var/lib/pss-guard/bin/pss-guard-gate";
const TOOL: &str = "var/lib/pss-guard/bin/pss-guard";
const ENTRY: &str = "var/lib/pss-guard/runtimes/containerd/runc/pss-guard-runtime";

const BIN: &str = "system_u:object_r:bin_t:s0";
const VAR_LIB: &str = "system_u:object_r:var_lib_t:s0";
const OTHER: &str = "system_u:object_r:container_etc_t:s0";
const FOLDERS: &str = "system_u:object_r:container_config_t:s0";

/// A node with containerd and CRI-O, with this configuration of SELinux.
fn host(setting: Option<&str>) -> Host {
    let root = Host::new(CONTAINERD);
    for (path, text) in CRIO {
        root.file(path, text);
    }
    for engine in ["containerd", "crio"] {
        root.program(engine);
    }
    if let Some(setting) = setting {
        root.file("etc/selinux/config", &format!("# SELINUX=disabled\nSELINUX={setting}\nSELINUXTYPE=x\n"));
    }
    root
}

fn label_of(root: &Host, path: &str) -> Option<String> {
    let label = label(&root.path(path)).expect("a label");
    label.map(|label| String::from_utf8(label).expect("text"))
}

fn set(root: &Host, path: &str, label: &str) {
    set_label_at(&root.path(path), label.as_bytes()).expect("a label is set");
}

#[test]
fn programs_are_labelled_where_selinux_is_on_and_files_of_engines_keep_their_labels() {
    if !needs::can_run("install::labels::programs_are_labelled", &[]) {
        return;
    }
    let rows = [
        (Some("enforcing"), Some(BIN)),
        (Some("permissive"), Some(BIN)),
        (Some("disabled"), None),
        (Some("unknown"), None),
        (None, None),
    ];
    for (setting, expected) in rows {
        let root = host(setting);
        set(&root, CONFIG, OTHER);
        set(&root, "etc/crio/crio.conf.d", FOLDERS);
        let before = root.tree();
        let install = ["install", "--engine", "containerd"];
        let done = root.call(&install).expect_success();
        for path in [GATE, TOOL, ENTRY] {
            assert_eq!(label_of(&root, path).as_deref(), expected, "{setting:?}: {path}");
        }
        root.call(&["install", "--engine", "crio", "--method", "runtime"]).expect_success();
        let labels = [CONFIG, NEW].map(|path| label_of(&root, path));
        assert_eq!(
            labels,
            [OTHER, FOLDERS].map(|label| Some(label.to_owned())),
            "{setting:?}: its own, its folder's"
        );
        let warns =
            done.stdout.contains("semanage fcontext -a -t bin_t '/var/lib/pss-guard/(bin|runtimes)(/.*)?'");
        assert_eq!(warns, expected.is_some(), "{setting:?}: {done}");
        root.call(&["status"]).expect_success();
        assert!(root.call(&install).expect_success().stdout.contains("nothing changed"), "{setting:?}");

        // As `restorecon` would.
        set(&root, GATE, VAR_LIB);
        let status = root.call(&["status"]);
        let says =
            status.stdout.contains("pss-guard-gate has the SELinux label system_u:object_r:var_lib_t:s0");
        assert_eq!(says, expected.is_some(), "{setting:?}: {status}");
        let done = root.call(&install).expect_success();
        assert_eq!(
            done.stdout.contains("wrote /var/lib/pss-guard/bin/pss-guard-gate"),
            expected.is_some(),
            "{done}"
        );
        assert_eq!(label_of(&root, GATE).as_deref(), Some(expected.unwrap_or(VAR_LIB)), "{setting:?}");
        root.call(&["uninstall"]).expect_success();
        assert_same(&root.tree(), &before, "uninstalled");
        assert_eq!(label_of(&root, CONFIG).as_deref(), Some(OTHER), "{setting:?}: uninstalled");
    }
}

#[test]
fn the_label_of_status_is_as_bad_as_the_mode() {
    if !needs::can_run("install::labels::the_label_of_status", &[]) {
        return;
    }
    let other = "system_u:object_r:container_runtime_exec_t:s0";
    let pods = "system_u:object_r:container_file_t:s0:c1,c2";
    let rows = [
        ("enforcing", VAR_LIB, 1),
        ("enforcing", pods, 1),
        ("enforcing", other, 0),
        ("enforcing", "nonsense", 1),
        ("permissive", VAR_LIB, 0),
        ("disabled", VAR_LIB, 0),
    ];
    for program in [GATE, TOOL] {
        for (setting, label, code) in rows {
            let root = host(Some(setting));
            root.call(&["install", "--engine", "containerd"]).expect_success();
            set(&root, program, label);
            let status = root.call(&["status"]);
            assert_eq!(status.code, Some(code), "{setting}, {label}, {program}: {status}");
        }
    }
}

#[test]
fn file_contexts_that_name_the_gate_keep_the_label() {
    if !needs::can_run("install::labels::file_contexts", &[]) {
        return;
    }
    let pattern = "/var/lib/pss-guard/(bin|runtimes)(/.*)?";
    let rows = [
        ("file_contexts.local", pattern, BIN, true),
        ("file_contexts", pattern, BIN, true),
        ("file_contexts", pattern, VAR_LIB, false),
        ("file_contexts.local", "/var/lib/pss-guard/x(/.*)?", BIN, false),
    ];
    for (file, pattern, label, keeps) in rows {
        let root = host(Some("enforcing"));
        root.file(
            &format!("etc/selinux/x/contexts/files/{file}"),
            &format!("/a -- b\n{pattern}    {label}\n"),
        );
        let done = root.call(&["install", "--engine", "containerd"]).expect_success();
        assert_eq!(!done.stdout.contains("restorecon"), keeps, "{file}, {label}: {done}");
        let status = root.call(&["status"]).expect_success();
        assert_eq!(!status.stdout.contains("restorecon"), keeps, "{file}, {label}: {status}");
    }
}

/// Programs in a directory of the admin's are labelled there, and only they are named: the rest of it is not ours.
#[test]
fn programs_in_another_directory_are_labelled_there() {
    if !needs::can_run("install::labels::programs_in_another_directory", &[]) {
        return;
    }
    let usual = "/var/lib/pss-guard/(bin|runtimes)(/.*)?";
    let own = r"/opt/a\.b\+/pss-guard(-gate)?";
    let warns = |says: &str| [usual, own].map(|context| says.contains(&format!("-t bin_t '{context}'")));
    for (contexts, expected) in [
        (&[][..], [true, true]),
        (&[usual], [false, true]),
        (&[own], [true, false]),
        (&[usual, own], [false, false]),
    ] {
        let root = host(Some("enforcing"));
        root.file("opt/a.b+/somebodys", "");
        let lines = contexts.iter().map(|context| format!("{context} {BIN}\n"));
        root.file("etc/selinux/x/contexts/files/file_contexts", &lines.collect::<String>());
        let done =
            root.call(&["install", "--engine", "containerd", "--directory", "/opt/a.b+"]).expect_success();
        for program in ["pss-guard", "pss-guard-gate"] {
            let label = label_of(&root, &format!("opt/a.b+/{program}"));
            assert_eq!(label.as_deref(), Some(BIN), "{program}\n{done}");
        }
        assert_eq!(label_of(&root, "var/lib/pss-guard/bin").as_deref(), Some(BIN), "the link");
        assert_ne!(label_of(&root, "opt/a.b+/somebodys").as_deref(), Some(BIN));
        assert_eq!(warns(&done.stdout), expected, "{contexts:?}: {done}");
        let status = root.call(&["status"]).expect_success();
        assert_eq!(warns(&status.stdout), expected, "{contexts:?}: {status}");
    }
}

/// A ramfs takes no extended attributes.
#[test]
fn what_cannot_be_labelled_is_refused_before_the_engine_is_touched_where_selinux_enforces() {
    if !needs::can_run("install::labels::what_cannot_be_labelled", &["unshare", "mount"]) {
        return;
    }
    for (setting, refused) in [(Some("enforcing"), true), (Some("permissive"), false), (None, false)] {
        for again in [false, true] {
            let root = host(setting);
            if again {
                root.call(&["install", "--engine", "containerd"]).expect_success();
                fs::write(root.path(GATE), "another").expect("a gate");
            }
            let before = root.tree();
            let script = "cd \"$1/var\" && cp -r lib kept && mount -t ramfs none lib && cp -r kept/. lib && rm -r kept && \
                          \"$0\" --root \"$1\" install --engine containerd; code=$?; head -c 7 lib/pss-guard/bin/pss-guard-gate; \
                          exit $code";
            let mut command = Command::new("unshare");
            command.args(["--mount", "sh", "-c", script]).arg(program::binary()).arg(root.root());
            let done = run::run(&mut command);
            assert_eq!(done.code, Some(if refused { 2 } else { 0 }), "{setting:?}: {done}");
            if refused {
                let says =
                    "pss-guard-gate: SELinux is in enforcing mode, and the file cannot be labelled bin_t";
                assert!(done.stderr.contains(says), "{done}");
                assert_eq!(done.stdout.ends_with("another"), again, "the gate of before: {done}");
                assert_same(&root.tree(), &before, "the engine's files, and all beside the ramfs");
            }
        }
    }
}
