//! Can somebody change the images between the look and the restore? Not if every directory from the root of the file
//! system to them is root's and closed to others, and so is every file.
//!
//! A sticky directory like /tmp counts as closed for what is root's own in it, and a link that is root's in such a
//! directory leads where root said. Engines unpack checkpoints as root into directories of their own: containerd
//! `<root>/io.containerd.grpc.v1.cri/containers/<id>/checkpoint` and, for `ctr`, `/tmp/ctrd-checkpoint<random>`
//! (`plugins/services/tasks/local.go`), CRI-O and podman `<storage>/overlay-containers/<id>/userdata/checkpoint`
//! (`internal/oci/container.go` CheckpointPath). An archive can bring files of another owner.

use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

use super::CheckpointError;
use crate::files::{self, FileError, Links, Owner};

/// As many links as the kernel follows in one path (`MAXSYMLINKS`).
const MOST_LINKS: usize = 40;

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
        let place = walk(images)?;
        let metadata = lstat(&place)?;
        files::judge_folder(&place, &metadata)?;
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
                files::judge(&path, &metadata, Owner::Root, u64::MAX)?;
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

/// The directory without links, if nobody but root can make another of it.
fn walk(images: &Path) -> Result<PathBuf, CheckpointError> {
    let mut place = PathBuf::from("/");
    let mut ahead: Vec<OsString> = Vec::new();
    push(&mut ahead, images);
    let mut links = 0;
    while let Some(name) = ahead.pop() {
        if name == ".." {
            place.pop();
            continue;
        }
        files::judge_way(&place, &lstat(&place)?)?;
        let next = place.join(&name);
        let metadata = lstat(&next)?;
        if !metadata.is_symlink() {
            place = next;
            continue;
        }
        links += 1;
        if links > MOST_LINKS {
            return Err(CheckpointError::Links(images.to_owned()));
        }
        files::judge_link(&next, &metadata)?;
        let target = fs::read_link(&next).map_err(|source| FileError::Read { path: next, source })?;
        if target.is_absolute() {
            place = PathBuf::from("/");
        }
        push(&mut ahead, &target);
    }
    Ok(place)
}

/// What is to be walked next, the first part last.
fn push(ahead: &mut Vec<OsString>, path: &Path) {
    let parts = path.components().rev().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    ahead.extend(parts);
}

fn lstat(path: &Path) -> Result<fs::Metadata, FileError> {
    fs::symlink_metadata(path).map_err(|source| FileError::Open { path: path.to_owned(), source })
}
