//! `pss-guard metrics`: what Prometheus wants to know of this node.

use std::io::{self, Write};
use std::path::Path;

use super::{FAILED, OK, line};
use crate::install::write;
use crate::metrics::exposition::{self, Format};
use crate::metrics::gather;
use crate::metrics::store::Store;
use crate::report::text::escape;
use crate::status::Setting;

/// Writes the numbers to a file, or to `out`.
pub fn metrics(
    setting: &Setting<'_>,
    format: Format,
    output: Option<&Path>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    // Until the file is there: of two that count at once, the one that has counted less must not write last.
    let store = Store::open(&setting.paths);
    let (families, faults) = gather(setting, store.count());
    let text = exposition::write(&families, format);
    for fault in faults {
        let _ = writeln!(err, "pss-guard: {}", escape(&fault));
    }
    let written = match output {
        None => out.write_all(text.as_bytes()).and_then(|()| out.flush()),
        Some(path) => {
            return match write::replace(path, text.as_bytes(), 0o644) {
                Ok(()) => OK,
                Err(error) => {
                    let _ = writeln!(err, "pss-guard: {}", escape(&line(&error)));
                    FAILED
                }
            };
        }
    };
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let _ = writeln!(err, "pss-guard: write the metrics: {error}");
            FAILED
        }
        _ => OK,
    }
}
