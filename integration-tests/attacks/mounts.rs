//! Mount sources that look like the pod's own or the engine's, and are the host's.
