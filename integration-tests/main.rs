//! The integration tests: the real binary under real runtimes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::too_many_lines,
    clippy::float_cmp,
    reason = "tests, most of them tables"
)]

// Nothing is called good that was not looked at.
mod absences;
// What hostile containers, users and nodes do to the hook.
mod attacks;
// Which containers are tried, and what must be said of each.
mod cases;
// What `check` prints, and its exit code.
mod check;
// What real containerds make of the files that the installer writes.
mod containerd;
// Captured containers against the verdict of the API server.
mod corpus;
// What the policy's settings make of a finding.
mod decisions;
// What happens when something is wrong: every fault, in every mode.
mod faults;
// What a start costs, in numbers that do not depend on the machine.
mod cost;
// Install and uninstall as a whole, and what happens when they are interrupted.
mod install;
// Reports for a cluster.
mod policy_reports;
// Engines read what the installers plan as it was meant.
mod installers;
// The journald that is written to.
mod journal;
// What people read in the journal.
mod journald;
// What a pss-guard that is installed on this machine has to do with all of these: nothing.
mod leftovers;
// Which level holds: files, their owners, and what happens when they are wrong.
mod level;
// The gate before real engines, from install to undo.
mod live;
// What is counted for Prometheus, and that it is counted once.
mod metrics;
// Which mode is in force, and how it changes.
mod mode;
// Damaged files never turn a denial into a start.
mod mutations;
// An engine in small, which lays bundles out and calls a real runtime.
mod node;
// Our view of config.json against the full OCI types.
mod oracle;
// What becomes of the pages in a browser.
mod pages;
// A pod in the words of a manifest, and the specs that engines make of it.
mod pod;
// The same gate before podman's containers, which belong to no pod.
mod podman;
// Is what the README says true?
mod readme;
// What `report` makes of events and of what runs.
mod report;
// Denied containers never run, allowed ones do, and the message is the one that people read.
mod runtimes;
// What `scan` says of a node, and what it looks like.
mod scan;
// Scrapes over HTTP, by clients that behave and others.
mod scrape;
// What systemd makes of the units and tmpfiles that are shipped.
mod units;
// Commands that tell everything when they fail, and skips that are loud.
mod util;
// What Prometheus' and Grafana's own tools say of docs/.
mod watch;
// The same gate as a runtime before the real one.
mod wrapper;
