//! Reads what `kubectl get … -o json` prints: a list, or one object. Bounded, and whole or not at all.

use std::io::{self, Read};

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

/// Why the input is no list, or not all of it. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListError {
    /// The input cannot be read.
    #[error("read the {0} from standard input")]
    Input(&'static str, #[source] io::Error),
    /// There is no input.
    #[error("standard input is empty (did kubectl fail?); nothing was changed")]
    Nothing,
    /// The input is too large.
    #[error("the list of {0} is larger than {LIMIT} bytes; nothing was changed")]
    TooLarge(&'static str),
    /// The input is no JSON of that shape.
    #[error("parse the output of kubectl get {0} -o json; nothing was changed")]
    Parse(&'static str, #[source] serde_json::Error),
    /// The input is something else.
    #[error("expected the output of kubectl get {0} -o json, but got {1}; nothing was changed")]
    Shape(&'static str, String),
    /// A list without objects would drop them all.
    #[error(
        "the list has no {0} (is the cluster reachable, and may this user list them?); nothing was changed"
    )]
    Empty(&'static str),
    /// Only a page of a list: the rest would be dropped.
    #[error(
        "the list is one page of several; use kubectl get {0} -o json, which fetches all; nothing was changed"
    )]
    Page(&'static str),
}

/// 10,000 namespaces with all their managed fields are about 30 MB, as many pods about 160 MB.
const LIMIT: u64 = 256 << 20;

/// An object of the API, as far as it matters.
pub(crate) trait Object: DeserializeOwned {
    /// What it is called.
    const KIND: &'static str;
    /// What `kubectl get` calls them.
    const PLURAL: &'static str;

    /// The kind that it says it is.
    fn kind(&self) -> &str;
}

/// What was read.
pub(crate) struct Listed<T> {
    /// The objects, at least one.
    pub(crate) items: Vec<T>,
    /// Whether it was one object rather than a list.
    pub(crate) one: bool,
}

/// The outermost object.
#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    metadata: Page,
    items: Option<IgnoredAny>,
}

#[derive(Default, Deserialize)]
struct Page {
    /// Set on a list that goes on elsewhere.
    #[serde(default, rename = "continue")]
    more: String,
    /// How many items of it are elsewhere.
    #[serde(rename = "remainingItemCount")]
    remaining: Option<i64>,
}

#[derive(Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
struct Items<T> {
    items: Vec<T>,
}

/// Reads all objects of one kind.
pub(crate) fn read<T: Object>(input: &mut dyn Read) -> Result<Listed<T>, ListError> {
    let plural = T::PLURAL;
    let mut bytes = Vec::new();
    input.take(LIMIT + 1).read_to_end(&mut bytes).map_err(|error| ListError::Input(plural, error))?;
    if bytes.len() as u64 > LIMIT {
        return Err(ListError::TooLarge(plural));
    }
    if bytes.trim_ascii().is_empty() {
        return Err(ListError::Nothing);
    }
    let parse = |error| ListError::Parse(plural, error);
    let shape = |kind: &str| {
        let kind: String = kind.chars().take(64).collect();
        let shown =
            if kind.is_empty() { "an object without kind".to_owned() } else { format!("kind {kind:?}") };
        ListError::Shape(plural, shown)
    };
    let head: Head = serde_json::from_slice(&bytes).map_err(parse)?;
    let named = head.kind.strip_suffix("List") == Some(T::KIND);
    match (head.kind.as_str(), &head.items) {
        (kind, None) if kind == T::KIND => {
            return Ok(Listed { items: vec![serde_json::from_slice(&bytes).map_err(parse)?], one: true });
        }
        (kind, Some(_)) if named || kind == "List" => {}
        (kind, _) => return Err(shape(kind)),
    }
    if !head.metadata.more.is_empty() || head.metadata.remaining.is_some_and(|count| count > 0) {
        return Err(ListError::Page(plural));
    }
    let Items { items } = serde_json::from_slice::<Items<T>>(&bytes).map_err(parse)?;
    // The items of a NamespaceList, as the API server itself writes it, have no kind.
    let is_other = |item: &&T| item.kind() != T::KIND && !(item.kind().is_empty() && named);
    match items.iter().find(is_other) {
        Some(other) => Err(shape(other.kind())),
        None if items.is_empty() => Err(ListError::Empty(plural)),
        None => Ok(Listed { items, one: false }),
    }
}
