//! Checks whether this node can deny unknown namespaces: it cannot where the gate sees no sandboxes.

use super::Method;
use super::transaction::manifest;
use crate::level::Policy;
use crate::level::policy::OnUnknownNamespace;
use crate::level::sandboxes::Unseen;
use crate::node::host::Live;
use crate::pss::facts::Engine;

/// Why a policy cannot be kept by one method on one engine.
#[must_use]
pub fn unseen_by(policy: &Policy, engine: Engine, method: Method) -> Option<Unseen> {
    let denies = policy.on_unknown_namespace == OnUnknownNamespace::Deny;
    if denies { Unseen::of(engine, method == Method::Runtime) } else { None }
}

/// Why a policy cannot be kept by what is installed on a node.
#[must_use]
pub fn unseen_on(policy: &Policy, node: &Live) -> Option<Unseen> {
    Engine::ALL.into_iter().find_map(|engine| {
        let method = manifest(node, engine.name()).ok()??.method?;
        unseen_by(policy, engine, method)
    })
}
