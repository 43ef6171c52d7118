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
    path.len() > 1 && path.starts_with('/') && !has_odd_part(path)
}

/// Whether behind its first slash a path has an empty part, `.` or `..`. A start asks it of every end of every mount, so parts are
/// made only of a path in which one begins with a dot.
fn has_odd_part(path: &str) -> bool {
    let may =
        path.ends_with('/') || path.as_bytes().windows(2).any(|pair| matches!(pair, [b'/', b'/' | b'.']));
    may && path.split('/').skip(1).any(|part| matches!(part, "" | "." | ".."))
}

/// Resolves `.`, `..` and double slashes by text alone.
pub(super) fn normalize(path: &str) -> Cow<'_, str> {
    if !has_odd_part(path) {
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
    use super::{is_plain, normalize, strip_dir};

    #[test]
    fn paths_are_compared_by_whole_components() {
        assert_eq!(strip_dir("/var/lib/kubelet", "/var/lib/kubelet"), Some(""));
        assert_eq!(strip_dir("/var/lib/kubelet/pods", "/var/lib/kubelet/"), Some("pods"));
        assert_eq!(strip_dir("/var/lib/kubelet-2/pods", "/var/lib/kubelet"), None);
        assert_eq!(strip_dir("/etc", "/"), Some("etc"));
        assert_eq!(normalize("/a/../../b/./c//d/"), "/b/c/d");
        assert_eq!(normalize("/.."), "/");
    }

    #[test]
    fn the_shortest_spelling_is_plain() {
        for path in ["/a", "/a/b", "/.a/..b/...", "/a./b..", "/a.b/c", "/ä/.ö"] {
            assert!(is_plain(path) && normalize(path) == path, "{path}");
        }
        for path in
            ["", "/", "a", "a/b", "./a", "/.", "/..", "//a", "/a/", "/a//b", "/a/./b", "/a/..", "/a/../b"]
        {
            assert!(!is_plain(path), "{path}");
        }
        // What is not odd is left as it is, absolute or not.
        for path in ["", "a", "a/b", ".", "./a", "..a/b"] {
            assert_eq!(normalize(path), path);
        }
    }
}
