//! Does the gate really stand? What was installed, held against what is there now.
//!
//! Each question is answered by one or more [`Check`]s, a sentence each. The worst of them is the answer:
//!
//! | state     | means                                                        | exit code |
//! |-----------|--------------------------------------------------------------|-----------|
//! | `ok`      | as it should be                                              | 0         |
//! | `open`    | a way past the gate, or a part of it that sleeps, by design  | 0         |
//! | `unknown` | it cannot be found out                                       | 2         |
//! | `wrong`   | a container that should pass the gate would not              | 1         |
//!
//! What the installer cannot close (a handler of another kind, a container that started before the gate came) is
//! *open*: it is said every time and does not fail, because nobody could ever make a status right that fails for it,
//! and such a status is soon read by nobody. What should be covered and is not is *wrong*.
//!
//! NRI's `reject_oci_hook_adjustment` (containerd, CRI-O: `nri_validator_…`) is not asked for. Its validator refuses
//! hooks that an NRI plugin claims (`plugins/default-validator`, `Owners.HooksOwner`); those of `hooks.d` and of a base
//! runtime spec are in the container before NRI sees it and have no such owner.

pub mod containers;
mod gate;
mod policy;
mod recorded;

use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::install::detect::{self, Daemon};
use crate::install::node::{Live, Node as _};
use crate::install::{Installer, Method, Plan, Refusal, Request, entry_path, place};
use crate::paths::Paths;
use crate::processes::{Process, Processes};
use crate::pss::facts::Engine;
use crate::report::text::{escape, line};

pub(crate) use recorded::Recorded;
use recorded::recorded;

/// How a question was answered. Later is worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// A way past the gate, or a part of it that sleeps, that is there by design.
    Open,
    /// It cannot be found out.
    Unknown,
    /// It is not as it should be.
    Wrong,
}

impl State {
    /// The word in every output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Open => "open",
            Self::Unknown => "unknown",
            Self::Wrong => "wrong",
        }
    }
}

/// One question and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was asked, in a word.
    pub check: &'static str,
    /// The answer.
    pub state: State,
    /// The answer in a sentence, and the way out where it is not as it should be.
    pub says: String,
}

/// Answers, in the order in which they were found.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Checks(pub Vec<Check>);

impl Checks {
    fn add(&mut self, state: State, check: &'static str, says: impl AsRef<str>) {
        self.0.push(Check { check, state, says: escape(says.as_ref()) });
    }

    /// The worst answer.
    #[must_use]
    pub fn state(&self) -> State {
        self.0.iter().map(|check| check.state).max().unwrap_or(State::Ok)
    }
}

/// All that is known of the gate on a node.
#[derive(Debug, Serialize)]
pub struct Status {
    /// The worst answer of all.
    pub state: State,
    /// Each engine that was asked for, or that the gate is installed for.
    pub engines: Vec<EngineStatus>,
    /// The policy.
    pub policy: policy::PolicyStatus,
    /// The version of the program that answers.
    pub version: &'static str,
}

/// The gate before one engine.
#[derive(Debug, Serialize)]
pub struct EngineStatus {
    /// The engine.
    pub engine: &'static str,
    /// The worst answer.
    pub state: State,
    /// How the gate was installed; `null` where it was not.
    pub method: Option<&'static str>,
    /// What the gate binary says of itself.
    pub gate_version: Option<String>,
    /// What the engine says of itself.
    pub engine_version: Option<String>,
    /// Its running containers; `null` where nothing is known of them.
    pub containers: Option<containers::Tally>,
    /// The answers.
    pub checks: Checks,
}

/// Where to look.
pub struct Setting<'a> {
    /// The node.
    pub live: Live,
    /// What runs there.
    pub processes: Processes,
    /// The product's files.
    pub paths: Paths,
    /// The engines that are known.
    pub installers: &'a [&'static Installer],
}

impl<'a> Setting<'a> {
    /// The node whose root directory this is.
    #[must_use]
    pub fn under(root: &Path, installers: &'a [&'static Installer]) -> Self {
        Self {
            live: Live::under(root),
            processes: Processes::of(root),
            paths: Paths::under(root),
            installers,
        }
    }

    /// Asks everything; of one engine, or of those that the gate was installed for.
    #[must_use]
    pub fn ask(&self, engine: Option<Engine>) -> Status {
        let installed = |installer: &&Installer| recorded(&self.live, installer.engine).is_some();
        let named = |installer: &&Installer| match engine {
            Some(engine) => installer.engine == engine,
            None => installed(installer),
        };
        let installers = self.installers.iter().copied().filter(named);
        let mut engines: Vec<EngineStatus> = installers.map(|installer| self.engine(installer)).collect();
        let policy = policy::ask(self);
        let nowhere = engines.is_empty();
        if nowhere {
            engines.extend(
                self.installers
                    .iter()
                    .copied()
                    .filter(|installer| detect::daemon(installer.engine).is_on(&self.live))
                    .map(|installer| self.engine(installer)),
            );
        }
        let worst = engines.iter().map(|engine| engine.state).max();
        // No engine at all: nothing stands before anything.
        let state = worst.unwrap_or(State::Wrong).max(policy.checks.state());
        Status { state, engines, policy, version: env!("CARGO_PKG_VERSION") }
    }

    fn engine(&self, installer: &Installer) -> EngineStatus {
        let (engine, daemon) = (installer.engine, detect::daemon(installer.engine));
        let mut checks = Checks::default();
        let mut status = EngineStatus {
            engine: engine.name(),
            state: State::Ok,
            method: None,
            gate_version: None,
            engine_version: daemon.version(&self.live),
            containers: None,
            checks: Checks::default(),
        };
        match recorded(&self.live, engine) {
            None => checks.add(
                State::Wrong,
                "installed",
                format!(
                    "no gate is installed for {engine}; `pss-guard install --engine {engine}` does it",
                    engine = engine.name()
                ),
            ),
            Some(Err(error)) => checks.add(State::Unknown, "installed", error),
            Some(Ok(recorded)) => {
                status.method = Some(recorded.method.name());
                let how = format!("by the {} method, {} ago", recorded.method, ago(recorded.written));
                checks.add(State::Ok, "installed", how);
                status.gate_version = gate::binary(self, engine, &mut checks);
                self.configuration(installer, &recorded, &mut checks);
                let since = self.daemon(installer, &daemon, &recorded, &mut checks);
                status.containers = containers::ask(self, engine, &recorded, since, &mut checks);
            }
        }
        status.state = checks.state();
        status.checks = checks;
        status
    }

    /// Is the engine's configuration as the installer would have it?
    fn configuration(&self, installer: &Installer, recorded: &Recorded, checks: &mut Checks) {
        let engine = installer.engine;
        let request = Request { method: recorded.method, config: recorded.config.as_deref() };
        let plan = match (installer.plan)(&self.live, &request) {
            Ok(plan) => plan,
            Err(error @ Refusal::File(_)) => {
                return checks.add(State::Unknown, "configuration", line(&error));
            }
            Err(error) => return checks.add(State::Wrong, "configuration", line(&error)),
        };
        let mends = format!("`pss-guard install --engine {}` mends it", engine.name());
        if plan.changes.is_empty() {
            let count = plan.entries.len();
            let covers = match recorded.method {
                Method::Runtime => {
                    format!("{count} runtime handler{} covered: {}", s(count), handlers(&plan))
                }
                Method::Hook => "the hook is where the engine reads it".to_owned(),
            };
            checks.add(State::Ok, "configuration", covers);
        }
        for change in &plan.changes {
            let path = change.path.display();
            let Some(before) = &change.before else {
                checks.add(State::Wrong, "configuration", format!("{path} is missing; {mends}"));
                continue;
            };
            let before = String::from_utf8_lossy(before);
            let entry = |handler: &str| entry_path(engine, handler).to_string_lossy().into_owned();
            let lost: Vec<&str> = plan
                .entries
                .iter()
                .map(|own| own.handler.as_str())
                .filter(|handler| !before.contains(&entry(handler)))
                .collect();
            let what = if lost.is_empty() {
                "is not as it was installed".to_owned()
            } else {
                format!("starts the containers of {} past the gate", lost.join(", "))
            };
            checks.add(State::Wrong, "configuration", format!("{path} {what}; {mends}"));
        }
        gate::entries(self, engine, &plan.entries, checks);
        for open in &plan.open {
            checks.add(State::Open, "handlers", open);
        }
    }

    /// Does the engine run, and with this configuration? Says since when.
    fn daemon(
        &self,
        installer: &Installer,
        daemon: &Daemon,
        recorded: &Recorded,
        checks: &mut Checks,
    ) -> Option<SystemTime> {
        // An engine without a daemon reads its configuration whenever it is called.
        let unit = installer.unit?;
        if !self.processes.are_seen() {
            return None;
        }
        let running = self.processes.running(daemon.programs);
        let config = recorded.config.as_deref().unwrap_or(Path::new(daemon.config));
        let here = self.live.place(config);
        let (ours, others): (Vec<&Process>, Vec<&Process>) =
            running.iter().partition(|process| process.shares(&daemon.config_of(process), &here));
        for other in others {
            let theirs = daemon.config_of(other);
            let other = format!(
                "process {} ({}) runs with {}: the gate is not before its containers",
                other.pid,
                other.program.display(),
                theirs.display()
            );
            checks.add(State::Open, "process", other);
        }
        let contained = self.processes.in_containers(daemon.programs);
        if let Some((pid, program)) = contained.first() {
            // Nothing that it says of itself counts.
            let others = match contained.len() - 1 {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let says = format!(
                "process {pid} ({}){others}: engines in containers; the gate is not before what they start",
                program.display()
            );
            checks.add(State::Open, "process", says);
        }
        let name = daemon.programs.first().copied().unwrap_or_default();
        if let Some(says) = detect::elsewhere(&self.live, &self.processes, installer.engine, config) {
            checks.add(State::Wrong, "process", says);
            return None;
        }
        let Some(process) = ours.first() else {
            checks.add(
                State::Open,
                "process",
                format!("{name} is not running; the gate holds when it starts"),
            );
            return None;
        };
        let (pid, since) = (process.pid, ago(process.started));
        // Who ran then was written down, because the clock may have been set since. Otherwise: a tick of the clock that
        // both are read from, and a little.
        let is_older = place::is_unread(&self.live, installer.engine, process)
            .unwrap_or_else(|| process.started + Duration::from_millis(50) < recorded.written);
        let pending = recorded.restart && is_older && !self.was_reloaded(installer.engine);
        if pending {
            let says = format!(
                "{name} (process {pid}) started {since} ago, before the gate came, and has not read its configuration \
                 since then; systemctl restart {unit}"
            );
            checks.add(State::Wrong, "process", says);
        } else if process.replaced {
            let says = format!(
                "{name} (process {pid}) started {since} ago, and its program was replaced since then"
            );
            checks.add(State::Open, "process", says);
        } else {
            checks.add(State::Ok, "process", format!("{name} (process {pid}) started {since} ago"));
        }
        Some(process.started)
    }

    /// Whether an engine that is older than its configuration has read it all the same. Docker does without a restart
    /// (`docker info`, `Runtimes`).
    fn was_reloaded(&self, engine: Engine) -> bool {
        let asks = ["info", "--format", "{{json .Runtimes}}"];
        let docker = self.live.find("docker").filter(|_| engine == Engine::Docker);
        let said = docker.and_then(|docker| self.live.output(&docker, &asks)).unwrap_or_default();
        said.contains(&*place::entries_of(engine).to_string_lossy())
    }
}

fn handlers(plan: &Plan) -> String {
    let names: Vec<&str> = plan.entries.iter().map(|entry| entry.handler.as_str()).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

const fn s(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// How long ago a moment was, in its largest unit.
fn ago(moment: SystemTime) -> String {
    let seconds = SystemTime::now().duration_since(moment).unwrap_or_default().as_secs();
    let (count, unit) = match seconds {
        0..120 => (seconds, "second"),
        120..7_200 => (seconds / 60, "minute"),
        7_200..172_800 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests;
