//! What happens to a container under a real runtime? Denied ones do not run a single instruction, allowed ones run,
//! and people read the whole reason.

use crate::cases::{Case, LEVELS, message, refusal};
use crate::node::{Attempt, Gate, Node, Runtime};
use crate::pod::Engine;
use crate::util;

#[test]
fn runc_starts_what_the_level_allows_in_containerds_bundles() {
    judge_all("runc_starts_what_the_level_allows_in_containerds_bundles", Engine::Containerd, Runtime::Runc);
}

#[test]
fn crun_starts_what_the_level_allows_in_containerds_bundles() {
    judge_all("crun_starts_what_the_level_allows_in_containerds_bundles", Engine::Containerd, Runtime::Crun);
}

#[test]
fn runc_starts_what_the_level_allows_in_cri_os_bundles() {
    judge_all("runc_starts_what_the_level_allows_in_cri_os_bundles", Engine::CriO, Runtime::Runc);
}

#[test]
fn crun_starts_what_the_level_allows_in_cri_os_bundles() {
    judge_all("crun_starts_what_the_level_allows_in_cri_os_bundles", Engine::CriO, Runtime::Crun);
}

/// Every case at every level in both modes. Before that the same container starts without the hook: what the runtime
/// alone would refuse proves nothing about us.
fn judge_all(test: &str, engine: Engine, runtime: Runtime) {
    if !util::can_run(test, &[runtime.name(), "busybox"]) {
        return;
    }
    let node = Node::new(engine, runtime);
    let mut wrong = Vec::new();
    for case in Case::of(engine) {
        let sandbox = node.sandbox(&case.pod);
        let alone = sandbox.start(Gate::Absent);
        if !alone.ran {
            wrong.push(format!("{}: does not start without the hook\n{alone}", case.name));
            continue;
        }
        for level in LEVELS {
            for mode in modes(engine) {
                node.write_policy(&policy(mode, level));
                for gate in [Gate::Hook, Gate::Wrapper] {
                    let attempt = sandbox.start(gate);
                    if let Err(what) = judge(&case, &node, gate, level, mode, &attempt) {
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

/// Audit mode is the same whoever wrote the bundle; once for each runtime is enough.
fn modes(engine: Engine) -> &'static [&'static str] {
    match engine {
        Engine::Containerd => &["audit", "enforce"],
        Engine::CriO => &["enforce"],
    }
}

fn judge(
    case: &Case,
    node: &Node,
    gate: Gate,
    level: &str,
    mode: &str,
    attempt: &Attempt,
) -> Result<(), String> {
    let said = case.said(level);
    let verb = if mode == "enforce" { "violates" } else { "would violate" };
    let message = message(verb, level, said, &format!("[defaults] of {}", node.policy_path().display()));
    let written: Vec<&str> = attempt.events.iter().filter_map(|event| event["MESSAGE"].as_str()).collect();
    let to_write: &[&str] = if said.is_empty() { &[] } else { &[&message] };
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
