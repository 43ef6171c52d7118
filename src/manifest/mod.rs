//! Manifests: files of YAML and JSON, the objects in them, and the pods that these ask for.
//!
//! ```text
//! text ─► read (yaml, json) ─► nodes with lines ─► objects ─► workloads, namespaces
//!                                                               │
//!   policy, namespace ─► levels ─┐                              ▼
//!       verdict, findings ◄─ evaluate ◄─ the pod ◄─ defaults, as the API server applies them
//! ```
//!
//! Which files there are and what a path stands for is decided in `cli::check`.

mod defaults;
pub mod evaluate;
mod json;
mod lines;
mod names;
pub mod node;
pub mod objects;
pub mod read;
mod tags;
mod yaml;
