//! `pss-guard-gate hook`: the OCI state on standard input, a verdict as the exit code.
//!
//! This runs before every container of the node. It parses its arguments by hand (a command line parser costs more than
//! the evaluation), reads a handful of small files, and initializes nothing that it may not need.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::{SFlag, fstat, makedev};

use crate::admit::{self, Gate, Invocation, Response};
use crate::inspect;
use crate::inspect::checkpoint::Restore;
use crate::inspect::spec::{State, Text};
use crate::message::stderr_line;
use crate::wrapper;
use pss::facts::Engine;
use pss_guard_core::files::LIMIT;
use pss_guard_core::paths::Paths;

/// The arguments.
#[derive(Debug, Default, PartialEq, Eq)]
struct Arguments {
    engine: Option<Engine>,
    runtime_handler: Option<String>,
    root: Option<PathBuf>,
}

/// Arguments that are none. Only the installer writes them, so this is a broken installation.
#[derive(Debug, thiserror::Error)]
enum UsageError {
    #[error("hook: unknown argument {0:?}; known are --engine ENGINE, --runtime-handler NAME, --root DIR")]
    Unknown(String),
    #[error("hook: {0} needs a value")]
    NoValue(String),
    #[error("hook: unknown engine {0:?}; known are containerd, cri-o, podman, docker, none")]
    Engine(String),
}

/// Why the runtime's word cannot be understood.
#[derive(Debug, thiserror::Error)]
enum StateError {
    #[error("read the OCI state from standard input")]
    Read(#[source] std::io::Error),
    #[error("the OCI state on standard input has more than {LIMIT} bytes")]
    TooLarge,
    #[error(
        "parse the OCI state on standard input (a runtime writes it there; by hand use `pss-guard check`)"
    )]
    Parse(#[source] serde_json::Error),
    #[error("the OCI state on standard input names no bundle")]
    NoBundle,
}

/// Runs the hook; the arguments are those after `hook`.
#[must_use]
pub fn run(arguments: &[OsString]) -> u8 {
    let (arguments, wrong) = parse(arguments);
    let gate = Gate::open(&Paths::under(arguments.root.as_deref().unwrap_or(Path::new("/"))));
    // The runtime is writing the state whatever happens here; a pipe that nobody reads makes older cruns fail.
    let state = read_state();
    match verdict(&gate, &arguments, wrong, &state) {
        Response::Allow => admit::ALLOW,
        Response::Deny { line, exit_code } => say(&line, exit_code),
    }
}

/// Shows a line to whoever reads the runtime's output, unless that is a file: crun opens, as root, the one that the
/// container's own annotations name (`run.oci.hooks.stderr`). Without them a hook has a pipe or nothing (runc
/// `libcontainer/configs/config.go` Command.Run, crun `src/libcrun/utils.c` run_process_with_stdin_timeout_envp). The
/// event is written in any case.
fn say(line: &str, code: u8) -> u8 {
    if !is_file(&std::io::stdout()) && !is_file(&std::io::stderr()) {
        stderr_line(&format!("pss-guard: {line}"));
    }
    code
}

/// Whether what is written here stays: in a file, or on a device that is no terminal.
fn is_file(stream: &(impl AsFd + IsTerminal)) -> bool {
    let Ok(stat) = fstat(stream) else { return false };
    match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFREG | SFlag::S_IFBLK => true,
        SFlag::S_IFCHR => !stream.is_terminal() && stat.st_rdev != NULL,
        _ => false,
    }
}

/// /dev/null (Documentation/admin-guide/devices.txt).
const NULL: u64 = makedev(1, 3);

fn verdict(
    gate: &Gate,
    arguments: &Arguments,
    wrong: Option<UsageError>,
    state: &Result<Vec<u8>, StateError>,
) -> Response {
    if let Some(err) = wrong {
        return gate.fault(None, &err);
    }
    let state = match state {
        Ok(state) => state,
        Err(err) => return gate.fault(None, err),
    };
    let plain = std::str::from_utf8(state).ok().and_then(inspect::json::read);
    let state = match plain.map_or_else(|| serde_json::from_slice::<State<'_>>(state), Ok) {
        Ok(state) => state,
        Err(err) => return gate.fault(None, &StateError::Parse(err)),
    };
    let Some(bundle) = state.bundle.as_ref().map(|bundle| Path::new(bundle.as_str())) else {
        return gate.fault(None, &StateError::NoBundle);
    };
    let id = state.id.as_ref().map(Text::as_str);
    let hold = |restore: Option<&Restore<'_>>| {
        let caller = Invocation {
            engine: arguments.engine,
            runtime_handler: arguments.runtime_handler.as_deref(),
            id,
            pid: state.pid.unwrap_or(0),
            as_runtime: false,
            restore,
        };
        gate.admit(&caller, &inspect::read_config(bundle), None)
    };
    // A container that is to be created is `creating` to runc and youki and `created` to crun. To runc one that is to be
    // restored is still `stopped` (`libcontainer/criu_linux.go` criuNotifications); crun restores without hooks.
    match state.status.as_ref().map_or("", Text::as_str) {
        "" | "creating" | "created" | "running" => hold(None),
        _ => wrapper::restore_by_parent(id.unwrap_or(""), bundle, |restore| hold(Some(restore))),
    }
}

/// Makes a panic end as a container that cannot be evaluated does. Call it before anything else.
pub fn install_panic_hook() {
    admit::install_panic_hook(Paths::default, say);
}

/// Reads the arguments; what is understood is kept even if something else is not, because where the policy lies and
/// which mode it is in matters most when something is wrong.
fn parse(arguments: &[OsString]) -> (Arguments, Option<UsageError>) {
    let mut parsed = Arguments::default();
    let mut wrong = None;
    let mut rest = arguments.iter().map(|argument| argument.to_string_lossy());
    while let Some(argument) = rest.next() {
        let (name, given) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (argument.as_ref(), None),
        };
        if !matches!(name, "--engine" | "--runtime-handler" | "--root") {
            wrong = wrong.or_else(|| Some(UsageError::Unknown(argument.to_string())));
            continue;
        }
        let Some(value) = given.or_else(|| rest.next().map(Into::into)) else {
            wrong = wrong.or_else(|| Some(UsageError::NoValue(name.to_owned())));
            break;
        };
        match name {
            "--engine" => match Engine::ALL.into_iter().find(|engine| engine.name() == value) {
                Some(engine) => parsed.engine = Some(engine),
                None => wrong = wrong.or(Some(UsageError::Engine(value))),
            },
            "--runtime-handler" => parsed.runtime_handler = Some(value),
            _ => parsed.root = Some(PathBuf::from(value)),
        }
    }
    (parsed, wrong)
}

fn is_too_large(length: usize) -> bool {
    length as u64 > LIMIT
}

/// Reads standard input to its end.
fn read_state() -> Result<Vec<u8>, StateError> {
    // Past std's buffer, which is two more pages for the kernel to clear.
    let stdin = std::io::stdin();
    let mut state = Vec::new();
    let mut length = 0;
    loop {
        if length == state.len() {
            state.resize(2 * length + 4096, 0);
        }
        match nix::unistd::read(&stdin, state.get_mut(length..).unwrap_or_default()) {
            Ok(0) => break,
            // Read to the end all the same, and kept no longer.
            Ok(read) => length = if is_too_large(length) { length } else { length + read },
            Err(Errno::EINTR) => {}
            Err(error) => return Err(StateError::Read(error.into())),
        }
    }
    if is_too_large(length) {
        return Err(StateError::TooLarge);
    }
    state.truncate(length);
    Ok(state)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::{Arguments, parse};
    use pss::facts::Engine;

    #[test]
    fn arguments_are_those_that_the_installer_writes() {
        let read = |text: &str| {
            let arguments: Vec<OsString> = text.split_whitespace().map(Into::into).collect();
            match parse(&arguments) {
                (parsed, None) => Ok(parsed),
                (_, Some(wrong)) => Err(wrong.to_string()),
            }
        };
        let cri_o = Arguments { engine: Some(Engine::CriO), ..Arguments::default() };
        assert_eq!(read("--engine cri-o"), Ok(cri_o));
        let all = Arguments {
            engine: Some(Engine::Containerd),
            runtime_handler: Some("kata".to_owned()),
            root: Some("/x".into()),
        };
        assert_eq!(read("--engine=containerd --runtime-handler kata --root=/x"), Ok(all));
        let errors = [
            ("--engin cri-o", "hook: unknown argument \"--engin\""),
            ("cri-o", "hook: unknown argument \"cri-o\""),
            ("--engine", "hook: --engine needs a value"),
            ("--engine crio", "hook: unknown engine \"crio\"; known are containerd, cri-o"),
        ];
        for (text, expected) in errors {
            let err = read(text).unwrap_err();
            assert!(err.starts_with(expected), "{text}: {err}");
        }
    }

    #[test]
    fn the_shipped_hook_file_calls_the_hook_as_it_wants_to_be_called() {
        let file: serde_json::Value =
            serde_json::from_str(include_str!("../../../hooks/pss-guard.json")).unwrap();
        let arguments: Vec<OsString> =
            file["hook"]["args"].as_array().unwrap().iter().map(|a| a.as_str().unwrap().into()).collect();
        assert_eq!(arguments[..2], ["pss-guard-gate", "hook"]);
        assert!(parse(&arguments[2..]).1.is_none(), "{arguments:?}");
        assert_eq!(file["stages"], serde_json::json!(["createRuntime"]), "namespaces exist, nothing has run");
    }
}
