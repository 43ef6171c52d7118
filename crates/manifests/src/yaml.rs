//! YAML as nodes, with the meaning that `kubectl` and Helm give it: sigs.k8s.io/yaml, that is go-yaml v2. Its parser is a port
//! of libyaml, and so is ours; plain scalars are resolved by YAML 1.1. `privileged: yes` is true there, and `0777` is 511.
//!
//! What is refused here and read there: a key that occurs twice (theirs takes the last), `!!binary`, `!!timestamp`, a comma
//! right behind a tag, and more values or deeper nesting than [`MOST_NODES`](super::read::MOST_NODES) and [`DEEPEST`]. A file is all its documents, where kubectl splits lines
//! first and drops what follows `...` or `--- x`.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::io::BufReader;

use libyaml_safer::{Error, Event, EventData, Mark, Parser};
use serde_json::Number;

use super::node::{Node, Position, Value};
use super::read::{DEEPEST, ReadError, Why, unique};
use super::tags;

/// Every document in the text.
pub(super) fn documents(text: &str, most: usize) -> Result<Vec<Node>, ReadError> {
    readable(text)?;
    // As kubectl hands over every document: a block scalar at the end has its last line break.
    let text = if text.ends_with('\n') { Cow::Borrowed(text) } else { Cow::Owned(format!("{text}\n")) };
    tags::without_commas(&text)?;
    let mut events = Parser::new();
    // The parser decodes as much as the buffer has at once.
    events.set_input(BufReader::new(text.as_bytes()));
    let mut reader = Reader { events, anchors: HashMap::new(), count: 0, most };
    let mut found = Vec::new();
    loop {
        match reader.next()?.data {
            EventData::StreamEnd => return Ok(found),
            EventData::DocumentStart { .. } => {
                // An anchor ends with its document.
                reader.anchors.clear();
                let event = reader.next()?;
                found.push(reader.node(event, 0)?);
            }
            _ => {}
        }
    }
}

/// Refuses the characters that the parser refuses, because only here they have a line.
fn readable(text: &str) -> Result<(), ReadError> {
    let is_odd = |c: char| {
        (c.is_control() && !"\t\n\r\u{85}".contains(c)) || matches!(c, '\u{feff}' | '\u{fffe}' | '\u{ffff}')
    };
    let Some((offset, odd)) = text.char_indices().find(|(_, c)| is_odd(*c)) else { return Ok(()) };
    Err(ReadError { at: place(text, offset), why: Why::Character(odd) })
}

/// The line and column of a byte.
pub(super) fn place(text: &str, offset: usize) -> Position {
    let before = text.get(..offset).unwrap_or_default();
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Position { line, column }
}

struct Reader<'t> {
    events: Parser<BufReader<&'t [u8]>>,
    /// The values that have an anchor, and how many nodes each is; none while it is being read.
    anchors: HashMap<String, Option<(Node, usize)>>,
    count: usize,
    /// How many there may be.
    most: usize,
}

pub(super) fn position(mark: Mark) -> Position {
    let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX).saturating_add(1);
    Position { line: number(mark.line), column: number(mark.column) }
}

pub(super) fn syntax(error: &Error) -> ReadError {
    let context = error.context().map_or_else(String::new, |context| format!("{context}: "));
    let at = error.problem_mark().map_or(Position { line: 1, column: 1 }, position);
    ReadError { at, why: Why::Yaml(format!("{context}{}", error.problem())) }
}

impl Reader<'_> {
    fn next(&mut self) -> Result<Event, ReadError> {
        self.events.parse().map_err(|error| syntax(&error))
    }

    /// Counts nodes that are about to be made.
    fn take(&mut self, nodes: usize, at: Position) -> Result<(), ReadError> {
        self.count += nodes;
        if self.count > self.most { Err(ReadError { at, why: Why::Large(self.most) }) } else { Ok(()) }
    }

    fn node(&mut self, event: Event, depth: usize) -> Result<Node, ReadError> {
        let at = position(event.start_mark);
        let fail = |why| ReadError { at, why };
        if depth > DEEPEST {
            return Err(fail(Why::Deep));
        }
        self.take(1, at)?;
        self.open(&event.data);
        let (anchor, value) = match event.data {
            EventData::Scalar { anchor, tag, value, plain_implicit, .. } => {
                (anchor, scalar(value, plain_implicit, tag.as_deref()).map_err(fail)?)
            }
            EventData::SequenceStart { anchor, .. } => {
                let mut list = Vec::new();
                loop {
                    let event = self.next()?;
                    if event.data == EventData::SequenceEnd {
                        break;
                    }
                    list.push(self.node(event, depth + 1)?);
                }
                (anchor, Value::List(list))
            }
            EventData::MappingStart { anchor, .. } => (anchor, Value::Map(self.entries(depth)?)),
            EventData::Alias { anchor } => {
                let (node, nodes) = match self.anchors.get(&anchor) {
                    Some(Some((node, nodes))) => (node.clone(), *nodes),
                    Some(None) => return Err(fail(Why::Loop)),
                    None => return Err(fail(Why::UnknownAnchor(anchor))),
                };
                self.take(nodes, at)?;
                return Ok(node);
            }
            _ => return Err(fail(Why::Yaml("the document is not complete".to_owned()))),
        };
        let node = Node { at, value };
        // What is in the value may have given the same anchor to something else, which begins later and so replaces this.
        if let Some(anchor) = anchor.filter(|anchor| self.anchors.get(anchor).is_some_and(Option::is_none)) {
            let nodes = node.count();
            self.take(nodes, at)?;
            self.anchors.insert(anchor, Some((node.clone(), nodes)));
        }
        Ok(node)
    }

    /// An anchor is known from here on, and its value is not.
    fn open(&mut self, data: &EventData) {
        let (EventData::Scalar { anchor, .. }
        | EventData::SequenceStart { anchor, .. }
        | EventData::MappingStart { anchor, .. }) = data
        else {
            return;
        };
        if let Some(anchor) = anchor {
            self.anchors.insert(anchor.clone(), None);
        }
    }

    /// The entries of a mapping.
    fn entries(&mut self, depth: usize) -> Result<Vec<(String, Node)>, ReadError> {
        let mut own = Vec::new();
        // The entries that a merge key brings, and before which of its own.
        let mut merges = Vec::new();
        loop {
            let event = self.next()?;
            let at = position(event.start_mark);
            let (is_scalar, is_merge) = match &event.data {
                EventData::MappingEnd => break,
                EventData::Scalar { value, plain_implicit, .. } => (true, *plain_implicit && value == "<<"),
                data => (matches!(data, EventData::Alias { .. }), false),
            };
            if !is_scalar {
                return Err(ReadError { at, why: Why::Key });
            }
            let key = self.node(event, depth + 1)?;
            let event = self.next()?;
            let mut value = self.node(event, depth + 1)?;
            if is_merge {
                merges.push((own.len(), merge(value)?));
            } else {
                value.at = at;
                own.push((key_text(key)?, value));
            }
        }
        unique(&own)?;
        Ok(if merges.is_empty() { own } else { merged(own, merges) })
    }
}

/// What a merge key brings: of several mappings the first that has a key counts.
fn merge(value: Node) -> Result<Vec<(String, Node)>, ReadError> {
    let fail = |at| ReadError { at, why: Why::Merge };
    match value.value {
        Value::Map(entries) => Ok(entries),
        Value::List(items) => {
            let mut all = Vec::new();
            for item in items.into_iter().rev() {
                let Value::Map(entries) = item.value else { return Err(fail(item.at)) };
                all.extend(entries);
            }
            Ok(all)
        }
        _ => Err(fail(value.at)),
    }
}

/// A mapping with merge keys. As in go-yaml v2, the last one counts: a merge key replaces what stands before it.
fn merged(own: Vec<(String, Node)>, merges: Vec<(usize, Vec<(String, Node)>)>) -> Vec<(String, Node)> {
    let mut merges = merges.into_iter().peekable();
    let mut all = Vec::new();
    for (place, entry) in own.into_iter().enumerate() {
        while let Some((_, entries)) = merges.next_if(|(before, _)| *before <= place) {
            all.extend(entries);
        }
        all.push(entry);
    }
    all.extend(merges.flat_map(|(_, entries)| entries));
    let mut seen = HashSet::new();
    let mut is_last: Vec<bool> = all.iter().rev().map(|(key, _)| seen.insert(key.as_str())).collect();
    all.retain(|_| is_last.pop().unwrap_or(true));
    all
}

/// A key as JSON has it. Null is no key there.
fn key_text(key: Node) -> Result<String, ReadError> {
    match key.value {
        Value::String(text) => Ok(text),
        Value::Bool(value) => Ok(value.to_string()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Null | Value::List(_) | Value::Map(_) => Err(ReadError { at: key.at, why: Why::Key }),
    }
}

/// What the tags of YAML itself begin with; `!!str` is short for one.
const CORE: &str = "tag:yaml.org,2002:";

/// A scalar with the tag that it has or that its text gives it. `is_plain`: it has neither quotes nor a tag.
fn scalar(text: String, is_plain: bool, tag: Option<&str>) -> Result<Value, Why> {
    let Some(tag) = tag.and_then(|tag| tag.strip_prefix(CORE)) else {
        // Of a tag of its own nothing is known: go-yaml takes the text.
        return if is_plain && tag.is_none() { plain(text) } else { Ok(Value::String(text)) };
    };
    if tag == "str" {
        return Ok(Value::String(text));
    }
    match (tag, plain(text.clone())?) {
        ("bool", value @ Value::Bool(_))
        | ("int", value @ Value::Number(_))
        | ("null", value @ Value::Null) => Ok(value),
        ("float", Value::Number(number)) => {
            let double = number.as_f64().and_then(json_number);
            Ok(Value::Number(double.unwrap_or(number)))
        }
        _ => Err(Why::Tag { tag: format!("!!{tag}"), text }),
    }
}

/// A plain scalar, resolved as go-yaml v2 does (`resolve.go`): YAML 1.1 without its base-60 numbers and time stamps.
fn plain(text: String) -> Result<Value, Why> {
    Ok(match text.as_str() {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Value::Bool(true)
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Value::Bool(false)
        }
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf" | "-.INF" | ".nan"
        | ".NaN" | ".NAN" => return Err(Why::NotFinite(text)),
        _ => number(&text).map_or(Value::String(text), Value::Number),
    })
}

fn number(text: &str) -> Option<Number> {
    if !text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) {
        return None;
    }
    let digits = text.replace('_', "");
    integer(&digits).or_else(|| float(&digits))
}

/// Go's `strconv.ParseInt` with base 0, and the sign before a prefix; behind `0b`, go-yaml lets one pass as well.
fn integer(digits: &str) -> Option<Number> {
    if let Some(signed) = digits.strip_prefix("0b").filter(|rest| rest.starts_with(['-', '+'])) {
        return Some(i64::from_str_radix(signed, 2).ok()?.into());
    }
    let (negative, rest) = match digits.as_bytes().first()? {
        b'-' => (true, &digits[1..]),
        b'+' => (false, &digits[1..]),
        _ => (false, digits),
    };
    let prefix = rest.get(..2).unwrap_or_default();
    let (base, rest) = match prefix {
        "0x" | "0X" => (16, &rest[2..]),
        "0b" | "0B" => (2, &rest[2..]),
        "0o" | "0O" => (8, &rest[2..]),
        _ if rest.len() > 1 && rest.starts_with('0') => (8, &rest[1..]),
        _ => (10, rest),
    };
    if !rest.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return None;
    }
    let value = u64::from_str_radix(rest, base).ok()?;
    if !negative {
        return Some(value.into());
    }
    Some(0_i64.checked_sub_unsigned(value)?.into())
}

/// go-yaml's `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`, in the range of a double.
fn float(digits: &str) -> Option<Number> {
    let unsigned = digits.strip_prefix(['-', '+']).unwrap_or(digits);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['-', '+']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let has_digits = !whole.is_empty() || !fraction.is_empty();
    let fits = has_digits
        && all_digits(whole)
        && all_digits(fraction)
        && exponent.is_none_or(|exponent| !exponent.is_empty() && all_digits(exponent));
    if !fits {
        return None;
    }
    json_number(digits.parse().ok()?)
}

/// A double as Go writes it. A whole number below 1e21 has no exponent there: the shortest digits that name the double, then
/// zeros. With those it is an integer for whatever reads the JSON.
fn json_number(value: f64) -> Option<Number> {
    let digits = value.to_string();
    let integer =
        digits.parse::<i64>().map(Number::from).or_else(|_| digits.parse::<u64>().map(Number::from));
    integer.ok().or_else(|| Number::from_f64(value))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::super::node::{Node, Position, Value};
    use crate::read::MOST_NODES;

    fn documents(text: &str) -> Result<Vec<Node>, super::ReadError> {
        super::documents(text, MOST_NODES)
    }

    /// As compact JSON.
    fn json(node: &Node) -> String {
        let list = |items: Vec<String>| items.join(",");
        match &node.value {
            Value::Null => "null".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Number(number) => number.to_string(),
            Value::String(text) => serde_json::Value::from(text.as_str()).to_string(),
            Value::List(items) => format!("[{}]", list(items.iter().map(json).collect())),
            Value::Map(entries) => {
                let entry = |(key, node): &(String, Node)| {
                    format!("{}:{}", serde_json::Value::from(key.as_str()), json(node))
                };
                format!("{{{}}}", list(entries.iter().map(entry).collect()))
            }
        }
    }

    /// What sigs.k8s.io/yaml v1.6.0 makes of each text; `YAMLToJSON` was asked.
    #[test]
    #[allow(clippy::too_many_lines, reason = "a table")]
    fn a_text_means_what_it_means_to_kubectl() {
        let rows = [
            ("y", "true"),
            ("Yes", "true"),
            ("on", "true"),
            ("oN", "\"oN\""),
            ("n", "false"),
            ("OFF", "false"),
            ("True", "true"),
            ("tRue", "\"tRue\""),
            ("Null", "null"),
            ("~", "null"),
            ("nUll", "\"nUll\""),
            ("0", "0"),
            ("-0", "0"),
            ("+1", "1"),
            ("0777", "511"),
            ("0o777", "511"),
            ("0O777", "511"),
            ("0x1F", "31"),
            ("-0x1f", "-31"),
            ("+0x10", "16"),
            ("0b11", "3"),
            ("-0b11", "-3"),
            ("0b-11", "-3"),
            ("0b+1", "1"),
            ("0b-", "\"0b-\""),
            ("-0b-1", "\"-0b-1\""),
            ("1_000", "1000"),
            ("0_7", "7"),
            ("0x_1", "1"),
            ("_1", "\"_1\""),
            ("08", "8"),
            ("089", "89"),
            ("0.5", "0.5"),
            (".5", "0.5"),
            ("+.5", "0.5"),
            ("1_.5", "1.5"),
            ("1.", "1"),
            ("1e3", "1000"),
            ("9223372036854775004108", "9.223372036854775e+21"),
            ("1.2345678901234567e17", "123456789012345660"),
            ("9.2e18", "9200000000000000000"),
            ("1.8e19", "18000000000000000000"),
            ("1e21", "1e+21"),
            ("!!float 18446744709551615", "18446744709551616"),
            ("!!float -9223372036854775808", "-9.223372036854776e+18"),
            ("12e03", "12000"),
            ("-.5e-2", "-0.005"),
            ("1:30", "\"1:30\""),
            ("2001-01-01", "\"2001-01-01\""),
            ("9223372036854775807", "9223372036854775807"),
            ("18446744073709551615", "18446744073709551615"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("1e400", "\"1e400\""),
            ("0x", "\"0x\""),
            ("+", "\"+\""),
            ("=", "\"=\""),
            ("0x1.8p1", "\"0x1.8p1\""),
            ("Infinity", "\"Infinity\""),
            ("NaN", "\"NaN\""),
            ("1,000", "\"1,000\""),
            ("'yes'", "\"yes\""),
            ("\"1\"", "\"1\""),
            ("!!str 1", "\"1\""),
            ("!!str yes", "\"yes\""),
            ("!!int \"1\"", "1"),
            ("!!bool yes", "true"),
            ("!foo 1", "\"1\""),
            ("! 1", "\"1\""),
            ("a: # b\u{85}c: d", "{\"a\":null,\"c\":\"d\"}"),
            ("a: &b:c", "{\"a\":\":c\"}"),
            ("a:\n  b: [\n    \"c\"\n  ]\n", "{\"a\":{\"b\":[\"c\"]}}"),
            ("a:\n  b: \"c\n  d\"\n", "{\"a\":{\"b\":\"c d\"}}"),
            ("a:\tb", "{\"a\":\"b\"}"),
            ("yes: x", "{\"true\":\"x\"}"),
            ("1: x", "{\"1\":\"x\"}"),
            ("a: &x {b: 1}\nc: {<<: *x, b: 2}", "{\"a\":{\"b\":1},\"c\":{\"b\":2}}"),
            ("a: &x {b: 1}\nc: {b: 2, <<: *x}", "{\"a\":{\"b\":1},\"c\":{\"b\":1}}"),
            (
                "a: &x {b: 1}\nd: &y {b: 3, e: 4}\nc: {<<: [*x, *y]}",
                "{\"a\":{\"b\":1},\"d\":{\"b\":3,\"e\":4},\"c\":{\"e\":4,\"b\":1}}",
            ),
            (
                "a: &x {b: 1}\nd: &y {b: 3, e: 4}\nc: {<<: [*y, *x]}",
                "{\"a\":{\"b\":1},\"d\":{\"b\":3,\"e\":4},\"c\":{\"b\":3,\"e\":4}}",
            ),
            ("<<: {a: 1}", "{\"a\":1}"),
            ("a: &x 1\nb: *x", "{\"a\":1,\"b\":1}"),
            ("a: &x {b: &x {c: 1}}\nd: *x", "{\"a\":{\"b\":{\"c\":1}},\"d\":{\"c\":1}}"),
            ("a: &x 1\nb: &x [2]\nc: *x", "{\"a\":1,\"b\":[2],\"c\":[2]}"),
            ("a: |\n  x\n   y\n", "{\"a\":\"x\\n y\\n\"}"),
            ("a: >-\n  x\n  y\n", "{\"a\":\"x y\"}"),
            ("a: x #c", "{\"a\":\"x\"}"),
            ("a: x#c", "{\"a\":\"x#c\"}"),
            ("[a, b: c]", "[\"a\",{\"b\":\"c\"}]"),
            ("%YAML 1.1\n---\na: yes", "{\"a\":true}"),
            ("---\n# nothing\n", "null"),
            ("a: &x\n  b:\nc: !!map\n  d:\n", "{\"a\":{\"b\":null},\"c\":{\"d\":null}}"),
            // A comma and an exclamation mark that are no tag's.
            (
                "a: sh -c 'x!, y' # [!z, w]\nb: [c !d, '!e,', \"f!,\", g!,h, !!str i, <j>, k]\nl: |\n  [!m, n]\n",
                "{\"a\":\"sh -c 'x!, y'\",\"b\":[\"c !d\",\"!e,\",\"f!,\",\"g!\",\"h\",\"i\",\"<j>\",\"k\"],\"l\":\"[!m, n]\\n\"}",
            ),
            ("[!<tag:yaml.org,2002:str> 1, b!, c]", "[\"1\",\"b!\",\"c\"]"),
            ("- b:\n- &x c:\n", "[{\"b\":null},{\"c\":null}]"),
        ];
        let mut wrong = String::new();
        for (text, expected) in rows {
            let found = documents(text).map(|found| found.first().map_or_else(String::new, json));
            let found = found.unwrap_or_else(|error| error.to_string());
            if found != expected {
                let _ = writeln!(wrong, "{text:?}: {found}, not {expected}");
            }
        }
        assert!(wrong.is_empty(), "{wrong}");
    }

    #[test]
    fn every_value_knows_its_line() {
        let text = "---\na: 1\nlist:\n- x\n- b:\n    c: &c [y]\n---\nd: *c\n---\n\n  e: 1\n";
        let error = documents(text).expect_err("an anchor of another document");
        assert_eq!(error.at, Position { line: 8, column: 4 });
        let found = documents(&text.replace("*c", "z")).unwrap();
        let at = |line, column| Position { line, column };
        let list = found[0].get("list").unwrap();
        let b = list.items().unwrap()[1].get("b").unwrap();
        let places = [
            found[0].get("a").unwrap().at,
            list.at,
            list.items().unwrap()[0].at,
            b.at,
            b.get("c").unwrap().at,
        ];
        assert_eq!(places, [at(2, 1), at(3, 1), at(4, 3), at(5, 3), at(6, 5)]);
        assert_eq!(found.len(), 3);
        assert_eq!(found[2].get("e").unwrap().at, at(11, 3));
    }

    #[test]
    fn what_could_be_read_in_two_ways_or_grows_is_an_error() {
        let deep = format!("a: {}", "[".repeat(120));
        let bomb = (0..20).fold("a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned(), |text, level| {
            format!("{text}a{}: &a{} [{}]\n", level + 1, level + 1, vec![format!("*a{level}"); 9].join(", "))
        });
        let rows = [
            ("a: 1\nb:\n  c: 1\n  c: 2\n", "4:3: the key \"c\" occurs twice"),
            ("a: 1\n'a': 2\n", "2:1: the key \"a\" occurs twice"),
            ("a: .inf", "1:4: the number .inf cannot be written in JSON"),
            ("a: .nan", "1:4: the number .nan cannot be written in JSON"),
            ("!!null x", "1:1: \"x\" is no !!null"),
            ("!!int yes", "1:1: \"yes\" is no !!int"),
            ("null: z", "1:1: a key of a mapping must be a scalar"),
            ("? [a]\n: b", "1:3: a key of a mapping must be a scalar"),
            ("a: {<<: x}", "1:9: a merge key"),
            ("a: *x", "1:4: "),
            ("a: &a [*a]", "1:8: the anchor contains itself"),
            ("a:\n\t- b", "2:"),
            ("a: b: c", "1:"),
            ("a: \"b", "2:1: while scanning a quoted scalar: found unexpected end"),
            ("{a:}", "1:3: while scanning a plain scalar: found unexpected ':'"),
            ("a: @b", "1:"),
            ("a: [", "2:1: while parsing a flow node"),
            ("a: [!x, b]", "1:7: a comma right behind a tag"),
            ("[!, b]", "1:3: a comma right behind a tag"),
            ("[!<tag:yaml.org,2002:str>, b]", "1:26: a comma right behind a tag"),
            ("\u{fc}: ['!a', 'b!,', !c ,\r\n {d: 'it''s'!!x, e}]", "2:16: a comma right behind a tag"),
            (&format!("{}!x, a", "[".repeat(200)), "1:102: more than 100 levels of nesting"),
            ("a: b!c, d\nb: 'c\n[!x, d]", "4:1: while scanning a quoted scalar"),
            (&deep, "1:104: more than 100 levels of nesting"),
            (&bomb, "7:"),
        ];
        for (text, expected) in rows {
            let error = documents(text).map(|_| ()).expect_err(text).to_string();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
        let error = documents(&bomb).map(|_| ()).expect_err("a bomb").to_string();
        assert!(error.ends_with("more than 2000000 values, aliases counted"), "{error}");
    }
}
