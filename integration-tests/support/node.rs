//! A node with one container, as a runtime shows it to the hook: everything about it can be broken.

use std::ops::Deref;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::pod::{MASKED, READ_ONLY};
use crate::support::root::Root;
use crate::support::{program, run};

/// A node's root directory with a policy, namespaces, and one bundle of a containerd pod with its sandbox.
pub(crate) struct Node {
    root: Root,
}

pub(crate) const SANDBOX: &str = "5a5d8c9f00000000000000000000000000000000000000000000000000000001";
pub(crate) const ID: &str = "acb1e50360630d8c6043f4b1aef582a651aec8263f6ba527a74aa7cbe1d607af";

impl Deref for Node {
    type Target = Root;

    fn deref(&self) -> &Root {
        &self.root
    }
}

impl Node {
    pub(crate) fn new(policy: &str) -> Self {
        let node = Self { root: Root::new() };
        node.policy(policy);
        node.config("shop");
        node
    }

    /// In enforce mode at restricted, with a container that it refuses: each start is one event.
    pub(crate) fn refusing() -> Self {
        let node = Self::new("mode = 'enforce'\n[defaults]\nenforce = 'restricted'\n");
        node.refused_config("shop");
        node
    }

    pub(crate) fn bundle(&self) -> PathBuf {
        self.root().join("io.containerd.runtime.v2.task/k8s.io").join(ID)
    }

    /// The bundle of the pod's sandbox.
    pub(crate) fn sandbox(&self) -> PathBuf {
        self.root().join("io.containerd.runtime.v2.task/k8s.io").join(SANDBOX)
    }

    /// A container that restricted allows, of a pod in a namespace, and its sandbox.
    pub(crate) fn config(&self, namespace: &str) -> PathBuf {
        let kinds = ["pid", "ipc", "uts", "mount", "network"];
        let namespaces: Vec<Value> = kinds.iter().map(|kind| json!({"type": kind})).collect();
        let annotations = |kind: &str| {
            json!({
                "io.kubernetes.cri.container-type": kind,
                "io.kubernetes.cri.container-name": "app",
                "io.kubernetes.cri.sandbox-id": SANDBOX,
                "io.kubernetes.cri.sandbox-name": "web",
                "io.kubernetes.cri.sandbox-namespace": namespace,
                "io.kubernetes.cri.sandbox-uid": "dab344e9-1d4f-4e7d-941e-7a1219bef1c5",
            })
        };
        let spec = |kind: &str| {
            json!({
                "ociVersion": "1.2.1",
                "annotations": annotations(kind),
                "process": {"user": {"uid": 1000, "gid": 1000}, "noNewPrivileges": true, "capabilities": {}},
                "root": {"path": "rootfs", "readonly": true},
                "mounts": [{"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]}],
                "linux": {
                    "namespaces": namespaces,
                    "maskedPaths": MASKED,
                    "readonlyPaths": READ_ONLY,
                    "seccomp": {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": []},
                },
            })
        };
        let task = "io.containerd.runtime.v2.task/k8s.io";
        self.file(&format!("{task}/{SANDBOX}/config.json"), &spec("sandbox").to_string());
        self.file(&format!("{task}/{ID}/config.json"), &spec("container").to_string())
    }

    /// The same of a container that complies with baseline and not with restricted: its root file system is writable.
    pub(crate) fn refused_config(&self, namespace: &str) -> PathBuf {
        let path = self.config(namespace);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("\"readonly\":true", "\"readonly\":false")).unwrap();
        path
    }

    pub(crate) fn state(&self) -> String {
        // No process is waiting: the namespaces are those of the list.
        json!({"ociVersion": "1.0.2", "id": ID, "status": "creating", "pid": 0, "bundle": self.bundle()})
            .to_string()
    }

    /// The hook's command line, as `config.json` has it.
    pub(crate) fn hook_command(&self) -> Command {
        let mut command = Command::new(program::gate());
        command.args(["hook", "--engine", "containerd", "--root"]).arg(self.root());
        command
    }

    /// Calls the hook with this on standard input.
    pub(crate) fn hook(&self, stdin: &[u8]) -> Output {
        run::feed(&mut self.hook_command(), stdin)
    }
}
