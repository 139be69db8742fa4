//! What comes on a stream, taken out of `h2` also while nobody wants it yet.
//!
//! `h2` keeps each DATA frame by itself and takes a connection with many small ones that nobody reads for an attack: a slow
//! reader of one token stream would end the backend's connection, and every call on it. So a reader that must wait takes
//! what is there, and small chunks are put together. The bytes' room is given back only when they have gone on, so the
//! stream's window bounds what lies here.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use http::HeaderMap;

/// Chunks shorter than this are put together: their own upkeep would be larger than they are.
const SMALL_BYTES: usize = 512;
/// Up to so much in one piece.
const GATHERED_BYTES: usize = 16 * 1024;

/// One direction of a call, as it comes in.
pub struct Inflow {
    from: RecvStream,
    ready: VecDeque<Bytes>,
    small: BytesMut,
    fault: Option<h2::Error>,
}

impl Inflow {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(from: RecvStream) -> Self {
        Self { from, ready: VecDeque::new(), small: BytesMut::new(), fault: None }
    }

    /// The next bytes; `None` at the end.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
        if let Some(chunk) = self.ready.pop_front() {
            return Poll::Ready(Some(Ok(chunk)));
        }
        if !self.small.is_empty() {
            return Poll::Ready(Some(Ok(self.small.split().freeze())));
        }
        match self.fault.take() {
            Some(fault) => Poll::Ready(Some(Err(fault))),
            None => self.from.poll_data(cx),
        }
    }

    /// Takes what is there, for later. Whoever waits for something else calls this before it does.
    pub fn gather(&mut self, cx: &mut Context<'_>) {
        while self.fault.is_none() {
            match self.from.poll_data(cx) {
                Poll::Ready(Some(Ok(chunk))) if chunk.len() < SMALL_BYTES => {
                    if self.small.len() + chunk.len() > GATHERED_BYTES {
                        self.ready.push_back(self.small.split().freeze());
                    }
                    self.small.extend_from_slice(&chunk);
                }
                Poll::Ready(Some(Ok(chunk))) => {
                    if !self.small.is_empty() {
                        self.ready.push_back(self.small.split().freeze());
                    }
                    self.ready.push_back(chunk);
                }
                Poll::Ready(Some(Err(fault))) => self.fault = Some(fault),
                Poll::Ready(None) | Poll::Pending => return,
            }
        }
    }

    /// The trailers, once all data was taken.
    pub fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, h2::Error>> {
        self.from.poll_trailers(cx)
    }

    /// Whether nothing more will come.
    #[must_use]
    pub fn is_end_stream(&self) -> bool {
        self.ready.is_empty() && self.small.is_empty() && self.fault.is_none() && self.from.is_end_stream()
    }

    /// Gives the sender room for so many bytes more: they have gone on.
    pub fn release(&mut self, bytes: usize) {
        let _ = self.from.flow_control().release_capacity(bytes);
    }
}
