//! Checks the policy: which one is in force, whether it fits this node, and whether its decisions can be logged.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::agent::{self, AgentStatus};
use super::{Checks, Setting, State, ago};
use crate::cluster::Told;
use crate::files;
use crate::inspect::anchors;
use crate::install::sandboxes::unseen_on;
use crate::level::cache::{self, Usable};
use crate::level::namespaces::{self, NamespaceError};
use crate::level::policy::{Exemptions, Mode, OnMissingFacts, OnUnknownNamespace, Policy, SYSTEM_NAMESPACE};
use crate::level::{Origin, PodAttributes, Resolution, kubelet_root, resolve};
use crate::message::line;
use crate::mode::temporary::State as Temporary;
use crate::mode::{InForce, in_force};
use crate::node::distribution::Distribution;
use crate::node::places;
use crate::paths::{GATE, Paths};
use crate::pods::{self, PODS, PodsError, STATIC, Source, Whose};
use crate::pss::{Level, NEWEST, Version};
use crate::words::{agree, plural};

/// The policy of the node.
#[derive(Debug, Serialize)]
pub struct PolicyStatus {
    /// Its file.
    pub path: PathBuf,
    /// The mode in force.
    pub mode: Mode,
    /// Until when it is in force, where that is known.
    pub mode_until: Option<String>,
    /// The version that `latest` stands for, as `v1.36`.
    pub latest: Option<String>,
    /// The levels of a namespace that says nothing.
    pub defaults: Option<Defaults>,
    /// The namespaces that are not judged.
    pub exempt_namespaces: Vec<String>,
    /// How many namespaces have been imported; `null` where none were.
    pub imported_namespaces: Option<usize>,
    /// Imported namespaces whose own enforce level is below `[agent] floor`, which is evaluated in its place.
    pub namespaces_below_floor: Vec<String>,
    /// Of how many pods of the API there are facts; `null` where nobody brings any.
    pub pods_with_facts: Option<usize>,
    /// The agent that brings both; `null` where none has reported, or its report cannot be read.
    pub agent: Option<AgentStatus>,
    /// The answers.
    pub checks: Checks,
}

/// The three default levels, as `restricted:latest`.
#[derive(Debug, Serialize)]
pub struct Defaults {
    enforce: String,
    audit: String,
    warn: String,
}

/// The policy, and what it exempts.
pub(super) fn ask(setting: &Setting<'_>, distribution: &Distribution) -> (PolicyStatus, Exemptions) {
    let paths = &setting.paths;
    let mut status = PolicyStatus {
        path: paths.policy(),
        mode: Mode::default(),
        mode_until: None,
        latest: None,
        defaults: None,
        exempt_namespaces: Vec::new(),
        imported_namespaces: None,
        namespaces_below_floor: Vec::new(),
        pods_with_facts: None,
        agent: None,
        checks: Checks::default(),
    };
    let checks = &mut status.checks;
    let policy = match cache::load_usable(paths) {
        Ok(Usable { policy, fault: None }) => {
            describe(&status.path, &policy, in_force(paths, policy.mode).mode, checks);
            // An image of a node has started nothing yet.
            if setting.processes.are_seen()
                && let Err(error) = cache::is_kept(paths)
            {
                let (state, how) = if cache::will_be_kept(paths) {
                    (State::Note, "the next container start saves it")
                } else {
                    let how = "no container start saves it, so after a reboot without the policy there would \
                               be none; `pss-guard install` saves it";
                    (State::Wrong, how)
                };
                checks.add(state, "policy", format!("{}; {how}", line(&error)));
            }
            Some(policy)
        }
        Ok(Usable { policy, fault: Some(error) }) => {
            let kept = paths.kept_policy();
            let since = fs::metadata(&kept).and_then(|metadata| metadata.modified());
            let since = since.map(|when| format!(", kept {} ago", ago(when))).unwrap_or_default();
            let (kept, mode) = (kept.display(), policy.mode);
            let says = format!(
                "{}; the last good policy is in force: {kept}{since}, mode {mode}; {}",
                line(&error),
                levels(&policy)
            );
            checks.add(State::Wrong, "policy", says);
            Some(policy)
        }
        Err(error) => {
            let says = format!(
                "{}; there is no last good policy: until it is fixed, enforce mode refuses all but the \
                 exempt namespaces",
                line(&error)
            );
            checks.add(State::Wrong, "policy", says);
            None
        }
    };
    let in_force =
        in_force(paths, policy.as_ref().map_or_else(|| cache::load(paths).mode(), |policy| policy.mode));
    mode(paths, &in_force, checks);
    (status.mode, status.mode_until) = (in_force.mode, in_force.until());
    status.agent = agent::ask(setting, checks);
    if let Some(policy) = &policy {
        let set = &policy.defaults;
        status.defaults = Some(Defaults {
            enforce: set.enforce.to_string(),
            audit: set.audit.to_string(),
            warn: set.warn.to_string(),
        });
        status.latest = Some(format!("v1.{}", policy.latest_minor()));
        let (state, says) = latest(policy, &paths.cluster());
        let hint = match policy.told {
            Told::Nothing if state == State::Note => "; `pss-guard cluster import` imports the cluster's",
            _ => "",
        };
        checks.add(state, "latest", says + hint);
        exemptions(policy, checks);
        if let Some(unseen) = unseen_on(policy, &setting.live) {
            checks.add(State::Wrong, "policy", line(&unseen));
        }
        status.imported_namespaces = imported(&paths.namespaces(), policy, status.agent.as_ref(), checks);
        status.namespaces_below_floor = below_floor(&paths.namespaces(), policy, checks);
        status.pods_with_facts = facts(&paths.told(), policy, status.agent.as_ref(), checks);
        if setting.processes.are_seen() {
            lost(paths, status.agent.as_ref(), checks);
        }
        kubelet(setting, distribution, policy, checks);
        if setting.processes.are_seen() {
            for_the_agent(setting, checks);
        }
        anchor_faults(setting, distribution, policy, checks);
        status.exempt_namespaces.clone_from(&policy.exemptions.namespaces);
    }
    if setting.processes.are_seen() {
        journal(&paths.journal_socket(), &paths.decisions(), &mut status.checks);
    }
    (status, policy.map(|policy| policy.exemptions).unwrap_or_default())
}

/// Can only root write to the directories that pods' mounts rest on?
fn anchor_faults(setting: &Setting<'_>, distribution: &Distribution, policy: &Policy, checks: &mut Checks) {
    if !setting.processes.are_seen() || setting.paths.other_root().is_some() {
        return;
    }
    let of_containerd = places::of_containerd(&setting.processes, distribution);
    // Others than root cannot look into all of them.
    let state = if setting.processes.are_told() { State::Wrong } else { State::Unknown };
    for fault in anchors::faults(Path::new(policy.node.kubelet_root()), &of_containerd) {
        checks.add(state, "anchors", line(&fault));
    }
}

/// What does a policy say that can be used?
fn describe(path: &Path, policy: &Policy, in_force: Mode, checks: &mut Checks) {
    let path = path.display();
    let levels = levels(policy);
    // The built-in defaults are of no file.
    let (state, says) = match (policy.file.is_none(), policy.mode) {
        (true, _) => {
            (State::Note, format!("no {path}: the built-in defaults apply, which stop nothing; {levels}"))
        }
        (false, Mode::Audit) if in_force == Mode::Enforce => {
            (State::Note, format!("{path}, mode audit; {levels}"))
        }
        (false, Mode::Audit) => (State::Note, format!("{path}, mode audit: nothing is stopped; {levels}")),
        (false, Mode::Enforce) => (State::Ok, format!("{path}, mode enforce; {levels}")),
    };
    checks.add(state, "policy", says);
}

fn levels(policy: &Policy) -> String {
    let set = &policy.defaults;
    format!("default levels: enforce {}, audit {}, warn {}", set.enforce, set.audit, set.warn)
}

/// Is something else in force than the policy?
fn mode(paths: &Paths, in_force: &InForce, checks: &mut Checks) {
    match &in_force.temporary {
        Temporary::Holds(temporary) => {
            let state = if in_force.mode == Mode::Audit { State::Note } else { State::Ok };
            checks.add(state, "mode", crate::mode::view::View::of(temporary).sentence(in_force.policy));
        }
        Temporary::Ignored(why) => {
            let says = format!("the policy's; not trusted: {}; `pss-guard mode --end` removes it", line(why));
            checks.add(State::Note, "mode", says);
        }
        Temporary::None | Temporary::Ended(..) => in_force.settle(paths),
    }
}

/// What does `latest` stand for, and what set it? `file` is where the cluster's version would be.
#[must_use]
pub fn latest(policy: &Policy, file: &Path) -> (State, String) {
    let (minor, file) = (policy.latest_minor().min(NEWEST), file.display());
    let newest = format!("v1.{minor}, the newest version known");
    match (policy.cluster.version, &policy.told) {
        (Version::Minor(told), _) if told > NEWEST => {
            let says = format!("{newest}; [cluster] version of the policy is v1.{told}: upgrade pss-guard");
            (State::Note, says)
        }
        (Version::Minor(_), _) => (State::Ok, format!("v1.{minor}, from [cluster] version of the policy")),
        (Version::Latest, Told::Nothing) => (State::Note, newest),
        (Version::Latest, Told::Minor(told)) if *told > minor => {
            (State::Note, format!("{newest}; the cluster is v1.{told} ({file}): upgrade pss-guard"))
        }
        (Version::Latest, Told::Minor(_)) => {
            (State::Ok, format!("v1.{minor}, the cluster's version ({file})"))
        }
        (Version::Latest, Told::Unusable(error)) => {
            (State::Wrong, format!("{newest}; the cluster's does not count: {}", line(&**error)))
        }
    }
}

fn exemptions(policy: &Policy, checks: &mut Checks) {
    let exempt = &policy.exemptions;
    let mut list = exempt.namespaces.join(", ");
    if !exempt.runtime_classes.is_empty() {
        list = format!("{list}, and the runtime classes {}", exempt.runtime_classes.join(", "));
    }
    if !list.is_empty() {
        checks.add(State::Note, "exempt", format!("not evaluated: {list}"));
    }
}

/// Are the cluster's labels known here? Where there is an agent, its contact is the age of that: it writes only what changes.
fn imported(
    folder: &Path,
    policy: &Policy,
    agent: Option<&AgentStatus>,
    checks: &mut Checks,
) -> Option<usize> {
    let shown = folder.display();
    // The way of the gate itself, with any name: it tells whether the folder can be believed.
    if let Err(error @ NamespaceError::File(_)) = namespaces::read(folder, SYSTEM_NAMESPACE) {
        checks.add(State::Wrong, "namespaces", line(&error));
        return None;
    }
    let Some(metadata) = fs::metadata(folder).ok().filter(|_| namespaces::are_known(folder)) else {
        let denies = match policy.on_unknown_namespace {
            OnUnknownNamespace::Deny => {
                ", and on-unknown-namespace = \"deny\" has no effect until there are some"
            }
            OnUnknownNamespace::Defaults => "",
        };
        let says = format!(
            "none in {shown}: levels come from the policy only{denies} (`pss-guard namespaces import` imports the \
             cluster's)"
        );
        checks.add(State::Note, "namespaces", says);
        return None;
    };
    let count = json_in(folder).len();
    // Of any other name no namespace is, and nobody reads the file.
    let names = namespaces::names(folder).unwrap_or_default();
    let is_evaluated = |name: &&String| !policy.exemptions.namespaces.contains(*name);
    let read = |name: &String| namespaces::read(folder, name).err();
    damaged(
        names.iter().filter(is_evaluated).filter_map(read).map(|error| line(&error)),
        checks,
        "namespaces",
        |count| format!("{count} cannot be used: enforce mode refuses what starts there"),
    );
    // The folder's own time: see `namespaces::import`.
    let imported = metadata.modified().ok().filter(|_| agent.is_none());
    let imported = imported.map(|when| format!(", imported {} ago", ago(when))).unwrap_or_default();
    checks.add(State::Ok, "namespaces", format!("{} in {shown}{imported}", plural(count, "namespace")));
    Some(count)
}

/// Are there files among them that cannot be used?
fn damaged(
    mut errors: impl Iterator<Item = String>,
    checks: &mut Checks,
    check: &'static str,
    says: impl Fn(String) -> String,
) {
    if let Some(first) = errors.next() {
        let files = plural(errors.count() + 1, "file");
        checks.add(State::Wrong, check, format!("{}; the first: {first}", says(files)));
    }
}

/// So many namespaces are named.
const NAMED: usize = 5;

/// Does a namespace's file say less than it may? Nothing is looser for that: the floor is evaluated in its place.
fn below_floor(folder: &Path, policy: &Policy, checks: &mut Checks) -> Vec<String> {
    let floor = policy.agent.floor;
    if floor == Level::Privileged {
        return Vec::new();
    }
    let is_below = |name: &String| {
        let whose = PodAttributes { namespace: Some(name), ..PodAttributes::default() };
        // What cannot be read is a fault of its own.
        let Ok(found) = namespaces::read(folder, name) else { return false };
        let Resolution::Levels(levels) = resolve(policy, &whose, &found) else { return false };
        let is_files = |origin| matches!(origin, Origin::File { .. });
        levels.enforce.iter().any(|demand| demand.level < floor && is_files(demand.because.origin()))
    };
    let names = json_in(folder).into_iter();
    let names = names.filter_map(|name| Some(name.to_str()?.strip_suffix(".json")?.to_owned()));
    let below: Vec<String> = names.filter(is_below).collect();
    if !below.is_empty() {
        let more = match below.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let first = below.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
        let says = format!(
            "{} below floor = \"{floor}\" of [agent]: {first}{more}; the floor is enforced there. Compare with the labels in \
             the cluster: if they are the same, raise them, or lower the floor; if not, something else wrote these files",
            plural(below.len(), "imported namespace"),
        );
        checks.add(State::Note, "floor", says);
    }
    below
}

/// Are facts of pods known here?
fn facts(told: &Path, policy: &Policy, agent: Option<&AgentStatus>, checks: &mut Checks) -> Option<usize> {
    let (folder, statics) = (told.join(PODS), told.join(STATIC));
    // The way of the gate itself: it tells whether the folders can be believed.
    for (folder, uid) in [(&folder, "0"), (&statics, "00000000000000000000000000000000")] {
        let whose = Whose { uid, namespace: SYSTEM_NAMESPACE, name: SYSTEM_NAMESPACE };
        if let Err(error @ PodsError::File(_)) = pods::read(told, whose) {
            let says = format!("{}; no facts in {} count", line(&error), folder.display());
            checks.add(State::Wrong, "pods", says);
            return None;
        }
    }
    let of_statics = json_in(&statics);
    let own = of_statics.len();
    let of_api = pods::are_known(told, Source::Api);
    let denies = match policy.on_missing_facts {
        OnMissingFacts::Deny if !of_api => {
            ", and on-missing-facts = \"deny\" has no effect until there are some"
        }
        OnMissingFacts::Deny | OnMissingFacts::Unseen => "",
    };
    let Some(metadata) = fs::metadata(&folder).ok().filter(|_| own > 0 || of_api) else {
        let says = format!(
            "no facts in {}: what a node cannot see of its pods stays unseen{denies} (`pss-guard pods import` imports facts)",
            folder.display()
        );
        checks.add(State::Note, "pods", says);
        return None;
    };
    let names = json_in(&folder);
    let count = names.len();
    let all =
        names.iter().map(|name| folder.join(name)).chain(of_statics.iter().map(|name| statics.join(name)));
    // A pod that ends takes its file with it.
    let read = |file: PathBuf| pods::check(&file).err().filter(|error| !error.is_missing());
    damaged(all.filter_map(read).map(|error| line(&error)), checks, "pods", |count| {
        format!("{count} cannot be used: what only facts tell of these pods stays unseen")
    });
    let imported = metadata.modified().ok().filter(|_| agent.is_none());
    let imported = imported.map(|when| format!(", listed {} ago", ago(when))).unwrap_or_default();
    let own = if own == 0 { String::new() } else { format!(" and {}", plural(own, "static pod")) };
    let says = format!("facts of {}{own} in {}{imported}{denies}", plural(count, "pod"), folder.display());
    checks.add(State::Ok, "pods", says);
    Some(count)
}

/// Can the agent rely on what the gate leaves for it?
fn for_the_agent(setting: &Setting<'_>, checks: &mut Checks) {
    let paths = &setting.paths;
    if let Err(error) = files::open_folder(&paths.spool()) {
        let says = format!("{}; the gate appends no events to it for the agent", line(&error));
        checks.add(State::Wrong, "spool", says);
    }
    let formats = paths.formats();
    if setting.live.place(Path::new(GATE)).exists() && !formats.exists() {
        let says = format!(
            "no {}: what is written for the gate is of the oldest version that it may know, until `{GATE} publish-formats`, \
             which pss-guard-status.service calls at boot",
            formats.display()
        );
        checks.add(State::Note, "formats", says);
    }
}

fn json_in(folder: &Path) -> BTreeSet<OsString> {
    let names = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.filter(|name| Path::new(name).extension().is_some_and(|end| end == "json")).collect()
}

/// Are those there that were imported last? Without them the policy's defaults hold, which may be more lenient.
fn lost(paths: &Paths, agent: Option<&AgentStatus>, checks: &mut Checks) {
    let folder = paths.namespaces();
    let here = json_in(&folder);
    let kept = json_in(&paths.kept_namespaces());
    let again = match agent {
        Some(_) => "an agent that runs writes them again within two minutes; else restart it",
        None => "`pss-guard namespaces import` restores them",
    };
    let mut lost = kept.difference(&here);
    if let Some(first) = lost.next() {
        let count = lost.count() + 1;
        let says = format!(
            "{count} of the imported namespaces {} gone from {}, the first is {}: only the policy's levels apply \
             to {}; {again}",
            agree(&count, "is", "are"),
            folder.display(),
            Path::new(first).file_stem().unwrap_or_default().display(),
            agree(&count, "it", "them")
        );
        checks.add(State::Wrong, "namespaces", says);
        return;
    }
    let Some(agent) = agent.filter(|agent| agent.current && agent.namespaces > here.len()) else { return };
    // What has changed since the agent wrote how many there are is not counted yet.
    let changed = fs::metadata(&folder).and_then(|metadata| metadata.modified()).ok();
    let is_settled = agent.contacted.zip(changed).is_none_or(|(contacted, changed)| changed < contacted);
    if is_settled {
        let says = format!(
            "the agent knows {}, and {} in {}: only the policy's levels apply to the others; {again}",
            plural(agent.namespaces, "namespace"),
            match here.len() {
                1 => "1 is".to_owned(),
                count => format!("{count} are"),
            },
            folder.display()
        );
        checks.add(State::Wrong, "namespaces", says);
    }
}

/// Where kubelets of the usual distributions keep their pods. k3s and rke2 have the default.
const KUBELET_ROOTS: [&str; 3] =
    [kubelet_root::DEFAULT, "/var/lib/k0s/kubelet", "/var/snap/microk8s/common/var/lib/kubelet"];

/// With the wrong directory every volume of a pod looks like a path of the host, or the other way round.
fn kubelet(setting: &Setting<'_>, distribution: &Distribution, policy: &Policy, checks: &mut Checks) {
    let recorded = kubelet_root::recorded(&setting.paths);
    if let Err(error) = &recorded {
        let says = format!(
            "{}; it does not count, and `pss-guard install` writes it again: the kubelet's root directory",
            line(error)
        );
        checks.add(State::Wrong, "kubelet", says);
    }
    let own = policy.node.kubelet_root().trim_end_matches('/');
    // An older key and a record may say the same.
    let is_policys =
        policy.node.kubelet_root.is_some() && recorded.is_ok_and(|root| root.as_deref() != Some(own));
    let same = |other: &str| {
        let real = |path: &str| setting.live.place(Path::new(path)).canonicalize().ok();
        other == own || real(other).is_some_and(|other| Some(other) == real(own))
    };
    let right = if is_policys { "as the policy says" } else { "where the gate expects them" };
    let wrong = |says: String, root: &str| {
        let (but, also) = if is_policys {
            (format!("the policy has kubelet-root = {own:?}"), "")
        } else {
            (format!("the gate expects them in {own:?}"), "run `pss-guard install`, which records it, or ")
        };
        format!("{says}, but {but}; {also}set kubelet-root = {root:?} under [node]")
    };
    let pods = |root: &str| setting.live.place(&Path::new(root).join("pods")).is_dir();
    match places::kubelet(&setting.processes, distribution) {
        Some(places::Kubelet { root, process: Some(process) }) => {
            if same(&root) {
                checks.add(State::Ok, "kubelet", format!("keeps its pods in {root}, {right}"));
            } else {
                let says = format!("the kubelet (process {process}) keeps its pods in {root:?}");
                checks.add(State::Wrong, "kubelet", wrong(says, &root));
            }
        }
        _ if pods(own) => checks.add(State::Ok, "kubelet", format!("pods are in {own}, {right}")),
        of_distribution => {
            let of_distribution = of_distribution.map(|kubelet| kubelet.root);
            let candidates = of_distribution.as_deref().into_iter().chain(KUBELET_ROOTS);
            if let Some(root) = candidates.into_iter().find(|root| !same(root) && pods(root)) {
                checks.add(State::Wrong, "kubelet", wrong(format!("pods are in {root}"), root));
            }
        }
    }
}

/// Where do events go?
fn journal(socket: &Path, file: &Path, checks: &mut Checks) {
    let connected = UnixDatagram::unbound().and_then(|ours| ours.connect(socket));
    match connected {
        Ok(()) => checks.add(State::Ok, "journal", "events go to the journal (journalctl -t pss-guard)"),
        Err(error) => {
            let says =
                format!("journald does not answer ({}); events go to {}", line(&error), file.display());
            checks.add(State::Note, "journal", says);
        }
    }
}
