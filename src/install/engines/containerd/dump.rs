//! Lets the node's own containerd read the planned files before anything is written: the gate has to be before every
//! handler that calls runc, and nothing else may change.
//!
//! The files are laid out in a folder of this process's own, all imports in the main file, in containerd's order.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml_edit::Array;

use super::config::{Config, Generation, Layer, RUNTIME, RUNTIME_TYPE, SHIM};
use super::edit::File;
use super::{BINARY, CONTAINER_ANNOTATIONS, ENTRIES, POD_ANNOTATIONS, not_covered, spec, spelling};
use crate::install::{Method, PlanError};
use crate::node::host::{Node, Untried};

/// A configuration: the main file, and what it imports, in containerd's order.
pub(super) type Files = Vec<(PathBuf, Vec<u8>)>;

/// What containerd reads now.
pub(super) fn now(config: &Config) -> Files {
    let text = |layer: &Layer| Some((layer.file.path().to_owned(), layer.now.clone()?));
    config.files.iter().filter_map(text).collect()
}

/// What containerd would read.
pub(super) fn planned(config: &Config) -> Files {
    let wanted = config.files.iter().filter(|layer| layer.is_wanted());
    wanted.map(|layer| (layer.file.path().to_owned(), layer.file.render())).collect()
}

/// A plan, as far as containerd has to agree.
pub(super) struct Planned<'a> {
    pub(super) program: &'a Path,
    pub(super) generation: Generation,
    pub(super) method: Method,
    pub(super) now: &'a Files,
    pub(super) then: &'a Files,
    /// The handlers that the plan names as not gated although their shim calls runc.
    pub(super) left: &'a [String],
}

impl Planned<'_> {
    /// Holds the plan to what containerd makes of it. Gives back why that cannot be done here, if it cannot.
    pub(super) fn check(&self, node: &dyn Node) -> Result<Option<String>, PlanError> {
        let before = match self.dump(node, self.now)? {
            Ok(before) => before,
            Err(Untried::NotHere(why)) => return Ok(Some(why)),
            Err(Untried::Failed(said)) => {
                let path = self.now.first().map(|(path, _)| path.clone()).unwrap_or_default();
                let cause = format!("`{} config dump` fails with it: {said}", self.program.display());
                return Err(PlanError::Malformed { path, cause });
            }
        };
        if self.now == self.then {
            return self.gate_is_everywhere(&before).map(|()| None);
        }
        let after = match self.dump(node, self.then)? {
            Ok(after) => after,
            Err(Untried::NotHere(why)) => return Ok(Some(why)),
            Err(Untried::Failed(said)) => {
                return Err(refusal(&format!("{} does not take them: {said}", self.program.display())));
            }
        };
        self.gate_is_everywhere(&after)?;
        let (before, after) = (others(&before)?, others(&after)?);
        let differs = |one: &BTreeMap<String, String>, other: &BTreeMap<String, String>| {
            let found = one.iter().find(|(key, value)| other.get(*key) != Some(value));
            found.map(|(key, value)| format!("{} = {value}", key.trim_start_matches('.')))
        };
        match (differs(&after, &before), differs(&before, &after)) {
            (None, None) => Ok(None),
            (new, old) => {
                let word = |text: Option<String>| text.unwrap_or_else(|| "nothing".to_owned());
                Err(refusal(&format!("they would change {} to {}", word(old), word(new))))
            }
        }
    }

    /// What containerd prints of a configuration.
    fn dump(&self, node: &dyn Node, files: &Files) -> Result<Result<String, Untried>, PlanError> {
        Ok(node.trial(self.program, &["--config", "0.toml", "config", "dump"], &lay_out(files)?))
    }

    fn gate_is_everywhere(&self, dump: &str) -> Result<(), PlanError> {
        let file = File::parse(Path::new("containerd config dump"), dump.as_bytes())?;
        let handlers = Config::of_dump(file, Some(self.generation))?.handlers()?;
        let covered = handlers.iter().map(|handler| Ok((handler, not_covered(handler)?)));
        for (handler, open) in covered.collect::<Result<Vec<_>, PlanError>>()? {
            let is_gated = match self.method {
                Method::Runtime => handler.binary.starts_with(ENTRIES),
                Method::Hook => spec::is_ours(&handler.spec),
            };
            if open.is_none() && !is_gated && !self.left.contains(&handler.name) {
                return Err(refusal(&format!(
                    "the handler {:?} would start containers without the gate",
                    handler.name
                )));
            }
        }
        Ok(())
    }
}

/// All that is set, but what the gate sets. containerd leaves out of some tables what it prints as nothing in others.
fn others(dump: &str) -> Result<BTreeMap<String, String>, PlanError> {
    let table: toml::Table = dump.parse().map_err(|error: toml::de::Error| {
        let cause = error.message().to_owned();
        PlanError::Malformed { path: PathBuf::from("containerd config dump"), cause }
    })?;
    let mut found = BTreeMap::new();
    flatten(&toml::Value::Table(table), String::new(), &mut found);
    let is_nothing = |value: &str| ["\"\"", "0", "false", "[]"].contains(&value);
    let [options, binary] = *BINARY else { return Ok(found) };
    let binary = format!(".{options}.{binary}");
    found.retain(|key, value| {
        let is_ours =
            key.contains(".containerd.") && (key.ends_with(&binary) || key.ends_with(".base_runtime_spec"));
        // The names of the files, and what most handlers say that say nothing else.
        let is_usual = key == ".imports" || (key.contains(".sandbox") && value == "\"podsandbox\"");
        !is_ours && !is_usual && !is_nothing(value)
    });
    Ok(found)
}

/// Why a plan is not carried out.
fn refusal(what: &str) -> PlanError {
    PlanError::Unsupported {
        what: format!("the planned files were given to this node's containerd, and {what}"),
        instead: "nothing was written; report it to the authors of pss-guard, with these files".to_owned(),
    }
}

/// Names for the files, and their texts with imports of these names.
pub(super) fn lay_out(files: &Files) -> Result<Vec<(String, Vec<u8>)>, PlanError> {
    let name = |index: usize| format!("{index}.toml");
    let mut out = Vec::new();
    for (index, (path, bytes)) in files.iter().enumerate() {
        let mut file = File::parse(path, &rendered(bytes))?;
        // Whatever containerd may take for imports: it would read files of this machine.
        for key in file.keys(&[])?.iter().filter(|key| spelling::is_same(key, "imports")) {
            file.remove(&[key])?;
        }
        if index == 0 && files.len() > 1 {
            file.set(&["imports"], (1..files.len()).map(name).collect::<Array>())?;
        }
        out.push((name(index), file.render()));
    }
    if out.is_empty() {
        out.push((name(0), Vec::new()));
    }
    Ok(out)
}

/// A template as MicroK8s renders it.
fn rendered(bytes: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(bytes);
    if !text.contains("${") {
        return bytes.to_vec();
    }
    let words = [
        (RUNTIME_TYPE, SHIM),
        (RUNTIME, "runc"),
        ("${SNAPSHOTTER}", "overlayfs"),
        ("${SNAP_DATA}", "/var/snap/microk8s/current"),
        ("${SNAP_COMMON}", "/var/snap/microk8s/common"),
        ("${SNAP}", "/snap/microk8s/current"),
    ];
    words.iter().fold(text.into_owned(), |text, (word, value)| text.replace(word, value)).into_bytes()
}

fn flatten(value: &toml::Value, key: String, found: &mut BTreeMap<String, String>) {
    let ours = [POD_ANNOTATIONS, CONTAINER_ANNOTATIONS];
    match value {
        toml::Value::Table(table) => {
            table.iter().for_each(|(name, value)| flatten(value, format!("{key}.{name}"), found));
        }
        toml::Value::Array(values) => {
            let others =
                values.iter().filter(|value| value.as_str().is_none_or(|word| !ours.contains(&word)));
            let texts: Vec<String> = others.map(text).collect();
            found.insert(key, format!("[{}]", texts.join(", ")));
        }
        value => {
            found.insert(key, text(value));
        }
    }
}

fn text(value: &toml::Value) -> String {
    match value {
        toml::Value::String(string) => format!("{string:?}"),
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Boolean(flag) => flag.to_string(),
        other => format!("{other:?}"),
    }
}
