//! Replaces the programs of an installed gate by those of this build, and nothing else. A package does so when it is
//! upgraded.
//!
//! ```text
//!  prepare ─► keep the programs ─► gate ─► its formats ─► tool ─► let go of what was kept
//!     │                             │           │           │
//!     └─ refused: nothing changes   └───────────┴───────────┴─► back to the programs that were there
//! ```
//!
//! No engine notices: it calls the gate by its path, and finds the one or the other there.

use std::path::Path;

use super::prepared::System;
use super::removal::retire_in;
use super::repair::patiently;
use super::{Failure, Job, Report, Step, hook, put};
use crate::install::programs::{self, Piece};
use crate::install::standing::{Standing, through};
use crate::install::transaction::{Store, installations, manifest};
use crate::install::units::Manual;
use crate::install::{GATE, Plan, Request, before, directory, persist, units};
use crate::level::cache;
use crate::message::{escape, line};
use crate::node::host::Live;
use crate::paths::Paths;

/// The programs that are going to be replaced. All that is refused was refused before there is one.
#[derive(Debug)]
pub struct Upgrade {
    /// What engines and units call, in the order in which they are put there.
    pieces: [Piece; 2],
    /// What `install` has put where people call it.
    for_people: Vec<Piece>,
}

impl Upgrade {
    /// Makes sure that the programs can be replaced; `None` where no gate is installed.
    pub fn prepare(node: &Live) -> Result<Option<Self>, Failure> {
        if !programs::stand(node) {
            return Ok(None);
        }
        let stays = |failure: Failure| failure.and("the installed gate was left as it is");
        let paths = Paths::under(node.root());
        // Enforce mode would refuse nearly every container.
        if let Err(error) = cache::load_fresh(&paths) {
            let failure = Failure::new(format!("this version cannot use the policy: {}", line(&error)));
            // The program that names them all may be gone in a moment, with what else the package brought.
            let others = cache::mistakes(&paths.policy()).into_iter().skip(1);
            return Err(stays(others.fold(failure, |failure, mistake| failure.and(line(&mistake)))));
        }
        if let Some(fault) = programs::gate_fault() {
            return Err(stays(Failure::new(fault)));
        }
        // What a newer version has written down, this one could not uninstall.
        for name in installations(node) {
            manifest(node, &name).map_err(|error| stays(error.into()))?;
        }
        directory::wanted(node, None).map_err(|error| stays(error.into()))?;
        let pieces = [programs::gate(), programs::tool()];
        Ok(Some(Self { pieces, for_people: programs::placed_for_people(node) }))
    }

    /// What is going to be written.
    pub fn pieces<'a>(&'a self, node: &'a Live) -> impl Iterator<Item = &'a Piece> {
        self.pieces.iter().chain(&self.for_people).filter(|piece| !piece.is_there(node))
    }

    /// Replaces them. A run that fails puts back those that were there.
    pub fn carry_out(&self, node: &Live, report: Report<'_>) -> Result<(), Failure> {
        let store = patiently(node)?;
        // Who had the lock may have uninstalled it.
        if !programs::stand(node) {
            return Ok(());
        }
        through(node, |standing| self.replace(&store, standing, report))
    }

    fn replace(&self, store: &Store<'_>, standing: &Standing<'_>, report: Report<'_>) -> Result<(), Failure> {
        let node = store.node();
        if self.pieces(node).next().is_some() {
            before::keep_common(store, &Plan::default())?;
        }
        match self.write(node, standing, report) {
            Ok(()) => {
                before::forget_common(node)?;
                // The tool that they called is gone. No container needs any of it.
                if let Err(failure) = retire_in(store, report) {
                    report(Step::NotDone(&failure.says));
                }
                // The package has brought it as well, and the gate goes first.
                for complaint in units::restart_agent(node) {
                    report(Step::NotDone(&escape(&complaint)));
                }
                Ok(())
            }
            Err(failure) => Err(take_back(store, failure, report)),
        }
    }

    fn write(&self, node: &Live, standing: &Standing<'_>, report: Report<'_>) -> Result<(), Failure> {
        let mut changed = false;
        for piece in &self.pieces {
            changed |= put(node, piece, report)?;
            if piece.path() != Path::new(GATE) {
                continue;
            }
            if !programs::gate_runs(node) {
                return Err(Failure::new(format!("{GATE} was replaced and does not run")));
            }
            if !programs::publish_formats(node) {
                report(Step::NotDone(
                    "the gate has not published its formats (pss-guard-gate publish-formats); what the tool writes for it is of \
                     the oldest",
                ));
            }
            // As a wrapper the tool is only a fallback.
            programs::bring_over(node)?;
            let hooks = hook::stale(node, standing, hook::of_crio(node)?);
            hook::read_again(node, &hooks, report);
            changed |= !hooks.is_empty();
        }
        for piece in &self.for_people {
            match put(node, piece, report) {
                Ok(is_new) => changed |= is_new,
                // No container needs it.
                Err(failure) => report(Step::NotOnPath(&failure.says)),
            }
        }
        if let Some(other) = programs::another_command(node) {
            report(Step::NotDone(&other));
        }
        if !changed {
            report(Step::Unchanged);
        }
        Ok(())
    }
}

fn take_back(store: &Store<'_>, failure: Failure, report: Report<'_>) -> Failure {
    match before::go_back_common(store) {
        Ok(done) => {
            for (path, what) in &done {
                report(Step::PutBack(path, *what));
            }
            let _ = programs::publish_formats(store.node());
            failure.and("the previous programs were restored")
        }
        Err(error) => failure.and(format!(
            "restoring the previous programs failed: {}; `pss-guard install --programs` tries again",
            line(&error)
        )),
    }
}

impl Job<'_> {
    /// Whether `install` would change more of an installation than its programs: its files are of another version, or are no
    /// longer as they were written.
    pub fn is_due(&self, manual: &[Manual]) -> Result<bool, Failure> {
        let Self { node, installer, distribution, .. } = *self;
        let Some(installed) = manifest(node, self.name())? else { return Ok(false) };
        let Some(method) = installed.method else { return Ok(false) };
        let request = Request { method, config: installed.config.as_deref(), distribution };
        let plan = (installer.plan)(node, &request)?;
        let links = programs::entries(installer.engine, &plan.entries);
        let persistence = self
            .is_persisted()?
            .then(|| persist::plan(node, installer.engine, distribution, &installed))
            .transpose()?;
        Ok(!plan.changes.is_empty()
            || plan.entries != installed.entries
            || !links.iter().all(|link| link.is_there(node))
            || persistence.is_some_and(|plan| !plan.changes.is_empty())
            || !System::with(node, manual, &programs::folder_of_a_boot(node))?.plan.changes.is_empty()
            || !units::retired(node)?.is_empty())
    }
}
