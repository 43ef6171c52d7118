//! Lists what enforcing would break: what runs now and would be refused at its next start, and what was logged
//! lately.
//!
//! What is known of the system on a node: the namespace kube-system, and pods that the kubelet started from a file. A
//! priority class is in no config.json, so it cannot be asked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::decision::Verdict;
use crate::events::{self, Record};
use crate::level::Policy;
use crate::level::cache::{self, Loaded};
use crate::level::date::rfc3339;
use crate::level::policy::OnFault;
use crate::level::workload;
use crate::message::{
    SANDBOX, UNMANAGED, escape, line, marked, our_controls, our_refusing_controls, shortened,
};
use crate::pss::controls::CONTROLS;
use crate::report::aggregate::{BEYOND, Caps};
use crate::scan::summary::ours_alone;
use crate::scan::{self, Scan, Scanned, Setting};
use crate::time;
use crate::words::{agree, plural};
use pss_guard_core::record::Kind;

/// What was seen longer ago says little of what would be refused tomorrow.
const LATELY: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// More lines than these are not read before a question is answered.
const MOST_LINES: usize = 20;

/// What is to be expected of enforce mode on this node.
#[derive(Debug, Default)]
pub struct Outlook {
    /// In lines, safe for a terminal.
    pub says: Vec<String>,
    /// The system's own that would be refused: a node that loses them is soon no node any more.
    pub system: Vec<String>,
}

/// Looks ahead. `progress` is told how many containers were looked at, and how many there are.
#[must_use]
pub fn look(setting: &Setting, progress: &dyn Fn(usize, usize)) -> Outlook {
    let mut outlook = Outlook::default();
    let options = scan::Options { progress: Some(progress), ..scan::Options::default() };
    let loaded = cache::load(&setting.paths);
    let ours = our_refusing_controls(loaded.policy().unwrap_or(&Policy::default()));
    match (loaded, scan::scan(setting, &options)) {
        (Loaded::Bad { error, salvage }, _) => {
            let exempt = salvage.exempt_namespaces.join(", ");
            outlook.says.push(format!("nothing would start but {}: {}", escape(&exempt), line(&error)));
        }
        (Loaded::Good(policy) | Loaded::Kept { policy, .. }, Ok(scan)) => {
            outlook.now(&scan, policy.on_fault == OnFault::Deny);
        }
        (_, Err(error)) => {
            outlook.says.push(format!("running containers cannot be inspected: {}", line(&error)));
        }
    }
    let since = SystemTime::now().checked_sub(LATELY).unwrap_or(UNIX_EPOCH);
    let mut lately = Lately::on(scan::node_name(&setting.live));
    let read = events::read(&setting.paths, &events::From::Since(since), &mut |record| lately.add(&record));
    outlook.says.extend(lately.says(&ours));
    outlook
        .says
        .extend(read.unseen.iter().map(|unseen| format!("not all events can be read: {}", escape(unseen))));
    outlook
}

impl Outlook {
    fn now(&mut self, scan: &Scan, faults_too: bool) {
        self.says.extend(scan.sentences());
        let refused =
            |one: &&Scanned| one.is_refused() || (faults_too && one.verdict == Verdict::CannotJudge);
        let refused: Vec<&Scanned> = scan.containers.iter().filter(refused).collect();
        let row = |one: &&Scanned| {
            let controls = one.against.iter().copied().map(marked).collect::<Vec<_>>().join(", ");
            let why =
                if one.is_refused() { controls } else { format!("cannot be judged: {}", one.result.because) };
            format!("  {}  {}", name(one), escape(&why))
        };
        self.says.extend(some_of(refused.iter().map(row).collect()));
        if !refused.is_empty() {
            self.says.push("  (`pss-guard scan` says what to change)".to_owned());
        }
        let system = refused.iter().filter(|one| one.is_of_the_system());
        self.system = system.map(|one| name(one)).collect();
    }
}

/// At most so many lines, and how many there were.
fn some_of(mut lines: Vec<String>) -> Vec<String> {
    let more = lines.len().saturating_sub(MOST_LINES);
    if more > 0 {
        lines.truncate(MOST_LINES);
        lines.push(format!("  and {more} more"));
    }
    lines
}

/// What people call a container, or a pod that is refused before its containers.
fn name(one: &Scanned) -> String {
    let container = one.result.container();
    let last = match (&container.name, &container.id) {
        _ if one.sandbox => SANDBOX.to_owned(),
        (Some(name), _) => name.to_string(),
        (None, Some(id)) => id.chars().take(12).collect(),
        (None, None) => one.result.path.to_string(),
    };
    let path = [container.namespace.as_deref(), container.pod.as_deref(), Some(&last)];
    escape(&path.into_iter().flatten().collect::<Vec<_>>().join("/"))
}

/// The starts that enforce mode refuses. Commands in running containers are none.
struct Lately {
    node: String,
    caps: Caps,
    /// By namespace, workload and container: the pods of one workload come and go.
    refused: BTreeMap<[String; 3], Seen>,
    unjudged: usize,
}

#[derive(Default)]
struct Seen {
    starts: usize,
    by_ours_alone: usize,
    controls: BTreeSet<&'static str>,
    last: u64,
}

impl Lately {
    fn on(node: String) -> Self {
        Self { node, caps: Caps::default(), refused: BTreeMap::new(), unjudged: 0 }
    }

    fn add(&mut self, record: &Record) {
        match record.kind {
            _ if record.is_exec() => {}
            Some(Kind::Fault) => self.unjudged += 1,
            Some(Kind::Denied | Kind::WouldDeny) => {
                let workload = workload::of(&record.pod, &record.pod_uid, &self.node);
                let mut key = [&record.namespace, workload, &record.container]
                    .map(|name| shortened(name, self.caps.name));
                // Names are from outside, and somebody may think up any number of them.
                if self.refused.len() >= self.caps.all_workloads && !self.refused.contains_key(&key) {
                    key = [BEYOND.to_owned(), String::new(), String::new()];
                }
                let seen = self.refused.entry(key).or_default();
                seen.starts += 1;
                let mut named_ones = record.controls.split(',');
                seen.by_ours_alone += usize::from(named_ones.all(|id| our_controls().any(|own| own == id)));
                let named = |id: &&str| record.controls.split(',').any(|control| control == *id);
                seen.controls.extend(CONTROLS.iter().map(|control| control.id).filter(named));
                seen.last = seen.last.max(record.at);
            }
            _ => {}
        }
    }

    fn says(self, ours: &str) -> Vec<String> {
        let mut says = Vec::new();
        let starts: usize = self.refused.values().map(|seen| seen.starts).sum();
        if starts > 0 {
            says.push(format!(
                "in the last 7 days {} {} against the enforce level:",
                plural(starts, "start"),
                agree(&starts, "was", "were")
            ));
        }
        let by_ours: usize = self.refused.values().map(|seen| seen.by_ours_alone).sum();
        if by_ours > 0 {
            says.push(format!("  {by_ours} of them by {}", ours_alone(ours)));
        }
        let rows = self.refused.into_iter().map(|(path, seen)| {
            let path: Vec<String> = path.into_iter().filter(|part| !part.is_empty()).collect();
            let path = if path.is_empty() { UNMANAGED.to_owned() } else { path.join("/") };
            let controls = seen.controls.into_iter().map(marked).collect::<Vec<_>>().join(", ");
            let last = rfc3339(time::of_micros(seen.last));
            let times =
                if seen.starts == 1 { "once,".to_owned() } else { format!("{} times, last", seen.starts) };
            escape(&format!("  {path}  {controls}; {times} {last}"))
        });
        says.extend(some_of(rows.collect()));
        if self.unjudged > 0 {
            says.push(format!("in the last 7 days {} could not be judged", plural(self.unjudged, "start")));
        }
        says
    }
}

#[cfg(test)]
mod tests {
    use super::Lately;
    use crate::events::Record;
    use crate::report::aggregate::Caps;
    use pss_guard_core::record::Kind;

    fn refused(namespace: &str, pod: &str, controls: &str) -> Record {
        Record {
            kind: Some(Kind::WouldDeny),
            message: "would violate".into(),
            namespace: namespace.into(),
            pod: pod.into(),
            container: "app".into(),
            controls: controls.into(),
            ..Record::default()
        }
    }

    #[test]
    fn only_starts_are_told_and_those_of_one_workload_together() {
        let mut lately = Lately::on("node-1".to_owned());
        lately.add(&refused("shop", "web-5d4f8c7b9d-x7k2p", "runAsNonRoot,hostPathVolumes"));
        lately.add(&refused("shop", "web-5d4f8c7b9d-vn5tq", "runAsNonRoot,\u{1b}[2J"));
        for kind in [Kind::Denied, Kind::WouldDeny, Kind::Fault] {
            lately.add(&Record { kind: Some(kind), exec: true, ..refused("shop", "web", "privileged") });
        }
        lately.add(&Record { message: "exec violates".into(), ..refused("shop", "web", "privileged") });
        for kind in [Kind::Audit, Kind::Warn, Kind::Exception] {
            lately.add(&Record { kind: Some(kind), ..refused("shop", "web", "privileged") });
        }
        let says = lately.says("readOnlyRootFilesystem");
        let last = ", last 1970-01-01T00:00:00Z";
        assert_eq!(
            says,
            [
                "in the last 7 days 2 starts were against the enforce level:".to_owned(),
                format!("  shop/web/app  hostPathVolumes, runAsNonRoot; 2 times{last}"),
            ]
        );
    }

    #[test]
    fn what_our_own_control_refuses_alone_is_told_apart() {
        let mut lately = Lately::on("node-1".to_owned());
        lately.add(&refused("shop", "web-0", "readOnlyRootFilesystem"));
        lately.add(&refused("shop", "db-0", "readOnlyRootFilesystem,runAsNonRoot"));
        let says = lately.says("readOnlyRootFilesystem");
        let once = "; once, 1970-01-01T00:00:00Z";
        assert_eq!(
            says,
            [
                "in the last 7 days 2 starts were against the enforce level:".to_owned(),
                "  1 of them by readOnlyRootFilesystem alone, pss-guard's own control and not part of the Pod Security \
                 Standards"
                    .to_owned(),
                format!("  shop/db/app  readOnlyRootFilesystem [pss-guard], runAsNonRoot{once}"),
                format!("  shop/web/app  readOnlyRootFilesystem [pss-guard]{once}"),
            ]
        );
    }

    #[test]
    fn names_without_end_take_no_memory_without_end() {
        let caps = Caps { all_workloads: 4, name: 10, ..Caps::default() };
        let mut lately = Lately { caps, ..Lately::on(String::new()) };
        for index in 0..1_000 {
            lately.add(&refused(&format!("ns{index}{}", "x".repeat(1_000)), "web", "hostPathVolumes"));
        }
        assert_eq!(lately.refused.len(), 5, "four, and one for the others");
        assert!(lately.refused.keys().flatten().all(|name| name.len() < 20));
        assert_eq!(
            lately.says("readOnlyRootFilesystem").first().map(|line| line.contains("1000 starts were")),
            Some(true)
        );
    }
}
