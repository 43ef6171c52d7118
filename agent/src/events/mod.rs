//! Makes Kubernetes Events of the gate's own: what audit mode would refuse, and what only warns. Of what is refused the
//! kubelet's own event says everything.
//!
//! Each Event has a name that follows from what it is about, and so an agent that is killed between sending and remembering
//! sends it again, and the API server refuses the second. A container that is started again and again within an hour is one
//! Event for the same reason.

mod note;

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::time::Duration;

use http::Request;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use pss_guard_core::agent;
use pss_guard_core::checksum::checksum;
use pss_guard_core::level::{is_dns_label, is_dns_subdomain};
use pss_guard_core::paths::Paths;
use pss_guard_core::pods::{self, Found, Whose};
use pss_guard_core::record::Kind;
use pss_guard_core::spool;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::metrics::Metrics;
use crate::watch::causes;
use note::Record;

/// How often the spool is looked at.
const EVERY: Duration = Duration::from_secs(1);

/// How long the API server may take for one Event.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long to wait when it takes none.
const AGAIN: Duration = Duration::from_secs(15);

/// How many Events may be sent at once, and how often there is one more: thousands of nodes send to one API server.
const BURST: u32 = 25;
const ONE_MORE: Duration = Duration::from_secs(2);

/// An hour, in microseconds: within which a repeated event is sent once. It is also how long the API server keeps Events by default.
const HOUR: u64 = 3_600_000_000;

/// Who reports.
const CONTROLLER: &str = "pss-guard";

/// Sends what the spool has, for as long as the clients live.
pub(crate) async fn send(
    client: &Client,
    node: &str,
    paths: &Paths,
    metrics: &Metrics,
) -> std::convert::Infallible {
    make_folder(&paths.spool());
    let mut position = agent::position(paths);
    let mut budget = Budget::new();
    let mut last = String::new();
    loop {
        sleep(EVERY).await;
        let mut records: Vec<Record> = Vec::new();
        let read = spool::read(&paths.spool(), position, &mut |line| {
            // What is no record of the gate is no event; it counts as read.
            records.extend(serde_json::from_slice(line).ok());
        });
        let read = match read {
            Ok(read) => read,
            Err(error) => {
                let error = causes(&error);
                if error != last {
                    tracing::warn!(error, "cannot read the events of the gate");
                    last = error;
                }
                sleep(AGAIN).await;
                continue;
            }
        };
        if read.position == position {
            continue;
        }
        metrics.lost.inc_by(read.lost);
        for record in &records {
            for event in events(record, node, paths) {
                if !budget.take() {
                    metrics.event("dropped");
                    continue;
                }
                // One after the other: what cannot be sent now can be sent later, and is still in the spool.
                while !post(client, &record.namespace, &event, metrics).await {
                    sleep(AGAIN).await;
                }
            }
        }
        position = read.position;
        if let Err(error) = agent::put_position(paths, position) {
            metrics.failed("events");
            tracing::error!(error = causes(&error), "cannot remember which events were sent");
        }
    }
}

/// Without the folder the gate writes no spool. Where the agent may not make it, whoever installs it does.
fn make_folder(folder: &PathBuf) {
    match DirBuilder::new().mode(0o755).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            tracing::warn!(folder = %folder.display(), %error, "cannot make the folder of the gate's events");
        }
        _ => {}
    }
}

/// How many Events may be sent.
struct Budget {
    left: u32,
    since: Instant,
}

impl Budget {
    fn new() -> Self {
        Self { left: BURST, since: Instant::now() }
    }

    fn take(&mut self) -> bool {
        while self.left < BURST && self.since.elapsed() >= ONE_MORE {
            self.left += 1;
            self.since += ONE_MORE;
        }
        if self.left == BURST {
            self.since = Instant::now();
        }
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}

/// Sends one Event. Whether it has an end: sent, there already, or refused for good.
async fn post(client: &Client, namespace: &str, event: &Value, metrics: &Metrics) -> bool {
    let path = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
    let Ok(request) =
        Request::post(path).header("content-type", "application/json").body(event.to_string().into_bytes())
    else {
        return true;
    };
    match timeout(PATIENCE, client.request::<Value>(request)).await {
        Ok(Ok(_)) => metrics.event("sent"),
        // The agent was killed before it could remember, or the same was said within the hour.
        Ok(Err(kube::Error::Api(status))) if status.code == 409 => metrics.event("repeated"),
        // The namespace is gone, or the API server does not want it: it would not want it later, either.
        Ok(Err(kube::Error::Api(status)))
            if (400..500).contains(&status.code) && status.code != 401 && status.code != 429 =>
        {
            metrics.event("refused");
            tracing::warn!(code = status.code, error = status.message, "the API server refuses an event");
        }
        Ok(Err(error)) => {
            tracing::warn!(error = causes(&error), "cannot send an event; trying again");
            return false;
        }
        Err(_) => {
            tracing::warn!("cannot send an event: no answer; trying again");
            return false;
        }
    }
    true
}

/// The Events of one record: on the pod, and on its owner, where `kubectl describe` of the owner shows it.
fn events(record: &Record, instance: &str, paths: &Paths) -> Vec<Value> {
    let reason = match Kind::of_message_id(&record.message_id) {
        Some(Kind::WouldDeny) => "WouldViolatePodSecurity",
        Some(Kind::Audit | Kind::Warn) => "PodSecurityViolation",
        _ => return Vec::new(),
    };
    let (namespace, pod, uid) = (&*record.namespace, &*record.pod, &*record.pod_uid);
    if !is_dns_label(namespace) || !is_dns_subdomain(pod) || !pods::is_uid(uid) {
        return Vec::new();
    }
    let micros: u64 = record.micros.parse().unwrap_or(0);
    let hour = micros / HOUR;
    let note = note::note(record);
    let event = |name: &str, regarding: Value, about: &str| {
        let digest = digest(&[about, reason, &record.level, &record.controls, &hour.to_string()]);
        // A name of 253 bytes and a digest would be too long for a name.
        let name = format!("{}.{digest:016x}", name.get(..200).unwrap_or(name).trim_end_matches(['.', '-']));
        json!({
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "eventTime": at(micros),
            "type": "Warning",
            "reason": reason,
            "action": "Evaluated",
            "note": note,
            "reportingController": CONTROLLER,
            "reportingInstance": instance.get(..128).unwrap_or(instance),
            "regarding": regarding,
        })
    };
    let on_pod = json!({"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": pod, "uid": uid});
    let mut events = vec![event(pod, on_pod, &format!("{uid}/{}", record.container))];
    let whose = Whose { uid, namespace, name: pod };
    if let Ok(Found::Facts(facts)) = pods::read(&paths.told(), whose)
        && let Some(owner) = &facts.0.owner
        && let Some(version) = API_VERSIONS.iter().find(|(kind, _)| *kind == owner.kind)
    {
        let on_owner =
            json!({"apiVersion": version.1, "kind": owner.kind, "namespace": namespace, "name": owner.name});
        events.push(event(&owner.name, on_owner, &format!("{}/{}", owner.kind, owner.name)));
    }
    events
}

/// The owners that people ask `kubectl describe` about.
const API_VERSIONS: [(&str, &str); 6] = [
    ("DaemonSet", "apps/v1"),
    ("Deployment", "apps/v1"),
    ("Job", "batch/v1"),
    ("ReplicaSet", "apps/v1"),
    ("ReplicationController", "v1"),
    ("StatefulSet", "apps/v1"),
];

/// When the gate evaluated it, in the API's words.
fn at(micros: u64) -> String {
    let micros = i64::try_from(micros).unwrap_or(0);
    // The API server wants microseconds, all six digits.
    Timestamp::from_microsecond(micros).map_or_else(|_| String::new(), |at| format!("{at:.6}"))
}

/// A number that is another one for other texts, as far as names need that: no one gains anything by two that are the same.
fn digest(parts: &[&str]) -> u64 {
    checksum(parts.join("\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pss_guard_core::paths::Paths;
    use pss_guard_core::record::Kind;
    use serde_json::Value;
    use tokio::time::Instant;

    use super::note::Record;
    use super::{BURST, Budget, ONE_MORE, at, events};

    fn record(kind: Kind) -> Record {
        Record {
            micros: "1795956670000001".into(),
            message_id: kind.message_id().into(),
            level: "restricted".into(),
            version: "latest".into(),
            controls: "runAsNonRoot".into(),
            namespace: "shop".into(),
            pod: "web-0".into(),
            pod_uid: "85c911fc-5040-4041-abcc-3d4e8681855a".into(),
            container: "app".into(),
            ..Record::default()
        }
    }

    fn of(record: &Record) -> Vec<Value> {
        let folder = tempfile::tempdir().unwrap();
        events(record, "node-1", &Paths::under(folder.path()))
    }

    #[test]
    fn what_the_kubelet_says_itself_and_what_is_no_pods_is_no_event() {
        for kind in Kind::ALL {
            let expected = match kind {
                Kind::WouldDeny => Some("WouldViolatePodSecurity"),
                Kind::Audit | Kind::Warn => Some("PodSecurityViolation"),
                _ => None,
            };
            let reasons: Vec<Value> = of(&record(kind)).iter().map(|event| event["reason"].clone()).collect();
            assert_eq!(reasons, expected.into_iter().map(Value::from).collect::<Vec<_>>(), "{kind:?}");
        }
        let changes: [fn(&mut Record); 7] = [
            |record| record.namespace = "../kube-system".into(),
            |record| record.namespace = String::new(),
            |record| record.pod = "web 0".into(),
            |record| record.pod = String::new(),
            |record| record.pod_uid = "x".into(),
            |record| record.pod_uid = String::new(),
            |record| record.message_id = "0".into(),
        ];
        for change in changes {
            let mut record = record(Kind::Warn);
            change(&mut record);
            assert!(of(&record).is_empty(), "{record:?}");
        }
    }

    #[test]
    fn the_same_within_an_hour_has_one_name_and_all_else_another() {
        let name = |change: fn(&mut Record)| {
            let mut record = record(Kind::Warn);
            change(&mut record);
            of(&record)[0]["metadata"]["name"].as_str().unwrap().to_owned()
        };
        let first = name(|_| {});
        assert!(first.starts_with("web-0.") && first.len() == 22, "{first}");
        assert_eq!(name(|record| record.micros = "1795956680000001".into()), first);
        let others: [fn(&mut Record); 6] = [
            |record| record.micros = "1795966680000001".into(),
            |record| record.container = "other".into(),
            |record| record.controls = "hostPorts".into(),
            |record| record.level = "baseline".into(),
            |record| record.pod_uid = "85c911fc-5040-4041-abcc-3d4e8681855b".into(),
            |record| record.message_id = Kind::WouldDeny.message_id().into(),
        ];
        let names: std::collections::BTreeSet<String> = others.into_iter().map(name).chain([first]).collect();
        assert_eq!(names.len(), 7);
        let longest = name(|record| record.pod = ["a".repeat(60).as_str(); 4].join("."));
        assert!(longest.len() <= 253, "{longest}");
    }

    #[test]
    fn times_are_in_the_form_of_the_api() {
        assert_eq!(at(1_795_956_670_000_001), "2026-11-29T12:51:10.000001Z");
        assert_eq!(at(0), "1970-01-01T00:00:00.000000Z");
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_sent_and_then_one_at_a_time() {
        let mut budget = Budget::new();
        let taken = |budget: &mut Budget| (0..100).filter(|_| budget.take()).count();
        assert_eq!(taken(&mut budget), BURST as usize);
        tokio::time::advance(ONE_MORE * 3 + Duration::from_millis(1)).await;
        assert_eq!(taken(&mut budget), 3);
        tokio::time::advance(ONE_MORE * 1000).await;
        assert_eq!(taken(&mut budget), BURST as usize);
        assert!(budget.since <= Instant::now());
    }
}
