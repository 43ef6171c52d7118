//! Are the facts of a pod there before the pod is? Each pod here is refused for what only its facts show, and started without
//! them; the node is busy all the time.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::cluster::{Cluster, Node};
use crate::support::declared;
use crate::support::engine::Kind;
use crate::support::exactness::POLICY;
use crate::support::run;

const NAMESPACE: &str = "held-restricted";

#[test]
fn on_containerd() {
    tell("race::on_containerd", Kind::Containerd2);
}

#[test]
fn on_cri_o() {
    tell("race::on_cri_o", Kind::CriO);
}

fn tell(test: &str, kind: Kind) {
    if !Cluster::can_run(test, &[kind]) {
        return;
    }
    let cluster = Cluster::up(&[kind], POLICY);
    let [node] = &cluster.nodes[..] else { panic!("one node") };
    cluster.bring_agent(node);
    cluster.make_namespace(NAMESPACE, &[]);
    let busy = node.machine().start("busy", &["sh", "-c", "while :; do :; done & while :; do :; done"]);
    println!(
        "| {} | pods | with facts | file before the start, ms: least | median | 90 % | most |",
        kind.name()
    );
    let one_by_one: Vec<String> = (0..100).map(|number| format!("one-{number}")).collect();
    for name in &one_by_one {
        cluster.create(&[pod(node, name, "host-of-a-probe")], &[]).expect_success();
        let decided = || {
            std::thread::sleep(Duration::from_millis(100));
            !node.machine().events("PSS_POD", name).is_empty()
        };
        assert!(run::within(Duration::from_secs(60), decided), "{}", node.machine().said("kubelet"));
        clear(&cluster);
    }
    let mut shown = vec![show(node, "one by one", &one_by_one)];
    for burst in 0..2 {
        let names: Vec<String> = (0..60).map(|number| format!("burst-{burst}-{number}")).collect();
        let pods: Vec<Value> = names.iter().map(|name| pod(node, name, "host-of-a-probe")).collect();
        cluster.create(&pods, &[]).expect_success();
        shown.push(show(node, "60 at once", &names));
        clear(&cluster);
    }
    shown.push(ephemeral(&cluster, node));
    clear(&cluster);
    node.machine().stop(busy);
    what_a_refusal_costs(&cluster, node);
    let late: Vec<&String> = shown.iter().flatten().collect();
    assert!(late.is_empty(), "{late:?}");
}

fn pod(node: &Node, name: &str, of: &str) -> Value {
    let mut pods = declared::pods();
    let mut pod = pods.remove(pods.iter().position(|pod| pod["metadata"]["name"] == of).unwrap());
    pod["metadata"] = json!({"name": name, "namespace": NAMESPACE});
    pod["spec"]["nodeName"] = json!(node.name);
    pod
}

fn clear(cluster: &Cluster) {
    let all = ["delete", "pods", "--all", "--namespace", NAMESPACE, "--grace-period=0", "--force"];
    cluster.kubectl(&all).expect_success();
}

/// A decision: of which pod, when in microseconds, and the event.
fn decisions(node: &Node) -> BTreeMap<String, Vec<(u64, Value)>> {
    let mut decisions: BTreeMap<String, Vec<(u64, Value)>> = BTreeMap::new();
    for event in node.machine().events("PSS_NAMESPACE", NAMESPACE) {
        let at = event["_SOURCE_REALTIME_TIMESTAMP"].as_str().or(event["__REALTIME_TIMESTAMP"].as_str());
        let at = at.and_then(|at| at.parse().ok()).unwrap_or_default();
        let pod = event["PSS_POD"].as_str().unwrap_or_default().to_owned();
        decisions.entry(pod).or_default().push((at, event));
    }
    decisions
}

/// Waits for the first decision of each pod, prints a row, and gives the pods that were decided without facts.
fn show(node: &Node, what: &str, names: &[String]) -> Vec<String> {
    let all = || {
        std::thread::sleep(Duration::from_secs(1));
        let decisions = decisions(node);
        names.iter().all(|name| decisions.contains_key(name))
    };
    assert!(run::within(Duration::from_secs(300), all), "{}", node.machine().said("kubelet"));
    let decisions = decisions(node);
    let first = names.iter().map(|name| (name, &decisions[name][0]));
    row(node, what, &first.collect::<Vec<_>>())
}

fn row(node: &Node, what: &str, first: &[(&String, &(u64, Value))]) -> Vec<String> {
    let mut margins = Vec::new();
    let mut late = Vec::new();
    for (name, (at, event)) in first {
        let uid = event["PSS_POD_UID"].as_str().unwrap_or_default();
        let file = node.machine().path(&format!("/run/pss-guard/pods/{uid}.json"));
        if event["PSS_DECISION"] != "denied" {
            late.push(format!("{what}, {name}: {}", event["MESSAGE"]));
        }
        let written =
            fs::metadata(&file).unwrap_or_else(|error| panic!("{name}: {}: {error}", file.display()));
        let written = written.mtime() * 1_000_000 + written.mtime_nsec() / 1000;
        margins.push((i64::try_from(*at).unwrap() - written) / 1000);
    }
    margins.sort_unstable();
    let with = margins.len() - late.len();
    let part = |tenths: usize| margins[(margins.len() - 1) * tenths / 10];
    println!(
        "| {what} | {} | {with} | {} | {} | {} | {} |",
        margins.len(),
        part(0),
        part(5),
        part(9),
        part(10)
    );
    late
}

/// Containers that join a pod that runs: refused for what only the new facts show.
fn ephemeral(cluster: &Cluster, node: &Node) -> Vec<String> {
    let names: Vec<String> = (0..20).map(|number| format!("joined-{number}")).collect();
    let pods: Vec<Value> = names.iter().map(|name| pod(node, name, "compliant")).collect();
    cluster.create(&pods, &[]).expect_success();
    let run = run::within(Duration::from_secs(180), || {
        std::thread::sleep(Duration::from_secs(1));
        let pods = cluster.get(&["pods", "--namespace", NAMESPACE, "--field-selector=status.phase=Running"]);
        pods["items"].as_array().unwrap().len() == names.len()
    });
    assert!(run, "{}", node.machine().said("kubelet"));
    for name in &names {
        let mut container = declared::pods()[0]["spec"]["containers"][0].clone();
        container["name"] = json!("joins");
        container["securityContext"].as_object_mut().unwrap().remove("runAsNonRoot");
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}/ephemeralcontainers");
        cluster.patch(&path, &json!({"spec": {"ephemeralContainers": [container]}})).expect_success();
        std::thread::sleep(Duration::from_millis(300));
    }
    let joins = |decisions: &BTreeMap<String, Vec<(u64, Value)>>, name: &String| {
        decisions
            .get(name)
            .and_then(|all| all.iter().find(|(_, event)| event["PSS_CONTAINER"] == "joins").cloned())
    };
    let all = || {
        std::thread::sleep(Duration::from_secs(1));
        let decisions = decisions(node);
        names.iter().all(|name| joins(&decisions, name).is_some())
    };
    assert!(run::within(Duration::from_secs(120), all), "{}", node.machine().said("kubelet"));
    let decisions = decisions(node);
    let found: Vec<(u64, Value)> = names.iter().map(|name| joins(&decisions, name).unwrap()).collect();
    row(node, "ephemeral containers", &names.iter().zip(&found).collect::<Vec<_>>())
}

/// What becomes of a pod that is refused for two minutes and may start then.
fn what_a_refusal_costs(cluster: &Cluster, node: &Node) {
    let names =
        ["Always", "OnFailure", "Never"].map(|policy| (policy, format!("costs-{}", policy.to_lowercase())));
    let pods: Vec<Value> = names
        .iter()
        .map(|(policy, name)| {
            let mut pod = pod(node, name, "host-of-a-probe");
            pod["spec"]["restartPolicy"] = json!(policy);
            pod
        })
        .collect();
    cluster.create(&pods, &[]).expect_success();
    std::thread::sleep(Duration::from_secs(120));
    let refused = decisions(node);
    let machine = node.machine();
    machine.write(
        "/etc/pss-guard/policy.toml",
        &POLICY.replace("enforce = \"restricted\"", "enforce = \"privileged\""),
    );
    let at = Instant::now();
    println!(
        "| {} | restartPolicy | refusals in two minutes, after s | the pod then | restarts |",
        node.engine.kind.name()
    );
    for (policy, name) in &names {
        let pod = || cluster.get(&["pod", "--namespace", NAMESPACE, name]);
        let ended = || {
            std::thread::sleep(Duration::from_secs(1));
            let phase = pod()["status"]["phase"].clone();
            phase == "Running" || phase == "Failed"
        };
        let ended = run::within(Duration::from_secs(120), ended);
        let seconds = at.elapsed().as_secs();
        let pod = pod();
        let (phase, container) = (&pod["status"]["phase"], &pod["status"]["containerStatuses"][0]);
        let all = &refused[name];
        let after: Vec<String> =
            all.iter().map(|(at, _)| ((at - all[0].0) / 1_000_000).to_string()).collect();
        let what = if ended { format!("{phase} {seconds} s after it may") } else { format!("still {phase}") };
        println!("| | {policy} | {} | {what} | {} |", after.join(", "), container["restartCount"]);
        assert!(!all.is_empty() && all.iter().all(|(_, event)| event["PSS_DECISION"] == "denied"), "{all:?}");
    }
}
