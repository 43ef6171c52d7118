//! Loads the policy: `policy.toml`, or its compiled form if that is certainly the same.
//!
//! Parsing TOML costs more than everything else that a start needs, so the parsed policy is cached in its [`compiled`] form behind
//! one line that says which file it was made from, and what `agent/cluster.json` said if that was read: so a start that needs
//! the cluster's version asks only whether that file is still the same.
//!
//! A start that parses a changed policy also keeps its text in /var/lib/pss-guard. While `policy.toml` is missing,
//! invalid or untrusted, containers are evaluated against this last good text, across reboots and upgrades, so a fault
//! of the file neither relaxes the node nor stops it. Only `pss-guard policy remove` ends it.

use std::fmt;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use pss::Version;

use super::kubelet_root;
use super::policy::read::sets_nothing;
use super::policy::{self, Mode, Policy, PolicyError, SYSTEM_NAMESPACE, compiled};
use crate::atomic::{self, Lasts};
use crate::checksum::checksum;
use crate::cluster::{self, Told};
use crate::files::{self, FileError, Links, Owner};
use crate::paths::Paths;

/// The policy, or why there is none.
#[derive(Debug)]
// One is made in the life of a process.
#[allow(clippy::large_enum_variant)]
pub enum Loaded {
    /// The policy that holds.
    Good(Policy),
    /// `policy.toml` cannot be used; the last good text of it holds.
    Kept {
        /// What that says. Its file is the kept one.
        policy: Policy,
        /// Why `policy.toml` cannot be used.
        error: LoadError,
    },
    /// There is a policy, it cannot be used, and no good text of it is kept.
    Bad {
        /// Why.
        error: LoadError,
        /// What still holds.
        salvage: Fallback,
    },
}

impl Loaded {
    /// The policy's mode, or what is left of it. Which mode is in force is another question: `mode` answers it.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        match self {
            Self::Good(policy) | Self::Kept { policy, .. } => policy.mode,
            Self::Bad { salvage, .. } => salvage.mode,
        }
    }

    /// The policy in force, or why there is none.
    pub const fn policy(&self) -> Result<&Policy, &LoadError> {
        match self {
            Self::Good(policy) | Self::Kept { policy, .. } => Ok(policy),
            Self::Bad { error, .. } => Err(error),
        }
    }

    /// Why `policy.toml` cannot be used, if it cannot.
    #[must_use]
    pub const fn fault(&self) -> Option<&LoadError> {
        match self {
            Self::Good(_) => None,
            Self::Kept { error, .. } | Self::Bad { error, .. } => Some(error),
        }
    }
}

/// The policy for a command that only looks.
#[derive(Debug)]
pub struct Usable {
    /// The node's policy, the last good one, or the built-in defaults where there never was one.
    pub policy: Policy,
    /// Why it is the last good one, if it is.
    pub fault: Option<LoadError>,
}

/// What holds while the policy cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// The last mode that was asked for; `enforce` if nothing is known, because then nobody asked for less.
    pub mode: Mode,
    /// The namespaces that start nevertheless.
    pub exempt_namespaces: Vec<String>,
}

/// Why a policy cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file cannot be believed or read.
    #[error(transparent)]
    File(#[from] FileError),
    /// Its text is wrong.
    #[error(transparent)]
    Text(#[from] PolicyError),
    /// There was one.
    #[error(
        "{0} is gone, but there was a policy before; restore it (the last good policy is {1}), or run \
         `pss-guard policy remove` to continue with the built-in defaults",
        .policy.display(), .kept.display()
    )]
    Gone {
        /// The policy file.
        policy: PathBuf,
        /// Where the last good text is kept, if it is.
        kept: PathBuf,
    },
    /// It sets nothing, and there was one that did: a full disk, a shell's `>` or an editor has truncated it.
    #[error(
        "{0} sets nothing, but there was a policy before; write it again (the last good text is {1}), or run `pss-guard \
         policy remove` to continue with the built-in defaults",
        .policy.display(), .kept.display()
    )]
    Empty {
        /// The policy file.
        policy: PathBuf,
        /// Where the last good text is kept, if it is.
        kept: PathBuf,
    },
}

/// No policy is that large; the cache of one is not much larger than its text.
pub const LIMIT: u64 = 1 << 20;
const CACHE_LIMIT: u64 = 4 << 20;

/// The policy of this node.
#[must_use]
pub fn load(paths: &Paths) -> Loaded {
    let path = paths.policy();
    let bad = |error: LoadError, text: Option<&str>| without(paths, error, text);
    let own = match fs::symlink_metadata(&path) {
        Ok(own) => own,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return if was_there(paths) { bad(gone(paths), None) } else { Loaded::Good(built_in(paths)) };
        }
        Err(source) => return bad(FileError::Open { path, source }.into(), None),
    };
    let metadata = match if own.is_symlink() { fs::metadata(&path) } else { Ok(own.clone()) } {
        Ok(metadata) => metadata,
        // A dangling link: the admin meant to have a policy.
        Err(source) => return bad(FileError::Open { path, source }.into(), None),
    };
    let checked = files::check(&path, &metadata, Owner::Root, LIMIT);
    if let Err(error) = checked.and_then(|()| files::check_place(&path, &own)) {
        return bad(error.into(), None);
    }
    let compiled = read_cache(&paths.policy_cache());
    let stamp = Stamp::of(&metadata);
    if let Some((mut policy, of_cluster)) = compiled.as_ref().and_then(|compiled| compiled.policy_of(&stamp))
    {
        policy.file = Some(path.to_string_lossy().into_owned());
        if policy.cluster.version == Version::Latest {
            let written = compiled.as_ref().map_or(0, |compiled| compiled.written);
            policy.told = told(paths, of_cluster, |of_cluster| {
                let header = stamp.header() + of_cluster;
                let _ = write_cache(&paths.policy_cache(), &header, metadata.mode(), &policy);
                // The kubelet's root was recorded after this policy was compiled: see `kubelet_root::record`.
                let record = fs::symlink_metadata(paths.kubelet_root());
                if record.is_ok_and(|record| Stamp::of(&record).changed >= written) {
                    let _ = kubelet_root::discard(&paths.policy_cache());
                }
            });
        }
        return Loaded::Good(policy);
    }

    let (file, before, text) = match text(&path, Owner::Root) {
        Ok(read) => read,
        Err(error) => return bad(error.into(), None),
    };
    if sets_nothing(&text) && was_there(paths) {
        return bad(empty(paths), None);
    }
    match policy::parse(&text, &path.to_string_lossy()) {
        Ok(policy) => {
            let is_said = policy.node.kubelet_root.is_some();
            let policy = on_node(policy, paths);
            let stamp = Stamp::of(&before);
            // A file that is being written must not be cached or kept half-written. One that sets nothing is as good as
            // none: kept, it would be taken for a policy that was lost.
            if !sets_nothing(&text) && file.metadata().is_ok_and(|after| Stamp::of(&after) == stamp) {
                // Failing to keep the text does not stop a container; the next start tries again.
                let kept = keep(paths, &stamp, before.mode(), &text);
                let header = if kept.is_ok() { stamp.header() } else { not_kept() };
                // Without a cache every start is slower, no more.
                let _ = write_cache(&paths.policy_cache(), &header, before.mode(), &policy);
                // Recorded again meanwhile: see `kubelet_root::record`.
                if !is_said && kubelet_root::recorded(paths).unwrap_or_default() != policy.node.kubelet_root {
                    let _ = kubelet_root::discard(&paths.policy_cache());
                }
            }
            Loaded::Good(with_told(policy, paths))
        }
        Err(error) => bad(error.into(), Some(&text)),
    }
}

/// The policy of a node that never had one.
#[must_use]
pub fn built_in(paths: &Paths) -> Policy {
    completed(Policy::default(), paths)
}

/// A policy that was not compiled, with what this node knows and the text does not say.
fn completed(policy: Policy, paths: &Paths) -> Policy {
    with_told(on_node(policy, paths), paths)
}

/// A policy with what is recorded of this node, where it does not say that itself. A record that does not count is as if it were
/// missing; `status` names its fault.
fn on_node(mut policy: Policy, paths: &Paths) -> Policy {
    if policy.node.kubelet_root.is_none() {
        policy.node.kubelet_root = kubelet_root::recorded(paths).unwrap_or_default();
    }
    policy
}

/// A policy with the cluster's version where it does not name one.
fn with_told(policy: Policy, paths: &Paths) -> Policy {
    let told = match policy.cluster.version {
        Version::Latest => cluster::told(&paths.told()),
        Version::Minor(_) => Told::Nothing,
    };
    Policy { told, ..policy }
}

/// The cluster's version by `known`, what the compiled policy has of the file, if that is the file's; else by the file. `know`
/// gets what to keep of it.
fn told(paths: &Paths, known: &str, know: impl FnOnce(&str)) -> Told {
    let stamp = match fs::symlink_metadata(paths.cluster()) {
        Ok(metadata) => Stamp::of(&metadata),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Told::Nothing,
        Err(_) => return cluster::told(&paths.told()),
    };
    let prefix = format!(" {stamp} ");
    if let Some(minor) = known.strip_prefix(&prefix).and_then(|minor| minor.parse().ok()) {
        return Told::Minor(minor);
    }
    // Asked before the file is read: one that changes after that in the same tick would look the same.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos());
    let is_settled = i64::try_from(now).is_ok_and(|now| now.saturating_sub(stamp.changed) >= TICKS);
    let told = cluster::told(&paths.told());
    // What does not count is read, and its fault named, at each start.
    if let (Told::Minor(minor), true) = (&told, is_settled) {
        know(&format!("{prefix}{minor}"));
    }
    told
}

/// The policy of a node whose `policy.toml` cannot be used.
fn without(paths: &Paths, error: LoadError, text: Option<&str>) -> Loaded {
    match kept(paths) {
        Some(policy) => Loaded::Kept { policy, error },
        None => Loaded::Bad { error, salvage: salvage(paths, text) },
    }
}

/// The last good policy, if its text is there, can be believed, and is one that this program understands.
fn kept(paths: &Paths) -> Option<Policy> {
    let path = paths.kept_policy();
    let policy = policy::parse(&kept_text(&path).ok()?, &path.to_string_lossy()).ok()?;
    Some(completed(policy, paths))
}

fn kept_text(path: &Path) -> Result<String, FileError> {
    // Where the folder is reached by a link, nobody else may turn it either.
    files::walk(path)?;
    let (_, _, bytes) = files::read_as(path, Links::Refuse, Owner::Root, LIMIT)?;
    utf8(path, bytes)
}

/// Whether there was a policy on this node that was good once, and set something.
#[must_use]
pub fn was_there(paths: &Paths) -> bool {
    let is_there = |path: &Path| fs::symlink_metadata(path).is_ok();
    let kept = paths.kept_policy();
    // Older versions of this program kept texts that set nothing, too.
    if is_there(&kept) {
        !kept_text(&kept).is_ok_and(|text| sets_nothing(&text))
    } else {
        is_there(&paths.policy_cache())
    }
}

fn gone(paths: &Paths) -> LoadError {
    LoadError::Gone { policy: paths.policy(), kept: paths.kept_policy() }
}

fn empty(paths: &Paths) -> LoadError {
    LoadError::Empty { policy: paths.policy(), kept: paths.kept_policy() }
}

/// A policy file named on the command line. Whoever may run the command may read any file, whoever owns it; only the
/// node's own must be root's, because [`load`] will not believe it otherwise.
pub fn load_file(paths: &Paths, path: &Path) -> Result<Policy, LoadError> {
    if path == paths.policy() {
        if let Some(policy) = load_fresh(paths)? {
            return Ok(policy);
        }
        return load_text(paths, path, Owner::Root);
    }
    load_text(paths, path, Owner::Anybody)
}

/// The policy of a text that is no file, under the name by which messages call it.
pub fn load_given(paths: &Paths, text: &str, name: &str) -> Result<Policy, LoadError> {
    Ok(completed(policy::parse(text, name)?, paths))
}

/// All mistakes in a policy file, where [`load_file`] and [`load_fresh`] name the first.
#[must_use]
pub fn mistakes(path: &Path) -> Vec<PolicyError> {
    text(path, Owner::Anybody)
        .map(|(_, _, text)| policy::mistakes(&text, &path.to_string_lossy()))
        .unwrap_or_default()
}

/// Why the gate would not believe a policy file as it is, whatever it says.
#[must_use]
pub fn would_not_take(path: &Path) -> Option<FileError> {
    // The text of a name alone has no folder.
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    text(&path, Owner::Root).err()
}

/// The policy file itself, past the cache, as [`load`] would believe it. `None` if there is none and never was.
pub fn load_fresh(paths: &Paths) -> Result<Option<Policy>, LoadError> {
    let text = text_fresh(paths)?;
    let policy = text.map(|text| policy::parse(&text, &paths.policy().to_string_lossy()));
    Ok(policy.transpose()?.map(|policy| completed(policy, paths)))
}

/// The same for who only looks: with the last good policy where the file cannot be used.
pub fn load_usable(paths: &Paths) -> Result<Usable, LoadError> {
    match load_fresh(paths) {
        Ok(policy) => Ok(Usable { policy: policy.unwrap_or_else(|| built_in(paths)), fault: None }),
        Err(error) => match kept(paths) {
            Some(policy) => Ok(Usable { policy, fault: Some(error) }),
            None => Err(error),
        },
    }
}

/// The text of that file.
pub fn text_fresh(paths: &Paths) -> Result<Option<String>, LoadError> {
    match text(&paths.policy(), Owner::Root) {
        Err(error) if error.is_missing() && fs::symlink_metadata(paths.policy()).is_err() => {
            if was_there(paths) { Err(gone(paths)) } else { Ok(None) }
        }
        read => match read?.2 {
            text if sets_nothing(&text) && was_there(paths) => Err(empty(paths)),
            text => Ok(Some(text)),
        },
    }
}

/// Why a good policy is not kept: then a fault of the file would be one of the node.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotKept {
    /// What is kept cannot be believed or read.
    #[error("there is no last good policy")]
    File(#[source] FileError),
    /// It was kept before the policy was changed.
    #[error("{} is not the current policy", .0.display())]
    Older(PathBuf),
}

/// Whether the text of a policy is kept as the last good one.
pub fn is_kept(paths: &Paths) -> Result<(), NotKept> {
    let path = paths.kept_policy();
    let Ok(Some(text)) = text_fresh(paths) else { return Ok(()) };
    match kept_text(&path) {
        _ if sets_nothing(&text) => Ok(()),
        Ok(kept) if kept == text => Ok(()),
        Ok(_) => Err(NotKept::Older(path)),
        Err(error) => Err(NotKept::File(error)),
    }
}

/// Whether the next start of a container keeps it: not where it believes the compiled form, and not where the last one
/// could not.
#[must_use]
pub fn will_be_kept(paths: &Paths) -> bool {
    let Some(compiled) = read_cache(&paths.policy_cache()) else { return true };
    let stamp = fs::metadata(paths.policy()).map(|metadata| Stamp::of(&metadata));
    compiled.bytes.get(..compiled.header) != Some(not_kept().as_bytes())
        && stamp.map_or(true, |stamp| compiled.policy_of(&stamp).is_none())
}

/// Keeps it without waiting for that.
pub fn keep_now(paths: &Paths) {
    if is_kept(paths).is_err()
        && let Ok((_, metadata, text)) = text(&paths.policy(), Owner::Root)
        && !sets_nothing(&text)
        && policy::parse(&text, &paths.policy().to_string_lossy()).is_ok()
    {
        // Whether it is kept then is the caller's next question.
        let _ = keep(paths, &Stamp::of(&metadata), metadata.mode(), &text);
    }
}

fn load_text(paths: &Paths, path: &Path, owner: Owner) -> Result<Policy, LoadError> {
    let (_, _, text) = text(path, owner)?;
    Ok(completed(policy::parse(&text, &path.to_string_lossy())?, paths))
}

fn text(path: &Path, owner: Owner) -> Result<(File, Metadata, String), FileError> {
    if owner == Owner::Root {
        let own = fs::symlink_metadata(path);
        let own = own.map_err(|source| FileError::Open { path: path.to_owned(), source })?;
        files::check_place(path, &own)?;
    }
    let (file, metadata, bytes) = files::read_as(path, Links::Follow, owner, LIMIT)?;
    Ok((file, metadata, utf8(path, bytes)?))
}

fn utf8(path: &Path, bytes: Vec<u8>) -> Result<String, FileError> {
    String::from_utf8(bytes).map_err(|error| FileError::Read {
        path: path.to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidData, error),
    })
}

/// What is left of the policy where [`load`] itself has failed. The rules of the policy are not read.
#[must_use]
pub fn salvaged(paths: &Paths) -> Fallback {
    let text = text(&paths.policy(), Owner::Root).map(|(_, _, text)| text);
    salvage(paths, text.ok().as_deref())
}

fn salvage(paths: &Paths, text: Option<&str>) -> Fallback {
    let cache = paths.policy_cache();
    // Whoever can write to the folder can have kept an older one of root's.
    let last = files::check_folder_of(&cache).ok().and_then(|_| read_cache(&cache)?.salvage());
    let (mode, mut exempt_namespaces) = last.unwrap_or_else(|| {
        // A text that this program does not understand, because another version of it did, still has a mode.
        let kept = kept_text(&paths.kept_policy()).ok();
        let mode = [kept.as_deref(), text].into_iter().flatten().find_map(policy::read::mode_of);
        (mode.unwrap_or(Mode::Enforce), Vec::new())
    });
    if !exempt_namespaces.iter().any(|name| name == SYSTEM_NAMESPACE) {
        exempt_namespaces.push(SYSTEM_NAMESPACE.to_owned());
    }
    Fallback { mode, exempt_namespaces }
}

/// Which file something was read from. The change time cannot be set back, so that a file restored with its old
/// modification time is another one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    modified: i64,
    changed: i64,
    size: u64,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            modified: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
            size: metadata.len(),
        }
    }

    /// The line above the compiled policy, without what is known of the cluster and without its checksum.
    fn header(&self) -> String {
        let program = env!("CARGO_PKG_VERSION");
        format!("{MAGIC} {FORMAT} {program} {self}")
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device, inode, modified, changed, size } = self;
        write!(f, "{device} {inode} {modified} {changed} {size}")
    }
}

/// That line where the text could not be kept: it is no file's, so the next start parses the policy again and tries again.
fn not_kept() -> String {
    format!("{MAGIC} {FORMAT} not kept")
}

fn nanoseconds(seconds: i64, nanoseconds: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}

const MAGIC: &str = "pss-guard-policy";

/// Counted up whenever the meaning of the compiled form changes within one version of the program.
pub(super) const FORMAT: u32 = 7;

/// File systems stamp in ticks of the kernel's clock, at most 10 ms: a file that changes twice in one tick can look
/// unchanged. A cache that is hardly younger than the policy is therefore not believed (git calls this "racily clean").
const TICKS: i64 = 50_000_000;

/// A cache whose owner and checksum are right; whether it is the policy's is another question.
struct Compiled {
    bytes: Vec<u8>,
    header: usize,
    body: usize,
    written: i64,
}

fn read_cache(path: &Path) -> Option<Compiled> {
    let (_, metadata, bytes) = files::read_as(path, Links::Refuse, Owner::Root, CACHE_LIMIT).ok()?;
    let line = bytes.iter().take(512).position(|byte| *byte == b'\n')?;
    let header = bytes.get(..line)?.iter().rposition(|byte| *byte == b' ')?;
    let written_sum = std::str::from_utf8(bytes.get(header + 1..line)?).ok()?;
    let magic = bytes.starts_with(MAGIC.as_bytes());
    if !magic || u64::from_str_radix(written_sum, 16).ok()? != checksum(bytes.get(line + 1..)?) {
        return None;
    }
    let written = nanoseconds(metadata.mtime(), metadata.mtime_nsec());
    Some(Compiled { bytes, header, body: line + 1, written })
}

impl Compiled {
    /// The policy, if it is that of this file, and what is known of the cluster: nothing, or its file, a space and a minor, behind
    /// a space.
    fn policy_of(&self, stamp: &Stamp) -> Option<(Policy, &str)> {
        let header = std::str::from_utf8(self.bytes.get(..self.header)?).ok()?;
        let of_cluster = header.strip_prefix(&stamp.header())?;
        let same = of_cluster.is_empty() || of_cluster.starts_with(' ');
        let settled = self.written.saturating_sub(stamp.changed) >= TICKS;
        if !(same && settled) {
            return None;
        }
        Some((compiled::read(self.bytes.get(self.body..)?)?, of_cluster))
    }

    /// What a broken policy leaves behind: not all of it, because another version of this program may have compiled it.
    fn salvage(&self) -> Option<(Mode, Vec<String>)> {
        compiled::salvage(self.bytes.get(self.body..)?)
    }
}

fn write_cache(path: &Path, header: &str, mode: u32, policy: &Policy) -> io::Result<()> {
    let body = compiled::compile(policy);
    let mut bytes = format!("{header} {:016x}\n", checksum(&body)).into_bytes();
    bytes.extend_from_slice(&body);
    make_folder_of(path)?;
    // One that a power cut leaves empty has no checksum, and is made again.
    atomic::put(path, &bytes, mode & READABLE, Lasts::Processes)
}

/// Keeps a good text, if it is another one than is kept.
fn keep(paths: &Paths, stamp: &Stamp, mode: u32, text: &str) -> io::Result<()> {
    let path = paths.kept_policy();
    let is_kept = |metadata: &Metadata| metadata.mode() & 0o777 == mode & READABLE;
    if fs::symlink_metadata(&path).is_ok_and(|metadata| is_kept(&metadata))
        && kept_text(&path).is_ok_and(|kept| kept == text)
    {
        return Ok(());
    }
    make_folder_of(&path)?;
    // Two starts that see two texts must not leave the older one. Whoever does not get the lock leaves it to the other,
    // and whoever comes second sees that his text is not the file's any more.
    let lock = paths.kept_policy_lock();
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(lock)?;
    lock.try_lock()?;
    if Stamp::of(&fs::metadata(paths.policy())?) != *stamp {
        return Err(io::Error::other("the policy has changed"));
    }
    // It has to outlive a power cut: an empty file would be no last good text.
    atomic::put(&path, text.as_bytes(), mode & READABLE, Lasts::PowerCuts)
}

/// Readable by those who can read the policy, and by nobody else.
const READABLE: u32 = 0o644;

fn make_folder_of(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| DirBuilder::new().recursive(true).mode(0o755).create(folder))
}

/// Forgets all that is known of a policy, so that the built-in defaults apply. The last good text goes before the cache:
/// whoever comes between sees that there was a policy.
pub fn forget(paths: &Paths) -> Result<Vec<PathBuf>, FileError> {
    let mut removed = Vec::new();
    for path in [paths.policy(), paths.kept_policy(), paths.policy_cache()] {
        match fs::remove_file(&path) {
            Ok(()) => removed.push(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(FileError::Remove { path, source }),
        }
    }
    Ok(removed)
}

/// Removes what is kept of a good policy, as it says nothing that the policy itself does not. What is kept of one that
/// cannot be used stays: it is all that there is.
pub fn let_go(paths: &Paths) {
    if load_fresh(paths).is_ok() {
        for path in [paths.kept_policy(), paths.kept_policy_lock(), paths.policy_cache()] {
            let _ = fs::remove_file(path);
        }
    }
}
