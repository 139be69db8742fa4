//! W3C trace context: the caller's is carried on, or one is made.
//!
//! Source: <https://www.w3.org/TR/trace-context/>, version 00. `tracestate` and `baggage` go through as any metadata.

use http::{HeaderMap, HeaderName, HeaderValue};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// `traceparent`.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const SAMPLED: u8 = 1;

/// Whose trace a call is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Trace id.
    pub id: u128,
    /// The call's span.
    pub span: u64,
    /// The caller's span, 0 if there is none.
    pub parent: u64,
    /// Whether spans of this call are exported.
    pub sampled: bool,
}

fn hex<T>(text: &str, digits: usize, read: impl Fn(&str) -> Option<T>) -> Option<T> {
    let lower = text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    (text.len() == digits && lower).then(|| read(text)).flatten()
}

fn parse(value: &HeaderValue) -> Option<(u128, u64, u8)> {
    let text = value.to_str().ok()?;
    let mut parts = text.split('-');
    let version = hex(parts.next()?, 2, |text| u8::from_str_radix(text, 16).ok())?;
    let id = hex(parts.next()?, 32, |text| u128::from_str_radix(text, 16).ok())?;
    let parent = hex(parts.next()?, 16, |text| u64::from_str_radix(text, 16).ok())?;
    let flags = hex(parts.next()?, 2, |text| u8::from_str_radix(text, 16).ok())?;
    let whole = version != 0xff && (version > 0 || parts.next().is_none());
    (whole && id != 0 && parent != 0).then_some((id, parent, flags))
}

/// Two digits a byte: `core::fmt` took eight times as long.
fn write_hex(bytes: &[u8], out: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, pair) in bytes.iter().zip(out.chunks_exact_mut(2)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

impl Trace {
    /// The caller's trace, or a new one: then `share` of the ids, by hash, are exported.
    #[must_use]
    pub fn of(headers: &HeaderMap, share: f64) -> Self {
        let span = fastrand::u64(1..);
        if let Some((id, parent, flags)) = headers.get(TRACEPARENT).and_then(parse) {
            return Self { id, span, parent, sampled: flags & SAMPLED != 0 };
        }
        let id = fastrand::u128(1..);
        #[allow(clippy::cast_precision_loss)] // 53 bits of a hash are a fine share
        let drawn = xxh3_64_with_seed(&id.to_le_bytes(), 0) as f64 / u64::MAX as f64;
        Self { id, span, parent: 0, sampled: drawn < share }
    }

    /// What a backend is told, with the attempt's span as its parent.
    #[must_use]
    pub fn header(&self, span: u64) -> HeaderValue {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write_hex(&self.id.to_be_bytes(), &mut text[3..35]);
        write_hex(&span.to_be_bytes(), &mut text[36..52]);
        write_hex(&[u8::from(self.sampled)], &mut text[53..]);
        let mut value = HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static(""));
        // No other attempt will have this value: keep it out of the table by which headers are compressed.
        value.set_sensitive(true);
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(text: &str) -> Trace {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, text.parse().unwrap());
        Trace::of(&headers, 0.0)
    }

    #[test]
    fn the_callers_trace_is_carried_on() {
        let trace = of("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        assert_eq!((trace.parent, trace.sampled), (0xb7ad_6b71_6920_3331, true));
        assert_eq!(trace.header(7), "00-0af7651916cd43dd8448eb211c80319c-0000000000000007-01");
    }

    #[test]
    fn what_is_not_a_trace_begins_a_new_one() {
        for wrong in [
            "",
            "00-0-0-0",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        ] {
            let trace = of(wrong);
            assert_eq!((trace.parent, trace.sampled), (0, false), "{wrong}");
            assert_ne!(trace.id, 0);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_trace_or_a_new_one(text in "[ -~]{0,70}") {
            prop_assert_ne!(of(&text).id, 0);
        }
    }
}
