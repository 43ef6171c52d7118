//! pss-guard: the last gate on a Kubernetes node.

pub mod explain;
pub mod paths;
pub mod pss;
