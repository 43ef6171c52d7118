//! The agent beside a real kubelet, with the kubelet's identity: does the node know what the API server knows, whatever happens
//! to either of them?

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::declared::pods;
use crate::support::engine::Kind;
use crate::support::gate::{self, PROGRAM, Restart};
use crate::support::kube::{Cluster, KUBELETS_CONFIG};
use crate::support::machine::{Daemon, Machine};
use crate::support::{needs, program, run};

/// The agent on the machine.
const AGENT: &str = "/opt/pss-guard-agent";

/// Where an import writes the same.
const OTHER: &str = "/run/machine/other";

/// What it writes.
const FOLDERS: [&str; 3] = ["namespaces", "pods", "agent"];

#[test]
fn a_node_knows_what_the_api_server_knows() {
    const TEST: &str = "agent::a_node_knows_what_the_api_server_knows";
    if !Cluster::can_run(TEST, Kind::Containerd2) || !needs::can_run(TEST, &["curl"]) {
        return;
    }
    let cluster = Cluster::up(Kind::Containerd2);
    let machine = &cluster.engine.machine;
    fs::copy(program::agent(), machine.path(AGENT)).unwrap();
    fs::set_permissions(machine.path(AGENT), fs::Permissions::from_mode(0o755)).unwrap();
    let command = cluster.engine.restart_command();
    let (method, _) = gate::methods(Kind::Containerd2);
    gate::install(machine, Kind::Containerd2.name(), method, Restart::Command(&command));
    machine.write("/etc/pss-guard/policy.toml", &gate::policy("audit"));
    machine.write("/run/machine/namespaces.yaml", include_str!("../../docs/namespaces.yaml"));
    cluster.kubectl(&["apply", "--filename", "/run/machine/namespaces.yaml"]).expect_success();

    let agent = start(machine);
    is_ready(machine);
    let agent_says =
        || -> Value { serde_json::from_str(&machine.read("/run/pss-guard/agent/agent.json")).unwrap() };
    assert!(run::eventually(|| agent_says()["synced"] == true), "{}", agent_says());
    assert_eq!(machine.read("/run/pss-guard/agent/cluster.json"), "{\"v\":1,\"minor\":36}\n");

    // A label holds within two seconds, and is kept for the next boot soon after.
    let label =
        |label: &str| cluster.kubectl(&["label", "--overwrite", "namespace", "shop", label]).expect_success();
    let levels = |folder: &str| machine.read(&format!("{folder}/pss-guard/namespaces/shop.json"));
    for level in ["baseline", "restricted", "privileged"] {
        label(&format!("pod-security.kubernetes.io/enforce={level}"));
        let at = Instant::now();
        assert!(run::within(Duration::from_secs(2), || levels("/run").contains(level)), "{}", said(machine));
        println!("a label was written {} ms after kubectl ended", at.elapsed().as_millis());
        assert!(run::eventually(|| levels("/var/lib").contains(level)), "{}", said(machine));
    }
    label("pod-security.kubernetes.io/enforce-");

    // Of every pod it writes, byte for byte, what an import of the API server's list writes.
    cluster.apply(&pods());
    cluster.settled(|seen| seen.len() == pods().len() && seen.iter().all(|pod| pod.runs));
    same_as_an_import(&cluster);

    // What audit mode would refuse is an Event of its pod, once.
    let would: BTreeSet<String> = events(&cluster).into_keys().collect();
    assert!(would.len() >= 9, "{would:?}\n{}", said(machine));
    for (name, event) in events(&cluster) {
        assert!(event["note"].as_str().unwrap().len() <= 1024, "{event}");
        assert_eq!(event["reportingController"], "pss-guard", "{event}");
        assert_eq!(event["reportingInstance"], "node", "{name}");
    }

    // Killed at any moment: what was there stays, and it goes on where it was.
    kill(machine, "agent", "KILL");
    drop(agent);
    cluster
        .kubectl(&["delete", "pod", "--namespace=shop", "compliant", "--grace-period=0", "--force"])
        .expect_success();
    label("pod-security.kubernetes.io/audit=baseline");
    let mut late = pods().remove(1);
    late["metadata"]["name"] = json!("late");
    cluster.apply(&[late]);
    let before = known(machine, "pods");
    let agent = start(machine);
    is_ready(machine);
    assert!(run::eventually(|| levels("/run").contains("baseline")), "{}", said(machine));
    assert!(run::eventually(|| known(machine, "pods").len() == before.len()), "{}", said(machine));
    same_as_an_import(&cluster);
    let again: BTreeSet<String> = events(&cluster).into_keys().collect();
    let new: Vec<_> = again.difference(&would).filter(|name| !name.starts_with("late.")).collect();
    assert!(new.is_empty() && again.is_superset(&would), "{new:?}");

    // A frozen API server is noticed within a minute, and nothing that is known is lost.
    let known_before: Vec<_> = FOLDERS.iter().map(|folder| known(machine, folder)).collect();
    kill(machine, "kube-apiserver", "STOP");
    let at = Instant::now();
    let noticed = run::within(Duration::from_secs(90), || {
        std::thread::sleep(Duration::from_secs(1));
        !ready(machine).contains("ok")
    });
    assert!(noticed, "{}", said(machine));
    println!("a frozen API server was noticed after {} s: {}", at.elapsed().as_secs(), ready(machine));
    kill(machine, "kube-apiserver", "CONT");
    is_ready(machine);
    assert_eq!(FOLDERS.iter().map(|folder| known(machine, folder)).collect::<Vec<_>>(), known_before);
    label("pod-security.kubernetes.io/enforce=baseline");
    assert!(run::eventually(|| levels("/run").contains("enforce\":\"baseline")), "{}", said(machine));

    // It ends at once, and takes nothing away.
    machine.stop(agent);
    assert_eq!(FOLDERS.iter().map(|folder| known(machine, folder)).collect::<Vec<_>>(), known_before);
    let size = fs::metadata(machine.path(AGENT)).unwrap().len();
    println!("the agent of this test has {size} bytes");
}

fn start(machine: &Machine) -> Daemon {
    machine.start("agent", &[AGENT, "run", "--node-name=node", "--kubeconfig", KUBELETS_CONFIG])
}

fn said(machine: &Machine) -> String {
    machine.said("agent")
}

fn kill(machine: &Machine, daemon: &str, signal: &str) {
    let pid = machine.read(&format!("/run/machine/{daemon}.pid")).trim().to_owned();
    machine.run(&["kill", &format!("-{signal}"), &pid]).expect_success();
}

fn ready(machine: &Machine) -> String {
    machine.run(&["curl", "--silent", "--max-time", "5", "http://127.0.0.1:9465/readyz"]).stdout
}

fn is_ready(machine: &Machine) {
    let up = run::within(Duration::from_secs(60), || {
        std::thread::sleep(Duration::from_millis(200));
        ready(machine) == "ok\n"
    });
    assert!(up, "{}\n{}", ready(machine), said(machine));
}

/// The names of the files of a folder.
fn known(machine: &Machine, folder: &str) -> BTreeSet<String> {
    let listed = machine.run(&["ls", &format!("/run/pss-guard/{folder}")]).expect_success().stdout;
    listed.lines().map(str::to_owned).collect()
}

/// What a folder below a root has, by name.
fn content(machine: &Machine, folder: &str) -> BTreeMap<String, String> {
    let listed = machine.run(&["ls", folder]).expect_success().stdout;
    listed.lines().map(|name| (name.to_owned(), machine.read(&format!("{folder}/{name}")))).collect()
}

fn same_as_an_import(cluster: &Cluster) {
    let machine = &cluster.engine.machine;
    machine.run(&["sh", "-c", &format!("rm -rf {OTHER}; mkdir -p {OTHER}/run/pss-guard; cp -r /run/pss-guard/gate {OTHER}/run/pss-guard")]).expect_success();
    let import =
        format!("kubectl get pods --all-namespaces --output=json | {PROGRAM} --root {OTHER} pods import");
    machine.run(&["sh", "-c", &import]).expect_success();
    let imported = content(machine, &format!("{OTHER}/run/pss-guard/pods"));
    assert!(imported.len() >= pods().len(), "{imported:?}");
    let written = || {
        // Those whose objects are gone stay for some minutes.
        let mut written = content(machine, "/run/pss-guard/pods");
        written.retain(|name, _| imported.contains_key(name));
        written
    };
    assert!(run::eventually(|| written() == imported), "{:#?}\n{imported:#?}\n{}", written(), said(machine));
    let kept = || {
        let mut kept = content(machine, "/var/lib/pss-guard/pods");
        kept.retain(|name, _| imported.contains_key(name));
        kept
    };
    assert!(run::eventually(|| kept() == imported), "{}", said(machine));
}

/// pss-guard's Events on pods of the namespace, by name, once there are no more to come.
fn events(cluster: &Cluster) -> BTreeMap<String, Value> {
    let read = || -> BTreeMap<String, Value> {
        let line = ["get", "events.events.k8s.io", "--namespace=shop", "--output=json"];
        let list: Value = serde_json::from_str(&cluster.kubectl(&line).expect_success().stdout).unwrap();
        let ours = list["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|event| event["reason"] == "WouldViolatePodSecurity");
        ours.map(|event| (event["metadata"]["name"].as_str().unwrap().to_owned(), event.clone())).collect()
    };
    let mut last = read();
    loop {
        std::thread::sleep(Duration::from_secs(3));
        let now = read();
        if now.len() == last.len() {
            return now;
        }
        last = now;
    }
}
