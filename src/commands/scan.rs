//! `pss-guard scan`: what of this node would be refused at its next start?

use std::io::{self, ErrorKind, Write};

use super::{FAILED, LAST_GOOD, OK, line};
use crate::level::cache::load_usable;
use crate::metrics;
use crate::pss::Level;
use crate::pss::Version;
use crate::report::sarif;
use crate::report::terminal::{Bar, Style};
use crate::scan::policy_report::{self, Api};
use crate::scan::{self, Scan, Setting, html, table};

/// Exit code with `--fail`: a container would be refused, or runs with more than was asked for.
pub const FOUND: u8 = 1;

/// How a scan is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One object a container, one a line, as `check` writes them.
    Json,
    /// SARIF 2.1.0.
    Sarif,
    /// One page.
    Html,
    /// Objects for a cluster.
    Reports(Api),
}

/// What to ask, and how to answer.
#[derive(Debug)]
pub struct Options<'a> {
    /// The level to check every container against instead of its own.
    pub level: Option<(Level, Version)>,
    /// Only these namespaces.
    pub namespaces: &'a [String],
    /// Only these controls.
    pub controls: &'a [&'static str],
    /// Whether what is found is a failure.
    pub fail: bool,
    /// Whether the numbers are kept for `metrics`.
    pub keep: bool,
    /// How to show it.
    pub format: Format,
    /// The look of a text for people.
    pub style: Style,
}

/// Scans the node and writes what was found.
pub fn scan(setting: &Setting, options: &Options<'_>, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let bar = Bar::on_stderr();
    let progress = |done, all| bar.show(done, all);
    let question = scan::Options {
        level: options.level,
        namespaces: options.namespaces,
        controls: options.controls,
        progress: Some(&progress),
    };
    let scan = scan::scan(setting, &question);
    bar.clear();
    let scan = match scan {
        Ok(scan) => scan,
        Err(error) => {
            let _ = writeln!(err, "pss-guard: {}", line(&error));
            return FAILED;
        }
    };
    if let Some(fault) = &scan.policy_fault {
        let _ = writeln!(err, "pss-guard: {fault}; {LAST_GOOD}");
    }
    if options.keep
        && let Err(error) = metrics::scan::keep(&setting.paths, &scan)
    {
        let _ = writeln!(err, "pss-guard: {}", line(&error));
        return FAILED;
    }
    let written = match options.format {
        Format::Text => table::write(&scan, &options.style, out),
        Format::Json => json(&scan, out),
        Format::Sarif => to_sarif(&scan, out),
        Format::Html => to_html(setting, &question, &scan, out),
        Format::Reports(api) => to_reports(setting, &scan, api, out),
    };
    // A reader that went away (`| head`) has seen enough; the exit code still tells.
    if let Err(error) = written.and_then(|()| out.flush())
        && error.kind() != ErrorKind::BrokenPipe
    {
        let _ = writeln!(err, "pss-guard: write the results: {error}");
        return FAILED;
    }
    if options.format != Format::Text {
        for place in &scan.unseen {
            let _ = writeln!(err, "pss-guard: cannot look at {}: {}", place.path, place.why);
        }
    }
    let sum = scan.summary();
    match () {
        // A number among those that are kept; a timer that fails is for what keeps none.
        () if scan.is_partial() && (options.fail || !options.keep) => FAILED,
        () if options.fail && sum.refused + sum.drifted > 0 => FOUND,
        () => OK,
    }
}

fn json(scan: &Scan, out: &mut dyn Write) -> io::Result<()> {
    for container in &scan.containers {
        serde_json::to_writer(&mut *out, container)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

/// The picture shows every level, whichever was asked about.
fn to_html(
    setting: &Setting,
    question: &scan::Options<'_>,
    scan: &Scan,
    out: &mut dyn Write,
) -> io::Result<()> {
    let at = |level| {
        let question = scan::Options { level: Some((level, Version::Latest)), progress: None, ..*question };
        scan::scan(setting, &question).map_err(io::Error::other)
    };
    let [baseline, restricted] = [at(Level::Baseline)?, at(Level::Restricted)?];
    let page = html::page(scan, &[(Level::Baseline, &baseline), (Level::Restricted, &restricted)]);
    out.write_all(page.as_bytes())
}

fn to_reports(setting: &Setting, scan: &Scan, api: Api, out: &mut dyn Write) -> io::Result<()> {
    let policy = load_usable(&setting.paths).map_err(io::Error::other)?.policy;
    policy_report::write(scan, &policy, api, out)
}

fn to_sarif(scan: &Scan, out: &mut dyn Write) -> io::Result<()> {
    let mut log = sarif::Log::default();
    for container in &scan.containers {
        log.add(&container.result);
        for drift in &container.drift {
            let says = format!("runs with {}, asked for {}", drift.runs, drift.asked);
            log.add_drift(&container.result, drift.control, &says);
        }
    }
    for place in &scan.unseen {
        log.add_fault(&place.path, &place.why);
    }
    log.write(out)
}
