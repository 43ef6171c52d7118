//! What does each command print? Bodies of commands: text to a writer, an exit code back.

pub mod check;
pub mod install;
pub mod manual;
pub mod metrics;
pub mod mode;
pub mod namespaces;
pub mod policy;
pub mod report;
pub mod scan;
pub mod status;

pub use crate::report::text::line;

/// Exit code of a command that did what it should.
pub const OK: u8 = 0;

/// Exit code of wrong usage and of everything that could not be done.
pub const FAILED: u8 = 2;
