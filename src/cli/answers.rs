//! The answers of `policy check` and `policy show` for machines: one JSON object each.

use std::io::{self, Write};

use serde::Serialize;

use super::line;
use crate::level::policy::{Policy, PolicyError};
use crate::level::{RequiredLevel, Resolution};
use crate::pss::Version;

/// What is wrong with a policy.
#[derive(Serialize)]
pub(super) struct Mistake {
    /// All of it in one line.
    #[serde(rename = "message")]
    pub(super) line: String,
    /// From 1; not there for what has no place in the text.
    #[serde(rename = "line", skip_serializing_if = "Option::is_none")]
    row: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
}

impl Mistake {
    /// A mistake in the text.
    pub(super) fn at(error: &PolicyError) -> Self {
        Self { line: line(error), row: Some(error.line), column: Some(error.column) }
    }

    /// A file that cannot be used, or a setting that this node cannot keep.
    pub(super) fn of(line: String) -> Self {
        Self { line, row: None, column: None }
    }
}

fn write(object: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, object)?;
    out.write_all(b"\n")
}

/// A policy that cannot be used.
pub(super) fn invalid(mistakes: &[Mistake], out: &mut dyn Write) -> io::Result<()> {
    write(&serde_json::json!({ "valid": false, "mistakes": mistakes }), out)
}

/// A valid policy. Of its keys those are there that are not at their default, in the words of the file, and the mode.
pub(super) fn valid(policy: &Policy, out: &mut dyn Write) -> io::Result<()> {
    let object = serde_json::json!({
        "valid": true,
        "file": policy.file,
        "latest": latest(policy),
        "policy": policy,
        "mistakes": [],
    });
    write(&object, out)
}

/// The version that `latest` stands for.
fn latest(policy: &Policy) -> String {
    Version::Minor(policy.latest_minor()).to_string()
}

/// The levels of a namespace, or of containers that belong to no pod.
#[derive(Default, Serialize)]
struct Subject {
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    /// Why nothing is evaluated.
    #[serde(skip_serializing_if = "Option::is_none")]
    exempt: Option<String>,
    /// Why that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
    /// Why no pod starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    denied: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    enforce: Vec<Demand>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    audit: Vec<Demand>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warn: Vec<Demand>,
}

/// A level, and what set it. Where there are several, all are evaluated.
#[derive(Serialize)]
struct Demand {
    level: &'static str,
    version: String,
    because: String,
}

impl Subject {
    fn of(namespace: Option<&str>, resolution: &Resolution<'_>) -> Self {
        let demands = |all: &[RequiredLevel<'_>]| {
            let one = |own: &RequiredLevel<'_>| Demand {
                level: own.level.name(),
                version: own.version.to_string(),
                because: own.because.to_string(),
            };
            all.iter().map(one).collect()
        };
        let own = match resolution {
            Resolution::Exempt(exempt) => Self { exempt: Some(exempt.to_string()), ..Self::default() },
            Resolution::UnknownNamespace(_) => {
                Self { denied: Some("on-unknown-namespace"), ..Self::default() }
            }
            Resolution::Levels(levels) => Self {
                enforce: demands(&levels.enforce),
                audit: demands(&levels.audit),
                warn: demands(&levels.warn),
                ..Self::default()
            },
        };
        Self { namespace: namespace.map(str::to_owned), ..own }
    }
}

/// The levels of one namespace; of containers that belong to no pod where there is none.
pub(super) fn levels(
    namespace: Option<&str>,
    resolution: &Resolution<'_>,
    policy: &Policy,
    out: &mut dyn Write,
) -> io::Result<()> {
    #[derive(Serialize)]
    struct One {
        latest: String,
        #[serde(flatten)]
        subject: Subject,
    }
    write(&One { latest: latest(policy), subject: Subject::of(namespace, resolution) }, out)
}

/// The levels of everybody.
#[derive(Serialize)]
pub(super) struct All {
    latest: String,
    namespaces: Vec<Subject>,
    /// Of namespaces that are not listed.
    other: Option<Subject>,
    unmanaged: Option<Subject>,
}

impl All {
    pub(super) fn of(policy: &Policy) -> Self {
        Self { latest: latest(policy), namespaces: Vec::new(), other: None, unmanaged: None }
    }

    /// Adds a namespace; none is any other.
    pub(super) fn add(&mut self, namespace: Option<&str>, resolution: &Resolution<'_>) {
        let subject = Subject::of(namespace, resolution);
        match namespace {
            Some(_) => self.namespaces.push(subject),
            None => self.other = Some(subject),
        }
    }

    /// Adds a namespace whose levels cannot be read.
    pub(super) fn add_fault(&mut self, namespace: &str, says: String) {
        let namespace = Some(namespace.to_owned());
        self.namespaces.push(Subject { namespace, fault: Some(says), ..Subject::default() });
    }

    pub(super) fn unmanaged(&mut self, resolution: &Resolution<'_>) {
        self.unmanaged = Some(Subject::of(None, resolution));
    }

    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        write(self, out)
    }
}
