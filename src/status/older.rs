//! Lists the pods that are older than the gate. containerd takes a container's runtime from the sandbox of its pod
//! (`internal/cri/server/container_create.go`, `WithRuntime`), so whatever starts in them bypasses the gate.

use std::collections::BTreeSet;

use crate::inspect;
use crate::inspect::identity::identify;
use crate::level::labels::{is_dns_label, is_dns_subdomain};
use crate::level::workload::is_static;
use crate::level::{Labels, PodAttributes, Policy, exempt};
use crate::message::escape;
use crate::node::containers::{self, Voucher};
use crate::node::host::Live;
use crate::node::procfs::Processes;
use crate::pss::facts::{Engine, Subject};

/// What to recreate, and what cannot be said.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Older {
    /// What recreates each pod, sorted: the command, or what to do with a static pod's file.
    pub recreate: BTreeSet<String>,
    /// How many containers cannot be looked at.
    pub unread: usize,
}

/// The pods of containerd that run, without those that are exempt.
#[must_use]
pub fn pods(live: &Live, processes: &Processes, policy: &Policy) -> Older {
    let found = containers::find(live, processes, Voucher::Root);
    let mut older = Older { unread: found.closed.len(), ..Older::default() };
    for container in &found.containers {
        let Ok((config, bytes)) = inspect::read_config(&container.bundle) else {
            older.unread += 1;
            continue;
        };
        let Ok(spec) = inspect::parse(&config, &bytes) else {
            older.unread += 1;
            continue;
        };
        let handler = container.entry().map(|(_, handler)| handler);
        let Ok(identity) = identify(&spec, None, Some(&container.bundle), container.id.as_deref()) else {
            continue;
        };
        let whose = PodAttributes {
            namespace: identity.namespace,
            runtime_handler: handler,
            annotations: Labels::default(),
        };
        let is_pod = (identity.engine, identity.subject) == (Engine::Containerd, Subject::Sandbox);
        if let (Some(namespace), Some(pod), true) = (identity.namespace, identity.pod, is_pod)
            && exempt(policy, &whose).is_none()
        {
            older.recreate.insert(recreate(namespace, pod, identity.pod_uid.is_some_and(is_static)));
        }
    }
    older
}

/// Who makes a pod past the API server can call it anything: that is no command then.
fn recreate(namespace: &str, pod: &str, is_static: bool) -> String {
    match () {
        () if !is_dns_label(namespace) || !is_dns_subdomain(pod) => escape(&format!("({namespace}/{pod})")),
        // Its mirror can be deleted, and nothing comes of it.
        () if is_static => {
            format!("(static pod {namespace}/{pod}: move its file out of the kubelet's folder and back)")
        }
        () => format!("kubectl -n {namespace} delete pod {pod}"),
    }
}

#[cfg(test)]
mod tests {
    use super::recreate;

    #[test]
    fn nothing_that_a_name_says_is_a_command() {
        assert_eq!(recreate("shop", "web-0.x", false), "kubectl -n shop delete pod web-0.x");
        assert!(recreate("shop", "web-node", true).starts_with("(static pod shop/web-node: "));
        for (namespace, pod) in [("shop", "a;reboot"), ("a b", "web"), ("-n", "web"), ("shop", "\u{1b}[2J")] {
            let said = recreate(namespace, pod, false);
            assert!(said.starts_with('(') && !said.contains("kubectl") && !said.contains('\u{1b}'), "{said}");
        }
    }
}
