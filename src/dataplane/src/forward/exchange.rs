//! One stream to one backend, up to the head of its answer.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, Method, Request, Response, Uri, Version};
use tokio::time::Sleep;

use super::append::Append;
use super::caller::{Caller, Gone};
use super::deadline;
use super::metadata;
use super::retry::{self, Pushback};
use super::started::{Again, Started};
use super::status::{Status, UNAVAILABLE};
use super::through::status_of;
use super::trace::{TRACEPARENT, Trace};
use super::transport::limits;
use super::upload::{Sender, Upload};
use super::upstream::{Endpoint, Lease, Upstream, unprocessed};
use super::worker::Worker;
use crate::records::Counter;

/// Streams that a call opens at most on behalf of one attempt, as backends hand it back untouched.
const MAX_OPENINGS: u32 = 4;

/// Why there is no answer.
#[derive(Debug)]
pub enum Fault {
    /// Nobody waits any more.
    Gone,
    /// The time is up.
    Deadline,
    /// No connection, in words.
    Unreachable(String),
    /// The stream broke.
    Broken(h2::Error),
    /// The answer is longer than what the route reads.
    TooLong,
    /// The answer's metadata are longer than what may come.
    TooMuchMetadata(usize),
    /// A compressed message could not be unpacked on its way.
    Refused(Status),
}

impl From<Gone> for Fault {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl Fault {
    /// Words for the caller and for the log; no text of the system's but that of the connection's fault.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Gone => "the caller has gone".into(),
            Self::Deadline => "the time is up".into(),
            Self::Unreachable(words) => format!("the backend cannot be reached: {words}"),
            Self::Broken(error) => match error.reason() {
                Some(reason) => {
                    format!("the backend broke the stream off: {}", reason.description())
                }
                None => "the connection to the backend was lost".into(),
            },
            Self::TooMuchMetadata(bytes) => {
                format!("the backend's metadata take {bytes} bytes, wanted at most {}", limits::MAX_HEADER_LIST_BYTES)
            }
            Self::Refused(status) => status.message.clone().into_owned(),
            Self::TooLong => "the answer is longer than what is read".into(),
        }
    }
}

/// By how much a backend's clock may be ahead of our alarm, which is set for the next millisecond.
pub const AHEAD: Duration = Duration::from_millis(5);

/// A point in time that wakes; without one it never does.
pub struct Alarm {
    at: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    /// Rings at `at`.
    #[must_use]
    pub fn new(at: Option<Instant>) -> Self {
        Self { at, sleep: None }
    }

    /// What is left.
    #[must_use]
    pub fn left(&self) -> Option<Duration> {
        self.at.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// What a fault is at this time: a backend was told the same deadline, and one that cancels as it comes has but been
    /// the first to notice.
    ///
    /// Source: grpc-core and grpc-go do the same where they are called.
    #[must_use]
    pub fn judged(&self, fault: Fault) -> Fault {
        match fault {
            Fault::Broken(error)
                if error.reason() == Some(h2::Reason::CANCEL) && self.left().is_some_and(|left| left <= AHEAD) =>
            {
                Fault::Deadline
            }
            fault => fault,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else {
            return Poll::Pending;
        };
        self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at.into()))).as_mut().poll(cx)
    }
}

/// Runs a step while someone waits for it and there is time.
pub async fn watched<T>(
    caller: &mut Caller,
    alarm: &mut Alarm,
    mut step: impl FnMut(&mut Caller, &mut Context<'_>) -> Poll<T>,
) -> Result<T, Fault> {
    std::future::poll_fn(|cx| {
        if let Poll::Ready(output) = step(caller, cx) {
            return Poll::Ready(Ok(output));
        }
        if caller.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(Fault::Gone));
        }
        alarm.poll(cx).map(|()| Err(Fault::Deadline))
    })
    .await
}

/// What every attempt of a call says at the head of its request.
pub struct Outbound {
    /// As the caller asked.
    pub uri: Uri,
    /// The caller's metadata, admitted.
    pub headers: HeaderMap,
    /// Whose trace it is.
    pub trace: Trace,
}

impl Outbound {
    /// The head of an attempt with so much time, under its own span.
    #[must_use]
    pub fn head(&self, left: Option<Duration>, span: u64) -> Request<()> {
        self.dress(self.headers.clone(), left, span)
    }

    fn dress(&self, mut headers: HeaderMap, left: Option<Duration>, span: u64) -> Request<()> {
        match left {
            Some(left) => headers.insert(deadline::GRPC_TIMEOUT, deadline::format(left)),
            None => headers.remove(deadline::GRPC_TIMEOUT),
        };
        headers.insert(TRACEPARENT, self.trace.header(span));
        let mut head = Request::new(());
        *head.method_mut() = Method::POST;
        *head.version_mut() = Version::HTTP_2;
        *head.uri_mut() = self.uri.clone();
        *head.headers_mut() = headers;
        head
    }
}

/// What goes up on a stream.
pub enum Body<'a> {
    /// The caller's messages as they come, each with these bytes appended.
    Stream(&'a mut Upload, Option<Append>),
    /// Whole frames, bounded by who made them.
    Whole(&'a [Bytes]),
}

impl Body<'_> {
    /// Whether all that was sent can be sent again.
    fn is_here(&self) -> bool {
        match self {
            Self::Stream(upload, _) => upload.is_replayable(),
            Self::Whole(_) => true,
        }
    }
}

/// A stream whose answer has begun.
pub struct Opened {
    /// Its place on the connection.
    pub lease: Lease,
    /// How far the upload has come.
    pub sender: Sender,
    /// The answer's head and its messages.
    pub answer: Response<RecvStream>,
}

/// Whom a stream is opened to.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// On whose behalf.
    pub worker: &'a Worker,
    /// The connections.
    pub upstream: &'a Upstream,
    /// The attempt, where it may be made again.
    pub started: Option<&'a Started>,
}

/// Opens a stream, sends, and waits for the head of the answer. A stream that the backend hands back untouched is opened
/// again on another connection, as long as everything sent is still here; one that fails is made again where its backend's
/// `retry` says so.
///
/// # Errors
/// [`Fault`].
pub async fn open(
    target: Target<'_>,
    caller: &mut Caller,
    alarm: &mut Alarm,
    head: impl Fn(Option<Duration>) -> Request<()>,
    mut body: Body<'_>,
) -> Result<Opened, Fault> {
    let mut openings = 0;
    let mut failed_at = None;
    loop {
        openings += 1;
        let tried = match once(target, failed_at.as_ref(), caller, alarm, &head, &mut body).await {
            Err(Broken { fault: Fault::Broken(error), untouched: true, .. }) if openings < MAX_OPENINGS => {
                if !body.is_here() {
                    return Err(Fault::Broken(error));
                }
                target.worker.count(Counter::RetriedUnprocessed);
                continue;
            }
            tried => tried,
        };
        let Some(pause) = again(target, alarm, &tried, &head, &body) else {
            return tried.map_err(|broken| alarm.judged(broken.fault));
        };
        failed_at = match tried {
            Ok(opened) => Some(opened.lease.endpoint()),
            Err(broken) => broken.at,
        };
        target.worker.count(Counter::RetriedFailed);
        let mut pause = std::pin::pin!(tokio::time::sleep(pause));
        watched(caller, alarm, |_, cx| pause.as_mut().poll(cx)).await?;
        if let Some(started) = target.started {
            started.begin_again();
        }
    }
}

/// The pause before the call is made again; `None` where what came stands.
fn again(
    target: Target<'_>,
    alarm: &Alarm,
    tried: &Result<Opened, Broken>,
    head: impl Fn(Option<Duration>) -> Request<()>,
    body: &Body<'_>,
) -> Option<Duration> {
    let started = target.started?;
    let (code, pushback) = match tried {
        Ok(opened) => (retry::ended(&opened.answer)?, Pushback::read(opened.answer.headers())),
        // Where no endpoint can be reached, all have been tried already.
        Err(Broken { fault: fault @ Fault::Broken(_), .. }) => (status_of(fault).code, Pushback::None),
        Err(_) => return None,
    };
    if !body.is_here() {
        return None;
    }
    match started.again(head(None).uri().path(), code, pushback, alarm.left())? {
        Again::After(pause) => Some(pause),
        Again::Spent => {
            target.worker.count(Counter::RetryBudget);
            None
        }
    }
}

/// An opening that came to nothing.
struct Broken {
    fault: Fault,
    /// The backend has not taken the stream up.
    untouched: bool,
    at: Option<Rc<Endpoint>>,
}

impl From<Fault> for Broken {
    fn from(fault: Fault) -> Self {
        Self { fault, untouched: false, at: None }
    }
}

async fn once(
    target: Target<'_>,
    avoid: Option<&Rc<Endpoint>>,
    caller: &mut Caller,
    alarm: &mut Alarm,
    head: impl Fn(Option<Duration>) -> Request<()>,
    body: &mut Body<'_>,
) -> Result<Opened, Broken> {
    let lease = lease(target, avoid, caller, alarm).await?;
    let empty = match body {
        Body::Stream(upload, _) => upload.is_ended() && upload.bytes() == 0,
        Body::Whole(frames) => frames.is_empty(),
    };
    let mut head = head(alarm.left());
    if let Some(started) = target.started {
        started.dress(&mut head);
    }
    let broken = |error, untouched| Broken { fault: Fault::Broken(error), untouched, at: Some(lease.endpoint()) };
    let (mut response, mut stream) = lease.open(head, empty).await.map_err(|error| broken(error, true))?;
    let mut sender = match body {
        _ if empty => Sender::sent(stream),
        Body::Stream(_, append) => Sender::new(stream, append.clone()),
        Body::Whole(frames) => {
            let last = frames.len() - 1;
            for (at, frame) in frames.iter().enumerate() {
                if let Err(error) = stream.send_data(frame.clone(), at == last) {
                    return Err(broken(error, false));
                }
            }
            Sender::sent(stream)
        }
    };
    let answered = watched(caller, alarm, |_, cx| {
        if let Body::Stream(upload, _) = body {
            upload.poll_on(cx, &mut sender)?;
        }
        Pin::new(&mut response).poll(cx).map_err(Fault::Broken)
    })
    .await;
    match answered {
        Ok(Ok(answer)) => {
            let chosen = lease.is_chosen();
            lease.heard();
            if chosen && retry::ended(&answer) == Some(UNAVAILABLE) {
                lease.failed();
            }
            metadata::bounded(answer.headers())?;
            Ok(Opened { lease, sender, answer })
        }
        Ok(Err(Fault::Broken(error))) => {
            let untouched = unprocessed(&error);
            lease.failed();
            if !error.is_reset() || error.is_go_away() {
                lease.retire();
            }
            Err(broken(error, untouched))
        }
        Err(Fault::Deadline) => {
            lease.timed_out();
            Err(Fault::Deadline.into())
        }
        Ok(Err(fault)) | Err(fault) => Err(fault.into()),
    }
}

async fn lease(
    target: Target<'_>,
    avoid: Option<&Rc<Endpoint>>,
    caller: &mut Caller,
    alarm: &mut Alarm,
) -> Result<Lease, Fault> {
    let upstream = target.upstream;
    // A probe comes seldom enough by itself: it asks the backend and not what was known of the way there.
    let mut roused = target.started.is_some_and(Started::is_probe);
    if roused {
        upstream.rouse();
    }
    loop {
        let mut leasing = std::pin::pin!(upstream.lease(avoid));
        match watched(caller, alarm, |_, cx| leasing.as_mut().poll(cx)).await? {
            Ok(lease) => return Ok(lease),
            Err(_) if !roused && target.started.is_some_and(Started::is_reached_by_others) => {
                roused = true;
                upstream.rouse();
            }
            Err(unreachable) => return Err(Fault::Unreachable(unreachable.0)),
        }
    }
}
