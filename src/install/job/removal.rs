//! Takes the gate away from an engine, and from the node with the last one.

use std::path::{Path, PathBuf};

use super::repair::patiently;
use super::{Failure, Job, Report, Step};
use crate::install::transaction::{Manifest, Preview, Store, Strip, Undone, manifest, strip_whole};
use crate::install::{Method, Request, adopt, before, detect, engines, labels, persist, programs, units};
use crate::message::escape;
use crate::node::host::{Live, Node as _};
use crate::node::procfs::{Process, Processes};
use crate::pss::facts::Engine;

/// What is there to remove.
#[derive(Debug)]
pub struct Removable {
    /// The installation; none where only links are left of one.
    pub installed: Option<Manifest>,
}

impl Job<'_> {
    /// Makes sure that the gate can be removed, and finds what is there to remove; none where
    /// nothing is.
    pub fn removable(&self) -> Result<Option<Removable>, Failure> {
        let installed = manifest(self.node, self.name())?;
        if installed.is_none() && !programs::has_entries(self.node, self.installer.engine) {
            return Ok(None);
        }
        if installed.is_none() {
            self.is_named_no_more()?;
        }
        self.reaches_engine()?;
        let usual = match self.installer.engine {
            Engine::Containerd => self.distribution.read_with_gate(),
            engine => Path::new(detect::daemon(engine).config),
        };
        let config = installed.as_ref().and_then(|installed| installed.config.as_deref()).unwrap_or(usual);
        if let Some(other) = self.config.filter(|other| *other != config) {
            let (other, config) = (other.display(), config.display());
            return Err(Failure::new(format!("the gate is not installed in {other}, but in {config}")));
        }
        Ok(Some(Removable { installed }))
    }

    /// Without a record nobody knows what to take out of the engine's files, and what they name must stay.
    fn is_named_no_more(&self) -> Result<(), Failure> {
        let Self { node, installer, distribution, .. } = *self;
        for method in installer.methods {
            let request = Request { method: *method, config: self.config, distribution };
            // What cannot be planned has no engine any more, or names what is not there.
            let Ok(plan) = (installer.plan)(node, &request) else { continue };
            if let Some(left) = adopt::left(node, installer, &plan)?.first() {
                let name = self.name();
                return Err(Failure::new(format!(
                    "{} names the gate, and the record of its installation is gone, by which it would be taken out; \
                     `pss-guard install --engine {name}` records it again, and then it can be uninstalled",
                    left.path.display()
                )));
            }
        }
        Ok(())
    }

    /// Removes the gate, and restarts the engine if that is asked for. `installed` is what was found.
    pub fn uninstall(&self, installed: Option<&Manifest>, report: Report<'_>) -> Result<(), Failure> {
        if installed.is_some() {
            self.may_restart()?;
        }
        let store = Store::open(self.node)?;
        store.is_unchanged(self.name(), installed)?;
        let method = installed.and_then(|installed| installed.method);
        self.persist_no_longer(&store, report)?;
        let before = self.running();
        let needed = self.needs_restart(method);
        let has_changed = self.undo(&store, installed, &before, report)?;
        // What an upgrade left that was killed: there is nothing to go back to any more.
        before::forget(self.node)?;
        // What changes nothing has nothing restarted that goes by its files.
        let is_due = has_changed || !self.restarts_by_itself();
        let restarted = if is_due { self.restart_without_gate(needed, &before) } else { Ok(()) };
        // Also after a restart that failed: what the engine still calls stays until it does not.
        self.clear((method, needed), report)?;
        restarted.map_err(|error| {
            let failure = Failure::of_restart(&error, self.name(), self.restart_command.is_some());
            failure.and(format!("the gate was removed; {} has yet to be restarted", self.name()))
        })
    }

    /// How the engine's files would change if the gate were removed.
    pub fn preview(&self, installed: Option<&Manifest>) -> Result<Vec<Preview>, Failure> {
        let store = Store::open(self.node)?;
        store.is_unchanged(self.name(), installed)?;
        let held = installed.is_some_and(|installed| self.is_held(installed));
        let mut previews = store.preview(&persist::name(self.installer.engine), strip_whole, false)?;
        previews.extend(store.preview(self.name(), self.installer.strip, held)?);
        Ok(previews)
    }

    /// Makes the engine's files what they were, and its entries the real runtimes. `callers` may have read the
    /// configuration of before. Whether any file changed.
    pub(super) fn undo(
        &self,
        store: &Store<'_>,
        installed: Option<&Manifest>,
        callers: &[Process],
        report: Report<'_>,
    ) -> Result<bool, Failure> {
        let held = installed.is_some_and(|installed| self.is_held(installed));
        let strip: Strip = self.installer.strip;
        let (done, errors) = store.undo(self.name(), strip, held);
        for (path, undone) in &done {
            report(Step::Undid(path, *undone));
        }
        self.reload_units(done.iter().map(|(path, _)| path.as_path()), report);
        if let Some(error) = errors.into_iter().next() {
            return Err(error.into());
        }
        let engine = self.installer.engine;
        // A run that only comes back for what is left must not take an engine that was restarted since for one of them.
        if installed.is_some() || programs::lead_to_gate(self.node, engine) {
            programs::keep_entries(self.node, engine, callers)?;
        }
        programs::open(self.node, engine)?;
        Ok(done
            .iter()
            .any(|(_, undone)| matches!(undone, Undone::Restored | Undone::Removed | Undone::Stripped)))
    }

    /// Removes what nobody of an engine calls any more.
    pub(super) fn clear(
        &self,
        (method, needs): (Option<Method>, bool),
        report: Report<'_>,
    ) -> Result<(), Failure> {
        let Self { node, processes, installer, .. } = *self;
        let stale = needs && programs::entries_are_called(node, installer.engine, processes);
        let callers = programs::callers(node, installer.engine, processes);
        if stale || callers > 0 {
            // What they call is the real runtime by now.
            report(Step::StillCalled { stale, method, containers: callers });
        } else {
            programs::remove_entries(node, installer.engine)?;
        }
        if stale && method == Some(Method::Hook) {
            // Its specs name the hook for as long as it runs; a sweep must not take the program away.
            programs::keep_gate(node, &self.running())?;
        }
        Ok(())
    }

    /// Whether containers remember names that the installation gave.
    fn is_held(&self, installed: &Manifest) -> bool {
        let method = installed.method.unwrap_or(Method::Runtime);
        let request =
            Request { method, config: installed.config.as_deref(), distribution: self.distribution };
        !(self.installer.holders)(self.node, &request).is_empty()
    }
}

/// Removes the units of an older version that this one does without. An edited one stays, and nobody starts it any more.
pub fn retire(node: &Live, report: Report<'_>) -> Result<(), Failure> {
    if units::retired(node)?.is_empty() {
        return Ok(());
    }
    retire_in(&patiently(node)?, report)
}

/// The same under the lock.
pub(super) fn retire_in(store: &Store<'_>, report: Report<'_>) -> Result<(), Failure> {
    let node = store.node();
    let retired = units::retired(node)?;
    if retired.is_empty() {
        return Ok(());
    }
    let complaints = units::retire(node);
    let (done, errors) = store.undo_some(units::NAME, &retired, strip_whole);
    tell_undone(node, &done, report);
    for complaint in complaints.iter().chain(&units::reload(node)) {
        report(Step::NotDone(&escape(complaint)));
    }
    errors.into_iter().next().map_or(Ok(()), |error| Err(error.into()))
}

/// Says what became of files that are ours as a whole: one that is still there was changed by somebody.
fn tell_undone(node: &Live, done: &[(PathBuf, Undone)], report: Report<'_>) {
    let is_there = |path: &Path| node.read(path).is_ok_and(|bytes| bytes.is_some());
    let is_edited = |(path, undone): &&(PathBuf, Undone)| *undone == Undone::AsItWas && is_there(path);
    for (path, _) in done.iter().filter(is_edited) {
        report(Step::LeftEdited(path));
    }
    for (path, undone) in done.iter().filter(|file| !is_edited(file)) {
        report(Step::Undid(path, *undone));
    }
}

/// Removes what all engines share once there is none. Whether anything was removed.
pub fn sweep(node: &Live, processes: &Processes, report: Report<'_>) -> Result<bool, Failure> {
    let is_left = || !units::engines(node).is_empty();
    if is_left() || !programs::is_there(node) {
        return Ok(false);
    }
    // Asked again under the lock, which is held to the end: an installation that another run makes for another engine
    // meanwhile must not lose the gate, nor what uninstall needs.
    let store = Store::open(node)?;
    if is_left() || programs::gate_is_called(node, processes) {
        return Ok(false);
    }
    let entries = engines::ALL.iter().any(|installer| programs::has_entries(node, installer.engine));
    let mut swept = false;
    if manifest(node, units::NAME)?.is_some() {
        let complaints = units::disable(node);
        let (done, errors) = store.undo(units::NAME, strip_whole, false);
        tell_undone(node, &done, report);
        if let Some(error) = errors.into_iter().next() {
            return Err(error.into());
        }
        for complaint in complaints.iter().chain(&units::forget(node)) {
            report(Step::NotDone(&escape(complaint)));
        }
        swept = true;
    }
    for program in programs::programs(node) {
        report(Step::Removed(&program));
        swept = true;
    }
    programs::remove_gate(node)?;
    if let Some(left) = labels::forget(node)? {
        report(Step::NotDone(&escape(&left)));
    }
    if !entries {
        programs::remove_rest(node)?;
    }
    drop(store);
    Ok(swept)
}
