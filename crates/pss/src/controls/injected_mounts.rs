//! Injected mounts (baseline, our own): nothing of the host may be in a container that its pod does not mount.
//!
//! Upstream: none, this control is pss-guard's. Evidence: mounts and devices of config.json that the pod's declaration does
//! not explain. Without the declaration there is nothing to compare with, and they are hostPath volumes.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{container, listed, short};
use crate::facts::Facts;
use crate::{Control, Doc, Finding, Level, Origin, Scope, Visibility};

/// The control.
pub(super) const CONTROL: Control = Control {
    number: 21,
    id: "injectedMounts",
    level: Level::Baseline,
    origin: Origin::PssGuard,
    scope: Scope::Container,
    sees: Visibility::OneSided,
    overrides: &[],
    observed: &[(0, check)],
    declared: &[],
    doc: Doc {
        rule: "Nothing of the host may be in a container that its pod does not mount.",
        fields: "spec.containers[*].volumeMounts and .volumeDevices, and of initContainers and ephemeralContainers, beside \
                 config.json",
        allowed: "Mounts at the paths of volumeMounts, devices at those of volumeDevices, and what a CDI specification of the \
                  node or `[node] not-host-paths` explains. The Pod Security Standards do not ask for this; `[controls] injectedMounts` \
                  in the policy makes it audit (the default), enforce or off.",
        evidence: "Bind mounts and devices of config.json whose destination no volumeMount or volumeDevice of the container \
                   has, where the pod's facts are on the node.",
        blind: "Everything where the node has no facts of the pod: such a mount looks like a hostPath volume there. What a \
                plugin mounts over a path that the pod mounts itself.",
        fix: "spec:\n  containers:\n  - name: app\n    volumeMounts: []   # no field of the pod brings it; see device and NRI plugins",
    },
};

const REASON: &str = "injected mounts";

fn check(facts: &Facts<'_>, out: &mut Vec<Finding>) {
    if facts.injected.is_empty() {
        return;
    }
    let one = |(destination, source): &(Option<&str>, Cow<'_, str>)| -> String {
        let source = short(source);
        match destination {
            Some(at) => format!("the host's \"{source}\" at \"{}\"", short(at)),
            None => format!("the host's device \"{source}\""),
        }
    };
    let detail = format!(
        "{} has {}, which its pod does not mount",
        container(facts),
        listed(&facts.injected, ", ", one)
    );
    out.push(Finding::violates(REASON, detail, CONTROL.doc.fix));
}

#[cfg(test)]
mod tests {
    use super::CONTROL;
    use crate::Certainty::Violates;
    use crate::testing::{compliant, table, with};

    #[test]
    fn what_the_pod_does_not_mount_is_listed() {
        let detail = "container \"app\" has the host's \"/opt/plugin\" at \"/usr/lib/plugin\", the host's device \
                      \"/dev/char/10:229\", which its pod does not mount";
        let injected = with(|facts| {
            facts.injected =
                vec![(Some("/usr/lib/plugin"), "/opt/plugin".into()), (None, "/dev/char/10:229".into())];
        });
        table(&CONTROL, 0, &[("nothing", compliant(), None), ("two", injected, Some((Violates, detail)))]);
    }
}
