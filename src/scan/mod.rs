//! Evaluates everything that runs on this node: what would be refused at its next start?
//!
//! ```text
//!            containers::find ─► a bundle and a process each
//! config.json ─► evaluate, as before a start in enforce mode ─► verdict, findings ─┐
//!        /proc/PID ─► live: what runs and was not asked for ─► drift ───────────┴─► Scan ─► table, json, sarif, …
//! ```
//!
//! The verdict is about the next start only: it is the gate's, with the same policy and namespaces, and the level that was
//! asked for. What a process has beyond its config.json is listed beside it.
//!
//! A [`Scan`] borrows nothing; each output is a function from it to a writer.

pub mod drift;
pub mod html;
pub mod merge;
pub mod policy_report;
pub mod remedy;
pub mod summary;
pub mod table;

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use crate::decision::{ControlResult, Verdict};
use crate::events::probes::{Probe, Probes};
use crate::files::FileError;
use crate::inspect::evaluate::{Outcome, Pods, Request, evaluate, evaluate_spec};
use crate::inspect::host::{Beside, Host, Shared};
use crate::inspect::sandboxes::Sandboxes;
use crate::inspect::spec::Spec;
use crate::inspect::{self, find_config, find_config_by};
use crate::level::cache::{LoadError, Usable, load_usable};
use crate::level::workload::is_static;
use crate::level::{Labels, PodAttributes, Policy, RequiredLevel, exempt};
use crate::message::{escape, line, our_refusing_controls, shortened};
use crate::node::containers::{self, Container, Keeper, Voucher};
use crate::node::host::Live;
use crate::node::procfs::Processes;
use crate::node::strangers::{self, Mounts};
use crate::output::json;
use crate::paths::Paths;
use crate::pss::facts::{Engine, Subject};
use crate::pss::{Level, Version};
use pss_guard_core::record::FIELD;

pub use drift::Drift;
use drift::Patience;
pub use summary::Summary;

/// Where to look.
#[derive(Debug)]
pub struct Setting {
    /// The node.
    pub live: Live,
    /// What runs there.
    pub processes: Processes,
    /// The product's files.
    pub paths: Paths,
}

impl Setting {
    /// The node whose root directory this is.
    #[must_use]
    pub fn under(root: &Path) -> Self {
        Self { live: Live::under(root), processes: Processes::of(root), paths: Paths::under(root) }
    }
}

/// What to ask.
#[derive(Clone, Copy, Default)]
pub struct Options<'a> {
    /// The level to check every container against instead of its own. What is exempt stays exempt.
    pub level: Option<(Level, Version)>,
    /// Only the containers of these namespaces; of all if there are none.
    pub namespaces: &'a [String],
    /// Only these controls; all if there are none.
    pub controls: &'a [&'static str],
    /// Levels that each container is held against besides, for its verdict alone: see [`Scanned::at_levels`].
    pub besides: &'a [(Level, Version)],
    /// Told of every container: how many were looked at, and how many there are.
    pub progress: Option<&'a dyn Fn(usize, usize)>,
}

/// A node, and everything that runs on it.
#[derive(Clone, Debug)]
pub struct Scan {
    /// The node's name.
    pub node: String,
    /// When it was looked at.
    pub at: SystemTime,
    /// How long that took.
    pub took: Duration,
    /// The level that was asked about; `None` where each container was held against its own.
    pub level: Option<(Level, Version)>,
    /// Why `policy.toml` cannot be used and each container was held against the last good policy, in a line.
    pub policy_fault: Option<String>,
    /// The controls of our own that refuse containers here.
    pub ours: String,
    /// The containers, by namespace, pod and name. Those of no pod come last.
    pub containers: Vec<Scanned>,
    /// What could not be looked at.
    pub unseen: Vec<Unseen>,
    /// How many ended while they were looked at.
    pub vanished: usize,
    /// The namespaces of containers that run here and were not asked for.
    pub elsewhere: BTreeSet<String>,
    /// The scans that were merged into this one; none for the scan of a node.
    pub parts: Vec<merge::Part>,
}

/// One container, or the sandbox of a pod: what `check --format json` says of it, and what runs.
#[allow(clippy::struct_excessive_bools, reason = "independent of each other")]
#[derive(Clone, Debug, Serialize)]
pub struct Scanned {
    /// Whose it is, the verdict, and the findings.
    #[serde(flatten)]
    pub result: json::Result<'static>,
    /// Whether it is a pod's sandbox and no container of its own.
    pub sandbox: bool,
    /// Its first process; `null` on a captured node.
    pub pid: Option<i32>,
    /// What its process has and was not asked for.
    pub drift: Vec<Drift>,
    /// The same verdict as a type.
    #[serde(skip)]
    pub verdict: Verdict,
    /// The verdicts at [`Options::besides`], in that order; none where it cannot be evaluated at any level.
    #[serde(serialize_with = "by_level", skip_serializing_if = "Vec::is_empty")]
    pub at_levels: Vec<Verdict>,
    /// The controls that say no: the reasons of a refusal.
    #[serde(rename = "refused_by")]
    pub against: Vec<&'static str>,
    /// The kubelet started its pod from a file: nobody can start it elsewhere.
    #[serde(skip)]
    pub of_a_file: bool,
    /// Something of its process is hidden from who looks.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub in_part: bool,
    /// What all containers of one pod have in common, and no others; `None` for a container of no pod.
    #[serde(skip)]
    pub pod: Option<String>,
    /// The node that it runs on, where that is not the one that was scanned: in merged scans.
    #[serde(skip)]
    pub node: Option<String>,
    /// A probe of the installer, which removes it again.
    #[serde(skip)]
    probe: bool,
}

/// Verdicts at the levels of the picture, by the level's name.
fn by_level<S: serde::Serializer>(verdicts: &[Verdict], out: S) -> Result<S::Ok, S::Error> {
    let levels = html::LEVELS.iter().map(|(level, _)| level.name());
    out.collect_map(levels.zip(verdicts.iter().map(|verdict| verdict.name())))
}

/// Something that could not be looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unseen {
    /// The file or folder, safe for a terminal.
    pub path: String,
    /// Why, in a line.
    pub why: String,
}

impl Scanned {
    /// Whether it, by itself, would be refused.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.verdict == Verdict::Deny
    }

    /// Whether only a control of our own refuses it.
    #[must_use]
    pub fn is_refused_by_ours_alone(&self) -> bool {
        self.is_refused() && self.reasons().all(json::Finding::is_ours)
    }

    /// The findings that say no.
    pub fn reasons(&self) -> impl Iterator<Item = &json::Finding<'static>> {
        self.result.findings.iter().filter(|finding| self.against.contains(&finding.control))
    }

    /// Whether the node itself needs it.
    #[must_use]
    pub fn is_of_the_system(&self) -> bool {
        self.verdict == Verdict::Exempt
            || self.of_a_file
            || self.result.container().namespace.as_deref() == Some("kube-system")
    }

    /// What nobody vouches for has no more than a page of its own.
    fn be_brief(&mut self) {
        for finding in &mut self.result.findings {
            if finding.detail.len() > BRIEF {
                finding.detail = shortened(&finding.detail, BRIEF).into();
            }
            // YAML that ends somewhere is none.
            if finding.fix.len() > BRIEF {
                finding.fix = "".into();
            }
        }
    }

    fn keep_only(&mut self, controls: &[&'static str]) {
        if controls.is_empty() {
            return;
        }
        self.result.findings.retain(|finding| controls.contains(&finding.control));
        self.drift.retain(|drift| controls.contains(&drift.control));
        self.against.retain(|control| controls.contains(control));
        if self.verdict == Verdict::Deny && self.against.is_empty() {
            self.verdict = Verdict::Allow;
            self.result.verdict = self.verdict.name();
        }
    }
}

/// Looks at a node. Fails only where there is a policy that cannot be used.
pub fn scan(setting: &Setting, options: &Options<'_>) -> Result<Scan, LoadError> {
    let (at, began) = (SystemTime::now(), Instant::now());
    let Usable { policy, fault } = load_usable(&setting.paths)?;
    let found = containers::find(&setting.live, &setting.processes, Voucher::Anybody);
    let unseen = |closed: containers::Closed| Unseen { path: shown(&closed.path), why: line(&closed.error) };
    let mut scan = Scan {
        node: node_name(&setting.live),
        at,
        took: Duration::ZERO,
        policy_fault: fault.map(|error| line(&error)),
        level: options.level,
        ours: our_refusing_controls(&policy),
        containers: Vec::with_capacity(found.containers.len()),
        unseen: found.closed.into_iter().map(unseen).collect(),
        vanished: 0,
        elsewhere: BTreeSet::new(),
        parts: Vec::new(),
    };
    if let Some(why) = setting.processes.of_others() {
        scan.unseen.push(Unseen { path: "/proc".to_owned(), why: why.to_owned() });
    }
    if found.is_nowhere {
        let why = "no folder of containerd, CRI-O, docker or podman is here, so this may be a container and not the node; in a \
                   container this takes the node's processes and --root";
        scan.unseen.push(Unseen { path: "/run".to_owned(), why: why.to_owned() });
    }
    for look in look_at_all(setting, options, &policy, &found.containers) {
        match look {
            Look::Seen(scanned) => scan.containers.push(*scanned),
            Look::NotAsked(namespace) => scan.elsewhere.extend(namespace),
            Look::Probe => {}
            Look::Vanished => scan.vanished += 1,
        }
    }
    scan.containers.sort_by(|one, other| order(one).cmp(&order(other)));
    scan.took = began.elapsed();
    Ok(scan)
}

/// Looks at every container: they have nothing to do with each other.
fn look_at_all(
    setting: &Setting,
    options: &Options<'_>,
    policy: &Policy,
    containers: &[Container],
) -> Vec<Look> {
    // A sandbox is older than the containers of its pod: what they need of it is known when they come.
    let mut oldest: Vec<&Container> = containers.iter().collect();
    oldest.sort_by_key(|container| container.process.map(|first| (first.birth.ticks, first.pid)));
    let looker = Looker {
        setting,
        options,
        policy,
        sandboxes: Sandboxes::default(),
        // Written down before they start: later than what was found.
        probes: Probes::of(&setting.paths),
        node: Rc::default(),
        parents: RefCell::default(),
        mounts: OnceCell::new(),
        patience: Patience::default(),
    };
    let mut looks = Vec::with_capacity(oldest.len());
    for container in oldest {
        looks.push(looker.look(container));
        if let Some(progress) = options.progress {
            progress(looks.len(), containers.len());
        }
    }
    looks
}

/// By namespace and pod, its sandbox first.
fn order(scanned: &Scanned) -> impl Ord {
    let container = scanned.result.container();
    let namespace = container.namespace.as_deref();
    let pod = (container.pod.as_deref(), scanned.node.as_deref(), scanned.pod.as_deref());
    (
        (namespace.is_none(), namespace, pod),
        (!scanned.sandbox, container.name.as_deref(), &scanned.result.path),
    )
}

/// A path for any terminal, as far as somebody reads it.
fn shown(path: &Path) -> String {
    shortened(&escape(&path.to_string_lossy()), FIELD)
}

/// What the node calls itself. The kernel answers a container with the container's own name (uts_namespaces(7)).
pub(crate) fn node_name(live: &Live) -> String {
    use std::os::unix::fs::MetadataExt as _;
    // Its link has no place in a file system, and of another root there is none.
    let uts = |process: &str| std::fs::metadata(format!("/proc/{process}/ns/uts")).map(|it| it.ino()).ok();
    let is_ours = live.is_running() && uts("1").is_none_or(|first| uts("self") == Some(first));
    let file = if is_ours { "/proc/sys/kernel/hostname" } else { "/etc/hostname" };
    let name = crate::files::read(&live.place(Path::new(file)), 4096).unwrap_or_default();
    String::from_utf8_lossy(&name).trim().to_owned()
}

/// What came of one container.
enum Look {
    Seen(Box<Scanned>),
    NotAsked(Option<String>),
    Probe,
    Vanished,
}

/// All that is the same for every container.
struct Looker<'a> {
    setting: &'a Setting,
    options: &'a Options<'a>,
    policy: &'a Policy,
    sandboxes: Sandboxes,
    probes: Probes,
    node: Rc<Shared>,
    parents: RefCell<HashMap<i32, Rc<Host>>>,
    mounts: OnceCell<Mounts>,
    patience: Patience,
}

/// So much of a text is shown of a container that nobody vouches for, in bytes.
pub const BRIEF: usize = 1024;

impl Looker<'_> {
    fn is_asked_for(&self, scanned: &Scanned) -> bool {
        let namespaces = self.options.namespaces;
        let namespace = scanned.result.container().namespace.as_deref();
        // What cannot be read is of any namespace.
        let unknown = scanned.result.container().engine.is_none();
        namespaces.is_empty() || unknown || namespaces.iter().any(|asked| Some(asked.as_str()) == namespace)
    }

    fn look(&self, container: &Container) -> Look {
        let found = if container.vouched {
            find_config(&container.bundle)
        } else {
            let mounts = self.mounts.get_or_init(Mounts::of_this_program);
            find_config_by(&container.bundle, |path| mounts.read(path, strangers::LARGEST))
        };
        let (config, file) = match found {
            Ok((path, metadata, bytes)) => (Ok((path, bytes)), Some(metadata)),
            Err(error) => (Err(error), None),
        };
        let host = match (&config, container.process) {
            (_, Some(first)) if container.vouched => Ok(self.beside(first.birth.parent)),
            (_, Some(first)) => {
                let beside = Beside::new(self.or_own(first.birth.parent), Rc::clone(&self.node));
                Ok(Rc::new(Host::Beside(beside.of_a_stranger())))
            }
            (Ok((path, _)), None) => captured(path).map(Rc::new),
            (Err(_), None) => Ok(Rc::new(Host::Unknown)),
        };
        let mut scanned = match &host {
            Ok(host) => self.evaluate(container, &config, file.as_ref(), host),
            Err(error) => Scanned::cannot_judge(container, line(error)),
        };
        // A container that ends while it is looked at leaves half of itself behind.
        let odd = scanned.verdict == Verdict::CannotJudge || !scanned.drift.is_empty() || scanned.in_part;
        if odd && container.process.is_some() && !self.runs(container) {
            return Look::Vanished;
        }
        if scanned.probe {
            return Look::Probe;
        }
        if !self.is_asked_for(&scanned) {
            return Look::NotAsked(scanned.result.container().namespace.as_deref().map(Into::into));
        }
        scanned.keep_only(self.options.controls);
        if !container.vouched {
            scanned.be_brief();
        }
        Look::Seen(Box::new(scanned))
    }

    /// Whether it still runs. What ends loses its folder, and its process a moment before or after; a process that stays has lost
    /// its folder in another way.
    fn runs(&self, container: &Container) -> bool {
        let is_alive = || container.is_alive(&self.setting.processes);
        let is_ending = container.vouched && !container.bundle.exists();
        while is_ending && is_alive() && self.patience.wait() {}
        is_alive()
    }

    /// The node as the process sees it that started a container. The containers of a pod have one in common.
    fn beside(&self, parent: i32) -> Rc<Host> {
        let host = || Host::Beside(Beside::new(self.or_own(parent), Rc::clone(&self.node)));
        Rc::clone(self.parents.borrow_mut().entry(parent).or_insert_with(|| Rc::new(host())))
    }

    /// A process's folder. One that lives outside of what can be seen from here sees what this process sees, as far as
    /// anybody knows.
    fn or_own(&self, parent: i32) -> PathBuf {
        let process = (parent > 0).then(|| self.setting.processes.folder(parent)).flatten();
        process.unwrap_or_else(|| "/proc/self".into())
    }

    fn evaluate(
        &self,
        container: &Container,
        config: &Result<(std::path::PathBuf, Vec<u8>), FileError>,
        file: Option<&Metadata>,
        host: &Host,
    ) -> Scanned {
        let shown = shown(&container.bundle);
        let namespaces = self.setting.paths.namespaces();
        let request = Request {
            policy: Ok(self.policy),
            host,
            config,
            exec: None,
            restore: None,
            engine: told(container, host),
            id: container.id.as_deref(),
            // Not the process as a witness of its namespaces: it may have left those that it would get again.
            pid: None,
            runtime_handler: container.entry().map(|(_, handler)| handler),
            sees_sandboxes: false,
            namespaces: Some(&namespaces),
            pods: Pods::beside(&namespaces),
            demand: self.options.level.map(|(level, version)| RequiredLevel::argument(level, version)),
            sandboxes: Some(&self.sandboxes),
        };
        let spec =
            config.as_ref().ok().and_then(|(path, bytes)| Some((path, inspect::parse(path, bytes).ok()?)));
        let Some((path, spec)) = spec.filter(|(path, spec)| inspect::of_linux(spec, path).is_ok()) else {
            return evaluate(&request, |identity, outcome| {
                self.scanned(&shown, container, identity, outcome)
            });
        };
        let mut scanned = evaluate_spec(&request, path, &spec, |identity, outcome| {
            self.scanned(&shown, container, identity, outcome)
        });
        if let Some(file) = file.filter(|_| scanned.sandbox) {
            self.sandboxes.keep(file, &spec);
        }
        scanned.at_levels = self
            .options
            .besides
            .iter()
            .map(|(level, version)| {
                let request = Request { demand: Some(RequiredLevel::argument(*level, *version)), ..request };
                evaluate_spec(&request, path, &spec, |identity, outcome| {
                    let mut scanned = self.scanned(&shown, container, identity, outcome);
                    scanned.keep_only(self.options.controls);
                    scanned.verdict
                })
            })
            .collect();
        let seen = self.process(container, &spec, host).unwrap_or_default();
        (scanned.drift, scanned.in_part) = (seen.drift, seen.in_part);
        scanned
    }

    fn process(&self, container: &Container, spec: &Spec<'_>, host: &Host) -> Option<drift::Seen> {
        let first = container.process.as_ref().filter(|_| !container.waits())?;
        drift::look(spec, host, &self.setting.processes.folder(first.pid)?, first, &self.patience)
    }

    fn scanned(
        &self,
        path: &str,
        container: &Container,
        identity: Option<&inspect::identity::Identity<'_>>,
        outcome: Outcome<'_>,
    ) -> Scanned {
        let outcome = match identity.and_then(|identity| self.exempt(identity, container)) {
            Some(exempt) => Outcome::Exempt(exempt),
            None => outcome,
        };
        let (result, verdict) = json::Result::of(path, identity, &outcome);
        let against = match &outcome {
            Outcome::Evaluated { rules, enforce, .. } => {
                rules.denying(enforce).map(|judged: &ControlResult<'_>| judged.control.id).collect()
            }
            _ => Vec::new(),
        };
        let of_pod = |identity: &inspect::identity::Identity<'_>| {
            identity.namespace?;
            let own = (identity.subject == Subject::Sandbox).then_some(identity.id).flatten();
            let pod = own.or(identity.sandbox).or(identity.pod_uid).or(identity.pod);
            pod.map(ToOwned::to_owned)
        };
        Scanned {
            result: result.into_owned(),
            sandbox: identity.is_some_and(|identity| identity.subject == Subject::Sandbox),
            pid: container.process.map(|first| first.pid),
            drift: Vec::new(),
            verdict,
            at_levels: Vec::new(),
            against,
            of_a_file: identity.and_then(|identity| identity.pod_uid).is_some_and(is_static),
            in_part: false,
            pod: identity.and_then(of_pod),
            node: None,
            probe: identity.is_some_and(|identity| self.is_probe(identity, container)),
        }
    }

    fn is_probe(&self, identity: &inspect::identity::Identity<'_>, container: &Container) -> bool {
        let own = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let it = || Probe {
            engine: identity.engine.name().to_owned(),
            namespace: own(identity.namespace),
            pod: own(identity.pod),
            pod_uid: own(identity.pod_uid),
            container_id: own(identity.id),
        };
        let first = container.process.filter(|_| container.vouched);
        first.is_some_and(|first| self.probes.is_one(&it(), first.started))
    }

    /// Whether the policy exempts it. A level that is asked about does not change that: it would not break.
    fn exempt<'i>(
        &'i self,
        identity: &inspect::identity::Identity<'i>,
        container: &'i Container,
    ) -> Option<crate::level::Exempt<'i>> {
        let whose = PodAttributes {
            namespace: identity.namespace,
            runtime_handler: container.entry().map(|(_, handler)| handler),
            annotations: Labels::default(),
        };
        exempt(self.policy, &whose)
    }
}

impl Scanned {
    fn cannot_judge(container: &Container, because: String) -> Self {
        let path = shown(&container.bundle);
        let (none, verdict) = (json::Container::default(), Verdict::CannotJudge);
        Self {
            result: json::Result::other(&path, none, verdict, because).into_owned(),
            sandbox: false,
            pid: container.process.map(|first| first.pid),
            drift: Vec::new(),
            verdict,
            at_levels: Vec::new(),
            against: Vec::new(),
            of_a_file: false,
            in_part: false,
            pod: None,
            node: None,
            probe: false,
        }
    }
}

/// The engine, as an installer would tell it.
fn told(container: &Container, host: &Host) -> Option<Engine> {
    if !container.vouched {
        return Some(Engine::None);
    }
    let written = match host {
        Host::Observed(observed) => Some(observed.engine.as_str()),
        _ => container.entry().map(|(engine, _)| engine),
    };
    if let Some(name) = written {
        return Engine::ALL.into_iter().find(|engine| engine.name() == name);
    }
    match container.keeper {
        // hooks.d is one directory for CRI-O and podman, and the gate knows them apart.
        Keeper::Storage => Some(Engine::CriO),
        Keeper::Containerd | Keeper::Runtime => None,
    }
}

/// A captured node, as far as somebody wrote down what it looked like.
fn captured(config: &Path) -> Result<Host, inspect::host::ObservedError> {
    let observed = config.with_file_name("observed.json");
    if observed.exists() { Host::observed(&observed) } else { Ok(Host::Unknown) }
}
