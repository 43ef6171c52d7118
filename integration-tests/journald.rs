//! What do people find in the journal? The gate's own datagram in a real systemd-journald, read back by journalctl.

use serde_json::{Value, json};

use crate::journal::Journal;
use crate::node::{Attempt, Gate, Node, Runtime};
use crate::pod::{Engine, Pod};
use crate::util;

/// The kind "denied", which people search for and the catalog explains: it must never change.
const DENIED: &str = "MESSAGE_ID=6b52a4b24abb49c7b3bf48fe11dfe305";

#[test]
fn a_refused_container_is_found_by_message_id_and_by_identifier_with_every_field() {
    let test = "a_refused_container_is_found_by_message_id_and_by_identifier_with_every_field";
    if !Journal::can_run(test) {
        return;
    }
    let node = Node::new(Engine::Containerd, Runtime::Runc);
    let _journal = Journal::open();
    Journal::lead_to(&node.root());
    let (attempt, uid) = refuse(&node);
    let id = format!("PSS_CONTAINER_ID={}", attempt.id);
    for by in [DENIED, "--identifier=pss-guard"] {
        let events = Journal::events(&[by, &id]);
        assert!(events.len() == 1, "journalctl {by} {id} finds {events:?}\n{attempt}");
        let findings: Value =
            serde_json::from_str(events[0]["PSS_FINDINGS"].as_str().unwrap_or_default()).unwrap();
        let policy = node.policy_path();
        let expected = [
            ("PRIORITY", "4"),
            ("SYSLOG_IDENTIFIER", "pss-guard"),
            ("PSS_DECISION", "denied"),
            ("PSS_MODE", "enforce"),
            ("PSS_LEVEL", "restricted"),
            ("PSS_VERSION", "latest"),
            ("PSS_CONTROLS", "runAsNonRoot,readOnlyRootFilesystem"),
            ("PSS_BECAUSE", &format!("level from [defaults] of {}", policy.display())),
            ("PSS_ENGINE", "containerd"),
            ("PSS_NAMESPACE", "shop"),
            ("PSS_POD", "web-0"),
            ("PSS_POD_UID", &uid),
            ("PSS_CONTAINER", "app"),
            ("PSS_IMAGE", "localhost/app:1"),
            // Set by journald itself: the event did come from a process of root's.
            ("_UID", "0"),
        ];
        for (field, value) in expected {
            assert!(events[0][field] == value, "{field} should be {value}: {}\n{attempt}", events[0]);
        }
        let told = findings.as_array().unwrap().iter();
        let told: Vec<Value> = told.map(|found| json!([found["control"], found["certainty"]])).collect();
        // In full, with what is only suspected: uid 0 can be the image's as well as the pod's.
        let expected = [
            json!(["runAsNonRoot", "violates"]),
            json!(["runAsUser", "suspect"]),
            json!(["readOnlyRootFilesystem", "violates"]),
        ];
        assert_eq!(told, expected, "{findings}");
        let shown = attempt.message.split_once("stderr: pss-guard: ").map(|(_, line)| line.trim_end());
        assert_eq!(
            events[0]["MESSAGE"].as_str(),
            shown,
            "the journal and the runtime tell the same\n{attempt}"
        );
    }
    let explained = Journal::explained(&[DENIED, &id]);
    for line in [
        "Subject: Container app of pod shop/web-0 was refused",
        "Controls: runAsNonRoot,readOnlyRootFilesystem",
    ] {
        assert!(explained.contains(line), "the catalog explains: {line}\n{explained}\n{attempt}");
    }
    assert!(attempt.events.is_empty(), "what the journal took is not written a second time\n{attempt}");
}

#[test]
fn without_a_journal_the_event_is_in_the_file_and_the_verdict_stands() {
    let test = "without_a_journal_the_event_is_in_the_file_and_the_verdict_stands";
    if !util::can_run(test, &["runc", "busybox"]) {
        return;
    }
    let node = Node::new(Engine::Containerd, Runtime::Runc);
    let (attempt, uid) = refuse(&node);
    assert_eq!(attempt.events.len(), 1, "{attempt}");
    let event = &attempt.events[0];
    assert_eq!(event["PSS_DECISION"], "denied", "{attempt}");
    assert_eq!(event["PSS_POD_UID"], uid.as_str(), "{attempt}");
}

/// A container that restricted refuses for two reasons, and its pod's UID.
fn refuse(node: &Node) -> (Attempt, String) {
    node.write_policy("mode = \"enforce\"\n[defaults]\nenforce = \"restricted\"\n");
    let sandbox = node.sandbox(&Pod { uid: 0, read_only_root: false, ..Pod::compliant() });
    let attempt = sandbox.start(Gate::Hook);
    assert!(!attempt.ran, "should have been refused\n{attempt}");
    (attempt, sandbox.place.uid.clone())
}
