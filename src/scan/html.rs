//! Renders a scan as one HTML page: a square per container, for each namespace and level; then what would be
//! refused, and the fix.

use std::collections::{BTreeMap, BTreeSet};

use super::{Scan, Scanned};
use crate::decision::Verdict;
use crate::level::date::rfc3339;
use crate::level::workload;
use crate::message::{OURS, SANDBOX, UNMANAGED, marked};
use crate::output::json::Finding;
use crate::output::page::{MOST_UNITS, Page, Tone};
use crate::pss::Level;
use crate::report::period::minute;

/// A node held against a level.
pub type AtLevel<'a> = (Level, &'a Scan);

/// The page: a scan, and the same node at the levels that the picture shows.
#[must_use]
pub fn page(scan: &Scan, levels: &[AtLevel<'_>]) -> String {
    let mut page = Page::new(&format!("pss-guard scan: {}", scan.node));
    let mut sentences = scan.sentences().into_iter();
    let answer = sentences.next().unwrap_or_default();
    let at = minute(&rfc3339(scan.at));
    let below = format!("Node {} · checked against {} · {at} UTC", scan.node, scan.asked());
    page.head("pss-guard scan", &answer, &below);
    picture(&mut page, scan, levels, &sentences.collect::<Vec<_>>());
    controls(&mut page, scan);
    containers(&mut page, scan);
    unseen(&mut page, scan);
    page.foot(&format!(
        "Written by pss-guard {} on {at} UTC. This page loads nothing and runs nothing.",
        env!("CARGO_PKG_VERSION")
    ));
    page.finish()
}

fn name(namespace: Option<&str>) -> &str {
    namespace.unwrap_or(UNMANAGED)
}

/// The namespaces in the order of the scan.
fn namespaces(scan: &Scan) -> Vec<Option<&str>> {
    let mut names: Vec<Option<&str>> =
        scan.containers.iter().map(|one| one.result.container.namespace.as_deref()).collect();
    names.dedup();
    names
}

/// How a scan's containers fare, by namespace; a sandbox that is refused takes its pod's containers with it.
fn fates(scan: &Scan) -> BTreeMap<Option<&str>, [usize; 4]> {
    let pods: BTreeSet<&str> = scan
        .containers
        .iter()
        .filter(|one| one.sandbox && one.is_refused())
        .filter_map(|one| one.pod.as_deref())
        .collect();
    let mut fates: BTreeMap<Option<&str>, [usize; 4]> = BTreeMap::new();
    for one in scan.containers.iter().filter(|one| !one.sandbox) {
        let [refused, unjudged, exempt, allowed] =
            fates.entry(one.result.container.namespace.as_deref()).or_default();
        let with_its_pod = one.pod.as_deref().is_some_and(|pod| pods.contains(pod));
        *match one.verdict {
            Verdict::Deny => refused,
            _ if with_its_pod => refused,
            Verdict::CannotJudge => unjudged,
            Verdict::Exempt => exempt,
            Verdict::Allow => allowed,
        } += 1;
    }
    fates
}

fn picture(page: &mut Page, scan: &Scan, levels: &[AtLevel<'_>], sentences: &[String]) {
    page.section(
        "What would still start",
        &format!(
            "Every square is a container that runs now, checked against the level above it. Where a \
             namespace has more than {MOST_UNITS}, a square stands for several."
        ),
    );
    page.raw("<div class=\"hero\"><div class=\"rings\">\n");
    let fates: Vec<_> = levels.iter().map(|(level, scan)| (level, fates(scan))).collect();
    for (level, fates) in &fates {
        let judged = fates.values().map(|[refused, unjudged, _, allowed]| refused + unjudged + allowed).sum();
        let exempt: usize = fates.values().map(|[_, _, exempt, _]| exempt).sum();
        let allowed = fates.values().map(|[_, _, _, allowed]| allowed).sum();
        // The answer counts what is exempt, too.
        let title = if exempt > 0 { format!("{level} ({exempt} exempt)") } else { level.to_string() };
        page.ring(&title, allowed, judged);
    }
    page.raw("</div>\n<div>");
    if !sentences.is_empty() {
        page.list(sentences.iter().map(String::as_str));
    }
    page.legend(&[
        (Tone::Good, "would start"),
        (Tone::Bad, "would be refused"),
        (Tone::Odd, "cannot be judged"),
        (Tone::None, "exempt"),
    ]);
    page.raw("</div></div>\n");
    let names = namespaces(scan);
    if names.is_empty() {
        page.raw("<p>No container runs here.</p>\n").end();
        return;
    }
    page.raw("<div class=\"scroll\"><table class=\"matrix\"><caption class=\"skip\">Containers of each namespace at each level</caption>\n");
    page.raw("<thead><tr><th scope=\"col\">namespace</th>");
    for (level, _) in &fates {
        page.element("<th scope=\"col\">", level.name(), "</th>");
    }
    page.raw("</tr></thead>\n<tbody>\n");
    for (index, namespace) in names.iter().enumerate() {
        page.raw("<tr><th scope=\"row\"><a href=\"#n").number(index).element(
            "\">",
            name(*namespace),
            "</a></th>",
        );
        for (level, fates) in &fates {
            let [refused, unjudged, exempt, allowed] = fates.get(namespace).copied().unwrap_or_default();
            let all = refused + unjudged + exempt + allowed;
            let title = format!("{refused} of {all} would be refused at {level}");
            page.raw("<td><div class=\"units\">");
            page.units(
                &title,
                &[(refused, Tone::Bad), (unjudged, Tone::Odd), (exempt, Tone::None), (allowed, Tone::Good)],
            );
            page.raw("<span class=\"small soft\">");
            match (refused, exempt) {
                (0, exempt) if exempt == all => page.raw("exempt"),
                (0, _) => page.raw("none refused"),
                _ => page.text(&format!("{refused} of {all}")),
            };
            page.raw("</span></div></td>");
        }
        page.raw("</tr>\n");
    }
    page.raw("</tbody></table></div>\n").end();
}

fn controls(page: &mut Page, scan: &Scan) {
    let mut by_control: BTreeMap<&str, (Counts, BTreeSet<Option<&str>>, &Finding<'_>)> = BTreeMap::new();
    for one in &scan.containers {
        for finding in one.reasons() {
            let row =
                by_control.entry(finding.control).or_insert((Counts::default(), BTreeSet::new(), finding));
            *(if one.sandbox { &mut row.0.sandboxes } else { &mut row.0.containers }) += 1;
            row.1.insert(one.result.container.namespace.as_deref());
        }
    }
    if by_control.is_empty() {
        return;
    }
    let mut rows: Vec<_> = by_control.into_iter().collect();
    rows.sort_by_key(|(control, (counts, _, _))| (std::cmp::Reverse(counts.containers), *control));
    let largest = rows.iter().map(|(_, (counts, _, _))| counts.containers).max().unwrap_or(1).max(1);
    page.section(
        "Violated controls",
        "Containers by control. pss-guard explain CONTROL says what it requires.",
    );
    page.raw("<table>").columns(&["control", "", "#containers", "#namespaces", "~reason"]);
    for (control, (counts, namespaces, finding)) in rows {
        let whose = if finding.is_ours() { OURS } else { "" };
        page.row(control, whose, &[(counts.containers, Tone::Bad)], largest);
        page.raw("<td class=\"n\">").number(counts.containers);
        // A pod whose sandbox is refused has no container that starts, and may have none that runs.
        if counts.containers == 0 {
            page.element(
                " <span class=\"soft small\">",
                &format!("+{} sandbox", counts.sandboxes),
                "</span>",
            );
        }
        page.raw("</td><td class=\"n\">").number(namespaces.len());
        page.element("</td><td class=\"wide soft small any\">", &finding.reason, "</td></tr>\n");
    }
    page.raw("</tbody></table>\n").end();
}

/// How many are refused by a control.
#[derive(Clone, Copy, Default)]
struct Counts {
    containers: u64,
    sandboxes: u64,
}

fn containers(page: &mut Page, scan: &Scan) {
    for (index, namespace) in namespaces(scan).into_iter().enumerate() {
        let all = || {
            scan.containers.iter().filter(move |one| one.result.container.namespace.as_deref() == namespace)
        };
        page.raw("<section id=\"n").number(index).element("\">\n<h2>", name(namespace), "</h2>\n");
        let (odd, plain): (Vec<&Scanned>, Vec<&Scanned>) = all().partition(|one| is_worth_telling(one));
        for alike in alike(odd, &scan.node) {
            container(page, &alike, &scan.node);
        }
        let starts = plain.iter().filter(|one| !one.sandbox).map(|one| whose(one, &scan.node));
        let starts: BTreeSet<String> = starts.collect();
        let count = plain.iter().filter(|one| !one.sandbox).count();
        if !starts.is_empty() {
            let exempt = plain.iter().all(|one| one.verdict == Verdict::Exempt);
            let what = if exempt { "Exempt by the policy" } else { "Would start" };
            page.raw("<details><summary>").pill(if exempt { Tone::None } else { Tone::Good }, what);
            page.element(" ", &count.to_string(), "</summary>\n")
                .list(starts.iter().map(String::as_str))
                .raw("</details>\n");
        }
        page.end();
    }
}

fn is_worth_telling(one: &Scanned) -> bool {
    !one.verdict.is_good() || !one.drift.is_empty()
}

/// Containers of one workload that say the same: one fix is for all of them.
fn alike<'s>(containers: Vec<&'s Scanned>, node: &str) -> Vec<Vec<&'s Scanned>> {
    let mut groups: Vec<Vec<&Scanned>> = Vec::new();
    let mut known = BTreeMap::new();
    for one in containers {
        let said: Vec<_> = one.reasons().map(|finding| (finding.control, &*finding.detail)).collect();
        let drift: Vec<_> = one.drift.iter().map(|drift| (drift.control, &drift.runs)).collect();
        let because = (one.verdict == Verdict::CannotJudge).then_some(&one.result.because);
        let group =
            *known.entry((whose(one, node), one.verdict.name(), said, drift, because)).or_insert_with(|| {
                groups.push(Vec::new());
                groups.len() - 1
            });
        if let Some(group) = groups.get_mut(group) {
            group.push(one);
        }
    }
    groups
}

/// The workload and the container.
fn whose(one: &Scanned, node: &str) -> String {
    let container = &one.result.container;
    let own = container.name.as_deref().or(container.id.as_deref()).unwrap_or("?");
    match container.pod.as_deref() {
        Some(pod) if one.sandbox => format!("{} {SANDBOX}", workload::of_running(pod, node)),
        Some(pod) => format!("{} / {own}", workload::of_running(pod, node)),
        None => own.to_owned(),
    }
}

fn container(page: &mut Page, alike: &[&Scanned], node: &str) {
    let Some(one) = alike.first() else { return };
    page.raw("<details><summary>");
    match one.verdict {
        Verdict::Deny => page.pill(Tone::Bad, "refused"),
        Verdict::CannotJudge => page.pill(Tone::Odd, "cannot be judged"),
        Verdict::Allow | Verdict::Exempt => page.pill(Tone::Odd, "runs with more"),
    };
    page.element(" ", &whose(one, node), "");
    if alike.len() > 1 {
        page.element(" <strong>×", &alike.len().to_string(), "</strong>");
    }
    let reasons = one.reasons().map(|finding| finding.control);
    let controls: Vec<String> =
        reasons.chain(one.drift.iter().map(|drift| drift.control)).map(marked).collect();
    page.element(" <span class=\"soft small\">", &controls.join(", "), "</span></summary>\n");
    if one.verdict == Verdict::CannotJudge {
        page.element("<p class=\"finding\">", &one.result.because, "</p>\n");
    }
    for drift in &one.drift {
        let says = format!("{}: runs with {}, asked for {}", drift.control, drift.runs, drift.asked);
        page.element("<p class=\"finding warn\">", &says, "</p>\n");
    }
    for found in one.reasons() {
        finding(page, found);
    }
    let pods: Vec<&str> = alike.iter().filter_map(|one| one.result.container.pod.as_deref()).collect();
    if !pods.is_empty() {
        page.element("<p class=\"finding soft small\">pods ", &pods.join(", "), "</p>\n");
    }
    if let Some(image) = &one.result.container.image {
        page.element("<p class=\"finding soft small\">image ", image, "</p>\n");
    }
    page.raw("</details>\n");
}

fn finding(page: &mut Page, finding: &Finding<'_>) {
    page.raw("<div class=\"finding\"><strong>").text(finding.control).raw("</strong> ");
    if finding.is_ours() {
        page.pill(Tone::None, OURS).raw(" ");
    }
    page.text(&finding.reason);
    if !finding.detail.is_empty() {
        page.element("<br><span class=\"soft small\">", &finding.detail, "</span>");
    }
    if !finding.fix.is_empty() {
        page.raw("<pre tabindex=\"0\" aria-label=\"the fix\"><code>")
            .lines(&finding.fix)
            .raw("</code></pre>");
    }
    page.raw("</div>\n");
}

fn unseen(page: &mut Page, scan: &Scan) {
    if scan.unseen.is_empty() {
        return;
    }
    page.section("Could not be inspected", "There may be more containers.");
    let places: Vec<String> =
        scan.unseen.iter().map(|place| format!("{}: {}", place.path, place.why)).collect();
    page.list(places.iter().map(String::as_str)).end();
}
