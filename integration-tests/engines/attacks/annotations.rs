//! Annotations, devices, hooks and file systems that no pod of the kubelet's has.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pss_guard::cli::arguments::{Check, Format};
use pss_guard::cli::check::check;
use pss_guard::output::terminal::Style;
use pss_guard::paths::Paths;
use pss_guard::pss::{Level, Version};
use serde_json::{Value, json};

use crate::support::files::write;
use crate::support::pod::{self, Engine, Pod};
use crate::support::program;
use crate::support::random::{self, Numbers};
use crate::support::runtime::{Gate, Runtime, RuntimeNode, remove_cgroups};
use crate::support::{image, needs, run};

/// A policy at which everything that is found, or only suspected, is told or refused.
fn policy(mode: &str, level: &str, on_suspect: &str) -> String {
    format!(
        "mode = \"{mode}\"\non-suspect = \"{on_suspect}\"\n[controls]\nreadOnlyRootFilesystem = \"off\"\n\
         [defaults]\nenforce = \"{level}\"\naudit = \"privileged\"\nwarn = \"privileged\"\n"
    )
}

fn annotate(spec: &mut Value, key: &str, value: &str) {
    spec["annotations"][key] = json!(value);
}

/// A hook that refuses, and says so to anybody.
fn talker() -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", "echo said by a hook; echo and this >&2; exit 17"]})
}

#[test]
fn a_pod_cannot_make_the_gate_write_into_a_file_of_the_host() {
    if !needs::can_run("a_pod_cannot_make_the_gate_write_into_a_file_of_the_host", &["crun", "busybox"]) {
        return;
    }
    let keys = ["run.oci.hooks.stderr", "run.oci.hooks.stdout"];
    for engine in [Engine::Containerd, Engine::CriO] {
        let node = RuntimeNode::new(engine, Runtime::Crun);
        let file = node.policy_path();
        let name = file.display().to_string();
        node.write_policy(&policy("enforce", "restricted", "audit"));
        let before = fs::read(&file).unwrap();

        // Without the gate: crun appends what a hook says to any file that a container names.
        let sandbox = node.sandbox(&Pod::bare());
        for key in keys {
            sandbox.start_with(Gate::Absent, |spec| {
                annotate(spec, key, &name);
                spec["hooks"] = json!({"createRuntime": [talker()]});
            });
            assert_ne!(fs::read(&file).unwrap(), before, "the control: {key}");
            fs::write(&file, &before).unwrap();
        }

        // With it: refused at every level, whatever else the pod is, and nothing is written.
        for level in ["privileged", "restricted"] {
            node.write_policy(&policy("enforce", level, "audit"));
            let before = fs::read(&file).unwrap();
            for pod in [Pod::bare(), Pod::compliant()] {
                let sandbox = node.sandbox(&pod);
                for (gate, key) in [(Gate::Hook, keys[0]), (Gate::Hook, keys[1]), (Gate::Wrapper, keys[0])] {
                    let attempt = sandbox.start_with(gate, |spec| annotate(spec, key, &name));
                    assert_eq!(
                        fs::read(&file).unwrap(),
                        before,
                        "{level} {key}: the policy was written\n{attempt}"
                    );
                    assert!(!attempt.ran, "{level} {key}\n{attempt}");
                    let said = attempt.events.last().expect("an event")["MESSAGE"].to_string();
                    assert!(said.contains("cannot judge") && said.contains(key), "{said}");
                }
            }
            let attempt = node.sandbox(&Pod::compliant()).start(Gate::Hook);
            assert!(attempt.ran, "a healthy pod after it\n{attempt}");
        }

        // Audit mode lets everything start, and says nothing there either; so do exempt namespaces.
        node.write_policy(&policy("audit", "restricted", "audit"));
        let before = fs::read(&file).unwrap();
        let attempt =
            node.sandbox(&Pod::bare()).start_with(Gate::Hook, |spec| annotate(spec, keys[0], &name));
        assert!(attempt.ran && fs::read(&file).unwrap() == before, "{attempt}");
        node.write_policy(&policy("enforce", "restricted", "audit"));
        let system = Pod { namespace: "kube-system", ..Pod::bare() };
        let attempt = node.sandbox(&system).start_with(Gate::Hook, |spec| annotate(spec, keys[0], &name));
        assert!(attempt.ran, "{attempt}");
    }
}

#[test]
fn a_denial_is_not_said_into_a_file() {
    let node = Spec::unmanaged(json!({"process": {"user": {"uid": 0}}}));
    node.write_policy("restricted", "");
    for (redirect, silent) in [("2>$F", true), (">$F", true), (">/dev/null", false), ("</dev/null", false)] {
        let file = node.dir.path().join("file");
        fs::write(&file, "").unwrap();
        let script = format!("echo \"$STATE\" | $HOOK {redirect}");
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", &script])
            .env("F", &file)
            .env("HOOK", node.hook_line())
            .env("STATE", node.state());
        let done = command.output().unwrap();
        // `</dev/null` takes the state away: the hook cannot judge then.
        assert!(done.status.code().is_some_and(|code| code != 0), "{redirect}: {done:?}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "", "{redirect}");
        assert_eq!(done.stderr.is_empty(), silent, "{redirect}: {done:?}");
    }
}

/// By it crun leaves a container the supplementary groups of the host's root.
const KEY: &str = "run.oci.keep_original_groups";

#[test]
fn an_annotation_on_which_the_runtime_acts_is_told_and_can_be_refused() {
    if !needs::can_run("an_annotation_on_which_the_runtime_acts", &["crun", "busybox", "setpriv"]) {
        return;
    }
    let node = RuntimeNode::new(Engine::CriO, Runtime::Crun);
    let change = |spec: &mut Value| annotate(spec, KEY, "1");
    for (on_suspect, ran) in [("audit", true), ("deny", false)] {
        node.write_policy(&policy("enforce", "restricted", on_suspect));
        let sandbox = node.sandbox(&Pod::compliant());
        for gate in [Gate::Hook, Gate::Wrapper] {
            let attempt = sandbox.start_with(gate, change);
            assert_eq!(attempt.ran, ran, "{attempt}");
            if !ran {
                let said = attempt.events.last().expect("an event")["MESSAGE"].to_string();
                assert!(said.contains(KEY) && said.contains("privileged"), "{said}");
            }
        }
        let attempt = sandbox.start_with(Gate::Hook, |spec| {
            annotate(spec, "org.systemd.property.TimeoutStopUSec", "uint64 30000000");
        });
        assert!(attempt.ran, "what CRI-O itself writes\n{attempt}");
    }
}

/// A config.json, with a gate that is called by hand or by a real runtime.
struct Spec {
    dir: tempfile::TempDir,
}

impl Spec {
    /// Of no pod, and compliant with restricted but for what is changed.
    fn unmanaged(change: Value) -> Self {
        let dir = tempfile::Builder::new().prefix("pss-guard-").tempdir().unwrap();
        let bundle = dir.path().join("bundle");
        let mut spec = json!({
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": 1000, "gid": 1000}, "args": ["/bin/sh", "-c", "exit 0"], "cwd": "/",
                "env": ["PATH=/bin"], "capabilities": {}, "noNewPrivileges": true,
            },
            "root": {"path": "rootfs", "readonly": true},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
            ],
            "linux": {
                "namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "network"}, {"type": "mount"}],
                "seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_ERRNO"}]},
                "maskedPaths": pod::MASKED, "readonlyPaths": pod::READ_ONLY,
            },
        });
        merge(&mut spec, change);
        write(&bundle.join("config.json"), &spec.to_string());
        let spec = Self { dir };
        spec.write_policy("baseline", "");
        spec
    }

    fn write_policy(&self, level: &str, node: &str) {
        let policy = format!("mode = \"enforce\"\n[unmanaged]\nenforce = \"{level}\"\n[node]\n{node}\n");
        write(&self.dir.path().join("etc/pss-guard/policy.toml"), &policy);
    }

    fn bundle(&self) -> PathBuf {
        self.dir.path().join("bundle")
    }

    fn hook_line(&self) -> String {
        format!("{} hook --engine none --root {}", program::gate().display(), self.dir.path().display())
    }

    fn state(&self) -> String {
        json!({"ociVersion": "1.0.2", "id": "x", "pid": 0, "bundle": self.bundle()}).to_string()
    }

    /// Runs the container to its end, with the gate or without, by runc; whether it ran, and what was said.
    fn run(&self, gate: bool, before: &str) -> (bool, String) {
        let id = random::id();
        let config = self.bundle().join("config.json");
        let mut spec: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
        spec["linux"]["cgroupsPath"] = json!(pod::cgroups_path(Engine::Containerd, &id));
        let hooks: Vec<Value> = spec["hooks"]["createRuntime"].as_array().cloned().unwrap_or_default();
        let own = json!({"path": program::gate(), "args": ["pss-guard-gate", "hook", "--engine", "none", "--root", self.dir.path()]});
        let hooks: Vec<Value> = hooks
            .into_iter()
            .filter(|hook| hook["path"] != json!(program::gate()))
            .chain(gate.then_some(own))
            .collect();
        spec["hooks"]["createRuntime"] = json!(hooks);
        write(&config, &spec.to_string());
        let rootfs = self.bundle().join("rootfs");
        if !rootfs.exists() {
            image::unpack(&rootfs);
        }
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c"]).arg(format!("{before}\nexec \"$@\"")).arg("sh");
        command.arg(Runtime::Runc.program()).arg("--root").arg(self.dir.path().join("runc"));
        let done = run::run(command.args(["run", "--bundle"]).arg(self.bundle()).arg(&id));
        remove_cgroups(&[pod::cgroups_path(Engine::Containerd, &id)]);
        (done.code == Some(0), done.to_string())
    }
}

/// Objects are merged, everything else is replaced.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

/// A container that opens what it got as /dev/got.
fn with_device(kind: &str, major: u32, minor: u32) -> Spec {
    Spec::unmanaged(json!({
        "process": {"args": ["/bin/sh", "-c", "exec > /dev/got"]},
        "linux": {
            "devices": [{"path": "/dev/got", "type": kind, "major": major, "minor": minor, "fileMode": 438}],
            "resources": {"devices": [
                {"allow": false, "access": "rwm"},
                {"allow": true, "type": kind, "major": major, "minor": minor, "access": "rwm"},
            ]},
        },
    }))
}

/// /dev/kmsg: what the kernel says, and a place to write into its log.
const KMSG: (&str, u32, u32) = ("c", 1, 11);

#[test]
fn a_device_of_the_host_is_one_by_its_numbers_unless_the_node_gives_it_out() {
    if !needs::can_run("a_device_of_the_host_is_one_by_its_numbers", &["runc", "busybox", "unshare"]) {
        return;
    }
    let (kind, major, minor) = KMSG;
    let spec = with_device(kind, major, minor);
    let (ran, said) = spec.run(false, "");
    assert!(ran, "the control: the container opens the host's device\n{said}");
    let (ran, said) = spec.run(true, "");
    assert!(!ran && said.contains("hostPathVolumes") | said.contains("hostPath volumes"), "{said}");
    assert!(said.contains("/dev/got") && said.contains("/dev/kmsg"), "{said}");

    // The standard ones are in every container, whatever their path here.
    let (ran, said) = with_device("c", 1, 3).run(true, "");
    assert!(ran, "{said}");

    // What the admin lists, by its own path.
    for (listed, starts) in [("[\"/dev/kmsg\"]", true), ("[\"/dev/null\"]", false), ("[\"/dev/got\"]", false)]
    {
        spec.write_policy("baseline", &format!("not-host-paths = {listed}"));
        let (ran, said) = spec.run(true, "");
        assert_eq!(ran, starts, "{listed}: {said}");
    }
    spec.write_policy("baseline", "");

    // What a CDI specification of the node has, in an /etc of this test's own.
    let upper = spec.dir.path().join("upper");
    let etc = format!(
        "set -e; mount -t tmpfs none {0}; mkdir {0}/up {0}/work; chmod 755 {0}/up\n\
         mount -t overlay -o lowerdir=/etc,upperdir={0}/up,workdir={0}/work none /etc\n\
         mkdir -p /etc/cdi; umask 022",
        upper.display()
    );
    fs::create_dir(&upper).unwrap();
    let cdi = |path: &str| {
        format!(
            "printf 'kind: a.b/c\\ndevices:\\n- name: x\\n  containerEdits:\\n    deviceNodes:\\n    - path: {path}\\n      hostPath: /dev/kmsg\\n' > /etc/cdi/x.yaml"
        )
    };
    let rows = [
        (format!("{etc}\n{}", cdi("/dev/got")), true, ""),
        (format!("{etc}\n{}", cdi("/dev/other")), false, ""),
        (
            format!("{etc}\n{}; chmod 666 /etc/cdi/x.yaml", cdi("/dev/got")),
            false,
            "a CDI specification of this node does not count",
        ),
        (format!("{etc}\n{}; chown 1000 /etc/cdi", cdi("/dev/got")), false, "must be owned by root"),
    ];
    for (before, starts, expected) in rows {
        let (ran, said) = spec.run(true, &before);
        assert_eq!(ran, starts, "{before}\n{said}");
        assert!(said.contains(expected), "{said}");
    }
    assert!(!Path::new("/etc/cdi/x.yaml").exists());
}

#[test]
fn a_rule_that_opens_devices_is_seen_without_a_node() {
    if !needs::can_run("a_rule_that_opens_devices_is_seen_without_a_node", &["runc", "busybox"]) {
        return;
    }
    // The image brings the node, or the container makes it with CAP_MKNOD.
    let spec = Spec::unmanaged(json!({
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/sh", "-c", "/bin/busybox mknod /dev/k c 1 11 && exec > /dev/k"],
            "capabilities": {"bounding": ["CAP_MKNOD"], "effective": ["CAP_MKNOD"], "permitted": ["CAP_MKNOD"]},
        },
        "linux": {"resources": {"devices": [
            {"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "access": "rwm"},
        ]}},
    }));
    let (ran, said) = spec.run(false, "");
    assert!(ran, "the control: the container makes itself a node of the host's device\n{said}");
    let (ran, said) = spec.run(true, "");
    assert!(!ran && said.contains("/dev/char/1:*"), "{said}");
}

#[test]
fn a_hook_that_nobody_explains_is_told() {
    if !needs::can_run("a_hook_that_nobody_explains_is_told", &["runc", "busybox"]) {
        return;
    }
    let node = RuntimeNode::new(Engine::Containerd, Runtime::Runc);
    let proof = node.root().join("proof");
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", format!("id -u > {}", proof.display())]});
    for (on_suspect, gate, ran) in
        [("audit", Gate::Absent, true), ("audit", Gate::Wrapper, true), ("deny", Gate::Wrapper, false)]
    {
        node.write_policy(&policy("enforce", "restricted", on_suspect));
        let _ = fs::remove_file(&proof);
        let attempt = node
            .sandbox(&Pod::compliant())
            .start_with(gate, |spec| spec["hooks"] = json!({"createRuntime": [hook]}));
        assert_eq!(attempt.ran, ran, "{attempt}");
        // As root of the host, and where the gate is a wrapper not before it has judged.
        assert_eq!(run::read(&proof), if ran { "0\n" } else { "" }, "{attempt}");
        if !ran {
            let said = attempt.events.last().expect("an event")["MESSAGE"].to_string();
            assert!(said.contains("createRuntime hook") && said.contains("/bin/sh"), "{said}");
        }
    }
}

// What follows needs no runtime: captured containers, with one thing added.

const FIXTURES: [(&str, [&str; 3]); 2] = [
    (
        "containerd",
        [
            include_str!("../../../benches/fixtures/containerd-allowed/containers/app/config.json"),
            include_str!("../../../benches/fixtures/containerd-allowed/containers/app/observed.json"),
            include_str!("../../../benches/fixtures/containerd-allowed/sandbox/config.json"),
        ],
    ),
    (
        "cri-o",
        [
            include_str!("../../../benches/fixtures/cri-o-allowed/containers/app/config.json"),
            include_str!("../../../benches/fixtures/cri-o-allowed/containers/app/observed.json"),
            include_str!("../../../benches/fixtures/cri-o-allowed/sandbox/config.json"),
        ],
    ),
];

/// A captured case whose config.json is written again and again.
struct Case {
    directory: tempfile::TempDir,
    fine: Value,
}

impl Case {
    fn new([config, observed, sandbox]: [&str; 3]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        write(&directory.path().join("containers/app/observed.json"), observed);
        write(&directory.path().join("sandbox/config.json"), sandbox);
        Self { directory, fine: serde_json::from_str(config).unwrap() }
    }

    /// The exit code of `check`, and what it found.
    fn check(&self, spec: &Value, level: Level) -> (u8, Value) {
        fs::write(self.directory.path().join("containers/app/config.json"), spec.to_string()).unwrap();
        let level = Some((level, Version::Latest));
        let paths = vec![self.directory.path().to_owned()];
        let options = Check { level, policy: None, pod: None, namespace: None, format: Format::Json, paths };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = check(&Paths::under(self.directory.path()), &options, Style::PLAIN, &mut out, &mut err);
        (
            code,
            serde_json::from_slice(&out)
                .unwrap_or_else(|err| panic!("{err}: {}", String::from_utf8_lossy(&out))),
        )
    }

    /// The controls that find something against it, each with the certainty and the text.
    fn found(&self, spec: &Value) -> Vec<(String, String, String)> {
        let (_, object) = self.check(spec, Level::Restricted);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let all = object["findings"].as_array().unwrap_or_else(|| panic!("{object}")).iter();
        all.map(|finding| (text(&finding["control"]), text(&finding["certainty"]), text(&finding["detail"])))
            .filter(|(_, certainty, _)| certainty != "unseen")
            .collect()
    }
}

#[test]
fn what_no_field_of_a_pod_asks_for_is_at_least_suspect() {
    let mount = |kind: &str, at: &str, options: &[&str]| json!({"destination": at, "type": kind, "source": kind, "options": options});
    let device = |kind: &str, major: i64, minor: i64| json!({"linux": {"devices": [{"path": "/dev/x", "type": kind, "major": major, "minor": minor}]}});
    let rule =
        |rule: Value| json!({"linux": {"resources": {"devices": [{"allow": false, "access": "rwm"}, rule]}}});
    let annotation = |key: &str, value: &str| json!({"annotations": {key: value}});
    // What is added, the control that says so (none: nobody does), and a word of it.
    let rows: &[(Value, &str, &str)] = &[
        (annotation("org.systemd.property.ExecStop", "x"), "privileged", "org.systemd.property.ExecStop"),
        (annotation("org.systemd.property.TimeoutStopUSec", "uint64 30000000"), "", ""),
        (
            annotation("org.systemd.property.TimeoutStopUSec", "uint64 1, 'x'"),
            "privileged",
            "TimeoutStopUSec",
        ),
        (annotation("org.systemd.property.CollectMode", "'inactive-or-failed'"), "", ""),
        (annotation("org.systemd.property.DefaultDependencies", "true"), "", ""),
        (
            annotation("org.systemd.property.DefaultDependencies", "false"),
            "privileged",
            "DefaultDependencies",
        ),
        (annotation("org.systemd.property.After", "['crio.service']"), "", ""),
        (annotation("run.oci.handler", "wasm"), "privileged", "run.oci.handler"),
        (annotation("run.oci.systemd.subgroup", ""), "privileged", "run.oci.systemd.subgroup"),
        (annotation("run.oci.mount_context_type", "rootcontext"), "", ""),
        (annotation("module.wasm.image/variant", "compat"), "privileged", "module.wasm.image/variant"),
        (annotation("org.criu.config", "/x"), "privileged", "org.criu.config"),
        (annotation("bundle", "/x"), "privileged", "bundle"),
        (annotation("run.ocix", "1"), "", ""),
        (annotation("example.com/run.oci.handler", "1"), "", ""),
        (json!({"linux": {"rootfsPropagation": "rshared"}}), "privileged", "rshared"),
        (json!({"linux": {"rootfsPropagation": "shared"}}), "privileged", "shared"),
        (json!({"linux": {"rootfsPropagation": "rslave"}}), "", ""),
        (json!({"mounts": [mount("cgroup", "/c", &["rw"])]}), "privileged", "cgroup"),
        (json!({"mounts": [mount("cgroup2", "/c", &["ro", "rw"])]}), "privileged", "cgroup2"),
        (json!({"mounts": [mount("cgroup", "/c", &["nosuid", "ro"])]}), "", ""),
        (json!({"mounts": [mount("sysfs", "/s", &[])]}), "privileged", "sysfs"),
        (json!({"mounts": [mount("sysfs", "/s", &["ro"])]}), "", ""),
        (json!({"hooks": {"poststop": [{"path": "/x"}]}}), "privileged", "poststop hook"),
        (
            json!({"hooks": {"createRuntime": [{"path": "/var/lib/pss-guard/bin/pss-guard", "args": ["pss-guard", "hook"]}]}}),
            "",
            "",
        ),
        (json!({"hooks": {"poststop": []}}), "", ""),
        (json!({"vm": {}}), "privileged", "vm"),
        (json!({"windows": {"layerFolders": []}}), "privileged", "windows"),
        (json!({"solaris": null}), "", ""),
        (json!({"linux": {"netDevices": {"eth1": {"name": "eth0"}}}}), "privileged", "eth1"),
        (device("b", 8, 0), "restrictedVolumes", "/dev/block/8:0"),
        (device("c", 1, 1), "restrictedVolumes", "/dev/char/1:1"),
        (device("u", 1, 1), "restrictedVolumes", "/dev/char/1:1"),
        (device("c", 10, 232), "restrictedVolumes", "not-host-paths"),
        (device("c", 1, 3), "", ""),
        (device("b", 1, 3), "restrictedVolumes", "/dev/block/1:3"),
        (device("c", 10, 229), "", ""),
        (device("c", 10, 200), "", ""),
        (device("p", 0, 0), "", ""),
        (
            rule(json!({"allow": true, "type": "b", "major": 8, "access": "r"})),
            "restrictedVolumes",
            "/dev/block/8:*",
        ),
        (rule(json!({"allow": true, "access": "rwm"})), "restrictedVolumes", "\"/dev\""),
        (rule(json!({"allow": true, "type": "a"})), "restrictedVolumes", "\"/dev\""),
        (
            rule(json!({"allow": true, "type": "b", "major": -1, "minor": -1, "access": "w"})),
            "restrictedVolumes",
            "/dev/block/*:*",
        ),
        (rule(json!({"allow": true, "type": "b", "access": "m"})), "", ""),
        (rule(json!({"allow": true, "type": "c", "major": 136, "access": "rwm"})), "", ""),
        (rule(json!({"allow": true, "type": "c", "major": 1, "minor": 5, "access": "rwm"})), "", ""),
        (rule(json!({"allow": false, "type": "b", "major": 8, "access": "r"})), "", ""),
    ];
    for (engine, fixture) in FIXTURES {
        let case = Case::new(fixture);
        assert_eq!(case.found(&case.fine), [], "{engine}: the fixture itself");
        for (added, control, word) in rows {
            let mut spec = case.fine.clone();
            let mounts = added["mounts"].as_array().cloned().unwrap_or_default();
            let mut added = added.clone();
            added.as_object_mut().unwrap().remove("mounts");
            merge(&mut spec, added.clone());
            spec["mounts"].as_array_mut().unwrap().extend(mounts.clone());
            let found = case.found(&spec);
            let row = format!("{engine}: {added} {mounts:?}: {found:?}");
            if control.is_empty() {
                assert!(found.is_empty(), "{row}");
                continue;
            }
            let [(found_control, certainty, detail)] = found.as_slice() else { panic!("{row}") };
            assert_eq!((found_control.as_str(), certainty.as_str()), (*control, "suspect"), "{row}");
            assert!(detail.contains(word), "{word}: {row}");
            assert_eq!(case.check(&spec, Level::Privileged).0, 0, "{row}");
        }
        let mut moved = case.fine.clone();
        annotate(&mut moved, "run.oci.hooks.stdout", "/x");
        assert_eq!(case.check(&moved, Level::Privileged).0, 2, "{engine}");
        // A rule that is taken back opens nothing.
        let mut closed = case.fine.clone();
        closed["linux"]["resources"]["devices"] = json!([{"allow": true, "type": "b", "major": 8, "access": "rw"}, {"allow": false, "access": "rwm"}]);
        assert_eq!(case.found(&closed), [], "{engine}");
    }
}

/// A privileged container has the devices of the host by definition; that it is privileged is all there is to say.
#[test]
fn the_devices_of_a_privileged_container_are_no_findings_of_their_own() {
    for (engine, fixture) in FIXTURES {
        let case = Case::new(fixture);
        let mut spec = case.fine.clone();
        let observed: Value = serde_json::from_str(fixture[1]).unwrap();
        let own = u64::from_str_radix(observed["own_capabilities"].as_str().unwrap(), 16).unwrap();
        let names: Vec<String> =
            caps::all().iter().filter(|cap| own & cap.bitmask() != 0).map(ToString::to_string).collect();
        spec["process"]["capabilities"] = json!({"bounding": names});
        spec["linux"]["maskedPaths"] = json!([]);
        spec["linux"]["readonlyPaths"] = json!([]);
        for mount in spec["mounts"].as_array_mut().unwrap() {
            if mount["destination"] == "/sys" {
                mount["options"] = json!(["rw"]);
            }
        }
        let devices: Vec<Value> = (0..102)
            .map(|n| json!({"path": format!("/dev/x{n}"), "type": "b", "major": 8, "minor": n}))
            .collect();
        spec["linux"]["devices"] = json!(devices);
        spec["linux"]["resources"]["devices"] = json!([{"allow": true, "access": "rwm"}]);
        let found = case.found(&spec);
        assert!(
            found.iter().any(|(control, certainty, _)| control == "privileged" && certainty == "violates")
        );
        assert!(!found.iter().any(|(_, _, detail)| detail.contains("/dev/x")), "{engine}: {found:?}");
    }
}

type Change = fn(&mut Value);

/// What makes a container worse, or leaves it as bad as it is.
const ADDED: &[(&str, Change)] = &[
    ("an order", |spec| annotate(spec, "run.oci.handler", "wasm")),
    ("an engine's order", |spec| annotate(spec, "org.systemd.property.CollectMode", "'inactive-or-failed'")),
    ("a level", |spec| annotate(spec, "pod-security.kubernetes.io/enforce", "privileged")),
    ("nobody's annotation", |spec| annotate(spec, "example.com/x", "y")),
    ("the gate's output", |spec| annotate(spec, "run.oci.hooks.stderr", "/x")),
    ("another filter", |spec| annotate(spec, "run.oci.seccomp_bpf_data", "AAAA")),
    ("ports", |spec| annotate(spec, "io.kubernetes.container.x", "[]")),
    ("a device", |spec| {
        push(spec, "/linux/devices", json!({"path": "/dev/x", "type": "b", "major": 8, "minor": 1}));
    }),
    ("a standard device", |spec| {
        push(spec, "/linux/devices", json!({"path": "/dev/n", "type": "c", "major": 1, "minor": 3}));
    }),
    ("a rule", |spec| {
        push(spec, "/linux/resources/devices", json!({"allow": true, "type": "b", "access": "rw"}));
    }),
    ("a hook", |spec| push(spec, "/hooks/prestart", json!({"path": "/x"}))),
    ("the gate's hook", |spec| {
        let gate = "/var/lib/pss-guard/bin/pss-guard";
        push(spec, "/hooks/createRuntime", json!({"path": gate, "args": ["pss-guard", "hook"]}));
    }),
    ("a capability", |spec| push(spec, "/process/capabilities/bounding", json!("CAP_SYS_ADMIN"))),
    ("a capability of tomorrow", |spec| push(spec, "/process/capabilities/ambient", json!("CAP_NEW"))),
    ("the host's network", |spec| leave(spec, "network")),
    ("the host's processes", |spec| leave(spec, "pid")),
    ("the host's IPC", |spec| leave(spec, "ipc")),
    ("a mount", |spec| {
        push(
            spec,
            "/mounts",
            json!({"destination": "/m", "type": "bind", "source": "/etc", "options": ["rbind"]}),
        );
    }),
    ("a file system", |spec| {
        push(spec, "/mounts", json!({"destination": "/t", "type": "tmpfs", "source": "tmpfs"}));
    }),
    ("a second proc", |spec| {
        push(spec, "/mounts", json!({"destination": "/p", "type": "proc", "source": "proc"}));
    }),
    ("a second sysfs", |spec| {
        push(spec, "/mounts", json!({"destination": "/s", "type": "sysfs", "source": "s"}));
    }),
    ("propagation", |spec| spec["linux"]["rootfsPropagation"] = json!("rshared")),
    ("a sysctl", |spec| spec["linux"]["sysctl"]["kernel.x"] = json!("1")),
    ("a section", |spec| spec["windows"] = json!({})),
    ("what is new", |spec| spec["tomorrow"] = json!({"a": [1]})),
];

/// Adds to a list, which is made where it is missing.
fn push(spec: &mut Value, at: &str, item: Value) {
    let mut place = spec;
    for key in at.split('/').skip(1) {
        place = &mut place[key];
    }
    match place {
        Value::Array(list) => list.push(item),
        other => *other = json!([item]),
    }
}

/// Takes a namespace of its own away.
fn leave(spec: &mut Value, kind: &str) {
    spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|entry| entry["type"] != kind);
}

#[test]
fn whatever_is_added_a_denial_stays_a_denial() {
    // What is wrong by itself.
    let wrongs: [(&str, Change); 6] = [
        ("root", |spec| spec["process"]["user"]["uid"] = json!(0)),
        ("escalation", |spec| spec["process"]["noNewPrivileges"] = json!(false)),
        ("no filter", |spec| _ = spec["linux"].as_object_mut().unwrap().remove("seccomp")),
        ("a host path", |spec| {
            push(
                spec,
                "/mounts",
                json!({"destination": "/h", "type": "bind", "source": "/", "options": ["bind"]}),
            );
        }),
        ("host network", |spec| leave(spec, "network")),
        ("SYS_ADMIN", |spec| spec["process"]["capabilities"] = json!({"bounding": ["CAP_SYS_ADMIN"]})),
    ];
    let mut numbers = Numbers(0x00ad_d17e);
    for (engine, fixture) in FIXTURES {
        let case = Case::new(fixture);
        for (wrong, make) in wrongs {
            let mut bad = case.fine.clone();
            make(&mut bad);
            assert_eq!(case.check(&bad, Level::Restricted).0, 1, "{engine}: {wrong}");
            let refused = |spec: &Value, what: &str| {
                let (code, object) = case.check(spec, Level::Restricted);
                assert_ne!(code, 0, "{engine}: {wrong} + {what}\n{object}");
            };
            for (what, add) in ADDED {
                let mut spec = bad.clone();
                add(&mut spec);
                refused(&spec, what);
            }
            for _ in 0..40 {
                let (mut spec, mut what) = (bad.clone(), Vec::new());
                for _ in 0..2 + numbers.below(5) {
                    let (name, add) = ADDED[numbers.below(ADDED.len())];
                    add(&mut spec);
                    what.push(name);
                }
                refused(&spec, &what.join(" + "));
            }
        }
        // And alone none of them is more than what it is: no error, no panic.
        for (what, add) in ADDED {
            let mut spec = case.fine.clone();
            add(&mut spec);
            let (code, object) = case.check(&spec, Level::Baseline);
            let verdict = object["verdict"].as_str().unwrap_or_default();
            assert_eq!(code == 2, *what == "the gate's output", "{engine}: {what}: {verdict}");
        }
    }
}

#[test]
fn the_annotations_that_runtimes_name_as_unsafe_are_those_that_are_told() {
    let home = |name, below: &str| std::env::var_os(name).map(|home| PathBuf::from(home).join(below));
    let cache = home("PSS_GUARD_CACHE", "").or_else(|| home("XDG_CACHE_HOME", "pss-guard"));
    let cache = cache.or_else(|| home("HOME", ".cache/pss-guard")).unwrap_or_default();
    let parts = cache.join("bin/runc-1/runc");
    let installed = ["runc", "crun"].into_iter().filter_map(needs::program);
    let runtimes = installed.chain(Some(parts).filter(|runc| runc.is_file()));
    let case = Case::new(FIXTURES[0].1);
    let mut named = 0;
    for runtime in runtimes {
        let features = Command::new(&runtime).arg("features").output().unwrap();
        // crun before 1.15 and runc before 1.2 have no such list.
        let Ok(features) = serde_json::from_slice::<Value>(&features.stdout) else { continue };
        for key in features["potentiallyUnsafeConfigAnnotations"].as_array().into_iter().flatten() {
            let key = key.as_str().unwrap();
            if key == "io.kubernetes.cri.container-type" {
                continue;
            }
            named += 1;
            let key = if key.ends_with('.') { format!("{key}x") } else { key.to_owned() };
            let mut spec = case.fine.clone();
            annotate(&mut spec, &key, "x");
            let found = case.found(&spec);
            assert!(
                found.iter().any(|(_, _, detail)| detail.contains(&key)),
                "{}: {key}: {found:?}",
                runtime.display()
            );
        }
    }
    if named == 0 {
        needs::skip("the_annotations_that_runtimes_name_as_unsafe", "a runc since 1.2 or a crun since 1.15");
    }
}
