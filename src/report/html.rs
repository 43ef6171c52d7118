//! Renders a report as one HTML page: the matrix of namespaces and levels first, then what it rests on.

use super::period::{self, minute};
use super::readiness::{Cell, LEVELS, Row, State, count};
use super::text::{rank, split};
use super::{Comparable, Name, Report, exceptions};
use crate::message::{OURS, UNMANAGED, marked};
use crate::output::page::{Column, Page, Tone};
use crate::pss::Origin;

/// Rows of a table; more would be no page for people.
const ROWS: usize = 200;

/// The page.
#[must_use]
pub fn page(report: &Report) -> String {
    let mut page = Page::new(&format!("pss-guard report: {}", report.node));
    let below = format!("Node {}", report.about().join(" · "));
    page.head("pss-guard report", &report.ready.answer, &below);
    readiness(&mut page, report);
    page.raw("<div class=\"two\">\n");
    parts(&mut page, report);
    decisions(&mut page, report);
    page.raw("</div>\n");
    controls(&mut page, report);
    workloads(&mut page, report);
    namespaces(&mut page, report);
    changes(&mut page, report);
    exceptions(&mut page, report);
    faults(&mut page, report);
    notes(&mut page, report);
    page.foot(&format!(
        "Written by pss-guard {} on {} UTC. This page loads nothing and runs nothing.",
        env!("CARGO_PKG_VERSION"),
        minute(&report.period.until)
    ));
    page.finish()
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

fn readiness(page: &mut Page, report: &Report) {
    let ready = &report.ready;
    page.section("Which level could be enforced", "With nothing refused, as far as this node has seen.");
    if ready.namespaces.is_empty() {
        page.raw("<p>No data yet.</p>\n").end();
        return;
    }
    page.raw("<div class=\"hero\"><div class=\"rings\">\n");
    page.ring("baseline", ready.baseline.ready, ready.baseline.of);
    page.ring("restricted", ready.restricted.ready, ready.restricted.of);
    page.raw("</div>\n<div>");
    let none = ready.restricted.of - ready.restricted.ready;
    page.element(
        "<p>",
        &if none == 0 {
            "Restricted could be enforced everywhere on this node.".to_owned()
        } else {
            format!(
                "{} not ready for restricted. The reasons are beside each, and what to fix first is below.",
                namespaces_are(none)
            )
        },
        "</p>\n",
    );
    page.legend(&[
        (Tone::Good, "ready: nothing would be refused"),
        (Tone::Bad, "refused: so many workloads would be"),
        (Tone::Odd, "not proven"),
        (Tone::None, "not judged"),
    ]);
    page.raw("</div></div>\n<div class=\"scroll\"><table class=\"matrix\"><caption class=\"skip\">Readiness of each namespace at each level</caption>\n");
    page.columns(&["namespace", "baseline", "restricted", "~why"]);
    let mut rows: Vec<&Row> = ready.namespaces.iter().collect();
    rows.sort_by_key(|row| rank(row));
    for row in rows.iter().take(ROWS) {
        page.element("<tr><th scope=\"row\">", name(row.namespace.as_deref()), "</th>");
        for level in LEVELS {
            page.raw("<td class=\"cell\">");
            cell(page, row.cell(level));
            page.raw("</td>");
        }
        page.element("<td class=\"wide small soft any\">", &why(row), "</td></tr>\n");
    }
    page.raw("</tbody></table></div>\n");
    more(page, rows.len());
    let open: Vec<String> = rows
        .iter()
        .take(ROWS)
        .filter(|row| row.is_counted() && row.restricted.state != State::Ready)
        .map(|row| format!("{}: {}", name(row.namespace.as_deref()), why(row)))
        .collect();
    if !open.is_empty() {
        page.raw("<div class=\"phone small\"><h3>What is missing</h3>\n")
            .list(open.iter().map(String::as_str))
            .raw("</div>\n");
    }
    page.end();
}

fn namespaces_are(count: usize) -> String {
    if count == 1 { "1 namespace is".to_owned() } else { format!("{count} namespaces are") }
}

fn why(row: &Row) -> String {
    if row.baseline.state == State::Refused {
        format!("baseline: {}", row.baseline.why)
    } else {
        row.restricted.why.clone()
    }
}

fn cell(page: &mut Page, cell: &Cell) {
    match cell.state {
        State::Ready if cell.enforced => page.tile(Tone::Good, "✓", "enforced"),
        State::Ready => page.tile(Tone::Good, "✓", "ready"),
        State::Refused if cell.workloads == 0 => page.tile(Tone::Bad, "✗", "refused"),
        State::Refused => page.tile(Tone::Bad, "✗", &format!("{} refused", cell.workloads)),
        State::Unproven => page.tile(Tone::Odd, "?", "not proven"),
        State::Exempt => page.tile(Tone::None, "–", "exempt"),
    };
}

fn more(page: &mut Page, all: usize) {
    if all > ROWS {
        page.element(
            "<p class=\"soft small\">",
            &format!("And {} more; --namespace selects, --format json has all.", all - ROWS),
            "</p>\n",
        );
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

fn parts(page: &mut Page, report: &Report) {
    let by_hour = report.period.by == "hour";
    page.section(if by_hour { "By hour" } else { "By day" }, "Container starts, in UTC.");
    let columns: Vec<Column> = report
        .parts
        .iter()
        .map(|part| {
            let (dark, light) = split(&part.counts);
            let short = if by_hour { part.from.get(11..16) } else { part.from.get(5..10) };
            let label =
                if by_hour { minute(&part.from) } else { part.from.get(..10).unwrap_or_default().to_owned() };
            Column { short: short.unwrap_or_default().to_owned(), label, dark, light }
        })
        .collect();
    page.chart("Container starts that were refused, would be, or were reported, over time", &columns);
    page.legend(&[(Tone::Bad, "refused, or would be"), (Tone::Odd, "only reported")]);
    page.end();
}

fn decisions(page: &mut Page, report: &Report) {
    page.section(
        "Decisions",
        "Container starts. One start can have several; a refused one is retried again and again.",
    );
    let rows: Vec<_> = report.decisions.iter().filter(|row| row.starts + row.before > 0).collect();
    if rows.is_empty() {
        page.raw("<p>None.</p>\n").end();
        return;
    }
    page.raw("<table>").columns(&["decision", "#starts", "#workloads", "change"]);
    for row in rows {
        page.element("<tr><th scope=\"row\">", row.decision, "</th><td class=\"n\">").number(row.starts);
        page.raw("</td><td class=\"n\">").number(row.workloads);
        page.element("</td><td class=\"soft\">", &before(report, row.starts, row.before), "</td></tr>\n");
    }
    page.raw("</tbody></table>\n");
    let execs = report.execs;
    if execs.sum() > 0 {
        let text = format!("Commands in running containers (exec, probes): {}.", execs.of_commands());
        page.element("<p class=\"small\">", &text, "</p>\n");
    }
    page.end();
}

fn controls(page: &mut Page, report: &Report) {
    if report.controls.is_empty() {
        return;
    }
    page.section(
        "What is violated",
        "Container starts by control. pss-guard explain CONTROL says how to fix it.",
    );
    page.raw("<table>").columns(&["control", "", "#starts", "#workloads", "~change"]);
    let largest = report.controls.iter().map(|row| row.starts + row.suspected).max().unwrap_or(1);
    for row in &report.controls {
        let parts = [(row.starts, Tone::Bad), (row.suspected, Tone::Odd)];
        let ours = format!("{OURS} at {}", row.level);
        let more = if row.origin == Origin::PssGuard.name() { &ours } else { row.level };
        page.row(row.control, more, &parts, largest);
        page.raw("<td class=\"n\">").number(row.starts);
        if row.suspected > 0 {
            page.raw(" <span class=\"soft small\">+").number(row.suspected).raw("?</span>");
        }
        page.raw("</td><td class=\"n\">").number(row.workloads);
        page.element(
            "</td><td class=\"wide soft\">",
            &before(report, row.starts, row.before),
            "</td></tr>\n",
        );
    }
    page.raw("</tbody></table>\n").legend(&[(Tone::Bad, "violated"), (Tone::Odd, "suspected")]).end();
}

fn workloads(page: &mut Page, report: &Report) {
    let rows: Vec<_> = report.workloads.iter().filter(|row| row.decisions.is_bad()).collect();
    if rows.is_empty() {
        return;
    }
    page.section("Workloads to fix", "Most starts first. Their names are derived from pod names.");
    page.raw("<div class=\"scroll\"><table>").columns(&["workload", "#starts", "violates", "~last seen"]);
    for row in rows.iter().take(ROWS) {
        page.element("<tr><th scope=\"row\">", &workload(&row.name), "");
        if row.is_static {
            page.raw(" ").pill(Tone::None, "static pod");
        }
        page.raw("</th><td class=\"n\">").number(row.starts).raw("</td><td class=\"small any\">");
        let mut said = row.controls.iter().copied().map(marked).collect::<Vec<_>>().join(", ");
        if row.decisions.fault > 0 {
            said = [said, "could not be judged".to_owned()]
                .into_iter()
                .filter(|text| !text.is_empty())
                .collect::<Vec<_>>()
                .join(", ");
        }
        page.text(&said);
        if !row.suspected.is_empty() {
            page.element(
                " <span class=\"soft\">",
                &format!("perhaps {}", row.suspected.join(", ")),
                "</span>",
            );
        }
        page.element("</td><td class=\"wide soft small n\">", &minute(&row.last), "</td></tr>\n");
    }
    page.raw("</tbody></table></div>\n");
    more(page, rows.len());
    page.end();
}

fn namespaces(page: &mut Page, report: &Report) {
    if report.namespaces.is_empty() {
        return;
    }
    page.section("By namespace", "Container starts that were logged.");
    page.raw("<table>").columns(&["namespace", "", "#starts", "#workloads", "~change"]);
    let largest = report.namespaces.iter().map(|row| row.starts).max().unwrap_or(1);
    for row in report.namespaces.iter().take(ROWS) {
        let (dark, light) = split(&row.decisions);
        let rest = row.starts.saturating_sub(dark + light);
        let parts = [(dark, Tone::Bad), (light, Tone::Odd), (rest, Tone::None)];
        page.row(name(row.namespace.as_deref()), "", &parts, largest);
        page.raw("<td class=\"n\">").number(row.starts).raw("</td><td class=\"n\">").number(row.workloads);
        page.element(
            "</td><td class=\"wide soft\">",
            &before(report, row.starts, row.before),
            "</td></tr>\n",
        );
    }
    page.raw("</tbody></table>\n");
    page.legend(&[
        (Tone::Bad, "refused, or would be"),
        (Tone::Odd, "only reported"),
        (Tone::None, "exempt, by an exception, or allowed"),
    ]);
    more(page, report.namespaces.len());
    page.end();
}

fn changes(page: &mut Page, report: &Report) {
    let changes = &report.changes;
    page.section(
        &format!("Since the {} before", period::length(report.period.seconds)),
        match changes.comparable {
            Comparable::Whole => "",
            Comparable::Part => "The journal begins within that time, so some things only look new.",
            Comparable::Nothing => {
                "The journal does not go back that far, so there is nothing to compare with."
            }
            Comparable::Unknown => "It is unknown how far back the journal goes.",
        },
    );
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
    for row in &report.modes {
        all.push(format!("{}: {}", minute(&row.at), row.message));
    }
    page.list(all.iter().map(String::as_str)).end();
}

fn exceptions(page: &mut Page, report: &Report) {
    if report.exceptions.is_empty() && report.exceptions_gone == 0 {
        return;
    }
    page.section("Exceptions", "The policy's, compared with the events of this period on this node.");
    page.raw("<div class=\"scroll\"><table>").columns(&["for", "controls", "use", "end", "~reason"]);
    for row in report.exceptions.iter().take(ROWS) {
        page.element("<tr><th scope=\"row\">", &row.whom, "</th><td class=\"small\">")
            .text(&row.controls.join(", "))
            .raw("</td><td>");
        match row.state {
            exceptions::State::Used => {
                page.pill(Tone::Good, &format!("used by {}", count(row.starts, "start")))
            }
            exceptions::State::Unused => page.pill(Tone::Odd, "never used"),
            exceptions::State::Untold => page.pill(Tone::None, "cannot be told"),
            exceptions::State::Expired => page.pill(Tone::Bad, "expired"),
        };
        page.raw("</td><td class=\"small any\">");
        let end = match row.days_left {
            0 => "today".to_owned(),
            days if row.ends_soon => format!("in {} ({})", count(days.unsigned_abs(), "day"), row.expires),
            _ => row.expires.clone(),
        };
        if row.ends_soon {
            page.pill(Tone::Bad, &end)
        } else {
            page.text(&end)
        };
        page.element("</td><td class=\"wide small soft any\">", &row.reason, "</td></tr>\n");
    }
    page.raw("</tbody></table></div>\n");
    if report.exceptions.iter().any(|row| row.state == exceptions::State::Untold) {
        page.raw(
            "<p class=\"soft small\">Unknown: the enforce level of the namespace does not ask for the \
                  control, and no use was logged.</p>\n",
        );
    }
    if report.exceptions_gone > 0 {
        let text = format!(
            "{} by exceptions that are not in the policy any more.",
            count(report.exceptions_gone, "start")
        );
        page.element("<p class=\"small\">", &text, "</p>\n");
    }
    page.end();
}

fn faults(page: &mut Page, report: &Report) {
    if report.faults.is_empty() {
        return;
    }
    page.section("Could not be judged", "");
    page.raw("<table>").columns(&["#starts", "what the gate said"]);
    for row in &report.faults {
        page.raw("<tr><td class=\"n\">").number(row.count).element(
            "</td><td class=\"small any\">",
            &row.fault,
            "</td></tr>\n",
        );
    }
    page.raw("</tbody></table>\n").end();
}

fn notes(page: &mut Page, report: &Report) {
    page.section("Notes", "");
    page.list(report.notes.iter().map(String::as_str));
    if !report.unseen.is_empty() {
        page.raw("<h3>Not seen</h3>\n").list(report.unseen.iter().map(String::as_str));
    }
    page.end();
}
