//! Copies what was written for the next boot: once for many changes, and on a thread of its own, because it waits for the disk.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::metrics::Metrics;
use crate::watch::End;

/// How long after a change the copy is made; a burst of pods is one copy.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long after a copy that failed, or was not waited for, the next one is made.
const AGAIN: Duration = Duration::from_secs(20);

/// Makes the copy when something has changed.
pub(crate) struct Keep<'a, F> {
    resource: &'static str,
    metrics: &'a Metrics,
    copy: F,
    due: Cell<Option<Instant>>,
}

impl<'a, F> Keep<'a, F>
where
    F: Fn() -> Result<(), End> + Clone + Send + 'static,
{
    pub(crate) fn of(resource: &'static str, metrics: &'a Metrics, copy: F) -> Self {
        Self { resource, metrics, copy, due: Cell::new(None) }
    }

    /// The copy is no longer what was written.
    pub(crate) fn changed(&self) {
        let soon = Instant::now() + PATIENCE;
        self.due.set(Some(self.due.get().map_or(soon, |due| due.min(soon))));
    }

    /// Whether the copy is to be made, or made again.
    pub(crate) fn is_due(&self) -> bool {
        self.due.get().is_some()
    }

    /// Waits for something else, and copies meanwhile if it is time. A copy that fails is made again: the running node has
    /// everything.
    pub(crate) async fn while_waiting<T>(&self, other: impl Future<Output = T>) -> T {
        let mut other = std::pin::pin!(other);
        loop {
            let Some(due) = self.due.get() else { return other.await };
            tokio::select! {
                biased;
                done = &mut other => return done,
                () = sleep_until(due) => {
                    // What changes while it is copied, and a copy of which nobody hears, is copied again.
                    self.due.set(Some(Instant::now() + AGAIN));
                    let copied = tokio::task::spawn_blocking(self.copy.clone());
                    // Facts of pods do not wait for the disk.
                    tokio::select! {
                        biased;
                        done = &mut other => return done,
                        copied = copied => match copied {
                            Ok(Ok(())) => self.due.set(None),
                            Ok(Err(error)) => {
                                self.metrics.failed(self.resource);
                                tracing::error!(resource = self.resource, %error, "cannot keep them for the next boot");
                            }
                            Err(_) => {}
                        }
                    }
                }
            }
        }
    }
}
