//! Many starts at once: which pods, what came of each, and what is left of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::journal::Journal;
use crate::support::pod::{Capabilities, Pod};
use crate::support::runtime::{Attempt, Gate, RuntimeNode, Sandbox};
use crate::support::{program, root};

/// How many starts are on their way at a time.
pub(crate) const AT_ONCE: usize = 16;

/// How many there are to be: what a variable of the environment says, if it is set, for a machine that has less time.
pub(crate) fn number(variable: &str, usual: usize) -> usize {
    std::env::var(variable).map_or(usual, |text| text.parse().expect("a number"))
}

/// What a start came to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// The process ran.
    Started,
    /// It did not, and the gate said this.
    Refused(String),
    /// Anything else: a process that ran although the runtime refused it, a runtime that failed by itself.
    Odd(String),
}

impl Outcome {
    pub(crate) fn of(attempt: &Attempt) -> Self {
        let said = attempt.message.split_once("pss-guard: ").map(|(_, said)| said.trim_end().to_owned());
        match (attempt.ran, attempt.created.code, said) {
            (true, Some(0), None) => Self::Started,
            (false, Some(code), Some(said)) if code != 0 && !attempt.kept => Self::Refused(said),
            _ => Self::Odd(attempt.to_string()),
        }
    }
}

/// Violates baseline, and so every level below privileged.
pub(crate) fn forbidden(namespace: &'static str) -> Pod {
    Pod { capabilities: Capabilities::Add(&["SYS_ADMIN"]), namespace, ..Pod::bare() }
}

/// Violates restricted alone.
pub(crate) fn bare(namespace: &'static str) -> Pod {
    Pod { namespace, ..Pod::bare() }
}

/// Violates nothing.
pub(crate) fn compliant(namespace: &'static str) -> Pod {
    Pod { namespace, ..Pod::compliant() }
}

/// The gate as `install` leaves it, so that it can be replaced: below the node's root. `program::entry` links to it.
pub(crate) fn install(node: &RuntimeNode) -> PathBuf {
    let gate = node.root().join("var/lib/pss-guard/bin/pss-guard-gate");
    fs::create_dir_all(gate.parent().unwrap()).unwrap();
    fs::copy(program::gate(), &gate).unwrap();
    gate
}

/// Starts a container of the sandbox's pod by the gate that is installed, and removes its bundle.
pub(crate) fn start(node: &RuntimeNode, sandbox: &Sandbox<'_>, gate: Gate) -> Attempt {
    start_by(node, sandbox, gate, &[], 0)
}

/// The same with a hook that other programs start, the last of which starts the gate, and so many bytes more in config.json.
pub(crate) fn start_by(
    node: &RuntimeNode,
    sandbox: &Sandbox<'_>,
    gate: Gate,
    before: &[&str],
    more: usize,
) -> Attempt {
    let attempt = sandbox.start_with(gate, |spec| {
        give_time(spec);
        // As the links to many services do.
        let variables =
            (0..more / 1_000).map(|number| json!(format!("{:x<1000}", format!("MORE_{number}="))));
        spec["process"]["env"].as_array_mut().unwrap().extend(variables);
        if gate == Gate::Hook {
            let hook = &mut spec["hooks"]["createRuntime"][0];
            let installed = node.root().join("var/lib/pss-guard/bin/pss-guard-gate");
            if before.is_empty() {
                hook["path"] = json!(installed);
            } else {
                let own = hook["args"].as_array().unwrap()[1..].to_vec();
                let mut line: Vec<Value> = before.iter().map(|word| json!(word)).collect();
                line.push(json!(installed));
                line.extend(own);
                hook["path"] = json!(before[0]);
                hook["args"] = Value::Array(line);
            }
        }
    });
    let _ = fs::remove_dir_all(node.bundle(&attempt.id));
    attempt
}

/// A pod that asks for no processor gets two of 1,024 shares. Where all processors are busy that is none: a runtime that has moved into
/// such a container does not come back within a minute.
pub(crate) fn give_time(spec: &mut Value) {
    spec["linux"]["resources"]["cpu"] = json!({"shares": 1024});
}

/// How often each container is in the journal and in the file beside it as denied.
pub(crate) fn denials(node: &Path) -> BTreeMap<String, usize> {
    let mut all = root::events(node);
    if node.join("run/systemd/journal/socket").exists() {
        all.extend(Journal::events(&["--identifier=pss-guard", "PSS_DECISION=denied"]));
    }
    let mut denials = BTreeMap::new();
    for event in all.iter().filter(|event| event["PSS_DECISION"] == "denied") {
        *denials.entry(event["PSS_CONTAINER_ID"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }
    denials
}

/// What a container that is gone must not leave on the machine.
#[derive(Debug)]
pub(crate) struct Traces {
    /// Places of mounts, control groups, and files of the gate but its events.
    all: BTreeSet<PathBuf>,
}

impl Traces {
    pub(crate) fn of(node: &RuntimeNode) -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mut all: Vec<PathBuf> =
            mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from).collect();
        let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap().flatten();
        let groups =
            hierarchies.flat_map(|hierarchy| fs::read_dir(hierarchy.path()).into_iter().flatten().flatten());
        all.extend(
            groups
                .map(|group| group.path())
                .filter(|path| path.to_string_lossy().contains("/pss-guard-test-")),
        );
        for folder in ["run/pss-guard", "var/lib/pss-guard", "etc/pss-guard"] {
            walk(&node.root().join(folder), &mut all);
        }
        all.retain(|file| !file.starts_with(node.root().join("run/pss-guard/events")));
        Self { all: all.into_iter().collect() }
    }

    /// What is there now and was not before.
    pub(crate) fn since<'a>(&'a self, before: &'a Self) -> Vec<&'a PathBuf> {
        self.all.difference(&before.all).collect()
    }
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&path, files);
        } else {
            files.push(path);
        }
    }
}
