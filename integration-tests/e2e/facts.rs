//! Whether a gate that has the facts of pods refuses what the API server refuses: the same pods at both.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::declared::pods;
use crate::support::engine::Kind;
use crate::support::gate::{self, Restart};
use crate::support::kube::Cluster;
use crate::support::run;

#[test]
fn on_containerd() {
    tell("facts::on_containerd", Kind::Containerd2);
}

#[test]
fn on_cri_o() {
    tell("facts::on_cri_o", Kind::CriO);
}

/// Admission's own controls at the version that the API server has, and every decision in the journal.
fn policy(mode: &str) -> String {
    let controls = "[cluster]\nversion = \"v1.36\"\n[controls]\nreadOnlyRootFilesystem = \"off\"\n";
    format!("log-allowed = true\n{}{controls}", gate::policy(mode))
}

fn name(pod: &Value) -> &str {
    pod["metadata"]["name"].as_str().expect("a name")
}

/// What the API server says of a pod in a namespace that enforces restricted: nothing, or what admission forbids.
fn admission(cluster: &Cluster, pod: &Value) -> Option<String> {
    let mut pod = pod.clone();
    pod["metadata"]["namespace"] = json!("strict");
    cluster.engine.machine.write("/run/machine/asked.json", &pod.to_string());
    let asked = cluster.kubectl(&["create", "--dry-run=server", "--filename", "/run/machine/asked.json"]);
    if asked.code == Some(0) {
        return None;
    }
    let said = asked.stderr.split_once("violates PodSecurity \"restricted:latest\": ");
    Some(said.unwrap_or_else(|| panic!("{asked}")).1.trim().to_owned())
}

fn tell(test: &str, kind: Kind) {
    if !Cluster::can_run(test, kind) {
        return;
    }
    let cluster = Cluster::up(kind);
    let machine = &cluster.engine.machine;
    let command = cluster.engine.restart_command();
    machine.write("/etc/pss-guard/policy.toml", &policy("enforce"));
    gate::install(machine, kind.name(), gate::methods(kind).0, Restart::Command(&command));
    machine.write("/etc/pss-guard/policy.toml", &policy("audit"));

    cluster.kubectl(&["create", "namespace", "strict"]).expect_success();
    let label = "pod-security.kubernetes.io/enforce=restricted";
    cluster.kubectl(&["label", "namespace", "strict", label]).expect_success();
    let pods = pods();
    let asked: Vec<(&str, Option<String>)> =
        pods.iter().map(|pod| (name(pod), admission(&cluster, pod))).collect();
    assert!(asked.iter().filter(|(_, said)| said.is_none()).count() >= 3, "{asked:?}");
    assert!(asked.iter().filter(|(_, said)| said.is_some()).count() >= 9, "{asked:?}");

    // In a namespace that asks for nothing all of them start, and stay what they are.
    cluster.apply(&pods);
    let seen = cluster.settled(|seen| seen.len() == pods.len() && seen.iter().all(|pod| pod.runs));
    let waits: Vec<_> = seen.iter().filter(|pod| !pod.runs).map(|pod| &pod.described).collect();
    assert!(seen.len() == pods.len() && waits.is_empty(), "these do not start: {waits:#?}");
    let import = "kubectl get pods --all-namespaces --output=json | /opt/pss-guard pods import";
    machine.run(&["sh", "-c", import]).expect_success();

    // Their sandboxes end, and the kubelet makes new ones: of the same pods, as the API server still has them.
    machine.write("/etc/pss-guard/policy.toml", &policy("enforce"));
    let sandboxes = cluster.engine.crictl(&["pods", "--quiet"]).expect_success().stdout;
    let stop: Vec<&str> = std::iter::once("stopp").chain(sandboxes.split_whitespace()).collect();
    cluster.engine.crictl(&stop).expect_success();
    let decisions = |pod: &str| -> Vec<(String, String)> {
        let events = machine.events("PSS_POD", pod);
        let enforced = events.iter().filter(|event| event["PSS_MODE"] == "enforce");
        let field = |event: &Value, name: &str| event[name].as_str().unwrap_or_default().to_owned();
        let told = enforced.map(|event| (field(event, "PSS_DECISION"), field(event, "MESSAGE")));
        // The kubelet may still try a container in the sandbox that ends, whose namespaces have gone: that is a fault.
        told.filter(|(decision, _)| decision != "fault").collect()
    };
    run::within(Duration::from_secs(150), || {
        std::thread::sleep(Duration::from_secs(1));
        asked.iter().all(|(pod, _)| !decisions(pod).is_empty())
    });

    let mut wrong = Vec::new();
    for (pod, admission) in &asked {
        let decisions = decisions(pod);
        let right = match admission {
            None => decisions.iter().all(|(decision, _)| decision == "allowed") && !decisions.is_empty(),
            // The whole pod in admission's own words, and nothing before or between them.
            Some(said) => {
                let said = format!("violates PodSecurity \"restricted:latest\": {said}; level from ");
                let refused =
                    |(decision, message): &(String, String)| decision == "denied" && message.contains(&said);
                decisions.iter().all(refused) && !decisions.is_empty()
            }
        };
        if !right {
            wrong.push(format!("{pod}: admission says {admission:?}, the gate {decisions:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{} went wrong on {kind:?}\n\n{}", wrong.len(), wrong.join("\n\n"));
}
