//! A decided call: attempts along the chain within one deadline, until somebody's answer is good enough.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;

use super::answer::{AT_ONCE_BYTES, Final};
use super::apart::Apart;
use super::append::Append;
use super::asked::{self, Asked};
use super::attempt::{Answer, AskBody, Came, Hold, ask};
use super::caller::{Caller, Gone};
use super::exchange::{Alarm, Fault, Outbound, Target};
use super::handover::Handover;
use super::journal::Journal;
use super::message::{GRPC_ENCODING, Message};
use super::plain::Plain;
use super::started::Started;
use super::status::{self, CANCELLED, DEADLINE_EXCEEDED, INTERNAL, OK, RESOURCE_EXHAUSTED, Status};
use super::through::status_of;
use super::upload::Upload;
use super::upstream::Upstream;
use super::worker::Occupied;
use crate::policy::{self, BackendIx, InvalidOutput, Judgement, Reason, Request, Route, Step};
use crate::records::Counter;

/// A call of a route, with all that deciding needs.
pub struct Decide<'a, 'm, 'w> {
    /// The call itself.
    pub call: &'a Plain<'w>,
    /// Its route.
    pub route: &'a Route,
    /// The request, as far as it is here.
    pub message: &'a Message,
    /// What was read of it.
    pub asked: &'a Asked<'m>,
    /// The same, as decisions see it.
    pub request: &'a Request<'a>,
    /// When it is too late: the caller's deadline, or the route's.
    pub until: Option<Instant>,
    /// The policy's state machine.
    pub state: policy::Call,
    /// The request's bytes.
    pub upload: Upload,
    /// The call's book.
    pub journal: Journal,
    /// How the last attempt failed, in the backend's own words.
    pub failure: Option<Failure>,
    /// What is kept of a batch whose rows go different ways.
    pub apart: Option<Box<Apart>>,
    /// An answer that waits for Python's word.
    pub unsettled: Option<Box<Unsettled>>,
    /// Whether a backend has been sent anything.
    pub has_asked: bool,
}

/// All that an attempt needs, at the moment it is made.
pub struct Ready<'a> {
    /// Whom it goes to.
    pub backend: BackendIx,
    /// When it began.
    pub started: Started,
    /// Its place among the backend's calls under way.
    pub place: Occupied,
    /// The backend's connections.
    pub upstream: &'a Upstream,
    /// What addresses the backend's model.
    pub suffix: Vec<u8>,
}

impl Ready<'_> {
    /// Makes the head of its request, on each connection anew.
    pub fn head<'o>(
        &self,
        outbound: &'o Outbound,
        inflated: bool,
    ) -> impl Fn(Option<Duration>) -> http::Request<()> + use<'o> {
        let span = self.started.span();
        move |left| {
            let mut head = outbound.head(left, span);
            if inflated {
                head.headers_mut().remove(GRPC_ENCODING);
            }
            head
        }
    }
}

/// An answer that was read, and is not judged yet.
pub struct Unsettled {
    /// Whose.
    pub backend: BackendIx,
    /// As it came.
    pub answer: Answer,
    /// What it says.
    pub message: Option<Message>,
}

/// A status with what else the backend said beside it.
pub struct Failure {
    /// Code and words.
    pub status: Status,
    /// Other trailers.
    pub trailers: HeaderMap,
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self { status, trailers: HeaderMap::new() }
    }
}

impl<'a> Decide<'a, '_, '_> {
    /// Decides and answers.
    pub async fn run(&mut self, caller: &mut Caller) -> Result<(), Gone> {
        let mut answered = self.walk(caller).await;
        if self.apart.is_some() {
            answered = answered.map(|end| self.put_together(end));
        }
        let decision = self.state.finish();
        self.call.plan.learn(&self.state, &decision, self.call.arrival.at);
        self.conclude(caller, answered, decision).await
    }

    /// Goes along the chain.
    async fn walk(&mut self, caller: &mut Caller) -> Result<Final, Gone> {
        loop {
            match self.state.next() {
                Step::Attempt(backend) => {
                    let answer = match self.may_hedge(backend) {
                        Some(hedging) => Box::pin(self.hedged(caller, backend, hedging)).await?,
                        None => self.attempt(caller, backend).await?,
                    };
                    if let Some(answer) = answer {
                        return Ok(answer);
                    }
                }
                Step::People(backend) => {
                    if let Some(answer) = Box::pin(self.ask_people(caller, backend)).await? {
                        return Ok(answer);
                    }
                }
                Step::Ask(_) => {
                    if let Some(answer) = Box::pin(self.ask_python(caller)).await? {
                        return Ok(answer);
                    }
                }
                Step::Static(backend) => return Ok(self.static_answer(backend)),
                Step::Reject { .. } | Step::Exhausted => return Ok(Final::Failed),
            }
        }
    }

    /// How much of an answer is held: what no prediction is read from need not be here whole.
    pub(super) fn hold(&self) -> Hold {
        let stream_over = self.route.prediction.is_none().then_some(AT_ONCE_BYTES);
        Hold { max_bytes: self.call.plan.policy().limits().answer_bytes, stream_over }
    }

    /// When it is too late for the attempt under way.
    pub(super) fn share(&self) -> Option<Instant> {
        self.state.budget(self.left()).map(|budget| Instant::now() + budget)
    }

    fn left(&self) -> Option<Duration> {
        self.until.map(|until| until.saturating_duration_since(Instant::now()))
    }

    /// One attempt; `None` sends the call on along its chain.
    async fn attempt(&mut self, caller: &mut Caller, backend: BackendIx) -> Result<Option<Final>, Gone> {
        let Some(ready) = self.prepare(backend) else { return Ok(None) };
        let (mut alarm, hold) = (Alarm::new(self.share()), self.hold());
        let message = self.sent();
        let whole = message.whole;
        let (frames, inflated) = if whole { message.with(&ready.suffix) } else { Default::default() };
        let head = ready.head(&self.call.outbound, inflated);
        let body = if whole {
            AskBody::Whole(&frames)
        } else {
            let suffix = (!ready.suffix.is_empty()).then(|| Append::new(Bytes::copy_from_slice(&ready.suffix), None));
            AskBody::Stream(&mut self.upload, suffix)
        };
        let target = Target { worker: self.call.worker, upstream: ready.upstream, started: Some(&ready.started) };
        let came = ask(target, caller, &mut alarm, head, body, hold).await;
        drop(frames);
        self.came(ready, came)
    }

    /// What an attempt needs; `None` where it cannot be made, which is a miss.
    pub(super) fn prepare(&mut self, backend: BackendIx) -> Option<Ready<'a>> {
        let started = self.journal.start();
        let call = self.call;
        let plan = &call.plan;
        let (Some(upstream), Some(model)) = (plan.upstream(backend), plan.policy().backend(backend).as_model()) else {
            self.miss(&started, backend, Reason::BackendError, Status::new(INTERNAL, "no model server"));
            return None;
        };
        if self.left() == Some(Duration::ZERO) {
            self.out_of_time(&started, backend);
            return None;
        }
        let name = &plan.policy().backend(backend).name;
        if self.has_asked && !self.sent().whole && !self.upload.is_replayable() {
            call.worker.count(Counter::FallbackReplay);
            let words = format!("the request was longer than what is kept for {name}");
            self.miss(&started, backend, Reason::Overload, Status::new(RESOURCE_EXHAUSTED, words));
            return None;
        }
        let place = match call.worker.occupy(plan, backend, &started, || self.state.has_next()) {
            Ok(place) => place,
            Err(refused) => {
                self.miss(&started, backend, refused.reason(), refused.status(name));
                return None;
            }
        };
        started.may_repeat(self.asked.repeat());
        self.has_asked = true;
        let suffix = self.asked.address(model);
        Some(Ready { backend, started, place, upstream, suffix })
    }

    /// What came of an attempt: an answer, or a miss.
    pub(super) fn came(&mut self, ready: Ready<'a>, came: Result<Came, Fault>) -> Result<Option<Final>, Gone> {
        let Ready { backend, started, place, .. } = ready;
        match came {
            Ok(Came::Begun(begun)) => {
                self.state.accept();
                Ok(Some(Final::Begun(Some(Box::new(Handover { backend, started, place, begun })))))
            }
            Ok(Came::Whole(answer)) if answer.status.code == OK => {
                self.journal.end(&started, backend, Reason::Ok, OK);
                let Some((message, judgement)) = self.judge(&answer) else { return Ok(None) };
                Ok(self.judged(backend, answer, message, judgement))
            }
            Ok(Came::Whole(answer)) => Ok(self.failed(&started, backend, answer)),
            Err(Fault::Gone) => {
                self.journal.end(&started, backend, Reason::Deadline, CANCELLED);
                self.state.abort(Reason::Deadline, CANCELLED);
                Err(Gone)
            }
            Err(Fault::Deadline) => {
                self.out_of_time(&started, backend);
                Ok(None)
            }
            Err(Fault::TooLong) => {
                self.journal.end(&started, backend, Reason::InvalidOutput, OK);
                let words = format!("the answer is longer than {} bytes", self.hold().max_bytes);
                self.failure = Some(Status::new(RESOURCE_EXHAUSTED, words.clone()).into());
                if self.route.prediction.is_none() {
                    self.state.miss(Reason::InvalidOutput, RESOURCE_EXHAUSTED);
                } else {
                    self.state.judge(self.request, Err(&InvalidOutput(words.into())));
                }
                Ok(None)
            }
            Err(fault) => {
                self.miss(&started, backend, Reason::BackendError, status_of(&fault));
                Ok(None)
            }
        }
    }

    pub(super) fn miss(&mut self, started: &Started, backend: BackendIx, reason: Reason, status: Status) {
        self.journal.end(started, backend, reason, status.code);
        self.state.miss(reason, status.code);
        self.failure = Some(status.into());
    }

    /// The attempt's time is up. Should the call's be too, those after it are passed over in the same way, but for a
    /// static answer: calls that share a hanging backend run out together, and wait for each other here past the moment.
    pub(super) fn out_of_time(&mut self, started: &Started, backend: BackendIx) {
        let name = &self.call.plan.policy().backend(backend).name;
        let status = Status::new(DEADLINE_EXCEEDED, format!("{name} did not answer in time"));
        self.miss(started, backend, Reason::Deadline, status);
    }

    /// A backend's failing status: a miss, or the caller's own affair.
    fn failed(&mut self, started: &Started, backend: BackendIx, answer: Answer) -> Option<Final> {
        let code = answer.status.code;
        let reason = if code == DEADLINE_EXCEEDED { Reason::Deadline } else { Reason::BackendError };
        self.journal.end(started, backend, reason, code);
        self.failure = Some(Failure { status: answer.status, trailers: answer.trailers });
        if policy::status::is_miss(code) || self.state.is_ahead() {
            self.state.miss(reason, code);
            return None;
        }
        self.state.pass_on(code);
        Some(Final::Failed)
    }

    /// Reads the prediction and asks the policy whether it is good enough.
    fn judge(&mut self, answer: &Answer) -> Option<(Option<Message>, Judgement)> {
        let limits = self.call.plan.policy().limits();
        let message = Message::read(answer.framed.clone(), true, &answer.headers, limits.answer_bytes);
        let message = message.map_err(|status| InvalidOutput(status.message.into_owned().into()));
        let message = message.and_then(|message| {
            if self.route.splits {
                self.prepare_rows(&message.plain)?;
            }
            Ok(message)
        });
        let mut scratch = self.call.worker.predictions.borrow_mut();
        let read = message.and_then(|message| {
            asked::read(self.route, &message.plain, limits.max_rows, &mut scratch)?;
            Ok(message)
        });
        Some(match read {
            Ok(message) => (Some(message), self.state.judge(self.request, Ok(&scratch))),
            Err(InvalidOutput(words)) if self.route.prediction.is_none() => {
                self.journal.amend(Reason::InvalidOutput);
                self.state.miss(Reason::InvalidOutput, INTERNAL);
                self.failure = Some(Status::new(INTERNAL, words.into_string()).into());
                return None;
            }
            Err(invalid) => (None, self.state.judge(self.request, Err(&invalid))),
        })
    }

    /// What becomes of an answer that was judged.
    pub fn judged(
        &mut self,
        backend: BackendIx,
        answer: Answer,
        message: Option<Message>,
        judgement: Judgement,
    ) -> Option<Final> {
        match (judgement, message) {
            (Judgement::Accept, Some(message)) => Some(Final::Answered { backend, answer, message }),
            // The state machine asks next, and this is what the reply will be about.
            (Judgement::Ask(_), message) => {
                self.unsettled = Some(Box::new(Unsettled { backend, answer, message }));
                None
            }
            (Judgement::Accept, None) => Some(Final::Failed),
            (Judgement::Miss(reason), message) => {
                self.journal.amend(reason);
                if let Some(message) = message.filter(|_| self.route.splits) {
                    self.keep_rows(&message.plain);
                }
                let words = match (reason, self.state.invalid()) {
                    (Reason::InvalidOutput, Some(invalid)) => invalid.to_string(),
                    _ => "the prediction was not good enough".into(),
                };
                self.failure = Some(Status::new(status::UNAVAILABLE, words).into());
                None
            }
        }
    }

    pub(super) fn static_answer(&mut self, backend: BackendIx) -> Final {
        let policy = self.call.plan.policy();
        let mut plain = Vec::new();
        let written = match policy.backend(backend).as_static() {
            Some(answer) => self.with_asked(|asked| {
                asked.static_answer(self.route, std::slice::from_ref(answer), policy.limits().max_rows, &mut plain)
            }),
            None => Err("the backend is no static answer".into()),
        };
        match written {
            Ok(()) => Final::Static { plain: plain.into() },
            Err(words) => {
                self.failure = Some(Status::new(INTERNAL, words).into());
                self.state.abort(Reason::InvalidOutput, INTERNAL);
                Final::Failed
            }
        }
    }
}
