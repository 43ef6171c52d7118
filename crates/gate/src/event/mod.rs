//! Writes one event per decision: to journald, to a file of JSON lines if journald cannot take it, and to the kernel's log
//! if that fails, too. No event is lost silently. Where the agent has made its folder, a copy goes to the spool there.

pub mod journald;

use std::borrow::Cow;
use std::fs::{DirBuilder, File, Metadata, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt as _, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::inspect::identity::{Identity, short_id};
use crate::message::{cut, escape, head};
use pss::facts::{Engine, Subject};
use pss_guard_core::level::Mode;
use pss_guard_core::paths::Paths;
use pss_guard_core::record::Field;
use pss_guard_core::spool;

pub use pss_guard_core::record::{FIELD, Kind};

/// Who changed the node's mode, why, and until when.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// The person, as far as the system knows.
    pub who: &'a str,
    /// The person's own words, `""` if there are none.
    pub reason: &'a str,
    /// When it ends by itself, `""` if it does not.
    pub until: &'a str,
}

/// One decision.
#[derive(Debug)]
pub struct Event<'a> {
    /// Its kind.
    pub kind: Kind,
    /// The node's mode, if the policy could tell.
    pub mode: Option<Mode>,
    /// One line for people, as the runtime shows it where it refuses; the journal's begins with whose container it is, and
    /// the decision.
    pub message: &'a str,
    /// Whose container it is, as far as that is known.
    pub identity: Option<&'a Identity<'a>>,
    /// The level that was asked, `""` if none.
    pub level: &'a str,
    /// Its version.
    pub version: &'a str,
    /// The controls against it, separated by commas.
    pub controls: &'a str,
    /// Violations and suspicions as a JSON array.
    pub findings: &'a str,
    /// What set the level, or the mode.
    pub because: &'a str,
    /// Why `policy.toml` cannot be used and the last good text of it is in force, `""` if it can be.
    pub policy_fault: &'a str,
    /// Whether a command is to join a running container, and none is started.
    pub is_exec: bool,
    /// For a change of the mode: whose it is.
    pub change: Option<Change<'a>>,
}

/// The size from which the fallback file is set aside for a new one, in bytes. Two of them are kept.
pub const ROTATE_AT: u64 = 64 << 20;

impl Event<'_> {
    /// Whose container it is, in words for the catalog; of what is about the node nothing.
    fn subject(&self) -> String {
        match (self.kind, self.identity) {
            (kind, _) if kind.is_of_the_node() => String::new(),
            (_, Some(who)) => subject(who),
            (_, None) => NOBODYS.to_owned(),
        }
    }

    /// The line for people.
    fn line<'s>(&'s self, subject: &str) -> Cow<'s, str> {
        let (word, said) = (self.kind.word(), self.message);
        match subject {
            "" => Cow::Borrowed(said),
            NOBODYS => Cow::Owned(cut(&format!("{word}: {said}"), FIELD)),
            _ => Cow::Owned(cut(&format!("{subject}: {word}: {said}"), FIELD)),
        }
    }

    /// The fields in journald's words. Empty ones are left out.
    fn fields<'s>(&'s self, line: &'s str, subject: &'s str) -> Vec<(&'static str, &'s str)> {
        let who = self.identity;
        let all = [
            (Field::Message, line),
            (Field::MessageId, self.kind.message_id()),
            (Field::Priority, self.kind.priority()),
            (Field::Identifier, "pss-guard"),
            (Field::Decision, self.kind.name()),
            (Field::Mode, self.mode.map_or("", Mode::name)),
            (Field::Level, self.level),
            (Field::Version, self.version),
            (Field::Controls, self.controls),
            (Field::Findings, self.findings),
            (Field::Provenance, self.because),
            (Field::PolicyFault, self.policy_fault),
            (Field::Exec, if self.is_exec { "1" } else { "" }),
            (Field::Who, self.change.map_or("", |change| change.who)),
            (Field::Reason, self.change.map_or("", |change| change.reason)),
            (Field::Until, self.change.map_or("", |change| change.until)),
            (Field::Subject, subject),
            (Field::Engine, who.map_or("", |who| who.engine.name())),
            (Field::Namespace, who.and_then(|who| who.namespace).unwrap_or_default()),
            (Field::Pod, who.and_then(|who| who.pod).unwrap_or_default()),
            (Field::PodUid, who.and_then(|who| who.pod_uid).unwrap_or_default()),
            (Field::Container, who.and_then(|who| who.container).unwrap_or_default()),
            (Field::ContainerId, who.and_then(|who| who.id).unwrap_or_default()),
            (Field::Image, who.and_then(|who| who.image).unwrap_or_default()),
        ];
        let all = all.into_iter().filter(|(_, value)| !value.is_empty());
        // The findings are JSON, and have an end of their own (`pss::controls`).
        let shown = |field, value| if field == Field::Findings { value } else { head(value, FIELD) };
        all.map(|(field, value)| (field.name(), shown(field, value))).collect()
    }

    /// Writes the event where it can be written.
    pub fn emit(&self, paths: &Paths) {
        pss_guard_core::signals::ignore();
        let subject = self.subject();
        let line = self.line(&subject);
        let fields = self.fields(&line, &subject);
        let journal = journald::send(&paths.journal_socket(), &fields);
        // The agent's copy. Where it cannot be made, the spool counts that, and nothing else changes.
        let _ = spool::append(&paths.spool(), || json(&fields));
        let Err(journal) = journal else { return };
        let Err(file) = append(&paths.decisions(), &fields) else { return };
        let lost = format!(
            "pss-guard: event neither in the journal ({journal}) nor in {} ({file}): {line}",
            paths.decisions().display(),
        );
        // Priority in the kernel's notation. Only root may write there; for everybody else there is stderr.
        let to_kernel = File::options().write(true).open("/dev/kmsg").and_then(|mut kernel| {
            kernel.write_all(format!("<{}>{lost}\n", self.kind.priority()).as_bytes())
        });
        if to_kernel.is_err() {
            crate::message::stderr_line(&lost);
        }
    }
}

/// What a container is called of which nothing is known.
const NOBODYS: &str = "a container";

/// What people call a container: `shop/api-0/app`, `shop/api-0 (sandbox)`, `docker container 0123456789ab`.
#[must_use]
pub fn subject(who: &Identity<'_>) -> String {
    let Some(namespace) = who.namespace else {
        let Some(id) = who.id else { return NOBODYS.to_owned() };
        let engine = if who.engine == Engine::None { "" } else { who.engine.name() };
        return format!("{engine} container {}", name(short_id(id))).trim_start().to_owned();
    };
    let pod = format!("{}/{}", name(namespace), who.pod.map_or(Cow::Borrowed("?"), name));
    match who.subject {
        Subject::Sandbox => format!("{pod} (sandbox)"),
        Subject::Container => {
            format!("{pod}/{}", who.container.or(who.id.map(short_id)).map_or(Cow::Borrowed("?"), name))
        }
    }
}

/// A name from outside: as it is where an object of Kubernetes could have it, else in quotes, so that it does not pass for
/// the rest of the line.
fn name(text: &str) -> Cow<'_, str> {
    const LONGEST: usize = 253;
    const SHOWN: usize = 60;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !text.is_empty() && text.len() <= LONGEST && text.bytes().all(plain) {
        return Cow::Borrowed(text);
    }
    let goes_on = if text.len() > SHOWN { "\u{2026}" } else { "" };
    Cow::Owned(format!("{}{goes_on}", escape(&format!("{:?}", head(text, SHOWN)))))
}

/// What the fallback file is called once a new one was begun.
#[must_use]
pub fn set_aside(path: &Path) -> PathBuf {
    path.with_extension("jsonl.1")
}

/// The event as one line of JSON.
fn json(fields: &[(&'static str, &str)]) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut object = serde_json::Map::new();
    // Microseconds, as `journalctl --output=json` has it: one reader for all.
    object.insert("__REALTIME_TIMESTAMP".to_owned(), now.as_micros().to_string().into());
    for (name, value) in fields {
        object.insert((*name).to_owned(), (*value).into());
    }
    serde_json::Value::Object(object).to_string()
}

/// Appends the event as one JSON line, in one write.
fn append(path: &Path, fields: &[(&'static str, &str)]) -> std::io::Result<()> {
    if let Some(directory) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o750).create(directory)?;
    }
    let open = || {
        File::options()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o640)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)
    };
    let mut file = open()?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(std::io::Error::other("not a regular file"));
    }
    if meta.len() > ROTATE_AT {
        // One of all who see it does: the next would set the new file aside, and with that lose the old one. Who comes too
        // late for the lock may write into either.
        let is_mine = !matches!(file.try_lock(), Err(TryLockError::WouldBlock));
        let id = |meta: &Metadata| (meta.dev(), meta.ino());
        if is_mine && std::fs::metadata(path).is_ok_and(|now| id(&now) == id(&meta)) {
            std::fs::rename(path, set_aside(path))?;
        }
        file = open()?;
    }
    let mut line = json(fields);
    // A full disk may have left half a line, which must not swallow this one.
    let mut last = [b'\n'];
    let end = file.metadata()?.len();
    if end > 0 && file.read_at(&mut last, end - 1)? == 1 && last != [b'\n'] {
        line.insert(0, '\n');
    }
    line.push('\n');
    // A line that was written in part (disk full) is not the event.
    match file.write(line.as_bytes())? {
        written if written == line.len() => Ok(()),
        written => Err(std::io::Error::other(format!("only {written} of {} bytes were written", line.len()))),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::{Read as _, Seek as _};

    use super::{Event, Kind, ROTATE_AT, append};
    use crate::inspect::identity::Identity;
    use pss::facts::{Engine, Subject};
    use pss_guard_core::paths::Paths;

    #[test]
    fn every_kind_has_an_id_of_its_own_and_an_entry_in_the_catalog() {
        let catalog = include_str!("../../../../systemd/pss-guard.catalog");
        let ids: BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.message_id()).collect();
        assert_eq!(ids.len(), Kind::ALL.len());
        for kind in Kind::ALL {
            let id = kind.message_id();
            assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
            assert!(catalog.contains(&format!("-- {id}\n")), "{} is not in the catalog", kind.name());
        }
    }

    #[test]
    fn without_journald_the_event_is_a_line_of_json() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::under(root.path());
        let event = Event {
            level: "restricted",
            version: "latest",
            controls: "privileged",
            findings: "[]",
            is_exec: true,
            ..event(Kind::Denied, "a \"quoted\"\nline")
        };
        event.emit(&paths);
        event.emit(&paths);
        let text = std::fs::read_to_string(paths.decisions()).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["MESSAGE"], "denied: a \"quoted\"\nline");
        assert_eq!(lines[0]["PSS_DECISION"], "denied");
        assert_eq!(lines[0]["PSS_EXEC"], "1");
        assert!(lines[0].get("PSS_BECAUSE").is_none(), "empty fields are left out");
    }

    #[test]
    fn a_line_begins_with_whose_container_it_is_and_the_decision() {
        let of_pod = |namespace, pod, container| Identity {
            engine: Engine::Containerd,
            namespace: Some(namespace),
            pod,
            container,
            ..Identity::of_nobody(Some("c0ffee"))
        };
        let id = "0123456789abcdef".repeat(4);
        let unmanaged = |engine, id| Identity { engine, ..Identity::of_nobody(id) };
        let app = of_pod("shop", Some("api-0"), Some("app"));
        let forged = "x: allowed: complies\n\u{1b}[2J\u{202e}/y";
        let long = "n".repeat(10_000);
        let odd = "\"".repeat(10_000);
        #[rustfmt::skip]
        let rows = [
            (Kind::Denied, Some(app), "shop/api-0/app: denied: "),
            (Kind::WouldDeny, Some(app), "shop/api-0/app: would be denied: "),
            (Kind::Audit, Some(app), "shop/api-0/app: audit: "),
            (Kind::Warn, Some(app), "shop/api-0/app: warn: "),
            (Kind::Exempt, Some(app), "shop/api-0/app: exempt: "),
            (Kind::Exception, Some(app), "shop/api-0/app: exception: "),
            (Kind::Fault, Some(app), "shop/api-0/app: cannot judge: "),
            (Kind::Allowed, Some(app), "shop/api-0/app: allowed: "),
            (Kind::ModeChange, None, ""),
            (Kind::Restored, None, ""),
            (Kind::Fault, None, "cannot judge: "),
            (Kind::Fault, Some(unmanaged(Engine::CriO, None)), "cannot judge: "),
            (Kind::Denied, Some(Identity { subject: Subject::Sandbox, ..app }), "shop/api-0 (sandbox): denied: "),
            (Kind::Denied, Some(of_pod("shop", Some("api-0"), None)), "shop/api-0/c0ffee: denied: "),
            (Kind::Denied, Some(of_pod("shop", None, None)), "shop/?/c0ffee: denied: "),
            (Kind::Denied, Some(unmanaged(Engine::Docker, Some(&id))), "docker container 0123456789ab: denied: "),
            (Kind::Denied, Some(unmanaged(Engine::None, Some("by-hand"))), "container by-hand: denied: "),
            // Nothing that somebody calls his pod passes for the rest of the line.
            (Kind::Denied, Some(of_pod("shop", Some(forged), Some("app"))),
             "shop/\"x: allowed: complies\\n\\u{1b}[2J\\u{202e}/y\"/app: denied: "),
            (Kind::Denied, Some(of_pod("", Some("a/b"), Some("c d"))), "\"\"/\"a/b\"/\"c d\": denied: "),
        ];
        let said = "violates PodSecurity";
        for (kind, identity, begins) in rows {
            let event = Event { identity: identity.as_ref(), ..event(kind, said) };
            let line = event.line(&event.subject()).into_owned();
            assert_eq!(line, format!("{begins}{said}"), "{kind:?}");
        }
        let whose = of_pod(&long, Some(&odd), Some(&long));
        let event = Event { identity: Some(&whose), ..event(Kind::Denied, said) };
        let line = event.line(&event.subject()).into_owned();
        assert!(line.len() < 1_000 && line.ends_with(": denied: violates PodSecurity"), "{line}");
        // A field of its own for the catalog, which leaves the name of a field without a value as it stands.
        for identity in [None, Some(&app), Some(&unmanaged(Engine::Podman, Some(&id)))] {
            let event = Event { identity, ..self::event(Kind::Fault, said) };
            assert!(!event.subject().is_empty(), "{identity:?}");
        }
    }

    fn event(kind: Kind, message: &str) -> Event<'_> {
        Event {
            kind,
            mode: None,
            message,
            identity: None,
            level: "",
            version: "",
            controls: "",
            findings: "",
            because: "",
            policy_fault: "",
            is_exec: false,
            change: None,
        }
    }

    #[test]
    fn a_file_that_has_grown_large_is_set_aside_and_one_more_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let (path, old) =
            (directory.path().join("decisions.jsonl"), directory.path().join("decisions.jsonl.1"));
        let size = |path| std::fs::metadata(path).map(|meta| meta.len()).unwrap_or_default();
        for _ in 0..2 {
            // Sparse: it takes no room on the disk.
            std::fs::File::create(&path).unwrap().set_len(ROTATE_AT + 1).unwrap();
            append(&path, &[("MESSAGE", "x")]).unwrap();
            assert!(std::fs::read_to_string(&path).unwrap().starts_with('{'), "a new file");
            append(&path, &[("MESSAGE", "y")]).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2);
            assert_eq!(size(&old), ROTATE_AT + 1);
        }
    }

    #[test]
    fn of_all_who_find_it_too_large_one_sets_it_aside() {
        let directory = tempfile::tempdir().unwrap();
        let (path, old) =
            (directory.path().join("decisions.jsonl"), directory.path().join("decisions.jsonl.1"));
        // Behind so many bytes.
        let lines = |path: &std::path::Path, behind: u64| {
            let mut text = String::new();
            let mut file = std::fs::File::open(path).unwrap();
            file.seek(std::io::SeekFrom::Start(behind)).unwrap();
            file.read_to_string(&mut text).unwrap();
            text.lines().filter(|line| line.starts_with('{')).count()
        };
        for _ in 0..20 {
            std::fs::File::create(&path).unwrap().set_len(ROTATE_AT + 1).unwrap();
            let start = std::sync::Barrier::new(8);
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        start.wait();
                        append(&path, &[("MESSAGE", "x")]).unwrap();
                    });
                }
            });
            let size = std::fs::metadata(&old).unwrap().len();
            assert!(size > ROTATE_AT, "the file that was set aside was lost to one of {size} bytes");
            assert_eq!(lines(&path, 0) + lines(&old, ROTATE_AT + 1), 8);
        }
    }

    #[test]
    fn an_event_that_does_not_fit_the_disk_is_an_error() {
        // /dev/full answers every write as a full disk does; it is no regular file, so it is refused even before.
        assert!(append(std::path::Path::new("/dev/full"), &[("MESSAGE", "x")]).is_err());
        assert!(append(std::path::Path::new("/proc/nothing/x"), &[("MESSAGE", "x")]).is_err());
    }
}
