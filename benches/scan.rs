//! What does a scan of a full node cost? A thousand containers in half as many pods, each with a process that lives, its
//! sandbox, and what runc keeps of it; in a mount namespace of this program's own, so that they lie where scan looks.

use std::fs;
use std::path::Path;
use std::process::{Command as Program, Stdio};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::Failure;
use crate::node::{Pod, Sandbox};
use crate::sampler::{self, Command, Sampler, Times};

/// Containers; a pod has two, and a sandbox.
pub(crate) const CONTAINERS: usize = 1000;

/// How many of them the script looks at: all would take longer than everything else here.
pub(crate) const FOR_SCRIPT: usize = 100;

const BUNDLES: &str = "run/containerd/io.containerd.runtime.v2.task/k8s.io";
const STATES: &str = "run/containerd/runc/k8s.io";

/// The times of a scan and of the loop over the same files, and the largest resident set of the scan in KiB.
pub(crate) struct Scanned {
    pub(crate) scan: Times,
    pub(crate) script: Times,
    pub(crate) resident: i64,
}

pub(crate) fn measure(
    program: &Path,
    sandbox: &Sandbox,
    sampler: &mut Sampler,
    rounds: usize,
) -> Result<Scanned, Failure> {
    let folder = tempfile::Builder::new().prefix("pss-guard-bench").tempdir()?;
    let processes = Processes::start(sandbox)?;
    lay_out(folder.path(), sandbox, &processes.pids)?;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(&["--make-rprivate", "/"])?;
    let run = folder.path().join("run");
    mount(&["--bind", run.to_str().ok_or("a path that is not UTF-8")?, "/run"])?;

    // More than a pipe holds.
    let told = folder.path().join("told");
    let [program, file] = [program, &told].map(Path::to_str);
    let (program, file) = program.zip(file).ok_or("a path that is not UTF-8")?;
    let line = "exec \"$0\" scan --level restricted >\"$1\"";
    let scan = Command::new(Path::new("/bin/sh"), &["-c", line, program, file], "")?;
    let proof = sampler.run(&scan)?;
    let output = fs::read_to_string(&told)?;
    let answer = format!("{CONTAINERS} of {CONTAINERS} containers in {} pods would be", CONTAINERS / 2);
    if proof.code != 0 || !output.contains(&answer) {
        let end: Vec<&str> = output.lines().rev().take(3).collect();
        return Err(format!("scan: exit code {}, should say {answer:?}: {end:?}", proof.code).into());
    }
    if output.contains("more than was asked for") {
        return Err("these processes should have no more than their config.json asks for".into());
    }
    let resident = sampler::largest_resident_set()?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/jq-scan.sh");
    let script = Command::new(&script, &[&FOR_SCRIPT.to_string()], "")?;
    let mut scanned = Scanned { scan: Times::default(), script: Times::default(), resident };
    for round in 0..rounds {
        scanned.scan.add(sampler.run(&scan)?.took);
        if round == 0 {
            scanned.script.add(sampler.run(&script)?.took);
        }
    }
    let unmounted = Program::new("umount").arg("/run").status()?;
    if !unmounted.success() {
        return Err("umount /run failed".into());
    }
    Ok(scanned)
}

fn mount(arguments: &[&str]) -> Result<(), Failure> {
    let done = Program::new("mount").args(arguments).status()?;
    if done.success() { Ok(()) } else { Err(format!("mount {arguments:?} failed").into()) }
}

/// Processes that sleep in the namespaces of a sandbox, with no more than restricted allows. As under a shim, their parent
/// is outside of those: this program, which takes over what loses its parent.
struct Processes {
    pids: Vec<i32>,
}

impl Processes {
    fn start(sandbox: &Sandbox) -> Result<Self, Failure> {
        let count = CONTAINERS + CONTAINERS / 2;
        nix::sys::prctl::set_child_subreaper(true)?;
        let before = children();
        let script = format!("i=0; while [ $i -lt {count} ]; do sleep infinity & i=$((i+1)); done");
        let mut program = Program::new("nsenter");
        program.args(["--target", &sandbox.pid().to_string(), "--ipc", "--uts", "--net"]);
        program.args(["setpriv", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--reuid=1000"]);
        program.args(["--clear-groups", "sh", "-c", &script]).stdin(Stdio::null());
        let done = program.status().map_err(|error| format!("start nsenter(1): {error}"))?;
        let pids: Vec<i32> = children().into_iter().filter(|pid| !before.contains(pid)).collect();
        let processes = Self { pids };
        if !done.success() || processes.pids.len() != count {
            return Err(format!("{} of {count} processes started", processes.pids.len()).into());
        }
        Ok(processes)
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for pid in self.pids.iter().map(|pid| Pid::from_raw(*pid)) {
            let _ = kill(pid, Signal::SIGKILL);
            let _ = waitpid(pid, None);
        }
    }
}

fn children() -> Vec<i32> {
    let list = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Bundles and runc's state, as containerd's shim lays them out.
fn lay_out(root: &Path, sandbox: &Sandbox, pids: &[i32]) -> Result<(), Failure> {
    let pod = Pod::containerd_denied()?;
    let mut pids = pids.iter();
    let mut lay = |id: &str, config: &Value| -> Result<(), Failure> {
        let pid = pids.next().ok_or("not enough processes")?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let start = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(19));
        let start: u64 = start.ok_or("no start of a process")?.parse()?;
        let (bundle, state) = (root.join(BUNDLES).join(id), root.join(STATES).join(id));
        fs::create_dir_all(&bundle)?;
        fs::create_dir_all(&state)?;
        fs::write(bundle.join("config.json"), config.to_string())?;
        fs::write(bundle.join("init.pid"), pid.to_string())?;
        fs::write(bundle.join("runtime"), "")?;
        let label = format!("bundle=/{BUNDLES}/{id}");
        let known = json!({"labels": [label], "mounts": config["mounts"], "spec": config.to_string()});
        let known = format!(
            r#"{{"id":"{id}","init_process_pid":{pid},"init_process_start":{start},"config":{known}}}"#
        );
        Ok(fs::write(state.join("state.json"), known)?)
    };
    for number in 0..CONTAINERS / 2 {
        let (name, namespace) = (format!("web-{number}"), format!("team-{}", number % 20));
        let own = format!("{number:064x}");
        let adopt = |config: &mut Value, container: &str| {
            sandbox.adopt(config);
            let annotations = &mut config["annotations"];
            annotations["io.kubernetes.cri.sandbox-id"] = own.as_str().into();
            annotations["io.kubernetes.cri.sandbox-name"] = name.as_str().into();
            annotations["io.kubernetes.cri.sandbox-namespace"] = namespace.as_str().into();
            annotations["io.kubernetes.cri.container-name"] = container.into();
            // The processes sleep without a filter, and what they lack is not what is measured.
            config["linux"]["seccomp"] = Value::Null;
            // They see all processes: nobody takes over children out of another process namespace.
            let namespaces = config.pointer_mut("/linux/namespaces").and_then(Value::as_array_mut);
            if let Some(list) = namespaces {
                list.retain(|namespace| namespace["type"] != "pid");
            }
        };
        let mut config = pod.sandbox().clone();
        adopt(&mut config, "");
        lay(&own, &config)?;
        for container in ["api", "log"] {
            let mut config = pod.container().clone();
            adopt(&mut config, container);
            lay(&format!("{number:060x}-{container}"), &config)?;
        }
    }
    Ok(())
}
