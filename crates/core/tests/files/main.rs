//! What the policy, its cache and the namespace files do on a real disk.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests, most of them tables"
)]
#![allow(clippy::too_many_lines, clippy::print_stderr, reason = "tests, most of them tables")]

// The policy, its compiled form, and the last good one.
mod cache;
// The cluster's version: believed, cached, imported.
mod cluster;
// The kubelet's root directory, and which record of it counts.
mod kubelet_root;
// What is imported, kept and read of namespaces.
mod namespaces;
// A node's files.
mod node;
// What is imported, put and removed of pods.
mod pods;
// The copy of the events for the agent.
mod spool;
