//! Reads the TOML files of CRI-O and podman, with the place of a fault.

use std::path::Path;

use toml_edit::{Document, DocumentMut, TableLike};

use super::super::PlanError;
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

/// A table of a document, by its path; `None` where it is not there.
pub(super) fn table<'a>(document: &'a DocumentMut, path: &[&str]) -> Option<&'a dyn TableLike> {
    path.iter().try_fold(document.as_table() as &dyn TableLike, |table, key| table.get(key)?.as_table_like())
}
