//! What would the engine write for this pod? A pod in the words of a manifest, and the two specs that come of it.
//!
//! The shapes are containerd's and CRI-O's own (containerd `internal/cri/server/container_create.go` buildLinuxSpec
//! and `podsandbox/sandbox_run_linux.go`, CRI-O `server/container_create_linux.go`): what is false is absent, a
//! container always names its pod's namespaces even where those are the host's.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

/// A pod of one container. [`Pod::bare`] is what a manifest without a security context gets.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "they are the manifest's own fields")]
pub(crate) struct Pod {
    pub(crate) name: &'static str,
    pub(crate) namespace: &'static str,
    pub(crate) container: &'static str,
    pub(crate) image: &'static str,
    /// `runAsUser`, or the user of the image.
    pub(crate) uid: u32,
    pub(crate) capabilities: Capabilities,
    pub(crate) privileged: bool,
    /// `allowPrivilegeEscalation: false`
    pub(crate) no_new_privileges: bool,
    pub(crate) read_only_root: bool,
    pub(crate) seccomp: Seccomp,
    pub(crate) proc_mount: ProcMount,
    pub(crate) host_network: bool,
    pub(crate) host_pid: bool,
    pub(crate) host_ipc: bool,
    pub(crate) host_users: bool,
    pub(crate) volumes: Vec<Volume>,
    pub(crate) sysctls: Vec<(&'static str, &'static str)>,
    /// `hostPort`s; containerd passes them on only where `container_annotations` says so, as here.
    pub(crate) host_ports: Vec<u16>,
}

/// `securityContext.capabilities`
#[derive(Clone, Debug)]
pub(crate) enum Capabilities {
    Default,
    Add(&'static [&'static str]),
    AddAll,
    DropAll,
    DropAllAdd(&'static [&'static str]),
}

/// `securityContext.seccompProfile.type`; unset is Unconfined by the time it reaches the engine.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Seccomp {
    Unconfined,
    RuntimeDefault,
}

/// `securityContext.procMount`
#[derive(Clone, Copy, Debug)]
pub(crate) enum ProcMount {
    Default,
    Unmasked,
}

/// A volume and where the container sees it.
#[derive(Clone, Debug)]
pub(crate) enum Volume {
    EmptyDir {
        name: &'static str,
        at: &'static str,
    },
    HostPath {
        path: &'static str,
        at: &'static str,
    },
    /// A `hostPath` used with `subPath`: the spec names a directory of the kubelet's onto which the host's is mounted.
    HostPathSubPath {
        name: &'static str,
        path: &'static str,
        at: &'static str,
    },
}

impl Pod {
    /// A container with nothing set, whose image runs as root.
    pub(crate) fn bare() -> Self {
        Self {
            name: "web-0",
            namespace: "shop",
            container: "app",
            image: "localhost/app:1",
            uid: 0,
            capabilities: Capabilities::Default,
            privileged: false,
            no_new_privileges: false,
            read_only_root: false,
            seccomp: Seccomp::Unconfined,
            proc_mount: ProcMount::Default,
            host_network: false,
            host_pid: false,
            host_ipc: false,
            host_users: true,
            volumes: Vec::new(),
            sysctls: Vec::new(),
            host_ports: Vec::new(),
        }
    }

    /// Everything that restricted asks for, and a read-only root.
    pub(crate) fn compliant() -> Self {
        Self {
            uid: 1000,
            capabilities: Capabilities::DropAll,
            no_new_privileges: true,
            read_only_root: true,
            seccomp: Seccomp::RuntimeDefault,
            ..Self::bare()
        }
    }
}

/// Which engine's shapes and keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Containerd,
    CriO,
}

impl Engine {
    /// The engine's name on our command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::CriO => "cri-o",
        }
    }
}

/// Where a pod lies on the node: what the engine and the kubelet decided for it.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) engine: Engine,
    pub(crate) uid: String,
    pub(crate) sandbox_id: String,
    pub(crate) container_id: String,
    /// The directory under which the engine keeps a sandbox's `hostname`, `resolv.conf` and `shm`.
    pub(crate) sandbox_files: PathBuf,
    /// `<kubelet root>/pods/<uid>`
    pub(crate) pod_dir: PathBuf,
    /// The pod's namespaces by kind: `net`, `ipc`, `uts`, `pid`, `user`.
    pub(crate) namespaces: Vec<(&'static str, PathBuf)>,
    /// A directory in which the specs' rootfs lies, where the engine writes it as an absolute path.
    pub(crate) rootfs: PathBuf,
    /// A capability name for each that the engine itself has.
    pub(crate) engine_capabilities: Vec<String>,
}

impl Place {
    /// The file that the kubelet gives every container for its last words: our witness that one ran.
    pub(crate) fn termination_log(&self, pod: &Pod) -> PathBuf {
        self.pod_dir.join("containers").join(pod.container).join("c0ffee01")
    }

    /// Where a volume's bytes lie, as the kubelet names it.
    pub(crate) fn source(&self, pod: &Pod, volume: &Volume) -> PathBuf {
        volume_source(&self.pod_dir, pod, volume)
    }
}

/// Where a volume's bytes lie, below the kubelet's directory of the pod or elsewhere on the host.
pub(crate) fn volume_source(pod_dir: &Path, pod: &Pod, volume: &Volume) -> PathBuf {
    match volume {
        Volume::EmptyDir { name, .. } => pod_dir.join("volumes/kubernetes.io~empty-dir").join(name),
        Volume::HostPath { path, .. } => PathBuf::from(path),
        Volume::HostPathSubPath { name, .. } => {
            pod_dir.join("volume-subpaths").join(name).join(pod.container).join("0")
        }
    }
}

/// The spec of the pod's one container. It writes a word to its termination log, and that is all.
pub(crate) fn container_spec(pod: &Pod, place: &Place) -> Value {
    let mut spec = json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": pod.uid, "gid": pod.uid, "additionalGids": [pod.uid]},
            "args": ["/bin/sh", "-c", "echo started > /dev/termination-log"],
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", format!("HOSTNAME={}", pod.name)],
            "cwd": "/",
            "capabilities": capabilities(pod, place),
            "oomScoreAdj": 1000,
        },
        "root": {"path": place.rootfs},
        "mounts": container_mounts(pod, place),
        "annotations": container_annotations(pod, place),
        "linux": {
            "cgroupsPath": cgroups_path(place.engine, &place.container_id),
            "namespaces": container_namespaces(pod, place),
            "resources": {
                "devices": [{"allow": pod.privileged, "access": "rwm"}],
                "memory": {},
                "cpu": {"shares": 2, "period": 100_000},
            },
        },
    });
    if pod.no_new_privileges {
        spec["process"]["noNewPrivileges"] = json!(true);
    }
    if pod.read_only_root {
        spec["root"]["readonly"] = json!(true);
    }
    if !pod.privileged && matches!(pod.proc_mount, ProcMount::Default) {
        spec["linux"]["maskedPaths"] = json!(MASKED);
        spec["linux"]["readonlyPaths"] = json!(READ_ONLY);
    }
    if !pod.privileged && matches!(pod.seccomp, Seccomp::RuntimeDefault) {
        spec["linux"]["seccomp"] = seccomp_filter();
    }
    if !pod.host_users {
        map_users(&mut spec);
    }
    spec
}

/// The spec of the pod's sandbox: the pause container, whose namespaces the container joins.
pub(crate) fn sandbox_spec(pod: &Pod, place: &Place) -> Value {
    let mut namespaces = vec![json!({"type": "mount"})];
    let host = [
        ("pid", pod.host_pid),
        ("ipc", pod.host_ipc),
        ("network", pod.host_network),
        ("uts", pod.host_network),
    ];
    namespaces.extend(host.iter().filter(|(_, host)| !host).map(|(kind, _)| json!({"type": kind})));
    let mut spec = json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 65535, "gid": 65535, "additionalGids": [65535]},
            "args": ["/bin/sleep", "3600"],
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "capabilities": sets(&DEFAULT_CAPABILITIES.map(str::to_owned)),
            "noNewPrivileges": true,
            "oomScoreAdj": 1000,
        },
        "root": {"path": place.rootfs, "readonly": true},
        "mounts": default_mounts("ro"),
        "annotations": sandbox_annotations(pod, place),
        "linux": {
            "cgroupsPath": cgroups_path(place.engine, &place.sandbox_id),
            "namespaces": namespaces,
            "resources": {"devices": [{"allow": false, "access": "rwm"}], "cpu": {"shares": 2}},
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
        },
    });
    if !pod.host_network {
        spec["hostname"] = json!(pod.name);
    }
    if !pod.privileged {
        spec["linux"]["seccomp"] = seccomp_filter();
    }
    let mut sysctls: Map<String, Value> = pod.sysctls.iter().map(|(k, v)| ((*k).into(), json!(v))).collect();
    if place.engine == Engine::Containerd && !pod.host_network {
        // On by default since containerd 2.0 (`enable_unprivileged_ports`).
        sysctls.insert("net.ipv4.ip_unprivileged_port_start".into(), json!("0"));
    }
    spec["linux"]["sysctl"] = Value::Object(sysctls);
    if !pod.host_users {
        spec["linux"]["namespaces"].as_array_mut().expect("a list").push(json!({"type": "user"}));
        map_users(&mut spec);
    }
    spec
}

/// `hostUsers: false`: the pod's root is somebody without rights on the host.
fn map_users(spec: &mut Value) {
    for key in ["uidMappings", "gidMappings"] {
        spec["linux"][key] = json!([{"containerID": 0, "hostID": 231_072, "size": 65536}]);
    }
}

/// One level deep, so that nothing is left of it when the container is gone. CRI-O puts its name before the id.
pub(crate) fn cgroups_path(engine: Engine, id: &str) -> String {
    match engine {
        Engine::Containerd => format!("/pss-guard-test-{}", &id[..16]),
        Engine::CriO => format!("/crio-{id}"),
    }
}

fn container_namespaces(pod: &Pod, place: &Place) -> Value {
    let mut list = vec![json!({"type": "mount"})];
    for (kind, path) in &place.namespaces {
        let kind = if *kind == "net" { "network" } else { kind };
        list.push(json!({"type": kind, "path": path}));
    }
    // containerd joins the host's processes like any others, CRI-O leaves the entry out.
    if !pod.host_pid {
        list.push(json!({"type": "pid"}));
    }
    Value::Array(list)
}

fn container_mounts(pod: &Pod, place: &Place) -> Value {
    let sys = if pod.privileged { "rw" } else { "ro" };
    let mut mounts = default_mounts(sys);
    let list = mounts.as_array_mut().expect("a list");
    list.push(json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
        "options": ["nosuid", "noexec", "nodev", "relatime", sys]}));
    let mut add = |destination: &str, source: &Path, options: &[&str]| {
        list.push(json!({"destination": destination, "type": "bind", "source": source, "options": options}));
    };
    // What the kubelet asks for; CRI-O adds `bind` to all of it.
    let mut bind = |destination: &str, source: &Path, mode: &str| match place.engine {
        Engine::Containerd => add(destination, source, &["rbind", "rprivate", mode]),
        Engine::CriO => add(destination, source, &["rbind", "rprivate", mode, "bind"]),
    };
    for volume in &pod.volumes {
        let (Volume::EmptyDir { at, .. } | Volume::HostPath { at, .. } | Volume::HostPathSubPath { at, .. }) =
            volume;
        let mode = if matches!(volume, Volume::EmptyDir { .. }) { "rw" } else { "ro" };
        bind(at, &place.source(pod, volume), mode);
    }
    bind("/etc/hosts", &place.pod_dir.join("etc-hosts"), "rw");
    bind("/dev/termination-log", &place.termination_log(pod), "rw");
    let own = if pod.read_only_root { "ro" } else { "rw" };
    // What CRI-O makes itself it does not bind with what is mounted below.
    let mut bind_own = |destination: &str, source: &Path, mode: &str| match place.engine {
        Engine::Containerd => add(destination, source, &["rbind", "rprivate", mode]),
        Engine::CriO => add(destination, source, &[mode, "bind"]),
    };
    bind_own("/etc/hostname", &place.sandbox_files.join("hostname"), own);
    bind_own("/etc/resolv.conf", &place.sandbox_files.join("resolv.conf"), own);
    let shm = if pod.host_ipc { PathBuf::from("/dev/shm") } else { place.sandbox_files.join("shm") };
    bind_own("/dev/shm", &shm, "rw");
    mounts
}

fn default_mounts(sys: &str) -> Value {
    json!([
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", sys]},
    ])
}

fn container_annotations(pod: &Pod, place: &Place) -> Value {
    let ports: Vec<Value> = pod
        .host_ports
        .iter()
        .map(|port| json!({"hostPort": port, "containerPort": port, "protocol": "TCP"}))
        .collect();
    let mut keys = match place.engine {
        Engine::Containerd => json!({
            "io.kubernetes.cri.container-type": "container",
            "io.kubernetes.cri.container-name": pod.container,
            "io.kubernetes.cri.image-name": pod.image,
            "io.kubernetes.cri.sandbox-id": place.sandbox_id,
            "io.kubernetes.cri.sandbox-name": pod.name,
            "io.kubernetes.cri.sandbox-namespace": pod.namespace,
            "io.kubernetes.cri.sandbox-uid": place.uid,
        }),
        Engine::CriO => json!({
            "io.container.manager": "cri-o",
            "io.kubernetes.cri-o.ContainerType": "container",
            "io.kubernetes.cri-o.ContainerID": place.container_id,
            "io.kubernetes.cri-o.SandboxID": place.sandbox_id,
            "io.kubernetes.cri-o.SandboxName": long_name("POD", pod, place),
            "io.kubernetes.cri-o.Name": long_name(pod.container, pod, place),
            "io.kubernetes.cri-o.ImageName": pod.image,
            "io.kubernetes.cri-o.SeccompProfilePath": match pod.seccomp {
                Seccomp::RuntimeDefault => "RuntimeDefault",
                Seccomp::Unconfined => "Unconfined",
            },
            "io.kubernetes.pod.name": pod.name,
            "io.kubernetes.pod.namespace": pod.namespace,
            "io.kubernetes.pod.uid": place.uid,
            "io.kubernetes.container.name": pod.container,
        }),
    };
    keys["io.kubernetes.container.restartCount"] = json!("0");
    if !ports.is_empty() {
        keys["io.kubernetes.container.ports"] = json!(Value::Array(ports).to_string());
    }
    if place.engine == Engine::CriO {
        let of_kubelet = |(key, _): &(&String, &Value)| key.starts_with("io.kubernetes.container.");
        let copy: Map<String, Value> = keys
            .as_object()
            .into_iter()
            .flatten()
            .filter(of_kubelet)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        keys["io.kubernetes.cri-o.Annotations"] = json!(Value::Object(copy).to_string());
    }
    keys
}

fn sandbox_annotations(pod: &Pod, place: &Place) -> Value {
    match place.engine {
        Engine::Containerd => json!({
            "io.kubernetes.cri.container-type": "sandbox",
            "io.kubernetes.cri.sandbox-id": place.sandbox_id,
            "io.kubernetes.cri.sandbox-name": pod.name,
            "io.kubernetes.cri.sandbox-namespace": pod.namespace,
            "io.kubernetes.cri.sandbox-uid": place.uid,
            "io.kubernetes.cri.sandbox-log-directory":
                format!("/var/log/pods/{}_{}_{}", pod.namespace, pod.name, place.uid),
        }),
        Engine::CriO => {
            let ports: Vec<Value> = pod
                .host_ports
                .iter()
                .map(|port| json!({"HostPort": port, "ContainerPort": port, "Protocol": "TCP", "HostIP": ""}))
                .collect();
            json!({
                "io.container.manager": "cri-o",
                "io.kubernetes.cri-o.ContainerType": "sandbox",
                "io.kubernetes.cri-o.ContainerID": place.sandbox_id,
                "io.kubernetes.cri-o.SandboxID": place.sandbox_id,
                "io.kubernetes.cri-o.SandboxName": long_name("POD", pod, place),
                "io.kubernetes.cri-o.Namespace": pod.namespace,
                "io.kubernetes.cri-o.KubeName": pod.name,
                "io.kubernetes.cri-o.HostNetwork": pod.host_network.to_string(),
                "io.kubernetes.cri-o.PortMappings": Value::Array(ports).to_string(),
                "io.kubernetes.cri-o.Spoofed": "true",
                "io.kubernetes.container.name": "POD",
                "io.kubernetes.pod.name": pod.name,
                "io.kubernetes.pod.namespace": pod.namespace,
                "io.kubernetes.pod.uid": place.uid,
            })
        }
    }
}

fn long_name(container: &str, pod: &Pod, place: &Place) -> String {
    format!("k8s_{container}_{}_{}_{}_0", pod.name, pod.namespace, place.uid)
}

fn capabilities(pod: &Pod, place: &Place) -> Value {
    let defaults: &[&str] = match place.engine {
        Engine::Containerd => &DEFAULT_CAPABILITIES,
        Engine::CriO => &CRI_O_CAPABILITIES,
    };
    let named = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    if pod.privileged {
        return sets(&place.engine_capabilities);
    }
    sets(&match pod.capabilities {
        Capabilities::Default => named(defaults),
        Capabilities::Add(more) => [named(defaults), named(more)].concat(),
        Capabilities::AddAll => place.engine_capabilities.clone(),
        Capabilities::DropAll => Vec::new(),
        Capabilities::DropAllAdd(only) => named(only),
    })
}

fn sets(names: &[String]) -> Value {
    if names.is_empty() {
        json!({})
    } else {
        json!({"bounding": names, "effective": names, "permitted": names})
    }
}

/// containerd `pkg/oci/spec.go` defaultUnixCaps.
const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// CRI-O `internal/config/capabilities`.
const CRI_O_CAPABILITIES: [&str; 9] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_KILL",
];

/// The kubelet's own list for `procMount: Default`.
pub(crate) const MASKED: [&str; 9] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];

pub(crate) const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// A filter of the kind that engines write in for `RuntimeDefault`: an error unless allowed. The list is what a shell
/// and the runtime's own last steps before it need.
fn seccomp_filter() -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [{"names": SYSCALLS.split_whitespace().collect::<Vec<_>>(), "action": "SCMP_ACT_ALLOW"}],
    })
}

/// youki installs the filter before it waits for `start`, which is `accept4` on a socket (`libcontainer/src/notify_socket.rs`,
/// `wait_for_container_start`); engines' own profiles allow it as well.
const SYSCALLS: &str = "accept accept4 access arch_prctl brk capget capset chdir chmod chown clock_gettime clock_nanosleep clone clone3 \
    close close_range dup dup2 dup3 epoll_create1 epoll_ctl epoll_pwait epoll_wait eventfd2 execve execveat exit \
    exit_group faccessat faccessat2 fadvise64 fchdir fchmod fchmodat fchown fchownat fcntl flock fork fstat fstatfs \
    fsync ftruncate futex getcwd getdents getdents64 getegid geteuid getgid getgroups getpgid getpgrp getpid getppid \
    getpriority getrandom getresgid getresuid getrlimit getrusage getsid gettid gettimeofday getuid ioctl kill lseek \
    lstat madvise memfd_create mkdir mkdirat mmap mprotect mremap munmap nanosleep newfstatat open openat openat2 pause \
    pipe pipe2 poll ppoll prctl pread64 prlimit64 pselect6 pwrite64 read readlink readlinkat readv recvfrom recvmsg \
    rename restart_syscall rseq rt_sigaction rt_sigprocmask rt_sigreturn rt_sigsuspend rt_sigtimedwait \
    sched_getaffinity sched_yield select sendmsg sendto set_robust_list set_tid_address setgid setgroups setpgid \
    setresgid setresuid setsid setuid sigaltstack socket socketpair stat statfs statx symlink sysinfo tgkill time \
    umask uname unlink unlinkat utimensat vfork wait4 waitid write writev";
