//! Counts every event exactly once: the counters and the position in the journal are one file, which is replaced
//! atomically.
//!
//! A process takes the lock, reads the file, counts the events after its position, and writes the file again. If it is
//! killed in between, the next one starts from the old file. A process that cannot take the lock or write the file still
//! counts correctly; it does not save the result, and the next run counts those events again.
//!
//! If the file is damaged, the counters restart at zero, as Prometheus expects of a lost counter, with the events since the
//! file was written: Prometheus has the earlier ones already.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use super::counters::Counters;
use crate::atomic;
use crate::checksum::checksum;
use crate::events::{self, From, Position, micros};
use crate::files::{self, Links, Owner};
use crate::message::line;
use crate::paths::Paths;

/// Counted up whenever the meaning of the file changes.
const FORMAT: &str = "pss-guard-metrics 1";

/// Longer than any file of ours: [`Counters`] has an end.
const LIMIT: u64 = 16 << 20;

/// How long to wait for somebody else who counts.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    /// Events before this are not counted (microseconds since 1970); 0: all are.
    from: u64,
    /// When counting began.
    since: u64,
    /// When the last file was found to be damaged; 0: never.
    damaged: u64,
    position: Position,
    counters: Counters,
}

/// What was counted until now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The counters.
    pub counters: Counters,
    /// When counting began, in microseconds since 1970.
    pub since: u64,
    /// When the file was last found to be damaged, likewise; 0 if it never was.
    pub damaged: u64,
    /// Whether it is kept.
    pub kept: bool,
    /// What could not be read, locked or kept, a sentence each.
    pub faults: Vec<String>,
    /// How many of the two sources of events could not be read, in whole or in part.
    pub sources_unread: usize,
}

/// The file, and the right to replace it.
#[derive(Debug)]
pub struct Store<'a> {
    paths: &'a Paths,
    lock: Result<File, String>,
}

impl<'a> Store<'a> {
    /// Waits until nobody else counts.
    #[must_use]
    pub fn open(paths: &'a Paths) -> Self {
        let folder = paths.metrics();
        Self { paths, lock: lock(&folder).map_err(|error| format!("{}: {}", folder.display(), line(&error))) }
    }

    /// Counts what has come, and keeps it.
    #[must_use]
    pub fn count(&self) -> Counted {
        let (mut state, damage) = self.load();
        let mut faults: Vec<String> = damage.into_iter().collect();
        // Without a cursor everything is read again that the journal has.
        let from = if state.position.journal.is_none() { state.from } else { 0 };
        let after = From::After(std::mem::take(&mut state.position));
        let read = events::read(self.paths, &after, &mut |record| {
            if record.at >= from {
                state.counters.add(&record);
            }
        });
        state.position = read.position;
        let sources_unread = read.unseen.len();
        faults.extend(read.unseen.into_iter().map(|unseen| format!("events not counted yet: {unseen}")));
        let kept = match &self.lock {
            Ok(_) => self.keep(&state).map_err(|error| line(&error)),
            Err(error) => Err(error.clone()),
        };
        if let Err(error) = &kept {
            faults.push(format!(
                "the counters were not saved, so the next run counts these events again: {error}"
            ));
        }
        let State { since, damaged, counters, .. } = state;
        Counted { counters, since, damaged, kept: kept.is_ok(), faults, sources_unread }
    }

    fn path(&self) -> PathBuf {
        self.paths.metrics().join("counters")
    }

    /// What the last one kept, and what is wrong with it.
    fn load(&self) -> (State, Option<String>) {
        let path = self.path();
        let now = micros(SystemTime::now());
        let new = State {
            from: 0,
            since: now,
            damaged: 0,
            position: Position::default(),
            counters: Counters::default(),
        };
        let damage = match files::read_as(&path, Links::Refuse, Owner::Anybody, LIMIT) {
            Err(error) if error.is_missing() => return (new, None),
            Err(error) => line(&error),
            Ok((_, _, bytes)) => match parse(&bytes) {
                Some(state) => return (state, None),
                None => format!("{} is damaged", path.display()),
            },
        };
        let written = fs::symlink_metadata(&path).and_then(|file| file.modified()).map_or(now, micros);
        let said = format!(
            "{damage}: all counters restart, with the events since it was written; it is kept as {}",
            aside(&path).display()
        );
        if self.lock.is_ok() {
            // A second name and not another one: who finds no file counts everything that the journal has.
            let _ = atomic::remove_if_there(&aside(&path));
            let _ = fs::hard_link(&path, aside(&path));
        }
        (State { from: written.min(now), damaged: now, ..new }, Some(said))
    }

    fn keep(&self, state: &State) -> Result<(), atomic::WriteError> {
        let body = serde_json::to_vec(state).map_err(io::Error::from);
        let body = body.map_err(atomic::fault("write", &self.path()))?;
        let mut bytes = format!("{FORMAT} {:016x}\n", checksum(&body)).into_bytes();
        bytes.extend_from_slice(&body);
        atomic::replace(&self.path(), &bytes, 0o644)
    }
}

fn aside(path: &Path) -> PathBuf {
    path.with_extension("damaged")
}

fn parse(bytes: &[u8]) -> Option<State> {
    let line = bytes.iter().take(64).position(|byte| *byte == b'\n')?;
    let (head, body) = (bytes.get(..line)?, bytes.get(line + 1..)?);
    let sum = str::from_utf8(head).ok()?.strip_prefix(FORMAT)?.strip_prefix(' ')?;
    (u64::from_str_radix(sum, 16).ok()? == checksum(body)).then_some(())?;
    serde_json::from_slice(body).ok()
}

/// The lock is a file of its own, because the other one is replaced. It goes with the process that holds it.
fn lock(folder: &Path) -> io::Result<File> {
    atomic::make_folder(folder).map_err(|error| io::Error::other(line(&error)))?;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let file = options.open(folder.join("lock"))?;
    let end = Instant::now() + PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if Instant::now() >= end => {
                return Err(io::Error::other("another process is counting and does not finish"));
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}
