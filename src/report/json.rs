//! The shape of a judged container in JSON: one object a container, one a line.

use serde::Serialize;

use crate::decision::{Assessment, Effect, Judged, Verdict};
use crate::facts::identity::Identity;

/// One container.
#[derive(Debug, Serialize)]
pub struct Result<'a> {
    /// Whose it is.
    pub container: Container<'a>,
    /// The level it was held against.
    pub level: &'a str,
    /// And its version.
    pub version: String,
    /// The answer.
    pub verdict: &'static str,
    /// What set the level, or why nobody can say.
    pub because: String,
    /// What was found.
    pub findings: Vec<Finding<'a>>,
    /// The file.
    pub path: &'a str,
}

/// Whose a container is; what is not known is `null`.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Container<'a> {
    /// The engine.
    pub engine: Option<&'static str>,
    /// The namespace.
    pub namespace: Option<&'a str>,
    /// The pod.
    pub pod: Option<&'a str>,
    /// The container's name.
    pub name: Option<&'a str>,
    /// Its id.
    pub id: Option<&'a str>,
    /// Its image.
    pub image: Option<&'a str>,
}

/// One finding.
#[derive(Debug, Serialize)]
pub struct Finding<'a> {
    /// The control's id.
    pub control: &'static str,
    /// Who made the rule.
    pub origin: &'static str,
    /// How sure it is.
    pub certainty: &'static str,
    /// The reason.
    pub reason: &'a str,
    /// The detail.
    pub detail: &'a str,
    /// The YAML.
    pub fix: &'a str,
    /// The reason of the exception that covers it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exception: Option<&'a str>,
    /// Present and true if the policy has it reported only (`[controls] … = "audit"`).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub reported: bool,
}

impl<'a> Container<'a> {
    /// Takes what is known of a container.
    #[must_use]
    pub fn of(identity: &Identity<'a>) -> Self {
        Self {
            engine: Some(identity.engine.name()),
            namespace: identity.namespace,
            pod: identity.pod,
            name: identity.container,
            id: identity.id,
            image: identity.image,
        }
    }
}

impl<'a> Finding<'a> {
    /// One finding as it is shown.
    #[must_use]
    pub fn of(judged: &'a Judged<'a>) -> Self {
        Self {
            control: judged.control.id,
            origin: judged.control.origin.name(),
            certainty: judged.finding.certainty.name(),
            reason: &judged.finding.reason,
            detail: &judged.finding.detail,
            fix: &judged.finding.fix,
            exception: match judged.effect {
                Effect::Excepted(exception) => Some(&exception.reason),
                Effect::Counts | Effect::Reported => None,
            },
            reported: judged.effect == Effect::Reported,
        }
    }
}

impl<'a> Result<'a> {
    /// A container that was judged.
    #[must_use]
    pub fn judged(
        path: &'a str,
        identity: &Identity<'a>,
        assessment: &'a Assessment<'a>,
        verdict: Verdict,
    ) -> Self {
        let demand = assessment.demand();
        let because: Vec<String> = assessment.asked().map(|demand| demand.because.to_string()).collect();
        Self {
            container: Container::of(identity),
            level: demand.map_or("", |demand| demand.level.name()),
            version: demand.map(|demand| demand.version.to_string()).unwrap_or_default(),
            verdict: verdict.name(),
            because: because.join(", "),
            findings: assessment.findings.iter().map(Finding::of).collect(),
            path,
        }
    }

    /// A container that was not: exempt, or nobody can say.
    #[must_use]
    pub fn other(path: &'a str, container: Container<'a>, verdict: Verdict, because: String) -> Self {
        Self {
            container,
            level: "",
            version: String::new(),
            verdict: verdict.name(),
            because,
            findings: Vec::new(),
            path,
        }
    }
}
