//! Tables of events, and the report that each makes.
#![allow(clippy::too_many_lines, clippy::type_complexity, reason = "tables")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::aggregate::{Caps, History};
use super::exceptions::Usage::{Expired, Untold, Unused, Used};
use super::readiness::{Asked, Rating, Running};
use super::time_range::{Period, Since};
use super::{Comparable, Context, Report, report, text};
use crate::events::Record;
use crate::level::policy::OnSuspect;
use crate::level::{Mode, Policy, policy};
use crate::output::terminal::Style;
use crate::pss::Level::{self, Baseline, Privileged, Restricted};
use pss_guard_core::record::Kind;

const DAY: u64 = 86_400_000_000;

fn now() -> SystemTime {
    // 2026-11-25T23:08:43Z
    UNIX_EPOCH + Duration::from_secs(1_795_648_123)
}

/// A finding in an event; a name with a question mark is suspected, one with a colon has an exception's reason behind it.
fn finding(control: &str) -> String {
    let (control, reason) = control.split_once(':').unwrap_or((control, ""));
    let (control, certainty) =
        control.strip_suffix('?').map_or((control, "violates"), |control| (control, "suspect"));
    let exception = if reason.is_empty() { String::new() } else { format!(r#","exception":"{reason}""#) };
    format!(r#"{{"control":"{control}","certainty":"{certainty}","detail":"x must set drop"{exception}}}"#)
}

/// An event of a start, so many days ago; every start has its own id.
fn event(kind: Kind, days: u64, whose: &str, level: &str, controls: &str) -> Record {
    use std::sync::atomic::{AtomicU64, Ordering};
    static ID: AtomicU64 = AtomicU64::new(0);
    let (namespace, pod) = whose.split_once('/').unwrap_or(("", whose));
    let list: Vec<&str> = controls.split(',').filter(|control| !control.is_empty()).collect();
    let names: Vec<&str> = list.iter().map(|name| name.split(['?', ':']).next().unwrap()).collect();
    Record {
        at: super::super::events::micros(now()) - days * DAY - 1,
        kind: Some(kind),
        level: level.into(),
        version: if level.is_empty() { String::new() } else { "latest".into() },
        controls: names.join(","),
        findings: format!("[{}]", list.iter().map(|name| finding(name)).collect::<Vec<_>>().join(",")),
        namespace: namespace.into(),
        pod: pod.into(),
        container: "app".into(),
        container_id: ID.fetch_add(1, Ordering::Relaxed).to_string(),
        ..Record::default()
    }
}

/// What is known beside the events, as the tests need it.
struct Node {
    policy: Policy,
    asked: BTreeMap<String, Asked>,
    running: Option<BTreeMap<String, Running>>,
    journal_begins: Option<u64>,
}

impl Node {
    fn new() -> Self {
        Self {
            policy: Policy { log_allowed: true, ..Policy::default() },
            asked: BTreeMap::new(),
            running: None,
            journal_begins: Some(1),
        }
    }

    fn asks(mut self, namespace: &str, enforce: Level, audit: Level) -> Self {
        let levels = Asked::Levels { enforce, audit, warn: Privileged };
        self.asked.insert(namespace.into(), levels);
        self
    }

    fn runs(mut self, namespace: &str, containers: u64, refused: [u64; 2]) -> Self {
        let workloads =
            refused.map(|count| (0..count).map(|index| format!("w{index}")).collect::<BTreeSet<_>>());
        let by_upstream = workloads[1].clone();
        let running = Running { containers, refused, workloads, by_upstream, unjudged: 0 };
        self.running.get_or_insert_default().insert(namespace.into(), running);
        self
    }

    fn told(&self, events: &[Record]) -> Report {
        let period = Period::until(now(), Since::Ago(Duration::from_secs(7 * 86_400))).unwrap();
        let mut history = History::new(period, "node-1", &self.policy, &[], Caps::default());
        for event in events {
            history.add(event);
        }
        let context = Context {
            node: "node-1",
            policy: Some(&self.policy),
            mode: Some(self.policy.mode),
            mode_until: None,
            asked: &self.asked,
            running: self.running.as_ref(),
            journal_begins: self.journal_begins,
            policy_changed: None,
            unseen: &[],
        };
        report(&history, &context)
    }

    /// The states of one namespace, and why restricted has its own.
    fn state(&self, events: &[Record]) -> (Rating, Rating, String) {
        let told = self.told(events);
        let row = told.ready.namespaces.iter().find(|row| row.namespace.as_deref() == Some("shop"));
        let row = row.unwrap_or_else(|| panic!("shop is told of: {told:?}"));
        (row.baseline.state, row.restricted.state, row.restricted.why.clone())
    }
}

#[test]
fn a_namespace_is_ready_only_where_that_is_proven() {
    use Rating::{Exempt, Ready, Refused, Unproven};
    let shop = |enforce, audit| Node::new().asks("shop", enforce, audit);
    let watched = || shop(Privileged, Restricted);
    let allowed = || event(Kind::Allowed, 1, "shop/web-0", "privileged", "");
    let rows: Vec<(&str, Node, Vec<Record>, Rating, Rating, &str)> = vec![
        ("a start that complies", watched(), vec![allowed()], Ready, Ready, "nothing against 1 logged start"),
        (
            "one that does not, among many",
            watched(),
            vec![allowed(), event(Kind::Audit, 1, "shop/web-0", "restricted", "runAsNonRoot"), allowed()],
            Ready,
            Refused,
            "1 workload would be refused by runAsNonRoot (1 start)",
        ),
        (
            "one that baseline refuses",
            watched(),
            vec![event(Kind::Denied, 1, "shop/web-0", "baseline", "privileged")],
            Refused,
            Refused,
            "1 workload would be refused by privileged (1 start)",
        ),
        (
            "only before the period",
            watched().runs("shop", 1, [0, 0]),
            vec![event(Kind::Denied, 8, "shop/web-0", "baseline", "privileged")],
            Ready,
            Ready,
            "nothing against the container that runs now",
        ),
        (
            "a suspicion, which enforce mode lets in",
            watched(),
            vec![event(Kind::Audit, 1, "shop/web-0", "restricted", "runAsUser?")],
            Ready,
            Ready,
            "nothing against 1 logged start",
        ),
        (
            "starts that nobody held against restricted",
            shop(Privileged, Baseline),
            vec![allowed()],
            Ready,
            Unproven,
            "it asks for no more than baseline, so starts were not checked against restricted; audit = \
             \"restricted\" does that",
        ),
        (
            "the same, and what runs would start",
            shop(Privileged, Baseline).runs("shop", 2, [0, 0]),
            vec![allowed()],
            Ready,
            Unproven,
            "the 2 containers that run now would start; it asks for no more than baseline, so starts were not checked against restricted; audit = \"restricted\" does that",
        ),
        (
            "nothing is held against anything",
            shop(Privileged, Privileged).runs("shop", 1, [0, 0]),
            vec![],
            Unproven,
            Unproven,
            "the container that runs now would start; it asks for no more than privileged, so starts were not checked against restricted; audit = \"restricted\" does that",
        ),
        (
            "silence, and something runs",
            watched().runs("shop", 3, [0, 0]),
            vec![],
            Ready,
            Ready,
            "nothing against the 3 containers that run now",
        ),
        (
            "silence, and something runs that would not start again",
            watched().runs("shop", 3, [0, 2]),
            vec![],
            Ready,
            Refused,
            "2 workloads would be refused (2 containers that run now)",
        ),
        (
            "a start that could not be judged",
            watched(),
            vec![allowed(), event(Kind::Fault, 1, "shop/web-0", "", "")],
            Refused,
            Refused,
            "1 start could not be judged, which enforce mode refuses",
        ),
        (
            "a command that is to join a container, as a probe does",
            watched(),
            vec![
                allowed(),
                Record {
                    message: "exec would violate PodSecurity".into(),
                    ..event(Kind::WouldDeny, 1, "shop/web-0", "restricted", "runAsNonRoot")
                },
            ],
            Ready,
            Refused,
            "1 command in running containers (exec, probes) would violate it",
        ),
        (
            "what an exception lets in, it lets in under enforce as well",
            shop(Restricted, Restricted),
            vec![event(Kind::Exception, 1, "shop/web-0", "restricted", "hostPathVolumes:disk")],
            Ready,
            Ready,
            "nothing against 1 logged start; 1 start by an exception",
        ),
        (
            "what hides whether baseline is violated",
            watched(),
            vec![event(Kind::Audit, 1, "shop/web-0", "restricted", "procMount_restricted")],
            Unproven,
            Refused,
            "1 workload would be refused by procMount_restricted (1 start)",
        ),
        (
            "labels that cannot be read",
            Node::new(),
            vec![allowed()],
            Unproven,
            Unproven,
            "what it asks for cannot be read, so an empty log proves nothing",
        ),
        (
            "no judgement, by the policy",
            {
                let mut node = Node::new();
                node.asked.insert("shop".into(), Asked::Exempt);
                node
            },
            vec![event(Kind::Exempt, 1, "shop/web-0", "", "")],
            Exempt,
            Exempt,
            "the policy exempts it",
        ),
    ];
    for (what, node, events, baseline, restricted, why) in rows {
        let (at_baseline, at_restricted, told) = node.state(&events);
        assert_eq!((at_baseline, at_restricted), (baseline, restricted), "{what}: {told}");
        assert_eq!(told, why, "{what}");
    }
    let mut lenient = watched();
    lenient.policy.on_fault = crate::level::policy::OnFault::Allow;
    let (_, restricted, _) = lenient.state(&[allowed(), event(Kind::Fault, 1, "shop/web-0", "", "")]);
    assert_eq!(restricted, Ready, "on-fault = \"allow\" lets it start");
    let mut strict = watched();
    strict.policy.on_suspect = OnSuspect::Deny;
    let (_, restricted, _) = strict.state(&[event(Kind::Audit, 1, "shop/web-0", "restricted", "runAsUser?")]);
    assert_eq!(restricted, Refused, "on-suspect = \"deny\" refuses it");
}

#[test]
fn the_answer_counts_namespaces_that_are_judged_and_were_seen() {
    let mut node = Node::new()
        .asks("a", Privileged, Restricted)
        .asks("b", Restricted, Restricted)
        .asks("c", Privileged, Restricted)
        .asks("idle", Privileged, Restricted)
        .asks("", Privileged, Restricted);
    node.asked.insert("kube-system".into(), Asked::Exempt);
    node.policy.mode = Mode::Enforce;
    let events = [
        event(Kind::Allowed, 1, "a/x-0", "privileged", ""),
        event(Kind::Allowed, 1, "b/x-0", "restricted", ""),
        event(Kind::Audit, 1, "c/x-0", "restricted", "runAsNonRoot"),
        event(Kind::Exempt, 1, "kube-system/x-0", "", ""),
        event(Kind::Audit, 1, "", "restricted", "privileged"),
        // Only in the period before.
        event(Kind::Audit, 9, "idle/x-0", "restricted", "privileged"),
    ];
    let told = node.told(&events);
    assert_eq!(told.ready.answer, "ready to enforce restricted in 2 of 3 namespaces, baseline in all 3");
    assert_eq!(
        node.told(&[]).ready.answer,
        "no data yet: no container starts recorded in any checked namespace"
    );
    let enforced: Vec<_> = told
        .ready
        .namespaces
        .iter()
        .filter(|row| row.restricted.enforced)
        .map(|row| row.namespace.as_deref().unwrap_or("-"))
        .collect();
    assert_eq!(enforced, ["b"], "what stops containers now is told from what could");
}

#[test]
fn what_our_own_control_refuses_alone_is_told_apart() {
    const OURS: &str = "readOnlyRootFilesystem";
    let denied = |whose, controls| event(Kind::WouldDeny, 1, whose, "restricted", controls);
    let row = |events: &[Record]| {
        let told = Node::new().asks("shop", Restricted, Restricted).told(events);
        let cell = &told.ready.namespaces[0].restricted;
        (cell.ours_alone, cell.but_for_ours, cell.why.clone(), told.ready.answer.clone())
    };
    let by = "would be refused by readOnlyRootFilesystem [pss-guard]";
    let alone = row(&[denied("shop/web-0", OURS)]);
    let why = format!("1 workload {by} (1 start), by pss-guard's own control alone");
    let answer = "ready to enforce restricted in 0 of 1 namespace (1 more without readOnlyRootFilesystem, pss-guard's own \
                  control), baseline in all 1";
    assert_eq!(alone, (1, true, why, answer.to_owned()));
    let both = "readOnlyRootFilesystem,runAsNonRoot";
    let (some, but, why, answer) = row(&[denied("shop/web-0", OURS), denied("shop/db-0", both)]);
    assert_eq!((some, but), (1, false), "{why}");
    assert!(why.ends_with("(2 starts), 1 of them by pss-guard's own control alone"), "{why}");
    assert!(answer.starts_with("ready to enforce restricted in 0 of 1 namespace, "), "{answer}");
    let (none, ..) = row(&[denied("shop/web-0", OURS), denied("shop/web-0", both)]);
    assert_eq!(none, 0, "one start of the workload violates upstream's, too");
    let faulty = row(&[denied("shop/web-0", OURS), event(Kind::Fault, 1, "shop/web-0", "", "")]);
    assert_eq!((faulty.0, faulty.1), (1, false), "something else is in the way");
}

#[test]
fn what_changed_is_told_as_far_as_the_journal_goes_back() {
    let mut node = Node::new().asks("shop", Privileged, Restricted);
    let events = [
        event(Kind::Audit, 9, "shop/old-0", "restricted", "privileged"),
        event(Kind::Audit, 9, "shop/mended-0", "restricted", "runAsNonRoot"),
        event(Kind::Allowed, 1, "shop/mended-0", "privileged", ""),
        event(Kind::Audit, 9, "shop/same-0", "restricted", "runAsNonRoot"),
        event(Kind::Audit, 1, "shop/same-0", "restricted", "runAsNonRoot"),
        event(Kind::Audit, 1, "shop/new-0", "restricted", "hostPorts"),
    ];
    let changes = node.told(&events).changes;
    let new: Vec<_> = changes.new.iter().filter_map(|name| name.workload.as_deref()).collect();
    let gone: Vec<_> = changes
        .gone
        .iter()
        .filter_map(|gone| Some((gone.name.workload.as_deref()?, gone.still_starts)))
        .collect();
    assert_eq!(new, ["new"]);
    assert_eq!(gone, [("mended", true), ("old", false)]);
    assert_eq!((changes.new_controls, changes.gone_controls), (vec!["hostPorts"], vec!["privileged"]));

    let until = super::super::events::micros(now());
    for (begins, comparable) in [
        (Some(until - 20 * DAY), Comparable::Whole),
        (Some(until - 10 * DAY), Comparable::Part),
        (Some(until - 2 * DAY), Comparable::Nothing),
        (None, Comparable::Unknown),
    ] {
        node.journal_begins = begins;
        let told = node.told(&events);
        assert_eq!(told.changes.comparable, comparable);
        let says =
            told.notes.iter().any(|note| note.starts_with("the journal begins at 2026-11-23 23:08 UTC"));
        assert_eq!(says, comparable == Comparable::Nothing, "{:?}", told.notes);
    }
}

#[test]
fn exceptions_are_told_by_their_use_and_their_end() {
    let policy = r#"
[[exceptions]]
namespace = "shop"
container = "app"
controls = ["hostPathVolumes"]
reason = "disk"
expires = 2026-12-01
[[exceptions]]
namespace = "shop"
controls = ["hostPorts"]
reason = "old agent"
expires = 2027-12-01
[[exceptions]]
namespace = "lax"
controls = ["runAsNonRoot"]
reason = "image"
expires = 2026-11-25
[[exceptions]]
namespace = "shop"
controls = ["sysctls"]
reason = "over"
expires = 2026-11-24
"#;
    let mut node = Node::new().asks("shop", Baseline, Restricted).asks("lax", Baseline, Restricted);
    node.policy = policy::parse(policy, "/etc/pss-guard/policy.toml").unwrap();
    let told = node.told(&[
        event(Kind::Exception, 1, "shop/web-0", "baseline", "hostPathVolumes:disk"),
        event(Kind::Exception, 2, "shop/web-0", "baseline", "hostPathVolumes:disk"),
        // Another container's, another reason's, and one of the period before.
        Record {
            container: "other".into(),
            ..event(Kind::Exception, 1, "shop/web-0", "baseline", "hostPathVolumes:disk")
        },
        event(Kind::Exception, 1, "shop/web-0", "baseline", "hostPathVolumes:forgotten"),
        event(Kind::Exception, 9, "shop/web-0", "baseline", "hostPorts:old agent"),
        // The sandbox has no container name.
        Record {
            container: String::new(),
            ..event(Kind::Exception, 1, "shop/web-0", "baseline", "sysctls:over")
        },
    ]);
    let rows: Vec<_> = told
        .exceptions
        .iter()
        .map(|row| (row.reason.as_str(), row.state, row.starts, row.days_left, row.ends_soon))
        .collect();
    assert_eq!(
        rows,
        [
            ("disk", Used, 2, 6, true),
            ("old agent", Unused, 0, 371, false),
            ("image", Untold, 0, 0, true),
            ("over", Expired, 1, -1, false),
        ]
    );
    assert_eq!(told.exceptions_gone, 2);
    assert_eq!(told.exceptions[0].last.as_deref(), Some("2026-11-24T23:08:42Z"));
}

#[test]
fn an_exception_is_used_by_the_starts_that_it_names() {
    let exception = |more: &str| {
        format!(
            "[[exceptions]]\nnamespace = 'shop'\n{more}\ncontrols = ['hostPathVolumes', 'hostPorts']\n\
             reason = 'disk'\nexpires = 2027-01-01\n"
        )
    };
    let mut node = Node::new().asks("shop", Baseline, Restricted);
    let all = ["pod = 'db-1'", "owner = 'web'", "image = 'quay.io/a/b:v1'", "container = 'nobody'"];
    let text: String = all.iter().map(|more| exception(more)).collect();
    node.policy = policy::parse(&text, "/etc/pss-guard/policy.toml").unwrap();
    let used = |pod: &str, image: &str| Record {
        image: image.into(),
        pod_uid: "0b9a2f7e-54f1-4d0c-9f50-0c1a5a1f2c3d".into(),
        ..event(Kind::Exception, 1, &format!("shop/{pod}"), "baseline", "hostPathVolumes:disk,hostPorts:disk")
    };
    let told = node.told(&[
        used("db-1", "quay.io/a/c"),
        used("web-5d4f8c7b9d-x7k2p", "quay.io/a/c"),
        used("web-5d4f8c7b9d-vn5tq", "quay.io/a/c"),
        used("db-2", "quay.io/a/b:v1"),
        used("db-2", "quay.io/a/b:v2"),
    ]);
    let rows: Vec<_> = told.exceptions.iter().map(|row| (row.whom.as_str(), row.state, row.starts)).collect();
    assert_eq!(
        rows,
        [
            ("shop/* (pod db-1)", Used, 1),
            ("shop/* (owner web)", Used, 2),
            ("shop/* (image quay.io/a/b:v1)", Used, 1),
            ("shop/nobody", Unused, 0),
        ]
    );
    assert_eq!(told.exceptions_gone, 1);
}

#[test]
fn the_text_fits_every_terminal_and_nothing_in_it_comes_from_outside_unescaped() {
    let mut node = Node::new().asks("shop", Privileged, Restricted);
    node.journal_begins = None;
    let long = "long-".repeat(60);
    let mut events = vec![
        event(
            Kind::Audit,
            1,
            &format!("shop/{long}"),
            "restricted",
            "privileged,runAsNonRoot,hostPorts,sysctls",
        ),
        event(Kind::WouldDeny, 1, "\u{1b}[2Jevil\n/\u{202e}pod", "baseline", "privileged"),
        event(Kind::Audit, 9, "shop/ü-0", "restricted", "privileged"),
        Record {
            because: format!("cannot read \u{1b}]0;title\u{7} {long}"),
            ..event(Kind::Fault, 1, "shop/web-0", "", "")
        },
        Record { message: "mode \u{1b}[31m".into(), ..event(Kind::ModeChange, 1, "", "", "") },
    ];
    for index in 0..40 {
        events.push(event(Kind::Audit, 1, &format!("ns{index}/web-0"), "restricted", "runAsNonRoot"));
    }
    let told = node.told(&events);
    for width in [40, 80, 100, 200, usize::MAX] {
        for unicode in [false, true] {
            let terminal = Style { width, colour: false, unicode };
            let mut out = Vec::new();
            text::write(&told, terminal, &mut out).unwrap();
            let shown = String::from_utf8(out).unwrap();
            let first: String = shown.replace('\n', " ").chars().take(48).collect();
            assert_eq!(first, "ready to enforce restricted in 0 of 42 namespace", "the answer comes first");
            assert!(unicode || shown.is_ascii(), "{shown}");
            let odd = shown.chars().find(|c| *c != '\n' && c.is_control() || *c == '\u{202e}');
            assert_eq!(odd, None, "{shown}");
            // A word that is longer than the line stays whole: it is there to be copied.
            let wide = shown.lines().find(|line| {
                line.chars().count() > width.max(60) && line.split(' ').all(|word| word.len() < 60)
            });
            assert_eq!(wide, None, "at {width} columns:\n{shown}");
        }
    }
}

#[test]
fn commands_are_told_by_what_became_of_them() {
    let counts =
        super::aggregate::Counts { denied: 1, would_deny: 2, audit: 3, warn: 4, ..Default::default() };
    assert_eq!(counts.of_commands(), "1 refused, 2 would be, 4 reported");
}
