//! Says whether a process of this node lives in a root file system, by the mount tables alone and without a look into any
//! container. The device of a mount and the place on it identify a directory, whatever its path.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::files;

/// The longest table that is read, in bytes: the kernel lets a mount namespace have 100,000 mounts (`fs.mount-max`).
const TABLE: u64 = 64 << 20;

/// Where a directory really is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The device of its file system, as `MAJOR:MINOR`.
    pub(super) device: Vec<u8>,
    /// Its path in that.
    pub(super) path: PathBuf,
}

/// Whether the root directory of some process in another mount namespace is this one.
pub(crate) fn is_a_root(directory: &Path) -> bool {
    let Some(place) = place_of(directory) else { return false };
    let own = fs::read_link("/proc/self/ns/mnt");
    let mut known: HashSet<PathBuf> = own.into_iter().collect();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = processes.filter(|entry| entry.file_name().as_bytes().iter().all(u8::is_ascii_digit));
    // One of each namespace: containers are few, processes may be many.
    processes.map(|process| process.path()).any(|process| {
        let is_new = fs::read_link(process.join("ns/mnt")).is_ok_and(|namespace| known.insert(namespace));
        is_new && table(&process).is_ok_and(|table| root_in(&table).as_ref() == Some(&place))
    })
}

/// Whether a directory is the root of the process whose folder this is.
pub(super) fn is_root_of(directory: &Path, process: &Path) -> bool {
    let Ok(table) = table(process) else { return false };
    root_in(&table).is_some_and(|root| place_of(directory).as_ref() == Some(&root))
}

/// The place of a directory that this process sees.
pub(super) fn place_of(directory: &Path) -> Option<Place> {
    let directory = fs::canonicalize(directory).ok()?;
    on_mount_of(&directory, |line| {
        let below = directory.strip_prefix(unescape(line.point)).ok()?;
        Some(Place { device: line.device.to_owned(), path: unescape(line.root).join(below) })
    })
}

/// Where the mount is that something lies on that this process sees.
pub(crate) fn mount_point(path: &Path) -> Option<PathBuf> {
    on_mount_of(path, |line| Some(unescape(line.point)))
}

/// What is read of the line of the mount table that something lies on.
fn on_mount_of<T>(path: &Path, read: impl FnOnce(Line<'_>) -> Option<T>) -> Option<T> {
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path).ok()?;
    let info = files::read_proc(Path::new(&format!("/proc/self/fdinfo/{}", opened.as_raw_fd()))).ok()?;
    let mount = lines(&info).find_map(|line| line.strip_prefix(b"mnt_id:"))?.trim_ascii();
    let table = table(Path::new("/proc/self")).ok()?;
    lines(&table).filter_map(Line::of).find(|line| line.id == mount).and_then(read)
}

/// The mount table of a process whose folder this is. The kernel hands it out in whole lines, so a read that does not fill its
/// buffer is not the last one.
pub(super) fn table(process: &Path) -> io::Result<Vec<u8>> {
    let mut table = Vec::new();
    File::open(process.join("mountinfo"))?.take(TABLE).read_to_end(&mut table)?;
    Ok(table)
}

/// The place of the root directory of a process with this mount table.
fn root_in(table: &[u8]) -> Option<Place> {
    // What was mounted last hides what was there.
    let line = lines(table).filter_map(Line::of).filter(|line| line.point == b"/").last()?;
    Some(Place { device: line.device.to_owned(), path: unescape(line.root) })
}

/// What is mounted where, by a process's mount table: of several mounts on one place the last, which hides the others.
pub(super) fn mounts(table: &[u8]) -> HashMap<PathBuf, Place> {
    let place = |line: &Line<'_>| Place { device: line.device.to_owned(), path: unescape(line.root) };
    lines(table).filter_map(Line::of).map(|line| (unescape(line.point), place(&line))).collect()
}

/// One line of proc_pid_mountinfo(5).
struct Line<'a> {
    id: &'a [u8],
    device: &'a [u8],
    root: &'a [u8],
    point: &'a [u8],
}

impl<'a> Line<'a> {
    fn of(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ');
        let (id, _parent, device) = (fields.next()?, fields.next()?, fields.next()?);
        Some(Self { id, device, root: fields.next()?, point: fields.next()? })
    }
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n')
}

/// Undoes the kernel's escapes: `\040` for a space.
fn unescape(field: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((byte, after)) = rest.split_first() {
        let code = after.get(..3).filter(|_| *byte == b'\\');
        let code = code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 8).ok());
        path.push(code.unwrap_or(*byte));
        rest = if code.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    PathBuf::from(std::ffi::OsString::from_vec(path))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{is_a_root, place_of, root_in, unescape};

    #[test]
    fn the_root_is_what_was_mounted_there_last() {
        let table = b"1 0 8:1 / / rw - ext4 a rw\n2 1 0:5 / /proc rw - proc proc rw\n3 1 0:9 /a\\040b / rw - overlay o rw\n";
        let root = root_in(table).unwrap();
        assert_eq!((root.device.as_slice(), root.path.as_path()), (b"0:9".as_slice(), Path::new("/a b")));
        assert_eq!(root_in(b"1 0 8:1 / /x rw - ext4 a rw\n"), None);
        assert_eq!(unescape(b"\\134040\\04"), Path::new("\\040\\04"));
    }

    #[test]
    fn a_directory_has_one_place_whatever_its_path() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("a b")).unwrap();
        std::os::unix::fs::symlink("a b", dir.path().join("link")).unwrap();
        let [one, other] = ["a b", "link"].map(|name| place_of(&dir.path().join(name)).unwrap());
        assert_eq!(one, other);
        assert!(one.path.ends_with("a b"), "{one:?}");
        assert_eq!(place_of(&dir.path().join("nothing")), None);
        assert!(!is_a_root(&dir.path().join("a b")), "nobody lives there");
    }
}
