//! What does a process cost that does nothing? The unit that every budget is counted in.

fn main() {}
