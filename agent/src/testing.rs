//! What tests have in common.

use std::os::unix::fs::MetadataExt as _;

/// Whether files that a test makes are root's, and so are read.
pub(crate) fn root(test: &str) -> bool {
    let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    if !is_root {
        eprintln!("SKIPPED {test}: needs root");
    }
    is_root
}
