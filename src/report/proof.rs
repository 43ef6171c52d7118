//! What one event proves: whether this start would be refused at baseline and at restricted, and by which controls.
//!
//! An event is about one level and proves nothing about a stricter one. About a looser one it does: what restricted adds
//! to baseline is known, and where a control of restricted replaces one of baseline, its text shows which part is
//! violated. Anything else is reported as unclear.

use std::borrow::Cow;

use serde::Deserialize;

use crate::events::Record;
use crate::level::policy::OnSuspect;
use crate::pss::controls::CONTROLS;
use crate::pss::{Control, Level, Origin};
use pss_guard_core::record::Kind;

/// What is known of a start at one level. Later says more, and is believed where events of one start differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proof {
    /// It was not held against this level.
    #[default]
    Nothing,
    /// It was, and nothing was found that refuses it.
    Complies,
    /// It violates a control of another level that may or may not hide one of this.
    Unclear,
    /// It would be refused.
    Refused,
}

/// What one event proves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// At baseline.
    pub baseline: Proof,
    /// At restricted.
    pub restricted: Proof,
    /// Whether a control of upstream's refuses it, and not one of our own alone.
    pub by_upstream: bool,
    /// The controls that are violated.
    pub violated: Controls,
    /// The controls that may be.
    pub suspected: Controls,
    /// The reasons of the exceptions that cover a control, with the control.
    pub excepted: Vec<(&'static str, String)>,
}

/// A set of controls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Controls(u32);

impl Controls {
    /// Those of `self` that are not in `others`.
    #[must_use]
    pub fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Adds those of another set.
    pub fn extend(&mut self, others: Self) {
        self.0 |= others.0;
    }

    /// Their ids, in the standard's order.
    pub fn ids(self) -> impl Iterator<Item = &'static str> {
        self.indices().filter_map(|index| CONTROLS.get(index)).map(|control| control.id)
    }

    /// Their places in the table of controls.
    pub fn indices(self) -> impl Iterator<Item = usize> {
        (0..CONTROLS.len()).filter(move |index| self.0 & (1 << index) != 0)
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn add(&mut self, control: &Control) {
        let index = CONTROLS.iter().position(|other| other.id == control.id);
        self.0 |= index.map_or(0, |index| 1 << index);
    }
}

/// A finding as events have it.
#[derive(Deserialize)]
struct Finding<'a> {
    #[serde(borrow)]
    control: Cow<'a, str>,
    #[serde(borrow)]
    certainty: Cow<'a, str>,
    #[serde(borrow, default)]
    detail: Cow<'a, str>,
    #[serde(borrow, default)]
    exception: Option<Cow<'a, str>>,
    #[serde(default)]
    reported: bool,
}

impl Finding<'_> {
    fn is_suspected(&self) -> bool {
        self.certainty == "suspect"
    }
}

/// Reads an event. A suspicion refuses only where the policy says so.
#[must_use]
pub fn of(record: &Record, on_suspect: OnSuspect) -> Evidence {
    let mut evidence = Evidence::default();
    let (Some(kind), Ok(level)) = (record.kind, record.level.parse::<Level>()) else { return evidence };
    let findings: Vec<Finding<'_>> = serde_json::from_str(&record.findings).unwrap_or_default();
    let refusing = |finding: &Finding<'_>| match kind {
        // The event itself names them.
        Kind::Denied | Kind::WouldDeny => record.controls.split(',').any(|id| id == finding.control),
        _ => {
            let bad = !finding.is_suspected() || on_suspect == OnSuspect::Deny;
            bad && !finding.reported && finding.exception.is_none()
        }
    };
    // No finding at all where there must be one: the text of the event was damaged, its controls are still there.
    let mut at_baseline = if findings.is_empty() { Proof::Unclear } else { Proof::Complies };
    let mut refused = matches!(kind, Kind::Denied | Kind::WouldDeny);
    for finding in &findings {
        let control = CONTROLS.iter().find(|control| control.id == finding.control);
        if let (Some(control), Some(reason)) = (control, &finding.exception) {
            evidence.excepted.push((control.id, reason.clone().into_owned()));
        }
        if let Some(control) = control {
            let set = if finding.is_suspected() { &mut evidence.suspected } else { &mut evidence.violated };
            set.add(control);
        }
        if refusing(finding) {
            refused = true;
            evidence.by_upstream |= control.is_none_or(|control| is_upstreams(control));
            at_baseline =
                at_baseline.max(control.map_or(Proof::Unclear, |control| baseline(control, &finding.detail)));
        }
    }
    if findings.is_empty() {
        let named = record.controls.split(',').map(|id| CONTROLS.iter().find(|control| control.id == id));
        for control in named {
            evidence.by_upstream |= refused && control.is_none_or(|control| is_upstreams(control));
            control.inspect(|control| evidence.violated.add(control));
        }
    }
    // An allowed start complies with its audit and warn level, too, which the event does not name.
    if kind.is_of_the_node() || matches!(kind, Kind::Allowed | Kind::Exempt | Kind::Fault) {
        return evidence;
    }
    let refusal = if refused { Proof::Refused } else { Proof::Complies };
    match level {
        Level::Privileged => {}
        // What violates baseline violates restricted; what complies may still violate that.
        Level::Baseline => {
            evidence.baseline = refusal;
            evidence.restricted = if refused { Proof::Refused } else { Proof::Nothing };
        }
        Level::Restricted => {
            evidence.baseline = at_baseline;
            evidence.restricted = refusal;
        }
    }
    evidence
}

fn is_upstreams(control: &Control) -> bool {
    control.origin == Origin::Upstream
}

/// Whether what a control found at restricted is refused at baseline, too.
fn baseline(control: &Control, detail: &str) -> Proof {
    if control.level == Level::Baseline {
        return Proof::Refused;
    }
    if control.overrides.is_empty() {
        return Proof::Complies;
    }
    let refused = match control.id {
        _ if detail.is_empty() => return Proof::Unclear,
        // Baseline wants nothing dropped; what it wants not to be added is said with these words.
        "capabilities_restricted" => detail.contains(" must not include "),
        // Of all types of volume it forbids one. Names of volumes stand before the types.
        "restrictedVolumes" => detail
            .rsplit(" restricted volume type")
            .next()
            .is_some_and(|types| types.contains("\"hostPath\"")),
        // It forbids Unconfined, and takes no profile at all.
        "seccompProfile_restricted" => detail.contains(" must not set "),
        // It takes an unmasked /proc in a user namespace.
        _ => return Proof::Unclear,
    };
    if refused { Proof::Refused } else { Proof::Complies }
}

#[cfg(test)]
mod tests {
    use super::Proof::{Complies, Nothing, Refused, Unclear};
    use super::{Proof, of};
    use crate::events::Record;
    use crate::level::policy::OnSuspect;
    use crate::pss::facts::{Facts, Volume};
    use crate::pss::testing::{compliant, make_privileged, with};
    use crate::pss::{self, Certainty, Level, NEWEST};
    use pss_guard_core::record::Kind;

    fn record(kind: Kind, level: &str, controls: &str, findings: &str) -> Record {
        Record {
            kind: Some(kind),
            level: level.into(),
            controls: controls.into(),
            findings: findings.into(),
            ..Record::default()
        }
    }

    fn finding(control: &str, certainty: &str, detail: &str, more: &str) -> String {
        format!(r#"[{{"control":"{control}","certainty":"{certainty}","detail":"{detail}"{more}}}]"#)
    }

    #[test]
    fn an_event_proves_no_more_than_its_level_and_its_findings_do() {
        let ours = finding("readOnlyRootFilesystem", "violates", "x", "");
        let privileged = finding("privileged", "violates", "x", "");
        let suspect = finding("runAsUser", "suspect", "x", "");
        let reported = finding("readOnlyRootFilesystem", "violates", "x", ",\"reported\":true");
        let excepted = finding("hostPathVolumes", "violates", "x", ",\"exception\":\"reads it\"");
        let unknown = finding("fromTheFuture", "violates", "x", "");
        let drop = finding("capabilities_restricted", "violates", "c must set drop", "");
        let add = finding("capabilities_restricted", "violates", "c must not include \\\"X\\\"", "");
        let cut = finding("capabilities_restricted", "violates", "", "");
        let masks = finding("procMount_restricted", "violates", "x", "");
        let named = finding(
            "restrictedVolumes",
            "violates",
            "volume \\\"hostPath\\\" uses restricted volume type \\\"gitRepo\\\"",
            "",
        );
        let rows: &[(Kind, &str, &str, &str, Proof, Proof)] = &[
            (Kind::WouldDeny, "restricted", "readOnlyRootFilesystem", &ours, Complies, Refused),
            (Kind::Denied, "restricted", "privileged", &privileged, Refused, Refused),
            (Kind::Denied, "baseline", "privileged", &privileged, Refused, Refused),
            (Kind::Audit, "restricted", "readOnlyRootFilesystem", &ours, Complies, Refused),
            (Kind::Warn, "baseline", "privileged", &privileged, Refused, Refused),
            (Kind::Audit, "restricted", "runAsUser", &suspect, Complies, Complies),
            (Kind::Audit, "baseline", "runAsUser", &suspect, Complies, Nothing),
            (Kind::Audit, "restricted", "readOnlyRootFilesystem", &reported, Complies, Complies),
            (Kind::Exception, "restricted", "hostPathVolumes", &excepted, Complies, Complies),
            (Kind::Exception, "baseline", "hostPathVolumes", &excepted, Complies, Nothing),
            (Kind::Audit, "restricted", "fromTheFuture", &unknown, Unclear, Refused),
            (Kind::Audit, "restricted", "capabilities_restricted", &drop, Complies, Refused),
            (Kind::Audit, "restricted", "capabilities_restricted", &add, Refused, Refused),
            (Kind::Audit, "restricted", "capabilities_restricted", &cut, Unclear, Refused),
            (Kind::Audit, "restricted", "procMount_restricted", &masks, Unclear, Refused),
            (Kind::Audit, "restricted", "restrictedVolumes", &named, Complies, Refused),
            // Cut in the middle: what would be refused stays refused.
            (Kind::WouldDeny, "restricted", "privileged", "[{\"con", Unclear, Refused),
            (Kind::Allowed, "restricted", "", "[]", Nothing, Nothing),
            (Kind::Fault, "", "", "", Nothing, Nothing),
            (Kind::Exempt, "", "", "", Nothing, Nothing),
            (Kind::Audit, "no such level", "privileged", &privileged, Nothing, Nothing),
        ];
        for (kind, level, controls, findings, baseline, restricted) in rows {
            let evidence = of(&record(*kind, level, controls, findings), OnSuspect::Audit);
            assert_eq!(
                (evidence.baseline, evidence.restricted),
                (*baseline, *restricted),
                "{kind:?} at {level}: {findings}"
            );
        }
        let strict = of(&record(Kind::Audit, "restricted", "runAsUser", &suspect), OnSuspect::Deny);
        assert_eq!(strict.restricted, Refused, "on-suspect = \"deny\" refuses what is suspected");
        assert!(strict.suspected.ids().eq(["runAsUser"]) && strict.violated.is_empty());
        let covered = of(&record(Kind::Exception, "baseline", "", &excepted), OnSuspect::Audit);
        assert_eq!(covered.excepted, [("hostPathVolumes", "reads it".to_owned())]);
        let both = format!("[{},{}]", ours.trim_matches(['[', ']']), privileged.trim_matches(['[', ']']));
        for (controls, findings, by_upstream) in [
            ("readOnlyRootFilesystem", &*ours, false),
            ("readOnlyRootFilesystem", &both, false),
            ("readOnlyRootFilesystem,privileged", &both, true),
            ("readOnlyRootFilesystem", "[{\"con", false),
            ("readOnlyRootFilesystem,privileged", "[{\"con", true),
            ("fromTheFuture", &unknown, true),
            ("", "", true),
        ] {
            let denied = of(&record(Kind::Denied, "restricted", controls, findings), OnSuspect::Audit);
            assert_eq!(denied.by_upstream, by_upstream, "{controls}: {findings}");
        }
    }

    /// What restricted finds tells what baseline would have found: held against the standard itself.
    #[test]
    fn what_an_event_at_restricted_says_of_baseline_is_what_baseline_says() {
        use crate::pss::capabilities::CapabilitySet;
        use crate::pss::facts::{Seccomp, SeccompDefault};
        let host = |name| Volume::HostPath { destination: "/x", source: "/etc".into(), name };
        let cases: Vec<(&str, Facts<'static>)> = vec![
            ("compliant", compliant()),
            ("privileged", with(make_privileged)),
            ("the engine's defaults", with(|f| f.capabilities = CapabilitySet::of(&["CHOWN", "KILL"]))),
            ("added", with(|f| f.capabilities = CapabilitySet::of(&["SYS_ADMIN"]))),
            ("both", with(|f| f.capabilities = CapabilitySet::of(&["CHOWN", "SYS_ADMIN"]))),
            ("no filter", with(|f| f.seccomp = Seccomp::Absent)),
            (
                "unconfined",
                with(|f| {
                    f.seccomp = Seccomp::Absent;
                    f.seccomp_default = SeccompDefault::RuntimeDefault;
                }),
            ),
            ("host path", with(|f| f.volumes = vec![host(Some("hostPath"))])),
            ("host path without a name", with(|f| f.volumes = vec![host(None)])),
            (
                "repository",
                with(|f| f.volumes = vec![Volume::Plugin { name: "hostPath", plugin: "git-repo" }]),
            ),
        ];
        let mut decided = 0;
        for (what, facts) in &cases {
            let found = pss::evaluate(Level::Restricted, NEWEST, facts, |_| false);
            let violated: Vec<_> = found
                .iter()
                .filter(|found| found.finding.certainty == Certainty::Violates)
                .map(|found| {
                    serde_json::json!({
                        "control": found.control.id,
                        "certainty": "violates",
                        "detail": found.finding.detail,
                    })
                })
                .collect();
            if violated.is_empty() {
                continue;
            }
            let findings = serde_json::Value::from(violated).to_string();
            let evidence = of(&record(Kind::Audit, "restricted", "", &findings), OnSuspect::Audit);
            let refused = pss::evaluate(Level::Baseline, NEWEST, facts, |_| false)
                .iter()
                .any(|found| found.finding.certainty == Certainty::Violates);
            assert_eq!(evidence.baseline, if refused { Refused } else { Complies }, "{what}: {findings}");
            decided += 1;
        }
        assert!(decided >= 8, "{decided} cases violate restricted");
    }
}
