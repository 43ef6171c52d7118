//! What is said of the agent, in words and in numbers.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{ALL, Machine, Setting, State};
use crate::agent::{self, Known, Report};
use crate::cli::arguments::{AnswerFormat, Status as Arguments};
use crate::cli::status::{Look, status};
use crate::metrics;
use crate::metrics::exposition::Number;
use crate::node::root::Root;
use crate::output::terminal::Style;
use crate::paths::Paths;

const REPORT: &str = "run/pss-guard/agent/agent.json";

/// Seconds that the node has been up, where it was just started.
const JUST: u64 = 20;

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

impl Machine {
    fn reports(&self, contact: u64, synced: bool) {
        let text = format!(
            r#"{{"v":1,"contact":{contact},"synced":{synced},"pods":61,"static_pods":4,"namespaces":12,"version":"9.8.7"}}"#
        );
        self.file(REPORT, &text);
        for number in 0..12 {
            self.file(&format!("run/pss-guard/namespaces/ns-{number}.json"), "{}");
        }
        // Before the report.
        let folder = File::open(self.root.join("run/pss-guard/namespaces")).unwrap();
        folder.set_modified(SystemTime::now() - Duration::from_secs(7200)).unwrap();
    }

    fn enable_agent(&self) {
        let wants = self.root.join("etc/systemd/system/multi-user.target.wants");
        fs::create_dir_all(&wants).unwrap();
        symlink("/etc/systemd/system/pss-guard-agent.service", wants.join("pss-guard-agent.service"))
            .unwrap();
    }

    fn was_started(&self, seconds: u64) {
        self.file("proc/uptime", &format!("{seconds}.00 1.00\n"));
        // Processes that are younger than the machine.
        for (pid, arguments) in [(1, "/usr/bin/containerd"), (2, "/usr/bin/kubelet"), (10, "/app")] {
            let stat = format!("{pid} (a) S 1 {}0 0 0", "0 ".repeat(17));
            self.file(&format!("proc/{pid}/stat"), &stat);
            self.file(&format!("proc/{pid}/cmdline"), &format!("{arguments}\0"));
        }
    }

    /// What the checks of the agent say.
    fn said_of_agent(&self) -> Vec<(State, String)> {
        let checks = self.status().policy.checks.0.into_iter().filter(|check| check.check == "agent");
        checks.map(|check| (check.state, check.says)).collect()
    }

    /// A gauge without labels.
    fn gauge(&self, name: &str) -> Option<u64> {
        let families = metrics::node::families(&self.setting(), &mut Vec::new());
        let family = families.into_iter().find(|family| family.name == name)?;
        match family.samples[..] {
            [(_, Number::Whole(number))] => Some(number),
            _ => panic!("{family:?}"),
        }
    }
}

/// Somebody removed them from both folders: nothing but the agent's own number tells.
#[test]
fn namespaces_that_the_agent_knows_and_the_node_does_not_are_missed() {
    let machine = Machine::new();
    machine.reports(now(), true);
    assert_eq!(machine.said(None).0, 0, "{}", machine.said(None).1);
    let folder = machine.root.join("run/pss-guard/namespaces");
    fs::remove_file(folder.join("ns-3.json")).unwrap();
    // The next report may bring another number.
    assert_eq!(machine.said(None).0, 0, "{}", machine.said(None).1);
    File::open(&folder).unwrap().set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
    let (code, said) = machine.said(None);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("the agent knows 12 namespaces, and 11 are in"), "{said}");
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn the_age_of_the_agents_contact_is_said_in_every_state() {
    type Change = fn(&Machine);
    /// What is said, the gauge of the contact as its age, and that of the lists.
    type Expected = (State, &'static str, Option<u64>, u64);
    let rows: &[(&str, Change, Option<Expected>)] = &[
        ("no agent was ever here", |_| {}, None),
        ("something else of the folder", |m| drop(m.file("run/pss-guard/agent/events.json", "{}")), None),
        (
            "it has contact",
            |m| m.reports(now() - 30, true),
            Some((
                State::Ok,
                "version 9.8.7: the API server answered 30 seconds ago; it knows 61 pods, 4 static pods and 12 namespaces",
                Some(30),
                1,
            )),
        ),
        (
            "by a clock that was set back a little",
            |m| m.reports(now() + 20, true),
            Some((State::Ok, "the API server answered 0 seconds ago; it knows", Some(0), 1)),
        ),
        (
            "it has lost contact",
            |m| m.reports(now() - 600, true),
            Some((
                State::Wrong,
                "the API server last answered 10 minutes ago; what this node knows of namespaces and pods is as of then; \
                 the agent's log says why",
                Some(600),
                1,
            )),
        ),
        (
            "so has the one of the host",
            |m| {
                m.enable_agent();
                m.reports(now() - 61, true);
            },
            Some((State::Wrong, "as of then; `journalctl -u pss-guard-agent.service` says why", Some(61), 1)),
        ),
        (
            "it has not listed everything",
            |m| m.reports(now(), false),
            Some((State::Wrong, "are not all listed since the agent started", Some(0), 0)),
        ),
        (
            "it has not listed everything, and the node was just started",
            |m| {
                m.was_started(JUST);
                m.reports(now(), false);
            },
            Some((State::Note, "are not all listed since the agent started", Some(0), 0)),
        ),
        (
            "it never had contact",
            |m| m.reports(0, false),
            Some((State::Wrong, "the API server has not answered since the agent started", None, 0)),
        ),
        (
            "it reported before the boot, a moment ago",
            |m| {
                m.was_started(JUST);
                m.reports(now() - JUST - 5, true);
            },
            Some((
                State::Note,
                "no agent has reached the API server since the boot, 20 seconds ago",
                None,
                0,
            )),
        ),
        (
            "it reported before the boot, and never since",
            |m| {
                m.was_started(150);
                m.reports(now() - 155, true);
            },
            Some((State::Wrong, "/var/lib/pss-guard/agent/agent.json`", None, 0)),
        ),
        (
            "its clock was ahead",
            |m| m.reports(now() + 3 * 3600 + 100, true),
            Some((State::Wrong, "the API server answered 3 hours from now, by this node's clock", None, 1)),
        ),
        (
            "a number beyond all clocks",
            |m| m.reports(u64::MAX, true),
            Some((State::Wrong, "has not answered since", None, 1)),
        ),
        (
            "a report that is cut off",
            |m| drop(m.file(REPORT, r#"{"v":1,"contact":17"#)),
            Some((
                State::Wrong,
                "agent.json as the agent's report, which an agent that runs writes again within a minute: EOF while parsing",
                None,
                0,
            )),
        ),
        (
            "an empty report",
            |m| drop(m.file(REPORT, "")),
            Some((
                State::Wrong,
                "agent.json as the agent's report, which an agent that runs writes again within a minute: EOF while parsing",
                None,
                0,
            )),
        ),
        (
            "a report without a version",
            |m| drop(m.file(REPORT, r#"{"contact":1,"synced":true,"pods":1}"#)),
            Some((State::Wrong, "missing field `v`", None, 0)),
        ),
        (
            "of a newer format",
            |m| drop(m.file(REPORT, r#"{"v":2,"connected":true}"#)),
            Some((
                State::Wrong,
                "has the format version 2, and this program reads 1: upgrade pss-guard",
                None,
                0,
            )),
        ),
        (
            "with a key that is new",
            |m| {
                let more = format!(r#"{{"v":1,"contact":{},"synced":true,"pods":1,"zone":"a"}}"#, now());
                m.file(REPORT, &more);
            },
            Some((State::Ok, "it knows 1 pod and 0 namespaces", Some(0), 1)),
        ),
        (
            "a folder that others can write",
            |m| {
                m.reports(now(), true);
                m.mode("run/pss-guard/agent", 0o777);
            },
            Some((State::Wrong, "when the API server answered last is unknown", None, 0)),
        ),
        (
            "the unit is enabled and says nothing",
            Machine::enable_agent,
            Some((State::Wrong, "pss-guard-agent.service is enabled, and no agent has reported", None, 0)),
        ),
        (
            "the unit is enabled and the node was just started",
            |m| {
                m.enable_agent();
                m.was_started(JUST);
            },
            Some((State::Note, "has not reported since the boot, 20 seconds ago", None, 0)),
        ),
    ];
    for (what, change, expected) in rows {
        let machine = Machine::new();
        change(&machine);
        let said = machine.said_of_agent();
        let contact = machine.gauge("pss_guard_agent_last_contact_timestamp_seconds");
        let synced = machine.gauge("pss_guard_agent_synced");
        let Some((state, part, age, is_synced)) = expected else {
            assert_eq!((said, contact, synced), (Vec::new(), None, None), "{what}");
            continue;
        };
        let [(found, says)] = &said[..] else { panic!("{what}: {said:?}") };
        assert!(found == state && says.contains(part), "{what}: {said:?}");
        // Time goes on between the two.
        let contact = contact.unwrap_or_else(|| panic!("{what}: no gauge"));
        let is_right = match age {
            None => contact == 0,
            Some(0) => contact.abs_diff(now()) < 30,
            Some(age) => (*age..age + 10).contains(&(now() - contact)),
        };
        assert!(is_right, "{what}: {contact}");
        assert_eq!(synced, Some(*is_synced), "{what}");
        // 1 in every state that is not good, and never `all is well`.
        let (code, text) = machine.said(None);
        let expected = u8::from(*state == State::Wrong);
        assert_eq!(code, expected, "{what}\n{text}");
        assert_eq!(machine.status().enforces, *state != State::Wrong, "{what}");
    }
}

#[test]
fn the_json_has_what_the_agent_says_and_when_it_was_right() {
    let json = |machine: &Machine| -> serde_json::Value {
        let mut out = Vec::new();
        let arguments = Arguments { engine: None, format: AnswerFormat::Json, running: false, json: false };
        let look = Look { containers: false, style: Style::PLAIN };
        status(&machine.setting(), &Root::Own, &arguments, look, &mut out, &mut Vec::new());
        serde_json::from_slice(&out).unwrap()
    };
    let machine = Machine::new();
    assert_eq!(json(&machine)["policy"]["agent"], serde_json::Value::Null);
    machine.reports(now() - 600, true);
    let agent = &json(&machine)["policy"]["agent"];
    for (key, expected) in [
        ("version", "9.8.7".into()),
        ("current", false.into()),
        ("synced", true.into()),
        ("pods", 61.into()),
        ("static_pods", 4.into()),
        ("namespaces", serde_json::Value::from(12)),
    ] {
        assert_eq!(agent[key], expected, "{key}");
    }
    assert!(agent["contact"].as_str().is_some_and(|at| at.ends_with('Z')), "{agent}");
    machine.reports(now(), true);
    assert_eq!(json(&machine)["policy"]["agent"]["current"], true);
}

#[test]
fn a_version_is_no_way_to_say_something_else() {
    let machine = Machine::new();
    let version = format!("\\u001b[2J{}", "x".repeat(1000));
    machine.file(
        REPORT,
        &format!(r#"{{"v":1,"contact":{},"synced":true,"pods":1,"version":"{version}"}}"#, now()),
    );
    let (code, said) = machine.said(None);
    assert!(code == 0 && !said.contains('\u{1b}') && !said.contains(&"x".repeat(40)), "{said}");
}

#[test]
fn a_first_report_is_kept_and_a_boot_does_not_make_it_fresh() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let machine = Machine::new();
    let paths = Paths::under(&machine.root);
    let report = |contact| Report::new(contact, true, Known { pods: 1, ..Known::default() }, "1");
    let kept = machine.root.join("var/lib/pss-guard/agent/agent.json");
    assert!(agent::put(&paths, &report(0)).unwrap() && !kept.exists(), "nothing that is worth it");
    let first = now() - 500;
    for contact in [first, now()] {
        assert!(agent::put(&paths, &report(contact)).unwrap());
        assert!(!agent::put(&paths, &report(contact)).unwrap(), "twice");
        // A disk does not have to wait for every contact.
        let kept = fs::read_to_string(&kept).unwrap();
        assert!(kept.contains(&first.to_string()), "{kept}");
    }
    assert_eq!(machine.said_of_agent()[0].0, State::Ok);
    // What systemd-tmpfiles does; a copy of the last report is no fresher.
    let live = machine.root.join(REPORT);
    machine.was_started(150);
    for contact in [now() - 500, now() - 155] {
        agent::put(&paths, &report(contact)).unwrap();
        let said = machine.said_of_agent();
        assert!(said[0].0 == State::Wrong && said[0].1.contains("since the boot"), "{said:?}");
    }
    // The way out that is said.
    fs::remove_file(live).unwrap();
    assert_eq!(machine.said_of_agent(), Vec::new());
}

#[test]
fn an_image_of_a_node_is_not_asked_for_its_agent() {
    let machine = Machine::new();
    machine.enable_agent();
    machine.reports(now() - 5000, false);
    let status = Setting::under(&machine.root, ALL).ask(None);
    assert!(!status.policy.checks.0.iter().any(|check| check.check == "agent"));
}

#[test]
fn with_an_agent_its_contact_is_the_age_of_what_is_known() {
    const IMPORTED: &str = "pss_guard_namespaces_imported_timestamp_seconds";
    let machine = Machine::new();
    for folder in ["run/pss-guard/namespaces", "var/lib/pss-guard/namespaces", "run/pss-guard/pods"] {
        machine.file(&format!("{folder}/shop.json"), "{}");
    }
    // Listed once, and told of every change since.
    for folder in ["run/pss-guard/namespaces", "run/pss-guard/pods"] {
        let folder = fs::File::open(machine.root.join(folder)).unwrap();
        folder.set_modified(SystemTime::now() - Duration::from_secs(7200)).unwrap();
    }
    let age = || now() - machine.gauge(IMPORTED).unwrap();
    assert!((7200..7230).contains(&age()));
    let (_, said) = machine.said(None);
    assert!(said.contains("imported 2 hours ago") && said.contains("listed 2 hours ago"), "{said}");
    machine.reports(now() - 40, true);
    assert!((40..70).contains(&age()), "{}", age());
    let (_, said) = machine.said(None);
    assert!(!said.contains("2 hours ago"), "{said}");
    // Nothing that is not true of all of them.
    for (contact, synced) in [(now(), false), (now() + 9999, true)] {
        machine.reports(contact, synced);
        assert!((7200..7230).contains(&age()), "{}", age());
    }
}

#[test]
fn a_namespace_below_the_floor_is_named() {
    let machine = Machine::new();
    let level = |name: &str, level: &str| {
        let text = format!(r#"{{"v":1,"pod-security.kubernetes.io/enforce":"{level}"}}"#);
        for folder in ["run", "var/lib"] {
            machine.file(&format!("{folder}/pss-guard/namespaces/{name}.json"), &text);
        }
    };
    let policy = |floor: &str| {
        let text = format!("mode = \"enforce\"\n[agent]\nfloor = \"{floor}\"\n");
        machine.file("etc/pss-guard/policy.toml", &text);
    };
    let found = || {
        let status = machine.status();
        let said: Vec<String> = status
            .policy
            .checks
            .0
            .into_iter()
            .filter(|check| check.check == "floor")
            .map(|check| check.says)
            .collect();
        let gauge = machine.gauge("pss_guard_namespaces_below_floor");
        assert_eq!(gauge, Some(status.policy.namespaces_below_floor.len() as u64));
        (status.policy.namespaces_below_floor, said.join("\n"), status.state)
    };
    for (name, asked) in
        [("shop", "privileged"), ("lab", "baseline"), ("bank", "restricted"), ("odd", "nonsense")]
    {
        level(name, asked);
    }
    // Exempt whatever it says; and one that asks for nothing.
    level("kube-system", "privileged");
    for folder in ["run", "var/lib"] {
        machine.file(&format!("{folder}/pss-guard/namespaces/plain.json"), "{\"v\":1}");
    }
    for (floor, expected) in
        [("privileged", &[][..]), ("baseline", &["shop"]), ("restricted", &["lab", "shop"])]
    {
        policy(floor);
        let (below, said, state) = found();
        assert_eq!(below, expected, "{floor}");
        // Nothing is looser for it.
        assert_eq!(state, State::Note, "{said}");
        assert_eq!(said.is_empty(), expected.is_empty(), "{said}");
        assert!(expected.iter().all(|name| said.contains(name)), "{said}");
    }
    for nth in 0..9 {
        level(&format!("z{nth}"), "privileged");
    }
    let (below, said, _) = found();
    assert_eq!(below.len(), 11);
    assert!(said.contains("lab, shop, z0, z1, z2 and 6 more; the floor is enforced there"), "{said}");
    // What cannot be read is a fault of its own.
    machine.file("run/pss-guard/namespaces/broken.json", "garbage");
    let (below, _, state) = found();
    assert_eq!((below.len(), state), (11, State::Wrong));
}
