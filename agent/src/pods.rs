//! Pods of this node: what admission reads of them becomes `pods/<uid>.json`.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ApiResource;
use kube::core::Object;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use pss::pod::PodSpec;
use pss_guard_core::paths::Paths;
use pss_guard_core::pods::{self, About, Extent, PodFacts, Source, Store, StoreError};
use serde::{Deserialize, Deserializer};
use tokio::time::{Instant, sleep_until};

use crate::keep::Keep;
use crate::metrics::Metrics;
use crate::watch::{End, Synced, heed};

/// What messages and metrics call them.
pub(crate) const RESOURCE: &str = "pods";

/// How long the facts of a pod stay after its object is gone. Whoever deletes by force does not wait for its containers.
const GONE: Duration = Duration::from_secs(300);

/// The fields of a pod that the standard reads. An object that cannot be read must not end the watch of all others.
#[derive(Clone, Debug)]
struct Spec(Result<PodSpec, String>);

impl<'de> Deserialize<'de> for Spec {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(from)?;
        Ok(Self(serde_json::from_value(value).map_err(|error| error.to_string())))
    }
}

/// Of the status nothing is read.
#[derive(Clone, Debug, Default, Deserialize)]
struct Ignored {}

type Watched = Object<Spec, Ignored>;

/// Writes what the API server says of one node's pods, until that fails.
pub(crate) async fn watch(
    client: Client,
    node: &str,
    config: watcher::Config,
    paths: &Paths,
    metrics: &Metrics,
    synced: &Synced<'_>,
) -> Result<(), End> {
    let store = Store::of(paths).map_err(End::write)?;
    let keep = Keep::of(RESOURCE, metrics, {
        let store = store.clone();
        move || store.keep().map_err(End::write)
    });
    let mut pods = Pods { store, metrics, known: BTreeMap::new(), gone: VecDeque::new() };
    let api: Api<Watched> = Api::all_with(client, &ApiResource::erase::<Pod>(&()));
    let config = config.fields(&format!("spec.nodeName={node}"));
    let mut stream = std::pin::pin!(watcher(api, config).default_backoff());
    let mut listed = BTreeMap::new();
    let mut last = String::new();
    loop {
        let event = tokio::select! {
            biased;
            event = keep.while_waiting(stream.next()) => event,
            () = pods.first_gone() => {
                if pods.forget()? {
                    keep.changed();
                }
                continue;
            }
        };
        let event = match event {
            None => return Ok(()),
            Some(Ok(event)) => event,
            Some(Err(error)) => {
                heed(RESOURCE, &error, &mut last)?;
                continue;
            }
        };
        match event {
            Event::Init => {
                listed.clear();
                metrics.restarted(RESOURCE);
            }
            Event::InitApply(pod) => {
                if let Some(facts) = pods.facts(pod) {
                    listed.insert(facts.uid.clone(), facts);
                }
            }
            Event::InitDone => {
                pods.replace_all(std::mem::take(&mut listed))?;
                synced.pods();
            }
            Event::Apply(pod) => {
                if let Some(facts) = pods.facts(pod)
                    && pods.put(facts)?
                {
                    keep.changed();
                }
            }
            Event::Delete(pod) => pods.delete(&pod.metadata.uid.unwrap_or_default()),
        }
        metrics.pods.set(pods.known.len() as u64);
    }
}

struct Pods<'a> {
    store: Store,
    metrics: &'a Metrics,
    /// The pods of the API server, by UID.
    known: BTreeMap<String, PodFacts>,
    /// Pods whose object is gone, and when their facts go: the oldest first.
    gone: VecDeque<(Instant, PodFacts)>,
}

impl Pods<'_> {
    /// What is written of a pod; `None` for the mirror of a static pod, which anybody can forge.
    fn facts(&self, pod: Watched) -> Option<PodFacts> {
        let metadata = pod.metadata;
        let controller =
            metadata.owner_references.into_iter().flatten().find(|owner| owner.controller == Some(true));
        let about = About {
            name: metadata.name.unwrap_or_default(),
            namespace: metadata.namespace.unwrap_or_default(),
            uid: metadata.uid.unwrap_or_default(),
            labels: metadata.labels.unwrap_or_default(),
            annotations: metadata.annotations.unwrap_or_default(),
            controller: controller.map(|owner| (owner.kind, owner.name)),
        };
        match pod.spec.0 {
            Ok(spec) => pods::Object::new(about, spec).facts(),
            Err(error) => {
                self.unusable(&format!("{}/{} ({})", about.namespace, about.name, about.uid), &error);
                None
            }
        }
    }

    /// Whoever makes pods can make one of which no facts can be written. It is then like an unknown pod; others are not held up.
    fn unusable(&self, pod: &str, error: &str) {
        self.metrics.unusable.inc();
        tracing::warn!(pod, error, "no facts can be written of a pod; the gate evaluates what it sees of it");
    }

    fn put(&mut self, facts: PodFacts) -> Result<bool, End> {
        // Every change of a status is an event, and changes nothing here.
        if self.known.get(&facts.uid) == Some(&facts) {
            return Ok(false);
        }
        match self.store.put(&facts) {
            Ok(changed) => {
                if changed {
                    tracing::info!(
                        namespace = facts.namespace,
                        pod = facts.name,
                        uid = facts.uid,
                        "wrote the facts of a pod"
                    );
                }
                self.known.insert(facts.uid.clone(), facts);
                Ok(changed)
            }
            Err(error @ (StoreError::TooLarge(_) | StoreError::Name(..) | StoreError::Uid(_))) => {
                self.unusable(&facts.whose().to_string(), &error.to_string());
                // Said once.
                self.known.insert(facts.uid.clone(), facts);
                Ok(false)
            }
            Err(error) => Err(End::write(error)),
        }
    }

    /// Writes a whole list, and removes what it lacks.
    fn replace_all(&mut self, listed: BTreeMap<String, PodFacts>) -> Result<(), End> {
        let now = Instant::now();
        for (uid, facts) in std::mem::replace(&mut self.known, listed) {
            if !self.known.contains_key(&uid) {
                self.gone.push_back((now + GONE, facts));
            }
        }
        let gone = self.gone.iter().map(|(_, facts)| facts);
        let all: BTreeMap<&str, &PodFacts> =
            self.known.values().chain(gone).map(|facts| (&*facts.uid, facts)).collect();
        let all: Vec<PodFacts> = all.into_values().cloned().collect();
        match self.store.replace_all(&all, Extent::All, Extent::Some) {
            // A node without pods; what is there stays, and no gate asks for it.
            Err(StoreError::Empty) => tracing::info!("listed pods; this node has none"),
            Err(error) => return Err(End::write(error)),
            Ok([done, _]) => {
                for pod in &done.too_large {
                    self.unusable(pod, "the facts are larger than a file may be");
                }
                tracing::info!(
                    pods = self.known.len(),
                    changed = done.changed,
                    removed = done.removed,
                    "listed pods"
                );
            }
        }
        Ok(())
    }

    /// Its object is gone; its facts stay for a while.
    fn delete(&mut self, uid: &str) {
        if let Some(facts) = self.known.remove(uid) {
            self.gone.push_back((Instant::now() + GONE, facts));
        }
    }

    /// When the first facts go.
    async fn first_gone(&self) {
        match self.gone.front() {
            Some((due, _)) => sleep_until(*due).await,
            None => std::future::pending().await,
        }
    }

    /// Removes the facts whose time has come. Whether there were any.
    fn forget(&mut self) -> Result<bool, End> {
        let mut changed = false;
        let now = Instant::now();
        while self.gone.front().is_some_and(|(due, _)| *due <= now) {
            let Some((_, facts)) = self.gone.pop_front() else { break };
            changed |= self.store.remove(Source::Api, facts.whose()).map_err(End::write)?;
            tracing::info!(
                namespace = facts.namespace,
                pod = facts.name,
                uid = facts.uid,
                "removed the facts of a pod"
            );
        }
        Ok(changed)
    }
}
