//! What is the answer? The numbers of a scan, and the sentences that every output ends with.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{Scan, Scanned, fix};
use crate::decision::Verdict;
use crate::pss::Version;

/// Numbers of containers; a pod's sandbox is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// All that were looked at.
    pub containers: usize,
    /// Those that would be refused, by themselves or with their pod.
    pub refused: usize,
    /// The pods that they are in, and those that would be refused before any container of theirs.
    pub refused_pods: usize,
    /// Those among the refused that belong to no pod.
    pub refused_unmanaged: usize,
    /// Those among the refused that one line of YAML would put right.
    pub one_line: usize,
    /// Those that run with more than was asked for.
    pub drifted: usize,
    /// Those that could not be judged; sandboxes count.
    pub unjudged: usize,
    /// Those that the policy exempts.
    pub exempt: usize,
    /// All pods.
    pub pods: usize,
}

impl Scan {
    /// The numbers.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let refused_pods: BTreeSet<&str> = self
            .containers
            .iter()
            .filter(|one| one.is_refused())
            .filter_map(|one| one.pod.as_deref())
            .collect();
        let with_its_pod = |one: &&Scanned| {
            one.is_refused() || one.pod.as_deref().is_some_and(|pod| self.is_refused_as_a_pod(pod))
        };
        let containers = || self.containers.iter().filter(|one| !one.sandbox);
        let refused = || containers().filter(with_its_pod);
        let pods: BTreeSet<&str> = self.containers.iter().filter_map(|one| one.pod.as_deref()).collect();
        Summary {
            containers: containers().count(),
            refused: refused().count(),
            refused_pods: refused_pods.len(),
            refused_unmanaged: refused().filter(|one| one.pod.is_none()).count(),
            one_line: refused().filter(|one| one.needs_one_line()).count(),
            drifted: self.containers.iter().filter(|one| !one.drift.is_empty()).count(),
            unjudged: self.containers.iter().filter(|one| one.verdict == Verdict::CannotJudge).count(),
            exempt: containers().filter(|one| one.exempt).count(),
            pods: pods.len(),
        }
    }

    /// Whether a pod's sandbox would be refused, and with it all of the pod.
    #[must_use]
    pub fn is_refused_as_a_pod(&self, pod: &str) -> bool {
        self.containers.iter().any(|one| one.sandbox && one.is_refused() && one.pod.as_deref() == Some(pod))
    }

    /// Whether something could not be judged or looked at: the answer may be worse than it looks.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        !self.unseen.is_empty() || self.containers.iter().any(|one| one.verdict == Verdict::CannotJudge)
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
        let asked = self.asked();
        let containers = plural(sum.containers, "container");
        let mut all = vec![match sum {
            Summary { containers: 0, unjudged: 0, .. } => "no container runs here".to_owned(),
            Summary { refused: 0, .. } => format!("none of {containers} would be refused at {asked}"),
            Summary { refused, refused_pods, refused_unmanaged, one_line, .. } => {
                let places = match (refused_pods, refused_unmanaged) {
                    (0, _) => "of no pod".to_owned(),
                    (pods, 0) => format!("in {}", plural(pods, "pod")),
                    (pods, others) => format!("in {} and {others} of no pod", plural(pods, "pod")),
                };
                let need = match one_line {
                    0 => String::new(),
                    1 => "; 1 needs one line".to_owned(),
                    many => format!("; {many} need one line"),
                };
                format!("{refused} of {containers} {places} would be refused at {asked}{need}")
            }
        }];
        let mut add = |count: usize, says: String| {
            if count > 0 {
                all.push(says);
            }
        };
        add(sum.drifted, format!("{} with more than was asked for", runs(sum.drifted)));
        add(sum.unjudged, format!("{} could not be judged", sum.unjudged));
        add(sum.exempt, format!("{} exempt by the policy", is(sum.exempt)));
        add(self.vanished, format!("{} ended meanwhile", self.vanished));
        add(
            self.unseen.len(),
            format!(
                "{} could not be looked at; there may be more containers",
                plural(self.unseen.len(), "place")
            ),
        );
        all
    }
}

impl Scanned {
    /// Whether one line of YAML would put it right.
    #[must_use]
    pub fn needs_one_line(&self) -> bool {
        let mut reasons = self.reasons();
        let first = reasons.next().and_then(|finding| fix::short(&finding.fix));
        first.is_some_and(|fields| fields.len() == 1) && reasons.next().is_none()
    }
}

fn plural(count: usize, word: &str) -> String {
    if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") }
}

fn runs(count: usize) -> String {
    if count == 1 { "1 runs".to_owned() } else { format!("{count} run") }
}

fn is(count: usize) -> String {
    if count == 1 { "1 is".to_owned() } else { format!("{count} are") }
}
