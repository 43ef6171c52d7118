//! Texts of YAML and JSON as values that know their line.
//!
//! ```text
//! text ─► read ─┬─► yaml ─┬─► nodes
//!               └─► json ─┘
//! ```

mod json;
pub mod node;
pub mod read;
mod tags;
mod yaml;
