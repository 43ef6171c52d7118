//! The gate: everything that runs before a container starts.
//!
//! ```text
//!  OCI state on stdin ─► hook ─┐
//!    a runtime's argv ─► wrapper ┴─► admit ─► inspect::evaluate ─► pss, pss_guard_core   (pure from here)
//!                                      │
//!          exit code, one line on stderr, or execve of the real runtime
//!                                      └─► event ─► journald, else a file, else the kernel's log
//! ```
//!
//! [`inspect`] reads one container: its config.json, its sandbox, and what the host knows of both. The tool uses it for
//! `check` of a config.json and for `scan`, so that its answers are the gate's.
//!
//! This crate has no command line parser, no TOML editor, no scan, no report and no installer, and none of its
//! dependencies has.

/// One step on the way to a verdict, for `-v`.
#[cfg(feature = "trace")]
macro_rules! trace {
    ($($step:tt)*) => { tracing::debug!($($step)*) };
}
#[cfg(not(feature = "trace"))]
macro_rules! trace {
    ($($step:tt)*) => {};
}

pub mod admit;
pub mod arena;
pub mod compare;
pub mod dispatch;
pub mod event;
pub mod finding;
pub mod handover;
pub mod hook;
pub mod inspect;
pub mod message;
pub mod mode;
pub mod wrapper;
