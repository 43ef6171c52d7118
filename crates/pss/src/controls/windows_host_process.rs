//! Windows host processes (baseline): no container may be a process of a Windows host.
//!
//! Upstream: `policy/check_windowsHostProcess.go`. Evidence: none; no Linux node runs Windows containers.

use crate::declared::{Setters, Violation};
use crate::pod::Pod;
use crate::{Control, Doc, Finding, Level, Origin, Scope, Visibility};

/// The control.
pub(super) const CONTROL: Control = Control {
    number: 12,
    id: "windowsHostProcess",
    level: Level::Baseline,
    origin: Origin::Upstream,
    scope: Scope::Container,
    sees: Visibility::Nothing,
    overrides: &[],
    observed: &[(0, |_, out| out.push(Finding::unseen(REASON, WINDOWS)))],
    declared: &[(0, declared)],
    doc: Doc {
        rule: "No container may be a process of a Windows host.",
        fields: "spec.securityContext.windowsOptions.hostProcess, \
                 spec.containers[*].securityContext.windowsOptions.hostProcess, and of initContainers and \
                 ephemeralContainers",
        allowed: "unset or false",
        evidence: "Nothing: only Windows nodes act on it, and this program is for Linux nodes.",
        blind: "All of it. Such a pod must also have hostNetwork, which hostNamespaces sees.",
        fix: "spec:\n  securityContext:\n    windowsOptions:\n      hostProcess: false",
    },
};

const REASON: &str = "hostProcess";

const WINDOWS: &str = "only Windows nodes have it: on Linux windowsOptions leave no trace";

fn declared(pod: &Pod) -> Option<Violation> {
    let bad = Setters::all(pod, &mut |shared, _| shared.host_process);
    let fix = "windowsOptions:\n  hostProcess: false";
    bad.forbid(REASON, " must not set securityContext.windowsOptions.hostProcess=true", fix)
}

#[cfg(test)]
mod tests {
    use super::{CONTROL, WINDOWS};
    use crate::Certainty::Unseen;
    use crate::testing::{compliant, make_privileged, table, with};

    #[test]
    fn nothing_of_it_is_ever_seen() {
        for minor in [0, 37] {
            table(
                &CONTROL,
                minor,
                &[
                    ("a compliant container", compliant(), Some((Unseen, WINDOWS))),
                    ("a privileged one", with(make_privileged), Some((Unseen, WINDOWS))),
                ],
            );
        }
    }
}
