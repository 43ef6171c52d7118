//! Edits a TOML file and leaves everything else in it byte for byte as it was.

use std::path::{Path, PathBuf};

use toml_edit::{Array, DocumentMut, InlineTable, Item, Key, RawString, Table, Value};

use crate::install::PlanError;

const BOM: &str = "\u{feff}";

/// A TOML file that can be changed.
#[derive(Clone, Debug)]
pub(super) struct File {
    path: PathBuf,
    document: DocumentMut,
    /// What the parser does not keep.
    form: Form,
}

/// How a file's text differs from the one that the parser writes.
#[derive(Clone, Copy, Debug)]
struct Form {
    bom: bool,
    crlf: bool,
    /// The last line has no end.
    open: bool,
}

impl File {
    /// Understands a file, if all of its text can be kept.
    pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Self, PlanError> {
        let malformed = |cause| PlanError::Malformed { path: path.to_owned(), cause };
        let text = std::str::from_utf8(bytes)
            .map_err(|error| malformed(format!("it is not UTF-8 from byte {} on", error.valid_up_to())))?;
        let bare = text.strip_prefix(BOM).unwrap_or(text);
        let form = Form {
            bom: bare.len() != text.len(),
            crlf: bare.contains("\r\n"),
            open: !bare.is_empty() && !bare.ends_with('\n'),
        };
        let mut normal = if form.crlf { bare.replace("\r\n", "\n") } else { bare.to_owned() };
        if form.open {
            normal.push('\n');
        }
        let document: DocumentMut = normal.parse().map_err(|error: toml_edit::TomlError| {
            malformed(place(&normal, error.span(), error.message()))
        })?;
        let file = Self { path: path.to_owned(), document, form };
        if file.render() != bytes {
            return Err(PlanError::Unsupported {
                what: format!("{} has lines that end in CR LF and lines that end in LF", path.display()),
                instead: "give all lines the same ending first, then run this again".to_owned(),
            });
        }
        Ok(file)
    }

    /// The bytes of the file.
    pub(super) fn render(&self) -> Vec<u8> {
        let mut text = self.document.to_string();
        if self.form.open && text.ends_with('\n') {
            text.pop();
        }
        if self.form.crlf {
            text = text.replace('\n', "\r\n");
        }
        if self.form.bom {
            text.insert_str(0, BOM);
        }
        text.into_bytes()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether nothing is set at all.
    pub(super) fn is_empty(&self) -> bool {
        self.document.is_empty()
    }

    /// What stands at a key, whatever it is.
    pub(super) fn get(&self, keys: &[&str]) -> Option<&Item> {
        keys.iter().try_fold(self.document.as_item(), |item, key| item.as_table_like()?.get(key))
    }

    /// The keys of a table; none if there is no such table.
    pub(super) fn keys(&self, keys: &[&str]) -> Result<Vec<String>, PlanError> {
        match self.get(keys) {
            None => Ok(Vec::new()),
            Some(item) => match item.as_table_like() {
                Some(table) => Ok(table.iter().map(|(key, _)| key.to_owned()).collect()),
                None => Err(self.wrong(keys, "must be a table")),
            },
        }
    }

    /// A string; `None` where the key is not set.
    pub(super) fn string(&self, keys: &[&str]) -> Result<Option<&str>, PlanError> {
        match self.get(keys) {
            None => Ok(None),
            Some(item) => item.as_str().map(Some).ok_or_else(|| self.wrong(keys, "must be a string")),
        }
    }

    /// A list of strings; `None` where the key is not set.
    pub(super) fn strings(&self, keys: &[&str]) -> Result<Option<Vec<String>>, PlanError> {
        let Some(item) = self.get(keys) else { return Ok(None) };
        let texts = |array: &Array| array.iter().map(|value| Some(value.as_str()?.to_owned())).collect();
        let list: Option<Vec<String>> = item.as_array().and_then(texts);
        list.map(Some).ok_or_else(|| self.wrong(keys, "must be a list of strings"))
    }

    /// The file's `version`; `None` where it has none.
    pub(super) fn version(&self) -> Result<Option<i64>, PlanError> {
        match self.get(&["version"]) {
            None => Ok(None),
            Some(item) => {
                item.as_integer().map(Some).ok_or_else(|| self.wrong(&["version"], "must be a number"))
            }
        }
    }

    /// Gives a file its first key, below its comments.
    pub(super) fn set_version(&mut self, version: i64) -> Result<(), PlanError> {
        if !self.is_empty() {
            return self.set(&["version"], version.into());
        }
        let comments = self.document.trailing().as_str().unwrap_or_default().to_owned();
        let mut key = Key::new("version");
        key.leaf_decor_mut().set_prefix(comments);
        self.document.insert_formatted(&key, Item::Value(version.into()));
        self.document.set_trailing("");
        Ok(())
    }

    /// Takes the version away again; the comments above it stay.
    pub(super) fn remove_version(&mut self) {
        let comments = self.document.key("version").map(|key| text(key.leaf_decor().prefix()).to_owned());
        self.document.remove("version");
        if let Some(comments) = comments.filter(|comments| comments.contains('#')) {
            self.document.decor_mut().set_prefix(comments);
        }
    }

    /// Sets a key; tables on the way that are not there come into being.
    pub(super) fn set(&mut self, keys: &[&str], mut value: Value) -> Result<(), PlanError> {
        let wrong = self.wrong(keys, "cannot be set, because one of the tables above it is not a table");
        let Some((last, tables)) = keys.split_last() else { return Ok(()) };
        let Some(item) = descend(self.document.as_item_mut(), tables) else { return Err(wrong) };
        let indent = indent(item);
        let Some(table) = item.as_table_like_mut() else { return Err(wrong) };
        if let Some(Item::Value(old)) = table.get_mut(last) {
            *value.decor_mut() = old.decor().clone();
            *old = value;
            return Ok(());
        }
        table.insert(last, Item::Value(value));
        if let Some(mut key) = table.key_mut(last).filter(|_| !indent.is_empty()) {
            key.leaf_decor_mut().set_prefix(indent);
        }
        Ok(())
    }

    /// Adds words to a list that lacks them; the list comes into being where there is none.
    pub(super) fn add(&mut self, keys: &[&str], words: &[String]) -> Result<(), PlanError> {
        let there = self.strings(keys)?;
        let Some(array) = self.get_mut(keys).and_then(Item::as_array_mut) else {
            return self.set(keys, words.iter().collect::<Array>().into());
        };
        for word in words.iter().filter(|word| !there.iter().flatten().any(|have| have == *word)) {
            push(array, word);
        }
        Ok(())
    }

    /// Takes a word out of a list.
    pub(super) fn take(&mut self, keys: &[&str], word: &str) {
        if let Some(array) = self.get_mut(keys).and_then(Item::as_array_mut) {
            let first_is_it = array.get(0).and_then(Value::as_str) == Some(word);
            array.retain(|value| value.as_str() != Some(word));
            // The new first one has the space that stood behind a comma.
            if let Some(first) =
                array.get_mut(0).filter(|first| first_is_it && text(first.decor().prefix()) == " ")
            {
                first.decor_mut().set_prefix("");
            }
        }
    }

    /// Puts back what another file has at a key, which may be nothing.
    pub(super) fn put(&mut self, keys: &[&str], from: &Self) {
        match (self.get_mut(keys), from.get(keys)) {
            (Some(here), Some(there)) => *here = there.clone(),
            _ => self.remove(keys),
        }
    }

    /// Takes the header of a table away if another file has none there; it stays while anything is set in the table.
    pub(super) fn hide_header(&mut self, keys: &[&str], from: &Self) {
        let implicit = |item: &Item| item.as_table().is_some_and(Table::is_implicit);
        if from.get(keys).is_some_and(implicit)
            && let Some(table) = self.get_mut(keys).and_then(Item::as_table_mut)
        {
            table.set_implicit(true);
        }
    }

    /// Removes a key.
    pub(super) fn remove(&mut self, keys: &[&str]) {
        let Some((last, tables)) = keys.split_last() else { return };
        if let Some(table) = self.get_mut(tables).and_then(Item::as_table_like_mut) {
            table.remove(last);
        }
    }

    fn get_mut(&mut self, keys: &[&str]) -> Option<&mut Item> {
        keys.iter().try_fold(self.document.as_item_mut(), |item, key| item.as_table_like_mut()?.get_mut(key))
    }

    /// What is wrong with a key.
    pub(super) fn wrong(&self, keys: &[&str], what: &str) -> PlanError {
        PlanError::Malformed { path: self.path.clone(), cause: format!("{} {what}", name(keys)) }
    }
}

/// A dotted key as people write it.
pub(super) fn name(keys: &[&str]) -> String {
    let bare = |key: &str| key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    let parts = keys.iter().map(|key| if bare(key) { (*key).to_owned() } else { format!("{key:?}") });
    parts.collect::<Vec<_>>().join(".")
}

/// Line, column and message of a parser's error, in one line.
fn place(text: &str, span: Option<std::ops::Range<usize>>, message: &str) -> String {
    let before = span.and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("line {line}, column {column}: {message}")
}

/// The table at a path, made where it is not there, in the manner of the table it is in.
fn descend<'a>(item: &'a mut Item, keys: &[&str]) -> Option<&'a mut Item> {
    let Some((first, rest)) = keys.split_first() else { return Some(item) };
    let blank = match &*item {
        Item::Table(parent) => Item::Table(child(parent)),
        _ => Item::Value(Value::InlineTable(InlineTable::new())),
    };
    let table = item.as_table_like_mut()?;
    if !table.contains_key(first) {
        table.insert(first, blank);
    }
    descend(table.get_mut(first)?, rest)
}

/// A new table in another. It has no header of its own until something is set in it.
fn child(parent: &Table) -> Table {
    let mut table = Table::new();
    table.set_implicit(true);
    if parent.is_dotted() {
        table.set_dotted(true);
        return table;
    }
    let prefix = deeper(column(parent.decor().prefix()));
    table.decor_mut().set_prefix(format!("\n{prefix}"));
    table
}

/// The white space before the keys of a table.
fn indent(item: &Item) -> String {
    let Some(table) = item.as_table_like() else { return String::new() };
    let first = table.iter().find(|(_, item)| item.is_value()).and_then(|(key, _)| table.key(key));
    match (first, item) {
        (Some(key), _) => column(key.leaf_decor().prefix()).to_owned(),
        (None, Item::Table(table)) => deeper(column(table.decor().prefix())),
        _ => String::new(),
    }
}

/// One level further in, in files that are indented, as generated ones are.
fn deeper(column: &str) -> String {
    if column.is_empty() { String::new() } else { format!("{column}  ") }
}

/// The white space with which a prefix of comments and empty lines ends.
fn column(prefix: Option<&RawString>) -> &str {
    let line = text(prefix).rsplit('\n').next().unwrap_or_default();
    if line.chars().all(char::is_whitespace) { line } else { "" }
}

fn text(raw: Option<&RawString>) -> &str {
    raw.and_then(RawString::as_str).unwrap_or_default()
}

/// Puts a word at the end of a list, in the manner of the one before it.
fn push(array: &mut Array, word: &str) {
    let mut value = Value::from(word);
    let comma = array.trailing_comma();
    let trailing = text(Some(array.trailing())).to_owned();
    let count = array.len();
    if let Some(last) = count.checked_sub(1).and_then(|index| array.get_mut(index)) {
        let prefix = last.decor().prefix();
        let lines = text(prefix).contains('\n');
        let before = if lines { format!("\n{}", column(prefix)) } else { " ".to_owned() };
        let after = if comma { trailing } else { text(last.decor().suffix()).to_owned() };
        // What is said of the last word stays with it.
        let (before, after) = match after.rsplit_once('\n') {
            Some((comment, end)) if comment.contains('#') => {
                (format!("{comment}{before}"), format!("\n{end}"))
            }
            _ => (before, after),
        };
        value.decor_mut().set_prefix(before);
        if comma {
            array.set_trailing(after);
        } else {
            last.decor_mut().set_suffix("");
            value.decor_mut().set_suffix(after);
        }
    }
    array.push_formatted(value);
}
