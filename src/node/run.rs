//! Runs other programs so that they can neither hang nor flood this one.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// No program that is asked has more to say.
const LIMIT: u64 = 4 << 20;

/// How often a running program is looked at.
const STEP: Duration = Duration::from_millis(20);

/// A program that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// Whether it says that all went well.
    pub ok: bool,
    /// How it ended, in words: `exit status 1`, `signal 9`.
    pub how: String,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

/// Why it cannot be said what a program would have answered.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It cannot be run.
    #[error("run {program}")]
    Start {
        /// Its name.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// It went on printing.
    #[error("{program} has printed more than {} MiB", LIMIT >> 20)]
    Floods {
        /// Its name.
        program: String,
    },
    /// It did not end.
    #[error("{program} has not ended after {} seconds", .limit.as_secs())]
    Hangs {
        /// Its name.
        program: String,
        /// How long it was waited for.
        limit: Duration,
    },
}

/// Runs a program to its end, or ends it, and what it started in its process group, when the time is over or it has
/// printed too much.
///
/// The output goes into memory files: an engine that a command starts in the background inherits them, and a pipe
/// would not come to its end before the engine does.
pub fn run(command: &mut Command, limit: Duration) -> Result<Done, RunError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let fault = |source| RunError::Start { program: program.clone(), source };
    let memory = || memfd_create(c"pss-guard-output", MFdFlags::MFD_CLOEXEC).map(File::from);
    let (out, err) = memory().and_then(|out| Ok((out, memory()?))).map_err(|errno| fault(errno.into()))?;
    let (to, complain) = out.try_clone().and_then(|to| Ok((to, err.try_clone()?))).map_err(fault)?;
    command.stdin(Stdio::null()).stdout(to).stderr(complain).process_group(0);
    let mut child = command.spawn().map_err(fault)?;
    let long = |file: &File| file.metadata().is_ok_and(|file| file.len() > LIMIT);
    let floods = || long(&out) || long(&err);
    let ended = wait(&mut child, limit, floods).map_err(fault)?;
    if ended.is_none() {
        end(&mut child);
    }
    match ended {
        // Half of an answer would be another answer.
        _ if floods() => Err(RunError::Floods { program }),
        None => Err(RunError::Hangs { program, limit }),
        Some(status) => {
            Ok(Done { ok: status.success(), how: how(status), stdout: text(out), stderr: text(err) })
        }
    }
}

/// Waits so long for a program that leads a process group, or ends the group; `None` if it did not end by itself.
pub(crate) fn wait_or_end(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let ended = wait(child, limit, || false)?;
    if ended.is_none() {
        end(child);
    }
    Ok(ended)
}

/// Ends a process group and its leader.
fn end(child: &mut Child) {
    if let Ok(pid) = i32::try_from(child.id()) {
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let _ = child.wait();
}

fn wait(child: &mut Child, limit: Duration, floods: impl Fn() -> bool) -> io::Result<Option<ExitStatus>> {
    let end = Instant::now() + limit;
    loop {
        match child.try_wait()? {
            Some(status) => return Ok(Some(status)),
            None if floods() || Instant::now() >= end => return Ok(None),
            None => std::thread::sleep(STEP),
        }
    }
}

fn how(status: ExitStatus) -> String {
    let signal = || status.signal().map(|signal| format!("signal {signal}"));
    status.code().map(|code| format!("exit status {code}")).or_else(signal).unwrap_or_default()
}

fn text(mut file: File) -> String {
    let mut bytes = Vec::new();
    // A memory file can be read; what cannot is empty.
    let _ = file.rewind().and_then(|()| file.take(LIMIT).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{Duration, Instant};

    use super::{RunError, run};

    fn sh(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn what_a_program_prints_is_kept_apart() {
        let long = Duration::from_secs(60);
        let done = run(&mut sh("echo out; echo err >&2; exit 3"), long).unwrap();
        assert_eq!((done.ok, done.stdout.as_str(), done.stderr.as_str()), (false, "out\n", "err\n"));
        assert_eq!(done.how, "exit status 3");
        assert_eq!(run(&mut sh("kill -TERM $$"), long).unwrap().how, "signal 15");
        assert!(run(&mut sh("cat"), long).unwrap().ok, "nothing is on standard input");
        let missing = run(&mut Command::new("/nothing/here"), long).unwrap_err();
        assert!(matches!(missing, RunError::Start { .. }), "{missing}");
    }

    #[test]
    fn a_program_that_hangs_is_ended_with_its_children() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("alive");
        let script = format!("(sleep 2; echo > {}) & sleep 60", file.display());
        let started = Instant::now();
        let error = run(&mut sh(&script), Duration::from_millis(300)).unwrap_err();
        assert!(matches!(error, RunError::Hangs { .. }), "{error}");
        assert!(started.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_secs(3));
        assert!(!file.exists(), "the child went on");
    }

    #[test]
    fn a_program_that_floods_is_ended() {
        let long = Duration::from_secs(60);
        // Bounded, so that a limit that is lost costs time and not all memory.
        for script in [
            "head -c 64000000 /dev/zero; exec sleep 60",
            "head -c 64000000 /dev/zero >&2; exec sleep 60",
            "head -c 5000000 /dev/zero",
        ] {
            let started = Instant::now();
            let error = run(&mut sh(script), long).unwrap_err();
            assert!(matches!(error, RunError::Floods { .. }), "{script}: {error}");
            assert!(started.elapsed() < Duration::from_secs(50), "{script}: nobody ended it");
        }
        assert_eq!(run(&mut sh("head -c 4000000 /dev/zero"), long).unwrap().stdout.len(), 4_000_000);
    }

    #[test]
    fn a_program_in_the_background_is_not_waited_for() {
        let started = Instant::now();
        let done = run(&mut sh("sleep 20 & echo $!"), Duration::from_secs(15)).unwrap();
        assert!(done.ok && started.elapsed() < Duration::from_secs(15));
        // It was ours to start, so it is ours to end.
        let pid = nix::unistd::Pid::from_raw(done.stdout.trim().parse().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    }
}
