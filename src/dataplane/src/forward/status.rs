//! gRPC statuses as they stand in headers.
//!
//! Source: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>, Responses; the mapping of HTTP statuses is
//! that of <https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>.

use std::borrow::Cow;
use std::fmt::Write as _;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

pub use crate::policy::status::{
    CANCELLED, DATA_LOSS, DEADLINE_EXCEEDED, INTERNAL, NOT_FOUND, OK, PERMISSION_DENIED, RESOURCE_EXHAUSTED,
    UNAVAILABLE, UNIMPLEMENTED, UNKNOWN,
};

/// The caller's message is at fault.
pub const INVALID_ARGUMENT: u8 = 3;
/// The caller is nobody that is known.
pub const UNAUTHENTICATED: u8 = 16;

/// `grpc-status`.
pub const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// `grpc-message`.
pub const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

const CODES: [&str; 17] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16"];

/// A status and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// gRPC code.
    pub code: u8,
    /// Words for people, not yet percent-encoded.
    pub message: Cow<'static, str>,
}

impl Status {
    /// A status with words.
    pub fn new(code: u8, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into() }
    }

    /// Writes both headers.
    pub fn write(&self, headers: &mut HeaderMap) {
        headers.insert(GRPC_STATUS, code_value(self.code));
        headers.remove(GRPC_MESSAGE);
        if !self.message.is_empty() {
            headers.insert(GRPC_MESSAGE, message_value(&self.message));
        }
    }

    /// What a block of headers or trailers says; `None` without a `grpc-status`.
    #[must_use]
    pub fn read(headers: &HeaderMap) -> Option<Self> {
        let code = read_code(headers)?;
        let message = headers.get(GRPC_MESSAGE).map(|value| decode(value.as_bytes())).unwrap_or_default();
        Some(Self { code, message: Cow::Owned(message) })
    }

    /// The status of an answer that is not gRPC at all.
    #[must_use]
    pub fn from_http(status: StatusCode) -> Self {
        let code = match status.as_u16() {
            400 => INTERNAL,
            401 => 16,
            403 => 7,
            404 => UNIMPLEMENTED,
            429 | 502 | 503 | 504 => UNAVAILABLE,
            _ => UNKNOWN,
        };
        Self::new(code, format!("the backend answered HTTP {}, which is not gRPC", status.as_u16()))
    }
}

/// The code alone; UNKNOWN when it is no number that gRPC has.
#[must_use]
pub fn read_code(headers: &HeaderMap) -> Option<u8> {
    let value = headers.get(GRPC_STATUS)?;
    if value.as_bytes() == b"0" {
        return Some(OK);
    }
    let code = value.to_str().ok().and_then(|text| text.parse::<u8>().ok());
    Some(code.filter(|&code| code <= 16).unwrap_or(UNKNOWN))
}

/// The header value of a code.
#[must_use]
pub fn code_value(code: u8) -> HeaderValue {
    HeaderValue::from_static(CODES.get(usize::from(code)).copied().unwrap_or("2"))
}

/// Percent-encodes what may not stand in a header.
#[must_use]
pub fn message_value(message: &str) -> HeaderValue {
    let mut text = String::with_capacity(message.len());
    for byte in message.bytes() {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("the message could not be shown"))
}

fn decode(encoded: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while let Some((&first, after)) = rest.split_first() {
        let hex = (first == b'%').then(|| after.get(..2)).flatten().and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_the_header() {
        let status = Status::new(INVALID_ARGUMENT, "100 % ünsure\n");
        let mut headers = HeaderMap::new();
        status.write(&mut headers);
        assert_eq!(headers[GRPC_STATUS], "3");
        assert_eq!(headers[GRPC_MESSAGE], "100 %25 %C3%BCnsure%0A");
        assert_eq!(Status::read(&headers), Some(status));
    }

    #[test]
    fn a_code_that_grpc_does_not_have_is_unknown() {
        for text in ["17", "-1", "x", ""] {
            let mut headers = HeaderMap::new();
            headers.insert(GRPC_STATUS, text.parse().unwrap());
            assert_eq!(read_code(&headers), Some(UNKNOWN), "{text}");
        }
        assert_eq!(read_code(&HeaderMap::new()), None);
    }
}
