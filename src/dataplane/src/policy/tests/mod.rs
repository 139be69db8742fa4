//! Facts about policies and decisions.

mod batch;
mod bounded;
mod calls;
mod choices;
mod documents;
mod hedges;
mod memory;
mod outside;
mod recalibration;
mod rows;
mod rules;
mod sampling;

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;

/// A document with one of everything; tests change what they are about.
pub(super) fn document() -> Value {
    json!({
        "version": 7,
        "salt": "00112233445566778899aabbccddeeff",
        "receipt_keys": ["aabb"],
        "default_backend": null,
        "identity": {"unit": {"metadata": "x-user-id"}, "segments": [{"name": "device", "from": {"metadata": "x-device"}}]},
        "lists": {"trusted": ["a@example.org", "b@example.org"]},
        "limits": {"buffer_bytes": 65536, "replay_bytes": 4_194_304, "answer_bytes": 16_777_216,
                   "request_head_bytes": 65536, "max_rows": 1024, "units": null},
        "trace_share": 0.01,
        "backends": [
            {"name": "spam-v3", "kind": "grpc", "endpoints": ["127.0.0.1:8001"], "model": "spam", "version": "3",
             "timeout_ms": 80, "max_in_flight": 256, "connect_timeout_ms": 300},
            {"name": "spam-lite", "kind": "grpc", "endpoints": ["unix:/run/lite.sock"], "model": null, "version": null,
             "timeout_ms": null, "max_in_flight": 256, "connect_timeout_ms": 300},
            {"name": "ham", "kind": "static", "label": "ham", "score": 0.0, "scores": null, "value": null},
            {"name": "spam-v4", "kind": "grpc", "endpoints": ["dns:spam-v4:8001"], "model": null, "version": null,
             "timeout_ms": null, "max_in_flight": 256, "connect_timeout_ms": 300}
        ],
        "routes": [{
            "name": "spam",
            "match": {"model": "spam", "method": null, "metadata": {}},
            "chain": ["spam-v3", "spam-lite", "ham"],
            "deadline_ms": null,
            "prediction": {"scores": "probabilities", "label": null, "confidence": null, "value": null,
                           "classes": ["ham", "spam"], "positive": "spam", "threshold": 0.5, "datatype": "FP32"},
            "check": {"range": [0, 1], "sum": 1.0, "sum_tolerance": 0.001, "labels": null},
            "confidence": {"measure": "max_probability", "floor": 0.8, "per_label": {}, "per_segment": {}},
            "rules": [],
            "holdout": null,
            "explore": null,
            "mirror": [],
            "review": null,
            "kill_switch": false,
            "loop_guard": null
        }]
    })
}

/// The document with changes at JSON pointers.
pub(super) fn document_with(changes: &[(&str, Value)]) -> Value {
    let mut document = document();
    for (pointer, value) in changes {
        *document.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}")) = value.clone();
    }
    document
}

pub(super) fn policy_with(changes: &[(&str, Value)]) -> Arc<Policy> {
    let document = document_with(changes).to_string();
    Arc::new(Policy::compile(&document).unwrap_or_else(|faults| panic!("{faults:?}")))
}

pub(super) type Pairs = Vec<(&'static str, &'static str)>;

/// A request of `rows` rows.
pub(super) fn request(metadata: &Pairs, rows: u32) -> Request<'_> {
    Request {
        method: "/inference.GRPCInferenceService/ModelInfer",
        model: "spam",
        id: "",
        rows,
        params: &[],
        inputs: &[],
        metadata,
        caller: None,
        memory: None,
    }
}

/// Scores of two classes by row, from the score of `spam`.
pub(super) fn scores(of_spam: &[f64]) -> Predictions {
    Predictions {
        rows: of_spam.len(),
        columns: 2,
        scores: of_spam.iter().flat_map(|score| [1.0 - score, *score]).collect(),
        ..Predictions::default()
    }
}

/// What each backend answers, by its position in the document.
pub(super) type Answers<'a> = &'a [(BackendIx, Result<Predictions, (Reason, u8)>)];

/// Walks a call to its end.
pub(super) fn walk(policy: &Arc<Policy>, request: &Request, id: [u8; 16], answers: Answers) -> Decision {
    let mut call = Call::begin(Arc::clone(policy), 0, request, id);
    walk_on(&mut call, request, answers);
    call.finish()
}

pub(super) fn walk_on(call: &mut Call, request: &Request, answers: Answers) {
    while let Step::Attempt(backend) = call.next() {
        assert!(call.attempts().len() <= 64, "a call that does not end would fill the memory before a test fails");
        let answer = answers.iter().find(|(known, _)| *known == backend).map(|(_, answer)| answer);
        match answer.unwrap_or_else(|| panic!("backend {backend} was not to be asked")) {
            Ok(predictions) => {
                if call.judge(request, Ok(predictions)) == Judgement::Accept {
                    break;
                }
            }
            Err((reason, status)) => call.miss(*reason, *status),
        }
    }
}

pub(super) fn attempts(policy: &Policy, decision: &Decision) -> String {
    let mut text = String::new();
    push_attempts(policy, decision.route, &decision.attempts, &mut text);
    text
}

pub(super) const V3: BackendIx = 0;
pub(super) const LITE: BackendIx = 1;
pub(super) const HAM: BackendIx = 2;
pub(super) const V4: BackendIx = 3;
