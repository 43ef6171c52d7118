//! Refuses keys that containerd takes and this program would not: those that differ in case alone.
//!
//! containerd 2 decodes a table into a struct, and go-toml v2 looks a key up as it is spelled and then in lower case
//! (`structFieldPath` in `unmarshaler.go`); go-toml v1, of containerd 1, also tries some other spellings. A table that is a
//! map keeps its keys: `plugins` and `runtimes`.

use std::ops::Range;

use toml_edit::TableLike;

use super::config::PLUGINS;
use super::edit::{File, name};
use crate::install::PlanError;

/// The keys that are read of the table at a path; none of a map, or of a table that is not read.
fn known(path: &[&str]) -> &'static [&'static str] {
    const HANDLER: &[&str] = &[
        "runtime_type",
        "runtime_path",
        "options",
        "base_runtime_spec",
        "pod_annotations",
        "container_annotations",
    ];
    let ["plugins", plugin, inside @ ..] = path else {
        return match path {
            [] => &[
                "version",
                "imports",
                "plugins",
                "disabled_plugins",
                "required_plugins",
                "root",
                "state",
                "grpc",
            ],
            ["grpc"] => &["address"],
            _ => &[],
        };
    };
    if !PLUGINS.contains(plugin) {
        return &[];
    }
    match inside {
        [] => &["containerd"],
        ["containerd"] => {
            &["runtimes", "default_runtime_name", "default_runtime", "untrusted_workload_runtime"]
        }
        ["containerd", "runtimes", _] | ["containerd", "default_runtime" | "untrusted_workload_runtime"] => {
            HANDLER
        }
        ["containerd", "runtimes", _, "options"]
        | ["containerd", "default_runtime" | "untrusted_workload_runtime", "options"] => &["BinaryName"],
        _ => &[],
    }
}

/// As Go's `strings.ToLower` has it: each letter becomes one letter, so that `İ` is `i`.
fn lower(key: &str) -> String {
    key.chars().map(|letter| letter.to_lowercase().next().unwrap_or(letter)).collect()
}

/// Whether containerd takes one key for the other.
pub(super) fn is_same(key: &str, known: &str) -> bool {
    lower(key) == lower(known)
}

/// Refuses a file in which containerd would read a key that is not read here.
pub(super) fn check(file: &File) -> Result<(), PlanError> {
    let Some((path, wanted, span)) = file.get(&[]).and_then(|item| item.as_table_like()).and_then(other)
    else {
        return Ok(());
    };
    let keys: Vec<&str> = path.iter().map(String::as_str).collect();
    let last = keys.last().copied().unwrap_or_default();
    let line = span.map(|span| format!(", line {}", file.line_of(span.start))).unwrap_or_default();
    Err(PlanError::Unsupported {
        what: format!(
            "{}{line}: containerd takes {} for {wanted}, whatever its case, and this program reads {wanted} alone",
            file.path().display(),
            name(&keys)
        ),
        instead: format!("{} should be spelled {wanted}", name(&[last])),
    })
}

/// A key that is a known one in another case: its path, the known one, and where it is in the text.
type Other = (Vec<String>, &'static str, Option<Range<usize>>);

/// The first such key of a document.
fn other(root: &dyn TableLike) -> Option<Other> {
    // A document is not deep: the parser has a limit.
    fn inside(table: &dyn TableLike, path: &mut Vec<String>) -> Option<Other> {
        let known = known(&path.iter().map(String::as_str).collect::<Vec<_>>());
        for (key, item) in table.iter() {
            path.push(key.to_owned());
            let alike = known.iter().find(|known| **known != key && is_same(key, known));
            if let Some(wanted) = alike {
                let span = table.get_key_value(key).and_then(|(key, _)| key.span());
                return Some((path.clone(), wanted, span));
            }
            let found = item.as_table_like().and_then(|table| inside(table, path));
            if found.is_some() {
                return found;
            }
            path.pop();
        }
        None
    }
    inside(root, &mut Vec::new())
}
