//! Attacks on the gate, each with a real runtime where one is there, and each with a control that shows that the
//! attack works where no gate stands. `docs/threat-model.md` names the test of every attack.

// Annotations, devices, hooks and file systems that no pod of the kubelet's has.
mod annotations;
// Commands in running containers, and the wrapper's own surroundings.
mod commands;
// What an exception opens, and what a policy believes.
mod exceptions;
// What hostile containers, their authors and broken nodes do to the hook.
mod hook;
// Who a container says it is.
mod identity;
// What an unprivileged user or a pod can make a look at the node cost.
mod limits;
// Sources that look like the pod's own or the engine's, and are the host's.
mod mounts;
// Processes in containers that pass for the node's own.
mod processes;
// Checkpoints whose image restores something else than their config.json says.
mod restores;
