//! Saves a few numbers of each `scan --keep` for `metrics`, so that a scrape does not inspect every container.

use std::io;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use super::exposition::{Family, Number, Type};
use crate::atomic::{self, WriteError};
use crate::decision::Verdict;
use crate::files::{self, Links, Owner};
use crate::message::line;
use crate::paths::Paths;
use crate::pss::Level;
use crate::scan::Scan;

/// Longer than any file of ours.
const LIMIT: u64 = 16 << 10;

/// A scan in numbers of containers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Kept {
    /// When it began, in seconds since 1970.
    at: f64,
    /// How long it took, in seconds.
    seconds: f64,
    allowed: usize,
    refused: usize,
    unjudged: usize,
    exempt: usize,
    drifted: usize,
    /// Places that could not be looked at.
    unseen: usize,
}

/// What a scan asked about: each container's own level, or this one.
fn asked(level: Option<Level>) -> &'static str {
    level.map_or("own", Level::name)
}

/// Leaves a scan for `metrics`, in place of the last one that asked about the same level.
pub fn keep(paths: &Paths, scan: &Scan) -> Result<(), WriteError> {
    let sum = scan.summary();
    let kept = Kept {
        at: scan.at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
        seconds: scan.took.as_secs_f64(),
        allowed: sum.containers.saturating_sub(sum.refused + sum.unjudged + sum.exempt),
        refused: sum.refused,
        unjudged: sum.unjudged,
        exempt: sum.exempt,
        drifted: sum.drifted,
        unseen: scan.unseen.len(),
    };
    let path = paths.kept_scan(asked(scan.level.map(|(level, _)| level)));
    let bytes = serde_json::to_vec(&kept).map_err(io::Error::from).map_err(atomic::fault("write", &path))?;
    atomic::make_folder(&paths.metrics())?;
    atomic::replace(&path, &bytes, 0o644)
}

/// What Prometheus is told of the last scans; what cannot be read goes to `faults`.
pub(super) fn families(paths: &Paths, faults: &mut Vec<String>) -> Vec<Family> {
    let mut scans: Vec<(&str, Kept)> = Vec::new();
    for level in [None].into_iter().chain(Level::ALL.map(Some)) {
        let level = asked(level);
        let path = paths.kept_scan(level);
        match files::read_as(&path, Links::Refuse, Owner::Anybody, LIMIT) {
            Err(error) if error.is_missing() => {}
            Err(error) => faults.push(line(&error)),
            Ok((_, _, bytes)) => match serde_json::from_slice(&bytes) {
                Ok(kept) => scans.push((level, kept)),
                Err(error) => faults.push(format!("{}: {error}", path.display())),
            },
        }
    }
    let gauge = |name, help, number: &dyn Fn(&Kept) -> Number| Family {
        name,
        kind: Type::Gauge,
        help,
        samples: scans.iter().map(|(level, kept)| (labels(level), number(kept))).collect(),
    };
    let count = |number: usize| Number::Whole(number as u64);
    vec![
        Family {
            name: "pss_guard_scan_containers",
            kind: Type::Gauge,
            help: "Running containers in the last scan at a level, by the verdict at their next start.",
            samples: scans.iter().flat_map(|(level, kept)| by_verdict(level, kept)).collect(),
        },
        gauge(
            "pss_guard_scan_drifted_containers",
            "Running containers in the last scan that have more than their config.json asked for.",
            &|kept| count(kept.drifted),
        ),
        gauge(
            "pss_guard_scan_unseen_places",
            "Files and folders that the last scan could not inspect.",
            &|kept| count(kept.unseen),
        ),
        gauge("pss_guard_last_scan_timestamp_seconds", "When the last scan started.", &|kept| {
            Number::Real(kept.at)
        }),
        gauge("pss_guard_scan_duration_seconds", "How long the last scan took.", &|kept| {
            Number::Real(kept.seconds)
        }),
    ]
}

fn labels(level: &str) -> Vec<(&'static str, String)> {
    vec![("level", level.to_owned())]
}

fn by_verdict(level: &str, kept: &Kept) -> [(Vec<(&'static str, String)>, Number); 4] {
    [
        (Verdict::Allow, kept.allowed),
        (Verdict::Deny, kept.refused),
        (Verdict::CannotJudge, kept.unjudged),
        (Verdict::Exempt, kept.exempt),
    ]
    .map(|(verdict, count)| {
        let mut labels = labels(level);
        labels.push(("verdict", verdict.name().to_owned()));
        (labels, Number::Whole(count as u64))
    })
}
