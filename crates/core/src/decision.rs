//! Runs both readings of the controls at the levels that apply to a container, or to a pod of a manifest, and decides by the
//! policy what each finding does. Pure.

use crate::level::date::Date;
use crate::level::policy::{Exception, Named, OnSuspect, Setting};
use crate::level::{Policy, RequiredLevel, ask_alike};
use pss::controls::CONTROLS;
use pss::facts::Facts;
use pss::pod::Pod;
use pss::{Certainty, Control, Finding, Found, Level, Minor, Origin, Scope};

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may start.
    Allow,
    /// It may not.
    Deny,
    /// It is not evaluated: the policy exempts it.
    Exempt,
    /// Nobody can say.
    CannotJudge,
}

impl Verdict {
    /// The word used in every output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Exempt => "exempt",
            Self::CannotJudge => "cannot-judge",
        }
    }

    /// Whether nothing speaks against a start.
    #[must_use]
    pub const fn is_good(self) -> bool {
        matches!(self, Self::Allow | Self::Exempt)
    }
}

/// What the admin's settings make of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect<'p> {
    /// It counts.
    Counts,
    /// It is reported and does not deny (`[controls] … = "audit"`).
    Reported,
    /// An exception covers it.
    Excepted(&'p Exception),
}

/// Which of the standard's two readings made a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reading {
    /// What the pod declares.
    Declared,
    /// What the manifest of a static pod declares, which no admission has seen.
    Static,
    /// What the node shows, of a pod whose declaration is known: admission has not seen it.
    NodeOnly,
    /// What the node shows, and nothing else is known.
    Observed,
}

/// What is known of a container's pod beside the node: its object in the API, or its static manifest.
#[derive(Clone, Copy, Debug)]
pub struct Declared<'d> {
    /// The pod.
    pub pod: &'d Pod,
    /// Whether the container is one of the pod's. An ephemeral one can be newer than what is known.
    pub has_container: bool,
    /// Whether it settles what the node cannot see. The facts of a static pod do not: they may add denials only.
    pub settles: bool,
}

impl Declared<'_> {
    /// Whether it answers for a control, so that only a proof of the node counts beside it.
    fn answers_for(&self, control: &Control) -> bool {
        self.settles && !control.declared.is_empty() && (control.scope == Scope::Pod || self.has_container)
    }
}

/// A finding and what becomes of it.
#[derive(Clone, Debug)]
pub struct ControlResult<'p> {
    /// The control.
    pub control: &'static Control,
    /// What it found.
    pub finding: Finding,
    /// By which reading.
    pub reading: Reading,
    /// What the settings make of it.
    pub effect: Effect<'p>,
}

impl ControlResult<'_> {
    /// Whether it is a proven violation.
    #[must_use]
    pub fn is_violation(&self) -> bool {
        self.finding.certainty == Certainty::Violates
    }

    /// Whether people want to read of it without asking: everything but what cannot be seen, and what is excepted.
    #[must_use]
    pub fn is_worth_telling(&self) -> bool {
        self.finding.certainty != Certainty::Unseen && !matches!(self.effect, Effect::Excepted(_))
    }
}

/// A container held against one purpose's levels (enforce, audit or warn).
#[derive(Clone, Debug)]
pub struct Evaluation<'p> {
    /// What was asked, and whether the answer to it alone would be no.
    pub demands: Vec<(RequiredLevel<'p>, bool)>,
    /// The united findings, in upstream's order, one a control.
    pub findings: Vec<ControlResult<'p>>,
}

/// The settings that findings meet, and the day on which exceptions are looked at.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'p> {
    policy: &'p Policy,
    named: Option<Named<'p>>,
    today: Option<Date>,
    only: Option<&'p [&'static str]>,
}

impl<'p> Rules<'p> {
    /// Rules for a container. Its names and the day are only asked for where the policy has exceptions at all.
    pub fn new(
        policy: &'p Policy,
        named: impl FnOnce() -> Option<Named<'p>>,
        today: impl FnOnce() -> Date,
    ) -> Self {
        let any = !policy.exceptions.is_empty();
        Self { policy, named: any.then(named).flatten(), today: any.then(today), only: None }
    }

    /// The same rules for a pod whose workload is known.
    #[must_use]
    pub fn of_workload(self, owner: &'p str) -> Self {
        Self { named: self.named.map(|named| Named { owner, ..named }), ..self }
    }

    /// The same rules for these controls alone.
    #[must_use]
    pub fn only(self, controls: &'p [&'static str]) -> Self {
        Self { only: Some(controls), ..self }
    }

    /// Evaluates every demand and unites the findings: those of the node, and those of the pod as it is declared where that
    /// is known. Either can deny.
    #[must_use]
    pub fn assess(
        &self,
        demands: &[RequiredLevel<'p>],
        facts: &Facts<'_>,
        declared: Option<Declared<'_>>,
    ) -> Evaluation<'p> {
        let mut findings: Vec<ControlResult<'p>> = Vec::new();
        let mut asked = Vec::with_capacity(demands.len());
        for demand in demands {
            let minor = demand.version.minor(self.policy.latest_minor());
            let mut no = false;
            // An exception from one control must not open the one that it overrides.
            let lifted = |control: &Control| self.effect(control) != Some(Effect::Counts);
            if let Some(Declared { pod, settles, .. }) = declared {
                let reading = if settles { Reading::Declared } else { Reading::Static };
                // The images of other containers are not known here.
                let effect = self.effect_in(pod, demand.level, minor, |_| None);
                let lifted = |control: &Control| effect(control) != Some(Effect::Counts);
                let pss::Evaluation { found, lifted, .. } =
                    pss::evaluate_pod(demand.level, minor, pod, lifted);
                for found in found.into_iter().chain(lifted) {
                    let effect = effect(found.control);
                    no |= self.add(&mut findings, found, reading, effect);
                }
            }
            let reading = if declared.is_some() { Reading::NodeOnly } else { Reading::Observed };
            for found in pss::evaluate(demand.level, minor, facts, lifted) {
                let (control, is_proof) = (found.control, found.finding.certainty == Certainty::Violates);
                let is_settled = declared.is_some_and(|declared| {
                    !is_proof && declared.answers_for(control) && !facts.beyond_declaration(control)
                });
                if !is_settled {
                    no |= self.add(&mut findings, found, reading, self.effect(control));
                }
            }
            asked.push((demand.clone(), no));
        }
        settle(&mut findings);
        Evaluation { demands: asked, findings }
    }

    /// The same of facts that were held against other demands before. Namespaces usually ask for one level for all purposes, and
    /// what was found does not depend on who asks.
    #[must_use]
    pub fn assess_again(
        &self,
        before: &Evaluation<'p>,
        demands: &[RequiredLevel<'p>],
        facts: &Facts<'_>,
        declared: Option<Declared<'_>>,
    ) -> Evaluation<'p> {
        if !ask_alike(demands, before.all_demands()) {
            return self.assess(demands, facts, declared);
        }
        let answers = before.demands.iter().map(|(_, no)| *no);
        Evaluation {
            demands: demands.iter().cloned().zip(answers).collect(),
            findings: before.findings.clone(),
        }
    }

    /// The same of a pod by what it declares, without any node; `image` is what its containers name. Beside the united
    /// findings: what the standard says at each demand, with the fixes.
    #[must_use]
    pub fn evaluate_declared<'d, 'i>(
        &self,
        demands: &[RequiredLevel<'p>],
        pod: &'d Pod,
        image: impl Fn(&str) -> Option<&'i str>,
    ) -> (Evaluation<'p>, Vec<pss::Evaluation<'d>>) {
        let mut united = Evaluation { demands: Vec::with_capacity(demands.len()), findings: Vec::new() };
        let mut all = Vec::with_capacity(demands.len());
        for demand in demands {
            let minor = demand.version.minor(self.policy.latest_minor());
            let effect = self.effect_in(pod, demand.level, minor, &image);
            let lifted = |control: &Control| effect(control) != Some(Effect::Counts);
            let declared = pss::evaluate_pod(demand.level, minor, pod, lifted);
            let mut no = false;
            for found in declared.found.iter().chain(&declared.lifted) {
                let effect = effect(found.control);
                no |= self.add(&mut united.findings, found.clone(), Reading::Declared, effect);
            }
            united.demands.push((demand.clone(), no));
            all.push(declared);
        }
        settle(&mut united.findings);
        (united, all)
    }

    /// Adds what a control found, unless the settings do not ask about it. Whether that is reason enough to say no.
    fn add(
        &self,
        findings: &mut Vec<ControlResult<'p>>,
        found: Found,
        reading: Reading,
        effect: Option<Effect<'p>>,
    ) -> bool {
        let Some(effect) = effect else { return false };
        let result = ControlResult { control: found.control, finding: found.finding, reading, effect };
        let no = self.counts(&result);
        unite(findings, result);
        no
    }

    /// What the settings make of a control; `None` where it is switched off, or not asked about.
    fn effect(&self, control: &Control) -> Option<Effect<'p>> {
        if self.only.is_some_and(|only| !only.contains(&control.id)) {
            return None;
        }
        // The standard does not have ours, so only these can be switched off.
        let setting = match control.origin {
            Origin::PssGuard => self.policy.controls.setting(control.id),
            Origin::Upstream => Setting::Enforce,
        };
        match setting {
            Setting::Off => return None,
            Setting::Audit => return Some(Effect::Reported),
            Setting::Enforce => {}
        }
        let exception = self.named.and_then(|named| self.exception(&named, control));
        Some(exception.map_or(Effect::Counts, Effect::Excepted))
    }

    /// The exception that covers a control of a container.
    fn exception(&self, named: &Named<'_>, control: &Control) -> Option<&'p Exception> {
        let today = self.today?;
        let covers =
            |exception: &&Exception| exception.covers(named, control.id) && !exception.expired(today);
        self.policy.exceptions.iter().find(covers)
    }

    /// The same of a pod's declaration, in which other containers can violate a control. They are evaluated by themselves: it
    /// does not count here if only they violate it, and each that does has an exception.
    fn effect_in<'i>(
        &self,
        pod: &Pod,
        level: Level,
        minor: Minor,
        image: impl Fn(&str) -> Option<&'i str>,
    ) -> impl Fn(&Control) -> Option<Effect<'p>> {
        let named = self.named.filter(|_| self.policy.exceptions.iter().any(Exception::is_of_containers));
        let violated = |name: &String| {
            let alone = pod.alone(name)?;
            let all = pss::evaluate_pod(level, minor, &alone, |_| true);
            let ids: Vec<_> = all.found.iter().chain(&all.lifted).map(|found| found.control.id).collect();
            Some((name.clone(), ids))
        };
        let each: Option<Vec<_>> = named.map(|_| pod.container_names().filter_map(violated).collect());
        let of_others = move |control: &Control| {
            let named = named?;
            let own = named.container?;
            let mut bad = each.as_ref()?.iter().filter(|(_, ids)| ids.contains(&control.id));
            bad.try_fold(None, |_, (name, _)| {
                let other = Named { container: Some(name), image: image(name), ..named };
                let exception = self.exception(&other, control).filter(|_| name != own);
                exception.map(Some)
            })
            .flatten()
        };
        move |control| match self.effect(control)? {
            Effect::Counts => Some(of_others(control).map_or(Effect::Counts, Effect::Excepted)),
            effect => Some(effect),
        }
    }

    /// Whether a finding is reason enough to say no.
    fn counts(&self, result: &ControlResult<'_>) -> bool {
        result.effect == Effect::Counts && self.is_bad(result.finding.certainty)
    }

    fn is_bad(&self, certainty: Certainty) -> bool {
        match certainty {
            Certainty::Violates => true,
            Certainty::Suspect => self.policy.on_suspect == OnSuspect::Deny,
            Certainty::Unseen => false,
        }
    }

    /// The findings that say no.
    pub fn denying<'s>(
        &'s self,
        assessment: &'s Evaluation<'p>,
    ) -> impl Iterator<Item = &'s ControlResult<'p>> {
        assessment.findings.iter().filter(|result| self.counts(result))
    }

    /// The findings that would say no but for an exception.
    pub fn excepted<'s>(
        &'s self,
        assessment: &'s Evaluation<'p>,
    ) -> impl Iterator<Item = &'s ControlResult<'p>> {
        let excepted = |result: &&ControlResult<'_>| matches!(result.effect, Effect::Excepted(_));
        assessment.findings.iter().filter(excepted).filter(|result| self.is_bad(result.finding.certainty))
    }
}

/// What admission would say, in its order; behind it what only the node knows.
fn order(result: &ControlResult<'_>) -> (bool, Option<usize>) {
    let place = CONTROLS.iter().position(|control| control.id == result.control.id);
    (result.reading == Reading::NodeOnly, place)
}

/// Puts the united findings in order. At one demand a control stands in for those that it overrides; here it does for what another
/// demand found by them, at a looser level or an older version, unless that is surer, or excepted: that an exception is used is told.
fn settle(findings: &mut Vec<ControlResult<'_>>) {
    let stands_in = |other: &ControlResult<'_>, result: &ControlResult<'_>| {
        other.effect == Effect::Counts
            && !matches!(result.effect, Effect::Excepted(_))
            && other.finding.certainty >= result.finding.certainty
            && other.control.overrides.contains(&result.control.id)
    };
    let is_over: Vec<bool> =
        findings.iter().map(|result| findings.iter().any(|other| stands_in(other, result))).collect();
    let mut is_over = is_over.into_iter();
    findings.retain(|_| !is_over.next().unwrap_or_default());
    findings.sort_by_key(order);
}

/// One finding a control: the surest one stays, and of two that are equally sure the first, which is the declared one, unless
/// that is excepted and the other counts.
fn unite<'p>(findings: &mut Vec<ControlResult<'p>>, new: ControlResult<'p>) {
    match findings.iter_mut().find(|old| old.control.id == new.control.id) {
        Some(old) if old.finding.certainty < new.finding.certainty => *old = new,
        Some(old)
            if old.finding.certainty == new.finding.certainty
                && old.effect != new.effect
                && new.effect == Effect::Counts =>
        {
            *old = new;
        }
        Some(_) => {}
        None => findings.push(new),
    }
}

impl<'p> Evaluation<'p> {
    /// What privileged demands come to: they ask for nothing.
    #[must_use]
    pub fn of_nothing(demands: Vec<RequiredLevel<'p>>) -> Self {
        Self { demands: demands.into_iter().map(|demand| (demand, false)).collect(), findings: Vec::new() }
    }

    /// The demand that speaks for all: the strictest of those that said no, else the strictest.
    #[must_use]
    pub fn demand(&self) -> Option<&RequiredLevel<'p>> {
        let by_level = |(demand, no): &&(RequiredLevel<'_>, bool)| (*no, demand.level);
        self.demands.iter().max_by_key(by_level).map(|(demand, _)| demand)
    }

    /// Everything that was asked.
    pub fn all_demands(&self) -> impl Iterator<Item = &RequiredLevel<'p>> {
        self.demands.iter().map(|(demand, _)| demand)
    }

    /// The demands that said no, or all if none did.
    pub fn asked(&self) -> impl Iterator<Item = &RequiredLevel<'p>> {
        let any = self.demands.iter().any(|(_, no)| *no);
        self.demands.iter().filter(move |(_, no)| *no || !any).map(|(demand, _)| demand)
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::fs;
    use std::path::Path;

    use super::{ControlResult, Declared, Effect, Evaluation, Reading, Rules, Verdict, ask_alike, unite};
    use crate::level::date::Date;
    use crate::level::policy::Named;
    use crate::level::{
        Labels, Levels, NamespaceLabels, PodAttributes, Policy, RequiredLevel, Resolution, policy, resolve,
    };
    use pss::capabilities::CapabilitySet;
    use pss::controls::CONTROLS;
    use pss::facts::{
        AppArmor, Facts, HostNamespaces, Known, ProcMasks, Seccomp, Subject, UserNamespace, Volume,
    };
    use pss::pod::{PodSpec, Profile};
    use pss::testing::{make_privileged, pod_with, with};
    use pss::{Certainty, Level, Scope, Version};

    #[test]
    fn what_is_asked_again_gets_the_answer_that_it_would_get_alone() {
        let (mut alike, mut other) = (0, 0);
        for audit in ["restricted", "baseline", "privileged"] {
            for warn in ["restricted", "baseline"] {
                for suspect in ["audit", "deny"] {
                    let text = format!(
                        "on-suspect = '{suspect}'\n[defaults]\nenforce = 'restricted'\naudit = '{audit}'\nwarn = '{warn}'"
                    );
                    let policy = policy::parse(&text, "policy.toml").unwrap();
                    let rules = rules(&policy);
                    let whose = PodAttributes {
                        namespace: Some("shop"),
                        runtime_handler: None,
                        annotations: Labels::default(),
                    };
                    let Resolution::Levels(Levels { enforce, audit, warn }) =
                        resolve(&policy, &whose, &NamespaceLabels::NoFolder)
                    else {
                        panic!("no levels")
                    };
                    let facts = with(|facts| facts.no_new_privileges = false);
                    let enforced = rules.assess(&enforce, &facts, None);
                    assert!(!enforced.findings.is_empty());
                    for demands in [&enforce, &audit, &warn] {
                        let again = rules.assess_again(&enforced, demands, &facts, None);
                        let alone = rules.assess(demands, &facts, None);
                        assert_eq!(format!("{again:?}"), format!("{alone:?}"));
                        *(if ask_alike(demands, &enforce) { &mut alike } else { &mut other }) += 1;
                    }
                }
            }
        }
        assert!(alike > 12 && other > 6, "{alike} were asked alike, {other} were not");
    }

    /// One change each.
    const OF_FACTS: &[fn(&mut Facts<'static>)] = &[
        |f| f.uid = 0,
        |f| f.no_new_privileges = false,
        |f| f.root_read_only = false,
        |f| f.capabilities = CapabilitySet::of(&["CHOWN"]),
        |f| f.capabilities = CapabilitySet::of(&["NET_RAW"]),
        |f| f.capabilities = CapabilitySet::of(&["SYS_ADMIN"]),
        make_privileged,
        |f| f.injected = vec![(Some("/usr/lib/plugin"), "/opt/plugin".into())],
        |f| f.host_namespaces = Known::Seen(HostNamespaces { network: true, ..HostNamespaces::default() }),
        |f| f.host_namespaces = Known::Unseen("no /proc"),
        |f| f.proc_masks = ProcMasks::UNMASKED,
        |f| f.sysctls = Known::Seen(vec!["vm.swappiness".into()]),
        |f| f.seccomp = Seccomp::Absent,
        |f| f.seccomp = Seccomp::AllowsAll,
        |f| f.apparmor = AppArmor::Profile("unconfined"),
        |f| f.volumes.push(Volume::HostPath { destination: "/mnt", source: "/etc".into(), name: None }),
        |f| f.volumes.push(Volume::Unclear { destination: "/x", why: "gone" }),
        |f| f.volumes.push(Volume::Plugin { name: "n", plugin: "nfs" }),
        |f| f.subject = Subject::Sandbox,
    ];
    const OF_PODS: &[fn(&mut PodSpec)] = &[
        |pod| pod.host_network = true,
        |pod| pod.containers[0].security_context.privileged = true,
        |pod| pod.containers[1].security_context.privileged = true,
        |pod| pod.containers[0].security_context.run_as_user = Some(0),
        |pod| pod.containers[1].security_context.capabilities.add = vec!["SYS_ADMIN".into()],
        |pod| pod.containers[1].security_context.capabilities.drop.clear(),
        |pod| pod.containers[0].security_context.capabilities.add = vec!["CHOWN".into()],
        |pod| pod.containers[0].security_context.proc_mount = Some("Unmasked".into()),
        |pod| pod.containers[1].security_context.proc_mount = Some("Unmasked".into()),
        |pod| {
            pod.containers[1].security_context.seccomp_profile = Some(Profile { kind: "Unconfined".into() });
        },
        |pod| pod.security_context.seccomp_profile = None,
        |pod| pod.security_context.run_as_non_root = None,
        |pod| pod.volumes[0].sources = vec!["hostPath".into()],
        |pod| pod.volumes[1].sources = vec!["nfs".into()],
    ];

    /// Whatever the policy, the pod and the container: several demands are refused if one of them alone is, and by the same word
    /// for each. Uniting their findings, and asking again, loosens nothing.
    #[test]
    fn several_demands_refuse_what_one_of_them_refuses() {
        let mut seed = 1_u64;
        let mut below = |end: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(seed >> 33).unwrap() % end
        };
        let (mut denied, mut allowed, mut settled, mut excepted, mut answered) = (0, 0, 0, 0, 0);
        for _ in 0..if cfg!(miri) { 10 } else { 2000 } {
            let mut text = String::new();
            for setting in ["readOnlyRootFilesystem", "injectedMounts"] {
                let _ = writeln!(text, "{setting} = '{}'", ["enforce", "audit", "off"][below(3)]);
            }
            text = format!("on-suspect = '{}'\n[controls]\n{text}", ["audit", "deny"][below(2)]);
            for _ in 0..below(4) {
                let controls: Vec<_> = (0..=below(4)).map(|_| CONTROLS[below(CONTROLS.len())].id).collect();
                let who = [
                    "",
                    "container = 'app'\n",
                    "container = 'sidecar'\n",
                    "owner = 'web'\n",
                    "owner = 'other'\n",
                ];
                let _ = writeln!(
                    text,
                    "[[exceptions]]\nnamespace = 'shop'\n{}controls = {controls:?}\nreason = 'r'\nexpires = {}",
                    who[below(who.len())],
                    ["2025-12-31", "2026-06-30"][below(2)],
                );
            }
            let policy = policy::parse(&text, "policy.toml").unwrap();
            let rules = rules_for(&policy, APP);
            let demands: Vec<_> = (0..=below(3))
                .map(|_| {
                    let level =
                        [Level::Privileged, Level::Baseline, Level::Restricted, Level::Restricted][below(4)];
                    let version = [Version::Latest, Version::Minor([0, 18, 21, 24, 34][below(5)])][below(2)];
                    RequiredLevel::argument(level, version)
                })
                .collect();
            let mut pick = |most: usize, of: usize| (0..below(most)).map(|_| below(of)).collect::<Vec<_>>();
            let (of_facts, of_pods) = (pick(4, OF_FACTS.len()), pick(4, OF_PODS.len()));
            let facts = with(|facts| of_facts.iter().for_each(|nth| OF_FACTS[*nth](facts)));
            let pod = pod_with(|pod| of_pods.iter().for_each(|nth| OF_PODS[*nth](pod)));
            let declared = Declared { pod: &pod, has_container: below(4) > 0, settles: below(2) > 0 };
            let declared = (below(3) > 0).then_some(declared);
            let said = format!("{text}\n{demands:?}\n{of_facts:?} {of_pods:?} {declared:?}");

            let all = rules.assess(&demands, &facts, declared);
            let noes = demands.iter().map(|demand| {
                let alone = rules.assess(std::slice::from_ref(demand), &facts, declared);
                let is_no = rules.denying(&alone).next().is_some();
                assert_eq!(alone.demands[0].1, is_no, "{demand:?} of {said}");
                settled += alone.findings.len();
                for result in rules.excepted(&alone) {
                    let is_told = all.findings.iter().any(|told| told.control.id == result.control.id);
                    assert!(is_told, "{} of {demand:?} of {said}", result.control.id);
                }
                is_no
            });
            let noes: Vec<bool> = noes.collect();
            let answers: Vec<bool> = all.demands.iter().map(|(_, no)| *no).collect();
            assert_eq!(answers, noes, "{said}");
            let is_no = rules.denying(&all).next().is_some();
            assert_eq!(is_no, noes.contains(&true), "{said}");
            let again = rules.assess_again(&all, &demands, &facts, declared);
            assert_eq!(format!("{again:?}"), format!("{all:?}"), "{said}");

            // One finding a control, in admission's order, and behind them what only the node knows.
            let places: Vec<_> = all
                .findings
                .iter()
                .map(|result| {
                    let place = CONTROLS.iter().position(|control| control.id == result.control.id).unwrap();
                    (result.reading == Reading::NodeOnly, place)
                })
                .collect();
            assert!(places.is_sorted_by(|one, other| one < other), "{places:?} of {said}");

            // Either reading denies; the declared one settles what the node cannot prove, and that of a static pod nothing.
            let observed = rules.assess(&demands, &facts, None);
            let mut stays = rules
                .denying(&observed)
                .filter(|result| result.is_violation() || declared.is_none_or(|declared| !declared.settles));
            assert!(is_no || stays.next().is_none(), "the declaration cleared it: {said}");
            if let Some(Declared { pod, has_container, settles }) = declared {
                let (alone, _) = rules.evaluate_declared(&demands, pod, |_| None);
                assert!(is_no || rules.denying(&alone).next().is_none(), "the node cleared it: {said}");
                for result in all.findings.iter().filter(|result| !result.is_violation()) {
                    let (control, of_pod) = (result.control, result.control.scope == Scope::Pod);
                    let is_settled = settles && (has_container || of_pod) && !control.declared.is_empty();
                    assert!(!is_settled || facts.beyond_declaration(control), "{}: {said}", control.id);
                }
                answered += usize::from(settles && observed.findings.len() > all.findings.len());
            }
            *(if is_no { &mut denied } else { &mut allowed }) += 1;
            settled -= all.findings.len().min(settled);
            excepted += usize::from(rules.excepted(&all).next().is_some());
        }
        assert!(
            cfg!(miri) || denied.min(allowed).min(settled).min(excepted).min(answered) > 50,
            "{denied} {allowed} {settled} {excepted} {answered}"
        );
    }

    fn rules(policy: &Policy) -> Rules<'_> {
        Rules::new(policy, || None, today)
    }

    fn rules_for<'p>(policy: &'p Policy, named: Named<'p>) -> Rules<'p> {
        Rules::new(policy, || Some(named), today)
    }

    fn today() -> Date {
        "2026-01-01".parse().unwrap()
    }

    /// A container of a pod of a workload.
    const APP: Named<'static> =
        Named { namespace: "shop", pod: "web-1", owner: "web", container: Some("app"), image: None };

    fn demand(level: Level) -> RequiredLevel<'static> {
        RequiredLevel::argument(level, Version::Latest)
    }

    #[test]
    fn the_strictest_demand_that_said_no_speaks_for_all() {
        let (baseline, restricted) = (demand(Level::Baseline), demand(Level::Restricted));
        for (answers, speaks, asked) in [
            ([false, false], Level::Restricted, &[Level::Baseline, Level::Restricted][..]),
            ([true, false], Level::Baseline, &[Level::Baseline][..]),
            ([false, true], Level::Restricted, &[Level::Restricted][..]),
            ([true, true], Level::Restricted, &[Level::Baseline, Level::Restricted][..]),
        ] {
            let demands = [baseline.clone(), restricted.clone()].into_iter().zip(answers).collect();
            let evaluation = Evaluation { demands, findings: Vec::new() };
            assert_eq!(evaluation.demand().map(|demand| demand.level), Some(speaks), "{answers:?}");
            assert!(evaluation.asked().map(|demand| demand.level).eq(asked.iter().copied()), "{answers:?}");
            assert_eq!(evaluation.all_demands().count(), 2);
        }
        let nothing = Evaluation::of_nothing(vec![demand(Level::Privileged)]);
        assert!(nothing.findings.is_empty() && nothing.asked().count() == 1);
        assert!(nothing.demands.iter().all(|(_, no)| !no));
    }

    #[test]
    fn of_one_control_the_surest_finding_stays_whichever_demand_comes_first() {
        // uid 0 in users that may be its own: proof before v1.35, and suspect from then on.
        let facts = with(|facts| (facts.uid, facts.user_namespace) = (0, UserNamespace::OwnUnclear));
        let policy = policy::parse("", "policy.toml").unwrap();
        let demand = |minor| RequiredLevel::argument(Level::Restricted, Version::Minor(minor));
        for (demands, expected) in [
            (vec![demand(34), demand(35)], Certainty::Violates),
            (vec![demand(35), demand(34)], Certainty::Violates),
            (vec![demand(35)], Certainty::Suspect),
        ] {
            let found = rules(&policy).assess(&demands, &facts, None).findings;
            let of_user: Vec<_> = found.iter().filter(|result| result.control.id == "runAsNonRoot").collect();
            assert!(
                of_user.len() == 1 && of_user[0].finding.certainty == expected,
                "{demands:?}: {of_user:?}"
            );
        }
    }

    #[test]
    fn a_policy_asks_about_all_controls_or_about_some() {
        let facts = with(|facts| (facts.uid, facts.no_new_privileges) = (0, false));
        let policy = policy::parse("", "policy.toml").unwrap();
        let demands = [demand(Level::Restricted)];
        let only = rules(&policy).only(&["runAsNonRoot", "hostPorts"]);
        let some = only.assess(&demands, &facts, None);
        assert!(some.findings.iter().map(|result| result.control.id).eq(["runAsNonRoot"]), "{some:?}");
        let all = rules(&policy).assess(&demands, &facts, None);
        assert!(all.findings.len() > 2, "{all:?}");
        // What cannot be seen is no news; a violation and a suspicion are.
        for result in &all.findings {
            let is_news = result.finding.certainty != Certainty::Unseen;
            assert_eq!(result.is_worth_telling(), is_news, "{result:?}");
        }
        let text = "[[exceptions]]\nnamespace = 'shop'\ncontrols = ['runAsNonRoot']\nreason = 'r'\nexpires = 2026-06-30";
        let policy = policy::parse(text, "policy.toml").unwrap();
        let named = Named { namespace: "shop", pod: "web-1", owner: "other", container: None, image: None };
        let excepted = rules_for(&policy, named).assess(&demands, &facts, None);
        let result = excepted.findings.iter().find(|result| result.control.id == "runAsNonRoot").unwrap();
        assert!(result.is_violation() && !result.is_worth_telling(), "{result:?}");
    }

    #[test]
    fn an_exception_of_a_workload_counts_once_the_workload_is_known() {
        let text = "[[exceptions]]\nnamespace = 'shop'\nowner = 'web'\ncontrols = ['allowPrivilegeEscalation']\n\
                    reason = 'r'\nexpires = 2026-06-30";
        let policy = policy::parse(text, "policy.toml").unwrap();
        let named = Named { namespace: "shop", pod: "x", owner: "x", container: None, image: None };
        let rules = Rules::new(&policy, || Some(named), || "2026-06-30".parse::<Date>().unwrap());
        let facts = with(|facts| facts.no_new_privileges = false);
        let demands = [demand(Level::Restricted)];
        let denies = |rules: &Rules<'_>| {
            let found = rules.assess(&demands, &facts, None);
            rules.denying(&found).count()
        };
        assert_eq!((denies(&rules), denies(&rules.of_workload("web"))), (1, 0));
    }

    #[test]
    fn every_verdict_has_a_word_and_only_two_are_good() {
        let words = [Verdict::Allow, Verdict::Deny, Verdict::Exempt, Verdict::CannotJudge]
            .map(|verdict| (verdict.name(), verdict.is_good()));
        assert_eq!(words, [("allow", true), ("deny", false), ("exempt", true), ("cannot-judge", false)]);
    }

    #[test]
    fn it_is_pure() {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/decision.rs")).unwrap();
        let (code, _) = text.split_once("#[cfg(test)]\nmod tests").unwrap();
        assert!(code.contains("fn "), "{code}");
        // `std::{` would hide a module from this search.
        for word in [
            "std::{",
            "std::fs",
            "std::env",
            "std::time",
            "std::process",
            "std::net",
            "std::io",
            "std::os",
            "std::thread",
            "nix::",
            "libc::",
            "tracing",
            "println!",
            "static mut",
        ] {
            assert!(!code.contains(word), "it mentions {word}");
        }
    }

    fn ids<'r>(results: impl Iterator<Item = &'r ControlResult<'r>>) -> Vec<&'static str> {
        results.map(|result| result.control.id).collect()
    }

    #[test]
    fn what_is_suspect_denies_only_where_the_policy_says_so() {
        let suspect =
            with(|facts| facts.volumes.push(Volume::Unclear { destination: "/x", why: "it is gone" }));
        for (text, denies) in
            [("", &[][..]), ("on-suspect = 'audit'", &[]), ("on-suspect = 'deny'", &["hostPathVolumes"])]
        {
            let policy = policy::parse(text, "policy.toml").unwrap();
            let rules = rules(&policy);
            let evaluation = rules.assess(&[demand(Level::Baseline)], &suspect, None);
            assert_eq!(ids(rules.denying(&evaluation)), denies, "{text}");
            assert_eq!(evaluation.demands[0].1, !denies.is_empty(), "{text}");
            let violation = rules.assess(&[demand(Level::Baseline)], &with(make_privileged), None);
            assert!(violation.demands[0].1, "{text}");
        }
    }

    #[test]
    fn a_control_stands_in_for_what_a_looser_demand_found_by_those_that_it_overrides() {
        let policy = policy::parse("", "policy.toml").unwrap();
        let rules = rules(&policy);
        let added = with(|facts| facts.capabilities = CapabilitySet::of(&["SYS_ADMIN"]));
        let both = [demand(Level::Baseline), demand(Level::Restricted)];
        let violations = |evaluation: &Evaluation<'_>| ids(rules.denying(evaluation));
        assert_eq!(violations(&rules.assess(&both[..1], &added, None)), ["capabilities_baseline"]);
        assert_eq!(violations(&rules.assess(&both, &added, None)), ["capabilities_restricted"]);
        let host = Volume::HostPath { destination: "/mnt", source: "/etc".into(), name: None };
        let mounted = with(|facts| facts.volumes.push(host));
        assert_eq!(violations(&rules.assess(&both, &mounted, None)), ["restrictedVolumes"]);
    }

    #[test]
    fn an_exception_of_what_a_pod_declares_covers_the_containers_that_it_names() {
        let controls = "controls = ['privileged']\nreason = 'r'\nexpires = 2026-06-30\n";
        let exception = |who: &str| format!("[[exceptions]]\nnamespace = 'shop'\n{who}{controls}");
        let (app, sidecar) = (exception("container = 'app'\n"), exception("container = 'sidecar'\n"));
        let image = exception("image = 'registry.example/sidecar'\n");
        let of_image = |name: &str| (name == "sidecar").then_some("registry.example/sidecar");
        for (policy, privileged, is_denied) in [
            ("", &["sidecar"][..], true),
            (app.as_str(), &["app"], false),
            (&sidecar, &["sidecar"], false),
            (&image, &["sidecar"], false),
            (&sidecar, &["app"], true),
            (&sidecar, &["app", "sidecar"], true),
            (&sidecar, &[], false),
        ] {
            let policy = policy::parse(policy, "policy.toml").unwrap();
            let pod = pod_with(|spec| {
                for container in spec.containers.iter_mut().chain(&mut spec.init_containers) {
                    container.security_context.privileged = privileged.contains(&container.name.as_str());
                }
            });
            assert!(["app", "sidecar"].iter().all(|name| pod.container_names().any(|other| other == *name)));
            let rules = rules_for(&policy, Named { image: Some("registry.example/app"), ..APP });
            let demands = [demand(Level::Baseline)];
            let (evaluation, all) = rules.evaluate_declared(&demands, &pod, of_image);
            let said = format!("{:?} {privileged:?}", policy.exceptions);
            assert_eq!(rules.denying(&evaluation).next().is_some(), is_denied, "{said}");
            assert_eq!(evaluation.demands[0].1, is_denied, "{said}");
            assert_eq!(all[0].is_allowed(), !is_denied, "{said}");
            assert_eq!(
                rules.excepted(&evaluation).next().is_some(),
                !is_denied && !privileged.is_empty(),
                "{said}"
            );
        }
    }

    #[test]
    fn an_exception_from_a_control_does_not_open_the_one_that_it_overrides() {
        let policy = policy::parse(
            "[[exceptions]]\nnamespace = 'shop'\ncontrols = ['capabilities_restricted']\nreason = 'r'\n\
             expires = 2026-06-30",
            "policy.toml",
        )
        .unwrap();
        let rules = rules_for(&policy, APP);
        let pod = |add: &str| {
            pod_with(|spec| spec.containers[0].security_context.capabilities.add = vec![add.into()])
        };
        let demands = [demand(Level::Restricted)];
        for (add, denies) in [("CHOWN", &[][..]), ("SYS_ADMIN", &["capabilities_baseline"])] {
            let pod = pod(add);
            let declared = Some(Declared { pod: &pod, has_container: true, settles: true });
            assert_eq!(ids(rules.denying(&rules.assess(&demands, &with(|_| {}), declared))), denies, "{add}");
            let (evaluation, _) = rules.evaluate_declared(&demands, &pod, |_| None);
            assert_eq!(ids(rules.denying(&evaluation)), denies, "{add}");
            let observed = with(|facts| facts.capabilities = CapabilitySet::of(&[add]));
            assert_eq!(ids(rules.denying(&rules.assess(&demands, &observed, None))), denies, "{add}");
        }
    }

    fn of_privileged(certainty: Certainty, effect: Effect<'_>, reading: Reading) -> ControlResult<'_> {
        let control = CONTROLS.iter().find(|control| control.id == "privileged").unwrap();
        let finding = pss::Finding { certainty, ..pss::Finding::violates("r", "d", "") };
        ControlResult { control, finding, reading, effect }
    }

    #[test]
    fn of_two_findings_of_a_control_the_surer_stays_and_then_the_one_that_counts() {
        let policy = policy::parse(
            "[[exceptions]]\nnamespace = 'shop'\ncontrols = ['privileged']\nreason = 'r'\nexpires = 2026-06-30",
            "policy.toml",
        )
        .unwrap();
        let (counts, reported) = (Effect::Counts, Effect::Reported);
        let excepted = Effect::Excepted(&policy.exceptions[0]);
        let (suspect, violates) = (Certainty::Suspect, Certainty::Violates);
        for (old, new, replaces) in [
            ((suspect, counts), (violates, counts), true),
            ((suspect, counts), (violates, excepted), true),
            ((violates, counts), (suspect, counts), false),
            ((violates, counts), (violates, counts), false),
            ((violates, excepted), (violates, excepted), false),
            ((violates, excepted), (violates, counts), true),
            ((violates, reported), (violates, counts), true),
            ((violates, counts), (violates, excepted), false),
            ((violates, reported), (violates, excepted), false),
            ((violates, excepted), (suspect, counts), false),
        ] {
            let mut findings = vec![of_privileged(old.0, old.1, Reading::Declared)];
            unite(&mut findings, of_privileged(new.0, new.1, Reading::NodeOnly));
            let stays = if replaces { Reading::NodeOnly } else { Reading::Declared };
            assert_eq!(
                findings.iter().map(|one| one.reading).collect::<Vec<_>>(),
                [stays],
                "{old:?} {new:?}"
            );
        }
    }
}
