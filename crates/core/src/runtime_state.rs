//! Reads what a runtime keeps of a container: its bundle, and, by the shape of the file, which runtime it is.
//!
//! | runtime | file in `<root>/<id>` | the bundle                                                     |
//! |---------|------------------------|----------------------------------------------------------------|
//! | runc    | `state.json`           | the label `bundle=…` (`libcontainer/specconv/spec_linux.go`)   |
//! | crun    | `status`               | `bundle` (`src/libcrun/status.c`)                              |
//! | youki   | `state.json`           | `bundle` (`crates/libcontainer/src/container/state.rs`)        |
//!
//! runc keeps the container's annotations as labels too, before its own, and an annotation may be called `bundle`. So a
//! state that names two bundles is trusted in neither.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::files::{self, FileError, LIMIT};

/// Which runtime made a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// runc.
    Runc,
    /// crun.
    Crun,
    /// youki.
    Youki,
}

/// What is known of a container by its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Who made it.
    pub maker: Maker,
    /// The folder of its config.json.
    pub bundle: PathBuf,
}

/// Why a state says nothing that can be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It does not name one bundle.
    #[error("{} does not say unambiguously where the container's bundle is", .0.display())]
    NoBundle(PathBuf),
    /// It is not JSON, or not a state.
    #[error("parse {} as the state of a runtime", .path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// It cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
}

impl From<StateError> for io::Error {
    fn from(error: StateError) -> Self {
        Self::other(error)
    }
}

#[derive(Deserialize)]
struct Written<'a> {
    #[serde(borrow)]
    bundle: Option<Cow<'a, str>>,
    #[serde(borrow)]
    config: Option<Config<'a>>,
}

#[derive(Deserialize)]
struct Config<'a> {
    #[serde(borrow)]
    labels: Option<Vec<Cow<'a, str>>>,
}

/// Reads the state in a container's folder; `None` where there is none.
pub fn read(folder: &Path) -> Result<Option<State>, StateError> {
    let mut found: Option<State> = None;
    for name in ["state.json", "status"] {
        let path = folder.join(name);
        let bytes = match files::read(&path, LIMIT) {
            Ok(bytes) => bytes,
            Err(err) if err.is_missing() => continue,
            Err(err) => return Err(err.into()),
        };
        let state = parse(name, &path, &bytes)?;
        if found.as_ref().is_some_and(|found| *found != state) {
            return Err(StateError::NoBundle(path));
        }
        found = Some(state);
    }
    Ok(found)
}

fn parse(name: &str, path: &Path, bytes: &[u8]) -> Result<State, StateError> {
    let written: Written<'_> = serde_json::from_slice(bytes)
        .map_err(|source| StateError::Parse { path: path.to_owned(), source })?;
    if let Some(bundle) = written.bundle {
        let maker = if name == "status" { Maker::Crun } else { Maker::Youki };
        return Ok(State { maker, bundle: PathBuf::from(bundle.into_owned()) });
    }
    let nowhere = || StateError::NoBundle(path.to_owned());
    let labels = written.config.and_then(|config| config.labels).unwrap_or_default();
    let mut bundles = labels.iter().filter_map(|label| label.strip_prefix("bundle="));
    let bundle = bundles.next().ok_or_else(nowhere)?;
    if bundles.any(|other| other != bundle) {
        return Err(nowhere());
    }
    Ok(State { maker: Maker::Runc, bundle: PathBuf::from(bundle) })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::{Maker, State, read};

    #[test]
    fn the_bundle_is_the_one_that_every_state_names() {
        const RUNC: &str = r#"{"config": {"labels": ["a=b", "bundle=/b", "bundle=/b"]}}"#;
        let forged = RUNC.replacen("=/b", "=/x", 1);
        let at = |maker| Ok(Some(State { maker, bundle: PathBuf::from("/b") }));
        let rows = [
            (&[("state.json", RUNC)][..], at(Maker::Runc)),
            (&[("state.json", r#"{"bundle": "/b"}"#)], at(Maker::Youki)),
            (&[("status", r#"{"bundle": "/b"}"#)], at(Maker::Crun)),
            (&[("state.json", &forged)], Err("does not say unambiguously")),
            (&[("state.json", "{}")], Err("does not say unambiguously")),
            (&[("state.json", RUNC), ("status", r#"{"bundle": "/x"}"#)], Err("does not say unambiguously")),
            (&[("state.json", RUNC), ("status", "{")], Err("as the state of a runtime")),
            (&[("state.json/x", ""), ("status", r#"{"bundle": "/b"}"#)], Err("is a directory")),
            (&[], Ok(None)),
        ];
        for (files, expected) in rows {
            let folder = tempfile::tempdir().unwrap();
            for (name, text) in files {
                let path = folder.path().join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            let found = read(folder.path()).map_err(|err| err.to_string());
            match expected {
                Ok(expected) => assert_eq!(found, Ok(expected), "{files:?}"),
                Err(says) => {
                    assert!(found.as_ref().is_err_and(|err| err.contains(says)), "{files:?}: {found:?}");
                }
            }
        }
    }
}
