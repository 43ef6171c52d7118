//! Which engines are brought up, and how? Each as its package lays it out, on a machine of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::machine::{Daemon, Machine};
use crate::support::pod::{Capabilities, Pod};
use crate::support::run::{self, Done};
use crate::support::{image, needs};

/// An engine that speaks CRI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Containerd16,
    Containerd17,
    Containerd2,
    Containerd22,
    Containerd23,
    Containerd24,
    CriO,
    CriO135,
    CriO136,
}

impl Kind {
    pub(crate) fn is_crio(self) -> bool {
        matches!(self, Self::CriO | Self::CriO135 | Self::CriO136)
    }

    /// As the program under test calls it.
    pub(crate) fn name(self) -> &'static str {
        if self.is_crio() { "crio" } else { "containerd" }
    }

    pub(crate) fn socket(self) -> &'static str {
        if self.is_crio() { "/run/crio/crio.sock" } else { "/run/containerd/containerd.sock" }
    }

    /// The folder of its programs among the parts.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Self::Containerd16 => "containerd-1.6",
            Self::Containerd17 => "containerd-1.7",
            Self::Containerd2 => "containerd-2",
            Self::Containerd22 => "containerd-2.2",
            Self::Containerd23 => "containerd-2.3",
            Self::Containerd24 => "containerd-2.4",
            Self::CriO => ".",
            Self::CriO135 => "cri-o-1.35",
            Self::CriO136 => "cri-o-1.36",
        }
    }

    /// Its programs, in that folder.
    fn programs(self) -> &'static [&'static str] {
        if self.is_crio() { &["crio", "pinns"] } else { &["containerd", "containerd-shim-runc-v2", "ctr"] }
    }

    /// The engine itself, whether or not it is there.
    pub(crate) fn program(self) -> PathBuf {
        needs::part(&format!("{}/{}", self.folder(), self.programs()[0]))
    }

    /// The configuration of the node, in the newest format that it reads.
    fn config(self) -> String {
        match self {
            Self::Containerd16 | Self::Containerd17 => CONTAINERD_2.to_owned(),
            Self::Containerd2 | Self::Containerd22 => CONTAINERD_3.to_owned(),
            Self::Containerd23 | Self::Containerd24 => CONTAINERD_3.replacen("version = 3", "version = 4", 1),
            Self::CriO | Self::CriO135 | Self::CriO136 => CRIO.to_owned(),
        }
    }

    /// What its configuration says of a handler.
    fn handler(self, Handler { name, program }: &Handler) -> String {
        if self.is_crio() {
            return format!(
                "\n[crio.runtime.runtimes.\"{name}\"]\nruntime_path = \"{program}\"\nruntime_type = \"oci\"\n\
                 runtime_root = \"/run/{name}\"\n"
            );
        }
        let plugin = match self {
            Self::Containerd16 | Self::Containerd17 => "io.containerd.grpc.v1.cri",
            _ => "io.containerd.cri.v1.runtime",
        };
        let table = format!("plugins.'{plugin}'.containerd.runtimes.'{name}'");
        format!(
            "\n[{table}]\nruntime_type = \"io.containerd.runc.v2\"\n[{table}.options]\nBinaryName = \"{program}\"\n"
        )
    }

    /// Whether it can be brought up here.
    pub(crate) fn can_run(self, test: &str) -> bool {
        let own: Vec<String> =
            self.programs().iter().map(|program| format!("{}/{program}", self.folder())).collect();
        let own: Vec<&str> = own.iter().map(String::as_str).chain(["crictl"]).collect();
        let programs: &[&str] = if self.is_crio() { &["conmon", "nft", "skopeo"] } else { &[] };
        Machine::can_run(test, programs, &own)
    }
}

/// Where containerd and the kubelet keep things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// What containerd is started with, beside its configuration; none where it goes by its defaults.
    pub(crate) containerd: Option<Moved>,
    /// The kubelet's root directory.
    pub(crate) kubelet: &'static str,
    /// The distribution's own files, in `fixtures/distributions`; none where containerd has ours.
    pub(crate) files: Option<Files>,
}

/// A distribution's own files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Files {
    /// The tree, in `fixtures/distributions`.
    pub(crate) tree: &'static str,
    /// The sandbox's image, as containerd's configuration there names it.
    pub(crate) pause: &'static str,
}

/// containerd's directories as its command line names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moved {
    pub(crate) state: &'static str,
    pub(crate) root: &'static str,
    pub(crate) socket: &'static str,
}

impl Layout {
    /// Where everything is on a node without a distribution of its own mind.
    pub(crate) const DEFAULT: Self = Self { containerd: None, kubelet: "/var/lib/kubelet", files: None };
}

/// A handler beside the engine's own.
#[derive(Clone, Debug)]
pub(crate) struct Handler {
    pub(crate) name: String,
    /// The runtime's program, by the path that the engine calls.
    pub(crate) program: String,
}

/// An engine that is up.
pub(crate) struct Engine {
    pub(crate) kind: Kind,
    pub(crate) layout: Layout,
    handlers: Vec<Handler>,
    daemon: Option<Daemon>,
    // Last: the machine goes when nothing of the engine is needed any more.
    pub(crate) machine: Machine,
}

impl Engine {
    pub(crate) fn up(kind: Kind) -> Self {
        Self::up_in(kind, Layout::DEFAULT)
    }

    /// The same with its directories elsewhere.
    pub(crate) fn up_in(kind: Kind, layout: Layout) -> Self {
        Self::up_on(Machine::up(), kind, layout, Vec::new())
    }

    /// The same on a machine that is up, with more handlers.
    pub(crate) fn up_on(machine: Machine, kind: Kind, layout: Layout, handlers: Vec<Handler>) -> Self {
        let socket = layout.containerd.map_or_else(|| kind.socket(), |moved| moved.socket);
        if let Some(Moved { root, .. }) = layout.containerd {
            // Not on the machine's overlay, which cannot hold those of snapshots.
            machine.run(&["mkdir", "-p", root]).expect_success();
            machine.run(&["mount", "--bind", "/var/lib/containerd", root]).expect_success();
        }
        machine.start_journald();
        machine.link("crictl", "/usr/bin/crictl");
        machine.write("/etc/cni/net.d/10-pods.conflist", CNI);
        machine.write("/etc/crictl.yaml", &format!("runtime-endpoint: unix://{socket}\ntimeout: 60\n"));
        let dir = tempfile::tempdir().expect("a temporary directory");
        let images = image::write_all(dir.path());
        let mut engine = Self { kind, layout, handlers, daemon: None, machine };
        engine.lay_out();
        if kind.is_crio() {
            for (name, file) in &images {
                engine.load(name, file);
            }
        }
        engine.start();
        if !kind.is_crio() {
            for (name, file) in &images {
                engine.load(name, file);
            }
            if let Some(Files { pause, .. }) = layout.files {
                let tag = ["ctr", "--namespace", "k8s.io", "image", "tag", image::PAUSE, pause];
                engine.machine.run(&tag).expect_success();
            }
        }
        engine
    }

    /// Its programs and its configuration, as a package or an admin leaves them.
    fn lay_out(&self) {
        let (machine, kind) = (&self.machine, self.kind);
        for program in kind.programs() {
            machine.link(&format!("{}/{program}", kind.folder()), &format!("/usr/bin/{program}"));
        }
        if kind.is_crio() {
            machine.write(
                "/etc/containers/policy.json",
                "{\"default\":[{\"type\":\"insecureAcceptAnything\"}]}\n",
            );
        }
        if let Some(Files { tree, .. }) = self.layout.files {
            return self.lay_out_distribution(tree);
        }
        let handlers: String = self.handlers.iter().map(|handler| kind.handler(handler)).collect();
        let config = if kind.is_crio() { "/etc/crio/crio.conf" } else { "/etc/containerd/config.toml" };
        machine.write(config, &(kind.config() + &handlers));
    }

    /// A distribution's files as they are, but for what this machine cannot do: no systemd makes cgroups here, and nobody may
    /// lower an `oom_score_adj`.
    fn lay_out_distribution(&self, tree: &str) {
        let machine = &self.machine;
        let from =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("integration-tests/fixtures/distributions").join(tree);
        run::run(Command::new("cp").arg("-r").arg(from.join(".")).arg(machine.path("/"))).expect_success();
        machine.run(&["mkdir", "-p", "/opt/cni"]).expect_success();
        machine.run(&["ln", "-sfT", "/usr/lib/cni", "/opt/cni/bin"]).expect_success();
        machine.run(&["ln", "-sf", "/usr/sbin/runc", "/usr/bin/runc"]).expect_success();
        let mut config = machine.read("/etc/containerd/config.toml");
        for (theirs, ours) in [
            ("SystemdCgroup = true", "SystemdCgroup = false"),
            ("oom_score = -999", "oom_score = 0"),
            ("enable_cdi = true", "enable_cdi = true\nrestrict_oom_score_adj = true"),
        ] {
            config = config.replace(theirs, ours);
        }
        machine.write("/etc/containerd/config.toml", &config);
        // EKS' is containerd's own with higher limits, which nobody may set here.
        let base = "/etc/containerd/base-runtime-spec.json";
        if machine.path(base).exists() {
            let spec = machine.run(&["ctr", "oci", "spec"]).expect_success().stdout;
            let mut spec: Value = serde_json::from_str(&spec).expect("JSON");
            spec["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 2048}]);
            machine.write(base, &spec.to_string());
        }
    }

    fn start(&mut self) {
        let line = match (self.kind, self.layout.containerd) {
            (kind, _) if kind.is_crio() => vec!["crio"],
            (_, None) => vec!["containerd"],
            // As k3s does (`pkg/agent/containerd/containerd.go`).
            (_, Some(Moved { state, root, socket })) => {
                let config = "/etc/containerd/config.toml";
                vec!["containerd", "-c", config, "-a", socket, "--state", state, "--root", root]
            }
        };
        let mut daemon = self.machine.start("engine", &line);
        let answers = run::within(Duration::from_secs(60), || {
            !daemon.is_up() || self.machine.run(&["crictl", "info"]).code == Some(0)
        });
        assert!(
            answers && daemon.is_up(),
            "{:?} does not come up\n{}",
            self.kind,
            self.machine.said("engine")
        );
        self.daemon = Some(daemon);
    }

    /// As `systemctl restart` does it: containers go on.
    pub(crate) fn restart(&mut self) {
        self.stop();
        self.start();
    }

    /// A command that does the same from within the machine, and like systemd's ends when the engine is ready.
    pub(crate) fn restart_command(&self) -> String {
        let restart = self.daemon.as_ref().expect("it is up").restart_command();
        format!("{restart} && until crictl info >/dev/null 2>&1; do sleep 0.1; done")
    }

    pub(crate) fn stop(&mut self) {
        self.daemon.take().into_iter().for_each(|daemon| self.machine.stop(daemon));
    }

    /// The client that every Kubernetes admin has at hand.
    pub(crate) fn crictl(&self, arguments: &[&str]) -> Done {
        self.machine.run(&[&["crictl"], arguments].concat())
    }

    /// Gives it an image. CRI-O finds it when it starts, containerd is asked.
    pub(crate) fn load(&self, name: &str, file: &Path) {
        if self.kind.is_crio() { self.copy_image(name, file) } else { self.import_image(file) }
    }

    fn import_image(&self, file: &Path) {
        let file = file.display().to_string();
        let socket = self.layout.containerd.map_or_else(|| self.kind.socket(), |moved| moved.socket);
        let line = ["ctr", "--address", socket, "--namespace", "k8s.io", "image", "import", &file];
        self.machine.run(&line).expect_success();
    }

    fn copy_image(&self, name: &str, file: &Path) {
        let from = format!("docker-archive:{}", file.display());
        let store = "[overlay@/var/lib/containers/storage+/run/containers/storage]";
        self.machine
            .run(&["skopeo", "copy", &from, &format!("containers-storage:{store}{name}")])
            .expect_success();
    }

    /// Whether it can start this pod on this machine, gate or no gate. CRI-O gives out every capability that the kernel
    /// knows, and not all machines have them to give.
    pub(crate) fn can_start(&self, pod: &Pod) -> bool {
        let all = pod.privileged || matches!(pod.capabilities, Capabilities::AddAll);
        let last: u8 =
            run::read(Path::new("/proc/sys/kernel/cap_last_cap")).trim().parse().unwrap_or_default();
        let own = caps::read(None, caps::CapSet::Bounding).expect("our own capabilities");
        !self.kind.is_crio() || !all || own.len() > usize::from(last)
    }

    /// What an engine's failure is explained by.
    pub(crate) fn said(&self) -> String {
        self.machine.said("engine")
    }
}

const CNI: &str = r#"{
  "cniVersion": "0.4.0",
  "name": "pods",
  "plugins": [
    {"type": "ptp", "ipam": {"type": "host-local", "subnet": "198.51.100.0/24", "routes": [{"dst": "0.0.0.0/0"}]}}
  ]
}
"#;

/// containerd 1.x. Without CAP_SYS_RESOURCE no process can lower its own `oom_score_adj`, so containerd must not ask.
const CONTAINERD_2: &str = r#"# The node's own configuration.
version = 2

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"

  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2" # Debian's runc
"#;

const CONTAINERD_3: &str = r#"# The node's own configuration.
version = 3

[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "localhost/pause:1"

[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true

  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["/usr/lib/cni"]

  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2" # Debian's runc
"#;

/// A sandbox's process that is kept needs CAP_SYS_RESOURCE, as above; CRI-O drops it by default.
const CRIO: &str = r#"# The node's own configuration.
[crio.runtime]
cgroup_manager = "cgroupfs"
conmon_cgroup = "pod"
default_runtime = "runc"

[crio.runtime.runtimes.runc]
runtime_path = "/usr/sbin/runc"
runtime_type = "oci"
runtime_root = "/run/runc"

[crio.image]
pause_image = "localhost/pause:1"

[crio.network]
plugin_dirs = ["/usr/lib/cni"]
"#;
