//! Which exceptions are in use, which never are, and which end soon? The policy's, held against the events.

use serde::Serialize;

use super::tally::{Covered, Use};
use crate::level::date::Date;
use crate::level::policy::{Exception, Policy};
use crate::pss::controls::CONTROLS;
use crate::pss::{Control, Level, Scope};

/// How many days before its end an exception is said to end soon.
pub const SOON: i64 = 30;

/// What is known of an exception's use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It let a container start in the period.
    Used,
    /// It did not.
    Unused,
    /// It would not have been written down: the namespace's enforce level does not ask for what it allows.
    Untold,
    /// Its last day is over.
    Expired,
}

impl State {
    /// The word in every output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Used => "used",
            Self::Unused => "never used",
            Self::Untold => "cannot be told",
            Self::Expired => "expired",
        }
    }
}

/// One exception of the policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Row {
    /// The namespace.
    pub namespace: String,
    /// The container; `null` for all.
    pub container: Option<String>,
    /// What it allows.
    pub controls: Vec<String>,
    /// Why.
    pub reason: String,
    /// Its last day.
    pub expires: String,
    /// Days left, the last one not counted; negative once it is over.
    pub days_left: i64,
    /// Whether that is soon.
    pub ends_soon: bool,
    /// Its use.
    pub state: State,
    /// Container starts in the period.
    pub starts: u64,
    /// The last of them.
    pub last: Option<String>,
}

/// All exceptions of a policy, and how many starts were let in by others, which the policy does not have any more.
pub fn rows<'a>(
    policy: &Policy,
    uses: impl Iterator<Item = (&'a Covered, &'a Use)>,
    enforced: impl Fn(&str) -> Option<Level>,
    today: Date,
) -> (Vec<Row>, u64) {
    let mut rows: Vec<Row> = policy
        .exceptions
        .iter()
        .map(|exception| row(exception, enforced(&exception.namespace), today))
        .collect();
    let mut gone = 0;
    for (covered, used) in uses {
        let (namespace, container, control, reason) = covered;
        let made_it = |exception: &Exception| {
            exception.reason == **reason && covers(exception, namespace, container, control)
        };
        let position = policy.exceptions.iter().position(made_it);
        let Some(row) = position.and_then(|position| rows.get_mut(position)) else {
            gone += used.starts;
            continue;
        };
        row.starts += used.starts;
        let last = super::period::rfc3339(used.last);
        row.last = row.last.take().max(Some(last));
        if row.state != State::Expired {
            row.state = State::Used;
        }
    }
    (rows, gone)
}

fn row(exception: &Exception, enforced: Option<Level>, today: Date) -> Row {
    let Exception { namespace, container, controls, reason, expires } = exception;
    let days_left = expires.days() - today.days();
    let asks = |control: &&&Control| {
        controls.iter().any(|id| id == control.id) && enforced.is_none_or(|level| level >= control.level)
    };
    let state = if exception.expired(today) {
        State::Expired
    } else if CONTROLS.iter().find(asks).is_none() {
        State::Untold
    } else {
        State::Unused
    };
    Row {
        namespace: namespace.clone(),
        container: container.clone(),
        controls: controls.clone(),
        reason: reason.clone(),
        expires: expires.to_string(),
        days_left,
        ends_soon: (0..=SOON).contains(&days_left),
        state,
        starts: 0,
        last: None,
    }
}

/// As before a start: the sandbox has no container name, and may do what one container of its pod may.
fn covers(exception: &Exception, namespace: &str, container: &str, control: &str) -> bool {
    let of_pod = || CONTROLS.iter().any(|row| row.id == control && row.scope == Scope::Pod);
    let container = match exception.container.as_deref() {
        Some(own) if container.is_empty() && of_pod() => own,
        _ => container,
    };
    exception.covers(namespace, container, control)
}
