//! Detects drift: compares `/proc/PID/status` and `/proc/PID/ns` with what config.json asks for.
//!
//! A process that has less is not reported: most programs drop what they do not need. One that has more is: the runtime
//! granted something that was not asked for, config.json was changed after the start, or the process entered another
//! namespace.
//!
//! A process that created a user namespace has every capability in it (`user_namespaces(7)`) and none more over the host,
//! so capabilities are compared only if the process is still in the user namespace that it was given.

use std::borrow::Cow;
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::files;
use crate::inspect;
use crate::inspect::host::Host;
use crate::inspect::spec::{CapabilitySets, Linux, Spec};
use crate::node::containers::First;
use crate::pss::capabilities::{CapabilitySet, NAMES};
use crate::pss::controls::ADDABLE;

/// Something that runs and was not asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Drift {
    /// The control that it is about.
    pub control: &'static str,
    /// What config.json asks for.
    pub asked: String,
    /// What the process runs with.
    pub runs: String,
}

/// The namespace's name in config.json and that in `/proc/PID/ns`.
const NAMESPACES: [(&str, &str); 3] = [("network", "net"), ("pid", "pid"), ("ipc", "ipc")];

/// How long a scan waits for containers that change while it looks. Between its last word to the engine and its first instruction a
/// container is still the runtime's: one that is young is looked at again before anything is said of it. One that ends loses its
/// folder a moment before its process.
#[derive(Debug)]
pub struct Patience(Cell<u32>);

const YOUNG: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(5);

impl Default for Patience {
    /// A quarter of a second, for all containers together.
    fn default() -> Self {
        Self(Cell::new(50))
    }
}

impl Patience {
    /// Waits a little; `false` once the time for all is up.
    pub(super) fn wait(&self) -> bool {
        let left = self.0.get();
        if left > 0 {
            self.0.set(left - 1);
            std::thread::sleep(STEP);
        }
        left > 0
    }
}

/// What a look at a process brought.
#[derive(Debug, Default)]
pub struct Seen {
    /// What it has and was not asked for.
    pub drift: Vec<Drift>,
    /// Something of it is hidden from who looks.
    pub in_part: bool,
}

/// Looks at a process. `None` where the spec is none to compare it with.
#[must_use]
pub fn look(
    spec: &Spec<'_>,
    host: &Host,
    process: &Path,
    first: &First,
    patience: &Patience,
) -> Option<Seen> {
    let mut process = Cow::Borrowed(process);
    let mut seen = compare(spec, host, &process)?;
    if seen.in_part
        && let Some(other) = other_thread(&process)
    {
        process = Cow::Owned(other);
        seen = compare(spec, host, &process)?;
    }
    let is_young = || SystemTime::now().duration_since(first.started).unwrap_or_default() < YOUNG;
    for _ in 0..4 {
        if seen.drift.is_empty() || !is_young() || !patience.wait() {
            break;
        }
        seen = compare(spec, host, &process)?;
    }
    Some(seen)
}

/// A thread that shows its namespaces. The first has none any more where it ended before the others: what a program
/// runs with is then what these have.
fn other_thread(process: &Path) -> Option<PathBuf> {
    let threads = std::fs::read_dir(process.join("task")).ok()?.flatten().map(|thread| thread.path());
    let shows = |thread: &PathBuf| NAMESPACES.iter().all(|(_, file)| thread.join("ns").join(file).exists());
    let first = process.file_name()?;
    threads.filter(|thread| thread.file_name() != Some(first)).take(THREADS).find(shows)
}

/// So many are asked: somebody who may see none would ask all.
const THREADS: usize = 16;

fn compare(spec: &Spec<'_>, host: &Host, process: &Path) -> Option<Seen> {
    let (linux, asked) = (spec.linux.as_ref()?, spec.process.as_ref()?);
    let Some(runs) = Status::read(process) else { return Some(Seen { in_part: true, ..Seen::default() }) };
    let mut in_part = false;
    let mut found = Vec::new();
    let mut add = |control, asked: String, runs: String| found.push(Drift { control, asked, runs });

    let sets = asked.capabilities.as_ref();
    let all = sets.map(CapabilitySets::union).unwrap_or_default();
    let bounding = sets.map(CapabilitySets::bounding_set).unwrap_or_default();
    // The bounding set stays as it was made. What is in the others moves between them at every execve.
    let more = runs.bounding & !bounding.bits | runs.capabilities & !all.bits;
    // What this program has no name for cannot be compared by name.
    let more = CapabilitySet { bits: more & ((1 << NAMES.len()) - 1), ..Default::default() };
    // Asked last: most processes have no more.
    if !more.is_empty() && in_its_user_namespace(linux, host, process) == Some(true) {
        let beyond = more.without(&CapabilitySet::of(&ADDABLE));
        let control = if beyond.is_empty() { "capabilities_restricted" } else { "capabilities_baseline" };
        let names = more.names().join(", ");
        add(control, format!("no {names}"), format!("{names} in a capability set"));
    }
    if asked.no_new_privileges == Some(true) && runs.no_new_privileges == Some(false) {
        add("allowPrivilegeEscalation", "noNewPrivileges".to_owned(), "no_new_privs off".to_owned());
    }
    let filtered = linux.seccomp.as_ref().is_some_and(|seccomp| !seccomp.allows_all());
    if filtered && runs.seccomp == Some(0) {
        add("seccompProfile_baseline", "a seccomp profile".to_owned(), "no seccomp filter".to_owned());
    }
    for (kind, file) in NAMESPACES {
        let own = host.own_namespace(file);
        let runs = host.namespace_of(process, file);
        in_part |= own.is_none() || runs.is_none();
        if own.is_some() && own == runs && asks_for_its_own(linux, host, kind, file) {
            let (asked, runs) = (format!("its own {kind} namespace"), format!("the host's {kind} namespace"));
            add("hostNamespaces", asked, runs);
        }
    }
    let uid = inspect::uid(asked);
    let maps_root = inspect::maps_root(linux);
    let asks_for_users = inspect::entries(linux, "user").next().is_some();
    // A program that may gain privileges is root's where its file says so (setuid), and was allowed to.
    let stays_a_user = uid != 0 && asked.no_new_privileges == Some(true);
    if runs.is_root && !maps_root && (stays_a_user || asks_for_users) {
        let asked = if asks_for_users { "its own users".to_owned() } else { format!("uid {uid}") };
        add("runAsUser", asked, "uid 0 of the host".to_owned());
    }
    Some(Seen { drift: found, in_part })
}

/// Whether a process is in the user namespace that config.json names; `None` where that cannot be found out.
fn in_its_user_namespace(linux: &Linux<'_>, host: &Host, process: &Path) -> Option<bool> {
    let runs = host.namespace_of(process, "user")?;
    let asked = match inspect::entries(linux, "user").next() {
        None => host.own_namespace("user")?,
        Some(path) => host.namespace(path.filter(|path| !path.is_empty())?)?,
    };
    Some(runs == asked)
}

/// Whether config.json names a namespace, and not the host's.
fn asks_for_its_own(linux: &Linux<'_>, host: &Host, kind: &str, file: &str) -> bool {
    let own = host.own_namespace(file);
    let mut entries = inspect::entries(linux, kind).peekable();
    entries.peek().is_some()
        && entries.all(|path| match path.filter(|path| !path.is_empty()) {
            None => true,
            Some(path) => host.namespace(path).is_some_and(|named| Some(named) != own),
        })
}

/// The lines of `/proc/PID/status` that matter (`proc_pid_status(5)`).
#[derive(Debug, Default, PartialEq, Eq)]
struct Status {
    /// Any of the four user ids is the host's root.
    is_root: bool,
    /// What it can ever get.
    bounding: u64,
    /// All other sets in one.
    capabilities: u64,
    no_new_privileges: Option<bool>,
    seccomp: Option<u8>,
}

impl Status {
    fn read(process: &Path) -> Option<Self> {
        let text = files::read_proc(&process.join("status")).ok()?;
        Some(Self::of(&text))
    }

    fn of(text: &[u8]) -> Self {
        let mut status = Self::default();
        // The name comes first and may hold anything but the end of a line, which the kernel escapes. Of the sixty lines
        // after it a dozen begin like one of ours.
        let lines = text.split(|byte| *byte == b'\n').skip(1);
        let lines = lines.filter(|line| matches!(line.first(), Some(b'U' | b'C' | b'N' | b'S')));
        let pairs = lines.filter_map(|line| std::str::from_utf8(line).ok()?.split_once(':'));
        for (key, value) in pairs {
            let value = value.trim();
            match key {
                "Uid" => status.is_root = value.split_ascii_whitespace().any(|uid| uid == "0"),
                "CapBnd" => status.bounding = u64::from_str_radix(value, 16).unwrap_or(0),
                "CapInh" | "CapPrm" | "CapEff" | "CapAmb" => {
                    status.capabilities |= u64::from_str_radix(value, 16).unwrap_or(0);
                }
                "NoNewPrivs" => status.no_new_privileges = Some(value != "0"),
                "Seccomp" => status.seccomp = value.parse().ok(),
                _ => {}
            }
        }
        status
    }
}
