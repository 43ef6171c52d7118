//! Checks that only root can change the images between the evaluation and the restore: every directory from the root of the file
//! system to them is root's and closed to others, and so is every file.
//!
//! A sticky directory like /tmp counts as closed for what is root's own in it, and a link that is root's in such a
//! directory leads where root said. Engines unpack checkpoints as root into directories of their own: containerd
//! `<root>/io.containerd.grpc.v1.cri/containers/<id>/checkpoint` and, for `ctr`, `/tmp/ctrd-checkpoint<random>`
//! (`plugins/services/tasks/local.go`), CRI-O and podman `<storage>/overlay-containers/<id>/userdata/checkpoint`
//! (`internal/oci/container.go` CheckpointPath). An archive can bring files of another owner.

use std::fs;
use std::path::{Path, PathBuf};

use super::CheckpointError;
use pss_guard_core::files::{self, FileError, Links, Owner};

/// More files than CRIU writes for the largest container: a few for each task.
const MOST_FILES: usize = 200_000;

/// CRIU's link to an earlier dump (`criu/include/image.h` CR_PARENT_LINK). Only memory pages come from there.
const PARENT: &str = "parent";

/// A directory of images that only root can change.
#[derive(Debug)]
pub(super) struct Place(PathBuf);

impl Place {
    /// Walks to the directory, and looks at everything in it.
    pub(super) fn open(images: &Path) -> Result<Self, CheckpointError> {
        let place = files::walk(images)?;
        let metadata = lstat(&place)?;
        files::check_folder(&place, &metadata)?;
        let read = |source| FileError::Read { path: place.clone(), source };
        for (number, entry) in fs::read_dir(&place).map_err(read)?.enumerate() {
            if number == MOST_FILES {
                return Err(CheckpointError::TooMany { what: "files", most: MOST_FILES });
            }
            let entry = entry.map_err(read)?;
            let path = entry.path();
            let metadata = lstat(&path)?;
            if metadata.is_symlink() && entry.file_name() != PARENT {
                return Err(CheckpointError::Link(path));
            }
            if metadata.is_file() {
                files::check(&path, &metadata, Owner::Root, u64::MAX)?;
            }
        }
        Ok(Self(place))
    }

    /// Reads one image of at most `limit` bytes, if it is there.
    pub(super) fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, CheckpointError> {
        match files::read_as(&self.0.join(name), Links::Refuse, Owner::Root, limit) {
            Ok((_, _, bytes)) => Ok(Some(bytes)),
            Err(err) if err.is_missing() => Ok(None),
            Err(err) => Err(err.into()),
        }
    }
}

fn lstat(path: &Path) -> Result<fs::Metadata, FileError> {
    fs::symlink_metadata(path).map_err(|source| FileError::Open { path: path.to_owned(), source })
}
