//! A node with an active gate, and everything that can go wrong with it, one at a time.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::containers::Names;
use super::{Setting, State, Status};
use crate::cli::arguments::{AnswerFormat, Status as Arguments};
use crate::cli::status::{Look, status};
use crate::install::standing;
use crate::install::{Change, Entry, GATE, Installer, Method, Plan, PlanError, Request, TOOL, entry_path};
use crate::level::{Mode, cache};
use crate::metrics;
use crate::metrics::exposition::Number;
use crate::mode::change::for_a_time;
use crate::mode::end::Author;
use crate::node::host::{Live, Node};
use crate::node::procfs::{Processes, fake};
use crate::node::root::Root;
use crate::output::terminal::Style;
use crate::paths::Paths;
use crate::pss::facts::Engine;

/// An engine whose configuration is a list of handlers: `runc = /usr/sbin/runc`.
static CONTAINERD: Installer = Installer {
    engine: Engine::Containerd,
    alias: None,
    methods: &[Method::Runtime, Method::Hook],
    unit: Some("containerd.service"),
    plan: |node, request| plan(Engine::Containerd, node, request),
    strip: |_| Ok(None),
    holders: |_, _| Vec::new(),
};
static CRI_O: Installer = Installer {
    engine: Engine::CriO,
    unit: Some("crio.service"),
    plan: |node, request| plan(Engine::CriO, node, request),
    ..CONTAINERD
};

static DOCKER: Installer = Installer {
    engine: Engine::Docker,
    unit: Some("docker.service"),
    plan: |node, request| plan(Engine::Docker, node, request),
    ..CONTAINERD
};

static ALL: &[&Installer] = &[&CONTAINERD, &CRI_O, &DOCKER];

const CONFIG: &str = "etc/containerd/config.toml";

fn plan(engine: Engine, node: &dyn Node, request: &Request<'_>) -> Result<Plan, PlanError> {
    let path = PathBuf::from("/").join(CONFIG);
    let before = node.read(&path)?;
    let text = String::from_utf8(before.clone().unwrap_or_default()).unwrap();
    let mut plan = Plan::default();
    let mut after = String::new();
    for line in text.lines() {
        let Some((handler, program)) = line.split_once(" = ") else {
            return Err(PlanError::Malformed { path, cause: format!("line 1: {line}") });
        };
        if handler == "kata" {
            plan.leave(handler, "it runs virtual machines".to_owned());
            after += &[line, "\n"].concat();
            continue;
        }
        let entry = entry_path(engine, handler);
        let runtime = node.link(&entry.with_file_name("runtime")).unwrap_or_else(|| program.into());
        after += &[handler, " = ", entry.to_str().unwrap(), "\n"].concat();
        plan.entries.push(Entry { handler: handler.to_owned(), runtime });
    }
    if request.method == Method::Hook {
        plan.entries.clear();
        after = text.clone();
    }
    if before.as_deref() != Some(after.as_bytes()) {
        plan.changes.push(Change { path, before, after: after.into_bytes() });
    }
    Ok(plan)
}

struct Machine {
    _dir: tempfile::TempDir,
    root: PathBuf,
    _journal: UnixDatagram,
}

/// Seconds ago.
const INSTALLED: u64 = 1000;
const RESTARTED: u64 = 900;
const STARTED: u64 = 100;

const HOOK: &str = "usr/share/containers/oci/hooks.d/pss-guard.json";

const TASKS: &str = "run/containerd/io.containerd.runtime.v2.task";

impl Machine {
    /// containerd with one handler, a gate before it, a policy, a kubelet and one container.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_owned();
        fs::create_dir_all(root.join("run/systemd/journal")).unwrap();
        let journal = UnixDatagram::bind(root.join("run/systemd/journal/socket")).unwrap();
        let machine = Self { _dir: dir, root, _journal: journal };
        machine.program(&GATE[1..], "the gate");
        machine.program(&TOOL[1..], "the tool");
        machine.program("usr/sbin/runc", "runc");
        machine.program("usr/bin/containerd", "containerd");
        machine.install(Engine::Containerd, Method::Runtime);
        machine.entry(Engine::Containerd, "runc", "/usr/sbin/runc");
        machine.file(CONFIG, &format!("runc = {}\n", entry_path(Engine::Containerd, "runc").display()));
        machine.file("etc/pss-guard/policy.toml", "mode = \"enforce\"\n");
        fs::create_dir_all(machine.root.join("var/lib/kubelet/pods")).unwrap();
        machine.process(1, RESTARTED, &["/usr/bin/containerd"]);
        machine.process(2, RESTARTED, &["/usr/bin/kubelet", "--root-dir=/var/lib/kubelet"]);
        let runtime = entry_path(Engine::Containerd, "runc");
        machine.task("k8s.io", 10, STARTED, Some(runtime.to_str().unwrap()), &pod("containerd", "app"));
        machine
    }

    /// CRI-O alone, which calls the gate as a hook.
    fn of_crio() -> Self {
        let machine = Self::new();
        for other in ["var/lib/pss-guard/install/containerd", "run/containerd", "proc/1"] {
            machine.remove(other);
        }
        machine.process(1, RESTARTED, &["/usr/bin/crio"]);
        machine.install(Engine::CriO, Method::Hook);
        machine
    }

    fn file(&self, path: &str, text: &str) -> PathBuf {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn program(&self, path: &str, text: &str) {
        let path = self.file(path, text);
        // Of this machine, as far as its first bytes tell.
        let mut head = [0; 64];
        File::open("/proc/self/exe").unwrap().read_exact(&mut head).unwrap();
        fs::write(&path, [&head, text.as_bytes()].concat()).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn mode(&self, path: &str, mode: u32) {
        fs::set_permissions(self.root.join(path), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// As the first container does that is judged by it.
    fn keep_the_policy(&self) {
        let paths = Paths::under(&self.root);
        assert!(matches!(cache::load(&paths), cache::Loaded::Good(_)));
        assert!(cache::is_kept(&paths).is_ok());
    }

    fn remove(&self, path: &str) {
        let path = self.root.join(path);
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }

    fn install(&self, engine: Engine, method: Method) {
        self.manifest(engine, method, "");
        let copy = self.file(&format!("var/lib/pss-guard/install/{}/0.after", engine.name()), "");
        age(&copy, INSTALLED);
        self.has_stood_since(INSTALLED);
    }

    /// The installer wrote down so long ago what stands there now.
    fn has_stood_since(&self, seconds: u64) {
        standing::pretend(&Live::under(&self.root), SystemTime::now() - Duration::from_secs(seconds));
    }

    /// What the installer wrote down, with the one handler that it put the gate in front of.
    fn manifest(&self, engine: Engine, method: Method, handler: &str) {
        let entry = format!(r#"{{"handler":"{handler}","runtime":"/usr/sbin/{handler}"}}"#);
        let entries = if handler.is_empty() { "" } else { &*entry };
        self.file(&format!("var/lib/pss-guard/install/{}/manifest.json", engine.name()), &format!(
            r#"{{"version":1,"program":"x","method":"{method}","config":null,"entries":[{entries}],"files":[],"folders":[],"shared":["/{HOOK}"]}}"#));
    }

    fn entry(&self, engine: Engine, handler: &str, runtime: &str) {
        let path = self.root.join(entry_path(engine, handler).strip_prefix("/").unwrap());
        let folder = path.parent().unwrap();
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder).unwrap();
        symlink("../../../bin/pss-guard-gate", &path).unwrap();
        symlink(runtime, folder.join("runtime")).unwrap();
        self.has_stood_since(INSTALLED);
    }

    fn process(&self, pid: i32, age: u64, arguments: &[&str]) {
        fake::add(&self.root.join("proc"), &self.root, pid, age, arguments);
    }

    /// A container of containerd.
    fn task(&self, client: &str, pid: i32, age: u64, runtime: Option<&str>, config: &str) {
        let bundle = format!("{TASKS}/{client}/{pid:064}");
        self.file(&format!("{bundle}/config.json"), config);
        self.file(&format!("{bundle}/init.pid"), &pid.to_string());
        if let Some(runtime) = runtime {
            self.file(&format!("{bundle}/runtime"), runtime);
        }
        self.process(pid, age, &["/app"]);
    }

    /// A container under conmon: CRI-O's or podman's.
    fn monitored(&self, pid: i32, age: u64, runtime: &str, config: &str) {
        let bundle = format!("run/containers/storage/overlay-containers/{pid:064}/userdata");
        self.file(&format!("{bundle}/config.json"), config);
        self.file(&format!("{bundle}/pidfile"), &pid.to_string());
        let (b, p) = (format!("/{bundle}"), format!("/{bundle}/pidfile"));
        self.process(pid, age, &["/app"]);
        let own = ["/usr/bin/conmon", "-b", &b, "-c", "x", "-p", &p, "-r", runtime];
        let cleanup = ["--exit-command", "/usr/bin/podman", "--exit-command-arg", "--runtime"];
        let of_cleanup = ["--exit-command-arg", "runc", "--exit-command-arg", "-e"];
        self.process(pid + 1, age, &[&own[..], &cleanup, &of_cleanup].concat());
    }

    fn setting(&self) -> Setting<'static> {
        Setting {
            live: Live::under(&self.root),
            processes: Processes::in_folder(&self.root.join("proc"), &self.root),
            paths: Paths::under(&self.root),
            installers: ALL,
        }
    }

    fn status(&self) -> Status {
        self.setting().ask(None)
    }

    /// The exit code and what people read.
    fn said(&self, engine: Option<Engine>) -> (u8, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let arguments = Arguments { engine, format: AnswerFormat::Text, running: false, json: false };
        let code = status(
            &self.setting(),
            &Root::Own,
            &arguments,
            Look { containers: true, style: Style::PLAIN },
            &mut out,
            &mut err,
        );
        assert!(err.is_empty(), "{}", String::from_utf8_lossy(&err));
        (code, String::from_utf8(out).unwrap())
    }
}

fn age(path: &Path, seconds: u64) {
    let then = SystemTime::now() - Duration::from_secs(seconds);
    File::options().write(true).open(path).unwrap().set_modified(then).unwrap();
}

/// config.json of a pod's container, as its engine writes it.
fn pod(engine: &str, container: &str) -> String {
    annotated(engine, container, "")
}

fn annotated(engine: &str, container: &str, more: &str) -> String {
    let annotations = match engine {
        "containerd" => format!(
            r#""io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-namespace": "shop",
            "io.kubernetes.cri.sandbox-name": "web", "io.kubernetes.cri.container-name": "{container}""#
        ),
        _ => format!(
            r#""io.container.manager": "cri-o", "io.kubernetes.cri-o.ContainerType": "container",
            "io.kubernetes.pod.namespace": "shop", "io.kubernetes.pod.name": "web",
            "io.kubernetes.container.name": "{container}""#
        ),
    };
    format!(r#"{{"annotations": {{{annotations}}}, "linux": {{"cgroupsPath": "/crio/crio-1"}}{more}}}"#)
}

/// config.json of the sandbox of that pod, whose id is this number.
fn sandbox(engine: &str, id: i32) -> String {
    in_sandbox(engine, "", id).replace(r#""container","#, r#""sandbox","#)
}

fn in_sandbox(engine: &str, container: &str, id: i32) -> String {
    let key = r#""annotations": {"#;
    let sandbox = format!(r#"{key}"io.kubernetes.cri.sandbox-id": "{id:064}", "#);
    pod(engine, container).replacen(key, &sandbox, 1)
}

fn hooked(engine: &str, container: &str, told: &str) -> String {
    let hook = format!(
        r#", "hooks": {{"createRuntime": [{{"path": "{GATE}", "args": ["pss-guard", "hook", "--engine", "{told}"]}}]}}"#
    );
    annotated(engine, container, &hook)
}

#[test]
fn a_gate_that_stands_is_said_to_stand() {
    let machine = Machine::new();
    let (code, said) = machine.said(None);
    assert_eq!(code, 0, "{said}");
    for part in [
        "containerd, runtime method: the gate is active\n",
        "1 runtime handler covered: runc",
        "1 running container passed the gate",
        "passed         shop/web/app",
        "mode enforce; default levels: enforce privileged:latest",
        "events go to the journal",
    ] {
        assert!(said.contains(part), "{part:?} in\n{said}");
    }
    assert!(!said.contains("WRONG") && !said.contains("unknown  "), "{said}");
    assert_eq!(machine.said(Some(Engine::Containerd)).0, 0);
}

/// A pod with two containers is one sandbox and two containers, as `crictl` counts them.
#[test]
fn sandboxes_are_not_counted_among_the_containers() {
    let gated = entry_path(Engine::Containerd, "runc");
    let gated = gated.to_str();
    let elsewhere = entry_path(Engine::CriO, "runc");
    let elsewhere = elsewhere.to_str();
    let before = "bypassed the gate, because their pods are older";
    let past = "newer than the gate bypassed it";
    #[rustfmt::skip]
    let rows: &[(u64, Option<&str>, &str, &str)] = &[
        (STARTED, gated, "2 running containers and 1 sandbox passed the gate", "passed         shop/web (sandbox)\n"),
        (INSTALLED + 5, Some("runc"), &format!("1 running container and 1 sandbox {before}"), "before         shop/web (sandbox)\n"),
        (STARTED, Some("runc"), &format!("1 running container and 1 sandbox {past}"), "past           shop/web (sandbox)\n"),
        (STARTED, elsewhere, "1 running container and 1 sandbox passed the gate of another engine", "past           shop/web (sandbox)\n"),
        (STARTED, None, "1 running container and 1 sandbox have a runtime of another kind", "other kind     shop/web (sandbox)\n"),
    ];
    for (started, runtime, sentence, listed) in rows {
        let machine = Machine::new();
        machine.task("k8s.io", 20, *started, *runtime, &sandbox("containerd", 20));
        machine.task("k8s.io", 21, *started, *runtime, &in_sandbox("containerd", "side", 20));
        let (_, said) = machine.said(None);
        assert!(said.contains(sentence), "{sentence:?} in\n{said}");
        assert!(said.contains(listed), "{listed:?} in\n{said}");
        let status = machine.status();
        let tally = status.engines[0].containers.as_ref().unwrap();
        let all =
            [&tally.through_the_gate, &tally.before_the_gate, &tally.of_another_kind, &tally.past_the_gate];
        let counted = |count: fn(&Names) -> usize| all.iter().map(|names| count(names)).sum::<usize>();
        assert_eq!((counted(Names::containers), counted(Names::sandboxes)), (2, 1), "{said}");
    }
    let machine = Machine::new();
    machine.remove("proc/10");
    machine.task("k8s.io", 20, STARTED, gated, &sandbox("containerd", 20));
    machine.task("k8s.io", 21, STARTED, gated, &sandbox("containerd", 21).replace("web", "api"));
    let said = machine.said(None).1;
    assert!(said.contains("2 sandboxes passed the gate"), "{said}");
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn every_break_is_said_and_changes_the_exit_code() {
    type Break = fn(&Machine);
    #[rustfmt::skip]
    let rows: &[(&str, Break, u8, &str)] = &[
        ("the gate of before it had a program of its own", |m| m.remove(&GATE[1..]), 1, "bin/pss-guard of an older version may stand in its place"),
        ("the tool is deleted", |m| m.remove(&TOOL[1..]), 1, "which systemd's units call"),
        ("the gate is deleted", |m| m.remove(&GATE[1..]), 1, "restores it"),
        ("the gate is a folder", |m| { m.remove(&GATE[1..]); fs::create_dir(m.root.join(&GATE[1..])).unwrap(); }, 1, "is not a file"),
        ("the gate cannot be executed", |m| m.mode(&GATE[1..], 0o644), 1, "has mode 0644 and cannot be executed; `pss-guard install"),
        ("the gate is empty", |m| { m.file(&GATE[1..], ""); }, 1, "is empty; `pss-guard install"),
        ("the gate cannot be executed by users", |m| m.mode(&GATE[1..], 0o744), 1, "cannot be executed by all users"),
        ("the gate is another program", |m| m.program(&GATE[1..], "another"), 1, "is not the program that was installed; `pss-guard install"),
        ("others can write the gate", |m| m.mode(&GATE[1..], 0o757), 1, "must be writable by root alone"),
        ("others can replace the gate", |m| m.mode("var/lib/pss-guard/bin", 0o777), 1, "must be writable by root alone"),
        ("others can replace the folder", |m| m.mode("var/lib/pss-guard", 0o777), 1, "must be writable by root alone"),
        ("others can replace an entry", |m| m.mode("var/lib/pss-guard/runtimes/containerd", 0o777), 1, "must be writable by root alone"),
        ("an entry is gone", |m| m.remove("var/lib/pss-guard/runtimes/containerd/runc/pss-guard-runtime"), 1, "pss-guard-runtime is missing: no container starts with it, and none is killed or deleted; `pss-guard install"),
        ("the entry's runtime is gone", |m| m.remove("var/lib/pss-guard/runtimes/containerd/runc/runtime"), 1, "runtime is missing"),
        ("the real runtime is in another folder now", |m| { m.remove("usr/sbin/runc"); m.program("usr/bin/runc", "runc"); }, 1, "which is not a program: /usr/bin/runc is called instead; `pss-guard install"),
        ("the real runtime is deleted", |m| m.remove("usr/sbin/runc"), 1, "which is not a program"),
        ("the real runtime is empty", |m| { m.file("usr/sbin/runc", ""); }, 1, "/usr/sbin/runc, which is empty: no container starts with it, and none is killed or deleted"),
        ("the real runtime is a text", |m| { m.file("usr/sbin/runc", "<html>"); }, 1, "which is neither a program nor a script"),
        ("the real runtime cannot be executed", |m| m.mode("usr/sbin/runc", 0o644), 1, "which is not a program"),
        ("the way back without the gate", |m| m.remove("var/lib/pss-guard/bin"), 1, "; by hand, without the gate: `ln -sfn /usr/sbin/runc /var/lib/pss-guard/runtimes/containerd/runc/pss-guard-runtime`"),
        ("the way back, and the configuration is broken", |m| { m.remove("var/lib/pss-guard/bin"); m.file(CONFIG, "what\n"); m.manifest(Engine::Containerd, Method::Runtime, "runc"); }, 1, "`ln -sfn /usr/sbin/runc /var"),
        ("the entry leads to itself", |m| m.entry(Engine::Containerd, "runc", GATE), 1, "which is the gate itself"),
        ("the entry leads past the gate", |m| {
            let entry = m.root.join("var/lib/pss-guard/runtimes/containerd/runc/pss-guard-runtime");
            fs::remove_file(&entry).unwrap();
            symlink("runtime", entry).unwrap();
        }, 1, "leads to runtime and not to the gate"),
        ("the handler lost the gate", |m| { m.file(CONFIG, "runc = /usr/sbin/runc\n"); }, 1, "starts the containers of runc without the gate"),
        ("a handler was added without the gate", |m| {
            let runc = fs::read_to_string(m.root.join(CONFIG)).unwrap();
            m.file(CONFIG, &format!("{runc}crun = /usr/bin/crun\n"));
        }, 1, "starts the containers of crun without the gate"),
        ("the configuration is broken", |m| { m.file(CONFIG, "what\n"); }, 1, "cannot be parsed: line 1: what"),
        ("the configuration cannot be read", |m| { m.remove(CONFIG); fs::create_dir(m.root.join(CONFIG)).unwrap(); }, 2, "must be a regular file"),
        ("the manifest is broken", |m| { m.file("var/lib/pss-guard/install/containerd/manifest.json", "{"); }, 2, "manifest.json"),
        ("others can write the manifest", |m| m.mode("var/lib/pss-guard/install/containerd/manifest.json", 0o666), 2, "must be writable by root alone"),
        ("the engine was not restarted", |m| m.process(1, INSTALLED + 10, &["/usr/bin/containerd"]), 1, "before the gate was installed, and has not read its configuration"),
        ("the engine was not restarted, and the clock was set since", |m| {
            m.file("run/pss-guard/unread/containerd", &format!("1 {}\n", (fake::UPTIME - RESTARTED) * 100));
        }, 1, "before the gate was installed, and has not read its configuration"),
        ("a container went past the gate", |m| m.task("k8s.io", 20, STARTED, Some("runc"), &pod("containerd", "side")), 1, "1 running container newer than the gate bypassed it"),
        ("a container went past the gate in a pod that passed it", |m| {
            let runtime = entry_path(Engine::Containerd, "runc");
            m.task("k8s.io", 20, STARTED + 5, Some(runtime.to_str().unwrap()), &sandbox("containerd", 20));
            m.task("k8s.io", 21, STARTED, Some("runc"), &in_sandbox("containerd", "side", 20));
        }, 1, "1 running container newer than the gate bypassed it"),
        ("no hook in a pod older than the gate, where hooks do not depend on it", |m| {
            m.install(Engine::Containerd, Method::Hook);
            m.task("k8s.io", 20, INSTALLED + 5, Some("runc"), &sandbox("containerd", 20));
            m.task("k8s.io", 21, STARTED, Some("runc"), &in_sandbox("containerd", "side", 20));
        }, 1, "1 running container newer than the gate bypassed it"),
        ("a namespace's file is damaged", |m| {
            m.file("run/pss-guard/namespaces/shop.json", "{}");
            m.file("run/pss-guard/namespaces/lab.json", "{bad");
        }, 1, "1 file cannot be used: enforce mode refuses what starts there; the first: parse "),
        ("others can write a namespace's file", |m| {
            m.file("run/pss-guard/namespaces/lab.json", "{}");
            m.mode("run/pss-guard/namespaces/lab.json", 0o666);
        }, 1, "1 file cannot be used: enforce mode"),
        ("a pod's facts are damaged", |m| {
            m.file("run/pss-guard/pods/0a-1.json", "{bad");
        }, 1, "1 file cannot be used: what only facts tell of these pods stays unseen; the first: parse "),
        ("the engine runs with another file", |m| {
            m.file("etc/other/config.toml", "");
            m.process(1, RESTARTED, &["/usr/bin/containerd", "--config", "/etc/other/config.toml"]);
        }, 1, "containerd (process 1) runs with /etc/other/config.toml and not with /etc/containerd/config.toml"),
        ("the gate of another engine", |m| m.task("k8s.io", 20, STARTED, Some("/var/lib/pss-guard/runtimes/docker/runc/pss-guard-runtime"), &pod("containerd", "side")), 1, "passed the gate of another engine"),
        ("the hook of another engine", |m| m.task("k8s.io", 20, STARTED, Some(""), &hooked("containerd", "side", "cri-o")), 1, "passed the gate of another engine"),
        ("a bundle that cannot be parsed", |m| m.task("k8s.io", 20, STARTED, Some(""), "{"), 2, "1 running container cannot be inspected"),
        ("the policy is broken", |m| { m.file("etc/pss-guard/policy.toml", "mode = \"strict\"\n"); }, 1, "there is no last good policy: until it is fixed"),
        ("the policy is broken, and was good", |m| {
            m.keep_the_policy();
            m.file("etc/pss-guard/policy.toml", "mode = \"strict\"\n");
        }, 1, "the last good policy is in force: "),
        ("the policy is gone", |m| { m.keep_the_policy(); m.remove("etc/pss-guard/policy.toml"); }, 1, "`pss-guard policy remove`"),
        ("the policy is gone since a boot", |m| {
            m.keep_the_policy();
            m.remove("etc/pss-guard/policy.toml");
            m.remove("run/pss-guard/policy.cache");
        }, 1, "mode enforce"),
        ("others can write the folder of the policy", |m| { m.keep_the_policy(); m.mode("etc/pss-guard", 0o777); }, 1, "must be writable by root alone"),
        ("a second engine", |m| {
            m.file("etc/other/config.toml", "");
            m.process(5, 5, &["/opt/bin/containerd", "--config", "/etc/other/config.toml"]);
        }, 1, "process 5 (/opt/bin/containerd) runs with /etc/other/config.toml"),
        ("a second engine that may have been started when it served pods", |m| {
            m.process(5, 5, &["/opt/bin/containerd", "--config", "/etc/other/config.toml"]);
            m.file("etc/other/config.toml", "disabled_plugins = [\"cri\"]");
        }, 1, "process 5 (/opt/bin/containerd) runs with /etc/other/config.toml"),
        ("docker for the kubelet", |m| {
            m.process(5, 5, &["/usr/bin/dockerd"]);
            m.process(6, 5, &["/usr/bin/cri-dockerd"]);
        }, 1, "no gate is installed for docker, which runs (process 5, 0 containers); `pss-guard install --engine docker` installs it"),
        ("another engine without a gate", |m| m.process(5, 5, &["/usr/bin/crio"]), 1, "no gate is installed for cri-o, which runs (process 5, 0 containers); `pss-guard install --engine cri-o` installs it"),
        ("containers of an engine without a gate", |m| m.monitored(30, 5, "/usr/bin/crun", &pod("cri-o", "app")), 1, "no gate is installed for cri-o, which runs 1 container; "),
        ("others can write the policy", |m| m.mode("etc/pss-guard/policy.toml", 0o666), 1, "must be writable by root alone"),
        ("others can write the namespaces", |m| { m.file("run/pss-guard/namespaces/shop.json", "{}"); m.mode("run/pss-guard/namespaces", 0o777); }, 1, "must be writable by root alone"),
        ("others can write the facts of pods", |m| { m.file("run/pss-guard/pods/0.json", "{}"); m.mode("run/pss-guard/pods", 0o777); }, 1, "no facts in"),
        ("others can write those of static pods", |m| { m.file("run/pss-guard/static/a_b.json", "{}"); m.mode("run/pss-guard/static", 0o777); }, 1, "/static count"),
        ("others can write the cluster's version", |m| { m.file("run/pss-guard/agent/cluster.json", "{\"v\":1,\"minor\":36}"); m.mode("run/pss-guard/agent", 0o777); }, 1, "the cluster's does not count: "),
        ("a forged cluster", |m| { m.file("run/pss-guard/agent/cluster.json", "{\"v\":1,\"minor\":0}"); }, 1, "has v1.0; a version below v1.23"),
        ("others can write the spool", |m| { m.file("run/pss-guard/events/events.jsonl", ""); m.mode("run/pss-guard/events", 0o777); }, 1, "the gate appends no events to it for the agent"),
        ("the kubelet is elsewhere", |m| m.process(2, RESTARTED, &["/usr/bin/kubelet", "--root-dir", "/data/kubelet"]), 1, "set kubelet-root = \"/data/kubelet\""),
        ("the pods are elsewhere", |m| {
            m.remove("proc/2");
            m.remove("var/lib/kubelet");
            fs::create_dir_all(m.root.join("var/lib/k0s/kubelet/pods")).unwrap();
        }, 1, "set kubelet-root = \"/var/lib/k0s/kubelet\""),
        ("the kubelet has moved since it was recorded", |m| {
            m.file("var/lib/pss-guard/kubelet-root", "/data/kubelet\n");
        }, 1, "but the gate expects them in \"/data/kubelet\"; run `pss-guard install`, which records it, or set kubelet-root = \"/var/lib/kubelet\""),
        ("the policy names another root", |m| {
            m.file("etc/pss-guard/policy.toml", "mode = \"enforce\"\n[node]\nkubelet-root = \"/data/kubelet\"\n");
        }, 1, "but the policy has kubelet-root = \"/data/kubelet\"; set kubelet-root = \"/var/lib/kubelet\""),
        ("the record is no path", |m| { m.file("var/lib/pss-guard/kubelet-root", "x"); }, 1, "/kubelet-root: it is not an absolute path of a directory; it does not count"),
        ("others can write the record", |m| {
            m.file("var/lib/pss-guard/kubelet-root", "/var/lib/kubelet\n");
            m.mode("var/lib/pss-guard/kubelet-root", 0o666);
        }, 1, "must be writable by root alone"),
    ];
    for (what, spoil, code, sentence) in rows {
        let machine = Machine::new();
        spoil(&machine);
        let (found, said) = machine.said(None);
        assert_eq!(found, *code, "{what}\n{said}");
        assert!(said.contains(sentence), "{what}: {sentence:?} in\n{said}");
    }
}

#[test]
fn what_nobody_can_close_is_said_and_does_not_count() {
    type Change = fn(&Machine);
    #[rustfmt::skip]
    let rows: &[(&str, Change, &str)] = &[
        ("a container of a virtual machine", |m| m.task("k8s.io", 20, STARTED, None, &pod("containerd", "vm")), "other kind     shop/web/vm"),
        ("a container of ctr", |m| m.task("default", 20, STARTED, Some("runc"), "{}"), "1 running container of other clients of containerd"),
        ("ctr among the pods", |m| m.task("k8s.io", 20, STARTED, Some("runc"), "{}"), "1 running container of other clients of containerd"),
        ("a container that has ended", |m| {
            m.task("k8s.io", 20, STARTED, Some("runc"), &pod("containerd", "gone"));
            m.remove("proc/20");
        }, "1 running container passed the gate"),
        ("another process has its id now", |m| {
            m.task("k8s.io", 20, 1, Some("runc"), &pod("containerd", "gone"));
            age(&m.root.join(format!("{TASKS}/k8s.io/{:064}/init.pid", 20)), STARTED);
        }, "1 running container passed the gate"),
        ("a bundle that is being removed", |m| { m.file(&format!("{TASKS}/k8s.io/.x/init.pid"), "10"); }, "1 running container passed the gate"),
        ("the engine is not running", |m| m.remove("proc/1"), "containerd is not running"),
        ("the engine was restarted, and the clock was set since", |m| {
            m.process(1, INSTALLED + 10, &["/usr/bin/containerd"]);
            m.file("run/pss-guard/unread/containerd", "1 7\n");
        }, "containerd (process 1) started"),
        ("the engine was upgraded", |m| {
            m.remove("proc/1/exe");
            symlink("/usr/bin/containerd (deleted)", m.root.join("proc/1/exe")).unwrap();
        }, "its program was replaced since then"),
        ("a second engine that serves no pods", |m| {
            age(&m.file("etc/other/config.toml", "disabled_plugins = [\"cri\"]"), 10);
            m.process(5, 5, &["/opt/bin/containerd", "--config", "/etc/other/config.toml"]);
        }, "1 running container passed the gate"),
        ("docker for nobody", |m| m.process(5, 5, &["/usr/bin/dockerd"]), "no gate is installed for docker; it runs (process 5), and no container does"),
        ("docker's own containerd", |m| {
            m.file("run/docker/containerd/containerd.toml", "");
            m.process(5, 5, &["/usr/bin/containerd", "--config", "/run/docker/containerd/containerd.toml"]);
        }, "1 running container passed the gate"),
        ("an engine that is merely installed", |m| m.program("usr/bin/crio", ""), "no gate is installed for cri-o; no container of it runs"),
        ("no policy", |m| m.remove("etc/pss-guard/policy.toml"), "the built-in defaults apply, which stop nothing"),
        ("audit mode", |m| { m.file("etc/pss-guard/policy.toml", "mode = \"audit\"\n"); }, "mode audit: nothing is stopped"),
        ("a break-glass", |m| {
            let author = Author { who: "alice", reason: "INC 42" };
            for_a_time(&m.setting().paths, Mode::Audit, Duration::from_secs(3600), author).unwrap();
        }, "left), then enforce; by alice, \"INC 42\""),
        ("a damaged break-glass", |m| { m.file("run/pss-guard/mode.json", "{}"); }, "`pss-guard mode --end` removes it"),
        ("no namespaces", |_| {}, "levels come from the policy only ("),
        ("no namespaces, but denied", |m| { m.file("etc/pss-guard/policy.toml", "on-unknown-namespace = \"deny\"\n"); }, "has no effect until there are some"),
        ("namespaces", |m| {
            m.file("run/pss-guard/namespaces/shop.json", "{}");
            m.file("var/lib/pss-guard/namespaces/shop.json", "{}");
        }, "1 namespace in"),
        ("no facts of pods", |_| {}, "what a node cannot see of its pods stays unseen ("),
        ("a folder for namespaces", |m| fs::create_dir_all(m.root.join("run/pss-guard/namespaces")).unwrap(), "levels come from the policy only ("),
        ("a folder for namespaces, and others are denied", |m| {
            fs::create_dir_all(m.root.join("run/pss-guard/namespaces")).unwrap();
            m.file("etc/pss-guard/policy.toml", "on-unknown-namespace = \"deny\"\n");
        }, "has no effect until there are some"),
        ("a folder for pods, and others are denied", |m| {
            fs::create_dir_all(m.root.join("run/pss-guard/pods")).unwrap();
            m.file("etc/pss-guard/policy.toml", "on-missing-facts = \"deny\"\n");
        }, "has no effect until there are some"),
        ("facts of static pods, and others are denied", |m| {
            fs::create_dir_all(m.root.join("run/pss-guard/pods")).unwrap();
            m.file("etc/pss-guard/policy.toml", "on-missing-facts = \"deny\"\n");
            m.file("run/pss-guard/static/a_b.json", r#"{"v":1,"uid":"0","namespace":"a","name":"b","source":"static","spec":{}}"#);
        }, "facts of 0 pods and 1 static pod in"),
        ("a policy newer than this program", |m| { m.file("etc/pss-guard/policy.toml", "[cluster]\nversion = \"v1.99\"\n"); }, "[cluster] version of the policy is v1.99: upgrade pss-guard"),
        ("no facts of pods, but denied", |m| { m.file("etc/pss-guard/policy.toml", "on-missing-facts = \"deny\"\n"); }, "stays unseen, and on-missing-facts = \"deny\" has no effect until there are some ("),
        ("facts of pods", |m| {
            for (file, source) in [("pods/0", "api"), ("pods/1", "api"), ("static/a_b", "static")] {
                let facts = r#"{"v":1,"uid":"0","namespace":"shop","name":"web","source":"S","spec":{}}"#;
                m.file(&format!("run/pss-guard/{file}.json"), &facts.replace('S', source));
            }
        }, "facts of 2 pods and 1 static pod in"),
        ("no version of the cluster", |_| {}, "v1.37, the newest version known; `pss-guard cluster import`"),
        ("a cluster newer than this program", |m| { m.file("run/pss-guard/agent/cluster.json", "{\"v\":1,\"minor\":99}"); }, "the cluster is v1.99"),
        ("a spool", |m| { m.file("run/pss-guard/events/events.jsonl", ""); }, "publish-formats"),
        ("formats are missing", |_| {}, "what is written for the gate is of the oldest version"),
        ("exempt", |_| {}, "not evaluated: kube-system"),
        ("no journald", |m| m.remove("run/systemd/journal/socket"), "var/log/pss-guard/decisions.jsonl"),
        ("a kubelet in a container", |m| {
            let root = m.root.join("elsewhere");
            fs::create_dir_all(&root).unwrap();
            m.remove("proc/2");
            fake::add(&m.root.join("proc"), &root, 2, 5, &["/usr/bin/kubelet", "--root-dir=/x"]);
        }, "pods are in /var/lib/kubelet"),
        ("a kubelet whose root was recorded", |m| {
            m.process(2, RESTARTED, &["/usr/bin/kubelet", "--root-dir=/var/lib/k0s/kubelet"]);
            m.file("var/lib/pss-guard/kubelet-root", "/var/lib/k0s/kubelet\n");
        }, "keeps its pods in /var/lib/k0s/kubelet, where the gate expects them"),
        ("docker's script", |m| {
            let entry = entry_path(Engine::Containerd, "runc");
            let script = format!("#!/bin/sh\nexec {} --debug \"$@\"\n", entry.display());
            m.file("var/lib/docker/runtimes/x/runc", &script);
            m.task("k8s.io", 20, STARTED, Some("/var/lib/docker/runtimes/x/runc"), &pod("containerd", "side"));
        }, "2 running containers passed the gate"),
    ];
    for (what, change, sentence) in rows {
        let machine = Machine::new();
        change(&machine);
        let (code, said) = machine.said(None);
        assert_eq!(code, 0, "{what}\n{said}");
        assert!(said.contains(sentence), "{what}: {sentence:?} in\n{said}");
    }
}

#[test]
fn namespaces_that_were_imported_and_are_gone_are_missed() {
    let rows: [(&[&str], &[&str], Option<&str>); 4] = [
        (&[], &[], None),
        (&["ops", "shop"], &["ops", "shop"], None),
        (&["ops", "shop"], &["ops"], Some("1 of the imported namespaces is gone from")),
        (&["ops", "shop"], &[], Some("the first is ops: only the policy's levels apply to them")),
    ];
    for (kept, here, expected) in rows {
        let machine = Machine::new();
        for (folder, names) in [("var/lib", kept), ("run", here)] {
            for name in names {
                machine.file(&format!("{folder}/pss-guard/namespaces/{name}.json"), "{}");
            }
        }
        let (code, said) = machine.said(None);
        assert_eq!(
            (code, said.contains("of the imported namespaces ")),
            (u8::from(expected.is_some()), expected.is_some())
        );
        assert!(expected.is_none_or(|part| said.contains(part)), "{expected:?} in\n{said}");
        // An image of a node has no /run yet.
        assert_eq!(Setting::under(&machine.root, ALL).ask(None).state, State::Note);
    }
}

#[test]
fn a_last_good_policy_that_no_start_will_keep_is_missed() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let kept = "var/lib/pss-guard/policy.toml";
    // Removed, while every start believes the compiled form.
    let machine = Machine::new();
    let paths = Paths::under(&machine.root);
    std::thread::sleep(Duration::from_millis(60));
    machine.keep_the_policy();
    assert_eq!(machine.said(None).0, 0);
    machine.remove(kept);
    assert!(matches!(cache::load(&paths), cache::Loaded::Good(_)));
    assert!(!machine.root.join(kept).exists(), "the start after that");
    let (code, said) = machine.said(None);
    assert_eq!((code, machine.status().enforces), (1, false), "{said}");
    assert!(said.contains("; no container start saves it, so after a reboot"), "{said}");
    cache::keep_now(&paths);
    assert_eq!(machine.said(None).0, 0);
    // It cannot be written.
    let machine = Machine::new();
    let paths = Paths::under(&machine.root);
    fs::create_dir(machine.root.join(kept)).unwrap();
    assert_eq!(machine.said(None).0, 0, "nobody has tried yet");
    assert!(matches!(cache::load(&paths), cache::Loaded::Good(_)));
    let (code, said) = machine.said(None);
    assert_eq!(code, 1, "{said}");
    machine.remove(kept);
    machine.keep_the_policy();
    assert_eq!(machine.said(None).0, 0);
}

/// Whether the gate is active for containerd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    Whole,
    /// One of its handlers has none.
    Half,
    None,
}

/// The policy, good once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    Good,
    Lost,
    Broken,
    Untrusted,
}

/// A second engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Second {
    None,
    OnTheDisk,
    Gated,
    Ungated,
}

#[test]
fn only_what_is_good_altogether_is_said_to_be_good() {
    use Gate::{Half, Whole};
    let mut good = 0;
    for runs in [true, false] {
        for gate in [Whole, Half, Gate::None] {
            for written in [Written::Good, Written::Lost, Written::Broken, Written::Untrusted] {
                for second in [Second::None, Second::OnTheDisk, Second::Gated, Second::Ungated] {
                    for mode in [Mode::Audit, Mode::Enforce] {
                        good += usize::from(row(runs, gate, written, second, mode));
                    }
                }
            }
        }
    }
    // Running or not, alone or with an engine that needs no gate or has one, in both modes; and the other way round.
    assert_eq!(good, 2 * 3 * 2 + 2);
}

/// One row of the table; whether it is good.
fn row(runs: bool, gate: Gate, written: Written, second: Second, mode: Mode) -> bool {
    let what = format!("containerd runs: {runs}, gate: {gate:?}, policy: {written:?}, {second:?}, {mode:?}");
    let machine = Machine::new();
    let policy = "etc/pss-guard/policy.toml";
    machine.file(policy, &format!("mode = \"{}\"\n", mode.name()));
    if !runs {
        machine.remove("proc/1");
        machine.remove("run/containerd");
    }
    match gate {
        Gate::Whole => {}
        Gate::Half => {
            let text = fs::read_to_string(machine.root.join(CONFIG)).unwrap();
            machine.file(CONFIG, &format!("{text}crun = /usr/bin/crun\n"));
        }
        Gate::None => machine.remove("var/lib/pss-guard/install/containerd"),
    }
    match second {
        Second::None => {}
        Second::OnTheDisk => machine.program("usr/bin/crio", "crio"),
        Second::Gated => {
            machine.install(Engine::CriO, Method::Hook);
            machine.process(3, RESTARTED, &["/usr/bin/crio"]);
        }
        Second::Ungated => machine.process(3, RESTARTED, &["/usr/bin/crio"]),
    }
    // As a start of a container leaves it.
    assert_eq!(cache::load(&machine.setting().paths).mode(), mode, "{what}");
    match written {
        Written::Good => {}
        Written::Lost => machine.remove(policy),
        Written::Broken => drop(machine.file(policy, "mode = \"strict\"\n")),
        Written::Untrusted => machine.mode(policy, 0o666),
    }

    let (code, said) = machine.said(None);
    let first = said.lines().next().unwrap();
    let gated = match (gate, second) {
        (Gate::Whole, Second::Gated) => "containerd, cri-o",
        (_, Second::Gated) => "cri-o",
        _ => "containerd",
    };
    // An engine that does not run needs no gate, as long as there is one at all.
    let stands = match gate {
        Gate::Whole => second != Second::Ungated,
        Gate::Half => false,
        Gate::None => second == Second::Gated && !runs,
    };
    let is_good = stands && written == Written::Good;
    assert_eq!(code, u8::from(!is_good), "{what}\n{said}");
    let expected = match mode {
        _ if !is_good && gate == Gate::None && second != Second::Gated => {
            "WRONG: the gate is not active for any engine"
        }
        _ if !is_good => "WRONG: see ",
        Mode::Audit => &format!("auditing: the gate is active for {gated}; nothing is refused in audit mode"),
        Mode::Enforce => &format!("enforcing: the gate is active for {gated}"),
    };
    assert!(first == expected || (!is_good && first.starts_with(expected)), "{what}\n{said}");
    assert_eq!(
        first.contains("policy below"),
        first.starts_with("WRONG: see") && written != Written::Good,
        "{what}\n{said}"
    );

    let status = machine.status();
    assert_eq!(status.enforces, is_good && mode == Mode::Enforce, "{what}");
    if nix::unistd::geteuid().is_root() {
        let families = metrics::node::families(&machine.setting(), &mut Vec::new());
        let number = |name: &str| {
            let family = families.iter().find(|family| family.name == name).unwrap();
            family.samples.first().map(|(_, number)| *number)
        };
        let enforcing = Number::Whole(status.enforces.into());
        assert_eq!(number("pss_guard_enforcing"), Some(enforcing), "{what}");
    }
    is_good
}

#[test]
fn what_is_open_fails_until_the_admin_closes_it_or_says_that_it_is_meant() {
    type Change = fn(&Machine);
    let kata: Change = |m| {
        let runc = fs::read_to_string(m.root.join(CONFIG)).unwrap();
        m.file(CONFIG, &format!("{runc}kata = x\n"));
    };
    #[rustfmt::skip]
    let rows: &[(&str, Change, &str)] = &[
        ("a handler of another kind", kata, "open     handlers       kata is not gated: it runs virtual machines; if that is intended"),
        ("a container older than the gate", |m| m.task("k8s.io", 20, INSTALLED + 5, Some("runc"), &pod("containerd", "old")), "before         shop/web/old"),
        ("a container older than the restart", |m| m.task("k8s.io", 20, RESTARTED + 5, Some("runc"), &pod("containerd", "old")), "before         shop/web/old"),
        ("a container that started later in a pod older than the gate", |m| {
            m.task("k8s.io", 20, INSTALLED + 5, Some("runc"), &sandbox("containerd", 20));
            m.task("k8s.io", 21, STARTED, Some("runc"), &in_sandbox("containerd", "again", 20));
        }, "before         shop/web/again"),
        ("a pod older than the gate", |m| m.task("k8s.io", 20, INSTALLED + 5, Some("runc"), &sandbox("containerd", 20)), "until they are recreated"),
    ];
    for (what, change, sentence) in rows {
        let machine = Machine::new();
        change(&machine);
        let (code, said) = machine.said(None);
        assert_eq!((code, machine.status().enforces), (1, false), "{what}\n{said}");
        assert!(said.contains(sentence), "{what}: {sentence:?} in\n{said}");
        assert!(said.starts_with("open: some containers bypass the gate (containerd)\n"), "{what}: {said}");
        assert!(said.contains(": the gate is active, but not for everything\n"), "{what}: {said}");
    }
    // A handler that the policy names; pods of an exempt namespace; pods older than the gate while nothing is refused.
    let meant = "mode = \"enforce\"\n[exemptions]\nnamespaces = [\"shop\"]\nruntime-classes = [\"kata\"]\n";
    for (nth, (what, change, _)) in rows.iter().enumerate() {
        let policies = [meant, "mode = \"audit\"\n"];
        for policy in policies.iter().take(if nth == 0 { 1 } else { 2 }) {
            let machine = Machine::new();
            change(&machine);
            machine.file("etc/pss-guard/policy.toml", policy);
            let (code, said) = machine.said(None);
            assert_eq!((code, machine.status().enforces), (0, *policy == meant), "{what}\n{said}");
            assert!(!said.contains("\n  open"), "{what}\n{said}");
        }
    }
}

#[test]
fn hooks_are_looked_for_in_the_containers_themselves() {
    let rows = [
        (hooked("cri-o", "app", "cri-o"), STARTED, 0, "1 running container passed the gate"),
        (pod("cri-o", "app"), STARTED, 1, "the engine dropped the hook"),
        (hooked("cri-o", "app", "containerd"), STARTED, 1, "passed the gate of another engine"),
        (pod("cri-o", "app"), INSTALLED + 5, 0, "before         shop/web/app"),
        // CRI-O needs no restart for a hook, so one between does not excuse it.
        (pod("cri-o", "app"), RESTARTED + 5, 1, "the engine dropped the hook"),
    ];
    for (config, started, code, sentence) in rows {
        let machine = Machine::of_crio();
        machine.monitored(30, started, "/usr/bin/crun", &config);
        // An exec session has a conmon, too.
        machine.process(33, 5, &["/usr/bin/conmon", "-e", "-b", "/x", "-p", "/y", "-r", "/usr/bin/crun"]);
        let (found, said) = machine.said(None);
        assert_eq!(found, code, "{said}");
        assert!(said.contains(sentence), "{sentence:?} in\n{said}");
    }
}

/// CRI-O drops a hook when it reads it without the gate, and reads it again when its file is replaced.
#[test]
fn a_hook_that_was_read_without_the_gate_is_missed() {
    for (stood, has_hook, code) in
        [(INSTALLED, false, 0), (RESTARTED - 5, false, 1), (RESTARTED - 5, true, 0), (0, true, 0)]
    {
        let machine = Machine::of_crio();
        machine.has_stood_since(stood);
        if has_hook {
            machine.file(HOOK, "{}");
        }
        let (found, said) = machine.said(None);
        assert_eq!(found, code, "{stood} {has_hook}\n{said}");
        let sentence = "process 1 last read the hook 15 minutes ago, before the gate was there as it is now";
        assert_eq!(said.contains(sentence), code == 1, "{said}");
    }
}

/// The entry tells which way a container came, and not what stood there then.
#[test]
fn who_started_before_the_gate_stood_there_is_not_said_to_have_passed_it() {
    type Break = fn(&Machine);
    let rows: [(Break, bool); 4] = [
        (|_| (), true),
        (|machine| machine.has_stood_since(STARTED + 5), true),
        (|machine| machine.has_stood_since(STARTED - 5), false),
        // By hand, and back: the record is of another link.
        (
            |machine| {
                let entry = entry_path(Engine::Containerd, "runc");
                let entry = machine.root.join(entry.strip_prefix("/").unwrap());
                fs::remove_file(&entry).unwrap();
                symlink("../../../bin/pss-guard-gate", &entry).unwrap();
            },
            false,
        ),
    ];
    for (breaks, is_vouched) in rows {
        let machine = Machine::new();
        breaks(&machine);
        let (code, said) = machine.said(None);
        let (sentence, listed) = if is_vouched {
            ("1 running container passed the gate", "passed         shop/web/app\n")
        } else {
            (
                "1 running container started while the gate was not there as it is now",
                "unproven       shop/web/app\n",
            )
        };
        assert!(said.contains(sentence) && said.contains(listed), "{said}");
        // What starts from now on passes it.
        assert_eq!(code, 0, "{said}");
    }
}

#[test]
fn without_an_installation_the_engines_of_the_node_are_named() {
    let machine = Machine::new();
    machine.remove("var/lib/pss-guard/install");
    let (code, said) = machine.said(None);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("`pss-guard install --engine containerd` installs it"), "{said}");
    assert!(!said.contains("cri-o"), "{said}");
    assert!(said.starts_with("WRONG: the gate is not active for any engine\n"), "{said}");
    machine.remove("usr/bin/containerd");
    machine.remove("proc/1");
    machine.remove("run/containerd");
    let (code, said) = machine.said(None);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("no container engine that pss-guard knows is on this node"), "{said}");
}

#[test]
fn who_is_not_root_is_not_told_that_nothing_runs() {
    let machine = Machine::new();
    let ask = |gated: &dyn Fn(&str) -> bool| {
        let mut setting = machine.setting();
        setting.processes = Processes::of_a_user(&machine.root.join("proc"), &machine.root);
        let status = setting.ask(None);
        assert!(status.engines.iter().any(|engine| gated(engine.engine)), "{status:?}");
        (status.state, status.enforces)
    };
    assert_eq!(ask(&|engine| engine == "containerd"), (State::Unknown, false));
    // And where another engine has the gate.
    machine.remove("var/lib/pss-guard/install/containerd");
    machine.remove("run/containerd");
    machine.install(Engine::CriO, Method::Hook);
    assert_eq!(ask(&|engine| engine == "cri-o"), (State::Unknown, false));
    assert_eq!(machine.status().state, State::Wrong);
}

#[test]
fn another_root_directory_is_looked_at_without_its_processes() {
    let machine = Machine::new();
    let setting = Setting::under(&machine.root, ALL);
    let offline = setting.ask(None);
    assert_eq!(offline.state, State::Note, "{offline:?}");
    assert!(!offline.enforces && !offline.is_running, "nothing is known of what runs");
    assert!(offline.engines[0].containers.is_none());
    fs::remove_file(machine.root.join(&GATE[1..])).unwrap();
    assert_eq!(setting.ask(None).state, State::Wrong);
}

#[test]
fn the_json_object_says_the_same() {
    let machine = Machine::new();
    machine.task("k8s.io", 20, STARTED, Some("runc"), &pod("containerd", "side"));
    let mut out = Vec::new();
    let arguments = Arguments { engine: None, format: AnswerFormat::Json, running: false, json: false };
    let root = Root::Mounted("/host".into());
    assert_eq!(
        status(
            &machine.setting(),
            &root,
            &arguments,
            Look { containers: false, style: Style::PLAIN },
            &mut out,
            &mut Vec::new()
        ),
        1
    );
    let object: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(object["state"], "wrong");
    assert_eq!((&object["root"]["is"], &object["root"]["path"]), (&"mounted".into(), &"/host".into()));
    let engine = &object["engines"][0];
    assert_eq!((engine["engine"].as_str(), engine["method"].as_str()), (Some("containerd"), Some("runtime")));
    assert_eq!(engine["containers"]["past_the_gate"][0], "shop/web/side");
    assert_eq!(engine["containers"]["through_the_gate"][0], "shop/web/app");
    assert_eq!(object["policy"]["mode"], "enforce");
    let wrong: Vec<&serde_json::Value> =
        engine["checks"].as_array().unwrap().iter().filter(|check| check["state"] == "wrong").collect();
    assert_eq!(wrong.len(), 1, "{object}");
    assert_eq!(wrong[0]["check"], "containers");
    assert_eq!(machine.status().state, State::Wrong);
}

mod agent;
