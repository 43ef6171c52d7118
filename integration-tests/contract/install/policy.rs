//! What has the policy to do with it?

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::{CONTAINERD, CRIO, Host};
use crate::support::{files, needs};

/// A denial for missing knowledge needs a method that sees sandboxes, and everybody who could notice says so.
#[test]
fn what_the_method_cannot_keep_is_refused_by_all_who_look_at_the_policy() {
    if !needs::can_run("what_the_method_cannot_keep_is_refused_by_all_who_look_at_the_policy", &[]) {
        return;
    }
    let policy = |root: &Host, text: &str| {
        files::write(&root.path("etc/pss-guard/policy.toml"), text);
        fs::set_permissions(root.path("etc/pss-guard/policy.toml"), fs::Permissions::from_mode(0o644))
            .expect("a mode");
    };
    let (namespaces, facts) = ("on-unknown-namespace", "on-missing-facts");
    let rows = [
        (namespaces, "crio", "hook", true),
        (namespaces, "crio", "runtime", true),
        (facts, "crio", "hook", true),
        (facts, "containerd", "hook", true),
        (namespaces, "containerd", "runtime", false),
        (facts, "containerd", "runtime", false),
    ];
    for (setting, engine, method, refused) in rows {
        let root = Host::new(if engine == "crio" { CRIO } else { CONTAINERD });
        root.program(engine);
        let deny = format!("{setting} = \"deny\"\n");
        let name = if engine == "crio" { "cri-o" } else { engine };
        let reason = format!("{setting} = \"deny\" does not work on {name} with the {method} method");
        let install = ["install", "--engine", engine, "--method", method];
        policy(&root, &deny);
        if !refused {
            root.call(&install).expect_success();
            root.call(&["policy", "check"]).expect_success();
            continue;
        }
        let before = root.tree();
        for arguments in [&install[..], &[&install[..], &["--dry-run"]].concat()] {
            let done = root.call(arguments);
            assert!(done.code == Some(2) && done.stderr.contains(&reason), "{done}");
            assert_eq!(root.tree(), before, "{done}");
        }
        root.call(&["policy", "check"]).expect_success();
        // Its hook needs a containerd that answers.
        if engine == "containerd" {
            continue;
        }
        policy(&root, "");
        root.call(&install).expect_success();
        policy(&root, &deny);
        for arguments in
            [&["policy", "check"][..], &["mode", "enforce", "--yes"], &["mode", "enforce", "--for", "1h"]]
        {
            let done = root.call(arguments);
            assert!(done.code == Some(2) && done.stderr.contains(&reason), "{done}");
        }
        let done = root.call(&["status"]);
        // Wrapped as a terminal has it.
        let said = done.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(done.code == Some(1) && said.contains(&reason), "{done}");
    }
}

/// With a policy that cannot be used, enforce mode refuses nearly everything; the gate does not come before that is
/// mended.
#[test]
fn a_policy_that_cannot_be_used_is_mended_before_the_gate_comes() {
    if !needs::can_run("a_policy_that_cannot_be_used_is_mended_before_the_gate_comes", &[]) {
        return;
    }
    let root = Host::new(CRIO);
    files::write(&root.path("etc/pss-guard/policy.toml"), "mode = \"enforce\"\n");
    let install = ["install", "--engine", "crio"];
    let folder = root.path("etc/pss-guard");
    for (text, mode, expected) in [
        ("modee = 1\n", 0o755, "unknown key \"modee\""),
        ("mode = \"enforce\"\n", 0o777, "etc/pss-guard must be writable by root alone"),
    ] {
        files::write(&root.path("etc/pss-guard/policy.toml"), text);
        fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).expect("a mode");
        let before = root.tree();
        let done = root.call(&install);
        assert!(done.code == Some(2) && done.stderr.contains(expected), "{done}");
        assert_eq!(root.tree(), before, "{done}");
    }
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("a mode");
    root.call(&install).expect_success();
}

/// What came of the installer's own probes is in no report, no metric and no question; what calls itself a probe is.
#[test]
fn the_probes_of_an_installation_count_nowhere_and_nothing_else_can_pass_for_one() {
    let root = Host::new(CONTAINERD);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock");
    let at = u64::try_from(now.as_micros()).expect("a time") - 60_000_000;
    let event = |pod: &str, uid: &str, at: u64| {
        format!(
            "{{\"__REALTIME_TIMESTAMP\":\"{at}\",\"MESSAGE_ID\":\"59f78bbb8c304038b9583a3e361c18d7\",\"MESSAGE\":\"would \
             violate\",\"PSS_DECISION\":\"would-deny\",\"PSS_MODE\":\"audit\",\"PSS_LEVEL\":\"baseline\",\"PSS_ENGINE\":\
             \"containerd\",\"PSS_CONTROLS\":\"privileged\",\"PSS_NAMESPACE\":\"pss-guard-probe\",\"PSS_POD\":\"{pod}\",\
             \"PSS_POD_UID\":\"{uid}\",\"PSS_CONTAINER\":\"probe\",\"PSS_CONTAINER_ID\":\"{pod}-{uid}-{at}\"}}\n"
        )
    };
    let line = |at: u64, ended: bool| {
        format!(
            "{{\"at\":{at},\"ended\":{ended},\"engine\":\"containerd\",\"namespace\":\"pss-guard-probe\",\"pod\":\"of-ours\",\
             \"pod_uid\":\"1234\"}}\n"
        )
    };
    let second = 1_000_000;
    // The probe itself; then a pod of the same name, one of the same UID, and the name and UID of a probe that is long gone.
    let events = [
        event("of-ours", "1234", at + second),
        event("of-ours", "5678", at + second),
        event("of-others", "1234", at + second),
        event("of-ours", "1234", at + 40 * second),
    ];
    files::write(&root.path("var/log/pss-guard/decisions.jsonl"), &events.concat());
    let counted = |root: &Host| {
        let metrics = root.call(&["metrics"]).expect_success().stdout;
        let series = "violations_total{namespace=\"pss-guard-probe\"";
        let line = metrics.lines().find(|line| line.contains(series)).unwrap_or_default();
        line.rsplit(' ').next().unwrap_or_default().to_owned()
    };
    let starts = |root: &Host| {
        let report = root.call(&["report", "--no-scan", "--format", "json"]).expect_success().stdout;
        let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
        report["starts"].as_u64().unwrap_or_default()
    };
    let without = root.copy();
    assert_eq!((counted(&without).as_str(), starts(&without)), ("4", 4), "nobody wrote a probe down");
    let probes = root.path("var/log/pss-guard/probes.jsonl");
    files::write(&probes, &(line(at, false) + &line(at + 2 * second, true)));
    let open = root.copy();
    fs::set_permissions(open.path("var/log/pss-guard/probes.jsonl"), fs::Permissions::from_mode(0o666))
        .expect("a mode");
    assert_eq!((counted(&open).as_str(), starts(&open)), ("4", 4), "everybody could have written it down");
    assert_eq!((counted(&root).as_str(), starts(&root)), ("3", 3));
    let question = root.call(&["mode", "enforce"]);
    let asked = format!("{}{}", question.stdout, question.stderr);
    assert!(asked.contains("3 starts"), "{question}");
    fs::write(root.path("var/log/pss-guard/decisions.jsonl"), &events[0]).expect("a file of ours");
    let question = root.call(&["mode", "enforce"]);
    assert!(!format!("{}{}", question.stdout, question.stderr).contains("of-ours"), "{question}");
}
