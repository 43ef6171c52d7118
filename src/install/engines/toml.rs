//! Reads the TOML files of CRI-O and podman, with the place of a fault. Both decode them with BurntSushi/toml into structs, and
//! that takes a key in any case (`unifyStruct` in `decode.go`).

use std::path::Path;

use toml_edit::{Document, DocumentMut, Item, TableLike};

use super::super::PlanError;
use super::is_same_key;
use crate::node::host::Node;

/// A file's document; `None` where there is no such file.
pub(super) fn read(node: &dyn Node, path: &Path) -> Result<Option<DocumentMut>, PlanError> {
    node.read(path)?.map(|bytes| parse(path, &bytes)).transpose()
}

/// A document out of the bytes of a file.
pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<DocumentMut, PlanError> {
    let malformed = |cause| PlanError::Malformed { path: path.to_owned(), cause };
    let text = str::from_utf8(bytes).map_err(|error| malformed(error.to_string()))?;
    Document::parse(text).map(Document::into_mut).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.split('\n').count();
        let column = before.chars().rev().take_while(|&c| c != '\n').count().saturating_add(1);
        malformed(format!("line {line}, column {column}: {}", error.message()))
    })
}

/// A table of a file's document, by its path; `None` where it is not there.
pub(super) fn table<'a>(
    file: &Path,
    document: &'a DocumentMut,
    path: &[&str],
) -> Result<Option<&'a dyn TableLike>, PlanError> {
    let mut table: &dyn TableLike = document.as_table();
    for key in path {
        let Some(next) = get(file, table, key)?.and_then(Item::as_table_like) else { return Ok(None) };
        table = next;
    }
    Ok(Some(table))
}

/// The value of a key of a table in a file. The engine would also take a key that differs in case, and of both one by chance:
/// such a key is refused.
pub(super) fn get<'a>(
    file: &Path,
    table: &'a dyn TableLike,
    key: &str,
) -> Result<Option<&'a Item>, PlanError> {
    match table.iter().find(|(other, _)| *other != key && is_same_key(other, key)) {
        Some((other, _)) => Err(PlanError::Unsupported {
            what: format!("{} has the key {other:?}, which the engine takes for {key}", file.display()),
            instead: format!("write it as {key}"),
        }),
        None => Ok(table.get(key)),
    }
}
