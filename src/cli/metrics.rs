//! `pss-guard metrics`: writes metrics for Prometheus.

use std::io::{self, Write};
use std::path::Path;

use super::arguments::Metrics as Arguments;
use super::{FAILED, OK, line};
use crate::atomic::publish;
use crate::install::engines;
use crate::message::escape;
use crate::metrics::exposition;
use crate::metrics::gather;
use crate::metrics::store::Store;
use crate::status::Setting;

/// Writes the numbers to a file or to `out`.
pub fn metrics(root: &Path, arguments: &Arguments, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let setting = Setting::under(root, &engines::ALL);
    let output = arguments.output.as_deref();
    if let Some(path) = output.filter(|path| path.extension().is_none_or(|end| end != "prom")) {
        let says = format!("{}: node_exporter reads only files whose names end in .prom", path.display());
        return end(Err(says), err);
    }
    if let Some(folder) =
        output.and_then(Path::parent).filter(|folder| *folder != Path::new("") && !folder.is_dir())
    {
        let says = format!(
            "there is no folder {}; make it, and have node_exporter read it (--collector.textfile.directory)",
            folder.display()
        );
        return end(Err(says), err);
    }
    // Until the file is there: of two that count at once, the one that has counted less must not write last.
    let store = Store::open(&setting.paths);
    let (families, faults) = gather(&setting, store.count());
    let text = exposition::write(&families, arguments.format);
    complain(&faults, err);
    let written = match output {
        Some(path) => publish(path, text.as_bytes(), 0o644).map_err(|error| line(&error)),
        None => match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(format!("write the metrics: {}", line(&error)))
            }
            _ => Ok(()),
        },
    };
    end(written, err)
}

fn complain(faults: &[String], err: &mut dyn Write) {
    for fault in faults {
        let _ = writeln!(err, "pss-guard: {}", escape(fault));
    }
}

fn end(done: Result<(), String>, err: &mut dyn Write) -> u8 {
    match done {
        Ok(()) => OK,
        Err(error) => {
            let _ = writeln!(err, "pss-guard: {}", escape(&error));
            FAILED
        }
    }
}
