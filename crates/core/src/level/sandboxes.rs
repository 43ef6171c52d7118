//! Whether an engine calls the gate before a pod's sandbox: denials for missing knowledge are made there and nowhere else.
//!
//! The kubelet retries a refused sandbox every few seconds, whatever the pod's restart policy. To the kubelet a refused
//! container has run, so with `restartPolicy: Never` it does not run again
//! (kubernetes `pkg/kubelet/container/helpers.go`, containerd `internal/cri/server/container_start.go`).
//!
//! | engine     | hook                                            | runtime                                          |
//! |------------|-------------------------------------------------|--------------------------------------------------|
//! | containerd | no: a base spec is not for sandboxes (`internal/cri/server/podsandbox/helpers.go`) | yes           |
//! | CRI-O      | no (`server/container_create.go`)               | only where it keeps the pause container; nobody has measured yet what it does after a refusal |

use super::Policy;
use pss::facts::Engine;

/// Whether the gate is called for the sandboxes of an engine's pods, where it stands as the engine's runtime or else as a
/// hook.
#[must_use]
pub const fn are_seen(engine: Engine, as_runtime: bool) -> bool {
    as_runtime && matches!(engine, Engine::Containerd)
}

/// A setting that denies for want of knowledge, such as `on-unknown-namespace = "deny"`, where no sandbox is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{setting} = \"deny\" does not work on {} with the {} method: the gate does not see sandboxes there, and a refused container of a pod with restartPolicy Never is not retried; {}",
    .engine.name(), if *.as_runtime { "runtime" } else { "hook" }, self.way_out()
)]
pub struct Unseen {
    engine: Engine,
    as_runtime: bool,
    setting: &'static str,
    otherwise: &'static str,
}

impl Unseen {
    /// Whether and why one of a policy's settings is wrong for an engine and a method. Only containers of pods have
    /// namespaces, so it says nothing of the other engines.
    #[must_use]
    pub fn of(policy: &Policy, engine: Engine, as_runtime: bool) -> Option<Self> {
        let (setting, otherwise) = policy.denials_at_sandboxes().next()?;
        let unseen = engine.speaks_cri() && !are_seen(engine, as_runtime);
        unseen.then_some(Self { engine, as_runtime, setting, otherwise })
    }

    fn way_out(self) -> String {
        let or = match self.engine {
            Engine::Containerd => ", or install with --method runtime",
            _ => "",
        };
        format!("set it to {:?}{or}", self.otherwise)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Policy, policy};
    use super::Unseen;
    use pss::facts::Engine;

    #[test]
    fn only_where_sandboxes_are_seen_can_the_unknown_be_denied() {
        for (engine, as_runtime, expected) in [
            (Engine::Containerd, true, None),
            (Engine::Containerd, false, Some("containerd with the hook method")),
            (Engine::CriO, true, Some("cri-o with the runtime method")),
            (Engine::CriO, false, Some("cri-o with the hook method")),
            (Engine::Podman, false, None),
            (Engine::Docker, true, None),
            (Engine::None, true, None),
        ] {
            let rows = [("on-unknown-namespace", "defaults"), ("on-missing-facts", "unseen")];
            for (setting, otherwise) in rows {
                let policy = policy::parse(&format!("{setting} = 'deny'"), "policy.toml").unwrap();
                let said = Unseen::of(&policy, engine, as_runtime).map(|unseen| unseen.to_string());
                let right = match (&said, expected) {
                    (Some(said), Some(expected)) => {
                        said.starts_with(setting)
                            && said.contains(expected)
                            && said.contains(&format!("set it to {otherwise:?}"))
                    }
                    (said, expected) => said.is_none() && expected.is_none(),
                };
                assert!(right, "{engine:?} {as_runtime}: {said:?}");
            }
            assert_eq!(Unseen::of(&Policy::default(), engine, as_runtime), None);
        }
    }
}
