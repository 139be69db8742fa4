//! One call as it stands on the caller's side: the narrow seam between an HTTP/2 connection and a call.

use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header, request};

use super::status::Status;
use crate::policy::Peer;
use crate::records::Arrival;

/// The caller has reset the stream or its connection is gone: nobody waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// A call as the listener hands it over.
pub struct Incoming {
    /// Method, path, metadata.
    pub head: request::Parts,
    /// The caller's messages.
    pub body: RecvStream,
    /// The way back.
    pub caller: Caller,
    /// When its headers came.
    pub arrival: Arrival,
    /// Whom the caller has shown to be; `None` without TLS.
    pub peer: Option<Rc<Peer>>,
}

enum Side {
    Nobody,
    Waiting(SendResponse<Bytes>),
    Answering(SendStream<Bytes>),
}

/// The way back to the caller.
pub struct Caller(Side);

/// An HTTP/2 answer that opens a gRPC one.
#[must_use]
pub fn grpc_head(headers: HeaderMap) -> Response<()> {
    let mut head = Response::new(());
    *head.headers_mut() = headers;
    head
}

impl Caller {
    /// Wraps the stream's sending half.
    #[must_use]
    pub fn new(respond: SendResponse<Bytes>) -> Self {
        Self(Side::Waiting(respond))
    }

    /// No caller: for what is done on nobody's behalf.
    #[must_use]
    pub fn nobody() -> Self {
        Self(Side::Nobody)
    }

    /// Ready when nobody waits any more.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Gone> {
        let polled = match &mut self.0 {
            Side::Nobody => return Poll::Pending,
            Side::Waiting(respond) => respond.poll_reset(cx),
            Side::Answering(stream) => stream.poll_reset(cx),
        };
        polled.map(|_| Gone)
    }

    /// Sends the answer's head.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn open(&mut self, head: Response<()>, end: bool) -> Result<(), Gone> {
        if let Side::Waiting(respond) = &mut self.0 {
            self.0 = Side::Answering(respond.send_response(head, end).map_err(|_| Gone)?);
        }
        Ok(())
    }

    fn stream(&mut self) -> Result<&mut SendStream<Bytes>, Gone> {
        match &mut self.0 {
            Side::Answering(stream) => Ok(stream),
            Side::Waiting(_) | Side::Nobody => Err(Gone),
        }
    }

    /// Hands bytes over without asking for room: for what is bounded anyway.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn data(&mut self, data: Bytes, end: bool) -> Result<(), Gone> {
        self.stream()?.send_data(data, end).map_err(|_| Gone)
    }

    /// Room for up to `wanted` bytes.
    pub fn poll_room(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<Result<usize, Gone>> {
        match self.stream() {
            Ok(stream) => poll_room(stream, cx, wanted).map_err(|_| Gone),
            Err(gone) => Poll::Ready(Err(gone)),
        }
    }

    /// Ends the answer.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn trailers(&mut self, trailers: HeaderMap) -> Result<(), Gone> {
        self.stream()?.send_trailers(trailers).map_err(|_| Gone)
    }

    /// Ends the call with a status of the gateway's own: trailers-only while nothing was answered, else as trailers.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn fail(&mut self, status: &Status, mut extra: HeaderMap) -> Result<(), Gone> {
        status.write(&mut extra);
        match &self.0 {
            Side::Waiting(_) => {
                extra.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
                self.open(grpc_head(extra), true)
            }
            Side::Answering(_) => self.trailers(extra),
            Side::Nobody => Err(Gone),
        }
    }

    /// Ends the call with an HTTP status: what came is not gRPC.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn refuse(&mut self, status: StatusCode) -> Result<(), Gone> {
        let mut head = Response::new(());
        *head.status_mut() = status;
        self.open(head, true)
    }
}

/// No more can be sent on this stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendClosed;

/// Room for up to `wanted` bytes on a stream, by its window and its send buffer.
pub fn poll_room(
    stream: &mut SendStream<Bytes>,
    cx: &mut Context<'_>,
    wanted: usize,
) -> Poll<Result<usize, SendClosed>> {
    stream.reserve_capacity(wanted);
    loop {
        let room = stream.capacity();
        if room > 0 {
            return Poll::Ready(Ok(room.min(wanted)));
        }
        match std::task::ready!(stream.poll_capacity(cx)) {
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Poll::Ready(Err(SendClosed)),
        }
    }
}
