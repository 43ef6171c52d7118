//! Folders of small files, one a name, which one program fills and others read: the levels of namespaces, the facts of pods.
//! Whatever stops a change, each file is whole, the old one or the new.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::atomic::{self, Lasts, WriteError, fault};
use crate::files::{self, Links, Owner};

/// The largest file of a few labels or numbers, in bytes.
pub(crate) const LIMIT: u64 = 64 << 10;

/// What a change came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// How many files are new or say something else now.
    pub(crate) changed: usize,
    /// How many were removed.
    pub(crate) removed: usize,
}

/// Makes one folder say what is wanted, by the names without `.json`, and removes the files that `is_stale` says. Its time is
/// set even if there is nothing to write. What a writer that was killed left half done is removed, so the caller holds the lock.
pub(crate) fn fill(
    dir: &Path,
    wanted: &BTreeMap<String, String>,
    is_stale: impl Fn(&str) -> bool,
    lasts: Lasts,
) -> Result<Changes, WriteError> {
    atomic::make_folder(dir.parent().unwrap_or(Path::new("/")))?;
    let exists = dir.is_dir();
    // A folder that exists and is not filled yet would make every name an unknown one. In one that is filled, this one comes
    // and goes even if there is nothing to write, which sets the folder's time.
    let new = if exists { dir.join(".new") } else { dir.with_extension("new") };
    match fs::remove_dir_all(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fault("remove", &new)(error)),
        _ => drop(atomic::make_folder(&new)?),
    }
    let mut changed = Vec::new();
    for (name, content) in wanted {
        let file = format!("{name}.json");
        if !says(&dir.join(&file), content) {
            write(&new.join(&file), content)?;
            changed.push(file);
        }
    }
    let sync = |folder: &Path| {
        let synced = File::open(folder).and_then(|folder| Ok(nix::unistd::syncfs(folder)?));
        if lasts == Lasts::PowerCuts { synced.map_err(fault("sync", folder)) } else { Ok(()) }
    };
    let stale = names(dir, |name| is_stale(name) && !wanted.contains_key(name))?;
    remove_halves(dir)?;
    let done = Changes { changed: changed.len(), removed: stale.len() };
    if !changed.is_empty() {
        sync(&new)?;
    }
    if exists {
        for file in &changed {
            fs::rename(new.join(file), dir.join(file)).map_err(fault("write", &dir.join(file)))?;
        }
        for stale in &stale {
            atomic::remove_if_there(&dir.join(format!("{stale}.json")))?;
        }
        fs::remove_dir(&new).map_err(fault("remove", &new))?;
    } else {
        fs::rename(&new, dir).map_err(fault("create", dir))?;
    }
    if done.changed + done.removed > 0 {
        sync(dir)?;
    }
    Ok(done)
}

/// Writes one file of a folder, if it does not say this already. Whether it was written.
pub(crate) fn put(folder: &Path, name: &str, content: &str, lasts: Lasts) -> Result<bool, WriteError> {
    let path = folder.join(format!("{name}.json"));
    if says(&path, content) {
        return Ok(false);
    }
    atomic::make_folder(folder)?;
    atomic::put(&path, content.as_bytes(), 0o644, lasts).map_err(fault("write", &path))?;
    Ok(true)
}

/// The same for a folder that several programs write one file of at a time.
pub(crate) fn put_alone(folder: &Path, name: &str, content: &str, lasts: Lasts) -> Result<bool, WriteError> {
    // Most of the time there is nothing to write.
    if says(&folder.join(format!("{name}.json")), content) {
        return Ok(false);
    }
    change(folder, |folder| put(folder, name, content, lasts))
}

/// Makes the copy for the next boot say what is wanted, one writer at a time.
pub(crate) fn keep(
    kept: &Path,
    wanted: &BTreeMap<String, String>,
    is_stale: impl Fn(&str) -> bool,
) -> Result<(), WriteError> {
    let _lock = lock(kept)?;
    fill(kept, wanted, is_stale, Lasts::PowerCuts).map(drop)
}

/// Makes a copy for the next boot say what a folder says. The folder may change meanwhile: each file is whole, and who changes it
/// copies it again.
pub(crate) fn copy(live: &Path, kept: &Path, is_ours: impl Fn(&str) -> bool) -> Result<(), WriteError> {
    let _lock = lock(kept)?;
    let mut files = BTreeMap::new();
    for name in names(live, &is_ours)? {
        let path = live.join(format!("{name}.json"));
        match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            text => drop(files.insert(name, text.map_err(fault("read", &path))?)),
        }
    }
    fill(kept, &files, is_ours, Lasts::PowerCuts).map(drop)
}

/// How many files a copy for the next boot lacks.
pub(crate) fn uncopied(
    live: &Path,
    kept: &Path,
    is_ours: impl Fn(&str) -> bool,
) -> Result<usize, WriteError> {
    Ok(names(live, &is_ours)?.difference(&names(kept, &is_ours)?).count())
}

/// Changes single files of a folder, one change at a time; its time stays that of its last list. What a writer that was killed
/// left is removed.
pub(crate) fn change<T>(
    folder: &Path,
    change: impl FnOnce(&Path) -> Result<T, WriteError>,
) -> Result<T, WriteError> {
    let _lock = lock(folder)?;
    keeping_time(folder, || {
        remove_halves(folder)?;
        change(folder)
    })
}

/// Removes one file of a folder. Whether it was there.
pub(crate) fn remove(folder: &Path, name: &str) -> Result<bool, WriteError> {
    let path = folder.join(format!("{name}.json"));
    let is_there = path.symlink_metadata().is_ok();
    atomic::remove_if_there(&path).map(|()| is_there)
}

/// Whether a file is root's and says exactly this already.
pub(crate) fn says(path: &Path, content: &str) -> bool {
    files::read_as(path, Links::Refuse, Owner::Root, content.len() as u64)
        .is_ok_and(|(_, _, bytes)| bytes == content.as_bytes())
}

/// Whether nobody has filled a folder yet: whoever mounts it into a container makes it, and that is before the agent's first list.
/// One that cannot be listed is not taken for such a folder.
pub(crate) fn is_unfilled(dir: &Path) -> bool {
    let is_hidden = |entry: io::Result<fs::DirEntry>| {
        entry.is_ok_and(|entry| entry.file_name().as_encoded_bytes().starts_with(b"."))
    };
    fs::read_dir(dir).is_ok_and(|mut entries| entries.all(is_hidden))
}

/// Whether a folder exists and has been filled.
pub(crate) fn is_filled(dir: &Path) -> bool {
    dir.is_dir() && !is_unfilled(dir)
}

/// The names that a folder has files of; none if it is not there. What is not ours is not among them.
pub(crate) fn names(dir: &Path, is_ours: impl Fn(&str) -> bool) -> Result<BTreeSet<String>, WriteError> {
    let mut names = BTreeSet::new();
    let entries = match fs::read_dir(dir) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(names);
        }
        entries => entries.map_err(fault("list", dir))?,
    };
    for entry in entries {
        let name = entry.map_err(fault("list", dir))?.file_name();
        let stem = name.to_str().and_then(|name| name.strip_suffix(".json"));
        names.extend(stem.filter(|stem| is_ours(stem)).map(str::to_owned));
    }
    Ok(names)
}

/// Removes files that [`atomic::put`] could not rename any more: `NAME.json.PID`. Each kill can leave one, and its writer does not
/// come back under that number. The caller holds the lock, so there is no other writer.
fn remove_halves(dir: &Path) -> Result<(), WriteError> {
    let is_half = |name: &str| {
        let number = name.rsplit_once(".json.").map(|(_, number)| number);
        number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let Ok(entries) = fs::read_dir(dir) else { return Ok(()) };
    for entry in entries {
        let entry = entry.map_err(fault("list", dir))?;
        if entry.file_name().to_str().is_some_and(is_half) {
            atomic::remove_if_there(&entry.path())?;
        }
    }
    Ok(())
}

/// The right to change a folder.
#[derive(Debug)]
pub(crate) struct Lock {
    /// Locked as long as it is open.
    _file: File,
    /// The folder that it lies beside.
    beside: Option<PathBuf>,
}

impl Drop for Lock {
    /// Removes a lock beside its folder. Whoever waits for it finds the folder afterwards, and takes the lock in there.
    fn drop(&mut self) {
        if let Some(dir) = self.beside.take_if(|dir| dir.is_dir()) {
            // What is left of it is in nobody's way.
            let _ = fs::remove_file(dir.with_extension("lock"));
        }
    }
}

/// One change of a folder at a time: two would each remove what the other just wrote. Only root can take the lock. It lies in
/// the folder, because that is all which an agent in a container sees; before there is one, beside it.
pub(crate) fn lock(dir: &Path) -> Result<Lock, WriteError> {
    let take = |path: PathBuf, beside| {
        let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = opened.map_err(fault("create", &path))?;
        file.lock().map_err(fault("lock", &path))?;
        Ok(Lock { _file: file, beside })
    };
    let inside = || {
        let lock = dir.join(".lock");
        match (dir.is_dir(), lock.exists()) {
            (false, _) => Ok(None),
            (true, true) => take(lock, None).map(Some),
            // The first one must not change what is known of the folder's age.
            (true, false) => keeping_time(dir, || take(lock, None)).map(Some),
        }
    };
    if let Some(file) = inside()? {
        return Ok(file);
    }
    atomic::make_folder(dir.parent().unwrap_or(Path::new("/")))?;
    let beside = take(dir.with_extension("lock"), Some(dir.to_owned()))?;
    // Whoever held it has made the folder by now.
    Ok(inside()?.unwrap_or(beside))
}

/// Runs a change of single files, after which the folder has the time of its last list again.
pub(crate) fn keeping_time<T>(
    dir: &Path,
    change: impl FnOnce() -> Result<T, WriteError>,
) -> Result<T, WriteError> {
    let time = fs::metadata(dir).and_then(|folder| folder.modified()).ok();
    let done = change()?;
    if let Some(time) = time {
        File::open(dir)
            .and_then(|folder| folder.set_modified(time))
            .map_err(fault("set the time of", dir))?;
    }
    Ok(done)
}

fn write(path: &Path, content: &str) -> Result<(), WriteError> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path);
    opened
        .and_then(|mut file| {
            // Rootless engines read these as well, whatever the umask of the one who imports.
            file.set_permissions(Permissions::from_mode(0o644))?;
            file.write_all(content.as_bytes())
        })
        .map_err(fault("write", path))
}
