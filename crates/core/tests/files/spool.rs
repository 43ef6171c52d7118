//! Is every event read once, or counted, whatever becomes of the spool and whoever meddles with it?

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pss_guard_core::spool::{DROPPED_LIMIT, LIMIT, Position, Read, append, read};
use tempfile::TempDir;

use crate::node::{Damage, make_fifo, root};

/// A folder that only root can write to, and one in it.
fn folder() -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("events");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
    (dir, folder)
}

/// How many append at once, and how many events each of them.
const WRITERS: u64 = 16;
const EACH: u64 = 300;

/// An event with a number, of this many bytes.
fn event(number: u64, size: usize) -> String {
    format!("{{\"n\":{number},\"x\":\"{}\"}}", "x".repeat(size))
}

/// The numbers of the events behind a position.
fn numbers(folder: &Path, after: Position) -> (Vec<u64>, Read) {
    let mut numbers = Vec::new();
    let read = read(folder, after, &mut |line| {
        let event: serde_json::Value = serde_json::from_slice(line).unwrap();
        numbers.push(event["n"].as_u64().unwrap());
    });
    (numbers, read.unwrap())
}

fn files(folder: &Path) -> Vec<(String, u64, u32)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        (entry.file_name().into_string().unwrap(), metadata.len(), metadata.mode() & 0o7777)
    });
    let mut files: Vec<_> = entries.collect();
    files.sort();
    files
}

#[test]
fn without_a_folder_no_event_is_even_made() {
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("events");
    append(&folder, || panic!("nobody wants it")).unwrap();
    assert_eq!(numbers(&folder, Position::default()), (vec![], Read::default()));
    assert!(!folder.exists());
}

#[test]
fn a_reader_gets_each_event_once_or_its_number_is_counted() {
    if !root() {
        return;
    }
    // (all events, of about 2 KiB, events between two readings, whether some are lost): a file has about 500 of them
    let rows =
        [(600, 1, false), (1200, 7, false), (6000, 333, false), (6000, 480, false), (6000, 2000, true)];
    for (all, between, loses) in rows {
        let (_dir, folder) = folder();
        let (mut position, mut next, mut lost) = (Position::default(), 0, 0);
        for number in 0..all {
            append(&folder, || event(number, 2000)).unwrap();
            if number % between != 0 {
                continue;
            }
            // What is kept of a position is what was written of it.
            position = serde_json::from_str(&serde_json::to_string(&position).unwrap()).unwrap();
            let (found, done) = numbers(&folder, position);
            lost += done.lost;
            assert_eq!(found.first().copied(), Some(next + done.lost), "{between}");
            assert!(found.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{between}: {found:?}");
            assert_eq!((found.last().copied(), done.dropped), (Some(number), 0), "{between}");
            (position, next) = (done.position, number + 1);
            assert_eq!(numbers(&folder, position), (vec![], Read { lost: 0, ..done }), "{between}: again");
        }
        assert_eq!(lost > 0, loses, "{between}: {lost}");
        let files = files(&folder);
        let names: Vec<&str> = files.iter().map(|(name, _, _)| &**name).collect();
        assert_eq!(names, ["events.jsonl", "events.jsonl.1", "lock"]);
        for (name, size, mode) in files {
            assert!(size <= LIMIT && mode == 0o600, "{name} {size} {mode:o}");
        }
        // A reader who comes late is told how many there were.
        let (found, done) = numbers(&folder, Position::default());
        assert_eq!(done.lost + found.len() as u64, all);
    }
}

#[test]
fn of_many_that_append_at_once_no_line_is_torn_and_none_is_missed() {
    if !root() {
        return;
    }
    // (bytes an event, whether all of them fit)
    for (size, fits) in [(100, true), (3000, false)] {
        let (_dir, folder) = folder();
        let (is_over, mut lost) = (AtomicBool::new(false), 0);
        let mut seen = Vec::new();
        let dropped = thread::scope(|scope| {
            let folder = &folder;
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    let write = move || {
                        let put = |nth| append(folder, || event(writer * EACH + nth, size));
                        (0..EACH).filter(|nth| put(*nth).is_err()).count()
                    };
                    scope.spawn(write)
                })
                .collect();
            let is_over = &is_over;
            let done = scope.spawn(move || {
                let failed: usize = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
                is_over.store(true, Ordering::Relaxed);
                failed
            });
            let mut position = Position::default();
            loop {
                let was_over = is_over.load(Ordering::Relaxed);
                let (found, read) = numbers(folder, position);
                seen.extend(found);
                position = read.position;
                lost += read.lost;
                if was_over {
                    assert_eq!(read.dropped, done.join().unwrap() as u64);
                    break read.dropped;
                }
                if !fits {
                    thread::sleep(Duration::from_millis(40));
                }
            }
        });
        let unique: BTreeSet<u64> = seen.iter().copied().collect();
        assert_eq!(unique.len(), seen.len(), "each once");
        assert_eq!(unique.len() as u64 + lost + dropped, WRITERS * EACH);
        assert!(!fits || lost == 0, "{}", lost);
    }
}

#[test]
fn a_folder_that_root_does_not_keep_closed_is_not_used() {
    if !root() {
        return;
    }
    let damages: &[(&str, Damage)] = &[
        ("of another user", |path| chown(path, Some(1000), None).unwrap()),
        ("open", |path| fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap()),
        ("in an open folder", |path| {
            fs::set_permissions(path.parent().unwrap(), Permissions::from_mode(0o777)).unwrap();
        }),
        ("a link", |path| {
            fs::rename(path, path.with_extension("real")).unwrap();
            symlink("events.real", path).unwrap();
        }),
        ("a link to nowhere", |path| {
            fs::remove_dir(path).unwrap();
            symlink("nowhere", path).unwrap();
        }),
        ("a FIFO", |path| {
            fs::remove_dir(path).unwrap();
            make_fifo(path);
        }),
        ("a file", |path| {
            fs::remove_dir(path).unwrap();
            fs::write(path, "").unwrap();
        }),
    ];
    for (name, damage) in damages {
        let (dir, folder) = folder();
        damage(&folder);
        assert!(append(&folder, || panic!("{name}")).is_err(), "{name}");
        assert!(read(&folder, Position::default(), &mut |_| ()).is_err(), "{name}");
        let made = [folder, dir.path().join("events.real"), dir.path().join("nowhere")];
        assert!(made.iter().all(|path| fs::read_dir(path).map_or(0, Iterator::count) == 0), "{name}");
    }
}

#[test]
fn what_lies_in_the_way_of_a_file_is_neither_followed_nor_waited_for() {
    if !root() {
        return;
    }
    let damages: &[(&str, Damage)] = &[
        ("a link", |path| symlink("../victim", path).unwrap()),
        ("a FIFO", make_fifo),
        ("a folder", |path| fs::create_dir(path).unwrap()),
    ];
    for (what, damage) in damages {
        for name in ["events.jsonl", "events.jsonl.1", "lock", "dropped"] {
            let (dir, folder) = folder();
            fs::write(dir.path().join("victim"), "secret").unwrap();
            damage(&folder.join(name));
            let started = Instant::now();
            let appended = append(&folder, || event(1, 1));
            assert!(started.elapsed() < Duration::from_secs(5), "{what} as {name}");
            // Of the other two nothing is asked yet.
            assert_eq!(appended.is_ok(), name.ends_with('1') || name == "dropped", "{what} as {name}");
            let dropped = fs::symlink_metadata(folder.join("dropped")).ok().filter(|_| name != "dropped");
            let dropped = dropped.map_or(0, |metadata| metadata.len());
            assert_eq!(dropped, u64::from(appended.is_err()), "{what} as {name}");
            assert_eq!(fs::read_to_string(dir.path().join("victim")).unwrap(), "secret");
            let read = read(&folder, Position::default(), &mut |_| ());
            assert_eq!(read.is_ok(), name == "lock", "{what} as {name}: {read:?}");
        }
    }
}

#[test]
fn what_cannot_be_appended_is_counted() {
    if !root() {
        return;
    }
    let (_dir, folder) = folder();
    append(&folder, || event(0, 1)).unwrap();
    // Too long for any file.
    assert!(append(&folder, || event(1, usize::try_from(LIMIT).unwrap())).is_err());
    // A process holds the lock and never releases it.
    let lock = File::open(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    let started = Instant::now();
    assert!(append(&folder, || event(2, 1)).is_err());
    assert!(started.elapsed() < Duration::from_secs(5), "a start waits {:?}", started.elapsed());
    drop(lock);
    append(&folder, || event(3, 1)).unwrap();
    let (found, read) = numbers(&folder, Position::default());
    assert_eq!((found, read.dropped, read.lost), (vec![0, 3], 2, 0));
    // No counter grows without end.
    File::options().write(true).open(folder.join("dropped")).unwrap().set_len(DROPPED_LIMIT).unwrap();
    assert!(append(&folder, || event(4, usize::try_from(LIMIT).unwrap())).is_err());
    assert_eq!(numbers(&folder, read.position).1.dropped, DROPPED_LIMIT);
}

#[test]
fn nothing_is_read_twice_after_files_were_removed_or_damaged() {
    if !root() {
        return;
    }
    let append_all = |folder: &Path, numbers: std::ops::Range<u64>| {
        for number in numbers {
            append(folder, || event(number, 2000)).unwrap();
        }
    };
    // (what is done to the folder when 700 events were read, then 10 more are appended)
    #[rustfmt::skip]
    let damages: &[(&str, Damage)] = &[
        ("nothing", |_| ()),
        ("the current one removed", |folder| fs::remove_file(folder.join("events.jsonl")).unwrap()),
        ("the older one removed", |folder| fs::remove_file(folder.join("events.jsonl.1")).unwrap()),
        ("both removed", |folder| {
            fs::remove_file(folder.join("events.jsonl")).unwrap();
            fs::remove_file(folder.join("events.jsonl.1")).unwrap();
        }),
        ("the current one emptied", |folder| drop(File::create(folder.join("events.jsonl")).unwrap())),
        ("the whole folder made again", |folder| {
            fs::remove_dir_all(folder).unwrap();
            fs::create_dir(folder).unwrap();
        }),
    ];
    for (name, damage) in damages {
        let (_dir, folder) = folder();
        append_all(&folder, 0..700);
        let (found, first) = numbers(&folder, Position::default());
        assert_eq!(found.len(), 700);
        damage(&folder);
        append_all(&folder, 700..710);
        let (found, second) = numbers(&folder, first.position);
        assert_eq!(found, (700..710).collect::<Vec<_>>(), "{name}");
        assert_eq!(second.lost, 0, "{name}");
        append_all(&folder, 710..1600);
        let (found, third) = numbers(&folder, second.position);
        assert_eq!(found.len() as u64 + third.lost, 890, "{name}");
        assert_eq!(numbers(&folder, third.position).0, [] as [u64; 0], "{name}");
    }

    // A gate was killed while it wrote: half a line is a line of its own, and none is handed over before it has an end.
    let (_dir, folder) = folder();
    append_all(&folder, 0..2);
    let path = folder.join("events.jsonl");
    fs::write(&path, fs::read_to_string(&path).unwrap() + "{\"n\":").unwrap();
    let mut lines = Vec::new();
    let mut each = |line: &[u8]| lines.push(line.len());
    let position = read(&folder, Position::default(), &mut each).unwrap().position;
    append_all(&folder, 3..4);
    let done = read(&folder, position, &mut each).unwrap();
    let whole = event(0, 2000).len();
    assert_eq!(lines, [whole, whole, 5, whole]);
    assert_eq!(done.lost, 0);

    // A damaged header is an error; the next file has a header again.
    fs::write(&path, "garbage\n".repeat(10)).unwrap();
    assert!(read(&folder, done.position, &mut |_| ()).is_err());
    append_all(&folder, 10..700);
    assert_eq!(numbers(&folder, Position::default()).0.last(), Some(&699));
    fs::write(&path, "{\"v\":2,\"format\":\"to come\"}\n").unwrap();
    let error = read(&folder, done.position, &mut |_| ()).unwrap_err().to_string();
    assert!(error.starts_with("the spool has format version 2, and this program reads 1"), "{error}");
}
