//! The command: dispatch and exit codes, nothing else.

use pss_guard::alloc::{ARENA, Bump};

#[global_allocator]
static MEMORY: Bump<ARENA> = Bump::new();

fn main() {}
