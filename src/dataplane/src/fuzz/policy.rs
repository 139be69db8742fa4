//! Policy documents, and calls that are thought of.

use std::fmt::Write;
use std::sync::{Arc, LazyLock};

use crate::policy::{Policy, Verdict, agree, explain};

/// A policy whose parts are all used, for calls to be tried on.
const DOCUMENT: &str = include_str!("../../fuzz/seeds/policy/everything.json");

static POLICY: LazyLock<Arc<Policy>> = LazyLock::new(|| Arc::new(Policy::compile(DOCUMENT).expect("the seed is good")));

/// Calls of every kind; whatever policy was taken must come to an end with each of them.
const CALLS: [&str; 4] = [
    r#"{"model": "spam", "rows": 3, "metadata": {"x-tenant": "acme"}, "answer": {"score": 0.6}}"#,
    r#"{"model": "spam", "id": "a", "answer": {"error": "UNAVAILABLE"}}"#,
    r#"{"model": "spam", "params": {"n": 1}, "answer": {"timeout": true}}"#,
    r#"{"method": "/a.B/C", "answer": {"label": "spam", "confidence": 0.5, "value": 1e308}}"#,
];

/// Any text is a condition on which both evaluators agree, or is refused in words.
pub fn cel(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        agree(text);
    }
}

/// Any text is a policy that decides every call, or a list of faults with words and places.
pub fn policy(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Policy::compile(text) {
        Ok(policy) => {
            let policy = Arc::new(policy);
            for call in CALLS {
                let explained = explain(&policy, call, &mut |_| Verdict::Unknown).expect("the calls are good");
                assert!(explained["decision"]["outcome"].is_string());
            }
        }
        Err(faults) => {
            assert!(!faults.is_empty());
            for fault in faults {
                assert!(!fault.message.is_empty());
            }
        }
    }
}

/// Any text is a call that is decided, or is refused in words.
pub fn call(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match explain(&POLICY, text, &mut |_| Verdict::Unknown) {
        Ok(explained) => {
            let mut shown = String::new();
            write!(shown, "{explained}").expect("a text takes all");
            assert!(explained["steps"].as_array().is_some_and(|steps| !steps.is_empty()));
        }
        Err(words) => assert!(!words.is_empty()),
    }
}
