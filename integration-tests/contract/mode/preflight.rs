//! What does `mode enforce` say that it would break, and whom does it spare?

use std::fs::{self};
use std::path::Path;

use serde_json::{Value, json};

use super::{call, hook, said};
use crate::support::node::Node;
use crate::support::{needs, run};

/// What containerd keeps of a pod that restricted refuses: captured, in this namespace and with this UID.
fn runs(node: &Node, namespace: &str, uid: &str) {
    let case = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("integration-tests/corpus/containerd-2.1/x-run-as-user-0-explicit");
    let folder = |id: &str| format!("run/containerd/io.containerd.runtime.v2.task/k8s.io/{id}");
    let sandbox = run::read(&case.join("sandbox/config.json"));
    let spec: Value = serde_json::from_str(&sandbox).expect("a captured spec");
    let of = |key: &str| spec["annotations"][key].as_str().expect("an annotation").to_owned();
    let (id, old) = (of("io.kubernetes.cri.sandbox-id"), of("io.kubernetes.cri.sandbox-uid"));
    let moved = |text: &str| {
        let text = text.replace("namespace\": \"corpus\"", &format!("namespace\": \"{namespace}\""));
        let text = text.replace("namespace\":\"corpus\"", &format!("namespace\":\"{namespace}\""));
        text.replace(&old, uid)
    };
    node.file(&format!("{}/config.json", folder(&id)), &moved(&sandbox));
    for file in ["config.json", "observed.json"] {
        let text = run::read(&case.join("containers/c").join(file));
        node.file(&format!("{}/{file}", folder("c")), &moved(&text));
    }
}

type Ahead =
    (&'static str, &'static str, &'static str, &'static [&'static str], i32, &'static [&'static str]);

const UID: &str = "6f0d3a52-4c1c-4c53-9e1d-0242ac120002";

const HASH: &str = "0123456789abcdef0123456789abcdef";

const RESTRICTED: &str = "mode = 'audit'\n[defaults]\nenforce = 'restricted'\n";

const NOBODY_EXEMPT: &str =
    "mode = 'audit'\n[defaults]\nenforce = 'restricted'\n[exemptions]\nnamespaces = []\n";

#[test]
fn enforcing_says_first_what_it_would_break_and_spares_the_system() {
    if !needs::can_run("enforcing_says_first_what_it_would_break_and_spares_the_system", &[]) {
        return;
    }
    // (policy, namespace, uid, arguments, exit code, parts of what is said)
    #[rustfmt::skip]
    let rows: [Ahead; 11] = [
        (RESTRICTED, "shop", UID, &["enforce", "--yes"], 0, &["1 of 1 container in 1 pod would be refused", "  shop/x-run-as-user-0-explicit/c  allowPrivilegeEscalation, "]),
        (RESTRICTED, "shop", UID, &["enforce"], 1, &["1 of 1 container", "use --yes"]),
        (RESTRICTED, "shop", UID, &["enforce", "--for", "1h", "--yes"], 0, &["1 of 1 container"]),
        ("", "shop", UID, &["enforce", "--yes"], 0, &["the one container here would not be refused", "the default enforce level is privileged"]),
        (RESTRICTED, "kube-system", UID, &["enforce", "--yes"], 0, &["the one container here", "1 is exempt (kube-system)"]),
        (NOBODY_EXEMPT, "kube-system", UID, &["enforce", "--yes"], 1, &["kube-system/x-run-as-user-0-explicit/c; exempt its namespace, or use --force"]),
        (NOBODY_EXEMPT, "kube-system", UID, &["enforce", "--for", "1h", "--yes"], 1, &["or use --force"]),
        (NOBODY_EXEMPT, "kube-system", UID, &["enforce", "--yes", "--force"], 0, &["1 of 1 container"]),
        (RESTRICTED, "shop", HASH, &["enforce", "--yes"], 1, &["shop/x-run-as-user-0-explicit/c; exempt its namespace, or use --force"]),
        ("mode = 'audit'\nx = 1\n", "shop", UID, &["enforce", "--for", "1h", "--yes"], 0, &["nothing would start but kube-system: ", "policy.toml:2:1: unknown key"]),
        ("mode = 'enforce'\n[defaults]\nenforce = 'restricted'\n", "shop", UID, &["audit", "--for", "1h"], 0, &["mode audit for 1h"]),
    ];
    for (policy, namespace, uid, arguments, code, expected) in rows {
        let row = format!("{policy:?}, {namespace}, {uid}, {arguments:?}");
        let node = Node::new(policy);
        runs(&node, namespace, uid);
        let before = said(&node)["mode"].clone();
        let done = call(&node, arguments);
        assert_eq!(done.code, Some(code), "{row}: {done}");
        let all = format!("{}{}", done.stdout, done.stderr);
        assert!(expected.iter().all(|part| all.contains(part)), "{row}: {expected:?}\n{done}");
        assert!(arguments[0] == "enforce" || !all.contains("container"), "{row}: {done}");
        let mode = if code == 0 { json!(arguments[0]) } else { before };
        assert_eq!(said(&node)["mode"], mode, "{row}");
    }

    // What cannot be judged is refused, too, unless the policy says otherwise.
    for (policy, listed) in
        [(RESTRICTED, true), ("on-fault = 'allow'\n[defaults]\nenforce = 'restricted'\n", false)]
    {
        let node = Node::new(policy);
        runs(&node, "shop", UID);
        node.file("run/containerd/io.containerd.runtime.v2.task/k8s.io/c/config.json", "garbage\u{1b}[2J");
        let done = call(&node, &["enforce", "--yes"]).expect_success();
        assert_eq!(done.stdout.contains("  cannot be judged: "), listed, "{done}");
        assert!(!done.stdout.contains('\u{1b}'), "{done}");
    }
}

#[test]
fn enforcing_says_first_what_would_have_been_refused_lately() {
    if !needs::can_run("enforcing_says_first_what_would_have_been_refused_lately", &[]) {
        return;
    }
    let node = Node::new("mode = 'audit'\n[defaults]\nenforce = 'restricted'\n");
    let config = node.bundle().join("config.json");
    let spec = run::read(&config).replace("\"uid\":1000", "\"uid\":0");
    for name in ["app", "app", "a\\u001b[2J"] {
        fs::write(&config, spec.replace("container-name\":\"app\"", &format!("container-name\":\"{name}\"")))
            .expect("a file of ours");
        assert_eq!(hook(&node).status.code(), Some(0));
    }
    fs::write(&config, "garbage").expect("a file of ours");
    assert_eq!(hook(&node).status.code(), Some(0));
    let done = call(&node, &["enforce"]);
    for part in [
        "in the last 7 days 3 starts were against the enforce level:\n",
        "  shop/web/app  runAsNonRoot; 2 times, last 2",
        "  shop/web/a\\u{1b}[2J  runAsNonRoot; once, 2",
        "in the last 7 days 1 start could not be judged\n",
    ] {
        assert!(done.stdout.contains(part), "{part}\n{done}");
    }
    // Long ago is not lately.
    let log = node.root().join("var/log/pss-guard/decisions.jsonl");
    let old = run::read(&log).replace("\"__REALTIME_TIMESTAMP\":\"1", "\"__REALTIME_TIMESTAMP\":\"");
    fs::write(&log, old).expect("a file of ours");
    let done = call(&node, &["enforce"]);
    assert!(!done.stdout.contains("in the last 7 days"), "{done}");
}
