//! Evaluates the pod of a workload as admission would: at the level of its namespace, by what it declares.

use std::borrow::Cow;

use serde::Deserialize as _;

use super::fields;
use super::lines;
use super::names;
use super::objects::{Object, ObjectError, labels};
use crate::decision::{Rules, Verdict};
use crate::documents::defaults;
use crate::documents::node::{Node, Position, TypeError};
use crate::level::date::Date;
use crate::level::policy::Named;
use crate::level::provenance::Origin;
use crate::level::workload;
use crate::level::{Labels, NamespaceLabels, PodAttributes, Policy, RequiredLevel, Resolution, resolve};
use crate::message::line;
use crate::output::json::{Container, Finding, Fix, Result as Json, Workload};
use crate::pss;
use crate::pss::pod::{Kind, Manifest, Pod};

/// By which settings a workload is evaluated.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// A level that is evaluated instead of every other.
    pub demand: Option<&'a RequiredLevel<'a>>,
    /// What is known of the workload's namespace.
    pub found: &'a NamespaceLabels<'a>,
    /// The namespace that the workload is applied to.
    pub namespace: &'a str,
    /// Its file, for messages.
    pub path: &'a str,
}

/// Why the pod of a workload is not evaluated.
#[derive(Debug, thiserror::Error)]
enum Stop {
    /// The policy exempts it, and why.
    #[error("{0}")]
    Exempt(String),
    #[error("{0}: the API server refuses it")]
    Type(#[from] TypeError),
    #[error("{}", .0.1)]
    Object((Position, ObjectError)),
    #[error("the pod has no containers (spec.containers), and the API server refuses it")]
    NoContainers,
    #[error("namespace {0:?} is not known here, and on-unknown-namespace = \"deny\"")]
    UnknownNamespace(String),
    #[error(
        "no level is known of namespace {0:?}: give --level, a --policy, or the Namespace with its labels beside the \
         workload"
    )]
    NoNamespace(String),
    #[error(
        "namespace {0:?} has no label pod-security.kubernetes.io/enforce, so the cluster's default decides: give --level or \
         a --policy"
    )]
    NoLabel(String),
}

impl Stop {
    fn verdict(&self) -> Verdict {
        if matches!(self, Self::Exempt(_)) { Verdict::Exempt } else { Verdict::CannotJudge }
    }

    /// The line that it is about, unless that is the whole workload.
    fn line(&self) -> Option<usize> {
        match self {
            Self::Type(error) => Some(error.at.line).filter(|line| *line > 0),
            Self::Object((at, _)) => Some(at.line),
            _ => None,
        }
    }
}

/// Evaluates a workload, of which `pod` is the pod's `metadata` and `spec`.
#[must_use]
pub fn evaluate(object: &Object<'_>, pod: &Node, settings: &Settings<'_>) -> (Json<'static>, Verdict) {
    let blank = Json {
        workload: Some(Workload {
            kind: Cow::Borrowed(object.kind),
            namespace: Some(Cow::Borrowed(settings.namespace)),
            name: Cow::Borrowed(object.name),
        }),
        container: None,
        line: Some(object.at.line),
        note: fields::unknown(pod),
        ..Json::other(settings.path, Container::default(), Verdict::Allow, String::new())
    };
    let (declared, annotations) = match read(pod) {
        Ok(read) => read,
        Err(stop) => return stopped(blank, &stop),
    };
    let whose = PodAttributes {
        namespace: Some(settings.namespace),
        runtime_handler: declared.spec.runtime_class_name.as_deref(),
        annotations,
    };
    let demands = match demands(&whose, settings) {
        Ok(demands) => demands,
        Err(stop) => return stopped(blank, &stop),
    };
    let made = names::example(object);
    let named = Named {
        namespace: settings.namespace,
        // Of another name nobody can make an exception.
        pod: names::of_pod(object).unwrap_or_default(),
        owner: workload::of(&made, "", ""),
        // The pod is none of its containers: an exception of one of them is not the pod's.
        container: Some(""),
        image: Some(""),
    };
    let today = Date::of(std::time::SystemTime::now());
    let rules = Rules::new(settings.policy, || Some(named), || today);
    let (evaluation, declared) = rules.evaluate_declared(&demands, &declared, |name| Some(image(pod, name)));
    let denying: Vec<&str> = rules.denying(&evaluation).map(|result| result.control.id).collect();
    let verdict = if denying.is_empty() { Verdict::Allow } else { Verdict::Deny };
    let note = names::of_pod(object).is_none().then(|| {
        let mut exceptions = settings.policy.exceptions.iter().filter(|exception| !exception.expired(today));
        exceptions.find_map(|exception| {
            let pod = exception.pod.as_deref()?;
            let named = Named { pod, container: None, ..named };
            let control = denying.iter().find(|control| exception.covers(&named, control))?;
            Some(format!(
                "the exception of pod {pod:?} from {control} is not applied: the names of the pods are known on the node only; \
                 name the owner instead"
            ))
        })
    });
    let because: Vec<String> = evaluation.asked().map(|demand| demand.because.to_string()).collect();
    let demand = evaluation.demand();
    let findings = evaluation.findings.iter().map(|result| {
        let place = declared.iter().flat_map(|declared| declared.places(result.control)).next();
        let line = lines::of(pod, result.control.id, place.flatten());
        Finding { line: Some(line), ..Finding::of(result) }
    });
    let result = Json {
        level: demand.map_or("", |demand| demand.level.name()),
        version: demand.map(|demand| demand.version.to_string()).unwrap_or_default(),
        verdict: verdict.name(),
        because: because.join(", "),
        findings: findings.collect(),
        fixes: fixes(&declared),
        note: match (note.flatten(), blank.note) {
            (Some(own), Some(unknown)) => Some(format!("{own}; {unknown}")),
            (own, unknown) => own.or(unknown),
        },
        ..blank
    };
    (result.into_owned(), verdict)
}

/// The image that a container names.
fn image<'p>(pod: &'p Node, name: &str) -> &'p str {
    let lists = Kind::ALL.iter().filter_map(|kind| pod.at_path(&["spec", kind.field()])?.items());
    let mut containers = lists.flatten();
    let container = containers.find(|container| container.get("name").and_then(Node::text) == Some(name));
    container.and_then(|container| container.get("image")?.text()).unwrap_or_default()
}

/// The pod as the API server completes it.
fn declared(pod: &Node) -> Result<Pod, TypeError> {
    let mut completed = pod.clone();
    defaults::apply(&mut completed);
    Manifest::deserialize(&completed).map(Into::into)
}

fn stopped(blank: Json<'_>, stop: &Stop) -> (Json<'static>, Verdict) {
    let verdict = stop.verdict();
    let line = stop.line().or(blank.line);
    (Json { verdict: verdict.name(), because: self::line(stop), line, ..blank }.into_owned(), verdict)
}

/// The pod as the API server completes it, and what its annotations ask for.
fn read(pod: &Node) -> Result<(Pod, Labels<'_>), Stop> {
    let read = (declared(pod)?, labels(pod, "annotations").map_err(Stop::Object)?);
    if fields::has_containers(pod) { Ok(read) } else { Err(Stop::NoContainers) }
}

/// The levels to evaluate.
fn demands<'a>(
    whose: &'a PodAttributes<'a>,
    settings: &Settings<'a>,
) -> Result<Vec<RequiredLevel<'a>>, Stop> {
    if let Some(demand) = settings.demand {
        return Ok(vec![demand.clone()]);
    }
    let demands = match resolve(settings.policy, whose, settings.found) {
        Resolution::Levels(levels) => levels.enforce,
        Resolution::Exempt(exempt) => return Err(Stop::Exempt(exempt.to_string())),
        Resolution::UnknownNamespace(name) => return Err(Stop::UnknownNamespace(name.to_owned())),
    };
    // Built-in defaults ask for nothing. That nobody set a level is no all-clear.
    if demands.iter().any(|demand| demand.because.origin() != Origin::BuiltIn) {
        return Ok(demands);
    }
    let namespace = settings.namespace.to_owned();
    Err(match settings.found {
        NamespaceLabels::Labels { .. } => Stop::NoLabel(namespace),
        NamespaceLabels::NoFolder | NamespaceLabels::Missing => Stop::NoNamespace(namespace),
    })
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
