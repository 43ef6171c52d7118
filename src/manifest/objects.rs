//! The objects of a document, and the pods that they ask for.
//!
//! Which kinds have a pod, and where, is what PodSecurity admission looks at (`admission/admission.go`
//! `defaultPodSpecExtractor`).

use std::borrow::Cow;

use crate::documents::node::{Node, Position, Value};
use crate::level::Labels;

/// An object of the API.
#[derive(Clone, Debug)]
pub struct Object<'n> {
    /// Its kind.
    pub kind: &'n str,
    /// Its namespace; none where the manifest leaves it to whoever applies it.
    pub namespace: Option<&'n str>,
    /// Its name, or what a generated one begins with.
    pub name: &'n str,
    /// Whether the name is only the beginning of a generated one.
    pub is_generated: bool,
    /// Where it begins.
    pub at: Position,
    /// What it is to Pod Security.
    pub role: Role<'n>,
}

/// What an object is to Pod Security.
#[derive(Clone, Debug)]
pub enum Role<'n> {
    /// A pod, or what makes pods: `metadata` and `spec` of the pod.
    Workload(&'n Node),
    /// A namespace, and its labels.
    Namespace(Labels<'n>),
    /// Nothing.
    Other,
}

/// Why a document is no object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// It is no object of the API at all.
    #[error("no Kubernetes object: {0:?} is missing or no text")]
    NoObject(&'static str),
    /// What must be text and is none: YAML takes `on` for a boolean and `1.30` for a number.
    #[error("{0} is no text, and the API server refuses it; quote the value")]
    NoText(String),
    /// Labels or annotations that are no keys and values.
    #[error("{0} is no mapping, and the API server refuses it")]
    NoMap(String),
    /// A list of something else than items.
    #[error("items of {0} is no list")]
    NoList(String),
    /// What kustomize makes objects of. Its patches can change any of them.
    #[error("a kustomization; render it first: kustomize build … | pss-guard check -")]
    Kustomization,
    /// What helm prints around manifests.
    #[error(
        "what helm reports of a release, not its manifests alone; use helm template or helm get manifest"
    )]
    HelmReport,
    /// A workload without its pod.
    #[error("{kind} without {field}: there is no pod to evaluate")]
    NoPod {
        /// The kind.
        kind: String,
        /// Where the pod should be.
        field: String,
    },
}

/// The groups of the kinds below, with those of clusters before 1.16. The same kind of another group is another thing.
const GROUPS: [&str; 4] = ["", "apps", "batch", "extensions"];

/// Kinds that have a pod, and the keys that lead to it.
const WORKLOADS: [(&str, &[&str]); 9] = [
    ("Pod", &[]),
    ("PodTemplate", &["template"]),
    ("Deployment", &["spec", "template"]),
    ("ReplicaSet", &["spec", "template"]),
    ("StatefulSet", &["spec", "template"]),
    ("DaemonSet", &["spec", "template"]),
    ("ReplicationController", &["spec", "template"]),
    ("Job", &["spec", "template"]),
    ("CronJob", &["spec", "jobTemplate", "spec", "template"]),
];

/// The objects of a document, those of lists one by one; an error where there is none, and where it stands.
#[must_use]
pub fn objects(document: &Node) -> Vec<Result<Object<'_>, (Position, ObjectError)>> {
    let mut found = Vec::new();
    collect(document, None, &mut found);
    found
}

/// `of`: the API version and the kind of the list's items. In a list as the API sends it they have none of their own.
fn collect<'n>(
    node: &'n Node,
    of: Option<(&'n str, &'n str)>,
    found: &mut Vec<Result<Object<'n>, (Position, ObjectError)>>,
) {
    let text = |key, inherited: Option<&'n str>| {
        if ["NAME", "LAST DEPLOYED", "STATUS"].iter().all(|key| node.get(key).is_some()) {
            return Err((node.at, ObjectError::HelmReport));
        }
        let own = node.get(key).and_then(Node::text).or(inherited).filter(|text| !text.is_empty());
        own.ok_or((node.at, ObjectError::NoObject(key)))
    };
    let (api_version, kind) = match (text("apiVersion", of.map(|of| of.0)), text("kind", of.map(|of| of.1))) {
        (Ok(api_version), Ok(kind)) => (api_version, kind),
        (Err(error), _) | (_, Err(error)) => return found.push(Err(error)),
    };
    // Whatever the kind: to kubectl everything with items is a list (apimachinery `unstructured/helpers.go` decode).
    let Some(items) = node.get("items") else {
        return found.push(object(api_version, kind, node));
    };
    let Some(items) = items.items() else {
        return found.push(Err((items.at, ObjectError::NoList(kind.to_owned()))));
    };
    let of = kind.strip_suffix("List").unwrap_or(kind);
    let of = Some((api_version, of)).filter(|_| !of.is_empty());
    for item in items {
        collect(item, of, found);
    }
}

fn object<'n>(
    api_version: &str,
    kind: &'n str,
    node: &'n Node,
) -> Result<Object<'n>, (Position, ObjectError)> {
    // Empty is absent.
    let metadata = |key: &str| match node.at_path(&["metadata", key]) {
        None => Ok(None),
        Some(node) => {
            let text = node.text().ok_or_else(|| (node.at, ObjectError::NoText(format!("metadata.{key}"))));
            text.map(|text| Some(text).filter(|text| !text.is_empty()))
        }
    };
    let (name, prefix) = (metadata("name")?, metadata("generateName")?);
    Ok(Object {
        kind,
        namespace: metadata("namespace")?,
        name: name.or(prefix).unwrap_or_default(),
        is_generated: name.is_none(),
        at: node.at,
        role: role(api_version, kind, node)?,
    })
}

fn role<'n>(api_version: &str, kind: &str, node: &'n Node) -> Result<Role<'n>, (Position, ObjectError)> {
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    if group == "kustomize.config.k8s.io" {
        return Err((node.at, ObjectError::Kustomization));
    }
    // Of a generated name nobody knows more than how it begins.
    let has = |key| node.at_path(&["metadata", key]).is_some();
    if group.is_empty() && kind == "Namespace" && (has("name") || !has("generateName")) {
        return labels(node, "labels").map(Role::Namespace);
    }
    let workload = WORKLOADS.iter().find(|(name, _)| *name == kind && GROUPS.contains(&group));
    let Some((_, keys)) = workload else { return Ok(Role::Other) };
    let pod = node.at_path(keys);
    let has_spec = |pod: &&Node| pod.get("spec").is_some_and(|spec| matches!(spec.value, Value::Map(_)));
    pod.filter(has_spec).map(Role::Workload).ok_or_else(|| {
        let field = [*keys, &["spec"]].concat().join(".");
        (node.at, ObjectError::NoPod { kind: kind.to_owned(), field })
    })
}

/// PSA's keys among `labels` or `annotations` of an object's metadata. A value of null is the empty text, as in Go's maps,
/// and so no level: it is not absent.
pub(super) fn labels<'n>(object: &'n Node, list: &str) -> Result<Labels<'n>, (Position, ObjectError)> {
    let mut labels = Labels::default();
    let Some(node) = object.at_path(&["metadata", list]) else { return Ok(labels) };
    let Value::Map(entries) = &node.value else {
        return Err((node.at, ObjectError::NoMap(format!("metadata.{list}"))));
    };
    for (key, node) in entries.iter().filter(|(key, _)| Labels::KEYS.contains(&key.as_str())) {
        let value = match &node.value {
            Value::String(text) => text,
            Value::Null => "",
            _ => return Err((node.at, ObjectError::NoText(format!("metadata.{list}[{key:?}]")))),
        };
        labels.set(key, Cow::Borrowed(value));
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::{Role, objects};
    use crate::documents::read::documents;

    /// Each object in a word or two.
    fn shown(text: &str) -> String {
        let documents = documents(text).unwrap();
        let all = documents.iter().filter(|document| !document.is_null()).flat_map(objects);
        let shown = all.map(|object| match object {
            Ok(object) => {
                let role = match object.role {
                    Role::Workload(pod) => format!("pod at {}", pod.at.line),
                    Role::Namespace(labels) => {
                        format!("enforce={}", labels.enforce.as_deref().unwrap_or("?"))
                    }
                    Role::Other => "-".to_owned(),
                };
                let namespace = object.namespace.unwrap_or("?");
                format!("{}:{} {namespace}/{} {role}", object.at.line, object.kind, object.name)
            }
            Err((at, error)) => format!("{}:{error}", at.line),
        });
        shown.collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn every_kind_of_workload_has_its_pod() {
        let namespace = |label: &str| {
            format!(
                "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n  labels:\n    pod-security.kubernetes.io/{label}\n"
            )
        };
        let simple = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: b}\nspec: {}\n";
        let rows = [
            (simple.to_owned(), "1:Pod b/a pod at 1"),
            (
                "apiVersion: v1\nkind: PodTemplate\nmetadata: {name: a}\ntemplate:\n  spec: {}\n".to_owned(),
                "1:PodTemplate ?/a pod at 4",
            ),
            (
                "apiVersion: batch/v1\nkind: CronJob\nmetadata: {generateName: a-}\nspec:\n  jobTemplate:\n    spec:\n      \
                 template:\n        spec: {}\n"
                    .to_owned(),
                "1:CronJob ?/a- pod at 7",
            ),
            (
                format!("{simple}---\n# nothing\n---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: shop, labels: {{a: 1}}}}"),
                "1:Pod b/a pod at 1; 8:Namespace ?/shop enforce=?",
            ),
            ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n".to_owned(), "1:ConfigMap ?/a -"),
            (
                "apiVersion: foo.io/v1\nkind: Deployment\nmetadata: {name: a}\n".to_owned(),
                "1:Deployment ?/a -",
            ),
            (
                "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {}\n".to_owned(),
                "1:Deployment without spec.template.spec: there is no pod to evaluate",
            ),
            ("a: 1\n".to_owned(), "1:no Kubernetes object: \"apiVersion\" is missing or no text"),
            (
                "apiVersion: v1\nkind: Pod\nmetadata:\n  name: n\nspec: {}\n".to_owned(),
                "4:metadata.name is no text, and the API server refuses it; quote the value",
            ),
            (
                "apiVersion: v1\nkind: Pod\nmetadata:\n  namespace: 1\nspec: {}\n".to_owned(),
                "4:metadata.namespace is no text, and the API server refuses it; quote the value",
            ),
            (
                "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  namespace: ''\nspec: {}\n".to_owned(),
                "1:Pod ?/a pod at 1",
            ),
            (namespace("enforce: restricted"), "1:Namespace ?/shop enforce=restricted"),
            (namespace("enforce:"), "1:Namespace ?/shop enforce="),
            (
                namespace("enforce-version: 1.30"),
                "6:metadata.labels[\"pod-security.kubernetes.io/enforce-version\"] is no text, and the API server \
                 refuses it; quote the value",
            ),
            (
                "apiVersion: v1\nkind: Namespace\nmetadata:\n  labels: x\n".to_owned(),
                "4:metadata.labels is no mapping, and the API server refuses it",
            ),
            ("- 1\n".to_owned(), "1:no Kubernetes object: \"apiVersion\" is missing or no text"),
            ("apiVersion: v1\n".to_owned(), "1:no Kubernetes object: \"kind\" is missing or no text"),
            (
                "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {}}\n- {}\n"
                    .to_owned(),
                "4:Pod ?/a pod at 4; 5:no Kubernetes object: \"apiVersion\" is missing or no text",
            ),
            (
                "{\"apiVersion\":\"v1\",\"kind\":\"PodList\",\"items\":[{\"metadata\":{\"name\":\"a\"},\"spec\":{}}]}".to_owned(),
                "1:Pod ?/a pod at 1",
            ),
            ("apiVersion: v1\nkind: List\nitems: []\n".to_owned(), ""),
            ("apiVersion: v1\nkind: List\nitems: {}\n".to_owned(), "3:items of List is no list"),
            ("apiVersion: v1\nkind: PodList\n".to_owned(), "1:PodList ?/ -"),
            // What kubectl applies of it is the pod.
            (
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: b}, \
                 spec: {}}\n"
                    .to_owned(),
                "5:Pod ?/b pod at 5",
            ),
            (
                "apiVersion: v1\nkind: Pod\nspec: {}\nitems:\n- {metadata: {name: b}, spec: {}}\n".to_owned(),
                "5:Pod ?/b pod at 5",
            ),
        ];
        for (text, expected) in rows {
            assert_eq!(shown(&text), expected, "{text}");
        }
        for kind in ["Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job", "ReplicationController"] {
            let text = format!(
                "apiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: a}}\nspec:\n  template:\n    spec: {{}}\n"
            );
            assert_eq!(shown(&text), format!("1:{kind} ?/a pod at 5"));
        }
    }
}
