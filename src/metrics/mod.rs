//! `pss-guard metrics`: how often what was decided, and whether the node enforces.
//!
//! ```text
//!  events ─► counters ◄─► store (one file: what was counted, how far was read)
//!               │
//!  the node ─► node ─► exposition ─► a file or standard output
//! ```

pub mod counters;
pub mod exposition;
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
            "When the counters started.",
            Number::Whole(since / 1_000_000),
        ),
        Family::gauge(
            "pss_guard_counters_damaged_timestamp_seconds",
            "When the saved counters were last found damaged and reset, or 0.",
            Number::Whole(damaged / 1_000_000),
        ),
        Family::gauge("pss_guard_counters_kept", "Whether the counters could be saved.", flag(kept)),
        Family::gauge(
            "pss_guard_event_sources_unread",
            "Event sources (the journal and its fallback file) that could not be read completely.",
            Number::Whole(sources_unread as u64),
        ),
    ]);
    families.extend(node::families(setting, &mut faults));
    (families, faults)
}
