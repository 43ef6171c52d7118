//! Edits a TOML file by cutting and pasting its text. Whatever is not set or removed here stays byte for byte: quoting,
//! order, comments, line ends, a byte order mark, a last line without an end.
//!
//! What `remove` takes out is exactly what `set` put in, so that the second undoes the first.

use std::ops::Range;
use std::path::{Path, PathBuf};

use toml_edit::{Array, Document, Item, Key, Table, Value};

use crate::install::PlanError;

const BOM: &str = "\u{feff}";

/// A TOML file that can be changed.
#[derive(Clone, Debug)]
pub(super) struct File {
    path: PathBuf,
    bom: bool,
    /// The text behind the byte order mark, and where each header, key and value is in it.
    document: Document<String>,
}

impl File {
    /// Parses a file.
    pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Self, PlanError> {
        let malformed = |cause| PlanError::Malformed { path: path.to_owned(), cause };
        let text = std::str::from_utf8(bytes)
            .map_err(|error| malformed(format!("it is not UTF-8 from byte {} on", error.valid_up_to())))?;
        let bare = text.strip_prefix(BOM);
        let (bom, text) = (bare.is_some(), bare.unwrap_or(text));
        let document = Document::parse(text.to_owned())
            .map_err(|error| malformed(place(text, error.span(), error.message())))?;
        Ok(Self { path: path.to_owned(), bom, document })
    }

    /// The bytes of the file.
    pub(super) fn render(&self) -> Vec<u8> {
        let bom = if self.bom { BOM } else { "" };
        [bom, self.text()].concat().into_bytes()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether nothing is set at all.
    pub(super) fn is_empty(&self) -> bool {
        self.document.as_table().is_empty()
    }

    /// What is at a key, whatever it is.
    pub(super) fn get(&self, keys: &[&str]) -> Option<&Item> {
        keys.iter().try_fold(self.document.as_item(), |item, key| item.as_table_like()?.get(key))
    }

    /// The line of the text in which a byte is, from 1.
    pub(super) fn line_of(&self, at: usize) -> usize {
        self.text().get(..at).unwrap_or_default().matches('\n').count() + 1
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

    /// Sets a key; tables on the way that are not there come into being.
    pub(super) fn set(&mut self, keys: &[&str], value: impl Into<Value>) -> Result<(), PlanError> {
        let value = value.into().to_string();
        let wrong = || self.wrong(keys, "cannot be set, because one of the tables above it is not a table");
        if let Some(old) = self.get(keys) {
            let span = old.as_value().and_then(Value::span).ok_or_else(wrong)?;
            return self.splice(vec![(span, value)]);
        }
        // As deep as there are tables.
        let is_there = |depth: &usize| keys.get(..*depth).is_some_and(|keys| self.get(keys).is_some());
        let depth = (0..keys.len()).rev().find(is_there).unwrap_or_default();
        let (there, new) = keys.split_at(depth);
        let edit = match self.get(there) {
            Some(Item::Value(Value::InlineTable(_))) => self.new_member(there, new, &value),
            Some(Item::Table(table)) if table.is_dotted() || (new.len() == 1 && !table.is_implicit()) => {
                self.new_line(there, new, table, &value)
            }
            Some(Item::Table(table)) => self.new_table(there, new, table, &value),
            _ => None,
        };
        let edit = edit.ok_or_else(wrong)?;
        self.splice(vec![edit])
    }

    /// Adds words to a list that lacks them; the list comes into being where there is none.
    pub(super) fn add(&mut self, keys: &[&str], words: &[String]) -> Result<(), PlanError> {
        let there = self.strings(keys)?;
        if there.is_none() {
            return self.set(keys, words.iter().collect::<Array>());
        }
        for word in words.iter().filter(|word| !there.iter().flatten().any(|have| have == *word)) {
            let edits = self.get(keys).and_then(Item::as_array).and_then(|array| self.pushed(array, word));
            self.splice(edits.unwrap_or_default())?;
        }
        Ok(())
    }

    /// Takes a word out of a list.
    pub(super) fn take(&mut self, keys: &[&str], word: &str) -> Result<(), PlanError> {
        while let Some(edits) =
            self.get(keys).and_then(Item::as_array).and_then(|array| self.taken(array, word))
        {
            self.splice(edits)?;
        }
        Ok(())
    }

    /// Puts back what another file has at a key, which may be nothing.
    pub(super) fn put(&mut self, keys: &[&str], from: &Self) -> Result<(), PlanError> {
        let span = |file: &Self| file.get(keys).and_then(Item::as_value).and_then(Value::span);
        match (span(self), span(from).and_then(|span| from.text().get(span))) {
            (Some(here), Some(there)) => self.splice(vec![(here, there.to_owned())]),
            _ => self.remove(keys),
        }
    }

    /// Removes the header of a table if another file has none there; it stays while anything is set in the table.
    pub(super) fn hide_header(&mut self, keys: &[&str], from: &Self) -> Result<(), PlanError> {
        let is_implicit = |item: &Item| item.as_table().is_some_and(Table::is_implicit);
        let is_bare = |item: &Item| item.as_table().is_some_and(|table| table.get_values().is_empty());
        if from.get(keys).is_some_and(is_implicit) && self.get(keys).is_some_and(is_bare) {
            return self.cut_header(keys);
        }
        Ok(())
    }

    /// Removes a key. Of a table what is set in it, and its header; not the tables below it that have their own.
    pub(super) fn remove(&mut self, keys: &[&str]) -> Result<(), PlanError> {
        while let Some(cut) = self.get(keys).and_then(|item| self.first_cut(keys, item)) {
            self.splice(vec![(cut, String::new())])?;
        }
        self.cut_header(keys)
    }

    /// What is wrong with a key.
    pub(super) fn wrong(&self, keys: &[&str], what: &str) -> PlanError {
        PlanError::Malformed { path: self.path.clone(), cause: format!("{} {what}", name(keys)) }
    }

    /// The text without the byte order mark.
    fn text(&self) -> &str {
        self.document.raw()
    }

    /// Replaces pieces of the text, which do not overlap.
    fn splice(&mut self, mut edits: Vec<(Range<usize>, String)>) -> Result<(), PlanError> {
        edits.sort_by_key(|(at, _)| at.start);
        let mut text = self.text().to_owned();
        for (at, new) in edits.iter().rev() {
            if text.get(at.clone()).is_some() {
                text.replace_range(at.clone(), new);
            }
        }
        // Never a file that the engine could not read.
        self.document = Document::parse(text).map_err(|error| PlanError::Unsupported {
            what: format!(
                "{} is written in a way that cannot be edited in place ({}, with {:?} in it)",
                self.path.display(),
                error.message().lines().next().unwrap_or_default(),
                edits.iter().map(|(_, new)| new.trim()).collect::<String>()
            ),
            instead: "write the tables of its handlers with a header each first: [plugins. … .runtimes.NAME]"
                .to_owned(),
        })?;
        Ok(())
    }

    /// A key more in the tables of braces at `there`.
    fn new_member(&self, there: &[&str], new: &[&str], value: &str) -> Option<(Range<usize>, String)> {
        let depth = self.braces(there)?;
        let table = self.get(there.get(..depth)?)?.as_inline_table()?;
        let (first, inner) = new.split_first()?;
        let value =
            inner.iter().rfold(value.to_owned(), |value, key| format!("{{ {} = {value} }}", spelled(key)));
        let key = self.spell(there, depth).chain([spelled(first)]).collect::<Vec<_>>().join(".");
        let last = table.get_values().iter().filter_map(|(_, value)| value.span()).map(|span| span.end).max();
        let at = last.unwrap_or(table.span()?.start + 1);
        let lead = if last.is_some() {
            ", "
        } else if self.text().get(at..)?.starts_with([' ', '\t']) {
            " "
        } else {
            ""
        };
        Some((at..at, format!("{lead}{key} = {value}")))
    }

    /// A line more in the table at `there`, which has a header or is part of dotted keys.
    fn new_line(
        &self,
        there: &[&str],
        new: &[&str],
        table: &Table,
        value: &str,
    ) -> Option<(Range<usize>, String)> {
        let is_headed = |depth: &usize| {
            let item = there.get(..*depth).and_then(|keys| self.get(keys));
            item.and_then(Item::as_table).is_some_and(|table| !table.is_dotted())
        };
        let depth = (0..=there.len()).rev().find(is_headed)?;
        let keys: Vec<String> = self.spell(there, depth).chain(new.iter().map(|key| spelled(key))).collect();
        let last =
            table.get_values().iter().filter_map(|(_, value)| value.span()).max_by_key(|span| span.end);
        let line = format!("{} = {value}", keys.join("."));
        match last {
            Some(last) => Some(self.below(last.end, &[&format!("{}{line}", self.indent(last.start))])),
            None if there.is_empty() && Self::statements(table).is_empty() => {
                Some(self.below(self.text().len(), &[&line]))
            }
            // Above all tables.
            None if there.is_empty() => Some((0..0, format!("{line}{}", self.newline(0)))),
            None => {
                let header = table.span()?;
                let indent = deeper(self.indent(header.start), 1);
                Some(self.below(header.end, &[&format!("{indent}{line}")]))
            }
        }
    }

    /// A table with a header of its own, and the first key in it.
    fn new_table(
        &self,
        there: &[&str],
        new: &[&str],
        table: &Table,
        value: &str,
    ) -> Option<(Range<usize>, String)> {
        let (last, tables) = new.split_last()?;
        let path: Vec<String> = self.spell(there, 0).chain(tables.iter().map(|key| spelled(key))).collect();
        let inside = Self::statements(table);
        let after = if tables.is_empty() {
            // Before the tables in it, which are there already.
            let first = inside.iter().map(|span| span.start).min()?;
            let all = Self::statements(self.document.as_table());
            all.iter().map(|span| span.end).filter(|end| *end <= first).max()
        } else {
            Some(inside.iter().map(|span| span.end).max().unwrap_or(self.text().len()))
        };
        let header = table.span().filter(|_| !table.is_implicit() && !there.is_empty());
        let indent = deeper(header.map_or("", |header| self.indent(header.start)), tables.len());
        let header = format!("{indent}[{}]", path.join("."));
        let line = format!("{}{} = {value}", deeper(&indent, 1), spelled(last));
        let Some(after) = after else {
            let newline = self.newline(0);
            return Some((0..0, format!("{header}{newline}{line}{newline}")));
        };
        let lines = [String::new(), header, line];
        let lead = usize::from(self.text().is_empty());
        Some(self.below(after, &lines.iter().skip(lead).map(String::as_str).collect::<Vec<_>>()))
    }

    /// New lines below the one in which something ends.
    fn below(&self, end: usize, lines: &[&str]) -> (Range<usize>, String) {
        let text = self.text();
        let newline = self.newline(end);
        let rest = text.get(end..).unwrap_or_default();
        let is_open = !text.is_empty() && !text.ends_with('\n');
        match rest.find('\n') {
            Some(at) => (end + at + 1..end + at + 1, lines.join(newline) + newline),
            // The last line has no end, and the new last one has none either.
            None if is_open => (text.len()..text.len(), format!("{newline}{}", lines.join(newline))),
            None => (text.len()..text.len(), lines.join(newline) + newline),
        }
    }

    /// A word at the end of a list, in the manner of the one before it.
    fn pushed(&self, array: &Array, word: &str) -> Option<Vec<(Range<usize>, String)>> {
        let word = Value::from(word).to_string();
        let Some(last) = array.iter().filter_map(Value::span).last() else {
            let open = array.span()?.start + 1;
            return Some(vec![(open..open, word)]);
        };
        let lead = self.lead(last.start);
        let comma = self.comma(last.end);
        if !lead.contains('\n') {
            return Some(match comma {
                Some(comma) => vec![(comma + 1..comma + 1, format!(" {word},"))],
                None => vec![(last.end..last.end, format!(", {word}"))],
            });
        }
        // Behind what is said of the last word, unless the list ends in its line.
        let from = comma.map_or(last.end, |comma| comma + 1);
        let line = self.text().get(from..)?.split(['\n', '\r']).next()?;
        let is_closed = array.span()?.end <= from + line.len();
        let at = if is_closed { from } else { from + line.len() };
        Some(match comma {
            Some(_) => vec![(at..at, format!("{lead}{word},"))],
            None if at == last.end => vec![(at..at, format!(",{lead}{word}"))],
            None => vec![(last.end..last.end, ",".to_owned()), (at..at, format!("{lead}{word}"))],
        })
    }

    /// The cuts that take a word out of a list; `None` if it is not there.
    fn taken(&self, array: &Array, word: &str) -> Option<Vec<(Range<usize>, String)>> {
        let spans: Vec<Range<usize>> = array.iter().filter_map(Value::span).collect();
        let index = array.iter().position(|value| value.as_str() == Some(word))?;
        let span = spans.get(index)?.clone();
        let before = index.checked_sub(1).and_then(|index| spans.get(index));
        let lead = span.start - self.lead(span.start).len();
        let cut = |range: Range<usize>| (range, String::new());
        Some(match (self.comma(span.end), before) {
            (Some(comma), Some(_)) => vec![cut(lead..comma + 1)],
            (Some(comma), None) if self.lead(span.start).contains('\n') => vec![cut(lead..comma + 1)],
            (Some(comma), None) => {
                let rest = self.text().get(comma + 1..)?;
                let spaces = rest.len() - rest.trim_start_matches([' ', '\t']).len();
                vec![cut(span.start..comma + 1 + spaces)]
            }
            (None, Some(before)) => {
                let comma = self.comma(before.end)?;
                vec![cut(comma..comma + 1), cut(lead.max(comma + 1)..span.end)]
            }
            (None, None) => vec![cut(span)],
        })
    }

    /// What to cut first of what is at a key, but for a header.
    fn first_cut(&self, keys: &[&str], item: &Item) -> Option<Range<usize>> {
        let span = match item {
            Item::Value(Value::InlineTable(table)) if table.is_dotted() => {
                table.get_values().first()?.1.span()?
            }
            Item::Value(value) => value.span()?,
            Item::Table(table) => table.get_values().first()?.1.span()?,
            _ => return None,
        };
        let (_, above) = keys.split_last()?;
        match self.braces(above) {
            Some(depth) => {
                let table = self.get(above.get(..depth)?)?.as_inline_table()?;
                self.member(table.span()?.start + 1, &table.get_values(), &span)
            }
            None => Some(self.line(span, false)),
        }
    }

    /// A member of a table of braces with the comma that goes with it.
    fn member(
        &self,
        open: usize,
        values: &[(Vec<&Key>, &Value)],
        span: &Range<usize>,
    ) -> Option<Range<usize>> {
        let mut spans: Vec<Range<usize>> = values.iter().filter_map(|(_, value)| value.span()).collect();
        spans.sort_by_key(|span| span.start);
        let index = spans.iter().position(|own| own == span)?;
        if let Some(before) = index.checked_sub(1).and_then(|index| spans.get(index)) {
            return Some(before.end..span.end);
        }
        let rest = self.text().get(open..)?;
        match self.comma(span.end) {
            Some(comma) => {
                let spaces = |text: &str| text.len() - text.trim_start_matches([' ', '\t']).len();
                let behind = self.text().get(comma + 1..)?;
                Some(open + spaces(rest)..comma + 1 + spaces(behind))
            }
            None => Some(open..span.end),
        }
    }

    /// Removes a header, and the empty line above it.
    fn cut_header(&mut self, keys: &[&str]) -> Result<(), PlanError> {
        let table = self.get(keys).and_then(Item::as_table);
        let header = table.filter(|table| !table.is_implicit() && !table.is_dotted()).and_then(Table::span);
        let Some(header) = header.filter(|_| !keys.is_empty()) else { return Ok(()) };
        let cut = self.line(header, true);
        self.splice(vec![(cut, String::new())])
    }

    /// The whole lines in which something is; with the empty line above it, if that is asked for and there is one.
    fn line(&self, span: Range<usize>, with_empty: bool) -> Range<usize> {
        let text = self.text();
        let before = text.get(..span.start).unwrap_or_default();
        let mut start = before.rfind('\n').map_or(0, |at| at + 1);
        let end = text.get(span.end..).and_then(|rest| rest.find('\n')).map(|at| span.end + at + 1);
        let back = |start: usize| {
            let before = text.get(..start).unwrap_or_default();
            let cut = before.strip_suffix('\n').map(|cut| cut.strip_suffix('\r').unwrap_or(cut));
            cut.map_or(start, str::len)
        };
        if end.is_none() {
            start = back(start);
        }
        let above = text.get(..back(start)).unwrap_or_default();
        // Of the last line the end of the one before it is cut already.
        let is_empty = match end {
            Some(_) => above.ends_with('\n'),
            None => text.get(..start).is_some_and(|above| above.ends_with('\n')),
        };
        if with_empty && is_empty {
            start = back(start);
        }
        start..end.unwrap_or(text.len())
    }

    /// White space and line ends before something.
    fn lead(&self, at: usize) -> &str {
        let before = self.text().get(..at).unwrap_or_default();
        let spaces = before.trim_end_matches([' ', '\t']);
        let line = spaces.strip_suffix('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
        before.get(line.unwrap_or(spaces).len()..).unwrap_or_default()
    }

    /// Where the comma is that follows a value, if there is one.
    fn comma(&self, end: usize) -> Option<usize> {
        let mut rest = self.text().get(end..)?.trim_start();
        while let Some(comment) = rest.strip_prefix('#') {
            rest = comment.find('\n').and_then(|at| comment.get(at..)).unwrap_or_default().trim_start();
        }
        rest.starts_with(',').then(|| self.text().len() - rest.len())
    }

    /// How many of these keys lead to the innermost table of braces, if there is one on the way.
    fn braces(&self, keys: &[&str]) -> Option<usize> {
        let is_one = |depth: &usize| {
            let item = keys.get(..*depth).and_then(|keys| self.get(keys));
            item.and_then(Item::as_inline_table).is_some_and(|table| !table.is_dotted())
        };
        (1..=keys.len()).rev().find(is_one)
    }

    /// The keys from a depth on as the file spells them.
    fn spell<'a>(&'a self, keys: &'a [&'a str], depth: usize) -> impl Iterator<Item = String> + 'a {
        let own = move |index: usize| {
            let (above, key) = (keys.get(..index)?, keys.get(index)?);
            let (key, _) = self.get(above)?.as_table_like()?.get_key_value(key)?;
            self.text().get(key.span()?).map(str::to_owned)
        };
        let names = keys.iter().enumerate().skip(depth);
        names.map(move |(index, key)| own(index).unwrap_or_else(|| spelled(key)))
    }

    /// Where the headers and the values of a table are, and of those in it.
    fn statements(table: &Table) -> Vec<Range<usize>> {
        fn collect(table: &Table, found: &mut Vec<Range<usize>>) {
            found.extend(table.get_values().iter().filter_map(|(_, value)| value.span()));
            inner(table, found);
        }
        fn inner(table: &Table, found: &mut Vec<Range<usize>>) {
            for (_, item) in table {
                match item {
                    Item::Table(table) if table.is_dotted() => inner(table, found),
                    Item::Table(table) => {
                        found.extend(table.span().filter(|_| !table.is_implicit()));
                        collect(table, found);
                    }
                    Item::ArrayOfTables(tables) => {
                        for table in tables {
                            found.extend(table.span());
                            collect(table, found);
                        }
                    }
                    _ => {}
                }
            }
        }
        let mut found = Vec::new();
        found.extend(table.span().filter(|span| !table.is_implicit() && !span.is_empty()));
        collect(table, &mut found);
        found
    }

    /// The white space at the beginning of a line.
    fn indent(&self, at: usize) -> &str {
        let before = self.text().get(..at).unwrap_or_default();
        let line = before.rsplit('\n').next().unwrap_or_default();
        line.get(..line.len() - line.trim_start_matches([' ', '\t']).len()).unwrap_or_default()
    }

    /// How lines end around a place.
    fn newline(&self, at: usize) -> &'static str {
        let text = self.text();
        let above = text.get(..at).and_then(|above| above.rfind('\n'));
        let end = above.or_else(|| text.find('\n')).and_then(|end| text.get(..end));
        if end.is_some_and(|line| line.ends_with('\r')) { "\r\n" } else { "\n" }
    }
}

/// A dotted key as people write it.
pub(super) fn name(keys: &[&str]) -> String {
    keys.iter().map(|key| spelled(key)).collect::<Vec<_>>().join(".")
}

/// A key as it is written where the file does not have it yet.
fn spelled(key: &str) -> String {
    let is_bare =
        !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if is_bare { key.to_owned() } else { Value::from(key).to_string() }
}

/// Some levels further in, in files that are indented, as generated ones are.
fn deeper(indent: &str, levels: usize) -> String {
    if indent.is_empty() { String::new() } else { format!("{indent}{}", "  ".repeat(levels)) }
}

/// Line, column and message of a parser's error, in one line.
fn place(text: &str, span: Option<Range<usize>>, message: &str) -> String {
    let before = span.and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("line {line}, column {column}: {message}")
}
