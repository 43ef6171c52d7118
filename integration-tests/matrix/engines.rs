//! Each engine with every runtime as a handler: installed, allowed and denied, executed, restarted, and taken away byte for byte, by
//! both methods.

use crate::support::cri::{self, Asked};
use crate::support::engine::{Engine, Handler, Layout};
use crate::support::gate::{self, Method, Restart};
use crate::support::machine::{self, Machine};
use crate::support::matrix::{ENGINES, RUNTIMES, missing, note, tried};
use crate::support::pod::Pod;
use crate::support::run;
use crate::support::runtime::Runtime;

/// crun before 1.14.2 starts nothing whose `ociVersion` has no `1.0` in it (`src/libcrun/container.c`).
const OLD_CRUN: &str = "this crun refuses the version of the specification that the engine writes";

/// Why a pair does not start a container, gate or no gate. One that does must not be among them.
fn never(engine: &str, runtime: &str) -> Option<&'static str> {
    (runtime == "crun 1.8" && engine != "containerd 1.6").then_some(OLD_CRUN)
}

/// A runtime as a handler of the engine that is up.
struct Column {
    name: &'static str,
    handler: Handler,
}

#[test]
fn containerd_1_6() {
    row("containerd 1.6");
}

#[test]
fn containerd_1_7() {
    row("containerd 1.7");
}

#[test]
fn containerd_2_1() {
    row("containerd 2.1");
}

#[test]
fn containerd_2_2() {
    row("containerd 2.2");
}

#[test]
fn containerd_2_3() {
    row("containerd 2.3");
}

#[test]
fn containerd_2_4() {
    row("containerd 2.4");
}

#[test]
fn cri_o_1_34() {
    row("CRI-O 1.34");
}

#[test]
fn cri_o_1_35() {
    row("CRI-O 1.35");
}

#[test]
fn cri_o_1_36() {
    row("CRI-O 1.36");
}

fn row(name: &str) {
    let (name, kind) = ENGINES.into_iter().find(|(own, _)| *own == name).expect("a row of the table");
    if let Some(reason) = missing(Some(kind.program()), kind.folder()) {
        note(|outcome| outcome.notes.push(format!("{name}: {reason}")));
        return;
    }
    if !kind.can_run(name) {
        return;
    }
    let machine = Machine::up();
    let columns = columns(&machine);
    let handlers = columns.iter().map(|column| column.handler.clone()).collect();
    let mut engine = Engine::up_on(machine, kind, Layout::DEFAULT, handlers);
    let version = version(&engine);
    note(|outcome| drop(outcome.versions.insert(name, version)));
    let before = engine.machine.snapshot();

    let mut wrong = Vec::new();
    let mut columns: Vec<(Column, Vec<&str>)> =
        columns.into_iter().map(|column| (column, Vec::new())).collect();
    columns.retain(|(column, _)| starts_alone(&engine, name, column, &mut wrong));
    let (usual, other) = gate::methods(kind);
    for method in [usual, other] {
        let command = engine.restart_command();
        let whole = format!("{name}, {method:?}");
        tried(&whole, &mut wrong, || {
            engine.machine.write("/etc/pss-guard/policy.toml", &gate::policy("enforce"));
            gate::install(&engine.machine, kind.name(), method, Restart::Command(&command));
            gate::stands(&engine.machine, kind.name());
        });
        let mut kept = Vec::new();
        for (column, _) in &columns {
            let cell = format!("{whole}, {}", column.name);
            kept.push(tried(&cell, &mut wrong, || gated(&engine, method, column)));
        }
        // Containers go on while the engine starts again, and it comes up with the gate.
        engine.restart();
        for ((column, passed), kept) in columns.iter_mut().zip(kept) {
            let Some(kept) = kept else { continue };
            let cell = format!("{whole}, {}, after a restart", column.name);
            if tried(&cell, &mut wrong, || after_a_restart(&engine, method, column, kept)).is_some() {
                passed.push(if method == Method::Hook { "hook" } else { "runtime" });
            }
        }
        let undone = tried(&whole, &mut wrong, || {
            gate::stands(&engine.machine, kind.name());
            gate::uninstall(&engine.machine, kind.name(), Restart::Command(&command));
            let changed = machine::changed(&before, &engine.machine.snapshot());
            assert!(changed.is_empty(), "left behind: {changed:#?}");
        });
        if undone.is_none() {
            for (_, passed) in &mut columns {
                passed.clear();
            }
        }
    }
    for (column, passed) in columns {
        let text = match passed[..] {
            [_, _] => "both",
            [one] => one,
            _ => "FAILED",
        };
        note(|outcome| drop(outcome.cells.insert((name, column.name), text.to_owned())));
    }
    assert!(wrong.is_empty(), "{} went wrong\n\n{}\n{}", wrong.len(), wrong.join("\n\n"), engine.said());
}

/// The runtimes that are here, each by a path whose last name is its own: crun takes what comes after `crun-` for a handler.
fn columns(machine: &Machine) -> Vec<Column> {
    let mut columns = Vec::new();
    for (name, runtime) in RUNTIMES {
        if missing(runtime.place(), &name.replace(' ', "-")).is_some() {
            continue;
        }
        // A handler is a DNS label to Kubernetes.
        let handler = name.replace([' ', '.'], "-");
        let program = match runtime {
            Runtime::Runc | Runtime::Crun => runtime.program().display().to_string(),
            Runtime::Part(_, folder) => {
                let place = format!("/opt/{handler}");
                machine.run(&["mkdir", "-p", &place]).expect_success();
                let program = format!("{place}/{}", runtime.name());
                machine.link(&format!("{folder}/{}", runtime.name()), &program);
                program
            }
        };
        columns.push(Column { name, handler: Handler { name: handler, program } });
    }
    columns
}

/// The version as `crictl` has it from the engine.
fn version(engine: &Engine) -> String {
    let said = engine.crictl(&["version"]).expect_success().stdout;
    let version = said.lines().find_map(|line| line.strip_prefix("RuntimeVersion:")).unwrap_or_default();
    version.trim().trim_start_matches('v').split(['~', '+']).next().unwrap_or_default().to_owned()
}

/// Whether the pair starts a container where there is no gate.
fn starts_alone(engine: &Engine, name: &'static str, column: &Column, wrong: &mut Vec<String>) -> bool {
    let attempt = cri::ask_by(engine, &Pod::compliant(), Some(&column.handler.name)).end(engine);
    match never(name, column.name) {
        Some(reason) => {
            note(|outcome| outcome.notes.push(format!("{name} with {}: {reason}", column.name)));
            if attempt.ran {
                wrong.push(format!("{name} with {} works: take it out of the list", column.name));
            }
        }
        None if !attempt.ran => {
            wrong.push(format!("{name} with {} starts nothing without the gate\n{attempt}", column.name));
            note(|outcome| drop(outcome.cells.insert((name, column.name), "FAILED".to_owned())));
        }
        None => {}
    }
    attempt.ran
}

/// What the gate must do; the container that it allows goes on.
fn gated(engine: &Engine, method: Method, column: &Column) -> Asked {
    let by = Some(&*column.handler.name);
    let kept = cri::ask_by(engine, &Pod::compliant(), by);
    assert!(kept.ran, "should have started\n{:?}", kept.calls);
    refuses(engine, method, column);
    executes(engine, method, column, &kept);
    kept
}

/// A container is refused, and where its sandbox is seen the pod.
fn refuses(engine: &Engine, method: Method, column: &Column) {
    let by = Some(&*column.handler.name);
    // CRI-O starts no process for a sandbox.
    let sees_pods = method == Method::Runtime && !engine.kind.is_crio();
    let rows = [
        (Pod::bare(), "allowPrivilegeEscalation != false", false),
        (Pod { host_network: true, ..Pod::compliant() }, "hostNetwork=true", sees_pods),
    ];
    for (pod, control, as_a_pod) in rows {
        let attempt = cri::ask_by(engine, &pod, by).end(engine);
        assert!(!attempt.ran && attempt.refusal().is_some(), "should have been refused\n{attempt}");
        assert_eq!(attempt.decisions(), ["denied"], "{attempt}");
        assert_eq!(attempt.refused_as_a_pod(), as_a_pod, "{attempt}");
        let told = attempt.events.iter().any(|event| event.to_string().contains(control));
        assert!(told, "the event should tell {control}\n{attempt}");
    }
}

/// A process joins as the container is; one of root only where no runtime before the real one refuses it.
fn executes(engine: &Engine, method: Method, column: &Column, kept: &Asked) {
    let id = kept.container_id();
    let own = engine.crictl(&["exec", "--sync", id, "/bin/busybox", "id", "-u"]).expect_success();
    assert_eq!(own.stdout.trim(), "1000", "{own}");
    if method == Method::Hook {
        return;
    }
    let as_root = if engine.kind.is_crio() {
        let entry = format!("/var/lib/pss-guard/runtimes/cri-o/{}/pss-guard-runtime", column.handler.name);
        let root = format!("/run/{}", column.handler.name);
        engine.machine.run(&[
            &entry,
            "--root",
            &root,
            "exec",
            "--user",
            "0:0",
            id,
            "/bin/busybox",
            "id",
            "-u",
        ])
    } else {
        let line = ["ctr", "--namespace=k8s.io", "tasks", "exec", "--exec-id=root", "--user=0:0", id];
        engine.machine.run(&[&line[..], &["/bin/busybox", "id", "-u"]].concat())
    };
    assert_ne!(as_root.code, Some(0), "{as_root}");
    assert!(as_root.stdout.is_empty(), "{as_root}");
    // journald writes an event down after it has taken it.
    let told = run::eventually(|| {
        let told = engine.machine.events("PSS_CONTAINER_ID", id);
        told.iter().any(|event| event.to_string().contains("exec violates PodSecurity"))
    });
    assert!(told, "{as_root}");
}

/// What ran before the engine started again runs still, takes a process, and ends when it is told to.
fn after_a_restart(engine: &Engine, method: Method, column: &Column, kept: Asked) {
    executes(engine, method, column, &kept);
    refuses(engine, method, column);
    let id = kept.container_id().to_owned();
    engine.crictl(&["stop", "--timeout=1", &id]).expect_success();
    let stopped = run::eventually(|| engine.crictl(&["inspect", &id]).stdout.contains("CONTAINER_EXITED"));
    assert!(stopped, "{}", engine.crictl(&["inspect", &id]));
    engine.crictl(&["rm", &id]).expect_success();
    kept.end(engine);
}
