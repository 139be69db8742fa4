//! Certificates of callers.

use crate::forward::transport::tls::{facts, peer};

/// Any bytes are a certificate or none; its names are few, short, fit for a log, and the same whoever asks.
pub fn certificate(data: &[u8]) {
    let names = facts(data).map(|facts| facts.names).unwrap_or_default();
    assert!(names.len() <= 64);
    for name in &names {
        assert!(!name.is_empty() && name.len() <= 2048, "{name:?}");
        assert!(!name.chars().any(char::is_control), "{name:?}");
    }
    assert_eq!(peer(data).names(), names);
}
