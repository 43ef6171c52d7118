//! Writes a scan as reports for the cluster: wgpolicyk8s.io/v1alpha2 `PolicyReport` or openreports.io/v1alpha1
//! `Report`, one per namespace, and a cluster-scoped one for what belongs to none. The output is a JSON `List` for
//! `kubectl apply`.
//!
//! The two have the same fields (policy-report/crd/v1alpha2 of kubernetes-sigs/wg-policy-prototypes, config/crd of
//! openreports/reports-api). Each control of each container is one result:
//!
//! | result  | means                                                                                              |
//! |---------|----------------------------------------------------------------------------------------------------|
//! | `pass`  | the control was looked at, and nothing speaks against the container                                |
//! | `fail`  | the container would be refused because of it                                                       |
//! | `warn`  | suspected, or only reported by the policy; or the process has more than was asked for               |
//! | `skip`  | not evaluated: a node cannot see it, an exception covers it, the policy exempts it, no level asks |
//! | `error` | the container cannot be evaluated, or a place could not be read                                   |
//!
//! A report that is too large for an object in etcd, or for the annotation in which `kubectl apply` stores it, is split.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::UNIX_EPOCH;

use serde::Serialize;

use super::{Scan, Scanned};
use crate::decision::Verdict;
use crate::level::policy::Setting;
use crate::level::{Policy, is_dns_label};
use crate::message::{OURS, escape, mark};
use crate::output::json::Finding;
use crate::pss::controls::CONTROLS;
use crate::pss::{self, Control, Level, Origin, Scope, Version};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// wgpolicyk8s.io/v1alpha2.
    PolicyReport,
    /// openreports.io/v1alpha1.
    OpenReports,
}

impl Api {
    /// The group and version, the kind in a namespace, and the kind without one.
    const fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::PolicyReport => ("wgpolicyk8s.io/v1alpha2", "PolicyReport", "ClusterPolicyReport"),
            Self::OpenReports => ("openreports.io/v1alpha1", "Report", "ClusterReport"),
        }
    }
}

/// The most that annotations of one object may have is 256 KiB (apimachinery's `validation.TotalAnnotationSizeLimitB`).
const LARGEST: usize = 200_000;

/// Writes all of it. The policy is the one that the scan was made with: it says which controls were looked at.
pub fn write(scan: &Scan, policy: &Policy, api: Api, out: &mut dyn Write) -> io::Result<()> {
    let items = reports(scan, policy, api);
    serde_json::to_writer(&mut *out, &List { api_version: "v1", kind: "List", items })?;
    out.write_all(b"\n")
}

#[derive(Serialize)]
struct List {
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    kind: &'static str,
    items: Vec<Report>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<Reference>,
    summary: Summary,
    results: Vec<ReportResult>,
}

#[derive(Serialize)]
struct Metadata {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    labels: BTreeMap<&'static str, String>,
}

/// What a report or a result is about.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Reference {
    api_version: &'static str,
    kind: &'static str,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
}

#[derive(Default, Serialize)]
struct Summary {
    pass: usize,
    fail: usize,
    warn: usize,
    error: usize,
    skip: usize,
}

#[derive(Serialize)]
struct Timestamp {
    seconds: u64,
    nanos: u32,
}

#[derive(Serialize)]
struct ReportResult {
    source: &'static str,
    policy: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    rule: &'static str,
    category: &'static str,
    result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    severity: Option<&'static str>,
    scored: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
    timestamp: Timestamp,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    resources: Vec<Reference>,
    properties: BTreeMap<&'static str, String>,
}

fn reports(scan: &Scan, policy: &Policy, api: Api) -> Vec<Report> {
    // The empty name is for what belongs to no namespace.
    let mut by_namespace: BTreeMap<String, Vec<ReportResult>> = BTreeMap::new();
    for one in &scan.containers {
        let namespace = one.result.container().namespace.as_deref().unwrap_or_default();
        // An engine's annotation can say anything; an object of the API server's cannot.
        let namespace = if is_dns_label(namespace) { namespace } else { "" };
        by_namespace.entry(namespace.to_owned()).or_default().extend(outcomes(scan, one, policy));
    }
    for place in &scan.unseen {
        let mut outcome = ReportResult::of(scan, None, "pod-security", "error");
        outcome.message = format!("cannot inspect {}: {}", place.path, place.why);
        by_namespace.entry(String::new()).or_default().push(outcome);
    }
    let mut reports = Vec::new();
    for (namespace, outcomes) in by_namespace {
        for (index, part) in parts(outcomes).into_iter().enumerate() {
            reports.push(report(scan, api, &namespace, index, part));
        }
    }
    reports
}

/// Cut so that each part fits an object.
fn parts(outcomes: Vec<ReportResult>) -> Vec<Vec<ReportResult>> {
    let mut parts: Vec<Vec<ReportResult>> = vec![Vec::new()];
    let mut size = 0;
    for outcome in outcomes {
        let own = serde_json::to_string(&outcome).map_or(0, |text| text.len() + 1);
        if size + own > LARGEST && size > 0 {
            parts.push(Vec::new());
            size = 0;
        }
        size += own;
        if let Some(part) = parts.last_mut() {
            part.push(outcome);
        }
    }
    parts
}

fn report(scan: &Scan, api: Api, namespace: &str, index: usize, results: Vec<ReportResult>) -> Report {
    let (api_version, namespaced, of_the_cluster) = api.names();
    let node = node_name(&scan.node);
    let part = if index == 0 { String::new() } else { format!("-{}", index + 1) };
    let name = format!("pss-guard-{node}{part}");
    let mut summary = Summary::default();
    for outcome in &results {
        match outcome.result {
            "pass" => summary.pass += 1,
            "fail" => summary.fail += 1,
            "warn" => summary.warn += 1,
            "error" => summary.error += 1,
            _ => summary.skip += 1,
        }
    }
    let labels = BTreeMap::from([
        ("app.kubernetes.io/managed-by", "pss-guard".to_owned()),
        (
            "kubernetes.io/hostname",
            node.chars().take(63).collect::<String>().trim_end_matches(['-', '.']).to_owned(),
        ),
    ]);
    let is_namespaced = !namespace.is_empty();
    Report {
        api_version,
        kind: if is_namespaced { namespaced } else { of_the_cluster },
        metadata: Metadata { name, namespace: is_namespaced.then(|| namespace.to_owned()), labels },
        source: (api == Api::OpenReports).then_some("pss-guard"),
        // What belongs to no pod belongs to the node.
        scope: (!is_namespaced).then_some(Reference {
            api_version: "v1",
            kind: "Node",
            name: node,
            namespace: None,
        }),
        summary,
        results,
    }
}

/// The node's name as an object may be called: the kubelet's own is the host's in lower case.
fn node_name(host: &str) -> String {
    let plain = |letter: char| if letter.is_ascii_alphanumeric() || letter == '.' { letter } else { '-' };
    let name: String = host.chars().map(|letter| plain(letter.to_ascii_lowercase())).take(200).collect();
    let name = name.trim_matches(['-', '.']).replace("..", "-").replace(".-", "-").replace("-.", "-");
    if name.is_empty() { "unknown".to_owned() } else { name }
}

/// Every control of one container.
fn outcomes(scan: &Scan, one: &Scanned, policy: &Policy) -> Vec<ReportResult> {
    let result = &one.result;
    if one.verdict == Verdict::CannotJudge {
        let mut outcome = ReportResult::of(scan, Some(one), "pod-security", "error");
        outcome.message = escape(&result.because);
        return vec![outcome];
    }
    let level: Level = result.level.parse().unwrap_or(Level::Privileged);
    let exempt = one.verdict == Verdict::Exempt;
    if exempt || level == Level::Privileged {
        let mut outcome = ReportResult::of(scan, Some(one), "pod-security-privileged", "skip");
        let why = if exempt { "exempt: " } else { "the level is privileged, which requires nothing: " };
        outcome.message = format!("{why}{}", escape(&result.because));
        return vec![outcome];
    }
    let version: Version = result.version.parse().unwrap_or(Version::Latest);
    let mut all = Vec::new();
    let lifted = |control: &Control| {
        result.findings.iter().any(|finding| finding.control == control.id && finding.is_lifted())
    };
    for (control, _) in pss::active(level, version.minor(policy.latest_minor()), lifted) {
        let found = result.findings.iter().find(|finding| finding.control == control.id);
        if found.is_none() && !was_looked_at(control, one, policy) {
            continue;
        }
        let said = found.map_or("pass", |finding| self::result(finding, one));
        let mut outcome = ReportResult::of(scan, Some(one), policy_of(level), said).by(control);
        if let Some(finding) = found {
            outcome.tell(finding);
        }
        all.push(outcome);
    }
    // United with what another demand at another version found.
    for finding in &result.findings {
        if all.iter().any(|outcome| outcome.rule == finding.control) {
            continue;
        }
        if let Some(control) = CONTROLS.iter().find(|control| control.id == finding.control) {
            let said = self::result(finding, one);
            let mut outcome = ReportResult::of(scan, Some(one), policy_of(level), said).by(control);
            outcome.tell(finding);
            all.push(outcome);
        }
    }
    for drift in &one.drift {
        let mut outcome = ReportResult::of(scan, Some(one), "pss-guard-drift", "warn");
        outcome.rule = drift.control;
        outcome.category = "Drift";
        outcome.severity = Some("high");
        outcome.message = escape(&format!("runs with {}, asked for {}", drift.runs, drift.asked));
        all.push(outcome);
    }
    all
}

/// Whether silence means that a control was satisfied.
fn was_looked_at(control: &Control, one: &Scanned, policy: &Policy) -> bool {
    let off = control.origin == Origin::PssGuard && policy.controls.read_only_root_filesystem == Setting::Off;
    let of_others = one.sandbox && control.scope == Scope::Container;
    !off && !of_others
}

fn result(finding: &Finding<'_>, one: &Scanned) -> &'static str {
    match finding.certainty {
        _ if one.against.contains(&finding.control) => "fail",
        _ if finding.exception.is_some() => "skip",
        "unseen" => "skip",
        _ => "warn",
    }
}

const fn policy_of(level: Level) -> &'static str {
    match level {
        Level::Privileged => "pod-security-privileged",
        Level::Baseline => "pod-security-baseline",
        Level::Restricted => "pod-security-restricted",
    }
}

impl ReportResult {
    fn of(scan: &Scan, one: Option<&Scanned>, policy: &'static str, result: &'static str) -> Self {
        let seconds = scan.at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut outcome = Self {
            source: "pss-guard",
            policy,
            rule: "",
            category: "Pod Security Standards",
            result,
            severity: None,
            scored: true,
            message: String::new(),
            timestamp: Timestamp { seconds, nanos: 0 },
            resources: Vec::new(),
            properties: BTreeMap::from([("node", node_name(&scan.node))]),
        };
        let Some(one) = one else { return outcome };
        let container = one.result.container();
        if let (Some(namespace), Some(pod)) = (container.namespace.as_deref(), container.pod.as_deref()) {
            outcome.resources.push(Reference {
                api_version: "v1",
                kind: "Pod",
                name: escape(pod),
                namespace: Some(escape(namespace)),
            });
        }
        let name = if one.sandbox { Some("(sandbox)") } else { container.name.as_deref() };
        // Most results are passes; what is not asked of those would make the reports three times as large.
        let told = |value| if result == "pass" { None } else { value };
        let properties = [
            ("container", name),
            ("containerId", container.id.as_deref()),
            ("image", told(container.image.as_deref())),
            ("engine", told(container.engine)),
            ("version", Some(one.result.version.as_str())),
            ("because", told(Some(one.result.because.as_str()))),
        ];
        outcome.properties.extend(
            properties
                .into_iter()
                .filter_map(|(name, value)| Some((name, value.filter(|value| !value.is_empty())?)))
                .map(|(name, value)| (name, escape(value))),
        );
        outcome
    }

    fn by(mut self, control: &'static Control) -> Self {
        self.rule = control.id;
        // What upstream does not ask for is no result of its policy.
        if control.origin == Origin::PssGuard {
            (self.policy, self.category) = ("pss-guard", OURS);
        }
        self.scored = control.origin == Origin::Upstream;
        self.severity = Some(match (control.origin, control.level) {
            (Origin::PssGuard, _) => "low",
            (Origin::Upstream, Level::Baseline) => "high",
            (Origin::Upstream, _) => "medium",
        });
        self
    }

    fn tell(&mut self, finding: &Finding<'_>) {
        let detail = if finding.detail.is_empty() { String::new() } else { format!(" ({})", finding.detail) };
        self.message = escape(&format!("{}{detail}{}", finding.reason, mark(finding.origin)));
        self.properties.insert("certainty", finding.certainty.to_owned());
        if !finding.fix.is_empty() {
            self.properties.insert("fix", finding.fix.lines().map(escape).collect::<Vec<_>>().join("\n"));
        }
        if let Some(exception) = &finding.exception {
            self.properties.insert("exception", escape(exception));
        }
        if finding.reported {
            self.properties.insert("reportedOnly", "true".to_owned());
        }
    }
}
