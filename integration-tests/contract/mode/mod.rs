//! Which mode is in force, whatever lies in the way, and how does it change?

// Which mode is in force, whatever lies in the way of the policy and of the file of a temporary mode?
mod in_force;
// What does `mode enforce` say that it would break, and whom does it spare?
mod preflight;
// What does whoever is asked on a terminal decide?
mod terminal;

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::PathBuf;
use std::process::{Command, Output};

use nix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use crate::support::node::Node;
use crate::support::run::{self, Done, feed};
use crate::support::{needs, program, trace};

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
    feed(&mut node.hook_command(), node.state().as_bytes())
}

fn call(node: &Node, arguments: &[&str]) -> Done {
    run::run(Command::new(program::binary()).arg("--root").arg(node.root()).arg("mode").args(arguments))
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

fn learn(node: &Node, policy: &str) {
    // Whatever comes of it, the policy is read.
    node.policy(policy);
    hook(node);
    let _ = fs::remove_file(node.root().join("var/log/pss-guard/decisions.jsonl"));
}

fn lay(node: &Node, text: &str) -> PathBuf {
    node.file(FILE, text)
}

#[test]
fn each_change_and_each_end_is_one_event() {
    if !needs::can_run("each_change_and_each_end_is_one_event", &[]) {
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
    if !needs::can_run("nothing_is_changed_where_it_cannot_be_done_right", &["setpriv", "unshare", "mount"]) {
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
        command.args(["--mount", "sh", "-c", script]).arg(program::binary()).env("R", node.root());
        let done = run::run(command.arg("--root").arg(node.root()).arg("mode").args(arguments));
        assert!(done.code == Some(2) && done.stderr.contains(expected), "{what}: {expected}\n{done}");
        assert_eq!(run::read(&node.root().join(POLICY)), "mode = 'audit' # mine\n", "{what}");
        assert!(changes(&node).is_empty(), "{what}: {:?}", changes(&node));
    }
}

const LONG: &str = match str::from_utf8(&[b'x'; 513]) {
    Ok(text) => text,
    Err(_) => "",
};

#[test]
fn a_reader_that_went_away_says_neither_yes_nor_no() {
    if !needs::can_run("a_reader_that_went_away_says_neither_yes_nor_no", &[]) {
        return;
    }
    for arguments in ["enforce --yes", "enforce --for 1h --yes"] {
        let node = Node::new("mode = 'audit'\n");
        // The reader is gone long before anything is written.
        let script =
            format!("{{ sleep 0.3; \"$0\" --root \"$1\" mode {arguments}; }} | : ; exit ${{PIPESTATUS[0]}}");
        let mut command = Command::new("bash");
        let done = run::run(command.args(["-c", &script]).arg(program::binary()).arg(node.root()));
        assert_eq!(done.code, Some(0), "{done}");
        assert_eq!(said(&node)["mode"], "enforce", "{done}");
    }
}

#[test]
fn others_can_ask_as_far_as_they_can_see() {
    if !needs::can_run("others_can_ask_as_far_as_they_can_see", &["setpriv"]) {
        return;
    }
    let node = Node::new("mode = 'audit'\n");
    fs::set_permissions(node.root(), Permissions::from_mode(0o755)).expect("chmod");
    lay(&node, &text("enforce", MINUTE, 0));
    let ask = || {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", "1000", "--clear-groups"])
            .arg(program::binary())
            .arg("--root")
            .arg(node.root());
        run::run(command.arg("mode"))
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
    if !needs::can_run("the_policy_keeps_all_but_its_mode", &[]) {
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
    assert_eq!(run::read(&real), text.replace("'audit'", "\"enforce\""));
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
    assert_eq!(run::read(&node.root().join(POLICY)), "mode = \"enforce\"\n");
}

#[test]
fn a_break_glass_needs_no_policy() {
    if !needs::can_run("a_break_glass_needs_no_policy", &[]) {
        return;
    }
    let node = node("mode = ");
    assert_eq!(hook(&node).status.code(), Some(2));
    call(&node, &["audit", "--for", "1h", "--reason", "the policy is broken"]).expect_success();
    assert_eq!(hook(&node).status.code(), Some(0));
    let status =
        run::run(Command::new(program::binary()).arg("--root").arg(node.root()).args(["status", "--json"]));
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
    let status = run::run(Command::new(program::binary()).arg("--root").arg(node.root()).args(["status"]));
    assert!(!status.stdout.contains("break-glass"), "{status}");
}

/// A policy that can be told from a new one.
const TEXT: &str = "# mine\n\nmode = \"audit\" # x\n";

#[test]
fn a_kill_at_any_write_leaves_a_mode_that_somebody_asked_for() {
    if !needs::can_run("a_kill_at_any_write_leaves_a_mode_that_somebody_asked_for", &["strace", "strip"]) {
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
        let calls = trace::writes(&program::binary(), start().root(), &whole, 0);
        let (count, mut killed) = (calls.len(), 0);
        for (name, number) in calls {
            let row = format!("{arguments:?}, killed at {name} number {number}");
            let node = start();
            let inject = format!("inject={name}:signal=SIGKILL:when={number}");
            let options = ["-o".to_owned(), "/dev/null".to_owned(), "-e".to_owned(), inject];
            let done = trace::traced(&program::binary(), node.root(), &whole, &options);
            // The policy's cache is written as often as it is too young to be believed, so the last calls may not come.
            killed += usize::from(done.code != Some(0));
            let policy = run::read(&node.root().join(POLICY));
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
