//! `report --format html`: the picture of namespaces and levels first, then what it rests on.

use std::time::Duration;

use maud::{Markup, html};

use super::readiness::{Cell, LEVELS, Rating, Row};
use super::text::{rank, split};
use super::{Comparable, Name, Report, exceptions};
use crate::message::{OURS, UNMANAGED, marked};
use crate::output::page::{
    About, Column, Tone, chart, document, legend, list, pill, ring, row_head, scrolled, section, table, tile,
};
use crate::pss::Origin;
use crate::time::{in_words, minute};
use crate::words::{agree, plural};

/// Rows of a table; more would be no page for people.
const ROWS: usize = 200;

/// The page.
#[must_use]
pub fn page(report: &Report) -> String {
    let about = About {
        program: "pss-guard report",
        node: &report.node,
        answer: &report.ready.answer,
        below: &format!("Node {}", report.about().join(" · ")),
        at: &minute(&report.period.until),
    };
    document(
        &about,
        &html! {
            (readiness(report))
            div.two { (parts(report)) (decisions(report)) }
            (controls(report))
            (workloads(report))
            (namespaces(report))
            (changes(report))
            (exceptions(report))
            (faults(report))
            (notes(report))
        },
    )
}

fn name(namespace: Option<&str>) -> &str {
    namespace.unwrap_or(UNMANAGED)
}

fn workload(name: &Name) -> String {
    let own = name.workload.as_deref().unwrap_or("(others)");
    match name.namespace.as_deref() {
        Some(namespace) => format!("{namespace}/{own}"),
        None => format!("{UNMANAGED} {own}"),
    }
}

fn readiness(report: &Report) -> Markup {
    let ready = &report.ready;
    let (title, below) =
        ("Which level could be enforced", "With nothing refused, as far as this node has seen.");
    if ready.namespaces.is_empty() {
        return section(title, below, &html! { p { "No data yet." } });
    }
    let none = ready.restricted.of - ready.restricted.ready;
    let mut rows: Vec<&Row> = ready.namespaces.iter().collect();
    rows.sort_by_key(|row| rank(row));
    let shown = || rows.iter().take(ROWS);
    let matrix = html! {
        @for row in shown() {
            tr {
                th scope="row" { (name(row.namespace.as_deref())) }
                @for level in LEVELS { td.cell { (cell(row.cell(level))) } }
                td.wide.small.soft.any { (why(row)) }
            }
        }
    };
    let open: Vec<String> = shown()
        .filter(|row| row.is_counted() && row.restricted.state != Rating::Ready)
        .map(|row| format!("{}: {}", name(row.namespace.as_deref()), why(row)))
        .collect();
    let content = html! {
        div.hero {
            div.rings {
                (ring("baseline", ready.baseline.ready, ready.baseline.of))
                (ring("restricted", ready.restricted.ready, ready.restricted.of))
            }
            div {
                p {
                    @if none == 0 {
                        "Restricted could be enforced everywhere on this node."
                    } @else {
                        (plural(none, "namespace")) " " (agree(&none, "is", "are")) " not ready for restricted. What stands against each is beside it, and what \
                        to fix first further down."
                    }
                }
                (legend(&[
                    (Tone::Good, "ready: nothing would be refused"),
                    (Tone::Bad, "refused: so many workloads would be"),
                    (Tone::Odd, "not proven"),
                    (Tone::None, "not judged"),
                ]))
            }
        }
        (scrolled(&table(
            Some("matrix"),
            "Readiness of each namespace at each level",
            &["namespace", "baseline", "restricted", "~why"],
            &matrix,
        )))
        (more(rows.len()))
        @if !open.is_empty() { div.phone.small { h3 { "What is missing" } (list(open)) } }
    };
    section(title, below, &content)
}

fn why(row: &Row) -> String {
    if row.baseline.state == Rating::Refused {
        format!("baseline: {}", row.baseline.why)
    } else {
        row.restricted.why.clone()
    }
}

fn cell(cell: &Cell) -> Markup {
    match cell.state {
        Rating::Ready if cell.enforced => tile(Tone::Good, "✓", "enforced"),
        Rating::Ready => tile(Tone::Good, "✓", "ready"),
        Rating::Refused if cell.workloads == 0 => tile(Tone::Bad, "✗", "refused"),
        Rating::Refused => tile(Tone::Bad, "✗", &format!("{} refused", cell.workloads)),
        Rating::Unproven => tile(Tone::Odd, "?", "not proven"),
        Rating::Exempt => tile(Tone::None, "–", "exempt"),
    }
}

fn more(all: usize) -> Markup {
    html! {
        @if all > ROWS {
            p.soft.small { "And " (all - ROWS) " more; --namespace selects, --format json has all." }
        }
    }
}

fn before(report: &Report, now: u64, before: u64) -> String {
    match report.changes.comparable {
        Comparable::Nothing => String::new(),
        _ if now == before => "as before".to_owned(),
        _ if now > before => format!("{} more", now - before),
        _ => format!("{} fewer", before - now),
    }
}

fn parts(report: &Report) -> Markup {
    let by_hour = report.period.by == "hour";
    let column = |part: &super::Part| {
        let (dark, light) = split(&part.counts);
        let short = if by_hour { part.from.get(11..16) } else { part.from.get(5..10) };
        let label =
            if by_hour { minute(&part.from) } else { part.from.get(..10).unwrap_or_default().to_owned() };
        Column { short: short.unwrap_or_default().to_owned(), label, dark, light }
    };
    let columns: Vec<Column> = report.parts.iter().map(column).collect();
    let content = html! {
        (chart("Container starts that were refused, would be, or were reported, over time", &columns))
        (legend(&[(Tone::Bad, "refused, or would be"), (Tone::Odd, "only reported")]))
    };
    section(if by_hour { "By hour" } else { "By day" }, "Container starts, in UTC.", &content)
}

fn decisions(report: &Report) -> Markup {
    let rows: Vec<_> = report.decisions.iter().filter(|row| row.starts + row.before > 0).collect();
    let lines = html! {
        @for row in &rows {
            tr {
                th scope="row" { (row.decision) }
                td.n { (row.starts) }
                td.n { (row.workloads) }
                td.soft { (before(report, row.starts, row.before)) }
            }
        }
    };
    let content = html! {
        @if rows.is_empty() {
            p { "None." }
        } @else {
            (table(None, "", &["decision", "#starts", "#workloads", "change"], &lines))
            @if report.execs.sum() > 0 {
                p.small { "Commands in running containers (exec, probes): " (report.execs.of_commands()) "." }
            }
        }
    };
    section(
        "Decisions",
        "Container starts. One start can have several; a refused one is retried again and again.",
        &content,
    )
}

fn controls(report: &Report) -> Markup {
    if report.controls.is_empty() {
        return Markup::default();
    }
    let largest = report.controls.iter().map(|row| row.starts + row.suspected).max().unwrap_or(1);
    let ours = |level: &str| format!("{OURS} at {level}");
    let rows = html! {
        @for row in &report.controls {
            @let ours = ours(row.level);
            @let more = if row.origin == Origin::PssGuard.name() { &ours } else { row.level };
            tr {
                (row_head(row.control, more, &[(row.starts, Tone::Bad), (row.suspected, Tone::Odd)], largest))
                td.n {
                    (row.starts)
                    @if row.suspected > 0 { " " span.soft.small { "+" (row.suspected) "?" } }
                }
                td.n { (row.workloads) }
                td.wide.soft { (before(report, row.starts, row.before)) }
            }
        }
    };
    let content = html! {
        (table(None, "", &["control", "", "#starts", "#workloads", "~change"], &rows))
        (legend(&[(Tone::Bad, "violated"), (Tone::Odd, "suspected")]))
    };
    section(
        "What is violated",
        "Container starts by control. pss-guard explain CONTROL says how to fix it.",
        &content,
    )
}

fn workloads(report: &Report) -> Markup {
    let rows: Vec<_> = report.workloads.iter().filter(|row| row.decisions.is_bad()).collect();
    if rows.is_empty() {
        return Markup::default();
    }
    let violates = |row: &super::WorkloadRow| {
        let fault = (row.decisions.fault > 0).then(|| "could not be judged".to_owned());
        row.controls.iter().copied().map(marked).chain(fault).collect::<Vec<_>>().join(", ")
    };
    let lines = html! {
        @for row in rows.iter().take(ROWS) {
            tr {
                th scope="row" {
                    (workload(&row.name))
                    @if row.is_static { " " (pill(Tone::None, "static pod")) }
                }
                td.n { (row.starts) }
                td.small.any {
                    (violates(row))
                    @if !row.suspected.is_empty() { " " span.soft { "perhaps " (row.suspected.join(", ")) } }
                }
                td.wide.soft.small.n { (minute(&row.last)) }
            }
        }
    };
    let content = html! {
        (scrolled(&table(None, "", &["workload", "#starts", "violates", "~last seen"], &lines)))
        (more(rows.len()))
    };
    section("Workloads to fix", "Most starts first. Their names are derived from pod names.", &content)
}

fn namespaces(report: &Report) -> Markup {
    if report.namespaces.is_empty() {
        return Markup::default();
    }
    let largest = report.namespaces.iter().map(|row| row.starts).max().unwrap_or(1);
    let rows = html! {
        @for row in report.namespaces.iter().take(ROWS) {
            @let (dark, light) = split(&row.decisions);
            @let rest = row.starts.saturating_sub(dark + light);
            @let parts = [(dark, Tone::Bad), (light, Tone::Odd), (rest, Tone::None)];
            tr {
                (row_head(name(row.namespace.as_deref()), "", &parts, largest))
                td.n { (row.starts) }
                td.n { (row.workloads) }
                td.wide.soft { (before(report, row.starts, row.before)) }
            }
        }
    };
    let content = html! {
        (table(None, "", &["namespace", "", "#starts", "#workloads", "~change"], &rows))
        (legend(&[
            (Tone::Bad, "refused, or would be"),
            (Tone::Odd, "only reported"),
            (Tone::None, "exempt, by an exception, or allowed"),
        ]))
        (more(report.namespaces.len()))
    };
    section("By namespace", "Container starts that were logged.", &content)
}

fn changes(report: &Report) -> Markup {
    let changes = &report.changes;
    let below = match changes.comparable {
        Comparable::Whole => "",
        Comparable::Part => "The journal begins within that time, so some things only look new.",
        Comparable::Nothing => "The journal does not go back that far, so there is nothing to compare with.",
        Comparable::Unknown => "It is unknown how far back the journal goes.",
    };
    let listed = |names: Vec<String>| {
        let rest = names.len().saturating_sub(40);
        let shown = names.into_iter().take(40).collect::<Vec<_>>().join(", ");
        if rest > 0 { format!("{shown} and {rest} more") } else { shown }
    };
    let mut all = Vec::new();
    if changes.comparable != Comparable::Nothing {
        for (what, names) in [
            ("New", changes.new.iter().map(workload).collect::<Vec<_>>()),
            ("Gone", changes.gone.iter().map(|gone| workload(&gone.name)).collect()),
            ("Newly violated", changes.new_controls.iter().copied().map(marked).collect()),
            ("No longer violated", changes.gone_controls.iter().copied().map(marked).collect()),
        ] {
            if !names.is_empty() {
                all.push(format!("{what}: {}", listed(names)));
            }
        }
        if all.is_empty() {
            all.push("Nothing changed.".to_owned());
        }
    }
    all.extend(report.modes.iter().map(|row| format!("{}: {}", minute(&row.at), row.message)));
    let title = format!("Since the {} before", in_words(Duration::from_secs(report.period.seconds)));
    section(&title, below, &list(all))
}

fn exceptions(report: &Report) -> Markup {
    if report.exceptions.is_empty() && report.exceptions_gone == 0 {
        return Markup::default();
    }
    let use_of = |row: &exceptions::Row| match row.state {
        exceptions::Usage::Used => pill(Tone::Good, &format!("used by {}", plural(row.starts, "start"))),
        exceptions::Usage::Unused => pill(Tone::Odd, "never used"),
        exceptions::Usage::Untold => pill(Tone::None, "cannot be told"),
        exceptions::Usage::Expired => pill(Tone::Bad, "expired"),
    };
    let end = |row: &exceptions::Row| match row.days_left {
        0 => "today".to_owned(),
        days if row.ends_soon => format!("in {} ({})", plural(days.unsigned_abs(), "day"), row.expires),
        _ => row.expires.clone(),
    };
    let rows = html! {
        @for row in report.exceptions.iter().take(ROWS) {
            tr {
                th scope="row" { (row.whom) }
                td.small { (row.controls.join(", ")) }
                td { (use_of(row)) }
                td.small.any { @if row.ends_soon { (pill(Tone::Bad, &end(row))) } @else { (end(row)) } }
                td.wide.small.soft.any { (row.reason) }
            }
        }
    };
    let content = html! {
        (scrolled(&table(None, "", &["for", "controls", "use", "end", "~reason"], &rows)))
        @if report.exceptions.iter().any(|row| row.state == exceptions::Usage::Untold) {
            p.soft.small {
                "Unknown: the enforce level of the namespace does not ask for the control, and no use was logged."
            }
        }
        @if report.exceptions_gone > 0 {
            p.small {
                (plural(report.exceptions_gone, "start")) " by exceptions that are not in the policy any more."
            }
        }
    };
    section("Exceptions", "The policy's, compared with the events of this period on this node.", &content)
}

fn faults(report: &Report) -> Markup {
    if report.faults.is_empty() {
        return Markup::default();
    }
    let rows = html! {
        @for row in &report.faults { tr { td.n { (row.count) } td.small.any { (row.fault) } } }
    };
    section("Could not be judged", "", &table(None, "", &["#starts", "what the gate said"], &rows))
}

fn notes(report: &Report) -> Markup {
    let content = html! {
        (list(&report.notes))
        @if !report.unseen.is_empty() { h3 { "Not seen" } (list(&report.unseen)) }
    };
    section("Notes", "", &content)
}
