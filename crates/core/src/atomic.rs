//! Replaces files atomically: the one way in which pss-guard writes what another process reads.
//!
//! | | who else may write it | owner and mode | after a power cut |
//! | --- | --- | --- | --- |
//! | [`replace`] | nobody: the caller holds a lock | those of the file that is there | the old or the new |
//! | [`publish`] | nobody; the folder may be another user's | this process', and `mode` | the old or the new |
//! | [`put`] | others at the same time | this process', and `mode` | as [`Lasts`] says |
//! | [`create`] | others at the same time; the first one wins | this process', and `mode` | none or the new |
//!
//! All of them write under another name, which O_EXCL makes theirs, with a mode that nobody else can read, and rename. The
//! namespaces have a way of their own: a folder of thousands is written, waited for once, and renamed file by file
//! (`crate::store`).

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown,
};
use std::path::{Path, PathBuf};

use crate::signals;

/// A change that could not be made.
#[derive(Debug, thiserror::Error)]
#[error("{what} {}", .path.display())]
pub struct WriteError {
    /// What was tried.
    what: &'static str,
    /// On what.
    path: PathBuf,
    /// Why it failed.
    source: io::Error,
}

/// Names what was tried, and on what.
pub fn fault(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> WriteError {
    let path = path.to_owned();
    move |source| WriteError { what, path, source }
}

/// Puts these bytes into a file, whole or not at all, and to the disk. A file that is there keeps its mode and owner;
/// a new one gets `mode`.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), WriteError> {
    replace_from(path, mode, |file| file.write_all(bytes))
}

/// As [`replace`], with what `write` writes, or does to the file before it gets its name.
pub fn replace_from(
    path: &Path,
    mode: u32,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<(), WriteError> {
    let like = fs::metadata(path).ok().filter(Metadata::is_file);
    let done = swap(path, &temporary(path), like.as_ref(), mode, Lasts::PowerCuts, write, rename);
    done.map_err(fault("write", path))
}

/// As [`replace`], into a folder that may be another user's: nothing is taken over from what is there, a link least of
/// all, and the file is this process' own.
pub fn publish(path: &Path, bytes: &[u8], mode: u32) -> Result<(), WriteError> {
    let write = |file: &mut File| file.write_all(bytes);
    let done = swap(path, &temporary(path), None, mode, Lasts::PowerCuts, write, rename);
    done.map_err(fault("write", path))
}

/// What a file has to outlive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasts {
    /// The process that writes it. After a power cut it may be empty, or not there: whoever reads it must notice.
    Processes,
    /// A power cut as soon as this returns.
    PowerCuts,
}

/// As [`publish`], with others that may do the same at the same time: the name for the time of writing has the number of the
/// process in it. The last one wins.
pub fn put(path: &Path, bytes: &[u8], mode: u32, lasts: Lasts) -> io::Result<()> {
    // The gate, too, comes here, and must not die of a full quota.
    signals::ignore();
    swap(path, &own_temporary(path), None, mode, lasts, |file| file.write_all(bytes), rename)
}

/// As [`put`], of a file that is not there yet: one that is, if only a link that leads nowhere, is left alone, and the error
/// is `AlreadyExists`.
pub fn create(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    // link(2) takes no name that is taken.
    let link = |temporary: &Path, path: &Path| {
        fs::hard_link(temporary, path)?;
        unlink(temporary)
    };
    let write = |file: &mut File| file.write_all(bytes);
    swap(path, &own_temporary(path), None, mode, Lasts::PowerCuts, write, link)
}

/// A name for the time of writing that no other process uses.
fn own_temporary(path: &Path) -> PathBuf {
    let mut temporary = OsString::from(path);
    temporary.push(format!(".{}", std::process::id()));
    temporary.into()
}

fn rename(temporary: &Path, path: &Path) -> io::Result<()> {
    fs::rename(temporary, path)
}

/// Owner and mode are set on the open file. By its name it could be another one by then, in another user's folder.
fn swap(
    path: &Path,
    temporary: &Path,
    like: Option<&Metadata>,
    mode: u32,
    lasts: Lasts,
    write: impl FnOnce(&mut File) -> io::Result<()>,
    name: impl FnOnce(&Path, &Path) -> io::Result<()>,
) -> io::Result<()> {
    // What an earlier run left when it was killed.
    unlink(temporary)?;
    let done = (|| {
        // O_EXCL: what is there, if only a link that leads nowhere, is an error.
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
        write(&mut file)?;
        // Not asked for nothing: a unit of systemd may be forbidden to.
        let is_another = |like: &&Metadata| {
            file.metadata().map_or(true, |own| (own.uid(), own.gid()) != (like.uid(), like.gid()))
        };
        if let Some(like) = like.filter(is_another) {
            fchown(&file, Some(like.uid()), Some(like.gid()))?;
        }
        let mode = like.map_or(mode, |like| like.mode() & 0o7777);
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        if lasts == Lasts::PowerCuts {
            file.sync_all()?;
        }
        name(temporary, path)
    })();
    if done.is_err() {
        let _ = fs::remove_file(temporary);
    }
    done?;
    match lasts {
        Lasts::PowerCuts => sync_folder_of(path),
        Lasts::Processes => Ok(()),
    }
}

/// Makes a symbolic link, or turns one over to another target, in one step. Whether anything changed.
pub fn link(path: &Path, target: &Path) -> Result<bool, WriteError> {
    if fs::read_link(path).is_ok_and(|now| now == target) {
        return Ok(false);
    }
    let temporary = temporary(path);
    remove_if_there(&temporary)?;
    std::os::unix::fs::symlink(target, &temporary)
        .and_then(|()| fs::rename(&temporary, path))
        .map_err(fault("link", path))?;
    sync_folder_of(path).map_err(fault("sync", path))?;
    Ok(true)
}

/// Removes what a run that was killed left of a file that it was about to write.
pub fn forget(path: &Path) -> Result<(), WriteError> {
    remove_if_there(&temporary(path))
}

/// Removes a file; there need be none.
pub fn remove_if_there(path: &Path) -> Result<(), WriteError> {
    unlink(path).map_err(fault("remove", path))
}

fn unlink(path: &Path) -> io::Result<()> {
    let is_missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    // Asked first: on a read-only file system it is an error to remove even what is not there.
    if fs::symlink_metadata(path).is_err_and(|error| is_missing(&error)) {
        return Ok(());
    }
    fs::remove_file(path).or_else(|error| if is_missing(&error) { Ok(()) } else { Err(error) })
}

/// Removes a file and makes that last.
pub fn remove(path: &Path) -> Result<(), WriteError> {
    remove_if_there(path)?;
    sync_folder_of(path).map_err(fault("sync", path))
}

/// Makes a folder and those above it; which of them were made, the uppermost first.
pub fn make_folder(path: &Path) -> Result<Vec<PathBuf>, WriteError> {
    let mut missing: Vec<&Path> = path.ancestors().take_while(|folder| !folder.exists()).collect();
    missing.reverse();
    let mut made = Vec::new();
    for folder in missing {
        // Engines, rootless ones as well, must get through, whatever the umask of the one who installs.
        let new = DirBuilder::new().mode(0o755).create(folder);
        match new.and_then(|()| fs::set_permissions(folder, fs::Permissions::from_mode(0o755))) {
            Ok(()) => made.push(folder.to_owned()),
            // Somebody else wanted the same, and was first.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {}
            Err(error) => return Err(fault("create", folder)(error)),
        }
    }
    Ok(made)
}

/// A name for the time of writing. CRI-O loads every file in `crio.conf.d`, whatever its name, so half a file must not
/// lie in a drop-in folder even if this program is killed there: it lies in the folder above.
fn temporary(path: &Path) -> PathBuf {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let is_drop_in = folder.file_name().is_some_and(|name| name.to_string_lossy().ends_with(".d"));
    let same_mount = |above: &&Path| mount(above).is_some_and(|above| Some(above) == mount(folder));
    let folder = folder.parent().filter(|_| is_drop_in).filter(same_mount).unwrap_or(folder);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    folder.join(format!(".{name}.pss-guard-new"))
}

/// Between what a folder is mounted as no file can be renamed, not even on one device (rename(2), EXDEV). Without a process
/// file system the device has to do.
fn mount(folder: &Path) -> Option<(u64, Option<String>)> {
    let folder = File::open(folder).ok()?;
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", folder.as_raw_fd())).unwrap_or_default();
    let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    Some((folder.metadata().ok()?.dev(), id.map(|id| id.trim().to_owned())))
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    // A bare name lies in the working directory.
    let folder =
        path.parent().map_or(Path::new("/"), |folder| if folder == "" { Path::new(".") } else { folder });
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
    use std::path::Path;

    use super::{Lasts, link, make_folder, publish, put, remove, replace, replace_from, temporary};

    /// To nobody; only root can.
    fn give_away(path: &Path) {
        if fs::metadata("/proc/self").unwrap().uid() == 0 {
            chown(path, Some(65534), Some(65534)).unwrap();
        }
    }

    #[test]
    fn a_file_is_replaced_whole_and_keeps_its_mode_and_owner() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/b.d");
        assert_eq!(make_folder(&folder).unwrap(), [dir.path().join("a"), folder.clone()]);
        assert!(make_folder(&folder).unwrap().is_empty());

        let file = folder.join("x.conf");
        replace(&file, b"one", 0o644).unwrap();
        let inode = fs::metadata(&file).unwrap().ino();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o1640)).unwrap();
        give_away(&file);
        let owner = fs::metadata(&file).unwrap().uid();
        replace_from(&file, 0o644, |file| {
            assert_eq!(file.metadata()?.mode() & 0o7777, 0o600, "nobody reads what may be secret");
            file.write_all(b"two")
        })
        .unwrap();
        let metadata = fs::metadata(&file).unwrap();
        assert_eq!((fs::read(&file).unwrap(), metadata.mode() & 0o7777), (b"two".to_vec(), 0o1640));
        assert_eq!(metadata.uid(), owner);
        assert_ne!(metadata.ino(), inode, "by rename");

        // An earlier run was killed; what it left is above the drop-in folder, and in nobody's way.
        fs::write(dir.path().join("a/.x.conf.pss-guard-new"), "ha").unwrap();
        replace(&file, b"three", 0o644).unwrap();
        replace_from(&file, 0o644, |_| Err(std::io::ErrorKind::StorageFull.into())).unwrap_err();
        assert_eq!(fs::read(&file).unwrap(), b"three");
        assert_eq!(fs::read_dir(dir.path().join("a")).unwrap().count(), 1, "no temporary file stays");
        remove(&file).unwrap();
        remove(&file).unwrap();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    }

    #[test]
    fn a_link_is_turned_over_in_one_step() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("runtime");
        symlink("/what/a/killed/run/left", temporary(&path)).unwrap();
        for (target, changes) in [("/usr/sbin/runc", true), ("/usr/bin/crun", true), ("/usr/bin/crun", false)]
        {
            assert_eq!(link(&path, target.as_ref()).unwrap(), changes);
            assert_eq!(fs::read_link(&path).unwrap(), std::path::Path::new(target));
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn in_the_folder_of_somebody_else_no_link_leads_to_another_file() {
        let dir = tempfile::tempdir().unwrap();
        let (victim, path) = (dir.path().join("victim"), dir.path().join("node.prom"));
        let looks = |path: &Path| {
            let file = fs::symlink_metadata(path).unwrap();
            (fs::read_to_string(path).unwrap(), file.uid(), file.mode())
        };
        let give = |path: &Path, mode: u32| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            give_away(path);
        };
        fs::write(&victim, "secret").unwrap();
        fs::set_permissions(&victim, fs::Permissions::from_mode(0o600)).unwrap();
        let (before, own) = (looks(&victim), fs::metadata(&victim).unwrap().uid());

        // Once as the name for the time of writing, once as the target, and once as neither.
        for planted in [Some(temporary(&path)), Some(path.clone()), None] {
            fs::write(&path, "old").unwrap();
            give(&path, 0o4777);
            if let Some(planted) = planted {
                let _ = fs::remove_file(&planted);
                symlink(&victim, planted).unwrap();
            }
            publish(&path, b"new", 0o644).unwrap();
            assert_eq!(looks(&path), ("new".to_owned(), own, 0o100_644));
            assert_eq!(looks(&victim), before);
            fs::remove_file(&path).unwrap();
        }

        // While it is written, in place of the file that was opened.
        fs::write(&path, "old").unwrap();
        give(&path, 0o666);
        replace_from(&path, 0o644, |file| {
            fs::remove_file(temporary(&path))?;
            symlink(&victim, temporary(&path))?;
            file.write_all(b"new")
        })
        .unwrap();
        assert_eq!(looks(&victim), before);
    }

    #[test]
    fn of_several_at_once_each_writes_a_whole_file_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.json");
        // What a process of the same number left when it was killed.
        let left = dir.path().join(format!("policy.json.{}", std::process::id()));
        fs::write(&left, "half").unwrap();
        fs::set_permissions(&left, fs::Permissions::from_mode(0o666)).unwrap();
        for (lasts, text) in [(Lasts::Processes, "one"), (Lasts::PowerCuts, "two")] {
            put(&path, text.as_bytes(), 0o640, lasts).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o640, "whatever the umask");
        }
        // In place of a link, and not through it.
        let victim = dir.path().join("victim");
        fs::write(&victim, "secret").unwrap();
        fs::remove_file(&path).unwrap();
        symlink(&victim, &path).unwrap();
        put(&path, b"three", 0o640, Lasts::Processes).unwrap();
        assert!(!path.is_symlink() && fs::read_to_string(&victim).unwrap() == "secret");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing else stays");
        fs::create_dir(dir.path().join("folder")).unwrap();
        put(&dir.path().join("folder"), b"", 0o640, Lasts::Processes).unwrap_err();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3, "nor of what failed");
    }

    #[test]
    fn what_cannot_be_written_is_named() {
        let err = replace("/proc/pss-guard/x".as_ref(), b"", 0o644).unwrap_err().to_string();
        assert_eq!(err, "write /proc/pss-guard/x");
    }

    #[test]
    fn whoever_makes_the_same_folders_at_once_finds_them() {
        let root = tempfile::tempdir().unwrap();
        for round in 0..200 {
            let folder = root.path().join(format!("{round}/a/b/c"));
            let made = std::thread::scope(|scope| {
                let make = || scope.spawn(|| make_folder(&folder).unwrap().len());
                [make(), make()].map(|thread| thread.join().unwrap())
            });
            assert_eq!(made.iter().sum::<usize>(), 4, "each by one of them");
        }
    }
}
