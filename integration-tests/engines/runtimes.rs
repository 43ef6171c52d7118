//! What happens to a container under a real runtime?

use crate::support::cases::{Case, LEVELS};
use crate::support::needs;
use crate::support::pod::Engine;
use crate::support::runtime::Runtime;
use crate::support::starts::{join_all, start_all};

#[test]
fn runc_starts_what_the_level_allows_in_containerds_bundles() {
    starts("runc_starts_what_the_level_allows_in_containerds_bundles", Engine::Containerd, Runtime::Runc);
}

#[test]
fn crun_starts_what_the_level_allows_in_containerds_bundles() {
    starts("crun_starts_what_the_level_allows_in_containerds_bundles", Engine::Containerd, Runtime::Crun);
}

#[test]
fn runc_starts_what_the_level_allows_in_cri_os_bundles() {
    starts("runc_starts_what_the_level_allows_in_cri_os_bundles", Engine::CriO, Runtime::Runc);
}

#[test]
fn crun_starts_what_the_level_allows_in_cri_os_bundles() {
    starts("crun_starts_what_the_level_allows_in_cri_os_bundles", Engine::CriO, Runtime::Crun);
}

#[test]
fn runc_executes_what_adds_nothing() {
    joins("runc_executes_what_adds_nothing", Runtime::Runc);
}

#[test]
fn crun_executes_what_adds_nothing() {
    joins("crun_executes_what_adds_nothing", Runtime::Crun);
}

fn starts(test: &str, engine: Engine, runtime: Runtime) {
    if needs::can_run(test, &[runtime.name(), "busybox"]) {
        start_all(engine, runtime, &Case::of(engine), &LEVELS, modes(engine));
    }
}

/// Audit mode is the same whoever wrote the bundle; once for each runtime is enough.
fn modes(engine: Engine) -> &'static [&'static str] {
    match engine {
        Engine::Containerd => &["audit", "enforce"],
        Engine::CriO => &["enforce"],
    }
}

fn joins(test: &str, runtime: Runtime) {
    if needs::can_run(test, &[runtime.name(), "busybox"]) {
        join_all(runtime);
    }
}
