//! A quantile of a stream of times in two words of memory: what "late" means for a backend.
//!
//! Multiplicative steps up where a value is above the estimate, down where it is not, so many of each that they cancel at
//! the quantile: it follows a backend that changes, and asks of a value only whether it is above, so that an attempt that was
//! given up late counts in full though nobody knows how long it would have taken. A sketch that keeps values (P2, t-digest)
//! could do neither.
//!
//! Source: Yazidi and Hammer 2017, Multiplicative Update Methods for Incremental Quantile Estimation, IEEE Transactions on
//! Cybernetics 49:746-756 (DUMIQE).

use std::cell::Cell;
use std::time::Duration;

/// Values before the estimate is anything to go by.
const ENOUGH: u32 = 100;
/// The step once there are enough: the estimate then moves within about a tenth of its value.
const STEP: f64 = 0.02;

/// The estimate.
#[derive(Debug)]
pub struct Quantile {
    share: f64,
    seconds: Cell<f64>,
    seen: Cell<u32>,
}

impl Quantile {
    /// Of this share of the values, none seen yet.
    #[must_use]
    pub fn new(share: f64) -> Self {
        Self { share, seconds: Cell::new(0.0), seen: Cell::new(0) }
    }

    /// One more value, or what is known of it: that it is more than `took`.
    pub fn add(&self, took: Duration) {
        let (took, seen) = (took.as_secs_f64().max(1e-6), self.seen.get());
        self.seen.set(seen.saturating_add(1));
        let now = self.seconds.get();
        if seen == 0 {
            return self.seconds.set(took);
        }
        // Wider steps at first, so that the first value does not matter for long.
        let step = (4.0 / f64::from(seen)).clamp(STEP, 0.5);
        let step = if took > now { 1.0 + step * self.share } else { 1.0 - step * (1.0 - self.share) };
        self.seconds.set(now * step);
    }

    /// The quantile; none from too little.
    #[must_use]
    pub fn get(&self) -> Option<Duration> {
        (self.seen.get() >= ENOUGH).then(|| Duration::from_secs_f64(self.seconds.get()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Times between 1 and 2 ms.
    fn uniform(random: &mut fastrand::Rng) -> Duration {
        Duration::from_secs_f64(0.001 + 0.001 * random.f64())
    }

    #[test]
    fn too_little_says_nothing() {
        let (quantile, mut random) = (Quantile::new(0.95), fastrand::Rng::with_seed(1));
        for _ in 0..ENOUGH - 1 {
            quantile.add(uniform(&mut random));
            assert_eq!(quantile.get(), None);
        }
        quantile.add(uniform(&mut random));
        assert!(quantile.get().is_some());
    }

    #[test]
    fn about_one_value_in_twenty_is_above_the_ninety_fifth_percentile() {
        let (quantile, mut random) = (Quantile::new(0.95), fastrand::Rng::with_seed(2));
        let mut above = 0;
        for at in 0..20_000 {
            let took = uniform(&mut random);
            if at >= 1000 && quantile.get().is_some_and(|late| took > late) {
                above += 1;
            }
            quantile.add(took);
        }
        assert!((600..1400).contains(&above), "{above} of 19,000");
    }

    #[test]
    fn a_backend_that_becomes_slower_or_quicker_is_followed() {
        let (quantile, mut random) = (Quantile::new(0.95), fastrand::Rng::with_seed(3));
        for factor in [1, 10, 1] {
            for _ in 0..5000 {
                quantile.add(uniform(&mut random) * factor);
            }
            let late = quantile.get().unwrap() / factor;
            assert!((1.7..2.3).contains(&(late.as_secs_f64() * 1000.0)), "{late:?} at {factor}");
        }
    }

    /// Values that are cut at the estimate lead to the same as values that are known.
    #[test]
    fn what_was_given_up_counts_as_late() {
        let (quantile, mut random) = (Quantile::new(0.95), fastrand::Rng::with_seed(4));
        for _ in 0..20_000 {
            let took = uniform(&mut random);
            let cut = quantile.get().map_or(took, |late| took.min(late + Duration::from_nanos(10)));
            quantile.add(cut);
        }
        let late = quantile.get().unwrap().as_secs_f64() * 1000.0;
        assert!((1.7..2.3).contains(&late), "{late} ms");
    }
}
