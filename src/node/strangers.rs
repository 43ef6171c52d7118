//! Reads files at paths that an unprivileged user chose, without waiting for anything and only up to a limit.
//!
//! A path can lead into a file system whose server never answers: FUSE, NFS, an automount. Whoever looks up a name in it waits,
//! and cannot even be killed (`fs/fuse/dev.c`, `request_wait_answer`). So the path is walked a name at a time with
//! `O_PATH`, and before a name is looked up in a folder it is known that the kernel alone keeps what is in that: by the id
//! of the mount that the folder is on, which is of the opened folder and not of its name, so that nothing can be
//! mounted in between. What is found at the end is opened again by its descriptor.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path};

use nix::fcntl::{OFlag, open, openat, readlinkat};
use nix::sys::stat::Mode;

use crate::files::{self, FileError, Owner};

/// The largest config.json that is read on a user's word, in bytes. podman's have 30,000.
pub const LARGEST: u64 = 256 << 10;

/// As many symbolic links as the kernel follows.
const LINKS: usize = 40;

/// File systems whose answers come from this kernel and the node's own disks.
#[rustfmt::skip]
const LOCAL: [&str; 18] = [
    "bcachefs", "btrfs", "erofs", "exfat", "ext2", "ext3", "ext4", "f2fs", "iso9660", "jfs", "nilfs2", "overlay", "ramfs",
    "squashfs", "tmpfs", "vfat", "xfs", "zfs",
];

/// Which mounts of this program's are local, by their ids.
#[derive(Debug, Default)]
pub(crate) struct Mounts(HashMap<u64, bool>);

impl Mounts {
    /// The mounts there are now. What is mounted later is not known, and so not entered.
    pub(crate) fn of_this_program() -> Self {
        let table = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
        Self(String::from_utf8_lossy(&table).lines().filter_map(mount).collect())
    }

    /// Reads a regular file of at most `limit` bytes.
    pub(crate) fn read(&self, path: &Path, limit: u64) -> Result<(Metadata, Vec<u8>), FileError> {
        let fault = |source| FileError::Open { path: path.to_owned(), source };
        let found = self.walk(path).map_err(fault)?;
        files::check(path, &found.metadata().map_err(fault)?, Owner::Anybody, limit)?;
        let opened = OpenOptions::new()
            .read(true)
            // Whoever holds a lease on it is not waited for, either.
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(format!("/proc/self/fd/{}", found.as_raw_fd()));
        let mut file = opened.map_err(fault)?;
        let metadata = file.metadata().map_err(fault)?;
        let bytes = files::read_opened(&mut file, &metadata, path, limit)?;
        Ok((metadata, bytes))
    }

    /// What is at the end of a path, through links, without opening it.
    fn walk(&self, path: &Path) -> io::Result<File> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let root = File::from(open("/", flags, Mode::empty())?);
        let (mut above, mut here) = (Vec::new(), root);
        let mut todo: Vec<OsString> = path.iter().rev().map(ToOwned::to_owned).collect();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            match Path::new(&part).components().next() {
                None | Some(Component::CurDir) => {}
                Some(Component::RootDir | Component::Prefix(_)) => {
                    above.truncate(1);
                    here = above.pop().unwrap_or(here);
                }
                Some(Component::ParentDir) => here = above.pop().unwrap_or(here),
                Some(Component::Normal(name)) => {
                    self.is_local(&here)?;
                    let next = File::from(openat(&here, name, flags, Mode::empty())?);
                    self.is_local(&next)?;
                    if next.metadata()?.is_symlink() {
                        links += 1;
                        if links > LINKS {
                            return Err(io::Error::from_raw_os_error(libc::ELOOP));
                        }
                        let target = readlinkat(&next, "")?;
                        todo.extend(Path::new(&target).iter().rev().map(ToOwned::to_owned));
                    } else {
                        above.push(std::mem::replace(&mut here, next));
                    }
                }
            }
        }
        Ok(here)
    }

    fn is_local(&self, file: &File) -> io::Result<()> {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd()))?;
        let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
        match id.and_then(|id: u64| self.0.get(&id)) {
            Some(true) => Ok(()),
            _ => Err(io::Error::other(
                "it is on a file system that may not answer, so it is not read for a user's process",
            )),
        }
    }
}

/// A line of `mountinfo` (`proc_pid_mountinfo(5)`): the mount's id, and whether its type is one of [`LOCAL`].
fn mount(line: &str) -> Option<(u64, bool)> {
    let (mount, file_system) = line.split_once(" - ")?;
    let kind = file_system.split(' ').next()?;
    Some((mount.split(' ').next()?.parse().ok()?, LOCAL.contains(&kind)))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::Mounts;

    #[test]
    fn a_path_is_walked_as_the_kernel_walks_it_on_local_file_systems_alone() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path();
        fs::create_dir_all(top.join("a/b")).unwrap();
        fs::write(top.join("a/file"), "12345").unwrap();
        nix::unistd::mkfifo(&top.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        symlink(top.join("a"), top.join("absolute")).unwrap();
        symlink("../a", top.join("a/relative")).unwrap();
        symlink("loop", top.join("loop")).unwrap();
        let mounts = Mounts::of_this_program();
        let rows = [
            ("a/file", Ok("12345")),
            ("a/b/../file", Ok("12345")),
            ("absolute/./file", Ok("12345")),
            ("a/relative/relative/file", Ok("12345")),
            ("../../../../../../proc/self/status", Err("may not answer")),
            ("nothing", Err("No such file")),
            ("a/file/x", Err("Not a directory")),
            ("loop", Err("Too many levels")),
            ("fifo", Err("is a FIFO")),
            ("a", Err("is a directory")),
        ];
        for (path, expected) in rows {
            let read = mounts.read(&top.join(path), 5);
            match (read, expected) {
                (Ok((_, bytes)), Ok(text)) => assert_eq!(bytes, text.as_bytes(), "{path}"),
                (Err(error), Err(why)) => {
                    let said = crate::message::line(&error);
                    assert!(said.contains(why), "{path}: {said}");
                }
                (read, _) => panic!("{path}: {read:?}"),
            }
        }
        assert!(mounts.read(&top.join("a/file"), 4).unwrap_err().to_string().contains("larger than 4"));
        assert!(Mounts::default().read(&top.join("a/file"), 5).is_err(), "a mount that came later");
    }
}
