//! Processes in containers that pass for the node's own.
//!
//! Each is called like an engine, is root's, and sees the host's own configuration file where it would be asked for, or a file system that
//! never answers. The engine is a real containerd, the containers are runc's.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::engine::{Engine, Kind};
use crate::support::machine::Machine;
use crate::support::run::{self, Done};
use crate::support::{image, needs};

/// The image of the containers, in which `/etc/containerd` is a link to `/etc/containerd`.
const IMAGE: &str = "/run/image";

/// The file that an engine is known by.
const CONFIG: &str = "/etc/containerd/config.toml";

fn lay_out(machine: &Machine) {
    image::unpack(&machine.path(IMAGE));
    machine.run(&["ln", "-s", "/etc/containerd", &format!("{IMAGE}/etc/containerd")]).expect_success();
    machine.run(&["mkdir", "-p", &format!("{IMAGE}/host"), "/run/srv/bin"]).expect_success();
    compile(machine, &format!("{IMAGE}/bin/containerd"), "int main(void) { sleep(1000); }");
    // What stays beside containers takes in what loses its parent.
    let shim = "int main(int count, char **words) {
            prctl(PR_SET_CHILD_SUBREAPER, 1); if (fork() == 0) execvp(words[1], words + 1); sleep(1000); }";
    compile(machine, "/run/srv/bin/containerd-shim-runc-v2", shim);
}

const HEADERS: &str = "#include <fcntl.h>\n#include <stdio.h>\n#include <sys/mount.h>\n#include <sys/prctl.h>\n#include <unistd.h>\n";

fn compile(machine: &Machine, program: &str, source: &str) {
    machine.write("/run/source.c", &format!("{HEADERS}{source}\n"));
    machine.run(&["cc", "-static", "-o", program, "/run/source.c"]).expect_success();
}

/// Runs a container beside the caller, by the words of another program if there are any; its first process.
fn contain(machine: &Machine, id: &str, by: &str, change: impl FnOnce(&mut Value)) -> String {
    let bundle = format!("/run/srv/{id}");
    machine.run(&["mkdir", "-p", &bundle]).expect_success();
    machine.run(&["runc", "spec", "--bundle", &bundle]).expect_success();
    let mut config: Value =
        serde_json::from_str(&machine.read(&format!("{bundle}/config.json"))).expect("JSON");
    config["root"]["path"] = json!(IMAGE);
    config["process"]["terminal"] = json!(false);
    // As a pod says it, so that the wrong engine would be asked.
    config["process"]["args"] = json!(["/bin/containerd", "--address", "/run/evil.sock"]);
    config["linux"]["cgroupsPath"] = json!(format!("/podless/{id}"));
    change(&mut config);
    machine.write(&format!("{bundle}/config.json"), &config.to_string());
    let run = format!(
        "{by} runc run --detach --bundle {bundle} --pid-file {bundle}/pid {id} </dev/null >/dev/null 2>&1 &"
    );
    machine.run(&["sh", "-c", &run]).expect_success();
    let pid = || machine.read(&format!("{bundle}/pid"));
    let runs = || {
        !pid().is_empty()
            && said(machine, &format!("readlink /proc/{}/exe", pid())).ends_with("/containerd\n")
    };
    assert!(
        run::eventually(runs),
        "{id} does not run: {}",
        said(machine, &format!("runc list; ls -l /proc/{}/exe", pid()))
    );
    pid()
}

/// With the host's root directory for its own, as a pod with a hostPath `/` makes it.
fn in_the_hosts_root(config: &mut Value) {
    let mount = json!({"destination": "/host", "type": "bind", "source": "/", "options": ["rbind"]});
    config["mounts"].as_array_mut().expect("mounts").push(mount);
    for set in ["bounding", "effective", "permitted"] {
        config["process"]["capabilities"][set] = json!(["CAP_SYS_CHROOT", "CAP_SYS_PTRACE"]);
    }
    let words =
        ["/bin/busybox", "chroot", "/host", "/run/image/bin/containerd", "--address", "/run/evil.sock"];
    config["process"]["args"] = json!(words);
}

/// With the host's processes, too.
fn among_the_hosts_processes(config: &mut Value) {
    in_the_hosts_root(config);
    without(config, "pid");
}

fn without(config: &mut Value, kind: &str) {
    let namespaces = config["linux"]["namespaces"].as_array_mut().expect("namespaces");
    namespaces.retain(|namespace| namespace["type"] != kind);
}

fn said(machine: &Machine, script: &str) -> String {
    machine.run(&["sh", "-c", script]).stdout
}

/// The file behind a path, as whoever follows it sees it.
fn identity(machine: &Machine, path: &str) -> String {
    machine.run(&["stat", "--dereference", "--format", "%d:%i", path]).expect_success().stdout
}

#[test]
fn no_process_in_a_container_passes_for_the_engine_of_the_node() {
    let test = "attacks::processes::no_process_in_a_container_passes_for_the_engine_of_the_node";
    if !Kind::Containerd2.can_run(test) || !needs::can_run(test, &["cc"]) {
        return;
    }
    let mut engine = Engine::up(Kind::Containerd2);
    lay_out(&engine.machine);
    let machine = &engine.machine;
    let linked = contain(machine, "linked", "", |config| without(config, "pid"));
    let chrooted = contain(machine, "chrooted", "", in_the_hosts_root);
    let of_a_pod = contain(machine, "of-a-pod", "", |config| {
        among_the_hosts_processes(config);
        config["linux"]["cgroupsPath"] = json!("/kubepods/besteffort/pod1/of-a-pod");
    });
    let shimmed =
        contain(machine, "shimmed", "/run/srv/bin/containerd-shim-runc-v2", among_the_hosts_processes);
    let all = [&linked, &chrooted, &of_a_pod, &shimmed];

    // The control: whoever goes by the paths of these processes takes each of them for the node's engine.
    for pid in all {
        let theirs = identity(machine, &format!("/proc/{pid}/root{CONFIG}"));
        assert_eq!(theirs, identity(machine, CONFIG), "process {pid} shares the host's file");
    }
    for pid in &all[1..] {
        assert_eq!(
            identity(machine, &format!("/proc/{pid}/root/")),
            identity(machine, "/"),
            "its root is the host's"
        );
    }

    // The real engine is the youngest of all after its restart, and none of the others is asked in its place.
    let restart = engine.restart_command();
    let line =
        ["/opt/pss-guard", "install", "--engine", "containerd", "--restart", "--restart-command", &restart];
    let done = engine.machine.run(&line);
    assert!(done.code == Some(0) && done.stdout.contains("a forbidden probe was"), "{done}{}", engine.said());
    assert!(!done.stdout.contains("rolled back") && !done.stderr.contains("rolled back"), "{done}");

    let status =
        |engine: &Engine| engine.machine.run(&["/opt/pss-guard", "status", "--engine", "containerd"]).stdout;
    let before = status(&engine);
    let own = said(&engine.machine, "cat /run/machine/engine.pid");
    assert!(before.contains(&format!("containerd (process {}) started", own.trim())), "{before}");
    assert!(before.contains(" and 3 more: engines in containers;"), "{before}");

    engine.stop();
    let without = status(&engine);
    assert!(without.contains("containerd is not running"), "{without}");
    // The other side: an engine with mounts of its own, as systemd makes them, that a script has started.
    let private = format!(
        "mkdir -p /run/srv/engine; cp {IMAGE}/bin/containerd /run/srv/engine; cd /
         unshare --mount --propagation private sh -c 'mount -t tmpfs tmpfs /tmp; /run/srv/engine/containerd & echo $! >/run/private; wait' </dev/null >/dev/null 2>&1 &"
    );
    engine.machine.run(&["sh", "-c", &private]).expect_success();
    let pid = || engine.machine.read("/run/private").trim().to_owned();
    assert!(run::eventually(
        || said(&engine.machine, &format!("readlink /proc/{}/exe", pid())).contains("engine/containerd")
    ));
    let with_its_own_mounts = status(&engine);
    assert!(
        with_its_own_mounts.contains(&format!("containerd (process {}) started", pid())),
        "{with_its_own_mounts}"
    );
}

/// A program that mounts a FUSE at its first argument, answers nothing, and goes on by another name.
const SILENT: &str = r#"int main(int count, char **words) {
    char options[99];
    sprintf(options, "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", open("/dev/fuse", O_RDWR));
    if (mount("silent", words[1], "fuse", 0, options)) { perror("mount"); return 1; }
    close(open("/run/silent", O_CREAT | O_WRONLY, 0600));
    sleep(1000);
}"#;

/// A command that may hang where nobody can end it but by an end of the FUSE that it waits for.
#[expect(
    clippy::zombie_processes,
    reason = "who waits for a FUSE cannot be waited for; the machine's end is his"
)]
fn in_time(machine: &Machine, line: &[&str]) -> Option<Done> {
    let (out, err) = ("/run/machine/out", "/run/machine/err");
    let script = format!("\"$@\" >{out} 2>{err}; echo $? >/run/machine/code");
    let mut command = machine.command("sh");
    command.args(["-c", &script, "sh"]).args(line).stdin(Stdio::null());
    let _ = std::fs::remove_file(machine.path("/run/machine/code"));
    let mut child = command.spawn().expect("nsenter is there");
    let end = Instant::now() + Duration::from_secs(20);
    while Instant::now() < end {
        if matches!(child.try_wait(), Ok(Some(_))) {
            return Some(machine.run(&[
                "sh",
                "-c",
                &format!("cat {out}; cat {err} >&2; exit $(cat /run/machine/code)"),
            ]));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    // It ends with the machine.
    None
}

#[test]
fn nothing_waits_for_a_file_system_that_a_container_or_a_user_brings() {
    let test = "attacks::processes::nothing_waits_for_a_file_system_that_a_container_or_a_user_brings";
    if !Machine::can_run(test, &["cc", "setpriv"], &[]) {
        return;
    }
    if !std::path::Path::new("/dev/fuse").exists() {
        needs::skip(test, "/dev/fuse");
        return;
    }
    let machine = Machine::up();
    machine.write(CONFIG, "version = 2\n");
    machine.write("/var/lib/pss-guard/install/containerd/manifest.json", MANIFEST);
    lay_out(&machine);
    // In place of the link, a folder on which the container mounts.
    machine.run(&["rm", &format!("{IMAGE}/etc/containerd")]).expect_success();
    machine.run(&["mkdir", &format!("{IMAGE}/etc/containerd")]).expect_success();
    compile(&machine, &format!("{IMAGE}/bin/containerd"), SILENT);
    let pid = contain(&machine, "silent", "", |config| {
        config["process"]["args"] = json!(["/bin/containerd", "/etc/containerd"]);
        config["root"]["readonly"] = json!(false);
        for set in ["bounding", "effective", "permitted"] {
            config["process"]["capabilities"][set] = json!(["CAP_SYS_ADMIN"]);
        }
        config["linux"]["devices"] =
            json!([{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 438}]);
        config["linux"]["resources"] = json!({"devices": [{"allow": true, "access": "rwm"}]});
    });
    let mounted = || said(&machine, &format!("cat /proc/{pid}/mountinfo")).contains("/etc/containerd ");
    assert!(run::eventually(mounted), "{}", said(&machine, &format!("cat /proc/{pid}/mountinfo")));

    // A user's, where root would look, and a monitor of his that says that his container is there.
    machine.run(&["mkdir", "-p", "/run/srv/user/silent"]).expect_success();
    compile(&machine, "/run/srv/bin/silent", SILENT);
    machine
        .run(&["sh", "-c", "/run/srv/bin/silent /run/srv/user/silent </dev/null >/dev/null 2>&1 &"])
        .expect_success();
    compile(&machine, "/run/srv/bin/conmon", "int main(void) { sleep(1000); }");
    let monitor = "setpriv --reuid=65534 --regid=65534 --clear-groups /run/srv/bin/conmon \
        -b /run/srv/user/silent/x/userdata -p /run/srv/user/silent/pid </dev/null >/dev/null 2>&1 &
        echo $$ >/run/srv/user/pid
        setpriv --reuid=65534 --regid=65534 --clear-groups /run/srv/bin/conmon \
        -b /run/srv/user/silent/y/userdata -p /run/srv/user/pid </dev/null >/dev/null 2>&1 & sleep 1";
    machine.run(&["sh", "-c", monitor]).expect_success();
    assert!(run::eventually(|| said(&machine, "cat /proc/self/mountinfo").contains("/run/srv/user/silent ")));

    // The control: who follows either path waits, and does not end when he is killed.
    for path in [format!("/proc/{pid}/root{CONFIG}"), "/run/srv/user/silent/pid".to_owned()] {
        let wait = format!("stat {path} & sleep 1; grep ^State /proc/$!/status");
        let state = said(&machine, &wait);
        assert!(state.contains("State:\tD") || state.contains("State:\tS"), "{path}: {state}");
    }

    for line in [
        &["status"][..],
        &["metrics"],
        &["scan"],
        &["scan", "--format", "json"],
        &["report"],
        &["install", "--dry-run"],
    ] {
        let done = in_time(&machine, &[&["/opt/pss-guard"], line].concat());
        let Some(done) = done else { panic!("pss-guard {} hangs", line.join(" ")) };
        if line == ["status"] {
            assert!(
                done.stdout.contains(&format!("process {pid} (/bin/containerd): engines in containers")),
                "{done}"
            );
        }
        if line == ["scan"] {
            let why = "it is on a file system that may not answer";
            assert!(
                done.stdout.contains(&format!(
                    "/run/srv/user/silent/x/userdata: open /run/srv/user/silent/pid: {why}"
                )),
                "{done}"
            );
        }
    }
}

const MANIFEST: &str = r#"{"version":1,"program":"x","method":"runtime","config":null,"entries":[],"files":[],"folders":[],"shared":[]}"#;
