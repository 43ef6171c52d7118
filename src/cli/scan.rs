//! `pss-guard scan`: lists running containers that would be refused at their next start.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use super::arguments::{Scan as Arguments, ScanFormat as Format};
use super::{FAILED, LAST_GOOD, OK, line, some};
use crate::level::cache::load_usable;
use crate::message::escape;
use crate::metrics;
use crate::node::host::Node as _;
use crate::output::sarif;
use crate::output::terminal::{Bar, Style};
use crate::pss::controls::{CONTROLS, successors};
use crate::pss::{NEWEST, Version, Visibility};
use crate::scan::merge::{self, Part};
use crate::scan::policy_report::{self, Api};
use crate::scan::{self, Scan, Setting, html, table};

/// Exit code with `--fail`: a container or a pod would be refused, or a container runs with more than was asked for.
pub const FOUND: u8 = 1;

/// Scans the node, or merges scans, and writes what was found.
pub fn scan(
    setting: &Setting,
    options: &Arguments,
    style: Style,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    if !options.merge.is_empty() {
        return merge(options, style, out, err);
    }
    let controls = match controls(setting, options) {
        Ok((controls, notes)) => {
            for note in notes {
                let _ = writeln!(err, "pss-guard: {note}");
            }
            controls
        }
        Err(says) => {
            let _ = writeln!(err, "pss-guard: {says}");
            return FAILED;
        }
    };
    let bar = Bar::on_stderr();
    let progress = |done, all| bar.show(done, all);
    let question = scan::Options {
        level: options.level,
        namespaces: &options.namespace,
        controls: &controls,
        // JSON can become a page by --merge.
        besides: if matches!(options.format, Format::Html | Format::Json) { &html::LEVELS } else { &[] },
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
    // What was asked about and is not there is no answer, and least of all a good one.
    let absent = absent(setting, options, &scan);
    for says in &absent {
        let _ = writeln!(err, "pss-guard: {says}");
    }
    if !absent.is_empty() && scan.containers.is_empty() {
        for place in &scan.unseen {
            let _ = writeln!(err, "pss-guard: cannot inspect {}: {}", place.path, place.why);
        }
        return FAILED;
    }
    if options.keep
        && let Err(error) = metrics::scan::keep(&setting.paths, &scan)
    {
        let _ = writeln!(err, "pss-guard: {}", line(&error));
        return FAILED;
    }
    let written = match options.format {
        Format::Text => table::write(&scan, &style, out),
        Format::Json => merge::write(&scan, &Part::of(&scan, &options.namespace, &options.control), out),
        Format::Sarif => to_sarif(&scan, out),
        Format::Html => out.write_all(html::page(&scan).as_bytes()),
        Format::Policyreport => to_reports(setting, &scan, Api::PolicyReport, out),
        Format::Openreports => to_reports(setting, &scan, Api::OpenReports, out),
    };
    match finish(&scan, written, options, out, err) {
        OK | FOUND if !absent.is_empty() => FAILED,
        code => code,
    }
}

/// What is left to say, and the exit code.
fn finish(
    scan: &Scan,
    written: io::Result<()>,
    options: &Arguments,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    // A reader that went away (`| head`) has seen enough; the exit code still tells.
    if let Err(error) = written.and_then(|()| out.flush())
        && error.kind() != ErrorKind::BrokenPipe
    {
        let _ = writeln!(err, "pss-guard: write the results: {}", line(&error));
        return FAILED;
    }
    if options.format != Format::Text {
        for place in &scan.unseen {
            let _ = writeln!(err, "pss-guard: cannot inspect {}: {}", place.path, place.why);
        }
    }
    let sum = scan.summary();
    match () {
        // A number among those that are kept; a timer that fails is for what keeps none.
        () if scan.is_partial() && (options.fail || !options.keep) => FAILED,
        () if options.fail && sum.refused + sum.refused_empty_pods + sum.drifted > 0 => FOUND,
        () => OK,
    }
}

/// The controls to select, and what is to be said of them. One that another stands in for where a container is held to it
/// has that one selected as well; one that is not in force at the level that is asked about finds nothing anywhere.
fn controls(setting: &Setting, options: &Arguments) -> Result<(Vec<&'static str>, Vec<String>), String> {
    let latest = load_usable(&setting.paths).map_or(NEWEST, |usable| usable.policy.latest_minor());
    let (mut selected, mut notes) = (options.control.clone(), Vec::new());
    for id in &options.control {
        let Some(control) = CONTROLS.iter().find(|control| control.id == *id) else { continue };
        if control.sees == Visibility::Nothing {
            return Err(format!("a node can see nothing of {id}, so an empty result proves nothing"));
        }
        let next: Vec<_> = successors(id).collect();
        let in_force = |level, version: Version| {
            let minor = version.minor(latest);
            let own = [*control].into_iter().chain(next.iter().copied());
            own.filter(|own| own.level <= level && own.at(minor).is_some()).count()
        };
        if let Some((level, version)) = options.level
            && in_force(level, version) == 0
        {
            let since = control.since();
            return Err(format!(
                "{id} is not in force at {level}:{version}, so nothing would be found; it is in force from \
                 {}:v1.{since} on",
                control.level
            ));
        }
        for next in next.iter().filter(|next| !options.control.contains(&next.id)) {
            if options.level.is_none_or(|(level, version)| {
                level >= next.level && next.at(version.minor(latest)).is_some()
            }) {
                selected.push(next.id);
                notes.push(format!("at {} {} replaces {id}, and is shown as well", next.level, next.id));
            }
        }
    }
    Ok((selected, notes))
}

/// What every root directory has one of.
const PARTS: [&str; 4] = ["etc", "run", "usr", "var"];

/// What was asked about and does not run here, a sentence each.
fn absent(setting: &Setting, options: &Arguments, scan: &Scan) -> Vec<String> {
    let namespace = |one: &scan::Scanned| one.result.container().namespace.as_ref().map(ToString::to_string);
    let seen: BTreeSet<String> = scan.containers.iter().filter_map(namespace).collect();
    let all: Vec<String> = seen.union(&scan.elsewhere).map(|name| escape(name)).collect();
    let (found, partial) = match scan.unseen.len() {
        0 => ("runs here", ""),
        _ => ("was seen", "; not everything could be inspected"),
    };
    let others = if all.is_empty() {
        format!("no pod {found}")
    } else {
        format!("namespaces with pods: {}", some(&all))
    };
    let asked: BTreeSet<&String> = options.namespace.iter().filter(|name| !seen.contains(*name)).collect();
    let nothing = scan.containers.is_empty() && all.is_empty() && scan.unseen.is_empty();
    // What has nothing of a node is none; a node that was captured without a container has nothing to be judged.
    let has = |name: &&str| setting.live.is_folder(&Path::new("/").join(name));
    if let Some(root) = setting.paths.other_root().filter(|_| nothing && !PARTS.iter().any(has)) {
        return vec![format!(
            "{} is not the root directory of a node: there is none of {} in it",
            root.display(),
            PARTS.join(", ")
        )];
    }
    asked
        .into_iter()
        .map(|name| format!("no container of namespace \"{}\" {found} ({others}){partial}", escape(name)))
        .collect()
}

/// Writes what several nodes have found.
fn merge(options: &Arguments, style: Style, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    if matches!(options.format, Format::Policyreport | Format::Openreports) {
        let _ = writeln!(
            err,
            "pss-guard: what a control that found nothing means depends on the policy of its node: make these reports on \
             each node, by scan without --merge"
        );
        return FAILED;
    }
    let scan = match merge::read(&options.merge) {
        Ok(scan) => scan,
        Err(error) => {
            let _ = writeln!(err, "pss-guard: {}; nothing was merged", line(&error));
            return FAILED;
        }
    };
    let written = match options.format {
        Format::Text => table::write(&scan, &style, out),
        Format::Html => out.write_all(html::page(&scan).as_bytes()),
        Format::Sarif => to_sarif(&scan, out),
        _ => merge::write(&scan, &Part::of(&scan, &[], &[]), out),
    };
    finish(&scan, written, options, out, err)
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
