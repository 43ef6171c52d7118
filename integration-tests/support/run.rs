//! How is a command run so that a failure tells everything?

use std::fmt;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A command that ended, or was ended, and all it left behind.
#[derive(Debug)]
pub(crate) struct Done {
    command: String,
    /// The exit code; `None` after a signal.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a command to its end. Its output goes through files: a detached container inherits them, and a pipe would
/// not reach its end before the container does.
pub(crate) fn run(command: &mut Command) -> Done {
    run_within(command, DEADLINE)
}

/// The same for what takes longer.
pub(crate) fn run_within(command: &mut Command, deadline: Duration) -> Done {
    let text = format!("{command:?}");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (out, err) = (dir.path().join("stdout"), dir.path().join("stderr"));
    let open = |path: &Path| Stdio::from(fs::File::create(path).expect("a file in a fresh directory"));
    command.stdin(Stdio::null()).stdout(open(&out)).stderr(open(&err));
    let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot run {text}: {error}"));
    let end = Instant::now() + deadline;
    let status = loop {
        match child.try_wait().expect("wait for a child of ours") {
            Some(status) => break status,
            None if Instant::now() < end => std::thread::sleep(Duration::from_millis(2)),
            None => {
                child.kill().expect("kill a child of ours");
                let _ = child.wait();
                panic!("{text}\nhas not ended after {deadline:?}\nstderr: {}", read(&err));
            }
        }
    };
    Done { command: text, code: status.code(), stdout: read(&out), stderr: read(&err) }
}

/// Runs a command with something on standard input; a child that does not read to the end is an error.
pub(crate) fn feed(command: &mut Command, stdin: &[u8]) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin).expect("the hook reads its standard input to the end");
    child.wait_with_output().unwrap()
}

/// Long enough for a loaded machine, short enough to notice a hang.
const DEADLINE: Duration = Duration::from_secs(60);

impl Done {
    /// The same, or a panic that shows all of it.
    pub(crate) fn expect_success(self) -> Self {
        assert!(self.code == Some(0), "this should have succeeded\n{self}");
        self
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { command, code, stdout, stderr } = self;
        write!(f, "command: {command}\nexit code: {code:?}\nstdout: {stdout}\nstderr: {stderr}")
    }
}

/// A file's text, empty if there is none; output need not be UTF-8.
pub(crate) fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// Waits until a condition holds; false if it never did.
pub(crate) fn eventually(holds: impl FnMut() -> bool) -> bool {
    within(Duration::from_secs(10), holds)
}

/// The same, for what takes longer.
pub(crate) fn within(time: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + time;
    while Instant::now() < end {
        if holds() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    holds()
}

/// Whether a process with this path in its arguments is running.
pub(crate) fn someone_names(path: &Path) -> bool {
    let path = path.to_string_lossy();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.map(|process| read(&process.path().join("cmdline"))).any(|arguments| arguments.contains(&*path))
}
