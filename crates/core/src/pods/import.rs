//! Imports what `kubectl get pods -o json` prints, or the kubelet's own `/pods`.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Read;

use super::store::Extent;
use super::{Changes, Object, PodFacts, Store, StoreError};
use crate::level::policy::SYSTEM_NAMESPACE;
use crate::list::{self, ListError, Listed};
use crate::paths::Paths;
use crate::words::plural;

/// Why an import changed nothing, or not everything.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The input is no list of pods, or not all of it.
    #[error(transparent)]
    List(#[from] ListError),
    /// More pods than any node has.
    #[error(
        "the list has {0} pods, more than {MOST}; use --field-selector spec.nodeName=NODE; nothing was changed"
    )]
    Many(usize),
    /// No pod of the node that was asked for.
    #[error("the list has no pod of node {0:?} (is that its name in the cluster?); nothing was changed")]
    NoneOf(String),
    /// They cannot be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl list::Object for Object {
    const KIND: &'static str = "Pod";
    const PLURAL: &'static str = "pods";

    fn kind(&self) -> &str {
        &self.kind
    }
}

/// A node has at most some hundred pods. Files of other nodes' pods are never read, so a list of some nodes does no harm.
const MOST: usize = 10_000;

/// What an import did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Pods of the API.
    pub pods: Changes,
    /// Static pods, which only a kubelet's list has.
    pub static_pods: Changes,
    /// Mirror pods of static ones, of which there are no facts: anybody can make one.
    pub mirrors: usize,
    /// Pods that are bound to no node, or to another one than was asked for.
    pub elsewhere: usize,
    /// Why nothing was removed.
    pub kept: Option<Kept>,
}

/// Why an import removed no facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It was one object.
    One,
    /// All pods of the list are of one namespace, which is what `kubectl get pods` prints without `--all-namespaces`.
    OneNamespace(String),
}

impl Imported {
    /// Pods of which no facts fit a file.
    pub fn too_large(&self) -> impl Iterator<Item = &str> {
        self.pods.too_large.iter().chain(&self.static_pods.too_large).map(String::as_str)
    }
}

impl fmt::Display for Imported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pods, static_pods, mirrors, elsewhere, kept } = self;
        write!(
            f,
            "imported {} ({} changed, {} removed)",
            plural(pods.pods, "pod"),
            pods.changed,
            pods.removed
        )?;
        let Changes { pods: own, changed, removed, .. } = static_pods;
        if own + removed > 0 {
            write!(f, ", {} ({changed} changed, {removed} removed)", plural(*own, "static pod"))?;
        }
        if *mirrors > 0 {
            write!(f, "; {} of static pods skipped", plural(*mirrors, "mirror pod"))?;
        }
        if *elsewhere > 0 {
            write!(f, "; {} of no node or another one skipped", plural(*elsewhere, "pod"))?;
        }
        match kept {
            None => Ok(()),
            Some(Kept::One) => f.write_str("; all others are unchanged"),
            Some(Kept::OneNamespace(namespace)) => write!(
                f,
                "; nothing was removed, because the list has only namespace {namespace:?}, as without --all-namespaces"
            ),
        }
    }
}

/// Writes the facts of all pods in a list, of those on one node if its name is given, and removes those that are not in it. One
/// object changes one pod. The whole input is checked before anything changes.
///
/// A list that comes from a kubelet has its static pods as well; a list of the API server says nothing of them.
pub fn import(input: &mut dyn Read, node: Option<&str>, paths: &Paths) -> Result<Imported, ImportError> {
    let store = Store::of(paths)?;
    let Listed { items, one } = list::read::<Object>(input)?;
    let is_kubelets = !one && items.iter().all(Object::is_of_kubelet);
    let all = items.len();
    let is_here = |pod: &Object| !pod.node().is_empty() && node.is_none_or(|node| node == pod.node());
    let here: Vec<Object> = items.into_iter().filter(is_here).collect();
    if here.len() > MOST {
        return Err(ImportError::Many(here.len()));
    }
    if here.is_empty() {
        return Err(node.map_or(ListError::Empty("pods on a node").into(), |node| {
            ImportError::NoneOf(node.chars().take(253).collect())
        }));
    }
    let elsewhere = all - here.len();
    let mirrors = here.iter().filter(|pod| pod.is_mirror()).count();
    let namespaces: BTreeSet<&str> = here.iter().map(Object::namespace).collect();
    let kept = match (one, namespaces.first()) {
        (true, _) => Some(Kept::One),
        // A node that was drained has no others.
        (false, Some(only)) if namespaces.len() == 1 && *only != SYSTEM_NAMESPACE && !is_kubelets => {
            Some(Kept::OneNamespace((*only).to_owned()))
        }
        _ => None,
    };
    let extent = if kept.is_some() { Extent::Some } else { Extent::All };
    let of_static = if is_kubelets { extent } else { Extent::Some };
    let facts: Vec<PodFacts> = here.into_iter().filter_map(Object::facts).collect();
    let [pods, static_pods] = store.replace_all(&facts, extent, of_static)?;
    Ok(Imported { pods, static_pods, mirrors, elsewhere, kept })
}
