//! What is counted, and is it counted once? The command against events in the file beside the journal.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pss_guard::event::Kind;

use crate::support::metrics::{DENIED, numbers, violations};
use crate::support::root::Root;
use crate::support::run::{self, Done};
use crate::support::{needs, program};

fn metrics(root: &Root, arguments: &[&str]) -> Done {
    run::run(root.command(&["metrics"]).args(arguments))
}

fn counters(root: &Root) -> PathBuf {
    root.path("var/lib/pss-guard/metrics/counters")
}

#[test]
fn every_event_is_counted_once_however_often_somebody_asks() {
    let root = Root::new();
    assert_eq!(root.numbers()[DENIED], 0.0);
    for total in [3.0, 6.0] {
        root.decide(Kind::Denied, "shop", 3);
        for _ in 0..2 {
            let numbers = root.numbers();
            assert_eq!(numbers[DENIED], total, "{numbers:?}");
            assert_eq!(numbers[&violations("shop", "privileged")], total, "{numbers:?}");
            assert_eq!(numbers[&violations("shop", "runAsNonRoot")], total, "{numbers:?}");
        }
    }
    // The file is set aside for a new one, and then goes for good.
    let file = root.path("var/log/pss-guard/decisions.jsonl");
    root.decide(Kind::Denied, "shop", 1);
    fs::rename(&file, file.with_extension("jsonl.1")).unwrap();
    root.decide(Kind::Denied, "shop", 1);
    assert_eq!(root.numbers()[DENIED], 8.0);
    fs::remove_dir_all(file.parent().unwrap()).unwrap();
    assert_eq!(root.numbers()[DENIED], 8.0);
}

#[test]
fn two_at_once_count_nothing_twice() {
    let root = Root::new();
    let output = root.path("node.prom");
    let output = output.to_str().unwrap();
    for round in 1..=5 {
        root.decide(Kind::Denied, "shop", 200);
        let arguments: [&[&str]; 4] = [&[], &["--output", output], &["--output", output], &[]];
        let children: Vec<_> = arguments
            .map(|arguments| {
                let mut command = root.command(&["metrics"]);
                command.args(arguments);
                command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
            })
            .into();
        for (nth, child) in children.into_iter().enumerate() {
            let done = child.wait_with_output().unwrap();
            let text = String::from_utf8_lossy(&done.stdout).into_owned();
            let text = if arguments[nth].is_empty() { text } else { run::read(Path::new(output)) };
            assert!(done.status.success() && done.stderr.is_empty(), "{done:?}");
            assert_eq!(numbers(&text)[DENIED], f64::from(round * 200), "{text}");
        }
    }
}

#[test]
fn whoever_is_killed_has_counted_nothing() {
    let root = Root::new();
    let mut total = 0;
    for pause in 0..40 {
        root.decide(Kind::Denied, "shop", 50);
        total += 50;
        let mut command = root.command(&["metrics"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_micros(pause * 1500));
        child.kill().unwrap();
        child.wait().unwrap();
        if pause % 8 == 7 {
            assert_eq!(root.numbers()[DENIED], f64::from(total), "killed after {pause} × 1.5 ms");
        }
    }
}

#[test]
fn whoever_is_killed_at_a_step_leaves_the_last_file_or_the_next() {
    if !needs::can_run("whoever_is_killed_at_a_step_leaves_the_last_file_or_the_next", &["strace"]) {
        return;
    }
    let root = Root::new();
    root.decide(Kind::Denied, "shop", 1);
    assert_eq!(root.numbers()[DENIED], 1.0);
    let mut total = 1;
    // (the call before which it dies, which of these, whether the file is the next one by then)
    for (call, nth, is_next) in [("fsync", 1, false), ("rename", 1, false), ("fsync", 2, true)] {
        root.decide(Kind::Denied, "shop", 2);
        total += 2;
        let before = run::read(&counters(&root));
        let mut strace = Command::new("strace");
        strace.args(["--quiet=all", "-o", "/dev/null", "-e", &format!("trace={call}")]);
        strace.args(["-e", &format!("inject={call}:signal=KILL:when={nth}"), "--"]).arg(program::binary());
        let done = run::run(strace.arg("--root").arg(root.path("")).arg("metrics"));
        assert!(done.code != Some(0) && done.stdout.is_empty(), "before {call} {nth}: {done}");
        assert_eq!(run::read(&counters(&root)) != before, is_next, "before {call} {nth}");
        assert_eq!(root.numbers()[DENIED], f64::from(total), "before {call} {nth}");
    }
}

/// Damages a file with these bytes.
type Damage = fn(&Path, Vec<u8>);

#[test]
fn counters_that_are_damaged_begin_anew_and_out_loud() {
    let whole = |root: &Root| fs::read(counters(root)).unwrap();
    let rows: [(&str, Damage); 6] = [
        ("emptied", |path, _| fs::write(path, "").unwrap()),
        ("cut off", |path, bytes| fs::write(path, &bytes[..bytes.len() - 9]).unwrap()),
        ("one digit is another", |path, mut bytes| {
            let place = bytes.iter().rposition(|byte| *byte == b'4').expect("the count");
            bytes[place] = b'9';
            fs::write(path, bytes).unwrap();
        }),
        ("of another program", |path, _| fs::write(path, "{}").unwrap()),
        ("of a later version", |path, bytes| {
            let text = String::from_utf8(bytes).unwrap().replacen(" 1 ", " 2 ", 1);
            fs::write(path, text).unwrap();
        }),
        ("a link", |path, _| {
            fs::rename(path, path.with_extension("other")).unwrap();
            symlink(path.with_extension("other"), path).unwrap();
        }),
    ];
    for (what, damage) in rows {
        let root = Root::new();
        root.decide(Kind::Denied, "shop", 4);
        assert_eq!(root.numbers()[DENIED], 4.0, "{what}");
        damage(&counters(&root), whole(&root));
        // Written to the disk a moment later than the file.
        std::thread::sleep(std::time::Duration::from_millis(20));
        root.decide(Kind::Denied, "shop", 2);
        let done = metrics(&root, &[]).expect_success();
        assert!(done.stderr.contains("all counters restart"), "{what}: {done}");
        let found = numbers(&done.stdout);
        // Those before are in Prometheus: a counter that falls to 2 has grown by 2.
        assert_eq!(found[DENIED], 2.0, "{what}: {done}");
        assert!(found["pss_guard_counters_damaged_timestamp_seconds"] > 0.0, "{what}: {done}");
        assert!(counters(&root).with_extension("damaged").exists(), "{what}");
        root.decide(Kind::Denied, "shop", 1);
        let done = metrics(&root, &[]).expect_success();
        assert_eq!((numbers(&done.stdout)[DENIED], &*done.stderr), (3.0, ""), "{what}: {done}");
    }
}

#[test]
fn where_nothing_can_be_kept_the_numbers_are_right_all_the_same() {
    let root = Root::new();
    root.decide(Kind::Denied, "shop", 2);
    assert_eq!(root.numbers()[DENIED], 2.0);
    // Not even root can make a folder of a file.
    let folder = root.path("var/lib/pss-guard/metrics");
    let away = root.path("var/lib/pss-guard/away");
    fs::rename(&folder, &away).unwrap();
    fs::write(&folder, "").unwrap();
    let done = metrics(&root, &[]).expect_success();
    assert!(done.stderr.contains("not saved"), "{done}");
    assert_eq!(numbers(&done.stdout)["pss_guard_counters_kept"], 0.0, "{done}");
    assert_eq!(numbers(&done.stdout)[DENIED], 0.0, "{done}");
    fs::remove_file(&folder).unwrap();
    fs::rename(&away, &folder).unwrap();

    if !needs::can_run("where_nothing_can_be_kept_the_numbers_are_right_all_the_same", &["setpriv"]) {
        return;
    }
    root.decide(Kind::Denied, "shop", 3);
    for path in [".", "var/log/pss-guard"] {
        fs::set_permissions(root.path(path), fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::copy(program::binary(), root.path("pss-guard")).unwrap();
    for _ in 0..2 {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(root.path("pss-guard"));
        command.arg("--root").arg(root.path("")).arg("metrics");
        let done = run::run(&mut command).expect_success();
        for part in ["not saved", "Permission denied", "run as root to include the enforcement metrics"] {
            assert!(done.stderr.contains(part), "{part}: {done}");
        }
        // What others cannot see must not look as if it were open.
        assert!(
            !done.stdout.contains("pss_guard_enforcing") && !done.stdout.contains("pss_guard_mode{"),
            "{done}"
        );
        assert_eq!(numbers(&done.stdout)[DENIED], 5.0, "{done}");
    }
    assert_eq!(root.numbers()[DENIED], 5.0);
}

#[test]
fn a_file_is_replaced_whole_and_read_by_everybody() {
    let root = Root::new();
    root.file("out/.keep", "");
    let path = root.path("out/pss-guard.prom");
    for count in 1..=2 {
        root.decide(Kind::Denied, "shop", 1);
        let done = metrics(&root, &["--output", path.to_str().unwrap()]).expect_success();
        assert_eq!(done.stdout, "", "{done}");
        assert_eq!(numbers(&run::read(&path))[DENIED], f64::from(count));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o644);
    }
    // The folder may belong to whoever collects the numbers: what he puts there leads nowhere, and gives him nothing.
    root.file("secret", "secret");
    for planted in [&path, &root.path("out/.pss-guard.prom.pss-guard-new")] {
        let _ = fs::remove_file(planted);
        symlink(root.path("secret"), planted).unwrap();
        metrics(&root, &["--output", path.to_str().unwrap()]).expect_success();
        let file = fs::symlink_metadata(&path).unwrap();
        assert!(file.is_file() && file.permissions().mode() & 0o7777 == 0o644, "{file:?}");
        assert_eq!(numbers(&run::read(&path))[DENIED], 2.0);
        assert_eq!(run::read(&root.path("secret")), "secret");
    }
    // A bare name is in the working directory.
    let done = run::run(root.command(&["metrics", "--output", "bare.prom"]).current_dir(root.path("out")))
        .expect_success();
    assert_eq!((&*done.stdout, &*done.stderr), ("", ""));
    assert_eq!(numbers(&run::read(&root.path("out/bare.prom")))[DENIED], 2.0);
    fs::remove_file(root.path("out/bare.prom")).unwrap();
    for name in ["numbers", "pss-guard.prom.tmp", "prom"] {
        let done = run::run(root.command(&["metrics", "--output", name]).current_dir(root.path("out")));
        assert_eq!((done.code, &*done.stdout), (Some(2), ""), "{name}: {done}");
        assert!(done.stderr.contains("whose names end in .prom"), "{name}: {done}");
    }
    let names = fs::read_dir(root.path("out")).unwrap().count();
    assert_eq!(names, 2, "nothing is left beside it");
    let done = metrics(&root, &["--output", "/proc/pss-guard.prom"]);
    assert_eq!(done.code, Some(2), "{done}");
    assert!(done.stderr.starts_with("pss-guard: write /proc/pss-guard.prom: "), "{done}");
}
