//! `pss-guard-runtime`: a runtime in front of the real one. It evaluates what starts a process and then becomes the
//! real runtime, so that no process of ours stays, and exit codes and signals are the runtime's own.
//!
//! It has no arguments and no file of its own; see `entry` for what it knows, and `argv` for what it reads. Commands
//! that start nothing cost a look at the arguments and at one link.

mod argv;
mod entry;
mod exec;
mod log;
mod process_file;

use std::error::Error;
use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

pub use argv::options;

use argv::{Act, Argv, Checkpoint};
use entry::Entry;

use crate::admit::{self, Gate, Invocation, Response};
use crate::handover;
use crate::inspect::checkpoint::{CheckpointError, Restore};
use crate::message::line;
use crate::message::stderr_line;
use pss_guard_core::files::{self, FileError, LIMIT};
use pss_guard_core::paths::Paths;

/// The name that makes this program the wrapper.
pub const NAME: &str = "pss-guard-runtime";

/// Exit code where there is no runtime to hand over to: the runtimes' own for every error.
const FAILED: u8 = 1;

/// Tells a later call how often the wrapper has already handed over, as `PID:COUNT`. Runtimes give it to hooks at most: a
/// container's environment is that of its config.json.
const PASSED: &str = "PSS_GUARD_PASSED";

/// Nobody stacks that many wrappers; a chain that comes back to this one does.
const MOST_PASSED: u32 = 8;

/// Why the runtime was not started.
#[derive(Debug, thiserror::Error)]
enum HandOverError {
    #[error("start the real runtime {}; install it, or run `pss-guard install` again for the one that is there",
        .runtime.display())]
    Execute { runtime: PathBuf, source: std::io::Error },
    #[error("{} calls pss-guard-runtime again in a loop; let the link `runtime` lead to runc, crun or youki",
        .runtime.display())]
    Loop { runtime: PathBuf },
    #[error("an argument has a NUL byte")]
    Nul(#[from] std::ffi::NulError),
}

/// What is needed to end: as the real runtime, or with a refusal. The panic hook needs it, too.
#[derive(Debug)]
struct End {
    runtime: PathBuf,
    arguments: Vec<OsString>,
    log: Option<OsString>,
    json: bool,
    /// The argument that names an exec's process, and where in it that name begins.
    process: Option<(usize, usize)>,
    /// What it is to name instead.
    handed_on: OnceLock<OsString>,
}

/// Set before anything is evaluated.
static END: OnceLock<End> = OnceLock::new();

/// Runs the wrapper; the first argument is the path that it was called by. Returns only if the runtime does not start.
#[must_use]
pub fn run(arguments: &[OsString]) -> u8 {
    let rest: Vec<&OsStr> = arguments.iter().skip(1).map(OsString::as_os_str).collect();
    let Argv { log, json, act } = argv::read(&rest);
    let entry = entry(arguments);
    let runtime = match entry.runtime() {
        Ok(runtime) => runtime,
        Err(err) => {
            tell(log, json, &line(&err));
            return FAILED;
        }
    };
    let process = match &act {
        Ok(Act::Exec(asked)) => asked.process.and_then(|process| place(&rest, process)),
        _ => None,
    };
    let end = || End {
        runtime,
        arguments: arguments.iter().skip(1).cloned().collect(),
        log: log.map(OsStr::to_owned),
        json,
        process,
        handed_on: OnceLock::new(),
    };
    match act {
        Ok(Act::Other) => return end().hand_over(),
        Ok(Act::Delete(id)) => {
            if let Some(id) = id {
                exec::forget(&Paths::under(&entry.root), id);
            }
            return end().hand_over();
        }
        _ => {}
    }
    let end = END.get_or_init(end);
    let hand_on = |path| {
        let _ = end.handed_on.set(path);
    };
    match admit(&entry, act, &hand_on) {
        Response::Allow => end.hand_over(),
        Response::Deny { line, exit_code } => {
            end.tell(&line);
            exit_code
        }
    }
}

/// What a command line asks for, as far as fuzzing compares it.
#[cfg(fuzzing)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked<'a> {
    /// No process and no mount.
    Nothing,
    /// A container: its bundle and its id.
    Start(Option<&'a OsStr>, &'a OsStr),
    /// A process or a mount for a container that runs.
    Join(&'a OsStr),
    /// Nobody can say.
    Fault,
}

/// Reads a command line, without the program's name, for fuzzing.
#[cfg(fuzzing)]
#[must_use]
pub fn asked<'a>(arguments: &[&'a OsStr]) -> Asked<'a> {
    match argv::read(arguments).act {
        Ok(Act::Other | Act::Delete(_)) => Asked::Nothing,
        Ok(Act::Start { bundle, id, .. }) => Asked::Start(bundle, id),
        Ok(Act::Exec(exec)) => Asked::Join(exec.id),
        Ok(Act::Mounts { id, .. }) => Asked::Join(id),
        Err(_) => Asked::Fault,
    }
}

/// Where among the arguments the end of one lies that was read from them.
fn place(arguments: &[&OsStr], end: &OsStr) -> Option<(usize, usize)> {
    let of = |text: &OsStr| text.as_bytes().as_ptr_range();
    arguments.iter().enumerate().find_map(|(nth, argument)| {
        let is_its_end = of(argument).end == of(end).end && of(argument).start <= of(end).start;
        (is_its_end && !end.is_empty()).then(|| (nth, argument.len() - end.len()))
    })
}

fn admit(entry: &Entry, act: Result<Act<'_>, argv::ArgvError>, hand_on: &dyn Fn(OsString)) -> Response {
    let paths = Paths::under(&entry.root);
    let gate = Gate::open(&paths);
    let joins = matches!(act, Ok(Act::Exec(_) | Act::Mounts { .. }));
    let gate = if joins { gate.for_exec() } else { gate };
    let caller = |id: &OsStr, restore: Option<&Restore<'_>>, then: &dyn Fn(&Invocation<'_>) -> Response| {
        let id = id.to_string_lossy();
        then(&Invocation {
            engine: entry.engine,
            runtime_handler: entry.handler.as_deref(),
            id: Some(&id),
            // Nothing runs yet.
            pid: 0,
            as_runtime: true,
            restore,
        })
    };
    match act {
        Err(err) => gate.fault(None, &err),
        Ok(Act::Start { bundle, id, checkpoint }) => {
            let config = read_config(bundle.map_or(Path::new("."), Path::new));
            let bundle = config.as_ref().ok().and_then(|(path, _)| path.parent());
            let restore = checkpoint.zip(bundle).map(|(checkpoint, bundle)| checkpoint.restore(bundle));
            caller(id, restore.as_ref(), &|caller| gate.admit(caller, &config, None))
        }
        Ok(Act::Exec(asked)) => {
            caller(asked.id, None, &|caller| exec::admit(&gate, &paths, caller, &asked, hand_on))
        }
        Ok(Act::Mounts { root, id }) => {
            caller(id, None, &|caller| exec::admit_mounts(&gate, caller, root, id))
        }
        Ok(Act::Other | Act::Delete(_)) => Response::Allow,
    }
}

impl<'a> Checkpoint<'a> {
    /// Where the runtime will look for the images. Both runc (`utils.go` setupSpec) and crun (`src/restore.c`) go to the
    /// bundle first; without the option runc takes `checkpoint` where it was called (`utils_linux.go` getDefaultImagePath),
    /// crun in the bundle. youki restores nothing.
    fn restore(self, bundle: &Path) -> Restore<'a> {
        let images = match self.images.filter(|images| !images.is_empty()) {
            Some(images) => Ok(bundle.join(images)),
            None if fs::canonicalize(".").is_ok_and(|here| here == bundle) => Ok(bundle.join("checkpoint")),
            None => Err(CheckpointError::NoPlace),
        };
        Restore { images, lsm_profile: self.lsm_profile, cgroups_mode: self.cgroups_mode }
    }
}

/// What a runtime that called this process as a hook was asked to restore the container from, by its arguments. runc calls
/// its hooks itself (`libcontainer/criu_linux.go` criuNotifications, on `setup-namespaces`), when it is in the bundle.
pub(crate) fn restore_by_parent<R>(id: &str, bundle: &Path, then: impl FnOnce(&Restore<'_>) -> R) -> R {
    let arguments =
        files::read_proc(Path::new(&format!("/proc/{}/cmdline", std::os::unix::process::parent_id())));
    let arguments = arguments.unwrap_or_default();
    let arguments = arguments.strip_suffix(b"\0").unwrap_or(&arguments);
    let arguments: Vec<&OsStr> = arguments.split(|byte| *byte == 0).skip(1).map(OsStr::from_bytes).collect();
    let restore = match argv::read(&arguments).act {
        Ok(Act::Start { id: theirs, checkpoint: Some(checkpoint), .. })
            if theirs == id && checkpoint.images.is_some_and(|images| !images.is_empty()) =>
        {
            checkpoint.restore(bundle)
        }
        _ => Restore { images: Err(CheckpointError::NoRuntime), lsm_profile: None, cgroups_mode: None },
    };
    then(&restore)
}

/// Reads config.json as runtimes do: in the bundle and nowhere else. The bundle's real path says whose it is.
fn read_config(bundle: &Path) -> Result<(PathBuf, Vec<u8>), FileError> {
    let real =
        fs::canonicalize(bundle).map_err(|source| FileError::Open { path: bundle.to_owned(), source })?;
    let path = real.join("config.json");
    files::read(&path, LIMIT).map(|bytes| (path, bytes))
}

impl End {
    /// Becomes the real runtime.
    fn hand_over(&self) -> u8 {
        let Err(err) = self.execute();
        self.tell(&line(&err as &(dyn Error + 'static)));
        FAILED
    }

    fn execute(&self) -> Result<std::convert::Infallible, HandOverError> {
        let runtime = || self.runtime.clone();
        let passed = passed(std::env::var_os(PASSED).as_deref());
        if passed >= MOST_PASSED {
            return Err(HandOverError::Loop { runtime: runtime() });
        }
        let mark = CString::new(format!("{PASSED}={}:{}", std::process::id(), passed + 1))?;
        let program = CString::new(self.runtime.as_os_str().as_bytes())?;
        let mut arguments = vec![program.clone()];
        for (nth, argument) in self.arguments.iter().enumerate() {
            let mut argument = argument.clone().into_vec();
            if let (Some((process, at)), Some(path)) = (self.process, self.handed_on.get())
                && process == nth
            {
                argument.truncate(at);
                argument.extend(path.as_bytes());
            }
            arguments.push(CString::new(argument)?);
        }
        let errno = handover::become_program(&program, &arguments, &mark);
        Err(HandOverError::Execute { runtime: runtime(), source: errno.into() })
    }

    fn tell(&self, said: &str) {
        tell(self.log.as_deref(), self.json, said);
    }
}

/// How often the wrapper has handed over on the way to here. A mark counts only if the process that it names was given it
/// by the gate: this one, where a script became the gate again, or one above it, where a script calls it. Whatever else is
/// in the environment, an engine's or a user's own, is no chain.
fn passed(mark: Option<&OsStr>) -> u32 {
    let read = |mark: &OsStr| {
        let (pid, count) = mark.to_str()?.split_once(':')?;
        let (pid, count) = (pid.parse::<u32>().ok()?, count.parse().ok()?);
        let has_it = || {
            let environment = files::read_proc(Path::new(&format!("/proc/{pid}/environ"))).ok()?;
            let own = [PASSED.as_bytes(), mark.as_bytes()].join(&b'=');
            environment.split(|byte| *byte == 0).any(|entry| entry == own).then_some(())
        };
        (pid == std::process::id()).then_some(()).or_else(has_it).map(|()| count)
    };
    mark.and_then(read).unwrap_or(0)
}

/// Says why the runtime does not start, where engines look for it.
fn tell(log: Option<&OsStr>, json: bool, said: &str) {
    let said = format!("pss-guard: {said}");
    if let Some(log) = log {
        log::append(log, json, &said);
    }
    stderr_line(&said);
}

/// Makes a panic end as a container that cannot be evaluated does: in audit mode as the real runtime.
pub fn install_panic_hook(arguments: &[OsString]) {
    let _ = ARGUMENTS.set(arguments.to_vec());
    let paths = || Paths::under(&entry(own_arguments()).root);
    admit::install_panic_hook(paths, |line, code| {
        match END.get() {
            Some(end) if code == admit::ALLOW => return end.hand_over(),
            Some(end) => end.tell(line),
            // It did not come to read its arguments, so where the log is nobody knows.
            None => {
                if code == admit::ALLOW
                    && let Ok(runtime) = entry(own_arguments()).runtime()
                {
                    let arguments = own_arguments().iter().skip(1).cloned().collect();
                    let handed_on = OnceLock::new();
                    let end = End { runtime, arguments, log: None, json: false, process: None, handed_on };
                    return end.hand_over();
                }
                tell(None, false, line);
            }
        }
        if code == admit::ALLOW { FAILED } else { code }
    });
}

/// For the panic hook.
static ARGUMENTS: OnceLock<Vec<OsString>> = OnceLock::new();

fn own_arguments() -> &'static [OsString] {
    ARGUMENTS.get().map_or(&[], Vec::as_slice)
}

fn entry(arguments: &[OsString]) -> Entry {
    Entry::of(arguments.first().map_or(OsStr::new(NAME), OsString::as_os_str))
}
