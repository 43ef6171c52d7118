//! Makes Kubernetes Events of the gate's own: what audit mode would refuse, and what only warns. Of what is refused the
//! kubelet's own event says everything.
//!
//! Each Event has a name that follows from what it is about, and so an agent that is killed between sending and remembering
//! sends it again, and the API server refuses the second. A container that is started again and again within an hour is one
//! Event for the same reason, and so is a workload whose pods run on a hundred nodes.

mod note;

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use http::Request;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use pss_guard_core::agent;
use pss_guard_core::checksum::checksum;
use pss_guard_core::level::{is_dns_label, is_dns_subdomain, workload};
use pss_guard_core::paths::Paths;
use pss_guard_core::pods::{self, Found, PODS, Whose};
use pss_guard_core::record::Kind;
use pss_guard_core::spool;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::metrics::Metrics;
use crate::pods::Controllers;
use crate::spread::about;
use crate::watch::causes;
use note::{Reader, Record};

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

/// So many Events are remembered as sent. What is forgotten the API server refuses as there already.
const REMEMBERED: usize = 1 << 12;

/// Who reports.
const CONTROLLER: &str = "pss-guard";

/// Sends what the spool has, for as long as the clients live.
pub(crate) async fn send(
    client: &Client,
    node: &str,
    paths: &Paths,
    metrics: &Metrics,
    controllers: &Controllers,
    state: &mut State,
) -> std::convert::Infallible {
    make_folder(&paths.spool());
    let mut position = agent::position(paths);
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
        metrics.lost.inc_by(read.dropped.saturating_sub(state.dropped));
        state.dropped = read.dropped;
        if read.position == position {
            continue;
        }
        for record in &records {
            for event in events(record, node, paths, controllers) {
                if state.was_sent(&event) {
                    metrics.event("repeated");
                    continue;
                }
                state.budget.take().await;
                // One after the other: what cannot be sent now can be sent later, and is still in the spool.
                loop {
                    match post(client, &record.namespace, &event, metrics).await {
                        Posted::Done => break,
                        Posted::There => {
                            state.budget.give_back();
                            break;
                        }
                        Posted::NotNow => sleep(about(AGAIN)).await,
                    }
                }
                state.sent(&event);
            }
        }
        // Here, because a batch that was broken off is read again.
        metrics.lost.inc_by(read.lost);
        if metrics.synced.get() == 1 {
            metrics
                .missing
                .inc_by(records.iter().filter(|record| lacked_facts(record, paths)).count() as u64);
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

/// What outlives a connection: a new one brings neither more Events nor the same ones again.
pub(crate) struct State {
    budget: Budget,
    /// The names of the Events that were sent within an hour.
    names: BTreeSet<String>,
    /// Which hour.
    hour: String,
    /// How many events the gates could not append.
    dropped: u64,
}

impl State {
    pub(crate) fn new() -> Self {
        Self { budget: Budget::new(), names: BTreeSet::new(), hour: String::new(), dropped: 0 }
    }

    /// Whether it was sent already. The API server would refuse it, but has better things to do.
    fn was_sent(&self, event: &Value) -> bool {
        self.names.contains(&key(event))
    }

    fn sent(&mut self, event: &Value) {
        // The date and the hour of `2026-11-29T12:51:10.000001Z`.
        let time = event.get("eventTime").and_then(Value::as_str);
        let hour = time.and_then(|time| time.get(..13)).unwrap_or_default();
        if self.hour != hour || self.names.len() >= REMEMBERED {
            hour.clone_into(&mut self.hour);
            self.names.clear();
        }
        self.names.insert(key(event));
    }
}

fn key(event: &Value) -> String {
    let text = |path: &str| event.pointer(path).and_then(Value::as_str).unwrap_or_default();
    format!("{}/{}", text("/metadata/namespace"), text("/metadata/name"))
}

/// Whether the gate evaluated a pod of the API whose facts were not there yet: they have no file, or a younger one.
fn lacked_facts(record: &Record, paths: &Paths) -> bool {
    let is_evaluated = matches!(
        Kind::of_message_id(&record.message_id),
        Some(Kind::Denied | Kind::WouldDeny | Kind::Audit | Kind::Warn | Kind::Exception | Kind::Allowed)
    );
    let uid = &*record.pod_uid;
    if !is_evaluated || !pods::is_uid(uid) || workload::is_static(uid) || !record.exec.is_empty() {
        return false;
    }
    let then = UNIX_EPOCH + Duration::from_micros(record.micros.parse().unwrap_or(0));
    let file = paths.told().join(PODS).join(uid).with_extension("json");
    match fs::metadata(file).and_then(|file| file.modified()) {
        Ok(written) => written > then,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
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

    /// One more than was thought.
    fn give_back(&mut self) {
        self.left = BURST.min(self.left + 1);
    }

    /// Waits until one more may be sent. Meanwhile the spool keeps the others; what it loses is counted.
    async fn take(&mut self) {
        while self.left < BURST && self.since.elapsed() >= ONE_MORE {
            self.left += 1;
            self.since += ONE_MORE;
        }
        if self.left == BURST {
            self.since = Instant::now();
        }
        if self.left == 0 {
            self.since += ONE_MORE;
            sleep_until(self.since).await;
        } else {
            self.left -= 1;
        }
    }
}

/// What became of an Event.
enum Posted {
    /// It is sent, or refused for good.
    Done,
    /// It was there already, and so nothing was written.
    There,
    /// The API server may take it later.
    NotNow,
}

/// Sends one Event.
async fn post(client: &Client, namespace: &str, event: &Value, metrics: &Metrics) -> Posted {
    let path = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
    let Ok(request) =
        Request::post(path).header("content-type", "application/json").body(event.to_string().into_bytes())
    else {
        return Posted::Done;
    };
    match timeout(PATIENCE, client.request::<Value>(request)).await {
        Ok(Ok(_)) => metrics.event("sent"),
        // The agent was killed before it could remember, or the same was said within the hour.
        Ok(Err(kube::Error::Api(status))) if status.code == 409 => {
            metrics.event("repeated");
            return Posted::There;
        }
        // The namespace is gone, or the API server does not want it: it would not want it later, either.
        Ok(Err(kube::Error::Api(status)))
            if (400..500).contains(&status.code) && status.code != 401 && status.code != 429 =>
        {
            metrics.event("refused");
            tracing::warn!(code = status.code, error = status.message, "the API server refuses an event");
        }
        Ok(Err(error)) => {
            tracing::warn!(error = causes(&error), "cannot send an event; trying again");
            return Posted::NotNow;
        }
        Err(_) => {
            tracing::warn!("cannot send an event: no answer; trying again");
            return Posted::NotNow;
        }
    }
    Posted::Done
}

/// The Events of one record: on the pod, and on its owner, where `kubectl describe` of the owner shows it.
fn events(record: &Record, instance: &str, paths: &Paths, controllers: &Controllers) -> Vec<Value> {
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
    let hour = (micros / HOUR).to_string();
    let event = |name: &str, regarding: &Value, related: &Value, reader, about: &[&str]| {
        let digest = digest(&[about, &[reason, &hour]].concat());
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
            "note": note::note(record, reader),
            "reportingController": CONTROLLER,
            "reportingInstance": instance.get(..128).unwrap_or(instance),
            "regarding": regarding,
            "related": related,
        })
    };
    let on_pod = json!({"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": pod, "uid": uid});
    let about = [uid, &record.container, &record.level, &record.controls];
    let Some(owner) = owner(Whose { uid, namespace, name: pod }, paths, controllers) else {
        return vec![event(pod, &on_pod, &Value::Null, Reader::Pod, &about)];
    };
    let on_owner = owner.reference(namespace);
    // The second one is the same, whichever of its pods and containers it is, on whichever node.
    vec![
        event(pod, &on_pod, &on_owner, Reader::Pod, &about),
        event(&owner.name, &on_owner, &on_pod, Reader::Owner, &[owner.kind, &owner.name]),
    ]
}

/// The owners that people ask `kubectl describe` about.
const API_VERSIONS: [(&str, &str); 7] = [
    ("CronJob", "batch/v1"),
    ("DaemonSet", "apps/v1"),
    ("Deployment", "apps/v1"),
    ("Job", "batch/v1"),
    ("ReplicaSet", "apps/v1"),
    ("ReplicationController", "v1"),
    ("StatefulSet", "apps/v1"),
];

/// A workload, as an Event refers to it.
struct Workload {
    version: &'static str,
    kind: &'static str,
    name: String,
    /// `kubectl describe` asks for Events with it. Of a Deployment or a CronJob a pod does not know it.
    uid: Option<String>,
}

impl Workload {
    fn reference(&self, namespace: &str) -> Value {
        let Self { version, kind, name, uid } = self;
        json!({"apiVersion": version, "kind": kind, "namespace": namespace, "name": name, "uid": uid})
    }
}

/// The workload of a pod: of a Job that a CronJob made, the CronJob, which outlives it.
fn owner(whose: Whose<'_>, paths: &Paths, controllers: &Controllers) -> Option<Workload> {
    let Ok(Found::Facts(facts)) = pods::read(&paths.told(), whose) else { return None };
    let owner = facts.0.owner.as_ref()?;
    let name = workload::of_controller(&owner.kind, &owner.name);
    let kind = if name == owner.name { &*owner.kind } else { "CronJob" };
    let (kind, version) = API_VERSIONS.iter().find(|(known, _)| *known == kind)?;
    let is_controller = !matches!(*kind, "Deployment" | "CronJob");
    let uid = controllers.borrow().get(whose.uid).filter(|_| is_controller).cloned();
    // The API server does not look at the names in ownerReferences.
    is_dns_subdomain(name).then(|| Workload { version, kind, name: name.to_owned(), uid })
}

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
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use pss_guard_core::paths::Paths;
    use pss_guard_core::pods::{Object, Store};
    use pss_guard_core::record::Kind;
    use serde_json::{Value, json};
    use tokio::time::Instant;

    use super::note::Record;
    use super::{BURST, Budget, ONE_MORE, State, at, events, lacked_facts};
    use crate::testing;

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
        events(record, "node-1", &Paths::under(folder.path()), &RefCell::default())
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
    }

    const UID: &str = "85c911fc-5040-4041-abcc-3d4e8681855a";

    /// The Events of a record whose pod is known, and has a controller.
    fn owned(record: &Record, kind: &str, name: &str, labels: &Value) -> Vec<Value> {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::under(folder.path());
        let pod: Object = serde_json::from_value(json!({
            "metadata": {"name": record.pod, "namespace": "shop", "uid": record.pod_uid, "labels": labels,
                "ownerReferences": [{"kind": kind, "name": name, "controller": true}]},
            "spec": {"containers": [{"name": "app"}]},
        }))
        .unwrap();
        Store::of(&paths).unwrap().put(&pod.facts().unwrap()).unwrap();
        let controllers =
            RefCell::new(BTreeMap::from([(record.pod_uid.clone(), "the-controllers".to_owned())]));
        events(record, "node-1", &paths, &controllers)
    }

    #[test]
    fn an_owner_hears_once_an_hour_whatever_its_pods_do() {
        if !testing::root("an_owner_hears_once_an_hour_whatever_its_pods_do") {
            return;
        }
        let hash = json!({"pod-template-hash": "7d4b9"});
        let rows = [
            ("ReplicaSet", "web-7d4b9", Some(("Deployment", "web", "apps/v1", false))),
            ("ReplicaSet", "web-other", Some(("ReplicaSet", "web-other", "apps/v1", true))),
            ("Job", "backup-29384720", Some(("CronJob", "backup", "batch/v1", false))),
            ("Job", "backup", Some(("Job", "backup", "batch/v1", true))),
            ("StatefulSet", "db", Some(("StatefulSet", "db", "apps/v1", true))),
            ("DaemonSet", "log", Some(("DaemonSet", "log", "apps/v1", true))),
            ("ReplicationController", "old", Some(("ReplicationController", "old", "v1", true))),
            ("Rollout", "web", None),
            ("Node", "node-1", None),
            ("StatefulSet", "No Name", None),
            ("StatefulSet", "", None),
        ];
        for (kind, name, expected) in rows {
            let events = owned(&record(Kind::Warn), kind, name, &hash);
            let on_pod = &events[0];
            assert_eq!(
                (&on_pod["regarding"]["kind"], &on_pod["regarding"]["uid"]),
                (&json!("Pod"), &json!(UID))
            );
            let Some((kind, name, version, has_uid)) = expected else {
                assert!(events.len() == 1 && on_pod["related"].is_null(), "{kind} {name}");
                continue;
            };
            let owner = &events[1]["regarding"];
            assert_eq!(
                (&owner["kind"], &owner["name"], &owner["apiVersion"]),
                (&json!(kind), &json!(name), &json!(version))
            );
            assert_eq!(owner["uid"] == "the-controllers", has_uid, "{kind}");
            assert_eq!((&on_pod["related"], &events[1]["related"]), (owner, &on_pod["regarding"]));
        }
        let name = |change: fn(&mut Record)| {
            let mut record = record(Kind::Warn);
            change(&mut record);
            owned(&record, "StatefulSet", "db", &hash)[1]["metadata"]["name"].clone()
        };
        let first = name(|_| {});
        let same: [fn(&mut Record); 5] = [
            |record| record.container = "other".into(),
            |record| record.controls = "hostPorts".into(),
            |record| record.level = "baseline".into(),
            |record| record.pod = "web-1".into(),
            |record| record.pod_uid = "85c911fc-5040-4041-abcc-3d4e8681855b".into(),
        ];
        for change in same {
            assert_eq!(name(change), first);
        }
        assert_ne!(name(|record| record.micros = "1795966680000001".into()), first);
        assert_ne!(name(|record| record.message_id = Kind::WouldDeny.message_id().into()), first);
    }

    #[test]
    fn the_longest_names_make_events_that_the_api_server_takes() {
        if !testing::root("the_longest_names_make_events_that_the_api_server_takes") {
            return;
        }
        let mut record = record(Kind::WouldDeny);
        let longest = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)].join(".");
        record.pod = longest.clone();
        record.container = "c".repeat(63);
        let events = owned(&record, "StatefulSet", &longest, &Value::Null);
        assert_eq!(events.len(), 2);
        for event in events {
            let name = event["metadata"]["name"].as_str().unwrap();
            assert!(name.len() <= 253 && pss_guard_core::level::is_dns_subdomain(name), "{name}");
            assert_eq!(event["regarding"]["name"].as_str().unwrap().len(), 253);
            assert!(event["note"].as_str().unwrap().len() <= 1024);
        }
        // A cut at a dot or a dash would leave no name.
        record.pod = format!("{}-{}", "a.".repeat(99) + "a", "b".repeat(40));
        let name = of(&record)[0]["metadata"]["name"].as_str().unwrap().to_owned();
        assert!(pss_guard_core::level::is_dns_subdomain(&name), "{name}");
        let node = "n".repeat(253);
        let folder = tempfile::tempdir().unwrap();
        let events = super::events(&record, &node, &Paths::under(folder.path()), &RefCell::default());
        assert_eq!(events[0]["reportingInstance"].as_str().unwrap().len(), 128);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_sent_is_not_sent_again_within_its_hour() {
        let mut state = State::new();
        let event = |change: fn(&mut Record)| {
            let mut record = record(Kind::Warn);
            change(&mut record);
            of(&record).remove(0)
        };
        let first = event(|_| {});
        assert!(!state.was_sent(&first));
        state.sent(&first);
        assert!(state.was_sent(&event(|record| record.micros = "1795956680000001".into())));
        assert!(!state.was_sent(&event(|record| record.container = "other".into())));
        assert!(!state.was_sent(&event(|record| record.namespace = "other".into())));
        // What is remembered is of one hour.
        state.sent(&event(|record| record.micros = "1795966680000001".into()));
        assert_eq!(state.names.len(), 1);
    }

    #[test]
    fn an_event_without_facts_at_its_time_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::under(folder.path());
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
        let lacks = |micros: u128, change: fn(&mut Record)| {
            let mut record = Record { micros: micros.to_string(), ..record(Kind::Warn) };
            change(&mut record);
            lacked_facts(&record, &paths)
        };
        assert!(lacks(now(), |_| {}), "no file");
        let pod = json!({"metadata": {"name": "web-0", "namespace": "shop", "uid": UID}, "spec": {"containers": []}});
        let facts = serde_json::from_value::<Object>(pod).unwrap().facts().unwrap();
        Store::of(&paths).unwrap().put(&facts).unwrap();
        assert!(!lacks(now() + 1_000_000, |_| {}), "they were there");
        assert!(lacks(now() - 60_000_000, |_| {}), "they came later");
        let none: [fn(&mut Record); 5] = [
            |record| record.pod_uid = "d41d8cd98f00b204e9800998ecf8427e".into(),
            |record| record.pod_uid = String::new(),
            |record| record.pod_uid = "../x".into(),
            |record| record.exec = "1".into(),
            |record| record.message_id = Kind::Exempt.message_id().into(),
        ];
        for change in none {
            assert!(!lacks(0, change));
        }
    }

    #[test]
    fn times_are_in_the_form_of_the_api() {
        assert_eq!(at(1_795_956_670_000_001), "2026-11-29T12:51:10.000001Z");
        assert_eq!(at(0), "1970-01-01T00:00:00.000000Z");
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_sent_and_then_one_at_a_time() {
        let mut budget = Budget::new();
        let begun = Instant::now();
        let taken = async |budget: &mut Budget, number: u32| {
            let begun = Instant::now();
            for _ in 0..number {
                budget.take().await;
            }
            begun.elapsed()
        };
        assert_eq!(taken(&mut budget, BURST).await, Duration::ZERO);
        budget.give_back();
        assert_eq!(taken(&mut budget, 1).await, Duration::ZERO);
        // Nothing is left, and none is lost: each takes its time.
        let waited = taken(&mut budget, 5).await;
        assert!(waited >= ONE_MORE * 5 && waited < ONE_MORE * 6, "{waited:?}");
        tokio::time::advance(ONE_MORE * 3 + Duration::from_millis(100)).await;
        assert_eq!(taken(&mut budget, 3).await, Duration::ZERO);
        assert!(taken(&mut budget, 1).await > Duration::ZERO);
        tokio::time::advance(ONE_MORE * 1000).await;
        assert_eq!(taken(&mut budget, BURST).await, Duration::ZERO);
        assert!(taken(&mut budget, 1).await > Duration::ZERO);
        assert!(begun.elapsed() > ONE_MORE * 1000);
        assert!(budget.since <= Instant::now());
    }
}
