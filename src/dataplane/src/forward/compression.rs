//! What is compressed: read through a bounded copy, and handed to a caller only in an encoding that it says it reads.
//!
//! Source: <https://github.com/grpc/grpc/blob/master/doc/compression.md>.

use bytes::Bytes;
use http::{HeaderMap, HeaderName};

use super::append::{Append, Unpack};
use super::message::GRPC_ENCODING;
use super::status::{INTERNAL, INVALID_ARGUMENT, RESOURCE_EXHAUSTED, Status, UNIMPLEMENTED};
use crate::wire::inflate::{InflateError, inflate};

/// `grpc-accept-encoding`.
pub const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const IDENTITY: &str = "identity";

/// What the messages beside these headers are compressed by, where they are.
#[must_use]
pub fn encoding(headers: &HeaderMap) -> &str {
    headers.get(GRPC_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Whether who sent these headers reads messages of this encoding.
#[must_use]
pub fn accepts(caller: &HeaderMap, encoding: &str) -> bool {
    let mut said = caller.get_all(GRPC_ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    matches!(encoding, "" | IDENTITY) || said.any(|said| said.split(',').any(|one| one.trim() == encoding))
}

/// A compressed message of a caller's, inflated to at most `max` bytes.
///
/// # Errors
/// Words for the caller.
pub fn plain(headers: &HeaderMap, message: &[u8], max: usize) -> Result<Bytes, Status> {
    let mut plain = Vec::new();
    match inflate(encoding(headers), message, max, &mut plain) {
        Ok(()) => Ok(plain.into()),
        Err(fault) => Err(Status::new(code_of(fault, headers), fault.to_string())),
    }
}

/// What a caller's message is refused by that cannot be inflated.
fn code_of(fault: InflateError, headers: &HeaderMap) -> u8 {
    match fault {
        InflateError::TooLong { .. } => RESOURCE_EXHAUSTED,
        // Said to be compressed without saying how: a fault of the sender's. Some other way: not known here.
        InflateError::UnknownEncoding if matches!(encoding(headers), "" | IDENTITY) => INTERNAL,
        InflateError::UnknownEncoding => UNIMPLEMENTED,
        InflateError::Broken => INVALID_ARGUMENT,
    }
}

/// What a caller's messages are unpacked by where something is appended to each.
#[must_use]
pub fn unpack(headers: &HeaderMap, max_bytes: usize) -> Unpack {
    Unpack { encoding: encoding(headers).into(), max_bytes }
}

/// A caller's message that could not be unpacked on its way.
#[must_use]
pub fn refused(fault: InflateError) -> Status {
    let code = match fault {
        InflateError::TooLong { .. } => RESOURCE_EXHAUSTED,
        InflateError::UnknownEncoding => UNIMPLEMENTED,
        InflateError::Broken => INVALID_ARGUMENT,
    };
    Status::new(code, fault.to_string())
}

/// What becomes of an answer's messages on their way to the caller.
pub struct Down<'a> {
    /// What is appended to each; nothing if empty.
    pub suffix: Bytes,
    /// Whether compressed ones are unpacked for it, or go without.
    pub always: bool,
    /// The caller's headers: what it accepts.
    pub caller: &'a HeaderMap,
    /// Bytes of one message that may be unpacked.
    pub max_bytes: usize,
    /// Whether it is the gateway's own answer: then it may speak in the gateway's name.
    pub own: bool,
}

impl Down<'_> {
    /// By the answer's headers, which say from now on what the caller will get.
    #[must_use]
    pub fn append(self, headers: &mut HeaderMap) -> Option<Append> {
        let Self { suffix, always, caller, max_bytes, .. } = self;
        let encoding = encoding(headers);
        // What is not known here goes on as it came: it may be known to the caller.
        let known = matches!(encoding, "gzip" | "deflate");
        let accepted = !known || accepts(caller, encoding);
        let unpack = (known && (!accepted || (always && !suffix.is_empty())))
            .then(|| Unpack { encoding: encoding.into(), max_bytes });
        if !accepted {
            headers.remove(GRPC_ENCODING);
        }
        (unpack.is_some() || !suffix.is_empty()).then(|| Append::new(suffix, unpack))
    }
}

/// A compressed message that is longer than what may be held of it.
#[must_use]
pub fn too_long(max: usize) -> Status {
    Status::new(RESOURCE_EXHAUSTED, format!("a compressed message of more than {max} bytes cannot be read"))
}
