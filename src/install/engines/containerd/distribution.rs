//! Refuses nodes of distributions that are not recognized yet where no engine is named.

use std::path::Path;

use crate::install::PlanError;
use crate::node::host::Node;
use crate::node::procfs::Processes;

/// Distributions that bring their own containerd: name, program, folder.
const DISTRIBUTIONS: [(&str, &str, &str); 4] = [
    ("k3s", "k3s", "/var/lib/rancher/k3s"),
    ("rke2", "rke2", "/var/lib/rancher/rke2"),
    ("k0s", "k0s", "/etc/k0s"),
    ("MicroK8s", "kubelite", "/var/snap/microk8s"),
];

/// Refuses a node that such a distribution runs on, whatever other engines there are: which one is meant has to be named.
pub(in crate::install) fn refuse_node(node: &dyn Node, processes: &Processes) -> Result<(), PlanError> {
    // Not what runs in a container: vcluster has a k3s in each of its pods.
    let is_here = |(_, program, folder): &&(&str, &str, &str)| {
        !processes.running(&[program]).is_empty() || !node.list(Path::new(folder)).is_empty()
    };
    match DISTRIBUTIONS.iter().find(is_here) {
        Some((name, _, folder)) => Err(PlanError::Unsupported {
            what: format!("{folder}: {name} brings its own containerd"),
            instead: "name the engine that is meant (--engine)".to_owned(),
        }),
        None => Ok(()),
    }
}
