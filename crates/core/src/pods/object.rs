//! Derives the facts of a pod from its object, as the API server or the kubelet gives it.

use std::collections::BTreeMap;

use pss::pod::{Pod, PodSpec, is_read};
use serde::de::{Deserialize, Deserializer, Error as _};
use serde_json::Value;

use super::{PodFacts, Source, Whose, Workload};
use crate::level::workload;

/// A pod, as far as it matters. Unknown keys are skipped.
#[derive(Debug, Default, serde::Deserialize)]
pub struct Object {
    #[serde(default)]
    pub(super) kind: String,
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
}

#[derive(Debug, Default, serde::Deserialize)]
struct Metadata {
    name: String,
    namespace: String,
    uid: String,
    // Go prints a map that was never made as null.
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    #[serde(rename = "ownerReferences")]
    owners: Option<Vec<OwnerReference>>,
}

#[derive(Debug, serde::Deserialize)]
struct OwnerReference {
    kind: String,
    name: String,
    controller: Option<bool>,
}

#[derive(Debug, Default)]
struct Spec {
    node: String,
    pod: PodSpec,
}

impl<'de> Deserialize<'de> for Spec {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut spec = Value::deserialize(from)?;
        let node = spec.as_object_mut().and_then(|spec| spec.remove("nodeName"));
        let node = node.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned();
        // Where it is wrong is lost on the way; the error at least names the key's type.
        Ok(Self { node, pod: serde_json::from_value(spec).map_err(D::Error::custom)? })
    }
}

/// The kubelet's mark on the object that it makes of a static pod (`pkg/kubelet/types/pod_update.go`). Everyone who can
/// create pods can set it.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// Where the kubelet has a pod from; it sets this on every pod that it has (`pkg/kubelet/config/config.go`).
const CONFIG_SOURCE: &str = "kubernetes.io/config.source";
/// What a Deployment appends to the names of its ReplicaSets, as a label of their pods.
const HASH: &str = "pod-template-hash";

/// What an object says of itself, as its author and the API server wrote it.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// The name.
    pub name: String,
    /// The namespace.
    pub namespace: String,
    /// The UID.
    pub uid: String,
    /// The labels.
    pub labels: BTreeMap<String, String>,
    /// The annotations.
    pub annotations: BTreeMap<String, String>,
    /// The kind and name of the owner that controls it.
    pub controller: Option<(String, String)>,
}

impl Object {
    /// A pod whose metadata the caller has parsed.
    #[must_use]
    pub fn new(about: About, spec: PodSpec) -> Self {
        let About { name, namespace, uid, labels, annotations, controller } = about;
        let owner = controller.map(|(kind, name)| OwnerReference { kind, name, controller: Some(true) });
        let (labels, annotations, owners) =
            (Some(labels), Some(annotations), Some(owner.into_iter().collect()));
        let metadata = Metadata { name, namespace, uid, labels, annotations, owners };
        Self { kind: String::new(), metadata, spec: Spec { node: String::new(), pod: spec } }
    }

    /// The node that it is bound to; empty if to none.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.spec.node
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.metadata.namespace
    }

    /// Whether it says that it is the mirror pod of a static one. It may be forged, so there are no facts of it.
    #[must_use]
    pub fn is_mirror(&self) -> bool {
        self.annotation(MIRROR).is_some()
    }

    /// Whether it can be from the kubelet's own list.
    pub(super) fn is_of_kubelet(&self) -> bool {
        self.annotation(CONFIG_SOURCE).is_some() && !self.is_mirror()
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata.annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// Its facts; `None` for the mirror of a static pod. Only the kubelet gives a UID without dashes
    /// (`pkg/kubelet/config/common.go`): the API server sets its own (apiserver `pkg/registry/rest/meta.go`), so no annotation
    /// makes a pod of the API a static one.
    #[must_use]
    pub fn facts(self) -> Option<PodFacts> {
        let source = if workload::is_static(&self.metadata.uid) { Source::Static } else { Source::Api };
        if self.is_mirror() || (source == Source::Static && !self.is_of_kubelet()) {
            return None;
        }
        let owner = if source == Source::Api { self.owner() } else { None };
        let Self { metadata: Metadata { name, namespace, uid, annotations, .. }, spec, .. } = self;
        let mut annotations = annotations.unwrap_or_default();
        annotations.retain(|key, _| is_read(key));
        let whose = Whose { uid: &uid, namespace: &namespace, name: &name };
        Some(PodFacts::new(whose, owner, source, Pod { annotations, spec: spec.pod }))
    }

    /// The controller. Of a ReplicaSet that carries the hash of its pods in its name, the Deployment: nobody else names
    /// them so, and the node may not read ReplicaSets.
    fn owner(&self) -> Option<Workload> {
        let owners = self.metadata.owners.as_deref().unwrap_or_default();
        let owner = owners.iter().find(|owner| owner.controller == Some(true))?;
        let hash = self.metadata.labels.as_ref().and_then(|labels| labels.get(HASH));
        let deployment = hash.filter(|hash| owner.kind == "ReplicaSet" && !hash.is_empty());
        let deployment = deployment
            .and_then(|hash| owner.name.strip_suffix(hash.as_str())?.strip_suffix('-'))
            .filter(|name| !name.is_empty());
        Some(match deployment {
            Some(name) => Workload { kind: "Deployment".to_owned(), name: name.to_owned() },
            None => Workload { kind: owner.kind.clone(), name: owner.name.clone() },
        })
    }
}
