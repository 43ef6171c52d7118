//! Processes in containers that pass for the node's own.
