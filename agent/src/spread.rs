//! After a restart of the API server all agents of a cluster do the same at the same time. What an agent repeats, it does in times of
//! its own, so that they drift apart instead of meeting again and again.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

/// About this long: from three quarters to five quarters of it, another time at each call.
pub(crate) fn about(time: Duration) -> Duration {
    // The standard library's own source of chance: nothing here is a secret.
    let chance = RandomState::new().hash_one(());
    let quarters =
        3.0 + 2.0 * (f64::from(u32::try_from(chance >> 32).unwrap_or_default()) / f64::from(u32::MAX));
    time.mul_f64(quarters / 4.0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::about;

    #[test]
    fn times_are_spread_evenly_over_half_of_the_time() {
        let all: Vec<Duration> = (0..1000).map(|_| about(Duration::from_secs(400))).collect();
        let within = |from: u64| {
            let [from, to] = [from, from + 50].map(Duration::from_secs);
            all.iter().filter(|time| (from..=to).contains(time)).count()
        };
        let parts = [300, 350, 400, 450].map(within);
        assert_eq!(parts.iter().sum::<usize>(), 1000, "{parts:?}");
        assert!(parts.iter().all(|part| *part > 150), "{parts:?}");
    }
}
