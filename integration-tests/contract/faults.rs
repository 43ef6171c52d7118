//! What happens when something is wrong? Every fault, in every mode: the exit code, the one line, and the event.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::node::{ID, Node, SANDBOX};
use crate::support::{needs, program, run};

const ENFORCE: &str = "mode = \"enforce\"\n[defaults]\nenforce = \"restricted\"\n";
const ENFORCE_OPEN: &str = "mode = \"enforce\"\non-fault = \"allow\"\n[defaults]\nenforce = \"restricted\"\n";
const AUDIT: &str = "mode = \"audit\"\n[defaults]\nenforce = \"restricted\"\n";

/// Breaks a node; the state that the runtime then gives.
type Fault = fn(&Node) -> Vec<u8>;

/// (name, what is broken, a part of the line that says so). The policy itself is sound in all of these.
const FAULTS: &[(&str, Fault, &str)] = &[
    (
        "config.json is missing",
        |node| broken(node, |path| fs::remove_file(path).unwrap()),
        "config.json: No such file",
    ),
    (
        "the bundle is gone",
        |node| {
            fs::remove_dir_all(node.bundle()).unwrap();
            node.state().into_bytes()
        },
        "config.json: No such file",
    ),
    (
        "config.json cannot be opened",
        |node| {
            broken(node, |path| {
                fs::remove_file(path).unwrap();
                symlink(path, path).unwrap();
            })
        },
        "Too many levels of symbolic links",
    ),
    (
        "config.json is huge",
        |node| broken(node, |path| fs::File::create(path).unwrap().set_len((16 << 20) + 1).unwrap()),
        "config.json is larger than 16777216 bytes",
    ),
    ("config.json is empty", |node| broken(node, |path| fs::write(path, "").unwrap()), "EOF while parsing"),
    (
        "config.json is cut off",
        |node| broken(node, |path| fs::write(path, "{\"process\":{").unwrap()),
        "EOF while",
    ),
    (
        "something follows the JSON",
        |node| {
            broken(node, |path| {
                let text = fs::read_to_string(path).unwrap();
                fs::write(path, format!("{text}{{}}")).unwrap();
            })
        },
        "trailing characters",
    ),
    (
        "it is no UTF-8",
        |node| {
            broken(node, |path| {
                fs::write(path, b"{\"annotations\":{\"io.container.manager\":\"\xff\"}}").unwrap();
            })
        },
        "invalid utf-8 sequence",
    ),
    (
        "it is nested deeper than a stack",
        |node| {
            broken(node, |path| {
                fs::write(path, format!("{{\"linux\":{{\"namespaces\":{}", "[".repeat(1 << 20))).unwrap();
            })
        },
        "as an OCI runtime spec",
    ),
    (
        "it is a Windows container's",
        |node| {
            broken(node, |path| {
                fs::write(path, "{\"process\":{\"user\":{\"uid\":0}},\"windows\":{}}").unwrap();
            })
        },
        "no `linux` section: only Linux containers can be judged",
    ),
    (
        "it has no process",
        |node| broken(node, |path| fs::write(path, "{\"linux\":{}}").unwrap()),
        "no `process` section",
    ),
    (
        "a FIFO is in its place",
        |node| {
            broken(node, |path| {
                fs::remove_file(path).unwrap();
                assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
            })
        },
        "config.json must be a regular file, but is a FIFO",
    ),
    (
        "a directory is in its place",
        |node| {
            broken(node, |path| {
                fs::remove_file(path).unwrap();
                fs::create_dir(path).unwrap();
            })
        },
        "config.json must be a regular file, but is a directory",
    ),
    (
        "a key is written in two ways",
        |node| {
            broken(node, |path| {
                let text = fs::read_to_string(path).unwrap();
                fs::write(path, text.replacen("\"linux\"", "\"Linux\":{},\"linux\"", 1)).unwrap();
            })
        },
        "ambiguous key \\\"Linux\\\"",
    ),
    (
        "the namespace is missing",
        |node| {
            broken(node, |path| {
                let text = fs::read_to_string(path).unwrap();
                fs::write(path, text.replace("io.kubernetes.cri.sandbox-namespace", "x")).unwrap();
            })
        },
        "annotation io.kubernetes.cri.sandbox-namespace is missing",
    ),
    (
        "the namespace is no name",
        |node| {
            node.config("../../etc");
            fs::create_dir_all(node.root().join("run/pss-guard/namespaces")).unwrap();
            node.state().into_bytes()
        },
        "../../etc",
    ),
    (
        "the sandbox is another pod's",
        |node| {
            let config = fs::read_to_string(node.config("shop")).unwrap();
            node.config("kube-public");
            node.file(&format!("io.containerd.runtime.v2.task/k8s.io/{ID}/config.json"), &config);
            node.state().into_bytes()
        },
        "is the sandbox of pod \\\"kube-public/web\\\", but the container says it is of pod \\\"shop/web\\\"",
    ),
    (
        "the sandbox's config.json is garbage",
        |node| {
            node.file(&format!("io.containerd.runtime.v2.task/k8s.io/{SANDBOX}/config.json"), "garbage");
            node.state().into_bytes()
        },
        "as an OCI runtime spec",
    ),
    (
        "a namespace to join is not there",
        |node| {
            broken(node, |path| {
                let text = fs::read_to_string(path).unwrap();
                let joins = "{\"type\":\"network\",\"path\":\"/proc/0/ns/net\"}";
                fs::write(path, text.replace("{\"type\":\"network\"}", joins)).unwrap();
            })
        },
        "the container's network namespace cannot be compared with the host's",
    ),
    (
        "the namespace's file is garbage",
        |node| {
            node.file("run/pss-guard/namespaces/shop.json", "garbage");
            node.state().into_bytes()
        },
        "run/pss-guard/namespaces/shop.json",
    ),
    (
        "the namespace's file can be written by anybody",
        |node| {
            let path = node.file("run/pss-guard/namespaces/shop.json", "{}");
            fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
            node.state().into_bytes()
        },
        "run/pss-guard/namespaces/shop.json",
    ),
    ("standard input is empty", |_| Vec::new(), "parse the OCI state on standard input"),
    ("standard input is no JSON", |_| b"hello".to_vec(), "parse the OCI state on standard input"),
    ("the state names no bundle", |_| b"{\"id\":\"x\",\"pid\":1}".to_vec(), "names no bundle"),
    (
        "the state is huge",
        |_| vec![b' '; (16 << 20) + (1 << 20)],
        "the OCI state on standard input has more than 16777216 bytes",
    ),
];

/// Breaks config.json.
fn broken(node: &Node, how: impl FnOnce(&Path)) -> Vec<u8> {
    how(&node.bundle().join("config.json"));
    node.state().into_bytes()
}

/// What must be true of a fault: the exit code, one line on stderr or none, and exactly one event that says it.
fn assert_fault(row: &str, node: &Node, output: &Output, code: i32, expected: &str) {
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    let context = format!("{row}: {output:?}");
    assert_eq!(output.status.code(), Some(code), "{context}");
    assert!(output.stdout.is_empty(), "{context}");
    let events = node.events();
    assert_eq!(events.len(), 1, "{context}: {events:?}");
    assert_eq!(events[0]["PSS_DECISION"], "fault", "{context}");
    // Whatever else is unknown, the runtime said which container it is.
    let id = if expected.contains("the OCI state") || expected == "names no bundle" {
        Value::Null
    } else {
        ID.into()
    };
    assert_eq!(events[0]["PSS_CONTAINER_ID"], id, "{context}");
    let message = events[0]["MESSAGE"].as_str().unwrap();
    let expected = expected.replace("\\\"", "\"");
    // Where nobody knows whose container it is, the line has nothing before the decision.
    let whose = if id.is_null() { "" } else { message.split_once("cannot judge: ").unwrap_or_default().0 };
    let unknown = format!("containerd container {}: ", &ID[..12]);
    let known = whose == unknown || (whose.contains('/') && whose.ends_with(": "));
    assert!(id.is_null() || known, "{row}: {message}");
    let said = message.strip_prefix(whose).unwrap_or_default();
    assert!(said.starts_with("cannot judge: "), "{row}: {message}");
    assert!(message.contains(&expected), "{row}: {message:?} does not say {expected:?}");
    assert!(message.len() <= 4096 && !message.contains('\n'), "{row}: {message}");
    let line = if code == 0 { String::new() } else { format!("pss-guard: {said}\n") };
    assert_eq!(stderr, line, "{row}");
}

#[test]
fn a_sound_node_lets_the_container_of_this_table_start() {
    for policy in [ENFORCE, ENFORCE_OPEN, AUDIT] {
        let node = Node::new(policy);
        let output = node.hook(node.state().as_bytes());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(node.events().is_empty(), "{:?}", node.events());
    }
}

#[test]
fn what_nobody_looks_at_may_be_nested_as_it_likes() {
    let node = Node::new(ENFORCE);
    let state = broken(&node, |path| {
        let nested = format!("\"x\":{}{},\"linux\"", "[".repeat(1 << 20), "]".repeat(1 << 20));
        let text = fs::read_to_string(path).unwrap();
        fs::write(path, text.replacen("\"linux\"", &nested, 1)).unwrap();
    });
    let output = node.hook(&state);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn a_container_that_cannot_be_judged_starts_only_if_the_admin_said_so() {
    if !needs::can_run("a_container_that_cannot_be_judged_starts_only_if_the_admin_said_so", &[]) {
        return;
    }
    for (row, fault, expected) in FAULTS {
        for (policy, code) in [(ENFORCE, 2), (ENFORCE_OPEN, 0), (AUDIT, 0)] {
            let node = Node::new(policy);
            let state = fault(&node);
            let output = node.hook(&state);
            assert_fault(row, &node, &output, code, expected);
        }
    }
}

#[test]
fn a_policy_that_cannot_be_read_stops_everything_but_the_system() {
    type Break = fn(&Node);
    if !needs::can_run("a_policy_that_cannot_be_read_stops_everything_but_the_system", &[]) {
        return;
    }
    // (what is wrong, how, a part of the line, the mode that is still known)
    let rows: &[(&str, Break, &str, &str)] = &[
        ("its syntax is wrong", |node| drop(node.policy("mode = ")), "policy.toml:1:", "enforce"),
        (
            "it has an unknown key",
            |node| drop(node.policy("mode = \"enforce\"\nmodee = 1")),
            "did you mean \"mode\"",
            "enforce",
        ),
        (
            "so has this, in audit mode",
            |node| drop(node.policy("mode = \"audit\"\nmodee = 1")),
            "modee",
            "audit",
        ),
        (
            "somebody else owns it",
            |node| {
                let path = node.policy(ENFORCE);
                std::os::unix::fs::chown(path, Some(1000), None).unwrap();
            },
            "chown root",
            "enforce",
        ),
        (
            "anybody can write it",
            |node| {
                let path = node.policy(AUDIT);
                fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
            },
            "chmod go-w",
            "enforce",
        ),
        (
            "anybody can put another in its place",
            |node| {
                let path = node.policy(AUDIT);
                fs::set_permissions(path.parent().unwrap(), fs::Permissions::from_mode(0o777)).unwrap();
            },
            "chmod go-w",
            "enforce",
        ),
        (
            "it is a directory",
            |node| {
                let path = node.policy("");
                fs::remove_file(&path).unwrap();
                fs::create_dir(path).unwrap();
            },
            "policy.toml",
            "enforce",
        ),
    ];
    for (row, break_it, expected, mode) in rows {
        for (namespace, exempt) in [("shop", false), ("kube-system", true)] {
            let node = Node::new("");
            break_it(&node);
            node.config(namespace);
            let output = node.hook(node.state().as_bytes());
            let code = if *mode == "audit" || exempt { 0 } else { 2 };
            assert_fault(row, &node, &output, code, expected);
        }
    }
}

#[test]
fn the_last_good_policy_judges_while_the_policy_cannot_be_used() {
    type Break = fn(&Node);
    if !needs::can_run("the_last_good_policy_judges_while_the_policy_cannot_be_used", &[]) {
        return;
    }
    let breaks: &[(&str, Break, &str)] = &[
        ("gone", |node| fs::remove_file(node.root().join("etc/pss-guard/policy.toml")).unwrap(), "is gone"),
        ("truncated", |node| drop(node.policy("")), "sets nothing, but there was a policy before"),
        (
            "truncated to its leading comment",
            |node| drop(node.policy("# What the team agreed on.\n")),
            "sets nothing, but there was a policy before",
        ),
        ("a mistake", |node| drop(node.policy("mode = \"audit\"\nmodee = 1")), "did you mean \"mode\""),
        (
            "a folder of others",
            |node| {
                let folder = node.policy(AUDIT).with_file_name("");
                fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).unwrap();
            },
            "chmod go-w",
        ),
    ];
    // (the last good policy, the namespace, decision): the bundle complies with baseline, and not with restricted.
    let enforce = "mode = \"enforce\"\n[defaults]\nenforce = \"restricted\"\n[namespaces.other]\nenforce = \"baseline\"\n\
                   [exemptions]\nnamespaces = [\"monitoring\"]\n";
    let audit = &enforce.replace("mode = \"enforce\"", "mode = \"audit\"");
    let rows = [
        (enforce, "monitoring", "exempt"),
        (enforce, "other", "audit"),
        (enforce, "shop", "denied"),
        (audit, "monitoring", "exempt"),
        (audit, "shop", "would-deny"),
    ];
    for (name, break_it, fault) in breaks {
        for reboot in [false, true] {
            for (policy, namespace, decision) in rows {
                let node = Node::new(policy);
                // Whoever starts keeps what he judged by.
                node.config("monitoring");
                assert_eq!(node.hook(node.state().as_bytes()).status.code(), Some(0));
                break_it(&node);
                if reboot {
                    fs::remove_file(node.root().join("run/pss-guard/policy.cache")).unwrap();
                }
                node.refused_config(namespace);
                let output = node.hook(node.state().as_bytes());
                let row = format!("{name}, {reboot}, {namespace}: {output:?}");
                assert_eq!(output.status.code(), Some(if decision == "denied" { 30 } else { 0 }), "{row}");
                let events = node.events();
                assert_eq!(events[0].get("PSS_POLICY_FAULT"), None, "the policy was good: {row}");
                let event = &events[1];
                assert_eq!(event["PSS_DECISION"], decision, "{row}");
                let [said, message] = ["PSS_POLICY_FAULT", "MESSAGE"].map(|key| event[key].as_str().unwrap());
                assert!(said.contains(fault), "{row}: {said}");
                assert!(
                    message.contains("; the last good policy is in force: ") && message.contains(fault),
                    "{message}"
                );
            }
        }
    }
}

#[test]
fn whoever_only_looks_does_so_by_the_last_good_policy_and_says_so() {
    if !needs::can_run("whoever_only_looks_does_so_by_the_last_good_policy_and_says_so", &[]) {
        return;
    }
    // (command, exit code, a part of what is printed)
    let bundle = "BUNDLE";
    let rows: &[(&[&str], i32, &str)] = &[
        (&["check", bundle], 1, "readOnlyRootFilesystem"),
        (&["check", "--level", "baseline", bundle], 0, "allow"),
        (&["policy", "show", "--namespace", "monitoring"], 0, "exempt"),
        (&["policy", "show", "--namespace", "shop"], 0, "restricted:latest"),
        (&["scan", "--level", "restricted"], 0, ""),
        (&["report", "--no-scan"], 0, ""),
        (&["mode"], 0, "because"),
    ];
    for mode in ["audit", "enforce"] {
        let node = Node::new(&format!(
            "mode = \"{mode}\"\n[defaults]\nenforce = \"restricted\"\n[exemptions]\nnamespaces = [\"monitoring\"]\n"
        ));
        node.refused_config("shop");
        let run = |line: &[&str]| {
            let bundle = node.bundle();
            let line =
                line.iter().map(|word| if *word == "BUNDLE" { bundle.as_os_str() } else { word.as_ref() });
            let line: Vec<&std::ffi::OsStr> = line.collect();
            run::run(Command::new(program::binary()).arg("--root").arg(node.root()).args(line))
        };
        let all = |lost: bool| {
            for (line, expected, part) in rows {
                let done = run(line);
                assert_eq!(done.code, Some(*expected), "{mode} {lost}: {done}");
                let said = format!("{}{}", done.stdout, done.stderr);
                assert!(said.contains(part), "{part:?} in {done}");
                assert_eq!(said.contains("the last good policy"), lost, "{mode}: {done}");
            }
        };
        node.hook(node.state().as_bytes());
        all(false);
        node.policy("mode = ");
        all(true);
        // `policy check` is about the file itself.
        assert_eq!(run(&["policy", "check"]).code, Some(2));
        fs::remove_file(node.policy("")).unwrap();
        all(true);
        assert_eq!(run(&["mode"]).stdout.split(':').next(), Some(mode));
    }
}

#[test]
fn an_exempt_namespace_starts_even_if_its_file_is_garbage() {
    let node = Node::new(ENFORCE);
    node.config("kube-system");
    node.file("run/pss-guard/namespaces/kube-system.json", "garbage");
    let output = node.hook(node.state().as_bytes());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(node.events()[0]["PSS_DECISION"], "exempt");
}

#[test]
fn without_proc_nothing_is_taken_for_granted() {
    if !needs::can_run("without_proc_nothing_is_taken_for_granted", &[]) {
        return;
    }
    for (policy, code) in [(ENFORCE, 2), (AUDIT, 0)] {
        let node = Node::new(policy);
        let state = broken(&node, |path| {
            let text = fs::read_to_string(path).unwrap();
            let joins = "{\"type\":\"ipc\",\"path\":\"/proc/1/ns/ipc\"}";
            fs::write(path, text.replace("{\"type\":\"ipc\"}", joins)).unwrap();
        });
        let mut hidden = Command::new("unshare");
        hidden.args(["--mount", "sh", "-c", "mount -t tmpfs none /proc && exec \"$0\" \"$@\""]);
        hidden.arg(program::gate()).args(["hook", "--engine", "containerd", "--root"]);
        let output = run::feed(hidden.arg(node.root()), &state);
        assert_fault("no /proc", &node, &output, code, "is /proc mounted");
    }
}

#[test]
fn an_event_for_which_there_is_no_room_reaches_the_kernels_log_or_stderr() {
    if !needs::can_run("an_event_for_which_there_is_no_room_reaches_the_kernels_log_or_stderr", &[]) {
        return;
    }
    let node = Node::new(ENFORCE);
    let state = broken(&node, |path| fs::write(path, "garbage").unwrap());
    fs::create_dir_all(node.root().join("var/log/pss-guard")).unwrap();
    // A disk with no room at all, and no kernel log to write to: only stderr is left.
    let script = "mount -t tmpfs -o size=4k none \"$R/var/log/pss-guard\" && \
                  dd if=/dev/zero of=\"$R/var/log/pss-guard/full\" bs=4k count=1 status=none && \
                  mount --bind /dev/full /dev/kmsg && exec \"$0\" \"$@\"";
    let mut full = Command::new("unshare");
    full.env("R", node.root()).args(["--mount", "sh", "-c", script]);
    full.arg(program::gate()).args(["hook", "--engine", "containerd", "--root"]);
    let output = run::feed(full.arg(node.root()), &state);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    let lines: Vec<&str> = stderr.lines().collect();
    assert!(lines[0].starts_with("pss-guard: event neither in the journal ("), "{stderr}");
    assert!(
        lines[0].contains("No space left on device") && lines[0].contains("cannot judge: parse"),
        "{stderr}"
    );
    assert!(lines[1].starts_with("pss-guard: cannot judge: parse"), "{stderr}");
}

#[test]
fn wrong_arguments_are_a_fault_and_not_an_allow() {
    let node = Node::new(ENFORCE);
    let mut command = node.hook_command();
    let output = run::feed(command.args(["--enginee", "x"]), node.state().as_bytes());
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.starts_with("pss-guard: cannot judge: hook: unknown argument \"--enginee\""), "{stderr}");
}

/// Not a test of its own: the process that panics for the test below, after it was asked once.
#[test]
fn panicking_process() {
    if let Some(root) = std::env::var_os("PSS_GUARD_TEST_PANIC") {
        pss_guard::hook::install_panic_hook();
        let _ = pss_guard::hook::run(&["--root".into(), root]);
        panic!("a bug\nwith two lines");
    }
}

#[test]
fn a_panic_fails_closed_unless_the_policy_is_known_to_let_it_start() {
    let rows = [
        (ENFORCE, "", 2),
        (AUDIT, "", 0),
        (ENFORCE, "audit", 0),
        (AUDIT, "enforce", 2),
        (ENFORCE_OPEN, "", 0),
        (ENFORCE_OPEN, "enforce", 0),
    ];
    for (policy, for_a_time, code) in rows {
        if !for_a_time.is_empty() && !needs::can_run("a_panic_fails_closed (break-glass)", &[]) {
            continue;
        }
        let node = Node::new(policy);
        if !for_a_time.is_empty() {
            let mut mode = Command::new(program::binary());
            mode.arg("--root").arg(node.root()).args(["mode", for_a_time, "--for", "1h", "--yes"]);
            run::run(&mut mode).expect_success();
        }
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "faults::panicking_process", "--nocapture"])
            .env("PSS_GUARD_TEST_PANIC", node.root())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        let line = stderr.lines().rfind(|line| line.starts_with("pss-guard: ")).unwrap_or_default();
        let said = "cannot judge: this is a bug in pss-guard (integration-tests/contract/faults.rs:";
        assert!(line.contains(said) && line.ends_with("a bug\\nwith two lines"), "{stderr}");
        let event = node.events().pop().unwrap();
        assert!(event["MESSAGE"].as_str().unwrap().starts_with(said), "{event}");
    }
}
