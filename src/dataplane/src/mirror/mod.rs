//! Copies that never delay a call.
//!
//! In: what a shadow's calls may take, and two answers to the same request. Out: a place or a refusal, and the difference
//! row by row. Never: waiting, or a copy cut short. Sending is `forward`'s; whoever holds no [`Ticket`] sends nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::policy::Label;

/// What one shadow of one route has under way, on all workers.
#[derive(Debug, Default)]
pub struct Gauge {
    calls: AtomicUsize,
    bytes: AtomicU64,
}

/// Why a copy is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// As many calls are under way as may be.
    InFlight,
    /// Its bytes would pass the cap.
    Bytes,
}

/// A copy's place; given back when dropped.
#[derive(Debug)]
pub struct Ticket {
    gauge: Arc<Gauge>,
    bytes: u64,
}

impl Ticket {
    /// Holds `bytes` more, of the answer.
    ///
    /// # Errors
    /// They would pass the cap.
    pub fn grow(&mut self, bytes: u64, max_bytes: u64) -> Result<(), Full> {
        self.bytes += bytes;
        let held = self.gauge.bytes.fetch_add(bytes, Relaxed) + bytes;
        // What was added is given back by the drop, be it too much.
        if held > max_bytes { Err(Full::Bytes) } else { Ok(()) }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.gauge.calls.fetch_sub(1, Relaxed);
        self.gauge.bytes.fetch_sub(self.bytes, Relaxed);
    }
}

impl Gauge {
    /// A place for a copy of `bytes`.
    ///
    /// # Errors
    /// Which cap it would pass.
    pub fn admit(self: &Arc<Self>, bytes: u64, max_in_flight: u32, max_bytes: u64) -> Result<Ticket, Full> {
        let ticket = Ticket { gauge: Arc::clone(self), bytes };
        let calls = self.calls.fetch_add(1, Relaxed) + 1;
        let held = self.bytes.fetch_add(bytes, Relaxed) + bytes;
        // The ticket's drop takes both back.
        if calls > max_in_flight as usize {
            return Err(Full::InFlight);
        }
        if held > max_bytes {
            return Err(Full::Bytes);
        }
        Ok(ticket)
    }
}

/// What one answer says of a row.
#[derive(Clone, Copy, Debug)]
pub struct Said<'a> {
    pub label: Option<&'a Label>,
    /// Whether it is over the threshold; `None` where the route has none.
    pub flagged: Option<bool>,
    /// NaN if there is none.
    pub score: f64,
}

/// One row of two answers, side by side.
#[derive(Clone, Copy, Debug)]
pub struct Compared {
    /// Whether both say the same label, or without labels the same side of the threshold: 0, 1, 255 where one of them says
    /// neither.
    pub agree: u8,
    /// The shadow's score less the answer's; NaN where one has none.
    pub difference: f64,
}

/// Compares what the caller got with what the shadow said.
#[must_use]
pub fn compare(got: Said<'_>, shadow: Said<'_>) -> Compared {
    let agree = match (got.label, shadow.label, got.flagged, shadow.flagged) {
        (Some(got), Some(shadow), ..) => u8::from(got == shadow),
        (_, _, Some(got), Some(shadow)) => u8::from(got == shadow),
        _ => 255,
    };
    Compared { agree, difference: shadow.score - got.score }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_refused_by_the_cap_it_would_pass_and_given_back() {
        let gauge = Arc::new(Gauge::default());
        let first = gauge.admit(60, 2, 100).unwrap();
        assert_eq!(gauge.admit(60, 2, 100).unwrap_err(), Full::Bytes);
        let second = gauge.admit(40, 2, 100).unwrap();
        assert_eq!(gauge.admit(0, 2, 100).unwrap_err(), Full::InFlight);
        drop((first, second));
        assert!(gauge.admit(100, 2, 100).is_ok());
    }

    #[test]
    fn an_answer_that_grows_past_the_cap_is_refused_and_all_of_it_given_back() {
        let gauge = Arc::new(Gauge::default());
        let mut ticket = gauge.admit(60, 2, 100).unwrap();
        assert!(ticket.grow(40, 100).is_ok());
        assert_eq!(ticket.grow(1, 100).unwrap_err(), Full::Bytes);
        drop(ticket);
        assert!(gauge.admit(100, 2, 100).is_ok());
    }

    #[test]
    fn a_row_is_compared_by_what_both_say_of_it() {
        let say = |label, flagged, score| Said { label, flagged, score };
        let (one, other) = (Label::Class(1), Label::Class(0));
        let compared = compare(say(Some(&one), Some(true), 0.25), say(Some(&one), Some(false), 0.75));
        assert_eq!((compared.agree, compared.difference), (1, 0.5));
        assert_eq!(compare(say(Some(&one), None, 0.0), say(Some(&other), None, 0.0)).agree, 0);
        assert_eq!(compare(say(None, Some(true), 0.9), say(None, Some(false), 0.1)).agree, 0);
        let compared = compare(say(None, None, f64::NAN), say(Some(&one), Some(true), 0.75));
        assert_eq!(compared.agree, 255);
        assert!(compared.difference.is_nan());
    }
}
