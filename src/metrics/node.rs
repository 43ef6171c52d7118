//! Metrics of the node's state: the mode in force, the gate of each engine, the policy and its age.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::exposition::{Family, Number, Type};
use super::scan;
use crate::checksum::checksum;
use crate::files::{self, Owner};
use crate::level::cache::{self, Loaded};
use crate::level::date::Date;
use crate::level::{Mode, Policy};
use crate::message::line;
use crate::mode::temporary::{State as Temporary, Temporary as Held};
use crate::mode::{InForce, in_force};
use crate::status::agent::{AgentStatus, NAME};
use crate::status::containers::Names;
use crate::status::policy::PolicyStatus;
use crate::status::{EngineStatus, Setting, State, Status};

type Samples = Vec<(Vec<(&'static str, String)>, Number)>;

/// What is true of the node now; what could not be found out goes to `faults`, a sentence each.
#[must_use]
pub fn families(setting: &Setting<'_>, faults: &mut Vec<String>) -> Vec<Family> {
    let paths = &setting.paths;
    let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
    let mut families =
        vec![one("pss_guard_build_info", "The version of pss-guard.", vec![(version, Number::Whole(1))])];
    let loaded = cache::load(paths);
    let status = setting.ask(None);
    if nix::unistd::geteuid().is_root() {
        families.extend(enforcement(setting, &loaded, &status, faults));
    } else {
        // To others a node looks open that is not.
        faults.push("run as root to include the enforcement metrics".to_owned());
    }
    families.extend(policy_file(&paths.policy()));
    if let Ok(policy) = loaded.policy() {
        families.extend(exceptions(policy, Date::of(SystemTime::now())));
    }
    families.extend(agent(&status.policy));
    families.extend(namespaces(&paths.namespaces(), &status.policy, loaded.policy().is_ok()));
    families.extend(scan::families(paths, faults));
    families
}

/// The mode in force, the gate, and whether the policy can be used.
fn enforcement(
    setting: &Setting<'_>,
    loaded: &Loaded,
    status: &Status,
    faults: &mut Vec<String>,
) -> Vec<Family> {
    if let Some(error) = loaded.fault() {
        faults.push(line(error));
    }
    let InForce { mode, temporary, .. } = in_force(&setting.paths, loaded.mode());
    let break_glass = match &temporary {
        Temporary::Holds(temporary) => Some(temporary).filter(|temporary| temporary.mode == Mode::Audit),
        Temporary::Ignored(error) => {
            faults.push(line(error));
            None
        }
        Temporary::None | Temporary::Ended(..) => None,
    };
    let gated = || status.engines.iter().filter(|engine| engine.method.is_some());
    vec![
        Family::gauge(
            "pss_guard_enforcing",
            "Whether violating containers are refused: the mode in force is enforce, and pss-guard status \
             finds no gap and no fault.",
            flag(status.enforces),
        ),
        one(
            "pss_guard_mode",
            "1 for the mode in force, 0 for the other.",
            [Mode::Audit, Mode::Enforce]
                .map(|each| (vec![("mode", each.name().to_owned())], flag(each == mode)))
                .into(),
        ),
        Family::gauge(
            "pss_guard_break_glass_since_timestamp_seconds",
            "When the temporary audit mode started, or 0.",
            seconds(break_glass.map(Held::since)),
        ),
        Family::gauge(
            "pss_guard_break_glass_until_timestamp_seconds",
            "When the temporary audit mode will end, or 0.",
            seconds(break_glass.map(Held::until)),
        ),
        one(
            "pss_guard_gate_standing",
            "Whether the gate is active for the containers of an engine, as far as can be told.",
            status
                .engines
                .iter()
                // An engine that needs no gate is none without one.
                .filter(|engine| engine.method.is_some() || !engine.stands())
                .map(|engine| (labels(engine), flag(engine.stands())))
                .collect(),
        ),
        one(
            "pss_guard_runtime_executable",
            "Whether the gate and the runtimes behind it can be executed. If not, no container starts, and \
             with the runtime method none can be killed or deleted.",
            gated().filter_map(|engine| Some((labels(engine), flag(engine.executable?)))).collect(),
        ),
        one(
            "pss_guard_ungated_handlers",
            "Runtime handlers of another kind, whose containers bypass the gate and which the policy does \
             not exempt.",
            gated()
                .map(|engine| (labels(engine), Number::Whole(engine.ungated_handlers.len() as u64)))
                .collect(),
        ),
        one(
            "pss_guard_running_containers",
            "Running containers by whether they passed the gate.",
            status.engines.iter().flat_map(|engine| running(engine, Names::containers)).collect(),
        ),
        one(
            "pss_guard_running_sandboxes",
            "Sandboxes of running pods by whether they passed the gate.",
            status.engines.iter().flat_map(|engine| running(engine, Names::sandboxes)).collect(),
        ),
        Family::gauge(
            "pss_guard_policy_valid",
            "Whether the policy can be used. If not, the last good one is in force, or enforce mode refuses \
             all but the system namespaces.",
            flag(loaded.fault().is_none()),
        ),
    ]
}

fn one(name: &'static str, help: &'static str, samples: Samples) -> Family {
    Family { name, kind: Type::Gauge, help, samples }
}

fn flag(holds: bool) -> Number {
    Number::Whole(holds.into())
}

/// A moment, or 0 if there is none.
fn seconds(moment: Option<SystemTime>) -> Number {
    let since = moment.and_then(|moment| moment.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    Number::Whole(since.as_secs())
}

fn labels(engine: &EngineStatus) -> Vec<(&'static str, String)> {
    vec![("engine", engine.engine.to_owned())]
}

impl EngineStatus {
    /// Whether the gate was found to stand. What cannot be told is not counted on.
    fn stands(&self) -> bool {
        matches!(self.state, State::Ok | State::Note | State::Open)
    }
}

fn running(engine: &EngineStatus, count: fn(&Names) -> usize) -> Samples {
    let Some(tally) = &engine.containers else { return Vec::new() };
    let rows = [
        ("through", &tally.through_the_gate),
        ("before", &tally.before_the_gate),
        ("unproven", &tally.unproven),
        ("other-kind", &tally.of_another_kind),
        ("past", &tally.past_the_gate),
    ];
    let sample = |(gate, list): (&str, &Names)| {
        let mut labels = labels(engine);
        labels.push(("gate", gate.to_owned()));
        (labels, Number::Whole(count(list) as u64))
    };
    rows.map(sample).into()
}

/// Which policy it is, and since when: to see that all nodes have the same.
fn policy_file(path: &Path) -> Vec<Family> {
    let Ok((_, metadata, bytes)) = files::read_as(path, files::Links::Follow, Owner::Anybody, 1 << 20) else {
        return Vec::new();
    };
    let sum = format!("{:016x}", checksum(&bytes));
    vec![
        one(
            "pss_guard_policy_info",
            "The checksum of the policy file.",
            vec![(vec![("checksum", sum)], Number::Whole(1))],
        ),
        Family::gauge(
            "pss_guard_policy_modified_timestamp_seconds",
            "When the policy file was last changed.",
            seconds(metadata.modified().ok()),
        ),
    ]
}

fn exceptions(policy: &Policy, today: Date) -> Vec<Family> {
    let (expired, active): (Vec<_>, Vec<_>) =
        policy.exceptions.iter().partition(|exception| exception.expired(today));
    let count =
        |state: &str, number: usize| (vec![("state", state.to_owned())], Number::Whole(number as u64));
    let mut families = vec![one(
        "pss_guard_policy_exceptions",
        "Exceptions in the policy.",
        vec![count("active", active.len()), count("expired", expired.len())],
    )];
    // The last day of an exception belongs to it.
    if let Some(day) = active.iter().map(|exception| exception.expires.days()).min() {
        let end = u64::try_from(day + 1).unwrap_or_default() * 86_400;
        families.push(Family::gauge(
            "pss_guard_policy_exceptions_next_end_timestamp_seconds",
            "When the next exception expires.",
            Number::Whole(end),
        ));
    }
    families
}

/// How old the agent's contact is, by the names that the agent itself serves. 0 is said of one that is due and says nothing, or
/// nothing that can be believed.
fn agent(policy: &PolicyStatus) -> Vec<Family> {
    let agent = policy.agent.as_ref();
    if agent.is_none() && !policy.checks.0.iter().any(|check| check.check == NAME) {
        return Vec::new();
    }
    let count = |of: fn(&AgentStatus) -> usize| Number::Whole(agent.map_or(0, of) as u64);
    vec![
        Family::gauge(
            "pss_guard_agent_last_contact_timestamp_seconds",
            "When the API server last answered the agent, or 0 if it has not since the boot.",
            seconds(agent.and_then(|agent| agent.contacted)),
        ),
        Family::gauge(
            "pss_guard_agent_synced",
            "Whether the agent has listed all namespaces and pods since it started.",
            flag(agent.is_some_and(|agent| agent.synced)),
        ),
        Family::gauge(
            "pss_guard_agent_pods",
            "Pods of this node with facts, as the agent says.",
            count(|agent| agent.pods),
        ),
        Family::gauge(
            "pss_guard_agent_static_pods",
            "Static pods of this node with facts, as the agent says.",
            count(|agent| agent.static_pods),
        ),
        Family::gauge(
            "pss_guard_agent_namespaces",
            "Namespaces with known levels, as the agent says.",
            count(|agent| agent.namespaces),
        ),
    ]
}

/// How many namespaces have levels of their own here, how old that knowledge is, and for how many the agent's floor holds.
fn namespaces(folder: &Path, policy: &PolicyStatus, is_policy_usable: bool) -> Vec<Family> {
    let Some(count) = policy.imported_namespaces else { return Vec::new() };
    let listed = fs::metadata(folder).and_then(|folder| folder.modified()).ok();
    // An agent that has listed all of them hears of every change, and writes only what changes.
    let heard = policy.agent.as_ref().filter(|agent| agent.synced).and_then(|agent| agent.contacted);
    let imported = listed.max(heard);
    let mut families = vec![
        Family::gauge(
            "pss_guard_namespaces_imported",
            "Namespaces whose levels were imported from the cluster.",
            Number::Whole(count as u64),
        ),
        Family::gauge(
            "pss_guard_namespaces_imported_timestamp_seconds",
            "When they were last imported, changed or not; with an agent, when the API server last answered it.",
            seconds(imported),
        ),
    ];
    if is_policy_usable {
        families.push(Family::gauge(
            "pss_guard_namespaces_below_floor",
            "Imported namespaces whose enforce level is below the floor that the policy sets for the agent. The floor is enforced.",
            Number::Whole(policy.namespaces_below_floor.len() as u64),
        ));
    }
    families
}
