//! The integration tests.

/// Which level holds: files, their owners, and what happens when they are wrong.
mod level;
