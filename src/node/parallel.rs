//! Runs independent work items in parallel, on as many threads as there are processors.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

/// So many are worth a thread of their own.
const WORTH: usize = 64;

/// Beyond this, threads wait for the kernel and for each other.
const MOST: usize = 4;

/// What is left to do, for one of those who do it: nothing is handed out twice.
pub(crate) struct Share<'t, 'n, T> {
    items: &'t [T],
    next: &'n AtomicUsize,
}

impl<T> Share<'_, '_, T> {
    /// How many were handed out so far, to all together.
    pub(crate) fn taken(&self) -> usize {
        self.next.load(Ordering::Relaxed).min(self.items.len())
    }
}

impl<'t, T> Iterator for Share<'t, '_, T> {
    type Item = &'t T;

    fn next(&mut self) -> Option<&'t T> {
        self.items.get(self.next.fetch_add(1, Ordering::Relaxed))
    }
}

/// What comes of every item of which something comes, in any order.
pub(crate) fn each<'t, T: Sync, R: Send>(items: &'t [T], work: impl Fn(&'t T) -> Option<R> + Sync) -> Vec<R> {
    let all = |share: Share<'t, '_, T>| share.filter_map(&work).collect();
    share(items, all, all)
}

/// The same where those who work have something of their own for all of their items: helpers in threads, and this one.
/// Where one of them fails, all do: what it had is lost.
pub(crate) fn share<'t, T: Sync, R: Send>(
    items: &'t [T],
    help: impl Fn(Share<'t, '_, T>) -> Vec<R> + Sync,
    own: impl FnOnce(Share<'t, '_, T>) -> Vec<R>,
) -> Vec<R> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    among(processors.min(MOST).min(items.len() / WORTH + 1), items, help, own)
}

fn among<'t, T: Sync, R: Send>(
    all: usize,
    items: &'t [T],
    help: impl Fn(Share<'t, '_, T>) -> Vec<R> + Sync,
    own: impl FnOnce(Share<'t, '_, T>) -> Vec<R>,
) -> Vec<R> {
    let next = &AtomicUsize::new(0);
    let help = &help;
    std::thread::scope(|scope| {
        let helpers: Vec<_> = (1..all).map(|_| scope.spawn(move || help(Share { items, next }))).collect();
        let mut done = own(Share { items, next });
        for helper in helpers {
            done.extend(helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        done
    })
}

/// What comes of every item of which something comes within a time, and how many are left. Where one takes longer, another
/// thread goes on with the next, so often and no more; who waits for ever ends with the program.
pub(crate) fn in_time<T: Send + 'static, R: Send + 'static>(
    items: Vec<T>,
    patience: Duration,
    most: usize,
    work: impl Fn(T) -> Option<R> + Send + Sync + 'static,
) -> (Vec<R>, usize) {
    let mut left = items.len();
    let queue = Arc::new(Mutex::new(items.into_iter()));
    let work = Arc::new(work);
    let (sender, receiver) = mpsc::channel();
    let start = || {
        let (queue, work, sender) = (Arc::clone(&queue), Arc::clone(&work), sender.clone());
        let next = move || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        let all = move || while next().is_some_and(|item| sender.send(work(item)).is_ok()) {};
        std::thread::Builder::new().spawn(all).is_ok()
    };
    let (mut done, mut waits) = (Vec::new(), 0);
    let mut goes_on = left > 0 && start();
    while goes_on && left > waits {
        if let Ok(result) = receiver.recv_timeout(patience) {
            left -= 1;
            done.extend(result);
        } else {
            waits += 1;
            goes_on = waits < most && start();
        }
    }
    (done, left)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Share, among, each, in_time};

    #[test]
    fn everything_is_done_once_by_whomever() {
        let items: Vec<usize> = (0..1000).collect();
        let odd = |item: &usize| (item % 2 == 1).then_some(*item);
        let mut done = each(&items, odd);
        done.sort_unstable();
        assert_eq!(done, (0..500).map(|half| 2 * half + 1).collect::<Vec<_>>());
        for all in 1..4 {
            let work = |share: Share<'_, '_, usize>| share.copied().collect();
            let mut done = among(all, &items, work, work);
            done.sort_unstable();
            assert_eq!(done, items, "{all} at a time");
        }
    }

    #[test]
    fn who_never_answers_is_left_and_the_others_are_not() {
        let forever = Duration::from_secs(3600);
        let (patience, most) = (Duration::from_secs(1), 3);
        let work = move |item: usize| {
            if item % 10 == 7 {
                std::thread::sleep(forever);
            }
            (item % 10 != 8).then_some(item)
        };
        let began = Instant::now();
        let (mut done, left) = in_time((0..20).collect(), patience, most, work);
        done.sort_unstable();
        assert_eq!(done, [0, 1, 2, 3, 4, 5, 6, 9, 10, 11, 12, 13, 14, 15, 16, 19]);
        assert_eq!(left, 2);
        let (done, left) = in_time((0..100).collect(), patience, most, work);
        assert_eq!(left, 100 - 25, "three were waited for, and it ended with the third");
        assert_eq!(done.len(), 25 - 2);
        assert!(began.elapsed() < Duration::from_secs(60));
        assert_eq!(in_time(Vec::new(), patience, most, work), (Vec::new(), 0));
    }

    #[test]
    fn what_a_helper_loses_is_not_passed_over() {
        let items = [0; 10];
        let lost = |_: Share<'_, '_, i32>| -> Vec<i32> { panic!("lost") };
        std::panic::catch_unwind(|| among(2, &items, lost, |_| Vec::new())).unwrap_err();
    }
}
