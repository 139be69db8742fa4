//! One attempt of a decided call: send, gather the answer, say what came of it.

use std::task::{Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use http::{HeaderMap, Request};

use super::caller::Caller;
use super::exchange::{Alarm, Body, Fault, Opened, Target, open, watched};
use super::metadata;
use super::status::{self, Status};
use super::through::{missing_status, not_grpc};
use super::upload::{Stopped, Upload};
use crate::wire::frame::HEAD_BYTES;

/// A backend's whole answer.
#[derive(Debug)]
pub struct Answer {
    /// What came first; also of an answer without messages.
    pub headers: HeaderMap,
    /// The message with its frame; empty if there was none.
    pub framed: Bytes,
    /// What came last.
    pub trailers: HeaderMap,
    /// What it says of itself.
    pub status: Status,
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

/// Sends a call to a backend and gathers its answer, up to `max_bytes` of message.
///
/// # Errors
/// [`Fault`]. A failing status is no fault: it stands in the answer.
pub async fn ask(
    target: Target<'_>,
    caller: &mut Caller,
    alarm: &mut Alarm,
    head: impl Fn(Option<Duration>) -> Request<()>,
    body: AskBody<'_>,
    max_bytes: usize,
) -> Result<Answer, Fault> {
    match body {
        AskBody::Whole(frames) => {
            let opened = open(target, caller, alarm, head, Body::Whole(frames)).await?;
            gather(caller, alarm, None, opened, max_bytes).await
        }
        AskBody::Stream(upload, append) => {
            let opened = open(target, caller, alarm, head, Body::Stream(upload, append)).await?;
            gather(caller, alarm, Some(upload), opened, max_bytes).await
        }
    }
}

/// What is asked.
pub enum AskBody<'a> {
    /// A message that is wholly here.
    Whole(&'a [Bytes]),
    /// A message that is still coming in, with what is appended to it.
    Stream(&'a mut Upload, Option<Bytes>),
}

async fn gather(
    caller: &mut Caller,
    alarm: &mut Alarm,
    mut upload: Option<&mut Upload>,
    opened: Opened,
    max_bytes: usize,
) -> Result<Answer, Fault> {
    let Opened { lease, mut sender, answer } = opened;
    let (mut head, mut from) = answer.into_parts();
    metadata::answer(&mut head.headers);
    if let Some(status) = not_grpc(head.status, &head.headers) {
        let empty = HeaderMap::new();
        return Ok(Answer { headers: empty.clone(), framed: Bytes::new(), trailers: empty, status });
    }
    if from.is_end_stream() {
        let status = Status::read(&head.headers).unwrap_or_else(missing_status);
        return Ok(Answer { headers: HeaderMap::new(), framed: Bytes::new(), trailers: head.headers, status });
    }
    let mut gathered = Gathered::default();
    let step = watched(caller, alarm, |_, cx| {
        if let Some(upload) = &mut upload
            && !sender.is_done()
            && let Poll::Ready(Err(Stopped::Gone)) = upload.poll_send(cx, &mut sender)
        {
            return Poll::Ready(Err(Fault::Gone));
        }
        poll_answer(&mut from, cx, &mut gathered, max_bytes)
    });
    let trailers = match step.await {
        Ok(ended) => ended?,
        Err(fault) => {
            if matches!(fault, Fault::Deadline) {
                lease.timed_out();
            }
            return Err(fault);
        }
    };
    let mut trailers = trailers.unwrap_or_default();
    metadata::answer(&mut trailers);
    let status = if status::read_code(&trailers) == Some(status::OK) {
        Status::new(status::OK, "")
    } else {
        Status::read(&trailers).unwrap_or_else(missing_status)
    };
    Ok(Answer { headers: head.headers, framed: gathered.finish(), trailers, status })
}

fn poll_answer(
    from: &mut RecvStream,
    cx: &mut std::task::Context<'_>,
    gathered: &mut Gathered,
    max_bytes: usize,
) -> Poll<Result<Option<HeaderMap>, Fault>> {
    loop {
        match ready!(from.poll_data(cx)) {
            Some(Ok(chunk)) => {
                let _ = from.flow_control().release_capacity(chunk.len());
                gathered.push(chunk);
                if gathered.len() > HEAD_BYTES.saturating_add(max_bytes) {
                    return Poll::Ready(Err(Fault::TooLong));
                }
            }
            Some(Err(error)) => return Poll::Ready(Err(Fault::Broken(error))),
            None => return from.poll_trailers(cx).map_err(Fault::Broken),
        }
    }
}
