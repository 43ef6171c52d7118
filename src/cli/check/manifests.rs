//! Files of manifests: which files these are, what they say of namespaces, and their workloads one by one.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Deserialize as _;

use super::shown;
use crate::cli::arguments::Check;
use crate::decision::Verdict;
use crate::documents::node::{Node, Position, Value};
use crate::documents::read::{LARGEST, documents};
use crate::files::{FileError, read};
use crate::inspect::identity::Identity;
use crate::level::policy::Setting;
use crate::level::{NamespaceLabels, Policy, RequiredLevel, is_dns_label, namespaces, workload};
use crate::manifest::evaluate::{Settings, evaluate};
use crate::manifest::objects::{Object, ObjectError, Role, objects};
use crate::message::{line, shortened};
use crate::output::json::{Container, Result as Json};
use crate::pods::{self, PodFacts};
use crate::pss::pod::{Manifest, Pod};

/// A file of manifests.
pub(super) struct File {
    /// Its name, for messages.
    shown: String,
    path: PathBuf,
    /// Its documents, or the first thing that is wrong with it and the line of that.
    documents: Result<Vec<Node>, (Option<usize>, String)>,
    /// Whether only its folder was named: then what is of other programs is no mistake in it.
    of_folder: bool,
}

impl File {
    /// Reads the documents.
    pub(super) fn of(shown: String, path: &Path, bytes: Result<Vec<u8>, FileError>) -> Self {
        let too_large = |bytes: &Vec<u8>| u64::try_from(bytes.len()).is_ok_and(|length| length > LARGEST);
        let documents = match bytes {
            Err(error) => Err((None, line(&error))),
            Ok(bytes) if too_large(&bytes) => Err((None, format!("more than {} MiB", LARGEST >> 20))),
            Ok(bytes) if [b"\xff\xfe", b"\xfe\xff"].iter().any(|mark| bytes.starts_with(*mark)) => {
                Err((None, "UTF-16, as PowerShell writes it; save it as UTF-8".to_owned()))
            }
            Ok(bytes) => match std::str::from_utf8(&bytes) {
                Err(error) => Err((None, format!("no UTF-8 at byte {}", error.valid_up_to()))),
                Ok(text) => documents(text).map_err(|error| (Some(error.at.line), error.to_string())),
            },
        };
        Self { shown, path: path.to_owned(), documents, of_folder: false }
    }

    /// How its folder must be rendered, if it does not hold what is applied.
    fn rendered_by(&self) -> Option<&'static str> {
        RENDERED.iter().find(|(name, _)| self.path.ends_with(name)).map(|(_, by)| *by)
    }

    /// Whether a document is of another program: `kubectl` applies nothing without an API version and a kind.
    fn is_foreign(&self, document: &Node) -> bool {
        self.of_folder
            && self.rendered_by().is_none()
            && matches!(document.value, Value::Map(_))
            && ["apiVersion", "kind", "items", "LAST DEPLOYED"].iter().all(|key| document.get(key).is_none())
    }

    /// How many documents are of other programs.
    fn foreign(&self) -> usize {
        let documents = self.documents.as_deref().unwrap_or_default();
        documents.iter().filter(|document| self.is_foreign(document)).count()
    }

    /// The objects of all documents, and which document each is in, from 1.
    fn objects(&self) -> impl Iterator<Item = (usize, Result<Object<'_>, (Position, ObjectError)>)> {
        let documents = self.documents.as_deref().unwrap_or_default().iter().zip(1..);
        let documents = documents.filter(|(document, _)| !document.is_null() && !self.is_foreign(document));
        documents.flat_map(|(document, nth)| objects(document).into_iter().map(move |object| (nth, object)))
    }
}

/// Files from which other programs make manifests, and how.
const RENDERED: [(&str, &str); 5] = [
    ("kustomization.yaml", "kustomize build"),
    ("kustomization.yml", "kustomize build"),
    ("Chart.yaml", "helm template"),
    ("Chart.yml", "helm template"),
    ("values.yaml", "helm template"),
];

/// How much of a name that is none is shown, in bytes.
const SHOWN: usize = 100;

/// The namespace of a workload that names none, as kubectl has it.
const DEFAULT: &str = "default";

/// All manifests of a call: the namespaces in any of them count for the workloads in all.
pub(super) struct Manifests<'a> {
    policy: Policy,
    demand: Option<RequiredLevel<'a>>,
    namespace: &'a str,
    /// Where this node keeps the levels of namespaces.
    folder: &'a Path,
    /// The namespaces in the manifests; none of one that is there twice with other labels.
    known: HashMap<&'a str, Option<NamespaceLabels<'a>>>,
    others: usize,
}

impl<'a> Manifests<'a> {
    pub(super) fn of(
        files: impl Iterator<Item = &'a File>,
        policy: &Policy,
        options: &'a Check,
        folder: &'a Path,
    ) -> Self {
        let mut known: HashMap<&str, Option<NamespaceLabels<'_>>> = HashMap::new();
        let mut others = 0;
        for file in files {
            others += file.foreign();
            for object in file.objects().filter_map(|(_, object)| object.ok()) {
                match object.role {
                    Role::Workload(_) => continue,
                    Role::Other => {}
                    Role::Namespace(labels) => {
                        let found =
                            |labels| Some(NamespaceLabels::Labels { labels, path: file.path.clone() });
                        let before = known.insert(object.name, found(labels.clone()));
                        let same = |before| matches!(before, Some(NamespaceLabels::Labels { labels: own, .. }) if own == labels);
                        if before.is_some_and(|before| !same(before)) {
                            known.insert(object.name, None);
                        }
                    }
                }
                others += 1;
            }
        }
        let mut policy = policy.clone();
        // Admission knows no control of ours. Where no policy asks for it, it is reported and decides nothing.
        if policy.file.is_none() {
            policy.controls.read_only_root_filesystem = Setting::Audit;
        }
        Self {
            policy,
            demand: options.level.map(|(level, version)| RequiredLevel::argument(level, version)),
            namespace: options.namespace.as_deref().unwrap_or(DEFAULT),
            folder,
            known,
            others,
        }
    }

    /// How many objects are no workloads.
    pub(super) fn passed_over(&self) -> usize {
        self.others
    }

    /// Evaluates every workload of a file.
    pub(super) fn evaluate(&self, file: &File, mut show: impl FnMut(&Json<'_>, Verdict)) {
        if let Err((line, because)) = &file.documents {
            let (object, verdict) = cannot_judge(file, *line, because.clone());
            show(&object, verdict);
        }
        for (document, object) in file.objects() {
            let (result, verdict) = match &object {
                Ok(Object { role: Role::Namespace(_) | Role::Other, .. }) => continue,
                Ok(object @ Object { role: Role::Workload(pod), .. }) => self.workload(file, object, pod),
                Err((at, error)) => {
                    let way_out =
                        file.rendered_by().map(|by| format!("; render it first: {by} … | pss-guard check -"));
                    cannot_judge(file, Some(at.line), line(error) + &way_out.unwrap_or_default())
                }
            };
            show(&Json { document: Some(document), ..result }, verdict);
        }
    }

    fn workload<'f>(&self, file: &'f File, object: &Object<'_>, pod: &Node) -> (Json<'f>, Verdict) {
        let namespace = object.namespace.unwrap_or(self.namespace);
        let found = match self.found(namespace) {
            Ok(found) => found,
            Err(because) => return cannot_judge(file, Some(object.at.line), because),
        };
        let settings = Settings {
            policy: &self.policy,
            demand: self.demand.as_ref(),
            found: &found,
            namespace,
            path: &file.shown,
        };
        evaluate(object, pod, &settings)
    }

    /// The labels of a namespace: in the manifests, else as this node knows them.
    fn found(&self, namespace: &str) -> Result<NamespaceLabels<'a>, String> {
        if !is_dns_label(namespace) {
            return Err(format!("{:?} is no name of a namespace", shortened(namespace, SHOWN)));
        }
        if self.demand.is_some() {
            return Ok(NamespaceLabels::NoFolder);
        }
        if let Some(found) = self.known.get(namespace) {
            // Which of them holds when the workload is applied depends on the order.
            let twice =
                || format!("the Namespace {namespace:?} is in the manifests twice, with other labels");
            return found.clone().ok_or_else(twice);
        }
        match namespaces::read(self.folder, namespace) {
            // What nobody imported on this machine says nothing of a manifest.
            Ok(NamespaceLabels::Missing | NamespaceLabels::NoFolder) => Ok(NamespaceLabels::NoFolder),
            Ok(found) => Ok(found),
            Err(error) => Err(line(&error)),
        }
    }
}

/// A pod that was given by hand, and what its file says of whose it is.
pub(super) struct Given {
    /// What it declares.
    pub(super) pod: Pod,
    /// Its workload; none where only the name can tell.
    pub(super) workload: Option<String>,
    /// Its file, for messages.
    shown: String,
    namespace: Option<String>,
    /// None for the template of a workload.
    name: Option<String>,
    uid: Option<String>,
}

impl Given {
    /// Why it is not the pod of a container. What the file leaves open, as manifests do, can be anything.
    pub(super) fn is_not_of(&self, container: &Identity<'_>) -> Option<String> {
        let is_static = container.pod_uid.is_some_and(workload::is_static);
        // The kubelet appends the node's name to a static pod's (`pkg/kubelet/config/common.go` generatePodName).
        let is_on_node = |ours: &str, theirs: &str| {
            is_static && theirs.strip_prefix(ours).is_some_and(|node| node.starts_with('-'))
        };
        let [namespace, name, uid] = [
            (&self.namespace, container.namespace),
            (&self.name, container.pod),
            (&self.uid, container.pod_uid),
        ]
        .map(|(ours, theirs)| ours.as_deref().zip(theirs));
        let differs = namespace.is_some_and(|(ours, theirs)| ours != theirs)
            || name.is_some_and(|(ours, theirs)| ours != theirs && !is_on_node(ours, theirs))
            || uid.is_some_and(|(ours, theirs)| ours != theirs && !is_static);
        // A container without a namespace is of no pod.
        if !differs && container.namespace.is_some() {
            return None;
        }
        let ours = [&self.namespace, &self.name, &self.uid].map(Option::as_deref);
        let theirs = [container.namespace, container.pod, container.pod_uid];
        let show = |[namespace, name, uid]: [Option<&str>; 3]| {
            let uid = uid.map(|uid| format!(" ({uid})")).unwrap_or_default();
            format!("{}/{}{uid}", namespace.unwrap_or("*"), name.unwrap_or("*"))
        };
        let theirs = if container.namespace.is_some() {
            format!("of pod {}", show(theirs))
        } else {
            "of no pod".to_owned()
        };
        Some(format!(
            "--pod: {} is of pod {}, and the container is {theirs}; give the container's own pod",
            self.shown,
            shortened(&show(ours), 512)
        ))
    }
}

/// The one pod in a file of manifests, or the facts that an agent would write.
pub(super) fn pod(path: &Path) -> Result<Given, String> {
    let file = File::of(shown(path), path, read(path, LARGEST));
    let at = |line: Option<usize>, says: String| match line {
        Some(line) => format!("{}:{line}: {says}", file.shown),
        None => format!("{}: {says}", file.shown),
    };
    let documents = file.documents.as_ref().map_err(|(line, says)| at(*line, says.clone()))?;
    // Facts have no kind.
    if let [facts] = documents.as_slice()
        && facts.get("v").is_some()
    {
        let pod = Pod::deserialize(facts).map_err(|error| at(Some(error.at.line), error.to_string()))?;
        let [namespace, name, uid] = ["namespace", "name", "uid"].map(|key| text(facts, &[key]));
        let workload = PodFacts::deserialize(facts).ok();
        let workload = workload.and_then(|facts| facts.workload().map(str::to_owned));
        return Ok(Given { pod, workload, shown: file.shown.clone(), namespace, name, uid });
    }
    let workload = |(_, object): (usize, Result<Object<'_>, _>)| {
        let object = object.ok()?;
        let Role::Workload(pod) = object.role else { return None };
        // As it is in the API, which has filled in its defaults.
        let read = Manifest::deserialize(pod).map(Pod::from);
        let of_pod = |key| text(pod, &["metadata", key]).filter(|_| object.kind == "Pod");
        // Only an object of the API, which has a UID, says that it has no controller.
        let facts = pods::Object::deserialize(pod).ok().and_then(pods::Object::facts);
        let workload = facts.as_ref().and_then(PodFacts::workload).filter(|_| object.kind == "Pod");
        let given = |declared| Given {
            pod: declared,
            workload: workload.map(str::to_owned),
            shown: file.shown.clone(),
            namespace: object.namespace.map(str::to_owned),
            name: of_pod("name"),
            uid: of_pod("uid"),
        };
        Some(read.map(given).map_err(|error| at(Some(error.at.line), error.to_string())))
    };
    let mut pods = file.objects().filter_map(workload);
    match (pods.next(), pods.next()) {
        (Some(pod), None) => pod,
        (None, _) => Err(at(None, "there is no pod in it".to_owned())),
        (Some(_), Some(_)) => Err(at(None, "there is more than one pod in it".to_owned())),
    }
}

fn text(node: &Node, keys: &[&str]) -> Option<String> {
    node.at_path(keys).and_then(Node::text).filter(|text| !text.is_empty()).map(str::to_owned)
}

fn cannot_judge(file: &File, line: Option<usize>, because: String) -> (Json<'_>, Verdict) {
    let verdict = Verdict::CannotJudge;
    let result = Json::other(&file.shown, Container::default(), verdict, because);
    (Json { container: None, line, ..result }, verdict)
}

/// Whether a file has the name of a manifest: then nothing else is looked for in it.
pub(super) fn has_name(path: &Path) -> bool {
    [".yaml", ".yml"].iter().any(|end| ends_in(path, end))
}

/// As Go has it: a name that is nothing but an extension has one, and `kubectl` applies that file.
fn ends_in(path: &Path, extension: &str) -> bool {
    path.as_os_str().as_encoded_bytes().ends_with(extension.as_bytes())
}

/// Whether a file is an object of the API, in YAML or JSON. config.json has neither of these keys at its top; for `kubectl` the
/// kind is enough.
pub(super) fn is_manifest(bytes: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Top {
        #[serde(rename = "apiVersion")]
        api_version: Option<serde::de::IgnoredAny>,
        kind: Option<serde::de::IgnoredAny>,
    }
    if bytes.trim_ascii_start().starts_with(b"{") {
        let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<Top>();
        let of_api = |top: Top| top.api_version.is_some() || top.kind.is_some();
        return values.next().is_some_and(|first| first.is_ok_and(of_api));
    }
    let has = |key: &&str| {
        let begins =
            |line: &[u8]| line.strip_prefix(key.as_bytes()).is_some_and(|rest| rest.starts_with(b":"));
        bytes.split(|byte| *byte == b'\n').any(begins)
    };
    ["apiVersion", "kind"].iter().all(has)
}

/// Whether a folder is a bundle or a captured case.
pub(super) fn has_containers(folder: &Path) -> bool {
    let has = |name: &str| folder.join(name).exists();
    has("config.json") || has("userdata") || (has("containers") && !is_of_others(&folder.join("containers")))
}

/// Whether a folder of this name is another program's (`/etc/containers`): it has files, and no container.
fn is_of_others(containers: &Path) -> bool {
    let entries = || containers.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
    entries().any(|entry| entry.is_file()) && !entries().any(|entry| entry.join("config.json").exists())
}

/// The pod of a captured case, which was observed on a node: of its containers, what they run with is evaluated.
pub(super) fn pod_of_case(folder: &Path) -> Option<PathBuf> {
    let mut containers = folder.join("containers").read_dir().ok()?.flatten();
    let pod = folder.join("pod.yaml");
    (containers.any(|container| container.path().join("observed.json").exists()) && pod.exists())
        .then_some(pod)
}

/// The manifests in a folder, by name; not in folders inside, as with kubectl. In a bundle or a captured case only what kubectl
/// would apply of it: nobody hides a manifest by a config.json beside it.
pub(super) fn in_folder(folder: &Path) -> Vec<File> {
    let is_other = has_containers(folder);
    let own = pod_of_case(folder);
    let Ok(entries) = folder.read_dir() else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths.retain(|path| {
        (has_name(path) || ends_in(path, ".json")) && !path.is_dir() && own.as_ref() != Some(path)
    });
    let file = |path: &PathBuf| {
        let bytes = read(path, LARGEST);
        let counts = !is_other || has_name(path) || bytes.as_ref().is_ok_and(|bytes| is_manifest(bytes));
        counts.then(|| File { of_folder: true, ..File::of(shown(path), path, bytes) })
    };
    paths.iter().filter_map(file).collect()
}
