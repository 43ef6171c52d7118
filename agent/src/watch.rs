//! What both watches have in common.

use std::cell::Cell;
use std::error::Error;
use std::fmt::Debug;
use std::pin::Pin;

use futures_util::{Stream, StreamExt as _};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Config, Event, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

use crate::metrics::Metrics;

/// Why a watch ended. It begins again with a whole list, so a change that was not written is not lost.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    /// The API server does not stream lists: before Kubernetes 1.32 none does, and the feature can be switched off.
    #[error("the API server does not stream lists")]
    Streaming,
    /// It says that there is no more to come.
    #[error("the watch is over")]
    Over,
    /// A file could not be written.
    #[error("{0}")]
    Write(String),
}

impl End {
    pub(crate) fn write(error: impl Error) -> Self {
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

/// An error and its causes, in one line.
pub(crate) fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let more = error.to_string();
        // Some errors repeat their cause.
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        next = error.source();
    }
    text
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
