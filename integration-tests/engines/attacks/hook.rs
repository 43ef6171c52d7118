//! What hostile containers, their authors and broken nodes do to the hook, as a runtime would call it.

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::root::Root;
use crate::support::{program, run};

/// Complies with restricted.
const GOOD: &str = r#"{"process":{"user":{"uid":1000},"noNewPrivileges":true,"capabilities":{}},
"root":{"path":"rootfs","readonly":true},"mounts":[{"destination":"/proc","type":"proc","source":"proc"}],
"linux":{"namespaces":[{"type":"pid"},{"type":"ipc"},{"type":"network"}],"seccomp":{"defaultAction":"SCMP_ACT_ERRNO"},
"maskedPaths":["/proc/acpi","/proc/kcore","/proc/keys","/proc/latency_stats","/proc/timer_list","/proc/timer_stats",
"/proc/sched_debug","/proc/scsi","/sys/firmware"],
"readonlyPaths":["/proc/bus","/proc/fs","/proc/irq","/proc/sys","/proc/sysrq-trigger"],
"cgroupsPath":"/libpod_parent/libpod-1"}}"#;

const ENFORCE: &str = "mode = \"enforce\"\n[unmanaged]\nenforce = \"restricted\"\n";
const AUDIT: &str = "mode = \"audit\"\n[unmanaged]\nenforce = \"restricted\"\n";

/// A node without journald, so that events are in the file beside it, and one container.
struct Bundle {
    root: Root,
}

impl Bundle {
    fn new(policy: &str, config: &str) -> Self {
        let root = Root::new();
        root.policy(policy);
        root.file("bundle/config.json", config);
        Self { root }
    }

    /// A shell that becomes the hook: `$HOOK` is its command line, standard input the state.
    fn shell(&self, script: &str) -> Output {
        let root = self.root.root().display().to_string();
        let hook = format!("{} hook --engine cri-o --root {root}", program::gate().display());
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).env("HOOK", hook);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let state = format!(r#"{{"ociVersion":"1.0.2","id":"x","pid":0,"bundle":"{root}/bundle"}}"#);
        // A hook whose standard input is closed does not read it.
        let _ = child.stdin.take().unwrap().write_all(state.as_bytes());
        child.wait_with_output().unwrap()
    }

    fn hook(&self) -> (i32, String) {
        let output = self.shell("exec $HOOK");
        (output.status.code().unwrap_or(-1), String::from_utf8(output.stderr).unwrap())
    }

    /// The lines of the events, whatever they are.
    fn events(&self) -> String {
        run::read(&self.root.decisions())
    }
}

#[test]
fn what_runtimes_read_differently_does_not_start() {
    let with = |from: &str, to: &str| {
        assert!(GOOD.contains(from), "{from}");
        GOOD.replacen(from, to, 1)
    };
    let (unjudged, root) = (2, 27);
    let rows = [
        (GOOD.to_owned(), 0),
        (with("\"uid\":1000", "\"uid\":0"), root),
        // crun starts it as root.
        (with("\"uid\":1000", "\"uid\":4294967295"), root),
        (with("\"uid\":1000", "\"uid\":\"0\""), unjudged),
        (with("\"uid\":1000", "\"uid\":null,\"uid\":1000"), unjudged),
        (with("\"user\":", "\"user\":null,\"user\":"), unjudged),
        (with("\"noNewPrivileges\":", "\"noNewPrivileges\":null,\"noNewPrivileges\":"), unjudged),
        (with("\"noNewPrivileges\":", "\"NoNewPrivileges\":false,\"noNewPrivileges\":"), unjudged),
        (format!("{GOOD} {{}}"), unjudged),
        (format!("\u{feff}{GOOD}"), unjudged),
    ];
    for (config, expected) in rows {
        let (code, stderr) = Bundle::new(ENFORCE, &config).hook();
        assert_eq!(code, expected, "{config}\n{stderr}");
    }
}

#[test]
fn a_podman_container_that_says_it_is_cri_os_is_held_to_its_own_level() {
    let forged = r#"{"annotations":{"io.container.manager":"cri-o","io.kubernetes.cri-o.ContainerType":"container",
        "io.kubernetes.pod.namespace":"kube-system"},"process":{"user":{"uid":0},"#;
    let bad = GOOD.replacen("{\"process\":{\"user\":{\"uid\":1000},", forged, 1);
    let (code, stderr) = Bundle::new(ENFORCE, &bad).hook();
    assert_eq!(code, 27, "{stderr}");
    // The same of CRI-O: kube-system is exempt.
    let real = bad.replacen("/libpod_parent/libpod-1", "/crio/crio-1", 1);
    let (code, stderr) = Bundle::new(ENFORCE, &real).hook();
    assert_eq!(code, 0, "{stderr}");
}

#[test]
fn a_limit_on_the_size_of_files_does_not_kill_the_gate() {
    let bad = GOOD.replacen("\"uid\":1000", "\"uid\":0", 1);
    for (policy, expected) in [(AUDIT, 0), (ENFORCE, 27)] {
        let output = Bundle::new(policy, &bad).shell("ulimit -f 0; exec $HOOK");
        assert_eq!(output.status.code(), Some(expected), "{:?}", output.status);
    }
}

#[test]
fn closed_standard_streams_decide_nothing_else() {
    for (policy, expected) in [(AUDIT, 0), (ENFORCE, 2)] {
        let node = Bundle::new(policy, GOOD);
        assert_eq!(node.shell("exec $HOOK <&- >&- 2>&-").status.code(), Some(expected));
        // No file of ours took the place of a closed stream, so that a message went into it.
        assert!(node.events().lines().all(|line| line.starts_with('{')), "{}", node.events());
        let bad = Bundle::new(policy, &GOOD.replacen("\"uid\":1000", "\"uid\":0", 1));
        let denied = if expected == 0 { 0 } else { 27 };
        assert_eq!(bad.shell("exec $HOOK >&- 2>&-").status.code(), Some(denied));
    }
}

#[test]
fn half_a_line_left_by_a_full_disk_costs_no_other_event() {
    let node = Bundle::new(ENFORCE, &GOOD.replacen("\"uid\":1000", "\"uid\":0", 1));
    node.root.file("var/log/pss-guard/decisions.jsonl", "{\"MESSAGE\":\"half a li");
    node.hook();
    let events = node.events();
    let whole: Vec<Value> = events.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert_eq!(whole.len(), events.lines().count() - 1, "{events}");
    assert!(whole.iter().any(|event| event["PSS_DECISION"] == "denied"), "{events}");
}

#[test]
fn a_huge_spec_is_refused_or_judged_in_time() {
    let mounts = |mount: &str, count: usize| {
        let all = vec![mount; count].join(",");
        GOOD.replacen(r#""mounts":["#, &format!(r#""mounts":[{all},"#), 1)
    };
    let names = (0..100_000).map(|n| format!("\"X{n}\"")).collect::<Vec<_>>().join(",");
    let sources = (0..50_000).map(|n| format!(r#"{{"destination":"/{n}","type":"bind","source":"/{n}"}}"#));
    let many = sources.collect::<Vec<_>>().join(",");
    let rows = [
        (mounts("{}", 4_000_000), 2),
        (GOOD.replacen("\"capabilities\":{}", &format!("\"capabilities\":{{\"ambient\":[{names}]}}"), 1), 24),
        (mounts(&many, 1), 26),
        (mounts(&format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)), 1), 2),
    ];
    for (config, expected) in rows {
        let node = Bundle::new(ENFORCE, &config);
        let started = Instant::now();
        let (code, stderr) = node.hook();
        let shown: String = stderr.chars().take(300).collect();
        assert_eq!(code, expected, "{shown}");
        assert!(stderr.len() <= 4200 && stderr.lines().count() == 1, "{} bytes", stderr.len());
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}: {shown}", started.elapsed());
    }
}
