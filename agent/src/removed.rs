//! Rewrites files that are deleted while the agent runs: the API server reports no change then, and without the files the gate knows
//! less than the agent says.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::keep::Keep;
use crate::metrics::Metrics;
use crate::spread::about;
use crate::watch::End;

/// About how often the names of the files are looked at.
const EVERY: Duration = Duration::from_secs(60);

/// A folder of files, and its copy for the next boot.
pub(crate) trait Files {
    /// Writes again what is missing. How many files that were.
    fn restore(&mut self) -> Result<usize, End>;

    /// How many files the copy lacks.
    fn uncopied(&self) -> Result<usize, End>;
}

/// When the files are looked at next.
pub(crate) struct Look(Instant);

impl Look {
    pub(crate) fn new() -> Self {
        Self(Instant::now() + about(EVERY))
    }

    /// Waits until it is time. Whoever stops waiting misses nothing.
    pub(crate) async fn time(&self) {
        sleep_until(self.0).await;
    }

    /// Has everything written again that is missing. What fails is tried again the next time: no watch begins again for it.
    pub(crate) fn look<F>(
        &mut self,
        resource: &'static str,
        metrics: &Metrics,
        keep: &Keep<'_, F>,
        files: &mut impl Files,
    ) where
        F: Fn() -> Result<(), End> + Clone + Send + 'static,
    {
        *self = Self::new();
        // A copy that is not made yet lacks files by right.
        let copies = if keep.is_due() { Ok(0) } else { files.uncopied() };
        match copies.and_then(|copies| Ok((files.restore()?, copies))) {
            Ok((0, 0)) => {}
            Ok((files, copies)) => {
                tracing::warn!(
                    resource,
                    files,
                    copies,
                    "files that the agent wrote are missing; rewriting them"
                );
                keep.changed();
            }
            Err(error) => {
                metrics.failed(resource);
                tracing::error!(resource, %error, "cannot rewrite missing files; trying again later");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use super::{Files, Look};
    use crate::keep::Keep;
    use crate::metrics::Metrics;
    use crate::watch::End;

    /// How many files are missing, and how many copies.
    struct Missing(Option<usize>, usize);

    impl Files for Missing {
        fn restore(&mut self) -> Result<usize, End> {
            self.0.ok_or(End::Over)
        }

        fn uncopied(&self) -> Result<usize, End> {
            Ok(self.1)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_copy_is_made_again_if_anything_was_missing_and_nothing_else_happens() {
        let metrics = Metrics::new();
        let keep = Keep::of("pods", &metrics, || Ok(()));
        let mut look = Look::new();
        for (missing, expected) in [
            (Missing(Some(0), 0), false),
            (Missing(None, 1), false),
            (Missing(Some(0), 1), true),
            (Missing(Some(1), 0), true),
        ] {
            let before = Instant::now();
            look.time().await;
            assert!((30..90).contains(&before.elapsed().as_secs()), "{:?}", before.elapsed());
            look.look("pods", &metrics, &keep, &mut { missing });
            assert_eq!(keep.is_due(), expected);
            keep.while_waiting(sleep(Duration::from_secs(10))).await;
            assert!(!keep.is_due());
        }
    }
}
