//! Hosts of probes and lifecycle handlers (baseline): they may only call the pod itself.
//!
//! Upstream: `policy/check_hostProbesAndhostLifecycle.go`. Evidence: the preStop handler, where an annotation tells it.

use alloc::format;
use alloc::vec::Vec;

use super::{container, container_fix, plural, quoted};
use crate::declared::{Section, Setters, Violation, sort};
use crate::facts::Facts;
use crate::pod::Pod;
use crate::{Control, Doc, Finding, Level, Origin, Scope, Visibility};

/// The control.
pub(super) const CONTROL: Control = Control {
    number: 6,
    id: "hostProbesAndHostLifecycle",
    level: Level::Baseline,
    origin: Origin::Upstream,
    scope: Scope::Container,
    sees: Visibility::Hardly,
    overrides: &[],
    observed: &[(34, check)],
    declared: &[(34, declared)],
    doc: Doc {
        rule: "Probes and lifecycle handlers may only call the pod itself.",
        fields: "host of httpGet and tcpSocket in livenessProbe, readinessProbe, startupProbe, lifecycle.postStart and \
                 lifecycle.preStop of spec.containers[*], and of initContainers and ephemeralContainers",
        allowed: "unset or empty; localhost, 127.0.0.1 and ::1 are forbidden too",
        evidence: "The kubelet's annotation `io.kubernetes.container.preStopHandler`: always on CRI-O, on containerd \
                   with container_annotations = [\"io.kubernetes.container.*\"].",
        blind: "Probes and postStart: the kubelet runs them and tells no engine.",
        fix: "spec:\n  containers:\n  - name: app\n    lifecycle: {}   # or handlers and probes without host",
    },
};

const REASON: &str = "probe or lifecycle host";

fn check(facts: &Facts<'_>, out: &mut Vec<Finding>) {
    let mut hosts: Vec<&str> = facts.lifecycle_hosts.iter().map(AsRef::as_ref).collect();
    hosts.retain(|host| !host.is_empty());
    hosts.sort_unstable();
    hosts.dedup();
    if hosts.is_empty() {
        return out.push(Finding::unseen(REASON, KUBELET));
    }
    let noun = plural("host", "hosts", hosts.len());
    let detail = format!("{} uses probe or lifecycle {noun} {}", container(facts), quoted(&hosts));
    let fix = container_fix(facts, "lifecycle: {}   # or handlers and probes without host");
    out.push(Finding::violates(REASON, detail, fix));
}

const KUBELET: &str =
    "the kubelet runs probes and lifecycle handlers itself: no engine is told of their hosts";

fn declared(pod: &Pod) -> Option<Violation> {
    let bad = Setters::containers(pod, &mut |container, values| {
        let before = values.len();
        let lifecycle = &container.lifecycle;
        let probes = [&container.liveness_probe, &container.readiness_probe, &container.startup_probe];
        for handler in probes.into_iter().chain([&lifecycle.post_start, &lifecycle.pre_stop]) {
            let hosts = [handler.http_get.host.as_str(), handler.tcp_socket.host.as_str()];
            values.extend(hosts.into_iter().filter(|host| !host.is_empty()));
        }
        values.len() > before
    });
    if bad.is_empty() {
        return None;
    }
    // The only list of containers that upstream sorts.
    let mut names: Vec<&str> = bad.containers.iter().map(|(_, name)| *name).collect();
    sort(&mut names);
    let violation = Violation::new(REASON).say_quoted("container", "containers", &names);
    let violation = violation.say(plural(" uses ", " use ", names.len()));
    let violation = violation.say_quoted("probe or lifecycle host", "probe or lifecycle hosts", &bad.values);
    Some(violation.fix_containers(
        &bad,
        Section::Itself,
        "lifecycle: {}   # or handlers and probes without host",
    ))
}

#[cfg(test)]
mod tests {
    use super::{CONTROL, KUBELET};
    use crate::Certainty::{Unseen, Violates};
    use crate::facts::Facts;
    use crate::testing::{table, with};

    fn hosts(hosts: &[&'static str]) -> Facts<'static> {
        with(|facts| facts.lifecycle_hosts = hosts.iter().map(|host| (*host).into()).collect())
    }

    #[test]
    fn a_host_that_is_seen_is_a_violation_and_silence_is_no_proof() {
        table(&CONTROL, 33, &[("not a control yet", hosts(&["a.com"]), None)]);
        let one = "container \"app\" uses probe or lifecycle host \"a.com\"";
        let two = "container \"app\" uses probe or lifecycle hosts \"127.0.0.1\", \"b.com\"";
        for minor in [34, 37] {
            table(
                &CONTROL,
                minor,
                &[
                    ("none", hosts(&[]), Some((Unseen, KUBELET))),
                    ("an empty host is the pod", hosts(&[""]), Some((Unseen, KUBELET))),
                    ("one", hosts(&["a.com"]), Some((Violates, one))),
                    ("the same twice", hosts(&["a.com", "a.com"]), Some((Violates, one))),
                    ("sorted", hosts(&["b.com", "127.0.0.1", "b.com"]), Some((Violates, two))),
                ],
            );
        }
    }
}
