//! What an unprivileged user or a pod can make a look at the node cost. The bounds are those of `docs/limits.md`.

use std::path::Path;
use std::process::{Command, Stdio};

use pss_guard::event::{FIELD, Kind, ROTATE_AT};
use pss_guard::files::LIMIT;
use pss_guard::node::containers::{OF_A_USER, OF_ALL_USERS};
use pss_guard::node::strangers;
use pss_guard::pss::controls::{LIST_BYTES, LIST_ITEMS, NAME_BYTES};
use pss_guard::scan;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::machine::Machine;
use crate::support::run::{self, Done};
use crate::support::{files, needs, program};

/// What `scan` may need whatever users do.
const MEMORY: u64 = 48 << 20;
const OUTPUT: usize = 8 << 20;

#[test]
fn the_bounds_are_the_documented_ones() {
    let text = run::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/limits.md"));
    for bound in [
        format!("| {OF_A_USER} of a user, {OF_ALL_USERS} in all;"),
        format!("| {} KiB ", strangers::LARGEST >> 10),
        format!("| {} KiB a text,", scan::BRIEF >> 10),
        format!("| {} MiB, 100,000 mounts;", LIMIT >> 20),
        format!("| {LIST_ITEMS} items, {} KiB ", LIST_BYTES >> 10),
        format!("| {NAME_BYTES} bytes "),
        format!("| an event field other than `PSS_FINDINGS` | {} KiB ", FIELD >> 10),
        format!("| two of {} MiB and one event", ROTATE_AT >> 20),
        format!("no more than {} MiB beside", MEMORY >> 20),
        format!("and {} MiB of output", OUTPUT >> 20),
    ] {
        assert!(text.contains(&bound), "{bound}");
    }
}

/// A program that runs another and says how much memory that had, in KiB.
fn measure(folder: &Path) {
    let source = "#include <stdio.h>\n#include <sys/resource.h>\n#include <sys/wait.h>\n#include <unistd.h>\n
        int main(int count, char **words) { int status; struct rusage use; if (!fork()) { execv(words[1], words + 1); _exit(127); }
        wait4(-1, &status, 0, &use); fprintf(stderr, \"peak %ld\\n\", use.ru_maxrss); return WEXITSTATUS(status); }";
    files::write(&folder.join("measure.c"), source);
    let mut cc = Command::new("cc");
    cc.args(["-static", "-o"]).arg(folder.join("measure")).arg(folder.join("measure.c"));
    run::run(&mut cc).expect_success();
}

/// What that said, in bytes.
fn peak(done: &Done) -> u64 {
    let line = done.stderr.lines().find_map(|line| line.strip_prefix("peak "));
    line.and_then(|line| line.parse::<u64>().ok()).unwrap_or_else(|| panic!("no peak\n{done}")) << 10
}

/// A container's specification with so many sysctls: it is well formed, and violates baseline.
fn spec(sysctls: usize) -> String {
    let names: Vec<String> = (0..sysctls).map(|number| format!("\"vm.{number}\":\"\"")).collect();
    let good = r#"{"process":{"user":{"uid":1000},"noNewPrivileges":true,"capabilities":{}},"root":{"path":"rootfs","readonly":true},
        "linux":{"namespaces":[{"type":"pid"},{"type":"ipc"},{"type":"network"}],"sysctl":{SYSCTLS}}}"#;
    good.replace("SYSCTLS", &names.concat().replace("\"\"\"", "\"\",\""))
}

#[test]
fn a_scan_costs_no_more_for_what_users_bring() {
    let test = "attacks::limits::a_scan_costs_no_more_for_what_users_bring";
    if !Machine::can_run(test, &["cc", "setpriv"], &[]) {
        return;
    }
    let machine = Machine::up();
    measure(&machine.path("/run"));
    let source = "#include <unistd.h>\nint main(void) { sleep(1000); }\n";
    machine.write("/run/source.c", source);
    machine.run(&["cc", "-static", "-o", "/run/conmon", "/run/source.c"]).expect_success();
    // One that is as large as any that is read, one that is as large as may be read of a user, and one that is deep.
    let [large, small] = [spec(1_000_000), spec(16_000)];
    assert!(
        large.len() as u64 > 14 << 20 && small.len() as u64 > strangers::LARGEST / 2,
        "{} {}",
        large.len(),
        small.len()
    );
    assert!(small.len() as u64 <= strangers::LARGEST);
    let deep = format!("{{\"process\":{}", "[".repeat(200_000));
    for (name, text) in [("large", &large), ("small", &small), ("deep", &deep)] {
        machine.write(&format!("/run/users/{name}.json"), text);
    }
    // The user has 150, and five others have 60 each.
    let script = "set -e; cd /run/users; number=0
        for user in 65534 2001 2002 2003 2004 2005; do
            count=60; [ $user != 65534 ] || count=150
            while [ $count -gt 0 ]; do
                count=$((count - 1)); number=$((number + 1)); kind=large
                [ $user != 2001 ] || kind=small
                [ $user != 2002 ] || kind=deep
                bundle=/run/users/$user/$count/userdata; mkdir -p $bundle; ln $kind.json $bundle/config.json
                setpriv --reuid=$user --regid=$user --clear-groups /run/conmon -b $bundle -p /run/users/pid </dev/null >/dev/null 2>&1 &
            done
        done
        sleep 1000 </dev/null >/dev/null 2>&1 & echo $! >pid";
    machine.run(&["sh", "-c", script]).expect_success();
    let count = || machine.run(&["sh", "-c", "cat /proc/[0-9]*/comm | grep -c '^conmon$'"]).stdout;
    assert!(run::eventually(|| count() == "450\n"), "{}", count());
    machine.run(&["touch", "/run/users/pid"]).expect_success();

    // The control: one of these files, where it is read, costs as much as all users together may.
    let measured = |line: &[&str]| machine.run(&[&["/run/measure", "/opt/pss-guard"], line].concat());
    let one = measured(&["check", "--level", "restricted", "--format", "json", "/run/users/large.json"]);
    assert!(peak(&one) > MEMORY, "one costs {} bytes", peak(&one));

    let done = measured(&["scan", "--level", "restricted", "--format", "json"]);
    assert!(peak(&done) < MEMORY, "{} bytes of memory", peak(&done));
    assert!(done.stdout.len() < OUTPUT, "{} bytes of output", done.stdout.len());
    let found: Vec<Value> =
        done.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(found.len(), OF_ALL_USERS, "{}", done.stderr);
    let of = |user: &str, verdict: &str, why: &str| {
        let path = format!("/run/users/{user}/");
        let is_so = |one: &&Value| {
            let said = one["because"].as_str().is_some_and(|because| because.contains(why));
            one["path"].as_str().is_some_and(|own| own.starts_with(&path))
                && one["verdict"] == verdict
                && said
        };
        found.iter().filter(is_so).count()
    };
    // Whoever has few comes first: of six users, 250 are 42 each, or nearly so.
    for (user, verdict, why) in [
        ("65534", "cannot-judge", "is larger than 262144 bytes"),
        ("2001", "deny", ""),
        ("2002", "cannot-judge", "as an OCI runtime spec"),
        ("2005", "cannot-judge", "is larger than 262144 bytes"),
    ] {
        assert!((41..=42).contains(&of(user, verdict, why)), "{} of {user}", of(user, verdict, why));
    }
    let said = "200 programs called conmon, most of them or all of uid 65534, are skipped: 100 of a user are inspected, and 250 in all";
    assert!(done.stderr.contains(said), "{}", done.stderr);
    let table = measured(&["scan", "--level", "restricted"]);
    assert!(
        table.stdout.contains(said) && table.stdout.len() < OUTPUT && peak(&table) < MEMORY,
        "{}",
        peak(&table)
    );
    for line in [&["status", "--json"][..], &["metrics"], &["report"]] {
        let done = measured(line);
        assert!(peak(&done) < MEMORY && !done.stdout.contains("/run/users"), "{line:?}: {}", peak(&done));
    }
}

/// A node without journald, which is judged by the hook as a runtime calls it.
fn hold(config: &str) -> (Done, Value) {
    let dir = TempDir::new().expect("a temporary directory");
    let policy = "mode = \"enforce\"\n[unmanaged]\nenforce = \"restricted\"\naudit = \"restricted\"\n";
    files::write(&dir.path().join("etc/pss-guard/policy.toml"), policy);
    files::write(&dir.path().join("bundle/config.json"), config);
    let state = json!({"ociVersion": "1.0.2", "id": "x", "pid": 0, "bundle": dir.path().join("bundle")});
    files::write(&dir.path().join("state"), &state.to_string());
    let mut sh = Command::new("bash");
    // A runtime reads from a pipe; into a file the hook writes nothing.
    let hook =
        "set -o pipefail; \"$0\" hook --engine cri-o --root \"$1\" <\"$1/state\" 2>&1 >/dev/null | cat >&2";
    let done = run::run(sh.args(["-c", hook]).arg(program::gate()).arg(dir.path()));
    let events = run::read(&dir.path().join("var/log/pss-guard/decisions.jsonl"));
    let event = events.lines().next().unwrap_or_default();
    (done, serde_json::from_str(event).unwrap_or_default())
}

#[test]
fn what_the_gate_says_and_writes_down_is_not_as_long_as_what_it_judges() {
    let long = "x".repeat(1 << 20);
    let mounts: Vec<Value> = (0..50_000)
        .map(|number| json!({"destination": format!("/m{number}"), "type": "bind", "source": format!("/etc/{number}"), "options": ["bind"]}))
        .collect();
    let capabilities: Vec<String> = (0..50_000).map(|number| format!("CAP_{number}")).collect();
    let config = json!({
        "process": {"user": {"uid": 0}, "noNewPrivileges": false, "capabilities": {"bounding": capabilities},
            "selinuxLabel": format!("{long}:{long}:{long}")},
        "root": {"path": "rootfs"},
        "mounts": mounts,
        "annotations": {"io.kubernetes.cri-o.ImageName": long, "io.kubernetes.pod.name": long, "io.kubernetes.container.name": long},
        "linux": {"cgroupsPath": "/libpod_parent/libpod-1"},
    });
    // The control: what is judged is long.
    assert!(config.to_string().len() > 8 << 20);
    let (done, event) = hold(&config.to_string());
    assert!(done.code.is_some_and(|code| code > 10), "{:?}", done.code);
    assert!(done.stderr.len() <= 4096, "{} bytes", done.stderr.len());
    assert!(done.stderr.contains("(cut; the whole is in the journal)"), "{}", done.stderr);
    let fields = event.as_object().expect("an event");
    for (name, value) in fields {
        let length = value.as_str().expect("text").len();
        let most = if name == "PSS_FINDINGS" { 256 << 10 } else { FIELD };
        assert!(length <= most, "{name}: {length} bytes");
    }
    let findings = fields["PSS_FINDINGS"].as_str().expect("text");
    assert!(findings.contains(" and 49936 more"), "{}", &findings[..2000]);
    serde_json::from_str::<Value>(findings).expect("JSON");
}

#[test]
fn what_users_write_into_the_journal_counts_for_nothing() {
    let test = "attacks::limits::what_users_write_into_the_journal_counts_for_nothing";
    if !Machine::can_run(test, &["logger", "setpriv"], &[]) {
        return;
    }
    let machine = Machine::up();
    machine.start_journald();
    let id = Kind::Denied.message_id();
    let event = format!(
        "MESSAGE=denied\nMESSAGE_ID={id}\nSYSLOG_IDENTIFIER=pss-guard\nPSS_DECISION=denied\nPSS_MODE=enforce\n\
         PSS_LEVEL=restricted\nPSS_CONTROLS=privileged\nPSS_NAMESPACE=shop\nPSS_POD=web-0\nPSS_FINDINGS=[]\n"
    );
    machine.write("/run/event", &event);
    let flood = "setpriv --reuid=65534 --regid=65534 --clear-groups \
        sh -c 'n=300; while [ $n -gt 0 ]; do logger --journald=/run/event; n=$((n-1)); done'";
    machine.run(&["sh", "-c", flood]).expect_success();
    // The control: one of root's is counted, and the others are in the journal.
    machine.run(&["logger", "--journald=/run/event"]).expect_success();
    let all = || machine.events("PSS_POD", "web-0").len();
    assert!(run::eventually(|| all() == 301), "{}", all());
    let metrics = machine.run(&["/opt/pss-guard", "metrics"]).expect_success().stdout;
    let counted = "pss_guard_decisions_total{decision=\"denied\",mode=\"enforce\"} 1\n";
    assert!(metrics.contains(counted), "{metrics}");
    let report: Value =
        serde_json::from_str(&machine.run(&["/opt/pss-guard", "report", "--format", "json"]).stdout)
            .expect("one object");
    assert_eq!(report["starts"], 1, "{report}");
}

#[test]
fn events_without_end_cost_a_report_no_memory() {
    let test = "attacks::limits::events_without_end_cost_a_report_no_memory";
    if !needs::can_run(test, &["cc"]) {
        return;
    }
    let dir = TempDir::new().expect("a temporary directory");
    measure(dir.path());
    let event = |pod: &str| {
        json!({"__REALTIME_TIMESTAMP": micros().to_string(), "MESSAGE_ID": Kind::Denied.message_id(), "PSS_MODE": "enforce",
            "PSS_LEVEL": "restricted", "PSS_CONTROLS": "privileged", "PSS_NAMESPACE": pod, "PSS_POD": pod, "PSS_FINDINGS": "[]"})
        .to_string()
    };
    // A line of 46 MiB, and then as many namespaces as fit.
    let mut lines = "x".repeat(46 << 20) + "\n";
    for number in 0..60_000 {
        lines += &event(&format!("n{number}"));
        lines.push('\n');
    }
    assert!(lines.len() as u64 > ROTATE_AT - (8 << 20), "{}", lines.len());
    let log = dir.path().join("var/log/pss-guard/decisions.jsonl");
    files::write(&log, &lines);
    std::fs::copy(&log, log.with_extension("jsonl.1")).expect("a copy");
    for line in [&["report", "--format", "json"][..], &["metrics"]] {
        let mut command = Command::new(dir.path().join("measure"));
        command.arg(program::binary()).arg("--root").arg(dir.path()).args(line).stdin(Stdio::null());
        let done = run::run(&mut command);
        assert!(peak(&done) < MEMORY, "{line:?}: {} bytes", peak(&done));
        assert!(done.stdout.len() < OUTPUT, "{line:?}: {} bytes of output", done.stdout.len());
    }
}

fn micros() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_micros()
}
