//! What rules do to a call.

use super::*;

const NOBODY: Pairs = Vec::new();

fn with_rules(rules: Value) -> Arc<Policy> {
    policy_with(&[("/routes/0/rules", rules)])
}

fn rule(on: &str, when: &str, then: Value) -> Value {
    json!([{"name": "r", "on": on, "when": when, "then": then}])
}

fn to(backend: &str) -> Value {
    json!({"kind": "to", "backend": backend})
}

fn seen(policy: &Arc<Policy>, answers: Answers) -> (Outcome, String, String) {
    let decision = walk(policy, &request(&NOBODY, 1), [1; 16], answers);
    (decision.outcome, decision.reason_text(policy), attempts(policy, &decision))
}

#[test]
fn a_request_rule_can_answer_without_asking_anybody() {
    let when = r#"metadata["x-sender"] in lists.trusted"#;
    let mut changes = vec![("/routes/0/rules", rule("request", when, json!({"kind": "answer", "backend": "ham"})))];
    changes.push(("/routes/0/mirror", calls::mirror(1.0)));
    let policy = policy_with(&changes);
    let trusted = vec![("x-sender", "a@example.org")];
    let decision = walk(&policy, &request(&trusted, 2), [1; 16], &[]);
    assert_eq!((decision.outcome, decision.reason_text(&policy).as_str()), (Outcome::Static, "rule:r"));
    assert!(decision.mirrors.is_empty(), "there is no model's answer to compare with");
    assert_eq!(seen(&policy, &[(V3, Ok(scores(&[0.9])))]).0, Outcome::Model, "an absent header is not in the list");
}

#[test]
fn a_request_rule_can_reject() {
    let then = json!({"kind": "reject", "status": "INVALID_ARGUMENT", "message": "at most 64 rows"});
    let policy = with_rules(rule("request", "request.rows > 64", then));
    let decision = walk(&policy, &request(&NOBODY, 65), [1; 16], &[]);
    assert_eq!((decision.outcome, decision.status), (Outcome::Rejected, 3));
    assert_eq!(decision.message.as_deref(), Some("at most 64 rows"));
    assert_eq!((decision.reason_text(&policy).as_str(), decision.backend), ("rule:r", None));
    assert_eq!(seen(&policy, &[(V3, Ok(scores(&[0.9])))]).0, Outcome::Model);
}

#[test]
fn what_is_refused_is_refused_to_the_holdout_too() {
    let then = json!({"kind": "reject", "status": "PERMISSION_DENIED", "message": "no"});
    let policy = policy_with(&[
        ("/routes/0/rules", rule("request", "true", then)),
        ("/routes/0/holdout", json!({"share": 1.0, "answer": "ham"})),
    ]);
    assert_eq!(seen(&policy, &[]).0, Outcome::Rejected);
}

#[test]
fn next_on_a_request_passes_the_first_backend_over() {
    let policy = with_rules(rule("request", "true", json!({"kind": "next"})));
    let expected = (Outcome::Fallback, "rule:r".to_owned(), "spam-v3:rule:r,spam-lite:ok".to_owned());
    assert_eq!(seen(&policy, &[(LITE, Ok(scores(&[0.9])))]), expected);
}

#[test]
fn a_request_can_be_rerouted_and_falls_back_along_the_chain() {
    let policy = with_rules(rule("request", "true", to("spam-v4")));
    let good = || Ok(scores(&[0.9]));
    let down = || Err((Reason::BackendError, status::UNAVAILABLE));
    assert_eq!(seen(&policy, &[(V4, good())]), (Outcome::Fallback, "rule:r".into(), "spam-v4:ok".into()));
    let expected = (Outcome::Model, "rule:r".into(), "spam-v4:backend_error,spam-v3:ok".into());
    assert_eq!(seen(&policy, &[(V4, down()), (V3, good())]), expected);
}

#[test]
fn rerouting_to_a_later_backend_of_the_chain_does_not_come_back() {
    let policy = with_rules(rule("request", "true", to("spam-lite")));
    let down = Err((Reason::BackendError, status::UNAVAILABLE));
    let expected = (Outcome::Static, "rule:r".into(), "spam-lite:backend_error,ham:ok".into());
    assert_eq!(seen(&policy, &[(LITE, down)]), expected);
}

#[test]
fn a_prediction_rule_can_miss_reroute_answer_and_reject() {
    let when = "prediction.label == 'spam' && prediction.score >= 0.95";
    let sure = || (V3, Ok(scores(&[0.97])));
    let lite = || (LITE, Ok(scores(&[0.9])));
    let next = with_rules(rule("prediction", when, json!({"kind": "next"})));
    let expected = (Outcome::Fallback, "rule:r".into(), "spam-v3:rule:r,spam-lite:ok".into());
    assert_eq!(seen(&next, &[sure(), lite()]), expected);
    assert_eq!(seen(&next, &[(V3, Ok(scores(&[0.9])))]).0, Outcome::Model);

    let reroute = with_rules(rule("prediction", &format!("backend == 'spam-v3' && {when}"), to("spam-v4")));
    let expected = (Outcome::Fallback, "rule:r".into(), "spam-v3:rule:r,spam-v4:ok".into());
    assert_eq!(seen(&reroute, &[sure(), (V4, Ok(scores(&[0.99])))]), expected);

    let answer = with_rules(rule("prediction", when, json!({"kind": "answer", "backend": "ham"})));
    assert_eq!(seen(&answer, &[sure()]), (Outcome::Static, "rule:r".into(), "spam-v3:rule:r,ham:ok".into()));

    let reject = json!({"kind": "reject", "status": "FAILED_PRECONDITION", "message": "spam"});
    let decision = walk(&with_rules(rule("prediction", when, reject)), &request(&NOBODY, 1), [1; 16], &[sure()]);
    assert_eq!((decision.outcome, decision.status), (Outcome::Rejected, 9));
}

#[test]
fn a_reroute_to_one_that_was_asked_already_goes_on_along_the_chain() {
    let policy = with_rules(rule("prediction", "true", to("spam-v3")));
    let answers = [(V3, Ok(scores(&[0.9]))), (LITE, Ok(scores(&[0.9])))];
    assert_eq!(seen(&policy, &answers), (Outcome::Static, "rule:r".into(), "spam-v3:rule:r,spam-lite:rule:r,ham:ok".into()));
}

#[test]
fn the_earliest_rule_of_the_document_decides_for_the_call() {
    let policy = with_rules(json!([
        {"name": "first", "on": "prediction", "when": "prediction.score < 0.1", "then": {"kind": "answer", "backend": "ham"}},
        {"name": "second", "on": "prediction", "when": "prediction.score > 0.9", "then": {"kind": "next"}},
    ]));
    let decision = walk(&policy, &request(&NOBODY, 2), [1; 16], &[(V3, Ok(scores(&[0.95, 0.05])))]);
    assert_eq!((decision.outcome, decision.reason_text(&policy).as_str()), (Outcome::Static, "rule:first"));
    let own: Vec<u16> = decision.rows.iter().map(|row| row.rule).collect();
    assert_eq!(own, [1, 0]);
}

#[test]
fn a_request_rule_that_cannot_be_evaluated_is_skipped_and_noted() {
    let policy = with_rules(json!([
        {"name": "bad", "on": "request", "when": "request.params.tier == 'gold'", "then": {"kind": "answer", "backend": "ham"}},
        {"name": "good", "on": "request", "when": "true", "then": {"kind": "next"}},
    ]));
    let decision = walk(&policy, &request(&NOBODY, 1), [1; 16], &[(LITE, Ok(scores(&[0.9])))]);
    assert_eq!(decision.reason_text(&policy), "rule:good");
    assert_eq!(decision.failed_rules.as_slice(), [0]);
}

#[test]
fn a_prediction_rule_that_cannot_be_evaluated_counts_as_a_miss() {
    let then = json!({"kind": "reject", "status": "INTERNAL", "message": "never sent for a rule that failed"});
    let policy = with_rules(rule("prediction", "request.params.tier == 'gold' && prediction.score > 0.5", then));
    let expected = (Outcome::Static, "rule:r".into(), "spam-v3:rule:r,spam-lite:rule:r,ham:ok".into());
    assert_eq!(seen(&policy, &[(V3, Ok(scores(&[0.9]))), (LITE, Ok(scores(&[0.9])))]), expected);
}

#[test]
fn a_review_rule_that_cannot_be_evaluated_asks_a_person() {
    let policy = policy_with(&[
        ("/routes/0/rules", rule("prediction", "request.params.tier == 'gold'", json!({"kind": "review"}))),
        ("/routes/0/review", json!({"queue": "q", "flagged": 0.0, "unflagged": 0.0, "capture": [], "redact": []})),
    ]);
    let decision = walk(&policy, &request(&NOBODY, 1), [1; 16], &[(V3, Ok(scores(&[0.9])))]);
    assert_eq!((decision.outcome, decision.rows[0].review_pi), (Outcome::Model, 1.0));
    assert_eq!(decision.failed_rules.as_slice(), [0]);
}

#[test]
fn an_explained_call_says_its_steps_in_words() {
    let policy = with_rules(rule("prediction", "prediction.score > 0.95", json!({"kind": "next"})));
    let metadata = NOBODY;
    let request = request(&metadata, 1);
    let mut call = Call::begin_explained(Arc::clone(&policy), 0, &request, [1; 16]);
    call.next();
    call.judge(&request, Ok(&scores(&[0.97])));
    call.next();
    call.miss(Reason::BackendError, status::UNAVAILABLE);
    call.next();
    let notes: Vec<String> = call.take_notes().into_iter().skip(1).map(|note| format!("{}: {}", note.step, note.text)).collect();
    assert_eq!(notes, [
        "attempt: spam-v3 is asked",
        "check: the prediction is present, finite and of the wanted shape",
        "rule: the rule r holds",
        "confidence: the confidence 0.97 reaches the floor 0.8",
        "attempt: spam-lite is asked",
        "attempt: spam-lite did not answer with UNAVAILABLE: backend_error",
        "answer: ham answers: it is a static answer",
    ]);
}
