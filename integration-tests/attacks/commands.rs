//! Commands in running containers, and the wrapper's own surroundings.
