//! Renders a report for a terminal: the answer first, then what it rests on.

use std::io::{self, Write};
use std::time::Duration;

use super::aggregate::Counts;
use super::readiness::{Cell, LEVELS, Rating, Row};
use super::{Comparable, Name, Report, exceptions};
use crate::message::{UNMANAGED, escape, marked};
use crate::output::terminal::{Style, Tone};
use crate::time::{in_words, minute};
use crate::words::plural;

/// Rows of a table; the rest is counted.
const ROWS: usize = 15;

/// Writes it.
pub fn write(report: &Report, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let mut page = Page { style, out };
    page.head(report)?;
    page.readiness(report)?;
    page.decisions(report)?;
    page.parts(report)?;
    page.controls(report)?;
    page.namespaces(report)?;
    page.workloads(report)?;
    page.changes(report)?;
    page.exceptions(report)?;
    page.faults(report)?;
    page.modes(report)?;
    page.notes(report)
}

struct Page<'a> {
    style: Style,
    out: &'a mut dyn Write,
}

/// A row of a bar chart.
struct Bar {
    label: String,
    /// What refused, or would have.
    dark: u64,
    /// What was only reported.
    light: u64,
    value: u64,
    after: String,
}

impl Page<'_> {
    fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{}", text.trim_end())
    }

    fn title(&mut self, text: &str, more: &str) -> io::Result<()> {
        let title = self.style.paint(Tone::Title, text);
        let more = if more.is_empty() { String::new() } else { format!("  {more}") };
        let more = self.style.paint(Tone::Faint, &self.fit(&more, self.room(text.len())));
        writeln!(self.out, "\n{title}{more}")
    }

    /// A text from outside in letters that can be shown.
    fn plain(&self, text: &str) -> String {
        self.style.plain(&escape(text))
    }

    fn fit(&self, text: &str, width: usize) -> String {
        self.style.cut(&self.plain(text), width)
    }

    fn room(&self, taken: usize) -> usize {
        self.style.width.saturating_sub(taken)
    }

    /// A sentence behind a mark.
    fn item(&mut self, mark: &str, text: &str) -> io::Result<()> {
        let first = format!("  {mark} ");
        let indent = first.chars().count();
        let text = self.style.wrapped(&first, indent, &escape(text));
        self.line(&text)
    }

    fn more(&mut self, all: usize) -> io::Result<()> {
        if all > ROWS {
            let text = format!("  and {} more; --namespace selects, --format json has all", all - ROWS);
            let text = self.style.paint(Tone::Faint, &text);
            self.line(&text)?;
        }
        Ok(())
    }

    fn head(&mut self, report: &Report) -> io::Result<()> {
        let answer = self.style.wrapped("", 0, &report.ready.answer);
        let answer = self.style.paint(Tone::Title, &answer);
        self.line(&answer)?;
        let between = if self.style.unicode { " · " } else { " - " };
        let text = self.style.wrapped("", 0, &escape(&report.about().join(between)));
        self.line(&text)
    }

    fn readiness(&mut self, report: &Report) -> io::Result<()> {
        let rows = &report.ready.namespaces;
        if rows.is_empty() {
            return Ok(());
        }
        self.title("Which level could be enforced", "")?;
        let names: Vec<String> = rows.iter().map(|row| self.name(row.namespace.as_deref())).collect();
        let wide = self.widest(&names, "namespace");
        let head = format!(
            "  {:<wide$}  {:<12}  {:<12}  {:<12}",
            "namespace", "enforce now", "baseline", "restricted"
        );
        let head = self.style.paint(Tone::Faint, head.trim_end());
        self.line(&head)?;
        // What is not ready first: that is what there is to do.
        let mut order: Vec<(&Row, &String)> = rows.iter().zip(&names).collect();
        order.sort_by_key(|(row, _)| rank(row));
        for (row, name) in order.iter().take(ROWS) {
            let name = self.fit(name, wide);
            let cells = LEVELS.map(|level| self.cell(row.cell(level)));
            let enforce =
                row.enforce.unwrap_or(if row.restricted.state == Rating::Exempt { "-" } else { "?" });
            let text = format!("  {name:<wide$}  {enforce:<12}  {}", cells.join("  "));
            self.line(&text)?;
        }
        self.more(rows.len())?;
        let open: Vec<_> =
            order.iter().filter(|(row, _)| row.is_counted() && worst(row).state != Rating::Ready).collect();
        if open.is_empty() {
            return Ok(());
        }
        self.title("What is missing", "")?;
        for (row, name) in open.iter().take(ROWS) {
            let cell = worst(row);
            let level = if std::ptr::eq(cell, &raw const row.baseline) { "baseline" } else { "restricted" };
            let name = self.fit(name, wide);
            let first = format!("  {name:<wide$}  {level}: ");
            let text = self.style.wrapped(&first, wide + 4, &escape(&cell.why));
            self.line(&text)?;
        }
        self.more(open.len())
    }

    fn cell(&self, cell: &Cell) -> String {
        let (mark, tone) = match cell.state {
            Rating::Ready => ("✓", Tone::Good),
            Rating::Refused => ("✗", Tone::Bad),
            Rating::Unproven => ("?", Tone::Odd),
            Rating::Exempt => ("–", Tone::Faint),
        };
        let word = if cell.enforced && cell.state == Rating::Ready { "enforced" } else { cell.state.name() };
        let text = if self.style.unicode { format!("{mark} {word}") } else { word.to_owned() };
        let pad = " ".repeat(12_usize.saturating_sub(text.chars().count()));
        self.style.paint(tone, &text) + &pad
    }

    fn name(&self, name: Option<&str>) -> String {
        name.map_or_else(|| UNMANAGED.to_owned(), |name| self.plain(name))
    }

    /// The width of the first column: as wide as its widest text, and no wider than a third of the terminal.
    fn widest(&self, texts: &[String], head: &str) -> usize {
        let widest = texts.iter().map(|text| text.chars().count()).max().unwrap_or_default();
        widest.max(head.len()).min(self.style.width / 3)
    }

    fn bars(&mut self, bars: &[Bar]) -> io::Result<()> {
        let labels: Vec<String> = bars.iter().map(|bar| bar.label.clone()).collect();
        let label = self.widest(&labels, "");
        let value = bars.iter().map(|bar| bar.value.to_string().len()).max().unwrap_or_default().max(5);
        let after = bars.iter().map(|bar| bar.after.chars().count()).max().unwrap_or_default();
        let largest = bars.iter().map(|bar| bar.dark + bar.light).max().unwrap_or_default();
        let width = self.room(2 + label + 2 + value + 2 + after + 2).clamp(4, 60);
        for bar in bars {
            let all = self.style.bar(bar.dark + bar.light, largest, width);
            let dark = self.style.bar(bar.dark, largest, width).chars().count();
            let length = all.chars().count();
            let pad = " ".repeat(width.saturating_sub(length));
            let (first, rest): (String, String) =
                (all.chars().take(dark).collect(), all.chars().skip(dark).collect());
            let rest = if self.style.unicode { rest.replace('█', "▒") } else { rest.replace('#', "-") };
            let first = self.style.paint(Tone::Bad, &first);
            let rest = self.style.paint(Tone::Odd, &rest);
            let name = self.fit(&bar.label, label);
            let text = format!("  {name:<label$}  {:>value$}  {first}{rest}{pad}  {}", bar.value, bar.after);
            self.line(&text)?;
        }
        Ok(())
    }

    fn decisions(&mut self, report: &Report) -> io::Result<()> {
        self.title("Decisions", "container starts; one start can have several")?;
        let bars: Vec<Bar> = report
            .decisions
            .iter()
            .filter(|row| row.starts + row.before > 0)
            .map(|row| {
                let (dark, light) = match row.decision {
                    "denied" | "would-deny" | "fault" => (row.starts, 0),
                    _ => (0, row.starts),
                };
                let before = before(report, row.starts, row.before);
                Bar {
                    label: row.decision.to_owned(),
                    dark,
                    light,
                    value: row.starts,
                    after: format!("{}{before}", plural(row.workloads, "workload")),
                }
            })
            .collect();
        if bars.is_empty() {
            return self.line("  none");
        }
        self.bars(&bars)?;
        let execs = report.execs;
        if execs.sum() > 0 {
            let text = format!("commands in running containers (exec, probes): {}", execs.of_commands());
            self.item("+", &text)?;
        }
        Ok(())
    }

    fn parts(&mut self, report: &Report) -> io::Result<()> {
        if report.starts == 0 {
            return Ok(());
        }
        let legend = if self.style.unicode {
            "█ refused or would be  ▒ reported only"
        } else {
            "# refused or would be  - reported only"
        };
        self.title(&format!("By {}", report.period.by), legend)?;
        let by_hour = report.period.by == "hour";
        let bars: Vec<Bar> = report
            .parts
            .iter()
            .map(|part| {
                let label =
                    minute(&part.from).get(..if by_hour { 16 } else { 10 }).unwrap_or_default().to_owned();
                let (dark, light) = split(&part.counts);
                Bar { label, dark, light, value: dark + light, after: String::new() }
            })
            .collect();
        self.bars(&bars)
    }

    fn controls(&mut self, report: &Report) -> io::Result<()> {
        if report.controls.is_empty() {
            return Ok(());
        }
        self.title(
            "By control",
            "container starts that violate it; pss-guard explain CONTROL says how to fix it",
        )?;
        let bars: Vec<Bar> = report
            .controls
            .iter()
            .map(|row| {
                let before = before(report, row.starts, row.before);
                let suspected =
                    if row.suspected > 0 { format!(", {} suspected", row.suspected) } else { String::new() };
                Bar {
                    label: marked(row.control),
                    dark: 0,
                    light: row.starts,
                    value: row.starts,
                    after: format!("{}{suspected}{before}", plural(row.workloads, "workload")),
                }
            })
            .collect();
        self.bars(&bars)
    }

    fn namespaces(&mut self, report: &Report) -> io::Result<()> {
        if report.namespaces.is_empty() {
            return Ok(());
        }
        self.title("By namespace", "container starts that were logged")?;
        let bars: Vec<Bar> = report
            .namespaces
            .iter()
            .take(ROWS)
            .map(|row| {
                let (dark, light) = split(&row.decisions);
                let before = before(report, row.starts, row.before);
                let mut after = format!("{}{before}", plural(row.workloads, "workload"));
                if row.decisions.exempt > 0 {
                    after += ", exempt";
                }
                Bar { label: self.name(row.namespace.as_deref()), dark, light, value: row.starts, after }
            })
            .collect();
        self.bars(&bars)?;
        self.more(report.namespaces.len())
    }

    fn workloads(&mut self, report: &Report) -> io::Result<()> {
        let rows: Vec<_> = report.workloads.iter().filter(|row| row.decisions.is_bad()).collect();
        if rows.is_empty() {
            return Ok(());
        }
        self.title("Workloads to fix", "starts, and what they violate")?;
        let names: Vec<String> = rows.iter().take(ROWS).map(|row| self.workload(&row.name)).collect();
        let wide = self.widest(&names, "workload").max((self.style.width / 4).min(24));
        for (row, name) in rows.iter().zip(&names) {
            let name = self.fit(name, wide);
            let controls = row.controls.iter().chain(&row.suspected).copied().map(marked);
            let mut text = controls.collect::<Vec<_>>().join(", ");
            if row.decisions.fault > 0 {
                if !text.is_empty() {
                    text.push_str(", ");
                }
                text.push_str("could not be judged");
            }
            if row.is_static {
                text.push_str(" (static pod)");
            }
            let first = format!("  {name:<wide$}  {:>5}  ", row.starts);
            let indent = first.chars().count();
            let text = self.style.wrapped(&first, indent, &escape(&text));
            self.line(&text)?;
        }
        self.more(rows.len())
    }

    fn workload(&self, name: &Name) -> String {
        let own = name.workload.as_deref().map_or_else(|| "(others)".to_owned(), |own| self.plain(own));
        match &name.namespace {
            Some(namespace) => format!("{}/{own}", self.plain(namespace)),
            None => format!("{UNMANAGED} {own}"),
        }
    }

    fn changes(&mut self, report: &Report) -> io::Result<()> {
        let changes = &report.changes;
        let length = in_words(Duration::from_secs(report.period.seconds));
        self.title(&format!("Since the {length} before"), "")?;
        match changes.comparable {
            Comparable::Whole => {}
            Comparable::Nothing => {
                return self
                    .item("-", "the journal does not go back that far, so there is nothing to compare with");
            }
            Comparable::Part => {
                self.item("!", "the journal begins within that time, so some things only look new")?;
            }
            Comparable::Unknown => self.item("!", "it is unknown how far back the journal goes")?,
        }
        let mut said = false;
        for (mark, what, names) in [
            ("+", "new", changes.new.iter().collect::<Vec<_>>()),
            ("-", "gone", changes.gone.iter().map(|gone| &gone.name).collect()),
        ] {
            if !names.is_empty() {
                let shown: Vec<String> = names.iter().take(ROWS).map(|name| self.workload(name)).collect();
                let rest = names.len().saturating_sub(ROWS);
                let rest = if rest > 0 { format!(" and {rest} more") } else { String::new() };
                self.item(mark, &format!("{what}: {}{rest}", shown.join(", ")))?;
                said = true;
            }
        }
        for (mark, what, controls) in [
            ("+", "newly violated", &changes.new_controls),
            ("-", "no longer violated", &changes.gone_controls),
        ] {
            if !controls.is_empty() {
                let controls: Vec<String> = controls.iter().copied().map(marked).collect();
                self.item(mark, &format!("{what}: {}", controls.join(", ")))?;
                said = true;
            }
        }
        if said || changes.comparable == Comparable::Unknown {
            Ok(())
        } else {
            self.item("=", "nothing changed")
        }
    }

    fn exceptions(&mut self, report: &Report) -> io::Result<()> {
        if report.exceptions.is_empty() && report.exceptions_gone == 0 {
            return Ok(());
        }
        self.title("Exceptions", "")?;
        for row in &report.exceptions {
            let (mark, how) = match row.state {
                exceptions::Usage::Used => (" ", format!("used by {}", plural(row.starts, "start"))),
                exceptions::Usage::Unused => ("?", "never used here in this period".to_owned()),
                exceptions::Usage::Untold => (
                    "?",
                    "unknown whether it is used: the enforce level of the namespace does not ask for it"
                        .to_owned(),
                ),
                exceptions::Usage::Expired => ("!", format!("expired on {}", row.expires)),
            };
            let end = match row.days_left {
                _ if row.state == exceptions::Usage::Expired => String::new(),
                0 => ", ends today".to_owned(),
                1 => ", ends tomorrow".to_owned(),
                days if row.ends_soon => format!(", ends in {days} days ({})", row.expires),
                _ => format!(", until {}", row.expires),
            };
            let mark = if row.ends_soon { "!" } else { mark };
            let text = format!("{} {}: {how}{end} ({})", row.whom, row.controls.join(", "), row.reason);
            self.item(mark, &text)?;
        }
        if report.exceptions_gone > 0 {
            let text = format!(
                "{} by exceptions that are not in the policy any more",
                plural(report.exceptions_gone, "start")
            );
            self.item("-", &text)?;
        }
        Ok(())
    }

    fn faults(&mut self, report: &Report) -> io::Result<()> {
        if report.faults.is_empty() {
            return Ok(());
        }
        self.title("Could not be judged", "")?;
        for row in report.faults.iter().take(ROWS) {
            self.item(&format!("{:>5}", row.count), &row.fault)?;
        }
        self.more(report.faults.len())
    }

    fn modes(&mut self, report: &Report) -> io::Result<()> {
        if report.modes.is_empty() {
            return Ok(());
        }
        self.title("Changes of mode", "")?;
        for row in &report.modes {
            self.item(&minute(&row.at), &row.message)?;
        }
        Ok(())
    }

    fn notes(&mut self, report: &Report) -> io::Result<()> {
        self.title("Notes", "")?;
        for note in &report.notes {
            self.item("-", note)?;
        }
        for unseen in &report.unseen {
            self.item("!", &format!("not seen: {unseen}"))?;
        }
        Ok(())
    }
}

/// How a number compares with the period before.
fn before(report: &Report, now: u64, before: u64) -> String {
    match report.changes.comparable {
        Comparable::Nothing => String::new(),
        _ if now == before => ", as before".to_owned(),
        _ if now > before => format!(", {} more", now - before),
        _ => format!(", {} fewer", before - now),
    }
}

/// What was refused or would be, and what was only reported. A start that would be refused is most often audited, too.
#[must_use]
pub fn split(counts: &Counts) -> (u64, u64) {
    let refused = counts.denied + counts.would_deny + counts.fault;
    (refused, counts.audit.max(counts.warn).saturating_sub(counts.would_deny))
}

/// The cell that explains most: the loosest level that is not ready.
fn worst(row: &Row) -> &Cell {
    if row.baseline.state == Rating::Refused { &row.baseline } else { &row.restricted }
}

/// The order in which people look: refused first, not evaluated last.
#[must_use]
pub fn rank(row: &Row) -> u8 {
    let state = |cell: &Cell| match cell.state {
        Rating::Refused => 0,
        Rating::Unproven => 1,
        Rating::Ready => 2,
        Rating::Exempt => 3,
    };
    let none = u8::from(row.namespace.is_none()) * 16;
    none + state(&row.restricted) * 4 + state(&row.baseline)
}
