//! What an unprivileged user or a pod can make a look at the node cost.
