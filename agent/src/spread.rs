//! After a restart of the API server all agents of a cluster do the same at the same time. What an agent repeats, it does in times of
//! its own, so that they drift apart instead of meeting again and again.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

/// About this long: from three quarters to five quarters of it, another time at each call.
pub(crate) fn about(time: Duration) -> Duration {
    time * 3 / 4 + within(time / 2)
}

/// Not longer than this, another time at each call.
pub(crate) fn within(time: Duration) -> Duration {
    // The standard library's own source of chance: nothing here is a secret.
    let chance = RandomState::new().hash_one(()) >> 32;
    time.mul_f64(f64::from(u32::try_from(chance).unwrap_or_default()) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{about, within};

    #[test]
    fn times_are_spread_evenly() {
        let second = Duration::from_secs(1);
        for (all, least) in [
            ((0..1000).map(|_| within(200 * second)).collect::<Vec<_>>(), 0),
            ((0..1000).map(|_| about(400 * second)).collect(), 300),
        ] {
            let parts = [0, 50, 100, 150].map(|part| {
                let from = (least + part) * second;
                all.iter().filter(|time| (from..from + 50 * second).contains(time)).count()
            });
            assert!(parts.iter().all(|part| *part > 150) && parts.iter().sum::<usize>() > 990, "{parts:?}");
        }
    }
}
