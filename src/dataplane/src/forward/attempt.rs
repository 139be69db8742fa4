//! One attempt of a decided call: send, gather the answer or as much of it as is held, say what came of it.

use std::task::{Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use http::{HeaderMap, Request};

use super::append::Append;
use super::caller::Caller;
use super::exchange::{Alarm, Body, Fault, Opened, Target, open, watched};
use super::metadata;
use super::status::{self, Status};
use super::through::{missing_status, not_grpc};
use super::upload::{Sender, Upload};
use super::upstream::Lease;
use crate::wire::frame::HEAD_BYTES;

/// A backend's whole answer.
#[derive(Debug)]
pub struct Answer {
    /// What came first; nothing where the answer is but its end.
    pub headers: HeaderMap,
    /// The message with its frame; empty if there was none.
    pub framed: Bytes,
    /// What came last.
    pub trailers: HeaderMap,
    /// What it says of itself.
    pub status: Status,
}

impl Answer {
    /// No answer but a status of the gateway's own.
    #[must_use]
    pub fn only(status: Status) -> Self {
        Self { headers: HeaderMap::new(), framed: Bytes::new(), trailers: HeaderMap::new(), status }
    }
}

/// An answer that has begun, and goes on.
pub struct Begun {
    /// Its place on the connection.
    pub lease: Lease,
    /// How far the upload has come.
    pub sender: Sender,
    /// What came first.
    pub headers: HeaderMap,
    /// What is here of its messages.
    pub here: Bytes,
    /// The rest of them.
    pub from: RecvStream,
}

/// What came of asking.
#[expect(clippy::large_enum_variant, reason = "the usual answer lives here; a box would cost it an allocation")]
pub enum Came {
    /// All of it.
    Whole(Answer),
    /// More than is held of an answer that need not be read.
    Begun(Box<Begun>),
}

/// How much of an answer is held.
#[derive(Clone, Copy, Debug)]
pub struct Hold {
    /// The longest message that can be read.
    pub max_bytes: usize,
    /// Where nobody reads it: what is held before it is handed on as it comes.
    pub stream_over: Option<usize>,
}

/// The answer's bytes, gathered.
#[derive(Default)]
struct Gathered {
    first: Bytes,
    rest: Option<BytesMut>,
}

impl Gathered {
    fn push(&mut self, chunk: Bytes) {
        if self.first.is_empty() {
            self.first = chunk;
        } else {
            self.rest.get_or_insert_with(|| BytesMut::from(&self.first[..])).extend_from_slice(&chunk);
        }
    }

    fn len(&self) -> usize {
        self.rest.as_ref().map_or(self.first.len(), BytesMut::len)
    }

    /// Without a copy when it came in one chunk.
    fn finish(self) -> Bytes {
        self.rest.map_or(self.first, BytesMut::freeze)
    }
}

/// Sends a call to a backend and gathers its answer as `hold` says.
///
/// # Errors
/// [`Fault`]. A failing status is no fault: it stands in the answer.
pub async fn ask(
    target: Target<'_>,
    caller: &mut Caller,
    alarm: &mut Alarm,
    head: impl Fn(Option<Duration>) -> Request<()>,
    body: AskBody<'_>,
    hold: Hold,
) -> Result<Came, Fault> {
    match body {
        AskBody::Whole(frames) => {
            let opened = open(target, caller, alarm, head, Body::Whole(frames)).await?;
            gather(caller, alarm, None, opened, hold).await
        }
        AskBody::Stream(upload, append) => {
            let opened = open(target, caller, alarm, head, Body::Stream(upload, append)).await?;
            gather(caller, alarm, Some(upload), opened, hold).await
        }
    }
}

/// What is asked.
pub enum AskBody<'a> {
    /// A message that is wholly here.
    Whole(&'a [Bytes]),
    /// A message that is still coming in, with what is appended to it.
    Stream(&'a mut Upload, Option<Append>),
}

/// Gathers an answer that has been opened, while the upload goes on.
///
/// # Errors
/// [`Fault`].
pub async fn gather(
    caller: &mut Caller,
    alarm: &mut Alarm,
    mut upload: Option<&mut Upload>,
    opened: Opened,
    hold: Hold,
) -> Result<Came, Fault> {
    let Opened { lease, mut sender, answer } = opened;
    let (mut head, mut from) = answer.into_parts();
    metadata::answer(&mut head.headers);
    if let Some(status) = not_grpc(head.status, &head.headers) {
        return Ok(Came::Whole(Answer::only(status)));
    }
    if from.is_end_stream() {
        let status = Status::read(&head.headers).unwrap_or_else(missing_status);
        let answer = Answer { headers: HeaderMap::new(), framed: Bytes::new(), trailers: head.headers, status };
        return Ok(Came::Whole(answer));
    }
    let mut gathered = Gathered::default();
    let step = watched(caller, alarm, |_, cx| {
        if let Some(upload) = &mut upload {
            upload.poll_on(cx, &mut sender)?;
        }
        poll_answer(&mut from, cx, &mut gathered, hold)
    });
    let ended = match step.await {
        Ok(ended) => ended.map_err(|fault| alarm.judged(fault))?,
        Err(fault) => {
            if matches!(fault, Fault::Deadline) {
                lease.timed_out();
            }
            return Err(fault);
        }
    };
    let Some(trailers) = ended else {
        let here = gathered.finish();
        return Ok(Came::Begun(Box::new(Begun { lease, sender, headers: head.headers, here, from })));
    };
    let mut trailers = trailers.unwrap_or_default();
    metadata::answer(&mut trailers);
    let status = if status::read_code(&trailers) == Some(status::OK) {
        Status::new(status::OK, "")
    } else {
        Status::read(&trailers).unwrap_or_else(missing_status)
    };
    Ok(Came::Whole(Answer { headers: head.headers, framed: gathered.finish(), trailers, status }))
}

/// The trailers once all is here; none where more has come than is held of an answer that is handed on.
fn poll_answer(
    from: &mut RecvStream,
    cx: &mut std::task::Context<'_>,
    gathered: &mut Gathered,
    hold: Hold,
) -> Poll<Result<Option<Option<HeaderMap>>, Fault>> {
    loop {
        match ready!(from.poll_data(cx)) {
            Some(Ok(chunk)) => {
                let _ = from.flow_control().release_capacity(chunk.len());
                gathered.push(chunk);
                if hold.stream_over.is_some_and(|most| gathered.len() > most) {
                    return Poll::Ready(Ok(None));
                }
                if gathered.len() > HEAD_BYTES.saturating_add(hold.max_bytes) {
                    return Poll::Ready(Err(Fault::TooLong));
                }
            }
            Some(Err(error)) => return Poll::Ready(Err(Fault::Broken(error))),
            None => {
                let trailers = ready!(from.poll_trailers(cx)).map_err(Fault::Broken)?;
                if let Some(trailers) = &trailers {
                    metadata::bounded(trailers)?;
                }
                return Poll::Ready(Ok(Some(trailers)));
            }
        }
    }
}
