//! Restarts the engine, proves with two probes that the gate is active, and rolls back what fails.

use std::path::Path;
use std::time::{Duration, Instant};

use super::{Done, Failure, Job, Outcome, Report, Step, Wish, sweep};
use crate::install::before::{self, Before};
use crate::install::restart::{ITSELF, RELOAD, Restart, RestartError};
use crate::install::standing::through;
use crate::install::transaction::{self, Store, manifest};
use crate::install::{Request, detect, programs, units};
use crate::message::{escape, line};
use crate::node::host::Node as _;
use crate::node::procfs::Process;
use crate::pss::facts::Engine;

/// What a run does.
pub(super) struct Run<'a> {
    pub(super) request: Request<'a>,
    /// The engine's processes before anything was written.
    pub(super) before: Vec<Process>,
    /// Whether the engine was told to read what was written.
    pub(super) is_restarted: bool,
}

impl Job<'_> {
    /// Restarts the engine if that is asked for, and sees whether the gate is active.
    pub(super) fn prove(
        &self,
        wish: &Wish<'_>,
        run: &mut Run<'_>,
        report: Report<'_>,
    ) -> Result<Done, Failure> {
        let method = run.request.method;
        if !self.restart {
            if let Some(unit) = self.unit().filter(|_| self.has_yet_to_read(&run.request)) {
                report(Step::ActiveAfterRestart(unit));
            }
            return Ok(Done::Installed);
        }
        run.is_restarted = true;
        if let Err(error) = self.restart_engine(Some(method), true) {
            let failure = Failure::of_restart(&error, self.name(), self.restart_command.is_some());
            return Err(self.take_back(run, failure, report));
        }
        if let Some(says) = self.was_not_restarted(&run.request) {
            return Err(self.take_back(run, Failure::new(says), report));
        }
        let Some(verify) = wish.verify else { return Ok(Done::Installed) };
        if !self.node.is_running() {
            report(Step::NotShown(
                "that it evaluates containers. Probes run on the node itself, and this is another root directory; \
                 --no-probe skips them",
            ));
            return Ok(Done::Unproven);
        }
        match verify(self.installer, &run.request) {
            Outcome::Verified(seen) => {
                for seen in &seen {
                    report(Step::Seen(seen));
                }
                Ok(Done::Installed)
            }
            Outcome::Unproven { seen, missing } => {
                for seen in &seen {
                    report(Step::Seen(seen));
                }
                for missing in &missing {
                    report(Step::NotShown(missing));
                }
                Ok(Done::Unproven)
            }
            Outcome::Failed(reason) => Err(self.take_back(run, Failure::new(reason), report)),
        }
    }

    /// Whether a process of the engine runs that goes by what was there before.
    fn has_yet_to_read(&self, request: &Request<'_>) -> bool {
        let (node, engine) = (self.node, self.installer.engine);
        if !self.installer.needs_restart(request.method) {
            return self.is_unwatched();
        }
        let daemon = detect::daemon(engine);
        let usual = match engine {
            Engine::Containerd => request.distribution.read_with_gate(),
            _ => Path::new(daemon.config),
        };
        let config = node.place(request.config.unwrap_or(usual));
        let changed = transaction::changed(node, self.name());
        let is_older = |process: &Process| {
            let by_clock = || changed.is_none_or(|at| process.started + Duration::from_millis(50) < at);
            programs::is_unread(node, engine, process).unwrap_or_else(by_clock)
        };
        let running = self.running();
        let mut ours = running.iter().filter(|process| process.shares(&daemon.config_of(process), &config));
        ours.any(is_older) && !self.was_reloaded()
    }

    /// In a sentence, if a restart that went well was none: a command can end before it has done what it is for, and can
    /// do something else.
    pub(super) fn was_not_restarted(&self, request: &Request<'_>) -> Option<String> {
        let how = self.how(Some(request.method), true)?;
        let by_itself = matches!(how, Restart::Itself(_));
        let end = Instant::now() + if by_itself { ITSELF } else { RELOAD };
        // One that is restarted by another process is gone for a moment.
        while self.has_yet_to_read(request) || (by_itself && self.is_down()) {
            if Instant::now() >= end {
                if by_itself && self.is_down() {
                    return Some(format!("{} was stopped, and does not come back", self.name()));
                }
                let pids: Vec<String> =
                    self.running().iter().map(|process| process.pid.to_string()).collect();
                let done = match how {
                    Restart::Itself(_) => format!("{how}: it"),
                    _ => format!("`{how}` succeeded, but"),
                };
                return Some(format!(
                    "{done} did not restart {}: process {} was there before",
                    self.name(),
                    pids.join(", ")
                ));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        None
    }

    /// docker reads its runtimes without a restart, when it is told to.
    fn was_reloaded(&self) -> bool {
        let docker = self.node.find("docker").filter(|_| self.installer.engine == Engine::Docker);
        let asks = ["info", "--format", "{{json .Runtimes}}"];
        let said = docker.and_then(|docker| self.node.output(&docker, &asks)).unwrap_or_default();
        said.contains(&*programs::entries_of(Engine::Docker).to_string_lossy())
    }

    /// Goes back to what was there before a run that failed: the installation of before, or none. Says what the node is now.
    pub(super) fn take_back(&self, run: &Run<'_>, failure: Failure, report: Report<'_>) -> Failure {
        let before = match before::of(self.node, self.installer.engine) {
            // This run has done nothing that could be to blame, and a node without its gate is no way back.
            Ok(Before::Unchanged) => {
                let failure = failure.and("the gate was installed before, and stays installed");
                return Failure { stays: true, ..failure };
            }
            Ok(before) => before,
            Err(error) => {
                let failure = failure.and(format!("it cannot be rolled back: {}", line(&error)));
                return Failure { is_unfinished: true, ..failure };
            }
        };
        let of_programs = before::has_programs(self.node).unwrap_or(true);
        let (done, what) = if before == Before::Installation {
            (self.go_back(run, report), "the previous installation was restored")
        } else {
            (self.undo_run(run, report), "the installation was rolled back")
        };
        let failure = Failure { of_programs, ..failure };
        match done {
            Ok(state) => failure.and(format!("{what}; {state}")),
            Err(error) => {
                let failure = Failure { is_unfinished: true, ..failure };
                let (name, own) = (self.name(), std::env::args().next());
                let own = escape(&own.unwrap_or_else(|| "pss-guard".to_owned()));
                let failed = format!("rolling the installation back failed: {}", error.says);
                failure.and(if before == Before::Installation {
                    format!("{failed}; `{own} install --engine {name}` finishes what was begun, `{own} uninstall --engine {name}` removes it")
                } else {
                    format!("{failed}; `{own} uninstall --engine {name}` tries again")
                })
            }
        }
    }

    /// Whether nothing of a run has reached the engine. containerd reads its files when it starts, and never again: as long as
    /// it is the same process it goes by those of before.
    fn is_untouched(&self, run: &Run<'_>) -> bool {
        let ids =
            |all: &[Process]| all.iter().map(|process| (process.pid, process.birth)).collect::<Vec<_>>();
        !run.is_restarted
            || (self.installer.engine == Engine::Containerd
                && self.how(Some(run.request.method), true).is_some()
                && !run.before.is_empty()
                && ids(&run.before) == ids(&self.running()))
    }

    /// Puts back what was installed before. In a sentence: by which configuration the engine runs now.
    fn go_back(&self, run: &Run<'_>, report: Report<'_>) -> Result<String, Failure> {
        let engine = self.installer.engine;
        let untouched = self.is_untouched(run);
        let store = Store::open(self.node)?;
        self.put_back(&store, report)?;
        if !untouched && self.node.is_running() {
            // Those that run have read what has just gone.
            let _ = programs::keep_unread(self.node, engine, &self.running());
        }
        let method = manifest(self.node, self.name())?.and_then(|installed| installed.method);
        let restarted = if untouched { Ok(()) } else { self.restart_engine(method, true) };
        let stale = "until it is restarted, it runs with the configuration of the upgrade";
        Ok(self.state(run, untouched, restarted, ["the previous configuration", stale]))
    }

    fn put_back(&self, store: &Store<'_>, report: Report<'_>) -> Result<(), Failure> {
        let done = through(self.node, |_| before::go_back(store, self.installer.engine))?;
        for (path, what) in &done {
            report(Step::PutBack(path, *what));
        }
        if !done.is_empty() {
            // The gate that stands now may read other formats than the one that has just gone.
            let _ = programs::publish_formats(self.node);
            for complaint in units::enable(self.node) {
                report(Step::NotDone(&escape(&complaint)));
            }
        }
        Ok(())
    }

    /// In a sentence: by which configuration the engine runs now.
    fn undo_run(&self, run: &Run<'_>, report: Report<'_>) -> Result<String, Failure> {
        let method = run.request.method;
        let untouched = self.is_untouched(run);
        let installed = manifest(self.node, self.name())?;
        let store = Store::open(self.node)?;
        let callers = if untouched { Vec::new() } else { self.running() };
        let needed = self.needs_restart(Some(method));
        self.undo(&store, installed.as_ref(), &callers, report)?;
        let restarted = if untouched { Ok(()) } else { self.restart_without_gate(needed, &callers) };
        self.clear((Some(method), needed), report)?;
        // The programs, if another engine has the gate.
        self.put_back(&store, report)?;
        drop(store);
        sweep(self.node, self.processes, report)?;
        let stale = "until it is restarted, what it starts uses the configuration that was rolled back, and bypasses the gate";
        Ok(self.state(run, untouched, restarted, ["its own configuration", stale]))
    }

    /// What the engine runs with now, in a sentence.
    fn state(
        &self,
        run: &Run<'_>,
        untouched: bool,
        restarted: Result<(), RestartError>,
        [with, stale]: [&str; 2],
    ) -> String {
        let name = self.name();
        let is_down = || self.node.is_running() && self.is_down();
        match restarted {
            Err(error) => {
                let now = match (self.node.is_running(), is_down()) {
                    (false, _) => "the configuration that it runs with cannot be seen from here",
                    (true, true) => "it does not run",
                    (true, false) => stale,
                };
                format!("restarting {name} with {with} failed as well ({}): {now}", line(&error))
            }
            Ok(()) if untouched => format!("{name} was not restarted, and runs with {with}"),
            Ok(()) if self.how(Some(run.request.method), true).is_none() => format!("{name} uses {with}"),
            Ok(()) if is_down() => format!("{name} was restarted with {with}, and does not run"),
            Ok(()) => format!("{name} was restarted with {with}"),
        }
    }
}
