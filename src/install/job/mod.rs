//! Installs the gate for one engine, and takes it away: the order in which that is done, and what becomes of a run that
//! fails.
//!
//! ```text
//!  prepare ─► keep what is there ─► programs ─► entries ─► engine's files ─► restart ─► probes ─► let go of what was kept
//!     │                                │           │             │             │          │
//!     └─ refused: nothing changes      └───────────┴─────────────┴─────────────┴──────────┴─► back to what was there,
//!                                                                                             or to nothing
//! ```
//!
//! What is done is reported step by step, and printed by the command.

pub(crate) mod hook;
mod prepared;
mod proof;
mod removal;
mod repair;
mod upgrade;

use std::error::Error;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::adopt::Left;
use super::restart::{ITSELF, PATIENCE, Restart, RestartError, restart};
use super::standing::through;
use super::transaction::{Manifest, Store, Undone, installations, manifest, strip_whole};
use super::{GATE, Installer, Method, Plan, Request, before, detect, labels, persist, programs, units};
use crate::level::{cache, kubelet_root};
use crate::message::{escape, line};
use crate::node::distribution::{Change, Distribution};
use crate::node::host::{Live, Node as _};
use crate::node::procfs::{Process, Processes};
use crate::paths::Paths;
use crate::pss::facts::Engine;
pub use prepared::{Prepared, policy_is_kept};
use proof::Run;
pub use removal::{Removable, retire, sweep};
pub use repair::{Lost, Repair, Repaired};
pub use upgrade::Upgrade;

/// What has been done, or was found.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// Everything is prepared, and the engine's installation begins.
    Begins(Method),
    /// The gate is not where it was installed.
    Lost(&'a Lost),
    /// A program, a link or a file was written.
    Wrote(&'a Path),
    /// A file or a program was removed.
    Removed(&'a Path),
    /// The installation by the other method was removed.
    RemovedMethod(Method),
    /// A file of an installation was undone.
    Undid(&'a Path, Undone),
    /// Something is as it was before this run.
    PutBack(&'a Path, before::PutBack),
    /// The program that people call was not put on the PATH, and why.
    NotOnPath(&'a str),
    /// The program that people call stays where it is.
    Elsewhere(&'a Path),
    /// A file of ours was edited, and stays so.
    KeptEdited(&'a Path),
    /// The same, of an installation that goes.
    LeftEdited(&'a Path),
    /// Something failed that no container needs.
    NotDone(&'a str),
    /// The programs, links and files are as they were.
    Unchanged,
    /// What the gate does not cover.
    Open(&'a str),
    /// Why the engine could not be asked what it makes of the planned files.
    NotCompared(&'a str),
    /// Pods of containerd that run are older than the gate, and bypass it.
    OlderPods,
    /// The engine has yet to read what was written: this unit is to be restarted.
    ActiveAfterRestart(&'static str),
    /// A verification has seen something.
    Seen(&'a str),
    /// A verification could not show something.
    NotShown(&'a str),
    /// Links stay, because something calls them.
    StillCalled {
        /// Whether the engine itself calls them, because it was not restarted since.
        stale: bool,
        /// By which method the gate was installed.
        method: Option<Method>,
        /// The containers that were started through them.
        containers: usize,
    },
}

/// Takes the steps as they are done.
pub type Report<'a> = &'a mut dyn FnMut(Step<'_>);

/// How a run has ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// The gate is installed, and verified where that was asked for.
    Installed,
    /// The gate is installed, but not everything could be shown.
    Unproven,
}

/// Why something was not done, or not as it should be.
#[derive(Debug)]
pub struct Failure {
    /// What is wrong, in a line, safe for a terminal.
    pub says: String,
    /// What a program printed, line by line.
    pub printed: Vec<String>,
    /// What follows from it, a sentence each.
    pub more: Vec<String>,
    /// Whether the gate was installed before, and stays.
    pub stays: bool,
    /// Whether it says something of the programs, which all engines share, and which are those of before again: no other
    /// engine is to get the new ones then.
    pub of_programs: bool,
    /// Whether it could not be rolled back: what is kept is needed by the next run.
    pub is_unfinished: bool,
}

impl Failure {
    /// With what is wrong.
    #[must_use]
    pub fn new(says: impl AsRef<str>) -> Self {
        let says = escape(says.as_ref());
        Self {
            says,
            printed: Vec::new(),
            more: Vec::new(),
            stays: false,
            of_programs: false,
            is_unfinished: false,
        }
    }

    /// A restart that failed, and the way out.
    fn of_restart(error: &RestartError, engine: &str, by_command: bool) -> Self {
        let mut failure = Self { printed: error.said().to_vec(), ..Self::new(line(error)) };
        if !by_command {
            failure
                .more
                .push(format!("use --restart-command to name another command that restarts {engine}"));
        }
        failure
    }

    fn and(mut self, sentence: impl AsRef<str>) -> Self {
        self.more.push(escape(sentence.as_ref()));
        self
    }
}

impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(line(&error))
    }
}

/// What came of a verification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The gate stands; what was seen of it.
    Verified(Vec<String>),
    /// Nothing is known to be wrong, but not everything could be shown.
    Unproven {
        /// What was seen.
        seen: Vec<String>,
        /// What could not be shown, and why.
        missing: Vec<String>,
    },
    /// The engine does not start containers as it should: take the installation back.
    Failed(String),
}

/// Asks the engine to start containers, and looks what the gate does.
pub type Verify<'a> = &'a dyn Fn(&Installer, &Request<'_>) -> Outcome;

/// What install and uninstall do for one engine.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// The node.
    pub node: &'a Live,
    /// What runs there.
    pub processes: &'a Processes,
    /// The engine's installer.
    pub installer: &'static Installer,
    /// The distribution that the engine is of: [`distribution_of`].
    pub distribution: &'a Distribution,
    /// The name of the distribution that the node is today.
    pub recognized: &'static str,
    /// The engine's configuration file, where it is not the usual one.
    pub config: Option<&'a Path>,
    /// Restart the engine afterwards, and see whether it works.
    pub restart: bool,
    /// How to restart it, where systemd is not to be asked.
    pub restart_command: Option<&'a str>,
}

/// What only an installation needs.
#[derive(Clone, Copy)]
pub struct Wish<'a> {
    /// By which method, where it is not the engine's usual one.
    pub method: Option<Method>,
    /// Verifies the installation after a restart; none where nobody wants that.
    pub verify: Option<Verify<'a>>,
    /// Whether the gate is to be kept in place ([`Job::persist`]).
    pub persist: bool,
    /// The directory that the programs are to lie in, where it is not the one that they lie in.
    pub directory: Option<&'a Path>,
    /// The manual.
    pub manual: &'a [units::Manual],
    /// What is wrong with the directories that pods' mounts rest on, a sentence each. Where others can write to one, no
    /// pod with a mount from there could be evaluated.
    pub anchor_faults: &'a [String],
}

impl Job<'_> {
    /// The engine's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.installer.engine.name()
    }

    /// Installs the gate, restarts the engine and verifies, as far as that is asked for. What was there before is kept until
    /// [`before::forget`], after the last engine.
    pub fn install(&self, wish: &Wish<'_>, report: Report<'_>) -> Result<Done, Failure> {
        let Self { node, installer, .. } = *self;
        // All that is refused is refused here, and leaves the node as it is.
        let mut named = None;
        let prepared = self.prepare(wish, &mut named)?;
        if !prepared.plan.changes.is_empty() || prepared.other.is_some() {
            self.may_restart()?;
        }
        report(Step::Begins(prepared.request.method));
        let store = Store::open(node)?;
        // Another run can have come and gone meanwhile: then the plan is for a node that there is no more.
        store.is_unchanged(self.name(), prepared.installed.as_ref())?;
        let mut run = Run { request: prepared.request, before: self.running(), is_restarted: false };
        let written = through(node, |_| {
            if prepared.changes(node) || before::is_begun(node) {
                let plans = [&prepared.plan, &prepared.system.plan];
                before::keep(&store, installer.engine, prepared.installed.as_ref(), plans)?;
            }
            Ok::<_, Failure>(self.write(&store, prepared, wish, &run, report))
        })?;
        drop(store);
        match written {
            Ok(()) => self.prove(wish, &mut run, report),
            Err(failure) => Err(self.take_back(&run, failure, report)),
        }
    }

    /// Whether the gate is kept in place of what writes the engine's configuration again.
    pub fn is_persisted(&self) -> Result<bool, Failure> {
        Ok(manifest(self.node, &persist::name(self.installer.engine))?.is_some())
    }

    /// Keeps the gate in place of what writes the engine's configuration again. It is installed by now.
    pub fn persist(&self, report: Report<'_>) -> Result<(), Failure> {
        let Self { node, installer, distribution, .. } = *self;
        let not_kept = |failure: Failure| failure.and("the gate is installed, and not kept in place");
        let Some(installed) = manifest(node, self.name())? else { return Ok(()) };
        let plan = persist::plan(node, installer.engine, distribution, &installed)
            .map_err(|error| not_kept(error.into()))?;
        if !plan.changes.is_empty() {
            let store = Store::open(node)?;
            store
                .apply(&persist::name(installer.engine), None, &plan, strip_whole)
                .map_err(|error| not_kept(error.into()))?;
            wrote(&plan, report);
        }
        if !persist::is_by_distribution(distribution, installer.engine) {
            for complaint in units::watch(node) {
                report(Step::NotDone(&escape(&complaint)));
            }
        }
        Ok(())
    }

    /// Lets go of what keeps the gate in place, before it is removed: it would bring it back.
    pub(super) fn persist_no_longer(&self, store: &Store<'_>, report: Report<'_>) -> Result<(), Failure> {
        let (done, errors) = store.undo(&persist::name(self.installer.engine), strip_whole, false);
        for (path, undone) in &done {
            report(Step::Undid(path, *undone));
        }
        let was_watched = done.iter().any(|(path, _)| units::is_of_a_unit(path));
        if was_watched {
            let is_needed = installations(self.node).iter().any(|name| name.starts_with(persist::PREFIX));
            let complaints = if is_needed { Vec::new() } else { units::unwatch(self.node) };
            for complaint in complaints.iter().chain(&units::reload(self.node)) {
                report(Step::NotDone(&escape(complaint)));
            }
        }
        errors.into_iter().next().map_or(Ok(()), |error| Err(error.into()))
    }

    /// Writes everything. What fails here leaves the rest undone.
    fn write(
        &self,
        store: &Store<'_>,
        prepared: Prepared<'_>,
        wish: &Wish<'_>,
        run: &Run<'_>,
        report: Report<'_>,
    ) -> Result<(), Failure> {
        let Self { node, installer, .. } = *self;
        let Prepared {
            request,
            directory,
            installed,
            other,
            mut plan,
            hooks,
            left,
            command,
            kubelet_root,
            ..
        } = prepared;
        // Programs first: a configuration may only ever name what is there.
        let mut changed = put(node, &directory, report)?;
        changed |= put(node, &programs::gate(), report)?;
        if !programs::gate_runs(node) {
            return Err(Failure::new(format!(
                "{GATE} was installed but does not run, so no container would start; is its file system \
                 mounted noexec? The engine was not changed"
            )));
        }
        if !programs::publish_formats(node) {
            report(Step::NotDone(concat!(
                "the gate has not published its formats (pss-guard-gate publish-formats); what the tool writes for it is of ",
                "the oldest"
            )));
        }
        // Before any container starts through the gate: with the wrong root each of its volumes would be a path of the host.
        if let Some(root) = &kubelet_root
            && kubelet_root::record(&Paths::under(node.root()), root)?
        {
            let record = Paths::default().kubelet_root();
            let is_there = node.place(&record).exists();
            report(if is_there { Step::Wrote(&record) } else { Step::Removed(&record) });
        }
        if let Some(other) = other {
            self.undo(store, installed.as_ref(), &run.before, report)?;
            report(Step::RemovedMethod(other));
            plan = (installer.plan)(node, &request)?;
        }
        for link in programs::entries(installer.engine, &plan.entries) {
            changed |= put(node, &link, report)?;
        }
        programs::bring_over(node)?;
        put(node, &programs::tool(), report)?;
        if let Some(lost) = labels::keep(node) {
            report(Step::NotDone(&escape(&lost)));
        }
        match command {
            Ok(both) => {
                if let Err(failure) = both.iter().try_for_each(|piece| put(node, piece, report).map(drop)) {
                    report(Step::NotOnPath(&failure.says));
                }
            }
            Err(own) => report(Step::Elsewhere(&own)),
        }
        let system = prepared::System::of(node, wish.manual)?;
        for path in &system.kept {
            report(Step::KeptEdited(path));
        }
        if !system.plan.changes.is_empty() {
            // No container needs any of it: where `/usr` is sealed, the gate comes without.
            match store.apply(units::NAME, None, &system.plan, strip_whole) {
                Ok(()) => wrote(&system.plan, report),
                Err(error) => report(Step::NotDone(&line(&error))),
            }
            for complaint in units::enable(node) {
                report(Step::NotDone(&escape(&complaint)));
            }
        }
        let is_new = installed.is_none() || other.is_some();
        self.apply(store, &request, &plan, (installed.as_ref().filter(|_| !is_new), &left), run, report)?;
        hook::read_again(node, &hooks, report);
        changed |= !hooks.is_empty();
        // The text of the policy is the last good one from here on, and not only since the first container.
        let was_kept = policy_is_kept(node);
        cache::keep_now(&Paths::under(node.root()));
        if !was_kept && policy_is_kept(node) {
            report(Step::Wrote(&Paths::default().kept_policy()));
        }
        wrote(&plan, report);
        if !changed && !is_new && plan.changes.is_empty() {
            report(Step::Unchanged);
        }
        for open in &plan.open {
            report(Step::Open(open));
        }
        if let Some(why) = &plan.not_compared {
            report(Step::NotCompared(why));
        }
        if is_new && installer.engine == Engine::Containerd && request.method == Method::Runtime {
            report(Step::OlderPods);
        }
        Ok(())
    }

    /// Writes the engine's files. `installed` is what is installed by this method; `left`, what is that without a record.
    fn apply(
        &self,
        store: &Store<'_>,
        request: &Request<'_>,
        plan: &Plan,
        (installed, left): (Option<&Manifest>, &[Left]),
        run: &Run<'_>,
        report: Report<'_>,
    ) -> Result<(), Failure> {
        let Self { node, installer, .. } = *self;
        if plan.changes.is_empty() && installed.is_some_and(|old| old.entries == plan.entries) {
            return Ok(());
        }
        if node.is_running() && (installed.is_none() || !plan.changes.is_empty()) {
            // Without it status goes by the clock.
            let _ = programs::keep_unread(node, installer.engine, &run.before);
        }
        if !left.is_empty() {
            store.adopt(self.name(), request, plan, left)?;
        }
        store.apply(self.name(), Some(request), plan, installer.strip)?;
        self.reload_units(plan.changes.iter().map(|change| change.path.as_path()), report);
        Ok(())
    }

    /// How the engine is restarted; `None` where it need not be, or nobody is asked to.
    #[must_use]
    pub fn how(&self, method: Option<Method>, after_install: bool) -> Option<Restart<'_>> {
        self.how_if(self.needs_restart(method), after_install)
    }

    /// Whether the engine only sees its files after a restart.
    pub(super) fn needs_restart(&self, method: Option<Method>) -> bool {
        method.is_none_or(|method| self.installer.needs_restart(method)) || self.is_unwatched()
    }

    /// Whether CRI-O runs, and watches no folder of its hook: one that came later, or that its configuration did not name.
    fn is_unwatched(&self) -> bool {
        let files =
            if self.installer.engine == Engine::CriO { hook::of_crio(self.node) } else { Ok(Vec::new()) };
        let files = files.unwrap_or_default();
        self.running().iter().any(|process| hook::is_unwatched(process, &files))
    }

    fn how_if(&self, needed: bool, after_install: bool) -> Option<Restart<'_>> {
        match (self.restart_command, self.unit()) {
            _ if !needed || !self.restart => None,
            (Some(command), _) => Some(Restart::Command(command)),
            _ if self.restarts_by_itself() => Some(Restart::Itself(self.distribution.name)),
            // A restart of docker stops its containers where live-restore is off; new runtimes need only a reload.
            (None, Some(unit)) if after_install && self.installer.engine == Engine::Docker => {
                Some(Restart::Reload(unit))
            }
            (None, unit) => unit.map(Restart::Unit),
        }
    }

    /// Restarts the engine, if that is asked for.
    pub(super) fn restart_engine(
        &self,
        method: Option<Method>,
        after_install: bool,
    ) -> Result<(), RestartError> {
        self.how(method, after_install).map_or(Ok(()), |how| restart(how, PATIENCE))
    }

    /// Restarts the engine after its files were undone, if that is asked for. Those that ran `before` that have read them; one
    /// that is restarted by its distribution is waited for.
    pub(super) fn restart_without_gate(&self, needed: bool, before: &[Process]) -> Result<(), RestartError> {
        let Some(how) = self.how_if(needed, false) else { return Ok(()) };
        let Restart::Itself(who) = how else { return restart(how, PATIENCE) };
        let is_old = |now: &Process| before.iter().any(|old| (old.pid, old.birth) == (now.pid, now.birth));
        let end = Instant::now() + ITSELF;
        while self.is_down() || self.running().iter().any(is_old) {
            if Instant::now() >= end {
                return Err(RestartError::Silent { who: who.to_owned() });
            }
            thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    /// The systemd unit that restarts the engine, where that is known.
    fn unit(&self) -> Option<&'static str> {
        if self.installer.engine == Engine::Containerd { self.distribution.unit } else { self.installer.unit }
    }

    /// Whether the engine is restarted by what its configuration is written into, as soon as that changes.
    fn restarts_by_itself(&self) -> bool {
        self.installer.engine == Engine::Containerd
            && matches!(self.distribution.change, Change::DropIn { restarts: true })
            && self.node.is_running()
            && !self.is_down()
    }

    /// Nobody is to be surprised by a restart.
    fn may_restart(&self) -> Result<(), Failure> {
        if self.restart || !self.restarts_by_itself() {
            return Ok(());
        }
        Err(Failure::new(format!(
            "{0} restarts {1} by itself as soon as a drop-in changes; use --restart to have that done, or --dry-run to see \
             what would change",
            self.distribution.name,
            self.name()
        )))
    }

    /// Has systemd read its units again, if one of these files is a part of one.
    fn reload_units<'p>(&self, mut paths: impl Iterator<Item = &'p Path>, report: Report<'_>) {
        if paths.any(units::is_of_a_unit) {
            for complaint in units::reload(self.node) {
                report(Step::NotDone(&escape(&complaint)));
            }
        }
    }

    /// Whose engine systemd cannot be asked to restart from here.
    pub(super) fn reaches_engine(&self) -> Result<(), Failure> {
        if !self.restart || self.restart_command.is_some() || self.restarts_by_itself() {
            return Ok(());
        }
        let unit = self.unit();
        let script = |unit: &str| {
            let name = unit.trim_end_matches(".service").to_owned();
            self.node.is_program(&Path::new("/etc/init.d").join(&name)).then_some(name)
        };
        let has_systemd = self.node.find("systemctl").is_some();
        let of_openrc = || unit.and_then(script).or_else(|| self.distribution.scripts().find_map(script));
        if self.node.is_running()
            && !has_systemd
            && let Some(script) = of_openrc()
        {
            return Err(Failure::new(format!(
                "there is no systemd here; name the command that restarts {}: --restart-command 'rc-service {script} restart'",
                self.name()
            )));
        }
        match unit {
            None if self.installer.engine == Engine::Containerd => Err(Failure::new(format!(
                "the unit of {} that restarts {} is not known: there is none, or more than one; name a command that restarts \
                 it with --restart-command",
                self.distribution.name,
                self.name()
            ))),
            Some(unit) if !self.node.is_running() => Err(Failure::new(format!(
                "--restart does not reach the {name} of another root directory; leave it out and restart {name} there, \
                 or name a command that does: --restart-command 'nsenter -t 1 -m -- systemctl restart {unit}', where \
                 process 1 is the node's",
                name = self.name()
            ))),
            _ => Ok(()),
        }
    }

    /// Whether no process of the engine runs.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.running().is_empty()
    }

    /// The engine's own processes.
    fn running(&self) -> Vec<Process> {
        self.processes.running(detect::daemon(self.installer.engine).programs)
    }
}

/// The distribution by which an engine's installation goes. What is installed goes by what was written down then, as long as
/// the files are elsewhere now: they are those that uninstall and status have to find. The program is always today's.
#[must_use]
pub fn distribution_of(installed: Option<&Distribution>, recognized: &Distribution) -> Distribution {
    let by = installed.filter(|installed| installed.config != recognized.config).unwrap_or(recognized);
    Distribution { containerd: recognized.containerd.clone(), ..by.clone() }
}

/// In a sentence, if an installation goes [`by`](distribution_of) the files of a distribution that the node is no longer. A
/// name that changes alone says nothing: that of Cluster API comes from a file in `/run`, which a boot removes.
#[must_use]
pub fn another_distribution(by: &Distribution, recognized: &str) -> Option<String> {
    (by.name != recognized).then(|| {
        format!(
            "the gate was installed for containerd of {}, and this node is {recognized} now; `pss-guard uninstall --engine \
             containerd`, then install again",
            by.name
        )
    })
}

/// Puts something on the node, and reports it.
fn put(node: &Live, piece: &programs::Piece, report: Report<'_>) -> Result<bool, Failure> {
    let changed = piece.put(node)?;
    if changed {
        report(Step::Wrote(piece.path()));
    }
    Ok(changed)
}

fn wrote(plan: &Plan, report: Report<'_>) {
    for change in &plan.changes {
        report(Step::Wrote(&change.path));
    }
}
