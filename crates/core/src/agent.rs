//! `/run/pss-guard/agent/agent.json`: what the agent says of itself, for `status`, `metrics` and alerts. The gate never reads it:
//! the age of what a node knows stops no container.
//!
//! The first report of a contact is kept for later boots as well, as it was. So a node whose agent does not come
//! back after a reboot has an old report, and is told from one that never had an agent.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::atomic::{Lasts, WriteError};
use crate::cluster::AGENT;
use crate::files::{self, FileError, Links, Owner};
use crate::paths::Paths;
use crate::pods::Source;
use crate::spool::Position;
use crate::store;

/// The file's name without `.json`.
const NAME: &str = "agent";

/// The name of the file that says how far the spool was read. It lies beside the spool: a reboot ends both.
const POSITION: &str = "events";

/// The version that is written, and the newest that is read. Readers skip keys that they do not know.
const VERSION: u32 = 1;

/// Without proof of contact for so long, the API server counts as lost. The agent proves it four times as often.
pub const STALE: Duration = Duration::from_secs(60);

/// What an agent knows of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The format's version.
    v: u32,
    /// When the API server last answered, in seconds since 1970; 0 if it never did.
    pub contact: u64,
    /// Whether both lists were complete once since the agent started.
    pub synced: bool,
    /// How many pods of the API have facts here.
    pub pods: usize,
    /// How many static pods have.
    #[serde(default)]
    pub static_pods: usize,
    /// How many namespaces are known.
    #[serde(default)]
    pub namespaces: usize,
    /// The agent's own version.
    #[serde(default)]
    pub version: String,
}

/// What the report of any version has.
#[derive(Deserialize)]
struct Form {
    v: u32,
}

/// Why nothing is known of the agent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// The file or its folder cannot be trusted or read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is something else.
    #[error("parse {} as the agent's report, which an agent that runs writes again within a minute", .path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The file is of an agent that is newer than this program.
    #[error(
        "{} has the format version {version}, and this program reads {VERSION}: upgrade pss-guard, which goes before the agent",
        .path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
}

/// How many of each are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// See [`Report::pods`].
    pub pods: usize,
    /// See [`Report::static_pods`].
    pub static_pods: usize,
    /// See [`Report::namespaces`].
    pub namespaces: usize,
}

impl Report {
    /// What an agent of this version says.
    #[must_use]
    pub fn new(contact: u64, synced: bool, known: Known, version: &str) -> Self {
        let Known { pods, static_pods, namespaces } = known;
        Self { v: VERSION, contact, synced, pods, static_pods, namespaces, version: version.to_owned() }
    }

    /// When the API server last answered; `None` if it never did.
    #[must_use]
    pub fn contacted(&self) -> Option<SystemTime> {
        let contact = UNIX_EPOCH.checked_add(Duration::from_secs(self.contact))?;
        (self.contact > 0).then_some(contact)
    }
}

/// Where the file is, below a folder such as `/run/pss-guard`.
#[must_use]
pub fn path(folder: &Path) -> PathBuf {
    folder.join(AGENT).join(NAME).with_extension("json")
}

/// Writes the report, if it says something new, and the first one of a contact for later boots, too. Whether it did.
pub fn put(paths: &Paths, report: &Report) -> Result<bool, WriteError> {
    // A struct of numbers and one text has no way to fail.
    let mut text = serde_json::to_string(report).unwrap_or_default();
    text.push('\n');
    let changed = put_own(paths, NAME, &text)?;
    if report.contact > 0 && !path(&paths.kept()).exists() {
        store::put_alone(&paths.kept().join(AGENT), NAME, &text, Lasts::PowerCuts)?;
    }
    Ok(changed)
}

/// What the agent of this node said last, which may have been before the last boot; `None` if no agent was ever here.
pub fn read(paths: &Paths) -> Result<Option<Report>, AgentError> {
    let path = path(&paths.told());
    match files::open_folder(&paths.told().join(AGENT))? {
        None => return Ok(None),
        Some(folder) => drop(folder),
    }
    match files::read_as(&path, Links::Refuse, Owner::Root, store::LIMIT) {
        Ok((_, _, bytes)) => match serde_json::from_slice::<Form>(&bytes) {
            Ok(Form { v: version }) if version > VERSION => Err(AgentError::Newer { path, version }),
            Ok(_) => {
                serde_json::from_slice(&bytes).map(Some).map_err(|source| AgentError::Parse { path, source })
            }
            Err(source) => Err(AgentError::Parse { path, source }),
        },
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// How far the events of the gate were sent; from the beginning where nothing is known.
#[must_use]
pub fn position(paths: &Paths) -> Position {
    read_own(paths, POSITION).unwrap_or_default()
}

/// Remembers it.
pub fn put_position(paths: &Paths, position: Position) -> Result<bool, WriteError> {
    // Two numbers have no way to fail.
    put_own(paths, POSITION, &serde_json::to_string(&position).unwrap_or_default())
}

/// The files of facts whose pods are gone, by their names without `.json`, and since when, in seconds since 1970. What is lost
/// with it is only how long they have been gone.
#[must_use]
pub fn gone(paths: &Paths, source: Source) -> BTreeMap<String, u64> {
    read_own(paths, gone_name(source)).unwrap_or_default()
}

/// Remembers them.
pub fn put_gone(paths: &Paths, source: Source, gone: &BTreeMap<String, u64>) -> Result<bool, WriteError> {
    // Names and numbers have no way to fail.
    put_own(paths, gone_name(source), &serde_json::to_string(gone).unwrap_or_default())
}

const fn gone_name(source: Source) -> &'static str {
    match source {
        Source::Api => "gone-pods",
        Source::Static => "gone-static",
    }
}

/// What the agent keeps for itself; a reboot ends it.
fn read_own<T: for<'de> Deserialize<'de>>(paths: &Paths, name: &str) -> Option<T> {
    let path = paths.told().join(AGENT).join(name).with_extension("json");
    let (_, _, bytes) = files::read_as(&path, Links::Refuse, Owner::Root, store::LIMIT).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn put_own(paths: &Paths, name: &str, text: &str) -> Result<bool, WriteError> {
    store::put_alone(&paths.told().join(AGENT), name, text, Lasts::Processes)
}
