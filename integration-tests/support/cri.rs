//! What does the kubelet ask of an engine for a pod? The same, asked by `crictl`.

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::engine::Engine;
use crate::support::pod::{self, Capabilities, Pod, ProcMount, Seccomp, Volume};
use crate::support::run::{self, Done};
use crate::support::{image, random};

/// One pod that was asked for, and what came of it. It is gone afterwards.
pub(crate) struct Attempt {
    /// The calls that were made: `runp`, `create`, `start`, as far as it came.
    pub(crate) calls: Vec<Done>,
    /// The container's process has done something.
    pub(crate) ran: bool,
    /// What the gate wrote into the journal about it.
    pub(crate) events: Vec<Value>,
    engine: String,
}

impl Attempt {
    /// What the engine said no with: the last call, if it failed.
    pub(crate) fn refusal(&self) -> Option<String> {
        let last = self.calls.last().filter(|done| done.code != Some(0))?;
        // Each layer quotes the one below in its own way: Go's log lines, gRPC's, crictl's.
        Some(last.stderr.replace('\\', ""))
    }

    /// Whether the pod itself was refused, before any container of it.
    pub(crate) fn refused_as_a_pod(&self) -> bool {
        self.calls.len() == 1 && self.refusal().is_some()
    }

    /// The levels of the journal that this attempt left: `denied`, `would-deny`, ….
    pub(crate) fn decisions(&self) -> Vec<&str> {
        self.events.iter().filter_map(|event| event["PSS_DECISION"].as_str()).collect()
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for call in &self.calls {
            writeln!(f, "{call}")?;
        }
        writeln!(f, "the process ran: {}; events: {:?}\n{}", self.ran, self.events, self.engine)
    }
}

/// A pod that was asked for, and is there still.
pub(crate) struct Asked {
    pub(crate) pod: Pod,
    pub(crate) calls: Vec<Done>,
    pub(crate) ran: bool,
    place: Place,
    sandbox_id: String,
}

/// Asks for a pod and its container as the kubelet does, and takes both away again.
pub(crate) fn start(engine: &Engine, pod: &Pod) -> Attempt {
    ask(engine, pod).end(engine)
}

/// Asks for a pod and its container as the kubelet does.
pub(crate) fn ask(engine: &Engine, pod: &Pod) -> Asked {
    ask_by(engine, pod, None)
}

/// The same with the handler of a RuntimeClass.
pub(crate) fn ask_by(engine: &Engine, pod: &Pod, handler: Option<&str>) -> Asked {
    let uid = random::uid();
    let place = Place { uid: uid.clone(), dir: PathBuf::from(engine.layout.kubelet).join("pods").join(&uid) };
    let witness = place.lay_out(engine, pod);
    let write = |name: &str, value: &Value| {
        let path = format!("/run/machine/{name}.json");
        engine.machine.write(&path, &value.to_string());
        path
    };
    let sandbox_file = write("sandbox", &sandbox(pod, &place));
    let container_file = write("container", &container(pod, &place));
    let by = handler.map(|handler| format!("--runtime={handler}"));
    let line: Vec<&str> = ["runp"].into_iter().chain(by.as_deref()).chain([&*sandbox_file]).collect();
    let mut calls = vec![engine.crictl(&line)];
    let sandbox_id = calls[0].stdout.trim().to_owned();
    if calls[0].code == Some(0) {
        calls.push(engine.crictl(&["create", "--no-pull", &sandbox_id, &container_file, &sandbox_file]));
    }
    if let [_, created] = &calls[..]
        && created.code == Some(0)
    {
        let id = created.stdout.trim().to_owned();
        calls.push(engine.crictl(&["start", &id]));
    }
    let said_yes = calls.last().is_some_and(|done| done.code == Some(0));
    let ran = || !engine.machine.read(&witness).is_empty();
    if said_yes {
        run::eventually(ran);
    }
    let ran = ran();
    Asked { pod: pod.clone(), calls, ran, place, sandbox_id }
}

impl Asked {
    /// The container's id; empty if there is none.
    pub(crate) fn container_id(&self) -> &str {
        self.calls.get(1).map_or("", |created| created.stdout.trim())
    }

    /// Takes it away.
    pub(crate) fn end(self, engine: &Engine) -> Attempt {
        let Self { pod, calls, ran, place, sandbox_id } = self;
        if !sandbox_id.is_empty() {
            engine.crictl(&["rmp", "--force", &sandbox_id]).expect_success();
        }
        place.clear(engine, &pod);
        let events = engine.machine.events("PSS_POD_UID", &place.uid);
        Attempt { calls, ran, events, engine: engine.said() }
    }
}

/// Where the kubelet keeps a pod.
struct Place {
    uid: String,
    dir: PathBuf,
}

impl Place {
    fn witness(&self, pod: &Pod) -> String {
        self.dir.join("containers").join(pod.container).join("c0ffee01").display().to_string()
    }

    /// Does what the kubelet does before it asks; gives the file that tells whether the container ran.
    fn lay_out(&self, engine: &Engine, pod: &Pod) -> String {
        let witness = self.witness(pod);
        engine.machine.write(&witness, "");
        let open = fs::Permissions::from_mode(0o666);
        fs::set_permissions(engine.machine.path(&witness), open).expect("a file of ours");
        engine
            .machine
            .run(&["mkdir", "-p", &format!("{}/{}", self.logs(pod), pod.container)])
            .expect_success();
        engine.machine.write(&self.dir.join("etc-hosts").display().to_string(), "127.0.0.1 localhost\n");
        for volume in &pod.volumes {
            let source = self.source(pod, volume);
            match volume {
                Volume::HostPath { .. } => {}
                Volume::EmptyDir { .. } => {
                    engine.machine.run(&["mkdir", "-p", "-m", "0777", &source]).expect_success();
                }
                Volume::HostPathSubPath { path, .. } => {
                    engine.machine.run(&["mkdir", "-p", &source]).expect_success();
                    engine.machine.run(&["mount", "--bind", path, &source]).expect_success();
                }
            }
        }
        witness
    }

    fn clear(&self, engine: &Engine, pod: &Pod) {
        for volume in &pod.volumes {
            if let Volume::HostPathSubPath { .. } = volume {
                engine.machine.run(&["umount", &self.source(pod, volume)]).expect_success();
            }
        }
    }

    fn logs(&self, pod: &Pod) -> String {
        format!("/var/log/pods/{}_{}_{}", pod.namespace, pod.name, self.uid)
    }

    fn source(&self, pod: &Pod, volume: &Volume) -> String {
        pod::volume_source(&self.dir, pod, volume).display().to_string()
    }
}

/// CRI's NamespaceMode.
const POD: u8 = 0;
const CONTAINER: u8 = 1;
const NODE: u8 = 2;

fn namespaces(pod: &Pod) -> Value {
    let of = |host, own| if host { NODE } else { own };
    json!({"network": of(pod.host_network, POD), "pid": of(pod.host_pid, CONTAINER), "ipc": of(pod.host_ipc, POD)})
}

/// CRI's SecurityProfile. What is not set in a pod is Unconfined by the time the kubelet asks.
fn seccomp(seccomp: Seccomp) -> Value {
    json!({"profile_type": match seccomp {
        Seccomp::RuntimeDefault => 0,
        Seccomp::Unconfined => 1,
    }})
}

fn sandbox(pod: &Pod, place: &Place) -> Value {
    let sysctls: serde_json::Map<String, Value> =
        pod.sysctls.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    let ports: Vec<Value> =
        pod.host_ports.iter().map(|port| json!({"container_port": port, "host_port": port})).collect();
    json!({
        "metadata": {"name": pod.name, "namespace": pod.namespace, "uid": place.uid, "attempt": 0},
        "hostname": if pod.host_network { "" } else { pod.name },
        "log_directory": place.logs(pod),
        "port_mappings": ports,
        "labels": {
            "io.kubernetes.pod.name": pod.name,
            "io.kubernetes.pod.namespace": pod.namespace,
            "io.kubernetes.pod.uid": place.uid,
        },
        "annotations": {"kubernetes.io/config.source": "api"},
        "linux": {
            "cgroup_parent": "/pods",
            "sysctls": sysctls,
            "security_context": {
                "namespace_options": namespaces(pod),
                "privileged": pod.privileged,
                "seccomp": seccomp(Seccomp::RuntimeDefault),
            },
        },
    })
}

fn container(pod: &Pod, place: &Place) -> Value {
    let plain =
        |names: &[&str]| names.iter().map(|name| name.trim_start_matches("CAP_").to_owned()).collect();
    let none = Vec::<String>::new();
    let (add, drop): (Vec<String>, Vec<String>) = match pod.capabilities {
        Capabilities::Default => (none.clone(), none),
        Capabilities::Add(names) => (plain(names), none),
        Capabilities::AddAll => (plain(&["ALL"]), none),
        Capabilities::DropAll => (none, plain(&["ALL"])),
        Capabilities::DropAllAdd(names) => (plain(names), plain(&["ALL"])),
    };
    let masked = !pod.privileged && matches!(pod.proc_mount, ProcMount::Default);
    let bind = |at: &str, source: String| json!({"container_path": at, "host_path": source});
    let mut mounts = vec![
        bind("/etc/hosts", place.dir.join("etc-hosts").display().to_string()),
        bind("/dev/termination-log", place.witness(pod)),
    ];
    mounts.extend(pod.volumes.iter().map(|volume| {
        let (Volume::EmptyDir { at, .. } | Volume::HostPath { at, .. } | Volume::HostPathSubPath { at, .. }) =
            volume;
        bind(at, place.source(pod, volume))
    }));
    let mut annotations = json!({
        "io.kubernetes.container.hash": "c0ffee",
        "io.kubernetes.container.restartCount": "0",
        "io.kubernetes.pod.terminationGracePeriod": "30",
    });
    if !pod.host_ports.is_empty() {
        let port = |port: &u16| json!({"hostPort": port, "containerPort": port, "protocol": "TCP"});
        let ports = Value::Array(pod.host_ports.iter().map(port).collect());
        annotations["io.kubernetes.container.ports"] = json!(ports.to_string());
    }
    json!({
        "metadata": {"name": pod.container, "attempt": 0},
        "image": {"image": image::APP},
        "command": ["/bin/sh", "-c", "echo started > /dev/termination-log; exec sleep 3600"],
        "log_path": format!("{}/0.log", pod.container),
        "mounts": mounts,
        "annotations": annotations,
        "labels": {
            "io.kubernetes.container.name": pod.container,
            "io.kubernetes.pod.name": pod.name,
            "io.kubernetes.pod.namespace": pod.namespace,
            "io.kubernetes.pod.uid": place.uid,
        },
        "linux": {
            "resources": {"cpu_shares": 2, "oom_score_adj": 1000},
            "security_context": {
                "namespace_options": namespaces(pod),
                "run_as_user": {"value": pod.uid},
                "capabilities": {"add_capabilities": add, "drop_capabilities": drop},
                "privileged": pod.privileged,
                "no_new_privs": pod.no_new_privileges,
                "readonly_rootfs": pod.read_only_root,
                "seccomp": seccomp(pod.seccomp),
                "masked_paths": if masked { &pod::MASKED[..] } else { &[] },
                "readonly_paths": if masked { &pod::READ_ONLY[..] } else { &[] },
            },
        },
    })
}
