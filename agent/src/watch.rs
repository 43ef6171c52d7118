//! What both watches have in common.

use std::cell::Cell;
use std::error::Error;
use std::fmt::Debug;
use std::pin::Pin;

use futures_util::{Stream, StreamExt as _};
use kube::core::Status;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Config, Event, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

use crate::metrics::Metrics;

/// How much is logged of what the API server says, in characters.
const LINE: usize = 1024;

/// Why a watch ended. It begins again with a whole list, so a change that was not written is not lost.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    /// The API server does not stream lists: before Kubernetes 1.32 none does, and the feature can be switched off.
    #[error("the API server does not stream lists")]
    Streaming,
    /// It says that there is no more to come.
    #[error("the watch is over")]
    Over,
    /// A list lacks what every cluster has.
    #[error("the list lacks {0:?}, which cannot be deleted, so it is incomplete; nothing was changed")]
    Incomplete(&'static str),
    /// A file could not be written.
    #[error("{0}")]
    Write(String),
}

impl End {
    pub(crate) fn write(error: impl Error + 'static) -> Self {
        Self::Write(causes(&error))
    }
}

/// The events of a watch. Errors, after which it goes on by itself, are logged, each once until it works again.
pub(crate) struct Watch<K> {
    resource: &'static str,
    events: Pin<Box<dyn Stream<Item = watcher::Result<Event<K>>> + Send>>,
    metrics: Metrics,
    /// The error that was logged last.
    last: String,
}

impl<K: Resource + Clone + DeserializeOwned + Debug + Send + 'static> Watch<K> {
    pub(crate) fn of(resource: &'static str, api: Api<K>, config: Config, metrics: &Metrics) -> Self {
        let events = Box::pin(watcher(api, config).default_backoff());
        Self { resource, events, metrics: metrics.clone(), last: String::new() }
    }
}

impl<K> Watch<K> {
    /// The next event. Whoever stops waiting for it loses none.
    pub(crate) async fn next(&mut self) -> Result<Event<K>, End> {
        loop {
            match self.events.next().await {
                None => return Err(End::Over),
                Some(Ok(Event::Init)) => {
                    self.metrics.restarted(self.resource);
                    return Ok(Event::Init);
                }
                Some(Ok(event)) => {
                    self.last.clear();
                    return Ok(event);
                }
                Some(Err(error)) => self.heed(&error)?,
            }
        }
    }

    fn heed(&mut self, error: &watcher::Error) -> Result<(), End> {
        if let watcher::Error::WatchStartFailed(kube::Error::Api(status)) = error
            // apimachinery validates `sendInitialEvents` (`pkg/apis/meta/internalversion/validation/validation.go`).
            && matches!(status.code, 400 | 422)
        {
            return Err(End::Streaming);
        }
        let text = causes(error);
        if self.last != text {
            tracing::warn!(resource = self.resource, error = text, "cannot watch; trying again");
            self.last = text;
        }
        Ok(())
    }
}

/// An error and its causes, in one line. What the API server says is its own cause: kube-rs repeats it at each level, with
/// Rust's names of the fields.
pub(crate) fn causes(error: &(dyn Error + 'static)) -> String {
    if let Some(status) = status(error) {
        return says(status);
    }
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        if let Some(status) = status(error) {
            return says(status);
        }
        let more = error.to_string();
        // Some errors repeat their cause.
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        next = error.source();
    }
    text
}

/// What an error is, if the API server said it.
fn status<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e Status> {
    let boxed = error.downcast_ref::<Box<Status>>().map(|status| &**status);
    boxed.or_else(|| error.downcast_ref())
}

/// The API server's own words, in one line.
pub(crate) fn says(status: &Status) -> String {
    let words = if status.message.trim().is_empty() { &status.reason } else { &status.message };
    let words: Vec<&str> = words.split_whitespace().collect();
    if words.is_empty() {
        return format!("status {}", status.code);
    }
    // A proxy may answer with a page.
    let line: String = words.join(" ").chars().take(LINE).collect();
    format!("{line} ({})", status.code)
}

/// Whether both lists were complete once.
pub(crate) struct Synced<'a> {
    metrics: &'a Metrics,
    namespaces: Cell<bool>,
    pods: Cell<bool>,
    changed: Notify,
}

impl<'a> Synced<'a> {
    pub(crate) fn new(metrics: &'a Metrics) -> Self {
        Self { metrics, namespaces: Cell::new(false), pods: Cell::new(false), changed: Notify::new() }
    }

    pub(crate) fn namespaces(&self) {
        self.namespaces.set(true);
        self.say();
    }

    pub(crate) fn pods(&self) {
        self.pods.set(true);
        self.say();
    }

    fn say(&self) {
        self.metrics.synced.set(u64::from(self.namespaces.get() && self.pods.get()));
        self.changed.notify_one();
    }

    /// Waits until a list was complete.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use kube::core::Status;
    use kube::runtime::watcher::Error;

    use super::causes;

    const FORBIDDEN: &str = r#"namespaces is forbidden: User "system:node:n" cannot list resource "namespaces" in API group "" at the cluster scope"#;

    #[test]
    fn what_the_api_server_says_is_said_once_and_for_people() {
        let api = |message: &str, reason: &str, code| {
            kube::Error::Api(Status::failure(message, reason).with_code(code).boxed())
        };
        let forbidden = format!("{FORBIDDEN} (403)");
        let gone = Status::failure("too old resource version", "Expired").with_code(410);
        let rows: [(Error, &str); 6] = [
            (Error::InitialListFailed(api(FORBIDDEN, "Forbidden", 403)), &forbidden),
            (Error::WatchStartFailed(api(FORBIDDEN, "Forbidden", 403)), &forbidden),
            (Error::WatchFailed(api("Unauthorized", "Unauthorized", 401)), "Unauthorized (401)"),
            (Error::WatchFailed(api(" ", "Unauthorized", 401)), "Unauthorized (401)"),
            (Error::WatchError(gone.boxed()), "too old resource version (410)"),
            (Error::WatchFailed(api("<html>\n  bad\n", "x", 502)), "<html> bad (502)"),
        ];
        for (error, expected) in rows {
            assert_eq!(causes(&error), expected);
        }
        assert_eq!(causes(&api(&"x".repeat(1 << 20), "", 500)).len(), 1024 + " (500)".len());
        let other = Error::WatchFailed(kube::Error::ReadEvents(io::Error::other("reset")));
        assert_eq!(causes(&other), "watch stream failed: Error reading events stream: reset");
    }
}
