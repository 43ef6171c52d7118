//! Does the gate keep a copy of its events for the agent, and does nothing that happens to that copy matter to anything
//! else?

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use pss_guard::spool::{self, LIMIT, Position};
use serde_json::Value;

use crate::support::node::Node;
use crate::support::run::feed;
use crate::support::{needs, program};

fn folder(node: &Node) -> PathBuf {
    let folder = node.path("run/pss-guard/events");
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// How many containers each gate's loop starts.
const EACH: u64 = 6;

/// Something that is wrong with the folder.
type Damage = fn(&Path);

const DENIED: Option<i32> = Some(30);

/// What the gate is called with for a container of this id.
fn start(node: &Node, id: &str) -> Option<i32> {
    let mut state: Value = serde_json::from_str(&node.state()).unwrap();
    state["id"] = id.into();
    feed(&mut node.hook_command(), state.to_string().as_bytes()).status.code()
}

/// The events behind a position, in full.
fn events(folder: &Path, after: Position) -> (Vec<Value>, spool::Read) {
    let mut events = Vec::new();
    let read = spool::read(folder, after, &mut |line| events.push(serde_json::from_slice(line).unwrap()));
    (events, read.unwrap())
}

#[test]
fn what_the_agent_reads_is_what_the_journal_would_have() {
    if !needs::can_run("what_the_agent_reads_is_what_the_journal_would_have", &[]) {
        return;
    }
    let node = Node::refusing();
    // Nobody has made the folder: nothing is kept, and nothing is made.
    assert_eq!(start(&node, "c0"), DENIED);
    assert!(!node.path("run/pss-guard/events").exists());
    let folder = folder(&node);
    assert_eq!(start(&node, "c1"), DENIED);
    node.call(&["mode", "audit", "--for", "1h"]).expect_success();
    assert_eq!(start(&node, "c2"), Some(0));
    let (mut found, read) = events(&folder, Position::default());
    let mut expected = node.events().split_off(1);
    for event in found.iter_mut().chain(&mut expected) {
        assert!(event.as_object_mut().unwrap().remove("__REALTIME_TIMESTAMP").is_some());
    }
    assert_eq!((found.len(), read.lost, read.dropped), (3, 0, 0));
    assert_eq!(found, expected);
    // A start of which there is nothing to say leaves nothing in the spool either.
    node.config("shop");
    assert_eq!(start(&node, "c3"), Some(0));
    assert_eq!(events(&folder, read.position).0, [] as [Value; 0]);
}

#[test]
fn of_sixteen_gates_at_once_each_event_is_there_once_or_counted() {
    if !needs::can_run("of_sixteen_gates_at_once_each_event_is_there_once_or_counted", &[]) {
        return;
    }
    // How full the spool is when they begin: the second time they go over its bound, the third time over both files'.
    for (full, loses) in [(0, false), (LIMIT - 30_000, false), (2 * LIMIT - 30_000, true)] {
        let node = Node::refusing();
        let folder = folder(&node);
        let mut before = 0;
        while before * 2_050 < full {
            // What another test forks holds the lock as well, until it is another program.
            let _ = spool::append(&folder, || format!("{{\"x\":\"{}\"}}", "x".repeat(2_040)));
            before += 1;
        }
        let started = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    for _ in 0..EACH {
                        let id = format!("c{}", started.fetch_add(1, Ordering::Relaxed));
                        assert_eq!(start(&node, &id), DENIED);
                    }
                });
            }
        });
        let (found, read) = events(&folder, Position::default());
        let all = before + 16 * EACH;
        // A machine that lets one of them wait too long for its turn counts that.
        assert_eq!(found.len() as u64 + read.lost + read.dropped, all, "{full}: {read:?}");
        assert_eq!(read.lost > 0, loses, "{full}");
        let ids: Vec<&str> = found.iter().filter_map(|event| event["PSS_CONTAINER_ID"].as_str()).collect();
        assert_eq!(ids.len() as u64 + read.dropped, 16 * EACH, "the newest are kept: {full}");
        assert!(read.dropped < 8 * EACH, "{full}: {read:?}");
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{full}");
        assert_eq!(node.events().len() as u64, 16 * EACH, "the journal's way has all of them");
        for name in ["events.jsonl", "events.jsonl.1"] {
            assert!(fs::metadata(folder.join(name)).map_or(0, |file| file.len()) <= LIMIT, "{full}: {name}");
        }
    }
}

#[test]
fn whatever_is_wrong_with_the_spool_changes_neither_the_verdict_nor_the_journal() {
    if !needs::can_run("whatever_is_wrong_with_the_spool_changes_neither", &[]) {
        return;
    }
    let fifo: Damage = |path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let rows: [(&str, Damage); 8] = [
        ("a FIFO in its place", |path| {
            fs::remove_dir(path).unwrap();
            nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        }),
        ("a link in its place", |path| {
            fs::remove_dir(path).unwrap();
            symlink("/tmp", path).unwrap();
        }),
        ("a file in its place", |path| {
            fs::remove_dir(path).unwrap();
            fs::write(path, "").unwrap();
        }),
        ("somebody else's", |path| std::os::unix::fs::chown(path, Some(1000), None).unwrap()),
        ("open to all", |path| fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap()),
        ("a link as the file", |path| symlink("/dev/full", path.join("events.jsonl")).unwrap()),
        ("folders as all of its files", |path| {
            for name in ["events.jsonl", "events.jsonl.1", "lock", "dropped"] {
                fs::create_dir(path.join(name)).unwrap();
            }
        }),
        ("garbage in a full file", |path| {
            let garbage = "garbage\n".repeat(usize::try_from(LIMIT / 8).unwrap());
            fs::write(path.join("events.jsonl"), garbage).unwrap();
        }),
    ];
    for (what, damage) in rows {
        let node = Node::refusing();
        let folder = folder(&node);
        damage(&folder);
        assert_eq!(start(&node, "c1"), DENIED, "{what}");
        assert_eq!(node.events().len(), 1, "{what}");
    }
    // A FIFO as each of the files: nothing waits for somebody at its other end.
    for name in ["events.jsonl", "lock", "dropped"] {
        let node = Node::refusing();
        fifo(&folder(&node).join(name));
        assert_eq!(start(&node, "c1"), DENIED, "{name}");
        assert_eq!(node.events().len(), 1, "{name}");
    }
}

#[test]
fn where_there_is_no_room_for_an_event_no_half_of_it_is_left() {
    if !needs::can_run("where_there_is_no_room_for_an_event_no_half_of_it_is_left", &["unshare", "mount"]) {
        return;
    }
    let node = Node::refusing();
    let folder = folder(&node);
    // Room for a few events, and then for a part of one. What is seen in that mount is copied out of it.
    let copy = node.path("copy");
    fs::create_dir(&copy).unwrap();
    let script = "mount -t tmpfs -o size=16k,mode=755 none \"$F\"; for i in $(seq 30); do \
                  code=0; \"$0\" \"$@\" <\"$S\" 2>/dev/null || code=$?; [ $code = 30 ]; done; cp -a \"$F\"/. \"$C\"";
    let state = node.file("state.json", &node.state());
    let mut full = Command::new("unshare");
    full.env("F", &folder).env("C", &copy).env("S", state).args(["--mount", "sh", "-ec", script]);
    full.arg(program::gate()).args(["hook", "--engine", "containerd", "--root"]).arg(node.root());
    crate::support::run::run(&mut full).expect_success();
    assert_eq!(node.events().len(), 30);
    let text = fs::read_to_string(copy.join("events.jsonl")).unwrap();
    let whole = text.lines().skip(1).filter(|line| serde_json::from_str::<Value>(line).is_ok()).count();
    assert!(text.ends_with('\n') && whole == text.lines().count() - 1, "{text}");
    assert!((1..30).contains(&whole), "{whole}");
}
