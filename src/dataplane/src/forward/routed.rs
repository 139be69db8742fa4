//! Routes on methods that no prediction is read from, and streams of inferences: streamed through, with fallback until the
//! first message of an answer.
//!
//! While another backend could be asked, an answer's head is held back until its first message begins: what fails before
//! that has told the caller nothing. From then on every message goes on as it comes.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;

use super::attempt::{Answer, Begun, Came, Hold, gather};
use super::caller::{Caller, Gone};
use super::earlier;
use super::exchange::{AHEAD, Alarm, Body, Fault, Opened, Target, open};
use super::journal::Journal;
use super::marks::Marks;
use super::metadata::Seen;
use super::model::renamed;
use super::plain::Plain;
use super::shadow;
use super::started::Started;
use super::status::{self, CANCELLED, DEADLINE_EXCEEDED, OK, RESOURCE_EXHAUSTED, Status, UNAVAILABLE, UNIMPLEMENTED};
use super::through::{Ended, go_on, no_message, relay, status_of};
use super::upload::Upload;
use crate::policy::{self, BackendIx, Decision, Reason, Request, RouteIx, Step};
use crate::records::Counter;
use crate::wire::oip::{self, Head};

/// A call of such a route, under way.
struct Routed<'a, 'w> {
    call: &'a Plain<'w>,
    state: policy::Call,
    upload: Upload,
    journal: Journal,
    until: Option<Instant>,
    failure: Option<Status>,
    /// Name and version of the model that its messages name.
    named: Option<(&'a str, &'a str)>,
    asked: bool,
    /// When the caller's first bytes came.
    spoke: Rc<Cell<Option<Instant>>>,
    /// The caller takes its time with its first message: that is no backend's failure.
    patient: bool,
}

/// Whether an attempt's time is over, by our clock or by the backend's, which was told the same time and may be first.
fn is_late(done: &Result<Answering, Fault>, share: Option<Duration>, took: Duration) -> bool {
    match done {
        Err(fault) => matches!(fault, Fault::Deadline),
        Ok(Answering::Ended(answer)) => {
            answer.status.code == DEADLINE_EXCEEDED && share.is_some_and(|share| took + AHEAD >= share)
        }
        Ok(_) => false,
    }
}

/// An answer on its way to the caller.
enum Answering {
    /// Its head is here.
    Opened(Opened),
    /// Its first message has begun.
    Begun(Box<Begun>),
    /// All of it, without any message.
    Ended(Answer),
}

impl Plain<'_> {
    /// Serves a call of a route that was matched by its method.
    pub async fn routed(&self, caller: &mut Caller, body: RecvStream, route: RouteIx) -> Result<(), Gone> {
        let upload = Upload::new(body, self.plan.policy().limits().replay_bytes);
        self.routed_upload(caller, upload, route).await
    }

    /// The same, of a call that was looked at already.
    pub async fn routed_upload(&self, caller: &mut Caller, upload: Upload, route: RouteIx) -> Result<(), Gone> {
        let seen = Seen(&self.outbound.headers);
        let request = Request {
            method: self.outbound.uri.path(),
            model: "",
            id: "",
            rows: 1,
            params: &[],
            inputs: &[],
            metadata: &seen,
            caller: self.peer.as_deref(),
            memory: None,
        };
        self.stream(caller, upload, route, &request, None).await
    }

    /// Serves a stream of inferences, which goes by its first one.
    pub async fn stream_infer(
        &self,
        caller: &mut Caller,
        mut upload: Upload,
        route: RouteIx,
        first: &Head<'_>,
    ) -> Result<(), Gone> {
        let seen = Seen(&self.outbound.headers);
        let inputs = first.inputs();
        let request = Request {
            method: self.outbound.uri.path(),
            model: first.model,
            id: first.id,
            rows: first.rows(),
            params: &first.params,
            inputs: &inputs,
            metadata: &seen,
            caller: self.peer.as_deref(),
            memory: None,
        };
        upload.keep(self.plan.policy().limits().replay_bytes);
        self.stream(caller, upload, route, &request, Some((first.model, first.version))).await
    }

    async fn stream(
        &self,
        caller: &mut Caller,
        mut upload: Upload,
        route: RouteIx,
        request: &Request<'_>,
        named: Option<(&str, &str)>,
    ) -> Result<(), Gone> {
        let policy = self.plan.policy();
        let memory = self.plan.snapshot.units.at(self.arrival.at);
        let request = &Request { memory: Some(&memory), ..*request };
        let journal = self.journal();
        let deadline = policy.route_at(route).deadline.map(|deadline| self.arrival.at + deadline);
        let spoke = upload.listen();
        let routed = Routed {
            call: self,
            state: policy::Call::begin(Arc::clone(policy), route, request, journal.id),
            upload,
            journal,
            until: earlier(self.until, deadline),
            failure: None,
            named,
            asked: false,
            spoke,
            patient: false,
        };
        routed.run(caller, request).await
    }
}

impl Routed<'_, '_> {
    async fn run(mut self, caller: &mut Caller, request: &Request<'_>) -> Result<(), Gone> {
        loop {
            let step = self.state.next();
            let done = match step {
                Step::Attempt(backend) => self.attempt(caller, backend).await,
                Step::Ask(_) => Box::pin(self.ask(caller, request)).await.map(|()| None),
                Step::People(_) => {
                    self.state.miss(Reason::BackendError, UNIMPLEMENTED);
                    self.failure = Some(Status::new(UNIMPLEMENTED, "people's answer has no form for this method"));
                    continue;
                }
                Step::Static(_) => {
                    // Its form is that of a prediction, which this method has none of.
                    self.state.abort(Reason::BackendError, UNIMPLEMENTED);
                    self.failure = Some(Status::new(UNIMPLEMENTED, "a static answer has no form for this method"));
                    continue;
                }
                Step::Reject { .. } | Step::Exhausted => {
                    let decision = self.state.finish();
                    let failure = self.failure.take();
                    let words = decision.message.as_deref().map(str::to_owned);
                    let words = words.or_else(|| failure.map(|status| status.message.into_owned())).unwrap_or_default();
                    let code = if decision.status == OK { UNAVAILABLE } else { decision.status };
                    let trailers = self.marks(&decision);
                    let sent = caller.fail(&Status::new(code, words), trailers);
                    self.write(&decision);
                    return sent;
                }
            };
            match done {
                Ok(None) => {}
                Ok(Some(decision)) => {
                    self.write(&decision);
                    if decision.status == OK && !decision.mirrors.is_empty() {
                        shadow::send_unread(self.call, &self.journal, &self.upload, self.named, decision);
                    }
                    return Ok(());
                }
                Err(Gone) => {
                    self.state.abort(Reason::Deadline, CANCELLED);
                    let decision = self.state.finish();
                    self.write(&decision);
                    return Err(Gone);
                }
            }
        }
    }

    /// Asks Python about a rule.
    async fn ask(&mut self, caller: &mut Caller, request: &Request<'_>) -> Result<(), Gone> {
        let asked = Instant::now();
        let verdict = self.call.verdict(caller, &self.state, request, self.until).await;
        self.journal.waited(asked.elapsed());
        self.state.tell_request(request, &verdict?);
        Ok(())
    }

    fn marks(&self, decision: &Decision) -> HeaderMap {
        Marks::of(&self.call.plan, &self.journal.id, decision).trailers()
    }

    fn write(&mut self, decision: &Decision) {
        self.call.plan.learn(&self.state, decision, self.call.arrival.at);
        self.journal.request_bytes = self.upload.bytes();
        self.journal.write_decision(self.call.worker, &self.call.plan, decision);
    }

    /// Whether another backend could be asked after this one.
    fn has_others(&self, backend: BackendIx) -> bool {
        let policy = self.call.plan.policy();
        let mut others = self.state.chain().iter();
        others.any(|&other| {
            other != backend
                && policy.backend(other).is_model()
                && !self.state.attempts().iter().any(|attempt| attempt.backend == other)
        })
    }

    /// What is appended to each message up and down, so that either side speaks of the model by its own name.
    fn names(&self, backend: BackendIx) -> (Option<Bytes>, Option<Bytes>) {
        let model = self.call.plan.policy().backend(backend).as_model();
        let (Some(model), Some((name, version))) = (model, self.named) else { return (None, None) };
        let up = oip::address(model, name, version, false);
        if up.is_empty() {
            return (None, None);
        }
        (Some(up.into()), Some(renamed("ModelStreamInfer", name).into()))
    }

    /// One attempt; `None` sends the call on along its chain.
    async fn attempt(&mut self, caller: &mut Caller, backend: BackendIx) -> Result<Option<Decision>, Gone> {
        let call = self.call;
        let started = self.journal.start();
        let name = &call.plan.policy().backend(backend).name;
        if self.asked && !self.can_be_sent_again() {
            let words = format!("the request was longer than what is kept for {name}");
            self.miss(&started, backend, Reason::Overload, Status::new(RESOURCE_EXHAUSTED, words));
            return Ok(None);
        }
        let place = call.worker.occupy(&call.plan, backend, &started, || self.has_others(backend));
        let _place = match place {
            Ok(place) => place,
            Err(refused) => {
                self.miss(&started, backend, refused.reason(), refused.status(name));
                return Ok(None);
            }
        };
        self.asked = true;
        let others = self.has_others(backend);
        let (up, down) = self.names(backend);
        let (share, mut again) = (self.share(), false);
        let answering = loop {
            let done = self.answering(caller, backend, others, &started, up.clone()).await;
            // The time was the caller's: as long as it says nothing, or once more if it has only just begun to.
            if !again && !self.patient && is_late(&done, share, started.at().elapsed()) && self.is_quiet(share) {
                (again, self.patient) = (true, self.upload.bytes() == 0);
                continue;
            }
            break done;
        };
        let answering = match answering {
            Ok(Answering::Ended(answer)) if policy::status::is_miss(answer.status.code) && self.can_be_sent_again() => {
                let reason =
                    if answer.status.code == DEADLINE_EXCEEDED { Reason::Deadline } else { Reason::BackendError };
                self.miss(&started, backend, reason, answer.status);
                return Ok(None);
            }
            Ok(answering) => answering,
            Err(Fault::Gone) => {
                self.journal.end(&started, backend, Reason::Deadline, CANCELLED);
                return Err(Gone);
            }
            Err(Fault::Refused(status)) => Answering::Ended(Answer::only(status)),
            Err(fault) if !others || self.can_be_sent_again() => {
                let reason = if matches!(fault, Fault::Deadline) { Reason::Deadline } else { Reason::BackendError };
                self.miss(&started, backend, reason, status_of(&fault));
                return Ok(None);
            }
            Err(fault) => Answering::Ended(Answer::only(status_of(&fault))),
        };
        self.pass(caller, backend, &started, answering, down).await
    }

    /// Whether another backend could still be given all that the caller has sent; counted where it could not.
    fn can_be_sent_again(&self) -> bool {
        if !self.upload.is_replayable() {
            self.call.worker.count(Counter::FallbackReplay);
        }
        self.upload.is_replayable()
    }

    /// How long the attempt under way may take.
    fn share(&self) -> Option<Duration> {
        self.state.budget(self.until.map(|until| until.saturating_duration_since(Instant::now())))
    }

    /// Whether the time was the caller's rather than the backend's: nothing was said yet, or only just now.
    fn is_quiet(&self, share: Option<Duration>) -> bool {
        let late = self.until.is_some_and(|until| until <= Instant::now());
        if self.upload.is_ended() && self.upload.bytes() == 0 {
            return false;
        }
        let spoke = self.spoke.get().map(|spoke| spoke.elapsed());
        !late && spoke.is_none_or(|ago| share.is_some_and(|share| ago < share / 2))
    }

    /// Asks, and waits as long as the attempt may still fail without the caller's knowing.
    async fn answering(
        &mut self,
        caller: &mut Caller,
        backend: BackendIx,
        others: bool,
        started: &Started,
        up: Option<Bytes>,
    ) -> Result<Answering, Fault> {
        let call = self.call;
        let Some(upstream) = call.plan.upstream(backend) else {
            return Err(Fault::Unreachable("no model server".into()));
        };
        // A stream under way may outlive any attempt's share: only the call's own end bounds it once it is the last.
        let left = self.until.map(|until| until.saturating_duration_since(Instant::now()));
        let budget = if others && !self.patient { self.share() } else { left };
        let mut alarm = Alarm::new(budget.map(|budget| Instant::now() + budget));
        let head = |left| call.outbound.head(left, started.span());
        let body = Body::Stream(&mut self.upload, call.up(up));
        let target = Target { worker: call.worker, upstream, started: Some(started) };
        let opened = open(target, caller, &mut alarm, head, body).await?;
        if !others {
            return Ok(Answering::Opened(opened));
        }
        if !self.upload.is_replayable() {
            let ended = opened.answer.body().is_end_stream();
            if ended && status::read_code(opened.answer.headers()).is_some_and(policy::status::is_miss) {
                call.worker.count(Counter::FallbackReplay);
            }
            return Ok(Answering::Opened(opened));
        }
        let hold = Hold { max_bytes: 0, stream_over: Some(0) };
        Ok(match gather(caller, &mut alarm, Some(&mut self.upload), opened, hold).await? {
            Came::Begun(begun) => Answering::Begun(begun),
            Came::Whole(answer) => Answering::Ended(answer),
        })
    }

    /// Passes an answer on to its end.
    async fn pass(
        &mut self,
        caller: &mut Caller,
        backend: BackendIx,
        started: &Started,
        answering: Answering,
        down: Option<Bytes>,
    ) -> Result<Option<Decision>, Gone> {
        let mut alarm = Alarm::new(self.until);
        let down = self.call.down(down);
        let (state, journal, plan) = (&mut self.state, &mut self.journal, &self.call.plan);
        let mut decision = None;
        let extra = |code: u8| {
            if code == OK {
                state.accept();
            } else {
                state.pass_on(code);
            }
            let made = decision.insert(state.finish());
            Marks::of(plan, &journal.id, made).trailers()
        };
        let ended = match answering {
            Answering::Opened(opened) => relay(caller, &mut alarm, &mut self.upload, opened, down, extra).await,
            Answering::Begun(begun) => go_on(caller, &mut alarm, &mut self.upload, *begun, down, extra).await,
            Answering::Ended(answer) => no_message(caller, answer, extra),
        };
        let code = ended.map_or(CANCELLED, |Ended { status, .. }| status);
        let reason = if code == OK { Reason::Ok } else { Reason::BackendError };
        self.journal.end(started, backend, reason, code);
        self.journal.answer_bytes = ended.map_or(0, |ended| ended.answer_bytes);
        ended?;
        Ok(decision)
    }

    fn miss(&mut self, started: &Started, backend: BackendIx, reason: Reason, status: Status) {
        self.journal.end(started, backend, reason, status.code);
        self.state.miss(reason, status.code);
        self.failure = Some(status);
    }
}
