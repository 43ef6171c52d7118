//! Parses one line of JSON into the fields of an event, as `journalctl --output=json` and the fallback file have
//! them.

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Record;
use crate::record::{Field, Kind};

/// An event, and what its source calls its place.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) record: Record,
    pub(super) cursor: Option<String>,
}

/// Reads one line; `None` if it is no event of ours.
///
/// What makes it one is the message id: a program that logs under our name, or a container whose output is logged
/// under it, does not have it.
pub(super) fn line(bytes: &[u8]) -> Option<Line> {
    let Parsed { mut line, message_id, at, .. } = serde_json::from_slice(bytes).ok()?;
    line.record.kind = Some(Kind::of_message_id(&message_id)?);
    line.record.at = at.parse().ok()?;
    Some(line)
}

/// When an entry of any kind was written, in microseconds.
pub(super) fn moment(bytes: &[u8]) -> Option<u64> {
    let Parsed { at, .. } = serde_json::from_slice(bytes).ok()?;
    at.parse().ok()
}

#[derive(Default)]
struct Parsed {
    line: Line,
    message_id: String,
    at: String,
    cursor: String,
    exec: String,
}

/// The fields that a [`Record`] is made of.
pub(super) fn read() -> impl Iterator<Item = Field> {
    Field::ALL.iter().copied().filter(|field| Parsed::default().place(*field).is_some())
}

impl Parsed {
    /// Where a field is kept; `None` for one that nobody asks for.
    fn place(&mut self, field: Field) -> Option<&mut String> {
        let record = &mut self.line.record;
        Some(match field {
            Field::Message => &mut record.message,
            Field::MessageId => &mut self.message_id,
            Field::Mode => &mut record.mode,
            Field::Level => &mut record.level,
            Field::Version => &mut record.version,
            Field::Controls => &mut record.controls,
            Field::Findings => &mut record.findings,
            Field::Provenance => &mut record.because,
            Field::Exec => &mut self.exec,
            Field::Engine => &mut record.engine,
            Field::Namespace => &mut record.namespace,
            Field::Pod => &mut record.pod,
            Field::PodUid => &mut record.pod_uid,
            Field::Container => &mut record.container,
            Field::ContainerId => &mut record.container_id,
            Field::Image => &mut record.image,
            Field::Priority
            | Field::Identifier
            | Field::Decision
            | Field::PolicyFault
            | Field::Who
            | Field::Reason
            | Field::Until
            | Field::Subject => return None,
        })
    }
}

impl<'de> Deserialize<'de> for Parsed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Parsed;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of fields")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parsed, A::Error> {
                let mut parsed = Parsed::default();
                while let Some(name) = map.next_key::<std::borrow::Cow<'_, str>>()? {
                    let place = match &*name {
                        "__CURSOR" => Some(&mut parsed.cursor),
                        "__REALTIME_TIMESTAMP" => Some(&mut parsed.at),
                        name => Field::of_name(name).and_then(|field| parsed.place(field)),
                    };
                    match place {
                        Some(place) => *place = map.next_value::<Text>()?.0,
                        None => _ = map.next_value::<IgnoredAny>()?,
                    }
                }
                let cursor = std::mem::take(&mut parsed.cursor);
                parsed.line.cursor = (!cursor.is_empty()).then_some(cursor);
                parsed.line.record.exec = parsed.exec == "1";
                Ok(parsed)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// A field's value: text; an array of numbers where its bytes are not text; an array of values where the event has
/// several of that name; `null` where it is too long to be shown (systemd's `docs/JOURNAL_EXPORT_FORMATS.md`).
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Value;
        impl<'de> Visitor<'de> for Value {
            type Value = Text;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a field's value")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.to_owned()))
            }

            fn visit_unit<E: Error>(self) -> Result<Text, E> {
                Ok(Text(String::new()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Text, A::Error> {
                let mut bytes = Vec::new();
                while let Some(value) = values.next_element::<serde_json::Value>()? {
                    match value {
                        serde_json::Value::Number(number) => {
                            bytes.extend(number.as_u64().and_then(|number| u8::try_from(number).ok()));
                        }
                        // The gate writes every field once: the first of several is its own.
                        serde_json::Value::String(text) if bytes.is_empty() => bytes.extend(text.bytes()),
                        _ => {}
                    }
                }
                Ok(Text(String::from_utf8_lossy(&bytes).into_owned()))
            }
        }
        deserializer.deserialize_any(Value)
    }
}

#[cfg(test)]
mod tests {
    use super::{Parsed, line, read};
    use crate::record::{Field, Kind};

    #[test]
    fn values_are_read_in_every_form_that_journalctl_has() {
        let denied = Kind::Denied.message_id();
        let rows = [
            (r#""plain""#, "plain"),
            ("null", ""),
            ("[104,105,255]", "hi\u{fffd}"),
            (r#"["first","second"]"#, "first"),
            ("[]", ""),
            (r#"[[104,105],"x"]"#, "x"),
        ];
        for (value, expected) in rows {
            let text = format!(
                r#"{{"__CURSOR":"s=1;i=2","__REALTIME_TIMESTAMP":"12","MESSAGE_ID":"{denied}","PSS_POD":{value},"_PID":"7"}}"#
            );
            let line = line(text.as_bytes()).unwrap();
            assert_eq!(line.record.pod, expected, "{text}");
            assert_eq!(
                (line.record.at, line.record.kind, line.cursor.as_deref()),
                (12, Some(Kind::Denied), Some("s=1;i=2"))
            );
        }
    }

    #[test]
    fn an_event_of_a_command_in_a_container_says_so() {
        let fault = Kind::Fault.message_id();
        for (fields, expected) in [
            (r#""PSS_EXEC":"1","MESSAGE":"cannot judge""#, true),
            (r#""MESSAGE":"exec violates""#, true),
            (r#""MESSAGE":"cannot judge: exec ""#, false),
            (r#""PSS_EXEC":"0","MESSAGE":"violates""#, false),
        ] {
            let text = format!(r#"{{"__REALTIME_TIMESTAMP":"12","MESSAGE_ID":"{fault}",{fields}}}"#);
            assert_eq!(line(text.as_bytes()).unwrap().record.is_exec(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_event_of_ours_is_none() {
        let rows: &[&[u8]] = &[
            b"",
            b"{}",
            b"[]",
            b"{\"__REALTIME_TIMESTAMP\":\"12\",\"PSS_DECISION\":\"denied\",\"SYSLOG_IDENTIFIER\":\"pss-guard\"}",
            b"{\"__REALTIME_TIMESTAMP\":\"12\",\"MESSAGE_ID\":\"6b52a4b24abb49c7b3bf48fe11dfe306\"}",
            b"{\"__REALTIME_TIMESTAMP\":\"-1\",\"MESSAGE_ID\":\"6b52a4b24abb49c7b3bf48fe11dfe305\"}",
            b"{\"__REALTIME_TIMESTAMP\":\"12\",\"MESSAGE_ID\":\"6b52a4b24abb49c7b3bf48fe11dfe305\",\"MESS",
            b"\xff\xfe",
        ];
        for row in rows {
            assert!(line(row).is_none(), "{}", String::from_utf8_lossy(row));
        }
    }

    #[test]
    fn the_journal_is_asked_for_what_a_record_has() {
        let names: Vec<&str> = read().map(Field::name).collect();
        assert_eq!(
            names.join(","),
            "MESSAGE,MESSAGE_ID,PSS_MODE,PSS_LEVEL,PSS_VERSION,PSS_CONTROLS,PSS_FINDINGS,PSS_BECAUSE,PSS_EXEC,\
             PSS_ENGINE,PSS_NAMESPACE,PSS_POD,PSS_POD_UID,PSS_CONTAINER,PSS_CONTAINER_ID,PSS_IMAGE"
        );
        // Each has a place of its own.
        let mut parsed = Parsed::default();
        for field in read() {
            let place = parsed.place(field).unwrap();
            assert_eq!(std::mem::replace(place, field.name().to_owned()), "", "{field:?}");
        }
    }
}
