//! Do the tools of those who watch take what `docs/` gives them? promtool, and Grafana's own types of a dashboard.

use std::path::Path;
use std::process::{Command, Stdio};

use pss_guard::report::event::Kind;

use crate::faults::feed;
use crate::live::part;
use crate::metrics::Root;
use crate::util;

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs");

fn can_run(test: &str, program: &str) -> bool {
    part(program).is_file() || util::skip(test, program)
}

#[test]
fn promtool_finds_no_fault_in_the_numbers() {
    if !can_run("promtool_finds_no_fault_in_the_numbers", "promtool") {
        return;
    }
    let root = Root::new();
    root.write("etc/pss-guard/policy.toml", "mode = \"enforce\"\n");
    for kind in Kind::ALL {
        root.decide(kind, "shop", 1);
    }
    for level in ["own", "baseline", "restricted"] {
        let mut scan = Command::new(crate::node::binary());
        scan.arg("--root").arg(root.path("")).args(["scan", "--keep"]);
        if level != "own" {
            scan.args(["--level", level]);
        }
        util::run(&mut scan);
        assert!(root.path(&format!("var/lib/pss-guard/metrics/scan-{level}.json")).exists(), "{level}");
    }
    let done = util::run(&mut root.command(&[])).expect_success();
    assert!(
        done.stdout.contains("\npss_guard_scan_containers{level=\"restricted\",verdict=\"deny\"} 0\n"),
        "{done}"
    );
    let checked = feed(Command::new(part("promtool")).args(["check", "metrics"]), done.stdout.as_bytes());
    let said = String::from_utf8_lossy(&[checked.stdout, checked.stderr].concat()).into_owned();
    assert!(checked.status.success() && said.is_empty(), "{said}");
}

#[test]
fn every_alert_fires_when_it_should_and_only_then() {
    if !can_run("every_alert_fires_when_it_should_and_only_then", "promtool") {
        return;
    }
    let rules = Path::new(DOCS).join("alerts.yaml");
    util::run(Command::new(part("promtool")).args(["check", "rules"]).arg(&rules)).expect_success();
    let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/integration-tests/alerts.test.yaml");
    util::run(Command::new(part("promtool")).args(["test", "rules", tests])).expect_success();
    // None is left out: each is seen to be silent, and to fire.
    let (rules, tests) = (util::read(&rules), util::read(Path::new(tests)));
    for name in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        let silent = format!("eval_time: 2h, alertname: {name} }}");
        let fires = format!("alertname: {name}\n        exp_alerts:\n          - exp_labels");
        assert!(tests.contains(&silent) && tests.contains(&fires), "{name}");
    }
}

#[test]
fn the_dashboard_is_one_by_grafanas_own_types() {
    if !can_run("the_dashboard_is_one_by_grafanas_own_types", "grafana-dashboard") {
        return;
    }
    let text = util::read(&Path::new(DOCS).join("grafana-dashboard.json"));
    let check = |text: &str| {
        let mut check = Command::new(part("grafana-dashboard"));
        let done = feed(check.stdout(Stdio::piped()), text.as_bytes());
        (done.status.success(), String::from_utf8_lossy(&done.stderr).into_owned())
    };
    assert_eq!(check(&text), (true, String::new()));
    // It does look.
    let (taken, said) = check(&text.replacen("\"gridPos\"", "\"gridpos\"", 1));
    assert!(!taken && said.contains("gridpos"), "{said}");
}
