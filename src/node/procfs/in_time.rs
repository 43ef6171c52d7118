//! Work that can block forever, such as reading the command line of a user's process.

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

/// What comes of every item of which something comes within a time, and how many are left. Where one takes longer, another
/// thread goes on with the next, so often and no more; who waits for ever ends with the program.
pub(super) fn in_time<T: Send + 'static, R: Send + 'static>(
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

    use super::in_time;

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
}
