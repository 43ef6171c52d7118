//! Is what `scan` says what happens? Every pod starts on a node that only watches and is scanned; then the gate
//! enforces, and each is started again. Those that are refused then are those that were named, none more, none fewer.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::cases::{Case, is_refused_at_restricted, portable, slug};
use crate::support::cri::{self, Asked};
use crate::support::engine::{Engine, Kind};
use crate::support::gate::{self, Restart, methods, policy};
use crate::support::pod::{Capabilities, Pod, Seccomp, Volume};
use crate::support::run::Done;

#[test]
fn scan_names_what_containerd_is_refused() {
    tell("scan::scan_names_what_containerd_is_refused", Kind::Containerd2);
}

#[test]
fn scan_names_what_cri_o_is_refused() {
    tell("scan::scan_names_what_cri_o_is_refused", Kind::CriO);
}

/// Tells it, on a machine of its own.
fn tell(test: &str, kind: Kind) {
    if !kind.can_run(test) {
        return;
    }
    let engine = Engine::up(kind);
    unguarded(&engine);
    let command = engine.restart_command();
    engine.machine.write("/etc/pss-guard/policy.toml", &policy("audit"));
    gate::install(&engine.machine, kind.name(), methods(kind).0, Restart::Command(&command));
    let pods: Vec<Pod> = pods().into_iter().filter(|pod| engine.can_start(pod)).collect();
    assert!(pods.len() >= 40, "only {} pods", pods.len());
    let running = all_run(&engine, &pods);

    let asked = scanned(&engine, &["--level", "restricted"]);
    let containers = asked.iter().filter(|one| one["sandbox"] == false).count();
    assert_eq!(containers, pods.len(), "every container is found, and no other");
    let drifted: Vec<&Value> = asked.iter().filter(|one| one["drift"] != serde_json::json!([])).collect();
    assert!(drifted.is_empty(), "all run as they were asked for: {drifted:?}");
    let own = scanned(&engine, &[]);
    let said = engine.machine.run(&["/opt/pss-guard", "scan", "--fail"]);
    let hidden = hidden(&engine);
    for asked in running {
        asked.end(&engine);
    }

    engine.machine.write("/etc/pss-guard/policy.toml", &policy("enforce"));
    let mut refused = BTreeSet::new();
    for pod in &pods {
        let attempt = cri::start(&engine, pod);
        assert_ne!(attempt.ran, attempt.refusal().is_some(), "{}\n{attempt}", pod.name);
        if let Some(refusal) = attempt.refusal() {
            assert!(is_refused_at_restricted(&refusal), "{}\n{attempt}", pod.name);
            refused.insert(pod.name.to_owned());
        }
    }
    assert!(refused.len() >= 10 && refused.len() <= pods.len() - 10, "{refused:?}");
    assert_eq!(refused_by(&asked), refused, "asked for restricted");
    assert_eq!(refused_by(&own), refused, "asked for their own level");
    assert_eq!(said.code, Some(1), "{said}");
    let answer = format!("{0} of {1} containers in {0} pods would be refused", refused.len(), pods.len());
    assert!(said.stdout.contains(&answer), "{answer:?} in\n{said}");
    assert!(scanned(&engine, &[]).is_empty(), "nothing is left");
    assert_eq!(hidden.code, Some(2), "{hidden}");
    assert!(!hidden.stdout.contains("no container runs here"), "{hidden}");
}

/// What is said where other mounts hide what engines and runtimes keep.
fn hidden(engine: &Engine) -> Done {
    let folders = match engine.kind {
        Kind::CriO => "/run/containers /run/runc /run/crun /var/lib/containers",
        _ => "/run/containerd",
    };
    let mount = format!(
        "for folder in {folders}; do [ ! -d $folder ] || mount -t tmpfs none $folder || exit 9; done; \
         exec /opt/pss-guard scan --fail"
    );
    engine.machine.run(&["unshare", "--mount", "--propagation", "private", "sh", "-c", &mount])
}

/// On a node that the gate never came to, the same is named but for what only the gate makes the engine tell:
/// containerd passes host ports on where its configuration says so, which is what the installer writes there.
fn unguarded(engine: &Engine) {
    let few = ["everything set", "nothing set", "privileged", "host network", "host port", "unsafe sysctl"];
    let named = |case: &Case| Pod { name: slug(case.name).leak(), ..case.pod.clone() };
    let cases: Vec<Case> = portable().into_iter().filter(|case| few.contains(&case.name)).collect();
    let pods: Vec<Pod> = cases.iter().map(named).filter(|pod| engine.can_start(pod)).collect();
    let running = all_run(engine, &pods);
    let scanned = scanned(engine, &["--level", "restricted"]);
    let untold = |pod: &Pod| engine.kind != Kind::CriO && !pod.host_ports.is_empty();
    let wrong = cases.iter().map(|case| (named(case), case)).filter(|(pod, _)| engine.can_start(pod));
    let expected = wrong.filter(|(pod, case)| !case.said("restricted").is_empty() && !untold(pod));
    assert_eq!(refused_by(&scanned), expected.map(|(pod, _)| pod.name.to_owned()).collect(), "{scanned:?}");
    for pod in pods.iter().filter(|pod| untold(pod)) {
        let of_pod =
            scanned.iter().find(|one| one["container"]["pod"] == pod.name && one["sandbox"] == false);
        let findings = of_pod.and_then(|one| one["findings"].as_array()).expect("it was scanned");
        let said = |finding: &Value| finding["control"] == "hostPorts" && finding["certainty"] == "unseen";
        assert!(findings.iter().any(said), "what is not seen is said: {findings:?}");
    }
    for asked in running {
        asked.end(engine);
    }
}

/// Starts pods that nobody may stop.
fn all_run(engine: &Engine, pods: &[Pod]) -> Vec<Asked> {
    let running: Vec<Asked> = pods.iter().map(|pod| cri::ask(engine, pod)).collect();
    let still: Vec<&str> = running.iter().filter(|asked| !asked.ran).map(|asked| asked.pod.name).collect();
    assert!(still.is_empty(), "these should run: {still:?}\n{}", engine.said());
    running
}

/// What `scan` says of each container.
fn scanned(engine: &Engine, options: &[&str]) -> Vec<Value> {
    let line = [&["/opt/pss-guard", "scan", "--format", "json"], options].concat();
    let done = engine.machine.run(&line).expect_success();
    assert!(done.stderr.is_empty(), "{done}");
    done.stdout.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// The pods of which a part would be refused.
fn refused_by(scanned: &[Value]) -> BTreeSet<String> {
    let refused = scanned.iter().filter(|one| one["verdict"] == "deny");
    refused.map(|one| one["container"]["pod"].as_str().expect("a pod's name").to_owned()).collect()
}

/// Every kind of pod, in a namespace that is judged and in one that is exempt; and some of several kinds at once.
fn pods() -> Vec<Pod> {
    let mut pods = Vec::new();
    let mut add = |name: &str, pod: Pod| {
        for (namespace, offset) in [("shop", 0), ("kube-system", 1)] {
            let name: &'static str = format!("{}-{namespace}", slug(name)).leak();
            // A node has every port once.
            let host_ports = pod.host_ports.iter().map(|port| port + offset).collect();
            pods.push(Pod { name, namespace, host_ports, ..pod.clone() });
        }
    };
    for case in portable() {
        add(case.name, case.pod);
    }
    let good = Pod::compliant;
    let secret = Volume::EmptyDir { name: "secret", at: "/secret" };
    add(
        "two volumes",
        Pod { volumes: vec![secret, Volume::HostPath { path: "/srv", at: "/srv" }], ..good() },
    );
    add("host everything", Pod { host_network: true, host_pid: true, host_ipc: true, ..Pod::bare() });
    add(
        "privileged on the host",
        Pod { privileged: true, host_network: true, host_pid: true, ..Pod::bare() },
    );
    add("root without anything", Pod { uid: 0, capabilities: Capabilities::DropAll, ..good() });
    add("unconfined root", Pod { uid: 0, seccomp: Seccomp::Unconfined, ..good() });
    pods
}
