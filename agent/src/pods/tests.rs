//! What do lists and watches leave in the folders of facts?

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use kube::Client;
use kube::runtime::watcher::Config;
use pss_guard_core::agent;
use pss_guard_core::paths::Paths;
use pss_guard_core::pods::{Found, LIMIT, Source, Whose, read};
use serde_json::{Value, json};

use super::{Controllers, Pods, Watched, watch};
use crate::metrics::Metrics;
use crate::removed::Files as _;
use crate::testing;
use crate::watch::Synced;

pub(super) fn uid(number: usize) -> String {
    format!("{number:08x}-1d4f-4e7d-941e-7a1219bef1c5")
}

pub(super) fn pod(number: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("pod-{number}"), "namespace": "shop", "uid": uid(number),
            "managedFields": [{"manager": "kubelet", "fieldsV1": {"f:spec": {}}}]},
        "spec": {"nodeName": "node-1", "containers": [{"name": "app", "image": "i", "env": [{"name": "SECRET"}]}]},
        "status": {"phase": "Running"},
    })
}

/// A node, and what an agent on it knows.
struct Node {
    folder: tempfile::TempDir,
    paths: Paths,
    metrics: Metrics,
    controllers: Controllers,
}

impl Node {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::under(folder.path());
        Self { folder, paths, metrics: Metrics::new(), controllers: RefCell::default() }
    }

    /// A watch that begins.
    fn pods(&self) -> Pods<'_> {
        Pods::of(&self.paths, &self.metrics, &self.controllers).unwrap()
    }

    fn files(&self) -> BTreeSet<String> {
        let Ok(entries) = fs::read_dir(self.folder.path().join("run/pss-guard/pods")) else {
            return BTreeSet::new();
        };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter_map(|name| name.strip_suffix(".json").map(str::to_owned)).collect()
    }

    /// Puts the time since which all that are gone are gone into the past.
    fn later(&self, seconds: u64) {
        let gone = agent::gone(&self.paths, Source::Api).into_iter();
        let gone = gone.map(|(uid, since)| (uid, since - seconds)).collect();
        agent::put_gone(&self.paths, Source::Api, &gone).unwrap();
    }
}

pub(super) fn watched(pod: Value) -> Watched {
    serde_json::from_value(pod).unwrap()
}

pub(super) fn list(pods: &mut Pods<'_>, objects: impl IntoIterator<Item = Value>) {
    let listed = objects.into_iter().map(|object| pods.read(watched(object))).collect();
    pods.replace_all(listed).unwrap();
}

fn uids(numbers: &[usize]) -> BTreeSet<String> {
    numbers.iter().map(|number| uid(*number)).collect()
}

#[test]
fn facts_of_a_pod_that_is_gone_stay_for_minutes_over_any_watch() {
    if !testing::root("facts_of_a_pod_that_is_gone_stay_for_minutes_over_any_watch") {
        return;
    }
    let node = Node::new();
    let mut pods = node.pods();
    list(&mut pods, [1, 2, 3].map(pod));
    pods.delete(&uid(2)).unwrap();
    assert!(!pods.forget().unwrap());
    // Another connection, or another process: its list lacks two of them, one of which was gone before.
    let mut pods = node.pods();
    list(&mut pods, [1].map(pod));
    assert_eq!(node.files(), uids(&[1, 2, 3]));
    node.later(299);
    let mut pods = node.pods();
    list(&mut pods, [1].map(pod));
    assert!(!pods.forget().unwrap());
    assert_eq!(node.files(), uids(&[1, 2, 3]));
    // Their time comes, and that of one which was gone later does not.
    node.later(1);
    let mut pods = node.pods();
    list(&mut pods, [1, 4].map(pod));
    assert_eq!(node.files(), uids(&[1, 4]));
    pods.delete(&uid(4)).unwrap();
    node.later(300);
    let mut pods = node.pods();
    assert!(pods.apply(watched(pod(5))).unwrap());
    assert!(pods.forget().unwrap());
    assert_eq!(node.files(), uids(&[1, 5]));
}

#[tokio::test(start_paused = true)]
async fn no_empty_list_removes_anything_and_nothing_goes_before_the_first_list() {
    if !testing::root("no_empty_list_removes_anything_and_nothing_goes_before_the_first_list") {
        return;
    }
    let node = Node::new();
    list(&mut node.pods(), [1, 2].map(pod));
    let mut pods = node.pods();
    list(&mut pods, []);
    assert!(agent::gone(&node.paths, Source::Api).is_empty(), "no clock begins");
    // What was gone before stays as long as nobody has named a pod of this node.
    agent::put_gone(&node.paths, Source::Api, &[(uid(1), 0)].into()).unwrap();
    let mut pods = node.pods();
    let waits = |pods: &Pods<'_>| {
        use futures_util::FutureExt as _;
        pods.first_gone().now_or_never().is_none()
    };
    assert!(waits(&pods));
    list(&mut pods, []);
    assert!(waits(&pods));
    assert_eq!(node.files(), uids(&[1, 2]));
    pods.apply(watched(pod(3))).unwrap();
    tokio::time::timeout(std::time::Duration::from_secs(1), pods.first_gone()).await.unwrap();
    assert!(pods.forget().unwrap());
    assert_eq!(node.files(), uids(&[2, 3]));
}

#[test]
fn a_pod_that_is_back_or_never_had_a_file_is_not_gone() {
    if !testing::root("a_pod_that_is_back_or_never_had_a_file_is_not_gone") {
        return;
    }
    let node = Node::new();
    let mut pods = node.pods();
    list(&mut pods, [1].map(pod));
    pods.delete(&uid(1)).unwrap();
    pods.delete(&uid(7)).unwrap();
    pods.delete("../x").unwrap();
    assert_eq!(agent::gone(&node.paths, Source::Api).into_keys().collect::<BTreeSet<_>>(), uids(&[1]));
    pods.apply(watched(pod(1))).unwrap();
    node.later(300);
    assert!(!node.pods().forget().unwrap());
    assert_eq!(node.files(), uids(&[1]));
    // A forged file of those that are gone leads nowhere.
    let outside = node.folder.path().join("run/pss-guard/agent/x.json");
    fs::write(&outside, "").unwrap();
    agent::put_gone(&node.paths, Source::Api, &[("../agent/x".to_owned(), 0)].into()).unwrap();
    assert!(!node.pods().forget().unwrap());
    assert!(outside.exists());
}

#[test]
fn no_mirror_pod_leaves_anything_whatever_it_claims() {
    if !testing::root("no_mirror_pod_leaves_anything_whatever_it_claims") {
        return;
    }
    let node = Node::new();
    let mut pods = node.pods();
    let mirror = |number: usize, hash: &str| {
        let mut pod = pod(number);
        pod["metadata"]["annotations"] = json!({
            "kubernetes.io/config.mirror": hash, "kubernetes.io/config.hash": hash, "kubernetes.io/config.source": "file",
        });
        pod
    };
    let hash = "d41d8cd98f00b204e9800998ecf8427e";
    // It names the file of another pod as its hash, and it comes and goes.
    for forged in [mirror(8, hash), mirror(9, &uid(1)), mirror(10, "")] {
        let uid = forged["metadata"]["uid"].as_str().unwrap().to_owned();
        list(&mut pods, [pod(1), forged.clone()]);
        pods.apply(watched(forged)).unwrap();
        pods.delete(&uid).unwrap();
    }
    assert_eq!(node.files(), uids(&[1]));
    assert!(agent::gone(&node.paths, Source::Api).is_empty());
    assert!(!node.folder.path().join("run/pss-guard/static").exists());
    assert_eq!(pods.with_facts(), 1);
    // A list of nothing but mirror pods is a list.
    list(&mut pods, [mirror(8, hash)]);
    assert_eq!(agent::gone(&node.paths, Source::Api).len(), 1);
}

#[test]
fn a_pod_of_a_thousand_containers_is_whole_or_said_to_be_missing() {
    if !testing::root("a_pod_of_a_thousand_containers_is_whole_or_said_to_be_missing") {
        return;
    }
    let node = Node::new();
    let mut pods = node.pods();
    let large = |number: usize, containers: usize, more: Value| {
        let mut pod = pod(number);
        let all: Vec<Value> = (0..containers)
            .map(|nth| {
                let mut container = json!({"name": format!("c-{nth}"), "image": "i"});
                container["securityContext"] = more.clone();
                container
            })
            .collect();
        pod["spec"]["containers"] = json!(all);
        pod
    };
    let found = |number: usize| {
        let (uid, name) = (uid(number), format!("pod-{number}"));
        let whose = Whose { uid: &uid, namespace: "shop", name: &name };
        match read(&node.paths.told(), whose).unwrap() {
            Found::Facts(facts) => Some(facts.1),
            _ => None,
        }
    };
    // A thousand small ones fit, and the last of them counts.
    let mut fits = large(1, 1000, Value::Null);
    fits["spec"]["containers"][999]["securityContext"] = json!({"privileged": true});
    assert!(pods.apply(watched(fits)).unwrap());
    let declared = found(1).unwrap();
    assert_eq!(declared.spec.containers.len(), 1000);
    assert!(declared.container("c-999").is_some());
    // What no API server takes is counted, once, and hold nobody up: alone, and in a list.
    let drop = json!({"capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}, "allowPrivilegeEscalation": false});
    let mut too_large = large(2, 60_000, drop);
    let text = too_large.to_string().len();
    assert!(text as u64 > LIMIT);
    for _ in 0..3 {
        assert!(!pods.apply(watched(too_large.clone())).unwrap());
        too_large["status"]["phase"] = json!("Pending");
    }
    assert_eq!(node.metrics.unusable.get(), 1);
    assert_eq!(pods.with_facts(), 1, "the large one has no file");
    // One that becomes smaller has.
    assert!(pods.apply(watched(pod(2))).unwrap());
    assert_eq!(pods.with_facts(), 2);
    fs::remove_file(node.folder.path().join("run/pss-guard/pods").join(uid(2)).with_extension("json"))
        .unwrap();
    let mut pods = node.pods();
    list(&mut pods, [too_large, pod(3)]);
    assert_eq!(node.metrics.unusable.get(), 2);
    assert_eq!(pods.with_facts(), 1, "the large one has no file");
    assert_eq!(node.files(), uids(&[1, 3]), "the first one is gone, and stays for a while");
    assert!(found(2).is_none() && found(3).is_some());
    // What was written before it grew stays.
    let mut grown = pod(3);
    let ports: Vec<Value> = (0..400_000).map(|port| json!({"hostPort": port % 60_000})).collect();
    grown["spec"]["ephemeralContainers"] = json!([{"name": "debug", "ports": ports}]);
    assert!(!pods.apply(watched(grown.clone())).unwrap());
    list(&mut pods, [grown]);
    assert!(found(3).is_some());
    assert_eq!(pods.with_facts(), 1, "it has a file");
}

#[test]
fn a_hostile_pod_is_projected_or_counted_and_others_are_written() {
    if !testing::root("a_hostile_pod_is_projected_or_counted_and_others_are_written") {
        return;
    }
    let node = Node::new();
    let mut pods = node.pods();
    let with = |number: usize, change: fn(&mut Value)| {
        let mut pod = pod(number);
        change(&mut pod);
        pod
    };
    let rows: [(Value, bool); 11] = [
        // A megabyte of what nobody reads.
        (with(1, |pod| pod["spec"]["containers"][0]["args"] = json!(["x".repeat(1 << 20)])), true),
        (with(2, |pod| pod["metadata"]["annotations"] = json!({"a": "x".repeat(1 << 18)})), true),
        (
            with(3, |pod| {
                pod["metadata"]["name"] = json!(["a".repeat(63).as_str(); 4].join(".").get(..253));
            }),
            true,
        ),
        (with(4, |pod| pod["spec"]["volumes"] = json!([{"name": "v", "ofTomorrow": {"a": [1]}}])), true),
        (with(5, |pod| pod["spec"]["containers"][0]["name"] = json!("\u{1f980}\n\"{}")), true),
        (with(6, |pod| pod["spec"]["hostNetwork"] = json!("yes")), false),
        (with(7, |pod| pod["spec"] = json!([])), false),
        (with(8, |pod| pod["metadata"]["namespace"] = json!("../x")), false),
        (with(9, |pod| pod["metadata"]["uid"] = json!("../x")), false),
        (with(10, |pod| drop(pod.as_object_mut().unwrap().remove("spec"))), false),
        (with(11, |pod| pod["spec"] = Value::Null), false),
    ];
    let well: BTreeSet<String> = rows
        .iter()
        .filter(|(_, well)| *well)
        .map(|(pod, _)| pod["metadata"]["uid"].as_str().unwrap().to_owned())
        .collect();
    let failing = rows.iter().filter(|(_, well)| !well).count() as u64;
    for (pod, well) in &rows {
        assert_eq!(pods.apply(watched(pod.clone())).unwrap(), *well, "{}", pod["metadata"]);
    }
    assert_eq!(node.files(), well);
    assert_eq!(pods.with_facts(), well.len() as u64);
    assert_eq!(node.metrics.unusable.get(), failing);
    // The same in one list, on another node.
    let node = Node::new();
    let mut pods = node.pods();
    list(&mut pods, rows.map(|(pod, _)| pod));
    assert_eq!(node.files(), well);
    assert_eq!(pods.with_facts(), well.len() as u64);
    assert_eq!(node.metrics.unusable.get(), failing);
}

#[test]
fn facts_that_somebody_removes_are_written_again() {
    if !testing::root("facts_that_somebody_removes_are_written_again") {
        return;
    }
    let node = Node::new();
    let root = node.folder.path();
    let live = root.join("run/pss-guard/pods");
    let file = |number: usize| live.join(uid(number)).with_extension("json");
    let mut pods = node.pods();
    assert_eq!(pods.restore().unwrap(), 0, "nothing before the first list");
    let mut nameless = pod(8);
    nameless["metadata"]["namespace"] = json!("../x");
    list(&mut pods, [pod(1), pod(2), pod(3), nameless]);
    pods.apply(watched(pod(4))).unwrap();
    pods.delete(&uid(3)).unwrap();
    assert_eq!((pods.restore().unwrap(), pods.uncopied().unwrap()), (0, 1));
    pods.store.keep().unwrap();
    let before = [1, 2, 4].map(|number| fs::read(file(number)).unwrap());

    // One, of which nothing else tells; the folder's time is still that of the last list.
    let time = || fs::metadata(&live).unwrap().modified().unwrap();
    fs::remove_file(file(2)).unwrap();
    let last = time();
    assert!(!pods.apply(watched(pod(2))).unwrap());
    assert_eq!((pods.restore().unwrap(), time()), (1, last));
    assert_eq!((pods.restore().unwrap(), node.files()), (0, uids(&[1, 2, 3, 4])));
    // The folder, and all folders. Those of a pod that is gone nobody knows any more.
    for removed in [&live, &root.join("run/pss-guard")] {
        fs::remove_dir_all(removed).unwrap();
        assert_eq!((pods.restore().unwrap(), node.files()), (3, uids(&[1, 2, 4])));
        assert_eq!([1, 2, 4].map(|number| fs::read(file(number)).unwrap()), before);
        assert_eq!(pods.with_facts(), 3);
    }
    // The copy for the next boot.
    assert_eq!(pods.uncopied().unwrap(), 0);
    fs::remove_dir_all(root.join("var/lib/pss-guard/pods")).unwrap();
    assert_eq!((pods.restore().unwrap(), pods.uncopied().unwrap()), (0, 3));
    // What has grown too large since loses the older facts that it had.
    let mut grown = pod(4);
    let ports: Vec<Value> = (0..400_000).map(|port| json!({"hostPort": port % 60_000})).collect();
    grown["spec"]["ephemeralContainers"] = json!([{"name": "debug", "ports": ports}]);
    pods.apply(watched(grown)).unwrap();
    assert_eq!(pods.with_facts(), 3);
    fs::remove_file(file(4)).unwrap();
    for _ in 0..2 {
        assert_eq!((pods.restore().unwrap(), pods.with_facts()), (0, 2));
    }
    assert_eq!(node.metrics.unusable.get(), 3, "each once: no name, too large, and then lost");
}

#[tokio::test]
async fn a_watch_goes_on_with_a_pod_without_a_spec_and_writes_again_what_somebody_removes() {
    if !testing::root("a_watch_goes_on_with_a_pod_without_a_spec_and_writes_again_what_somebody_removes") {
        return;
    }
    let node = Node::new();
    let root = node.folder.path();
    let mut objects = [1, 2, 3].map(pod);
    objects[1].as_object_mut().unwrap().remove("spec");
    for object in &mut objects {
        object["metadata"]["resourceVersion"] = json!("7");
    }
    let server = testing::Server::watched(&objects);
    let client = Client::try_from(kube::Config::new(server.address.parse().unwrap())).unwrap();
    let synced = Synced::new(&node.metrics);
    let config = Config::default().any_semantic().streaming_lists();
    let watch = watch(client, "node-1", config, &node.paths, &node.metrics, &synced, &node.controllers);
    let removed = async {
        synced.changed().await;
        assert_eq!((node.files(), node.metrics.unusable.get()), (uids(&[1, 3]), 1));
        for place in ["run", "var/lib"] {
            fs::remove_dir_all(root.join(place).join("pss-guard/pods")).unwrap();
        }
        // From here on time passes as soon as nothing else happens.
        tokio::time::pause();
        tokio::time::sleep(Duration::from_secs(100)).await;
    };
    tokio::select! {
        end = watch => panic!("{end:?}"),
        () = removed => {}
    }
    assert_eq!((node.files(), node.metrics.pods.get()), (uids(&[1, 3]), 2));
    assert_eq!(fs::read_dir(root.join("var/lib/pss-guard/pods")).unwrap().count(), 3, "two and the lock");
}

#[test]
fn two_agents_at_once_leave_whole_files() {
    if !testing::root("two_agents_at_once_leave_whole_files") {
        return;
    }
    let node = Node::new();
    let paths = &node.paths;
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(move || {
                let (metrics, controllers) = (Metrics::new(), RefCell::default());
                for round in 0..20 {
                    let mut pods = Pods::of(paths, &metrics, &controllers).unwrap();
                    list(&mut pods, (0..10).map(pod));
                    for number in 0..10 {
                        let mut pod = pod(number);
                        let name = format!("debug-{round}");
                        pod["spec"]["ephemeralContainers"] = json!([{"name": name}]);
                        pods.apply(watched(pod)).unwrap();
                    }
                    pods.store.keep().unwrap();
                }
            });
        }
    });
    assert_eq!(node.files(), uids(&(0..10).collect::<Vec<_>>()));
    for folder in ["run", "var/lib"] {
        let entries = fs::read_dir(node.folder.path().join(folder).join("pss-guard/pods")).unwrap();
        let contents: BTreeMap<String, String> = entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some())
            .map(|path| (path.display().to_string(), fs::read_to_string(path).unwrap()))
            .collect();
        assert_eq!(contents.len(), 10, "{contents:?}");
        for (path, text) in contents {
            assert!(serde_json::from_str::<Value>(&text).is_ok(), "{path}: {text}");
        }
    }
}
