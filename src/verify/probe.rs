//! Compares what happened to a probe with what must happen, for every engine.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Outcome;
use super::evidence::{Event, Journal};
use super::expect::{Expected, NAMESPACE};
use crate::message::line;
use pss_guard_core::record::Kind;

/// What came of one probe.
pub(super) struct Seen {
    /// What the engine said no with, if it did.
    pub(super) refusal: Option<String>,
    /// What the gate wrote down.
    pub(super) events: Vec<Event>,
}

impl Seen {
    /// What the gate said of it, or why the installation has failed.
    pub(super) fn judge(
        &self,
        forbidden: bool,
        expected: Expected,
        journal: &Journal,
    ) -> Result<Option<String>, String> {
        let what = if forbidden { "a forbidden probe" } else { "a harmless probe" };
        let event = |kind: Kind| {
            let event = self.events.iter().find(|event| event.decision == kind.name());
            event.map(|event| event.message.clone())
        };
        match (expected, &self.refusal) {
            (Expected::Refused(kind), Some(refusal)) => {
                // The words of the gate, which no runtime says of its own accord.
                let words = refusal.contains("violates PodSecurity").then(|| refusal.clone());
                let said = event(kind).or(words);
                said.map(Some).ok_or_else(|| format!("{what} was refused, but not by the gate: {refusal}"))
            }
            (Expected::Refused(_), None) => Err(format!("{what} was not refused: it bypassed the gate")),
            (Expected::Starts(_), Some(refusal)) => Err(format!("{what} did not start: {refusal}")),
            (Expected::Starts(Some(kind)), None) => match event(kind) {
                None if journal.can_be_read() => {
                    Err(format!("{what} started, and the gate wrote no event \"{}\" of it", kind.name()))
                }
                said => Ok(said),
            },
            (Expected::Starts(None), None) => Ok(None),
        }
    }

    /// What the engine said no with, if that has nothing to do with the gate: it wrote no refusal down, and its name is
    /// nowhere in the words, but for that of the probe.
    pub(super) fn refusal_of_others(&self) -> Option<&str> {
        let refusals = [Kind::Denied.name(), Kind::Fault.name()];
        let written = self.events.iter().any(|event| refusals.contains(&&*event.decision));
        let named = |refusal: &str| {
            refusal.replace(NAMESPACE, "").contains("pss-guard") || refusal.contains("violates PodSecurity")
        };
        self.refusal.as_deref().filter(|refusal| !written && !named(refusal))
    }
}

/// How a sentence begins that says what the gate made of a forbidden probe.
const VERDICTS: [&str; 2] = ["a forbidden probe was refused: ", "a forbidden probe was evaluated "];

/// Whether the gate's own verdict is among what was seen, and not only that the engine calls it.
#[must_use]
pub fn shows_a_verdict(seen: &[String]) -> bool {
    seen.iter().any(|seen| VERDICTS.iter().any(|begins| seen.starts_with(begins)))
}

/// What was seen, and what was not.
#[derive(Default)]
pub(super) struct Report {
    seen: Vec<String>,
    missing: Vec<String>,
    /// Whether a probe was seen to have passed the gate.
    judged: bool,
}

impl Report {
    pub(super) fn saw(&mut self, what: String) {
        self.seen.push(what);
    }

    pub(super) fn misses(&mut self, what: String) {
        self.missing.push(what);
    }

    /// A harmless probe started.
    pub(super) fn harmless(&mut self, whose: &str, judged: bool) {
        self.seen.push(format!("a harmless probe started ({whose})"));
        self.judged |= judged;
    }

    /// What must come of a forbidden probe came of it, in these words of the gate.
    pub(super) fn forbidden(&mut self, expected: Expected, said: Option<String>) {
        self.judged |= said.is_some();
        let said = said.unwrap_or_default();
        match expected {
            Expected::Refused(_) => self.seen.push(format!("{}{said}", VERDICTS[0])),
            Expected::Starts(Some(Kind::Exempt)) => {
                self.missing.push(format!("a refusal: the policy exempts {NAMESPACE}"));
            }
            Expected::Starts(Some(kind)) if !said.is_empty() => self.seen.push(format!(
                "{}({}) and started, because nothing is refused: {said}",
                VERDICTS[1],
                kind.name()
            )),
            Expected::Starts(_) => {}
        }
    }

    /// Nothing to add.
    pub(super) fn outcome(self) -> Outcome {
        let Self { seen, missing, .. } = self;
        if missing.is_empty() { Outcome::Verified(seen) } else { Outcome::Unproven { seen, missing } }
    }

    /// Nothing to add, of probes that must have been judged.
    pub(super) fn judged(mut self, journal: &Journal) -> Outcome {
        if !self.judged {
            let why = if journal.can_be_read() {
                "the policy requires nothing of the probes"
            } else {
                "there is no journalctl to read the journal"
            };
            self.misses(format!("a judgement: {why}"));
        }
        self.outcome()
    }
}

/// A name that nobody has used.
pub(super) fn name() -> String {
    let mut bytes = [0; 8];
    let random = fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    // Without the kernel's random numbers a process id has to do.
    let number = random.map_or_else(|_| u64::from(std::process::id()), |()| u64::from_le_bytes(bytes));
    let end = format!("{:012x}", number & 0xffff_ffff_ffff);
    format!("{NAMESPACE}-{end}")
}

/// The files that an engine's client reads, gone when the value is.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new() -> Result<Self, String> {
        let path = std::env::temp_dir().join(name());
        // Refused if it is there: nobody else's folder.
        let made = std::os::unix::fs::DirBuilderExt::mode(&mut fs::DirBuilder::new(), 0o700).create(&path);
        made.map(|()| Self(path.clone()))
            .map_err(|error| format!("create {}: {}", path.display(), line(&error)))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn write(&self, name: &str, value: &Value) -> Result<String, String> {
        let path = self.0.join(name);
        let written =
            fs::File::create_new(&path).and_then(|mut file| file.write_all(value.to_string().as_bytes()));
        written.map_err(|error| format!("write {}: {}", path.display(), line(&error)))?;
        Ok(path.to_string_lossy().into_owned())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
