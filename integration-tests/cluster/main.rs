//! The agent on a cluster of three nodes: two with containerd, on which it is a DaemonSet, and one with CRI-O, on which it runs with
//! the kubelet's identity; and agents without nodes, as many as a machine has the memory for. `make e2e-cluster` and
//! `make e2e-fleet`; docs/evidence.md has what they print.
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
// What many agents cost one API server.
mod fleet;
// Upstream's own pods, at the API server and at the gate.
mod fixtures;
// Whether facts are there before the container is.
mod race;
