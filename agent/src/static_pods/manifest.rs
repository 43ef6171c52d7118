//! What the kubelet makes of the text of a manifest, as far as the standard reads it. Pure: bytes in, facts out.
//!
//! Source: Kubernetes `pkg/kubelet/config/common.go` (tryDecodeSinglePod, applyDefaults, generatePodName).

use pss::pod::Manifest;
use pss_guard_core::pods::PodFacts;
use pss_guard_manifests::node::{Node, Value};
use pss_guard_manifests::read::documents_within;
use pss_guard_manifests::{defaults, read};
use serde::Deserialize as _;

/// The most values in one manifest: some hundred times as many as one has. Aliases could ask for gigabytes.
const MOST: usize = 50_000;

/// Why a file has no pod.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoPod {
    /// It is none for the kubelet, either.
    #[error("{0}")]
    Other(String),
    /// The kubelet may be able to read it.
    #[error("{0}")]
    Unreadable(String),
}

/// The facts of the pod in a file, by the names that the kubelet of this node gives it.
pub(super) fn facts(bytes: &[u8], node: &str) -> Result<PodFacts, NoPod> {
    let unreadable = |error: &dyn std::fmt::Display| NoPod::Unreadable(error.to_string());
    let text = std::str::from_utf8(bytes).map_err(|error| unreadable(&error))?;
    let documents = documents_within(text, MOST).map_err(|error: read::ReadError| unreadable(&error))?;
    // The kubelet reads the first one and no other.
    let Some(mut pod) = documents.into_iter().next() else {
        return Err(NoPod::Other("it is empty".to_owned()));
    };
    let text = |keys: &[&str]| match pod.at_path(keys) {
        None => Ok(String::new()),
        Some(Node { value: Value::String(text), .. }) => Ok(text.clone()),
        Some(_) => Err(NoPod::Other(format!("{} is no text", keys.join(".")))),
    };
    let (version, kind) = (text(&["apiVersion"])?, text(&["kind"])?);
    if (&*version, &*kind) != ("v1", "Pod") {
        return Err(NoPod::Other(format!("it is no Pod of v1, but {kind:.64?} of {version:.64?}")));
    }
    let (name, namespace) = (text(&["metadata", "name"])?, text(&["metadata", "namespace"])?);
    let namespace = if namespace.is_empty() { "default" } else { &namespace };
    let name = format!("{name}-{}", node.to_ascii_lowercase());
    // What its decoder completes. That admission completes more adds nothing here: it is for pods of the API.
    defaults::apply(&mut pod);
    let manifest = Manifest::deserialize(&pod).map_err(|error| unreadable(&error))?;
    let facts = PodFacts::of_static(namespace, &name, manifest.into());
    if name.starts_with('-') || facts.file_name().is_none() {
        return Err(NoPod::Other(format!("{namespace:.64?} and {name:.256?} can be no names of a pod")));
    }
    Ok(facts)
}

#[cfg(test)]
mod tests {
    use super::{NoPod, facts};

    const ETCD: &str = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: etcd\n  namespace: kube-system\nspec:\n  hostNetwork: true\n  \
                        containers:\n  - name: etcd\n    image: etcd:3.5\n    securityContext: {privileged: yes}\n    ports: [{containerPort: 2379}]\n  \
                        volumes:\n  - {name: data, hostPath: {path: /var/lib/etcd}}\n  - {name: tmp}\n";

    fn json(text: &str) -> serde_json::Value {
        let facts = facts(text.as_bytes(), "Node-1").unwrap_or_else(|error| panic!("{text}: {error}"));
        serde_json::to_value(facts).unwrap()
    }

    #[test]
    fn a_manifest_is_the_pod_that_the_kubelet_makes_of_it() {
        let etcd = json(ETCD);
        assert_eq!((&etcd["namespace"], &etcd["name"]), (&"kube-system".into(), &"etcd-node-1".into()));
        assert_eq!((&etcd["source"], &etcd["owner"]), (&"static".into(), &serde_json::Value::Null));
        let container = &etcd["spec"]["containers"][0];
        // YAML 1.1, as the kubelet's reader has it, and what its decoder completes.
        assert_eq!(container["securityContext"]["privileged"], true);
        assert_eq!(container["ports"][0]["hostPort"], 2379);
        assert!(etcd["spec"]["volumes"][1].get("emptyDir").is_some(), "{etcd}");
        assert!(etcd.to_string().find("image").is_none(), "{etcd}");

        // The same as JSON, and with more documents, of which the kubelet reads the first.
        let as_json = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"etcd","namespace":"kube-system","uid":"0b9a2f7e-54f1-4d0c-9f50-0c1a5a1f2c3d",
            "annotations":{"kubernetes.io/config.mirror":"x","container.apparmor.security.beta.kubernetes.io/etcd":"unconfined"}},"spec":{"containers":[{"name":"etcd"}]}}"#;
        let read = json(as_json);
        assert_eq!(read["name"], "etcd-node-1");
        assert_eq!(read["uid"], "0".repeat(32), "no UID of its own makes it a pod of the API");
        assert_eq!(read["annotations"].as_object().unwrap().len(), 1);
        assert_eq!(json(&format!("{ETCD}---\nkind: Pod\nmetadata: {{name: other}}\n")), etcd);
        let defaulted = ETCD.replace("  namespace: kube-system\n", "");
        assert_eq!(json(&defaulted)["namespace"], "default");
    }

    #[test]
    fn what_is_no_pod_says_so_and_what_cannot_be_read_is_another_thing() {
        let with = |from: &str, to: &str| ETCD.replace(from, to).into_bytes();
        let other: [(Vec<u8>, &str); 12] = [
            (b"".to_vec(), "it is empty"),
            (b"---\n---\n".to_vec(), "it is no Pod of v1, but \"\" of \"\""),
            (b"# README\n".to_vec(), "it is empty"),
            (with("kind: Pod", "kind: List"), "it is no Pod of v1, but \"List\" of \"v1\""),
            (with("kind: Pod", "kind: pod"), "it is no Pod of v1, but \"pod\" of \"v1\""),
            (with("apiVersion: v1", "apiVersion: apps/v1"), "it is no Pod of v1, but \"Pod\" of \"apps/v1\""),
            (with("name: etcd\n  n", "name: 1\n  n"), "metadata.name is no text"),
            (with("namespace: kube-system", "namespace: [x]"), "metadata.namespace is no text"),
            (
                with("namespace: kube-system", "namespace: ../x"),
                "\"../x\" and \"etcd-node-1\" can be no names of a pod",
            ),
            (
                with("name: etcd\n  n", "generateName: etcd\n  n"),
                "\"kube-system\" and \"-node-1\" can be no names of a pod",
            ),
            (with("name: etcd\n  n", "name: ../../x\n  n"), "can be no names of a pod"),
            (
                with("name: etcd\n  n", &format!("name: {}\n  n", "a.".repeat(130))),
                "can be no names of a pod",
            ),
        ];
        for (bytes, expected) in other {
            let error = facts(&bytes, "node-1").unwrap_err();
            assert!(matches!(error, NoPod::Other(_)), "{error:?}");
            assert!(error.to_string().contains(expected), "{error}: {expected}");
        }
        let bomb = format!(
            "a: &a [{}]\nb: &b [{}]\nc: [{}]\n",
            "1, ".repeat(100),
            "*a, ".repeat(100),
            "*b, ".repeat(100)
        );
        let unreadable: [(Vec<u8>, &str); 6] = [
            (b"\xff\xfe".to_vec(), "invalid utf-8"),
            (b"apiVersion: v1\nkind: Pod\nkind: Pod\n".to_vec(), "occurs twice"),
            (with("spec:", "spec: ["), "did not find"),
            (with("hostNetwork: true", "hostNetwork: maybe"), "expected a boolean"),
            (bomb.into_bytes(), "more than 50000 values"),
            ("[".repeat(10_000).into_bytes(), "nesting"),
        ];
        for (bytes, expected) in unreadable {
            let error = facts(&bytes, "node-1").unwrap_err();
            assert!(matches!(error, NoPod::Unreadable(_)), "{error:?}");
            assert!(error.to_string().contains(expected), "{error}: {expected}");
        }
    }
}
