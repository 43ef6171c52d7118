//! A file as its documents: JSON where it begins like JSON, else YAML.

use std::borrow::Cow;
use std::collections::HashSet;

use super::node::{Node, Position};
use super::{json, yaml};

/// The largest file that is read, in bytes: the pods of some thousand nodes' namespaces in one list.
pub const LARGEST: u64 = 64 << 20;
/// The most values in one file, with those that aliases repeat.
pub const MOST_NODES: usize = 2_000_000;
/// The deepest nesting. A schema in a CustomResourceDefinition can take some sixty levels.
pub const DEEPEST: usize = 100;

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
    /// A control character, or what is no character.
    #[error("the character U+{:04X} is not allowed in YAML", u32::from(*.0))]
    Character(char),
    /// One reader takes the first, another the last.
    #[error("the key {0:?} occurs twice")]
    Twice(String),
    /// Only scalars can be keys in JSON.
    #[error("a key of a mapping must be a scalar")]
    Key,
    /// More levels than [`DEEPEST`].
    #[error("more than {DEEPEST} levels of nesting")]
    Deep,
    /// More values than this, which is [`MOST_NODES`] unless the reader allows fewer.
    #[error("more than {0} values, aliases counted")]
    Large(usize),
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
    /// `[!x, a]`, which libyaml and go-yaml read in different ways.
    #[error(
        "a comma right behind a tag (!x), which kubectl takes for a part of it; put a blank before the comma"
    )]
    Comma,
    /// `<<` with something else than mappings.
    #[error("a merge key (<<) needs a mapping or a list of mappings")]
    Merge,
    /// An alias of nothing.
    #[error("no anchor {0:?} before its alias")]
    UnknownAnchor(String),
    /// An alias of what holds it.
    #[error("the anchor contains itself")]
    Loop,
    /// What is wrong in a line with `{{`.
    #[error("{0}; a template must be rendered first: helm template … | pss-guard check -")]
    Template(Box<Why>),
}

/// All documents of a file; empty ones are null.
pub fn documents(text: &str) -> Result<Vec<Node>, ReadError> {
    documents_within(text, MOST_NODES)
}

/// The same for whoever has little memory: at most so many values, with those that aliases repeat.
pub fn documents_within(text: &str, most: usize) -> Result<Vec<Node>, ReadError> {
    // For kubectl, a byte order mark is no beginning of JSON: what follows is YAML, where 1e2 is an integer.
    let is_json = text.trim_start().starts_with('{');
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // kubectl reads each document by itself, and files that were put together have several marks.
    let text = if text.contains('\u{feff}') {
        Cow::Owned(text.replace("\n---\n\u{feff}", "\n---\n").replace("\n---\r\n\u{feff}", "\n---\r\n"))
    } else {
        Cow::Borrowed(text)
    };
    let text = text.as_ref();
    let documents = if is_json {
        // A flow mapping begins like an object. What the author meant is JSON.
        json::documents(text, most).or_else(|error| yaml::documents(text, most).map_err(|_| error))
    } else {
        yaml::documents(text, most)
    };
    documents.map_err(|error| in_context(error, text))
}

/// The error with what its line tells. What is missing at the end is missing in the last line, which editors can show.
fn in_context(ReadError { mut at, why }: ReadError, text: &str) -> ReadError {
    let last = text.lines().count().max(1);
    if at.line > last {
        at = Position { line: last, column: text.lines().last().map_or(1, |line| line.chars().count() + 1) };
    }
    let is_template = text.lines().nth(at.line.saturating_sub(1)).is_some_and(|line| line.contains("{{"));
    ReadError { at, why: if is_template { Why::Template(Box::new(why)) } else { why } }
}

/// Makes sure that no key occurs twice.
pub(super) fn unique(entries: &[(String, Node)]) -> Result<(), ReadError> {
    let mut seen = HashSet::with_capacity(entries.len());
    match entries.iter().find(|(key, _)| !seen.insert(key.as_str())) {
        Some((key, node)) => Err(ReadError { at: node.at, why: Why::Twice(key.clone()) }),
        None => Ok(()),
    }
}
