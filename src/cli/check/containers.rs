//! A config.json, a bundle or a captured case: the containers to evaluate, and the node that they are of.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::manifests::Given;
use crate::cli::arguments::Check;
use crate::decision::Verdict;
use crate::files::FileError;
use crate::inspect::evaluate::{Pods, Request, evaluate};
use crate::inspect::host::{Host, ObservedError};
use crate::inspect::identity::identify;
use crate::inspect::{self, read_config};
use crate::level::{Policy, RequiredLevel};
use crate::message::{escape, line};
use crate::node::live_root;
use crate::output::json::{Container, Result as Object};
use crate::pss::facts::Engine;

/// One container to check.
pub(super) struct Case {
    /// config.json or the bundle, for messages.
    shown: String,
    /// config.json, read.
    config: Result<(PathBuf, Vec<u8>), FileError>,
}

/// The containers that a folder stands for: a bundle, one container of a captured case, or a case with
/// all its containers.
pub(super) fn cases(path: &Path) -> Vec<Case> {
    let bundle = |path: &Path| Case { shown: shown(path), config: read_config(path) };
    let fault = |path: &Path, source| Case {
        shown: shown(path),
        config: Err(FileError::Read { path: path.to_owned(), source }),
    };
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

pub(super) fn shown(path: &Path) -> String {
    escape(&path.to_string_lossy())
}

impl Case {
    /// A folder in which nothing is to be evaluated.
    pub(super) fn nothing(path: &Path) -> Self {
        let why = "there is no manifest (.yaml, .yml, .json) and no config.json in it, and folders inside are not read; name them";
        let source = io::Error::new(ErrorKind::NotFound, why);
        Self { shown: shown(path), config: Err(FileError::Read { path: path.to_owned(), source }) }
    }

    /// A file that is no manifest.
    pub(super) fn of_file(path: &Path, bytes: Result<Vec<u8>, FileError>) -> Self {
        Self { shown: shown(path), config: bytes.map(|bytes| (path.to_owned(), bytes)) }
    }

    pub(super) fn evaluate(
        &self,
        policy: &Policy,
        options: &Check,
        namespaces: &Path,
        pod: Option<&Given>,
        show: impl FnOnce(&Object<'_>, Verdict),
    ) {
        let host = match self.config.as_ref() {
            Ok((config, bytes)) => host(config, bytes).map_err(|err| line(&err)),
            Err(err) => Err(line(err)),
        };
        let host = match host {
            Ok(host) => host,
            Err(because) => {
                let (none, verdict) = (Container::default(), Verdict::CannotJudge);
                return show(&Object::other(&self.shown, none, verdict, because), verdict);
            }
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
            pods: match (pod, &host) {
                (Some(given), _) => Pods::Given(&given.pod, given.workload.as_deref()),
                (None, Host::Live) => Pods::beside(namespaces),
                (None, Host::Beside(_) | Host::Observed(_) | Host::Unknown) => Pods::Nowhere,
            },
            demand: options.level.map(|(level, version)| RequiredLevel::argument(level, version)),
            sandboxes: None,
        };
        evaluate(&request, |identity, outcome| {
            if let (Some(pod), Some(identity)) = (pod, identity)
                && let Some(because) = pod.is_not_of(identity)
            {
                let (container, verdict) = (Container::of(identity), Verdict::CannotJudge);
                return show(&Object::other(&self.shown, container, verdict, because), verdict);
            }
            let (object, verdict) = Object::of(&self.shown, identity, &outcome);
            show(&object, verdict);
        });
    }
}

/// The node that a config.json is of: as it was observed beside the file; this one, now, if the file lies where
/// engines keep the bundles of running containers, or is that of a container that runs here, wherever it lies; else
/// none. A config.json that was copied from elsewhere names processes and mounts that mean nothing here, and has not its
/// sandbox beside it.
fn host(config: &Path, bytes: &[u8]) -> Result<Host, ObservedError> {
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
