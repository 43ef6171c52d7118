//! The numbers of a scan, and the closing sentences that every output shares.

use std::collections::{BTreeSet, HashSet};

use serde::Serialize;

use super::{Scan, Scanned, remedy};
use crate::decision::Verdict;
use crate::message::{OURS, UNMANAGED, escape};
use crate::pss::Version;
use crate::words::{agree, plural};

/// Numbers of containers; a pod's sandbox is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// All that were looked at.
    pub containers: usize,
    /// Those that would be refused, by themselves or with their pod.
    pub refused: usize,
    /// The pods that they are in, and those that would be refused before any container of theirs.
    pub refused_pods: usize,
    /// The pods that would be refused and in which no container runs.
    pub refused_empty_pods: usize,
    /// Those among the refused that belong to no pod.
    pub refused_unmanaged: usize,
    /// Those among the refused that one line of YAML would put right.
    pub one_line: usize,
    /// Those that run with more than was asked for.
    pub drifted: usize,
    /// Containers and sandboxes that could not be evaluated.
    pub unjudged: usize,
    /// Those among the refused that upstream's controls would let start.
    pub refused_by_ours: usize,
    /// Those that the policy exempts.
    pub exempt: usize,
    /// All pods.
    pub pods: usize,
}

impl Scan {
    /// The containers that would be refused, by themselves or with their pod.
    pub fn refused(&self) -> impl Iterator<Item = &Scanned> {
        let pods = self.refused_sandboxes();
        let with_its_pod = move |one: &&Scanned| one.pod.as_deref().is_some_and(|pod| pods.contains(pod));
        let containers = self.containers.iter().filter(|one| !one.sandbox);
        containers.filter(move |one| one.is_refused() || with_its_pod(one))
    }

    /// The pods that are refused before any container of theirs.
    fn refused_sandboxes(&self) -> HashSet<&str> {
        let sandboxes = self.containers.iter().filter(|one| one.sandbox && one.is_refused());
        sandboxes.filter_map(|one| one.pod.as_deref()).collect()
    }

    /// The pods that are refused and have no container that runs: what the gate refuses is tried again, and never gets one.
    fn refused_empty_pods(&self) -> usize {
        let inhabited =
            self.containers.iter().filter(|one| !one.sandbox).filter_map(|one| one.pod.as_deref());
        let inhabited: HashSet<&str> = inhabited.collect();
        self.refused_sandboxes().difference(&inhabited).count()
    }

    /// The namespaces of what is exempt, a few of them by name.
    fn exempt_namespaces(&self) -> String {
        const SHOWN: usize = 3;
        let exempt = self.containers.iter().filter(|one| one.verdict == Verdict::Exempt && !one.sandbox);
        let all: BTreeSet<&str> =
            exempt.map(|one| one.result.container().namespace.as_deref().unwrap_or(UNMANAGED)).collect();
        let rest = all.len().saturating_sub(SHOWN);
        let shown: Vec<String> = all.into_iter().take(SHOWN).map(escape).collect();
        let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
        format!("{}{more}", shown.join(", "))
    }

    /// How many containers could not be evaluated, and how many sandboxes.
    fn unjudged(&self) -> [usize; 2] {
        let odd = || self.containers.iter().filter(|one| one.verdict == Verdict::CannotJudge);
        let sandboxes = odd().filter(|one| one.sandbox).count();
        [odd().count() - sandboxes, sandboxes]
    }

    /// The numbers.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let pods = |wanted: fn(&Scanned) -> bool| {
            let pods = self.containers.iter().filter(|one| wanted(one)).filter_map(|one| one.pod.as_deref());
            pods.collect::<HashSet<&str>>().len()
        };
        let count = |wanted: fn(&Scanned) -> bool| self.containers.iter().filter(|one| wanted(one)).count();
        let refused: Vec<&Scanned> = self.refused().collect();
        let sandboxes = self.refused_sandboxes();
        let alone = |one: &Scanned| one.pod.as_deref().is_none_or(|pod| !sandboxes.contains(pod));
        let by_ours = |one: &Scanned| alone(one) && one.is_refused_by_ours_alone();
        Summary {
            containers: count(|one| !one.sandbox),
            refused: refused.len(),
            refused_pods: pods(Scanned::is_refused),
            refused_empty_pods: self.refused_empty_pods(),
            refused_unmanaged: refused.iter().filter(|one| one.pod.is_none()).count(),
            one_line: refused.iter().filter(|one| one.needs_one_line()).count(),
            drifted: count(|one| !one.drift.is_empty()),
            unjudged: count(|one| one.verdict == Verdict::CannotJudge),
            exempt: count(|one| one.verdict == Verdict::Exempt && !one.sandbox),
            refused_by_ours: refused.iter().filter(|one| by_ours(one)).count(),
            pods: pods(|_| true),
        }
    }

    /// A sentence for each of the nodes whose scans were merged.
    #[must_use]
    pub fn of_each_node(&self) -> Vec<String> {
        let sentence = |part: &super::merge::Part| {
            let own = |one: &&Scanned| one.node.as_deref() == Some(&part.node);
            let all = self.containers.iter().filter(own).filter(|one| !one.sandbox).count();
            let refused = self.refused().filter(own).count();
            let unjudged =
                self.containers.iter().filter(own).filter(|one| one.verdict == Verdict::CannotJudge);
            let unjudged = match unjudged.count() {
                0 => String::new(),
                many => format!(", {many} could not be judged"),
            };
            let containers = plural(all, "container");
            format!("{}: {refused} of {containers} refused{unjudged} (scanned {})", part.node, part.at)
        };
        self.parts.iter().map(sentence).collect()
    }

    /// Whether something could not be evaluated or read: the answer may be worse than it looks.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        let odd = |one: &Scanned| one.verdict == Verdict::CannotJudge || one.in_part;
        !self.unseen.is_empty() || self.containers.iter().any(odd)
    }

    /// How many places could not be inspected. Of a node whose scan was merged only their number is known.
    fn unseen_places(&self) -> usize {
        if self.parts.is_empty() {
            self.unseen.len()
        } else {
            self.parts.iter().map(|part| part.unseen).sum()
        }
    }

    /// What was asked about, in words: `restricted`, `baseline:v1.30`, `their own level`.
    #[must_use]
    pub fn asked(&self) -> String {
        match self.level {
            None => "their own level".to_owned(),
            Some((level, Version::Latest)) => level.to_string(),
            Some((level, version)) => format!("{level}:{version}"),
        }
    }

    /// The answer in sentences, the first of them to what was asked.
    #[must_use]
    pub fn sentences(&self) -> Vec<String> {
        let sum = self.summary();
        let asked = match self.level {
            None if sum.containers == 1 => "its own level".to_owned(),
            _ => self.asked(),
        };
        let on = if self.parts.is_empty() {
            String::new()
        } else {
            format!(" on {}", plural(self.parts.len(), "node"))
        };
        let containers = format!("{}{on}", plural(sum.containers, "container"));
        let [unjudged, of_pods] = self.unjudged();
        let not_judged = match (unjudged, of_pods) {
            (0, pods) => sandboxes(pods),
            (own, 0) => plural(own, "container"),
            (own, pods) => format!("{} and {}", plural(own, "container"), sandboxes(pods)),
        };
        let not_judged = format!("{not_judged} could not be judged, which enforce mode refuses");
        let mut all = vec![match sum {
            Summary { containers: 0, unjudged: 0, .. } if !self.unseen.is_empty() => {
                "no container was seen, but not everything could be inspected".to_owned()
            }
            Summary { containers: 0, unjudged: 0, .. } => "no container runs here".to_owned(),
            Summary { refused: 0, unjudged: 1.., .. } => match sum.containers - unjudged {
                0 => not_judged.clone(),
                others => format!("{not_judged}; none of the other {others}{on} would be refused at {asked}"),
            },
            Summary { refused: 0, containers: 1, .. } if self.parts.is_empty() => {
                format!("the one container here would not be refused at {asked}")
            }
            Summary { refused: 0, .. } => format!("none of {containers} would be refused at {asked}"),
            Summary { refused, refused_pods, refused_unmanaged, one_line, .. } => {
                let places = match (refused_pods - sum.refused_empty_pods, refused_unmanaged) {
                    (0, _) => "(unmanaged)".to_owned(),
                    (pods, 0) => format!("in {}", plural(pods, "pod")),
                    (pods, others) => format!("in {} and {others} unmanaged", plural(pods, "pod")),
                };
                let need = match one_line {
                    0 => String::new(),
                    1 => "; 1 needs a one-line fix".to_owned(),
                    many => format!("; {many} need a one-line fix"),
                };
                format!("{refused} of {containers} {places} would be refused at {asked}{need}")
            }
        }];
        let mut add = |count: usize, says: String| {
            if count > 0 {
                all.push(says);
            }
        };
        add(
            sum.refused_by_ours,
            format!("{} of them would be refused by {}", sum.refused_by_ours, ours_alone(&self.ours)),
        );
        add(
            sum.refused_empty_pods,
            format!(
                "{} in which no container runs would be refused{}",
                plural(sum.refused_empty_pods, "pod"),
                if sum.refused > 0 { " as well" } else { "" }
            ),
        );
        add(sum.drifted, format!("{} with more than was asked for", runs(sum.drifted)));
        add(if sum.refused > 0 { sum.unjudged } else { 0 }, not_judged + " as well");
        add(sum.exempt, format!("{} exempt ({})", is(sum.exempt), self.exempt_namespaces()));
        let in_part = self.containers.iter().filter(|one| one.in_part).count();
        add(
            in_part,
            format!("the processes of {} could be inspected only in part", plural(in_part, "container")),
        );
        add(self.vanished, format!("{} ended meanwhile", self.vanished));
        let places = self.unseen_places();
        add(
            places,
            format!("{} could not be inspected; there may be more containers", plural(places, "place")),
        );
        all
    }
}

impl Scanned {
    /// Whether one line of YAML would put it right.
    #[must_use]
    pub fn needs_one_line(&self) -> bool {
        let mut reasons = self.reasons();
        let (first, second) = (reasons.next(), reasons.next());
        let fields = first.filter(|_| second.is_none()).and_then(|finding| remedy::short(&finding.fix));
        fields.is_some_and(|fields| fields.len() == 1)
    }
}

/// What stands in the way where upstream's controls do not. `ours`: the controls of our own that refuse.
#[must_use]
pub fn ours_alone(ours: &str) -> String {
    format!("{ours} alone, {OURS} and not part of the Pod Security Standards")
}

fn sandboxes(count: usize) -> String {
    format!("{count} {}", agree(&count, "sandbox", "sandboxes"))
}

fn runs(count: usize) -> String {
    format!("{count} {}", agree(&count, "runs", "run"))
}

fn is(count: usize) -> String {
    format!("{count} {}", agree(&count, "is", "are"))
}
