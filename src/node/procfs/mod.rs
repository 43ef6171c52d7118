//! Reads the process table from `/proc`, once and only as far as it is needed.
//!
//! A name is not proof: any container may run a program called `containerd`. So only processes that belong to the node
//! itself count (`node`), and only if they see the same file as we do where the engine's configuration should be.

mod in_time;
mod node;
mod witness;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;

use crate::files;
use crate::node::containers::CONMON;
use in_time::in_time;
use node::Root;

/// Why users see no engine.
const NOT_ROOT: &str = "only root can see which engines run";

/// Clock ticks in a second, as `/proc/PID/stat` counts them (`USER_HZ`): 100 on every architecture that runs containers.
const TICKS: u64 = 100;

/// Longer command lines are cut, and those of more arguments; no engine has one. Anybody can make them as long as they
/// like.
const LINE: usize = 64 << 10;
const ARGUMENTS: usize = 1024;

/// So long one of many command lines may take, and so many may take that long: eight tenths of a second in all.
const STALL: Duration = Duration::from_millis(100);
const MOST_STALLS: usize = 8;

/// The process file system, or none for a root file system of another machine.
#[derive(Clone, Debug)]
pub struct Processes {
    proc: Option<PathBuf>,
    /// Whose root's processes are: in tests, whoever made the folder.
    root: u32,
    booted: OnceLock<Option<SystemTime>>,
    /// The node's root directory; none where nobody can say.
    node: OnceLock<Option<Root>>,
    /// The control groups of the first process.
    group: OnceLock<String>,
    /// See [`Processes::untold`].
    untold: OnceLock<Option<String>>,
}

/// Where a process came from, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Birth {
    /// Its parent; 0 for one that cannot be seen from here.
    pub parent: i32,
    /// Clock ticks from the start of the machine to its own. With the id it names a process for good.
    pub ticks: u64,
}

/// One process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its program, as it sees it itself.
    pub program: PathBuf,
    /// Whether that file has been replaced or removed since it started.
    pub replaced: bool,
    /// Its arguments, without its name.
    pub arguments: Vec<OsString>,
    /// When it started.
    pub started: SystemTime,
    /// The same as no change of the clock moves it.
    pub birth: Birth,
    proc: PathBuf,
}

impl Processes {
    /// The processes of the machine whose root directory this is: this one's for `/`, and none for any other.
    #[must_use]
    pub fn of(root: &Path) -> Self {
        let proc = (root == Path::new("/")).then(|| PathBuf::from("/proc"));
        Self {
            proc,
            root: 0,
            booted: OnceLock::new(),
            node: OnceLock::new(),
            group: OnceLock::new(),
            untold: OnceLock::new(),
        }
    }

    /// The processes in a process file system of any place, on a node with this root directory.
    #[cfg(test)]
    pub(crate) fn in_folder(proc: &Path, root: &Path) -> Self {
        let mut all = Self::of(Path::new("/"));
        (all.proc, all.root) = (Some(proc.to_owned()), nix::unistd::geteuid().as_raw());
        all.node = OnceLock::from(Some(Root::fake(root)));
        all.untold = OnceLock::from(None);
        all
    }

    /// The same, none of which is root's.
    #[cfg(test)]
    pub(crate) fn of_a_user(proc: &Path, root: &Path) -> Self {
        let untold = OnceLock::from(Some(NOT_ROOT.to_owned()));
        Self { root: u32::MAX, untold, ..Self::in_folder(proc, root) }
    }

    /// Whether this is a running machine at all.
    #[must_use]
    pub fn are_seen(&self) -> bool {
        self.proc.is_some()
    }

    /// Whether the programs of root's processes can be asked for.
    #[must_use]
    pub fn are_told(&self) -> bool {
        self.are_seen() && self.untold().is_none()
    }

    /// Why the programs of root's processes cannot be asked for, or are not the node's: then an engine that is not seen may
    /// run all the same. `None` where they can; nothing is known of another root file system.
    #[must_use]
    pub fn untold(&self) -> Option<&str> {
        let proc = self.proc.as_ref()?;
        let reason = || {
            if !nix::unistd::geteuid().is_root() {
                return Some(NOT_ROOT.to_owned());
            }
            witness::unreadable(proc).or_else(|| witness::of_others(self, proc))
        };
        self.untold.get_or_init(reason).as_deref()
    }

    /// The same as far as it is not about who asks: others than root see their own containers.
    #[must_use]
    pub fn of_others(&self) -> Option<&str> {
        self.untold().filter(|why| *why != NOT_ROOT)
    }

    /// Root's processes on the node itself that run one of these programs, by the program's file name, in the order of
    /// their ids: any user, and any container, may have a program that is called like an engine.
    #[must_use]
    pub fn running(&self, names: &[&str]) -> Vec<Process> {
        let read = |(pid, program, replaced)| {
            // Its id may be another's in between.
            let birth = self.birth(pid)?;
            let process = self.is_the_nodes(pid).then(|| self.process(pid, program, replaced))?;
            process.filter(|process| process.birth == birth)
        };
        self.of_root(names).into_iter().filter_map(read).collect()
    }

    /// Root's processes in containers that run one of these programs: their ids, and what they call their programs.
    /// Nothing else of them is looked at.
    #[must_use]
    pub fn in_containers(&self, names: &[&str]) -> Vec<(i32, PathBuf)> {
        let all = self.of_root(names).into_iter().filter(|(pid, _, _)| !self.is_the_nodes(*pid));
        all.map(|(pid, program, _)| (pid, program)).collect()
    }

    fn of_root(&self, names: &[&str]) -> Vec<(i32, PathBuf, bool)> {
        let names: Vec<&[u8]> = names.iter().map(|name| name.as_bytes()).collect();
        let mut all = self.programs(|name| names.contains(&name));
        all.retain(|(pid, _, _)| self.is_roots(*pid));
        all
    }

    /// The processes of all users and everywhere whose program has a wanted file name: their ids, their programs, and whether
    /// those were replaced.
    pub(crate) fn programs(&self, wanted: impl Fn(&[u8]) -> bool) -> Vec<(i32, PathBuf, bool)> {
        let read = |pid| {
            let (program, replaced) = program(&self.folder(pid)?)?;
            wanted(program.file_name()?.as_bytes()).then_some((pid, program, replaced))
        };
        self.pids().into_iter().filter_map(read).collect()
    }

    /// How many other processes of the node have this text among their arguments: root's, and the monitors of users.
    #[must_use]
    pub fn naming(&self, text: &[u8]) -> usize {
        let own = i32::try_from(std::process::id()).ok();
        let has = |argument: &[u8]| argument.windows(text.len()).any(|part| part == text);
        let names = |pid: &i32| {
            let line = self.folder(*pid).and_then(|proc| files::head(&proc.join("cmdline"), LINE).ok());
            line.is_some_and(|line| has(&line))
        };
        let of_root = |pid: &&i32| self.is_roots(**pid) && self.is_the_nodes(**pid);
        let roots = self
            .pids()
            .iter()
            .filter(|pid| Some(**pid) != own)
            .filter(of_root)
            .filter(|pid| names(pid))
            .count();
        let mut monitors = self.programs(|name| name == CONMON.as_bytes());
        monitors.retain(|(pid, _, _)| !self.is_roots(*pid) && self.is_the_nodes(*pid));
        let (monitors, _) = self.patiently(monitors);
        let names = |monitor: &&Process| monitor.arguments.iter().any(|argument| has(argument.as_bytes()));
        roots + monitors.iter().filter(names).count()
    }

    /// Whether the process that had this id and this start is still there: ids come again.
    #[must_use]
    pub fn is_alive(&self, pid: i32, ticks: u64) -> bool {
        self.birth(pid).is_some_and(|birth| birth.ticks == ticks)
    }

    fn pids(&self) -> Vec<i32> {
        let entries = self.proc.iter().filter_map(|proc| std::fs::read_dir(proc).ok()).flatten().flatten();
        let mut pids: Vec<i32> =
            entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        pids.sort_unstable();
        pids
    }

    /// Whether a process is root's. It is by its effective user, as seen from here: the root of a user namespace is
    /// another user.
    #[must_use]
    pub fn is_roots(&self, pid: i32) -> bool {
        self.user(pid) == Some(self.root)
    }

    /// A process's folder in the process file system.
    #[must_use]
    pub fn folder(&self, pid: i32) -> Option<PathBuf> {
        let proc = self.proc.as_ref()?;
        // With room for what is looked up below it: this is asked several times of every process.
        let mut folder = PathBuf::with_capacity(proc.as_os_str().len() + 32);
        folder.push(proc);
        folder.push(pid.to_string());
        Some(folder)
    }

    pub(crate) fn process(&self, pid: i32, program: PathBuf, replaced: bool) -> Option<Process> {
        let proc = self.folder(pid)?;
        let line = files::head(&proc.join("cmdline"), LINE).ok()?;
        // The line ends with a zero byte, too.
        let line = line.strip_suffix(&[0]).unwrap_or(&line);
        let words = line.split(|byte| *byte == 0).map(|word| OsString::from_vec(word.to_vec()));
        let arguments: Vec<OsString> = words.skip(1).take(ARGUMENTS).collect();
        let birth = self.birth(pid)?;
        Some(Process { pid, program, replaced, arguments, started: self.at(birth)?, birth, proc })
    }

    /// Whose a process is: its effective user, as seen from here.
    #[must_use]
    pub fn user(&self, pid: i32) -> Option<u32> {
        Some(std::fs::metadata(self.folder(pid)?).ok()?.uid())
    }

    /// The processes of users, and how many of them did not let their command lines be read. Whoever owns a process can
    /// hold the lock that this takes for as long as he likes, by way of a FUSE of his own: `mmap_lock`, in
    /// `access_remote_vm` (`mm/memory.c`), which `fs/proc/base.c` calls.
    pub(crate) fn patiently(&self, processes: Vec<(i32, PathBuf, bool)>) -> (Vec<Process>, usize) {
        let all = self.clone();
        in_time(processes, STALL, MOST_STALLS, move |(pid, program, replaced)| {
            all.process(pid, program, replaced)
        })
    }

    /// When a process started; `None` if there is no such process.
    #[must_use]
    pub fn started(&self, pid: i32) -> Option<SystemTime> {
        self.at(self.birth(pid)?)
    }

    /// Where a process came from; `None` if there is no such process, or only its exit code is left.
    #[must_use]
    pub fn birth(&self, pid: i32) -> Option<Birth> {
        // proc(5): the second field may hold anything, blanks and parentheses, too; the third is its state, the 4th the
        // parent, the 22nd the start.
        let mut file = self.folder(pid)?;
        file.push("stat");
        let stat = files::read_proc(&file).ok()?;
        let end = stat.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        let ended = matches!(fields.next()?, "Z" | "X");
        let parent = fields.next()?.parse().ok()?;
        // The 20th counts its threads. A program goes on without the first, which is a zombie until the last has ended
        // (pthread_exit(3)).
        let threads: u32 = fields.nth(15)?.parse().ok()?;
        if ended && threads < 2 {
            return None;
        }
        Some(Birth { parent, ticks: fields.nth(1)?.parse().ok()? })
    }

    /// The moment of a birth, by the clock of today: what was set since then moves it.
    #[must_use]
    pub fn at(&self, birth: Birth) -> Option<SystemTime> {
        let since_boot = Duration::from_millis(birth.ticks.saturating_mul(1000 / TICKS));
        self.booted()?.checked_add(since_boot)
    }

    /// When the machine was started, by the clock of today; `None` where nothing runs.
    #[must_use]
    pub fn booted(&self) -> Option<SystemTime> {
        *self.booted.get_or_init(|| self.boot())
    }

    fn boot(&self) -> Option<SystemTime> {
        let uptime = files::head(&self.proc.as_ref()?.join("uptime"), 64).ok()?;
        let uptime = String::from_utf8(uptime).ok()?;
        let uptime: f64 = uptime.split_ascii_whitespace().next()?.parse().ok()?;
        SystemTime::now().checked_sub(Duration::try_from_secs_f64(uptime).ok()?)
    }
}

impl Process {
    /// The value of an option, the last one if there are several: `--config F`, `--config=F`, `-c F`.
    #[must_use]
    pub fn option(&self, names: &[&str]) -> Option<String> {
        let mut found = None;
        let mut rest = self.arguments.iter().map(|argument| argument.to_string_lossy());
        while let Some(argument) = rest.next() {
            let (name, value) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (argument.as_ref(), None),
            };
            if names.contains(&name) {
                found = value.or_else(|| rest.next().map(Into::into)).or(found);
            }
        }
        found
    }

    /// A path as this process takes it: from its working directory, where it is not absolute.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        let path = Path::new(path);
        let directory =
            (!path.is_absolute()).then(|| std::fs::read_link(self.proc.join("cwd")).ok()).flatten();
        directory.map_or_else(|| path.to_owned(), |directory| directory.join(path).components().collect())
    }

    /// The value of a variable that it was started with, if that is not empty.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<String> {
        let all = files::head(&self.proc.join("environ"), LINE).ok()?;
        let mut lines = all.split(|byte| *byte == 0);
        let value = lines.find_map(|line| line.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
        Some(String::from_utf8_lossy(value).into_owned()).filter(|value| !value.is_empty())
    }

    /// Whether an argument is there, letter for letter.
    #[must_use]
    pub fn has(&self, argument: &str) -> bool {
        self.arguments.iter().any(|own| own == argument)
    }

    /// Whether it watches a folder for changes (`proc_pid_fdinfo(5)`, inotify); `None` where it watches nothing that is seen.
    #[must_use]
    pub fn watches(&self, folder: &Path) -> Option<bool> {
        let mut watched = BTreeSet::new();
        for descriptor in std::fs::read_dir(self.proc.join("fdinfo")).ok()?.flatten() {
            let text = std::fs::read_to_string(descriptor.path()).unwrap_or_default();
            let inodes = text.lines().filter_map(|line| line.strip_prefix("inotify "));
            let inodes =
                inodes.filter_map(|line| line.split(' ').find_map(|field| field.strip_prefix("ino:")));
            watched.extend(inodes.filter_map(|inode| u64::from_str_radix(inode, 16).ok()));
        }
        // By the inode alone: of some file systems the kernel writes another device there than stat(2) tells.
        let is_watched = || seen_by(&self.proc, folder).is_some_and(|(_, inode)| watched.contains(&inode));
        (!watched.is_empty()).then(is_watched)
    }

    /// Whether this process sees the same file or folder at a path as this program sees at `here`. Where neither sees
    /// one, whether the same folder would hold it.
    #[must_use]
    pub fn shares(&self, path: &Path, here: &Path) -> bool {
        match (seen_by(&self.proc, path), identity(here)) {
            (None, None) => match (path.parent(), here.parent()) {
                (Some(path), Some(here)) => self.shares(path, here),
                _ => false,
            },
            (theirs, ours) => theirs == ours,
        }
    }
}

/// The file at a path as a process of the node sees it whose folder in the process file system this is: in its mount
/// namespace, and never outside its root, wherever links lead.
fn seen_by(proc: &Path, path: &Path) -> Option<(u64, u64)> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let root = open(&proc.join("root"), flags | OFlag::O_DIRECTORY, Mode::empty()).ok()?;
    let inside = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    match openat2(&root, path, OpenHow::new().flags(flags).resolve(inside)) {
        Ok(file) => File::from(file).metadata().ok().map(|metadata| of_file(&metadata)),
        // Before Linux 5.6 nobody can ask so. Its root is this program's own.
        Err(Errno::ENOSYS) => identity(path),
        Err(_) => None,
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|metadata| of_file(&metadata))
}

fn of_file(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// A process's program, and whether the kernel says that its file is gone.
fn program(proc: &Path) -> Option<(PathBuf, bool)> {
    let path = std::fs::read_link(proc.join("exe")).ok()?;
    match path.to_str()?.strip_suffix(" (deleted)") {
        Some(gone) => Some((PathBuf::from(gone), true)),
        None => Some((path, false)),
    }
}

#[cfg(test)]
pub(crate) mod fake {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    /// Seconds that the machine of [`add`] has been up.
    pub(crate) const UPTIME: u64 = 1_000_000;

    /// Adds a process that started `age` seconds ago to a process file system in a folder, with `root` as its `/`.
    pub(crate) fn add(proc: &Path, root: &Path, pid: i32, age: u64, arguments: &[&str]) {
        let own = proc.join(pid.to_string());
        fs::create_dir_all(&own).unwrap();
        fs::write(proc.join("uptime"), format!("{UPTIME}.00 1.00\n")).unwrap();
        let ticks = (UPTIME - age) * super::TICKS;
        let fields = format!("{pid} (a ) b) S 1 {}{ticks} 0 0", "0 ".repeat(17));
        fs::write(own.join("stat"), fields).unwrap();
        fs::write(own.join("cmdline"), format!("{}\0", arguments.join("\0"))).unwrap();
        let _ = fs::remove_file(own.join("exe"));
        symlink(arguments[0], own.join("exe")).unwrap();
        let _ = fs::remove_file(own.join("root"));
        symlink(root, own.join("root")).unwrap();
        let root = root.components().as_path().display();
        fs::write(own.join("mountinfo"), format!("1 0 0:1 {root} / rw - x x rw\n")).unwrap();
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;
    use std::time::{Duration, SystemTime};

    use super::{Processes, fake};

    /// As `proc_pid_fdinfo(5)` shows it; e2e asks a real CRI-O.
    #[test]
    fn a_folder_is_watched_by_its_inode_and_by_no_other_descriptor() {
        let directory = tempfile::tempdir().unwrap();
        let (proc, watched) = (directory.path().join("proc"), directory.path().join("hooks.d"));
        for folder in [&watched, &proc.join("7/fdinfo")] {
            std::fs::create_dir_all(folder).unwrap();
        }
        fake::add(&proc, Path::new("/"), 7, 5, &["/usr/bin/crio"]);
        let process = &Processes::in_folder(&proc, Path::new("/")).running(&["crio"])[0];
        let inode = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&watched).unwrap());
        let line =
            |inode| format!("pos:\t0\ninotify wd:2 ino:{inode:x} sdev:fe00000 mask:fc6 ignored_mask:0\n");
        for (text, expected) in [
            ("pos:\t0\nflags:\t02\n".to_owned(), None),
            (line(inode + 1), Some(false)),
            (line(inode + 1) + &line(inode), Some(true)),
            (format!("eventfd ino:{inode:x}\n"), None),
        ] {
            std::fs::write(proc.join("7/fdinfo/9"), &text).unwrap();
            assert_eq!(process.watches(&watched), expected, "{text}");
        }
        assert_eq!(process.watches(&directory.path().join("gone")), None);
    }

    #[test]
    fn a_real_process_is_found_with_its_arguments_and_its_start() {
        let before = SystemTime::now();
        let mut child = Command::new("/bin/sleep").args(["--", "60"]).current_dir("/usr").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        // execve(2) has changed the program before it lays out the arguments.
        let found = (0..200).find_map(|_| {
            std::thread::sleep(Duration::from_millis(5));
            // Of whoever runs this.
            let root = nix::unistd::geteuid().as_raw();
            let all = Processes { root, ..Processes::of(Path::new("/")) };
            let all = all.running(&["sleep", "busybox", "coreutils"]);
            all.into_iter().find(|process| process.pid == pid && !process.arguments.is_empty())
        });
        let path = |path: &str| found.as_ref().map(|process| process.path(path));
        let paths = [path("./c.toml"), path("/etc/c.toml")];
        child.kill().unwrap();
        child.wait().unwrap();
        let process = found.unwrap();
        assert_eq!(process.arguments, ["--", "60"]);
        assert_eq!(
            paths,
            ["/usr/c.toml", "/etc/c.toml"].map(|path| Some(path.into())),
            "from where it works"
        );
        assert!(!process.replaced);
        let tick = Duration::from_millis(50);
        assert!(process.started + tick >= before && process.started <= SystemTime::now() + tick);
        assert_eq!(Processes::of(Path::new("/")).started(i32::MAX), None);
    }

    #[test]
    fn a_users_program_of_that_name_is_no_engine() {
        let directory = tempfile::tempdir().unwrap();
        fake::add(directory.path(), Path::new("/"), 7, 5, &["/tmp/kubelet", "--root-dir=/tmp"]);
        assert_eq!(Processes::in_folder(directory.path(), Path::new("/")).running(&["kubelet"]).len(), 1);
        assert!(Processes::of_a_user(directory.path(), Path::new("/")).running(&["kubelet"]).is_empty());
    }

    #[test]
    fn a_process_has_ended_with_its_last_thread_and_not_with_its_first() {
        let directory = tempfile::tempdir().unwrap();
        let rows = [("S", 1, true), ("Z", 1, false), ("X", 0, false), ("Z", 2, true), ("X", 3, true)];
        for (state, threads, runs) in rows {
            fake::add(directory.path(), Path::new("/"), 7, 5, &["/bin/x"]);
            let fields = format!("7 (Z) Z 1) {state} 1 {}{threads} 0 5 0", "0 ".repeat(15));
            std::fs::write(directory.path().join("7/stat"), fields).unwrap();
            let found = Processes::in_folder(directory.path(), Path::new("/")).birth(7);
            assert_eq!(
                found.map(|birth| (birth.parent, birth.ticks)),
                runs.then_some((1, 5)),
                "{state} {threads}"
            );
        }
    }

    #[test]
    fn command_lines_are_cut() {
        let directory = tempfile::tempdir().unwrap();
        let long = "x".repeat(super::LINE);
        let rows: &[(String, usize)] = &[
            ("/bin/x\0".into(), 0),
            ("/bin/x\0\0".into(), 1),
            ("/bin/x\0a\0b".into(), 2),
            ("/bin/x\0\0\0".into(), 2),
            (format!("/bin/x\0--a\0{long}\0--b\0"), 2),
            (format!("/bin/x{}", "\0".repeat(600_000)), super::ARGUMENTS),
        ];
        for (line, count) in rows {
            fake::add(directory.path(), Path::new("/"), 7, 5, &["/bin/x"]);
            std::fs::write(directory.path().join("7/cmdline"), line).unwrap();
            let found = Processes::in_folder(directory.path(), Path::new("/")).running(&["x"]);
            assert_eq!(found[0].arguments.len(), *count, "{} bytes", line.len());
            let length: usize = found[0].arguments.iter().map(|argument| argument.len()).sum();
            assert!(length <= super::LINE);
        }
    }

    #[test]
    fn a_process_is_known_by_its_id_and_its_start() {
        let directory = tempfile::tempdir().unwrap();
        let proc = directory.path();
        let all = Processes::in_folder(proc, Path::new("/"));
        fake::add(proc, Path::new("/"), 7, 50, &["/bin/x", "--path", "/var/lib/y/z"]);
        let first = all.running(&["x"]).remove(0);
        assert!(all.is_alive(7, first.birth.ticks) && !all.is_alive(8, first.birth.ticks));
        // The same id, later.
        fake::add(proc, Path::new("/"), 7, 5, &["/bin/x"]);
        assert!(!all.is_alive(7, first.birth.ticks));

        fake::add(proc, Path::new("/"), 8, 5, &["/bin/other", "/var/lib/y"]);
        fake::add(proc, Path::new("/"), 9, 5, &["/bin/other", "-r=/var/lib/y/z"]);
        let own = std::process::id().try_into().unwrap();
        fake::add(proc, Path::new("/"), own, 5, &["/bin/asks", "--for", "/var/lib/y"]);
        for (text, count) in [("/var/lib/y", 2), ("/var/lib/y/z", 1), ("/var/lib/yz", 0)] {
            assert_eq!(all.naming(text.as_bytes()), count, "{text}");
        }
        assert_eq!(Processes::of(Path::new("/mnt")).naming(b"x"), 0);
    }

    #[test]
    fn no_process_belongs_to_another_root_file_system() {
        let other = Processes::of(Path::new("/mnt"));
        assert!(!other.are_seen());
        assert_eq!(other.running(&["sh"]), []);
    }

    #[test]
    fn options_are_found_in_every_spelling() {
        let directory = tempfile::tempdir().unwrap();
        let rows: &[(&[&str], Option<&str>)] = &[
            (&["/x/crio"], None),
            (&["/x/crio", "-c", "/a"], Some("/a")),
            (&["/x/crio", "--config", "/a", "run"], Some("/a")),
            (&["/x/crio", "--config=/a=b"], Some("/a=b")),
            (&["/x/crio", "--config=/a", "-c", "/b"], Some("/b")),
            (&["/x/crio", "--configs=/a"], None),
            (&["/x/crio", "--config"], None),
        ];
        for (arguments, expected) in rows {
            fake::add(directory.path(), Path::new("/"), 7, 5, arguments);
            let found = Processes::in_folder(directory.path(), Path::new("/")).running(&["crio"]);
            assert_eq!(found[0].option(&["-c", "--config"]).as_deref(), *expected, "{arguments:?}");
        }
    }

    #[test]
    fn a_program_shares_a_configuration_in_its_own_root_and_through_no_link_out_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let (proc, root) = (directory.path().join("proc"), directory.path().join("root"));
        std::fs::create_dir_all(root.join("etc/x")).unwrap();
        std::fs::create_dir_all(directory.path().join("etc")).unwrap();
        std::fs::write(root.join("etc/x/config.toml"), "").unwrap();
        std::os::unix::fs::symlink("/etc/x", root.join("etc/link")).unwrap();
        std::os::unix::fs::symlink("../../../etc", root.join("etc/up")).unwrap();
        fake::add(&proc, &root, 1, 5, &["/bin/x"]);
        let found = Processes::in_folder(&proc, &root).running(&["x"]);
        let here = root.join("etc/x/config.toml");
        for (file, expected) in [
            ("/etc/x/config.toml", true),
            ("/etc/../../etc/link/config.toml", true),
            ("/etc/up/x/config.toml", true),
            ("/etc/up/y/config.toml", false),
            ("/proc/self/root/etc/x/config.toml", false),
        ] {
            assert_eq!(found[0].shares(Path::new(file), &here), expected, "{file}");
        }
        let missing = root.join("etc/y/z/config.toml");
        assert!(
            found[0].shares(Path::new("/etc/y/z/config.toml"), &missing),
            "the same folder would hold it"
        );
    }

    #[test]
    fn what_has_another_root_is_no_engine_of_the_node_and_is_counted() {
        let directory = tempfile::tempdir().unwrap();
        let proc = directory.path();
        fake::add(proc, Path::new("/"), 1, 5, &["/bin/x"]);
        fake::add(proc, Path::new("/image"), 2, 5, &["/bin/x"]);
        let all = Processes::in_folder(proc, Path::new("/"));
        assert_eq!(all.running(&["x"]).iter().map(|one| one.pid).collect::<Vec<_>>(), [1]);
        assert_eq!(all.in_containers(&["x"]), [(2, "/bin/x".into())]);
        assert!(Processes::of_a_user(proc, Path::new("/")).in_containers(&["x"]).is_empty());
    }
}
