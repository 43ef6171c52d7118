//! What the API server fills in before admission sees a pod, as far as the standard reads it.

use super::node::{Node, Value};

/// The lists whose ports get defaults; those of ephemeral containers have none.
const LISTS: [&str; 2] = ["containers", "initContainers"];

/// In a pod with the host's network every container port is a host port (`pkg/apis/core/v1/defaults.go`
/// `defaultHostNetworkPorts`). For the templates of workloads that happens when their pods are created.
pub(super) fn apply(spec: &mut Node) {
    if spec.get("hostNetwork").is_none_or(|node| node.value != Value::Bool(true)) {
        return;
    }
    for list in LISTS {
        let containers = spec.get_mut(list).and_then(Node::items_mut);
        for container in containers.into_iter().flatten() {
            let ports = container.get_mut("ports").and_then(Node::items_mut);
            ports.into_iter().flatten().for_each(host_port);
        }
    }
}

fn host_port(port: &mut Node) {
    let is_set = port.get("hostPort").is_some_and(|node| node.value != Value::Number(0.into()));
    let container_port = port.get("containerPort").cloned();
    if let (false, Some(container_port), Value::Map(entries)) = (is_set, container_port, &mut port.value) {
        entries.retain(|(key, _)| key != "hostPort");
        entries.push(("hostPort".to_owned(), container_port));
    }
}
