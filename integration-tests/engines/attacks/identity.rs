//! Who a container says it is.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::pod::{Engine, Pod};
use crate::support::runtime::{Gate, Runtime, RuntimeNode};
use crate::support::{files, image, needs, program, random, run};

/// Containers of no pod are free here: who passes for one has won.
const RESTRICTED: &str =
    "mode = \"enforce\"\n[defaults]\nenforce = \"restricted\"\n[unmanaged]\nenforce = \"privileged\"\n";

fn annotate(spec: &mut Value, annotations: &Value) {
    let all = spec["annotations"].as_object_mut().expect("annotations");
    all.extend(annotations.as_object().expect("an object").clone());
}

/// CRI-O restores a container from an image, and writes the image's annotations over its own
/// (`server/container_restore.go`).
#[test]
fn an_image_cannot_make_its_container_somebody_elses() {
    for runtime in [Runtime::Runc, Runtime::Crun] {
        let test = "an_image_cannot_make_its_container_somebody_elses";
        if !needs::can_run(test, &[runtime.name(), "busybox"]) {
            return;
        }
        let node = RuntimeNode::new(Engine::CriO, runtime);
        node.write_policy(RESTRICTED);
        let sandbox = node.sandbox(&Pod::bare());
        let forgeries = [
            json!({"io.container.manager": "libpod"}),
            json!({"io.container.manager": "nobody"}),
            json!({"io.container.manager": ""}),
            json!({"io.kubernetes.cri-o.ContainerType": "sandbox"}),
            json!({"io.kubernetes.cri-o.ContainerType": ""}),
            json!({"io.container.manager": "libpod", "io.kubernetes.cri-o.ContainerType": "sandbox"}),
            json!({"io.kubernetes.cri.container-type": "sandbox",
                "io.kubernetes.cri.sandbox-namespace": "kube-system"}),
        ];
        for forged in forgeries {
            let forge = |spec: &mut Value| annotate(spec, &forged);
            let alone = sandbox.start_with(Gate::Absent, forge);
            assert!(alone.ran, "the runtime starts it\n{alone}");
            for gate in [Gate::Hook, Gate::Wrapper] {
                let attempt = sandbox.start_with(gate, forge);
                assert!(!attempt.ran && !attempt.kept, "{forged}, {gate:?}\n{attempt}");
                let event = attempt.events.first().unwrap_or_else(|| panic!("an event\n{attempt}"));
                let who = [&event["PSS_DECISION"], &event["PSS_NAMESPACE"], &event["PSS_CONTAINER"]];
                assert_eq!(who, ["denied", "shop", "app"], "{attempt}");
            }
        }
    }
}

/// The sandbox has the pod's sysctls and host ports; without it they would go unseen.
#[test]
fn an_image_cannot_choose_its_containers_sandbox() {
    let test = "an_image_cannot_choose_its_containers_sandbox";
    if !needs::can_run(test, &["runc", "busybox"]) {
        return;
    }
    let node = RuntimeNode::new(Engine::CriO, Runtime::Runc);
    node.write_policy(RESTRICTED);
    let unsafe_sysctl = Pod { sysctls: vec![("net.ipv4.ip_forward", "1")], ..Pod::compliant() };
    let sandbox = node.sandbox(&unsafe_sysctl);
    let other = node.sandbox(&Pod { name: "web-1", ..Pod::compliant() });
    let honest = sandbox.start(Gate::Hook);
    assert!(!honest.ran && honest.message.contains("sysctls"), "{honest}");
    // A container of the same pod, which has no sysctls of its own.
    let container = sandbox.start(Gate::Absent).id;
    let rows = [
        (random::id(), "there is no sandbox"),
        (other.place.sandbox_id.clone(), "is the sandbox of"),
        (container, "is a container of"),
    ];
    for (id, says) in rows {
        let forge = |spec: &mut Value| annotate(spec, &json!({"io.kubernetes.cri-o.SandboxID": id}));
        assert!(sandbox.start_with(Gate::Absent, forge).ran);
        for gate in [Gate::Hook, Gate::Wrapper] {
            let attempt = sandbox.start_with(gate, forge);
            assert!(!attempt.ran && attempt.message.contains(says), "{says}, {gate:?}\n{attempt}");
        }
    }
}

/// CRI-O writes a pod's annotations over its own keys in a sandbox (`server/sandbox_run_linux.go`), and keeps the sandbox
/// of a pod that shares its processes.
#[test]
fn a_pod_cannot_make_its_kept_sandbox_a_container() {
    for runtime in [Runtime::Runc, Runtime::Crun] {
        let test = "a_pod_cannot_make_its_kept_sandbox_a_container";
        if !needs::can_run(test, &[runtime.name(), "busybox"]) {
            return;
        }
        let node = RuntimeNode::new(Engine::CriO, runtime);
        node.write_policy(RESTRICTED);
        let sandbox = node.sandbox(&Pod::compliant());
        let id = &sandbox.place.sandbox_id;
        let config = node.bundle(id).join("config.json");
        let honest: Value = serde_json::from_str(&run::read(&config)).expect("JSON");
        let forgeries = [
            json!({}),
            json!({"io.kubernetes.cri-o.ContainerType": "container"}),
            json!({"io.kubernetes.cri-o.ContainerType": ""}),
            json!({"io.container.manager": "libpod", "io.kubernetes.cri-o.ContainerType": "container"}),
        ];
        for forged in forgeries {
            // A pause container has the engine's default capabilities and no more than that: as a container it would be
            // refused, as a sandbox it starts.
            let mut spec = honest.clone();
            annotate(&mut spec, &forged);
            files::write(&config, &spec.to_string());
            for wrapped in [false, true] {
                let mut create = if wrapped { node.wrapped(&["create"]) } else { node.runtime(&["create"]) };
                let done = run::run(create.arg("--bundle").arg(node.bundle(id)).arg(id));
                assert_eq!(done.code, Some(0), "{forged}, wrapped: {wrapped}\n{done}");
                run::run(node.runtime(&["delete", "--force"]).arg(id)).expect_success();
            }
            // Its workloads are judged, whatever the sandbox says of itself.
            let root = sandbox.start_with(Gate::Wrapper, |spec| spec["process"]["user"]["uid"] = json!(0));
            assert!(!root.ran && root.message.contains("runAsNonRoot"), "{root}");
            assert!(sandbox.start(Gate::Wrapper).ran, "{forged}");
        }
        // And as a sandbox it is judged.
        files::write(&config, &honest.to_string());
        let mut spec = honest.clone();
        spec["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
        annotate(&mut spec, &json!({"io.container.manager": "libpod"}));
        files::write(&config, &spec.to_string());
        let done = run::run(node.wrapped(&["create", "--bundle"]).arg(node.bundle(id)).arg(id));
        assert!(done.stderr.contains("sysctls"), "{done}");
    }
}

/// `SLICE:libpod:ID` is podman's name for a cgroup, and the slice is its user's choice. runc takes no slice with a colon
/// in it; crun does.
#[test]
fn a_slice_with_a_colon_does_not_make_podmans_container_cri_os() {
    let test = "a_slice_with_a_colon_does_not_make_podmans_container_cri_os";
    if !needs::can_run(test, &["podman", "conmon", "busybox"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| dir.path().join(name);
    image::unpack(&path("image"));
    // Without systemd no runtime starts it here; what podman writes is what the gate gets to see.
    let keep = format!(
        "#!/bin/sh\nwhile [ $# -gt 1 ]; do [ \"$1\" = --bundle ] && cp \"$2/config.json\" {0}/ && basename \"$(dirname \"$2\")\" >{0}/id; shift; done\nexit 1\n",
        dir.path().display()
    );
    files::write(&path("keep"), &keep);
    fs::set_permissions(path("keep"), fs::Permissions::from_mode(0o755)).expect("set a mode");
    files::write(
        &path("root/etc/pss-guard/policy.toml"),
        "mode = \"enforce\"\n[unmanaged]\nenforce = \"restricted\"\n",
    );
    let own = random::id();
    for slice in ["a.slice:b.slice".to_owned(), format!("a.slice:crio:{own}.slice")] {
        let mut podman = Command::new("podman");
        podman.arg("--root").arg(path("storage")).arg("--runroot").arg(path("run"));
        podman.args(["--storage-driver=vfs", "--cgroup-manager=systemd", "--runtime"]).arg(path("keep"));
        podman.args([
            "run",
            "--rm",
            "--network=none",
            "--ulimit=nofile=20000:20000",
            "--ulimit=nproc=20000:20000",
        ]);
        podman.args(["--cgroup-parent", &slice]);
        for forged in [
            "io.container.manager=cri-o",
            "io.kubernetes.cri-o.ContainerType=container",
            "io.kubernetes.pod.namespace=kube-system",
            "io.kubernetes.container.name=POD",
        ] {
            podman.args(["--annotation", forged]);
        }
        let done = run::run(podman.arg("--rootfs").arg(path("image")).arg("/bin/sh"));
        let config = run::read(&path("config.json"));
        let spec: Value = serde_json::from_str(&config).unwrap_or_else(|err| panic!("{err}: {done}"));
        let id = run::read(&path("id")).trim().to_owned();
        let cgroup = spec["linux"]["cgroupsPath"].as_str().expect("a cgroup");
        assert_eq!(cgroup, format!("{slice}:libpod:{id}"), "what podman makes of it\n{done}");
        assert_eq!(spec["annotations"]["io.kubernetes.pod.namespace"], "kube-system");
        let (code, said) = hook(dir.path(), &id);
        // allowPrivilegeEscalation is number 13, and the level is the policy's [unmanaged] level.
        assert_eq!(code, Some(23), "{said}");
        assert!(said.contains("violates PodSecurity") && said.contains("[unmanaged]"), "{said}");
        // The same name without podman's part is CRI-O's.
        let cri_os = config.replace(cgroup, &format!("kubepods.slice:crio:{id}"));
        files::write(&path("config.json"), &cri_os);
        assert_eq!(hook(dir.path(), &id).0, Some(0), "kube-system is exempt");
    }
    run::run(
        Command::new("podman").arg("--root").arg(path("storage")).arg("--runroot").arg(path("run")).args([
            "--storage-driver=vfs",
            "rm",
            "--all",
            "--force",
        ]),
    );
}

/// The hook as CRI-O's and podman's shared folder has it, for a bundle of this id.
fn hook(bundle: &Path, id: &str) -> (Option<i32>, String) {
    use std::io::Write as _;
    let mut command = Command::new(program::gate());
    command.args(["hook", "--engine", "cri-o", "--root"]).arg(bundle.join("root"));
    // It says nothing into a file, and that is what the output of these tests may go to.
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    command.stderr(std::process::Stdio::piped());
    let mut child = command.spawn().expect("the hook");
    let state = json!({"ociVersion": "1.0.2", "id": id, "pid": 0, "bundle": bundle});
    child.stdin.take().expect("a pipe").write_all(state.to_string().as_bytes()).expect("the state");
    let done = child.wait_with_output().expect("the hook's end");
    (done.status.code(), String::from_utf8_lossy(&done.stderr).into_owned())
}
