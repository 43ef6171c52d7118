//! Finds the containers that run on this node, without an engine's API: from the engines' bundles, the monitors'
//! arguments, and the state that runtimes keep.
//!
//! | who                        | bundle                                                            | first process      |
//! |----------------------------|-------------------------------------------------------------------|--------------------|
//! | containerd                 | `<state>/io.containerd.runtime.v2.task/<client>/<id>`             | `init.pid`         |
//! | CRI-O, podman              | `<root>/overlay-containers/<id>/userdata`, in conmon's arguments  | `pidfile`          |
//! | anybody who calls a runtime | `bundle` in `<root>/<id>/state.json` (runc), `status` (crun)      | there              |
//!
//! Distributions move containerd's state, and admins move it elsewhere: containerd may have it on its command line, and a shim
//! works in the bundle's folder. The shim writes the runtime that it calls into that folder (`WriteRuntime` in `cmd/containerd-shim-runc-v2/runc/container.go`); conmon has the bundle, the runtime
//! and the file with the process id among its arguments (CRI-O `internal/oci/runtime_oci.go`, podman
//! `libpod/oci_conmon_common.go`).
//!
//! A container runs if its first process does. An id is given to one process after another, so its start counts, too:
//! runtimes write it down (runc `libcontainer/container_linux.go`, crun `src/libcrun/status.c`); where they do not, a
//! process that is younger than the file with its id is another one.
//!
//! A name is no proof: any user and any container can call a program conmon. Only root's on the node itself are believed.
//! A conmon of another user is a rootless podman's, or claims to be: its container is shown as that of no pod, replaces no
//! other, and costs no more than [`OF_A_USER`], [`OF_ALL_USERS`] and [`strangers`](crate::node::strangers) say. A process in a
//! container names paths in that container, so it is not asked.
//!
//! Under another root directory nothing runs: it is a node that was captured, and every bundle on it counts.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};

use crate::files::{self, LIMIT};
use crate::node::host::Live;
use crate::node::procfs::{Birth, Process, Processes};
use crate::node::strangers::Mounts;
use pss_guard_core::runtime_state;

/// Who keeps a container's bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeper {
    /// containerd, for one of its clients.
    Containerd,
    /// The storage that CRI-O and podman share.
    Storage,
    /// Nobody but the runtime knows of it.
    Runtime,
}

/// A container that runs, or was found on a captured node.
#[derive(Clone, Debug)]
pub struct Container {
    /// The folder of its config.json.
    pub bundle: PathBuf,
    /// Its id.
    pub id: Option<String>,
    /// Who keeps it.
    pub keeper: Keeper,
    /// The program that started it, as far as that is written down.
    pub runtime: Option<PathBuf>,
    /// Its first process; none on a captured node.
    pub process: Option<First>,
    /// Where its runtime keeps what it knows of it.
    pub state: Option<PathBuf>,
    /// Whether root says so, and not some user of whose container nobody else knows. If not, nothing that its
    /// config.json says of its pod counts, nor what is said of its runtime.
    pub vouched: bool,
}

/// The first process of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct First {
    /// Its id.
    pub pid: i32,
    /// What tells it from others with this id.
    pub birth: Birth,
    /// When it started.
    pub started: SystemTime,
}

/// A place that could not be looked at.
#[derive(Debug)]
pub struct Closed {
    /// The file or folder.
    pub path: PathBuf,
    /// Why.
    pub error: io::Error,
}

/// All that was found.
#[derive(Debug, Default)]
pub struct Discovery {
    /// In the order of their bundles.
    pub containers: Vec<Container>,
    /// Where there may be more.
    pub closed: Vec<Closed>,
    /// Whether this is a running machine on which no engine and no runtime has left a trace.
    pub is_nowhere: bool,
}

/// Where containerd keeps its state: by default, dockerd's own one, that of k3s and rke2, of k0s, and of MicroK8s.
const STATES: [&str; 5] = [
    "/run/containerd",
    "/run/docker/containerd/daemon",
    "/run/k3s/containerd",
    "/run/k0s/containerd",
    "/var/snap/microk8s/common/run/containerd",
];

/// The folder of bundles below that: each client has a folder in it, and each container one in that.
const TASKS: &str = "io.containerd.runtime.v2.task";

/// Where the storage of CRI-O and podman is by default: what is of this boot first.
const STORAGE: [&str; 2] = ["/run/containers/storage", "/var/lib/containers/storage"];

/// What tells of an engine that has not run since the boot, or of a gate.
const TRACES: [&str; 7] = [
    "/etc/containerd",
    "/etc/crio",
    "/etc/docker",
    "/etc/containers",
    "/var/lib/containerd",
    "/var/lib/docker",
    "/var/lib/pss-guard",
];

/// Where runtimes keep their state: each folder in it is a container's.
const RUNTIMES: [&str; 2] = ["/run/runc", "/run/crun"];

/// The same, one folder deeper: each folder below the first is the root for a client of containerd, whatever containerd's own
/// state (`RuncRoot` in `cmd/containerd-shim-runc-v2/process/utils.go`; the templates of k3s, rke2, k0s and MicroK8s set no
/// `Root`); dockerd names one of its own.
const RUNTIMES_OF_CLIENTS: [&str; 2] = ["/run/containerd/runc", "/run/docker/runtime-runc"];

/// The programs that stay beside containers are this one and containerd's shims.
pub(crate) const CONMON: &str = "conmon";

/// The daemon whose command line may name the state.
const DAEMON: &str = "containerd";

/// How many monitors of one user are asked, and of all users but root. Each costs a command line and a config.json.
pub const OF_A_USER: usize = 100;
/// See [`OF_A_USER`].
pub const OF_ALL_USERS: usize = 250;

/// The longest path there is (`PATH_MAX`).
const LONGEST_PATH: usize = 4096;

/// Who must vouch for a container that is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voucher {
    /// Root.
    Root,
    /// Root, or whoever says that it is his.
    Anybody,
}

/// Whether a program stays beside containers, of any kind of runtime: `containerd-shim-runsc-v1`, `containerd-shim-kata-v2`,
/// CRI-O's `conmonrs`.
pub(crate) fn is_monitor(program: &Path) -> bool {
    let name = program.file_name().unwrap_or_default().as_encoded_bytes();
    matches!(name, b"conmon" | b"conmonrs") || is_shim(name)
}

fn is_shim(name: &[u8]) -> bool {
    name.starts_with(b"containerd-shim")
}

/// The folders of containerd's bundles: below each of the usual state directories, and below what root's containerds and shims
/// on the node itself name. Whatever else is called like them names what it likes.
#[must_use]
pub fn task_folders(live: &Live, processes: &Processes) -> BTreeSet<PathBuf> {
    let named = processes.programs(|name| name == DAEMON.as_bytes() || is_shim(name));
    task_folders_of(live, processes, named)
}

fn task_folders_of(
    live: &Live,
    processes: &Processes,
    named: Vec<(i32, PathBuf, bool)>,
) -> BTreeSet<PathBuf> {
    let below = |state: &Path| live.place(state).join(TASKS);
    let mut folders: BTreeSet<PathBuf> = STATES.iter().map(|state| below(Path::new(state))).collect();
    for (pid, program, replaced) in named {
        let is_daemon = program.file_name().is_some_and(|name| name == DAEMON);
        let is_believed = || processes.is_roots(pid) && processes.is_the_nodes(pid);
        let new = if is_daemon {
            if !is_believed() {
                continue;
            }
            let process = processes.process(pid, program, replaced);
            let state = process.and_then(|process| process.option(&["--state", "-state"]));
            state.filter(|state| state.starts_with('/')).map(|state| below(Path::new(&state)))
        } else {
            let bundle = processes.folder(pid).and_then(|shim| std::fs::read_link(shim.join("cwd")).ok());
            let tasks = bundle.and_then(|bundle| Some(bundle.parent()?.parent()?.to_owned()));
            let new = tasks.filter(|tasks| tasks.ends_with(TASKS) && !folders.contains(tasks));
            new.filter(|_| is_believed())
        };
        folders.extend(new);
    }
    folders
}

impl Container {
    /// Where the gate was called when the container was started, if it was: `<engine>/<handler>`.
    #[must_use]
    pub fn entry(&self) -> Option<(&str, &str)> {
        let runtime = self.runtime.as_ref().filter(|_| self.vouched)?;
        let entry = runtime.strip_prefix("/var/lib/pss-guard/runtimes").ok()?;
        let mut parts = entry.iter().map(OsStr::to_str);
        Some((parts.next()??, parts.next()??))
    }

    /// Whether its first process is still there.
    #[must_use]
    pub fn is_alive(&self, processes: &Processes) -> bool {
        self.process.is_some_and(|first| processes.birth(first.pid) == Some(first.birth))
    }

    /// Whether it was created and not started: what waits is the runtime's own program, on which not everything need be
    /// set yet. Both runc and crun let it wait at this FIFO.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.state.as_ref().is_some_and(|state| state.join("exec.fifo").exists())
    }
}

/// Looks for the containers of a node.
#[must_use]
pub fn find(live: &Live, processes: &Processes, by: Voucher) -> Discovery {
    let mut search = Search {
        live,
        processes,
        states: HashMap::new(),
        containers: Vec::new(),
        bundles: HashSet::new(),
        ids: HashSet::new(),
        missed: Vec::new(),
        closed: Vec::new(),
    };
    search.states();
    let wanted = |name: &[u8]| [CONMON, DAEMON].iter().any(|own| own.as_bytes() == name) || is_shim(name);
    let is_conmon = |program: &Path| program.file_name().is_some_and(|name| name == CONMON);
    let (conmons, of_containerd): (Vec<_>, Vec<_>) =
        processes.programs(wanted).into_iter().partition(|(_, program, _)| is_conmon(program));
    let conmons = conmons.into_iter().filter(|(pid, _, _)| processes.is_the_nodes(*pid));
    let (of_root, of_users): (Vec<_>, Vec<_>) = conmons.partition(|(pid, _, _)| processes.is_roots(*pid));
    search.hidden(&of_containerd);
    // One at a time: a command line is as long as its user likes.
    let read = |(pid, program, replaced)| processes.process(pid, program, replaced);
    search.tasks(&task_folders_of(live, processes, of_containerd));
    for conmon in of_root.into_iter().filter_map(read) {
        search.monitored(conmon, None);
    }
    search.stored();
    search.only_in_states();
    // Last, when root's places are all taken.
    if by == Voucher::Anybody && !of_users.is_empty() {
        search.of_users(of_users);
    }
    // Those of each place are in order already, and there are not many places.
    search.containers.sort_by(|one, other| one.bundle.as_os_str().cmp(other.bundle.as_os_str()));
    search.look_again();
    let is_nowhere = search.is_nowhere();
    Discovery { containers: search.containers, closed: search.closed, is_nowhere }
}

struct Search<'a> {
    live: &'a Live,
    processes: &'a Processes,
    /// The state that a runtime keeps, by the name of its folder, which is the container's id.
    states: HashMap<OsString, PathBuf>,
    containers: Vec<Container>,
    /// Theirs.
    bundles: HashSet<OsString>,
    ids: HashSet<OsString>,
    /// Who stays beside a container whose folder is not there, since when, and that folder.
    missed: Vec<(i32, u64, PathBuf)>,
    closed: Vec<Closed>,
}

/// Where a container may be.
#[derive(Clone, Copy)]
struct Place<'a> {
    keeper: Keeper,
    bundle: &'a Path,
    id: &'a OsStr,
    /// The mounts in which a user's paths may lie; none where root says so.
    stranger: Option<&'a Mounts>,
}

impl Search<'_> {
    /// The folders in a folder, in order; that there is none is no error. Storage and runtimes have locks among them.
    fn list(&mut self, folder: &Path) -> Vec<PathBuf> {
        let read = std::fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        match read {
            Ok(entries) => {
                let folders =
                    entries.iter().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
                let mut names: Vec<OsString> = folders.map(std::fs::DirEntry::file_name).collect();
                // containerd renames a bundle to `.ID` before it removes it.
                names.retain(|name| !name.as_encoded_bytes().starts_with(b"."));
                names.sort_unstable();
                names.iter().map(|name| folder.join(name)).collect()
            }
            Err(error) => {
                if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) {
                    self.closed.push(Closed { path: folder.to_owned(), error });
                }
                Vec::new()
            }
        }
    }

    fn place(&self, path: &str) -> PathBuf {
        self.live.place(Path::new(path))
    }

    /// A shim works in the folder of its first container. Where that folder is not at its own path, something else is mounted over
    /// it here, and nothing is known of the shim's containers.
    fn hidden(&mut self, of_containerd: &[(i32, PathBuf, bool)]) {
        let is_one = |program: &Path| program.file_name().is_some_and(|name| is_shim(name.as_bytes()));
        for (pid, _, _) in of_containerd.iter().filter(|(_, program, _)| is_one(program)) {
            let Some(folder) = self.processes.folder(*pid).map(|shim| shim.join("cwd")) else { continue };
            let Ok(bundle) = std::fs::read_link(&folder) else { continue };
            let is_bundle = bundle.ancestors().nth(2).is_some_and(|tasks| tasks.ends_with(TASKS));
            // One whose container is gone ends as well.
            let has_ended = bundle.as_os_str().as_bytes().ends_with(b" (deleted)");
            let is_believed = || self.processes.is_roots(*pid) && self.processes.is_the_nodes(*pid);
            if is_bundle
                && !has_ended
                && !is_there(&bundle)
                && is_believed()
                && let Some(birth) = self.processes.birth(*pid)
            {
                self.missed.push((*pid, birth.ticks, bundle));
            }
        }
    }

    /// Whoever stays beside a container ends soon after the container's folder is gone. One that does not has it where it is not seen
    /// from here.
    fn look_again(&mut self) {
        const SOON: Duration = Duration::from_millis(200);
        if !self.missed.is_empty() {
            std::thread::sleep(SOON);
        }
        for (pid, ticks, bundle) in std::mem::take(&mut self.missed) {
            if self.processes.is_alive(pid, ticks) && !is_there(&bundle) {
                let says = format!("process {pid} keeps a container in it, and it is not seen from here");
                self.closed.push(Closed { path: bundle, error: io::Error::other(says) });
            }
        }
    }

    fn is_nowhere(&self) -> bool {
        let places =
            STATES.iter().chain(&STORAGE).chain(&RUNTIMES).chain(&RUNTIMES_OF_CLIENTS).chain(&TRACES);
        self.processes.are_seen()
            && self.containers.is_empty()
            && self.closed.is_empty()
            && !places.into_iter().any(|place| self.place(place).exists())
    }

    fn states(&mut self) {
        let mut roots: Vec<PathBuf> = RUNTIMES.map(|root| self.place(root)).into();
        for clients in RUNTIMES_OF_CLIENTS {
            let clients = self.place(clients);
            roots.extend(self.list(&clients));
        }
        for root in roots {
            for state in self.list(&root) {
                if let Some(id) = state.file_name() {
                    self.states.insert(id.to_owned(), state);
                }
            }
        }
    }

    /// The bundles of containerd: `<state>/io.containerd.runtime.v2.task/<client>/<id>`.
    fn tasks(&mut self, folders: &BTreeSet<PathBuf>) {
        let clients: Vec<PathBuf> = folders.iter().flat_map(|folder| self.list(folder)).collect();
        let bundles: Vec<PathBuf> = clients.iter().flat_map(|client| self.list(client)).collect();
        for bundle in &bundles {
            let Some(id) = bundle.file_name() else { continue };
            let place = Place { keeper: Keeper::Containerd, bundle, id, stranger: None };
            let look = self.look(&place, Some(&bundle.join("init.pid")), || {
                // The shim of runc writes it always, if only as an empty file.
                let runtime = files::read(&bundle.join("runtime"), LIMIT).ok().map(path);
                runtime.map(|runtime| self.behind_script(runtime))
            });
            self.keep(&place, look);
        }
    }

    /// The containers of users, as far as there is room for them.
    fn of_users(&mut self, conmons: Vec<(i32, PathBuf, bool)>) {
        let mut counts: HashMap<u32, usize> = HashMap::new();
        let mut ranked: Vec<_> = conmons
            .into_iter()
            .filter_map(|conmon| {
                let rank = counts.entry(self.processes.user(conmon.0)?).or_default();
                *rank += 1;
                Some((*rank, conmon))
            })
            .collect();
        let all = ranked.len();
        // Whoever has few comes before whoever has many.
        ranked.sort_by_key(|(rank, (pid, _, _))| (*rank, *pid));
        ranked.retain(|(rank, _)| *rank <= OF_A_USER);
        ranked.truncate(OF_ALL_USERS);
        let passed_over = all - ranked.len();
        let (read, silent) = self.processes.patiently(ranked.into_iter().map(|(_, conmon)| conmon).collect());
        let most = counts.into_iter().max_by_key(|(user, count)| (*count, *user));
        let mut unseen = |count: usize, why: &str| {
            if let Some((user, _)) = most.filter(|_| count > 0) {
                let of = format!("{count} programs called conmon, most of them or all of uid {user}, {why}");
                self.closed.push(Closed { path: "/proc".into(), error: io::Error::other(of) });
            }
        };
        unseen(
            passed_over,
            &format!("are skipped: {OF_A_USER} of a user are inspected, and {OF_ALL_USERS} in all"),
        );
        unseen(silent, "have unreadable command lines");
        let mounts = Mounts::of_this_program();
        for conmon in read {
            self.monitored(conmon, Some(&mounts));
        }
    }

    /// A container under conmon: root's, or a user's, whose paths lead where these mounts are.
    fn monitored(&mut self, mut conmon: Process, stranger: Option<&Mounts>) {
        // What follows is a command of podman's, which has options of the same names.
        let own = conmon.arguments.iter().take_while(|argument| *argument != "--exit-command").count();
        conmon.arguments.truncate(own);
        // Not those of `exec`.
        if conmon.has("-e") || conmon.has("--exec") {
            return;
        }
        let option = |short: &str, long: &str| conmon.option(&[short, long]);
        let Some((bundle, pid)) = option("-b", "--bundle").zip(option("-p", "--container-pidfile")) else {
            return;
        };
        let runtime = option("-r", "--runtime").map(PathBuf::from);
        let place = |path: &str| match stranger {
            None => Some(self.place(path)),
            // No link is looked at on the way: that is the walk's own.
            Some(_) if path.len() > LONGEST_PATH => None,
            Some(_) => Some(self.live.root().join(path.trim_start_matches('/'))),
        };
        let Some((bundle, pid)) = place(&bundle).zip(place(&pid)) else { return };
        let Some(id) = stored_id(&bundle) else { return };
        let place = Place { keeper: Keeper::Storage, bundle: &bundle, id: &id, stranger };
        self.add(&place, Some(&pid), runtime);
        if stranger.is_none() && !self.bundles.contains(bundle.as_os_str()) && !is_there(&bundle) {
            self.missed.push((conmon.pid, conmon.birth.ticks, bundle));
        }
    }

    /// The bundles of CRI-O and podman in the usual places, of which no conmon told: it died, or nothing runs here.
    fn stored(&mut self) {
        let mut pids: HashMap<OsString, PathBuf> = HashMap::new();
        let mut bundles: Vec<(OsString, PathBuf)> = Vec::new();
        for storage in STORAGE {
            let storage = self.place(storage);
            // One for each storage driver.
            let of_containers = |folder: &PathBuf| {
                folder.file_name().is_some_and(|name| name.as_encoded_bytes().ends_with(b"-containers"))
            };
            for folder in self.list(&storage).into_iter().filter(of_containers) {
                for container in self.list(&folder) {
                    let Some(id) = container.file_name().map(ToOwned::to_owned) else { continue };
                    let bundle = container.join("userdata");
                    pids.entry(id.clone()).or_insert_with(|| bundle.join("pidfile"));
                    bundles.push((id, bundle));
                }
            }
        }
        for (id, bundle) in bundles {
            // What a CRI-O of the last boot left lies in the second place; podman's own are only there.
            let is_bundle = bundle.join("config.json").try_exists();
            if !self.ids.contains(&id) && !matches!(is_bundle, Ok(false)) {
                let pid = pids.get(&id).cloned();
                let place = Place { keeper: Keeper::Storage, bundle: &bundle, id: &id, stranger: None };
                self.add(&place, pid.as_deref(), None);
            }
        }
    }

    /// What only a runtime knows of.
    fn only_in_states(&mut self) {
        let others = self.states.iter().filter(|(id, _)| !self.ids.contains(*id));
        let mut others: Vec<(OsString, PathBuf)> =
            others.map(|(id, state)| (id.clone(), state.clone())).collect();
        // Of two that name one bundle the same one has it each time.
        others.sort_unstable();
        for (id, state) in others {
            match runtime_state::read(&state) {
                Ok(Some(known)) => {
                    let bundle = self.live.place(&known.bundle);
                    let place = Place { keeper: Keeper::Runtime, bundle: &bundle, id: &id, stranger: None };
                    self.add(&place, None, None);
                }
                Ok(None) => {}
                Err(error) => self.closed.push(Closed { path: state, error: error.into() }),
            }
        }
    }

    /// Adds a container if it runs, or if nothing runs here.
    fn add(&mut self, place: &Place<'_>, pid: Option<&Path>, runtime: Option<PathBuf>) {
        if !self.bundles.contains(place.bundle.as_os_str()) {
            let look = self.look(place, pid, || runtime);
            self.keep(place, look);
        }
    }

    /// What runs in a place; `None` where nothing does.
    fn look(
        &self,
        place: &Place<'_>,
        pid: Option<&Path>,
        runtime: impl FnOnce() -> Option<PathBuf>,
    ) -> io::Result<Option<Container>> {
        let Place { keeper, bundle, id, stranger } = *place;
        let vouched = stranger.is_none();
        // Ids are root's: who only says that he has one has no part in what is known of it.
        let state = self.states.get(id).filter(|_| vouched).cloned();
        let mut process = None;
        if self.processes.are_seen() {
            process = self.alive(pid, state.as_deref(), stranger)?;
            if process.is_none() {
                return Ok(None);
            }
        }
        let (runtime, id) = (runtime(), id.to_str().map(ToOwned::to_owned));
        let bundle = bundle.to_owned();
        Ok(Some(Container { bundle, id, keeper, runtime, process, state, vouched }))
    }

    /// Keeps what came of a look, unless the bundle is another's already.
    fn keep(&mut self, place: &Place<'_>, look: io::Result<Option<Container>>) {
        let bundle = place.bundle;
        match look {
            Ok(None) => return,
            Ok(Some(container)) => {
                if self.bundles.insert(bundle.into()) {
                    self.containers.push(container);
                }
            }
            Err(error) => self.closed.push(Closed { path: bundle.to_owned(), error }),
        }
        self.ids.extend(place.stranger.is_none().then(|| place.id.to_owned()));
    }

    /// The first process of a container, if it is alive and the one that the runtime or the engine wrote down.
    fn alive(
        &self,
        file: Option<&Path>,
        state: Option<&Path>,
        stranger: Option<&Mounts>,
    ) -> io::Result<Option<First>> {
        let first = |pid, birth| {
            let started = self.processes.at(birth);
            started.map(|started| First { pid, birth, started })
        };
        if let Some((pid, start)) = state.and_then(read_birth) {
            let birth = self.processes.birth(pid).filter(|birth| birth.ticks == start);
            return Ok(birth.and_then(|birth| first(pid, birth)));
        }
        let Some(file) = file else { return Ok(None) };
        let read = match stranger {
            Some(mounts) => mounts.read(file, 64),
            None => files::read_with(file, 64),
        };
        let (written, text) = match read {
            Ok((metadata, text)) => (metadata.modified()?, String::from_utf8(text).unwrap_or_default()),
            Err(error) if error.is_missing() => return Ok(None),
            Err(error) => return Err(io::Error::other(error)),
        };
        let Ok(pid) = text.trim().parse() else { return Ok(None) };
        let found = self.processes.birth(pid).and_then(|birth| first(pid, birth));
        Ok(found.filter(|first| first.started <= written + Duration::from_secs(1)))
    }

    /// The entry in a script that dockerd makes of a runtime with arguments (`daemon/runtime_unix.go`), else the
    /// runtime.
    fn behind_script(&self, runtime: PathBuf) -> PathBuf {
        if !runtime.to_string_lossy().contains("/docker/runtimes/") {
            return runtime;
        }
        let text = files::read(&self.live.place(&runtime), 64 << 10).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let mut words = text.split(|c: char| c.is_whitespace() || matches!(c, '"' | '\''));
        words.find(|word| word.starts_with("/var/lib/pss-guard/runtimes/")).map_or(runtime, PathBuf::from)
    }
}

/// Whether anything is there; what cannot be asked for is.
fn is_there(path: &Path) -> bool {
    path.try_exists().unwrap_or(true)
}

/// The id of a container by its bundle: `<id>/userdata` in the storage of CRI-O and podman.
fn stored_id(bundle: &Path) -> Option<OsString> {
    let name = bundle.file_name()?;
    let name = if name == "userdata" { bundle.parent()?.file_name()? } else { name };
    Some(name.to_owned())
}

fn path(bytes: Vec<u8>) -> PathBuf {
    use std::os::unix::ffi::OsStringExt as _;
    PathBuf::from(OsString::from_vec(bytes))
}

/// The id and the start of a container's first process. They are among the first of a runtime's words, and the rest, which
/// is many times as long, is not read for them.
fn read_birth(folder: &Path) -> Option<(i32, u64)> {
    const NAMES: [&str; 2] = ["state.json", "status"];
    let mut head = [0; 4096];
    let read = NAMES.iter().find_map(|name| files::begin(&folder.join(name), &mut head).ok())?;
    let mut birth = Birthmark::default();
    // Ends with an error where it stops to read: what it has found is found.
    let _ = serde_json::Deserializer::from_slice(head.get(..read)?).deserialize_map(&mut birth);
    birth.pid.zip(birth.start)
}

/// Collects until it has both.
#[derive(Default)]
struct Birthmark {
    pid: Option<i32>,
    start: Option<u64>,
}

impl<'de> Visitor<'de> for &mut Birthmark {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the state of a container")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match key.as_ref() {
                "init_process_pid" | "pid" => self.pid = Some(map.next_value()?),
                "init_process_start" | "process-start-time" => self.start = Some(map.next_value()?),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
            if self.pid.is_some() && self.start.is_some() {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::time::{Duration, SystemTime};

    use super::{Discovery, Keeper, Voucher, find};
    use crate::node::host::Live;
    use crate::node::procfs::{Processes, fake};

    const AGE: u64 = 100;

    /// What runc and crun write down of the start of a process of this age.
    fn ticks(age: u64) -> u64 {
        (fake::UPTIME - age) * 100
    }

    struct Node {
        dir: tempfile::TempDir,
    }

    impl Node {
        fn new() -> Self {
            let node = Self { dir: tempfile::tempdir().unwrap() };
            fs::create_dir_all(node.path("proc")).unwrap();
            node
        }

        fn path(&self, path: &str) -> PathBuf {
            self.dir.path().join(path)
        }

        fn file(&self, path: &str, text: &str) {
            let path = self.path(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        /// A file that was written when a process of this age had just started.
        fn file_of_age(&self, path: &str, text: &str, age: u64) {
            self.file(path, text);
            let then = SystemTime::now() - Duration::from_secs(age);
            fs::File::options().write(true).open(self.path(path)).unwrap().set_modified(then).unwrap();
        }

        fn process(&self, pid: i32, age: u64, arguments: &[&str]) {
            fake::add(&self.path("proc"), self.dir.path(), pid, age, arguments);
        }

        fn find(&self) -> Discovery {
            self.find_among(Processes::in_folder)
        }

        fn find_among(&self, processes: fn(&Path, &Path) -> Processes) -> Discovery {
            let processes = processes(&self.path("proc"), self.dir.path());
            find(&Live::under(self.dir.path()), &processes, Voucher::Anybody)
        }

        /// The bundles that were found, below the root.
        fn bundles(&self) -> Vec<String> {
            let found = self.find();
            assert!(found.closed.is_empty(), "{:?}", found.closed);
            let below = |bundle: &Path| bundle.strip_prefix(self.dir.path()).unwrap().display().to_string();
            found.containers.iter().map(|one| below(&one.bundle)).collect()
        }
    }

    const TASK: &str = "run/containerd/io.containerd.runtime.v2.task/k8s.io/a";
    const STATE: &str = "run/containerd/runc/k8s.io/a/state.json";
    const STORED: &str = "run/containers/storage/overlay-containers/b/userdata";

    fn runc(pid: i32, start: u64, bundle: &str) -> String {
        format!(
            r#"{{"id":"a","init_process_pid":{pid},"init_process_start":{start},"config":{{"labels":["x=y","bundle={bundle}"]}}}}"#
        )
    }

    #[test]
    fn a_container_runs_if_its_process_is_the_one_that_was_written_down() {
        type Row = (&'static str, fn(&Node), bool);
        let rows: &[Row] = &[
            ("a process and no state", |_| {}, true),
            ("none", |node| fs::remove_dir_all(node.path("proc/7")).unwrap(), false),
            ("a younger one", |node| node.process(7, 5, &["/other"]), false),
            ("the same by the state", |node| node.file(STATE, &runc(7, ticks(AGE), "/x")), true),
            ("another by the state", |node| node.file(STATE, &runc(7, ticks(AGE) + 1, "/x")), false),
            (
                "the clock was set since then",
                |node| {
                    node.file_of_age(&format!("{TASK}/init.pid"), "7", AGE + 5000);
                    node.file(STATE, &runc(7, ticks(AGE), "/x"));
                },
                true,
            ),
            (
                "another in the place of the first, and the clock was set back",
                |node| {
                    node.file_of_age(&format!("{TASK}/init.pid"), "7", 0);
                    node.process(7, 50, &["/other"]);
                    node.file(STATE, &runc(7, ticks(AGE), "/x"));
                },
                false,
            ),
            ("a state that is damaged", |node| node.file(STATE, "{"), true),
            (
                "a bundle that is being removed",
                |node| {
                    fs::rename(node.path(TASK), node.path(&TASK.replace("/a", "/.a"))).unwrap();
                },
                false,
            ),
            ("a pid that is none", |node| node.file(&format!("{TASK}/init.pid"), "x"), false),
        ];
        for (what, change, runs) in rows {
            let node = Node::new();
            node.file_of_age(&format!("{TASK}/init.pid"), "7", AGE);
            node.process(7, AGE, &["/app"]);
            change(&node);
            let expected: &[&str] = if *runs { &[TASK] } else { &[] };
            assert_eq!(node.bundles(), expected, "{what}");
        }
    }

    #[test]
    fn a_container_is_found_once_wherever_it_is_written_down() {
        let node = Node::new();
        for pid in [7, 8, 9, 10] {
            node.process(pid, AGE, &["/app"]);
        }
        node.file_of_age(&format!("{TASK}/init.pid"), "7", AGE);
        node.file(STATE, &runc(7, ticks(AGE), &format!("/{TASK}")));
        // CRI-O's, with the copy that stays for the next boot and a runtime's own word.
        node.file_of_age(&format!("{STORED}/pidfile"), "8", AGE);
        node.file(&format!("{STORED}/config.json"), "{}");
        node.file(&format!("{}/config.json", STORED.replace("run/", "var/lib/")), "{}");
        node.file(
            "run/crun/b/status",
            &format!(r#"{{"pid":8,"process-start-time":{},"bundle":"/{STORED}"}}"#, ticks(AGE)),
        );
        // podman's, with its bundle in the one place and its process id in the other.
        let of_podman = "var/lib/containers/storage/overlay-containers/c/userdata";
        node.file(&format!("{of_podman}/config.json"), "{}");
        node.file_of_age("run/containers/storage/overlay-containers/c/userdata/pidfile", "9", AGE);
        // Somebody's who calls runc by hand; and one that has ended.
        node.file("run/runc/d/state.json", &runc(10, ticks(AGE), "/srv/d"));
        node.file("run/runc/e/state.json", &runc(10, ticks(AGE) + 1, "/srv/e"));
        // The locks that lie among the containers.
        node.file("run/containers/storage/overlay-containers/containers.lock", "");
        node.file("run/runc/lock", "");
        assert_eq!(node.bundles(), [TASK, STORED, "srv/d", of_podman]);
        let keepers: Vec<Keeper> = node.find().containers.iter().map(|one| one.keeper).collect();
        assert_eq!(keepers, [Keeper::Containerd, Keeper::Storage, Keeper::Runtime, Keeper::Storage]);
    }

    #[test]
    fn roots_of_their_own_are_found_by_those_who_stay_beside_containers() {
        let node = Node::new();
        node.process(7, AGE, &["/app"]);
        node.process(8, AGE, &["/app"]);
        let task = "srv/state/io.containerd.runtime.v2.task/k8s.io/a";
        let of_other_shims = "srv/vm/io.containerd.runtime.v2.task/k8s.io/c";
        for (pid, task, shim) in
            [(20, task, "containerd-shim-runc-v2"), (23, of_other_shims, "containerd-shim-kata-v2")]
        {
            node.file_of_age(&format!("{task}/init.pid"), "7", AGE);
            node.process(pid, AGE, &[&format!("/usr/bin/{shim}")]);
            std::os::unix::fs::symlink(node.path(task), node.path(&format!("proc/{pid}/cwd"))).unwrap();
        }
        // Whose shims are gone, or have another name.
        let of_daemon = "data/k3s/state/io.containerd.runtime.v2.task/k8s.io/d";
        node.file_of_age(&format!("{of_daemon}/init.pid"), "7", AGE);
        let line = ["/data/k3s/bin/containerd", "-c", "/x", "-a", "/y", "--state", "/data/k3s/state"];
        node.process(24, AGE, &line);
        let stored = "srv/storage/vfs-containers/b/userdata";
        node.file_of_age(&format!("{stored}/pidfile"), "8", AGE);
        let (bundle, pid) = (format!("/{stored}"), format!("/{stored}/pidfile"));
        node.process(21, AGE, &["/usr/bin/conmon", "-b", &bundle, "-p", &pid, "-r", "/usr/bin/crun"]);
        // One of `exec` is no container's.
        node.process(22, AGE, &["/usr/bin/conmon", "-e", "-b", "/x", "-p", &pid, "-r", "/usr/bin/crun"]);
        assert_eq!(node.bundles(), [of_daemon, task, stored, of_other_shims]);
        let runtimes: Vec<_> = node.find().containers.into_iter().map(|one| one.runtime).collect();
        assert_eq!(runtimes, [None, None, Some(PathBuf::from("/usr/bin/crun")), None]);
    }

    #[test]
    fn what_is_mounted_over_the_folders_of_containers_hides_none() {
        let node = Node::new();
        assert!(node.find().is_nowhere, "nothing of an engine is here");
        let task = "srv/state/io.containerd.runtime.v2.task/k8s.io/a";
        for (pid, end) in [(20, ""), (21, " (deleted)")] {
            node.process(pid, AGE, &["/usr/bin/containerd-shim-runc-v2"]);
            let cwd = node.path(&format!("{task}{end}"));
            std::os::unix::fs::symlink(cwd, node.path(&format!("proc/{pid}/cwd"))).unwrap();
        }
        let found = node.find();
        let [hidden] = &found.closed[..] else { panic!("{:?}", found.closed) };
        assert_eq!(hidden.path, node.path(task));
        assert!(hidden.error.to_string().starts_with("process 20 keeps a container in it"), "{hidden:?}");
        assert!(!found.is_nowhere);
        fs::create_dir_all(node.path(task)).unwrap();
        assert!(node.find().closed.is_empty());
        for trace in ["run/containerd", "etc/crio", "var/lib/pss-guard"] {
            let node = Node::new();
            fs::create_dir_all(node.path(trace)).unwrap();
            assert!(!node.find().is_nowhere, "an engine without a container: {trace}");
        }
    }

    #[test]
    fn nobody_but_root_speaks_for_roots_containers_or_hides_them() {
        const BY_HAND: &str = "srv/d";
        const FORGED: &str = "tmp/x/d/userdata";
        type Of = fn(&Path, &Path) -> Processes;
        // (whose programs they are, their root directory, the bundle in conmon's arguments; what comes of that bundle: its
        // process, and whether that is vouched for; whether a shim is believed)
        type Row = (&'static str, Of, &'static str, &'static str, Option<(i32, bool)>, bool);
        let (root, user): (Of, Of) = (Processes::in_folder, Processes::of_a_user);
        let rows: &[Row] = &[
            ("root's", root, "", FORGED, Some((7, true)), true),
            ("a container's, whose root is root", root, "image", FORGED, None, false),
            ("a user's, with the id of root's container", user, "", FORGED, Some((9, false)), false),
            ("a user's, with the bundle of a runtime's", user, "", BY_HAND, Some((7, true)), false),
            ("a user's, with the bundle of containerd's", user, "", TASK, Some((8, true)), false),
        ];
        for (what, whose, their_root, bundle, expected, believed) in rows {
            let node = Node::new();
            fs::create_dir_all(node.path("image")).unwrap();
            for pid in [7, 8, 9] {
                node.process(pid, AGE, &["/app"]);
            }
            node.file("run/runc/d/state.json", &runc(7, ticks(AGE), &format!("/{BY_HAND}")));
            node.file_of_age(&format!("{TASK}/init.pid"), "8", AGE);
            let elsewhere = "srv/state/io.containerd.runtime.v2.task/k8s.io/e";
            let of_daemon = "srv/daemon/io.containerd.runtime.v2.task/k8s.io/f";
            for task in [elsewhere, of_daemon] {
                node.file_of_age(&format!("{task}/init.pid"), "9", AGE);
            }

            let (proc, their_root) = (node.path("proc"), node.path(their_root));
            let (place, pid) = (format!("/{bundle}"), format!("/{bundle}/pid"));
            node.file_of_age(&pid[1..], "9", AGE);
            let runtime = "/var/lib/pss-guard/runtimes/cri-o/exempt";
            fake::add(&proc, &their_root, 20, AGE, &["/x/conmon", "-b", &place, "-p", &pid, "-r", runtime]);
            fake::add(&proc, &their_root, 21, AGE, &["/x/containerd-shim"]);
            std::os::unix::fs::symlink(node.path(elsewhere), proc.join("21/cwd")).unwrap();
            fake::add(&proc, &their_root, 22, AGE, &["/x/containerd", "--state=/srv/daemon"]);

            let found = node.find_among(*whose).containers;
            let at = |bundle: &str| found.iter().find(|one| one.bundle == node.path(bundle));
            let own = at(bundle).map(|one| (one.process.unwrap().pid, one.vouched));
            assert_eq!(own, *expected, "{what}");
            assert_eq!(at(elsewhere).is_some(), *believed, "{what}: a shim");
            assert_eq!(at(of_daemon).is_some(), *believed, "{what}: containerd");
            // The gate is what root says that it is; and so is what has an id.
            assert_eq!(at(bundle).is_some_and(|one| one.entry().is_some()), *believed, "{what}: the gate");
            assert_eq!(at(BY_HAND).is_none(), *believed, "{what}: the runtime's");
            assert!(at(TASK).is_some_and(|one| one.vouched), "{what}: containerd's");
        }
    }

    #[test]
    fn nothing_runs_on_a_captured_node_and_every_bundle_counts() {
        let node = Node::new();
        node.file(&format!("{TASK}/config.json"), "{}");
        // In the order of their names.
        let of_others = [
            "run/docker/containerd/daemon",
            "run/k0s/containerd",
            "run/k3s/containerd",
            "var/snap/microk8s/common/run/containerd",
        ]
        .map(|state| TASK.replacen("run/containerd", state, 1));
        for task in &of_others {
            node.file(&format!("{task}/config.json"), "{}");
        }
        node.file(&format!("{STORED}/config.json"), "{}");
        node.file(&format!("{}/config.json", STORED.replace("run/", "var/lib/")), "{}");
        node.file("run/containers/storage/overlay-containers/without/userdata/pidfile", "7");
        let found = find(&Live::under(node.dir.path()), &Processes::of(node.dir.path()), Voucher::Anybody);
        let bundles: Vec<_> = found.containers.iter().map(|one| one.bundle.clone()).collect();
        let [docker, k0s, k3s, microk8s] = &of_others;
        let expected = [TASK, STORED, docker, k0s, k3s, microk8s].map(|bundle| node.path(bundle));
        assert_eq!(bundles, expected);
        assert!(found.containers.iter().all(|one| one.process.is_none()));
    }
}
