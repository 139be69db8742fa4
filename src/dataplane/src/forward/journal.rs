//! What a call leaves behind: its times, its attempts, and at its end its rows in the records.

use std::time::{Duration, Instant};

use http::Uri;
use smallvec::SmallVec;

use super::started::{Retried, Started};
use super::trace::Trace;
use super::worker::{Plan, Worker};
use crate::policy::{BackendIx, Decision, Label, Outcome, Reason, RouteIx};
use crate::records::{self, Arrival, Counter, NO_TEXT, NONE_U16};

/// One attempt, as it was timed.
#[derive(Clone, Copy, Debug)]
pub struct Timed {
    backend: BackendIx,
    reason: Reason,
    started: Instant,
    took: Duration,
    status: u8,
    span: u64,
}

/// A call's own book.
pub struct Journal {
    /// Decision id.
    pub id: [u8; 16],
    /// When the call came in.
    pub arrival: Arrival,
    /// Whose trace it is.
    pub trace: Trace,
    /// Path of the method.
    pub method: Uri,
    /// Bytes of the request.
    pub request_bytes: u64,
    /// Bytes of the answer.
    pub answer_bytes: u64,
    waited: Duration,
    attempts: SmallVec<[Timed; 2]>,
}

impl Journal {
    /// Opens the book of a call that has `waited` for its caller's message.
    #[must_use]
    pub fn new(arrival: Arrival, trace: Trace, method: Uri, waited: Duration) -> Self {
        let id = Worker::decision_id(arrival.unix_us);
        Self { id, arrival, trace, method, request_bytes: 0, answer_bytes: 0, waited, attempts: SmallVec::new() }
    }

    /// An attempt begins.
    #[must_use]
    pub fn start(&self) -> Started {
        Started::now(self.trace)
    }

    /// It has ended: the time until now was the backend's, with that of the attempts it repeated.
    pub fn end(&mut self, started: &Started, backend: BackendIx, reason: Reason, status: u8) {
        let now = Instant::now();
        for retried in started.take_retried() {
            let Retried { at, took, status, span } = retried;
            self.attempts.push(Timed { backend, reason: Reason::BackendError, started: at, took, status, span });
        }
        let took = now.saturating_duration_since(started.at());
        self.waited += now.saturating_duration_since(started.first());
        self.attempts.push(Timed { backend, reason, started: started.at(), took, status, span: started.span() });
        started.ended(reason, status, now);
    }

    /// Time that was spent waiting for somebody outside.
    pub fn waited(&mut self, took: Duration) {
        self.waited += took;
    }

    /// The last attempt's reason turned out otherwise once its answer was read.
    pub fn amend(&mut self, reason: Reason) {
        if let Some(last) = self.attempts.last_mut() {
            last.reason = reason;
        }
    }

    /// Writes the rows of a call that no route decided.
    pub fn write_plain(self, worker: &Worker, plan: &Plan, route: RouteIx, backend: Option<BackendIx>, status: u8) {
        let outcome = if status == 0 { Outcome::Model } else { Outcome::Error };
        let reason = self.attempts.last().map_or(Reason::Ok, |last| last.reason);
        let reason = if status != 0 && reason == Reason::Ok { Reason::BackendError } else { reason };
        let row = self.row(plan, status);
        let row = records::Record {
            route,
            backend: backend.unwrap_or(NONE_U16),
            outcome: outcome as u8,
            reason: reason as u8,
            ..row
        };
        self.write(worker, 1, |batch| {
            let segment = batch.strings.intern("");
            let method = batch.strings.intern(self.method.path());
            batch.records.push(&records::Record { segment, method, ..row });
        });
    }

    /// Writes the rows of a decided call; false where there was no room for them.
    pub fn write_decision(&self, worker: &Worker, plan: &Plan, decision: &Decision) -> bool {
        let rows = decision.rows.len();
        let base = self.row(plan, decision.status);
        let classes = plan.policy().route_at(decision.route).prediction.as_ref().map(|spec| &spec.classes[..]);
        self.write(worker, rows, |batch| {
            let segment = batch.strings.intern(decision.segment.text());
            let method = batch.strings.intern(self.method.path());
            for (at, row) in decision.rows.iter().enumerate() {
                let label = text_of(row.label.as_ref(), classes).map_or(NO_TEXT, |text| batch.strings.intern(text));
                batch.records.push(&records::Record {
                    row: u32::try_from(at).unwrap_or(u32::MAX),
                    rows: u32::try_from(rows).unwrap_or(u32::MAX),
                    route: decision.route,
                    backend: row.backend.unwrap_or(NONE_U16),
                    outcome: row.outcome as u8,
                    reason: row.reason as u8,
                    rule: row.rule,
                    label,
                    flagged: row.flagged.map_or(255, u8::from),
                    score: row.score,
                    confidence: row.confidence,
                    segment,
                    unit: decision.unit,
                    stratum: row.stratum,
                    review_pi: row.review_pi,
                    sampled: u8::from(row.sampled),
                    arm: decision.arm,
                    propensity: decision.propensity,
                    method,
                    ..base
                });
            }
        })
    }

    fn row(&self, plan: &Plan, status: u8) -> records::Record {
        let id = u128::from_be_bytes(self.id);
        let duration = self.arrival.at.elapsed();
        #[allow(clippy::cast_possible_truncation)]
        // halves of an id, and a time that f32 holds well enough
        records::Record {
            id_hi: (id >> 64) as u64,
            id_lo: id as u64,
            row: 0,
            rows: 1,
            time_us: self.arrival.unix_us,
            duration_us: u32::try_from(duration.as_micros()).unwrap_or(u32::MAX),
            overhead_us: (duration.saturating_sub(self.waited).as_secs_f64() * 1e6) as f32,
            policy: plan.policy().version(),
            route: NONE_U16,
            backend: NONE_U16,
            outcome: Outcome::Error as u8,
            reason: Reason::Ok as u8,
            rule: NONE_U16,
            label: NO_TEXT,
            flagged: 255,
            score: f64::NAN,
            confidence: f64::NAN,
            segment: NO_TEXT,
            unit: 0,
            stratum: 255,
            review_pi: 0.0,
            sampled: 0,
            arm: NONE_U16,
            propensity: 1.0,
            status,
            request_bytes: u32::try_from(self.request_bytes).unwrap_or(u32::MAX),
            answer_bytes: u32::try_from(self.answer_bytes).unwrap_or(u32::MAX),
            trace_hi: (self.trace.id >> 64) as u64,
            trace_lo: self.trace.id as u64,
            span: self.trace.span,
            parent: self.trace.parent,
            traced: u8::from(self.trace.sampled),
            method: NO_TEXT,
        }
    }

    fn write(&self, worker: &Worker, rows: usize, write: impl FnOnce(&mut records::Batch)) -> bool {
        let limits = worker.sink.limits;
        let written = worker.sink.write(&worker.shared.bell, |batch| {
            if !batch.has_room(limits, rows, self.attempts.len()) {
                return false;
            }
            let record = u32::try_from(batch.records.row.len()).unwrap_or(u32::MAX);
            write(batch);
            for timed in &self.attempts {
                batch.attempts.push(&records::Attempt {
                    record,
                    backend: timed.backend,
                    reason: timed.reason as u8,
                    start_us: self.arrival.unix_us_at(timed.started),
                    duration_us: u32::try_from(timed.took.as_micros()).unwrap_or(u32::MAX),
                    status: timed.status,
                    span: timed.span,
                });
            }
            true
        });
        if !written {
            worker.count(Counter::RecordsFull);
        }
        written
    }
}

/// A label's text, among a route's classes.
pub fn text_of<'a>(label: Option<&'a Label>, classes: Option<&'a [Box<str>]>) -> Option<&'a str> {
    match label? {
        Label::Class(class) => classes?.get(usize::from(*class)).map(|text| &**text),
        Label::Text(text) => Some(text),
    }
}
