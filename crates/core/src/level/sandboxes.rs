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

use pss::facts::Engine;

/// Whether the gate is called for the sandboxes of an engine's pods, where it stands as the engine's runtime or else as a
/// hook.
#[must_use]
pub const fn are_seen(engine: Engine, as_runtime: bool) -> bool {
    as_runtime && matches!(engine, Engine::Containerd)
}

/// `on-unknown-namespace = "deny"` where no sandbox is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "on-unknown-namespace = \"deny\" does not work on {} with the {} method: the gate does not see sandboxes \
     there, and a refused container of a pod with restartPolicy Never is not retried; {}",
    .engine.name(), if *.as_runtime { "runtime" } else { "hook" }, self.way_out()
)]
pub struct Unseen {
    engine: Engine,
    as_runtime: bool,
}

impl Unseen {
    /// Whether and why that setting is wrong for an engine and a method. Only containers of pods have namespaces, so it
    /// says nothing of the other engines.
    #[must_use]
    pub fn of(engine: Engine, as_runtime: bool) -> Option<Self> {
        (engine.speaks_cri() && !are_seen(engine, as_runtime)).then_some(Self { engine, as_runtime })
    }

    const fn way_out(self) -> &'static str {
        match self.engine {
            Engine::Containerd => "set it to \"defaults\", or install with --method runtime",
            _ => "set it to \"defaults\"",
        }
    }
}

#[cfg(test)]
mod tests {
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
            let said = Unseen::of(engine, as_runtime).map(|unseen| unseen.to_string());
            let right = match (&said, expected) {
                (Some(said), Some(expected)) => {
                    said.contains(expected) && said.contains("set it to \"defaults\"")
                }
                (said, expected) => said.is_none() && expected.is_none(),
            };
            assert!(right, "{engine:?} {as_runtime}: {said:?}");
        }
    }
}
