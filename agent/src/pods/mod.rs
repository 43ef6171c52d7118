//! Pods of this node: what admission reads of them becomes `pods/<uid>.json`.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use k8s_openapi::api::core::v1::Pod;
use kube::api::ApiResource;
use kube::core::Object;
use kube::runtime::watcher::{Config, Event};
use kube::{Api, Client};
use pss::pod::PodSpec;
use pss_guard_core::paths::Paths;
use pss_guard_core::pods::{self, About, Extent, PodFacts, Source, Store, StoreError};
use serde::{Deserialize, Deserializer};

use crate::gone::Gone;
use crate::keep::Keep;
use crate::metrics::Metrics;
use crate::removed::{Files, Look};
use crate::watch::{End, Synced, Watch};

/// What messages and metrics call them.
pub(crate) const RESOURCE: &str = "pods";

/// The UIDs of the objects that control pods, by the UIDs of these. No fact has them, and Events can.
pub(crate) type Controllers = RefCell<BTreeMap<String, String>>;

/// The fields of a pod that the standard reads. An object that cannot be read must not end the watch of all others.
#[derive(Clone, Debug)]
struct Spec(Result<PodSpec, String>);

impl<'de> Deserialize<'de> for Spec {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        // Serde hands None to an Option whose field is not there, and an error to all else.
        let Some(value) = Option::<serde_json::Value>::deserialize(from)? else {
            return Ok(Self(Err("it has no spec".to_owned())));
        };
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
    config: Config,
    paths: &Paths,
    metrics: &Metrics,
    synced: &Synced<'_>,
    controllers: &Controllers,
) -> Result<Infallible, End> {
    let mut pods = Pods::of(paths, metrics, controllers)?;
    let keep = Keep::of(RESOURCE, metrics, {
        let store = pods.store.clone();
        move || store.keep().map_err(End::write)
    });
    let api: Api<Watched> = Api::all_with(client, &ApiResource::erase::<Pod>(&()));
    let config = config.fields(&format!("spec.nodeName={node}"));
    let mut events = Watch::of(RESOURCE, api, config, metrics);
    let mut listed = BTreeMap::new();
    let mut look = Look::new();
    loop {
        let event = tokio::select! {
            biased;
            event = keep.while_waiting(events.next()) => event?,
            () = look.time() => {
                look.look(RESOURCE, metrics, &keep, &mut pods);
                continue;
            }
            () = pods.first_gone() => {
                if pods.forget()? {
                    keep.changed();
                }
                continue;
            }
        };
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(pod) => {
                let (uid, facts) = pods.read(pod);
                listed.insert(uid, facts);
            }
            Event::InitDone => {
                pods.replace_all(std::mem::take(&mut listed))?;
                synced.pods();
            }
            Event::Apply(pod) => {
                if pods.apply(pod)? {
                    keep.changed();
                }
            }
            Event::Delete(pod) => pods.delete(&pod.metadata.uid.unwrap_or_default())?,
        }
        metrics.pods.set(pods.with_facts());
    }
}

/// Why there are no facts of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Without {
    /// It says that it is the mirror of a static pod, which anybody can forge.
    Mirror,
    /// It cannot be read, and why.
    Unreadable(String),
}

type Read = Result<PodFacts, Without>;

struct Pods<'a> {
    store: Store,
    metrics: &'a Metrics,
    controllers: &'a Controllers,
    /// The pods of the API server, by UID.
    known: BTreeMap<String, Read>,
    /// Those of them whose facts have no file, because none can have them.
    without: BTreeSet<String>,
    gone: Gone,
    /// Whether the API server has named pods of this node. One that names none may be asked for another node's.
    has_named: bool,
}

impl<'a> Pods<'a> {
    fn of(paths: &Paths, metrics: &'a Metrics, controllers: &'a Controllers) -> Result<Self, End> {
        Ok(Self {
            store: Store::of(paths).map_err(End::write)?,
            metrics,
            controllers,
            known: BTreeMap::new(),
            without: BTreeSet::new(),
            gone: Gone::load(Source::Api, paths),
            has_named: false,
        })
    }

    /// How many pods have facts on the node.
    fn with_facts(&self) -> u64 {
        self.written().count() as u64
    }

    /// The facts that have a file.
    fn written(&self) -> impl Iterator<Item = &PodFacts> {
        let written = self.known.iter().filter(|(uid, _)| !self.without.contains(*uid));
        written.filter_map(|(_, read)| read.as_ref().ok())
    }

    /// The UID of a pod, and what is written of it.
    fn read(&self, pod: Watched) -> (String, Read) {
        let metadata = pod.metadata;
        let controller =
            metadata.owner_references.into_iter().flatten().find(|owner| owner.controller == Some(true));
        let uid = metadata.uid.unwrap_or_default();
        if let Some(controller) = &controller {
            self.controllers.borrow_mut().insert(uid.clone(), controller.uid.clone());
        }
        let about = About {
            name: metadata.name.unwrap_or_default(),
            namespace: metadata.namespace.unwrap_or_default(),
            uid: uid.clone(),
            labels: metadata.labels.unwrap_or_default(),
            annotations: metadata.annotations.unwrap_or_default(),
            controller: controller.map(|owner| (owner.kind, owner.name)),
        };
        let whose = format!("{}/{} ({uid})", about.namespace, about.name);
        let read = match pod.spec.0 {
            Ok(spec) => pods::Object::new(about, spec).facts().ok_or(Without::Mirror),
            Err(error) => Err(Without::Unreadable(error)),
        };
        // Said once.
        if let Err(Without::Unreadable(error)) = &read
            && self.known.get(&uid) != Some(&read)
        {
            self.unusable(&whose, error);
        }
        (uid, read)
    }

    /// Whoever makes pods can make one of which no facts can be written. It is then like an unknown pod; others are not held up.
    fn unusable(&self, pod: &str, error: &str) {
        self.metrics.unusable.inc();
        tracing::warn!(pod, error, "no facts can be written of a pod; the gate evaluates what it sees of it");
    }

    /// Writes what is new of one pod. Whether anything was.
    fn apply(&mut self, pod: Watched) -> Result<bool, End> {
        self.has_named = true;
        let (uid, read) = self.read(pod);
        // Every change of a status is an event, and changes nothing here.
        if self.known.get(&uid) == Some(&read) {
            return Ok(false);
        }
        let changed = match &read {
            Err(_) => false,
            Ok(facts) => self.put(facts)?,
        };
        self.gone.back(&uid)?;
        self.known.insert(uid, read);
        Ok(changed)
    }

    fn put(&mut self, facts: &PodFacts) -> Result<bool, End> {
        match self.store.put(facts) {
            Ok(changed) => {
                self.without.remove(&facts.uid);
                if changed {
                    tracing::info!(
                        namespace = facts.namespace,
                        pod = facts.name,
                        uid = facts.uid,
                        "wrote the facts of a pod"
                    );
                }
                Ok(changed)
            }
            // What was written of it before stays: it lacks an ephemeral container at most.
            Err(error @ (StoreError::TooLarge(_) | StoreError::Name(..) | StoreError::Uid(_))) => {
                self.unusable(&facts.whose().to_string(), &error.to_string());
                if !has_file(facts, &self.store.names(Source::Api).map_err(End::write)?) {
                    self.without.insert(facts.uid.clone());
                }
                Ok(false)
            }
            Err(error) => Err(End::write(error)),
        }
    }

    /// Writes a whole list. What it lacks is gone from now on.
    fn replace_all(&mut self, listed: BTreeMap<String, Read>) -> Result<(), End> {
        self.known = listed;
        self.without.clear();
        if self.known.is_empty() {
            // Nobody asks for the facts that stay. Without them a node whose agent is told another node's name would know nothing.
            tracing::info!("listed pods; this node has none, and what was known of others stays");
            return Ok(());
        }
        self.has_named = true;
        let files = self.store.names(Source::Api).map_err(End::write)?;
        let known = &self.known;
        self.gone.listed(&files, |uid| known.contains_key(uid))?;
        self.controllers.borrow_mut().retain(|uid, _| known.contains_key(uid) || files.contains(uid));
        let gone = self.gone.due();
        let mut all = Vec::new();
        for facts in self.known.values().flatten() {
            // One that can have no file must not keep the others from theirs.
            if facts.source == Source::Api && facts.file_name().is_some() {
                all.push(facts.clone());
            } else {
                self.unusable(&facts.whose().to_string(), "no pod of the API server is called that");
            }
        }
        let done = match self.store.replace_all(&all, Extent::Gone(&gone), Extent::Some) {
            // Mirror pods only.
            Err(StoreError::Empty) => pods::Changes::default(),
            Err(error) => return Err(End::write(error)),
            Ok([done, _]) => {
                self.gone.removed(&gone)?;
                done
            }
        };
        for pod in &done.too_large {
            self.unusable(pod, "the facts are larger than a file may be");
        }
        self.note_without()?;
        tracing::info!(
            pods = self.with_facts(),
            changed = done.changed,
            removed = done.removed,
            "listed pods"
        );
        Ok(())
    }

    /// Sees which pods have facts and no file.
    fn note_without(&mut self) -> Result<(), End> {
        let files = self.store.names(Source::Api).map_err(End::write)?;
        let lacks = |read: &Read| read.as_ref().is_ok_and(|facts| !has_file(facts, &files));
        let without = self.known.iter().filter(|(_, read)| lacks(read));
        self.without = without.map(|(uid, _)| uid.clone()).collect();
        Ok(())
    }

    /// Its object is gone; its facts stay for a while.
    fn delete(&mut self, uid: &str) -> Result<(), End> {
        self.without.remove(uid);
        match self.known.remove(uid) {
            Some(Ok(facts)) => {
                tracing::info!(
                    namespace = facts.namespace,
                    pod = facts.name,
                    uid,
                    "a pod is gone; its facts stay for some minutes"
                );
                self.gone.add(uid.to_owned())
            }
            _ => Ok(()),
        }
    }

    /// When the first facts go.
    async fn first_gone(&self) {
        if self.has_named { self.gone.first().await } else { std::future::pending().await }
    }

    /// Removes the facts whose time has come. Whether there were any.
    fn forget(&mut self) -> Result<bool, End> {
        let mut changed = false;
        let due = self.gone.due();
        for uid in &due {
            // What else is in the file of those that are gone is no name of ours.
            if self.store.remove(Source::Api, uid).or_else(not_ours).map_err(End::write)? {
                tracing::info!(uid, "removed the facts of a pod");
                changed = true;
            }
            self.controllers.borrow_mut().remove(uid);
        }
        self.gone.removed(&due)?;
        Ok(changed)
    }
}

impl Files for Pods<'_> {
    fn restore(&mut self) -> Result<usize, End> {
        let files = self.store.names(Source::Api).map_err(End::write)?;
        let missing: Vec<_> = self.written().filter(|facts| !has_file(facts, &files)).cloned().collect();
        if missing.is_empty() {
            return Ok(0);
        }
        // All at once: in a folder that has some of them, the others would be missing.
        let written = self.store.replace_all(&missing, Extent::Some, Extent::Some);
        let [done, _] = written.map_err(End::write)?;
        for pod in &done.too_large {
            self.unusable(pod, "older facts, which fitted a file, were removed");
        }
        self.note_without()?;
        Ok(done.changed)
    }

    fn uncopied(&self) -> Result<usize, End> {
        self.store.uncopied(Source::Api).map_err(End::write)
    }
}

/// Whether these facts, or older ones of the pod, are among the files.
fn has_file(facts: &PodFacts, files: &BTreeSet<String>) -> bool {
    facts.file_name().is_some_and(|name| files.contains(&name))
}

/// A name that no file of ours has is removed already.
pub(crate) fn not_ours(error: StoreError) -> Result<bool, StoreError> {
    if matches!(error, StoreError::Name(..)) { Ok(false) } else { Err(error) }
}

#[cfg(test)]
mod kills;
#[cfg(test)]
mod tests;
