//! What does the text of a policy say? TOML → [`Policy`], or the first thing that is wrong with it and where.
//!
//! The document is walked by hand rather than by serde: each key that is asked for becomes a known key, so that an
//! unknown one can be answered with its nearest neighbour, and every error has the place of its own key or value.

use std::cell::RefCell;
use std::fmt::Display;
use std::ops::Range;
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Exception, LevelSet, LevelVersion, Mode, NamespaceLevels, Policy};
use crate::level::labels::is_dns_subdomain;
use crate::level::{date::Date, image, is_dns_label};
use crate::words::did_you_mean;
use pss::{Level, Version, capabilities, controls};

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

/// Reads the text of a policy; `file` is its name in messages. The first mistake is the error.
pub fn parse(text: &str, file: &str) -> Result<Policy, PolicyError> {
    let (policy, faults) = walk(text, file)?;
    match faults.into_iter().next() {
        Some((start, what)) => Err(at(text, file, start, what)),
        None => Ok(policy),
    }
}

/// All that is wrong with the text of a policy, in its order. A mistake of syntax hides what comes after it.
#[must_use]
pub fn mistakes(text: &str, file: &str) -> Vec<PolicyError> {
    match walk(text, file) {
        Ok((_, faults)) => faults.into_iter().map(|(start, what)| at(text, file, start, what)).collect(),
        Err(error) => vec![error],
    }
}

fn walk(text: &str, file: &str) -> Result<(Policy, Vec<(usize, String)>), PolicyError> {
    let faults = Faults::default();
    let document = DeTable::parse(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        at(text, file, start, one_line(error.message()))
    })?;
    let policy = policy(Section::top(document.get_ref(), &faults), file);
    Ok((policy, faults.in_order()))
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

/// Where the value of the key `mode` lies in a text whose syntax is right, quotes included.
#[must_use]
pub fn place_of_mode(text: &str) -> Option<Range<usize>> {
    DeTable::parse(text).ok()?.get_ref().get("mode").map(Spanned::span)
}

fn policy(mut top: Section<'_>, file: &str) -> Policy {
    let mut policy = Policy { file: Some(file.to_owned()), ..Policy::default() };
    top.parsed("mode", &mut policy.mode);
    top.parsed("on-fault", &mut policy.on_fault);
    top.parsed("on-suspect", &mut policy.on_suspect);
    top.parsed("on-unknown-namespace", &mut policy.on_unknown_namespace);
    top.boolean("log-allowed", &mut policy.log_allowed);
    top.section("cluster", |section| {
        let mut version = Version::Latest;
        section.parsed("version", &mut version);
        if let Version::Minor(minor) = version {
            policy.cluster = Some(minor);
        }
    });
    top.section("defaults", |section| levels(section, &mut policy.defaults));
    top.section("unmanaged", |section| levels(section, &mut policy.unmanaged));
    top.section("exemptions", |section| {
        section.strings("namespaces", dns_label, &mut policy.exemptions.namespaces);
        section.strings("runtime-classes", some_text, &mut policy.exemptions.runtime_classes);
    });
    top.section("pod-annotations", |section| {
        section.parsed("trust", &mut policy.pod_annotations.trust);
        section.parsed("floor", &mut policy.pod_annotations.floor);
    });
    top.sections("namespaces", |name, section| {
        let mut own = NamespaceLevels::default();
        section.maybe("enforce", &mut own.enforce);
        section.maybe("enforce-version", &mut own.enforce_version);
        section.maybe("audit", &mut own.audit);
        section.maybe("audit-version", &mut own.audit_version);
        section.maybe("warn", &mut own.warn);
        section.maybe("warn-version", &mut own.warn_version);
        policy.namespaces.insert(name.to_owned(), own);
    });
    top.section("controls", |section| {
        section.parsed("readOnlyRootFilesystem", &mut policy.read_only_root_filesystem);
    });
    top.list("exceptions", |section| policy.exceptions.extend(exception(section)));
    top.section("node", |section| {
        let node = &mut policy.node;
        section.string("kubelet-root", absolute, &mut node.kubelet_root);
        section.boolean("seccomp-default", &mut node.seccomp_default);
        section.strings("default-capabilities", capability, &mut node.default_capabilities);
        section.strings("default-sysctls", some_text, &mut node.default_sysctls);
        section.strings("not-host-paths", absolute, &mut node.not_host_paths);
        section.parsed("apparmor", &mut node.apparmor);
    });
    top.section("runtime", |section| section.string("path", absolute, &mut policy.runtime));
    top.finish();
    policy
}

fn levels(section: &mut Section<'_>, set: &mut LevelSet) {
    let mut pair = |level, version, into: &mut LevelVersion| {
        section.parsed::<Level>(level, &mut into.level);
        section.parsed::<Version>(version, &mut into.version);
    };
    pair("enforce", "enforce-version", &mut set.enforce);
    pair("audit", "audit-version", &mut set.audit);
    pair("warn", "warn-version", &mut set.warn);
}

fn exception(section: &mut Section<'_>) -> Option<Exception> {
    let (mut namespace, mut reason) = (String::new(), String::new());
    let mut ids = Vec::new();
    section.required("namespace");
    section.string("namespace", dns_label, &mut namespace);
    let mut named = |key, shape| {
        let mut name = String::new();
        section.string(key, shape, &mut name);
        (!name.is_empty()).then_some(name)
    };
    let pod = named("pod", whole_name as Shape);
    let owner = named("owner", whole_name);
    let container = named("container", dns_label);
    let image = named("image", whole_image);
    section.required("controls");
    section.strings("controls", control, &mut ids);
    section.not_empty("controls", "name at least one control");
    section.required("reason");
    section.string("reason", some_text, &mut reason);
    section.required("expires");
    let expires = section.date("expires")?;
    Some(Exception { namespace, pod, owner, container, image, controls: ids, reason, expires })
}

/// What a string must look like: the string as it is kept, or what is expected.
type Shape = fn(&str) -> Result<String, String>;

fn some_text(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err("must not be empty".to_owned()) } else { Ok(text.to_owned()) }
}

fn absolute(text: &str) -> Result<String, String> {
    if text.starts_with('/') {
        Ok(text.to_owned())
    } else {
        Err(format!("must be an absolute path, not {text:?}"))
    }
}

fn dns_label(text: &str) -> Result<String, String> {
    if is_dns_label(text) {
        return Ok(text.to_owned());
    }
    Err(format!("must be one name of lower-case letters, digits and dashes, not {text:?}"))
}

fn whole_name(text: &str) -> Result<String, String> {
    if is_dns_subdomain(text) {
        return Ok(text.to_owned());
    }
    Err(format!("must be a whole name of lower-case letters, digits, dashes and dots, not {text:?}"))
}

fn whole_image(text: &str) -> Result<String, String> {
    if image::is_whole(text) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "must be an image with its registry, perhaps with a tag or a digest, like docker.io/library/nginx, not {text:?}"
    ))
}

fn control(text: &str) -> Result<String, String> {
    let ids = controls::CONTROLS.iter().map(|control| control.id);
    if ids.clone().any(|id| id == text) {
        return Ok(text.to_owned());
    }
    let hint = hint(text, ids);
    Err(format!("must be the id of a control (see pss-guard explain), not {text:?}{hint}"))
}

fn capability(text: &str) -> Result<String, String> {
    let bare = text.strip_prefix("CAP_").unwrap_or(text);
    if capabilities::NAMES.contains(&bare) {
        return Ok(bare.to_owned());
    }
    let hint = hint(bare, capabilities::NAMES);
    Err(format!("must be a capability of the kernel, not {text:?}{hint}"))
}

/// What to put behind a name that is none of these.
fn hint(text: &str, names: impl IntoIterator<Item = &'static str>) -> String {
    did_you_mean(text, names).map_or_else(String::new, |question| format!("; {question}"))
}

/// What is wrong, by place.
#[derive(Default)]
struct Faults(RefCell<Vec<(usize, String)>>);

impl Faults {
    fn add(&self, start: usize, what: String) {
        self.0.borrow_mut().push((start, what));
    }

    fn in_order(self) -> Vec<(usize, String)> {
        let mut faults = self.0.into_inner();
        // Those that share a place stay as they were found.
        faults.sort_by_key(|(start, _)| *start);
        faults
    }
}

/// A table of the document, and the keys it may have.
struct Section<'t> {
    /// As the admin writes it, with brackets; empty at the top.
    header: String,
    start: usize,
    table: &'t DeTable<'t>,
    known: Vec<&'static str>,
    faults: &'t Faults,
}

impl<'t> Section<'t> {
    fn top(table: &'t DeTable<'t>, faults: &'t Faults) -> Self {
        Self { header: String::new(), start: 0, table, known: Vec::new(), faults }
    }

    /// The value of a key, which is known from here on.
    fn value(&mut self, key: &'static str) -> Option<(usize, &'t DeValue<'t>)> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        let (_, value) = self.table.iter().find(|(own, _)| own.get_ref() == key)?;
        Some((value.span().start, value.get_ref()))
    }

    /// How messages call a key.
    fn name(&self, key: &str) -> String {
        let place = if self.header.is_empty() { String::new() } else { format!(" in {}", self.header) };
        format!("{key:?}{place}")
    }

    fn fault(&self, start: usize, key: &str, what: &str) {
        self.faults.add(start, format!("{} {what}", self.name(key)));
    }

    fn wrong_type(&self, start: usize, key: &str, wanted: &str, value: &DeValue<'_>) {
        self.fault(start, key, &format!("must be {wanted}, not {}", kind(value)));
    }

    fn text(&mut self, key: &'static str, wanted: &str) -> Option<(usize, &'t str)> {
        match self.value(key)? {
            (start, DeValue::String(text)) => Some((start, text)),
            (start, other) => {
                self.wrong_type(start, key, wanted, other);
                None
            }
        }
    }

    fn parsed<T: FromStr<Err: Display>>(&mut self, key: &'static str, into: &mut T) {
        let mut found = None;
        self.maybe(key, &mut found);
        if let Some(value) = found {
            *into = value;
        }
    }

    fn maybe<T: FromStr<Err: Display>>(&mut self, key: &'static str, into: &mut Option<T>) {
        let Some((start, text)) = self.text(key, "a string") else { return };
        match text.parse() {
            Ok(value) => *into = Some(value),
            Err(error) => self.fault(start, key, &format!("{error}, not {text:?}")),
        }
    }

    fn boolean(&mut self, key: &'static str, into: &mut bool) {
        match self.value(key) {
            Some((_, DeValue::Boolean(value))) => *into = *value,
            Some((start, other)) => self.wrong_type(start, key, "true or false", other),
            None => {}
        }
    }

    fn string(&mut self, key: &'static str, shape: Shape, into: &mut String) {
        let Some((start, text)) = self.text(key, "a string") else { return };
        match shape(text) {
            Ok(text) => *into = text,
            Err(expected) => self.fault(start, key, &expected),
        }
    }

    fn strings(&mut self, key: &'static str, shape: Shape, into: &mut Vec<String>) {
        let array = match self.value(key) {
            Some((_, DeValue::Array(array))) => array,
            Some((start, other)) => return self.wrong_type(start, key, "an array of strings", other),
            None => return,
        };
        into.clear();
        for item in array {
            let start = item.span().start;
            match item.get_ref() {
                DeValue::String(text) => match shape(text) {
                    Ok(text) => into.push(text),
                    Err(expected) => {
                        self.faults.add(start, format!("an item of {} {expected}", self.name(key)));
                    }
                },
                other => self.wrong_type(start, key, "an array of strings", other),
            }
        }
    }

    fn date(&mut self, key: &'static str) -> Option<Date> {
        let (start, value) = self.value(key)?;
        let date = match value {
            DeValue::String(text) => text.parse().ok(),
            DeValue::Datetime(moment) if moment.time.is_none() && moment.offset.is_none() => {
                moment.date.and_then(|date| Date::new(date.year, date.month, date.day).ok())
            }
            _ => None,
        };
        if date.is_none() {
            self.fault(start, key, "must be a date like 2027-06-30");
        }
        date
    }

    fn required(&mut self, key: &'static str) {
        if self.value(key).is_none() {
            self.faults.add(self.start, format!("{} lacks {key:?}", self.header));
        }
    }

    fn not_empty(&mut self, key: &'static str, what: &str) {
        if let Some((start, DeValue::Array(array))) = self.value(key)
            && array.is_empty()
        {
            self.fault(start, key, &format!("is empty; {what}"));
        }
    }

    fn section(&mut self, key: &'static str, read: impl FnOnce(&mut Section<'t>)) {
        match self.value(key) {
            Some((start, DeValue::Table(table))) => self.child(format!("[{key}]"), start, table, read),
            Some((start, other)) => self.wrong_type(start, key, "a table", other),
            None => {}
        }
    }

    fn sections(&mut self, key: &'static str, mut read: impl FnMut(&str, &mut Section<'t>)) {
        let tables = match self.value(key) {
            Some((_, DeValue::Table(tables))) => tables,
            Some((start, other)) => return self.wrong_type(start, key, "a table of tables", other),
            None => return,
        };
        for (name, value) in tables {
            let (start, name) = (name.span().start, name.get_ref().as_ref());
            let header = format!("[{key}.{name:?}]");
            match value.get_ref() {
                _ if !is_dns_label(name) => {
                    self.faults.add(start, format!("{header}: no namespace can have this name"));
                }
                DeValue::Table(table) => {
                    self.child(header, value.span().start, table, |section| read(name, section));
                }
                other => {
                    self.faults.add(start, format!("{header} must be a table, not {}", kind(other)));
                }
            }
        }
    }

    fn list(&mut self, key: &'static str, mut read: impl FnMut(&mut Section<'t>)) {
        let array = match self.value(key) {
            Some((_, DeValue::Array(array))) => array,
            Some((start, other)) => {
                return self.wrong_type(start, key, "a list of tables, each under [[exceptions]]", other);
            }
            None => return,
        };
        for item in array {
            let start = item.span().start;
            match item.get_ref() {
                DeValue::Table(table) => self.child(format!("[[{key}]]"), start, table, &mut read),
                other => self.wrong_type(start, key, "a list of tables", other),
            }
        }
    }

    fn child(
        &self,
        header: String,
        start: usize,
        table: &'t DeTable<'t>,
        read: impl FnOnce(&mut Section<'t>),
    ) {
        let mut section = Section { header, start, table, known: Vec::new(), faults: self.faults };
        read(&mut section);
        section.finish();
    }

    /// Whatever nobody asked for is a mistake: a misspelt key must not be a rule that silently does not hold.
    fn finish(&self) {
        for (key, _) in self.table {
            let (start, key) = (key.span().start, key.get_ref().as_ref());
            if self.known.contains(&key) {
                continue;
            }
            let way_out = did_you_mean(key, self.known.iter().copied())
                .unwrap_or_else(|| format!("known keys: {}", self.known.join(", ")));
            self.faults.add(start, format!("unknown key {}; {way_out}", self.name(key)));
        }
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
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
mod tests {
    use super::{mode_of, parse};
    use crate::level::policy::{
        AppArmor, Exception, LevelVersion, Mode, OnFault, OnSuspect, OnUnknownNamespace, Policy, Setting,
        Trust,
    };
    use pss::{Level, NEWEST, Version};

    const FILE: &str = "/etc/pss-guard/policy.toml";

    /// Every key there is, each with another value than its default.
    const EVERYTHING: &str = r#"
mode = "enforce"
on-fault = "allow"
on-suspect = "deny"
on-unknown-namespace = "deny"
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
[namespaces."ingress-nginx"]
enforce = "privileged"
warn-version = "v1.20"
[unmanaged]
enforce = "restricted"
audit = "restricted"
warn = "baseline"
[controls]
readOnlyRootFilesystem = "off"
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
        assert_eq!(policy.read_only_root_filesystem, Setting::Off);
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
        assert_eq!(policy.node.kubelet_root, "/data/kubelet");
        assert!(policy.node.seccomp_default);
        assert_eq!(policy.node.default_capabilities, ["NET_RAW", "SYS_CHROOT"]);
        assert_eq!(policy.node.default_sysctls, ["net.ipv4.ping_group_range"]);
        assert_eq!(policy.node.not_host_paths, ["/opt/local-path-provisioner"]);
        assert_eq!(policy.node.apparmor, AppArmor::Off);
        assert_eq!(policy.runtime, "/usr/bin/crun");
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
    fn what_was_compiled_is_what_was_read() {
        for text in [
            "",
            EVERYTHING,
            "mode = 'enforce'",
            "[defaults]\nwarn = 'baseline'",
            "[unmanaged]\naudit = 'baseline'",
        ] {
            let policy = parse(text, FILE).unwrap();
            let compiled = serde_json::to_string(&policy).unwrap();
            let mut again: Policy = serde_json::from_str(&compiled).unwrap();
            again.file = Some(FILE.to_owned());
            assert_eq!(again, policy, "{compiled}");
        }
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
                "2:1: unknown key \"hostPathVolumes\" in [controls]; known keys: readOnlyRootFilesystem",
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
                "1:1: [[exceptions]] lacks \"expires\"",
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
                "2:20: \"namespaces\" in [exemptions] must be an array of strings, not a float",
            ),
            ("namespaces = 1", "1:14: \"namespaces\" must be a table of tables, not an integer"),
            ("[namespaces]\nshop = 'baseline'", "2:1: [namespaces.\"shop\"] must be a table, not a string"),
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
            ("[namespaces.'../x']", "1:13: [namespaces.\"../x\"]: no namespace can have this name"),
            (
                "[exemptions]\nruntime-classes = ['']",
                "2:20: an item of \"runtime-classes\" in [exemptions] must not be empty",
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
                "2:25: an item of \"default-capabilities\" in [node] must be a capability of the kernel, not \"NET_RAWW\"; did you mean \"NET_RAW\"?",
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
                "3:13: an item of \"controls\" in [[exceptions]] must be the id of a control (see pss-guard explain), not \"sysctl\"; did you mean \"sysctls\"?",
            ),
            (
                "[[exceptions]]\nnamespace = 'a'\ncontrols = []\nreason = 'x'\nexpires = 2027-01-01",
                "3:12: \"controls\" in [[exceptions]] is empty; name at least one control",
            ),
            (
                "[[exceptions]]\nnamespace = 'a'\ncontrols = ['sysctls']\nreason = ' '\nexpires = 2027-01-01",
                "4:10: \"reason\" in [[exceptions]] must not be empty",
            ),
            (
                "[[exceptions]]\nnamespace = 'A'\ncontrols = ['sysctls']\nreason = 'x'\nexpires = 2027-01-01",
                "2:13: \"namespace\" in [[exceptions]] must be one name of lower-case letters, digits and dashes, not \"A\"",
            ),
            (
                "[[exceptions]]\nnamespace = 'a'\ncontrols = ['sysctls']\nreason = 'x'\nexpires = '2027-02-30'",
                "5:11: \"expires\" in [[exceptions]] must be a date like 2027-06-30",
            ),
            (
                "[[exceptions]]\nnamespace = 'a'\ncontrols = ['sysctls']\nreason = 'x'\nexpires = 2027-01-01T00:00:00Z",
                "5:11: \"expires\" in [[exceptions]] must be a date like 2027-06-30",
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
                "3:9: \"image\" in [[exceptions]] must be an image with its registry, perhaps with a tag or a digest, like docker.io/library/nginx, not \"nginx\"",
            ),
            // The first of several, in the order of the file.
            (
                "[runtime]\npath = 1\n[defaults]\nenforce = 2",
                "2:8: \"path\" in [runtime] must be a string, not an integer",
            ),
            // Columns count characters.
            (
                "# ä\n\"ä\" = 1",
                "2:1: unknown key \"ä\"; known keys: mode, on-fault, on-suspect, on-unknown-namespace, log-allowed, cluster, defaults, unmanaged, exemptions, pod-annotations, namespaces, controls, exceptions, node, runtime",
            ),
            (
                "[exemptions]\nruntime-classes = ['ä', 1]",
                "2:25: \"runtime-classes\" in [exemptions] must be an array of strings, not an integer",
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
