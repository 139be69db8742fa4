//! Gathers the small frames of one poll into one write.
//!
//! `h2` flushes after every DATA frame of 256 bytes or more, so a busy connection made one system call a frame (21,426
//! write calls for 20,000 calls; with the cork 1,730, and a fifth less CPU). The cork holds small writes back until the
//! connection's poll returns. Large frames go past it, as copying them cost bodies of 1 MB a quarter of their speed.
//!
//! As all bytes pass here, this is where the [`Watch`] sees them, and where a frame of our own (a ping, a GOAWAY with words)
//! can be put between those of `h2`.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::limits;
use super::watch::{Excess, Watch};

/// What is held back at most; a connection never owns more than this here.
const HELD_BYTES: usize = 32 * 1024;
/// A write of this size goes to the socket at once, together with what is held.
const LARGE_BYTES: usize = 4 * 1024;
/// Slices handed to one system call: what is held, and what `h2` chains to a frame's head.
const SLICES: usize = 4;

/// ENHANCE_YOUR_CALM.
const CALM: u32 = 11;
/// PING with a payload that `h2` does not send.
const KEEPALIVE: [u8; 17] = *b"\0\0\x08\x06\0\0\0\0\0keepaliv";

struct Inner<S> {
    socket: S,
    held: BytesMut,
    watch: Watch,
    excess: Option<Excess>,
    /// Bytes that came, that `h2` has sent, and that the socket has taken.
    progress: Progress,
    /// `h2` waits for room, perhaps in the middle of a frame.
    refused: bool,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes read.
    pub read: u64,
    /// Bytes that were handed over to be written.
    pub sent: u64,
    /// Bytes written.
    pub written: u64,
}

/// The driver's handle: writes what the cork holds, once the connection's poll has returned.
pub struct Cork<S>(Rc<RefCell<Inner<S>>>);

/// The connection's end: a socket whose flush does nothing.
pub struct Corked<S>(Rc<RefCell<Inner<S>>>);

/// Puts a cork on a socket to a backend.
pub fn cork<S>(socket: S) -> (Cork<S>, Corked<S>) {
    watched(socket, Watch::backend())
}

/// Puts a cork on a socket, and a watch over what comes.
pub fn watched<S>(socket: S, watch: Watch) -> (Cork<S>, Corked<S>) {
    let inner = Rc::new(RefCell::new(Inner {
        socket,
        held: BytesMut::with_capacity(HELD_BYTES),
        watch,
        excess: None,
        progress: Progress::default(),
        refused: false,
    }));
    (Cork(Rc::clone(&inner)), Corked(inner))
}

/// A GOAWAY with words.
fn goaway(last_stream: u32, code: u32, words: &str) -> BytesMut {
    let mut frame = BytesMut::new();
    frame.put_uint(8 + words.len() as u64, 3);
    frame.put_slice(&[7, 0, 0, 0, 0, 0]);
    frame.put_u32(last_stream);
    frame.put_u32(code);
    frame.put_slice(words.as_bytes());
    frame
}

impl<S> Inner<S> {
    /// Puts a frame of our own between those of `h2`; not when `h2` may be in the middle of one.
    fn put(&mut self, frame: &[u8]) {
        if !self.refused {
            self.held.extend_from_slice(frame);
        }
    }
}

impl<S: AsyncWrite + Unpin> Inner<S> {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            let written = ready!(Pin::new(&mut self.socket).poll_write(cx, &self.held))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.progress.written += written as u64;
            self.held.advance(written);
        }
        // `advance` walks through the allocation: start again at its front.
        self.held.clear();
        if self.held.capacity() < HELD_BYTES {
            self.held.reserve(HELD_BYTES);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let polled = self.poll_write(cx, parts);
        self.refused = polled.is_pending();
        if let Poll::Ready(Ok(sent)) = polled {
            self.progress.sent += sent as u64;
        }
        polled
    }

    /// Also what the socket itself holds: TLS keeps records that the kernel had no room for. On a plain one this is nothing.
    fn poll_drain_and_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.held.is_empty() {
            ready!(self.poll_drain(cx))?;
        }
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        if total < LARGE_BYTES {
            if self.held.len() + total > HELD_BYTES {
                ready!(self.poll_drain(cx))?;
            }
            for part in parts {
                self.held.extend_from_slice(part);
            }
            return Poll::Ready(Ok(total));
        }
        loop {
            if self.held.is_empty() {
                let written = ready!(Pin::new(&mut self.socket).poll_write_vectored(cx, parts))?;
                self.progress.written += written as u64;
                return Poll::Ready(Ok(written));
            }
            let mut slices = [IoSlice::new(&[]); SLICES];
            slices[0] = IoSlice::new(&self.held);
            let mut used = 1;
            for part in parts.iter().take(SLICES - 1) {
                slices[used] = IoSlice::new(part);
                used += 1;
            }
            let written = ready!(Pin::new(&mut self.socket).poll_write_vectored(cx, &slices[..used]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.progress.written += written as u64;
            let held = self.held.len();
            self.held.advance(written.min(held));
            if written > held {
                return Poll::Ready(Ok(written - held));
            }
        }
    }
}

impl<S> Clone for Cork<S> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<S: AsyncWrite + Unpin> Cork<S> {
    /// Writes what is held. `Pending` leaves a waker for when the socket takes more.
    ///
    /// # Errors
    /// The socket's own: the connection is lost.
    pub fn poll_drain(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_drain_and_flush(cx)
    }

    /// What the peer did that is too much, if it did.
    #[must_use]
    pub fn excess(&self) -> Option<Excess> {
        self.0.borrow().excess
    }

    /// Whether `h2` waits for the socket to take more.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.0.borrow().refused
    }

    /// How far the connection has come.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.0.borrow().progress
    }

    /// The number of the header block that the peer has begun and not ended.
    #[must_use]
    pub fn open_block(&self) -> Option<u32> {
        self.0.borrow().watch.open_block()
    }

    /// Puts a ping between the frames of `h2`, which ignores its answer; it is written with what comes next, or by a drain.
    pub fn ping(&self) {
        self.0.borrow_mut().put(&KEEPALIVE);
    }

    /// Puts a GOAWAY with words between the frames of `h2`: its own has none.
    pub fn go_away(&self, reason: h2::Reason, words: &str) {
        let mut inner = self.0.borrow_mut();
        let frame = goaway(inner.watch.last_stream(), reason.into(), words);
        inner.put(&frame);
    }

    /// Runs a step of the connection that comes before its driver (the handshake), draining after each poll.
    ///
    /// # Errors
    /// The socket's own.
    pub async fn run<F: Future>(&self, step: F) -> io::Result<F::Output> {
        let mut step = std::pin::pin!(step);
        std::future::poll_fn(|cx| {
            let polled = step.as_mut().poll(cx);
            match (self.poll_drain(cx), polled) {
                (Poll::Ready(Err(error)), _) => Poll::Ready(Err(error)),
                (_, Poll::Ready(output)) => Poll::Ready(Ok(output)),
                (_, Poll::Pending) => Poll::Pending,
            }
        })
        .await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Cork<S> {
    /// Writes what is held, says that no more will come, and reads what the peer still sends, for a while: the system answers
    /// a close with unread bytes by a reset, and the peer would never see why.
    pub async fn linger(self) {
        let closing = async {
            Corked(Rc::clone(&self.0)).shutdown().await?;
            let mut rest = [0; 4096];
            let mut left = limits::LINGER_BYTES;
            while left > 0 {
                let mut rest = ReadBuf::new(&mut rest);
                let read = |cx: &mut Context<'_>| Pin::new(&mut self.0.borrow_mut().socket).poll_read(cx, &mut rest);
                std::future::poll_fn(read).await?;
                if rest.filled().is_empty() {
                    break;
                }
                left = left.saturating_sub(rest.filled().len());
            }
            Ok::<(), io::Error>(())
        };
        // Late or broken, it is closed now.
        let _ = tokio::time::timeout(limits::LINGER, closing).await;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Corked<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.borrow_mut();
        let inner = &mut *inner;
        let before = buf.filled().len();
        ready!(Pin::new(&mut inner.socket).poll_read(cx, buf))?;
        let came = &buf.filled()[before..];
        inner.progress.read += came.len() as u64;
        match inner.watch.read(came, inner.progress.sent) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(excess) => {
                inner.excess = Some(excess);
                let frame = goaway(inner.watch.last_stream(), CALM, excess.words());
                inner.put(&frame);
                Poll::Ready(Err(io::Error::other(excess.words())))
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Corked<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_send(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_send(cx, bufs)
    }

    /// No: then `h2` copies DATA of up to 1 KB between its other frames and hands all of a poll over at once. When it may
    /// chain, it flushes after every DATA frame of 256 bytes or more. Large frames go past the cork either way.
    fn is_write_vectored(&self) -> bool {
        false
    }

    /// Held back on purpose: the driver drains after the connection's poll.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.borrow_mut();
        ready!(inner.poll_drain(cx))?;
        Pin::new(&mut inner.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, duplex};

    #[tokio::test]
    async fn small_writes_wait_for_the_drain() {
        let (near, mut far) = duplex(1 << 20);
        let (cork, mut corked) = cork(near);
        corked.write_all(b"one").await.unwrap();
        corked.flush().await.unwrap();
        corked.write_all(b"two").await.unwrap();
        assert_eq!(cork.0.borrow().held.len(), 6);
        std::future::poll_fn(|cx| cork.poll_drain(cx)).await.unwrap();
        let mut got = [0; 6];
        far.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"onetwo");
    }

    /// TLS keeps what the kernel has no room for, as this writer does.
    #[tokio::test]
    async fn the_drain_also_flushes_what_the_socket_keeps() {
        let (near, mut far) = duplex(1 << 20);
        let (cork, mut corked) = cork(tokio::io::BufWriter::with_capacity(1 << 16, near));
        for bytes in [&b"small"[..], &vec![7; LARGE_BYTES * 2]] {
            corked.write_all(bytes).await.unwrap();
            std::future::poll_fn(|cx| cork.poll_drain(cx)).await.unwrap();
            let mut got = vec![0; bytes.len()];
            let read = tokio::time::timeout(std::time::Duration::from_secs(5), far.read_exact(&mut got)).await;
            assert_eq!((read.is_ok(), &got[..]), (true, bytes));
        }
    }

    #[tokio::test]
    async fn large_writes_go_past_and_keep_the_order() {
        let (near, mut far) = duplex(1 << 20);
        let (cork, mut corked) = cork(near);
        corked.write_all(b"head").await.unwrap();
        let large = vec![7; LARGE_BYTES * 3];
        corked.write_all(&large).await.unwrap();
        assert!(cork.0.borrow().held.is_empty());
        let mut got = vec![0; 4 + large.len()];
        far.read_exact(&mut got).await.unwrap();
        assert_eq!(&got[..4], b"head");
        assert_eq!(&got[4..], &large[..]);
    }

    #[tokio::test]
    async fn a_slow_peer_bounds_what_is_held() {
        let (near, mut far) = duplex(1024);
        let (_cork, mut corked) = cork(near);
        let writer = async {
            for _ in 0..1000 {
                corked.write_all(&[1; 1000]).await.unwrap();
                assert!(corked.0.borrow().held.len() <= HELD_BYTES);
            }
            corked.shutdown().await.unwrap();
        };
        let reader = async {
            let mut all = Vec::new();
            far.read_to_end(&mut all).await.unwrap();
            assert_eq!(all.len(), 1_000_000);
        };
        tokio::join!(writer, reader);
    }
}
