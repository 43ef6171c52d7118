//! `scan --format html`: every container as a square, for each namespace at each level; then what would be refused, and the
//! fix.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};

use super::{Scan, Scanned};
use crate::decision::Verdict;
use crate::level::date::rfc3339;
use crate::level::workload;
use crate::message::{OURS, SANDBOX, UNMANAGED, marked};
use crate::output::json::Finding;
use crate::output::page::{
    About, MOST_UNITS, Tone, code, document, legend, list, pill, ring, row_head, scrolled, section, table,
    units,
};
use crate::pss::{Level, Version};
use crate::time::minute;

/// The levels that the picture shows, whichever was asked about.
pub const LEVELS: [(Level, Version); 2] =
    [(Level::Baseline, Version::Latest), (Level::Restricted, Version::Latest)];

/// The page of a scan that was also held against [`LEVELS`].
#[must_use]
pub fn page(scan: &Scan) -> String {
    let mut sentences = scan.sentences().into_iter();
    let at = minute(&rfc3339(scan.at));
    let about = About {
        program: "pss-guard scan",
        node: &scan.node,
        answer: &sentences.next().unwrap_or_default(),
        below: &format!("{} · checked against {} · {at} UTC", whole(scan), scan.asked()),
        at: &at,
    };
    let sentences: Vec<String> = sentences.collect();
    document(
        &about,
        &html! { (picture(scan, &sentences)) (nodes(scan)) (controls(scan)) (containers(scan)) (unseen(scan)) },
    )
}

/// What was scanned.
fn whole(scan: &Scan) -> String {
    if scan.parts.is_empty() {
        return format!("Node {}", scan.node);
    }
    let names: Vec<&str> = scan.parts.iter().map(|part| &*part.node).collect();
    format!("{}: {}", scan.node, names.join(", "))
}

/// The nodes whose scans were merged.
fn nodes(scan: &Scan) -> Markup {
    if scan.parts.is_empty() {
        return Markup::default();
    }
    section("Nodes", "Each was scanned at its own time.", &list(scan.of_each_node()))
}

fn name(namespace: Option<&str>) -> &str {
    namespace.unwrap_or(UNMANAGED)
}

/// The namespaces in the order of the scan.
fn namespaces(scan: &Scan) -> Vec<Option<&str>> {
    let mut names: Vec<Option<&str>> =
        scan.containers.iter().map(|one| one.result.container().namespace.as_deref()).collect();
    names.dedup();
    names
}

/// How many containers of each namespace are refused, not evaluated, exempt and allowed at this index of [`LEVELS`]. A
/// sandbox that is refused takes its pod's containers with it.
fn fates(scan: &Scan, level: usize) -> BTreeMap<Option<&str>, [usize; 4]> {
    let verdict = |one: &Scanned| one.at_levels.get(level).copied().unwrap_or(one.verdict);
    let pods: BTreeSet<&str> = scan
        .containers
        .iter()
        .filter(|one| one.sandbox && verdict(one) == Verdict::Deny)
        .filter_map(|one| one.pod.as_deref())
        .collect();
    let mut fates: BTreeMap<Option<&str>, [usize; 4]> = BTreeMap::new();
    for one in scan.containers.iter().filter(|one| !one.sandbox) {
        let [refused, unjudged, exempt, allowed] =
            fates.entry(one.result.container().namespace.as_deref()).or_default();
        let with_its_pod = one.pod.as_deref().is_some_and(|pod| pods.contains(pod));
        *match verdict(one) {
            Verdict::Deny => refused,
            _ if with_its_pod => refused,
            Verdict::CannotJudge => unjudged,
            Verdict::Exempt => exempt,
            Verdict::Allow => allowed,
        } += 1;
    }
    fates
}

fn picture(scan: &Scan, sentences: &[String]) -> Markup {
    let fates: Vec<_> =
        LEVELS.iter().enumerate().map(|(index, (level, _))| (level, fates(scan, index))).collect();
    let rings = fates.iter().map(|(level, fates)| {
        let judged = fates.values().map(|[refused, unjudged, _, allowed]| refused + unjudged + allowed).sum();
        let exempt: usize = fates.values().map(|[_, _, exempt, _]| exempt).sum();
        let allowed = fates.values().map(|[_, _, _, allowed]| allowed).sum();
        // The answer counts what is exempt, too.
        let title = if exempt > 0 { format!("{level} ({exempt} exempt)") } else { level.to_string() };
        ring(&title, allowed, judged)
    });
    let cell = |level: &Level, [refused, unjudged, exempt, allowed]: [usize; 4]| {
        let all = refused + unjudged + exempt + allowed;
        let title = format!("{refused} of {all} would be refused at {level}");
        let counts =
            [(refused, Tone::Bad), (unjudged, Tone::Odd), (exempt, Tone::None), (allowed, Tone::Good)];
        html! {
            td {
                div.units {
                    (units(&title, &counts))
                    span.small.soft {
                        @if refused > 0 { (refused) " of " (all) }
                        @else if exempt == all { "exempt" }
                        @else { "none refused" }
                    }
                }
            }
        }
    };
    let names = namespaces(scan);
    let rows = html! {
        @for (index, namespace) in names.iter().enumerate() {
            tr {
                th scope="row" { a href={ "#n" (index) } { (name(*namespace)) } }
                @for (level, fates) in &fates { (cell(level, fates.get(namespace).copied().unwrap_or_default())) }
            }
        }
    };
    let titles: Vec<&str> =
        std::iter::once("namespace").chain(LEVELS.map(|(level, _)| level.name())).collect();
    let content = html! {
        div.hero {
            div.rings { @for ring in rings { (ring) } }
            div {
                @if !sentences.is_empty() { (list(sentences)) }
                (legend(&[
                    (Tone::Good, "would start"),
                    (Tone::Bad, "would be refused"),
                    (Tone::Odd, "cannot be judged"),
                    (Tone::None, "exempt"),
                ]))
            }
        }
        @if names.is_empty() {
            p { "No container runs here." }
        } @else {
            (scrolled(&table(Some("matrix"), "Containers of each namespace at each level", &titles, &rows)))
        }
    };
    let below = format!(
        "Every square is a container that runs now, checked against the level above it. Where a namespace has more than \
         {MOST_UNITS}, a square stands for several."
    );
    section("What would still start", &below, &content)
}

fn controls(scan: &Scan) -> Markup {
    let mut by_control: BTreeMap<&str, (Counts, BTreeSet<Option<&str>>, &Finding<'_>)> = BTreeMap::new();
    for one in &scan.containers {
        for finding in one.reasons() {
            let row =
                by_control.entry(finding.control).or_insert((Counts::default(), BTreeSet::new(), finding));
            *(if one.sandbox { &mut row.0.sandboxes } else { &mut row.0.containers }) += 1;
            row.1.insert(one.result.container().namespace.as_deref());
        }
    }
    if by_control.is_empty() {
        return Markup::default();
    }
    let mut rows: Vec<_> = by_control.into_iter().collect();
    rows.sort_by_key(|(control, (counts, _, _))| (std::cmp::Reverse(counts.containers), *control));
    let largest = rows.iter().map(|(_, (counts, _, _))| counts.containers).max().unwrap_or(1).max(1);
    let lines = html! {
        @for (control, (counts, namespaces, finding)) in rows {
            @let whose = if finding.is_ours() { OURS } else { "" };
            tr {
                (row_head(control, whose, &[(counts.containers, Tone::Bad)], largest))
                td.n {
                    (counts.containers)
                    // A pod whose sandbox is refused has no container that starts, and may have none that runs.
                    @if counts.containers == 0 { " " span.soft.small { "+" (counts.sandboxes) " sandbox" } }
                }
                td.n { (namespaces.len()) }
                td.wide.soft.small.any { (finding.reason) }
            }
        }
    };
    section(
        "Violated controls",
        "Containers by control. pss-guard explain CONTROL says what it requires.",
        &table(None, "", &["control", "", "#containers", "#namespaces", "~reason"], &lines),
    )
}

/// How many are refused by a control.
#[derive(Clone, Copy, Default)]
struct Counts {
    containers: u64,
    sandboxes: u64,
}

fn containers(scan: &Scan) -> Markup {
    let of = |namespace: Option<&str>| {
        let own =
            scan.containers.iter().filter(|one| one.result.container().namespace.as_deref() == namespace);
        let (odd, plain): (Vec<&Scanned>, Vec<&Scanned>) = own.partition(|one| is_worth_telling(one));
        let starts = plain.iter().filter(|one| !one.sandbox);
        let names: BTreeSet<String> = starts.clone().map(|one| whose(one, &scan.node)).collect();
        let (tone, what) = if plain.iter().all(|one| one.verdict == Verdict::Exempt) {
            (Tone::None, "Exempt by the policy")
        } else {
            (Tone::Good, "Would start")
        };
        html! {
            @for alike in alike(odd, &scan.node) { (container(&alike, &scan.node)) }
            @if !names.is_empty() {
                details { summary { (pill(tone, what)) " " (starts.count()) } (list(names)) }
            }
        }
    };
    html! {
        @for (index, namespace) in namespaces(scan).into_iter().enumerate() {
            section id={ "n" (index) } { h2 { (name(namespace)) } (of(namespace)) }
        }
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
    let node = one.node.as_deref().unwrap_or(node);
    let container = one.result.container();
    let own = container.name.as_deref().or(container.id.as_deref()).unwrap_or("?");
    match container.pod.as_deref() {
        Some(pod) if one.sandbox => format!("{} {SANDBOX}", workload::of_running(pod, node)),
        Some(pod) => format!("{} / {own}", workload::of_running(pod, node)),
        None => own.to_owned(),
    }
}

fn container(alike: &[&Scanned], node: &str) -> Markup {
    let Some(one) = alike.first() else { return Markup::default() };
    let word = match one.verdict {
        Verdict::Deny => pill(Tone::Bad, "refused"),
        Verdict::CannotJudge => pill(Tone::Odd, "cannot be judged"),
        Verdict::Allow | Verdict::Exempt => pill(Tone::Odd, "runs with more"),
    };
    let reasons = one.reasons().map(|finding| finding.control);
    let controls: Vec<String> =
        reasons.chain(one.drift.iter().map(|drift| drift.control)).map(marked).collect();
    let pod = |one: &&Scanned| {
        let pod = one.result.container().pod.as_deref()?;
        Some(one.node.as_ref().map_or_else(|| pod.to_owned(), |node| format!("{pod} (on {node})")))
    };
    let pods: Vec<String> = alike.iter().filter_map(pod).collect();
    let nodes: BTreeSet<&str> = alike.iter().filter_map(|one| one.node.as_deref()).collect();
    html! {
        details {
            summary {
                (word) " " (whose(one, node))
                @if alike.len() > 1 { " " strong { "×" (alike.len()) } }
                " " span.soft.small { (controls.join(", ")) }
            }
            @if one.verdict == Verdict::CannotJudge { p.finding { (one.result.because) } }
            @for drift in &one.drift {
                p.finding.warn { (drift.control) ": runs with " (drift.runs) ", asked for " (drift.asked) }
            }
            @for one in one.reasons() { (finding(one)) }
            @if !pods.is_empty() { p.finding.soft.small { "pods " (pods.join(", ")) } }
            @else if !nodes.is_empty() { p.finding.soft.small { "on " (nodes.into_iter().collect::<Vec<_>>().join(", ")) } }
            @if let Some(image) = &one.result.container().image { p.finding.soft.small { "image " (image) } }
        }
    }
}

fn finding(finding: &Finding<'_>) -> Markup {
    html! {
        div.finding {
            strong { (finding.control) } " "
            @if finding.is_ours() { (pill(Tone::None, OURS)) " " }
            (finding.reason)
            @if !finding.detail.is_empty() { br; span.soft.small { (finding.detail) } }
            @if !finding.fix.is_empty() { (code("the fix", &finding.fix)) }
        }
    }
}

fn unseen(scan: &Scan) -> Markup {
    if scan.unseen.is_empty() {
        return Markup::default();
    }
    let places = scan.unseen.iter().map(|place| format!("{}: {}", place.path, place.why));
    section("Could not be inspected", "There may be more containers.", &list(places))
}
