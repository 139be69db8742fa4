//! One call as it stands on the caller's side: the narrow seam between an HTTP/2 connection and a call.

use std::net::IpAddr;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Response, header, request};

use super::status::Status;
use super::transport::Conduct;
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
pub struct Caller {
    side: Side,
    /// Of the connection that it came by; `None` for nobody's.
    conduct: Option<Rc<Conduct>>,
}

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
    pub fn new(respond: SendResponse<Bytes>, conduct: Rc<Conduct>) -> Self {
        Self { side: Side::Waiting(respond), conduct: Some(conduct) }
    }

    /// Where its connection comes from; `None` for a unix socket, and for nobody.
    #[must_use]
    pub fn from(&self) -> Option<IpAddr> {
        self.conduct.as_ref().and_then(|conduct| conduct.from())
    }

    /// No caller: for what is done on nobody's behalf.
    #[must_use]
    pub fn nobody() -> Self {
        Self { side: Side::Nobody, conduct: None }
    }

    /// Ready when nobody waits any more.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Gone> {
        let polled = match &mut self.side {
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
        if let Side::Waiting(respond) = &mut self.side {
            self.side = Side::Answering(respond.send_response(head, end).map_err(|_| Gone)?);
        }
        Ok(())
    }

    fn stream(&mut self) -> Result<&mut SendStream<Bytes>, Gone> {
        match &mut self.side {
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

    /// Says how the call ended, for its connection's sake. A call given up near its own deadline was not given up in haste.
    pub fn ended(&self, ended: Result<(), Gone>, arrival: &Arrival, until: Option<Instant>) {
        match (&self.conduct, ended) {
            (Some(conduct), Ok(())) => conduct.finished(),
            (Some(conduct), Err(Gone)) => {
                let after = arrival.at.elapsed();
                conduct.given_up(after, until.is_some_and(|until| after >= (until - arrival.at) / 2));
            }
            (None, _) => {}
        }
    }

    /// Room for up to `wanted` bytes.
    pub fn poll_room(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<Result<usize, Gone>> {
        if let Some(conduct) = &self.conduct {
            ready!(conduct.poll_free(cx));
        }
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
        match &self.side {
            Side::Waiting(_) => {
                extra.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
                self.open(grpc_head(extra), true)
            }
            Side::Answering(_) => self.trailers(extra),
            Side::Nobody => Err(Gone),
        }
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
        match ready!(stream.poll_capacity(cx)) {
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Poll::Ready(Err(SendClosed)),
        }
    }
}
