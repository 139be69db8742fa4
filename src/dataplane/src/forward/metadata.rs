//! Metadata on its way through: what is the gateway's own to say is dropped, all else goes on as it came.

use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::exchange::Fault;
use super::transport::limits;
use crate::policy;

/// Metadata of this prefix is the gateway's own.
const OWN: &str = "gateway-";
/// Names whom sticky choices follow.
pub const UNIT: HeaderName = HeaderName::from_static("gateway-unit");
/// Asks for the steps in words.
pub const EXPLAIN: HeaderName = HeaderName::from_static("gateway-explain");
/// Asks not to be put before people.
pub const NO_REVIEW: HeaderName = HeaderName::from_static("gateway-no-review");
/// Marks a copy.
pub const SHADOW: HeaderName = HeaderName::from_static("gateway-shadow");
/// Tells the control plane who calls.
pub const CALLER: HeaderName = HeaderName::from_static("gateway-caller");

/// By which proxies tell whose certificate a caller has shown.
pub const CLIENT_CERTIFICATE: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// Drops what is the gateway's own to say. What belongs to a connection (`connection`, `transfer-encoding` and their like)
/// never comes this far: `h2` refuses it, as HTTP/2 wants.
fn strip(headers: &mut HeaderMap, own: impl Fn(&HeaderName) -> bool) {
    if headers.keys().any(&own) {
        let names: Vec<HeaderName> = headers.keys().filter(|name| own(name)).cloned().collect();
        for name in names {
            headers.remove(name);
        }
    }
}

/// Who calls, for the control plane: `tls:` and the first name of the certificate, else `addr:` and the address, else
/// `unix`. What of a name no header may hold stands as `%` and its hexadecimal code, and so does `%`.
#[must_use]
pub fn caller(peer: Option<&policy::Peer>, from: Option<IpAddr>) -> HeaderValue {
    let name = peer.map(policy::Peer::id).filter(|name| !name.is_empty());
    let words = match (name, from) {
        (Some(name), _) => {
            let mut words = String::from("tls:");
            for byte in name.bytes() {
                match byte {
                    b'!'..=b'~' if byte != b'%' => words.push(char::from(byte)),
                    _ => words.extend(['%', hex(byte >> 4), hex(byte & 15)]),
                }
            }
            words
        }
        (None, Some(from)) => format!("addr:{from}"),
        (None, None) => "unix".to_owned(),
    };
    HeaderValue::try_from(words).unwrap_or(HeaderValue::from_static("unix"))
}

fn hex(half: u8) -> char {
    char::from_digit(u32::from(half), 16).unwrap_or('0').to_ascii_uppercase()
}

/// A request's, as it came in: what others say in the gateway's name is dropped, but for what a caller may ask.
pub fn admit(headers: &mut HeaderMap) {
    strip(headers, |name| name.as_str().starts_with(OWN) && *name != UNIT && *name != EXPLAIN && *name != NO_REVIEW);
    // `content-length` is of the body as it came; what is appended would make it a lie.
    headers.remove(header::CONTENT_LENGTH);
}

/// An answer's headers or trailers, as a backend sent them.
pub fn answer(headers: &mut HeaderMap) {
    strip(headers, |name| name.as_str().starts_with(OWN));
    headers.remove(header::CONTENT_LENGTH);
}

/// Whether a backend's headers or trailers are as short as they may be. `h2` drops what is too long of trailers and says
/// nothing, so it is given four times the room, and asked here.
///
/// # Errors
/// [`Fault::TooMuchMetadata`].
pub fn bounded(headers: &HeaderMap) -> Result<(), Fault> {
    /// What HTTP/2 adds for each (RFC 9113, 6.5.2).
    const UPKEEP_BYTES: usize = 32;
    let bytes = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + UPKEEP_BYTES).sum::<usize>();
    if bytes > limits::MAX_HEADER_LIST_BYTES as usize { Err(Fault::TooMuchMetadata(bytes)) } else { Ok(()) }
}

/// Metadata as a decision sees it.
pub struct Seen<'a>(pub &'a HeaderMap);

impl policy::Metadata for Seen<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.to_str().ok()
    }

    fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name).map(HeaderValue::as_bytes)
    }

    fn each(&self, visit: &mut dyn FnMut(&str, &str)) {
        for (name, value) in self.0 {
            if let (false, Ok(value)) = (name.as_str().ends_with("-bin"), value.to_str()) {
                visit(name.as_str(), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_its_certificate_or_else_its_address() {
        let said = |names: &[&str], from: Option<&str>| {
            let peer = policy::Peer::new(names.iter().map(|name| (*name).to_owned()).collect());
            caller(Some(&peer), from.map(|from| from.parse().unwrap())).to_str().unwrap().to_owned()
        };
        assert_eq!(said(&["spiffe://acme/web", "web"], Some("10.0.0.1")), "tls:spiffe://acme/web");
        assert_eq!(said(&["a b%\u{e9}\n"], None), "tls:a%20b%25%C3%A9%0A");
        assert_eq!(said(&[], Some("::1")), "addr:::1");
        assert_eq!(caller(None, None), "unix");
    }

    #[test]
    fn what_is_the_gateways_own_is_dropped_and_the_rest_keeps_its_order() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("te", "trailers"),
            ("x-a", "1"),
            ("gateway-outcome", "model"),
            ("gateway-unit", "u"),
            ("x-a", "2"),
            ("x-b-bin", "AAE"),
        ] {
            headers.append(name, value.parse().unwrap());
        }
        admit(&mut headers);
        let all: Vec<_> = headers.iter().map(|(name, value)| format!("{name}={}", value.to_str().unwrap())).collect();
        let mut sorted = all.clone();
        sorted.sort();
        assert_eq!(sorted, ["gateway-unit=u", "te=trailers", "x-a=1", "x-a=2", "x-b-bin=AAE"]);
        let mine: Vec<_> = all.iter().filter(|pair| pair.starts_with("x-a")).collect();
        assert_eq!(mine, ["x-a=1", "x-a=2"]);
    }
}
