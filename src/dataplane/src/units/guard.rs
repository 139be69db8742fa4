//! What a loop guard counts of one unit: fallbacks, and negative answers in a row, within its time.
//!
//! The time is cut into sevenths, and the last eight of them are kept, a byte each ("basic windows": Zhu, Shasha,
//! StatStream, VLDB 2002). So what is counted counts for all of `within`, never less, and for at most a seventh longer.
//! An average that decays exponentially would be as small, but says "2.9 of 3" a moment after the third.

use std::time::Duration;

use crate::policy::{Met, Told};

/// Parts that `within` is cut into.
const PARTS: u128 = 7;
/// Parts that are kept: those of `within`, and the one that is under way.
const KEPT: u32 = 8;

/// Seconds for which a unit is remembered.
pub fn kept_s(within: Duration) -> u32 {
    let all = within.as_millis() * (PARTS + 1) / PARTS;
    u32::try_from(all / 1000 + 2).unwrap_or(u32::MAX)
}

/// Counts of one unit on one route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    /// Number of the last part.
    part: u32,
    /// The negative answer that is counted.
    label: u32,
    /// Counts by part, the last in the lowest byte.
    fallbacks: u64,
    negatives: u64,
}

fn part(within: Duration, now: Duration) -> u32 {
    let part = now.as_millis() * PARTS / within.as_millis().max(1);
    // A second cut in seven lasts for nineteen years of these.
    u32::try_from(part).unwrap_or(u32::MAX)
}

fn sum(counts: u64) -> u32 {
    counts.to_le_bytes().into_iter().map(u32::from).sum()
}

fn add(counts: &mut u64) {
    if *counts & 0xff < 0xff {
        *counts += 1;
    }
}

impl Guard {
    /// The same counts, some time later. A call that came earlier than the last counts with it.
    fn moved_to(mut self, part: u32) -> Self {
        let parts = part.saturating_sub(self.part);
        let shift = |counts: u64| if parts < KEPT { counts << (8 * parts) } else { 0 };
        self.fallbacks = shift(self.fallbacks);
        self.negatives = shift(self.negatives);
        self.part = part;
        self
    }

    pub fn met(self, within: Duration, now: Duration) -> Met {
        let now = self.moved_to(part(within, now));
        Met { fallbacks: sum(now.fallbacks), negatives: sum(now.negatives) }
    }

    /// Counts a call.
    pub fn count(&mut self, within: Duration, now: Duration, fallback: bool, told: Told) {
        *self = self.moved_to(part(within, now));
        if fallback {
            add(&mut self.fallbacks);
        }
        match told {
            Told::Nothing => {}
            Told::Other => self.negatives = 0,
            Told::Negative(label) => {
                if self.label != label {
                    (self.label, self.negatives) = (label, 0);
                }
                add(&mut self.negatives);
            }
        }
    }
}
