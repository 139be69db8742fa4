//! The end of a decided call: its answer with marks, then, off the caller's path, record, capture and shadows.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};

use super::attempt::Answer;
use super::caller::{Caller, Gone, grpc_head};
use super::compression::{accepts, encoding};
use super::decide::Decide;
use super::exchange::{Alarm, watched};
use super::handover::Handover;
use super::marks::{Marks, explain};
use super::message::{Frames, GRPC_ENCODING, Message, frames};
use super::metadata::EXPLAIN;
use super::shadow;
use super::status::{INTERNAL, OK, RESOURCE_EXHAUSTED, Status};
use crate::policy::{BackendIx, Decision};
use crate::records::{Capture, Counter};

/// Up to here an answer is handed over whole; above, as its caller takes it.
pub const AT_ONCE_BYTES: usize = 64 * 1024;

/// What the caller gets.
#[expect(
    clippy::large_enum_variant,
    reason = "one lives at a time in a call; a box would cost the usual call an allocation"
)]
pub enum Final {
    /// A backend's answer.
    Answered {
        /// Whose.
        backend: BackendIx,
        /// As it came.
        answer: Answer,
        /// What it says.
        message: Message,
    },
    /// A backend's answer that nobody reads, and that is longer than what is held of it.
    Begun(Option<Box<Handover>>),
    /// A static answer.
    Static {
        /// In the form of the route's prediction.
        plain: Bytes,
    },
    /// A status; which one stands in the decision.
    Failed,
}

impl Decide<'_, '_, '_> {
    /// Answers, then writes down.
    pub async fn conclude(
        &mut self,
        caller: &mut Caller,
        mut walked: Result<Final, Gone>,
        mut decision: Decision,
    ) -> Result<(), Gone> {
        self.journal.request_bytes = self.upload.bytes();
        let answered = match &mut walked {
            Ok(Final::Begun(handover)) => match handover.take() {
                Some(handover) => Box::pin(self.hand_on(caller, handover, &mut decision)).await,
                None => Ok(()),
            },
            Ok(end) => self.answer(caller, end, &decision).await,
            Err(Gone) => Err(Gone),
        };
        let (worker, plan) = (self.call.worker, &self.call.plan);
        let recorded = self.journal.write_decision(worker, plan, &decision);
        let plain = match &walked {
            Ok(Final::Answered { message, .. }) => Some(&message.plain),
            Ok(Final::Static { plain }) => Some(plain),
            Ok(Final::Begun(_) | Final::Failed) | Err(Gone) => None,
        };
        if let Some(plain) = plain
            && decision.rows.iter().any(|row| row.sampled)
        {
            self.capture(&decision, plain);
        }
        if decision.status == OK && !decision.mirrors.is_empty() {
            shadow::send(self, decision, plain, recorded);
        }
        answered
    }

    async fn answer(&mut self, caller: &mut Caller, end: &mut Final, decision: &Decision) -> Result<(), Gone> {
        let marks = Marks::of(&self.call.plan, &self.journal.id, decision);
        let mut trailers = marks.trailers();
        let (headers, frames) = match end {
            Final::Answered { backend, answer, message } => {
                // Usually it has but the `grpc-status: 0` that the marks say as well.
                if answer.trailers.len() > 1 || decision.status != OK {
                    trailers.extend(std::mem::take(&mut answer.trailers));
                }
                let mut headers = std::mem::take(&mut answer.headers);
                if message.compressed && accepts(&self.call.outbound.headers, encoding(&headers)) {
                    // Nothing can be appended to it.
                    (headers, smallvec::smallvec![message.framed.clone()])
                } else {
                    if message.compressed {
                        headers.remove(GRPC_ENCODING);
                    }
                    (headers, message.inflated(&self.suffix(*backend, &marks)))
                }
            }
            Final::Static { plain } => {
                let mut suffix = Vec::new();
                if self.asked.takes_params() {
                    marks.params(&mut suffix);
                }
                let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
                (HeaderMap::from_iter([kind]), frames(plain, &suffix))
            }
            Final::Failed | Final::Begun(_) => {
                let status = self.status(decision, &mut trailers);
                self.explain(decision, &mut trailers);
                return caller.fail(&status, trailers);
            }
        };
        self.explain(decision, &mut trailers);
        let bytes = frames.iter().map(Bytes::len).sum::<usize>();
        if bytes <= AT_ONCE_BYTES {
            caller.open(grpc_head(headers), false)?;
            for frame in frames {
                caller.data(frame, false)?;
            }
        } else {
            let Some(_held) = self.call.worker.hold(bytes) else {
                let words = "answers that their callers do not read fill the memory kept for them";
                return caller.fail(&Status::new(RESOURCE_EXHAUSTED, words), trailers);
            };
            caller.open(grpc_head(headers), false)?;
            self.hand_over(caller, frames).await?;
        }
        self.journal.answer_bytes = bytes as u64;
        caller.trailers(trailers)
    }

    pub(super) fn explain(&self, decision: &Decision, trailers: &mut HeaderMap) {
        if self.call.outbound.headers.get(EXPLAIN).is_some_and(|value| value == "1") {
            trailers.insert(EXPLAIN, explain(self.call.plan.policy(), decision));
        }
    }

    /// The status of a call that nobody answered: the policy's words, else the backend's own with what stood beside it.
    fn status(&mut self, decision: &Decision, trailers: &mut HeaderMap) -> Status {
        let failure = self.failure.take();
        match (&decision.message, failure) {
            (Some(message), _) => Status::new(decision.status, Cow::Owned(message.to_string())),
            (None, Some(failure)) => {
                trailers.extend(failure.trailers);
                failure.status
            }
            (None, None) => Status::new(if decision.status == OK { INTERNAL } else { decision.status }, ""),
        }
    }

    /// What is appended to a backend's answer: the name that the caller asked for, and the marks.
    pub(super) fn suffix(&self, backend: BackendIx, marks: &Marks) -> Vec<u8> {
        let takes_params = self.asked.takes_params();
        let mut suffix = Vec::with_capacity(if takes_params { 512 } else { 0 });
        self.asked.rename(self.call.plan.policy().backend(backend).as_model(), &mut suffix);
        if takes_params {
            marks.params(&mut suffix);
        }
        suffix
    }

    /// Hands a long answer over as fast as its caller takes it, for as long as the caller said that it would wait.
    async fn hand_over(&self, caller: &mut Caller, frames: Frames) -> Result<(), Gone> {
        let mut alarm = Alarm::new(self.call.until);
        for mut frame in frames {
            while !frame.is_empty() {
                let room = watched(caller, &mut alarm, |caller, cx| caller.poll_room(cx, frame.len())).await;
                let room = room.map_err(|_| Gone)??;
                caller.data(frame.split_to(room), false)?;
            }
        }
        Ok(())
    }

    /// Puts the sampled rows before people.
    fn capture(&self, decision: &Decision, answer: &Bytes) {
        let worker = self.call.worker;
        if self.route.review.is_none() {
            return;
        }
        let sampled = decision.rows.iter().zip(0_u32..).filter(|(row, _)| row.sampled);
        let capture = match self.captured(sampled.map(|(_, at)| at).collect(), answer) {
            Ok(capture) => capture,
            Err(why) => return worker.count(why),
        };
        let limits = worker.sink.limits;
        if !worker.sink.write(&worker.shared.bell, |batch| batch.capture(limits, capture)) {
            worker.count(Counter::CapturesFull);
        }
    }

    /// The request as the settings let it leave the call, for people to look at these rows of it.
    ///
    /// # Errors
    /// What it is counted as that it cannot leave.
    pub fn captured(&self, rows: Vec<u32>, answer: &Bytes) -> Result<Capture, Counter> {
        let review = self.route.review.as_ref().ok_or(Counter::CapturesUnreadable)?;
        let mut request = Vec::new();
        if !review.capture.is_empty() {
            let whole = self.whole_request().ok_or(Counter::CapturesTooLong)?;
            // What cannot be redacted does not leave.
            self.asked.redact(&whole, &review.redact, &mut request).map_err(|_| Counter::CapturesUnreadable)?;
        }
        Ok(Capture {
            id: self.journal.id,
            rows,
            route: self.route.name.to_string(),
            queue: review.queue.to_string(),
            request,
            answer: answer.to_vec(),
            policy: self.call.plan.policy().version(),
            time_us: self.journal.arrival.unix_us,
        })
    }

    /// The request's message, if all of it was kept.
    #[must_use]
    pub fn whole_request(&self) -> Option<Bytes> {
        if self.message.whole {
            return Some(self.message.plain.clone());
        }
        let whole = self.upload.is_ended() && self.upload.is_replayable();
        whole.then(|| self.upload.joined().slice(crate::wire::frame::HEAD_BYTES..))
    }
}
