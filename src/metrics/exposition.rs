//! Writes metrics in Prometheus' text format or in OpenMetrics.
//!
//! Both are lines of `name{label="value"} number`. They differ in a counter's name in its TYPE line: the text format has
//! the name of the samples (`…_total`), OpenMetrics the name without that suffix. A parser of one that reads the other
//! takes counters for untyped values.

use std::fmt::Write as _;

/// The two formats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Prometheus' text format 0.0.4, which node_exporter's textfile collector reads
    #[default]
    Prometheus,
    /// OpenMetrics 1.0
    Openmetrics,
}

/// What kind of number it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// It only grows. Its samples are called as the family is, and `_total`.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// A number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// A count.
    Whole(u64),
    /// A measure.
    Real(f64),
}

/// Numbers of one name.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Its name, without `_total`.
    pub name: &'static str,
    /// Its type.
    pub kind: Type,
    /// What it says, in a sentence.
    pub help: &'static str,
    /// Its numbers, by their labels.
    pub samples: Vec<(Vec<(&'static str, String)>, Number)>,
}

impl Family {
    /// A gauge that has no labels.
    #[must_use]
    pub fn gauge(name: &'static str, help: &'static str, number: Number) -> Self {
        Self { name, kind: Type::Gauge, help, samples: vec![(Vec::new(), number)] }
    }
}

/// Writes all families down. Those without numbers are left out.
#[must_use]
pub fn write(families: &[Family], format: Format) -> String {
    let mut text = String::new();
    for family in families.iter().filter(|family| !family.samples.is_empty()) {
        let (kind, total) = match family.kind {
            Type::Counter => ("counter", "_total"),
            Type::Gauge => ("gauge", ""),
        };
        let told = if format == Format::Prometheus { total } else { "" };
        let (name, help) = (family.name, family.help);
        // A String takes everything.
        let _ = writeln!(text, "# HELP {name}{told} {help}\n# TYPE {name}{told} {kind}");
        for (labels, number) in &family.samples {
            let _ = write!(text, "{name}{total}");
            for (nth, (label, value)) in labels.iter().enumerate() {
                let before = if nth == 0 { '{' } else { ',' };
                let _ = write!(text, "{before}{label}=\"{}\"", escape(value));
            }
            let after = if labels.is_empty() { "" } else { "}" };
            let _ = match number {
                Number::Whole(number) => writeln!(text, "{after} {number}"),
                Number::Real(number) => writeln!(text, "{after} {number}"),
            };
        }
    }
    if format == Format::Openmetrics {
        text.push_str("# EOF\n");
    }
    text
}

/// A label's value between its quotes: the same in both formats.
fn escape(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::{Family, Format, Number, Type, write};

    #[test]
    fn a_counter_is_told_as_each_format_has_it() {
        let labels = |value: &str| vec![("namespace", value.to_owned()), ("mode", "audit".to_owned())];
        let families = [
            Family {
                name: "x_things",
                kind: Type::Counter,
                help: "Things.",
                samples: vec![
                    (labels("shop"), Number::Whole(3)),
                    (labels("a\\b\"c\nd"), Number::Whole(u64::MAX)),
                ],
            },
            Family { name: "x_none", kind: Type::Gauge, help: "Nothing.", samples: Vec::new() },
            Family::gauge("x_seconds", "Time.", Number::Real(0.25)),
        ];
        let samples = concat!(
            "x_things_total{namespace=\"shop\",mode=\"audit\"} 3\n",
            "x_things_total{namespace=\"a\\\\b\\\"c\\nd\",mode=\"audit\"} 18446744073709551615\n",
        );
        let gauge = "# HELP x_seconds Time.\n# TYPE x_seconds gauge\nx_seconds 0.25\n";
        assert_eq!(
            write(&families, Format::Prometheus),
            format!("# HELP x_things_total Things.\n# TYPE x_things_total counter\n{samples}{gauge}")
        );
        assert_eq!(
            write(&families, Format::Openmetrics),
            format!("# HELP x_things Things.\n# TYPE x_things counter\n{samples}{gauge}# EOF\n")
        );
    }
}
