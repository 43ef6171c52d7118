//! `pss-guard report`: counts events and derives which level each namespace is ready for.
//!
//! ```text
//! events::read ─► aggregate::History ─┐
//!        evidence of one event    ├─► readiness, exceptions ─► Report ─► text, json, html
//!   policy, namespaces, a scan ───┘
//! ```
//!
//! All of it is pure: the caller passes in what is known of the node.

pub mod aggregate;
pub mod exceptions;
pub mod html;
pub mod preflight;
pub mod proof;
pub mod readiness;
pub mod text;
pub mod time_range;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use self::aggregate::{Counts, Folded, History, Tally};
use self::readiness::{Asked, Readiness, Running};
use self::time_range::{day, rfc3339};
use crate::level::policy::OnFault;
use crate::level::{Mode, Policy};
use crate::message::our_refusing_controls;
use crate::pss::Origin;
use crate::pss::controls::CONTROLS;
use crate::time::{in_words, minute};
use crate::words::plural;

/// Everything that is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// Which level could be enforced where.
    pub ready: Readiness,
    /// The node's name.
    pub node: String,
    /// The mode that it is in now.
    pub mode: Option<&'static str>,
    /// Until when, where it ends by itself.
    pub mode_until: Option<String>,
    /// The time that is told of.
    pub period: Told,
    /// Container starts of which there is an event.
    pub starts: u64,
    /// Each kind of decision.
    pub decisions: Vec<Decision>,
    /// Commands in running containers, `kubectl exec` and probes alike.
    pub execs: Counts,
    /// What changed since the period before.
    pub changes: Changes,
    /// The parts of the period, oldest first, those without an event included.
    pub parts: Vec<Part>,
    /// Each control that was violated, most often violated first.
    pub controls: Vec<ControlRow>,
    /// Each namespace, the one with most starts first.
    pub namespaces: Vec<NamespaceRow>,
    /// Each workload, the one with most starts first.
    pub workloads: Vec<WorkloadRow>,
    /// The policy's exceptions.
    pub exceptions: Vec<exceptions::Row>,
    /// Starts let in by exceptions that the policy does not have any more.
    pub exceptions_gone: u64,
    /// What could not be evaluated, and why.
    pub faults: Vec<FaultRow>,
    /// Changes of the node's mode.
    pub modes: Vec<ModeRow>,
    /// What was counted under no name.
    pub folded: Folded,
    /// What must be known to read this, a sentence each.
    pub notes: Vec<String>,
    /// What could not be read, a sentence each.
    pub unseen: Vec<String>,
}

impl Report {
    /// The line below the answer, its parts one by one.
    #[must_use]
    pub fn about(&self) -> Vec<String> {
        let until = self.mode_until.as_deref().map(|until| format!(" until {} UTC", minute(until)));
        let mode = match self.mode {
            Some(mode) => format!("mode {mode}{}", until.unwrap_or_default()),
            None => "mode unknown".to_owned(),
        };
        let Told { since, until, seconds, .. } = &self.period;
        let time = format!(
            "{} to {} UTC ({})",
            minute(since),
            minute(until),
            in_words(Duration::from_secs(*seconds))
        );
        vec![self.node.clone(), mode, time, format!("{} logged", plural(self.starts, "container start"))]
    }
}

/// A period, in RFC 3339.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Told {
    /// Where it begins.
    pub since: String,
    /// Where it ends.
    pub until: String,
    /// Its length in seconds.
    pub seconds: u64,
    /// What its parts are: `day` or `hour`.
    pub by: &'static str,
    /// Where the journal begins, if that is context.
    pub journal_begins: Option<String>,
}

/// One kind of decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// Its name.
    pub decision: &'static str,
    /// Container starts.
    pub starts: u64,
    /// Workloads that they are of.
    pub workloads: u64,
    /// Container starts in the period before.
    pub before: u64,
}

/// How much is known of the period before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Comparable {
    /// All of it.
    Whole,
    /// The journal begins within it.
    Part,
    /// The journal begins after it.
    Nothing,
    /// It cannot be found out.
    Unknown,
}

/// What changed since the period before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Changes {
    /// How much is known of it.
    pub comparable: Comparable,
    /// Workloads with violations or faults that had none.
    pub new: Vec<Name>,
    /// Workloads that had some, and have none now; `still-starts` tells whether they start at all.
    pub gone: Vec<Gone>,
    /// Controls that nobody violated.
    pub new_controls: Vec<&'static str>,
    /// Controls that nobody violates any more.
    pub gone_controls: Vec<&'static str>,
}

/// A workload by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Name {
    /// Its namespace; `null` for a container of no pod.
    pub namespace: Option<String>,
    /// Its name; `null` if it has none, or came when there was no room for more.
    pub workload: Option<String>,
}

/// A workload that has no violation any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Gone {
    /// Which.
    #[serde(flatten)]
    pub name: Name,
    /// Whether an event tells that it still starts. Silence is either way: it complies now, or is not there.
    pub still_starts: bool,
}

/// A part of the period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    /// Where it begins.
    pub from: String,
    /// What was decided in it.
    #[serde(flatten)]
    pub counts: Counts,
}

/// A control.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ControlRow {
    /// Its id.
    pub control: &'static str,
    /// The level that brings it in.
    pub level: &'static str,
    /// Who made the rule.
    pub origin: &'static str,
    /// Container starts that violated it.
    pub starts: u64,
    /// Workloads that they are of.
    pub workloads: u64,
    /// Container starts that may have violated it.
    pub suspected: u64,
    /// Container starts that violated it in the period before.
    pub before: u64,
}

/// A namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NamespaceRow {
    /// Its name; `null` for containers of no pod.
    pub namespace: Option<String>,
    /// Container starts of which there is an event.
    pub starts: u64,
    /// Its workloads of which there is an event.
    pub workloads: u64,
    /// What was decided.
    pub decisions: Counts,
    /// Container starts in the period before.
    pub before: u64,
}

/// A workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct WorkloadRow {
    /// Which.
    #[serde(flatten)]
    pub name: Name,
    /// Whether its pods come from files of the kubelet.
    #[serde(rename = "static")]
    pub is_static: bool,
    /// Container starts of which there is an event.
    pub starts: u64,
    /// What was decided.
    pub decisions: Counts,
    /// Commands in its containers that were decided upon.
    pub execs: u64,
    /// The controls that it violated.
    pub controls: Vec<&'static str>,
    /// The controls that it may have violated.
    pub suspected: Vec<&'static str>,
    /// Its first event in the period.
    pub first: String,
    /// Its last.
    pub last: String,
    /// Container starts in the period before.
    pub before: u64,
}

/// Why something could not be evaluated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FaultRow {
    /// What the gate said.
    pub fault: String,
    /// How often.
    pub count: u64,
}

/// A change of the node's mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModeRow {
    /// When.
    pub at: String,
    /// What the event says.
    pub message: String,
}

/// What a report takes from the node besides the events.
#[derive(Clone, Debug)]
pub struct Context<'a> {
    /// The node's name.
    pub node: &'a str,
    /// Its policy; `None` if it cannot be used.
    pub policy: Option<&'a Policy>,
    /// The mode that is in force.
    pub mode: Option<Mode>,
    /// Until when, where it ends by itself.
    pub mode_until: Option<String>,
    /// What each namespace asks for now; the empty name is for containers of no pod.
    pub asked: &'a BTreeMap<String, Asked>,
    /// What runs now; `None` where nobody looked.
    pub running: Option<&'a BTreeMap<String, Running>>,
    /// Where the journal begins, in microseconds.
    pub journal_begins: Option<u64>,
    /// When the policy file was last changed.
    pub policy_changed: Option<u64>,
    /// What could not be read.
    pub unseen: &'a [String],
}

/// Puts it together.
#[must_use]
pub fn report(history: &History, context: &Context<'_>) -> Report {
    let enforces = context.mode == Some(Mode::Enforce);
    let ready = readiness::readiness(
        &history.namespaces,
        &readiness::Conditions {
            asked: context.asked,
            running: context.running,
            enforces,
            on_fault: context.policy.map_or(OnFault::Deny, |policy| policy.on_fault),
            ours: our_refusing_controls(context.policy.unwrap_or(&Policy::default())),
        },
    );
    let stops = |name: &str| context.asked.get(name).and_then(|asked| asked.enforced());
    let today = day(history.period.until);
    // Without a policy that can be used, nobody knows which there are.
    let uses = context.policy.map(|_| &history.exceptions);
    let mut faults: Vec<FaultRow> = history
        .faults
        .iter()
        .map(|(fault, count)| FaultRow { fault: fault.to_string(), count: *count })
        .collect();
    faults.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.fault.cmp(&b.fault)));
    let mut modes: Vec<_> = history.modes.iter().collect();
    modes.sort_by_key(|change| change.at);
    let modes = modes
        .into_iter()
        .map(|change| ModeRow { at: rfc3339(change.at), message: change.message.clone() })
        .collect();
    Report {
        node: context.node.to_owned(),
        mode: context.mode.map(Mode::name),
        mode_until: context.mode_until.clone(),
        period: Told {
            since: rfc3339(history.period.since),
            until: rfc3339(history.period.until),
            seconds: history.period.seconds(),
            by: if history.period.is_by_hour() { "hour" } else { "day" },
            journal_begins: context.journal_begins.map(rfc3339),
        },
        starts: history.now.starts,
        decisions: decisions(history),
        execs: history.execs,
        changes: changes(history, context.journal_begins),
        parts: parts(history),
        controls: controls(history),
        namespaces: namespaces(history),
        workloads: workloads(history),
        exceptions: uses.map(|uses| uses.rows(stops, today)).unwrap_or_default(),
        exceptions_gone: uses.map_or(0, |uses| uses.gone),
        faults,
        modes,
        folded: history.folded,
        notes: notes(history, context, &ready),
        unseen: context.unseen.to_vec(),
        ready,
    }
}

fn all_workloads(
    history: &History,
) -> impl Iterator<Item = (&str, &aggregate::Namespace, &str, &aggregate::Workload)> {
    history.namespaces.iter().flat_map(|(name, namespace)| {
        namespace.workloads.iter().map(move |(own, workload)| (&**name, namespace, &**own, workload))
    })
}

fn decisions(history: &History) -> Vec<Decision> {
    let workloads = |of: fn(&Counts) -> u64| {
        all_workloads(history).filter(|(_, _, _, workload)| of(&workload.now.counts) > 0).count() as u64
    };
    let row = |(decision, of): (&'static str, fn(&Counts) -> u64)| Decision {
        decision,
        starts: of(&history.now.counts),
        workloads: workloads(of),
        before: of(&history.before.counts),
    };
    Counts::ROWS.into_iter().map(row).collect()
}

fn changes(history: &History, journal_begins: Option<u64>) -> Changes {
    let period = history.period;
    let comparable = match journal_begins {
        None => Comparable::Unknown,
        Some(begins) if begins <= period.before() => Comparable::Whole,
        Some(begins) if begins < period.since => Comparable::Part,
        Some(_) => Comparable::Nothing,
    };
    let bad = |tally: &Tally| tally.counts.is_bad();
    let name = |namespace: &str, own: &str| Name { namespace: some(namespace), workload: some(own) };
    let mut changes = Changes {
        comparable,
        new: Vec::new(),
        gone: Vec::new(),
        new_controls: Vec::new(),
        gone_controls: Vec::new(),
    };
    for (namespace, _, own, workload) in all_workloads(history).filter(|(_, _, own, _)| !own.is_empty()) {
        match (bad(&workload.before), bad(&workload.now)) {
            (false, true) => changes.new.push(name(namespace, own)),
            (true, false) => {
                changes.gone.push(Gone { name: name(namespace, own), still_starts: workload.now.starts > 0 });
            }
            _ => {}
        }
    }
    for (control, row) in history.controls.iter().zip(CONTROLS) {
        match (control.before, control.starts) {
            (0, 1..) => changes.new_controls.push(row.id),
            (1.., 0) => changes.gone_controls.push(row.id),
            _ => {}
        }
    }
    changes
}

fn some(name: &str) -> Option<String> {
    (!name.is_empty()).then(|| name.to_owned())
}

fn parts(history: &History) -> Vec<Part> {
    let (period, step) = (history.period, history.period.step());
    let part = |(begins, counts): (u64, &Counts)| Part { from: rfc3339(begins), counts: *counts };
    let first = period.since - period.since % step;
    if (period.until - first) / step >= 100 {
        return history.parts.iter().map(|(begins, counts)| part((*begins, counts))).collect();
    }
    let none = Counts::default();
    let mut begins = first;
    let mut all = Vec::new();
    while begins < period.until {
        all.push(part((begins, history.parts.get(&begins).unwrap_or(&none))));
        begins += step;
    }
    // A clock that was wrong for a while.
    all.extend(history.parts.range(begins..).map(|(begins, counts)| part((*begins, counts))));
    all
}

fn controls(history: &History) -> Vec<ControlRow> {
    let workloads = |id: &str| {
        all_workloads(history)
            .filter(|(_, _, _, workload)| workload.violated.ids().any(|own| own == id))
            .count() as u64
    };
    let mut rows: Vec<ControlRow> = history
        .controls
        .iter()
        .zip(CONTROLS)
        .filter(|(control, _)| control.starts + control.before + control.suspected > 0)
        .map(|(control, row)| ControlRow {
            control: row.id,
            level: row.level.name(),
            origin: Origin::name(row.origin),
            starts: control.starts,
            workloads: workloads(row.id),
            suspected: control.suspected,
            before: control.before,
        })
        .collect();
    rows.sort_by_key(|row| std::cmp::Reverse((row.starts, row.suspected)));
    rows
}

fn namespaces(history: &History) -> Vec<NamespaceRow> {
    let mut rows: Vec<NamespaceRow> = history
        .namespaces
        .iter()
        .filter(|(_, namespace)| namespace.now.counts.sum() + namespace.before.counts.sum() > 0)
        .map(|(name, namespace)| NamespaceRow {
            namespace: some(name),
            starts: namespace.now.starts,
            workloads: namespace
                .workloads
                .iter()
                .filter(|(own, workload)| !own.is_empty() && workload.now.starts > 0)
                .count() as u64,
            decisions: namespace.now.counts,
            before: namespace.before.starts,
        })
        .collect();
    rows.sort_by(|a, b| b.starts.cmp(&a.starts).then_with(|| a.namespace.cmp(&b.namespace)));
    rows
}

fn workloads(history: &History) -> Vec<WorkloadRow> {
    let mut rows: Vec<WorkloadRow> = all_workloads(history)
        .filter_map(|(namespace, _, own, workload)| {
            let (first, last) = workload.seen?;
            Some(WorkloadRow {
                name: Name { namespace: some(namespace), workload: some(own) },
                is_static: workload.is_static,
                starts: workload.now.starts,
                decisions: workload.now.counts,
                execs: workload.execs,
                controls: workload.violated.ids().collect(),
                suspected: workload.suspected.without(workload.violated).ids().collect(),
                first: rfc3339(first),
                last: rfc3339(last),
                before: workload.before.starts,
            })
        })
        .collect();
    let bad = |row: &WorkloadRow| row.decisions.is_bad();
    rows.sort_by(|a, b| {
        let key = |row: &WorkloadRow| std::cmp::Reverse((bad(row), row.starts));
        key(a)
            .cmp(&key(b))
            .then_with(|| (&a.name.namespace, &a.name.workload).cmp(&(&b.name.namespace, &b.name.workload)))
    });
    rows
}

fn notes(history: &History, context: &Context<'_>, ready: &Readiness) -> Vec<String> {
    let mut notes = Vec::new();
    let period = history.period;
    if let Some(begins) = context.journal_begins.filter(|begins| *begins > period.since) {
        notes.push(format!(
            "the journal begins at {} UTC; earlier events are unknown",
            minute(&rfc3339(begins))
        ));
    }
    if context.journal_begins.is_none() {
        notes.push("there is no readable journal here; the events are from its fallback file".to_owned());
    }
    if context.policy_changed.is_some_and(|changed| changed > period.since) {
        notes.push(
            "the policy was changed in this period; namespaces without events are assessed at today's levels"
                .to_owned(),
        );
    }
    let logs_allowed = context.policy.is_some_and(|policy| policy.log_allowed);
    if !logs_allowed {
        let way_out = if context.running.is_some() {
            "log-allowed = true in the policy logs them"
        } else {
            "log-allowed = true in the policy logs them, pss-guard scan --level shows what runs now"
        };
        notes.push(format!("a start that violates nothing leaves no event; {way_out}"));
    }
    if ready.namespaces.iter().any(|row| row.namespace.is_none()) {
        notes.push(
            "unmanaged containers (podman, docker, ctr) are listed, and count as no namespace".to_owned(),
        );
    }
    if !history.namespaces.is_empty() {
        notes.push(
            "a refused start is retried again and again; workloads say how many things there are to fix. \
             Their names are derived from pod names"
                .to_owned(),
        );
    }
    let Folded { namespaces, workloads, texts, parts } = history.folded;
    for (count, what) in [
        (namespaces, "of namespaces beyond the first 1,000 are counted as (others)"),
        (
            workloads,
            "of workloads beyond the limit (500 of a namespace, 20,000 in all) are counted without a name",
        ),
        (texts, "have a text (fault, exception, mode) beyond those that are kept"),
        (parts, "lie in parts of the period beyond those that are shown"),
    ] {
        if count > 0 {
            notes.push(format!("{} {what}", plural(count, "event")));
        }
    }
    notes
}

#[cfg(test)]
mod tests;
