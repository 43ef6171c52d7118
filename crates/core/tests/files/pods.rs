//! What do imports leave in the folders of pods, and what do they leave alone?

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::time::{Duration, UNIX_EPOCH};

use pss_guard_core::agent;
use pss_guard_core::pods::{self, Extent, Found, Object, PodFacts, Source, Store, Whose};
use serde_json::{Value, json};

use crate::node::{Node, line, root};

const HASH: &str = "d41d8cd98f00b204e9800998ecf8427e";

fn uid(number: u32) -> String {
    format!("{number:08x}-1d4f-4e7d-941e-7a1219bef1c5")
}

fn pod(number: u32, namespace: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("pod-{number}"), "namespace": namespace, "uid": uid(number), "managedFields": [{}]},
        "spec": {"nodeName": "n1", "containers": [{"name": "app", "image": "i", "env": [{"name": "SECRET"}]}]},
        "status": {"phase": "Running"},
    })
}

fn with(mut pod: Value, change: impl FnOnce(&mut Value)) -> Value {
    change(&mut pod);
    pod
}

fn marked(pod: Value, marks: &[&str]) -> Value {
    with(pod, |pod| {
        for mark in marks {
            pod["metadata"]["annotations"][format!("kubernetes.io/config.{mark}")] = json!("file");
        }
    })
}

/// As the kubelet lists its own.
fn static_pod(name: &str, hash: &str) -> Value {
    let pod = with(pod(0, "kube-system"), |pod| {
        pod["metadata"]["uid"] = json!(hash);
        pod["metadata"]["name"] = json!(name);
    });
    marked(pod, &["source", "hash"])
}

fn list(items: &[Value]) -> String {
    json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": items})
        .to_string()
}

/// What an import said, without the folder of the test.
fn import(node: &Node, text: &str, of: Option<&str>) -> Result<String, String> {
    pods::import(&mut text.as_bytes(), of, &node.paths)
        .map(|done| done.to_string())
        .map_err(|error| node.shown(&line(&error)))
}

/// The files of one folder of a node, but for the lock; the copy for the next boot is the same.
fn files(node: &Node, folder: &str) -> Vec<String> {
    let of = |parent: std::path::PathBuf| {
        let Ok(entries) = fs::read_dir(parent.join(folder)) else { return Vec::new() };
        let mut files: Vec<_> = entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some())
            .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(path).unwrap()))
            .collect();
        files.sort();
        files
    };
    let [live, kept] = [of(node.paths.told()), of(node.paths.kept())];
    assert_eq!(live, kept);
    live.into_iter().map(|(name, _)| name).collect()
}

fn names(numbers: &[u32]) -> Vec<String> {
    numbers.iter().map(|number| format!("{}.json", uid(*number))).collect()
}

#[test]
fn a_list_replaces_what_there_was_and_one_that_may_lack_pods_removes_none() {
    if !root() {
        return;
    }
    let node = Node::new();
    let all = [pod(1, "shop"), pod(2, "kube-system"), pod(3, "shop")];
    let one_namespace =
        "; nothing was removed, because the list has only namespace \"shop\", as without --all-namespaces";
    let says = |text: &str| import(&node, text, None).unwrap();
    assert_eq!(says(&list(&all)), "imported 3 pods (3 changed, 0 removed)");
    assert_eq!(files(&node, "pods"), names(&[1, 2, 3]));
    let path = node.paths.told().join("pods").join(format!("{}.json", uid(1)));
    let expected = format!(
        "{{\"v\":1,\"uid\":\"{}\",\"namespace\":\"shop\",\"name\":\"pod-1\",\"source\":\"api\",\"spec\":{{\"containers\":[{{\"name\":\"app\"}}]}}}}\n",
        uid(1)
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), expected);
    let folder = path.parent().unwrap();
    assert_eq!(
        [&path, folder].map(|path| path.metadata().unwrap().permissions().mode() & 0o7777),
        [0o644, 0o755]
    );

    // The same once more writes nothing; but it is known when that was. Of one object it is not.
    let inode = path.metadata().unwrap().ino();
    let long_ago = UNIX_EPOCH + Duration::from_secs(1_000_000);
    let age = || fs::File::open(folder).unwrap().set_modified(long_ago).unwrap();
    let is_old = || folder.metadata().unwrap().modified().unwrap() == long_ago;
    age();
    assert_eq!(says(&list(&all)), "imported 3 pods (0 changed, 0 removed)");
    assert!(path.metadata().unwrap().ino() == inode && !is_old());
    assert_eq!(folder.join(".lock").metadata().unwrap().mode() & 0o7777, 0o600, "nobody else can hold it");
    age();
    assert_eq!(
        says(&pod(4, "shop").to_string()),
        "imported 1 pod (1 changed, 0 removed); all others are unchanged"
    );
    assert!(is_old());
    assert_eq!(says(&list(&all[..1])), format!("imported 1 pod (0 changed, 0 removed){one_namespace}"));
    assert!(is_old());
    assert_eq!(files(&node, "pods"), names(&[1, 2, 3, 4]));

    // A drained node has pods of kube-system alone. What is not ours stays.
    fs::write(folder.join("README.txt"), "").unwrap();
    fs::write(folder.join("Other_pod.json"), "").unwrap();
    assert_eq!(says(&list(&all[1..2])), "imported 1 pod (0 changed, 3 removed)");
    assert!(folder.join("README.txt").exists() && folder.join("Other_pod.json").exists());
    fs::remove_file(folder.join("README.txt")).unwrap();
    fs::remove_file(folder.join("Other_pod.json")).unwrap();
    assert_eq!(files(&node, "pods"), names(&[2]));

    // A damaged file is written again, the live one and the copy.
    let two = folder.join(format!("{}.json", uid(2)));
    chown(&two, Some(1000), None).unwrap();
    fs::write(node.paths.kept().join("pods").join(format!("{}.json", uid(2))), "[").unwrap();
    assert_eq!(says(&list(&all[1..2])), "imported 1 pod (1 changed, 0 removed)");
    assert!(files(&node, "pods") == names(&[2]) && two.metadata().unwrap().uid() == 0);
}

#[test]
fn what_is_no_list_of_pods_changes_nothing() {
    if !root() {
        return;
    }
    let node = Node::new();
    let two = [pod(1, "shop"), pod(2, "kube-system")];
    import(&node, &list(&two), None).unwrap();
    let get = "the output of kubectl get pods -o json";
    let changed = |change: fn(&mut Value)| list(&[two[1].clone(), with(two[0].clone(), change)]);
    let rows: [(&str, String, String); 15] = [
        ("empty", String::new(), "standard input is empty (did kubectl fail?); nothing was changed".to_owned()),
        ("text", "No resources found".to_owned(), format!("parse {get}; nothing was changed: expected value at line 1 column 1")),
        ("no pods", list(&[]), "the list has no pods (is the cluster reachable, and may this user list them?); nothing was changed".to_owned()),
        ("another kind", json!({"kind": "NodeList", "items": []}).to_string(), format!("expected {get}, but got kind \"NodeList\"; nothing was changed")),
        ("others", list(&[json!({"kind": "Node", "metadata": {"name": "a", "namespace": "", "uid": ""}})]), format!("expected {get}, but got kind \"Node\"; nothing was changed")),
        ("a page", json!({"kind": "PodList", "metadata": {"continue": "x"}, "items": two}).to_string(), "the list is one page of several; use kubectl get pods -o json, which fetches all; nothing was changed".to_owned()),
        ("half of it", list(&two)[..300].to_owned(), "EOF while parsing".to_owned()),
        ("a UID that leads away", changed(|pod| pod["metadata"]["uid"] = json!("../x")), "\"../x\" cannot be the UID of a pod".to_owned()),
        ("no UID", changed(|pod| pod["metadata"]["uid"] = json!("")), "\"\" cannot be the UID of a pod".to_owned()),
        ("no namespace", changed(|pod| pod["metadata"]["namespace"] = json!("a/b")), "can be no pod of the source".to_owned()),
        ("no name", changed(|pod| pod["metadata"]["name"] = json!("..")), "can be no pod of the source".to_owned()),
        ("a wrong type", changed(|pod| pod["spec"]["hostNetwork"] = json!("yes")), "expected a boolean".to_owned()),
        ("twice", list(&[two[0].clone(), two[0].clone(), two[1].clone()]), "is in the list twice; nothing was changed".to_owned()),
        ("on no node", list(&[with(two[0].clone(), |pod| pod["spec"]["nodeName"] = Value::Null)]), "the list has no pods on a node".to_owned()),
        ("mirror pods only", list(&[marked(two[0].clone(), &["mirror"])]), "the list has no pods that count".to_owned()),
    ];
    for (name, text, expected) in rows {
        let said = import(&node, &text, None).expect_err(name);
        assert!(said.contains(&expected), "{name}: {said}");
        assert_eq!(files(&node, "pods"), names(&[1, 2]), "{name}");
    }
    let many: Vec<Value> = (0..10_001).map(|number| pod(number, "shop")).collect();
    let said = import(&node, &list(&many), None).unwrap_err();
    assert!(said.starts_with("the list has 10001 pods, more than 10000; use --field-selector"), "{said}");
    assert_eq!(files(&node, "pods"), names(&[1, 2]));
    assert!(import(&node, &format!("{{\"kind\":\"List\",\"items\":{}", "[".repeat(100_000)), None).is_err());
    // Those of one node do, and a pod's author stops nobody else's.
    let large = with(pod(7, "shop"), |pod| {
        let ports: Vec<Value> = (0..400_000).map(|port| json!({"hostPort": port % 60_000})).collect();
        pod["spec"]["containers"][0]["ports"] = json!(ports);
    });
    let elsewhere = with(pod(8, "shop"), |pod| pod["spec"]["nodeName"] = json!("n2"));
    let text = list(&[two.to_vec(), vec![large, elsewhere]].concat());
    let done = pods::import(&mut text.as_bytes(), Some("n1"), &node.paths).unwrap();
    assert_eq!(
        done.to_string(),
        "imported 2 pods (0 changed, 0 removed); 1 pod of no node or another one skipped"
    );
    assert_eq!(done.too_large().collect::<Vec<_>>(), [format!("shop/pod-7 ({})", uid(7))]);
    assert_eq!(files(&node, "pods"), names(&[1, 2]));
    assert!(import(&node, &text, Some("n3")).unwrap_err().starts_with("the list has no pod of node \"n3\""));
}

/// `kubernetes.io/config.mirror` and its kin are annotations: anyone who can create pods can set them.
#[test]
fn static_pods_come_from_the_kubelet_alone_and_mirror_pods_from_nobody() {
    if !root() {
        return;
    }
    let node = Node::new();
    let kubelets = |items: &[Value]| json!({"kind": "PodList", "metadata": {}, "items": items}).to_string();
    let api = |number| marked(pod(number, "shop"), &["source"]);
    let (etcd, dns) = (static_pod("etcd-n1", HASH), static_pod("dns-n1", "00000000000000000000000000000000"));
    let says = |text: &str| import(&node, text, None).unwrap();
    let done = says(&kubelets(&[api(1), etcd.clone(), dns]));
    assert_eq!(done, "imported 1 pod (1 changed, 0 removed), 2 static pods (2 changed, 0 removed)");
    assert_eq!(files(&node, "static"), ["kube-system_dns-n1.json", "kube-system_etcd-n1.json"]);
    let whose = Whose { uid: HASH, namespace: "kube-system", name: "etcd-n1" };
    let Found::Facts(facts) = pods::read(&node.paths.told(), whose).unwrap() else { panic!() };
    assert_eq!((facts.0.source, &*facts.0.uid, &facts.0.owner), (Source::Static, HASH, &None));

    // The API server's list knows mirror pods, true and forged ones; it says nothing of static pods.
    let mirror = marked(
        with(pod(9, "kube-system"), |pod| pod["metadata"]["name"] = json!("etcd-n1")),
        &["source", "hash", "mirror"],
    );
    let forged = with(marked(pod(8, "shop"), &["source", "hash", "mirror"]), |pod| {
        pod["metadata"]["annotations"]["kubernetes.io/config.hash"] = json!(HASH);
        pod["spec"]["hostNetwork"] = json!(true);
    });
    let before = fs::read(node.paths.told().join("static/kube-system_etcd-n1.json")).unwrap();
    let done =
        says(&list(&[pod(2, "kube-system"), mirror, forged, marked(pod(3, "shop"), &["source", "hash"])]));
    assert_eq!(done, "imported 2 pods (2 changed, 1 removed); 2 mirror pods of static pods skipped");
    assert_eq!((files(&node, "pods"), files(&node, "static").len()), (names(&[2, 3]), 2));
    assert_eq!(fs::read(node.paths.told().join("static/kube-system_etcd-n1.json")).unwrap(), before);
    // A UID without dashes that does not say that it is the kubelet's; what only claims to be static.
    let bare = with(etcd.clone(), |pod| pod["metadata"]["annotations"] = Value::Null);
    assert_eq!(
        says(&list(&[pod(2, "kube-system"), pod(3, "shop"), bare])),
        "imported 2 pods (0 changed, 0 removed)"
    );
    // A manifest that is gone.
    let done = says(&kubelets(&[api(2), etcd.clone()]));
    assert_eq!(done, "imported 1 pod (1 changed, 1 removed), 1 static pod (0 changed, 1 removed)");
    // A control plane before its network: all pods of the API are gone.
    assert_eq!(
        says(&kubelets(&[etcd])),
        "imported 0 pods (0 changed, 1 removed), 1 static pod (0 changed, 0 removed)"
    );
    assert_eq!((files(&node, "pods").len(), files(&node, "static").len()), (0, 1));
}

#[test]
fn the_owner_is_the_workload_that_people_know() {
    let owner = |kind: &str, name: &str, controller: bool, hash: Option<&str>| {
        let object = with(pod(1, "shop"), |pod| {
            let other = json!({"kind": "Other", "name": "x"});
            pod["metadata"]["ownerReferences"] =
                json!([other, {"kind": kind, "name": name, "controller": controller}]);
            pod["metadata"]["labels"] = hash.map_or(Value::Null, |hash| json!({"pod-template-hash": hash}));
        });
        let facts = serde_json::from_value::<Object>(object).unwrap().facts().unwrap();
        facts.owner.map(|owner| format!("{} {}", owner.kind, owner.name)).unwrap_or_default()
    };
    for (kind, name, controller, hash, expected) in [
        ("ReplicaSet", "web-7d4b9", true, Some("7d4b9"), "Deployment web"),
        ("ReplicaSet", "web-7d4b9", true, Some("4b9"), "ReplicaSet web-7d4b9"),
        ("ReplicaSet", "web-7d4b9", true, None, "ReplicaSet web-7d4b9"),
        ("ReplicaSet", "web-7d4b9", true, Some(""), "ReplicaSet web-7d4b9"),
        ("ReplicaSet", "-7d4b9", true, Some("7d4b9"), "ReplicaSet -7d4b9"),
        ("StatefulSet", "db-7d4b9", true, Some("7d4b9"), "StatefulSet db-7d4b9"),
        ("Job", "train", true, None, "Job train"),
        ("Job", "train", false, None, ""),
    ] {
        assert_eq!(owner(kind, name, controller, hash), expected, "{kind} {name} {hash:?}");
    }
}

#[test]
fn what_a_list_lacks_stays_until_its_time_has_come_and_halves_of_files_go() {
    if !root() {
        return;
    }
    let node = Node::new();
    let facts = |number: u32| -> PodFacts {
        serde_json::from_value::<Object>(pod(number, "shop")).unwrap().facts().unwrap()
    };
    let store = Store::of(&node.paths).unwrap();
    let all = [1, 2, 3].map(facts);
    store.replace_all(&all, Extent::All, Extent::Some).unwrap();
    let pods = node.paths.told().join("pods");
    let (half, ours) = (pods.join(format!("{}.json.71", uid(1))), pods.join("x.json.bak"));
    fs::write(&half, "{").unwrap();
    fs::write(&ours, "{").unwrap();
    let gone = [uid(2), "../escape".to_owned()].into();
    let done = store.replace_all(&all[..1], Extent::Gone(&gone), Extent::Some).unwrap();
    assert_eq!((done[0].changed, done[0].removed), (0, 1));
    assert_eq!(store.names(Source::Api).unwrap(), [uid(1), uid(3)].into());
    assert!(!half.exists() && ours.exists(), "what a writer that was killed left, and what is not ours");
    fs::remove_file(ours).unwrap();
    assert_eq!(files(&node, "pods"), names(&[1, 3]));
    // What is listed stays, whatever was said of it.
    let gone = [uid(1), uid(3)].into();
    store.replace_all(&all[..1], Extent::Gone(&gone), Extent::Some).unwrap();
    assert_eq!(files(&node, "pods"), names(&[1]));
}

#[test]
fn an_agent_remembers_since_when_pods_are_gone() {
    if !root() {
        return;
    }
    let node = Node::new();
    assert!(agent::gone(&node.paths, Source::Api).is_empty());
    let gone: BTreeMap<String, u64> = [(uid(1), 1_795_956_670)].into();
    assert!(agent::put_gone(&node.paths, Source::Api, &gone).unwrap());
    assert!(!agent::put_gone(&node.paths, Source::Api, &gone).unwrap());
    assert_eq!(agent::gone(&node.paths, Source::Api), gone);
    assert!(agent::gone(&node.paths, Source::Static).is_empty());
    for damage in ["", "[", "{\"a\":-1}", "[[[["] {
        fs::write(node.paths.told().join("agent/gone-pods.json"), damage).unwrap();
        assert!(agent::gone(&node.paths, Source::Api).is_empty(), "{damage}");
    }
}

#[test]
fn one_pod_is_put_and_removed_here_and_for_the_next_boot() {
    if !root() {
        return;
    }
    let node = Node::new();
    let facts = |number: u32| -> PodFacts {
        serde_json::from_value::<Object>(pod(number, "shop")).unwrap().facts().unwrap()
    };
    // As the kubelet makes it when it mounts it into the agent's container.
    fs::create_dir_all(node.paths.told().join("pods")).unwrap();
    assert!(matches!(pods::read(&node.paths.told(), facts(1).whose()), Ok(Found::NoFolder)));
    let store = Store::of(&node.paths).unwrap();
    let all = [facts(1), facts(2)];
    assert_eq!(store.replace_all(&all, Extent::All, Extent::Some).unwrap()[0].changed, 2);
    assert!(!node.paths.told().join("static").exists(), "an empty one would make every static pod unknown");
    assert!(matches!(pods::read(&node.paths.told(), facts(3).whose()), Ok(Found::Missing)));
    let time = || node.paths.told().join("pods").metadata().unwrap().modified().unwrap();
    let listed = time();
    assert_eq!([3, 3].map(|number| store.put(&facts(number)).unwrap()), [true, false]);
    store.keep().unwrap();
    assert_eq!(files(&node, "pods"), names(&[1, 2, 3]));
    assert_eq!([1, 1].map(|number| store.remove(Source::Api, &uid(number)).unwrap()), [true, false]);
    store.keep().unwrap();
    assert_eq!(files(&node, "pods"), names(&[2, 3]));
    assert_eq!(time(), listed, "the folder's time is that of the last list");
    // Nothing is removed where nobody would have written it, and no empty list removes anything.
    for (source, name) in
        [(Source::Api, "../x"), (Source::Api, ""), (Source::Static, "x"), (Source::Static, "a_../x")]
    {
        let said = line(&store.remove(source, name).unwrap_err());
        assert!(said.contains("can be no pod of the source"), "{name:?}: {said}");
    }
    let said = line(&store.replace_all(&[], Extent::All, Extent::All).unwrap_err());
    assert!(said.starts_with("the list has no pods that count; "), "{said}");
    assert_eq!(files(&node, "pods"), names(&[2, 3]));
    // What cannot be kept is in force all the same.
    fs::remove_dir_all(node.paths.kept().join("pods")).unwrap();
    fs::write(node.paths.kept().join("pods"), "").unwrap();
    assert!(store.put(&facts(5)).unwrap());
    let said = line(&store.keep().unwrap_err());
    assert!(
        said.starts_with("facts of pods were written, but cannot be saved for the next boot: "),
        "{said}"
    );
    assert!(matches!(pods::read(&node.paths.told(), facts(5).whose()), Ok(Found::Facts(_))));
}
