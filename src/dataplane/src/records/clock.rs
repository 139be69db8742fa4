//! The one place where the time of day is read: once a call, when it comes in.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// When a call came in, by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// For durations.
    pub at: Instant,
    /// For records: microseconds since 1970.
    pub unix_us: i64,
}

impl Arrival {
    /// Now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one reading per call that the lint sends everyone to")]
    pub fn now() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { at: Instant::now(), unix_us: i64::try_from(unix.as_micros()).unwrap_or(i64::MAX) }
    }

    /// The wall clock's time of a later instant.
    #[must_use]
    pub fn unix_us_at(&self, later: Instant) -> i64 {
        let passed = later.saturating_duration_since(self.at).as_micros();
        self.unix_us.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX))
    }
}
