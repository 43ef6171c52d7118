//! `make demo`: seven containers that people really write, at every level and in both modes, under a real runc.
//!
//! Each is laid out as containerd does it and started twice: by runc with the hook in its spec, and by the wrapper in
//! front of runc. Then its fix is started, at the level that the fix is for. The exit code is 0 only if everything went as it should.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "as in the tests")]
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

#[allow(dead_code, reason = "the tests use the rest")]
#[path = "support/mod.rs"]
mod support;

use std::process::{Command, ExitCode};

use serde_json::Value;
use support::journal::Journal;
use support::pod::{Capabilities, Engine, Pod, Volume};
use support::runtime::{Attempt, Gate, Runtime, RuntimeNode};
use support::{needs, program, run};

fn main() -> ExitCode {
    if !needs::can_run("demo", &["runc", "busybox", "unshare"]) {
        return ExitCode::FAILURE;
    }
    let node = RuntimeNode::new(Engine::Containerd, Runtime::Runc);
    let (major, minor) = Runtime::Runc.version();
    println!(
        "containerd's bundles under runc {major}.{minor}, with the gate as a hook, and as the runtime before runc."
    );
    println!(
        "audit logs what enforce refuses. Why = the controls that are violated, in the standard's order.\n"
    );
    let mut right = true;
    for story in stories() {
        right &= tell(&node, &story);
    }
    right &= show_refusal(&node);
    println!("{}", if right { "Everything went as it should." } else { "NOT as it should: see above." });
    if right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A container that somebody wrote, what is wrong with it, and the way out.
struct Story {
    title: &'static str,
    container: Container,
    baseline: &'static [&'static str],
    restricted: &'static [&'static str],
    /// The lines to put in the pod, and further advice.
    fix: &'static str,
    fixed: Option<Fixed>,
}

enum Container {
    /// One that runc starts here.
    Live(Pod),
    /// Files captured on a node that has what this one may lack; judged by `pss-guard check`.
    Captured(&'static str),
}

/// The container after the fix, and where it starts then.
struct Fixed {
    pod: Pod,
    level: &'static str,
    policy: &'static str,
}

#[allow(clippy::too_many_lines, reason = "one table")]
fn stories() -> Vec<Story> {
    let tmp = || vec![Volume::EmptyDir { name: "tmp", at: "/tmp" }];
    let proc_and_sys = || {
        vec![
            Volume::HostPath { path: "/proc", at: "/host/proc" },
            Volume::HostPath { path: "/sys", at: "/host/sys" },
        ]
    };
    let low_port = || Capabilities::DropAllAdd(&["CAP_NET_BIND_SERVICE"]);
    let plain = |pod| Some(Fixed { pod, level: "restricted", policy: "" });
    vec![
        Story {
            title: "1  an image that runs as root",
            container: Container::Live(Pod { name: "api-0", container: "api", ..Pod::bare() }),
            baseline: &[],
            restricted: UNSET,
            fix: FINAL,
            fixed: plain(Pod { name: "api-0", container: "api", ..Pod::compliant() }),
        },
        Story {
            title: "2  a writable root file system",
            container: Container::Live(Pod { read_only_root: false, ..Pod::compliant() }),
            baseline: &[],
            restricted: &["readOnlyRootFilesystem"],
            fix: "\
spec:
  containers:
  - name: app
    securityContext:
      readOnlyRootFilesystem: true
    volumeMounts:
    - {name: tmp, mountPath: /tmp}
  volumes:
  - {name: tmp, emptyDir: {}}",
            fixed: plain(Pod { volumes: tmp(), ..Pod::compliant() }),
        },
        Story {
            title: "3  a monitoring agent with privileged: true (node-exporter)",
            container: Container::Live(Pod {
                name: "node-exporter-x7k2p",
                namespace: "monitoring",
                container: "node-exporter",
                privileged: true,
                volumes: proc_and_sys(),
                ..Pod::bare()
            }),
            baseline: &["hostPathVolumes", "privileged"],
            restricted: &[
                "privileged",
                "allowPrivilegeEscalation",
                "restrictedVolumes",
                "runAsNonRoot",
                "readOnlyRootFilesystem",
            ],
            fix: "\
spec:
  containers:
  - name: node-exporter
    securityContext:
      privileged: false
      # and the rest as in 7
    volumeMounts:
    - {name: proc, mountPath: /host/proc, readOnly: true}
    - {name: sys, mountPath: /host/sys, readOnly: true}
and, for the host's /proc and /sys that it is there to read, in policy.toml:
[[exceptions]]
namespace = \"monitoring\"
container = \"node-exporter\"
controls = [\"hostPathVolumes\", \"restrictedVolumes\"]
reason = \"reads /proc and /sys of the host\"
expires = 2099-12-31",
            fixed: Some(Fixed {
                pod: Pod {
                    name: "node-exporter-x7k2p",
                    namespace: "monitoring",
                    container: "node-exporter",
                    volumes: proc_and_sys(),
                    ..Pod::compliant()
                },
                level: "restricted",
                policy: "\
[[exceptions]]
namespace = \"monitoring\"
container = \"node-exporter\"
controls = [\"hostPathVolumes\", \"restrictedVolumes\"]
reason = \"reads /proc and /sys of the host\"
expires = 2099-12-31
",
            }),
        },
        Story {
            title: "4  an ingress controller with hostNetwork: true",
            container: Container::Live(Pod {
                name: "ingress-0",
                namespace: "ingress",
                container: "controller",
                host_network: true,
                ..Pod::bare()
            }),
            baseline: &["hostNamespaces"],
            restricted: &[
                "hostNamespaces",
                "allowPrivilegeEscalation",
                "capabilities_restricted",
                "runAsNonRoot",
                "seccompProfile_restricted",
                "readOnlyRootFilesystem",
            ],
            fix: "\
spec:
  hostNetwork: false   # and a Service of type LoadBalancer before it
  containers:
  - name: controller
    securityContext:
      capabilities: {drop: [\"ALL\"], add: [\"NET_BIND_SERVICE\"]}
      # and the rest as in 7",
            fixed: plain(Pod {
                name: "ingress-0",
                namespace: "ingress",
                container: "controller",
                capabilities: low_port(),
                ..Pod::compliant()
            }),
        },
        Story {
            title: "5  capabilities: {add: [\"ALL\"]}",
            container: Container::Live(Pod {
                container: "svc",
                capabilities: Capabilities::AddAll,
                ..Pod::bare()
            }),
            baseline: &["capabilities_baseline"],
            restricted: UNSET,
            fix: "\
spec:
  containers:
  - name: svc
    securityContext:
      capabilities: {drop: [\"ALL\"], add: [\"NET_BIND_SERVICE\"]}
      # and the rest as in 7",
            fixed: plain(Pod { container: "svc", capabilities: low_port(), ..Pod::compliant() }),
        },
        Story {
            title: "6  the SELinux type spc_t, which confines nothing; `check` of files from a node with SELinux",
            container: Container::Captured(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/integration-tests/fixtures/spc_t/containers/app"
            )),
            baseline: &["seLinuxOptions"],
            restricted: &[
                "seLinuxOptions",
                "allowPrivilegeEscalation",
                "capabilities_restricted",
                "runAsNonRoot",
                "seccompProfile_restricted",
                "readOnlyRootFilesystem",
            ],
            fix: "\
spec:
  containers:
  - name: app
    securityContext:
      seLinuxOptions: {type: container_t}   # or leave it out
      # and the rest as in 7",
            fixed: None,
        },
        Story {
            title: "7  the security context that restricted asks for, and a read-only root",
            container: Container::Live(Pod { volumes: tmp(), ..Pod::compliant() }),
            baseline: &[],
            restricted: &[],
            fix: FINAL,
            fixed: None,
        },
    ]
}

/// What a manifest without a security context violates at restricted.
const UNSET: &[&str] = &[
    "allowPrivilegeEscalation",
    "capabilities_restricted",
    "runAsNonRoot",
    "seccompProfile_restricted",
    "readOnlyRootFilesystem",
];

const FINAL: &str = "\
spec:
  securityContext:
    seccompProfile: {type: RuntimeDefault}
  containers:
  - securityContext:
      runAsNonRoot: true
      runAsUser: 1000
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities: {drop: [\"ALL\"]}
    volumeMounts:
    - {name: tmp, mountPath: /tmp}
  volumes:
  - {name: tmp, emptyDir: {}}";

/// Plays a story at every level and in both modes, and prints its rows. True if all went as it should.
fn tell(node: &RuntimeNode, story: &Story) -> bool {
    println!("{}", story.title);
    println!("   {:<12}{:<20}as the runtime", "", "as a hook");
    println!("   {:<12}{:<10}{:<10}{:<10}{:<10}why", "level", "audit", "enforce", "audit", "enforce");
    let mut right = true;
    for (level, expected) in
        [("privileged", &[][..]), ("baseline", story.baseline), ("restricted", story.restricted)]
    {
        // Files are judged, not started: `check` always answers as enforce mode would.
        let live = matches!(story.container, Container::Live(_));
        let ways: Vec<[Outcome; 2]> = [Gate::Hook, Gate::Wrapper]
            .into_iter()
            .map(|gate| {
                ["audit", "enforce"].map(|mode| play(node, &story.container, gate, &policy(mode, level, "")))
            })
            .collect();
        let as_expected = ways.iter().all(|[audit, enforce]| {
            (audit.started || !live) && enforce.started == expected.is_empty() && enforce.why == expected
        });
        let mark = if as_expected { "" } else { "   <- WRONG" };
        let words = ways.iter().map(|[audit, enforce]| {
            let [audit, enforce] = match (live, enforce.started) {
                (true, _) => [audit.word(), enforce.word()],
                (false, true) => ["-", "allow"],
                (false, false) => ["-", "DENY"],
            };
            format!("{audit:<10}{enforce:<10}")
        });
        let words: String = words.collect();
        let mut why = wrap(&ways[0][1].why, 60);
        let first = why.next().unwrap_or_default();
        println!("   {level:<12}{words}{first}{mark}");
        why.for_each(|line| println!("   {:<52}{line}", ""));
        if !as_expected {
            println!("   expected: {expected:?}");
            ways.iter().flatten().for_each(|outcome| println!("{}", outcome.all));
        }
        right &= as_expected;
    }
    story.fix.lines().for_each(|line| println!("   | {line}"));
    if let Some(fixed) = &story.fixed {
        let pod = Container::Live(fixed.pod.clone());
        for gate in [Gate::Hook, Gate::Wrapper] {
            let after = play(node, &pod, gate, &policy("enforce", fixed.level, fixed.policy));
            if gate == Gate::Hook || !after.started {
                println!("   with that, enforced at {}: {}", fixed.level, after.word());
            }
            if !after.started {
                println!("{}", after.all);
            }
            right &= after.started;
        }
    }
    println!();
    right
}

fn policy(mode: &str, level: &str, rest: &str) -> String {
    format!(
        "mode = \"{mode}\"\n[defaults]\nenforce = \"{level}\"\naudit = \"privileged\"\nwarn = \"privileged\"\n{rest}"
    )
}

/// What came of one start.
struct Outcome {
    started: bool,
    why: Vec<String>,
    all: String,
}

impl Outcome {
    fn word(&self) -> &'static str {
        if self.started { "started" } else { "REFUSED" }
    }
}

fn play(node: &RuntimeNode, container: &Container, gate: Gate, policy: &str) -> Outcome {
    node.write_policy(policy);
    match container {
        Container::Live(pod) => {
            let attempt = node.sandbox(pod).start(gate);
            let why = if attempt.ran { Vec::new() } else { violated(&attempt) };
            Outcome { started: attempt.ran, why, all: attempt.to_string() }
        }
        Container::Captured(path) => {
            let mut check = Command::new(program::binary());
            check.args(["check", "--format", "json", "--policy"]).arg(node.policy_path()).arg(path);
            let done = run::run(&mut check);
            let why = if done.code == Some(1) { violations(&done.stdout) } else { Vec::new() };
            Outcome { started: done.code == Some(0), why, all: done.to_string() }
        }
    }
}

/// The controls that an attempt's event names.
fn violated(attempt: &Attempt) -> Vec<String> {
    let controls =
        attempt.events.first().and_then(|event| event["PSS_CONTROLS"].as_str()).unwrap_or_default();
    controls.split(',').filter(|id| !id.is_empty()).map(str::to_owned).collect()
}

/// The controls that `check` says are violated.
fn violations(json: &str) -> Vec<String> {
    let verdict: Value = serde_json::from_str(json).unwrap_or_default();
    let findings = verdict["findings"].as_array().cloned().unwrap_or_default();
    let proven = findings.iter().filter(|finding| finding["certainty"] == "violates");
    proven.filter_map(|finding| finding["control"].as_str().map(str::to_owned)).collect()
}

/// One refusal as it is seen on a node: what runc prints, which the kubelet repeats in `kubectl describe pod`, and
/// the event.
fn show_refusal(node: &RuntimeNode) -> bool {
    let pod = Pod { name: "api-0", container: "api", ..Pod::bare() };
    let journal = Journal::can_open().then(Journal::open);
    if journal.is_some() {
        Journal::lead_to(&node.root());
    }
    node.write_policy(&policy("enforce", "restricted", ""));
    let attempt = node.sandbox(&pod).start(Gate::Hook);
    println!(
        "What runc prints when story 1 is refused at restricted; `kubectl describe pod` shows the same:\n"
    );
    println!("{}", attempt.created.stderr.trim_end());
    let wrapped = node.sandbox(&pod).start(Gate::Wrapper);
    println!("\nAnd with the gate as the runtime:\n\n{}", wrapped.created.stderr.trim_end());
    let event: Vec<String> = if journal.is_some() {
        println!("\nWhat the journal says of it (journalctl --catalog), and the event's own fields:\n");
        let id = format!("PSS_CONTAINER_ID={}", attempt.id);
        let events = Journal::events(&[&id]);
        println!("{}", Journal::explained(&[&id]));
        let fields = events.iter().flat_map(|event| event.as_object().into_iter().flatten());
        let ours = fields.filter(|(name, _)| name.starts_with("PSS_") || *name == "MESSAGE_ID");
        ours.map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default())).collect()
    } else {
        println!(
            "\nThere is no systemd-journald here, so the event went to {}:\n",
            node.decisions().display()
        );
        attempt.events.iter().map(ToString::to_string).collect()
    };
    let event = event.join("\n");
    println!("{event}\n");
    !attempt.ran && !wrapped.ran && event.contains("PSS_CONTROLS")
}

/// Words in lines of at most `width` characters; at least one line.
fn wrap(words: &[String], width: usize) -> impl Iterator<Item = String> + use<> {
    let mut lines = vec![String::new()];
    for word in words {
        let line = lines.last_mut().expect("at least one line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.len() + 2 + word.len() <= width {
            line.push_str(", ");
            line.push_str(word);
        } else {
            line.push(',');
            lines.push(word.clone());
        }
    }
    lines.into_iter()
}
