//! Do gate and tool understand each other while one of them is a release older or newer than the other?
//!
//! `integration-tests/fixtures/formats` has a file of each version of each format, by hand and never written again: a
//! version that the release before wrote must be read, and the tool writes those very bytes for a gate that reads no more.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use nix::time::{ClockId, clock_gettime};
use pss_guard::events::{self, From};
use pss_guard::formats::Format;
use pss_guard::paths::Paths;
use pss_guard::spool;
use serde_json::{Value, json};

use crate::support::node::Node;
use crate::support::run::{self, Done, feed};
use crate::support::{needs, program};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/integration-tests/fixtures/formats");
const NAMESPACE: &str = "run/pss-guard/namespaces/shop.json";
const POD: &str = "run/pss-guard/pods/dab344e9-1d4f-4e7d-941e-7a1219bef1c5.json";
const MODE: &str = "run/pss-guard/mode.json";
const CLUSTER: &str = "run/pss-guard/agent/cluster.json";
const FORMATS: &str = "run/pss-guard/gate/formats";

/// Something in the place of the published file.
type Lay = fn(&Node) -> Option<PathBuf>;

fn fixture(name: &str) -> String {
    run::read(&Path::new(FOLDER).join(name))
}

/// A file of this boot that began a minute ago and ends in a minute.
fn mode(name: &str) -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let clock = clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap();
    let now = clock.tv_sec() * 1000;
    let text = fixture(name).replace("BOOT", boot.trim_end());
    text.replace("SINCE", &(now - 60_000).to_string()).replace("UNTIL", &(now + 60_000).to_string())
}

/// The same of a version that is to come, with what nobody knows of it yet.
fn to_come(text: &str) -> String {
    let text = text.replacen("{\"v\":1,", "{\"v\":2,\"to-come\":[1],", 1);
    assert!(text.contains("to-come"), "{text}");
    text
}

fn hook(node: &Node) -> (Option<i32>, String) {
    let output = feed(&mut node.hook_command(), node.state().as_bytes());
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn import(node: &Node) -> (Option<i32>, String) {
    let list = r#"{"kind":"List","items":[{"kind":"Namespace","metadata":{"name":"shop","labels":{
        "pod-security.kubernetes.io/enforce":"baseline","pod-security.kubernetes.io/enforce-version":"v1.30"}}}]}"#;
    // From a file: where the gate reads no version that the tool writes, the tool ends without reading.
    let list = fs::File::open(node.file("list.json", list)).unwrap();
    let output = node.command(&["namespaces", "import"]).stdin(list).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// A file, its text, the hook's exit code, a part of its line, what is called, a part of what it says.
type Row<'a> = (&'a str, String, i32, &'a str, &'a [&'a str], &'a str);

#[test]
fn every_version_that_is_read_has_its_fixture_and_every_fixture_is_read() {
    let mut expected = BTreeSet::from(["events.jsonl", "formats-1.json", "spool-1.jsonl"].map(str::to_owned));
    for format in Format::ALL {
        for version in format.versions() {
            let name = format!("{}-{version}.json", format.name());
            let text = fixture(&name);
            assert_eq!(text.starts_with(&format!("{{\"v\":{version},")), version > 0, "{text}");
            expected.insert(name);
        }
    }
    let entries = fs::read_dir(FOLDER).unwrap();
    let there: BTreeSet<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(there, expected);
}

#[test]
fn both_programs_read_files_of_this_release_and_the_one_before_and_refuse_those_to_come() {
    if !needs::can_run("both_programs_read_files_of_this_release_and_the_one_before", &[]) {
        return;
    }
    let newer = "format version 2 is newer than 1, the newest that this program reads";
    let show: &[&str] = &["policy", "show", "--namespace", "shop"];
    let rows: [Row<'_>; 8] = [
        (NAMESPACE, fixture("namespace-0.json"), 0, "", show, "baseline:v1.30"),
        (NAMESPACE, fixture("namespace-1.json"), 0, "", show, "baseline:v1.30"),
        (NAMESPACE, to_come(&fixture("namespace-1.json")), 2, newer, show, newer),
        (
            NAMESPACE,
            fixture("namespace-1.json").replace(":1,", ":\"1\","),
            2,
            "invalid type: string",
            show,
            "string",
        ),
        (MODE, mode("mode-0.json"), 0, "", &["mode"], "alice (login uid 1000), uid 0"),
        (MODE, mode("mode-1.json"), 0, "", &["mode"], "alice (login uid 1000), uid 0"),
        // As if it were not there: the policy's mode is in force.
        (MODE, to_come(&mode("mode-1.json")), 30, "violates", &["mode"], newer),
        (MODE, mode("mode-1.json").replace(":1,", ":1.5,"), 30, "violates", &["mode"], "ignored"),
    ];
    for (file, text, code, line, called, says) in rows {
        let node = Node::refusing();
        node.file(file, &text);
        let (found, stderr) = hook(&node);
        assert!(found == Some(code) && stderr.contains(line), "{text}: {found:?} {stderr}");
        let done = node.call(called);
        assert!(format!("{}{}", done.stdout, done.stderr).contains(says), "{text}: {done}");
        let ignored = node.events().iter().any(|event| {
            let message = event["MESSAGE"].as_str().unwrap();
            message.contains("; the temporary mode is ignored: ") && message.contains(&file[..8])
        });
        assert_eq!(ignored, code == 30, "{text}: {:?}", node.events());
        // In audit mode nothing is stopped, and a fault is logged.
        if code == 2 {
            node.policy("mode = 'audit'\n[defaults]\nenforce = 'restricted'\n");
            assert_eq!(hook(&node).0, Some(0), "{text}");
            let event = node.events().pop().unwrap();
            assert!(
                event["PSS_DECISION"] == "fault" && event["MESSAGE"].to_string().contains(line),
                "{event}"
            );
        }
    }
}

/// Facts of a pod that the gate does not know to read are none: whatever they say, it goes on without them.
#[test]
fn facts_of_a_pod_are_read_in_every_version_and_count_in_none_to_come() {
    if !needs::can_run("facts_of_a_pod_are_read_in_every_version", &[]) {
        return;
    }
    let host = |text: String| text.replace("\"spec\":{", "\"spec\":{\"hostNetwork\":true,");
    for (text, code, line) in [
        (host(fixture("pod-1.json")), 13, "host namespaces"),
        (to_come(&host(fixture("pod-1.json"))), 0, "has the format version 2, and this program reads 1 to 1"),
    ] {
        let node = Node::new("mode = 'enforce'\n[defaults]\nenforce = 'restricted'\n");
        node.file(POD, &text);
        assert_eq!(hook(&node).0, Some(code), "{text}");
        let event = node.events().pop().unwrap();
        assert!(event["MESSAGE"].as_str().unwrap().contains(line), "{event}");
        // And the tool puts what it reads in its place, to the byte.
        let mut pod: Value = serde_json::from_str(&fixture("pod-1.json")).unwrap();
        pod["spec"]["nodeName"] = "n1".into();
        let owner = json!([{"kind": "StatefulSet", "name": "web", "controller": true}]);
        pod["metadata"] =
            json!({"uid": pod["uid"], "namespace": "shop", "name": "web", "ownerReferences": owner});
        pod["kind"] = "Pod".into();
        let done = feed(&mut node.command(&["pods", "import"]), pod.to_string().as_bytes());
        assert!(done.status.success(), "{done:?}");
        for folder in ["run", "var/lib"] {
            let path = node.path(&POD.replace("run", folder));
            assert_eq!(fs::read_to_string(path).unwrap(), fixture("pod-1.json"));
        }
        assert_eq!(hook(&node).0, Some(0));
    }
}

#[test]
fn the_clusters_version_is_read_in_every_version_and_counts_in_none_to_come() {
    if !needs::can_run("the_clusters_version_is_read_in_every_version", &[]) {
        return;
    }
    let node = Node::refusing();
    let version = r#"{"major":"1","minor":"36","gitVersion":"v1.36.1"}"#;
    let done = feed(&mut node.command(&["cluster", "import"]), version.as_bytes());
    assert!(done.status.success() && done.stdout == b"the cluster is v1.36\n", "{done:?}");
    for folder in ["run", "var/lib"] {
        let path = node.path(&CLUSTER.replace("run", folder));
        assert_eq!(fs::read_to_string(path).unwrap(), fixture("cluster-1.json"));
    }
    for (text, latest, says) in [
        (fixture("cluster-1.json"), "latest   v1.36, the cluster's version (", ""),
        (
            to_come(&fixture("cluster-1.json")),
            "latest   v1.37, the newest version known; the cluster's does not count: parse ",
            "; the cluster's version does not count: parse ",
        ),
    ] {
        node.file(CLUSTER, &text);
        assert_eq!(hook(&node).0, Some(30), "{text}");
        let event = node.events().pop().unwrap();
        let message = event["MESSAGE"].as_str().unwrap();
        let fault = "it has the format version 2, and this program reads 1 to 1";
        assert_eq!(message.contains(fault), !says.is_empty(), "{event}");
        assert!(message.contains(says), "{event}");
        let done = node.call(&["policy", "show", "--namespace", "shop"]);
        assert!(done.stdout.contains(latest), "{text}: {done}");
    }
}

#[test]
fn the_tool_writes_the_highest_version_that_the_gate_reads() {
    if !needs::can_run("the_tool_writes_the_highest_version_that_the_gate_reads", &[]) {
        return;
    }
    let reads = |oldest: u32, newest: u32| {
        format!(
            "{{\"v\":1,\"reads\":{{\"mode\":[{oldest},{newest}],\"namespace\":[{oldest},{newest}],\"x\":[3,4]}}}}"
        )
    };
    // (what the gate has published, the version that is written, `None` if nothing is)
    let rows = [
        ("of this release", fixture("formats-1.json"), Some(1)),
        ("of the release before", reads(0, 0), Some(0)),
        ("of the release to come", reads(1, 2), Some(1)),
        ("of a release that reads all", reads(0, 9), Some(1)),
        ("of a release far ahead", reads(2, 3), None),
        ("the wrong way round", reads(1, 0), None),
        ("another format of itself", reads(0, 1).replace("\"v\":1", "\"v\":2"), Some(0)),
        ("without these", "{\"v\":1,\"reads\":{}}".to_owned(), Some(0)),
        ("garbage", "garbage".to_owned(), Some(0)),
        ("empty", String::new(), Some(0)),
        ("huge", reads(0, 1) + &" ".repeat(17 << 10), Some(0)),
    ];
    for (what, text, version) in rows {
        let node = Node::refusing();
        node.file(FORMATS, &text);
        assert_written(what, &node, version);
    }
    let damages: [(&str, Lay); 5] = [
        ("nothing", |_| None),
        ("somebody's", |node| {
            let path = node.file(FORMATS, &fixture("formats-1.json"));
            chown(&path, Some(1000), None).unwrap();
            Some(path)
        }),
        ("open", |node| {
            let path = node.file(FORMATS, &fixture("formats-1.json"));
            fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
            Some(path)
        }),
        ("a link", |node| {
            let path = node.file(FORMATS, &fixture("formats-1.json"));
            fs::rename(&path, path.with_extension("real")).unwrap();
            symlink("formats.real", &path).unwrap();
            Some(path)
        }),
        ("a FIFO", |node| {
            let path = node.file(FORMATS, "");
            fs::remove_file(&path).unwrap();
            run::run(Command::new("mkfifo").arg(&path)).expect_success();
            Some(path)
        }),
    ];
    for (what, lay) in damages {
        let node = Node::refusing();
        let path = lay(&node);
        assert_written(what, &node, Some(0));
        // The gate puts its own in place of whatever is there, and then the tool writes for this gate.
        publish(&node).expect_success();
        let path = path.unwrap_or_else(|| node.path(FORMATS));
        assert_eq!(fs::read_to_string(&path).unwrap(), fixture("formats-1.json"), "{what}");
        let metadata = fs::symlink_metadata(&path).unwrap();
        assert!(metadata.is_file() && metadata.permissions().mode() & 0o7777 == 0o644, "{what}");
        assert_written(what, &node, Some(1));
    }
}

fn publish(node: &Node) -> Done {
    run::run(Command::new(program::gate()).arg("publish-formats").arg("--root").arg(node.root()))
}

/// What the tool writes is of this version to the byte, for this boot and for the next, and the gate reads it.
fn assert_written(what: &str, node: &Node, version: Option<u32>) {
    let _ = fs::remove_file(node.path(MODE));
    let imported = import(node);
    let changed = node.call(&["mode", "audit", "--for", "1h"]);
    let Some(version) = version else {
        for (code, stderr) in [imported, (changed.code, changed.stderr)] {
            let says = stderr.contains("this node's gate reads versions ")
                && stderr.contains(", and this program writes 0 to 1; upgrade the older of the two");
            assert!(code != Some(0) && says, "{what}: {code:?} {stderr}");
        }
        assert!(!node.path(NAMESPACE).exists() && !node.path(MODE).exists(), "{what}");
        return;
    };
    assert_eq!(imported.0, Some(0), "{what}: {}", imported.1);
    changed.expect_success();
    for path in [NAMESPACE, "var/lib/pss-guard/namespaces/shop.json"] {
        let expected = fixture(&format!("namespace-{version}.json"));
        assert_eq!(fs::read_to_string(node.path(path)).unwrap(), expected, "{what}: {path}");
    }
    let written = fs::read_to_string(node.path(MODE)).unwrap();
    let keys = |text: &str| -> Vec<String> {
        let text = text.replace("SINCE", "1").replace("UNTIL", "2");
        let object: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        object.as_object().unwrap().keys().cloned().collect()
    };
    let expected = fixture(&format!("mode-{version}.json"));
    assert_eq!(keys(&written), keys(&expected), "{what}");
    assert_eq!(written.starts_with("{\"v\":1,"), version == 1, "{what}: {written}");
    assert_eq!(hook(node), (Some(0), String::new()), "{what}");
    fs::remove_file(node.path(MODE)).unwrap();
    assert_eq!(hook(node), (Some(0), String::new()), "{what}: baseline allows it");
}

#[test]
fn a_gate_that_cannot_publish_says_so() {
    let node = Node::new("");
    node.file("run/pss-guard", "in the way");
    let done = publish(&node);
    assert_eq!(done.code, Some(2), "{done}");
    assert!(done.stderr.starts_with("pss-guard-gate: write ") && done.stderr.lines().count() == 1, "{done}");
    for wrong in [&["publish-format"][..], &["publish-formats", "--root"], &["publish-formats", "/x"]] {
        let done = run::run(Command::new(program::gate()).args(wrong));
        assert!(done.code == Some(2) && done.stderr.contains("engines call this program"), "{done}");
    }
}

/// Events have no version: fields are added, and what means something else has another message id.
#[test]
fn events_of_the_release_before_and_to_come_are_read_as_far_as_they_are_known() {
    if !needs::can_run("events_of_the_release_before_and_to_come_are_read", &[]) {
        return;
    }
    let node = Node::new("");
    node.file("var/log/pss-guard/decisions.jsonl", &fixture("events.jsonl"));
    let mut found = Vec::new();
    let since = From::Since(SystemTime::UNIX_EPOCH);
    events::read(&Paths::under(node.root()), &since, &mut |record| {
        found.push((record.kind.unwrap().name(), record.namespace, record.controls));
    });
    assert_eq!(found, vec![("denied", "shop".to_owned(), "runAsUser".to_owned()); 2]);

    // The spool has the same lines, behind its own first one.
    node.file("run/pss-guard/events/events.jsonl", &fixture("spool-1.jsonl"));
    let mut lines = Vec::new();
    let folder = node.path("run/pss-guard/events");
    let read = spool::read(&folder, spool::Position::default(), &mut |line| lines.push(line.to_vec()));
    assert_eq!((lines.len(), read.unwrap().lost), (3, 700));
    assert_eq!(lines.join(&b'\n'), fixture("events.jsonl").trim_end().as_bytes());
}
