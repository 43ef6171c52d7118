//! What the images say of the tasks, as the union of all threads: what one of them may do, the container may.

use super::CheckpointError;
use super::cgroups::{self, CgroupVersion};
use super::images::{
    self, Core, Creds, Filter, Ids, Image, Inventory, Mount, OpenFile, RegularFile, Seccomp, Task, TaskCore,
    ThreadCore, UserNamespace,
};

/// Reads an image by its name, at most so many bytes of it; nothing where it is not there.
pub type Read<'r> = dyn FnMut(&str, u64) -> Result<Option<Vec<u8>>, CheckpointError> + 'r;

/// The largest image that is read, in bytes. A core takes 3 KB, and more where signals are queued.
const LARGE: u64 = 4 << 20;

/// The largest of those that are there for every thread.
const SMALL: u64 = 1 << 20;

/// The largest image of open files.
const FILES: u64 = 16 << 20;

/// More threads than a node lets one pod have (the kubelet's `podPidsLimit`), and 100 MB to read.
const MOST_THREADS: usize = 32_768;

/// What all images together may take.
const MOST_BYTES: usize = 256 << 20;

/// `TASK_DEAD` (`compel/include/uapi/task-state.h`): a zombie ends before it has run anything (`criu/cr-restore.c`
/// restore_one_zombie).
const DEAD: u32 = 2;

/// `SECCOMP_MODE_*` (`include/uapi/linux/seccomp.h`).
const STRICT: i32 = 1;
const FILTER: i32 = 2;

/// `SECCOMP_FILTER_FLAG_TSYNC`: the filter becomes that of the task's other threads, too. Where all have the same, CRIU
/// leaves it out of their cores (`criu/seccomp.c` try_use_tsync).
const TSYNC: u32 = 1;

/// What a checkpoint restores, as far as a control speaks of it.
#[derive(Debug, PartialEq)]
pub struct Restored {
    /// A thread has user 0 among its user ids.
    pub(super) root: bool,
    /// All capability sets of all threads.
    pub(super) capabilities: u64,
    /// Every thread has `no_new_privs`.
    pub(super) no_new_privileges: bool,
    /// The least that filters a thread's system calls.
    pub(super) filtered: Filtered,
    /// The LSM profiles of all threads, each once, in order; nothing for a thread that has none.
    pub(super) profiles: Vec<Option<String>>,
    /// Which namespaces, as config.json calls them, the tasks would share with the runtime: the host's.
    pub(super) shared: Vec<&'static str>,
    /// The mounts of their mount namespace.
    pub(super) mounts: Vec<Mount>,
}

/// What filters system calls, from the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Filtered {
    /// Nothing.
    Not,
    /// Filters that let every call through.
    ByNothing,
    /// A filter, or strict mode.
    Yes,
}

impl Restored {
    /// Reads the images, for a host of this version of cgroups.
    pub fn read(read: &mut Read<'_>, host: CgroupVersion) -> Result<Self, CheckpointError> {
        let mut left = MOST_BYTES;
        let read: &mut Read<'_> = &mut |name, limit| {
            let bytes = read(name, limit)?;
            let read = bytes.as_ref().map_or(0, Vec::len);
            let too_many = CheckpointError::TooMany { what: "bytes that matter", most: MOST_BYTES };
            left = left.checked_sub(read).ok_or(too_many)?;
            Ok(bytes)
        };
        let inventory: Inventory = one(read, "inventory.img", SMALL)?;
        if inventory.version != VERSION {
            return Err(CheckpointError::Magic("inventory.img".to_owned()));
        }
        // Without them CRIU restores nothing (`criu/pstree.c` prepare_pstree_kobj_ids).
        let own = inventory.own.ok_or_else(|| CheckpointError::Empty("inventory.img".to_owned()))?;
        descriptors(read)?;
        // Without entries CRIU leaves the tasks where the runtime put it itself (`criu/cgroup.c` prepare_cgroup).
        if let Some(bytes) = read("cgroup.img", LARGE)? {
            let entries = images::all("cgroup.img", &bytes)?;
            entries.iter().try_for_each(|entry| cgroups::check(entry, host))?;
        }
        files(read)?;
        // Written only for a container with policies of its own (`criu/apparmor.c` dump_aa_namespaces).
        if read("apparmor.img", LARGE)?.is_some() {
            return Err(CheckpointError::Policies);
        }
        let tasks: Vec<Task> = images::all("pstree.img", &need(read, "pstree.img", LARGE)?)?;
        let filters = match read("seccomp.img", LARGE)? {
            Some(bytes) => images::one::<Seccomp>("seccomp.img", &bytes)?.filters,
            None => Vec::new(),
        };
        let mut firsts = tasks.iter().filter(|task| task.parent == 0);
        let (Some(first), None) = (firsts.next(), firsts.next()) else {
            return Err(CheckpointError::NoRoot);
        };
        let ids: Ids = one(read, &format!("ids-{}.img", first.pid), SMALL)?;
        let mounts = format!("mountpoints-{}.img", ids.mnt);
        let mut restored = Self {
            root: false,
            capabilities: 0,
            no_new_privileges: true,
            filtered: Filtered::Yes,
            profiles: Vec::new(),
            shared: shared(read, &own, &ids)?,
            mounts: images::all(&mounts, &need(read, &mounts, LARGE)?)?,
        };
        let mut threads = 0;
        for task in &tasks {
            threads += 1 + task.threads.len();
            if threads > MOST_THREADS {
                return Err(CheckpointError::TooMany { what: "threads", most: MOST_THREADS });
            }
            // Where there is none, the task is where its parent is (`criu/pstree.c` prepare_pstree_kobj_ids).
            let name = format!("ids-{}.img", task.pid);
            if let Some(bytes) = read(&name, SMALL)?
                && images::one::<Ids>(&name, &bytes)? != ids
            {
                return Err(CheckpointError::OtherNamespaces(task.pid));
            }
            restored.add_task(read, task, &filters)?;
        }
        Ok(restored)
    }

    fn add_task(
        &mut self,
        read: &mut Read<'_>,
        task: &Task,
        filters: &[Filter],
    ) -> Result<(), CheckpointError> {
        let name = core_of(task.pid);
        let leader: Core = one(read, &name, SMALL)?;
        let Some(of_task) = leader.task else { return Err(CheckpointError::NoCredentials(name)) };
        if of_task.state == DEAD {
            return Ok(());
        }
        let mut thread = leader.thread.ok_or_else(|| CheckpointError::NoCredentials(name.clone()))?;
        let all_by_leader = use_old_seccomp(&mut thread, &of_task);
        let chain = filters_of(&name, &thread, filters)?;
        let synchronised = match chain.iter().rposition(|filter| filter.flags.unwrap_or(0) & TSYNC != 0) {
            _ if all_by_leader => chain.len(),
            Some(last) => last + 1,
            None => 0,
        };
        let of_others = chain.get(..synchronised).unwrap_or_default();
        self.add_thread(&name, &thread, &chain)?;
        for tid in task.threads.iter().filter(|tid| **tid != task.pid) {
            let name = core_of(*tid);
            let core: Core = one(read, &name, SMALL)?;
            let thread = core.thread.ok_or_else(|| CheckpointError::NoCredentials(name.clone()))?;
            let mut chain = filters_of(&name, &thread, filters)?;
            chain.extend(of_others);
            self.add_thread(&name, &thread, &chain)?;
        }
        Ok(())
    }

    fn add_thread(
        &mut self,
        name: &str,
        thread: &ThreadCore,
        chain: &[&Filter],
    ) -> Result<(), CheckpointError> {
        let creds = thread.creds.as_ref().ok_or_else(|| CheckpointError::NoCredentials(name.to_owned()))?;
        // (uid_t)-1 means "leave it" to setresuid(2), and CRIU is root.
        let ids = [creds.uid, creds.euid, creds.suid, creds.fsuid];
        self.root |= ids.into_iter().any(|id| matches!(id, 0 | u32::MAX));
        self.capabilities |= capabilities(creds);
        self.no_new_privileges &= creds.no_new_privs.unwrap_or(0) != 0;
        let filtered = match thread.seccomp_mode {
            Some(STRICT) => Filtered::Yes,
            _ if chain.is_empty() => Filtered::Not,
            _ if chain.iter().all(|filter| lets_all_through(&filter.program)) => Filtered::ByNothing,
            _ => Filtered::Yes,
        };
        self.filtered = self.filtered.min(filtered);
        // To CRIU a text ends at its first NUL.
        let profile = creds.lsm_profile.as_deref().and_then(|profile| profile.split('\0').next());
        let profile = profile.filter(|profile| !profile.is_empty()).map(str::to_owned);
        if !self.profiles.contains(&profile) {
            if self.profiles.len() == MOST_PROFILES {
                return Err(CheckpointError::TooMany { what: "LSM profiles", most: MOST_PROFILES });
            }
            self.profiles.push(profile);
        }
        Ok(())
    }
}

/// `CRTOOLS_IMAGES_V1_1` (`criu/include/magic.h`).
const VERSION: u32 = 2;

/// Tasks of one container have one, rarely two or three.
const MOST_PROFILES: usize = 16;

fn core_of(tid: u32) -> String {
    format!("core-{tid}.img")
}

fn need(read: &mut Read<'_>, name: &str, limit: u64) -> Result<Vec<u8>, CheckpointError> {
    read(name, limit)?.ok_or_else(|| CheckpointError::Missing(name.to_owned()))
}

fn one<I: Image>(read: &mut Read<'_>, name: &str, limit: u64) -> Result<I, CheckpointError> {
    images::one(name, &need(read, name, limit)?)
}

/// What runc and crun write of descriptors 0, 1 and 2. Where an entry names a pipe they hand CRIU the descriptor of that
/// number to put in its place (runc `libcontainer/criu_linux.go` Restore, crun `libcrun/criu.c`), so a fourth would be
/// one of the runtime's own.
fn descriptors(read: &mut Read<'_>) -> Result<(), CheckpointError> {
    const NAME: &str = "descriptors.json";
    let Some(bytes) = read(NAME, SMALL)? else { return Ok(()) };
    let names: Vec<String> =
        serde_json::from_slice(&bytes).map_err(|_| CheckpointError::Descriptors(NAME))?;
    if names.len() > 3 {
        return Err(CheckpointError::Descriptors(NAME));
    }
    Ok(())
}

/// A file that was deleted CRIU makes again, as root and where `..` still leads to the host's files (`criu/files-reg.c`
/// create_ghost). The kernel writes no such name.
fn files(read: &mut Read<'_>) -> Result<(), CheckpointError> {
    let open: Vec<OpenFile> = match read("files.img", FILES)? {
        Some(bytes) => images::all("files.img", &bytes)?,
        None => Vec::new(),
    };
    let older: Vec<RegularFile> = match read("reg-files.img", FILES)? {
        Some(bytes) => images::all("reg-files.img", &bytes)?,
        None => Vec::new(),
    };
    let mut names = open.into_iter().filter_map(|file| file.regular).chain(older).map(|file| file.name);
    match names.find(|name| !cgroups::is_path(name)) {
        Some(name) => Err(CheckpointError::FileName(name)),
        None => Ok(()),
    }
}

/// Which namespaces are CRIU's own (`criu/pstree.c` get_clone_mask): a new one is made only where the first task's
/// number is another than the inventory's.
fn shared(read: &mut Read<'_>, own: &Ids, ids: &Ids) -> Result<Vec<&'static str>, CheckpointError> {
    if own.mnt == ids.mnt {
        return Err(CheckpointError::NoMountNamespace);
    }
    let mut user = own.user == ids.user;
    if !user {
        // One that maps the host's root protects nobody, as in config.json (`facts::maps_root`).
        let name = format!("userns-{}.img", ids.user);
        let map: UserNamespace = one(read, &name, SMALL)?;
        user = map.uids.iter().any(|extent| extent.lower == 0 && extent.count > 0);
    }
    let kinds = [
        ("network", own.net == ids.net),
        ("pid", own.pid == ids.pid),
        ("ipc", own.ipc == ids.ipc),
        ("user", user),
    ];
    Ok(kinds.into_iter().filter(|(_, is_shared)| *is_shared).map(|(kind, _)| kind).collect())
}

/// Takes the task's seccomp mode for that of its first thread, as CRIU does (`criu/cr-restore.c` check_core). Whether
/// the filters are those of all threads then.
fn use_old_seccomp(thread: &mut ThreadCore, task: &TaskCore) -> bool {
    thread.seccomp_mode = task.old_seccomp_mode.or(thread.seccomp_mode);
    thread.seccomp_filter = task.old_seccomp_filter.or(thread.seccomp_filter);
    task.old_seccomp_filter.is_some()
}

/// The filters of a thread, in the order in which they are applied (`criu/seccomp.c` seccomp_prepare_threads).
fn filters_of<'f>(
    name: &str,
    thread: &ThreadCore,
    filters: &'f [Filter],
) -> Result<Vec<&'f Filter>, CheckpointError> {
    let mut chain = Vec::new();
    if thread.seccomp_mode != Some(FILTER) {
        return Ok(chain);
    }
    let mut at = Some(thread.seccomp_filter.unwrap_or(0));
    while let Some(index) = at {
        let filter = usize::try_from(index).ok().and_then(|index| filters.get(index));
        // More than there are is a circle.
        let (Some(filter), true) = (filter, chain.len() < filters.len()) else {
            return Err(CheckpointError::NoFilter(name.to_owned()));
        };
        chain.push(filter);
        at = filter.next;
    }
    Ok(chain)
}

/// The union of the sets. The kernel knows 64 at most, and CRIU reads two numbers of each set (`criu/cr-restore.c`
/// copy_caps).
fn capabilities(creds: &Creds) -> u64 {
    let sets = [&creds.inheritable, &creds.permitted, &creds.effective, &creds.bounding, &creds.ambient];
    sets.into_iter().fold(0, |all, set| {
        let word = |index: usize| u64::from(set.get(index).copied().unwrap_or(0));
        all | word(0) | word(1) << 32
    })
}

/// Whether a program of classic BPF has no other end than to let the call through (`SECCOMP_RET_ALLOW`) or to log it
/// (`SECCOMP_RET_LOG`), as `spec::Seccomp::allows_all` says of config.json.
fn lets_all_through(program: &[u8]) -> bool {
    /// `BPF_RET | BPF_K`; `BPF_RET` with another source returns what was computed.
    const RETURN: u16 = 0x06;
    const CLASS: u16 = 0x07;
    const ALLOW: u32 = 0x7fff_0000;
    const LOG: u32 = 0x7ffc_0000;
    program.chunks_exact(8).all(|instruction| {
        let (Some(code), Some(value)) = (instruction.first_chunk(), instruction.last_chunk()) else {
            return false;
        };
        let (code, value) = (u16::from_ne_bytes(*code), u32::from_ne_bytes(*value));
        code & CLASS != RETURN || (code == RETURN && matches!(value & 0xffff_0000, ALLOW | LOG))
    })
}
