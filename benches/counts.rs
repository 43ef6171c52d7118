//! What a start costs in numbers that no other load changes: instructions, by valgrind, and system calls, by strace. Both are
//! there on few machines; a number without its program is left out.

use std::io::Write as _;
use std::process::{self, Stdio};

use crate::Failure;
use crate::sampler::Command;

/// One start, from the first instruction to the last. None: the program that counts them is not installed, or counts none.
pub(crate) struct Counts {
    pub(crate) instructions: Option<u64>,
    pub(crate) calls: Option<u64>,
}

impl Counts {
    pub(crate) fn of(command: &Command) -> Result<Self, Failure> {
        let instructions = ["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"];
        let instructions = beside("valgrind", &instructions, command)?;
        // Nothing is counted of a program that becomes another one.
        let instructions = instructions.and_then(|said| {
            let line = said.lines().find(|line| line.contains(" I ") && line.contains("refs:"))?;
            line.rsplit(' ').next()?.replace(',', "").parse().ok()
        });
        let calls = beside("strace", &[], command)?;
        let calls = calls.map(|said| said.lines().map(|line| u64::from(line.contains('('))).sum());
        Ok(Self { instructions, calls })
    }
}

/// What another program says of a command on stderr, beside what the command does; none where it is not installed.
fn beside(program: &str, options: &[&str], command: &Command) -> Result<Option<String>, Failure> {
    let started = process::Command::new(program)
        .args(options)
        .args(command.arguments())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match started {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        started => started.map_err(|error| format!("start {program}: {error}"))?,
    };
    // Less than a pipe holds. The no-op reads nothing, which is no error.
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(command.stdin());
    }
    let done = child.wait_with_output()?;
    Ok(Some(String::from_utf8_lossy(&done.stderr).into_owned()))
}
