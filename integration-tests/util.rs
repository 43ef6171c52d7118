//! How is a command run so that a failure tells everything?

use std::fmt;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
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

/// Where a program lies, if it is installed.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin"];
    let dirs = std::env::split_paths(&path).chain(usual.map(PathBuf::from));
    dirs.map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// Whether a test that needs these programs, and root, can run here. If not it says so loudly, and where
/// everything must run (`PSS_GUARD_REQUIRE=all`, as in CI) that is a failure.
pub(crate) fn can_run(test: &str, programs: &[&str]) -> bool {
    let mut missing: Vec<String> = Vec::new();
    if !is_root() {
        missing.push("root".into());
    }
    missing.extend(programs.iter().filter(|name| program(name).is_none()).map(ToString::to_string));
    missing.is_empty() || skip(test, &missing.join(", "))
}

/// Reports a test as skipped; always false.
pub(crate) fn skip(test: &str, missing: &str) -> bool {
    let required = std::env::var_os("PSS_GUARD_REQUIRE").is_some_and(|value| value == "all");
    assert!(
        !required,
        "{test} needs what is missing here: {missing} (PSS_GUARD_REQUIRE=all; see scripts/install-deps)"
    );
    // Past the capture of the test harness, which only sees `eprintln!`: a skipped test must not look like a passed one.
    let _ = std::io::stderr().write_all(format!("SKIPPED {test}: {missing}\n").as_bytes());
    false
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// As many random bytes as an engine's ids have, in hexadecimal.
pub(crate) fn random_id() -> String {
    let mut bytes = [0; 32];
    let mut source = fs::File::open("/dev/urandom").expect("/dev/urandom");
    source.read_exact(&mut bytes).expect("random bytes");
    let hexadecimal =
        |byte: &u8| [byte >> 4, byte & 15].map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)]));
    bytes.iter().flat_map(hexadecimal).collect()
}

/// A random id in the form of a pod's UID.
pub(crate) fn random_uid() -> String {
    let id = random_id();
    [&id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..32]].join("-")
}
