//! What an exception opens, and what a policy believes.
