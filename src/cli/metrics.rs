//! `pss-guard metrics`: writes metrics for Prometheus.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use super::arguments::Metrics as Arguments;
use super::{FAILED, OK, line};
use crate::atomic::publish;
use crate::install::engines;
use crate::message::escape;
use crate::metrics::exposition::{self, Format};
use crate::metrics::store::Store;
use crate::metrics::{gather, http};
use crate::status::Setting;

/// Writes the numbers to a file or to `out`, or serves them.
pub fn metrics(root: &Path, arguments: &Arguments, out: &mut dyn Write, err: &mut (dyn Write + Send)) -> u8 {
    if arguments.http {
        return serve(root, Duration::from_secs(arguments.idle), err);
    }
    let setting = Setting::under(root, &engines::ALL);
    let output = arguments.output.as_deref();
    if let Some(path) = output.filter(|path| path.extension().is_none_or(|end| end != "prom")) {
        let says = format!("{}: node_exporter reads only files whose names end in .prom", path.display());
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
                Err(format!("write the metrics: {error}"))
            }
            _ => Ok(()),
        },
    };
    end(written, err)
}

/// Answers scrapes of the node under a root directory, on the sockets that systemd passed.
fn serve(root: &Path, idle: Duration, err: &mut (dyn Write + Send)) -> u8 {
    let mut said = Vec::new();
    let tell = || {
        let setting = Setting::under(root, &engines::ALL);
        let store = Store::open(&setting.paths);
        let (families, faults) = gather(&setting, store.count());
        // Once, and not at every scrape.
        if faults != said {
            complain(&faults, err);
            said = faults;
        }
        [Format::Prometheus, Format::Openmetrics].map(|format| exposition::write(&families, format))
    };
    let served = http::passed_sockets().and_then(|sockets| http::serve(&sockets, idle, tell));
    end(served.map_err(|error| error.to_string()), err)
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
