//! Checks whether a file can be executed, as the kernel would, without calling it.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};

use crate::node::host::Live;

/// As much of a file as is looked at: the header of ELF ends before, and the kernel reads no more of a script's first
/// line (`BINPRM_BUF_SIZE`).
const HEAD: u64 = 256;

/// Why a path of the node cannot be executed; `None` if nothing speaks against it.
pub(super) fn fault(live: &Live, path: &Path) -> Option<String> {
    let place = live.place(path);
    let metadata = match fs::metadata(&place) {
        Ok(metadata) => metadata,
        Err(error) => return Some(format!("cannot be found: {error}")),
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
        Err(error) => return Some(format!("cannot be read: {error}")),
    };
    if let Some(script) = head.strip_prefix(b"#!") {
        let first = script.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let first = String::from_utf8_lossy(first);
        let interpreter = first.split_whitespace().next().unwrap_or_default();
        let is_there = fs::metadata(interpreter).is_ok_and(|file| file.is_file());
        return (live.is_running() && !is_there)
            .then(|| format!("is a script for {interpreter:?}, which is not there"));
    }
    match machine(&head) {
        None => Some("is neither a program nor a script".to_owned()),
        Some(machine) if live.is_running() && !runs_here(machine) => {
            Some("is a program for another architecture".to_owned())
        }
        Some(_) => None,
    }
}

fn head(place: &Path) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(place)?.take(HEAD).read_to_end(&mut head)?;
    Ok(head)
}

/// The machine that an ELF program is for: its class and `e_machine`.
fn machine(head: &[u8]) -> Option<(u8, u16)> {
    let class = *head.strip_prefix(b"\x7fELF")?.first()?;
    let machine = [*head.get(18)?, *head.get(19)?];
    // EI_DATA: 1 is little-endian.
    let read = if *head.get(5)? == 1 { u16::from_le_bytes } else { u16::from_be_bytes };
    Some((class, read(machine)))
}

/// Whether a program for a machine runs on this one.
fn runs_here(theirs: (u8, u16)) -> bool {
    // What cannot be told is not held against it.
    let own = head(Path::new("/proc/self/exe")).ok().and_then(|head| machine(&head));
    own.is_none_or(|own| runs_on(own, theirs))
}

/// Whether a kernel of one machine runs programs of another. A 64-bit kernel may know the 32-bit programs of its family
/// (`CONFIG_IA32_EMULATION`; `CONFIG_COMPAT` of arm64).
fn runs_on(own: (u8, u16), theirs: (u8, u16)) -> bool {
    const X86: (u8, u16) = (1, 3);
    const X86_64: (u8, u16) = (2, 62);
    const ARM: (u8, u16) = (1, 40);
    const ARM64: (u8, u16) = (2, 183);
    own == theirs || [(X86_64, X86), (ARM64, ARM)].contains(&(own, theirs))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::Path;

    use super::{fault, runs_on};
    use crate::node::host::Live;

    #[test]
    fn a_64_bit_kernel_runs_the_32_bit_programs_of_its_family() {
        let (x86, x86_64, arm, arm64) = ((1, 3), (2, 62), (1, 40), (2, 183));
        for (own, runs) in [(x86_64, [true, true, false, false]), (arm64, [false, false, true, true])] {
            assert_eq!([x86, x86_64, arm, arm64].map(|theirs| runs_on(own, theirs)), runs, "{own:?}");
        }
    }

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
