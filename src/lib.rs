//! pss-guard: the last gate on a Kubernetes node.

pub mod paths;
pub mod pss;
