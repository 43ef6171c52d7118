//! What pss-guard's programs must agree on: where files are and which are trusted, their formats, the policy, the level that
//! applies, the decision that follows from the findings, and the records of events.
//!
//! It reads no config.json, starts no process and parses no command line.

pub mod agent;
pub mod atomic;
pub mod checksum;
pub mod cluster;
pub mod decision;
pub mod files;
pub mod formats;
pub mod level;
pub mod list;
pub mod paths;
pub mod pods;
pub mod record;
pub mod runtime_state;
pub mod sha256;
pub mod signals;
pub mod spool;
mod store;
pub mod time;
pub mod words;
