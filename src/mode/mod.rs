//! Changes the mode of the node: in the policy, or for a time beside it.

pub mod change;
pub mod edit;
pub mod view;
pub mod who;

pub use pss_guard_gate::mode::{InForce, end, for_a_time, in_force, temporary};
