//! What an exception opens, and what a policy believes.

use crate::node::{self, Gate, Node, Runtime};
use crate::pod::{Capabilities, Engine, Pod, ProcMount, Seccomp, Volume};
use crate::util;

/// Restricted, on a node where a container without a filter was asked to have none.
fn restricted(exceptions: &str) -> String {
    format!(
        "mode = 'enforce'\n{exceptions}\n[defaults]\nenforce = 'restricted'\naudit = 'privileged'\n\
         warn = 'privileged'\n"
    )
}

fn excuse(controls: &[&str], more: &str) -> String {
    format!(
        "[[exceptions]]\nnamespace = 'shop'\ncontrols = {controls:?}\nreason = 'r'\nexpires = 2999-01-01\n{more}"
    )
}

/// Writes a policy as [`Node::write_policy`] does, with the kubelet's `seccompDefault` on.
fn write_policy(node: &Node, text: &str) {
    let kubelet = node.kubelet_root();
    let text = format!("{text}\n[node]\nkubelet-root = '{}'\nseccomp-default = true\n", kubelet.display());
    node::write(&node.policy_path(), &text);
}

/// Row 18 of the attacks: each of four routine exceptions at restricted used to open what baseline forbids.
#[test]
fn an_exception_does_not_open_the_control_that_its_own_overrides() {
    if !util::can_run("an_exception_does_not_open_the_control_that_its_own_overrides", &["runc", "busybox"]) {
        return;
    }
    let with = |tweak: fn(&mut Pod)| {
        let mut pod = Pod::compliant();
        tweak(&mut pod);
        pod
    };
    // (excused, what it is for, what it must not open, the control of baseline, its exit code)
    let rows: [(&str, Option<Pod>, Pod, &str, i32); 4] = [
        (
            "capabilities_restricted",
            Some(with(|pod| pod.capabilities = Capabilities::Default)),
            with(|pod| pod.capabilities = Capabilities::DropAllAdd(&["SYS_ADMIN"])),
            "capabilities_baseline",
            12,
        ),
        (
            "restrictedVolumes",
            None,
            with(|pod| pod.volumes.push(Volume::HostPath { path: "/etc", at: "/host" })),
            "hostPathVolumes",
            14,
        ),
        (
            "seccompProfile_restricted",
            None,
            with(|pod| pod.seccomp = Seccomp::Unconfined),
            "seccompProfile_baseline",
            20,
        ),
        ("procMount_restricted", None, with(|pod| pod.proc_mount = ProcMount::Unmasked), "procMount", 18),
    ];
    let node = Node::new(Engine::Containerd, Runtime::Runc);
    for (excused, meant, attack, overridden, code) in rows {
        write_policy(&node, &restricted(&excuse(&[excused], "")));
        if let Some(meant) = meant {
            let attempt = node.sandbox(&meant).start(Gate::Wrapper);
            assert!(attempt.ran, "{excused}: what it is for must start\n{attempt}");
        }
        let sandbox = node.sandbox(&attack);
        let alone = sandbox.start(Gate::Absent);
        assert!(alone.ran, "{overridden}: the attack must work without the gate\n{alone}");
        for gate in [Gate::Hook, Gate::Wrapper] {
            let attempt = sandbox.start(gate);
            assert!(!attempt.ran && !attempt.kept, "{excused} opened {overridden}, {gate:?}\n{attempt}");
            let denied = attempt.events.iter().find(|event| event["PSS_DECISION"] == "denied");
            assert!(denied.is_some_and(|event| event["PSS_CONTROLS"] == overridden), "{attempt}");
            if gate == Gate::Wrapper {
                assert_eq!(attempt.created.code, Some(code), "{attempt}");
            }
        }
        // Who means both names both.
        write_policy(&node, &restricted(&excuse(&[excused, overridden], "")));
        let attempt = sandbox.start(Gate::Wrapper);
        assert!(attempt.ran, "{excused} and {overridden} are excused\n{attempt}");
        // A reason that is over excuses nothing, and so does not bring the other control back either.
        let over = excuse(&[excused, overridden], "").replace("2999", "2000");
        write_policy(&node, &restricted(&over));
        let attempt = sandbox.start(Gate::Wrapper);
        let denied = attempt.events.iter().find(|event| event["PSS_DECISION"] == "denied");
        assert!(!attempt.ran && denied.is_some_and(|event| event["PSS_CONTROLS"] == excused), "{attempt}");
    }
}
