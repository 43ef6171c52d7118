//! Which level holds? The policy, the namespace's levels and the pod's annotations, in one order, in one function.
//!
//! [`resolve`] is pure. [`cache`] and [`namespaces`] read what it needs, [`trusted`] says which files are believed.

pub mod cache;
pub mod date;
pub mod namespaces;
pub mod policy;
pub mod trusted;

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

pub use policy::{LevelVersion, Mode, Policy};

use crate::pss::{Level, UnknownLevel, UnknownVersion, Version};
use policy::{LevelSet, NamespaceLevels, OnUnknownNamespace, Trust};

/// One of the three things that PSA does with a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Stop containers.
    Enforce,
    /// Log.
    Audit,
    /// Log as a warning.
    Warn,
}

impl Purpose {
    /// PSA's word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Audit => "audit",
            Self::Warn => "warn",
        }
    }
}

/// The values of PSA's labels, on a namespace or as annotations of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels<'a> {
    /// `pod-security.kubernetes.io/enforce`.
    pub enforce: Option<Cow<'a, str>>,
    /// `pod-security.kubernetes.io/enforce-version`.
    pub enforce_version: Option<Cow<'a, str>>,
    /// `pod-security.kubernetes.io/audit`.
    pub audit: Option<Cow<'a, str>>,
    /// `pod-security.kubernetes.io/audit-version`.
    pub audit_version: Option<Cow<'a, str>>,
    /// `pod-security.kubernetes.io/warn`.
    pub warn: Option<Cow<'a, str>>,
    /// `pod-security.kubernetes.io/warn-version`.
    pub warn_version: Option<Cow<'a, str>>,
}

impl<'a> Labels<'a> {
    /// PSA's six keys.
    pub const KEYS: [&'static str; 6] = [
        "pod-security.kubernetes.io/enforce",
        "pod-security.kubernetes.io/enforce-version",
        "pod-security.kubernetes.io/audit",
        "pod-security.kubernetes.io/audit-version",
        "pod-security.kubernetes.io/warn",
        "pod-security.kubernetes.io/warn-version",
    ];

    /// Sets the value of a key; false if the key is none of [`Labels::KEYS`].
    pub fn set(&mut self, key: &str, value: Cow<'a, str>) -> bool {
        let slot = self.slot(key);
        let ours = slot.is_some();
        if let Some(slot) = slot {
            *slot = Some(value);
        }
        ours
    }

    /// The place of a key's value, if the key is one of [`Labels::KEYS`].
    pub(crate) fn slot(&mut self, key: &str) -> Option<&mut Option<Cow<'a, str>>> {
        Some(match key.strip_prefix("pod-security.kubernetes.io/")? {
            "enforce" => &mut self.enforce,
            "enforce-version" => &mut self.enforce_version,
            "audit" => &mut self.audit,
            "audit-version" => &mut self.audit_version,
            "warn" => &mut self.warn,
            "warn-version" => &mut self.warn_version,
            _ => return None,
        })
    }

    /// The values in the order of [`Labels::KEYS`].
    #[must_use]
    pub fn values(&self) -> [Option<&str>; 6] {
        [
            self.enforce.as_deref(),
            self.enforce_version.as_deref(),
            self.audit.as_deref(),
            self.audit_version.as_deref(),
            self.warn.as_deref(),
            self.warn_version.as_deref(),
        ]
    }

    /// Whether none is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values().iter().all(Option::is_none)
    }
}

/// Whose level is asked for.
#[derive(Clone, Debug, Default)]
pub struct Whose<'a> {
    /// The pod's namespace; `None` for a container of no pod.
    pub namespace: Option<&'a str>,
    /// The runtime class, as the engine calls its handler.
    pub runtime_handler: Option<&'a str>,
    /// The pod's annotations.
    pub annotations: Labels<'a>,
}

/// What is known of a namespace's labels on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Found<'a> {
    /// Nobody imports namespaces on this node.
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
    /// None: it is not judged.
    Exempt(Exempt<'a>),
    /// The namespace was not imported, and the policy denies that.
    UnknownNamespace(&'a str),
    /// These.
    Levels(Levels<'a>),
}

/// Why something is not judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exempt<'a> {
    /// Its namespace is exempt.
    Namespace(&'a str),
    /// Its runtime class is.
    RuntimeClass(&'a str),
}

impl fmt::Display for Exempt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespace(name) => write!(f, "namespace {name:?} is exempt"),
            Self::RuntimeClass(name) => write!(f, "runtime class {name:?} is exempt"),
        }
    }
}

/// What is asked of a container. Each list has at least one demand; all of a list are evaluated and their findings
/// united.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Levels<'a> {
    /// For enforce.
    pub enforce: Vec<Demand<'a>>,
    /// For audit.
    pub audit: Vec<Demand<'a>>,
    /// For warn.
    pub warn: Vec<Demand<'a>>,
}

/// One level, and what set it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand<'a> {
    /// The level.
    pub level: Level,
    /// The version.
    pub version: Version,
    /// What set it.
    pub because: Because<'a>,
}

impl Demand<'_> {
    /// What `--level` on the command line asks.
    #[must_use]
    pub fn argument(level: Level, version: Version) -> Self {
        Self { level, version, because: Because::of(Purpose::Enforce, Origin::Argument) }
    }

    fn asks_no_more_than(&self, other: &Self, policy: &Policy) -> bool {
        let latest = policy.latest_minor();
        let same = self.level == other.level && self.version.minor(latest) == other.version.minor(latest);
        self.level == Level::Privileged || same
    }
}

/// What set a level: the text after the semicolon of every message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Because<'a> {
    purpose: Purpose,
    level: Origin<'a>,
    version: Origin<'a>,
    invalid_level: Option<Invalid<'a>>,
    invalid_version: Option<Invalid<'a>>,
}

/// Who can set a level, from the least to the most specific.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin<'a> {
    /// There is no policy file.
    BuiltIn,
    /// `[defaults]` of the policy file.
    Defaults(&'a str),
    /// `[unmanaged]` of the policy file.
    Unmanaged(&'a str),
    /// `floor` of the policy file.
    Floor(&'a str),
    /// `[namespaces."name"]` of the policy file.
    Table {
        /// The namespace.
        namespace: &'a str,
        /// The policy file.
        file: &'a str,
    },
    /// The namespace's labels.
    File {
        /// The namespace.
        namespace: &'a str,
        /// Where its labels are.
        path: &'a Path,
    },
    /// The pod's annotation.
    Annotation(&'static str),
    /// `--level`.
    Argument,
}

/// A value that was not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Invalid<'a> {
    value: &'a str,
    annotation: bool,
    instead: &'static str,
}

impl<'a> Because<'a> {
    fn of(purpose: Purpose, origin: Origin<'a>) -> Self {
        Self { purpose, level: origin, version: origin, invalid_level: None, invalid_version: None }
    }

    /// What set the level itself.
    #[must_use]
    pub fn origin(&self) -> Origin<'a> {
        self.level
    }
}

impl Origin<'_> {
    fn rank(&self) -> u8 {
        match self {
            Self::BuiltIn | Self::Defaults(_) | Self::Unmanaged(_) => 0,
            Self::Table { .. } => 1,
            Self::File { .. } => 2,
            Self::Annotation(_) => 3,
            Self::Floor(_) | Self::Argument => 4,
        }
    }
}

impl fmt::Display for Origin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("the built-in defaults (there is no policy file)"),
            Self::Defaults(file) => write!(f, "[defaults] of {file}"),
            Self::Unmanaged(file) => write!(f, "[unmanaged] of {file}"),
            Self::Floor(file) => write!(f, "floor in [pod-annotations] of {file}"),
            Self::Table { namespace, file } => write!(f, "namespace {namespace:?} ({file})"),
            Self::File { namespace, path } => write!(f, "namespace {namespace:?} ({})", path.display()),
            Self::Annotation(key) => write!(f, "pod annotation {key}"),
            Self::Argument => f.write_str("--level"),
        }
    }
}

impl fmt::Display for Because<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "level from {}", self.level)?;
        // A version from a less specific place than the level is what everybody expects.
        if self.version.rank() > self.level.rank() {
            write!(f, ", version from {}", self.version)?;
        }
        if let Some(invalid) = &self.invalid_level {
            invalid.write(f, self.purpose, "", &UnknownLevel)?;
        }
        if let Some(invalid) = &self.invalid_version {
            invalid.write(f, self.purpose, "-version", &UnknownVersion)?;
        }
        Ok(())
    }
}

impl Invalid<'_> {
    fn write(
        &self,
        f: &mut fmt::Formatter<'_>,
        purpose: Purpose,
        suffix: &str,
        expected: &dyn fmt::Display,
    ) -> fmt::Result {
        let kind = if self.annotation { "annotation" } else { "label" };
        let (name, value) = (purpose.name(), Shortened(self.value));
        write!(f, "; {name}{suffix} {kind} {value} is invalid: {expected}, so {} holds", self.instead)
    }
}

/// A value from outside in quotes, escaped, and cut where it would drown the message.
struct Shortened<'a>(&'a str);

impl fmt::Display for Shortened<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(63) {
            Some((end, _)) => write!(f, "{:?}...", self.0.get(..end).unwrap_or_default()),
            None => write!(f, "{:?}", self.0),
        }
    }
}

/// Whether the policy exempts it. To be asked before anything about the namespace is read, because what is exempt must
/// start whatever state the node is in.
#[must_use]
pub fn exempt<'a>(policy: &Policy, whose: &Whose<'a>) -> Option<Exempt<'a>> {
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
pub fn resolve<'a>(policy: &'a Policy, whose: &'a Whose<'a>, found: &'a Found<'a>) -> Resolution<'a> {
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
    let unknown = *found == Found::Missing && table.is_none();
    if unknown && policy.on_unknown_namespace == OnUnknownNamespace::Deny {
        return Resolution::UnknownNamespace(namespace);
    }

    let mut base = Three::from(&policy.defaults, own(policy, Origin::Defaults));
    if let (Some(table), Some(file)) = (table, &policy.file) {
        base = base.overlaid(&Wanted::of_table(table), |_| Origin::Table { namespace, file });
    }
    if let Found::Labels { labels, path } = found {
        base = base.overlaid(&Wanted::of_labels(labels), |_| Origin::File { namespace, path });
    }
    let wanted = Wanted::of_labels(&whose.annotations);
    let asked = base.clone().overlaid(&wanted, Origin::Annotation);
    Resolution::Levels(Levels {
        enforce: combine(policy, base.enforce, asked.enforce, wanted.enforce.is_set()),
        audit: combine(policy, base.audit, asked.audit, wanted.audit.is_set()),
        warn: combine(policy, base.warn, asked.warn, wanted.warn.is_set()),
    })
}

/// What the namespace and the annotations ask, put together as the policy trusts the annotations.
fn combine<'a>(
    policy: &'a Policy,
    base: Demand<'a>,
    asked: Demand<'a>,
    by_annotation: bool,
) -> Vec<Demand<'a>> {
    // Warn may inherit an enforce annotation without having one itself.
    let changed = by_annotation || asked != base;
    match policy.pod_annotations.trust {
        _ if !changed => vec![base],
        Trust::Ignore => vec![base],
        Trust::Tighten => with(policy, base, asked),
        Trust::Override => {
            // Not only below the floor: at it or above, an older version could still hide what the floor demands.
            let level = policy.pod_annotations.floor;
            let because = Because::of(base.because.purpose, own(policy, Origin::Floor));
            with(policy, asked, Demand { level, version: base.version, because })
        }
    }
}

fn with<'a>(policy: &Policy, first: Demand<'a>, second: Demand<'a>) -> Vec<Demand<'a>> {
    if second.asks_no_more_than(&first, policy) { vec![first] } else { vec![first, second] }
}

fn own<'a>(policy: &'a Policy, origin: fn(&'a str) -> Origin<'a>) -> Origin<'a> {
    policy.file.as_deref().map_or(Origin::BuiltIn, origin)
}

/// One demand for each purpose.
#[derive(Clone)]
struct Three<'a> {
    enforce: Demand<'a>,
    audit: Demand<'a>,
    warn: Demand<'a>,
}

impl<'a> Three<'a> {
    fn from(set: &LevelSet, origin: Origin<'a>) -> Self {
        let demand = |purpose, pair: LevelVersion| Demand {
            level: pair.level,
            version: pair.version,
            because: Because::of(purpose, origin),
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
        let [enforce, enforce_version, audit, audit_version, warn, warn_version] = Labels::KEYS.map(origin);
        self.enforce.apply(&wanted.enforce, enforce, enforce_version);
        self.audit.apply(&wanted.audit, audit, audit_version);
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
        self.warn.apply(&wanted.warn, warn, warn_version);
        self
    }
}

impl<'a> Demand<'a> {
    fn apply(&mut self, wanted: &Pair<'a>, level: Origin<'a>, version: Origin<'a>) {
        if let Some(value) = wanted.level {
            self.level = value.unwrap_or_else(|_| {
                // Upstream fails closed for what stops pods, and open for what only talks.
                let closed = self.because.purpose == Purpose::Enforce;
                if closed { Level::Restricted } else { Level::Privileged }
            });
            self.because.level = level;
            self.because.invalid_level = invalid(value.err(), level, self.level.name());
        }
        if let Some(value) = wanted.version {
            self.version = value.unwrap_or(Version::Latest);
            self.because.version = version;
            self.because.invalid_version = invalid(value.err(), version, "latest");
        }
    }
}

fn invalid<'a>(value: Option<&'a str>, origin: Origin<'a>, instead: &'static str) -> Option<Invalid<'a>> {
    value.map(|value| Invalid { value, annotation: matches!(origin, Origin::Annotation(_)), instead })
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

impl Pair<'_> {
    fn is_set(&self) -> bool {
        self.level.is_some() || self.version.is_some()
    }
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

/// Whether a name is a DNS label (RFC 1123), as every namespace is. Only such a name may become part of a path.
#[must_use]
pub fn is_dns_label(name: &str) -> bool {
    let plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    plain && (1..=63).contains(&name.len()) && !name.starts_with('-') && !name.ends_with('-')
}
