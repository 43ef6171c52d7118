//! Versions of the standard: the minor version of the Kubernetes release that a policy is taken from.

use core::fmt;
use core::str::FromStr;

/// The minor of a policy version `v1.N`.
pub type Minor = u16;

/// The newest policy version this program knows: the newest revision of any control.
pub const NEWEST: Minor = 37;

/// A policy version as it was requested; messages print it unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// The newest known, or the cluster's own version where the policy names it.
    Latest,
    /// `v1.N`.
    Minor(Minor),
}

impl Version {
    /// The minor to evaluate. A version newer than known is clamped by [`Control::at`](crate::Control::at) as upstream does.
    #[must_use]
    pub fn minor(self, latest: Minor) -> Minor {
        match self {
            Self::Latest => latest,
            Self::Minor(minor) => minor,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Minor(minor) => write!(f, "v1.{minor}"),
        }
    }
}

/// Upstream's words for a version it does not know (`api/helpers.go`).
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be \"latest\" or \"v1.x\"")]
pub struct UnknownVersion;

impl FromStr for Version {
    type Err = UnknownVersion;

    /// `latest` or `^v1\.([0-9]|[1-9][0-9]*)$`, as upstream's `ParseVersion`. A number beyond any version
    /// that will ever be is the same as the newest one.
    fn from_str(text: &str) -> Result<Self, UnknownVersion> {
        if text == "latest" {
            return Ok(Self::Latest);
        }
        let digits = text.strip_prefix("v1.").ok_or(UnknownVersion)?;
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        if !plain || (digits.len() > 1 && digits.starts_with('0')) {
            return Err(UnknownVersion);
        }
        Ok(Self::Minor(digits.parse().unwrap_or(Minor::MAX)))
    }
}
