//! Prepares an installation: everything that it will do is known, or it is refused, before anything is done.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::statvfs::{FsFlags, statvfs};

use super::{Failure, Job, anchors_hold, cache, diff};
use crate::atomic::{WriteError, fault};
use crate::cli::manual::manual;
use crate::install::programs::{self, Piece};
use crate::install::sandboxes::unseen_by;
use crate::install::transaction::{self, FOLDER, Manifest, Store, manifest};
use crate::install::{GATE, Method, Plan, Request, detect, presence, units};
use crate::level::Policy;
use crate::message::escape;
use crate::node::host::{Live, Node as _};
use crate::paths::Paths;
use crate::status::older;

/// All that is going to be done.
pub(super) struct Prepared<'a> {
    /// What is asked for.
    pub(super) request: Request<'a>,
    /// What is installed now.
    pub(super) installed: Option<Manifest>,
    /// Whether that is the other method.
    pub(super) other: Option<Method>,
    /// The engine's files.
    pub(super) plan: Plan,
    /// The program for people, or where it lies already.
    pub(super) command: Result<[Piece; 2], PathBuf>,
    /// The links of the engine's runtimes.
    links: Vec<Piece>,
    /// The files for systemd.
    pub(super) system: System,
}

impl<'a> Job<'a> {
    /// Makes up its mind. Whatever can be known to stand against the installation is an error here.
    pub(super) fn prepare<'n>(&self, named: &'n mut Option<PathBuf>) -> Result<Prepared<'n>, Failure>
    where
        'a: 'n,
    {
        let Self { node, installer, options, .. } = *self;
        let installed = manifest(node, self.name())?;
        *named = installed.as_ref().and_then(|installed| installed.config.clone());
        let config = options.config.or(named.as_deref());
        if let Some(missing) = presence::missing(node, self.processes, installer.engine, config) {
            return Err(Failure::new(missing));
        }
        // An engine would start without it, and without the gate.
        if let Some(config) = options.config
            && node.read(config)?.is_none()
        {
            return Err(Failure::new(format!("{}: no such file, so no engine reads it", config.display())));
        }
        let usual = installer.methods.first().copied().unwrap_or(Method::Runtime);
        let method = options.method.unwrap_or(usual);
        if !installer.methods.contains(&method) {
            return Err(Failure::new(format!("{} supports only --method {usual}", self.name())));
        }
        self.reaches_engine()?;
        let policy = cache::load_fresh(&Paths::under(node.root()))?.unwrap_or_default();
        if let Some(unseen) = unseen_by(&policy, installer.engine, method) {
            return Err(unseen.into());
        }
        anchors_hold(node)?;
        // Not where the file was named: it may be the one of the next start.
        let usual = Path::new(detect::daemon(installer.engine).config);
        if options.config.is_none()
            && let Some(elsewhere) =
                detect::elsewhere(node, self.processes, installer.engine, config.unwrap_or(usual))
        {
            return Err(Failure::new(elsewhere));
        }
        let request = Request { method, config };
        let plan = (installer.plan)(node, &request)?;
        let prepared = Prepared {
            request,
            other: installed.as_ref().and_then(|installed| installed.method).filter(|own| *own != method),
            installed,
            links: programs::entries(installer.engine, &plan.entries),
            plan,
            command: programs::for_people(node),
            system: System::of(node)?,
        };
        prepared.can_be_written(node)?;
        Ok(prepared)
    }

    /// Tells which pods passed no gate, and never will.
    pub(super) fn tell_older(&self, out: &mut dyn Write) -> io::Result<()> {
        if !self.node.is_running() {
            return Ok(());
        }
        let policy: Policy =
            cache::load_fresh(&Paths::under(self.node.root())).ok().flatten().unwrap_or_default();
        let older = older::pods(self.node, self.processes, &policy);
        let until =
            if self.running().is_empty() { "" } else { ", and those that start before it is restarted," };
        writeln!(
            out,
            "  open: containerd takes a container's runtime from its pod: pods older than the gate{until} \
             bypass it, including containers started in them later (a restart, kubectl debug), until they \
             are recreated"
        )?;
        for pod in older.recreate.iter().take(MOST_PODS) {
            writeln!(out, "    {pod}")?;
        }
        if let Some(more) = older.recreate.len().checked_sub(MOST_PODS).filter(|more| *more > 0) {
            writeln!(out, "    and {more} more: `pss-guard status --verbose` names their containers")?;
        }
        if older.unread > 0 {
            writeln!(
                out,
                "    and {} of the running containers, which could not be inspected",
                older.unread
            )?;
        }
        Ok(())
    }
}

/// So many pods are named.
const MOST_PODS: usize = 200;

impl Prepared<'_> {
    /// The pieces that are to be put there, in the order in which they are.
    fn pieces(&self) -> impl Iterator<Item = Piece> + '_ {
        let command = self.command.clone().into_iter().flatten();
        [programs::gate()]
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
            || [programs::gate()].iter().chain(&self.links).any(|piece| !piece.is_there(node))
    }

    /// Whether what the installer cannot do without can be written: the gate must be where it can be executed, and no
    /// other run may be at it.
    fn can_be_written(&self, node: &Live) -> Result<(), Failure> {
        if let Some(fault) = programs::gate_fault() {
            return Err(Failure::new(format!("{}. The engine was left alone", escape(&fault))));
        }
        // Of a link the folder: where it leads is somebody else's.
        let folder = |path: &Path| node.place(path.parent().unwrap_or(path));
        let own = [programs::gate(), programs::tool()].into_iter().chain(self.links.iter().cloned());
        let own = own.filter(|piece| !piece.is_there(node)).map(|piece| folder(piece.path()));
        let files = self.plan.changes.iter().map(|change| node.place(&change.path));
        for place in own.chain(files).chain([node.place(&Path::new(FOLDER).join("lock"))]) {
            if flags_above(&place).contains(FsFlags::ST_RDONLY) {
                let error: WriteError = fault("write", &place)(Errno::EROFS.into());
                return Err(error.into());
            }
        }
        if node.is_running() && flags_above(&node.place(Path::new(GATE))).contains(FsFlags::ST_NOEXEC) {
            return Err(Failure::new(format!(
                "{GATE} would be on a file system that is mounted noexec: it cannot run there, and no \
                 container would start. The engine was not changed"
            )));
        }
        // Where there is no lock nobody holds one, and to look is not to write.
        if node.place(&Path::new(FOLDER).join("lock")).exists() {
            Store::open(node)?;
        }
        Ok(())
    }

    /// What would be done.
    pub(super) fn show(&self, job: &Job<'_>, out: &mut dyn Write) -> Result<(), Failure> {
        let Job { node, options, .. } = *job;
        let mut nothing = true;
        if let Some(other) = self.other {
            writeln!(out, "  would remove the {other} method first")?;
            let held = self.installed.as_ref().is_some_and(|installed| job.is_held(installed));
            job.preview(&Store::open(node)?, held, out)?;
        }
        for entry in &self.plan.entries {
            writeln!(out, "  gate in front of handler {}: {}", entry.handler, entry.runtime.display())?;
        }
        for piece in self.pieces().filter(|piece| !piece.is_there(node)) {
            nothing = false;
            match &piece {
                Piece::Program { path, .. } => writeln!(out, "  would write {}", path.display())?,
                Piece::Link { path, target } => {
                    writeln!(out, "  would write {} (a link to {})", path.display(), target.display())?;
                }
            }
        }
        if let Err(own) = &self.command {
            where_it_is(own, out)?;
        }
        for change in &self.system.plan.changes {
            nothing = false;
            writeln!(out, "  would write {}", change.path.display())?;
        }
        self.system.tell_kept(out)?;
        if !self.system.plan.changes.is_empty() {
            for command in units::notices(node) {
                writeln!(out, "  would run {}", escape(&command.join(" ")))?;
            }
        }
        if !policy_is_kept(node) {
            nothing = false;
            let kept = Paths::default().kept_policy();
            writeln!(out, "  would write {} (the policy, as the last good one)", kept.display())?;
        }
        for change in &self.plan.changes {
            nothing = false;
            let before = change.before.as_deref().unwrap_or_default();
            writeln!(out, "  would write {}", change.path.display())?;
            diff(&change.path, before, change.before.is_some(), Some(&change.after), out)?;
        }
        if nothing && self.installed.is_some() {
            writeln!(out, "  no file would change")?;
        } else {
            writeln!(out, "  would keep in {FOLDER} what uninstall needs")?;
        }
        for open in &self.plan.open {
            writeln!(out, "  open: {}", escape(open))?;
        }
        if let Some(how) = job.how(Some(self.request.method), true) {
            writeln!(out, "  would restart {}: {how}", job.name())?;
        }
        if options.restart && options.probe && node.is_running() {
            writeln!(
                out,
                "  would start two probe containers to prove that the gate evaluates them, and remove them"
            )?;
        }
        Ok(())
    }
}

/// Whether the text of the policy is the last good one already, as far as there is one.
pub(super) fn policy_is_kept(node: &Live) -> bool {
    cache::is_kept(&Paths::under(node.root())).is_ok()
}

/// The files for systemd, and those that stay as somebody has made them.
pub(super) struct System {
    pub(super) plan: Plan,
    kept: Vec<PathBuf>,
}

impl System {
    pub(super) fn of(node: &Live) -> Result<Self, Failure> {
        let mut plan = units::plan(node, &manual())?;
        let mut kept = transaction::edited(node, units::NAME)?;
        kept.retain(|path| plan.changes.iter().any(|change| change.path == *path));
        plan.changes.retain(|change| !kept.contains(&change.path));
        Ok(Self { plan, kept })
    }

    /// A unit that an admin edited is the admin's.
    pub(super) fn tell_kept(&self, out: &mut dyn Write) -> io::Result<()> {
        self.kept.iter().try_for_each(|path| {
            let path = path.display();
            writeln!(
                out,
                "  kept {path}, which was changed since it was installed; remove it to get the new one"
            )
        })
    }
}

/// Where people find the program that is not put where they look.
pub(super) fn where_it_is(own: &Path, out: &mut dyn Write) -> io::Result<()> {
    if programs::is_on_path(own) {
        return Ok(());
    }
    let folder = own.parent().unwrap_or(own).display();
    writeln!(
        out,
        "  {} stays where it is, and {folder} is not on the usual PATH: call it by its path, or `ln -s {0} {}`",
        own.display(),
        programs::COMMAND
    )
}

/// How the file system is mounted that something lies on, or will.
fn flags_above(place: &Path) -> FsFlags {
    let mut above = place.ancestors().filter_map(|above| statvfs(above).ok());
    above.next().map_or(FsFlags::empty(), |fs| fs.flags())
}
