//! The HTML pages that people keep, send and print: one file that asks nobody for anything. No script, no font, no picture
//! from elsewhere.
//!
//! The templates are maud's, compiled with the program: a tag that is not closed does not build, and every value is escaped
//! unless it is a [`Markup`] itself. [`document`] also escapes the control characters of everything, once.

use std::fmt::Arguments;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::message::escape;

/// Nothing is fetched, whatever somebody may get into the page; styles are those that are in it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// The elements that begin a line, for those who read the source. What is not markup has no `<`.
const ON_THEIR_OWN_LINE: [&str; 7] = ["<head", "<style", "<body", "<section", "<details", "<tr", "<li"];

/// What a colour says. Every colour stands beside a word or a sign: not everybody sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Not as it should be.
    Bad,
    /// To be looked at.
    Odd,
    /// Beside the point.
    None,
}

impl Tone {
    /// The class of what has it as background.
    const fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Odd => "odd",
            Self::None => "none",
        }
    }
}

/// What stands above and below the content of a page.
#[derive(Debug)]
pub struct About<'a> {
    /// The command that wrote it.
    pub program: &'a str,
    /// The node.
    pub node: &'a str,
    /// The answer in a sentence.
    pub answer: &'a str,
    /// A line below it.
    pub below: &'a str,
    /// When it was written, in UTC.
    pub at: &'a str,
}

/// A whole page.
#[must_use]
pub fn document(about: &About<'_>, main: &Markup) -> String {
    let mut answer = about.answer.to_owned();
    if let Some(first) = answer.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="referrer" content="no-referrer";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (about.program) ": " (about.node) }
                style { @for line in include_str!("page.css").lines() { (PreEscaped(line)) } }
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                header {
                    p.brand { (about.program) }
                    h1 { (answer) }
                    p.soft { (about.below) }
                }
                main #main { (main) }
                footer {
                    p {
                        "Written by pss-guard " (env!("CARGO_PKG_VERSION")) " on " (about.at)
                        " UTC. This page loads nothing and runs nothing."
                    }
                }
            }
        }
    };
    let page = escape(&page.into_string());
    ON_THEIR_OWN_LINE.iter().fold(page, |page, tag| page.replace(tag, &format!("\n{tag}"))) + "\n"
}

/// A section with its title, and a line below it if there is something to say.
#[must_use]
pub fn section(title: &str, below: &str, content: &Markup) -> Markup {
    html! {
        section {
            h2 { (title) }
            @if !below.is_empty() { p.soft.small { (below) } }
            (content)
        }
    }
}

/// A list of sentences.
#[must_use]
pub fn list(items: impl IntoIterator<Item: AsRef<str>>) -> Markup {
    html! { ul.plain { @for item in items { li { (item.as_ref()) } } } }
}

/// A text with its line breaks. They are references, so that [`document`] knows them from what else breaks a line.
#[must_use]
pub fn code(label: &str, text: &str) -> Markup {
    html! {
        pre tabindex="0" aria-label=(label) {
            code { @for (index, line) in text.lines().enumerate() { @if index > 0 { (PreEscaped("&#10;")) } (line) } }
        }
    }
}

/// A table: its titles and its rows. A title that begins with `#` is of numbers, one with `~` is not shown where there is
/// no room, and an empty one is of bars.
#[must_use]
pub fn table(class: Option<&str>, caption: &str, titles: &[&str], rows: &Markup) -> Markup {
    html! {
        table class=[class] {
            @if !caption.is_empty() { caption.skip { (caption) } }
            thead {
                tr {
                    @for title in titles {
                        @if title.is_empty() {
                            td.bar {}
                        } @else if let Some(title) = title.strip_prefix('#') {
                            th.n scope="col" { (title) }
                        } @else if let Some(title) = title.strip_prefix('~') {
                            th.wide scope="col" { (title) }
                        } @else {
                            th scope="col" { (title) }
                        }
                    }
                }
            }
            tbody { (rows) }
        }
    }
}

/// The same where it may be wider than the page.
#[must_use]
pub fn scrolled(table: &Markup) -> Markup {
    html! { div.scroll { (table) } }
}

/// A cell with a word in its colour.
#[must_use]
pub fn tile(tone: Tone, sign: &str, word: &str) -> Markup {
    html! { span class={ "tile " (tone.class()) } { span aria-hidden="true" { (sign) } span { (word) } } }
}

/// A small word in its colour.
#[must_use]
pub fn pill(tone: Tone, word: &str) -> Markup {
    html! { span class={ "pill " (tone.class()) } { (word) } }
}

/// A filled rectangle.
fn rect(tone: Tone, [x, y, width, height, radius]: [Arguments<'_>; 5]) -> Markup {
    html! { rect class={ "fill-" (tone.class()) } x=(x) y=(y) width=(width) height=(height) rx=(radius) {} }
}

/// A ring that is closed as far as `value` is `of`.
#[must_use]
pub fn ring(title: &str, value: usize, of: usize) -> Markup {
    let part = if of == 0 { 0.0 } else { 100.0 * ratio(value as u64, of as u64) };
    // What fits into the ring.
    let digits = value.to_string().len() + of.to_string().len();
    let (large, small) = if digits < 5 { (30, 20) } else { (130 / digits, 90 / digits) };
    html! {
        figure.ring {
            svg viewBox="0 0 120 120" role="img" aria-label={ (title) ": " (value) " of " (of) } {
                circle.track cx="60" cy="60" r="50" stroke-width="14" {}
                @if value > 0 {
                    circle.arc cx="60" cy="60" r="50" stroke-width="14" pathLength="100"
                        transform="rotate(-90 60 60)" stroke-dasharray=(format_args!("{part:.2} 100")) {}
                }
                text x="60" y="60" text-anchor="middle" dominant-baseline="central" font-size=(large) font-weight="700" {
                    (value)
                    tspan.axis font-weight="500" font-size=(small) { "/" (of) }
                }
            }
            figcaption { (title) }
        }
    }
}

/// The name of a row and its bar, of parts beside each other, for the largest of all bars. Where there is little room
/// the bar is below the name.
#[must_use]
pub fn row_head(name: &str, more: &str, parts: &[(u64, Tone)], largest: u64) -> Markup {
    let bar = bar(parts, largest);
    html! {
        th scope="row" {
            (name)
            @if !more.is_empty() { " " span.soft.small { (more) } }
            div.phone.bar { (bar) }
        }
        td.bar { (bar) }
    }
}

fn bar(parts: &[(u64, Tone)], largest: u64) -> Markup {
    // Parts can be more than what they are parts of: one start can count in two.
    let largest = largest.max(parts.iter().map(|(value, _)| value).sum());
    let parts = parts.iter().filter(|(value, _)| *value > 0).scan(0.0, |x, (value, tone)| {
        let begin = *x;
        // Never nothing where there is something.
        let width = (100.0 * ratio(*value, largest)).max(0.6);
        *x += width;
        Some((begin, width, *tone))
    });
    html! {
        svg viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true" {
            @for (x, width, tone) in parts {
                rect class={ "fill-" (tone.class()) } x=(format_args!("{x:.2}")) width=(format_args!("{width:.2}"))
                    height="1" {}
            }
        }
    }
}

/// Columns over time, each of two parts, with a label below some of them.
#[must_use]
pub fn chart(title: &str, columns: &[Column]) -> Markup {
    const HEIGHT: f64 = 190.0;
    let count = columns.len().max(1);
    let each = (420.0 / to_f64(count as u64)).min(60.0);
    let width = each * to_f64(count as u64);
    let largest = columns.iter().map(|column| column.dark + column.light).max().unwrap_or(0).max(1);
    // A label needs some room.
    let every = (48.0 / each).ceil().max(1.0);
    let axis = |x: f64, y: f64, text: &str| {
        html! {
            text.axis text-anchor="middle" font-size="13" x=(format_args!("{x:.1}")) y=(format_args!("{y:.1}")) { (text) }
        }
    };
    let column = |index: usize, column: &Column| {
        let x = each * to_f64(index as u64);
        let (dark, light) = (HEIGHT * ratio(column.dark, largest), HEIGHT * ratio(column.light, largest));
        let sum = column.dark + column.light;
        let parts = [(HEIGHT - dark, dark, Tone::Bad), (HEIGHT - dark - light, light, Tone::Odd)];
        html! {
            g {
                title {
                    (column.label) ": " (column.dark) " refused or would be, " (column.light) " reported only"
                }
                @for (y, height, tone) in parts.into_iter().filter(|(_, height, _)| *height > 0.0) {
                    (rect(tone, [
                        format_args!("{:.1}", x + each * 0.14),
                        format_args!("{y:.1}"),
                        format_args!("{:.1}", each * 0.72),
                        format_args!("{:.1}", height.max(1.0)),
                        format_args!("2"),
                    ]))
                }
                @if sum > 0 && each >= 22.0 {
                    (axis(x + each / 2.0, HEIGHT - dark - light - 6.0, &sum.to_string()))
                }
                @if to_f64(index as u64) % every < 0.5 { (axis(x + each / 2.0, 208.0, &column.short)) }
            }
        }
    };
    html! {
        svg.chart viewBox=(format_args!("0 -22 {width:.0} 238")) role="img" aria-label=(title) {
            line.grid x1="0" y1="190" y2="190" x2=(format_args!("{width:.0}")) {}
            @for (index, one) in columns.iter().enumerate() { (column(index, one)) }
        }
    }
}

/// One little square a thing, in the order of the tones; each stands for several where there are more than
/// [`MOST_UNITS`].
#[must_use]
pub fn units(title: &str, counts: &[(usize, Tone)]) -> Markup {
    const ROW: usize = 12;
    let all: usize = counts.iter().map(|(count, _)| count).sum();
    let each = all.div_ceil(MOST_UNITS).max(1);
    let squares: Vec<Tone> =
        counts.iter().flat_map(|(count, tone)| std::iter::repeat_n(*tone, count.div_ceil(each))).collect();
    let height = squares.len().div_ceil(ROW).max(1) * 16;
    let width = squares.len().clamp(1, ROW) * 16;
    html! {
        svg role="img" width=(width) height=(height) viewBox={ "0 0 " (width) " " (height) } aria-label=(title) {
            title { (title) }
            @for (index, tone) in squares.iter().enumerate() {
                (rect(*tone, [
                    format_args!("{}", index % ROW * 16 + 1),
                    format_args!("{}", index / ROW * 16 + 1),
                    format_args!("13"),
                    format_args!("13"),
                    format_args!("3"),
                ]))
            }
        }
    }
}

/// What the colours mean.
#[must_use]
pub fn legend(entries: &[(Tone, &str)]) -> Markup {
    html! {
        ul.legend {
            @for (tone, meaning) in entries {
                li {
                    svg viewBox="0 0 11 11" aria-hidden="true" {
                        rect class={ "fill-" (tone.class()) } width="11" height="11" rx="2.5" {}
                    }
                    (meaning)
                }
            }
        }
    }
}

/// More little squares would be no picture.
pub const MOST_UNITS: usize = 60;

/// A column of a chart.
#[derive(Clone, Debug)]
pub struct Column {
    /// What it stands for.
    pub label: String,
    /// The same below it.
    pub short: String,
    /// The lower part.
    pub dark: u64,
    /// The upper part.
    pub light: u64,
}

fn ratio(value: u64, of: u64) -> f64 {
    to_f64(value) / to_f64(of.max(1))
}

/// Exact up to 2^32, which is more than any picture shows.
fn to_f64(value: u64) -> f64 {
    f64::from(u32::try_from(value).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use maud::{PreEscaped, html};

    use super::{
        About, Column, Tone, chart, code, document, legend, list, pill, ring, row_head, section, table, tile,
        units,
    };

    fn page(text: &str, main: &maud::Markup) -> String {
        document(&About { program: "pss-guard", node: text, answer: text, below: text, at: text }, main)
    }

    #[test]
    fn nothing_from_outside_becomes_markup() {
        let evil = "<script>alert(1)</script>\"'`&\u{202e}\u{1b}[2J\n onload=x javascript:x";
        let column = Column { label: evil.into(), short: evil.into(), dark: 1, light: 2 };
        let main = html! {
            (section(evil, evil, &list([evil])))
            (code(evil, &format!("{evil}\n{evil}")))
            (table(None, evil, &[evil, "#n", "~w", ""], &html! { tr { (row_head(evil, evil, &[], 0)) } }))
            (tile(Tone::Bad, "x", evil)) (pill(Tone::Odd, evil)) (ring(evil, 1, 2)) (units(evil, &[(1, Tone::Good)]))
            (chart(evil, &[column])) (legend(&[(Tone::Good, evil)]))
        };
        let html = page(evil, &main);
        assert!(
            !html.contains("<script") && !html.contains("\"'") && !html.contains("alert(1)</script"),
            "{html}"
        );
        assert!(
            html.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;'`&amp;\\u{202e}\\u{1b}[2J\\n"),
            "{html}"
        );
        assert!(!html.chars().any(|c| c != '\n' && c.is_control()), "no control character");
        assert!(html.contains("[2J&#10; onload"), "only a text of several lines breaks them");
    }

    #[test]
    fn a_line_of_the_source_begins_with_an_element() {
        let html = page("a\nb", &html! { ul { li { "one" } li { "two" } } (PreEscaped("<hr>\n")) });
        assert!(html.ends_with("</html>\n"));
        assert!(html.lines().all(|line| line.starts_with('<')), "{html}");
        assert_eq!(html.matches("\n<li>").count(), 2);
    }

    #[test]
    fn a_page_asks_for_nothing() {
        let html = page("x", &html! {});
        assert!(html.contains("default-src 'none'"));
        for fetches in ["http:", "https:", "//", "url(", "@import", "<link", "<img", "<script", " src="] {
            assert!(!html.contains(fetches), "{fetches}");
        }
    }

    #[test]
    fn pictures_hold_for_nothing_and_for_very_much() {
        let html = html! {
            (ring("none", 0, 0))
            (row_head("none", "", &[], 0))
            (row_head("", "", &[(0, Tone::Bad)], 0))
            (row_head("", "", &[(9, Tone::Bad)], 3))
            (chart("none", &[]))
            (units("none", &[]))
            (row_head("", "", &[(u64::MAX, Tone::Bad)], u64::MAX))
            (units("many", &[(100_000, Tone::Bad), (1, Tone::Good)]))
        }
        .into_string();
        assert!(!html.contains("width=\"300"), "no bar leaves its place");
        assert!(!html.contains("NaN") && !html.contains("inf"), "{html}");
        assert!(
            html.matches("class=\"fill-good\"").count() == 1,
            "what there is one of among many is still there"
        );
        assert!(html.matches("<rect").count() < 70);
    }
}
