//! The JSON form of an evaluated container: one object per container and line.
//!
//! It borrows from the container's files while they are in memory; `into_owned` detaches it.

use std::borrow::Cow;

use serde::Serialize;

pub use pss_guard_gate::finding::Finding;

use crate::decision::{Evaluation, Verdict};
use crate::inspect::evaluate::Outcome;
use crate::inspect::identity::Identity;
use crate::message::{head, line};
use pss_guard_core::record::FIELD;

/// One container, or one workload of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Result<'a> {
    /// The workload; not there for a container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<Workload<'a>>,
    /// Whose the container is; not there for a workload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<Container<'a>>,
    /// The level it was held against.
    pub level: &'static str,
    /// And its version.
    pub version: String,
    /// The answer: `allow`, `deny`, `exempt` or `cannot-judge`.
    pub verdict: &'static str,
    /// What set the level, or why nobody can say.
    pub because: String,
    /// What was found.
    pub findings: Vec<Finding<'a>>,
    /// All that has to change in a workload, merged: one document for each container and one for the pod.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fixes: Vec<Fix<'a>>,
    /// What the verdict leaves open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The file.
    pub path: Cow<'a, str>,
    /// Which of the file's documents a workload is in, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document: Option<usize>,
    /// The line at which a workload begins, or at which its file cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
}

/// An object of the API that is a pod, or makes pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Workload<'a> {
    /// Its kind.
    pub kind: Cow<'a, str>,
    /// Its namespace; `null` where the manifest names none.
    pub namespace: Option<Cow<'a, str>>,
    /// Its name.
    pub name: Cow<'a, str>,
}

/// What has to change in one container, or in the pod around its containers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fix<'a> {
    /// The container's name; `null` for the pod.
    pub container: Option<Cow<'a, str>>,
    /// YAML from the root of the pod down to the fields.
    pub yaml: Cow<'a, str>,
}

impl Workload<'_> {
    /// The same, on its own.
    fn into_owned(self) -> Workload<'static> {
        Workload { kind: owned(self.kind), namespace: self.namespace.map(owned), name: owned(self.name) }
    }
}

impl Fix<'_> {
    /// What it changes, in words.
    #[must_use]
    pub fn of(&self) -> String {
        match &self.container {
            Some(name) => format!("container {name:?}"),
            None => "the pod".to_owned(),
        }
    }

    /// The same, on its own.
    fn into_owned(self) -> Fix<'static> {
        Fix { container: self.container.map(owned), yaml: owned(self.yaml) }
    }
}

/// Whose a container is; what is not known is `null`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Container<'a> {
    /// The engine.
    pub engine: Option<&'static str>,
    /// The namespace.
    pub namespace: Option<Cow<'a, str>>,
    /// The pod.
    pub pod: Option<Cow<'a, str>>,
    /// The container's name.
    pub name: Option<Cow<'a, str>>,
    /// Its id.
    pub id: Option<Cow<'a, str>>,
    /// Its image.
    pub image: Option<Cow<'a, str>>,
}

impl<'a> Container<'a> {
    /// Takes what is known of a container.
    #[must_use]
    pub fn of(identity: &Identity<'a>) -> Self {
        let own = |text: Option<&'a str>| text.map(|text| Cow::Borrowed(head(text, FIELD)));
        Self {
            engine: Some(identity.engine.name()),
            namespace: own(identity.namespace),
            pod: own(identity.pod),
            name: own(identity.container),
            id: own(identity.id),
            image: own(identity.image),
        }
    }

    /// The same, on its own.
    #[must_use]
    pub fn into_owned(self) -> Container<'static> {
        let own = |text: Option<Cow<'a, str>>| text.map(owned);
        Container {
            engine: self.engine,
            namespace: own(self.namespace),
            pod: own(self.pod),
            name: own(self.name),
            id: own(self.id),
            image: own(self.image),
        }
    }
}

fn owned(text: Cow<'_, str>) -> Cow<'static, str> {
    Cow::Owned(text.into_owned())
}

/// Of a workload, whose containers do not exist yet.
static NO_CONTAINER: Container<'static> =
    Container { engine: None, namespace: None, pod: None, name: None, id: None, image: None };

impl<'a> Result<'a> {
    /// Whose the container is; all unknown for a workload.
    #[must_use]
    pub fn container(&self) -> &Container<'a> {
        self.container.as_ref().unwrap_or(&NO_CONTAINER)
    }

    /// What it is called: `shop/web-7d4b9/app`, `Deployment shop/web`, or its file.
    #[must_use]
    pub fn name(&self) -> String {
        let joined = |parts: &[Option<&str>]| parts.iter().flatten().copied().collect::<Vec<_>>().join("/");
        if let Some(Workload { kind, namespace, name }) = &self.workload {
            return format!("{kind} {}", joined(&[namespace.as_deref(), Some(name)]));
        }
        let Container { namespace, pod, name, .. } = self.container();
        let name = joined(&[namespace.as_deref(), pod.as_deref(), name.as_deref()]);
        if name.is_empty() { self.path.clone().into_owned() } else { name }
    }

    /// A container that was evaluated.
    #[must_use]
    pub fn evaluated(
        path: &'a str,
        identity: &Identity<'a>,
        assessment: &'a Evaluation<'a>,
        verdict: Verdict,
    ) -> Self {
        let demand = assessment.demand();
        let because: Vec<String> = assessment.asked().map(|demand| demand.because.to_string()).collect();
        Self {
            workload: None,
            container: Some(Container::of(identity)),
            level: demand.map_or("", |demand| demand.level.name()),
            version: demand.map(|demand| demand.version.to_string()).unwrap_or_default(),
            verdict: verdict.name(),
            because: head(&because.join(", "), FIELD).to_owned(),
            findings: assessment.findings.iter().map(Finding::of).collect(),
            fixes: Vec::new(),
            note: None,
            path: Cow::Borrowed(path),
            document: None,
            line: None,
        }
    }

    /// A container that was not: exempt, or nobody can say.
    #[must_use]
    pub fn other(path: &'a str, container: Container<'a>, verdict: Verdict, because: String) -> Self {
        Self {
            workload: None,
            container: Some(container),
            level: "",
            version: String::new(),
            verdict: verdict.name(),
            because,
            findings: Vec::new(),
            fixes: Vec::new(),
            note: None,
            path: Cow::Borrowed(path),
            document: None,
            line: None,
        }
    }

    /// What came of a container, as enforce mode would have it.
    #[must_use]
    pub fn of(
        path: &'a str,
        identity: Option<&'a Identity<'a>>,
        outcome: &'a Outcome<'a>,
    ) -> (Self, Verdict) {
        let container = identity.map(Container::of).unwrap_or_default();
        let other = |verdict, because| (Self::other(path, container, verdict, because), verdict);
        match (outcome, identity) {
            (Outcome::Exempt(exempt), _) => other(Verdict::Exempt, exempt.to_string()),
            (Outcome::UnknownNamespace(name), _) => other(
                Verdict::CannotJudge,
                format!("namespace {name:?} is not known here, and on-unknown-namespace = \"deny\""),
            ),
            (Outcome::MissingFacts(whose, error), _) => {
                let why =
                    error.as_ref().map_or_else(String::new, |error| format!(" that count ({})", line(error)));
                let setting = "on-missing-facts = \"deny\"";
                other(
                    Verdict::CannotJudge,
                    format!("this node has no facts of pod {whose}{why}, and {setting}"),
                )
            }
            (Outcome::Fault(err) | Outcome::Unread(err), _) => other(Verdict::CannotJudge, line(*err)),
            (Outcome::Evaluated { .. }, None) => {
                other(Verdict::CannotJudge, "its container cannot be identified".to_owned())
            }
            (Outcome::Evaluated { rules, enforce, .. }, Some(identity)) => {
                let denied = rules.denying(enforce).next().is_some();
                let verdict = if denied { Verdict::Deny } else { Verdict::Allow };
                (Self::evaluated(path, identity, enforce, verdict), verdict)
            }
        }
    }

    /// The same, on its own.
    #[must_use]
    pub fn into_owned(self) -> Result<'static> {
        Result {
            workload: self.workload.map(Workload::into_owned),
            container: self.container.map(Container::into_owned),
            level: self.level,
            version: self.version,
            verdict: self.verdict,
            because: self.because,
            findings: self.findings.into_iter().map(Finding::into_owned).collect(),
            fixes: self.fixes.into_iter().map(Fix::into_owned).collect(),
            note: self.note,
            path: owned(self.path),
            document: self.document,
            line: self.line,
        }
    }
}
