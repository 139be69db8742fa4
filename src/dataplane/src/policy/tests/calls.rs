//! The chain, and what a call says about how it was walked.

use std::time::Duration;

use super::*;

const NOBODY: Pairs = Vec::new();
const DOWN: (Reason, u8) = (Reason::BackendError, status::UNAVAILABLE);

#[test]
fn a_sure_prediction_of_the_first_backend_is_the_answer() {
    let policy = policy_with(&[]);
    let decision = walk(&policy, &request(&NOBODY, 1), [1; 16], &[(V3, Ok(scores(&[0.97])))]);
    assert_eq!((decision.outcome, decision.reason), (Outcome::Model, Reason::Ok));
    assert_eq!((decision.backend, decision.status), (Some(V3), 0));
    let row = &decision.rows[0];
    assert_eq!((row.score, row.confidence, row.flagged), (0.97, 0.97, Some(true)));
    assert_eq!(row.label, Some(Label::Class(1)));
    assert_eq!(attempts(&policy, &decision), "spam-v3:ok");
}

#[test]
fn an_unsure_prediction_goes_on_to_the_next_backend() {
    let policy = policy_with(&[]);
    let answers = [(V3, Ok(scores(&[0.6]))), (LITE, Ok(scores(&[0.1])))];
    let decision = walk(&policy, &request(&NOBODY, 1), [1; 16], &answers);
    assert_eq!((decision.outcome, decision.reason), (Outcome::Fallback, Reason::LowConfidence));
    assert_eq!(decision.backend, Some(LITE));
    assert_eq!(attempts(&policy, &decision), "spam-v3:low_confidence,spam-lite:ok");
}

#[test]
fn the_reason_of_a_call_is_its_first_miss_and_the_static_answer_is_last() {
    let policy = policy_with(&[]);
    let answers = [(V3, Err((Reason::Deadline, status::DEADLINE_EXCEEDED))), (LITE, Ok(scores(&[f64::NAN])))];
    let decision = walk(&policy, &request(&NOBODY, 2), [1; 16], &answers);
    assert_eq!((decision.outcome, decision.reason), (Outcome::Static, Reason::Deadline));
    assert_eq!(attempts(&policy, &decision), "spam-v3:deadline,spam-lite:invalid_output,ham:ok");
    assert_eq!(decision.rows.len(), 2);
    let row = &decision.rows[1];
    assert_eq!((row.score, row.flagged, row.label.clone()), (0.0, Some(false), Some(Label::Class(0))));
    assert!(row.confidence.is_nan());
}

#[test]
fn a_single_failing_attempt_passes_its_status_on() {
    let policy = policy_with(&[("/routes/0/chain", json!(["spam-v3"]))]);
    let answers = [(V3, Err((Reason::BackendError, status::RESOURCE_EXHAUSTED)))];
    let decision = walk(&policy, &request(&NOBODY, 1), [1; 16], &answers);
    assert_eq!((decision.outcome, decision.reason), (Outcome::Error, Reason::BackendError));
    assert_eq!((decision.status, decision.message), (status::RESOURCE_EXHAUSTED, None));
}

#[test]
fn an_exhausted_chain_is_named_with_each_reason() {
    let policy = policy_with(&[("/routes/0/chain", json!(["spam-v3", "spam-lite"]))]);
    let decision = walk(&policy, &request(&NOBODY, 1), [1; 16], &[(V3, Err(DOWN)), (LITE, Ok(scores(&[0.5])))]);
    assert_eq!((decision.outcome, decision.status), (Outcome::Error, status::UNAVAILABLE));
    let words = "no backend of the route spam answered: spam-v3 backend_error (UNAVAILABLE), spam-lite low_confidence";
    assert_eq!(decision.message.as_deref(), Some(words));
    assert_eq!(decision.rows.len(), 1, "an unanswered call has one row, whatever it claims to hold");
}

#[test]
fn a_chain_of_misses_without_a_status_is_unavailable() {
    let policy = policy_with(&[("/routes/0/chain", json!(["spam-v3"]))]);
    let decision = walk(&policy, &request(&NOBODY, 1), [1; 16], &[(V3, Ok(scores(&[0.5])))]);
    assert_eq!((decision.outcome, decision.reason), (Outcome::Error, Reason::LowConfidence));
    assert_eq!(decision.status, status::UNAVAILABLE);
    assert!(decision.message.is_some());
}

#[test]
fn the_kill_switch_spares_every_model_and_leaves_the_static_answer() {
    let policy = policy_with(&[("/routes/0/kill_switch", json!(true)), ("/routes/0/mirror", mirror(1.0))]);
    let decision = walk(&policy, &request(&NOBODY, 1), [1; 16], &[]);
    assert_eq!((decision.outcome, decision.reason), (Outcome::Static, Reason::KillSwitch));
    assert_eq!(attempts(&policy, &decision), "spam-v3:kill_switch,spam-lite:kill_switch,ham:ok");
    assert!(decision.attempts.iter().all(|attempt| !attempt.made));
    assert!(decision.mirrors.is_empty());
}

#[test]
fn a_callers_own_failure_is_passed_on_and_not_tried_elsewhere() {
    let policy = policy_with(&[]);
    let metadata = NOBODY;
    let request = request(&metadata, 1);
    let mut call = Call::begin(Arc::clone(&policy), 0, &request, [1; 16]);
    assert_eq!(call.next(), Step::Attempt(V3));
    assert!(!status::is_miss(3));
    call.pass_on(3);
    assert_eq!(call.next(), Step::Exhausted);
    let decision = call.finish();
    assert_eq!((decision.outcome, decision.reason, decision.status), (Outcome::Error, Reason::BackendError, 3));
    assert_eq!((decision.backend, decision.message), (Some(V3), None));
}

#[test]
fn a_call_out_of_time_ends_as_deadline() {
    let policy = policy_with(&[]);
    let metadata = NOBODY;
    let request = request(&metadata, 1);
    let mut call = Call::begin(Arc::clone(&policy), 0, &request, [1; 16]);
    call.next();
    call.abort(Reason::Deadline, status::DEADLINE_EXCEEDED);
    let decision = call.finish();
    assert_eq!((decision.outcome, decision.reason), (Outcome::Error, Reason::Deadline));
    assert_eq!(decision.status, status::DEADLINE_EXCEEDED);
    assert_eq!(attempts(&policy, &decision), "spam-v3:deadline");
}

#[test]
fn every_status_of_the_callers_own_is_not_a_miss() {
    let own: Vec<u8> = (1..=16).filter(|code| !status::is_miss(*code)).collect();
    assert_eq!(own, [3, 6, 7, 9, 11, 16]);
}

#[test]
fn time_is_kept_back_for_those_after_in_the_chain() {
    let policy = policy_with(&[("/backends/0/timeout_ms", json!(null))]);
    let metadata = NOBODY;
    let request = request(&metadata, 1);
    let mut call = Call::begin(policy, 0, &request, [1; 16]);
    let ms = Duration::from_millis;
    call.next();
    assert_eq!(call.budget(None), None);
    assert_eq!(call.budget(Some(ms(250))), Some(ms(125)), "another model is after it: half");
    call.miss(Reason::BackendError, status::UNAVAILABLE);
    call.next();
    assert_eq!(call.budget(Some(ms(500))), Some(ms(475)), "only a static answer: 25 ms");
    assert_eq!(call.budget(Some(ms(50))), Some(ms(45)), "or a tenth");
}

#[test]
fn a_backends_own_timeout_bounds_its_attempt() {
    let policy = policy_with(&[("/routes/0/chain", json!(["spam-v3"]))]);
    let metadata = NOBODY;
    let request = request(&metadata, 1);
    let mut call = Call::begin(policy, 0, &request, [1; 16]);
    call.next();
    let ms = Duration::from_millis;
    assert_eq!(call.budget(None), Some(ms(80)));
    assert_eq!(call.budget(Some(ms(250))), Some(ms(80)));
    assert_eq!(call.budget(Some(ms(30))), Some(ms(30)), "the last may take all that is left");
}

#[test]
fn a_static_answer_is_not_made_longer_than_the_limit() {
    let policy = policy_with(&[("/routes/0/kill_switch", json!(true))]);
    let decision = walk(&policy, &request(&NOBODY, 2_000_000), [1; 16], &[]);
    assert_eq!((decision.outcome, decision.reason), (Outcome::Error, Reason::KillSwitch));
    assert_eq!(attempts(&policy, &decision), "spam-v3:kill_switch,spam-lite:kill_switch,ham:overload");
}

#[test]
fn the_holdout_never_meets_a_model_even_where_its_answer_cannot_be_given() {
    let policy = policy_with(&[("/routes/0/holdout", json!({"share": 1.0, "answer": "ham"}))]);
    let decision = walk(&policy, &request(&NOBODY, 2_000_000), [1; 16], &[]);
    assert_eq!((decision.outcome, decision.reason), (Outcome::Error, Reason::Holdout));
    assert_eq!(attempts(&policy, &decision), "ham:overload,spam-v3:holdout,spam-lite:holdout");
}

#[test]
fn the_most_specific_route_wins() {
    let route = |name: &str, matched: Value| {
        let mut route = document()["routes"][0].clone();
        route["name"] = json!(name);
        route["match"] = matched;
        route
    };
    let infer = "/inference.GRPCInferenceService/ModelInfer";
    let policy = policy_with(&[(
        "/routes",
        json!([
            route("any", json!({"model": null, "method": null, "metadata": {}})),
            route("prefix", json!({"model": null, "method": "/inference.GRPCInferenceService/*", "metadata": {}})),
            route("exact", json!({"model": null, "method": infer, "metadata": {}})),
            route("model", json!({"model": "spam", "method": null, "metadata": {}})),
            route("tenant", json!({"model": "spam", "method": null, "metadata": {"X-Tenant": "acme"}})),
        ]),
    )]);
    let name = |method, model, metadata: &Pairs| {
        policy.route(method, model, metadata).map(|route| &*policy.route_at(route).name)
    };
    let acme = vec![("x-tenant", "acme")];
    assert_eq!(name(infer, Some("spam"), &acme), Some("tenant"));
    assert_eq!(name(infer, Some("spam"), &NOBODY), Some("model"));
    assert_eq!(name(infer, Some("other"), &NOBODY), Some("exact"));
    assert_eq!(name("/inference.GRPCInferenceService/ModelReady", None, &NOBODY), Some("prefix"));
    assert_eq!(name("/a.B/C", None, &acme), Some("any"));
}

#[test]
fn what_matches_no_route_has_none() {
    let policy = policy_with(&[]);
    assert_eq!(policy.route("/a.B/C", Some("other"), &NOBODY), None);
    assert_eq!(policy.route("/a.B/C", None, &NOBODY), None);
}

pub(super) fn mirror(share: f64) -> Value {
    json!([{"to": "spam-v4", "share": share, "max_in_flight": 64, "max_bytes": 1024, "timeout_ms": 1000}])
}
