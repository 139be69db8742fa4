//! What was decided, to be shown in trailers, receipts and records.

use smallvec::SmallVec;

use super::compiled::{BackendIx, NO_INDEX, Policy, RouteIx};
use super::prediction::Label;
use super::segment::Segment;
use super::words::{Outcome, Reason, status};

/// No stratum: the row was not answered, so there is nothing to review.
pub const NO_STRATUM: u8 = 255;

/// A backend that was asked, or passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub backend: BackendIx,
    /// `Ok` for the one that answered, else why it did not.
    pub reason: Reason,
    /// Which rule, where the reason is a rule; else `NO_INDEX`.
    pub rule: u16,
    /// gRPC status of the attempt; 0 where the backend answered.
    pub status: u8,
    /// Whether a model server was really asked: not for a static answer, nor for a backend that was passed over.
    pub made: bool,
}

/// One row of the call: one prediction.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub outcome: Outcome,
    /// Who answered it.
    pub backend: Option<BackendIx>,
    pub reason: Reason,
    pub rule: u16,
    pub label: Option<Label>,
    /// Score of `positive`; NaN if there is none.
    pub score: f64,
    /// NaN if there is none.
    pub confidence: f64,
    pub flagged: Option<bool>,
    /// One of `sampling::stratum`, or `NO_STRATUM`.
    pub stratum: u8,
    /// With what probability the row is put before a person; 0 when the route has no review.
    pub review_pi: f32,
    pub sampled: bool,
}

/// The decision on one call.
#[derive(Clone, Debug)]
pub struct Decision {
    pub route: RouteIx,
    pub outcome: Outcome,
    /// Why the caller did not get the first choice; `Ok` if it did.
    pub reason: Reason,
    pub rule: u16,
    /// Who answered.
    pub backend: Option<BackendIx>,
    /// What the caller gets: 0, or why nothing.
    pub status: u8,
    /// Words for that status; `None` means the backend's own, which are passed on.
    pub message: Option<Box<str>>,
    /// In order, passed-over ones included.
    pub attempts: SmallVec<[Attempt; 4]>,
    /// One per row of an answered call; a single one for a call that nobody answered, whatever it claimed to hold.
    pub rows: SmallVec<[Row; 1]>,
    /// Positions in the route's `mirror` that get a copy.
    pub mirrors: SmallVec<[u16; 2]>,
    /// Which of these copies go to the mirror's `noise` as well: bit `n` for the mirror at position `n`.
    pub noise: u16,
    pub segment: Segment,
    /// `xxh3_64(salt || unit)`.
    pub unit: u64,
    /// The backend that was drawn to be the first choice; `NO_INDEX`: nothing is explored.
    pub arm: BackendIx,
    /// With what probability it was drawn. Whether it could answer is another matter: see `backend`.
    pub propensity: f32,
    /// With what probability a row is reviewed that a shadow contradicts; 0 where that changes nothing.
    pub disagreement: f32,
    /// Rules whose condition could not be evaluated for this call.
    pub failed_rules: SmallVec<[u16; 2]>,
}

impl Decision {
    /// The answer that was being handed over broke off: who had answered has failed after all.
    pub fn break_off(&mut self, code: u8) {
        self.outcome = Outcome::Error;
        self.status = code;
        let reason = if code == status::DEADLINE_EXCEEDED { Reason::Deadline } else { Reason::BackendError };
        if self.reason == Reason::Ok {
            self.reason = reason;
        }
        for attempt in self.attempts.iter_mut().filter(|attempt| attempt.reason == Reason::Ok) {
            (attempt.reason, attempt.status) = (reason, code);
        }
        for row in &mut self.rows {
            row.outcome = Outcome::Error;
            if row.reason == Reason::Ok {
                row.reason = reason;
            }
        }
    }

    /// `rule:<name>`, or the reason's word.
    pub fn reason_text(&self, policy: &Policy) -> String {
        reason_text(policy, self.route, self.reason, self.rule)
    }
}

/// The reason as callers see it: `rule:<name>` where a rule decided.
pub fn reason_text(policy: &Policy, route: RouteIx, reason: Reason, rule: u16) -> String {
    let mut text = String::new();
    push_reason(policy, route, reason, rule, &mut text);
    text
}

/// Appends the reason as callers see it; for those who keep the buffer.
pub fn push_reason(policy: &Policy, route: RouteIx, reason: Reason, rule: u16, out: &mut String) {
    out.push_str(reason.text());
    if reason == Reason::Rule
        && rule != NO_INDEX
        && let Some(rule) = policy.route_at(route).rules.get(usize::from(rule))
    {
        out.push(':');
        out.push_str(&rule.name);
    }
}

/// Appends `spam-v3:low_confidence,spam-lite:ok`, the value of the trailer `gateway-attempts`.
pub fn push_attempts(policy: &Policy, route: RouteIx, attempts: &[Attempt], out: &mut String) {
    for (position, attempt) in attempts.iter().enumerate() {
        if position > 0 {
            out.push(',');
        }
        out.push_str(&policy.backend(attempt.backend).name);
        out.push(':');
        push_reason(policy, route, attempt.reason, attempt.rule, out);
    }
}
