//! Restarts the engine, proves with two probes that the gate is active, and rolls back what fails.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{Failure, Job, UNPROVEN, sweep};
use crate::cli::{OK, line};
use crate::install::transaction::{self, Store, manifest};
use crate::install::{Request, detect, programs};
use crate::message::escape;
use crate::node::host::Node as _;
use crate::node::procfs::Process;
use crate::paths::Paths;
use crate::pss::facts::Engine;
use crate::verify::{Outcome, Patience, Verification};

/// What a run has installed.
pub(super) struct Run<'a> {
    pub(super) request: Request<'a>,
    /// Whether nothing was installed before, by this method.
    pub(super) is_new: bool,
    /// Whether this run has changed nothing.
    pub(super) is_as_before: bool,
    /// The engine's processes before anything was written.
    pub(super) before: Vec<Process>,
}

impl Job<'_> {
    /// Restarts the engine if that is asked for, and sees whether the gate is active.
    pub(super) fn prove(&self, run: &Run<'_>, out: &mut dyn Write) -> Result<u8, Failure> {
        let method = run.request.method;
        if !self.options.restart {
            if let Some(unit) = self.installer.unit.filter(|_| self.has_yet_to_read(&run.request)) {
                let name = self.name();
                writeln!(out, "  it is active once {name} is restarted: systemctl restart {unit}")?;
            }
            return Ok(OK);
        }
        let restarted = self.restart(Some(method), true);
        if let Err(error) = restarted {
            let by_command = self.options.restart_command.is_some();
            return self.take_back(run, Failure::of_restart(&error, self.name(), by_command), out);
        }
        if let Some(says) = self.was_not_restarted(&run.request) {
            return self.take_back(run, Failure::new(says), out);
        }
        if !self.options.probe {
            return Ok(OK);
        }
        if !self.node.is_running() {
            writeln!(
                out,
                "  not shown: that it evaluates containers. Probes run on the node itself, and this is \
                 another root directory; --no-probe skips them"
            )?;
            return Ok(UNPROVEN);
        }
        let verification = Verification {
            live: self.node,
            processes: self.processes,
            paths: &Paths::under(self.node.root()),
            engine: self.installer.engine,
            config: run.request.config,
            patience: Patience::default(),
            is_static: cfg!(target_feature = "crt-static"),
        };
        let mut tell = |what: &str, all: &[String]| {
            all.iter().try_for_each(|one| writeln!(out, "  {what}: {}", escape(one)))
        };
        match verification.verify() {
            Outcome::Verified(seen) => tell("seen", &seen).map(|()| OK).map_err(Into::into),
            Outcome::Unproven { seen, missing } => {
                tell("seen", &seen)?;
                tell("not shown", &missing)?;
                Ok(UNPROVEN)
            }
            Outcome::Failed(reason) => self.take_back(run, Failure::new(reason), out),
        }
    }

    /// Whether a process of the engine runs that goes by what was there before.
    fn has_yet_to_read(&self, request: &Request<'_>) -> bool {
        let (node, engine) = (self.node, self.installer.engine);
        if !self.installer.needs_restart(request.method) {
            return false;
        }
        let daemon = detect::daemon(engine);
        let config = node.place(request.config.unwrap_or(Path::new(daemon.config)));
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
    fn was_not_restarted(&self, request: &Request<'_>) -> Option<String> {
        let how = self.how(Some(request.method), true)?;
        let end = Instant::now() + Patience::default().reload;
        while self.has_yet_to_read(request) {
            if Instant::now() >= end {
                let pids: Vec<String> =
                    self.running().iter().map(|process| process.pid.to_string()).collect();
                return Some(format!(
                    "`{how}` succeeded, but did not restart {}: process {} was there before",
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

    /// Takes an installation whose run failed away, a new one and an upgrade alike, and says what the node is now.
    fn take_back(&self, run: &Run<'_>, failure: Failure, out: &mut dyn Write) -> Result<u8, Failure> {
        if run.is_as_before {
            // This run has done nothing that could be to blame, and a node without its gate is no way back.
            let failure = failure.and("the gate was installed before, and stays installed");
            return Err(Failure { code: UNPROVEN, ..failure });
        }
        match self.undo_run(run, out) {
            Ok(state) => Err(failure.and(format!("the installation was rolled back; {state}"))),
            Err(error) => Err(failure.and(format!(
                "rolling the installation back failed: {}; `{} uninstall --engine {}` tries again",
                error.says,
                escape(&std::env::args().next().unwrap_or_else(|| "pss-guard".to_owned())),
                self.name()
            ))),
        }
    }

    /// In a sentence: by which configuration the engine runs now.
    fn undo_run(&self, run: &Run<'_>, out: &mut dyn Write) -> Result<String, Failure> {
        let (name, method) = (self.name(), run.request.method);
        let restarts = self.how(Some(method), true).is_some();
        // containerd reads its files when it starts, and never again. As long as it is the same process, nothing of ours has
        // reached it.
        let runs =
            || self.running().into_iter().map(|process| (process.pid, process.birth)).collect::<Vec<_>>();
        let is_untouched = || {
            let before = run.before.iter().map(|process| (process.pid, process.birth));
            !run.before.is_empty() && before.eq(runs())
        };
        let untouched =
            run.is_new && restarts && self.installer.engine == Engine::Containerd && is_untouched();
        let installed = manifest(self.node, name)?;
        {
            let store = Store::open(self.node)?;
            let callers = if untouched { Vec::new() } else { self.running() };
            self.undo(&store, installed.as_ref(), &callers, out)?;
            let restarted = if untouched { Ok(()) } else { self.restart(Some(method), false) };
            self.clear(Some(method), out)?;
            drop(store);
            sweep(self.node, self.processes, out)?;
            if let Err(error) = restarted {
                let now = match (self.node.is_running(), runs().is_empty()) {
                    (false, _) => "the configuration that it runs with cannot be seen from here",
                    (true, true) => "it does not run",
                    (true, false) => {
                        "until it is restarted, what it starts uses the configuration that was rolled back, \
                         and bypasses the gate"
                    }
                };
                return Ok(format!(
                    "restarting {name} with its own configuration failed as well ({}): {now}",
                    line(&error)
                ));
            }
        }
        Ok(match () {
            () if untouched => format!("{name} was not restarted, and runs with its own configuration"),
            () if !restarts => format!("{name} uses its own configuration"),
            () if self.node.is_running() && runs().is_empty() => {
                format!("{name} was restarted with its own configuration, and does not run")
            }
            () => format!("{name} was restarted with its own configuration"),
        })
    }
}
