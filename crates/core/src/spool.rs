//! A bounded copy of the events for the agent, whose image has no journalctl.
//!
//! The gate writes it only where the folder `/run/pss-guard/events` exists. It contains:
//!
//! ```text
//! events.jsonl     {"v":1,"spool":1795905342000000000,"first":700}, then an event a line, numbered from `first` on
//! events.jsonl.1   the file before it
//! lock             held while an event is appended
//! dropped          one byte for each event that could not be appended
//! ```
//!
//! The two files have at most [`LIMIT`] bytes each; the oldest events are overwritten. Because events are numbered, a reader
//! learns how many it missed ([`Read::lost`]). A writer could not count them, as it does not know what has been read. Readers
//! need no write access.
//!
//! The journal has every event, so no failure here matters to a container.

use std::fs::{File, TryLockError};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::Mode;
use serde::{Deserialize, Serialize};

use crate::files::{self, FileError};

/// The size of each of the two files, in bytes: some 350 denials.
pub const LIMIT: u64 = 1 << 20;

/// Beyond so many events that could not be appended no more are counted.
pub const DROPPED_LIMIT: u64 = 1 << 16;

const CURRENT: &str = "events.jsonl";
const OLDER: &str = "events.jsonl.1";
const LOCK: &str = "lock";
const DROPPED: &str = "dropped";

/// How long a container start waits for others that append, as for journald. Each of them takes some microseconds, unless
/// it is stopped.
const PATIENCE: Duration = Duration::from_millis(200);

const VERSION: u32 = 1;

/// The first line of a file. Other versions of the format would be in files of other names: a gate does not look at it
/// before it appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
struct Header {
    v: u32,
    /// Which numbering it belongs to: when that began, in nanoseconds since 1970.
    #[serde(default)]
    spool: u64,
    /// The number of its first event.
    #[serde(default)]
    first: u64,
}

/// No header is longer, in bytes.
const LONGEST_HEADER: usize = 128;

impl Header {
    /// Of a spool that begins now.
    fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { v: VERSION, spool: u64::try_from(now.as_nanos()).unwrap_or(0), first: 0 }
    }

    /// Of the file that follows this one.
    fn after(file: &File) -> io::Result<Self> {
        let (header, start) = Self::of(file)?.ok_or(io::ErrorKind::InvalidData)?;
        let mut first = header.first;
        let mut file: &File = file;
        file.seek(SeekFrom::Start(start))?;
        let mut part = [0; 16 << 10];
        loop {
            let part = match file.read(&mut part)? {
                0 => return Ok(Self { first, ..header }),
                read => part.get(..read).unwrap_or_default(),
            };
            first += part.split(|byte| *byte == b'\n').count() as u64 - 1;
        }
    }

    /// The header of a file, and where its events begin; `None` if it has none yet.
    fn of(file: &File) -> io::Result<Option<(Self, u64)>> {
        let mut bytes = [0; LONGEST_HEADER];
        let read = file.read_at(&mut bytes, 0)?;
        let bytes = bytes.get(..read).unwrap_or_default();
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
        let header = serde_json::from_slice(bytes.get(..end).unwrap_or_default())?;
        Ok(Some((header, end as u64 + 1)))
    }

    fn line(self) -> Vec<u8> {
        let Self { v, spool, first } = self;
        format!("{{\"v\":{v},\"spool\":{spool},\"first\":{first}}}\n").into_bytes()
    }
}

/// Appends an event, a line without its end, to the spool in this folder. Without a folder that costs one open(2), and the
/// event is not even made. An event that cannot be appended is counted.
pub fn append(folder: &Path, event: impl FnOnce() -> String) -> io::Result<()> {
    let Some(folder) = files::open_folder(folder).map_err(io::Error::other)? else { return Ok(()) };
    let done = put(&folder, event());
    if done.is_err() {
        // The error that is worth telling is the first.
        let _ = count(&folder);
    }
    done
}

fn put(folder: &File, mut event: String) -> io::Result<()> {
    event.push('\n');
    if (event.len() + LONGEST_HEADER) as u64 > LIMIT {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let lock = open(folder, LOCK, OFlag::O_WRONLY | OFlag::O_CREAT)?;
    wait_for(&lock)?;
    let appending = OFlag::O_RDWR | OFlag::O_APPEND | OFlag::O_CREAT;
    let mut file = open(folder, CURRENT, appending)?;
    let mut size = file.metadata()?.len();
    let mut header = Header::new();
    if size > 0 && size + event.len() as u64 >= LIMIT {
        if let Ok(next) = Header::after(&file) {
            renameat(folder, CURRENT, folder, OLDER)?;
            (file, header) = (open(folder, CURRENT, appending)?, next);
        } else {
            // Damaged, so nobody can read it: a new numbering begins in its place.
            file.set_len(0)?;
        }
        size = 0;
    }
    let mut bytes = if size == 0 { header.line() } else { Vec::new() };
    // A gate that was killed while it wrote leaves half a line, which must not swallow this one.
    let mut last = [b'\n'];
    if size > 0 && file.read_at(&mut last, size - 1)? == 1 && last != [b'\n'] {
        bytes.push(b'\n');
    }
    bytes.extend_from_slice(event.as_bytes());
    match file.write(&bytes) {
        Ok(written) if written == bytes.len() => Ok(()),
        written => {
            // Nobody else appends meanwhile, and readers stop at the last whole line.
            file.set_len(size)?;
            written.and(Err(io::ErrorKind::StorageFull.into()))
        }
    }
}

/// Counts an event that is not in the spool. It takes no lock: appends of one byte do not overlap.
fn count(folder: &File) -> io::Result<()> {
    let mut file = open(folder, DROPPED, OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CREAT)?;
    if file.metadata()?.len() < DROPPED_LIMIT { file.write_all(b".") } else { Ok(()) }
}

/// Waits for the lock, and no longer than [`PATIENCE`]: whoever can read the folder could hold it.
fn wait_for(lock: &File) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_micros(200));
            }
            Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => return Err(error),
            Ok(()) => return Ok(()),
        }
    }
}

/// Opens a regular file of the spool, for root alone.
fn open(folder: &File, name: &str, flags: OFlag) -> io::Result<File> {
    let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let file = File::from(openat(folder, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("not a regular file")) }
}

/// How far a spool was read. To be kept by the reader, who goes on there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Which numbering.
    spool: u64,
    /// The number of the next event.
    next: u64,
}

/// What a reading came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// Where the next reading begins.
    pub position: Position,
    /// How many events were overwritten since the last reading, unread.
    pub lost: u64,
    /// How many events gates could not append since the folder was made; at most [`DROPPED_LIMIT`].
    pub dropped: u64,
}

/// Why a spool cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The folder cannot be trusted or read.
    #[error(transparent)]
    Folder(#[from] FileError),
    /// A file in it cannot be read.
    #[error("read the spool's file {name}")]
    File {
        /// Its name.
        name: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The gate is newer than this program.
    #[error("the spool has format version {0}, and this program reads {VERSION}; upgrade it")]
    Version(u32),
}

/// Hands over the events behind a position, oldest first, each once, as the lines that they are. Events that are appended
/// meanwhile may be left for the next reading. Without a folder there are none.
pub fn read(folder: &Path, after: Position, each: &mut dyn FnMut(&[u8])) -> Result<Read, ReadError> {
    let mut read = Read { position: after, ..Read::default() };
    let Some(folder) = files::open_folder(folder)? else { return Ok(read) };
    // The newer one first: if it is renamed between the two, it is opened twice, and no events are passed over.
    let current = Numbered::open(&folder, CURRENT)?;
    let older = Numbered::open(&folder, OLDER)?;
    let of_one = |one: &Option<Numbered>, spool| one.as_ref().is_some_and(|file| file.header.spool == spool);
    // After files were removed, the older one can belong to a numbering that was already read to its end.
    let is_new = |older: &Numbered| {
        let spool = older.header.spool;
        after == Position::default() || after.spool == spool || of_one(&current, spool)
    };
    let older = older.filter(is_new);
    // If two took their turn between the two, it is the newer one.
    let is_newer = older.as_ref().zip(current.as_ref()).is_some_and(|(older, current)| {
        older.header.spool == current.header.spool && older.header.first > current.header.first
    });
    let files = if is_newer { [current, older] } else { [older, current] };
    for file in files.into_iter().flatten() {
        file.read(&mut read, each)?;
    }
    match open(&folder, DROPPED, OFlag::O_RDONLY) {
        Ok(file) => read.dropped = file.metadata().map_or(0, |metadata| metadata.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(ReadError::File { name: DROPPED, source }),
    }
    Ok(read)
}

/// One file of the spool.
struct Numbered {
    name: &'static str,
    header: Header,
    file: File,
    /// Where its events begin.
    start: u64,
}

impl Numbered {
    /// Opens a file; `None` if there is none, or its first event is being written.
    fn open(folder: &File, name: &'static str) -> Result<Option<Self>, ReadError> {
        let opened = open(folder, name, OFlag::O_RDONLY);
        match opened.and_then(|file| Ok(Header::of(&file)?.map(|header| (file, header)))) {
            Ok(Some((_, (header, _)))) if header.v != VERSION => Err(ReadError::Version(header.v)),
            Ok(found) => Ok(found.map(|(file, (header, start))| Self { name, header, file, start })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ReadError::File { name, source }),
        }
    }

    /// Hands over the whole lines that have not been read, and moves the position behind them.
    fn read(self, read: &mut Read, each: &mut dyn FnMut(&[u8])) -> Result<(), ReadError> {
        let Self { name, header: Header { spool, first, .. }, mut file, start } = self;
        if read.position.spool != spool {
            read.position = Position { spool, next: 0 };
        }
        let next = &mut read.position.next;
        read.lost += first.saturating_sub(*next);
        *next = first.max(*next);
        let mut number = first;
        let mut line = Vec::new();
        let fault = |source| ReadError::File { name, source };
        file.seek(SeekFrom::Start(start)).map_err(fault)?;
        let mut reader = BufReader::new(file.take(LIMIT));
        loop {
            line.clear();
            reader.read_until(b'\n', &mut line).map_err(fault)?;
            // The end, or half a line that is being written.
            let Some(event) = line.strip_suffix(b"\n") else { return Ok(()) };
            if number == *next {
                each(event);
                *next += 1;
            }
            number += 1;
        }
    }
}
