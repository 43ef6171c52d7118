//! How long does a process take from the call that starts it to its end?
//!
//! Benchmark programs that start one command many times and then the next are no use below a millisecond on a
//! machine that does other work too: whatever happened meanwhile counts for one of them alone. Here every
//! round runs every case once, each round beginning with another one, and only ratios are compared.

use std::ffi::{CStr, CString, OsStr};
use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, posix_spawn};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use nix::sys::wait::{WaitStatus, waitpid};

use crate::Failure;

/// A command line and what it is told on stdin.
#[derive(Clone)]
pub(crate) struct Command {
    arguments: Vec<CString>,
    stdin: Vec<u8>,
}

impl Command {
    pub(crate) fn new(program: &Path, arguments: &[&str], stdin: &str) -> Result<Self, Failure> {
        let program = program.to_str().ok_or("a path that is not UTF-8")?;
        let all = std::iter::once(program).chain(arguments.iter().copied());
        let arguments = all.map(CString::new).collect::<Result<_, _>>()?;
        Ok(Self { arguments, stdin: stdin.as_bytes().to_vec() })
    }

    pub(crate) fn arguments(&self) -> impl Iterator<Item = &OsStr> {
        self.arguments.iter().map(|argument| OsStr::from_bytes(argument.to_bytes()))
    }

    pub(crate) fn stdin(&self) -> &[u8] {
        &self.stdin
    }
}

/// Starts processes one by one; what they write goes into a pipe that is emptied off the clock.
pub(crate) struct Sampler {
    output: PipeReader,
    to_output: PipeWriter,
}

/// One run.
pub(crate) struct Run {
    pub(crate) took: Duration,
    /// Of all processors together, in the program and in the kernel for it.
    pub(crate) cpu: Duration,
    pub(crate) code: i32,
    pub(crate) output: String,
}

impl Sampler {
    pub(crate) fn new() -> Result<Self, Failure> {
        let (output, to_output) = io::pipe()?;
        fcntl(&output, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Self { output, to_output })
    }

    /// Runs a command; everything but the process itself is prepared before the clock starts.
    pub(crate) fn run(&mut self, command: &Command) -> Result<Run, Failure> {
        const ENVIRONMENT: [&CStr; 1] = [c"PATH=/usr/local/bin:/usr/bin:/bin"];
        let program = command.arguments.first().ok_or("an empty command line")?;
        let (stdin, mut to_stdin) = io::pipe()?;
        to_stdin.write_all(&command.stdin)?;
        drop(to_stdin);
        let mut files = PosixSpawnFileActions::init()?;
        files.add_dup2(stdin.as_raw_fd(), 0)?;
        files.add_dup2(self.to_output.as_raw_fd(), 1)?;
        files.add_dup2(self.to_output.as_raw_fd(), 2)?;
        let attributes = PosixSpawnAttr::init()?;

        let before = cpu_of_children()?;
        let started = Instant::now();
        let child = posix_spawn(program.as_c_str(), &files, &attributes, &command.arguments, &ENVIRONMENT)?;
        let status = waitpid(child, None)?;
        let took = started.elapsed();
        let cpu = cpu_of_children()?.saturating_sub(before);

        let WaitStatus::Exited(_, code) = status else {
            return Err(format!("{program:?} did not end by itself: {status:?}").into());
        };
        Ok(Run { took, cpu, code, output: self.written()? })
    }

    fn written(&mut self) -> Result<String, Failure> {
        let mut text = Vec::new();
        match self.output.read_to_end(&mut text) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error.into()),
            _ => Ok(String::from_utf8_lossy(&text).into_owned()),
        }
    }
}

/// What all processes used that were run so far.
fn cpu_of_children() -> Result<Duration, Failure> {
    let used = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let both = used.user_time() + used.system_time();
    Ok(Duration::from_micros(u64::try_from(both.num_microseconds())?))
}

/// The largest resident set of any process that was run so far, in KiB.
///
/// A process inherits what its parent had at the moment of starting it, so the first ones must be measured
/// before this program has grown.
pub(crate) fn largest_resident_set() -> Result<i64, Failure> {
    Ok(getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss())
}

/// The run times of one case, sorted.
#[derive(Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn add(&mut self, took: Duration) {
        let place = self.0.partition_point(|other| *other <= took);
        self.0.insert(place, took);
    }

    /// The time that `percent` of the runs stay below, in microseconds.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let at = self.0.len().saturating_sub(1) * percent / 100;
        self.0.get(at).map_or(f64::NAN, |took| took.as_secs_f64() * 1e6)
    }

    /// The same percentile of two cases, one by the other.
    pub(crate) fn ratio(&self, to: &Self, percent: usize) -> f64 {
        self.percentile(percent) / to.percentile(percent)
    }
}

/// Puts things into an order that looks like chance and is the same each time (Fisher and Yates, with the generator of Knuth's MMIX).
pub(crate) fn shuffle<T>(things: &mut [T], seed: &mut u64) {
    for last in (1..things.len()).rev() {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let other = (*seed >> 33) % (last as u64 + 1);
        things.swap(last, usize::try_from(other).unwrap_or(last));
    }
}
