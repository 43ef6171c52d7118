//! Numbers for Prometheus, and the events that are counted.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;

use pss_guard::event::Kind;
use serde_json::json;

use crate::support::root::Root;

impl Root {
    /// Appends events as the gate does where journald does not answer.
    pub(crate) fn decide(&self, kind: Kind, namespace: &str, count: usize) {
        let path = self.decisions();
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        let mut file =
            fs::File::options().append(true).create(true).open(path).expect("the file of decisions");
        for _ in 0..count {
            let event = json!({
                "__REALTIME_TIMESTAMP": now().to_string(),
                "MESSAGE_ID": kind.message_id(),
                "PSS_DECISION": kind.name(),
                "PSS_MODE": "enforce",
                "PSS_LEVEL": "restricted",
                "PSS_CONTROLS": "privileged,runAsNonRoot",
                "PSS_NAMESPACE": namespace,
            });
            file.write_all(format!("{event}\n").as_bytes()).expect("a line");
        }
    }

    /// The numbers that `metrics` prints, by name and labels.
    pub(crate) fn numbers(&self) -> BTreeMap<String, f64> {
        numbers(&self.call(&["metrics"]).expect_success().stdout)
    }
}

pub(crate) fn numbers(text: &str) -> BTreeMap<String, f64> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let number = |line: &str| {
        let (name, number) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
        (name.to_owned(), number.parse().unwrap_or_else(|_| panic!("no number: {line}")))
    };
    samples.map(number).collect()
}

fn now() -> u128 {
    std::time::UNIX_EPOCH.elapsed().expect("a clock that is set").as_micros()
}

pub(crate) const DENIED: &str = "pss_guard_decisions_total{decision=\"denied\",mode=\"enforce\"}";

pub(crate) fn violations(namespace: &str, control: &str) -> String {
    format!(
        "kube_pod_security_policy_violations_total{{namespace=\"{namespace}\",level=\"restricted\",control=\"{control}\",mode=\"enforce\",decision=\"denied\"}}"
    )
}
