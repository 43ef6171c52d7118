//! What does an engine run on? A node in namespaces, on which every path is the one that a user's node has.
//!
//! It has processes, a network, control groups and a journald of its own, and its own view of `/etc`, `/opt`, `/run`,
//! `/usr` and `/var`. Nothing in it changes the machine below, and it is gone when the value is.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::run::{self, Done};
use crate::support::{files, needs, program, random};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/integration-tests/support/machine.sh");

/// A node that is up.
pub(crate) struct Machine {
    init: Child,
    /// Its first process, as it is called outside.
    pid: String,
    group: String,
    dir: TempDir,
}

impl Machine {
    /// Whether one can be had here; the names are of programs, or of parts that `scripts/node-parts` brings.
    pub(crate) fn can_run(test: &str, programs: &[&str], parts: &[&str]) -> bool {
        let mut missing: Vec<String> = parts
            .iter()
            .map(|name| needs::part(name))
            .filter(|path| !path.exists())
            .map(|path| path.display().to_string())
            .collect();
        if !Path::new("/proc/self/ns/cgroup").exists()
            || Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
        {
            missing.push("control groups of version 1".into());
        }
        let usual = ["unshare", "nsenter", "ip", "awk", "tar", "sha256sum", "busybox", "runc", "journalctl"];
        needs::can_run(test, &[&usual[..], programs].concat())
            && (missing.is_empty() || needs::skip(test, &missing.join(", ")))
    }

    pub(crate) fn up() -> Self {
        Self::up_on(None)
    }

    /// The same with the programs and files of another root file system, which stays as it is.
    pub(crate) fn up_on(root: Option<&Path>) -> Self {
        let dir =
            tempfile::Builder::new().prefix("pss-guard-live-").tempdir().expect("a temporary directory");
        let group = dir.path().file_name().expect("a name").to_string_lossy().into_owned();
        let log = fs::File::create(dir.path().join("init.log")).expect("a file in a fresh directory");
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", SCRIPT, "up"]).arg(dir.path()).arg(&group);
        if let Some(root) = root {
            unshare.arg(root).arg(needs::part(""));
        }
        unshare.stdin(Stdio::piped()).stdout(log.try_clone().expect("a second handle")).stderr(log);
        let mut init = unshare.spawn().expect("unshare is there");
        let ready = dir.path().join("pid");
        run::eventually(|| ready.exists() || !matches!(init.try_wait(), Ok(None)));
        let pid = run::read(&ready).trim().to_owned();
        let machine = Self { init, pid, group, dir };
        assert!(
            !machine.pid.is_empty(),
            "the machine does not come up\n{}",
            run::read(&machine.dir.path().join("init.log"))
        );
        machine.write("/etc/machine-id", &format!("{}\n", &random::id()[..32]));
        fs::create_dir_all(machine.path("/run/systemd/journal")).expect("journald's directory");
        fs::create_dir_all(machine.path("/run/log/journal")).expect("journald's directory");
        for (program, place) in
            [(program::binary(), "/opt/pss-guard"), (program::gate(), "/opt/pss-guard-gate")]
        {
            fs::copy(program, machine.path(place)).expect("a copy of the program under test");
        }
        machine
    }

    /// A file of the node's, as it is called outside.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.pid))
    }

    pub(crate) fn read(&self, inside: &str) -> String {
        run::read(&self.path(inside))
    }

    pub(crate) fn write(&self, inside: &str, text: &str) {
        files::write(&self.path(inside), text);
    }

    /// Puts a part where a package puts it.
    pub(crate) fn link(&self, name: &str, inside: &str) {
        let inside = self.path(inside);
        let _ = fs::remove_file(&inside);
        symlink(needs::part(name), inside).expect("a link to a part");
    }

    /// A command on the node, with what a login of root's has.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid, "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]);
        command.args(["--wdns=/", "sh", "-c"]);
        command.arg("for group in /sys/fs/cgroup/*/cgroup.procs; do echo 0 >$group; done; exec \"$@\"");
        command.args(["sh", program]);
        // The machine below has the same `/tmp`, and the same `/root`, whose files are somebody's.
        command.env_clear().env("HOME", "/run/machine").env("TMPDIR", "/run/machine");
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    /// Runs a command on the node.
    pub(crate) fn run(&self, line: &[&str]) -> Done {
        let (program, arguments) = line.split_first().expect("a command");
        run::run(self.command(program).args(arguments))
    }

    /// Starts a program that stays; what it says goes to a log of its name.
    pub(crate) fn start(&self, name: &str, line: &[&str]) -> Daemon {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log(name)).expect("a log");
        let pid_file = format!("/run/machine/{name}.pid");
        let mut command = self.command("sh");
        command.args(["-c", SUPERVISE, &pid_file]).args(line);
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a second handle")).stderr(log);
        let _ = fs::remove_file(self.path(&pid_file));
        let child = command.spawn().expect("nsenter is there");
        run::eventually(|| !self.read(&pid_file).is_empty());
        Daemon { child, pid_file }
    }

    /// Ends a program as systemd does: it is asked, and after a while it is killed. What it started goes on.
    pub(crate) fn stop(&self, mut daemon: Daemon) {
        let pid = self.read(&daemon.pid_file).trim().to_owned();
        self.run(&["kill", "-TERM", &pid]);
        let end = Instant::now() + Duration::from_secs(30);
        while matches!(daemon.child.try_wait(), Ok(None)) {
            if Instant::now() > end {
                self.run(&["kill", "-KILL", &pid]);
                let _ = daemon.child.wait();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends a signal to what was started by this name.
    pub(crate) fn signal(&self, name: &str, signal: &str) {
        let pid = self.read(&format!("/run/machine/{name}.pid")).trim().to_owned();
        self.run(&["kill", &format!("-{signal}"), &pid]).expect_success();
    }

    /// The same, and waits until it has ended.
    pub(crate) fn end(&self, name: &str, signal: &str) {
        let pid = self.read(&format!("/run/machine/{name}.pid")).trim().to_owned();
        self.signal(name, signal);
        let ended = run::within(Duration::from_secs(30), || self.run(&["kill", "-0", &pid]).code != Some(0));
        assert!(ended, "{name} does not end\n{}", self.said(name));
    }

    /// The last that a program said.
    pub(crate) fn said(&self, name: &str) -> String {
        let text = run::read(&self.log(name));
        let lines: Vec<&str> = text.lines().collect();
        let last = lines.get(lines.len().saturating_sub(25)..).unwrap_or_default();
        format!("--- {name} says:\n{}\n", last.join("\n"))
    }

    fn log(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.log"))
    }

    /// Lays a cable to another machine. At each end: the name of a network device, and its address.
    pub(crate) fn lay_cable(
        &self,
        [own, own_address]: [&str; 2],
        other: &Self,
        [its, its_address]: [&str; 2],
    ) {
        let ip = |machine: &Self, line: &str| {
            let mut command = Command::new("nsenter");
            command.args(["--target", &machine.pid, "--net", "ip"]).args(line.split(' '));
            run::run(&mut command).expect_success();
        };
        ip(self, &format!("link add {own} type veth peer name {its} netns {}", other.pid));
        for (machine, device, address) in [(self, own, own_address), (other, its, its_address)] {
            ip(machine, &format!("address add {address} dev {device}"));
            ip(machine, &format!("link set {device} up"));
        }
    }

    /// Starts the node's journald.
    pub(crate) fn start_journald(&self) -> Daemon {
        let daemon = self.start("journald", &["/lib/systemd/systemd-journald"]);
        let socket = self.path("/run/systemd/journal/socket");
        assert!(run::eventually(|| socket.exists()), "journald does not answer\n{}", self.said("journald"));
        daemon
    }

    /// The gate's events, oldest first, that a field tells apart.
    pub(crate) fn events(&self, field: &str, value: &str) -> Vec<Value> {
        let matched = format!("{field}={value}");
        let done =
            self.run(&["journalctl", "--no-pager", "--output=json", "--identifier=pss-guard", &matched]);
        done.stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Everything that an installation may change: each file with its bytes, mode and owner.
    pub(crate) fn snapshot(&self) -> Vec<String> {
        let tops = [
            "/etc",
            "/opt",
            "/usr/lib/systemd",
            "/usr/lib/tmpfiles.d",
            "/usr/local/sbin",
            "/usr/share/containers",
        ];
        let find = "find \"$@\" -path /etc/pss-guard -prune -o -printf '%p %y %m %u %g %l\\n' 2>/dev/null; \
                    find \"$@\" -path /etc/pss-guard -prune -o -type f -exec sha256sum {} + 2>/dev/null";
        let mut list = self.command("sh");
        let done = run::run(list.args(["-c", find, "sh", "/var/lib/pss-guard"]).args(tops));
        let mut lines: Vec<String> = done.stdout.lines().map(str::to_owned).collect();
        lines.sort();
        assert!(lines.len() > 100, "this machine has files\n{done}");
        lines
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The end of its standard input is the end of the machine.
        drop(self.init.stdin.take());
        let _ = self.init.wait();
        let swept = run::eventually(|| {
            let mut sweep = Command::new("unshare");
            sweep.args(["--mount", SCRIPT, "sweep"]).arg(self.dir.path()).arg(&self.group);
            run::run(&mut sweep).code == Some(0)
        });
        assert!(swept || std::thread::panicking(), "control groups of {} are left", self.group);
    }
}

/// Every file that is not as it was.
pub(crate) fn changed(before: &[String], after: &[String]) -> Vec<String> {
    let gone = before.iter().filter(|line| !after.contains(line)).map(|line| format!("was: {line}"));
    let new = after.iter().filter(|line| !before.contains(line)).map(|line| format!("is:  {line}"));
    gone.chain(new).collect()
}

/// Starts a program once more when it ends, if that was asked for by a file beside the one with its process id.
const SUPERVISE: &str = r#"
while
    "$@" &
    echo $! >"$0"
    rm -f "$0.again"
    wait $!
    [ -e "$0.again" ]
do :; done
"#;

/// A program that stays until it is stopped, or the machine is.
pub(crate) struct Daemon {
    child: Child,
    pid_file: String,
}

impl Daemon {
    /// A command that restarts it from within the machine.
    pub(crate) fn restart_command(&self) -> String {
        let file = &self.pid_file;
        format!("touch {file}.again && kill $(cat {file}) && while [ -e {file}.again ]; do sleep 0.1; done")
    }

    pub(crate) fn is_up(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}
