//! Who a certificate says its holder is.
//!
//! The names of its subject alternative name: URIs (a SPIFFE id is one) before DNS names. The common name counts only where
//! there is neither, as RFC 9525 wants. A name that could be taken for one of another kind, or that would not stand in a
//! log as it is, does not count: a common name is free text, and must not pass for a SPIFFE id.

use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::policy::Peer;

/// Names that are read of one certificate.
pub const MOST_NAMES: usize = 64;
/// The longest name; a SPIFFE id is no longer.
pub const MOST_NAME_BYTES: usize = 2048;

/// What a certificate says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Unix seconds.
    pub not_before: i64,
    /// Unix seconds.
    pub not_after: i64,
    /// Its holder's names.
    pub names: Vec<String>,
    /// May sign others.
    pub is_ca: bool,
}

/// Reads a certificate; `None` where it is none.
#[must_use]
pub fn facts(der: &[u8]) -> Option<Facts> {
    let (rest, certificate) = X509Certificate::from_der(der).ok()?;
    if !rest.is_empty() {
        return None;
    }
    Some(Facts {
        not_before: certificate.validity().not_before.timestamp(),
        not_after: certificate.validity().not_after.timestamp(),
        names: names(&certificate),
        is_ca: certificate.is_ca(),
    })
}

/// Whom a verified certificate shows the caller to be; nobody where it names nobody.
#[must_use]
pub fn peer(der: &[u8]) -> Peer {
    Peer::new(facts(der).map(|facts| facts.names).unwrap_or_default())
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let general = alternative.as_ref().map(|found| found.value.general_names.as_slice()).unwrap_or_default();
    let uris = general.iter().filter_map(|name| match name {
        GeneralName::URI(uri) if is_uri(uri) => Some((*uri).to_owned()),
        _ => None,
    });
    let hosts = general.iter().filter_map(|name| match name {
        GeneralName::DNSName(host) if is_host(host) => Some(host.to_ascii_lowercase()),
        _ => None,
    });
    let mut names: Vec<String> = Vec::new();
    for name in uris.chain(hosts) {
        if names.len() < MOST_NAMES && !names.contains(&name) {
            names.push(name);
        }
    }
    if names.is_empty() {
        let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        names.extend(common.filter(|name| is_common(name)).take(1).map(str::to_owned));
    }
    names
}

fn is_uri(text: &str) -> bool {
    text.len() <= MOST_NAME_BYTES && text.contains("://") && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_host(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_*".contains(&byte);
    !text.is_empty() && text.len() <= 253 && text.bytes().all(plain)
}

fn is_common(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MOST_NAME_BYTES
        && !text.contains("://")
        && text.chars().all(|character| !character.is_control())
}
