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
use crate::support::kube::{Cluster, KUBELETS_CONFIG, KUBELETS_SETTINGS};
use crate::support::machine::{Daemon, Machine};
use crate::support::{needs, program, run};

/// The agent on the machine.
const AGENT: &str = "/opt/pss-guard-agent";

/// Where an import writes the same.
const OTHER: &str = "/run/machine/other";

/// Where an agent of another node writes.
const BUSY: &str = "/run/machine/busy";

/// What it writes.
const FOLDERS: [&str; 4] = ["namespaces", "pods", "static", "agent"];

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
    assert!(run::eventually(|| status(machine)["current"] == true), "{}", status(machine));

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

    owners_hear_of_their_pods(&cluster);
    static_pods_are_known_by_their_manifests(&cluster);
    println!("{}", a_busy_node_costs_the_agent_little(&cluster));
    let would: BTreeSet<String> = events(&cluster).into_keys().collect();

    // Killed at any moment: what was there stays, and it goes on where it was. So does what is gone, for some minutes.
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
    let compliant = before
        .iter()
        .find(|name| machine.read(&format!("/run/pss-guard/pods/{name}")).contains("\"compliant\""));
    let compliant = compliant.expect("its facts").trim_end_matches(".json").to_owned();
    let agent = start(machine);
    is_ready(machine);
    assert!(run::eventually(|| levels("/run").contains("baseline")), "{}", said(machine));
    assert!(run::eventually(|| known(machine, "pods").len() == before.len() + 1), "{}", said(machine));
    assert!(known(machine, "pods").is_superset(&before), "{before:?}");
    assert!(machine.read("/run/pss-guard/agent/gone-pods.json").contains(&compliant), "{}", said(machine));
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
    let frozen = status(machine);
    assert!(frozen["current"] == false && frozen["synced"] == true, "{frozen}");
    kill(machine, "kube-apiserver", "CONT");
    is_ready(machine);
    assert_eq!(FOLDERS.iter().map(|folder| known(machine, folder)).collect::<Vec<_>>(), known_before);
    label("pod-security.kubernetes.io/enforce=baseline");
    assert!(run::eventually(|| levels("/run").contains("enforce\":\"baseline")), "{}", said(machine));

    // It ends at once, takes nothing away, and keeps what changed last.
    label("pod-security.kubernetes.io/warn=baseline");
    assert!(run::eventually(|| levels("/run").contains("warn\":\"baseline")), "{}", said(machine));
    machine.stop(agent);
    assert_eq!(levels("/var/lib"), levels("/run"));
    assert_eq!(FOLDERS.iter().map(|folder| known(machine, folder)).collect::<Vec<_>>(), known_before);
}

/// Whoever describes a workload hears of its pods, once.
fn owners_hear_of_their_pods(cluster: &Cluster) {
    let labels = json!({"app": "owned", "pod-template-hash": "7d4b9"});
    let template = json!({"metadata": {"labels": labels}, "spec": pods().remove(1)["spec"]});
    let workload = |kind: &str, name: &str| {
        json!({
            "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "namespace": "shop"},
            "spec": {"replicas": 2, "serviceName": name, "selector": {"matchLabels": labels}, "template": template},
        })
    };
    let mut deployment = workload("Deployment", "web");
    let mut replicas = workload("ReplicaSet", "web-7d4b9");
    for object in [&mut deployment, &mut replicas] {
        object["spec"].as_object_mut().unwrap().remove("serviceName");
        object["spec"]["template"]["spec"]["restartPolicy"] = json!("Always");
    }
    let mut set = workload("StatefulSet", "db");
    set["spec"]["template"]["spec"]["restartPolicy"] = json!("Always");
    cluster.apply(&[deployment, replicas, set]);
    let uid = |kind: &str, name: &str| {
        let line = ["get", kind, name, "--namespace=shop", "--output=jsonpath={.metadata.uid}"];
        cluster.kubectl(&line).expect_success().stdout
    };
    let owned = |name: &str, kind: &str, owner: &str| {
        let mut pod = pods().remove(1);
        pod["metadata"]["name"] = json!(name);
        pod["metadata"]["labels"] = labels.clone();
        pod["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "apps/v1", "kind": kind, "name": owner, "uid": uid(kind, owner), "controller": true,
        }]);
        pod
    };
    let all = [
        owned("db-0", "StatefulSet", "db"),
        owned("db-1", "StatefulSet", "db"),
        owned("web-7d4b9-aaaaa", "ReplicaSet", "web-7d4b9"),
    ];
    cluster.apply(&all);
    let described = || cluster.kubectl(&["describe", "statefulset", "db", "--namespace=shop"]).stdout;
    let said = || described().matches("WouldViolatePodSecurity").count();
    // After a burst there is one more every two seconds.
    let soon = |holds: &dyn Fn() -> bool| run::within(Duration::from_secs(120), holds);
    assert!(soon(&|| said() == 1), "{}\n{}", described(), self::said(&cluster.engine.machine));
    let listed = || cluster.kubectl(&["events", "--for=deployment/web", "--namespace=shop"]).stdout;
    assert!(soon(&|| listed().contains("WouldViolatePodSecurity")), "{}", listed());
    assert_eq!(said(), 1, "two pods are one event: {}", described());
}

/// A static pod is known by the names that the kubelet gives it, from its manifest and from nothing else.
fn static_pods_are_known_by_their_manifests(cluster: &Cluster) {
    let machine = &cluster.engine.machine;
    let mut pod = pods().into_iter().find(|pod| pod["metadata"]["name"] == "unmounted-host-path").unwrap();
    pod["metadata"]["name"] = json!("fixed");
    pod["spec"].as_object_mut().unwrap().remove("nodeName");
    cluster.lay_down(&pod);
    let place = "/run/pss-guard/static/shop_fixed-node.json";
    let facts = || -> Value { serde_json::from_str(&machine.read(place)).unwrap() };
    assert!(run::eventually(|| machine.path(place).exists()), "{}", said(machine));
    let kept = || machine.path("/var/lib/pss-guard/static/shop_fixed-node.json").exists();
    assert!(run::eventually(kept), "{}", said(machine));

    // What is written is what the API server makes of the same pod, if it takes it.
    let mirror = || cluster.kubectl(&["get", "pod", "fixed-node", "--namespace=shop", "--output=json"]);
    assert!(run::eventually(|| mirror().code == Some(0)), "{}", machine.said("kubelet"));
    let mirror: Value = serde_json::from_str(&mirror().stdout).unwrap();
    let mut as_any = mirror.clone();
    as_any["metadata"]["annotations"] = Value::Null;
    as_any["metadata"]["ownerReferences"] = Value::Null;
    machine.write("/run/machine/mirror.json", &as_any.to_string());
    let import = format!(
        "rm -rf {OTHER}; mkdir -p {OTHER}/run/pss-guard; cp -r /run/pss-guard/gate {OTHER}/run/pss-guard; \
         {PROGRAM} --root {OTHER} pods import </run/machine/mirror.json"
    );
    machine.run(&["sh", "-c", &import]).expect_success();
    let uid = mirror["metadata"]["uid"].as_str().unwrap();
    let imported: Value =
        serde_json::from_str(&machine.read(&format!("{OTHER}/run/pss-guard/pods/{uid}.json"))).unwrap();
    assert_eq!((&facts()["spec"], &facts()["name"]), (&imported["spec"], &imported["name"]));
    assert!(!machine.path(&format!("/run/pss-guard/pods/{uid}.json")).exists(), "a mirror pod has facts");

    // It is an Event that whoever describes the mirror pod sees.
    let described = || cluster.kubectl(&["describe", "pod", "fixed-node", "--namespace=shop"]).stdout;
    let would = || described().contains("WouldViolatePodSecurity");
    assert!(run::within(Duration::from_secs(120), would), "{}\n{}", described(), said(machine));

    // Anybody can forge a mirror pod, of this hash, in another namespace.
    let hash = &mirror["metadata"]["annotations"]["kubernetes.io/config.hash"];
    let (before, known_before) = (facts(), [known(machine, "pods"), known(machine, "static")]);
    let mut forged = pods().remove(0);
    forged["metadata"] = json!({"name": "fixed-node", "namespace": "default", "annotations": {
        "kubernetes.io/config.mirror": hash, "kubernetes.io/config.hash": hash, "kubernetes.io/config.source": "file",
    }});
    cluster.apply(&[forged]);
    let is_gone = || cluster.kubectl(&["get", "pod", "fixed-node", "--namespace=default"]).code != Some(0);
    assert!(run::within(Duration::from_secs(60), is_gone), "the kubelet leaves a forged mirror pod");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!((facts(), [known(machine, "pods"), known(machine, "static")]), (before, known_before));

    // A manifest that changes is another pod of the same name; what was half written before changed nothing.
    machine.write("/etc/kubernetes/manifests/half.yaml", "apiVersion: v1\nkind: [");
    pod["spec"]["hostPID"] = json!(true);
    cluster.lay_down(&pod);
    assert!(run::eventually(|| facts()["spec"]["hostPID"] == true), "{}", said(machine));
    assert!(run::eventually(|| said(machine).contains("half.yaml")), "{}", said(machine));
    machine
        .run(&["rm", "/etc/kubernetes/manifests/half.yaml", "/etc/kubernetes/manifests/fixed.json"])
        .expect_success();
    let metrics =
        machine.run(&["curl", "--silent", "--max-time", "5", "http://127.0.0.1:9465/metrics"]).stdout;
    for name in [
        "last_contact_timestamp_seconds ",
        "pods ",
        "static_pods ",
        "namespaces ",
        "watch_restarts_total{resource=\"pods\"} ",
        "events_total{outcome=\"sent\"} ",
        "missing_facts_total ",
        "unusable_pods_total ",
    ] {
        assert!(metrics.contains(&format!("\npss_guard_agent_{name}")), "{name}\n{metrics}");
    }
}

/// Of a node that no kubelet has: 110 pods as people write them, and what they cost the agent, in words.
fn a_busy_node_costs_the_agent_little(cluster: &Cluster) -> String {
    let machine = &cluster.engine.machine;
    cluster.kubectl(&["create", "namespace", "busy"]).expect_success();
    let variables: Vec<Value> =
        (0..20).map(|nth| json!({"name": format!("VARIABLE_{nth}"), "value": "x".repeat(60)})).collect();
    let pod = |nth: usize| {
        let mut pod = pods().remove(0);
        pod["metadata"] = json!({"name": format!("busy-{nth}"), "namespace": "busy",
            "labels": {"app": "busy", "team": "shop"}, "annotations": {"a": "x".repeat(500)}});
        pod["spec"]["nodeName"] = json!("busy");
        pod["spec"]["volumes"] = json!([{"name": "tmp", "emptyDir": {}}, {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]);
        let container = |name: &str| {
            let mut container = pod["spec"]["containers"][0].clone();
            container["name"] = json!(name);
            container["env"] = json!(variables);
            container["ports"] = json!([{"containerPort": 8080, "name": name}]);
            container["volumeMounts"] =
                json!([{"name": "tmp", "mountPath": "/tmp"}, {"name": "data", "mountPath": "/data"}]);
            container["readinessProbe"] = json!({"httpGet": {"path": "/ready", "port": 8080}});
            container
        };
        pod["spec"]["containers"] = json!([container("app"), container("proxy"), container("log")]);
        pod
    };
    cluster.apply(&(0..110).map(pod).collect::<Vec<_>>());
    let line = [
        AGENT,
        "run",
        "--node-name=busy",
        "--kubeconfig=/run/machine/.kube/config",
        "--listen=127.0.0.1:9466",
        "--root",
        BUSY,
    ];
    machine.run(&["mkdir", "-p", &format!("{BUSY}/run/pss-guard")]).expect_success();
    let agent = machine.start("busy-agent", &line);
    let files = || machine.run(&["sh", "-c", &format!("ls {BUSY}/run/pss-guard/pods | wc -l")]).stdout;
    let complete = run::within(Duration::from_secs(60), || files().trim() == "110");
    assert!(complete, "{}\n{}", files(), machine.said("busy-agent"));
    // Copied for the next boot as well.
    std::thread::sleep(Duration::from_secs(5));
    let pid = machine.read("/run/machine/busy-agent.pid").trim().to_owned();
    let status = machine.run(&["cat", &format!("/proc/{pid}/status")]).expect_success().stdout;
    let memory = |key: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let size = fs::metadata(machine.path(AGENT)).unwrap().len();
    let [now, most] = ["VmRSS:", "VmHWM:"].map(memory);
    machine.stop(agent);
    assert!(now <= 8 << 10, "{status}");
    assert!(size <= 6 << 20, "{size}");
    format!("with 110 pods the agent takes {now} KiB, {most} at most; the program has {size} bytes")
}

fn start(machine: &Machine) -> Daemon {
    let line = [
        AGENT,
        "run",
        "--node-name=node",
        "--kubeconfig",
        KUBELETS_CONFIG,
        "--kubelet-config",
        KUBELETS_SETTINGS,
    ];
    machine.start("agent", &line)
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

/// What `status` says of the agent.
fn status(machine: &Machine) -> Value {
    let done = machine.run(&[PROGRAM, "status", "--format=json"]);
    let said: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}\n{done}"));
    said["policy"]["agent"].clone()
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
    let import = format!(
        "kubectl get pods --all-namespaces --output=json | {PROGRAM} --root {OTHER} pods import --node node"
    );
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
