//! Names out of certificates: which count, in what order, and that no bytes break the reader.

use proptest::prelude::*;

use super::{facts, peer};

const SPIFFE: &[u8] = include_bytes!("../../../../fuzz/seeds/certificate/spiffe.der");
const COMMON: &[u8] = include_bytes!("../../../../fuzz/seeds/certificate/common.der");
const MANY: &[u8] = include_bytes!("../../../../fuzz/seeds/certificate/many.der");
const NOBODY: &[u8] = include_bytes!("../../../../fuzz/seeds/certificate/nobody.der");

/// Puts other bytes of the same length where `old` stands; signatures are not looked at here.
fn changed(der: &[u8], old: &str, new: &[u8]) -> Vec<u8> {
    assert_eq!(old.len(), new.len());
    let at = der.windows(old.len()).position(|part| part == old.as_bytes()).expect("it stands there");
    [&der[..at], new, &der[at + new.len()..]].concat()
}

#[test]
fn uris_come_before_hosts_and_addresses_do_not_count() {
    assert_eq!(peer(SPIFFE).names(), ["spiffe://acme/ns/prod/sa/web", "web.acme.org"]);
    assert_eq!(peer(SPIFFE).id(), "spiffe://acme/ns/prod/sa/web");
}

#[test]
fn the_common_name_counts_alone() {
    assert_eq!(peer(COMMON).names(), ["web"]);
    assert_eq!(peer(NOBODY).id(), "");
    assert!(peer(NOBODY).names().is_empty());
}

#[test]
fn names_are_bounded() {
    assert_eq!(peer(MANY).names().len(), super::names::MOST_NAMES);
}

#[test]
fn a_host_that_is_no_host_and_a_uri_that_is_none_do_not_count() {
    for bad in [&b"web\nacme.org"[..], b"web\0acme.org", b"a://acme.org", b"web acme.org"] {
        assert_eq!(peer(&changed(SPIFFE, "web.acme.org", bad)).names(), ["spiffe://acme/ns/prod/sa/web"], "{bad:?}");
    }
    for bad in [&b"spiffe:/Xacme/ns/prod/sa/web"[..], b"spiffe://acme/ns/prod/sa/we\n"] {
        assert_eq!(peer(&changed(SPIFFE, "spiffe://acme/ns/prod/sa/web", bad)).names(), ["web.acme.org"], "{bad:?}");
    }
    assert_eq!(peer(&changed(SPIFFE, "web.acme.org", b"WEB.Acme.org")).names()[1], "web.acme.org");
}

#[test]
fn what_is_no_certificate_has_no_facts() {
    assert_eq!(facts(b""), None);
    assert_eq!(facts(&SPIFFE[..SPIFFE.len() - 1]), None);
    assert_eq!(facts(&[SPIFFE, b"x"].concat()), None);
    let facts = facts(SPIFFE).unwrap();
    assert!(!facts.is_ca && facts.not_before < facts.not_after);
}

proptest! {
    #[test]
    fn no_bytes_break_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = peer(&bytes);
    }

    #[test]
    fn no_change_of_a_certificate_breaks_the_reader(at in 0..SPIFFE.len(), value in any::<u8>()) {
        let mut bytes = SPIFFE.to_vec();
        bytes[at] = value;
        for name in peer(&bytes).names() {
            prop_assert!(!name.chars().any(char::is_control));
        }
    }
}
