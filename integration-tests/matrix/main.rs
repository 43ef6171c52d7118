//! Every version of every engine and runtime that can be had, each with each: `make e2e-matrix`. docs/compatibility.md has what
//! it prints.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::too_many_lines,
    reason = "tests, most of them tables"
)]

#[allow(dead_code, reason = "what the other targets share")]
#[path = "../support/mod.rs"]
mod support;

// Each engine with every runtime as a handler.
mod engines;
// Each runtime by itself.
mod runtimes;
