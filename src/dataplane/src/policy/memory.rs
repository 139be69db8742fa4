//! What is remembered between calls, as decisions see it: plain numbers of a unit's own past and of its route's.
//!
//! It is kept elsewhere (the room `units`), with the clock that it needs: a decision asks for it once, at a call's
//! beginning, and says at its end what the call has to teach. Nothing is asked for a route that remembers nothing, nor
//! for a call that names no unit: it is one of its own, and is never seen again.

use std::sync::Arc;
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use super::call::{Call, Wish};
use super::compiled::{BackendIx, NO_INDEX, RouteIx, Source};
use super::decision::{Decision, Row};
use super::prediction::Label;
use super::reading::{Reading, label_text};
use super::request::Request;
use super::rule::{Action, Stage};
use super::segment::with_value;
use super::spec::PredictionSpec;
use super::words::{Outcome, Reason, status};

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

impl Call {
    /// Asks for what the route remembers.
    pub(super) fn recall(&mut self, request: &Request) {
        if !self.route().remembers() || self.held_out {
            return;
        }
        let policy = Arc::clone(&self.policy);
        let route = policy.route_at(self.route);
        let named = self.named;
        let key = self.unit ^ route.key;
        if let (Some(guard), Some(memory), true) = (&route.loop_guard, request.memory, named) {
            let met = memory.met(guard, key);
            let past = |on, count| on && count >= guard.limit;
            self.guarded = past(guard.on_fallback, met.fallbacks) || past(guard.on_negative, met.negatives);
            self.note("loop_guard", || guard.in_words(met, &policy.backend(guard.then).name));
        }
        if !(route.wants_session || route.wants_stats) {
            return;
        }
        let mut past = Past::default();
        if let (true, Some(spec)) = (route.wants_session, &route.session) {
            if let (Some(memory), true) = (request.memory, named) {
                past.session = memory.session(spec, key);
            }
            for ((_, source), number) in spec.remember.iter().zip(&mut past.remembered) {
                with_value(source, request, |text| {
                    *number = text.trim().parse().ok().filter(|number: &f64| number.is_finite()).unwrap_or(0.0);
                });
            }
        }
        if let (true, Some(memory)) = (route.wants_stats, request.memory) {
            past.stats = memory.stats(self.route);
        }
        self.past = Some(Box::new(past));
    }

    /// Sends a unit past the limit the way out, unless a rule of the operator answers or refuses the call.
    pub(super) fn way_out(&mut self) {
        let Some(guard) = self.guarded.then_some(self.route().loop_guard.as_ref()).flatten() else { return };
        let then = guard.then;
        if matches!(self.wish, Some(Wish::Answer(_) | Wish::Reject { .. })) {
            self.guarded = false;
            return;
        }
        self.first = Some((Reason::LoopGuard, NO_INDEX));
        // Not `Answer`: should the way out fail, the chain is better than nothing.
        self.wish = Some(Wish::To(then));
    }

    /// What the call has to teach, once it is finished; `None` where nothing is remembered. A held-out unit is the
    /// control: nothing of it is remembered.
    #[must_use]
    pub fn lesson(&self, decision: &Decision) -> Option<Lesson> {
        let route = self.route();
        if !route.remembers() || self.held_out {
            return None;
        }
        let first = decision.rows.first()?;
        let answered = decision.status == status::OK && decision.backend.is_some();
        let fallback = match decision.outcome {
            Outcome::Fallback | Outcome::Static => true,
            // Neither what is the caller's own affair, which a backend's status tells, nor a caller who went away.
            Outcome::Error => decision.backend.is_none() && decision.status != status::CANCELLED,
            _ => decision.rows.iter().any(|row| matches!(row.outcome, Outcome::Fallback | Outcome::Static)),
        };
        let hash = |label: &Label, spec: &PredictionSpec| label_hash(label_text(label, spec));
        let label = first.label.as_ref().zip(route.prediction.as_ref()).map(|(label, spec)| hash(label, spec));
        let number = |number: f64| if number.is_finite() { number } else { 0.0 };
        let past = self.past.as_deref();
        let answer = answered.then(|| LastAnswer {
            label: label.unwrap_or(0),
            score: number(first.score),
            confidence: number(first.confidence),
            value: number(self.last_value(decision)),
            remembered: past.map_or([0.0; MOST_REMEMBERED], |past| past.remembered),
        });
        Some(Lesson {
            key: self.named.then_some(self.unit ^ route.key),
            fallback,
            flagged: answered && decision.rows.iter().any(|row| row.flagged == Some(true)),
            counts: route.loop_guard.as_ref().and_then(|guard| self.counts(guard, decision, fallback)),
            answer: answer.filter(|_| route.prediction.is_some()),
            said: past.and_then(|past| past.said),
        })
    }

    /// What the loop guard counts of a call. Neither what it led out itself, nor what the operator wanted so (a rule on
    /// the request that names who answers, the kill switch), nor what a person said: no machine led there.
    fn counts(&self, guard: &LoopGuard, decision: &Decision, fallback: bool) -> Option<(bool, Told)> {
        let wanted = match decision.reason {
            Reason::LoopGuard | Reason::KillSwitch => true,
            Reason::Rule => self.route().rules.get(usize::from(decision.rule)).is_some_and(|rule| {
                rule.on == Stage::Request && matches!(rule.then, Action::To(_) | Action::Answer(_))
            }),
            _ => false,
        };
        if wanted || self.guarded {
            return None;
        }
        let told = match decision.outcome {
            Outcome::Model | Outcome::Fallback | Outcome::Static => self.told(guard, decision),
            Outcome::Human => Told::Other,
            _ => Told::Nothing,
        };
        let fallback = fallback && guard.on_fallback;
        Some((fallback, if guard.on_negative { told } else { Told::Nothing }))
    }

    /// A batch is a negative answer where every row of it is.
    fn told(&self, guard: &LoopGuard, decision: &Decision) -> Told {
        let Some(spec) = &self.route().prediction else { return Told::Nothing };
        let negative = |row: &Row| {
            let text = row.label.as_ref().map(|label| label_text(label, spec));
            match text {
                _ if guard.negative.is_empty() => row.flagged == Some(true),
                Some(text) => guard.negative.iter().any(|known| **known == *text),
                None => false,
            }
        };
        let mut labels = decision.rows.iter().map(|row| {
            negative(row).then(|| row.label.as_ref().map_or(1, |label| label_hash(label_text(label, spec))))
        });
        match labels.next() {
            Some(Some(first)) if labels.all(|label| label == Some(first)) => Told::Negative(first),
            _ => Told::Other,
        }
    }

    fn last_value(&self, decision: &Decision) -> f64 {
        let answer = decision.backend.and_then(|backend| self.policy.backend(backend).as_static());
        let judged = self.past.as_deref().map(|past| past.value);
        answer.map_or(judged, |answer| answer.value).unwrap_or(f64::NAN)
    }
}

impl LoopGuard {
    fn in_words(&self, met: Met, out: &str) -> String {
        let Met { fallbacks, negatives } = met;
        let (limit, within) = (self.limit, self.within.as_secs_f64());
        let found = format!(
            "within {within} s the unit met {fallbacks} fallbacks, and {negatives} times the same negative answer"
        );
        let past = (self.on_fallback && fallbacks >= limit) || (self.on_negative && negatives >= limit);
        match past {
            true => format!("{found}: the limit is {limit}, {out} is the way out"),
            false => format!("{found}: under the limit of {limit}"),
        }
    }
}
