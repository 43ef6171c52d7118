//! The policy as a type, whose values are always valid.
//!
//! [`read`] makes one from `policy.toml`, [`super::cache`] loads it cheaply.

pub mod compiled;
pub mod keys;
pub mod read;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::date::Date;
use super::is_dns_label;
use super::kubelet_root;
use super::labels::is_dns_subdomain;
use crate::cluster::Told;
use crate::words::did_you_mean;
use pss::capabilities::NAMES;
use pss::controls::CONTROLS;
use pss::{Level, Minor, NEWEST, Version};

pub use read::{PolicyError, mistakes, parse};

/// An enum whose variants are words of the policy file.
macro_rules! words {
    ($($(#[$doc:meta])* $Name:ident { $($(#[$about:meta])* $Variant:ident = $word:literal,)+ })+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $Name { $($(#[$about])* #[serde(rename = $word)] $Variant,)+ }

        impl $Name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$Variant),+];

            /// All words, in the same order.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word used in the policy file and in every output.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$Variant => $word,)+ }
            }
        }

        impl fmt::Display for $Name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }

        impl std::str::FromStr for $Name {
            type Err = UnknownWord;

            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                match text {
                    $($word => Ok(Self::$Variant),)+
                    _ => Err(UnknownWord(Self::WORDS)),
                }
            }
        }
    )+};
}

/// A word that is none of those a key takes.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be one of {}", .0.join(", "))]
pub struct UnknownWord(&'static [&'static str]);

words! {
    /// What the node does about a violation.
    Mode {
        /// Logs it; the container starts.
        #[default]
        Audit = "audit",
        /// Stops the container.
        Enforce = "enforce",
    }
    /// What enforce mode does with a container that cannot be evaluated.
    OnFault {
        /// Stops it.
        #[default]
        Deny = "deny",
        /// Lets it start.
        Allow = "allow",
    }
    /// What enforce mode does about something that only looks like a violation.
    OnSuspect {
        /// Logs it.
        #[default]
        Audit = "audit",
        /// Stops the container.
        Deny = "deny",
    }
    /// What holds in a namespace whose levels were never imported.
    OnUnknownNamespace {
        /// The levels of `[defaults]`.
        #[default]
        Defaults = "defaults",
        /// Nothing starts there.
        Deny = "deny",
    }
    /// What holds for a pod of which this node has no facts, where it has those of others.
    OnMissingFacts {
        /// What config.json proves; the rest stays unseen.
        #[default]
        Unseen = "unseen",
        /// Its sandbox is refused, and the kubelet tries again.
        Deny = "deny",
    }
    /// How far a pod's own annotations are trusted.
    Trust {
        /// They add demands, and take none away.
        #[default]
        Tighten = "tighten",
        /// They replace the namespace's levels, above a floor.
        Override = "override",
        /// They are not read.
        Ignore = "ignore",
    }
    /// What becomes of a control that can be switched off.
    Setting {
        /// It counts as every other control.
        #[default]
        Enforce = "enforce",
        /// It is logged, and never stops a container.
        Audit = "audit",
        /// It is not evaluated.
        Off = "off",
    }
    /// Whether the engine applies AppArmor on this node.
    AppArmor {
        /// Found out on the node.
        #[default]
        Auto = "auto",
        /// It does not, whatever the node looks like.
        Off = "off",
    }
}

/// A level and the version of the standard it is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LevelVersion {
    /// The level.
    pub level: Level,
    /// The version.
    pub version: Version,
}

impl LevelVersion {
    /// A level at the newest version.
    #[must_use]
    pub const fn latest(level: Level) -> Self {
        Self { level, version: Version::Latest }
    }
}

impl fmt::Display for LevelVersion {
    /// As upstream prints it: `restricted:latest`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.level, self.version)
    }
}

impl FromStr for LevelVersion {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "must be a level and a version, like restricted:latest";
        let (level, version) = text.split_once(':').ok_or(wrong)?;
        Ok(Self { level: level.parse().map_err(|_| wrong)?, version: version.parse().map_err(|_| wrong)? })
    }
}

/// The three levels of a table of the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LevelSet {
    /// Stops containers.
    pub enforce: LevelVersion,
    /// Is logged.
    pub audit: LevelVersion,
    /// Is logged as a warning.
    pub warn: LevelVersion,
}

impl LevelSet {
    /// These levels, but for what a table sets.
    fn with(self, own: &NamespaceLevels) -> Self {
        let pair = |base: LevelVersion, level: Option<Level>, version: Option<Version>| LevelVersion {
            level: level.unwrap_or(base.level),
            version: version.unwrap_or(base.version),
        };
        Self {
            enforce: pair(self.enforce, own.enforce, own.enforce_version),
            audit: pair(self.audit, own.audit, own.audit_version),
            warn: pair(self.warn, own.warn, own.warn_version),
        }
    }
}

impl Serialize for LevelSet {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        // What a table is short of is the newest version, in both of them.
        let version = |pair: LevelVersion| Some(pair.version).filter(|version| *version != Version::Latest);
        let own = NamespaceLevels {
            enforce: Some(self.enforce.level),
            enforce_version: version(self.enforce),
            audit: Some(self.audit.level),
            audit_version: version(self.audit),
            warn: Some(self.warn.level),
            warn_version: version(self.warn),
        };
        own.serialize(out)
    }
}

/// What `[namespaces."name"]` sets; what it leaves out comes from `[defaults]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct NamespaceLevels {
    /// The enforce level.
    #[serde(with = "text::optional", skip_serializing_if = "Option::is_none")]
    pub enforce: Option<Level>,
    /// Its version.
    #[serde(with = "text::optional", skip_serializing_if = "Option::is_none")]
    pub enforce_version: Option<Version>,
    /// The audit level.
    #[serde(with = "text::optional", skip_serializing_if = "Option::is_none")]
    pub audit: Option<Level>,
    /// Its version.
    #[serde(with = "text::optional", skip_serializing_if = "Option::is_none")]
    pub audit_version: Option<Version>,
    /// The warn level.
    #[serde(with = "text::optional", skip_serializing_if = "Option::is_none")]
    pub warn: Option<Level>,
    /// Its version.
    #[serde(with = "text::optional", skip_serializing_if = "Option::is_none")]
    pub warn_version: Option<Version>,
}

/// What is never evaluated. Exact names, as upstream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Exemptions {
    /// Namespaces.
    #[serde(deserialize_with = "all::<Label, _>")]
    pub namespaces: Vec<String>,
    /// Runtime classes, as the engine calls their handlers.
    #[serde(deserialize_with = "all::<Text, _>", skip_serializing_if = "Vec::is_empty")]
    pub runtime_classes: Vec<String>,
}

impl Default for Exemptions {
    fn default() -> Self {
        Self { namespaces: vec![SYSTEM_NAMESPACE.to_owned()], runtime_classes: Vec::new() }
    }
}

/// The namespace without which a node cannot be repaired.
pub const SYSTEM_NAMESPACE: &str = "kube-system";

/// What a pod's annotations can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PodAnnotations {
    /// How far they are trusted.
    pub trust: Trust,
    /// What an overriding annotation cannot go below.
    #[serde(with = "text")]
    pub floor: Level,
}

impl Default for PodAnnotations {
    fn default() -> Self {
        Self { trust: Trust::Tighten, floor: Level::Privileged }
    }
}

/// Controls that are allowed to fail, for a reason, until a day. It holds for what all that it names is true of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exception {
    /// The namespace it is made for.
    #[serde(deserialize_with = "one::<Label, _>")]
    pub namespace: String,
    /// The pod's name; none means every pod.
    #[serde(default, deserialize_with = "maybe::<Name, _>", skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// The workload's, by the facts of the pod, else as far as its name tells it ([`super::workload`]); none means every workload.
    #[serde(default, deserialize_with = "maybe::<Name, _>", skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The container's, be it an init or an ephemeral one; none means every container.
    #[serde(default, deserialize_with = "maybe::<Label, _>", skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The image's, with its registry and perhaps a tag or a digest; none means every image.
    #[serde(default, deserialize_with = "maybe::<Image, _>", skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Ids of the controls.
    #[serde(deserialize_with = "some::<ControlId, _>")]
    pub controls: Vec<String>,
    /// Why.
    #[serde(deserialize_with = "one::<Text, _>")]
    pub reason: String,
    /// The last day it holds, in UTC.
    #[serde(serialize_with = "text::serialize", deserialize_with = "text::of_anything")]
    pub expires: Date,
}

/// A container of a pod, as exceptions name it.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its pod.
    pub pod: &'a str,
    /// The pod's workload; empty if it is known to have none.
    pub owner: &'a str,
    /// Its own name; `None` for the sandbox, which has none, and must be allowed what one container of its pod may do.
    pub container: Option<&'a str>,
    /// Its image; `None` where it is not known, which matches any.
    pub image: Option<&'a str>,
}

impl Exception {
    /// Whether it names containers, and so may cover some of a pod's and not others.
    #[must_use]
    pub fn is_of_containers(&self) -> bool {
        self.container.is_some() || self.image.is_some()
    }

    /// Whether it speaks of this control of this container, expired or not.
    #[must_use]
    pub fn covers(&self, named: &Named<'_>, control: &str) -> bool {
        let is = |wanted: &Option<String>, own: &str| wanted.as_deref().is_none_or(|wanted| wanted == own);
        self.namespace == named.namespace
            && self.controls.iter().any(|own| own == control)
            && is(&self.pod, named.pod)
            && is(&self.owner, named.owner)
            && named.container.is_none_or(|container| {
                let image = |wanted: &str| named.image.is_none_or(|image| super::image::is(wanted, image));
                is(&self.container, container) && self.image.as_deref().is_none_or(image)
            })
    }

    /// Whom it is made for, in one line: `shop/app (owner web)`.
    #[must_use]
    pub fn whom(&self) -> String {
        let more = [("pod", &self.pod), ("owner", &self.owner), ("image", &self.image)];
        let more = more.into_iter().filter_map(|(what, name)| Some(format!("{what} {}", name.as_ref()?)));
        let more = more.collect::<Vec<_>>().join(", ");
        let more = if more.is_empty() { more } else { format!(" ({more})") };
        format!("{}/{}{more}", self.namespace, self.container.as_deref().unwrap_or("*"))
    }

    /// Whether its last day is over.
    #[must_use]
    pub fn expired(&self, today: Date) -> bool {
        today > self.expires
    }
}

/// What the node and its engine are like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Node {
    /// The kubelet's root directory: the policy's, or the recorded one; see [`Self::kubelet_root`].
    #[serde(deserialize_with = "maybe::<Absolute, _>", skip_serializing_if = "Option::is_none")]
    pub kubelet_root: Option<String>,
    /// The kubelet's own `seccompDefault`.
    #[serde(skip_serializing_if = "is_default")]
    pub seccomp_default: bool,
    /// Capabilities, without `CAP_`, that the engine grants by default beyond its built-in list.
    #[serde(deserialize_with = "all::<Capability, _>", skip_serializing_if = "Vec::is_empty")]
    pub default_capabilities: Vec<String>,
    /// Sysctls that the engine's own configuration sets.
    #[serde(deserialize_with = "all::<Text, _>", skip_serializing_if = "Vec::is_empty")]
    pub default_sysctls: Vec<String>,
    /// Bind sources that are no hostPath volumes.
    #[serde(deserialize_with = "all::<Absolute, _>", skip_serializing_if = "Vec::is_empty")]
    pub not_host_paths: Vec<String>,
    /// Whether AppArmor is in use.
    #[serde(skip_serializing_if = "is_default")]
    pub apparmor: AppArmor,
}

impl Node {
    /// The kubelet's root directory.
    #[must_use]
    pub fn kubelet_root(&self) -> &str {
        self.kubelet_root.as_deref().unwrap_or(kubelet_root::DEFAULT)
    }
}

impl Default for Node {
    fn default() -> Self {
        Self {
            kubelet_root: None,
            seccomp_default: false,
            default_capabilities: Vec::new(),
            default_sysctls: Vec::new(),
            not_host_paths: Vec::new(),
            apparmor: AppArmor::Auto,
        }
    }
}

/// The cluster that the node belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cluster {
    /// What `latest` stands for; `latest` leaves that to what the node is told of the cluster.
    #[serde(with = "text")]
    pub version: Version,
}

impl Default for Cluster {
    fn default() -> Self {
        Self { version: Version::Latest }
    }
}

/// What the agent's files can do. A stolen agent can claim lenient labels, and nothing below this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Agent {
    /// The level that holds, at least, in every namespace whose labels come from a file.
    #[serde(with = "text")]
    pub floor: Level,
}

impl Default for Agent {
    fn default() -> Self {
        Self { floor: Level::Privileged }
    }
}

/// What becomes of single controls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Controls {
    /// Whether containers can change their own image.
    #[serde(rename = "readOnlyRootFilesystem")]
    pub read_only_root_filesystem: Setting,
    /// What of the host is in containers and no pod asks for.
    #[serde(rename = "injectedMounts")]
    pub injected_mounts: Setting,
}

impl Default for Controls {
    fn default() -> Self {
        Self { read_only_root_filesystem: Setting::default(), injected_mounts: Setting::Audit }
    }
}

impl Controls {
    /// What becomes of a control of our own.
    #[must_use]
    pub fn setting(&self, id: &str) -> Setting {
        if id == "injectedMounts" { self.injected_mounts } else { self.read_only_root_filesystem }
    }
}

/// What the wrapper hands over to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Runtime {
    /// The program.
    #[serde(deserialize_with = "one::<Absolute, _>")]
    pub path: String,
}

impl Default for Runtime {
    fn default() -> Self {
        Self { path: "/usr/sbin/runc".to_owned() }
    }
}

/// The policy of a node: the keys of `policy.toml`. As JSON it says what is not the default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Policy {
    /// The file it was read from; `None` for the built-in one.
    #[serde(skip)]
    pub file: Option<String>,
    /// What the node is told of the cluster's version; [`super::cache`] fills it in where the policy does not name one.
    #[serde(skip)]
    pub told: Told,
    /// What the node does about violations.
    pub mode: Mode,
    /// What becomes of a container that cannot be evaluated.
    #[serde(skip_serializing_if = "is_default")]
    pub on_fault: OnFault,
    /// What becomes of a suspect.
    #[serde(skip_serializing_if = "is_default")]
    pub on_suspect: OnSuspect,
    /// What holds in a namespace that was not imported.
    #[serde(skip_serializing_if = "is_default")]
    pub on_unknown_namespace: OnUnknownNamespace,
    /// What holds for a pod that the agent has not brought.
    #[serde(skip_serializing_if = "is_default")]
    pub on_missing_facts: OnMissingFacts,
    /// Whether plain allows are logged too.
    #[serde(skip_serializing_if = "is_default")]
    pub log_allowed: bool,
    /// The cluster.
    #[serde(skip_serializing_if = "is_default")]
    pub cluster: Cluster,
    /// The levels of a namespace that says nothing.
    #[serde(deserialize_with = "defaults", skip_serializing_if = "is_usual_defaults")]
    pub defaults: LevelSet,
    /// The levels of containers that belong to no pod.
    #[serde(deserialize_with = "unmanaged", skip_serializing_if = "is_usual_unmanaged")]
    pub unmanaged: LevelSet,
    /// What is never evaluated.
    pub exemptions: Exemptions,
    /// What a pod's annotations can do.
    #[serde(skip_serializing_if = "is_default")]
    pub pod_annotations: PodAnnotations,
    /// What bounds the cluster's agent.
    #[serde(skip_serializing_if = "is_default")]
    pub agent: Agent,
    /// Levels of single namespaces.
    #[serde(deserialize_with = "namespaces", skip_serializing_if = "BTreeMap::is_empty")]
    pub namespaces: BTreeMap<String, NamespaceLevels>,
    /// What becomes of single controls.
    #[serde(skip_serializing_if = "is_default")]
    pub controls: Controls,
    /// What is allowed to fail, and until when.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exceptions: Vec<Exception>,
    /// What the node is like.
    #[serde(skip_serializing_if = "is_default")]
    pub node: Node,
    /// The runtime that the wrapper hands over to.
    #[serde(skip_serializing_if = "is_default")]
    pub runtime: Runtime,
}

impl Default for Policy {
    /// What holds on a node without a policy file: everything is logged, nothing is stopped.
    fn default() -> Self {
        Self {
            file: None,
            told: Told::Nothing,
            mode: Mode::Audit,
            on_fault: OnFault::Deny,
            on_suspect: OnSuspect::Audit,
            on_unknown_namespace: OnUnknownNamespace::Defaults,
            on_missing_facts: OnMissingFacts::Unseen,
            log_allowed: false,
            cluster: Cluster::default(),
            defaults: USUAL_DEFAULTS,
            unmanaged: USUAL_UNMANAGED,
            exemptions: Exemptions::default(),
            pod_annotations: PodAnnotations::default(),
            agent: Agent::default(),
            namespaces: BTreeMap::new(),
            controls: Controls::default(),
            exceptions: Vec::new(),
            node: Node::default(),
            runtime: Runtime::default(),
        }
    }
}

impl Policy {
    /// The settings that deny a pod for want of knowledge, each with the word that does not. Such a denial is made at the
    /// pod's sandbox.
    pub fn denials_at_sandboxes(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let namespace = (self.on_unknown_namespace == OnUnknownNamespace::Deny)
            .then_some(("on-unknown-namespace", OnUnknownNamespace::Defaults.name()));
        let facts = (self.on_missing_facts == OnMissingFacts::Deny)
            .then_some(("on-missing-facts", OnMissingFacts::Unseen.name()));
        namespace.into_iter().chain(facts)
    }

    /// The minor that `latest` stands for: the policy's own, else the cluster's, else the newest known.
    #[must_use]
    pub fn latest_minor(&self) -> Minor {
        let told = if let Told::Minor(minor) = self.told { minor.min(NEWEST) } else { NEWEST };
        self.cluster.version.minor(told)
    }

    /// A version as it is without what the node is told, for what bounds the agent that tells it: where a `latest` would be an
    /// older one by the agent's word, the newest known.
    #[must_use]
    pub fn untold(&self, version: Version) -> Version {
        let is_told = version == Version::Latest && self.cluster.version == Version::Latest;
        if is_told && self.latest_minor() < NEWEST { Version::Minor(NEWEST) } else { version }
    }
}

const USUAL_DEFAULTS: LevelSet = LevelSet {
    enforce: LevelVersion::latest(Level::Privileged),
    audit: LevelVersion::latest(Level::Restricted),
    warn: LevelVersion::latest(Level::Restricted),
};

const USUAL_UNMANAGED: LevelSet = LevelSet {
    enforce: LevelVersion::latest(Level::Privileged),
    audit: LevelVersion::latest(Level::Privileged),
    warn: LevelVersion::latest(Level::Privileged),
};

fn is_usual_defaults(levels: &LevelSet) -> bool {
    *levels == USUAL_DEFAULTS
}

fn is_usual_unmanaged(levels: &LevelSet) -> bool {
    *levels == USUAL_UNMANAGED
}

fn defaults<'de, D: Deserializer<'de>>(from: D) -> Result<LevelSet, D::Error> {
    NamespaceLevels::deserialize(from).map(|own| USUAL_DEFAULTS.with(&own))
}

fn unmanaged<'de, D: Deserializer<'de>>(from: D) -> Result<LevelSet, D::Error> {
    NamespaceLevels::deserialize(from).map(|own| USUAL_UNMANAGED.with(&own))
}

fn namespaces<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, NamespaceLevels>, D::Error> {
    let own = BTreeMap::<Label, NamespaceLevels>::deserialize(from)?;
    Ok(own.into_iter().map(|(name, levels)| (name.into(), levels)).collect())
}

fn one<'de, T: Deserialize<'de> + Into<String>, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    T::deserialize(from).map(Into::into)
}

fn maybe<'de, T: Deserialize<'de> + Into<String>, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<String>, D::Error> {
    one::<T, D>(from).map(Some)
}

fn all<'de, T: Deserialize<'de> + Into<String>, D: Deserializer<'de>>(
    from: D,
) -> Result<Vec<String>, D::Error> {
    Ok(Vec::<T>::deserialize(from)?.into_iter().map(Into::into).collect())
}

fn some<'de, T: Deserialize<'de> + Into<String>, D: Deserializer<'de>>(
    from: D,
) -> Result<Vec<String>, D::Error> {
    let items = all::<T, D>(from)?;
    if items.is_empty() { Err(D::Error::custom("is empty; name at least one control")) } else { Ok(items) }
}

/// What a string of the policy must look like: how it is kept, if it is right, what is wanted, and of which names it is one.
macro_rules! shapes {
    ($($Name:ident = |$text:ident| $kept:expr, $wanted:literal $(, $names:expr)?;)+) => {$(
        #[derive(PartialEq, Eq, PartialOrd, Ord)]
        struct $Name(String);

        impl FromStr for $Name {
            type Err = String;

            fn from_str($text: &str) -> Result<Self, String> {
                let kept: Option<&str> = $kept;
                kept.map(|kept| Self(kept.to_owned())).ok_or_else(|| {
                    let names: &[&[&'static str]] = &[$(&$names)?];
                    let meant = did_you_mean($text, names.iter().copied().flatten().copied());
                    format!("must be {}{}", $wanted, meant.map_or_else(String::new, |meant| format!(" ({meant})")))
                })
            }
        }

        impl From<$Name> for String {
            fn from(own: $Name) -> Self {
                own.0
            }
        }

        impl<'de> Deserialize<'de> for $Name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                text::deserialize(from)
            }
        }
    )+};
}

shapes! {
    Text = |text| Some(text).filter(|text| !text.trim().is_empty()), "some text";
    Absolute = |text| Some(text).filter(|text| text.starts_with('/')), "an absolute path";
    Label = |text| Some(text).filter(|text| is_dns_label(text)), "one name of lower-case letters, digits and dashes";
    Name = |text| Some(text).filter(|text| is_dns_subdomain(text)),
        "a whole name of lower-case letters, digits, dashes and dots";
    Image = |text| Some(text).filter(|text| super::image::is_whole(text)),
        "an image with its registry, optionally with a tag or a digest, like docker.io/library/nginx";
    ControlId = |text| Some(text).filter(|text| CONTROLS.iter().any(|control| control.id == *text)),
        "the id of a control that pss-guard explain lists", CONTROLS.iter().map(|control| control.id).collect::<Vec<_>>();
    Capability = |text| Some(text.strip_prefix("CAP_").unwrap_or(text)).filter(|bare| NAMES.contains(bare)),
        "a capability of the kernel", NAMES;
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Levels, versions and dates in the spelling that people use; the standard itself knows no serde.
pub(super) mod text {
    use std::fmt::{self, Display};
    use std::marker::PhantomData;
    use std::str::FromStr;

    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};

    pub(in super::super) fn serialize<T: Display, S: Serializer>(
        value: &T,
        out: S,
    ) -> Result<S::Ok, S::Error> {
        out.collect_str(value)
    }

    pub(in super::super) fn deserialize<'de, T, D>(from: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        from.deserialize_str(Parsed(PhantomData))
    }

    /// The same of what is no text everywhere: a date of TOML's own.
    pub(in super::super) fn of_anything<'de, T, D>(from: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        from.deserialize_any(Parsed(PhantomData))
    }

    struct Parsed<T>(PhantomData<T>);

    impl<T: FromStr<Err: Display>> Visitor<'_> for Parsed<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(|error| E::custom(format_args!("{error}, not {text:?}")))
        }
    }

    /// What is `None` is left out, so that what is there is never null.
    pub(super) mod optional {
        use super::{Deserializer, Display, FromStr, Serializer};

        // serde hands over a reference to the field.
        #[allow(clippy::ref_option)]
        pub(in super::super) fn serialize<T: Display, S: Serializer>(
            value: &Option<T>,
            out: S,
        ) -> Result<S::Ok, S::Error> {
            match value {
                Some(value) => out.collect_str(value),
                None => out.serialize_none(),
            }
        }

        pub(in super::super) fn deserialize<'de, T, D>(from: D) -> Result<Option<T>, D::Error>
        where
            T: FromStr<Err: Display>,
            D: Deserializer<'de>,
        {
            super::deserialize(from).map(Some)
        }
    }
}
