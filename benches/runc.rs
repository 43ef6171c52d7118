//! What does a hook add to `runc create`? The whole way, with the runtime's own share in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Failure;
use crate::node::{Node, Pod};
use crate::sampler::Times;

/// One container and the hook it is created with.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) times: Times,
    bundle: PathBuf,
}

/// A runc with a state directory of its own.
pub(crate) struct Runc<'a> {
    program: &'a str,
    state: tempfile::TempDir,
}

impl Runc<'_> {
    /// Creates a container and deletes it; the time is that of the creation.
    fn create_and_delete(&self, case: &Case, id: &str) -> Result<Duration, Failure> {
        let log = self.state.path().join("stderr");
        let run = |arguments: &[&str]| -> Result<Duration, Failure> {
            let mut runc = Command::new(self.program);
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

/// Lays out one bundle a case: no hook, a hook that does nothing, ours.
fn cases(node: &Node, hook: &[&str], noop: &Path) -> Result<Vec<Case>, Failure> {
    let hooks = [
        ("no hook", None),
        ("/bin/true as a hook", Some(json!([{ "path": "/bin/true" }]))),
        ("pss-guard as a hook", Some(json!([{ "path": hook.first(), "args": hook }]))),
    ];
    let mut cases = Vec::new();
    for (nth, (name, hook)) in hooks.into_iter().enumerate() {
        let id = format!("pss-guard-bench-{nth}");
        let pod = Pod::containerd_allowed()?.with(|spec| runnable(spec, &id, hook));
        let bundle = node.lay_out_as_is(&pod, &id, 0)?.path;
        fs::create_dir_all(bundle.join("rootfs"))?;
        fs::copy(noop, bundle.join("rootfs/noop"))?;
        cases.push(Case { name, times: Times::default(), bundle });
    }
    Ok(cases)
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
    program: &str,
    node: &Node,
    hook: &[&str],
    noop: &Path,
    rounds: usize,
) -> Result<Vec<Case>, Failure> {
    let runc = Runc { program, state: tempfile::tempdir()? };
    let mut cases = cases(node, hook, noop)?;
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
