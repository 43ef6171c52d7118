//! Identifies a container: its engine first, then namespace, pod and name by that engine's own keys only.
//!
//! A pod author can put nearly any annotation into a config.json; what cannot be forged are the keys that an engine
//! writes last, the name that it gives to the container's cgroup, and the directory that it puts the bundle into. One
//! engine's keys are never read on another engine.
//!
//! - **containerd** writes `io.kubernetes.cri.*` after the pod's annotations (`internal/cri/server/container_create.go`).
//!   `ctr` and nerdctl can write the same keys, and the same cgroup, into the CRI plugin's own namespace; who may call
//!   them may call the CRI, which takes any pod for granted, so nothing is gained by it.
//! - **CRI-O** writes the pod's annotations before its own keys into a container (`internal/factory/container/container.go`)
//!   and after them into a sandbox (`server/sandbox_run_linux.go`); a checkpoint image's annotations come after them
//!   in a container, too (`server/container_restore.go`). Last come the kubelet's labels, in both, a restored container's
//!   included: `io.kubernetes.pod.*` and `io.kubernetes.container.name`, which CRI-O sets to `POD` in a sandbox and
//!   no container can have for a name. And no annotation moves the cgroup, which ends in `crio-ID` or `:crio:ID`
//!   (`internal/config/cgmgr`).
//! - **podman** lets its user choose every annotation and the parent of the cgroup. It appends `libpod-ID` or
//!   `:libpod:ID` itself (`libpod/container_internal_linux.go`).
//! - **buildah**, which runs the same hooks, lets its user choose the whole cgroup (`--cgroup-parent`), but not the id
//!   that the runtime gets. So CRI-O's name counts only with the container's own id in it.

use std::path::Path;

use super::spec::Spec;
use pss::facts::{Engine, Subject};

/// Who a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity<'a> {
    /// The engine that made it.
    pub engine: Engine,
    /// Container or sandbox.
    pub subject: Subject,
    /// The Kubernetes namespace; `None` for a container of no pod.
    pub namespace: Option<&'a str>,
    /// The pod's name.
    pub pod: Option<&'a str>,
    /// The pod's UID.
    pub pod_uid: Option<&'a str>,
    /// The container's name.
    pub container: Option<&'a str>,
    /// The container's id.
    pub id: Option<&'a str>,
    /// The image as the pod names it.
    pub image: Option<&'a str>,
    /// The id of the pod's sandbox.
    pub sandbox: Option<&'a str>,
}

impl<'a> Identity<'a> {
    /// A container of which only the id is known.
    #[must_use]
    pub fn of_nobody(id: Option<&'a str>) -> Self {
        Self {
            engine: Engine::None,
            subject: Subject::Container,
            namespace: None,
            pod: None,
            pod_uid: None,
            container: None,
            id,
            image: None,
            sandbox: None,
        }
    }
}

/// An id as engines show it.
#[must_use]
pub fn short_id(id: &str) -> &str {
    let is_long = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_long { id.get(..12).unwrap_or(id) } else { id }
}

/// A container that says it is a pod's but does not say whose.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "annotation {key} is missing: {engine} writes it for every container of a pod, so this config.json was \
     changed after the engine wrote it"
)]
pub struct NoNamespace {
    engine: &'static str,
    key: &'static str,
}

/// The keys of one engine.
struct Keys {
    namespace: &'static str,
    pod: &'static str,
    pod_uid: &'static str,
    container: &'static str,
    image: &'static str,
    sandbox: &'static str,
}

/// What containerd says a container is: `sandbox` or `container`.
const CONTAINERD_KIND: &str = "io.kubernetes.cri.container-type";

const CONTAINERD: Keys = Keys {
    namespace: "io.kubernetes.cri.sandbox-namespace",
    pod: "io.kubernetes.cri.sandbox-name",
    pod_uid: "io.kubernetes.cri.sandbox-uid",
    container: "io.kubernetes.cri.container-name",
    image: "io.kubernetes.cri.image-name",
    sandbox: "io.kubernetes.cri.sandbox-id",
};

/// CRI-O's container name of every sandbox (`internal/oci/oci_linux.go`). It is no DNS label, so no container has it.
const CRI_O_SANDBOX: &str = "POD";

const CRI_O: Keys = Keys {
    namespace: "io.kubernetes.pod.namespace",
    pod: "io.kubernetes.pod.name",
    pod_uid: "io.kubernetes.pod.uid",
    container: "io.kubernetes.container.name",
    image: "io.kubernetes.cri-o.ImageName",
    sandbox: "io.kubernetes.cri-o.SandboxID",
};

/// Finds out whose container a spec describes.
///
/// `told` is the engine from the command line that the installer wrote, [`Engine::None`] for a container that is no
/// engine's whatever it says of itself; `bundle` the directory of the spec and `id`
/// the container's id, as far as they are known.
pub fn identify<'a>(
    spec: &'a Spec<'_>,
    told: Option<Engine>,
    bundle: Option<&Path>,
    id: Option<&'a str>,
) -> Result<Identity<'a>, NoNamespace> {
    let engine = engine(spec, told, bundle, id);
    let id = id.or_else(|| Cgroup::of(spec)?.id());
    let keys = match engine {
        Engine::Containerd => &CONTAINERD,
        Engine::CriO => &CRI_O,
        Engine::Podman | Engine::Docker | Engine::None => return Ok(unmanaged(engine, id)),
    };
    let get = |key| annotation(spec, key);
    let subject = match (engine, get(CONTAINERD_KIND)) {
        (Engine::CriO, _) => subject_of_cri_o(spec),
        (_, Some("sandbox")) => Subject::Sandbox,
        (_, Some(_)) => Subject::Container,
        // `ctr run` next to the CRI plugin.
        (_, None) => return Ok(unmanaged(engine, id)),
    };
    let Some(namespace) = get(keys.namespace) else {
        return Err(NoNamespace { engine: engine.name(), key: keys.namespace });
    };
    Ok(Identity {
        engine,
        subject,
        namespace: Some(namespace),
        pod: get(keys.pod),
        pod_uid: get(keys.pod_uid).map(plain_uid),
        container: get(keys.container),
        id,
        image: get(keys.image),
        sandbox: get(keys.sandbox).filter(|sandbox| is_one_component(sandbox)),
    })
}

/// Whose sandbox a spec describes that was found where `engine` keeps the sandbox of a container.
///
/// CRI-O writes a pod's annotations over most of its own keys there, so the engine cannot be asked of it: a pod could make
/// its containers impossible to evaluate. Its kind can: whoever chose the place may have named a container.
pub fn identify_sandbox<'a>(spec: &'a Spec<'_>, engine: Engine) -> Result<Identity<'a>, NoNamespace> {
    if engine != Engine::CriO {
        return identify(spec, Some(engine), None, None);
    }
    let get = |key| annotation(spec, key);
    let namespace = get(CRI_O.namespace);
    if namespace.is_none() {
        return Err(NoNamespace { engine: engine.name(), key: CRI_O.namespace });
    }
    let (pod, pod_uid) = (get(CRI_O.pod), get(CRI_O.pod_uid).map(plain_uid));
    let subject = subject_of_cri_o(spec);
    Ok(Identity { engine, subject, namespace, pod, pod_uid, ..unmanaged(engine, None) })
}

/// What CRI-O made: a sandbox, or else a container.
fn subject_of_cri_o(spec: &Spec<'_>) -> Subject {
    match annotation(spec, CRI_O.container) {
        Some(CRI_O_SANDBOX) => Subject::Sandbox,
        _ => Subject::Container,
    }
}

/// An annotation that says something.
fn annotation<'a>(spec: &'a Spec<'_>, key: &str) -> Option<&'a str> {
    spec.annotations.as_ref()?.get(key).filter(|value| !value.is_empty())
}

/// The last part of a cgroup's path, which the engine names and no user: `crio-ID` and `libpod-ID` for a directory,
/// `SLICE:crio:ID` and `SLICE:libpod:ID` for systemd's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cgroup<'a> {
    prefix: Option<&'a str>,
    id: &'a str,
}

impl<'a> Cgroup<'a> {
    /// The cgroup that a spec names.
    ///
    /// systemd's form has three fields. A parent with a colon in it makes more: runc refuses them
    /// (`libcontainer/specconv/spec_linux.go`), crun takes the first for the slice (`src/libcrun/cgroup-systemd.c`). The last
    /// two are the engine's all the same, which puts the parent before them.
    fn of(spec: &'a Spec<'_>) -> Option<Self> {
        let path = spec.linux.as_ref()?.cgroups_path.as_ref()?.as_str();
        let last = path.rsplit('/').next()?;
        let mut fields = last.rsplitn(3, ':');
        let (name, prefix) = (fields.next()?, fields.next());
        if prefix.is_some() {
            return Some(Self { prefix, id: name });
        }
        let name = name.strip_suffix(".scope").unwrap_or(name);
        Some(match name.rsplit_once('-') {
            Some((prefix, id)) => Self { prefix: Some(prefix), id },
            None => Self { prefix: None, id: name },
        })
    }

    /// Whether podman named it. A container of `--cgroups=split` is in `libpod-payload-ID`.
    fn is_podmans(&self) -> bool {
        self.prefix.is_some_and(|prefix| prefix == "libpod" || prefix.starts_with("libpod-"))
    }

    /// Whether CRI-O named it, for the container of this id.
    fn is_cri_os(&self, id: Option<&str>) -> bool {
        self.prefix == Some("crio") && id.is_none_or(|id| id == self.id)
    }

    /// The container's id, if it is one of an engine's.
    fn id(&self) -> Option<&'a str> {
        let is_id = self.id.len() == 64 && self.id.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_id.then_some(self.id)
    }
}

/// A container of no pod. The CRI engines make none: it is somebody else's under the same runtime.
fn unmanaged(engine: Engine, id: Option<&str>) -> Identity<'_> {
    let engine = if engine.speaks_cri() { Engine::None } else { engine };
    Identity { engine, ..Identity::of_nobody(id) }
}

/// The engine: from the place of the bundle where that is telling, from the cgroup, from the command line, or from
/// annotations that the engine itself writes.
fn engine(spec: &Spec<'_>, told: Option<Engine>, bundle: Option<&Path>, id: Option<&str>) -> Engine {
    let cgroup = Cgroup::of(spec);
    let is_podmans = cgroup.is_some_and(|cgroup| cgroup.is_podmans());
    // Found in the hands of a user, who chose its place as well.
    if told == Some(Engine::None) {
        return if is_podmans { Engine::Podman } else { Engine::None };
    }
    // containerd keeps the bundles of each of its clients apart, and only its CRI plugin makes pods. Who can write
    // any annotation (`ctr run --annotation`) cannot choose this directory by it.
    match bundle.and_then(containerd_client) {
        Some("k8s.io") => return Engine::Containerd,
        Some("moby") => return Engine::Docker,
        Some(_) => return Engine::None,
        None => {}
    }
    // Whatever annotations say, and whoever is called by podman as its runtime: this cgroup is podman's.
    if is_podmans {
        return Engine::Podman;
    }
    // The same for CRI-O's: a checkpoint image may say that it is podman's.
    if matches!(told, Some(Engine::CriO) | None) && cgroup.is_some_and(|cgroup| cgroup.is_cri_os(id)) {
        return Engine::CriO;
    }
    let get = |key| spec.annotations.as_ref()?.get(key);
    let manager = get("io.container.manager");
    match (told, manager) {
        // hooks.d is one directory for CRI-O and podman, so podman's containers come here by CRI-O's command line, and
        // buildah's, which name no manager.
        (Some(Engine::CriO), None) => Engine::None,
        // `podman --cgroups=disabled`, whatever else it was told to write. CRI-O always names a cgroup
        // (`server/container_create.go`) but where it is rootless (`rootless_linux.go`) and the gate can only advise.
        (Some(Engine::CriO) | None, Some("libpod" | "cri-o")) if cgroup.is_none() => Engine::Podman,
        (Some(Engine::CriO), Some(_)) if cgroup.is_none() => Engine::None,
        // A cgroup that an NRI plugin chose, and annotations that may be an image's.
        (Some(engine), _) => engine,
        (None, Some("libpod")) => Engine::Podman,
        (None, Some("cri-o")) => Engine::CriO,
        // Without containerd's keys nobody's (see `identify`).
        (None, _) => Engine::Containerd,
    }
}

/// The client of containerd whose bundle this is: `…/io.containerd.runtime.v2.task/<client>/<id>`. Not anywhere in the
/// path: `podman --root` may be anything, but its bundles end in `<id>/userdata`.
fn containerd_client(bundle: &Path) -> Option<&str> {
    let client = bundle.parent()?;
    let tasks = client.parent()?.file_name()?;
    (tasks == "io.containerd.runtime.v2.task").then(|| client.file_name()?.to_str())?
}

/// A pod's UID, or what is nobody's: that of a static pod is its author's choice, and one that is no directory's name must
/// not pass for one that is not known.
fn plain_uid(uid: &str) -> &str {
    if is_one_component(uid) { uid } else { "?" }
}

/// Whether a value from outside can stand for one component of a path.
fn is_one_component(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !text.is_empty() && text.len() <= 255 && text != "." && text != ".." && text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Identity, identify};
    use crate::inspect::spec::Spec;
    use pss::facts::{Engine, Subject};

    /// Every forgery that `io.kubernetes.*` annotations allow, on every engine, in one pod.
    const FORGED: &str = r#"
        "io.kubernetes.cri-o.ContainerType": "sandbox", "io.kubernetes.cri-o.Namespace": "kube-system",
        "io.kubernetes.cri-o.KubeName": "kube-proxy", "io.kubernetes.cri-o.HostNetwork": "false""#;

    fn spec(annotations: &str) -> String {
        format!(r#"{{"annotations":{{{annotations}}}}}"#)
    }

    fn of_cri_o(annotations: &str) -> String {
        format!(r#"{{"annotations":{{{annotations}}},"linux":{{"cgroupsPath":"/crio/crio-1"}}}}"#)
    }

    fn who<'a>(spec: &'a Spec<'_>, told: Option<Engine>, bundle: Option<&str>) -> Identity<'a> {
        identify(spec, told, bundle.map(Path::new), Some("id")).unwrap()
    }

    #[test]
    fn containerd_is_believed_for_its_own_keys_only() {
        let text = spec(&format!(
            r#"{FORGED}, "io.container.manager": "cri-o", "io.kubernetes.pod.namespace": "kube-system",
            "io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-namespace": "shop",
            "io.kubernetes.cri.sandbox-name": "web", "io.kubernetes.cri.sandbox-uid": "../../..",
            "io.kubernetes.cri.container-name": "app", "io.kubernetes.cri.sandbox-id": "abc""#
        ));
        let spec: Spec<'_> = serde_json::from_str(&text).unwrap();
        let bundle = "/run/containerd/io.containerd.runtime.v2.task/k8s.io/id";
        for (told, bundle) in
            [(Some(Engine::Containerd), None), (None, Some(bundle)), (Some(Engine::CriO), Some(bundle))]
        {
            let who = who(&spec, told, bundle);
            assert_eq!((who.engine, who.subject), (Engine::Containerd, Subject::Container));
            assert_eq!((who.namespace, who.pod, who.container), (Some("shop"), Some("web"), Some("app")));
            assert_eq!(who.pod_uid, Some("?"), "a uid that is no path component is nobody's");
            assert_eq!(who.sandbox, Some("abc"));
        }
    }

    #[test]
    fn cri_o_is_believed_for_its_own_keys_only() {
        let text = of_cri_o(
            r#""io.container.manager": "cri-o", "io.kubernetes.cri.container-type": "sandbox",
            "io.kubernetes.cri.sandbox-namespace": "kube-system", "io.kubernetes.cri-o.Namespace": "kube-system",
            "io.kubernetes.cri-o.ContainerType": "container", "io.kubernetes.pod.namespace": "shop",
            "io.kubernetes.pod.name": "web", "io.kubernetes.pod.uid": "u-1", "io.kubernetes.container.name": "app""#,
        );
        let spec: Spec<'_> = serde_json::from_str(&text).unwrap();
        for told in [Some(Engine::CriO), None] {
            let who = who(&spec, told, Some("/run/containers/storage/overlay-containers/id/userdata"));
            assert_eq!((who.engine, who.subject), (Engine::CriO, Subject::Container));
            assert_eq!((who.namespace, who.pod, who.pod_uid), (Some("shop"), Some("web"), Some("u-1")));
        }
    }

    /// What `podman create --annotation …` and `--cgroup-parent …` make of it, and what CRI-O does.
    #[test]
    fn podman_cannot_pass_for_cri_o() {
        let forged = r#""io.container.manager": "cri-o", "io.kubernetes.cri-o.ContainerType": "container",
            "io.kubernetes.pod.namespace": "kube-system""#;
        let id = "a".repeat(64);
        let kube_system = (Engine::CriO, Some("kube-system"));
        let podman = (Engine::Podman, None);
        let rows = [
            (format!("/libpod_parent/libpod-{id}"), podman),
            (format!("/crio/libpod-{id}"), podman),
            (format!("/crio/crio-{id}/libpod-{id}"), podman),
            (format!("machine.slice:libpod:{id}"), podman),
            (format!("a.slice:b.slice:libpod:{id}"), podman),
            (format!("a.slice:crio:{id}.slice:libpod:{id}"), podman),
            (format!("/user.slice/x.service/libpod-payload-{id}"), podman),
            (String::new(), podman),
            (format!("/crio/crio-{id}"), kube_system),
            (format!("crio-{id}"), kube_system),
            (format!("kubepods-besteffort-pod1.slice:crio:{id}"), kube_system),
            (format!("/libpod/crio-{id}"), kube_system),
        ];
        for (cgroup, expected) in rows {
            let linux = match cgroup.as_str() {
                "" => "{}".to_owned(),
                path => format!(r#"{{"cgroupsPath":"{path}"}}"#),
            };
            let text = format!(r#"{{"annotations":{{{forged}}},"linux":{linux}}}"#);
            let spec: Spec<'_> = serde_json::from_str(&text).unwrap();
            for told in [Some(Engine::CriO), None] {
                for told_id in [None, Some(id.as_str())] {
                    let who = identify(&spec, told, None, told_id).unwrap();
                    assert_eq!((who.engine, who.namespace), expected, "{cgroup:?}");
                }
            }
            // In the hands of a user it may be podman's, and never an engine's of pods.
            let is_podmans = expected == podman && !cgroup.is_empty();
            let of_user = if is_podmans { Engine::Podman } else { Engine::None };
            let who = identify(&spec, Some(Engine::None), None, None).unwrap();
            assert_eq!((who.engine, who.namespace), (of_user, None), "{cgroup:?}");
        }
        // `buildah --cgroup-parent`: the whole path is its user's, but neither annotations nor the id.
        let text = format!(r#"{{"linux":{{"cgroupsPath":"/crio/crio-{id}"}}}}"#);
        let spec: Spec<'_> = serde_json::from_str(&text).unwrap();
        let who = identify(&spec, Some(Engine::CriO), None, Some("buildah-buildah1")).unwrap();
        assert_eq!((who.engine, who.namespace), (Engine::None, None));
    }

    /// A checkpoint image's annotations are written after CRI-O's own, a pod's after those of its sandbox.
    #[test]
    fn on_cri_o_no_annotation_makes_another_engine_or_kind() {
        let id = "a".repeat(64);
        let whose = |name: &str| {
            format!(
                r#""io.kubernetes.pod.namespace": "shop", "io.kubernetes.pod.name": "web", "io.kubernetes.container.name": "{name}""#
            )
        };
        let forgeries = [
            "",
            r#""io.container.manager": "libpod","#,
            r#""io.container.manager": "x", "io.kubernetes.cri-o.ContainerType": "sandbox","#,
            r#""io.container.manager": "", "io.kubernetes.cri-o.ContainerType": "","#,
            r#""io.container.manager": "cri-o", "io.kubernetes.cri-o.ContainerType": "container","#,
        ];
        let cgroups = [
            format!("/crio/crio-{id}"),
            format!("kubepods-pod1.slice:crio:{id}"),
            // An NRI plugin's.
            "/plugin/chosen".to_owned(),
        ];
        for (name, subject) in [("app", Subject::Container), ("POD", Subject::Sandbox)] {
            for (cgroup, forged) in cgroups.iter().flat_map(|cgroup| forgeries.map(|forged| (cgroup, forged)))
            {
                if cgroup.starts_with("/plugin") && forged.is_empty() {
                    continue;
                }
                let text = format!(
                    r#"{{"annotations":{{{forged}{}}},"linux":{{"cgroupsPath":"{cgroup}"}}}}"#,
                    whose(name)
                );
                let spec: Spec<'_> = serde_json::from_str(&text).unwrap();
                let who = identify(&spec, Some(Engine::CriO), None, Some(&id)).unwrap();
                let said = (who.engine, who.subject, who.namespace, who.pod);
                assert_eq!(said, (Engine::CriO, subject, Some("shop"), Some("web")), "{text}");
            }
        }
    }

    #[test]
    fn podman_cannot_pass_for_containerd_either() {
        let annotations = r#""io.container.manager": "x", "io.kubernetes.cri.container-type": "container",
            "io.kubernetes.cri.sandbox-namespace": "kube-system""#;
        let id = "a".repeat(64);
        let rows = [
            (format!("machine.slice:libpod:{id}"), (Engine::Podman, None)),
            (format!("system.slice:cri-containerd:{id}"), (Engine::Containerd, Some("kube-system"))),
            (format!("/k8s.io/{id}"), (Engine::Containerd, Some("kube-system"))),
        ];
        for (cgroup, expected) in rows {
            let text = format!(r#"{{"annotations":{{{annotations}}},"linux":{{"cgroupsPath":"{cgroup}"}}}}"#);
            let spec: Spec<'_> = serde_json::from_str(&text).unwrap();
            for told in [Some(Engine::Containerd), None] {
                let who = who(&spec, told, None);
                assert_eq!((who.engine, who.namespace), expected, "{cgroup}, {told:?}");
            }
        }
    }

    #[test]
    fn only_the_end_of_a_bundles_path_tells_containerds_client() {
        let tasks = "io.containerd.runtime.v2.task";
        let text = spec(
            r#""io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-namespace": "kube-system""#,
        );
        let spec: Spec<'_> = serde_json::from_str(&text).unwrap();
        let rows = [
            (format!("/run/k3s/containerd/{tasks}/k8s.io/id"), Engine::Containerd),
            (format!("/run/{tasks}/k8s.io/x/{tasks}/moby/id"), Engine::Docker),
            (format!("/home/me/{tasks}/k8s.io/overlay-containers/id/userdata"), Engine::None),
            (format!("/home/me/{tasks}/k8s.io/id/userdata"), Engine::None),
        ];
        for (bundle, expected) in rows {
            assert_eq!(who(&spec, Some(Engine::CriO), Some(&bundle)).engine, expected, "{bundle}");
        }
    }

    #[test]
    fn a_pod_cannot_make_its_sandbox_somebody_elses() {
        // What a pod's annotations can write over in CRI-O's file of the sandbox.
        let text = spec(
            r#""io.kubernetes.cri-o.ContainerType": "container", "io.container.manager": "libpod",
            "io.kubernetes.pod.namespace": "shop", "io.kubernetes.pod.name": "web", "io.kubernetes.container.name": "POD""#,
        );
        let spec: Spec<'_> = serde_json::from_str(&text).unwrap();
        let who = super::identify_sandbox(&spec, Engine::CriO).unwrap();
        assert_eq!((who.engine, who.subject), (Engine::CriO, Subject::Sandbox));
        assert_eq!((who.namespace, who.pod), (Some("shop"), Some("web")));
        // Nor pass off another container of its own as its sandbox.
        let text = text
            .replace("POD", "other")
            .replace("ContainerType\": \"container", "ContainerType\": \"sandbox");
        let spec: Spec<'_> = serde_json::from_str(&text).unwrap();
        assert_eq!(super::identify_sandbox(&spec, Engine::CriO).unwrap().subject, Subject::Container);
        let spec: Spec<'_> = serde_json::from_str(r#"{"annotations":{}}"#).unwrap();
        super::identify_sandbox(&spec, Engine::CriO).unwrap_err();
    }

    #[test]
    fn a_container_of_no_pod_cannot_claim_one() {
        let forged = spec(
            r#""io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-namespace": "kube-system""#,
        );
        let libpod = spec(
            r#""io.container.manager": "libpod", "io.kubernetes.cri-o.ContainerType": "container",
            "io.kubernetes.pod.namespace": "kube-system""#,
        );
        let plain = spec("");
        let task = "/run/containerd/io.containerd.runtime.v2.task";
        let ctr = format!("{task}/default/x");
        let moby = format!("{task}/moby/x");
        let cri = format!("{task}/k8s.io/x");
        let rows = [
            ("ctr", &forged, None, Some(ctr.as_str()), Engine::None),
            ("ctr, told containerd", &forged, Some(Engine::Containerd), Some(ctr.as_str()), Engine::None),
            ("docker", &forged, None, Some(moby.as_str()), Engine::Docker),
            ("podman", &libpod, Some(Engine::Podman), None, Engine::Podman),
            ("podman by CRI-O's hook", &libpod, Some(Engine::CriO), None, Engine::Podman),
            ("podman, not told", &libpod, None, None, Engine::Podman),
            ("CRI-O's hook, nobody's container", &forged, Some(Engine::CriO), None, Engine::None),
            ("podman's command line, containerd's keys", &forged, Some(Engine::Podman), None, Engine::Podman),
            ("runc run", &plain, None, None, Engine::None),
            ("a user's", &forged, Some(Engine::None), None, Engine::None),
            (
                "a user's, where containerd's could be",
                &forged,
                Some(Engine::None),
                Some(cri.as_str()),
                Engine::None,
            ),
            ("containerd's hook without its keys", &plain, Some(Engine::Containerd), None, Engine::None),
        ];
        for (row, text, told, bundle, engine) in rows {
            let spec: Spec<'_> = serde_json::from_str(text).unwrap();
            let who = who(&spec, told, bundle);
            assert_eq!((who.engine, who.namespace), (engine, None), "{row}");
        }
    }

    #[test]
    fn containerd_says_which_container_is_the_sandbox() {
        for (kind, subject) in [
            ("sandbox", Some(Subject::Sandbox)),
            ("container", Some(Subject::Container)),
            ("of a newer containerd", Some(Subject::Container)),
            // An annotation that says nothing: `ctr run`.
            ("", None),
        ] {
            let text = spec(&format!(
                r#""io.kubernetes.cri.container-type": "{kind}", "io.kubernetes.cri.sandbox-namespace": "shop""#
            ));
            let spec: Spec<'_> = serde_json::from_str(&text).unwrap();
            let who = who(&spec, Some(Engine::Containerd), None);
            let namespace = subject.map(|_| "shop");
            assert_eq!(
                (who.namespace, who.subject),
                (namespace, subject.unwrap_or(Subject::Container)),
                "{kind}"
            );
        }
    }

    #[test]
    fn what_cannot_be_a_part_of_a_path_is_nobodys() {
        let (longest, longer) = ("a".repeat(255), "a".repeat(256));
        for (id, is_part) in [
            ("u-1", true),
            ("A.b_0", true),
            ("...", true),
            (longest.as_str(), true),
            (longer.as_str(), false),
            (".", false),
            ("..", false),
            ("a/b", false),
            ("a b", false),
            ("caf\u{e9}", false),
        ] {
            let containerd = spec(&format!(
                r#""io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-namespace": "shop",
                "io.kubernetes.cri.sandbox-uid": "{id}", "io.kubernetes.cri.sandbox-id": "{id}""#
            ));
            let containerd: Spec<'_> = serde_json::from_str(&containerd).unwrap();
            let who = who(&containerd, Some(Engine::Containerd), None);
            assert_eq!(
                (who.pod_uid, who.sandbox),
                (Some(if is_part { id } else { "?" }), is_part.then_some(id))
            );
            let cri_o =
                spec(&format!(r#""io.kubernetes.pod.namespace": "shop", "io.kubernetes.pod.uid": "{id}""#));
            let cri_o: Spec<'_> = serde_json::from_str(&cri_o).unwrap();
            let sandbox = super::identify_sandbox(&cri_o, Engine::CriO).unwrap();
            assert_eq!(sandbox.pod_uid, Some(if is_part { id } else { "?" }));
        }
    }

    #[test]
    fn the_cgroup_tells_an_id_that_is_an_engines() {
        let id = "0123456789abcdef".repeat(4);
        let (short, other) = (&id[1..], format!("{}g", &id[1..]));
        for (cgroup, expected) in [
            (format!("/libpod_parent/libpod-{id}"), Some(&id)),
            (format!("/user.slice/libpod-{id}.scope"), Some(&id)),
            (format!("machine.slice:libpod:{id}"), Some(&id)),
            (format!("/docker/{id}"), Some(&id)),
            (format!("/x/libpod-{short}"), None),
            (format!("/x/libpod-{other}"), None),
        ] {
            let text = format!(r#"{{"linux":{{"cgroupsPath":"{cgroup}"}}}}"#);
            let spec: Spec<'_> = serde_json::from_str(&text).unwrap();
            let of = |told_id| identify(&spec, None, None, told_id).unwrap().id;
            assert_eq!(of(None), expected.map(String::as_str), "{cgroup}");
            assert_eq!(of(Some("told")), Some("told"), "{cgroup}");
        }
    }

    #[test]
    fn only_an_engines_id_is_shortened() {
        let id = "0123456789abcdef".repeat(4);
        assert_eq!(super::short_id(&id), "0123456789ab");
        for other in [&id[1..], &format!("{}g", &id[1..]), &format!("{id}0"), "buildah-buildah1"] {
            assert_eq!(super::short_id(other), other);
        }
    }

    #[test]
    fn without_a_cgroup_cri_o_made_nothing() {
        for (manager, expected) in
            [("", Engine::None), ("libpod", Engine::Podman), ("cri-o", Engine::Podman), ("x", Engine::None)]
        {
            let text = spec(&format!(
                r#""io.container.manager": "{manager}", "io.kubernetes.cri-o.ContainerType": "container",
                "io.kubernetes.pod.namespace": "kube-system""#
            ));
            let spec: Spec<'_> = serde_json::from_str(&text).unwrap();
            let who = who(&spec, Some(Engine::CriO), None);
            assert_eq!((who.engine, who.namespace), (expected, None), "{manager}");
        }
    }

    #[test]
    fn a_pod_container_without_a_namespace_is_a_fault() {
        let text = spec(r#""io.kubernetes.cri.container-type": "container""#);
        let spec: Spec<'_> = serde_json::from_str(&text).unwrap();
        let err = identify(&spec, Some(Engine::Containerd), None, None).unwrap_err().to_string();
        assert!(err.starts_with("annotation io.kubernetes.cri.sandbox-namespace is missing"), "{err}");
        let text = of_cri_o(r#""io.kubernetes.pod.namespace": "", "io.container.manager": "cri-o""#);
        let spec: Spec<'_> = serde_json::from_str(&text).unwrap();
        let err = identify(&spec, Some(Engine::CriO), None, None).unwrap_err().to_string();
        assert!(
            err.starts_with("annotation io.kubernetes.pod.namespace is missing: cri-o writes it"),
            "{err}"
        );
    }
}
