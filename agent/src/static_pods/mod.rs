//! Static pods: their manifests become `static/<namespace>_<name>.json`. They need no API server, which does not even know those
//! that it would refuse; and no mirror pod is believed, because anybody can forge one.
//!
//! The gate matches these facts by namespace and name, and they only add denials. So facts of a pod that is gone do no harm:
//! nobody else has its name.

mod changes;
mod folder;
mod manifest;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use pss_guard_core::paths::Paths;
use pss_guard_core::pods::{Source, Store, StoreError};
use tokio::time::{Instant, sleep, sleep_until};

use crate::gone::Gone;
use crate::keep::Keep;
use crate::metrics::Metrics;
use crate::options::Run;
use crate::pods::not_ours;
use crate::watch::End;
use changes::Changes;
use folder::{Manifests, Place};

/// What messages and metrics call them.
const RESOURCE: &str = "static";

/// How often everything is read again, for what the kernel does not tell: as often as the kubelet does
/// (`fileCheckFrequency`).
const EVERY: Duration = Duration::from_secs(20);

/// How long to wait for more changes. The kubelet takes half a second to the sandbox.
const PATIENCE: Duration = Duration::from_millis(50);

/// Writes the facts of static pods, for ever.
pub(crate) async fn watch(options: &Run, paths: &Paths, metrics: &Metrics) -> Infallible {
    let Some(place) = Place::of(options) else {
        tracing::info!("static pods are not read: neither --static-pods nor --kubelet-config is given");
        return std::future::pending().await;
    };
    loop {
        let end = match follow(&place, options, paths, metrics).await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        metrics.failed(RESOURCE);
        tracing::error!(resource = RESOURCE, error = %end, "cannot write; trying again");
        sleep(EVERY).await;
    }
}

async fn follow(place: &Place, options: &Run, paths: &Paths, metrics: &Metrics) -> Result<Infallible, End> {
    let mut pods = StaticPods::of(paths, metrics)?;
    let keep = Keep::of(RESOURCE, metrics, {
        let store = pods.store.clone();
        move || store.keep().map_err(End::write)
    });
    loop {
        let next = Instant::now() + EVERY;
        let found = place.find(&options.root);
        // Before it is read: what changes meanwhile is seen.
        let changes = found.iter().flatten().next().and_then(|place| Changes::of(place).ok());
        let manifests = read(found, options.node_name.clone()).await;
        if pods.take(manifests)? {
            keep.changed();
        }
        let wait = async {
            tokio::select! {
                () = Changes::any(changes.as_ref()) => sleep(PATIENCE).await,
                () = sleep_until(next) => {}
            }
        };
        keep.while_waiting(wait).await;
    }
}

/// On a thread of its own: the disk may be slow, and pods of the API do not wait for it.
async fn read(found: Result<Option<PathBuf>, String>, node: String) -> Manifests {
    match found {
        Err(fault) => Manifests { faults: vec![fault], ..Manifests::default() },
        Ok(None) => Manifests { is_whole: true, ..Manifests::default() },
        Ok(Some(place)) => {
            tokio::task::spawn_blocking(move || folder::read(&place, &node)).await.unwrap_or_default()
        }
    }
}

struct StaticPods<'a> {
    store: Store,
    metrics: &'a Metrics,
    gone: Gone,
    /// The faults that were logged.
    said: BTreeSet<String>,
}

impl<'a> StaticPods<'a> {
    fn of(paths: &Paths, metrics: &'a Metrics) -> Result<Self, End> {
        Ok(Self {
            store: Store::of(paths).map_err(End::write)?,
            metrics,
            gone: Gone::load(Source::Static, paths),
            said: BTreeSet::new(),
        })
    }

    /// Writes what is new in the folder. Whether anything was.
    fn take(&mut self, read: Manifests) -> Result<bool, End> {
        let Manifests { pods, mut faults, is_whole } = read;
        let mut changed = false;
        for (name, facts) in &pods {
            match self.store.put(facts) {
                Ok(false) => {}
                Ok(true) => {
                    changed = true;
                    tracing::info!(
                        namespace = facts.namespace,
                        pod = facts.name,
                        "wrote the facts of a static pod"
                    );
                }
                Err(error @ StoreError::TooLarge(_)) => faults.push(error.to_string()),
                Err(error) => return Err(End::write(error)),
            }
            self.gone.back(name)?;
        }
        // As with lists of the API server: what is read in part, or not at all, says nothing of the rest.
        if is_whole && !pods.is_empty() {
            let files = self.store.names(Source::Static).map_err(End::write)?;
            self.gone.listed(&files, |name| pods.contains_key(name))?;
            let due = self.gone.due();
            for name in &due {
                changed |= self.store.remove(Source::Static, name).or_else(not_ours).map_err(End::write)?;
                tracing::info!(file = name, "removed the facts of a static pod");
            }
            self.gone.removed(&due)?;
        }
        self.say(faults);
        self.metrics.static_pods.set(pods.len() as u64);
        Ok(changed)
    }

    /// Logs each fault once, until it is another one.
    fn say(&mut self, faults: Vec<String>) {
        for fault in faults.iter().filter(|fault| !self.said.contains(*fault)) {
            self.metrics.unusable.inc();
            tracing::warn!(
                fault,
                "cannot read a manifest of a static pod; the gate evaluates what it sees of it"
            );
        }
        self.said = faults.into_iter().collect();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use pss_guard_core::agent;
    use pss_guard_core::paths::Paths;
    use pss_guard_core::pods::{Found, Source, Whose, read};

    use super::{Manifests, StaticPods, folder};
    use crate::metrics::Metrics;
    use crate::testing;

    fn pod(name: &str, spec: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: kube-system}}\nspec: {{{spec}containers: [{{name: a}}]}}\n"
        )
    }

    #[test]
    fn the_gate_finds_the_facts_of_a_manifest_by_the_kubelets_names() {
        if !testing::root("the_gate_finds_the_facts_of_a_manifest_by_the_kubelets_names") {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let (paths, metrics) = (Paths::under(folder.path()), Metrics::new());
        let place = folder.path().join("manifests");
        fs::create_dir(&place).unwrap();
        let write = |name: &str, text: &str| fs::write(place.join(name), text).unwrap();
        let take = |pods: &mut StaticPods<'_>| pods.take(folder::read(&place, "node-1")).unwrap();
        let found = |name: &str| {
            let whose = Whose { uid: "d41d8cd98f00b204e9800998ecf8427e", namespace: "kube-system", name };
            match read(&paths.told(), whose).unwrap() {
                Found::Facts(facts) => {
                    assert_eq!(facts.0.workload(), None, "they lift nothing");
                    Some(facts.1.spec.host_network)
                }
                Found::Missing | Found::NoFolder => None,
            }
        };
        write("etcd.yaml", &pod("etcd", "hostNetwork: true, "));
        write("dns.yaml", &pod("dns", ""));
        let mut pods = StaticPods::of(&paths, &metrics).unwrap();
        assert!(take(&mut pods) && !take(&mut pods));
        assert_eq!(
            (found("etcd-node-1"), found("dns-node-1"), found("etcd")),
            (Some(true), Some(false), None)
        );
        pods.store.keep().unwrap();
        assert!(folder.path().join("var/lib/pss-guard/static/kube-system_etcd-node-1.json").exists());

        // A manifest that changes, one that goes, and one that is half written meanwhile.
        write("etcd.yaml", &pod("etcd", ""));
        fs::remove_file(place.join("dns.yaml")).unwrap();
        write("half.yaml", "apiVersion: v1\nkind: [");
        assert!(take(&mut pods));
        assert_eq!(found("etcd-node-1"), Some(false));
        let gone = || agent::gone(&paths, Source::Static);
        assert!(gone().is_empty(), "a reading of a part begins no clock");
        fs::remove_file(place.join("half.yaml")).unwrap();
        take(&mut pods);
        assert_eq!(gone().into_keys().collect::<Vec<_>>(), ["kube-system_dns-node-1"]);
        assert_eq!(found("dns-node-1"), Some(false));
        // Another agent, five minutes later. What is in that file and no name of ours leads nowhere.
        let past = gone().into_keys().chain(["../agent/agent".to_owned()]).map(|name| (name, 0)).collect();
        agent::put_gone(&paths, Source::Static, &past).unwrap();
        assert!(take(&mut StaticPods::of(&paths, &metrics).unwrap()));
        assert_eq!((found("etcd-node-1"), found("dns-node-1")), (Some(false), None));
        assert_eq!(metrics.static_pods.get(), 1);
        assert_eq!(metrics.unusable.get(), 1);
    }

    #[test]
    fn no_folder_and_an_empty_one_remove_nothing() {
        if !testing::root("no_folder_and_an_empty_one_remove_nothing") {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let (paths, metrics) = (Paths::under(folder.path()), Metrics::new());
        let place = folder.path().join("etcd.yaml");
        fs::write(&place, pod("etcd", "")).unwrap();
        StaticPods::of(&paths, &metrics).unwrap().take(folder::read(&place, "node-1")).unwrap();
        let file = folder.path().join("run/pss-guard/static/kube-system_etcd-node-1.json");
        agent::put_gone(&paths, Source::Static, &[("kube-system_etcd-node-1".to_owned(), 0)].into()).unwrap();
        let empty = tempfile::tempdir().unwrap();
        for read in [
            folder::read(empty.path(), "node-1"),
            folder::read(Path::new("/nowhere/at/all"), "node-1"),
            Manifests { is_whole: true, ..Manifests::default() },
        ] {
            StaticPods::of(&paths, &metrics).unwrap().take(read).unwrap();
            assert!(file.exists());
        }
    }
}
