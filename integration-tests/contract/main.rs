//! What the program promises, tried from outside on any machine: no engine, no runtime, no network.
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

// Nothing is called good that was not looked at.
mod absences;
// How answers look, to people and to programs.
mod answers;
// Who may import whom.
mod architecture;
// What `check` prints, and its exit code.
mod check;
// What the document has of the versions that were run.
mod compatibility;
// What a real shell makes of a tab.
mod completions;
// Captured containers against the verdict of the API server.
mod corpus;
// What the policy's settings make of a finding.
mod decisions;
// What the standard says of a pod as it is declared, beside upstream's own evaluator.
mod declared;
// Which facts of pods are believed, and what they can change.
mod facts;
// What happens when something is wrong: every fault, in every mode.
mod faults;
// Files of this release, of the one before and of the one after, between gate and tool.
mod formats;
// Install and uninstall as a whole, and what happens when they are interrupted.
mod install;
// What a pss-guard that is installed on this machine has to do with all of these: nothing.
mod leftovers;
// Captured containers in the layouts of other distributions.
mod layouts;
// What the commands say of the policy and of the namespaces.
mod level;
// Are the pages of the manual well-formed?
mod manual;
// What `check` says of manifests, and its exit code.
mod manifests;
// What is counted for Prometheus, and that it is counted once.
mod metrics;
// Which mode is in force, and how it changes.
mod mode;
// Damaged files never turn a denial into a start.
mod mutations;
// Our view of config.json against the full OCI types.
mod oracle;
// What becomes of the pages in a browser.
mod pages;
// Is what `policy init` and `policy schema` print what the reader takes?
mod policy_file;
// Reports for a cluster.
mod policy_reports;
// Is what the README says true?
mod readme;
// What `report` makes of events and of what runs.
mod report;
// What `scan` says of a node, and what it looks like.
mod scan;
// Scrapes over HTTP, by clients that behave and others.
// The copy of the events that the agent reads.
mod spool;
// What comes of the archive of a release when its script installs it.
mod tarball;
// What systemd makes of the units and tmpfiles that are shipped.
mod units;
// What Prometheus' and Grafana's own tools say of docs/.
mod watch;
// What a text of YAML or JSON means, beside the reader of kubectl.
mod yaml;
