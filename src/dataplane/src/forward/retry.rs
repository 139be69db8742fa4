//! Whether a call that failed is made again, and when. Pure: whoever asks brings the time and the counts.
//!
//! Source: gRFC A6 (<https://github.com/grpc/proposal/blob/master/A6-client-retries.md>) for what may be repeated, the server's
//! pushback and `grpc-previous-rpc-attempts`. The budget is a share of the calls under way and of those that ended this second
//! or the last, as finagle and linkerd count; a bound on retries under way alone, as Envoy has it, lets retries that fail
//! faster than first attempts pass any share, and a window of ten seconds lets the first second of an outage spend it all.

use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName};

use super::status::{GRPC_STATUS, OK, RESOURCE_EXHAUSTED, Status, UNAVAILABLE, read_code};
use crate::policy::Retry;

/// How often the call was made before.
pub const PREVIOUS_ATTEMPTS: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");
/// When the backend wants the call again, in milliseconds; negative: not at all.
pub const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// Pause before the first retry; each further one is twice as long.
const PAUSE_FIRST: Duration = Duration::from_millis(10);
const PAUSE_LAST: Duration = Duration::from_millis(250);
/// What the budget's share is of: calls that ended this second or the last.
pub const BUDGET_SECONDS: usize = 2;

/// What a backend says of another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushback {
    /// Nothing.
    None,
    /// It wants none, or says so in a form that cannot be read, which counts the same.
    Never,
    /// After so long.
    After(Duration),
}

impl Pushback {
    /// What an answer's headers say.
    #[must_use]
    pub fn read(headers: &HeaderMap) -> Self {
        let Some(value) = headers.get(PUSHBACK) else {
            return Self::None;
        };
        match value.to_str().ok().and_then(|text| text.parse::<i64>().ok()).map(u64::try_from) {
            Some(Ok(millis)) => Self::After(Duration::from_millis(millis)),
            _ => Self::Never,
        }
    }
}

/// The status of an answer that is but its end; `None` where more is to come.
#[must_use]
pub fn ended(head: &http::Response<h2::RecvStream>) -> Option<u8> {
    if head.status() != http::StatusCode::OK && !head.headers().contains_key(GRPC_STATUS) {
        return Some(Status::from_http(head.status()).code);
    }
    read_code(head.headers()).filter(|&code| code != OK)
}

/// When an attempt that ended by `code` may be followed by another; `None` when not. `retries` were made before.
#[must_use]
pub fn pause(retry: &Retry, retries: u32, code: u8, pushback: Pushback, random: f64) -> Option<Duration> {
    if retries >= retry.attempts {
        return None;
    }
    match (code, pushback) {
        (_, Pushback::Never) => None,
        (UNAVAILABLE | RESOURCE_EXHAUSTED, Pushback::After(pause)) => Some(pause),
        (UNAVAILABLE, Pushback::None) => {
            let pause = PAUSE_FIRST.saturating_mul(1 << retries.min(10)).min(PAUSE_LAST);
            Some(pause.mul_f64(1.0 - retry.jitter + 2.0 * retry.jitter * random))
        }
        // RESOURCE_EXHAUSTED alone says that there is too much already.
        _ => None,
    }
}

/// Whether a method is one of those that may be repeated.
#[must_use]
pub fn is_listed(retry: &Retry, path: &str) -> bool {
    retry.methods.iter().any(|method| match method.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => path == &**method,
    })
}

/// One second's retries.
#[derive(Clone, Copy, Debug, Default)]
struct Second {
    number: u64,
    /// That the share paid for.
    paid: u64,
    /// All.
    made: u64,
}

/// What retries may cost a backend: a share of its calls, and so many a second besides.
#[derive(Debug)]
pub struct Budget {
    seconds: [Second; BUDGET_SECONDS],
    /// Those that are free.
    free: f64,
    filled: Instant,
}

impl Budget {
    /// A second's worth is there from the beginning.
    #[must_use]
    pub fn new(retry: &Retry, now: Instant) -> Self {
        Self { seconds: Default::default(), free: retry.budget_per_s, filled: now }
    }

    /// Takes one. `attempts` ended this second or the last (retries among them) or are under way; `second` counts from any
    /// beginning.
    #[allow(clippy::cast_precision_loss)] // numbers of calls
    pub fn take(&mut self, retry: &Retry, now: Instant, second: u64, attempts: u64) -> bool {
        let at = usize::try_from(second).unwrap_or(0) % BUDGET_SECONDS;
        if self.seconds[at].number != second {
            self.seconds[at] = Second { number: second, ..Second::default() };
        }
        let recent = self.seconds.iter().filter(|one| one.number + BUDGET_SECONDS as u64 > second);
        let (paid, made) = recent.fold((0, 0), |sum, one| (sum.0 + one.paid, sum.1 + one.made));
        // A retry earns no further one.
        let calls = attempts.saturating_sub(made);
        let pays = ((paid + 1) as f64) <= retry.budget_share * calls as f64;
        let taken = pays || self.take_free(retry, now);
        self.seconds[at].paid += u64::from(pays);
        self.seconds[at].made += u64::from(taken);
        taken
    }

    fn take_free(&mut self, retry: &Retry, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.free = (self.free + passed * retry.budget_per_s).min(retry.budget_per_s.max(1.0));
        self.filled = now;
        let free = self.free >= 1.0;
        self.free -= f64::from(u8::from(free));
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn retry() -> Retry {
        Retry { attempts: 2, methods: Vec::new(), budget_share: 0.2, budget_per_s: 10.0, jitter: 0.2 }
    }

    #[test]
    fn the_pause_doubles_and_is_jittered_by_a_fifth() {
        for (retries, random, micros) in [(0, 0.0, 8_000), (0, 0.5, 10_000), (0, 1.0, 12_000), (1, 0.5, 20_000)] {
            let made = pause(&retry(), retries, UNAVAILABLE, Pushback::None, random).unwrap();
            assert_eq!(made.as_micros(), micros, "{retries} {random}");
        }
        assert_eq!(pause(&retry(), 2, UNAVAILABLE, Pushback::None, 0.5), None);
    }

    #[test]
    fn what_the_backend_asks_for_goes_before() {
        let after = Pushback::After(Duration::from_millis(40));
        assert_eq!(pause(&retry(), 0, UNAVAILABLE, after, 0.9), Some(Duration::from_millis(40)));
        assert_eq!(pause(&retry(), 0, UNAVAILABLE, Pushback::Never, 0.9), None);
        assert_eq!(pause(&retry(), 0, RESOURCE_EXHAUSTED, after, 0.9), Some(Duration::from_millis(40)));
        assert_eq!(pause(&retry(), 0, RESOURCE_EXHAUSTED, Pushback::None, 0.9), None);
        assert_eq!(pause(&retry(), 0, 13, after, 0.9), None);
    }

    #[test]
    fn a_pushback_that_cannot_be_read_forbids() {
        for (text, wanted) in [
            ("0", Pushback::After(Duration::ZERO)),
            ("25", Pushback::After(Duration::from_millis(25))),
            ("-1", Pushback::Never),
            ("soon", Pushback::Never),
            ("", Pushback::Never),
        ] {
            let headers = HeaderMap::from_iter([(PUSHBACK, HeaderValue::from_static(text))]);
            assert_eq!(Pushback::read(&headers), wanted, "{text:?}");
        }
        assert_eq!(Pushback::read(&HeaderMap::new()), Pushback::None);
    }

    #[test]
    fn methods_are_listed_by_name_or_by_service() {
        let retry = Retry { methods: vec!["/a.B/C".into(), "/d.E/*".into()], ..retry() };
        assert!(is_listed(&retry, "/a.B/C") && is_listed(&retry, "/d.E/Any"));
        assert!(!is_listed(&retry, "/a.B/Cx") && !is_listed(&retry, "/d.F/Any"));
    }

    proptest! {
        /// An outage at any rate: in every second no more retries than a fifth of the calls of two seconds, and ten.
        #[test]
        fn the_budget_bounds_what_an_outage_costs(gap_us in 200_u64..50_000) {
            let start = Instant::now();
            let mut budget = Budget::new(&retry(), start);
            let (mut ended, mut calls, mut retries) = ([0_u64; 8], 0_u64, 0_u64);
            for at in (0..5_000_000).step_by(usize::try_from(gap_us).unwrap()) {
                let second = usize::try_from(at / 1_000_000).unwrap();
                calls += 1;
                ended[second] += 1;
                for _ in 0..2 {
                    let recent = ended[second] + if second > 0 { ended[second - 1] } else { 0 };
                    let now = start + Duration::from_micros(at);
                    if !budget.take(&retry(), now, second as u64, recent) {
                        break;
                    }
                    retries += 1;
                    ended[second] += 1;
                }
            }
            prop_assert!(retries <= calls / 5 + 60, "{retries} of {calls} calls in five seconds");
            prop_assert!(retries >= (calls / 5).min(calls * 2), "{retries} of {calls}: less than was allowed");
        }

        #[test]
        fn a_quiet_backend_may_be_asked_again_ten_times_a_second(seconds in 1_u64..20) {
            let start = Instant::now();
            let mut budget = Budget::new(&retry(), start);
            let mut made = 0;
            for millis in 0..seconds * 1000 {
                if budget.take(&retry(), start + Duration::from_millis(millis), millis / 1000, 0) {
                    made += 1;
                }
            }
            prop_assert!((seconds * 10..=seconds * 10 + 10).contains(&made), "{made} in {seconds} s");
        }
    }
}
