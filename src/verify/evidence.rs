//! Finds the event that the gate logged for a probe, in the journal or its fallback file.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::expect::Expected;
use crate::files;
use crate::node::host::{Live, Node as _};
use crate::node::run::run;
use crate::paths::Paths;

/// As much of the file is read; the newest events are at its end, and a probe's is the newest.
const LIMIT: u64 = 65 << 20;

/// The field by which the events of a pod are found.
pub(super) const POD: &str = "PSS_POD";

/// And those of a container that is of no pod.
pub(super) const CONTAINER: &str = "PSS_CONTAINER_ID";

/// Where events are.
pub(super) struct Journal {
    program: Option<PathBuf>,
    file: PathBuf,
    patience: Duration,
}

/// What an event says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// `PSS_DECISION`.
    pub(super) decision: String,
    /// The line for people.
    pub(super) message: String,
}

impl Journal {
    pub(super) fn of(live: &Live, paths: &Paths, patience: Duration) -> Self {
        let program = live.find("journalctl").map(|program| live.place(&program));
        Self { program, file: paths.decisions(), patience }
    }

    /// Whether the journal can be read.
    pub(super) fn can_be_read(&self) -> bool {
        self.program.is_some()
    }

    /// Waits for the event that must come of a probe, if one must; all that is written of it by then.
    pub(super) fn wait(&self, field: &str, value: &str, expected: Expected) -> Vec<Event> {
        let end = Instant::now() + self.patience;
        loop {
            let events = self.about(field, value);
            let is_there = match expected {
                Expected::Starts(Some(kind)) | Expected::Refused(kind) => {
                    events.iter().any(|event| event.decision == kind.name())
                }
                Expected::Starts(None) => true,
            };
            if is_there || Instant::now() >= end {
                return events;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// All events with this value in a field.
    fn about(&self, field: &str, value: &str) -> Vec<Event> {
        let mut text = String::new();
        if let Some(program) = &self.program {
            let matching = format!("{field}={value}");
            let mut command = Command::new(program);
            command.args([
                "--quiet",
                "--no-pager",
                "--output=json",
                "SYSLOG_IDENTIFIER=pss-guard",
                &matching,
            ]);
            text = run(&mut command, Duration::from_secs(15)).map(|done| done.stdout).unwrap_or_default();
        }
        let file = files::read(&self.file, LIMIT).unwrap_or_default();
        let file = String::from_utf8_lossy(&file);
        let lines = text.lines().chain(file.lines()).filter(|line| line.contains(value));
        let events = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let of_this = events.filter(|event| event.get(field).and_then(Value::as_str) == Some(value));
        of_this
            .map(|event| {
                let field = |name| event.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
                Event { decision: field("PSS_DECISION"), message: field("MESSAGE") }
            })
            .collect()
    }
}
