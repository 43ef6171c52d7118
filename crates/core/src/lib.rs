//! What pss-guard's programs agree on, whichever of them reads or writes it: where files lie and when they are believed,
//! the policy, which level holds, and what follows from the findings of the standard.
//!
//! It knows no engine, no process and no command line.

pub mod atomic;
pub mod checksum;
pub mod decision;
pub mod files;
pub mod formats;
pub mod level;
pub mod paths;
pub mod record;
pub mod runtime_state;
pub mod signals;
pub mod spool;
pub mod time;
pub mod words;
