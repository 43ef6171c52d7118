//! What both watches have in common.

use std::cell::Cell;
use std::error::Error;

use kube::runtime::watcher;
use tokio::sync::Notify;

use crate::metrics::Metrics;

/// Why a watch ended. It begins again with a whole list, so a change that was not written is not lost.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    /// The API server does not stream lists: before Kubernetes 1.32 none does, and the feature can be switched off.
    #[error("the API server does not stream lists")]
    Streaming,
    /// A file could not be written.
    #[error("{0}")]
    Write(String),
}

impl End {
    pub(crate) fn write(error: impl Error) -> Self {
        Self::Write(causes(&error))
    }
}

/// What to do about an error of a watch, which goes on by itself, after a while: it is logged, once until another one comes.
pub(crate) fn heed(resource: &'static str, error: &watcher::Error, last: &mut String) -> Result<(), End> {
    if let watcher::Error::WatchStartFailed(kube::Error::Api(status)) = error
        // apimachinery validates `sendInitialEvents` (`pkg/apis/meta/internalversion/validation/validation.go`).
        && matches!(status.code, 400 | 422)
    {
        return Err(End::Streaming);
    }
    let text = causes(error);
    if *last != text {
        tracing::warn!(resource, error = text, "cannot watch; trying again");
        *last = text;
    }
    Ok(())
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
