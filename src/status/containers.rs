//! Finds the running containers that passed the gate: it is their runtime, or a hook in their config.json.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{Asked, Checks, Recorded, Setting, State};
use crate::inspect;
use crate::inspect::identity::identify;
use crate::install::standing::Standing;
use crate::install::{GATE, Method, TOOL};
use crate::node::containers::{self, Container, Keeper, Voucher};
use crate::pss::facts::{Engine, Subject};
use crate::words::{agree, plural};

/// How a container came past the gate, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passed {
    /// The gate judged it.
    Yes,
    /// It came by the way to the gate, but the gate has not stood there without a break since.
    Unproven,
    /// It is not the gate's by the method that is installed: a sandbox where there are only hooks.
    NotAsked,
    /// It, or its pod, is older than the gate.
    Before,
    /// Its runtime is of another kind, which the gate does not cover.
    OtherKind,
    /// The gate of another engine judged it.
    OtherEngine,
    /// It should have, and did not.
    Past,
}

/// The running containers of an engine and the sandboxes of their pods, by name (or by id, where they have none).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// The gate judged them.
    pub through_the_gate: Names,
    /// They, or their pods, are older than the gate.
    pub before_the_gate: Names,
    /// They came by the way to the gate, which was taken away or changed since: what judged them is not known.
    pub unproven: Names,
    /// Their runtime is of a kind that the gate does not cover.
    pub of_another_kind: Names,
    /// They should have passed the gate, and did not.
    pub past_the_gate: Names,
}

/// What runs, by name. A sandbox has the name of its pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Names {
    names: Vec<String>,
    /// Which of them are sandboxes, which nobody counts among the containers.
    #[serde(skip)]
    sandboxes: BTreeSet<usize>,
}

/// A running container.
#[derive(Debug)]
pub(super) struct Running {
    engine: Engine,
    subject: Subject,
    namespace: Option<String>,
    name: String,
    /// The id of its pod's sandbox.
    sandbox: Option<String>,
    /// What is known of it without its config.json. Its runtime is `None` where its shim is not one of runc's kind.
    found: Container,
    hooks: Vec<Hook>,
    /// Since when the gate has stood on the way that it came; `None` where it does not.
    stood: Option<SystemTime>,
    started: SystemTime,
}

#[derive(Debug, Default, Deserialize)]
struct Hook {
    #[serde(default)]
    path: PathBuf,
    #[serde(default)]
    args: Vec<String>,
}

/// The part of config.json that tells of hooks. `null` is absence, as in Go.
#[derive(Debug, Default, Deserialize)]
struct Hooked {
    hooks: Option<Hooks>,
}

#[derive(Debug, Default, Deserialize)]
struct Hooks {
    #[serde(rename = "createRuntime")]
    create_runtime: Option<Vec<Hook>>,
    // What older engines make of it.
    prestart: Option<Vec<Hook>>,
}

/// Looks at the running containers of an engine. `since` is the start of its daemon.
pub(super) fn ask(
    setting: &Setting<'_>,
    engine: Engine,
    recorded: &Recorded,
    since: Option<SystemTime>,
    asked: &Asked,
    checks: &mut Checks,
) -> Option<Tally> {
    if !setting.processes.are_seen() {
        return None;
    }
    // An engine that has to be restarted starts containers past the gate until it is.
    let came =
        since.filter(|_| recorded.restart).map_or(recorded.written, |since| since.max(recorded.written));
    let mut tally = Tally::default();
    let (mut others, mut elsewhere) = (0, Names::default());
    let all = || asked.running.iter().flatten();
    let unreadable: Vec<&PathBuf> = asked.running.iter().filter_map(|found| found.as_ref().err()).collect();
    // containerd gives a container the runtime, with its options, that the sandbox of its pod was made with
    // (`internal/cri/server/container_create.go`, `WithRuntime`): what starts later in an older pod is like the pod.
    let by_pod = engine == Engine::Containerd && recorded.method == Method::Runtime;
    let is_old = |sandbox: &&Running| {
        let old = sandbox.passed(recorded.method, came) == Passed::Before;
        by_pod && old && sandbox.engine == engine && sandbox.subject == Subject::Sandbox
    };
    let old: BTreeSet<&str> =
        all().filter(is_old).filter_map(|sandbox| sandbox.found.id.as_deref()).collect();
    let mut would_be_judged = 0;
    for running in all() {
        let of_containerd = running.found.keeper == Keeper::Containerd;
        if engine == Engine::Containerd && of_containerd && running.engine == Engine::None {
            others += 1;
        }
        if running.engine != engine {
            continue;
        }
        let of_old_pod = running.sandbox.as_deref().is_some_and(|sandbox| old.contains(sandbox));
        let mut before = || {
            let is_exempt =
                running.namespace.as_ref().is_some_and(|name| asked.exempt.namespaces.contains(name));
            would_be_judged += usize::from(!is_exempt);
            tally.before_the_gate.push(running);
        };
        match running.passed(recorded.method, came) {
            Passed::Yes => tally.through_the_gate.push(running),
            Passed::Unproven => tally.unproven.push(running),
            Passed::NotAsked => {}
            Passed::Before => before(),
            Passed::Past if of_old_pod => before(),
            Passed::OtherKind => tally.of_another_kind.push(running),
            Passed::OtherEngine => {
                elsewhere.push(running);
                tally.past_the_gate.push(running);
            }
            Passed::Past => tally.past_the_gate.push(running),
        }
    }
    checks.add(State::Ok, "containers", format!("{} passed the gate", tally.through_the_gate.count()));
    excused(&tally, engine, by_pod, asked.enforces && would_be_judged > 0, checks);
    if others > 0 {
        let says = format!(
            "{} of other clients of containerd (ctr, nerdctl): they choose their runtime themselves",
            plural(others, "running container")
        );
        checks.add(State::Note, "containers", says);
    }
    if !elsewhere.names.is_empty() {
        let says = format!(
            "{} passed the gate of another engine, which does not know their pods; \
             `pss-guard install --engine {}` fixes it for those that start from then on",
            elsewhere.count(),
            engine.name()
        );
        checks.add(State::Wrong, "containers", says);
    }
    if tally.past_the_gate.names.len() > elsewhere.names.len() {
        let again = if runs_pods(engine) { "recreate the pods" } else { "start the containers again" };
        let why = match (recorded.method, engine) {
            (Method::Runtime, _) => {
                "the engine started them with another runtime than its configuration names; restart the engine, and then "
                    .to_owned()
            }
            (Method::Hook, Engine::CriO) => format!(
                "the engine dropped the hook, which it does silently while the gate is missing; `pss-guard install --engine \
                 {} --restart` has it read the hook again, and then ",
                engine.name()
            ),
            (Method::Hook, _) => {
                "the engine did not give them the hook; restart the engine, and then ".to_owned()
            }
        };
        let says = format!("{} newer than the gate bypassed it: {why}{again}", tally.past_the_gate.count());
        checks.add(State::Wrong, "containers", says);
    }
    if let Some(first) = unreadable.first() {
        let says = format!(
            "{} cannot be inspected, the first is {}",
            plural(unreadable.len(), "running container"),
            first.display()
        );
        checks.add(State::Unknown, "containers", says);
    }
    Some(tally)
}

impl Names {
    fn push(&mut self, running: &Running) {
        if running.subject == Subject::Sandbox {
            self.sandboxes.insert(self.names.len());
        }
        self.names.push(running.name.clone());
    }

    /// How many containers there are.
    #[must_use]
    pub fn containers(&self) -> usize {
        self.names.len() - self.sandboxes.len()
    }

    /// How many sandboxes there are.
    #[must_use]
    pub fn sandboxes(&self) -> usize {
        self.sandboxes.len()
    }

    /// Each name, and whether it is a sandbox's.
    pub fn iter(&self) -> impl Iterator<Item = (&str, bool)> {
        self.names.iter().enumerate().map(|(place, name)| (name.as_str(), self.sandboxes.contains(&place)))
    }

    /// `2 running containers and 1 sandbox`.
    fn count(&self) -> String {
        let containers = plural(self.containers(), "running container");
        let sandboxes = self.sandboxes();
        let of_pods = format!("{sandboxes} {}", agree(&sandboxes, "sandbox", "sandboxes"));
        match (self.containers(), sandboxes) {
            (_, 0) => containers,
            (0, _) => of_pods,
            _ => format!("{containers} and {of_pods}"),
        }
    }
}

/// Whether what the engine runs are pods, so that a container alone is not recreated.
const fn runs_pods(engine: Engine) -> bool {
    matches!(engine, Engine::Containerd | Engine::CriO)
}

/// Says which did not pass the gate because they could not. `by_pod`: what starts in their pods passes it by as well;
/// `is_open`: and would be refused otherwise.
fn excused(tally: &Tally, engine: Engine, by_pod: bool, is_open: bool, checks: &mut Checks) {
    let older = if by_pod {
        "bypassed the gate, because their pods are older than it; so does what starts or restarts in those \
         until they are recreated (`kubectl delete pod`, `kubectl rollout restart`)"
    } else {
        "started before the engine had the gate and never passed it; they will when they start again"
    };
    let unproven = format!(
        "started while the gate was not there as it is now (it, or the link to it, was changed since): whether it evaluated them \
         is not known; `pss-guard scan` evaluates what they are, and {} are evaluated when they are recreated",
        if runs_pods(engine) { "their pods" } else { "they" }
    );
    let other_kind = "have a runtime of another kind, which the gate does not cover";
    let state = if by_pod && is_open { State::Open } else { State::Note };
    for (state, list, says) in [
        (state, &tally.before_the_gate, older),
        (State::Note, &tally.unproven, &unproven),
        (State::Note, &tally.of_another_kind, other_kind),
    ] {
        if !list.names.is_empty() {
            checks.add(state, "containers", format!("{} {says}", list.count()));
        }
    }
}

/// Whether a running container of no pod came by the way to the gate; `None` where it is not seen.
pub(crate) fn passed(setting: &Setting<'_>, engine: Engine, id: &str) -> Option<bool> {
    let mut all = running(setting).into_iter().flatten();
    let own = all.find(|running| running.engine == engine && running.name == id)?;
    let passed = own.passed(Method::Runtime, SystemTime::UNIX_EPOCH);
    Some(matches!(passed, Passed::Yes | Passed::Unproven))
}

impl Running {
    /// Whether it is a container of this engine, and not the sandbox of a pod.
    pub(super) fn is_of(&self, engine: Engine) -> bool {
        self.engine == engine && self.subject != Subject::Sandbox
    }

    fn passed(&self, method: Method, came: SystemTime) -> Passed {
        let own = || {
            if self.stood.is_some_and(|since| since <= self.started) { Passed::Yes } else { Passed::Unproven }
        };
        if let Some((engine, _)) = self.found.entry() {
            return if engine == self.engine.name() { own() } else { Passed::OtherEngine };
        }
        if let Some(engine) = self.hooks.iter().find_map(Hook::engine) {
            // hooks.d is one folder for CRI-O and podman, and the gate knows their containers apart.
            let shared = [Engine::CriO, Engine::Podman].map(Engine::name);
            let is_own = engine == self.engine.name();
            let both = shared.contains(&engine) && shared.contains(&self.engine.name());
            return if is_own || both { own() } else { Passed::OtherEngine };
        }
        match () {
            // Its process starts a little before the engine's files can say so.
            () if self.started < came => Passed::Before,
            () if self.found.runtime.is_none() => Passed::OtherKind,
            () if method == Method::Hook && self.subject == Subject::Sandbox => Passed::NotAsked,
            () => Passed::Past,
        }
    }
}

/// Where a hook calls the gate: as it is installed, before it was a program of its own, and put there by hand.
const WAYS: [&str; 4] = [GATE, TOOL, "/usr/local/sbin/pss-guard-gate", "/usr/sbin/pss-guard-gate"];

impl Hook {
    /// The engine that a hook of ours was installed for.
    fn engine(&self) -> Option<&str> {
        let is_gate = WAYS.iter().any(|way| self.path == Path::new(way));
        let ours = is_gate && self.args.get(1)? == "hook";
        let place = self.args.iter().position(|argument| argument == "--engine")?;
        ours.then(|| self.args.get(place + 1).map(String::as_str))?
    }
}

/// All running containers but those of users, which no gate of root's engines stands in front of; the path of those that
/// cannot be looked at.
pub(super) fn running(setting: &Setting<'_>) -> Vec<Result<Running, PathBuf>> {
    let found = containers::find(&setting.live, &setting.processes, Voucher::Root);
    let closed = found.closed.into_iter().map(|closed| Err(closed.path));
    let standing = Standing::of(&setting.live);
    let look = |found| look(&standing, found);
    found.containers.into_iter().map(look).chain(closed).collect()
}

fn look(standing: &Standing<'_>, found: Container) -> Result<Running, PathBuf> {
    let (config, bytes) = inspect::read_config(&found.bundle).map_err(|_| found.bundle.clone())?;
    let spec = inspect::parse(&config, &bytes).map_err(|_| config.clone())?;
    let hooked: Hooked = serde_json::from_slice(&bytes).map_err(|_| config.clone())?;
    let identity =
        identify(&spec, None, Some(&found.bundle), found.id.as_deref()).map_err(|_| config.clone())?;
    let namespace = identity.namespace.map(str::to_owned);
    let words = [identity.namespace, identity.pod, identity.container];
    let words: Vec<&str> = words.into_iter().flatten().collect();
    let name = if words.is_empty() { found.id.clone().unwrap_or_default() } else { words.join("/") };
    let sandbox = identity.sandbox.map(str::to_owned);
    let hooks = hooked.hooks.unwrap_or_default();
    let hooks: Vec<Hook> = [hooks.create_runtime, hooks.prestart].into_iter().flatten().flatten().collect();
    let stood = match &found.runtime {
        Some(entry) if found.entry().is_some() => standing.entry(entry),
        // Of a gate that was put elsewhere by hand nothing is known.
        _ => standing.gate().filter(|_| hooks.iter().any(|hook| hook.path == Path::new(GATE))),
    };
    let started = found.process.map_or(SystemTime::UNIX_EPOCH, |first| first.started);
    Ok(Running {
        engine: identity.engine,
        subject: identity.subject,
        namespace,
        name,
        sandbox,
        found,
        hooks,
        stood,
        started,
    })
}
