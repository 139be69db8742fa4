//! Inflates one compressed gRPC message, for a route that must read it. The bytes that are passed on stay compressed.

use std::fmt;
use std::io::Read;

use flate2::read::{MultiGzDecoder, ZlibDecoder};

/// Why a message cannot be read; its bytes may still be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InflateError {
    /// A `grpc-encoding` other than `gzip` and `deflate`; `identity` and none contradict the flag.
    UnknownEncoding,
    /// It inflates to more than the named limit.
    TooLong { max: usize },
    /// Not what its encoding says.
    Broken,
}

impl fmt::Display for InflateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownEncoding => {
                f.write_str("a message marked compressed under no grpc-encoding that is known, wanted gzip or deflate")
            }
            Self::TooLong { max } => {
                write!(f, "a compressed message inflates to more than {max} bytes")
            }
            Self::Broken => f.write_str("a compressed message that does not inflate"),
        }
    }
}

impl std::error::Error for InflateError {}

/// Appends the inflated message to `out`, at most `max` bytes of it.
///
/// # Errors
/// [`InflateError`]; what was appended until then stays.
pub fn inflate(encoding: &str, message: &[u8], max: usize, out: &mut Vec<u8>) -> Result<(), InflateError> {
    match encoding {
        "gzip" => take(MultiGzDecoder::new(message), max, out),
        // By the gRPC specification "deflate" is the zlib format of RFC 1950.
        "deflate" => take(ZlibDecoder::new(message), max, out),
        _ => Err(InflateError::UnknownEncoding),
    }
}

fn take(stream: impl Read, max: usize, out: &mut Vec<u8>) -> Result<(), InflateError> {
    let before = out.len();
    // One byte more than allowed tells a message that is too long from one that just fits.
    let limit = (max as u64).saturating_add(1);
    stream.take(limit).read_to_end(out).map_err(|_| InflateError::Broken)?;
    if out.len() - before > max { Err(InflateError::TooLong { max }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};
    use proptest::prelude::*;
    use std::io::Write;

    fn gzip(message: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(message).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_bomb_is_refused_at_the_limit() {
        let bomb = gzip(&vec![0; 16 << 20]);
        let mut out = Vec::new();
        assert_eq!(inflate("gzip", &bomb, 4096, &mut out), Err(InflateError::TooLong { max: 4096 }));
        assert!(out.capacity() < 64 << 10, "{} bytes were reserved", out.capacity());
    }

    #[test]
    fn an_unknown_encoding_is_named_so() {
        assert_eq!(inflate("snappy", b"", 10, &mut Vec::new()), Err(InflateError::UnknownEncoding));
    }

    proptest! {
        #[test]
        fn what_was_compressed_comes_back(message: Vec<u8>) {
            let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
            zlib.write_all(&message).unwrap();
            for (encoding, compressed) in [("gzip", gzip(&message)), ("deflate", zlib.finish().unwrap())] {
                let mut out = Vec::new();
                prop_assert_eq!(inflate(encoding, &compressed, message.len(), &mut out), Ok(()));
                prop_assert_eq!(&out, &message);
            }
        }

        #[test]
        fn any_bytes_inflate_within_the_limit_or_not_at_all(message: Vec<u8>, max in 0_usize..64) {
            for encoding in ["gzip", "deflate"] {
                let mut out = Vec::new();
                if inflate(encoding, &message, max, &mut out).is_ok() {
                    prop_assert!(out.len() <= max);
                }
            }
        }
    }
}
