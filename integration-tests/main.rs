//! The integration tests: the real binary under real runtimes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests"
)]

// Captured containers against the verdict of the API server.
mod corpus;
// What happens when something is wrong: every fault, in every mode.
mod faults;
// Which level holds: files, their owners, and what happens when they are wrong.
mod level;
// Commands that tell everything when they fail, and skips that are loud.
mod util;
