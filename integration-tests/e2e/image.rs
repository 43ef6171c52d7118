//! The image: its bytes, and what it does to its node from a container, by the commands of `docs/install.md`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::documents::blocks;
use crate::support::engine::{Engine, Kind};
use crate::support::gate::policy;
use crate::support::machine::{Machine, changed};
use crate::support::pod::Pod;
use crate::support::run::{self, Done};
use crate::support::{cri, needs, podman, program};

const INSTALL: &str = "docs/install.md";
const CONFIG: &str = "/etc/containerd/config.toml";
const GATE: &str = "/var/lib/pss-guard/bin/pss-guard-gate";

/// Where `make image` has left the image.
fn image(test: &str) -> Option<PathBuf> {
    let dist = program::dist();
    if dist.is_none() {
        needs::skip(test, "the image (make e2e has make image build it)");
    }
    dist
}

/// A line of a document with this version.
fn of_this_version(text: &str) -> String {
    text.replace("VERSION", env!("CARGO_PKG_VERSION"))
}

#[test]
fn the_same_programs_give_the_same_bytes() {
    let test = "image::the_same_programs_give_the_same_bytes";
    let Some(dist) = image(test) else { return };
    if !needs::can_run(test, &["jq", "git", "tar"]) {
        return;
    }
    let build = |programs: [&str; 2], umask: &str| {
        let dir = tempfile::tempdir().unwrap();
        for (machine, platform) in ["x86_64", "aarch64"].into_iter().zip(programs) {
            // A copy has a time of its own.
            let (from, to) = (dist.join("image").join(platform), dir.path().join(machine));
            fs::create_dir(&to).unwrap();
            for program in ["pss-guard", "pss-guard-gate", "pss-guard-agent"] {
                fs::copy(from.join(program), to.join(program)).unwrap();
            }
        }
        let mut sh = Command::new("sh");
        sh.args(["-c", &format!("umask {umask} && exec deploy/image/build \"$@\"")]).arg("sh");
        sh.arg(dir.path()).arg(dir.path().join("out")).current_dir(env!("CARGO_MANIFEST_DIR"));
        let done = run::run(&mut sh);
        let archive = dir.path().join(of_this_version("out/pss-guard-VERSION.oci.tar"));
        (done, fs::read(archive).unwrap_or_default())
    };
    let [(one, first), (other, second)] = ["022", "077"].map(|umask| build(["amd64", "arm64"], umask));
    assert!(first.len() > 1 << 20 && first == second, "{one}\n{other}");
    let (swapped, nothing) = build(["arm64", "amd64"], "022");
    assert!(swapped.code == Some(1) && nothing.is_empty(), "{swapped}");
    assert!(swapped.stderr.contains("is not a program for x86_64"), "{swapped}");
}

/// A node with containerd and podman, and the image in both.
struct Node {
    engine: Engine,
    /// The document's commands: to look, and to change.
    lines: [String; 2],
}

impl Node {
    /// By the commands that load it.
    fn up(dist: &Path) -> Self {
        let texts = blocks(INSTALL, "sh");
        let [load, look, change] = &texts[..] else { panic!("other commands: {texts:?}") };
        let engine = Engine::up(Kind::Containerd2);
        let machine = &engine.machine;
        podman::lay_out(machine);
        // The machine below has the same folders of the checkout.
        let archive = fs::canonicalize(dist.join(of_this_version("pss-guard-VERSION.oci.tar"))).unwrap();
        symlink(archive, machine.path(&of_this_version("/run/machine/pss-guard-VERSION.oci.tar"))).unwrap();
        machine.run(&["sh", "-ec", &format!("cd /run/machine\n{}", of_this_version(load))]).expect_success();
        // A place that does not stay, as the image is: what is installed is put on the PATH.
        machine
            .run(&["sh", "-ec", "mkdir /run/machine/own && cp /opt/pss-guard* /run/machine/own"])
            .expect_success();
        Self { lines: [look, change].map(|line| of_this_version(line)), engine }
    }

    /// A command in a container by the line that looks.
    fn look(&self, command: &str) -> Done {
        self.machine().run(&["sh", "-c", &self.lines[0].replace("status --running", command)])
    }

    /// The same by the line that changes the node.
    fn change(&self, command: &str) -> Done {
        let command = format!("{command} --engine containerd");
        self.machine().run(&[
            "sh",
            "-c",
            &self.lines[1].replace("install --engine containerd --dry-run", &command),
        ])
    }

    /// The same on the node itself.
    fn own(&self, command: &str) -> Done {
        self.machine().run(&["sh", "-c", &format!("/run/machine/own/pss-guard {command}")])
    }

    fn machine(&self) -> &Machine {
        &self.engine.machine
    }
}

/// What a command printed, without the times.
fn plain(done: &Done) -> (Option<i32>, String) {
    let mut words: Vec<&str> = done.stdout.split([' ', '"']).collect();
    for nth in 1..words.len() {
        if words[nth].starts_with("second") || words[nth].starts_with("minute") {
            (words[nth - 1], words[nth]) = ("", "");
        }
        // RFC 3339, of now.
        if words[nth].len() == 20 && words[nth].starts_with("20") && words[nth].ends_with('Z') {
            words[nth] = "";
        }
    }
    (done.code, words.join(" "))
}

#[test]
fn a_container_does_to_its_node_what_the_node_does_itself() {
    let test = "image::a_container_does_to_its_node_what_the_node_does_itself";
    let Some(dist) = image(test) else { return };
    if !Kind::Containerd2.can_run(test) || !needs::can_run(test, &["podman", "skopeo"]) {
        return;
    }
    let mut node = Node::up(&dist);
    node.machine().write("/etc/pss-guard/policy.toml", &policy("enforce"));
    // Its name, where a container cannot ask the kernel.
    node.machine().write("/etc/hostname", "node\n");
    // Files that programs make at their first call.
    node.own("status");
    node.look("status");
    let before = node.machine().snapshot();

    let containerfile = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/image/Containerfile");
    let context = fs::canonicalize(dist.join("image")).unwrap().display().to_string();
    for platform in ["linux/arm64", "linux/amd64"] {
        let build = ["podman", "build", "--network=none", "--platform", platform, "--file", containerfile];
        node.machine()
            .run(&[&build[..], &["--tag", "localhost/built:1", &context]].concat())
            .expect_success();
    }
    let built =
        node.machine().run(&["podman", "run", "--rm", "--network=none", "localhost/built:1", "--version"]);
    assert_eq!(built.stdout, of_this_version("pss-guard VERSION\n"), "{built}");

    let dry = node.change("install --dry-run").expect_success();
    assert_eq!(dry.stdout, node.own("install --engine containerd --dry-run").stdout, "{dry}");
    assert!(dry.stdout.contains("+++ /etc/containerd/config.toml"), "{dry}");
    assert_eq!(changed(&before, &node.machine().snapshot()), [""; 0], "a dry run changes nothing");

    let installed = node.change("install").expect_success();
    assert!(installed.stdout.contains(&format!("wrote {GATE}")), "{installed}");
    let of_image = fs::read(dist.join("image/amd64/pss-guard-gate")).unwrap();
    assert!(fs::read(node.machine().path(GATE)).unwrap() == of_image, "the gate is the image's");
    // The engine runs with what it read before, and neither calls that good.
    for status in [node.look("status --running --engine containerd"), node.own("status --engine containerd")]
    {
        assert_eq!(status.code, Some(1), "{status}");
        assert!(status.stdout.contains("has not read its configuration since then"), "{status}");
    }
    node.engine.restart();
    let asked = cri::ask(&node.engine, &Pod::compliant());
    assert!(asked.ran, "{:?}\n{}", asked.calls, node.engine.said());
    let refused = cri::start(&node.engine, &Pod { name: "bare", ..Pod::bare() });
    assert!(refused.refusal().is_some_and(|said| said.contains("violates PodSecurity")), "{refused}");
    for command in [
        "status --engine containerd",
        "status --engine containerd --verbose",
        "scan --namespace shop",
        "scan --namespace shop --level restricted --format json",
        "mode --format json",
    ] {
        let (inside, outside) = (node.look(command), node.own(command));
        assert_eq!(plain(&inside), plain(&outside), "{command}\n{inside}\n{outside}");
        assert_eq!(inside.code, Some(0), "{inside}");
    }
    the_pod_of_the_document(&node);
    asked.end(&node.engine);

    // By a command that ends a process, and with probes.
    let restart = node.engine.restart_command();
    let line = node.lines[1].replace("--network=none", "--network=none --pid=host").replace(
        "install --engine containerd --dry-run",
        &format!("uninstall --engine containerd --restart --restart-command '{restart}'"),
    );
    node.machine().run(&["sh", "-c", &line]).expect_success();
    assert_eq!(changed(&before, &node.machine().snapshot()), [""; 0], "every byte is as it was");
    let line = line.replace("uninstall", "install");
    let proved = node.machine().run(&["sh", "-c", &line]).expect_success();
    assert!(proved.stdout.contains("seen: a forbidden probe was refused"), "{proved}");
    node.change("uninstall").expect_success();
}

/// The pod as containerd gets it from the kubelet.
fn the_pod_of_the_document(node: &Node) {
    let [manifest] = &blocks(INSTALL, "yaml")[..] else { panic!("another manifest") };
    node.machine().write("/run/machine/status.yaml", &of_this_version(manifest));
    let check = node.own("check --format json --level baseline /run/machine/status.yaml");
    let found: Value = serde_json::from_str(check.stdout.lines().next().unwrap()).unwrap();
    let findings = found["findings"].as_array().unwrap().iter();
    let controls: Vec<&str> = findings.map(|finding| finding["control"].as_str().unwrap()).collect();
    let expected = ["appArmorProfile", "capabilities_baseline", "hostPathVolumes", "seLinuxOptions"];
    assert_eq!(controls, expected, "{check}");

    let write = |name: &str, value: &Value| {
        let path = format!("/run/machine/{name}.json");
        node.machine().write(&path, &value.to_string());
        path
    };
    let sandbox = json!({
        "metadata": {"name": "pss-guard-status", "namespace": "kube-system", "uid": "c0ffee01-1d4f-4e7d-941e-7a1219bef1c5"},
        "log_directory": "/run/machine/logs",
        "linux": {},
    });
    let container = json!({
        "metadata": {"name": "status"},
        "image": {"image": of_this_version("localhost/pss-guard:VERSION")},
        "args": ["--root", "/host", "status", "--running", "--engine", "containerd"],
        "log_path": "status.log",
        "mounts": [{"container_path": "/host", "host_path": "/", "readonly": true, "propagation": 1}],
        "linux": {"security_context": {
            "run_as_user": {"value": 0},
            "no_new_privs": true,
            "readonly_rootfs": true,
            "capabilities": {
                "add_capabilities": ["SYS_CHROOT", "SYS_PTRACE", "DAC_READ_SEARCH"],
                "drop_capabilities": ["ALL"],
            },
            "seccomp": {"profile_type": 0},
        }},
    });
    let (sandbox, container) = (write("sandbox", &sandbox), write("container", &container));
    let call = |line: &[&str]| node.engine.crictl(line).expect_success().stdout.trim().to_owned();
    let pod = call(&["runp", &sandbox]);
    let id = call(&["create", "--no-pull", &pod, &container, &sandbox]);
    call(&["start", &id]);
    let state = || -> Value { serde_json::from_str(&call(&["inspect", &id])).unwrap() };
    assert!(run::eventually(|| state()["status"]["state"] == "CONTAINER_EXITED"), "{}", state());
    let said = node.engine.crictl(&["logs", &id]);
    assert_eq!(state()["status"]["exitCode"], 0, "{said}");
    assert!(said.stdout.starts_with("enforcing: the gate is active for containerd"), "{said}");
    call(&["rmp", "--force", &pod]);
}

/// Each row would be called good by a program that believes what it sees.
#[test]
fn what_a_container_does_not_see_is_an_error() {
    let test = "image::what_a_container_does_not_see_is_an_error";
    let Some(dist) = image(test) else { return };
    if !Kind::Containerd2.can_run(test) || !needs::can_run(test, &["podman", "skopeo"]) {
        return;
    }
    let mut node = Node::up(&dist);
    node.machine().write("/etc/pss-guard/policy.toml", &policy("enforce"));
    node.change("install").expect_success();
    node.engine.restart();
    let good = node.look("status --running --engine containerd");
    assert_eq!(good.code, Some(0), "{good}");
    node.machine().run(&["cp", "-a", "/etc", "/opt/etc"]).expect_success();
    let containerd =
        node.machine().run(&["sh", "-c", "cat /run/machine/engine.pid"]).stdout.trim().to_owned();
    let over_process = format!("--volume=/:/host:ro --volume=/opt/etc:/host/proc/{containerd}");
    let volume = "--volume=/:/host:ro";
    // (what is different, what of the command is replaced, with what, what is said)
    let rows: [(&str, &str, &str, &str); 12] = [
        (
            "no SYS_CHROOT",
            "SYS_CHROOT,",
            "",
            "Operation not permitted (os error 1); this takes root with CAP_SYS_CHROOT",
        ),
        ("no SYS_PTRACE", "SYS_PTRACE,", "", "/proc/1/exe: Permission denied"),
        (
            "a user namespace",
            "--read-only",
            "--read-only --uidmap=0:100000:65536",
            "/proc/1/exe: Permission denied",
        ),
        ("a user", "--read-only", "--read-only --user=1000", "only root can see which engines run"),
        ("another folder", volume, "--volume=/opt:/host:ro", "is not the root of the running node"),
        (
            "no mounts below it",
            volume,
            "--mount=type=bind,src=/,dst=/host,bind-nonrecursive,ro",
            "is not the root of the running node",
        ),
        (
            "no /proc",
            volume,
            "--volume=/:/host:ro --volume=/opt/etc:/host/proc",
            "is not the root of the running node",
        ),
        ("an engine's process hidden", volume, &over_process, " is another mount there"),
        (
            "a copy of /etc",
            volume,
            "--volume=/:/host:ro --volume=/opt/etc:/host/etc",
            ": /etc is another mount there",
        ),
        (
            "a copy of the engine's file",
            volume,
            "--volume=/:/host:ro --volume=/opt/etc/containerd/config.toml:/host/etc/containerd/config.toml",
            ": /etc/containerd/config.toml is another mount there",
        ),
        (
            "a gate of its own",
            volume,
            "--volume=/:/host:ro --volume=/opt/pss-guard-gate:/host/var/lib/pss-guard/bin/pss-guard-gate",
            ": /var/lib/pss-guard/bin/pss-guard-gate is another mount there",
        ),
        (
            "an empty folder of bundles",
            volume,
            "--volume=/:/host:ro --volume=/opt/cni:/host/run/containerd",
            ": /run/containerd is another mount there",
        ),
    ];
    node.machine().run(&["mkdir", "-p", "/opt/cni"]).expect_success();
    for (what, from, to, expected) in rows {
        assert!(node.lines[0].contains(from), "{from}: {}", node.lines[0]);
        let line = node.lines[0].replace(from, to).replace("--running", "--running --engine containerd");
        let done = node.machine().run(&["sh", "-c", &line]);
        assert_eq!(done.code, Some(2), "{what}: {done}");
        assert!(format!("{}{}", done.stdout, done.stderr).contains(expected), "{what}: {done}");
    }
    // Nothing else that rests on processes goes on without them, and nothing is written.
    let blind = node.lines[1].replace("SYS_PTRACE,", "");
    let before = node.machine().snapshot();
    for command in ["install --engine containerd", "uninstall", "scan", "metrics"] {
        let line = blind.replace("install --engine containerd --dry-run", command);
        let done = node.machine().run(&["sh", "-c", &line]);
        assert!(done.code == Some(2) && done.stderr.contains("CAP_SYS_PTRACE"), "{command}: {done}");
    }
    assert_eq!(changed(&before, &node.machine().snapshot()), [""; 0]);
    // Without any container.
    let apart =
        node.machine().run(&["unshare", "--pid", "--fork", "--mount-proc", "/opt/pss-guard", "status"]);
    assert!(apart.code == Some(2) && apart.stderr.contains("another PID namespace"), "{apart}");
    what_the_node_mounts_later(&node);
}

/// A container that stays sees what the node has mounted since only by propagation; without it, it knows that it does not.
fn what_the_node_mounts_later(node: &Node) {
    for (propagation, told) in [
        ("", "/var/lib/pss-guard is another mount there"),
        (":rslave", "no gate is installed for containerd"),
    ] {
        let stay = "--detach --name=stays --entrypoint=/host/bin/busybox";
        let line = node.lines[0]
            .replace("--rm", stay)
            .replace("/host:ro", &format!("/host{propagation}"))
            .replace("--root /host status --running", "sleep 1000");
        node.machine().run(&["sh", "-c", &line]).expect_success();
        let status = "podman exec stays /pss-guard --root /host status --running --engine containerd";
        node.machine().run(&["sh", "-c", status]).expect_success();
        node.machine().run(&["mount", "-t", "tmpfs", "tmpfs", "/var/lib/pss-guard"]).expect_success();
        assert_eq!(node.own("status --engine containerd").code, Some(1), "the gate is gone");
        let done = node.machine().run(&["sh", "-c", status]);
        assert_ne!(done.code, Some(0), "{propagation}: {done}");
        assert!(format!("{}{}", done.stdout, done.stderr).contains(told), "{propagation}: {done}");
        node.machine().run(&["umount", "/var/lib/pss-guard"]).expect_success();
        node.machine().run(&["podman", "rm", "--force", "stays"]).expect_success();
    }
    assert_eq!(node.own("status --engine containerd").code, Some(0));
    assert!(node.machine().read(CONFIG).contains("pss-guard-runtime"));
}
