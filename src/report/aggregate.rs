//! Counts events as they are read, in memory that grows neither with their number nor with the number of names in
//! them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};

use serde::Serialize;

use super::exceptions::Uses;
use super::proof::{self, Controls, Evidence, Proof};
use super::time_range::Period;

use crate::events::Record;
use crate::level::policy::OnSuspect;
use crate::level::{Policy, workload};
use crate::message::shortened;
use crate::pss::controls::CONTROLS;
use pss_guard_core::record::Kind;

/// How many container starts ended in each kind of decision. One start can have several: what would be denied at the
/// enforce level is most often audited, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Counts {
    /// Refused.
    pub denied: u64,
    /// Would have been refused in enforce mode.
    pub would_deny: u64,
    /// Violate the audit level.
    pub audit: u64,
    /// Violate the warn level.
    pub warn: u64,
    /// Let in by an exception.
    pub exception: u64,
    /// Exempt by the policy.
    pub exempt: u64,
    /// Could not be evaluated.
    pub fault: u64,
    /// Allowed, where that is logged.
    pub allowed: u64,
}

/// One kind of decision: its name, and its count.
pub type CountRow = (&'static str, fn(&Counts) -> u64);

impl Counts {
    /// The rows in which counts are shown: a name, and how to get at it.
    pub const ROWS: [CountRow; 8] = [
        ("denied", |counts| counts.denied),
        ("would-deny", |counts| counts.would_deny),
        ("audit", |counts| counts.audit),
        ("warn", |counts| counts.warn),
        ("exception", |counts| counts.exception),
        ("exempt", |counts| counts.exempt),
        ("fault", |counts| counts.fault),
        ("allowed", |counts| counts.allowed),
    ];

    fn add(&mut self, kind: Kind) {
        let count = match kind {
            Kind::Denied => &mut self.denied,
            Kind::WouldDeny => &mut self.would_deny,
            Kind::Audit => &mut self.audit,
            Kind::Warn => &mut self.warn,
            Kind::Exception => &mut self.exception,
            Kind::Exempt => &mut self.exempt,
            Kind::Fault => &mut self.fault,
            Kind::Allowed => &mut self.allowed,
            Kind::ModeChange | Kind::Restored => return,
        };
        *count += 1;
    }

    /// The sum of all.
    #[must_use]
    pub fn sum(&self) -> u64 {
        Self::ROWS.iter().map(|(_, of)| of(self)).sum()
    }

    /// What became of commands in running containers, where these are the counts of such.
    #[must_use]
    pub fn of_commands(&self) -> String {
        let reported = self.audit.max(self.warn);
        format!("{} refused, {} would be, {reported} reported", self.denied, self.would_deny)
    }

    /// Whether something was wrong: refused, violated, or impossible to evaluate.
    #[must_use]
    pub const fn is_bad(&self) -> bool {
        self.denied + self.would_deny + self.audit + self.warn + self.fault > 0
    }
}

/// How much is told apart. What goes beyond is counted, under no name.
#[derive(Clone, Copy, Debug)]
pub struct Caps {
    /// Namespaces.
    pub namespaces: usize,
    /// Workloads of one namespace, so that none takes the room of all.
    pub workloads: usize,
    /// Workloads of all.
    pub all_workloads: usize,
    /// Faults by their text, changes of mode.
    pub texts: usize,
    /// Parts of the period.
    pub parts: usize,
    /// Bytes of a name.
    pub name: usize,
    /// Starts that may have more than one event at a time.
    pub at_a_time: usize,
}

impl Default for Caps {
    fn default() -> Self {
        Self {
            namespaces: 1_000,
            workloads: 500,
            all_workloads: 20_000,
            texts: 100,
            parts: 400,
            name: 253,
            at_a_time: 4_096,
        }
    }
}

/// What was counted of one period, or of one name in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Container starts of which there is an event.
    pub starts: u64,
    /// By decision.
    pub counts: Counts,
}

/// What is known of starts at one level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Proofs {
    /// Nothing refuses them.
    pub complying: u64,
    /// It cannot be told.
    pub unclear: u64,
    /// They would be refused.
    pub refused: u64,
}

impl Proofs {
    fn of(&mut self, proof: Proof) -> Option<&mut u64> {
        match proof {
            Proof::Nothing => None,
            Proof::Complies => Some(&mut self.complying),
            Proof::Unclear => Some(&mut self.unclear),
            Proof::Refused => Some(&mut self.refused),
        }
    }

    fn change(&mut self, before: Proof, now: Proof) {
        if let Some(count) = self.of(before) {
            *count = count.saturating_sub(1);
        }
        if let Some(count) = self.of(now) {
            *count += 1;
        }
    }
}

/// A workload's part.
#[derive(Clone, Debug, Default)]
pub struct Workload {
    /// In the period.
    pub now: Tally,
    /// In the period before.
    pub before: Tally,
    /// Whether its pods come from files of the kubelet.
    pub is_static: bool,
    /// What its starts prove, at baseline and at restricted.
    pub proofs: [Proofs; 2],
    /// Whether a control of upstream's refuses one of its starts, and not one of our own alone.
    pub by_upstream: bool,
    /// The controls that its starts violated.
    pub violated: Controls,
    /// The controls that they may have violated.
    pub suspected: Controls,
    /// The same as `violated`, in the period before.
    pub violated_before: Controls,
    /// The first and the last event of it in the period, in microseconds.
    pub seen: Option<(u64, u64)>,
    /// Commands in its containers that were refused, or would be.
    pub execs: u64,
}

/// A namespace's part.
#[derive(Clone, Debug, Default)]
pub struct Namespace {
    /// In the period.
    pub now: Tally,
    /// In the period before.
    pub before: Tally,
    /// What its starts prove, at baseline and at restricted.
    pub proofs: [Proofs; 2],
    /// Commands in running containers that would be refused, at baseline and at restricted.
    pub execs_refused: [u64; 2],
    /// The versions, other than the latest, that starts were held against.
    pub versions: Vec<String>,
    /// Its workloads by name. What has none, or came when there was no room, is under the empty name.
    pub workloads: BTreeMap<Box<str>, Workload>,
    /// Events of workloads for which there was no room.
    pub folded: u64,
}

/// A control's part.
#[derive(Clone, Copy, Debug, Default)]
pub struct Control {
    /// Starts that violated it.
    pub starts: u64,
    /// Starts that may have.
    pub suspected: u64,
    /// Starts that violated it in the period before.
    pub before: u64,
}

/// The node's mode was changed, or an engine got the gate back that its configuration had lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModeChange {
    /// When.
    pub at: u64,
    /// What the event says.
    pub message: String,
}

/// Everything that was counted.
#[derive(Debug)]
pub struct History {
    /// The period.
    pub period: Period,
    /// All of it.
    pub now: Tally,
    /// All of the period before.
    pub before: Tally,
    /// Commands in running containers (`kubectl exec`, probes): refused, would be, or reported.
    pub execs: Counts,
    /// By namespace. Containers of no pod, and what is of nobody knows which, are under the empty name.
    pub namespaces: BTreeMap<Box<str>, Namespace>,
    /// By control, in the standard's order.
    pub controls: Vec<Control>,
    /// By day or hour: the beginning, in microseconds.
    pub parts: BTreeMap<u64, Counts>,
    /// Which exceptions were used.
    pub exceptions: Uses,
    /// Faults by what they say.
    pub faults: BTreeMap<Box<str>, u64>,
    /// Changes of mode, in the order in which they were read.
    pub modes: VecDeque<ModeChange>,
    /// What was not told apart.
    pub folded: Folded,
    /// All events that were counted, of both periods.
    pub events: u64,
    /// The first event that was counted.
    pub first: Option<u64>,
    only: Vec<String>,
    node: String,
    on_suspect: OnSuspect,
    caps: Caps,
    workloads: usize,
    open: Open,
}

/// How many events have lost their name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Folded {
    /// Of namespaces beyond those that are told apart.
    pub namespaces: u64,
    /// Of workloads.
    pub workloads: u64,
    /// Of faults' texts and changes of mode.
    pub texts: u64,
    /// Of parts of the period.
    pub parts: u64,
}

impl History {
    /// Nothing counted yet. With `only`, events of other namespaces are left out.
    #[must_use]
    pub fn new(period: Period, node: &str, policy: &Policy, only: &[String], caps: Caps) -> Self {
        Self {
            period,
            now: Tally::default(),
            before: Tally::default(),
            execs: Counts::default(),
            namespaces: BTreeMap::new(),
            controls: vec![Control::default(); CONTROLS.len()],
            parts: BTreeMap::new(),
            exceptions: Uses::of(&policy.exceptions),
            faults: BTreeMap::new(),
            modes: VecDeque::new(),
            folded: Folded::default(),
            events: 0,
            first: None,
            only: only.to_vec(),
            node: node.to_owned(),
            on_suspect: policy.on_suspect,
            caps,
            workloads: 0,
            open: Open::new(caps.at_a_time),
        }
    }

    /// Counts one event.
    pub fn add(&mut self, record: &Record) {
        let Some(kind) = record.kind else { return };
        if record.at < self.period.before() {
            return;
        }
        let now = record.at >= self.period.since;
        if kind.is_of_the_node() {
            self.events += 1;
            if now {
                self.mode_change(record);
            }
            return;
        }
        if !self.only.is_empty() && !self.only.contains(&record.namespace) {
            return;
        }
        self.events += 1;
        self.first = Some(self.first.map_or(record.at, |first| first.min(record.at)));
        let evidence = proof::of(record, self.on_suspect);
        let exec = record.is_exec();
        let seen = if exec { Seen::default() } else { self.open.see(record, kind, now, &evidence) };

        if now && kind == Kind::Fault {
            let text =
                shortened(if record.because.is_empty() { &record.message } else { &record.because }, 400);
            count_text(&mut self.faults, text, self.caps.texts, &mut self.folded.texts);
        }
        if now && kind == Kind::Exception && !exec {
            self.exceptions.add(record, &self.node, &evidence.excepted);
        }
        if exec && now {
            self.execs.add(kind);
        }
        if !exec {
            let tally = if now { &mut self.now } else { &mut self.before };
            tally.count(kind, seen.is_new);
            if now {
                self.part(record.at, kind);
            }
            self.control(now, &seen);
        }

        let namespace = self.namespace(record);
        if !exec {
            let tally = if now { &mut namespace.now } else { &mut namespace.before };
            tally.count(kind, seen.is_new);
        }
        if now {
            for (proofs, (before, after)) in namespace.proofs.iter_mut().zip(seen.proofs) {
                proofs.change(before, after);
            }
            namespace.learn(record);
            if exec {
                let proofs = [evidence.baseline, evidence.restricted];
                for (count, proof) in namespace.execs_refused.iter_mut().zip(proofs) {
                    *count += u64::from(proof == Proof::Refused);
                }
            }
        }
        let workload = self.workload(record);
        workload.is_static |= workload::is_static(&record.pod_uid);
        if exec {
            workload.execs += u64::from(now);
        } else {
            let tally = if now { &mut workload.now } else { &mut workload.before };
            tally.count(kind, seen.is_new);
        }
        if !now {
            workload.violated_before.extend(evidence.violated);
            return;
        }
        for (proofs, (before, after)) in workload.proofs.iter_mut().zip(seen.proofs) {
            proofs.change(before, after);
        }
        workload.by_upstream |= evidence.by_upstream && !exec;
        if kind != Kind::Exception {
            workload.violated.extend(evidence.violated);
            workload.suspected.extend(evidence.suspected);
        }
        let (first, last) = workload.seen.unwrap_or((record.at, record.at));
        workload.seen = Some((first.min(record.at), last.max(record.at)));
    }

    fn control(&mut self, now: bool, seen: &Seen) {
        for index in seen.violated.indices() {
            if let Some(control) = self.controls.get_mut(index) {
                *(if now { &mut control.starts } else { &mut control.before }) += 1;
            }
        }
        for index in seen.suspected.indices().filter(|_| now) {
            if let Some(control) = self.controls.get_mut(index) {
                control.suspected += 1;
            }
        }
    }

    fn part(&mut self, at: u64, kind: Kind) {
        let step = self.period.step();
        let begins = at - at % step;
        if self.parts.len() >= self.caps.parts && !self.parts.contains_key(&begins) {
            self.folded.parts += 1;
            return;
        }
        self.parts.entry(begins).or_default().add(kind);
    }

    /// The last are kept: how it is now matters most.
    fn mode_change(&mut self, record: &Record) {
        if self.modes.len() >= self.caps.texts {
            self.modes.pop_front();
            self.folded.texts += 1;
        }
        self.modes.push_back(ModeChange { at: record.at, message: shortened(&record.message, 1_000) });
    }

    fn namespace(&mut self, record: &Record) -> &mut Namespace {
        let name = shortened(&record.namespace, self.caps.name);
        if self.namespaces.len() >= self.caps.namespaces && !self.namespaces.contains_key(&*name) {
            self.folded.namespaces += 1;
            return self.namespaces.entry(BEYOND.into()).or_default();
        }
        self.namespaces.entry(name.into_boxed_str()).or_default()
    }

    fn workload(&mut self, record: &Record) -> &mut Workload {
        let name = if record.pod.is_empty() {
            // A container of no pod has at least an id, which says nothing tomorrow, and an image.
            shortened(&record.image, self.caps.name)
        } else {
            shortened(workload::of(&record.pod, &record.pod_uid, &self.node), self.caps.name)
        };
        let (caps, all, folded) = (self.caps, self.workloads, &mut self.folded.workloads);
        let namespace = shortened(&record.namespace, caps.name);
        let key = if self.namespaces.contains_key(&*namespace) { &*namespace } else { BEYOND };
        let namespace = self.namespaces.entry(key.into()).or_default();
        let is_known = namespace.workloads.contains_key(&*name);
        let is_full = namespace.workloads.len() >= caps.workloads || all >= caps.all_workloads;
        if is_known {
            return namespace.workloads.entry(name.into_boxed_str()).or_default();
        }
        if is_full {
            *folded += 1;
            namespace.folded += 1;
            return namespace.workloads.entry("".into()).or_default();
        }
        self.workloads += 1;
        namespace.workloads.entry(name.into_boxed_str()).or_default()
    }
}

/// The name under which namespaces are counted for which there is no room. No namespace has it.
pub const BEYOND: &str = "(others)";

impl Tally {
    fn count(&mut self, kind: Kind, is_new: bool) {
        self.starts += u64::from(is_new);
        self.counts.add(kind);
    }
}

impl Namespace {
    fn learn(&mut self, record: &Record) {
        let odd = !record.version.is_empty() && record.version != "latest" && record.level != "privileged";
        if odd
            && self.versions.len() < 4
            && record.version.len() <= 16
            && !self.versions.contains(&record.version)
        {
            self.versions.push(record.version.clone());
        }
    }
}

fn count_text(texts: &mut BTreeMap<Box<str>, u64>, text: String, cap: usize, folded: &mut u64) {
    if texts.len() >= cap && !texts.contains_key(&*text) {
        *folded += 1;
        return;
    }
    *texts.entry(text.into_boxed_str()).or_default() += 1;
}

/// The starts of which there may be more events. Those of one start are written one after the other by one process, so
/// that only a few are open at a time.
#[derive(Debug)]
struct Open {
    starts: HashMap<u64, Start>,
    order: VecDeque<u64>,
    limit: usize,
    hasher: RandomState,
}

#[derive(Clone, Copy, Debug, Default)]
struct Start {
    kinds: u16,
    violated: Controls,
    suspected: Controls,
    proofs: [Proof; 2],
}

/// What an event adds to what was known of its start.
#[derive(Debug, Default)]
struct Seen {
    is_new: bool,
    violated: Controls,
    suspected: Controls,
    proofs: [(Proof, Proof); 2],
}

impl Open {
    fn new(limit: usize) -> Self {
        Self { starts: HashMap::new(), order: VecDeque::new(), limit, hasher: RandomState::new() }
    }

    fn see(&mut self, record: &Record, kind: Kind, now: bool, evidence: &Evidence) -> Seen {
        let bit = 1 << Kind::ALL.iter().position(|other| *other == kind).unwrap_or_default();
        let key = self.hasher.hash_one((&record.container_id, &record.namespace, now));
        let mut known = self.starts.get(&key).copied();
        // Nobody decides twice on one start: the container was started again, or nobody knows its id.
        if record.container_id.is_empty() || known.is_some_and(|start| start.kinds & bit != 0) {
            known = None;
        }
        let before = known.unwrap_or_default();
        let [baseline, restricted] = before.proofs;
        let mut after = before;
        after.kinds |= bit;
        after.proofs = [baseline.max(evidence.baseline), restricted.max(evidence.restricted)];
        // What an exception covers is violated, and nobody's business.
        if kind != Kind::Exception {
            after.violated.extend(evidence.violated);
            after.suspected.extend(evidence.suspected);
        }
        if self.starts.insert(key, after).is_none() {
            self.order.push_back(key);
            if self.order.len() > self.limit
                && let Some(oldest) = self.order.pop_front()
            {
                self.starts.remove(&oldest);
            }
        }
        let [after_baseline, after_restricted] = after.proofs;
        Seen {
            is_new: known.is_none(),
            violated: after.violated.without(before.violated),
            suspected: after.suspected.without(before.suspected),
            proofs: [(baseline, after_baseline), (restricted, after_restricted)],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::{Caps, Counts, History};
    use crate::events::Record;
    use crate::level::Policy;
    use crate::report::time_range::{Period, Since};
    use pss_guard_core::record::Kind;

    const NOW: u64 = 1_000_000_000;

    fn history(caps: Caps) -> History {
        let now = UNIX_EPOCH + Duration::from_secs(NOW);
        let period = Period::until(now, Since::Ago(Duration::from_secs(7 * 86_400))).unwrap();
        History::new(period, "node-1", &Policy::default(), &[], caps)
    }

    /// An event of so many hours ago.
    fn event(kind: Kind, hours: u64, namespace: &str, pod: &str, id: &str) -> Record {
        Record {
            at: (NOW - hours * 3_600) * 1_000_000,
            kind: Some(kind),
            level: "restricted".into(),
            version: "latest".into(),
            message: "would violate".into(),
            controls: "runAsNonRoot".into(),
            findings: r#"[{"control":"runAsNonRoot","certainty":"violates","detail":"x"}]"#.into(),
            namespace: namespace.into(),
            pod: pod.into(),
            container_id: id.into(),
            ..Record::default()
        }
    }

    #[test]
    fn one_start_counts_once_however_many_events_it_has() {
        let mut history = history(Caps::default());
        for kind in [Kind::WouldDeny, Kind::Audit, Kind::Warn] {
            history.add(&event(kind, 1, "shop", "web-5d4f8c7b9d-x7k2p", "a"));
            history.add(&event(kind, 1, "shop", "web-5d4f8c7b9d-vn5tq", "b"));
        }
        // The same container started again: docker keeps the id.
        history.add(&event(Kind::WouldDeny, 1, "shop", "web-5d4f8c7b9d-x7k2p", "a"));
        let counts = Counts { would_deny: 3, audit: 2, warn: 2, ..Counts::default() };
        assert_eq!((history.now.starts, history.now.counts), (3, counts));
        let shop = &history.namespaces["shop"];
        assert_eq!((shop.now.starts, shop.proofs[1].refused, shop.proofs[0].complying), (3, 3, 3));
        assert_eq!(shop.workloads.keys().map(|name| &**name).collect::<Vec<_>>(), ["web"]);
        let control = history.controls.iter().map(|control| control.starts).sum::<u64>();
        assert_eq!(control, 3, "by control, too");
    }

    #[test]
    fn a_command_in_a_container_is_no_start() {
        let mut history = history(Caps::default());
        for _ in 0..5 {
            let message = "exec violates PodSecurity".to_owned();
            history.add(&Record { message, ..event(Kind::Denied, 1, "shop", "web-0", "a") });
        }
        // A fault has no message of its own.
        history.add(&Record { exec: true, ..event(Kind::Fault, 1, "shop", "web-0", "a") });
        assert_eq!((history.now.starts, history.now.counts), (0, Counts::default()));
        assert_eq!((history.execs.denied, history.execs.fault), (5, 1));
        assert_eq!(history.namespaces["shop"].workloads["web"].execs, 6);
    }

    #[test]
    fn the_period_and_the_one_before_are_told_apart() {
        let mut history = history(Caps::default());
        for (hours, count) in [(0, 1), (167, 2), (168, 4), (169, 8), (336, 16), (337, 32)] {
            for index in 0..count {
                history.add(&event(Kind::Denied, hours, "shop", "web-0", &format!("{hours}-{index}")));
            }
        }
        assert_eq!((history.now.counts.denied, history.before.counts.denied), (7, 24));
        assert_eq!(history.events, 31, "what is older is not counted at all");
        assert_eq!(history.parts.values().map(|counts| counts.denied).sum::<u64>(), 7);
    }

    #[test]
    fn names_without_end_take_no_memory_without_end() {
        let caps = Caps { namespaces: 3, workloads: 4, all_workloads: 8, texts: 2, ..Caps::default() };
        let mut history = history(caps);
        let long = "x".repeat(100_000);
        for index in 0..1_000 {
            let namespace = format!("ns{index}");
            history.add(&event(Kind::Denied, 1, &namespace, &format!("{long}{index}"), &index.to_string()));
            history.add(&event(Kind::Denied, 1, "shop", &format!("pod{index}x"), &format!("s{index}")));
            let mut fault = event(Kind::Fault, 1, "shop", "web-0", "f");
            fault.because = format!("{index}{long}");
            history.add(&fault);
        }
        assert_eq!(history.now.counts.denied, 2_000, "all are counted");
        assert_eq!(history.namespaces.len(), 4, "three, and one for the others");
        let all: u64 = history.namespaces.values().map(|namespace| namespace.now.counts.denied).sum();
        assert_eq!(all, 2_000, "under some name");
        assert_eq!(history.folded.namespaces, 998);
        let workloads = history.namespaces.values().flat_map(|namespace| namespace.workloads.iter());
        assert!(workloads.clone().count() <= 8 + 4, "the cap, and one for the others in each namespace");
        assert!(workloads.clone().all(|(name, _)| name.len() < 260));
        assert_eq!(workloads.map(|(_, workload)| workload.now.counts.denied).sum::<u64>(), 2_000);
        assert_eq!(history.faults.len(), 2);
        assert_eq!(history.folded.texts, 998);
        assert!(history.open.starts.len() <= caps.at_a_time);
    }
}
