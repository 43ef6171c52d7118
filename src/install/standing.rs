//! Since when the gate, and each entry that leads to it, has stood without a break.
//!
//! A container names the entry it was started through, or the hook. Neither says what stood there at that moment: an entry
//! may have led to the runtime, and the gate may have been a script. So the installer writes down which inode it left in each
//! place, when that and its folder were last changed, and since when there was no break.
//! An upgrade replaces a gate by rename and keeps the date. What anybody else did since is a break, and dates from its change; a
//! gate with other bytes than the installer's is no gate that is known.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{GATE, programs};
use crate::atomic::{self, WriteError};
use crate::checksum::checksum;
use crate::files;
use crate::node::host::{LIMIT, Live};
use crate::pss::facts::Engine;

/// The record.
const FILE: &str = "/var/lib/pss-guard/install/standing.json";

/// What stands in a place, and the folder that it stands in. Times are since the epoch.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
struct Seen {
    file: Inode,
    folder: Inode,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
struct Inode {
    number: u64,
    /// `mtime`
    modified: Duration,
    /// `ctime`
    changed: Duration,
}

impl Seen {
    /// Whether nobody has put another file there in between. A rename changes the `ctime` of what is renamed and the `mtime` of
    /// the folder; a hard link or a mode changes that `ctime` alone, and what else lies in the folder its `mtime`.
    fn is_still(&self, now: &Self) -> bool {
        let (file, folder) = (self.file, self.folder);
        let is_same_file = (file.number, file.modified) == (now.file.number, now.file.modified)
            && (file.changed == now.file.changed || folder.modified == now.folder.modified);
        // Not by its number, which an overlay may change (`Documentation/filesystems/overlayfs.rst`, inode properties).
        let is_same_folder = folder.changed == now.folder.changed || folder.modified != now.folder.modified;
        is_same_file && is_same_folder
    }

    /// When it was last put there, or the folder with it, at the latest.
    fn changed(&self) -> Duration {
        self.file.changed.max(self.folder.changed)
    }
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
struct Stood {
    seen: Seen,
    /// Since the epoch.
    since: Duration,
}

/// What the installer has left.
#[derive(Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
struct Record {
    /// The checksum of the gate, which is against mistakes: root can write this as well.
    gate: Option<u64>,
    places: BTreeMap<PathBuf, Stood>,
}

/// Since when each place has stood as the installer left it.
#[derive(Debug)]
pub struct Standing<'a> {
    node: &'a Live,
    /// Places that nobody else has changed.
    untouched: BTreeMap<PathBuf, Duration>,
    /// The checksum of the gate that was left, where that is known.
    sum: Option<u64>,
    /// What stood in each place when this was asked.
    before: BTreeMap<PathBuf, Seen>,
    /// The answer for the gate, which may have to be read for it.
    gate: OnceCell<Option<SystemTime>>,
    asked: SystemTime,
}

impl<'a> Standing<'a> {
    /// Reads the record, and compares it with what is there.
    #[must_use]
    pub fn of(node: &'a Live) -> Self {
        let Record { gate: sum, places: stood } = recorded(node);
        let before: BTreeMap<PathBuf, Seen> =
            places(node).filter_map(|path| Some((path.clone(), seen(node, &path)?))).collect();
        let is_intact =
            |path: &Path, stood: &Stood| before.get(path).is_some_and(|now| stood.seen.is_still(now));
        let intact = stood.into_iter().filter(|(path, stood)| is_intact(path, stood));
        let untouched = intact.map(|(path, stood)| (path, stood.since)).collect();
        Self { node, untouched, sum, before, gate: OnceCell::new(), asked: SystemTime::now() }
    }

    /// Whether another program than the installer's lies in the place of the gate, as far as that is known.
    #[must_use]
    pub fn is_replaced(&self) -> bool {
        let is_untouched = self.untouched.contains_key(Path::new(GATE));
        !is_untouched && self.sum.is_some() && !self.is_ours(Path::new(GATE))
    }

    /// Since when the gate has stood; `None` where there is none that is known to be one.
    #[must_use]
    pub fn gate(&self) -> Option<SystemTime> {
        *self.gate.get_or_init(|| self.since(GATE.as_ref()))
    }

    /// The same of one that the installer left there; `None` where anybody has changed it since.
    #[must_use]
    pub fn untouched_gate(&self) -> Option<SystemTime> {
        Some(SystemTime::UNIX_EPOCH + *self.untouched.get(Path::new(GATE))?)
    }

    /// Since when the gate has stood behind this entry; `None` where it does not.
    #[must_use]
    pub fn entry(&self, entry: &Path) -> Option<SystemTime> {
        Some(self.since(entry)?.max(self.gate()?))
    }

    fn since(&self, path: &Path) -> Option<SystemTime> {
        let by_file = || Some(seen(self.node, path)?.changed()).filter(|_| self.is_ours(path));
        let since = self.untouched.get(path).copied().or_else(by_file)?;
        Some(SystemTime::UNIX_EPOCH + since)
    }

    /// Writes down what is there now: with the old date what stood before, and with that of its change what did not.
    fn record(&self) -> Result<(), WriteError> {
        let node = self.node;
        let since_epoch =
            |moment: SystemTime| moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (asked, now) = (since_epoch(self.asked), since_epoch(SystemTime::now()));
        let stood = |path: PathBuf| {
            let seen = seen(node, &path)?;
            // This run did not write what is not new.
            let is_new = self.before.get(&path).is_none_or(|before| before.file != seen.file);
            let changed = if is_new { seen.file.changed } else { seen.changed() };
            let new = || Some(changed).filter(|_| self.is_ours(&path));
            let since = self.untouched.get(&path).copied().or_else(new)?;
            // Of a clock that was set back since. What is written from here on must not be older for all time.
            let since = if since > now { asked } else { since };
            Some((path, Stood { seen, since }))
        };
        let places: BTreeMap<PathBuf, Stood> = places(node).filter_map(stood).collect();
        let gate = places.get(Path::new(GATE)).and_then(|_| sum(node));
        write(node, &Record { gate: gate.or(self.sum), places })
    }

    /// Whether this is what the installer puts there.
    fn is_ours(&self, path: &Path) -> bool {
        if path != Path::new(GATE) {
            return programs::leads_to_gate(self.node, path);
        }
        let is_known = self.sum.is_some() && sum(self.node) == self.sum;
        is_known || programs::is_copy_of_ours(self.node)
    }
}

/// The checksum of what lies in the place of the gate.
fn sum(node: &Live) -> Option<u64> {
    Some(checksum(&fs::read(node.place(Path::new(GATE))).ok()?))
}

fn places(node: &Live) -> impl Iterator<Item = PathBuf> {
    let links = Engine::ALL.into_iter().flat_map(|engine| programs::links_of(node, engine));
    [PathBuf::from(GATE)].into_iter().chain(links)
}

fn recorded(node: &Live) -> Record {
    let bytes = files::read(&node.place(Path::new(FILE)), LIMIT).ok();
    bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

fn write(node: &Live, record: &Record) -> Result<(), WriteError> {
    let place = node.place(Path::new(FILE));
    // Without the folder nothing is installed any more.
    if *record == recorded(node) || !place.parent().is_some_and(Path::is_dir) {
        return Ok(());
    }
    atomic::replace(&place, &serde_json::to_vec_pretty(record).unwrap_or_default(), 0o600)
}

/// Makes a change of the installer's to the programs or the entries, and keeps the dates of what stood before. `change` gets
/// what stood. Where this is interrupted, the dates are those of the change.
pub(super) fn through<T>(node: &Live, change: impl FnOnce(&Standing<'_>) -> T) -> T {
    let standing = Standing::of(node);
    let done = change(&standing);
    // If the record is lost, status shows more containers as unproven. That stops nothing.
    let _ = standing.record();
    done
}

/// When a file of the node last changed in any way; `None` where it is not there.
#[must_use]
pub fn changed(node: &Live, path: &Path) -> Option<SystemTime> {
    Some(SystemTime::UNIX_EPOCH + seen(node, path)?.file.changed)
}

fn seen(node: &Live, path: &Path) -> Option<Seen> {
    let place = programs::in_folder(node, path);
    let inode = |path: &Path| {
        let file = fs::symlink_metadata(path).ok()?;
        let time = |seconds: i64, rest: i64| {
            Some(Duration::new(u64::try_from(seconds).ok()?, u32::try_from(rest).ok()?))
        };
        let modified = time(file.mtime(), file.mtime_nsec())?;
        let changed = time(file.ctime(), file.ctime_nsec())?;
        Some(Inode { number: file.ino(), modified, changed })
    };
    Some(Seen { file: inode(&place)?, folder: inode(place.parent()?)? })
}

/// As if the installer had left everything that is there, at this moment.
#[cfg(test)]
pub(crate) fn pretend(node: &Live, since: SystemTime) {
    let since = since.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let stood = |path: PathBuf| Some((path.clone(), Stood { seen: seen(node, &path)?, since }));
    let places = places(node).filter_map(stood).collect();
    write(node, &Record { gate: sum(node), places }).unwrap();
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::Path;
    use std::time::{Duration, SystemTime};

    use super::{FILE, Standing, pretend, through};
    use crate::install::{GATE, entry_path};
    use crate::node::host::Live;
    use crate::pss::facts::Engine;

    /// A break of a gate that has stood for an hour, and what is known of gate and entry after it.
    #[test]
    fn what_others_change_is_a_break() {
        type Break = fn(&Path);
        let moved_gate: Break = |root| {
            let gate = root.join(&GATE[1..]);
            fs::rename(&gate, root.join("away")).unwrap();
            fs::rename(root.join("away"), gate).unwrap();
        };
        let written: Break = |root| fs::write(root.join(&GATE[1..]), "#!/bin/sh\n").unwrap();
        let turned: Break = |root| {
            let entry = root.join(entry_path(Engine::Containerd, "runc").strip_prefix("/").unwrap());
            fs::remove_file(&entry).unwrap();
            symlink("/usr/sbin/runc", entry).unwrap();
        };
        let lost: Break = |root| fs::remove_file(root.join(&FILE[1..])).unwrap();
        let nothing: Break = |_| ();
        let other_folder: Break = |root| {
            let folder = root.join(&GATE[1..]).parent().unwrap().to_owned();
            fs::rename(&folder, root.join("bin.away")).unwrap();
            fs::rename(root.join("bin.away"), folder).unwrap();
        };
        let linked: Break = |root| fs::hard_link(root.join(&GATE[1..]), root.join("backup")).unwrap();
        let beside: Break = |root| fs::write(root.join(&GATE[1..]).with_extension("txt"), "").unwrap();
        let moved_entry: Break = |root| {
            let folder = root.join("var/lib/pss-guard/runtimes/containerd/runc");
            fs::rename(&folder, root.join("away")).unwrap();
            fs::rename(root.join("away"), folder).unwrap();
        };
        // Since the hour, since now, or not known.
        let (old, unknown) = (Some(true), None);
        let rows: [(&str, Break, [Option<bool>; 2]); 9] = [
            ("nothing", nothing, [old, old]),
            ("the gate was away for a while", moved_gate, [Some(false), Some(false)]),
            ("the gate is a script", written, [unknown, unknown]),
            ("its directory was away for a while", other_folder, [Some(false), Some(false)]),
            ("the folder of the entry was away for a while", moved_entry, [old, Some(false)]),
            ("a backup has linked to it", linked, [old, old]),
            ("another file lies beside it", beside, [old, old]),
            ("the entry leads to the runtime", turned, [old, unknown]),
            ("there is no record", lost, [unknown, unknown]),
        ];
        let hour = SystemTime::now() - Duration::from_secs(3_600);
        for (name, breaks, expected) in rows {
            let directory = tempfile::tempdir().unwrap();
            let (root, node) = (directory.path(), Live::under(directory.path()));
            let entry = entry_path(Engine::Containerd, "runc");
            let place = |path: &Path| root.join(path.strip_prefix("/").unwrap());
            for path in [Path::new(GATE), Path::new(FILE), &entry] {
                fs::create_dir_all(place(path).parent().unwrap()).unwrap();
            }
            fs::write(place(Path::new(GATE)), "a gate of another version").unwrap();
            fs::set_permissions(place(Path::new(GATE)), fs::Permissions::from_mode(0o755)).unwrap();
            symlink("../../../bin/pss-guard-gate", place(&entry)).unwrap();
            pretend(&node, hour);
            breaks(root);
            let known = || {
                let standing = Standing::of(&node);
                let is_old = |since: SystemTime| since < SystemTime::now() - Duration::from_secs(60);
                [standing.gate(), standing.entry(&entry)].map(|since| since.map(is_old))
            };
            assert_eq!(known(), expected, "{name}");
            // A change of the installer's that writes none of it makes nothing better.
            through(&node, |_| ());
            assert_eq!(known(), expected, "{name}, once recorded");
        }
    }

    /// What the installer itself replaces keeps its date, and only that.
    #[test]
    fn an_upgrade_is_no_break() {
        let directory = tempfile::tempdir().unwrap();
        let (root, node) = (directory.path(), Live::under(directory.path()));
        for path in [GATE, FILE] {
            fs::create_dir_all(root.join(&path[1..]).parent().unwrap()).unwrap();
        }
        let gate = root.join(&GATE[1..]);
        let replace = |text: &str| {
            fs::write(root.join("new"), text).unwrap();
            fs::rename(root.join("new"), &gate).unwrap();
        };
        replace("one");
        let hour = SystemTime::now() - Duration::from_secs(3_600);
        pretend(&node, hour);
        through(&node, |_| replace("two"));
        let since = Standing::of(&node).gate();
        assert_eq!(since, Some(hour));
        // A clock that was wrong when it was installed does not make everything older for years.
        pretend(&node, SystemTime::now() + Duration::from_secs(3_600));
        through(&node, |_| ());
        assert!(Standing::of(&node).gate().is_some_and(|since| since <= SystemTime::now()));
        let now = SystemTime::now() - Duration::from_millis(50);
        replace("two");
        assert!(
            Standing::of(&node).gate().is_some_and(|since| since >= now),
            "the same bytes, replaced by hand"
        );
        replace("three");
        for what in ["other bytes, replaced by hand", "the same, recorded by the next run"] {
            let standing = Standing::of(&node);
            assert!(standing.is_replaced() && standing.gate().is_none(), "{what}");
            through(&node, |_| ());
        }
        through(&node, |_| replace("two"));
        assert!(!Standing::of(&node).is_replaced(), "put back");
    }
}
