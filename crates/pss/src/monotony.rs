//! Tests that the standard is monotonous, over generated containers and pods: what is stricter stays allowed, by each control of the
//! table and each of its versions, and by the levels.
//!
//! A container is the strictest one with some things loosened. Two are compared that differ in one thing. A new control is held
//! without a line here, unless none of these things concerns it: then a test asks for one that does.

use std::collections::BTreeSet;

use super::capabilities::{CapabilitySet, NAMES};
use super::controls::CONTROLS;
use super::facts::{
    Addition, AppArmor, Engine, Facts, HostNamespaces, Known, SeLinux, Seccomp, SeccompDefault, Subject,
    UserNamespace, Volume,
};
use super::pod::{
    APPARMOR_ANNOTATION, Container, Kind, Pod, PodSpec, Port, Profile, SECCOMP_ANNOTATION,
    SECCOMP_POD_ANNOTATION, Sysctl,
};
use super::testing::{compliant, compliant_pod, findings};
use super::{Certainty, Control, Level, Minor, NEWEST, Visibility, evaluate, evaluate_pod};

/// Something that can be looser than in the strictest, and the ways in which it can.
struct Thing<T: 'static> {
    name: &'static str,
    looser: &'static [fn(&mut T)],
}

const fn thing<T>(name: &'static str, looser: &'static [fn(&mut T)]) -> Thing<T> {
    Thing { name, looser }
}

/// The same numbers in every run (xorshift64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 33) % u64::try_from(end).unwrap()).unwrap()
    }
}

/// Per thing the way in which it is looser, if it is.
type Choice = Vec<Option<usize>>;

/// A choice, and one that is looser in the thing at the index.
fn two_choices<T>(numbers: &mut Numbers, things: &[Thing<T>]) -> (Choice, Choice, usize) {
    // Some containers are nearly the strictest, some nearly the loosest.
    let one_in = 2 + numbers.below(12);
    let mut strict: Choice = things
        .iter()
        .map(|thing| (numbers.below(one_in) == 0).then(|| numbers.below(thing.looser.len())))
        .collect();
    let at = numbers.below(things.len());
    strict[at] = None;
    let mut loose = strict.clone();
    loose[at] = Some(numbers.below(things[at].looser.len()));
    (strict, loose, at)
}

fn loosen<T>(strictest: &mut T, things: &[Thing<T>], choice: &Choice) {
    for (thing, way) in things.iter().zip(choice) {
        if let Some(way) = way {
            thing.looser[*way](strictest);
        }
    }
}

fn none(_: &Control) -> bool {
    false
}

/// The versions at which anything changes, and one that is newer than known.
fn versions() -> BTreeSet<Minor> {
    let of_control = |control: &&Control| {
        let observed: Vec<Minor> = control.observed.iter().map(|(since, _)| *since).collect();
        observed.into_iter().chain(control.declared.iter().map(|(since, _)| *since))
    };
    CONTROLS.iter().flat_map(of_control).chain([NEWEST + 1]).collect()
}

/// Each control with each of its versions.
fn revisions() -> impl Iterator<Item = (&'static Control, Minor)> {
    CONTROLS.iter().flat_map(|control| {
        let known = move |minor: &Minor| *minor >= control.since();
        versions().into_iter().filter(known).map(move |minor| (*control, minor))
    })
}

const ROUNDS: usize = 600;

// What a node shows.

/// The strictest container: besides what restricted demands it has users of its own.
fn strictest() -> Facts<'static> {
    Facts { user_namespace: UserNamespace::Own, ..compliant() }
}

const OBSERVED: &[Thing<Facts<'static>>] = &[
    thing("uid", &[|f| f.uid = 0]),
    thing(
        "users",
        &[|f| f.user_namespace = UserNamespace::OwnUnclear, |f| f.user_namespace = UserNamespace::Host],
    ),
    thing("no_new_privs", &[|f| f.no_new_privileges = false]),
    thing("root file system", &[|f| f.root_read_only = false]),
    thing(
        "a capability",
        &[
            |f| f.capabilities.insert("CHOWN"),
            |f| f.capabilities.insert("NET_RAW"),
            |f| f.capabilities.insert("CAP_CAP_CHOWN"),
        ],
    ),
    thing("another capability", &[|f| f.capabilities.insert("SYS_ADMIN"), |f| f.capabilities.insert("BPF")]),
    thing(
        "every capability",
        &[|f| {
            f.capabilities.extend(&CapabilitySet::of(&NAMES));
            f.has_all_capabilities = true;
        }],
    ),
    thing("/sys", &[|f| f.sys_writable = true]),
    thing("/proc/kcore", &[|f| f.proc_masks.kcore_masked = false]),
    thing("/proc/sys", &[|f| f.proc_masks.sys_read_only = false]),
    thing("/proc/irq", &[|f| f.proc_masks.rest_protected = false]),
    thing("network", &[|f| join(f, |host| host.network = true)]),
    thing("processes", &[|f| join(f, |host| host.pid = true)]),
    thing("IPC", &[|f| join(f, |host| host.ipc = true)]),
    thing(
        "a sysctl",
        &[
            |f| f.sysctls = Known::Seen(vec!["vm.swappiness".into()]),
            |f| {
                f.sysctls =
                    Known::Seen(vec!["net.ipv4.tcp_rmem".into(), "net.ipv4.tcp_notsent_lowat".into()]);
            },
        ],
    ),
    thing(
        "seccomp",
        &[
            |f| f.seccomp = Seccomp::Absent,
            |f| f.seccomp = Seccomp::AllowsAll,
            |f| f.seccomp = Seccomp::Replaced,
        ],
    ),
    thing(
        "AppArmor",
        &[
            |f| f.apparmor = AppArmor::NoProfile,
            |f| f.apparmor = AppArmor::NoProfileUnclear("perhaps off"),
            |f| f.apparmor = AppArmor::Profile("unconfined"),
        ],
    ),
    thing(
        "SELinux",
        &[
            |f| f.selinux = SeLinux::Label { user: "system_u", role: "system_r", kind: "spc_t" },
            |f| f.selinux = SeLinux::Label { user: "root", role: "system_r", kind: "container_t" },
            |f| f.selinux = SeLinux::Label { user: "system_u", role: "sysadm_r", kind: "container_t" },
            |f| f.selinux = SeLinux::Malformed("a:b"),
        ],
    ),
    thing("a host port", &[|f| f.host_ports = Known::Seen(vec![0, 80])]),
    thing("a host of preStop", &[|f| f.lifecycle_hosts.push("a.com".into())]),
    thing(
        "a path of the host",
        &[
            |f| {
                f.volumes.push(Volume::HostPath { destination: "/m", source: "/etc".into(), name: None });
            },
            |f| {
                let name = Some("m");
                f.volumes.push(Volume::HostPath { destination: "/m", source: "/etc".into(), name });
            },
        ],
    ),
    thing(
        "a volume of a plugin",
        &[
            |f| f.volumes.push(Volume::Plugin { name: "g", plugin: "git-repo" }),
            |f| f.volumes.push(Volume::Plugin { name: "n", plugin: "nfs" }),
        ],
    ),
    thing(
        "an unclear mount",
        &[
            |f| f.volumes.push(Volume::Unclear { destination: "/x", why: "gone" }),
            |f| {
                f.volumes.push(Volume::Device { destination: None, source: "/dev/block/8:0".into() });
            },
        ],
    ),
    thing("an injected mount", &[|f| f.injected.push((Some("/usr/lib/plugin"), "/opt".into()))]),
    thing(
        "an addition",
        &[
            |f| f.additions.push(Addition::Order("run.oci.handler")),
            |f| {
                f.additions.push(Addition::Hook { stage: "prestart", path: "/x" });
            },
        ],
    ),
];

fn join(facts: &mut Facts<'_>, set: fn(&mut HostNamespaces)) {
    if let Known::Seen(host) = &mut facts.host_namespaces {
        set(host);
    }
}

/// What the node is like, and which spec it is: no stricter and no looser.
const CONDITIONS: &[fn(&mut Facts<'static>)] = &[
    |f| f.engine = Engine::CriO,
    |f| f.engine = Engine::Docker,
    |f| f.seccomp_default = SeccompDefault::RuntimeDefault,
    |f| f.default_capabilities = CapabilitySet::default(),
    |f| f.apparmor = AppArmor::Off("no AppArmor"),
    |f| f.selinux = SeLinux::Off("no SELinux"),
    |f| f.host_namespaces = Known::Unseen("no /proc"),
    |f| f.sysctls = Known::Unseen("no sandbox"),
    |f| f.host_ports = Known::Unseen("no annotation"),
    |f| f.subject = Subject::Sandbox,
];

fn certainty(control: &Control, minor: Minor, facts: &Facts<'_>) -> Certainty {
    let found = findings(control, minor, facts);
    found.iter().map(|finding| finding.certainty).max().unwrap_or(Certainty::Unseen)
}

/// How bad a level finds a container.
fn worst(level: Level, minor: Minor, facts: &Facts<'_>) -> Certainty {
    let found = evaluate(level, minor, facts, none);
    found.iter().map(|found| found.finding.certainty).max().unwrap_or(Certainty::Unseen)
}

/// Containers that differ in one thing: the stricter one, the looser one, and what that is.
fn containers() -> impl Iterator<Item = (Facts<'static>, Facts<'static>, &'static str)> {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    (0..ROUNDS).map(move |_| {
        let (strict, loose, at) = two_choices(&mut numbers, OBSERVED);
        let conditions: Vec<_> = CONDITIONS.iter().filter(|_| numbers.below(8) == 0).collect();
        let [strict, loose] = [strict, loose].map(|choice| {
            let mut facts = strictest();
            loosen(&mut facts, OBSERVED, &choice);
            for condition in &conditions {
                condition(&mut facts);
            }
            facts
        });
        (strict, loose, OBSERVED[at].name)
    })
}

#[test]
fn no_control_is_milder_with_a_looser_container() {
    let privileged = CONTROLS.iter().find(|control| control.id == "privileged").unwrap();
    let (mut tightened, mut asked) = (BTreeSet::new(), BTreeSet::new());
    for (strict, loose, thing) in containers() {
        for (control, minor) in revisions() {
            let (before, after) = (certainty(control, minor, &strict), certainty(control, minor, &loose));
            if before < after {
                tightened.insert(control.id);
                asked.insert(thing);
            }
            // What engines do not apply to a privileged container proves nothing, and that is denied by itself.
            let is_privileged = certainty(privileged, minor, &loose) == Certainty::Violates;
            // A part of the engine's default capabilities is suspect, all of them are what a pod has that asks for none.
            let are_defaults = control.id == "capabilities_baseline" && before == Certainty::Suspect;
            assert!(
                before <= after || is_privileged || are_defaults,
                "{} at v1.{minor}, {thing}: {before:?}, then {after:?}\n{strict:?}",
                control.id
            );
        }
    }
    for control in CONTROLS.iter().filter(|control| control.sees != Visibility::Nothing) {
        assert!(tightened.contains(control.id), "{} is never looser: add what concerns it", control.id);
    }
    for thing in OBSERVED {
        assert!(asked.contains(thing.name), "no control asks about it: {}", thing.name);
    }
}

#[test]
fn a_denial_stays_at_stricter_levels_and_for_looser_containers() {
    let versions = versions();
    for (strict, loose, thing) in containers() {
        for minor in &versions {
            let of = |facts| Level::ALL.map(|level| worst(level, *minor, facts));
            let (before, after) = (of(&strict), of(&loose));
            let row = || format!("v1.{minor}, {thing}: {before:?}, then {after:?}\n{strict:?}");
            assert!(before.is_sorted() && after.is_sorted(), "a stricter level is milder: {}", row());
            assert_eq!(after[0], Certainty::Unseen, "privileged finds something: {}", row());
            let denied = Certainty::Violates;
            assert!(
                before.iter().zip(after).all(|(before, after)| *before < denied || after == denied),
                "{}",
                row()
            );
        }
    }
}

// What a pod declares.

/// The strictest pod: besides what restricted demands it has users of its own, and each container says all by itself.
fn strictest_pod() -> Pod {
    let mut pod = compliant_pod();
    let spec = &mut pod.spec;
    spec.host_users = Some(false);
    spec.containers.truncate(1);
    spec.ephemeral_containers = vec![Container { name: "debug".into(), ..spec.containers[0].clone() }];
    for kind in Kind::ALL {
        let context = &mut container(spec, kind).security_context;
        context.run_as_non_root = Some(true);
        context.seccomp_profile = Some(profile("RuntimeDefault"));
    }
    pod
}

fn container(spec: &mut PodSpec, kind: Kind) -> &mut Container {
    match kind {
        Kind::Init => &mut spec.init_containers[0],
        Kind::Regular => &mut spec.containers[0],
        Kind::Ephemeral => &mut spec.ephemeral_containers[0],
    }
}

fn profile(kind: &str) -> Profile {
    Profile { kind: kind.into() }
}

fn annotate(pod: &mut Pod, key: String) {
    pod.annotations.insert(key, "unconfined".into());
}

const OF_PODS: &[Thing<Pod>] = &[
    thing("hostNetwork", &[|pod| pod.spec.host_network = true]),
    thing("hostPID", &[|pod| pod.spec.host_pid = true]),
    thing("hostIPC", &[|pod| pod.spec.host_ipc = true]),
    thing("hostUsers", &[|pod| pod.spec.host_users = None, |pod| pod.spec.host_users = Some(true)]),
    thing(
        "seccompProfile",
        &[
            |pod| pod.spec.security_context.seccomp_profile = None,
            |pod| pod.spec.security_context.seccomp_profile = Some(profile("Unconfined")),
        ],
    ),
    thing(
        "appArmorProfile",
        &[|pod| pod.spec.security_context.app_armor_profile = Some(profile("Unconfined"))],
    ),
    thing(
        "seLinuxOptions",
        &[
            |pod| pod.spec.security_context.se_linux_options.kind = "container_engine_t".into(),
            |pod| pod.spec.security_context.se_linux_options.user = "u".into(),
            |pod| pod.spec.security_context.se_linux_options.role = "r".into(),
        ],
    ),
    thing("runAsUser", &[|pod| pod.spec.security_context.run_as_user = Some(0)]),
    thing(
        "runAsNonRoot",
        &[
            |pod| pod.spec.security_context.run_as_non_root = None,
            |pod| pod.spec.security_context.run_as_non_root = Some(false),
        ],
    ),
    thing(
        "sysctls",
        &[
            |pod| pod.spec.security_context.sysctls = vec![Sysctl { name: "vm.swappiness".into() }],
            |pod| pod.spec.security_context.sysctls = vec![Sysctl { name: "net.ipv4.tcp_rmem".into() }],
        ],
    ),
    thing("hostProcess", &[|pod| pod.spec.security_context.windows_options.host_process = true]),
    // One source each: the API server refuses a volume of two, of which upstream's levels say different things.
    thing(
        "volumes",
        &[
            |pod| pod.spec.volumes[0].sources = vec!["hostPath".into()],
            |pod| pod.spec.volumes[2].sources = vec!["nfs".into()],
        ],
    ),
    thing(
        "annotations",
        &[
            |pod| annotate(pod, format!("{APPARMOR_ANNOTATION}app")),
            |pod| annotate(pod, SECCOMP_POD_ANNOTATION.into()),
            |pod| annotate(pod, format!("{SECCOMP_ANNOTATION}init")),
        ],
    ),
];

const OF_CONTAINERS: &[Thing<Container>] = &[
    thing("privileged", &[|own| own.security_context.privileged = true]),
    thing(
        "allowPrivilegeEscalation",
        &[
            |own| own.security_context.allow_privilege_escalation = None,
            |own| own.security_context.allow_privilege_escalation = Some(true),
        ],
    ),
    thing(
        "capabilities.add",
        &[
            |own| own.security_context.capabilities.add = vec!["CHOWN".into()],
            |own| own.security_context.capabilities.add = vec!["NET_BIND_SERVICE".into(), "BPF".into()],
        ],
    ),
    thing("capabilities.drop", &[|own| own.security_context.capabilities.drop.clear()]),
    thing("procMount", &[|own| own.security_context.proc_mount = Some("Unmasked".into())]),
    thing("readOnlyRootFilesystem", &[|own| own.security_context.read_only_root_filesystem = false]),
    thing(
        "seccompProfile",
        &[
            |own| own.security_context.seccomp_profile = None,
            |own| own.security_context.seccomp_profile = Some(profile("Unconfined")),
        ],
    ),
    thing("appArmorProfile", &[|own| own.security_context.app_armor_profile = Some(profile("Unconfined"))]),
    thing(
        "seLinuxOptions",
        &[
            |own| own.security_context.se_linux_options.kind = "spc_t".into(),
            |own| own.security_context.se_linux_options.user = "u".into(),
        ],
    ),
    thing("runAsUser", &[|own| own.security_context.run_as_user = Some(0)]),
    thing(
        "runAsNonRoot",
        &[
            |own| own.security_context.run_as_non_root = None,
            |own| own.security_context.run_as_non_root = Some(false),
        ],
    ),
    thing("hostProcess", &[|own| own.security_context.windows_options.host_process = true]),
    thing("ports", &[|own| own.ports = vec![Port { host_port: 0 }, Port { host_port: 80 }]]),
    thing(
        "probes and lifecycle",
        &[
            |own| own.liveness_probe.http_get.host = "a.com".into(),
            |own| own.readiness_probe.tcp_socket.host = "::1".into(),
            |own| own.startup_probe.http_get.host = "localhost".into(),
            |own| own.lifecycle.post_start.http_get.host = "a.com".into(),
            |own| own.lifecycle.pre_stop.tcp_socket.host = "a.com".into(),
        ],
    ),
];

/// For Windows, without the fields that the API server refuses there: it excuses from controls that ask for them.
fn make_windows(pod: &mut Pod) {
    pod.spec.os.name = "windows".into();
    for kind in Kind::ALL {
        let context = &mut container(&mut pod.spec, kind).security_context;
        context.capabilities.add.clear();
        context.seccomp_profile = None;
    }
    pod.spec.security_context.seccomp_profile = None;
}

/// Pods that differ in one thing of the pod or of one container: the stricter one, the looser one, and what that is. Some are for
/// Windows.
fn pods() -> impl Iterator<Item = (Pod, Pod, &'static str)> {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    (0..ROUNDS).map(move |_| {
        let differs = numbers.below(1 + Kind::ALL.len());
        let (mut strict, mut loose) = (strictest_pod(), strictest_pod());
        let (own, looser, at) = two_choices(&mut numbers, OF_PODS);
        let mut thing = OF_PODS[at].name;
        loosen(&mut strict, OF_PODS, &own);
        loosen(&mut loose, OF_PODS, if differs == 0 { &looser } else { &own });
        for (kind, place) in Kind::ALL.into_iter().zip(1..) {
            let (own, looser, at) = two_choices(&mut numbers, OF_CONTAINERS);
            if differs == place {
                thing = OF_CONTAINERS[at].name;
            }
            loosen(container(&mut strict.spec, kind), OF_CONTAINERS, &own);
            let looser = if differs == place { &looser } else { &own };
            loosen(container(&mut loose.spec, kind), OF_CONTAINERS, looser);
        }
        if numbers.below(8) == 0 {
            [&mut strict, &mut loose].into_iter().for_each(make_windows);
        }
        (strict, loose, thing)
    })
}

#[test]
fn no_control_forbids_a_pod_and_allows_a_looser_one() {
    let (mut tightened, mut asked) = (BTreeSet::new(), BTreeSet::new());
    for (strict, loose, thing) in pods() {
        for (control, minor) in revisions() {
            let forbids = |pod| control.declared_at(minor).is_some_and(|check| check(pod).is_some());
            let (before, after) = (forbids(&strict), forbids(&loose));
            if !before && after {
                tightened.insert(control.id);
                asked.insert(thing);
            }
            assert!(!before || after, "{} at v1.{minor}, {thing}\n{strict:?}\n{loose:?}", control.id);
        }
    }
    for control in CONTROLS.iter().filter(|control| !control.declared.is_empty()) {
        assert!(tightened.contains(control.id), "{} is never looser: add what concerns it", control.id);
    }
    let of_containers = OF_CONTAINERS.iter().map(|thing| thing.name);
    for thing in OF_PODS.iter().map(|thing| thing.name).chain(of_containers) {
        assert!(asked.contains(thing), "no control asks about it: {thing}");
    }
}

#[test]
fn a_denial_stays_at_stricter_levels_and_for_looser_pods() {
    let versions = versions();
    for (strict, loose, thing) in pods() {
        for minor in &versions {
            let of = |pod| Level::ALL.map(|level| !evaluate_pod(level, *minor, pod, none).is_allowed());
            let (before, after) = (of(&strict), of(&loose));
            let row = || format!("v1.{minor}, {thing}: {before:?}, then {after:?}\n{strict:?}\n{loose:?}");
            assert!(before.is_sorted() && after.is_sorted(), "a stricter level is milder: {}", row());
            assert!(!after[0], "privileged forbids something: {}", row());
            assert!(before.iter().zip(after).all(|(before, after)| !before || after), "{}", row());
        }
    }
}
