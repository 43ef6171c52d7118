//! The engines that the gate can be installed for, one file per engine.

pub mod containerd;
pub mod crio;
mod docker;
mod dropin;
pub(crate) mod hooks_d;
mod json;
mod podman;
mod toml;

use std::path::{Path, PathBuf};

use super::{Installer, PlanError, Request};
use crate::node::host::Node;
use crate::node::service;
use crate::node::systemd::{Service, UnitError};
use crate::pss::facts::Engine;

/// All installers.
pub const ALL: [&Installer; 4] =
    [&containerd::INSTALLER, &crio::INSTALLER, &podman::INSTALLER, &docker::INSTALLER];

/// The installer of an engine, by its name or alias on the command line.
#[must_use]
pub fn find(name: &str) -> Option<&'static Installer> {
    ALL.into_iter().find(|installer| installer.engine.name() == name || installer.alias == Some(name))
}

/// The installer of an engine.
#[must_use]
pub fn of(engine: Engine) -> Option<&'static Installer> {
    ALL.into_iter().find(|installer| installer.engine == engine)
}

/// How systemd starts an engine. Where that cannot be followed, the engine could have any flags: then only a file that was
/// named counts.
fn started(
    node: &dyn Node,
    request: &Request<'_>,
    unit: &str,
    program: &str,
) -> Result<Option<Service>, PlanError> {
    match service::of(node, unit, program) {
        Ok(service) => Ok(service),
        Err(UnitError::File(error)) => Err(error.into()),
        Err(_) if request.config.is_some() => Ok(None),
        Err(error) => Err(PlanError::Unsupported {
            what: error.to_string(),
            instead: format!(
                "look for flags of {program} there, and name its configuration file with --config"
            ),
        }),
    }
}

/// Whether Go's `strings.EqualFold` takes one key for the other, as decoders of TOML and JSON do. Of the letters of ASCII
/// only `k` and `s` have a third form.
fn is_same_key(key: &str, known: &str) -> bool {
    let folded = |key: &str| key.replace('\u{17f}', "s").replace('\u{212a}', "k").to_ascii_lowercase();
    folded(key) == folded(known)
}

/// The real runtime behind a path that is one of the gate's own entries; `None` if it is none.
fn behind(node: &dyn Node, path: &Path) -> Result<Option<PathBuf>, PlanError> {
    if !path.starts_with("/var/lib/pss-guard/runtimes") {
        return Ok(None);
    }
    let link = path.with_file_name("runtime");
    node.link(&link).map(|real| Some(node.find_again(real))).ok_or_else(|| PlanError::Unsupported {
        what: format!("{} is configured as a runtime, but {} is missing", path.display(), link.display()),
        instead: "put the path of the real runtime back into the configuration, then install again"
            .to_owned(),
    })
}

/// What holds for every installer, whatever stands on the node.
#[cfg(test)]
mod testing {
    use std::path::Path;

    use crate::install::{Change, Installer, Method, Plan, PlanError, Request, Stripped};
    use crate::node::distribution::PLAIN;
    use crate::node::host::fake::Fake;

    pub(super) fn request(method: Method) -> Request<'static> {
        Request { method, config: None, distribution: &PLAIN }
    }

    /// Plans, and holds the plan to the rules: a second one finds nothing to do, and each file that nobody changed can be
    /// stripped to what it was.
    pub(super) fn settle(installer: &Installer, node: &Fake, method: Method) -> (Plan, Fake) {
        let plan = (installer.plan)(node, &request(method)).unwrap();
        let after = node.clone().after(installer.engine, &plan);
        let again = (installer.plan)(&after, &request(method)).unwrap();
        assert_eq!(again.changes, [], "a second plan has to find nothing to do");
        assert_eq!(again.entries, plan.entries, "a second plan has to stand in front of the same runtimes");
        assert_eq!(again.shared, plan.shared);
        for change in &plan.changes {
            let left = strip(installer, &plan, change, &change.after).unwrap();
            assert_eq!(text(left.as_deref()), text(change.before.as_deref()), "{}", change.path.display());
        }
        (plan, after)
    }

    /// A file of a plan, as somebody left it, without the gate.
    pub(super) fn strip(
        installer: &Installer,
        plan: &Plan,
        change: &Change,
        now: &[u8],
    ) -> Result<Option<Vec<u8>>, PlanError> {
        (installer.strip)(&Stripped {
            path: &change.path,
            original: change.before.as_deref(),
            installed: &change.after,
            now,
            entries: &plan.entries,
            held: false,
        })
    }

    pub(super) fn text(bytes: Option<&[u8]>) -> Option<&str> {
        bytes.map(|bytes| std::str::from_utf8(bytes).unwrap())
    }

    /// The text of a file of the node.
    pub(super) fn file<'a>(node: &'a Fake, path: &str) -> Option<&'a str> {
        text(node.files.get(Path::new(path)).map(Vec::as_slice))
    }

    /// What a plan stands in front of, `handler=runtime`.
    pub(super) fn entries(plan: &Plan) -> Vec<String> {
        plan.entries.iter().map(|entry| format!("{}={}", entry.handler, entry.runtime.display())).collect()
    }

    /// Expects a refusal with these words.
    pub(super) fn refused(installer: &Installer, node: &Fake, method: Method, words: &[&str]) {
        let refusal = (installer.plan)(node, &request(method)).unwrap_err().to_string();
        for part in words {
            assert!(refusal.contains(part), "{part:?} is not in {refusal:?}");
        }
    }
}
