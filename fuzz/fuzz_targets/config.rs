//! config.json with its sandbox's: any bytes are judged or are a fault, and what makes a container worse never lets it start.
//!
//! The input is a byte for the engine and one for the node and the policy, then config.json, a NUL and the sandbox's. No file
//! is opened: the sandbox comes from the input, and the node is an observation or unknown.
//!
//! Two kinds of changes are made to a config.json that was read:
//!
//! - *proof*: a host namespace, a path of the host, a capability that restricted forbids. Whatever it was before, a container
//!   with it is refused. That is more than "deny stays deny".
//! - *more*: anything else that is added. What was denied or a fault before is not allowed with it.
//!
//! Not among them is what only an engine can write, because it writes last: the keys by which it says whose container this is.
//! With them the container *is* another one. Nor is anything that is taken away but namespaces: a container without a system
//! call filter is only suspect where one with a filter that allows everything may be refused.
//!
//! Inputs are changed as JSON for the most part, or few would get past the parser.
#![no_main]

use std::path::{Path, PathBuf};

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use pss_guard::inspect::host::Host;
use pss_guard::inspect::sandboxes::Sandboxes;
use pss_guard::inspect::spec::Spec;
use pss_guard::inspect::evaluate::{Outcome, Pods, Request, evaluate};
use pss_guard::level::Policy;
use pss_guard::level::policy::parse;
use pss_guard::pss::facts::{Engine, Subject};
use serde_json::{Map, Value, json};

thread_local! {
    static NODE: Host = Host::observed(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/node.json"))).expect("a node");
    static POLICIES: [Policy; 4] = [
        ("restricted", "audit"),
        ("restricted", "deny"),
        ("baseline", "audit"),
        ("baseline", "deny"),
    ].map(|(level, on_suspect)| {
        // Our own control is a matter of taste and would deny nearly everything.
        let text = format!(
            "mode = 'enforce'\non-suspect = '{on_suspect}'\n[defaults]\nenforce = '{level}'\n[unmanaged]\nenforce = '{level}'\n\
             [controls]\nreadOnlyRootFilesystem = 'off'"
        );
        parse(&text, "policy.toml").expect("a policy")
    });
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Allow,
    Deny,
    Fault,
}

/// What stays as it is while a config.json is changed.
struct Case<'c> {
    told: Option<Engine>,
    observed: bool,
    policy: &'c Policy,
    restricted: bool,
    sandbox: Sandboxes,
}

fuzz_target!(|bytes: &[u8]| {
    let [engine, node, files @ ..] = bytes else { return };
    let (config, sandbox) = split(files);
    let sandbox: Option<Spec<'_>> =
        std::str::from_utf8(sandbox).ok().and_then(|text| serde_json::from_str(text).ok());
    POLICIES.with(|policies| {
        let which = usize::from(node >> 1) % policies.len();
        let case = Case {
            told: Engine::ALL.get(usize::from(*engine) % (Engine::ALL.len() + 1)).copied(),
            observed: node & 1 == 1,
            policy: &policies[which],
            restricted: which < 2,
            sandbox: Sandboxes::of_every_container(sandbox.as_ref()),
        };
        // FNV-1a: the changes depend on the input alone, and on all of it.
        let hash = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        check(&case, config, &mut Random(bytes.iter().fold(0xcbf2_9ce4_8422_2325, hash)));
    });
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut random = Random(u64::from(seed));
    let changed = if random.below(4) > 0 { restructured(&data[..size], &mut random) } else { None };
    match changed.filter(|changed| changed.len() <= max_size) {
        Some(changed) => {
            data[..changed.len()].copy_from_slice(&changed);
            changed.len()
        }
        None => fuzzer_mutate(data, size, max_size),
    }
});

/// The same input after a few changes of the one or the other file as JSON; `None` where it is none.
fn restructured(bytes: &[u8], random: &mut Random) -> Option<Vec<u8>> {
    let (header, files) = bytes.split_at_checked(2)?;
    let (config, sandbox) = split(files);
    let of_config = random.below(4) > 0;
    let mut value: Value = serde_json::from_slice(if of_config { config } else { sandbox }).ok()?;
    for _ in 0..=random.below(3) {
        let all = 1 + below(&mut value);
        let other = nth(&mut value, &mut random.below(all))?.clone();
        alter(nth(&mut value, &mut random.below(all))?, other, random);
    }
    let text = value.to_string();
    let (config, sandbox) = if of_config { (text.as_bytes(), sandbox) } else { (config, text.as_bytes()) };
    Some([header, config, &[0], sandbox].concat())
}

fn alter(place: &mut Value, other: Value, random: &mut Random) {
    let word = |random: &mut Random| {
        // Between the first two escaped quotes of a line.
        let words = include_str!("../config.dict").lines().filter_map(|line| line.split("\\\"").nth(1));
        let words: Vec<&str> = words.collect();
        words[random.below(words.len())].to_owned()
    };
    let value = match random.below(6) {
        0 => json!(word(random)),
        1 => json!([word(random)]),
        2 => [json!(null), json!(true), json!(0), json!(-1), json!(u32::MAX), json!({}), json!("")]
            [random.below(7)]
        .clone(),
        _ => other,
    };
    match place {
        Value::Object(object) if random.below(4) > 0 => {
            let key = object.keys().nth(random.below(object.len().max(1))).cloned();
            match (random.below(3), key) {
                (0, Some(key)) => drop(object.remove(&key)),
                (1, Some(key)) => drop(object.insert(key, value)),
                _ => drop(object.insert(word(random), value)),
            }
        }
        Value::Array(array) if random.below(4) > 0 => {
            let at = random.below(array.len() + 1);
            if random.below(3) == 0 && at < array.len() {
                drop(array.remove(at))
            } else {
                array.insert(at, value)
            }
        }
        place => *place = value,
    }
}

/// How many values there are in a value.
fn below(value: &mut Value) -> usize {
    children(value).into_iter().map(|child| 1 + below(child)).sum()
}

/// The one of a number, counted from the outermost.
fn nth<'v>(value: &'v mut Value, number: &mut usize) -> Option<&'v mut Value> {
    if *number == 0 {
        return Some(value);
    }
    *number -= 1;
    children(value).into_iter().find_map(|child| nth(child, number))
}

fn children(value: &mut Value) -> Vec<&mut Value> {
    match value {
        Value::Array(all) => all.iter_mut().collect(),
        Value::Object(all) => all.values_mut().collect(),
        _ => Vec::new(),
    }
}

/// config.json, and the sandbox's behind a NUL.
fn split(files: &[u8]) -> (&[u8], &[u8]) {
    let end = files.iter().position(|byte| *byte == 0);
    end.map_or((files, &[]), |end| (&files[..end], &files[end + 1..]))
}

/// Numbers that the same seed gives again.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % end
    }
}

fn check(case: &Case<'_>, config: &[u8], random: &mut Random) {
    let of_bytes = answer(case, config.to_vec()).0;
    let Ok(mut spec) = serde_json::from_slice::<Value>(config) else {
        return assert_eq!(of_bytes, Answer::Fault, "what is no JSON was judged");
    };
    // Changes are made to the values, of which each key has one: what a second one makes a fault is not compared. The order
    // of keys changes nothing.
    let (before, subject) = answer(case, spec.to_string().into_bytes());
    assert!(of_bytes == before || of_bytes == Answer::Fault, "{of_bytes:?}, and in another order {before:?}");

    // A part of a file is none, and a key that runtimes read differently is in no file that is judged.
    let whole = config.trim_ascii_end().len();
    let cut = config[..random.below(whole)].to_vec();
    assert_eq!(answer(case, cut).0, Answer::Fault, "a part was judged");
    if let Some(inside) = config.iter().position(|byte| *byte == b'{') {
        for key in ["Process", "LINUX", "mountS", "annotation\\u017f"] {
            let twice =
                [&config[..=inside], format!("\"{key}\":null,").as_bytes(), &config[inside + 1..]].concat();
            assert_eq!(answer(case, twice).0, Answer::Fault, "{key} was passed over");
        }
    }

    // A section that is not there is a fault that a change would cure.
    if !spec["linux"].is_object() || !spec["process"].is_object() {
        return;
    }
    let refuses = change(case, subject, &mut spec, random);
    let Some((what, proof)) = refuses else { return };
    let (after, _) = answer(case, spec.to_string().into_bytes());
    if proof || before != Answer::Allow {
        assert_ne!(after, Answer::Allow, "{what} made {before:?} an allow\n{spec}");
    }
    if before == Answer::Deny && proof {
        assert_eq!(after, Answer::Deny, "{what}\n{spec}");
    }
}

/// Judges as the gate does.
fn answer(case: &Case<'_>, config: Vec<u8>) -> (Answer, Subject) {
    let bundle = match case.told {
        Some(Engine::Containerd) => "/run/containerd/io.containerd.runtime.v2.task/k8s.io/c1",
        Some(Engine::Docker) => "/run/docker/containerd/daemon/io.containerd.runtime.v2.task/moby/c1",
        Some(Engine::CriO) => "/run/containers/storage/overlay-containers/c1/userdata",
        Some(Engine::Podman) => "/var/lib/containers/storage/overlay-containers/c1/userdata",
        Some(Engine::None) | None => "/bundle",
    };
    let config = Ok((PathBuf::from(bundle).join("config.json"), config));
    NODE.with(|node| {
        let request = Request {
            policy: Ok(case.policy),
            host: if case.observed { node } else { &Host::Unknown },
            config: &config,
            exec: None,
            restore: None,
            engine: case.told,
            id: None,
            pid: None,
            runtime_handler: None,
            sees_sandboxes: false,
            namespaces: None,
            pods: Pods::Nowhere,
            demand: None,
            sandboxes: Some(&case.sandbox),
        };
        evaluate(&request, |identity, outcome| {
            let answer = match outcome {
                Outcome::Evaluated { rules, enforce, .. } if rules.denying(&enforce).next().is_some() => {
                    Answer::Deny
                }
                Outcome::Evaluated { .. } | Outcome::Exempt(_) | Outcome::Unread(_) => Answer::Allow,
                Outcome::UnknownNamespace(_) | Outcome::MissingFacts(..) => Answer::Deny,
                Outcome::Fault(_) => Answer::Fault,
            };
            (answer, identity.map_or(Subject::Container, |identity| identity.subject))
        })
    })
}

/// Changes one thing for the worse: what it was, and whether it is proof. `None` where there is no place for it.
fn change(
    case: &Case<'_>,
    subject: Subject,
    spec: &mut Value,
    random: &mut Random,
) -> Option<(String, bool)> {
    let of_container = subject == Subject::Container;
    Some(match random.below(12) {
        0 => {
            // All entries of a kind: of two, the second could be the one that counts.
            let kind = ["network", "pid", "ipc"][random.below(3)];
            let entries = list(&mut spec["linux"], "namespaces")?;
            entries.retain(|entry| entry["type"] != *kind);
            (format!("no {kind} namespace"), true)
        }
        1 => {
            let (kind, file) = [("network", "net"), ("pid", "pid"), ("ipc", "ipc")][random.below(3)];
            let path = format!("/host/{file}");
            list(&mut spec["linux"], "namespaces")?.push(json!({"type": kind, "path": path}));
            // Of an unknown node nothing can be proved.
            (format!("the host's {kind} namespace"), case.observed)
        }
        2 | 3 => {
            const SOURCES: [&str; 12] = [
                "/",
                "/etc",
                "/proc",
                "/dev",
                "/run/containerd/containerd.sock",
                "/var/lib/kubelet",
                "/var/lib/kubelet/pods",
                "/var/lib/kubelet/pods/u-2/volumes/kubernetes.io~empty-dir/data",
                "/var/lib/kubelet/pods/u-1/volumes/kubernetes.io~empty-dir/data/../../../../../..",
                "/var/lib/kubelet/pods/u-1/volume-subpaths/host/app/1",
                "//etc",
                "../../../../../../../../etc",
            ];
            let source = SOURCES[random.below(SOURCES.len())];
            let options = [&["rbind", "rw"][..], &["bind", "ro"], &["rbind", "rprivate", "ro", "nosuid"]]
                [random.below(3)];
            let mount =
                json!({"destination": "/mnt/added", "type": "bind", "source": source, "options": options});
            list(spec, "mounts")?.push(mount);
            // A subPath mount of a pod whose name nobody knows may be anything, and a path below a pod of that name its own.
            let certain = !source.contains("/u-");
            (format!("a mount of {source}"), of_container && certain)
        }
        4 => {
            let (kind, source) =
                [("ext4", "/dev/sda1"), ("debugfs", ""), ("bpf", "bpf"), ("nfs", "server:/")]
                    [random.below(4)];
            let mount =
                json!({"destination": "/mnt/added", "type": kind, "source": source, "options": ["rw"]});
            list(spec, "mounts")?.push(mount);
            (format!("a {kind}"), of_container)
        }
        5 => {
            // It covers what makes a privileged container one; its capabilities stay.
            let (kind, way) =
                [("sysfs", "ro"), ("sysfs", "rw"), ("tmpfs", "rw"), ("proc", "rw")][random.below(4)];
            let at = ["/sys", "/proc", "/mnt/added"][random.below(3)];
            list(spec, "mounts")?
                .push(json!({"destination": at, "type": kind, "source": kind, "options": [way]}));
            // At baseline a privileged container whose engine gives everybody all capabilities is denied for its /sys alone.
            if !case.restricted {
                return None;
            }
            (format!("a {kind} at {at}"), false)
        }
        6 | 7 => {
            let name = ["CAP_SYS_ADMIN", "CAP_NET_RAW", "CAP_CHOWN", "CAP_NET_BIND_SERVICE", "CAP_NEW"]
                [random.below(5)];
            let set = ["bounding", "effective", "permitted", "inheritable", "ambient"][random.below(5)];
            let sets = object(&mut spec["process"], "capabilities")?;
            let names = sets.entry(set).or_insert_with(|| json!([]));
            if names.is_null() {
                *names = json!([]);
            }
            names.as_array_mut()?.push(json!(name));
            let forbidden = case.restricted && name != "CAP_NET_BIND_SERVICE";
            (format!("{name} in the {set} set"), of_container && forbidden)
        }
        8 | 9 => {
            let (key, value) = annotation(case, random)?;
            let annotations = object(spec, "annotations")?;
            if annotations.contains_key(key) {
                return None;
            }
            annotations.insert(key.to_owned(), json!(value));
            (format!("annotation {key}={value}"), false)
        }
        10 => {
            spec["process"]["noNewPrivileges"] = json!(false);
            ("no_new_privs off".to_owned(), of_container && case.restricted)
        }
        _ => {
            let device = json!({"path": "/dev/sda", "type": "b", "major": 8, "minor": 0});
            match random.below(6) {
                0 => list(&mut spec["linux"], "devices")?.push(device),
                1 => spec["linux"]["rootfsPropagation"] = json!("rshared"),
                2 => {
                    object(spec, "hooks")?;
                    list(&mut spec["hooks"], "createRuntime")?.push(json!({"path": "/bin/sh"}));
                }
                3 => spec["windows"] = json!({}),
                4 => {
                    drop(object(&mut spec["linux"], "sysctl")?.insert("kernel.panic".to_owned(), json!("1")))
                }
                _ => drop(object(&mut spec["linux"], "netDevices")?.insert("eth9".to_owned(), json!({}))),
            }
            ("something that no pod asks for".to_owned(), false)
        }
    })
}

/// What a pod's author or an image can write into the annotations, without what this engine writes over it.
fn annotation(case: &Case<'_>, random: &mut Random) -> Option<(&'static str, &'static str)> {
    const ALL: [(&str, &str); 32] = [
        ("pod-security.kubernetes.io/enforce", "privileged"),
        ("pod-security.kubernetes.io/enforce", "nonsense"),
        ("pod-security.kubernetes.io/enforce-version", "v1.0"),
        ("pod-security.kubernetes.io/audit", "privileged"),
        ("pod-security.kubernetes.io/warn", "privileged"),
        ("io.kubernetes.cri.container-type", "sandbox"),
        ("io.kubernetes.cri.container-type", "container"),
        ("io.kubernetes.cri.sandbox-namespace", "kube-system"),
        ("io.kubernetes.cri.sandbox-uid", "u-1"),
        ("io.kubernetes.cri.sandbox-id", "c2"),
        ("io.kubernetes.pod.namespace", "kube-system"),
        ("io.kubernetes.pod.name", "kube-proxy"),
        ("io.kubernetes.pod.uid", "u-1"),
        ("io.kubernetes.container.name", "POD"),
        ("io.kubernetes.container.ports", "[]"),
        ("io.kubernetes.container.hash", "1"),
        ("io.kubernetes.container.preStopHandler", "{}"),
        ("io.kubernetes.cri-o.ContainerType", "sandbox"),
        ("io.kubernetes.cri-o.Namespace", "kube-system"),
        ("io.kubernetes.cri-o.SandboxID", "c2"),
        ("io.kubernetes.cri-o.Annotations", "{}"),
        ("io.kubernetes.cri-o.userns-mode", "auto"),
        ("userns-mode.crio.io", "auto"),
        ("io.container.manager", "libpod"),
        ("io.container.manager", "cri-o"),
        ("run.oci.hooks.stderr", "/etc/passwd"),
        ("run.oci.seccomp_bpf_data", "AAAA"),
        ("run.oci.keep_original_groups", "1"),
        ("org.systemd.property.ExecStart", "[]"),
        ("org.systemd.property.TimeoutStopUSec", "uint64 1"),
        ("org.criu.config", "/etc/criu.conf"),
        ("bundle", "/"),
    ];
    let (key, value) = ALL[random.below(ALL.len())];
    let is_containerds = key.starts_with("io.kubernetes.cri.");
    let is_cri_os = key.starts_with("io.kubernetes.pod.")
        || key == "io.kubernetes.container.name"
        || matches!(key, "io.kubernetes.cri-o.SandboxID" | "io.kubernetes.cri-o.Annotations");
    let is_engines = match case.told {
        Some(Engine::Containerd) => is_containerds,
        Some(Engine::CriO) => is_cri_os,
        // Nobody said which engine it was, so only annotations tell.
        None => is_containerds || is_cri_os || key == "io.container.manager",
        Some(Engine::Podman | Engine::Docker | Engine::None) => false,
    };
    (!is_engines).then_some((key, value))
}

/// The array of a key, made where there is none.
fn list<'v>(value: &'v mut Value, key: &str) -> Option<&'v mut Vec<Value>> {
    let place = value.as_object_mut()?.entry(key).or_insert(Value::Null);
    if place.is_null() {
        *place = json!([]);
    }
    place.as_array_mut()
}

/// The same for an object.
fn object<'v>(value: &'v mut Value, key: &str) -> Option<&'v mut Map<String, Value>> {
    let place = value.as_object_mut()?.entry(key).or_insert(Value::Null);
    if place.is_null() {
        *place = json!({});
    }
    place.as_object_mut()
}
