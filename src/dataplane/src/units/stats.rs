//! A route's recent distribution, for rules that name `stats`: all workers' calls, in eight parts of the time.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::policy::{Lesson, Moments, Said, Stats};

/// Parts that are kept; the oldest is dropped when a new one begins.
const PARTS: u32 = 8;

/// One part of the time.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    number: u32,
    calls: u32,
    fallbacks: u32,
    said: Said,
}

/// What a route's calls were like, within a time.
pub struct RouteStats {
    route: u64,
    within: Duration,
    parts: Mutex<[Part; PARTS as usize]>,
}

impl RouteStats {
    /// Nothing yet. `route` is the key of its name.
    #[must_use]
    pub fn new(route: u64, within: Duration) -> Self {
        Self { route, within, parts: Mutex::default() }
    }

    /// Whether these are of that route, and look so far back.
    #[must_use]
    pub fn is_of(&self, route: u64, within: Duration) -> bool {
        (self.route, self.within) == (route, within)
    }

    /// Parts are numbered from one: zero has never been.
    fn part(&self, now: Duration) -> u32 {
        let part = now.as_millis() * u128::from(PARTS - 1) / self.within.as_millis().max(1);
        u32::try_from(part).unwrap_or(u32::MAX - 1) + 1
    }

    /// Adds a call.
    pub fn learn(&self, now: Duration, lesson: &Lesson) {
        let number = self.part(now);
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let part = &mut parts[(number % PARTS) as usize];
        if part.number < number {
            *part = Part { number, ..Part::default() };
        }
        part.calls = part.calls.saturating_add(1);
        part.fallbacks = part.fallbacks.saturating_add(u32::from(lesson.fallback));
        if let Some(said) = &lesson.said {
            part.said.predictions = part.said.predictions.saturating_add(said.predictions);
            part.said.flagged = part.said.flagged.saturating_add(said.flagged);
            part.said.scores.merge(&said.scores);
            part.said.values.merge(&said.values);
        }
    }

    /// What they come to.
    #[must_use]
    pub fn read(&self, now: Duration) -> Stats {
        let last = self.part(now);
        let parts = *self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stats = Stats::default();
        let (mut fallbacks, mut flagged) = (0u32, 0u32);
        let (mut scores, mut values) = (Moments::default(), Moments::default());
        for part in parts.iter().filter(|part| part.number > 0 && part.number + PARTS > last) {
            stats.calls = stats.calls.saturating_add(part.calls);
            stats.predictions = stats.predictions.saturating_add(part.said.predictions);
            fallbacks = fallbacks.saturating_add(part.fallbacks);
            flagged = flagged.saturating_add(part.said.flagged);
            scores.merge(&part.said.scores);
            values.merge(&part.said.values);
        }
        let share = |some: u32, all: u32| if all == 0 { 0.0 } else { f64::from(some) / f64::from(all) };
        stats.fallback_share = share(fallbacks, stats.calls);
        stats.flagged_share = share(flagged, stats.predictions);
        (stats.score_mean, stats.score_sd) = (scores.mean, scores.sd());
        (stats.value_mean, stats.value_sd) = (values.mean, values.sd());
        stats
    }
}
