//! The mode in force: the policy's, or a temporary one, which ends by itself.
//!
//! ```text
//!      /etc/pss-guard/policy.toml ─► level::cache ─► the policy's mode ─┐
//!  /run/pss-guard/mode.json, while it holds ─► temporary ───────────────┴─► InForce ─► admit, status
//! ```
//!
//! The gate asks at every decision. Nearly always that is one open(2) of a file that is not there.

pub mod end;
pub mod temporary;

use pss_guard_core::level::Mode;
use pss_guard_core::level::date::rfc3339;
use pss_guard_core::paths::Paths;
use temporary::State;

/// The mode of the node, and where it comes from.
#[derive(Debug)]
pub struct InForce {
    /// The mode now.
    pub mode: Mode,
    /// What the policy says, or what is left of it.
    pub policy: Mode,
    /// What is in force beside the policy.
    pub temporary: State,
}

/// The mode in force, where the policy says `policy`. Callers that act on it call [`InForce::settle`] afterwards.
#[must_use]
pub fn in_force(paths: &Paths, policy: Mode) -> InForce {
    let temporary = temporary::read(&paths.temporary_mode());
    let mode = match &temporary {
        State::Holds(temporary) => temporary.mode,
        State::None | State::Ended(..) | State::Ignored(_) => policy,
    };
    InForce { mode, policy, temporary }
}

/// The mode that holds for a time, if one does. It reads nothing of the policy.
#[must_use]
pub fn for_a_time(paths: &Paths) -> Option<Mode> {
    match temporary::read(&paths.temporary_mode()) {
        State::Holds(temporary) => Some(temporary.mode),
        State::None | State::Ended(..) | State::Ignored(_) => None,
    }
}

impl InForce {
    /// Until when, where that is known.
    #[must_use]
    pub fn until(&self) -> Option<String> {
        match &self.temporary {
            State::Holds(temporary) => Some(rfc3339(temporary.until())),
            State::None | State::Ended(..) | State::Ignored(_) => None,
        }
    }

    /// Removes a temporary mode that has ended and logs the end; of several processes that notice it, one does.
    pub fn settle(&self, paths: &Paths) {
        if let State::Ended(was, end) = &self.temporary {
            end::settle(paths, self.policy, was, *end);
        }
    }
}
