//! Changes the mode: in the policy, until it is changed again; or for a time, beside the policy.
//!
//! Each change is one event, and so is each end of a temporary mode, whoever or whatever ends it.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::edit::{self, EditError};
use super::end::{Author, How, emit, open_lock, tell_of_end};
use super::temporary::{Ignored, LONGEST, State, Temporary};
use super::{InForce, in_force};
use crate::atomic::{self, WriteError};
use crate::files::FileError;
use crate::formats::{self, Format, NothingInCommon};
use crate::level::Mode;
use crate::level::cache::{self, LoadError};
use crate::level::date::rfc3339;
use crate::message::line;
use crate::paths::Paths;
use crate::time;

/// Why a text is no time that a mode can hold for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LengthError {
    /// It is no length of time.
    #[error("must be a time like 90s, 30m, 1h, 2h30m or 1d")]
    Form,
    /// It is too long.
    #[error("must be at most 24h; without --for the mode is changed permanently")]
    Long,
}

/// Reads for how long a mode shall hold.
pub fn parse_length(text: &str) -> Result<Duration, LengthError> {
    let length = time::parse_length(text).ok_or(LengthError::Form)?;
    if length > LONGEST { Err(LengthError::Long) } else { Ok(length) }
}

/// Why the mode was not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// Only root's files are believed.
    #[error("change the mode as root: the gate trusts only root's files, and this is uid {0}")]
    NotRoot(u32),
    /// The policy cannot be read, or is wrong.
    #[error("{}; it was left alone: fix it, or use --for, which works without it", line(.0))]
    Policy(LoadError),
    /// Its text cannot be changed.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// A file cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A file cannot be removed.
    #[error(transparent)]
    Remove(#[from] FileError),
    /// Another change holds the lock, or there can be none.
    #[error("lock {}", .path.display())]
    Lock {
        /// The lock.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The gate would not understand the file.
    #[error(transparent)]
    Format(#[from] NothingInCommon),
    /// A time cannot be told.
    #[error(transparent)]
    Clock(#[from] Ignored),
    /// What was written is not what the gate sees.
    #[error("{} was written, but the mode in force is still {mode}", .path.display())]
    NotSeen {
        /// The file.
        path: PathBuf,
        /// What the gate sees.
        mode: Mode,
    },
}

/// What was done to the policy.
#[derive(Debug, PartialEq, Eq)]
pub enum Written {
    /// It said so already.
    Nothing,
    /// It said another mode, or none.
    Changed,
    /// There was none.
    Created,
}

/// What a change of the policy came to.
#[derive(Debug)]
pub struct Permanent {
    /// What was done.
    pub written: Written,
    /// The file itself, where the policy is a link.
    pub file: PathBuf,
    /// The temporary mode that was closed by it.
    pub closed: Option<Temporary>,
}

/// Whether this process can change anything.
pub fn as_root() -> Result<(), ChangeError> {
    let uid = nix::unistd::geteuid();
    if uid.is_root() { Ok(()) } else { Err(ChangeError::NotRoot(uid.as_raw())) }
}

/// Whether the mode could be written into the policy.
pub fn can_be_permanent(paths: &Paths, mode: Mode) -> Result<(), ChangeError> {
    as_root()?;
    plan(paths, mode).map(|_| ())
}

/// What is to be written.
struct Plan {
    written: Written,
    text: String,
    /// What the policy says until then.
    policy: Mode,
}

fn plan(paths: &Paths, mode: Mode) -> Result<Plan, ChangeError> {
    let found = cache::text_fresh(paths).map_err(ChangeError::Policy)?;
    let text = found.as_deref().unwrap_or_default();
    let edited = edit::with_mode(text, mode, &paths.policy().to_string_lossy());
    let (text, said) = edited.map_err(|error| match error {
        EditError::Policy(error) => ChangeError::Policy(error.into()),
        error @ EditError::Place { .. } => error.into(),
    })?;
    let written = match found {
        None => Written::Created,
        Some(old) if old == text => Written::Nothing,
        Some(_) => Written::Changed,
    };
    Ok(Plan { written, text, policy: said.mode })
}

/// Writes the mode into the policy, and closes a temporary one.
pub fn permanently(paths: &Paths, mode: Mode, author: Author<'_>) -> Result<Permanent, ChangeError> {
    as_root()?;
    let _lock = lock(paths)?;
    let Plan { written, text, policy } = plan(paths, mode)?;
    let before = in_force(paths, policy);
    let path = paths.policy();
    // A link stays one: what it leads to is the policy.
    let file = fs::canonicalize(&path).unwrap_or(path);
    if written != Written::Nothing {
        if let Some(folder) = file.parent() {
            atomic::make_folder(folder)?;
        }
        atomic::replace(&file, text.as_bytes(), 0o644)?;
    }
    let closed = close(paths, &before, mode, author)?;
    let now = in_force(paths, cache::load(paths).mode());
    if now.mode != mode {
        return Err(ChangeError::NotSeen { path: file, mode: now.mode });
    }
    if written != Written::Nothing {
        let message = format!("mode {mode}, written into {} by {}", file.display(), author.who);
        let because = format!("mode in {}", file.display());
        emit(paths, mode, &message, &because, author, "");
    }
    Ok(Permanent { written, file, closed })
}

/// Puts another mode in force for a time, whatever the policy says and even if it cannot be read.
pub fn for_a_time(
    paths: &Paths,
    mode: Mode,
    length: Duration,
    author: Author<'_>,
) -> Result<(Temporary, Option<Temporary>), ChangeError> {
    as_root()?;
    let lock = lock(paths)?;
    let policy = cache::load(paths).mode();
    let before = in_force(paths, policy);
    let version = formats::agreed(&paths.formats(), Format::Mode)?;
    let temporary = Temporary::from_now(mode, length, author.who, author.reason)?.in_version(version);
    let path = paths.temporary_mode();
    if let State::Ignored(_) = before.temporary {
        // Its owner and its permissions would be kept.
        atomic::remove_if_there(&path)?;
    }
    // Strings and numbers: there is no way to fail.
    let text = serde_json::to_string(&temporary).unwrap_or_default() + "\n";
    atomic::replace(&path, text.as_bytes(), 0o644)?;
    let now = in_force(paths, policy);
    if !matches!(&now.temporary, State::Holds(seen) if *seen == temporary) {
        return Err(ChangeError::NotSeen { path, mode: now.mode });
    }
    drop(lock);
    let replaced = match before.temporary {
        State::Holds(old) => {
            tell_of_end(paths, mode, &old, How::Replaced(author));
            Some(old)
        }
        State::Ended(old, end) => {
            tell_of_end(paths, mode, &old, How::Ended(end));
            None
        }
        State::None | State::Ignored(_) => None,
    };
    let until = rfc3339(temporary.until());
    let name = temporary.name();
    let message = format!(
        "mode {mode} for {}, until {until}, then {policy}: {name} of {}",
        time::length(length),
        author.who
    );
    emit(paths, mode, &message, &format!("{name} until {until}"), author, &until);
    Ok((temporary, replaced))
}

/// Ends what was put in force for a time. The mode that is in force then, and what there was beside the policy before.
pub fn end(paths: &Paths, author: Author<'_>) -> Result<InForce, ChangeError> {
    as_root()?;
    let _lock = lock(paths)?;
    let before = in_force(paths, cache::load(paths).mode());
    close(paths, &before, before.policy, author)?;
    Ok(InForce { mode: before.policy, ..before })
}

/// Removes the policy for good, with the last good text of it: the built-in defaults apply then. The files that there were.
pub fn remove_policy(paths: &Paths, author: Author<'_>) -> Result<Vec<PathBuf>, ChangeError> {
    as_root()?;
    let _lock = lock(paths)?;
    let removed = cache::forget(paths)?;
    if !removed.is_empty() {
        let mode = in_force(paths, cache::load(paths).mode()).mode;
        let message =
            format!("mode {mode}: the policy was removed by {}; the built-in defaults apply", author.who);
        emit(paths, mode, &message, "the policy was removed", author, "");
    }
    Ok(removed)
}

/// Removes a temporary mode, whether it holds or not; the one that held.
fn close(
    paths: &Paths,
    before: &InForce,
    mode: Mode,
    author: Author<'_>,
) -> Result<Option<Temporary>, ChangeError> {
    if let State::None = before.temporary {
        return Ok(None);
    }
    atomic::remove_if_there(&paths.temporary_mode())?;
    match &before.temporary {
        State::Holds(old) => {
            tell_of_end(paths, mode, old, How::Closed(author));
            Ok(Some(old.clone()))
        }
        State::Ended(old, end) => {
            tell_of_end(paths, mode, old, How::Ended(*end));
            Ok(None)
        }
        State::None | State::Ignored(_) => Ok(None),
    }
}

fn lock(paths: &Paths) -> Result<File, ChangeError> {
    let path = paths.mode_lock();
    if let Some(folder) = path.parent() {
        atomic::make_folder(folder)?;
    }
    let fault = |source| ChangeError::Lock { path: path.clone(), source };
    let file = open_lock(paths).map_err(fault)?;
    file.lock().map_err(fault)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{LengthError, parse_length};

    #[test]
    fn a_mode_holds_for_a_day_at_most() {
        for (text, expected) in [
            ("2h30m", Ok(9_000)),
            ("24h", Ok(86_400)),
            ("1d1s", Err(LengthError::Long)),
            ("1w", Err(LengthError::Long)),
            ("99999999999999999999999h", Err(LengthError::Long)),
            ("0s", Err(LengthError::Form)),
            ("", Err(LengthError::Form)),
        ] {
            assert_eq!(parse_length(text), expected.map(Duration::from_secs), "{text}");
        }
    }
}
