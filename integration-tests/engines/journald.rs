//! What do people find in the journal? The gate's own datagram in a real systemd-journald, read back by journalctl.

use pss_guard::event::{Event, Kind};
use pss_guard::inspect::identity::Identity;
use pss_guard::level::Mode;
use pss_guard::paths::Paths;
use pss_guard::pss::facts::{Engine as Cri, Subject};
use serde_json::{Value, json};

use crate::support::journal::Journal;
use crate::support::pod::{Engine, Pod};
use crate::support::runtime::{Attempt, Gate, Runtime, RuntimeNode};
use crate::support::{documents, needs, random, run};

/// The kind "denied", which people search for and the catalog explains: it must never change.
const DENIED: &str = "MESSAGE_ID=6b52a4b24abb49c7b3bf48fe11dfe305";

#[test]
fn a_refused_container_is_found_by_message_id_and_by_identifier_with_every_field() {
    let test = "a_refused_container_is_found_by_message_id_and_by_identifier_with_every_field";
    if !Journal::can_run(test) {
        return;
    }
    let node = RuntimeNode::new(Engine::Containerd, Runtime::Runc);
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
            shown.map(|shown| format!("shop/web-0/app: denied: {shown}")).as_deref(),
            "the journal tells what the runtime does, and whose container it is\n{attempt}"
        );
    }
    let explained = Journal::explained(&[DENIED, &id]);
    for line in ["Subject: shop/web-0/app was refused", "Controls: runAsNonRoot,readOnlyRootFilesystem"] {
        assert!(explained.contains(line), "the catalog explains: {line}\n{explained}\n{attempt}");
    }
    assert!(attempt.events.is_empty(), "what the journal took is not written a second time\n{attempt}");
}

/// journald leaves the name of a field without a value as it stands, so that no entry of the catalog may name one which
/// some events lack: those of sandboxes, of containers of no pod, and of what nobody knows.
#[test]
fn every_kind_of_event_is_explained_for_whatever_it_is_of() {
    let test = "every_kind_of_event_is_explained_for_whatever_it_is_of";
    if !Journal::can_run(test) {
        return;
    }
    let root = tempfile::tempdir().expect("a temporary directory");
    let paths = Paths::under(root.path());
    let _journal = Journal::open();
    Journal::lead_to(root.path());
    let id = random::id();
    let unmanaged = Identity { engine: Cri::Docker, ..Identity::of_nobody(Some(&id)) };
    let app = Identity {
        engine: Cri::Containerd,
        namespace: Some("shop"),
        pod: Some("web-0"),
        container: Some("app"),
        ..unmanaged
    };
    let sandbox = Identity { subject: Subject::Sandbox, container: None, ..app };
    let whose = [
        (Some(app), "shop/web-0/app".to_owned()),
        (Some(sandbox), "shop/web-0 (sandbox)".to_owned()),
        (Some(unmanaged), format!("docker container {}", &id[..12])),
        (None, "a container".to_owned()),
    ];
    for kind in Kind::ALL.into_iter().filter(|kind| !kind.is_of_the_node()) {
        for (identity, subject) in &whose {
            let because = format!("{} {id}", kind.name());
            let judged = !matches!(kind, Kind::Exempt | Kind::Fault);
            let or_nothing = |text| if judged { text } else { "" };
            Event {
                kind,
                mode: Some(Mode::Enforce),
                message: "a line",
                identity: identity.as_ref(),
                level: or_nothing("restricted"),
                version: or_nothing("latest"),
                controls: if kind == Kind::Allowed { "" } else { or_nothing("runAsNonRoot") },
                findings: "",
                because: &because,
                policy_fault: "",
                is_exec: false,
                change: None,
            }
            .emit(&paths);
            let matching = [format!("PSS_BECAUSE={because}"), format!("PSS_SUBJECT={subject}")];
            let matching = [matching[0].as_str(), matching[1].as_str()];
            assert_eq!(Journal::events(&matching).len(), 1, "{kind:?} of {subject}");
            let explained = Journal::explained(&matching);
            assert!(explained.contains(&format!("Subject: {subject} ")), "{kind:?}: {explained}");
            assert!(!explained.contains('@') && !explained.contains("PSS_S"), "{kind:?}: {explained}");
            for name in
                ["PSS_POD", "PSS_NAMESPACE", "PSS_CONTAINER", "PSS_LEVEL", "PSS_CONTROLS", "PSS_BECAUSE"]
            {
                assert!(!explained.contains(name), "{kind:?} of {subject}: {name}: {explained}");
            }
        }
    }
    assert!(!paths.decisions().exists(), "the journal took all of them");
}

#[test]
fn without_a_journal_the_event_is_in_the_file_and_the_verdict_stands() {
    let test = "without_a_journal_the_event_is_in_the_file_and_the_verdict_stands";
    if !needs::can_run(test, &["runc", "busybox"]) {
        return;
    }
    let node = RuntimeNode::new(Engine::Containerd, Runtime::Runc);
    let (attempt, uid) = refuse(&node);
    assert_eq!(attempt.events.len(), 1, "{attempt}");
    let event = &attempt.events[0];
    assert_eq!(event["PSS_DECISION"], "denied", "{attempt}");
    assert_eq!(event["PSS_POD_UID"], uid.as_str(), "{attempt}");
}

#[test]
fn the_documented_line_prints_fixes_with_whose_they_are() {
    if !needs::can_run("the_documented_line_prints_fixes_with_whose_they_are", &["runc", "busybox", "jq"]) {
        return;
    }
    let manual = documents::read("docs/watch.md");
    let begins = manual.find("    journalctl -t pss-guard -a -o json").expect("the command");
    let (_, command) = manual[begins..].split_once(" | ").expect("a pipe");
    let (command, _) = command.split_once("\n\n").expect("its end");
    let node = RuntimeNode::new(Engine::Containerd, Runtime::Runc);
    refuse(&node);
    let file = Paths::under(&node.root()).decisions();
    let done =
        run::run(std::process::Command::new("sh").arg("-c").arg(format!("{command} <{}", file.display())));
    let expected = "---\n# shop/web-0/app, runAsNonRoot\nspec:\n  containers:\n  - name: app\n";
    assert!(done.code == Some(0) && done.stdout.starts_with(expected), "{command}\n{done}");
    assert!(done.stdout.contains("---\n# shop/web-0/app, readOnlyRootFilesystem\n"), "{done}");
}

/// A container that restricted refuses for two reasons, and its pod's UID.
fn refuse(node: &RuntimeNode) -> (Attempt, String) {
    node.write_policy("mode = \"enforce\"\n[defaults]\nenforce = \"restricted\"\n");
    let sandbox = node.sandbox(&Pod { uid: 0, read_only_root: false, ..Pod::compliant() });
    let attempt = sandbox.start(Gate::Hook);
    assert!(!attempt.ran, "should have been refused\n{attempt}");
    (attempt, sandbox.place.uid.clone())
}
