//! Is the gate as good on a node whose distribution keeps containerd and the kubelet elsewhere? A real containerd, started as
//! k3s and k0s start theirs, and with the files of EKS and AKS.

use serde_json::Value;

use crate::support::captured::objects;
use crate::support::cri;
use crate::support::engine::{Engine, Files, Kind, Layout, Moved};
use crate::support::gate::policy;
use crate::support::pod::{Pod, Volume};

const K3S: Layout = Layout {
    containerd: Some(Moved {
        state: "/run/k3s/containerd",
        root: "/var/lib/rancher/k3s/agent/containerd",
        socket: "/run/k3s/containerd/containerd.sock",
    }),
    ..Layout::DEFAULT
};

const K0S: Layout = Layout {
    containerd: Some(Moved {
        state: "/run/k0s/containerd",
        root: "/var/lib/k0s/containerd",
        socket: "/run/k0s/containerd.sock",
    }),
    kubelet: "/var/lib/k0s/kubelet",
    ..Layout::DEFAULT
};

const EKS: Layout = Layout {
    files: Some(Files { tree: "eks-al2023", pause: "localhost/kubernetes/pause:latest" }),
    ..Layout::DEFAULT
};

const AKS: Layout = Layout {
    files: Some(Files { tree: "aks", pause: "mcr.microsoft.com/oss/kubernetes/pause:3.6" }),
    ..Layout::DEFAULT
};

const CONFIG: &str = "/etc/containerd/config.toml";

#[test]
fn the_gate_finds_its_way_where_k3s_keeps_things() {
    tell("distributions::the_gate_finds_its_way_where_k3s_keeps_things", K3S);
}

#[test]
fn the_gate_finds_its_way_where_k0s_keeps_things() {
    tell("distributions::the_gate_finds_its_way_where_k0s_keeps_things", K0S);
}

#[test]
fn the_gate_is_put_before_the_handlers_of_eks() {
    tell("distributions::the_gate_is_put_before_the_handlers_of_eks", EKS);
}

#[test]
fn the_gate_is_put_before_the_handlers_of_aks() {
    tell("distributions::the_gate_is_put_before_the_handlers_of_aks", AKS);
}

/// What the gate must know where to find: the pod's volumes, and the files of its sandbox.
fn with_a_volume() -> Pod {
    let volumes = vec![Volume::EmptyDir { name: "tmp", at: "/tmp" }];
    Pod { name: "good", volumes, ..Pod::compliant() }
}

fn tell(test: &str, layout: Layout) {
    if !Kind::Containerd2.can_run(test) {
        return;
    }
    let engine = Engine::up_in(Kind::Containerd2, layout);
    let machine = &engine.machine;
    // A process of that name and command line. What it runs is no matter.
    machine.run(&["cp", "/bin/sh", "/usr/bin/kubelet"]).expect_success();
    let root_dir = format!("--root-dir={}", layout.kubelet);
    let kubelet =
        machine.start("kubelet", &["kubelet", "-c", "while :; do sleep 1; done", "kubelet", &root_dir]);
    machine.run(&["mkdir", "-p", &format!("{}/pods", layout.kubelet)]).expect_success();
    let older = cri::ask(&engine, &Pod { name: "older", ..Pod::bare() });
    assert!(older.ran, "{:?}", older.calls);

    machine.write("/etc/pss-guard/policy.toml", &policy("enforce"));
    let restart = engine.restart_command();
    let install = ["/opt/pss-guard", "install", "--engine", "containerd", "--method", "runtime"];
    let before = machine.read(CONFIG);
    // Where the files are the distribution's own, it is recognized by them.
    let all = ["--config", CONFIG, "--restart", "--restart-command", &restart];
    let how = if layout.files.is_some() { &all[2..] } else { &all[..] };
    // Verified at the socket that the process names.
    let said = machine.run(&[&install[..], how].concat()).expect_success().stdout;
    let record = "/var/lib/pss-guard/kubelet-root";
    let is_moved = layout.kubelet != Layout::DEFAULT.kubelet;
    assert_eq!(said.contains(&format!("wrote {record}")), is_moved, "{said}");
    assert_eq!(machine.read(record), if is_moved { format!("{}\n", layout.kubelet) } else { String::new() });

    let good = cri::ask(&engine, &with_a_volume());
    assert!(good.ran, "{:?}\n{}", good.calls, engine.said());
    let host = vec![Volume::HostPath { path: "/etc", at: "/host" }];
    for (pod, control) in [
        (Pod { name: "bare", ..Pod::bare() }, "allowPrivilegeEscalation != false"),
        (Pod { name: "host", volumes: host, ..Pod::compliant() }, "uses restricted volume type \"hostPath\""),
    ] {
        let attempt = cri::start(&engine, &pod);
        let refusal = attempt.refusal().unwrap_or_default();
        assert!(!attempt.ran && refusal.contains(control), "{attempt}");
    }

    // Both kinds, with their sandboxes.
    let scanned =
        objects(&machine.run(&["/opt/pss-guard", "scan", "--format", "json", "--level", "restricted"]));
    let found = |pod: &str, sandbox: bool| {
        let is_it = |one: &&Value| one["container"]["pod"] == pod && one["sandbox"] == sandbox;
        scanned.iter().find(is_it).map(|one| one["verdict"].as_str().unwrap_or_default())
    };
    assert_eq!(found("good", false), Some("allow"), "{scanned:?}");
    assert_eq!(found("older", false), Some("deny"), "{scanned:?}");
    assert!(found("good", true).is_some() && found("older", true).is_some(), "{scanned:?}");
    assert_eq!(scanned.len(), 4, "{scanned:?}");
    // Whatever containerd's own state, runc's is here.
    assert!(machine.path("/run/containerd/runc/k8s.io").is_dir());

    let status = machine.run(&["/opt/pss-guard", "status", "--engine", "containerd", "--format", "json"]);
    let status: Value =
        serde_json::from_str(&status.stdout).unwrap_or_else(|error| panic!("{error}: {status}"));
    let containers = &status["engines"][0]["containers"];
    let names = |list: &str| containers[list].as_array().map_or(0, Vec::len);
    assert_eq!((names("through_the_gate"), names("before_the_gate")), (2, 2), "{status:#}");
    let whole = status.to_string();
    if let Some(Files { tree, .. }) = layout.files {
        let name = if tree.starts_with("eks") { "EKS" } else { "AKS" };
        assert!(whole.contains(name), "{status:#}");
    }
    let kubelet_is_right = format!("keeps its pods in {}, where the gate expects them", layout.kubelet);
    assert!(whole.contains(&kubelet_is_right) && !whole.contains("set kubelet-root"), "{status:#}");

    for asked in [older, good] {
        asked.end(&engine);
    }
    machine.stop(kubelet);
    let uninstall = ["/opt/pss-guard", "uninstall", "--engine", "containerd"];
    machine.run(&[&uninstall[..], &all[2..]].concat()).expect_success();
    assert!(!machine.path(record).exists(), "the record goes with the gate");
    assert_eq!(machine.read(CONFIG), before);
}
