//! When a backend that fails is left alone, and when it is tried again. Pure: whoever asks brings the time.
//!
//! Its callers keep the counts: `streak` is failures in a row, `tally` what the last seconds brought. One machine stands for
//! a backend on all workers, behind a lock that only failures and an open circuit take.

use std::time::{Duration, Instant};

use crate::policy::Circuit as Rules;

/// Seconds that a tally looks back, a bucket each.
pub const BUCKETS: usize = 10;

/// What a backend's circuit lets through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Everything.
    #[default]
    Closed,
    /// Nothing until then.
    Open { until: Instant, pause: Duration },
    /// One call, to see. Another one should nothing have come of it by then.
    HalfOpen { again: Instant, pause: Duration },
}

/// What becomes of a call that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It goes on.
    Pass,
    /// It goes on, and what comes of it decides.
    Probe,
    /// The backend is left alone.
    Refused,
}

/// How calls ended of late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Answered, be it by a refusal of the caller's own making.
    pub good: u64,
    /// Failed by the backend's fault or the way to it.
    pub bad: u64,
}

/// The machine.
#[derive(Debug, Default)]
pub struct Circuit {
    state: State,
    /// When it last closed again: counts before that are of a time that is over.
    since: Option<Instant>,
}

impl Circuit {
    /// 0 closed, 1 open, 2 half open.
    #[must_use]
    pub fn number(&self) -> u8 {
        match self.state {
            State::Closed => 0,
            State::Open { .. } => 1,
            State::HalfOpen { .. } => 2,
        }
    }

    /// From when on counts count; from their beginning where it never opened.
    #[must_use]
    pub fn since(&self) -> Option<Instant> {
        self.since
    }

    /// Whether a call could get through.
    #[must_use]
    pub fn would_admit(&self, now: Instant) -> bool {
        match self.state {
            State::Closed => true,
            State::Open { until: when, .. } | State::HalfOpen { again: when, .. } => now >= when,
        }
    }

    /// A call asks to be let through.
    pub fn admit(&mut self, now: Instant) -> Admission {
        match self.state {
            // Closed => (Closed)
            State::Closed => Admission::Pass,
            // Open => (HalfOpen): it has rested long enough, and this call is to show it.
            State::Open { until, pause } if now >= until => {
                self.state = State::HalfOpen { again: now + pause, pause };
                Admission::Probe
            }
            // HalfOpen => (HalfOpen): the last one has not come back.
            State::HalfOpen { again, pause } if now >= again => {
                self.state = State::HalfOpen { again: now + pause, pause };
                Admission::Probe
            }
            // Open => (Open), HalfOpen => (HalfOpen)
            State::Open { .. } | State::HalfOpen { .. } => Admission::Refused,
        }
    }

    /// A call that was no probe has failed; true if that opened the circuit.
    pub fn failed(&mut self, rules: &Rules, now: Instant, streak: u32, tally: Tally) -> bool {
        match self.state {
            // Closed => (Open): too many in a row, or too many of all.
            State::Closed if streak >= rules.failures || is_low(rules, tally) => {
                self.state = State::Open { until: now + rules.probe_first, pause: rules.probe_first };
                true
            }
            // Closed => (Closed); Open => (Open), HalfOpen => (HalfOpen): it began before, or had nowhere else to go.
            State::Closed | State::Open { .. } | State::HalfOpen { .. } => false,
        }
    }

    /// The probe has ended.
    pub fn probed(&mut self, rules: &Rules, now: Instant, good: bool) {
        match self.state {
            // HalfOpen => (Closed): what was counted before is forgotten.
            State::HalfOpen { .. } if good => {
                self.state = State::Closed;
                self.since = Some(now);
            }
            // HalfOpen => (Open): it rests twice as long.
            State::HalfOpen { pause, .. } => {
                let pause = pause.saturating_mul(2).min(rules.probe_last);
                self.state = State::Open { until: now + pause, pause };
            }
            // Closed => (Closed), Open => (Open): an earlier probe, which another one has overtaken.
            State::Closed | State::Open { .. } => {}
        }
    }

    /// The probe's caller has gone: nothing was learnt.
    pub fn lost(&mut self, now: Instant) {
        match self.state {
            // HalfOpen => (Open): the next call is the probe.
            State::HalfOpen { pause, .. } => self.state = State::Open { until: now, pause },
            // Closed => (Closed), Open => (Open)
            State::Closed | State::Open { .. } => {}
        }
    }
}

#[allow(clippy::cast_precision_loss)] // numbers of calls
fn is_low(rules: &Rules, tally: Tally) -> bool {
    let all = tally.good + tally.bad;
    all >= u64::from(rules.min_calls) && (tally.good as f64) < rules.success_rate * all as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn rules() -> Rules {
        Rules { failures: 7, success_rate: 0.5, min_calls: 100, probe_first: SECOND, probe_last: SECOND * 60 }
    }

    fn tally(good: u64, bad: u64) -> Tally {
        Tally { good, bad }
    }

    fn opened(now: Instant) -> Circuit {
        let mut circuit = Circuit::default();
        assert!(circuit.failed(&rules(), now, 7, tally(0, 7)));
        circuit
    }

    #[test]
    fn it_opens_by_failures_in_a_row() {
        let now = Instant::now();
        let mut circuit = Circuit::default();
        assert!(!circuit.failed(&rules(), now, 6, tally(0, 6)));
        assert_eq!(circuit.admit(now), Admission::Pass);
        assert!(circuit.failed(&rules(), now, 7, tally(0, 7)));
        assert_eq!(circuit.admit(now), Admission::Refused);
    }

    #[test]
    fn it_opens_by_its_success_rate_once_there_are_enough_calls() {
        let now = Instant::now();
        let mut circuit = Circuit::default();
        assert!(!circuit.failed(&rules(), now, 1, tally(39, 60)));
        assert!(!circuit.failed(&rules(), now, 1, tally(50, 50)));
        assert!(circuit.failed(&rules(), now, 1, tally(49, 51)));
    }

    #[test]
    fn one_probe_at_a_time_and_the_pauses_double_up_to_a_minute() {
        let mut now = Instant::now();
        let mut circuit = opened(now);
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            let pause = SECOND * seconds;
            assert_eq!(circuit.admit(now + pause - Duration::from_millis(1)), Admission::Refused, "{seconds}");
            now += pause;
            assert!(circuit.would_admit(now));
            assert_eq!(circuit.admit(now), Admission::Probe);
            assert_eq!(circuit.admit(now), Admission::Refused);
            circuit.probed(&rules(), now, false);
        }
    }

    #[test]
    fn a_good_probe_closes_it_and_forgets() {
        let now = Instant::now();
        let mut circuit = opened(now);
        assert_eq!(circuit.admit(now + SECOND), Admission::Probe);
        circuit.probed(&rules(), now + SECOND, true);
        assert_eq!((circuit.number(), circuit.since()), (0, Some(now + SECOND)));
        assert_eq!(circuit.admit(now + SECOND), Admission::Pass);
    }

    #[test]
    fn a_probe_whose_caller_went_away_is_made_again() {
        let now = Instant::now();
        let mut circuit = opened(now);
        assert_eq!(circuit.admit(now + SECOND), Admission::Probe);
        circuit.lost(now + SECOND);
        assert_eq!(circuit.admit(now + SECOND), Admission::Probe);
    }

    #[test]
    fn a_probe_that_never_comes_back_does_not_hold_it_open_for_ever() {
        let now = Instant::now();
        let mut circuit = opened(now);
        assert_eq!(circuit.admit(now + SECOND), Admission::Probe);
        assert_eq!(circuit.admit(now + SECOND * 2), Admission::Probe);
    }

    #[derive(Clone, Copy, Debug)]
    enum Event {
        Admit,
        Failed(u32),
        Probed(bool),
        Lost,
    }

    fn events() -> impl Strategy<Value = Vec<(u64, Event)>> {
        let event = prop_oneof![
            4 => Just(Event::Admit),
            3 => (0_u32..10).prop_map(Event::Failed),
            2 => any::<bool>().prop_map(Event::Probed),
            1 => Just(Event::Lost),
        ];
        proptest::collection::vec((0_u64..3000, event), 0..200)
    }

    proptest! {
        /// Whatever happens in whatever order: it never refuses a closed circuit's call, a probe comes through after the
        /// longest pause at the latest, and only enough failures open it.
        #[test]
        fn it_never_stays_shut(events in events()) {
            let mut now = Instant::now();
            let mut circuit = Circuit::default();
            for (millis, event) in events {
                now += Duration::from_millis(millis);
                let before = circuit.number();
                match event {
                    Event::Admit => {
                        let would = circuit.would_admit(now);
                        let admission = circuit.admit(now);
                        prop_assert_eq!(would, admission != Admission::Refused);
                        prop_assert_eq!(before == 0, admission == Admission::Pass);
                    }
                    Event::Failed(streak) => {
                        let opened = circuit.failed(&rules(), now, streak, Tally::default());
                        prop_assert_eq!(opened, before == 0 && streak >= 7);
                    }
                    Event::Probed(good) => {
                        circuit.probed(&rules(), now, good);
                        prop_assert_eq!(circuit.number() == 0, before == 0 || (before == 2 && good));
                    }
                    Event::Lost => circuit.lost(now),
                }
                prop_assert!(circuit.would_admit(now + rules().probe_last));
            }
        }
    }
}
