//! Decides per namespace and level whether enforcing it would refuse anything: what events can prove of that, and
//! what they cannot.
//!
//! The gate logs violations. A start that violates none of its namespace's levels leaves no event (unless the policy has
//! `log-allowed = true`), and a level stricter than all of them is not evaluated. So for one namespace and one level:
//!
//! | state      | means                                                                                              |
//! |------------|----------------------------------------------------------------------------------------------------|
//! | `refused`  | a start in the period, or a container that runs now, would be refused                              |
//! | `ready`    | the namespace asks for this level or a stricter one, nothing was found against any start, and there was one: an event of a start that complies, or a container that runs now |
//! | `unproven` | nothing is known against it, and not enough for it; the cell says what is missing                  |
//! | `exempt`   | the policy exempts this namespace                                                                  |
//!
//! The namespace's levels are today's: what they were during the period is not recorded.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::aggregate::{BEYOND, Namespace, Proofs, Workload};
use super::proof::Controls;

use crate::decision::Verdict;
use crate::level::policy::OnFault;
use crate::level::workload;
use crate::message::{OURS, marked};
use crate::pss::Level;
use crate::pss::controls::CONTROLS;
use crate::scan::Scanned;
use crate::words::{agree, plural};

/// The levels that can be enforced, in the order of every pair here.
pub const LEVELS: [Level; 2] = [Level::Baseline, Level::Restricted];

/// What the policy and the namespace's labels ask for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Nothing: it is exempt.
    Exempt,
    /// These levels.
    Levels {
        /// Stops containers, in enforce mode.
        enforce: Level,
        /// Is logged.
        audit: Level,
        /// Is logged as a warning.
        warn: Level,
    },
    /// The policy or the labels cannot be read.
    Unknown,
}

impl Asked {
    /// The strictest level that starts are held against; what violates it is logged.
    #[must_use]
    pub fn watched(self) -> Option<Level> {
        match self {
            Self::Levels { enforce, audit, warn } => Some(enforce.max(audit).max(warn)),
            Self::Exempt | Self::Unknown => None,
        }
    }

    /// The level that stops containers.
    #[must_use]
    pub const fn enforced(self) -> Option<Level> {
        match self {
            Self::Levels { enforce, .. } => Some(enforce),
            Self::Exempt | Self::Unknown => None,
        }
    }
}

/// What runs now in one namespace.
#[derive(Clone, Debug, Default)]
pub struct Running {
    /// Containers.
    pub containers: u64,
    /// Those that would be refused at baseline and at restricted.
    pub refused: [u64; 2],
    /// The workloads that they are of.
    pub workloads: [BTreeSet<String>; 2],
    /// Those of the workloads that a control of upstream's refuses at restricted, and not one of our own alone.
    pub by_upstream: BTreeSet<String>,
    /// Those of which nobody can say.
    pub unjudged: u64,
}

impl Running {
    /// Counts one container, held against one of the [`LEVELS`]. A pod's sandbox counts where it is refused: then none of
    /// the pod's containers starts.
    pub fn add(&mut self, one: &Scanned, level: usize, node: &str) {
        if level == 0 {
            self.containers += u64::from(!one.sandbox);
            self.unjudged += u64::from(one.verdict == Verdict::CannotJudge);
        }
        if !one.is_refused() {
            return;
        }
        let container = one.result.container();
        let name = match container.pod.as_deref() {
            Some(pod) => workload::of_running(pod, node),
            None => container.image.as_deref().unwrap_or_default(),
        };
        if let Some((count, workloads)) = self.refused.get_mut(level).zip(self.workloads.get_mut(level)) {
            *count += 1;
            workloads.insert(name.to_owned());
            if !one.is_refused_by_ours_alone() {
                self.by_upstream.insert(name.to_owned());
            }
        }
    }
}

/// How ready a namespace is for a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Rating {
    /// It can be enforced, as far as this node has seen.
    Ready,
    /// Something would be refused.
    Refused,
    /// It is not conditions.
    Unproven,
    /// The policy exempts it.
    Exempt,
}

impl Rating {
    /// The word in every output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Refused => "refused",
            Self::Unproven => "unproven",
            Self::Exempt => "exempt",
        }
    }
}

/// One namespace at one level.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Cell {
    /// How ready it is.
    pub state: Rating,
    /// Whether this level stops containers there already.
    pub enforced: bool,
    /// The workloads that would be refused.
    pub workloads: u64,
    /// Those of them that only a control of our own refuses: upstream's level lets them start.
    pub ours_alone: u64,
    /// Whether such workloads are all that is in the way.
    pub but_for_ours: bool,
    /// Their container starts in the period.
    pub starts: u64,
    /// The containers that run now and would be refused; `null` where nobody looked.
    pub running: Option<u64>,
    /// Why it is so, in a sentence.
    pub why: String,
}

/// One namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Its name; `null` for containers of no pod.
    pub namespace: Option<String>,
    /// The strictest level that its starts are held against now.
    pub watched: Option<&'static str>,
    /// The level that stops containers in enforce mode.
    pub enforce: Option<&'static str>,
    /// At baseline.
    pub baseline: Cell,
    /// At restricted.
    pub restricted: Cell,
}

impl Row {
    /// The cell of a level; privileged has none.
    #[must_use]
    pub fn cell(&self, level: Level) -> &Cell {
        if level == Level::Restricted { &self.restricted } else { &self.baseline }
    }

    /// Whether it is one of those that the answer counts.
    #[must_use]
    pub fn is_counted(&self) -> bool {
        self.namespace.is_some() && self.restricted.state != Rating::Exempt
    }
}

/// In how many namespaces a level can be enforced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// In so many.
    pub ready: usize,
    /// In so many more without the controls of our own.
    #[serde(rename = "but-for-ours")]
    pub but_for_ours: usize,
    /// Of so many that this node has seen.
    pub of: usize,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// In one line.
    pub answer: String,
    /// Baseline.
    pub baseline: Count,
    /// Restricted.
    pub restricted: Count,
    /// Each namespace in which a start was logged or something runs.
    pub namespaces: Vec<Row>,
}

/// What decides over readiness besides the events.
#[derive(Clone, Debug)]
pub struct Conditions<'a> {
    /// What each namespace asks for now; the empty name is for containers of no pod.
    pub asked: &'a BTreeMap<String, Asked>,
    /// What runs now, by namespace; `None` where nobody looked.
    pub running: Option<&'a BTreeMap<String, Running>>,
    /// Whether the node stops containers.
    pub enforces: bool,
    /// What becomes of a container that cannot be evaluated.
    pub on_fault: OnFault,
    /// The controls of our own that refuse containers.
    pub ours: String,
}

/// Puts both together.
#[must_use]
pub fn readiness(namespaces: &BTreeMap<Box<str>, Namespace>, conditions: &Conditions<'_>) -> Readiness {
    let mut names: BTreeSet<&str> = namespaces
        .iter()
        .filter(|(_, namespace)| namespace.now.starts > 0 || namespace.execs_refused != [0; 2])
        .map(|(name, _)| &**name)
        .collect();
    names.extend(conditions.running.into_iter().flatten().map(|(name, _)| name.as_str()));
    let nothing = Namespace::default();
    let mut rows: Vec<Row> = names
        .into_iter()
        .filter(|name| *name != BEYOND)
        .map(|name| row(name, namespaces.get(name).unwrap_or(&nothing), conditions))
        .collect();
    rows.sort_by_key(|row| row.namespace.is_none());
    let count = |level| Count {
        ready: rows.iter().filter(|row| row.is_counted() && row.cell(level).state == Rating::Ready).count(),
        but_for_ours: rows.iter().filter(|row| row.is_counted() && row.cell(level).but_for_ours).count(),
        of: rows.iter().filter(|row| row.is_counted()).count(),
    };
    let [baseline, restricted] = LEVELS.map(count);
    Readiness {
        answer: answer(baseline, restricted, &conditions.ours),
        baseline,
        restricted,
        namespaces: rows,
    }
}

fn answer(baseline: Count, restricted: Count, ours: &str) -> String {
    if restricted.of == 0 {
        return "no data yet: no container starts recorded in any checked namespace".to_owned();
    }
    let of = |count: Count| {
        if count.ready == count.of {
            format!("all {}", count.of)
        } else {
            format!("{} of {}", count.ready, count.of)
        }
    };
    let s = agree(&restricted.of, "", "s");
    let more = match restricted.but_for_ours {
        0 => String::new(),
        more => {
            format!(" ({more} more without {ours}, {OURS})")
        }
    };
    format!(
        "ready to enforce restricted in {} namespace{s}{more}, baseline in {}",
        of(restricted),
        of(baseline)
    )
}

fn row(name: &str, namespace: &Namespace, conditions: &Conditions<'_>) -> Row {
    let asked = conditions.asked.get(name).copied().unwrap_or(Asked::Unknown);
    let running = conditions.running.map(|running| running.get(name));
    let [baseline, restricted] =
        LEVELS.map(|level| cell(level, namespace, running.map(Option::unwrap_or_default), asked, conditions));
    Row {
        namespace: (!name.is_empty()).then(|| name.to_owned()),
        watched: asked.watched().map(Level::name),
        enforce: asked.enforced().map(Level::name),
        baseline,
        restricted,
    }
}

impl Default for &Running {
    fn default() -> Self {
        static NOTHING: Running = Running {
            containers: 0,
            refused: [0; 2],
            workloads: [BTreeSet::new(), BTreeSet::new()],
            by_upstream: BTreeSet::new(),
            unjudged: 0,
        };
        &NOTHING
    }
}

fn cell(
    level: Level,
    namespace: &Namespace,
    running: Option<&Running>,
    asked: Asked,
    conditions: &Conditions<'_>,
) -> Cell {
    let index = usize::from(level == Level::Restricted);
    let at = |pair: &[u64; 2]| pair.get(index).copied().unwrap_or_default();
    let proofs = namespace.proofs.get(index).copied().unwrap_or_default();
    let refuses = |workload: &Workload| workload.proofs.get(index).is_some_and(|proofs| proofs.refused > 0);
    let mut workloads: BTreeSet<&str> = namespace
        .workloads
        .iter()
        .filter(|(_, workload)| refuses(workload))
        .map(|(name, _)| &**name)
        .collect();
    let running_refused = running.map(|running| at(&running.refused));
    workloads.extend(
        running.iter().filter_map(|running| running.workloads.get(index)).flatten().map(String::as_str),
    );
    let by_upstream = |name: &str| {
        namespace.workloads.get(name).is_some_and(|workload| workload.by_upstream)
            || running.is_some_and(|running| running.by_upstream.contains(name))
    };
    let ours_alone = workloads.iter().filter(|name| level == Level::Restricted && !by_upstream(name)).count();
    let mut cell = Cell {
        state: Rating::Unproven,
        enforced: conditions.enforces && asked.enforced().is_some_and(|enforced| enforced >= level),
        workloads: workloads.len() as u64,
        ours_alone: ours_alone as u64,
        but_for_ours: false,
        starts: proofs.refused,
        running: running_refused,
        why: String::new(),
    };
    if asked == Asked::Exempt {
        cell.state = Rating::Exempt;
        (cell.workloads, cell.ours_alone) = (0, 0);
        "the policy exempts it".clone_into(&mut cell.why);
        return cell;
    }
    let why = refusals(level, namespace, running, &cell, conditions);
    if !why.is_empty() {
        cell.state = Rating::Refused;
        // Each reason is a sentence: there is no other.
        cell.but_for_ours = why.len() == 1 && cell.ours_alone > 0 && cell.ours_alone == cell.workloads;
        cell.why = why.join("; ");
        return cell;
    }
    let (state, why) =
        otherwise(level, namespace, running.map_or(0, |running| running.containers), asked, proofs);
    Cell { state, why, ..cell }
}

/// What would be refused, a sentence each.
fn refusals(
    level: Level,
    namespace: &Namespace,
    running: Option<&Running>,
    cell: &Cell,
    conditions: &Conditions<'_>,
) -> Vec<String> {
    let index = usize::from(level == Level::Restricted);
    let refuses = |workload: &Workload| workload.proofs.get(index).is_some_and(|proofs| proofs.refused > 0);
    let refused_now = cell.running.unwrap_or_default();
    let fault_refuses = conditions.on_fault == OnFault::Deny;
    let (faults, unjudged) = (namespace.now.counts.fault, running.map_or(0, |running| running.unjudged));
    let mut why: Vec<String> = Vec::new();
    if cell.workloads > 0 {
        let mut what = Vec::new();
        if cell.starts > 0 {
            what.push(plural(cell.starts, "start"));
        }
        if refused_now > 0 {
            what.push(format!(
                "{} that run{} now",
                plural(refused_now, "container"),
                agree(&refused_now, "s", "")
            ));
        }
        let controls = controls(level, namespace.workloads.values().filter(|workload| refuses(workload)));
        let by = if controls.is_empty() { String::new() } else { format!(" by {controls}") };
        let ours = match cell.ours_alone {
            0 => String::new(),
            all if all == cell.workloads => format!(", by {OURS} alone"),
            some => format!(", {some} of them by {OURS} alone"),
        };
        why.push(format!(
            "{} would be refused{by} ({}){ours}",
            plural(cell.workloads, "workload"),
            what.join(", ")
        ));
    }
    let execs = namespace.execs_refused.get(index).copied().unwrap_or_default();
    if execs > 0 {
        why.push(format!(
            "{} in running containers (exec, probes) would violate it",
            plural(execs, "command")
        ));
    }
    if faults > 0 && fault_refuses {
        why.push(format!("{} could not be judged, which enforce mode refuses", plural(faults, "start")));
    }
    if unjudged > 0 && fault_refuses {
        why.push(format!(
            "{} cannot be judged, which enforce mode refuses",
            plural(unjudged, "running container")
        ));
    }
    why
}

/// What is known where nothing is refused.
fn otherwise(
    level: Level,
    namespace: &Namespace,
    runs: u64,
    asked: Asked,
    proofs: Proofs,
) -> (Rating, String) {
    let watched = asked.watched();
    // An allowed start violates nothing of all that is asked.
    let allowed = if watched >= Some(level) { namespace.now.counts.allowed } else { 0 };
    let seen = proofs.complying + allowed;
    let unproven = |why: String| (Rating::Unproven, why);
    if proofs.unclear > 0 {
        let s = agree(&proofs.unclear, "s", "");
        return unproven(format!(
            "{} violate{s} controls of restricted that hide whether {level} is violated, too; pss-guard scan --level \
             {level} shows what runs",
            plural(proofs.unclear, "start")
        ));
    }
    let Some(watched) = watched else {
        return unproven("what it asks for cannot be read, so an empty log proves nothing".to_owned());
    };
    if watched < level {
        let now = if runs > 0 { format!("the {} now would start; ", runs_now(runs)) } else { String::new() };
        return unproven(format!(
            "{now}it asks for no more than {watched}, so starts were not checked against {level}; audit = \
             \"{level}\" does that"
        ));
    }
    if seen + runs == 0 {
        return unproven(format!(
            "no compliant start was logged; log-allowed = true logs them, pss-guard scan --level {level} \
             shows what runs"
        ));
    }
    let mut why = Vec::new();
    if seen > 0 {
        why.push(format!("nothing against {}", plural(seen, "logged start")));
    }
    if runs > 0 {
        why.push(format!("nothing against the {} now", runs_now(runs)));
    }
    if namespace.now.counts.exception > 0 {
        why.push(format!("{} by an exception", plural(namespace.now.counts.exception, "start")));
    }
    if !namespace.versions.is_empty() {
        why.push(format!("judged at {}", namespace.versions.join(", ")));
    }
    (Rating::Ready, why.join("; "))
}

/// The controls of a level that workloads violate.
fn controls<'a>(level: Level, workloads: impl Iterator<Item = &'a Workload>) -> String {
    let mut all = Controls::default();
    workloads.for_each(|workload| all.extend(workload.violated));
    let of_level =
        CONTROLS.iter().filter(|control| control.level <= level && all.ids().any(|id| id == control.id));
    of_level.map(|control| marked(control.id)).collect::<Vec<_>>().join(", ")
}

fn runs_now(count: u64) -> String {
    if count == 1 {
        "container that runs".to_owned()
    } else {
        format!("{} that run", plural(count, "container"))
    }
}
