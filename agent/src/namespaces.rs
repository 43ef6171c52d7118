//! Namespaces: what their labels ask for becomes `namespaces/<name>.json`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::convert::Infallible;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::PartialObjectMeta;
use kube::runtime::watcher::{Config, Event};
use kube::{Api, Client};
use pss_guard_core::level::Labels;
use pss_guard_core::level::namespaces::{IMMORTAL, Store};
use pss_guard_core::paths::Paths;

use crate::keep::Keep;
use crate::metrics::Metrics;
use crate::removed::{Files, Look};
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
    let mut namespaces = Namespaces::of(paths)?;
    let keep = Keep::of(RESOURCE, metrics, {
        let store = namespaces.store.clone();
        move || store.keep().map_err(End::write)
    });
    // Metadata only: the API server sends nothing else.
    let api: Api<PartialObjectMeta<Namespace>> = Api::all(client);
    let mut events = Watch::of(RESOURCE, api, config, metrics);
    let mut listed = BTreeMap::new();
    let mut look = Look::new();
    loop {
        let event = tokio::select! {
            biased;
            event = keep.while_waiting(events.next()) => event?,
            () = look.time() => {
                look.look(RESOURCE, metrics, &keep, &mut namespaces);
                continue;
            }
        };
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(namespace) => {
                let (name, labels) = of(&namespace);
                listed.insert(name, labels);
            }
            Event::InitDone => {
                namespaces.replace_all(std::mem::take(&mut listed))?;
                synced.namespaces();
            }
            Event::Apply(namespace) => {
                let (name, labels) = of(&namespace);
                if namespaces.apply(name, labels)? {
                    keep.changed();
                }
            }
            Event::Delete(namespace) => {
                let (name, _) = of(&namespace);
                if namespaces.delete(&name)? {
                    keep.changed();
                }
            }
        }
        metrics.namespaces.set(namespaces.known.len() as u64);
    }
}

struct Namespaces {
    store: Store,
    /// Those of the API server, and what their labels ask for.
    known: BTreeMap<String, Labels<'static>>,
}

impl Namespaces {
    fn of(paths: &Paths) -> Result<Self, End> {
        Ok(Self { store: Store::of(paths).map_err(End::write)?, known: BTreeMap::new() })
    }

    /// Writes a whole list, and removes what it lacks. The API server has three at least: a list without them is refused, also by a
    /// node that does not know them yet.
    fn replace_all(&mut self, all: BTreeMap<String, Labels<'static>>) -> Result<(), End> {
        if let Some(name) = IMMORTAL.into_iter().find(|name| !all.contains_key(*name)) {
            return Err(End::Incomplete(name));
        }
        let [changed, removed] = self.store.replace_all(&all).map_err(End::write)?;
        self.known = all;
        tracing::info!(namespaces = self.known.len(), changed, removed, "listed namespaces");
        Ok(())
    }

    /// Writes what is new of one. Whether anything was.
    fn apply(&mut self, name: String, labels: Labels<'static>) -> Result<bool, End> {
        let changed = self.store.put(&name, &labels).map_err(End::write)?;
        if changed {
            tracing::info!(namespace = name, "wrote the levels of a namespace");
        }
        self.known.insert(name, labels);
        Ok(changed)
    }

    /// Removes one that is gone. Whether it was there.
    fn delete(&mut self, name: &str) -> Result<bool, End> {
        if IMMORTAL.contains(&name) {
            tracing::warn!(
                namespace = name,
                "told that a namespace is gone that cannot be deleted; it stays"
            );
            return Ok(false);
        }
        let changed = self.store.remove(name).map_err(End::write)?;
        if changed {
            tracing::info!(namespace = name, "removed a namespace that is gone");
        }
        self.known.remove(name);
        Ok(changed)
    }
}

impl Files for Namespaces {
    fn restore(&mut self) -> Result<usize, End> {
        let files = self.store.names().map_err(End::write)?;
        let missing: Vec<_> = self.known.iter().filter(|(name, _)| !files.contains(*name)).collect();
        if !missing.is_empty() && files.is_empty() {
            // The folder is made with all of them in it: with some, the others would be unknown.
            self.store.replace_all(&self.known).map_err(End::write)?;
            return Ok(missing.len());
        }
        for (name, labels) in &missing {
            self.store.put(name, labels).map_err(End::write)?;
        }
        Ok(missing.len())
    }

    fn uncopied(&self) -> Result<usize, End> {
        self.store.uncopied().map_err(End::write)
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

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::path::Path;
    use std::time::Duration;

    use kube::Client;
    use kube::runtime::watcher::Config;
    use pss_guard_core::level::{Labels, namespaces};
    use pss_guard_core::paths::Paths;
    use serde_json::json;

    use super::{IMMORTAL, Namespaces, watch};
    use crate::metrics::Metrics;
    use crate::removed::Files as _;
    use crate::testing;
    use crate::watch::{End, Synced};

    const ALL: [&str; 4] = ["default", "kube-public", "kube-system", "shop"];

    fn labels() -> Labels<'static> {
        let mut labels = Labels::default();
        labels.set("pod-security.kubernetes.io/enforce", "baseline".into());
        labels
    }

    fn list(names: &[&str]) -> BTreeMap<String, Labels<'static>> {
        names.iter().map(|name| ((*name).to_owned(), labels())).collect()
    }

    fn files(root: &Path) -> BTreeSet<String> {
        namespaces::names(&root.join("run/pss-guard/namespaces")).unwrap()
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_list_that_lacks_what_every_cluster_has_changes_nothing_on_any_node() {
        if !testing::root("a_list_that_lacks_what_every_cluster_has_changes_nothing_on_any_node") {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::under(folder.path());
        for known in [&[] as &[&str], &ALL] {
            for immortal in IMMORTAL {
                let without: Vec<&str> = ALL.into_iter().filter(|name| *name != immortal).collect();
                let refused = Namespaces::of(&paths).unwrap().replace_all(list(&without));
                assert!(matches!(refused, Err(End::Incomplete(name)) if name == immortal), "{refused:?}");
            }
            assert!(matches!(
                Namespaces::of(&paths).unwrap().replace_all(BTreeMap::new()),
                Err(End::Incomplete(_))
            ));
            assert_eq!(files(folder.path()), set(known));
            Namespaces::of(&paths).unwrap().replace_all(list(&ALL)).unwrap();
        }
    }

    #[test]
    fn what_cannot_be_deleted_stays_and_what_can_goes() {
        if !testing::root("what_cannot_be_deleted_stays_and_what_can_goes") {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let mut namespaces = Namespaces::of(&Paths::under(folder.path())).unwrap();
        namespaces.replace_all(list(&ALL)).unwrap();
        for name in IMMORTAL {
            assert!(!namespaces.delete(name).unwrap());
        }
        assert_eq!((files(folder.path()), namespaces.known.len()), (set(&ALL), 4));
        assert!(namespaces.delete("shop").unwrap() && !namespaces.delete("shop").unwrap());
        assert_eq!((files(folder.path()), namespaces.known.len()), (set(&IMMORTAL), 3));
        assert!(namespaces.apply("shop".to_owned(), labels()).unwrap());
        assert!(!namespaces.apply("shop".to_owned(), labels()).unwrap());
        assert_eq!((files(folder.path()), namespaces.known.len()), (set(&ALL), 4));
    }

    #[test]
    fn what_somebody_removes_is_written_again_and_nothing_before_the_first_list() {
        if !testing::root("what_somebody_removes_is_written_again_and_nothing_before_the_first_list") {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let (root, paths) = (folder.path(), Paths::under(folder.path()));
        let live = root.join("run/pss-guard/namespaces");
        let mut namespaces = Namespaces::of(&paths).unwrap();
        assert_eq!(namespaces.restore().unwrap(), 0);
        namespaces.replace_all(list(&ALL)).unwrap();
        namespaces.apply("late".to_owned(), labels()).unwrap();
        namespaces.apply("gone".to_owned(), labels()).unwrap();
        namespaces.delete("gone").unwrap();
        assert_eq!((namespaces.restore().unwrap(), namespaces.uncopied().unwrap()), (0, 1));
        namespaces.store.keep().unwrap();
        let all = [&ALL as &[&str], &["late"]].concat();
        let contents = || all.iter().map(|name| fs::read(live.join(name).with_extension("json")).unwrap());
        let before: Vec<_> = contents().collect();

        // Some of them: what others have put there stays, and so does the folder's time, which is that of the last list.
        fs::write(live.join("other.json"), "{}\n").unwrap();
        for name in ["default", "late"] {
            fs::remove_file(live.join(name).with_extension("json")).unwrap();
        }
        let time = || fs::metadata(&live).unwrap().modified().unwrap();
        let last = time();
        assert_eq!((namespaces.restore().unwrap(), time()), (2, last));
        assert!(files(root).contains("other") && contents().eq(before.clone()));

        // All that is in the folder, the folder, and all folders.
        for removed in [live.join("*"), live.clone(), root.join("run/pss-guard")] {
            if removed == live.join("*") {
                for entry in fs::read_dir(&live).unwrap() {
                    fs::remove_file(entry.unwrap().path()).unwrap();
                }
            } else {
                fs::remove_dir_all(&removed).unwrap();
            }
            assert_eq!(namespaces.restore().unwrap(), all.len(), "{}", removed.display());
            assert_eq!((files(root), namespaces.restore().unwrap()), (set(&all), 0));
            assert!(contents().eq(before.clone()));
        }

        // The copy for the next boot.
        assert_eq!(namespaces.uncopied().unwrap(), 0);
        fs::remove_dir_all(root.join("var/lib/pss-guard/namespaces")).unwrap();
        assert_eq!((namespaces.restore().unwrap(), namespaces.uncopied().unwrap()), (0, all.len()));
        namespaces.store.keep().unwrap();
        assert_eq!(namespaces.uncopied().unwrap(), 0);
    }

    #[tokio::test]
    async fn a_watch_in_which_nothing_happens_writes_again_what_somebody_removes() {
        if !testing::root("a_watch_in_which_nothing_happens_writes_again_what_somebody_removes") {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let (paths, metrics) = (Paths::under(folder.path()), Metrics::new());
        let objects =
            ALL.map(|name| json!({"kind": "Namespace", "metadata": {"name": name, "resourceVersion": "7"}}));
        let server = testing::Server::watched(&objects);
        let client = Client::try_from(kube::Config::new(server.address.parse().unwrap())).unwrap();
        let synced = Synced::new(&metrics);
        let config = Config::default().any_semantic().streaming_lists();
        let watch = watch(client, config, &paths, &metrics, &synced);
        let removed = async {
            synced.changed().await;
            assert_eq!(files(folder.path()), set(&ALL));
            for place in ["run", "var/lib"] {
                fs::remove_dir_all(folder.path().join(place).join("pss-guard")).unwrap();
            }
            // From here on time passes as soon as nothing else happens.
            tokio::time::pause();
            tokio::time::sleep(Duration::from_secs(100)).await;
        };
        tokio::select! {
            end = watch => panic!("{end:?}"),
            () = removed => {}
        }
        assert_eq!(files(folder.path()), set(&ALL));
        assert_eq!(namespaces::names(&paths.kept_namespaces()).unwrap(), set(&ALL));
    }
}
