//! Is what people graph really there? The numbers of a node of its own, read by a real node_exporter and scraped by a real
//! Prometheus, with every query of the dashboard and every alert.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::documents::blocks;
use crate::support::gate::{self, Method, Restart};
use crate::support::machine::{Daemon, Machine};
use crate::support::metrics::{DENIED, numbers, violations};
use crate::support::node;
use crate::support::run::{self, feed};

const PROMETHEUS: &str = "127.0.0.1:9090";
const TEXTFILES: &str = "/var/lib/node-exporter";

const POLICY: &str = r#"mode = "enforce"
log-allowed = true
[defaults]
enforce = "restricted"
audit = "privileged"
warn = "privileged"
[exemptions]
namespaces = ["kube-system"]
[namespaces.lab]
enforce = "privileged"
audit = "restricted"
[[exceptions]]
namespace = "tools"
controls = ["runAsNonRoot", "runAsUser"]
reason = "until it is mended"
expires = 2099-12-31
"#;

const SCRAPES: &str = r#"
global: { scrape_interval: 1s, evaluation_interval: 1s }
rule_files: [/etc/alerts.yaml]
scrape_configs:
  - job_name: node
    static_configs: [{ targets: ["127.0.0.1:9100"] }]
"#;

/// A node that decides, and whatever watches it.
struct Watched {
    machine: Machine,
    pod: node::Node,
}

impl Watched {
    fn new() -> Self {
        let machine = Machine::up();
        machine.write("/etc/pss-guard/policy.toml", POLICY);
        // Where the bundle is; the policy is the machine's.
        Self { machine, pod: node::Node::new("") }
    }

    /// What the gate says when a container of a namespace starts.
    fn start(&self, namespace: &str, change: impl Fn(String) -> String) -> Option<i32> {
        let config = self.pod.config(namespace);
        let text = change(run::read(&config));
        std::fs::write(&config, text).expect("a file of ours");
        let mut hook = self.machine.command("/opt/pss-guard-gate");
        hook.args(["hook", "--engine", "containerd"]);
        feed(&mut hook, self.pod.state().as_bytes()).status.code()
    }

    /// A container that runs as root is refused, this many times.
    fn refuse(&self, namespace: &str, times: usize) {
        for _ in 0..times {
            let code = self.start(namespace, |text| text.replace("\"uid\":1000", "\"uid\":0"));
            assert!(code.is_some_and(|code| code > 10), "should have been refused: {code:?}");
        }
    }

    fn metrics(&self, arguments: &[&str]) -> String {
        let done = self.machine.run(&[&["/opt/pss-guard", "metrics"], arguments].concat()).expect_success();
        assert_eq!(done.stderr, "", "{done}");
        done.stdout
    }

    fn count(&self, sample: &str) -> f64 {
        *numbers(&self.metrics(&[])).get(sample).unwrap_or(&0.0)
    }

    /// Asks something over HTTP.
    fn get(&self, url: &str, parameters: &[(&str, &str)]) -> Value {
        let mut line = vec!["curl", "--silent", "--show-error", "--get", url];
        let parameters: Vec<String> =
            parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
        for parameter in &parameters {
            line.extend(["--data-urlencode", parameter]);
        }
        let done = self.machine.run(&line);
        serde_json::from_str(&done.stdout).unwrap_or_else(|_| panic!("{done}"))
    }

    fn query(&self, query: &str) -> Vec<Value> {
        let answer = self.get(&format!("http://{PROMETHEUS}/api/v1/query"), &[("query", query)]);
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        answer["data"]["result"].as_array().expect("a vector").clone()
    }

    /// Whether this query gives this number.
    fn is(&self, query: &str, expected: f64) -> bool {
        self.query(query).first().is_some_and(|found| value(found) == Some(expected))
    }
}

fn value(found: &Value) -> Option<f64> {
    found["value"][1].as_str()?.parse().ok()
}

fn docs(name: &str) -> String {
    run::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name))
}

/// A panel's query, the labels by which it may tell its numbers apart, and those that the legend shows.
struct Query {
    panel: String,
    text: String,
    by: BTreeSet<String>,
    legend: BTreeSet<String>,
}

/// Every query of the dashboard, with its variables as they are at the beginning.
fn queries() -> Vec<Query> {
    let dashboard: Value = serde_json::from_str(&docs("grafana-dashboard.json")).expect("JSON");
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut all = Vec::new();
    let mut add = |panel: &Value, text: &Value, legend: &Value| {
        let text = text.as_str().expect("a query").to_owned();
        // PromQL's own grammar of it: `by (a, b)`.
        let by = text.split(" by (").nth(1).and_then(|rest| rest.split(')').next()).unwrap_or_default();
        let by = by.split(", ").filter(|label| !label.is_empty()).map(str::to_owned).collect();
        let chosen = ["$cluster", "$job", "$node", "$namespace"].map(|variable| (variable, ".*"));
        let text = [("$__rate_interval", "30s"), ("$__range", "1h")]
            .iter()
            .chain(&chosen)
            .fold(text, |text, (variable, value)| text.replace(variable, value));
        assert!(!text.contains('$'), "{text}");
        let panel = panel.as_str().unwrap_or_default().to_owned();
        let shown = legend.as_str().unwrap_or_default().split("{{").skip(1);
        let legend = shown.filter_map(|rest| Some(rest.split_once("}}")?.0.to_owned())).collect();
        all.push(Query { panel, text, by, legend });
    };
    for panel in list(&dashboard["panels"]) {
        for target in list(&panel["targets"]) {
            add(&panel["title"], &target["expr"], &target["legendFormat"]);
        }
        assert!(panel["type"] == "row" || !list(&panel["targets"]).is_empty(), "{panel}");
    }
    for annotation in list(&dashboard["annotations"]["list"]) {
        add(&annotation["name"], &annotation["expr"], &annotation["titleFormat"]);
    }
    all
}

#[test]
fn every_panel_and_every_alert_finds_its_numbers_in_a_real_prometheus() {
    let test = "watch::every_panel_and_every_alert_finds_its_numbers_in_a_real_prometheus";
    let programs = ["curl", "podman"];
    if !Machine::can_run(test, &programs, &["prometheus", "prometheus-node-exporter"]) {
        return;
    }
    let node = Watched::new();
    let machine = &node.machine;
    let _journald = machine.start_journald();
    gate::install(machine, "podman", Method::Hook, Restart::Later);
    let namespaces = r#"{"kind":"NamespaceList","apiVersion":"v1","items":[{"metadata":{"name":"shop"}}]}"#;
    let mut import = machine.command("/opt/pss-guard");
    feed(import.args(["namespaces", "import"]), namespaces.as_bytes());
    for level in [&[][..], &["--level", "baseline"], &["--level", "restricted"]] {
        let done = machine.run(&[&["/opt/pss-guard", "scan", "--keep"], level].concat());
        assert!(done.code.is_some_and(|code| code != 1), "{done}");
    }
    decide(&node);
    let _watchers = watch(machine);
    let ready = format!("http://{PROMETHEUS}/-/ready");
    let is_ready = || machine.run(&["curl", "--silent", "--fail", &ready]).code == Some(0);
    assert!(run::within(Duration::from_secs(60), is_ready), "{}", machine.said("prometheus"));
    assert!(
        run::within(Duration::from_secs(60), || node.is(&with_job(DENIED, "node"), 2.0)),
        "Prometheus should have counted two\n{}{}",
        machine.said("prometheus"),
        machine.said("node-exporter")
    );
    typed(&node);

    // What comes now is an increase.
    decide(&node);
    machine.run(&["/opt/pss-guard", "mode", "audit", "--for", "10m", "--reason", "a test"]).expect_success();
    decide_in_audit(&node);
    node.metrics(&["--output", &format!("{TEXTFILES}/pss-guard.prom")]);
    let mut wrong = Vec::new();
    for Query { panel, text, by, legend } in queries() {
        let mut found = Vec::new();
        run::within(Duration::from_secs(40), || {
            found = node.query(&text);
            !found.is_empty()
        });
        let labels = |found: &Value| -> BTreeSet<String> {
            found["metric"].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
        };
        let whole = |found: &Value| {
            value(found).is_some_and(f64::is_finite) && (by.is_empty() || labels(found).is_subset(&by))
        };
        if !found.iter().all(whole) || !found.iter().any(|found| labels(found).is_superset(&legend)) {
            wrong.push(format!("{panel}: {text}\n{found:?}"));
        }
    }
    assert!(wrong.is_empty(), "these find nothing, or what they should not:\n{}", wrong.join("\n"));

    // (query, expected): some of them in numbers.
    let rows = [
        ("sum by (job) (pss_guard_enforcing{job=\"node\"})", 0.0),
        ("pss_guard_mode{job=\"node\",mode=\"audit\"}", 1.0),
        ("pss_guard_policy_valid{job=\"node\"}", 1.0),
        (
            "pss_guard_break_glass_until_timestamp_seconds{job=\"node\"} - pss_guard_break_glass_since_timestamp_seconds{job=\"node\"}",
            600.0,
        ),
        ("pss_guard_policy_exceptions{job=\"node\",state=\"active\"}", 1.0),
        ("pss_guard_namespaces_imported{job=\"node\"}", 2.0),
        ("pss_guard_gate_standing{job=\"node\",engine=\"podman\"}", 1.0),
        ("pss_guard_runtime_executable{job=\"node\",engine=\"podman\"}", 1.0),
        ("pss_guard_mode_changes_total{job=\"node\"}", 1.0),
    ];
    for (query, expected) in rows {
        assert!(
            run::within(Duration::from_secs(20), || node.is(query, expected)),
            "{query} should be {expected}: {:?}",
            node.query(query)
        );
    }
    let rules = node.get(&format!("http://{PROMETHEUS}/api/v1/rules"), &[]);
    let rules = rules["data"]["groups"][0]["rules"].as_array().expect("rules").clone();
    assert_eq!(rules.len(), docs("alerts.yaml").matches("- alert: ").count());
    for rule in rules {
        assert_eq!((&rule["health"], rule["lastError"].as_str()), (&Value::from("ok"), None), "{rule}");
    }
}

/// Two refusals, and one of everything else that enforce mode decides.
fn decide(node: &Watched) {
    node.refuse("shop", 2);
    assert_eq!(node.start("shop", |text| text), Some(0), "it complies");
    assert_eq!(node.start("kube-system", |text| text), Some(0), "it is exempt");
    let root = |text: String| text.replace("\"uid\":1000", "\"uid\":0");
    assert_eq!(node.start("tools", root), Some(0), "an exception covers it");
    assert_eq!(node.start("lab", root), Some(0), "it is audited");
    assert_eq!(node.start("shop", |_| "garbage".into()), Some(2), "nobody knows what it is");
    node.machine.write("/run/pss-guard/namespaces/broken.json", "garbage");
    assert_eq!(node.start("broken", |text| text), Some(2), "nobody knows what holds there");
}

fn decide_in_audit(node: &Watched) {
    let root = |text: String| text.replace("\"uid\":1000", "\"uid\":0");
    for _ in 0..3 {
        assert_eq!(node.start("shop", root), Some(0), "audit mode stops nothing");
    }
}

/// Starts everything that watches a node, each as its users do.
fn watch(machine: &Machine) -> Vec<Daemon> {
    machine.write("/etc/alerts.yaml", &docs("alerts.yaml"));
    machine.write("/etc/prometheus.yaml", SCRAPES);
    machine.link("prometheus", "/usr/local/bin/prometheus");
    machine.link("prometheus-node-exporter", "/usr/local/bin/prometheus-node-exporter");
    machine.run(&["mkdir", "-p", TEXTFILES, "/var/lib/prometheus"]).expect_success();
    let textfile = format!("{TEXTFILES}/pss-guard.prom");
    machine.run(&["/opt/pss-guard", "metrics", "--output", &textfile]).expect_success();
    vec![
        machine.start(
            "node-exporter",
            &[
                "prometheus-node-exporter",
                "--collector.disable-defaults",
                "--collector.textfile",
                &format!("--collector.textfile.directory={TEXTFILES}"),
                "--web.listen-address=127.0.0.1:9100",
            ],
        ),
        machine.start(
            "prometheus",
            &[
                "prometheus",
                "--config.file=/etc/prometheus.yaml",
                "--storage.tsdb.path=/var/lib/prometheus",
                &format!("--web.listen-address={PROMETHEUS}"),
            ],
        ),
    ]
}

fn with_job(sample: &str, job: &str) -> String {
    sample.replacen('{', &format!("{{job=\"{job}\","), 1)
}

/// node_exporter tells Prometheus that it is a counter, because the file is in the format that it parses.
fn typed(node: &Watched) {
    for name in ["kube_pod_security_policy_violations_total", "pss_guard_decisions_total"] {
        let url = format!("http://{PROMETHEUS}/api/v1/targets/metadata");
        let answer = node.get(&url, &[("match_target", "{job=\"node\"}"), ("metric", name)]);
        assert_eq!(answer["data"][0]["type"], "counter", "{name}: {answer}");
    }
}

const LOKI: &str = "127.0.0.1:3100";

/// One process, in a folder, that tells nobody.
const LOKI_CONFIG: &str = r"
auth_enabled: false
server: { http_listen_address: 127.0.0.1, http_listen_port: 3100, grpc_listen_address: 127.0.0.1 }
common:
  instance_addr: 127.0.0.1
  path_prefix: /var/lib/loki
  replication_factor: 1
  ring: { kvstore: { store: inmemory } }
  storage: { filesystem: { chunks_directory: /var/lib/loki/chunks, rules_directory: /var/lib/loki/rules } }
schema_config:
  configs:
    - from: 2020-10-24
      store: tsdb
      object_store: filesystem
      schema: v13
      index: { prefix: index_, period: 24h }
analytics: { reporting_enabled: false }
";

#[test]
fn every_query_for_loki_finds_its_events_in_a_real_one() {
    let test = "watch::every_query_for_loki_finds_its_events_in_a_real_one";
    if !Machine::can_run(test, &["curl"], &["loki"]) {
        return;
    }
    let node = Watched::new();
    let machine = &node.machine;
    let _journald = machine.start_journald();
    machine.write("/etc/loki.yaml", LOKI_CONFIG);
    machine.link("loki", "/usr/local/bin/loki");
    let _loki = machine.start("loki", &["loki", "-config.file=/etc/loki.yaml"]);
    decide(&node);
    machine.run(&["/opt/pss-guard", "mode", "audit", "--for", "10m", "--reason", "a test"]).expect_success();
    decide_in_audit(&node);
    assert!(run::eventually(|| node.count("pss_guard_mode_changes_total") == 1.0));

    let url = format!("http://{LOKI}");
    let is_ready = || machine.run(&["curl", "--silent", "--fail", &format!("{url}/ready")]).code == Some(0);
    assert!(run::within(Duration::from_secs(90), is_ready), "{}", machine.said("loki"));
    push(&node, &url);
    // (what the document asks, what must be in the answer)
    let expected = [
        "shop/web/app: denied: violates PodSecurity ",
        "\"PSS_NAMESPACE\":\"shop\"},\"value\":",
        "\"PSS_CONTROLS\":\"runAsNonRoot\"},\"value\":",
        "\\\"PSS_DECISION\\\":\\\"would-deny\\\"",
        "cannot judge: ",
        "audit: ",
    ];
    let queries = blocks("docs/watch.md", "logql");
    assert_eq!(queries.len(), expected.len());
    for (query, part) in queries.iter().zip(expected) {
        let query = query.trim();
        let (way, limit) = if query.starts_with('{') { ("query_range", "100") } else { ("query", "100") };
        let mut answer = Value::Null;
        let found = run::within(Duration::from_secs(30), || {
            answer = node.get(&format!("{url}/loki/api/v1/{way}"), &[("query", query), ("limit", limit)]);
            answer.to_string().contains(part)
        });
        assert!(found, "{query}\nshould find {part}: {answer:#}");
    }
}

/// Hands the journal's entries to Loki as those do that ship them whole: a stream for each decision, a line of JSON each.
fn push(node: &Watched, url: &str) {
    let entries = node.machine.run(&[
        "journalctl",
        "--no-pager",
        "--output=json",
        "--all",
        "SYSLOG_IDENTIFIER=pss-guard",
        "_UID=0",
    ]);
    let streams: Vec<Value> = entries
        .stdout
        .lines()
        .map(|line| {
            let entry: Value = serde_json::from_str(line).expect("JSON");
            let at = format!("{}000", entry["__REALTIME_TIMESTAMP"].as_str().expect("a time"));
            let labels =
                json!({"job": "pss-guard", "decision": entry["PSS_DECISION"], "node": entry["_HOSTNAME"]});
            json!({"stream": labels, "values": [[at, line]]})
        })
        .collect();
    assert!(streams.len() > 8, "{entries}");
    node.machine.write("/run/push.json", &json!({"streams": streams}).to_string());
    let line = [
        "curl",
        "--silent",
        "--show-error",
        "--fail-with-body",
        "--header",
        "Content-Type: application/json",
    ];
    let push = format!("{url}/loki/api/v1/push");
    node.machine.run(&[&line[..], &["--data-binary", "@/run/push.json", &push]].concat()).expect_success();
}

#[test]
fn a_journald_that_stops_rotates_and_forgets_loses_and_doubles_nothing() {
    let test = "watch::a_journald_that_stops_rotates_and_forgets_loses_and_doubles_nothing";
    if !Machine::can_run(test, &[], &[]) {
        return;
    }
    let node = Watched::new();
    let machine = &node.machine;
    let journalctl = |arguments: &[&str]| {
        machine.run(&[&["journalctl"], arguments].concat()).expect_success();
    };
    let mut journald = machine.start_journald();
    let mut total = 0;
    let mut refuse = |times: usize| {
        node.refuse("shop", times);
        total += times;
        total
    };
    let counted = |total: usize, what: &str| {
        let total = f64::from(u32::try_from(total).expect("a small number"));
        assert!(
            run::eventually(|| node.count(DENIED) == total),
            "{what}: {} were counted and not {total}",
            node.count(DENIED)
        );
        // Somebody asks again, at once.
        assert_eq!(node.count(&violations("shop", "runAsNonRoot")), total, "{what}");
    };
    counted(refuse(2), "at first");

    machine.stop(journald);
    counted(refuse(3), "stopped: events are in the file");
    refuse(1);
    journald = machine.start_journald();
    counted(refuse(2), "started again, and events in both");

    journalctl(&["--rotate"]);
    counted(refuse(2), "rotated");
    refuse(1);
    journalctl(&["--rotate"]);
    counted(refuse(1), "rotated between two");
    journalctl(&["--rotate", "--vacuum-files=1"]);
    let kept = machine.run(&["journalctl", "--identifier=pss-guard", "--output=cat"]).stdout.lines().count();
    assert_eq!(kept, 0, "vacuumed");
    counted(refuse(2), "vacuumed: the event at the cursor is gone");

    // Killed, as by the kernel when there is no memory.
    let pid = machine.read("/run/machine/journald.pid");
    machine.run(&["kill", "-KILL", pid.trim()]).expect_success();
    assert!(run::eventually(|| !journald.is_up()));
    counted(refuse(1), "killed");
    drop(machine.start_journald());
    counted(refuse(2), "started after it was killed");

    let pid = machine.read("/run/machine/journald.pid");
    machine.run(&["kill", "-KILL", pid.trim()]).expect_success();
    machine.run(&["sh", "-c", "rm -rf /run/log/journal/* /var/log/journal/*"]).expect_success();
    let _journald = machine.start_journald();
    counted(refuse(2), "the whole journal is gone");
}
