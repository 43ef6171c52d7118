//! The configuration file of k3s and rke2, as the options that it stands for (`pkg/configfilearg/parser.go` of k3s).

use std::path::{Path, PathBuf};

use super::Unrecognized;
use crate::documents::node::{Node as Document, Value};
use crate::documents::read::documents;
use crate::node::host::Node;

/// The options that are asked for. All others are left out.
const WANTED: [&str; 4] = ["data-dir", "d", "docker", "container-runtime-endpoint"];

/// A command of k3s with the options of its file: they stand right behind `server` or `agent`, before those of the command,
/// so that the later ones count. `variable` is the value of `K3S_CONFIG_FILE`, which goes before `--config`.
pub(super) fn with_file(
    node: &dyn Node,
    name: &str,
    command: &[String],
    variable: Option<&str>,
) -> Result<Vec<String>, Unrecognized> {
    let path = match variable.filter(|path| !path.is_empty()).or_else(|| named(command)) {
        // A URL is fetched, and a relative path is one of the working directory.
        Some(path) if !path.starts_with('/') => {
            return Err(Unrecognized::Setting {
                path: PathBuf::from(path),
                what: format!("the configuration file of {name} is not named by a whole path"),
            });
        }
        Some(path) => path.to_owned(),
        None => format!("/etc/rancher/{name}/config.yaml"),
    };
    let role = command.iter().position(|word| word == "server" || word == "agent");
    let (before, after) = command.split_at(role.map_or(command.len(), |at| at + 1));
    Ok([before, &options(node, Path::new(&path))?, after].concat())
}

/// The file that a command names. Unlike with an option, the first one counts.
fn named(command: &[String]) -> Option<&str> {
    let mut words = command.iter().map(String::as_str);
    while let Some(word) = words.next() {
        if word == "--config" || word == "-c" {
            return words.next();
        }
        if let Some(path) = word.strip_prefix("--config=").or_else(|| word.strip_prefix("-c=")) {
            return Some(path);
        }
    }
    None
}

/// The options of a file and of those in the folder beside it.
fn options(node: &dyn Node, file: &Path) -> Result<Vec<String>, Unrecognized> {
    // In the order in which a key first occurs, with the values of where it last did.
    let mut all: Vec<(String, Vec<String>)> = Vec::new();
    for path in files(node, file) {
        let refuse = |what: String| Unrecognized::Setting { path: path.clone(), what };
        for (key, value) in entries(node, &path)? {
            let (key, appends) = key.strip_suffix('+').map_or((key.as_str(), false), |key| (key, true));
            if !WANTED.contains(&key) {
                continue;
            }
            let values = texts(&value).ok_or_else(|| refuse(format!("the value of {key} is no text")))?;
            match all.iter_mut().find(|(other, _)| other == key) {
                Some((_, old)) if appends => old.extend(values),
                Some((_, old)) => *old = values,
                None => all.push((key.to_owned(), values)),
            }
        }
    }
    let option = |(key, values): &(String, Vec<String>)| -> Vec<String> {
        let dashes = if key.len() == 1 { "-" } else { "--" };
        values.iter().map(|value| format!("{dashes}{key}={value}")).collect()
    };
    Ok(all.iter().flat_map(option).collect())
}

/// A configuration file and those in the folder beside it, in the order in which they count.
fn files(node: &dyn Node, file: &Path) -> Vec<PathBuf> {
    let folder = PathBuf::from(format!("{}.d", file.display()));
    let is_yaml = |name: &String| {
        let name = name.to_ascii_lowercase();
        [".yaml", ".yml"].iter().any(|end| name.ends_with(end))
    };
    let names = node.list(&folder).into_iter().filter(is_yaml).map(|name| folder.join(name));
    [file.to_owned()].into_iter().chain(names.filter(|path| !node.is_folder(path))).collect()
}

/// The entries of the mapping that a file is.
fn entries(node: &dyn Node, path: &Path) -> Result<Vec<(String, Document)>, Unrecognized> {
    let refuse = |what: String| Unrecognized::Setting { path: path.to_owned(), what };
    let Some(bytes) = node.read(path)? else { return Ok(Vec::new()) };
    let text = String::from_utf8(bytes).map_err(|_| refuse("it is no UTF-8 text".to_owned()))?;
    // go-yaml v2 drops what a merge key brings into a `MapSlice` (`mappingSlice` in `decode.go`), and ours does not.
    if text.contains("<<") {
        return Err(refuse("it has a merge key (<<)".to_owned()));
    }
    let documents = documents(&text).map_err(|error| refuse(error.to_string()))?;
    // Only the first document is read.
    match documents.into_iter().next().map(|document| document.value) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Map(entries)) => Ok(entries),
        Some(_) => Err(refuse("it is no mapping".to_owned())),
    }
}

/// The texts of a value: one, or those of a list; `None` of what is deeper.
fn texts(value: &Document) -> Option<Vec<String>> {
    let text = |value: &Document| match &value.value {
        Value::Null => Some(String::new()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Number(value) => Some(value.to_string()),
        Value::String(text) => Some(text.clone()),
        Value::List(_) | Value::Map(_) => None,
    };
    match &value.value {
        Value::List(items) => items.iter().map(text).collect(),
        _ => Some(vec![text(value)?]),
    }
}
