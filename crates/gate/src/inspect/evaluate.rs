//! Evaluates one config.json: the one path that the hook, the wrapper, `check` and `scan` share. (`check` of manifests is
//! the tool's own: a manifest has no node.)
//!
//! ```text
//! config.json ── identity ──┬─ policy, namespace, annotations ─► levels ─┐
//!      │                    └─ pods/UID.json ─► what the pod declares ───┤
//!      └── sandbox's config.json ── host ─► facts: what a node observes ─┴─► findings
//! ```
//!
//! Everything borrows from the bytes of the files, so the outcome is handed to a function instead of returned.

use std::borrow::Cow;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::inspect::checkpoint::Restore;
use crate::inspect::host::Host;
use crate::inspect::identity::{Identity, identify, identify_sandbox};
use crate::inspect::sandboxes::Sandboxes;
use crate::inspect::spec::{Annotations, Process, Spec};
use crate::inspect::{self, NodeSettings, SandboxFile, Sources};
use pss::Level;
use pss::facts::{Engine, Subject};
use pss::pod::Pod;
use pss_guard_core::decision::{Declared, Evaluation, Rules};
use pss_guard_core::files::{self, FileError};
use pss_guard_core::level::date::Date;
use pss_guard_core::level::policy::{AppArmor, Named, OnMissingFacts};
use pss_guard_core::level::{
    Exempt, Labels, Levels, NamespaceLabels, PodAttributes, Policy, RequiredLevel, Resolution, ask_alike,
    exempt, namespaces, resolve, workload,
};
use pss_guard_core::pods::{self, PodsError, Source, Whose};

/// What to evaluate, and by which settings.
pub struct Request<'a> {
    /// The policy; without a usable one every container is a fault.
    pub policy: Result<&'a Policy, &'a (dyn Error + 'static)>,
    /// The node.
    pub host: &'a Host,
    /// config.json and its bytes, or why it cannot be read.
    pub config: &'a Result<(PathBuf, Vec<u8>), FileError>,
    /// A process that is to join the container, evaluated in place of the container's own.
    pub exec: Option<&'a Exec<'a>>,
    /// The checkpoint that the container is restored from, evaluated together with config.json.
    pub restore: Option<&'a Restore<'a>>,
    /// The engine, as the installer told.
    pub engine: Option<Engine>,
    /// The container's id, as the runtime told.
    pub id: Option<&'a str>,
    /// The container's first process, as the runtime told.
    pub pid: Option<i32>,
    /// The engine's name for the pod's runtime class, as the installer told.
    pub runtime_handler: Option<&'a str>,
    /// Whether the sandbox of this container has been held against the same policy: denials for missing knowledge are
    /// made there.
    pub sees_sandboxes: bool,
    /// Where the namespaces' levels are; nowhere for a container that is not of this node.
    pub namespaces: Option<&'a Path>,
    /// Where facts of the container's pod come from.
    pub pods: Pods<'a>,
    /// A level that holds instead of every other.
    pub demand: Option<RequiredLevel<'a>>,
    /// Sandboxes that are known from other containers of this node, for a caller that evaluates many.
    pub sandboxes: Option<&'a Sandboxes>,
}

/// Where facts of a container's pod come from.
#[derive(Clone, Copy, Debug)]
pub enum Pods<'a> {
    /// Nowhere.
    Nowhere,
    /// Below this folder, where the agent puts them.
    Folder(&'a Path),
    /// The caller has the pod, and its workload where that is known ([`PodFacts::workload`](pods::PodFacts::workload)).
    Given(&'a Pod, Option<&'a str>),
}

impl<'a> Pods<'a> {
    /// Beside the folder of namespaces, where the agent puts all that it knows.
    #[must_use]
    pub fn beside(namespaces: &'a Path) -> Self {
        namespaces.parent().map_or(Self::Nowhere, Self::Folder)
    }
}

/// What a process has beyond that of the container which it is to join.
#[derive(Debug)]
pub struct Exec<'a> {
    /// The process, as far as it exceeds the container's own.
    pub process: Process<'a>,
    /// The controls that speak of what it exceeds. All others are the container's own affair.
    pub controls: Vec<&'static str>,
}

/// What came of it.
// It is handed on once, and kept nowhere.
#[allow(clippy::large_enum_variant)]
pub enum Outcome<'a> {
    /// The policy exempts it.
    Exempt(Exempt<'a>),
    /// Its namespace is unknown on this node, and the policy denies that.
    UnknownNamespace(&'a str),
    /// This node has facts of pods, and none of this one that count; the policy denies that. With why, where there are
    /// some.
    MissingFacts(Whose<'a>, Option<PodsError>),
    /// Evaluated at its levels.
    Evaluated {
        /// The settings that counted.
        rules: Rules<'a>,
        /// Against the enforce level.
        enforce: Evaluation<'a>,
        /// Against the audit level.
        audit: Evaluation<'a>,
        /// Against the warn level, where that differs from the audit level.
        warn: Option<Evaluation<'a>>,
        /// Why facts of the pod that are there do not count.
        facts_fault: Option<PodsError>,
    },
    /// A fault: something that the evaluation needs could not be read.
    Fault(&'a (dyn Error + 'static)),
    /// The same, but the level that is enforced asks for nothing: it is said, and stops nothing.
    Unread(&'a (dyn Error + 'static)),
}

/// Evaluates one container. `then` gets its identity, as far as it could be determined, and the outcome.
pub fn evaluate<R>(request: &Request<'_>, then: impl FnOnce(Option<&Identity<'_>>, Outcome<'_>) -> R) -> R {
    let (path, bytes) = match request.config {
        Ok((path, bytes)) => (path, bytes),
        Err(err) => return then(None, Outcome::Fault(err)),
    };
    let mut spec = match inspect::parse(path, bytes) {
        Ok(spec) => spec,
        Err(err) => return then(None, Outcome::Fault(&err)),
    };
    if let Err(err) = inspect::of_linux(&spec, path) {
        return then(None, Outcome::Fault(&err));
    }
    if let Some(exec) = request.exec {
        spec.process = Some(exec.process.clone());
    }
    evaluate_spec(request, path, &spec, then)
}

/// The same for a spec that is parsed already, which its caller has other questions about.
// One way from top to bottom; every step borrows from the one before.
#[allow(clippy::too_many_lines)]
pub fn evaluate_spec<R>(
    request: &Request<'_>,
    path: &Path,
    spec: &Spec<'_>,
    then: impl FnOnce(Option<&Identity<'_>>, Outcome<'_>) -> R,
) -> R {
    let bundle = path.parent();
    let identity = match identify(spec, request.engine, bundle, request.id) {
        Ok(identity) => identity,
        Err(err) => return then(None, Outcome::Fault(&err)),
    };
    trace!(?identity, "identified");
    let policy = match request.policy {
        Ok(policy) => policy,
        Err(err) => return then(Some(&identity), Outcome::Fault(err)),
    };

    let whose = whose(request, &identity, spec);
    // Before anything else is read: what is exempt must start whatever state the node is in.
    if request.demand.is_none()
        && let Some(exempt) = exempt(policy, &whose)
    {
        return then(Some(&identity), Outcome::Exempt(exempt));
    }
    // At every level: it is about the gate itself. A process that joins the container comes by no hook.
    if request.exec.is_none()
        && let Err(err) = inspect::keeps_our_output(spec)
    {
        return then(Some(&identity), Outcome::Fault(&err));
    }
    let found = match found(request, &identity) {
        // Its sandbox started while this was known, or not asked; what is missing since is no reason to refuse it.
        Ok(NamespaceLabels::Missing) if request.sees_sandboxes && identity.subject == Subject::Container => {
            NamespaceLabels::NoFolder
        }
        Ok(found) => found,
        Err(err) => return then(Some(&identity), Outcome::Fault(&err)),
    };
    let levels = match &request.demand {
        Some(demand) => Levels { enforce: vec![demand.clone()], audit: Vec::new(), warn: Vec::new() },
        None => match resolve(policy, &whose, &found) {
            Resolution::Levels(levels) => levels,
            Resolution::Exempt(exempt) => return then(Some(&identity), Outcome::Exempt(exempt)),
            Resolution::UnknownNamespace(name) => {
                return then(Some(&identity), Outcome::UnknownNamespace(name));
            }
        },
    };
    trace!(?levels, "resolved");

    // On CRI-O a checkpoint brings annotations of its own, the image's name among them (`container_restore.go`).
    let image = identity.image.filter(|_| request.restore.is_none());
    let named = || named(&Identity { image, ..identity });
    let rules = Rules::new(policy, named, || Date::of(SystemTime::now()));
    let rules = request.exec.map_or(rules, |exec| rules.only(&exec.controls));
    if all_privileged(&levels) {
        let enforce = Evaluation::of_nothing(levels.enforce);
        let audit = Evaluation::of_nothing(levels.audit);
        let nothing = Outcome::Evaluated { rules, enforce, audit, warn: None, facts_fault: None };
        return then(Some(&identity), nothing);
    }

    let restored = match restored(request, identity.engine) {
        Ok(restored) => restored,
        Err(err) if levels.enforce.iter().all(|demand| demand.level == Level::Privileged) => {
            return then(Some(&identity), Outcome::Unread(&*err));
        }
        Err(err) => return then(Some(&identity), Outcome::Fault(&*err)),
    };
    let spec = restored.as_ref().unwrap_or(spec);

    let sandbox = match inspect::read_sandbox(&identity, path, request.host, request.sandboxes) {
        Ok(sandbox) => sandbox,
        Err(err) => return then(Some(&identity), Outcome::Fault(&err)),
    };
    if sandbox.is_none()
        && request.pid.is_some()
        && let Err(err) = inspect::require_sandbox(&identity)
    {
        return then(Some(&identity), Outcome::Fault(&err));
    }
    let read = match &sandbox {
        Some((path, SandboxFile::Read(metadata, bytes))) => match inspect::parse(path, bytes) {
            Ok(spec) => {
                request.sandboxes.inspect(|known| known.keep(metadata, &spec));
                Some(spec)
            }
            Err(err) => return then(Some(&identity), Outcome::Fault(&err)),
        },
        _ => None,
    };
    let sandbox_spec: Option<&Spec<'_>> = match &sandbox {
        Some((_, SandboxFile::Known(spec))) => Some(spec),
        _ => read.as_ref(),
    };
    if let (Some(sandbox), Some((path, _))) = (sandbox_spec, &sandbox) {
        let same = identify_sandbox(sandbox, identity.engine)
            .map_err(Into::into)
            .and_then(|theirs| inspect::same_pod(&identity, &theirs, path));
        if let Err(err) = same {
            return then(Some(&identity), Outcome::Fault(&err));
        }
        trace!(path = %path.display(), "sandbox");
    }
    let observed = match request.host {
        Host::Observed(observed) => Some(observed),
        Host::Live | Host::Beside(_) | Host::Unknown => None,
    };
    let node = &policy.node;
    let sources = Sources {
        spec,
        sandbox: sandbox_spec,
        identity: &identity,
        host: request.host,
        node: NodeSettings {
            kubelet_root: observed.map_or_else(|| node.kubelet_root(), |observed| &observed.kubelet_root),
            seccomp_default: observed.map_or(node.seccomp_default, |observed| observed.seccomp_default),
            default_capabilities: &node.default_capabilities,
            default_sysctls: &node.default_sysctls,
            not_host_paths: &node.not_host_paths,
            apparmor: node.apparmor != AppArmor::Off,
        },
        bundle: bundle.and_then(Path::to_str),
        pid: request.pid,
    };
    let mut facts = match inspect::gather(&sources, path) {
        Ok(facts) => facts,
        Err(err) => return then(Some(&identity), Outcome::Fault(&err)),
    };
    trace!(?facts, "gathered");
    let whose = whose_facts(request, &identity, sources.pod_uid());
    let (read, facts_fault) = match whose.map(|(folder, whose)| pods::read(folder, whose)).transpose() {
        Ok(found) => (found, None),
        Err(error) => (None, Some(error)),
    };
    // As with namespaces: a container of a sandbox that started is not refused for it. The kubelet's own pods, on which the
    // node may depend, come without an agent. Facts that do not count are as if missing.
    if policy.on_missing_facts == OnMissingFacts::Deny
        && (facts_fault.is_some() || matches!(read, Some(pods::Found::Missing)))
        && (identity.subject == Subject::Sandbox || !request.sees_sandboxes)
        && let Some((_, whose)) = whose.filter(|(_, whose)| !workload::is_static(whose.uid))
    {
        return then(Some(&identity), Outcome::MissingFacts(whose, facts_fault));
    }
    let read = match read {
        Some(pods::Found::Facts(facts)) => Some(facts),
        Some(pods::Found::NoFolder | pods::Found::Missing) | None => None,
    };
    // Facts have the controller; the name only looks like one's.
    let owner = match (&read, request.pods) {
        (Some(read), _) => read.0.workload(),
        (None, Pods::Given(_, owner)) => owner,
        (None, Pods::Nowhere | Pods::Folder(_)) => None,
    };
    let rules = owner.map_or(rules, |owner| rules.of_workload(owner));
    let pod = match (&read, request.pods) {
        (Some(read), _) => Some((&read.1, read.0.source == Source::Api)),
        (None, Pods::Given(pod, _)) => Some((pod, true)),
        (None, Pods::Nowhere | Pods::Folder(_)) => None,
    };
    let declared = pod.map(|(pod, settles)| {
        let container = identity.container.and_then(|name| pod.container(name));
        if let Some(container) = container.filter(|_| settles) {
            facts.explain_mounts(pod, container);
        }
        // What a checkpoint restores is not what the pod declares.
        let has_container = container.is_some() && request.restore.is_none();
        Declared { pod, has_container, settles }
    });

    let enforce = rules.assess(&levels.enforce, &facts, declared);
    let audit = rules.assess_again(&enforce, &levels.audit, &facts, declared);
    let differs = !ask_alike(&levels.warn, &levels.audit);
    let warn = differs.then(|| rules.assess_again(&enforce, &levels.warn, &facts, declared));
    then(Some(&identity), Outcome::Evaluated { rules, enforce, audit, warn, facts_fault })
}

/// Whose facts are looked for, and below which folder. A process that joins the container is no part of them.
fn whose_facts<'i>(
    request: &Request<'i>,
    identity: &Identity<'i>,
    uid: Option<&'i str>,
) -> Option<(&'i Path, Whose<'i>)> {
    let (Pods::Folder(folder), None) = (request.pods, request.exec) else { return None };
    Some((folder, Whose { uid: uid?, namespace: identity.namespace?, name: identity.pod? }))
}

/// What exceptions know a container by.
fn named<'a>(identity: &Identity<'a>) -> Option<Named<'a>> {
    let (pod, uid) = (identity.pod.unwrap_or_default(), identity.pod_uid.unwrap_or_default());
    let node = if workload::is_static(uid) { node_name() } else { String::new() };
    Some(Named {
        namespace: identity.namespace?,
        pod,
        owner: workload::of(pod, uid, &node),
        container: (identity.subject == Subject::Container).then_some(identity.container.unwrap_or_default()),
        image: Some(identity.image.unwrap_or_default()),
    })
}

/// The name of this node, as the kubelet takes it where nobody gives it another (`--hostname-override`).
fn node_name() -> String {
    let name = files::read_proc(Path::new("/proc/sys/kernel/hostname")).unwrap_or_default();
    String::from_utf8_lossy(&name).trim().to_owned()
}

/// Whether nothing is asked of a container, whatever it is: it is exempt, or its levels are all privileged.
#[must_use]
pub fn asks_nothing(request: &Request<'_>, path: &Path, spec: &Spec<'_>) -> bool {
    let Ok(policy) = request.policy else { return false };
    let Ok(identity) = identify(spec, request.engine, path.parent(), request.id) else { return false };
    let whose = whose(request, &identity, spec);
    let Ok(found) = found(request, &identity) else { return exempt(policy, &whose).is_some() };
    match resolve(policy, &whose, &found) {
        Resolution::Exempt(_) => true,
        Resolution::Levels(levels) => all_privileged(&levels),
        Resolution::UnknownNamespace(_) => false,
    }
}

fn whose<'a>(request: &Request<'a>, identity: &Identity<'a>, spec: &'a Spec<'_>) -> PodAttributes<'a> {
    PodAttributes {
        namespace: identity.namespace,
        runtime_handler: request.runtime_handler,
        annotations: spec.annotations.as_ref().map(labels).unwrap_or_default(),
    }
}

/// The spec as it would be once it is restored, if it is to be restored. Not before: a checkpoint that no level asks for
/// is the runtime's alone.
fn restored<'a>(request: &Request<'a>, engine: Engine) -> Result<Option<Spec<'a>>, Box<dyn Error>> {
    let (Some(restore), Ok((path, bytes))) = (request.restore, request.config) else { return Ok(None) };
    let mut spec = inspect::parse(path, bytes)?;
    restore.apply(&mut spec, engine)?;
    Ok(Some(spec))
}

/// What is known of the container's namespace, where anything depends on it.
fn found(
    request: &Request<'_>,
    identity: &Identity<'_>,
) -> Result<NamespaceLabels<'static>, namespaces::NamespaceError> {
    match (request.namespaces, identity.namespace) {
        (Some(folder), Some(name)) if request.demand.is_none() => namespaces::read(folder, name),
        _ => Ok(NamespaceLabels::NoFolder),
    }
}

/// The pod's own wishes.
fn labels<'a>(annotations: &'a Annotations<'_>) -> Labels<'a> {
    let mut labels = Labels::default();
    for key in Labels::KEYS {
        if let Some(value) = annotations.get(key) {
            labels.set(key, Cow::Borrowed(value));
        }
    }
    labels
}

fn all_privileged(levels: &Levels<'_>) -> bool {
    let all = levels.enforce.iter().chain(&levels.audit).chain(&levels.warn);
    all.into_iter().all(|demand| demand.level == Level::Privileged)
}
