//! The gate before real runtimes and engines, and what gets past neither. Needs root, and says what else is missing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::too_many_lines,
    clippy::float_cmp,
    reason = "tests, most of them tables"
)]

#[allow(dead_code, reason = "what the other targets share")]
#[path = "../support/mod.rs"]
mod support;

// The programs for arm64 decide as those of this machine.
mod arm64;
// What hostile containers, users and nodes do to the gate.
mod attacks;
// What real containerds make of the files that the installer writes.
mod containerd;
// The installer on trees of real distributions, and what a real containerd makes of it.
mod distributions;
// What a start costs, in numbers that do not depend on the machine.
mod cost;
// Engines read what the installers plan as it was meant.
mod installers;
// What people read in the journal.
mod journald;
// What a pss-guard that is installed on this machine has to do with all of these: nothing.
mod leftovers;
// Which containers start while the glass is broken, and what the journal has of it.
mod mode;
// The same gate before podman's containers, which belong to no pod.
mod podman;
// Denied containers never run, allowed ones do, and the message is the one that people read.
mod runtimes;
// What `scan` says of containers that run.
mod scan;
// The same gate as a runtime before the real one.
mod wrapper;
