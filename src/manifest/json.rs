//! JSON as nodes: one value after another, as `kubectl` reads them.
//!
//! serde_json hands out each value as a slice of the text; where it begins follows from its address. Every level of
//! nesting scans its text once more, which [`DEEPEST`] bounds.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::node::{Node, Position, Value};
use super::read::{DEEPEST, MOST_NODES, ReadError, Why, unique};

/// Every value in the text.
pub(super) fn documents(text: &str) -> Result<Vec<Node>, ReadError> {
    let lines = Lines::of(text);
    let mut count = 0;
    let mut found = Vec::new();
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
    while let Some(raw) = stream.next() {
        let raw = raw.map_err(|error| fault(&error))?;
        found.push(node(raw, &lines, 0, &mut count)?);
    }
    Ok(found)
}

/// Where the lines of a text begin.
struct Lines<'t> {
    text: &'t str,
    begins: Vec<usize>,
}

impl<'t> Lines<'t> {
    fn of(text: &'t str) -> Self {
        let after = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { text, begins: std::iter::once(0).chain(after).collect() }
    }

    /// The position of a slice of the text.
    fn of_slice(&self, slice: &str) -> Position {
        self.of_offset(slice.as_ptr().addr() - self.text.as_ptr().addr())
    }

    fn of_offset(&self, offset: usize) -> Position {
        let line = self.begins.partition_point(|begin| *begin <= offset);
        let begin = self.begins[line - 1];
        let column = self.text[begin..offset].chars().count() + 1;
        Position { line, column }
    }
}

/// What serde_json says of the text, which ends in its own line and column.
fn fault(error: &serde_json::Error) -> ReadError {
    let says = error.to_string();
    let says = says.split(" at line ").next().unwrap_or(&says).to_owned();
    ReadError { at: Position { line: error.line(), column: error.column() }, why: Why::Json(says) }
}

fn node(raw: &RawValue, lines: &Lines<'_>, depth: usize, count: &mut usize) -> Result<Node, ReadError> {
    let text = raw.get();
    let at = lines.of_slice(text);
    let fail = |why| ReadError { at, why };
    *count += 1;
    if *count > MOST_NODES {
        return Err(fail(Why::Large));
    }
    if depth > DEEPEST {
        return Err(fail(Why::Deep));
    }
    // The text was scanned, so it is JSON in form. A number, an escape or the nesting can still be wrong.
    let other = |error: serde_json::Error| fail(fault(&error).why);
    let value = match text.as_bytes().first() {
        Some(b'{') => {
            let entries: Entries<'_> = serde_json::from_str(text).map_err(other)?;
            let mut map = Vec::with_capacity(entries.0.len());
            for (key, raw) in entries.0 {
                map.push((key, node(raw, lines, depth + 1, count)?));
            }
            unique(&map)?;
            Value::Map(map)
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text).map_err(other)?;
            let items: Result<_, _> =
                items.into_iter().map(|raw| node(raw, lines, depth + 1, count)).collect();
            Value::List(items?)
        }
        Some(b'"') => Value::String(serde_json::from_str(text).map_err(other)?),
        Some(b't') => Value::Bool(true),
        Some(b'f') => Value::Bool(false),
        Some(b'n') => Value::Null,
        _ => Value::Number(serde_json::from_str(text).map_err(other)?),
    };
    Ok(Node { at, value })
}

/// The entries of an object, each of them: a map of serde_json keeps the last of two equal keys and says nothing.
struct Entries<'t>(Vec<(String, &'t RawValue)>);

impl<'de: 't, 't> Deserialize<'de> for Entries<'t> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut all = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    all.push(entry);
                }
                Ok(all)
            }
        }
        deserializer.deserialize_map(All).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::super::node::Position;
    use super::documents;

    #[test]
    fn every_value_knows_its_line() {
        let text = "{\"a\": [1, \"\u{fc}\",\n {\"b\": -2.5e1}]}\n\n[null]\n";
        let found = documents(text).unwrap();
        assert_eq!(found.len(), 2);
        let at = |line, column| Position { line, column };
        let items = found[0].get("a").unwrap().items().unwrap();
        let places = [found[0].at, items[0].at, items[1].at, items[2].at, items[2].get("b").unwrap().at];
        assert_eq!(places, [at(1, 1), at(1, 8), at(1, 11), at(2, 2), at(2, 8)]);
        assert_eq!(found[1].at, at(4, 1));
    }

    #[test]
    fn what_is_no_json_names_its_line() {
        let deep = "[".repeat(120);
        let rows = [
            ("{\"a\": 1,\n \"a\": 2}", "2:7: the key \"a\" occurs twice"),
            ("{\"a\": 1,\n \"b\": }", "2:7: expected value"),
            ("{\"a\": [1,", "1:9: EOF while parsing a value"),
            ("{\"a\": 1}\n}", "2:1: expected value"),
            ("{\"a\": \"\\ud800\"}", "1:7: unexpected end of hex escape"),
            ("{\"a\": 1e999}", "1:7: number out of range"),
            (&deep, "1:"),
        ];
        for (text, expected) in rows {
            let error = documents(text).expect_err(text);
            let says = format!("{}:{}: {}", error.at.line, error.at.column, error.why);
            assert!(says.starts_with(expected), "{text}: {says}");
        }
    }
}
