//! What does Prometheus want to know? How often what was decided, and whether the node enforces.
//!
//! ```text
//!  events ─► counters ◄─► store (one file: what was counted, how far was read)
//!               │
//!  the node ─► node ─► exposition ─► a file, standard output, or http
//! ```

pub mod counters;
pub mod exposition;
pub mod http;
pub mod node;
pub mod scan;
pub mod store;

use exposition::{Family, Number};
use store::Counted;

use crate::status::Setting;

/// All that there is to tell at this moment, and what could not be found out, a sentence each.
#[must_use]
pub fn gather(setting: &Setting<'_>, counted: Counted) -> (Vec<Family>, Vec<String>) {
    let Counted { counters, since, damaged, kept, mut faults, sources_unread } = counted;
    let mut families = counters.families();
    let flag = |holds: bool| Number::Whole(holds.into());
    families.extend([
        Family::gauge(
            "pss_guard_counted_since_timestamp_seconds",
            "When the counters began.",
            Number::Whole(since / 1_000_000),
        ),
        Family::gauge(
            "pss_guard_counters_damaged_timestamp_seconds",
            "When the kept counters were last found to be damaged and began anew, or 0.",
            Number::Whole(damaged / 1_000_000),
        ),
        Family::gauge(
            "pss_guard_counters_kept",
            "Whether what was counted could be kept for the next time.",
            flag(kept),
        ),
        Family::gauge(
            "pss_guard_event_sources_unread",
            "Sources of events, the journal and the file beside it, that could not be read in whole.",
            Number::Whole(sources_unread as u64),
        ),
    ]);
    families.extend(node::families(setting, &mut faults));
    (families, faults)
}
