//! Exchanges what two names stand for, in one step: whoever opens either of them finds one or the other, and never nothing.
//!
//! One system call of libc (`RENAME_EXCHANGE`, Linux 3.15), because nix has renameat2(2) for glibc alone. It gets two C strings.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use nix::errno::Errno;

/// Exchanges two names of one file system, whatever they stand for; links are not followed.
///
/// # Errors
///
/// Both must be there (`ENOENT`), on one mount (`EXDEV`), and the file system must be able to do it (`EINVAL`).
pub(crate) fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    let [one, other] =
        [CString::new(one.as_os_str().as_bytes())?, CString::new(other.as_os_str().as_bytes())?];
    // SAFETY: both are C strings that outlive the call, and the kernel only reads them.
    let done = unsafe {
        libc::syscall(
            libc::SYS_renameat2,
            libc::AT_FDCWD,
            one.as_ptr(),
            libc::AT_FDCWD,
            other.as_ptr(),
            libc::RENAME_EXCHANGE,
        )
    };
    Errno::result(done).map(drop).map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::exchange;

    #[test]
    fn a_directory_and_a_link_change_places() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, link) = (dir.path().join("folder"), dir.path().join("link"));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("file"), "in it").unwrap();
        symlink("/nowhere", &link).unwrap();
        for turned in [true, false] {
            exchange(&folder, &link).unwrap();
            let (is_folder, is_link) = if turned { (&link, &folder) } else { (&folder, &link) };
            assert_eq!(fs::read_to_string(is_folder.join("file")).unwrap(), "in it");
            assert_eq!(fs::read_link(is_link).unwrap(), Path::new("/nowhere"));
        }
        let missing = exchange(&folder, &dir.path().join("nothing")).unwrap_err();
        assert_eq!(missing.kind(), std::io::ErrorKind::NotFound);
        assert!(folder.exists());
    }
}
