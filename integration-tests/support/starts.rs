//! What a runtime starts, and what it executes in what runs: the same under every version of every runtime. Denied containers do
//! not run a single instruction, allowed ones run, and people read the whole reason.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::cases::{Case, message, refusal};
use crate::support::files;
use crate::support::pod::{Engine, Pod};
use crate::support::run::{self, Done};
use crate::support::runtime::{Attempt, Gate, Runtime, RuntimeNode};

/// Processes that join a running container, each with what it changes of the container's own.
pub(crate) fn join_all(runtime: Runtime) {
    let node = RuntimeNode::new(Engine::Containerd, runtime);
    node.write_policy(&policy("enforce", "restricted"));
    let sandbox = node.sandbox(&Pod::compliant());
    let id = sandbox.keep();
    let capabilities = json!({"bounding": ["CAP_SYS_ADMIN"], "effective": ["CAP_SYS_ADMIN"],
        "permitted": ["CAP_SYS_ADMIN"]});
    let rows = [
        ("as the container", "/user/uid", json!(1000), 0),
        ("root", "/user/uid", json!(0), 27),
        ("may escalate", "/noNewPrivileges", json!(false), 23),
        ("adds a capability", "/capabilities", capabilities, 24),
    ];
    for (name, what, value, code) in rows {
        let mut process = own(1000, true);
        *process.pointer_mut(what).expect("a field of the process") = value;
        let done = join(&node, &id, &process);
        assert_eq!(done.code, Some(code), "{name}\n{done}");
        let ran = done.stdout.contains("MARK=joined");
        assert_eq!(ran, code == 0, "{name}\n{done}");
        assert!(ran || done.stderr.starts_with("pss-guard: exec violates"), "{name}\n{done}");
        // Neither this process nor the container's first learns of the wrapper.
        assert!(!ran || done.stdout.contains("HOSTNAME="), "{name}\n{done}");
        assert!(!done.stdout.contains("PSS_GUARD"), "{name}\n{done}");
    }
    // A container that is older than its level.
    node.write_policy(&policy("enforce", "privileged"));
    let sandbox = node.sandbox(&Pod::bare());
    let id = sandbox.keep();
    node.write_policy(&policy("enforce", "restricted"));
    let mut process = own(0, false);
    // Without the capabilities of the container's first process, that one's environment is not for it.
    process["args"] = json!(["/bin/busybox", "env"]);
    let done = join(&node, &id, &process).expect_success();
    assert!(done.stdout.contains("MARK=joined"), "{done}");
    let marker = said_of(&node.root(), &id);
    assert!(marker.is_file(), "{}", marker.display());
    // As engines do it: youki tries to remove the cgroup of a process that it has only just killed, and gives up
    // (`libcgroups/src/common.rs`, `delete_with_retry`).
    run::run(node.wrapped(&["kill"]).args([&id, "KILL"])).expect_success();
    run::eventually(|| run::run(node.runtime(&["state"]).arg(&id)).stdout.contains("\"stopped\""));
    run::run(node.wrapped(&["delete", "--force"]).arg(&id)).expect_success();
    assert!(!marker.exists(), "{}", marker.display());
    assert_ne!(run::run(node.runtime(&["state"]).arg(&id)).code, Some(0), "it is gone");
}

/// A process that shows its own environment and that of the container's first process.
fn own(uid: u32, no_new_privileges: bool) -> Value {
    json!({
        "user": {"uid": uid, "gid": uid},
        "args": ["/bin/sh", "-c", "/bin/busybox env; /bin/busybox cat /proc/1/environ"],
        // youki wants a PATH.
        "env": ["MARK=joined", "PATH=/bin"],
        "cwd": "/",
        "capabilities": {},
        "noNewPrivileges": no_new_privileges,
    })
}

fn join(node: &RuntimeNode, id: &str, process: &Value) -> Done {
    let file = node.root().join("process.json");
    files::write(&file, &process.to_string());
    run::run(node.wrapped(&["exec", "--process"]).arg(&file).arg(id))
}

fn said_of(root: &Path, id: &str) -> PathBuf {
    pss_guard::paths::Paths::under(root).said_of(id)
}

/// Cases at levels in modes, by the hook and by the wrapper. Before that the same container starts without the hook: what the runtime
/// alone would refuse proves nothing about us.
pub(crate) fn start_all(engine: Engine, runtime: Runtime, cases: &[Case], levels: &[&str], modes: &[&str]) {
    let node = RuntimeNode::new(engine, runtime);
    let mut wrong = Vec::new();
    for case in cases {
        let sandbox = node.sandbox(&case.pod);
        let alone = sandbox.start(Gate::Absent);
        if !alone.ran {
            wrong.push(format!("{}: does not start without the hook\n{alone}", case.name));
            continue;
        }
        for level in levels {
            for mode in modes {
                node.write_policy(&policy(mode, level));
                for gate in [Gate::Hook, Gate::Wrapper] {
                    let attempt = sandbox.start(gate);
                    if let Err(what) = judge(case, &node, gate, level, mode, &attempt) {
                        wrong.push(format!("{} at {level}, {mode}, {gate:?}: {what}\n{attempt}", case.name));
                    }
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} under {} went wrong\n\n{}",
        wrong.len(),
        runtime.name(),
        wrong.join("\n\n")
    );
}

fn judge(
    case: &Case,
    node: &RuntimeNode,
    gate: Gate,
    level: &str,
    mode: &str,
    attempt: &Attempt,
) -> Result<(), String> {
    let said = case.said(level);
    let decision = if mode == "enforce" { "denied" } else { "would be denied" };
    let message =
        message("violates", level, said, &format!("[defaults] of {}", node.policy_path().display()));
    let line = format!("shop/web-0/app: {decision}: {message}");
    let written: Vec<&str> = attempt.events.iter().filter_map(|event| event["MESSAGE"].as_str()).collect();
    let to_write: &[&str] = if said.is_empty() { &[] } else { &[&line] };
    if written != to_write {
        return Err(format!("should have written down {to_write:?}, and wrote {written:?}"));
    }
    if said.is_empty() || mode == "audit" {
        return if attempt.ran { Ok(()) } else { Err("should have started".into()) };
    }
    if attempt.ran || attempt.kept || attempt.created.code == Some(0) {
        return Err("should have been refused without a trace".into());
    }
    if gate == Gate::Wrapper && attempt.created.code != Some(i32::from(10 + said[0].number)) {
        return Err("should have ended with the number of the control".into());
    }
    let expected = match gate {
        Gate::Wrapper => format!("pss-guard: {message}"),
        Gate::Hook | Gate::Absent => refusal(node.runtime, said[0], &message),
    };
    if attempt.message == expected {
        Ok(())
    } else {
        Err(format!("should have said:\n{expected}\nand said:\n{}", attempt.message))
    }
}

fn policy(mode: &str, level: &str) -> String {
    format!(
        "mode = \"{mode}\"\n[defaults]\nenforce = \"{level}\"\naudit = \"privileged\"\nwarn = \"privileged\"\n"
    )
}
