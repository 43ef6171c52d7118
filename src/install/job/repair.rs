//! Puts an installed gate back where the engine's configuration has lost it, and says since when it was open. Nothing is
//! upgraded.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::{Failure, Job, Report, Run, Step, hook, put, wrote};
use crate::install::restart::{PATIENCE, restart};
use crate::install::standing::{Standing, through};
use crate::install::transaction::{Manifest, Store, TransactionError, changed, manifest};
use crate::install::{Method, Plan, Request, programs};
use crate::node::host::Live;
use crate::node::procfs::Process;
use crate::pss::facts::Engine;

/// So long another run may take.
const OTHERS: Duration = Duration::from_secs(120);

/// What a repair has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Nothing is installed.
    NotInstalled,
    /// Nothing was lost.
    Intact,
    /// The gate was put back.
    Done(Repaired),
}

/// By what an engine had lost the gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lost {
    /// These files were written without it.
    Files(Vec<PathBuf>),
    /// Links were missing.
    Links,
    /// CRI-O may have dropped the hook, because it read it while there was no gate.
    Hook,
}

/// What had lost the gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// By what.
    pub lost: Lost,
    /// From when containers could start without it, as far as that is known.
    pub since: SystemTime,
    /// Whether the engine was restarted.
    pub restarted: bool,
    /// What is not as it should be all the same.
    pub failure: Option<String>,
}

impl Job<'_> {
    /// Puts the gate back, and has a running engine read that.
    pub fn repair(&self, report: Report<'_>) -> Result<Repair, Failure> {
        let Self { node, .. } = *self;
        let store = patiently(node)?;
        // Asked under the lock: the file may have been changed by an uninstallation.
        let Some(written) = manifest(node, self.name())? else { return Ok(Repair::NotInstalled) };
        let Some(method) = written.method else { return Ok(Repair::NotInstalled) };
        through(node, |standing| self.put_in_place(store, (&written, method), standing, report))
    }

    fn put_in_place(
        &self,
        store: Store<'_>,
        (written, method): (&Manifest, Method),
        standing: &Standing<'_>,
        report: Report<'_>,
    ) -> Result<Repair, Failure> {
        let Self { node, installer, .. } = *self;
        let request = Request { method, config: written.config.as_deref(), distribution: self.distribution };
        let plan = (installer.plan)(node, &request)?;
        let links = programs::entries(installer.engine, &plan.entries);
        let is_watching = installer.engine == Engine::CriO;
        let mut hooks =
            if is_watching { hook::stale(node, standing, hook::of_crio(node)?) } else { Vec::new() };
        // One that was started since has read it then; an image of a node has other inodes than the node.
        let is_older = |process: &Process| standing.gate().is_none_or(|gate| process.started < gate);
        if node.is_running() && !self.running().iter().any(is_older) {
            hooks.clear();
        }
        let lost = if !plan.changes.is_empty() {
            Lost::Files(plan.changes.iter().map(|change| change.path.clone()).collect())
        } else if !links.iter().all(|link| link.is_there(node)) {
            Lost::Links
        } else if !hooks.is_empty() {
            Lost::Hook
        } else {
            return Ok(Repair::Intact);
        };
        report(Step::Lost(&lost));
        if !programs::gate_runs(node) {
            return Err(Failure::new(
                "the gate does not run, so it was not put back; `pss-guard install` brings another one",
            ));
        }
        let since = self.open_since(&plan);
        let run = Run { request, before: self.running(), is_restarted: false };
        for link in &links {
            put(node, link, report)?;
        }
        if !plan.changes.is_empty() {
            if node.is_running() {
                let _ = programs::keep_unread(node, installer.engine, &run.before);
            }
            store.apply(self.name(), Some(&run.request), &plan, installer.strip)?;
            self.reload_units(plan.changes.iter().map(|change| change.path.as_path()), report);
            wrote(&plan, report);
        }
        hooks.retain(|path| plan.changes.iter().all(|change| change.path != *path));
        hook::read_again(node, &hooks, report);
        drop(store);
        let mut repaired = Repaired { lost, since, restarted: false, failure: None };
        let how = self.how(Some(method), true).filter(|_| !plan.changes.is_empty() && !run.before.is_empty());
        if let Some(how) = how {
            repaired.failure = restart(how, PATIENCE).err().map(|error| crate::message::line(&error));
            repaired.restarted = repaired.failure.is_none();
            repaired.failure = repaired.failure.or_else(|| self.was_not_restarted(&run.request));
        }
        if repaired.failure.is_none() && !(installer.plan)(node, &run.request)?.changes.is_empty() {
            repaired.failure = Some(format!(
                "the configuration of {} was written without it again when it was restarted, so it was not restarted once more",
                self.name()
            ));
        }
        Ok(Repair::Done(repaired))
    }

    /// When the first of the files was written without the gate: not before the boot, and not before the gate was installed.
    fn open_since(&self, plan: &Plan) -> SystemTime {
        let written = |path: &PathBuf| std::fs::metadata(self.node.place(path)).ok()?.modified().ok();
        let first = plan.changes.iter().filter_map(|change| written(&change.path)).min();
        let bounds = [self.processes.started(1), changed(self.node, self.name())];
        let least = bounds.into_iter().flatten().max().unwrap_or(SystemTime::UNIX_EPOCH);
        first.map_or(least, |first| first.max(least))
    }
}

/// The lock, once nobody else has it.
pub(super) fn patiently(node: &Live) -> Result<Store<'_>, TransactionError> {
    let end = Instant::now() + OTHERS;
    loop {
        match Store::open(node) {
            Err(TransactionError::Busy(_) | TransactionError::Raced(_)) if Instant::now() < end => {
                thread::sleep(Duration::from_millis(200));
            }
            opened => return opened,
        }
    }
}
