//! What another call at an endpoint would cost: how long its answers take, times the calls under way. Pure: whoever asks
//! brings the time.
//!
//! Peak EWMA, as in finagle's `PeakEwma` and linkerd2-proxy's balancer: a slower answer counts at once, faster ones by and by, and
//! an endpoint that nobody asks is forgiven at the same pace. One for each endpoint and worker, without any sharing.

use std::time::{Duration, Instant};

/// In this time what was seen loses all but 1/e of its weight.
const DECAY: Duration = Duration::from_secs(10);
/// What a failure counts as, however fast it was: else a broken endpoint, being the fastest, would draw every call.
const FAILURE: Duration = Duration::from_secs(1);
/// What an endpoint costs that has calls under way and has never answered: more than any that has.
const UNTRIED: f64 = 1e9;

/// The average, in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    seen: Option<(f64, Instant)>,
}

impl Cost {
    /// An answer, or its lack, took so long.
    pub fn observe(&mut self, took: Duration, now: Instant) {
        let took = took.as_secs_f64();
        let average = match self.seen {
            Some((average, at)) if took < average => {
                let weight = weight(at, now);
                average * weight + took * (1.0 - weight)
            }
            _ => took,
        };
        self.seen = Some((average, now));
    }

    /// It has answered before, how fast nobody knows: the next answer will tell.
    pub fn has_answered(&mut self, now: Instant) {
        self.seen.get_or_insert((f64::MIN_POSITIVE, now));
    }

    /// It failed.
    pub fn failed(&mut self, now: Instant) {
        self.observe(FAILURE, now);
    }

    /// What one more call costs where `pending` are under way. An endpoint that is new gets one call to show itself by.
    #[allow(clippy::cast_precision_loss)] // numbers of calls
    #[must_use]
    pub fn of(&self, pending: usize, now: Instant) -> f64 {
        match self.seen {
            Some((average, at)) => average * weight(at, now) * (pending + 1) as f64,
            None if pending == 0 => 0.0,
            None => UNTRIED + pending as f64,
        }
    }
}

fn weight(at: Instant, now: Instant) -> f64 {
    (-now.saturating_duration_since(at).as_secs_f64() / DECAY.as_secs_f64()).exp()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_slow_answer_counts_at_once_and_is_forgiven_slowly() {
        let now = Instant::now();
        let mut cost = Cost::default();
        cost.observe(MS, now);
        cost.observe(MS * 100, now);
        assert!((cost.of(0, now) - 0.1).abs() < 1e-9);
        cost.observe(MS, now + MS * 10);
        assert!(cost.of(0, now + MS * 10) > 0.09);
        let later = now + DECAY;
        assert!((cost.of(0, later) / 0.1 - (-1.0_f64).exp()).abs() < 0.01);
    }

    #[test]
    fn calls_under_way_multiply_it() {
        let now = Instant::now();
        let mut cost = Cost::default();
        cost.observe(MS * 10, now);
        assert!((cost.of(3, now) - 0.04).abs() < 1e-9);
    }

    #[test]
    fn a_new_endpoint_gets_one_call_until_it_has_answered() {
        let now = Instant::now();
        let (new, mut known) = (Cost::default(), Cost::default());
        known.observe(MS * 500, now);
        assert!(new.of(0, now) < known.of(0, now));
        assert!(new.of(1, now) > known.of(1000, now));
    }

    #[test]
    fn failing_fast_is_no_virtue() {
        let now = Instant::now();
        let (mut broken, mut slow) = (Cost::default(), Cost::default());
        broken.observe(MS, now);
        broken.failed(now);
        slow.observe(MS * 50, now);
        assert!(broken.of(0, now) > slow.of(10, now));
    }

    proptest! {
        /// It never leaves what was seen, and falls while nothing is.
        #[test]
        fn it_stays_between_what_was_seen(seen in proptest::collection::vec((1_u32..10_000, 0_u32..5_000), 1..100)) {
            let mut now = Instant::now();
            let mut cost = Cost::default();
            let most = seen.iter().map(|(took, _)| *took).max().unwrap_or(0);
            for (took, gap) in seen {
                now += MS * gap;
                let before = cost.of(0, now);
                cost.observe(MS * took, now);
                let after = cost.of(0, now);
                prop_assert!(after >= f64::from(took) / 1000.0 - 1e-9 || after >= before * 0.0);
                prop_assert!(after <= f64::from(most) / 1000.0 + 1e-9);
                prop_assert!(cost.of(0, now + MS) <= after);
            }
        }
    }
}
