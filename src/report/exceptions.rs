//! Compares the policy's exceptions with the events: which are used, which never are, and which end soon.

use serde::Serialize;

use crate::events::Record;
use crate::level::date::Date;
use crate::level::policy::{Exception, Named};
use crate::level::workload;
use crate::pss::controls::CONTROLS;
use crate::pss::{Control, Level};

/// How many days before its end an exception is said to end soon.
pub const SOON: i64 = 30;

/// What is known of an exception's use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Usage {
    /// It let a container start in the period.
    Used,
    /// It did not.
    Unused,
    /// It would not have been written down: the namespace's enforce level does not ask for what it allows.
    Untold,
    /// Its last day is over.
    Expired,
}

impl Usage {
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
    /// Whom it is made for, in one line.
    #[serde(skip)]
    pub whom: String,
    /// The namespace.
    pub namespace: String,
    /// The pod; `null` for all.
    pub pod: Option<String>,
    /// The workload; `null` for all.
    pub owner: Option<String>,
    /// The container; `null` for all.
    pub container: Option<String>,
    /// The image; `null` for all.
    pub image: Option<String>,
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
    pub state: Usage,
    /// Container starts in the period.
    pub starts: u64,
    /// The last of them.
    pub last: Option<String>,
}

/// The policy's exceptions, and what they let in.
#[derive(Clone, Debug, Default)]
pub struct Uses {
    uses: Vec<(Exception, Use)>,
    /// Starts let in by exceptions that the policy does not have any more.
    pub gone: u64,
}

/// What one exception let in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Use {
    /// Container starts.
    starts: u64,
    /// The last of them.
    last: u64,
}

impl Uses {
    /// None of them used yet.
    #[must_use]
    pub fn of(exceptions: &[Exception]) -> Self {
        let unused = |exception: &Exception| (exception.clone(), Use::default());
        Self { uses: exceptions.iter().map(unused).collect(), gone: 0 }
    }

    /// Counts a start that was let in by exceptions from these controls, each with its reason.
    pub fn add(&mut self, record: &Record, node: &str, excepted: &[(&str, String)]) {
        let named = Named {
            namespace: &record.namespace,
            pod: &record.pod,
            owner: workload::of(&record.pod, &record.pod_uid, node),
            // As before a start: the sandbox has no container name.
            container: (!record.container.is_empty()).then_some(&record.container),
            image: Some(&record.image),
        };
        let made = |(control, reason): &(&str, String)| {
            // As before a start: the first one counts.
            let is = |(own, _): &(Exception, Use)| own.reason == *reason && own.covers(&named, control);
            self.uses.iter().position(is)
        };
        let mut used: Vec<usize> = excepted.iter().filter_map(made).collect();
        self.gone += u64::from(used.len() < excepted.len());
        used.sort_unstable();
        used.dedup();
        for index in used {
            if let Some((_, used)) = self.uses.get_mut(index) {
                used.starts += 1;
                used.last = used.last.max(record.at);
            }
        }
    }

    /// A row for each.
    #[must_use]
    pub fn rows(&self, enforced: impl Fn(&str) -> Option<Level>, today: Date) -> Vec<Row> {
        let row = |(exception, used): &(Exception, Use)| {
            row(exception, *used, enforced(&exception.namespace), today)
        };
        self.uses.iter().map(row).collect()
    }
}

fn row(exception: &Exception, used: Use, enforced: Option<Level>, today: Date) -> Row {
    let Exception { namespace, pod, owner, container, image, controls, reason, expires } = exception;
    let days_left = expires.days() - today.days();
    let asks = |control: &&&Control| {
        controls.iter().any(|id| id == control.id) && enforced.is_none_or(|level| level >= control.level)
    };
    let state = if exception.expired(today) {
        Usage::Expired
    } else if used.starts > 0 {
        Usage::Used
    } else if CONTROLS.iter().find(asks).is_none() {
        Usage::Untold
    } else {
        Usage::Unused
    };
    Row {
        whom: exception.whom(),
        namespace: namespace.clone(),
        pod: pod.clone(),
        owner: owner.clone(),
        container: container.clone(),
        image: image.clone(),
        controls: controls.clone(),
        reason: reason.clone(),
        expires: expires.to_string(),
        days_left,
        ends_soon: (0..=SOON).contains(&days_left),
        state,
        starts: used.starts,
        last: (used.starts > 0).then(|| super::time_range::rfc3339(used.last)),
    }
}
