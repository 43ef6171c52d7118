//! The packages, by dpkg and rpm on a Debian of their own: `make dist-test`.
//!
//! `PSS_GUARD_PACKAGES` is a folder with what `deploy/dist` made of two versions, in `old` and `new`; their programs differ in
//! bytes.
//! `PSS_GUARD_DEBIAN` is the root file system of a Debian with a runtime and without an engine (`integration-tests/dist/debian`).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::too_many_lines,
    reason = "tests, most of them stories"
)]

#[allow(dead_code, reason = "what the other targets share")]
#[path = "../support/mod.rs"]
mod support;

// A node from the first package to the last, with containers starting all the time.
mod node;
// Root directories in which nothing runs, and shells that are not Debian's.
mod scripts;

use std::fs;
use std::path::{Path, PathBuf};

use support::needs;

/// Whose package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Deb,
    Rpm,
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Self::Deb => "deb",
            Self::Rpm => "rpm",
        }
    }

    /// The package of a version, `old` or `new`, for this machine.
    fn package(self, version: &str) -> PathBuf {
        let folder = folder("PSS_GUARD_PACKAGES").join(version).join("dist");
        let is_it = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let ours = ["amd64.deb", "x86_64.rpm"];
            path.extension().is_some_and(|end| end == self.name())
                && ours.iter().any(|end| name.ends_with(end))
        };
        let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut found: Vec<PathBuf> = files.flatten().map(|file| file.path()).filter(is_it).collect();
        assert_eq!(found.len(), 1, "one {} in {}: {found:?}", self.name(), folder.display());
        found.remove(0)
    }
}

/// A folder that `make dist-test` names.
fn folder(variable: &str) -> PathBuf {
    std::env::var_os(variable).map(PathBuf::from).unwrap_or_default()
}

/// Whether packages and a Debian are there.
fn can_run(test: &str, programs: &[&str]) -> bool {
    let missing: Vec<&str> = ["PSS_GUARD_PACKAGES", "PSS_GUARD_DEBIAN"]
        .into_iter()
        .filter(|variable| !folder(variable).join(".").is_dir() || folder(variable) == Path::new(""))
        .collect();
    needs::can_run(test, programs)
        && (missing.is_empty()
            || needs::skip(test, &format!("{}; `make dist-test` has them", missing.join(", "))))
}
