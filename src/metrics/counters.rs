//! Counts events into a bounded number of series. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::exposition::{Family, Number, Type};
use crate::events::Record;
use crate::level::{Mode, is_dns_label};
use crate::pss::Level;
use crate::pss::controls::CONTROLS;
use pss_guard_core::record::Kind;

/// What stands for a value that gets no series of its own. No namespace can be called that.
pub const OTHER: &str = "_other";

/// The most series that a counter has one by one. What comes after is counted for [`OTHER`] namespaces: a cluster in
/// which somebody makes namespaces by the thousand must not take Prometheus with it.
const MOST: usize = 5000;

/// A violation's labels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Violation {
    namespace: String,
    level: String,
    control: String,
    mode: String,
    decision: String,
}

/// Everything that was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    violations: Tally<Violation>,
    /// By decision and mode.
    decisions: Tally<(String, String)>,
    /// By namespace.
    faults: Tally<String>,
    exemptions: Tally<String>,
    mode_changes: u64,
}

/// A count for each key. JSON has no keys but strings, so it is a list there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tally<K>(BTreeMap<K, u64>);

impl<K> Default for Tally<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Serialize> Serialize for Tally<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(&self.0)
    }
}

impl<'de, K: Deserialize<'de> + Ord> Deserialize<'de> for Tally<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(|pairs| Self(pairs.into_iter().collect()))
    }
}

impl<K: Ord> Tally<K> {
    /// Counts one more. A key that has a series keeps it; a new one that has none left is counted as `fold` makes it.
    /// No series ever goes away, so what was folded once is folded for ever.
    fn add(&mut self, mut key: K, fold: impl FnOnce(&mut K)) {
        if self.0.len() >= MOST && !self.0.contains_key(&key) {
            fold(&mut key);
        }
        let count = self.0.entry(key).or_default();
        *count = count.saturating_add(1);
    }

    fn samples(
        &self,
        labels: impl Fn(&K) -> Vec<(&'static str, String)>,
    ) -> Vec<(Vec<(&'static str, String)>, Number)> {
        self.0.iter().map(|(key, count)| (labels(key), Number::Whole(*count))).collect()
    }
}

impl Counters {
    /// Counts an event.
    pub fn add(&mut self, record: &Record) {
        let Some(kind) = record.kind else { return };
        if kind == Kind::ModeChange {
            self.mode_changes = self.mode_changes.saturating_add(1);
            return;
        }
        if kind.is_of_the_node() {
            return;
        }
        let mode = among(&record.mode, MODES);
        let decision = kind.name();
        self.decisions.add((decision.to_owned(), mode.clone()), |_| ());
        let namespace = namespace(&record.namespace);
        let fold = |namespace: &mut String| OTHER.clone_into(namespace);
        match kind {
            Kind::Fault => self.faults.add(namespace, fold),
            Kind::Exempt => self.exemptions.add(namespace, fold),
            Kind::Denied | Kind::WouldDeny | Kind::Audit | Kind::Warn | Kind::Exception => {
                for control in record.controls.split(',').filter(|control| !control.is_empty()) {
                    let violation = Violation {
                        namespace: namespace.clone(),
                        level: among(&record.level, Level::ALL.map(Level::name)),
                        control: among(control, CONTROLS.iter().map(|control| control.id)),
                        mode: mode.clone(),
                        decision: decision.to_owned(),
                    };
                    self.violations.add(violation, |violation| fold(&mut violation.namespace));
                }
            }
            Kind::Allowed | Kind::ModeChange | Kind::Restored => {}
        }
    }

    /// What Prometheus is told.
    #[must_use]
    pub fn families(&self) -> Vec<Family> {
        let counter = |name, help, samples| Family { name, kind: Type::Counter, help, samples };
        let by_namespace = |tally: &Tally<String>| tally.samples(|name| vec![("namespace", name.clone())]);
        vec![
            counter(
                "kube_pod_security_policy_violations",
                "Controls of the Pod Security Standards that containers violate, or may violate: one per \
                 control and event.",
                self.violations.samples(|violation| {
                    let Violation { namespace, level, control, mode, decision } = violation.clone();
                    vec![
                        ("namespace", namespace),
                        ("level", level),
                        ("control", control),
                        ("mode", mode),
                        ("decision", decision),
                    ]
                }),
            ),
            counter("pss_guard_decisions", "Events by decision.", self.decisions()),
            counter(
                "pss_guard_faults",
                "Containers that could not be judged, by namespace.",
                by_namespace(&self.faults),
            ),
            counter(
                "pss_guard_exemptions",
                "Exempt containers, by namespace.",
                by_namespace(&self.exemptions),
            ),
            counter(
                "pss_guard_mode_changes",
                "Mode changes of the node.",
                vec![(Vec::new(), Number::Whole(self.mode_changes))],
            ),
        ]
    }

    /// With a zero for what was never decided: Prometheus' `increase` sees the first of a series only if there was a
    /// zero before it.
    fn decisions(&self) -> Vec<(Vec<(&'static str, String)>, Number)> {
        let mut all = self.decisions.clone();
        for kind in Kind::ALL.into_iter().filter(|kind| !kind.is_of_the_node()) {
            for mode in MODES {
                all.0.entry((kind.name().to_owned(), mode.to_owned())).or_default();
            }
        }
        all.samples(|(decision, mode)| vec![("decision", decision.clone()), ("mode", mode.clone())])
    }
}

const MODES: [&str; 2] = [Mode::Audit.name(), Mode::Enforce.name()];

/// A word that is one of these, or [`OTHER`].
fn among(word: &str, words: impl IntoIterator<Item = &'static str>) -> String {
    words.into_iter().find(|known| *known == word).unwrap_or(OTHER).to_owned()
}

/// A namespace; empty for a container that has none, as docker's.
fn namespace(name: &str) -> String {
    if name.is_empty() || is_dns_label(name) { name.to_owned() } else { OTHER.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::{Counters, MOST, OTHER};
    use crate::events::Record;
    use crate::metrics::exposition::{Format, write};
    use pss_guard_core::record::Kind;

    fn record(kind: Kind, namespace: &str, mode: &str, controls: &str) -> Record {
        Record {
            kind: Some(kind),
            namespace: namespace.to_owned(),
            mode: mode.to_owned(),
            level: "restricted".to_owned(),
            controls: controls.to_owned(),
            ..Record::default()
        }
    }

    fn text(counters: &Counters) -> String {
        write(&counters.families(), Format::Prometheus)
    }

    #[test]
    fn every_event_is_counted_where_it_belongs() {
        let mut counters = Counters::default();
        let fresh = text(&counters);
        assert!(
            fresh.contains("pss_guard_decisions_total{decision=\"denied\",mode=\"enforce\"} 0\n"),
            "{fresh}"
        );
        for record in [
            record(Kind::Denied, "shop", "enforce", "privileged,hostPathVolumes"),
            record(Kind::Denied, "shop", "enforce", "privileged"),
            record(Kind::WouldDeny, "shop", "audit", "privileged"),
            record(Kind::Exception, "shop", "enforce", "privileged"),
            record(Kind::Fault, "", "enforce", ""),
            record(Kind::Fault, "", "", ""),
            record(Kind::Exempt, "kube-system", "enforce", ""),
            record(Kind::Allowed, "shop", "enforce", ""),
            record(Kind::ModeChange, "", "audit", ""),
            Record::default(),
        ] {
            counters.add(&record);
        }
        let text = text(&counters);
        let violation = |control: &str, mode: &str, decision: &str, count: u64| {
            format!(
                "kube_pod_security_policy_violations_total{{namespace=\"shop\",level=\"restricted\",control=\"{control}\",mode=\"{mode}\",decision=\"{decision}\"}} {count}\n"
            )
        };
        let decision = |decision: &str, mode: &str, count: u64| {
            format!("pss_guard_decisions_total{{decision=\"{decision}\",mode=\"{mode}\"}} {count}\n")
        };
        for line in [
            violation("privileged", "enforce", "denied", 2),
            violation("hostPathVolumes", "enforce", "denied", 1),
            violation("privileged", "audit", "would-deny", 1),
            violation("privileged", "enforce", "exception", 1),
            decision("denied", "enforce", 2),
            decision("denied", "audit", 0),
            decision("would-deny", "audit", 1),
            decision("fault", "enforce", 1),
            // A panic before the policy was read.
            decision("fault", OTHER, 1),
            decision("allowed", "enforce", 1),
            "pss_guard_faults_total{namespace=\"\"} 2\n".to_owned(),
            "pss_guard_exemptions_total{namespace=\"kube-system\"} 1\n".to_owned(),
            "pss_guard_mode_changes_total 1\n".to_owned(),
        ] {
            assert!(text.contains(&line), "{line}\n{text}");
        }
        assert!(!text.contains("mode-change"), "{text}");
    }

    #[test]
    fn words_that_nobody_knows_and_names_that_cannot_be_are_one_series() {
        let mut counters = Counters::default();
        for odd in ["x\"} 1\nevil 2", "../..", "SHOP", "a b", &"a".repeat(64), "_other"] {
            let mut record = record(Kind::Denied, odd, odd, odd);
            record.level = odd.to_owned();
            counters.add(&record);
        }
        let text = text(&counters);
        let all = format!(
            "violations_total{{namespace=\"{OTHER}\",level=\"{OTHER}\",control=\"{OTHER}\",mode=\"{OTHER}\",decision=\"denied\"}} 6\n"
        );
        assert!(text.contains(&all), "{text}");
    }

    #[test]
    fn the_number_of_series_has_an_end_and_what_was_folded_stays_so() {
        let mut counters = Counters::default();
        let mut add =
            |namespace: &str| counters.add(&record(Kind::Denied, namespace, "enforce", "privileged"));
        for nth in 0..MOST + 100 {
            add(&format!("ns-{nth}"));
        }
        add("ns-0");
        add(&format!("ns-{MOST}"));
        let kept = serde_json::to_vec(&counters).unwrap();
        let mut again: Counters = serde_json::from_slice(&kept).unwrap();
        assert_eq!(again, counters);
        again.add(&record(Kind::Denied, &format!("ns-{MOST}"), "enforce", "privileged"));
        let text = text(&again);
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("kube_")).collect();
        assert_eq!(lines.len(), MOST + 1);
        let count = |namespace: &str| {
            let label = format!("namespace=\"{namespace}\"");
            let line = lines.iter().find(|line| line.contains(&label));
            line.map_or("", |line| line.rsplit(' ').next().unwrap())
        };
        assert_eq!((count("ns-0"), count("ns-1"), count(OTHER)), ("2", "1", "102"));
        assert_eq!(count(&format!("ns-{MOST}")), "");
    }
}
