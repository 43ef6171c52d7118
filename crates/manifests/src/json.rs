//! JSON as nodes: one value after another, as `kubectl` reads them.
//!
//! serde_json tells where a mistake is, but not where a value begins. So the structure is read here, in one pass, and
//! strings and numbers are left to serde_json.

use serde_json::Number;

use super::node::{Node, Position, Value};
use super::read::{DEEPEST, ReadError, Why, unique};

/// Every value in the text.
pub(super) fn documents(text: &str, most: usize) -> Result<Vec<Node>, ReadError> {
    let mut reader = Reader { rest: text, at: Position { line: 1, column: 1 }, count: 0, most };
    let mut found = Vec::new();
    while reader.peek().is_some() {
        found.push(reader.node(0)?);
    }
    Ok(found)
}

struct Reader<'t> {
    rest: &'t str,
    /// Where the rest begins.
    at: Position,
    /// How many nodes were made.
    count: usize,
    /// How many there may be.
    most: usize,
}

impl<'t> Reader<'t> {
    /// Consumes so many bytes.
    fn take(&mut self, bytes: usize) -> &'t str {
        let (taken, rest) = self.rest.split_at(bytes);
        for c in taken.chars() {
            if c == '\n' {
                self.at = Position { line: self.at.line + 1, column: 1 };
            } else {
                self.at.column += 1;
            }
        }
        self.rest = rest;
        taken
    }

    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        let blank = self.rest.bytes().take_while(|byte| b" \t\r\n".contains(byte)).count();
        self.take(blank);
        self.rest.bytes().next()
    }

    /// Consumes the next byte that is no white space if it is this one.
    fn next_is(&mut self, expected: u8) -> bool {
        let is = self.peek() == Some(expected);
        if is {
            self.take(1);
        }
        is
    }

    fn expected(&self, what: &str) -> ReadError {
        let found = match self.rest.chars().next() {
            None => "the end of the text".to_owned(),
            Some(c) => format!("{:?}", c.to_string()),
        };
        ReadError { at: self.at, why: Why::Json(format!("expected {what}, found {found}")) }
    }

    fn node(&mut self, depth: usize) -> Result<Node, ReadError> {
        let first = self.peek();
        let at = self.at;
        self.count += 1;
        if self.count > self.most {
            return Err(ReadError { at, why: Why::Large(self.most) });
        }
        if depth > DEEPEST {
            return Err(ReadError { at, why: Why::Deep });
        }
        let value = match first {
            Some(b'{') => Value::Map(self.entries(depth)?),
            Some(b'[') => Value::List(self.items(depth)?),
            Some(b'"') => Value::String(self.string()?),
            _ => self.word()?,
        };
        Ok(Node { at, value })
    }

    fn entries(&mut self, depth: usize) -> Result<Vec<(String, Node)>, ReadError> {
        self.take(1);
        let mut entries = Vec::new();
        if self.next_is(b'}') {
            return Ok(entries);
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.expected("a key in double quotes"));
            }
            let at = self.at;
            let key = self.string()?;
            if !self.next_is(b':') {
                return Err(self.expected("\":\""));
            }
            let value = self.node(depth + 1)?;
            entries.push((key, Node { at, ..value }));
            if self.next_is(b'}') {
                unique(&entries)?;
                return Ok(entries);
            }
            if !self.next_is(b',') {
                return Err(self.expected("\",\" or \"}\""));
            }
        }
    }

    fn items(&mut self, depth: usize) -> Result<Vec<Node>, ReadError> {
        self.take(1);
        let mut items = Vec::new();
        if self.next_is(b']') {
            return Ok(items);
        }
        loop {
            items.push(self.node(depth + 1)?);
            if self.next_is(b']') {
                return Ok(items);
            }
            if !self.next_is(b',') {
                return Err(self.expected("\",\" or \"]\""));
            }
        }
    }

    fn string(&mut self) -> Result<String, ReadError> {
        let at = self.at;
        let mut is_escaped = false;
        let end = self.rest.bytes().skip(1).position(|byte| {
            let ends = byte == b'"' && !is_escaped;
            is_escaped = byte == b'\\' && !is_escaped;
            ends
        });
        let Some(end) = end else {
            return Err(ReadError { at, why: Why::Json("the string has no end".to_owned()) });
        };
        let text = self.take(end + "\"\"".len());
        serde_json::from_str(text).map_err(|error| ReadError { at, why: Why::Json(says(&error)) })
    }

    /// `true`, `false`, `null`, or a number.
    fn word(&mut self) -> Result<Value, ReadError> {
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-._".contains(byte);
        let length = self.rest.bytes().take_while(is_part).count();
        let word = self.rest.get(..length).unwrap_or_default();
        let value = match word {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            "null" => Value::Null,
            _ if word.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => {
                let number: Number = serde_json::from_str(word)
                    .map_err(|error| ReadError { at: self.at, why: Why::Json(says(&error)) })?;
                // serde_json reads a float to the last bit but one.
                let exact = if number.is_f64() { word.parse().ok().and_then(Number::from_f64) } else { None };
                Value::Number(exact.unwrap_or(number))
            }
            _ => return Err(self.expected("a value")),
        };
        self.take(length);
        Ok(value)
    }
}

/// What serde_json says of a scalar, without its position in it.
fn says(error: &serde_json::Error) -> String {
    let says = error.to_string();
    says.split(" at line ").next().unwrap_or(&says).to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::node::Position;
    use crate::read::MOST_NODES;

    fn documents(text: &str) -> Result<Vec<super::Node>, super::ReadError> {
        super::documents(text, MOST_NODES)
    }

    #[test]
    fn every_value_knows_its_line() {
        let text = "{\"a\": [1, \"\u{fc}\",\n {\"b\": -2.5e1}]}\n\n[null]\n";
        let found = documents(text).unwrap();
        assert_eq!(found.len(), 2);
        let at = |line, column| Position { line, column };
        let a = found[0].get("a").unwrap();
        let items = a.items().unwrap();
        let places =
            [found[0].at, a.at, items[0].at, items[1].at, items[2].at, items[2].get("b").unwrap().at];
        assert_eq!(places, [at(1, 1), at(1, 2), at(1, 8), at(1, 11), at(2, 2), at(2, 3)]);
        assert_eq!(found[1].at, at(4, 1));
    }

    #[test]
    fn what_is_no_json_names_its_line() {
        let deep = "[".repeat(120);
        let rows = [
            ("{\"a\": 1,\n \"a\": 2}", "2:2: the key \"a\" occurs twice"),
            ("{\"a\": 1,\n \"b\": }", "2:7: expected a value, found \"}\""),
            ("{\"a\": [1,", "1:10: expected a value, found the end of the text"),
            ("{\"a\": [1 2", "1:10: expected \",\" or \"]\", found \"2\""),
            ("{\"a\": 1}\n}", "2:1: expected a value, found \"}\""),
            ("{\"a\": 1,}", "1:9: expected a key in double quotes, found \"}\""),
            ("{a: 1}", "1:2: expected a key in double quotes, found \"a\""),
            ("{\"a\"; 1}", "1:5: expected \":\", found \";\""),
            ("{\"a\": 1; 2}", "1:8: expected \",\" or \"}\", found \";\""),
            ("{\"a\": \"b}\\\"", "1:7: the string has no end"),
            ("{\"a\": \"\\ud800\"}", "1:7: unexpected end of hex escape"),
            ("{\"a\": \"b\nc\"}", "1:7: control character"),
            ("{\"a\": 1e999}", "1:7: number out of range"),
            ("{\"a\": 01}", "1:7: invalid number"),
            ("{\"a\": True}", "1:7: expected a value, found \"T\""),
            ("{\"a\": \u{fc}}", "1:7: expected a value, found \"\u{fc}\""),
            (&deep, "1:102: more than 100 levels"),
        ];
        for (text, expected) in rows {
            let error = documents(text).expect_err(text).to_string();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }
}
