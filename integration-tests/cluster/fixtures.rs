//! Does the gate refuse what the API server refuses? All of upstream's fixtures that a Linux node can run, at both levels, for real.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::cluster::{Cluster, Node};
use crate::support::engine::Kind;
use crate::support::exactness::{self, POLICY};
use crate::support::pod::Pod;
use crate::support::upstream::oracle;
use crate::support::{cri, declared, image, run};

#[test]
fn on_containerd() {
    tell("fixtures::on_containerd", Kind::Containerd2);
}

#[test]
fn on_cri_o() {
    tell("fixtures::on_cri_o", Kind::CriO);
}

fn tell(test: &str, kind: Kind) {
    if !Cluster::can_run(test, &[kind]) {
        return;
    }
    let Some(fixtures) = fixtures(test) else { return };
    println!("{} pods of upstream's fixtures", fixtures.len());
    let cluster = Cluster::up(&[kind], POLICY);
    let [node] = &cluster.nodes[..] else { panic!("one node") };
    cluster.bring_agent(node);
    let mut evaluated = 0;
    let mut differences = Vec::new();
    for level in ["baseline", "restricted"] {
        let at = Instant::now();
        exactness::make_namespaces(&cluster, level);
        lay_out(&cluster, node, &format!("held-{level}"));
        let pods: Vec<Value> = fixtures.iter().map(|pod| of(node, pod)).collect();
        let compared = exactness::compare(&cluster, node, level, &pods, 60);
        println!("{} at {level} in {} s: {compared}", kind.name(), at.elapsed().as_secs());
        evaluated += compared.admitted + compared.refused;
        assert!(compared.admitted > 10 && compared.admitted + compared.refused >= 200, "{compared}");
        differences.extend(compared.differences);
    }
    assert!(differences.is_empty(), "{} of {evaluated}: {differences:#?}", differences.len());
    beyond_admission(&cluster, node);
}

/// Upstream's fixtures of all versions, each pod once.
fn fixtures(test: &str) -> Option<Vec<Value>> {
    let oracle = oracle(test)?;
    let testdata = oracle.module.join("test/testdata");
    let all: Vec<Value> = oracle.ask(&["files", testdata.to_str().unwrap()], "");
    let mut seen = BTreeSet::new();
    let mut fixtures = Vec::new();
    for fixture in all {
        let mut pod = fixture["pod"].clone();
        let name = pod["metadata"]["name"].take();
        if !seen.insert(pod.to_string()) {
            continue;
        }
        pod["metadata"]["name"] =
            json!(format!("{}-{}", name.as_str().unwrap().replace('_', "-"), fixtures.len()));
        fixtures.push(pod);
    }
    // Those that wait for what nobody brings wait together.
    fixtures.sort_by_key(|pod| !pod["spec"]["volumes"].as_array().into_iter().flatten().all(is_mounted));
    Some(fixtures)
}

/// Whether a kubelet can bring such a volume without a cloud, a driver or a server.
fn is_mounted(volume: &Value) -> bool {
    const OWN: [&str; 7] =
        ["configMap", "downwardAPI", "emptyDir", "hostPath", "persistentVolumeClaim", "projected", "secret"];
    volume.as_object().unwrap().keys().all(|key| key == "name" || OWN.contains(&&**key))
}

/// The same pod where there is no registry: its containers run what is there, and end. What admission reads of it is untouched.
fn of(node: &Node, fixture: &Value) -> Value {
    let mut pod = fixture.clone();
    let spec = &mut pod["spec"];
    for (list, command) in
        [("initContainers", json!(["/bin/busybox", "true"])), ("containers", json!(["/bin/sleep", "600"]))]
    {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            let stays = container["restartPolicy"] == "Always";
            // A user that is a number, which `runAsNonRoot` needs.
            container["image"] = json!(image::APP_1000);
            container["imagePullPolicy"] = json!("Never");
            container["command"] = if stays { json!(["/bin/sleep", "600"]) } else { command.clone() };
        }
    }
    let more = json!({
        "nodeName": node.name,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "enableServiceLinks": false,
        "automountServiceAccountToken": false,
    });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    if spec["initContainers"].is_null() {
        spec.as_object_mut().unwrap().remove("initContainers");
    }
    pod
}

/// What some of the fixtures name.
fn lay_out(cluster: &Cluster, node: &Node, namespace: &str) {
    node.machine().write("/var/lib/kubelet/seccomp/testing", "{\"defaultAction\": \"SCMP_ACT_ALLOW\"}");
    for kind in ["configmap", "secret"] {
        let mut line = vec!["create", kind];
        if kind == "secret" {
            line.push("generic");
        }
        line.extend(["test", "--from-literal=key=value", "--namespace", namespace]);
        cluster.kubectl(&line).expect_success();
    }
    let claim = |kind: &str, mut spec: Value| {
        spec["accessModes"] = json!(["ReadWriteOnce"]);
        spec["storageClassName"] = json!("");
        let mut object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": format!("test-{namespace}")}, "spec": spec});
        if kind == "PersistentVolumeClaim" {
            object["metadata"] = json!({"name": "test", "namespace": namespace});
        }
        object
    };
    let volume =
        claim("PersistentVolume", json!({"capacity": {"storage": "1Mi"}, "hostPath": {"path": "/opt"}}));
    let of_volume =
        json!({"resources": {"requests": {"storage": "1Mi"}}, "volumeName": format!("test-{namespace}")});
    cluster.create(&[volume, claim("PersistentVolumeClaim", of_volume)], &[]).expect_success();
}

/// Containers that admission never sees, or does not see as they are; the gate refuses each.
fn beyond_admission(cluster: &Cluster, node: &Node) {
    let machine = node.machine();
    let decided = |namespace: &str, pod: &str, decision: &str| {
        let seen = || {
            let events = machine.events("PSS_NAMESPACE", namespace);
            let own = events.iter().find(|event| {
                event["PSS_POD"].as_str().is_some_and(|name| name.starts_with(pod))
                    && event["PSS_DECISION"] == decision
            });
            own.map(|event| event["MESSAGE"].as_str().unwrap_or_default().to_owned())
        };
        let found = run::within(Duration::from_secs(90), || {
            std::thread::sleep(Duration::from_millis(500));
            seen().is_some()
        });
        assert!(found, "{pod} is not {decision}\n{}", machine.said("kubelet"));
        println!("beyond admission, {pod}: {}", seen().unwrap());
    };
    let mut pod = declared::pods().remove(0);
    pod["spec"]["nodeName"] = json!(node.name);

    // Whoever can write on the node: the API server refuses the mirror, and the kubelet runs the pod.
    let mut of_the_node = pod.clone();
    of_the_node["metadata"] = json!({"name": "static", "namespace": "asked-restricted"});
    of_the_node["spec"].as_object_mut().unwrap().remove("nodeName");
    of_the_node["spec"]["volumes"] = json!([{"name": "etc", "hostPath": {"path": "/etc"}}]);
    of_the_node["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "etc", "mountPath": "/host"}]);
    machine.write("/etc/kubernetes/manifests/static.json", &of_the_node.to_string());
    decided("asked-restricted", "static", "denied");
    machine.run(&["rm", "/etc/kubernetes/manifests/static.json"]).expect_success();

    // Whoever can talk to the engine. The kubelet ends such pods, sometimes before their container starts.
    let by_hand = Pod { name: "by-hand", namespace: "asked-restricted", ..Pod::bare() };
    let refused = (0..10).any(|_| {
        let attempt = cri::start(&node.engine, &by_hand);
        assert!(!attempt.ran, "{attempt}");
        attempt.refusal().is_some_and(|said| said.contains("violates PodSecurity"))
    });
    assert!(refused, "{}", machine.said("engine"));
    decided("asked-restricted", "by-hand", "denied");

    // A pod that is older than its namespace's label: admission does not ask again.
    cluster.make_namespace("labelled-later", &[]);
    pod["metadata"] = json!({"name": "older", "namespace": "labelled-later"});
    pod["spec"]["containers"][0]["securityContext"].as_object_mut().unwrap().remove("seccompProfile");
    cluster.create(&[pod], &[]).expect_success();
    decided("labelled-later", "older", "allowed");
    let label = ["label", "namespace", "labelled-later", "pod-security.kubernetes.io/enforce=restricted"];
    cluster.kubectl(&label).expect_success();
    let known = || machine.read("/run/pss-guard/namespaces/labelled-later.json").contains("restricted");
    assert!(run::eventually(known), "{}", cluster.agent_said(node));
    let sandbox = ["pods", "--quiet", "--namespace", "labelled-later"];
    let sandbox = node.engine.crictl(&sandbox).expect_success().stdout;
    node.engine.crictl(&["stopp", sandbox.trim()]).expect_success();
    decided("labelled-later", "older", "denied");
}
