//! Which containers start while the glass is broken, and what does the journal have of it?

use std::process::Command;

use serde_json::Value;

use crate::support::journal::Journal;
use crate::support::pod::{Engine, Pod};
use crate::support::root::Root;
use crate::support::runtime::{Gate, Runtime, RuntimeNode};
use crate::support::{needs, program, random, run};

#[test]
fn real_containers_start_while_the_glass_is_broken_and_no_longer() {
    let test = "real_containers_start_while_the_glass_is_broken_and_no_longer";
    if !needs::can_run(test, &["runc", "busybox"]) {
        return;
    }
    let node = RuntimeNode::new(Engine::Containerd, Runtime::Runc);
    node.write_policy("mode = \"enforce\"\n[defaults]\nenforce = \"restricted\"\n");
    let sandbox = node.sandbox(&Pod { uid: 0, ..Pod::compliant() });
    let mode = |arguments: &[&str]| {
        let mut command = Command::new(program::binary());
        run::run(command.arg("--root").arg(node.root()).arg("mode").args(arguments)).expect_success();
    };
    let steps: [(&[&str], bool); 4] = [
        (&["enforce", "--yes"], false),
        (&["audit", "--for", "1h"], true),
        (&["--end"], false),
        (&["audit"], true),
    ];
    for (arguments, starts) in steps {
        mode(arguments);
        for gate in [Gate::Hook, Gate::Wrapper] {
            let attempt = sandbox.start(gate);
            assert_eq!(attempt.ran, starts, "{arguments:?}, {gate:?}\n{attempt}");
            let [event] = attempt.events.as_slice() else { panic!("{arguments:?}, {gate:?}\n{attempt}") };
            let (decision, mode) = if starts { ("would-deny", "audit") } else { ("denied", "enforce") };
            assert!(event["PSS_DECISION"] == decision && event["PSS_MODE"] == mode, "{event}\n{attempt}");
        }
    }
}

#[test]
fn the_journal_has_the_change_and_explains_it() {
    let test = "the_journal_has_the_change_and_explains_it";
    if !Journal::can_run(test) {
        return;
    }
    let node = Root::new();
    node.policy("mode = 'enforce'\n");
    let _journal = Journal::open();
    Journal::lead_to(node.root());
    let reason = format!("incident {}", random::id());
    node.call(&["mode", "audit", "--for", "1h", "--reason", &reason]).expect_success();
    let find = ["MESSAGE_ID=3172d57843e24b2b8e1e2876853c90c6", &format!("PSS_REASON={reason}")];
    let events = Journal::events(&find);
    let [event] = events.as_slice() else { panic!("{events:?}") };
    let said = node.call(&["mode", "--json"]).expect_success();
    let said: Value = serde_json::from_str(&said.stdout).expect("one object");
    let temporary = &said["temporary"];
    for (field, value) in [
        ("PSS_DECISION", "mode-change"),
        ("PSS_MODE", "audit"),
        ("PSS_WHO", temporary["who"].as_str().expect("who")),
        ("PSS_UNTIL", temporary["until"].as_str().expect("until")),
        ("PRIORITY", "5"),
    ] {
        assert_eq!(event[field], value, "{event}");
    }
    let explained = Journal::explained(&find);
    for line in ["The node is now in audit mode", "Because: break-glass until 2", "By: "] {
        assert!(explained.contains(line), "the catalog explains: {line}\n{explained}");
    }
    assert!(node.events().is_empty(), "what the journal took is not written a second time");
}
