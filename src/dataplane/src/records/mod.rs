//! What leaves the data plane, as columns.
//!
//! In: one row per call and row of its batch, one per attempt, one per compared shadow answer, and the bytes captured for
//! review. Out: whole column vectors, which Python takes over without a copy. Never: waiting. A buffer that is full drops
//! the call whole and counts it, by reason.

mod clock;
mod columns;
mod counters;
mod sink;
mod strings;

pub use clock::Arrival;
pub use columns::{Attempt, Attempts, Column, Mirror, Mirrors, Raise, Raises, Record, Records};
pub use counters::{Counter, Counters};
pub use sink::{Batch, Bell, Capture, Limits, Sink, take};
pub use strings::{NO_TEXT, Strings};

/// No backend, no rule, no route, no arm.
pub const NONE_U16: u16 = u16::MAX;
