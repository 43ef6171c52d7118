//! What the node looks like: namespaces, mounts, capabilities and LSMs, live or as they were captured.
//!
//! Everything is asked for only when a fact depends on it: most containers need two or three `stat` calls.

use std::borrow::Cow;
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, open, openat2, readlink};
use nix::sys::stat::Mode;
use serde::Deserialize;

use super::cdi;
use super::mounts::Table;
use pss::facts::SeLinuxDefault;
use pss_guard_core::files::{self, FileError};

/// The identity of a namespace: the device and inode behind `/proc/PID/ns/*` or a file it is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamespaceId {
    device: u64,
    inode: u64,
}

/// Where observations come from.
#[derive(Debug)]
pub enum Host {
    /// This node, now, as this process sees it: a runtime's child.
    Live,
    /// This node, now, as a runtime sees it that another process calls.
    Beside(Beside),
    /// A node as it was when the container was captured.
    Observed(Box<Observed>),
    /// Nothing is known: a config.json from elsewhere.
    Unknown,
}

/// The process that started a container, and would start it again: an engine, its shim or monitor. What is its own is
/// the runtime's own.
#[derive(Debug)]
pub struct Beside {
    /// Its folder in the process file system.
    process: PathBuf,
    /// Its namespaces, of which each container asks several times.
    own: RefCell<Vec<(String, Option<NamespaceId>)>>,
    root_user: OnceCell<u32>,
    node: Rc<Shared>,
    /// Whether the paths of a config.json are looked up: not where some user has written it.
    follows: bool,
}

/// What is the same for all containers of a node, looked up once.
#[derive(Debug, Default)]
pub struct Shared {
    /// By the mount namespace that it is of.
    tables: RefCell<HashMap<PathBuf, Rc<Table>>>,
    apparmor: OnceCell<AppArmorState>,
    selinux: OnceCell<SeLinuxDefault<'static>>,
    /// Its CDI specifications.
    cdi: Rc<OnceCell<cdi::Read>>,
    /// The namespaces that config.json files name: all containers of a pod name those of their sandbox.
    namespaces: Answers<Option<NamespaceId>>,
    /// Where the links lead by which distributions move an engine's or the kubelet's directory.
    links: Answers<Option<String>>,
    /// Where the directories are that the policy names.
    directories: Answers<Option<String>>,
}

/// The last answers to questions about paths.
#[derive(Debug)]
struct Answers<T>(RefCell<Vec<(String, T)>>);

/// So many are kept: those who ask the same come one after the other, and a config.json may name any path.
const ANSWERS: usize = 16;

/// Those to longer questions are not: the kernel knows no longer path (`PATH_MAX`).
const LONGEST: usize = 4096;

impl<T> Default for Answers<T> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<T: Clone> Answers<T> {
    fn to(&self, path: &str, ask: impl FnOnce() -> T) -> T {
        if let Some((_, known)) = self.0.borrow().iter().find(|(own, _)| own == path) {
            return known.clone();
        }
        let answer = ask();
        if path.len() > LONGEST {
            return answer;
        }
        let mut known = self.0.borrow_mut();
        if known.len() == ANSWERS {
            known.remove(0);
        }
        known.push((path.to_owned(), answer.clone()));
        answer
    }
}

impl Beside {
    /// The node as a process sees it whose folder in the process file system this is.
    #[must_use]
    pub fn new(process: PathBuf, node: Rc<Shared>) -> Self {
        Self { process, own: RefCell::default(), root_user: OnceCell::new(), node, follows: true }
    }

    /// The same for what a user has written: none of its paths is looked up, because each could lead into a file system
    /// that never answers.
    #[must_use]
    pub fn of_a_stranger(self) -> Self {
        Self { follows: false, ..self }
    }

    fn own_namespace(&self, kind: &str) -> Option<NamespaceId> {
        if let Some((_, known)) = self.own.borrow().iter().find(|(own, _)| own == kind) {
            return *known;
        }
        let found = live_namespace(&self.process.join("ns").join(kind));
        self.own.borrow_mut().push((kind.to_owned(), found));
        found
    }

    fn mount_table(&self) -> Result<Rc<Table>, FileError> {
        if !self.follows {
            // His own namespace may have a hundred thousand mounts.
            return Ok(Rc::new(Table::of("")));
        }
        let name = std::fs::read_link(self.process.join("ns/mnt")).unwrap_or_else(|_| self.process.clone());
        if let Some(table) = self.node.tables.borrow().get(&name) {
            return Ok(Rc::clone(table));
        }
        let table = Rc::new(read_table(&self.process.join("mountinfo"))?);
        self.node.tables.borrow_mut().insert(name, Rc::clone(&table));
        Ok(table)
    }

    /// Whom root in this process's users is here (`user_namespaces(7)`).
    fn root_user(&self) -> u32 {
        *self.root_user.get_or_init(|| {
            let map = files::read_proc(&self.process.join("uid_map")).unwrap_or_default();
            let map = String::from_utf8_lossy(&map);
            let outside = |line: &str| {
                let mut numbers = line.split_ascii_whitespace();
                (numbers.next() == Some("0")).then(|| numbers.next()?.parse().ok())?
            };
            map.lines().find_map(outside).unwrap_or(0)
        })
    }

    /// What root has in a program that this process starts (`capabilities(7)`: P'(permitted) of root is the bounding
    /// set).
    fn bounding_set(&self) -> Option<u64> {
        // The name of a process may be no UTF-8.
        let status = files::read_proc(&self.process.join("status")).ok()?;
        let status = String::from_utf8_lossy(&status);
        let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:"))?;
        u64::from_str_radix(bounding.trim(), 16).ok()
    }
}

fn read_table(path: &Path) -> Result<Table, FileError> {
    let bytes = std::fs::read(path).map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    // Octets outside UTF-8 can only be in other mounts' paths: this pod's are ASCII.
    Ok(Table::of(&String::from_utf8_lossy(&bytes)))
}

/// `observed.json`: a node as it was when a container was captured.
#[derive(Debug, Deserialize)]
pub struct Observed {
    /// The engine.
    pub engine: String,
    /// The kubelet's directory.
    pub kubelet_root: String,
    /// The kubelet's `seccompDefault`.
    pub seccomp_default: bool,
    own_capabilities: String,
    lsm: Lsm,
    own_namespaces: std::collections::BTreeMap<String, String>,
    namespace_paths: std::collections::BTreeMap<String, String>,
    mountinfo: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Lsm {
    apparmor: bool,
}

/// Why `observed.json` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ObservedError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] FileError),
    /// It is not what it should be.
    #[error("parse {} as an observation of a node", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// The bit mask is none.
    #[error("{}: own_capabilities is not a hexadecimal bit mask", path.display())]
    Capabilities {
        /// The file.
        path: PathBuf,
    },
}

/// Whether AppArmor confines containers here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppArmorState {
    /// It does.
    On,
    /// The kernel has it, but the engine has not loaded its profile: perhaps it applies none.
    Unclear(&'static str),
    /// It does not, or nobody knows.
    Off(&'static str),
}

impl Host {
    /// Reads an observation.
    pub fn observed(path: &Path) -> Result<Self, ObservedError> {
        let bytes = files::read(path, files::LIMIT)?;
        let observed: Observed = serde_json::from_slice(&bytes)
            .map_err(|source| ObservedError::Parse { path: path.to_owned(), source })?;
        if u64::from_str_radix(&observed.own_capabilities, 16).is_err() {
            return Err(ObservedError::Capabilities { path: path.to_owned() });
        }
        Ok(Self::Observed(Box::new(observed)))
    }

    /// Whether this node can be asked.
    #[must_use]
    pub fn is_here(&self) -> bool {
        matches!(self, Self::Live | Self::Beside(Beside { follows: true, .. }))
    }

    /// The namespace behind a path; `None` where it cannot be found out.
    #[must_use]
    pub fn namespace(&self, path: &str) -> Option<NamespaceId> {
        match self {
            Self::Beside(Beside { follows: false, .. }) if !is_of_a_process(path) => None,
            // A stranger's words neither make nor push out what is kept for all.
            Self::Live | Self::Beside(Beside { follows: false, .. }) => live_namespace(Path::new(path)),
            Self::Beside(beside) => beside.node.namespaces.to(path, || live_namespace(Path::new(path))),
            Self::Observed(observed) => parse_namespace(observed.namespace_paths.get(path)?),
            Self::Unknown => None,
        }
    }

    /// The runtime's own namespace of a kind (`net`, `pid`, `ipc`, `user`): the host's, as far as the pod is
    /// concerned. Not that of PID 1, which a container engine in a container (kind, k3d) does not share.
    #[must_use]
    pub fn own_namespace(&self, kind: &str) -> Option<NamespaceId> {
        match self {
            Self::Live => self.namespace(&format!("/proc/self/ns/{kind}")),
            Self::Beside(beside) => beside.own_namespace(kind),
            Self::Observed(observed) => parse_namespace(observed.own_namespaces.get(kind)?),
            Self::Unknown => None,
        }
    }

    /// The namespace of a kind that a process is in whose folder in the process file system this is; `None` where that
    /// cannot be found out.
    #[must_use]
    pub fn namespace_of(&self, process: &Path, kind: &str) -> Option<NamespaceId> {
        let mut link = PathBuf::with_capacity(process.as_os_str().len() + 16);
        link.extend([process, Path::new("ns"), Path::new(kind)]);
        // All namespaces are on one device, and the name of the link has the rest: see `process_joins`.
        let named = self.own_namespace(kind).zip(std::fs::read_link(&link).ok());
        let inode = named.as_ref().and_then(|(_, name)| inode(name.to_str()?, kind));
        match named.zip(inode) {
            Some(((own, _), inode)) => Some(NamespaceId { device: own.device, inode }),
            None if matches!(self, Self::Live | Self::Beside(_)) => live_namespace(&link),
            None => self.namespace(link.to_str()?),
        }
    }

    /// Whether a process is in the runtime's own namespace of a kind; `None` where that cannot be found out.
    #[must_use]
    pub fn process_joins(&self, pid: i32, kind: &str) -> Option<bool> {
        match self {
            // The names of the two links tell (`net:[4026531840]`, fs/nsfs.c). Following them, which any other path
            // needs, makes the kernel build an inode and costs twice as much.
            Self::Live => {
                let name = |process: &str| readlink(format!("/proc/{process}/ns/{kind}").as_str()).ok();
                Some(name(&pid.to_string())? == name("self")?)
            }
            // Never what is kept: an id comes again.
            Self::Beside(_) => {
                let link = format!("/proc/{pid}/ns/{kind}");
                Some(live_namespace(Path::new(&link))? == self.own_namespace(kind)?)
            }
            Self::Observed(_) => {
                Some(self.namespace(&format!("/proc/{pid}/ns/{kind}"))? == self.own_namespace(kind)?)
            }
            Self::Unknown => None,
        }
    }

    /// The capabilities that the runtime itself has: what `capabilities.add: [ALL]` and `privileged` become.
    ///
    /// Where nothing is known: those of every kernel since 3.8, short of `SYS_RESOURCE`, which small virtual machines
    /// withhold.
    #[must_use]
    pub fn own_capabilities(&self) -> u64 {
        const OF_EVERY_KERNEL: u64 = 0x3f_ffff_ffff & !(1 << 24);
        match self {
            Self::Live => caps::read(None, caps::CapSet::Effective)
                .map_or(OF_EVERY_KERNEL, |own| own.iter().fold(0, |bits, cap| bits | cap.bitmask())),
            Self::Beside(beside) => beside.bounding_set().unwrap_or(OF_EVERY_KERNEL),
            Self::Observed(observed) => {
                u64::from_str_radix(&observed.own_capabilities, 16).unwrap_or(OF_EVERY_KERNEL)
            }
            Self::Unknown => OF_EVERY_KERNEL,
        }
    }

    /// The mount table that the runtime sees.
    pub(super) fn mount_table(&self) -> Result<Rc<Table>, FileError> {
        match self {
            Self::Live => read_table(Path::new("/proc/self/mountinfo")).map(Rc::new),
            Self::Beside(beside) => beside.mount_table(),
            Self::Observed(observed) => Ok(Rc::new(Table::captured(&observed.mountinfo.join("\n")))),
            Self::Unknown => Ok(Rc::new(Table::of(""))),
        }
    }

    /// Which user counts as root for what the runtime sees: the host's, but where a user calls a runtime of his own.
    #[must_use]
    pub(super) fn root_user(&self) -> u32 {
        match self {
            Self::Beside(beside) => beside.root_user(),
            Self::Live | Self::Observed(_) | Self::Unknown => 0,
        }
    }

    /// Where a path leads after every symbolic link; `None` where it cannot be found out.
    #[must_use]
    pub fn resolve(&self, path: &str) -> Option<String> {
        if !self.is_here() {
            return None;
        }
        // Most paths have no link in them. The kernel says so (since 5.6) at a third of the price of asking where the
        // path leads.
        let how =
            OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
        let plain =
            path.starts_with('/') && !path.split('/').skip(1).any(|part| matches!(part, "" | "." | ".."));
        match plain.then(|| openat2(AT_FDCWD, path, how)) {
            Some(Ok(_)) => return Some(path.to_owned()),
            // It met no link and no such file: there is nothing to follow.
            Some(Err(Errno::ENOENT)) => return None,
            Some(Err(_)) | None => {}
        }
        // O_PATH looks the path up without opening what is there: no FIFO blocks, no device wakes.
        let fd = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
        let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
        readlink(link.as_str()).ok()?.into_string().ok()
    }

    /// The same for a directory of the node's own, which the policy names: it is looked up once for all containers.
    #[must_use]
    pub(super) fn resolve_directory(&self, path: &str) -> Option<String> {
        match self {
            Self::Beside(beside) if beside.follows => beside.node.directories.to(path, || self.resolve(path)),
            _ => self.resolve(path),
        }
    }

    /// Where the last part of a path leads, if that is a link; `None` where it is none, or is not there.
    ///
    /// readlink(2) waits for no file system: on a mount point it fails by the kind of the root.
    #[must_use]
    pub(super) fn link(&self, path: &str) -> Option<String> {
        let target = self.is_here().then(|| std::fs::read_link(path).ok())??;
        Some(target.to_string_lossy().into_owned())
    }

    /// The same for a path that is the node's own: it is looked up once for all containers.
    #[must_use]
    pub(super) fn link_of_node(&self, path: &str) -> Option<String> {
        match self {
            Self::Beside(beside) if beside.follows => beside.node.links.to(path, || self.link(path)),
            _ => self.link(path),
        }
    }

    /// The CDI specifications of the node, read or not: once for all containers.
    pub(super) fn specifications(&self) -> Rc<OnceCell<cdi::Read>> {
        match self {
            Self::Beside(beside) if beside.follows => Rc::clone(&beside.node.cdi),
            _ => Rc::default(),
        }
    }

    /// Whether a path below a directory is what it says: no link on the way, nothing that leads out of the directory or
    /// into another file system.
    #[must_use]
    pub(super) fn is_below(&self, directory: &str, inside: &str) -> bool {
        !self.is_here()
            || look_below(
                directory,
                inside,
                ResolveFlag::RESOLVE_BENEATH
                    | ResolveFlag::RESOLVE_NO_SYMLINKS
                    | ResolveFlag::RESOLVE_NO_XDEV,
            )
            .is_ok()
    }

    /// Whether a path below a directory leads out of it, by a link or by `..`.
    #[must_use]
    pub(super) fn leads_out(&self, directory: &str, inside: &str) -> bool {
        // `openat2(2)`: EXDEV is the answer to an escape.
        self.is_here() && look_below(directory, inside, ResolveFlag::RESOLVE_BENEATH) == Err(Errno::EXDEV)
    }

    /// Whether a container without a profile is unconfined because somebody asked for it.
    ///
    /// containerd applies AppArmor only when the kernel has it, `apparmor_parser` is there and `disable_apparmor` is
    /// not set (`internal/cri/server/service.go`, `pkg/apparmor`); it then loads `cri-containerd.apparmor.d`.
    #[must_use]
    pub fn apparmor(&self) -> AppArmorState {
        match self {
            Self::Live => live_apparmor(),
            Self::Beside(beside) => *beside.node.apparmor.get_or_init(live_apparmor),
            Self::Observed(observed) if observed.lsm.apparmor => AppArmorState::On,
            Self::Observed(_) => {
                AppArmorState::Off("AppArmor is off on this node: the field has no effect here")
            }
            Self::Unknown => AppArmorState::Off("whether the node has AppArmor is not known"),
        }
    }

    /// What the node's SELinux policy labels containers with (go-selinux `loadLabels`: `lxc_contexts`).
    #[must_use]
    pub fn selinux_default(&self) -> SeLinuxDefault<'static> {
        match self {
            Self::Live => live_selinux_default().unwrap_or_default(),
            Self::Beside(beside) => {
                let node = &beside.node.selinux;
                node.get_or_init(|| live_selinux_default().unwrap_or_default()).clone()
            }
            Self::Observed(_) | Self::Unknown => SeLinuxDefault::default(),
        }
    }
}

fn live_namespace(path: &Path) -> Option<NamespaceId> {
    let meta = std::fs::metadata(path).ok()?;
    Some(NamespaceId { device: meta.dev(), inode: meta.ino() })
}

/// Whether a path is `/proc/PID/ns/KIND`, behind which is nothing but a namespace.
fn is_of_a_process(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    matches!(&parts[..], ["", "proc", pid, "ns", kind]
        if pid.parse::<u32>().is_ok() && kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'))
}

/// The inode in the name of a namespace's link: `net:[4026531840]`.
fn inode(name: &str, kind: &str) -> Option<u64> {
    name.strip_prefix(kind)?.strip_prefix(":[")?.strip_suffix(']')?.parse().ok()
}

fn parse_namespace(text: &str) -> Option<NamespaceId> {
    let (device, inode) = text.split_once(':')?;
    Some(NamespaceId { device: device.parse().ok()?, inode: inode.parse().ok()? })
}

/// Looks a path up below a directory, without opening what it names.
fn look_below(directory: &str, inside: &str, resolve: ResolveFlag) -> Result<(), Errno> {
    let directory = open(directory, OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_DIRECTORY, Mode::empty())?;
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(resolve);
    openat2(directory, inside, how).map(drop)
}

fn live_apparmor() -> AppArmorState {
    let enabled = std::fs::read("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
    if enabled.first() != Some(&b'Y') {
        return AppArmorState::Off("AppArmor is off on this node: the field has no effect here");
    }
    if !Path::new("/sbin/apparmor_parser").exists() {
        return AppArmorState::Off(
            "apparmor_parser is not installed, so engines apply no AppArmor profiles here",
        );
    }
    match std::fs::read_to_string("/sys/kernel/security/apparmor/profiles") {
        Ok(profiles) if profiles.contains("cri-containerd.apparmor.d") => AppArmorState::On,
        Ok(_) => AppArmorState::Unclear(
            "the engine's default AppArmor profile is not loaded, so the engine may apply none (disable_apparmor)",
        ),
        Err(_) => AppArmorState::Unclear("the kernel's list of AppArmor profiles cannot be read"),
    }
}

fn live_selinux_default() -> Option<SeLinuxDefault<'static>> {
    let value = |text: &str, key: &str| {
        let values = text.lines().filter_map(|line| line.split_once('='));
        values.filter(|(k, _)| k.trim() == key).map(|(_, v)| v.trim().trim_matches('"').to_owned()).next()
    };
    let config = std::fs::read_to_string("/etc/selinux/config").ok()?;
    let policy = value(&config, "SELINUXTYPE")?;
    let contexts = std::fs::read_to_string(format!("/etc/selinux/{policy}/contexts/lxc_contexts")).ok()?;
    let label = value(&contexts, "process")?;
    let mut parts = label.split(':').map(|part| Cow::Owned(part.to_owned()));
    Some(SeLinuxDefault { user: parts.next()?, role: parts.next()?, kind: parts.next()? })
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::{ANSWERS, Answers, Beside, Host, LONGEST, Shared};

    #[test]
    fn a_live_host_knows_its_own_namespaces_and_capabilities() {
        let own = Host::Live.own_namespace("net").unwrap();
        assert_eq!(Host::Live.namespace(&format!("/proc/{}/ns/net", std::process::id())), Some(own));
        assert_ne!(Host::Live.own_namespace("pid"), Some(own));
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
        assert_eq!(Host::Live.own_capabilities(), u64::from_str_radix(effective.trim(), 16).unwrap());
    }

    #[test]
    fn beside_a_process_is_what_that_process_has_and_looked_up_once() {
        let node = Rc::new(Shared::default());
        let beside = |process: &str| Host::Beside(Beside::new(process.into(), Rc::clone(&node)));
        let (one, other) = (beside("/proc/self"), beside(&format!("/proc/{}", std::process::id())));
        for kind in ["net", "pid", "ipc", "user"] {
            let own = Host::Live.own_namespace(kind);
            assert!(own.is_some() && one.own_namespace(kind) == own && other.own_namespace(kind) == own);
        }
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:")).unwrap();
        assert_eq!(one.own_capabilities(), u64::from_str_radix(bounding.trim(), 16).unwrap());
        assert!(Rc::ptr_eq(&one.mount_table().unwrap(), &other.mount_table().unwrap()));
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("status"), b"Name:\t\xff\nCapBnd:\t0000000000000021\n").unwrap();
        assert_eq!(beside(dir.path().to_str().unwrap()).own_capabilities(), 0x21, "by any name");
        let nobody = beside("/proc/0");
        assert_eq!(nobody.own_namespace("net"), None);
        assert!(nobody.mount_table().is_err());
    }

    #[test]
    fn what_many_containers_ask_is_looked_up_once_and_as_the_node_answers() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let link = |target: &str| {
            let _ = std::fs::remove_file(path("link"));
            std::os::unix::fs::symlink(target, path("link")).unwrap();
        };
        link("/etc");
        let node = Rc::new(Shared::default());
        let beside = || Host::Beside(Beside::new("/proc/self".into(), Rc::clone(&node)));
        let [asked, file, absent] = [path("link"), path("file"), path("absent")];
        std::fs::write(&file, "").unwrap();
        // Of a stranger nothing is looked up, and so nothing is kept.
        let stranger = Host::Beside(Beside::new("/proc/self".into(), Rc::clone(&node)).of_a_stranger());
        assert_eq!((stranger.link_of_node(&asked), stranger.resolve_directory(&asked)), (None, None));
        let of_file = beside().namespace(&file);
        for (host, what) in [(beside(), "one"), (beside(), "other"), (Host::Live, "live")] {
            assert_eq!(host.link_of_node(&asked).as_deref(), Some("/etc"), "{what}");
            assert_eq!(host.link_of_node(&absent), None, "{what}");
            assert_eq!(host.resolve_directory(&asked), host.resolve("/etc"), "{what}");
            assert!(
                of_file.is_some() && host.namespace(&file) == of_file && host.namespace(&absent).is_none()
            );
        }
        link("/usr");
        std::fs::remove_file(&file).unwrap();
        assert_eq!(beside().link_of_node(&asked).as_deref(), Some("/etc"));
        assert_eq!((beside().namespace(&file), Host::Live.namespace(&file)), (of_file, None));
        let other = Host::Beside(Beside::new("/proc/self".into(), Rc::default()));
        assert_eq!(other.link_of_node(&asked).as_deref(), Some("/usr"), "of another scan");
    }

    #[test]
    fn the_last_answers_are_kept_and_none_to_a_path_that_cannot_be() {
        let (answers, asked) = (Answers::default(), std::cell::Cell::new(0));
        let ask = |path: &str| {
            answers.to(path, || {
                asked.set(asked.get() + 1);
                path.to_owned()
            })
        };
        let paths: Vec<String> = (0..=ANSWERS).map(|nth| format!("/{nth}")).collect();
        for path in &paths {
            assert_eq!((&ask(path), &ask(path)), (path, path));
        }
        assert_eq!(asked.get(), ANSWERS + 1);
        ask(&paths[1]);
        assert_eq!(asked.get(), ANSWERS + 1);
        ask(&paths[0]);
        assert_eq!(asked.get(), ANSWERS + 2, "the oldest is gone");
        let long = "/x".repeat(LONGEST);
        assert_eq!((ask(&long), ask(&long)), (long.clone(), long));
        assert_eq!(asked.get(), ANSWERS + 4);
    }

    #[test]
    fn of_a_stranger_nothing_is_looked_up_but_namespaces() {
        let own = format!("/proc/{}/ns/net", std::process::id());
        let beside = Beside::new("/proc/self".into(), Rc::default());
        let (host, strangers) = (
            Host::Beside(Beside::new("/proc/self".into(), Rc::default())),
            Host::Beside(beside.of_a_stranger()),
        );
        for path in
            ["/etc", "/proc/self/root/etc", "/proc/self/ns/net", "/proc/1/ns/../root/etc", "/proc/1/ns/net/x"]
        {
            assert_eq!(strangers.namespace(path), None, "{path}");
        }
        assert!(
            host.namespace("/etc").is_some() && strangers.namespace(&own) == strangers.own_namespace("net")
        );
        assert!(host.resolve("/etc").is_some() && strangers.resolve("/etc").is_none());
        assert!(host.is_here() && !strangers.is_here());
        assert!(!host.is_below("/etc", "nothing") && strangers.is_below("/etc", "nothing"));
    }

    #[test]
    fn a_path_is_resolved_without_opening_what_it_leads_to() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&fifo, &link).unwrap();
        let real = std::fs::canonicalize(&fifo).unwrap();
        assert_eq!(Host::Live.resolve(link.to_str().unwrap()).as_deref(), real.to_str());
        assert_eq!(Host::Live.resolve("/nothing/here"), None);
        assert_eq!(Host::Unknown.resolve("/"), None);
    }
}
