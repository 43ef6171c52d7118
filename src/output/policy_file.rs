//! The keys of `policy.toml`: as a file in which each is commented out at its default, and as a JSON Schema for editors.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::level::policy::keys::{Key, Kind, Shape, TABLES, Table};

/// Columns of a comment.
const WIDTH: usize = 100;

/// A policy that changes nothing and shows everything that can be set. `#key` is a key; `# text` is a comment.
#[must_use]
pub fn commented() -> String {
    let mut text = String::new();
    comment(
        &mut text,
        "The policy of this node: /etc/pss-guard/policy.toml. Each key is commented out at its default, so this file \
         changes nothing: the node is in audit mode. `pss-guard policy check` checks the file, `pss-guard mode enforce` \
         shows what would be refused and then sets the mode.",
    );
    for table in TABLES {
        text.push('\n');
        comment(&mut text, table.about);
        let _ = match table.shape {
            Shape::Single if table.name.is_empty() => Ok(()),
            Shape::Single => writeln!(text, "[{}]", table.name),
            Shape::ByNamespace(example) => writeln!(text, "#[{}.{example:?}]", table.name),
            Shape::List => writeln!(text, "#[[{}]]", table.name),
        };
        for key in table.keys {
            comment(&mut text, &format!("{}.", key.about));
            let _ = writeln!(text, "#{} = {}", key.name, key.value);
        }
    }
    text
}

fn comment(text: &mut String, words: &str) {
    for line in textwrap::wrap(words, WIDTH - 2) {
        let _ = writeln!(text, "# {line}");
    }
}

/// The schema of the file in draft-07 of JSON Schema, the newest that editors of TOML take (taplo, Even Better TOML). It knows
/// no key that the reader does not know, and refuses no policy that the reader takes.
#[must_use]
pub fn schema() -> Value {
    let mut properties = Map::new();
    for table in TABLES {
        let own = object(table);
        match table.shape {
            Shape::Single if table.name.is_empty() => {
                if let Some(Value::Object(keys)) = own.get("properties") {
                    properties.extend(keys.clone());
                }
                continue;
            }
            Shape::Single => properties.insert(table.name.to_owned(), own),
            Shape::ByNamespace(_) => {
                let by_name = Kind::Label.pattern().map(|pattern| (pattern.to_owned(), own));
                let by_name: Map<String, Value> = by_name.into_iter().collect();
                let all = json!({
                    "type": "object",
                    "description": table.about,
                    "patternProperties": by_name,
                    "additionalProperties": false,
                });
                properties.insert(table.name.to_owned(), all)
            }
            Shape::List => {
                let all = json!({"type": "array", "description": table.about, "items": own});
                properties.insert(table.name.to_owned(), all)
            }
        };
    }
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "policy.toml of pss-guard",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    })
}

fn object(table: &Table) -> Value {
    let has_defaults = table.shape == Shape::Single;
    let keys = table.keys.iter().map(|key| (key.name.to_owned(), property(key, has_defaults)));
    let keys: Map<String, Value> = keys.collect();
    let required = table.keys.iter().filter(|key| key.required).map(|key| key.name);
    let required: Vec<&str> = required.collect();
    let mut own = json!({"type": "object", "properties": keys, "additionalProperties": false});
    set(&mut own, "description", json!(table.about));
    if !required.is_empty() {
        set(&mut own, "required", json!(required));
    }
    own
}

fn property(key: &Key, has_default: bool) -> Value {
    let mut own = value(key.kind);
    set(&mut own, "description", json!(key.about));
    let text = format!("x = {}", key.value);
    let default = text.parse::<toml::Table>().ok().and_then(|mut table| table.remove("x"));
    if let Some(default) = default.filter(|_| has_default) {
        set(&mut own, "default", json!(default));
    }
    own
}

fn value(kind: Kind) -> Value {
    let mut own = match kind {
        Kind::Boolean => json!({"type": "boolean"}),
        Kind::List(items, least) => json!({"type": "array", "items": value(*items), "minItems": least}),
        _ => json!({"type": "string"}),
    };
    if let Some(words) = kind.words() {
        set(&mut own, "enum", json!(words));
    }
    if let Some(pattern) = kind.pattern() {
        set(&mut own, "pattern", json!(pattern));
    }
    match kind {
        // Editors hand over a date of TOML's own as a string.
        Kind::Date => set(&mut own, "format", json!("date")),
        Kind::Name => set(&mut own, "maxLength", json!(253)),
        _ => {}
    }
    own
}

fn set(object: &mut Value, key: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(key.to_owned(), value);
    }
}
