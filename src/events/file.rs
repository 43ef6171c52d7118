//! Reads the file of events that journald could not take: one JSON object a line, in up to two files: the one
//! that is written, and the one before it.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::journal::LONGEST;
use super::{FilePosition, Record, field};
use crate::checksum::checksum;
use crate::event::set_aside;
use crate::words::agree;

/// Reads both files from where they were left. Gives where the next reading begins.
pub(super) fn read(
    path: &Path,
    after: &[FilePosition],
    each: &mut dyn FnMut(Record),
    unseen: &mut Vec<String>,
) -> Vec<FilePosition> {
    let mut positions: Vec<FilePosition> = Vec::new();
    // The newer first: if it is renamed between the two, it is opened twice, and known.
    let mut files: Vec<(BufReader<File>, FilePosition)> = Vec::new();
    for path in [path, &set_aside(path)] {
        match open(path) {
            Ok(Some((file, start))) if !files.iter().any(|(_, known)| known.is_of_the_same(&start)) => {
                files.push((file, start));
            }
            Ok(_) => {}
            Err(error) => {
                unseen.push(format!("{}: {error}", path.display()));
                // Nobody knows which of them it is.
                positions = after.to_vec();
            }
        }
    }
    for (file, start) in files.into_iter().rev() {
        let known = after.iter().find(|known| known.is_of_the_same(&start));
        let offset = known.map_or(0, |known| known.offset);
        positions.retain(|kept| !kept.is_of_the_same(&start));
        match lines(file, offset, each) {
            Ok((offset, damaged)) => {
                positions.push(FilePosition { offset, ..start });
                if damaged > 0 {
                    let lines = agree(&damaged, "line is no event", "lines are no events");
                    unseen.push(format!("{}: {damaged} {lines}: damaged, or cut off", path.display()));
                }
            }
            Err(error) => {
                unseen.push(format!("{}: {error}", path.display()));
                positions.push(FilePosition { offset, ..start });
            }
        }
    }
    positions
}

/// Opens a file and finds out which one it is; `None` if there is none, or no line in it yet.
fn open(path: &Path) -> io::Result<Option<(BufReader<File>, FilePosition)>> {
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut file = BufReader::new(file);
    let mut first = Vec::new();
    (&mut file).take(LONGEST).read_until(b'\n', &mut first)?;
    let position = FilePosition { inode: metadata.ino(), begins: checksum(&first), offset: 0 };
    let is_line = first.last() == Some(&b'\n') || first.len() as u64 == LONGEST;
    Ok(is_line.then_some((file, position)))
}

/// Hands over the events of whole lines; gives the end of the last one, and how many lines are no object of JSON. A file that has
/// become shorter is another one.
fn lines(mut reader: BufReader<File>, offset: u64, each: &mut dyn FnMut(Record)) -> io::Result<(u64, usize)> {
    let mut damaged = 0;
    let mut offset = if reader.get_ref().metadata()?.len() < offset { 0 } else { offset };
    reader.seek(SeekFrom::Start(offset))?;
    let mut line = Vec::new();
    loop {
        let (mut read, mut parts) = (0, 0);
        // A line that is too long is passed over, a part at a time.
        loop {
            line.clear();
            let part = (&mut reader).take(LONGEST).read_until(b'\n', &mut line)? as u64;
            (read, parts) = (read + part, parts + 1);
            if part < LONGEST || line.last() == Some(&b'\n') {
                break;
            }
        }
        // Half a line is being written at this moment, or the disk was full; then its writer or the next one ends it.
        if line.last() != Some(&b'\n') {
            return Ok((offset, damaged + usize::from(parts > 1)));
        }
        offset += read;
        let event = if parts == 1 { field::line(&line) } else { None };
        match event {
            Some(event) => each(event.record),
            // A later version may write what this one does not know.
            None if line.starts_with(b"{") && line.ends_with(b"}\n") => {}
            None => damaged += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::read;
    use crate::event::{Kind, set_aside};
    use crate::events::FilePosition;

    fn event(pod: &str) -> String {
        let id = Kind::Denied.message_id();
        format!("{{\"__REALTIME_TIMESTAMP\":\"7\",\"MESSAGE_ID\":\"{id}\",\"PSS_POD\":\"{pod}\"}}\n")
    }

    /// The pods of the events behind a position, and where the next reading begins.
    fn pods(path: &Path, after: &[FilePosition]) -> (String, Vec<FilePosition>) {
        let (mut pods, mut unseen) = (Vec::new(), Vec::new());
        let position = read(path, after, &mut |record| pods.push(record.pod), &mut unseen);
        assert!(unseen.iter().all(|unseen| unseen.contains("damaged, or cut off")), "{unseen:?}");
        (pods.concat(), position)
    }

    #[test]
    fn every_event_is_read_once_whatever_becomes_of_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = &directory.path().join("decisions.jsonl");
        let old = set_aside(path);
        let append = |text: &str| {
            use std::io::Write as _;
            fs::File::options()
                .append(true)
                .create(true)
                .open(path)
                .unwrap()
                .write_all(text.as_bytes())
                .unwrap();
        };
        let mut position = Vec::new();
        let mut next = |expected: &str, what: &str| {
            let (read, after) = pods(path, &position);
            assert_eq!(read, expected, "{what}");
            position = after;
        };
        next("", "there is no file");
        append(&event("a"));
        append(&event("b"));
        next("ab", "all that is there");
        next("", "nothing new");
        let event_c = event("c");
        let (half, rest) = event_c.split_at(20);
        append(half);
        next("", "half a line");
        append(rest);
        append("garbage\n");
        append(&event("d"));
        next("cd", "the other half, and what is behind garbage");
        append(&event("e"));
        fs::rename(path, &old).unwrap();
        append(&event("f"));
        next("ef", "the file was set aside");
        append(&event("g"));
        next("g", "the older one is done with");
        fs::rename(path, &old).unwrap();
        next("", "set aside, and no new one yet");
        append(&event("h"));
        next("h", "the new one");
        fs::write(path, event("i")).unwrap();
        append(&event("j"));
        fs::write(path, event("k")).unwrap();
        next("k", "written over, to the same length");
        fs::write(path, "").unwrap();
        next("", "emptied");
        append(&event("l"));
        next("l", "and written again");
        fs::rename(path, &old).unwrap();
        append(&event("m"));
        fs::rename(path, &old).unwrap();
        append(&event("n"));
        next("mn", "set aside twice");
        fs::remove_file(path).unwrap();
        fs::remove_file(&old).unwrap();
        next("", "removed");
    }

    #[test]
    fn a_line_without_end_is_passed_over_and_takes_no_other_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("decisions.jsonl");
        let long = "x".repeat(2 * usize::try_from(super::LONGEST).unwrap() + 5);
        let half = &long[5..];
        fs::write(&path, format!("{long}\n{}{long}\n{}{half}", event("a"), event("b"))).unwrap();
        let (read, after) = pods(&path, &[]);
        assert_eq!(read, "ab");
        assert_eq!(after[0].offset, fs::metadata(&path).unwrap().len() - half.len() as u64);
        assert_eq!(pods(&path, &after), (String::new(), after));
    }

    #[test]
    fn damaged_lines_are_said_and_what_a_later_version_writes_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("decisions.jsonl");
        let said = |text: &str| {
            fs::write(&path, text).unwrap();
            let mut unseen = Vec::new();
            read(&path, &[], &mut |_| (), &mut unseen);
            unseen.concat()
        };
        let (whole, later) = (event("a"), "{\"PSS_NEW\":\"1\"}\n");
        assert_eq!(said(&format!("{whole}{later}{}", &whole[..9])), "", "the last line is being written");
        let cut = format!("{}\n{whole}", &whole[..9]);
        assert_eq!(said(&cut), format!("{}: 1 line is no event: damaged, or cut off", path.display()));
        assert!(said(&format!("{cut}garbage\n")).contains(": 2 lines are no events: "));
    }

    #[test]
    fn what_is_no_file_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("decisions.jsonl");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut unseen = Vec::new();
        let kept = [FilePosition { inode: 1, begins: 2, offset: 3 }];
        assert_eq!(read(&path, &kept, &mut |_| (), &mut unseen), kept);
        assert_eq!(unseen, [format!("{}: not a regular file", path.display())]);
    }
}
