//! Prepares an installation: everything that it will do is known, or it is refused, before anything is done.

use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::sys::statvfs::{FsFlags, statvfs};

use super::{Failure, Job, Wish, another_distribution, hook};
use crate::atomic::{WriteError, fault};
use crate::install::adopt::{self, Left};
use crate::install::programs::{self, Piece};
use crate::install::sandboxes::unseen_by;
use crate::install::standing::Standing;
use crate::install::transaction::{self, FOLDER, Manifest, Store, manifest};
use crate::install::{Method, Plan, Request, detect, directory, persist, presence, units};
use crate::level::{cache, kubelet_root};
use crate::message::escape;
use crate::node::host::{Live, Node as _};
use crate::node::live_root::mount_point;
use crate::node::places;
use crate::paths::Paths;
use crate::pss::facts::Engine;

/// All that is going to be done.
pub struct Prepared<'a> {
    /// What is asked for.
    pub request: Request<'a>,
    /// The directory of the programs.
    pub directory: Piece,
    /// What is installed now.
    pub installed: Option<Manifest>,
    /// Whether that is the other method.
    pub other: Option<Method>,
    /// The engine's files.
    pub plan: Plan,
    /// Files of it that stay as they are, and that CRI-O is to read again.
    pub hooks: Vec<PathBuf>,
    /// What an installation has left in them whose record is gone.
    pub left: Vec<Left>,
    /// The program for people, or where it lies already.
    pub command: Result<[Piece; 2], PathBuf>,
    /// The links of the engine's runtimes.
    links: Vec<Piece>,
    /// The files for systemd.
    pub system: System,
    /// The kubelet's root directory, where anything tells it.
    pub kubelet_root: Option<String>,
}

impl<'a> Job<'a> {
    /// Makes up its mind. Whatever can be known to stand against the installation is an error here.
    pub fn prepare<'n>(
        &self,
        wish: &Wish<'_>,
        named: &'n mut Option<PathBuf>,
    ) -> Result<Prepared<'n>, Failure>
    where
        'a: 'n,
    {
        let Self { node, installer, .. } = *self;
        let installed = manifest(node, self.name())?;
        *named = installed.as_ref().and_then(|installed| installed.config.clone());
        let config = self.config.or(named.as_deref());
        let distribution = self.distribution;
        self.fits(installed.as_ref())?;
        let missing = presence::missing(node, self.processes, installer.engine, distribution, config);
        if let Some(missing) = missing {
            return Err(Failure::new(missing));
        }
        // An engine would start without it, and without the gate.
        if let Some(config) = self.config
            && node.read(config)?.is_none()
        {
            return Err(Failure::new(format!("{}: no such file, so no engine reads it", config.display())));
        }
        let usual = installer.methods.first().copied().unwrap_or(Method::Runtime);
        // Who does not name another one means the one that stands.
        let stands = || match &installed {
            Some(installed) => installed.method,
            None => self.left_method(config),
        };
        let method = wish.method.or_else(stands).unwrap_or(usual);
        if !installer.methods.contains(&method) {
            return Err(Failure::new(format!("{} supports only --method {usual}", self.name())));
        }
        self.reaches_engine()?;
        if wish.persist {
            persist::is_possible(node, installer.engine, distribution)?;
        }
        let policy = cache::load_fresh(&Paths::under(node.root()))?.unwrap_or_default();
        if let Some(unseen) = unseen_by(&policy, installer.engine, method) {
            return Err(unseen.into());
        }
        if !wish.anchor_faults.is_empty() {
            return Err(Failure::new(wish.anchor_faults.join("; ")));
        }
        // Not where the file was named: it may be the one of the next start.
        if self.config.is_none()
            && let Some(elsewhere) = self.elsewhere(config)
        {
            return Err(Failure::new(elsewhere));
        }
        let directory = Piece::Directory { directory: directory::wanted(node, wish.directory)? };
        let request = Request { method, config, distribution };
        let kubelet = places::kubelet(self.processes, request.distribution);
        let plan = (installer.plan)(node, &request)?;
        let mut hooks = match (installer.engine, method) {
            (Engine::CriO, Method::Hook) => hook::files(&plan.shared),
            _ => Vec::new(),
        };
        // Who asks for a restart wants them read.
        if !self.restart {
            hooks = hook::stale(node, &Standing::of(node), hooks);
        }
        hooks.retain(|path| plan.changes.iter().all(|change| change.path != *path));
        let left = if installed.is_none() { adopt::left(node, installer, &plan)? } else { Vec::new() };
        let prepared = Prepared {
            request,
            directory,
            other: installed.as_ref().and_then(|installed| installed.method).filter(|own| *own != method),
            installed,
            links: programs::entries(installer.engine, &plan.entries),
            plan,
            hooks,
            left,
            command: programs::for_people(node),
            system: System::of(node, wish.manual)?,
            kubelet_root: kubelet.map(|kubelet| kubelet.root),
        };
        let runtimes = prepared.plan.entries.iter().map(|entry| entry.runtime.clone());
        let engine = detect::daemon(installer.engine).program(node, distribution);
        let theirs: Vec<PathBuf> = runtimes.chain(engine).collect();
        if let Some(fault) = programs::machine_fault(node, theirs.iter().map(PathBuf::as_path)) {
            return Err(Failure::new(fault));
        }
        prepared.can_be_written(node)?;
        Ok(prepared)
    }

    /// By which method the gate stands whose record is gone: of its files some may be missing, and none is another.
    fn left_method(&self, config: Option<&Path>) -> Option<Method> {
        let Self { node, installer, distribution, .. } = *self;
        let missing = |method: Method| {
            let request = Request { method, config, distribution };
            let plan = (installer.plan)(node, &request).ok()?;
            let is_left = || adopt::left(node, installer, &plan).is_ok_and(|left| !left.is_empty());
            let is_whole = plan.changes.iter().all(|change| change.before.is_none()) && is_left();
            is_whole.then_some((plan.changes.len(), method))
        };
        let found = installer.methods.iter().copied().filter_map(missing).min_by_key(|(missing, _)| *missing);
        found.map(|(_, method)| method)
    }

    /// Whether the gate is not installed for the containerd of another distribution.
    fn fits(&self, installed: Option<&Manifest>) -> Result<(), Failure> {
        let before = installed.and_then(|installed| installed.distribution.as_ref());
        let before = before.filter(|_| self.installer.engine == Engine::Containerd);
        match before.and_then(|_| another_distribution(self.distribution, self.recognized)) {
            Some(says) => Err(Failure::new(says)),
            None => Ok(()),
        }
    }

    /// By which file the engine goes, in a sentence, if that is neither the one that it reads today nor the one that it is
    /// to read.
    fn elsewhere(&self, named: Option<&Path>) -> Option<String> {
        let engine = self.installer.engine;
        let usual = Path::new(detect::daemon(engine).config);
        let (today, then) = match (named, engine) {
            (Some(named), _) => (named, named),
            (None, Engine::Containerd) => {
                (Path::new(self.distribution.config.as_ref()), self.distribution.read_with_gate())
            }
            (None, _) => (usual, usual),
        };
        let by = |config| detect::elsewhere(self.node, self.processes, engine, config);
        by(then).and_then(|_| by(today))
    }
}

impl Prepared<'_> {
    /// The record of the kubelet's root directory, where that is to be written.
    #[must_use]
    pub fn record(&self, node: &Live) -> Option<PathBuf> {
        let known = kubelet_root::recorded(&Paths::under(node.root())).unwrap_or_default();
        let root = self.kubelet_root.as_deref()?;
        (known.as_deref().unwrap_or(kubelet_root::DEFAULT) != root).then(|| Paths::default().kubelet_root())
    }

    /// The pieces that are to be put there, in the order in which they are.
    pub fn pieces(&self) -> impl Iterator<Item = Piece> + '_ {
        let command = self.command.clone().into_iter().flatten();
        [self.directory.clone(), programs::gate()]
            .into_iter()
            .chain(self.links.iter().cloned())
            .chain([programs::tool()])
            .chain(command)
    }

    /// Whether a run would change anything that containers need. What is only for people can be missing.
    pub(super) fn changes(&self, node: &Live) -> bool {
        let entries = self.installed.as_ref().map(|installed| &installed.entries);
        self.other.is_some()
            || entries != Some(&self.plan.entries)
            || !self.plan.changes.is_empty()
            || [&self.directory, &programs::gate()]
                .into_iter()
                .chain(&self.links)
                .any(|piece| !piece.is_there(node))
    }

    /// The directory that the programs are to lie in, and where that is. The usual one may be a link today, and is then made
    /// where the link lies.
    fn place_of_programs(&self, node: &Live) -> (&Path, PathBuf) {
        let usual = Path::new(directory::FOLDER);
        let directory = self.directory.target().unwrap_or(usual);
        let is_link = directory == usual && node.link(usual).is_some();
        let folder = if is_link { usual.parent().unwrap_or(usual) } else { directory };
        (directory, node.place(folder))
    }

    /// Whether what the installer cannot do without can be written: the gate must be where it can be executed, and no
    /// other run may be at it.
    fn can_be_written(&self, node: &Live) -> Result<(), Failure> {
        if let Some(fault) = programs::gate_fault() {
            return Err(Failure::new(format!("{}. The engine was left alone", escape(&fault))));
        }
        // Of a link the folder: where it leads is somebody else's.
        let folder = |path: &Path| node.place(path.parent().unwrap_or(path));
        let programs = [self.directory.clone(), programs::gate(), programs::tool()];
        let own = programs.into_iter().chain(self.links.iter().cloned());
        let own = own.filter(|piece| !piece.is_there(node)).map(|piece| folder(piece.path()));
        let (directory, of_programs) = self.place_of_programs(node);
        let files = self.plan.changes.iter().map(|change| node.place(&change.path));
        let next = (!self.directory.is_there(node)).then(|| of_programs.clone());
        for place in own.chain(next).chain(files).chain([node.place(&Path::new(FOLDER).join("lock"))]) {
            if flags_above(&place).contains(FsFlags::ST_RDONLY) {
                let error: WriteError = fault("write", &place)(Errno::EROFS.into());
                return Err(error.into());
            }
        }
        // How another root directory is mounted says nothing of the node that it will be.
        let unfit =
            if node.is_running() { unfit(&of_programs, &node.place(Path::new(FOLDER))) } else { None };
        if let Some(why) = unfit {
            return Err(Failure::new(format!(
                "the programs cannot lie in {}: {why}, so no container would start; name a directory of root's on another file \
                 system with --directory DIR. The engine was not changed",
                directory.display()
            )));
        }
        // Where there is no lock nobody holds one, and to look is not to write.
        if node.place(&Path::new(FOLDER).join("lock")).exists() {
            Store::open(node)?;
        }
        Ok(())
    }
}

/// Whether the text of the policy is the last good one already, as far as there is one.
#[must_use]
pub fn policy_is_kept(node: &Live) -> bool {
    cache::is_kept(&Paths::under(node.root())).is_ok()
}

/// The files for systemd, and those that stay as somebody has made them.
pub struct System {
    /// What is to be written.
    pub plan: Plan,
    /// Files that were edited, and stay so.
    pub kept: Vec<PathBuf>,
}

impl System {
    pub(super) fn of(node: &Live, manual: &[units::Manual]) -> Result<Self, Failure> {
        Self::with(node, manual, &programs::folder_for_people(node))
    }

    /// The same, with the programs in this folder.
    pub(super) fn with(node: &Live, manual: &[units::Manual], programs: &Path) -> Result<Self, Failure> {
        let mut plan = units::plan(node, manual, programs)?;
        let mut kept = transaction::edited(node, units::NAME)?;
        kept.retain(|path| plan.changes.iter().any(|change| change.path == *path));
        plan.changes.retain(|change| !kept.contains(&change.path));
        Ok(Self { plan, kept })
    }
}

/// Why a directory of the running node is no place for programs. What else is installed lies at `rest`.
fn unfit(place: &Path, rest: &Path) -> Option<String> {
    let in_memory = |place: &Path| {
        let fs = place.ancestors().find_map(|above| statfs(above).ok());
        fs.is_some_and(|fs| fs.filesystem_type() == TMPFS_MAGIC)
    };
    let why = if flags_above(place).contains(FsFlags::ST_NOEXEC) {
        "mounted noexec"
    } else if in_memory(place) && !in_memory(rest) {
        "a file system in memory, which a boot empties"
    } else {
        return None;
    };
    let mount = place.ancestors().find_map(mount_point).unwrap_or_else(|| place.to_owned());
    Some(format!("{} is {why}", mount.display()))
}

/// How the file system is mounted that something lies on, or will.
fn flags_above(place: &Path) -> FsFlags {
    let mut above = place.ancestors().filter_map(|above| statvfs(above).ok());
    above.next().map_or(FsFlags::empty(), |fs| fs.flags())
}
