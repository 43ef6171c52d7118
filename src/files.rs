//! How is a file read that somebody else wrote? Bounded, regular files only, and never blocking.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The largest config.json, state or sandbox spec that is read, in bytes.
pub const LIMIT: u64 = 16 << 20;

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be opened.
    #[error("open {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// A FIFO, a directory, a device: reading it could block for ever.
    #[error("{} is a {kind}, not a regular file", path.display())]
    NotRegular {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        kind: &'static str,
    },
    /// More than the limit.
    #[error("{} has {size} bytes, more than the {limit} that are read", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// The most that is read, in bytes.
        limit: u64,
    },
    /// The file was opened but not read to its end.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
}

impl ReadError {
    /// Whether the file is simply not there.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Open { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
    }
}

/// Reads a whole regular file of at most `limit` bytes.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
    let open = |source| ReadError::Open { path: path.to_owned(), source };
    // O_NONBLOCK: opening a FIFO that somebody put in the file's place must not wait for a writer.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    let file = File::options().read(true).custom_flags(flags).open(path).map_err(open)?;
    let meta = file.metadata().map_err(open)?;
    if !meta.is_file() {
        return Err(ReadError::NotRegular { path: path.to_owned(), kind: kind(meta.mode()) });
    }
    read_to_limit(&file, meta.len(), limit, path)
}

/// Reads to the end, refusing what is longer than the limit even if the size said otherwise.
fn read_to_limit(file: &File, size: u64, limit: u64, path: &Path) -> Result<Vec<u8>, ReadError> {
    let too_large = |size| ReadError::TooLarge { path: path.to_owned(), size, limit };
    let failed = |source| ReadError::Read { path: path.to_owned(), source };
    if size > limit {
        return Err(too_large(size));
    }
    let mut bytes = Vec::new();
    let size = usize::try_from(size).unwrap_or(0);
    let out_of_memory = || failed(std::io::ErrorKind::OutOfMemory.into());
    // One byte more than the size: a read that leaves it free has seen the end, as it nearly always does.
    bytes.try_reserve_exact(size.saturating_add(1)).map_err(|_| out_of_memory())?;
    bytes.resize(size.saturating_add(1), 0);
    let mut file = file;
    let first = loop {
        match file.read(&mut bytes) {
            Err(err) if err.kind() == std::io::ErrorKind::Interrupted => {}
            read => break read.map_err(failed)?,
        }
    };
    bytes.truncate(first);
    if first != size {
        file.take((limit + 1).saturating_sub(first as u64)).read_to_end(&mut bytes).map_err(failed)?;
    }
    let read = bytes.len() as u64;
    if read > limit { Err(too_large(read)) } else { Ok(bytes) }
}

fn kind(mode: u32) -> &'static str {
    match mode & libc::S_IFMT {
        libc::S_IFDIR => "directory",
        libc::S_IFIFO => "FIFO",
        libc::S_IFSOCK => "socket",
        libc::S_IFCHR | libc::S_IFBLK => "device",
        _ => "special file",
    }
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn only_a_regular_file_within_the_limit_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.json");
        std::fs::write(&file, "12345").unwrap();
        assert_eq!(read(&file, 5).unwrap(), b"12345");

        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let rows = [
            (file.clone(), 4, "has 5 bytes, more than the 4 that are read"),
            (fifo, 9, "is a FIFO, not a regular file"),
            (dir.path().to_owned(), 9, "is a directory, not a regular file"),
            (dir.path().join("nothing"), 9, "open "),
            ("/dev/zero".into(), 9, "is a device, not a regular file"),
        ];
        for (path, limit, expected) in rows {
            let shown = read(&path, limit).unwrap_err().to_string();
            assert!(shown.contains(expected), "{}: {shown}", path.display());
        }
    }
}
