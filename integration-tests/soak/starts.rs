//! 2,000 starts and stops, 16 at a time, half of them of pods that no level allows, while the policy, the levels of a namespace and the
//! facts of pods are written again 50 times a second, the agent's folders are replaced, the gate is upgraded, and journald is
//! restarted. Each start is judged by one version of each, and each denial is in the journal once.
//! `PSS_GUARD_STARTS` says another number of starts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use serde_json::json;

use crate::support::journal::Journal;
use crate::support::pod::{Engine, Pod};
use crate::support::runtime::{Gate, Runtime, RuntimeNode, Sandbox};
use crate::support::storm::{self, AT_ONCE, Outcome, Traces};
use crate::support::{program, run};

const STARTS: usize = 2_000;

/// Makes a pod in a namespace.
type Make = fn(&'static str) -> Pod;

/// Half of the starts are of the first; the second starts or not as the level happens to be.
const KINDS: [(&str, Make); 3] =
    [("forbidden", storm::forbidden), ("bare", storm::bare), ("compliant", storm::compliant)];

/// The first has its level from the policy, the second from its labels.
const NAMESPACES: [&str; 2] = ["shop", "labelled"];

/// A policy that mixed the two would name a level at the other's version.
const POLICIES: [&str; 2] = [
    "mode = 'enforce'\n[defaults]\nenforce = 'restricted'\nenforce-version = 'v1.30'\naudit = 'privileged'\nwarn = 'privileged'\n",
    "mode = 'enforce'\n[defaults]\nenforce = 'baseline'\nenforce-version = 'v1.25'\naudit = 'privileged'\nwarn = 'privileged'\n",
];

const LABELS: [(&str, &str); 2] = [("restricted", "v1.29"), ("baseline", "v1.26")];

/// The files that decide. Each has two versions.
struct Inputs {
    root: PathBuf,
    policies: [String; 2],
    /// The UIDs of the pods that have facts.
    declared: Mutex<Vec<String>>,
}

impl Inputs {
    fn new(node: &RuntimeNode) -> Self {
        let kubelet = format!("[node]\nkubelet-root = '{}'\n", node.kubelet_root().display());
        let inputs = Self {
            root: node.root(),
            policies: POLICIES.map(|policy| format!("{policy}{kubelet}")),
            declared: Mutex::default(),
        };
        for folder in
            ["etc/pss-guard", "run/pss-guard/namespaces", "run/pss-guard/pods", "run/pss-guard/events"]
        {
            fs::create_dir_all(inputs.root.join(folder)).unwrap();
        }
        inputs
    }

    fn policy(&self, version: usize) {
        replace(&self.root.join("etc/pss-guard/policy.toml"), &self.policies[version]);
    }

    fn labels(folder: &Path, version: usize) {
        let (level, at) = LABELS[version];
        let key = "pod-security.kubernetes.io/enforce";
        let labels = json!({key: level, format!("{key}-version"): at});
        replace(&folder.join("labelled.json"), &labels.to_string());
    }

    /// What pods declare: a host network in one version, which the node does not see.
    fn facts(declared: &[String], folder: &Path, version: usize) {
        for uid in declared {
            let facts = json!({
                "v": 1, "uid": uid, "namespace": "shop", "name": "web-0", "source": "api",
                "spec": {"hostNetwork": version == 1, "containers": [{
                    "name": "app", "securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}},
                }]},
            });
            replace(&folder.join(uid).with_extension("json"), &facts.to_string());
        }
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.root.join("run/pss-guard").join(name)
    }

    fn set(&self, versions: [usize; 3]) {
        self.policy(versions[0]);
        Self::labels(&self.folder("namespaces"), versions[1]);
        Self::facts(&self.declared.lock().unwrap(), &self.folder("pods"), versions[2]);
    }

    /// From now on this pod has facts.
    fn declare(&self, uid: &str) {
        let mut declared = self.declared.lock().unwrap();
        declared.push(uid.to_owned());
        Self::facts(&declared[declared.len() - 1..], &self.folder("pods"), 0);
    }

    /// No pod has facts any more.
    fn forget(&self) {
        self.declared.lock().unwrap().clear();
        self.exchange("pods", |_| ());
    }

    /// Puts a whole folder in the place of one that is there, in one step.
    fn exchange(&self, name: &str, fill: impl Fn(&Path)) {
        let (folder, new) = (self.folder(name), self.folder(&format!("{name}.other")));
        fs::create_dir(&new).unwrap();
        fill(&new);
        renameat2(AT_FDCWD, &folder, AT_FDCWD, &new, RenameFlags::RENAME_EXCHANGE).unwrap();
        fs::remove_dir_all(new).unwrap();
    }
}

/// Writes a file beside its place and moves it there.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("writing");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

/// A pod of each kind in a namespace, whose facts are among the inputs if it is the one that has some.
fn sandboxes<'n>(node: &'n RuntimeNode, inputs: &Inputs, namespace: &'static str) -> Vec<Sandbox<'n>> {
    let all: Vec<Sandbox<'n>> = KINDS.iter().map(|(_, pod)| node.sandbox(&pod(namespace))).collect();
    if namespace == "shop" {
        inputs.declare(&all[0].place.uid);
    }
    all
}

/// What each kind of pod comes to in each namespace, by every combination of versions, one start at a time.
fn known(node: &RuntimeNode, inputs: &Inputs) -> BTreeMap<(usize, usize), BTreeSet<Outcome>> {
    let mut known: BTreeMap<_, BTreeSet<Outcome>> = BTreeMap::new();
    for (place, namespace) in NAMESPACES.into_iter().enumerate() {
        let pods = sandboxes(node, inputs, namespace);
        for combination in 0..8 {
            inputs.set([combination & 1, combination >> 1 & 1, combination >> 2 & 1]);
            for (kind, pod) in pods.iter().enumerate() {
                let outcome = Outcome::of(&storm::start(node, pod, Gate::Hook));
                known.entry((kind, place)).or_default().insert(outcome);
            }
        }
    }
    inputs.forget();
    inputs.set([0; 3]);
    known
}

#[test]
fn each_start_is_judged_by_one_version_and_each_denial_is_logged_once() {
    if !Journal::can_run("each_start_is_judged_by_one_version_and_each_denial_is_logged_once") {
        return;
    }
    let starts = storm::number("PSS_GUARD_STARTS", STARTS);
    let node = RuntimeNode::new(Engine::Containerd, Runtime::Runc);
    let gate = storm::install(&node);
    let inputs = Inputs::new(&node);
    let mut journal = Journal::held();
    Journal::lead_to(&node.root());
    let known = known(&node, &inputs);
    for ((kind, place), outcomes) in &known {
        let (name, _) = KINDS[*kind];
        let odd = outcomes.iter().find(|outcome| matches!(outcome, Outcome::Odd(_)));
        assert!(odd.is_none(), "{name} in {}: {odd:?}", NAMESPACES[*place]);
        // Or there would be nothing that can be torn.
        let versions = if name == "compliant" { 1..=1 } else { 2..=4 };
        assert!(versions.contains(&outcomes.len()), "{name} in {}: {outcomes:#?}", NAMESPACES[*place]);
        assert_eq!(outcomes.contains(&Outcome::Started), name != "forbidden", "{name}: {outcomes:#?}");
    }

    let warm = storm::denials(&node.root()).len();
    let came = Mutex::new(Vec::new());
    let (next, ended) = (AtomicUsize::new(0), AtomicBool::new(false));
    // The wrapper's links are made with its first command.
    run::run(&mut node.wrapped(&["list"]));
    let before = Traces::of(&node);
    // One after the other: the kernel makes network namespaces slowly.
    let pods: Vec<_> =
        (0..AT_ONCE).map(|worker| sandboxes(&node, &inputs, NAMESPACES[worker % NAMESPACES.len()])).collect();
    let (rounds, restarts) = thread::scope(|scope| {
        let workers: Vec<_> = pods
            .iter()
            .enumerate()
            .map(|(worker, pods)| {
                let (node, came, next) = (&node, &came, &next);
                scope.spawn(move || {
                    let place = worker % NAMESPACES.len();
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= starts {
                            return;
                        }
                        let kind = [0, 1, 0, 2][number / AT_ONCE % 4];
                        let gate = [Gate::Hook, Gate::Wrapper][number / AT_ONCE / 4 % 2];
                        let attempt = storm::start(node, &pods[kind], gate);
                        came.lock().unwrap().push((kind, place, Outcome::of(&attempt), attempt.id));
                    }
                })
            })
            .collect();
        let writers = [
            scope.spawn(|| {
                every(20, &ended, |round| {
                    inputs.policy(round % 2);
                })
            }),
            scope.spawn(|| {
                every(20, &ended, |round| {
                    let version = round / 3 % 2;
                    Inputs::labels(&inputs.folder("namespaces"), version);
                    if round % 10 == 9 {
                        inputs.exchange("namespaces", |folder| Inputs::labels(folder, 1 - version));
                    }
                })
            }),
            scope.spawn(|| {
                every(20, &ended, |round| {
                    let version = round / 5 % 2;
                    // A pod that comes in between has its facts in the folder that goes or in the one that comes.
                    let declared = inputs.declared.lock().unwrap();
                    Inputs::facts(&declared, &inputs.folder("pods"), version);
                    if round % 10 == 9 {
                        inputs.exchange("pods", |folder| Inputs::facts(&declared, folder, 1 - version));
                    }
                })
            }),
            scope.spawn(|| {
                every(500, &ended, |round| {
                    // Another file with other bytes each time, as an upgrade and the one after it. Another process writes it: what one
                    // of ours is started with while this one has it open for writing cannot be executed.
                    let mut sh = Command::new("sh");
                    sh.args([
                        "-ec",
                        "cp \"$1\" \"$2.new\"; printf %s \"$3\" >>\"$2.new\"; mv \"$2.new\" \"$2\"",
                        "sh",
                    ]);
                    run::run(sh.arg(program::gate()).arg(&gate).arg(round.to_string())).expect_success();
                })
            }),
        ];
        let mut restarts = 0;
        while !workers.iter().all(ScopedJoinHandle::is_finished) {
            thread::sleep(Duration::from_secs(3));
            journal.restart();
            restarts += 1;
        }
        for worker in workers {
            worker.join().unwrap();
        }
        ended.store(true, Ordering::Relaxed);
        (writers.map(|writer| writer.join().unwrap()), restarts)
    });
    drop(pods);
    inputs.forget();
    inputs.set([0; 3]);

    let came = came.into_inner().unwrap();
    assert_eq!(came.len(), starts);
    let mut seen: BTreeMap<(usize, usize), BTreeMap<&Outcome, usize>> = BTreeMap::new();
    for (kind, place, outcome, id) in &came {
        assert!(
            known[&(*kind, *place)].contains(outcome),
            "{id}, {} in {}, was judged by no version: {outcome:?}\nknown are {:#?}",
            KINDS[*kind].0,
            NAMESPACES[*place],
            known[&(*kind, *place)]
        );
        *seen.entry((*kind, *place)).or_default().entry(outcome).or_default() += 1;
    }
    for ((kind, place), outcomes) in &seen {
        // Every version had its starts, or the writers did nothing.
        let (name, namespace) = (KINDS[*kind].0, NAMESPACES[*place]);
        assert_eq!(outcomes.len(), known[&(*kind, *place)].len(), "{name} in {namespace}: {outcomes:#?}");
        println!("{name} in {namespace}: {:?}", outcomes.values().collect::<Vec<_>>());
    }

    let refused: BTreeSet<&str> = came
        .iter()
        .filter(|(.., outcome, _)| matches!(outcome, Outcome::Refused(_)))
        .map(|(.., id)| id.as_str())
        .collect();
    let mut denials = BTreeMap::new();
    run::within(Duration::from_secs(30), || {
        denials = storm::denials(&node.root());
        denials.len() >= warm + refused.len()
    });
    for (_, _, outcome, id) in &came {
        let expected = usize::from(refused.contains(id.as_str()));
        let told = denials.get(id).copied().unwrap_or_default();
        assert_eq!(told, expected, "{id} is told {told} times: {outcome:?}");
    }
    let [policies, namespaces, facts, upgrades] = rounds;
    println!(
        "{starts} starts, {} refused, each told once; written: policy {policies}, namespace {namespaces}, facts {facts} times; \
         gate replaced {upgrades}, journald restarted {restarts} times",
        refused.len()
    );
    assert!(policies.min(namespaces).min(facts) > 100 && upgrades > 10 && restarts > 2);

    let spool = fs::read_dir(node.root().join("run/pss-guard/events")).unwrap().flatten();
    let spooled: u64 = spool.map(|file| file.metadata().unwrap().len()).sum();
    assert!(spooled <= (2 << 20) + (64 << 10), "the copy of the events has {spooled} bytes");
    assert!(run::eventually(|| !run::someone_names(&node.root())), "a process of it runs on");
    run::eventually(|| Traces::of(&node).since(&before).is_empty());
    let now = Traces::of(&node);
    assert!(now.since(&before).is_empty(), "left are {:#?}", now.since(&before));
}

/// Does something every so many milliseconds until the end; how often.
fn every(pause: u64, ended: &AtomicBool, act: impl Fn(usize)) -> usize {
    let mut round = 0;
    while !ended.load(Ordering::Relaxed) {
        act(round);
        round += 1;
        thread::sleep(Duration::from_millis(pause));
    }
    round
}
