//! Two attempts under way: the first good answer wins, and what each of them was is told.

use super::*;

/// A call whose first attempt is late and has company.
fn hedged(changes: &[(&str, serde_json::Value)]) -> (Arc<Policy>, Call) {
    let policy = policy_with(changes);
    let mut call = Call::begin(Arc::clone(&policy), 0, &request(&Pairs::new(), 1), [1; 16]);
    assert_eq!(call.next(), Step::Attempt(V3));
    assert_eq!(call.hedge(), Some(LITE));
    assert_eq!(call.hedge(), None, "two are enough");
    (policy, call)
}

fn judge(call: &mut Call, backend: BackendIx, score: f64) -> Judgement {
    call.turn_to(backend);
    call.judge(&request(&Pairs::new(), 1), Ok(&scores(&[score])))
}

fn told(policy: &Policy, call: &mut Call) -> (Outcome, String, Option<BackendIx>, String) {
    let decision = call.finish();
    (decision.outcome, decision.reason_text(policy), decision.backend, attempts(policy, &decision))
}

#[test]
fn the_second_answers_first() {
    let (policy, mut call) = hedged(&[]);
    assert_eq!(judge(&mut call, LITE, 0.9), Judgement::Accept);
    let expected = (Outcome::Fallback, "deadline".into(), Some(LITE), "spam-v3:deadline,spam-lite:ok".into());
    assert_eq!(told(&policy, &mut call), expected);
}

#[test]
fn the_first_answers_after_all() {
    let (policy, mut call) = hedged(&[]);
    assert_eq!(judge(&mut call, V3, 0.9), Judgement::Accept);
    let expected = (Outcome::Model, "ok".into(), Some(V3), "spam-v3:ok,spam-lite:deadline".into());
    assert_eq!(told(&policy, &mut call), expected);
}

#[test]
fn what_the_second_says_is_no_reason_while_the_first_may_answer() {
    let (policy, mut call) = hedged(&[]);
    assert_eq!(judge(&mut call, LITE, 0.6), Judgement::Miss(Reason::LowConfidence));
    assert_eq!(call.current(), Some(V3));
    assert_eq!(call.hedge(), None, "a call is hedged once");
    assert_eq!(judge(&mut call, V3, 0.9), Judgement::Accept);
    let expected = (Outcome::Model, "ok".into(), Some(V3), "spam-v3:ok,spam-lite:low_confidence".into());
    assert_eq!(told(&policy, &mut call), expected);
}

#[test]
fn when_the_first_misses_the_second_is_waited_for() {
    let (policy, mut call) = hedged(&[]);
    assert_eq!(judge(&mut call, V3, 0.6), Judgement::Miss(Reason::LowConfidence));
    assert_eq!(call.current(), Some(LITE));
    assert_eq!(judge(&mut call, LITE, 0.9), Judgement::Accept);
    let expected =
        (Outcome::Fallback, "low_confidence".into(), Some(LITE), "spam-v3:low_confidence,spam-lite:ok".into());
    assert_eq!(told(&policy, &mut call), expected);
}

#[test]
fn when_both_miss_the_chain_goes_on() {
    for order in [[V3, LITE], [LITE, V3]] {
        let (policy, mut call) = hedged(&[]);
        for backend in order {
            call.turn_to(backend);
            match backend {
                V3 => call.miss(Reason::BackendError, status::UNAVAILABLE),
                _ => assert_eq!(judge(&mut call, LITE, 0.6), Judgement::Miss(Reason::LowConfidence)),
            }
        }
        assert_eq!(call.current(), None);
        assert_eq!(call.next(), Step::Static(HAM));
        let attempts = "spam-v3:backend_error,spam-lite:low_confidence,ham:ok".to_owned();
        assert_eq!(told(&policy, &mut call), (Outcome::Static, "backend_error".into(), Some(HAM), attempts));
    }
}

#[test]
fn a_static_answer_keeps_nobody_company() {
    let policy = policy_with(&[("/routes/0/chain", json!(["spam-v3", "ham"]))]);
    let mut call = Call::begin(Arc::clone(&policy), 0, &request(&Pairs::new(), 1), [1; 16]);
    assert_eq!(call.next(), Step::Attempt(V3));
    assert!(!call.can_hedge());
    assert_eq!(call.hedge(), None);
    call.miss(Reason::Deadline, status::DEADLINE_EXCEEDED);
    assert_eq!(call.next(), Step::Static(HAM));
}

#[test]
fn the_callers_own_fault_ends_both() {
    let (policy, mut call) = hedged(&[]);
    call.turn_to(V3);
    assert!(!call.is_ahead());
    call.pass_on(3);
    let (outcome, _, backend, attempts) = told(&policy, &mut call);
    assert_eq!((outcome, backend), (Outcome::Error, Some(V3)));
    assert_eq!(attempts, "spam-v3:backend_error,spam-lite:deadline");
}

#[test]
fn a_caller_that_leaves_leaves_both() {
    let (policy, mut call) = hedged(&[]);
    call.abort(Reason::Deadline, status::CANCELLED);
    let (outcome, reason, _, attempts) = told(&policy, &mut call);
    assert_eq!((outcome, &*reason, &*attempts), (Outcome::Error, "deadline", "spam-v3:deadline,spam-lite:deadline"));
}

/// A rule on the first one's prediction goes before whoever was asked on the chance.
#[test]
fn what_a_rule_wants_goes_before_the_second() {
    let when = r#"backend == "spam-v3""#;
    for (then, end, attempts) in [
        (json!({"kind": "answer", "backend": "ham"}), Some(HAM), "spam-v3:rule:r,spam-lite:deadline,ham:ok"),
        (json!({"kind": "to", "backend": "spam-lite"}), Some(LITE), "spam-v3:rule:r,spam-lite:ok"),
        (json!({"kind": "next"}), Some(LITE), "spam-v3:rule:r,spam-lite:ok"),
    ] {
        let rule = json!([{"name": "r", "on": "prediction", "when": when, "then": then}]);
        let (policy, mut call) = hedged(&[("/routes/0/rules", rule)]);
        assert_eq!(judge(&mut call, V3, 0.9), Judgement::Miss(Reason::Rule));
        if call.current().is_some() {
            assert_eq!(judge(&mut call, LITE, 0.9), Judgement::Accept);
        } else {
            assert_eq!(call.next(), Step::Static(HAM));
        }
        let (_, reason, backend, told) = told(&policy, &mut call);
        assert_eq!((&*reason, backend, &*told), ("rule:r", end, attempts));
    }
}

/// `explain` says whom a late answer would bring in.
#[test]
fn what_would_happen_is_told() {
    let mut document = document();
    document["routes"][0]["hedge"] = json!({"after_ms": 30, "quantile": null, "share": 0.1});
    let policy = Arc::new(Policy::compile(&document.to_string()).unwrap());
    let told = explain(&policy, r#"{"model": "spam", "answer": {"score": 0.9}}"#, &mut |_| Verdict::Unknown).unwrap();
    let steps: Vec<_> = told["steps"].as_array().unwrap().iter().filter(|step| step["step"] == "hedge").collect();
    assert_eq!(
        steps,
        [&json!({"step": "hedge", "text": "spam-lite is asked as well should that take longer than 30ms"})]
    );
}

#[test]
fn a_hedge_says_when_and_how_often() {
    for (hedge, fault) in [
        (json!({"after_ms": 30, "quantile": null, "share": 0.1}), None),
        (json!({"after_ms": null, "quantile": 0.95, "share": 0.1}), None),
        (json!({"after_ms": 30, "quantile": 0.95, "share": 0.1}), Some("wanted one of")),
        (json!({"after_ms": null, "quantile": 1.5, "share": 0.1}), Some("between 0 and 1")),
        (json!({"after_ms": 30, "quantile": null, "share": 2.0}), Some("a share")),
    ] {
        let mut document = document();
        document["routes"][0]["hedge"] = hedge;
        let compiled = Policy::compile(&document.to_string());
        match (compiled, fault) {
            (Ok(policy), None) => assert!(policy.route_at(0).hedge.is_some()),
            (Err(faults), Some(words)) => assert!(faults[0].message.contains(words), "{faults:?}"),
            (compiled, _) => panic!("{compiled:?}"),
        }
    }
}
