//! What does `check` print, and with which exit code does it end?

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::program;
use crate::support::run::{self, Done};

/// On a node that never had a policy.
fn check(arguments: &[&str], paths: &[&Path]) -> Done {
    let root = tempfile::tempdir().unwrap();
    let mut check = Command::new(program::binary());
    if !arguments.contains(&"--root") {
        check.arg("--root").arg(root.path());
    }
    run::run(check.arg("check").args(arguments).args(paths))
}

fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("integration-tests/corpus/containerd-2.1").join(name)
}

/// Runs as root, and nothing else; refused at restricted.
const ROOT: &str = "seed-1-runs-as-root";

#[test]
fn the_exit_code_is_that_of_the_worst_container() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let empty = dir.path().join("case");
    fs::create_dir_all(empty.join("containers")).unwrap();
    let bare = dir.path().join("bare");
    fs::create_dir(&bare).unwrap();
    // As /etc: what is in its `containers` is another program's.
    let others = dir.path().join("others");
    fs::create_dir_all(others.join("containers/registries.conf.d")).unwrap();
    fs::write(others.join("containers/policy.json"), "{}").unwrap();
    let garbage = dir.path().join("garbage.json");
    fs::write(&garbage, "garbage").unwrap();
    let good = case(ROOT);
    let bundle = good.join("containers/api");
    let file = bundle.join("config.json");
    // (level, paths, exit code, a part of what is printed)
    let rows: &[(&str, &[&Path], i32, &str)] = &[
        ("baseline", &[&good], 0, "allow        corpus/seed-1-runs-as-root/api"),
        ("baseline", &[&bundle], 0, "allow "),
        ("baseline", &[&file], 0, "allow "),
        ("restricted", &[&good], 1, "deny "),
        ("restricted", &[&good, &file], 1, "0 allowed, 2 refused, 0 could not be judged"),
        ("restricted", &[&good, &missing], 2, "0 allowed, 1 refused, 1 could not be judged"),
        ("baseline", &[&missing, &good], 2, "1 allowed, 0 refused, 1 could not be judged"),
        ("baseline", &[&missing], 2, "missing: No such file"),
        ("baseline", &[&empty], 2, "there is no container in this folder"),
        ("baseline", &[&bare], 2, "bare: there is no manifest"),
        ("baseline", &[&others], 2, "others: there is no manifest"),
        ("baseline", &[&garbage], 2, "as an OCI runtime spec"),
    ];
    for (level, paths, code, part) in rows {
        let done = check(&["--level", level], paths);
        assert_eq!(done.code, Some(*code), "{done}");
        assert!(done.stdout.contains(part), "should say {part:?}\n{done}");
        // Every format ends alike, and says something of every path.
        for format in ["json", "sarif", "junit"] {
            let done = check(&["--level", level, "--format", format], paths);
            assert_eq!(done.code, Some(*code), "{done}");
        }
        let json = check(&["--level", level, "--format", "json"], paths);
        assert_eq!(json.stdout.lines().count(), paths.len(), "{json}");
    }
}

#[test]
fn a_file_from_elsewhere_is_not_held_against_this_node() {
    let dir = tempfile::tempdir().unwrap();
    let mut spec: Value =
        serde_json::from_str(&fs::read_to_string(case(ROOT).join("containers/api/config.json")).unwrap())
            .unwrap();
    for namespace in spec["linux"]["namespaces"].as_array_mut().unwrap() {
        // On the node that it is from this was the pod's network; here it is the host's.
        if namespace["type"] == "network" {
            namespace["path"] = "/proc/self/ns/net".into();
        }
    }
    fs::write(dir.path().join("config.json"), spec.to_string()).unwrap();
    let done = check(&["--level", "baseline"], &[dir.path()]);
    assert_eq!(done.code, Some(0), "{done}");
    let unseen = done.stdout.lines().find(|line| line.starts_with("  not seen")).unwrap();
    assert!(unseen.contains("hostNamespaces"), "{done}");
}

#[test]
fn json_has_the_documented_keys_in_their_order() {
    let done = check(&["--level", "restricted:v1.24", "--format", "json"], &[&case(ROOT)]);
    let line = done.stdout.trim_end();
    let start = r#"{"container":{"engine":"containerd","namespace":"corpus","pod":"seed-1-runs-as-root","name":"api","id":""#;
    assert!(line.starts_with(start), "{done}");
    let object: Value = serde_json::from_str(line).unwrap();
    let positions: Vec<usize> =
        ["\"container\":", "\"level\":", "\"version\":", "\"verdict\":", "\"because\":", "\"findings\":"]
            .iter()
            .map(|key| line.find(key).unwrap())
            .collect();
    assert!(positions.is_sorted(), "{line}");
    assert_eq!((&object["level"], &object["version"]), (&"restricted".into(), &"v1.24".into()));
    assert_eq!((&object["verdict"], &object["because"]), (&"deny".into(), &"level from --level".into()));
    let findings = object["findings"].as_array().unwrap();
    for finding in findings {
        let keys: BTreeSet<&str> = finding.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, BTreeSet::from(["certainty", "control", "detail", "fix", "origin", "reason"]));
        let ours = finding["control"] == "readOnlyRootFilesystem";
        assert_eq!(finding["origin"], if ours { "pss-guard" } else { "upstream" });
    }
    assert!(findings.iter().any(|finding| finding["origin"] == "pss-guard"), "{line}");
}

#[test]
fn text_has_the_verdict_the_violations_their_fix_and_what_nobody_sees() {
    let path = case(ROOT);
    let done = check(&["--level", "restricted"], &[&path]);
    let lines: Vec<&str> = done.stdout.lines().collect();
    assert_eq!(lines[0], "deny         corpus/seed-1-runs-as-root/api");
    assert_eq!(lines[1], format!("  file       {}", path.join("containers/api").display()));
    assert_eq!(
        lines[2..9],
        [
            "  level      restricted:latest, level from --level",
            "  violates   allowPrivilegeEscalation: allowPrivilegeEscalation != false (container \"api\" must set \
             securityContext.allowPrivilegeEscalation=false)",
            "             | spec:",
            "             |   containers:",
            "             |   - name: api",
            "             |     securityContext:",
            "             |       allowPrivilegeEscalation: false",
        ]
    );
    assert!(
        done.stdout.contains("  violates   readOnlyRootFilesystem [pss-guard's own control]: "),
        "{done}"
    );
    assert!(done.stdout.contains("  suspect    runAsUser: "), "{done}");
    assert!(lines.last().unwrap().starts_with("  not seen   appArmorProfile, "), "{done}");
}

#[test]
fn what_the_policy_only_reports_is_marked_and_refuses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let policy = dir.path().join("policy.toml");
    let text = "[defaults]\nenforce = 'restricted'\n[controls]\nreadOnlyRootFilesystem = 'audit'\n\
                [[exceptions]]\nnamespace = 'corpus'\nreason = 'r'\nexpires = 2999-01-01\ncontrols = \
                ['allowPrivilegeEscalation', 'capabilities_restricted', 'runAsNonRoot', 'seccompProfile_restricted']\n";
    fs::write(&policy, text).unwrap();
    let run = |format: &str| {
        let done = check(&["--policy", policy.to_str().unwrap(), "--format", format], &[&case(ROOT)]);
        assert_eq!(done.code, Some(0), "{done}");
        done.stdout
    };
    assert!(run("text").contains("reported only"), "{}", run("text"));
    let object: Value = serde_json::from_str(&run("json")).unwrap();
    for finding in object["findings"].as_array().unwrap() {
        let ours = finding["control"] == "readOnlyRootFilesystem";
        assert_eq!(finding.get("reported").is_some_and(|value| value == true), ours, "{finding}");
    }
    let log: Value = serde_json::from_str(&run("sarif")).unwrap();
    let results = log["runs"][0]["results"].as_array().unwrap();
    let ours = results.iter().find(|result| result["ruleId"] == "readOnlyRootFilesystem").unwrap();
    assert_eq!((&ours["kind"], &ours["level"]), (&"fail".into(), &"warning".into()), "{ours}");
}

#[test]
fn what_is_neither_a_manifest_nor_a_container_is_named_so() {
    let dir = tempfile::tempdir().unwrap();
    let notes = dir.path().join("notes.txt");
    fs::write(&notes, "kind: regards\n").unwrap();
    let done = check(&[], &[&notes]);
    assert!(done.code == Some(2) && done.stdout.contains("as an OCI runtime spec"), "{done}");
}

#[test]
fn what_is_exempt_is_a_verdict_of_its_own_in_every_format() {
    let dir = tempfile::tempdir().unwrap();
    let policy = dir.path().join("policy.toml");
    fs::write(&policy, "[defaults]\nenforce = 'restricted'\n[exemptions]\nnamespaces = ['corpus']\n")
        .unwrap();
    let other = dir.path().join("other.toml");
    fs::write(&other, "[defaults]\nenforce = 'privileged'\n[exemptions]\nnamespaces = ['kube-system']\n")
        .unwrap();
    let path = case(ROOT);
    for (policy, verdict) in [(&policy, "exempt"), (&other, "allow")] {
        let run = |format: &str, paths: &[&Path]| {
            let done = check(&["--policy", policy.to_str().unwrap(), "--format", format], paths);
            assert_eq!(done.code, Some(0), "{done}");
            done.stdout
        };
        let text = run("text", &[&path, &path]);
        assert!(text.starts_with(&format!("{verdict:<12} corpus/")), "{text}");
        assert_eq!(
            text.contains("0 allowed, 2 exempt, 0 refused, 0 could not be judged"),
            verdict == "exempt",
            "{text}"
        );
        let object: Value = serde_json::from_str(&run("json", &[&path])).unwrap();
        assert_eq!(object["verdict"], verdict, "{object}");
        let log: Value = serde_json::from_str(&run("sarif", &[&path])).unwrap();
        let invocation = &log["runs"][0]["invocations"][0];
        assert_eq!(invocation["executionSuccessful"], true, "{invocation}");
        let notes = invocation["toolExecutionNotifications"].as_array().unwrap();
        assert_eq!(notes.len(), usize::from(verdict == "exempt"), "{notes:?}");
        for note in notes {
            assert_eq!(
                (&note["level"], &note["message"]["text"]),
                (&"note".into(), &"exempt: namespace \"corpus\" is exempt".into())
            );
        }
    }
}

/// What the schema of SARIF 2.1.0 asks of the parts that are used.
#[test]
fn sarif_says_what_failed_what_is_open_what_is_excepted_and_what_was_not_judged() {
    let dir = tempfile::tempdir().unwrap();
    let policy = dir.path().join("policy.toml");
    let text = "[defaults]\nenforce = 'restricted'\n[[exceptions]]\nnamespace = 'corpus'\nreason = 'the reason'\n\
                controls = ['runAsNonRoot']\nexpires = 2999-01-01\n";
    fs::write(&policy, text).unwrap();
    let missing = dir.path().join("not here");
    let arguments = ["--policy", policy.to_str().unwrap(), "--format", "sarif"];
    let done = check(&arguments, &[&case(ROOT), &missing]);
    assert_eq!(done.code, Some(2), "{done}");
    let log: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(log["version"], "2.1.0");
    assert!(!done.stdout.contains("null"), "SARIF has no null\n{done}");
    let run = &log["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    let rules: BTreeSet<&str> = rules.iter().map(|rule| rule["id"].as_str().unwrap()).collect();
    let mut seen = BTreeSet::new();
    for result in run["results"].as_array().unwrap() {
        let rule = result["ruleId"].as_str().unwrap();
        assert!(rules.contains(rule), "{result}");
        let text = result["message"]["text"].as_str().unwrap();
        assert!(!text.is_empty(), "{result}");
        // What upstream does not ask for is marked, and not spoken of as upstream's level.
        let ours = rule == "readOnlyRootFilesystem";
        assert_eq!(text.ends_with(" [pss-guard]"), ours, "{result}");
        assert_eq!(result["properties"]["origin"], if ours { "pss-guard" } else { "upstream" }, "{result}");
        assert_eq!(result["properties"].get("podSecurity").is_none(), ours, "{result}");
        let certainty = result["properties"]["certainty"].as_str().unwrap();
        let (kind, level) = (result["kind"].as_str().unwrap(), result["level"].as_str().unwrap());
        // Only a failure has a level (3.27.10).
        let expected = match certainty {
            "violates" => ("fail", "error"),
            "suspect" => ("fail", "warning"),
            _ => ("open", "none"),
        };
        assert_eq!((kind, level), expected, "{result}");
        let suppressed = result.get("suppressions").is_some();
        assert_eq!(suppressed, rule == "runAsNonRoot", "{result}");
        if suppressed {
            assert_eq!(result["suppressions"][0]["kind"], "external");
            assert_eq!(result["suppressions"][0]["justification"], "the reason");
        }
        seen.insert(certainty);
    }
    assert_eq!(seen, BTreeSet::from(["suspect", "unseen", "violates"]));
    let invocation = &run["invocations"][0];
    assert_eq!(invocation["executionSuccessful"], false);
    let faults = invocation["toolExecutionNotifications"].as_array().unwrap();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!(faults[0]["level"], "error");
    let uri = faults[0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].as_str().unwrap();
    assert!(uri.ends_with("/not%20here"), "{uri}");
}

#[test]
fn a_namespace_that_may_not_be_unknown_cannot_be_judged() {
    let root = tempfile::tempdir().unwrap();
    let namespaces = root.path().join("run/pss-guard/namespaces");
    fs::create_dir_all(&namespaces).unwrap();
    fs::write(namespaces.join("default.json"), "{}").unwrap();
    let policy = root.path().join("policy.toml");
    fs::write(&policy, "on-unknown-namespace = 'deny'\n").unwrap();
    let [root, policy] = [root.path(), &policy].map(|path| path.to_str().unwrap());
    let done = check(&["--root", root, "--policy", policy, "--format", "sarif"], &[&case(ROOT)]);
    assert_eq!(done.code, Some(2), "{done}");
    let log: Value = serde_json::from_str(&done.stdout).unwrap();
    let run = &log["runs"][0]["invocations"][0];
    assert_eq!(run["executionSuccessful"], false);
    let said = run["toolExecutionNotifications"][0]["message"]["text"].as_str().unwrap_or_default();
    assert!(said.contains("namespace \"corpus\" is not known here"), "{done}");
}

#[test]
fn a_reader_that_went_away_is_no_failure_and_a_full_disk_is_one() {
    for arguments in ["explain", "man", "completions bash", "policy check", "policy show --unmanaged"] {
        let program = program::binary();
        let run = |to: &str| {
            let script = format!("\"$0\" --root /proc {arguments} {to}");
            run::run(Command::new("sh").args(["-c", &script]).arg(&program))
        };
        let full = run(">/dev/full");
        assert_eq!(full.code, Some(2), "{full}");
        assert!(full.stderr.contains("No space left on device"), "{full}");
        let closed = run("| true");
        assert!(closed.stderr.is_empty(), "{closed}");
    }
}
