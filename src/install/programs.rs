//! Places the programs that engines call: the gate, and for each runtime that it wraps a folder with two links.
//!
//! They are there before an engine's configuration names them, and stay until nobody calls them any more: a container
//! is killed and removed through the path by which it was started, and an engine starts containers by the
//! configuration that it last read.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::{Entry, GATE, TOOL, directory, entry_path, labels, units};
use crate::atomic::{self, WriteError, fault};
use crate::files;
use crate::level::cache;
use crate::node::containers::task_folders;
use crate::node::elf::Machine;
use crate::node::host::{LIMIT, Live, Node as _};
use crate::node::procfs::{Process, Processes};
use crate::paths::Paths;
use crate::pss::facts::Engine;

/// The program that people call. The gate lies beside it, as wherever the tool is: `install` takes it from there.
pub const COMMAND: &str = "/usr/local/sbin/pss-guard";

/// The name of the gate's program.
const GATES_NAME: &str = "pss-guard-gate";

/// Everything of the installer.
const OURS: &str = "/var/lib/pss-guard";

/// Everything that engines call.
const RUNTIMES: &str = "/var/lib/pss-guard/runtimes";

/// Something that is put on the node beside the files of engines: first a plan of what is to be there, then a deed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A copy of one of the two programs.
    Program {
        /// Where, as the node sees it.
        path: PathBuf,
        /// Of which.
        of: Program,
    },
    /// A symbolic link of ours.
    Link {
        /// Where, as the node sees it.
        path: PathBuf,
        /// Where it leads, word for word.
        target: PathBuf,
    },
    /// The directory that the programs lie in, with both of them in it.
    Directory {
        /// Which; [`directory::wanted`] has checked it.
        directory: PathBuf,
    },
}

/// The programs of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// This one, for people and for systemd's units.
    Tool,
    /// The one that engines call.
    Gate,
}

impl Program {
    /// A file that says that the one beside [`COMMAND`] was put there by the installer.
    const fn placed(self) -> &'static str {
        match self {
            Self::Tool => "/var/lib/pss-guard/install/command",
            Self::Gate => "/var/lib/pss-guard/install/command-gate",
        }
    }

    /// Where it is for people.
    fn for_people(self) -> PathBuf {
        match self {
            Self::Tool => COMMAND.into(),
            Self::Gate => Path::new(COMMAND).with_file_name(GATES_NAME),
        }
    }

    /// Where it is read.
    fn source(self) -> io::Result<PathBuf> {
        match self {
            // Also once its file was replaced.
            Self::Tool if Path::new(OWN).exists() => Ok(OWN.into()),
            Self::Tool => own(),
            Self::Gate => match HELD.get() {
                Some(held) => Ok(format!("/proc/self/fd/{}", held.as_raw_fd()).into()),
                None => Ok(own()?.with_file_name(GATES_NAME)),
            },
        }
    }
}

/// This program.
const OWN: &str = "/proc/self/exe";

/// Where this program lies. Without /proc, as in many a chroot, where it was called.
fn own() -> io::Result<PathBuf> {
    let called = || std::env::args_os().next().map(PathBuf::from).filter(|path| path.is_absolute());
    fs::read_link(OWN).or_else(|error| called().ok_or(error))
}

/// The gate beside the tool, opened before this process entered the node's root, where that path is another file's.
static HELD: OnceLock<File> = OnceLock::new();

/// Keeps hold of the programs that are to be installed. To be called before this process enters another root.
pub fn hold() {
    // A gate that is not there is missed when it is needed.
    if let Ok(gate) = Program::Gate.source().and_then(File::open) {
        let _ = HELD.set(gate);
    }
}

impl Piece {
    /// Where it is, as the node sees it.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Program { path, .. } | Self::Link { path, .. } => path,
            Self::Directory { .. } => Path::new(directory::FOLDER),
        }
    }

    /// The directory that the programs are to lie in, of a piece that says so.
    #[must_use]
    pub fn target(&self) -> Option<&Path> {
        match self {
            Self::Directory { directory } => Some(directory),
            Self::Program { .. } | Self::Link { .. } => None,
        }
    }

    /// Whether it is there already.
    #[must_use]
    pub fn is_there(&self, node: &Live) -> bool {
        match self {
            Self::Program { path, of } => {
                let place = node.place(path);
                let is_same = of.source().and_then(|source| same_bytes(&source, &place)).unwrap_or(false);
                is_same && labels::is_right(node, path)
            }
            Self::Link { path, target } => {
                fs::read_link(in_folder(node, path)).is_ok_and(|now| now == *target)
            }
            Self::Directory { directory } => directory::in_force(node) == *directory,
        }
    }

    /// Puts it there. Whether anything changed.
    pub fn put(&self, node: &Live) -> Result<bool, WriteError> {
        match self {
            Self::Program { path, of } => {
                if *path == of.for_people() && !node.place(path).exists() {
                    // Said first, so that it is removed with the gate even if this is interrupted.
                    atomic::replace(&node.place(Path::new(of.placed())), b"", 0o600)?;
                }
                copy(node, *of, path)
            }
            Self::Link { path, target } => {
                let place = in_folder(node, path);
                place.parent().map_or(Ok(Vec::new()), atomic::make_folder)?;
                let changed = atomic::link(&place, target)?;
                labels::label_at(node, &place);
                Ok(changed)
            }
            Self::Directory { .. } if self.is_there(node) => Ok(false),
            Self::Directory { directory } => {
                let moved = move_to(node, directory);
                // After the turn the other one is the previous, which a run that fails goes back to.
                if moved.is_err() && !self.is_there(node) {
                    // What failed is the reason; what is left of it goes with the next run that does not.
                    let _ = directory::forget_other(node);
                }
                moved.map(|()| true)
            }
        }
    }
}

/// Puts both programs into a directory, and makes it the one in force once the gate runs there.
fn move_to(node: &Live, directory: &Path) -> Result<(), WriteError> {
    directory::begin(node, directory)?;
    let there = |program| directory::at(Path::new(directory::OTHER), program);
    copy(node, Program::Gate, &there(GATE))?;
    copy(node, Program::Tool, &there(TOOL))?;
    if node.is_running() && version(node, &there(GATE)).is_none() {
        let gate = directory::at(directory, GATE);
        return Err(fault("execute", &gate)(io::Error::other(
            "it does not run there; the gate was not moved",
        )));
    }
    labels::label_at(node, &in_folder(node, Path::new(directory::OTHER)));
    directory::turn_over(node)
}

/// A link's own place: its folder through links, the last part not.
pub(super) fn in_folder(node: &Live, path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default();
    path.parent().map_or_else(|| node.place(path), |folder| node.place(folder).join(name))
}

/// Whether the gate where engines call it is a copy of the one beside this tool. Where it is that one, nothing is known of it.
#[must_use]
pub(super) fn is_copy_of_ours(node: &Live) -> bool {
    let place = node.place(Path::new(GATE));
    let Ok(source) = Program::Gate.source() else { return false };
    let file = |path: &Path| fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    file(&source) != file(&place) && same_bytes(&source, &place).unwrap_or(false)
}

/// Why the gate beside the tool must not be put in front of engines: it is not there, does not run, or is of another
/// version. It runs where the tool does, whichever root directory it is for.
#[must_use]
pub fn gate_fault() -> Option<String> {
    let beside = match Program::Gate.source() {
        Ok(beside) => beside,
        Err(error) => {
            return Some(format!(
                "this program cannot see where it lies, with the gate beside it ({error}); mount /proc, or call it by its whole path"
            ));
        }
    };
    let own = env!("CARGO_PKG_VERSION");
    let fault = match fs::metadata(&beside) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            "is not there: `install` takes the gate from beside the tool; put both into one folder, as `make build` does"
                .to_owned()
        }
        Ok(file) if !file.is_file() => "is not a regular file".to_owned(),
        _ => match version(&Live::under(Path::new("/")), &beside) {
            None => "does not run, or is not the gate; is it whole, and executable?".to_owned(),
            Some(version) if version != own => format!("is version {version}, and this tool is {own}"),
            Some(_) => return None,
        },
    };
    Some(format!("{} {fault}", beside.display()))
}

/// Why the gate beside the tool would not run on the node, where it runs here: in another root directory, or under the emulation
/// of a container. The node's machine is that of its runtimes and its engine, as far as these are programs.
#[must_use]
pub fn machine_fault<'p>(node: &Live, theirs: impl Iterator<Item = &'p Path>) -> Option<String> {
    let gate = Program::Gate.source().ok().and_then(|gate| Machine::of_file(&gate))?;
    let mut found = theirs.filter_map(|path| Some((path, Machine::of_file(&node.place(path))?)));
    let (path, other) = found.find(|(_, theirs)| !theirs.runs(gate) && !gate.runs(*theirs))?;
    Some(format!(
        "the gate is a program for {gate}, and {} of this node one for {other}; take the programs, or the image, of that \
         architecture",
        path.display()
    ))
}

/// The version that a gate says it is.
fn version(node: &Live, program: &Path) -> Option<String> {
    let said = node.output(program, &["--version"])?;
    said.trim().strip_prefix("pss-guard-gate ").map(str::to_owned)
}

/// The program where engines call it.
#[must_use]
pub fn gate() -> Piece {
    Piece::Program { path: GATE.into(), of: Program::Gate }
}

/// The tool where systemd's units call it.
#[must_use]
pub fn tool() -> Piece {
    Piece::Program { path: TOOL.into(), of: Program::Tool }
}

/// The programs that people call, as far as `install` has put them there.
#[must_use]
pub fn placed_for_people(node: &Live) -> Vec<Piece> {
    let programs = [Program::Tool, Program::Gate].into_iter();
    let placed = programs.filter(|program| node.place(Path::new(program.placed())).exists());
    placed.map(|of| Piece::Program { path: of.for_people(), of }).collect()
}

/// In a sentence, if people call another program than this one, which `install` has not put there.
#[must_use]
pub fn another_command(node: &Live) -> Option<String> {
    let place = node.place(Path::new(COMMAND));
    let is_ours = node.place(Path::new(Program::Tool.placed())).exists() || !place.exists();
    let is_same = || Program::Tool.source().and_then(|own| same_bytes(&own, &place)).unwrap_or(false);
    (!is_ours && !is_same()).then(|| {
        format!("{COMMAND} is another program, which a shell may find first; `install` did not put it there")
    })
}

/// Whether engines or units may call a program of ours here.
#[must_use]
pub fn stand(node: &Live) -> bool {
    [GATE, TOOL].iter().any(|program| node.place(Path::new(program)).exists())
        || !units::engines(node).is_empty()
}

/// Whether the gate can be called where it lies: a file system may be mounted without leave to execute (`noexec`), and a
/// policy of the system may ask who a program is. Of another root directory nobody can say.
#[must_use]
pub fn gate_runs(node: &Live) -> bool {
    !node.is_running() || version(node, Path::new(GATE)).is_some()
}

/// Has the gate say on this node which formats it reads, for all who write for it; `false` where it does not. Then nothing
/// is published, which stands for the oldest formats: what another gate published is not this one's. In another root file
/// system the unit of the status does so at the next boot.
#[must_use]
pub fn publish_formats(node: &Live) -> bool {
    let published = !node.is_running() || node.output(Path::new(GATE), &["publish-formats"]).is_some();
    if !published {
        let _ = atomic::remove_if_there(&node.place(&Paths::default().formats()));
    }
    published
}

/// Both programs where people call the tool; where that lies itself if it is a place that stays.
pub fn for_people(node: &Live) -> Result<[Piece; 2], PathBuf> {
    let stays = |path: &PathBuf| {
        ["/usr", "/opt"].iter().any(|folder| path.starts_with(folder)) && !path.starts_with("/usr/src")
    };
    // Once put there it is kept as new as the gate.
    let own = own().ok().filter(|_| HELD.get().is_none()).map(|own| packaged(own, node));
    match own.filter(|_| node.is_running()).filter(stays) {
        Some(path) if path != Path::new(COMMAND) => Err(path),
        Some(_) | None => {
            Ok([Program::Tool, Program::Gate].map(|of| Piece::Program { path: of.for_people(), of }))
        }
    }
}

/// The one of a package, where this is the copy of it that systemd's units call.
fn packaged(own: PathBuf, node: &Live) -> PathBuf {
    let packaged = Path::new("/usr/sbin/pss-guard");
    let is_copy = node.place(Path::new(TOOL)) == own && same_bytes(&own, packaged).unwrap_or(false);
    if is_copy { packaged.into() } else { own }
}

/// The folder in which people find both programs, once they are installed. A boot restores lost programs from there as root, long
/// after this call, so a folder that others can write to does not count: then it is the usual one.
#[must_use]
pub fn folder_for_people(node: &Live) -> PathBuf {
    let is_named = |tool: &PathBuf| tool.file_name() == Path::new(COMMAND).file_name();
    let own = for_people(node).err().filter(is_named);
    let own =
        own.filter(|tool| [tool.clone(), tool.with_file_name(GATES_NAME)].iter().all(|path| is_roots(path)));
    let tool = own.unwrap_or_else(|| COMMAND.into());
    tool.parent().map_or(tool.clone(), Path::to_owned)
}

/// The folder from which a boot takes lost programs, where it finds these there: whoever calls the same programs in another place
/// has nothing to change in that. Otherwise [`folder_for_people`].
#[must_use]
pub fn folder_of_a_boot(node: &Live) -> PathBuf {
    let name = Path::new(COMMAND).file_name().unwrap_or_default();
    let is_it = |of: Program, path: PathBuf| {
        let is_same = of.source().and_then(|source| same_bytes(&source, &path)).unwrap_or(false);
        is_same && is_roots(&path)
    };
    let has_both = |folder: &PathBuf| {
        is_it(Program::Tool, node.place(&folder.join(name)))
            && is_it(Program::Gate, node.place(&folder.join(GATES_NAME)))
    };
    units::programs_of_a_boot(node).filter(has_both).unwrap_or_else(|| folder_for_people(node))
}

/// Whether root alone decides which program lies there.
fn is_roots(program: &Path) -> bool {
    let metadata = |path: &Path| fs::metadata(path).ok();
    let is_own = |file: &fs::Metadata| file.is_file() && file.uid() == 0 && file.mode() & 0o022 == 0;
    let is_closed = |place: PathBuf| {
        let folder = place.parent()?;
        files::check_folder(folder, &metadata(folder)?).ok()
    };
    metadata(program).as_ref().is_some_and(is_own) && files::walk(program).ok().and_then(is_closed).is_some()
}

/// Whether a shell finds what lies there without being told (`sudo` has these, in Debian and in Fedora).
#[must_use]
pub fn is_on_path(program: &Path) -> bool {
    let folder = program.parent().unwrap_or(Path::new("/"));
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        .iter()
        .any(|own| folder == Path::new(own))
}

fn copy(node: &Live, of: Program, path: &Path) -> Result<bool, WriteError> {
    let place = &node.place(path);
    let program = &of.source().map_err(fault("find this program for", place))?;
    let is_callable = || fs::metadata(place).is_ok_and(|file| file.permissions().mode() & 0o7777 == 0o755);
    if same_bytes(program, place).unwrap_or(false) && is_callable() && labels::is_right(node, path) {
        return Ok(false);
    }
    // Read before anything is written: without it everything stays as it was.
    let bytes = fs::read(program).map_err(fault("read", program))?;
    if let Some(folder) = place.parent() {
        atomic::make_folder(folder)?;
    }
    // In one write: the page cache then has it in large pieces, which every start maps with fewer faults.
    labels::replace(node, path, place, &bytes, 0o755)?;
    // A file that is replaced leaves its mode to the next one, and nobody may have been allowed to call it.
    fs::set_permissions(place, fs::Permissions::from_mode(0o755)).map_err(fault("write", place))?;
    Ok(true)
}

fn same_bytes(one: &Path, other: &Path) -> io::Result<bool> {
    if fs::metadata(one)?.len() != fs::metadata(other)?.len() {
        return Ok(false);
    }
    Ok(fs::read(one)? == fs::read(other)?)
}

/// The links of an engine's runtimes. The one to the real runtime first: whoever calls an entry must find it.
#[must_use]
pub fn entries(engine: Engine, entries: &[Entry]) -> Vec<Piece> {
    let links = |entry: &Entry| {
        let path = entry_path(engine, &entry.handler);
        let runtime = Piece::Link { path: path.with_file_name("runtime"), target: entry.runtime.clone() };
        [runtime, Piece::Link { path, target: TO_GATE.into() }]
    };
    entries.iter().flat_map(links).collect()
}

/// The gate as seen from an entry's folder, so that it is found under any root directory.
const TO_GATE: &str = "../../../bin/pss-guard-gate";

/// The same before the gate was a program of its own.
const TO_TOOL: &str = "../../../bin/pss-guard";

/// The four places of the two programs.
pub(super) fn all() -> Vec<PathBuf> {
    let own = [GATE, TOOL].map(PathBuf::from);
    own.into_iter().chain([Program::Tool, Program::Gate].map(Program::for_people)).collect()
}

/// What `install` may add for people, and the marks that say so.
pub(super) fn placed() -> Vec<PathBuf> {
    let programs = [Program::Tool, Program::Gate];
    programs.into_iter().flat_map(|program| [program.for_people(), program.placed().into()]).collect()
}

/// Both links of each of an engine's entries, the one to the runtime first.
pub(super) fn links_of(node: &Live, engine: Engine) -> Vec<PathBuf> {
    let both = |folder: PathBuf| ["runtime", "pss-guard-runtime"].map(|link| folder.join(link));
    folders(node, engine).into_iter().flat_map(both).collect()
}

/// Whether this is one of those links.
pub(super) fn is_entry(path: &Path) -> bool {
    path.starts_with(RUNTIMES)
}

/// The links of all engines that [`bring_over`] turns over.
pub(super) fn entries_of_tool(node: &Live) -> Vec<PathBuf> {
    let folders = Engine::ALL.into_iter().flat_map(|engine| folders(node, engine));
    let entries = folders.map(|folder| folder.join("pss-guard-runtime"));
    // However it is written: whoever made the link by hand wrote the whole path.
    entries.filter(|entry| node.place(entry) == node.place(Path::new(TOOL))).collect()
}

/// Turns the entries of all engines from the program that once was both over to the gate. Before the tool is put in the
/// place of that program: as a wrapper the tool is only a fallback.
pub fn bring_over(node: &Live) -> Result<(), WriteError> {
    for entry in entries_of_tool(node) {
        atomic::link(&in_folder(node, &entry), Path::new(TO_GATE))?;
    }
    Ok(())
}

/// Turns an engine's entries over to the real runtimes, which they are from then on.
pub fn open(node: &Live, engine: Engine) -> Result<(), WriteError> {
    for folder in folders(node, engine) {
        let folder = node.place(&folder);
        if let Ok(runtime) = fs::read_link(folder.join("runtime")) {
            // Nobody stands in for a runtime from now on.
            atomic::link(&folder.join("pss-guard-runtime"), &node.find_again(runtime))?;
        }
    }
    Ok(())
}

/// Removes an engine's entries.
pub fn remove_entries(node: &Live, engine: Engine) -> Result<(), WriteError> {
    remove_tree(&node.place(&entries_of(engine)))
}

/// Where an engine's entries are.
#[must_use]
pub fn entries_of(engine: Engine) -> PathBuf {
    Path::new(RUNTIMES).join(engine.name())
}

/// A file of the processes that go on calling the gate although nothing of their configuration names it any more.
/// Where it is lost with the next boot, as those processes are.
const KEPT: &str = "/run/pss-guard/gate-is-called";

/// The same for the entries of each engine, which had them in its configuration when it was last read.
const CALLERS: &str = "/run/pss-guard/callers";

/// Keeps the gate until none of these processes runs any more, at the latest until the next boot.
pub fn keep_gate(node: &Live, called_by: &[Process]) -> Result<(), WriteError> {
    write_down(&node.place(Path::new(KEPT)), called_by)
}

/// Whether a process runs for which the gate was kept.
#[must_use]
pub fn gate_is_called(node: &Live, processes: &Processes) -> bool {
    runs(&node.place(Path::new(KEPT)), processes)
}

/// Writes down which processes go on calling an engine's entries, whatever its configuration says from now on.
pub fn keep_entries(node: &Live, engine: Engine, called_by: &[Process]) -> Result<(), WriteError> {
    write_down(&node.place(Path::new(CALLERS)).join(engine.name()), called_by)
}

/// Whether one of them still runs.
#[must_use]
pub fn entries_are_called(node: &Live, engine: Engine, processes: &Processes) -> bool {
    runs(&node.place(Path::new(CALLERS)).join(engine.name()), processes)
}

/// A file for each engine of its processes that ran when its configuration was last installed, and have not read that.
const UNREAD: &str = "/run/pss-guard/unread";

/// That file of an engine, as the node sees it.
pub(super) fn unread(engine: &str) -> PathBuf {
    Path::new(UNREAD).join(engine)
}

/// Writes down which processes have yet to be restarted before an engine goes by what is about to be installed.
pub fn keep_unread(node: &Live, engine: Engine, running: &[Process]) -> Result<(), WriteError> {
    let place = node.place(&unread(engine.name()));
    place.parent().map_or(Ok(Vec::new()), atomic::make_folder)?;
    // Also where none runs: that is known then.
    atomic::replace(&place, lines(running).as_bytes(), 0o644)
}

/// Whether a process is one of those; `None` where nobody wrote them down, or a boot has ended them all.
#[must_use]
pub fn is_unread(node: &Live, engine: Engine, process: &Process) -> Option<bool> {
    let text = files::read(&node.place(&unread(engine.name())), LIMIT).ok()?;
    let line = format!("{} {}", process.pid, process.birth.ticks);
    Some(String::from_utf8_lossy(&text).lines().any(|unread| unread == line))
}

/// By id and start, because the clock can be set and ids come again.
fn write_down(place: &Path, called_by: &[Process]) -> Result<(), WriteError> {
    if called_by.is_empty() {
        return atomic::remove_if_there(place);
    }
    place.parent().map_or(Ok(Vec::new()), atomic::make_folder)?;
    atomic::replace(place, lines(called_by).as_bytes(), 0o644)
}

fn lines(processes: &[Process]) -> String {
    let line = |process: &Process| format!("{} {}\n", process.pid, process.birth.ticks);
    processes.iter().map(line).collect()
}

fn runs(place: &Path, processes: &Processes) -> bool {
    let text = files::read(place, LIMIT).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines().any(|line| {
        let (pid, ticks) = line.split_once(' ').unwrap_or_default();
        pid.parse().ok().zip(ticks.parse().ok()).is_some_and(|(pid, ticks)| processes.is_alive(pid, ticks))
    })
}

/// Whether any of an engine's entries leads to the gate, and not to the real runtime.
#[must_use]
pub fn lead_to_gate(node: &Live, engine: Engine) -> bool {
    links_of(node, engine).iter().any(|link| leads_to_gate(node, link))
}

/// Whether a link is as the installer writes an entry.
#[must_use]
pub(super) fn leads_to_gate(node: &Live, link: &Path) -> bool {
    let target = fs::read_link(in_folder(node, link));
    target.is_ok_and(|target| [TO_GATE, TO_TOOL].iter().any(|own| target == Path::new(own)))
}

/// Whether the gate is there, or anything else of the installer, such as what a run left that was killed.
#[must_use]
pub fn is_there(node: &Live) -> bool {
    node.place(Path::new(OURS)).exists()
}

/// The programs that go with the last installation, as the node sees them.
#[must_use]
pub fn programs(node: &Live) -> Vec<PathBuf> {
    let placed = placed_for_people(node).into_iter().map(|piece| piece.path().to_owned());
    let programs = [GATE, TOOL].map(PathBuf::from).into_iter();
    let link = node.link(Path::new(directory::FOLDER)).map(|_| directory::FOLDER.into());
    programs.chain(link).chain(placed).filter(|program| node.place(program).exists()).collect()
}

/// What in the folders of ours engines and containers may still call, as the node sees it.
pub const CALLED: [&str; 4] = [RUNTIMES, CALLERS, KEPT, UNREAD];

/// Removes the gate, wherever it lies, and the program that people call if it was put there with it.
pub fn remove_gate(node: &Live) -> Result<(), WriteError> {
    for program in [Program::Tool, Program::Gate] {
        let placed = node.place(Path::new(program.placed()));
        if placed.exists() {
            let place = node.place(&program.for_people());
            atomic::forget(&place)?;
            atomic::remove_if_there(&place)?;
            atomic::remove(&placed)?;
        }
    }
    atomic::remove_if_there(&node.place(Path::new(KEPT)))?;
    atomic::remove_if_there(&node.place(&Paths::default().formats()))?;
    directory::remove_all(node)
}

/// Removes the folders of the installer, once there is no installation and no entry any more. What else lies in them
/// was left by runs that were killed.
pub fn remove_rest(node: &Live) -> Result<(), WriteError> {
    for folder in [RUNTIMES, CALLERS, UNREAD, "/var/lib/pss-guard/install"] {
        remove_tree(&node.place(Path::new(folder)))?;
    }
    cache::let_go(&Paths::under(node.root()));
    atomic::remove_if_there(&node.place(&Paths::default().kubelet_root()))?;
    // What is in there is somebody's: the levels of the namespaces for the next boot, the last good text of a policy that
    // cannot be used.
    let _ = fs::remove_dir(node.place(Path::new(OURS)));
    Ok(())
}

pub(super) fn remove_tree(path: &Path) -> Result<(), WriteError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(fault("remove", path)(error)),
        _ => Ok(()),
    }
}

fn folders(node: &Live, engine: Engine) -> Vec<PathBuf> {
    let folder = entries_of(engine);
    node.list(&folder).into_iter().map(|handler| folder.join(handler)).collect()
}

/// Whether an engine has entries, those of an installation that was undone as well.
#[must_use]
pub fn has_entries(node: &Live, engine: Engine) -> bool {
    !folders(node, engine).is_empty()
}

/// How many containers and processes still call an engine's entries: containerd's shims keep the runtime's path in
/// their bundle (`runtime/v2/runc/…`, file `runtime`), conmon on its command line.
#[must_use]
pub fn callers(node: &Live, engine: Engine, processes: &Processes) -> usize {
    let entries = entries_of(engine);
    let entries = entries.as_os_str().as_bytes();
    let names = |bytes: Vec<u8>| bytes.windows(entries.len()).any(|part| part == entries);
    let mut callers = processes.naming(entries);
    for tasks in task_folders(node, processes) {
        // As the node calls it.
        let tasks = Path::new("/").join(tasks.strip_prefix(node.root()).unwrap_or(&tasks));
        for client in node.list(&tasks) {
            let client = tasks.join(client);
            for id in node.list(&client) {
                let runtime = node.place(&client.join(id).join("runtime"));
                callers += usize::from(files::read(&runtime, LIMIT).is_ok_and(names));
            }
        }
    }
    callers
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::{
        Engine, Live, TO_GATE, bring_over, callers, entries_are_called, gate_is_called, keep_entries,
        keep_gate, version,
    };
    use super::{is_roots, remove_gate, remove_rest, same_bytes};
    use crate::node::procfs::{Processes, fake};

    #[test]
    fn an_engine_calls_its_entries_until_that_very_process_has_ended() {
        let directory = tempfile::tempdir().unwrap();
        let (root, proc) = (directory.path().join("root"), directory.path().join("proc"));
        let (node, processes) = (Live::under(&root), Processes::in_folder(&proc, Path::new("/")));
        let engine = Engine::Containerd;
        assert!(!entries_are_called(&node, engine, &processes), "nobody was written down");
        fake::add(&proc, Path::new("/"), 7, 50, &["/usr/bin/containerd"]);
        let running = processes.running(&["containerd"]);
        keep_entries(&node, engine, &running).unwrap();
        keep_gate(&node, &running).unwrap();
        assert!(entries_are_called(&node, engine, &processes) && gate_is_called(&node, &processes));
        assert!(!entries_are_called(&node, Engine::CriO, &processes));

        // However the clock is set; and another process that got the same id is another process.
        fs::write(proc.join("uptime"), "99.00 1.00\n").unwrap();
        assert!(entries_are_called(&node, engine, &processes));
        fake::add(&proc, Path::new("/"), 7, 5, &["/usr/bin/containerd"]);
        assert!(!entries_are_called(&node, engine, &processes) && !gate_is_called(&node, &processes));
        fs::write(root.join("run/pss-guard/callers/containerd"), "nonsense\n7 x\n").unwrap();
        assert!(!entries_are_called(&node, engine, &processes));

        keep_entries(&node, engine, &running).unwrap();
        keep_entries(&node, engine, &[]).unwrap();
        assert!(!root.join("run/pss-guard/callers/containerd").exists(), "nobody is no file");
        keep_entries(&node, engine, &running).unwrap();
        remove_gate(&node).unwrap();
        assert!(root.join("run/pss-guard/callers/containerd").exists(), "entries outlive the gate");
        let somebodys = root.join("var/lib/pss-guard/namespaces");
        fs::create_dir_all(&somebodys).unwrap();
        remove_rest(&node).unwrap();
        assert_eq!(fs::read_dir(root.join("run/pss-guard")).unwrap().count(), 0);
        assert!(somebodys.exists(), "it was no installer's");
    }

    #[test]
    fn a_boot_restores_nothing_that_somebody_else_put_there() {
        // What every system has, behind whatever links.
        assert!(is_roots(Path::new("/bin/sh")));
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("sbin");
        let tool = folder.join("pss-guard");
        fs::create_dir(&folder).unwrap();
        assert!(!is_roots(&tool), "it is not there");
        fs::write(&tool, "").unwrap();
        // As root the folder and the file are root's, and only their modes count.
        let is_root = nix::unistd::geteuid().is_root();
        for (of_folder, of_file, is_fine) in
            [(0o755, 0o755, is_root), (0o777, 0o755, false), (0o1777, 0o755, false), (0o755, 0o775, false)]
        {
            for (path, mode) in [(&folder, of_folder), (&tool, of_file)] {
                fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            }
            assert_eq!(is_roots(&tool), is_fine, "{of_folder:o} {of_file:o}");
        }
    }

    #[test]
    fn shims_and_command_lines_call_an_entry() {
        let directory = tempfile::tempdir().unwrap();
        let (root, proc) = (directory.path().join("root"), directory.path().join("proc"));
        let (node, processes) = (Live::under(&root), Processes::in_folder(&proc, Path::new("/")));
        let called = |engine| callers(&node, engine, &processes);
        let conmon = "/var/lib/pss-guard/runtimes/podman/crun/pss-guard-runtime";
        fake::add(&proc, Path::new("/"), 7, 50, &["/usr/bin/conmon", "-r", conmon]);
        let task = root.join("run/containerd/io.containerd.runtime.v2.task/k8s.io/id");
        fs::create_dir_all(&task).unwrap();
        fs::write(task.join("runtime"), "/var/lib/pss-guard/runtimes/containerd/runc/pss-guard-runtime")
            .unwrap();
        let engines = [Engine::Podman, Engine::Containerd, Engine::CriO];
        assert_eq!(engines.map(called), [1, 1, 0]);
    }

    #[test]
    fn every_entry_that_leads_to_the_tool_is_brought_over_however_its_link_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let node = Live::under(directory.path());
        let rows = [
            ("../../../bin/pss-guard", TO_GATE),
            ("/var/lib/pss-guard/bin/pss-guard", TO_GATE),
            ("../../../bin/../bin/pss-guard", TO_GATE),
            ("/usr/bin/runc", "/usr/bin/runc"),
        ];
        let link = |nth: usize| {
            directory.path().join(format!("var/lib/pss-guard/runtimes/containerd/h{nth}/pss-guard-runtime"))
        };
        for (nth, (target, _)) in rows.into_iter().enumerate() {
            fs::create_dir_all(link(nth).parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(target, link(nth)).unwrap();
        }
        bring_over(&node).unwrap();
        for (nth, (target, expected)) in rows.into_iter().enumerate() {
            assert_eq!(fs::read_link(link(nth)).unwrap(), Path::new(expected), "{target}");
        }
    }

    #[test]
    fn only_a_program_that_says_so_is_the_gate() {
        let directory = tempfile::tempdir().unwrap();
        let node = Live::under(Path::new("/"));
        let gate = "#!/bin/sh\necho pss-guard-gate 1\n";
        let rows = [
            (gate, 0o755, true),
            (gate, 0o644, false),
            ("", 0o755, false),
            ("#!/bin/sh\necho pss-guard 1\n", 0o755, false),
            ("#!/bin/sh\necho pss-guard-gate 2; exit 1\n", 0o755, false),
        ];
        for (nth, (text, mode, expected)) in rows.into_iter().enumerate() {
            let program = directory.path().join(nth.to_string());
            fs::write(&program, text).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(version(&node, &program).is_some(), expected, "{text:?} {mode:o}");
        }
    }

    #[test]
    fn as_long_is_not_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text| {
            let path = directory.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let (one, other, third) = (file("a", "gate 1"), file("b", "gate 2"), file("c", "gate 1"));
        assert!(!same_bytes(&one, &other).unwrap() && same_bytes(&one, &third).unwrap());
    }
}
