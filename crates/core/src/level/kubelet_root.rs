//! Which directory is the kubelet's root on this node, where the policy does not say.
//!
//! Distributions move it (k0s: `/var/lib/k0s/kubelet`), and a start has no time to look for it. So `install` finds it and keeps
//! it in a record, which is read when the policy is compiled. There is one root and no list of candidates: on a node of another
//! distribution a pod could prepare a candidate's directories.

use std::fs;
use std::io;
use std::path::Path;

use crate::atomic::{self, Lasts, WriteError, fault};
use crate::files::{self, FileError, Links, Owner};
use crate::paths::Paths;

/// The kubelet's own default (`cmd/kubelet/app/options/options.go`).
pub const DEFAULT: &str = "/var/lib/kubelet";

/// The longest path there is (`PATH_MAX`), and a newline.
const LIMIT: u64 = 4097;

/// The recorded root; `None` where there is no record.
///
/// # Errors
///
/// The record cannot be read or believed, or names no directory by an absolute path without `.` and `..`.
pub fn recorded(paths: &Paths) -> Result<Option<String>, FileError> {
    let path = paths.kubelet_root();
    let read = files::walk(&path).and_then(|_| files::read_as(&path, Links::Refuse, Owner::Root, LIMIT));
    let bytes = match read {
        Ok((_, _, bytes)) => bytes,
        Err(error) if error.is_missing() => return Ok(None),
        Err(error) => return Err(error),
    };
    let root = String::from_utf8(bytes).unwrap_or_default();
    let root = root.strip_suffix('\n').unwrap_or(&root);
    if is_root(root) {
        return Ok(Some(root.to_owned()));
    }
    let source = io::Error::new(io::ErrorKind::InvalidData, "it is not an absolute path of a directory");
    Err(FileError::Read { path, source })
}

fn is_root(path: &str) -> bool {
    let is_name = |part: &str| !matches!(part, "" | "." | "..");
    let below = path.strip_prefix('/');
    below.is_some_and(|below| below.split('/').all(is_name)) && !path.contains(char::is_control)
}

/// Records the root, or that it is the default; whether anything changed.
///
/// What was compiled with another one is discarded after that, and [`super::cache::load`] looks at the record once more when it
/// has written a compiled policy: so none stays that was compiled from an older record.
///
/// # Errors
///
/// `root` is no absolute path, or a file cannot be written.
pub fn record(paths: &Paths, root: &str) -> Result<bool, WriteError> {
    let path = paths.kubelet_root();
    let root = if root.len() > 1 { root.trim_end_matches('/') } else { root };
    let wanted = (root != DEFAULT).then_some(root);
    if matches!(recorded(paths), Ok(known) if known.as_deref() == wanted) {
        return Ok(false);
    }
    match wanted {
        Some(root) if is_root(root) => {
            if let Some(folder) = path.parent() {
                atomic::make_folder(folder)?;
            }
            let put = atomic::put(&path, format!("{root}\n").as_bytes(), 0o644, Lasts::PowerCuts);
            put.map_err(fault("write", &path))?;
        }
        Some(_) => {
            let source =
                io::Error::new(io::ErrorKind::InvalidInput, format!("{root:?} is not a directory's path"));
            return Err(fault("write", &path)(source));
        }
        None => atomic::remove_if_there(&path)?,
    }
    let cache = paths.policy_cache();
    discard(&cache).map_err(fault("write", &cache))?;
    Ok(true)
}

/// Empties a compiled policy. That it was there still shows that there was a policy.
pub(super) fn discard(cache: &Path) -> io::Result<()> {
    if fs::symlink_metadata(cache).is_err() {
        return Ok(());
    }
    atomic::put(cache, b"", 0o600, Lasts::Processes)
}

#[cfg(test)]
mod tests {
    use super::is_root;

    #[test]
    fn a_root_is_a_plain_absolute_path() {
        for (path, expected) in [
            ("/var/lib/kubelet", true),
            ("/k", true),
            ("/", false),
            ("", false),
            ("var/lib/kubelet", false),
            ("/var//kubelet", false),
            ("/var/lib/kubelet/", false),
            ("/var/../kubelet", false),
            ("/var/./kubelet", false),
            ("/var/lib\n/kubelet", false),
        ] {
            assert_eq!(is_root(path), expected, "{path:?}");
        }
    }
}
