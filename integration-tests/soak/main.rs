//! The gate under load, and under faults while it is loaded: `make soak`; docs/evidence.md has what it prints. It takes both cores of
//! a small machine for half an hour, so nothing else calls it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::too_many_lines,
    reason = "tests, most of them stories"
)]

#[allow(dead_code, reason = "what the other targets share")]
#[path = "../support/mod.rs"]
mod support;

// Processes that join a running container, thousands of them.
mod execs;
// No disk, no memory, no descriptors, a journald that hangs.
mod faults;
// Containers that start while all that decides over them is written again.
mod starts;
