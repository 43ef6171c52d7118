//! Renders a decision as one line: upstream's words, then what set the level; safe for any terminal and log.

use std::fmt::Write as _;

use pss::Origin;
use pss::controls::CONTROLS;
use pss_guard_core::decision::{ControlResult, Effect, Evaluation, Reading};
use pss_guard_core::level::policy::Setting;
use pss_guard_core::level::{self, Policy, RequiredLevel};

/// The longest message, in bytes: with the program's name before it and the end of the line, 4 KiB.
pub const LIMIT: usize = 4096 - "pss-guard: \n".len();

/// What a control of our own is called beside upstream's.
pub const OURS: &str = "pss-guard's own control";

/// Where the namespace stands: containers of no pod.
pub const UNMANAGED: &str = "(unmanaged)";

/// Where the container's name stands: a pod's sandbox, which has none.
pub const SANDBOX: &str = "(sandbox)";

/// The controls of our own.
pub fn our_controls() -> impl Iterator<Item = &'static str> {
    CONTROLS.iter().filter(|control| control.origin == Origin::PssGuard).map(|control| control.id)
}

/// Those of them that refuse containers by a policy, as a list.
#[must_use]
pub fn our_refusing_controls(policy: &Policy) -> String {
    let refuses = |id: &&str| policy.controls.setting(id) == Setting::Enforce;
    our_controls().filter(refuses).collect::<Vec<_>>().join(", ")
}

/// The id of a control, and whose it is where that is not upstream's.
#[must_use]
pub fn marked(control: &str) -> String {
    let ours = our_controls().any(|id| id == control);
    format!("{control}{}", if ours { mark(Origin::PssGuard.name()) } else { "" })
}

/// The mark of such a control where there is room for a word.
#[must_use]
pub fn mark(origin: &str) -> &'static str {
    if origin == Origin::PssGuard.name() { " [pss-guard]" } else { "" }
}

/// `violates PodSecurity "restricted:latest": reason (detail), …; level from …`, at most [`LIMIT`] bytes. Without
/// findings the list and its colon are left out.
///
/// What upstream does not ask for is never said to violate PodSecurity: `…; and pss-guard's own control: reason (detail);
/// level from …`, or alone `violates pss-guard's own control at "restricted:latest": …`.
#[must_use]
pub fn message<'s, 'p: 's>(
    verb: &str,
    assessment: &Evaluation<'_>,
    findings: impl Iterator<Item = &'s ControlResult<'p>>,
) -> String {
    let mut levels = String::new();
    let mut because = String::new();
    for (index, demand) in assessment.asked().enumerate() {
        let and = if index == 0 { "" } else { " and " };
        let _ = write!(levels, "{and}\"{}:{}\"", demand.level, demand.version);
        let separator = if index == 0 { "" } else { ", " };
        let _ = write!(because, "{separator}{}", demand.because);
    }
    let (mut list, mut ours) = (String::new(), String::new());
    let mut is_declared = false;
    for result in findings {
        let list = if result.control.origin == Origin::PssGuard { &mut ours } else { &mut list };
        let separator = if list.is_empty() { "" } else { ", " };
        let _ = write!(list, "{separator}{}", result.finding.reason);
        if !result.finding.detail.is_empty() {
            let _ = write!(list, " ({})", result.finding.detail);
        }
        is_declared |= result.reading == Reading::Declared && result.control.origin == Origin::Upstream;
        // Admission has not seen it: with the pod's declaration at hand it is what only the node can know.
        if result.reading == Reading::NodeOnly && result.control.origin == Origin::Upstream {
            list.push_str(" [seen on the node]");
        }
        if let Effect::Excepted(exception) = result.effect {
            let _ = write!(list, " [exception until {}: {}]", exception.expires, exception.reason);
        }
    }
    // Admission reads the same fields by the same rules. That the pod is here means that the labels were others then.
    let by_labels =
        |demand: &RequiredLevel<'_>| matches!(demand.because.origin(), level::Origin::File { .. });
    if is_declared && assessment.asked().any(by_labels) {
        because.push_str("; admitted before the namespace asked for this");
    }
    let (whose, list) = match (list.is_empty(), ours.is_empty()) {
        (true, false) => (format!("{OURS} at"), ours),
        (false, false) => ("PodSecurity".to_owned(), format!("{list}; and {OURS}: {ours}")),
        (_, true) => ("PodSecurity".to_owned(), list),
    };
    let (head, list, because) =
        (escape(&format!("{verb} {whose} {levels}")), escape(&list), escape(&because));
    let because = cut(&because, LIMIT / 2);
    if list.is_empty() {
        return format!("{head}; {because}");
    }
    let room = LIMIT.saturating_sub(head.len() + because.len() + ": ; ".len());
    format!("{head}: {}; {because}", cut(&list, room))
}

/// Text from outside on one line: control characters, line separators and the marks that turn the reading direction
/// and letters without width are escaped.
#[must_use]
pub fn escape(text: &str) -> String {
    let odd = |c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    if is_plain(text) || !text.chars().any(odd) {
        return text.to_owned();
    }
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if odd(c) { plain.extend(c.escape_default()) } else { plain.push(c) }
    }
    plain
}

/// Whether a text is of printable ASCII alone, as nearly every one is: it is shown as it is, on any terminal.
#[must_use]
pub fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

/// The text, or as much of it as fits `limit` bytes, ending in a sign that it goes on.
#[must_use]
pub fn cut(text: &str, limit: usize) -> String {
    ended(text, limit, " … (cut; the whole is in the journal)")
}

/// The same where only a name is cut.
#[must_use]
pub fn shortened(text: &str, limit: usize) -> String {
    ended(text, limit, "…")
}

fn ended(text: &str, limit: usize, sign: &str) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    format!("{}{sign}", head(text, limit.saturating_sub(sign.len())))
}

/// The beginning of a text, at most so many bytes of it.
#[must_use]
pub fn head(text: &str, limit: usize) -> &str {
    if text.len() <= limit {
        return text;
    }
    let end = (0..=limit).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

/// What the standard library says of an error of the system, without the number behind the words.
fn without_number(mut text: String) -> String {
    let number = text.strip_suffix(')').and_then(|text| text.rsplit_once(" (os error "));
    if let Some((words, _)) = number.filter(|(_, number)| number.bytes().all(|byte| byte.is_ascii_digit())) {
        text.truncate(words.len());
    }
    text
}

/// An error and its causes on one line.
#[must_use]
pub fn line(err: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(err), |err| err.source());
    let mut parts: Vec<String> = causes.map(|cause| without_number(cause.to_string())).collect();
    // A transparent error says the same as its cause.
    parts.dedup();
    cut(&escape(&parts.join(": ")), LIMIT)
}

/// Writes one line to stderr: what a runtime shows of a hook that fails.
///
/// A stderr that is gone is no reason to change a verdict.
pub fn stderr_line(line: &str) {
    use std::io::Write as _;
    pss_guard_core::signals::ignore();
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::{LIMIT, cut, escape, message, our_refusing_controls, shortened};
    use pss::controls::CONTROLS;
    use pss::{Finding, Level, Version};
    use pss_guard_core::decision::{ControlResult, Effect, Evaluation, Reading};
    use pss_guard_core::level::{
        Labels, NamespaceLabels, PodAttributes, Policy, RequiredLevel, Resolution, resolve,
    };

    #[test]
    fn what_upstream_does_not_ask_for_is_not_said_to_violate_pod_security() {
        let demand = RequiredLevel::argument(Level::Restricted, Version::Latest);
        let assessment = Evaluation { demands: vec![(demand, true)], findings: Vec::new() };
        let violation = |id: &str, reason: &'static str, detail: &str| ControlResult {
            reading: Reading::Observed,
            control: CONTROLS.iter().find(|control| control.id == id).unwrap(),
            finding: Finding::violates(reason, detail.to_owned(), ""),
            effect: Effect::Counts,
        };
        let root = violation("runAsNonRoot", "runAsNonRoot != true", "x");
        let ours = violation("readOnlyRootFilesystem", "readOnlyRootFilesystem != true", "y");
        let rows = [
            (vec![&root], "violates PodSecurity \"restricted:latest\": runAsNonRoot != true (x)"),
            (
                vec![&root, &ours],
                "violates PodSecurity \"restricted:latest\": runAsNonRoot != true (x); and pss-guard's own control: \
                 readOnlyRootFilesystem != true (y)",
            ),
            (
                vec![&ours],
                "violates pss-guard's own control at \"restricted:latest\": readOnlyRootFilesystem != true (y)",
            ),
            (vec![], "violates PodSecurity \"restricted:latest\""),
        ];
        for (findings, expected) in rows {
            let said = message("violates", &assessment, findings.into_iter());
            assert_eq!(said, format!("{expected}; level from --level"));
        }
        let long = violation("runAsNonRoot", "runAsNonRoot != true", &"x".repeat(10_000));
        let said = message("violates", &assessment, [&long, &ours].into_iter());
        assert!(said.len() <= LIMIT && said.ends_with("; level from --level"), "{said}");
        assert_eq!(our_refusing_controls(&Policy::default()), "readOnlyRootFilesystem");
    }

    #[test]
    fn what_admission_has_not_seen_is_marked_and_so_is_what_it_would_refuse_today() {
        let labels = Labels { enforce: Some("restricted".into()), ..Labels::default() };
        let (policy, path) = (Policy::default(), "/run/pss-guard/namespaces/shop.json".into());
        let whose = PodAttributes { namespace: Some("shop"), ..PodAttributes::default() };
        let found = NamespaceLabels::Labels { labels, path };
        let Resolution::Levels(levels) = resolve(&policy, &whose, &found) else { panic!("levels") };
        let evaluation = |demand: RequiredLevel<'static>| Evaluation {
            demands: vec![(demand, true)],
            findings: Vec::new(),
        };
        let result = |id: &str, reading| ControlResult {
            control: CONTROLS.iter().find(|control| control.id == id).unwrap(),
            finding: Finding::violates("r", "d", ""),
            reading,
            effect: Effect::Counts,
        };
        let of_labels = Evaluation {
            demands: levels.enforce.iter().map(|demand| (demand.clone(), true)).collect(),
            findings: Vec::new(),
        };
        let by_argument = evaluation(RequiredLevel::argument(Level::Restricted, Version::Latest));
        let because = "level from namespace \"shop\" (/run/pss-guard/namespaces/shop.json)";
        let before = "; admitted before the namespace asked for this";
        let rows = [
            (&of_labels, vec![("runAsUser", Reading::Observed)], format!("r (d); {because}")),
            (&of_labels, vec![("runAsUser", Reading::Declared)], format!("r (d); {because}{before}")),
            // The kubelet asks no admission for it, and a container made past the API server had none.
            (&of_labels, vec![("runAsUser", Reading::Static)], format!("r (d); {because}")),
            (
                &of_labels,
                vec![("runAsUser", Reading::NodeOnly)],
                format!("r (d) [seen on the node]; {because}"),
            ),
            (
                &of_labels,
                vec![("runAsUser", Reading::Declared), ("hostPorts", Reading::NodeOnly)],
                format!("r (d), r (d) [seen on the node]; {because}{before}"),
            ),
            // Admission has no such control.
            (&of_labels, vec![("readOnlyRootFilesystem", Reading::Declared)], format!("r (d); {because}")),
            (&by_argument, vec![("runAsUser", Reading::Declared)], "r (d); level from --level".to_owned()),
        ];
        for (evaluation, results, expected) in rows {
            let results: Vec<ControlResult<'_>> =
                results.into_iter().map(|(id, reading)| result(id, reading)).collect();
            let said = message("violates", evaluation, results.iter());
            assert!(said.ends_with(&expected), "{said}, not {expected}");
        }
    }

    #[test]
    fn nothing_from_outside_can_start_a_new_line_or_move_a_cursor() {
        let rows = [
            ("plain ü", "plain ü"),
            ("a\nb\r\tc", "a\\nb\\r\\tc"),
            ("\u{1b}[2Jx\u{7f}", "\\u{1b}[2Jx\\u{7f}"),
            ("a\u{202e}b\u{2028}", "a\\u{202e}b\\u{2028}"),
            ("kube\u{200b}-system\u{61c}", "kube\\u{200b}-system\\u{61c}"),
        ];
        for (text, expected) in rows {
            assert_eq!(escape(text), expected);
        }
    }

    #[test]
    fn an_error_of_the_system_is_said_in_words() {
        let denied = std::io::Error::from_raw_os_error(libc::EACCES);
        assert_eq!(super::line(&denied), "Permission denied");
        let named = std::io::Error::other("no (os error x)");
        assert_eq!(super::line(&named), "no (os error x)");
    }

    #[test]
    fn a_cut_text_fits_and_says_so() {
        assert_eq!(cut("short", 5), "short");
        let long = "ü".repeat(100);
        let text = cut(&long, 99);
        assert!(text.len() <= 99 && text.ends_with("(cut; the whole is in the journal)"), "{text}");
    }

    #[test]
    fn what_is_cut_ends_in_a_sign_and_within_its_limit() {
        assert_eq!(shortened("äöü", 6), "äöü");
        assert_eq!(shortened("äöüß", 7), "äö…");
        assert_eq!(shortened("abc", 2), "…", "no less than the sign");
    }
}
