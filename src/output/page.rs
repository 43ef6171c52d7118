//! Builds HTML pages that people keep, send and print: one file without scripts, fonts or pictures from elsewhere.
//!
//! Everything from outside goes through [`Page::text`], which escapes it. [`Page::raw`] accepts only text that is part of
//! this program.

use std::fmt::Display;

use crate::message::escape;

/// Nothing is fetched, whatever somebody may get into the page; styles are those that are in it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// A page that is being written.
#[derive(Debug)]
pub struct Page {
    html: String,
}

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
    #[must_use]
    pub const fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Odd => "odd",
            Self::None => "none",
        }
    }

    /// The class of a shape that is filled with it.
    #[must_use]
    pub const fn fill(self) -> &'static str {
        match self {
            Self::Good => "fill-good",
            Self::Bad => "fill-bad",
            Self::Odd => "fill-odd",
            Self::None => "fill-none",
        }
    }
}

impl Page {
    /// A page of this name: its head, and the way past it for those who use no mouse.
    #[must_use]
    pub fn new(title: &str) -> Self {
        let mut page = Self { html: String::with_capacity(64 << 10) };
        page.raw("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n")
            .raw("<meta http-equiv=\"Content-Security-Policy\" content=\"")
            .raw(POLICY)
            .raw("\">\n<meta name=\"referrer\" content=\"no-referrer\">\n")
            .raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>")
            .text(title)
            .raw("</title>\n<style>\n")
            .raw(include_str!("page.css"))
            .raw("</style>\n</head>\n<body>\n<a class=\"skip\" href=\"#main\">Skip to the content</a>\n");
        page
    }

    /// The whole page.
    #[must_use]
    pub fn finish(mut self) -> String {
        self.raw("</body>\n</html>\n");
        self.html
    }

    /// Markup of this program's own.
    // A page is a thousand calls of these, and nobody waits for it: as calls they are a third of the code.
    #[inline(never)]
    pub fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.html.push_str(markup);
        self
    }

    /// A text from anywhere, as the content of an element or of an attribute in quotes.
    #[inline(never)]
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.escaped(&escape(text))
    }

    /// The same with its line breaks, for `<pre>`.
    pub fn lines(&mut self, text: &str) -> &mut Self {
        for (index, line) in text.lines().enumerate() {
            if index > 0 {
                self.html.push('\n');
            }
            self.text(line);
        }
        self
    }

    #[inline(never)]
    fn escaped(&mut self, text: &str) -> &mut Self {
        for letter in text.chars() {
            match letter {
                '&' => self.html.push_str("&amp;"),
                '<' => self.html.push_str("&lt;"),
                '>' => self.html.push_str("&gt;"),
                '"' => self.html.push_str("&quot;"),
                '\'' => self.html.push_str("&#39;"),
                // A browser reads `${` and backquotes as letters; templates that somebody pastes it into do not.
                '`' => self.html.push_str("&#96;"),
                _ => self.html.push(letter),
            }
        }
        self
    }

    /// A number.
    pub fn number(&mut self, number: impl Display) -> &mut Self {
        let text = number.to_string();
        self.escaped(&text)
    }

    /// Markup, a text, markup.
    #[inline(never)]
    pub fn element(&mut self, open: &'static str, text: &str, close: &'static str) -> &mut Self {
        self.raw(open).text(text).raw(close)
    }

    /// What the page is about: the program, the answer, and a line below it. Everything after it is the content.
    pub fn head(&mut self, program: &'static str, answer: &str, below: &str) -> &mut Self {
        let mut answer: String = answer.to_owned();
        if let Some(first) = answer.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        self.raw("<header>\n<p class=\"brand\">").raw(program).raw("</p>\n");
        self.element("<h1>", &answer, "</h1>\n");
        self.element("<p class=\"soft\">", below, "</p>\n</header>\n<main id=\"main\">\n")
    }

    /// The end of the content.
    pub fn foot(&mut self, says: &str) -> &mut Self {
        self.element("</main>\n<footer><p>", says, "</p></footer>\n")
    }

    /// Opens a section with its title, and a line below it if there is something to say.
    pub fn section(&mut self, title: &str, below: &str) -> &mut Self {
        self.element("<section>\n<h2>", title, "</h2>\n");
        if !below.is_empty() {
            self.element("<p class=\"soft small\">", below, "</p>\n");
        }
        self
    }

    /// Closes it.
    pub fn end(&mut self) -> &mut Self {
        self.raw("</section>\n")
    }

    /// A list of sentences.
    pub fn list<'t>(&mut self, items: impl IntoIterator<Item = &'t str>) -> &mut Self {
        self.raw("<ul class=\"plain\">\n");
        for item in items {
            self.element("<li>", item, "</li>\n");
        }
        self.raw("</ul>\n")
    }

    /// A row of column titles; one that begins with `#` is of numbers, with `~` not shown where there is no room,
    /// and one without a title is of bars.
    pub fn columns(&mut self, titles: &[&'static str]) -> &mut Self {
        self.raw("<thead><tr>");
        for title in titles {
            let (class, title) = match title.strip_prefix('#') {
                _ if title.is_empty() => ("<td class=\"bar\">", ""),
                Some(title) => ("<th scope=\"col\" class=\"n\">", title),
                None => match title.strip_prefix('~') {
                    Some(title) => ("<th scope=\"col\" class=\"wide\">", title),
                    None => ("<th scope=\"col\">", *title),
                },
            };
            self.element(class, title, if title.is_empty() { "</td>" } else { "</th>" });
        }
        self.raw("</tr></thead>\n<tbody>\n")
    }

    /// A cell with a word in its colour.
    pub fn tile(&mut self, tone: Tone, sign: &'static str, says: &str) -> &mut Self {
        self.raw("<span class=\"tile ").raw(tone.class()).raw("\"><span aria-hidden=\"true\">").raw(sign);
        self.element("</span>", says, "</span>")
    }

    /// A small word in its colour.
    pub fn pill(&mut self, tone: Tone, says: &str) -> &mut Self {
        self.raw("<span class=\"pill ").raw(tone.class()).element("\">", says, "</span>")
    }

    /// A ring that is closed as far as `value` is `of`.
    pub fn ring(&mut self, title: &str, value: usize, of: usize) -> &mut Self {
        let part = if of == 0 { 0.0 } else { 100.0 * ratio(value as u64, of as u64) };
        self.raw("<figure class=\"ring\"><svg viewBox=\"0 0 120 120\" role=\"img\" aria-label=\"");
        self.text(&format!("{title}: {value} of {of}"));
        self.raw("\"><circle class=\"track\" cx=\"60\" cy=\"60\" r=\"50\" stroke-width=\"14\"/>");
        if value > 0 {
            self.raw(
                "<circle class=\"arc\" cx=\"60\" cy=\"60\" r=\"50\" stroke-width=\"14\" pathLength=\"100\" ",
            );
            self.raw("transform=\"rotate(-90 60 60)\" stroke-dasharray=\"").number(format_args!("{part:.2}"));
            self.raw(" 100\"/>");
        }
        // What fits into the ring.
        let digits = value.to_string().len() + of.to_string().len();
        let (large, small) = if digits < 5 { (30, 20) } else { (130 / digits, 90 / digits) };
        self.raw("<text x=\"60\" y=\"60\" text-anchor=\"middle\" dominant-baseline=\"central\" font-size=\"");
        self.number(large).raw("\" font-weight=\"700\">").number(value);
        self.raw("<tspan class=\"axis\" font-weight=\"500\" font-size=\"").number(small).raw("\">/");
        self.number(of).raw("</tspan></text></svg>").element(
            "<figcaption>",
            title,
            "</figcaption></figure>\n",
        )
    }

    /// The name of a row and its bar, of parts beside each other, for the largest of all bars. Where there is little room
    /// the bar is below the name.
    pub fn row(&mut self, name: &str, more: &str, parts: &[(u64, Tone)], largest: u64) -> &mut Self {
        self.element("<tr><th scope=\"row\">", name, "");
        if !more.is_empty() {
            self.element(" <span class=\"soft small\">", more, "</span>");
        }
        self.raw("<div class=\"phone bar\">").bar(parts, largest).raw("</div></th><td class=\"bar\">");
        self.bar(parts, largest).raw("</td>")
    }

    fn bar(&mut self, parts: &[(u64, Tone)], largest: u64) -> &mut Self {
        self.raw("<svg viewBox=\"0 0 100 1\" preserveAspectRatio=\"none\" aria-hidden=\"true\">");
        // Parts can be more than what they are parts of: one start can count in two.
        let largest = largest.max(parts.iter().map(|(value, _)| value).sum());
        let mut x = 0.0;
        for (value, tone) in parts.iter().filter(|(value, _)| *value > 0) {
            // Never nothing where there is something.
            let width = (100.0 * ratio(*value, largest)).max(0.6);
            self.raw("<rect class=\"").raw(tone.fill()).raw("\" x=\"").number(format_args!("{x:.2}"));
            self.raw("\" width=\"").number(format_args!("{width:.2}")).raw("\" height=\"1\"/>");
            x += width;
        }
        self.raw("</svg>")
    }

    /// Columns over time, each of two parts, with a label below some of them.
    pub fn chart(&mut self, title: &str, columns: &[Column]) -> &mut Self {
        const HEIGHT: f64 = 190.0;
        let count = columns.len().max(1);
        let each = (420.0 / to_f64(count as u64)).min(60.0);
        let width = each * to_f64(count as u64);
        let largest = columns.iter().map(|column| column.dark + column.light).max().unwrap_or(0).max(1);
        // A label needs some room.
        let every = (48.0 / each).ceil().max(1.0);
        self.raw("<svg class=\"chart\" viewBox=\"0 -22 ").number(format_args!("{width:.0}"));
        self.raw(" 238\" role=\"img\" aria-label=\"").text(title).raw("\">");
        self.raw("<line class=\"grid\" x1=\"0\" y1=\"190\" y2=\"190\" x2=\"")
            .number(format_args!("{width:.0}"))
            .raw("\"/>");
        for (index, column) in columns.iter().enumerate() {
            let x = each * to_f64(index as u64);
            let dark = HEIGHT * ratio(column.dark, largest);
            let light = HEIGHT * ratio(column.light, largest);
            let sum = column.dark + column.light;
            self.raw("<g>").element(
                "<title>",
                &format!(
                    "{}: {} refused or would be, {} reported only",
                    column.label, column.dark, column.light
                ),
                "</title>",
            );
            for (y, height, class) in
                [(HEIGHT - dark, dark, Tone::Bad.fill()), (HEIGHT - dark - light, light, Tone::Odd.fill())]
            {
                if height > 0.0 {
                    self.raw("<rect class=\"")
                        .raw(class)
                        .raw("\" rx=\"2\" x=\"")
                        .number(format_args!("{:.1}", x + each * 0.14));
                    self.raw("\" y=\"").number(format_args!("{y:.1}")).raw("\" width=\"");
                    self.number(format_args!("{:.1}", each * 0.72)).raw("\" height=\"");
                    self.number(format_args!("{:.1}", height.max(1.0))).raw("\"/>");
                }
            }
            if sum > 0 && each >= 22.0 {
                self.raw("<text class=\"axis\" text-anchor=\"middle\" font-size=\"13\" x=\"");
                self.number(format_args!("{:.1}", x + each / 2.0)).raw("\" y=\"");
                self.number(format_args!("{:.1}", HEIGHT - dark - light - 6.0))
                    .raw("\">")
                    .number(sum)
                    .raw("</text>");
            }
            if (to_f64(index as u64) % every) < 0.5 {
                self.raw("<text class=\"axis\" text-anchor=\"middle\" font-size=\"13\" y=\"208\" x=\"");
                self.number(format_args!("{:.1}", x + each / 2.0)).element("\">", &column.short, "</text>");
            }
            self.raw("</g>");
        }
        self.raw("</svg>\n")
    }

    /// One little square a thing, in the order of the tones; each stands for several where there are more than
    /// [`MOST_UNITS`].
    pub fn units(&mut self, title: &str, counts: &[(usize, Tone)]) -> &mut Self {
        const ROW: usize = 12;
        let all: usize = counts.iter().map(|(count, _)| count).sum();
        let each = all.div_ceil(MOST_UNITS).max(1);
        let squares =
            counts.iter().flat_map(|(count, tone)| std::iter::repeat_n(*tone, count.div_ceil(each)));
        let squares: Vec<Tone> = squares.collect();
        let rows = squares.len().div_ceil(ROW).max(1);
        let columns = squares.len().clamp(1, ROW);
        self.raw("<svg role=\"img\" width=\"").number(columns * 16).raw("\" height=\"").number(rows * 16);
        self.raw("\" viewBox=\"0 0 ")
            .number(columns * 16)
            .raw(" ")
            .number(rows * 16)
            .raw("\" aria-label=\"")
            .text(title);
        self.raw("\">").element("<title>", title, "</title>");
        for (index, tone) in squares.iter().enumerate() {
            self.raw("<rect class=\"").raw(tone.fill()).raw("\" width=\"13\" height=\"13\" rx=\"3\" x=\"");
            self.number(index % ROW * 16 + 1).raw("\" y=\"").number(index / ROW * 16 + 1).raw("\"/>");
        }
        self.raw("</svg>")
    }

    /// What the colours mean.
    pub fn legend(&mut self, entries: &[(Tone, &str)]) -> &mut Self {
        self.raw("<ul class=\"legend\">");
        for (tone, says) in entries {
            self.raw("<li><svg viewBox=\"0 0 11 11\" aria-hidden=\"true\"><rect width=\"11\" height=\"11\" rx=\"2.5\" class=\"");
            self.raw(tone.fill()).element("\"/></svg>", says, "</li>");
        }
        self.raw("</ul>\n")
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
    use super::{Column, Page, Tone};

    #[test]
    fn nothing_from_outside_becomes_markup() {
        let evil = "<script>alert(1)</script>\"'`&\u{202e}\u{1b}[2J onload=x javascript:x";
        let mut page = Page::new(evil);
        page.head("pss-guard", evil, evil).section(evil, evil).list([evil]);
        page.raw("<pre>").lines(&format!("{evil}\n{evil}")).raw("</pre>");
        page.row(evil, evil, &[], 0)
            .tile(Tone::Bad, "x", evil)
            .pill(Tone::Odd, evil)
            .ring(evil, 1, 2)
            .units(evil, &[(1, Tone::Good)]);
        let column = Column { label: evil.into(), short: evil.into(), dark: 1, light: 2 };
        page.chart(evil, &[column]).legend(&[(Tone::Good, evil)]).end().foot(evil);
        let html = page.finish();
        assert!(
            !html.contains("<script") && !html.contains("\"'") && !html.contains("alert(1)</script"),
            "{html}"
        );
        assert!(
            html.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&#96;&amp;\\u{202e}\\u{1b}[2J")
        );
        assert!(!html.chars().any(|c| c != '\n' && c.is_control()), "no control character");
        for tag in ["section", "main", "header", "footer", "svg", "ul", "li", "figure", "style"] {
            let count = |text: &str| html.matches(text).count();
            let opened = count(&format!("<{tag}>")) + count(&format!("<{tag} "));
            assert_eq!(opened, count(&format!("</{tag}>")), "{tag} is closed as often as it is opened");
        }
    }

    #[test]
    fn a_page_asks_for_nothing() {
        let html = Page::new("x").finish();
        assert!(html.contains("default-src 'none'"));
        for fetches in ["http:", "https:", "//", "url(", "@import", "<link", "<img", "<script", " src="] {
            assert!(!html.contains(fetches), "{fetches}");
        }
    }

    #[test]
    fn pictures_hold_for_nothing_and_for_very_much() {
        let mut page = Page::new("x");
        page.ring("none", 0, 0)
            .row("none", "", &[], 0)
            .row("", "", &[(0, Tone::Bad)], 0)
            .row("", "", &[(9, Tone::Bad)], 3)
            .chart("none", &[])
            .units("none", &[]);
        page.row("", "", &[(u64::MAX, Tone::Bad)], u64::MAX)
            .units("many", &[(100_000, Tone::Bad), (1, Tone::Good)]);
        let html = page.finish();
        assert!(!html.contains("width=\"300"), "no bar leaves its place");
        assert!(!html.contains("NaN") && !html.contains("inf"), "{html}");
        assert!(
            html.matches("class=\"fill-good\"").count() == 1,
            "what there is one of among many is still there"
        );
        assert!(html.matches("<rect").count() < 70);
    }
}
