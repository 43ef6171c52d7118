//! SELinux on a node: whether it is on, and the label of a file.
//!
//! A label is the extended attribute `security.selinux`, which the kernel keeps with the file. Three calls of libc get and set
//! it, because nix has no function for extended attributes: each gets a C string for a name, and a buffer with its length.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use nix::errno::Errno;

use super::host::{Live, Node as _};

/// The attribute that holds the label.
const ATTRIBUTE: &std::ffi::CStr = c"security.selinux";

/// Longer than any label: the kernel allows at most a page.
const LONGEST: usize = 4096;

/// What a node with SELinux does about what its policy does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It logs it.
    Permissive,
    /// It denies it.
    Enforcing,
}

/// The mode of a node with SELinux: as its kernel says, and in another root directory as the configuration says for the next
/// boot. `None` on a node without it.
#[must_use]
pub fn mode(node: &Live) -> Option<Mode> {
    if node.is_running() {
        // The file is there where the file system of SELinux is mounted, and it is where SELinux is on (selinux(8)).
        let enforces = node.read(Path::new("/sys/fs/selinux/enforce")).ok()??;
        return Some(if enforces.starts_with(b"1") { Mode::Enforcing } else { Mode::Permissive });
    }
    match setting(node, "SELINUX")?.as_str() {
        "enforcing" => Some(Mode::Enforcing),
        "permissive" => Some(Mode::Permissive),
        _ => None,
    }
}

/// What `/etc/selinux/config` sets a key to (selinux_config(5)).
fn setting(node: &Live, key: &str) -> Option<String> {
    let text = node.read(Path::new("/etc/selinux/config")).ok()??;
    let text = String::from_utf8_lossy(&text).into_owned();
    let mut values =
        text.lines().filter_map(|line| line.trim().strip_prefix(key)?.trim_start().strip_prefix('='));
    values.next_back().map(|value| value.trim().to_owned())
}

/// Whether the node's file contexts, which `restorecon` goes by, have this pattern with this type: those of the policy, or
/// those that `semanage` added.
#[must_use]
pub fn has_context(node: &Live, pattern: &str, kind: &str) -> bool {
    let folder = setting(node, "SELINUXTYPE").unwrap_or_else(|| "targeted".to_owned());
    let folder = Path::new("/etc/selinux").join(folder).join("contexts/files");
    ["file_contexts.local", "file_contexts"].iter().any(|file| {
        let text = node.read(&folder.join(file)).ok().flatten().unwrap_or_default();
        String::from_utf8_lossy(&text).lines().any(|line| {
            let mut words = line.split_whitespace();
            words.next() == Some(pattern)
                && words.next_back().is_some_and(|label| kind_of(label.as_bytes()) == Some(kind.as_bytes()))
        })
    })
}

/// The type in a label: `bin_t` in `system_u:object_r:bin_t:s0`.
#[must_use]
pub fn kind_of(label: &[u8]) -> Option<&[u8]> {
    label.split(|byte| *byte == b':').nth(2)
}

/// The label of what lies at a path, itself and not what a link leads to; `None` where it has none.
pub fn label(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut label = vec![0; LONGEST];
    // SAFETY: path and attribute are C strings, and the kernel writes at most as many bytes as the buffer has.
    let read =
        unsafe { libc::lgetxattr(path.as_ptr(), ATTRIBUTE.as_ptr(), label.as_mut_ptr().cast(), label.len()) };
    let Ok(length) = usize::try_from(read) else {
        return match Errno::last() {
            Errno::ENODATA | Errno::EOPNOTSUPP => Ok(None),
            error => Err(error.into()),
        };
    };
    label.truncate(length);
    // The policy's tools store the byte that ends a C string, too.
    if label.last() == Some(&0) {
        label.pop();
    }
    Ok(Some(label))
}

/// Labels an open file.
pub fn set_label(file: &File, label: &[u8]) -> io::Result<()> {
    let label = CString::new(label)?;
    let bytes = label.as_bytes_with_nul();
    // SAFETY: the attribute is a C string, and the kernel reads as many bytes as the buffer has.
    let done = unsafe {
        libc::fsetxattr(file.as_raw_fd(), ATTRIBUTE.as_ptr(), bytes.as_ptr().cast(), bytes.len(), 0)
    };
    Errno::result(done).map(drop).map_err(Into::into)
}

/// Labels what lies at a path, a link itself.
pub fn set_label_at(path: &Path, label: &[u8]) -> io::Result<()> {
    let (path, label) = (CString::new(path.as_os_str().as_bytes())?, CString::new(label)?);
    let bytes = label.as_bytes_with_nul();
    // SAFETY: path and attribute are C strings, and the kernel reads as many bytes as the buffer has.
    let done =
        unsafe { libc::lsetxattr(path.as_ptr(), ATTRIBUTE.as_ptr(), bytes.as_ptr().cast(), bytes.len(), 0) };
    Errno::result(done).map(drop).map_err(Into::into)
}
