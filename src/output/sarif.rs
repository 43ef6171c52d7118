//! Writes SARIF 2.1.0 for code hosting sites and editors; only the parts that carry information here.

use std::fmt::Write as _;
use std::io::Write;

use serde_json::{Value, json};

use super::json::{Finding, Result as Object};
use crate::decision::Verdict;
use crate::message::mark;
use crate::pss::Certainty;
use crate::pss::controls::CONTROLS;

/// A run, being collected.
#[derive(Debug, Default)]
pub struct Log {
    results: Vec<Value>,
    faults: Vec<Value>,
    notes: Vec<Value>,
}

impl Log {
    /// Adds one container.
    pub fn add(&mut self, object: &Object<'_>) {
        let location = at(&object.path, object.line);
        if object.verdict == Verdict::CannotJudge.name() {
            self.fault_at(&object.because, &location);
        }
        if object.verdict == Verdict::Exempt.name() {
            let text = json!({"text": format!("exempt: {}", object.because)});
            self.notes.push(json!({"level": "note", "message": text, "locations": location}));
        }
        if let Some(note) = &object.note {
            self.notes.push(json!({"level": "note", "message": {"text": note}, "locations": location}));
        }
        for finding in &object.findings {
            let (kind, level) = grade(finding);
            let detail =
                if finding.detail.is_empty() { String::new() } else { format!(" ({})", finding.detail) };
            let mut properties = json!({
                "certainty": finding.certainty,
                "fix": finding.fix,
                "origin": finding.origin,
            });
            // Upstream's level does not ask for what is ours.
            if let Some(properties) = properties.as_object_mut().filter(|_| !finding.is_ours()) {
                let asked = format!("{}:{}", object.level, object.version);
                properties.insert("podSecurity".to_owned(), asked.into());
            }
            let mut result = json!({
                "ruleId": finding.control,
                "kind": kind,
                "level": level,
                "message": {"text": format!("{}{}{detail}{}", whose(object), finding.reason, mark(finding.origin))},
                "locations": finding.line.map_or_else(|| location.clone(), |line| at(&object.path, Some(line))),
                "properties": properties,
            });
            // SARIF has no null: a field that says nothing is not there.
            if let (Some(reason), Some(fields)) = (&finding.exception, result.as_object_mut()) {
                fields.insert(
                    "suppressions".to_owned(),
                    json!([{"kind": "external", "justification": reason}]),
                );
            }
            self.results.push(result);
        }
    }

    /// Adds what a container runs with and was not asked for.
    pub fn add_drift(&mut self, object: &Object<'_>, control: &str, says: &str) {
        self.results.push(json!({
            "ruleId": control,
            "kind": "fail",
            "level": "warning",
            "message": {"text": says},
            "locations": at(&object.path, None),
            "properties": {"drift": true},
        }));
    }

    /// Adds something that could not be evaluated.
    pub fn add_fault(&mut self, path: &str, why: &str) {
        self.fault_at(why, &at(path, None));
    }

    fn fault_at(&mut self, why: &str, locations: &Value) {
        self.faults.push(json!({"level": "error", "message": {"text": why}, "locations": locations}));
    }

    /// Writes the run.
    pub fn write(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let rules: Vec<Value> = CONTROLS
            .iter()
            .map(|control| {
                json!({
                    "id": control.id,
                    "shortDescription": {"text": control.doc.rule},
                    "fullDescription": {"text": format!("{} Allowed: {}", control.doc.fields, control.doc.allowed)},
                    "help": {"text": control.doc.fix},
                    "properties": {"level": control.level.name(), "origin": control.origin.name()},
                })
            })
            .collect();
        let notifications = [&self.faults[..], &self.notes].concat();
        let log = json!({
            "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
            "version": "2.1.0",
            "runs": [{
                "tool": {"driver": {"name": "pss-guard", "version": env!("CARGO_PKG_VERSION"), "rules": rules}},
                "invocations": [{
                    "executionSuccessful": self.faults.is_empty(),
                    "toolExecutionNotifications": notifications,
                }],
                "results": self.results,
            }],
        });
        serde_json::to_writer_pretty(&mut *out, &log)?;
        out.write_all(b"\n")
    }
}

/// A file, and where it is known the line, which code hosting sites annotate.
fn at(path: &str, line: Option<usize>) -> Value {
    let mut place = json!({"artifactLocation": {"uri": uri(path)}});
    if let (Some(line), Some(fields)) = (line, place.as_object_mut()) {
        fields.insert("region".to_owned(), json!({"startLine": line}));
    }
    json!([{"physicalLocation": place}])
}

/// A file of manifests has many workloads; a config.json is of one container.
fn whose(object: &Object<'_>) -> String {
    if object.workload.is_some() { format!("{}: ", object.name()) } else { String::new() }
}

/// SARIF's kind and level: only a failure has a level.
fn grade(finding: &Finding<'_>) -> (&'static str, &'static str) {
    let is = |certainty: Certainty| finding.certainty == certainty.name();
    if is(Certainty::Violates) && !finding.reported {
        ("fail", "error")
    } else if is(Certainty::Violates) || is(Certainty::Suspect) {
        ("fail", "warning")
    } else {
        ("open", "none")
    }
}

/// A path as a URI reference (RFC 3986).
fn uri(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let mut uri = String::with_capacity(path.len());
    for byte in path.bytes() {
        if plain(byte) {
            uri.push(char::from(byte));
        } else {
            let _ = write!(uri, "%{byte:02X}");
        }
    }
    uri
}
