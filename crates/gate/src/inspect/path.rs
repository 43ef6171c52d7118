//! Compares paths by whole components, as text; links are resolved elsewhere.

use std::borrow::Cow;

/// What follows a directory in a path, without the slash; `None` unless the path is the directory or below it.
pub(super) fn strip_dir<'p>(path: &'p str, dir: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(dir.trim_end_matches('/'))?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}

/// An absolute path without `.` and `..`; a relative one starts at the bundle, as runc and crun have it.
pub(super) fn absolute<'p>(path: &'p str, bundle: Option<&str>) -> Option<Cow<'p, str>> {
    if path.starts_with('/') {
        return Some(normalize(path));
    }
    Some(Cow::Owned(normalize(&format!("{}/{path}", bundle?)).into_owned()))
}

/// Whether a path is absolute and spelled in the shortest way: no `.`, no `..`, no double or last slash.
pub(super) fn is_plain(path: &str) -> bool {
    path.len() > 1
        && path
            .strip_prefix('/')
            .is_some_and(|rest| !rest.split('/').any(|part| matches!(part, "" | "." | "..")))
}

/// Resolves `.`, `..` and double slashes by text alone.
pub(super) fn normalize(path: &str) -> Cow<'_, str> {
    let odd = |part: &str| part.is_empty() || part == "." || part == "..";
    if !path.split('/').skip(1).any(odd) {
        return Cow::Borrowed(path);
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    Cow::Owned(format!("/{}", parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::{normalize, strip_dir};

    #[test]
    fn paths_are_compared_by_whole_components() {
        assert_eq!(strip_dir("/var/lib/kubelet", "/var/lib/kubelet"), Some(""));
        assert_eq!(strip_dir("/var/lib/kubelet/pods", "/var/lib/kubelet/"), Some("pods"));
        assert_eq!(strip_dir("/var/lib/kubelet-2/pods", "/var/lib/kubelet"), None);
        assert_eq!(strip_dir("/etc", "/"), Some("etc"));
        assert_eq!(normalize("/a/../../b/./c//d/"), "/b/c/d");
        assert_eq!(normalize("/.."), "/");
    }
}
