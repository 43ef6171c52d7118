//! The integration tests.

// Captured containers against the verdict of the API server.
mod corpus;
