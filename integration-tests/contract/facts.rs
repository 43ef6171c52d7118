//! Which facts of a pod does the gate believe, and what can they change? Whatever is wrong with them, the verdict is that without
//! them, and the event says why.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pss_guard::inspect::evaluate::{Exec, Outcome, Pods, Request, evaluate};
use pss_guard::inspect::host::Host;
use pss_guard::level::policy::parse;
use pss_guard::paths::Paths;
use pss_guard::pss::facts::Engine;
use serde_json::{Value, json};

use crate::support::node::Node;
use crate::support::run::{self, feed};
use crate::support::{needs, program};

const POLICY: &str =
    "mode = 'enforce'\n[defaults]\nenforce = 'restricted'\naudit = 'privileged'\nwarn = 'privileged'\n";
const UID: &str = "dab344e9-1d4f-4e7d-941e-7a1219bef1c5";
/// As only the kubelet makes them.
const HASH: &str = "d41d8cd98f00b204e9800998ecf8427e";
const OTHER: &str = "00000000-1d4f-4e7d-941e-7a1219bef1c5";

const HOST_NETWORK: i32 = 13;
/// restrictedVolumes, which replaces hostPathVolumes at restricted.
const HOST_PATH: i32 = 26;

/// Facts of the node's pod, of which admission at restricted allows all.
fn facts() -> Value {
    json!({
        "v": 1, "uid": UID, "namespace": "shop", "name": "web", "source": "api",
        "spec": {
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "volumes": [{"name": "data", "persistentVolumeClaim": {}}],
            "containers": [{
                "name": "app",
                "securityContext": {
                    "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
                    "readOnlyRootFilesystem": true,
                },
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            }],
        },
    })
}

fn with(change: impl FnOnce(&mut Value)) -> Value {
    let mut facts = facts();
    change(&mut facts);
    facts
}

/// What admission denies, and a node does not see.
fn strict() -> Value {
    with(|facts| facts["spec"]["hostNetwork"] = json!(true))
}

/// A node whose container mounts a folder of the host at `/data`: a hostPath, unless the pod's facts say that it is a claim.
fn node(policy: &str) -> Node {
    let node = Node::new(policy);
    mount(&node, &["/data"]);
    node
}

fn mount(node: &Node, destinations: &[&str]) {
    let source = node.path("srv/data");
    fs::create_dir_all(&source).unwrap();
    spec(&node.bundle().join("config.json"), |spec| {
        let mounts = spec["mounts"].as_array_mut().unwrap();
        for destination in destinations {
            let options = ["rbind", "rw"];
            mounts.push(
                json!({"destination": destination, "type": "bind", "source": source, "options": options}),
            );
        }
    });
}

fn spec(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut spec: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    change(&mut spec);
    fs::write(path, spec.to_string()).unwrap();
}

/// The pod's facts as the agent would write them.
fn lay(node: &Node, facts: &Value) -> PathBuf {
    node.file(&format!("run/pss-guard/pods/{UID}.json"), &facts.to_string())
}

/// The hook's exit code, and its last event.
fn hook(node: &Node) -> (i32, Value) {
    let output = feed(&mut node.hook_command(), node.state().as_bytes());
    (output.status.code().unwrap(), node.events().pop().unwrap_or_default())
}

fn says(event: &Value, part: &str) -> bool {
    event["MESSAGE"].as_str().unwrap_or_default().contains(part)
}

/// The control that has a hostPath volume at restricted.
const VOLUMES: &str = "restrictedVolumes";

/// Makes a node what it is to be.
type Prepare = fn(&Node);

/// Makes a node with a policy.
type New = fn(&str) -> Node;

/// Something that happens to the file, or to its folder.
type Damage = fn(&Node, &Path);

/// What is wrong with a file, and what the event says.
const DAMAGES: &[(&str, Damage, &str)] = &[
    (
        "somebody's",
        |_, path| chown(path, Some(1000), None).unwrap(),
        "must be owned by root, but is owned by uid 1000",
    ),
    ("writable", |_, path| mode(path, 0o646), "must be writable by root alone, but its mode is 0646"),
    ("writable by a group", |_, path| mode(path, 0o664), "but its mode is 0664"),
    (
        "the folder is somebody's",
        |_, path| chown(folder(path), Some(1000), None).unwrap(),
        "pods must be owned by root",
    ),
    ("the folder is writable", |_, path| mode(folder(path), 0o777), "pods must be writable by root alone"),
    ("the folder is sticky", |_, path| mode(folder(path), 0o1777), "pods must be writable by root alone"),
    (
        "the folder is a file",
        |_, path| {
            fs::remove_dir_all(folder(path)).unwrap();
            fs::write(folder(path), "").unwrap();
        },
        "pods must be a directory, but is a regular file",
    ),
    (
        "a link",
        |node, path| {
            fs::rename(path, node.path("elsewhere.json")).unwrap();
            symlink(node.path("elsewhere.json"), path).unwrap();
        },
        "must be a regular file, but is a symbolic link",
    ),
    (
        "a FIFO",
        |_, path| {
            fs::remove_file(path).unwrap();
            run::run(Command::new("mkfifo").args(["-m", "600"]).arg(path)).expect_success();
        },
        "must be a regular file, but is a FIFO",
    ),
    (
        "a folder",
        |_, path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        },
        "must be a regular file, but is a directory",
    ),
    ("5 MiB", |_, path| edit(path, |text| text + &" ".repeat(5 << 20)), "is larger than 4194304 bytes"),
    ("empty", |_, path| edit(path, |_| String::new()), "EOF while parsing"),
    ("half-written", |_, path| edit(path, |text| text[..text.len() / 2].to_owned()), "EOF while parsing"),
    ("one byte short", |_, path| edit(path, |text| text[..text.len() - 1].to_owned()), "EOF while parsing"),
    ("two of them", |_, path| edit(path, |text| text.repeat(2)), "trailing characters"),
    (
        "no UTF-8",
        |_, path| fs::write(path, b"{\"v\":1,\"uid\":\"\xff\"}").unwrap(),
        "invalid unicode code point",
    ),
    ("deeply nested", |_, path| edit(path, |_| "[".repeat(60_000)), "parse "),
    ("newer", |_, path| key(path, "/v", json!(2)), "has the format version 2, and this program reads 1 to 1"),
    (
        "newer, with more",
        |_, path| {
            key(path, "/v", json!(2));
            key(path, "/new", json!({}));
        },
        "has the format version 2",
    ),
    ("older", |_, path| key(path, "/v", json!(0)), "has the format version 0"),
    ("without a version", |_, path| edit(path, |text| text.replace("\"v\":1", "\"w\":1")), "parse "),
    ("the version is text", |_, path| key(path, "/v", json!("1")), "invalid type: string"),
    ("another uid", |_, path| key(path, "/uid", json!(OTHER)), "is of pod shop/web (00000000-"),
    (
        "the uid in capitals",
        |_, path| key(path, "/uid", json!(UID.to_uppercase())),
        "is of pod shop/web (DAB344E9-",
    ),
    ("another namespace", |_, path| key(path, "/namespace", json!("shops")), "is of pod shops/web "),
    ("another name", |_, path| key(path, "/name", json!("web-2")), "is of pod shop/web-2 "),
    ("of a static pod", |_, path| key(path, "/source", json!("static")), "is of pod shop/web "),
    ("of nobody", |_, path| key(path, "/source", json!("me")), "unknown variant `me`"),
    ("an unknown key", |_, path| key(path, "/x", json!(1)), "unknown field `x`"),
    (
        "an unknown key of the owner",
        |_, path| {
            key(path, "/owner", json!({"kind": "a", "name": "b", "uid": "c"}));
        },
        "unknown field `uid`",
    ),
    ("an unknown annotation", |_, path| key(path, "/annotations", json!({"a": "b"})), "unknown field `a`"),
    (
        "an unknown key of the spec",
        |_, path| key(path, "/spec/nodeName", json!("n")),
        "unknown field `nodeName`",
    ),
    (
        "an unknown key of a container",
        |_, path| key(path, "/spec/containers/0/image", json!("i")),
        "unknown field `image`",
    ),
    (
        "an unknown key of a context",
        |_, path| {
            key(path, "/spec/containers/0/securityContext/x", json!(1));
        },
        "unknown field `x`",
    ),
    (
        "an unknown key of a mount",
        |_, path| {
            key(path, "/spec/containers/0/volumeMounts/0/subPath", json!("s"));
        },
        "unknown field `subPath`",
    ),
    (
        "a key twice",
        |_, path| {
            edit(path, |text| text.replace("\"uid\":", "\"uid\":\"x\",\"uid\":"));
        },
        "duplicate field `uid`",
    ),
    ("a wrong type", |_, path| key(path, "/spec/hostPID", json!("true")), "expected a boolean"),
];

fn folder(path: &Path) -> &Path {
    path.parent().unwrap()
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn edit(path: &Path, edit: impl FnOnce(String) -> String) {
    fs::write(path, edit(fs::read_to_string(path).unwrap())).unwrap();
}

fn key(path: &Path, pointer: &str, value: Value) {
    spec(path, |facts| {
        let (at, key) = pointer.rsplit_once('/').unwrap();
        facts.pointer_mut(at).unwrap()[key] = value;
    });
}

#[test]
fn facts_that_are_not_exactly_right_change_nothing_and_it_is_said() {
    if !needs::can_run("facts_that_are_not_exactly_right_change_nothing_and_it_is_said", &[]) {
        return;
    }
    // What each would change if it were believed: a proof of the node is cleared; a denial is added.
    assert_eq!(hook(&node(POLICY)).0, HOST_PATH);
    assert_eq!(hook(&Node::new(POLICY)), (0, Value::Null));
    let rows: [(Value, New, i32, i32); 2] =
        [(facts(), node, 0, HOST_PATH), (strict(), Node::new, HOST_NETWORK, 0)];
    for (facts, new, believed, without) in rows {
        let node = new(POLICY);
        lay(&node, &facts);
        assert_eq!(hook(&node).0, believed, "sound facts count");
        for (name, damage, part) in DAMAGES {
            let node = new(POLICY);
            let path = lay(&node, &facts);
            damage(&node, &path);
            let (code, event) = hook(&node);
            assert_eq!(code, without, "{name}: {event}");
            assert!(
                says(&event, "; facts of the pod do not count: ") && says(&event, part),
                "{name}: {event}"
            );
        }
    }
}

/// The UID in config.json is what makes a file's name.
#[test]
fn a_uid_that_is_none_leads_nowhere() {
    if !needs::can_run("a_uid_that_is_none_leads_nowhere", &[]) {
        return;
    }
    for uid in ["../pods/x", "", "x", ".", "../../../../etc/passwd", &"a".repeat(65)] {
        let node = node(POLICY);
        node.file("run/pss-guard/pods/x.json", &facts().to_string());
        for bundle in [node.bundle(), node.sandbox()] {
            spec(&bundle.join("config.json"), |spec| {
                spec["annotations"]["io.kubernetes.cri.sandbox-uid"] = json!(uid);
            });
        }
        let (code, event) = hook(&node);
        assert_eq!(code, HOST_PATH, "{uid:?}: {event}");
        let expected = if uid.is_empty() { "" } else { "cannot be the UID of a pod" };
        assert!(says(&event, expected), "{uid:?}: {event}");
    }
}

/// What of the facts is put where, and the controls that deny then; nothing if it starts.
type Row = (&'static str, fn(&mut Value), &'static str);

#[test]
fn only_a_claims_mount_is_cleared_and_only_where_it_is_mounted() {
    if !needs::can_run("only_a_claims_mount_is_cleared_and_only_where_it_is_mounted", &[]) {
        return;
    }
    let rows: &[Row] = &[
        ("a claim", |_| {}, ""),
        (
            "an ephemeral claim",
            |facts| facts["spec"]["volumes"][0] = json!({"name": "data", "ephemeral": {}}),
            "",
        ),
        ("spelled otherwise", |facts| mounts(facts, &[("data", "//data/./")]), ""),
        ("beside another", |facts| mounts(facts, &[("data", "/data"), ("data", "/data2")]), ""),
        ("the path twice", |facts| mounts(facts, &[("data", "/data"), ("data", "/data")]), VOLUMES),
        (
            "the path twice, spelled otherwise",
            |facts| mounts(facts, &[("data", "/data"), ("data", "/data/")]),
            VOLUMES,
        ),
        (
            "an emptyDir",
            |facts| facts["spec"]["volumes"][0] = json!({"name": "data", "emptyDir": {}}),
            VOLUMES,
        ),
        (
            "an emptyDir, too",
            |facts| {
                facts["spec"]["volumes"][0] =
                    json!({"name": "data", "emptyDir": {}, "persistentVolumeClaim": {}});
            },
            VOLUMES,
        ),
        ("a kind to come", |facts| facts["spec"]["volumes"][0] = json!({"name": "data", "new": {}}), VOLUMES),
        ("no kind", |facts| facts["spec"]["volumes"][0] = json!({"name": "data"}), VOLUMES),
        (
            "a hostPath",
            |facts| facts["spec"]["volumes"][0] = json!({"name": "data", "hostPath": {}}),
            VOLUMES,
        ),
        (
            "the volume's name twice",
            |facts| {
                let volumes = facts["spec"]["volumes"].as_array_mut().unwrap();
                volumes.push(json!({"name": "data", "persistentVolumeClaim": {}}));
            },
            VOLUMES,
        ),
        ("no such volume", |facts| mounts(facts, &[("other", "/data")]), VOLUMES),
        (
            "of another container",
            |facts| {
                let containers = facts["spec"]["containers"].as_array_mut().unwrap();
                containers[0]["name"] = json!("other");
            },
            VOLUMES,
        ),
        (
            "of an init container of another name",
            |facts| {
                let app = facts["spec"]["containers"][0].clone();
                facts["spec"]["containers"][0]["name"] = json!("other");
                facts["spec"]["initContainers"] = json!([app]);
                facts["spec"]["initContainers"][0]["name"] = json!("init");
            },
            VOLUMES,
        ),
        (
            "of the init container itself",
            |facts| {
                facts["spec"]["initContainers"] = json!([facts["spec"]["containers"][0]]);
                facts["spec"]["containers"][0]["name"] = json!("other");
            },
            "",
        ),
        // No volumeMount has it: it is not the pod's, and audited.
        ("above it", |facts| mounts(facts, &[("data", "/")]), "injectedMounts"),
        ("below it", |facts| mounts(facts, &[("data", "/data/x")]), "injectedMounts"),
        ("with a parent", |facts| mounts(facts, &[("data", "/data/../data")]), "injectedMounts"),
        ("nowhere", |facts| mounts(facts, &[]), "injectedMounts"),
    ];
    for (name, change, controls) in rows {
        let node = node(&format!("{POLICY}[controls]\ninjectedMounts = 'enforce'\n"));
        lay(&node, &with(change));
        let (code, event) = hook(&node);
        assert_eq!(event["PSS_CONTROLS"].as_str().unwrap_or_default(), *controls, "{name}: {event}");
        assert_eq!(code == 0, controls.is_empty(), "{name}: {code}");
    }
    // It clears this mount and no other.
    let node = node(POLICY);
    mount(&node, &["/data2"]);
    lay(&node, &with(|facts| mounts(facts, &[("data", "/data"), ("more", "/data2")])));
    assert_eq!(hook(&node).0, HOST_PATH);
}

fn mounts(facts: &mut Value, mounts: &[(&str, &str)]) {
    let list = mounts.iter().map(|(name, path)| json!({"name": name, "mountPath": path}));
    facts["spec"]["containers"][0]["volumeMounts"] = list.collect();
}

#[test]
fn what_the_pod_does_not_mount_is_audited_enforced_or_nothing() {
    if !needs::can_run("what_the_pod_does_not_mount_is_audited_enforced_or_nothing", &[]) {
        return;
    }
    let all =
        "mode = 'enforce'\n[defaults]\nenforce = 'restricted'\naudit = 'restricted'\nwarn = 'restricted'\n";
    for (setting, code, decision) in
        [("", 0, "audit"), ("audit", 0, "audit"), ("enforce", 31, "denied"), ("off", 0, "")]
    {
        let controls = format!("[controls]\ninjectedMounts = '{setting}'\n");
        let node = node(&format!("{all}{}", if setting.is_empty() { "" } else { &controls }));
        lay(&node, &with(|facts| mounts(facts, &[])));
        let (found, event) = hook(&node);
        assert_eq!(
            (found, event["PSS_DECISION"].as_str().unwrap_or_default()),
            (code, decision),
            "{setting}: {event}"
        );
        let expected = if decision.is_empty() { "" } else { "injectedMounts" };
        assert_eq!(event["PSS_CONTROLS"].as_str().unwrap_or_default(), expected, "{setting}");
        // Without facts it is a hostPath whatever the setting.
        fs::remove_file(node.path(&format!("run/pss-guard/pods/{UID}.json"))).unwrap();
        assert_eq!(hook(&node).0, HOST_PATH, "{setting}");
    }
}

#[test]
fn a_device_is_the_pods_where_one_of_its_claims_is_that() {
    if !needs::can_run("a_device_is_the_pods_where_one_of_its_claims_is_that", &[]) {
        return;
    }
    let node = Node::new(&format!("{POLICY}[controls]\ninjectedMounts = 'enforce'\n"));
    spec(&node.bundle().join("config.json"), |spec| {
        let device = json!({"path": "/dev/data", "type": "b", "major": 8, "minor": 0});
        spec["linux"]["devices"] = json!([device]);
    });
    for (key, field, path, controls) in [
        ("volumeDevices", "devicePath", "/dev/data", ""),
        ("volumeDevices", "devicePath", "/dev/other", "injectedMounts"),
        // A volume that is mounted is no device.
        ("volumeMounts", "mountPath", "/dev/data", "injectedMounts"),
    ] {
        let of_claim = json!([{"name": "data", field: path}]);
        lay(&node, &with(|facts| facts["spec"]["containers"][0][key] = of_claim));
        let (code, event) = hook(&node);
        let found = if code == 0 { "" } else { event["PSS_CONTROLS"].as_str().unwrap_or_default() };
        assert_eq!(found, controls, "{key} {path}: {event}");
    }
}

/// Each container answers for itself: an exception of one is no reason to refuse the others.
#[test]
fn an_exception_of_one_container_lets_the_others_of_its_pod_start() {
    if !needs::can_run("an_exception_of_one_container_lets_the_others_of_its_pod_start", &[]) {
        return;
    }
    let exception = "[[exceptions]]\nnamespace = 'shop'\ncontainer = 'other'\nreason = 'r'\nexpires = 2999-01-01\ncontrols = \
                     ['hostPorts', 'restrictedVolumes', 'hostPathVolumes', 'hostNamespaces']\n";
    let port = json!([{"hostPort": 80}]);
    let two = |facts: &mut Value, excepted: &str| {
        let mut other = facts["spec"]["containers"][0].clone();
        other["name"] = json!(excepted);
        other["ports"] = port.clone();
        other["volumeMounts"] = json!([{"name": "host", "mountPath": "/host"}]);
        facts["spec"]["containers"].as_array_mut().unwrap().push(other);
        facts["spec"]["volumes"].as_array_mut().unwrap().push(json!({"name": "host", "hostPath": {}}));
    };
    let rows: [(&str, Value, &str); 5] = [
        ("another's", with(|facts| two(facts, "other")), ""),
        ("that of a third", with(|facts| two(facts, "third")), "hostPorts,restrictedVolumes"),
        (
            "its own port",
            with(|facts| {
                two(facts, "other");
                facts["spec"]["containers"][0]["ports"] = port.clone();
            }),
            "hostPorts",
        ),
        (
            "its own mount",
            with(|facts| {
                two(facts, "other");
                mounts(facts, &[("host", "/host")]);
            }),
            "restrictedVolumes",
        ),
        ("the pod's", with(|facts| facts["spec"]["hostNetwork"] = json!(true)), "hostNamespaces"),
    ];
    for (name, facts, controls) in rows {
        let node = Node::new(&format!("{POLICY}{exception}"));
        lay(&node, &facts);
        let (code, event) = hook(&node);
        let found = if code == 0 { "" } else { event["PSS_CONTROLS"].as_str().unwrap_or_default() };
        assert_eq!(found, controls, "{name}: {event}");
    }
    // The images of other containers are not known to the gate, that of its own is.
    let of_image = exception.replace("container = 'other'", "image = 'quay.io/r/none'");
    let node = Node::new(&format!("{POLICY}{of_image}"));
    lay(&node, &with(|facts| facts["spec"]["containers"][0]["ports"] = port.clone()));
    let (code, event) = hook(&node);
    assert!(code != 0 && event["PSS_CONTROLS"] == "hostPorts", "{code} {event}");
    // Without an exception the pod is refused by each of its containers, as admission does.
    let node = Node::new(POLICY);
    lay(&node, &with(|facts| two(facts, "other")));
    assert_ne!(hook(&node).0, 0);
}

/// What the node shows and no field of a pod brings: that the pod does not ask for it settles nothing.
/// What a row changes in facts or in a spec.
type Change = fn(&mut Value);

#[test]
fn what_no_field_of_a_pod_brings_stays_suspect() {
    if !needs::can_run("what_no_field_of_a_pod_brings_stays_suspect", &[]) {
        return;
    }
    let policy = format!("on-suspect = 'deny'\n{POLICY}");
    let elsewhere = "/var/lib/kubelet/pods/dab344e9-1d4f-4e7d-941e-7a1219bef1c5/volume-subpaths/data/app/0";
    let early = |spec: &mut Value, destination: &str| {
        let mount = json!({"destination": destination, "type": "bind", "source": elsewhere, "options": ["rbind", "rw"]});
        spec["mounts"].as_array_mut().unwrap().push(mount);
    };
    let rows: [(&str, Change, &str); 4] = [
        ("an order to the runtime", |spec| spec["annotations"]["run.oci.x"] = json!("y"), "privileged"),
        ("shared mounts", |spec| spec["linux"]["rootfsPropagation"] = json!("rshared"), "privileged"),
        ("a network device", |spec| spec["linux"]["netDevices"] = json!({"eth1": {}}), "privileged"),
        ("nothing", |_| {}, ""),
    ];
    let row = |name: &str, change: &dyn Fn(&mut Value), controls: &str| {
        let node = Node::new(&policy);
        spec(&node.bundle().join("config.json"), change);
        lay(&node, &facts());
        let (code, event) = hook(&node);
        assert_eq!(event["PSS_CONTROLS"].as_str().unwrap_or_default(), controls, "{name}: {event}");
        assert_eq!(code == 0, controls.is_empty(), "{name}: {code}");
    };
    for (name, change, controls) in rows {
        row(name, &change, controls);
    }
    // The kubelet mounts a subPath before it asks for the container. Where nothing is mounted it is a path of the host: injected
    // where the pod mounts nothing, and perhaps a local volume where it mounts a claim.
    row("where no subPath is mounted", &|spec| early(spec, "/other"), "");
    row("the same in the place of a claim", &|spec| early(spec, "/data"), "");
}

/// An ephemeral container may be newer than the file.
#[test]
fn a_container_that_the_facts_do_not_have_is_evaluated_as_without_them() {
    if !needs::can_run("a_container_that_the_facts_do_not_have_is_evaluated_as_without_them", &[]) {
        return;
    }
    let node = Node::new(
        &format!("{POLICY}audit-version = 'latest'\n")
            .replace("audit = 'privileged'", "audit = 'restricted'"),
    );
    let renamed = |node: &Node| {
        spec(&node.bundle().join("config.json"), |spec| {
            spec["annotations"]["io.kubernetes.cri.container-name"] = json!("debug");
            spec["process"]["noNewPrivileges"] = json!(false);
        });
    };
    renamed(&node);
    let (code, without) = hook(&node);
    lay(&node, &facts());
    let (with_facts, event) = hook(&node);
    assert_eq!((code, with_facts), (23, 23), "{event}");
    assert_eq!(event["PSS_CONTROLS"], without["PSS_CONTROLS"]);
    // What the pod's level says counts for it.
    lay(&node, &strict());
    assert_eq!(hook(&node).0, HOST_NETWORK);
}

/// A name that looks like a workload's is no longer enough where the pod's controller is known.
#[test]
fn an_exception_of_a_workload_goes_by_the_pods_controller_and_not_by_its_name() {
    if !needs::can_run("an_exception_of_a_workload_goes_by_the_pods_controller", &[]) {
        return;
    }
    let policy = format!(
        "{POLICY}[[exceptions]]\nnamespace = 'shop'\nowner = 'web'\nreason = 'r'\nexpires = 2999-01-01\ncontrols = \
         ['hostNamespaces', 'restrictedVolumes', 'hostPathVolumes']\n"
    );
    let owner = |kind: &str, name: &str| json!({"kind": kind, "name": name});
    let controller = |owner: &serde_json::Map<String, Value>| json!({"kind": owner["kind"], "name": owner["name"], "controller": true});
    // A pod of Deployment `web`, by its name.
    let shaped = "web-5d4f8c7b9d-x7k2p";
    // (the pod's name, its UID, the owner, what else of the facts, whether the exception covers it)
    let nothing: Change = |_| {};
    let of_static: Change = |facts| {
        facts["source"] = json!("static");
        facts["uid"] = json!(HASH);
    };
    let damaged: Change = |facts| facts["new"] = json!(1);
    let rows: [(&str, &str, Value, Change, bool); 14] = [
        (shaped, UID, owner("Deployment", "web"), nothing, true),
        (shaped, UID, owner("Deployment", "other"), nothing, false),
        (shaped, UID, owner("Deployment", shaped), nothing, false),
        (shaped, UID, Value::Null, nothing, false),
        ("web", UID, Value::Null, nothing, false),
        ("web-0", UID, owner("StatefulSet", "web-0"), nothing, false),
        ("other", UID, owner("StatefulSet", "web"), nothing, true),
        ("other", UID, owner("Job", "web-29384720"), nothing, true),
        ("other", UID, owner("Job", "web-3"), nothing, false),
        // Facts that do not count say nothing of the owner either.
        (shaped, UID, owner("Deployment", "other"), damaged, true),
        ("other", UID, owner("Deployment", "web"), damaged, false),
        // Nor do those of a static pod, whose UID anybody may have.
        ("other", HASH, owner("Deployment", "web"), of_static, false),
        ("web", HASH, owner("Deployment", "other"), of_static, true),
        ("web", HASH, Value::Null, of_static, true),
    ];
    for (name, uid, owner, change, covered) in rows {
        let node = node(&policy);
        for bundle in [node.bundle(), node.sandbox()] {
            spec(&bundle.join("config.json"), |spec| {
                spec["annotations"]["io.kubernetes.cri.sandbox-name"] = json!(name);
                spec["annotations"]["io.kubernetes.cri.sandbox-uid"] = json!(uid);
            });
        }
        let facts = with(|facts| {
            facts["name"] = json!(name);
            facts["spec"]["hostNetwork"] = json!(true);
            facts["spec"]["volumes"][0] = json!({"name": "data", "hostPath": {}});
            if !owner.is_null() {
                facts["owner"] = owner.clone();
            }
            change(facts);
        });
        let file = if uid == UID { format!("pods/{UID}") } else { format!("static/shop_{name}") };
        node.file(&format!("run/pss-guard/{file}.json"), &facts.to_string());
        let (code, event) = hook(&node);
        assert_eq!(code == 0, covered, "{name} {uid} {facts}: {code} {event}");
        // `check` with the same facts, or the object that they are made of.
        let references: Vec<Value> = owner.as_object().into_iter().map(controller).collect();
        let metadata = json!({"name": name, "namespace": "shop", "uid": uid, "ownerReferences": references});
        let object = json!({"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": facts["spec"]});
        let is_sound = facts["source"] == "api" && facts.get("new").is_none();
        for given in [Some(&facts), is_sound.then_some(&object)].into_iter().flatten() {
            let file = node.file("pod.json", &given.to_string());
            let bundle = node.bundle();
            let done = node.call(&["check", "--pod", file.to_str().unwrap(), bundle.to_str().unwrap()]);
            assert_eq!(done.code, Some(i32::from(!covered)), "{name} {uid} {given}: {done}");
        }
    }
}

/// Another pod's declaration would settle what it says nothing of.
#[test]
fn a_pod_given_by_hand_is_taken_for_its_own_containers_only() {
    if !needs::can_run("a_pod_given_by_hand_is_taken_for_its_own_containers_only", &[]) {
        return;
    }
    let node = Node::new(POLICY);
    let manifest = |metadata: Value| {
        let spec = facts()["spec"].clone();
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    };
    let workload = |metadata: Value| {
        let template = manifest(json!({"name": "elsewhere", "labels": {"a": "b"}}));
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {"template": template}})
    };
    let ours = format!("is of pod shop/web ({UID}), and the container is");
    let of_other = "the container is of pod shop/web (dab344e9-";
    let rows: [(&str, Value, &str); 14] = [
        ("facts", facts(), ""),
        ("facts of another uid", with(|facts| facts["uid"] = json!(OTHER)), of_other),
        ("facts of another name", with(|facts| facts["name"] = json!("web-2")), of_other),
        ("facts of another namespace", with(|facts| facts["namespace"] = json!("ops")), of_other),
        ("facts of a static pod", with(|facts| facts["uid"] = json!(HASH)), of_other),
        ("the object", manifest(json!({"name": "web", "namespace": "shop", "uid": UID})), ""),
        ("a manifest without the rest", manifest(json!({"name": "web"})), ""),
        ("a generated name", manifest(json!({"generateName": "web-"})), ""),
        (
            "a manifest of another name",
            manifest(json!({"name": "web-2"})),
            "is of pod */web-2, and the container is of",
        ),
        (
            "an object of another uid",
            manifest(json!({"name": "web", "uid": OTHER})),
            "is of pod */web (00000000-",
        ),
        (
            "a manifest of another namespace",
            manifest(json!({"name": "web", "namespace": "ops"})),
            "is of pod ops/web, and",
        ),
        ("a workload", workload(json!({"name": "any", "namespace": "shop"})), ""),
        ("a workload without a namespace", workload(json!({"name": "any"})), ""),
        (
            "a workload of another namespace",
            workload(json!({"name": "any", "namespace": "ops"})),
            "is of pod ops/*, and",
        ),
    ];
    let check = |pod: &Value| {
        let pod = node.file("pod.json", &pod.to_string());
        let bundle = node.bundle();
        let level = ["check", "--level", "restricted", "--pod"];
        node.call(&[&level[..], &[pod.to_str().unwrap(), bundle.to_str().unwrap()]].concat())
    };
    for (name, pod, refused) in rows {
        let done = check(&pod);
        assert_eq!(done.code, Some(if refused.is_empty() { 0 } else { 2 }), "{name}: {done}");
        let says = done.stdout.contains("--pod: ") && done.stdout.contains("give the container's own pod");
        assert_eq!(says, !refused.is_empty(), "{name}: {done}");
        assert!(done.stdout.contains(refused), "{name}: {done}");
    }
    // A static pod: its file has neither the node's name nor the hash.
    for bundle in [node.bundle(), node.sandbox()] {
        spec(&bundle.join("config.json"), |spec| {
            spec["annotations"]["io.kubernetes.cri.sandbox-name"] = json!("web-n1");
            spec["annotations"]["io.kubernetes.cri.sandbox-uid"] = json!(HASH);
        });
    }
    for (name, uid, code) in
        [("web", None, 0), ("web-n1", Some(UID), 0), ("we", None, 2), ("web-n2", Some(HASH), 2)]
    {
        let done = check(&manifest(json!({"name": name, "uid": uid})));
        assert_eq!(done.code, Some(code), "{name}: {done}");
    }
    // A container of no pod.
    spec(&node.bundle().join("config.json"), |spec| spec["annotations"] = json!({}));
    let done = check(&facts());
    assert!(done.code == Some(2) && done.stdout.contains(&format!("{ours} of no pod")), "{done}");
}

/// A floor whose version is not the namespace's: both are evaluated, and where a control of the one replaces a control of the other,
/// what it found is in the message once.
#[test]
fn a_finding_is_in_the_message_once_although_the_floor_has_another_version() {
    if !needs::can_run("a_finding_is_in_the_message_once", &[]) {
        return;
    }
    let labels = |version| {
        format!(
            "{{\"v\":1,\"pod-security.kubernetes.io/enforce\":\"restricted\",\"pod-security.kubernetes.io/enforce-version\":\"{version}\"}}"
        )
    };
    let violating = with(|facts| {
        facts["spec"]["volumes"] = json!([{"name": "data", "hostPath": {"path": "/srv/data"}}]);
        let context = &mut facts["spec"]["containers"][0]["securityContext"];
        context["capabilities"] = json!({"add": ["SYS_TIME"]});
        context["seccompProfile"] = json!({"type": "Unconfined"});
    });
    let exception = "[[exceptions]]\nnamespace = 'shop'\ncontrols = ['restrictedVolumes']\nreason = 'r'\nexpires = 2999-01-01\n";
    let excepted = "hostPathVolumes,capabilities_restricted,seccompProfile_restricted";
    let both = "capabilities_restricted,restrictedVolumes,seccompProfile_restricted";
    // Of a container without seccomp nothing is proved against baseline.
    let seen = "capabilities_baseline,restrictedVolumes";
    // (the namespace's version, an exception, the controls that deny by what the pod declares, and by what the node sees)
    let rows = [
        ("latest", "", both, both),
        ("v1.30", "", both, both),
        // It has no such controls of seccomp and capabilities yet, so the floor's deny.
        ("v1.18", "", "capabilities_baseline,seccompProfile_baseline,restrictedVolumes", seen),
        // What is excepted replaces nothing.
        ("v1.30", exception, excepted, excepted),
    ];
    for (version, exception, declared, observed) in rows {
        for (facts, controls) in [(Some(&violating), declared), (None, observed)] {
            let node = node(&format!("{POLICY}[agent]\nfloor = 'baseline'\n{exception}"));
            node.file("run/pss-guard/namespaces/shop.json", &labels(version));
            if let Some(facts) = facts {
                lay(&node, facts);
            } else {
                spec(&node.bundle().join("config.json"), |spec| {
                    spec["linux"].as_object_mut().unwrap().remove("seccomp");
                    for set in ["bounding", "effective", "permitted"] {
                        spec["process"]["capabilities"][set] = json!(["CAP_SYS_TIME"]);
                    }
                });
            }
            let (code, event) = hook(&node);
            assert_ne!(code, 0, "{version}: {event}");
            let denied = event["PSS_CONTROLS"].as_str().unwrap_or_default();
            assert_eq!(denied, controls, "{version} {exception}: {event}");
        }
    }
}

/// The control that came last.
const CONTROL: &str = "hostProbesAndHostLifecycle";

/// A control that came with v1.34, of a pod that declares what it forbids.
#[test]
fn latest_is_the_clusters_version_for_every_reader_and_a_forged_one_switches_nothing_off() {
    if !needs::can_run("latest_is_the_clusters_version_for_every_reader", &[]) {
        return;
    }
    let probe = json!({"httpGet": {"host": "10.0.0.1"}});
    let mut manifest = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}});
    manifest["spec"] =
        with(|facts| facts["spec"]["containers"][0]["livenessProbe"] = probe.clone())["spec"].clone();
    let floor = format!("{POLICY}[agent]\nfloor = 'restricted'\n");
    let cluster = format!("{POLICY}[cluster]\nversion = 'v1.33'\n");
    // (the policy, what cluster.json has, whether the control is there, what the event says of the file)
    let rows = [
        (POLICY, None, true, ""),
        (POLICY, Some("36"), true, ""),
        (POLICY, Some("34"), true, ""),
        (POLICY, Some("33"), false, ""),
        (POLICY, Some("99"), true, ""),
        (POLICY, Some("0"), true, "; the cluster's version does not count: "),
        (POLICY, Some("\"33\""), true, "; the cluster's version does not count: "),
        (&cluster, Some("36"), false, ""),
        (&cluster, None, false, ""),
        // A namespace whose labels came from the agent, at the level of the floor.
        (&floor, Some("33"), true, ""),
    ];
    for (policy, minor, expected, says_of_file) in rows {
        let node = Node::new(policy);
        if let Some(minor) = minor {
            let text = format!("{{\"v\":1,\"minor\":{minor}}}");
            node.file("run/pss-guard/agent/cluster.json", &text);
        }
        if policy == floor {
            let labels = "{\"v\":1,\"pod-security.kubernetes.io/enforce\":\"restricted\"}";
            node.file("run/pss-guard/namespaces/shop.json", labels);
        }
        lay(&node, &with(|facts| facts["spec"]["containers"][0]["livenessProbe"] = probe.clone()));
        let row = format!("{minor:?} {policy}");
        // Parsed, compiled, and from the compiled form.
        for _ in 0..3 {
            let (code, event) = hook(&node);
            let denied = event["PSS_CONTROLS"].as_str().unwrap_or_default() == CONTROL;
            assert_eq!((code != 0, denied), (expected, expected), "{row}: {event}");
            assert!(says(&event, says_of_file), "{row}: {event}");
            assert_eq!(says(&event, "cluster's version"), !says_of_file.is_empty(), "{row}: {event}");
            std::thread::sleep(std::time::Duration::from_millis(60));
        }
        if policy != floor {
            let file = node.file("pod.json", &manifest.to_string());
            let done = node.call(&["check", file.to_str().unwrap()]);
            assert_eq!(
                (done.code, done.stdout.contains(CONTROL)),
                (Some(i32::from(expected)), expected),
                "{row}: {done}"
            );
        }
        let done = node.call(&["status"]);
        let shown = match (policy == cluster, minor) {
            (true, _) => "v1.33, from [cluster] version of the policy",
            (_, Some("33")) => "v1.33, the cluster's version (",
            (_, Some("99")) => "v1.37, the newest version known; the cluster is v1.99 (",
            (_, Some("0" | "\"33\"")) => "v1.37, the newest version known; the cluster's does not count: ",
            (_, None) => "v1.37, the newest version known; `pss-guard cluster import`",
            (_, Some(_)) => ", the cluster's version (",
        };
        assert!(done.stdout.contains(shown), "{row}: {done}");
    }
}

/// Of a static pod config.json has a hash that only the kubelet can compute: its facts may add a denial, and nothing else.
#[test]
fn facts_of_static_pods_only_add_denials_and_no_annotation_makes_a_pod_static() {
    if !needs::can_run("facts_of_static_pods_only_add_denials", &[]) {
        return;
    }
    let of_static = |facts: Value| {
        let mut facts = facts;
        facts["uid"] = json!(HASH);
        facts["source"] = json!("static");
        facts
    };
    let live = "run/pss-guard/static/shop_web.json";
    // (the container's UID, the file, the facts, whether /data is mounted, the exit code, what is said)
    let in_pods = format!("run/pss-guard/pods/{HASH}.json");
    let rows: [(&str, &str, &str, Value, bool, i32, &str); 9] = [
        ("a claim clears nothing", HASH, live, of_static(facts()), true, HOST_PATH, ""),
        ("a denial is added", HASH, live, of_static(strict()), false, HOST_NETWORK, "host namespaces"),
        (
            "whatever the hash",
            "00000000000000000000000000000000",
            live,
            of_static(strict()),
            false,
            HOST_NETWORK,
            "",
        ),
        ("nothing to add", HASH, live, of_static(facts()), false, 0, ""),
        ("of the API", HASH, live, with(|facts| facts["uid"] = json!(HASH)), true, HOST_PATH, "do not count"),
        (
            "of another",
            HASH,
            live,
            with(|facts| {
                *facts = of_static(facts.clone());
                facts["name"] = json!("x");
            }),
            false,
            0,
            "do not count",
        ),
        (
            "at the hash's place",
            HASH,
            &in_pods,
            with(|facts| facts["uid"] = json!(HASH)),
            true,
            HOST_PATH,
            "",
        ),
        ("of the API's pod of that name", UID, live, of_static(facts()), true, HOST_PATH, ""),
        ("the other way round", UID, live, of_static(strict()), false, 0, ""),
    ];
    for (name, uid, file, facts, mounts, expected, part) in rows {
        let node = if mounts { node(POLICY) } else { Node::new(POLICY) };
        for bundle in [node.bundle(), node.sandbox()] {
            spec(&bundle.join("config.json"), |spec| {
                spec["annotations"]["io.kubernetes.cri.sandbox-uid"] = json!(uid);
            });
        }
        node.file(file, &facts.to_string());
        let (code, event) = hook(&node);
        assert_eq!(code, expected, "{name}: {event}");
        assert!(says(&event, part), "{name}: {event}");
        assert_eq!(says(&event, "do not count"), part == "do not count", "{name}: {event}");
    }
}

/// What comes of an evaluation, in a word.
fn outcome(node: &Node, policy: &str, bundle: &Path, sees_sandboxes: bool, exec: bool) -> String {
    let policy = parse(policy, "policy.toml").unwrap();
    let path = bundle.join("config.json");
    let bytes = fs::read(&path).unwrap();
    let spec = pss_guard::inspect::parse(&path, &bytes).unwrap();
    let controls = vec!["allowPrivilegeEscalation", "runAsNonRoot"];
    let exec = exec.then(|| Exec { process: spec.process.clone().unwrap(), controls });
    let namespaces = Paths::under(node.root()).namespaces();
    let request = Request {
        policy: Ok(&policy),
        host: &Host::Unknown,
        config: &Ok((path.clone(), bytes.clone())),
        exec: exec.as_ref(),
        restore: None,
        engine: Some(Engine::Containerd),
        id: None,
        pid: None,
        runtime_handler: None,
        sees_sandboxes,
        namespaces: Some(&namespaces),
        pods: Pods::beside(&namespaces),
        demand: None,
        sandboxes: None,
    };
    evaluate(&request, |_, outcome| match outcome {
        Outcome::MissingFacts(whose, None) => format!("missing {whose}"),
        Outcome::MissingFacts(whose, Some(_)) => format!("missing {whose}, fault"),
        Outcome::Exempt(_) => "exempt".to_owned(),
        Outcome::Evaluated { enforce, facts_fault, .. } => {
            let denied = enforce.demands.iter().any(|(_, no)| *no);
            let fault = if facts_fault.is_some() { ", fault" } else { "" };
            format!("{}{fault}", if denied { "denied" } else { "allowed" })
        }
        Outcome::Fault(error) => format!("fault: {error}"),
        _ => "other".to_owned(),
    })
}

#[test]
fn facts_that_are_missing_stop_a_sandbox_and_no_container() {
    if !needs::can_run("facts_that_are_missing_stop_a_sandbox_and_no_container", &[]) {
        return;
    }
    let deny = format!("on-missing-facts = 'deny'\n{POLICY}");
    let missing = &*format!("missing shop/web ({UID})");
    let damaged = &*format!("{missing}, fault");
    let others: Prepare = |node| drop(node.file(&format!("run/pss-guard/pods/{OTHER}.json"), "{}"));
    let nobody: Prepare = |_| {};
    let garbage: Prepare = |node| drop(node.file(&format!("run/pss-guard/pods/{UID}.json"), "{}"));
    let known: Prepare = |node| drop(lay(node, &facts()));
    let is_static: Prepare = |node| {
        drop(node.file(&format!("run/pss-guard/pods/{OTHER}.json"), "{}"));
        drop(node.file("run/pss-guard/static/shop_other.json", "{}"));
        for bundle in [node.bundle(), node.sandbox()] {
            spec(&bundle.join("config.json"), |spec| {
                spec["annotations"]["io.kubernetes.cri.sandbox-uid"] = json!(HASH);
            });
        }
    };
    // (the policy, the node, what comes of the sandbox; of a container whose sandbox was seen, and was not)
    let exempt = deny.clone() + "[exemptions]\nnamespaces = ['shop']\n";
    let privileged = deny.replace("enforce = 'restricted'", "enforce = 'privileged'");
    let rows: [(&str, &str, Prepare, [&str; 3]); 9] = [
        ("others are known", &deny, others, [missing, "allowed", missing]),
        ("it is known", &deny, known, ["allowed", "allowed", "allowed"]),
        ("nobody brings facts", &deny, nobody, ["allowed", "allowed", "allowed"]),
        ("they do not count", &deny, garbage, [damaged, "allowed, fault", damaged]),
        ("a static pod", &deny, is_static, ["allowed", "allowed", "allowed"]),
        ("an exempt namespace", &exempt, others, ["exempt", "exempt", "exempt"]),
        ("nothing is asked", &privileged, others, ["allowed", "allowed", "allowed"]),
        ("unseen", POLICY, others, ["allowed", "allowed", "allowed"]),
        ("unseen, known", POLICY, known, ["allowed", "allowed", "allowed"]),
    ];
    for (name, policy, prepare, expected) in rows {
        let node = Node::new(policy);
        prepare(&node);
        let (sandbox, container) = (node.sandbox(), node.bundle());
        let found = [(&sandbox, true), (&container, true), (&container, false)]
            .map(|(bundle, sees)| outcome(&node, policy, bundle, sees, false));
        assert_eq!(found, expected.map(str::to_owned), "{name}");
        // A process that joins a container came by admission of its own.
        let exec = outcome(&node, policy, &container, false, true);
        assert_eq!(exec, if policy == exempt { "exempt" } else { "allowed" }, "{name}: exec");
    }
    // A hook on containerd sees no sandbox. What the policy asks is done at the container, and the refusal says what is wrong.
    let node = Node::new(&deny);
    others(&node);
    let done = feed(&mut node.hook_command(), node.state().as_bytes());
    let said = String::from_utf8(done.stderr).unwrap();
    let parts = [
        &*format!("this node has no facts of pod shop/web ({UID}) yet; "),
        "on-missing-facts = \"deny\" does not work on containerd with the hook method: ",
        "set it to \"unseen\", or install with --method runtime",
    ];
    assert!(done.status.code() == Some(2) && parts.iter().all(|part| said.contains(part)), "{said}");
    // Nor does a denial of the facts stop a process that joins.
    let node = Node::new(POLICY);
    lay(&node, &strict());
    assert_eq!(outcome(&node, POLICY, &node.bundle(), true, false), "denied");
    assert_eq!(outcome(&node, POLICY, &node.bundle(), true, true), "allowed");
}

#[test]
fn what_is_imported_is_what_the_gate_reads() {
    if !needs::can_run("what_is_imported_is_what_the_gate_reads", &[]) {
        return;
    }
    let pod = |name: &str, uid: &str, network: bool| {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "shop", "uid": uid, "annotations": {"a": "b"}},
            "spec": {"nodeName": "n1", "hostNetwork": network, "containers": [{"name": "app", "image": "i"}]},
        })
    };
    let list = |pods: &[Value]| json!({"kind": "List", "items": pods}).to_string();
    let import = |node: &Node, arguments: &[&str], text: &str| {
        let done = feed(node.command(&["pods", "import"]).args(arguments), text.as_bytes());
        let text = [done.stdout, done.stderr].concat();
        (done.status.code(), String::from_utf8(text).unwrap())
    };
    let node = Node::new(&POLICY.replace("'restricted'", "'baseline'"));
    assert_eq!(hook(&node).0, 0);
    let both = [pod("web", UID, true), pod("web-2", OTHER, false)];
    let (code, said) = import(&node, &["--node", "n1"], &list(&both));
    let expected = "imported 2 pods (2 changed, 0 removed); nothing was removed, because the list has only namespace \"shop\", \
                    as without --all-namespaces\n";
    assert_eq!((code, said.as_str()), (Some(0), expected));
    assert_eq!(hook(&node).0, HOST_NETWORK);
    let (code, said) = import(&node, &["--node", "n2"], &list(&both));
    assert!(code == Some(2) && said.starts_with("pss-guard: the list has no pod of node \"n2\""), "{said}");
    assert_eq!(hook(&node).0, HOST_NETWORK);
    // Whatever a gate that knows no such version would make of them.
    run::run(Command::new(program::gate()).arg("publish-formats").arg("--root").arg(node.root()))
        .expect_success();
    let formats = node.path("run/pss-guard/gate/formats");
    assert!(fs::read_to_string(&formats).unwrap().contains("\"pod\":[1,1]"));
    edit(&formats, |text| text.replace("\"pod\":[1,1]", "\"pod\":[2,3]"));
    // It does not even read its input.
    let done = run::run(node.command(&["pods", "import"]).stdin(Stdio::null()));
    assert!(done.code == Some(2) && done.stderr.contains("versions 2 to 3 of the format \"pod\""), "{done}");
}
