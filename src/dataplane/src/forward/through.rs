//! Bytes from one side to the other: every RPC kind, message by message, with what each side says of itself.
//!
//! A chunk is taken from one side's window only when the other side has taken it, so what lies here is bounded by two
//! windows a call, however slow either side is.

use std::collections::VecDeque;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::append::Append;
use super::attempt::{Answer, Begun};
use super::caller::{Caller, Gone, grpc_head};
use super::compression::Down;
use super::exchange::{Alarm, Fault, Opened, watched};
use super::inflow::Inflow;
use super::metadata;
use super::status::{
    self, CANCELLED, DEADLINE_EXCEEDED, GRPC_STATUS, INTERNAL, RESOURCE_EXHAUSTED, Status, UNAVAILABLE,
};
use super::upload::Upload;

/// How a call that was passed through ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// gRPC code that the caller saw.
    pub status: u8,
    /// The answer's bytes.
    pub answer_bytes: u64,
}

/// The status that a fault becomes.
///
/// Source: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>, HTTP2 Transport Mapping.
#[must_use]
pub fn status_of(fault: &Fault) -> Status {
    let code = match fault {
        Fault::Refused(status) => status.code,
        Fault::Gone => CANCELLED,
        Fault::Deadline => DEADLINE_EXCEEDED,
        Fault::Unreachable(_) => UNAVAILABLE,
        Fault::TooLong | Fault::TooMuchMetadata(_) => RESOURCE_EXHAUSTED,
        Fault::Broken(error) => match error.reason() {
            _ if error.is_go_away() || error.is_io() => UNAVAILABLE,
            Some(h2::Reason::REFUSED_STREAM) | None => UNAVAILABLE,
            Some(h2::Reason::CANCEL) => CANCELLED,
            Some(h2::Reason::ENHANCE_YOUR_CALM) => RESOURCE_EXHAUSTED,
            Some(h2::Reason::INADEQUATE_SECURITY) => 7,
            Some(_) => INTERNAL,
        },
    };
    Status::new(code, fault.words())
}

/// What is wrong with an answer's head, if it is not gRPC's.
#[must_use]
pub fn not_grpc(status: StatusCode, headers: &HeaderMap) -> Option<Status> {
    if headers.contains_key(GRPC_STATUS) {
        return None;
    }
    if status != StatusCode::OK {
        return Some(Status::from_http(status));
    }
    let kind = headers.get(header::CONTENT_TYPE)?;
    (!kind.as_bytes().starts_with(b"application/grpc"))
        .then(|| Status::new(status::UNKNOWN, "the backend's answer has another content-type than application/grpc"))
}

/// The trailers of a stream that ended without a `grpc-status`.
#[must_use]
pub fn missing_status() -> Status {
    Status::new(INTERNAL, "the backend's stream ended without a grpc-status")
}

struct Download {
    from: Inflow,
    append: Option<Append>,
    out: VecDeque<Bytes>,
    unreleased: usize,
    bytes: u64,
}

impl Download {
    fn take(&mut self, chunk: Bytes) -> Result<(), Fault> {
        self.bytes += chunk.len() as u64;
        match &mut self.append {
            Some(append) => append.feed(chunk, &mut self.out).map_err(|fault| {
                Fault::Refused(Status::new(RESOURCE_EXHAUSTED, format!("the backend's answer: {fault}")))
            })?,
            None if chunk.is_empty() => {}
            None => self.out.push_back(chunk),
        }
        Ok(())
    }

    /// Ready with the trailers when all was handed to the caller.
    fn poll(&mut self, caller: &mut Caller, cx: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, Fault>> {
        loop {
            if let Some(piece) = self.out.front_mut() {
                let Poll::Ready(room) = caller.poll_room(cx, piece.len()) else {
                    self.from.gather(cx);
                    return Poll::Pending;
                };
                let room = room?;
                let part = piece.split_to(room);
                if piece.is_empty() {
                    self.out.pop_front();
                }
                caller.data(part, false)?;
            } else {
                self.from.release(std::mem::take(&mut self.unreleased));
                match ready!(self.from.poll_data(cx)) {
                    Some(Ok(chunk)) => {
                        self.unreleased = chunk.len();
                        self.take(chunk)?;
                    }
                    Some(Err(error)) => return Poll::Ready(Err(Fault::Broken(error))),
                    None => {
                        if let Some(rest) = self.append.as_mut().and_then(Append::rest) {
                            self.out.push_back(rest);
                            continue;
                        }
                        let trailers = ready!(self.from.poll_trailers(cx)).map_err(Fault::Broken)?;
                        if let Some(trailers) = &trailers {
                            metadata::bounded(trailers)?;
                        }
                        return Poll::Ready(Ok(trailers));
                    }
                }
            }
        }
    }
}

/// Passes an answer on, and what is left of the upload, until both have ended. What `extra` makes of the status
/// joins the trailers.
///
/// # Errors
/// Nobody waits any more. All else is told to the caller here, and stands in [`Ended`].
pub async fn relay(
    caller: &mut Caller,
    alarm: &mut Alarm,
    upload: &mut Upload,
    opened: Opened,
    turn: Down<'_>,
    extra: impl FnOnce(u8) -> HeaderMap,
) -> Result<Ended, Gone> {
    let Opened { lease, sender, answer } = opened;
    let (mut head, from) = answer.into_parts();
    if !turn.own {
        metadata::answer(&mut head.headers);
    }
    if let Some(status) = not_grpc(head.status, &head.headers) {
        caller.fail(&status, extra(status.code))?;
        return Ok(Ended { status: status.code, answer_bytes: 0 });
    }
    if from.is_end_stream() {
        return only_end(caller, head.headers, extra);
    }
    let begun = Begun { lease, sender, headers: head.headers, here: Bytes::new(), from };
    go_on(caller, alarm, upload, begun, turn, extra).await
}

/// Passes on an answer that is but its end: one block of headers, as it came.
///
/// # Errors
/// Nobody waits any more.
pub fn only_end(
    caller: &mut Caller,
    mut headers: HeaderMap,
    extra: impl FnOnce(u8) -> HeaderMap,
) -> Result<Ended, Gone> {
    let status = code_of(&mut headers);
    headers.extend(extra(status));
    caller.open(grpc_head(headers), true)?;
    Ok(Ended { status, answer_bytes: 0 })
}

/// What a stream's end says, and says from now on where it said nothing.
fn code_of(trailers: &mut HeaderMap) -> u8 {
    status::read_code(trailers).unwrap_or_else(|| {
        missing_status().write(trailers);
        INTERNAL
    })
}

/// Passes on an answer that has begun, from its head on, as [`relay`] does.
///
/// # Errors
/// Nobody waits any more.
pub async fn go_on(
    caller: &mut Caller,
    alarm: &mut Alarm,
    upload: &mut Upload,
    begun: Begun,
    turn: Down<'_>,
    extra: impl FnOnce(u8) -> HeaderMap,
) -> Result<Ended, Gone> {
    let Begun { lease, mut sender, mut headers, here, from } = begun;
    let own = turn.own;
    let append = turn.append(&mut headers);
    caller.open(grpc_head(headers), false)?;
    let mut down = Download { from: Inflow::new(from), append, out: VecDeque::new(), unreleased: 0, bytes: 0 };
    let mut begins = Some(here);
    let ended = watched(caller, alarm, |caller, cx| {
        if let Some(here) = begins.take() {
            down.take(here)?;
        }
        upload.poll_on(cx, &mut sender)?;
        down.poll(caller, cx)
    })
    .await;
    let answer_bytes = down.bytes;
    match ended.and_then(|ended| ended).map_err(|fault| alarm.judged(fault)) {
        Ok(Some(mut trailers)) => {
            if !own {
                metadata::answer(&mut trailers);
            }
            let status = code_of(&mut trailers);
            trailers.extend(extra(status));
            caller.trailers(trailers)?;
            Ok(Ended { status, answer_bytes })
        }
        Ok(None) => {
            caller.fail(&missing_status(), extra(INTERNAL))?;
            Ok(Ended { status: INTERNAL, answer_bytes })
        }
        Err(Fault::Gone) => Err(Gone),
        Err(fault) => {
            if matches!(fault, Fault::Deadline) {
                lease.timed_out();
            }
            let status = status_of(&fault);
            caller.fail(&status, extra(status.code))?;
            Ok(Ended { status: status.code, answer_bytes })
        }
    }
}

/// Passes on an answer without messages, as [`relay`] does.
///
/// # Errors
/// Nobody waits any more.
pub fn no_message(caller: &mut Caller, answer: Answer, extra: impl FnOnce(u8) -> HeaderMap) -> Result<Ended, Gone> {
    let Answer { headers, mut trailers, status, .. } = answer;
    if !trailers.contains_key(GRPC_STATUS) {
        status.write(&mut trailers);
    }
    if headers.is_empty() {
        trailers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static("application/grpc"));
        return only_end(caller, trailers, extra);
    }
    caller.open(grpc_head(headers), false)?;
    trailers.extend(extra(status.code));
    caller.trailers(trailers)?;
    Ok(Ended { status: status.code, answer_bytes: 0 })
}
