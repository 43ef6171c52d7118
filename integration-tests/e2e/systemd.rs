//! Do the units work where they are meant to: under a systemd that is the first process, shut in as they are?

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pss_guard::event::Kind;
use tempfile::TempDir;

use crate::support::metrics::numbers;
use crate::support::run::{self, Done, feed};
use crate::support::units::{FOLDER, GATE, TOOL, UNITS};
use crate::support::{files, needs, program};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/integration-tests/e2e/systemd.sh");

/// What it starts.
const TARGET: &str = "[Unit]\nWants=systemd-journald.service\nRequires=pss-guard-textfile.timer pss-guard-scan.timer\n\
                      After=pss-guard-textfile.timer pss-guard-scan.timer\n";

/// Where node_exporter reads.
const TEXTFILES: &str = "/var/lib/prometheus/node-exporter";

/// The unit that runs the agent, and what it starts.
const AGENT_UNIT: &str = "pss-guard-agent.service";
const AGENT: &str = "/opt/bin/pss-guard-agent";

/// The unit that scans, with another program in it: where do these lead?
const LOOK: &str = "\n[Service]\nExecStart=\nExecStart=stat -L -c %%n:%%d:%%i / /tmp/root /tmp/x /var/tmp/x /dev/x\n\
                    StandardOutput=journal\nSyslogIdentifier=look\n";

/// A cluster with one namespace, as `--raw` prints it, if this is asked as the unit does.
const KUBECTL: &str = r#"#!/bin/sh
[ "$KUBECONFIG $*" = '/etc/kubernetes/kubelet.conf get --request-timeout=20s --raw /api/v1/namespaces' ] || exit 3
cat /etc/answer || exit
"#;

/// A systemd, its units and ours.
struct Systemd {
    outer: Child,
    /// It, as it is called outside.
    pid: String,
    group: PathBuf,
    dir: TempDir,
}

impl Systemd {
    fn can_run(test: &str) -> bool {
        let programs = ["unshare", "nsenter", "pivot_root", "ip", "systemctl", "journalctl"];
        let has = |path: &str| Path::new(path).exists();
        needs::can_run(test, &programs)
            && (has("/lib/systemd/systemd") || needs::skip(test, "/lib/systemd/systemd"))
            && (has("/sys/fs/cgroup/systemd") || needs::skip(test, "systemd's control groups of version 1"))
    }

    /// Removes the units that are there for the other tests, and says how the tool installs its own for podman.
    fn installer<'t>(&self, tool: &'t str) -> [&'t str; 6] {
        let units = "rm /etc/systemd/system/pss-guard-*.service /etc/systemd/system/pss-guard-*.timer";
        self.run(&["sh", "-c", units]);
        [tool, "install", "--engine", "podman", "--method", "runtime"]
    }

    fn up() -> Self {
        Self::up_with(&[])
    }

    /// With more programs: where each lies there, and where it is taken from.
    fn up_with(more: &[(&str, PathBuf)]) -> Self {
        let dir =
            tempfile::Builder::new().prefix("pss-guard-systemd-").tempdir().expect("a temporary directory");
        let files = |path: &str| dir.path().join("files").join(path);
        files::write(&files("etc/pss-guard/policy.toml"), "mode = \"enforce\"\n");
        files::write(&files("etc/systemd/system/pss-guard-test.target"), TARGET);
        for unit in UNITS {
            let text = run::read(&Path::new(FOLDER).join(unit));
            files::write(&files(&format!("etc/systemd/system/{unit}")), &text);
        }
        // `ProtectSystem=strict` means it, but in this machine /run stays writable.
        let read_only = "[Service]\nReadOnlyPaths=/run\n";
        // A test asks more often than a timer.
        let often = format!("[Unit]\nStartLimitIntervalSec=0\n\n{read_only}");
        files::write(&files("etc/systemd/system/pss-guard-textfile.service.d/run.conf"), &often);
        // `/usr` is the machine's own, and its program cannot be put there. There are no static pods.
        let agent = format!(
            "{read_only}Environment=OPTIONS=\nExecStart=\nExecStart={AGENT} run --kubeconfig=${{KUBECONFIG}} $OPTIONS\n"
        );
        files::write(&files(&format!("etc/systemd/system/{AGENT_UNIT}.d/run.conf")), &agent);
        files::write(&files(&format!("{}/x.prom", &TEXTFILES[1..])), "");
        // What the API server answers; it fails as kubectl does.
        files::write(&files("opt/bin/kubectl"), KUBECTL);
        fs::set_permissions(files("opt/bin/kubectl"), fs::Permissions::from_mode(0o755))
            .expect("a file of ours");
        let path = "[Service]\nEnvironment=PATH=/opt/bin:/usr/bin:/bin\n";
        files::write(&files("etc/systemd/system/pss-guard-namespaces.service.d/path.conf"), path);
        let scan = run::read(&Path::new(FOLDER).join("pss-guard-scan.service"));
        files::write(&files("etc/systemd/system/look.service"), &(scan + LOOK));
        let more = more.iter().map(|(place, program)| (program.clone(), *place));
        for (program, place) in [(program::binary(), TOOL), (program::gate(), GATE)].into_iter().chain(more) {
            files::write(&files(place), "");
            fs::copy(program, files(place)).expect("a copy of the program under test");
            fs::set_permissions(files(place), fs::Permissions::from_mode(0o755)).expect("a file of ours");
        }
        let name = dir.path().file_name().expect("a name").to_string_lossy().into_owned();
        let log = fs::File::create(dir.path().join("log")).expect("a file in a fresh directory");
        let mut up = Command::new(SCRIPT);
        up.arg("up").arg(dir.path()).arg(&name).stdin(Stdio::null());
        up.stdout(log.try_clone().expect("a second handle")).stderr(log);
        let outer = up.spawn().expect("a script of ours");
        let group = Path::new("/sys/fs/cgroup/systemd").join(name);
        let mut systemd = Self { outer, pid: String::new(), group, dir };
        // The child of `unshare`, once it has become systemd.
        let children = format!("/proc/{0}/task/{0}/children", systemd.outer.id());
        let is_up = run::within(Duration::from_secs(30), || {
            run::read(children.as_ref()).trim().clone_into(&mut systemd.pid);
            let program = run::read(format!("/proc/{}/comm", systemd.pid).as_ref());
            program == "systemd\n"
                && systemd.run(&["systemctl", "is-active", "pss-guard-test.target"]).code == Some(0)
        });
        assert!(is_up, "systemd does not come up\n{}", run::read(&systemd.dir.path().join("log")));
        systemd
    }

    fn command(&self, line: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args([
            "--target", &self.pid, "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--wdns=/",
        ]);
        command.args(line);
        command
    }

    fn run(&self, line: &[&str]) -> Done {
        run::run(&mut self.command(line))
    }

    /// A container that cannot be judged, this many times.
    fn fault(&self, times: usize) {
        let state = r#"{"ociVersion":"1.0.2","id":"x","status":"creating","pid":0,"bundle":"/nowhere"}"#;
        for _ in 0..times {
            let done = feed(
                &mut self.command(&[&format!("/{GATE}"), "hook", "--engine", "containerd"]),
                state.as_bytes(),
            );
            assert_eq!(done.status.code(), Some(2), "{done:?}");
        }
    }

    /// What node_exporter reads, as it is now.
    fn scrape(&self) -> String {
        let file = format!("{TEXTFILES}/pss-guard.prom");
        self.run(&["systemctl", "start", "pss-guard-textfile.service"]);
        let done = self.run(&["cat", &file]);
        let said = || self.run(&["journalctl", "--no-pager", "-n", "30"]).stdout;
        assert!(done.code == Some(0), "{done}\n{}", said());
        self.run(&["rm", &file]).expect_success();
        done.stdout
    }

    fn is(&self, sample: &str, expected: f64) {
        let found = || numbers(&self.scrape()).get(sample).copied();
        assert!(
            run::eventually(|| found() == Some(expected)),
            "{sample} should be {expected}: {:?}",
            found()
        );
    }

    /// What the journal has, one message a line.
    fn said(&self, of: &[&str]) -> String {
        self.run(&[&["journalctl", "--no-pager", "--quiet", "--output=cat"], of].concat()).stdout
    }

    /// What a shell says in the place of a unit's program, shut in as that is.
    fn in_place_of(&self, unit: &str, script: &str) -> String {
        let text = run::read(&Path::new(FOLDER).join(unit));
        // Its folder of drop-ins has another name.
        let more = "[Service]\nType=oneshot\nRestart=no\nExecStartPre=\nExecStart=\nReadOnlyPaths=/run\nStandardOutput=journal\n\
                    StandardError=journal\nLogLevelMax=debug\nSyslogIdentifier=inside\n";
        let text = format!("{text}\n{more}ExecStart=/bin/sh -c '{script}; echo done'\n");
        self.run(&["sh", "-c", "echo \"$0\" >/etc/systemd/system/inside.service", &text]).expect_success();
        self.run(&["systemctl", "daemon-reload"]).expect_success();
        let since = self.said(&["-t", "inside"]).lines().count();
        self.run(&["systemctl", "start", "inside.service"]);
        let said = || self.said(&["-t", "inside"]).lines().skip(since).collect::<Vec<_>>().join("\n");
        assert!(
            run::eventually(|| said().ends_with("done")),
            "{}{}",
            said(),
            self.said(&["-u", "inside.service"])
        );
        said()
    }

    fn show(&self, unit: &str, property: &str) -> String {
        self.run(&["systemctl", "show", "--value", "-p", property, unit]).stdout.trim().to_owned()
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        let _ = self.outer.kill();
        let _ = self.outer.wait();
        let swept = run::eventually(|| {
            run::run(
                Command::new("find")
                    .arg(&self.group)
                    .args(["-depth", "-type", "d", "-exec", "rmdir", "{}", "+"]),
            );
            !self.group.exists()
        });
        assert!(swept || std::thread::panicking(), "{} is left", self.group.display());
    }
}

#[test]
fn the_cluster_is_asked_shut_in_as_it_is() {
    if !Systemd::can_run("systemd::the_cluster_is_asked_shut_in_as_it_is") {
        return;
    }
    let systemd = Systemd::up();
    let service = "pss-guard-namespaces.service";
    let import = || {
        systemd.run(&["systemctl", "start", service]);
        systemd.show(service, "Result")
    };
    let level = |level: &str| {
        let labels = format!(r#"{{"pod-security.kubernetes.io/enforce":"{level}"}}"#);
        let list = format!(
            r#"{{"kind":"NamespaceList","metadata":{{}},"items":[{{"metadata":{{"name":"shop","labels":{labels}}}}}]}}"#
        );
        systemd.run(&["sh", "-c", "echo \"$0\" >/etc/answer", &list]).expect_success();
    };
    let holds = || {
        systemd.run(&[
            "cat",
            "/run/pss-guard/namespaces/shop.json",
            "/var/lib/pss-guard/namespaces/shop.json",
        ])
    };
    let said = || systemd.said(&["-u", service]);
    assert_eq!(import(), "exit-code", "nobody answers");
    assert!(run::eventually(|| said().contains("nothing was changed")), "{}", said());
    for name in ["baseline", "restricted"] {
        level(name);
        assert_eq!(import(), "success", "{}", said());
        assert_eq!(holds().expect_success().stdout.matches(name).count(), 2, "{}", holds());
        // In the format that the gate has just published.
        assert_eq!(holds().stdout.matches("{\"v\":1,").count(), 2, "{}", holds());
    }
    // What failed leaves what was, and every success is quiet.
    systemd.run(&["sh", "-c", "echo '{\"kind\":\"Namesp' >/etc/answer"]).expect_success();
    assert_eq!(import(), "exit-code");
    assert_eq!(holds().expect_success().stdout.matches("restricted").count(), 2);
    assert!(!said().contains("imported"), "{}", said());
    // The gate is in the same folder, and not its own to write.
    let shut = format!(
        "{}\n[Service]\nExecStart=\nExecStart=/bin/sh -c 'echo x >>/{TOOL}'\n",
        run::read(&Path::new(FOLDER).join(service))
    );
    systemd.run(&["sh", "-c", "echo \"$0\" >/etc/systemd/system/shut.service", &shut]).expect_success();
    systemd.run(&["systemctl", "daemon-reload"]).expect_success();
    systemd.run(&["systemctl", "start", "shut.service"]);
    assert_eq!(systemd.show("shut.service", "Result"), "exit-code");
}

#[test]
fn the_timers_work_shut_in_as_they_are() {
    if !Systemd::can_run("systemd::the_timers_work_shut_in_as_they_are") {
        return;
    }
    let systemd = Systemd::up();
    let service = "pss-guard-textfile.service";
    let faults = format!("pss_guard_decisions_total{{decision=\"{}\",mode=\"enforce\"}}", Kind::Fault.name());
    assert_eq!(systemd.show("pss-guard-textfile.timer", "ActiveState"), "active");
    systemd.fault(3);
    systemd.is(&faults, 3.0);
    for (sample, expected) in [
        ("pss_guard_counters_kept", 1.0),
        ("pss_guard_event_sources_unread", 0.0),
        ("pss_guard_policy_valid", 1.0),
        ("pss_guard_mode{mode=\"enforce\"}", 1.0),
    ] {
        systemd.is(sample, expected);
    }
    // It is shut in, and writes into another user's folder all the same.
    let owner = ["chown", "65534:65534", TEXTFILES];
    systemd.run(&owner).expect_success();
    systemd.run(&["chmod", "0755", TEXTFILES]).expect_success();
    systemd.is(&faults, 3.0);
    let status = systemd.in_place_of(service, "cat /proc/self/status");
    // CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH and CAP_SYS_PTRACE.
    for line in ["CapBnd:\t0000000000080006\n", "NoNewPrivs:\t1\n", "Seccomp:\t2\n"] {
        assert!(status.contains(line), "{line}{status}");
    }
    let elsewhere =
        systemd.in_place_of(service, "touch /etc/x /var/lib/pss-guard/x /var/lib/prometheus/x; true");
    assert_eq!(elsewhere.matches("Read-only file system").count(), 3, "{elsewhere}");
    // A break-glass ends, and is cleared away and written down by a scrape, once.
    let open = "/run/pss-guard/mode.json";
    systemd.run(&[&format!("/{TOOL}"), "mode", "audit", "--for", "1s", "--yes"]).expect_success();
    assert!(
        run::eventually(|| systemd.scrape().contains("pss_guard_mode{mode=\"enforce\"} 1\n")
            && systemd.run(&["test", "-e", open]).code == Some(1)),
        "{open} should be gone"
    );
    let ends =
        || systemd.said(&["-t", "pss-guard", "PSS_DECISION=mode-change"]).matches(" ended at ").count();
    assert!(run::eventually(|| ends() == 1), "{}", systemd.said(&["-t", "pss-guard"]));
    systemd.is("pss_guard_mode_changes_total", 2.0);
    // Killed at some moment, and started again.
    for more in 1..=3 {
        systemd.fault(1);
        systemd.run(&["systemctl", "start", "--no-block", service]).expect_success();
        systemd.run(&["systemctl", "kill", "--signal=KILL", service]);
        systemd.is(&faults, 3.0 + f64::from(more));
    }
    // The file is replaced once more, with a scan beside it.
    let scan = systemd.run(&["systemctl", "start", "pss-guard-scan.service"]);
    let said = || systemd.said(&["-u", "pss-guard-scan.service"]);
    assert!(scan.code == Some(0) && run::eventually(|| said().contains("Finished")), "{scan}\n{}", said());
    for level in ["own", "baseline", "restricted"] {
        systemd.is(&format!("pss_guard_scan_containers{{level=\"{level}\",verdict=\"deny\"}}"), 0.0);
    }
    assert_eq!(systemd.show("pss-guard-scan.timer", "ActiveState"), "active");
    // It looks things up where an engine finds them.
    systemd.run(&["mkdir", "-p", "/tmp/root", "/tmp/x", "/var/tmp/x", "/dev/x"]).expect_success();
    systemd.run(&["mount", "--bind", "/", "/tmp/root"]).expect_success();
    let by_hand = ["stat", "-L", "-c", "%n:%d:%i", "/", "/tmp/root", "/tmp/x", "/var/tmp/x", "/dev/x"];
    let by_hand = systemd.run(&by_hand).expect_success().stdout;
    systemd.run(&["systemctl", "start", "look.service"]);
    let saw = || systemd.said(&["-t", "look"]);
    assert!(run::eventually(|| saw() == by_hand), "{by_hand}{}", systemd.said(&["-u", "look.service"]));
    let complaints =
        systemd.run(&["journalctl", "--no-pager", "-t", "pss-guard-textfile", "-t", "pss-guard-scan"]);
    assert!(complaints.stdout.contains("-- No entries --"), "{complaints}");
    // A timer that leaves no numbers has failed.
    let scan = || {
        systemd.run(&["systemctl", "start", "pss-guard-scan.service"]);
        systemd.show("pss-guard-scan.service", "Result")
    };
    let policy = "/etc/pss-guard/policy.toml";
    let kept = "/var/lib/pss-guard/metrics/scan-own.json";
    // Where the policy cannot be used, and no good one is kept either.
    let no_policy = "sed -i s/^mode/mood/ $0 && rm -f /var/lib/pss-guard/policy.toml";
    for (about, break_it, mend_it) in [
        (policy, vec!["sh", "-c", no_policy, policy], vec!["sed", "-i", "s/^mood/mode/", policy]),
        (kept, vec!["sh", "-c", "rm $0 && mkdir $0", kept], vec!["rmdir", kept]),
    ] {
        systemd.run(&break_it).expect_success();
        assert_eq!(scan(), "exit-code", "{break_it:?}");
        let complaints = || systemd.said(&["-t", "pss-guard-scan"]);
        assert!(run::eventually(|| complaints().contains(about)), "{about}: {}", complaints());
        systemd.run(&mend_it).expect_success();
        assert_eq!(scan(), "success", "{mend_it:?}");
    }
}

#[test]
fn the_agent_of_the_host_writes_four_folders_and_nothing_else() {
    if !Systemd::can_run("systemd::the_agent_of_the_host_writes_four_folders_and_nothing_else") {
        return;
    }
    let systemd = Systemd::up_with(&[(&AGENT[1..], program::agent())]);
    let report = "/run/pss-guard/agent/agent.json";
    let agent_says = || systemd.run(&["cat", report]).stdout;
    let journal = || systemd.said(&["-u", AGENT_UNIT]);
    // There is no API server, no kubeconfig and no network: nothing waits for it, and it goes on trying.
    systemd.run(&["systemctl", "enable", "--now", AGENT_UNIT]).expect_success();
    assert_eq!(systemd.show(AGENT_UNIT, "ActiveState"), "active", "{}", journal());
    assert!(run::eventually(|| agent_says().contains("\"synced\":false")), "{}", journal());
    assert!(run::eventually(|| journal().contains("/etc/kubernetes/kubelet.conf")), "{}", journal());
    assert_eq!(systemd.show(AGENT_UNIT, "NRestarts"), "0", "{}", journal());
    let status =
        systemd.run(&["cat", &format!("/proc/{}/status", systemd.show(AGENT_UNIT, "MainPID"))]).stdout;
    for line in
        ["CapBnd:\t0000000000000000\n", "CapEff:\t0000000000000000\n", "NoNewPrivs:\t1\n", "Seccomp:\t2\n"]
    {
        assert!(status.contains(line), "{line}{status}");
    }
    // What the gate reads was published for it, from outside of what it can write.
    systemd.run(&["test", "-s", "/run/pss-guard/gate/formats"]).expect_success();

    // Everything that it may write, and nothing beside that.
    let folders = ["namespaces", "pods", "static", "agent"];
    let may =
        ["run", "var/lib"].map(|above| folders.map(|folder| format!("/{above}/pss-guard/{folder}"))).concat();
    let may_not = [
        "/run/pss-guard",
        "/run/pss-guard/events",
        "/run/pss-guard/gate",
        "/var/lib/pss-guard",
        "/var/lib/pss-guard/bin",
        "/run",
        "/etc",
        "/etc/pss-guard",
        "/usr",
        "/var/log",
        "/var/lib",
    ];
    let script = |folders: &[&str]| {
        let touch = |folder: &&str| {
            format!("touch {folder}/x 2>/dev/null && echo wrote {folder}; rm -f {folder}/x; ")
        };
        folders.iter().map(touch).collect::<Vec<_>>().concat() + "true"
    };
    systemd.run(&["mkdir", "-p", "/var/lib/pss-guard/bin"]).expect_success();
    let may: Vec<&str> = may.iter().map(String::as_str).collect();
    let wrote = systemd.in_place_of(AGENT_UNIT, &script(&[&may[..], &may_not].concat()));
    let expected: Vec<String> = may.iter().map(|folder| format!("wrote {folder}")).collect();
    assert_eq!(
        wrote.lines().filter(|line| line.starts_with("wrote")).collect::<Vec<_>>(),
        expected,
        "{wrote}"
    );
    let spool = systemd.run(&["stat", "-c", "%U %a", "/run/pss-guard/events"]).stdout;
    assert_eq!(spool, "root 755\n");

    // Where it reports, the timer's import does nothing; where its report is gone, it does again.
    let labels = r#"{"kind":"NamespaceList","metadata":{},"items":[{"metadata":{"name":"shop"}}]}"#;
    systemd.run(&["sh", "-c", "echo \"$0\" >/etc/answer", labels]).expect_success();
    let imports = || {
        systemd.run(&["systemctl", "start", "pss-guard-namespaces.service"]);
        systemd.run(&["test", "-e", "/run/pss-guard/namespaces/shop.json"]).code == Some(0)
    };
    assert!(!imports(), "{}", agent_says());
    // It is killed, and comes back; it is stopped, and what it wrote stays.
    let pid = systemd.show(AGENT_UNIT, "MainPID");
    systemd.run(&["kill", "-KILL", &pid]).expect_success();
    let is_back = || !["0", &*pid].contains(&&*systemd.show(AGENT_UNIT, "MainPID"));
    assert!(run::within(Duration::from_secs(30), is_back), "{}", journal());
    systemd.run(&["systemctl", "stop", AGENT_UNIT]).expect_success();
    assert!(agent_says().contains("\"contact\":0") && !imports(), "{}", agent_says());
    systemd.run(&["rm", report]).expect_success();
    assert!(imports(), "{}", systemd.said(&["-u", "pss-guard-namespaces.service"]));
}

/// An upgrade replaces the gate and then restarts the agent, whose program came with the same package. One that the admin has
/// stopped stays so.
#[test]
fn an_agent_that_runs_is_restarted_at_an_upgrade() {
    let test = "systemd::an_agent_that_runs_is_restarted_at_an_upgrade";
    if !Systemd::can_run(test) || !needs::can_run(test, &["podman"]) {
        return;
    }
    let systemd = Systemd::up_with(&[(&AGENT[1..], program::agent())]);
    let tool = format!("/{TOOL}");
    let install = systemd.installer(&tool);
    systemd.run(&install).expect_success();
    let upgrade = || {
        let done = systemd.run(&[&tool, "install", "--programs"]).expect_success();
        assert!(!done.stdout.contains("not done: systemctl"), "{done}");
        done
    };
    let pid = || systemd.show(AGENT_UNIT, "MainPID");
    // Enabled, and started by hand.
    for start in [&["enable", "--now"][..], &["start"]] {
        systemd.run(&[&["systemctl"], start, &[AGENT_UNIT]].concat()).expect_success();
        let before = pid();
        assert_ne!(before, "0", "{}", systemd.said(&["-u", AGENT_UNIT]));
        let done = upgrade();
        let is_new = || !["0", &*before].contains(&&*pid());
        assert!(run::within(Duration::from_secs(30), is_new), "{start:?}: {done}");
        assert_eq!(systemd.show(AGENT_UNIT, "ActiveState"), "active", "{start:?}: {done}");
        systemd.run(&["systemctl", "stop", AGENT_UNIT]).expect_success();
        upgrade();
        // A job that was only queued would be there by now.
        systemd.run(&["systemctl", "start", "systemd-journald.service"]).expect_success();
        assert_eq!(
            (pid(), systemd.show(AGENT_UNIT, "ActiveState")),
            ("0".into(), "inactive".into()),
            "{start:?}"
        );
        systemd.run(&["systemctl", "disable", "--quiet", AGENT_UNIT]).expect_success();
    }
}

/// The socket of version 0.1, and what it started.
const SOCKET: &str = "[Socket]\nListenStream=127.0.0.1:9749\n\n[Install]\nWantedBy=sockets.target\n";
const EXPORTER: &str = "[Service]\nExecStart=/bin/sleep 1000\n";

#[test]
fn the_exporter_of_an_older_version_goes_at_an_upgrade() {
    let test = "systemd::the_exporter_of_an_older_version_goes_at_an_upgrade";
    if !Systemd::can_run(test) || !needs::can_run(test, &["podman"]) {
        return;
    }
    let systemd = Systemd::up();
    let tool = format!("/{TOOL}");
    // `/usr` is read-only there, so the manual is not written.
    let install = systemd.installer(&tool);
    let manifest = "/var/lib/pss-guard/install/systemd/manifest.json";
    for upgrade in [&install[..], &[&tool, "install", "--programs"], &[&tool, "uninstall"]] {
        systemd.run(&install).expect_success();
        let write = "printf \"$1\" >/etc/systemd/system/$0; printf \"$1\" >/var/lib/pss-guard/install/systemd/$2; \
                     sed -i 's|\"files\": \\[|&{\"path\":\"/etc/systemd/system/'$0'\",\"before\":null,\"after\":\"'$2'\"},|' $3";
        for (unit, text, copy) in [
            ("pss-guard-metrics.socket", SOCKET, "900.after"),
            ("pss-guard-metrics.service", EXPORTER, "901.after"),
        ] {
            systemd.run(&["sh", "-c", write, unit, text, copy, manifest]).expect_success();
        }
        systemd.run(&["systemctl", "daemon-reload"]).expect_success();
        systemd.run(&["systemctl", "enable", "--now", "pss-guard-metrics.socket"]).expect_success();
        // Somebody asks, so the service runs as well.
        systemd.run(&["systemctl", "start", "pss-guard-metrics.service"]).expect_success();
        let pid = systemd.show("pss-guard-metrics.service", "MainPID");
        let done = systemd.run(upgrade).expect_success();
        assert!(!done.stdout.contains("not done: systemctl"), "{done}");
        for unit in ["pss-guard-metrics.socket", "pss-guard-metrics.service"] {
            assert!(done.stdout.contains(&format!("removed /etc/systemd/system/{unit}\n")), "{done}");
            assert_eq!(systemd.show(unit, "LoadState"), "not-found", "{done}");
            assert_eq!(systemd.show(unit, "ActiveState"), "inactive", "{done}");
        }
        assert_eq!(systemd.run(&["test", "-e", &format!("/proc/{pid}")]).code, Some(1), "{done}");
        let failed = systemd.run(&["systemctl", "--failed", "--no-legend", "--plain"]).stdout;
        assert!(!failed.contains("pss-guard-metrics"), "{failed}");
    }
}

/// A node's containerd, from a folder of its own.
const CONTAINERD: &str = "[Service]\nType=notify\nDelegate=yes\nKillMode=process\n\
                          ExecStart=/opt/bin/containerd\n\n[Install]\nWantedBy=multi-user.target\n";

/// Its configuration, as a distribution writes it. None of its other plugins can work in this machine.
const CONFIG: &str = "version = 3\n\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]\n\
                      runtime_type = 'io.containerd.runc.v2'\n";

#[test]
fn the_gate_is_put_back_when_the_configuration_is_written_again() {
    let test = "systemd::the_gate_is_put_back_when_the_configuration_is_written_again";
    let part = "containerd-2/containerd";
    if !Systemd::can_run(test) || !(needs::part(part).exists() || needs::skip(test, part)) {
        return;
    }
    let systemd = Systemd::up_with(&[("opt/bin/containerd", needs::part(part))]);
    let config = "/etc/containerd/config.toml";
    let write = |path: &str, text: &str| {
        systemd.run(&["sh", "-c", "mkdir -p ${0%/*} && echo \"$1\" >$0", path, text]).expect_success();
    };
    write(config, CONFIG);
    write("/etc/systemd/system/containerd.service", CONTAINERD);
    systemd.run(&["systemctl", "daemon-reload"]).expect_success();
    systemd.run(&["systemctl", "start", "containerd.service"]).expect_success();
    let tool = format!("/{TOOL}");
    let install = [&tool, "install", "--engine", "containerd", "--restart", "--no-probe", "--persist"];
    let said = systemd.run(&install).expect_success();
    let is_gated = || {
        systemd
            .run(&["cat", config])
            .stdout
            .contains("BinaryName = \"/var/lib/pss-guard/runtimes/containerd/runc/")
    };
    assert!(is_gated(), "{said}");
    for unit in ["pss-guard-install.path", "pss-guard-install.service"] {
        systemd.run(&["systemctl", "is-enabled", unit]).expect_success();
    }
    assert_eq!(systemd.show("pss-guard-install.path", "ActiveState"), "active", "{said}");

    // Twice: what is put back is watched as well.
    for times in 1..=2 {
        let before = systemd.show("containerd.service", "MainPID");
        write(config, CONFIG);
        let journal = || systemd.said(&["-t", "pss-guard", "PSS_DECISION=restored"]);
        let all = || systemd.run(&["journalctl", "--no-pager", "-n", "40"]).stdout;
        let is_back = run::within(Duration::from_secs(60), || {
            is_gated()
                && journal().lines().count() == times
                && before != systemd.show("containerd.service", "MainPID")
        });
        assert!(is_back, "{times}: {}\n{}", journal(), all());
        assert!(journal().contains("may have started containers without the gate from"), "{}", journal());
        assert_eq!(systemd.show("containerd.service", "ActiveState"), "active");
        let is_done = || systemd.show("pss-guard-install.service", "ActiveState") == "inactive";
        assert!(run::eventually(is_done), "{}", all());
        assert_eq!(systemd.show("pss-guard-install.service", "Result"), "success", "{}", all());
    }
    systemd.run(&[&tool, "uninstall", "--restart"]).expect_success();
    assert_eq!(systemd.run(&["cat", config]).stdout, format!("{CONFIG}\n"));
    assert_ne!(systemd.show("pss-guard-install.path", "ActiveState"), "active");
}
