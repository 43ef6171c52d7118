//! How does a container come to run on a node? An engine in small: it lays bundles out as containerd and CRI-O do and
//! calls a real OCI runtime as they do.
//!
//! Everything lies below one temporary directory, the gate's own files below `root` in it. Containers, mounts and
//! directories go away with the values that made them.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::pod::{self, Engine, Place, Pod, Volume};
use crate::support::run::{self, Done};
use crate::support::{files, image, needs, program, random, root};

/// An OCI runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runtime {
    /// The one that is installed.
    Runc,
    /// The one that is installed.
    Crun,
    /// A version that `scripts/node-parts` brings, by its folder there.
    Part(Family, &'static str),
}

/// Whose command line and words a runtime has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Runc,
    Crun,
    Youki,
}

impl Runtime {
    pub(crate) fn family(self) -> Family {
        match self {
            Self::Runc => Family::Runc,
            Self::Crun => Family::Crun,
            Self::Part(family, _) => family,
        }
    }

    /// The name of its program.
    pub(crate) fn name(self) -> &'static str {
        match self.family() {
            Family::Runc => "runc",
            Family::Crun => "crun",
            Family::Youki => "youki",
        }
    }

    /// Where its program lies, whether or not it is there.
    pub(crate) fn place(self) -> Option<PathBuf> {
        match self {
            Self::Runc | Self::Crun => needs::program(self.name()),
            Self::Part(_, folder) => Some(needs::part(&format!("{folder}/{}", self.name()))),
        }
    }

    pub(crate) fn program(self) -> PathBuf {
        self.place()
            .filter(|program| program.is_file())
            .unwrap_or_else(|| panic!("{self:?} is not installed"))
    }

    /// A command that becomes what its first argument says, in a place where this runtime works.
    pub(crate) fn prefix(self) -> Command {
        if self.family() != Family::Crun || !Path::new("/sys/fs/cgroup/unified").is_dir() {
            return Command::new("env");
        }
        // crun 1.8 refuses a cgroup v1 host that has v2 mounted beside it, so it gets a view without.
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "slave", "sh", "-c"]);
        command.args(["umount /sys/fs/cgroup/unified; exec \"$@\"", "sh"]);
        command
    }

    fn command(self) -> Command {
        let mut command = self.prefix();
        command.arg(self.program());
        command
    }

    /// The version as it says it: `1.1.5+ds1`.
    pub(crate) fn full_version(self) -> String {
        let done = run::run(self.command().arg("--version")).expect_success();
        let line = done.stdout.lines().next().unwrap_or_default();
        // "runc version 1.4.4", "crun version 1.28", "youki version: 0.7.0"
        line.split_whitespace().nth(2).unwrap_or_default().to_owned()
    }

    /// The texts around a hook's own changed in runc 1.2 (`libcontainer/configs/config.go`).
    pub(crate) fn version(self) -> (u32, u32) {
        let version = self.full_version();
        let mut parts = version.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse().ok());
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    }
}

/// Whether the gate is active for the runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// The hook is in every container's spec.
    Hook,
    /// The wrapper is what the engine calls.
    Wrapper,
    /// As a node without it: what the runtime itself thinks of our specs.
    Absent,
}

/// A node: an image, an engine's directories, a kubelet's, and the gate's.
pub(crate) struct RuntimeNode {
    dir: TempDir,
    pub(crate) engine: Engine,
    pub(crate) runtime: Runtime,
}

impl RuntimeNode {
    pub(crate) fn new(engine: Engine, runtime: Runtime) -> Self {
        let dir = tempfile::Builder::new().prefix("pss-guard-").tempdir().expect("a temporary directory");
        // A user namespace's root has to pass through it.
        files::set_mode(dir.path(), 0o711);
        Self { dir, engine, runtime }
    }

    /// The `--root` of the gate: policy, state, log and journal socket are below it.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    pub(crate) fn policy_path(&self) -> PathBuf {
        self.root().join("etc/pss-guard/policy.toml")
    }

    /// Where events go that no journald takes.
    pub(crate) fn decisions(&self) -> PathBuf {
        root::decisions(&self.root())
    }

    /// What is written down there of one container.
    fn events(&self, id: &str) -> Vec<Value> {
        let mut events = root::events(&self.root());
        events.retain(|event| event["PSS_CONTAINER_ID"] == id);
        events
    }

    pub(crate) fn kubelet_root(&self) -> PathBuf {
        self.dir.path().join("kubelet")
    }

    /// Writes the policy, and with it where this node's kubelet lives.
    pub(crate) fn write_policy(&self, policy: &str) {
        let path = self.policy_path();
        let text = format!("{policy}\n[node]\nkubelet-root = \"{}\"\n", self.kubelet_root().display());
        files::write(&path, &text);
    }

    /// Starts a pod's sandbox and gives it what the kubelet gives.
    pub(crate) fn sandbox(&self, pod: &Pod) -> Sandbox<'_> {
        let uid = random::uid();
        let sandbox_id = random::id();
        let files = match self.engine {
            Engine::Containerd => {
                self.dir.path().join("io.containerd.grpc.v1.cri/sandboxes").join(&sandbox_id)
            }
            Engine::CriO => self.bundle(&sandbox_id),
        };
        let mut place = Place {
            engine: self.engine,
            pod_dir: self.kubelet_root().join("pods").join(&uid),
            uid,
            container_id: sandbox_id.clone(),
            sandbox_files: files.clone(),
            namespaces: Vec::new(),
            rootfs: self.rootfs(&sandbox_id),
            engine_capabilities: own_capabilities(),
            sandbox_id,
        };
        fs::create_dir_all(files.join("shm")).expect("a sandbox's directory");
        files::write(&files.join("hostname"), pod.name);
        files::write(&files.join("resolv.conf"), "");
        files::write(&place.pod_dir.join("etc-hosts"), "127.0.0.1 localhost\n");
        write_bundle(
            &self.bundle(&place.sandbox_id),
            &self.rootfs(&place.sandbox_id),
            &pod::sandbox_spec(pod, &place),
        );
        let mut undo = Undo::default();
        for volume in &pod.volumes {
            lay_out(pod, &place, volume, &mut undo);
        }
        place.namespaces = match self.engine {
            Engine::Containerd => self.start_pause(pod, &place),
            Engine::CriO => self.pin_namespaces(pod, &mut undo),
        };
        Sandbox { node: self, pod: pod.clone(), place, _undo: undo }
    }

    /// containerd runs a pause container and writes the way to its namespaces into every other.
    fn start_pause(&self, pod: &Pod, place: &Place) -> Vec<(&'static str, PathBuf)> {
        let id = &place.sandbox_id;
        let pid_file = self.bundle(id).join("init.pid");
        let mut create = self.runtime(&["create", "--bundle"]);
        create.arg(self.bundle(id)).arg("--pid-file").arg(&pid_file).arg(id);
        run::run(&mut create).expect_success();
        run::run(self.runtime(&["start"]).arg(id)).expect_success();
        let of = |kind| PathBuf::from(format!("/proc/{}/ns/{kind}", run::read(&pid_file)));
        let mut namespaces = vec![("ipc", of("ipc")), ("uts", of("uts")), ("net", of("net"))];
        if pod.host_pid {
            namespaces.push(("pid", of("pid")));
        }
        if !pod.host_users {
            namespaces.push(("user", of("user")));
        }
        namespaces
    }

    /// CRI-O drops the pause container and pins the pod's namespaces to files. A host network has no entry, a host
    /// IPC namespace is pinned like any other (CRI-O `internal/config/nsmgr`, `server/namespaces_linux.go`).
    fn pin_namespaces(&self, pod: &Pod, undo: &mut Undo) -> Vec<(&'static str, PathBuf)> {
        let pinned = |kind: &str| {
            let file = self.dir.path().join(format!("{kind}ns")).join(random::uid());
            files::write(&file, "");
            file
        };
        let (net, ipc, uts) = (pinned("net"), pinned("ipc"), pinned("uts"));
        let mut unshare = Command::new("unshare");
        unshare.arg(format!("--net={}", net.display())).arg(format!("--uts={}", uts.display()));
        if pod.host_ipc {
            run::run(Command::new("mount").args(["--bind", "/proc/self/ns/ipc"]).arg(&ipc)).expect_success();
        } else {
            unshare.arg(format!("--ipc={}", ipc.display()));
        }
        run::run(unshare.arg("true")).expect_success();
        undo.mounts.extend([net.clone(), ipc.clone(), uts.clone()]);
        let mut namespaces = vec![("ipc", ipc), ("uts", uts)];
        if !pod.host_network {
            namespaces.push(("net", net));
        }
        namespaces
    }

    pub(crate) fn bundle(&self, id: &str) -> PathBuf {
        match self.engine {
            Engine::Containerd => self.dir.path().join("io.containerd.runtime.v2.task/k8s.io").join(id),
            Engine::CriO => self.dir.path().join("overlay-containers").join(id).join("userdata"),
        }
    }

    fn rootfs(&self, id: &str) -> PathBuf {
        match self.engine {
            Engine::Containerd => PathBuf::from("rootfs"),
            Engine::CriO => self.dir.path().join("overlay").join(id).join("merged"),
        }
    }

    fn delete(&self, id: &str) {
        run::run(self.runtime(&["delete", "--force"]).arg(id));
    }

    /// The ids of all containers and sandboxes there ever were.
    fn ids(&self) -> impl Iterator<Item = String> {
        let bundles = self.dir.path().join(match self.engine {
            Engine::Containerd => "io.containerd.runtime.v2.task/k8s.io",
            Engine::CriO => "overlay-containers",
        });
        let entries = fs::read_dir(bundles).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
    }

    /// The runtime with state of its own, so that nobody else's containers are touched.
    pub(crate) fn runtime(&self, arguments: &[&str]) -> Command {
        self.calling(&self.runtime.program(), arguments)
    }

    /// The same by the wrapper, as the engine calls it.
    pub(crate) fn wrapped(&self, arguments: &[&str]) -> Command {
        self.calling(
            &program::entry(&self.root(), self.engine.name(), "runc", &self.runtime.program()),
            arguments,
        )
    }

    /// The same by another program in front of it.
    pub(crate) fn calling(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = self.runtime.prefix();
        command.arg(program);
        command.arg("--root").arg(self.dir.path().join(self.runtime.name())).args(arguments);
        command
    }
}

impl Drop for RuntimeNode {
    fn drop(&mut self) {
        let state = self.dir.path().join(self.runtime.name());
        for entry in fs::read_dir(state).into_iter().flatten().flatten() {
            self.delete(&entry.file_name().to_string_lossy());
        }
        remove_cgroups(&self.ids().map(|id| pod::cgroups_path(self.engine, &id)).collect::<Vec<_>>());
    }
}

/// A pod whose sandbox is up: containers may be started in it.
pub(crate) struct Sandbox<'a> {
    node: &'a RuntimeNode,
    pub(crate) pod: Pod,
    pub(crate) place: Place,
    _undo: Undo,
}

impl Drop for Sandbox<'_> {
    fn drop(&mut self) {
        if self.node.engine == Engine::Containerd {
            self.node.delete(&self.place.sandbox_id);
        }
    }
}

impl Sandbox<'_> {
    /// Starts the pod's container as the engine does: `create`, and if that went well `start`.
    pub(crate) fn start(&self, gate: Gate) -> Attempt {
        self.start_with(gate, |_| {})
    }

    /// The same with a change to the container's spec.
    pub(crate) fn start_with(&self, gate: Gate, change: impl FnOnce(&mut Value)) -> Attempt {
        self.start_changed(gate, |spec, _| change(spec))
    }

    /// The same with a change that depends on where the container lies.
    pub(crate) fn start_changed(&self, gate: Gate, change: impl FnOnce(&mut Value, &Place)) -> Attempt {
        let node = self.node;
        let place = Place { container_id: random::id(), ..self.place.clone() };
        let id = &place.container_id;
        let place = Place { rootfs: node.rootfs(id), ..place.clone() };
        let witness = place.termination_log(&self.pod);
        files::write(&witness, "");
        // The kubelet does the same: any user may leave its last words.
        files::set_mode(&witness, 0o666);
        let mut spec = pod::container_spec(&self.pod, &place);
        if gate == Gate::Hook {
            spec["hooks"] = json!({"createRuntime": [program::hook(node.engine.name(), &node.root())]});
        }
        change(&mut spec, &place);
        let bundle = node.bundle(id);
        write_bundle(&bundle, &place.rootfs, &spec);
        let log = bundle.join("log.json");
        let program = match gate {
            Gate::Wrapper => {
                program::entry(&node.root(), node.engine.name(), "runc", &node.runtime.program())
            }
            Gate::Hook | Gate::Absent => node.runtime.program(),
        };
        let mut create = node.calling(&program, &["--log-format", "json", "--log"]);
        create.arg(&log).args(["create", "--bundle"]).arg(&bundle).arg(id);
        let created = run::run(&mut create);
        let mut started = None;
        if created.code == Some(0) {
            started = Some(run::run(node.runtime(&["start"]).arg(id)));
            // Long, because others may be starting as well.
            run::within(Duration::from_secs(60), || !run::read(&witness).is_empty());
        }
        let said = run::read(&witness);
        let ran = !said.is_empty();
        // Asked only after a refusal: it must have left nothing.
        let kept = started.is_some() || run::run(node.runtime(&["state"]).arg(id)).code == Some(0);
        node.delete(id);
        let message = last_error(&run::read(&log));
        let events = node.events(id);
        let policy = run::read(&node.policy_path());
        Attempt { id: id.clone(), policy, spec, created, started, ran, said, kept, message, events }
    }

    /// Starts the pod's container through the wrapper and leaves it running, for processes that join it; its id.
    pub(crate) fn keep(&self) -> String {
        self.keep_with(|_| {})
    }

    /// The same with a change to the container's spec.
    pub(crate) fn keep_with(&self, change: impl FnOnce(&mut Value)) -> String {
        let node = self.node;
        let id = random::id();
        let place = Place { container_id: id.clone(), rootfs: node.rootfs(&id), ..self.place.clone() };
        files::write(&place.termination_log(&self.pod), "");
        let mut spec = pod::container_spec(&self.pod, &place);
        spec["process"]["args"] = json!(["/bin/sleep", "3600"]);
        change(&mut spec);
        let bundle = node.bundle(&id);
        write_bundle(&bundle, &place.rootfs, &spec);
        run::run(node.wrapped(&["create", "--bundle"]).arg(&bundle).arg(&id)).expect_success();
        run::run(node.wrapped(&["start"]).arg(&id)).expect_success();
        // A runtime's `start` may return before the process is its own, and nobody in the container may look into the runtime's.
        let state: Value =
            serde_json::from_str(&run::run(node.runtime(&["state"]).arg(&id)).stdout).expect("a state");
        let line = PathBuf::from(format!("/proc/{}/cmdline", state["pid"]));
        run::eventually(|| run::read(&line).starts_with("/bin/sleep"));
        id
    }
}

/// One start of one container, and all that is to be known of it.
pub(crate) struct Attempt {
    pub(crate) id: String,
    policy: String,
    spec: Value,
    pub(crate) created: Done,
    started: Option<Done>,
    /// The container's process has done something.
    pub(crate) ran: bool,
    /// What it wrote into its termination log.
    pub(crate) said: String,
    /// The runtime knows the container afterwards.
    pub(crate) kept: bool,
    /// What the runtime wrote last into its log as an error, which is what containerd shows.
    pub(crate) message: String,
    /// What the gate wrote down of it.
    pub(crate) events: Vec<Value>,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { policy, spec, created, started, ran, kept, message, events, .. } = self;
        writeln!(f, "create: {created}")?;
        if let Some(started) = started {
            writeln!(f, "start: {started}")?;
        }
        writeln!(
            f,
            "the process ran: {ran}; the runtime kept the container: {kept}; its last error: {message}"
        )?;
        writeln!(f, "events: {events:?}")?;
        writeln!(f, "policy:\n{policy}")?;
        write!(f, "config.json: {spec}")
    }
}

/// Mounts that must go before the directory does.
#[derive(Default)]
struct Undo {
    mounts: Vec<PathBuf>,
}

impl Drop for Undo {
    fn drop(&mut self) {
        for mount in self.mounts.iter().rev() {
            run::run(Command::new("umount").arg("--lazy").arg(mount));
        }
    }
}

/// Does for a volume what the kubelet does before it calls the engine.
fn lay_out(pod: &Pod, place: &Place, volume: &Volume, undo: &mut Undo) {
    let source = place.source(pod, volume);
    match volume {
        Volume::HostPath { .. } => {}
        Volume::EmptyDir { .. } => {
            fs::create_dir_all(&source).expect("an emptyDir");
            files::set_mode(&source, 0o777);
        }
        Volume::HostPathSubPath { path, .. } => {
            fs::create_dir_all(&source).expect("a subPath's mount point");
            run::run(Command::new("mount").args(["--bind", path]).arg(&source)).expect_success();
            undo.mounts.push(source);
        }
    }
}

/// A bundle: the image's files and the spec.
fn write_bundle(bundle: &Path, rootfs: &Path, spec: &Value) {
    // `join` leaves an absolute path as it is.
    let rootfs = bundle.join(rootfs);
    image::unpack(&rootfs);
    if let Some(root) = spec["linux"]["uidMappings"][0]["hostID"].as_u64() {
        // containerd hands the files to the mapped root where the file system cannot map them.
        run::run(Command::new("chown").args(["-R", &format!("{root}:{root}")]).arg(&rootfs)).expect_success();
        files::set_mode(bundle, 0o711);
    }
    files::write(&bundle.join("config.json"), &serde_json::to_string_pretty(spec).expect("JSON"));
}

/// Removes control groups from every hierarchy, as far as they are there and empty. A process that was killed keeps
/// its group busy until it is gone, after the runtime's `delete` has returned.
pub(crate) fn remove_cgroups(paths: &[String]) {
    let hierarchies: Vec<PathBuf> =
        fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    let groups: Vec<PathBuf> = paths
        .iter()
        .flat_map(|path| {
            hierarchies.iter().map(move |hierarchy| hierarchy.join(path.trim_start_matches('/')))
        })
        .collect();
    run::eventually(|| groups.iter().all(|group| fs::remove_dir(group).is_ok() || !group.exists()));
}

/// The last error of a runtime's log, as containerd's shim looks for it. crun prints one object over several lines.
fn last_error(log: &str) -> String {
    let entries = serde_json::Deserializer::from_str(log).into_iter::<Value>().map_while(Result::ok);
    let errors = entries.filter(|entry| entry["level"] == "error");
    errors.last().and_then(|entry| entry["msg"].as_str().map(str::to_owned)).unwrap_or_default()
}

/// What an engine gives a privileged container: all it has itself.
fn own_capabilities() -> Vec<String> {
    let own = caps::read(None, caps::CapSet::Bounding).expect("our own capabilities");
    let mut names: Vec<String> = own.iter().map(ToString::to_string).collect();
    names.sort();
    names
}
