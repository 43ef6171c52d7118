//! Reads files that another user may have written: bounded, regular files only, never blocking. A file that
//! decides about containers must be writable by root alone.

use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, openat2};

/// The largest config.json, state or sandbox spec that is read, in bytes.
pub const LIMIT: u64 = 16 << 20;

/// Why a file is not read, or not believed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// It cannot be opened.
    #[error("open {}", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be read.
    #[error("read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be removed.
    #[error("remove {}", .path.display())]
    Remove {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is something else.
    #[error("{} must be {wanted}, but is {kind}", .path.display())]
    Kind {
        /// The path.
        path: PathBuf,
        /// What was expected.
        wanted: &'static str,
        /// What it is.
        kind: &'static str,
    },
    /// It is somebody else's.
    #[error("{0} must be owned by root, but is owned by uid {uid}; chown root:root {0}", .path.display())]
    Owner {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        uid: u32,
    },
    /// Others can change it.
    #[error("{0} must be writable by root alone, but its mode is {mode:04o}; chmod go-w {0}", .path.display())]
    Writable {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is too large to be what it should be.
    #[error("{} is larger than {limit} bytes", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What is allowed.
        limit: u64,
    },
}

impl FileError {
    /// Whether this user may not read it; others may.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Open { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
    }

    /// Whether there simply is no such file.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Open { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Whether the last part of a path may be a symbolic link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// People and configuration management make them.
    Follow,
    /// This program wrote the file, and never as a link.
    Refuse,
}

/// Whether it matters who owns a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Only root may be able to write it.
    Root,
    /// Anybody's: it was named on the command line.
    Anybody,
}

/// Reads a whole regular file of at most `limit` bytes, whoever owns it.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    read_as(path, Links::Follow, Owner::Anybody, limit).map(|(_, _, bytes)| bytes)
}

/// The same, with what the file was like.
pub fn read_with(path: &Path, limit: u64) -> Result<(Metadata, Vec<u8>), FileError> {
    read_as(path, Links::Follow, Owner::Anybody, limit).map(|(_, metadata, bytes)| (metadata, bytes))
}

/// Reads the beginning of a regular file.
pub fn head(path: &Path, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let read = begin(path, &mut bytes)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Reads the beginning of a regular file to where its caller has room, and says how much that was, in bytes.
pub fn begin(path: &Path, room: &mut [u8]) -> io::Result<usize> {
    let mut file = open_to_read(path, libc::O_NONBLOCK | libc::O_NOCTTY)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    file.read(room)
}

/// Reads a file of the process file system that the kernel writes in one piece, and that does not say how long it is. A table
/// of many lines comes in several pieces, and only the first would be read.
pub fn read_proc(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = open_to_read(path, 0)?;
    // Most are much shorter than a page, and the kernel hands out what there is: a part of the page is all.
    let mut page = [0; 4096];
    let first = loop {
        match file.read(&mut page) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => break read?,
        }
    };
    let mut bytes = page.get(..first).unwrap_or_default().to_vec();
    if first == page.len() {
        file.read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// Reads a regular file that passes [`check`]. A FIFO in its place does not block, and a growing file does not grow
/// beyond the limit.
pub fn read_as(
    path: &Path,
    links: Links,
    owner: Owner,
    limit: u64,
) -> Result<(File, Metadata, Vec<u8>), FileError> {
    let (mut file, metadata) = open_as(path, links, owner, limit)?;
    let bytes = read_opened(&mut file, &metadata, path, limit)?;
    Ok((file, metadata, bytes))
}

/// Opens a regular file that passes [`check`].
fn open_as(path: &Path, links: Links, owner: Owner, limit: u64) -> Result<(File, Metadata), FileError> {
    let no_follow = if links == Links::Refuse { libc::O_NOFOLLOW } else { 0 };
    let file = match open_to_read(path, libc::O_NONBLOCK | libc::O_NOCTTY | no_follow) {
        Ok(file) => file,
        // What open(2) says of a link that must not be followed; "too many levels" would mislead.
        Err(error) if links == Links::Refuse && error.raw_os_error() == Some(libc::ELOOP) => {
            return Err(FileError::Kind { path: path.to_owned(), wanted: REGULAR, kind: "a symbolic link" });
        }
        Err(source) => return Err(FileError::Open { path: path.to_owned(), source }),
    };
    let metadata = file.metadata().map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    check(path, &metadata, owner, limit)?;
    Ok((file, metadata))
}

/// Opens a file, closed on execve(2). By openat2(2): musl follows every open(2) that asks for that by an fcntl(2), for
/// kernels before 2.6.23.
fn open_to_read(path: &Path, flags: libc::c_int) -> io::Result<File> {
    let how = OpenHow::new().flags(OFlag::from_bits_retain(flags) | OFlag::O_RDONLY | OFlag::O_CLOEXEC);
    match openat2(AT_FDCWD, path, how) {
        Ok(file) => Ok(file.into()),
        // Linux before 5.6, or a filter of system calls that does not know it.
        Err(Errno::ENOSYS | Errno::EPERM) => OpenOptions::new().read(true).custom_flags(flags).open(path),
        Err(error) => Err(error.into()),
    }
}

/// Opens a regular file of at most `limit` bytes, whoever owns it, for [`read_opened`].
pub fn open(path: &Path, limit: u64) -> Result<(File, Metadata), FileError> {
    open_as(path, Links::Follow, Owner::Anybody, limit)
}

/// Reads a file that was opened, and no more than `limit` bytes of it.
pub fn read_opened(
    file: &mut File,
    metadata: &Metadata,
    path: &Path,
    limit: u64,
) -> Result<Vec<u8>, FileError> {
    let bytes = read_to_limit(file, metadata.len(), limit)
        .map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    if bytes.len() as u64 > limit {
        return Err(FileError::TooLarge { path: path.to_owned(), limit });
    }
    Ok(bytes)
}

/// Reads to the end, or to one byte beyond the limit.
fn read_to_limit(file: &mut File, size: u64, limit: u64) -> io::Result<Vec<u8>> {
    let size = usize::try_from(size).unwrap_or(0);
    let mut bytes = Vec::new();
    // One byte more than the size: a read that leaves it free has seen the end, as it nearly always does.
    bytes
        .try_reserve_exact(size.saturating_add(1))
        .map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    bytes.resize(size.saturating_add(1), 0);
    let first = loop {
        match file.read(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => break read?,
        }
    };
    bytes.truncate(first);
    if first != size {
        file.take(limit.saturating_add(1).saturating_sub(first as u64)).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// Whether a file is regular, not too large and, if asked for, writable by root alone.
pub fn check(path: &Path, metadata: &Metadata, owner: Owner, limit: u64) -> Result<(), FileError> {
    if !metadata.is_file() {
        return Err(FileError::Kind { path: path.to_owned(), wanted: REGULAR, kind: kind(metadata) });
    }
    if owner == Owner::Root {
        root_alone(path, metadata)?;
    }
    if metadata.len() > limit {
        return Err(FileError::TooLarge { path: path.to_owned(), limit });
    }
    Ok(())
}

/// Whether a folder is one in which only root can put files.
pub fn check_folder(path: &Path, metadata: &Metadata) -> Result<(), FileError> {
    if !metadata.is_dir() {
        return Err(FileError::Kind { path: path.to_owned(), wanted: "a directory", kind: kind(metadata) });
    }
    root_alone(path, metadata)
}

/// Opens a folder in which only root can put files, and which is not reached by a link; `None` if there is none.
pub fn open_folder(path: &Path) -> Result<Option<File>, FileError> {
    // What is no folder is an error of open(2) itself: a FIFO does not block.
    let folder = match open_to_read(path, libc::O_DIRECTORY | libc::O_NOFOLLOW) {
        Ok(folder) => folder,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(FileError::Open { path: path.to_owned(), source }),
    };
    let metadata = folder.metadata().map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    check_folder(path, &metadata)?;
    check_folder_of(path)?;
    Ok(Some(folder))
}

/// Who may own a directory that a mount source is believed to lie in.
#[derive(Clone, Copy, Debug)]
pub struct Owners {
    /// Root, as whoever asks sees it.
    pub root: u32,
    /// Somebody else who counts as root there.
    pub also: Option<u32>,
}

/// Whether what lies at a path is a directory in which only its owners can put, exchange and remove things. In a sticky
/// directory others can make things, but exchange none that are not theirs: it counts as closed for who looks at the
/// owner of the next part of a path as well.
pub fn check_closed(path: &Path, links: Links, owners: Owners) -> Result<(), FileError> {
    let metadata = if links == Links::Follow { path.metadata() } else { path.symlink_metadata() };
    let metadata = metadata.map_err(|source| FileError::Open { path: path.to_owned(), source })?;
    if !metadata.is_dir() {
        return Err(FileError::Kind { path: path.to_owned(), wanted: "a directory", kind: kind(&metadata) });
    }
    let (uid, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    if uid != owners.root && owners.also != Some(uid) {
        return Err(FileError::Owner { path: path.to_owned(), uid });
    }
    if mode & 0o022 != 0 && mode & libc::S_ISVTX == 0 {
        return Err(FileError::Writable { path: path.to_owned(), mode });
    }
    Ok(())
}

/// Whether root alone decides what lies at a path, of which lstat(2) says `own`. Whoever can write to its folder can put
/// another file of root's there, or a link to one; the same holds of every folder on the way that a link leads, and of
/// every link on it.
pub fn check_place(path: &Path, own: &Metadata) -> Result<(), FileError> {
    check_folder_of(path)?;
    if own.is_symlink() { walk(path).map(|_| ()) } else { Ok(()) }
}

/// Whether root alone can put files in place of those that lie beside this one, or take them away. A sticky folder is
/// closed: nobody renames or removes there what is root's.
pub fn check_folder_of(path: &Path) -> Result<&Path, FileError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let open = |source| FileError::Open { path: folder.to_owned(), source };
    let metadata = std::fs::metadata(folder).map_err(open)?;
    check_way(folder, &metadata)?;
    Ok(folder)
}

/// Whether only root can exchange what is root's own in a folder: others may put files of theirs into a sticky one.
pub fn check_way(path: &Path, metadata: &Metadata) -> Result<(), FileError> {
    let is_sticky = metadata.is_dir() && metadata.mode() & libc::S_ISVTX != 0;
    if is_sticky { root_owns(path, metadata) } else { check_folder(path, metadata) }
}

/// As many links as the kernel follows in one path (`MAXSYMLINKS`).
const MOST_LINKS: usize = 40;

/// Walks to what a path names, and says where that is without links, if nobody but root can make it lead elsewhere:
/// every directory on the way passes [`check_way`], also behind links, and every link is root's. What is there in the end
/// is for the caller to check.
pub fn walk(path: &Path) -> Result<PathBuf, FileError> {
    let lstat = |path: &Path| {
        std::fs::symlink_metadata(path).map_err(|source| FileError::Open { path: path.to_owned(), source })
    };
    let mut at = PathBuf::from("/");
    let mut ahead: Vec<OsString> = Vec::new();
    let push = |ahead: &mut Vec<OsString>, path: &Path| {
        ahead.extend(path.components().rev().filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        }));
    };
    push(&mut ahead, path);
    let mut links = 0;
    while let Some(name) = ahead.pop() {
        if name == ".." {
            at.pop();
            continue;
        }
        check_way(&at, &lstat(&at)?)?;
        let next = at.join(&name);
        let metadata = lstat(&next)?;
        if !metadata.is_symlink() {
            at = next;
            continue;
        }
        links += 1;
        if links > MOST_LINKS {
            let source = io::Error::from_raw_os_error(libc::ELOOP);
            return Err(FileError::Open { path: path.to_owned(), source });
        }
        root_owns(&next, &metadata)?;
        let target = std::fs::read_link(&next).map_err(|source| FileError::Read { path: next, source })?;
        if target.is_absolute() {
            at = PathBuf::from("/");
        }
        push(&mut ahead, &target);
    }
    Ok(at)
}

fn root_alone(path: &Path, metadata: &Metadata) -> Result<(), FileError> {
    root_owns(path, metadata)?;
    let mode = metadata.mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Err(FileError::Writable { path: path.to_owned(), mode });
    }
    Ok(())
}

fn root_owns(path: &Path, metadata: &Metadata) -> Result<(), FileError> {
    let uid = metadata.uid();
    if uid != 0 && !(uid == OVERFLOW_UID && in_user_namespace()) {
        return Err(FileError::Owner { path: path.to_owned(), uid });
    }
    Ok(())
}

const REGULAR: &str = "a regular file";

/// Whom files of unmapped users seem to belong to (`kernel/sysctl`, `fs.overflowuid`).
const OVERFLOW_UID: u32 = 65534;

/// Whether root's files can seem to belong to nobody: rootless podman runs its hooks in a user namespace without the
/// host's root. Elsewhere uid 65534 is a user like any other.
fn in_user_namespace() -> bool {
    std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !is_identity(&map))
}

fn is_identity(map: &str) -> bool {
    map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

fn kind(metadata: &Metadata) -> &'static str {
    let kind = metadata.file_type();
    match () {
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_socket() => "a socket",
        () if kind.is_block_device() || kind.is_char_device() => "a device",
        () if kind.is_symlink() => "a symbolic link",
        () => "a regular file",
    }
}

#[cfg(test)]
mod tests {
    use super::{is_identity, read};

    #[test]
    fn only_a_map_of_every_user_to_itself_is_the_hosts() {
        assert!(is_identity("         0          0 4294967295\n"));
        for map in ["", "0 1000 1\n", "0 1000 1\n1 100000 65536\n", "0 0 65536\n", "0 0 4294967295\n1 2 3\n"]
        {
            assert!(!is_identity(map), "{map}");
        }
    }

    #[test]
    fn only_a_regular_file_within_the_limit_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.json");
        std::fs::write(&file, "12345").unwrap();
        assert_eq!(read(&file, 5).unwrap(), b"12345");

        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let rows = [
            (file.clone(), 4, "is larger than 4 bytes"),
            (fifo, 9, "must be a regular file, but is a FIFO"),
            (dir.path().to_owned(), 9, "must be a regular file, but is a directory"),
            (dir.path().join("nothing"), 9, "open "),
            ("/dev/zero".into(), 9, "must be a regular file, but is a device"),
        ];
        for (path, limit, expected) in rows {
            let shown = read(&path, limit).unwrap_err().to_string();
            assert!(shown.contains(expected), "{}: {shown}", path.display());
        }
    }
}
