//! The scans of several nodes in one: written as JSON by `scan --format json`, read back, and put together.
//!
//! Every line of that JSON has the key `scan`: of which scan it is, and how many lines that scan has. So a file that was cut
//! between two lines is noticed, and nothing is ever left out silently: what is not whole is an error.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::html::LEVELS;
use super::{Drift, Scan, Scanned, Unseen};
use crate::decision::Verdict;
use crate::files::{self, FileError};
use crate::level::date::rfc3339;
use crate::message::{escape, line, shortened};
use crate::node::stdin;
use crate::output::json;
use crate::pss::controls::CONTROLS;
use crate::pss::facts::Engine;
use crate::pss::{Certainty, Level, Origin, Version};
use crate::time::parse_moment;
use crate::words::plural;

/// Of which scan a line is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Part {
    /// The node's name.
    pub node: String,
    /// When it was scanned, in UTC.
    pub at: String,
    /// The level that was asked about, with its version; `null` where each container was checked against its own.
    pub level: Option<String>,
    /// `--namespace`.
    pub namespaces: Vec<String>,
    /// `--control`.
    pub controls: Vec<String>,
    /// The controls of our own that refuse containers there.
    pub own_controls: String,
    /// How many lines the scan has.
    pub lines: usize,
    /// How many places could not be inspected.
    pub unseen: usize,
}

impl Part {
    /// What every line of a scan has in common. `namespaces` and `controls` are what it was narrowed to.
    #[must_use]
    pub fn of(scan: &Scan, namespaces: &[String], controls: &[&'static str]) -> Self {
        Self {
            node: scan.node.clone(),
            at: rfc3339(scan.at),
            level: scan.level.map(|(level, version)| format!("{level}:{version}")),
            namespaces: namespaces.to_vec(),
            controls: controls.iter().map(|id| (*id).to_owned()).collect(),
            own_controls: scan.ours.clone(),
            lines: scan.containers.len(),
            unseen: scan.unseen.len(),
        }
    }

    /// Whether two scans answer the same question.
    fn asks_as(&self, other: &Self) -> bool {
        (&self.level, &self.namespaces, &self.controls) == (&other.level, &other.namespaces, &other.controls)
    }
}

/// A container and its scan, as one line of JSON.
#[derive(Serialize)]
struct Written<'a> {
    #[serde(flatten)]
    container: &'a Scanned,
    scan: &'a Part,
}

/// Writes a scan as JSON, one container a line: one of a node, or of several.
pub fn write(scan: &Scan, own: &Part, out: &mut dyn Write) -> io::Result<()> {
    for container in &scan.containers {
        let of = |part: &&Part| Some(&part.node) == container.node.as_ref();
        let part = scan.parts.iter().find(of).unwrap_or(own);
        serde_json::to_writer(&mut *out, &Written { container, scan: part })?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

/// Why scans are not merged.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A line is none of `scan --format json`, or not whole.
    #[error("{file}:{line}: no line of `pss-guard scan --format json`, or not all of it: {why}")]
    Line {
        /// The file.
        file: String,
        /// From 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// A file without a line.
    #[error(
        "{0}: is empty: a scan that found no container, or one that failed; leave the file out if nothing runs on that node"
    )]
    Empty(String),
    /// Lines are missing, or more than there should be.
    #[error("{file}: has {found} of the {wanted} lines of the scan of node {node:?}: scan that node again")]
    Truncated {
        /// The file.
        file: String,
        /// The node.
        node: String,
        /// The lines that are there.
        found: usize,
        /// The lines that the scan had.
        wanted: usize,
    },
    /// Two scans of one node.
    #[error("node {node:?} is in {first} and in {second}: give one scan of each node")]
    Twice {
        /// The node.
        node: String,
        /// The file that came first.
        first: String,
        /// The other one.
        second: String,
    },
    /// Scans that cannot be counted together.
    #[error(
        "{first} and {second} were scanned with other options (--level, --namespace or --control): scan the nodes with the same"
    )]
    Question {
        /// A file.
        first: String,
        /// One that answers another question.
        second: String,
    },
}

/// Bytes of a file: a node has some hundred containers, and a container a few KiB.
const LARGEST: u64 = 256 << 20;

/// Bytes of a node's name.
const NAME: usize = 253;

/// Reads scans, and puts them together.
pub fn read(paths: &[PathBuf]) -> Result<Scan, MergeError> {
    let mut parts: Vec<(Part, String)> = Vec::new();
    let mut containers = Vec::new();
    for path in paths {
        let (file, own) = read_file(path)?;
        for (part, lines) in own {
            if let Some((_, first)) = parts.iter().find(|(other, _)| other.node == part.node) {
                return Err(MergeError::Twice { node: part.node, first: first.clone(), second: file });
            }
            if let Some((_, first)) = parts.iter().find(|(other, _)| !other.asks_as(&part)) {
                return Err(MergeError::Question { first: first.clone(), second: file });
            }
            containers.extend(lines);
            parts.push((part, file.clone()));
        }
    }
    let mut parts: Vec<Part> = parts.into_iter().map(|(part, _)| part).collect();
    parts.sort_by(|one, other| one.node.cmp(&other.node));
    containers.sort_by(|one, other| super::order(one).cmp(&super::order(other)));
    let unseen = |part: &Part| Unseen {
        path: format!("node {}", part.node),
        why: format!("its scan could not inspect {}", plural(part.unseen, "place")),
    };
    let level = parts.first().and_then(|part| part.level.as_deref()).and_then(level);
    let ours = parts.iter().map(|part| part.own_controls.clone()).find(|own| !own.is_empty());
    Ok(Scan {
        node: plural(parts.len(), "node"),
        at: parts.iter().filter_map(|part| parse_moment(&part.at)).max().unwrap_or(std::time::UNIX_EPOCH),
        took: Duration::ZERO,
        level,
        policy_fault: None,
        ours: ours.unwrap_or_default(),
        containers,
        unseen: parts.iter().filter(|part| part.unseen > 0).map(unseen).collect(),
        vanished: 0,
        elsewhere: std::collections::BTreeSet::new(),
        parts,
    })
}

/// One scan, and its lines.
type Own = (Part, Vec<Scanned>);

/// The file's name for messages, and its scans: one, or those of an earlier merge.
fn read_file(path: &Path) -> Result<(String, Vec<Own>), MergeError> {
    let is_given = stdin::is_it(path);
    let file = if is_given { stdin::NAME.to_owned() } else { escape(&path.to_string_lossy()) };
    let bytes = if is_given { stdin::read(LARGEST) } else { files::read(path, LARGEST) }?;
    let mut scans: BTreeMap<String, Own> = BTreeMap::new();
    for (text, nth) in bytes.split(|byte| *byte == b'\n').zip(1..) {
        if text.trim_ascii().is_empty() {
            continue;
        }
        let wrong = |why: String| MergeError::Line { file: file.clone(), line: nth, why };
        let read: Line<'_> = serde_json::from_slice(text).map_err(|error| wrong(line(&error)))?;
        let mut part = read.scan.clone();
        part.node = shortened(&escape(&part.node), NAME);
        // Text for people is made of these, by whatever writes it.
        let is_sound = parse_moment(&part.at).is_some()
            && part.level.as_deref().is_none_or(|text| level(text).is_some())
            && part.own_controls.split(", ").filter(|id| !id.is_empty()).all(|id| control(id).is_ok());
        if !is_sound {
            return Err(wrong("\"scan\" has a time, a level or a control that is none".to_owned()));
        }
        let scanned = read.scanned(&part.node).map_err(wrong)?;
        let (own, lines) = scans.entry(part.node.clone()).or_insert_with(|| (part.clone(), Vec::new()));
        if *own != part {
            return Err(wrong(format!("another scan of node {:?} than the lines above", part.node)));
        }
        lines.push(scanned);
    }
    if scans.is_empty() {
        return Err(MergeError::Empty(file));
    }
    for (part, lines) in scans.values() {
        if lines.len() != part.lines {
            let (node, found, wanted) = (part.node.clone(), lines.len(), part.lines);
            return Err(MergeError::Truncated { file, node, found, wanted });
        }
    }
    Ok((file, scans.into_values().collect()))
}

/// A line of JSON, as far as it is read back. Other keys are a newer version's.
#[derive(Deserialize)]
struct Line<'a> {
    container: Container,
    #[serde(borrow)]
    level: Cow<'a, str>,
    version: String,
    #[serde(borrow)]
    verdict: Cow<'a, str>,
    because: String,
    findings: Vec<Finding>,
    path: String,
    sandbox: bool,
    pid: Option<i32>,
    drift: Vec<Drifted>,
    refused_by: Vec<String>,
    #[serde(default)]
    at_levels: BTreeMap<String, String>,
    #[serde(default)]
    in_part: bool,
    scan: Part,
}

#[derive(Deserialize)]
struct Container {
    engine: Option<String>,
    namespace: Option<String>,
    pod: Option<String>,
    name: Option<String>,
    id: Option<String>,
    image: Option<String>,
}

#[derive(Deserialize)]
struct Finding {
    control: String,
    origin: String,
    certainty: String,
    reason: String,
    detail: String,
    fix: String,
    exception: Option<String>,
    #[serde(default)]
    reported: bool,
}

#[derive(Deserialize)]
struct Drifted {
    control: String,
    asked: String,
    runs: String,
}

impl Line<'_> {
    fn scanned(self, node: &str) -> Result<Scanned, String> {
        let Self { container, .. } = self;
        let engine = container.engine.as_deref().map(|name| {
            let engine = Engine::ALL.into_iter().find(|engine| engine.name() == name);
            engine.map(Engine::name).ok_or_else(|| unknown("engine", name))
        });
        // Two nodes can have a pod of one name.
        let pod = container
            .namespace
            .as_ref()
            .map(|namespace| format!("{node}/{namespace}/{}", container.pod.as_deref().unwrap_or_default()));
        let level = match &*self.level {
            "" => "",
            name => name.parse::<Level>().map(Level::name).map_err(|_| unknown("level", name))?,
        };
        let verdict = verdict(&self.verdict)?;
        let own = |text: Option<String>| text.map(Cow::Owned);
        Ok(Scanned {
            result: json::Result {
                workload: None,
                container: Some(json::Container {
                    engine: engine.transpose()?,
                    namespace: own(container.namespace),
                    pod: own(container.pod),
                    name: own(container.name),
                    id: own(container.id),
                    image: own(container.image),
                }),
                level,
                version: self.version,
                verdict: verdict.name(),
                because: self.because,
                findings: self.findings.into_iter().map(Finding::known).collect::<Result<_, _>>()?,
                fixes: Vec::new(),
                note: None,
                path: Cow::Owned(self.path),
                document: None,
                line: None,
            },
            sandbox: self.sandbox,
            pid: self.pid,
            drift: self.drift.into_iter().map(Drifted::known).collect::<Result<_, _>>()?,
            verdict,
            at_levels: LEVELS
                .iter()
                .filter_map(|(level, _)| self.at_levels.get(level.name()))
                .map(|word| self::verdict(word))
                .collect::<Result<_, _>>()?,
            against: self.refused_by.iter().map(|id| control(id)).collect::<Result<_, _>>()?,
            of_a_file: false,
            in_part: self.in_part,
            pod,
            node: Some(node.to_owned()),
            probe: false,
        })
    }
}

impl Finding {
    fn known(self) -> Result<json::Finding<'static>, String> {
        let origins = [Origin::Upstream, Origin::PssGuard].map(Origin::name);
        let certainties = [Certainty::Unseen, Certainty::Suspect, Certainty::Violates].map(Certainty::name);
        Ok(json::Finding {
            control: control(&self.control)?,
            origin: one_of("origin", &origins, &self.origin)?,
            certainty: one_of("certainty", &certainties, &self.certainty)?,
            reason: self.reason.into(),
            detail: self.detail.into(),
            fix: self.fix.into(),
            exception: self.exception.map(Cow::Owned),
            reported: self.reported,
            line: None,
        })
    }
}

impl Drifted {
    fn known(self) -> Result<Drift, String> {
        Ok(Drift { control: control(&self.control)?, asked: self.asked, runs: self.runs })
    }
}

fn verdict(word: &str) -> Result<Verdict, String> {
    let all = [Verdict::Allow, Verdict::Deny, Verdict::Exempt, Verdict::CannotJudge];
    all.into_iter().find(|verdict| verdict.name() == word).ok_or_else(|| unknown("verdict", word))
}

fn control(id: &str) -> Result<&'static str, String> {
    let found = CONTROLS.iter().find(|control| control.id == id);
    found.map(|control| control.id).ok_or_else(|| unknown("control", id))
}

fn one_of(what: &str, words: &[&'static str], word: &str) -> Result<&'static str, String> {
    words.iter().find(|own| **own == word).copied().ok_or_else(|| unknown(what, word))
}

fn unknown(what: &str, word: &str) -> String {
    format!("unknown {what} {:?} (was it written by a newer pss-guard?)", shortened(&escape(word), 64))
}

/// `restricted:latest`.
fn level(text: &str) -> Option<(Level, Version)> {
    let (level, version) = text.split_once(':')?;
    Some((level.parse().ok()?, version.parse().ok()?))
}
