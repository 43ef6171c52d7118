//! Manifests: the objects in files of YAML and JSON, and the pods that these ask for.
//!
//! ```text
//! text ─► documents ─► nodes with lines ─► objects ─► workloads, namespaces
//!                                                               │
//!   policy, namespace ─► levels ─┐                              ▼
//!       verdict, findings ◄─ evaluate ◄─ the pod ◄─ defaults, as the API server applies them
//! ```
//!
//! Which files there are and what a path stands for is decided in `cli::check`.

pub mod evaluate;
mod fields;
mod lines;
mod names;
pub mod objects;
