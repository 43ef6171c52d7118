//! The tool of pss-guard: everything that people run. The gate, which runs before a container starts, is a crate of its own
//! ([`pss_guard_gate`]); what both must agree on is another ([`pss_guard_core`]), and the standard is a third ([`pss`]). How
//! manifests are read is a crate ([`pss_guard_manifests`]) because the agent reads some as well.
//!
//! ```text
//!                       cli ─► one file a command
//!                                │
//!     check ─► scan ─► report    │    install ─► status ─► metrics
//!       │        │        ▲      │       │          │
//!       │        └─ node ─┼──────┴───────┴──────────┘     the machine: processes, containers, files under a root
//!       ▼                 │
//!  pss_guard_gate     events ◄─ journal, decisions.jsonl  what the gate wrote
//!    ::inspect
//!       │
//!       └─► pss, pss_guard_core                           pure from here
//! ```
//!
//! # Reading order
//!
//! 1. [`pss::evaluate`] and [`pss::controls`]: the standard, one file a control.
//! 2. [`inspect`]: what one container will be, read from its config.json, its sandbox and the host; its
//!    [`evaluate`](inspect::evaluate) is the path from a config.json to a verdict, for the gate, `check` and `scan` alike.
//!    [`manifest`] is the path from a manifest to a verdict, for `check`.
//! 3. [`level`] and [`decision`]: which level applies, and what follows from the findings. [`pods`]: what the node knows of what
//!    pods declare.
//! 4. [`node`]: the machine, its processes and its containers. [`scan`] evaluates all of them.
//! 5. [`events`]: what the gate wrote, read back; [`metrics`] counts it, [`report`] derives from it which level each namespace
//!    is ready for.
//! 6. [`install`]: puts the gate in front of an engine and takes it away; [`status`] says whether it is there and works.
//! 7. [`mode`]: changes the mode of the node. [`output`] shapes what people and programs read, and decides nothing.
//!
//! # Rules
//!
//! - *Violates* needs proof. What a compliant pod could look like as well is *suspect*; what a node cannot know is
//!   *unseen*. None of the three is ever passed off as another.
//! - A fault is not a verdict. It has its own type, its own exit code, and becomes a verdict only by the admin's
//!   policy.
//! - Everything that is read was written by somebody who may want to get past: files are bounded, names are checked
//!   before they become paths, and one engine's annotations are never believed on another.
//!
//! `docs/architecture.md` has the picture of the crates and one container's way through them.

pub mod cli;
pub mod events;
pub mod install;
pub mod manifest;
pub mod metrics;
pub mod mode;
pub mod node;
pub mod output;
pub mod report;
pub mod scan;
pub mod status;
pub mod verify;

pub use pss;
pub use pss_guard_core::{
    agent, atomic, checksum, cluster, decision, files, formats, level, paths, pods, record, sha256, spool,
    time, words,
};
pub use pss_guard_gate::{admit, event, hook, inspect, message, wrapper};
pub use pss_guard_manifests as documents;
