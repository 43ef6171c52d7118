//! Hands the runtime exactly the `exec --process` file that was evaluated.
//!
//! A pipe (`--process <(…)`) can be read only once, so its content is passed on in an unnamed file, by descriptor. So is the
//! content of a file that another user could replace before the runtime reads it. A root-owned file in root-owned folders, as
//! engines make them, is passed on by its path.
//!
//! The descriptor is open in the runtime then. Its number is far above those that `--preserve-fds` and `LISTEN_FDS` count,
//! so that these mean what they meant, and runtimes close all others before a container's process is executed (runc
//! `libcontainer/init_linux.go` finalizeNamespace, crun `src/libcrun/linux.c` `mark_or_close_fds_ge_than`).

use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use pss_guard_core::files::{self, FileError, LIMIT};

/// The lowest numbers that a descriptor of ours may have, the first for which the process has room.
const NUMBERS: [i32; 3] = [1000, 200, 50];

/// Reads the file. Where the runtime must not read it again, `hand_on` gets the path of what it is to read instead; also
/// where that is more than is evaluated.
pub(super) fn read(path: &Path, hand_on: impl FnOnce(OsString)) -> Result<Vec<u8>, FileError> {
    if path.ancestors().all(is_roots_alone) {
        return files::read(path, LIMIT);
    }
    let is_pipe = fs::metadata(path).is_ok_and(|meta| meta.file_type().is_fifo());
    let bytes = if is_pipe { read_pipe(path) } else { files::read(path, LIMIT) }?;
    let failed = |source| FileError::Read { path: path.to_owned(), source };
    hand_on(keep(&bytes).map_err(failed)?);
    if bytes.len() as u64 > LIMIT {
        return Err(FileError::TooLarge { path: path.to_owned(), limit: LIMIT });
    }
    Ok(bytes)
}

/// Waits for whoever writes into a pipe, as the runtime would. What is longer than the limit is cut: execve(2) takes
/// no process that needs as much.
fn read_pipe(path: &Path) -> Result<Vec<u8>, FileError> {
    let file = File::open(path).map_err(|source| FileError::Open { path: path.to_owned(), source })?;
    let mut bytes = Vec::new();
    let read = file.take(LIMIT + 1).read_to_end(&mut bytes);
    read.map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    Ok(bytes)
}

/// Whether only root can change what lies at a path that this is a part of, or put something else there. Others cannot
/// exchange what is root's own in a sticky folder.
fn is_roots_alone(part: &Path) -> bool {
    let is_closed = |meta: &Metadata| {
        let is_sticky = meta.is_dir() && meta.mode() & libc::S_ISVTX != 0;
        meta.uid() == 0 && (is_sticky || meta.mode() & 0o022 == 0)
    };
    part.symlink_metadata().is_ok_and(|meta| (meta.is_file() || meta.is_dir()) && is_closed(&meta))
}

/// A path by which the runtime finds these bytes.
fn keep(bytes: &[u8]) -> io::Result<OsString> {
    let mut file = File::from(memfd_create(c"process.json", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(bytes)?;
    // It stays open: the runtime is this process soon.
    let open = NUMBERS.into_iter().map(|least| fcntl(&file, FcntlArg::F_DUPFD(least)));
    let mut last = Err(io::ErrorKind::OutOfMemory.into());
    for number in open {
        match number {
            Ok(number) => return Ok(format!("/proc/self/fd/{number}").into()),
            Err(errno) => last = Err(errno.into()),
        }
    }
    last
}
