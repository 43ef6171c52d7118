//! Names what set a level, in the words at the end of every message, log line and report.

use std::fmt;
use std::path::Path;

use super::{Exempt, Labels};
use pss::{UnknownLevel, UnknownVersion};

/// One of the three things that PSA does with a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Stop containers.
    Enforce,
    /// Log.
    Audit,
    /// Log as a warning.
    Warn,
}

impl Purpose {
    /// PSA's word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Audit => "audit",
            Self::Warn => "warn",
        }
    }
}

/// What set a level: the text after the semicolon of every message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance<'a> {
    pub(super) purpose: Purpose,
    pub(super) level: Origin<'a>,
    pub(super) version: Origin<'a>,
    pub(super) invalid_level: Option<Invalid<'a>>,
    pub(super) invalid_version: Option<Invalid<'a>>,
}

/// Who can set a level, from the least to the most specific.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin<'a> {
    /// There is no policy file.
    BuiltIn,
    /// `[defaults]` of the policy file.
    Defaults(&'a str),
    /// `[unmanaged]` of the policy file.
    Unmanaged(&'a str),
    /// `floor` of the policy file.
    Floor(&'a str),
    /// `floor` for the agent's files, of the policy file.
    AgentFloor(&'a str),
    /// `[namespaces."name"]` of the policy file.
    Table {
        /// The namespace.
        namespace: &'a str,
        /// The policy file.
        file: &'a str,
    },
    /// The namespace's labels.
    File {
        /// The namespace.
        namespace: &'a str,
        /// Where its labels are.
        path: &'a Path,
    },
    /// The pod's annotation.
    Annotation(&'static str),
    /// `--level`.
    Argument,
}

/// A value that was not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Invalid<'a> {
    pub(super) value: &'a str,
    /// One of [`Labels::KEYS`].
    pub(super) key: &'static str,
    pub(super) annotation: bool,
    pub(super) instead: &'static str,
}

impl<'a> Provenance<'a> {
    pub(super) fn of(purpose: Purpose, origin: Origin<'a>) -> Self {
        Self { purpose, level: origin, version: origin, invalid_level: None, invalid_version: None }
    }

    /// What set the level itself.
    #[must_use]
    pub fn origin(&self) -> Origin<'a> {
        self.level
    }
}

impl Origin<'_> {
    fn rank(&self) -> u8 {
        match self {
            Self::BuiltIn | Self::Defaults(_) | Self::Unmanaged(_) => 0,
            Self::Table { .. } => 1,
            Self::File { .. } => 2,
            Self::Annotation(_) => 3,
            Self::Floor(_) | Self::AgentFloor(_) | Self::Argument => 4,
        }
    }
}

impl fmt::Display for Origin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("the built-in defaults (there is no policy file)"),
            Self::Defaults(file) => write!(f, "[defaults] of {file}"),
            Self::Unmanaged(file) => write!(f, "[unmanaged] of {file}"),
            Self::AgentFloor(file) => write!(f, "floor in [agent] of {file}"),
            Self::Floor(file) => write!(f, "floor in [pod-annotations] of {file}"),
            Self::Table { namespace, file } => write!(f, "namespace {namespace:?} ({file})"),
            Self::File { namespace, path } => write!(f, "namespace {namespace:?} ({})", path.display()),
            Self::Annotation(key) => write!(f, "pod annotation {key}"),
            Self::Argument => f.write_str("--level"),
        }
    }
}

impl fmt::Display for Provenance<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "level from {}", self.level)?;
        // A version from a less specific place than the level is what everybody expects.
        if self.version.rank() > self.level.rank() {
            write!(f, ", version from {}", self.version)?;
        }
        if let Some(invalid) = &self.invalid_level {
            invalid.write(f, &UnknownLevel)?;
        }
        if let Some(invalid) = &self.invalid_version {
            invalid.write(f, &UnknownVersion)?;
        }
        Ok(())
    }
}

impl Invalid<'_> {
    fn write(&self, f: &mut fmt::Formatter<'_>, expected: &dyn fmt::Display) -> fmt::Result {
        let kind = if self.annotation { "annotation" } else { "label" };
        let name = self.key.strip_prefix(Labels::PREFIX).unwrap_or(self.key);
        write!(
            f,
            "; {name} {kind} {} is invalid: {expected}, so {} applies",
            Shortened(self.value),
            self.instead
        )
    }
}

/// A value from outside in quotes, escaped, and cut where it would drown the message.
pub(super) struct Shortened<'a>(pub(super) &'a str);

impl fmt::Display for Shortened<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(63) {
            Some((end, _)) => write!(f, "{:?}...", self.0.get(..end).unwrap_or_default()),
            None => write!(f, "{:?}", self.0),
        }
    }
}

impl fmt::Display for Exempt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespace(name) => write!(f, "namespace {name:?} is exempt"),
            Self::RuntimeClass(name) => write!(f, "runtime class {name:?} is exempt"),
        }
    }
}
