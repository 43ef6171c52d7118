//! Do the tools of those who watch take what `docs/` gives them? promtool, and Grafana's own types of a dashboard.

use std::path::Path;
use std::process::{Command, Stdio};

use pss_guard::event::Kind;

use crate::support::needs::{self, part};
use crate::support::root::Root;
use crate::support::run::{self, feed};
use crate::support::{documents, program};

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs");

fn can_run(test: &str, program: &str) -> bool {
    part(program).is_file() || needs::skip(test, program)
}

#[test]
fn promtool_finds_no_fault_in_the_numbers() {
    if !can_run("promtool_finds_no_fault_in_the_numbers", "promtool") {
        return;
    }
    let root = Root::new();
    root.policy("mode = \"enforce\"\n");
    for kind in Kind::ALL {
        root.decide(kind, "shop", 1);
    }
    for level in ["own", "baseline", "restricted"] {
        let mut scan = Command::new(program::binary());
        scan.arg("--root").arg(root.path("")).args(["scan", "--keep"]);
        if level != "own" {
            scan.args(["--level", level]);
        }
        run::run(&mut scan);
        assert!(root.path(&format!("var/lib/pss-guard/metrics/scan-{level}.json")).exists(), "{level}");
    }
    let done = run::run(&mut root.command(&["metrics"])).expect_success();
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
    run::run(Command::new(part("promtool")).args(["check", "rules"]).arg(&rules)).expect_success();
    let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/integration-tests/alerts.test.yaml");
    run::run(Command::new(part("promtool")).args(["test", "rules", tests])).expect_success();
    // None is left out: each is seen to be silent, and to fire.
    let (rules, tests) = (run::read(&rules), run::read(Path::new(tests)));
    for name in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        let silent = format!("eval_time: 2h, alertname: {name} }}");
        let fires = format!("alertname: {name}\n        exp_alerts:\n          - exp_labels");
        assert!(tests.contains(&silent) && tests.contains(&fires), "{name}");
    }
}

#[test]
fn every_alert_has_a_section_that_says_what_to_do() {
    let rules = run::read(&Path::new(DOCS).join("alerts.yaml"));
    let mut alerts = 0;
    for alert in rules.split("- alert: ").skip(1) {
        let name = alert.lines().next().unwrap_or_default();
        let link = alert.split("runbook_url: ").nth(1).and_then(|rest| rest.lines().next());
        let section = link
            .and_then(|link| link.strip_prefix(concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/")))
            .and_then(|section| section.split_once('#'));
        let Some((document, anchor)) = section else { panic!("{name}: {link:?}") };
        assert!(
            documents::anchors(&format!("docs/{document}")).iter().any(|own| own == anchor),
            "{name}: {link:?} leads nowhere"
        );
        assert_eq!(anchor, name.to_lowercase(), "the section is of another alert");
        alerts += 1;
    }
    assert!(alerts > 15, "{alerts}");
}

#[test]
fn every_panel_says_what_it_shows_and_asks_only_for_what_was_chosen() {
    let text = run::read(&Path::new(DOCS).join("grafana-dashboard.json"));
    let dashboard: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    let variables: Vec<String> =
        list(&dashboard["templating"]["list"]).iter().map(|one| one["name"].to_string()).collect();
    for name in ["\"cluster\"", "\"job\"", "\"node\""] {
        assert!(variables.iter().any(|own| own == name), "{variables:?}");
    }
    let chosen = "cluster=~\"$cluster\",job=~\"$job\",instance=~\"$node\"";
    let panels = list(&dashboard["panels"]);
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let title = panel["title"].as_str().expect("a title");
        assert!(panel["description"].as_str().is_some_and(|says| says.len() > 20), "{title}");
        for target in list(&panel["targets"]) {
            let query = target["expr"].as_str().expect("a query");
            assert!(query.contains(chosen), "{title}: {query}");
            // A panel that speaks of refusals counts no more than those.
            let decisions = query.split("decision").nth(1).and_then(|rest| rest.split('"').nth(1));
            match title {
                "Namespaces refused most" => assert_eq!(decisions, Some("denied")),
                "Namespaces that would be refused most" => assert_eq!(decisions, Some("would-deny")),
                "Namespaces with most audit and warn findings" => assert_eq!(decisions, Some("audit|warn")),
                _ => {}
            }
        }
    }
    // Nobody reads a colour that is always the same.
    let enforce = panels.iter().find(|panel| panel["title"] == "Nodes that enforce").expect("the panel");
    let legends: Vec<&str> = enforce["targets"]
        .as_array()
        .expect("queries")
        .iter()
        .filter_map(|one| one["legendFormat"].as_str())
        .collect();
    assert_eq!(legends, ["enforce", "do not", "do not report"]);
    let colours = |steps: &serde_json::Value| -> Vec<String> {
        list(steps).iter().map(|step| step["color"].as_str().unwrap_or_default().to_owned()).collect()
    };
    let config = &enforce["fieldConfig"];
    assert_eq!(colours(&config["defaults"]["thresholds"]["steps"]), ["green", "red"]);
    let good = &config["overrides"][0]["properties"][0]["value"]["steps"];
    assert_eq!(colours(good), ["red", "green"]);
}

#[test]
fn the_dashboard_is_one_by_grafanas_own_types() {
    if !can_run("the_dashboard_is_one_by_grafanas_own_types", "grafana-dashboard") {
        return;
    }
    let text = run::read(&Path::new(DOCS).join("grafana-dashboard.json"));
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
