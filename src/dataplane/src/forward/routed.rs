//! Routes on methods that no prediction is read from: streamed through, with fallback until the first byte of an answer.

use std::sync::Arc;

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;

use super::caller::{Caller, Gone};
use super::earlier;
use super::exchange::{Alarm, Body, Fault, open};
use super::journal::Journal;
use super::marks::Marks;
use super::metadata::Seen;
use super::plain::Plain;
use super::status::{self, CANCELLED, DEADLINE_EXCEEDED, OK, RESOURCE_EXHAUSTED, Status, UNAVAILABLE, UNIMPLEMENTED};
use super::through::{Ended, relay, status_of};
use super::upload::Upload;
use crate::policy::{self, BackendIx, Decision, Reason, Request, RouteIx, Step};

/// A call of such a route, under way.
struct Routed<'a, 'w> {
    call: &'a Plain<'w>,
    state: policy::Call,
    upload: Upload,
    journal: Journal,
    until: Option<std::time::Instant>,
    failure: Option<Status>,
}

impl Plain<'_> {
    /// Serves a call of a route that was matched by its method.
    pub async fn routed(&self, caller: &mut Caller, body: RecvStream, route: RouteIx) -> Result<(), Gone> {
        let upload = Upload::new(body, self.plan.policy().limits().replay_bytes);
        self.routed_upload(caller, upload, route).await
    }

    /// The same, of a call that was looked at already.
    pub async fn routed_upload(&self, caller: &mut Caller, upload: Upload, route: RouteIx) -> Result<(), Gone> {
        let policy = Arc::clone(self.plan.policy());
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
        };
        let journal = self.journal();
        let deadline = policy.route_at(route).deadline.map(|deadline| self.arrival.at + deadline);
        let routed = Routed {
            call: self,
            state: policy::Call::begin(Arc::clone(&policy), route, &request, journal.id),
            upload,
            journal,
            until: earlier(self.until, deadline),
            failure: None,
        };
        routed.run(caller).await
    }
}

impl Routed<'_, '_> {
    async fn run(mut self, caller: &mut Caller) -> Result<(), Gone> {
        loop {
            let step = self.state.next();
            let done = match step {
                Step::Attempt(backend) => self.attempt(caller, backend).await,
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

    fn marks(&self, decision: &Decision) -> HeaderMap {
        Marks::of(&self.call.plan, &self.journal.id, decision).trailers()
    }

    fn write(&mut self, decision: &Decision) {
        self.journal.request_bytes = self.upload.bytes();
        self.journal.write_decision(self.call.worker, &self.call.plan, decision);
    }

    /// Whether another backend could be asked after this one.
    fn has_others(&self, backend: BackendIx) -> bool {
        let policy = self.call.plan.policy();
        let mut others = policy.route_at(self.state.route_index()).chain.iter();
        others.any(|&other| {
            other != backend
                && policy.backend(other).is_model()
                && !self.state.attempts().iter().any(|attempt| attempt.backend == other)
        })
    }

    /// One attempt; `None` sends the call on along its chain.
    async fn attempt(&mut self, caller: &mut Caller, backend: BackendIx) -> Result<Option<Decision>, Gone> {
        let call = self.call;
        let started = self.journal.start();
        let name = &call.plan.policy().backend(backend).name;
        let left = self.until.map(|until| until.saturating_duration_since(std::time::Instant::now()));
        let place = call.worker.occupy(&call.plan, backend);
        let (Some(upstream), Some(_place)) = (call.plan.upstream(backend), place) else {
            let words = format!("{name} has all the calls under way that it may have");
            self.miss(&started, backend, Reason::Overload, Status::new(RESOURCE_EXHAUSTED, words));
            return Ok(None);
        };
        // A stream under way may outlive any attempt's share: only the call's own end bounds it once it is the last.
        let others = self.has_others(backend);
        let budget = if others { self.state.budget(left) } else { left };
        let mut alarm = Alarm::new(budget.map(|budget| std::time::Instant::now() + budget));
        let head = |left| call.outbound.head(left, started.span);
        let body = Body::Stream(&mut self.upload, None);
        let opened = match open(call.worker, upstream, caller, &mut alarm, head, body).await {
            Ok(opened) => opened,
            Err(Fault::Gone) => {
                self.journal.end(&started, backend, Reason::Deadline, CANCELLED);
                return Err(Gone);
            }
            Err(fault) => {
                let reason = if matches!(fault, Fault::Deadline) { Reason::Deadline } else { Reason::BackendError };
                self.miss(&started, backend, reason, status_of(&fault));
                return Ok(None);
            }
        };
        if others
            && self.upload.is_replayable()
            && opened.answer.body().is_end_stream()
            && let Some(status) =
                Status::read(opened.answer.headers()).filter(|status| policy::status::is_miss(status.code))
        {
            let reason = if status.code == DEADLINE_EXCEEDED { Reason::Deadline } else { Reason::BackendError };
            self.miss(&started, backend, reason, status);
            return Ok(None);
        }
        let mut alarm = Alarm::new(self.until);
        let (state, journal, plan) = (&mut self.state, &mut self.journal, &call.plan);
        let mut decision = None;
        let extra = |code: u8| {
            if code == OK {
                state.accept()
            } else {
                state.pass_on(code)
            }
            let made = decision.insert(state.finish());
            Marks::of(plan, &journal.id, made).trailers()
        };
        let ended = relay(caller, &mut alarm, &mut self.upload, opened, None::<Bytes>, extra).await;
        let code = ended.map_or(CANCELLED, |Ended { status, .. }| status);
        let reason = if code == status::OK { Reason::Ok } else { Reason::BackendError };
        self.journal.end(&started, backend, reason, code);
        self.journal.answer_bytes = ended.map_or(0, |ended| ended.answer_bytes);
        ended?;
        Ok(decision)
    }

    fn miss(&mut self, started: &super::journal::Started, backend: BackendIx, reason: Reason, status: Status) {
        self.journal.end(started, backend, reason, status.code);
        self.state.miss(reason, status.code);
        self.failure = Some(status);
    }
}
