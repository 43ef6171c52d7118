//! A captured node: bundles as engines lay them out, and nothing that runs.

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::pod::{MASKED, READ_ONLY};
use crate::support::root::Root;
use crate::support::run::{self, Done};
use crate::support::{files, program};

/// `scan` of a root directory, at whatever width and in whatever language the machine has.
pub(crate) fn scan_command(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program::binary());
    command.arg("--root").arg(root).arg("scan").args(arguments);
    command.env_remove("COLUMNS").env_remove("NO_COLOR").env("LC_ALL", "C.UTF-8");
    command
}

pub(crate) fn scan(root: &Path, arguments: &[&str]) -> Done {
    run::run(&mut scan_command(root, arguments))
}

/// What was printed, one object a line.
pub(crate) fn objects(done: &Done) -> Vec<Value> {
    done.stdout.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// A captured node: a root directory with bundles as engines lay them out.
pub(crate) struct Captured {
    root: Root,
}

impl Deref for Captured {
    type Target = Root;

    fn deref(&self) -> &Root {
        &self.root
    }
}

impl Captured {
    pub(crate) fn new() -> Self {
        Self { root: Root::new() }
    }

    /// The bundle of an id: containerd's, or CRI-O's.
    pub(crate) fn bundle(&self, engine: &str, id: &str) -> PathBuf {
        if engine.starts_with("crio") {
            return self.root().join(format!("run/containers/storage/overlay-containers/{id}/userdata"));
        }
        self.root().join(format!("run/containerd/io.containerd.runtime.v2.task/k8s.io/{id}"))
    }

    pub(crate) fn lay(&self, engine: &str, id: &str, config: &Value) -> PathBuf {
        let bundle = self.bundle(engine, id);
        files::write(&bundle.join("config.json"), &config.to_string());
        bundle
    }

    /// Lays a case of the corpus out as its node had it; the bundles of its containers.
    pub(crate) fn lay_case(&self, case: &Path, engine: &str) -> Vec<(PathBuf, PathBuf)> {
        let mut laid = Vec::new();
        for container in entries(&case.join("containers")) {
            let config = read(&container.join("config.json"));
            let key = if engine.starts_with("crio") {
                "io.kubernetes.cri-o.SandboxID"
            } else {
                "io.kubernetes.cri.sandbox-id"
            };
            let sandbox = config["annotations"][key].as_str().expect("the sandbox's id").to_owned();
            let group = config["linux"]["cgroupsPath"].as_str().expect("a control group");
            let id = group.rsplit(['/', ':', '-']).next().expect("its last part");
            let bundle = self.lay(engine, id, &config);
            fs::copy(container.join("observed.json"), bundle.join("observed.json")).expect("a copy");
            self.lay(engine, &sandbox, &read(&case.join("sandbox/config.json")));
            laid.push((container, bundle));
        }
        laid
    }
}

/// What a folder has, sorted.
pub(crate) fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    paths
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&run::read(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// config.json of a container that restricted refuses for one reason, or for none.
pub(crate) fn config(namespace: &str, pod: &str, name: &str, read_only: bool) -> Value {
    json!({
        "ociVersion": "1.0.2",
        "annotations": {
            "io.kubernetes.cri.container-type": "container",
            "io.kubernetes.cri.sandbox-id": format!("sandbox-of-{pod}"),
            "io.kubernetes.cri.sandbox-namespace": namespace,
            "io.kubernetes.cri.sandbox-name": pod,
            "io.kubernetes.cri.container-name": name,
        },
        "process": {
            "user": {"uid": 1000},
            "noNewPrivileges": true,
            "capabilities": {"bounding": []},
        },
        "root": {"readonly": read_only},
        "linux": {
            "namespaces": [{"type": "network"}, {"type": "pid"}, {"type": "ipc"}, {"type": "mount"}],
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
            "seccomp": {"defaultAction": "SCMP_ACT_ERRNO"},
        },
        "mounts": [{"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]}],
    })
}

/// A sandbox that shares the host's network, or not.
pub(crate) fn sandbox(namespace: &str, pod: &str, host_network: bool) -> Value {
    let mut config = config(namespace, pod, "", true);
    config["annotations"]["io.kubernetes.cri.container-type"] = json!("sandbox");
    if host_network {
        config["linux"]["namespaces"] = json!([{"type": "pid"}, {"type": "ipc"}, {"type": "mount"}]);
    }
    config
}

/// A small node of every kind.
pub(crate) fn small() -> Captured {
    let node = Captured::new();
    let lay = |id: &str, config: &Value| node.lay("containerd", id, config);
    lay("01", &config("shop", "web-0", "app", true));
    lay("02", &config("shop", "web-0", "logger", false));
    lay("sandbox-of-web-0", &sandbox("shop", "web-0", false));
    let mut bare = config("shop", "db-0", "database", false);
    bare["process"] = json!({"user": {"uid": 0}});
    bare["linux"]["seccomp"] = Value::Null;
    bare["mounts"] =
        json!([{"destination": "/host", "type": "bind", "source": "/etc", "options": ["rbind"]}]);
    lay("03", &bare);
    let mut agent = config("ops", "agent-x", "agent", true);
    agent["linux"]["namespaces"] = json!([{"type": "pid"}, {"type": "ipc"}, {"type": "mount"}]);
    lay("04", &agent);
    lay("sandbox-of-agent-x", &sandbox("ops", "agent-x", true));
    lay("05", &config("kube-system", "kube-proxy", "proxy", false));
    let mut unmanaged = config("x", "x", "x", false);
    unmanaged["annotations"] = json!({});
    files::write(
        &node.root().join(
            "run/containerd/io.containerd.runtime.v2.task/moby/c0ffee00c0ffee00c0ffee00c0ffee00/config.json",
        ),
        &unmanaged.to_string(),
    );
    node
}
