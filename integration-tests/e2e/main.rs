//! The gate before real engines, each on a machine of its own: `cargo test --test e2e story::containerd_2`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::too_many_lines,
    clippy::float_cmp,
    reason = "tests, most of them tables"
)]

#[allow(dead_code, reason = "what the other targets share")]
#[path = "../support/mod.rs"]
mod support;

// The agent: whether the node knows what the API server knows.
mod agent;
// The agent from its manifests, and who steals its token.
mod daemonset;
// Whether it holds where distributions keep things elsewhere.
mod distributions;
// Whether a gate with the facts of pods refuses what the API server refuses.
mod facts;
// Whether every event is told once, whatever becomes of the journal.
mod history;
// The image, and its node as a container of it sees it.
mod image;
// What a pss-guard that is installed on this machine has to do with all of these: nothing.
mod leftovers;
// What a node says that is half gated or broken, and the way back.
mod operations;
// The commands of the README.
mod readme;
// Whether what `scan` says is what happens.
mod scan;
// What must happen on every engine.
mod story;
// The units under a systemd that is the first process.
mod systemd;
// And on those that know of no pods.
mod unmanaged;
// Whether volumes of every kind are started or refused as admission would.
mod volumes;
// What watches a node: Prometheus, node_exporter, and a journald that forgets.
mod watch;
