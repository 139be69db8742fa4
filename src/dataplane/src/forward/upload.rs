//! The caller's messages on their way to a backend, kept as long as they may be needed again.
//!
//! What is kept are the chunks as they came, counted by reference. Up to a named limit; past it the call goes on, but can
//! be sent to one backend only. A chunk is taken from the caller's window only once the backend's side has taken it, so a
//! slow backend slows its caller and nothing piles up here.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use h2::{RecvStream, SendStream};

use super::append::Append;
use super::caller::{Gone, poll_room};
use super::compression::refused;
use super::exchange::Fault;
use super::inflow::Inflow;
use crate::wire::frame::{self, HEAD_BYTES};
use crate::wire::inflate::InflateError;

/// The caller's half of a call.
pub struct Upload {
    from: Inflow,
    /// Chunks from number `first` on.
    kept: VecDeque<Bytes>,
    first: usize,
    kept_bytes: usize,
    keep_bytes: usize,
    /// What the pieces take besides: many short ones take more than their bytes.
    upkeep_bytes: usize,
    /// Chunks whose bytes the caller's window has back.
    released: usize,
    total: u64,
    ended: bool,
    /// When the caller's first bytes came, where somebody asks.
    spoke: Option<Rc<Cell<Option<Instant>>>>,
}

/// How far one attempt has come with the upload.
pub struct Sender {
    stream: SendStream<Bytes>,
    append: Option<Append>,
    next: usize,
    out: VecDeque<Bytes>,
    done: bool,
}

/// Why the upload stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// By the caller.
    Gone,
    /// By a compressed message to which nothing can be appended.
    Unreadable(InflateError),
    /// By the backend, which takes no more of it; what it answers counts.
    Closed,
}

impl Sender {
    /// Begins at the first chunk.
    #[must_use]
    pub fn new(stream: SendStream<Bytes>, append: Option<Append>) -> Self {
        Self { stream, append, next: 0, out: VecDeque::new(), done: false }
    }

    /// For an upload that was sent in one piece.
    #[must_use]
    pub fn sent(stream: SendStream<Bytes>) -> Self {
        Self { stream, append: None, next: 0, out: VecDeque::new(), done: true }
    }
}

/// What a piece takes besides its bytes, where that is much beside them: its place here, its frame's head and its share of
/// the buffer that it was read into.
fn upkeep(chunk: &Bytes) -> usize {
    const PIECE_BYTES: usize = 64;
    if chunk.len() < 8 * PIECE_BYTES { PIECE_BYTES } else { 0 }
}

impl Upload {
    /// Nothing is read yet. Up to `keep_bytes` stay here to be sent again.
    #[must_use]
    pub fn new(from: RecvStream, keep_bytes: usize) -> Self {
        let ended = from.is_end_stream();
        Self {
            from: Inflow::new(from),
            kept: VecDeque::new(),
            first: 0,
            kept_bytes: 0,
            keep_bytes,
            upkeep_bytes: 0,
            released: 0,
            total: 0,
            ended,
            spoke: None,
        }
    }

    /// Whether the caller has sent all.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// Whether every byte from the start is still here.
    #[must_use]
    pub fn is_replayable(&self) -> bool {
        self.first == 0 && self.kept_bytes + self.upkeep_bytes <= self.keep_bytes
    }

    /// Notes when the caller's first bytes come.
    #[must_use]
    pub fn listen(&mut self) -> Rc<Cell<Option<Instant>>> {
        let begun = (self.total > 0).then(Instant::now);
        Rc::clone(self.spoke.get_or_insert_with(|| Rc::new(Cell::new(begun))))
    }

    /// What the caller has sent so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.total
    }

    /// What is kept from the start on, if it is: reference counts, no bytes.
    #[must_use]
    pub fn chunks(&self) -> Option<Vec<Bytes>> {
        self.is_replayable().then(|| self.kept.iter().cloned().collect())
    }

    /// All that is kept, in one piece: without a copy when it is one chunk.
    #[must_use]
    pub fn joined(&self) -> Bytes {
        match self.kept.len() {
            0 => Bytes::new(),
            1 => self.kept[0].clone(),
            _ => {
                let mut joined = BytesMut::with_capacity(self.kept_bytes);
                self.kept.iter().for_each(|chunk| joined.extend_from_slice(chunk));
                joined.freeze()
            }
        }
    }

    /// Changes what may stay here; a call that nobody else will get keeps nothing.
    pub fn keep(&mut self, keep_bytes: usize) {
        self.keep_bytes = keep_bytes;
    }

    /// Takes one more chunk from the caller.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        match ready!(self.from.poll_data(cx)) {
            Some(Ok(chunk)) => {
                if let Some(spoke) = &self.spoke
                    && self.total == 0
                {
                    spoke.set(Some(Instant::now()));
                }
                self.total += chunk.len() as u64;
                self.kept_bytes += chunk.len();
                self.upkeep_bytes += upkeep(&chunk);
                self.kept.push_back(chunk);
                self.ended = self.from.is_end_stream();
            }
            Some(Err(_)) => return Poll::Ready(Err(Gone)),
            None => self.ended = true,
        }
        Poll::Ready(Ok(()))
    }

    /// Reads ahead until the caller has ended or `bytes` are here. These are given back to the caller's window at once:
    /// `bytes` bounds them.
    pub fn poll_gather(&mut self, cx: &mut Context<'_>, bytes: usize) -> Poll<Result<(), Gone>> {
        while !self.ended && self.kept_bytes < bytes {
            ready!(self.poll_chunk(cx))?;
            self.release(self.first + self.kept.len());
        }
        Poll::Ready(Ok(()))
    }

    /// Reads ahead until the first message is here whole, the caller has ended, or `bytes` are here.
    pub fn poll_first(&mut self, cx: &mut Context<'_>, bytes: usize) -> Poll<Result<(), Gone>> {
        while !self.ended && self.kept_bytes < bytes && !self.has_first() {
            ready!(self.poll_chunk(cx))?;
            self.release(self.first + self.kept.len());
        }
        Poll::Ready(Ok(()))
    }

    fn has_first(&self) -> bool {
        let mut head = [0; HEAD_BYTES];
        let mut have = 0;
        for byte in self.kept.iter().flatten().take(HEAD_BYTES) {
            head[have] = *byte;
            have += 1;
        }
        match frame::read_head(&head[..have], u32::MAX) {
            Ok(Some(read)) => self.kept_bytes >= HEAD_BYTES + read.len as usize,
            Ok(None) => false,
            // Whoever reads it will say what is wrong.
            Err(_) => true,
        }
    }

    fn release(&mut self, through: usize) {
        while self.released < through {
            let len = self.released.checked_sub(self.first).and_then(|at| self.kept.get(at)).map_or(0, Bytes::len);
            self.from.release(len);
            self.released += 1;
        }
    }

    /// Sends what there is, and reads on. Ready when all was sent.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, to: &mut Sender) -> Poll<Result<(), Stopped>> {
        loop {
            if to.done {
                return Poll::Ready(Ok(()));
            }
            let here = self.first + self.kept.len();
            if let Some(piece) = to.out.front_mut() {
                let Poll::Ready(room) = poll_room(&mut to.stream, cx, piece.len()) else {
                    self.from.gather(cx);
                    return Poll::Pending;
                };
                let Ok(room) = room else {
                    to.done = true;
                    return Poll::Ready(Err(Stopped::Closed));
                };
                let part = piece.split_to(room);
                let emptied = piece.is_empty();
                if emptied {
                    to.out.pop_front();
                }
                let whole = to.append.as_ref().is_none_or(Append::holds_nothing);
                let last = self.ended && to.next == here && to.out.is_empty() && whole;
                to.done = last;
                if to.stream.send_data(part, last).is_err() {
                    to.done = true;
                    return Poll::Ready(Err(Stopped::Closed));
                }
                if to.out.is_empty() {
                    self.release(to.next);
                    self.forget(to.next);
                }
            } else if to.next < here {
                let chunk = self.kept[to.next - self.first].clone();
                to.next += 1;
                match &mut to.append {
                    Some(append) => append.feed(chunk, &mut to.out).map_err(Stopped::Unreadable)?,
                    None if chunk.is_empty() => {}
                    None => to.out.push_back(chunk),
                }
                if to.out.is_empty() {
                    self.release(to.next);
                    self.forget(to.next);
                }
            } else if let Some(rest) = to.append.as_mut().filter(|_| self.ended).and_then(Append::rest) {
                to.out.push_back(rest);
            } else if self.ended {
                to.done = true;
                if to.stream.send_data(Bytes::new(), true).is_err() {
                    return Poll::Ready(Err(Stopped::Closed));
                }
            } else {
                ready!(self.poll_chunk(cx)).map_err(|Gone| Stopped::Gone)?;
            }
        }
    }

    /// Sends on beside whatever else is waited for: never ready but by a fault that ends the call.
    pub fn poll_on(&mut self, cx: &mut Context<'_>, to: &mut Sender) -> Result<(), Fault> {
        if to.done {
            return Ok(());
        }
        match self.poll_send(cx, to) {
            Poll::Ready(Err(Stopped::Gone)) => Err(Fault::Gone),
            Poll::Ready(Err(Stopped::Unreadable(fault))) => Err(Fault::Refused(refused(fault))),
            _ => Ok(()),
        }
    }

    /// Lets go of what was sent, once there is more than may stay.
    fn forget(&mut self, sent: usize) {
        if self.is_replayable() {
            return;
        }
        while self.first < sent {
            if let Some(chunk) = self.kept.pop_front() {
                self.kept_bytes -= chunk.len();
                self.upkeep_bytes -= upkeep(&chunk);
            }
            self.first += 1;
        }
    }
}
