//! The command: dispatch and exit codes, nothing else.

fn main() {}
