//! Which mode is in force, whatever lies in the way, and how does it change?

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::thread;

use nix::pty::{OpenptyResult, openpty};
use nix::time::{ClockId, clock_gettime};
use pss_guard::level::Mode;
use pss_guard::mode::in_force;
use pss_guard::paths::Paths;
use serde_json::{Value, json};

use crate::faults::{Node, feed};
use crate::journal::Journal;
use crate::node::Gate;
use crate::pod::{Engine, Pod};
use crate::util::{self, Done};
use crate::{install, node};

const FILE: &str = "run/pss-guard/mode.json";
const POLICY: &str = "etc/pss-guard/policy.toml";
const MINUTE: i64 = 60_000;

/// A node whose container cannot be judged: it starts in audit mode, and in enforce mode it does not, whatever else the
/// policy says.
fn node(policy: &str) -> Node {
    let node = Node::new(policy);
    fs::write(node.bundle().join("config.json"), "garbage").expect("a file of ours");
    node
}

fn hook(node: &Node) -> Output {
    feed(&mut node.command(), node.state().as_bytes())
}

fn call(node: &Node, arguments: &[&str]) -> Done {
    util::run(Command::new(node::binary()).arg("--root").arg(node.root()).arg("mode").args(arguments))
}

fn changes(node: &Node) -> Vec<Value> {
    let mut events = node.events();
    events.retain(|event| event["PSS_DECISION"] == "mode-change");
    events
}

fn said(node: &Node) -> Value {
    serde_json::from_str(&call(node, &["--json"]).expect_success().stdout).expect("one object")
}

/// This moment, as the file counts.
fn now() -> i64 {
    let clock = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("a clock");
    clock.tv_sec() * 1000 + clock.tv_nsec() / 1_000_000
}

fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("a boot id").trim_end().to_owned()
}

/// The file of a mode that began `since` milliseconds ago and ends `until` milliseconds from now.
fn text(mode: &str, since: i64, until: i64) -> String {
    let now = now();
    let (since, until) = (now - since, now + until);
    json!({"mode": mode, "boot": boot(), "since": since, "until": until, "who": "alice", "reason": "why"})
        .to_string()
}

/// Breaks a policy that said something.
type Break = fn(&Node);

/// What lies where a temporary mode would, made for this mode.
type Lay = fn(&Node, &str);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Holds,
    Ended,
    Ignored,
}

fn learn(node: &Node, policy: &str) {
    // Whatever comes of it, the policy is read.
    node.policy(policy);
    hook(node);
    let _ = fs::remove_file(node.root().join("var/log/pss-guard/decisions.jsonl"));
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

fn lay(node: &Node, text: &str) -> PathBuf {
    node.file(FILE, text)
}

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
            util::run(Command::new("touch").args(["-d", "@0"]).arg(path)).expect_success();
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
            util::run(Command::new("mkfifo").arg(node.root().join(FILE))).expect_success();
        },
        Fate::Ignored,
    ),
    ("is a folder", |node, _| fs::create_dir_all(node.root().join(FILE)).expect("a folder"), Fate::Ignored),
];

#[test]
fn the_mode_in_force_is_the_policys_unless_a_file_that_can_be_believed_says_otherwise() {
    if !util::can_run(
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
    let entry = node::entry(node.root(), "containerd", "runc", Path::new("/bin/true"));
    let mut wrapper = Command::new(&entry);
    wrapper.args(["create", "--bundle"]).arg(node.bundle()).arg("x");
    let done = util::run(&mut wrapper);
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
    if !util::can_run(test, &["unshare"]) {
        return;
    }
    let later = |seconds: &str| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--time", "--boottime", seconds, "--fork"]);
        unshare
    };
    let probe = util::run(later("0").arg("true"));
    if probe.code != Some(0) && !util::skip(test, &format!("time namespaces: {}", probe.stderr)) {
        return;
    }
    // (seconds that pass, what holds then)
    let rows = [("0", "audit"), ("3500", "audit"), ("3601", "enforce"), ("100000000", "enforce")];
    for (seconds, mode) in rows {
        let node = node("mode = \"enforce\"\n");
        call(&node, &["audit", "--for", "1h"]).expect_success();
        let mut moved = later(seconds);
        moved.arg(node::binary()).args(["hook", "--engine", "containerd", "--root"]).arg(node.root());
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
    if !util::can_run("an_end_that_many_see_at_once_is_written_down_once", &[]) {
        return;
    }
    for round in 0..8 {
        let node = node("mode = \"enforce\"\n");
        lay(&node, &text("audit", MINUTE, 0));
        let start = |nth: usize| {
            let mut command = match nth % 4 {
                0 => {
                    let mut mode = Command::new(node::binary());
                    mode.arg("--root").arg(node.root()).arg("mode");
                    mode
                }
                _ => node.command(),
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
    if !util::can_run("whoever_comes_late_to_an_end_takes_nothing_away", &[]) {
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
    if !util::can_run("what_is_not_believed_is_in_nobodys_way", &[]) {
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

#[test]
fn each_change_and_each_end_is_one_event() {
    if !util::can_run("each_change_and_each_end_is_one_event", &[]) {
        return;
    }
    // (what is called, exit code, a part of what is said, mode then, messages of the events; ~ stands for whoever it is)
    #[rustfmt::skip]
    let rows: [(&[&str], &str, &str, &[&str]); 14] = [
        (&["enforce", "--yes"], "says mode enforce already; nothing changed", "enforce", &[]),
        (&["audit", "--for", "2h30m", "--reason", "INC 42"], "mode audit for 2h30m, until 2", "audit",
            &["mode audit for 2h30m, until @, then enforce: break-glass of ~, because \"INC 42\""]),
        (&["audit", "--for", "1h"], "the break-glass of ~ (@ left) is replaced\nmode audit for 1h", "audit",
            &["mode audit: the break-glass of ~ was replaced by ~", "mode audit for 1h, until @, then enforce: break-glass of ~"]),
        (&["enforce", "--yes"], "says mode enforce already\nended the break-glass of ~ (@ left)", "enforce",
            &["mode enforce: the break-glass of ~ was closed by ~"]),
        (&["audit", "--for", "90s"], "mode audit for 1m30s", "audit", &["mode audit for 1m30s, until @, then enforce: break-glass of ~"]),
        (&["--end", "--reason", "solved"], "ended the break-glass of ~ (@ left); the mode is enforce again", "enforce",
            &["mode enforce: the break-glass of ~ was closed by ~, because \"solved\""]),
        (&["--end"], "no temporary mode is active; the mode is enforce", "enforce", &[]),
        (&["audit", "--reason", "a\u{1b}[2J\nb"], "mode audit, written into", "audit",
            &["mode audit, written into /etc/pss-guard/policy.toml by ~, because \"a\\u{1b}[2J\\nb\""]),
        (&["audit"], "says mode audit already; nothing changed", "audit", &[]),
        (&["enforce", "--for", "1d", "--yes"], "mode enforce for 1d", "enforce", &["mode enforce for 1d, until @, then audit: trial of ~"]),
        (&["enforce", "--for", "1h"], "the trial of ~ (@ left) is replaced\nmode enforce for 1h", "enforce",
            &["mode enforce: the trial of ~ was replaced by ~", "mode enforce for 1h, until @, then audit: trial of ~"]),
        (&["audit"], "says mode audit already\nended the trial of ~ (@ left)", "audit", &["mode audit: the trial of ~ was closed by ~"]),
        (&["enforce", "--for", "1h", "--yes"], "mode enforce for 1h", "enforce", &["mode enforce for 1h, until @, then audit: trial of ~"]),
        (&["enforce", "--yes"], "mode enforce, written into", "enforce",
            &["mode enforce: the trial of ~ was closed by ~", "mode enforce, written into /etc/pss-guard/policy.toml by ~"]),
    ];
    let node = Node::new("mode = \"enforce\"\n");
    let plain = |text: &str| {
        let text = text.replace(node.root().to_str().expect("UTF-8"), "");
        let time = |word: &str| word.len() >= 20 && word.starts_with('2') && word.as_bytes()[10] == b'T';
        let words = text
            .split(' ')
            .map(|word| if time(word) { format!("@{}", &word[20..]) } else { word.to_owned() });
        words.collect::<Vec<_>>().join(" ")
    };
    // How much of an hour is left depends on the machine.
    let timeless = |text: &str| {
        let mut parts: Vec<&str> = text.split(" left)").collect();
        let last = parts.pop().unwrap_or_default();
        let heads = parts.into_iter().filter_map(|part| part.rsplit_once('(')).map(|(head, _)| head);
        heads.chain([last]).collect::<Vec<_>>().join("(@ left)")
    };
    let mut before = 0;
    for (arguments, expected, mode, messages) in rows {
        let done = call(&node, arguments).expect_success();
        let all = changes(&node);
        let news = &all[before..];
        before = all.len();
        let who: BTreeSet<&str> = all.iter().filter_map(|event| event["PSS_WHO"].as_str()).collect();
        assert!(who.len() <= 1 && who.iter().all(|who| who.contains("uid 0")), "{who:?}");
        let who = who.first().copied().unwrap_or("nobody");
        assert!(
            timeless(&done.stdout).contains(&expected.replace('~', who)),
            "{arguments:?}: {expected}\n{done}"
        );
        let found: Vec<String> =
            news.iter().map(|event| plain(event["MESSAGE"].as_str().unwrap_or_default())).collect();
        let messages: Vec<String> = messages.iter().map(|message| message.replace('~', who)).collect();
        assert_eq!(found, messages, "{arguments:?}");
        assert!(news.iter().all(|event| event["PSS_MODE"] == mode), "{arguments:?}: {news:?}");
        assert_eq!(said(&node)["mode"], mode, "{arguments:?}");
    }
    let stray = fs::read_dir(node.root().join("run/pss-guard")).expect("a folder").flatten();
    let names: BTreeSet<String> =
        stray.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    assert!(names.iter().all(|name| ["mode.lock", "policy.cache"].contains(&name.as_str())), "{names:?}");
}

#[test]
fn nothing_is_changed_where_it_cannot_be_done_right() {
    if !util::can_run("nothing_is_changed_where_it_cannot_be_done_right", &["setpriv", "unshare", "mount"]) {
        return;
    }
    // (what is wrong, how, what is called, a part of the line on stderr)
    #[rustfmt::skip]
    let rows: [(&str, Break, &[&str], &str); 16] = [
        ("broken", |node| drop(node.policy("mode = \"enforce\"\nnonsense = 1\n")), &["audit"], "policy.toml:2:1: unknown key"),
        ("broken, and the way out", |node| drop(node.policy("mode = \n")), &["audit"], "use --for, which works without it"),
        ("twice", |node| drop(node.policy("mode = 'audit'\nmode = 'audit'\n")), &["enforce", "--yes"], "policy.toml:2:1: duplicate key"),
        ("no UTF-8", |node| fs::write(node.root().join(POLICY), b"# \xff\n").expect("a file"), &["audit"], "invalid utf-8"),
        ("somebody else's", |node| chown(node.root().join(POLICY), Some(1000), None).expect("chown"), &["audit"], "chown root:root"),
        ("a folder", |node| { fs::remove_file(node.root().join(POLICY)).expect("a file"); fs::create_dir(node.root().join(POLICY)).expect("a folder"); }, &["audit"], "must be a regular file, but is a directory"),
        ("gone", |node| { learn(node, "mode = 'enforce'\n"); fs::remove_file(node.root().join(POLICY)).expect("a file"); }, &["audit"], "is gone, but there was a policy before"),
        ("a link to nowhere", |node| { fs::remove_file(node.root().join(POLICY)).expect("a file"); symlink("nowhere", node.root().join(POLICY)).expect("a link"); }, &["audit"], "No such file"),
        ("no terminal", |_| (), &["enforce"], "no terminal to ask on; use --yes"),
        ("no terminal for a trial", |_| (), &["enforce", "--for", "1h"], "no terminal to ask on; use --yes"),
        ("too long", |_| (), &["audit", "--for", "25h"], "must be at most 24h"),
        ("no time", |_| (), &["audit", "--for", "60"], "must be a time like 90s"),
        ("no mode", |_| (), &["off"], "must be one of audit, enforce"),
        ("a time without a mode", |_| (), &["--for", "1h"], "required"),
        ("a long reason", |_| (), &["audit", "--reason", LONG], "must have at most 512 bytes"),
        ("a folder in place of the file", |node| fs::create_dir_all(node.root().join(FILE)).expect("a folder"), &["enforce", "--for", "1h", "--yes"], "run/pss-guard/mode.json: Is a directory"),
    ];
    for (what, break_it, arguments, expected) in rows {
        let node = Node::new("mode = 'audit' # mine\n");
        break_it(&node);
        let before = fs::read(node.root().join(POLICY)).ok();
        let done = call(&node, arguments);
        assert!(
            matches!(done.code, Some(1 | 2)) && done.stderr.contains(expected),
            "{what}: {expected}\n{done}"
        );
        assert_eq!(fs::read(node.root().join(POLICY)).ok(), before, "{what}");
        assert!(changes(&node).is_empty(), "{what}: {:?}", changes(&node));
        let names = fs::read_dir(node.root().join("etc/pss-guard")).expect("a folder").count();
        assert!(names <= 1, "{what}: a temporary file stays");
    }
    // (what is wrong, a script that makes it so, what is called, a part of the line)
    #[rustfmt::skip]
    let rows: [(&str, &str, &[&str], &str); 6] = [
        ("not root", "exec setpriv --reuid 1000 --clear-groups \"$0\" \"$@\"", &["audit"], "as root: the gate trusts only root's files, and this is uid 1000"),
        ("not root, for a time", "exec setpriv --reuid 1000 --clear-groups \"$0\" \"$@\"", &["audit", "--for", "1h"], "as root"),
        ("not root, at the end", "exec setpriv --reuid 1000 --clear-groups \"$0\" \"$@\"", &["--end"], "as root"),
        ("/etc read-only", "mount --bind $R/etc $R/etc && mount -o remount,bind,ro $R/etc && exec \"$0\" \"$@\"", &["enforce", "--yes"], "etc/pss-guard/policy.toml: Read-only file system"),
        ("/etc full", "mount -t tmpfs -o size=4k none $R/etc/pss-guard && echo \"mode = 'audit'\" >$R/etc/pss-guard/policy.toml && exec \"$0\" \"$@\"", &["enforce", "--yes"], "etc/pss-guard/policy.toml: No space left on device"),
        ("/run full", "mkdir -p $R/run/pss-guard && mount -t tmpfs -o size=4k none $R/run/pss-guard && head -c 4096 /dev/zero >$R/run/pss-guard/full && exec \"$0\" \"$@\"", &["audit", "--for", "1h"], "run/pss-guard/mode.json: No space left on device"),
    ];
    for (what, script, arguments, expected) in rows {
        let node = Node::new("mode = 'audit' # mine\n");
        fs::set_permissions(node.root(), Permissions::from_mode(0o755)).expect("chmod");
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script]).arg(node::binary()).env("R", node.root());
        let done = util::run(command.arg("--root").arg(node.root()).arg("mode").args(arguments));
        assert!(done.code == Some(2) && done.stderr.contains(expected), "{what}: {expected}\n{done}");
        assert_eq!(util::read(&node.root().join(POLICY)), "mode = 'audit' # mine\n", "{what}");
        assert!(changes(&node).is_empty(), "{what}: {:?}", changes(&node));
    }
}

const LONG: &str = match str::from_utf8(&[b'x'; 513]) {
    Ok(text) => text,
    Err(_) => "",
};

#[test]
fn a_reader_that_went_away_says_neither_yes_nor_no() {
    if !util::can_run("a_reader_that_went_away_says_neither_yes_nor_no", &[]) {
        return;
    }
    for arguments in ["enforce --yes", "enforce --for 1h --yes"] {
        let node = Node::new("mode = 'audit'\n");
        // The reader is gone long before anything is written.
        let script =
            format!("{{ sleep 0.3; \"$0\" --root \"$1\" mode {arguments}; }} | : ; exit ${{PIPESTATUS[0]}}");
        let mut command = Command::new("bash");
        let done = util::run(command.args(["-c", &script]).arg(node::binary()).arg(node.root()));
        assert_eq!(done.code, Some(0), "{done}");
        assert_eq!(said(&node)["mode"], "enforce", "{done}");
    }
}

#[test]
fn others_can_ask_as_far_as_they_can_see() {
    if !util::can_run("others_can_ask_as_far_as_they_can_see", &["setpriv"]) {
        return;
    }
    let node = Node::new("mode = 'audit'\n");
    fs::set_permissions(node.root(), Permissions::from_mode(0o755)).expect("chmod");
    lay(&node, &text("enforce", MINUTE, 0));
    let ask = || {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", "1000", "--clear-groups"])
            .arg(node::binary())
            .arg("--root")
            .arg(node.root());
        util::run(command.arg("mode"))
    };
    let done = ask().expect_success();
    assert!(done.stdout.starts_with("audit: "), "{done}");
    assert!(node.root().join(FILE).exists() && node.events().is_empty(), "only root clears it away");
    call(&node, &["enforce", "--for", "1h", "--yes"]).expect_success();
    let done = ask().expect_success();
    assert!(done.stdout.starts_with("enforce: ") && done.stdout.contains("because  trial"), "{done}");
    // What is closed to somebody is not broken.
    fs::set_permissions(node.root().join(POLICY), Permissions::from_mode(0o600)).expect("chmod");
    let done = ask();
    assert!(done.code == Some(2) && done.stderr.contains("only root can read the mode here"), "{done}");
    assert!(done.stdout.is_empty(), "{done}");
}

#[test]
fn the_policy_keeps_all_but_its_mode() {
    if !util::can_run("the_policy_keeps_all_but_its_mode", &[]) {
        return;
    }
    let text = "\u{feff}# ours\r\n\r\non-fault = 'allow' # so\r\nmode = 'audit'\t# see ticket\r\n[node]\r\n";
    let node = Node::new(text);
    let path = node.root().join(POLICY);
    // Configuration management has it elsewhere.
    let real = node.root().join("srv/policy");
    fs::create_dir_all(real.parent().expect("a folder")).expect("a folder");
    fs::rename(&path, &real).expect("a file of ours");
    symlink("../../srv/policy", &path).expect("a link");
    chown(&real, Some(0), Some(7)).expect("chown");
    fs::set_permissions(&real, Permissions::from_mode(0o640)).expect("chmod");

    let done = call(&node, &["enforce", "--yes"]).expect_success();
    assert!(done.stdout.contains("srv/policy"), "it says which file: {done}");
    assert!(path.is_symlink(), "the link was replaced by a file");
    let metadata = fs::metadata(&real).expect("a file");
    assert_eq!((metadata.gid(), metadata.mode() & 0o7777), (7, 0o640));
    assert_eq!(util::read(&real), text.replace("'audit'", "\"enforce\""));
    call(&node, &["enforce", "--yes"]).expect_success();
    let again = fs::metadata(&real).expect("a file");
    assert_eq!(
        (again.ino(), again.ctime_nsec()),
        (metadata.ino(), metadata.ctime_nsec()),
        "nothing was written"
    );
    assert_eq!(changes(&node).len(), 1);

    // Where there is none it is made, and that is said.
    let node = Node::new("");
    fs::remove_dir_all(node.root().join("etc")).expect("a folder of ours");
    let done = call(&node, &["enforce", "--yes"]).expect_success();
    assert!(done.stdout.contains("which was not there before"), "{done}");
    assert!(done.stdout.contains("the default enforce level is privileged"), "{done}");
    let metadata = fs::metadata(node.root().join(POLICY)).expect("a file");
    assert_eq!((metadata.uid(), metadata.mode() & 0o7777), (0, 0o644));
    assert_eq!(util::read(&node.root().join(POLICY)), "mode = \"enforce\"\n");
}

#[test]
fn a_break_glass_needs_no_policy() {
    if !util::can_run("a_break_glass_needs_no_policy", &[]) {
        return;
    }
    let node = node("mode = ");
    assert_eq!(hook(&node).status.code(), Some(2));
    call(&node, &["audit", "--for", "1h", "--reason", "the policy is broken"]).expect_success();
    assert_eq!(hook(&node).status.code(), Some(0));
    let status =
        util::run(Command::new(node::binary()).arg("--root").arg(node.root()).args(["status", "--json"]));
    let status: Value = serde_json::from_str(&status.stdout).expect("one object");
    assert_eq!(status["policy"]["mode"], "audit", "{status}");
    assert!(status["policy"]["mode_until"].is_string(), "{status}");
    let checks = status["policy"]["checks"].as_array().expect("checks");
    let check = checks.iter().find(|check| check["check"] == "mode").expect("a check of the mode");
    assert_eq!(check["state"], "note", "{check}");
    let says = check["says"].as_str().unwrap_or_default();
    assert!(
        says.starts_with("break-glass: audit until 2") && says.contains("\"the policy is broken\""),
        "{says}"
    );
    call(&node, &["--end"]).expect_success();
    assert_eq!(hook(&node).status.code(), Some(2));
    let status = util::run(Command::new(node::binary()).arg("--root").arg(node.root()).args(["status"]));
    assert!(!status.stdout.contains("break-glass"), "{status}");
}

#[test]
fn real_containers_start_while_the_glass_is_broken_and_no_longer() {
    let test = "real_containers_start_while_the_glass_is_broken_and_no_longer";
    if !util::can_run(test, &["runc", "busybox"]) {
        return;
    }
    let node = node::Node::new(Engine::Containerd, node::Runtime::Runc);
    node.write_policy("mode = \"enforce\"\n[defaults]\nenforce = \"restricted\"\n");
    let sandbox = node.sandbox(&Pod { uid: 0, ..Pod::compliant() });
    let mode = |arguments: &[&str]| {
        let mut command = Command::new(node::binary());
        util::run(command.arg("--root").arg(node.root()).arg("mode").args(arguments)).expect_success();
    };
    let steps: [(&[&str], bool); 4] = [
        (&["enforce", "--yes"], false),
        (&["audit", "--for", "1h"], true),
        (&["--end"], false),
        (&["audit"], true),
    ];
    for (arguments, starts) in steps {
        mode(arguments);
        for gate in [Gate::Hook, Gate::Wrapper] {
            let attempt = sandbox.start(gate);
            assert_eq!(attempt.ran, starts, "{arguments:?}, {gate:?}\n{attempt}");
            let [event] = attempt.events.as_slice() else { panic!("{arguments:?}, {gate:?}\n{attempt}") };
            let (decision, mode) = if starts { ("would-deny", "audit") } else { ("denied", "enforce") };
            assert!(event["PSS_DECISION"] == decision && event["PSS_MODE"] == mode, "{event}\n{attempt}");
        }
    }
}

/// A policy that can be told from a new one.
const TEXT: &str = "# mine\n\nmode = \"audit\" # x\n";

#[test]
fn a_kill_at_any_write_leaves_a_mode_that_somebody_asked_for() {
    if !util::can_run("a_kill_at_any_write_leaves_a_mode_that_somebody_asked_for", &["strace", "strip"]) {
        return;
    }
    let rows: [&[&str]; 3] = [&["enforce", "--yes"], &["enforce", "--for", "1h", "--yes"], &["--end"]];
    for arguments in rows {
        let start = || {
            let node = node(TEXT);
            if arguments != rows[1] {
                lay(&node, &text("enforce", 0, MINUTE));
            }
            node
        };
        let mut whole = vec!["mode"];
        whole.extend(arguments);
        let calls = install::writes(&node::binary(), start().root(), &whole);
        let (count, mut killed) = (calls.len(), 0);
        for (name, number) in calls {
            let row = format!("{arguments:?}, killed at {name} number {number}");
            let node = start();
            let inject = format!("inject={name}:signal=SIGKILL:when={number}");
            let options = ["-o".to_owned(), "/dev/null".to_owned(), "-e".to_owned(), inject];
            let done = install::traced(&node::binary(), node.root(), &whole, &options);
            // The policy's cache is written as often as it is too young to be believed, so the last calls may not come.
            killed += usize::from(done.code != Some(0));
            let policy = util::read(&node.root().join(POLICY));
            assert!(policy == TEXT || policy == TEXT.replace("audit", "enforce"), "{row}: {policy}");
            let said = said(&node);
            assert!(said["ignored"].is_null(), "{row}: {said}");
            let code = if said["mode"] == "audit" { 0 } else { 2 };
            assert_eq!(hook(&node).status.code(), Some(code), "{row}");
            call(&node, arguments).expect_success();
            let expected = if arguments == rows[2] { "audit" } else { "enforce" };
            let said = self::said(&node);
            assert_eq!(said["mode"], expected, "{row}");
            let stray = |folder: &str| {
                let names = fs::read_dir(node.root().join(folder)).expect("a folder").flatten();
                names.filter(|entry| entry.file_name().to_string_lossy().contains("-new")).count()
            };
            assert_eq!(stray("etc/pss-guard") + stray("run/pss-guard"), 0, "{row}");
        }
        assert!(killed > 5 && killed * 2 > count, "{arguments:?}: {killed} of {count} writes");
    }
}

/// Runs this on a terminal of its own, and types the keys once it asks: what it shows, and how it ends.
fn typed(node: &Node, arguments: &[&str], keys: &[u8]) -> (String, ExitStatus) {
    let OpenptyResult { master, slave } = openpty(None, None).expect("a terminal");
    let end = || Stdio::from(slave.try_clone().expect("a descriptor"));
    // The terminal must be the controlling one for a key to become a signal.
    // Whoever runs the tests in the background has the key ignored.
    let mut command = Command::new("env");
    command
        .args(["--default-signal=INT", "setsid", "--ctty"])
        .arg(node::binary())
        .arg("--root")
        .arg(node.root())
        .arg("mode")
        .args(arguments);
    let mut child = command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("a child");
    drop((slave, command));
    let (mut master, mut shown, mut asked) = (fs::File::from(master), Vec::new(), false);
    let mut bytes = [0; 4096];
    // Reading fails once nobody has the other end any more.
    while let Ok(size) = master.read(&mut bytes) {
        shown.extend_from_slice(&bytes[..size]);
        if !asked && String::from_utf8_lossy(&shown).contains("[y/N] ") {
            asked = true;
            master.write_all(keys).expect("a terminal that takes keys");
        }
    }
    (String::from_utf8_lossy(&shown).into_owned(), child.wait().expect("a child of ours"))
}

#[test]
fn whoever_is_asked_on_a_terminal_decides() {
    if !util::can_run("whoever_is_asked_on_a_terminal_decides", &["setsid"]) {
        return;
    }
    // (keys, exit code, mode then)
    let rows: [(&[u8], Option<i32>, &str); 8] = [
        (b"y\n", Some(0), "enforce"),
        (b"YES\n", Some(0), "enforce"),
        (b"n\n", Some(1), "audit"),
        (b"\n", Some(1), "audit"),
        (b"yy\n", Some(1), "audit"),
        (b"\xff\n", Some(1), "audit"),
        (END_OF_FILE, Some(1), "audit"),
        (INTERRUPT, None, "audit"),
    ];
    for (keys, code, mode) in rows {
        for arguments in [&["enforce"][..], &["enforce", "--for", "1h"]] {
            let node = Node::new("mode = 'audit'\n");
            let (shown, status) = typed(&node, arguments, keys);
            let context = format!("{arguments:?}, {keys:?}: {status}, {shown}");
            assert_eq!(status.code(), code, "{context}");
            assert_eq!(status.signal(), if code.is_none() { Some(2) } else { None }, "{context}");
            assert_eq!(shown.contains("not confirmed; nothing changed"), code == Some(1), "{context}");
            assert_eq!(said(&node)["mode"], mode, "{context}");
            let changes = changes(&node);
            assert_eq!(changes.len(), usize::from(code == Some(0)), "{context}");
            for change in changes {
                assert!(change["PSS_WHO"].as_str().unwrap_or_default().contains("pts/"), "{change}");
            }
        }
    }
    let node = Node::new("mode = 'enforce'\n");
    let (shown, status) = typed(&node, &["audit", "--for", "1h"], b"");
    assert!(status.success() && !shown.contains("[y/N]"), "nobody is asked for less: {shown}");
}

/// What a terminal makes of Ctrl-C and Ctrl-D.
const INTERRUPT: &[u8] = &[3];
const END_OF_FILE: &[u8] = &[4];

#[test]
fn the_journal_has_the_change_and_explains_it() {
    let test = "the_journal_has_the_change_and_explains_it";
    if !Journal::can_run(test) {
        return;
    }
    let node = Node::new("mode = 'enforce'\n");
    let _journal = Journal::open();
    Journal::lead_to(node.root());
    let reason = format!("incident {}", util::random_id());
    call(&node, &["audit", "--for", "1h", "--reason", &reason]).expect_success();
    let find = ["MESSAGE_ID=3172d57843e24b2b8e1e2876853c90c6", &format!("PSS_REASON={reason}")];
    let events = Journal::events(&find);
    let [event] = events.as_slice() else { panic!("{events:?}") };
    let temporary = said(&node)["temporary"].clone();
    for (field, value) in [
        ("PSS_DECISION", "mode-change"),
        ("PSS_MODE", "audit"),
        ("PSS_WHO", temporary["who"].as_str().expect("who")),
        ("PSS_UNTIL", temporary["until"].as_str().expect("until")),
        ("PRIORITY", "5"),
    ] {
        assert_eq!(event[field], value, "{event}");
    }
    let explained = Journal::explained(&find);
    for line in ["The node is now in audit mode", "Because: break-glass until 2", "By: "] {
        assert!(explained.contains(line), "the catalog explains: {line}\n{explained}");
    }
    assert!(changes(&node).is_empty(), "what the journal took is not written a second time");
}

/// What containerd keeps of a pod that restricted refuses: captured, in this namespace and with this UID.
fn runs(node: &Node, namespace: &str, uid: &str) {
    let case = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("integration-tests/corpus/containerd-2.1/x-run-as-user-0-explicit");
    let folder = |id: &str| format!("run/containerd/io.containerd.runtime.v2.task/k8s.io/{id}");
    let sandbox = util::read(&case.join("sandbox/config.json"));
    let spec: Value = serde_json::from_str(&sandbox).expect("a captured spec");
    let of = |key: &str| spec["annotations"][key].as_str().expect("an annotation").to_owned();
    let (id, old) = (of("io.kubernetes.cri.sandbox-id"), of("io.kubernetes.cri.sandbox-uid"));
    let moved = |text: &str| {
        let text = text.replace("namespace\": \"corpus\"", &format!("namespace\": \"{namespace}\""));
        let text = text.replace("namespace\":\"corpus\"", &format!("namespace\":\"{namespace}\""));
        text.replace(&old, uid)
    };
    node.file(&format!("{}/config.json", folder(&id)), &moved(&sandbox));
    for file in ["config.json", "observed.json"] {
        let text = util::read(&case.join("containers/c").join(file));
        node.file(&format!("{}/{file}", folder("c")), &moved(&text));
    }
}

type Ahead =
    (&'static str, &'static str, &'static str, &'static [&'static str], i32, &'static [&'static str]);

const UID: &str = "6f0d3a52-4c1c-4c53-9e1d-0242ac120002";
const HASH: &str = "0123456789abcdef0123456789abcdef";
const RESTRICTED: &str = "mode = 'audit'\n[defaults]\nenforce = 'restricted'\n";
const NOBODY_EXEMPT: &str =
    "mode = 'audit'\n[defaults]\nenforce = 'restricted'\n[exemptions]\nnamespaces = []\n";

#[test]
fn enforcing_says_first_what_it_would_break_and_spares_the_system() {
    if !util::can_run("enforcing_says_first_what_it_would_break_and_spares_the_system", &[]) {
        return;
    }
    // (policy, namespace, uid, arguments, exit code, parts of what is said)
    #[rustfmt::skip]
    let rows: [Ahead; 11] = [
        (RESTRICTED, "shop", UID, &["enforce", "--yes"], 0, &["1 of 1 container in 1 pod would be refused", "  shop/x-run-as-user-0-explicit/c  allowPrivilegeEscalation, "]),
        (RESTRICTED, "shop", UID, &["enforce"], 1, &["1 of 1 container", "use --yes"]),
        (RESTRICTED, "shop", UID, &["enforce", "--for", "1h", "--yes"], 0, &["1 of 1 container"]),
        ("", "shop", UID, &["enforce", "--yes"], 0, &["the one container here would not be refused", "the default enforce level is privileged"]),
        (RESTRICTED, "kube-system", UID, &["enforce", "--yes"], 0, &["the one container here", "1 is exempt (kube-system)"]),
        (NOBODY_EXEMPT, "kube-system", UID, &["enforce", "--yes"], 1, &["kube-system/x-run-as-user-0-explicit/c; exempt its namespace, or use --force"]),
        (NOBODY_EXEMPT, "kube-system", UID, &["enforce", "--for", "1h", "--yes"], 1, &["or use --force"]),
        (NOBODY_EXEMPT, "kube-system", UID, &["enforce", "--yes", "--force"], 0, &["1 of 1 container"]),
        (RESTRICTED, "shop", HASH, &["enforce", "--yes"], 1, &["shop/x-run-as-user-0-explicit/c; exempt its namespace, or use --force"]),
        ("mode = 'audit'\nx = 1\n", "shop", UID, &["enforce", "--for", "1h", "--yes"], 0, &["nothing would start but kube-system: ", "policy.toml:2:1: unknown key"]),
        ("mode = 'enforce'\n[defaults]\nenforce = 'restricted'\n", "shop", UID, &["audit", "--for", "1h"], 0, &["mode audit for 1h"]),
    ];
    for (policy, namespace, uid, arguments, code, expected) in rows {
        let row = format!("{policy:?}, {namespace}, {uid}, {arguments:?}");
        let node = Node::new(policy);
        runs(&node, namespace, uid);
        let before = said(&node)["mode"].clone();
        let done = call(&node, arguments);
        assert_eq!(done.code, Some(code), "{row}: {done}");
        let all = format!("{}{}", done.stdout, done.stderr);
        assert!(expected.iter().all(|part| all.contains(part)), "{row}: {expected:?}\n{done}");
        assert!(arguments[0] == "enforce" || !all.contains("container"), "{row}: {done}");
        let mode = if code == 0 { json!(arguments[0]) } else { before };
        assert_eq!(said(&node)["mode"], mode, "{row}");
    }

    // What cannot be judged is refused, too, unless the policy says otherwise.
    for (policy, listed) in
        [(RESTRICTED, true), ("on-fault = 'allow'\n[defaults]\nenforce = 'restricted'\n", false)]
    {
        let node = Node::new(policy);
        runs(&node, "shop", UID);
        node.file("run/containerd/io.containerd.runtime.v2.task/k8s.io/c/config.json", "garbage\u{1b}[2J");
        let done = call(&node, &["enforce", "--yes"]).expect_success();
        assert_eq!(done.stdout.contains("  cannot be judged: "), listed, "{done}");
        assert!(!done.stdout.contains('\u{1b}'), "{done}");
    }
}

#[test]
fn enforcing_says_first_what_would_have_been_refused_lately() {
    if !util::can_run("enforcing_says_first_what_would_have_been_refused_lately", &[]) {
        return;
    }
    let node = Node::new("mode = 'audit'\n[defaults]\nenforce = 'restricted'\n");
    let config = node.bundle().join("config.json");
    let spec = util::read(&config).replace("\"uid\":1000", "\"uid\":0");
    for name in ["app", "app", "a\\u001b[2J"] {
        fs::write(&config, spec.replace("container-name\":\"app\"", &format!("container-name\":\"{name}\"")))
            .expect("a file of ours");
        assert_eq!(hook(&node).status.code(), Some(0));
    }
    fs::write(&config, "garbage").expect("a file of ours");
    assert_eq!(hook(&node).status.code(), Some(0));
    let done = call(&node, &["enforce"]);
    for part in [
        "in the last 7 days 3 starts were against the enforce level:\n",
        "  shop/web/app  runAsNonRoot; 2 times, last 2",
        "  shop/web/a\\u{1b}[2J  runAsNonRoot; once, 2",
        "in the last 7 days 1 start could not be judged\n",
    ] {
        assert!(done.stdout.contains(part), "{part}\n{done}");
    }
    // Long ago is not lately.
    let log = node.root().join("var/log/pss-guard/decisions.jsonl");
    let old = util::read(&log).replace("\"__REALTIME_TIMESTAMP\":\"1", "\"__REALTIME_TIMESTAMP\":\"");
    fs::write(&log, old).expect("a file of ours");
    let done = call(&node, &["enforce"]);
    assert!(!done.stdout.contains("in the last 7 days"), "{done}");
}
