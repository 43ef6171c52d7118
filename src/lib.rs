//! pss-guard is the last gate on a Kubernetes node: before a container starts it reads the `config.json` that the
//! engine generated and holds what the container will really be against the Pod Security level of its pod.
//!
//! ```text
//!    OCI state, stdin ─► hook ─┐
//!  a runtime's argv ─► runtime ┴─► gate ─► judge ◄─ check ◄─ files, bundles, captured cases
//!        config.json ─► facts::spec ─► facts::identity      level::cache ◄─ policy.toml
//!        sandbox's config.json ─┐             │             level::namespaces ◄─ one file a namespace
//!        the node ─► facts::host ─► facts     │                      │
//!                                     │       └── annotations ─► level::resolve
//!                                     ▼                              ▼
//!                               pss::evaluate ─► decision ◄──────────┘            (pure from here)
//!                                                    │
//!       exit code · one line on stderr · execve of the real runtime, or its --log
//!                                        events::event ─► journald, or a file, or the kernel's log
//! ```
//!
//! # Reading order
//!
//! 1. [`pss`]: levels, versions, findings, and [`pss::evaluate`]; [`pss::controls`] is the table of the standard, one
//!    file a control.
//! 2. [`pss::facts::Facts`]: all that a control may know of a container.
//! 3. [`facts`]: how that is read from a config.json, its sandbox and the host, and what cannot be forged.
//! 4. [`level`]: which level holds, by the policy, the namespace and the pod's annotations; [`mode`]: whether the node
//!    stops what violates it.
//! 5. [`decision`]: what follows. [`judge`] is the path through all of it; [`commands::check`] calls it for people,
//!    [`gate`] before a container starts: for the [`hook`] and for the [`runtime`] that stands before the real one.
//! 6. [`events`]: how a decision is written down and read back; [`metrics`] counts it, [`report`] makes sense of it, and
//!    [`output`] gives it its shape.
//! 7. [`checkpoint`]: what a restored container would be.
//! 8. [`node`]: the machine, its processes, and the containers that run on it; [`scan`] judges them all, before anybody is
//!    refused.
//!
//! # Rules
//!
//! - [`pss`] and [`decision`] do no I/O and know no clock: facts and levels go in, findings come out. The compiler holds
//!   the one to it, a test the other.
//! - *Violates* needs proof. What a compliant pod could look like as well is *suspect*; what a node cannot know is
//!   *unseen*. None of the three is ever passed off as another.
//! - A fault is not a verdict. It has its own type, its own exit code, and becomes an answer only by what the admin
//!   wrote.
//! - Everything that is read was written by somebody who may want to get past: files are bounded, names are checked
//!   before they become paths, and one engine's annotations are never believed on another.
//! - The hook and the wrapper pay for nothing that they may not need: no command line parser, no logger, no thread.

pub mod cli;
pub mod commands;
pub mod events;
pub mod explain;
pub mod install;
mod live;
pub mod metrics;
pub mod mode;
pub mod node;
pub mod output;
pub mod report;
pub mod scan;
pub mod status;
pub mod verbose;

pub use pss;
pub use pss_guard_core::{atomic, checksum, decision, files, level, paths, record, time, words};
pub use pss_guard_gate::{admit, event, hook, inspect, message, wrapper};
