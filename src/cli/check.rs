//! `pss-guard check`: evaluates files, bundles and captured cases, many at once.

use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::arguments::{Check, Format};
use crate::decision::Verdict;
use crate::files::{FileError, LIMIT, read};
use crate::inspect::evaluate::{Request, evaluate};
use crate::inspect::host::Host;
use crate::inspect::identity::identify;
use crate::inspect::{self, read_config};
use crate::level::cache::{LoadError, load_file};
use crate::level::{Policy, RequiredLevel};
use crate::message::{escape, line};
use crate::node::live_root;
use crate::output::json::{Container, Result as Object};
use crate::output::sarif;
use crate::paths::Paths;
use crate::pss::Certainty;
use crate::pss::facts::Engine;

/// Exit code: every container may start.
pub const ALLOW: u8 = 0;
/// Exit code: at least one may not.
pub const DENY: u8 = 1;

/// Counts for the exit code and the last line.
#[derive(Default)]
struct Tally {
    allowed: usize,
    exempt: usize,
    denied: usize,
    unjudged: usize,
}

impl Tally {
    fn add(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Allow => self.allowed += 1,
            Verdict::Exempt => self.exempt += 1,
            Verdict::Deny => self.denied += 1,
            Verdict::CannotJudge => self.unjudged += 1,
        }
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self { unjudged: 1.., .. } => super::FAILED,
            Self { denied: 1.., .. } => DENY,
            _ => ALLOW,
        }
    }
}

/// Checks every path and writes the results.
pub fn check(paths: &Paths, options: &Check, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let policy = match policy(paths, options.policy.as_deref(), err) {
        Ok(policy) => policy,
        Err(error) => {
            let _ = writeln!(err, "pss-guard: {}", line(&error));
            return super::FAILED;
        }
    };
    let mut tally = Tally::default();
    let mut log = sarif::Log::default();
    let mut pipe = Ok(());
    for path in &options.paths {
        for case in cases(path) {
            let verdict = case.evaluate(&policy, options, &paths.namespaces(), |object| {
                if pipe.is_ok() {
                    pipe = match options.format {
                        Format::Text => text(object, out),
                        Format::Json => json(object, out),
                        Format::Sarif => {
                            log.add(object);
                            Ok(())
                        }
                    };
                }
            });
            tally.add(verdict);
        }
    }
    match options.format {
        Format::Sarif => pipe = pipe.and_then(|()| log.write(out)),
        Format::Text if tally.allowed + tally.exempt + tally.denied + tally.unjudged > 1 => {
            let Tally { allowed, exempt, denied, unjudged } = tally;
            let exempt = if exempt > 0 { format!("{exempt} exempt, ") } else { String::new() };
            pipe = pipe.and_then(|()| {
                writeln!(out, "{allowed} allowed, {exempt}{denied} refused, {unjudged} could not be judged")
            });
        }
        Format::Text | Format::Json => {}
    }
    // A reader that went away (`| head`) has seen enough; the exit code still tells.
    if let Err(error) = pipe.and_then(|()| out.flush())
        && error.kind() != ErrorKind::BrokenPipe
    {
        let _ = writeln!(err, "pss-guard: write the results: {error}");
        return super::FAILED;
    }
    tally.exit_code()
}

fn policy(paths: &Paths, file: Option<&Path>, err: &mut dyn Write) -> Result<Policy, LoadError> {
    let Some(file) = file else { return super::policy_to_look(paths, err) };
    load_file(paths, file)
}

/// One container to check.
struct Case {
    /// config.json or the bundle, for messages.
    shown: String,
    /// config.json, read.
    config: Result<(PathBuf, Vec<u8>), FileError>,
}

/// The containers that a path stands for: a config.json, a bundle, one container of a captured case, or a case with
/// all its containers.
fn cases(path: &Path) -> Vec<Case> {
    let bundle = |path: &Path| Case { shown: shown(path), config: read_config(path) };
    let fault = |path: &Path, source| Case {
        shown: shown(path),
        config: Err(FileError::Read { path: path.to_owned(), source }),
    };
    if !path.is_dir() {
        let config = read(path, LIMIT).map(|bytes| (path.to_owned(), bytes));
        return vec![Case { shown: shown(path), config }];
    }
    let folder = path.join("containers");
    let entries: io::Result<Vec<PathBuf>> =
        folder.read_dir().and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect());
    match entries {
        // Nothing to judge is no verdict: it must not look as if all were well.
        Ok(containers) if containers.is_empty() => {
            vec![fault(&folder, io::Error::new(ErrorKind::NotFound, "there is no container in this folder"))]
        }
        Ok(mut containers) => {
            containers.sort();
            containers.iter().map(|container| bundle(container)).collect()
        }
        Err(err) if matches!(err.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            vec![bundle(path)]
        }
        Err(err) => vec![fault(&folder, err)],
    }
}

/// What `kubectl` reads and writes, and no engine.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} is a Kubernetes manifest; pss-guard evaluates config.json, which the container engine generates from \
     it",
    path.display()
)]
struct Manifest {
    path: PathBuf,
}

/// Whether a file is an object of Kubernetes, in YAML or JSON. config.json has neither of these keys at its top.
fn is_manifest(bytes: &[u8]) -> bool {
    let keys = ["apiVersion", "kind"];
    if bytes.trim_ascii_start().starts_with(b"{") {
        let object: Option<serde_json::Map<String, serde_json::Value>> = serde_json::from_slice(bytes).ok();
        return object.is_some_and(|object| keys.iter().all(|key| object.contains_key(*key)));
    }
    let is_there = |key: &&str| {
        let begins =
            |line: &[u8]| line.strip_prefix(key.as_bytes()).is_some_and(|rest| rest.starts_with(b":"));
        bytes.split(|byte| *byte == b'\n').any(begins)
    };
    keys.iter().all(is_there)
}

fn shown(path: &Path) -> String {
    escape(&path.to_string_lossy())
}

impl Case {
    fn evaluate(
        &self,
        policy: &Policy,
        options: &Check,
        namespaces: &Path,
        show: impl FnOnce(&Object<'_>),
    ) -> Verdict {
        let cannot = |err: &(dyn std::error::Error + 'static), show: Box<dyn FnOnce(&Object<'_>) + '_>| {
            let (none, verdict) = (Container::default(), Verdict::CannotJudge);
            show(&Object::other(&self.shown, none, verdict, line(err)));
            verdict
        };
        if let Ok((path, bytes)) = &self.config
            && is_manifest(bytes)
        {
            return cannot(&Manifest { path: path.clone() }, Box::new(show));
        }
        let host = match self.config.as_ref().map(|(config, bytes)| host(config, bytes)) {
            Ok(Ok(host)) => host,
            Ok(Err(err)) => return cannot(&err, Box::new(show)),
            Err(err) => return cannot(err, Box::new(show)),
        };
        let engine = match &host {
            Host::Observed(observed) => {
                Engine::ALL.into_iter().find(|engine| engine.name() == observed.engine)
            }
            Host::Live | Host::Beside(_) | Host::Unknown => None,
        };
        let request = Request {
            policy: Ok(policy),
            host: &host,
            config: &self.config,
            exec: None,
            restore: None,
            engine,
            id: None,
            pid: None,
            runtime_handler: None,
            sees_sandboxes: false,
            namespaces: Some(namespaces),
            demand: options.level.map(|(level, version)| RequiredLevel::argument(level, version)),
            sandboxes: None,
        };
        evaluate(&request, |identity, outcome| {
            let (object, verdict) = Object::of(&self.shown, identity, &outcome);
            show(&object);
            verdict
        })
    }
}

/// The node that a config.json is of: as it was observed beside the file; this one, now, if the file lies where
/// engines keep the bundles of running containers, or is that of a container that runs here, wherever it lies; else
/// none. A config.json that was copied from elsewhere names processes and mounts that mean nothing here, and has not its
/// sandbox beside it.
fn host(config: &Path, bytes: &[u8]) -> Result<Host, crate::inspect::host::ObservedError> {
    let observed = config.with_file_name("observed.json");
    if observed.exists() {
        return Host::observed(&observed);
    }
    let real = config.canonicalize().unwrap_or_else(|_| config.to_owned());
    let of_engine =
        ["/run", "/var/lib/containers", "/var/lib/docker"].iter().any(|dir| real.starts_with(dir));
    Ok(if of_engine || is_running(&real, bytes) { Host::Live } else { Host::Unknown })
}

/// Whether a process lives in the root file system of this bundle. What a relative path leads to is the bundle's own. An
/// absolute one may be in a copy as well: then the bundle must be named after the container, as engines name it
/// (`<id>`, `<id>/userdata`), or have the pod's sandbox beside it.
fn is_running(config: &Path, bytes: &[u8]) -> bool {
    let (Some(bundle), Ok(spec)) = (config.parent(), inspect::parse(config, bytes)) else { return false };
    let Some(root) = spec.root.as_ref().and_then(|root| root.path.as_ref()) else { return false };
    let root = Path::new(root.as_str());
    let is_its_own = || {
        let Ok(identity) = identify(&spec, None, Some(bundle), None) else { return false };
        let mut names = bundle.iter().rev();
        let name = names.next().filter(|name| *name != "userdata").or_else(|| names.next());
        let is_named = identity.id.is_some_and(|id| name == Some(id.as_ref()));
        is_named
            || inspect::read_sandbox(&identity, config, &Host::Live, None).is_ok_and(|found| found.is_some())
    };
    (root.is_relative() || is_its_own()) && live_root::is_a_root(&bundle.join(root))
}

fn json(object: &Object<'_>, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, object)?;
    out.write_all(b"\n")
}

/// One container for people: the verdict, what is wrong with its fix, and what nobody here can see.
fn text(object: &Object<'_>, out: &mut dyn Write) -> io::Result<()> {
    let name = object.name();
    writeln!(
        out,
        "{:<12} {}",
        object.verdict,
        if name == object.path { name.clone() } else { escape(&name) }
    )?;
    if name != object.path {
        let line = object.line.map_or_else(String::new, |line| format!(":{line}"));
        writeln!(out, "  {:<10} {}{line}", "file", object.path)?;
    }
    let because = escape(&object.because);
    if object.level.is_empty() {
        writeln!(out, "  {:<10} {because}", "because")?;
    } else {
        writeln!(out, "  {:<10} {}:{}, {because}", "level", object.level, object.version)?;
    }
    let mut unseen = Vec::new();
    for finding in &object.findings {
        if finding.certainty == Certainty::Unseen.name() {
            unseen.push(finding.control);
            continue;
        }
        let ours = if finding.origin == "upstream" { "" } else { " [pss-guard's own control]" };
        let (reason, detail) = (escape(&finding.reason), escape(&finding.detail));
        writeln!(out, "  {:<10} {}{ours}: {reason} ({detail})", finding.certainty, finding.control)?;
        if finding.reported {
            writeln!(out, "  {:<10} reported only: the policy has this control on \"audit\"", "")?;
        }
        if let Some(exception) = &finding.exception {
            writeln!(out, "  {:<10} exception: {}", "", escape(exception))?;
        }
        for fix in finding.fix.lines() {
            writeln!(out, "  {:<10} | {}", "", escape(fix))?;
        }
    }
    if !unseen.is_empty() {
        writeln!(out, "  {:<10} {} (`pss-guard explain` says why)", "not seen", unseen.join(", "))?;
    }
    Ok(())
}
