//! `-v`: the steps that led to a verdict, on stderr, one line each.
//!
//! Not by `tracing-subscriber`: its thread-locals are more than musl has room for without asking the kernel, so the
//! hook, which never tells its steps, would map memory for them before every container.

use std::fmt::{self, Write as _};
use std::io::Write as _;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::message::escape;

/// Shows every step from now on.
pub fn to_stderr() {
    let show = |line: &str| _ = writeln!(std::io::stderr(), "{line}");
    // It fails where somebody listens already: then the steps are told.
    let _ = tracing::subscriber::set_global_default(Lines(show));
}

/// Hands over one line an event.
struct Lines<F>(F);

impl<F: Fn(&str) + 'static> Subscriber for Lines<F> {
    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::DEBUG)
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= LevelFilter::DEBUG
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(format!("{:>5} {}:", event.metadata().level(), event.metadata().target()));
        event.record(&mut line);
        (self.0)(&escape(&line.0));
    }

    // Nothing here has spans.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// `LEVEL target: message field=value …`
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing into a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::Lines;

    #[test]
    fn a_step_is_one_line_with_its_level_place_message_and_fields() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&lines);
        let show = move |line: &str| into.lock().unwrap().push(line.to_owned());
        tracing::subscriber::with_default(Lines(show), || {
            tracing::debug!(name = ?Some("a\nb"), path = %"/x\ny", "looked");
            tracing::trace!("a detail");
        });
        let shown = "DEBUG pss_guard::cli::verbose::tests: looked name=Some(\"a\\nb\") path=/x\\ny";
        assert_eq!(*lines.lock().unwrap(), [shown]);
    }
}
