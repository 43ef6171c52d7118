//! Recognizes the events of the installer's own probes. They say nothing about this node's containers, so `report`,
//! `metrics`, `scan` and the question of `mode enforce` leave them out.
//!
//! A probe is recognized by what only the installer knows, and by nothing that a pod can choose. Before a probe starts, the
//! installer writes a line into a root-owned file ([`Paths::probes`]); when the probe is gone, another one. An event, or a
//! running container, belongs to a probe if all of this is true:
//!
//! - Engine, namespace, pod and **pod UID** are those of the line, letter for letter. The UID is random, and the API
//!   server gives every pod a new one; anyone who can choose one (a static pod, `crictl`) is root on this node. A container of
//!   no pod is recognized by the id that its engine gave it before it started.
//! - Its time is between the two lines. Where the second is missing, because the installer was killed, a probe
//!   ends after [`LONGEST`].
//! - The file is root-owned. Otherwise, and for every damaged line, nothing is left out.
//!
//! So a namespace or a pod called `pss-guard-probe` hides nothing, and neither does the name of a probe once it is known.
//! In doubt an event counts: a probe too many in a report is a nuisance, a violation too few would be a false all-clear.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{Record, micros};
use crate::atomic::{self, WriteError, fault};
use crate::files::{self, Links, Owner};
use crate::paths::Paths;
use crate::pss::facts::Engine;

/// No probe takes longer than this: each of its calls to the engine is given up after two minutes.
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// So late journald may write down what was sent to it in time.
const LATE: Duration = Duration::from_secs(10);

/// By so much a clock that counts in ticks may be wrong of the start of a process.
const TICK: Duration = Duration::from_millis(100);

/// The most that is read, in bytes, and what the installer keeps it below.
const LIMIT: u64 = 1 << 20;
const FULL: u64 = 256 << 10;

/// What tells a probe from everything else; what it has not is empty.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Probe {
    pub(crate) engine: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) namespace: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) pod: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) pod_uid: String,
    /// Of a container of no pod.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) container_id: String,
}

impl Probe {
    /// Whether nothing else can be this: an empty UID or id would be many.
    fn is_one(&self) -> bool {
        let of_pod = [&self.namespace, &self.pod, &self.pod_uid];
        if self.container_id.is_empty() {
            of_pod.iter().all(|part| !part.is_empty())
        } else {
            of_pod.iter().all(|part| part.is_empty())
        }
    }

    /// Whether this, which has an id in any case, is that probe.
    fn is(&self, other: &Self) -> bool {
        let id_counts = !self.container_id.is_empty();
        (&self.engine, &self.namespace, &self.pod, &self.pod_uid)
            == (&other.engine, &other.namespace, &other.pod, &other.pod_uid)
            && (!id_counts || self.container_id == other.container_id)
    }
}

/// One line: a probe begins or has ended, in microseconds.
#[derive(Debug, Deserialize, Serialize)]
struct Line {
    at: u64,
    ended: bool,
    #[serde(flatten)]
    probe: Probe,
}

/// The probes of this node, and when each was there.
#[derive(Debug, Default)]
pub(crate) struct Probes(Vec<(Probe, u64, u64)>);

impl Probes {
    /// Reads what the installer wrote down.
    pub(crate) fn of(paths: &Paths) -> Self {
        let read = files::read_as(&paths.probes(), Links::Refuse, Owner::Root, LIMIT);
        read.map(|(_, _, bytes)| Self::parse(&bytes)).unwrap_or_default()
    }

    fn parse(bytes: &[u8]) -> Self {
        let mut probes: Vec<(Probe, u64, u64)> = Vec::new();
        for line in bytes.split(|byte| *byte == b'\n') {
            let Ok(Line { at, ended, probe }) = serde_json::from_slice(line) else { continue };
            if !ended && probe.is_one() {
                probes.push((probe, at, at.saturating_add(in_micros(LONGEST))));
            } else if let Some((_, begun, end)) = probes.iter_mut().rev().find(|(own, _, _)| *own == probe)
                && at >= *begun
            {
                *end = at.min(*end);
            }
        }
        Self(probes)
    }

    /// Whether an event is of one of them.
    pub(crate) fn made(&self, record: &Record) -> bool {
        let it = Probe {
            engine: record.engine.clone(),
            namespace: record.namespace.clone(),
            pod: record.pod.clone(),
            pod_uid: record.pod_uid.clone(),
            container_id: record.container_id.clone(),
        };
        !self.0.is_empty() && self.was_there(&it, record.at, (Duration::ZERO, LATE))
    }

    /// Whether a container that started then is one of them.
    pub(crate) fn is_one(&self, it: &Probe, started: SystemTime) -> bool {
        self.was_there(it, micros(started), (TICK, Duration::ZERO))
    }

    fn was_there(&self, it: &Probe, at: u64, (early, late): (Duration, Duration)) -> bool {
        let (at, early, late) = (at.saturating_add(in_micros(early)), in_micros(early), in_micros(late));
        let last = |end: u64| end.saturating_add(late).saturating_add(early);
        self.0.iter().any(|(probe, begun, end)| probe.is(it) && *begun <= at && at <= last(*end))
    }
}

fn in_micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Where the installer writes down what it is about to make.
#[derive(Debug)]
pub(crate) struct Ledger {
    path: PathBuf,
    engine: Engine,
}

impl Ledger {
    /// Makes sure that it can be written, and forgets what is old: those probes' events may count from then on.
    pub(crate) fn open(paths: &Paths, engine: Engine) -> Result<Self, WriteError> {
        let path = paths.probes();
        if let Some(folder) = path.parent() {
            // As the gate makes it for events.
            let made = DirBuilder::new().recursive(true).mode(0o750).create(folder);
            made.map_err(fault("create", folder))?;
        }
        let old = files::read_as(&path, Links::Refuse, Owner::Root, LIMIT);
        match old.map(|(_, _, bytes)| bytes) {
            Ok(bytes) if bytes.len() as u64 > FULL => {
                let half = bytes.split_at(bytes.len() / 2).1;
                let lines = half.splitn(2, |byte| *byte == b'\n').nth(1).unwrap_or_default();
                atomic::publish(&path, lines, MODE)?;
            }
            Ok(_) => {}
            // What is there is not ours, or too large to be.
            Err(_) => atomic::publish(&path, b"", MODE)?,
        }
        Ok(Self { path, engine })
    }

    /// A probe that is a pod. It is there until the value is gone.
    pub(crate) fn of_pod(&self, namespace: &str, pod: &str, pod_uid: &str) -> Result<Entry<'_>, WriteError> {
        let [namespace, pod, pod_uid] = [namespace, pod, pod_uid].map(str::to_owned);
        self.begin(Probe { namespace, pod, pod_uid, ..self.nothing() })
    }

    /// A probe that is a container of no pod.
    pub(crate) fn of_no_pod(&self, id: &str) -> Result<Entry<'_>, WriteError> {
        self.begin(Probe { container_id: id.to_owned(), ..self.nothing() })
    }

    fn nothing(&self) -> Probe {
        Probe { engine: self.engine.name().to_owned(), ..Probe::default() }
    }

    fn begin(&self, probe: Probe) -> Result<Entry<'_>, WriteError> {
        self.append(&probe, false).map_err(fault("write", &self.path))?;
        Ok(Entry { ledger: self, probe })
    }

    fn append(&self, probe: &Probe, ended: bool) -> io::Result<()> {
        let line = Line { at: micros(SystemTime::now()), ended, probe: probe.clone() };
        let mut text = serde_json::to_vec(&line)?;
        text.push(b'\n');
        // In one write, so that another installer's line is behind it and not within.
        let mut file = OpenOptions::new().append(true).custom_flags(libc::O_NOFOLLOW).open(&self.path)?;
        file.write_all(&text)
    }
}

/// Whoever is let into the folder may know which events to leave out.
const MODE: u32 = 0o644;

/// A probe that is there.
#[must_use]
pub(crate) struct Entry<'a> {
    ledger: &'a Ledger,
    probe: Probe,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        // Without it the probe ends by itself.
        let _ = self.ledger.append(&self.probe, true);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
    use std::time::{Duration, UNIX_EPOCH};

    use super::{FULL, LATE, LONGEST, Ledger, Probe, Probes, in_micros};
    use crate::events::Record;
    use crate::paths::Paths;
    use crate::pss::facts::Engine;

    type Change = fn(&mut Record);

    const UID: &str = "00000000-0000-4000-8000-0123456789ab";
    const SECOND: u64 = 1_000_000;

    fn line(at: u64, ended: bool, rest: &str) -> String {
        format!("{{\"at\":{at},\"ended\":{ended},\"engine\":\"containerd\",{rest}}}\n")
    }

    fn of_pod() -> String {
        format!("\"namespace\":\"pss-guard-probe\",\"pod\":\"pss-guard-probe-1\",\"pod_uid\":\"{UID}\"")
    }

    fn record(at: u64) -> Record {
        Record {
            at,
            engine: "containerd".to_owned(),
            namespace: "pss-guard-probe".to_owned(),
            pod: "pss-guard-probe-1".to_owned(),
            pod_uid: UID.to_owned(),
            container_id: "c0ffee".to_owned(),
            ..Record::default()
        }
    }

    #[test]
    fn only_what_the_installer_wrote_down_is_a_probe() {
        let at = 100 * SECOND;
        let text = line(at, false, &of_pod()) + &line(at + 3 * SECOND, true, &of_pod());
        let probes = Probes::parse(text.as_bytes());
        assert!(probes.made(&record(at)) && probes.made(&record(at + 3 * SECOND)));
        // Whoever knows the name of a probe, and makes a namespace of that name, hides nothing.
        let others: [(&str, Change); 8] = [
            ("another pod's UID", |it| it.pod_uid = UID.replace("12345", "54321")),
            ("no UID", |it| it.pod_uid.clear()),
            ("another name", |it| it.pod.push('1')),
            ("another namespace", |it| it.namespace = "shop".to_owned()),
            ("another engine", |it| it.engine = "docker".to_owned()),
            ("before it", |it| it.at -= 1),
            ("long after it", |it| it.at += 3 * SECOND + in_micros(LATE) + 1),
            ("nothing but the name", |it| {
                *it = Record {
                    at: it.at,
                    namespace: it.namespace.clone(),
                    pod: it.pod.clone(),
                    ..Record::default()
                };
            }),
        ];
        for (what, change) in others {
            let mut other = record(at);
            change(&mut other);
            assert!(!probes.made(&other), "{what}: {other:?}");
        }
        let probe = |uid: &str| Probe {
            engine: "containerd".to_owned(),
            namespace: "pss-guard-probe".to_owned(),
            pod: "pss-guard-probe-1".to_owned(),
            pod_uid: uid.to_owned(),
            container_id: "c0ffee".to_owned(),
        };
        let second = |number: u64| UNIX_EPOCH + Duration::from_secs(number);
        let rows =
            [(UID, 99, false), (UID, 100, true), (UID, 103, true), (UID, 104, false), ("other", 101, false)];
        for (uid, started, expected) in rows {
            assert_eq!(probes.is_one(&probe(uid), second(started)), expected, "{uid} {started}");
        }
    }

    #[test]
    fn a_line_that_says_too_little_leaves_nothing_out() {
        let at = 100 * SECOND;
        let id = "\"container_id\":\"c0ffee\"";
        let no_pod = |at| Record {
            namespace: String::new(),
            pod: String::new(),
            pod_uid: String::new(),
            ..record(at)
        };
        let killed = Probes::parse(line(at, false, &of_pod()).as_bytes());
        assert!(killed.made(&record(at + in_micros(LONGEST))));
        assert!(!killed.made(&record(at + in_micros(LONGEST) + in_micros(LATE) + 1)));
        let unmanaged = Probes::parse(line(at, false, id).as_bytes());
        assert!(unmanaged.made(&no_pod(at)) && !unmanaged.made(&record(at)));
        assert!(!unmanaged.made(&Record { container_id: "c0ffe".to_owned(), ..no_pod(at) }));
        for bad in [
            line(at, false, "\"namespace\":\"pss-guard-probe\""),
            line(at, false, "\"namespace\":\"pss-guard-probe\",\"pod\":\"pss-guard-probe-1\""),
            line(at, false, &format!("\"pod_uid\":\"{UID}\"")),
            line(at, false, &of_pod()).replace(&format!("\"{UID}\""), "\"\""),
            line(at, true, &of_pod()),
            line(at, false, &of_pod()).replace('}', ""),
            "garbage\n".to_owned(),
            String::new(),
        ] {
            let probes = Probes::parse(bad.as_bytes());
            let nothing = Record { pod_uid: String::new(), ..record(at) };
            assert!(
                !probes.made(&record(at)) && !probes.made(&nothing) && !probes.made(&no_pod(at)),
                "{bad}"
            );
        }
    }

    #[test]
    fn what_is_written_is_read_and_only_from_roots_own_file() {
        let directory = tempfile::tempdir().unwrap();
        let paths = Paths::under(directory.path());
        let path = paths.probes();
        let now = || crate::events::micros(std::time::SystemTime::now());
        {
            let ledger = Ledger::open(&paths, Engine::Containerd).unwrap();
            let _entry = ledger.of_pod("pss-guard-probe", "pss-guard-probe-1", UID).unwrap();
            let _other = ledger.of_no_pod("c0ffee").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 2);
        }
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 4, "each has ended");
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let made = || Probes::of(&paths).made(&record(now()));
        assert!(made());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(!made(), "everybody can write it");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        chown(&path, Some(65534), None).unwrap();
        assert!(!made(), "it is nobody's");
        chown(&path, Some(0), None).unwrap();
        assert!(made());
        let real = directory.path().join("real");
        fs::rename(&path, &real).unwrap();
        symlink(&real, &path).unwrap();
        assert!(!made(), "it is a link");
        // The next installation begins a file of its own.
        drop(Ledger::open(&paths, Engine::Containerd).unwrap());
        assert!(path.symlink_metadata().unwrap().is_file() && fs::read(&path).unwrap().is_empty());

        let many = line(1, false, &of_pod()).repeat(usize::try_from(FULL).unwrap() / 100);
        fs::write(&path, &many).unwrap();
        drop(Ledger::open(&paths, Engine::Containerd).unwrap());
        let left = fs::read_to_string(&path).unwrap();
        assert!(
            left.len() <= many.len() / 2 && many.ends_with(&left) && left.starts_with("{\"at\":1,"),
            "{}",
            left.len()
        );
    }
}
