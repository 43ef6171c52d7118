//! Resolves the levels of a container from the policy, the namespace's labels and the pod's annotations, in one function.
//!
//! [`resolve`] is pure. [`cache`] and [`namespaces`] read what it needs.

pub mod cache;
pub mod date;
mod image;
pub mod kubelet_root;
pub mod labels;
pub mod namespaces;
pub mod policy;
pub mod provenance;
pub mod sandboxes;
pub mod workload;

use std::path::PathBuf;

pub use labels::{Labels, is_dns_label, is_dns_subdomain};
pub use policy::{LevelVersion, Mode, Policy};
pub use provenance::{Origin, Provenance, Purpose};

use policy::{LevelSet, NamespaceLevels, OnUnknownNamespace, Trust};
use provenance::Invalid;
use pss::{Level, Version};

/// Whose level is asked for.
#[derive(Clone, Debug, Default)]
pub struct PodAttributes<'a> {
    /// The pod's namespace; `None` for a container of no pod.
    pub namespace: Option<&'a str>,
    /// The runtime class, as the engine calls its handler.
    pub runtime_handler: Option<&'a str>,
    /// The pod's annotations.
    pub annotations: Labels<'a>,
}

/// What is known of a namespace's labels on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NamespaceLabels<'a> {
    /// Nobody imports namespaces on this node, or not yet: there is no folder, or nothing in it.
    #[default]
    NoFolder,
    /// Namespaces are imported, and this one is not among them.
    Missing,
    /// The labels.
    Labels {
        /// Their values.
        labels: Labels<'a>,
        /// Where they were read.
        path: PathBuf,
    },
}

/// Which levels hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution<'a> {
    /// None: it is not evaluated.
    Exempt(Exempt<'a>),
    /// The namespace was not imported, and the policy denies that.
    UnknownNamespace(&'a str),
    /// These.
    Levels(Levels<'a>),
}

/// Why something is not evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exempt<'a> {
    /// Its namespace is exempt.
    Namespace(&'a str),
    /// Its runtime class is.
    RuntimeClass(&'a str),
}

/// What is asked of a container. Each list has at least one demand; all of a list are evaluated and their findings
/// united.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Levels<'a> {
    /// For enforce.
    pub enforce: Vec<RequiredLevel<'a>>,
    /// For audit.
    pub audit: Vec<RequiredLevel<'a>>,
    /// For warn.
    pub warn: Vec<RequiredLevel<'a>>,
}

/// One level, and what set it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequiredLevel<'a> {
    /// The level.
    pub level: Level,
    /// The version.
    pub version: Version,
    /// What set it.
    pub because: Provenance<'a>,
}

impl RequiredLevel<'_> {
    /// What `--level` on the command line asks.
    #[must_use]
    pub fn argument(level: Level, version: Version) -> Self {
        Self { level, version, because: Provenance::of(Purpose::Enforce, Origin::Argument) }
    }

    fn asks_no_more_than(&self, other: &Self, policy: &Policy) -> bool {
        let latest = policy.latest_minor();
        let same = self.level == other.level && self.version.minor(latest) == other.version.minor(latest);
        self.level == Level::Privileged || same
    }
}

/// Whether two lists of demands ask for the same levels at the same versions, whatever set them.
pub fn ask_alike<'d, 'p: 'd>(
    one: impl IntoIterator<Item = &'d RequiredLevel<'p>>,
    other: impl IntoIterator<Item = &'d RequiredLevel<'p>>,
) -> bool {
    let asked = |demand: &RequiredLevel<'_>| (demand.level, demand.version);
    one.into_iter().map(asked).eq(other.into_iter().map(asked))
}

/// Whether the policy exempts it. To be asked before anything about the namespace is read, because what is exempt must
/// start whatever state the node is in.
#[must_use]
pub fn exempt<'a>(policy: &Policy, whose: &PodAttributes<'a>) -> Option<Exempt<'a>> {
    let listed = |list: &[String], name: &str| list.iter().any(|own| own == name);
    // A container of no pod has neither; what its annotations say, anybody can write.
    let namespace = whose.namespace?;
    if listed(&policy.exemptions.namespaces, namespace) {
        return Some(Exempt::Namespace(namespace));
    }
    let class = whose.runtime_handler?;
    listed(&policy.exemptions.runtime_classes, class).then_some(Exempt::RuntimeClass(class))
}

/// Which levels hold, and because of what.
#[must_use]
pub fn resolve<'a>(
    policy: &'a Policy,
    whose: &'a PodAttributes<'a>,
    found: &'a NamespaceLabels<'a>,
) -> Resolution<'a> {
    let Some(namespace) = whose.namespace else {
        return Resolution::Levels(
            Three::from(&policy.unmanaged, own(policy, Origin::Unmanaged)).into_levels(),
        );
    };
    if let Some(exempt) = exempt(policy, whose) {
        return Resolution::Exempt(exempt);
    }
    let table = policy.namespaces.get(namespace);
    // A namespace that the admin wrote into the policy is not unknown.
    let unknown = *found == NamespaceLabels::Missing && table.is_none();
    if unknown && policy.on_unknown_namespace == OnUnknownNamespace::Deny {
        return Resolution::UnknownNamespace(namespace);
    }

    let mut base = Three::from(&policy.defaults, own(policy, Origin::Defaults));
    if let (Some(table), Some(file)) = (table, &policy.file) {
        base = base.overlaid(&Wanted::of_table(table), |_| Origin::Table { namespace, file });
    }
    if let NamespaceLabels::Labels { labels, path } = found {
        base = base.overlaid(&Wanted::of_labels(labels), |_| Origin::File { namespace, path });
    }
    let wanted = Wanted::of_labels(&whose.annotations);
    let asked = base.clone().overlaid(&wanted, Origin::Annotation);
    let floor = matches!(found, NamespaceLabels::Labels { .. }).then_some(policy.agent.floor);
    let mut enforce = combine(policy, base.enforce, asked.enforce);
    // At the floor or above, an older version could still hide what the floor demands.
    if let Some(level) = floor {
        let because = Provenance::of(Purpose::Enforce, own(policy, Origin::AgentFloor));
        let floor = RequiredLevel { level, version: policy.untold(policy.defaults.enforce.version), because };
        if !enforce.iter().any(|demand| floor.asks_no_more_than(demand, policy)) {
            enforce.push(floor);
        }
    }
    Resolution::Levels(Levels {
        enforce,
        audit: combine(policy, base.audit, asked.audit),
        warn: combine(policy, base.warn, asked.warn),
    })
}

/// What the namespace and the annotations ask, put together as the policy trusts the annotations.
fn combine<'a>(
    policy: &'a Policy,
    base: RequiredLevel<'a>,
    asked: RequiredLevel<'a>,
) -> Vec<RequiredLevel<'a>> {
    match policy.pod_annotations.trust {
        // No annotation set it: one that does is the reason for it, whatever it asks.
        _ if asked == base => vec![base],
        Trust::Ignore => vec![base],
        Trust::Tighten => with(policy, base, asked),
        Trust::Override => {
            // Not only below the floor: at it or above, an older version could still hide what the floor demands.
            let level = policy.pod_annotations.floor;
            let because = Provenance::of(base.because.purpose, own(policy, Origin::Floor));
            with(policy, asked, RequiredLevel { level, version: base.version, because })
        }
    }
}

fn with<'a>(policy: &Policy, first: RequiredLevel<'a>, second: RequiredLevel<'a>) -> Vec<RequiredLevel<'a>> {
    if second.asks_no_more_than(&first, policy) { vec![first] } else { vec![first, second] }
}

fn own<'a>(policy: &'a Policy, origin: fn(&'a str) -> Origin<'a>) -> Origin<'a> {
    policy.file.as_deref().map_or(Origin::BuiltIn, origin)
}

/// One demand for each purpose.
#[derive(Clone)]
struct Three<'a> {
    enforce: RequiredLevel<'a>,
    audit: RequiredLevel<'a>,
    warn: RequiredLevel<'a>,
}

impl<'a> Three<'a> {
    fn from(set: &LevelSet, origin: Origin<'a>) -> Self {
        let demand = |purpose, pair: LevelVersion| RequiredLevel {
            level: pair.level,
            version: pair.version,
            because: Provenance::of(purpose, origin),
        };
        Self {
            enforce: demand(Purpose::Enforce, set.enforce),
            audit: demand(Purpose::Audit, set.audit),
            warn: demand(Purpose::Warn, set.warn),
        }
    }

    fn into_levels(self) -> Levels<'a> {
        Levels { enforce: vec![self.enforce], audit: vec![self.audit], warn: vec![self.warn] }
    }

    /// Upstream's `PolicyToEvaluate` (`api/helpers.go`), with these as the defaults.
    fn overlaid(mut self, wanted: &Wanted<'a>, origin: impl Fn(&'static str) -> Origin<'a>) -> Self {
        let [enforce, enforce_version, audit, audit_version, warn, warn_version] = Labels::KEYS;
        self.enforce.apply(&wanted.enforce, [enforce, enforce_version], &origin);
        self.audit.apply(&wanted.audit, [audit, audit_version], &origin);
        let inherits = wanted.warn.level.is_none()
            && matches!(wanted.enforce.level, Some(Ok(level)) if level > self.warn.level);
        if inherits {
            self.warn.level = self.enforce.level;
            self.warn.because.level = self.enforce.because.level;
            self.warn.because.invalid_level = None;
            if wanted.warn.version.is_none() {
                self.warn.version = self.enforce.version;
                self.warn.because.version = self.enforce.because.version;
                self.warn.because.invalid_version = self.enforce.because.invalid_version.clone();
            }
        }
        self.warn.apply(&wanted.warn, [warn, warn_version], &origin);
        self
    }
}

impl<'a> RequiredLevel<'a> {
    /// `keys` are those of the level and of its version.
    fn apply(
        &mut self,
        wanted: &Pair<'a>,
        keys: [&'static str; 2],
        origin: impl Fn(&'static str) -> Origin<'a>,
    ) {
        let invalid = |value: Option<&'a str>, key, instead| {
            let annotation = matches!(origin(key), Origin::Annotation(_));
            value.map(|value| Invalid { value, key, annotation, instead })
        };
        let [level, version] = keys;
        if let Some(value) = wanted.level {
            self.level = value.unwrap_or_else(|_| {
                // Upstream fails closed for what stops pods, and open for what only talks.
                let closed = self.because.purpose == Purpose::Enforce;
                if closed { Level::Restricted } else { Level::Privileged }
            });
            self.because.level = origin(level);
            self.because.invalid_level = invalid(value.err(), level, self.level.name());
        }
        if let Some(value) = wanted.version {
            self.version = value.unwrap_or(Version::Latest);
            self.because.version = origin(version);
            self.because.invalid_version = invalid(value.err(), version, "latest");
        }
    }
}

/// What labels ask for. An error is the value that was not understood.
struct Wanted<'a> {
    enforce: Pair<'a>,
    audit: Pair<'a>,
    warn: Pair<'a>,
}

#[derive(Clone, Copy)]
struct Pair<'a> {
    level: Option<Result<Level, &'a str>>,
    version: Option<Result<Version, &'a str>>,
}

impl<'a> Wanted<'a> {
    fn of_labels(labels: &'a Labels<'a>) -> Self {
        let [enforce, enforce_version, audit, audit_version, warn, warn_version] = labels.values();
        let pair = |level: Option<&'a str>, version: Option<&'a str>| Pair {
            level: level.map(|text| text.parse().map_err(|_| text)),
            version: version.map(|text| text.parse().map_err(|_| text)),
        };
        Self {
            enforce: pair(enforce, enforce_version),
            audit: pair(audit, audit_version),
            warn: pair(warn, warn_version),
        }
    }

    fn of_table(own: &NamespaceLevels) -> Self {
        let pair = |level: Option<Level>, version: Option<Version>| Pair {
            level: level.map(Ok),
            version: version.map(Ok),
        };
        Self {
            enforce: pair(own.enforce, own.enforce_version),
            audit: pair(own.audit, own.audit_version),
            warn: pair(own.warn, own.warn_version),
        }
    }
}

#[cfg(test)]
// A table is long where there is much to say.
#[allow(clippy::too_many_lines)]
mod tests {
    use std::borrow::Cow;
    use std::path::PathBuf;

    use super::{
        Exempt, Labels, Levels, NamespaceLabels, PodAttributes, Policy, RequiredLevel, Resolution, exempt,
        policy, resolve,
    };
    use pss::{Level, Version};

    const FILE: &str = "/etc/pss-guard/policy.toml";
    const SHOP: &str = "/run/pss-guard/namespaces/shop.json";

    fn policy(text: &str) -> Policy {
        policy::parse(text, FILE).unwrap()
    }

    /// `enforce=baseline warn=` → labels.
    fn labels(text: &str) -> Labels<'_> {
        let mut labels = Labels::default();
        for pair in text.split_ascii_whitespace() {
            let (key, value) = pair.split_once('=').unwrap();
            assert!(labels.set(&format!("pod-security.kubernetes.io/{key}"), Cow::Borrowed(value)), "{pair}");
        }
        labels
    }

    fn found(text: &str) -> NamespaceLabels<'_> {
        match text {
            "no folder" => NamespaceLabels::NoFolder,
            "missing" => NamespaceLabels::Missing,
            text => NamespaceLabels::Labels { labels: labels(text), path: PathBuf::from(SHOP) },
        }
    }

    fn list(demands: &[RequiredLevel<'_>]) -> String {
        assert!((1..=2).contains(&demands.len()), "{demands:?}");
        let shown = demands.iter().map(|demand| format!("{}:{}", demand.level, demand.version));
        shown.collect::<Vec<_>>().join(" + ")
    }

    /// `enforce | audit | warn`.
    fn shown(resolution: &Resolution<'_>) -> String {
        match resolution {
            Resolution::Exempt(exempt) => exempt.to_string(),
            Resolution::UnknownNamespace(name) => format!("unknown {name}"),
            Resolution::Levels(Levels { enforce, audit, warn }) => {
                format!("{} | {} | {}", list(enforce), list(audit), list(warn))
            }
        }
    }

    fn in_shop(annotations: &str) -> PodAttributes<'_> {
        PodAttributes {
            namespace: Some("shop"),
            runtime_handler: Some("runc"),
            annotations: labels(annotations),
        }
    }

    /// Policy, what is known of namespace `shop`, the pod's annotations, and what must hold.
    type Row = (&'static str, &'static str, &'static str, &'static str);

    fn table(rows: &[Row]) {
        for (text, known, annotations, expected) in rows {
            let (policy, found, whose) = (policy(text), found(known), in_shop(annotations));
            let row = format!("{text:?}, labels {known:?}, annotations {annotations:?}");
            assert_eq!(shown(&resolve(&policy, &whose, &found)), *expected, "{row}");
        }
    }

    /// Lenient in everything, so that each row shows one thing.
    const QUIET: &str = "[defaults]\naudit = 'privileged'\nwarn = 'privileged'";

    /// What bounds a stolen agent does not move by its word.
    #[test]
    fn the_agents_floor_is_not_at_the_version_that_the_agent_tells() {
        use crate::cluster::Told;
        const FLOOR: &str = "[agent]\nfloor = 'baseline'";
        let named = format!("{FLOOR}\n[cluster]\nversion = 'v1.30'");
        let fixed = format!("{FLOOR}\n[defaults]\nenforce-version = 'v1.24'");
        let rows = [
            (FLOOR, Told::Nothing, "privileged:latest + baseline:latest"),
            (FLOOR, Told::Minor(23), "privileged:latest + baseline:v1.37"),
            (FLOOR, Told::Minor(37), "privileged:latest + baseline:latest"),
            (FLOOR, Told::Minor(99), "privileged:latest + baseline:latest"),
            (&named, Told::Nothing, "privileged:latest + baseline:latest"),
            (&fixed, Told::Minor(23), "privileged:v1.24 + baseline:v1.24"),
        ];
        for (text, told, expected) in rows {
            let (policy, found, whose) = (Policy { told, ..policy(text) }, found(""), in_shop(""));
            let Resolution::Levels(levels) = resolve(&policy, &whose, &found) else { panic!() };
            assert_eq!(list(&levels.enforce), expected, "{text}, {:?}", policy.told);
        }
        // A namespace at the floor's level: both versions are evaluated.
        let policy = Policy { told: Told::Minor(23), ..policy(FLOOR) };
        let (found, whose) = (found("enforce=baseline"), in_shop(""));
        let Resolution::Levels(levels) = resolve(&policy, &whose, &found) else { panic!() };
        assert_eq!(list(&levels.enforce), "baseline:latest + baseline:v1.37");
    }

    #[test]
    fn no_file_of_the_agent_goes_below_its_floor() {
        const FLOOR: &str = "[defaults]\naudit = 'privileged'\nwarn = 'privileged'\nenforce-version = 'v1.30'\n\
                             [agent]\nfloor = 'baseline'";
        const QUIET: &str = "privileged:latest | privileged:latest";
        let row = |labels, enforce| (FLOOR, labels, "", enforce);
        for (text, labels, annotations, enforce) in [
            row("enforce=privileged", "privileged:v1.30 + baseline:v1.30"),
            row("", "privileged:v1.30 + baseline:v1.30"),
            row("enforce=baseline", "baseline:v1.30"),
            // An older version of the same level asks for something else, so both are evaluated.
            row("enforce=baseline enforce-version=v1.0", "baseline:v1.0 + baseline:v1.30"),
            row("enforce=restricted enforce-version=v1.30", "restricted:v1.30 + baseline:v1.30"),
            // What the admin wrote, or nobody brought, is not the agent's.
            row("no folder", "privileged:v1.30"),
            row("missing", "privileged:v1.30"),
        ] {
            let (policy, found, whose) = (policy(text), found(labels), in_shop(annotations));
            let shown = shown(&resolve(&policy, &whose, &found));
            assert!(
                shown.starts_with(&format!("{enforce} | ")),
                "{labels:?}: {shown}, not {enforce} | {QUIET}"
            );
        }
        let (policy, found, whose) = (policy(FLOOR), found(""), in_shop(""));
        let Resolution::Levels(levels) = resolve(&policy, &whose, &found) else { panic!("levels") };
        assert_eq!(levels.enforce[1].because.to_string(), format!("level from floor in [agent] of {FILE}"));
    }

    #[test]
    fn the_namespace_is_asked_in_the_order_file_policy_defaults() {
        const OWN: &str = "[defaults]\nenforce = 'baseline'\nenforce-version = 'v1.30'\naudit = 'baseline'\n\
                           warn = 'baseline'\nwarn-version = 'v1.29'\n\
                           [namespaces.shop]\nenforce = 'privileged'\naudit-version = 'v1.28'";
        const DENY: &str = "on-unknown-namespace = 'deny'";
        const DENY_OWN: &str = "on-unknown-namespace = 'deny'\n[namespaces.shop]\nenforce = 'baseline'";
        table(&[
            ("", "no folder", "", "privileged:latest | restricted:latest | restricted:latest"),
            ("", "missing", "", "privileged:latest | restricted:latest | restricted:latest"),
            ("", "", "", "privileged:latest | restricted:latest | restricted:latest"),
            (QUIET, "no folder", "", "privileged:latest | privileged:latest | privileged:latest"),
            (OWN, "no folder", "", "privileged:v1.30 | baseline:v1.28 | baseline:v1.29"),
            (OWN, "missing", "", "privileged:v1.30 | baseline:v1.28 | baseline:v1.29"),
            (OWN, "", "", "privileged:v1.30 | baseline:v1.28 | baseline:v1.29"),
            (OWN, "enforce=baseline", "", "baseline:v1.30 | baseline:v1.28 | baseline:v1.29"),
            (OWN, "enforce-version=v1.9", "", "privileged:v1.9 | baseline:v1.28 | baseline:v1.29"),
            (OWN, "audit=restricted", "", "privileged:v1.30 | restricted:v1.28 | baseline:v1.29"),
            (DENY, "no folder", "", "privileged:latest | restricted:latest | restricted:latest"),
            (DENY, "missing", "", "unknown shop"),
            (DENY, "missing", "enforce=privileged", "unknown shop"),
            (DENY, "", "", "privileged:latest | restricted:latest | restricted:latest"),
            (DENY_OWN, "missing", "", "baseline:latest | restricted:latest | restricted:latest"),
        ]);
    }

    #[test]
    fn labels_are_understood_as_upstream_does() {
        const BASELINE: &str = "[defaults]\nenforce = 'baseline'\nenforce-version = 'v1.20'\naudit = 'baseline'\n\
                                audit-version = 'v1.21'\nwarn = 'baseline'\nwarn-version = 'v1.22'";
        table(&[
            // An invalid or empty enforce level closes, and leaves the version alone.
            (BASELINE, "enforce=Restricted", "", "restricted:v1.20 | baseline:v1.21 | baseline:v1.22"),
            (BASELINE, "enforce=", "", "restricted:v1.20 | baseline:v1.21 | baseline:v1.22"),
            (
                BASELINE,
                "enforce=privilegedd enforce-version=v1.5",
                "",
                "restricted:v1.5 | baseline:v1.21 | baseline:v1.22",
            ),
            // An invalid audit or warn level opens.
            (BASELINE, "audit=BASELINE", "", "baseline:v1.20 | privileged:v1.21 | baseline:v1.22"),
            (BASELINE, "audit=", "", "baseline:v1.20 | privileged:v1.21 | baseline:v1.22"),
            (BASELINE, "warn=all", "", "baseline:v1.20 | baseline:v1.21 | privileged:v1.22"),
            (
                BASELINE,
                "warn= enforce=restricted",
                "",
                "restricted:v1.20 | baseline:v1.21 | privileged:v1.22",
            ),
            // An invalid version is the newest.
            (BASELINE, "enforce-version=1.20", "", "baseline:latest | baseline:v1.21 | baseline:v1.22"),
            (BASELINE, "enforce-version=v1.020", "", "baseline:latest | baseline:v1.21 | baseline:v1.22"),
            (BASELINE, "enforce-version=", "", "baseline:latest | baseline:v1.21 | baseline:v1.22"),
            (BASELINE, "audit-version=v2.0", "", "baseline:v1.20 | baseline:latest | baseline:v1.22"),
            (BASELINE, "warn-version=Latest", "", "baseline:v1.20 | baseline:v1.21 | baseline:latest"),
            (BASELINE, "enforce-version=v1.99", "", "baseline:v1.99 | baseline:v1.21 | baseline:v1.22"),
            // Warn inherits a stricter enforce, with its version unless it has its own.
            (BASELINE, "enforce=restricted", "", "restricted:v1.20 | baseline:v1.21 | restricted:v1.20"),
            (
                BASELINE,
                "enforce=restricted enforce-version=v1.25",
                "",
                "restricted:v1.25 | baseline:v1.21 | restricted:v1.25",
            ),
            (
                BASELINE,
                "enforce=restricted enforce-version=x",
                "",
                "restricted:latest | baseline:v1.21 | restricted:latest",
            ),
            (
                BASELINE,
                "enforce=restricted warn-version=v1.26",
                "",
                "restricted:v1.20 | baseline:v1.21 | restricted:v1.26",
            ),
            (
                BASELINE,
                "enforce=restricted warn-version=x",
                "",
                "restricted:v1.20 | baseline:v1.21 | restricted:latest",
            ),
            (
                BASELINE,
                "enforce=restricted warn=baseline",
                "",
                "restricted:v1.20 | baseline:v1.21 | baseline:v1.22",
            ),
            (
                BASELINE,
                "enforce=restricted warn=privileged",
                "",
                "restricted:v1.20 | baseline:v1.21 | privileged:v1.22",
            ),
            // Nothing to inherit: not stricter, not valid, not there.
            (
                BASELINE,
                "enforce=baseline enforce-version=v1.30",
                "",
                "baseline:v1.30 | baseline:v1.21 | baseline:v1.22",
            ),
            (BASELINE, "enforce=privileged", "", "privileged:v1.20 | baseline:v1.21 | baseline:v1.22"),
            (QUIET, "enforce=nonsense", "", "restricted:latest | privileged:latest | privileged:latest"),
            (QUIET, "enforce-version=v1.10", "", "privileged:v1.10 | privileged:latest | privileged:latest"),
            // Audit never inherits.
            (QUIET, "enforce=restricted", "", "restricted:latest | privileged:latest | restricted:latest"),
            ("", "enforce=restricted", "", "restricted:latest | restricted:latest | restricted:latest"),
        ]);
    }

    #[test]
    fn an_annotation_that_is_trusted_to_tighten_only_adds() {
        const VERSIONED: &str = "enforce=baseline enforce-version=v1.30 warn=baseline audit=baseline";
        table(&[
            (QUIET, "enforce=baseline", "", "baseline:latest | privileged:latest | baseline:latest"),
            (QUIET, VERSIONED, "enforce=privileged", "baseline:v1.30 | baseline:latest | baseline:latest"),
            (
                QUIET,
                VERSIONED,
                "enforce=privileged enforce-version=v1.0",
                "baseline:v1.30 | baseline:latest | baseline:latest",
            ),
            (QUIET, VERSIONED, "enforce=baseline", "baseline:v1.30 | baseline:latest | baseline:latest"),
            (
                QUIET,
                VERSIONED,
                "enforce=restricted warn=baseline",
                "baseline:v1.30 + restricted:v1.30 | baseline:latest | baseline:latest",
            ),
            (
                QUIET,
                VERSIONED,
                "enforce=restricted",
                "baseline:v1.30 + restricted:v1.30 | baseline:latest | baseline:latest + restricted:v1.30",
            ),
            // A stricter level at an older version must not hide what the namespace demands.
            (
                QUIET,
                VERSIONED,
                "enforce=restricted enforce-version=v1.0 warn=privileged",
                "baseline:v1.30 + restricted:v1.0 | baseline:latest | baseline:latest",
            ),
            // A version alone is the namespace's level at that version.
            (
                QUIET,
                VERSIONED,
                "enforce-version=v1.0",
                "baseline:v1.30 + baseline:v1.0 | baseline:latest | baseline:latest",
            ),
            (QUIET, VERSIONED, "enforce-version=v1.30", "baseline:v1.30 | baseline:latest | baseline:latest"),
            (
                QUIET,
                VERSIONED,
                "enforce-version=new",
                "baseline:v1.30 + baseline:latest | baseline:latest | baseline:latest",
            ),
            (QUIET, "", "enforce-version=v1.0", "privileged:latest | privileged:latest | privileged:latest"),
            // What is not understood can only tighten.
            (
                QUIET,
                VERSIONED,
                "enforce=",
                "baseline:v1.30 + restricted:v1.30 | baseline:latest | baseline:latest",
            ),
            (
                QUIET,
                VERSIONED,
                "enforce=Privileged",
                "baseline:v1.30 + restricted:v1.30 | baseline:latest | baseline:latest",
            ),
            (QUIET, VERSIONED, "audit=none warn=", "baseline:v1.30 | baseline:latest | baseline:latest"),
            (
                QUIET,
                VERSIONED,
                "audit=none audit-version=v1.0",
                "baseline:v1.30 | baseline:latest | baseline:latest",
            ),
            // Audit and warn tighten as well.
            (
                QUIET,
                VERSIONED,
                "audit=restricted warn=restricted warn-version=v1.25",
                "baseline:v1.30 | baseline:latest + restricted:latest | baseline:latest + restricted:v1.25",
            ),
            (
                QUIET,
                VERSIONED,
                "audit=privileged warn=privileged",
                "baseline:v1.30 | baseline:latest | baseline:latest",
            ),
            // The newest version by its number and as `latest` are the same demand.
            (
                QUIET,
                "enforce=baseline",
                "enforce-version=v1.37",
                "baseline:latest | privileged:latest | baseline:latest",
            ),
            (
                "[cluster]\nversion = 'v1.36'",
                "enforce=baseline",
                "enforce-version=v1.36",
                "baseline:latest | restricted:latest | restricted:latest",
            ),
            (
                "[cluster]\nversion = 'v1.36'",
                "enforce=baseline",
                "enforce-version=v1.37",
                "baseline:latest + baseline:v1.37 | restricted:latest | restricted:latest",
            ),
        ]);
    }

    #[test]
    fn an_annotation_that_overrides_stays_above_the_floor() {
        const FREE: &str =
            "[pod-annotations]\ntrust = 'override'\n[defaults]\naudit = 'privileged'\nwarn = 'privileged'";
        const FLOOR: &str = "[pod-annotations]\ntrust = 'override'\nfloor = 'baseline'\n\
                             [defaults]\naudit = 'privileged'\nwarn = 'privileged'";
        const SHOP: &str = "enforce=restricted enforce-version=v1.30 audit=restricted warn=restricted";
        table(&[
            (FREE, SHOP, "", "restricted:v1.30 | restricted:latest | restricted:latest"),
            (FREE, SHOP, "enforce=baseline", "baseline:v1.30 | restricted:latest | restricted:latest"),
            (FREE, SHOP, "enforce=privileged", "privileged:v1.30 | restricted:latest | restricted:latest"),
            (FREE, SHOP, "enforce-version=v1.0", "restricted:v1.0 | restricted:latest | restricted:latest"),
            (FREE, SHOP, "enforce=nonsense", "restricted:v1.30 | restricted:latest | restricted:latest"),
            (
                FREE,
                SHOP,
                "audit=privileged warn=baseline",
                "restricted:v1.30 | privileged:latest | baseline:latest",
            ),
            (FREE, SHOP, "audit=nonsense", "restricted:v1.30 | privileged:latest | restricted:latest"),
            (FREE, "", "enforce=restricted", "restricted:latest | privileged:latest | restricted:latest"),
            (FLOOR, SHOP, "", "restricted:v1.30 | restricted:latest | restricted:latest"),
            (FLOOR, "", "", "privileged:latest | privileged:latest | privileged:latest"),
            (FLOOR, SHOP, "enforce=baseline", "baseline:v1.30 | restricted:latest | restricted:latest"),
            (
                FLOOR,
                SHOP,
                "enforce=privileged",
                "privileged:v1.30 + baseline:v1.30 | restricted:latest | restricted:latest",
            ),
            // An older version hides nothing of the floor, at whatever level.
            (
                FLOOR,
                SHOP,
                "enforce=baseline enforce-version=v1.0",
                "baseline:v1.0 + baseline:v1.30 | restricted:latest | restricted:latest",
            ),
            (
                FLOOR,
                SHOP,
                "enforce=restricted enforce-version=v1.0",
                "restricted:v1.0 + baseline:v1.30 | restricted:latest | restricted:latest",
            ),
            (
                FLOOR,
                SHOP,
                "audit=nonsense",
                "restricted:v1.30 | privileged:latest + baseline:latest | restricted:latest",
            ),
        ]);
    }

    #[test]
    fn annotations_that_are_ignored_change_nothing() {
        const IGNORE: &str = "[pod-annotations]\ntrust = 'ignore'\nfloor = 'restricted'";
        let expected = "baseline:latest | restricted:latest | restricted:latest";
        for annotations in
            ["", "enforce=restricted", "enforce=privileged", "enforce=", "warn=baseline audit-version=x"]
        {
            table(&[(IGNORE, "enforce=baseline", annotations, expected)]);
        }
    }

    #[test]
    fn what_is_exempt_is_asked_first_and_by_exact_name() {
        const TEXT: &str = "on-unknown-namespace = 'deny'\n[exemptions]\nnamespaces = ['shop', 'kube-system']\n\
                            runtime-classes = ['kata']";
        let policy = policy(TEXT);
        let rows: &[(Option<&str>, Option<&str>, Option<Exempt<'_>>)] = &[
            (Some("shop"), None, Some(Exempt::Namespace("shop"))),
            (Some("shop"), Some("kata"), Some(Exempt::Namespace("shop"))),
            (Some("kube-system"), Some("runc"), Some(Exempt::Namespace("kube-system"))),
            (Some("shop2"), Some("kata"), Some(Exempt::RuntimeClass("kata"))),
            (Some("sho"), Some("Kata"), None),
            (Some("SHOP"), None, None),
            (Some(""), Some(""), None),
            // Whoever starts a container of no pod can write any annotation.
            (None, Some("kata"), None),
        ];
        for (namespace, runtime_handler, expected) in rows {
            let whose = PodAttributes {
                namespace: *namespace,
                runtime_handler: *runtime_handler,
                ..PodAttributes::default()
            };
            assert_eq!(exempt(&policy, &whose), *expected, "{namespace:?} {runtime_handler:?}");
            let found = NamespaceLabels::Missing;
            let resolution = resolve(&policy, &whose, &found);
            assert_eq!(matches!(resolution, Resolution::Exempt(_)), expected.is_some(), "{resolution:?}");
        }
    }

    #[test]
    fn a_container_of_no_pod_gets_the_unmanaged_levels_whatever_its_annotations_say() {
        for (text, expected) in [
            ("", "privileged:latest | privileged:latest | privileged:latest"),
            (
                "[defaults]\nenforce = 'restricted'",
                "privileged:latest | privileged:latest | privileged:latest",
            ),
            ("[unmanaged]\nenforce = 'baseline'", "baseline:latest | privileged:latest | privileged:latest"),
            (
                "[unmanaged]\nenforce = 'baseline'\nenforce-version = 'v1.30'\naudit = 'restricted'\nwarn-version = 'v1.2'",
                "baseline:v1.30 | restricted:latest | privileged:v1.2",
            ),
        ] {
            for annotations in
                ["", "enforce=privileged", "enforce=restricted", "audit=restricted enforce-version=v1.0"]
            {
                let text = format!("{text}\n[pod-annotations]\ntrust = 'override'");
                let (policy, found) = (policy(&text), found("enforce=restricted"));
                let whose = PodAttributes { annotations: labels(annotations), ..PodAttributes::default() };
                assert_eq!(shown(&resolve(&policy, &whose, &found)), expected, "{text}");
            }
        }
    }

    #[test]
    fn a_demand_says_what_set_it() {
        const OWN: &str = "[namespaces.shop]\nenforce = 'baseline'";
        const OVERRIDE: &str = "[pod-annotations]\ntrust = 'override'\nfloor = 'baseline'";
        let long = format!("enforce={}", "x".repeat(2000));
        let cut = format!(
            "level from namespace \"shop\" ({SHOP}); enforce label \"{}\"... is invalid: must be one of \
             privileged, baseline, restricted, so restricted applies",
            "x".repeat(63)
        );
        let rows: &[(&str, &str, &str, &[&str])] = &[
            ("", "no folder", "", &["level from [defaults] of /etc/pss-guard/policy.toml"]),
            ("", "", "", &["level from [defaults] of /etc/pss-guard/policy.toml"]),
            (OWN, "missing", "", &["level from namespace \"shop\" (/etc/pss-guard/policy.toml)"]),
            (
                OWN,
                "enforce=baseline",
                "",
                &["level from namespace \"shop\" (/run/pss-guard/namespaces/shop.json)"],
            ),
            (
                OWN,
                "enforce-version=v1.20",
                "",
                &["level from namespace \"shop\" (/etc/pss-guard/policy.toml), \
                   version from namespace \"shop\" (/run/pss-guard/namespaces/shop.json)"],
            ),
            (
                "",
                "enforce=Restricted",
                "",
                &["level from namespace \"shop\" (/run/pss-guard/namespaces/shop.json); enforce label \
                     \"Restricted\" is invalid: must be one of privileged, baseline, restricted, so restricted applies"],
            ),
            (
                "",
                "enforce=baseline enforce-version=1.24",
                "",
                &["level from namespace \"shop\" (/run/pss-guard/namespaces/shop.json); enforce-version \
                     label \"1.24\" is invalid: must be \"latest\" or \"v1.x\", so latest applies"],
            ),
            ("", &long, "", &[&cut]),
            (
                "",
                "enforce=baseline",
                "enforce=no\u{7}",
                &[
                    "level from namespace \"shop\" (/run/pss-guard/namespaces/shop.json)",
                    "level from pod annotation pod-security.kubernetes.io/enforce; enforce annotation \
                     \"no\\u{7}\" is invalid: must be one of privileged, baseline, restricted, so restricted applies",
                ],
            ),
            (
                "",
                "enforce=baseline",
                "enforce-version=v1.0",
                &[
                    "level from namespace \"shop\" (/run/pss-guard/namespaces/shop.json)",
                    "level from namespace \"shop\" (/run/pss-guard/namespaces/shop.json), \
                     version from pod annotation pod-security.kubernetes.io/enforce-version",
                ],
            ),
            (
                OVERRIDE,
                "enforce=restricted",
                "enforce=privileged",
                &[
                    "level from pod annotation pod-security.kubernetes.io/enforce",
                    "level from floor in [pod-annotations] of /etc/pss-guard/policy.toml",
                ],
            ),
        ];
        for (text, known, annotations, expected) in rows {
            let (policy, found, whose) = (policy(text), found(known), in_shop(annotations));
            let Resolution::Levels(levels) = resolve(&policy, &whose, &found) else { panic!("{text}") };
            let because: Vec<String> =
                levels.enforce.iter().map(|demand| demand.because.to_string()).collect();
            assert_eq!(because, *expected, "{text} {known} {annotations}");
        }
        let argument = RequiredLevel::argument(Level::Baseline, Version::Latest);
        assert_eq!(argument.because.to_string(), "level from --level");

        let (policy, found) = (Policy::default(), NamespaceLabels::NoFolder);
        for (whose, expected) in [
            (in_shop(""), "level from the built-in defaults (there is no policy file)"),
            (PodAttributes::default(), "level from the built-in defaults (there is no policy file)"),
        ] {
            let Resolution::Levels(levels) = resolve(&policy, &whose, &found) else { panic!("{whose:?}") };
            assert_eq!(levels.warn[0].because.to_string(), expected);
        }
    }

    #[test]
    fn an_inherited_warn_level_says_whose_it_is() {
        let (policy, whose) = (policy(QUIET), in_shop(""));
        let found = found("enforce=restricted enforce-version=bad");
        let Resolution::Levels(levels) = resolve(&policy, &whose, &found) else { panic!() };
        assert_eq!(
            levels.warn[0].because.to_string(),
            "level from namespace \"shop\" (/run/pss-guard/namespaces/shop.json); enforce-version label \
             \"bad\" is invalid: must be \"latest\" or \"v1.x\", so latest applies"
        );
    }

    #[test]
    fn no_annotation_takes_a_demand_away() {
        // A small generator of our own (xorshift): the same rows in every run.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = |bound: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state % bound as u64).unwrap()
        };
        let values = [
            None,
            Some(""),
            Some("privileged"),
            Some("baseline"),
            Some("restricted"),
            Some("Privileged"),
            Some("latest"),
            Some("v1.0"),
            Some("v1.24"),
            Some("v1.37"),
            Some("v1.99999999999"),
            Some("v2.0"),
            Some("\0"),
            Some("ÿ"),
        ];
        let mut any = |labels: &mut Labels<'_>| {
            for key in Labels::KEYS {
                if let Some(value) = values[next(values.len())] {
                    labels.set(key, value.into());
                }
            }
        };
        let policy = policy("[defaults]\nenforce = 'baseline'\nwarn-version = 'v1.20'");
        let mut tightened = 0;
        for round in 0..20_000 {
            let mut own = Labels::default();
            any(&mut own);
            let found = NamespaceLabels::Labels { labels: own, path: PathBuf::from(SHOP) };
            let mut whose = in_shop("");
            let without = whose.clone();
            any(&mut whose.annotations);
            let (Resolution::Levels(before), Resolution::Levels(after)) =
                (resolve(&policy, &without, &found), resolve(&policy, &whose, &found))
            else {
                panic!("nothing is exempt here")
            };
            for (before, after) in [
                (&before.enforce, &after.enforce),
                (&before.audit, &after.audit),
                (&before.warn, &after.warn),
            ] {
                assert_eq!(after[0], before[0], "round {round}: {:?}", whose.annotations);
                tightened += usize::from(after.len() > before.len());
            }
        }
        assert!(tightened > 10_000, "only {tightened} demands were added: the rows prove nothing");
    }
}
