//! Each runtime by itself, called as an engine calls it.

// What runtimes say of their command lines, and what the gate knows of them.
mod options;

use std::path::Path;
use std::process::Command;

use crate::support::cases::Case;
use crate::support::checkpoints::{Gate, Place, criu, status};
use crate::support::matrix::{RUNTIMES, TRIED, missing, note, tried};
use crate::support::needs;
use crate::support::pod::{Engine, Pod};
use crate::support::run;
use crate::support::runtime::{Family, Runtime, RuntimeNode};
use crate::support::starts::{join_all, start_all};

/// Cases that tell a gate from none.
const FEW: [&str; 6] =
    ["everything set", "nothing set", "root", "privileged", "host network", "adds SYS_TIME"];

const ENFORCE: &str = "mode = \"enforce\"\n[unmanaged]\nenforce = \"restricted\"\n";

#[test]
fn runc_1_1() {
    row("runc 1.1");
}

#[test]
fn runc_1_2() {
    row("runc 1.2");
}

#[test]
fn runc_1_3() {
    row("runc 1.3");
}

#[test]
fn runc_1_4() {
    row("runc 1.4");
}

#[test]
fn runc_1_5() {
    row("runc 1.5");
}

#[test]
fn runc_1_6() {
    row("runc 1.6");
}

#[test]
fn crun_1_8() {
    row("crun 1.8");
}

#[test]
fn crun_1_21() {
    row("crun 1.21");
}

#[test]
fn crun_1_28() {
    row("crun 1.28");
}

#[test]
fn youki_0_7() {
    row("youki 0.7");
}

fn row(name: &str) {
    let (name, runtime) = RUNTIMES.into_iter().find(|(own, _)| *own == name).expect("a row of the table");
    if !needs::can_run(name, &["runc", "crun", "busybox"]) {
        return;
    }
    if let Some(reason) = missing(runtime.place(), &name.replace(' ', "-")) {
        note(|outcome| outcome.notes.push(format!("{name}: {reason}")));
        return;
    }
    let version = runtime.full_version();
    note(|outcome| drop(outcome.versions.insert(name, version)));
    let mut wrong = Vec::new();
    for what in TRIED {
        let passed = tried(&format!("{name}, {what}"), &mut wrong, || of(name, runtime, what));
        note(|outcome| match passed {
            Some(Ok(())) => drop(outcome.cells.insert((name, what), "yes".to_owned())),
            Some(Err(reason)) => outcome.notes.push(format!("{name}, {what}: {reason}")),
            None => drop(outcome.cells.insert((name, what), "FAILED".to_owned())),
        });
    }
    assert!(wrong.is_empty(), "{} went wrong\n\n{}", wrong.len(), wrong.join("\n\n"));
}

/// One cell; an error says why it cannot be tried, a panic what is wrong.
fn of(name: &str, runtime: Runtime, what: &str) -> Result<(), String> {
    let is_youki = runtime.family() == Family::Youki;
    match what {
        "options" => {
            let unknown = options::unknown(runtime);
            assert!(unknown.is_empty(), "the gate does not know, or takes for another kind: {unknown:#?}");
            if !is_youki {
                spelled_otherwise(name, runtime);
            }
        }
        "starts" => {
            for engine in [Engine::Containerd, Engine::CriO] {
                let few: Vec<Case> =
                    Case::of(engine).into_iter().filter(|case| FEW.contains(&case.name)).collect();
                start_all(engine, runtime, &few, &["restricted"], &["enforce"]);
            }
        }
        "exec" => join_all(runtime),
        "restore" => restore(runtime)?,
        other => panic!("{other}"),
    }
    Ok(())
}

/// runc 1.6 ignores white space around an option. What others take for a container's name must not be root's word there.
fn spelled_otherwise(name: &str, runtime: Runtime) {
    let node = RuntimeNode::new(Engine::Containerd, runtime);
    node.write_policy("mode = \"enforce\"\n[defaults]\nenforce = \"restricted\"\n");
    let sandbox = node.sandbox(&Pod::compliant());
    let id = sandbox.keep();
    for user in [&[" --user=0:0"][..], &["--user ", "0:0"], &["--user=0:0"]] {
        let exec = |mut command: Command| {
            run::run(command.args(user).args([&id, "/bin/busybox", "id", "-u"])).stdout == "0\n"
        };
        let is_usual = user == ["--user=0:0"];
        assert_eq!(
            exec(node.runtime(&["exec"])),
            is_usual || name == "runc 1.6",
            "{user:?} without the gate"
        );
        assert!(!exec(node.wrapped(&["exec"])), "{user:?} has made a process of root's");
    }
}

/// A checkpoint of its own is restored, and refused where its image restores root.
fn restore(runtime: Runtime) -> Result<(), String> {
    match runtime {
        Runtime::Crun => return Err("Debian 12 builds it without CRIU".to_owned()),
        _ if runtime.family() == Family::Youki => return Err("it has no `restore`".to_owned()),
        // Seen with crun 1.21: what it forks to clean up takes `/` for the container's group, and kills what is there and in the
        // groups directly below, which are other tests' and the machine's own.
        _ if runtime.family() == Family::Crun && !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() => {
            return Err(
                "on a host with control groups of version 1 its restore kills processes of others".to_owned()
            );
        }
        _ => {}
    }
    let criu = criu().ok_or("no criu passes `criu check` here")?;
    let place = Place::new(runtime, criu);
    place.write_policy(ENFORCE);
    if runtime.family() == Family::Crun && !status(&place.restore(Gate::Absent), "Uid: 1000 1000 1000 1000") {
        return Err("CRIU does not find the mounts of its masked paths again, gate or no gate".to_owned());
    }
    // crun calls no hook when it restores, as `install --method hook` says.
    let gates = match runtime.family() {
        Family::Crun => &[Gate::Absent, Gate::Wrapper][..],
        _ => &[Gate::Absent, Gate::Wrapper, Gate::Hook],
    };
    for gate in gates.iter().copied() {
        place.write_config(gate, &|_| {});
        let healthy = place.restore(gate);
        assert!(status(&healthy, "Uid: 1000 1000 1000 1000"), "{gate:?}: {}", healthy.done);
    }
    place.with(&|place| place.edit_creds(|creds| (1..=8).for_each(|id| creds.set(id, 0))), || {
        for gate in gates.iter().copied() {
            place.write_config(gate, &|_| {});
            let attempt = place.restore(gate);
            let is_root = status(&attempt, "Uid: 0 0 0 0");
            assert_eq!(is_root, gate == Gate::Absent, "{gate:?}: {}", attempt.done);
        }
    });
    Ok(())
}
