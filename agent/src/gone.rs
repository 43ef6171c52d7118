//! Facts outlive the object of their pod by some minutes. Whoever deletes by force does not wait for its containers, and these
//! may start again while they end.
//!
//! Since when a pod is gone is kept on the disk: neither a new connection nor a new process may forget it, or begin again. A
//! file's own time would not do, as it says when the facts were written.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pss_guard_core::agent;
use pss_guard_core::paths::Paths;
use pss_guard_core::pods::Source;

use crate::watch::End;

/// How long the facts stay, in seconds.
const STAY: u64 = 300;

/// The pods of one source that are gone, by the names of their files without `.json`, and since when.
pub(crate) struct Gone {
    source: Source,
    paths: Paths,
    since: BTreeMap<String, u64>,
}

impl Gone {
    /// What an earlier watch, or an earlier agent, knew.
    pub(crate) fn load(source: Source, paths: &Paths) -> Self {
        Self { source, paths: paths.clone(), since: agent::gone(paths, source) }
    }

    /// A pod is gone from now on.
    pub(crate) fn add(&mut self, name: String) -> Result<(), End> {
        self.since.entry(name).or_insert_with(now);
        self.save()
    }

    /// A pod is there. It may have been gone: a cluster can be restored to what it was.
    pub(crate) fn back(&mut self, name: &str) -> Result<(), End> {
        if self.since.remove(name).is_some() { self.save() } else { Ok(()) }
    }

    /// A whole list: of what there are files of, everything else is gone.
    pub(crate) fn listed(
        &mut self,
        files: &BTreeSet<String>,
        is_listed: impl Fn(&str) -> bool,
    ) -> Result<(), End> {
        let now = now();
        let gone = files.iter().filter(|name| !is_listed(name));
        // A time that is still to come is now: clocks are set.
        let since = |name: &String| self.since.get(name).map_or(now, |since| now.min(*since));
        self.since = gone.map(|name| (name.clone(), since(name))).collect();
        self.save()
    }

    /// Those whose facts go now.
    pub(crate) fn due(&self) -> BTreeSet<String> {
        let now = now();
        let is_due = |since: &u64| since.saturating_add(STAY) <= now;
        self.since.iter().filter(|(_, since)| is_due(since)).map(|(name, _)| name.clone()).collect()
    }

    /// The facts of these were removed.
    pub(crate) fn removed(&mut self, names: &BTreeSet<String>) -> Result<(), End> {
        self.since.retain(|name, _| !names.contains(name));
        self.save()
    }

    /// Waits until the first ones are due.
    pub(crate) async fn first(&self) {
        match self.since.values().min() {
            Some(since) => {
                let left = since.saturating_add(STAY).saturating_sub(now()).min(STAY);
                tokio::time::sleep(Duration::from_secs(left)).await;
            }
            None => std::future::pending().await,
        }
    }

    fn save(&self) -> Result<(), End> {
        agent::put_gone(&self.paths, self.source, &self.since).map(drop).map_err(End::write)
    }
}

/// In seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use pss_guard_core::agent;
    use pss_guard_core::paths::Paths;
    use pss_guard_core::pods::Source;

    use super::{Gone, STAY, now};
    use crate::testing;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_pod_is_gone_for_five_minutes_whoever_asks() {
        if !testing::root("a_pod_is_gone_for_five_minutes_whoever_asks") {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::under(folder.path());
        let gone = || Gone::load(Source::Api, &paths);
        let files = names(&["a", "b", "c"]);
        gone().listed(&files, |name| name == "a").unwrap();
        assert!(gone().due().is_empty());
        // Four minutes later it is the same time since which they are gone.
        let long = |seconds: u64| {
            let since = agent::gone(&paths, Source::Api).into_keys().map(|name| (name, now() - seconds));
            agent::put_gone(&paths, Source::Api, &since.collect()).unwrap();
        };
        long(STAY - 60);
        let mut again = gone();
        again.listed(&files, |name| name == "a").unwrap();
        again.add("b".to_owned()).unwrap();
        assert!(gone().due().is_empty());
        let since = agent::gone(&paths, Source::Api);
        assert!(since.values().all(|since| *since <= now() - (STAY - 60)), "{since:?}");
        long(STAY);
        assert_eq!(gone().due(), names(&["b", "c"]));
        // One that is there again is not gone, and of one without a file nothing need be removed.
        gone().back("c").unwrap();
        assert_eq!(gone().due(), names(&["b"]));
        let mut last = gone();
        last.removed(&names(&["b"])).unwrap();
        assert!(gone().due().is_empty());
        gone().add("d".to_owned()).unwrap();
        gone().listed(&files, |_| true).unwrap();
        assert!(agent::gone(&paths, Source::Api).is_empty());
    }

    #[test]
    fn a_clock_that_was_set_back_keeps_nothing_for_ever() {
        if !testing::root("a_clock_that_was_set_back_keeps_nothing_for_ever") {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::under(folder.path());
        let later = [("a".to_owned(), now() + 1_000_000)].into();
        agent::put_gone(&paths, Source::Api, &later).unwrap();
        Gone::load(Source::Api, &paths).listed(&names(&["a"]), |_| false).unwrap();
        assert!(agent::gone(&paths, Source::Api)["a"] <= now());
    }
}
