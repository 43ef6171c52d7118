//! pss-guard: the last gate on a Kubernetes node.

pub mod alloc;
pub mod cli;
pub mod commands;
pub mod decision;
pub mod explain;
pub mod facts;
pub mod files;
pub mod hook;
pub mod judge;
pub mod level;
pub mod paths;
pub mod pss;
pub mod report;
