//! A node under a directory of its own: policy, namespace levels, journal socket, and bundles as engines lay
//! them out, made from real config.json files.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Why there is no benchmark.
pub(crate) type Failure = Box<dyn std::error::Error>;

/// The namespace of every pod in the fixtures.
pub(crate) const NAMESPACE: &str = "shop";

/// A policy of the size that a real cluster has: some namespaces, some exceptions, comments.
pub(crate) const POLICY: &str = include_str!("fixtures/policy.toml");

/// The least that makes a node enforce.
pub(crate) const SMALLEST_POLICY: &str = "mode = \"enforce\"\n[node]\nkubelet-root = \"/var/lib/kubelet\"\n";

/// A process in namespaces of its own, as a pause container is and as a container's first process will be.
pub(crate) struct Sandbox {
    unshare: Child,
    pid: u32,
}

impl Sandbox {
    /// Needs root, as the hook itself does.
    pub(crate) fn start() -> Result<Self, Failure> {
        let mut unshare = Command::new("unshare");
        unshare.args(["--ipc", "--uts", "--net", "--pid", "--fork", "--kill-child", "sleep", "infinity"]);
        let unshare =
            unshare.stdin(Stdio::null()).spawn().map_err(|error| format!("start unshare(1): {error}"))?;
        let mut sandbox = Self { pid: unshare.id(), unshare };
        let children = format!("/proc/{0}/task/{0}/children", sandbox.pid);
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            if let Ok(pid) = fs::read_to_string(&children).unwrap_or_default().trim().parse() {
                sandbox.pid = pid;
                return Ok(sandbox);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err("unshare(1) made no namespaces: the benchmark must run as root".into())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    fn namespace(&self, file: &str) -> String {
        format!("/proc/{}/ns/{file}", self.pid)
    }

    /// Puts this pod's namespaces where the fixture has paths of the node that it was made on.
    pub(crate) fn adopt(&self, config: &mut Value) {
        let namespaces = config.pointer_mut("/linux/namespaces").and_then(Value::as_array_mut);
        for namespace in namespaces.into_iter().flatten() {
            let file = match namespace.get("type").and_then(Value::as_str) {
                Some("network") => "net",
                Some("ipc") => "ipc",
                Some("uts") => "uts",
                _ => continue,
            };
            if let Some(path) = namespace.get_mut("path") {
                *path = self.namespace(file).into();
            }
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // It only sleeps; if it is gone already, all the better.
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}

/// A config.json of a container and that of its sandbox.
#[derive(Clone)]
pub(crate) struct Pod {
    pub(crate) engine: &'static str,
    pub(crate) container: Value,
    sandbox: Value,
}

macro_rules! fixture {
    ($engine:literal, $case:literal, $container:literal) => {
        Pod::parse(
            $engine,
            include_str!(concat!("fixtures/", $case, "/containers/", $container, "/config.json")),
            include_str!(concat!("fixtures/", $case, "/sandbox/config.json")),
        )
    };
}

impl Pod {
    fn parse(engine: &'static str, container: &str, sandbox: &str) -> Result<Self, Failure> {
        let (container, sandbox) = (serde_json::from_str(container)?, serde_json::from_str(sandbox)?);
        Ok(Self { engine, container, sandbox })
    }

    /// Restricted in every control, on containerd.
    pub(crate) fn containerd_allowed() -> Result<Self, Failure> {
        fixture!("containerd", "containerd-allowed", "app")
    }

    /// A container with the engine's defaults, on containerd: several violations.
    pub(crate) fn containerd_denied() -> Result<Self, Failure> {
        fixture!("containerd", "containerd-denied", "api")
    }

    /// Restricted in every control, on CRI-O.
    pub(crate) fn crio_allowed() -> Result<Self, Failure> {
        fixture!("cri-o", "cri-o-allowed", "app")
    }

    /// Adds what the kubelet adds for every service of a namespace, until config.json is as long as asked.
    pub(crate) fn with_service_links(mut self, size: usize) -> Result<Self, Failure> {
        let so_far = self.container.to_string().len();
        let env = self.container.pointer_mut("/process/env").and_then(Value::as_array_mut);
        let env = env.ok_or("the fixture has no process.env")?;
        let mut missing = size.saturating_sub(so_far);
        for service in 0.. {
            let (name, ip) =
                (format!("BACKEND_{service}"), format!("10.96.{}.{}", service / 250, service % 250));
            for line in [
                format!("{name}_SERVICE_HOST={ip}"),
                format!("{name}_SERVICE_PORT=8080"),
                format!("{name}_PORT=tcp://{ip}:8080"),
                format!("{name}_PORT_8080_TCP=tcp://{ip}:8080"),
                format!("{name}_PORT_8080_TCP_PROTO=tcp"),
                format!("{name}_PORT_8080_TCP_PORT=8080"),
                format!("{name}_PORT_8080_TCP_ADDR={ip}"),
            ] {
                if missing == 0 {
                    return Ok(self);
                }
                missing = missing.saturating_sub(line.len() + 3);
                env.push(line.into());
            }
        }
        Ok(self)
    }

    /// Adds as many volumes as asked, each an emptyDir of the pod's.
    pub(crate) fn with_volumes(mut self, count: usize) -> Result<Self, Failure> {
        let mounts = self.container.pointer_mut("/mounts").and_then(Value::as_array_mut);
        let mounts = mounts.ok_or("the fixture has no mounts")?;
        let uid = self.sandbox.pointer("/annotations/io.kubernetes.cri.sandbox-uid").and_then(Value::as_str);
        let uid = uid.ok_or("the fixture has no UID of its pod")?;
        for nth in 0..count {
            mounts.push(json!({
                "type": "bind", "destination": format!("/data/{nth}"), "options": ["rbind", "rprivate", "rw"],
                "source": format!("/var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~empty-dir/data-{nth}"),
            }));
        }
        Ok(self)
    }

    /// Leaves a seccomp profile of a few names: the least that a compliant config.json can be.
    pub(crate) fn with_short_profile(mut self) -> Result<Self, Failure> {
        let rules = self.container.pointer_mut("/linux/seccomp/syscalls").and_then(Value::as_array_mut);
        let rules = rules.ok_or("the fixture has no seccomp profile")?;
        rules.truncate(1);
        let names = rules.first_mut().and_then(|rule| rule.get_mut("names")?.as_array_mut());
        names.ok_or("the fixture's profile has no names")?.truncate(20);
        Ok(self)
    }

    pub(crate) fn container(&self) -> &Value {
        &self.container
    }

    pub(crate) fn sandbox(&self) -> &Value {
        &self.sandbox
    }

    /// Changes the container's spec.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.container);
        self
    }
}

/// A directory that is a node to the hook.
pub(crate) struct Node {
    directory: tempfile::TempDir,
    journal: UnixDatagram,
}

/// A container of a node, ready to be judged.
pub(crate) struct Bundle {
    pub(crate) path: PathBuf,
    pub(crate) config_size: usize,
    /// What a runtime tells its hooks.
    pub(crate) state: String,
}

impl Node {
    /// In enforce mode, with as many namespaces as asked; the pods' own is restricted.
    pub(crate) fn new(policy: &str, namespaces: usize) -> Result<Self, Failure> {
        let directory = tempfile::Builder::new().prefix("pss-guard-bench").tempdir()?;
        let root = directory.path();
        for folder in
            ["etc/pss-guard", "run/pss-guard/namespaces", "run/systemd/journal", "var/log/pss-guard"]
        {
            fs::create_dir_all(root.join(folder))?;
        }
        // The mounts of the fixtures are made below the root, so the kubelet's directory is there, too.
        let kubelet = root.join("var/lib/kubelet");
        let kubelet = kubelet.to_str().ok_or("a path that is not UTF-8")?;
        fs::write(root.join("etc/pss-guard/policy.toml"), policy.replace("/var/lib/kubelet", kubelet))?;
        let levels = json!({
            "pod-security.kubernetes.io/enforce": "restricted",
            "pod-security.kubernetes.io/enforce-version": "latest",
            "pod-security.kubernetes.io/warn": "restricted",
        });
        let others = (1..namespaces).map(|nth| format!("team-{nth}"));
        for name in others.chain([NAMESPACE.to_owned()]) {
            let file = root.join("run/pss-guard/namespaces").join(name).with_extension("json");
            fs::write(file, levels.to_string())?;
        }
        let journal = UnixDatagram::bind(root.join("run/systemd/journal/socket"))?;
        journal.set_nonblocking(true)?;
        Ok(Self { directory, journal })
    }

    pub(crate) fn root(&self) -> &Path {
        self.directory.path()
    }

    /// Takes what the journal got, so that its queue never fills; the last event as text.
    pub(crate) fn journalled(&self) -> Option<String> {
        let mut buffer = vec![0; 1 << 16];
        let mut last = None;
        while let Ok(size) = self.journal.recv(&mut buffer) {
            last = Some(String::from_utf8_lossy(buffer.get(..size)?).into_owned());
        }
        last
    }

    /// Stores what a bundle's pod declares, which is compliant, among the facts of so many other pods. How many bytes they are, and
    /// the end of their path.
    pub(crate) fn declare(
        &self,
        engine: &str,
        bundle: &Bundle,
        others: usize,
    ) -> Result<(usize, String), Failure> {
        let config: Value = serde_json::from_slice(&fs::read(bundle.path.join("config.json"))?)?;
        let keys = match engine {
            "cri-o" => ["io.kubernetes.pod.uid", "io.kubernetes.pod.namespace", "io.kubernetes.pod.name"],
            _ => [
                "io.kubernetes.cri.sandbox-uid",
                "io.kubernetes.cri.sandbox-namespace",
                "io.kubernetes.cri.sandbox-name",
            ],
        };
        let [uid, namespace, name] = keys.map(|key| config["annotations"][key].as_str().unwrap_or_default());
        let container = |name: &str| {
            json!({
                "name": name,
                "securityContext": {
                    "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true,
                },
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            })
        };
        let facts = |uid: &str| {
            json!({
                "v": 1, "uid": uid, "namespace": namespace, "name": name, "source": "api",
                "spec": {
                    "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
                    "volumes": [{"name": "data", "emptyDir": {}}],
                    "containers": [container("app"), container("proxy"), container("log")],
                },
            })
        };
        let folder = self.root().join("run/pss-guard/pods");
        fs::create_dir_all(&folder)?;
        let others = (0..others).map(|nth| format!("{nth:08x}-1d4f-4e7d-941e-7a1219bef1c5"));
        for uid in others.chain([uid.to_owned()]) {
            fs::write(folder.join(&uid).with_extension("json"), facts(&uid).to_string())?;
        }
        Ok((facts(uid).to_string().len(), format!("/pods/{uid}.json")))
    }

    /// Makes the cluster's version the agent's to say: `cluster.json` instead of the policy. What is returned undoes it.
    pub(crate) fn ask_for_version(&self) -> Result<impl FnOnce() -> Result<(), Failure>, Failure> {
        let policy = self.root().join("etc/pss-guard/policy.toml");
        let text = fs::read_to_string(&policy)?;
        fs::write(&policy, text.replace("[cluster]\nversion = ", "[cluster]\n# version = "))?;
        let agent = self.root().join("run/pss-guard/agent");
        fs::create_dir(&agent)?;
        fs::write(agent.join("cluster.json"), "{\"v\":1,\"minor\":36}\n")?;
        Ok(move || {
            fs::write(&policy, text)?;
            Ok(fs::remove_dir_all(agent)?)
        })
    }

    /// Lays a pod out where its engine would, with the namespaces of a sandbox that runs.
    pub(crate) fn lay_out(&self, mut pod: Pod, id: &str, sandbox: &Sandbox) -> Result<Bundle, Failure> {
        sandbox.adopt(&mut pod.container);
        sandbox.adopt(&mut pod.sandbox);
        self.adopt_mounts(&mut pod.container)?;
        self.lay_out_as_is(&pod, id, sandbox.pid)
    }

    /// Makes the files that a container mounts, so that the hook finds them as it does on a node.
    fn adopt_mounts(&self, config: &mut Value) -> Result<(), Failure> {
        let mounts = config.pointer_mut("/mounts").and_then(Value::as_array_mut);
        for mount in mounts.into_iter().flatten().filter(|mount| mount["type"] == "bind") {
            let source = mount["source"].as_str().ok_or("a bind mount without a source")?;
            let here = self.root().join(source.trim_start_matches('/'));
            fs::create_dir_all(&here)?;
            mount["source"] = here.to_str().ok_or("a path that is not UTF-8")?.into();
        }
        Ok(())
    }

    /// Lays a pod out where its engine would; `pid` is what the runtime will say of the container's process.
    pub(crate) fn lay_out_as_is(&self, pod: &Pod, id: &str, pid: u32) -> Result<Bundle, Failure> {
        let (folder, inner, key) = match pod.engine {
            "cri-o" => {
                ("run/containers/storage/overlay-containers", "userdata", "io.kubernetes.cri-o.SandboxID")
            }
            _ => ("run/containerd/io.containerd.runtime.v2.task/k8s.io", "", "io.kubernetes.cri.sandbox-id"),
        };
        let annotations = pod.container.get("annotations").ok_or("the fixture has no annotations")?;
        let sandbox_id =
            annotations.get(key).and_then(Value::as_str).ok_or("the fixture has no sandbox id")?;
        let place = |id: &str| self.root().join(folder).join(id).join(inner);
        for (id, config) in [(id, &pod.container), (sandbox_id, &pod.sandbox)] {
            fs::create_dir_all(place(id))?;
            // Engines put the container's id into its cgroup's name.
            let text = config.to_string();
            let cgroup = config.pointer("/linux/cgroupsPath").and_then(Value::as_str).unwrap_or_default();
            let captured = cgroup.rsplit(['/', ':', '-']).next().unwrap_or_default();
            // An engine's id has 64 digits; what is shorter is a name of ours, which may be a part of anything.
            let text = if captured.len() < 64 { text } else { text.replace(captured, id) };
            fs::write(place(id).join("config.json"), text)?;
        }
        let path = place(id);
        if pod.engine == "containerd" {
            // containerd's own directory of the container, by which its root directory is known.
            let work = self.root().join("var/lib/containerd/io.containerd.runtime.v2.task/k8s.io").join(id);
            fs::create_dir_all(&work)?;
            let link = path.join("work");
            if !link.is_symlink() {
                symlink(work, link)?;
            }
        }
        let state = json!({
            "ociVersion": "1.0.2", "id": id, "status": "creating", "pid": pid,
            "bundle": path, "annotations": annotations,
        });
        Ok(Bundle { path, config_size: pod.container.to_string().len(), state: state.to_string() })
    }
}
