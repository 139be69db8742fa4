//! One stream to one backend, up to the head of its answer.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, Method, Request, Response, Uri, Version};
use tokio::time::Sleep;

use super::caller::{Caller, Gone};
use super::deadline;
use super::trace::{TRACEPARENT, Trace};
use super::upload::{Sender, Upload};
use super::upstream::{Lease, Upstream, unprocessed};
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
            Self::TooLong => "the answer is longer than what is read".into(),
        }
    }
}

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
    Stream(&'a mut Upload, Option<Bytes>),
    /// Whole frames, bounded by who made them.
    Whole(&'a [Bytes]),
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

/// Opens a stream, sends, and waits for the head of the answer. A stream that the backend hands back untouched is opened
/// again on another connection, as long as everything sent is still here.
///
/// # Errors
/// [`Fault`].
pub async fn open(
    worker: &Worker,
    upstream: &Upstream,
    caller: &mut Caller,
    alarm: &mut Alarm,
    head: impl Fn(Option<Duration>) -> Request<()>,
    mut body: Body<'_>,
) -> Result<Opened, Fault> {
    let mut openings = 0;
    loop {
        openings += 1;
        let error = match once(upstream, caller, alarm, &head, &mut body).await {
            Ok(opened) => return Ok(opened),
            Err((Fault::Broken(error), untouched)) if untouched && openings < MAX_OPENINGS => error,
            Err((fault, _)) => return Err(fault),
        };
        if let Body::Stream(upload, _) = &body
            && !upload.is_replayable()
        {
            return Err(Fault::Broken(error));
        }
        worker.count(Counter::RetriedUnprocessed);
    }
}

/// The second half of an error says that the backend has not taken the stream up.
async fn once(
    upstream: &Upstream,
    caller: &mut Caller,
    alarm: &mut Alarm,
    head: impl Fn(Option<Duration>) -> Request<()>,
    body: &mut Body<'_>,
) -> Result<Opened, (Fault, bool)> {
    let lease = lease(upstream, caller, alarm).await.map_err(|fault| (fault, false))?;
    let empty = match body {
        Body::Stream(upload, _) => upload.is_ended() && upload.bytes() == 0,
        Body::Whole(frames) => frames.is_empty(),
    };
    let (mut response, mut stream) =
        lease.open(head(alarm.left()), empty).await.map_err(|error| (Fault::Broken(error), true))?;
    let mut sender = match body {
        _ if empty => Sender::sent(stream),
        Body::Stream(_, append) => Sender::new(stream, append.clone()),
        Body::Whole(frames) => {
            let last = frames.len() - 1;
            for (at, frame) in frames.iter().enumerate() {
                if let Err(error) = stream.send_data(frame.clone(), at == last) {
                    return Err((Fault::Broken(error), false));
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
            lease.heard();
            Ok(Opened { lease, sender, answer })
        }
        Ok(Err(Fault::Broken(error))) => {
            let untouched = unprocessed(&error);
            if !error.is_reset() || error.is_go_away() {
                lease.retire();
            }
            Err((Fault::Broken(error), untouched))
        }
        Err(Fault::Deadline) => {
            lease.timed_out();
            Err((Fault::Deadline, false))
        }
        Ok(Err(fault)) | Err(fault) => Err((fault, false)),
    }
}

async fn lease(upstream: &Upstream, caller: &mut Caller, alarm: &mut Alarm) -> Result<Lease, Fault> {
    let mut leasing = std::pin::pin!(upstream.lease());
    match watched(caller, alarm, |_, cx| leasing.as_mut().poll(cx)).await? {
        Ok(lease) => Ok(lease),
        Err(unreachable) => Err(Fault::Unreachable(unreachable.0)),
    }
}
