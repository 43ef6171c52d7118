//! `pss-guard install` and `uninstall`: puts the gate in front of an engine's containers, and takes it away.

use std::error::Error;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use similar::TextDiff;

use super::manual::manual;
use super::{FAILED, OK, faults_of_anchors, line};
use crate::install::detect::{self, detect};
use crate::install::node::Live;
use crate::install::sandboxes::unseen_by;
use crate::install::transaction::{Manifest, Store, Strip, Undone, installations, manifest, strip_all};
use crate::install::verify::{Outcome, Patience, Restart, Verification, restart};
use crate::install::{GATE, Installer, Method, Plan, Request, engines, place, system};
use crate::level::cache::{self, LoadError};
use crate::paths::Paths;
use crate::processes::{Process, Processes};
use crate::pss::facts::Engine;
use crate::report::text::escape;

/// Exit code: the gate is installed, but nobody has seen it work.
pub const UNPROVEN: u8 = 1;

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// For which engine; none means all that are there.
    pub engine: Option<Engine>,
    /// By which method, where it is not the engine's usual one.
    pub method: Option<Method>,
    /// The engine's configuration file, where it is not the usual one.
    pub config: Option<&'a Path>,
    /// Show what would change, and change nothing.
    pub dry_run: bool,
    /// Restart the engine afterwards, and see whether it works.
    pub restart: bool,
    /// How to restart it, where systemd is not to be asked.
    pub restart_command: Option<&'a str>,
    /// Start containers to see whether they are judged.
    pub probe: bool,
}

type Failure = Box<dyn Error>;

/// Installs the gate.
pub fn install(root: &Path, options: &Options<'_>, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let node = Live::under(root);
    let processes = Processes::of(root);
    let engines = match wanted(&node, &processes, options, err) {
        Ok(engines) => engines,
        Err(failure) => return failed(err, &failure),
    };
    if engines.is_empty() {
        return failed(err, &"no engine that this could be installed for was found on this node".into());
    }
    let mut code = OK;
    for installer in engines {
        let job = Job { node: &node, processes: &processes, installer, options };
        match job.install(out) {
            Ok(one) => code = code.max(one),
            // The next engine of a node has nothing to do with what is wrong with this one.
            Err(failure) => {
                code = failed(err, &format!("{}: {}", installer.engine.name(), said(&failure)).into());
            }
        }
    }
    code
}

/// Takes the gate away.
pub fn uninstall(root: &Path, options: &Options<'_>, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let node = Live::under(root);
    let processes = Processes::of(root);
    let all = engines::ALL.into_iter();
    let installers: Vec<&Installer> = match options.engine {
        Some(engine) => all.filter(|installer| installer.engine == engine).collect(),
        None => all.filter(|installer| has_something(&node, installer.engine)).collect(),
    };
    let mut code = OK;
    for installer in installers {
        let job = Job { node: &node, processes: &processes, installer, options };
        match job.uninstall(out) {
            Ok(()) => {}
            Err(failure) => {
                code = failed(err, &format!("{}: {}", installer.engine.name(), said(&failure)).into());
            }
        }
    }
    if !options.dry_run && code == OK {
        match sweep(&node, &processes, out) {
            Ok(()) => {}
            Err(failure) => code = failed(err, &failure),
        }
    }
    code
}

fn failed(err: &mut dyn Write, failure: &Failure) -> u8 {
    let _ = writeln!(err, "pss-guard: {}", said(failure));
    FAILED
}

fn said(failure: &Failure) -> String {
    line(failure.as_ref())
}

/// The installers that are asked for.
fn wanted(
    node: &Live,
    processes: &Processes,
    options: &Options<'_>,
    err: &mut dyn Write,
) -> Result<Vec<&'static Installer>, Failure> {
    if let Some(engine) = options.engine {
        return Ok(engines::of(engine).into_iter().collect());
    }
    let detected = detect(node, processes)?;
    for left in &detected.left {
        let _ = writeln!(err, "pss-guard: left alone: {left}");
    }
    Ok(detected.engines.into_iter().filter_map(engines::of).collect())
}

/// Whether anything of an installation is left for this engine.
fn has_something(node: &Live, engine: Engine) -> bool {
    installations(node).iter().any(|name| name == engine.name()) || place::has_entries(node, engine)
}

/// Where others can write to a directory that pods' mounts rest on, no pod with a mount from there could be judged.
fn anchors_hold(node: &Live) -> Result<(), Failure> {
    let faults = if node.is_running() { faults_of_anchors(&Paths::default()) } else { Vec::new() };
    let said: Vec<String> = faults.iter().map(|fault| line(fault)).collect();
    if said.is_empty() { Ok(()) } else { Err(said.join("; ").into()) }
}

/// One engine.
struct Job<'a> {
    node: &'a Live,
    processes: &'a Processes,
    installer: &'static Installer,
    options: &'a Options<'a>,
}

impl Job<'_> {
    fn name(&self) -> &'static str {
        self.installer.engine.name()
    }

    /// The engine's configuration file.
    fn config_file<'c>(&self, named: Option<&'c Path>) -> &'c Path {
        named.unwrap_or(Path::new(detect::daemon(self.installer.engine).config))
    }

    fn install(&self, out: &mut dyn Write) -> Result<u8, Failure> {
        let Self { node, installer, options, .. } = *self;
        let usual = installer.methods.first().copied().unwrap_or(Method::Runtime);
        let installed = manifest(node, self.name())?;
        let method = options.method.unwrap_or(usual);
        if !installer.methods.contains(&method) {
            return Err(format!("the {method} method is not to be had for {}", self.name()).into());
        }
        let config = options.config.or(installed.as_ref().and_then(|installed| installed.config.as_deref()));
        self.policy_can_be_kept(method)?;
        let request = Request { method, config };
        let other =
            installed.as_ref().and_then(|installed| installed.method).filter(|other| *other != method);
        writeln!(out, "{}, {method} method", self.name())?;
        anchors_hold(node)?;
        if options.dry_run {
            if let Some(other) = other {
                writeln!(out, "  the {other} method is installed and would be taken away first")?;
            }
            return show(&(installer.plan)(node, &request)?, out).map(|()| OK);
        }

        // Not where the file was named: it may be the one of the next start.
        if options.config.is_none()
            && let Some(elsewhere) =
                detect::elsewhere(node, self.processes, installer.engine, self.config_file(config))
        {
            return Err(elsewhere.into());
        }
        // Planned before anything is touched: what is refused leaves the node as it is.
        let mut plan = (installer.plan)(node, &request)?;
        let store = Store::open(node)?;
        // Another run can have come and gone meanwhile: then the plan is for a node that there is no more.
        store.is_unchanged(self.name(), installed.as_ref())?;
        // Programs first: a configuration may only ever name what is there.
        let mut changed = place::gate(node)?;
        if !place::gate_runs(node) {
            drop(store);
            sweep(node, self.processes, out)?;
            return Err(format!(
                "{GATE} was put there and does not run, so no container would start; is its file system mounted \
                 noexec? The engine was left alone"
            )
            .into());
        }
        if let Some(other) = other {
            self.undo(&store, installed.as_ref(), out)?;
            writeln!(out, "  the {other} method was taken away")?;
            plan = (installer.plan)(node, &request)?;
        }
        if let Err(error) = place::command(node) {
            writeln!(out, "  not there for people to call: {}", line(&error))?;
        }
        changed |= place::entries(node, installer.engine, &plan.entries)?;
        let shared = system::plan(node, &manual())?;
        if !shared.changes.is_empty() {
            // No container needs any of it: where `/usr` is sealed, the gate comes without.
            let written = store.apply(system::NAME, None, &shared, strip_all);
            let complaint = written.err().map(|error| line(&error));
            for complaint in complaint.into_iter().chain(system::enable(node)) {
                writeln!(out, "  not done: {}", escape(&complaint))?;
            }
        }
        let is_new = installed.is_none() || other.is_some();
        if is_new
            || !plan.changes.is_empty()
            || installed.as_ref().is_some_and(|old| old.entries != plan.entries)
        {
            if node.is_running() && (is_new || !plan.changes.is_empty()) {
                // Without it status goes by the clock.
                let _ = place::keep_unread(node, installer.engine, &self.running());
            }
            store.apply(self.name(), Some(&request), &plan, installer.strip)?;
        }
        // The text of the policy is the last good one from here on, and not only since the first container.
        let _ = cache::load(&Paths::under(node.root()));
        for change in &plan.changes {
            writeln!(out, "  wrote {}", change.path.display())?;
        }
        let is_as_before = !changed && !is_new && plan.changes.is_empty();
        if is_as_before {
            writeln!(out, "  was installed already; nothing changed")?;
        }
        for open in &plan.open {
            writeln!(out, "  open: {}", escape(open))?;
        }
        if is_new && installer.engine == Engine::Containerd && method == Method::Runtime && node.is_running()
        {
            // See `status::containers`.
            writeln!(
                out,
                "  open: containerd takes a container's runtime from its pod, so what starts later in pods that run by \
                 now (a restart, kubectl debug) does not pass the gate until they are made anew"
            )?;
        }
        drop(store);
        self.prove(&request, is_as_before, out)
    }

    /// A policy that no container could be held against is found now, and not by the first container.
    fn policy_can_be_kept(&self, method: Method) -> Result<(), Failure> {
        let policy = match cache::load_fresh(&Paths::under(self.node.root())) {
            Ok(policy) => policy.unwrap_or_default(),
            // Who tries it out without being root may not read it.
            Err(LoadError::File(error)) if error.is_denied() => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        unseen_by(&policy, self.installer.engine, method).map_or(Ok(()), |unseen| Err(unseen.into()))
    }

    /// Restarts the engine if that is asked for, and sees whether the gate stands.
    fn prove(&self, request: &Request<'_>, is_as_before: bool, out: &mut dyn Write) -> Result<u8, Failure> {
        let needed = self.installer.needs_restart(request.method) && !self.running().is_empty();
        if !self.node.is_running() {
            return Ok(OK);
        }
        if !self.options.restart {
            if needed {
                let how = self.installer.unit.map(|unit| format!(": systemctl restart {unit}"));
                writeln!(out, "  it holds once {} is restarted{}", self.name(), how.unwrap_or_default())?;
            }
            return Ok(OK);
        }
        let restarted =
            if self.installer.needs_restart(request.method) { self.restart(true) } else { Ok(()) };
        let outcome = match restarted {
            Err(error) => Outcome::Failed(said(&error)),
            Ok(()) if !self.options.probe => return Ok(OK),
            Ok(()) => {
                let verification = Verification {
                    live: self.node,
                    processes: self.processes,
                    paths: &Paths::under(self.node.root()),
                    engine: self.installer.engine,
                    config: request.config,
                    patience: Patience::default(),
                    is_static: cfg!(target_feature = "crt-static"),
                };
                verification.verify()
            }
        };
        match outcome {
            Outcome::Verified(seen) => {
                seen.iter().try_for_each(|seen| writeln!(out, "  seen: {}", escape(seen)))?;
                Ok(OK)
            }
            Outcome::Unproven { seen, missing } => {
                seen.iter().try_for_each(|seen| writeln!(out, "  seen: {}", escape(seen)))?;
                missing.iter().try_for_each(|missing| writeln!(out, "  not shown: {}", escape(missing)))?;
                Ok(UNPROVEN)
            }
            Outcome::Failed(reason) => {
                writeln!(out, "  failed: {}", escape(&reason))?;
                if is_as_before {
                    // This run has done nothing that could be to blame, and a node without its gate is no way back.
                    return Err(format!("{reason}; the gate was there before, and stays").into());
                }
                let back = manifest(self.node, self.name())
                    .map_err(Failure::from)
                    .and_then(|installed| self.take_away(&Store::open(self.node)?, installed.as_ref(), out))
                    .and_then(|()| sweep(self.node, self.processes, out));
                let reason = match back {
                    Ok(()) => format!("{reason}; the installation was taken back"),
                    Err(error) => {
                        format!("{reason}; and taking the installation back failed: {}", said(&error))
                    }
                };
                Err(reason.into())
            }
        }
    }

    fn restart(&self, after_install: bool) -> Result<(), Failure> {
        let how = match (self.options.restart_command, self.installer.unit) {
            (Some(command), _) => Restart::Command(command),
            // A restart of docker stops its containers where live-restore is off; new runtimes need only a reload.
            (None, Some(unit)) if after_install && self.installer.engine == Engine::Docker => {
                Restart::Reload(unit)
            }
            (None, Some(unit)) => Restart::Unit(unit),
            (None, None) => return Ok(()),
        };
        Ok(restart(how, Patience::default())?)
    }

    fn uninstall(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let installed = manifest(self.node, self.name())?;
        if installed.is_none() && !place::has_entries(self.node, self.installer.engine) {
            writeln!(out, "{}: the gate is not installed", self.name())?;
            return Ok(());
        }
        writeln!(out, "{}", self.name())?;
        let store = Store::open(self.node)?;
        store.is_unchanged(self.name(), installed.as_ref())?;
        if self.options.dry_run {
            let held = installed.as_ref().is_some_and(|installed| self.is_held(installed));
            for preview in store.preview(self.name(), self.installer.strip, held)? {
                let now = preview.now.as_deref().unwrap_or_default();
                diff(&preview.path, now, preview.now.is_some(), preview.wanted.as_deref(), out)?;
            }
            return Ok(());
        }
        self.take_away(&store, installed.as_ref(), out)
    }

    /// Undoes the installation, and removes what nobody calls any more.
    fn take_away(
        &self,
        store: &Store<'_>,
        installed: Option<&Manifest>,
        out: &mut dyn Write,
    ) -> Result<(), Failure> {
        let method = installed.and_then(|installed| installed.method);
        self.undo(store, installed, out)?;
        let needs = method.is_none_or(|method| self.installer.needs_restart(method));
        let stale = needs
            && !self.options.restart
            && place::entries_are_called(self.node, self.installer.engine, self.processes);
        if needs && self.options.restart && self.node.is_running() {
            self.restart(false)?;
        }
        let callers = place::callers(self.node, self.installer.engine, self.processes);
        if stale || callers > 0 {
            // What they call is the real runtime by now.
            let who = if stale {
                format!("{} still runs with the configuration of before", self.name())
            } else {
                format!("{callers} running containers were started through the gate")
            };
            writeln!(
                out,
                "  {who}: the links in {} stay, and lead to the real runtime; once it was restarted and they are gone \
                 (or after a reboot), `pss-guard uninstall` removes them",
                place::entries_of(self.installer.engine).display()
            )?;
            if stale && method == Some(Method::Hook) {
                writeln!(out, "  and the gate stays for its hook until then")?;
            }
        } else {
            place::remove_entries(self.node, self.installer.engine)?;
        }
        if stale && method == Some(Method::Hook) {
            // Its specs name the hook for as long as it runs; a sweep must not take the program away.
            place::keep_gate(self.node, &self.running())?;
        }
        Ok(())
    }

    /// Whether containers remember names that the installation gave.
    fn is_held(&self, installed: &Manifest) -> bool {
        let method = installed.method.unwrap_or(Method::Runtime);
        let request = Request { method, config: installed.config.as_deref() };
        !(self.installer.holders)(self.node, &request).is_empty()
    }

    /// Makes the engine's files what they were, and its entries the real runtimes.
    fn undo(
        &self,
        store: &Store<'_>,
        installed: Option<&Manifest>,
        out: &mut dyn Write,
    ) -> Result<(), Failure> {
        let held = installed.is_some_and(|installed| self.is_held(installed));
        let strip: Strip = self.installer.strip;
        let (done, errors) = store.undo(self.name(), strip, held);
        tell(&done, out)?;
        if let Some(error) = errors.into_iter().next() {
            return Err(error.into());
        }
        let engine = self.installer.engine;
        // Who runs now may have read the configuration of before. A run that only comes back for what is left must not
        // take an engine that was restarted since for one of them.
        if installed.is_some() || place::lead_to_gate(self.node, engine) {
            place::keep_entries(self.node, engine, &self.running())?;
        }
        Ok(place::open(self.node, engine)?)
    }

    /// The engine's own processes.
    fn running(&self) -> Vec<Process> {
        self.processes.running(detect::daemon(self.installer.engine).programs)
    }
}

/// What would change.
fn show(plan: &Plan, out: &mut dyn Write) -> Result<(), Failure> {
    for entry in &plan.entries {
        writeln!(out, "  gate in front of handler {}: {}", entry.handler, entry.runtime.display())?;
    }
    for change in &plan.changes {
        let before = change.before.as_deref().unwrap_or_default();
        diff(&change.path, before, change.before.is_some(), Some(&change.after), out)?;
    }
    if plan.changes.is_empty() {
        writeln!(out, "  no file would change")?;
    }
    for open in &plan.open {
        writeln!(out, "  open: {}", escape(open))?;
    }
    Ok(())
}

fn tell(done: &[(PathBuf, Undone)], out: &mut dyn Write) -> io::Result<()> {
    for (path, undone) in done {
        let what = match undone {
            Undone::Restored => "restored",
            Undone::Removed => "removed",
            Undone::Stripped => "was changed since; took out what is ours:",
            Undone::AsItWas => "nothing of ours is left in",
            Undone::Gone => "somebody has removed",
            Undone::Kept => "kept, because another engine's installation rests on it:",
        };
        writeln!(out, "  {what} {}", path.display())?;
    }
    Ok(())
}

/// Removes what all engines share once there is none.
fn sweep(node: &Live, processes: &Processes, out: &mut dyn Write) -> Result<(), Failure> {
    let is_left = || installations(node).iter().any(|name| name != system::NAME);
    if is_left() || !place::is_there(node) {
        return Ok(());
    }
    // Asked again under the lock, which is held to the end: an installation that another run makes for another engine
    // meanwhile must not lose the gate, nor what undoing it needs.
    let store = Store::open(node)?;
    if is_left() || place::gate_is_called(node, processes) {
        return Ok(());
    }
    let entries = engines::ALL.iter().any(|installer| place::has_entries(node, installer.engine));
    if manifest(node, system::NAME)?.is_some() {
        let complaints = system::disable(node);
        let (done, errors) = store.undo(system::NAME, strip_all, false);
        tell(&done, out)?;
        if let Some(error) = errors.into_iter().next() {
            return Err(error.into());
        }
        for complaint in complaints.iter().chain(&system::forget(node)) {
            writeln!(out, "  not done: {}", escape(complaint))?;
        }
    }
    place::remove_gate(node)?;
    if !entries {
        place::remove_rest(node)?;
    }
    drop(store);
    Ok(())
}

/// How a file would change, as `diff -u` shows it.
fn diff(
    path: &Path,
    before: &[u8],
    exists: bool,
    after: Option<&[u8]>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let (old, new) = (String::from_utf8_lossy(before), String::from_utf8_lossy(after.unwrap_or_default()));
    let shown = path.display().to_string();
    let nothing = "/dev/null";
    let diff = TextDiff::from_lines(old.as_ref(), new.as_ref());
    let header = (
        if exists { shown.as_str() } else { nothing },
        if after.is_some() { shown.as_str() } else { nothing },
    );
    write!(out, "{}", diff.unified_diff().context_radius(3).header(header.0, header.1))
}
