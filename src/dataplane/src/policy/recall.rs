//! A call and what is remembered: asked for at its beginning, added to at its end, and the way out of a loop.

use std::sync::Arc;

use super::call::{Call, Wish};
use super::compiled::NO_INDEX;
use super::decision::{Decision, Row};
use super::memory::{LastAnswer, Lesson, LoopGuard, MOST_REMEMBERED, Met, Past, Told, label_hash};
use super::prediction::Label;
use super::reading::label_text;
use super::request::Request;
use super::rule::{Action, Stage};
use super::segment::with_value;
use super::spec::PredictionSpec;
use super::words::{Outcome, Reason, status};

impl Call {
    /// Asks for what the route remembers.
    pub(super) fn recall(&mut self, request: &Request) {
        if !self.route().remembers() {
            return;
        }
        let policy = Arc::clone(&self.policy);
        let route = policy.route_at(self.route);
        let named = self.named && !self.held_out;
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
