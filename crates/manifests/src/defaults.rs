//! What the API server changes in a pod before admission sees it, as far as the standard reads it.
//!
//! Volumes without a source become emptyDirs, also in the template of a workload. Host ports and AppArmor profiles are
//! completed only when the pod is created. Here all three are applied to templates, too, because admission allows or refuses
//! their pods.

use std::collections::HashSet;

use pss::pod::APPARMOR_ANNOTATION;

use super::node::{Node, Value};

/// The lists whose containers are completed. Ephemeral containers have no ports, and are added after the pod was created.
const LISTS: [&str; 2] = ["containers", "initContainers"];

/// The profile that admission forbids, as the annotation and as the field name it.
const UNCONFINED: [&str; 2] = ["unconfined", "Unconfined"];

/// Completes `metadata` and `spec` of a pod.
pub fn apply(pod: &mut Node) {
    let annotations = unconfined(pod);
    let Some(spec) = pod.get_mut("spec") else { return };
    for volume in items(spec, "volumes") {
        empty_dir(volume);
    }
    let is_on_host = spec.get("hostNetwork").is_some_and(|node| node.value == Value::Bool(true));
    let is_windows = spec.at_path(&["os", "name"]).and_then(Node::text) == Some("windows");
    let own = spec.at_path(&["securityContext", "appArmorProfile", "type"]).and_then(Node::text);
    let is_copied = !annotations.is_empty() && !is_windows && own != Some(UNCONFINED[1]);
    for list in LISTS {
        for container in items(spec, list) {
            if is_on_host {
                items(container, "ports").for_each(host_port);
            }
            let name = container.get("name").and_then(Node::text);
            if is_copied && name.is_some_and(|name| annotations.contains(name)) {
                app_armor_profile(container);
            }
        }
    }
}

/// The items of a list, to be changed; none where there is no list.
fn items<'n>(node: &'n mut Node, key: &str) -> impl Iterator<Item = &'n mut Node> + use<'n> {
    node.get_mut(key).and_then(Node::items_mut).into_iter().flatten()
}

/// A volume without a source is an emptyDir (`pkg/apis/core/v1/defaults.go` `SetDefaults_Volume`).
fn empty_dir(volume: &mut Node) {
    let at = volume.at;
    let Value::Map(entries) = &mut volume.value else { return };
    if entries.iter().all(|(key, node)| key == "name" || node.is_null()) {
        entries.retain(|(key, _)| key != "emptyDir");
        entries.push(("emptyDir".to_owned(), Node { at, value: Value::Map(Vec::new()) }));
    }
}

/// In a pod with the host's network every container port is a host port (`defaultHostNetworkPorts` there).
fn host_port(port: &mut Node) {
    let is_set = port.get("hostPort").is_some_and(|node| node.value != Value::Number(0.into()));
    let container_port = port.get("containerPort").cloned();
    if let (false, Some(container_port), Value::Map(entries)) = (is_set, container_port, &mut port.value) {
        entries.retain(|(key, _)| key != "hostPort");
        entries.push(("hostPort".to_owned(), container_port));
    }
}

/// The containers that annotations leave without AppArmor.
fn unconfined(pod: &Node) -> HashSet<String> {
    let annotations = pod.at_path(&["metadata", "annotations"]);
    let Some(Value::Map(entries)) = annotations.map(|node| &node.value) else { return HashSet::new() };
    let bad = entries.iter().filter(|(_, node)| node.text() == Some(UNCONFINED[0]));
    bad.filter_map(|(key, _)| Some(key.strip_prefix(APPARMOR_ANNOTATION)?.to_owned())).collect()
}

/// The annotation of a container becomes its field where it has none (`pkg/registry/core/pod/strategy.go`
/// `applyAppArmorVersionSkew`, since 1.30), so admission names the container beside the annotation. The other profiles
/// are allowed either way, and need not be copied.
fn app_armor_profile(container: &mut Node) {
    let at = container.at;
    let context = entry(container, "securityContext", Node { at, value: Value::Map(Vec::new()) });
    let kind = Node { at, value: Value::String(UNCONFINED[1].to_owned()) };
    let profile = Node { at, value: Value::Map(vec![("type".to_owned(), kind)]) };
    context.and_then(|context| entry(context, "appArmorProfile", profile));
}

/// The value of a key, which becomes this one where it is absent or null; none if the node is no map.
fn entry<'n>(node: &'n mut Node, key: &str, default: Node) -> Option<&'n mut Node> {
    let Value::Map(entries) = &mut node.value else { return None };
    if entries.iter().all(|(own, node)| own != key || node.is_null()) {
        entries.retain(|(own, _)| own != key);
        entries.push((key.to_owned(), default));
    }
    node.get_mut(key)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize as _;

    use super::apply;
    use crate::node::Node;
    use crate::read::documents;

    #[test]
    fn a_pod_is_completed_as_the_api_server_does() {
        const KEY: &str = "container.apparmor.security.beta.kubernetes.io/app";
        let unconfined = format!("metadata: {{annotations: {{{KEY}: unconfined}}}}\n");
        let with = |text: &str| format!("{unconfined}{text}");
        let profile = "securityContext: {appArmorProfile: {type: Unconfined}}";
        let rows = [
            // Volumes.
            ("spec: {volumes: [{name: a}]}", "spec: {volumes: [{name: a, emptyDir: {}}]}"),
            (
                "spec: {volumes: [{name: a, hostPath: null, emptyDir: }]}",
                "spec: {volumes: [{name: a, hostPath: null, emptyDir: {}}]}",
            ),
            ("spec: {volumes: [{name: a, hostPath: {}}]}", "spec: {volumes: [{name: a, hostPath: {}}]}"),
            ("spec: {volumes: [{name: a, new: {}}, 1]}", "spec: {volumes: [{name: a, new: {}}, 1]}"),
            // Ports.
            (
                "spec: {hostNetwork: true, containers: [{ports: [{containerPort: 1}, {containerPort: 2, hostPort: 0}]}]}",
                "spec: {hostNetwork: true, containers: [{ports: [{containerPort: 1, hostPort: 1}, {containerPort: 2, \
                 hostPort: 2}]}]}",
            ),
            (
                "spec: {hostNetwork: true, initContainers: [{ports: [{containerPort: 1, hostPort: 3}, {}]}]}",
                "spec: {hostNetwork: true, initContainers: [{ports: [{containerPort: 1, hostPort: 3}, {}]}]}",
            ),
            (
                "spec: {hostNetwork: false, containers: [{ports: [{containerPort: 1}]}]}",
                "spec: {hostNetwork: false, containers: [{ports: [{containerPort: 1}]}]}",
            ),
            (
                "spec: {hostNetwork: true, ephemeralContainers: [{ports: [{containerPort: 1}]}]}",
                "spec: {hostNetwork: true, ephemeralContainers: [{ports: [{containerPort: 1}]}]}",
            ),
            // AppArmor.
            (
                &with("spec: {containers: [{name: app}, {name: b}]}"),
                &with(&format!("spec: {{containers: [{{name: app, {profile}}}, {{name: b}}]}}")),
            ),
            (
                &with("spec: {initContainers: [{name: app, securityContext: null}]}"),
                &with(&format!("spec: {{initContainers: [{{name: app, {profile}}}]}}")),
            ),
            (
                &with("spec: {containers: [{name: app, securityContext: {appArmorProfile: {}}}]}"),
                &with("spec: {containers: [{name: app, securityContext: {appArmorProfile: {}}}]}"),
            ),
            (
                &with("spec: {ephemeralContainers: [{name: app}]}"),
                &with("spec: {ephemeralContainers: [{name: app}]}"),
            ),
            (
                &with("spec: {os: {name: windows}, containers: [{name: app}]}"),
                &with("spec: {os: {name: windows}, containers: [{name: app}]}"),
            ),
            (
                &with(
                    "spec: {securityContext: {appArmorProfile: {type: Unconfined}}, containers: [{name: app}]}",
                ),
                &with(
                    "spec: {securityContext: {appArmorProfile: {type: Unconfined}}, containers: [{name: app}]}",
                ),
            ),
            (
                &with(
                    "spec: {securityContext: {appArmorProfile: {type: Localhost}}, containers: [{name: app}]}",
                ),
                &with(&format!(
                    "spec: {{securityContext: {{appArmorProfile: {{type: Localhost}}}}, containers: [{{name: app, {profile}}}]}}"
                )),
            ),
            // Nothing of it.
            ("spec: 1", "spec: 1"),
            (
                "metadata: {annotations: x}\nspec: {containers: {}}",
                "metadata: {annotations: x}\nspec: {containers: {}}",
            ),
        ];
        let value = |node: &Node| serde_json::Value::deserialize(node).unwrap();
        for (text, expected) in rows {
            let (mut pod, expected) = (documents(text).unwrap().remove(0), documents(expected).unwrap());
            apply(&mut pod);
            assert_eq!(value(&pod), value(&expected[0]), "{text}");
        }
    }
}
