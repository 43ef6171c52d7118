//! Checks whether a file can be executed, as the kernel would, without calling it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};

use crate::message::line;
use crate::node::elf::{Machine, head};
use crate::node::host::Live;

/// Why a path of the node cannot be executed; `None` if nothing speaks against it.
pub(super) fn fault(live: &Live, path: &Path) -> Option<String> {
    let place = live.place(path);
    let metadata = match fs::metadata(&place) {
        Ok(metadata) => metadata,
        Err(error) => return Some(format!("cannot be found: {}", line(&error))),
    };
    if !metadata.is_file() {
        return Some("is not a file".to_owned());
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o111 == 0 {
        return Some(format!("has mode {mode:04o} and cannot be executed"));
    }
    // Where another root is mounted, and how, says nothing of the node that it will be.
    if live.is_running() && access(&place, AccessFlags::X_OK) == Err(Errno::EACCES) {
        return Some("cannot be executed: its file system is mounted with noexec".to_owned());
    }
    let head = match head(&place) {
        Ok(head) if head.is_empty() => return Some("is empty".to_owned()),
        Ok(head) => head,
        Err(error) => return Some(format!("cannot be read: {}", line(&error))),
    };
    if let Some(script) = head.strip_prefix(b"#!") {
        let first = script.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let first = String::from_utf8_lossy(first);
        let interpreter = first.split_whitespace().next().unwrap_or_default();
        let is_there = fs::metadata(interpreter).is_ok_and(|file| file.is_file());
        return (live.is_running() && !is_there)
            .then(|| format!("is a script for {interpreter:?}, which is not there"));
    }
    match Machine::of(&head) {
        None => Some("is neither a program nor a script".to_owned()),
        Some(machine) if live.is_running() && !runs_here(machine) => {
            Some("is a program for another architecture".to_owned())
        }
        Some(_) => None,
    }
}

/// Whether a program for a machine runs on this one. What cannot be told is not held against it.
fn runs_here(theirs: Machine) -> bool {
    Machine::of_file(Path::new("/proc/self/exe")).is_none_or(|own| own.runs(theirs))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::Path;

    use super::fault;
    use crate::node::host::Live;

    #[test]
    fn what_the_kernel_would_not_execute_is_found_with_the_reason() {
        let own = fs::read("/proc/self/exe").unwrap();
        let patched = |at: usize, byte: u8| {
            let mut head = own[..256].to_vec();
            head[at] = byte;
            head
        };
        // (its bytes, its mode, what is said)
        let rows: [(&[u8], u32, Option<&str>); 10] = [
            (&own, 0o755, None),
            (b"#!/bin/sh\n", 0o755, None),
            (b"#! /usr/bin/env sh\n", 0o755, None),
            (b"", 0o755, Some("is empty")),
            (&own, 0o644, Some("has mode 0644")),
            (b"#!/nothing/here -x\n", 0o755, Some("\"/nothing/here\", which is not there")),
            (b"echo\n", 0o755, Some("is neither a program nor a script")),
            (&own[..12], 0o755, Some("is neither a program nor a script")),
            (&patched(18, 0xf3), 0o755, Some("another architecture")),
            (&patched(4, 3), 0o755, Some("another architecture")),
        ];
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("runtime");
        let live = Live::under(Path::new("/"));
        for (bytes, mode, expected) in rows {
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let said = fault(&live, &path);
            assert_eq!(said.is_some(), expected.is_some(), "{expected:?}: {said:?}");
            assert!(said.is_none_or(|said| said.contains(expected.unwrap())), "{expected:?}");
            // By a link as well.
            let link = dir.path().join("link");
            let _ = fs::remove_file(&link);
            symlink("runtime", &link).unwrap();
            assert_eq!(fault(&live, &link).is_some(), expected.is_some());
        }
        assert!(fault(&live, dir.path()).unwrap().contains("is not a file"));
        assert!(fault(&live, Path::new("/nothing/here")).unwrap().contains("cannot be found"));
    }
}
