//! Which systemd-journald is there to be written to? The machine's own, or one started by hand where none runs.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::{needs, run};

const SOCKET: &str = "/run/systemd/journal/socket";
const PROGRAM: &str = "/lib/systemd/systemd-journald";

/// A journald that listens. One that was started here ends with it, and its files go; any other is left alone.
pub(crate) struct Journal {
    ours: Option<Child>,
    /// The socket, where it outlives the journald: systemd holds it on a node.
    socket: Option<UnixDatagram>,
    made: Vec<PathBuf>,
    _alone: MutexGuard<'static, ()>,
}

/// There is one journal socket on a machine.
static ALONE: Mutex<()> = Mutex::new(());

impl Journal {
    /// Whether there is one, or one can be started.
    pub(crate) fn can_run(test: &str) -> bool {
        needs::can_run(test, &["journalctl", "busybox", "runc"])
            && (Self::can_open() || needs::skip(test, PROGRAM))
    }

    pub(crate) fn can_open() -> bool {
        needs::program("journalctl").is_some() && (listens() || Path::new(PROGRAM).is_file())
    }

    pub(crate) fn open() -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut journal = Self { ours: None, socket: None, made: Vec::new(), _alone: alone };
        if !listens() {
            journal.make_folders();
            journal.start();
        }
        journal
    }

    /// One that can be restarted and stopped, by a socket that keeps what comes in the meantime, as on a node.
    pub(crate) fn held() -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(!listens(), "this machine has a journald of its own, which no test restarts");
        let mut journal = Self { ours: None, socket: None, made: Vec::new(), _alone: alone };
        journal.make_folders();
        let _ = fs::remove_file(SOCKET);
        journal.socket = Some(UnixDatagram::bind(SOCKET).expect("journald's socket"));
        journal.start();
        journal
    }

    /// Ends it as systemd does, and starts the next.
    pub(crate) fn restart(&mut self) {
        let child = self.ours.as_mut().expect("a journald of ours");
        signal(child, Signal::SIGTERM);
        child.wait().expect("wait for a child of ours");
        self.start();
    }

    /// It hangs from now on, and its socket fills.
    pub(crate) fn stop(&self) {
        signal(self.ours.as_ref().expect("a journald of ours"), Signal::SIGSTOP);
    }

    /// It goes on.
    pub(crate) fn go_on(&self) {
        signal(self.ours.as_ref().expect("a journald of ours"), Signal::SIGCONT);
    }

    fn make_folders(&mut self) {
        for dir in ["/run/systemd/journal", "/run/log/journal"].map(PathBuf::from) {
            if !dir.exists() {
                fs::create_dir_all(&dir).expect("journald's directory");
                self.made.push(dir);
            }
        }
    }

    fn start(&mut self) {
        let mut journald = Command::new(PROGRAM);
        if let Some(socket) = &self.socket {
            // As systemd hands a socket over (sd_listen_fds(3)).
            journald = Command::new("sh");
            let line = format!("exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec {PROGRAM}");
            journald.arg("-c").arg(line).stdin(OwnedFd::from(socket.try_clone().expect("a socket of ours")));
        } else {
            journald.stdin(Stdio::null());
        }
        let child = journald.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.ours = Some(child.expect("start systemd-journald"));
        assert!(run::eventually(listens), "systemd-journald does not answer on {SOCKET}");
    }

    /// Makes a gate's root lead to the journal, which must be open.
    pub(crate) fn lead_to(root: &Path) {
        let socket = root.join(&SOCKET[1..]);
        fs::create_dir_all(socket.parent().expect("a directory")).expect("the socket's directory");
        std::os::unix::fs::symlink(SOCKET, socket).expect("a link to journald's socket");
    }

    /// The events that match, oldest first; waits for the first, since journald takes its time.
    pub(crate) fn events(matches: &[&str]) -> Vec<Value> {
        let mut events = Vec::new();
        run::eventually(|| {
            let done =
                run::run(Command::new("journalctl").args(["--no-pager", "--output=json"]).args(matches));
            events = done.stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            !events.is_empty()
        });
        events
    }

    /// The matching events as `journalctl --catalog` shows them where our catalog is installed. It is, for this one
    /// call: the database is mounted over the machine's in a mount namespace of its own.
    pub(crate) fn explained(matches: &[&str]) -> String {
        let root = tempfile::tempdir().expect("a temporary directory");
        let catalog = root.path().join("usr/lib/systemd/catalog");
        let database = root.path().join("var/lib/systemd/catalog");
        fs::create_dir_all(&catalog).and_then(|()| fs::create_dir_all(&database)).expect("directories");
        fs::write(catalog.join("pss-guard.catalog"), CATALOG).expect("a file in a fresh directory");
        let mut update = Command::new("journalctl");
        run::run(update.arg("--update-catalog").arg("--root").arg(root.path())).expect_success();
        let mut show = Command::new("unshare");
        show.args([
            "--mount",
            "sh",
            "-c",
            "mount --bind \"$1\" /var/lib/systemd/catalog && shift && exec \"$@\"",
            "sh",
        ]);
        show.arg(database).args(["journalctl", "--no-pager", "--catalog"]).args(matches);
        run::run(&mut show).expect_success().stdout
    }
}

const CATALOG: &str = include_str!("../../systemd/pss-guard.catalog");

impl Drop for Journal {
    fn drop(&mut self) {
        if let Some(child) = &mut self.ours {
            let _ = child.kill();
            let _ = child.wait();
            self.socket = None;
            for dir in &self.made {
                let _ = fs::remove_dir_all(dir);
            }
            // What is left of it would look like a journald that does not answer.
            let _ = fs::remove_file(SOCKET);
        }
    }
}

fn signal(child: &Child, signal: Signal) {
    let id = Pid::from_raw(i32::try_from(child.id()).expect("a process's id"));
    nix::sys::signal::kill(id, signal).expect("a child of ours");
}

fn listens() -> bool {
    UnixDatagram::unbound().and_then(|probe| probe.connect(SOCKET)).is_ok()
}
