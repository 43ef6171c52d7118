//! Parses the text of a policy into a [`Policy`], or into all of its mistakes, with their places.
//!
//! The types in [`super`] and their `Deserialize` describe a policy once, for the text and for the cache. This file adds a
//! `Deserializer` for TOML whose errors have a line, a column and the keys that would be valid. serde stops at the first
//! error, so the document is read again without what is known to be wrong, until no new error turns up.

use std::collections::BTreeSet;
use std::fmt::{self, Display};
use std::ops::Range;

use serde::de::value::StrDeserializer;
use serde::de::{
    Deserialize as _, DeserializeSeed, Deserializer, Error as _, Expected, MapAccess, SeqAccess, Unexpected,
    Visitor,
};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Mode, Policy};
use crate::words::did_you_mean;

/// What is wrong with the text of a policy, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {what}")]
pub struct PolicyError {
    /// The file, as the admin would call it.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub what: String,
}

/// Reads the text of a policy; `file` is its name in messages. The error is the mistake that is found first: a
/// start of a container does not wait for all of them.
pub fn parse(text: &str, file: &str) -> Result<Policy, PolicyError> {
    read(text, file, 1).map_err(|mistakes| {
        let first = mistakes.into_iter().next();
        first.unwrap_or_else(|| at(text, file, 0, "is no policy".to_owned()))
    })
}

/// All that is wrong with the text of a policy, in its order, but no more than a screen of them. A mistake of syntax hides what comes
/// after it.
#[must_use]
pub fn mistakes(text: &str, file: &str) -> Vec<PolicyError> {
    read(text, file, MOST).err().unwrap_or_default()
}

/// So many mistakes are found in one text: each is a reading of its own.
const MOST: usize = 50;

/// Never an error without a mistake.
fn read(text: &str, file: &str, most: usize) -> Result<Policy, Vec<PolicyError>> {
    let document = DeTable::parse(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        vec![at(text, file, start, one_line(error.message()))]
    })?;
    let mut known = KnownMistakes::new();
    let mut wrong: Vec<(usize, String)> = Vec::new();
    loop {
        let top = Table { start: 0, header: "", entries: document.get_ref(), known: &known };
        let Fault { start, place, kind, is_known } = match Policy::deserialize(top) {
            Ok(policy) if wrong.is_empty() => return Ok(Policy { file: Some(file.to_owned()), ..policy }),
            Ok(_) => break,
            Err(fault) => fault,
        };
        let (is_new, what) = match kind {
            Kind::Missing(key) => (known.stood_in.insert((start, key)), format!("{place} lacks {key:?}")),
            Kind::Wrong(what) => (known.wrong.insert(start), format!("{place} {what}")),
            Kind::Unknown(what) => (known.wrong.insert(start), format!("unknown key {place}; {what}")),
        };
        if !is_known {
            wrong.push((start, what));
        }
        if !is_new || wrong.len() == most {
            break;
        }
    }
    // Those that share a place stay as they were found.
    wrong.sort_by_key(|(start, _)| *start);
    Err(wrong.into_iter().map(|(start, what)| at(text, file, start, what)).collect())
}

/// The mode of a policy that is wrong elsewhere, if at least its syntax is right.
#[must_use]
pub fn mode_of(text: &str) -> Option<Mode> {
    let document = DeTable::parse(text).ok()?;
    match document.get_ref().get("mode")?.get_ref() {
        DeValue::String(mode) => mode.parse().ok(),
        _ => None,
    }
}

/// Whether a text sets nothing: it is empty, or has comments and heads of tables alone. The mark of the byte order is what
/// some editors make of an empty file.
#[must_use]
pub fn sets_nothing(text: &str) -> bool {
    fn is_bare(table: &DeTable<'_>) -> bool {
        table.values().all(|value| matches!(value.get_ref(), DeValue::Table(table) if is_bare(table)))
    }
    DeTable::parse(text.trim_start_matches('\u{feff}')).is_ok_and(|table| is_bare(table.get_ref()))
}

/// Where the value of the key `mode` lies in a text whose syntax is right, quotes included.
#[must_use]
pub fn place_of_mode(text: &str) -> Option<Range<usize>> {
    DeTable::parse(text).ok()?.get_ref().get("mode").map(Spanned::span)
}

/// What earlier readings found.
struct KnownMistakes {
    /// The keys, values and items that are wrong, by where they begin. They are passed over.
    wrong: BTreeSet<usize>,
    /// The keys that a table must have and does not, or not rightly. A value from [`STAND_IN`] takes their place, so that the
    /// next mistake is found.
    stood_in: BTreeSet<(usize, &'static str)>,
    stand_in: DeTable<'static>,
}

impl KnownMistakes {
    fn new() -> Self {
        let stand_in = DeTable::parse(STAND_IN).map(Spanned::into_inner).unwrap_or_default();
        Self { wrong: BTreeSet::new(), stood_in: BTreeSet::new(), stand_in }
    }
}

/// A right value for each key that a table must have. No policy comes of a text that needs one.
const STAND_IN: &str = "namespace = 'x'\ncontrols = ['sysctls']\nreason = 'x'\nexpires = '2000-01-01'";

/// Something that is wrong. The place is added on the way out, by the table or the array that it is in.
#[derive(Debug)]
struct Fault {
    start: usize,
    /// How messages call it; empty as long as it has no place.
    place: String,
    kind: Kind,
    /// Whether it follows from a mistake that is known.
    is_known: bool,
}

#[derive(Debug)]
enum Kind {
    /// A value that is not as it must be, and what that is.
    Wrong(String),
    /// A key that is none, and the way out.
    Unknown(String),
    /// A key that must be there.
    Missing(&'static str),
}

impl Fault {
    const fn new(kind: Kind) -> Self {
        Self { start: 0, place: String::new(), kind, is_known: false }
    }

    /// The same with a place, unless something further inside had one.
    fn or_at(
        self,
        start: usize,
        place: impl FnOnce() -> String,
        is_known: impl FnOnce(&Kind) -> bool,
    ) -> Self {
        if !self.place.is_empty() {
            return self;
        }
        Self { start, place: place(), is_known: is_known(&self.kind), kind: self.kind }
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.place)
    }
}

impl std::error::Error for Fault {}

impl serde::de::Error for Fault {
    fn custom<T: Display>(what: T) -> Self {
        Self::new(Kind::Wrong(what.to_string()))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(format_args!("must be one of {}, not {variant:?}", expected.join(", ")))
    }

    /// Whatever nobody asked for is a mistake: a misspelt key must not be a rule that silently does not hold.
    fn unknown_field(key: &str, expected: &'static [&'static str]) -> Self {
        let way_out = did_you_mean(key, expected.iter().copied());
        Self::new(Kind::Unknown(way_out.unwrap_or_else(|| format!("known keys: {}", expected.join(", ")))))
    }

    fn missing_field(key: &'static str) -> Self {
        Self::new(Kind::Missing(key))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(format_args!("must be {expected}, not {found}"))
    }
}

/// A value of the document, and where it is.
#[derive(Clone, Copy)]
struct Value<'t> {
    own: &'t Spanned<DeValue<'t>>,
    key: &'t str,
    /// The header of the table that the key is in.
    within: &'t str,
    /// It is one of those in the array of this key.
    is_item: bool,
    /// Whether it is of [`STAND_IN`], whose places are not the document's.
    is_stand_in: bool,
    known: &'t KnownMistakes,
}

impl<'t> Value<'t> {
    fn start(&self) -> usize {
        self.own.span().start
    }

    /// How messages call it.
    fn name(&self) -> String {
        let of = if self.is_item { "an item of " } else { "" };
        format!("{of}{}", name(self.key, self.within))
    }

    /// The header of the table that it is, as the admin writes it.
    fn header(&self) -> String {
        match self.within.strip_prefix('[').and_then(|header| header.strip_suffix(']')) {
            Some(within) => format!("[{within}.{:?}]", self.key),
            None if self.is_item => format!("[[{}]]", self.key),
            None => format!("[{}]", self.key),
        }
    }

    /// The items of an array, but for those that are known to be wrong.
    fn items(self, array: &'t [Spanned<DeValue<'t>>]) -> impl Iterator<Item = Self> {
        let items = array.iter().map(move |value| Self { own: value, is_item: true, ..self });
        items.filter(|item| item.is_stand_in || !item.known.wrong.contains(&item.start()))
    }

    /// Reads it, and puts its place to what is wrong.
    fn read<'de, S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Fault> {
        // An array that lost some of its items may be too short for that alone.
        let lost_some = |_: &Kind| match self.own.get_ref() {
            DeValue::Array(array) => self.items(array).count() < array.len(),
            _ => false,
        };
        seed.deserialize(self).map_err(|fault| fault.or_at(self.start(), || self.name(), lost_some))
    }

    fn must_be<R>(self, wanted: &str) -> Result<R, Fault> {
        let found = match self.own.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        Err(Fault::custom(format_args!("must be {wanted}, not {found}")))
    }
}

/// A key, and the table that it is in unless that is the whole document.
fn name(key: &str, within: &str) -> String {
    if within.is_empty() { format!("{key:?}") } else { format!("{key:?} in {within}") }
}

impl<'de> Deserializer<'de> for Value<'_> {
    type Error = Fault;

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.own.get_ref() {
            DeValue::String(text) => visitor.visit_str(text),
            _ => self.must_be("a string"),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        words: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.own.get_ref() {
            DeValue::String(text) => StrDeserializer::new(text).deserialize_enum(name, words, visitor),
            _ => self.must_be("a string"),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.own.get_ref() {
            DeValue::Boolean(value) => visitor.visit_bool(*value),
            _ => self.must_be("true or false"),
        }
    }

    /// Only a date asks for this: it is one of TOML's own, or a string.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.own.get_ref() {
            DeValue::String(text) => visitor.visit_str(text),
            DeValue::Datetime(moment) => visitor.visit_str(&moment.to_string()),
            _ => self.must_be("a date like 2027-06-30"),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.own.get_ref() {
            DeValue::Array(array) => visitor.visit_seq(Items(self.items(array))),
            // What has items at the top has tables.
            _ if self.within.is_empty() => {
                self.must_be(&format!("a list of tables, each under [[{}]]", self.key))
            }
            _ => self.must_be("an array of strings"),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.own.get_ref() {
            DeValue::Table(entries) => {
                let header = self.header();
                Table { start: self.start(), header: &header, entries, known: self.known }
                    .deserialize_any(visitor)
            }
            _ => self.must_be("a table"),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_map(visitor)
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct newtype_struct tuple
        tuple_struct identifier ignored_any
    }
}

/// The items of an array.
struct Items<I>(I);

impl<'de, 't, I: Iterator<Item = Value<'t>>> SeqAccess<'de> for Items<I> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        self.0.next().map(|item| item.read(seed)).transpose()
    }
}

/// A table of the document.
struct Table<'t> {
    start: usize,
    /// Empty at the top.
    header: &'t str,
    entries: &'t DeTable<'t>,
    known: &'t KnownMistakes,
}

impl<'de> Deserializer<'de> for Table<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let Self { start, header, entries, known } = self;
        let value = |key, value, is_stand_in| Value {
            own: value,
            key,
            within: header,
            is_item: false,
            is_stand_in,
            known,
        };
        let own = entries.iter().map(|(key, own)| (key.span().start, value(key.get_ref(), own, false)));
        let is_wrong = |start: usize| known.wrong.contains(&start);
        let mut all: Vec<_> = own.filter(|(key, own)| !is_wrong(*key) && !is_wrong(own.start())).collect();
        // A table sorts its keys; people read from top to bottom.
        all.sort_by_key(|(_, value)| value.start());
        // The whole document begins where its first table does, and lacks nothing.
        let stood_in = known.stood_in.iter().filter(|(table, _)| *table == start && !header.is_empty());
        all.extend(
            stood_in.filter_map(|(_, key)| Some((start, value(key, known.stand_in.get(*key)?, true)))),
        );
        let read = visitor.visit_map(Entries { entries: all.into_iter(), value: None });
        let is_there = |kind: &Kind| matches!(kind, Kind::Missing(key) if entries.contains_key(*key));
        read.map_err(|fault| fault.or_at(start, || header.to_owned(), is_there))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// The keys of a table, each with where it begins, and their values.
struct Entries<'t> {
    entries: std::vec::IntoIter<(usize, Value<'t>)>,
    value: Option<Value<'t>>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Fault;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        let Some((start, value)) = self.entries.next() else { return Ok(None) };
        self.value = Some(value);
        let read = seed.deserialize(StrDeserializer::<Fault>::new(value.key)).map(Some);
        read.map_err(|fault| fault.or_at(start, || value.name(), |_| false))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        self.value.take().ok_or_else(|| Fault::custom("is no value"))?.read(seed)
    }
}

fn at(text: &str, file: &str, start: usize, mut what: String) -> PolicyError {
    let before = text.get(..start).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
    // A key or value of a megabyte must not push everything else out of the message.
    if let Some((end, _)) = what.char_indices().nth(LONGEST) {
        what.truncate(end);
        what.push_str("...");
    }
    PolicyError { file: file.to_owned(), line, column, what }
}

/// Characters of a message; the list of all keys needs 200.
const LONGEST: usize = 400;

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
// A table is long where there is much to say.
#[allow(clippy::too_many_lines)]
pub(super) mod tests {
    use super::{MOST, STAND_IN, mistakes, mode_of, parse};
    use crate::level::policy::{
        AppArmor, Exception, LevelVersion, Mode, OnFault, OnMissingFacts, OnSuspect, OnUnknownNamespace,
        Policy, Setting, Trust,
    };
    use pss::{Level, NEWEST, Version};

    const FILE: &str = "/etc/pss-guard/policy.toml";

    /// Every key there is, each with another value than its default.
    pub(in super::super) const EVERYTHING: &str = r#"
mode = "enforce"
on-fault = "allow"
on-suspect = "deny"
on-unknown-namespace = "deny"
on-missing-facts = "deny"
log-allowed = true
[cluster]
version = "v1.36"
[defaults]
enforce = "baseline"
enforce-version = "v1.30"
audit = "baseline"
audit-version = "v1.31"
warn = "privileged"
warn-version = "v1.32"
[exemptions]
namespaces = ["kube-system", "ops"]
runtime-classes = ["kata"]
[pod-annotations]
trust = "override"
floor = "baseline"
[agent]
floor = "baseline"
[namespaces."ingress-nginx"]
enforce = "privileged"
warn-version = "v1.20"
[unmanaged]
enforce = "restricted"
audit = "restricted"
warn = "baseline"
[controls]
readOnlyRootFilesystem = "off"
injectedMounts = "enforce"
[[exceptions]]
namespace = "monitoring"
pod = "node-exporter-x7k2p"
owner = "node-exporter"
container = "exporter"
image = "quay.io/prometheus/node-exporter:v1"
controls = ["sysctls"]
reason = "tunes the network"
expires = 2027-06-30
[[exceptions]]
namespace = "shop"
controls = ["sysctls"]
reason = "until the next release"
expires = "2027-01-31"
[node]
kubelet-root = "/data/kubelet"
seccomp-default = true
default-capabilities = ["CAP_NET_RAW", "SYS_CHROOT"]
default-sysctls = ["net.ipv4.ping_group_range"]
not-host-paths = ["/opt/local-path-provisioner"]
apparmor = "off"
[runtime]
path = "/usr/bin/crun"
"#;

    #[test]
    fn every_key_arrives_where_it_belongs() {
        let policy = parse(EVERYTHING, FILE).unwrap();
        let pair = |level, minor| LevelVersion { level, version: Version::Minor(minor) };
        assert_eq!(policy.file.as_deref(), Some(FILE));
        assert_eq!(policy.mode, Mode::Enforce);
        assert_eq!(policy.on_fault, OnFault::Allow);
        assert_eq!(policy.on_suspect, OnSuspect::Deny);
        assert_eq!(policy.on_unknown_namespace, OnUnknownNamespace::Deny);
        assert_eq!(policy.on_missing_facts, OnMissingFacts::Deny);
        assert!(policy.log_allowed);
        assert_eq!(policy.latest_minor(), 36);
        assert_eq!(policy.defaults.enforce, pair(Level::Baseline, 30));
        assert_eq!(policy.defaults.audit, pair(Level::Baseline, 31));
        assert_eq!(policy.defaults.warn, pair(Level::Privileged, 32));
        assert_eq!(policy.exemptions.namespaces, ["kube-system", "ops"]);
        assert_eq!(policy.exemptions.runtime_classes, ["kata"]);
        assert_eq!(policy.pod_annotations.trust, Trust::Override);
        assert_eq!(policy.pod_annotations.floor, Level::Baseline);
        assert_eq!(policy.namespaces.len(), 1);
        let ingress = policy.namespaces["ingress-nginx"];
        assert_eq!((ingress.enforce, ingress.enforce_version), (Some(Level::Privileged), None));
        assert_eq!((ingress.warn, ingress.warn_version), (None, Some(Version::Minor(20))));
        assert_eq!(policy.unmanaged.enforce, LevelVersion::latest(Level::Restricted));
        assert_eq!(policy.unmanaged.audit, LevelVersion::latest(Level::Restricted));
        assert_eq!(policy.unmanaged.warn, LevelVersion::latest(Level::Baseline));
        assert_eq!(policy.agent.floor, Level::Baseline);
        assert_eq!(policy.controls.read_only_root_filesystem, Setting::Off);
        assert_eq!(policy.controls.injected_mounts, Setting::Enforce);
        assert_eq!(
            policy.exceptions,
            [
                Exception {
                    namespace: "monitoring".to_owned(),
                    pod: Some("node-exporter-x7k2p".to_owned()),
                    owner: Some("node-exporter".to_owned()),
                    container: Some("exporter".to_owned()),
                    image: Some("quay.io/prometheus/node-exporter:v1".to_owned()),
                    controls: vec!["sysctls".to_owned()],
                    reason: "tunes the network".to_owned(),
                    expires: "2027-06-30".parse().unwrap(),
                },
                Exception {
                    namespace: "shop".to_owned(),
                    pod: None,
                    owner: None,
                    container: None,
                    image: None,
                    controls: vec!["sysctls".to_owned()],
                    reason: "until the next release".to_owned(),
                    expires: "2027-01-31".parse().unwrap(),
                },
            ]
        );
        assert_eq!(policy.node.kubelet_root(), "/data/kubelet");
        assert!(policy.node.seccomp_default);
        assert_eq!(policy.node.default_capabilities, ["NET_RAW", "SYS_CHROOT"]);
        assert_eq!(policy.node.default_sysctls, ["net.ipv4.ping_group_range"]);
        assert_eq!(policy.node.not_host_paths, ["/opt/local-path-provisioner"]);
        assert_eq!(policy.node.apparmor, AppArmor::Off);
        assert_eq!(policy.runtime.path, "/usr/bin/crun");
    }

    #[test]
    fn an_empty_policy_is_the_built_in_one() {
        let mut policy = parse("", FILE).unwrap();
        policy.file = None;
        assert_eq!(policy, Policy::default());
        assert_eq!(policy.exemptions.namespaces, ["kube-system"]);
        assert_eq!(policy.latest_minor(), NEWEST);
        // Other exemptions do not take the system's away; an empty list does.
        let other = parse("[exemptions]\nruntime-classes = ['kata']", FILE).unwrap();
        assert_eq!(other.exemptions.namespaces, ["kube-system"]);
        assert!(parse("[exemptions]\nnamespaces = []", FILE).unwrap().exemptions.namespaces.is_empty());
    }

    #[test]
    fn an_error_names_the_place_the_key_and_the_way_out() {
        const EXCEPTION: &str = "[[exceptions]]\nnamespace = 'a'\ncontrols = ['sysctls']\nreason = 'x'\n";
        let rows: &[(&str, &str)] = &[
            // Keys.
            (
                "[defaults]\nenforcee = 'baseline'",
                "2:1: unknown key \"enforcee\" in [defaults]; did you mean \"enforce\"?",
            ),
            ("mode = 'audit'\nMode = 'enforce'", "2:1: unknown key \"Mode\"; did you mean \"mode\"?"),
            ("[default]\nenforce = 'baseline'", "1:2: unknown key \"default\"; did you mean \"defaults\"?"),
            (
                "[exemptions]\nnamespace = []",
                "2:1: unknown key \"namespace\" in [exemptions]; did you mean \"namespaces\"?",
            ),
            (
                "[pod-annotations]\nwhatever = 1",
                "2:1: unknown key \"whatever\" in [pod-annotations]; known keys: trust, floor",
            ),
            (
                "[controls]\nhostPathVolumes = 'off'",
                "2:1: unknown key \"hostPathVolumes\" in [controls]; known keys: readOnlyRootFilesystem, injectedMounts",
            ),
            (
                "[namespaces.a]\naudit_version = 'latest'",
                "2:1: unknown key \"audit_version\" in [namespaces.\"a\"]; did you mean \"audit-version\"?",
            ),
            ("[cluster]\nminor = 3", "2:1: unknown key \"minor\" in [cluster]; known keys: version"),
            (
                "[node]\nshelf = '/x'",
                "2:1: unknown key \"shelf\" in [node]; known keys: kubelet-root, seccomp-default, default-capabilities, default-sysctls, not-host-paths, apparmor",
            ),
            ("[runtime]\npaths = '/x'", "2:1: unknown key \"paths\" in [runtime]; did you mean \"path\"?"),
            (
                "[unmanaged]\nenforce_version = 'latest'",
                "2:1: unknown key \"enforce_version\" in [unmanaged]; did you mean \"enforce-version\"?",
            ),
            (
                "[[exceptions]]\nnamespace = 'a'\ncontrols = ['sysctls']\nreason = 'x'\nexpire = 2027-01-01",
                "5:1: unknown key \"expire\" in [[exceptions]]; did you mean \"expires\"?",
            ),
            ("mode = 'audit'\nmode = 'audit'", "2:1: duplicate key"),
            // Words.
            ("mode = 'enforced'", "1:8: \"mode\" must be one of audit, enforce, not \"enforced\""),
            ("mode = 'Audit'", "1:8: \"mode\" must be one of audit, enforce, not \"Audit\""),
            ("on-fault = 'audit'", "1:12: \"on-fault\" must be one of deny, allow, not \"audit\""),
            ("on-suspect = 'allow'", "1:14: \"on-suspect\" must be one of audit, deny, not \"allow\""),
            (
                "on-unknown-namespace = 'allow'",
                "1:24: \"on-unknown-namespace\" must be one of defaults, deny, not \"allow\"",
            ),
            (
                "[pod-annotations]\ntrust = 'yes'",
                "2:9: \"trust\" in [pod-annotations] must be one of tighten, override, ignore, not \"yes\"",
            ),
            (
                "[controls]\nreadOnlyRootFilesystem = 'on'",
                "2:26: \"readOnlyRootFilesystem\" in [controls] must be one of enforce, audit, off, not \"on\"",
            ),
            ("[node]\napparmor = 'on'", "2:12: \"apparmor\" in [node] must be one of auto, off, not \"on\""),
            // Levels and versions.
            (
                "[defaults]\nenforce = 'Restricted'",
                "2:11: \"enforce\" in [defaults] must be one of privileged, baseline, restricted, not \"Restricted\"",
            ),
            (
                "[defaults]\nenforce = ''",
                "2:11: \"enforce\" in [defaults] must be one of privileged, baseline, restricted, not \"\"",
            ),
            (
                "[defaults]\nwarn-version = '1.24'",
                "2:16: \"warn-version\" in [defaults] must be \"latest\" or \"v1.x\", not \"1.24\"",
            ),
            (
                "[namespaces.'my-shop']\naudit = 'none'",
                "2:9: \"audit\" in [namespaces.\"my-shop\"] must be one of privileged, baseline, restricted, not \"none\"",
            ),
            (
                "[unmanaged]\nenforce-version = 'v2.0'",
                "2:19: \"enforce-version\" in [unmanaged] must be \"latest\" or \"v1.x\", not \"v2.0\"",
            ),
            (
                "[pod-annotations]\nfloor = 'base'",
                "2:9: \"floor\" in [pod-annotations] must be one of privileged, baseline, restricted, not \"base\"",
            ),
            (
                "[cluster]\nversion = '1.36'",
                "2:11: \"version\" in [cluster] must be \"latest\" or \"v1.x\", not \"1.36\"",
            ),
            // Types.
            ("mode = 1", "1:8: \"mode\" must be a string, not an integer"),
            ("mode = ['audit']", "1:8: \"mode\" must be a string, not an array"),
            ("log-allowed = 'yes'", "1:15: \"log-allowed\" must be true or false, not a string"),
            ("defaults = 'baseline'", "1:12: \"defaults\" must be a table, not a string"),
            ("[[defaults]]", "1:1: \"defaults\" must be a table, not an array"),
            (
                "[exemptions]\nnamespaces = 'a'",
                "2:14: \"namespaces\" in [exemptions] must be an array of strings, not a string",
            ),
            (
                "[exemptions]\nnamespaces = ['a', 1.5]",
                "2:20: an item of \"namespaces\" in [exemptions] must be a string, not a float",
            ),
            ("namespaces = 1", "1:14: \"namespaces\" must be a table, not an integer"),
            (
                "[namespaces]\nshop = 'baseline'",
                "2:8: \"shop\" in [namespaces] must be a table, not a string",
            ),
            (
                "exceptions = true",
                "1:14: \"exceptions\" must be a list of tables, each under [[exceptions]], not a boolean",
            ),
            (
                "[node]\nseccomp-default = 2027-01-01",
                "2:19: \"seccomp-default\" in [node] must be true or false, not a date",
            ),
            // Names.
            (
                "[exemptions]\nnamespaces = ['kube-*']",
                "2:15: an item of \"namespaces\" in [exemptions] must be one name of lower-case letters, digits and dashes, not \"kube-*\"",
            ),
            (
                "[namespaces.'../x']",
                "1:13: \"../x\" in [namespaces] must be one name of lower-case letters, digits and dashes, not \"../x\"",
            ),
            (
                "[exemptions]\nruntime-classes = ['']",
                "2:20: an item of \"runtime-classes\" in [exemptions] must be some text, not \"\"",
            ),
            (
                "[node]\nkubelet-root = 'var'",
                "2:16: \"kubelet-root\" in [node] must be an absolute path, not \"var\"",
            ),
            (
                "[node]\nnot-host-paths = ['opt/x']",
                "2:19: an item of \"not-host-paths\" in [node] must be an absolute path, not \"opt/x\"",
            ),
            (
                "[node]\ndefault-capabilities = ['NET_RAWW']",
                "2:25: an item of \"default-capabilities\" in [node] must be a capability of the kernel (did you mean \"NET_RAW\"?), not \"NET_RAWW\"",
            ),
            ("[runtime]\npath = 'runc'", "2:8: \"path\" in [runtime] must be an absolute path, not \"runc\""),
            // Exceptions.
            (
                "[[exceptions]]\ncontrols = ['sysctls']\nreason = 'x'\nexpires = 2027-01-01",
                "1:1: [[exceptions]] lacks \"namespace\"",
            ),
            (
                "[[exceptions]]\nnamespace = 'a'\nreason = 'x'\nexpires = 2027-01-01",
                "1:1: [[exceptions]] lacks \"controls\"",
            ),
            (
                "[[exceptions]]\nnamespace = 'a'\ncontrols = ['sysctls']\nexpires = 2027-01-01",
                "1:1: [[exceptions]] lacks \"reason\"",
            ),
            (EXCEPTION, "1:1: [[exceptions]] lacks \"expires\""),
            (
                "[[exceptions]]\nnamespace = 'a'\ncontrols = ['sysctl']\nreason = 'x'\nexpires = 2027-01-01",
                "3:13: an item of \"controls\" in [[exceptions]] must be the id of a control that pss-guard explain lists (did you mean \"sysctls\"?), not \"sysctl\"",
            ),
            (
                "[[exceptions]]\nnamespace = 'a'\ncontrols = []\nreason = 'x'\nexpires = 2027-01-01",
                "3:12: \"controls\" in [[exceptions]] is empty; name at least one control",
            ),
            (
                "[[exceptions]]\nnamespace = 'a'\ncontrols = ['sysctls']\nreason = ' '\nexpires = 2027-01-01",
                "4:10: \"reason\" in [[exceptions]] must be some text, not \" \"",
            ),
            (
                "[[exceptions]]\nnamespace = 'A'\ncontrols = ['sysctls']\nreason = 'x'\nexpires = 2027-01-01",
                "2:13: \"namespace\" in [[exceptions]] must be one name of lower-case letters, digits and dashes, not \"A\"",
            ),
            (
                "[[exceptions]]\nnamespace = 'a'\ncontrols = ['sysctls']\nreason = 'x'\nexpires = '2027-02-30'",
                "5:11: \"expires\" in [[exceptions]] must be a date like 2027-06-30, not \"2027-02-30\"",
            ),
            (
                "[[exceptions]]\nnamespace = 'a'\ncontrols = ['sysctls']\nreason = 'x'\nexpires = 2027-01-01T00:00:00Z",
                "5:11: \"expires\" in [[exceptions]] must be a date like 2027-06-30, not \"2027-01-01T00:00:00Z\"",
            ),
            (
                "[[exceptions]]\nnamespace = 'a'\npods = 'web'\ncontrols = ['sysctls']\nreason = 'x'\nexpires = 2027-01-01",
                "3:1: unknown key \"pods\" in [[exceptions]]; did you mean \"pod\"?",
            ),
            (
                "[[exceptions]]\nnamespace = 'a'\npod = 'web-*'\ncontrols = ['sysctls']\nreason = 'x'\nexpires = 2027-01-01",
                "3:7: \"pod\" in [[exceptions]] must be a whole name of lower-case letters, digits, dashes and dots, not \"web-*\"",
            ),
            (
                "[[exceptions]]\nnamespace = 'a'\nowner = ''\ncontrols = ['sysctls']\nreason = 'x'\nexpires = 2027-01-01",
                "3:9: \"owner\" in [[exceptions]] must be a whole name of lower-case letters, digits, dashes and dots, not \"\"",
            ),
            (
                "[[exceptions]]\nnamespace = 'a'\nimage = 'nginx'\ncontrols = ['sysctls']\nreason = 'x'\nexpires = 2027-01-01",
                "3:9: \"image\" in [[exceptions]] must be an image with its registry, optionally with a tag or a digest, like docker.io/library/nginx, not \"nginx\"",
            ),
            // The first of several, in the order of the file.
            (
                "[runtime]\npath = 1\n[defaults]\nenforce = 2",
                "2:8: \"path\" in [runtime] must be a string, not an integer",
            ),
            // Columns count characters.
            (
                "# ä\n\"ä\" = 1",
                "2:1: unknown key \"ä\"; known keys: mode, on-fault, on-suspect, on-unknown-namespace, on-missing-facts, log-allowed, cluster, defaults, unmanaged, exemptions, pod-annotations, agent, namespaces, controls, exceptions, node, runtime",
            ),
            (
                "[exemptions]\nruntime-classes = ['ä', 1]",
                "2:25: an item of \"runtime-classes\" in [exemptions] must be a string, not an integer",
            ),
            // Syntax.
            ("mode = audit", "1:8: string values must be quoted, expected literal string"),
            ("mode = 'audit'\n[defaults", "2:10: unclosed table, expected `]`"),
            ("mode 'audit'", "1:6: key with no value, expected `=`"),
        ];
        for (text, expected) in rows {
            let shown = parse(text, FILE).map_err(|error| error.to_string());
            assert_eq!(shown, Err(format!("{FILE}:{expected}")), "{text}");
        }
    }

    #[test]
    fn all_mistakes_are_found_at_once_and_none_that_only_follows() {
        let text = "mode = 'loud'\nmodee = 1\nlog-allowed = 1\n[[exceptions]]\nreason = 1\ncontrols = ['sysctl', 1]\nfoo = 1\n\
                    [[exceptions]]\nexpires = 1\n[exemptions]\nnamespaces = ['A', 'b', 2]\n[namespaces.X]\nwarn = 'x'\n\
                    [namespaces.y]\nwarn = 'x'\naudit-version = 1\n[node]\nkubelet-root = 'x'\n";
        let expected = [
            "1:8: \"mode\" must be one of audit, enforce, not \"loud\"",
            "2:1: unknown key \"modee\"; did you mean \"mode\"?",
            "3:15: \"log-allowed\" must be true or false, not an integer",
            "4:1: [[exceptions]] lacks \"namespace\"",
            "4:1: [[exceptions]] lacks \"expires\"",
            "5:10: \"reason\" in [[exceptions]] must be a string, not an integer",
            "6:13: an item of \"controls\" in [[exceptions]] must be the id of a control that pss-guard explain lists (did you mean \"sysctls\"?), not \"sysctl\"",
            "6:23: an item of \"controls\" in [[exceptions]] must be a string, not an integer",
            "7:1: unknown key \"foo\" in [[exceptions]]; known keys: namespace, pod, owner, container, image, controls, reason, expires",
            "8:1: [[exceptions]] lacks \"namespace\"",
            "8:1: [[exceptions]] lacks \"controls\"",
            "8:1: [[exceptions]] lacks \"reason\"",
            "9:11: \"expires\" in [[exceptions]] must be a date like 2027-06-30, not an integer",
            "11:15: an item of \"namespaces\" in [exemptions] must be one name of lower-case letters, digits and dashes, not \"A\"",
            "11:25: an item of \"namespaces\" in [exemptions] must be a string, not an integer",
            "12:13: \"X\" in [namespaces] must be one name of lower-case letters, digits and dashes, not \"X\"",
            "15:8: \"warn\" in [namespaces.\"y\"] must be one of privileged, baseline, restricted, not \"x\"",
            "16:17: \"audit-version\" in [namespaces.\"y\"] must be a string, not an integer",
            "18:16: \"kubelet-root\" in [node] must be an absolute path, not \"x\"",
        ];
        let found: Vec<String> = mistakes(text, "f").iter().map(ToString::to_string).collect();
        assert_eq!(found, expected.map(|mistake| format!("f:{mistake}")));
        let many = (0..1_000).map(|number| format!("a{number} = 1")).collect::<Vec<_>>().join("\n");
        assert_eq!(mistakes(&many, "f").len(), MOST);
        assert!(mistakes("", "f").is_empty());
    }

    #[test]
    fn what_stands_in_is_not_taken_for_what_is_wrong_at_the_same_place() {
        let text = "[[exceptions]]\nreason = \"x\"\nruntime.owner = \"web\"\ncontrols = []\ncontainer = \"c\"\n\
                    namespace = \"shop\"\n[node]";
        let all: Vec<String> = mistakes(text, FILE).iter().map(ToString::to_string).collect();
        assert!(all.len() == 3 && all.iter().any(|what| what.contains("lacks \"expires\"")), "{all:?}");
    }

    #[test]
    fn what_stands_in_for_a_missing_key_is_right() {
        let exception = format!("[[exceptions]]\n{STAND_IN}");
        assert_eq!(parse(&exception, FILE).map(|policy| policy.exceptions.len()), Ok(1));
    }

    #[test]
    fn a_huge_key_or_value_does_not_make_a_huge_message() {
        let huge = "x".repeat(500_000);
        for text in [format!("{huge} = 1"), format!("mode = '{huge}'"), format!("[namespaces.'{huge}']")] {
            let shown = parse(&text, FILE).unwrap_err().to_string();
            assert!(shown.len() < 500 && shown.ends_with("xxx..."), "{shown}");
        }
    }

    #[test]
    fn the_mode_survives_any_error_but_one_of_syntax() {
        for (text, expected) in [
            ("mode = 'audit'\nnonsense = 1", Some(Mode::Audit)),
            ("mode = 'enforce'\n[defaults]\nenforce = 1", Some(Mode::Enforce)),
            ("mode = 'enforced'", None),
            ("mode = 1", None),
            ("[runtime]\nmode = 'audit'", None),
            ("mode = 'audit'\n[", None),
            ("", None),
        ] {
            assert_eq!(mode_of(text), expected, "{text}");
        }
    }
}
