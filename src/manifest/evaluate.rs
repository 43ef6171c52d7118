//! Evaluates the pod of a workload as admission would: against the levels of its namespace, by what it declares.

use std::borrow::Cow;

use serde::Deserialize as _;

use super::defaults;
use super::lines;
use super::node::{Node, TypeError};
use super::objects::Object;
use crate::decision::{Rules, Verdict};

use crate::level::date::Date;
use crate::level::policy::Named;
use crate::level::provenance::Origin;
use crate::level::{Found, Labels, PodAttributes, Policy, RequiredLevel, Resolution, exempt, resolve};
use crate::message::line;
use crate::output::json::{Container, Finding, Fix, Result as Json, Workload};
use crate::pss;
use crate::pss::pod::{Manifest, Pod};

/// By which settings a workload is evaluated.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// A level that holds instead of every other.
    pub demand: Option<&'a RequiredLevel<'a>>,
    /// What is known of the workload's namespace.
    pub found: &'a Found<'a>,
    /// The namespace that the workload is applied to.
    pub namespace: &'a str,
    /// Its file, for messages.
    pub path: &'a str,
}

/// Why the pod of a workload cannot be evaluated.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("{0}: the API server refuses it")]
    Type(#[from] TypeError),
    #[error("namespace {0:?} is not known here, and on-unknown-namespace = \"deny\"")]
    UnknownNamespace(String),
    #[error(
        "no level is known of namespace {0:?}: give --level, a --policy, or the Namespace with its labels beside the \
         workload"
    )]
    NoLevel(String),
}

/// Evaluates a workload, of which `pod` is the pod's `metadata` and `spec`, and hands over the result.
pub fn evaluate<'a>(object: &Object<'a>, pod: &'a Node, settings: &Settings<'a>) -> (Json<'static>, Verdict) {
    let Settings { policy, namespace, found, .. } = *settings;
    let empty = || Json {
        workload: Some(Workload {
            kind: Cow::Borrowed(object.kind),
            namespace: Some(Cow::Borrowed(namespace)),
            name: Cow::Borrowed(object.name),
        }),
        container: None,
        line: Some(object.at.line),
        ..Json::other(settings.path, Container::default(), Verdict::Allow, String::new())
    };
    let other = |verdict: Verdict, because: String, at: usize| {
        let object = Json { verdict: verdict.name(), because, line: Some(at), ..empty() };
        (object.into_owned(), verdict)
    };
    let fault = |fault: &Fault, at| other(Verdict::CannotJudge, line(fault), at);

    let declared = match declared(pod) {
        Ok(declared) => declared,
        Err(error) => {
            let at = error.at.line;
            return fault(&Fault::Type(error), if at > 0 { at } else { object.at.line });
        }
    };
    let whose = PodAttributes {
        namespace: Some(namespace),
        runtime_handler: declared.spec.runtime_class_name.as_deref(),
        annotations: labels(pod.at_path(&["metadata", "annotations"])),
    };
    if settings.demand.is_none()
        && let Some(exempt) = exempt(policy, &whose)
    {
        return other(Verdict::Exempt, exempt.to_string(), object.at.line);
    }
    let demands = match settings.demand {
        Some(demand) => vec![demand.clone()],
        None => match resolve(policy, &whose, found) {
            Resolution::Levels(levels) => levels.enforce,
            Resolution::Exempt(exempt) => return other(Verdict::Exempt, exempt.to_string(), object.at.line),
            Resolution::UnknownNamespace(name) => {
                return fault(&Fault::UnknownNamespace(name.to_owned()), object.at.line);
            }
        },
    };
    // Built-in defaults ask for nothing. That nobody set a level is no all-clear.
    if demands.iter().all(|demand| demand.because.origin() == Origin::BuiltIn) {
        return fault(&Fault::NoLevel(namespace.to_owned()), object.at.line);
    }
    let named =
        || Some(Named { namespace, pod: object.name, owner: object.name, container: None, image: "" });
    let rules = Rules::new(policy, named, || Date::of(std::time::SystemTime::now()));
    let (evaluation, declared) = rules.evaluate_declared(&demands, &declared);
    let denied = rules.denying(&evaluation).next().is_some();
    let verdict = if denied { Verdict::Deny } else { Verdict::Allow };
    let because: Vec<String> = evaluation.asked().map(|demand| demand.because.to_string()).collect();
    let demand = evaluation.demand();
    let findings = evaluation.findings.iter().map(|result| {
        let place = declared.iter().flat_map(|declared| declared.places(result.control)).next();
        let at = lines::of(pod, result.control.id, place.flatten());
        Finding { line: Some(at), ..Finding::of(result) }
    });
    let result = Json {
        level: demand.map_or("", |demand| demand.level.name()),
        version: demand.map(|demand| demand.version.to_string()).unwrap_or_default(),
        verdict: verdict.name(),
        because: because.join(", "),
        findings: findings.collect(),
        fixes: fixes(&declared),
        ..empty()
    };
    (result.into_owned(), verdict)
}

/// The pod, with the defaults of the API server.
pub fn declared(pod: &Node) -> Result<Pod, TypeError> {
    let mut pod = pod.clone();
    if let Some(spec) = pod.get_mut("spec") {
        defaults::apply(spec);
    }
    Manifest::deserialize(&pod).map(Into::into)
}

/// All that has to change, by the demand that asks for most.
fn fixes<'p>(declared: &[pss::Evaluation<'p>]) -> Vec<Fix<'p>> {
    let most = declared.iter().max_by_key(|evaluation| evaluation.found.len());
    let fix = |fix: pss::declared::Fix<'p>| Fix {
        container: fix.container.map(|(_, name)| Cow::Borrowed(name)),
        yaml: Cow::Owned(fix.yaml),
    };
    most.into_iter().flat_map(pss::Evaluation::fixes).map(fix).collect()
}

/// PSA's keys among labels or annotations.
#[must_use]
pub fn labels(node: Option<&Node>) -> Labels<'_> {
    let mut labels = Labels::default();
    for key in Labels::KEYS {
        if let Some(value) = node.and_then(|node| node.get(key)).and_then(Node::text) {
            labels.set(key, Cow::Borrowed(value));
        }
    }
    labels
}
