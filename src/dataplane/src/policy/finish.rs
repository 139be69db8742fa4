//! The end of a call: what its rows, reasons and probabilities come to.

use smallvec::SmallVec;

use super::call::{Call, End, Why};
use super::compiled::{BackendIx, NO_INDEX};
use super::decision::{Decision, Row, push_reason};
use super::reading::Reading;
use super::sampling::Sample;
use super::words::{Outcome, Reason, status};

impl Call {
    /// The decision. The call is over; what was in it is moved out.
    pub fn finish(&mut self) -> Decision {
        let end = self.end.take().unwrap_or(End::Exhausted);
        let (reason, rule) = self.why(&end);
        let disagreement = self.disagreement();
        let (outcome, backend, status, message) = self.ending(&end);
        let rows = self.rows(&end, (outcome, backend), (reason, rule));
        Decision {
            route: self.route,
            outcome,
            reason,
            rule,
            backend,
            status,
            message,
            attempts: std::mem::take(&mut self.attempts),
            rows,
            mirrors: std::mem::take(&mut self.mirrors),
            segment: self.segment,
            unit: self.unit,
            noise: self.noise,
            arm: self.arm,
            propensity: self.propensity,
            disagreement,
            failed_rules: std::mem::take(&mut self.failed_rules),
        }
    }

    /// The first miss is why the caller did not get the first choice; a rejection goes by its rule.
    pub(super) fn why(&self, end: &End) -> Why {
        match end {
            End::Rejected { rule, .. } => (Reason::Rule, *rule),
            End::Aborted { reason, .. } => self.first.unwrap_or((*reason, NO_INDEX)),
            // Another than the chain's first was the first choice, and it answered.
            End::Answered(backend) if *backend == self.arm && self.route().chain.first() != Some(backend) => {
                self.first.unwrap_or((Reason::Explore, NO_INDEX))
            }
            _ => self.first.unwrap_or((Reason::Ok, NO_INDEX)),
        }
    }

    pub(super) fn ending(&self, end: &End) -> (Outcome, Option<u16>, u8, Option<Box<str>>) {
        match end {
            End::Answered(backend) => {
                let first = if self.arm == NO_INDEX { self.route().chain.first().copied() } else { Some(self.arm) };
                let outcome = if self.held_out {
                    Outcome::Holdout
                } else if first == Some(*backend) {
                    Outcome::Model
                } else {
                    Outcome::Fallback
                };
                (outcome, Some(*backend), status::OK, None)
            }
            End::Static(backend) => {
                let outcome = if self.held_out { Outcome::Holdout } else { Outcome::Static };
                (outcome, Some(*backend), status::OK, None)
            }
            End::People(backend) => {
                let outcome = if self.held_out { Outcome::Holdout } else { Outcome::Human };
                (outcome, Some(*backend), status::OK, None)
            }
            End::Rejected { status, message, .. } => (Outcome::Rejected, None, *status, Some((&**message).into())),
            End::PassedOn { backend, status } => (Outcome::Error, Some(*backend), *status, None),
            End::Aborted { status, .. } => (Outcome::Error, None, *status, Some(self.chain_in_words())),
            End::Exhausted => self.failing(),
        }
    }

    /// A single attempt's failing status is passed on; else the last one that failed by a status gives it.
    fn failing(&self) -> (Outcome, Option<u16>, u8, Option<Box<str>>) {
        if let [only] = *self.attempts
            && only.status != status::OK
            && only.made
        {
            return (Outcome::Error, None, only.status, None);
        }
        let last = self.attempts.iter().rev().find(|attempt| attempt.status != status::OK);
        let status = last.map_or(status::UNAVAILABLE, |attempt| attempt.status);
        (Outcome::Error, None, status, Some(self.chain_in_words()))
    }

    /// `no backend of the route spam answered: spam-v3 low_confidence, spam-lite backend_error (UNAVAILABLE)`.
    fn chain_in_words(&self) -> Box<str> {
        let mut words = format!("no backend of the route {} answered", self.route().name);
        for (position, attempt) in self.attempts.iter().enumerate() {
            words.push_str(if position == 0 { ": " } else { ", " });
            words.push_str(&self.policy.backend(attempt.backend).name);
            words.push(' ');
            push_reason(&self.policy, self.route, attempt.reason, attempt.rule, &mut words);
            if attempt.status != status::OK {
                words.push_str(" (");
                words.push_str(status::name(attempt.status));
                words.push(')');
            }
        }
        words.into()
    }

    fn rows(&mut self, end: &End, (outcome, backend): (Outcome, Option<BackendIx>), call: Why) -> SmallVec<[Row; 1]> {
        let readings = match end {
            End::Answered(_) | End::People(_) => std::mem::take(&mut self.readings),
            End::Static(backend) => {
                let answer = self.policy.backend(*backend).as_static();
                let spec = self.route().prediction.as_ref();
                let reading = spec.zip(answer).map(|(spec, answer)| Reading::of_static(spec, answer));
                let rows = usize::try_from(self.asked_rows).unwrap_or(usize::MAX).min(self.policy.limits.max_rows);
                SmallVec::from_elem(reading.unwrap_or_default(), rows.max(1))
            }
            _ => SmallVec::new(),
        };
        // Nothing was predicted where nobody answered, where the route reads nothing, and for a batch without rows.
        // A person's word is no prediction: it is a label itself, and belongs to no sample.
        let predicted = !readings.is_empty() && !matches!(end, End::People(_));
        let readings = if readings.is_empty() { SmallVec::from_elem(Reading::default(), 1) } else { readings };
        let rows = (0u32..).zip(readings).map(|(position, reading)| {
            let at = self.request_row(position);
            let mut row = self.answered_row((at, position), &reading, (outcome, backend), call);
            if !predicted {
                let Sample { stratum, pi, sampled } = Sample::NONE;
                (row.stratum, row.review_pi, row.sampled) = (stratum, pi, sampled);
            }
            // A rejection is of the whole call; else a row's own first miss goes before the call's.
            if matches!(end, End::Rejected { .. }) {
                (row.reason, row.rule) = call;
            }
            row
        });
        let rows = rows.collect();
        self.with_kept_rows(end, rows)
    }

    /// The row `at` of the request, answered at `position` among those that were asked for.
    pub(super) fn answered_row(
        &self,
        (at, position): (u32, u32),
        reading: &Reading,
        (outcome, backend): (Outcome, Option<BackendIx>),
        call: Why,
    ) -> Row {
        let (reason, rule) = self.own.get(position as usize).copied().flatten().unwrap_or(call);
        let marked = self.mark_all || self.marked.get(position as usize).copied().unwrap_or(false);
        let sample = self.review((at, marked), reading, outcome);
        Row {
            outcome,
            backend,
            reason,
            rule,
            label: reading.label.clone(),
            score: reading.score,
            confidence: reading.confidence,
            flagged: reading.flagged,
            stratum: sample.stratum,
            review_pi: sample.pi,
            sampled: sample.sampled,
        }
    }

    /// Stratum, inclusion probability and choice of one answered row.
    ///
    /// A row that a rule marks is put before a person for certain; a caller who wants no review gets none, whatever a
    /// rule says.
    fn review(&self, (row, marked): (u32, bool), reading: &Reading, outcome: Outcome) -> Sample {
        let Some(review) = &self.route().review else { return Sample::NONE };
        let (stratum, share) = review.stratum(reading, outcome);
        if self.no_review {
            return Sample { stratum, pi: 0.0, sampled: false };
        }
        let share = if marked { 1.0 } else { (share * review.factor(&self.segment)).min(1.0) };
        #[allow(clippy::cast_possible_truncation)] // a probability of 7 digits
        let pi = share as f32;
        Sample { stratum, pi, sampled: review.chosen(&self.id, row, share) }
    }

    /// With what probability a row of this call is reviewed that a shadow contradicts.
    fn disagreement(&self) -> f32 {
        let review = self.route().review.as_ref().filter(|_| !self.no_review && !self.mirrors.is_empty());
        let share = review.and_then(|review| Some(review.disagreement? * review.factor(&self.segment)));
        #[allow(clippy::cast_possible_truncation)] // a probability of 7 digits
        share.map_or(0.0, |share| share.min(1.0) as f32)
    }
}
