//! Three nodes: a label is enforced on each of them within two seconds, and whatever happens to the API server or to a node, nothing
//! becomes looser and nothing is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::cluster::{Cluster, Node, api_server_line};
use crate::support::declared;
use crate::support::engine::Kind;
use crate::support::exactness::POLICY;
use crate::support::kube::KUBELETS_CONFIG;
use crate::support::machine::Machine;
use crate::support::run;

/// The folders that the gate reads, and what of them is only about the agent. Since when a pod is gone ends with a boot.
const FOLDERS: [&str; 4] = ["namespaces", "pods", "static", "agent"];
const ABOUT_ITSELF: [&str; 4] = ["agent.json", "events.json", "gone-pods.json", "gone-static.json"];

#[test]
fn three_nodes_know_what_the_api_server_said_last() {
    let test = "faults::three_nodes_know_what_the_api_server_said_last";
    let kinds = [Kind::Containerd2, Kind::Containerd2, Kind::CriO];
    if !Cluster::can_run(test, &kinds) {
        return;
    }
    let cluster = Cluster::up(&kinds, POLICY);
    let nodes: Vec<&Node> = cluster.nodes.iter().collect();
    // The one thing that is not in the manifests: the third node is not the DaemonSet's.
    for node in &nodes[..2] {
        cluster.kubectl(&["label", "node", &node.name, "agent=daemonset"]).expect_success();
    }
    cluster.make_namespace("shop", &[]);
    cluster.make_namespace("held-restricted", &[]);
    deploy(&cluster, &nodes);

    labels(&cluster, &nodes, "three nodes");
    enforced(&cluster, &nodes);
    frozen(&cluster, &nodes);
    restarted(&cluster, &nodes);
    unreachable(&cluster, nodes[1], nodes[0]);
    two_api_servers(&cluster, nodes[0]);
    rebooted(&cluster, nodes[0]);
}

/// The DaemonSet on two nodes, and on the third the agent as the host's own, with the kubelet's identity.
fn deploy(cluster: &Cluster, nodes: &[&Node]) {
    cluster.start_agent_on_host(nodes[2]);
    let only = json!({"spec": {"template": {"spec": {"nodeSelector": {"agent": "daemonset"}}}}});
    cluster.deploy_agent(&[]);
    cluster.patch("/apis/apps/v1/namespaces/pss-guard/daemonsets/agent", &only).expect_success();
    all_are_ready(cluster, nodes);
    let agents = cluster.get(&["pods", "--namespace=pss-guard"]);
    let on: BTreeSet<&str> = agents["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|pod| pod["spec"]["nodeName"].as_str())
        .collect();
    println!("the DaemonSet runs on {on:?}, the host's own agent on {}", nodes[2].name);
}

/// What an agent's own probe says.
fn ready(node: &Node) -> String {
    let address = match node.engine.kind {
        Kind::CriO => "127.0.0.1".to_owned(),
        // Its address is remembered here, where the API server may not answer.
        _ => node.machine().read("/run/machine/agent-address"),
    };
    let url = format!("http://{address}:9465/readyz");
    node.machine().run(&["curl", "--silent", "--max-time", "5", &url]).stdout
}

fn all_are_ready(cluster: &Cluster, nodes: &[&Node]) {
    for node in nodes {
        let up = run::within(Duration::from_secs(120), || {
            std::thread::sleep(Duration::from_millis(300));
            if node.engine.kind != Kind::CriO {
                let address = cluster
                    .agent(node)
                    .map(|pod| pod["status"]["podIP"].as_str().unwrap_or_default().to_owned());
                node.machine().write("/run/machine/agent-address", &address.unwrap_or_default());
            }
            ready(node) == "ok\n"
        });
        assert!(
            up,
            "{}: {}\n{}\n{}",
            node.name,
            ready(node),
            cluster.agent_said(node),
            node.machine().said("agent")
        );
    }
}

fn level(node: &Node, namespace: &str) -> String {
    node.machine().read(&format!("/run/pss-guard/namespaces/{namespace}.json"))
}

/// Labels the namespace. When that was asked for.
fn label(cluster: &Cluster, level: &str) -> Instant {
    let at = Instant::now();
    let labels = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": level}}});
    cluster.patch("/api/v1/namespaces/shop", &labels).expect_success();
    at
}

/// A label is known on every node within two seconds, and the next container is held to it.
fn labels(cluster: &Cluster, nodes: &[&Node], when: &str) {
    for wanted in ["baseline", "restricted", "privileged", "restricted", "baseline", "privileged"] {
        let at = label(cluster, wanted);
        let mut after = BTreeMap::new();
        let known = run::within(Duration::from_secs(2), || {
            for node in nodes {
                if !after.contains_key(&*node.name) && level(node, "shop").contains(wanted) {
                    after.insert(&*node.name, at.elapsed().as_millis());
                }
            }
            after.len() == nodes.len()
        });
        println!("{when}: {wanted} is known after ms: {after:?}");
        assert!(known, "{when}: {wanted} is known on {after:?} only");
    }
}

/// Two seconds after a label the next start of a pod that runs is refused, on every node.
fn enforced(cluster: &Cluster, nodes: &[&Node]) {
    let pods = nodes.iter().map(|node| pod(node, "no-seccomp", "shop", &format!("held-on-{}", node.name)));
    cluster.create(&pods.collect::<Vec<_>>(), &[]).expect_success();
    let name = |node: &Node| format!("held-on-{}", node.name);
    for node in nodes {
        assert_eq!(first_decision(node, &name(node), 0), "allowed", "{}", node.machine().said("kubelet"));
    }
    // Whatever the kubelet still starts of them is behind us.
    std::thread::sleep(Duration::from_secs(5));
    let at = label(cluster, "restricted");
    std::thread::sleep(Duration::from_secs(2).saturating_sub(at.elapsed()));
    for node in nodes {
        let so_far = node.machine().events("PSS_POD", &name(node)).len();
        let sandbox = ["pods", "--quiet", "--name", &format!("^{}$", name(node))];
        let sandbox = node.engine.crictl(&sandbox).expect_success().stdout;
        node.engine.crictl(&["stopp", sandbox.lines().next().unwrap()]).expect_success();
        assert_eq!(first_decision(node, &name(node), so_far), "denied", "{}", node.machine().said("kubelet"));
    }
    println!("two seconds after a label the next start is refused on {} nodes", nodes.len());
    cluster
        .kubectl(&["delete", "pods", "--all", "--namespace=shop", "--grace-period=0", "--force"])
        .expect_success();
}

/// One of the declared pods on a node.
fn pod(node: &Node, of: &str, namespace: &str, name: &str) -> Value {
    let mut pods = declared::pods();
    let mut pod = pods.remove(pods.iter().position(|pod| pod["metadata"]["name"] == of).unwrap());
    pod["metadata"] = json!({"name": name, "namespace": namespace});
    pod["spec"]["nodeName"] = json!(node.name);
    pod
}

/// What a node knows, but of its agent.
fn known(machine: &Machine) -> BTreeMap<String, String> {
    let mut known = BTreeMap::new();
    for folder in FOLDERS {
        let listed = machine.run(&["ls", &format!("/run/pss-guard/{folder}")]).stdout;
        for name in listed.lines().filter(|name| !ABOUT_ITSELF.contains(name)) {
            let path = format!("{folder}/{name}");
            let text = machine.read(&format!("/run/pss-guard/{path}"));
            known.insert(path, text);
        }
    }
    known
}

/// A pod that only its facts show to be wrong is refused on a node.
fn holds(cluster: &Cluster, node: &Node, name: &str) {
    cluster.create(&[pod(node, "host-of-a-probe", "held-restricted", name)], &[]).expect_success();
    assert_eq!(first_decision(node, name, 0), "denied", "{}", node.machine().said("kubelet"));
}

/// The first decision of a pod after so many.
fn first_decision(node: &Node, name: &str, after: usize) -> String {
    let decision = || {
        let events = node.machine().events("PSS_POD", name);
        events.get(after).map(|event| event["PSS_DECISION"].as_str().unwrap_or_default().to_owned())
    };
    run::within(Duration::from_secs(90), || {
        std::thread::sleep(Duration::from_millis(300));
        decision().is_some()
    });
    decision().unwrap_or_default()
}

/// The API server says nothing and ends nothing: every agent says so within a minute, and is itself again afterwards.
fn frozen(cluster: &Cluster, nodes: &[&Node]) {
    let before: Vec<_> = nodes.iter().map(|node| known(node.machine())).collect();
    cluster.control.signal("kube-apiserver", "STOP");
    let at = Instant::now();
    let mut after = BTreeMap::new();
    let noticed = run::within(Duration::from_secs(75), || {
        std::thread::sleep(Duration::from_secs(1));
        for node in nodes {
            if !after.contains_key(&*node.name) && ready(node) != "ok\n" {
                after.insert(&*node.name, at.elapsed().as_secs());
            }
        }
        after.len() == nodes.len()
    });
    println!("a frozen API server is noticed after s: {after:?}");
    assert!(noticed && after.values().all(|seconds| *seconds <= 61), "{after:?}");
    cluster.control.signal("kube-apiserver", "CONT");
    all_are_ready(cluster, nodes);
    for (node, before) in nodes.iter().zip(before) {
        let now = known(node.machine());
        // A pod may have come or gone; nothing that is still there says anything else.
        let lost: Vec<_> =
            before.iter().filter(|(path, text)| now.get(*path).is_some_and(|now| now != *text)).collect();
        assert!(lost.is_empty(), "{}: {lost:?}", node.name);
    }
    labels(cluster, nodes, "after a frozen API server");
}

fn restarted(cluster: &Cluster, nodes: &[&Node]) {
    cluster.control.end("kube-apiserver", "KILL");
    let before: Vec<_> = nodes.iter().map(|node| known(node.machine())).collect();
    std::thread::sleep(Duration::from_secs(5));
    for (node, before) in nodes.iter().zip(before) {
        assert_eq!(known(node.machine()), before, "{}", node.name);
    }
    let at = Instant::now();
    cluster.control.start("kube-apiserver", &api_server_line());
    cluster.wait_for("the API server", &cluster.control, "kube-apiserver", || {
        cluster.kubectl(&["get", "--raw", "/readyz"]).stdout == "ok"
    });
    println!("the API server answers {} s after its start", at.elapsed().as_secs());
    let at = label(cluster, "restricted");
    let mut after = BTreeMap::new();
    let known = run::within(Duration::from_secs(60), || {
        for node in nodes {
            if !after.contains_key(&*node.name) && level(node, "shop").contains("restricted") {
                after.insert(&*node.name, at.elapsed().as_millis());
            }
        }
        after.len() == nodes.len()
    });
    println!("the first label after a restart of the API server is known after ms: {after:?}");
    assert!(known, "{after:?}");
    all_are_ready(cluster, nodes);
    labels(cluster, nodes, "after a restart");
}

/// Nothing comes back to one node. The other goes on, and the one learns what it missed.
fn unreachable(cluster: &Cluster, node: &Node, other: &Node) {
    label(cluster, "baseline");
    assert!(run::eventually(|| level(node, "shop").contains("baseline")));
    let [address, pods] = node.networks();
    cluster.control.run(&["ip", "route", "add", "blackhole", &address]).expect_success();
    cluster.control.run(&["ip", "route", "replace", "blackhole", &pods]).expect_success();
    let at = label(cluster, "restricted");
    assert!(run::within(Duration::from_secs(2), || level(other, "shop").contains("restricted")));
    let noticed = run::within(Duration::from_secs(75), || {
        std::thread::sleep(Duration::from_secs(1));
        ready(node) != "ok\n"
    });
    println!("{} cannot reach the API server, and says so after {} s", node.name, at.elapsed().as_secs());
    assert!(noticed && level(node, "shop").contains("baseline"), "what was known holds");
    cluster.control.run(&["ip", "route", "del", "blackhole", &address]).expect_success();
    cluster
        .control
        .run(&["ip", "route", "replace", &pods, "via", address.trim_end_matches("/32")])
        .expect_success();
    let at = Instant::now();
    let learned = run::within(Duration::from_secs(60), || level(node, "shop").contains("restricted"));
    println!("it knows the label {} s after it can reach the API server again", at.elapsed().as_secs());
    assert!(learned, "{}", cluster.agent_said(node));
    all_are_ready(cluster, &[node]);
    holds(cluster, node, "after-the-cut");
}

/// Kubelet and agent of a node watch two API servers of one etcd.
fn two_api_servers(cluster: &Cluster, node: &Node) {
    let control = &cluster.control;
    control.run(&["cp", "-r", "/run/kubernetes", "/run/kubernetes-2"]).expect_success();
    let second: Vec<String> = api_server_line()
        .iter()
        .map(|option| option.replace("=443", "=6443").replace("=/run/kubernetes", "=/run/kubernetes-2"))
        .collect();
    let second: Vec<&str> = second.iter().map(String::as_str).collect();
    control.start("kube-apiserver-2", &second);
    let at_second = ["--server=https://203.0.113.1:6443", "get", "--raw", "/readyz"];
    cluster.wait_for("the second API server", control, "kube-apiserver-2", || {
        cluster.kubectl(&at_second).stdout == "ok"
    });
    let machine = node.machine();
    let config = machine.read(KUBELETS_CONFIG).replace(":443", ":6443");
    machine.end("kubelet", "TERM");
    machine.write(KUBELETS_CONFIG, &config);
    node.run_kubelet();
    let names: Vec<String> = (0..30).map(|number| format!("two-servers-{number}")).collect();
    let pod = |name: &String| pod(node, "host-of-a-probe", "held-restricted", name);
    let pods: Vec<Value> = names.iter().map(pod).collect();
    cluster.create(&pods[..15], &[]).expect_success();
    cluster.create(&pods[15..], &["--server=https://203.0.113.1:6443"]).expect_success();
    let first: Vec<String> = names.iter().map(|name| first_decision(node, name, 0)).collect();
    let with = first.iter().filter(|decision| *decision == "denied").count();
    println!("kubelet and agent at two API servers: the facts were there for {with} of {}", names.len());
    assert_eq!(with, names.len(), "{first:?}");
    machine.end("kubelet", "TERM");
    machine.write(KUBELETS_CONFIG, &config.replace(":6443", ":443"));
    node.run_kubelet();
    control.end("kube-apiserver-2", "TERM");
    for name in &names {
        let _ = cluster.kubectl(&[
            "delete",
            "pod",
            "--namespace=held-restricted",
            name,
            "--grace-period=0",
            "--force",
        ]);
    }
}

/// The node boots and has no agent: what it knew before comes back before the engine does, and holds.
fn rebooted(cluster: &Cluster, node: &Node) {
    holds(cluster, node, "before-the-boot");
    let machine = node.machine();
    // The agent copies what it wrote some seconds later; what is newer than that a boot does not bring back.
    let at = Instant::now();
    let kept = || {
        known(machine).iter().all(|(path, text)| machine.read(&format!("/var/lib/pss-guard/{path}")) == *text)
    };
    assert!(run::within(Duration::from_secs(30), kept), "{}", cluster.agent_said(node));
    println!(
        "what was written is kept for the next boot {} ms after the first refusal",
        at.elapsed().as_millis()
    );
    cluster.kubectl(&["label", "node", &node.name, "agent-"]).expect_success();
    let gone = run::within(Duration::from_secs(60), || {
        std::thread::sleep(Duration::from_millis(500));
        cluster.agent(node).is_none()
    });
    assert!(gone, "the agent stays");
    machine.end("kubelet", "TERM");
    node.engine.crictl(&["rmp", "--all", "--force"]).expect_success();
    let before = known(machine);
    assert!(before.keys().any(|path| path.starts_with("pods/")), "{before:?}");
    machine.run(&["sh", "-c", "rm -rf /run/pss-guard"]).expect_success();
    machine.write("/etc/tmpfiles.d/pss-guard.conf", include_str!("../../systemd/pss-guard.tmpfiles"));
    machine.run(&["systemd-tmpfiles", "--create", "/etc/tmpfiles.d/pss-guard.conf"]).expect_success();
    let after = known(machine);
    let missing: Vec<_> = before.iter().filter(|(path, text)| after.get(*path) != Some(text)).collect();
    assert!(missing.is_empty(), "{missing:?}\n{after:?}");
    println!("a boot brings back {} files of {}", after.len(), before.len());
    let so_far = machine.events("PSS_POD", "before-the-boot").len();
    node.run_kubelet();
    assert_eq!(first_decision(node, "before-the-boot", so_far), "denied", "{}", machine.said("kubelet"));
    cluster.kubectl(&["label", "node", &node.name, "agent=daemonset"]).expect_success();
    all_are_ready(cluster, &[node]);
    holds(cluster, node, "after-the-boot");
}
