//! What does a gate add to `runc create`, as a hook and as the runtime in front of runc? The whole way, with the runtime's own share in it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Failure;
use crate::node::{Node, Pod};
use crate::sampler::Times;

/// One container, the hook it is created with, and the program that creates it.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) times: Times,
    bundle: PathBuf,
    program: PathBuf,
}

/// A state directory of runc's.
pub(crate) struct Runc {
    state: tempfile::TempDir,
}

impl Runc {
    /// Creates a container and deletes it; the time is that of the creation.
    fn create_and_delete(&self, case: &Case, id: &str) -> Result<Duration, Failure> {
        let log = self.state.path().join("stderr");
        let run = |arguments: &[&str]| -> Result<Duration, Failure> {
            let mut runc = Command::new(&case.program);
            runc.arg("--root").arg(self.state.path().join("containers")).args(arguments);
            runc.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&log)?);
            let started = Instant::now();
            let status = runc.status()?;
            let took = started.elapsed();
            if status.success() {
                return Ok(took);
            }
            Err(format!("runc {}: {status}: {}", arguments.join(" "), fs::read_to_string(&log)?.trim())
                .into())
        };
        let bundle = case.bundle.to_str().ok_or("a path that is not UTF-8")?;
        let created = run(&["create", "--bundle", bundle, id]);
        let deleted = run(&["delete", "--force", id]);
        let took = created?;
        deleted?;
        Ok(took)
    }
}

/// Lays out one bundle a case: nothing of ours, a hook that does nothing, our hook, our runtime.
fn cases(program: &Path, node: &Node, hook: &[&str], noop: &Path) -> Result<Vec<Case>, Failure> {
    let gate = hook.first().ok_or("a hook without a program")?;
    let entry = entry(program, node, Path::new(gate))?;
    let hooks = [
        ("no hook", program, None),
        ("/bin/true as a hook", program, Some(json!([{ "path": "/bin/true" }]))),
        ("pss-guard as a hook", program, Some(json!([{ "path": gate, "args": hook }]))),
        ("pss-guard-runtime before runc", entry.as_path(), None),
    ];
    let mut cases = Vec::new();
    for (nth, (name, program, hook)) in hooks.into_iter().enumerate() {
        let id = format!("pss-guard-bench-{nth}");
        let pod = Pod::containerd_allowed()?.with(|spec| runnable(spec, &id, hook));
        let bundle = node.lay_out_as_is(&pod, &id, 0)?.path;
        fs::create_dir_all(bundle.join("rootfs"))?;
        fs::copy(noop, bundle.join("rootfs/noop"))?;
        cases.push(Case { name, times: Times::default(), bundle, program: program.to_owned() });
    }
    Ok(cases)
}

/// The runtime in front of runc, as the installer puts it there.
fn entry(runc: &Path, node: &Node, gate: &Path) -> Result<PathBuf, Failure> {
    let folder = node.root().join("var/lib/pss-guard/runtimes/containerd/runc");
    fs::create_dir_all(&folder)?;
    let entry = folder.join("pss-guard-runtime");
    symlink(gate, &entry)?;
    symlink(runc, folder.join("runtime"))?;
    Ok(entry)
}

/// What the runtime in front of runc adds to a call that starts nothing: runc's times, and ours.
pub(crate) fn measure_passing(program: &Path, node: &Node, rounds: usize) -> Result<[Times; 2], Failure> {
    let entry = node.root().join("var/lib/pss-guard/runtimes/containerd/runc/pss-guard-runtime");
    let mut times = [Times::default(), Times::default()];
    for round in 0..rounds {
        for (program, times) in [program, &entry].into_iter().zip(&mut times) {
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

/// Measures all cases, interleaved.
pub(crate) fn measure(
    program: &Path,
    node: &Node,
    hook: &[&str],
    noop: &Path,
    rounds: usize,
) -> Result<Vec<Case>, Failure> {
    let runc = Runc { state: tempfile::tempdir()? };
    let mut cases = cases(program, node, hook, noop)?;
    for round in 0..rounds {
        cases.rotate_left(1);
        for case in &mut cases {
            let took = runc.create_and_delete(case, &format!("pss-guard-bench-{}", std::process::id()))?;
            // The first round fills caches.
            if round > 0 {
                case.times.add(took);
            }
        }
        node.journalled();
    }
    cases.sort_by_key(|case| case.bundle.clone());
    Ok(cases)
}
