//! pss-guard: the last gate on a Kubernetes node.

pub mod facts;
pub mod files;
pub mod paths;
pub mod pss;
