//! YAML as the value that its JSON would be, as far as configuration of a node needs it: one document, no anchors, no
//! tags. Whoever reads it then has one set of types for both.

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError};
use serde_json::{Map, Value};

/// Why text is not read as YAML.
#[derive(Debug, thiserror::Error)]
pub(super) enum YamlError {
    /// It is none.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// An alias makes a short file a long value.
    #[error("anchors and aliases are not supported")]
    Alias,
    /// What one reader takes for the first and another for the last.
    #[error("key {0:?} appears twice")]
    Twice(String),
    /// Only scalars are keys in JSON.
    #[error("a mapping's key must be a scalar")]
    Key,
    /// Deeper than any configuration.
    #[error("it is nested more than {DEEPEST} deep")]
    Deep,
    /// It breaks off.
    #[error("the document is not complete")]
    Incomplete,
}

const DEEPEST: usize = 32;

/// The first document; `null` where there is none.
pub(super) fn value(text: &str) -> Result<Value, YamlError> {
    let mut events = Parser::new_from_str(text);
    loop {
        match next(&mut events)? {
            Event::StreamEnd => return Ok(Value::Null),
            Event::DocumentStart(_) => {
                let first = next(&mut events)?;
                return node(first, &mut events, 0);
            }
            _ => {}
        }
    }
}

type Events<'t> = Parser<'t, saphyr_parser::StrInput<'t>>;

fn next<'t>(events: &mut Events<'t>) -> Result<Event<'t>, YamlError> {
    events.next_event().map_or(Err(YamlError::Incomplete), |event| Ok(event?.0))
}

fn node(event: Event<'_>, events: &mut Events<'_>, depth: usize) -> Result<Value, YamlError> {
    if depth > DEEPEST {
        return Err(YamlError::Deep);
    }
    match event {
        Event::Scalar(text, ScalarStyle::Plain, ..) => Ok(plain(&text)),
        Event::Scalar(text, ..) => Ok(Value::String(text.into_owned())),
        Event::SequenceStart(..) => {
            let mut list = Vec::new();
            loop {
                match next(events)? {
                    Event::SequenceEnd => return Ok(Value::Array(list)),
                    item => list.push(node(item, events, depth + 1)?),
                }
            }
        }
        Event::MappingStart(..) => {
            let mut map = Map::new();
            loop {
                let key = match next(events)? {
                    Event::MappingEnd => return Ok(Value::Object(map)),
                    Event::Scalar(key, ..) => key.into_owned(),
                    Event::Alias(_) => return Err(YamlError::Alias),
                    _ => return Err(YamlError::Key),
                };
                let first = next(events)?;
                let value = node(first, events, depth + 1)?;
                if map.contains_key(&key) {
                    return Err(YamlError::Twice(key));
                }
                map.insert(key, value);
            }
        }
        Event::Alias(_) => Err(YamlError::Alias),
        _ => Err(YamlError::Incomplete),
    }
}

/// A plain scalar: null, a boolean, a decimal number, else a string (YAML 1.2 core schema, without its other spellings
/// of numbers).
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => match text.parse::<i64>() {
            Ok(number) if number.to_string() == text => Value::from(number),
            _ => Value::String(text.to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::value;

    #[test]
    fn a_document_is_the_value_that_its_json_would_be() {
        let rows = [
            ("", json!(null)),
            ("---\n", json!(null)),
            (
                "a: 1\nb: [x, 'y', \"z\", 0666, -3, 1.5, no]",
                json!({"a":1,"b":["x","y","z","0666",-3,"1.5","no"]}),
            ),
            ("---\na:\n- b: ~\n  c: true\n- {d: '1'}\n", json!({"a":[{"b":null,"c":true},{"d":"1"}]})),
            ("a: |\n  two\n  lines\n# nothing\n", json!({"a":"two\nlines\n"})),
            ("{\"a\": [null, false, \"b\"]}", json!({"a":[null,false,"b"]})),
            ("first: 1\n---\nsecond: 2\n", json!({"first":1})),
        ];
        for (text, expected) in rows {
            assert_eq!(value(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_or_grow_is_an_error() {
        let deep = "[".repeat(40);
        let rows = [
            ("a: &x [1]\nb: *x", "anchors and aliases"),
            ("*x : 1", ""),
            ("a: 1\na: 2", "key \"a\" appears twice"),
            ("? [a]\n: b", "key must be a scalar"),
            ("a: [", ""),
            ("a: b: c", ""),
            (&deep, "nested more than"),
        ];
        for (text, expected) in rows {
            let err = value(text).expect_err(text).to_string();
            assert!(err.contains(expected), "{text}: {err}");
        }
    }
}
