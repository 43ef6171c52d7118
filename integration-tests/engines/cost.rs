//! What a start costs in numbers that no other load changes: system calls, page faults, instructions, memory, the size of the
//! program. `make bench-check`. The bounds are what was measured last and a twentieth; a change that goes past them says so here.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use serde_json::{Value, json};

#[path = "../../benches/full_node.rs"]
mod full_node;
#[path = "../../benches/node.rs"]
#[allow(dead_code, reason = "the benchmark lays out more nodes than this")]
mod node;

use crate::support::{needs, program};
use full_node::{Processes, lay_out};
use node::{Node, POLICY, Pod, Sandbox};

/// In bytes, as installed: static and stripped.
const LARGEST: u64 = 1_363_148;

/// The most memory of any start, in KiB.
const MOST_RESIDENT: u64 = 1500;

#[test]
fn a_judged_start_keeps_its_budget() {
    if !needs::can_run("a_judged_start_keeps_its_budget", &["strace", "unshare"]) {
        return;
    }
    // A build for debugging is dynamic, and has checks of its own.
    if std::env::var_os("PSS_GUARD_BINARY").is_none() {
        needs::skip("a_judged_start_keeps_its_budget", "a release build in PSS_GUARD_BINARY");
        return;
    }
    let gate = program::gate();
    let size = std::fs::metadata(&gate).unwrap().len();
    assert!(size <= LARGEST, "{} has {size} bytes", gate.display());

    let sandbox = Sandbox::start().unwrap();
    let node = Node::new(POLICY, 1).unwrap();
    // As `install` writes it: how a linker left the file in the page cache is worth some faults, and never the same.
    let installed = node.root().join("pss-guard-gate");
    std::fs::write(&installed, std::fs::read(&gate).unwrap()).unwrap();
    std::fs::set_permissions(&installed, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let gate = installed;
    // One of the calls asks whether anybody brings facts of pods to this node.
    let rows = [
        ("cri-o", Pod::crio_allowed().unwrap(), 52, 50, 524_000),
        ("containerd", Pod::containerd_allowed().unwrap(), 55, 50, 369_000),
    ];
    for (engine, pod, most_calls, most_faults, most_instructions) in rows {
        let bundle = node.lay_out(pod, "counted", &sandbox).unwrap();
        let state = node.root().join("state.json");
        std::fs::write(&state, &bundle.state).unwrap();
        let start = |program: &mut Command| {
            program.args(["hook", "--engine", engine, "--root"]).arg(node.root());
            program.stdin(std::fs::File::open(&state).unwrap()).stdout(Stdio::null()).stderr(Stdio::piped());
            let done = program.spawn().unwrap().wait_with_output().unwrap();
            assert!(done.status.success(), "{engine}: {done:?}");
        };
        // The first one compiles the policy. What it compiled is believed once it is older than a tick of the kernel's clock.
        start(&mut Command::new(&gate));
        std::thread::sleep(std::time::Duration::from_millis(100));
        start(&mut Command::new(&gate));

        let trace = node.root().join("trace");
        let count = |start: &dyn Fn(&mut Command)| {
            start(Command::new("strace").arg("-o").arg(&trace).arg(&gate));
            let trace = std::fs::read_to_string(&trace).unwrap();
            let calls = trace.lines().filter(|line| line.contains('(')).count();
            let faults = (0..5).map(|_| {
                let before = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().minor_page_faults();
                start(&mut Command::new(&gate));
                getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().minor_page_faults() - before
            });
            (calls, faults.min().unwrap(), trace)
        };
        let (calls, faults, shown) = count(&start);
        assert!((20..=most_calls).contains(&calls), "{engine}: {calls} system calls:\n{shown}");
        assert!((10..=most_faults).contains(&faults), "{engine}: {faults} page faults");
        eprintln!("{engine}: {calls} system calls, {faults} page faults, {size} bytes");
        let resident = resident(&gate, engine, node.root(), &state);
        assert!((400..=MOST_RESIDENT).contains(&resident), "{engine}: {resident} KiB");
        eprintln!("{engine}: {resident} KiB at most");
        if needs::can_run("a_judged_start_keeps_its_budget, instructions", &["valgrind"]) {
            let counted = instructions(&gate, engine, node.root(), &state);
            assert!((100_000..=most_instructions).contains(&counted), "{engine}: {counted} instructions");
            eprintln!("{engine}: {counted} instructions");
        }

        // The same with facts of its pod, among those of a full node: one more file.
        let (bytes, facts) = node.declare(engine, &bundle, 250).unwrap();
        let (with_facts, more_faults, shown) = count(&start);
        assert!(shown.contains(&facts), "{engine}: the facts are not read:\n{shown}");
        assert!((calls..=calls + 5).contains(&with_facts), "{engine}: {with_facts} system calls:\n{shown}");
        eprintln!("{engine}, facts of {bytes} bytes: {with_facts} system calls, {more_faults} page faults");
        std::fs::remove_dir_all(node.root().join("run/pss-guard/pods")).unwrap();

        // A policy without `[cluster] version` costs one call: is the file that the compiled policy has read still the same?
        let undo = node.ask_for_version().unwrap();
        for _ in 0..2 {
            std::thread::sleep(std::time::Duration::from_millis(100));
            start(&mut Command::new(&gate));
        }
        let (with_version, more_faults, shown) = count(&start);
        assert!(shown.contains("cluster.json"), "{engine}: nobody asks for it:\n{shown}");
        assert_eq!(with_version, calls + 1, "{engine}, with the cluster's version:\n{shown}");
        eprintln!("{engine}, the cluster's version: {with_version} system calls, {more_faults} page faults");
        undo().unwrap();
    }
}

/// Who writes a pod decides how long its lists are. Counted, because a test that is timed says as much of the machine.
#[test]
fn a_list_twice_as_long_costs_twice_as_much() {
    type More = fn(usize) -> Value;

    let test = "a_list_twice_as_long_costs_twice_as_much";
    if !needs::can_run(test, &["valgrind", "unshare"]) {
        return;
    }
    // As it ships: what checks are built for debugging is no cost of a start.
    if std::env::var_os("PSS_GUARD_BINARY").is_none() {
        needs::skip(test, "a release build in PSS_GUARD_BINARY");
        return;
    }
    let rows: [(&str, More); 5] = [
        ("/process/capabilities/bounding", |n| json!(format!("CAP_X{n}"))),
        ("/process/env", |n| json!(format!("X{n}=1"))),
        ("/mounts", |n| json!({"destination": format!("/x/{n}"), "type": "tmpfs", "source": "tmpfs"})),
        ("/linux/maskedPaths", |n| json!(format!("/x/{n}"))),
        ("/linux/resources/devices", |n| json!({"allow": false, "type": "c", "major": n, "access": "rwm"})),
    ];
    let sandbox = Sandbox::start().unwrap();
    let node = Node::new(POLICY, 1).unwrap();
    let gate = program::gate();
    let state = node.root().join("state.json");
    // The first one compiles the policy.
    let bundle = node.lay_out(Pod::crio_allowed().unwrap(), "long", &sandbox).unwrap();
    std::fs::write(&state, &bundle.state).unwrap();
    instructions(&gate, "cri-o", node.root(), &state);
    std::thread::sleep(Duration::from_millis(100));
    for (list, more) in rows {
        let counted = [0, 4_000, 8_000].map(|count| {
            let mut pod = Pod::crio_allowed().unwrap();
            let (owner, name) = list.rsplit_once('/').unwrap();
            let owner = pod.container.pointer_mut(owner).and_then(Value::as_object_mut).unwrap();
            let items = owner.entry(name).or_insert_with(|| json!([])).as_array_mut().unwrap();
            items.extend((0..count).map(more));
            let bundle = node.lay_out(pod, "long", &sandbox).unwrap();
            std::fs::write(&state, &bundle.state).unwrap();
            instructions(&gate, "cri-o", node.root(), &state)
        });
        let [without, half, whole] = counted;
        // In percent: what is quadratic takes four times as much.
        let growth = (whole - without) * 100 / (half - without);
        assert!((150..230).contains(&growth), "{list}: {counted:?}");
        eprintln!("{list}: {counted:?} instructions");
    }
}

/// System calls of a scan for one more container or sandbox.
const MOST_OF_A_CONTAINER: f64 = 29.0;

#[test]
fn a_scan_asks_the_kernel_for_no_more_than_a_container_has_of_its_own() {
    let test = "a_scan_asks_the_kernel_for_no_more_than_a_container_has_of_its_own";
    if !needs::can_run(test, &["strace", "unshare", "mount", "nsenter", "setpriv"]) {
        return;
    }
    if std::env::var_os("PSS_GUARD_BINARY").is_none() {
        needs::skip(test, "a release build in PSS_GUARD_BINARY");
        return;
    }
    let sandbox = Sandbox::start().unwrap();
    // So few that one thread looks at all of them: with two, the allocator's calls depend on who comes first.
    let calls = |pods: usize| {
        let folder = tempfile::tempdir().unwrap();
        let processes = Processes::start(&sandbox, pods).unwrap();
        lay_out(folder.path(), &sandbox, &processes).unwrap();
        let trace = folder.path().join("trace");
        let script =
            "mount --bind \"$1/run\" /run && exec strace -f -o \"$1/trace\" \"$2\" scan --level restricted";
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
        let done = unshare.arg(folder.path()).arg(program::binary()).output().unwrap();
        let (said, answer) =
            (String::from_utf8_lossy(&done.stdout), format!("of {} containers in", 2 * pods));
        assert!(done.status.success() && said.contains(&answer), "{done:?}");
        let trace = std::fs::read_to_string(&trace).unwrap();
        // Not which programs run, which is asked of every process of the machine.
        let is_of_a_container = |line: &&str| line.contains('(') && !line.contains("/exe\"");
        f64::from(u32::try_from(trace.lines().filter(is_of_a_container).count()).unwrap())
    };
    let (few, many) = (6, 20);
    let more = 3.0 * f64::from(u32::try_from(many - few).unwrap());
    let each = (calls(many) - calls(few)) / more;
    eprintln!("scan: {each:.1} system calls a container");
    assert!((15.0..=MOST_OF_A_CONTAINER).contains(&each), "{each} system calls a container");
}

fn judge(program: &mut Command, engine: &str, root: &Path, state: &Path) {
    program.args(["hook", "--engine", engine, "--root"]).arg(root);
    program.stdin(std::fs::File::open(state).unwrap()).stdout(Stdio::null());
}

/// The most memory that a start had, in KiB: it is asked while strace holds it back from its end. What wait4(2) says of a child
/// is at least what its parent had, which is this test.
fn resident(gate: &Path, engine: &str, root: &Path, state: &Path) -> u64 {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-e", "trace=exit_group", "-e", "inject=exit_group:delay_enter=2000000"]).arg(gate);
    judge(&mut strace, engine, root, state);
    let mut strace = strace.stderr(Stdio::null()).spawn().unwrap();
    let children = format!("/proc/{0}/task/{0}/children", strace.id());
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut most = 0;
    // The last thing that is seen of it: it grows until it ends.
    while strace.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "it does not end");
        let pid = std::fs::read_to_string(&children).unwrap_or_default();
        let program = std::fs::read_link(format!("/proc/{}/exe", pid.trim())).unwrap_or_default();
        let status = std::fs::read_to_string(format!("/proc/{}/status", pid.trim())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let resident = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        if program == gate {
            most = resident.unwrap_or(most);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(strace.wait().unwrap().success());
    most
}

/// How many instructions a start takes, from the first to the last.
fn instructions(gate: &Path, engine: &str, root: &Path, state: &Path) -> u64 {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]).arg(gate);
    judge(&mut valgrind, engine, root, state);
    let said = valgrind.output().unwrap();
    let text = String::from_utf8_lossy(&said.stderr);
    let line = text.lines().find(|line| line.contains(" I ") && line.contains("refs:"));
    let number = line.and_then(|line| line.rsplit(' ').next()?.replace(',', "").parse().ok());
    number.unwrap_or_else(|| panic!("valgrind counted nothing: {text}"))
}
