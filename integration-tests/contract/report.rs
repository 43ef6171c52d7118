//! What does `report` say? Events in the file beside the journal, a captured node, and a terminal to look at it.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use pss_guard::event::Kind;
use serde_json::{Value, json};

use crate::support::captured::{Captured, config};
use crate::support::run::{self, Done};
use crate::support::terminal::Terminal;
use crate::support::{files, needs, program, random};

fn report(root: &Path, arguments: &[&str]) -> Done {
    let mut command = Command::new(program::binary());
    command.arg("--root").arg(root).arg("report").args(arguments);
    command.env_remove("COLUMNS").env_remove("NO_COLOR").env("LC_ALL", "C.UTF-8");
    run::run(&mut command)
}

fn object(root: &Path, arguments: &[&str]) -> Value {
    let done = report(root, &[&["--format", "json"], arguments].concat()).expect_success();
    serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}\n{done}"))
}

/// Writes an event down as the gate does where journald does not answer.
fn event(root: &Path, kind: Kind, days: u64, whose: &str, level: &str, controls: &str) {
    let (namespace, pod) = whose.split_once('/').expect("a namespace and a pod");
    let now = std::time::UNIX_EPOCH.elapsed().expect("a clock that is set").as_micros();
    let findings = controls.split(',').filter(|control| !control.is_empty());
    let findings: Vec<Value> = findings
        .map(|control| json!({"control": control, "certainty": "violates", "detail": "must set drop"}))
        .collect();
    let event = json!({
        "__REALTIME_TIMESTAMP": (now - u128::from(days) * 86_400_000_000 - 1).to_string(),
        "MESSAGE_ID": kind.message_id(), "MESSAGE": "would violate", "PSS_LEVEL": level, "PSS_VERSION": "latest",
        "PSS_CONTROLS": controls, "PSS_FINDINGS": Value::from(findings).to_string(), "PSS_NAMESPACE": namespace,
        "PSS_POD": pod, "PSS_CONTAINER": "app", "PSS_CONTAINER_ID": random::id(),
    });
    let path = root.join("var/log/pss-guard/decisions.jsonl");
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    let mut file =
        std::fs::File::options().append(true).create(true).open(path).expect("the file of decisions");
    file.write_all(format!("{event}\n").as_bytes()).expect("a line");
}

/// A node with a week behind it, and something that runs.
fn lived() -> Captured {
    let node = Captured::new();
    let root = node.root();
    files::write(&root.join("etc/hostname"), "node-1\n");
    node.lay("containerd", "01", &config("shop", "web-0", "app", true));
    node.lay("containerd", "02", &config("docs", "site-0", "app", true));
    node.lay("containerd", "03", &config("ci", "runner-0", "app", false));
    for _ in 0..3 {
        event(root, Kind::Audit, 1, "billing/ledger-5d4f8c7b9d-x7k2p", "restricted", "runAsNonRoot");
    }
    event(root, Kind::Audit, 9, "shop/web-0", "restricted", "runAsNonRoot");
    event(root, Kind::WouldDeny, 2, "ops/agent-8k4xr", "baseline", "hostNamespaces");
    node
}

#[test]
fn the_answer_counts_what_was_logged_and_what_runs() {
    let node = lived();
    let told = object(node.root(), &[]);
    assert_eq!(
        told["ready"]["answer"],
        "ready to enforce restricted in 2 of 5 namespaces (1 more without readOnlyRootFilesystem, pss-guard's own \
         control), baseline in 4 of 5"
    );
    let ci = told["ready"]["namespaces"].as_array().expect("namespaces").iter();
    let ci = ci.clone().find(|row| row["namespace"] == "ci").expect("what runs there violates ours alone");
    assert_eq!(
        (&ci["restricted"]["ours-alone"], &ci["restricted"]["but-for-ours"]),
        (&json!(1), &json!(true))
    );
    let states: Vec<String> = told["ready"]["namespaces"]
        .as_array()
        .expect("namespaces")
        .iter()
        .map(|row| {
            let state = |level: &str| row[level]["state"].as_str().expect("a state").to_owned();
            format!(
                "{} {} {}",
                row["namespace"].as_str().unwrap_or("-"),
                state("baseline"),
                state("restricted")
            )
        })
        .collect();
    let expected = [
        "billing ready refused",
        "ci ready refused",
        "docs ready ready",
        "ops refused refused",
        "shop ready ready",
    ];
    assert_eq!(states, expected);
    // Without a look at what runs the events alone prove little.
    let alone = object(node.root(), &["--no-scan"]);
    assert_eq!(
        alone["ready"]["answer"],
        "ready to enforce restricted in 0 of 2 namespaces, baseline in 1 of 2"
    );
    assert_eq!(alone["ready"]["namespaces"][0]["baseline"]["running"], Value::Null);
    let one = object(node.root(), &["--namespace", "ci", "--namespace", "ops"]);
    assert_eq!(
        one["ready"]["answer"],
        "ready to enforce restricted in 0 of 2 namespaces (1 more without readOnlyRootFilesystem, pss-guard's own \
         control), baseline in 1 of 2"
    );
    assert_eq!(one["starts"], 1, "events of other namespaces are left out");
    let longer = object(node.root(), &["--since", "2w"]);
    assert_eq!((&longer["starts"], &told["starts"]), (&json!(5), &json!(4)));
    assert_eq!(told["workloads"][0]["workload"], "ledger");
    assert_eq!(
        told["changes"]["gone"],
        json!([{"namespace": "shop", "workload": "web", "still-starts": false}])
    );
}

#[test]
fn the_exit_code_and_the_error_say_what_is_missing() {
    let nothing = Captured::new();
    let done = report(nothing.root(), &[]).expect_success();
    assert!(done.stdout.starts_with("no data yet"), "{done}");

    // Neither the journal nor the file can be read.
    let closed = Captured::new();
    std::fs::create_dir_all(closed.root().join("var/log/pss-guard/decisions.jsonl")).expect("a folder");
    let done = report(closed.root(), &[]);
    assert_eq!(done.code, Some(2), "{done}");
    assert!(done.stdout.is_empty() && done.stderr.contains("decisions.jsonl: not a regular file"), "{done}");

    // A policy that cannot be used hides what namespaces ask for, and no event.
    let node = lived();
    files::write(&node.root().join("etc/pss-guard/policy.toml"), "mode = \"loud\"\n");
    let told = object(node.root(), &[]);
    assert_eq!(told["starts"], 4);
    assert_eq!(told["mode"], Value::Null);
    assert!(told["unseen"][0].as_str().expect("a sentence").starts_with("the policy: "), "{told}");
    assert_eq!(told["ready"]["restricted"]["ready"], 0, "nothing is ready where nobody knows what was asked");

    for (since, says) in [("yesterday", "must be a duration like 7d"), ("2999-01-01", "is not in the past")] {
        let done = report(nothing.root(), &["--since", since]);
        assert_eq!(done.code, Some(2), "{done}");
        assert!(done.stderr.contains(says), "{done}");
    }
}

const NARROW: &str = "\
Which level could be enforced
  namespace  enforce now   baseline      restricted
  ops        privileged    ✗ refused     ✗ refused
  billing    privileged    ✓ ready       ✗ refused
  ci         privileged    ✓ ready       ✗ refused
  docs       privileged    ✓ ready       ✓ ready
  shop       privileged    ✓ ready       ✓ ready

What is missing
  ops        baseline: 1 workload would be refused by hostNamespaces (1 start)
  billing    restricted: 1 workload would be refused by runAsNonRoot (3 starts)
  ci         restricted: 1 workload would be refused (1 container that runs
             now), by pss-guard's own control alone
";

/// A text wherever its lines end.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn people_see_the_answer_at_every_width() {
    if !needs::can_run("report::people_see_the_answer_at_every_width", &["tmux"]) {
        return;
    }
    let node = lived();
    let root = node.root();
    let answer = "ready to enforce restricted in 2 of 5 namespaces (1 more without readOnlyRootFilesystem, pss-guard's \
                  own control), baseline in 4 of 5\n";
    for (columns, width) in [("80", 80), ("200", 200)] {
        let terminal = Terminal::show(columns, root, &[], "report");
        let seen = terminal.end(&[]);
        assert!(words(&seen).starts_with(&words(answer)) && words(&seen).contains(&words(NARROW)), "{seen}");
        assert!(columns != "80" || seen.contains(NARROW), "{seen}");
        // A line that is too long is one when the terminal joins what it had to break.
        assert_eq!(terminal.end(&["-J"]).lines().count(), seen.lines().count(), "{seen}");
        assert!(seen.lines().all(|line| line.chars().count() <= width), "{seen}");
        let coloured = terminal.end(&["-e"]);
        assert!(coloured.contains("\u{1b}[1mready to enforce"), "{coloured:?}");
        assert!(
            coloured.contains("\u{1b}[32m✓ ready") && coloured.contains("\u{1b}[31m✗ refused"),
            "{coloured:?}"
        );
    }
    let plain = Terminal::show("80", root, &["NO_COLOR=1"], "report").end(&["-e"]);
    assert!(plain.contains(NARROW) && !plain.contains('\u{1b}'), "{plain:?}");
    let ascii = Terminal::show("80", root, &["LC_ALL=C"], "report").end(&[]);
    assert!(ascii.is_ascii() && ascii.contains("billing    privileged    ready         refused"), "{ascii}");
    let piped = Terminal::show("80", root, &[], "report | cat").end(&["-e"]);
    // Nothing breaks its lines but the terminal.
    let (table, _) = NARROW.split_once("  ci         restricted").unwrap();
    assert!(piped.contains(table) && !piped.contains('\u{1b}'), "{piped:?}");
}

#[test]
fn events_without_end_take_no_memory_without_end() {
    // Of hostile names: every event has a namespace, a pod and a control of its own.
    let peak = |count: usize| {
        let node = Captured::new();
        let path = node.root().join("var/log/pss-guard/decisions.jsonl");
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        let mut file = std::io::BufWriter::new(std::fs::File::create(&path).expect("the file of decisions"));
        let now = std::time::UNIX_EPOCH.elapsed().expect("a clock that is set").as_micros() - 1_000_000;
        let kind = Kind::Audit.message_id();
        for index in 0..count {
            writeln!(
                file,
                r#"{{"__REALTIME_TIMESTAMP":"{now}","MESSAGE_ID":"{kind}","PSS_LEVEL":"restricted","PSS_CONTROLS":"c{index}","PSS_NAMESPACE":"namespace-{index}","PSS_POD":"pod-{index}-of-nobody","PSS_CONTAINER_ID":"{index}"}}"#
            )
            .expect("a line");
        }
        drop(file);
        let out = node.root().join("peak");
        // The shell's `ulimit` counts address space; what is resident is asked of the kernel at the end.
        let script = "\"$@\" >\"$0.json\" & pid=$!; peak=0; while line=$(grep VmHWM /proc/$pid/status 2>/dev/null); do \
                      [ -n \"$line\" ] && echo \"$line\" >\"$0\"; sleep 0.02; done; wait $pid";
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(&out).arg(program::binary()).arg("--root").arg(node.root());
        run::run(command.args(["report", "--no-scan", "--format", "json"])).expect_success();
        let told: Value = serde_json::from_str(&run::read(&out.with_extension("json"))).expect("a report");
        assert_eq!(told["starts"], count, "all are counted");
        let kib = run::read(&out).split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
        (kib.expect("a number of KiB"), told)
    };
    let (_, few) = peak(900);
    assert_eq!(few["folded"]["namespaces"], 0);
    let (kib, many) = peak(200_000);
    assert_eq!(many["folded"]["namespaces"], 199_000, "what is folded is said");
    let notes = many["notes"].to_string();
    assert!(notes.contains("199000 events of namespaces beyond the first 1,000"), "{notes}");
    assert!(kib < 64 << 10, "{kib} KiB");
}
