//! The integration tests.

// What hostile containers, users and nodes do to the hook.
mod attacks;
// Captured containers against the verdict of the API server.
mod corpus;
// Which level holds: files, their owners, and what happens when they are wrong.
mod level;
