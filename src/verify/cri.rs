//! The probes of an engine that speaks CRI: two pods, asked for as a kubelet would, by `crictl`.
//!
//! A kubelet ends pods that it does not know, and looks for them every two seconds (`HandlePodCleanups` in
//! `pkg/kubelet/kubelet_pods.go`). A probe that the kubelet ends says nothing about the gate, whatever errors the engine and the
//! gate then report. On a slow node the kubelet can end every probe.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::evidence::{Journal, POD};
use super::expect::{Expect, Expected, NAMESPACE};
use super::probe::{Folder, Report, Seen, name};
use super::{Outcome, Patience, said};
use crate::atomic;
use crate::events::probes::Ledger;
use crate::message::{cut, escape, line};
use crate::node::host::Live;
use crate::node::run::{Done, run};
use crate::pss::Level;

/// How often a probe is made that fails.
const TRIES: usize = 3;

/// How often one is made whose pod somebody else ends.
const ENDED: usize = 8;

/// For how long the engine may not know yet that a pod has ended.
const SETTLED: Duration = Duration::from_secs(2);

/// For how long a pod may stay that is being removed by somebody else too.
const REMOVED: Duration = Duration::from_secs(10);

/// Where pods have their logs (`pkg/kubelet/kuberuntime/kuberuntime_manager.go`, `podLogsRootDirectory`).
const LOGS: &str = "/var/log/pods";

/// The engine's client.
pub(super) struct Client {
    program: PathBuf,
    logs: PathBuf,
    endpoint: String,
    patience: Patience,
    ledger: Ledger,
}

/// What an engine says of itself.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Whether pods get networks.
    network: bool,
    /// Whether it has systemd make its control groups.
    systemd: bool,
    /// An image that is on the node.
    image: Option<String>,
}

impl Client {
    pub(super) fn new(
        live: &Live,
        program: &Path,
        socket: &Path,
        patience: Patience,
        ledger: Ledger,
    ) -> Self {
        let (program, logs) = (live.place(program), live.place(Path::new(LOGS)));
        Self { program, logs, endpoint: format!("unix://{}", socket.display()), patience, ledger }
    }

    fn call(&self, arguments: &[&str]) -> Result<Done, String> {
        let mut command = Command::new(&self.program);
        let seconds = format!("{}s", self.patience.call.as_secs().max(1));
        command.args(["--runtime-endpoint", &self.endpoint, "--image-endpoint", &self.endpoint]);
        command.args(["--timeout", &seconds]).args(arguments);
        run(&mut command, self.patience.call).map_err(|error| line(&error))
    }

    fn ask(&self, arguments: &[&str]) -> Result<String, String> {
        let done = self.call(arguments)?;
        if done.ok { Ok(done.stdout) } else { Err(said(&done)) }
    }

    /// What the engine says of itself, once it is ready.
    pub(super) fn state(&self) -> Result<State, String> {
        let text = self.ask(&["info", "--output", "json"])?;
        let info: Value = serde_json::from_str(&text).map_err(|error| format!("crictl info: {error}"))?;
        let is_ready = |name: &str| {
            let conditions = info.pointer("/status/conditions").and_then(Value::as_array);
            let own = conditions.into_iter().flatten().find(|own| own.get("type") == Some(&json!(name)));
            own.and_then(|own| own.get("status")).and_then(Value::as_bool).unwrap_or_default()
        };
        if !is_ready("RuntimeReady") {
            return Err(format!("it is not ready: {}", cut(&escape(&text), 500)));
        }
        let images: Value = serde_json::from_str(&self.ask(&["images", "--output", "json"])?)
            .map_err(|error| format!("crictl images: {error}"))?;
        let names = images.get("images").and_then(Value::as_array).into_iter().flatten();
        let names =
            names.filter_map(|image| image.get("repoTags")?.as_array()).flatten().filter_map(Value::as_str);
        // Without it a sandbox would have the engine pull one.
        let image = names.into_iter().find(|name| name.contains("pause")).map(str::to_owned);
        Ok(State { network: is_ready("NetworkReady"), systemd: names_systemd(&info), image })
    }

    /// Asks for a pod with one container, and takes it away again.
    fn attempt(&self, probe: &Probe<'_>, state: &State, journal: &Journal) -> Result<Attempt, String> {
        let folder = Folder::new()?;
        let logs = Logs::make(&self.logs, probe)?;
        let (pod, container) = (
            folder.write("pod.json", &probe.pod(state, &logs.0))?,
            folder.write("container.json", &probe.container(state))?,
        );
        // Ends after the removal below it.
        let entry = self.ledger.of_pod(probe.namespace, &probe.name, &probe.uid());
        let _entry = entry.map_err(|error| line(&error))?;
        let _removal = Removal { client: self, name: &probe.name };
        let sandbox = self.call(&["runp", &pod])?;
        let refusal = if sandbox.ok { self.start(&sandbox, &pod, &container)? } else { Some(said(&sandbox)) };
        let seen = Seen { refusal, events: journal.wait(POD, &probe.name, probe.expected) };
        Ok(match seen.judge(probe.forbidden, probe.expected, journal) {
            Err(_) if sandbox.ok && self.has_ended(&probe.name) => Attempt::Ended,
            judged => Attempt::ControlResult(judged),
        })
    }

    /// Whether the pod is not there any more that was there.
    fn has_ended(&self, name: &str) -> bool {
        let end = Instant::now() + SETTLED.min(self.patience.answer);
        loop {
            match self.ask(&["pods", "--quiet", "--name", name, "--state", "ready"]) {
                Ok(ready) if ready.trim().is_empty() => return true,
                Ok(_) if Instant::now() < end => std::thread::sleep(Duration::from_millis(200)),
                Ok(_) | Err(_) => return false,
            }
        }
    }

    /// Removes the pods whose names match. `Err` with the first refusal of the engine.
    fn remove(&self, name: &str) -> Result<(), String> {
        let ids = self.ask(&["pods", "--quiet", "--name", name])?;
        let mut removed = Ok(());
        for id in ids.split_ascii_whitespace() {
            let _ = self.call(&["stopp", id]);
            removed = removed.and(self.ask(&["rmp", "--force", id]).map(drop));
        }
        removed
    }

    /// Removes them until none is left. A kubelet may be removing them too. CRI-O locks no pod for that (`removePodSandbox` in
    /// `server/sandbox_remove.go`): both calls can fail, and the pod stays until it is asked again. `Err` with what is left
    /// and why.
    fn remove_all(&self, name: &str) -> Result<(), String> {
        let end = Instant::now() + REMOVED.min(self.patience.answer);
        loop {
            let removed = self.remove(name);
            let left = self.ask(&["pods", "--quiet", "--name", name])?;
            let ids: Vec<&str> = left.split_ascii_whitespace().collect();
            if ids.is_empty() {
                return Ok(());
            }
            if Instant::now() >= end {
                let reason = removed.err().unwrap_or_else(|| "the engine still lists them".to_owned());
                return Err(format!("`crictl rmp --force {}` removes them: {reason}", ids.join(" ")));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// What the engine said no with, if it did.
    fn start(&self, sandbox: &Done, pod: &str, container: &str) -> Result<Option<String>, String> {
        let made = self.call(&["create", "--no-pull", sandbox.stdout.trim(), container, pod])?;
        if !made.ok {
            return Ok(Some(said(&made)));
        }
        let started = self.call(&["start", made.stdout.trim()])?;
        Ok((!started.ok).then(|| said(&started)))
    }
}

/// What came of one try.
enum Attempt {
    /// It shows something: what the gate said, or why the installation has failed.
    ControlResult(Result<Option<String>, String>),
    /// It shows nothing: somebody else ended the pod meanwhile.
    Ended,
}

/// Whether a runtime handler has `SystemdCgroup` set; crictl shows containerd's configuration as the engine has it.
fn names_systemd(info: &Value) -> bool {
    match info {
        Value::Object(map) => map.iter().any(|(key, value)| {
            (key == "SystemdCgroup" && *value == Value::Bool(true)) || names_systemd(value)
        }),
        Value::Array(list) => list.iter().any(names_systemd),
        _ => false,
    }
}

/// Makes the probes and draws the conclusions.
pub(super) fn probe(client: &Client, state: &State, expect: &Expect<'_>, journal: &Journal) -> Outcome {
    let mut report = Report::default();
    report.saw("the engine answers".to_owned());
    if state.image.is_none() {
        report.misses(
            "not probed: no pause image is on this node yet (`crictl images`), and a probe pulls none"
                .to_owned(),
        );
        return report.outcome();
    }
    // What a run has left that was killed, or lost its power.
    let ours = format!("^{NAMESPACE}-");
    let _ = client.remove(&ours);
    let made = make_both(client, state, expect, journal, &mut report);
    let gone = client.remove_all(&ours);
    if let Err(reason) = made {
        return Outcome::Failed(reason);
    }
    if let Err(left) = gone {
        report.misses(format!("that the probes are gone: {left}"));
    }
    report.judged(journal)
}

/// Makes the harmless and the forbidden probe. `Err` with why the installation has failed.
fn make_both(
    client: &Client,
    state: &State,
    expect: &Expect<'_>,
    journal: &Journal,
    report: &mut Report,
) -> Result<(), String> {
    // First that containers start at all: that must not be lost by an installation.
    match Probe::harmless(state, expect) {
        None => report.misses(
            "that a container starts: the policy refuses every pod that can be made without a pod network"
                .to_owned(),
        ),
        Some(probe) => match probe.make(client, state, journal) {
            Attempt::ControlResult(said) => report.harmless(probe.namespace, said?.is_some()),
            Attempt::Ended => {
                report.saw("the sandbox of a harmless probe started".to_owned());
                report.misses(format!("that a container starts: {OTHERS}"));
            }
        },
    }
    let probe = Probe::forbidden(expect);
    match probe.make(client, state, journal) {
        Attempt::ControlResult(said) => report.forbidden(probe.expected, said?),
        Attempt::Ended => report.misses(format!("what comes of a forbidden container: {OTHERS}")),
    }
    Ok(())
}

const OTHERS: &str = "each probe pod was ended before its container could start, as a kubelet does with \
                      unknown pods; on a node this slow, stop the kubelet while the probes run";

/// A pod that shows something.
struct Probe<'a> {
    name: String,
    namespace: &'a str,
    host_network: bool,
    asks: Option<Level>,
    forbidden: bool,
    expected: Expected,
}

impl<'a> Probe<'a> {
    /// A pod that complies with everything; where pods have no network yet, one of the host's in an exempt namespace.
    /// `None` if the policy would refuse both.
    fn harmless(state: &State, expect: &Expect<'a>) -> Option<Self> {
        let own = (NAMESPACE, !state.network);
        let exempt = expect.exempt_namespace().map(|namespace| (namespace, !state.network));
        let (namespace, host_network, expected) =
            [Some(own), exempt].into_iter().flatten().find_map(|(namespace, host_network)| {
                let expected = expect.of(namespace, None, host_network);
                matches!(expected, Expected::Starts(_)).then_some((namespace, host_network, expected))
            })?;
        Some(Self { name: name(), namespace, host_network, asks: None, forbidden: false, expected })
    }

    /// A pod that violates baseline in its sandbox and in its container, and asks to be held to restricted.
    fn forbidden(expect: &Expect<'a>) -> Self {
        let (namespace, asks) = (NAMESPACE, Some(Level::Restricted));
        let expected = expect.of(namespace, asks, true);
        Self { name: name(), namespace, host_network: true, asks, forbidden: true, expected }
    }

    /// Makes it, as often as is needed to see what comes of it.
    fn make(&self, client: &Client, state: &State, journal: &Journal) -> Attempt {
        let (mut failed, mut ended) = (0, 0);
        loop {
            let attempt = Probe { name: name(), ..*self };
            match client.attempt(&attempt, state, journal) {
                Ok(Attempt::ControlResult(Err(reason))) => {
                    failed += 1;
                    if failed == TRIES {
                        return Attempt::ControlResult(Err(reason));
                    }
                }
                Ok(Attempt::Ended) => {
                    ended += 1;
                    if ended == ENDED {
                        return Attempt::Ended;
                    }
                }
                Ok(judged) => return judged,
                // An engine that does not answer is not asked again.
                Err(reason) => return Attempt::ControlResult(Err(reason)),
            }
        }
    }

    /// CRI's PodSandboxConfig.
    fn pod(&self, state: &State, logs: &Path) -> Value {
        let source = BTreeMap::from([("kubernetes.io/config.source", "api")]);
        let asked = self.asks.map(|level| ("pod-security.kubernetes.io/enforce", level.name()));
        let annotations: BTreeMap<&str, &str> = source.into_iter().chain(asked).collect();
        json!({
            "metadata": {"name": self.name, "namespace": self.namespace, "uid": self.uid(), "attempt": 0},
            "hostname": if self.host_network { "" } else { &self.name },
            "log_directory": logs,
            "labels": self.labels(None),
            "annotations": annotations,
            "linux": {
                // With systemd's control groups runc takes nothing but the name of a slice.
                "cgroup_parent": if state.systemd { "system.slice" } else { "" },
                "security_context": {
                    "namespace_options": self.namespaces(),
                    "seccomp": {"profile_type": RUNTIME_DEFAULT},
                },
            },
        })
    }

    /// CRI's ContainerConfig. The pause image's program needs nothing, so it runs under any restriction.
    fn container(&self, state: &State) -> Value {
        let (add, user) = if self.forbidden { (vec!["SYS_ADMIN"], 0) } else { (vec![], 65535) };
        json!({
            "metadata": {"name": "probe", "attempt": 0},
            "image": {"image": state.image},
            "log_path": "0.log",
            "labels": self.labels(Some("probe")),
            "annotations": {
                "io.kubernetes.container.hash": "0",
                "io.kubernetes.container.restartCount": "0",
            },
            "linux": {
                "security_context": {
                    "namespace_options": self.namespaces(),
                    "run_as_user": {"value": user},
                    "capabilities": {"add_capabilities": add, "drop_capabilities": ["ALL"]},
                    "no_new_privs": !self.forbidden,
                    "readonly_rootfs": true,
                    "seccomp": {"profile_type": RUNTIME_DEFAULT},
                    "masked_paths": MASKED,
                    "readonly_paths": READ_ONLY,
                },
            },
        })
    }

    fn labels(&self, container: Option<&'static str>) -> BTreeMap<&str, String> {
        let of_pod = [
            ("io.kubernetes.pod.name", self.name.clone()),
            ("io.kubernetes.pod.namespace", self.namespace.to_owned()),
            ("io.kubernetes.pod.uid", self.uid()),
        ];
        let of_container = container.map(|name| ("io.kubernetes.container.name", name.to_owned()));
        of_pod.into_iter().chain(of_container).collect()
    }

    fn namespaces(&self) -> Value {
        json!({"network": if self.host_network { 2 } else { 0 }, "pid": 1, "ipc": 0})
    }

    /// In the form of a pod's UID, from the name's random end.
    fn uid(&self) -> String {
        let random = self.name.rsplit('-').next().unwrap_or_default();
        format!("00000000-0000-4000-8000-{random:0>12.12}")
    }
}

/// The folder of a pod's logs, gone when the value is.
///
/// No probe may be without: when a kubelet removes a container that it does not know, it removes every file whose name begins
/// with the path of the container's log (`Clean` in `pkg/kubelet/logs/container_log_manager.go`). With an empty path that is
/// everything in its working directory, which is `/`: it takes `/bin` away, and then no node starts again.
struct Logs(PathBuf);

impl Logs {
    /// As a kubelet makes it, with a name that it takes for a pod's.
    fn make(logs: &Path, probe: &Probe<'_>) -> Result<Self, String> {
        let path = logs.join(format!("{}_{}_{}", probe.namespace, probe.name, probe.uid()));
        atomic::make_folder(&path).map(|_| Self(path)).map_err(|error| line(&error))
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
        // Where there is no kubelet nobody else has one.
        let _ = self.0.parent().map(fs::remove_dir);
    }
}

/// CRI's SecurityProfile, as a kubelet asks for it.
const RUNTIME_DEFAULT: u8 = 0;

/// What a kubelet has masked in every container whose procMount is Default (`pkg/securitycontext/util.go`).
const MASKED: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];

/// What it has made read-only.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Takes a probe away again, however it ended; by its name, because a call that hung has given no id.
struct Removal<'a> {
    client: &'a Client,
    name: &'a str,
}

impl Drop for Removal<'_> {
    fn drop(&mut self) {
        // What is left is removed at the end.
        let _ = self.client.remove(self.name);
    }
}
