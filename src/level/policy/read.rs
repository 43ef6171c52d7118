//! What does the text of a policy say? TOML → [`Policy`], or the first thing that is wrong with it and where.
//!
//! The document is walked by hand rather than by serde: each key that is asked for becomes a known key, so that an
//! unknown one can be answered with its nearest neighbour, and every error has the place of its own key or value.

use std::cell::RefCell;
use std::fmt::Display;
use std::str::FromStr;

use toml::de::{DeTable, DeValue};

use super::{Exception, LevelSet, LevelVersion, Mode, NamespaceLevels, Policy};
use crate::level::{date::Date, is_dns_label};
use crate::pss::{Level, Version, capabilities, controls};

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

/// Reads the text of a policy; `file` is its name in messages.
pub fn parse(text: &str, file: &str) -> Result<Policy, PolicyError> {
    let faults = Faults::default();
    let document = match DeTable::parse(text) {
        Ok(document) => document,
        Err(error) => {
            let start = error.span().map_or(0, |span| span.start);
            return Err(at(text, file, start, one_line(error.message())));
        }
    };
    let policy = policy(Section::top(document.get_ref(), &faults), file);
    match faults.first() {
        Some((start, what)) => Err(at(text, file, start, what)),
        None => Ok(policy),
    }
}

/// The mode of a policy that is wrong elsewhere, if at least its syntax is right.
#[must_use]
pub fn mode_of(text: &str) -> Option<Mode> {
    let document = DeTable::parse(text).ok()?;
    let (_, mode) = document.get_ref().iter().find(|(key, _)| key.get_ref() == "mode")?;
    match mode.get_ref() {
        DeValue::String(mode) => mode.parse().ok(),
        _ => None,
    }
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
    let (mut namespace, mut container, mut reason) = (String::new(), String::new(), String::new());
    let mut ids = Vec::new();
    section.required("namespace");
    section.string("namespace", dns_label, &mut namespace);
    section.string("container", dns_label, &mut container);
    section.required("controls");
    section.strings("controls", control, &mut ids);
    section.not_empty("controls", "name at least one control");
    section.required("reason");
    section.string("reason", some_text, &mut reason);
    section.required("expires");
    let expires = section.date("expires")?;
    let container = (!container.is_empty()).then_some(container);
    Some(Exception { namespace, container, controls: ids, reason, expires })
}

/// What a string must look like: the string as it is kept, or what is expected.
type Shape = fn(&str) -> Result<String, String>;

fn some_text(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err("must not be empty".to_owned()) } else { Ok(text.to_owned()) }
}

fn absolute(text: &str) -> Result<String, String> {
    if text.starts_with('/') { Ok(text.to_owned()) } else { Err("must be an absolute path".to_owned()) }
}

fn dns_label(text: &str) -> Result<String, String> {
    let message = "must be a name of lower-case letters, digits and dashes, without wildcards";
    if is_dns_label(text) { Ok(text.to_owned()) } else { Err(message.to_owned()) }
}

fn control(text: &str) -> Result<String, String> {
    let mut ids = controls::CONTROLS.iter().map(|control| control.id);
    if ids.clone().any(|id| id == text) {
        return Ok(text.to_owned());
    }
    let hint = nearest(text, &mut ids).map_or_else(String::new, |id| format!("; did you mean {id:?}?"));
    Err(format!("must be the id of a control (see pss-guard explain){hint}"))
}

fn capability(text: &str) -> Result<String, String> {
    let bare = text.strip_prefix("CAP_").unwrap_or(text);
    if capabilities::NAMES.contains(&bare) {
        return Ok(bare.to_owned());
    }
    let mut names = capabilities::NAMES.into_iter();
    let hint = nearest(bare, &mut names).map_or_else(String::new, |name| format!("; did you mean {name:?}?"));
    Err(format!("must be a capability of the kernel{hint}"))
}

/// What is wrong, by place; the first one is reported.
#[derive(Default)]
struct Faults(RefCell<Vec<(usize, String)>>);

impl Faults {
    fn add(&self, start: usize, what: String) {
        self.0.borrow_mut().push((start, what));
    }

    fn first(self) -> Option<(usize, String)> {
        // The earliest of those that share a place was found first.
        self.0.into_inner().into_iter().min_by_key(|(start, _)| *start)
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
            Err(expected) => self.fault(start, key, &format!("{}, not {text:?}", first_clause(&expected))),
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
                        self.faults.add(start, format!("{text:?} in {}: {expected}", self.path(key)));
                    }
                },
                other => self.wrong_type(start, key, "an array of strings", other),
            }
        }
    }

    fn path(&self, key: &str) -> String {
        if self.header.is_empty() { key.to_owned() } else { format!("{key} of {}", self.header) }
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
                    self.faults.add(start, format!("{header}: {name:?} cannot be the name of a namespace"));
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
            let way_out = match nearest(key, &mut self.known.iter().copied()) {
                Some(known) => format!("did you mean {known:?}?"),
                None => format!("known keys: {}", self.known.join(", ")),
            };
            self.faults.add(start, format!("unknown key {}; {way_out}", self.name(key)));
        }
    }
}

fn first_clause(expected: &str) -> &str {
    expected.split_once(", ").map_or(expected, |(first, _)| first)
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

/// The candidate that was probably meant: at most a third of its letters are different.
pub(crate) fn nearest<'c>(text: &str, candidates: &mut dyn Iterator<Item = &'c str>) -> Option<&'c str> {
    // The distance takes the product of both lengths; nobody means a short key by a very long one.
    if text.len() > 64 {
        return None;
    }
    let measured = candidates.map(|candidate| (distance(text, candidate), candidate));
    let close = measured.filter(|(distance, candidate)| *distance <= candidate.len().div_ceil(3));
    close.min_by_key(|(distance, _)| *distance).map(|(_, candidate)| candidate)
}

/// How many letters to insert, remove or replace (Levenshtein), whatever their case.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().flat_map(char::to_lowercase).collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, own) in from.chars().flat_map(char::to_lowercase).enumerate() {
        let mut diagonal = line;
        let mut left = line + 1;
        for (cell, other) in row.iter_mut().skip(1).zip(&to) {
            let replaced = diagonal + usize::from(own != *other);
            diagonal = *cell;
            left = replaced.min(left + 1).min(*cell + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = line + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

fn at(text: &str, file: &str, start: usize, what: String) -> PolicyError {
    let before = text.get(..start).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
    PolicyError { file: file.to_owned(), line, column, what }
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}
