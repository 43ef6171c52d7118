//! Gathers the [`Facts`] of one container from its config.json, its sandbox's config.json and the node.

mod additions;
pub mod anchors;
mod cdi;
pub mod checkpoint;
mod devices;
pub mod evaluate;
mod hooks;
pub mod host;
pub mod identity;
pub(crate) mod json;
mod mounts;
mod path;
mod root_files;
pub mod sandboxes;
pub mod spec;
mod yaml;

#[cfg(fuzzing)]
pub use json::both_ways;
#[cfg(fuzzing)]
pub use mounts::behind;

use std::borrow::Cow;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde::Deserialize;

use crate::message::line;
use cdi::Cdi;
use host::{AppArmorState, Host};
use identity::{Identity, NoNamespace, short_id};
use pss::capabilities::CapabilitySet;
use pss::facts::{
    AppArmor, Engine, Facts, HostNamespaces, Known, ProcMasks, SeLinux, SeLinuxDefault, Seccomp,
    SeccompDefault, Subject, UserNamespace,
};
use pss_guard_core::files::{self, FileError};
use sandboxes::Sandboxes;
use spec::{Annotations, Linux, Namespace, Process, SECCOMP_OF_CRUN, Spec, Text};

/// Why the facts of a container could not be gathered. Never a verdict.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FactsError {
    /// config.json, or the sandbox's, cannot be read.
    #[error(transparent)]
    Read(#[from] FileError),
    /// It is not JSON, or not a runtime spec.
    #[error("parse {} as an OCI runtime spec", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// A spec without `linux`, or without a process.
    #[error("{} has no `{section}` section: only Linux containers can be judged", path.display())]
    NotLinux {
        /// The file.
        path: PathBuf,
        /// What is missing.
        section: &'static str,
    },
    /// A container of a pod that does not say which.
    #[error(transparent)]
    NoNamespace(#[from] NoNamespace),
    /// A runtime asks, and the kernel does not tell whose namespaces these are.
    #[error(
        "the container's {kind} namespace cannot be compared with the host's (is /proc mounted, and is this the host's?)"
    )]
    Namespace {
        /// `network`, `pid` or `ipc`.
        kind: &'static str,
    },
    /// Hooks would write into a file that the container names: the gate's own lines, for a start.
    #[error(
        "annotation {key:?} redirects the output of hooks, and so the gate's, into a file of the host: \
         remove it from the pod or the image (and from the engine's allowed annotations)"
    )]
    MovesOutput {
        /// The annotation.
        key: String,
    },
    /// The engine always keeps the sandbox's file, and it is not there.
    #[error(
        "there is no sandbox {sandbox:?} beside the container: CRI-O keeps the config.json of each, so this name is not the \
         engine's"
    )]
    NoSandbox {
        /// The id that the container gives.
        sandbox: String,
    },
    /// The sandbox that the container names is another pod's, or no sandbox.
    #[error(
        "{} is {} of {theirs}, but the container says it is of {ours}: its annotations are not the engine's",
        path.display(), if *is_sandbox { "the sandbox" } else { "a container" }
    )]
    OtherSandbox {
        /// The sandbox's file.
        path: PathBuf,
        /// Whether it is a sandbox.
        is_sandbox: bool,
        /// Whose it is.
        theirs: String,
        /// Whose the container says it is.
        ours: String,
    },
}

/// What the admin told about the node.
#[derive(Clone, Copy, Debug)]
pub struct NodeSettings<'p> {
    /// The kubelet's directory.
    pub kubelet_root: &'p str,
    /// The kubelet's `seccompDefault`.
    pub seccomp_default: bool,
    /// What the engine grants by default beyond its built-in list.
    pub default_capabilities: &'p [String],
    /// Sysctls that the engine's configuration adds to every pod.
    pub default_sysctls: &'p [String],
    /// Bind sources that are no hostPath volumes.
    pub not_host_paths: &'p [String],
    /// The engine applies AppArmor profiles.
    pub apparmor: bool,
}

/// Everything facts come from.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// The container's spec.
    pub spec: &'a Spec<'a>,
    /// Its sandbox's spec, of which only [`Spec::of_pod`] counts.
    pub sandbox: Option<&'a Spec<'a>>,
    /// Whose it is.
    pub identity: &'a Identity<'a>,
    /// The node.
    pub host: &'a Host,
    /// What the admin told about it.
    pub node: NodeSettings<'a>,
    /// The directory of config.json.
    pub bundle: Option<&'a str>,
    /// The container's first process, waiting in its namespaces (OCI state; none before `create`).
    pub pid: Option<i32>,
}

impl<'a> Sources<'a> {
    /// The UID of the container's pod: from its own keys, else from the name of its sandbox's log directory.
    pub(crate) fn pod_uid(&self) -> Option<&'a str> {
        self.identity.pod_uid.or_else(|| uid_in_log_directory(self.sandbox?))
    }
}

/// Reads config.json of a bundle, where the engines lay it out: in the bundle itself, beside a bundle that is the
/// root file system, or in `userdata`. Only a file that is not there sends the search on.
pub fn read_config(bundle: &Path) -> Result<(PathBuf, Vec<u8>), FileError> {
    find_config(bundle).map(|(path, _, bytes)| (path, bytes))
}

/// The same, with what the file was like when it was opened.
pub fn find_config(bundle: &Path) -> Result<(PathBuf, Metadata, Vec<u8>), FileError> {
    find_config_by(bundle, |path| files::read_with(path, files::LIMIT))
}

/// The same by another way to read a file.
pub fn find_config_by(
    bundle: &Path,
    read: impl Fn(&Path) -> Result<(Metadata, Vec<u8>), FileError>,
) -> Result<(PathBuf, Metadata, Vec<u8>), FileError> {
    let mut first = None;
    for place in ["config.json", "../config.json", "userdata/config.json", "../userdata/config.json"] {
        let path = bundle.join(place);
        match read(&path) {
            Ok((metadata, bytes)) => return Ok((path, metadata, bytes)),
            Err(err) if err.is_missing() => first = first.or(Some(err)),
            Err(err) => return Err(err),
        }
    }
    Err(first.unwrap_or_else(|| FileError::Open {
        path: bundle.to_owned(),
        source: std::io::ErrorKind::NotFound.into(),
    }))
}

/// Parses a spec.
pub fn parse<'a>(path: &Path, bytes: &'a [u8]) -> Result<Spec<'a>, FactsError> {
    // Text is checked once for the whole file: from bytes, the parser would check every string that it hands out.
    let text = std::str::from_utf8(bytes).map_err(serde::de::Error::custom);
    text.and_then(|text| json::read(text).map_or_else(|| serde_json::from_str(text), Ok))
        .map_err(|source| FactsError::Parse { path: path.to_owned(), source })
}

/// The two sections without which there is no Linux container.
pub fn of_linux<'s, 'a>(
    spec: &'s Spec<'a>,
    config: &Path,
) -> Result<(&'s Linux<'a>, &'s Process<'a>), FactsError> {
    let missing = |section| FactsError::NotLinux { path: config.to_owned(), section };
    let linux = spec.linux.as_ref().ok_or_else(|| missing("linux"))?;
    Ok((linux, spec.process.as_ref().ok_or_else(|| missing("process"))?))
}

/// Refuses a spec that tells the runtime where the gate's own output goes. crun opens that file as root, and appends
/// (crun(1) `run.oci.hooks.stderr`).
pub fn keeps_our_output(spec: &Spec<'_>) -> Result<(), FactsError> {
    match spec.annotations.as_ref().and_then(Annotations::output_of_hooks) {
        Some(key) => Err(FactsError::MovesOutput { key: key.to_owned() }),
        None => Ok(()),
    }
}

/// A sandbox's config.json.
#[derive(Debug)]
pub enum SandboxFile {
    /// As it is now.
    Read(Metadata, Vec<u8>),
    /// As it was for another container of the pod, and still is.
    Known(Rc<Spec<'static>>),
}

/// Reads the config.json of the container's sandbox, beside the container's own in the engine's layout, if it is none of
/// those that are known.
///
/// `None` where there is none: a container of no pod, a sandbox itself, or a file away from its node.
pub fn read_sandbox(
    identity: &Identity<'_>,
    config: &Path,
    host: &Host,
    known: Option<&Sandboxes>,
) -> Result<Option<(PathBuf, SandboxFile)>, FileError> {
    if identity.subject == Subject::Sandbox || identity.namespace.is_none() {
        return Ok(None);
    }
    let Some(bundle) = config.parent() else { return Ok(None) };
    #[cfg(fuzzing)]
    if let Some(known) = known {
        return Ok(known.any().map(|spec| (bundle.to_owned(), SandboxFile::Known(spec))));
    }
    // A captured case: `<case>/containers/<name>/config.json` and `<case>/sandbox/config.json`.
    let of_case = matches!(host, Host::Observed(_)).then(|| "../../sandbox/config.json".to_owned());
    let of_engine = identity.sandbox.map(|sandbox| match identity.engine {
        // `internal/lib/sandbox`: RunDir of the sandbox, beside that of the container.
        Engine::CriO => format!("../../{sandbox}/userdata/config.json"),
        _ => format!("../{sandbox}/config.json"),
    });
    for place in of_case.into_iter().chain(of_engine) {
        let path = bundle.join(place);
        // Which file it is tells as much as its bytes do.
        if let Some(spec) = known.and_then(|known| known.get(&std::fs::metadata(&path).ok()?)) {
            return Ok(Some((path, SandboxFile::Known(spec))));
        }
        match files::open(&path, files::LIMIT) {
            Ok((mut file, metadata)) => {
                let bytes = files::read_opened(&mut file, &metadata, &path, files::LIMIT)?;
                return Ok(Some((path, SandboxFile::Read(metadata, bytes))));
            }
            Err(err) if err.is_missing() => {}
            Err(err) => return Err(err),
        }
    }
    Ok(None)
}

/// Makes sure that the sandbox was found of a container that is about to start. containerd's may have none (a sandbox
/// that a VM keeps). CRI-O writes each one's file before any container of the pod, and keeps it where it drops the
/// sandbox itself (`server/sandbox_run_linux.go`); without it sysctls and host ports would go unseen.
pub fn require_sandbox(identity: &Identity<'_>) -> Result<(), FactsError> {
    if identity.engine == Engine::CriO
        && identity.subject == Subject::Container
        && identity.namespace.is_some()
    {
        return Err(FactsError::NoSandbox { sandbox: identity.sandbox.unwrap_or_default().to_owned() });
    }
    Ok(())
}

/// Makes sure that a sandbox is the container's: who writes a container's annotations cannot borrow another pod's.
pub fn same_pod(identity: &Identity<'_>, sandbox: &Identity<'_>, path: &Path) -> Result<(), FactsError> {
    let differ =
        |ours: Option<&str>, theirs: Option<&str>| ours.is_some() && theirs.is_some() && ours != theirs;
    let other = sandbox.namespace != identity.namespace
        || sandbox.subject != Subject::Sandbox
        || differ(identity.pod_uid, sandbox.pod_uid)
        || differ(identity.pod, sandbox.pod);
    if !other {
        return Ok(());
    }
    let whose =
        |who: &Identity<'_>| format!("pod \"{}/{}\"", who.namespace.unwrap_or("?"), who.pod.unwrap_or("?"));
    let (is_sandbox, path) = (sandbox.subject == Subject::Sandbox, path.to_owned());
    Err(FactsError::OtherSandbox { path, is_sandbox, theirs: whose(sandbox), ours: whose(identity) })
}

/// Gathers the facts.
pub fn gather<'a>(sources: &Sources<'a>, config: &Path) -> Result<Facts<'a>, FactsError> {
    let Sources { spec, identity, host, node, .. } = *sources;
    let (linux, process) = of_linux(spec, config)?;
    let host_namespaces = host_namespaces(sources, linux)?;
    let user_namespace = user_namespace(spec, linux, host);
    let (capabilities, has_all_capabilities) = capabilities(process, host);
    let joins = match &host_namespaces {
        Known::Seen(joins) => *joins,
        Known::Unseen(_) => HostNamespaces::default(),
    };
    let pod = mounts::Pod {
        engine: identity.engine,
        kubelet_root: node.kubelet_root,
        uid: sources.pod_uid(),
        sandbox: identity.sandbox,
        id: identity.id,
        not_host_paths: node.not_host_paths,
        bundle: sources.bundle,
        root: spec.root.as_ref().and_then(|root| root.path.as_ref()).map(Text::as_str),
        joins,
        user_namespace: user_namespace != UserNamespace::Host,
        mapped_root: mapped_root(linux),
    };
    let cdi = Cdi::of(host);
    let mounts = spec.mounts.as_deref().unwrap_or_default();
    let sys_writable = sys_writable(mounts);
    let proc_masks = proc_masks(linux, mounts);
    let volumes = if identity.subject == Subject::Sandbox {
        Vec::new()
    } else {
        let mut volumes = mounts::volumes(spec, &pod, host, &cdi)?;
        // A privileged container has all of the host's devices; that it is one says it all.
        if !(has_all_capabilities && sys_writable && proc_masks.is_open()) {
            let of_pod = identity.engine.speaks_cri();
            let node = devices::DeviceLookup { host, cdi: &cdi, not_host_paths: node.not_host_paths, of_pod };
            volumes.extend(devices::volumes(linux, &node));
        }
        volumes
    };
    let additions = match identity.subject {
        Subject::Sandbox => Vec::new(),
        Subject::Container => additions::of(sources, linux, &cdi),
    };
    let annotations = spec.annotations.as_ref();
    let kubelet = annotations.and_then(|annotations| KubeletAnnotations::of(annotations, identity.engine));
    Ok(Facts {
        subject: identity.subject,
        name: identity
            .container
            .or(identity.id.map(short_id))
            .or_else(|| sources.bundle?.rsplit('/').next().filter(|name| !name.is_empty()))
            .unwrap_or("?"),
        engine: identity.engine,
        uid: uid(process),
        user_namespace,
        no_new_privileges: process.no_new_privileges.unwrap_or(false),
        root_read_only: spec.root.as_ref().and_then(|root| root.read_only).unwrap_or(false),
        capabilities,
        default_capabilities: default_capabilities(sources),
        has_all_capabilities,
        sys_writable,
        host_namespaces,
        proc_masks,
        sysctls: sysctls(sources, linux),
        seccomp: seccomp(linux, annotations),
        seccomp_default: seccomp_default(sources),
        apparmor: apparmor(process, sources),
        selinux: selinux(process),
        selinux_default: selinux_default(process, host),
        host_ports: host_ports(sources, kubelet.as_ref()),
        lifecycle_hosts: kubelet.as_ref().map(KubeletAnnotations::lifecycle_hosts).unwrap_or_default(),
        volumes,
        injected: Vec::new(),
        additions,
        skipped_cdi: cdi.skipped().iter().map(|skipped| line(skipped)).collect(),
    })
}

/// Which host namespaces the container joins, by inode.
///
/// A containerd workload's list looks the same for every pod: it names `/proc/<sandbox>/ns/*`, which are the host's
/// for a hostNetwork pod. CRI-O leaves network and pid out, and for ipc names a file that is bound to the host's.
fn host_namespaces(sources: &Sources<'_>, linux: &Linux<'_>) -> Result<Known<HostNamespaces>, FactsError> {
    let mut unknown = false;
    let mut joins = |kind, file| match joins_host(sources, linux, kind, file) {
        Some(joins) => Ok(joins),
        // The container is about to start: not to know is no reason to let it.
        None if sources.pid.is_some() => Err(FactsError::Namespace { kind }),
        None => {
            unknown = true;
            Ok(false)
        }
    };
    let seen = HostNamespaces {
        network: joins("network", "net")?,
        pid: joins("pid", "pid")?,
        ipc: joins("ipc", "ipc")?,
    };
    if unknown && seen == HostNamespaces::default() {
        return Ok(Known::Unseen(
            "the namespaces in config.json cannot be compared with the host's from here",
        ));
    }
    Ok(Known::Seen(seen))
}

/// Whether one namespace is the host's; `None` where that cannot be found out.
fn joins_host(sources: &Sources<'_>, linux: &Linux<'_>, kind: &str, file: &str) -> Option<bool> {
    let host = sources.host;
    // Not listed: not unshared, so the runtime's own.
    let mut answer = Some(true);
    for entry in entries(linux, kind) {
        answer = answer.and(Some(false));
        // Listed without a path: a new one.
        let Some(path) = entry.filter(|path| !path.is_empty()) else { continue };
        // The process that waits in the namespaces it was given is the best witness: nothing can change them any more.
        let witness = sources.pid.filter(|pid| *pid > 0).and_then(|pid| host.process_joins(pid, file));
        if witness.is_some() {
            return witness;
        }
        match (host.namespace(path), host.own_namespace(file)) {
            (Some(theirs), Some(own)) if theirs == own => return Some(true),
            (Some(_), Some(_)) => {}
            _ if missing_in_sandbox(sources, kind) => return Some(true),
            _ => answer = None,
        }
    }
    answer
}

/// containerd leaves a namespace out of the sandbox's list when the pod uses the host's.
fn missing_in_sandbox(sources: &Sources<'_>, kind: &str) -> bool {
    let linux = sources.sandbox.and_then(|sandbox| sandbox.linux.as_ref());
    linux.is_some_and(|linux| entries(linux, kind).next().is_none())
}

/// The paths of all entries of a kind.
pub fn entries<'s>(linux: &'s Linux<'_>, kind: &'s str) -> impl Iterator<Item = Option<&'s str>> {
    let of_kind = move |entry: &&Namespace<'_>| entry.kind.as_ref().is_some_and(|own| own.as_str() == kind);
    let all = linux.namespaces.iter().flatten();
    all.filter(of_kind).map(|entry| entry.path.as_ref().map(Text::as_str))
}

/// Whether a mapping of users reaches the host's root.
#[must_use]
pub fn maps_root(linux: &Linux<'_>) -> bool {
    let mappings = linux.uid_mappings.as_deref().unwrap_or_default();
    mappings.iter().any(|map| map.host.unwrap_or(0) == 0 && map.size.unwrap_or(0) > 0)
}

/// Whom the root of the container's users is on the host.
fn mapped_root(linux: &Linux<'_>) -> Option<u32> {
    let mappings = linux.uid_mappings.as_deref().unwrap_or_default();
    mappings.iter().find(|map| map.container.unwrap_or(0) == 0).map(|map| map.host.unwrap_or(0))
}

/// Whose users the container has.
fn user_namespace(spec: &Spec<'_>, linux: &Linux<'_>, host: &Host) -> UserNamespace {
    let Some(path) = entries(linux, "user").next() else { return UserNamespace::Host };
    let mappings = linux.uid_mappings.as_deref().unwrap_or_default();
    // No protection then: only `hostUsers: false` counts, and the kubelet never maps below 65536 (`pkg/kubelet/userns`).
    if maps_root(linux) {
        return UserNamespace::Host;
    }
    if let Some(path) = path.filter(|path| !path.is_empty()) {
        match (host.namespace(path), host.own_namespace("user")) {
            (Some(theirs), Some(own)) if theirs == own => return UserNamespace::Host,
            (Some(_), Some(_)) => {}
            _ if mappings.is_empty() => return UserNamespace::OwnUnclear,
            _ => {}
        }
    } else if mappings.is_empty() {
        return UserNamespace::OwnUnclear;
    }
    // CRI-O also makes a user namespace for an annotation, without `hostUsers: false`.
    let by_annotation = spec.annotations.as_ref().is_some_and(|annotations| {
        annotations.get("io.kubernetes.cri-o.userns-mode").is_some()
            || annotations.get("userns-mode.crio.io").is_some()
    });
    if by_annotation { UserNamespace::OwnUnclear } else { UserNamespace::Own }
}

/// The user that the process will really have.
#[must_use]
pub fn uid(process: &Process<'_>) -> u32 {
    // Absent is zero, as everywhere in the runtime spec.
    match process.user.as_ref().and_then(|user| user.uid).unwrap_or(0) {
        // (uid_t)-1 means "leave it" to setresuid(2), so crun, which does not look, starts the process as root.
        // runc refuses it.
        u32::MAX => 0,
        uid => uid,
    }
}

/// All capabilities, and whether the bounding set has every one that the runtime could give.
fn capabilities<'a>(process: &'a Process<'_>, host: &Host) -> (CapabilitySet<'a>, bool) {
    let Some(sets) = process.capabilities.as_ref() else { return (CapabilitySet::default(), false) };
    let bounding = sets.bounding_set();
    // No runtime without SYS_ADMIN starts containers; without it in the set the question does not come up.
    let all = bounding.contains("SYS_ADMIN") && {
        let own = host.own_capabilities();
        own & !bounding.bits == 0
    };
    (sets.union(), all)
}

/// What the engine grants when nobody asks: its built-in list, what the sandbox has (engines give it their default
/// set: containerd `pkg/oci/spec.go`, CRI-O `internal/lib/sandbox/infra.go`), and what the admin says.
fn default_capabilities<'a>(sources: &Sources<'a>) -> CapabilitySet<'a> {
    let mut set = CapabilitySet::of(sources.identity.engine.default_beyond_baseline());
    let sandbox = sources.sandbox.and_then(|sandbox| sandbox.process.as_ref());
    if let Some(sets) = sandbox.and_then(|process| process.capabilities.as_ref()) {
        set.extend(&sets.bounding_set());
    }
    for name in sources.node.default_capabilities {
        set.insert(name);
    }
    set
}

/// `/sys` is writable, or something else than sysfs.
fn sys_writable(mounts: &[spec::Mount<'_>]) -> bool {
    let sys = mounts.iter().rev().find(|mount| mount.destination().trim_end_matches('/') == "/sys");
    sys.is_none_or(|mount| mount.kind() != "sysfs" || !mount.has("ro"))
}

/// What the masks protect. They name paths below /proc: of a second proc file system, mounted somewhere else, they hide
/// nothing. The CRI knows no mount types, so no pod of the kubelet's has one; `ctr` and podman can make it.
fn proc_masks(linux: &Linux<'_>, mounts: &[spec::Mount<'_>]) -> ProcMasks {
    let is_second = |mount: &spec::Mount<'_>| {
        mount.kind() == "proc" && !mount.is_bind() && mount.destination().trim_end_matches('/') != "/proc"
    };
    let only = !mounts.iter().any(is_second);
    let has = |list: &Option<Vec<Text<'_>>>, path: &str| list.iter().flatten().any(|p| p.as_str() == path);
    ProcMasks {
        kcore_masked: only && has(&linux.masked_paths, "/proc/kcore"),
        sys_read_only: only && has(&linux.readonly_paths, "/proc/sys"),
        rest_protected: only
            && MASKED.iter().all(|path| has(&linux.masked_paths, path))
            && READ_ONLY.iter().all(|path| has(&linux.readonly_paths, path)),
    }
}

/// What the kubelet (`pkg/securitycontext/util.go`), containerd (`pkg/oci/spec.go`), docker (`oci/defaults.go`) and podman
/// (`pkg/specgen/generate/config_linux.go`) all mask by default, besides `/proc/kcore`.
const MASKED: [&str; 7] = [
    "/proc/acpi",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];

/// What they all make read-only, besides `/proc/sys`.
const READ_ONLY: [&str; 4] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sysrq-trigger"];

/// The annotation in which CRI-O keeps what the kubelet wrote.
const COPY_OF_CRI_O: &str = "io.kubernetes.cri-o.Annotations";

/// The pod's sysctls: engines put them on the sandbox; a container of no pod has them itself.
fn sysctls<'a>(sources: &Sources<'a>, linux: &'a Linux<'a>) -> Known<Vec<Cow<'a, str>>> {
    let of_pod = match (sources.identity.namespace, sources.identity.subject, sources.sandbox) {
        (Some(_), Subject::Container, None) => {
            return Known::Unseen(
                "the config.json of the pod's sandbox, which has its sysctls, was not found",
            );
        }
        (_, _, sandbox) => sandbox.and_then(|sandbox| sandbox.linux.as_ref()),
    };
    let keys = [of_pod, Some(linux)].into_iter().flatten().filter_map(|linux| linux.sysctl.as_ref());
    let names = keys.flat_map(|keys| &keys.0).map(Text::as_str);
    let of_engine = |name: &&str| sources.node.default_sysctls.iter().any(|default| default == name);
    Known::Seen(names.filter(|name| !of_engine(name)).map(Cow::Borrowed).collect())
}

fn seccomp(linux: &Linux<'_>, annotations: Option<&Annotations<'_>>) -> Seccomp {
    let Some(seccomp) = linux.seccomp.as_ref() else { return Seccomp::Absent };
    // CRI-O lets no pod set it since 1.27.6, 1.28.6 and 1.29.4, unless `allowed_annotations` has it; containerd only
    // with `pod_annotations`.
    let replaces = annotations.is_some_and(|annotations| annotations.get(SECCOMP_OF_CRUN).is_some());
    match () {
        () if replaces => Seccomp::Replaced,
        () if seccomp.allows_all() => Seccomp::AllowsAll,
        () => Seccomp::Filter,
    }
}

fn seccomp_default(sources: &Sources<'_>) -> SeccompDefault {
    // podman and docker filter unless told not to; the kubelet does only with `seccompDefault`.
    let by_engine = matches!(sources.identity.engine, Engine::Podman | Engine::Docker);
    if by_engine || sources.node.seccomp_default {
        SeccompDefault::RuntimeDefault
    } else {
        SeccompDefault::Unconfined
    }
}

fn apparmor<'a>(process: &'a Process<'_>, sources: &Sources<'_>) -> AppArmor<'a> {
    let profile = process.apparmor_profile.as_ref().map(Text::as_str).filter(|profile| !profile.is_empty());
    if let Some(profile) = profile.filter(|profile| *profile != "unconfined") {
        return AppArmor::Profile(profile);
    }
    if !sources.node.apparmor {
        return AppArmor::Off("the policy says that this node's engine applies no AppArmor profiles");
    }
    match (sources.host.apparmor(), profile) {
        (AppArmorState::Off(why), _) => AppArmor::Off(why),
        (_, Some(unconfined)) => AppArmor::Profile(unconfined),
        (AppArmorState::On, None) => AppArmor::NoProfile,
        (AppArmorState::Unclear(why), None) => AppArmor::NoProfileUnclear(why),
    }
}

fn selinux<'a>(process: &'a Process<'_>) -> SeLinux<'a> {
    let label = process.selinux_label.as_ref().map_or("", Text::as_str);
    if label.is_empty() {
        return SeLinux::Off(
            "the spec has no SELinux label: the node has no SELinux, or the engine does not use it here",
        );
    }
    let mut parts = label.split(':');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(user), Some(role), Some(kind)) => SeLinux::Label { user, role, kind },
        _ => SeLinux::Malformed(label),
    }
}

/// The node's own default is looked up only where a label differs from the usual one.
fn selinux_default(process: &Process<'_>, host: &Host) -> SeLinuxDefault<'static> {
    let usual = SeLinuxDefault::default();
    match selinux(process) {
        SeLinux::Label { user, role, kind }
            if (user, role, kind) != (&usual.user, &usual.role, &usual.kind) =>
        {
            host.selinux_default()
        }
        _ => usual,
    }
}

/// containerd before 1.6.11 does not write the pod's UID on containers; the sandbox's log directory,
/// `/var/log/pods/<namespace>_<name>_<uid>`, has it.
fn uid_in_log_directory<'a>(sandbox: &'a Spec<'_>) -> Option<&'a str> {
    let directory = sandbox.annotations.as_ref()?.get("io.kubernetes.cri.sandbox-log-directory")?;
    let (_, uid) = directory.rsplit_once('_')?;
    uid.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        .then_some(uid)
        .filter(|uid| !uid.is_empty())
}

/// The annotations that the kubelet puts on a container (`pkg/kubelet/kuberuntime/labels.go`).
enum KubeletAnnotations<'a> {
    /// As keys of the spec. On containerd only those that `container_annotations` names.
    Flat(&'a Annotations<'a>),
    /// In CRI-O's own copy, which holds nothing of the pod author's: flat, a key that the kubelet happens not to set
    /// could be the pod's.
    Copy(std::collections::BTreeMap<Cow<'a, str>, Cow<'a, str>>),
}

/// The parts of `v1.ContainerPort` that matter.
#[derive(Deserialize)]
struct Port {
    #[serde(default, rename = "hostPort")]
    host_port: u16,
}

/// The parts of `v1.LifecycleHandler` that matter.
#[derive(Deserialize)]
struct Handler {
    #[serde(default, rename = "httpGet")]
    http_get: Option<Target>,
    #[serde(default, rename = "tcpSocket")]
    tcp_socket: Option<Target>,
}

#[derive(Deserialize)]
struct Target {
    #[serde(default)]
    host: String,
}

impl<'a> KubeletAnnotations<'a> {
    /// On CRI-O, what is not in its copy is the pod author's.
    fn of(annotations: &'a Annotations<'a>, engine: Engine) -> Option<Self> {
        if engine != Engine::CriO {
            return Some(Self::Flat(annotations));
        }
        serde_json::from_str(annotations.get(COPY_OF_CRI_O)?).ok().map(Self::Copy)
    }

    fn get(&self, key: &str) -> Option<&str> {
        match self {
            Self::Flat(annotations) => annotations.get(key),
            Self::Copy(copy) => copy.get(key).map(AsRef::as_ref),
        }
    }

    fn lifecycle_hosts(&self) -> Vec<Cow<'a, str>> {
        let handler = self.get("io.kubernetes.container.preStopHandler");
        let Some(Ok(handler)) = handler.map(serde_json::from_str::<Handler>) else { return Vec::new() };
        let targets = [handler.http_get, handler.tcp_socket].into_iter().flatten();
        targets.map(|target| target.host).filter(|host| !host.is_empty()).map(Cow::Owned).collect()
    }
}

fn host_ports(sources: &Sources<'_>, kubelet: Option<&KubeletAnnotations<'_>>) -> Known<Vec<u16>> {
    const PORTS: &str = "io.kubernetes.container.ports";
    let unseen =
        Known::Unseen("the engine does not pass the kubelet's io.kubernetes.container.* annotations on");
    let (Some(_), Some(kubelet)) = (sources.identity.namespace, kubelet) else { return unseen };
    match kubelet.get(PORTS).map(serde_json::from_str::<Vec<Port>>) {
        Some(Ok(ports)) => Known::Seen(ports.iter().map(|port| port.host_port).collect()),
        Some(Err(_)) => {
            Known::Unseen("the annotation io.kubernetes.container.ports is not as the kubelet writes it")
        }
        // The kubelet writes the ports only if there are any, and a hash always.
        None if kubelet.get("io.kubernetes.container.hash").is_some() => Known::Seen(Vec::new()),
        None => unseen,
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::host::Host;
    use super::identity::{identify, identify_sandbox};
    use super::{NodeSettings, Sources, gather, parse};
    use pss::facts::{Engine, Facts, Known, Seccomp, UserNamespace};

    /// Gathers the facts of a container that a CRI engine made for pod shop/web, with more annotations and other
    /// sections of config.json; nothing is known of the node.
    fn gathered<R>(
        engine: Engine,
        annotations: &str,
        sections: &str,
        then: impl FnOnce(&Facts<'_>) -> R,
    ) -> R {
        let own = match engine {
            Engine::Containerd => {
                r#""io.kubernetes.cri.container-type":"container","io.kubernetes.cri.sandbox-namespace":"shop""#
            }
            _ => {
                r#""io.container.manager":"cri-o","io.kubernetes.cri-o.ContainerType":"container","io.kubernetes.pod.namespace":"shop""#
            }
        };
        let separator = if annotations.is_empty() { "" } else { "," };
        let sections = if sections.is_empty() {
            r#""linux":{"cgroupsPath":"/crio/crio-1"},"process":{}"#
        } else {
            sections
        };
        let text = format!(r#"{{"annotations":{{{annotations}{separator}{own}}},{sections}}}"#);
        let path = Path::new("/b/config.json");
        let spec = parse(path, text.as_bytes()).unwrap_or_else(|err| panic!("{text}: {err:?}"));
        let identity = identify(&spec, Some(engine), None, None).unwrap();
        let (host, node) = (&Host::Unknown, NODE);
        let sources =
            Sources { spec: &spec, sandbox: None, identity: &identity, host, node, bundle: None, pid: None };
        then(&gather(&sources, path).unwrap())
    }

    const NODE: NodeSettings<'_> = NodeSettings {
        kubelet_root: "/var/lib/kubelet",
        seccomp_default: false,
        default_capabilities: &[],
        default_sysctls: &[],
        not_host_paths: &[],
        apparmor: true,
    };

    #[test]
    fn what_is_kept_of_a_sandbox_says_the_same_as_the_whole() {
        let entries = |folder: &Path| -> Vec<PathBuf> {
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
        };
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../integration-tests/corpus");
        let (mut compared, mut with_sysctls) = (0, 0);
        for case in entries(&corpus).iter().flat_map(|engine| entries(engine)) {
            let path = case.join("sandbox/config.json");
            let text = std::fs::read_to_string(&path).unwrap();
            // As containerd before 1.6.11 wrote it; and with what no engine of today has.
            let older = text.replace("io.kubernetes.cri.sandbox-uid", "x").replacen("CAP_CHOWN", "CAP_X", 1);
            for (text, container) in [&text, &older]
                .into_iter()
                .flat_map(|text| entries(&case.join("containers")).into_iter().map(move |own| (text, own)))
            {
                let whole = parse(&path, text.as_bytes()).unwrap();
                let kept = whole.of_pod();
                let config = std::fs::read(container.join("config.json")).unwrap();
                let spec = parse(&path, &config).unwrap();
                let identity = identify(&spec, None, None, None).unwrap();
                let host = &Host::observed(&container.join("observed.json")).unwrap();
                let [whole, kept] = [&whole, &kept].map(|sandbox| {
                    let identity_of_sandbox = format!("{:?}", identify_sandbox(sandbox, identity.engine));
                    let identity = &super::identity::Identity { pod_uid: None, ..identity };
                    let sandbox = Some(sandbox);
                    let sources =
                        Sources { spec: &spec, sandbox, identity, host, node: NODE, bundle: None, pid: None };
                    let facts = gather(&sources, &path).unwrap();
                    with_sysctls +=
                        usize::from(matches!(&facts.sysctls, Known::Seen(all) if !all.is_empty()));
                    (identity_of_sandbox, format!("{facts:?}"))
                });
                assert_eq!(kept, whole, "{}", container.display());
                compared += 1;
            }
        }
        assert!(compared > 400 && with_sysctls > 10, "{compared}, {with_sysctls}");
    }

    #[test]
    fn host_ports_are_those_that_the_kubelet_wrote() {
        let ports = r#""io.kubernetes.container.ports":"[{\"hostPort\":8080,\"containerPort\":80},{\"containerPort\":81}]""#;
        let hash = r#""io.kubernetes.container.hash":"x""#;
        let copy = r#""io.kubernetes.cri-o.Annotations":"{\"io.kubernetes.container.hash\":\"x\"}""#;
        let copied = r#""io.kubernetes.cri-o.Annotations":"{\"io.kubernetes.container.ports\":\"[{\\\"hostPort\\\":53}]\"}""#;
        let rows = [
            (Engine::Containerd, ports.to_owned(), Some(vec![8080, 0])),
            (Engine::Containerd, hash.to_owned(), Some(vec![])),
            (Engine::Containerd, String::new(), None),
            (Engine::Containerd, r#""io.kubernetes.container.ports":"no JSON""#.to_owned(), None),
            (Engine::CriO, copied.to_owned(), Some(vec![53])),
            // What is not in CRI-O's own copy is the pod author's: it can neither add ports nor hide them.
            (Engine::CriO, format!("{ports},{copy}"), Some(vec![])),
            (Engine::CriO, format!(r#""io.kubernetes.container.ports":"[]",{copied}"#), Some(vec![53])),
            (Engine::CriO, format!("{ports},{hash}"), None),
        ];
        for (engine, annotations, expected) in rows {
            let seen = gathered(engine, &annotations, "", |facts| match &facts.host_ports {
                Known::Seen(ports) => Some(ports.clone()),
                Known::Unseen(_) => None,
            });
            assert_eq!(seen, expected, "{engine:?} {annotations}");
        }
    }

    #[test]
    fn the_hosts_of_a_pre_stop_handler_are_seen() {
        let handler = |json: &str| {
            let json = json.replace('"', "\\\"");
            format!(r#""io.kubernetes.container.preStopHandler":"{json}""#)
        };
        let rows = [
            (r#"{"httpGet":{"path":"/","port":8080,"host":"10.0.0.1","scheme":"HTTP"}}"#, vec!["10.0.0.1"]),
            (r#"{"tcpSocket":{"port":"http","host":"localhost"}}"#, vec!["localhost"]),
            (r#"{"httpGet":{"port":8080}}"#, vec![]),
            (r#"{"exec":{"command":["/bin/true"]}}"#, vec![]),
            (r#"{"sleep":{"seconds":5}}"#, vec![]),
        ];
        for (json, expected) in rows {
            let seen = gathered(Engine::Containerd, &handler(json), "", |facts| {
                facts.lifecycle_hosts.iter().map(ToString::to_string).collect::<Vec<_>>()
            });
            assert_eq!(seen, expected, "{json}");
        }
    }

    #[test]
    fn a_user_namespace_counts_only_if_it_leads_away_from_the_hosts_root() {
        let section = |namespace: &str, mappings: &str| {
            format!(
                r#""process":{{}},"linux":{{"cgroupsPath":"/crio/crio-1","namespaces":[{namespace}],"uidMappings":[{mappings}]}}"#
            )
        };
        let own = r#"{"type":"user"}"#;
        let joined = r#"{"type":"user","path":"/proc/1/ns/user"}"#;
        let away = r#"{"containerID":0,"hostID":65536,"size":65536}"#;
        let root = r#"{"containerID":0,"hostID":0,"size":1}"#;
        let userns = r#""io.kubernetes.cri-o.userns-mode":"auto""#;
        let rows = [
            ("", section("", away), UserNamespace::Host),
            ("", section(own, away), UserNamespace::Own),
            ("", section(joined, away), UserNamespace::Own),
            ("", section(joined, ""), UserNamespace::OwnUnclear),
            ("", section(own, ""), UserNamespace::OwnUnclear),
            ("", section(own, root), UserNamespace::Host),
            ("", section(own, &format!("{away},{root}")), UserNamespace::Host),
            (userns, section(own, away), UserNamespace::OwnUnclear),
        ];
        for (annotations, sections, expected) in rows {
            let seen = gathered(Engine::CriO, annotations, &sections, |facts| facts.user_namespace);
            assert_eq!(seen, expected, "{annotations} {sections}");
        }
    }

    #[test]
    fn masks_protect_one_proc_file_system_and_no_second() {
        let section = |destination: &str, kind: &str| {
            format!(
                r#""process":{{}},"linux":{{"cgroupsPath":"/crio/crio-1","maskedPaths":["/proc/kcore"],"readonlyPaths":["/proc/sys"]}},"mounts":[{{"destination":"/proc","type":"proc"}},{{"destination":"{destination}","type":"{kind}","source":"{kind}"}}]"#
            )
        };
        let rows = [
            ("/tmp", "tmpfs", false),
            ("/proc/", "proc", false),
            ("/p", "proc", true),
            ("/proc/x", "proc", true),
        ];
        for (destination, kind, open) in rows {
            gathered(Engine::Containerd, "", &section(destination, kind), |facts| {
                assert_eq!(facts.proc_unmasked(), open, "{kind} on {destination}");
            });
        }
    }

    #[test]
    fn a_filter_that_crun_puts_in_its_place_is_not_the_one_of_the_spec() {
        let sections = r#""process":{},"linux":{"cgroupsPath":"/crio/crio-1","seccomp":{"defaultAction":"SCMP_ACT_ERRNO"}}"#;
        let annotation = r#""run.oci.seccomp_bpf_data":"BgAAAAAA/38=""#;
        for engine in [Engine::Containerd, Engine::CriO] {
            gathered(engine, annotation, sections, |facts| assert_eq!(facts.seccomp, Seccomp::Replaced));
            gathered(engine, "", sections, |facts| assert_eq!(facts.seccomp, Seccomp::Filter));
        }
        gathered(Engine::CriO, annotation, "", |facts| assert_eq!(facts.seccomp, Seccomp::Absent));
    }

    #[test]
    fn what_is_absent_is_false_and_what_is_replaced_is_not_protected() {
        gathered(Engine::Containerd, "", "", |facts| {
            assert_eq!((facts.uid, facts.no_new_privileges, facts.root_read_only), (0, false, false));
            assert_eq!(facts.seccomp, Seccomp::Absent);
            assert!(facts.proc_unmasked() && facts.sys_writable && !facts.privileged());
        });
        let sys = |kind: &str, option: &str| {
            format!(
                r#""linux":{{}},"process":{{}},"mounts":[{{"destination":"/sys","type":"{kind}","source":"s","options":["{option}"]}}]"#
            )
        };
        for (kind, option, writable) in
            [("sysfs", "ro", false), ("sysfs", "rw", true), ("tmpfs", "ro", true), ("sysfs", "rro", true)]
        {
            gathered(Engine::Containerd, "", &sys(kind, option), |facts| {
                assert_eq!(facts.sys_writable, writable, "{kind} {option}");
            });
        }
    }
}
