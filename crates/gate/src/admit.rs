//! Admits a container or refuses it, for the hook and the wrapper alike: an outcome becomes events and one response.

use std::cell::OnceCell;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::event::{Event, Kind};
use crate::finding::Finding;
use crate::inspect::checkpoint::Restore;
use crate::inspect::evaluate::{self, Exec, Outcome, Pods, Request, evaluate};
use crate::inspect::host::Host;
use crate::inspect::identity::Identity;
use crate::inspect::spec::Spec;
use crate::message::{LIMIT, cut, escape, line, message};
use crate::mode;
use crate::mode::temporary::State;
use pss::Origin;
use pss::facts::Engine;
use pss_guard_core::cluster::Told;
use pss_guard_core::decision::{ControlResult, Evaluation, Rules};
use pss_guard_core::files::FileError;
use pss_guard_core::level::cache::{Loaded, load, salvaged};
use pss_guard_core::level::policy::OnFault;
use pss_guard_core::level::sandboxes::{Unseen, are_seen};
use pss_guard_core::level::{Mode, Policy, ask_alike};
use pss_guard_core::paths::Paths;

/// Exit code of a container that may start.
pub const ALLOW: u8 = 0;
/// Exit code of a container that could not be evaluated.
pub const CANNOT_JUDGE: u8 = 2;
/// Added to the number of the first violated control: crun shows nothing of a hook but its path and this code.
pub const DENIED: u8 = 10;

/// Whether a container that cannot be evaluated is refused, once that is known. Read by the panic hook.
static BLOCKS: OnceLock<bool> = OnceLock::new();

/// Where the files are. Read by the panic hook.
static PATHS: OnceLock<Paths> = OnceLock::new();

/// May it start?
#[derive(Debug, PartialEq, Eq)]
pub enum Response {
    /// It may.
    Allow,
    /// It may not.
    Deny {
        /// What people read: one line, without the program's name.
        line: String,
        /// The exit code that says why.
        exit_code: u8,
    },
}

/// What is known of a container before its config.json is read.
#[derive(Clone, Copy, Debug)]
pub struct Invocation<'a> {
    /// The engine, as the installer told.
    pub engine: Option<Engine>,
    /// The engine's name for the pod's runtime class, as the installer told.
    pub runtime_handler: Option<&'a str>,
    /// The container's id.
    pub id: Option<&'a str>,
    /// Its first process; 0 where there is none yet.
    pub pid: i32,
    /// Whether the gate is active as the engine's runtime, or else as a hook.
    pub as_runtime: bool,
    /// The checkpoint that it is to be restored from.
    pub restore: Option<&'a Restore<'a>>,
}

/// What is to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    Container,
    /// A process that joins one.
    Exec,
    /// A container from its checkpoint.
    Restore,
}

impl Start {
    fn of(caller: &Invocation<'_>, exec: Option<&Exec<'_>>) -> Self {
        match (exec, caller.restore) {
            (Some(_), _) => Self::Exec,
            (None, Some(_)) => Self::Restore,
            (None, None) => Self::Container,
        }
    }
}

/// The policy, and everybody who has to be told.
#[derive(Debug)]
pub struct Gate {
    loaded: Loaded,
    paths: Paths,
    mode: Mode,
    /// Why the file of a temporary mode is ignored, `""` if it is not.
    ignored: String,
    is_exec: bool,
    /// Why the facts of the container's pod do not count, once that is known: each event says so.
    facts_fault: OnceCell<String>,
}

impl Gate {
    /// Loads the policy. Before everything else: in audit mode nothing that comes after may block.
    #[must_use]
    pub fn open(paths: &Paths) -> Self {
        Self::open_by(paths, load)
    }

    fn open_by(paths: &Paths, load: impl FnOnce(&Paths) -> Loaded) -> Self {
        let _ = PATHS.set(paths.clone());
        let loaded = load(paths);
        let in_force = mode::in_force(paths, loaded.mode());
        let mode = in_force.mode;
        let _ = BLOCKS.set(blocks(&loaded, mode));
        in_force.settle(paths);
        let ignored = match &in_force.temporary {
            State::Ignored(why) => line(why),
            State::None | State::Holds(_) | State::Ended(..) => String::new(),
        };
        Self { loaded, paths: paths.clone(), mode, ignored, is_exec: false, facts_fault: OnceCell::new() }
    }

    /// For a command that is to join a container: its events say that they are not of a start.
    #[must_use]
    pub fn for_exec(self) -> Self {
        Self { is_exec: true, ..self }
    }

    /// The policy, or why it cannot be used.
    pub fn policy(&self) -> Result<&Policy, &(dyn Error + 'static)> {
        self.loaded.policy().map_err(|error| error as _)
    }

    /// Evaluates a container, or a process that is to join one, against its required level.
    #[must_use]
    pub fn admit(
        &self,
        caller: &Invocation<'_>,
        config: &Result<(PathBuf, Vec<u8>), FileError>,
        exec: Option<&Exec<'_>>,
    ) -> Response {
        self.evaluate(caller, config, exec, |identity, outcome| {
            // What cannot be evaluated has an id all the same, and that is how people find it.
            let nobody =
                Identity { engine: caller.engine.unwrap_or(Engine::None), ..Identity::of_nobody(caller.id) };
            self.answer(caller, identity.unwrap_or(&nobody), outcome, Start::of(caller, exec))
        })
    }

    /// Writes down, once, that somebody executes commands in a container that would not start today: it is older than
    /// the gate, or than the level. `first` says whether this is the first time; it is asked only if there is something
    /// to say.
    pub fn audit_exec_target(
        &self,
        caller: &Invocation<'_>,
        config: &Result<(PathBuf, Vec<u8>), FileError>,
        first: impl FnOnce() -> bool,
    ) {
        self.evaluate(caller, config, None, |identity, outcome| {
            let Outcome::Evaluated { rules, enforce, .. } = outcome else { return };
            if rules.denying(&enforce).next().is_none() || !first() {
                return;
            }
            let message = message("exec into a container that violates", &enforce, rules.denying(&enforce));
            let summary = Summary::assessed(&enforce, rules.denying(&enforce));
            self.emit(Kind::WouldDeny, &message, identity, &summary);
        });
    }

    fn evaluate<R>(
        &self,
        caller: &Invocation<'_>,
        config: &Result<(PathBuf, Vec<u8>), FileError>,
        exec: Option<&Exec<'_>>,
        then: impl FnOnce(Option<&Identity<'_>>, Outcome<'_>) -> R,
    ) -> R {
        let namespaces = self.paths.namespaces();
        evaluate(&self.request(caller, config, exec, &namespaces), then)
    }

    /// Whether nothing is asked of a container: then nothing that a command does to it is looked at.
    #[must_use]
    pub fn asks_nothing(&self, caller: &Invocation<'_>, path: &Path, spec: &Spec<'_>) -> bool {
        let (nothing, namespaces) = (Ok((PathBuf::new(), Vec::new())), self.paths.namespaces());
        evaluate::asks_nothing(&self.request(caller, &nothing, None, &namespaces), path, spec)
    }

    fn request<'a>(
        &'a self,
        caller: &Invocation<'a>,
        config: &'a Result<(PathBuf, Vec<u8>), FileError>,
        exec: Option<&'a Exec<'a>>,
        namespaces: &'a Path,
    ) -> Request<'a> {
        Request {
            policy: self.policy(),
            host: &Host::Live,
            config,
            exec,
            restore: caller.restore,
            engine: caller.engine,
            id: caller.id,
            // A runtime always knows; where it does not say, the answer must be as sure as if it had.
            pid: Some(caller.pid),
            runtime_handler: caller.runtime_handler,
            sees_sandboxes: caller.engine.is_some_and(|engine| are_seen(engine, caller.as_runtime)),
            namespaces: Some(namespaces),
            pods: Pods::beside(namespaces),
            demand: None,
            sandboxes: None,
        }
    }

    fn answer(
        &self,
        caller: &Invocation<'_>,
        identity: &Identity<'_>,
        outcome: Outcome<'_>,
        start: Start,
    ) -> Response {
        match outcome {
            // Probes run every few seconds: that their container is exempt was said when it started.
            Outcome::Exempt(_) if start == Start::Exec => Response::Allow,
            Outcome::Exempt(exempt) => {
                let because = escape(&exempt.to_string());
                self.emit(Kind::Exempt, &because, Some(identity), &Summary::of(&because));
                Response::Allow
            }
            Outcome::UnknownNamespace(name) => {
                let what = format!("namespace {name:?} is not known on this node yet");
                self.refuse_unknown(caller, identity, &what, "on-unknown-namespace", "namespaces")
            }
            Outcome::MissingFacts(whose, error) => {
                let what = match error {
                    Some(error) => format!("facts of pod {whose} do not count: {}", line(&error)),
                    None => format!("this node has no facts of pod {whose} yet"),
                };
                self.refuse_unknown(caller, identity, &what, "on-missing-facts", "pods")
            }
            Outcome::Fault(err) => self.fault(Some(identity), err),
            Outcome::Unread(err) => {
                let said = line(err);
                self.emit(Kind::Fault, &said, Some(identity), &Summary::of(&said));
                Response::Allow
            }
            Outcome::Evaluated { rules, enforce, audit, warn, facts_fault } => {
                if let Some(error) = facts_fault {
                    let _ = self.facts_fault.set(line(&error));
                }
                self.rule(identity, &rules, &enforce, &audit, warn.as_ref(), start)
            }
        }
    }

    /// Refuses a pod for want of knowledge, because the policy says so.
    fn refuse_unknown(
        &self,
        caller: &Invocation<'_>,
        identity: &Identity<'_>,
        what: &str,
        setting: &str,
        import: &str,
    ) -> Response {
        // Where no sandbox is seen the setting is wrong. What it asks is done all the same: to start what nobody knows would
        // be looser than told, and to refuse everything would stop the node.
        let unseen =
            self.policy().ok().and_then(|policy| Unseen::of(policy, identity.engine, caller.as_runtime));
        let because = match unseen {
            Some(unseen) => line(&unseen),
            None => format!("level from {setting} = \"deny\""),
        };
        let said = escape(&format!("{what}; {because} (`pss-guard {import} import` makes it known)"));
        self.refuse_unevaluated(Some(identity), &said, said.clone(), true)
    }

    fn rule(
        &self,
        identity: &Identity<'_>,
        rules: &Rules<'_>,
        enforce: &Evaluation<'_>,
        audit: &Evaluation<'_>,
        warn: Option<&Evaluation<'_>>,
        start: Start,
    ) -> Response {
        let [violates, may_violate] = match start {
            Start::Container => ["violates", "may violate"],
            Start::Exec => ["exec violates", "exec may violate"],
            Start::Restore => ["restore violates", "restore may violate"],
        };
        let identity = Some(identity);
        let mut against = rules.denying(enforce).peekable();
        let first = against.peek().map(|result| result.control.number);
        // Controls that were spoken of at the enforce level: at the same level again they would be news to nobody.
        let mut told: Vec<&str> = Vec::new();
        if let Some(number) = first {
            let whole = || enforce.findings.iter().filter(|result| result.is_worth_telling());
            told.extend(whole().map(|result| result.control.id));
            let kind = match self.mode {
                Mode::Enforce => Kind::Denied,
                Mode::Audit => Kind::WouldDeny,
            };
            let message = message(violates, enforce, against);
            let summary = Summary::assessed(enforce, rules.denying(enforce)).listing(whole());
            self.emit(kind, &message, identity, &summary);
            if self.mode == Mode::Enforce {
                // Denied is all there is to say: upstream, too, leaves warnings out then.
                return Response::Deny { line: message, exit_code: DENIED + number };
            }
        }
        if rules.excepted(enforce).next().is_some() {
            told.extend(rules.excepted(enforce).map(|result| result.control.id));
            let message = message(violates, enforce, rules.excepted(enforce));
            let summary = Summary::assessed(enforce, rules.excepted(enforce));
            self.emit(Kind::Exception, &message, identity, &summary);
        }
        let mut silent = told.is_empty() && start != Start::Exec;
        for (kind, assessment) in [(Kind::Audit, Some(audit)), (Kind::Warn, warn)] {
            let Some(assessment) = assessment else { continue };
            let again = ask_alike(assessment.all_demands(), enforce.all_demands());
            let news = |result: &&ControlResult<'_>| !(again && told.contains(&result.control.id));
            let shown = || assessment.findings.iter().filter(|result| result.is_worth_telling()).filter(news);
            if shown().next().is_some() {
                silent = false;
                // Of upstream's level, if it is spoken of: what is ours is always sure.
                let upstreams = |result: &&ControlResult<'_>| result.control.origin == Origin::Upstream;
                let is_ours_alone = !shown().any(|result| upstreams(&result));
                let sure =
                    shown().any(|result| (is_ours_alone || upstreams(&result)) && result.is_violation());
                let verb = if sure { violates } else { may_violate };
                let message = message(verb, assessment, shown());
                self.emit(kind, &message, identity, &Summary::assessed(assessment, shown()));
            }
        }
        // Facts that do not count are logged, even for a start that leaves no other event.
        let says_all =
            self.facts_fault.get().is_some() || self.policy().is_ok_and(|policy| policy.log_allowed);
        if silent && says_all {
            let message = message("complies with", enforce, std::iter::empty());
            self.emit(Kind::Allowed, &message, identity, &Summary::assessed(enforce, std::iter::empty()));
        }
        Response::Allow
    }

    /// A container that cannot be evaluated.
    #[must_use]
    pub fn fault(&self, identity: Option<&Identity<'_>>, err: &(dyn Error + 'static)) -> Response {
        let denies = match &self.loaded {
            Loaded::Good(policy) | Loaded::Kept { policy, .. } => policy.on_fault == OnFault::Deny,
            Loaded::Bad { salvage, .. } => {
                // The system must be able to repair itself: what was exempt stays exempt.
                let exempt = |name| salvage.exempt_namespaces.iter().any(|exempt| exempt == name);
                !identity.and_then(|identity| identity.namespace).is_some_and(exempt)
            }
        };
        let said = line(err);
        self.refuse_unevaluated(identity, &said, cut(&format!("cannot judge: {said}"), LIMIT), denies)
    }

    /// What is said of it goes into the journal, the line to the runtime.
    fn refuse_unevaluated(
        &self,
        identity: Option<&Identity<'_>>,
        said: &str,
        line: String,
        denies: bool,
    ) -> Response {
        self.emit(Kind::Fault, said, identity, &Summary::of(said));
        if self.mode == Mode::Audit || !denies {
            return Response::Allow;
        }
        Response::Deny { line, exit_code: CANNOT_JUDGE }
    }

    fn emit(&self, kind: Kind, message: &str, identity: Option<&Identity<'_>>, summary: &Summary) {
        // Of a policy that has no good text every event speaks in its own words.
        let fault = match &self.loaded {
            Loaded::Kept { error, .. } => line(error),
            Loaded::Good(_) | Loaded::Bad { .. } => String::new(),
        };
        let mut note = String::new();
        let facts_fault = self.facts_fault.get().map_or("", String::as_str);
        let cluster_fault = match self.loaded.policy().map(|policy| &policy.told) {
            Ok(Told::Unusable(error)) => line(&**error),
            _ => String::new(),
        };
        for (what, why) in [
            ("the last good policy is in force", &*fault),
            ("the cluster's version does not count", &cluster_fault),
            ("the temporary mode is ignored", &self.ignored),
            ("facts of the pod do not count", facts_fault),
        ] {
            if !why.is_empty() {
                note += &cut(&format!("; {what}: {why}"), LIMIT / 4);
            }
        }
        Event {
            kind,
            mode: Some(self.mode),
            message: &(cut(message, LIMIT - note.len()) + &note),
            identity,
            level: &summary.level,
            version: &summary.version,
            controls: &summary.controls,
            findings: &summary.findings,
            because: &summary.because,
            policy_fault: &fault,
            is_exec: self.is_exec,
            change: None,
        }
        .emit(&self.paths);
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
        assessment: &'s Evaluation<'p>,
        shown: impl Iterator<Item = &'s ControlResult<'p>>,
    ) -> Self {
        let shown: Vec<&ControlResult<'_>> = shown.collect();
        let controls: Vec<&str> = shown.iter().map(|result| result.control.id).collect();
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
    fn listing<'s, 'p: 's>(self, findings: impl Iterator<Item = &'s ControlResult<'p>>) -> Self {
        let findings: Vec<&ControlResult<'_>> = findings.collect();
        let findings: Vec<Finding<'_>> = findings.iter().map(|result| Finding::of(result)).collect();
        Self { findings: serde_json::to_string(&findings).unwrap_or_default(), ..self }
    }
}

/// Makes a panic say one line and fail closed: `end` gets that line and exit code 2, or 0 where the node is in audit
/// mode, which never blocks, or the policy lets start what cannot be evaluated; it says what the exit code is. Call it before
/// anything else; `paths` is where the policy is looked for if nobody has come to that yet.
pub fn install_panic_hook(paths: fn() -> Paths, end: fn(&str, u8) -> u8) {
    std::panic::set_hook(Box::new(move |panic| {
        let had_begun = PATHS.get().is_some();
        let paths = PATHS.get_or_init(paths);
        let place = panic.location().map(|place| format!("{}:{}", place.file(), place.line()));
        let place = place.unwrap_or_else(|| "an unknown place".to_owned());
        let text = panic.payload().downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.payload().downcast_ref::<String>().cloned()).unwrap_or_default();
        let said = format!("this is a bug in pss-guard ({place}): {}", escape(&text));
        Event {
            kind: Kind::Fault,
            mode: None,
            message: &cut(&said, LIMIT),
            identity: None,
            level: "",
            version: "",
            controls: "",
            findings: "",
            because: &cut(&said, LIMIT),
            policy_fault: "",
            is_exec: false,
            change: None,
        }
        .emit(paths);
        // Comes last: a panic in here aborts, which is an end that blocks, too.
        let code = if blocks_after_panic(paths, had_begun) { CANNOT_JUDGE } else { ALLOW };
        let line = cut(&format!("cannot judge: {said}"), LIMIT);
        std::process::exit(i32::from(end(&line, code)));
    }));
}

fn blocks(loaded: &Loaded, mode: Mode) -> bool {
    let lets_start = loaded.policy().is_ok_and(|policy| policy.on_fault == OnFault::Allow);
    mode == Mode::Enforce && !lets_start
}

/// The same, whatever it was that panicked. A break-glass is asked for before anything of the policy is read, because the
/// policy may be what cannot be coped with.
fn blocks_after_panic(paths: &Paths, had_begun: bool) -> bool {
    if let Some(blocks) = BLOCKS.get() {
        return *blocks;
    }
    match mode::for_a_time(paths) {
        Some(Mode::Audit) => false,
        // `load` has just panicked: what a policy that cannot be used leaves behind has to do.
        mode if had_begun => mode.unwrap_or_else(|| salvaged(paths).mode) == Mode::Enforce,
        mode => {
            let loaded = load(paths);
            blocks(&loaded, mode.unwrap_or(loaded.mode()))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use super::{Gate, install_panic_hook};
    use crate::mode::temporary::Temporary;
    use pss_guard_core::level::{Mode, cache};
    use pss_guard_core::paths::Paths;

    const ROOT: &str = "PSS_GUARD_TEST_PANIC_IN_THE_POLICY";

    /// Not a test of its own: the process that panics for the test below, while it loads the policy.
    #[test]
    fn panicking_process() {
        if std::env::var_os(ROOT).is_some() {
            let paths = || Paths::under(Path::new(&std::env::var_os(ROOT).unwrap_or_default()));
            install_panic_hook(paths, |_, code| code);
            let _ = Gate::open_by(&paths(), |_| panic!("a bug"));
        }
    }

    #[test]
    fn a_panic_while_the_policy_is_loaded_blocks_only_where_nobody_asked_for_less() {
        let (audit, enforce) = ("mode = 'audit'\n", "mode = 'enforce'\n");
        #[rustfmt::skip]
        let rows = [
            // The last good policy, the policy, a mode for a time.
            ("", audit, None, 0),
            ("", enforce, None, 2),
            ("", "nonsense = 1\nmode = 'audit'\n", None, 0),
            // It does not say so itself.
            ("", "", None, 2),
            ("", "mode = 'audit'\n[", None, 2),
            // As with any policy that cannot be used, the last good one counts.
            (audit, "[", None, 0),
            (audit, enforce, None, 0),
            (enforce, "[", None, 2),
            ("", enforce, Some(Mode::Audit), 0),
            ("", "[", Some(Mode::Audit), 0),
            ("", audit, Some(Mode::Enforce), 2),
            (audit, audit, Some(Mode::Enforce), 2),
        ];
        for (before, policy, temporary, code) in rows {
            let directory = tempfile::tempdir().unwrap();
            let paths = Paths::under(directory.path());
            fs::create_dir_all(paths.policy().parent().unwrap()).unwrap();
            if !before.is_empty() {
                fs::write(paths.policy(), before).unwrap();
                let _ = cache::load(&paths);
                assert!(paths.policy_cache().exists());
            }
            fs::write(paths.policy(), policy).unwrap();
            if let Some(mode) = temporary {
                let temporary = Temporary::from_now(mode, Duration::from_secs(60), "x", "").unwrap();
                fs::create_dir_all(paths.temporary_mode().parent().unwrap()).unwrap();
                fs::write(paths.temporary_mode(), serde_json::to_string(&temporary).unwrap()).unwrap();
            }
            let test = std::env::current_exe().unwrap();
            let mut child = Command::new(test);
            child.args(["--exact", "admit::tests::panicking_process", "--nocapture"]);
            let done = child.env(ROOT, directory.path()).stdin(Stdio::null()).output().unwrap();
            assert_eq!(done.status.code(), Some(code), "{before:?}, {policy:?}, {temporary:?}: {done:?}");
            let events = fs::read_to_string(paths.decisions()).unwrap();
            let last = events.lines().last().unwrap_or_default();
            assert!(last.contains("this is a bug in pss-guard") && last.contains("\"fault\""), "{events}");
        }
    }
}
