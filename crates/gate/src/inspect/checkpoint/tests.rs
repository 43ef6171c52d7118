//! Images of our own making, and hostile ones.
#![allow(
    clippy::too_many_lines,
    clippy::type_complexity,
    clippy::semicolon_if_nothing_returned,
    reason = "tables"
)]

use std::collections::BTreeMap;
use std::ffi::OsStr;

use super::images::{
    CgroupSet, Cgroups, Controller, Core, Creds, Directory, Extent, Filter, Ids, Image, Inventory, Member,
    Mount, OpenFile, Property, RegularFile, Seccomp, Task, TaskCore, ThreadCore, UserNamespace,
};
use super::tasks::Filtered;
use super::{CgroupVersion, CheckpointError, Restore, Restored};
use crate::inspect::evaluate::{Outcome, Pods, Request, evaluate};
use crate::inspect::host::Host;
use crate::inspect::spec::{Spec, Text};
use crate::inspect::{COPY_OF_CRI_O, MASKED, READ_ONLY};
use pss::facts::Engine;
use pss_guard_core::decision::Reading;
use pss_guard_core::level::policy;

type Files = BTreeMap<String, Vec<u8>>;

const SPEC: &str = r#"{"process": {"user": {"uid": 1000}, "noNewPrivileges": true,
    "capabilities": {"bounding": ["CAP_CHOWN"]}, "apparmorProfile": "crio-default"},
    "root": {"path": "rootfs", "readonly": true},
    "mounts": [{"destination": "/proc", "type": "proc"}, {"destination": "/sys", "type": "sysfs", "options": ["ro"]},
        {"destination": "/dev/", "type": "tmpfs"}, {"destination": "/data", "type": "bind", "options": ["ro"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "options": ["ro"]}],
    "linux": {"seccomp": {"defaultAction": "SCMP_ACT_ERRNO"}, "maskedPaths": ["/proc/version", "/nowhere"],
        "readonlyPaths": ["/proc/sys"],
        "namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "user"}, {"type": "mount"}]}}"#;

const OWN: Ids = Ids { pid: 1, net: 2, ipc: 3, mnt: 4, user: 5 };
const THEIRS: Ids = Ids { pid: 11, net: 12, ipc: 13, mnt: 14, user: 15 };

/// `BPF_RET` of an action.
fn filter(actions: &[u32], next: Option<u32>, flags: u32) -> Filter {
    let program = actions.iter().flat_map(|action| [[6, 0, 0, 0], action.to_ne_bytes()].concat());
    Filter { program: program.collect(), next, flags: Some(flags) }
}

const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0001;

fn creds() -> Creds {
    let ids = Creds { uid: 1000, euid: 1000, suid: 1000, fsuid: 1000, ..Creds::default() };
    Creds { no_new_privs: Some(1), lsm_profile: Some("crio-default".to_owned()), ..ids }
}

fn thread() -> ThreadCore {
    ThreadCore { creds: Some(creds()), seccomp_mode: Some(2), seccomp_filter: Some(0) }
}

fn core(thread: ThreadCore) -> Core {
    let task = TaskCore { state: 1, ..TaskCore::default() };
    Core { task: Some(task), thread: Some(thread) }
}

fn mount(kind: u32, id: u32, parent: u32, root: &str, mountpoint: &str) -> Mount {
    let (root, mountpoint) = (root.to_owned(), mountpoint.to_owned());
    let superblock_flags = Some(0);
    Mount { kind, id, device: id, parent, flags: 1, superblock_flags, root, mountpoint, ..Mount::default() }
}

fn external(id: u32, key: &str, mountpoint: &str) -> Mount {
    Mount { external_key: Some(key.to_owned()), ..mount(0, id, 20, "/x", mountpoint) }
}

fn mounts() -> Vec<Mount> {
    vec![
        mount(0, 20, 9, "/rootfs", "/"),
        mount(1, 21, 20, "/", "/proc"),
        mount(1, 22, 21, "/sys", "/proc/sys"),
        Mount { parent: 21, ..external(23, "/dev/null", "/proc/version") },
        mount(2, 24, 20, "/", "/sys"),
        mount(5, 25, 20, "/", "/dev"),
        mount(6, 26, 25, "/", "/dev/pts"),
        mount(6, 27, 25, "/0", "/dev/console"),
        external(28, "/data", "/data"),
        mount(5, 29, 24, "/", "/sys/fs/cgroup"),
        mount(12, 30, 29, "/", "/sys/fs/cgroup/pids"),
    ]
}

fn put<I: Image>(files: &mut Files, name: &str, entries: &[I]) {
    let mut bytes = Vec::new();
    if I::HAS_COMMON_MAGIC {
        bytes.extend(0x5456_4319_u32.to_ne_bytes());
    }
    bytes.extend(I::MAGIC.to_ne_bytes());
    for entry in entries {
        let entry = entry.encode_to_vec();
        bytes.extend(u32::try_from(entry.len()).unwrap().to_ne_bytes());
        bytes.extend(entry);
    }
    files.insert(name.to_owned(), bytes);
}

/// Images of one task with two threads, which give what config.json gives.
fn healthy() -> Files {
    let mut files = Files::new();
    put(&mut files, "inventory.img", &[Inventory { version: 2, own: Some(OWN) }]);
    put(&mut files, "pstree.img", &[Task { pid: 1, parent: 0, threads: vec![1, 7] }]);
    put(&mut files, "ids-1.img", &[THEIRS]);
    put(&mut files, "core-1.img", &[core(thread())]);
    put(&mut files, "core-7.img", &[Core { task: None, thread: Some(thread()) }]);
    put(&mut files, "seccomp.img", &[Seccomp { filters: vec![filter(&[ALLOW, ERRNO], None, 0)] }]);
    put(&mut files, "mountpoints-14.img", &mounts());
    let uids = vec![Extent { lower: 65536, count: 65536 }];
    put(&mut files, "userns-15.img", &[UserNamespace { uids }]);
    files.insert("descriptors.json".to_owned(), br#"["/dev/null","pipe:[1]","pipe:[2]"]"#.to_vec());
    files
}

fn read(files: &Files) -> Result<Restored, CheckpointError> {
    read_on(files, CgroupVersion::Two)
}

fn read_on(files: &Files, host: CgroupVersion) -> Result<Restored, CheckpointError> {
    let read: &mut super::Read<'_> = &mut |name, limit| {
        let file = files.get(name);
        assert!(file.is_none_or(|file| file.len() as u64 <= limit), "{name}");
        Ok(file.cloned())
    };
    Restored::read(read, host)
}

/// What becomes of the spec, in a few words.
fn applied(files: &Files, config: &str, lsm_profile: Option<&str>, engine: Engine) -> Result<String, String> {
    let mut spec: Spec<'_> = serde_json::from_str(config).unwrap();
    let restored = read(files).map_err(|err| err.to_string())?;
    restored.apply(&mut spec, engine, lsm_profile.map(OsStr::new)).map_err(|err| err.to_string())?;
    let (process, linux) = (spec.process.unwrap(), spec.linux.unwrap());
    let list = |list: &[Text<'_>]| list.iter().map(Text::as_str).collect::<Vec<_>>().join(" ");
    let text = |text: &Option<Text<'_>>| text.as_ref().map_or("-", Text::as_str).to_owned();
    let namespaces: Vec<Text<'_>> =
        linux.namespaces.unwrap().into_iter().filter_map(|one| one.kind).collect();
    Ok(format!(
        "uid {} | nnp {} | {} | {} | {} {} | masked {} | read-only {} | {} | root {}",
        process.user.unwrap().uid.unwrap(),
        process.no_new_privileges.unwrap(),
        list(&process.capabilities.unwrap().names()),
        linux.seccomp.map_or_else(|| "-".to_owned(), |seccomp| text(&seccomp.default_action)),
        text(&process.apparmor_profile),
        text(&process.selinux_label),
        list(&linux.masked_paths.unwrap()),
        list(&linux.readonly_paths.unwrap()),
        list(&namespaces),
        if spec.root.unwrap().read_only.unwrap() { "ro" } else { "rw" },
    ))
}

/// Whoever made a checkpoint for CRI-O wrote what it says that the kubelet wrote: host ports, for one.
#[test]
fn what_a_checkpoint_says_of_the_kubelet_is_not_believed() {
    for (engine, kept) in [(Engine::CriO, false), (Engine::Containerd, true)] {
        let annotations = format!(r#"{{"annotations": {{"{COPY_OF_CRI_O}": "{{}}"}},"#);
        let config = SPEC.replacen('{', &annotations, 1);
        let mut spec: Spec<'_> = serde_json::from_str(&config).unwrap();
        read(&healthy()).unwrap().apply(&mut spec, engine, None).unwrap();
        assert_eq!(spec.annotations.unwrap().get(COPY_OF_CRI_O).is_some(), kept, "{engine:?}");
    }
}

const HEALTHY: &str = "uid 1000 | nnp true | CAP_CHOWN | SCMP_ACT_ERRNO | crio-default - | masked /proc/version \
                       /nowhere | read-only /proc/sys | pid network ipc user mount | root ro";

#[test]
fn what_the_images_restore_takes_the_place_of_what_config_json_says() {
    type Edit = fn(&mut Files);
    fn second(files: &mut Files, thread: ThreadCore) {
        put(files, "core-7.img", &[Core { task: None, thread: Some(thread) }]);
    }
    fn with(files: &mut Files, creds: Creds) {
        second(files, ThreadCore { creds: Some(creds), ..thread() });
    }
    fn share(files: &mut Files, ids: Ids) {
        put(files, "ids-1.img", &[ids]);
        put(files, &format!("mountpoints-{}.img", ids.mnt), &mounts());
    }
    fn without(files: &mut Files, mountpoint: &str) {
        let mounts: Vec<Mount> =
            mounts().into_iter().filter(|mount| mount.mountpoint != mountpoint).collect();
        put(files, "mountpoints-14.img", &mounts);
    }
    let rows: &[(&str, Edit, &str, &str)] = &[
        ("as config.json", |_| {}, "", ""),
        ("root, real", |f| with(f, Creds { uid: 0, ..creds() }), "uid 1000", "uid 0"),
        ("root, effective", |f| with(f, Creds { euid: 0, ..creds() }), "uid 1000", "uid 0"),
        ("root, saved", |f| with(f, Creds { suid: 0, ..creds() }), "uid 1000", "uid 0"),
        ("root, of files", |f| with(f, Creds { fsuid: 0, ..creds() }), "uid 1000", "uid 0"),
        ("CRIU's own user", |f| with(f, Creds { uid: u32::MAX, ..creds() }), "uid 1000", "uid 0"),
        ("no_new_privs 0", |f| with(f, Creds { no_new_privs: Some(0), ..creds() }), "nnp true", "nnp false"),
        ("no no_new_privs", |f| with(f, Creds { no_new_privs: None, ..creds() }), "nnp true", "nnp false"),
        ("bounding", |f| with(f, Creds { bounding: vec![1 << 21], ..creds() }), "CHOWN", "CHOWN SYS_ADMIN"),
        ("ambient", |f| with(f, Creds { ambient: vec![1 << 21], ..creds() }), "CHOWN", "CHOWN SYS_ADMIN"),
        (
            "inheritable",
            |f| with(f, Creds { inheritable: vec![0, 1], ..creds() }),
            "CHOWN",
            "CHOWN MAC_OVERRIDE",
        ),
        ("permitted", |f| with(f, Creds { permitted: vec![0, 1 << 9], ..creds() }), "CHOWN", "CHOWN 41"),
        ("effective", |f| with(f, Creds { effective: vec![0, 0, 1], ..creds() }), "", ""),
        ("no seccomp", |f| second(f, ThreadCore { seccomp_mode: None, ..thread() }), "SCMP_ACT_ERRNO", "-"),
        ("disabled", |f| second(f, ThreadCore { seccomp_mode: Some(0), ..thread() }), "SCMP_ACT_ERRNO", "-"),
        ("strict", |f| second(f, ThreadCore { seccomp_mode: Some(1), ..thread() }), "", ""),
        ("unconfined", |f| with(f, Creds { lsm_profile: None, ..creds() }), "crio-default", "unconfined"),
        ("the host's network", |f| share(f, Ids { net: OWN.net, ..THEIRS }), " network", ""),
        ("the host's processes", |f| share(f, Ids { pid: OWN.pid, ..THEIRS }), "pid ", ""),
        ("the host's ipc", |f| share(f, Ids { ipc: OWN.ipc, ..THEIRS }), " ipc", ""),
        ("the host's users", |f| share(f, Ids { user: OWN.user, ..THEIRS }), " user", ""),
        (
            "the host's root",
            |f| {
                let uids = vec![Extent { lower: 9, count: 1 }, Extent { lower: 0, count: 1 }];
                put(f, "userns-15.img", &[UserNamespace { uids }]);
            },
            " user",
            "",
        ),
        ("no mask", |f| without(f, "/proc/version"), "/proc/version ", ""),
        ("no protection", |f| without(f, "/proc/sys"), "read-only /proc/sys", "read-only "),
        (
            "a root to write to",
            |f| {
                let mut mounts = mounts();
                mounts[0].flags = 0;
                put(f, "mountpoints-14.img", &mounts);
            },
            "root ro",
            "root rw",
        ),
        (
            "a zombie is nobody",
            |f| {
                let task = TaskCore { state: 2, ..TaskCore::default() };
                let tasks = [(1, 0), (8, 1)].map(|(pid, parent)| Task { pid, parent, threads: vec![] });
                put(f, "pstree.img", &tasks);
                put(f, "core-8.img", &[Core { task: Some(task), thread: None }]);
            },
            "",
            "",
        ),
        (
            "a second task",
            |f| {
                let tasks = [(1, 0), (8, 1)].map(|(pid, parent)| Task { pid, parent, threads: vec![] });
                put(f, "pstree.img", &tasks);
                put(
                    f,
                    "core-8.img",
                    &[core(ThreadCore { creds: Some(Creds { uid: 0, ..creds() }), ..thread() })],
                );
            },
            "uid 1000",
            "uid 0",
        ),
    ];
    for (name, edit, from, to) in rows {
        let mut files = healthy();
        edit(&mut files);
        assert!(HEALTHY.contains(from), "{name}");
        let expected = HEALTHY.replacen(from, to, 1);
        assert_eq!(applied(&files, SPEC, None, Engine::CriO), Ok(expected), "{name}");
    }
    // What config.json gives, the images cannot take away.
    let open = SPEC.replace("1000", "0").replace("true", "false");
    let expected =
        HEALTHY.replace("1000", "0").replace("nnp true", "nnp false").replace("root ro", "root rw");
    assert_eq!(applied(&healthy(), &open, None, Engine::CriO), Ok(expected));
}

#[test]
fn every_thread_has_a_filter_that_filters() {
    let rows: &[(&str, &[Filter], ThreadCore, Result<Filtered, &str>)] = &[
        ("one", &[filter(&[ERRNO], None, 0)], thread(), Ok(Filtered::Yes)),
        ("lets all through", &[filter(&[ALLOW], None, 0)], thread(), Ok(Filtered::ByNothing)),
        ("or logs", &[filter(&[ALLOW, 0x7ffc_0000], None, 0)], thread(), Ok(Filtered::ByNothing)),
        ("empty", &[filter(&[], None, 0)], thread(), Ok(Filtered::ByNothing)),
        (
            "the second",
            &[filter(&[ALLOW], Some(1), 0), filter(&[ERRNO], None, 0)],
            thread(),
            Ok(Filtered::Yes),
        ),
        (
            "an end that is computed",
            &[Filter { program: vec![0x16, 0, 0, 0, 0, 0, 0, 0], ..Filter::default() }],
            thread(),
            Ok(Filtered::Yes),
        ),
        ("a circle", &[filter(&[ALLOW], Some(0), 0)], thread(), Err("names a seccomp filter")),
        ("none of that number", &[], thread(), Err("names a seccomp filter")),
        ("none after it", &[filter(&[ERRNO], Some(1), 0)], thread(), Err("names a seccomp filter")),
        // What the first thread hands to the others is in its own core alone.
        (
            "handed on",
            &[filter(&[ERRNO], None, 1)],
            ThreadCore { seccomp_mode: None, ..thread() },
            Ok(Filtered::Yes),
        ),
        (
            "kept",
            &[filter(&[ERRNO], None, 2)],
            ThreadCore { seccomp_mode: None, ..thread() },
            Ok(Filtered::Not),
        ),
        (
            "the first of two is handed on",
            &[filter(&[ALLOW], Some(1), 1), filter(&[ERRNO], None, 0)],
            ThreadCore { seccomp_mode: None, ..thread() },
            Ok(Filtered::ByNothing),
        ),
    ];
    for (name, filters, second, expected) in rows {
        let mut files = healthy();
        put(&mut files, "seccomp.img", &[Seccomp { filters: filters.to_vec() }]);
        put(&mut files, "core-7.img", &[Core { task: None, thread: Some(second.clone()) }]);
        match (read(&files), expected) {
            (Ok(restored), Ok(filtered)) => assert_eq!(restored.filtered, *filtered, "{name}"),
            (Err(err), Err(says)) => assert!(err.to_string().contains(says), "{name}: {err}"),
            (restored, _) => panic!("{name}: {restored:?}"),
        }
    }
    // CRIU 2 wrote it for the task.
    let mut files = healthy();
    let none = ThreadCore { seccomp_mode: None, seccomp_filter: None, ..thread() };
    let task = TaskCore { state: 1, old_seccomp_mode: Some(2), old_seccomp_filter: Some(0) };
    put(&mut files, "core-1.img", &[Core { task: Some(task), thread: Some(none.clone()) }]);
    put(&mut files, "core-7.img", &[Core { task: None, thread: Some(none) }]);
    assert_eq!(read(&files).unwrap().filtered, Filtered::Yes);
}

#[test]
fn labels_are_those_that_criu_sets() {
    const LABEL: &str = "system_u:system_r:container_t:s0:c1,c2";
    let selinux = |label: &str| {
        let own = format!("\"selinuxLabel\": \"{label}\"");
        SPEC.replace("\"apparmorProfile\": \"crio-default\"", &own)
    };
    let of = |profile: Option<&str>| {
        let mut files = healthy();
        let creds = Creds { lsm_profile: profile.map(str::to_owned), ..creds() };
        put(&mut files, "core-1.img", &[core(ThreadCore { creds: Some(creds.clone()), ..thread() })]);
        put(
            &mut files,
            "core-7.img",
            &[Core { task: None, thread: Some(ThreadCore { creds: Some(creds), ..thread() }) }],
        );
        files
    };
    let other_level = "system_u:system_r:container_t:s0:c8,c9";
    let spc = "system_u:system_r:spc_t:s0";
    let selinux_option = format!("selinux:{LABEL}");
    #[rustfmt::skip]
    let rows = [
        (Some("x"), SPEC, None, Engine::CriO, Ok("crio-default -")),
        (None, SPEC, None, Engine::CriO, Ok("unconfined -")),
        (Some("unconfined\0x"), SPEC, None, Engine::CriO, Ok("unconfined -")),
        (Some(" unconfined\n"), SPEC, None, Engine::CriO, Ok("unconfined -")),
        (Some("&unconfined"), SPEC, None, Engine::CriO, Ok("unconfined -")),
        (Some("unconfined//&unconfined"), SPEC, None, Engine::CriO, Ok("unconfined -")),
        (Some("x//&unconfined"), SPEC, None, Engine::CriO, Ok("crio-default -")),
        (None, SPEC, None, Engine::Containerd, Ok("- -")),
        (Some("x"), SPEC, Some("apparmor:y"), Engine::CriO, Ok("crio-default -")),
        (Some("x"), SPEC, Some("apparmor:unconfined"), Engine::CriO, Ok("unconfined -")),
        (Some("x"), SPEC, Some("none:"), Engine::CriO, Ok("unconfined -")),
        // What is not there is not replaced.
        (None, SPEC, Some("apparmor:y"), Engine::CriO, Ok("unconfined -")),
        (Some(LABEL), &selinux(LABEL), None, Engine::CriO, Ok(&*format!("- {LABEL}"))),
        (Some(other_level), &selinux(LABEL), None, Engine::CriO, Ok(&*format!("- {LABEL}"))),
        (Some(spc), &selinux(LABEL), None, Engine::CriO, Ok(&*format!("- {spc}"))),
        (Some(spc), &selinux(LABEL), Some(&*selinux_option), Engine::CriO, Ok(&*format!("- {LABEL}"))),
        (Some(spc), &selinux("a:b:c"), None, Engine::CriO, Err("SELinux label")),
        (None, &selinux(LABEL), None, Engine::CriO, Err("SELinux label")),
        (Some(spc), SPEC, None, Engine::CriO, Ok(&*format!("crio-default {spc}"))),
    ];
    for (profile, config, option, engine, expected) in rows {
        let shown = applied(&of(profile), config, option, engine);
        match expected {
            Ok(labels) => {
                let shown = shown.unwrap();
                assert_eq!(shown.split(" | ").nth(4), Some(labels), "{profile:?}, {option:?}");
            }
            Err(says) => {
                assert!(shown.as_ref().is_err_and(|err| err.contains(says)), "{profile:?}: {shown:?}")
            }
        }
    }
}

#[test]
fn every_mount_is_one_of_config_json() {
    let at = |place: &str| format!("mounts something at {place:?}");
    let rows = [
        ("overlay of the host's root", mount(17, 40, 20, "/", "/mnt"), at("/mnt")),
        ("the host's devices", mount(3, 40, 25, "/", "/dev/x"), at("/dev/x")),
        ("a second proc", mount(1, 40, 20, "/", "/mnt"), at("/mnt")),
        ("another part of proc", mount(1, 40, 21, "/1/root", "/proc/1/root"), at("/proc/1/root")),
        ("a part of a tmpfs, through a link", mount(5, 40, 20, "/link", "/mnt"), at("/mnt")),
        ("a part of devpts", mount(6, 40, 20, "/0", "/mnt"), at("/mnt")),
        ("a file system of no name", mount(0, 40, 20, "/", "/mnt"), at("/mnt")),
        ("CRIU's own key", external(40, "CRIU:EXTERNAL_DEV", "/mnt"), at("/mnt")),
        ("a plugin", Mount { with_plugin: Some(true), ..external(40, "/data", "/mnt") }, at("/mnt")),
        ("twice", mount(5, 40, 20, "/", "/dev"), at("/dev")),
        ("below another than the nearest", mount(5, 40, 20, "/", "/dev/x"), at("/dev/x")),
        ("a number twice", mount(5, 25, 20, "/", "/mnt"), at("/")),
        ("not as the kernel writes it", mount(5, 40, 20, "/", "/a/../mnt"), at("/a/../mnt")),
        ("relative", mount(5, 40, 20, "/", "mnt"), at("mnt")),
        ("the root once more", Mount { device: 20, ..mount(5, 40, 20, "/", "/mnt") }, at("/mnt")),
        ("another's once more", Mount { device: 28, ..mount(5, 40, 20, "/", "/mnt") }, at("/mnt")),
        ("a path that ends earlier for C", mount(5, 40, 20, "/", "/mnt\0"), at("/mnt\0")),
        ("a key that ends earlier for C", external(40, "/data\0", "/mnt"), at("/mnt")),
        ("empty", mount(5, 40, 20, "/", ""), at("")),
    ];
    for (name, one, says) in rows {
        let mut files = healthy();
        let all: Vec<Mount> = mounts().into_iter().chain([one]).collect();
        put(&mut files, "mountpoints-14.img", &all);
        let shown = applied(&files, SPEC, None, Engine::CriO);
        assert!(shown.as_ref().is_err_and(|err| err.contains(&says)), "{name}: {shown:?}");
    }
    // runc masks a file by the container's own /dev/null: it shares its device with /dev, and nothing is bound from it.
    let mask = Mount { device: 25, root: "/null".to_owned(), ..external(40, "/dev/null", "/mnt") };
    for (name, one) in [
        ("of a directory", Mount { root: "/".to_owned(), ..mask.clone() }),
        ("with peers", Mount { shared_id: Some(7), ..mask.clone() }),
        ("of a master", Mount { master_id: Some(7), ..mask.clone() }),
        ("of another key", Mount { external_key: Some("/data".to_owned()), ..mask.clone() }),
    ] {
        let mut files = healthy();
        let all: Vec<Mount> = mounts().into_iter().chain([one]).collect();
        put(&mut files, "mountpoints-14.img", &all);
        let shown = applied(&files, SPEC, None, Engine::CriO);
        assert!(shown.as_ref().is_err_and(|err| err.contains(&at("/dev"))), "{name}: {shown:?}");
    }
    let healthy_ones = [
        mask,
        mount(5, 40, 20, "/", "/run/x"),
        mount(14, 40, 25, "/", "/dev/mqueue"),
        external(40, "/dev/null", "/mnt"),
        // CRIU before 2.0.
        Mount { external: Some(true), root: "/data".to_owned(), ..mount(0, 40, 20, "", "/mnt") },
    ];
    for one in healthy_ones {
        let mut files = healthy();
        let all: Vec<Mount> = mounts().into_iter().chain([one.clone()]).collect();
        put(&mut files, "mountpoints-14.img", &all);
        assert_eq!(applied(&files, SPEC, None, Engine::CriO).as_deref(), Ok(HEALTHY), "{one:?}");
    }
    // Writable where config.json says otherwise; without a root; writable where only reading is allowed.
    let all = mounts();
    // Nor does it help that the file system is read-only, or that nobody tells it from the mount.
    let ways: [fn(Mount) -> Mount; 3] = [
        |mount| Mount { flags: 0, ..mount },
        |mount| Mount { flags: 0, superblock_flags: Some(1), ..mount },
        |mount| Mount { superblock_flags: None, ..mount },
    ];
    for way in ways {
        let with = |place: &str| {
            let mut files = healthy();
            let edited = all.iter().cloned().map(|one| if one.mountpoint == place { way(one) } else { one });
            put(&mut files, "mountpoints-14.img", &edited.collect::<Vec<Mount>>());
            applied(&files, SPEC, None, Engine::CriO)
        };
        for (place, says) in
            [("/data", "writable"), ("/sys", "writable"), ("/proc/sys", "mounts something at")]
        {
            let shown = with(place);
            assert!(shown.as_ref().is_err_and(|err| err.contains(says)), "{place}: {shown:?}");
        }
        assert!(with("/").is_ok_and(|shown| shown.ends_with("root rw")));
    }
    let mut files = healthy();
    put::<Mount>(&mut files, "mountpoints-14.img", &[]);
    assert!(applied(&files, SPEC, None, Engine::CriO).is_err_and(|err| err.contains("\"/\"")));
}

#[test]
fn tasks_stay_in_the_cgroup_that_limits_devices() {
    let property = |name: &str| Property { name: name.to_owned() };
    let directory = |name: &str, properties: Vec<Property>| Directory {
        name: name.to_owned(),
        children: Vec::new(),
        properties,
    };
    let below =
        |name: &str, child: Directory| Directory { children: vec![child], ..directory(name, Vec::new()) };
    let controller = |names: &[&str], directories: &[Directory]| Controller {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        directories: directories.to_vec(),
    };
    let member = |name: &str, path: &str, prefix: Option<u32>| Member {
        name: name.to_owned(),
        path: path.to_owned(),
        prefix,
    };
    let own = || directory("pod/id", vec![property("devices.list")]);
    let devices = || controller(&["devices"], &[own()]);
    let unified = || controller(&[""], &[own()]);
    let memory = || controller(&["memory"], &[]);
    let at = |path: &str| vec![member("devices", path, None)];
    #[rustfmt::skip]
    let rows = [
        ("its own", at("/pod/id"), vec![devices()], Ok(())),
        ("below its own", at("/pod/id/x"), vec![devices()], Ok(())),
        ("version 2", vec![member("", "/pod/id", Some(7))], vec![unified()], Ok(())),
        ("below it", vec![member("", "/pod/id/x", Some(7))], vec![unified()], Ok(())),
        ("another limit", vec![member("memory", "/", None)], vec![memory()], Ok(())),
        ("none", vec![], vec![devices()], Ok(())),
        ("the root", at("/"), vec![devices()], Err("\"/\"")),
        ("the root of version 2", vec![member("", "/", None)], vec![unified()], Err("\"/\"")),
        ("another with it", vec![member("memory,devices", "/", None)], vec![devices()], Err("\"/\"")),
        ("above", at("/pod"), vec![devices()], Err("\"/pod\"")),
        ("beside", at("/pod/id2"), vec![devices()], Err("id2")),
        ("back", at("/pod/id/../.."), vec![devices()], Err("..")),
        ("back by another", vec![member("memory", "/../devices", None)], vec![memory()], Err("..")),
        ("by a name", vec![member("memory/../devices", "/", None)], vec![memory()], Err("\"/\"")),
        ("a name that ends earlier for C", vec![member("devices\0", "/", None)], vec![devices()], Err("\"/\"")),
        ("a path that ends earlier for C", at("/pod/id\0"), vec![devices()], Err("id")),
        ("a prefix beyond it", vec![member("devices", "/pod/id/x", Some(9))], vec![devices()], Err("id/x")),
        ("a prefix within a name", vec![member("devices", "/pod/id", Some(6))], vec![devices()], Err("id")),
        ("no controller", at("/pod/id"), vec![], Err("id")),
        ("two controllers", at("/pod/id"), vec![devices(), devices()], Err("\"devices\"")),
        ("no directory", at("/pod/id"), vec![controller(&["devices"], &[])], Err("id")),
        ("two directories", at("/pod/id"), vec![controller(&["devices"], &[own(), own()])], Err("id")),
        ("no name", at("/x"), vec![controller(&["devices"], &[directory("", vec![])])], Err("\"/x\"")),
        ("a directory elsewhere", vec![], vec![controller(&["memory"], &[below("x", directory("..", vec![]))])], Err("..")),
        ("a value elsewhere", vec![], vec![controller(&["memory"], &[below("x", directory("y", vec![property("../z")]))])], Err("../z")),
        ("a controller elsewhere", vec![], vec![controller(&["x/y"], &[])], Err("x/y")),
        // What CRIU takes for the controller of devices, or finds in its folder.
        ("a longer name", vec![member("xdevices", "/", None)], vec![devices()], Err("\"/\"")),
        ("a longer name, inside", vec![member("xdevices", "/pod/id", None)], vec![devices()], Err("id")),
        ("a longer name behind others", vec![member("memory,xdevices", "/", None)], vec![memory(), devices()], Ok(())),
        ("a longer name before others", vec![member("memory,xdevices", "/", None)], vec![devices(), memory()], Err("\"/\"")),
        ("a hierarchy of its name", vec![member("name=devices", "/", None)], vec![devices()], Err("\"/\"")),
        ("a hierarchy in its folder", vec![], vec![controller(&["name=devices"], &[]), devices()], Err("\"devices\"")),
        ("the folder of version 2", vec![member("unified", "/", None)], vec![unified(), controller(&["unified"], &[])], Err("\"unified\"")),
        ("a hierarchy in the folder of version 2", vec![], vec![unified(), controller(&["name=unified"], &[])], Err("\"unified\"")),
        ("a hierarchy without a name", vec![], vec![controller(&["name="], &[])], Err("\"name=\"")),
        ("the folder of all", vec![member(".", "/devices", None)], vec![devices(), controller(&["."], &[])], Err("\".\"")),
        ("a hierarchy in the folder of all", vec![], vec![controller(&["name=."], &[])], Err("\"name=.\"")),
        ("nothing beside another", vec![member("memory", "/", None)], vec![controller(&["memory", ""], &[])], Err("\"memory,unified\"")),
        ("two names in one", vec![member("memory,devices", "/", None)], vec![controller(&["memory,devices"], &[])], Err("\"memory,devices\"")),
        ("all controllers", vec![member("all", "/", None)], vec![controller(&["all"], &[])], Err("\"all\"")),
        ("a program of the host", vec![], vec![controller(&["name=x", "release_agent=x"], &[])], Err("release_agent=x")),
        ("systemd's hierarchy", vec![member("name=systemd", "/x", None)], vec![controller(&["name=systemd"], &[])], Ok(())),
        ("two together", vec![member("cpu,cpuacct", "/x", None)], vec![controller(&["cpu", "cpuacct"], &[])], Ok(())),
        // CRIU would read behind the end of its text.
        ("a prefix behind the path", vec![member("memory", "/pod", Some(5))], vec![memory()], Err("pod")),
        ("a prefix of the path", vec![member("memory", "/pod", Some(4))], vec![memory()], Ok(())),
        ("a prefix behind a directory", vec![member("memory", "/pod/id", Some(7))], vec![controller(&["memory"], &[directory("pod", vec![])])], Err("id")),
        ("no path", vec![member("memory", "", None)], vec![memory()], Err("\"\"")),
    ];
    for (name, members, controllers, expected) in rows {
        let mut files = healthy();
        let cgroups = Cgroups { sets: vec![CgroupSet { members }], controllers };
        put(&mut files, "cgroup.img", &[Cgroups::default(), cgroups]);
        match (read(&files), expected) {
            (Ok(_), Ok(())) => {}
            (Err(err), Err(says)) => {
                let said = err.to_string();
                assert!(
                    said.starts_with("restore: cgroup.img names") && said.contains(says),
                    "{name}: {said}"
                );
            }
            (read, _) => panic!("{name}: {read:?}"),
        }
    }
}

/// Where version 1 limits devices, `/` of version 2 is where a runtime leaves a container that does not see that hierarchy.
#[test]
fn the_root_of_a_hierarchy_that_limits_nothing_is_no_escape() {
    use CgroupVersion::{One, Two};
    let controller = |name: &str, directory: &str| Controller {
        names: vec![name.to_owned()],
        directories: vec![Directory { name: directory.to_owned(), ..Directory::default() }],
    };
    let controllers = || vec![controller("devices", "pod/id"), controller("", "")];
    let rows = [
        ("/pod/id", "/", One, true),
        ("/pod/id", "/", Two, false),
        // Nobody leaves a container there.
        ("/pod/id", "/other", One, false),
        ("/pod/id", "/..", One, false),
        ("/", "/", One, false),
    ];
    for (devices, unified, host, is_fine) in rows {
        let member =
            |name: &str, path: &str| Member { name: name.to_owned(), path: path.to_owned(), prefix: None };
        let members = vec![member("devices", devices), member("", unified)];
        let mut files = healthy();
        let cgroups = Cgroups { sets: vec![CgroupSet { members }], controllers: controllers() };
        put(&mut files, "cgroup.img", &[cgroups]);
        assert_eq!(read_on(&files, host).is_ok(), is_fine, "{devices} {unified} {host:?}");
    }
}

#[test]
fn no_file_leads_out_of_the_container() {
    for (name, is_fine) in [
        ("/data/a..b/...", true),
        ("/data (deleted)", true),
        ("/../etc/x", false),
        ("/data/..", false),
        ("/data\0/x", false),
    ] {
        let file = RegularFile { name: name.to_owned() };
        let mut files = healthy();
        put(&mut files, "files.img", &[OpenFile { regular: Some(file.clone()) }, OpenFile { regular: None }]);
        let mut older = healthy();
        put(&mut older, "reg-files.img", &[file]);
        for files in [files, older] {
            let read = read(&files);
            let is_refused = matches!(&read, Err(CheckpointError::FileName(said)) if said == name);
            assert!(read.is_ok() == is_fine && is_refused != is_fine, "{name:?}: {read:?}");
        }
    }
}

#[test]
fn what_cannot_be_read_is_an_error() {
    type Edit = fn(&mut Files);
    let rows: &[(&str, Edit, &str)] = &[
        ("no inventory", |f| drop(f.remove("inventory.img")), "has no inventory.img"),
        (
            "another layout",
            |f| put(f, "inventory.img", &[Inventory { version: 1, own: Some(OWN) }]),
            "before 2.0",
        ),
        (
            "no ids of CRIU",
            |f| put(f, "inventory.img", &[Inventory { version: 2, own: None }]),
            "inventory.img is empty",
        ),
        (
            "an empty file",
            |f| drop(f.insert("core-1.img".to_owned(), Vec::new())),
            "core-1.img is no such image",
        ),
        ("policies", |f| drop(f.insert("apparmor.img".to_owned(), Vec::new())), "apparmor.img brings"),
        ("another image", |f| put(f, "core-1.img", &[THEIRS]), "core-1.img is no such image"),
        ("no entry", |f| put::<Core>(f, "core-1.img", &[]), "core-1.img is empty"),
        ("half a size", |f| f.get_mut("core-1.img").unwrap().truncate(10), "core-1.img ends in the middle"),
        ("half an entry", |f| _ = f.get_mut("core-1.img").unwrap().pop(), "core-1.img ends in the middle"),
        ("no message", |f| f.get_mut("core-1.img").unwrap()[12..].fill(0xff), "parse core-1.img"),
        ("no core of a thread", |f| drop(f.remove("core-7.img")), "has no core-7.img"),
        (
            "no credentials",
            |f| {
                put(
                    f,
                    "core-7.img",
                    &[Core { task: None, thread: Some(ThreadCore { creds: None, ..thread() }) }],
                )
            },
            "core-7.img says nothing",
        ),
        ("no thread", |f| put(f, "core-7.img", &[Core::default()]), "core-7.img says nothing"),
        (
            "no task",
            |f| put(f, "core-1.img", &[Core { task: None, ..core(thread()) }]),
            "core-1.img says nothing",
        ),
        ("no first task", |f| put::<Task>(f, "pstree.img", &[]), "not exactly one first task"),
        (
            "two first tasks",
            |f| {
                put(
                    f,
                    "pstree.img",
                    &[Task { pid: 1, ..Task::default() }, Task { pid: 1, ..Task::default() }],
                )
            },
            "not exactly one first task",
        ),
        ("no namespaces", |f| drop(f.remove("ids-1.img")), "has no ids-1.img"),
        (
            "the host's mounts",
            |f| put(f, "ids-1.img", &[Ids { mnt: OWN.mnt, ..THEIRS }]),
            "no mount namespace",
        ),
        ("no mounts", |f| drop(f.remove("mountpoints-14.img")), "has no mountpoints-14.img"),
        ("no map of users", |f| drop(f.remove("userns-15.img")), "has no userns-15.img"),
        (
            "a task elsewhere",
            |f| {
                let tasks = [(1, 0), (8, 1)].map(|(pid, parent)| Task { pid, parent, threads: vec![] });
                put(f, "pstree.img", &tasks);
                put(f, "core-8.img", &[core(thread())]);
                put(f, "ids-8.img", &[Ids { net: OWN.net, ..THEIRS }]);
            },
            "task 8 is in namespaces of its own",
        ),
        (
            "descriptors",
            |f| drop(f.insert("descriptors.json".to_owned(), b"{}".to_vec())),
            "at most three strings",
        ),
        (
            "many threads",
            |f| put(f, "pstree.img", &[Task { pid: 1, parent: 0, threads: vec![1; 40_000] }]),
            "more than 32768 threads",
        ),
        (
            "many entries",
            |f| put(f, "mountpoints-14.img", &vec![Mount::default(); 100_001]),
            "more than 100000 entries",
        ),
        (
            "many profiles",
            |f| {
                let threads = 100..120;
                for tid in threads.clone() {
                    let creds = Creds { lsm_profile: Some(tid.to_string()), ..creds() };
                    let thread = Some(ThreadCore { creds: Some(creds), ..thread() });
                    put(f, &format!("core-{tid}.img"), &[Core { task: None, thread }]);
                }
                put(f, "pstree.img", &[Task { pid: 1, parent: 0, threads: threads.collect() }]);
            },
            "more than 16 LSM profiles",
        ),
    ];
    for (name, edit, says) in rows {
        let mut files = healthy();
        edit(&mut files);
        let shown = read(&files).map_err(|err| err.to_string());
        assert!(shown.as_ref().is_err_and(|err| err.contains(says)), "{name}: {shown:?}");
    }
    let options = SPEC.replacen('{', "{\"annotations\": {\"org.criu.config\": \"/x\"}, ", 1);
    assert!(
        applied(&healthy(), &options, None, Engine::CriO).is_err_and(|err| err.contains("org.criu.config"))
    );
    let none = options.replace("/x", "");
    assert_eq!(applied(&healthy(), &none, None, Engine::CriO), Ok(HEALTHY.to_owned()));
}

/// A container of root without capabilities, in which only `sleep` ran: runc 1.1.5, CRIU 4.1.1, Linux 6.18.
#[test]
fn images_that_criu_wrote_are_read() {
    let image = |name: &str| {
        std::fs::read(format!("{}/src/inspect/checkpoint/fixture/{name}", env!("CARGO_MANIFEST_DIR")))
    };
    let mut read = |name: &str, _| Ok(image(name).ok());
    let restored = Restored::read(&mut read, CgroupVersion::Two).unwrap();
    assert!(restored.root && restored.no_new_privileges);
    assert_eq!((restored.capabilities, restored.filtered), (0, Filtered::Yes));
    assert_eq!(restored.profiles, [None]);
    assert_eq!(restored.shared, ["user"]);
    let places: Vec<&str> = restored.mounts.iter().map(|mount| mount.mountpoint.as_str()).collect();
    for place in ["/", "/proc", "/proc/sys", "/proc/acpi", "/sys", "/sys/firmware", "/dev", "/data"] {
        assert!(places.contains(&place), "{place}: {places:?}");
    }
    let data = restored.mounts.iter().find(|mount| mount.mountpoint == "/data").unwrap();
    assert_eq!(data.external_key.as_deref(), Some("/data"));
    // Twice the same process in the same namespaces: nothing else is to be read of the second.
    let tasks: Vec<u8> = image("pstree.img").unwrap();
    let twice: &mut super::Read<'_> = &mut |name, limit| match name {
        "pstree.img" => Ok(Some([&tasks, &tasks[8..]].concat())),
        _ => read(name, limit),
    };
    let again = Restored::read(twice, CgroupVersion::Two);
    assert!(matches!(again, Err(CheckpointError::NoRoot)), "{again:?}");
}

/// Every byte of every image that CRIU wrote, changed in a few ways, and every image cut off at every byte.
#[test]
fn damaged_images_are_read_or_refused() {
    const SPEC: &str = r#"{"process": {"user": {"uid": 0}, "capabilities": {"bounding": ["CAP_SYS_ADMIN"]}},
        "mounts": [{"destination": "/proc", "type": "proc"}, {"destination": "/sys", "type": "sysfs"}],
        "linux": {"readonlyPaths": ["/proc/sys", "/proc/bus"]}}"#;
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/inspect/checkpoint/fixture");
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    let files: Files = entries
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .collect();
    let mut judged = 0;
    let mut hold = |name: &str, bytes: Vec<u8>| {
        let mut files = files.clone();
        files.insert(name.to_owned(), bytes);
        let Ok(restored) = read(&files) else { return };
        let mut spec: Spec<'_> = serde_json::from_str(SPEC).unwrap();
        if restored.apply(&mut spec, Engine::CriO, None).is_ok() {
            judged += 1;
            // What config.json violates stays a violation.
            let process = spec.process.unwrap();
            assert_eq!(process.user.unwrap().uid, Some(0));
            assert_ne!(process.no_new_privileges, Some(true));
            assert!(process.capabilities.unwrap().union().contains("SYS_ADMIN"));
            assert!(spec.linux.unwrap().seccomp.is_none());
        }
    };
    for (name, bytes) in &files {
        for at in 0..bytes.len() {
            hold(name, bytes[..at].to_vec());
            for change in [1, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[at] ^= change;
                hold(name, changed);
            }
        }
    }
    assert!(judged > 100, "{judged}: most of a core is registers");
}

#[test]
fn limits_of_the_image_do_not_replace_those_of_the_container() {
    let refused = |mode: &str| {
        let mode = Some(std::ffi::OsStr::new(mode));
        let restore =
            super::Restore { images: Ok("/nothing/here".into()), lsm_profile: None, cgroups_mode: mode };
        restore.apply(&mut crate::inspect::spec::Spec::default(), Engine::None).unwrap_err().to_string()
    };
    for (mode, is_refused) in
        [("full", true), ("strict", true), ("props", true), ("soft", false), ("ignore", false), ("", false)]
    {
        assert_eq!(refused(mode).contains("--manage-cgroups-mode"), is_refused, "{mode}");
    }
}

const UID: &str = "dab344e9-1d4f-4e7d-941e-7a1219bef1c5";

/// What declares all that restricted asks for.
const DECLARED: &str = r#"{"securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [{"name": "app", "securityContext": {"allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true}}]}"#;

/// What is denied of a restore, and by which reading; `facts` is the pod's spec, if that is known.
fn denied(files: &Files, facts: Option<&str>) -> Result<Vec<(&'static str, Reading)>, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let write = |name: &str, content: &[u8]| {
        std::fs::create_dir_all(path(name).parent().unwrap()).unwrap();
        std::fs::write(path(name), content).unwrap();
    };
    for (name, content) in files {
        write(&format!("images/{name}"), content);
    }
    if let Some(spec) = facts {
        let facts = format!(
            r#"{{"v": 1, "uid": "{UID}", "namespace": "shop", "name": "web", "source": "api", "spec": {spec}}}"#
        );
        write(&format!("told/pods/{UID}.json"), facts.as_bytes());
    }
    let annotations = format!(
        r#"{{"annotations": {{"io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.container-name": "app",
            "io.kubernetes.cri.sandbox-id": "s", "io.kubernetes.cri.sandbox-name": "web",
            "io.kubernetes.cri.sandbox-namespace": "shop", "io.kubernetes.cri.sandbox-uid": "{UID}"}},"#
    );
    // Without the bind, which no volume of the pod explains.
    let bind = r#"{"destination": "/data", "type": "bind", "options": ["ro"]},"#;
    let quoted = |paths: &[&str]| paths.iter().map(|path| format!("{path:?}")).collect::<Vec<_>>().join(", ");
    let config = SPEC
        .replacen('{', &annotations, 1)
        .replace(bind, "")
        .replace("\"/proc/version\"", &format!("\"/proc/kcore\", {}", quoted(&MASKED)))
        .replace("\"/proc/sys\"", &format!("\"/proc/sys\", {}", quoted(&READ_ONLY)));
    write("tasks/app/config.json", config.replace("\"CAP_CHOWN\"", "").as_bytes());
    let sandbox = format!(
        "{}\"process\": {{}}, \"linux\": {{}}}}",
        annotations.replace("type\": \"container", "type\": \"sandbox")
    );
    write("tasks/s/config.json", sandbox.as_bytes());
    let policy = "mode = 'enforce'\non-suspect = 'deny'\n[defaults]\nenforce = 'restricted'\n[node]\napparmor = 'off'\n";
    let policy = policy::parse(policy, "policy.toml").unwrap();
    let restore = Restore { images: Ok(path("images")), lsm_profile: None, cgroups_mode: None };
    let config = crate::inspect::read_config(&path("tasks/app"));
    let request = Request {
        policy: Ok(&policy),
        host: &Host::Unknown,
        config: &config,
        exec: None,
        restore: Some(&restore),
        engine: Some(Engine::Containerd),
        id: None,
        pid: None,
        runtime_handler: None,
        sees_sandboxes: true,
        namespaces: None,
        pods: Pods::Folder(&path("told")),
        demand: None,
        sandboxes: None,
    };
    evaluate(&request, |_, outcome| match outcome {
        Outcome::Evaluated { rules, enforce, facts_fault: None, .. } => {
            Ok(rules.denying(&enforce).map(|result| (result.control.id, result.reading)).collect())
        }
        Outcome::Evaluated { facts_fault: Some(error), .. } => Err(error.to_string()),
        Outcome::Fault(error) => Err(error.to_string()),
        _ => Err("not evaluated".to_owned()),
    })
}

/// The pod's declaration is about config.json, and CRIU restores something else.
#[test]
fn either_what_the_pod_declares_or_what_the_image_restores_can_deny() {
    use Reading::{Declared, NodeOnly, Observed};

    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let with = |creds: Creds| {
        let mut files = healthy();
        let mut mounts = mounts();
        mounts.retain(|mount| mount.mountpoint != "/data");
        mounts[3].mountpoint = "/proc/kcore".to_owned();
        for (id, path) in (40..).zip(MASKED) {
            let parent = if path.starts_with("/sys") { 24 } else { 21 };
            mounts.push(Mount { parent, ..external(id, "/dev/null", path) });
        }
        for (id, path) in (60..).zip(READ_ONLY) {
            mounts.push(mount(1, id, 21, path.trim_start_matches("/proc"), path));
        }
        put(&mut files, "mountpoints-14.img", &mounts);
        let thread = ThreadCore { creds: Some(creds), ..thread() };
        put(&mut files, "core-7.img", &[Core { task: None, thread: Some(thread) }]);
        files
    };
    let as_config = || with(creds());
    let root = || with(Creds { uid: 0, ..creds() });
    let gains = || with(Creds { no_new_privs: Some(0), ..creds() });
    let admin = || with(Creds { bounding: vec![1 << 21], ..creds() });
    let network = DECLARED.replacen('{', r#"{"hostNetwork": true, "#, 1);
    let privileged = DECLARED.replace(r#""capabilities""#, r#""privileged": true, "capabilities""#);
    let rows: &[(&str, Files, Option<&str>, &[(&str, Reading)])] = &[
        ("both are fine", as_config(), Some(DECLARED), &[]),
        ("nothing is known of the pod", as_config(), None, &[]),
        ("the pod", as_config(), Some(&network), &[("hostNamespaces", Declared)]),
        ("the container", as_config(), Some(&privileged), &[("privileged", Declared)]),
        // The image's user 0 is suspect of runAsUser: 0. What the container declares does not settle that.
        ("user", root(), Some(DECLARED), &[("runAsNonRoot", NodeOnly), ("runAsUser", NodeOnly)]),
        ("user alone", root(), None, &[("runAsNonRoot", Observed), ("runAsUser", Observed)]),
        ("no_new_privs", gains(), Some(DECLARED), &[("allowPrivilegeEscalation", NodeOnly)]),
        ("capability", admin(), Some(DECLARED), &[("capabilities_restricted", NodeOnly)]),
        (
            "both",
            gains(),
            Some(&network),
            &[("hostNamespaces", Declared), ("allowPrivilegeEscalation", NodeOnly)],
        ),
    ];
    for (name, files, facts, expected) in rows {
        assert_eq!(denied(files, *facts).as_deref(), Ok(*expected), "{name}");
    }
}
