//! What does a container start cost with pss-guard in it? `make bench`.
//!
//! Every time is also printed as a ratio to a program that does nothing, built by the same toolchain as a static PIE,
//! which is its default, and run in the same rounds: that ratio holds on any machine, microseconds do not. The budgets are those of the design;
//! a line that misses one says `over budget`. Only something broken makes the benchmark fail, never a time.
//!
//! Environment: `BENCH_ROUNDS` (2000), `BENCH_RUNC_ROUNDS` (60, 0 leaves runc and crun out), `BENCH_SCAN_ROUNDS` (20, 0 leaves
//! the scan of a full node out), `BENCH_HOOK` (the gate to measure; the one beside this program otherwise).
#![allow(clippy::print_stdout, clippy::print_stderr)]
// The fixtures are ours: `null` where a key is missing is what the checks afterwards are for.
#![allow(clippy::indexing_slicing)]
// The names of the cases are close because the cases are.
#![allow(clippy::similar_names, clippy::too_many_lines)]

mod counts;
mod full_node;
mod growth;
mod node;
mod runtimes;
mod sampler;
mod scan;

use std::env;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use Outcome::{Any, Denial, Silence};
use counts::Counts;
use growth::Growth;
use node::{Failure, Node, POLICY, Pod, SMALLEST_POLICY, Sandbox};
use runtimes::Runtime;
use sampler::{Command, Sampler, Times};

/// What a run must come to, so that nothing is timed that does not work.
#[derive(Clone, Copy)]
enum Outcome {
    /// Exit code 0 and not a word.
    Silence,
    /// A denial: its exit code, a line on stderr, an event in the journal.
    Denial,
    /// Any end; somebody else's program.
    Any,
}

/// One row: a command that every round runs once.
struct Case<'a> {
    name: String,
    command: Command,
    node: Option<&'a Node>,
    outcome: Outcome,
    /// The most it may take, as a ratio of medians to the no-op.
    budget: Option<f64>,
    /// Runs in one round of so many: what takes long would make the rounds long.
    every: usize,
    times: Times,
}

impl<'a> Case<'a> {
    fn new(name: String, command: Command, node: Option<&'a Node>, outcome: Outcome) -> Self {
        Self { name, command, node, outcome, budget: None, every: 1, times: Times::default() }
    }

    /// Runs it once, and makes sure that it did what it is timed for.
    fn prove(&self, sampler: &mut Sampler) -> Result<(), Failure> {
        let run = sampler.run(&self.command)?;
        let event = self.node.and_then(Node::journalled);
        let as_expected = match self.outcome {
            Outcome::Silence => run.code == 0 && run.output.is_empty() && event.is_none(),
            Outcome::Denial => run.code > 10 && !run.output.is_empty() && event.is_some(),
            Outcome::Any => true,
        };
        if as_expected {
            return Ok(());
        }
        Err(format!("{}: exit code {}, wrote {:?}, event {event:?}", self.name, run.code, run.output).into())
    }
}

fn main() -> ExitCode {
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> Result<(), Failure> {
    let rounds = setting("BENCH_ROUNDS", 2000)?;
    let runc_rounds = setting("BENCH_RUNC_ROUNDS", 60)?;
    let scan_rounds = setting("BENCH_SCAN_ROUNDS", 20)?;
    let mut programs = Programs::find()?;
    let sandbox = Sandbox::start()?;
    let all = sched_getaffinity(Pid::from_raw(0))?;
    stay_on_one_cpu()?;
    let mut sampler = Sampler::new()?;

    // A node each for what is compared: with a usual policy and a small one, with one and with many namespaces.
    let usual = Node::new(POLICY, 1)?;
    let bare = Node::new(SMALLEST_POLICY, 1)?;
    let noop = Command::new(&programs.noop, &[], "")?;

    // First of all, while this program is still small: see `largest_resident_set`.
    sampler.run(&noop)?;
    let floor = sampler::largest_resident_set()?;
    let hook = |node: &Node, pod: Pod, id: &str| -> Result<(Command, usize), Failure> {
        let engine = pod.engine;
        let bundle = node.lay_out(pod, id, &sandbox)?;
        Ok((programs.start(node, engine, &bundle.state)?, bundle.config_size))
    };
    let (large, large_size) = hook(&usual, Pod::containerd_allowed()?.with_service_links(70_000)?, "large")?;
    sampler.run(&large)?;
    let resident_large = sampler::largest_resident_set()?;

    let rebooted = usual.lay_out(Pod::crio_allowed()?, "allowed", &sandbox)?;
    let rebooted = start(&programs.rebooted, &usual, "cri-o", &rebooted.state)?;
    let (allowed, allowed_size) = hook(&usual, Pod::containerd_allowed()?, "allowed")?;
    let (crio, crio_size) = hook(&usual, Pod::crio_allowed()?, "allowed")?;
    // What a node has where facts of its pods are brought, and one whose cluster says its version.
    let (declared, versioned) = (Node::new(POLICY, 1)?, Node::new(POLICY, 1)?);
    let (with_facts, _) = hook(&declared, Pod::crio_allowed()?, "allowed")?;
    let (facts_size, _) =
        declared.declare("cri-o", &declared.lay_out(Pod::crio_allowed()?, "allowed", &sandbox)?, 250)?;
    let (with_version, _) = hook(&versioned, Pod::crio_allowed()?, "allowed")?;
    // Never undone: the node goes with the benchmark.
    let _ = versioned.ask_for_version()?;
    let (denied, denied_size) = hook(&usual, Pod::containerd_denied()?, "denied")?;
    sampler.run(&denied)?;
    usual.journalled();
    let resident = sampler::largest_resident_set()?;
    // Of this, too, before this program has grown.
    let scanned = if scan_rounds > 0 {
        // It may use all processors.
        sched_setaffinity(Pid::from_raw(0), &all)?;
        let scanned = scan::measure(&programs.tool, &sandbox, &mut sampler, scan_rounds)?;
        stay_on_one_cpu()?;
        Some(scanned)
    } else {
        None
    };
    let (small_policy, _) = hook(&bare, Pod::containerd_allowed()?, "allowed")?;
    let unasked = Node::new(UNASKED, 1)?;
    fs::remove_dir_all(unasked.root().join("run/pss-guard/namespaces"))?;
    let (light, _) = hook(&unasked, Pod::crio_allowed()?, "allowed")?;
    let passing = programs.passing(&usual)?;
    let script_bundle = usual.lay_out(Pod::containerd_allowed()?, "script", &sandbox)?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/jq-hook.sh");
    let script = Command::new(&script, &[], &script_bundle.state)?;

    let row = |name: &str, command: Command, node, outcome, budget| Case {
        budget,
        ..Case::new(name.to_owned(), command, node, outcome)
    };
    let on = |what: &str, size: usize| format!("{what}, {}", kilobytes(size));
    let mut cases = vec![
        row("no-op", noop.clone(), None, Silence, None),
        row("no-op again (the noise)", noop, None, Silence, None),
        row("nothing asked, CRI-O", light, Some(&unasked), Silence, Some(1.25)),
        row(&on("allow, containerd", allowed_size), allowed, Some(&usual), Silence, Some(1.8)),
        row(&on("allow, CRI-O", crio_size), crio, Some(&usual), Silence, Some(1.8)),
        row("the same, after a reboot", rebooted, Some(&usual), Silence, None),
        row(&on("with its pod's facts", facts_size), with_facts, Some(&declared), Silence, None),
        row("with cluster.json", with_version, Some(&versioned), Silence, None),
        row(&on("allow, containerd", large_size), large, Some(&usual), Silence, Some(2.0)),
        row(&on("deny, containerd", denied_size), denied, Some(&usual), Denial, Some(3.0)),
        row("allow, smallest policy", small_policy, Some(&bare), Silence, None),
        row(PASSING, passing, None, Silence, None),
        row("/bin/true", Command::new(Path::new("/bin/true"), &[], "")?, None, Silence, None),
        Case { every: 20, ..row("a tenth of it in bash and jq", script, None, Any, None) },
    ];
    // Not before memory was measured: a compiler is a child of this program, too.
    programs.go = go_noop(programs.folder.path());
    if let Some(program) = &programs.go {
        cases.push(row(
            "a Go program that does nothing",
            Command::new(program, &[], "")?,
            None,
            Silence,
            None,
        ));
    }
    let growth = Growth::lay_out(&sandbox)?;
    let several = cases.len();
    cases.extend(growth.cases(&programs)?);
    for case in &cases {
        case.prove(&mut sampler)?;
    }
    measure(&mut cases, &mut sampler, rounds)?;

    let (cases, growth) = cases.split_at(several);
    let [
        noop,
        again,
        _,
        allowed,
        crio,
        _,
        with_facts,
        with_version,
        _,
        _,
        small_policy,
        passing,
        _,
        script,
        ..,
    ] = cases
    else {
        return Err("a case is missing".into());
    };
    println!(
        "{rounds} rounds, interleaved, on one CPU; microseconds from posix_spawn to the end of the process"
    );
    println!();
    println!("{:32} {:>7} {:>7} {:>7}  {:>6} {:>6}  budget", "", "min", "p10", "p50", "p10", "p50");
    let line = |name: &str, times: &Times, to: &Times, most: Option<f64>| {
        let [min, p10, p50] = [0, 10, 50].map(|percent| times.percentile(percent));
        let (r10, r50) = (times.ratio(to, 10), times.ratio(to, 50));
        let verdict = most.map_or(String::new(), |most| verdict(r50, most, "x"));
        println!("{name:32} {min:7.0} {p10:7.0} {p50:7.0}  {r10:5.2}x {r50:5.2}x  {verdict}");
    };
    for case in cases {
        line(&case.name, &case.times, &noop.times, case.budget);
    }
    println!();
    let over = passing.times.percentile(10) - noop.times.percentile(10);
    println!(
        "{PASSING}: {over:.0} us over the no-op that it becomes, at p10  {}",
        verdict(over, 80.0, " us")
    );

    println!();
    println!("the same, as ratios to the first allow:");
    line(&script.name, &script.times, &allowed.times, None);
    println!("and to the allow for CRI-O:");
    for case in [with_facts, with_version] {
        line(&case.name, &case.times, &crio.times, None);
    }
    println!("and to the allow with the smallest policy:");
    // Reading config.json takes about a quarter of all; a policy of realistic size may cost as much.
    let name = format!("a policy of {}", kilobytes(POLICY.len()));
    line(&name, &allowed.times, &small_policy.times, Some(1.25));

    println!();
    println!("what grows, on containerd:");
    // Twice what two identical programs differ by is noise; below a twentieth, nothing can be told apart here.
    let noise = 1.0 + (2.0 * (again.times.ratio(&noop.times, 50) - 1.0).abs()).max(0.05);
    println!("(two identical programs: {noise:.2}x is noise)");
    for case in growth {
        line(&case.name, &case.times, &noop.times, case.budget);
    }

    println!();
    println!("one start, which no other load changes:");
    println!("{:32} {:>12} {:>12}", "", "instructions", "system calls");
    for case in cases.iter().chain(growth).filter(|case| case.every == 1) {
        let Counts { instructions, calls } = Counts::of(&case.command)?;
        case.node.map(Node::journalled);
        let [instructions, calls] =
            [instructions, calls].map(|count| count.map_or("-".to_owned(), |count| count.to_string()));
        println!("{:32} {instructions:>12} {calls:>12}", case.name);
    }

    println!();
    let megabyte = 1024.0 * 1024.0;
    let size = |path: &Path| -> Result<f64, Failure> { Ok(precise(fs::metadata(path)?.len()) / megabyte) };
    let (hook_size, noop_size) = (size(&programs.hook)?, size(&programs.noop)?);
    println!(
        "{:13} {hook_size:5.2} MB (no-op {noop_size:.2} MB)  {}",
        "binary",
        verdict(hook_size, 1.3, " MB")
    );
    for (name, resident) in [("RSS, 70 KB", resident_large), ("RSS, any", resident)] {
        let [resident, floor] = [resident, floor].map(|kib| precise(kib.unsigned_abs()) / 1024.0);
        println!("{name:13} {resident:5.2} MB (no-op {floor:.2} MB)  {}", verdict(resident, 2.0, " MB"));
    }

    if let Some(scanned) = scanned {
        println!();
        full_node(&scanned, scan_rounds);
    }
    if runc_rounds > 0 {
        let runtimes = Runtime::all();
        if runtimes.is_empty() {
            println!(
                "SKIPPED: no runc and no crun here, so what a hook adds to a container's creation was not measured"
            );
        }
        for runtime in &runtimes {
            println!();
            with_runtime(runtime, &programs, &usual, runc_rounds)?;
        }
    }
    Ok(())
}

/// A call that starts nothing through the wrapper, before a runtime that does nothing.
const PASSING: &str = "state, through the wrapper";

/// A policy that asks nothing of a namespace without labels.
const UNASKED: &str = "mode = \"enforce\"\n[defaults]\naudit = \"privileged\"\nwarn = \"privileged\"\n";

/// What an engine's hook is started with.
fn start(hook: &Path, node: &Node, engine: &str, state: &str) -> Result<Command, Failure> {
    let root = node.root().to_str().ok_or("a path that is not UTF-8")?;
    Command::new(hook, &["hook", "--engine", engine, "--root", root], state)
}

/// What is measured.
struct Programs {
    tool: PathBuf,
    hook: PathBuf,
    /// The hook as it lies in the page cache after a reboot: read on demand, in single pages.
    rebooted: PathBuf,
    noop: PathBuf,
    noop_hook: PathBuf,
    /// A program in Go that does nothing, where there is Go to build it.
    go: Option<PathBuf>,
    folder: tempfile::TempDir,
}

impl Programs {
    /// Beside this program, where `make bench` builds them: `release/pss-guard`, `release/pss-guard-gate`,
    /// `release/examples/noop` and `noop_hook`.
    fn find() -> Result<Self, Failure> {
        let this = env::current_exe()?;
        let examples = this.parent().ok_or("this program is in no folder")?;
        let beside = examples.join("../pss-guard-gate");
        let hook = env::var_os("BENCH_HOOK").map_or(beside, PathBuf::from);
        let noop = examples.join("noop");
        // Measured as installed, from a copy in large pieces: what a linker writes lies in the page cache in single pages,
        // which alone makes a start a fifth slower. Never in the memory of this program, whose children inherit its peak.
        let folder = tempfile::tempdir()?;
        let missing =
            |program: &Path, error| format!("copy {} (`make bench` builds it): {error}", program.display());
        let copy = |program: &Path, name: &str| -> Result<PathBuf, Failure> {
            let copy = folder.path().join(name);
            fs::copy(program, &copy).map_err(|error| missing(program, error))?;
            Ok(copy)
        };
        let rebooted = folder.path().join("pss-guard-gate-rebooted");
        let mut options = fs::OpenOptions::new();
        let mut to = options.write(true).create_new(true).mode(0o755).open(&rebooted)?;
        let mut from = fs::File::open(&hook).map_err(|error| missing(&hook, error))?;
        let mut page = [0; 4096];
        loop {
            match from.read(&mut page)? {
                0 => break,
                read => to.write_all(page.get(..read).unwrap_or_default())?,
            }
        }
        Ok(Self {
            tool: copy(&examples.join("../pss-guard"), "pss-guard")?,
            rebooted,
            hook: copy(&hook, "pss-guard-gate")?,
            noop: copy(&noop, "noop")?,
            noop_hook: copy(&examples.join("noop_hook"), "noop_hook")?,
            go: None,
            folder,
        })
    }

    /// A start of the gate as a hook.
    fn start(&self, node: &Node, engine: &str, state: &str) -> Result<Command, Failure> {
        start(&self.hook, node, engine, state)
    }

    /// The gate in front of a runtime that does nothing, asked for what starts no process.
    fn passing(&self, node: &Node) -> Result<Command, Failure> {
        let folder = node.root().join("var/lib/pss-guard/runtimes/containerd/noop");
        fs::create_dir_all(&folder)?;
        let entry = folder.join("pss-guard-runtime");
        symlink(&self.hook, &entry)?;
        symlink(&self.noop, folder.join("runtime"))?;
        Command::new(&entry, &["--root", "/run/noop", "state", "some-container"], "")
    }
}

/// Builds one without C, as tools for containers are.
fn go_noop(folder: &Path) -> Option<PathBuf> {
    let (source, program) = (folder.join("noop.go"), folder.join("noop-go"));
    fs::write(&source, "package main\n\nfunc main() {}\n").ok()?;
    let mut build = std::process::Command::new("go");
    build.args(["build", "-ldflags=-s -w", "-o"]).arg(&program).arg(&source).env("CGO_ENABLED", "0");
    build.status().is_ok_and(|status| status.success()).then_some(program)
}

/// Runs every case once a round, each round in another order: what runs before leaves the caches as it needs them.
fn measure(cases: &mut [Case<'_>], sampler: &mut Sampler, rounds: usize) -> Result<(), Failure> {
    let mut order: Vec<usize> = (0..cases.len()).collect();
    let mut seed = 1;
    for round in 0..rounds {
        sampler::shuffle(&mut order, &mut seed);
        for nth in &order {
            let Some(case) = cases.get_mut(*nth) else { continue };
            if round % case.every == 0 {
                case.times.add(sampler.run(&case.command)?.took);
                // Off the clock, so that no queue fills.
                case.node.map(Node::journalled);
            }
        }
    }
    Ok(())
}

fn with_runtime(runtime: &Runtime, programs: &Programs, node: &Node, rounds: usize) -> Result<(), Failure> {
    let (hook, root) = (programs.hook.to_str(), node.root().to_str());
    let (hook, root) = hook.zip(root).ok_or("a path that is not UTF-8")?;
    let arguments = [hook, "hook", "--engine", "containerd", "--root", root];
    let cases = runtimes::measure(runtime, node, &arguments, &programs.noop_hook, rounds)?;
    println!("{} create, {rounds} rounds, each in another order; milliseconds", runtime.name);
    println!();
    println!("{:32} {:>7} {:>7}  {:>6} {:>6}", "", "p10", "p50", "p10", "p50");
    let none = cases.none.times();
    for case in cases.all() {
        let times = case.times();
        let [p10, p50] = [10, 50].map(|percent| times.percentile(percent) / 1000.0);
        let [r10, r50] = [10, 50].map(|percent| times.ratio(&none, percent));
        println!("{:32} {p10:7.2} {p50:7.2}  {r10:5.2}x {r50:5.2}x", case.name);
    }
    println!();
    println!(
        "what each takes longer than the no-op of the same round; the median, where it lies at 95 %, and"
    );
    println!("the share of rounds in which it took longer:");
    for case in [&cases.again, &cases.hook, &cases.wrapper] {
        let differences = case.beyond(&cases.noop);
        let (median, [from, to], slower) =
            (differences.median(), differences.interval(), differences.slower());
        println!("{:32} {median:+7.2}  {from:+6.2} to {to:+6.2}  {slower:3.0} %", case.name);
    }
    let [direct, through] = runtimes::measure_passing(runtime, node, 5 * rounds)?;
    println!();
    println!(
        "{} --version, which starts nothing: {:.2} ms, through pss-guard-runtime {:.2} ms (p50)",
        runtime.name,
        direct.percentile(50) / 1000.0,
        through.percentile(50) / 1000.0
    );
    Ok(())
}

fn full_node(scanned: &scan::Scanned, rounds: usize) {
    let milliseconds = |times: &Times| [0, 50].map(|percent| times.percentile(percent) / 1000.0);
    let megabytes = precise(scanned.resident.unsigned_abs()) / 1024.0;
    println!("scan of {} containers and their sandboxes, {rounds} rounds; milliseconds", scan::CONTAINERS);
    println!();
    println!("{:32} {:>7} {:>7} {:>12} {:>12}", "", "CPU min", "CPU p50", "wall min", "wall p50");
    let ([cpu_min, cpu], [wall_min, wall]) =
        (milliseconds(&scanned.scan.cpu), milliseconds(&scanned.scan.wall));
    let met = verdict(cpu, 200.0, " ms of CPU");
    println!("{:32} {cpu_min:7.0} {cpu:7.0} {wall_min:12.0} {wall:12.0}  {met}", "pss-guard scan");
    let ([_, script], [_, script_wall]) =
        (milliseconds(&scanned.script.cpu), milliseconds(&scanned.script.wall));
    let name = format!("a tenth of it, for {} of them, in jq", scan::FOR_SCRIPT);
    println!("{name:40} {script:7.0} {script_wall:25.0}  {:.1}x", script / cpu);
    println!("{:32} {megabytes:7.1} MB  {}", "RSS of the scan, at most", verdict(megabytes, 15.0, " MB"));
}

fn verdict(value: f64, most: f64, unit: &str) -> String {
    let word = if value <= most { "ok" } else { "OVER BUDGET" };
    format!("<= {most:.2}{unit} {word}")
}

fn kilobytes(bytes: usize) -> String {
    format!("{:.1} KB", precise(u64::try_from(bytes).unwrap_or(u64::MAX)) / 1000.0)
}

/// Exact for every size and every number of KiB that can come up here.
#[allow(clippy::cast_precision_loss)]
fn precise(number: u64) -> f64 {
    number as f64
}

/// A process that moves to another CPU starts with cold caches; here all of them stay on one.
fn stay_on_one_cpu() -> Result<(), Failure> {
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this)?;
    let mut one = CpuSet::new();
    for cpu in 0..CpuSet::count() {
        if allowed.is_set(cpu)? {
            one.set(cpu)?;
            break;
        }
    }
    Ok(sched_setaffinity(this, &one)?)
}

fn setting(name: &str, default: usize) -> Result<usize, Failure> {
    match env::var(name) {
        Ok(text) => text.parse().map_err(|_| format!("{name}={text}: not a number").into()),
        Err(_) => Ok(default),
    }
}
