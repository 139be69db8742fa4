//! Descriptors as somebody's tools made them, or as nobody did.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::making::{document, set};
use crate::policy::Policy;

/// The library's panics are caught and become faults; their backtraces would fill the tests' memory.
fn quietly() {
    static QUIET: std::sync::Once = std::sync::Once::new();
    QUIET.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !info.location().is_some_and(|at| at.file().contains("prost-reflect")) {
                loud(info);
            }
        }));
    });
}

fn faults(descriptors: &[u8], path: &str) -> Vec<String> {
    let mut document = document(&json!({"rows": path}), &json!({"scores": path}), &Json::Null);
    document["descriptors"] = json!([STANDARD.encode(descriptors)]);
    let faults = Policy::compile(&document.to_string()).err().unwrap_or_default();
    faults.into_iter().map(|fault| fault.message).collect()
}

#[test]
fn the_same_set_twice_is_one_set() {
    let mut document = document(&Json::Null, &json!({"scores": "probs"}), &Json::Null);
    document["descriptors"] = json!([STANDARD.encode(set()), STANDARD.encode(set())]);
    assert!(Policy::compile(&document.to_string()).is_ok());
}

proptest! {
    #[test]
    fn any_descriptors_and_any_path_compile_or_are_faults(
        noise in prop::collection::vec(any::<u8>(), 0..64),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        path in "[a-z_.\\[\\]\"0-9]{0,20}",
    ) {
        quietly();
        let _ = faults(&noise, &path);
        let mut changed = set();
        for (at, byte) in changes {
            let at = at.index(changed.len());
            changed[at] = byte;
        }
        let _ = faults(&changed, "items[].score");
        let _ = faults(&changed, &path);
    }
}
