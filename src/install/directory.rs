//! Where the programs lie: in [`FOLDER`], or in a directory of the admin's that can execute (`install --directory`).
//!
//! Engines, units and hooks name [`FOLDER`] in any case. Where the programs lie in another directory it is a link to that one,
//! and the link is the only record. A move puts the programs into the new place first, and then exchanges two names, so that
//! a container that starts meanwhile finds a gate:
//!
//! ```text
//!  bin ─► old    bin.other ─► new, while the programs are written there
//!  bin ─► new    bin.other ─► old, until the run has succeeded, or goes back to it
//! ```
//!
//! What `bin.other` leads to is thus ours to remove, whenever a run was killed. The directory itself is the admin's: it is
//! neither made nor removed.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use super::programs::{COMMAND, in_folder, remove_tree};
use super::{GATE, TOOL};
use crate::atomic::{self, WriteError, fault};
use crate::files::{self, FileError};
use crate::node::exchange::exchange;
use crate::node::host::{Live, Node as _};

/// Where engines, units and hooks find the programs.
pub const FOLDER: &str = "/var/lib/pss-guard/bin";

/// The directory that is not in force: the next one, or the previous one.
pub(super) const OTHER: &str = "/var/lib/pss-guard/bin.other";

/// What is ours, and is removed as a whole.
const OURS: &str = "/var/lib/pss-guard";

/// Why the programs cannot lie in a directory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// It is not a path that can be written into a link, and into a file context.
    #[error("--directory {0:?} must be an absolute path without `..`, blanks and control characters")]
    Path(PathBuf),
    /// It is used for something else.
    #[error("--directory {}: {why}; name a directory of its own, or {FOLDER} for the usual one", .directory.display())]
    Unfit {
        /// The directory.
        directory: PathBuf,
        /// Why it does not do.
        why: &'static str,
    },
    /// What is checked would not be what is used.
    #[error("--directory {} leads through a symbolic link to {to}; name that one", .directory.display(), to = .to.display())]
    Link {
        /// The directory.
        directory: PathBuf,
        /// Where it leads.
        to: PathBuf,
    },
    /// It is not there, or others can write to it.
    #[error("the programs cannot lie there")]
    File(#[from] FileError),
    /// An engine of another user could not call the gate.
    #[error(
        "the programs cannot lie there: {0} must be searchable for all users, because rootless engines call the gate, too, but \
         its mode is {mode:04o}; chmod a+x {0}", .path.display()
    )]
    Closed {
        /// The directory, or one above it.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Somebody's program would be overwritten, and removed with ours.
    #[error(
        "{} is there, and no installation has put it there; name a directory without it, or move it away", .0.display()
    )]
    Taken(PathBuf),
    /// The one that is in force is lost.
    #[error(
        "{FOLDER} leads to {}, which cannot be used; make it usable again, or name another directory with --directory",
        .directory.display()
    )]
    Lost {
        /// The directory.
        directory: PathBuf,
        /// Why.
        source: Box<DirectoryError>,
    },
}

/// The directory that the programs lie in: [`FOLDER`], or where it leads.
#[must_use]
pub fn in_force(node: &Live) -> PathBuf {
    node.link(Path::new(FOLDER)).unwrap_or_else(|| FOLDER.into())
}

/// The directory that the programs are to lie in: the one that was named, else the one that is in force.
///
/// # Errors
///
/// Nothing may be put there.
pub fn wanted(node: &Live, named: Option<&Path>) -> Result<PathBuf, DirectoryError> {
    let now = in_force(node);
    let Some(named) = named else {
        let lost = |source| DirectoryError::Lost { directory: now.clone(), source: Box::new(source) };
        return check(node, &now).map(|()| now.clone()).map_err(lost);
    };
    check(node, named)?;
    // Without what a shell leaves at its end.
    let named: PathBuf = named.components().collect();
    let is_ours = [Some(&now), other(node).as_ref()].contains(&Some(&named));
    let programs = [GATE, TOOL].map(|program| at(&named, program));
    let taken = |path: &&PathBuf| fs::symlink_metadata(in_folder(node, path)).is_ok();
    match programs.iter().find(taken).filter(|_| !is_ours && named != Path::new(FOLDER)) {
        Some(taken) => Err(DirectoryError::Taken(taken.clone())),
        None => Ok(named),
    }
}

/// Whether root alone decides what lies in a directory, on the whole way to it, and it is a place for programs.
///
/// # Errors
///
/// It is not.
pub fn check(node: &Live, directory: &Path) -> Result<(), DirectoryError> {
    if directory == Path::new(FOLDER) {
        return Ok(());
    }
    let is_plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
    let is_text = |text: &str| !text.chars().any(|sign| sign.is_whitespace() || sign.is_control());
    let is_path = directory.is_absolute()
        && directory.components().all(is_plain)
        && directory.to_str().is_some_and(is_text);
    if !is_path {
        return Err(DirectoryError::Path(directory.to_owned()));
    }
    let below = |folder: &&str| directory.starts_with(folder);
    let unfit = |why| Err(DirectoryError::Unfit { directory: directory.to_owned(), why });
    if below(&OURS) {
        return unfit("it is removed with what the installer keeps there");
    }
    if ["/dev", "/proc", "/run", "/sys", "/tmp"].iter().any(below) {
        return unfit("it is empty after a boot");
    }
    if Path::new(COMMAND).parent() == Some(directory) {
        return unfit("the command that people call lies there");
    }
    let place = node.place(directory);
    let inside = Path::new("/").join(place.strip_prefix(node.root()).unwrap_or(&place));
    if inside != directory {
        return Err(DirectoryError::Link { directory: directory.to_owned(), to: inside });
    }
    for folder in directory.ancestors() {
        let place = node.place(folder);
        let metadata = fs::metadata(&place)
            .map_err(|source| FileError::Open { path: place.clone(), source })
            .map_err(DirectoryError::File)?;
        files::check_folder(&place, &metadata)?;
        let mode = metadata.permissions().mode() & 0o7777;
        // The root directory of a tree may be anywhere.
        if mode & 0o111 != 0o111 && folder != Path::new("/") {
            return Err(DirectoryError::Closed { path: place, mode });
        }
    }
    Ok(())
}

/// Where a program lies in a directory.
#[must_use]
pub(super) fn at(directory: &Path, program: &str) -> PathBuf {
    directory.join(Path::new(program).file_name().unwrap_or_default())
}

/// The directory that is not in force, where a run has left one.
fn other(node: &Live) -> Option<PathBuf> {
    let other = Path::new(OTHER);
    node.link(other).or_else(|| node.place(other).is_dir().then(|| FOLDER.into()))
}

/// Makes a directory the next one, so that programs can be written to [`OTHER`].
pub(super) fn begin(node: &Live, directory: &Path) -> Result<(), WriteError> {
    if other(node).as_deref() == Some(directory) {
        return Ok(());
    }
    forget_other(node)?;
    let place = in_folder(node, Path::new(OTHER));
    if directory == Path::new(FOLDER) {
        return atomic::make_folder(&place).map(drop);
    }
    place.parent().map_or(Ok(Vec::new()), atomic::make_folder)?;
    // On the disk before a program is there: without it that would be taken for somebody's.
    atomic::link(&place, directory).map(drop)
}

/// Makes the next directory the one in force, and that one the previous.
pub(super) fn turn_over(node: &Live) -> Result<(), WriteError> {
    let [now, other] = [FOLDER, OTHER].map(|name| in_folder(node, Path::new(name)));
    let done =
        if fs::symlink_metadata(&now).is_ok() { exchange(&now, &other) } else { fs::rename(&other, &now) };
    done.map_err(|error| match error.raw_os_error() {
        Some(libc::EINVAL | libc::ENOSYS) => io::Error::other(format!(
            "its file system cannot exchange two names ({error}), and without that there would be no gate for a moment; \
             uninstall the gate first"
        )),
        _ => error,
    })
    .map_err(fault("exchange", &now))?;
    let folder = now.parent().unwrap_or(&now);
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(fault("sync", folder))
}

/// Goes back to the directory that was in force. Whether anything changed; `None` where it is neither.
pub(super) fn go_back(node: &Live, was: &Path) -> Result<Option<bool>, WriteError> {
    if in_force(node) == was {
        return Ok(Some(false));
    }
    if other(node).as_deref() != Some(was) {
        return Ok(None);
    }
    turn_over(node).map(|()| Some(true))
}

/// Lets go of the directory that is not in force: removes our programs from it.
pub(super) fn forget_other(node: &Live) -> Result<(), WriteError> {
    atomic::forget(&in_folder(node, Path::new(OTHER)))?;
    let Some(directory) = other(node) else { return Ok(()) };
    remove(node, OTHER, directory != in_force(node))
}

/// Removes the programs, and nothing else of a directory that is the admin's.
pub(super) fn remove_all(node: &Live) -> Result<(), WriteError> {
    forget_other(node)?;
    remove(node, FOLDER, true)
}

fn remove(node: &Live, name: &str, with_programs: bool) -> Result<(), WriteError> {
    let place = in_folder(node, Path::new(name));
    if !place.is_symlink() {
        return remove_tree(&place);
    }
    for program in [GATE, TOOL].iter().filter(|_| with_programs) {
        let program = node.place(&at(Path::new(name), program));
        atomic::forget(&program)?;
        atomic::remove_if_there(&program)?;
    }
    // The last, because it says whose they are.
    atomic::remove(&place)
}
