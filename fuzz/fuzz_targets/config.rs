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
#![no_main]

use std::path::{Path, PathBuf};

use libfuzzer_sys::fuzz_target;
use pss_guard::facts::host::Host;
use pss_guard::facts::sandboxes::Sandboxes;
use pss_guard::facts::spec::Spec;
use pss_guard::judge::{Outcome, Request, judge};
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
    let (config, sandbox) = match files.iter().position(|byte| *byte == 0) {
        Some(end) => (&files[..end], &files[end + 1..]),
        None => (files, &[][..]),
    };
    let sandbox: Option<Spec<'_>> = std::str::from_utf8(sandbox).ok().and_then(|text| serde_json::from_str(text).ok());
    POLICIES.with(|policies| {
        let which = usize::from(node >> 1) % policies.len();
        let case = Case {
            told: Engine::ALL.get(usize::from(*engine) % (Engine::ALL.len() + 1)).copied(),
            observed: node & 1 == 1,
            policy: &policies[which],
            restricted: which < 2,
            sandbox: Sandboxes::of_every_container(sandbox.as_ref()),
        };
        check(&case, config, seed(bytes));
    });
});

fn check(case: &Case<'_>, config: &[u8], mut seed: u64) {
    let mut pick = |of: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).expect("31 bits") % of
    };
    let (before, subject) = answer(case, config.to_vec());
    let Ok(mut spec) = serde_json::from_slice::<Value>(config) else {
        return assert_eq!(before, Answer::Fault, "what is no JSON was judged");
    };

    // A part of a file is none, and a key that runtimes read differently is in no file that is judged.
    let whole = config.trim_ascii_end().len();
    let cut = config[..pick(whole)].to_vec();
    assert_eq!(answer(case, cut).0, Answer::Fault, "a part was judged");
    if let Some(inside) = config.iter().position(|byte| *byte == b'{') {
        for key in ["Process", "LINUX", "mountS", "annotation\\u017f"] {
            let twice = [&config[..=inside], format!("\"{key}\":null,").as_bytes(), &config[inside + 1..]].concat();
            assert_eq!(answer(case, twice).0, Answer::Fault, "{key} was passed over");
        }
    }

    // A section that is not there is a fault that a change would cure.
    if !spec["linux"].is_object() || !spec["process"].is_object() {
        return;
    }
    let refuses = change(case, subject, &mut spec, &mut pick);
    let Some((what, proof)) = refuses else { return };
    let (after, _) = answer(case, spec.to_string().into_bytes());
    if proof || before != Answer::Allow {
        assert_ne!(after, Answer::Allow, "{what} made {before:?} an allow\n{spec}");
    }
    if before == Answer::Deny && proof {
        assert_eq!(after, Answer::Deny, "{what}\n{spec}");
    }
}

/// FNV-1a: the changes depend on the input alone, and on all of it.
fn seed(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
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
            demand: None,
            sandboxes: Some(&case.sandbox),
        };
        judge(&request, |identity, outcome| {
            let answer = match outcome {
                Outcome::Judged { rules, enforce, .. } if rules.against(&enforce).next().is_some() => Answer::Deny,
                Outcome::Judged { .. } | Outcome::Exempt(_) | Outcome::Unread(_) => Answer::Allow,
                Outcome::UnknownNamespace(_) => Answer::Deny,
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
    pick: &mut impl FnMut(usize) -> usize,
) -> Option<(String, bool)> {
    let of_container = subject == Subject::Container;
    Some(match pick(12) {
        0 => {
            // All entries of a kind: of two, the second could be the one that counts.
            let kind = ["network", "pid", "ipc"][pick(3)];
            let entries = list(&mut spec["linux"], "namespaces")?;
            entries.retain(|entry| entry["type"] != *kind);
            (format!("no {kind} namespace"), true)
        }
        1 => {
            let (kind, file) = [("network", "net"), ("pid", "pid"), ("ipc", "ipc")][pick(3)];
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
            let source = SOURCES[pick(SOURCES.len())];
            let options = [&["rbind", "rw"][..], &["bind", "ro"], &["rbind", "rprivate", "ro", "nosuid"]][pick(3)];
            let mount = json!({"destination": "/mnt/added", "type": "bind", "source": source, "options": options});
            list(spec, "mounts")?.push(mount);
            // A subPath mount of a pod whose name nobody knows may be anything, and a path below a pod of that name its own.
            let certain = !source.contains("/u-");
            (format!("a mount of {source}"), of_container && certain)
        }
        4 => {
            let (kind, source) = [("ext4", "/dev/sda1"), ("debugfs", ""), ("bpf", "bpf"), ("nfs", "server:/")][pick(4)];
            let mount = json!({"destination": "/mnt/added", "type": kind, "source": source, "options": ["rw"]});
            list(spec, "mounts")?.push(mount);
            (format!("a {kind}"), of_container)
        }
        5 => {
            // It covers what makes a privileged container one; its capabilities stay.
            let (kind, way) = [("sysfs", "ro"), ("sysfs", "rw"), ("tmpfs", "rw"), ("proc", "rw")][pick(4)];
            let at = ["/sys", "/proc", "/mnt/added"][pick(3)];
            list(spec, "mounts")?.push(json!({"destination": at, "type": kind, "source": kind, "options": [way]}));
            // At baseline a privileged container whose engine gives everybody all capabilities is denied for its /sys alone.
            if !case.restricted {
                return None;
            }
            (format!("a {kind} at {at}"), false)
        }
        6 | 7 => {
            let name = ["CAP_SYS_ADMIN", "CAP_NET_RAW", "CAP_CHOWN", "CAP_NET_BIND_SERVICE", "CAP_NEW"][pick(5)];
            let set = ["bounding", "effective", "permitted", "inheritable", "ambient"][pick(5)];
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
            let (key, value) = annotation(case, pick)?;
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
            match pick(6) {
                0 => list(&mut spec["linux"], "devices")?.push(device),
                1 => spec["linux"]["rootfsPropagation"] = json!("rshared"),
                2 => {
                    object(spec, "hooks")?;
                    list(&mut spec["hooks"], "createRuntime")?.push(json!({"path": "/bin/sh"}));
                }
                3 => spec["windows"] = json!({}),
                4 => drop(object(&mut spec["linux"], "sysctl")?.insert("kernel.panic".to_owned(), json!("1"))),
                _ => drop(object(&mut spec["linux"], "netDevices")?.insert("eth9".to_owned(), json!({}))),
            }
            ("something that no pod asks for".to_owned(), false)
        }
    })
}

/// What a pod's author or an image can write into the annotations, without what this engine writes over it.
fn annotation(case: &Case<'_>, pick: &mut impl FnMut(usize) -> usize) -> Option<(&'static str, &'static str)> {
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
    let (key, value) = ALL[pick(ALL.len())];
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
