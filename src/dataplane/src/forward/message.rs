//! One unary request or answer, as bytes on the wire and as what can be read of it.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName};
use smallvec::{SmallVec, smallvec};

use super::compression::plain;
use super::status::{INVALID_ARGUMENT, Status};
use crate::wire::frame::{self, HEAD_BYTES};

/// `grpc-encoding`.
pub const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
/// Up to here a frame is written anew in one piece when something is appended; above, its bytes are only pointed to.
const COPIED_BYTES: usize = 16 * 1024;

/// Frames that together are one message.
pub type Frames = SmallVec<[Bytes; 3]>;

/// A message with its frame.
#[derive(Clone, Debug)]
pub struct Message {
    /// As it came, head and all. Of a message that is not `whole`, what is here of it.
    pub framed: Bytes,
    /// What it says: without the head, inflated.
    pub plain: Bytes,
    /// Whether `framed` holds compressed bytes.
    pub compressed: bool,
    /// Whether all of it is here.
    pub whole: bool,
}

impl Message {
    /// Reads the frame of a stream's only message. `ended`: no more will come.
    ///
    /// # Errors
    /// Words for the caller: no message, more than one, a broken frame, one that inflates to more than `max_plain`.
    pub fn read(framed: Bytes, ended: bool, headers: &HeaderMap, max_plain: usize) -> Result<Self, Status> {
        let bad = |words: String| Status::new(INVALID_ARGUMENT, words);
        let head = frame::read_head(&framed, u32::MAX).map_err(|fault| bad(fault.to_string()))?;
        let head = head.ok_or_else(|| bad("the call has no message".into()))?;
        let end = HEAD_BYTES + head.len as usize;
        if ended && framed.len() < end {
            return Err(bad(format!("the message ends after {} of {} bytes", framed.len() - HEAD_BYTES, head.len)));
        }
        if framed.len() > end {
            return Err(bad("more than one message in a call that takes one".into()));
        }
        let whole = framed.len() == end;
        let body = framed.slice(HEAD_BYTES..);
        if !head.compressed || !whole {
            return Ok(Self { framed, plain: body, compressed: head.compressed, whole });
        }
        let plain = plain(headers, &body, max_plain)?;
        Ok(Self { framed, plain, compressed: true, whole })
    }

    /// The frames of this whole message with bytes appended. A compressed one goes out inflated: the second value says so.
    #[must_use]
    pub fn with(&self, suffix: &[u8]) -> (Frames, bool) {
        if suffix.is_empty() {
            return (smallvec![self.framed.clone()], false);
        }
        (frames(&self.plain, suffix), self.compressed)
    }

    /// The frames of this whole message, uncompressed, with bytes appended.
    #[must_use]
    pub fn inflated(&self, suffix: &[u8]) -> Frames {
        if suffix.is_empty() && !self.compressed {
            return smallvec![self.framed.clone()];
        }
        frames(&self.plain, suffix)
    }
}

/// A whole message of one's own.
#[must_use]
pub fn framed(plain: Vec<u8>) -> Message {
    let len = u32::try_from(plain.len()).unwrap_or(u32::MAX);
    let mut framed = BytesMut::with_capacity(HEAD_BYTES + plain.len());
    framed.put_slice(&frame::head(false, len));
    framed.put_slice(&plain);
    let framed = framed.freeze();
    Message { plain: framed.slice(HEAD_BYTES..), framed, compressed: false, whole: true }
}

/// The frames of an uncompressed message made of two parts.
#[must_use]
pub fn frames(plain: &Bytes, suffix: &[u8]) -> Frames {
    let len = u32::try_from(plain.len() + suffix.len()).unwrap_or(u32::MAX);
    let head = frame::head(false, len);
    if plain.len() <= COPIED_BYTES {
        let mut all = BytesMut::with_capacity(HEAD_BYTES + plain.len() + suffix.len());
        all.put_slice(&head);
        all.put_slice(plain);
        all.put_slice(suffix);
        return smallvec![all.freeze()];
    }
    let mut frames: Frames = smallvec![Bytes::copy_from_slice(&head), plain.clone()];
    if !suffix.is_empty() {
        frames.push(Bytes::copy_from_slice(suffix));
    }
    frames
}
