//! Manifests: any text is documents or an error of one line that names a place in it. What was read means the same when it
//! is written as JSON and read again, and every workload in it gets a verdict or a reason why not.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pss_guard::decision::Verdict;
use pss_guard::documents::node::Node;
use pss_guard::documents::read::documents;
use pss_guard::level::{NamespaceLabels, Policy, RequiredLevel};
use pss_guard::manifest::evaluate::{Settings, evaluate};
use pss_guard::manifest::objects::{Role, objects};
use pss_guard::pss::{Level, Version};
use serde::Deserialize as _;
use serde_json::Value;

fn value(node: &Node) -> Value {
    Value::deserialize(node).expect("what was read is a value")
}

fuzz_target!(|text: &str| {
    // With the line breaks of YAML 1.1.
    let lines = 1 + text.matches(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count();
    let read = match documents(text) {
        Ok(read) => read,
        Err(error) => {
            let says = error.to_string();
            assert!(!says.is_empty() && (1..=lines).contains(&error.at.line), "{says:?}");
            return;
        }
    };
    let policy = Policy::default();
    let demand = RequiredLevel::argument(Level::Restricted, Version::Latest);
    for document in &read {
        let written = value(document).to_string();
        if written.starts_with('{') {
            let again = documents(&written).expect("JSON that was written");
            assert_eq!(value(&again[0]), value(document));
        }
        for object in objects(document).into_iter().flatten() {
            let Role::Workload(pod) = object.role else { continue };
            for demand in [Some(&demand), None] {
                let found = NamespaceLabels::NoFolder;
                let settings =
                    Settings { policy: &policy, demand, found: &found, namespace: "shop", path: "a.yaml" };
                let (result, verdict) = evaluate(&object, pod, &settings);
                assert_eq!(
                    verdict == Verdict::Deny,
                    result.findings.iter().any(|finding| !finding.reported),
                    "{result:?}"
                );
                assert!(result.line.is_some_and(|line| (1..=lines).contains(&line)), "{result:?}");
                assert!(
                    result
                        .findings
                        .iter()
                        .all(|finding| finding.line.is_some_and(|line| (1..=lines).contains(&line)))
                );
            }
        }
    }
});
