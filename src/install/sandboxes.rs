//! Checks whether this node can deny a pod for want of knowledge: it cannot where the gate sees no sandboxes.

use super::Method;
use super::transaction::manifest;
use crate::level::Policy;
use crate::level::sandboxes::Unseen;
use crate::node::host::Live;
use crate::pss::facts::Engine;

/// Why a policy cannot be kept by one method on one engine.
#[must_use]
pub fn unseen_by(policy: &Policy, engine: Engine, method: Method) -> Option<Unseen> {
    Unseen::of(policy, engine, method == Method::Runtime)
}

/// Why a policy cannot be kept by what is installed on a node.
#[must_use]
pub fn unseen_on(policy: &Policy, node: &Live) -> Option<Unseen> {
    Engine::ALL.into_iter().find_map(|engine| {
        let method = manifest(node, engine.name()).ok()??.method?;
        unseen_by(policy, engine, method)
    })
}
