//! Applies a plan to the files, and undoes it.
//!
//! Everything that undoing needs is on the disk before the first of the engine's files changes: a copy of each file as
//! it was and as it will be, and the manifest that names them. A kill at any point therefore leaves each file whole,
//! as it was or as it should be, and both `install` and `uninstall` can go on from there.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::adopt::Left;
use super::{Entry, Method, Plan, PlanError, Request, Stripped, labels};
use crate::atomic::{self, WriteError, fault};
use crate::files::{self, FileError};
use crate::node::distribution::Distribution;
use crate::node::host::{LIMIT, Live, Node as _};

/// Where the installer keeps what it needs to undo an installation.
pub(crate) const FOLDER: &str = "/var/lib/pss-guard/install";

/// The manifest's name in an installation's folder.
pub(crate) const MANIFEST: &str = "manifest.json";

/// The form of the manifest that this program writes.
const VERSION: u32 = 1;

/// Why nothing was changed, or not everything.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransactionError {
    /// A file cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// What is ours cannot be taken out of a file that somebody changed.
    #[error(transparent)]
    PlanError(#[from] PlanError),
    /// Somebody else is at it.
    #[error("another `pss-guard install` or `uninstall` is running ({} is locked); wait for it", .0.display())]
    Busy(PathBuf),
    /// The manifest is not ours.
    #[error(
        "{} cannot be read; it says how to undo the installation, so nothing was changed: restore it from a \
         backup, or restore the engine's files by hand (the copies lie beside it) and remove it", .path.display()
    )]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The manifest is of a later program.
    #[error("{} was written by a newer pss-guard (form {found}, this one knows {VERSION}); use that one", .path.display())]
    Newer {
        /// The manifest.
        path: PathBuf,
        /// Its form.
        found: u32,
    },
    /// A file changed between plan and deed.
    #[error("{} was changed by another process meanwhile; try again", .0.display())]
    Raced(PathBuf),
}

/// What was done for one installation.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Manifest {
    /// The form of this file.
    version: u32,
    /// The program's version that wrote it.
    pub program: String,
    /// The method; none for what all engines share.
    pub method: Option<Method>,
    /// The engine's configuration file, where it was named.
    pub config: Option<PathBuf>,
    /// The distribution that the files are of; `None` of what all engines share, and of an older program, which knew only
    /// the plain one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distribution: Option<Distribution>,
    /// The runtimes that the gate is active in front of.
    pub entries: Vec<Entry>,
    /// The files, in the order in which they were written.
    pub files: Vec<Record>,
    /// The folders that were made for them, the uppermost first.
    pub folders: Vec<PathBuf>,
    /// Files of other installations that this one rests on.
    pub shared: Vec<PathBuf>,
}

impl Manifest {
    /// What a plan installs, without files yet.
    fn of(request: Option<&Request<'_>>, plan: &Plan) -> Self {
        Self {
            version: VERSION,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            method: request.map(|request| request.method),
            config: request.and_then(|request| request.config).map(Path::to_owned),
            distribution: request.map(|request| request.distribution.clone()),
            entries: plan.entries.clone(),
            files: Vec::new(),
            folders: Vec::new(),
            shared: plan.shared.clone(),
        }
    }
}

/// One file, and the names of its copies beside the manifest.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Record {
    /// Where it is, as the node sees it.
    pub path: PathBuf,
    before: Option<String>,
    after: String,
}

/// What became of a file that was undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undone {
    /// It has the bytes that it had before the installation.
    Restored,
    /// It was made by the installation and is gone.
    Removed,
    /// Somebody changed it since; only what is ours was taken out.
    Stripped,
    /// There was nothing of ours in it any more.
    AsItWas,
    /// Somebody removed it since.
    Gone,
    /// Another engine's installation rests on it.
    Kept,
}

/// A file's bytes, or none where there is no file.
type Bytes = Option<Vec<u8>>;

/// What would become of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    /// Where it is, as the node sees it.
    pub path: PathBuf,
    /// Its bytes now.
    pub now: Option<Vec<u8>>,
    /// Its bytes then.
    pub wanted: Option<Vec<u8>>,
}

/// The installations of a node, locked.
#[derive(Debug)]
pub struct Store<'a> {
    node: &'a Live,
    _lock: File,
}

impl<'a> Store<'a> {
    /// The node.
    #[must_use]
    pub fn node(&self) -> &'a Live {
        self.node
    }

    /// Takes the lock.
    pub fn open(node: &'a Live) -> Result<Self, TransactionError> {
        let folder = node.place(Path::new(FOLDER));
        atomic::make_folder(&folder)?;
        let path = folder.join("lock");
        // Whoever can open it can hold it, and nobody but root is to keep root from an uninstall.
        let lock = File::options().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let lock = lock.map_err(fault("create", &path))?;
        match lock.try_lock() {
            // Whoever removes the last of the installer removes this file, too, and holds it until then. A lock on a file that
            // is gone keeps nobody out.
            Ok(()) if !is_still(&lock, &path) => Err(TransactionError::Raced(path)),
            Ok(()) => Ok(Self { node, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(TransactionError::Busy(path)),
            Err(TryLockError::Error(error)) => Err(fault("lock", &path)(error).into()),
        }
    }

    /// Makes sure that an installation is as it was when this program made up its mind, before it had the lock.
    pub fn is_unchanged(&self, name: &str, installed: Option<&Manifest>) -> Result<(), TransactionError> {
        if manifest(self.node, name)?.as_ref() == installed {
            return Ok(());
        }
        Err(TransactionError::Raced(Path::new(FOLDER).join(name).join(MANIFEST)))
    }

    /// Does what a plan says, for the installation of this name. What was installed before must have been by the
    /// same method.
    pub fn apply(
        &self,
        name: &str,
        request: Option<&Request<'_>>,
        plan: &Plan,
        strip: Strip,
    ) -> Result<(), TransactionError> {
        let old = manifest(self.node, name)?;
        let folder = self.folder(name);
        atomic::make_folder(&folder)?;
        let mut new = Manifest {
            files: old.iter().flat_map(|old| old.files.clone()).collect(),
            folders: old.iter().flat_map(|old| old.folders.clone()).collect(),
            ..Manifest::of(request, plan)
        };
        for change in &plan.changes {
            let place = self.node.place(&change.path);
            if read(&place)? != change.before {
                return Err(TransactionError::Raced(change.path.clone()));
            }
            let known = new.files.iter().position(|record| record.path == change.path);
            let original = match known.map(|index| new.files.remove(index)) {
                Some(record) => {
                    self.original(name, &record, change.before.as_deref(), &new.entries, strip)?
                }
                None => change.before.clone(),
            };
            let before = original.map(|bytes| keep(&folder, "before", &bytes)).transpose()?;
            let after = keep(&folder, "after", &change.after)?;
            new.files.push(Record { path: change.path.clone(), before, after });
            let made = missing_folders(self.node, &change.path);
            new.folders
                .extend(made.into_iter().filter(|path| !new.folders.contains(path)).collect::<Vec<_>>());
        }
        self.write_manifest(name, &new)?;
        for change in &plan.changes {
            let place = self.node.place(&change.path);
            if let Some(folder) = place.parent() {
                atomic::make_folder(folder)?;
            }
            labels::replace(self.node, &change.path, &place, &change.after, 0o644)?;
        }
        Ok(())
    }

    /// Records an installation whose record is gone: what it has left. Nothing on the node changes by it.
    pub fn adopt(
        &self,
        name: &str,
        request: &Request<'_>,
        plan: &Plan,
        left: &[Left],
    ) -> Result<(), TransactionError> {
        let folder = self.folder(name);
        atomic::make_folder(&folder)?;
        let mut files = Vec::new();
        for Left { path, without, now } in left {
            let before = without.as_ref().map(|bytes| keep(&folder, "before", bytes)).transpose()?;
            files.push(Record { path: path.clone(), before, after: keep(&folder, "after", now)? });
        }
        self.write_manifest(name, &Manifest { files, ..Manifest::of(Some(request), plan) })
    }

    /// Makes every file of an installation what it was before it. What cannot be undone stops nothing else, and stays
    /// in the manifest.
    ///
    /// With `held` the files keep the names that containers remember ([`Stripped::held`]).
    pub fn undo(
        &self,
        name: &str,
        strip: Strip,
        held: bool,
    ) -> (Vec<(PathBuf, Undone)>, Vec<TransactionError>) {
        let mut manifest = match manifest(self.node, name) {
            Ok(Some(manifest)) => manifest,
            Ok(None) => return (Vec::new(), Vec::new()),
            Err(error) => return (Vec::new(), vec![error]),
        };
        let (mut done, mut errors, mut left) = (Vec::new(), Vec::new(), Vec::new());
        for record in manifest.files.iter().rev() {
            match self.undo_file(name, record, &manifest, (strip, held)) {
                Ok(undone) => done.push((record.path.clone(), undone)),
                Err(error) => {
                    errors.push(error);
                    left.push(record.clone());
                }
            }
        }
        let ended = if errors.is_empty() {
            for folder in manifest.folders.iter().rev() {
                // What somebody put there stays, and so does the folder.
                let _ = fs::remove_dir(self.node.place(folder));
            }
            let folder = self.folder(name);
            // The manifest first: without it the copies are nobody's.
            atomic::remove(&folder.join(MANIFEST))
                .and_then(|()| fs::remove_dir_all(&folder).map_err(fault("remove", &folder)))
                .map_err(Into::into)
        } else {
            left.reverse();
            manifest.files = left;
            self.write_manifest(name, &manifest)
        };
        errors.extend(ended.err());
        (done, errors)
    }

    /// Makes some files of an installation what they were before it, and lets go of them. What cannot be undone stays in the
    /// manifest.
    pub fn undo_some(
        &self,
        name: &str,
        paths: &[PathBuf],
        strip: Strip,
    ) -> (Vec<(PathBuf, Undone)>, Vec<TransactionError>) {
        let mut manifest = match manifest(self.node, name) {
            Ok(Some(manifest)) => manifest,
            Ok(None) => return (Vec::new(), Vec::new()),
            Err(error) => return (Vec::new(), vec![error]),
        };
        let (mut done, mut errors) = (Vec::new(), Vec::new());
        for record in manifest.files.clone().iter().filter(|record| paths.contains(&record.path)) {
            match self.undo_file(name, record, &manifest, (strip, false)) {
                Ok(undone) => {
                    done.push((record.path.clone(), undone));
                    manifest.files.retain(|file| file.path != record.path);
                }
                Err(error) => errors.push(error),
            }
        }
        errors.extend(self.write_manifest(name, &manifest).err());
        (done, errors)
    }

    fn undo_file(
        &self,
        name: &str,
        record: &Record,
        Manifest { entries, folders, .. }: &Manifest,
        (strip, held): (Strip, bool),
    ) -> Result<Undone, TransactionError> {
        if let Some(heir) = self.heir(name, &record.path)? {
            self.hand_over(name, record, folders, &heir)?;
            return Ok(Undone::Kept);
        }
        let (undone, now, wanted) = self.undone(name, record, entries, (strip, held))?;
        let place = self.node.place(&record.path);
        match wanted {
            _ if wanted == now => {}
            Some(wanted) => labels::replace(self.node, &record.path, &place, &wanted, 0o644)?,
            None => atomic::remove(&place)?,
        }
        atomic::forget(&place)?;
        Ok(undone)
    }

    /// What undoing would make of a file: what that is, its bytes now, and its bytes then.
    fn undone(
        &self,
        name: &str,
        record: &Record,
        entries: &[Entry],
        (strip, held): (Strip, bool),
    ) -> Result<(Undone, Bytes, Bytes), TransactionError> {
        let now = read(&self.node.place(&record.path))?;
        let copies = self.copies(name, record)?;
        if now == copies.before {
            return Ok((Undone::AsItWas, now, copies.before));
        }
        let Some(bytes) = now.as_deref() else { return Ok((Undone::Gone, None, None)) };
        let (wanted, undone) = if bytes == copies.after && !held {
            (copies.before, Undone::Restored)
        } else {
            (copies.strip(record, bytes, entries, (strip, held))?, Undone::Stripped)
        };
        let undone = match &wanted {
            None => Undone::Removed,
            Some(wanted) if wanted == bytes => Undone::AsItWas,
            Some(_) => undone,
        };
        Ok((undone, now, wanted))
    }

    /// What [`Self::undo`] would do; nothing is changed.
    pub fn preview(&self, name: &str, strip: Strip, held: bool) -> Result<Vec<Preview>, TransactionError> {
        let Some(manifest) = manifest(self.node, name)? else { return Ok(Vec::new()) };
        let mut previews = Vec::new();
        for record in manifest.files.iter().rev() {
            if self.heir(name, &record.path)?.is_some() {
                continue;
            }
            let (_, now, wanted) = self.undone(name, record, &manifest.entries, (strip, held))?;
            previews.push(Preview { path: record.path.clone(), now, wanted });
        }
        Ok(previews)
    }

    /// What a file that was installed before would be without us: that is what undoing must bring back.
    fn original(
        &self,
        name: &str,
        record: &Record,
        now: Option<&[u8]>,
        entries: &[Entry],
        strip: Strip,
    ) -> Result<Option<Vec<u8>>, TransactionError> {
        let copies = self.copies(name, record)?;
        let Some(now) = now else { return Ok(None) };
        if now == copies.after || Some(now) == copies.before.as_deref() {
            return Ok(copies.before);
        }
        Ok(copies.strip(record, now, entries, (strip, false))?)
    }

    fn copies(&self, name: &str, record: &Record) -> Result<Copies, TransactionError> {
        let folder = self.folder(name);
        let before =
            record.before.as_ref().map(|before| files::read(&folder.join(before), LIMIT)).transpose()?;
        Ok(Copies { before, after: files::read(&folder.join(&record.after), LIMIT)? })
    }

    /// The installation that also rests on a file.
    fn heir(&self, name: &str, path: &Path) -> Result<Option<String>, TransactionError> {
        for other in installations(self.node) {
            let rests = |manifest: Manifest| manifest.shared.iter().any(|shared| shared == path);
            if other != name && manifest(self.node, &other)?.is_some_and(rests) {
                return Ok(Some(other));
            }
        }
        Ok(None)
    }

    fn hand_over(
        &self,
        name: &str,
        record: &Record,
        folders: &[PathBuf],
        heir: &str,
    ) -> Result<(), TransactionError> {
        let Some(mut manifest) = manifest(self.node, heir)? else { return Ok(()) };
        if manifest.files.iter().any(|file| file.path == record.path) {
            return Ok(());
        }
        let folder = self.folder(heir);
        let copies = self.copies(name, record)?;
        let before = copies.before.map(|bytes| keep(&folder, "before", &bytes)).transpose()?;
        let after = keep(&folder, "after", &copies.after)?;
        manifest.files.push(Record { path: record.path.clone(), before, after });
        // The folders of the file as well: only the last one can remove them.
        let above = folders.iter().filter(|folder| record.path.starts_with(folder));
        let new: Vec<PathBuf> = above.filter(|folder| !manifest.folders.contains(folder)).cloned().collect();
        manifest.folders.extend(new);
        self.write_manifest(heir, &manifest)
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.node.place(&Path::new(FOLDER).join(name))
    }

    fn write_manifest(&self, name: &str, manifest: &Manifest) -> Result<(), TransactionError> {
        let folder = self.folder(name);
        let path = folder.join(MANIFEST);
        let bytes = serde_json::to_vec_pretty(manifest)
            .map_err(|source| TransactionError::Manifest { path: path.clone(), source })?;
        atomic::replace(&path, &bytes, 0o600)?;
        // Copies that only an older manifest named.
        let named: BTreeSet<&str> = manifest
            .files
            .iter()
            .flat_map(|file| file.before.iter().chain([&file.after]))
            .map(String::as_str)
            .collect();
        for copy in self.node.list(&Path::new(FOLDER).join(name)) {
            if copy != MANIFEST && !named.contains(copy.as_str()) {
                atomic::remove_if_there(&folder.join(copy))?;
            }
        }
        Ok(())
    }
}

/// Whether an open file is what lies at a path.
fn is_still(file: &File, path: &Path) -> bool {
    let id = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    file.metadata().is_ok_and(|ours| fs::metadata(path).is_ok_and(|there| id(there) == id(ours)))
}

/// Keeps a copy under a name that is free.
fn keep(folder: &Path, kind: &str, bytes: &[u8]) -> Result<String, WriteError> {
    let mut number = 0;
    let name = loop {
        let name = format!("{number}.{kind}");
        if !folder.join(&name).exists() {
            break name;
        }
        number += 1;
    };
    atomic::replace(&folder.join(&name), bytes, 0o600)?;
    Ok(name)
}

/// How the engine's installer takes what is ours out of a file.
pub type Strip = fn(&Stripped<'_>) -> Result<Option<Vec<u8>>, PlanError>;

/// For files that are ours as a whole: one that somebody changed is his from then on.
pub fn strip_whole(stripped: &Stripped<'_>) -> Result<Option<Vec<u8>>, PlanError> {
    Ok((stripped.now != stripped.installed).then(|| stripped.now.to_vec()))
}

/// A file as it was, and as it was written.
struct Copies {
    before: Option<Vec<u8>>,
    after: Vec<u8>,
}

impl Copies {
    fn strip(
        &self,
        record: &Record,
        now: &[u8],
        entries: &[Entry],
        (strip, held): (Strip, bool),
    ) -> Result<Option<Vec<u8>>, PlanError> {
        let original = self.before.as_deref();
        strip(&Stripped { path: &record.path, original, installed: &self.after, now, entries, held })
    }
}

/// What is installed under a name; `None` if nothing is.
pub fn manifest(node: &Live, name: &str) -> Result<Option<Manifest>, TransactionError> {
    let path = Path::new(FOLDER).join(name).join(MANIFEST);
    let Some(bytes) = read(&node.place(&path))? else { return Ok(None) };
    let manifest: Manifest = serde_json::from_slice(&bytes)
        .map_err(|source| TransactionError::Manifest { path: path.clone(), source })?;
    if manifest.version > VERSION {
        return Err(TransactionError::Newer { path, found: manifest.version });
    }
    Ok(Some(manifest))
}

/// The files of an installation that somebody has changed since they were written.
pub fn edited(node: &Live, name: &str) -> Result<Vec<PathBuf>, TransactionError> {
    let mut edited = Vec::new();
    for record in manifest(node, name)?.map_or_else(Vec::new, |manifest| manifest.files) {
        let after = files::read(&node.place(&Path::new(FOLDER).join(name)).join(&record.after), LIMIT)?;
        if read(&node.place(&record.path))?.is_some_and(|now| now != after) {
            edited.push(record.path);
        }
    }
    Ok(edited)
}

/// When an installation was last changed.
#[must_use]
pub fn changed(node: &Live, name: &str) -> Option<SystemTime> {
    fs::metadata(node.place(&Path::new(FOLDER).join(name).join(MANIFEST))).ok()?.modified().ok()
}

/// The names of all installations.
#[must_use]
pub fn installations(node: &Live) -> Vec<String> {
    let is_one = |name: &String| node.place(&Path::new(FOLDER).join(name).join(MANIFEST)).is_file();
    node.list(Path::new(FOLDER)).into_iter().filter(is_one).collect()
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    match files::read(path, LIMIT) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The folders above a file that are not there yet, as the node sees them, the uppermost first.
fn missing_folders(node: &Live, path: &Path) -> Vec<PathBuf> {
    let missing = path.ancestors().skip(1).take_while(|folder| !node.place(folder).exists());
    let mut missing: Vec<PathBuf> = missing.map(Path::to_owned).collect();
    missing.reverse();
    missing
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::{FOLDER, Live, Manifest, Store, TransactionError, Undone, manifest};
    use crate::install::{Change, Plan, PlanError, Stripped};
    use crate::node::host::Node as _;

    const NAME: &str = "engine";
    const FILE: &str = "/etc/a/x.conf";

    /// A node, and the folder that goes away with it.
    fn node() -> (tempfile::TempDir, Live) {
        let folder = tempfile::tempdir().unwrap();
        let node = Live::under(folder.path());
        fs::create_dir(folder.path().join("etc")).unwrap();
        (folder, node)
    }

    fn put(node: &Live, path: &str, text: Option<&str>) {
        let place = node.place(Path::new(path));
        match text {
            Some(text) => {
                fs::create_dir_all(place.parent().unwrap()).unwrap();
                fs::write(place, text).unwrap();
            }
            None => fs::remove_file(place).unwrap(),
        }
    }

    fn text(node: &Live, path: &str) -> Option<String> {
        node.read(Path::new(path)).unwrap().map(|bytes| String::from_utf8(bytes).unwrap())
    }

    /// These files as they should be.
    fn plan(node: &Live, files: &[(&str, &str)]) -> Plan {
        let change = |(path, after): &(&str, &str)| Change {
            path: path.into(),
            before: node.read(Path::new(path)).unwrap(),
            after: (*after).into(),
        };
        Plan { changes: files.iter().map(change).collect(), ..Plan::default() }
    }

    /// Ours are the lines that say so; in a file that says no, nobody can tell.
    fn strip(stripped: &Stripped<'_>) -> Result<Option<Vec<u8>>, PlanError> {
        let now = str::from_utf8(stripped.now).unwrap();
        if now.contains("no\n") {
            return Err(PlanError::Unsupported {
                what: stripped.path.display().to_string(),
                instead: String::new(),
            });
        }
        let left = now.replace("ours\n", "");
        Ok((stripped.original.is_some() || !left.is_empty()).then(|| left.into()))
    }

    #[test]
    fn undoing_leaves_what_would_be_there_without_us() {
        // The file before; what somebody made of the installed one, where nothing is no file; as it was installed again;
        // what somebody made of that; and what is left in the end.
        let rows = [
            (Some("a\n"), None, "a\nours\nours\n", None, Some("a\n")),
            (None, None, "ours\nours\n", None, None),
            (Some("a\n"), Some("a\nours\nb\n"), "a\nours\nb\nours\n", None, Some("a\nb\n")),
            (Some("a\n"), Some("a\n"), "a\nours\n", None, Some("a\n")),
            (Some("a\n"), Some(""), "ours\n", None, None),
            (None, Some("ours\nb\n"), "ours\nb\nours\n", None, Some("b\n")),
            (Some("a\n"), None, "a\nours\nours\n", Some(""), None),
            (Some("a\n"), None, "a\nours\nours\n", Some("c\nours\n"), Some("c\n")),
            (None, None, "ours\nours\n", Some("c\n"), Some("c\n")),
        ];
        for row @ (before, between, again, then, expected) in rows {
            let (folder, node) = node();
            let store = Store::open(&node).unwrap();
            let somebody = |text: Option<&str>| {
                if let Some(text) = text {
                    put(&node, FILE, Some(text).filter(|text| !text.is_empty()));
                }
            };
            somebody(before);
            let first = format!("{}ours\n", before.unwrap_or_default());
            store.apply(NAME, None, &plan(&node, &[(FILE, &first)]), strip).unwrap();
            somebody(between);
            store.apply(NAME, None, &plan(&node, &[(FILE, again)]), strip).unwrap();
            assert_eq!(text(&node, FILE).as_deref(), Some(again), "{row:?}");
            // The manifest, the file as it is and, if there is one, as it would be; nothing of the first time.
            let original = between.or(before).is_some_and(|text| !text.is_empty());
            let kept = node.list(&Path::new(FOLDER).join(NAME));
            assert_eq!(kept.len(), 2 + usize::from(original), "{row:?}: {kept:?}");
            somebody(then);
            // What a run left that was killed while it wrote.
            put(&node, "/etc/a/.x.conf.pss-guard-new", Some("ha"));
            let (_, errors) = store.undo(NAME, strip, false);
            assert!(errors.is_empty(), "{row:?}: {errors:?}");
            assert_eq!(text(&node, FILE).as_deref(), expected, "{row:?}");
            let is_left = folder.path().join("etc/a").exists();
            assert_eq!(is_left, before.is_some() || expected.is_some(), "{row:?}: the folder");
            assert_eq!(node.list(Path::new("/etc/a")).len(), usize::from(expected.is_some()), "{row:?}");
            assert_eq!(node.list(Path::new(FOLDER)), ["lock"], "{row:?}");
        }
    }

    #[test]
    fn what_cannot_be_undone_stops_nothing_else_and_is_undone_later() {
        let (_folder, node) = node();
        let store = Store::open(&node).unwrap();
        let [one, two, three, four] = ["/etc/1", "/etc/2", "/etc/3", "/etc/4"];
        let own = |path: &str| format!("{path} ours\n");
        let texts = [one, two, three, four].map(|path| (path, own(path)));
        let files: Vec<(&str, &str)> = texts.iter().map(|(path, text)| (*path, text.as_str())).collect();
        store.apply(NAME, None, &plan(&node, &files), strip).unwrap();
        for path in [two, three] {
            put(&node, path, Some("no\n"));
        }
        let undo = || {
            let (done, errors) = store.undo(NAME, strip, false);
            let left = manifest(&node, NAME).unwrap().map(|Manifest { files, .. }| files);
            let left: Vec<PathBuf> = left.into_iter().flatten().map(|record| record.path).collect();
            (done, errors.len(), left)
        };
        let removed = |path: &str| (PathBuf::from(path), Undone::Removed);
        // The last that was written is the first to go, because the others were there before it.
        assert_eq!(undo(), (vec![removed(four), removed(one)], 2, vec![two.into(), three.into()]));
        for path in [two, three] {
            put(&node, path, Some(&own(path)));
        }
        assert_eq!(undo(), (vec![removed(three), removed(two)], 0, Vec::new()));
        assert!(node.list(Path::new("/etc")).is_empty());
    }

    #[test]
    fn what_somebody_else_did_meanwhile_changes_nothing() {
        let (_folder, node) = node();
        let store = Store::open(&node).unwrap();
        let plan = plan(&node, &[("/etc/1", "ours\n"), (FILE, "ours\n")]);
        put(&node, FILE, Some("a\n"));
        let error = store.apply(NAME, None, &plan, strip).unwrap_err();
        assert!(matches!(&error, TransactionError::Raced(path) if path == Path::new(FILE)), "{error}");
        assert_eq!((text(&node, FILE).as_deref(), text(&node, "/etc/1")), (Some("a\n"), None));
        assert!(manifest(&node, NAME).unwrap().is_none());
    }

    #[test]
    fn what_a_newer_program_installed_is_left_to_it() {
        let (_folder, node) = node();
        let store = Store::open(&node).unwrap();
        store.apply(NAME, None, &plan(&node, &[(FILE, "ours\n")]), strip).unwrap();
        let path = format!("{FOLDER}/{NAME}/manifest.json");
        let newer = text(&node, &path).unwrap().replace("\"version\": 1", "\"version\": 2");
        put(&node, &path, Some(&newer));
        let (done, errors) = store.undo(NAME, strip, false);
        assert!(matches!(&errors[..], [TransactionError::Newer { found: 2, .. }]), "{errors:?}");
        assert!(done.is_empty());
        store.apply(NAME, None, &plan(&node, &[(FILE, "more\n")]), strip).unwrap_err();
        assert_eq!((text(&node, FILE).as_deref(), text(&node, &path)), (Some("ours\n"), Some(newer)));
    }
}
