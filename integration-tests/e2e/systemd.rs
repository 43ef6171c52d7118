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
const TARGET: &str = "[Unit]\nWants=systemd-journald.service\nRequires=pss-guard-metrics.socket pss-guard-scan.timer\n\
                      After=pss-guard-metrics.socket pss-guard-scan.timer\n";

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
        let programs = ["unshare", "nsenter", "pivot_root", "ip", "systemctl", "journalctl", "curl"];
        let has = |path: &str| Path::new(path).exists();
        needs::can_run(test, &programs)
            && (has("/lib/systemd/systemd") || needs::skip(test, "/lib/systemd/systemd"))
            && (has("/sys/fs/cgroup/systemd") || needs::skip(test, "systemd's control groups of version 1"))
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
        files::write(&files("etc/systemd/system/pss-guard-metrics.service.d/run.conf"), read_only);
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

    fn scrape(&self) -> String {
        let line = [
            "curl",
            "--silent",
            "--show-error",
            "--fail",
            "--max-time",
            "30",
            "http://127.0.0.1:9749/metrics",
        ];
        let done = self.run(&line);
        let said = || self.run(&["journalctl", "--no-pager", "-n", "30"]).stdout;
        assert!(done.code == Some(0), "{done}\n{}", said());
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
fn the_socket_and_the_timer_work_shut_in_as_they_are() {
    if !Systemd::can_run("systemd::the_socket_and_the_timer_work_shut_in_as_they_are") {
        return;
    }
    let systemd = Systemd::up();
    let service = "pss-guard-metrics.service";
    let faults = format!("pss_guard_decisions_total{{decision=\"{}\",mode=\"enforce\"}}", Kind::Fault.name());
    assert_eq!(systemd.show(service, "ActiveState"), "inactive", "nobody has asked yet");
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
    // It is shut in.
    let status = systemd.run(&["cat", &format!("/proc/{}/status", systemd.show(service, "MainPID"))]).stdout;
    // CAP_DAC_READ_SEARCH and CAP_SYS_PTRACE.
    for line in ["CapBnd:\t0000000000080004\n", "NoNewPrivs:\t1\n", "Seccomp:\t2\n"] {
        assert!(status.contains(line), "{line}{status}");
    }
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
    // Killed at some moment, and asked again.
    for more in 1..=3 {
        systemd.fault(1);
        systemd.run(&["systemctl", "kill", "--signal=KILL", service]).expect_success();
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
        systemd.run(&["journalctl", "--no-pager", "-t", "pss-guard-metrics", "-t", "pss-guard-scan"]);
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
