//! pss-guard: the last gate on a Kubernetes node.

pub mod commands;
pub mod level;
pub mod paths;
pub mod pss;
