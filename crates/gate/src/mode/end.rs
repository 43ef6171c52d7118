//! Ends a temporary mode whose time is over, and logs each change of the mode and each end once.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use pss_guard_core::level::Mode;
use pss_guard_core::level::date::rfc3339;
use pss_guard_core::paths::Paths;

use super::temporary::{self, End, State, Temporary};
use crate::event::{Change, Event, Kind};
use crate::message::{LIMIT, cut, escape};

/// Who changes it, and why.
#[derive(Clone, Copy, Debug)]
pub struct Author<'a> {
    /// The person.
    pub who: &'a str,
    /// In the person's own words; may be empty.
    pub reason: &'a str,
}

/// Removes the file of a mode that has ended, and logs the end once.
pub(super) fn settle(paths: &Paths, policy: Mode, was: &Temporary, end: End) {
    let path = paths.temporary_mode();
    let gone = (|| {
        let lock = open_lock(paths).ok()?;
        // Its holder removes the file, or has just put another mode in force.
        lock.try_lock().ok()?;
        match temporary::read(&path) {
            State::Ended(now, _) if now == *was => fs::remove_file(&path).ok(),
            _ => None,
        }
    })();
    if gone.is_some() {
        tell_of_end(paths, policy, was, How::Ended(end));
    }
}

/// The way in which a temporary mode came to its end.
#[derive(Clone, Copy, Debug)]
pub enum How<'a> {
    /// By itself.
    Ended(End),
    /// Somebody ended it.
    Closed(Author<'a>),
    /// Somebody put another one in its place.
    Replaced(Author<'a>),
}

/// Logs that a temporary mode has ended; `mode` is the one in force since.
pub fn tell_of_end(paths: &Paths, mode: Mode, was: &Temporary, how: How<'_>) {
    // A mode that ends by itself is still its author's.
    let opened = Author { who: &was.who, reason: &was.reason };
    let (how, author) = match how {
        How::Ended(End::Time) => (format!("ended at {}", rfc3339(was.until())), opened),
        How::Ended(End::Boot) => ("ended with a reboot".to_owned(), opened),
        How::Closed(author) => (format!("was closed by {}", author.who), author),
        How::Replaced(author) => (format!("was replaced by {}", author.who), author),
    };
    let message = format!("mode {mode}: the {} of {} {how}", was.name(), was.who);
    emit(paths, mode, &message, &format!("{} {how}", was.name()), author, "");
}

/// Logs a change of the mode. `until` is empty where it has no end.
pub fn emit(paths: &Paths, mode: Mode, message: &str, because: &str, author: Author<'_>, until: &str) {
    let reason =
        if author.reason.is_empty() { String::new() } else { format!(", because {:?}", author.reason) };
    Event {
        kind: Kind::ModeChange,
        mode: Some(mode),
        message: &cut(&escape(&format!("{message}{reason}")), LIMIT),
        identity: None,
        level: "",
        version: "",
        controls: "",
        findings: "",
        because: &escape(because),
        policy_fault: "",
        is_exec: false,
        change: Some(Change { who: &escape(author.who), reason: &escape(author.reason), until }),
    }
    .emit(paths);
}

/// Opens the lock of [`Paths::mode_lock`], without taking it. For root alone: anyone who can open it can also hold it.
pub fn open_lock(paths: &Paths) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let path: &Path = &paths.mode_lock();
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).custom_flags(flags).open(path)
}
