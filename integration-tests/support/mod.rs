//! What tests share: how commands are run, nodes to try things on, and what is known of them.
//!
//! Test modules import from here and nowhere else, which `contract/architecture.rs` checks. What two of them need moves here.

// A node of captured bundles, on which nothing runs.
pub(crate) mod captured;
// Which containers are tried, and what must be said of each.
pub(crate) mod cases;
// Checkpoints of a real container, and edits of their images.
pub(crate) mod checkpoints;
// Nodes with an API server on a machine of its own, and the agent's DaemonSet on them.
pub(crate) mod cluster;
// What the kubelet asks of an engine, asked by crictl.
pub(crate) mod cri;
// Pods that declare what is right or wrong.
pub(crate) mod declared;
// What the documents say.
pub(crate) mod documents;
// Engines that are brought up on a machine of their own.
pub(crate) mod engine;
// What the API server and the gate say of the same pods.
pub(crate) mod exactness;
// Files of a node.
pub(crate) mod files;
// Whether the gate is put before an engine, by the commands that people use.
pub(crate) mod gate;
// What the containers run.
pub(crate) mod image;
// The journald that is written to.
pub(crate) mod journal;
// A kubelet and an API server around an engine.
pub(crate) mod kube;
// A pss-guard that is installed on this machine, as it would be.
pub(crate) mod leftovers;
// A node in namespaces, on which every path is the one of a user's node.
pub(crate) mod machine;
// Which versions of which engines and runtimes are run.
pub(crate) mod matrix;
// Numbers for Prometheus, and the events that are counted.
pub(crate) mod metrics;
// What a test needs, and skips that are loud.
pub(crate) mod needs;
// A node with one container, as a runtime shows it to the hook.
pub(crate) mod node;
// A pod in the words of a manifest, and the specs that engines make of it.
pub(crate) mod pod;
// Containers of podman and docker.
pub(crate) mod podman;
// The program under test.
pub(crate) mod program;
// Ids, and numbers that are the same in every run.
pub(crate) mod random;
// The root directory of a node.
pub(crate) mod root;
// Commands that tell everything when they fail.
pub(crate) mod run;
// An engine in small, which lays bundles out and calls a real runtime.
pub(crate) mod runtime;
// What a runtime starts, and what it executes in what runs.
pub(crate) mod starts;
// Many starts at once.
pub(crate) mod storm;
// A terminal to look at.
pub(crate) mod terminal;
// What a run of the program writes, call by call.
pub(crate) mod trace;
// The units that are shipped.
pub(crate) mod units;
// Upstream's own evaluator, and how kubectl reads a text.
pub(crate) mod upstream;
