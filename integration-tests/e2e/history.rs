//! Is every event told once, whatever becomes of the journal? A real journald that is stopped, rotated, vacuumed and
//! started again between decisions.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::support::machine::{Daemon, Machine};

/// A node on which the gate decides, with a journald that can be taken away.
pub(crate) struct History {
    pub(crate) machine: Machine,
    journald: Option<Daemon>,
    decided: usize,
}

/// Where the container lies that the gate decides upon.
const BUNDLE: &str = "/run/bundle";

/// What restricted refuses of it.
pub(crate) const CONTROL: &str = "runAsNonRoot";

impl History {
    pub(crate) fn can_run(test: &str) -> bool {
        Machine::can_run(test, &[], &[])
    }

    /// Begins with a journald that listens, and no decision.
    pub(crate) fn begin() -> Self {
        let machine = Machine::up();
        machine.run(&["mkdir", "/var/log/journal"]).expect_success();
        machine
            .write("/etc/pss-guard/policy.toml", "mode = \"audit\"\n[defaults]\nenforce = \"restricted\"\n");
        let case = "integration-tests/corpus/containerd-2.1/restricted-v1-35-fail-runasnonroot1";
        let case = Path::new(env!("CARGO_MANIFEST_DIR")).join(case);
        let container = std::fs::read_dir(case.join("containers")).expect("a captured pod").next();
        let container = container.expect("a container").expect("a container").path();
        let config = std::fs::read_to_string(container.join("config.json")).expect("its config.json");
        machine.write(&format!("{BUNDLE}/config.json"), &config);
        let journald = Some(machine.start_journald());
        let history = Self { machine, journald, decided: 0 };
        // journald keeps its files where they outlive a boot, as on a node of a cluster.
        history.journalctl(&["--flush"]);
        history
    }

    /// Starts so many containers that would be refused. Every one is one event, to whoever takes it.
    pub(crate) fn decide(&mut self, count: usize) {
        for _ in 0..count {
            self.decided += 1;
            let id = format!("{:064x}", self.decided);
            let state = format!(
                r#"{{"ociVersion":"1.2.0","id":"{id}","status":"created","pid":1,"bundle":"{BUNDLE}"}}"#
            );
            let line = "printf %s \"$1\" | /opt/pss-guard-gate hook --engine containerd";
            self.machine.run(&["sh", "-c", line, "sh", &state]).expect_success();
        }
        self.sync();
    }

    /// How many decisions there were.
    pub(crate) fn decided(&self) -> usize {
        self.decided
    }

    pub(crate) fn stop_journald(&mut self) {
        self.machine.stop(self.journald.take().expect("a journald that runs"));
        // A socket that systemd does not hold is gone with who listened.
        let _ = std::fs::remove_file(self.machine.path("/run/systemd/journal/socket"));
    }

    pub(crate) fn start_journald(&mut self) {
        self.journald = Some(self.machine.start_journald());
        self.journalctl(&["--flush"]);
    }

    /// Begins new files of the journal; the old ones stay.
    pub(crate) fn rotate(&self) {
        self.journalctl(&["--rotate"]);
    }

    /// Takes away all files of the journal but the one that is written.
    pub(crate) fn vacuum(&self) {
        self.journalctl(&["--rotate"]);
        self.journalctl(&["--vacuum-time=1us"]);
    }

    /// Waits until journald has written what it was sent.
    fn sync(&self) {
        if self.journald.is_some() {
            self.journalctl(&["--sync"]);
        }
    }

    fn journalctl(&self, arguments: &[&str]) {
        let done = self.machine.run(&[&["journalctl"], arguments].concat());
        assert!(done.code == Some(0), "{done}\n{}", self.machine.said("journald"));
    }

    /// What `pss-guard report` says.
    pub(crate) fn report(&self, arguments: &[&str]) -> Value {
        let line = [&["/opt/pss-guard", "report", "--format", "json", "--no-scan"], arguments].concat();
        let done = self.machine.run(&line).expect_success();
        serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}\n{done}"))
    }

    /// The node's clock, as the report writes it.
    fn now(&self) -> String {
        self.machine.run(&["date", "-u", "+%FT%TZ"]).expect_success().stdout.trim().to_owned()
    }

    /// How many lines the file has that stands in for the journal.
    pub(crate) fn in_the_file(&self) -> usize {
        self.machine.read("/var/log/pss-guard/decisions.jsonl").lines().count()
    }
}

#[test]
fn events_are_told_once_whatever_becomes_of_the_journal() {
    tell("history::events_are_told_once_whatever_becomes_of_the_journal");
}

/// Nothing is told twice, and nothing is lost but what somebody took away.
fn tell(test: &str) {
    if !History::can_run(test) {
        return;
    }
    let mut history = History::begin();
    let starts = |history: &History| {
        let report = history.report(&["--since", "1h"]);
        let row = report["decisions"].as_array().into_iter().flatten();
        let row =
            row.clone().find(|row| row["decision"] == "would-deny").unwrap_or_else(|| panic!("{report}"));
        assert_eq!(row["starts"], report["starts"], "every start is one that would be refused: {report}");
        usize::try_from(row["starts"].as_u64().expect("a number")).expect("a small one")
    };
    let holds = |history: &History, what: &str| {
        assert_eq!(starts(history), history.decided(), "{what}");
    };
    holds(&history, "nothing yet");
    history.decide(3);
    holds(&history, "in the journal");
    assert_eq!(history.in_the_file(), 0, "journald took all of them");
    history.stop_journald();
    history.decide(2);
    assert_eq!(history.in_the_file(), 2, "there was nobody else to take them");
    holds(&history, "some in the journal, some in the file");
    history.start_journald();
    history.decide(2);
    assert_eq!(history.in_the_file(), 2, "journald takes them again");
    holds(&history, "after a restart");
    history.rotate();
    history.decide(1);
    history.rotate();
    history.decide(1);
    holds(&history, "over three files of the journal");
    history.stop_journald();
    history.decide(1);
    history.start_journald();
    history.rotate();
    holds(&history, "with a file that was archived between two lives");

    let report = history.report(&["--since", "1h"]);
    let controls: Vec<_> =
        report["controls"].as_array().expect("controls").iter().map(|row| &row["control"]).collect();
    assert!(controls.iter().any(|control| *control == CONTROL), "{report}");
    assert_eq!(report["unseen"], Value::Array(Vec::new()), "{report}");
    // An hour ago there was no journal, and the report says so.
    assert_eq!(report["changes"]["comparable"], "nothing", "{report}");
    let begins = |history: &History| {
        let report = history.report(&["--since", "1h"]);
        report["period"]["journal-begins"].as_str().expect("a beginning").to_owned()
    };
    let before = begins(&history);
    // The report counts in whole seconds, and all of the above can happen within one.
    while history.now() <= before {
        std::thread::sleep(Duration::from_millis(50));
    }
    history.vacuum();
    assert_eq!(
        starts(&history),
        history.in_the_file(),
        "what was taken away is gone; the file is still there"
    );
    history.decide(2);
    assert_eq!(starts(&history), history.in_the_file() + 2, "and what came since is told once");
    assert!(begins(&history) > before, "the report says since when it knows");
}
