//! A temporary mode: one small root-owned file in `/run`, trusted only until it expires.
//!
//! Its end is a moment of `CLOCK_BOOTTIME`, which nobody can set and which goes on in suspend (clock_gettime(2)): a wall
//! clock that jumps neither prolongs nor ends it. Another boot ends it, because its id is in the file: `/run` need not
//! be a tmpfs.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use pss_guard_core::files::{self, FileError, Links, Owner};
use pss_guard_core::formats::Format;
use pss_guard_core::level::Mode;
use pss_guard_core::time;

/// The longest time, so that a break-glass does not become the policy.
pub const LONGEST: Duration = Duration::from_secs(time::DAY);

/// Longer than any file of ours.
const LIMIT: u64 = 16 << 10;

/// A mode that holds for a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Temporary {
    /// The version of the format. The first key, so that a newer one is named before anything is misunderstood.
    #[serde(default, deserialize_with = "known", skip_serializing_if = "is_without")]
    v: u32,
    /// The mode.
    pub mode: Mode,
    /// The boot that it belongs to.
    boot: String,
    /// Since when, in milliseconds of that boot.
    since: u64,
    /// Until when, likewise.
    until: u64,
    /// Who opened it.
    pub who: String,
    /// Why, in the person's own words; empty if there are none.
    #[serde(default)]
    pub reason: String,
}

fn known<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    Format::Mode.check(u32::deserialize(from)?).map_err(D::Error::custom)
}

/// Version 0 did not say so.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_without(version: &u32) -> bool {
    *version == 0
}

/// What the file says.
#[derive(Debug)]
pub enum State {
    /// There is none.
    None,
    /// This mode holds.
    Holds(Temporary),
    /// This mode held.
    Ended(Temporary, End),
    /// There is a file, and it is not believed.
    Ignored(Ignored),
}

/// What ended a temporary mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its time was over.
    Time,
    /// The node was rebooted.
    Boot,
}

/// Why a file is not believed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Ignored {
    /// Others may have written it.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is no JSON of ours.
    #[error("parse {}", .path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// It says what no file of ours does.
    #[error("{}: {what}", .path.display())]
    Nonsense {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// It cannot be compared with the clock or the boot of this node.
    #[error("{what}")]
    Clock {
        /// What was asked.
        what: &'static str,
        /// Why there is no answer.
        source: io::Error,
    },
}

/// What holds now by this file.
#[must_use]
pub fn read(path: &Path) -> State {
    // Anyone who can write to the folder can restore one that was ended.
    let read = files::read_as(path, Links::Refuse, Owner::Root, LIMIT);
    let bytes = match read.and_then(|read| files::check_folder_of(path).map(|_| read)) {
        Ok((_, _, bytes)) => bytes,
        Err(error) if error.is_missing() => return State::None,
        Err(error) => return State::Ignored(error.into()),
    };
    let temporary: Temporary = match serde_json::from_slice(&bytes) {
        Ok(temporary) => temporary,
        Err(source) => return State::Ignored(Ignored::Json { path: path.to_owned(), source }),
    };
    match Now::read() {
        Ok(now) => temporary.state(&now, path),
        Err(error) => State::Ignored(error),
    }
}

impl Temporary {
    /// The same in this version of the format: [`formats::agreed`](pss_guard_core::formats::agreed) says which.
    #[must_use]
    pub fn in_version(self, version: u32) -> Self {
        Self { v: version, ..self }
    }

    /// A mode that holds from now on for this long.
    pub fn from_now(mode: Mode, time: Duration, who: &str, reason: &str) -> Result<Self, Ignored> {
        let now = Now::read()?;
        let until = now.milliseconds.saturating_add(milliseconds(time));
        let (who, reason) = (who.to_owned(), reason.to_owned());
        Ok(Self { v: 0, mode, boot: now.boot, since: now.milliseconds, until, who, reason })
    }

    fn state(self, now: &Now, path: &Path) -> State {
        let nonsense = |what| State::Ignored(Ignored::Nonsense { path: path.to_owned(), what });
        if !is_boot_id(&self.boot) {
            return nonsense("`boot` is not a boot id");
        }
        // Nobody can have asked for that long; such a file must not apply for ever.
        if self.length().is_none_or(|length| length > LONGEST) {
            return nonsense("`since` and `until` are too far apart, or the wrong way round");
        }
        if self.boot != now.boot {
            return State::Ended(self, End::Boot);
        }
        if now.milliseconds < self.since {
            return nonsense("`since` has not come yet");
        }
        if now.milliseconds < self.until { State::Holds(self) } else { State::Ended(self, End::Time) }
    }

    /// How long it holds in all.
    #[must_use]
    pub fn length(&self) -> Option<Duration> {
        self.until.checked_sub(self.since).map(Duration::from_millis)
    }

    /// How long it will hold yet.
    #[must_use]
    pub fn left(&self) -> Duration {
        Duration::from_millis(self.until.saturating_sub(since_boot()))
    }

    /// When it began, by the wall clock as it is set now.
    #[must_use]
    pub fn since(&self) -> SystemTime {
        wall(self.since)
    }

    /// When it ends, by the wall clock as it is set now.
    #[must_use]
    pub fn until(&self) -> SystemTime {
        wall(self.until)
    }

    /// What people call it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self.mode {
            Mode::Audit => "break-glass",
            Mode::Enforce => "trial",
        }
    }
}

/// This moment, in the words of the file.
struct Now {
    boot: String,
    milliseconds: u64,
}

impl Now {
    fn read() -> Result<Self, Ignored> {
        let fault = |what| move |source| Ignored::Clock { what, source };
        let boot = boot_id().map_err(fault("read /proc/sys/kernel/random/boot_id"))?;
        let clock = clock_gettime(ClockId::CLOCK_BOOTTIME).map_err(io::Error::from);
        let clock = clock.map_err(fault("read CLOCK_BOOTTIME"))?;
        Ok(Self { boot, milliseconds: milliseconds(clock.into()) })
    }
}

fn boot_id() -> io::Result<String> {
    // One read, as the kernel wants it for a sysctl.
    let mut bytes = [0; 64];
    let size = File::open("/proc/sys/kernel/random/boot_id")?.read(&mut bytes)?;
    let id = bytes.get(..size).and_then(|id| str::from_utf8(id).ok()).unwrap_or_default().trim_end();
    if is_boot_id(id) { Ok(id.to_owned()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// Whether a text has the form of an id that the kernel makes.
fn is_boot_id(id: &str) -> bool {
    id.len() == 36 && id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

fn since_boot() -> u64 {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |clock| milliseconds(clock.into()))
}

fn wall(moment: u64) -> SystemTime {
    let (now, boot) = (SystemTime::now(), since_boot());
    let ago = Duration::from_millis(boot.saturating_sub(moment));
    let to_come = Duration::from_millis(moment.saturating_sub(boot));
    now.checked_sub(ago).and_then(|then| then.checked_add(to_come)).unwrap_or(now)
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Now, State, Temporary};

    #[test]
    fn a_mode_holds_from_its_beginning_to_its_end_in_its_own_boot() {
        const HERE: &str = "0a1b2c3d-0000-4000-8000-000000000001";
        const ELSEWHERE: &str = "0a1b2c3d-0000-4000-8000-000000000002";
        const DAY: u64 = 24 * 3600 * 1000;
        #[rustfmt::skip]
        let rows = [
            (HERE, 1000, 2000, 1000, "holds"),
            (HERE, 1000, 2000, 1999, "holds"),
            (HERE, 1000, 2000, 2000, "Time"),
            (HERE, 1000, 2000, u64::MAX, "Time"),
            (HERE, 1000, 1000 + DAY, 1000, "holds"),
            (ELSEWHERE, 1000, 2000, 1500, "Boot"),
            (ELSEWHERE, 1000, 2000, 0, "Boot"),
            (HERE, 1000, 2000, 999, "not come yet"),
            (HERE, 2000, 1000, 1500, "wrong way round"),
            (HERE, 1000, 1001 + DAY, 1500, "too far apart"),
            (HERE, 0, u64::MAX, 1500, "too far apart"),
            ("", 1000, 2000, 1500, "not a boot id"),
            ("0a1b2c3d-0000-4000-8000-00000000000\n", 1000, 2000, 1500, "not a boot id"),
        ];
        for (boot, since, until, now, expected) in rows {
            let text = format!(
                r#"{{"mode":"audit","boot":{},"since":{since},"until":{until},"who":"x"}}"#,
                serde_json::Value::from(boot)
            );
            let temporary: Temporary = serde_json::from_str(&text).unwrap();
            let now = Now { boot: HERE.to_owned(), milliseconds: now };
            let state = match temporary.state(&now, Path::new("/run/x")) {
                State::None => "none".to_owned(),
                State::Holds(_) => "holds".to_owned(),
                State::Ended(_, end) => format!("{end:?}"),
                State::Ignored(ignored) => ignored.to_string(),
            };
            assert!(state.contains(expected), "{text}: {state}");
        }
    }

    #[test]
    fn this_node_has_a_boot_and_a_clock() {
        let (one, two) = (Now::read().unwrap(), Now::read().unwrap());
        assert!(one.boot == two.boot && one.milliseconds <= two.milliseconds && one.milliseconds > 0);
    }
}
