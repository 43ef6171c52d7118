//! Manifests as texts: YAML and JSON as values that know their line, and what the API server completes in a pod before
//! admission sees it. The tool reads what people write; the agent reads the manifests of static pods. No I/O.
//!
//! ```text
//! text ─► read ─┬─► yaml ─┬─► nodes ─► defaults ─► the pod as admission would see it
//!               └─► json ─┘
//! ```

pub mod defaults;
mod json;
pub mod node;
pub mod read;
mod tags;
mod yaml;
