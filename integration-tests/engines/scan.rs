//! What does `scan` say of containers that run? A machine with a real runtime, called as containerd's shim calls it.

use std::collections::BTreeSet;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::captured::objects;
use crate::support::image;
use crate::support::machine::Machine;
use crate::support::run::{self, Done};

/// A machine on which containers run under a real runtime, as containerd's shim calls it.
struct Running {
    machine: Machine,
}

const TASKS: &str = "/run/containerd/io.containerd.runtime.v2.task/k8s.io";

impl Running {
    fn up() -> Self {
        let machine = Machine::up();
        image::unpack(&machine.path("/run/image"));
        Self { machine }
    }

    /// Creates a container from what `runc spec` writes, with changes; it waits to be started.
    fn create(&self, id: &str, change: impl FnOnce(&mut Value)) {
        let bundle = format!("{TASKS}/{id}");
        let root = format!("{bundle}/rootfs");
        self.machine.run(&["mkdir", "-p", &root]).expect_success();
        // As containerd mounts a snapshot: a root file system of another place would be a path of the host.
        self.machine.run(&["mount", "--bind", "/run/image", &root]).expect_success();
        self.machine.run(&["runc", "spec", "--bundle", &bundle]).expect_success();
        self.rewrite(id, |config| {
            config["root"]["path"] = json!("rootfs");
            config["process"]["terminal"] = json!(false);
            config["process"]["args"] = json!(["/bin/sleep", "1000"]);
            config["annotations"] = json!({
                "io.kubernetes.cri.container-type": "container",
                "io.kubernetes.cri.sandbox-namespace": "shop",
                "io.kubernetes.cri.sandbox-name": id,
                "io.kubernetes.cri.container-name": "app",
            });
            change(config);
        });
        let pid = format!("{bundle}/init.pid");
        self.runc(&["create", "--bundle", &bundle, "--pid-file", &pid, id]).expect_success();
    }

    /// Adds a program to the image.
    fn compile(&self, name: &str, source: &str) {
        let source = format!("#include <pthread.h>\n#include <unistd.h>\n{source}\n");
        self.machine.write("/run/source.c", &source);
        let program = format!("/run/image/bin/{name}");
        self.machine.run(&["cc", "-static", "-o", &program, "/run/source.c", "-lpthread"]).expect_success();
    }

    fn start(&self, id: &str) {
        self.runc(&["start", id]).expect_success();
    }

    fn runc(&self, line: &[&str]) -> Done {
        self.machine.run(&[&["runc", "--root", "/run/containerd/runc/k8s.io"], line].concat())
    }

    fn rewrite(&self, id: &str, change: impl FnOnce(&mut Value)) {
        let file = format!("{TASKS}/{id}/config.json");
        let mut config: Value = serde_json::from_str(&self.machine.read(&file)).expect("JSON");
        change(&mut config);
        self.machine.write(&file, &config.to_string());
    }

    fn scan(&self, options: &[&str]) -> Done {
        self.machine.run(&[&["/opt/pss-guard", "scan"], options].concat())
    }

    /// What a container runs with and was not asked for: the controls, and what runs.
    fn drift(&self, id: &str) -> Vec<(String, String)> {
        let done = self.scan(&["--format", "json"]).expect_success();
        let found: Vec<Value> =
            objects(&done).into_iter().filter(|one| one["container"]["id"] == id).collect();
        assert_eq!(found.len(), 1, "{id} is found once\n{done}");
        let text = |drift: &Value, field: &str| drift[field].as_str().expect("text").to_owned();
        let drift = found[0]["drift"].as_array().expect("an array");
        drift.iter().map(|one| (text(one, "control"), text(one, "runs"))).collect()
    }
}

type Change = fn(&mut Value);

type Row<'a> = (&'a str, Change, Change, &'a [(&'a str, &'a str)]);

fn nothing(_: &mut Value) {}

fn has_capabilities(config: &mut Value, names: &[&str]) {
    for set in ["bounding", "effective", "permitted"] {
        config["process"]["capabilities"][set] = json!(names);
    }
}

fn capable(config: &mut Value) {
    has_capabilities(config, &["CAP_SYS_ADMIN", "CAP_KILL"]);
}

fn wide(config: &mut Value) {
    config["process"]["noNewPrivileges"] = json!(false);
    config["linux"]["namespaces"] = json!([{"type": "pid"}, {"type": "mount"}, {"type": "uts"}]);
}

#[test]
fn what_a_process_has_beyond_its_config_json_is_told() {
    if !Machine::can_run("scan::what_a_process_has_beyond_its_config_json_is_told", &["cc"], &[]) {
        return;
    }
    let node = Running::up();
    // (what, created as, then config.json says, control, what runs)
    let rows: &[Row<'_>] = &[
        ("as-asked", nothing, nothing, &[]),
        ("as-asked-with-more", capable, nothing, &[]),
        (
            "less-than-asked",
            nothing,
            capable,
            &[("capabilities_restricted", "AUDIT_WRITE, NET_BIND_SERVICE in a capability set")],
        ),
        (
            "capabilities",
            capable,
            |config| has_capabilities(config, &["CAP_KILL"]),
            &[("capabilities_baseline", "SYS_ADMIN in a capability set")],
        ),
        (
            "no-capabilities",
            nothing,
            |config| config["process"]["capabilities"] = Value::Null,
            &[("capabilities_restricted", "AUDIT_WRITE, KILL, NET_BIND_SERVICE in a capability set")],
        ),
        (
            "escalation",
            wide,
            |config| config["process"]["noNewPrivileges"] = json!(true),
            &[("allowPrivilegeEscalation", "no_new_privs off")],
        ),
        (
            "seccomp",
            nothing,
            |config| config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ERRNO"}),
            &[("seccompProfile_baseline", "no seccomp filter")],
        ),
        (
            "seccomp-that-allows-all",
            nothing,
            |config| config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW"}),
            &[],
        ),
        (
            "namespaces",
            wide,
            |config| {
                config["linux"]["namespaces"] =
                    json!([{"type": "pid"}, {"type": "network"}, {"type": "ipc"}]);
            },
            &[
                ("hostNamespaces", "the host's network namespace"),
                ("hostNamespaces", "the host's ipc namespace"),
            ],
        ),
        (
            "user",
            nothing,
            |config| config["process"]["user"]["uid"] = json!(1000),
            &[("runAsUser", "uid 0 of the host")],
        ),
        (
            "another-user",
            |config| config["process"]["user"]["uid"] = json!(1001),
            |config| config["process"]["user"]["uid"] = json!(1000),
            &[],
        ),
        // A program may become root by its file where it may gain privileges.
        (
            "setuid",
            |config| {
                wide(config);
                config["process"]["user"]["uid"] = json!(1000);
                config["process"]["args"] = json!(["/bin/as-root"]);
            },
            nothing,
            &[],
        ),
        // The first thread is a zombie, without namespaces, and the program runs on.
        (
            "without-its-first-thread",
            |config| {
                wide(config);
                config["process"]["args"] = json!(["/bin/second"]);
            },
            |config| {
                config["linux"]["namespaces"] = json!([{"type": "pid"}, {"type": "network"}]);
            },
            &[("hostNamespaces", "the host's network namespace")],
        ),
        // Whoever makes himself a user namespace is nobody in the host's.
        (
            "users-of-its-own",
            |config| {
                wide(config);
                config["process"]["user"]["uid"] = json!(1000);
                config["process"]["args"] = json!(["/bin/busybox", "unshare", "-U", "/bin/sleep", "1000"]);
            },
            nothing,
            &[],
        ),
    ];
    node.compile("as-root", "int main(void) { sleep(1000); }");
    node.machine.run(&["chmod", "4755", "/run/image/bin/as-root"]).expect_success();
    node.compile(
        "second",
        "void *stay(void *none) { sleep(1000); return none; }
        int main(void) { pthread_t second; pthread_create(&second, 0, stay, 0); pthread_exit(0); }",
    );
    for (id, created, then, _) in rows {
        node.create(id, created);
        node.start(id);
        node.rewrite(id, then);
    }
    // Until it is started it is the runtime's own program, of which nothing is said.
    node.create("created", nothing);
    node.rewrite("created", |config| config["process"]["user"]["uid"] = json!(1000));
    // The programs of the last rows have come to their second step.
    let status =
        || node.machine.run(&["sh", "-c", "grep -hE '^(Name|State|Uid|CapBnd)' /proc/*/status"]).stdout;
    for step in ["000001ffffffffff", "as-root\nState:\tS (sleeping)\nUid:\t1000\t0\t", "second\nState:\tZ"] {
        assert!(run::eventually(|| status().contains(step)), "{step}: {}", status());
    }
    for (id, _, _, expected) in rows {
        let expected: Vec<(String, String)> =
            expected.iter().map(|(control, runs)| ((*control).to_owned(), (*runs).to_owned())).collect();
        assert_eq!(node.drift(id), expected, "{id}");
    }
    assert_eq!(node.drift("created"), []);

    let table = node.scan(&["--fail"]);
    assert_eq!(table.code, Some(1), "{table}");
    let said = "runs with SYS_ADMIN in a capability set, asked for no SYS_ADMIN (capabilities_baseline)";
    assert!(table.stdout.contains(said), "{table}");
    assert!(table.stdout.contains("8 run with more than was asked for"), "{table}");
    let one = node.scan(&["--fail", "--control", "runAsUser"]);
    assert!(one.code == Some(1) && one.stdout.contains("1 runs with more than was asked for"), "{one}");
    let silent = node.scan(&["--fail", "--control", "hostPorts"]);
    assert_eq!(silent.code, Some(0), "{silent}");
}

#[test]
fn containers_that_come_and_go_are_no_error() {
    if !Machine::can_run("scan::containers_that_come_and_go_are_no_error", &[], &[]) {
        return;
    }
    let node = Running::up();
    node.create("stays", nothing);
    node.start("stays");
    let script = "n=0; while [ ! -e /run/enough ]; do n=$((n+1)); id=passing-$n; bundle=$0/$id; mkdir -p $bundle/rootfs
        mount --bind /run/image $bundle/rootfs
        cp $0/stays/config.json $bundle/config.json
        runc --root /run/containerd/runc/k8s.io create --bundle $bundle --pid-file $bundle/init.pid $id </dev/null >/dev/null 2>&1
        runc --root /run/containerd/runc/k8s.io start $id
        mv $bundle $0/.$id
        runc --root /run/containerd/runc/k8s.io delete --force $id
        umount $0/.$id/rootfs; rm -rf $0/.$id; done; echo $n";
    let mut churn = node
        .machine
        .command("sh")
        .args(["-c", script, TASKS])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a shell");
    let mut seen = BTreeSet::new();
    // Which of them are met is chance, the more so on a loaded machine.
    let mut scans = 0;
    while scans < 60 || (seen.len() < 3 && scans < 3000) {
        scans += 1;
        let done = node.scan(&["--format", "json", "--level", "baseline", "--fail"]).expect_success();
        assert!(done.stderr.is_empty(), "{done}");
        seen.extend(
            objects(&done).iter().map(|one| one["container"]["id"].as_str().expect("an id").to_owned()),
        );
    }
    node.machine.write("/run/enough", "");
    churn.wait().expect("it ends");
    assert!(seen.contains("stays") && seen.len() > 2, "some were met on their way: {seen:?}");
}

#[test]
fn what_others_may_not_see_is_said() {
    if !Machine::can_run("scan::what_others_may_not_see_is_said", &["setpriv"], &[]) {
        return;
    }
    let node = Running::up();
    node.create("hidden", nothing);
    node.start("hidden");
    // As containerd makes it.
    node.machine.run(&["chmod", "0711", "/run/containerd", TASKS]).expect_success();
    node.machine.run(&["chmod", "0700", "/run/containerd/io.containerd.runtime.v2.task"]).expect_success();
    let as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/opt/pss-guard", "scan"];
    let done = node.machine.run(&as_nobody);
    assert_eq!(done.code, Some(2), "{done}");
    let place = "cannot inspect /run/containerd/io.containerd.runtime.v2.task: Permission denied";
    assert!(done.stdout.contains(place) && done.stdout.contains("there may be more containers"), "{done}");
    let done = node.machine.run(&[&as_nobody[..], &["--format", "json"]].concat());
    assert!(done.code == Some(2) && done.stderr.contains(place), "{done}");
    // What everybody may read is judged.
    node.machine.run(&["chmod", "-R", "a+rX", "/run/containerd"]).expect_success();
    let done = node.machine.run(&[&as_nobody[..], &["--level", "restricted"]].concat());
    assert!(done.stdout.contains("1 of 1 container in 1 pod would be refused at restricted"), "{done}");
    assert!(done.stdout.contains("the processes of 1 container could be inspected only in part"), "{done}");
    assert_eq!(done.code, Some(2), "{done}");
}

#[test]
fn containers_of_runtimes_that_people_call_are_found() {
    if !Machine::can_run("scan::containers_of_runtimes_that_people_call_are_found", &["crun"], &[]) {
        return;
    }
    let node = Running::up();
    node.create("template", nothing);
    for runtime in ["runc", "crun"] {
        let bundle = format!("/srv/{runtime}");
        let copy = format!(
            "mkdir -p {bundle}; cd {bundle}; sed 's:\"rootfs\":\"/run/image\":' {TASKS}/template/config.json >config.json; exec {runtime} run -d by-{runtime} </dev/null >/dev/null"
        );
        node.machine.run(&["sh", "-c", &copy]).expect_success();
    }
    let found = objects(&node.scan(&["--format", "json"]).expect_success());
    let mut ids: Vec<&str> =
        found.iter().map(|one| one["container"]["id"].as_str().expect("an id")).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["by-crun", "by-runc", "template"]);
    let drifted: Vec<&Value> = found.iter().filter(|one| one["drift"] != json!([])).collect();
    assert!(drifted.is_empty(), "{drifted:?}");
}

#[test]
fn nobody_hides_roots_containers_behind_a_name_or_passes_for_the_system() {
    const NAME: &str = "scan::nobody_hides_roots_containers_behind_a_name_or_passes_for_the_system";
    if !Machine::can_run(NAME, &["setpriv", "cc", "jq"], &[]) {
        return;
    }
    let node = Running::up();
    node.compile("conmon", "int main(void) { sleep(1000); }");
    // A pod's root with the id of another container.
    let speaks = ["/bin/conmon", "-b", "/srv/pod/by-hand/userdata", "-p", "/nothing"];
    node.create("speaks", |config| config["process"]["args"] = json!(speaks));
    node.start("speaks");
    // The other one.
    let by_hand = format!(
        "mkdir -p /srv/by-hand; cd /srv/by-hand
         jq '.process.args = [\"/bin/sleep\", \"1000\"] | .root.path = \"/run/image\" | del(.annotations)' {TASKS}/speaks/config.json >config.json
         exec runc run -d by-hand </dev/null >/dev/null"
    );
    node.machine.run(&["sh", "-c", &by_hand]).expect_success();
    // A user with the same id, who says that the kubelet made it.
    let forged = json!({
        "ociVersion": "1.0.2",
        "annotations": {
            "io.container.manager": "cri-o",
            "io.kubernetes.cri-o.ContainerType": "container",
            "io.kubernetes.pod.namespace": "kube-system",
            "io.kubernetes.pod.name": "forged",
        },
        "process": {"user": {"uid": 0, "gid": 0}, "args": ["x"], "cwd": "/"},
        "linux": {"cgroupsPath": "/crio/crio-1"},
    });
    node.machine.write("/srv/user/by-hand/userdata/config.json", &forged.to_string());
    node.machine.run(&["chown", "-R", "65534:65534", "/srv/user"]).expect_success();
    let user = "cd /srv/user; setpriv --reuid=65534 --regid=65534 --clear-groups sh -c 'echo $$ >pid; exec \
        /run/image/bin/conmon -b /srv/user/by-hand/userdata -p /srv/user/pid' </dev/null >/dev/null 2>&1 &";
    node.machine.run(&["sh", "-c", user]).expect_success();
    let pid = || node.machine.run(&["sh", "-c", "cat /proc/$(cat /srv/user/pid)/comm"]).stdout;
    assert!(run::eventually(|| pid() == "conmon\n"), "{}", pid());

    let found = objects(&node.scan(&["--format", "json", "--level", "restricted"]).expect_success());
    let mut all: Vec<(&str, &Value, bool)> = found
        .iter()
        .map(|one| {
            let path = one["path"].as_str().expect("a path");
            (path, &one["container"]["namespace"], one["verdict"] == "deny")
        })
        .collect();
    all.sort_unstable_by_key(|(path, _, _)| *path);
    let (nobody, shop, speaks) = (Value::Null, json!("shop"), format!("{TASKS}/speaks"));
    let expected = [
        (speaks.as_str(), &shop, true),
        ("/srv/by-hand", &nobody, true),
        ("/srv/user/by-hand/userdata", &nobody, true),
    ];
    assert_eq!(all, expected);
}
