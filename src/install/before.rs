//! Keeps what a node has before a run of `install` changes it, so that an upgrade that fails can go back to it.
//!
//! Two snapshots, each a folder with copies and a list of them: one of what all engines share (the programs and the files
//! for systemd), one of the engine's own (its entries, its files, its manifest). Crash safety is that of
//! [`transaction`], turned around:
//!
//! - The copies are on the disk before the list is, and the list before anything changes. A list is thus whole or absent.
//! - The list is removed last, after everything is back or the run has succeeded for every engine. A run that is killed leaves
//!   it, and the next run uses it instead of a new one: what is on the node by then may be half of a change.
//! - Going back writes programs, entries, files and the manifest, in that order. After each of these steps the engine calls
//!   what is there, and the manifest that is there undoes what is there: a file that differs from what it names is
//!   stripped.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::directory;
use super::labels;
use super::programs;
use super::standing::through;
use super::transaction::{self, Manifest, Store, TransactionError, edited, manifest};
use super::{Plan, units};
use crate::atomic::{self, WriteError, fault};
use crate::files;
use crate::node::host::{LIMIT, Live, Node as _};
use crate::pss::facts::Engine;

/// Where the snapshots are.
const FOLDER: &str = "/var/lib/pss-guard/install/before";

/// The list of a snapshot.
const LIST: &str = "before.json";

/// The snapshot of what all engines share.
const COMMON: &str = "common";

/// The form of the list that this program writes.
const VERSION: u32 = 1;

/// The list of a snapshot, in the order in which it is put back.
#[derive(Debug, Deserialize, Serialize)]
struct Snapshot {
    version: u32,
    /// Whether the gate was installed: without it there is nothing to go back to, and the installation is undone.
    stood: bool,
    /// The installation whose files are among the pieces.
    installation: String,
    pieces: Vec<Piece>,
}

/// A path as it was.
#[derive(Debug, Deserialize, Serialize)]
struct Piece {
    path: PathBuf,
    /// None where nothing was there.
    was: Option<Was>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Was {
    /// A link, and where it led.
    Link(PathBuf),
    /// The directory that the programs lay in.
    Directory(PathBuf),
    /// A file.
    File {
        /// Its copy, by its name in the snapshot's folder.
        copy: String,
        mode: u32,
        /// When it was written: by that of the manifest `status` tells which processes are older.
        modified: Duration,
    },
}

/// Whether there was an installation before a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// The run has changed nothing.
    Unchanged,
    /// None, so a run that fails is undone.
    Nothing,
    /// One that a run that fails goes back to.
    Installation,
}

/// What became of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutBack {
    /// It is as it was.
    Restored,
    /// It was not there and is gone.
    Removed,
    /// Somebody else changed it meanwhile, so it stays.
    Kept,
}

/// Keeps what a run is about to change: everything that all engines share, and what the engine has. What an earlier run has
/// kept that was killed stays.
pub fn keep(
    store: &Store<'_>,
    engine: Engine,
    installed: Option<&Manifest>,
    plans: [&Plan; 2],
) -> Result<(), TransactionError> {
    let node = store.node();
    let [plan, system] = plans;
    keep_common(store, system)?;
    let name = engine.name();
    if !is_kept(node, name) {
        let links = programs::links_of(node, engine).into_iter().filter(|link| node.link(link).is_some());
        let paths: Vec<PathBuf> = links.chain(of_installation(node, name, plan)?).collect();
        take(node, name, name, installed.is_some(), &paths)?;
    }
    Ok(())
}

/// Keeps what all engines share, for a run that changes no engine's files. `system` is what is to become of the files for
/// systemd.
pub fn keep_common(store: &Store<'_>, system: &Plan) -> Result<(), TransactionError> {
    let node = store.node();
    if !is_kept(node, COMMON) {
        let programs = programs::all();
        let links = programs::entries_of_tool(node).into_iter().filter(|link| node.link(link).is_some());
        let there = programs.iter().filter(|path| node.place(path).exists()).cloned().chain(links);
        // The people's programs are new where they are not there. What engines call stays in any case: somebody may call it.
        let placed = programs::placed().into_iter().filter(|path| !node.place(path).exists());
        // The first to be put back, because the programs are written through it.
        let paths: Vec<PathBuf> = [directory::FOLDER.into()]
            .into_iter()
            .chain(there)
            .chain(placed)
            .chain(of_installation(node, units::NAME, system)?)
            .collect();
        take(node, COMMON, units::NAME, !units::engines(node).is_empty(), &paths)?;
    }
    Ok(())
}

/// What an installation has written or is about to, then the copies, then the manifest that names them.
fn of_installation(node: &Live, name: &str, plan: &Plan) -> Result<Vec<PathBuf>, TransactionError> {
    let mut paths: Vec<PathBuf> = plan.changes.iter().map(|change| change.path.clone()).collect();
    let recorded = manifest(node, name)?.map(|manifest| manifest.files).unwrap_or_default();
    for record in recorded {
        if !paths.contains(&record.path) {
            paths.push(record.path);
        }
    }
    paths.push(programs::unread(name));
    let folder = Path::new(transaction::FOLDER).join(name);
    // By name the manifest is the last.
    paths.extend(node.list(&folder).into_iter().map(|copy| folder.join(copy)));
    if manifest(node, name)?.is_none() {
        paths.push(folder.join(transaction::MANIFEST));
    }
    Ok(paths)
}

/// Whether the programs may have been changed by this run, for another engine, or by one that was killed.
#[must_use]
pub fn is_begun(node: &Live) -> bool {
    is_kept(node, COMMON)
}

/// Whether any engine had the gate, so that the programs of before are put back with whatever fails.
pub fn has_programs(node: &Live) -> Result<bool, TransactionError> {
    Ok(read(node, COMMON)?.is_some_and(|snapshot| snapshot.stood))
}

/// What there is to go back to for an engine.
pub fn of(node: &Live, engine: Engine) -> Result<Before, TransactionError> {
    Ok(match read(node, engine.name())? {
        None => Before::Unchanged,
        Some(snapshot) if snapshot.stood => Before::Installation,
        Some(_) => Before::Nothing,
    })
}

/// Puts everything back that a run has kept and changed: what all engines share, where any engine had the gate, and what an
/// engine had. What became of each path, as far as it differed.
pub fn go_back(store: &Store<'_>, engine: Engine) -> Result<Vec<(PathBuf, PutBack)>, TransactionError> {
    let done = put_back_all(store.node(), &[COMMON, engine.name()])?;
    forget(store.node())?;
    Ok(done)
}

/// Puts back what [`keep_common`] has kept.
pub fn go_back_common(store: &Store<'_>) -> Result<Vec<(PathBuf, PutBack)>, TransactionError> {
    let done = put_back_all(store.node(), &[COMMON])?;
    forget_common(store.node())?;
    Ok(done)
}

fn put_back_all(node: &Live, names: &[&str]) -> Result<Vec<(PathBuf, PutBack)>, TransactionError> {
    let mut done = Vec::new();
    for name in names {
        if let Some(snapshot) = read(node, name)?.filter(|snapshot| snapshot.stood) {
            put_back(node, name, &snapshot, &mut done)?;
        }
    }
    Ok(done)
}

fn put_back(
    node: &Live,
    name: &str,
    snapshot: &Snapshot,
    done: &mut Vec<(PathBuf, PutBack)>,
) -> Result<(), TransactionError> {
    let edited = edited(node, &snapshot.installation)?;
    let folders =
        |node| Ok::<_, TransactionError>(manifest(node, &snapshot.installation)?.map(|own| own.folders));
    let made = folders(node)?.unwrap_or_default();
    let own = Path::new(transaction::FOLDER);
    for piece in &snapshot.pieces {
        let is_ours = piece.path.starts_with(own) || piece.path == programs::unread(&snapshot.installation);
        let place = if matches!(piece.was, Some(Was::Link(_))) {
            programs::in_folder(node, &piece.path)
        } else {
            node.place(&piece.path)
        };
        let what = match &piece.was {
            Some(Was::Link(target)) => atomic::link(&place, target)?.then_some(PutBack::Restored),
            Some(Was::Directory(was)) => match directory::go_back(node, was)? {
                Some(changed) => changed.then_some(PutBack::Restored),
                None => Some(PutBack::Kept),
            },
            Some(Was::File { copy, mode, modified }) => {
                let copy = node.place(Path::new(FOLDER)).join(name).join(copy);
                let bytes = fs::read(&copy).map_err(fault("read", &copy))?;
                let now = fs::read(&place).ok();
                if now.as_ref() == Some(&bytes) {
                    reset(&place, *mode, *modified).map_err(fault("write", &place))?;
                    None
                } else if edited.contains(&piece.path) {
                    Some(PutBack::Kept)
                } else {
                    if let Some(folder) = place.parent() {
                        atomic::make_folder(folder)?;
                    }
                    labels::replace(node, &piece.path, &place, &bytes, *mode)?;
                    reset(&place, *mode, *modified).map_err(fault("write", &place))?;
                    Some(PutBack::Restored)
                }
            }
            None if !place.exists() => None,
            None if edited.contains(&piece.path) => Some(PutBack::Kept),
            None => {
                atomic::remove(&place)?;
                Some(PutBack::Removed)
            }
        };
        // Of our own bookkeeping nobody wants to hear.
        done.extend(what.filter(|_| !is_ours).map(|what| (piece.path.clone(), what)));
    }
    let kept = folders(node)?.unwrap_or_default();
    for folder in made.iter().rev().filter(|folder| !kept.contains(folder)) {
        // What somebody put there stays, and so does the folder.
        let _ = fs::remove_dir(node.place(folder));
    }
    // Copies that only the manifest named that is gone.
    let own = own.join(&snapshot.installation);
    for copy in node.list(&own).into_iter().map(|copy| own.join(copy)) {
        if !snapshot.pieces.iter().any(|piece| piece.path == copy) {
            atomic::remove_if_there(&node.place(&copy))?;
        }
    }
    Ok(())
}

fn reset(place: &Path, mode: u32, modified: Duration) -> io::Result<()> {
    let file = File::open(place)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.set_modified(SystemTime::UNIX_EPOCH + modified)
}

/// Lets go of what was kept: the run has succeeded, or the installation is gone.
pub fn forget(node: &Live) -> Result<(), WriteError> {
    let folder = Path::new(FOLDER);
    // A copy of the gate may be its inode.
    through(node, |_| {
        // The lists first: without them the copies are nobody's.
        for name in node.list(folder) {
            atomic::remove_if_there(&node.place(&folder.join(name).join(LIST)))?;
        }
        programs::remove_tree(&node.place(folder))?;
        directory::forget_other(node)
    })
}

/// The same after a run of the programs alone. What an engine's run left that was killed stays, all of it: the next
/// `install` goes back to the programs and the files of the same moment.
pub fn forget_common(node: &Live) -> Result<(), WriteError> {
    let is_of_engine = |name: &String| name != COMMON && is_kept(node, name);
    if node.list(Path::new(FOLDER)).iter().any(is_of_engine) { Ok(()) } else { forget(node) }
}

fn is_kept(node: &Live, name: &str) -> bool {
    node.place(&Path::new(FOLDER).join(name).join(LIST)).exists()
}

fn read(node: &Live, name: &str) -> Result<Option<Snapshot>, TransactionError> {
    let path = Path::new(FOLDER).join(name).join(LIST);
    let Some(bytes) = node.read(&path)? else { return Ok(None) };
    let snapshot: Snapshot = serde_json::from_slice(&bytes)
        .map_err(|source| TransactionError::Manifest { path: path.clone(), source })?;
    if snapshot.version > VERSION {
        return Err(TransactionError::Newer { path, found: snapshot.version });
    }
    Ok(Some(snapshot))
}

/// Copies, and then the list of them.
fn take(
    node: &Live,
    name: &str,
    installation: &str,
    stood: bool,
    paths: &[PathBuf],
) -> Result<(), TransactionError> {
    let folder = node.place(&Path::new(FOLDER).join(name));
    // What a run was killed over.
    programs::remove_tree(&folder)?;
    atomic::make_folder(&folder)?;
    let mut pieces = Vec::new();
    // What there is nothing to go back to for needs no copies.
    for path in paths.iter().filter(|_| stood) {
        let was = match node.link(path) {
            Some(target) if programs::is_entry(path) => Some(Was::Link(target)),
            _ if path == Path::new(directory::FOLDER) => Some(Was::Directory(directory::in_force(node))),
            _ => copy(&node.place(path), &folder, pieces.len())?,
        };
        pieces.push(Piece { path: path.clone(), was });
    }
    File::open(&folder).and_then(|folder| folder.sync_all()).map_err(fault("sync", &folder))?;
    let snapshot = Snapshot { version: VERSION, stood, installation: installation.to_owned(), pieces };
    let list = folder.join(LIST);
    let bytes = serde_json::to_vec_pretty(&snapshot)
        .map_err(|source| TransactionError::Manifest { path: list.clone(), source })?;
    Ok(atomic::replace(&list, &bytes, 0o600)?)
}

/// A copy of a file, under the name of a number. A program is not written again: it is replaced by rename, so its inode is
/// the copy.
fn copy(place: &Path, folder: &Path, number: usize) -> Result<Option<Was>, TransactionError> {
    let Ok(metadata) = fs::metadata(place) else { return Ok(None) };
    let (name, mode) = (number.to_string(), metadata.permissions().mode() & 0o7777);
    let there = folder.join(&name);
    if mode & 0o111 == 0 || fs::hard_link(place, &there).is_err() {
        let bytes = if mode & 0o111 == 0 {
            files::read(place, LIMIT)?
        } else {
            fs::read(place).map_err(fault("read", place))?
        };
        atomic::replace(&there, &bytes, 0o600)?;
    }
    let modified = metadata.modified().ok().and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
    Ok(Some(Was::File { copy: name, mode, modified: modified.unwrap_or_default() }))
}
