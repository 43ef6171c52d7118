//! Are the reports for a cluster what its API takes, and do they say what the scan says?

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::captured::{Captured, config, sandbox, scan_command, small};
use crate::support::{files, run};

/// What both APIs take, of all that they have: wgpolicyk8s.io/v1alpha2 (`PolicyReport`) without the top-level `source`, and
/// openreports.io/v1alpha1 (`Report`).
const SCHEMA: &str = include_str!("../fixtures/reports.json");

const APIS: [(&str, &str, &str, &str); 2] = [
    ("policyreport", "wgpolicyk8s.io/v1alpha2", "PolicyReport", "ClusterPolicyReport"),
    ("openreports", "openreports.io/v1alpha1", "Report", "ClusterReport"),
];

fn reports(node: &Captured, format: &str, arguments: &[&str]) -> Vec<Value> {
    let done = run::run(scan_command(node.root(), &["--format", format]).args(arguments));
    let list: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}\n{done}"));
    assert_eq!((&list["apiVersion"], &list["kind"]), (&json!("v1"), &json!("List")));
    list["items"].as_array().expect("items").clone()
}

/// Every field is known, of its type, and one of the words that are taken.
fn holds(schema: &Value, value: &Value, path: &str) {
    let is = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_u64(),
        Some("boolean") => value.is_boolean(),
        other => panic!("{path}: type {other:?}"),
    };
    assert!(is, "{path} is {value}");
    if let Some(words) = schema["enum"].as_array() {
        assert!(words.contains(value), "{path} is {value}");
    }
    for required in schema["required"].as_array().into_iter().flatten() {
        assert!(value.get(required.as_str().expect("a name")).is_some(), "{path} has no {required}");
    }
    for item in value.as_array().into_iter().flatten() {
        holds(&schema["items"], item, path);
    }
    for (name, own) in value.as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        match (&schema["properties"][name], &schema["additionalProperties"]) {
            (Value::Null, Value::Null) if schema.get("properties").is_some() => panic!("{path} is no field"),
            (Value::Null, Value::Null) => {}
            (Value::Null, every) => holds(every, own, &path),
            (known, _) => holds(known, own, &path),
        }
    }
}

#[test]
fn reports_are_what_the_apis_take() {
    let schema: Value = serde_json::from_str(SCHEMA).expect("JSON");
    let node = small();
    // What no object of a cluster can be called.
    node.lay("containerd", "66", &config("Not A Name", "<script>", "app", false));
    files::write(&node.bundle("containerd", "99").join("config.json"), "{");
    files::write(&node.root().join("etc/hostname"), "Node_1..example.\n");
    for (format, api_version, kind, of_the_cluster) in APIS {
        let mut names = Vec::new();
        for report in reports(&node, format, &["--level", "restricted"]) {
            holds(&schema, &report, "");
            assert_eq!(report["apiVersion"], api_version);
            assert_eq!(
                report.get("source").is_some(),
                format == "openreports",
                "wgpolicyk8s.io has no such field"
            );
            let namespace = report["metadata"]["namespace"].as_str();
            assert_eq!(report["kind"], if namespace.is_some() { kind } else { of_the_cluster });
            assert_eq!(report["metadata"]["name"], "pss-guard-node-1-example");
            names.push(namespace.unwrap_or("").to_owned());
            let mut counted: BTreeMap<&str, u64> = BTreeMap::new();
            for result in report["results"].as_array().expect("results") {
                *counted.entry(result["result"].as_str().expect("a result")).or_default() += 1;
                for resource in result["resources"].as_array().into_iter().flatten() {
                    assert_eq!(resource["kind"], "Pod");
                    assert!(namespace.is_none() || resource["namespace"].as_str() == namespace, "{resource}");
                }
            }
            for (word, count) in report["summary"].as_object().expect("a summary") {
                assert_eq!(count.as_u64(), Some(counted.get(word.as_str()).copied().unwrap_or(0)), "{word}");
            }
        }
        assert_eq!(names, ["", "kube-system", "ops", "shop"]);
    }
}

/// What is said of one control of one container.
fn result(node: &Captured, arguments: &[&str], container: &str, rule: &str) -> Vec<String> {
    let reports = reports(node, "policyreport", arguments);
    let results = reports.iter().flat_map(|report| report["results"].as_array().expect("results"));
    let of = |result: &&Value| {
        result["properties"]["container"] == container && (rule.is_empty() || result["rule"] == rule)
    };
    results.filter(of).map(|result| result["result"].as_str().expect("a result").to_owned()).collect()
}

#[test]
fn a_result_says_no_more_than_the_scan_can_know() {
    let node = small();
    let restricted = ["--level", "restricted"];
    let own: [&str; 0] = [];
    for (container, rule, arguments, expected, why) in [
        ("app", "readOnlyRootFilesystem", &restricted[..], vec!["pass"], "it was looked at"),
        ("logger", "readOnlyRootFilesystem", &restricted, vec!["fail"], "it violates it"),
        ("app", "windowsHostProcess", &restricted, vec!["skip"], "no node can see that: it is not passed"),
        ("app", "restrictedVolumes", &restricted, vec!["skip"], "volumes that are not mounted are not seen"),
        ("app", "hostPathVolumes", &restricted, vec![], "restrictedVolumes stands for it at this level"),
        ("agent", "hostNamespaces", &restricted, vec!["fail"], "the container's own"),
        ("(sandbox)", "runAsNonRoot", &restricted, vec![], "the pause container's user is not the pod's"),
        ("proxy", "", &restricted, vec!["skip"], "its namespace is exempt"),
        ("app", "", &own, vec!["skip"], "its own level is privileged, which requires nothing"),
        ("app", "runAsNonRoot", &["--level", "baseline"], vec![], "baseline does not ask for it"),
    ] {
        assert_eq!(result(&node, arguments, container, rule), expected, "{container} {rule}: {why}");
    }
    let suspect = Captured::new();
    let mut root = config("shop", "web-0", "app", true);
    root["process"]["user"]["uid"] = json!(0);
    suspect.lay("containerd", "01", &root);
    suspect.lay("containerd", "sandbox-of-web-0", &sandbox("shop", "web-0", false));
    assert_eq!(result(&suspect, &restricted, "app", "runAsUser"), ["warn"], "uid 0 can be the image's");
    for (setting, expected) in [("\"audit\"", vec!["warn"]), ("\"off\"", vec![])] {
        let policy = format!("[controls]\nreadOnlyRootFilesystem = {setting}\n");
        files::write(&node.root().join("etc/pss-guard/policy.toml"), &policy);
        let said = result(&node, &restricted, "logger", "readOnlyRootFilesystem");
        assert_eq!(said, expected, "readOnlyRootFilesystem = {setting}");
    }
    assert_eq!(
        result(&node, &restricted, "app", "readOnlyRootFilesystem"),
        Vec::<String>::new(),
        "what is switched off is not passed"
    );
    let excepted = "[[exceptions]]\nnamespace = \"shop\"\ncontainer = \"logger\"\ncontrols = [\"readOnlyRootFilesystem\"]\nreason = \"logs\"\nexpires = 9999-12-31\n";
    files::write(&node.root().join("etc/pss-guard/policy.toml"), excepted);
    assert_eq!(
        result(&node, &restricted, "logger", "readOnlyRootFilesystem"),
        ["skip"],
        "an exception covers it"
    );
}

/// Upstream's policy does not ask for it, so it is no result of that.
#[test]
fn our_own_control_is_a_policy_of_its_own() {
    let node = small();
    for format in ["policyreport", "openreports"] {
        let reports = reports(&node, format, &["--level", "restricted"]);
        let results = reports.iter().flat_map(|report| report["results"].as_array().expect("results"));
        let mut seen = [0, 0];
        for result in results.filter(|result| result["result"] == "fail") {
            let ours = result["rule"] == "readOnlyRootFilesystem";
            seen[usize::from(ours)] += 1;
            assert_eq!(result["policy"] == "pss-guard", ours, "{result}");
            assert_eq!(result["category"] == "Pod Security Standards", !ours, "{result}");
            assert_eq!(
                result["message"].as_str().unwrap_or_default().ends_with(" [pss-guard]"),
                ours,
                "{result}"
            );
            assert_eq!(result["scored"], !ours, "{result}");
        }
        assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
    }
}

#[test]
fn a_namespace_of_many_containers_is_several_objects() {
    let node = Captured::new();
    for index in 0..150 {
        node.lay(
            "containerd",
            &format!("{index:064x}"),
            &config("shop", &format!("web-{index}"), "app", false),
        );
    }
    let reports = reports(&node, "openreports", &["--level", "restricted"]);
    assert!(reports.len() > 2, "{}", reports.len());
    let names: std::collections::BTreeSet<&str> =
        reports.iter().map(|report| report["metadata"]["name"].as_str().expect("a name")).collect();
    assert_eq!(names.len(), reports.len(), "each has a name of its own: {names:?}");
    // kubectl keeps the whole object in one annotation, and 256 KiB is the most for all of them.
    assert!(reports.iter().all(|report| report.to_string().len() < 250_000));
    let all: usize = reports.iter().map(|report| report["results"].as_array().expect("results").len()).sum();
    assert_eq!(all % 150, 0, "and none of the results is lost: {all}");
}
