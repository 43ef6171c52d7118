//! Versions of the files that one of pss-guard's programs writes and another one reads.
//!
//! The gate, the tool and the agent are upgraded one after the other, so each of them meets files of an older and of a newer
//! release. The gate goes first and publishes what it reads in `/run/pss-guard/gate/formats`; a writer uses the highest version
//! that both know ([`agreed`]). Where nothing is published the gate is older than that file, and the lowest version is right.
//!
//! | file | written by | read by | its version |
//! | --- | --- | --- | --- |
//! | `/run/pss-guard/namespaces/<name>.json` | tool, agent | gate, tool | `v`: [`Format::Namespace`] |
//! | `/run/pss-guard/pods/<uid>.json`, `…/static/<namespace>_<name>.json` | tool, agent | gate, tool | `v`: [`Format::Pod`] |
//! | `/run/pss-guard/agent/cluster.json` | tool, agent | gate, tool | `v`: [`Format::Cluster`] |
//! | `/run/pss-guard/agent/agent.json` | agent | tool | `v`; a newer one is an error of the reader ([`crate::agent`]) |
//! | `/run/pss-guard/mode.json` | tool | gate, tool | `v`: [`Format::Mode`] |
//! | `/run/pss-guard/gate/formats` | gate | tool, agent | `v`; an unknown one counts as no file |
//! | the spool's first lines ([`crate::spool`]) | gate | agent | `v`; an unknown one is an error of the reader |
//! | events (journal, `decisions.jsonl`, spool) | gate; tool (changes of the mode) | tool, agent | none: the message id says what an event means. Fields are only added, readers skip the ids and fields that they do not know, and a new meaning is a new id |
//! | `/run/pss-guard/policy.cache` | gate, tool | gate, tool | in its first line, with the program's: any other is compiled again |
//! | `/var/lib/pss-guard/policy.toml` | gate, tool | gate, tool | none: the text of an admin, in which an unknown key is a fault |
//! | `/var/lib/pss-guard/kubelet-root` | tool | gate, tool | none: one absolute path; anything else counts as no file |
//! | `/var/lib/pss-guard/install`, `…/metrics`, `probes.jsonl` | tool | tool | not exchanged between programs |
//!
//! A file without `v` has version 0. A reader does not guess at a newer version: the file is a fault like a damaged one, and
//! the message names both versions.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use serde::Deserialize;

use crate::atomic::{self, Lasts};
use crate::files::{self, Links, Owner};

/// A format that has versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The labels of a namespace. Version 1 has the key `v`, version 0 does not.
    Namespace,
    /// Facts of a pod. They never were without a version.
    Pod,
    /// A temporary mode. Version 1 has the key `v`, version 0 does not.
    Mode,
    /// The cluster's version. It never was without a version of its own.
    Cluster,
}

/// A file is of a version that this program does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "format version {version} is newer than {}, the newest that this program reads (upgrade the gate first)",
    .format.versions().end()
)]
pub struct Newer {
    format: Format,
    version: u32,
}

/// The gate reads no version that this program writes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this node's gate reads versions {} to {} of the format {:?}, and this program writes {} to {}; upgrade the older of \
     the two", .reads.start(), .reads.end(), .format.name(), .format.versions().start(), .format.versions().end()
)]
pub struct NothingInCommon {
    format: Format,
    reads: RangeInclusive<u32>,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Namespace, Self::Pod, Self::Mode, Self::Cluster];

    /// Its name in the published file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Namespace => "namespace",
            Self::Pod => "pod",
            Self::Mode => "mode",
            Self::Cluster => "cluster",
        }
    }

    /// The versions that this program reads and writes. A release keeps those of the release before it.
    #[must_use]
    pub const fn versions(self) -> RangeInclusive<u32> {
        match self {
            Self::Namespace | Self::Mode => 0..=1,
            Self::Pod | Self::Cluster => 1..=1,
        }
    }

    /// Whether this program reads a version.
    pub fn check(self, version: u32) -> Result<u32, Newer> {
        if self.versions().contains(&version) { Ok(version) } else { Err(Newer { format: self, version }) }
    }
}

/// Counted up if the published file itself changes its meaning.
const VERSION: u32 = 1;

/// A few names and numbers.
const LIMIT: u64 = 16 << 10;

/// Publishes what this program reads, for all who write for it: only the gate calls this.
pub fn publish(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    }
    let range = |format: Format| {
        let versions = format.versions();
        format!("\"{}\":[{},{}]", format.name(), versions.start(), versions.end())
    };
    let text = format!("{{\"v\":{VERSION},\"reads\":{{{}}}}}\n", Format::ALL.map(range).join(","));
    atomic::put(path, text.as_bytes(), 0o644, Lasts::Processes)
}

/// What a gate has published.
#[derive(Deserialize)]
struct Published {
    v: u32,
    reads: BTreeMap<String, (u32, u32)>,
}

fn published(path: &Path, format: Format) -> Option<RangeInclusive<u32>> {
    files::check_folder_of(path).ok()?;
    let (_, _, bytes) = files::read_as(path, Links::Refuse, Owner::Root, LIMIT).ok()?;
    let published: Published = serde_json::from_slice(&bytes).ok()?;
    let (oldest, newest) = published.reads.get(format.name()).filter(|_| published.v == VERSION)?;
    Some(*oldest..=*newest)
}

/// The version in which a file is to be written for this node's gate: the highest that both know. The lowest where the gate
/// has not published any, or the file cannot be trusted.
pub fn agreed(path: &Path, format: Format) -> Result<u32, NothingInCommon> {
    let own = format.versions();
    let Some(reads) = published(path, format) else { return Ok(*own.start()) };
    let highest = *own.end().min(reads.end());
    if own.contains(&highest) && reads.contains(&highest) {
        Ok(highest)
    } else {
        Err(NothingInCommon { format, reads })
    }
}
