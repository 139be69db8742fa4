//! The five bytes before each gRPC message: whether it is compressed, and how long it is.
//!
//! Source: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>, Length-Prefixed-Message.

use std::fmt;

/// Bytes of a frame's head.
pub const HEAD_BYTES: usize = 5;

/// What a frame's head says of the message that follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// By the call's `grpc-encoding`.
    pub compressed: bool,
    /// Bytes of the message, as it stands on the wire.
    pub len: u32,
}

/// Why no message can be read from here on: the stream has lost its step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// Neither 0 nor 1.
    BadFlag(u8),
    /// The peer claims more than the named limit.
    TooLong { len: u32, max: u32 },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadFlag(flag) => write!(f, "a gRPC frame opens with {flag}, wanted 0 or 1"),
            Self::TooLong { len, max } => {
                write!(f, "a gRPC message of {len} bytes, the limit is {max}")
            }
        }
    }
}

impl std::error::Error for FrameError {}

/// The next message's head; `None` until its five bytes are here.
///
/// # Errors
/// Unknown flag, or the peer claims more than `max` bytes.
pub fn read_head(buf: &[u8], max: u32) -> Result<Option<FrameHead>, FrameError> {
    let Some((&[flag, len @ ..], _)) = buf.split_first_chunk::<HEAD_BYTES>() else {
        return Ok(None);
    };
    if flag > 1 {
        return Err(FrameError::BadFlag(flag));
    }
    // `len` is only the peer's claim: refuse before anyone reserves memory.
    let len = u32::from_be_bytes(len);
    if len > max {
        return Err(FrameError::TooLong { len, max });
    }
    Ok(Some(FrameHead { compressed: flag == 1, len }))
}

/// Bytes in the next gRPC message; `None` until its 5-byte head is here.
///
/// # Errors
/// Unknown flag, or the peer claims more than `max` bytes.
pub fn message_len(buf: &[u8], max: u32) -> Result<Option<u32>, FrameError> {
    Ok(read_head(buf, max)?.map(|head| head.len))
}

/// The head of a message of `len` bytes.
pub const fn head(compressed: bool, len: u32) -> [u8; HEAD_BYTES] {
    let [a, b, c, d] = len.to_be_bytes();
    [compressed as u8, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_claim_over_the_limit_is_refused_before_the_message_is_here() {
        assert_eq!(read_head(&[0, 255, 255, 255, 255], 1024), Err(FrameError::TooLong { len: u32::MAX, max: 1024 }));
        assert_eq!(read_head(&[2, 0, 0, 0, 0], 1024), Err(FrameError::BadFlag(2)));
        assert_eq!(read_head(&[0, 0, 0, 0], 1024), Ok(None));
    }

    proptest! {
        #[test]
        fn a_written_head_reads_back(compressed: bool, len: u32, tail: Vec<u8>) {
            let mut buf = head(compressed, len).to_vec();
            buf.extend(tail);
            prop_assert_eq!(read_head(&buf, u32::MAX), Ok(Some(FrameHead { compressed, len })));
            prop_assert_eq!(message_len(&buf, u32::MAX), Ok(Some(len)));
        }

        #[test]
        fn any_bytes_are_a_head_or_an_error(buf: Vec<u8>, max: u32) {
            if let Ok(Some(found)) = read_head(&buf, max) {
                prop_assert!(found.len <= max);
                prop_assert_eq!(&head(found.compressed, found.len)[..], &buf[..HEAD_BYTES]);
            }
        }
    }
}
