//! A file as its documents: JSON where it begins like JSON, else YAML.

use std::collections::HashSet;

use super::node::{Node, Position};
use super::{json, yaml};

/// The largest file that is read, in bytes: the pods of some thousand nodes' namespaces in one list.
pub const LARGEST: u64 = 64 << 20;
/// The most values in one file, with those that aliases repeat.
pub(super) const MOST_NODES: usize = 2_000_000;
/// The deepest nesting. A schema in a CustomResourceDefinition can take some sixty levels.
pub(super) const DEEPEST: usize = 100;

/// Why a file cannot be read, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}:{}: {why}", at.line, at.column)]
pub struct ReadError {
    /// Where reading stopped.
    pub at: Position,
    /// Why.
    pub why: Why,
}

/// Why a file cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// It is no JSON.
    #[error("{0}")]
    Json(String),
    /// It is no YAML.
    #[error("{0}")]
    Yaml(String),
    /// One reader takes the first, another the last.
    #[error("the key {0:?} occurs twice")]
    Twice(String),
    /// Only scalars can be keys in JSON.
    #[error("a key of a mapping must be a scalar")]
    Key,
    /// More levels than [`DEEPEST`].
    #[error("more than {DEEPEST} levels of nesting")]
    Deep,
    /// More values than [`MOST_NODES`].
    #[error("more than {MOST_NODES} values, aliases counted")]
    Large,
    /// Infinity or no number at all, which JSON cannot say.
    #[error("the number {0} cannot be written in JSON")]
    NotFinite(String),
    /// A tag that its scalar does not fit.
    #[error("{text:?} is no {tag}")]
    Tag {
        /// The tag.
        tag: String,
        /// The scalar.
        text: String,
    },
    /// `<<` with something else than mappings.
    #[error("a merge key (<<) needs a mapping or a list of mappings")]
    Merge,
    /// An alias of what holds it.
    #[error("the anchor contains itself")]
    Loop,
}

/// All documents of a file; empty ones are null.
pub fn documents(text: &str) -> Result<Vec<Node>, ReadError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if !text.trim_start().starts_with('{') {
        return yaml::documents(text);
    }
    // A flow mapping begins like an object. What the author meant is JSON.
    json::documents(text).or_else(|error| yaml::documents(text).map_err(|_| error))
}

/// Makes sure that no key occurs twice.
pub(super) fn unique(entries: &[(String, Node)]) -> Result<(), ReadError> {
    let mut seen = HashSet::with_capacity(entries.len());
    match entries.iter().find(|(key, _)| !seen.insert(key.as_str())) {
        Some((key, node)) => Err(ReadError { at: node.at, why: Why::Twice(key.clone()) }),
        None => Ok(()),
    }
}
