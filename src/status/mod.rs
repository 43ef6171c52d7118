//! Checks that the gate is active: compares what was installed with what is there and what runs now.
//!
//! Each question is answered by one or more [`Check`]s, a sentence each. The worst of them is the answer:
//!
//! | state     | means                                                                    | exit code |
//! |-----------|--------------------------------------------------------------------------|-----------|
//! | `ok`      | as it should be                                                          | 0         |
//! | `note`    | worth knowing; the admin chose it, or nothing can start past the gate by it | 0      |
//! | `open`    | something can start past the gate, and nobody said that it may           | 1         |
//! | `unknown` | it cannot be found out                                                   | 2         |
//! | `wrong`   | the gate, or the policy, is not as it should be                          | 1         |
//!
//! The rule: 0 only where all of it is good, and `pss_guard_enforcing` is 1 exactly where the exit code is 0 and the mode
//! in force is enforce. So what is *open* must be something that an admin can close, or say to be meant: a status that
//! nobody can make right is soon read by nobody.
//!
//! - An engine that runs without a gate is *wrong*, whatever stands before the others. One that serves no pods and runs
//!   no container is a *note*, as is one that is merely on the disk.
//! - A handler of another kind (kata, gVisor, a wasm shim) is *open*, and a *note* once `[exemptions] runtime-classes`
//!   names it.
//! - Under containerd a pod that is older than the gate starts containers past it for as long as it lives. That is *open*
//!   where they would be refused: in enforce mode, outside of the exempt namespaces. A container that is merely older is
//!   a *note*: it passes the gate when it starts again.
//!
//! NRI's `reject_oci_hook_adjustment` (containerd, CRI-O: `nri_validator_…`) is not asked for. Its validator refuses
//! hooks that an NRI plugin claims (`plugins/default-validator`, `Owners.HooksOwner`); those of `hooks.d` and of a base
//! runtime spec are in the container before NRI sees it and have no such owner.

pub(crate) mod agent;
pub mod containers;
mod gate;
pub mod older;
pub(crate) mod policy;
mod program;
mod recorded;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::install::detect;
use crate::install::job::{another_distribution, distribution_of, hook};
use crate::install::standing::{self, Standing};
use crate::install::{
    GATE, Installer, Method, Plan, PlanError, Request, entry_path, persist, programs, transaction, units,
};
use crate::level::policy::{Exemptions, Mode};
use crate::message::{escape, line};
use crate::node::distribution::{Distribution, PLAIN};
use crate::node::host::{Live, Node as _};
use crate::node::procfs::{Process, Processes};
use crate::node::recognize::{Unrecognized, starts_with_another};
use crate::node::systemd;
use crate::paths::Paths;
use crate::pss::facts::Engine;
use crate::words::plural;

pub use policy::latest;
pub(crate) use recorded::Recorded;
use recorded::recorded;

/// How a question was answered. Later is worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// Worth knowing, and nothing to mend.
    Note,
    /// Something can start past the gate, and nobody said that it may.
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
            Self::Note => "note",
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
    /// Whether what violates its level is refused: all is good, the mode in force is enforce, and this is the running node.
    pub enforces: bool,
    /// Whether this is the running node, and not another root file system.
    #[serde(skip)]
    pub is_running: bool,
    /// The distribution of the node: `k3s`, `EKS`, `plain`; `null` where it was not recognized.
    pub distribution: Option<&'static str>,
    /// The engine that was asked for, or each that is on the node, gated or not.
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
    /// Whether the gate, and each runtime that it hands over to, can be executed; `null` where no gate is installed.
    pub executable: Option<bool>,
    /// Handlers whose containers pass the gate by, and that the policy does not exempt.
    pub ungated_handlers: Vec<String>,
    /// Its running containers; `null` where nothing is known of them.
    pub containers: Option<containers::Tally>,
    /// The answers.
    pub checks: Checks,
}

/// What is the same for every engine.
struct Asked {
    /// All containers that run; the path of those that cannot be looked at.
    running: Vec<Result<containers::Running, PathBuf>>,
    /// Whether the mode in force is enforce.
    enforces: bool,
    /// What the policy exempts.
    exempt: Exemptions,
    /// What the node is.
    distribution: Result<Distribution, Unrecognized>,
}

impl Asked {
    /// The distribution by which an engine goes whose installation was written down.
    fn distribution_of(&self, recorded: Option<&Distribution>) -> Distribution {
        distribution_of(recorded, self.distribution.as_ref().unwrap_or(&PLAIN))
    }
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

    /// Asks everything; of one engine, or of all that are on the node.
    #[must_use]
    pub fn ask(&self, engine: Option<Engine>) -> Status {
        let distribution = Distribution::of(&self.live, &self.processes);
        let (policy, exempt) = policy::ask(self, distribution.as_ref().unwrap_or(&PLAIN));
        let asked = Asked {
            running: containers::running(self),
            enforces: policy.mode == Mode::Enforce,
            exempt,
            distribution,
        };
        let installed =
            self.installers.iter().any(|installer| recorded(&self.live, installer.engine).is_some());
        let engines: Vec<EngineStatus> = self
            .installers
            .iter()
            .filter(|installer| engine.is_none_or(|engine| engine == installer.engine))
            .filter_map(|installer| match recorded(&self.live, installer.engine) {
                Some(recorded) => Some(self.gated(installer, recorded, &asked)),
                None => self.ungated(installer, engine.is_some(), installed, &asked),
            })
            .collect();
        let worst = engines.iter().map(|engine| engine.state).max().unwrap_or(State::Wrong);
        // Without any gate nothing is good, even if no engine runs that needs one.
        let none = if installed { State::Ok } else { State::Wrong };
        let state = worst.max(none).max(policy.checks.state());
        let is_running = self.processes.are_seen();
        let enforces = state <= State::Note && asked.enforces && is_running;
        let distribution = asked.distribution.ok().map(|distribution| distribution.name);
        Status {
            state,
            enforces,
            is_running,
            distribution,
            engines,
            policy,
            version: env!("CARGO_PKG_VERSION"),
        }
    }

    fn engine(&self, installer: &Installer, distribution: &Distribution) -> EngineStatus {
        EngineStatus {
            engine: installer.engine.name(),
            state: State::Ok,
            method: None,
            gate_version: None,
            engine_version: detect::daemon(installer.engine).version(&self.live, distribution),
            executable: None,
            ungated_handlers: Vec::new(),
            containers: None,
            checks: Checks::default(),
        }
    }

    /// An engine that the gate is installed for.
    fn gated(
        &self,
        installer: &Installer,
        recorded: Result<Recorded, String>,
        asked: &Asked,
    ) -> EngineStatus {
        let engine = installer.engine;
        let known = recorded.as_ref().ok().map(|recorded| &recorded.distribution);
        let distribution = asked.distribution_of(known);
        let mut status = self.engine(installer, &distribution);
        let mut checks = Checks::default();
        if engine == Engine::Containerd
            && let Err(error) = &asked.distribution
        {
            checks.add(State::Unknown, "distribution", line(error));
        }
        if engine == Engine::Containerd
            && let Ok(now) = &asked.distribution
            && recorded.as_ref().is_ok_and(|recorded| recorded.config.is_none())
            && let Some(says) = another_distribution(&distribution, now.name)
        {
            checks.add(State::Wrong, "distribution", says);
        }
        match recorded {
            Err(error) => checks.add(State::Unknown, "installed", error),
            Ok(recorded) => {
                status.method = Some(recorded.method.name());
                let how = format!("by the {} method, {} ago", recorded.method, ago(recorded.written));
                checks.add(State::Ok, "installed", how);
                let (version, gate_runs) = gate::binary(self, engine, &mut checks);
                status.gate_version = version;
                let found = (&recorded, &distribution);
                let runtimes_run = self.configuration(installer, found, asked, &mut status, &mut checks);
                status.executable = Some(gate_runs && runtimes_run);
                self.persistence(engine, &distribution, &mut checks);
                let since = self.daemon(installer, found, &mut checks);
                status.containers = containers::ask(self, engine, &recorded, since, asked, &mut checks);
            }
        }
        status.state = checks.state();
        status.checks = checks;
        status
    }

    /// An engine without a gate; `None` where it is not on the node and nobody named it. `others`: whether any engine has
    /// a gate.
    fn ungated(
        &self,
        installer: &Installer,
        named: bool,
        others: bool,
        asked: &Asked,
    ) -> Option<EngineStatus> {
        let engine = installer.engine;
        let distribution = asked.distribution_of(None);
        let running = detect::running(&self.processes, engine);
        let count = asked.running.iter().flatten().filter(|running| running.is_of(engine)).count();
        if !named
            && running.is_empty()
            && count == 0
            && !detect::daemon(engine).is_on(&self.live, &distribution)
        {
            return None;
        }
        let serves_pods = |process: &&Process| engine != Engine::Containerd || !self.has_no_cri(process);
        // Docker does by way of a program of its own.
        let is_cri = matches!(engine, Engine::Containerd | Engine::CriO)
            || (engine == Engine::Docker && !self.processes.running(&["cri-dockerd"]).is_empty());
        let serving = running.iter().filter(|_| is_cri).find(serves_pods);
        let name = engine.name();
        let install = format!("`pss-guard install --engine {name}` installs it");
        let containers = plural(count, "container");
        let none = format!("no gate is installed for {name}");
        let (state, says) = match (serving, running.first()) {
            (Some(process), _) => (
                State::Wrong,
                format!("{none}, which runs (process {}, {containers}); {install}", process.pid),
            ),
            (None, _) if count > 0 => (State::Wrong, format!("{none}, which runs {containers}; {install}")),
            (None, Some(process)) if is_cri => (
                State::Note,
                format!(
                    "{none}; its CRI plugin is disabled in {}, so no pod starts there",
                    detect::daemon(engine).config_of(process).display()
                ),
            ),
            (None, _) if named || !others => (State::Wrong, format!("{none}; {install}")),
            (None, Some(process)) => {
                (State::Note, format!("{none}; it runs (process {}), and no container does", process.pid))
            }
            (None, None) if self.processes.are_told() => {
                (State::Note, format!("{none}; no container of it runs"))
            }
            (None, None) if self.processes.are_seen() => {
                (State::Unknown, format!("{none}; whether it runs is unknown: {}", self.untold()))
            }
            (None, None) => (State::Note, format!("{none}; whether it will run here is unknown")),
        };
        let mut status = self.engine(installer, &distribution);
        status.checks.add(state, "installed", says);
        status.state = state;
        Some(status)
    }

    /// Is the engine's configuration as the installer would have it? Says whether the runtimes that it names can be
    /// executed.
    fn configuration(
        &self,
        installer: &Installer,
        (recorded, distribution): (&Recorded, &Distribution),
        asked: &Asked,
        status: &mut EngineStatus,
        checks: &mut Checks,
    ) -> bool {
        let engine = installer.engine;
        let request = Request { method: recorded.method, config: recorded.config.as_deref(), distribution };
        let plan = match (installer.plan)(&self.live, &request) {
            Ok(plan) => plan,
            Err(error) => {
                let is_closed = matches!(error, PlanError::File(_));
                let state = if is_closed { State::Unknown } else { State::Wrong };
                checks.add(state, "configuration", line(&error));
                // The engine goes on with what it read.
                return gate::entries(self, engine, &recorded.entries, checks);
            }
        };
        if engine == Engine::Containerd
            && let (Some(named), Some(unit)) = (&recorded.config, distribution.unit)
            && !distribution.brings_engine()
            && let Ok(Some(service)) = systemd::service(&self.live, unit)
            && let Some(says) = starts_with_another(&service, unit, named)
        {
            checks.add(State::Wrong, "configuration", says);
        }
        let fixes = format!("`pss-guard install --engine {}` fixes it", engine.name());
        if plan.changes.is_empty() {
            let count = plan.entries.len();
            let covers = match recorded.method {
                Method::Runtime => {
                    format!("{} covered: {}", plural(count, "runtime handler"), handlers(&plan))
                }
                Method::Hook => "the hook is where the engine reads it".to_owned(),
            };
            checks.add(State::Ok, "configuration", covers);
        }
        let is_known = |handler: &String| recorded.entries.iter().any(|known| known.handler == *handler);
        let mut without_gate: Vec<String> = Vec::new();
        for change in &plan.changes {
            let path = change.path.display();
            let Some(before) = &change.before else {
                // It may never have been there: whatever came later can need a file more.
                let new = plan.entries.iter().map(|own| &own.handler).filter(|handler| !is_known(handler));
                let new: Vec<&str> = new.map(String::as_str).collect();
                without_gate.extend(new.iter().map(ToString::to_string));
                let says = match &*new {
                    // What only the installer writes bears its name.
                    [] if path.to_string().contains("pss-guard") => format!("{path} is missing; {fixes}"),
                    [] => format!("{path} is missing; restore it if it was yours, and then {fixes}"),
                    _ => format!(
                        "the containers of {} start without the gate, until {path} is there; {fixes}",
                        new.join(", ")
                    ),
                };
                checks.add(State::Wrong, "configuration", says);
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
            without_gate.extend(lost.iter().map(ToString::to_string));
            let what = if lost.is_empty() {
                "is not as it was installed".to_owned()
            } else {
                format!("starts the containers of {} without the gate", lost.join(", "))
            };
            checks.add(State::Wrong, "configuration", format!("{path} {what}; {fixes}"));
        }
        let is_ungated = |says: &String| plan.ungated.iter().any(|(_, sentence)| sentence == says);
        for (handler, says) in &plan.ungated {
            if asked.exempt.runtime_classes.contains(handler) {
                let says = format!("{handler} is not gated, as the policy has it (runtime-classes): {says}");
                checks.add(State::Note, "handlers", says);
            } else {
                let says = format!(
                    "{handler} is not gated: {says}; if that is intended, list it in runtime-classes under \
                     [exemptions] in the policy"
                );
                checks.add(State::Open, "handlers", says);
                status.ungated_handlers.push(handler.clone());
            }
        }
        for open in plan.open.iter().filter(|says| !is_ungated(says)) {
            checks.add(State::Note, "handlers", open);
        }
        if let Some(why) = &plan.not_compared {
            let says = format!("what {} makes of these files was not compared: {why}", engine.name());
            checks.add(State::Unknown, "compared", says);
        }
        // Nothing calls the entry of a handler that came later.
        let mut entries = plan.entries;
        entries.retain(|entry| is_known(&entry.handler) || !without_gate.contains(&entry.handler));
        gate::entries(self, engine, &entries, checks)
    }

    /// Is the gate kept in place of what writes the engine's configuration again?
    fn persistence(&self, engine: Engine, distribution: &Distribution, checks: &mut Checks) {
        const NAME: &str = "persistence";
        let name = persist::name(engine);
        let install = format!("`pss-guard install --engine {} --persist`", engine.name());
        let written = match transaction::manifest(&self.live, &name) {
            Ok(Some(written)) => written,
            Ok(None) => {
                if let Some(what) = persist::rewritten(distribution, engine) {
                    let says = format!("{what}, without the gate: {install} has it put back");
                    checks.add(State::Note, NAME, says);
                }
                return;
            }
            Err(error) => return checks.add(State::Unknown, NAME, line(&error)),
        };
        let edited = match transaction::edited(&self.live, &name) {
            Ok(edited) => edited,
            Err(error) => return checks.add(State::Unknown, NAME, line(&error)),
        };
        let is_gone = |path: &Path| self.live.read(path).is_ok_and(|bytes| bytes.is_none());
        for file in &written.files {
            if is_gone(&file.path) {
                let says = format!("{} is missing; {install} writes it again", file.path.display());
                return checks.add(State::Wrong, NAME, says);
            }
        }
        if let Some(path) = edited.first() {
            let says =
                format!("{} was changed since it was installed; {install} writes it again", path.display());
            return checks.add(State::Note, NAME, says);
        }
        if persist::is_by_distribution(distribution, engine) {
            return checks.add(State::Ok, NAME, "nodeadm writes the gate's lines at every boot");
        }
        match units::unwatched(&self.live) {
            Some(unit) => {
                checks.add(State::Wrong, NAME, format!("{unit} is not enabled; {install} enables it"));
            }
            None => {
                checks.add(State::Ok, NAME, "systemd watches the configuration, and has the gate put back");
            }
        }
    }

    /// Whether a containerd serves no kubelet. What cannot be read, or was written after it started, is not taken for
    /// harmless.
    fn has_no_cri(&self, process: &Process) -> bool {
        let config = detect::daemon(Engine::Containerd).config_of(process);
        let written = fs::metadata(self.live.place(&config)).and_then(|metadata| metadata.modified());
        written.is_ok_and(|written| written <= process.started + Duration::from_secs(1))
            && detect::has_no_cri(&self.live, &config).unwrap_or(false)
    }

    /// Why nobody can say which engines run.
    fn untold(&self) -> &str {
        self.processes.untold().unwrap_or_default()
    }

    /// Does the engine run, and with this configuration? Says since when.
    fn daemon(
        &self,
        installer: &Installer,
        (recorded, distribution): (&Recorded, &Distribution),
        checks: &mut Checks,
    ) -> Option<SystemTime> {
        if !self.processes.are_seen() {
            return None;
        }
        // Others would see no engine, and take that for none.
        if !self.processes.are_told() {
            checks.add(State::Unknown, "process", self.untold());
            return None;
        }
        // An engine without a daemon reads its configuration whenever it is called.
        let unit = installer.unit?;
        let is_containerd = installer.engine == Engine::Containerd;
        let unit = if is_containerd { distribution.unit.unwrap_or(unit) } else { unit };
        let daemon = detect::daemon(installer.engine);
        let usual = if is_containerd { distribution.read_with_gate() } else { Path::new(daemon.config) };
        let config = recorded.config.as_deref().unwrap_or(usual);
        let here = self.live.place(config);
        let running = detect::settled(&self.processes, installer.engine, &here);
        let (ours, others): (Vec<&Process>, Vec<&Process>) =
            running.iter().partition(|process| process.shares(&daemon.config_of(process), &here));
        // Where none goes by this file, the first of them is named below.
        for other in others.into_iter().filter(|_| !ours.is_empty()) {
            let theirs = daemon.config_of(other);
            if installer.engine == Engine::Containerd && self.has_no_cri(other) {
                continue;
            }
            let other = format!(
                "process {} ({}) runs with {}: the gate is not active for its containers",
                other.pid,
                other.program.display(),
                theirs.display()
            );
            checks.add(State::Wrong, "process", other);
        }
        let contained = self.processes.in_containers(daemon.programs);
        if let Some((pid, program)) = contained.first() {
            // Nothing that it says of itself counts.
            let others = match contained.len() - 1 {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let says = format!(
                "process {pid} ({}){others}: engines in containers; the gate is not active for what they \
                 start",
                program.display()
            );
            checks.add(State::Note, "process", says);
        }
        let name = daemon.programs.first().copied().unwrap_or_default();
        if let Some(says) = detect::elsewhere(&self.live, &self.processes, installer.engine, config) {
            checks.add(State::Wrong, "process", says);
            return None;
        }
        let Some(process) = ours.first() else {
            checks.add(
                State::Note,
                "process",
                format!("{name} is not running; the gate is active when it starts"),
            );
            return None;
        };
        let found = daemon.program(&self.live, distribution);
        if let Some(says) = found.and_then(|found| detect::other_rules(&self.live, &found, process)) {
            checks.add(State::Unknown, "process", says);
        }
        let (pid, since) = (process.pid, ago(process.started));
        // Who ran then was written down, because the clock may have been set since. Otherwise: a tick of the clock that
        // both are read from, and a little.
        let is_older = programs::is_unread(&self.live, installer.engine, process)
            .unwrap_or_else(|| process.started + Duration::from_millis(50) < recorded.written);
        let pending = recorded.restart && is_older && !self.was_reloaded(installer.engine);
        if pending {
            let says = format!(
                "{name} (process {pid}) started {since} ago, before the gate was installed, and has not read \
                 its configuration since then; systemctl restart {unit}"
            );
            checks.add(State::Wrong, "process", says);
        } else if process.replaced {
            let says = format!(
                "{name} (process {pid}) started {since} ago, and its program was replaced since then"
            );
            checks.add(State::Note, "process", says);
        } else {
            checks.add(State::Ok, "process", format!("{name} (process {pid}) started {since} ago"));
        }
        if installer.engine == Engine::CriO && recorded.method == Method::Hook {
            self.dropped(process, &recorded.hooks, checks);
        }
        Some(process.started)
    }

    /// May CRI-O have read the hook while there was no gate? Then it dropped it, and starts everything past the gate.
    fn dropped(&self, process: &Process, hooks: &[PathBuf], checks: &mut Checks) {
        if hook::is_unwatched(process, hooks) {
            let says = format!(
                "process {} does not watch the folder of the hook, and has not read it; systemctl restart crio",
                process.pid
            );
            return checks.add(State::Wrong, "process", says);
        }
        // Whatever is called there; without any that is the fault.
        let gate = Standing::of(&self.live).gate().or_else(|| standing::changed(&self.live, Path::new(GATE)));
        let Some(gate) = gate else { return };
        let started = process.started;
        let read = |hook: &PathBuf| standing::changed(&self.live, hook).map_or(started, |at| at.max(started));
        let read = hooks.iter().map(read).min().unwrap_or(started);
        if read < gate {
            let says = format!(
                "process {} last read the hook {} ago, before the gate was there as it is now, and drops a hook whose program \
                 is missing; `pss-guard install --engine {}` has it read again, and so does a restart",
                process.pid,
                ago(read),
                Engine::CriO.name()
            );
            checks.add(State::Wrong, "process", says);
        }
    }

    /// Whether an engine that is older than its configuration has read it all the same. Docker does without a restart
    /// (`docker info`, `Runtimes`).
    fn was_reloaded(&self, engine: Engine) -> bool {
        let asks = ["info", "--format", "{{json .Runtimes}}"];
        let docker = self.live.find("docker").filter(|_| engine == Engine::Docker);
        let said = docker.and_then(|docker| self.live.output(&docker, &asks)).unwrap_or_default();
        said.contains(&*programs::entries_of(engine).to_string_lossy())
    }
}

fn handlers(plan: &Plan) -> String {
    let names: Vec<&str> = plan.entries.iter().map(|entry| entry.handler.as_str()).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// How long ago a moment was, in its largest unit.
pub(crate) fn ago(moment: SystemTime) -> String {
    let seconds = SystemTime::now().duration_since(moment).unwrap_or_default().as_secs();
    let (count, unit) = match seconds {
        0..120 => (seconds, "second"),
        120..7_200 => (seconds / 60, "minute"),
        7_200..172_800 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    plural(count, unit)
}

#[cfg(test)]
mod tests;
