//! An answer that no route reads, handed on as it comes: its length does not matter.
//!
//! Who answers is decided once its head and its first bytes are here, and the marks are appended to the message as it
//! passes. What fails later fails for the caller as well, whom no other backend can help any more.

use bytes::Bytes;

use super::attempt::Begun;
use super::caller::{Caller, Gone};
use super::compression::Down;
use super::decide::Decide;
use super::exchange::Alarm;
use super::marks::Marks;
use super::started::Started;
use super::status::{CANCELLED, OK};
use super::through::{Ended, go_on};
use super::worker::Occupied;
use crate::policy::{BackendIx, Decision, Reason};

/// What it takes until the answer's end.
pub struct Handover {
    /// Whose.
    pub backend: BackendIx,
    /// When its attempt began.
    pub started: Started,
    /// Its place among the backend's calls under way.
    pub place: Occupied,
    /// The answer.
    pub begun: Box<Begun>,
}

impl Decide<'_, '_, '_> {
    /// Hands the answer on to its end, and says in the decision how it ended.
    pub async fn hand_on(
        &mut self,
        caller: &mut Caller,
        handover: Box<Handover>,
        decision: &mut Decision,
    ) -> Result<(), Gone> {
        let Handover { backend, started, place, begun } = *handover;
        let (plan, id) = (&self.call.plan, self.journal.id);
        let marks = Marks::of(plan, &id, decision);
        let suffix = Bytes::from(self.suffix(backend, &marks));
        // An attempt's own share of the time bounds how long it takes to answer, not how long its answer is.
        let mut alarm = Alarm::new(self.until);
        let mut trailers = marks.trailers();
        self.explain(decision, &mut trailers);
        let extra = |status: u8| {
            if status == OK {
                return trailers;
            }
            decision.break_off(status);
            Marks::of(plan, &id, decision).trailers()
        };
        let max_bytes = plan.policy().limits().answer_bytes;
        // A long compressed answer goes without the marks, as a short one does.
        let down = Down { suffix, always: false, caller: &self.call.outbound.headers, max_bytes, own: false };
        let ended = go_on(caller, &mut alarm, &mut self.upload, *begun, down, extra).await;
        drop(place);
        let status = ended.map_or(CANCELLED, |Ended { status, .. }| status);
        if ended.is_err() {
            decision.break_off(CANCELLED);
        }
        let reason = decision.attempts.last().map_or(Reason::Ok, |last| last.reason);
        self.journal.end(&started, backend, if status == OK { Reason::Ok } else { reason }, status);
        self.journal.request_bytes = self.upload.bytes();
        self.journal.answer_bytes = ended.map_or(0, |ended| ended.answer_bytes);
        ended.map(|_| ())
    }
}
