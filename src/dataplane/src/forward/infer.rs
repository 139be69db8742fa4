//! `ModelInfer`: the request is read as far as a decision needs it, and the route found.

use std::sync::Arc;
use std::time::Instant;

use h2::RecvStream;
use http::HeaderMap;

use super::asked::Asked;
use super::caller::{Caller, Gone};
use super::compression::too_long;
use super::decide::Decide;
use super::earlier;
use super::exchange::{Alarm, Fault, watched};
use super::message::Message;
use super::metadata::Seen;
use super::plain::Plain;
use super::status::{DEADLINE_EXCEEDED, INVALID_ARGUMENT, NOT_FOUND, RESOURCE_EXHAUSTED, Status};
use super::upload::Upload;
use crate::policy::{self, Limits, Request, RouteIx};
use crate::records::NONE_U16;
use crate::wire::frame::HEAD_BYTES;
use crate::wire::oip::{Head, method};

/// What is kept of a request that only one backend can get, in case that one hands it back.
const RETRY_BYTES: usize = 64 * 1024;

impl Plain<'_> {
    /// Serves a `ModelInfer` call.
    pub async fn infer(&self, caller: &mut Caller, body: RecvStream) -> Result<(), Gone> {
        let policy = Arc::clone(self.plan.policy());
        let limits = policy.limits();
        let mut upload = Upload::new(body, limits.replay_bytes);
        let message = match self.receive(caller, &mut upload, limits, false).await {
            Ok(message) => message,
            Err(None) => return Err(Gone),
            Err(Some(status)) => return self.refuse(caller, &upload, &status),
        };
        let head = match Head::scan(&message.plain, message.whole || message.compressed, limits.request_head_bytes) {
            Ok(head) => head,
            Err(malformed) => {
                let status = Status::new(INVALID_ARGUMENT, format!("no ModelInferRequest: {malformed}"));
                return self.refuse(caller, &upload, &status);
            }
        };
        let seen = Seen(&self.outbound.headers);
        let Some(route_index) = policy.route(method::MODEL_INFER, Some(head.model), &seen) else {
            return self.unknown_model(caller, upload, head.model).await;
        };
        self.decide(caller, upload, &message, &Asked::Oip(head), route_index).await
    }

    /// Decides a call whose route is found.
    pub async fn decide(
        &self,
        caller: &mut Caller,
        mut upload: Upload,
        message: &Message,
        asked: &Asked<'_>,
        route_index: RouteIx,
    ) -> Result<(), Gone> {
        let policy = Arc::clone(self.plan.policy());
        let limits = policy.limits();
        let route = policy.route_at(route_index);
        let others = route.chain.iter().filter(|&&backend| policy.backend(backend).is_model()).count() > 1;
        let others = others || route.explore.is_some() || route.holdout.is_some() || route.asks_people;
        if !message.whole && !others && route.mirror.is_empty() && route.review.is_none() {
            upload.keep(RETRY_BYTES.min(limits.replay_bytes));
        }
        let seen = Seen(&self.outbound.headers);
        let inputs = asked.inputs();
        let memory = self.plan.snapshot.units.at(self.arrival.at);
        let request = Request {
            caller: self.peer.as_deref(),
            memory: Some(&memory),
            ..asked.request(self.outbound.uri.path(), &inputs, &seen)
        };
        let journal = self.journal();
        let until = earlier(self.until, route.deadline.map(|deadline| self.arrival.at + deadline));
        let state = policy::Call::begin(Arc::clone(&policy), route_index, &request, journal.id);
        let mut decide = Decide {
            call: self,
            route,
            message,
            asked,
            request: &request,
            until,
            state,
            upload,
            journal,
            failure: None,
            apart: None,
            unsettled: None,
            has_asked: false,
        };
        decide.run(caller).await
    }

    /// Gathers the message, or as much of it as is held (`wants_whole`: all that may be kept); `None` when nobody waits any
    /// more.
    ///
    /// # Errors
    /// A status for the caller.
    pub async fn receive(
        &self,
        caller: &mut Caller,
        upload: &mut Upload,
        limits: &Limits,
        wants_whole: bool,
    ) -> Result<Message, Option<Status>> {
        let mut alarm = Alarm::new(self.until);
        self.gather(caller, &mut alarm, upload, limits.buffer_bytes).await?;
        let held = upload.joined();
        // What is compressed can only be read whole.
        let wanted = (wants_whole || held.first() == Some(&1)) && !upload.is_ended();
        let held = if wanted {
            self.gather(caller, &mut alarm, upload, limits.replay_bytes).await?;
            upload.joined()
        } else {
            held
        };
        let message =
            Message::read(held, upload.is_ended(), &self.outbound.headers, limits.replay_bytes).map_err(Some)?;
        if message.compressed && !message.whole {
            return Err(Some(too_long(limits.replay_bytes)));
        }
        if wants_whole && !message.whole {
            let words = format!("a message of more than {} bytes, whose rows cannot be counted", limits.replay_bytes);
            return Err(Some(Status::new(RESOURCE_EXHAUSTED, words)));
        }
        Ok(message)
    }

    async fn gather(
        &self,
        caller: &mut Caller,
        alarm: &mut Alarm,
        upload: &mut Upload,
        bytes: usize,
    ) -> Result<(), Option<Status>> {
        // One byte past the limit tells a message that is held whole from a longer one.
        let bytes = HEAD_BYTES + bytes + 1;
        let mut pended: Option<Instant> = None;
        let gathered = watched(caller, alarm, |_, cx| {
            let polled = upload.poll_gather(cx, bytes);
            if polled.is_pending() && pended.is_none() {
                pended = Some(Instant::now());
            }
            polled
        });
        let gathered = gathered.await;
        if let Some(pended) = pended {
            self.waited.set(self.waited.get() + pended.elapsed());
        }
        match gathered {
            Ok(Ok(())) => Ok(()),
            Err(Fault::Deadline) => Err(Some(Status::new(DEADLINE_EXCEEDED, "the request did not come in time"))),
            Ok(Err(Gone)) | Err(_) => Err(None),
        }
    }

    /// Ends a call that never met a route.
    pub fn refuse(&self, caller: &mut Caller, upload: &Upload, status: &Status) -> Result<(), Gone> {
        let mut journal = self.journal();
        journal.request_bytes = upload.bytes();
        caller.fail(status, HeaderMap::new())?;
        journal.write_plain(self.worker, &self.plan, NONE_U16, None, status.code);
        Ok(())
    }

    /// A model that no route names: the default backend may know it.
    pub async fn unknown_model(&self, caller: &mut Caller, upload: Upload, model: &str) -> Result<(), Gone> {
        if let Some(backend) = self.plan.policy().default_backend() {
            return self.to(caller, upload, NONE_U16, backend, None, None).await;
        }
        let words = format!("no route for the model {model:?} and no default_backend");
        self.refuse(caller, &upload, &Status::new(NOT_FOUND, words))
    }
}
