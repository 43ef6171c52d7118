//! An agent that is killed at any call that changes something: is every file whole, and does the next one finish?

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitStatus};

use pss_guard_core::agent::{self, Known, Report};
use pss_guard_core::cluster;
use pss_guard_core::level::{Labels, namespaces};
use pss_guard_core::paths::Paths;
use pss_guard_core::pods::{PodFacts, Source};
use pss_guard_core::spool::Position;
use serde_json::{Value, json};

use super::Pods;
use super::tests::{list, pod, uid, watched};
use crate::metrics::Metrics;
use crate::testing;

/// What changes something on the disk.
const WRITES: &str = "openat,rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir,mkdirat,write,fchmod,chmod,fchmodat,utimensat";

/// Says to the test below that it is the agent, and on which root.
const ROOT: &str = "PSS_GUARD_TEST_ROOT";

const FOLDERS: [&str; 4] = ["namespaces", "pods", "static", "agent"];

/// So many calls of the most usual kinds come first: strace counts for each thread by itself, and no other makes as many.
const FIRST: usize = 100;

/// All that an agent writes, once.
fn run(root: &Path) {
    use std::io::Write as _;
    for _ in 0..FIRST {
        fs::File::options().write(true).open("/dev/null").unwrap().write_all(b".").unwrap();
    }
    let paths = Paths::under(root);
    let (metrics, controllers) = (Metrics::new(), RefCell::default());

    let store = namespaces::Store::of(&paths).unwrap();
    let labels = |level: &'static str| {
        let mut labels = Labels::default();
        labels.set("pod-security.kubernetes.io/enforce", level.into());
        labels
    };
    let all = ["default", "kube-public", "kube-system", "shop", "old"]
        .map(|name| (name.to_owned(), labels("baseline")));
    store.replace_all(&all.into()).unwrap();
    store.put("shop", &labels("restricted")).unwrap();
    store.remove("old").unwrap();
    store.keep().unwrap();

    let mut pods = Pods::of(&paths, &metrics, &controllers).unwrap();
    list(&mut pods, [1, 2].map(pod));
    pods.apply(watched(pod(3))).unwrap();
    let mut debugged = pod(1);
    debugged["spec"]["ephemeralContainers"] = json!([{"name": "debug"}]);
    pods.apply(watched(debugged)).unwrap();
    pods.delete(&uid(2)).unwrap();
    agent::put_gone(&paths, Source::Api, &[(uid(2), 0)].into()).unwrap();
    drop(pods);
    let mut pods = Pods::of(&paths, &metrics, &controllers).unwrap();
    pods.forget().unwrap();
    let of_static: PodFacts = PodFacts::of_static("kube-system", "etcd-node-1", pss::pod::Pod::default());
    pods.store.put(&of_static).unwrap();
    pods.store.keep().unwrap();

    cluster::import(&mut &br#"{"major":"1","minor":"36","gitVersion":"v1.36.1"}"#[..], &paths).unwrap();
    agent::put(&paths, &Report::new(7, true, Known { pods: 2, static_pods: 1, namespaces: 4 }, "0")).unwrap();
    agent::put_position(&paths, Position::default()).unwrap();
}

/// Whether this process is the agent.
fn is_agent() -> bool {
    let Some(root) = std::env::var_os(ROOT) else { return false };
    run(Path::new(&root));
    true
}

fn agent_under_strace(root: &Path, options: &[&str]) -> ExitStatus {
    let own = std::env::current_exe().unwrap();
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq"]).args(options).arg(own);
    strace.args([
        "--exact",
        "pods::kills::an_agent_that_is_killed_at_any_write_leaves_whole_files",
        "--test-threads=1",
    ]);
    strace.env(ROOT, root).output().unwrap().status
}

/// The files below a root by their paths, but for locks.
fn files(root: &Path) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for parent in ["run/pss-guard", "var/lib/pss-guard"] {
        for folder in FOLDERS {
            let Ok(entries) = fs::read_dir(root.join(parent).join(folder)) else { continue };
            for entry in entries {
                let path = entry.unwrap().path();
                if path.file_name().is_some_and(|name| name != ".lock") {
                    let content =
                        if path.is_dir() { "a folder".into() } else { fs::read_to_string(&path).unwrap() };
                    files.insert(path.strip_prefix(root).unwrap().display().to_string(), content);
                }
            }
        }
    }
    files
}

#[test]
fn an_agent_that_is_killed_at_any_write_leaves_whole_files() {
    const TEST: &str = "an_agent_that_is_killed_at_any_write_leaves_whole_files";
    if is_agent() || !testing::root(TEST) {
        return;
    }
    if Command::new("strace").arg("--version").output().is_err() {
        eprintln!("SKIPPED {TEST}: needs strace");
        return;
    }
    let whole = tempfile::tempdir().unwrap();
    let log = whole.path().join("log");
    assert!(
        agent_under_strace(whole.path(), &["-o", log.to_str().unwrap(), "-e", &format!("trace={WRITES}")])
            .success()
    );
    let last = files(whole.path());
    let names: Vec<&str> = last.keys().map(String::as_str).collect();
    assert!(names.len() >= 7 * 2 + 5, "{names:?}");
    run(whole.path());
    assert_eq!(files(whole.path()), last, "the second one changes nothing");

    // Each call by its name and its number among those of its thread.
    let mut calls = Vec::new();
    let mut numbers: BTreeMap<(String, String), usize> = BTreeMap::new();
    for line in fs::read_to_string(&log).unwrap().lines() {
        let Some((thread, call)) = line.split_once(' ') else { continue };
        let Some((name, rest)) = call.trim().split_once('(') else { continue };
        let number = numbers.entry((thread.to_owned(), name.to_owned())).or_default();
        *number += 1;
        let is_first = ["openat", "write"].contains(&name) && *number <= FIRST;
        let is_read = name == "openat" && !rest.contains("O_CREAT");
        let is_said = name == "write" && rest.starts_with("1,");
        if !is_first && !is_read && !is_said {
            calls.push((name.to_owned(), *number));
        }
    }
    assert!(calls.len() > 80, "too few to be all: {calls:?}");

    let mut killed = 0;
    for (name, number) in &calls {
        let what = format!("killed at {name} number {number}");
        let root = tempfile::tempdir().unwrap();
        let inject = format!("inject={name}:signal=SIGKILL:when={number}");
        let status = agent_under_strace(root.path(), &["-o", "/dev/null", "-e", &inject]);
        assert!(!status.success(), "{what}: nobody was killed");
        killed += 1;
        for (path, text) in files(root.path()) {
            // What has another ending nobody reads.
            let is_read = Path::new(&path).extension().is_some_and(|extension| extension == "json");
            let is_whole = !is_read || serde_json::from_str::<Value>(&text).is_ok();
            assert!(is_whole, "{what}: {path} is not whole: {text:?}");
        }
        run(root.path());
        assert_eq!(files(root.path()), last, "{what}, then run again");
    }
    println!("killed {killed} times");
}
