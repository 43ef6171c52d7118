//! What does `scan` say of a node? The corpus as a node, real processes, hostile names, and a terminal to look at it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::live::machine::Machine;
use crate::node;
use crate::util::{self, Done};

fn scan(root: &Path, arguments: &[&str]) -> Done {
    util::run(&mut command(root, arguments))
}

pub(crate) fn command(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pss-guard"));
    command.arg("--root").arg(root).arg("scan").args(arguments);
    command.env_remove("COLUMNS").env_remove("NO_COLOR").env("LC_ALL", "C.UTF-8");
    command
}

fn objects(done: &Done) -> Vec<Value> {
    done.stdout.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// A captured node: a root directory with bundles as engines lay them out.
pub(crate) struct Captured {
    dir: tempfile::TempDir,
}

impl Captured {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a temporary directory") }
    }

    pub(crate) fn root(&self) -> &Path {
        self.dir.path()
    }

    /// The bundle of an id: containerd's, or CRI-O's.
    pub(crate) fn bundle(&self, engine: &str, id: &str) -> PathBuf {
        if engine.starts_with("crio") {
            return self.root().join(format!("run/containers/storage/overlay-containers/{id}/userdata"));
        }
        self.root().join(format!("run/containerd/io.containerd.runtime.v2.task/k8s.io/{id}"))
    }

    pub(crate) fn lay(&self, engine: &str, id: &str, config: &Value) -> PathBuf {
        let bundle = self.bundle(engine, id);
        node::write(&bundle.join("config.json"), &config.to_string());
        bundle
    }

    /// Lays a case of the corpus out as its node had it; the bundles of its containers.
    fn lay_case(&self, case: &Path, engine: &str) -> Vec<(PathBuf, PathBuf)> {
        let mut laid = Vec::new();
        for container in entries(&case.join("containers")) {
            let config = read(&container.join("config.json"));
            let key = if engine.starts_with("crio") {
                "io.kubernetes.cri-o.SandboxID"
            } else {
                "io.kubernetes.cri.sandbox-id"
            };
            let sandbox = config["annotations"][key].as_str().expect("the sandbox's id").to_owned();
            let group = config["linux"]["cgroupsPath"].as_str().expect("a control group");
            let id = group.rsplit(['/', ':', '-']).next().expect("its last part");
            let bundle = self.lay(engine, id, &config);
            fs::copy(container.join("observed.json"), bundle.join("observed.json")).expect("a copy");
            self.lay(engine, &sandbox, &read(&case.join("sandbox/config.json")));
            laid.push((container, bundle));
        }
        laid
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    paths
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&util::read(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn a_node_made_of_the_corpus_is_judged_as_check_judges_the_corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("integration-tests/corpus");
    let mut compared = 0;
    for engine in entries(&corpus) {
        let name = engine.file_name().expect("a name").to_str().expect("UTF-8");
        let node = Captured::new();
        let laid: Vec<(PathBuf, PathBuf)> =
            entries(&engine).iter().flat_map(|case| node.lay_case(case, name)).collect();
        for level in ["baseline", "restricted", "baseline:v1.24", "restricted:v1.24"] {
            let options = ["--level", level, "--format", "json"];
            let scanned = objects(&scan(node.root(), &options).expect_success());
            let by_path: BTreeMap<&str, &Value> =
                scanned.iter().map(|one| (one["path"].as_str().expect("a path"), one)).collect();
            let mut check = Command::new(env!("CARGO_BIN_EXE_pss-guard"));
            check.arg("check").args(options).args(laid.iter().map(|(case, _)| case));
            let checked = objects(&util::run(&mut check));
            assert_eq!(checked.len(), laid.len(), "{name}");
            for ((case, bundle), checked) in laid.iter().zip(&checked) {
                let scanned = by_path.get(bundle.to_str().expect("UTF-8"));
                let scanned = scanned.unwrap_or_else(|| panic!("{} is not found", case.display()));
                for field in ["verdict", "findings", "level", "version", "because"] {
                    assert_eq!(scanned[field], checked[field], "{field} of {} at {level}", case.display());
                }
                for field in ["engine", "namespace", "pod", "name", "image"] {
                    let (ours, theirs) = (&scanned["container"][field], &checked["container"][field]);
                    assert_eq!(ours, theirs, "{field} of {}", case.display());
                }
                compared += 1;
            }
        }
    }
    assert!(compared > 1000, "only {compared} containers were compared");
}

/// config.json of a container that restricted refuses for one reason, or for none.
pub(crate) fn config(namespace: &str, pod: &str, name: &str, read_only: bool) -> Value {
    json!({
        "ociVersion": "1.0.2",
        "annotations": {
            "io.kubernetes.cri.container-type": "container",
            "io.kubernetes.cri.sandbox-id": format!("sandbox-of-{pod}"),
            "io.kubernetes.cri.sandbox-namespace": namespace,
            "io.kubernetes.cri.sandbox-name": pod,
            "io.kubernetes.cri.container-name": name,
        },
        "process": {
            "user": {"uid": 1000},
            "noNewPrivileges": true,
            "capabilities": {"bounding": []},
        },
        "root": {"readonly": read_only},
        "linux": {
            "namespaces": [{"type": "network"}, {"type": "pid"}, {"type": "ipc"}, {"type": "mount"}],
            "maskedPaths": ["/proc/kcore"],
            "readonlyPaths": ["/proc/sys"],
            "seccomp": {"defaultAction": "SCMP_ACT_ERRNO"},
        },
        "mounts": [{"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]}],
    })
}

/// A sandbox that shares the host's network, or not.
pub(crate) fn sandbox(namespace: &str, pod: &str, host_network: bool) -> Value {
    let mut config = config(namespace, pod, "", true);
    config["annotations"]["io.kubernetes.cri.container-type"] = json!("sandbox");
    if host_network {
        config["linux"]["namespaces"] = json!([{"type": "pid"}, {"type": "ipc"}, {"type": "mount"}]);
    }
    config
}

/// A small node of every kind.
pub(crate) fn small() -> Captured {
    let node = Captured::new();
    let lay = |id: &str, config: &Value| node.lay("containerd", id, config);
    lay("01", &config("shop", "web-0", "app", true));
    lay("02", &config("shop", "web-0", "logger", false));
    lay("sandbox-of-web-0", &sandbox("shop", "web-0", false));
    let mut bare = config("shop", "db-0", "database", false);
    bare["process"] = json!({"user": {"uid": 0}});
    bare["linux"]["seccomp"] = Value::Null;
    bare["mounts"] =
        json!([{"destination": "/host", "type": "bind", "source": "/etc", "options": ["rbind"]}]);
    lay("03", &bare);
    let mut agent = config("ops", "agent-x", "agent", true);
    agent["linux"]["namespaces"] = json!([{"type": "pid"}, {"type": "ipc"}, {"type": "mount"}]);
    lay("04", &agent);
    lay("sandbox-of-agent-x", &sandbox("ops", "agent-x", true));
    lay("05", &config("kube-system", "kube-proxy", "proxy", false));
    let mut unmanaged = config("x", "x", "x", false);
    unmanaged["annotations"] = json!({});
    node::write(
        &node.root().join(
            "run/containerd/io.containerd.runtime.v2.task/moby/c0ffee00c0ffee00c0ffee00c0ffee00/config.json",
        ),
        &unmanaged.to_string(),
    );
    node
}

#[test]
fn the_answer_counts_containers_and_pods_once_and_the_exit_code_follows() {
    let node = small();
    let damaged = small();
    node::write(&damaged.bundle("containerd", "99").join("config.json"), "{");
    let unreadable = small();
    node::write(&unreadable.root().join("etc/pss-guard/policy.toml"), "mode = \"loud\"\n");
    let own = small();
    node::write(
        &own.root().join("etc/pss-guard/policy.toml"),
        "[namespaces.shop]\nenforce = \"restricted\"\n",
    );
    // (the node, options, exit code, a part of what is said)
    let restricted =
        "4 of 6 containers in 3 pods and 1 unmanaged would be refused at restricted; 3 need a one-line fix";
    let ours = "2 of them would be refused by readOnlyRootFilesystem alone, pss-guard's own control and not part of the \
                Pod Security Standards";
    let rows: &[(&Captured, &[&str], i32, &str)] = &[
        (&node, &["--level", "restricted"], 0, restricted),
        (&node, &["--level", "restricted", "--fail"], 1, restricted),
        (&node, &["--level", "restricted"], 0, ours),
        (&node, &["--level", "restricted"], 0, "1 is exempt (kube-system)"),
        (&node, &["--level", "baseline"], 0, "2 of 6 containers in 2 pods would be refused at baseline"),
        (&node, &["--level", "restricted:v1.24"], 0, "would be refused at restricted:v1.24"),
        (&node, &[], 0, "none of 6 containers would be refused at their own level"),
        (&node, &["--fail"], 0, "none of 6"),
        (
            &own,
            &["--fail"],
            1,
            "2 of 6 containers in 2 pods would be refused at their own level; 1 needs a one-line fix",
        ),
        (
            &node,
            &["--level", "restricted", "--fail", "--namespace", "kube-system"],
            0,
            "the one container here would not be refused at restricted",
        ),
        (&node, &["--level", "restricted", "--namespace", "shop"], 0, "2 of 3 containers in 2 pods"),
        (
            &node,
            &["--level", "restricted", "--namespace", "shop", "--namespace", "ops"],
            0,
            "3 of 4 containers in 3 pods",
        ),
        (
            &node,
            &["--level", "restricted", "--namespace", "nowhere", "--fail"],
            2,
            "no container of namespace \"nowhere\" runs here",
        ),
        (
            &node,
            &["--level", "restricted", "--control", "hostNamespaces"],
            0,
            "1 of 6 containers in 1 pod would",
        ),
        (&node, &["--level", "restricted", "--control", "runAsUser", "--fail"], 0, "none of 6"),
        (&node, &["--level", "restricted", "--control", "RUNASNONROOT", "--fail"], 1, "1 of 6"),
        (&damaged, &["--level", "restricted", "--fail"], 2, "1 could not be judged"),
        (&damaged, &["--namespace", "shop"], 2, "1 could not be judged"),
        (&unreadable, &[], 2, "mode"),
        (&node, &["--control", "nonsense"], 2, "pss-guard explain"),
        (&node, &["--level", "loose"], 2, "loose"),
        (&node, &["--format", "text"], 0, "none of 6"),
        (&node, &["--format", "table"], 0, "none of 6"),
        (&node, &["--format", "loud"], 2, "text, json, sarif"),
    ];
    for (node, options, code, part) in rows {
        let done = scan(node.root(), options);
        assert_eq!(done.code, Some(*code), "{options:?}\n{done}");
        assert!(done.stdout.contains(part) || done.stderr.contains(part), "should say {part:?}\n{done}");
        for format in ["json", "sarif"] {
            if !options.contains(&"--format") {
                let done = scan(node.root(), &[options, &["--format", format][..]].concat());
                assert_eq!(done.code, Some(*code), "{format} {options:?}\n{done}");
            }
        }
    }
}

#[test]
fn the_manual_shows_what_it_says() {
    let node = small();
    let mut scan =
        command(node.root(), &["--level", "restricted", "--namespace", "ops", "--namespace", "shop"]);
    let shown = util::run(scan.env("COLUMNS", "112")).expect_success().stdout;
    let block = format!("```text\n{shown}```\n");
    assert!(crate::readme::read("docs/scan.md").contains(&block), "{block}");
}

#[test]
fn every_format_says_the_same() {
    let node = small();
    let options = ["--level", "restricted"];
    let of =
        |format: &str| scan(node.root(), &[&options[..], &["--format", format]].concat()).expect_success();
    let objects = objects(&of("json"));
    assert_eq!(objects.len(), 8);
    let keys: BTreeSet<&str> =
        objects[0].as_object().expect("an object").keys().map(String::as_str).collect();
    let expected = [
        "because",
        "container",
        "drift",
        "findings",
        "level",
        "path",
        "pid",
        "sandbox",
        "verdict",
        "version",
    ];
    assert_eq!(keys, expected.into());
    let sarif: Value = serde_json::from_str(&of("sarif").stdout).expect("JSON");
    let count = |level: &str| {
        let results = sarif["runs"][0]["results"].as_array().expect("results");
        results.iter().filter(|result| result["level"] == level).count()
    };
    let violations = objects.iter().flat_map(|one| one["findings"].as_array().expect("findings"));
    assert_eq!(count("error"), violations.filter(|finding| finding["certainty"] == "violates").count());
}

#[test]
fn names_from_outside_cannot_write_to_the_terminal() {
    let node = Captured::new();
    let evil = "\u{1b}[2J\u{202e}\r\n<script>";
    let mut hostile = config("shop", evil, evil, false);
    hostile["annotations"]["io.kubernetes.cri.sandbox-namespace"] = json!(evil);
    node.lay("containerd", "\u{1b}[31m", &hostile);
    node.lay("containerd", "broken\u{7}", &json!({"process": {"user": {"uid": evil}}}));
    for format in ["table", "json", "sarif"] {
        let done = scan(node.root(), &["--level", "restricted", "--format", format]);
        assert_eq!(done.code, Some(2), "{done}");
        for text in [&done.stdout, &done.stderr] {
            let odd = |c: char| (c.is_control() && c != '\n') || (c == '\u{202e}' && format == "table");
            assert!(!text.contains(odd), "{format}\n{text:?}");
        }
    }
    let ascii = util::run(command(node.root(), &["--level", "restricted"]).env("LC_ALL", "C"));
    assert!(ascii.stdout.is_ascii(), "{ascii}");
}

/// A machine on which containers run under a real runtime, as containerd's shim calls it.
struct Running {
    machine: Machine,
}

const TASKS: &str = "/run/containerd/io.containerd.runtime.v2.task/k8s.io";

impl Running {
    fn up() -> Self {
        let machine = Machine::up();
        node::unpack_image(&machine.path("/run/image"));
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
        assert!(util::eventually(|| status().contains(step)), "{step}: {}", status());
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
fn what_cannot_be_judged_is_a_number_where_numbers_are_kept() {
    let node = Captured::new();
    node::write(&node.bundle("containerd", "broken").join("config.json"), "{");
    let kept = node.root().join("var/lib/pss-guard/metrics/scan-own.json");
    for (arguments, code, is_kept) in [
        (&[][..], 2, false),
        (&["--keep"], 0, true),
        (&["--keep", "--format", "json"], 0, true),
        (&["--keep", "--fail"], 2, true),
    ] {
        let done = scan(node.root(), arguments);
        assert_eq!((done.code, kept.exists()), (Some(code), is_kept), "{arguments:?}: {done}");
        if is_kept {
            let numbers: Value = serde_json::from_str(&util::read(&kept)).expect("JSON");
            assert_eq!((&numbers["unjudged"], &numbers["allowed"]), (&json!(1), &json!(0)), "{numbers}");
            fs::remove_file(&kept).expect("a file of ours");
        }
    }
    // Neither without a policy that can be used, nor where nothing can be kept.
    fs::create_dir(&kept).expect("a folder in place of the file");
    assert_eq!(scan(node.root(), &["--keep"]).code, Some(2));
    fs::remove_dir(&kept).expect("a folder of ours");
    node::write(&node.root().join("etc/pss-guard/policy.toml"), "mood = 1\n");
    assert_eq!(scan(node.root(), &["--keep"]).code, Some(2));
    assert!(!kept.exists());
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
    assert!(util::eventually(|| pid() == "conmon\n"), "{}", pid());

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

/// A real terminal of so many columns, in which a command runs.
pub(crate) struct Terminal {
    socket: String,
}

impl Terminal {
    fn run(columns: &str, root: &Path, variables: &[&str], line: &str) -> Self {
        Self::show(columns, root, variables, &format!("scan {line}"))
    }

    pub(crate) fn show(columns: &str, root: &Path, variables: &[&str], line: &str) -> Self {
        let terminal = Self { socket: format!("pss-guard-{}", &util::random_id()[..12]) };
        let script = format!("\"$@\" {line}; echo \"ended with $?\"; exec sleep 600");
        let mut tmux =
            terminal.tmux(&["-f", "/dev/null", "-u", "new-session", "-d", "-x", columns, "-y", "90"]);
        tmux.args(["env", "-u", "COLUMNS", "-u", "NO_COLOR", "LC_ALL=C.UTF-8"]).args(variables);
        tmux.args(["sh", "-c", &script, "sh", env!("CARGO_BIN_EXE_pss-guard"), "--root"]).arg(root);
        util::run(&mut tmux).expect_success();
        terminal
    }

    fn tmux(&self, arguments: &[&str]) -> Command {
        let mut tmux = Command::new("tmux");
        tmux.args(["-L", &self.socket]).args(arguments).env("LC_ALL", "C.UTF-8").env_remove("TMUX");
        tmux
    }

    /// What is to be seen, and how it is coloured.
    fn screen(&self, options: &[&str]) -> String {
        util::run(&mut self.tmux(&[&["capture-pane", "-p"], options].concat())).stdout
    }

    /// The same when the command has ended.
    pub(crate) fn end(&self, options: &[&str]) -> String {
        let ended = || self.screen(&[]).contains("ended with ");
        assert!(util::within(std::time::Duration::from_secs(60), ended), "{}", self.screen(&[]));
        self.screen(options)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        util::run(&mut self.tmux(&["kill-server"]));
    }
}

const NARROW: &str = "\
kube-system
  kube-proxy
    proxy         exempt

ops
  agent-x
    (sandbox)     deny
      host namespaces
        spec.hostNetwork: false
    agent         deny
      host namespaces
        spec.hostNetwork: false

shop
  db-0
    database      deny
      allowPrivilegeEscalation != false
        securityContext.allowPrivilegeEscalation: false
";

const WIDE: &str = "\
  web-0
    app           allow
    logger        deny          readOnlyRootFilesystem != true     securityContext.readOnlyRootFilesystem: true [pss-guard]

(unmanaged)
    c0ffee00c0ff  deny          readOnlyRootFilesystem != true     docker run --read-only [pss-guard]

4 of 6 containers in 3 pods and 1 unmanaged would be refused at restricted; 3 need a one-line fix
2 of them would be refused by readOnlyRootFilesystem alone, pss-guard's own control and not part of the Pod Security Standards
1 is exempt (kube-system)
";

#[test]
fn people_see_the_answer_at_every_width() {
    if !util::can_run("scan::people_see_the_answer_at_every_width", &["tmux"]) {
        return;
    }
    let node = small();
    let line = "--level restricted";
    let narrow = Terminal::run("80", node.root(), &[], line);
    let seen = narrow.end(&[]);
    assert!(seen.contains(NARROW), "{seen}");
    assert!(seen.lines().all(|line| line.chars().count() <= 80), "{seen}");
    // A line that the terminal had to break is one when it is joined.
    assert_eq!(
        narrow.end(&["-J"]).lines().map(str::trim_end).collect::<Vec<_>>(),
        seen.lines().collect::<Vec<_>>()
    );
    let coloured = narrow.end(&["-e"]);
    assert!(
        coloured.contains("\u{1b}[1m\u{1b}[31mdeny") && coloured.contains("\u{1b}[32mallow"),
        "{coloured:?}"
    );

    let wide = Terminal::run("200", node.root(), &[], line).end(&[]);
    assert!(wide.contains(WIDE), "{wide}");
    let piped = scan(node.root(), &["--level", "restricted"]).expect_success().stdout;
    assert_eq!(
        piped.lines().collect::<Vec<_>>(),
        wide.lines().take(piped.lines().count()).collect::<Vec<_>>()
    );

    let plain = Terminal::run("80", node.root(), &["NO_COLOR=1"], line).end(&["-e"]);
    assert!(plain.contains(NARROW) && !plain.contains('\u{1b}'), "{plain:?}");
    let told = Terminal::run("80", node.root(), &["COLUMNS=60"], line).end(&[]);
    assert!(told.lines().all(|line| line.chars().count() <= 60), "{told}");
    let dumb = Terminal::run("80", node.root(), &["TERM=dumb"], line).end(&["-e"]);
    assert!(dumb.contains(NARROW) && !dumb.contains('\u{1b}'), "{dumb:?}");
    let piped = Terminal::run("80", node.root(), &[], &format!("{line} | cat")).end(&["-e"]);
    assert!(!piped.contains('\u{1b}'), "{piped:?}");
}

#[test]
fn who_waits_at_a_terminal_sees_how_far_it_has_come() {
    if !util::can_run("scan::who_waits_at_a_terminal_sees_how_far_it_has_come", &["tmux"]) {
        return;
    }
    let node = Captured::new();
    for number in 0..4000 {
        node.lay(
            "containerd",
            &format!("{number:064x}"),
            &config("shop", &format!("web-{number}"), "app", false),
        );
    }
    node.lay("containerd", "last", &config("few", "web", "app", true));
    let line = "--level restricted --control hostPorts --namespace few";
    let terminal = Terminal::run("80", node.root(), &[], line);
    assert!(util::eventually(|| terminal.screen(&[]).contains("[#")), "{}", terminal.screen(&[]));
    let seen = terminal.end(&[]);
    assert!(seen.starts_with("few\n  web\n    app  allow\n\n"), "the bar is gone\n{seen}");
    assert!(!seen.contains("[#") && seen.contains("\nended with 0\n"), "{seen}");
    let elsewhere =
        Terminal::run("80", node.root(), &[], &format!("{line} 2>{}", node.root().join("err").display()));
    elsewhere.end(&[]);
    assert_eq!(util::read(&node.root().join("err")), "");
}
