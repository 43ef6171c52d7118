//! The agent on a cluster of three nodes: two with containerd, on which it is a DaemonSet, and one with CRI-O, on which it runs with
//! the kubelet's identity. `make e2e-cluster`; docs/evidence.md has what it prints.
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

// What happens to the nodes when something happens to the API server or to a node.
mod faults;
// Upstream's own pods, at the API server and at the gate.
mod fixtures;
// Whether facts are there before the container is.
mod race;
