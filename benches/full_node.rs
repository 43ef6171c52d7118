//! What runs on a full node: pods of two containers and a sandbox, each with a process that lives, and what runc keeps of it.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command as Program, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::node::{Failure, Pod, Sandbox};

const BUNDLES: &str = "run/containerd/io.containerd.runtime.v2.task/k8s.io";
const STATES: &str = "run/containerd/runc/k8s.io";

/// Processes that sleep in the namespaces of a sandbox, with no more than restricted allows. As under a shim, their parent
/// is outside of those: a shell that waits for them.
pub(crate) struct Processes {
    shell: Child,
    pids: Vec<i32>,
}

impl Processes {
    /// As many as these pods have.
    pub(crate) fn start(sandbox: &Sandbox, pods: usize) -> Result<Self, Failure> {
        let (count, pid) = (3 * pods, sandbox.pid());
        let enter = format!("nsenter --target {pid} --ipc --uts --net");
        let drop = "setpriv --no-new-privs --bounding-set=-all --inh-caps=-all --reuid=1000 --clear-groups sleep infinity";
        let script = format!(
            "i=0; while [ $i -lt {count} ]; do {enter} {drop} >/dev/null & echo $!; i=$((i+1)); done; \
             exec >/dev/null; wait"
        );
        let mut program = Program::new("sh");
        program.args(["-c", &script]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut shell = program.spawn().map_err(|error| format!("start sh(1): {error}"))?;
        let told = BufReader::new(shell.stdout.take().ok_or("no output")?);
        let numbers = told.lines().map_while(Result::ok).filter_map(|line| line.parse().ok());
        let processes = Self { pids: numbers.collect(), shell };
        if processes.pids.len() != count {
            return Err(format!("{} of {count} processes started", processes.pids.len()).into());
        }
        let sleeps = |pid: &i32| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim_end() == "sleep")
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        while !processes.pids.iter().all(sleeps) {
            if Instant::now() > deadline {
                return Err("not all processes run sleep(1)".into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(processes)
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for pid in &self.pids {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        let _ = self.shell.wait();
    }
}

/// Bundles and runc's state below a folder, as containerd's shim lays them out: a pod for each three of the processes.
pub(crate) fn lay_out(root: &Path, sandbox: &Sandbox, processes: &Processes) -> Result<(), Failure> {
    let pod = Pod::containerd_denied()?;
    let mut pids = processes.pids.iter();
    let mut lay = |id: &str, config: &Value| -> Result<(), Failure> {
        let pid = pids.next().ok_or("not enough processes")?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let ticks = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(19));
        let ticks: u64 = ticks.ok_or("no start of a process")?.parse()?;
        let (bundle, state) = (root.join(BUNDLES).join(id), root.join(STATES).join(id));
        fs::create_dir_all(&bundle)?;
        fs::create_dir_all(&state)?;
        fs::write(bundle.join("config.json"), config.to_string())?;
        fs::write(bundle.join("init.pid"), pid.to_string())?;
        fs::write(bundle.join("runtime"), "")?;
        let label = format!("bundle=/{BUNDLES}/{id}");
        let known = json!({"labels": [label], "mounts": config["mounts"], "spec": config.to_string()});
        let known = format!(
            r#"{{"id":"{id}","init_process_pid":{pid},"init_process_start":{ticks},"config":{known}}}"#
        );
        Ok(fs::write(state.join("state.json"), known)?)
    };
    for number in 0..processes.pids.len() / 3 {
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
