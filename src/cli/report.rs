//! `pss-guard report`: reports what was decided, and which level each namespace is ready for.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::time::SystemTime;

use super::arguments::{Report as Arguments, ReportFormat as Format};
use super::{FAILED, LAST_GOOD, OK, line, some};
use crate::events::{self, From, micros};
use crate::level::cache::{Usable, load_usable};
use crate::level::{self, Levels, NamespaceLabels, PodAttributes, Policy, Resolution, namespaces};
use crate::message::escape;
use crate::mode::{InForce, in_force};
use crate::output::terminal::Style;
use crate::paths::Paths;
use crate::pss::{Level, Version};
use crate::report::aggregate::{Caps, History};
use crate::report::readiness::{Asked, LEVELS, Running};
use crate::report::time_range::Period;
use crate::report::{self, Context, html, text};
use crate::scan::{self, Setting, node_name};
use crate::time;

/// So many other namespaces are noted: names come from outside.
const MOST: usize = 1000;

/// Reads, counts and tells.
pub fn report(
    setting: &Setting,
    options: &Arguments,
    style: Style,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let (now, paths) = (SystemTime::now(), &setting.paths);
    let Some(period) = Period::until(now, options.since) else {
        let _ = writeln!(err, "pss-guard: --since is not in the past");
        return FAILED;
    };
    let mut unseen = Vec::new();
    let policy = match load_usable(paths) {
        Ok(Usable { policy, fault }) => {
            unseen.extend(fault.map(|error| format!("the policy: {}; {LAST_GOOD}", line(&error))));
            Some(policy)
        }
        Err(error) => {
            unseen.push(format!("the policy: {}", line(&error)));
            None
        }
    };
    let rules = policy.clone().unwrap_or_default();
    let node = node_name(&setting.live);
    let mut history = History::new(period, &node, &rules, &options.namespace, Caps::default());
    let from = From::Since(time::of_micros(period.before()));
    let mut others = BTreeSet::new();
    let read = events::read(paths, &from, &mut |record| {
        let fits = others.len() < MOST && !record.namespace.is_empty();
        if fits && !options.namespace.contains(&record.namespace) {
            others.insert(record.namespace.clone());
        }
        history.add(&record);
    });
    if history.events == 0 && !read.unseen.is_empty() {
        for unseen in &read.unseen {
            let _ = writeln!(err, "pss-guard: no event could be read: {unseen}");
        }
        return FAILED;
    }
    unseen.extend(read.unseen);
    let running = policy.as_ref().and_then(|_| running(setting, options, &node, &mut others, &mut unseen));
    let is_known = |name: &String| {
        history.namespaces.contains_key(name.as_str())
            || running.iter().flatten().any(|(own, _)| own == name)
            || rules.namespaces.contains_key(name)
            || matches!(namespaces::read(&paths.namespaces(), name), Ok(NamespaceLabels::Labels { .. }))
    };
    if let Some(name) = options.namespace.iter().find(|name| !is_known(name)) {
        let others: Vec<String> = others.iter().map(|name| escape(name)).collect();
        let _ = writeln!(
            err,
            "pss-guard: namespace \"{}\" is not known on this node: no event of it in this time, and no container{}",
            escape(name),
            if others.is_empty() { String::new() } else { format!(" (known: {})", some(&others)) }
        );
        return FAILED;
    }
    let names = history.namespaces.keys().map(|name| &**name);
    let names = names.chain(running.iter().flatten().map(|(name, _)| name.as_str()));
    let asked = names.map(|name| (name.to_owned(), asked(paths, policy.as_ref(), name))).collect();
    let changed = std::fs::metadata(paths.policy()).and_then(|metadata| metadata.modified());
    let in_force = policy.as_ref().map(|policy| in_force(paths, policy.mode));
    let context = Context {
        node: &node,
        policy: policy.as_ref(),
        mode: in_force.as_ref().map(|in_force| in_force.mode),
        mode_until: in_force.as_ref().and_then(InForce::until),
        asked: &asked,
        running: running.as_ref(),
        journal_begins: events::begins(paths),
        policy_changed: changed.ok().map(micros),
        unseen: &unseen,
    };
    let report = report::report(&history, &context);
    let written = match options.format {
        Format::Text => text::write(&report, style, out),
        Format::Json => json(&report, out),
        Format::Html => out.write_all(html::page(&report).as_bytes()),
    };
    match written.and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let _ = writeln!(err, "pss-guard: write the report: {}", line(&error));
            FAILED
        }
        _ => OK,
    }
}

fn json(report: &report::Report, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, report)?;
    out.write_all(b"\n")
}

/// What a namespace asks for now.
fn asked(paths: &Paths, policy: Option<&Policy>, name: &str) -> Asked {
    let Some(policy) = policy else { return Asked::Unknown };
    let whose = PodAttributes { namespace: (!name.is_empty()).then_some(name), ..PodAttributes::default() };
    if level::exempt(policy, &whose).is_some() {
        return Asked::Exempt;
    }
    let found = match whose.namespace.map(|name| namespaces::read(&paths.namespaces(), name)) {
        None => NamespaceLabels::NoFolder,
        Some(Ok(found)) => found,
        Some(Err(_)) => return Asked::Unknown,
    };
    let strictest = |demands: &[level::RequiredLevel<'_>]| {
        demands.iter().map(|demand| demand.level).max().unwrap_or(Level::Privileged)
    };
    match level::resolve(policy, &whose, &found) {
        Resolution::Exempt(_) => Asked::Exempt,
        Resolution::UnknownNamespace(_) => Asked::Unknown,
        Resolution::Levels(Levels { enforce, audit, warn }) => {
            Asked::Levels { enforce: strictest(&enforce), audit: strictest(&audit), warn: strictest(&warn) }
        }
    }
}

/// What runs now, held against every level that can be enforced.
fn running(
    setting: &Setting,
    options: &Arguments,
    node: &str,
    others: &mut BTreeSet<String>,
    unseen: &mut Vec<String>,
) -> Option<BTreeMap<String, Running>> {
    if options.no_scan {
        return None;
    }
    let mut all: BTreeMap<String, Running> = BTreeMap::new();
    for (index, level) in LEVELS.into_iter().enumerate() {
        let question = scan::Options {
            level: Some((level, Version::Latest)),
            namespaces: &options.namespace,
            ..scan::Options::default()
        };
        let seen = scan::scan(setting, &question);
        let seen = seen.map_err(|error| unseen.push(format!("what runs now: {}", line(&error)))).ok()?;
        for place in seen.unseen.iter().filter(|_| index == 0) {
            unseen.push(format!("what runs now: {}: {}", place.path, place.why));
        }
        others.extend(seen.elsewhere);
        for one in &seen.containers {
            let namespace = one.result.container().namespace.as_deref().unwrap_or_default();
            all.entry(namespace.to_owned()).or_default().add(one, index, node);
        }
    }
    Some(all)
}
