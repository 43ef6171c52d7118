//! Reads the gate's events back, from the journal and from its fallback file: the other end of [`crate::event`].
//!
//! Either source can be empty, gone or closed to this user. The other is read nevertheless, and [`Read::unseen`] names what
//! is missing.

mod field;
mod file;
mod journal;
pub(crate) mod probes;

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::event::Kind;
use crate::paths::Paths;

/// One event, as it was written down. What it does not say is empty. Every text is from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// When it was written down, in microseconds since 1970.
    pub at: u64,
    /// Its kind.
    pub kind: Option<Kind>,
    /// The line for people.
    pub message: String,
    /// The mode of the node.
    pub mode: String,
    /// The level that was asked.
    pub level: String,
    /// Its version.
    pub version: String,
    /// The controls against it, separated by commas.
    pub controls: String,
    /// What was found, in full: a JSON array.
    pub findings: String,
    /// What set the level; for a fault, what is wrong.
    pub because: String,
    /// Whether it says that a command is to join a container. [`Record::is_exec`] knows older events, too.
    pub exec: bool,
    /// The engine.
    pub engine: String,
    /// The namespace.
    pub namespace: String,
    /// The pod.
    pub pod: String,
    /// Its UID.
    pub pod_uid: String,
    /// The container.
    pub container: String,
    /// Its id.
    pub container_id: String,
    /// Its image.
    pub image: String,
}

impl Record {
    /// Whether it is of a command that is to join a container, and not of a start. Before there was a field for it, every
    /// message but that of a fault began so.
    #[must_use]
    pub fn is_exec(&self) -> bool {
        self.exec || self.message.starts_with("exec ")
    }
}

/// Where to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// With what was written at this time or later.
    Since(SystemTime),
    /// With what has come since an earlier reading.
    After(Position),
}

/// How far both sources were read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// journald's cursor of the last event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<String>,
    /// How far the files were read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FilePosition>,
}

/// A place in a file that is renamed when it has grown large.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilePosition {
    /// Its inode.
    pub inode: u64,
    /// The checksum of its first line: a new file can get the inode of one that was removed.
    pub begins: u64,
    /// How many of its bytes were read.
    pub offset: u64,
}

impl FilePosition {
    fn is_of_the_same(&self, other: &Self) -> bool {
        (self.inode, self.begins) == (other.inode, other.begins)
    }
}

/// What came of reading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// Where the next reading begins, so that no event is read twice and none is left out.
    pub position: Position,
    /// What could not be read, a sentence each.
    pub unseen: Vec<String>,
}

/// Hands over every event but those of the installer's probes: the journal's, then the file's, each source oldest first.
pub fn read(paths: &Paths, from: &From, each: &mut dyn FnMut(Record)) -> Read {
    let after = match from {
        From::Since(_) => Position::default(),
        From::After(position) => position.clone(),
    };
    let since = match from {
        From::Since(time) => micros(*time),
        From::After(_) => 0,
    };
    let mut unseen = Vec::new();
    let mut asked = micros(SystemTime::now());
    let mut probes = probes::Probes::of(paths);
    let mut later = |record: Record| {
        // A probe that is made while this reads was written down before.
        if record.at >= asked {
            (asked, probes) = (micros(SystemTime::now()), probes::Probes::of(paths));
        }
        if record.at >= since && !probes.made(&record) {
            each(record);
        }
    };
    let journal = journal::read(paths, since, after.journal, &mut later, &mut unseen);
    unseen.extend(journal::missing(paths));
    let files = file::read(&paths.decisions(), &after.files, &mut later, &mut unseen);
    Read { position: Position { journal, files }, unseen }
}

/// When the journal begins, in microseconds; `None` if that cannot be found out. What was before is not known.
#[must_use]
pub fn begins(paths: &Paths) -> Option<u64> {
    journal::begins(paths)
}

/// Microseconds since 1970, as journald counts.
#[must_use]
pub fn micros(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
