//! `pss-guard hook`: the OCI state on standard input, a verdict as the exit code.
//!
//! This runs before every container of the node. It looks at the arguments itself (a command line parser costs more
//! than the judgement), reads two or three files, and sets nothing up that it may not need.

use std::error::Error;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SigSet, Signal};

use crate::decision::{Assessment, Judged, Rules};
use crate::facts;
use crate::facts::host::Host;
use crate::facts::identity::Identity;
use crate::facts::spec::{State, Text};
use crate::files::LIMIT;
use crate::judge::{Outcome, Request, judge};
use crate::level::cache::{Loaded, load};
use crate::level::policy::OnFault;
use crate::level::{Mode, Policy, ask_alike};
use crate::paths::Paths;
use crate::pss::facts::Engine;
use crate::report::event::{Event, Kind};
use crate::report::json::Finding;
use crate::report::stderr_line;
use crate::report::text::{cut, escape, line, message};

/// Exit code of a container that may start.
pub const ALLOW: u8 = 0;
/// Exit code of a container that could not be judged.
pub const CANNOT_JUDGE: u8 = 2;
/// Added to the number of the first violated control: crun shows nothing of a hook but its path and this code.
pub const DENIED: u8 = 10;

/// Whether the policy that was loaded says that nothing is ever blocked. Read by the panic hook.
static AUDIT: AtomicBool = AtomicBool::new(false);

/// Where the files are. Read by the panic hook.
static PATHS: OnceLock<Paths> = OnceLock::new();

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
    ignore_file_size_limit();
    let (arguments, wrong) = parse(arguments);
    let paths = Paths::under(arguments.root.as_deref().unwrap_or(Path::new("/")));
    let _ = PATHS.set(paths.clone());
    // The policy first: in audit mode nothing that comes after may block.
    let loaded = load(&paths);
    let gate = Gate::new(&loaded, &paths);
    AUDIT.store(gate.mode == Mode::Audit, Ordering::Relaxed);
    // The runtime is writing the state whatever happens here; a pipe that nobody reads makes older cruns fail.
    let state = read_state();
    if let Some(err) = wrong {
        return gate.fault(None, &err);
    }
    let state = match &state {
        Ok(state) => state,
        Err(err) => return gate.fault(None, err),
    };
    match serde_json::from_slice::<State<'_>>(state) {
        Ok(state) => gate.hold(&arguments, &state),
        Err(err) => gate.fault(None, &StateError::Parse(err)),
    }
}

/// A limit on the size of files must fail a write and not kill the gate: dead it blocks, in audit mode, too.
fn ignore_file_size_limit() {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGXFSZ);
    // Blocked is as good as ignored, because the write then fails with EFBIG. It cannot fail for a known signal.
    let _ = signals.thread_block();
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

/// Reads standard input to its end.
fn read_state() -> Result<Vec<u8>, StateError> {
    // Past std's buffer, which is two more pages for the kernel to clear.
    let stdin = std::io::stdin().as_fd().try_clone_to_owned().map_err(StateError::Read)?;
    let mut stdin = File::from(stdin);
    let mut state = Vec::with_capacity(2048);
    (&mut stdin).take(LIMIT + 1).read_to_end(&mut state).map_err(StateError::Read)?;
    if state.len() as u64 > LIMIT {
        let _ = std::io::copy(&mut stdin, &mut std::io::sink());
        return Err(StateError::TooLarge);
    }
    Ok(state)
}

/// The policy's last word on everything.
struct Gate<'a> {
    loaded: &'a Loaded,
    paths: &'a Paths,
    mode: Mode,
}

impl<'a> Gate<'a> {
    fn new(loaded: &'a Loaded, paths: &'a Paths) -> Self {
        let mode = match loaded {
            Loaded::Good(policy) => policy.mode,
            Loaded::Bad { salvage, .. } => salvage.mode,
        };
        Self { loaded, paths, mode }
    }

    fn policy(&self) -> Result<&'a Policy, &'a (dyn Error + 'static)> {
        match self.loaded {
            Loaded::Good(policy) => Ok(policy),
            Loaded::Bad { error, .. } => Err(error),
        }
    }

    fn hold(&self, arguments: &Arguments, state: &State<'_>) -> u8 {
        let Some(bundle) = state.bundle.as_ref().map(|bundle| Path::new(bundle.as_str())) else {
            return self.fault(None, &StateError::NoBundle);
        };
        let namespaces = self.paths.namespaces();
        let request = Request {
            policy: self.policy(),
            host: &Host::Live,
            config: &facts::read_config(bundle),
            engine: arguments.engine,
            id: state.id.as_ref().map(Text::as_str),
            // A runtime always knows; where it does not say, the answer must be as sure as if it had.
            pid: Some(state.pid.unwrap_or(0)),
            runtime_handler: arguments.runtime_handler.as_deref(),
            namespaces: Some(&namespaces),
            demand: None,
        };
        // What cannot be judged has an id all the same, and that is how people find it.
        let nobody =
            Identity { engine: arguments.engine.unwrap_or(Engine::None), ..Identity::of_nobody(request.id) };
        judge(&request, |identity, outcome| self.answer(Some(identity.unwrap_or(&nobody)), outcome))
    }

    fn answer(&self, identity: Option<&Identity<'_>>, outcome: Outcome<'_>) -> u8 {
        match outcome {
            Outcome::Exempt(exempt) => {
                let because = escape(&exempt.to_string());
                self.emit(Kind::Exempt, &format!("not judged: {because}"), identity, &Summary::of(&because));
                ALLOW
            }
            Outcome::UnknownNamespace(name) => {
                let said = format!(
                    "namespace {name:?} is not known on this node yet; level from on-unknown-namespace = \"deny\" \
                     (`pss-guard namespaces import` makes it known)"
                );
                self.refuse_unjudged(identity, &escape(&said), true)
            }
            Outcome::Fault(err) => self.fault(identity, err),
            Outcome::Judged { rules, enforce, audit, warn } => {
                self.rule(identity, &rules, &enforce, &audit, warn.as_ref())
            }
        }
    }

    fn rule(
        &self,
        identity: Option<&Identity<'_>>,
        rules: &Rules<'_>,
        enforce: &Assessment<'_>,
        audit: &Assessment<'_>,
        warn: Option<&Assessment<'_>>,
    ) -> u8 {
        let mut against = rules.against(enforce).peekable();
        let first = against.peek().map(|judged| judged.control.number);
        // Controls that were spoken of at the enforce level: at the same level again they would be news to nobody.
        let mut told: Vec<&str> = Vec::new();
        if let Some(number) = first {
            let whole = || enforce.findings.iter().filter(|judged| judged.is_worth_telling());
            told.extend(whole().map(|judged| judged.control.id));
            let (kind, verb) = match self.mode {
                Mode::Enforce => (Kind::Denied, "violates"),
                Mode::Audit => (Kind::WouldDeny, "would violate"),
            };
            let message = message(verb, enforce, against);
            let summary = Summary::assessed(enforce, rules.against(enforce)).listing(whole());
            self.emit(kind, &message, identity, &summary);
            if self.mode == Mode::Enforce {
                // Denied is all there is to say: upstream, too, leaves warnings out then.
                stderr_line(&format!("pss-guard: {message}"));
                return DENIED + number;
            }
        }
        if rules.excepted(enforce).next().is_some() {
            told.extend(rules.excepted(enforce).map(|judged| judged.control.id));
            let message = message("would violate", enforce, rules.excepted(enforce));
            let summary = Summary::assessed(enforce, rules.excepted(enforce));
            self.emit(Kind::Exception, &message, identity, &summary);
        }
        let mut silent = told.is_empty();
        for (kind, assessment) in [(Kind::Audit, Some(audit)), (Kind::Warn, warn)] {
            let Some(assessment) = assessment else { continue };
            let again = ask_alike(assessment.all_demands(), enforce.all_demands());
            let news = |judged: &&Judged<'_>| !(again && told.contains(&judged.control.id));
            let shown = || assessment.findings.iter().filter(|judged| judged.is_worth_telling()).filter(news);
            if shown().next().is_some() {
                silent = false;
                let sure = shown().any(Judged::is_violation);
                let verb = if sure { "would violate" } else { "may violate" };
                let message = message(verb, assessment, shown());
                self.emit(kind, &message, identity, &Summary::assessed(assessment, shown()));
            }
        }
        if silent && self.policy().is_ok_and(|policy| policy.log_allowed) {
            let message = message("complies with", enforce, std::iter::empty());
            self.emit(Kind::Allowed, &message, identity, &Summary::assessed(enforce, std::iter::empty()));
        }
        ALLOW
    }

    /// A container that cannot be judged.
    fn fault(&self, identity: Option<&Identity<'_>>, err: &(dyn Error + 'static)) -> u8 {
        let denies = match self.loaded {
            Loaded::Good(policy) => policy.on_fault == OnFault::Deny,
            Loaded::Bad { salvage, .. } => {
                // The system must be able to repair itself: what was exempt stays exempt.
                let exempt = |name| salvage.exempt_namespaces.iter().any(|exempt| exempt == name);
                !identity.and_then(|identity| identity.namespace).is_some_and(exempt)
            }
        };
        let said = cut(&format!("cannot judge: {}", line(err)), crate::report::text::LIMIT);
        self.refuse_unjudged(identity, &said, denies)
    }

    fn refuse_unjudged(&self, identity: Option<&Identity<'_>>, said: &str, denies: bool) -> u8 {
        self.emit(Kind::Fault, said, identity, &Summary::of(said));
        if self.mode == Mode::Audit || !denies {
            return ALLOW;
        }
        stderr_line(&format!("pss-guard: {said}"));
        CANNOT_JUDGE
    }

    fn emit(&self, kind: Kind, message: &str, identity: Option<&Identity<'_>>, summary: &Summary) {
        Event {
            kind,
            mode: Some(self.mode),
            message: &cut(message, crate::report::text::LIMIT),
            identity,
            level: &summary.level,
            version: &summary.version,
            controls: &summary.controls,
            findings: &summary.findings,
            because: &summary.because,
        }
        .emit(self.paths);
    }
}

/// The parts of an event that come from an assessment.
#[derive(Default)]
struct Summary {
    level: String,
    version: String,
    controls: String,
    findings: String,
    because: String,
}

impl Summary {
    fn of(because: &str) -> Self {
        Self { because: because.to_owned(), ..Self::default() }
    }

    fn assessed<'s, 'p: 's>(
        assessment: &'s Assessment<'p>,
        shown: impl Iterator<Item = &'s Judged<'p>>,
    ) -> Self {
        let shown: Vec<&Judged<'_>> = shown.collect();
        let controls: Vec<&str> = shown.iter().map(|judged| judged.control.id).collect();
        let because: Vec<String> = assessment.asked().map(|demand| demand.because.to_string()).collect();
        Self {
            level: assessment.demand().map(|demand| demand.level.to_string()).unwrap_or_default(),
            version: assessment.demand().map(|demand| demand.version.to_string()).unwrap_or_default(),
            controls: controls.join(","),
            because: because.join(", "),
            ..Self::default()
        }
        .listing(shown.into_iter())
    }

    /// With these findings in full, which can be more than the controls that the message names.
    fn listing<'s, 'p: 's>(self, findings: impl Iterator<Item = &'s Judged<'p>>) -> Self {
        let findings: Vec<&Judged<'_>> = findings.collect();
        let findings: Vec<Finding<'_>> = findings.iter().map(|judged| Finding::of(judged)).collect();
        Self { findings: serde_json::to_string(&findings).unwrap_or_default(), ..self }
    }
}

/// Makes a panic say one line and fail closed: exit code 2, or 0 where the policy that was loaded is in audit mode,
/// which never blocks. Call it before anything else.
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(|place| format!("{}:{}", place.file(), place.line()));
        let place = place.unwrap_or_else(|| "an unknown place".to_owned());
        let text = panic.payload().downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.payload().downcast_ref::<String>().cloned()).unwrap_or_default();
        let said = format!("cannot judge: this is a bug in pss-guard ({place}): {}", escape(&text));
        let said = cut(&said, crate::report::text::LIMIT);
        stderr_line(&format!("pss-guard: {said}"));
        Event {
            kind: Kind::Fault,
            mode: None,
            message: &said,
            identity: None,
            level: "",
            version: "",
            controls: "",
            findings: "",
            because: "",
        }
        .emit(&PATHS.get().cloned().unwrap_or_default());
        let code = if AUDIT.load(Ordering::Relaxed) { ALLOW } else { CANNOT_JUDGE };
        std::process::exit(i32::from(code));
    }));
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::{Arguments, parse};
    use crate::pss::facts::Engine;

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
        let file: serde_json::Value = serde_json::from_str(include_str!("../hooks/pss-guard.json")).unwrap();
        let arguments: Vec<OsString> =
            file["hook"]["args"].as_array().unwrap().iter().map(|a| a.as_str().unwrap().into()).collect();
        assert_eq!(arguments[..2], ["pss-guard", "hook"]);
        assert!(parse(&arguments[2..]).1.is_none(), "{arguments:?}");
        assert_eq!(file["stages"], serde_json::json!(["createRuntime"]), "namespaces exist, nothing has run");
    }
}
