//! What each pod of the table asks for: one volume, in a container for every way in which a volume can be mounted.

use caps::{CapSet, Capability};
use serde_json::{Value, json};

use super::BlockDevices;
use crate::support::engine::Kind;
use crate::support::image;

/// The levels, each with a namespace of its name.
pub(super) const LEVELS: [&str; 2] = ["baseline", "restricted"];

/// Where the CSI driver keeps what its volumes hold.
pub(super) const CSI_DATA: &str = "/opt/disks/parts/csi";

/// An OCI artifact that CRI-O has.
pub(super) const ARTIFACT: &str = "localhost/artifact:1";

const CSI_DRIVER: &str = "csi.acme.example";

/// Whether the gate can know what admission knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// It can.
    AsAdmission,
    /// What the node and not the pod brought by a path of the host looks like a hostPath volume, unless it is listed.
    RefusedAllTheSame,
    /// What admission refuses looks like what it admits, or the policy has an exception for it.
    StartedAllTheSame,
}

/// A pod.
pub(super) struct Asked {
    pub(super) manifest: Value,
    pub(super) expected: Expected,
    /// Ephemeral containers.
    pub(super) later: Value,
    claim: Claim,
}

/// What a claim of the pod's is bound to.
#[derive(Clone)]
enum Claim {
    None,
    /// The source of its persistent volume, and the volume's mode.
    Own(Value, &'static str),
    /// The same of a generic ephemeral volume.
    Ephemeral(Value),
}

/// How a volume's mounts look.
#[derive(Clone, Copy)]
enum Forms {
    /// A volume with files, which the kubelet filled.
    Filled,
    /// An image, of which other files are known.
    Image(Kind),
    /// Only directories of it can be named.
    Artifact,
    /// A volume that an init container fills.
    Writable,
    /// A path of the host, which has files already.
    Host,
}

impl Forms {
    /// Name and mounts of each container.
    fn mounts(self) -> Vec<(&'static str, Value)> {
        let (dir, file, expr) = match self {
            Self::Image(_) => ("etc", "etc/passwd", "$(DIR)"),
            Self::Filled | Self::Artifact | Self::Host => ("dir", "dir/file", "$(DIR)"),
            Self::Writable => ("dir", "dir/file", "$(POD_NAME)/$(POD_UID)"),
        };
        let at = |path: &str| json!({"name": "v", "mountPath": path});
        let with = |mut mount: Value, key: &str, value: Value| {
            mount[key] = value;
            mount
        };
        let read_only = with(with(at("/v"), "readOnly", json!(true)), "recursiveReadOnly", json!("Enabled"));
        let twice = json!([
            at("/v"),
            with(at("/w"), "mountPropagation", json!("HostToContainer")),
            with(with(at("/x"), "subPath", json!(dir)), "readOnly", json!(true)),
        ]);
        let mut mounts = vec![
            ("plain", json!([at("/v")])),
            ("sub", json!([with(at("/v"), "subPath", json!(dir))])),
            ("expr", json!([with(at("/v"), "subPathExpr", json!(expr))])),
            ("ro", json!([read_only])),
            ("twice", twice),
        ];
        // CRI-O lays an overlay over what an image's subPath names, which must be a directory then.
        if !matches!(self, Self::Artifact | Self::Image(Kind::CriO)) {
            mounts.push(("file", json!([with(at("/v"), "subPath", json!(file))])));
        }
        mounts
    }
}

/// A kind of volume.
struct Volume {
    name: &'static str,
    forms: Forms,
    source: Value,
    claim: Claim,
    expected: Expected,
    fs_group: bool,
    /// It is tried at baseline, too.
    baseline: bool,
    /// It is tried in pods that have users of their own.
    users: bool,
}

impl Volume {
    fn new(name: &'static str, forms: Forms, source: Value) -> Self {
        let (claim, expected) = (Claim::None, Expected::AsAdmission);
        Self { name, forms, source, claim, expected, fs_group: false, baseline: false, users: true }
    }

    fn claim(name: &'static str, forms: Forms, bound_to: Value) -> Self {
        let source = json!({"persistentVolumeClaim": {"claimName": name}});
        Self { claim: Claim::Own(bound_to, "Filesystem"), ..Self::new(name, forms, source) }
    }

    fn asked(&self, namespace: &str, users: bool) -> Asked {
        let name = if users { format!("{}-users", self.name) } else { self.name.to_owned() };
        let containers: Vec<Value> =
            self.forms.mounts().into_iter().map(|(name, mounts)| container(name, &mounts)).collect();
        let mut volume = self.source.clone();
        volume["name"] = json!("v");
        let mut manifest = pod(namespace, &name, &[volume], &containers);
        if matches!(self.forms, Forms::Writable) {
            let mut fill = container("fill", &json!([{"name": "v", "mountPath": "/v"}]));
            fill["command"] = json!(["/bin/busybox", "sh", "-c", FILL]);
            manifest["spec"]["initContainers"] = json!([fill]);
        }
        if matches!(self.forms, Forms::Image(_)) {
            manifest["metadata"]["labels"]["dir"] = json!("etc");
        }
        if self.fs_group {
            manifest["spec"]["securityContext"]["fsGroup"] = json!(2000);
        }
        if users {
            manifest["spec"]["hostUsers"] = json!(false);
        }
        Asked { manifest, expected: self.expected, later: Value::Null, claim: self.claim.clone() }
    }
}

/// Two pods may share the volume.
const FILL: &str = "busybox mkdir -p /v/dir && echo text >/v/dir/file";

/// Every pod, for an engine.
pub(super) fn all(engine: Kind, devices: &BlockDevices) -> Vec<Asked> {
    let mut asked = Vec::new();
    for volume in volumes(engine, devices) {
        asked.push(volume.asked("restricted", false));
        if volume.users {
            let pod = volume.asked("restricted", true);
            // runc cannot give one image to users of a pod a second time: containerd has it mounted in one place.
            if matches!(volume.forms, Forms::Image(Kind::Containerd2)) {
                asked.extend(pod.one_by_one());
            } else {
                asked.push(pod);
            }
        }
        if volume.baseline {
            asked.push(volume.asked("baseline", false));
        }
    }
    asked.extend(others(engine, devices));
    asked
}

fn volumes(engine: Kind, devices: &BlockDevices) -> Vec<Volume> {
    use Forms::{Artifact, Filled, Host, Image, Writable};
    let items = json!([{"key": "file", "path": "file"}, {"key": "file", "path": "dir/file"}]);
    let labels = json!([
        {"path": "file", "fieldRef": {"fieldPath": "metadata.name"}},
        {"path": "dir/file", "fieldRef": {"fieldPath": "metadata.labels"}},
    ]);
    let projected = json!([
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
        {"configMap": {"name": "data", "items": [{"key": "file", "path": "file"}]}},
        {"secret": {"name": "data", "items": [{"key": "file", "path": "dir/file"}]}},
        {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
    ]);
    let csi = |kind: &str| {
        json!({"csi": {
            "driver": CSI_DRIVER,
            "volumeAttributes": {"kind": kind},
        }})
    };
    let local = |path: &str| json!({"local": {"path": path}});
    let host_path = |path: &str| json!({"hostPath": {"path": path}});
    let empty_dir = json!({"emptyDir": {}});
    let ephemeral = json!({"ephemeral": {"volumeClaimTemplate": {"spec": {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "",
        "resources": {"requests": {"storage": "1Mi"}},
    }}}});
    let image = |reference: &str| json!({"image": {"reference": reference, "pullPolicy": "Never"}});
    let flex = json!({"flexVolume": {"driver": "acme/flex"}});
    let mut volumes = vec![
        Volume { baseline: true, ..Volume::new("empty-dir", Writable, empty_dir.clone()) },
        Volume::new(
            "empty-dir-memory",
            Writable,
            json!({"emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}),
        ),
        Volume { fs_group: true, ..Volume::new("empty-dir-fs-group", Writable, empty_dir) },
        Volume::new("config-map", Filled, json!({"configMap": {"name": "data", "items": items}})),
        Volume::new("secret", Filled, json!({"secret": {"secretName": "data", "items": items}})),
        Volume::new("downward-api", Filled, json!({"downwardAPI": {"items": labels}})),
        Volume::new("projected", Filled, json!({"projected": {"sources": projected}})),
        Volume {
            fs_group: true,
            ..Volume::new(
                "secret-fs-group",
                Filled,
                json!({"secret": {"secretName": "data", "items": items}}),
            )
        },
        Volume::new("csi-inline", Writable, json!({"csi": {"driver": CSI_DRIVER}})),
        Volume { baseline: true, ..Volume::claim("csi-claim-tmpfs", Writable, csi("tmpfs")) },
        Volume::claim("csi-claim-directory", Writable, csi("directory")),
        Volume::claim("csi-claim-share", Writable, csi("share")),
        Volume { fs_group: true, ..Volume::claim("csi-claim-fs-group", Writable, csi("directory")) },
        Volume { claim: Claim::Ephemeral(csi("directory")), ..Volume::new("ephemeral", Writable, ephemeral) },
        Volume::claim("local-disk", Writable, local("/opt/disks/whole")),
        Volume::claim("local-directory", Writable, local("/opt/disks/parts/local")),
        Volume { users: false, ..Volume::claim("local-device", Writable, local(&devices.formatted)) },
        // An inline one looks like a claim, which is allowed.
        Volume {
            expected: Expected::StartedAllTheSame,
            baseline: true,
            ..Volume::new("flex", Writable, flex)
        },
        // CRI-O asks for an overlay with the ids of the pod's users, which runc has for binds only.
        Volume { users: engine != Kind::CriO, ..Volume::new("image", Image(engine), image(image::APP)) },
        Volume { baseline: true, ..Volume::new("host-path", Host, host_path("/opt/disks/parts/host")) },
        Volume {
            expected: Expected::RefusedAllTheSame,
            baseline: true,
            ..Volume::claim("host-path-claim", Host, host_path("/opt/disks/parts/host-claim"))
        },
        Volume {
            baseline: true,
            ..Volume::claim("host-path-claim-listed", Host, host_path("/opt/disks/parts/listed/claim"))
        },
    ];
    // Of two writers of one disk the second one finds a device that the first one's fsGroup or mount has changed.
    if let Some(device) = volumes.iter_mut().find(|volume| volume.name == "local-device") {
        device.fs_group = true;
    }
    if engine == Kind::CriO {
        volumes.push(Volume::new("artifact", Artifact, image(ARTIFACT)));
    }
    volumes
}

/// Pods that are about more than one volume's mounts.
fn others(engine: Kind, devices: &BlockDevices) -> Vec<Asked> {
    let empty_dir = json!({"name": "v", "emptyDir": {}});
    let at = |path: &str| json!([{"name": "v", "mountPath": path}]);
    let asked = |manifest: Value, expected: Expected| Asked {
        manifest,
        expected,
        later: Value::Null,
        claim: Claim::None,
    };
    let as_admission = |manifest: Value| asked(manifest, Expected::AsAdmission);
    let one = |name: &str| {
        pod("restricted", name, std::slice::from_ref(&empty_dir), &[container("app", &at("/v"))])
    };
    let with_device = |namespace: &str, name: &str, resource: &str, volumes: &[Value], mounts: Value| {
        let mut container = container("app", &mounts);
        container["resources"] = json!({"limits": {resource: "1"}});
        pod(namespace, name, volumes, &[container])
    };
    let mut all = Vec::new();

    for namespace in LEVELS {
        // The libraries of a CDI specification are the node's.
        let none = || json!([]);
        all.push(as_admission(with_device(namespace, "gpu", "acme.example/gpu", &[], none())));
        let host = json!({"name": "v", "hostPath": {"path": "/opt/acme/lib"}});
        let both = with_device(namespace, "gpu-and-host-path", "acme.example/gpu", &[host], at("/v"));
        all.push(as_admission(both));
        // What a device plugin mounts itself looks like a hostPath volume.
        let raw = with_device(namespace, "device-plugin-mount", "acme.example/raw", &[], none());
        all.push(asked(raw, Expected::RefusedAllTheSame));
    }

    let mut users = with_device("restricted", "gpu-users", "acme.example/gpu", &[], json!([]));
    users["spec"]["hostUsers"] = json!(false);
    all.push(as_admission(users));

    let mut block = container("app", &json!([]));
    block["volumeDevices"] = json!([{"name": "v", "devicePath": "/dev/xvda"}]);
    let source = json!({"name": "v", "persistentVolumeClaim": {"claimName": "block"}});
    let mut block = as_admission(pod("restricted", "block", &[source], &[block]));
    block.claim = Claim::Own(json!({"local": {"path": devices.raw}}), "Block");
    all.push(block);

    let mut token = one("service-account-token");
    token["spec"]["volumes"] = json!([{"name": "v", "projected": {"sources": [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
        {"configMap": {"name": "data", "items": [{"key": "file", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
    ]}}]);
    token["spec"]["containers"][0]["volumeMounts"] = json!([{
        "name": "v",
        "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
        "readOnly": true,
    }]);
    all.push(as_admission(token));

    let mut message = one("termination-message");
    message["spec"]["containers"][0]["terminationMessagePath"] = json!("/v/why");
    all.push(as_admission(message));

    let mut aliases = one("host-aliases");
    aliases["spec"]["hostAliases"] = json!([{"ip": "192.0.2.7", "hostnames": ["seven"]}]);
    all.push(as_admission(aliases));

    // CRI-O keeps a process of the sandbox for it, which needs what not all machines have to give.
    let keeps = caps::has_cap(None, CapSet::Bounding, Capability::CAP_SYS_RESOURCE).unwrap_or_default();
    if engine != Kind::CriO || keeps {
        let mut shares = one("shared-processes");
        shares["spec"]["shareProcessNamespace"] = json!(true);
        all.push(as_admission(shares));
    }

    // Containers of every sort, one after the other and side by side.
    let mut sorts = one("containers-of-every-sort");
    let mut init = container("init", &json!([{"name": "v", "mountPath": "/v"}]));
    init["command"] = json!(["/bin/busybox", "sh", "-c", FILL]);
    let mut again =
        container("init-again", &json!([{"name": "v", "mountPath": "/v", "subPath": "dir/file"}]));
    again["command"] = json!(["/bin/busybox", "true"]);
    let mut sidecar = container("sidecar", &json!([{"name": "v", "mountPath": "/v", "subPath": "dir"}]));
    sidecar["restartPolicy"] = json!("Always");
    sorts["spec"]["initContainers"] = json!([init, again, sidecar]);
    let mut sorts = as_admission(sorts);
    let mut debug = container("debug", &at("/v"));
    debug["targetContainerName"] = json!("app");
    sorts.later = json!([debug]);
    all.push(sorts);

    for joins in ["hostNetwork", "hostIPC", "hostPID"] {
        let mut pod = one(&format!("joins-{}", joins.to_lowercase()));
        pod["spec"][joins] = json!(true);
        all.push(asked(pod, Expected::StartedAllTheSame));
    }
    all
}

/// As `restricted`, and our own control, want it.
fn pod(namespace: &str, name: &str, volumes: &[Value], containers: &[Value]) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"dir": "dir"}},
        "spec": {
            "nodeName": "node",
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "enableServiceLinks": false,
            "automountServiceAccountToken": false,
            "serviceAccountName": "default",
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": 1000,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "volumes": volumes,
            "containers": containers,
        },
    })
}

fn container(name: &str, mounts: &Value) -> Value {
    let field =
        |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    json!({
        "name": name,
        "image": image::APP,
        "imagePullPolicy": "Never",
        "command": ["/bin/busybox", "sleep", "3600"],
        "env": [
            field("POD_NAME", "metadata.name"),
            field("POD_UID", "metadata.uid"),
            field("DIR", "metadata.labels['dir']"),
        ],
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": true,
        },
        "volumeMounts": mounts,
    })
}

impl Asked {
    fn text(&self, key: &str) -> &str {
        self.manifest["metadata"][key].as_str().unwrap_or_default()
    }

    pub(super) fn name(&self) -> &str {
        self.text("name")
    }

    pub(super) fn namespace(&self) -> &str {
        self.text("namespace")
    }

    fn specs(&self) -> impl Iterator<Item = &Value> {
        let spec = &self.manifest["spec"];
        let lists = [&spec["initContainers"], &spec["containers"], &self.later];
        lists.into_iter().flat_map(|list| list.as_array().into_iter().flatten())
    }

    /// A pod for each of its containers that mounts the volume once.
    fn one_by_one(self) -> Vec<Self> {
        let containers = self.manifest["spec"]["containers"].as_array().cloned().unwrap_or_default();
        let once = containers
            .into_iter()
            .filter(|container| container["volumeMounts"].as_array().is_some_and(|mounts| mounts.len() == 1));
        let alone = |container: Value| {
            let mut manifest = self.manifest.clone();
            let name = container["name"].as_str().unwrap_or_default();
            manifest["metadata"]["name"] = json!(format!("{}-{name}", self.name()));
            manifest["spec"]["containers"] = json!([container]);
            Self { manifest, expected: self.expected, later: Value::Null, claim: self.claim.clone() }
        };
        once.map(alone).collect()
    }

    /// The names of its containers, with or without those that come later.
    pub(super) fn containers(&self, later: bool) -> Vec<String> {
        let names = self.specs().filter_map(|spec| spec["name"].as_str()).map(str::to_owned);
        let without = if later { 0 } else { self.later.as_array().map_or(0, Vec::len) };
        let names: Vec<String> = names.collect();
        names[..names.len() - without].to_vec()
    }

    pub(super) fn key(&self, container: &str) -> (String, String, String) {
        (self.namespace().to_owned(), self.name().to_owned(), container.to_owned())
    }

    /// What a container mounts, and the volume behind it.
    pub(super) fn mounts_of(&self, container: &str) -> String {
        let spec = self.specs().find(|spec| spec["name"] == container);
        let mounts = spec.map(|spec| spec["volumeMounts"].to_string()).unwrap_or_default();
        format!("{mounts} of {}", self.manifest["spec"]["volumes"])
    }

    /// Whether a container sees anything of what the pod is about.
    pub(super) fn mounts(&self, container: &str) -> bool {
        let spec = self.specs().find(|spec| spec["name"] == container);
        spec.is_some_and(|spec| spec["volumeMounts"] != json!([]) || spec["resources"].is_object())
    }

    /// Its claim, which is there before it.
    pub(super) fn claim(&self) -> Option<Bound> {
        let Claim::Own(source, mode) = &self.claim else { return None };
        let name = self.manifest["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"].as_str();
        Some(Bound::new(self.namespace(), name.unwrap_or_default(), source, mode))
    }

    /// What the controller of ephemeral volumes makes once the pod is there.
    pub(super) fn ephemeral_claim(&self, pods: &[Value]) -> Option<Bound> {
        let Claim::Ephemeral(source) = &self.claim else { return None };
        let name = format!("{}-v", self.name());
        let mut made = Bound::new(self.namespace(), &name, source, "Filesystem");
        made.claim["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "v1",
            "kind": "Pod",
            "name": self.name(),
            "uid": uid(pods, self.namespace(), self.name()),
            "controller": true,
        }]);
        Some(made)
    }
}

/// The UID of an object in a list.
fn uid(list: &[Value], namespace: &str, name: &str) -> Value {
    let metadata = list.iter().map(|object| &object["metadata"]);
    let found = metadata.filter(|metadata| metadata["namespace"] == namespace && metadata["name"] == name);
    found.map(|metadata| metadata["uid"].clone()).next().unwrap_or_default()
}

/// A claim, and the volume that it is bound to.
pub(super) struct Bound {
    pub(super) claim: Value,
    namespace: String,
    name: String,
    source: Value,
    mode: &'static str,
}

impl Bound {
    fn new(namespace: &str, name: &str, source: &Value, mode: &'static str) -> Self {
        let claim = json!({
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": "",
                "volumeMode": mode,
                "volumeName": format!("{namespace}-{name}"),
                "resources": {"requests": {"storage": "1Mi"}},
            },
            "status": {"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Mi"}},
        });
        Self { claim, namespace: namespace.to_owned(), name: name.to_owned(), source: source.clone(), mode }
    }

    pub(super) fn key(&self) -> (String, String) {
        (self.namespace.clone(), self.name.clone())
    }

    /// The volume, once the claim is there.
    pub(super) fn volume(&self, claims: &[Value]) -> Value {
        let Self { namespace, name, source, mode, .. } = self;
        let own_name = &self.claim["spec"]["volumeName"];
        let mut volume = json!({
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": own_name},
            "spec": {
                "capacity": {"storage": "1Mi"},
                "accessModes": ["ReadWriteOnce"],
                "volumeMode": mode,
                "persistentVolumeReclaimPolicy": "Retain",
                "claimRef": {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "namespace": namespace,
                    "name": name,
                    "uid": uid(claims, namespace, name),
                },
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                    {"key": "kubernetes.io/hostname", "operator": "In", "values": ["node"]},
                ]}]}},
            },
        });
        for (key, value) in source.as_object().into_iter().flatten() {
            volume["spec"][key] = value.clone();
            if key == "csi" {
                volume["spec"][key]["volumeHandle"] = own_name.clone();
            }
        }
        volume
    }
}

/// What the pods of a namespace refer to.
pub(super) fn objects(namespace: &str) -> Vec<Value> {
    let metadata = |name: &str| json!({"name": name, "namespace": namespace});
    vec![
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata("default")}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata("data"), "data": {"file": "text"}}),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata("data"), "stringData": {"file": "text"}}),
    ]
}

pub(super) fn csi_driver() -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "CSIDriver",
        "metadata": {"name": CSI_DRIVER},
        "spec": {
            "attachRequired": false,
            "podInfoOnMount": true,
            "volumeLifecycleModes": ["Persistent", "Ephemeral"],
            "fsGroupPolicy": "File",
        },
    })
}
