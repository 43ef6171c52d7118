//! `pss-guard install`: installs the gate for an engine.
//!
//! ```text
//!  the node ─► Prepared: all that is going to be done, or why nothing is ─┬─► --dry-run: shows it
//!                                                                         └─► install: does it, and proves it
//! ```

mod prepared;
mod proof;

use std::error::Error;
use std::io::{self, Write};
use std::path::Path;

use nix::unistd::geteuid;
use similar::TextDiff;

use super::uninstall::{sweep, tell};
use super::{FAILED, OK, faults_of_anchors, line};
use crate::install::detect::{self, detect};
use crate::install::transaction::{Manifest, Store, Strip, strip_whole};
use crate::install::{GATE, Installer, Method, before, engines, programs, units};
use crate::level::cache;
use crate::message::escape;
use crate::node::host::Live;
use crate::node::procfs::{Process, Processes};
use crate::paths::Paths;
use crate::pss::facts::Engine;
use crate::verify::{Patience, Restart, RestartError, restart};
use prepared::Prepared;

/// Exit code: the gate is installed, but nobody has seen it work.
pub const UNPROVEN: u8 = 1;

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// For which engine; none means all that are there.
    pub engine: Option<Engine>,
    /// By which method, where it is not the engine's usual one.
    pub method: Option<Method>,
    /// The engine's configuration file, where it is not the usual one.
    pub config: Option<&'a Path>,
    /// Show what would change, and change nothing.
    pub dry_run: bool,
    /// Restart the engine afterwards, and see whether it works.
    pub restart: bool,
    /// How to restart it, where systemd is not to be asked.
    pub restart_command: Option<&'a str>,
    /// Start containers to see whether they are judged.
    pub probe: bool,
}

/// Why something was not done, or not as it should be.
#[derive(Debug)]
pub(super) struct Failure {
    /// The exit code.
    code: u8,
    /// What is wrong, in a line.
    says: String,
    /// What a program printed, line by line.
    printed: Vec<String>,
    /// What follows from it, a sentence each.
    more: Vec<String>,
    /// Whether it says something of the programs, which all engines share: no other engine is to get them then.
    ends: bool,
}

impl Failure {
    pub(super) fn new(says: impl AsRef<str>) -> Self {
        Self { code: FAILED, says: escape(says.as_ref()), printed: Vec::new(), more: Vec::new(), ends: false }
    }

    /// A restart that failed, and the way out.
    pub(super) fn of_restart(error: &RestartError, engine: &str, by_command: bool) -> Self {
        let mut failure = Self { printed: error.said().to_vec(), ..Self::new(line(error)) };
        if !by_command {
            failure
                .more
                .push(format!("use --restart-command to name another command that restarts {engine}"));
        }
        failure
    }

    pub(super) fn and(mut self, sentence: impl AsRef<str>) -> Self {
        self.more.push(escape(sentence.as_ref()));
        self
    }

    /// Says it; gives the exit code. `whose` is the engine, where it is one engine's.
    pub(super) fn tell(&self, whose: Option<&str>, err: &mut dyn Write) -> u8 {
        let whose = whose.map(|whose| format!("{whose}: ")).unwrap_or_default();
        let colon = if self.printed.is_empty() { "" } else { "; it said:" };
        let _ = writeln!(err, "pss-guard: {whose}{}{colon}", self.says);
        for line in &self.printed {
            let _ = writeln!(err, "    {line}");
        }
        for sentence in &self.more {
            let _ = writeln!(err, "  {sentence}");
        }
        self.code
    }
}

impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(line(&error))
    }
}

/// Only root can look at all that an answer rests on, and change it. Whose another root directory is, is not known.
pub(super) fn as_root(node: &Live, what: &str) -> Result<(), Failure> {
    let user = geteuid();
    if !node.is_running() || user.is_root() {
        return Ok(());
    }
    Err(Failure::new(format!("{what} as root: only root can change engines' files, and this is uid {user}")))
}

/// Installs the gate.
pub fn install(root: &Path, options: &Options<'_>, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let node = Live::under(root);
    let processes = Processes::of(root);
    let engines = match as_root(&node, "install").and_then(|()| wanted(&node, &processes, options, err)) {
        Ok(engines) => engines,
        Err(failure) => return failure.tell(None, err),
    };
    if engines.is_empty() {
        let says = "no supported container engine was found on this node";
        return Failure::new(says).tell(None, err);
    }
    let mut code = OK;
    let mut engines = engines.into_iter();
    for installer in engines.by_ref() {
        let job = Job { node: &node, processes: &processes, installer, options };
        match job.install(out) {
            Ok(one) => code = code.max(one),
            Err(failure) => {
                code = code.max(failure.tell(Some(installer.engine.name()), err));
                // Otherwise the next engine of a node has nothing to do with what is wrong with this one.
                if failure.ends {
                    break;
                }
            }
        }
    }
    for installer in engines {
        let _ = writeln!(
            err,
            "pss-guard: {}: not tried, because the same programs failed",
            installer.engine.name()
        );
    }
    code
}

/// The installers that are asked for.
fn wanted(
    node: &Live,
    processes: &Processes,
    options: &Options<'_>,
    err: &mut dyn Write,
) -> Result<Vec<&'static Installer>, Failure> {
    if let Some(engine) = options.engine {
        return Ok(engines::of(engine).into_iter().collect());
    }
    let detected = detect(node, processes)?;
    for left in &detected.left {
        let _ = writeln!(err, "pss-guard: left alone: {left}");
    }
    Ok(detected.engines.into_iter().filter_map(engines::of).collect())
}

/// Where others can write to a directory that pods' mounts rest on, no pod with a mount from there could be judged.
fn anchors_hold(node: &Live) -> Result<(), Failure> {
    let faults = if node.is_running() { faults_of_anchors(&Paths::default()) } else { Vec::new() };
    let said: Vec<String> = faults.iter().map(|fault| line(fault)).collect();
    if said.is_empty() { Ok(()) } else { Err(Failure::new(said.join("; "))) }
}

/// One engine.
pub(super) struct Job<'a> {
    pub(super) node: &'a Live,
    pub(super) processes: &'a Processes,
    pub(super) installer: &'static Installer,
    pub(super) options: &'a Options<'a>,
}

impl Job<'_> {
    pub(super) fn name(&self) -> &'static str {
        self.installer.engine.name()
    }

    fn install(&self, out: &mut dyn Write) -> Result<u8, Failure> {
        let Self { node, installer, .. } = *self;
        // All that is refused is refused here, and leaves the node as it is.
        let mut named = None;
        let prepared = self.prepare(&mut named)?;
        writeln!(out, "{}, {} method", self.name(), prepared.request.method)?;
        if self.options.dry_run {
            prepared.show(self, out)?;
            return Ok(OK);
        }
        let store = Store::open(node)?;
        // Another run can have come and gone meanwhile: then the plan is for a node that there is no more.
        store.is_unchanged(self.name(), prepared.installed.as_ref())?;
        if prepared.changes(node) {
            before::keep(
                &store,
                installer.engine,
                prepared.installed.as_ref(),
                [&prepared.plan, &prepared.system.plan],
            )?;
        }
        let mut run = proof::Run { request: prepared.request, before: self.running(), is_restarted: false };
        let written = self.write(&store, prepared, &run, out);
        drop(store);
        let code = match written {
            Ok(()) => self.prove(&mut run, out)?,
            Err(failure) => return self.take_back(&run, failure, out),
        };
        before::forget(node)?;
        Ok(code)
    }

    /// Writes everything. What fails here leaves the rest undone.
    fn write(
        &self,
        store: &Store<'_>,
        prepared: Prepared<'_>,
        run: &proof::Run<'_>,
        out: &mut dyn Write,
    ) -> Result<(), Failure> {
        let Self { node, installer, .. } = *self;
        let Prepared { request, installed, other, mut plan, command, .. } = prepared;
        // Programs first: a configuration may only ever name what is there.
        let mut changed = put(node, &programs::gate(), out)?;
        if !programs::gate_runs(node) {
            return Err(Failure::new(format!(
                "{GATE} was installed but does not run, so no container would start; is its file system \
                 mounted noexec? The engine was not changed"
            )));
        }
        if let Some(other) = other {
            self.undo(store, installed.as_ref(), &run.before, out)?;
            writeln!(out, "  removed the {other} method")?;
            plan = (installer.plan)(node, &request)?;
        }
        for link in programs::entries(installer.engine, &plan.entries) {
            changed |= put(node, &link, out)?;
        }
        programs::bring_over(node)?;
        put(node, &programs::tool(), out)?;
        match command {
            Ok(both) => {
                if let Err(failure) = both.iter().try_for_each(|piece| put(node, piece, out).map(drop)) {
                    writeln!(out, "  not installed on the PATH: {}", failure.says)?;
                }
            }
            Err(own) => prepared::where_it_is(&own, out)?,
        }
        let system = prepared::System::of(node)?;
        system.tell_kept(out)?;
        if !system.plan.changes.is_empty() {
            // No container needs any of it: where `/usr` is sealed, the gate comes without.
            match store.apply(units::NAME, None, &system.plan, strip_whole) {
                Ok(()) => wrote(&system.plan, out)?,
                Err(error) => writeln!(out, "  not done: {}", line(&error))?,
            }
            for complaint in units::enable(node) {
                writeln!(out, "  not done: {}", escape(&complaint))?;
            }
        }
        let is_new = installed.is_none() || other.is_some();
        if is_new
            || !plan.changes.is_empty()
            || installed.as_ref().is_some_and(|old| old.entries != plan.entries)
        {
            if node.is_running() && (is_new || !plan.changes.is_empty()) {
                // Without it status goes by the clock.
                let _ = programs::keep_unread(node, installer.engine, &run.before);
            }
            store.apply(self.name(), Some(&request), &plan, installer.strip)?;
        }
        // The text of the policy is the last good one from here on, and not only since the first container.
        let was_kept = prepared::policy_is_kept(node);
        cache::keep_now(&Paths::under(node.root()));
        if !was_kept && prepared::policy_is_kept(node) {
            writeln!(out, "  wrote {}", Paths::default().kept_policy().display())?;
        }
        wrote(&plan, out)?;
        if !changed && !is_new && plan.changes.is_empty() {
            writeln!(out, "  already installed; nothing changed")?;
        }
        for open in &plan.open {
            writeln!(out, "  open: {}", escape(open))?;
        }
        if is_new && installer.engine == Engine::Containerd && request.method == Method::Runtime {
            self.tell_older(out)?;
        }
        Ok(())
    }

    /// How the engine is restarted; `None` where it need not be, or nobody is asked to.
    pub(super) fn how(&self, method: Option<Method>, after_install: bool) -> Option<Restart<'_>> {
        let needed = method.is_none_or(|method| self.installer.needs_restart(method));
        match (self.options.restart_command, self.installer.unit) {
            _ if !needed || !self.options.restart => None,
            (Some(command), _) => Some(Restart::Command(command)),
            // A restart of docker stops its containers where live-restore is off; new runtimes need only a reload.
            (None, Some(unit)) if after_install && self.installer.engine == Engine::Docker => {
                Some(Restart::Reload(unit))
            }
            (None, unit) => unit.map(Restart::Unit),
        }
    }

    /// Restarts the engine, if that is asked for.
    pub(super) fn restart(&self, method: Option<Method>, after_install: bool) -> Result<(), RestartError> {
        self.how(method, after_install).map_or(Ok(()), |how| restart(how, Patience::default()))
    }

    /// Whose engine systemd cannot be asked to restart from here.
    pub(super) fn reaches_engine(&self) -> Result<(), Failure> {
        let Options { restart, restart_command, .. } = self.options;
        let unit = self.installer.unit.filter(|_| *restart && restart_command.is_none());
        match unit {
            Some(unit) if !self.node.is_running() => Err(Failure::new(format!(
                "--restart does not reach the {name} of another root directory; leave it out and restart {name} there, \
                 or name a command that does: --restart-command 'nsenter -t 1 -m -- systemctl restart {unit}', where \
                 process 1 is the node's",
                name = self.name()
            ))),
            _ => Ok(()),
        }
    }

    /// Makes the engine's files what they were, and its entries the real runtimes. `callers` may have read the
    /// configuration of before.
    pub(super) fn undo(
        &self,
        store: &Store<'_>,
        installed: Option<&Manifest>,
        callers: &[Process],
        out: &mut dyn Write,
    ) -> Result<(), Failure> {
        let held = installed.is_some_and(|installed| self.is_held(installed));
        let strip: Strip = self.installer.strip;
        let (done, errors) = store.undo(self.name(), strip, held);
        tell(&done, out)?;
        if let Some(error) = errors.into_iter().next() {
            return Err(error.into());
        }
        let engine = self.installer.engine;
        // A run that only comes back for what is left must not take an engine that was restarted since for one of them.
        if installed.is_some() || programs::lead_to_gate(self.node, engine) {
            programs::keep_entries(self.node, engine, callers)?;
        }
        Ok(programs::open(self.node, engine)?)
    }

    /// The engine's own processes.
    pub(super) fn running(&self) -> Vec<Process> {
        self.processes.running(detect::daemon(self.installer.engine).programs)
    }
}

/// Puts something on the node, and says so.
fn put(node: &Live, piece: &programs::Piece, out: &mut dyn Write) -> Result<bool, Failure> {
    let changed = piece.put(node)?;
    if changed {
        writeln!(out, "  wrote {}", piece.path().display())?;
    }
    Ok(changed)
}

fn wrote(plan: &crate::install::Plan, out: &mut dyn Write) -> io::Result<()> {
    plan.changes.iter().try_for_each(|change| writeln!(out, "  wrote {}", change.path.display()))
}

/// How a file would change, as `diff -u` shows it.
pub(super) fn diff(
    path: &Path,
    before: &[u8],
    exists: bool,
    after: Option<&[u8]>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let (old, new) = (String::from_utf8_lossy(before), String::from_utf8_lossy(after.unwrap_or_default()));
    let shown = path.display().to_string();
    let nothing = "/dev/null";
    let diff = TextDiff::from_lines(old.as_ref(), new.as_ref());
    let header = (
        if exists { shown.as_str() } else { nothing },
        if after.is_some() { shown.as_str() } else { nothing },
    );
    write!(out, "{}", diff.unified_diff().context_radius(3).header(header.0, header.1))
}
