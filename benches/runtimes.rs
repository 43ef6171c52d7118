//! What does a gate add to a runtime's `create`, as a hook and as the wrapper before it? The whole way, with the runtime's own share.
//!
//! A hook of any kind costs a process, so the gate is compared with a no-op as a hook, round by round: whatever else the machine does
//! meets both. The no-op is there twice, and what it differs from itself is what can be told apart here.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};

use crate::node::{Node, Pod};
use crate::sampler::{self, Times};
use crate::{Failure, precise};

/// A runtime that is installed here.
pub(crate) struct Runtime {
    pub(crate) name: &'static str,
    program: PathBuf,
}

impl Runtime {
    /// Those that are there.
    pub(crate) fn all() -> Vec<Self> {
        let folders = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"].map(Path::new);
        let find = |name| {
            let program = folders.iter().map(|folder| folder.join(name)).find(|path| path.exists())?;
            Some(Self { name, program })
        };
        ["runc", "crun"].into_iter().filter_map(find).collect()
    }

    /// crun 1.8 refuses a machine of cgroup v1 that has v2 mounted beside it, so from now on this program sees none.
    fn hide_what_it_refuses(&self) -> Result<(), Failure> {
        let unified = Path::new("/sys/fs/cgroup/unified");
        if self.name == "crun" && unified.is_dir() {
            unshare(CloneFlags::CLONE_NEWNS)?;
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)?;
            umount2(unified, MntFlags::MNT_DETACH)?;
        }
        Ok(())
    }
}

/// One container, the hook it is created with, and the program that creates it.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// In the order of the rounds.
    took: Vec<Duration>,
    bundle: PathBuf,
    program: PathBuf,
}

impl Case {
    pub(crate) fn times(&self) -> Times {
        let mut times = Times::default();
        self.took.iter().for_each(|took| times.add(*took));
        times
    }

    /// What it took longer than another in the same round.
    pub(crate) fn beyond(&self, other: &Self) -> Differences {
        let pairs = self.took.iter().zip(&other.took);
        let mut all: Vec<f64> = pairs.map(|(this, other)| this.as_secs_f64() - other.as_secs_f64()).collect();
        all.sort_by(f64::total_cmp);
        Differences(all)
    }
}

/// Differences of the rounds in seconds, sorted.
pub(crate) struct Differences(Vec<f64>);

impl Differences {
    fn at(&self, share: f64) -> f64 {
        let last = precise(self.0.len().saturating_sub(1) as u64);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place among them")]
        let place = (share.clamp(0.0, 1.0) * last).round() as usize;
        self.0.get(place).map_or(f64::NAN, |seconds| seconds * 1e3)
    }

    /// In milliseconds.
    pub(crate) fn median(&self) -> f64 {
        self.at(0.5)
    }

    /// Where the median of all rounds there could be lies, 19 times of 20: between these two of those that were, whatever their
    /// distribution is. How many lie below the median is binomial, so its standard deviation is half the root of their number.
    pub(crate) fn interval(&self) -> [f64; 2] {
        let half = 0.98 / precise(self.0.len() as u64).sqrt();
        [self.at(0.5 - half), self.at(0.5 + half)]
    }

    /// The share of rounds in which it took longer, in percent.
    pub(crate) fn slower(&self) -> f64 {
        let slower = self.0.iter().filter(|seconds| **seconds > 0.0).count();
        100.0 * precise(slower as u64) / precise(self.0.len() as u64)
    }
}

/// A state directory of a runtime's.
struct State(tempfile::TempDir);

impl State {
    /// Creates a container and deletes it; the time is that of the creation.
    fn create_and_delete(&self, case: &Case, id: &str) -> Result<Duration, Failure> {
        let log = self.0.path().join("stderr");
        let run = |arguments: &[&str]| -> Result<Duration, Failure> {
            let mut runtime = Command::new(&case.program);
            runtime.arg("--root").arg(self.0.path().join("containers")).args(arguments);
            runtime.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&log)?);
            let started = Instant::now();
            let status = runtime.status()?;
            let took = started.elapsed();
            if status.success() {
                return Ok(took);
            }
            let (program, said) = (case.program.display(), fs::read_to_string(&log)?);
            Err(format!("{program} {}: {status}: {}", arguments.join(" "), said.trim()).into())
        };
        let bundle = case.bundle.to_str().ok_or("a path that is not UTF-8")?;
        let created = run(&["create", "--bundle", bundle, id]);
        let deleted = run(&["delete", "--force", id]);
        let took = created?;
        deleted?;
        Ok(took)
    }
}

/// What was measured, by what it is for.
pub(crate) struct Cases {
    pub(crate) none: Case,
    pub(crate) noop: Case,
    pub(crate) again: Case,
    pub(crate) hook: Case,
    pub(crate) wrapper: Case,
    /// Must fail, or the gate that is timed decides nothing.
    denied: [Case; 2],
}

impl Cases {
    /// One bundle each.
    fn lay_out(runtime: &Runtime, node: &Node, hook: &[&str], noop: &Path) -> Result<Self, Failure> {
        let gate = hook.first().ok_or("a hook without a program")?;
        let entry = entry(runtime, node, Path::new(gate))?;
        let lay_out = |name, pod: Pod, program: &Path, hook: Option<Value>| -> Result<Case, Failure> {
            // An id is a folder's name.
            let id = format!("bench-{}-{name}", runtime.name).replace([' ', '/'], "-");
            let pod = pod.with(|spec| runnable(spec, &id, hook));
            let bundle = node.lay_out_as_is(&pod, &id, 0)?.path;
            fs::create_dir_all(bundle.join("rootfs"))?;
            fs::copy(noop, bundle.join("rootfs/noop"))?;
            Ok(Case { name, took: Vec::new(), bundle, program: program.to_owned() })
        };
        let (allowed, denied) = (Pod::containerd_allowed()?, Pod::containerd_denied()?);
        let program = runtime.program.as_path();
        let gate = json!([{ "path": gate, "args": hook }]);
        let idle = json!([{ "path": noop }]);
        let case = |name, program, hook| lay_out(name, allowed.clone(), program, hook);
        Ok(Self {
            none: case("no hook", program, None)?,
            noop: case("no-op as a hook", program, Some(idle.clone()))?,
            again: case("no-op again (the noise)", program, Some(idle))?,
            hook: case("pss-guard as a hook", program, Some(gate.clone()))?,
            wrapper: case("pss-guard-runtime before it", &entry, None)?,
            denied: [
                lay_out("denied by the hook", denied.clone(), program, Some(gate))?,
                lay_out("denied by the wrapper", denied, &entry, None)?,
            ],
        })
    }

    pub(crate) fn all(&self) -> [&Case; 5] {
        [&self.none, &self.noop, &self.again, &self.hook, &self.wrapper]
    }
}

/// Measures all cases, each once a round, in another order each time: what one leaves behind must not always meet the same next one.
pub(crate) fn measure(
    runtime: &Runtime,
    node: &Node,
    hook: &[&str],
    noop: &Path,
    rounds: usize,
) -> Result<Cases, Failure> {
    runtime.hide_what_it_refuses()?;
    let state = State(tempfile::tempdir()?);
    let id = format!("pss-guard-bench-{}", std::process::id());
    let mut cases = Cases::lay_out(runtime, node, hook, noop)?;
    for case in &cases.denied {
        let refused = state.create_and_delete(case, &id).err().map(|error| error.to_string());
        let event = node.journalled();
        if refused.is_none() || event.is_none_or(|event| !event.contains("PSS_DECISION=denied")) {
            return Err(format!("{}: {refused:?}", case.name).into());
        }
    }
    let mut seed = 1;
    // The first round fills caches.
    for round in 0..=rounds {
        let Cases { none, noop, again, hook, wrapper, denied: _ } = &mut cases;
        let mut order = [none, noop, again, hook, wrapper];
        sampler::shuffle(&mut order, &mut seed);
        for case in order {
            let took = state.create_and_delete(case, &id)?;
            if round > 0 {
                case.took.push(took);
            }
        }
        node.journalled();
    }
    Ok(cases)
}

/// The wrapper before a runtime, as the installer puts it there.
fn entry(runtime: &Runtime, node: &Node, gate: &Path) -> Result<PathBuf, Failure> {
    let entry = place_of_entry(runtime, node);
    let folder = entry.parent().ok_or("an entry in no folder")?;
    fs::create_dir_all(folder)?;
    symlink(gate, &entry)?;
    symlink(&runtime.program, folder.join("runtime"))?;
    Ok(entry)
}

fn place_of_entry(runtime: &Runtime, node: &Node) -> PathBuf {
    node.root().join("var/lib/pss-guard/runtimes/containerd").join(runtime.name).join("pss-guard-runtime")
}

/// What the wrapper adds to a call that starts nothing: the runtime's times, and ours.
pub(crate) fn measure_passing(runtime: &Runtime, node: &Node, rounds: usize) -> Result<[Times; 2], Failure> {
    let entry = place_of_entry(runtime, node);
    let mut times = [Times::default(), Times::default()];
    for round in 0..=rounds {
        for (program, times) in [&runtime.program, &entry].into_iter().zip(&mut times) {
            let started = Instant::now();
            let mut call = Command::new(program);
            let status = call.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).status()?;
            if !status.success() {
                return Err(format!("{} --version: {status}", program.display()).into());
            }
            if round > 0 {
                times.add(started.elapsed());
            }
        }
    }
    Ok(times)
}

/// Turns the fixture into a container that can be created here: its own namespaces, nothing of the node it
/// was made on, the same process, capabilities, seccomp profile and annotations.
fn runnable(spec: &mut Value, id: &str, hook: Option<Value>) {
    // crun 1.8 takes no newer one.
    spec["ociVersion"] = "1.0.2".into();
    let kinds = ["pid", "ipc", "uts", "mount", "network"];
    spec["linux"]["namespaces"] = kinds.iter().map(|kind| json!({ "type": kind })).collect();
    spec["linux"]["cgroupsPath"] = format!("/pss-guard-bench/{id}").into();
    if let Some(mounts) = spec["mounts"].as_array_mut() {
        mounts.retain(|mount| mount["type"] != "bind" && mount["type"] != "cgroup");
    }
    spec["process"]["args"] = json!(["/noop"]);
    if let Some(hook) = hook {
        spec["hooks"] = json!({ "createRuntime": hook });
    }
}
