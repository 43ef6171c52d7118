//! Changes one value of a JSON text by cutting it out and inserting another, so that order, spelling and layout of
//! the rest stay as they are.

use std::collections::BTreeSet;
use std::ops::Range;

/// A JSON text whose outermost value is an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text(String);

/// A name and a value within an object.
struct Member {
    name: String,
    start: usize,
    value: Range<usize>,
}

impl Text {
    /// Takes a text that is an object, in which no name occurs twice: readers differ in which of the two counts.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let value: serde_json::Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if !value.is_object() {
            return Err("it is not an object".to_owned());
        }
        let text = Self(text.to_owned());
        text.unique(&mut Vec::new())?;
        Ok(text)
    }

    /// The text.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// What it says.
    pub(super) fn value(&self) -> serde_json::Value {
        serde_json::from_str(&self.0).unwrap_or_default()
    }

    /// The names in an object, in their order.
    pub(super) fn names(&self, path: &[&str]) -> Vec<String> {
        self.members(path).into_iter().map(|member| member.name).collect()
    }

    /// The value at a path as it is written.
    pub(super) fn get(&self, path: &[&str]) -> Option<&str> {
        self.0.get(self.find(path)?)
    }

    /// Puts a value, as it is to be written, at a path; objects on the way that are missing are made.
    pub(super) fn set(&mut self, path: &[&str], value: &str) {
        if let Some(range) = self.find(path) {
            self.0.replace_range(range, value);
            return;
        }
        let Some((name, parent)) = path.split_last() else { return };
        if self.find(parent).is_none() {
            self.set(parent, "{}");
        }
        let Some(object) = self.find(parent) else { return };
        let member = format!("{}: {value}", serde_json::Value::from(*name));
        let members = self.members(parent);
        if let (Some(first), Some(last)) = (members.first(), members.last()) {
            let lead = self.0.get(object.start.saturating_add(1)..first.start).unwrap_or_default().to_owned();
            self.0.insert_str(last.value.end, &format!(",{lead}{member}"));
        } else {
            let depth = parent.len();
            let (open, close) = (self.indent(depth.saturating_add(1)), self.indent(depth));
            self.0.replace_range(object, &format!("{{{open}{member}{close}}}"));
        }
    }

    /// Takes a member out of its object.
    pub(super) fn remove(&mut self, path: &[&str]) {
        let Some((name, parent)) = path.split_last() else { return };
        let Some(object) = self.find(parent) else { return };
        let members = self.members(parent);
        let Some(index) = members.iter().position(|member| member.name == *name) else { return };
        let Some(member) = members.get(index) else { return };
        let cut = match (
            index.checked_sub(1).and_then(|before| members.get(before)),
            members.get(index.saturating_add(1)),
        ) {
            (_, Some(next)) => member.start..next.start,
            (Some(previous), None) => previous.value.end..member.value.end,
            (None, None) => object.start.saturating_add(1)..object.end.saturating_sub(1),
        };
        self.0.replace_range(cut, "");
    }

    /// The beginning of a line at a depth, as the rest of the text has it.
    fn indent(&self, depth: usize) -> String {
        let first = self.members(&[]).first().map(|first| first.start);
        let lead = match first {
            Some(first) => {
                self.0.get(..first).and_then(|before| before.split_once('{')).map_or("", |(_, lead)| lead)
            }
            None => "\n    ",
        };
        let Some((_, unit)) = lead.rsplit_once('\n') else { return String::new() };
        let newline = if lead.contains("\r\n") { "\r\n" } else { "\n" };
        format!("{newline}{}", unit.repeat(depth))
    }

    /// The value at a path.
    fn find(&self, path: &[&str]) -> Option<Range<usize>> {
        let mut scanner = Scanner { bytes: self.0.as_bytes(), at: 0 };
        let mut range = scanner.value();
        for name in path {
            range = scanner.members(&range).into_iter().find(|member| member.name == *name)?.value;
        }
        Some(range)
    }

    fn members(&self, path: &[&str]) -> Vec<Member> {
        let Some(range) = self.find(path) else { return Vec::new() };
        Scanner { bytes: self.0.as_bytes(), at: 0 }.members(&range)
    }

    fn unique(&self, path: &mut Vec<String>) -> Result<(), String> {
        let at: Vec<&str> = path.iter().map(String::as_str).collect();
        let names = self.names(&at);
        for name in &names {
            path.push(name.clone());
            self.unique(path)?;
            path.pop();
        }
        let mut seen = BTreeSet::new();
        match names.iter().find(|name| !seen.insert(*name)) {
            Some(name) => Err(format!("the name {name:?} occurs twice")),
            None => Ok(()),
        }
    }
}

/// Finds the way about in a text that is known to be JSON.
struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip(&mut self, of: &[u8]) {
        while self.peek().is_some_and(|byte| of.contains(&byte)) {
            self.at = self.at.saturating_add(1);
        }
    }

    /// From one quotation mark to the other.
    fn string(&mut self) -> Range<usize> {
        let start = self.at;
        self.at = start.saturating_add(1);
        while let Some(byte) = self.peek() {
            self.at = self.at.saturating_add(if byte == b'\\' { 2 } else { 1 });
            if byte == b'"' {
                break;
            }
        }
        start..self.at
    }

    fn value(&mut self) -> Range<usize> {
        self.skip(b" \t\r\n");
        let start = self.at;
        let mut depth = 0_usize;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => drop(self.string()),
                b'{' | b'[' => {
                    depth = depth.saturating_add(1);
                    self.at = self.at.saturating_add(1);
                }
                b'}' | b']' if depth > 0 => {
                    depth = depth.saturating_sub(1);
                    self.at = self.at.saturating_add(1);
                }
                b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n' if depth == 0 => break,
                _ => {
                    self.at = self.at.saturating_add(1);
                    continue;
                }
            }
            if depth == 0 {
                break;
            }
        }
        start..self.at
    }

    /// The members of the object at `range`; none if something else is there.
    fn members(&mut self, range: &Range<usize>) -> Vec<Member> {
        let mut members = Vec::new();
        self.at = range.start;
        if self.peek() != Some(b'{') {
            return members;
        }
        self.at = self.at.saturating_add(1);
        loop {
            self.skip(b" \t\r\n,");
            if self.peek() != Some(b'"') {
                return members;
            }
            let name = self.string();
            self.skip(b" \t\r\n:");
            let value = self.value();
            let start = name.start;
            let name =
                self.bytes.get(name).and_then(|name| serde_json::from_slice(name).ok()).unwrap_or_default();
            members.push(Member { name, start, value });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Text;

    #[test]
    fn one_value_changes_and_the_rest_stays() {
        let pretty = "{\n  \"a\": [1, 2],\n  \"b\": { \"c\" : \"}\\\"\" }\n}\n";
        #[rustfmt::skip]
        let rows: [(&str, &[&str], &str, &str); 12] = [
            ("{}", &["a"], "1", "{\n    \"a\": 1\n}"),
            ("{}\n", &["a", "b"], "1", "{\n    \"a\": {\n        \"b\": 1\n    }\n}\n"),
            (" { } ", &["a"], "1", " {\n    \"a\": 1\n} "),
            ("{\"a\":1}", &["b"], "2", "{\"a\":1,\"b\": 2}"),
            ("{\"a\":1}", &["b", "c"], "2", "{\"a\":1,\"b\": {\"c\": 2}}"),
            ("{\"a\":1}", &["a"], "\"x\"", "{\"a\":\"x\"}"),
            ("{\"\\u0061\":1}", &["a"], "2", "{\"\\u0061\":2}"),
            ("{\r\n\t\"a\": 1\r\n}", &["b", "c"], "2", "{\r\n\t\"a\": 1,\r\n\t\"b\": {\r\n\t\t\"c\": 2\r\n\t}\r\n}"),
            (pretty, &["a"], "3", "{\n  \"a\": 3,\n  \"b\": { \"c\" : \"}\\\"\" }\n}\n"),
            (pretty, &["b", "c"], "3", "{\n  \"a\": [1, 2],\n  \"b\": { \"c\" : 3 }\n}\n"),
            (pretty, &["b", "d"], "3", "{\n  \"a\": [1, 2],\n  \"b\": { \"c\" : \"}\\\"\", \"d\": 3 }\n}\n"),
            (pretty, &["d"], "{}", "{\n  \"a\": [1, 2],\n  \"b\": { \"c\" : \"}\\\"\" },\n  \"d\": {}\n}\n"),
        ];
        for (before, path, value, after) in rows {
            let mut text = Text::parse(before).unwrap();
            text.set(path, value);
            assert_eq!(text.as_str(), after, "{before} {path:?}");
            assert_eq!(text.get(path), Some(value));
            Text::parse(text.as_str()).unwrap();
        }
    }

    #[test]
    fn a_member_goes_and_the_rest_stays() {
        #[rustfmt::skip]
        let rows: [(&str, &[&str], &str); 7] = [
            ("{\n  \"a\": 1\n}", &["a"], "{}"),
            ("{\n  \"a\": 1,\n  \"b\": 2\n}", &["a"], "{\n  \"b\": 2\n}"),
            ("{\n  \"a\": 1,\n  \"b\": 2\n}", &["b"], "{\n  \"a\": 1\n}"),
            ("{\"a\":{\"b\":[{\"c\":2}],\"d\":3}}", &["a", "b"], "{\"a\":{\"d\":3}}"),
            ("{\"a\":{\"b\":2,\"d\":3}}", &["a"], "{}"),
            ("{\"a\":1}", &["b"], "{\"a\":1}"),
            ("{\"a\":1}", &["b", "c"], "{\"a\":1}"),
        ];
        for (before, path, after) in rows {
            let mut text = Text::parse(before).unwrap();
            text.remove(path);
            assert_eq!(text.as_str(), after, "{before} {path:?}");
        }
    }

    #[test]
    fn only_an_object_that_everybody_reads_the_same_way_is_taken() {
        let rows = [
            ("", "EOF while parsing"),
            ("[]", "it is not an object"),
            ("{\"a\":1,}", "line 1 column 8"),
            ("{\"a\":1} x", "trailing characters"),
            ("{\"a\":1,\"b\":2,\"\\u0061\":3}", "the name \"a\" occurs twice"),
            ("{\"x\":{\"a\":1,\"a\":1}}", "the name \"a\" occurs twice"),
        ];
        for (text, part) in rows {
            let error = Text::parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
