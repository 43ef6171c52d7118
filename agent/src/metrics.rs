//! What the agent counts, by the names that Prometheus knows.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// A number that is set.
type Number = Gauge<u64, AtomicU64>;

/// A label and its value.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct Resource {
    /// `namespaces`, `pods` or `static`; of failures also `cluster`, `agent` or `events`.
    resource: &'static str,
}

/// A label and its value.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct Outcome {
    /// What became of it.
    outcome: &'static str,
}

/// The metrics. A clone counts the same.
#[derive(Clone)]
pub(crate) struct Metrics {
    /// When the API server last answered, in seconds since 1970.
    pub(crate) contact: Number,
    /// 1 once both lists were complete.
    pub(crate) synced: Number,
    /// Pods of the API with facts.
    pub(crate) pods: Number,
    /// Static pods with facts.
    pub(crate) static_pods: Number,
    /// Namespaces that are known.
    pub(crate) namespaces: Number,
    restarts: Family<Resource, Counter>,
    failures: Family<Resource, Counter>,
    /// Pods of which no facts can be written.
    pub(crate) unusable: Counter,
    events: Family<Outcome, Counter>,
    /// Events that the spool lost.
    pub(crate) lost: Counter,
    /// Events of pods whose facts came too late, or never.
    pub(crate) missing: Counter,
    registry: Arc<Registry>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("pss_guard_agent");
        registry.register(
            "build",
            "The version of the agent",
            Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]),
        );
        let contact = Number::default();
        registry.register_with_unit(
            "last_contact_timestamp",
            "When the API server last answered",
            Unit::Seconds,
            contact.clone(),
        );
        let number = |registry: &mut Registry, name: &str, help: &str| {
            let number = Number::default();
            registry.register(name, help, number.clone());
            number
        };
        let synced = number(&mut registry, "synced", "1 once all namespaces and pods were listed");
        let pods = number(&mut registry, "pods", "Pods of this node with facts");
        let static_pods = number(&mut registry, "static_pods", "Static pods of this node with facts");
        let namespaces = number(&mut registry, "namespaces", "Namespaces with known levels");
        let restarts = Family::default();
        registry.register(
            "watch_restarts",
            "Lists that were read again, because a watch ended or failed",
            restarts.clone(),
        );
        let failures = Family::default();
        registry.register("write_failures", "Changes that could not be written", failures.clone());
        let unusable = Counter::default();
        registry.register(
            "unusable_pods",
            "Pods of which no facts can be written: too large, or not to be read",
            unusable.clone(),
        );
        let events = Family::default();
        registry.register("events", "Events of the gate by what became of them", events.clone());
        let lost = Counter::default();
        registry.register(
            "events_lost",
            "Events that were overwritten before they were read, or could not be kept at all",
            lost.clone(),
        );
        let missing = Counter::default();
        registry.register(
            "missing_facts",
            "Events of the gate about pods without facts when it evaluated them",
            missing.clone(),
        );
        let registry = Arc::new(registry);
        Self {
            contact,
            synced,
            pods,
            static_pods,
            namespaces,
            restarts,
            failures,
            unusable,
            events,
            lost,
            missing,
            registry,
        }
    }

    /// A list was read again.
    pub(crate) fn restarted(&self, resource: &'static str) {
        self.restarts.get_or_create(&Resource { resource }).inc();
    }

    /// A change was not written.
    pub(crate) fn failed(&self, resource: &'static str) {
        self.failures.get_or_create(&Resource { resource }).inc();
    }

    /// What became of an event.
    pub(crate) fn event(&self, outcome: &'static str) {
        self.events.get_or_create(&Outcome { outcome }).inc();
    }

    /// As OpenMetrics has it.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // A String takes everything.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::Metrics;

    #[test]
    fn the_names_are_those_that_are_promised() {
        let metrics = Metrics::new();
        metrics.restarted("pods");
        metrics.failed("events");
        metrics.event("sent");
        let text = metrics.text();
        assert!(text.ends_with("# EOF\n"), "{text}");
        let of = |what: &str| -> BTreeMap<&str, &str> {
            text.lines().filter_map(|line| line.strip_prefix(what)?.split_once(' ')).collect()
        };
        let (kinds, helps) = (of("# TYPE "), of("# HELP "));
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let names: Vec<&str> = samples.map(|line| line.split(['{', ' ']).next().unwrap()).collect();
        // What dashboards and alerts are made of.
        let expected = [
            "build_info",
            "last_contact_timestamp_seconds",
            "synced",
            "pods",
            "static_pods",
            "namespaces",
            "watch_restarts_total",
            "write_failures_total",
            "unusable_pods_total",
            "events_total",
            "events_lost_total",
            "missing_facts_total",
        ];
        assert_eq!(names, expected.map(|name| format!("pss_guard_agent_{name}")), "{text}");
        for name in names {
            // https://prometheus.io/docs/practices/naming: a total is a counter, and only a counter is a total.
            let family = name.strip_suffix("_total").unwrap_or(name).trim_end_matches("_info");
            let is_counter = kinds.get(family) == Some(&"counter");
            assert_eq!(name.ends_with("_total"), is_counter, "{name}: {kinds:?}");
            assert!(helps.get(family).is_some_and(|help| help.len() > 10), "{name}");
        }
    }
}
