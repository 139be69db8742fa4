//! What is remembered between calls, as decisions see it: plain numbers of a unit's own past and of its route's.
//!
//! It is kept elsewhere (the room `units`), with the clock that it needs: a decision asks for it once, at a call's
//! beginning, and says at its end what the call has to teach. Nothing is asked for a route that remembers nothing, nor
//! for a call that names no unit: it is one of its own, and is never seen again.

use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use super::cel::Seen;
use super::compiled::{BackendIx, Route, RouteIx, Source};
use super::reading::Reading;

/// Numbers of a request that a session may remember.
pub const MOST_REMEMBERED: usize = 4;

/// When a unit that keeps meeting fallbacks, or the same negative answer, is shown the way out.
#[derive(Clone, Debug, PartialEq)]
pub struct LoopGuard {
    /// This many within the time, and the next call goes the way out.
    pub limit: u32,
    pub within: Duration,
    /// The way out.
    pub then: BackendIx,
    pub on_fallback: bool,
    pub on_negative: bool,
    /// Labels that are negative answers; where there are none, what is flagged is.
    pub negative: Vec<Box<str>>,
}

/// What is remembered of each unit for rules that name `session`.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionSpec {
    /// A session ends when the unit has not called for so long.
    pub idle: Duration,
    /// Numbers of the request by name, and where they stand in it; at most `MOST_REMEMBERED`.
    pub remember: Vec<(Box<str>, Source)>,
}

/// How often a unit met what the loop guard counts, within its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Met {
    pub fallbacks: u32,
    /// The same negative answer, without another one between.
    pub negatives: u32,
}

/// A unit's own recent past on a route. What is not known is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Session {
    /// Calls that have ended.
    pub calls: u32,
    /// Of those, the ones that were answered with a prediction.
    pub answered: u32,
    /// Those that did not get the first choice.
    pub fallbacks: u32,
    /// Those that were flagged, in any of their rows.
    pub flagged: u32,
    /// How often the last label was given in a row.
    pub repeats: u32,
    /// `label_hash` of the last answer's first row; 0 for none.
    pub label: u32,
    /// Of the last answer's first row.
    pub score: f64,
    pub confidence: f64,
    pub value: f64,
    /// Of the last answered request, in the order of `SessionSpec::remember`.
    pub remembered: [f64; MOST_REMEMBERED],
}

/// A route's recent distribution. What is not known is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stats {
    /// Calls that have ended.
    pub calls: u32,
    /// Share of them that did not get the first choice.
    pub fallback_share: f64,
    /// Predictions, row by row, that the first backend asked has made, whatever became of them.
    pub predictions: u32,
    /// Share of them that were flagged.
    pub flagged_share: f64,
    pub score_mean: f64,
    pub score_sd: f64,
    pub value_mean: f64,
    pub value_sd: f64,
}

/// Where what is remembered is asked for. `key` is of a route and a unit.
pub trait Memory: Sync {
    fn met(&self, guard: &LoopGuard, key: u64) -> Met;
    fn session(&self, spec: &SessionSpec, key: u64) -> Session;
    fn stats(&self, route: RouteIx) -> Stats;
}

/// Count, mean and squared deviations, added one by one or by groups.
///
/// Source: Welford 1962; Chan, Golub, LeVeque 1979 for groups.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moments {
    pub count: u32,
    pub mean: f64,
    /// Sum of squared deviations from the mean.
    pub squares: f64,
}

impl Moments {
    /// Adds a number; what is not finite is left out.
    pub fn add(&mut self, number: f64) {
        if number.is_finite() {
            self.merge(&Moments { count: 1, mean: number, squares: 0.0 });
        }
    }

    pub fn merge(&mut self, other: &Moments) {
        let count = self.count.saturating_add(other.count);
        if other.count == 0 || count == self.count {
            return;
        }
        let (own, others, all) = (f64::from(self.count), f64::from(other.count), f64::from(count));
        let apart = other.mean - self.mean;
        self.mean += apart * (others / all);
        self.squares += other.squares + apart * apart * (own * others / all);
        self.count = count;
    }

    /// Sample standard deviation; 0 for fewer than two.
    #[must_use]
    pub fn sd(&self) -> f64 {
        if self.count < 2 { 0.0 } else { (self.squares / f64::from(self.count - 1)).max(0.0).sqrt() }
    }
}

/// What the first backend asked has predicted, of all rows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Said {
    pub predictions: u32,
    pub flagged: u32,
    pub scores: Moments,
    pub values: Moments,
}

impl Said {
    pub(super) fn of(readings: &[Reading]) -> Said {
        let mut said = Said { predictions: u32::try_from(readings.len()).unwrap_or(u32::MAX), ..Said::default() };
        for reading in readings {
            said.flagged += u32::from(reading.flagged == Some(true));
            said.scores.add(reading.score);
            said.values.add(reading.value);
        }
        said
    }
}

/// What a call knows of the past, and gathers for it. Only there for rules that ask.
#[derive(Clone, Debug, Default)]
pub(super) struct Past {
    pub session: Session,
    pub stats: Stats,
    /// Of this call's request.
    pub remembered: [f64; MOST_REMEMBERED],
    /// `None` until somebody was judged.
    pub said: Option<Said>,
    /// Of the first row of the answer that was judged last.
    pub value: f64,
}

impl Past {
    pub fn seen<'a>(&'a self, route: &'a Route) -> Seen<'a> {
        Seen {
            session: &self.session,
            stats: &self.stats,
            names: route.session.as_ref().map_or(&[], |session| &session.remember),
            classes: route.prediction.as_ref().map_or(&[], |spec| &spec.classes),
        }
    }
}

/// What a unit was answered, as the loop guard counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Nothing, or nothing that the guard counts.
    Nothing,
    /// Anything but a negative answer: it ends a row of them.
    Other,
    /// This negative answer, by `label_hash`.
    Negative(u32),
}

impl Told {
    /// Whether it is a negative answer.
    #[must_use]
    pub fn is_negative(self) -> bool {
        matches!(self, Told::Negative(_))
    }
}

/// An answer's first row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LastAnswer {
    pub label: u32,
    pub score: f64,
    pub confidence: f64,
    pub value: f64,
    pub remembered: [f64; MOST_REMEMBERED],
}

/// What a call has to teach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lesson {
    /// Of route and unit; `None` for a call that names no unit.
    pub key: Option<u64>,
    /// Whether it did not get the first choice.
    pub fallback: bool,
    /// Whether any row was flagged.
    pub flagged: bool,
    /// What the loop guard counts; `None` where it does not.
    pub counts: Option<(bool, Told)>,
    pub answer: Option<LastAnswer>,
    pub said: Option<Said>,
}

/// What is kept of a label; never 0, which stands for none.
#[must_use]
pub fn label_hash(label: &str) -> u32 {
    #[allow(clippy::cast_possible_truncation)] // half of a hash is one
    let half = xxh3_64(label.as_bytes()) as u32;
    half.max(1)
}
