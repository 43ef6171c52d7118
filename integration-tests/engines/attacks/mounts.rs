//! Mount sources that look like the pod's own or the engine's, and are the host's.
//!
//! Engines follow a link that is the last part of a hostPath and write where it leads into config.json. So a pod that
//! keeps such a link in its own volume makes any path appear as another pod's source that it can compute: its UID comes
//! from the downward API, the sandbox's id from an init container's mountinfo.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::support::pod::{self, Engine, Place, Pod, Volume};
use crate::support::runtime::{Attempt, Gate, Runtime, RuntimeNode, Sandbox};
use crate::support::{image, needs, program, run};

const SECRET: &str = "the host's own";

const ENFORCE: &str = "mode = \"enforce\"\n[namespaces.\"shop\"]\nenforce = \"restricted\"\n";

/// restrictedVolumes, which replaces hostPathVolumes at restricted.
const DENIED: Option<i32> = Some(26);

/// A node with one sandbox of a pod that complies with restricted, and a directory of the host with a secret in it.
struct Scene<'n> {
    sandbox: Sandbox<'n>,
    host: tempfile::TempDir,
}

impl<'n> Scene<'n> {
    fn of(node: &'n RuntimeNode) -> Self {
        node.write_policy(ENFORCE);
        let volumes = vec![Volume::EmptyDir { name: "own", at: "/own" }];
        let sandbox = node.sandbox(&Pod { volumes, ..Pod::compliant() });
        let host = tempfile::tempdir().unwrap();
        fs::set_permissions(host.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(host.path().join("secret"), SECRET).unwrap();
        Self { sandbox, host }
    }

    /// The pod's emptyDir, in which its containers make what they like.
    fn volume(&self) -> PathBuf {
        self.sandbox.place.pod_dir.join("volumes/kubernetes.io~empty-dir/own")
    }

    /// Starts the container with one more mount, as the kubelet would ask for it, and lets it read the secret.
    fn mounting(&self, gate: Gate, source: &Path) -> Attempt {
        self.sandbox.start_changed(gate, |spec, place| mount(spec, place, source))
    }

    /// The mount works where no gate stands, and the gate refuses it by hook and by wrapper.
    fn is_refused(&self, what: &str, source: &Path) {
        self.is_refused_when(what, |spec, place| mount(spec, place, source));
    }

    fn is_refused_when(&self, what: &str, change: impl Fn(&mut Value, &Place)) {
        let open = self.sandbox.start_changed(Gate::Absent, &change);
        assert!(open.said.contains(SECRET), "{what}: the attack does not work\n{open}");
        for gate in [Gate::Hook, Gate::Wrapper] {
            let attempt = self.sandbox.start_changed(gate, &change);
            assert!(!attempt.ran, "{what} by {gate:?}\n{attempt}");
            let denied = attempt.events.iter().any(|event| event["PSS_DECISION"] == "denied");
            assert!(denied && attempt.message.contains("hostPath"), "{what} by {gate:?}\n{attempt}");
            if gate == Gate::Wrapper {
                assert_eq!(attempt.created.code, DENIED, "{what}\n{attempt}");
            }
        }
    }
}

fn mount(spec: &mut Value, place: &Place, source: &Path) {
    let mut options = vec!["rbind", "rprivate", "ro"];
    if place.engine == Engine::CriO {
        options.push("bind");
    }
    add(spec, &json!({"destination": "/stolen", "type": "bind", "source": source, "options": options}));
}

/// Adds a mount, and lets the container tell what it sees of it.
fn add(spec: &mut Value, mount: &Value) {
    spec["mounts"].as_array_mut().unwrap().push(mount.clone());
    let read =
        "cat /stolen/secret /stolen > /dev/termination-log 2>/dev/null; echo started >> /dev/termination-log";
    spec["process"]["args"] = json!(["/bin/sh", "-c", read]);
}

fn can_run(test: &str) -> bool {
    needs::can_run(test, &["runc", "busybox", "mount"])
}

/// A bind mount that goes with the value.
struct Mounted(PathBuf);

impl Mounted {
    fn bind(from: &Path, at: &Path) -> Self {
        fs::create_dir_all(at).unwrap();
        run::run(Command::new("mount").arg("--bind").arg(from).arg(at)).expect_success();
        Self(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        run::run(Command::new("umount").arg("--lazy").arg(&self.0));
    }
}

#[test]
fn below_a_sub_path_mount_that_the_kubelet_left() {
    if !can_run("attacks::mounts::below_a_sub_path_mount_that_the_kubelet_left") {
        return;
    }
    for engine in [Engine::Containerd, Engine::CriO] {
        let node = RuntimeNode::new(engine, Runtime::Runc);
        let scene = Scene::of(&node);
        let above = tempfile::tempdir().unwrap();
        fs::create_dir(above.path().join("b")).unwrap();
        fs::write(above.path().join("b/secret"), SECRET).unwrap();
        let point = scene.sandbox.place.pod_dir.join("volume-subpaths/h/c1/0");
        let _mounted = Mounted::bind(above.path(), &point);
        scene.is_refused("below a subPath mount", &point.join("b"));
        scene.is_refused("the subPath mount itself", &{
            fs::write(above.path().join("secret"), SECRET).unwrap();
            point
        });
    }
}

/// What the kubelet mounts there later would show by propagation in a container that runs by then.
#[test]
fn the_place_of_a_sub_path_mount_that_is_yet_to_come() {
    if !can_run("attacks::mounts::the_place_of_a_sub_path_mount_that_is_yet_to_come") {
        return;
    }
    for engine in [Engine::Containerd, Engine::CriO] {
        let node = RuntimeNode::new(engine, Runtime::Runc);
        let scene = Scene::of(&node);
        let point = scene.sandbox.place.pod_dir.join("volume-subpaths/h/c1/0");
        fs::create_dir_all(&point).unwrap();
        fs::write(point.join("secret"), SECRET).unwrap();
        scene.is_refused("before a subPath mount", &point);
    }
}

#[test]
fn the_engines_names_in_a_volume() {
    if !can_run("attacks::mounts::the_engines_names_in_a_volume") {
        return;
    }
    for engine in [Engine::Containerd, Engine::CriO] {
        let node = RuntimeNode::new(engine, Runtime::Runc);
        let scene = Scene::of(&node);
        let sandbox = &scene.sandbox.place.sandbox_id;
        let forged = match engine {
            Engine::Containerd => format!("io.containerd.grpc.v1.cri/image-volumes/{sandbox}"),
            Engine::CriO => format!("x-containers/{sandbox}/userdata"),
        };
        let forged = scene.volume().join(forged);
        fs::create_dir_all(&forged).unwrap();
        for name in ["p", "shm"] {
            symlink(scene.host.path(), forged.join(name)).unwrap();
            scene.is_refused("an engine's name in a volume", &forged.join(name));
        }
    }
}

#[test]
fn a_directory_inside_a_volume_that_is_exchanged_for_a_link() {
    if !can_run("attacks::mounts::a_directory_inside_a_volume_that_is_exchanged_for_a_link") {
        return;
    }
    let node = RuntimeNode::new(Engine::Containerd, Runtime::Runc);
    let scene = Scene::of(&node);
    let (way, real, link) =
        (scene.volume().join("way"), scene.volume().join("real"), scene.volume().join("link"));
    fs::create_dir_all(real.join("d")).unwrap();
    fs::create_dir_all(scene.host.path().join("d")).unwrap();
    fs::write(scene.host.path().join("d/secret"), SECRET).unwrap();
    symlink(scene.host.path(), &link).unwrap();
    symlink(&real, &way).unwrap();
    // As a link it shows the host; by turns it does, and what is judged is not what is mounted.
    fs::rename(&link, &way).unwrap();
    let open = scene.mounting(Gate::Absent, &way.join("d"));
    assert!(open.said.contains(SECRET), "{open}");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let next = scene.volume().join("next");
            while !stop.load(Ordering::Relaxed) {
                for target in [&real, &scene.host.path().to_owned()] {
                    let _ = symlink(target, &next);
                    let _ = fs::rename(&next, &way);
                }
            }
        });
        for turn in 0..12 {
            let gate = if turn % 2 == 0 { Gate::Hook } else { Gate::Wrapper };
            let attempt = scene.mounting(gate, &way.join("d"));
            if attempt.ran {
                stop.store(true, Ordering::Relaxed);
            }
            assert!(!attempt.ran, "won at try {turn} by {gate:?}\n{attempt}");
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn below_a_claim_that_the_policy_lists() {
    if !can_run("attacks::mounts::below_a_claim_that_the_policy_lists") {
        return;
    }
    let node = RuntimeNode::new(Engine::CriO, Runtime::Runc);
    let scene = Scene::of(&node);
    let listed = tempfile::tempdir().unwrap();
    let claim = listed.path().join("pvc-1");
    fs::create_dir(&claim).unwrap();
    fs::set_permissions(&claim, fs::Permissions::from_mode(0o777)).unwrap();
    fs::set_permissions(listed.path(), fs::Permissions::from_mode(0o755)).unwrap();
    symlink(scene.host.path().parent().unwrap(), claim.join("out")).unwrap();
    let policy = format!("{ENFORCE}[node]\nnot-host-paths = [\"{}\"]\n", listed.path().display());
    let kubelet = format!("[node]\nkubelet-root = \"{}\"", node.kubelet_root().display());
    node.write_policy(ENFORCE);
    fs::write(node.policy_path(), policy.replace("[node]", &kubelet)).unwrap();
    // The claim itself is what the admin listed.
    let attempt = scene.mounting(Gate::Hook, &claim);
    assert!(attempt.ran, "{attempt}");
    let out = claim.join("out").join(scene.host.path().file_name().unwrap());
    scene.is_refused("a link in a claim", &out);
    fs::write(claim.join("secret"), SECRET).unwrap();
    fs::create_dir(claim.join("data")).unwrap();
    fs::write(claim.join("data/secret"), SECRET).unwrap();
    scene.is_refused("a directory in a claim, which its pod can exchange", &claim.join("data"));
}

#[test]
fn the_sandboxs_own_directory() {
    if !can_run("attacks::mounts::the_sandboxs_own_directory") {
        return;
    }
    for engine in [Engine::Containerd, Engine::CriO] {
        let node = RuntimeNode::new(engine, Runtime::Runc);
        let scene = Scene::of(&node);
        let files = scene.sandbox.place.sandbox_files.clone();
        fs::write(files.join("secret"), SECRET).unwrap();
        scene.is_refused("the sandbox's directory", &files);
        fs::write(files.join("hostname"), SECRET).unwrap();
        if engine == Engine::CriO {
            // CRI-O writes its own without `rbind`, and the kubelet asks for nothing without.
            scene.is_refused("the sandbox's file by the kubelet", &files.join("hostname"));
        }
    }
}

#[test]
fn an_image_volume_that_is_asked_for_writable() {
    if !can_run("attacks::mounts::an_image_volume_that_is_asked_for_writable") {
        return;
    }
    let node = RuntimeNode::new(Engine::Containerd, Runtime::Runc);
    let scene = Scene::of(&node);
    let Place { sandbox_files, sandbox_id, .. } = &scene.sandbox.place;
    let plugin = sandbox_files.ancestors().nth(2).unwrap();
    let image = plugin.join("image-volumes").join(sandbox_id).join("image");
    // A view of an image with one layer is a read-only bind mount of the layer itself.
    fs::set_permissions(scene.host.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let _mounted = Mounted::bind(scene.host.path(), &image);
    run::run(Command::new("mount").args(["-o", "remount,bind,ro"]).arg(&image)).expect_success();
    let asked = |options: Value| {
        let image = image.clone();
        move |spec: &mut Value, _: &Place| {
            let mount =
                json!({"destination": "/stolen", "type": "bind", "source": image, "options": options});
            add(spec, &mount);
            let write = "echo wrote > /stolen/written; \
                cat /stolen/secret /stolen/written > /dev/termination-log 2>/dev/null";
            spec["process"]["args"] = json!(["/bin/sh", "-c", write]);
        }
    };
    for read_only in ["ro", "rro"] {
        // runc 1.1 knows no `rro`.
        if read_only == "rro" && Runtime::Runc.version() < (1, 2) {
            continue;
        }
        let own = scene.sandbox.start_changed(Gate::Hook, asked(json!(["rbind", "rprivate", read_only])));
        assert!(own.said.contains(SECRET) && !own.said.contains("wrote"), "{own}");
    }
    // runc 1.2 gives up what the mount below is, if told `rw`; before, anything else that needs a remount does.
    let asked_for = asked(json!(["rbind", "rprivate", "rw", "nosuid"]));
    let open = scene.sandbox.start_changed(Gate::Absent, &asked_for);
    assert!(open.said.contains("wrote"), "the attack does not work\n{open}");
    scene.is_refused_when("an image volume, writable", asked_for);
}

#[test]
fn beside_the_mount_of_a_csi_volume() {
    if !can_run("attacks::mounts::beside_the_mount_of_a_csi_volume") {
        return;
    }
    let node = RuntimeNode::new(Engine::Containerd, Runtime::Runc);
    let scene = Scene::of(&node);
    let driver = scene.sandbox.place.pod_dir.join("volumes/kubernetes.io~csi/pv-1");
    fs::create_dir_all(driver.join("mount")).unwrap();
    fs::write(driver.join("secret"), SECRET).unwrap();
    scene.is_refused("the driver's own data", &driver);
    let point = scene.sandbox.place.pod_dir.join("volume-subpaths/pv-1/app/0");
    let _mounted = Mounted::bind(&driver, &point);
    scene.is_refused("the same by subPath", &point);
    let volume = scene.mounting(Gate::Hook, &driver.join("mount"));
    assert!(volume.ran, "{volume}");
}

#[test]
fn files_that_cri_o_binds_itself_when_the_kubelet_asks_for_them() {
    if !can_run("attacks::mounts::files_that_cri_o_binds_itself_when_the_kubelet_asks_for_them") {
        return;
    }
    let node = RuntimeNode::new(Engine::CriO, Runtime::Runc);
    let exception = "[[exceptions]]\nnamespace = \"shop\"\ncontainer = \"app\"\ncontrols = [\"hostNamespaces\"]\n\
        reason = \"test\"\nexpires = 2999-01-01\n";
    node.write_policy(&format!("{ENFORCE}{exception}"));
    let sandbox = node.sandbox(&Pod { host_network: true, ..Pod::compliant() });
    let hosts = |options: Value| {
        move |spec: &mut Value, _: &Place| {
            let mounts = spec["mounts"].as_array_mut().unwrap();
            mounts.retain(|mount| mount["destination"] != "/etc/hosts");
            mounts.push(json!({"destination": "/etc/hosts", "type": "bind", "source": "/etc/hosts",
                "options": options}));
        }
    };
    let own = sandbox.start_changed(Gate::Hook, hosts(json!(["bind"])));
    assert!(own.ran, "CRI-O's own\n{own}");
    let asked = hosts(json!(["rbind", "rprivate", "rw", "bind"]));
    let open = sandbox.start_changed(Gate::Absent, &asked);
    assert!(open.ran, "{open}");
    for gate in [Gate::Hook, Gate::Wrapper] {
        let attempt = sandbox.start_changed(gate, &asked);
        assert!(!attempt.ran && attempt.message.contains("hostPath"), "{attempt}");
    }
}

#[test]
fn an_artifact_of_cri_os_is_no_host_path_and_what_lies_beside_it_is() {
    if !can_run("attacks::mounts::an_artifact_of_cri_os_is_no_host_path_and_what_lies_beside_it_is") {
        return;
    }
    let node = RuntimeNode::new(Engine::CriO, Runtime::Runc);
    let scene = Scene::of(&node);
    let storage = scene.sandbox.place.rootfs.ancestors().nth(3).unwrap().to_owned();
    let blobs = storage.join("artifacts/blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let blob = blobs.join("ab".repeat(32));
    fs::write(&blob, SECRET).unwrap();
    fs::write(storage.join("artifacts/index.json"), SECRET).unwrap();
    let bind = |source: PathBuf, options: Value| {
        move |spec: &mut Value, _: &Place| {
            add(
                spec,
                &json!({"destination": "/stolen", "type": "bind", "source": source, "options": options}),
            );
        }
    };
    let own = scene.sandbox.start_changed(Gate::Hook, bind(blob.clone(), json!(["bind", "ro"])));
    assert!(own.said.contains(SECRET), "{own}");
    scene.is_refused("a blob by the kubelet", &blob);
    let beside = bind(storage.join("artifacts/index.json"), json!(["bind", "ro"]));
    scene.is_refused_when("the store's index", beside);
}

#[test]
fn file_systems_of_the_host_by_whatever_type() {
    if !can_run("attacks::mounts::file_systems_of_the_host_by_whatever_type") {
        return;
    }
    for engine in [Engine::Containerd, Engine::CriO] {
        let node = RuntimeNode::new(engine, Runtime::Runc);
        let scene = Scene::of(&node);
        let (host, empty) = (scene.host.path().to_owned(), tempfile::tempdir().unwrap());
        let lower = format!("lowerdir={}:{}", host.display(), empty.path().display());
        scene.is_refused_when("an overlay of the host", |spec, _| {
            add(
                spec,
                &json!({"destination": "/stolen", "type": "overlay", "source": "overlay",
                    "options": [lower]}),
            );
        });
    }
    let node = RuntimeNode::new(Engine::Containerd, Runtime::Runc);
    let scene = Scene::of(&node);
    let devices = |spec: &mut Value, _: &Place| {
        let mount = json!({"destination": "/stolen", "type": "devtmpfs", "source": "devtmpfs"});
        spec["mounts"].as_array_mut().unwrap().push(mount);
    };
    assert!(scene.sandbox.start_changed(Gate::Absent, devices).ran, "the host's devices can be mounted");
    for gate in [Gate::Hook, Gate::Wrapper] {
        let attempt = scene.sandbox.start_changed(gate, devices);
        assert!(!attempt.ran && attempt.message.contains("devtmpfs"), "{attempt}");
    }
}

#[test]
fn a_folder_of_the_host_as_root_file_system() {
    if !can_run("attacks::mounts::a_folder_of_the_host_as_root_file_system") {
        return;
    }
    for engine in [Engine::Containerd, Engine::CriO] {
        let node = RuntimeNode::new(engine, Runtime::Runc);
        let scene = Scene::of(&node);
        let image = scene.host.path().join("image");
        image::unpack(&image);
        fs::write(image.join("etc/secret"), SECRET).unwrap();
        scene.is_refused_when("an absolute root.path", |spec, _| {
            let read = "cat /etc/secret > /dev/termination-log";
            spec["process"]["args"] = json!(["/bin/sh", "-c", read]);
            spec["root"]["path"] = json!(image);
        });
    }
}

#[test]
fn a_volume_whose_server_is_gone_holds_nothing_up() {
    if !can_run("attacks::mounts::a_volume_whose_server_is_gone_holds_nothing_up") {
        return;
    }
    let node = RuntimeNode::new(Engine::Containerd, Runtime::Runc);
    let scene = Scene::of(&node);
    // A directory in which a look at what is in it never ends stands in for a dead server: nobody answers this one.
    let Some(dead) = DeadServer::at(&scene.sandbox.place.pod_dir.join("volumes/kubernetes.io~nfs/dead"))
    else {
        needs::skip("attacks::mounts::a_volume_whose_server_is_gone_holds_nothing_up", "/dev/fuse");
        return;
    };
    let bundle = tempfile::tempdir().unwrap();
    let task = bundle.path().join("io.containerd.runtime.v2.task/k8s.io/x");
    fs::create_dir_all(&task).unwrap();
    let mut spec = pod::container_spec(&scene.sandbox.pod, &scene.sandbox.place);
    mount(&mut spec, &scene.sandbox.place, &dead.0);
    fs::write(task.join("config.json"), spec.to_string()).unwrap();
    let state = json!({"ociVersion": "1.0.2", "id": "x", "pid": 0, "bundle": task}).to_string();
    fs::write(task.join("state"), state).unwrap();
    let mut hook = Command::new("sh");
    hook.args(["-c", "exec timeout 10 \"$0\" hook --engine containerd --root \"$1\" <\"$2\""]);
    hook.arg(program::gate()).arg(node.root()).arg(task.join("state"));
    let done = run::run(&mut hook);
    // An inline NFS volume looks like a claim: suspicion, and no denial.
    assert!(matches!(done.code, Some(0 | 26)), "{done}");
}

#[test]
fn an_anchor_that_others_can_write_to_is_found_before_a_pod_meets_it() {
    if !needs::can_run(
        "attacks::mounts::an_anchor_that_others_can_write_to_is_found_before_a_pod_meets_it",
        &["unshare", "mount"],
    ) {
        return;
    }
    // The machine's own directories, but empty, and nobody else's.
    let node = "set -e; for directory in /etc /run /var/lib /var/log; do mount -t tmpfs -o mode=755 tmpfs $directory; done
        mkdir -p /etc/containerd; echo 'version = 2' >/etc/containerd/config.toml
        mkdir -p /etc/pss-guard /run/containerd/io.containerd.grpc.v1.cri/sandboxes
        mkdir -p /var/lib/kubelet/pods; echo 'mode = \"audit\"' >/etc/pss-guard/policy.toml
        set +e; eval \"$1\"; for command in 'mode enforce --yes' 'install --engine containerd --dry-run' status; do
        \"$0\" $command 2>&1; echo \"exit $?\"; done";
    let said = |open: &str| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", node]);
        run::run(command.arg(program::binary()).arg(open)).stdout
    };
    for (open, fault) in [
        ("chmod 777 /var/lib/kubelet", "/var/lib/kubelet must be writable by root alone"),
        ("chown 1000 /var/lib/kubelet/pods", "/var/lib/kubelet/pods must be owned by root"),
        ("chmod 777 /run/containerd", "/run/containerd must be writable by root alone"),
    ] {
        let said = said(open);
        assert_eq!(said.matches(fault).count(), 3, "{open}: {said}");
        let wrong = said.lines().any(|line| line.contains("WRONG") && line.contains(fault));
        assert!(wrong && said.matches("exit 2").count() == 2 && said.ends_with("exit 1\n"), "{open}: {said}");
    }
    let said = said("true");
    assert!(!said.contains("must be") && said.contains("exit 0"), "{said}");
}

/// The author of a static pod chooses its UID (`pkg/kubelet/config/common.go` applyDefaults): one that can be no directory
/// is still none of another pod's.
#[test]
fn another_pods_volume_by_a_uid_that_is_no_name() {
    if !can_run("attacks::mounts::another_pods_volume_by_a_uid_that_is_no_name") {
        return;
    }
    let node = RuntimeNode::new(Engine::Containerd, Runtime::Runc);
    let scene = Scene::of(&node);
    let pods = scene.sandbox.place.pod_dir.parent().unwrap();
    let theirs = pods.join("b5e1cb5e-0b5a-4b0e-9d3e-7d1f0c6c9a11/volumes/kubernetes.io~secret/s");
    fs::create_dir_all(&theirs).unwrap();
    fs::write(theirs.join("secret"), SECRET).unwrap();
    let id = &scene.sandbox.place.sandbox_id;
    let file = node.bundle(id).join("config.json");
    let mut sandbox: Value = serde_json::from_str(&run::read(&file)).unwrap();
    for uid in [".", "a/b"] {
        sandbox["annotations"]["io.kubernetes.cri.sandbox-uid"] = json!(uid);
        let logs = format!("/var/log/pods/shop_web-0_{uid}");
        sandbox["annotations"]["io.kubernetes.cri.sandbox-log-directory"] = json!(logs);
        fs::write(&file, sandbox.to_string()).unwrap();
        scene.is_refused_when(uid, |spec, place| {
            spec["annotations"]["io.kubernetes.cri.sandbox-uid"] = json!(uid);
            mount(spec, place, &theirs);
        });
    }
}

/// crun reads strings as C does, to the first zero byte; the gate and runc read all of one.
#[test]
fn an_option_that_ends_in_a_zero_byte() {
    if !needs::can_run("attacks::mounts::an_option_that_ends_in_a_zero_byte", &["crun", "busybox", "mount"]) {
        return;
    }
    let node = RuntimeNode::new(Engine::Containerd, Runtime::Crun);
    let scene = Scene::of(&node);
    let source = scene.host.path().to_owned();
    let change = |spec: &mut Value, _: &Place| {
        add(
            spec,
            &json!({"destination": "/stolen", "type": "tmpfs", "source": source, "options": ["rbind\0"]}),
        );
    };
    let open = scene.sandbox.start_changed(Gate::Absent, change);
    assert!(open.said.contains(SECRET), "the attack does not work\n{open}");
    for gate in [Gate::Hook, Gate::Wrapper] {
        let attempt = scene.sandbox.start_changed(gate, change);
        let said = attempt.events.iter().any(|event| event["MESSAGE"].to_string().contains("zero byte"));
        assert!(!attempt.ran && said, "by {gate:?}\n{attempt}");
    }
}

/// A FUSE file system that answers nothing.
struct DeadServer(PathBuf, #[allow(dead_code, reason = "keeps the file system alive")] fs::File);

impl DeadServer {
    fn at(point: &Path) -> Option<Self> {
        use std::os::fd::AsRawFd as _;
        let device = fs::OpenOptions::new().read(true).write(true).open("/dev/fuse").ok()?;
        fs::create_dir_all(point).unwrap();
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("dead"), point, Some("fuse"), flags, Some(options.as_str())).ok()?;
        Some(Self(point.to_owned(), device))
    }
}

impl Drop for DeadServer {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}
