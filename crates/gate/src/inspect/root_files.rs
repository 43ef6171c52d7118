//! Reads the small files of a folder that only root can have written (`hooks.d`, CDI), within limits, and only where something
//! in a container's spec needs an explanation.

use std::path::{Path, PathBuf};

use pss_guard_core::files::{self, FileError, Links, Owner};

/// The most files of one folder that are read; device drivers keep one for each claim.
const MOST_FILES: usize = 2_000;

/// The largest file that is read, in bytes.
const LARGEST: u64 = 1 << 20;

/// The most bytes of one folder that are read.
const MOST_BYTES: u64 = 16 << 20;

/// Why a file, or a whole folder, does not count.
#[derive(Debug, thiserror::Error)]
pub(super) enum SkipError {
    /// It cannot be read, or others than root can write it.
    #[error(transparent)]
    File(#[from] FileError),
    /// It does not say what it should.
    #[error("parse {}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There are too many.
    #[error("{} has more than {MOST_FILES} files, or {MOST_BYTES} bytes of them", folder.display())]
    TooMany {
        /// The folder.
        folder: PathBuf,
    },
}

/// Hands out every file of a folder whose name ends in one of these, in order of their names, and returns what was
/// skipped. A folder that is not there has no files.
pub(super) fn each(
    folder: &Path,
    extensions: &[&str],
    mut read: impl FnMut(&Path, &[u8]) -> Result<(), Box<dyn std::error::Error + Send + Sync>>,
) -> Vec<SkipError> {
    let unreadable = |source| vec![FileError::Open { path: folder.to_owned(), source }.into()];
    let folder = match closed(folder) {
        Ok(folder) => folder,
        Err(err) if err.is_missing() => return Vec::new(),
        Err(err) => return vec![err.into()],
    };
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(err) => return unreadable(err),
    };
    let wanted = |path: &PathBuf| {
        path.extension().is_some_and(|own| extensions.iter().any(|extension| own == *extension))
    };
    let mut skipped = Vec::new();
    let mut paths: Vec<PathBuf> = Vec::new();
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())).filter(wanted) {
        if paths.len() == MOST_FILES {
            skipped.push(SkipError::TooMany { folder: folder.clone() });
            break;
        }
        paths.push(path);
    }
    paths.sort_unstable();
    let mut left = MOST_BYTES;
    for path in paths {
        match of_root(&path, left.min(LARGEST)) {
            Ok(bytes) => {
                left = left.saturating_sub(bytes.len() as u64);
                if let Err(source) = read(&path, &bytes) {
                    skipped.push(SkipError::Parse { path, source });
                }
            }
            Err(_) if left < LARGEST => {
                skipped.push(SkipError::TooMany { folder: folder.clone() });
                break;
            }
            Err(err) => skipped.push(err.into()),
        }
    }
    skipped
}

/// Reads a file that nobody but root can have written, wherever it is linked to.
fn of_root(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let open = |source| FileError::Open { path: path.to_owned(), source };
    let real = path.canonicalize().map_err(open)?;
    if real.parent() != path.parent() {
        closed(real.parent().unwrap_or(Path::new("/")))?;
    }
    files::read_as(&real, Links::Refuse, Owner::Root, limit).map(|(_, _, bytes)| bytes)
}

/// A folder without links in its path, if only root can put anything in it or exchange it, or one above it.
fn closed(folder: &Path) -> Result<PathBuf, FileError> {
    let real = files::walk(folder)?;
    let metadata =
        real.symlink_metadata().map_err(|source| FileError::Open { path: real.clone(), source })?;
    files::check_folder(&real, &metadata)?;
    Ok(real)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};
    use std::path::Path;

    use super::each;
    use crate::message::line;

    fn names(folder: &Path) -> (Vec<String>, Vec<String>) {
        let mut names = Vec::new();
        let skipped = each(folder, &["json", "yaml"], |path, bytes| {
            names.push(path.file_name().unwrap().to_str().unwrap().to_owned());
            if bytes == b"bad" { Err("it is bad".into()) } else { Ok(()) }
        });
        (names, skipped.iter().map(|err| line(err)).collect())
    }

    fn mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Below /tmp nothing is root's alone: anybody may make files there.
    fn room() -> tempfile::TempDir {
        tempfile::tempdir_in("/run").unwrap()
    }

    #[test]
    fn only_what_root_alone_can_have_written_counts() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let room = room();
        let (folder, other) = (room.path().join("cdi"), room.path().join("other"));
        for dir in [&folder, &other] {
            std::fs::create_dir(dir).unwrap();
            mode(dir, 0o755);
        }
        mode(room.path(), 0o755);
        let file = |name: &str, text: &str| {
            std::fs::write(folder.join(name), text).unwrap();
            mode(&folder.join(name), 0o644);
        };
        for name in ["b.yaml", "a.json", "c.yml", "d.conf", "e", "theirs.json", "open.json"] {
            file(name, "{}");
        }
        file("bad.json", "bad");
        file("large.json", &" ".repeat((1 << 20) + 1));
        chown(folder.join("theirs.json"), Some(1000), None).unwrap();
        mode(&folder.join("open.json"), 0o664);
        nix::unistd::mkfifo(&folder.join("fifo.json"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        std::fs::create_dir(folder.join("folder.json")).unwrap();
        symlink("nowhere", folder.join("gone.json")).unwrap();
        for (name, dir_mode) in [("closed", 0o755), ("open", 0o777)] {
            let dir = other.join(name);
            std::fs::create_dir(&dir).unwrap();
            std::fs::write(dir.join("x.json"), "{}").unwrap();
            mode(&dir.join("x.json"), 0o644);
            mode(&dir, dir_mode);
            symlink(dir.join("x.json"), folder.join(format!("link-{name}.json"))).unwrap();
        }

        let (read, skipped) = names(&folder);
        assert_eq!(read, ["a.json", "b.yaml", "bad.json", "link-closed.json"]);
        let expected = [
            "bad.json: it is bad",
            "must be a regular file, but is a FIFO",
            "must be a regular file, but is a directory",
            "No such file",
            "large.json is larger than",
            "open must be writable by root alone",
            "open.json must be writable by root alone",
            "theirs.json must be owned by root",
        ];
        assert_eq!(skipped.len(), expected.len(), "{skipped:#?}");
        for (skipped, expected) in skipped.iter().zip(expected) {
            assert!(skipped.contains(expected), "{expected}: {skipped}");
        }

        // Who can exchange the folder can exchange the files.
        for (dir, dir_mode) in [(folder.as_path(), 0o775), (room.path(), 0o777)] {
            mode(dir, dir_mode);
            let (read, skipped) = names(&folder);
            assert!(read.is_empty() && skipped[0].contains("must be writable by root alone"), "{skipped:?}");
            mode(dir, 0o755);
        }
        assert_eq!(names(&room.path().join("missing")), (vec![], vec![]));
    }
}
