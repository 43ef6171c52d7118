//! The integration tests.

// Clippy's own exceptions for tests do not reach their helpers; and a table is long where there is much to say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::print_stderr)]
#![allow(clippy::too_many_lines)]

/// Which level holds: files, their owners, and what happens when they are wrong.
mod level;
