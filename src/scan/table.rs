//! Renders a scan for people: by namespace and pod, each container with its verdict, reason and fix, and the
//! summary at the end.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{self, Write};

use super::{Scan, Scanned, remedy};
use crate::decision::Verdict;
use crate::message::{SANDBOX, UNMANAGED, escape, is_plain, mark};
use crate::output::json::Finding;
use crate::output::terminal;
use crate::output::terminal::{Style, Tone};

/// From this width on a fix stands beside its reason, and not below it.
const WIDE: usize = 110;

/// Names are cut beyond this.
const LONGEST: usize = 32;

/// Writes it.
pub fn write(scan: &Scan, style: &Style, out: &mut dyn Write) -> io::Result<()> {
    let table = Table::of(scan, style);
    let (mut namespace, mut pod) = (None, None);
    // A sandbox that may start is no news, and neither is a pod that has nothing else.
    let is_silent = |one: &&Scanned| one.sandbox && one.verdict.is_good() && one.drift.is_empty();
    for one in scan.containers.iter().filter(|one| !is_silent(one)) {
        let own = one.result.container().namespace.as_deref();
        if namespace != Some(own) {
            if namespace.is_some() {
                writeln!(out)?;
            }
            let title = own.map_or(Cow::Borrowed(UNMANAGED), |own| shown(own, style));
            writeln!(out, "{}", style.paint(Tone::Title, &title))?;
            (namespace, pod) = (Some(own), None);
        }
        let place = (one.pod.as_deref(), one.node.as_deref());
        if place != (None, None) && pod != Some(place) {
            let name = one.pod.as_ref().map(|_| one.result.container().pod.as_deref().unwrap_or("?"));
            let on = one.node.as_ref().map(|node| format!("on {node}"));
            let parts: Vec<Cow<'_, str>> =
                name.map(|name| shown(name, style)).into_iter().chain(on.map(Cow::Owned)).collect();
            writeln!(out, "  {}", parts.join(" "))?;
            pod = Some(place);
        }
        table.container(one, out)?;
    }
    if namespace.is_some() {
        writeln!(out)?;
    }
    let mut paragraph = |tone: Option<Tone>, text: &str| {
        wrap(&style.plain(text), style.width).iter().try_for_each(|line| match tone {
            Some(tone) => writeln!(out, "{}", style.paint(tone, line)),
            None => writeln!(out, "{line}"),
        })
    };
    for place in &scan.unseen {
        paragraph(None, &format!("cannot inspect {}: {}", place.path, place.why))?;
    }
    for sentence in scan.of_each_node() {
        paragraph(None, &sentence)?;
    }
    for (index, sentence) in scan.sentences().iter().enumerate() {
        paragraph((index == 0).then_some(Tone::Title), sentence)?;
    }
    Ok(())
}

/// The columns.
struct Table<'a> {
    style: &'a Style,
    name: usize,
    reason: usize,
    /// Each fix on one line, where it is short: of hundreds of containers most need the same few.
    fixes: HashMap<&'a str, Option<String>>,
}

/// The verdict's column.
const VERDICT: usize = "cannot-judge".len();

impl<'a> Table<'a> {
    fn of(scan: &'a Scan, style: &'a Style) -> Self {
        let length = |text: &str| text.chars().count();
        let name = scan.containers.iter().map(|one| length(&name(one, style))).max();
        let mut fixes: HashMap<&str, Option<String>> = HashMap::new();
        let mut reason = 0;
        for finding in scan.containers.iter().flat_map(Scanned::reasons) {
            reason = reason.max(length(&shown(&finding.reason, style)));
            let one_line = || remedy::short(&finding.fix).map(|fields| fields.join(", "));
            fixes.entry(&finding.fix).or_insert_with(one_line);
        }
        Self { style, name: name.unwrap_or(0), reason, fixes }
    }

    /// Where what is said of a container begins.
    fn indent(&self) -> usize {
        4 + self.name + 2 + VERDICT + 2
    }

    fn container(&self, one: &Scanned, out: &mut dyn Write) -> io::Result<()> {
        let style = self.style;
        let verdict = one.verdict.name();
        let tone = Tone::of(one.verdict);
        let (name, width) = (name(one, style), self.name);
        write!(out, "    {name:<width$}  ")?;
        let said = self.said(one);
        if said.is_empty() || !self.is_wide() {
            writeln!(out, "{}", style.paint(tone, verdict))?;
            return said.iter().try_for_each(|line| writeln!(out, "      {line}"));
        }
        write!(out, "{}", style.paint(tone, &format!("{verdict:<VERDICT$}")))?;
        for (index, line) in said.iter().enumerate() {
            let indent = if index == 0 { 2 } else { self.indent() };
            writeln!(out, "{:indent$}{line}", "")?;
        }
        Ok(())
    }

    fn is_wide(&self) -> bool {
        self.style.width >= WIDE
    }

    /// The fix where it is short, else what exactly is wrong: then the whole of the fix is more than a table can hold.
    fn way_out<'f>(&'f self, finding: &'f Finding<'_>) -> &'f str {
        self.fixes.get(finding.fix.as_ref()).and_then(Option::as_deref).unwrap_or(&finding.detail)
    }

    /// Everything that is said of a container, in lines.
    fn said(&self, one: &Scanned) -> Vec<String> {
        let style = self.style;
        let indent = if self.is_wide() { self.indent() } else { 6 };
        let room = style.width.saturating_sub(indent).max(20);
        let mut lines = Vec::new();
        for finding in one.reasons() {
            let reason = shown(&finding.reason, style);
            let fix = format!("{}{}", shown(self.way_out(finding), style), mark(finding.origin));
            if self.is_wide() {
                let (left, rest) = (self.reason, room.saturating_sub(self.reason + 2).max(20));
                let mut fix = wrap(&fix, rest).into_iter();
                let mut first = format!("{reason:<left$}  {}", fix.next().unwrap_or_default());
                first.truncate(first.trim_end().len());
                lines.push(first);
                lines.extend(fix.map(|line| format!("{:left$}  {line}", "")));
            } else {
                lines.extend(wrap(&reason, room).into_iter().map(Cow::into_owned));
                let fix = wrap(&fix, room.saturating_sub(2)).into_iter();
                lines.extend(fix.map(|line| style.paint(Tone::Faint, &format!("  {line}"))));
            }
        }
        for drift in &one.drift {
            let says = format!(
                "runs with {}, asked for {} ({})",
                shown(&drift.runs, style),
                shown(&drift.asked, style),
                drift.control
            );
            lines.extend(wrap(&says, room).iter().map(|line| style.paint(Tone::Odd, line)));
        }
        if one.verdict == Verdict::CannotJudge {
            let because = shown(&one.result.because, style);
            lines.extend(wrap(&because, room).into_iter().map(Cow::into_owned));
        }
        lines
    }
}

/// A text from outside as it is written to this terminal.
fn shown<'t>(text: &'t str, style: &Style) -> Cow<'t, str> {
    if is_plain(text) { Cow::Borrowed(text) } else { Cow::Owned(style.plain(&escape(text))) }
}

/// What a container is called: by its name, or the beginning of its id, as engines show it.
fn name(one: &Scanned, style: &Style) -> String {
    let container = one.result.container();
    let name = match (one.sandbox, &container.name, &container.id) {
        (true, ..) => SANDBOX.to_owned(),
        (_, Some(name), _) => name.to_string(),
        (_, None, Some(id)) => id.chars().take(12).collect(),
        (_, None, None) => one.result.path.to_string(),
    };
    style.cut(&shown(&name, style), LONGEST)
}

/// The lines of a text in a column.
fn wrap(text: &str, width: usize) -> Vec<Cow<'_, str>> {
    if text.is_empty() { Vec::new() } else { terminal::wrap(text, width, "", "") }
}
