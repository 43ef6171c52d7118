//! Which running containers passed the gate?
//!
//! Asked of what holds them: a shim of containerd works in the bundle's folder and writes the runtime that it calls
//! into it (`WriteRuntime` in `cmd/containerd-shim-runc-v2/runc/container.go`); conmon has the bundle, the runtime and
//! the file with the process id among its arguments (CRI-O `internal/oci/runtime_oci.go`, podman
//! `libpod/oci_conmon_common.go`). A container that passed has the gate as its runtime, or as a hook in its config.json.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{Checks, Recorded, Setting, State, s};
use crate::facts;
use crate::facts::identity::identify;
use crate::files::{self, LIMIT};
use crate::install::Method;
use crate::processes::Processes;
use crate::pss::facts::{Engine, Subject};

/// How a container came past the gate, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passed {
    /// The gate judged it.
    Yes,
    /// It is not the gate's by the method that is installed: a sandbox where there are only hooks.
    NotAsked,
    /// It is older than the gate.
    Before,
    /// Its runtime is of another kind, which the gate does not stand in front of.
    OtherKind,
    /// The gate of another engine judged it.
    OtherEngine,
    /// It should have, and did not.
    Past,
}

/// The running containers of an engine, by name (or by id, where they have none).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// The gate judged them.
    pub through_the_gate: Vec<String>,
    /// They are older than the gate.
    pub before_the_gate: Vec<String>,
    /// Their runtime is of a kind that the gate does not stand in front of.
    pub of_another_kind: Vec<String>,
    /// They should have passed the gate, and did not.
    pub past_the_gate: Vec<String>,
}

/// A running container.
#[derive(Debug)]
struct Running {
    engine: Engine,
    subject: Subject,
    name: String,
    /// The program that started it; `None` where its shim is not one of runc's kind.
    runtime: Option<PathBuf>,
    hooks: Vec<Hook>,
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
    checks: &mut Checks,
) -> Option<Tally> {
    if !setting.processes.are_seen() {
        return None;
    }
    // An engine that has to be restarted starts containers past the gate until it is.
    let came =
        since.filter(|_| recorded.restart).map_or(recorded.written, |since| since.max(recorded.written));
    let mut tally = Tally::default();
    let (mut others, mut elsewhere, mut unreadable) = (0, 0, Vec::new());
    for found in running(setting) {
        let running = match found {
            Ok(running) => running,
            Err(path) => {
                unreadable.push(path);
                continue;
            }
        };
        if engine == Engine::Containerd && running.engine == Engine::None {
            others += 1;
        }
        if running.engine != engine {
            continue;
        }
        match running.passed(recorded.method, came) {
            Passed::Yes => tally.through_the_gate.push(running.name),
            Passed::NotAsked => {}
            Passed::Before => tally.before_the_gate.push(running.name),
            Passed::OtherKind => tally.of_another_kind.push(running.name),
            Passed::OtherEngine => {
                elsewhere += 1;
                tally.past_the_gate.push(running.name);
            }
            Passed::Past => tally.past_the_gate.push(running.name),
        }
    }
    let count = |list: &[String]| format!("{} running container{}", list.len(), s(list.len()));
    checks.add(State::Ok, "containers", format!("{} passed the gate", count(&tally.through_the_gate)));
    let mut open = |list: &[String], says: &str| {
        if !list.is_empty() {
            checks.add(State::Open, "containers", format!("{} {says}", count(list)));
        }
    };
    open(
        &tally.before_the_gate,
        "started before the engine had the gate and never passed it; they will when they start again",
    );
    open(&tally.of_another_kind, "have a runtime of another kind, which the gate does not stand in front of");
    if others > 0 {
        let says = format!(
            "{others} running container{} of other clients of containerd (ctr, nerdctl): they choose their runtime themselves",
            s(others)
        );
        checks.add(State::Open, "containers", says);
    }
    if elsewhere > 0 {
        let says = format!(
            "{elsewhere} running container{} passed the gate of another engine, which does not know their pods; \
             `pss-guard install --engine {}` mends it for those that start from then on",
            s(elsewhere),
            engine.name()
        );
        checks.add(State::Wrong, "containers", says);
    }
    if tally.past_the_gate.len() > elsewhere {
        let why = match recorded.method {
            Method::Runtime => "the engine started them with another runtime than its configuration names",
            Method::Hook => {
                "the engine dropped the hook, which it does without a word while the gate is missing"
            }
        };
        let says = format!(
            "{} newer than the gate did not pass it: {why}; restart the engine, and then the containers",
            count(&tally.past_the_gate)
        );
        checks.add(State::Wrong, "containers", says);
    }
    if let Some(first) = unreadable.first() {
        let says = format!(
            "{} running containers cannot be looked at, the first is {}",
            unreadable.len(),
            first.display()
        );
        checks.add(State::Unknown, "containers", says);
    }
    Some(tally)
}

/// Whether a running container of no pod passed the gate; `None` where it is not seen.
pub(crate) fn passed(setting: &Setting<'_>, engine: Engine, id: &str) -> Option<bool> {
    let mut all = running(setting).into_iter().flatten();
    let own = all.find(|running| running.engine == engine && running.name == id)?;
    Some(own.passed(Method::Runtime, SystemTime::UNIX_EPOCH) == Passed::Yes)
}

impl Running {
    fn passed(&self, method: Method, came: SystemTime) -> Passed {
        let entries = Path::new("/var/lib/pss-guard/runtimes");
        let entry = self.runtime.as_ref().and_then(|runtime| runtime.strip_prefix(entries).ok());
        if let Some(entry) = entry {
            let own = entry.starts_with(self.engine.name());
            return if own { Passed::Yes } else { Passed::OtherEngine };
        }
        if let Some(engine) = self.hooks.iter().find_map(Hook::engine) {
            // hooks.d is one folder for CRI-O and podman, and the gate knows their containers apart.
            let shared = [Engine::CriO, Engine::Podman].map(Engine::name);
            let own = engine == self.engine.name();
            let both = shared.contains(&engine) && shared.contains(&self.engine.name());
            return if own || both { Passed::Yes } else { Passed::OtherEngine };
        }
        match () {
            // Its process starts a little before the engine's files can say so.
            () if self.started < came => Passed::Before,
            () if self.runtime.is_none() => Passed::OtherKind,
            () if method == Method::Hook && self.subject == Subject::Sandbox => Passed::NotAsked,
            () => Passed::Past,
        }
    }
}

impl Hook {
    /// The engine that a hook of ours was installed for.
    fn engine(&self) -> Option<&str> {
        let ours = self.path.file_name()? == "pss-guard" && self.args.get(1)? == "hook";
        let place = self.args.iter().position(|argument| argument == "--engine")?;
        ours.then(|| self.args.get(place + 1).map(String::as_str))?
    }
}

/// All running containers; the path of those that cannot be looked at.
fn running(setting: &Setting<'_>) -> Vec<Result<Running, PathBuf>> {
    let processes = &setting.processes;
    let mut all = Vec::new();
    for task in tasks(setting) {
        let pid = task.join("init.pid");
        let Some(started) = alive(processes, &pid) else { continue };
        // The shim of runc writes it always, if only as an empty file.
        let runtime = files::read(&task.join("runtime"), LIMIT).ok().map(path);
        all.push(look(&task, runtime.map(|runtime| behind_script(setting, runtime)), started));
    }
    for mut monitor in processes.running(&["conmon"]) {
        // What follows is a command of podman's, which has options of the same names.
        let own = monitor.arguments.iter().take_while(|argument| *argument != "--exit-command").count();
        monitor.arguments.truncate(own);
        let option = |short: &str, long: &str| monitor.option(&[short, long]);
        // Not those of `exec`.
        if monitor.has("-e") || monitor.has("--exec") {
            continue;
        }
        let Some((bundle, pid)) = option("-b", "--bundle").zip(option("-p", "--container-pidfile")) else {
            continue;
        };
        let Some(started) = alive(processes, &setting.live.place(Path::new(&pid))) else { continue };
        let runtime = option("-r", "--runtime").map(PathBuf::from);
        all.push(look(&setting.live.place(Path::new(&bundle)), runtime, started));
    }
    all
}

/// The bundles of containerd: `<state>/io.containerd.runtime.v2.task/<client>/<id>`. The shims tell where the state is.
fn tasks(setting: &Setting<'_>) -> Vec<PathBuf> {
    let tasks = "io.containerd.runtime.v2.task";
    let mut folders: BTreeSet<PathBuf> = ["/run/containerd", "/run/docker/containerd/daemon"]
        .map(|state| setting.live.place(Path::new(state)).join(tasks))
        .into();
    for shim in setting.processes.running(&["containerd-shim-runc-v2", "containerd-shim"]) {
        let folder = shim.folder().and_then(|bundle| Some(bundle.parent()?.parent()?.to_owned()));
        folders.extend(folder.filter(|folder| folder.ends_with(tasks)));
    }
    let inside = |folder: &Path| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        // containerd renames a bundle to `.ID` before it removes it.
        let visible = entries.filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."));
        visible.map(|entry| entry.path()).collect::<BTreeSet<_>>()
    };
    let clients = folders.iter().flat_map(|folder| inside(folder));
    clients.flat_map(|client| inside(&client)).collect()
}

/// Since when the process in a file runs; `None` if it does not. A process that is younger than the file is another
/// one, which got the same id.
fn alive(processes: &Processes, file: &Path) -> Option<SystemTime> {
    let text = String::from_utf8(files::read(file, 64).ok()?).ok()?;
    let started = processes.started(text.trim().parse().ok()?)?;
    let written = std::fs::metadata(file).and_then(|file| file.modified()).ok()?;
    (started <= written + Duration::from_secs(1)).then_some(started)
}

fn path(bytes: Vec<u8>) -> PathBuf {
    use std::os::unix::ffi::OsStringExt as _;
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

/// The entry in a script that dockerd makes of a runtime with arguments (`daemon/runtime_unix.go`), else the runtime.
fn behind_script(setting: &Setting<'_>, runtime: PathBuf) -> PathBuf {
    if !runtime.to_string_lossy().contains("/docker/runtimes/") {
        return runtime;
    }
    let text = files::read(&setting.live.place(&runtime), 64 << 10).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let mut words = text.split(|c: char| c.is_whitespace() || matches!(c, '"' | '\''));
    words.find(|word| word.starts_with("/var/lib/pss-guard/runtimes/")).map_or(runtime, PathBuf::from)
}

fn look(bundle: &Path, runtime: Option<PathBuf>, started: SystemTime) -> Result<Running, PathBuf> {
    let (config, bytes) = facts::read_config(bundle).map_err(|_| bundle.to_owned())?;
    let spec = facts::parse(&config, &bytes).map_err(|_| config.clone())?;
    let hooked: Hooked = serde_json::from_slice(&bytes).map_err(|_| config.clone())?;
    let id = bundle.file_name().filter(|name| *name != "userdata").or_else(|| bundle.parent()?.file_name());
    let id = id.and_then(|id| id.to_str());
    let identity = identify(&spec, None, Some(bundle), id).map_err(|_| config.clone())?;
    let words = [identity.namespace, identity.pod, identity.container];
    let words: Vec<&str> = words.into_iter().flatten().collect();
    let name = if words.is_empty() { id.unwrap_or_default().to_owned() } else { words.join("/") };
    let hooks = hooked.hooks.unwrap_or_default();
    let hooks = [hooks.create_runtime, hooks.prestart].into_iter().flatten().flatten().collect();
    Ok(Running { engine: identity.engine, subject: identity.subject, name, runtime, hooks, started })
}
