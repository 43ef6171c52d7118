//! What a node that runs out of something does to starts, 16 at a time: a pod that no level allows never runs, one that complies runs
//! or is refused with a reason, and what is refused is told.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use crate::support::journal::Journal;
use crate::support::pod::Engine;
use crate::support::runtime::{Gate, Runtime, RuntimeNode, Sandbox};
use crate::support::storm::{self, AT_ONCE, Outcome};
use crate::support::{needs, program, run};

/// How often each worker starts each of two pods.
const ROUNDS: usize = 4;

const POLICY: &str =
    "mode = 'enforce'\n[defaults]\nenforce = 'restricted'\naudit = 'privileged'\nwarn = 'privileged'\n";

/// One start: whether the pod complies, what it came to, the container's id.
struct Start {
    complies: bool,
    outcome: Outcome,
    id: String,
}

/// A compliant and a forbidden pod for each worker. One after the other: the kernel makes network namespaces slowly.
fn pods(node: &RuntimeNode) -> Vec<[(bool, Sandbox<'_>); 2]> {
    let pair = |_| {
        [(true, storm::compliant("shop")), (false, storm::forbidden("shop"))]
            .map(|(complies, pod)| (complies, node.sandbox(&pod)))
    };
    (0..AT_ONCE).map(pair).collect()
}

/// Starts of all these pods at a time, with these words before the gate, and so many bytes more in config.json.
fn load(node: &RuntimeNode, pods: &[[(bool, Sandbox<'_>); 2]], before: &[&str], more: usize) -> Vec<Start> {
    let starts = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for pair in pods {
            let starts = &starts;
            scope.spawn(move || {
                for (complies, pod) in (0..ROUNDS).flat_map(|_| pair) {
                    let attempt = storm::start_by(node, pod, Gate::Hook, before, more);
                    assert!(*complies || !attempt.ran, "a forbidden pod ran\n{attempt}");
                    let outcome = Outcome::of(&attempt);
                    starts.lock().unwrap().push(Start { complies: *complies, outcome, id: attempt.id });
                }
            });
        }
    });
    let starts = starts.into_inner().unwrap();
    assert_eq!(starts.len(), AT_ONCE * ROUNDS * 2);
    starts
}

/// All that complies has run, all else was refused for what it violates.
fn all_as_usual(starts: &[Start]) {
    for start in starts {
        let usual = match &start.outcome {
            Outcome::Started => start.complies,
            Outcome::Refused(said) => !start.complies && said.starts_with("violates "),
            Outcome::Odd(_) => false,
        };
        assert!(usual, "complies: {}: {:?}", start.complies, start.outcome);
    }
}

fn node() -> RuntimeNode {
    let node = RuntimeNode::new(Engine::Containerd, Runtime::Runc);
    storm::install(&node);
    node.write_policy(POLICY);
    node
}

#[test]
fn while_journald_hangs_each_denial_is_told_once() {
    if !Journal::can_run("while_journald_hangs_each_denial_is_told_once") {
        return;
    }
    let node = node();
    let pods = pods(&node);
    let journal = Journal::held();
    Journal::lead_to(&node.root());
    journal.stop();
    let starts = load(&node, &pods, &[], 0);
    let filed = in_the_file(&node);
    journal.go_on();
    all_as_usual(&starts);
    assert!(filed > 0, "its socket never filled: this shows nothing");
    let denied: BTreeSet<&str> =
        starts.iter().filter(|start| !start.complies).map(|start| start.id.as_str()).collect();
    run::within(Duration::from_secs(30), || storm::denials(&node.root()).len() >= denied.len());
    let told = storm::denials(&node.root());
    for start in &starts {
        assert_eq!(
            told.get(&start.id).copied().unwrap_or_default(),
            usize::from(!start.complies),
            "{}",
            start.id
        );
    }
    println!(
        "journald hangs: {} of {} as usual; {filed} denials in the file, {} in the journal",
        starts.len(),
        starts.len(),
        denied.len() - filed
    );
}

/// How many denials the file beside the journal has.
fn in_the_file(node: &RuntimeNode) -> usize {
    run::read(&node.decisions()).lines().count()
}

#[test]
fn on_a_full_disk_without_a_journal_the_verdicts_stand() {
    if !needs::can_run(
        "on_a_full_disk_without_a_journal_the_verdicts_stand",
        &["runc", "busybox", "mount", "dmesg"],
    ) {
        return;
    }
    let node = node();
    // What the gate writes: events, the compiled policy and the last good one, the copy for the agent.
    let folders =
        ["var/log/pss-guard", "run/pss-guard", "var/lib/pss-guard/policy"].map(|name| node.root().join(name));
    let full: Vec<Full> = folders.iter().map(|folder| Full::mount(folder)).collect();
    let starts = load(&node, &pods(&node), &[], 0);
    all_as_usual(&starts);
    // The last resort of an event is the kernel's log.
    let log = run::run(&mut Command::new("dmesg")).expect_success().stdout;
    // Its lines name this node's file.
    let file = node.decisions();
    let file = file.to_str().unwrap();
    let whole = log
        .lines()
        .filter(|line| line.contains("event neither in the journal") && line.contains(file))
        .count();
    assert_eq!(whole, starts.len() / 2, "each denial is in the kernel's log");
    drop(full);
    println!(
        "full disk, no journald: {} of {} as usual; the kernel's log has {whole} denials",
        starts.len(),
        starts.len()
    );
}

/// A file system without room.
struct Full(std::path::PathBuf);

impl Full {
    fn mount(folder: &std::path::Path) -> Self {
        fs::create_dir_all(folder).unwrap();
        let mut mount = Command::new("mount");
        run::run(mount.args(["-t", "tmpfs", "-o", "size=16k,mode=755", "none"]).arg(folder)).expect_success();
        // Fails, and has filled it by then.
        let _ = fs::write(folder.join("filler"), vec![0; 1 << 16]);
        Self(folder.to_owned())
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        run::run(Command::new("umount").arg("--lazy").arg(&self.0));
    }
}

#[test]
fn without_memory_or_descriptors_nothing_forbidden_runs() {
    if !needs::can_run(
        "without_memory_or_descriptors_nothing_forbidden_runs",
        &["runc", "busybox", "prlimit"],
    ) {
        return;
    }
    let node = node();
    let prlimit = needs::program("prlimit").unwrap();
    let prlimit = prlimit.to_str().unwrap();
    let least = least(&node, prlimit);
    println!("the gate needs {} KiB of addresses before it decides anything", least >> 10);
    let memory = |bytes: usize| format!("--as={bytes}");
    let large = 400_000;
    let rows = [
        // The kernel starts no gate, and the runtime says so.
        (memory(least / 4), 0, None),
        (memory(least - PAGE), 0, None),
        // The gate starts, and finds no room for config.json.
        (memory(least + 16 * PAGE), large, Some("out of memory")),
        // It finds none to open anything.
        ("--nofile=3".to_owned(), 0, Some("No file descriptors available")),
    ];
    let pods = pods(&node);
    for (limit, more, reason) in rows {
        for start in load(&node, &pods, &[prlimit, &limit, "--"], more) {
            let as_told = match (&start.outcome, reason) {
                (Outcome::Refused(said), Some(reason)) => {
                    said.contains("cannot judge: ") && said.contains(reason)
                }
                (Outcome::Odd(attempt), None) => attempt.contains("running hook #0"),
                _ => false,
            };
            assert!(as_told, "{limit}: {:?}", start.outcome);
        }
        println!("{limit}: none started, each refused with {}", reason.unwrap_or("the runtime's own words"));
    }
    // And no more than it needs is enough.
    for limit in [memory(least + 64 * PAGE), "--nofile=4".to_owned()] {
        let starts = load(&node, &pods, &[prlimit, &limit, "--"], 0);
        all_as_usual(&starts);
        println!("{limit}: {} of {} as usual", starts.len(), starts.len());
    }
}

const PAGE: usize = 4096;

/// The least address space, in bytes, in which the gate decides anything: with less, the kernel ends it.
fn least(node: &RuntimeNode, prlimit: &str) -> usize {
    let (mut less, mut enough) = (0, 16_384 * PAGE);
    while enough - less > PAGE {
        let middle = usize::midpoint(less, enough);
        let mut gate = Command::new(prlimit);
        gate.arg(format!("--as={middle}")).arg("--").arg(program::gate());
        // It gets no state on its standard input, so it cannot judge, and ends by itself.
        match run::run(gate.args(["hook", "--engine", "containerd", "--root"]).arg(node.root())).code {
            Some(0 | 2) => enough = middle,
            _ => less = middle,
        }
    }
    enough
}
