//! Which mode is in force, whatever lies in the way of the policy and of the file of a temporary mode?

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use pss_guard::level::Mode;
use pss_guard::mode::in_force;
use pss_guard::paths::Paths;
use serde_json::Value;

use super::{Break, FILE, MINUTE, POLICY, boot, call, changes, hook, lay, learn, node, said, text};
use crate::support::node::Node;
use crate::support::run::{self, feed};
use crate::support::{needs, program};

/// What lies where a temporary mode would, made for this mode.
type Lay = fn(&Node, &str);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Holds,
    Ended,
    Ignored,
}

const POLICIES: [(&str, Break, &str); 9] = [
    ("audit", |node| drop(node.policy("mode = \"audit\"\n")), "audit"),
    ("enforce", |node| drop(node.policy("mode = \"enforce\"\n")), "enforce"),
    ("says nothing", |node| drop(node.policy("")), "audit"),
    ("missing", |node| fs::remove_file(node.root().join(POLICY)).expect("a policy"), "audit"),
    ("broken, nothing known", |node| drop(node.policy("mode = ")), "enforce"),
    ("broken, audit known", |node| drop(node.policy("mode = \"audit\"\nx = 1\n")), "audit"),
    (
        "broken after audit",
        |node| {
            learn(node, "mode = \"audit\"\n");
            node.policy("mode = ");
        },
        "audit",
    ),
    (
        "gone after enforce",
        |node| {
            learn(node, "mode = \"enforce\"\n");
            fs::remove_file(node.root().join(POLICY)).expect("a policy");
        },
        "enforce",
    ),
    (
        "gone after audit",
        |node| {
            learn(node, "mode = \"audit\"\n");
            fs::remove_file(node.root().join(POLICY)).expect("a policy");
        },
        "audit",
    ),
];

const LAYS: [(&str, Lay, Fate); 23] = [
    ("holds", |node, mode| drop(lay(node, &text(mode, MINUTE, MINUTE))), Fate::Holds),
    ("has just begun", |node, mode| drop(lay(node, &text(mode, 0, MINUTE))), Fate::Holds),
    ("holds for a day", |node, mode| drop(lay(node, &text(mode, 0, 1440 * MINUTE))), Fate::Holds),
    (
        "has a key of a later version",
        |node, mode| drop(lay(node, &text(mode, 0, MINUTE).replacen('{', "{\"x\":1,", 1))),
        Fate::Holds,
    ),
    (
        // Neither of these times is asked.
        "was written in 1970",
        |node, mode| {
            let path = lay(node, &text(mode, 0, MINUTE));
            run::run(Command::new("touch").args(["-d", "@0"]).arg(path)).expect_success();
        },
        Fate::Holds,
    ),
    ("has ended", |node, mode| drop(lay(node, &text(mode, MINUTE, 0))), Fate::Ended),
    ("ended long ago", |node, mode| drop(lay(node, &text(mode, 2 * MINUTE, -MINUTE))), Fate::Ended),
    (
        "is another boot's",
        |node, mode| {
            let other = "00000000-0000-4000-8000-000000000000";
            lay(node, &text(mode, 0, MINUTE).replace(&boot(), other));
        },
        Fate::Ended,
    ),
    ("has not begun", |node, mode| drop(lay(node, &text(mode, -MINUTE, 2 * MINUTE))), Fate::Ignored),
    ("is too long", |node, mode| drop(lay(node, &text(mode, 0, 1441 * MINUTE))), Fate::Ignored),
    ("ends before it begins", |node, mode| drop(lay(node, &text(mode, 0, -MINUTE))), Fate::Ignored),
    (
        "is of no boot",
        |node, mode| drop(lay(node, &text(mode, 0, MINUTE).replace(&boot(), ""))),
        Fate::Ignored,
    ),
    ("is empty", |node, _| drop(lay(node, "")), Fate::Ignored),
    ("is garbage", |node, _| drop(lay(node, "garbage")), Fate::Ignored),
    (
        "is half",
        |node, mode| {
            let text = text(mode, 0, MINUTE);
            lay(node, &text[..text.len() / 2]);
        },
        Fate::Ignored,
    ),
    (
        "has another mode",
        |node, mode| drop(lay(node, &text(mode, 0, MINUTE).replace(mode, "off"))),
        Fate::Ignored,
    ),
    (
        "is huge",
        |node, mode| drop(lay(node, &(text(mode, 0, MINUTE) + &" ".repeat(17 << 10)))),
        Fate::Ignored,
    ),
    (
        "is a link",
        |node, mode| {
            let real = lay(node, &text(mode, 0, MINUTE));
            fs::rename(&real, real.with_extension("real")).expect("a file of ours");
            symlink("mode.real", real).expect("a link");
        },
        Fate::Ignored,
    ),
    (
        "is somebody else's",
        |node, mode| chown(lay(node, &text(mode, 0, MINUTE)), Some(1000), None).expect("chown"),
        Fate::Ignored,
    ),
    (
        "can be written by anybody",
        |node, mode| {
            let path = lay(node, &text(mode, 0, MINUTE));
            fs::set_permissions(path, Permissions::from_mode(0o646)).expect("chmod");
        },
        Fate::Ignored,
    ),
    (
        "can be written by a group",
        |node, mode| {
            let path = lay(node, &text(mode, 0, MINUTE));
            fs::set_permissions(path, Permissions::from_mode(0o664)).expect("chmod");
        },
        Fate::Ignored,
    ),
    (
        "is a FIFO",
        |node, _| {
            fs::create_dir_all(node.root().join("run/pss-guard")).expect("a folder");
            run::run(Command::new("mkfifo").arg(node.root().join(FILE))).expect_success();
        },
        Fate::Ignored,
    ),
    ("is a folder", |node, _| fs::create_dir_all(node.root().join(FILE)).expect("a folder"), Fate::Ignored),
];

#[test]
fn the_mode_in_force_is_the_policys_unless_a_file_that_can_be_believed_says_otherwise() {
    if !needs::can_run(
        "the_mode_in_force_is_the_policys_unless_a_file_that_can_be_believed_says_otherwise",
        &[],
    ) {
        return;
    }
    let nothing: (&str, Lay, Fate) = ("is not there", |_, _| (), Fate::Ignored);
    thread::scope(|scope| {
        for policy in POLICIES {
            scope.spawn(move || {
                for lay in LAYS.into_iter().chain([nothing]) {
                    for mode in ["audit", "enforce"] {
                        assert_in_force(policy, lay, mode);
                    }
                }
            });
        }
    });
}

fn assert_in_force(
    (policy, break_it, known): (&str, Break, &str),
    (what, lay, fate): (&str, Lay, Fate),
    mode: &str,
) {
    let row = format!("policy {policy}, {mode} for a time that {what}");
    let node = node("");
    break_it(&node);
    lay(&node, mode);
    let expected = if fate == Fate::Holds { mode } else { known };
    let output = hook(&node);
    assert_eq!(output.status.code(), Some(if expected == "audit" { 0 } else { 2 }), "{row}: {output:?}");
    // The wrapper is another way into the same gate.
    let entry = program::entry(node.root(), "containerd", "runc", Path::new("/bin/true"));
    let mut wrapper = Command::new(&entry);
    wrapper.args(["create", "--bundle"]).arg(node.bundle()).arg("x");
    let done = run::run(&mut wrapper);
    assert_eq!(done.code, Some(if expected == "audit" { 0 } else { 2 }), "{row}: {done}");

    let events = node.events();
    let faults: Vec<&Value> = events.iter().filter(|event| event["PSS_DECISION"] == "fault").collect();
    assert_eq!(faults.len(), 2, "{row}: {events:?}");
    assert!(faults.iter().all(|event| event["PSS_MODE"] == expected), "{row}: {events:?}");
    let ends = changes(&node);
    assert_eq!(ends.len(), usize::from(fate == Fate::Ended), "{row}: {events:?}");
    if let [end] = ends.as_slice() {
        let expected = [("PSS_MODE", known), ("PSS_WHO", "alice"), ("PSS_REASON", "why")];
        assert!(expected.iter().all(|(field, value)| end[field] == *value), "{row}: {end}");
        let name = if mode == "audit" { "break-glass" } else { "trial" };
        let message = end["MESSAGE"].as_str().unwrap_or_default();
        let how = if what.contains("boot") { "ended with a reboot" } else { "ended at 2" };
        assert!(message.starts_with(&format!("mode {known}: the {name} of alice {how}")), "{row}: {message}");
    }
    let there = fs::symlink_metadata(node.root().join(FILE)).is_ok();
    assert_eq!(there, fate != Fate::Ended && what != "is not there", "{row}");
    let said = said(&node);
    assert_eq!(said["mode"], expected, "{row}: {said}");
    assert_eq!(said["temporary"].is_object(), fate == Fate::Holds, "{row}: {said}");
    assert_eq!(said["ignored"].is_string(), fate == Fate::Ignored && there, "{row}: {said}");
}

#[test]
fn only_the_clock_of_the_boot_ends_it() {
    let test = "only_the_clock_of_the_boot_ends_it";
    if !needs::can_run(test, &["unshare"]) {
        return;
    }
    let later = |seconds: &str| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--time", "--boottime", seconds, "--fork"]);
        unshare
    };
    let probe = run::run(later("0").arg("true"));
    if probe.code != Some(0) && !needs::skip(test, &format!("time namespaces: {}", probe.stderr)) {
        return;
    }
    // (seconds that pass, what holds then)
    let rows = [("0", "audit"), ("3500", "audit"), ("3601", "enforce"), ("100000000", "enforce")];
    for (seconds, mode) in rows {
        let node = node("mode = \"enforce\"\n");
        call(&node, &["audit", "--for", "1h"]).expect_success();
        let mut moved = later(seconds);
        moved.arg(program::gate()).args(["hook", "--engine", "containerd", "--root"]).arg(node.root());
        let output = feed(&mut moved, node.state().as_bytes());
        assert_eq!(output.status.code(), Some(if mode == "audit" { 0 } else { 2 }), "{seconds}: {output:?}");
        assert_eq!(
            changes(&node).len(),
            if mode == "audit" { 1 } else { 2 },
            "{seconds}: {:?}",
            node.events()
        );
    }
}

#[test]
fn an_end_that_many_see_at_once_is_written_down_once() {
    if !needs::can_run("an_end_that_many_see_at_once_is_written_down_once", &[]) {
        return;
    }
    for round in 0..8 {
        let node = node("mode = \"enforce\"\n");
        lay(&node, &text("audit", MINUTE, 0));
        let start = |nth: usize| {
            let mut command = match nth % 4 {
                0 => {
                    let mut mode = Command::new(program::binary());
                    mode.arg("--root").arg(node.root()).arg("mode");
                    mode
                }
                _ => node.hook_command(),
            };
            let io = || Stdio::null();
            command.stdin(io()).stdout(io()).stderr(io()).spawn().expect("a child")
        };
        let mut children: Vec<_> = (0..24).map(start).collect();
        // A new one while the old one is cleared away: it stays.
        if round % 2 == 1 {
            call(&node, &["audit", "--for", "1h"]).expect_success();
        }
        for child in &mut children {
            child.wait().expect("a child of ours");
        }
        let changes = changes(&node);
        let ended = changes.iter().filter(|event| event["PSS_WHO"] == "alice").count();
        assert_eq!(ended, 1, "{changes:?}");
        assert_eq!(changes.len(), 1 + round % 2, "{changes:?}");
        assert_eq!(said(&node)["mode"], if round % 2 == 1 { "audit" } else { "enforce" });
    }
}

#[test]
fn whoever_comes_late_to_an_end_takes_nothing_away() {
    if !needs::can_run("whoever_comes_late_to_an_end_takes_nothing_away", &[]) {
        return;
    }
    let node = node("mode = \"enforce\"\n");
    let paths = Paths::under(node.root());
    let seen = || {
        lay(&node, &text("audit", MINUTE, 0));
        in_force(&paths, Mode::Enforce)
    };
    // Another mode was put in force since it was looked at.
    let late = seen();
    call(&node, &["audit", "--for", "1h"]).expect_success();
    late.settle(&paths);
    assert_eq!(said(&node)["mode"], "audit");
    assert_eq!(changes(&node).len(), 2, "its end and the new one: {:?}", changes(&node));

    // Another is about to be.
    let early = seen();
    let lock = fs::File::open(paths.mode_lock()).expect("the lock");
    lock.lock().expect("to lock a file");
    early.settle(&paths);
    assert!(paths.temporary_mode().exists(), "who holds the lock clears it away");
    assert_eq!(changes(&node).len(), 2);
    drop(lock);
    early.settle(&paths);
    early.settle(&paths);
    assert!(!paths.temporary_mode().exists());
    assert_eq!(changes(&node).len(), 3);
}

#[test]
fn what_is_not_believed_is_in_nobodys_way() {
    if !needs::can_run("what_is_not_believed_is_in_nobodys_way", &[]) {
        return;
    }
    let ignored = LAYS.into_iter().filter(|(what, _, fate)| *fate == Fate::Ignored && *what != "is a folder");
    for (what, lay, _) in ignored {
        let node = node("mode = \"enforce\"\n");
        lay(&node, "audit");
        let done = call(&node, &["audit", "--for", "1h"]).expect_success();
        assert_eq!(hook(&node).status.code(), Some(0), "{what}: {done}");
        let done = call(&node, &["--end"]).expect_success();
        assert!(done.stdout.contains("; the mode is enforce again"), "{what}: {done}");
        lay(&node, "audit");
        let done = call(&node, &["--end"]).expect_success();
        assert!(done.stdout.starts_with("removed a file that was not trusted ("), "{what}: {done}");
        assert!(fs::symlink_metadata(node.root().join(FILE)).is_err(), "{what}");
        assert_eq!(changes(&node).len(), 2, "{what}: {:?}", changes(&node));
    }
}
