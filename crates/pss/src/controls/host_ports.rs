//! Host ports (baseline): no container may take a port of the host.
//!
//! Upstream: `policy/check_hostPorts.go`. Evidence: the kubelet's annotation `io.kubernetes.container.ports`.

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use super::{container, container_fix, listed, plural};
use crate::declared::{Section, Setters, Violation, sort};
use crate::facts::{Facts, Known};
use crate::pod::Pod;
use crate::{Control, Doc, Finding, Level, Origin, Scope, Visibility};

/// The control.
pub(super) const CONTROL: Control = Control {
    number: 5,
    id: "hostPorts",
    level: Level::Baseline,
    origin: Origin::Upstream,
    scope: Scope::Container,
    sees: Visibility::OneSided,
    overrides: &[],
    observed: &[(0, check)],
    declared: &[(0, declared)],
    doc: Doc {
        rule: "No container may take a port of the host.",
        fields: "spec.containers[*].ports[*].hostPort, and of initContainers and ephemeralContainers",
        allowed: "unset or 0; in a pod with hostNetwork the API server sets every hostPort to its containerPort",
        evidence: "The kubelet's annotation `io.kubernetes.container.ports`. CRI-O always writes it into config.json; \
                   containerd does so with container_annotations = [\"io.kubernetes.container.*\"].",
        blind: "Everything, where the engine does not pass the annotation on: port mappings go to the network plugin \
                only.",
        fix: "spec:\n  containers:\n  - name: app\n    ports: []   # or without hostPort; a Service gives a port of the \
              node",
    },
};

const REASON: &str = "hostPort";

fn check(facts: &Facts<'_>, out: &mut Vec<Finding>) {
    let ports = match &facts.host_ports {
        Known::Seen(ports) => ports,
        Known::Unseen(why) => return out.push(Finding::unseen(REASON, *why)),
    };
    let mut ports: Vec<String> = ports.iter().filter(|port| **port != 0).map(u16::to_string).collect();
    // As text, like upstream's set of strings: 100 before 20.
    ports.sort_unstable();
    ports.dedup();
    if ports.is_empty() {
        return;
    }
    let noun = plural("hostPort", "hostPorts", ports.len());
    let ports = listed(&ports, ", ", Clone::clone);
    let fix = container_fix(facts, &format!("ports: []   # or without hostPort {ports}"));
    out.push(Finding::violates(REASON, format!("{} uses {noun} {ports}", container(facts)), fix));
}

fn declared(pod: &Pod) -> Option<Violation> {
    let mut ports = Vec::new();
    let bad = Setters::containers(pod, &mut |container, _| {
        let before = ports.len();
        ports.extend(container.ports.iter().map(|port| port.host_port).filter(|port| *port != 0));
        ports.len() > before
    });
    if bad.is_empty() {
        return None;
    }
    // Each once before each is a text.
    sort(&mut ports);
    let mut ports: Vec<String> = ports.iter().map(i32::to_string).collect();
    ports.sort_unstable();
    let violation = bad.violate(REASON).say(plural(" uses ", " use ", bad.containers.len()));
    let violation = violation.say(plural("hostPort ", "hostPorts ", ports.len())).say_list(&ports, "");
    Some(violation.fix_containers(&bad, Section::Itself, "ports: []   # or without hostPort"))
}

#[cfg(test)]
mod tests {
    use super::CONTROL;
    use crate::Certainty::{Unseen, Violates};
    use crate::facts::{Facts, Known};
    use crate::testing::{table, with};

    fn ports(ports: &[u16]) -> Facts<'static> {
        with(|facts| facts.host_ports = Known::Seen(ports.to_vec()))
    }

    #[test]
    fn ports_are_listed_once_and_in_upstreams_order() {
        let rows = &[
            ("none", ports(&[]), None),
            ("zero means none", ports(&[0, 0]), None),
            ("one", ports(&[0, 8080]), Some((Violates, "container \"app\" uses hostPort 8080"))),
            ("the same twice", ports(&[53, 53]), Some((Violates, "container \"app\" uses hostPort 53"))),
            (
                "sorted as text",
                ports(&[20, 100, 20]),
                Some((Violates, "container \"app\" uses hostPorts 100, 20")),
            ),
            (
                "not to be had",
                with(|facts| facts.host_ports = Known::Unseen("no annotation")),
                Some((Unseen, "no annotation")),
            ),
        ];
        table(&CONTROL, 0, rows);
        table(&CONTROL, 37, rows);
    }
}
