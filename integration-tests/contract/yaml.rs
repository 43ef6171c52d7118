//! Does a manifest mean to us what it means to kubectl? Its own reader is the oracle (`sigs.k8s.io/yaml`), over texts that are
//! nearly YAML.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use pss_guard::documents::node::Node;
use pss_guard::documents::read::documents;
use serde::Deserialize;
use serde_json::{Number, Value};

use crate::support::random::Numbers;
use crate::support::upstream::oracle;

/// What kubectl makes of a text.
#[derive(Deserialize)]
struct Meaning {
    /// Absent also for null.
    #[serde(default)]
    value: Value,
    #[serde(default)]
    error: String,
}

/// What came of many texts.
#[derive(Default)]
struct Compared {
    /// What differs, a line each.
    wrong: String,
    /// Why a text that kubectl reads is refused here, how often, and one such text.
    refused: BTreeMap<String, (usize, String)>,
    /// How many both read.
    both: usize,
}

fn compare(texts: &[String]) -> Option<Compared> {
    let oracle = oracle("yaml")?;
    let mut input = String::new();
    for text in texts {
        let _ = writeln!(input, "{}", Value::from(text.as_str()));
    }
    let meanings: Vec<Meaning> = oracle.ask(&["yaml"], &input);
    assert_eq!(meanings.len(), texts.len());
    let Compared { mut wrong, mut refused, mut both } = Compared::default();
    for (text, meaning) in texts.iter().zip(meanings) {
        match documents(text) {
            Ok(found) if meaning.error.is_empty() => {
                let value = found.first().map_or(Value::Null, value);
                both += 1;
                if !same(&value, &meaning.value) {
                    let _ = writeln!(wrong, "{text:?}: {value}, not {}", meaning.value);
                }
            }
            Err(error) if meaning.error.is_empty() => {
                refused.entry(error.why.to_string()).or_insert((0, text.clone())).0 += 1;
            }
            // What kubectl refuses reaches no cluster.
            _ => {}
        }
    }
    Some(Compared { wrong, refused, both })
}

fn value(node: &Node) -> Value {
    Value::deserialize(node).unwrap()
}

/// The same value, an integer to its last digit. A float as a key is rounded to 32 bits by kubectl; no field of an object has
/// such a name.
fn same(one: &Value, other: &Value) -> bool {
    let number = |key: &str| key.replace(".inf", "inf").parse::<f32>().ok();
    let is_key =
        |one: &str, other: &str| one == other || number(one).is_some_and(|one| number(other) == Some(one));
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one == other || is_float(one, other),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let has = |(key, value): (&String, &Value)| {
                other.iter().any(|(other, of_other)| is_key(key, other) && same(value, of_other))
            };
            one.len() == other.len() && one.iter().all(has)
        }
        _ => one == other,
    }
}

/// The same float, as exactly as serde_json reads kubectl's: to the last bit but one. It takes `-0` for one.
fn is_float(one: &Number, other: &Number) -> bool {
    let (Some(value), Some(read)) = (one.as_f64(), other.as_f64()) else { return false };
    (value == 0.0 || (one.is_f64() && other.is_f64())) && (value - read).abs() <= f64::EPSILON * read.abs()
}

#[test]
fn a_text_means_what_it_means_to_kubectl() {
    let count = std::env::var("PSS_GUARD_TEXTS").ok().and_then(|count| count.parse().ok());
    let seed = std::env::var("PSS_GUARD_SEED").ok().and_then(|seed| seed.parse().ok());
    let mut any = Any(Numbers(seed.unwrap_or(0x9e37_79b9_7f4a_7c15)));
    let texts = std::iter::repeat_with(|| any.text()).take(count.unwrap_or(20_000));
    let texts: Vec<String> = ONCE_WRONG.iter().map(|text| (*text).to_owned()).chain(texts).collect();
    let Some(Compared { wrong, refused, both }) = compare(&texts) else { return };
    let all: usize = refused.values().map(|(count, _)| count).sum();
    println!("read alike: {both}; refused here alone: {all} of {}\n{refused:#?}", texts.len());
    assert!(wrong.is_empty(), "{wrong}");
    // A generator of nothing but refusals would prove little.
    assert!(both > texts.len() / 5 && all < both, "{both} and {all} of {}", texts.len());
}

/// Found by more texts and other seeds.
const ONCE_WRONG: [&str; 7] = [
    "9223372036854775004108",
    "{\"a\": 9223372036854775004108}",
    "[1.2345678901234567e17, 9.2e18, -9.2e18, 1.8e19, 1e20, 1e21, -0.0]",
    "!!float 18446744709551615",
    "!!float -9223372036854775808",
    "\u{feff}{\"a\": [1E2, 1.0]}",
    "# A document without a value\n---\n\u{feff}a: 1",
];

/// Makes texts: mostly sound YAML in every style, then damaged a little.
struct Any(Numbers);

/// Plain scalars of every shape that a resolver has a rule for.
const PLAIN: [&str; 78] = [
    "a",
    "b",
    "app",
    "true",
    "True",
    "TRUE",
    "tRUE",
    "yes",
    "no",
    "on",
    "off",
    "y",
    "n",
    "N",
    "Off",
    "null",
    "~",
    "Null",
    "nULL",
    "0",
    "1",
    "-1",
    "+1",
    "00",
    "0777",
    "08",
    "0o17",
    "0O17",
    "0o8",
    "0x1f",
    "0X1F",
    "-0x1f",
    "0x",
    "0xg",
    "0b1",
    "-0b11",
    "0b2",
    "1_000",
    "0_7",
    "_1",
    "1__0",
    "0x_f",
    "1.5",
    "-.5",
    ".5",
    "+.5",
    "1.",
    ".",
    "..",
    "1e3",
    "1e+3",
    "1E-3",
    "1e",
    ".1e1",
    "1.e1",
    "1e400",
    "1e-400",
    ".inf",
    "-.INF",
    ".nan",
    "1:30",
    "1:2:3",
    "2001-01-01",
    "2001-01-01T00:00:00Z",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775809",
    "0x8000000000000000",
    "<<",
    "=",
    "!",
    "a b",
    "a:b",
    "a#b",
    "http://a/b",
    "-a",
];

/// Objects of JSON.
const JSON: [&str; 5] = [
    "{\"a\": [1, -2.5e1, \"x\u{fc}\\n\\ud83d\\ude00\\/\", null, true, {\"b\": {}}], \"c\": \"\"}",
    "{\n  \"apiVersion\": \"v1\",\n  \"kind\": \"Pod\",\n  \"spec\": {\"hostPID\": false}\n}\n",
    "{\"a\":{\"a\":{\"a\":[[],[{}],[0,0.0,1E2]]}}}",
    "{}\n---\n{\"a\": 1}\n",
    " {\"a\":18446744073709551615,\"b\":-9223372036854775808,\"c\":1e20}",
];

/// What a text is damaged with.
const DAMAGE: [&str; 56] = [
    " ",
    "  ",
    "\t",
    "\n",
    "\n\n",
    "\r\n",
    "\r",
    ":",
    ": ",
    "- ",
    "-",
    "? ",
    "#",
    " #",
    ",",
    "[",
    "]",
    "{",
    "}",
    "&a ",
    "*a",
    "!",
    "!!str ",
    "!!int ",
    "!!float ",
    "!!bool ",
    "!!null ",
    "!!map ",
    "!!seq ",
    "!x ",
    "!x, ",
    "!<a>,",
    "|",
    "|-",
    "|+",
    "|2",
    ">",
    ">-",
    "'",
    "\"",
    "\\",
    "\\n",
    "\\x41",
    "\\u0041",
    "%",
    "@",
    "`",
    "---",
    "\n---\n",
    "\n...\n",
    "<<: ",
    "\u{85}",
    "\u{2028}",
    "\u{feff}",
    "\u{fc}",
    "\u{1f600}",
];

impl Any {
    fn one_in(&mut self, count: usize) -> bool {
        self.0.below(count) == 0
    }

    fn of<'t>(&mut self, texts: &[&'t str]) -> &'t str {
        texts[self.0.below(texts.len())]
    }

    fn text(&mut self) -> String {
        let mut text = String::new();
        if self.one_in(12) {
            text.push_str(self.of(&JSON));
            self.damage(&mut text);
            return text;
        }
        if self.one_in(10) {
            text.push_str(self.of(&["---\n", "--- ", "# comment\n", "%YAML 1.1\n---\n", "\n\n", "\u{feff}"]));
        }
        let is_fresh = text.is_empty() || text.ends_with('\n');
        self.node(&mut text, 0, 0, is_fresh);
        if !text.ends_with('\n') && !self.one_in(4) {
            text.push('\n');
        }
        if self.one_in(12) {
            text.push_str("---\nb: 2\n");
        }
        if self.one_in(2) {
            for _ in 0..=self.0.below(2) {
                self.damage(&mut text);
            }
        }
        text
    }

    fn damage(&mut self, text: &mut String) {
        let boundaries: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        let place = self.0.below(boundaries.len());
        let at = boundaries[place];
        if self.one_in(3) {
            let end = boundaries[(place + 1 + self.0.below(3)).min(boundaries.len() - 1)];
            text.replace_range(at..end, "");
        } else {
            let with = self.of(&DAMAGE);
            text.insert_str(at, with);
        }
    }

    /// A value behind what is there. `fresh`: at the beginning of a line.
    fn node(&mut self, text: &mut String, indent: usize, depth: usize, fresh: bool) {
        if self.one_in(14) {
            text.push_str(self.of(&["&a ", "&b ", "!!str ", "!x ", "!!map "]));
        } else if self.one_in(16) && depth > 0 {
            text.push_str(self.of(&["*a", "*b"]));
            return;
        }
        match self.0.below(if depth < 4 { 12 } else { 5 }) {
            0..=3 => self.scalar(text, indent),
            4 | 5 => self.flow(text, depth),
            6..=9 => self.mapping(text, indent, depth, fresh),
            _ => self.sequence(text, indent, depth, fresh),
        }
    }

    fn begin(&mut self, text: &mut String, indent: usize, fresh: bool) {
        if !fresh || !(text.is_empty() || text.ends_with('\n')) {
            text.push('\n');
        }
        if self.one_in(20) {
            text.push_str(self.of(&["# c\n", "\n", "  # c\n"]));
        }
        text.push_str(&" ".repeat(indent));
    }

    fn mapping(&mut self, text: &mut String, indent: usize, depth: usize, fresh: bool) {
        for nth in 0..=self.0.below(3) {
            self.begin(text, indent, fresh || nth > 0);
            if self.one_in(12) {
                text.push_str("<<: ");
                text.push_str(self.of(&["*a", "*b", "{a: 1, c: 2}", "[*a, *b]", "[{a: 1}, {a: 2}]"]));
                text.push('\n');
                continue;
            }
            let key = match self.0.below(8) {
                // Without the large floats, which are no keys of an object: kubectl rounds them to 32 bits.
                0 => self.of(PLAIN.split_at(54).0).to_owned(),
                1 => self.of(&["'k'", "\"k\"", "\"a\\tb\"", "a b", "'<<'"]).to_owned(),
                2 => self.of(&["? k\n", "*a "]).to_owned() + &" ".repeat(indent),
                _ => format!("{}{nth}", self.of(&["k", "key", "a", "b"])),
            };
            text.push_str(&key);
            text.push_str(self.of(&[": ", ": ", ": ", ":  ", ":\t", " : ", ":"]));
            let deeper = indent + 1 + self.0.below(3);
            self.node(text, deeper, depth + 1, false);
            if !text.ends_with('\n') {
                text.push_str(self.of(&["\n", "\n", "\n", " # c\n", "\r\n", "\n\n"]));
            }
        }
    }

    fn sequence(&mut self, text: &mut String, indent: usize, depth: usize, fresh: bool) {
        for nth in 0..=self.0.below(3) {
            self.begin(text, indent, fresh || nth > 0);
            text.push_str(self.of(&["- ", "- ", "-   ", "-\t"]));
            self.node(text, indent + 2, depth + 1, false);
            if !text.ends_with('\n') {
                text.push('\n');
            }
        }
    }

    fn flow(&mut self, text: &mut String, depth: usize) {
        let is_map = self.one_in(2);
        text.push(if is_map { '{' } else { '[' });
        for nth in 0..self.0.below(4) {
            if nth > 0 {
                text.push_str(self.of(&[", ", ",", ",\n  ", " , "]));
            }
            if is_map {
                let _ = write!(text, "k{nth}");
                text.push_str(self.of(&[": ", ": ", ":", " "]));
            }
            if depth < 4 && self.one_in(3) {
                self.flow(text, depth + 1);
            } else {
                self.scalar_in_flow(text);
            }
        }
        if self.one_in(8) {
            text.push(',');
        }
        text.push(if is_map { '}' } else { ']' });
    }

    fn scalar_in_flow(&mut self, text: &mut String) {
        match self.0.below(4) {
            0 => self.quoted(text, 0),
            _ => text.push_str(self.of(&PLAIN)),
        }
    }

    fn scalar(&mut self, text: &mut String, indent: usize) {
        match self.0.below(8) {
            0 => self.quoted(text, indent),
            1 => self.block(text, indent),
            2 => {
                // Over several lines.
                text.push_str(self.of(&PLAIN));
                text.push_str(self.of(&["\n", "\n\n", " \n", "\r\n"]));
                text.push_str(&" ".repeat(indent + 1));
                text.push_str(self.of(&PLAIN));
            }
            _ => text.push_str(self.of(&PLAIN)),
        }
    }

    fn quoted(&mut self, text: &mut String, indent: usize) {
        let double = self.one_in(2);
        let quote = if double { '"' } else { '\'' };
        text.push(quote);
        for _ in 0..self.0.below(4) {
            let part = if double {
                self.of(&[
                    "a",
                    " b ",
                    "\\n",
                    "\\t",
                    "\\\\",
                    "\\\"",
                    "\\x41",
                    "\\u00fc",
                    "\\U0001F600",
                    "\\ ",
                    "\\0",
                    "\\N",
                    "\\_",
                    "\\e",
                    "'",
                    "#",
                    ": ",
                    "\\\n  ",
                    "yes",
                    "1",
                ])
            } else {
                self.of(&["a", " b ", "''", "\\", "\"", "#", ": ", "yes", "1", "\\n"])
            };
            text.push_str(part);
            if self.one_in(6) {
                text.push_str(self.of(&["\n", "\n\n", " \n"]));
                text.push_str(&" ".repeat(indent + 1));
            }
        }
        text.push(quote);
    }

    fn block(&mut self, text: &mut String, indent: usize) {
        text.push_str(self.of(&["|", "|-", "|+", ">", ">-", ">+", "|2", "| # c", ">2-"]));
        text.push('\n');
        for _ in 0..self.0.below(5) {
            let line = self.of(&["a", "b c", " more", "# no comment", "", "- x", "k: v", "\tt", "a  ", "  "]);
            if !line.is_empty() {
                text.push_str(&" ".repeat(indent + 1));
            }
            text.push_str(line);
            text.push('\n');
        }
    }
}
