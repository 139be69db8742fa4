//! `grpc-timeout`: how long the caller waits, counted from its headers, and what of it is left for a backend.
//!
//! Source: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>, Timeout.

use std::time::Duration;

use http::{HeaderName, HeaderValue};

/// `grpc-timeout`.
pub const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// The form allows eight digits.
const MAX_DIGITS: usize = 8;
const MAX_VALUE: u128 = 99_999_999;

/// Reads the header's value.
///
/// # Errors
/// Words, if it has not the form `1..=8 digits, unit`.
pub fn parse(value: &HeaderValue) -> Result<Duration, &'static str> {
    const WANTED: &str = "grpc-timeout wants 1 to 8 digits and one of H M S m u n";
    let bytes = value.as_bytes();
    let (&unit, digits) = bytes.split_last().ok_or(WANTED)?;
    if digits.is_empty() || digits.len() > MAX_DIGITS || !digits.iter().all(u8::is_ascii_digit) {
        return Err(WANTED);
    }
    let number = digits.iter().fold(0_u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    Ok(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return Err(WANTED),
    })
}

/// Writes what is left, in the finest unit that holds it; rounded down, so that no backend is given more than is left.
#[must_use]
pub fn format(left: Duration) -> HeaderValue {
    let text = match left {
        _ if left.as_micros() <= MAX_VALUE => format!("{}u", left.as_micros()),
        _ if left.as_millis() <= MAX_VALUE => format!("{}m", left.as_millis()),
        _ => format!("{}S", u128::from(left.as_secs()).min(MAX_VALUE)),
    };
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("0u"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_unit_is_read() {
        for (text, wanted) in [
            ("2H", Duration::from_secs(7200)),
            ("3M", Duration::from_secs(180)),
            ("4S", Duration::from_secs(4)),
            ("5m", Duration::from_millis(5)),
            ("6u", Duration::from_micros(6)),
            ("99999999n", Duration::from_nanos(99_999_999)),
        ] {
            assert_eq!(parse(&HeaderValue::from_static(text)), Ok(wanted));
        }
        for wrong in ["", "S", "5", "123456789S", "1.5S", "-1S", "5x"] {
            assert!(parse(&HeaderValue::from_static(wrong)).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_sent_is_never_more_than_is_left(nanos in 0_u64..u64::MAX) {
            let left = Duration::from_nanos(nanos);
            prop_assert!(parse(&format(left)).unwrap() <= left);
        }

        #[test]
        fn any_bytes_are_a_duration_or_an_error(bytes: Vec<u8>) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let _ = parse(&value);
            }
        }
    }
}
