//! Which containers are tried, and what must be said of each? One row a container.

use crate::support::pod::{Capabilities, Engine, Pod, ProcMount, Seccomp, Volume};
use crate::support::program;
use crate::support::runtime::{Family, Runtime};

pub(crate) const LEVELS: [&str; 3] = ["privileged", "baseline", "restricted"];

/// A container, and the violations that must be named at each level, in order.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) pod: Pod,
    baseline: Vec<Said>,
    restricted: Vec<Said>,
}

/// One violation: the control's number and `reason (detail)`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said {
    pub(crate) number: u8,
    pub(crate) text: &'static str,
}

impl Case {
    /// The cases that an engine's bundles can show.
    pub(crate) fn of(engine: Engine) -> Vec<Self> {
        // CRI-O pins user namespaces with newuidmap's help; only containerd's way is laid out.
        all().into_iter().filter(|case| case.pod.host_users || engine == Engine::Containerd).collect()
    }

    pub(crate) fn said(&self, level: &str) -> &[Said] {
        match level {
            "baseline" => &self.baseline,
            "restricted" => &self.restricted,
            _ => &[],
        }
    }
}

/// One line that says what is wrong with the container "app" and why that matters here. Upstream's level does not ask for
/// what is ours.
pub(crate) fn message(verb: &str, level: &str, said: &[Said], because: &str) -> String {
    let (ours, theirs): (Vec<Said>, Vec<Said>) = said.iter().partition(|said| said.number == ROOT_FS.number);
    let list = |said: Vec<Said>| said.iter().map(|said| said.text).collect::<Vec<_>>().join(", ");
    let (ours, theirs) = (list(ours), list(theirs));
    let says = match (ours.as_str(), theirs.as_str()) {
        (ours, "") => format!("pss-guard's own control at \"{level}:latest\": {ours}"),
        ("", theirs) => format!("PodSecurity \"{level}:latest\": {theirs}"),
        (ours, theirs) => {
            format!("PodSecurity \"{level}:latest\": {theirs}; and pss-guard's own control: {ours}")
        }
    };
    format!("{verb} {says}; level from {because}")
}

/// Whether a refusal speaks of restricted, and of what it violates in words that are true of it: one of them stands for
/// upstream's controls, the other for our own alone.
pub(crate) fn is_refused_at_restricted(text: &str) -> bool {
    let begins =
        ["PodSecurity \"restricted:latest\": ", "pss-guard's own control at \"restricted:latest\": readOnly"];
    begins.iter().any(|begins| text.contains(&format!("violates {begins}")))
}

/// What a runtime makes of a hook that fails: runc shows its words, crun only its path and exit code.
pub(crate) fn refusal(runtime: Runtime, first: Said, message: &str) -> String {
    let code = 10 + first.number;
    match runtime.family() {
        Family::Runc => {
            let hook = if runtime.version() < (1, 2) {
                "error running hook #0: error running hook"
            } else {
                "error running createRuntime hook #0"
            };
            format!(
                "runc create failed: unable to start container process: error during container init: {hook}: \
                 exit status {code}, stdout: , stderr: pss-guard: {message}\n"
            )
        }
        Family::Crun => {
            format!("error executing hook `{}` (exit code: {code})", program::gate().display())
        }
        // It keeps what went wrong to itself.
        Family::Youki => String::new(),
    }
}

fn all() -> Vec<Case> {
    let case = |name, pod, baseline: &[Said], restricted: &[Said]| Case {
        name,
        pod,
        baseline: baseline.to_vec(),
        restricted: restricted.to_vec(),
    };
    let good = Pod::compliant;
    vec![
        case("everything set", good(), &[], &[]),
        case("nothing set", Pod::bare(), &[], &[ESCALATION, DROP_ALL, NON_ROOT, SECCOMP, ROOT_FS]),
        case("root", Pod { uid: 0, ..good() }, &[], &[NON_ROOT]),
        case("escalation", Pod { no_new_privileges: false, ..good() }, &[], &[ESCALATION]),
        case("unconfined", Pod { seccomp: Seccomp::Unconfined, ..good() }, &[], &[SECCOMP]),
        case("writable root", Pod { read_only_root: false, ..good() }, &[], &[ROOT_FS]),
        case("keeps capabilities", Pod { capabilities: Capabilities::Default, ..good() }, &[], &[DROP_ALL]),
        case(
            "low port",
            Pod { capabilities: Capabilities::DropAllAdd(&["CAP_NET_BIND_SERVICE"]), ..good() },
            &[],
            &[],
        ),
        case(
            "SYS_TIME",
            Pod { capabilities: Capabilities::Add(&["CAP_SYS_TIME"]), ..good() },
            &[SYS_TIME],
            &[DROP_ALL_SYS_TIME],
        ),
        case("ALL", Pod { capabilities: Capabilities::AddAll, ..good() }, &[ALL], &[DROP_ALL_ALL]),
        case(
            "privileged",
            Pod { privileged: true, ..Pod::bare() },
            &[PRIVILEGED],
            &[PRIVILEGED, ESCALATION, NON_ROOT, ROOT_FS],
        ),
        case("host network", Pod { host_network: true, ..good() }, &[HOST_NETWORK], &[HOST_NETWORK]),
        case("host processes", Pod { host_pid: true, ..good() }, &[HOST_PID], &[HOST_PID]),
        case("host IPC", Pod { host_ipc: true, ..good() }, &[HOST_IPC], &[HOST_IPC]),
        case("host port", Pod { host_ports: vec![8080], ..good() }, &[HOST_PORT], &[HOST_PORT]),
        case(
            "unmasked /proc",
            Pod { proc_mount: ProcMount::Unmasked, ..good() },
            &[PROC_MOUNT],
            &[PROC_MOUNT_RESTRICTED],
        ),
        case(
            "unsafe sysctl",
            Pod { sysctls: vec![("kernel.shmmax", "65536")], ..good() },
            &[SYSCTL],
            &[SYSCTL],
        ),
        case("safe sysctl", Pod { sysctls: vec![("kernel.shm_rmid_forced", "1")], ..good() }, &[], &[]),
        case(
            "emptyDir",
            Pod { volumes: vec![Volume::EmptyDir { name: "tmp", at: "/tmp" }], ..good() },
            &[],
            &[],
        ),
        case(
            "hostPath",
            Pod { volumes: vec![Volume::HostPath { path: "/etc", at: "/host" }], ..good() },
            &[HOST_PATH],
            &[RESTRICTED_VOLUME],
        ),
        case(
            "hostPath behind a subPath",
            Pod {
                volumes: vec![Volume::HostPathSubPath { name: "logs", path: "/etc", at: "/host" }],
                ..good()
            },
            &[HOST_PATH_SUB_PATH],
            &[RESTRICTED_VOLUME_SUB_PATH],
        ),
        // Since v1.35 root of an own user namespace is nobody that the standard minds.
        case("root of a user namespace", Pod { uid: 0, host_users: false, ..good() }, &[], &[]),
    ]
}

/// The cases that every machine can start: user namespaces need a newer runc than Debian 12's.
pub(crate) fn portable() -> Vec<Case> {
    Case::of(Engine::CriO)
}

/// The name of a case as the name of a pod.
pub(crate) fn slug(name: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    name.chars().map(letter).collect::<String>().trim_matches('-').to_owned()
}

const fn said(number: u8, text: &'static str) -> Said {
    Said { number, text }
}

pub(crate) const SYS_TIME: Said = said(
    2,
    "non-default capabilities (container \"app\" must not include \"SYS_TIME\" in securityContext.capabilities.add)",
);
pub(crate) const ALL: Said = said(
    2,
    "non-default capabilities (container \"app\" must not include \"ALL\" in securityContext.capabilities.add)",
);
pub(crate) const HOST_NETWORK: Said = said(3, "host namespaces (hostNetwork=true)");
pub(crate) const HOST_PID: Said = said(3, "host namespaces (hostPID=true)");
pub(crate) const HOST_IPC: Said = said(3, "host namespaces (hostIPC=true)");
pub(crate) const HOST_PATH: Said =
    said(4, "hostPath volumes (volume mounted at \"/host\" from the host's \"/etc\")");
pub(crate) const HOST_PATH_SUB_PATH: Said = said(4, "hostPath volumes (volume \"logs\")");
pub(crate) const HOST_PORT: Said = said(5, "hostPort (container \"app\" uses hostPort 8080)");
pub(crate) const PRIVILEGED: Said =
    said(7, "privileged (container \"app\" must not set securityContext.privileged=true)");
pub(crate) const PROC_MOUNT: Said =
    said(8, "procMount (container \"app\" must not set securityContext.procMount to \"Unmasked\")");
/// The same words, but since v1.35 it is a control of its own at restricted.
pub(crate) const PROC_MOUNT_RESTRICTED: Said = said(15, PROC_MOUNT.text);
pub(crate) const SYSCTL: Said = said(11, "forbidden sysctls (kernel.shmmax)");
pub(crate) const ESCALATION: Said = said(
    13,
    "allowPrivilegeEscalation != false (container \"app\" must set securityContext.allowPrivilegeEscalation=false)",
);
pub(crate) const DROP_ALL: Said = said(
    14,
    "unrestricted capabilities (container \"app\" must set securityContext.capabilities.drop=[\"ALL\"])",
);
pub(crate) const DROP_ALL_SYS_TIME: Said = said(
    14,
    "unrestricted capabilities (container \"app\" must set securityContext.capabilities.drop=[\"ALL\"]; \
     container \"app\" must not include \"SYS_TIME\" in securityContext.capabilities.add)",
);
pub(crate) const DROP_ALL_ALL: Said = said(
    14,
    "unrestricted capabilities (container \"app\" must set securityContext.capabilities.drop=[\"ALL\"]; \
     container \"app\" must not include \"ALL\" in securityContext.capabilities.add)",
);
pub(crate) const RESTRICTED_VOLUME: Said = said(
    16,
    "restricted volume types (volume mounted at \"/host\" from the host's \"/etc\" uses restricted volume type \"hostPath\")",
);
pub(crate) const RESTRICTED_VOLUME_SUB_PATH: Said =
    said(16, "restricted volume types (volume \"logs\" uses restricted volume type \"hostPath\")");
pub(crate) const NON_ROOT: Said =
    said(17, "runAsNonRoot != true (pod or container \"app\" must set securityContext.runAsNonRoot=true)");
pub(crate) const SECCOMP: Said = said(
    19,
    "seccompProfile (pod or container \"app\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" \
     or \"Localhost\")",
);
pub(crate) const ROOT_FS: Said = said(
    20,
    "readOnlyRootFilesystem != true (container \"app\" must set securityContext.readOnlyRootFilesystem=true)",
);
