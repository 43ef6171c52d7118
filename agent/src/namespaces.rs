//! Namespaces: what their labels ask for becomes `namespaces/<name>.json`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::PartialObjectMeta;
use kube::runtime::watcher::{Config, Event};
use kube::{Api, Client};
use pss_guard_core::level::Labels;
use pss_guard_core::level::namespaces::Store;
use pss_guard_core::paths::Paths;

use crate::keep::Keep;
use crate::metrics::Metrics;
use crate::watch::{End, Synced, Watch};

/// What messages and metrics call them.
pub(crate) const RESOURCE: &str = "namespaces";

/// Writes what the API server says, until that fails.
pub(crate) async fn watch(
    client: Client,
    config: Config,
    paths: &Paths,
    metrics: &Metrics,
    synced: &Synced<'_>,
) -> Result<Infallible, End> {
    let store = Store::of(paths).map_err(End::write)?;
    let keep = Keep::of(RESOURCE, metrics, {
        let store = store.clone();
        move || store.keep().map_err(End::write)
    });
    // Metadata only: the API server sends nothing else.
    let api: Api<PartialObjectMeta<Namespace>> = Api::all(client);
    let mut events = Watch::of(RESOURCE, api, config, metrics);
    let mut listed = BTreeMap::new();
    let mut known = BTreeSet::new();
    loop {
        let event = keep.while_waiting(events.next()).await?;
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(namespace) => {
                let (name, labels) = of(&namespace);
                listed.insert(name, labels);
            }
            Event::InitDone => {
                let all = std::mem::take(&mut listed);
                // The API server has three at least. A list that lacks them is refused, and nothing is removed.
                let [changed, removed] = store.replace_all(&all).map_err(End::write)?;
                known = all.into_keys().collect();
                tracing::info!(namespaces = known.len(), changed, removed, "listed namespaces");
                synced.namespaces();
            }
            Event::Apply(namespace) => {
                let (name, labels) = of(&namespace);
                if store.put(&name, &labels).map_err(End::write)? {
                    tracing::info!(namespace = name, "wrote the levels of a namespace");
                    keep.changed();
                }
                known.insert(name);
            }
            Event::Delete(namespace) => {
                let (name, _) = of(&namespace);
                if store.remove(&name).map_err(End::write)? {
                    tracing::info!(namespace = name, "removed a namespace that is gone");
                    keep.changed();
                }
                known.remove(&name);
            }
        }
        metrics.namespaces.set(known.len() as u64);
    }
}

/// Its name, and those of its labels that matter.
fn of(namespace: &PartialObjectMeta<Namespace>) -> (String, Labels<'static>) {
    let mut labels = Labels::default();
    for (key, value) in namespace.metadata.labels.iter().flatten() {
        labels.set(key, Cow::Owned(value.clone()));
    }
    (namespace.metadata.name.clone().unwrap_or_default(), labels)
}
