//! What did the last scan of the node come to? A few numbers that `scan` leaves and `metrics` shows: nobody scans a node
//! because somebody asked for a number.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::exposition::{Family, Number, Type};
use crate::decision::Verdict;
use crate::files::{self, FileError, Links, Owner};
use crate::install::write::{self, WriteError};
use crate::paths::Paths;

/// Longer than any file of ours.
const LIMIT: u64 = 16 << 10;

/// A scan in numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// When it ended, in seconds since 1970.
    pub at: f64,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// How many containers it judged so, by the word of the verdict.
    containers: BTreeMap<String, u64>,
}

impl Summary {
    /// A scan that has just come to these verdicts.
    #[must_use]
    pub fn of(verdicts: impl IntoIterator<Item = Verdict>, took: Duration) -> Self {
        let mut containers = BTreeMap::new();
        for verdict in verdicts {
            *containers.entry(verdict.name().to_owned()).or_default() += 1;
        }
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        Self { at, seconds: took.as_secs_f64(), containers }
    }

    /// Leaves it for `metrics`.
    pub fn keep(&self, paths: &Paths) -> Result<(), WriteError> {
        let path = paths.last_scan();
        let bytes =
            serde_json::to_vec(self).map_err(io::Error::from).map_err(write::fault("write", &path))?;
        write::make_folder(&paths.metrics())?;
        write::replace(&path, &bytes, 0o644)
    }

    /// What Prometheus is told.
    pub(super) fn families(&self) -> Vec<Family> {
        let count = |verdict: Verdict| self.containers.get(verdict.name()).copied().unwrap_or_default();
        let samples = [Verdict::Allow, Verdict::Deny, Verdict::CannotJudge]
            .map(|verdict| (vec![("verdict", verdict.name().to_owned())], Number::Whole(count(verdict))));
        vec![
            Family {
                name: "pss_guard_scan_containers",
                kind: Type::Gauge,
                help: "Running containers in the last scan of the node, by what enforce mode would make of them at a restart.",
                samples: samples.into(),
            },
            Family::gauge(
                "pss_guard_last_scan_timestamp_seconds",
                "When the last scan of the node ended.",
                Number::Real(self.at),
            ),
            Family::gauge(
                "pss_guard_scan_duration_seconds",
                "How long the last scan of the node took.",
                Number::Real(self.seconds),
            ),
        ]
    }
}

/// The last scan; `None` if there was none.
pub fn last(paths: &Paths) -> Result<Option<Summary>, FileError> {
    let path = paths.last_scan();
    match files::read_as(&path, Links::Refuse, Owner::Anybody, LIMIT) {
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error),
        Ok((_, _, bytes)) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| FileError::Read { path, source: error.into() }),
    }
}
