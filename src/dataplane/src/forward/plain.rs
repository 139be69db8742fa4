//! Calls that no route decides: to the control plane, or untouched to the default backend.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, Request};

use super::append::Append;
use super::caller::{Caller, Gone};
use super::compression::{Down, unpack};
use super::exchange::{Alarm, Body, Fault, Outbound, Target, open};
use super::journal::Journal;
use super::metadata;
use super::model::is_health;
use super::status::{INTERNAL, Status, UNIMPLEMENTED};
use super::through::{Ended, relay, status_of};
use super::upload::Upload;
use super::worker::{Plan, Refused, Worker};
use crate::policy::{BackendIx, Peer, Reason};
use crate::records::{Arrival, NONE_U16};

/// What an untouched call keeps, in case the backend hands it back.
const REPLAY_BYTES: usize = 64 * 1024;

/// A call with all that it is made of, but the caller's two streams.
pub struct Plain<'a> {
    /// Where it runs.
    pub worker: &'a Worker,
    /// Under which policy.
    pub plan: Rc<Plan>,
    /// What backends are told.
    pub outbound: Outbound,
    /// When it came.
    pub arrival: Arrival,
    /// Whom the caller has shown to be; `None` without TLS.
    pub peer: Option<Rc<Peer>>,
    /// When its caller gives up.
    pub until: Option<Instant>,
    /// How long the caller let us wait for its message: no time of the gateway's own.
    pub waited: Cell<Duration>,
}

impl Plain<'_> {
    /// Hands the call to the control plane. It is no model's call, so there is no record of it.
    pub async fn control(&self, caller: &mut Caller, body: RecvStream) -> Result<(), Gone> {
        let Some(control) = &self.worker.control else {
            let status = Status::new(UNIMPLEMENTED, "no control plane runs beside this gateway");
            return caller.fail(&status, HeaderMap::new());
        };
        let mut upload = Upload::new(body, REPLAY_BYTES);
        let span = self.outbound.trace.span;
        let target = Target { worker: self.worker, upstream: control, started: None };
        let who = metadata::caller(self.peer.as_deref(), caller.from());
        let head = |left| {
            let mut head = self.outbound.head(left, span);
            head.headers_mut().insert(metadata::CALLER, who.clone());
            head
        };
        let turn = Down { own: true, ..self.down(None) };
        self.pass(caller, &mut upload, target, head, None, turn).await.map(|_| ())
    }

    /// Passes the call to the default backend, or refuses it.
    pub async fn untouched(&self, caller: &mut Caller, body: RecvStream) -> Result<(), Gone> {
        let Some(backend) = self.plan.policy().default_backend() else {
            let words = format!("no route for {} and no default_backend", self.outbound.uri.path());
            let journal = self.journal();
            caller.fail(&Status::new(UNIMPLEMENTED, words), HeaderMap::new())?;
            journal.write_plain(self.worker, &self.plan, NONE_U16, None, UNIMPLEMENTED);
            return Ok(());
        };
        let upload = Upload::new(body, REPLAY_BYTES);
        self.to(caller, upload, NONE_U16, backend, None, None).await
    }

    /// The call's book.
    #[must_use]
    pub fn journal(&self) -> Journal {
        Journal::new(self.arrival, self.outbound.trace, self.outbound.uri.clone(), self.waited.get())
    }

    /// What is appended to each of the caller's messages; none goes on without it.
    #[must_use]
    pub fn up(&self, suffix: Option<Bytes>) -> Option<Append> {
        let max_bytes = self.plan.policy().limits().replay_bytes;
        suffix.map(|suffix| Append::new(suffix, Some(unpack(&self.outbound.headers, max_bytes))))
    }

    /// What becomes of each of the answer's messages.
    #[must_use]
    pub fn down(&self, suffix: Option<Bytes>) -> Down<'_> {
        let max_bytes = self.plan.policy().limits().answer_bytes;
        Down { suffix: suffix.unwrap_or_default(), always: true, caller: &self.outbound.headers, max_bytes, own: false }
    }

    /// Passes the call to one backend and records it. `up` and `down` are appended to each message.
    pub async fn to(
        &self,
        caller: &mut Caller,
        mut upload: Upload,
        route: u16,
        backend: BackendIx,
        up: Option<Bytes>,
        down: Option<Bytes>,
    ) -> Result<(), Gone> {
        let mut journal = self.journal();
        let started = journal.start();
        // Nobody else could answer, so no circuit stands in the way; nor does a limit in that of questions about health.
        let place = self.worker.occupy(&self.plan, backend, &started, || false);
        let place = place.map(Some).or_else(
            |refused| {
                if is_health(self.outbound.uri.path()) { Ok(None) } else { Err(refused) }
            },
        );
        let (upstream, _place) = match (self.plan.upstream(backend), place) {
            (Some(upstream), Ok(place)) => (upstream, place),
            (upstream, refused) => {
                let name = &self.plan.policy().backend(backend).name;
                let refused = refused.err().filter(|_| upstream.is_some());
                let status = refused.map_or(Status::new(INTERNAL, "no model server"), |refused| refused.status(name));
                journal.end(&started, backend, refused.map_or(Reason::BackendError, Refused::reason), status.code);
                caller.fail(&status, HeaderMap::new())?;
                journal.write_plain(self.worker, &self.plan, route, Some(backend), status.code);
                return Ok(());
            }
        };
        let target = Target { worker: self.worker, upstream, started: Some(&started) };
        let span = started.span();
        let ended =
            self.pass(caller, &mut upload, target, |left| self.outbound.head(left, span), up, self.down(down)).await;
        let status = ended.map_or(1, |ended| ended.status);
        let reason = if status == 0 { Reason::Ok } else { Reason::BackendError };
        journal.end(&started, backend, reason, status);
        journal.request_bytes = upload.bytes();
        journal.answer_bytes = ended.map_or(0, |ended| ended.answer_bytes);
        journal.write_plain(self.worker, &self.plan, route, Some(backend), status);
        ended.map(|_| ())
    }

    async fn pass(
        &self,
        caller: &mut Caller,
        upload: &mut Upload,
        target: Target<'_>,
        head: impl Fn(Option<Duration>) -> Request<()>,
        up: Option<Bytes>,
        turn: Down<'_>,
    ) -> Result<Ended, Gone> {
        let mut alarm = Alarm::new(self.until);
        let opened = open(target, caller, &mut alarm, head, Body::Stream(upload, self.up(up))).await;
        match opened {
            Ok(opened) => relay(caller, &mut alarm, upload, opened, turn, |_| HeaderMap::new()).await,
            Err(Fault::Gone) => Err(Gone),
            Err(fault) => {
                let status = status_of(&fault);
                caller.fail(&status, HeaderMap::new())?;
                Ok(Ended { status: status.code, answer_bytes: 0 })
            }
        }
    }
}
