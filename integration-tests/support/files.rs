//! Files of a node.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Writes a file and the directories above it.
pub(crate) fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a path of a file")).expect("a directory");
    fs::write(path, text).unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
    set_mode(path, 0o644);
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set the mode of a file of ours");
}
