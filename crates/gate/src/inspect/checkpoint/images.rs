//! The layout of CRIU's images: magic numbers, framed protobuf messages, and of these the few fields that say what
//! a restored process may do.
//!
//! Layout: CRIU `criu/image.c` img_check_magic and `criu/protobuf.c` do_pb_read_one, names `criu/image-desc.c`, numbers
//! `criu/include/magic.h`. Messages: `images/*.proto`, each named at its struct. Fields that are left out here are
//! passed over, as they are in every protobuf reader.

use prost::Message;

use super::CheckpointError;

/// `IMG_COMMON_MAGIC`: first in every image but the inventory.
const COMMON: u32 = 0x5456_4319;

/// The most entries of one image. An empty one takes four bytes of the file and much more of memory; the kernel lets a
/// container have 100,000 mounts (`fs.mount-max`).
const MOST: usize = 100_000;

/// A kind of image.
pub(super) trait Image: Message + Default {
    /// Its number in `criu/include/magic.h`.
    const MAGIC: u32;
    /// The inventory alone begins with its own number.
    const HAS_COMMON_MAGIC: bool = true;
}

/// `task_kobj_ids_entry` (`images/core.proto`), of `ids-<pid>.img` and of the inventory: CRIU's own names for the kernel's
/// objects. Two tasks with the same number share a namespace.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct Ids {
    #[prost(uint32, required, tag = "5")]
    pub(super) pid: u32,
    #[prost(uint32, required, tag = "6")]
    pub(super) net: u32,
    #[prost(uint32, required, tag = "7")]
    pub(super) ipc: u32,
    #[prost(uint32, required, tag = "9")]
    pub(super) mnt: u32,
    #[prost(uint32, required, tag = "10")]
    pub(super) user: u32,
}

impl Image for Ids {
    const MAGIC: u32 = 0x5443_2030;
}

/// `inventory_entry` (`images/inventory.proto`), `inventory.img`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Inventory {
    /// `CRTOOLS_IMAGES_V1_1` is 2.
    #[prost(uint32, required, tag = "1")]
    pub(super) version: u32,
    /// The namespaces of the CRIU that dumped, which on restore stand for those of the runtime.
    #[prost(message, optional, tag = "3")]
    pub(super) own: Option<Ids>,
}

impl Image for Inventory {
    const MAGIC: u32 = 0x5831_3116;
    const HAS_COMMON_MAGIC: bool = false;
}

/// `pstree_entry` (`images/pstree.proto`), `pstree.img`: one task.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Task {
    #[prost(uint32, required, tag = "1")]
    pub(super) pid: u32,
    #[prost(uint32, required, tag = "2")]
    pub(super) parent: u32,
    #[prost(uint32, repeated, tag = "5")]
    pub(super) threads: Vec<u32>,
}

impl Image for Task {
    const MAGIC: u32 = 0x5027_3030;
}

/// `core_entry` (`images/core.proto`), `core-<pid>.img`: one thread.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Core {
    /// Only in the core of a task's first thread.
    #[prost(message, optional, tag = "3")]
    pub(super) task: Option<TaskCore>,
    #[prost(message, optional, tag = "5")]
    pub(super) thread: Option<ThreadCore>,
}

impl Image for Core {
    const MAGIC: u32 = 0x5505_3847;
}

/// `task_core_entry`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TaskCore {
    #[prost(uint32, required, tag = "1")]
    pub(super) state: u32,
    /// `old_seccomp_mode`: CRIU 2 wrote it for the task and not for each thread. Where it is there, it counts.
    #[prost(int32, optional, tag = "11")]
    pub(super) old_seccomp_mode: Option<i32>,
    #[prost(uint32, optional, tag = "12")]
    pub(super) old_seccomp_filter: Option<u32>,
}

/// `thread_core_entry`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ThreadCore {
    #[prost(message, optional, tag = "10")]
    pub(super) creds: Option<Creds>,
    #[prost(int32, optional, tag = "11")]
    pub(super) seccomp_mode: Option<i32>,
    #[prost(uint32, optional, tag = "12")]
    pub(super) seccomp_filter: Option<u32>,
}

/// `creds_entry` (`images/creds.proto`).
#[derive(Clone, PartialEq, Message)]
pub(super) struct Creds {
    #[prost(uint32, required, tag = "1")]
    pub(super) uid: u32,
    #[prost(uint32, required, tag = "3")]
    pub(super) euid: u32,
    #[prost(uint32, required, tag = "5")]
    pub(super) suid: u32,
    #[prost(uint32, required, tag = "7")]
    pub(super) fsuid: u32,
    #[prost(uint32, repeated, tag = "9")]
    pub(super) inheritable: Vec<u32>,
    #[prost(uint32, repeated, tag = "10")]
    pub(super) permitted: Vec<u32>,
    #[prost(uint32, repeated, tag = "11")]
    pub(super) effective: Vec<u32>,
    #[prost(uint32, repeated, tag = "12")]
    pub(super) bounding: Vec<u32>,
    #[prost(string, optional, tag = "15")]
    pub(super) lsm_profile: Option<String>,
    #[prost(uint32, optional, tag = "18")]
    pub(super) no_new_privs: Option<u32>,
    #[prost(uint32, repeated, tag = "19")]
    pub(super) ambient: Vec<u32>,
}

/// `seccomp_entry` (`images/seccomp.proto`), `seccomp.img`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Seccomp {
    #[prost(message, repeated, tag = "1")]
    pub(super) filters: Vec<Filter>,
}

impl Image for Seccomp {
    const MAGIC: u32 = 0x6441_3049;
}

/// `seccomp_filter`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Filter {
    /// An array of the kernel's `struct sock_filter`.
    #[prost(bytes = "vec", required, tag = "1")]
    pub(super) program: Vec<u8>,
    /// The one that is applied after it; CRIU's word is `prev`.
    #[prost(uint32, optional, tag = "2")]
    pub(super) next: Option<u32>,
    /// `SECCOMP_FILTER_FLAG_*` of `include/uapi/linux/seccomp.h`.
    #[prost(uint32, optional, tag = "3")]
    pub(super) flags: Option<u32>,
}

/// `file_entry` (`images/fdinfo.proto`), `files.img`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct OpenFile {
    #[prost(message, optional, tag = "3")]
    pub(super) regular: Option<RegularFile>,
}

impl Image for OpenFile {
    const MAGIC: u32 = 0x5630_3138;
}

/// `reg_file_entry` (`images/regfile.proto`), also alone in `reg-files.img`, as CRIU before 3.0 wrote it.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RegularFile {
    #[prost(string, required, tag = "6")]
    pub(super) name: String,
}

impl Image for RegularFile {
    const MAGIC: u32 = 0x5036_3636;
}

/// `cgroup_entry` (`images/cgroup.proto`), `cgroup.img`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Cgroups {
    #[prost(message, repeated, tag = "1")]
    pub(super) sets: Vec<CgroupSet>,
    #[prost(message, repeated, tag = "2")]
    pub(super) controllers: Vec<Controller>,
}

impl Image for Cgroups {
    const MAGIC: u32 = 0x5938_3330;
}

/// `cg_set_entry`: where a thread is.
#[derive(Clone, PartialEq, Message)]
pub(super) struct CgroupSet {
    #[prost(message, repeated, tag = "2")]
    pub(super) members: Vec<Member>,
}

/// `cg_member_entry`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Member {
    #[prost(string, required, tag = "1")]
    pub(super) name: String,
    #[prost(string, required, tag = "2")]
    pub(super) path: String,
    /// How much of the path is the cgroup namespace's root, in bytes.
    #[prost(uint32, optional, tag = "3")]
    pub(super) prefix: Option<u32>,
}

/// `cg_controller_entry`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Controller {
    #[prost(string, repeated, tag = "1")]
    pub(super) names: Vec<String>,
    #[prost(message, repeated, tag = "2")]
    pub(super) directories: Vec<Directory>,
}

/// `cgroup_dir_entry`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Directory {
    #[prost(string, required, tag = "1")]
    pub(super) name: String,
    #[prost(message, repeated, tag = "2")]
    pub(super) children: Vec<Directory>,
    #[prost(message, repeated, tag = "3")]
    pub(super) properties: Vec<Property>,
}

/// `cgroup_prop_entry`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Property {
    #[prost(string, required, tag = "1")]
    pub(super) name: String,
}

/// `mnt_entry` (`images/mnt.proto`), `mountpoints-<namespace>.img`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Mount {
    #[prost(uint32, required, tag = "1")]
    pub(super) kind: u32,
    #[prost(uint32, required, tag = "2")]
    pub(super) id: u32,
    /// The device number of its file system.
    #[prost(uint32, required, tag = "3")]
    pub(super) device: u32,
    #[prost(uint32, required, tag = "4")]
    pub(super) parent: u32,
    #[prost(uint32, required, tag = "5")]
    pub(super) flags: u32,
    #[prost(string, required, tag = "6")]
    pub(super) root: String,
    #[prost(string, required, tag = "7")]
    pub(super) mountpoint: String,
    /// Its peers, and whose slave it is; 0 if it has none.
    #[prost(uint32, optional, tag = "10")]
    pub(super) shared_id: Option<u32>,
    #[prost(uint32, optional, tag = "11")]
    pub(super) master_id: Option<u32>,
    #[prost(bool, optional, tag = "12")]
    pub(super) with_plugin: Option<bool>,
    /// The key is in `root`, as CRIU before 2.0 wrote it.
    #[prost(bool, optional, tag = "13")]
    pub(super) external: Option<bool>,
    #[prost(uint32, optional, tag = "17")]
    pub(super) superblock_flags: Option<u32>,
    #[prost(string, optional, tag = "18")]
    pub(super) external_key: Option<String>,
}

impl Image for Mount {
    const MAGIC: u32 = 0x5556_3928;
}

/// `userns_entry` (`images/userns.proto`), `userns-<namespace>.img`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct UserNamespace {
    #[prost(message, repeated, tag = "1")]
    pub(super) uids: Vec<Extent>,
}

impl Image for UserNamespace {
    const MAGIC: u32 = 0x5547_4906;
}

/// `uid_gid_extent`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Extent {
    #[prost(uint32, required, tag = "2")]
    pub(super) lower: u32,
    #[prost(uint32, required, tag = "3")]
    pub(super) count: u32,
}

/// All entries of an image.
pub(super) fn all<I: Image>(name: &str, bytes: &[u8]) -> Result<Vec<I>, CheckpointError> {
    let mut rest = body::<I>(name, bytes)?;
    let mut entries = Vec::new();
    while let Some((entry, after)) = next(name, rest)? {
        if entries.len() == MOST {
            return Err(CheckpointError::TooMany { what: "entries", most: MOST });
        }
        entries.push(entry);
        rest = after;
    }
    Ok(entries)
}

/// The one entry of an image. CRIU does not look at what comes after it.
pub(super) fn one<I: Image>(name: &str, bytes: &[u8]) -> Result<I, CheckpointError> {
    let entry = next(name, body::<I>(name, bytes)?)?;
    entry.map(|(entry, _)| entry).ok_or_else(|| CheckpointError::Empty(name.to_owned()))
}

/// What comes after the magic numbers.
fn body<'a, I: Image>(name: &str, bytes: &'a [u8]) -> Result<&'a [u8], CheckpointError> {
    let mut rest = bytes;
    let common = I::HAS_COMMON_MAGIC.then_some(COMMON);
    for expected in common.into_iter().chain([I::MAGIC]) {
        let (magic, after) = number(rest).ok_or_else(|| CheckpointError::Magic(name.to_owned()))?;
        if magic != expected {
            return Err(CheckpointError::Magic(name.to_owned()));
        }
        rest = after;
    }
    Ok(rest)
}

/// One entry, and what comes after it; nothing at the end.
fn next<'a, I: Image>(name: &str, bytes: &'a [u8]) -> Result<Option<(I, &'a [u8])>, CheckpointError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let short = || CheckpointError::Short(name.to_owned());
    let (size, rest) = number(bytes).ok_or_else(short)?;
    let size = usize::try_from(size).map_err(|_| short())?;
    let (entry, after) = rest.split_at_checked(size).ok_or_else(short)?;
    let entry =
        I::decode(entry).map_err(|source| CheckpointError::Message { file: name.to_owned(), source })?;
    Ok(Some((entry, after)))
}

/// CRIU writes numbers as the machine has them, and restores only on the machine's own kind.
fn number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (first, rest) = bytes.split_first_chunk()?;
    Some((u32::from_ne_bytes(*first), rest))
}
