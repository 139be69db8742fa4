//! Holdout, exploration and the strata of review: who is chosen, with what probability, and what is recorded of it.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const DOWN: (Reason, u8) = (Reason::Overload, status::RESOURCE_EXHAUSTED);

pub(super) fn arms(arms: &[(&str, f64)], sticky: &str) -> Value {
    let arms: Vec<Value> = arms.iter().map(|(name, share)| json!({"backend": name, "share": share})).collect();
    json!({"arms": arms, "sticky": sticky})
}

fn explored(share: f64) -> (&'static str, Value) {
    ("/routes/0/explore", arms(&[("spam-v3", 1.0 - share), ("spam-v4", share)], "unit"))
}

/// A unit that draws this arm, of many.
fn unit_of(policy: &Arc<Policy>, arm: BackendIx) -> String {
    let drawn = |unit: &String| {
        let explore = policy.route_at(0).explore.as_ref().unwrap();
        explore.draw(unit.as_bytes()).unwrap().backend == arm
    };
    (0..1000).map(|unit| format!("unit-{unit}")).find(drawn).unwrap()
}

fn ask(policy: &Arc<Policy>, unit: &str, answers: Answers) -> Decision {
    let metadata = vec![("gateway-unit", unit)];
    let request = Request { metadata: &metadata, ..super::choices::request_of("spam") };
    walk(policy, &request, [5; 16], answers)
}

fn id(call: u32) -> [u8; 16] {
    let mut id = [0; 16];
    id[..4].copy_from_slice(&call.to_le_bytes());
    id
}

#[test]
fn an_arm_that_is_not_the_first_of_the_chain_says_so_and_its_probability() {
    let policy = policy_with(&[explored(0.25)]);
    let answers = [(V3, Ok(scores(&[0.9]))), (V4, Ok(scores(&[0.9])))];
    let decision = ask(&policy, &unit_of(&policy, V4), &answers);
    assert_eq!((decision.outcome, decision.reason), (Outcome::Model, Reason::Explore));
    assert_eq!((decision.backend, decision.arm, decision.propensity), (Some(V4), V4, 0.25));
    assert_eq!(attempts(&policy, &decision), "spam-v4:ok");
    let decision = ask(&policy, &unit_of(&policy, V3), &answers);
    assert_eq!((decision.outcome, decision.reason), (Outcome::Model, Reason::Ok));
    assert_eq!((decision.backend, decision.arm, decision.propensity), (Some(V3), V3, 0.75));
}

#[test]
fn an_arm_that_could_not_be_taken_stays_on_record_and_the_call_goes_along_the_chain() {
    let policy = policy_with(&[explored(0.25)]);
    let unit = unit_of(&policy, V4);
    let decision = ask(&policy, &unit, &[(V4, Err(DOWN)), (V3, Ok(scores(&[0.9])))]);
    assert_eq!((decision.outcome, decision.reason), (Outcome::Fallback, Reason::Overload));
    assert_eq!((decision.backend, decision.arm, decision.propensity), (Some(V3), V4, 0.25));
    assert_eq!(attempts(&policy, &decision), "spam-v4:overload,spam-v3:ok");
    let decision = ask(&policy, &unit, &[(V4, Ok(scores(&[0.6]))), (V3, Err(DOWN)), (LITE, Ok(scores(&[0.9])))]);
    assert_eq!(attempts(&policy, &decision), "spam-v4:low_confidence,spam-v3:overload,spam-lite:ok");
}

#[test]
fn a_call_that_is_led_elsewhere_explores_nothing() {
    let rule = |then: Value| json!([{"name": "all", "on": "request", "when": "true", "then": then}]);
    for (then, attempted) in [
        (json!({"kind": "next"}), "spam-v3:rule:all,spam-lite:ok"),
        (json!({"kind": "to", "backend": "spam-lite"}), "spam-lite:ok"),
        (json!({"kind": "answer", "backend": "ham"}), "ham:ok"),
        (json!({"kind": "reject", "status": "ABORTED", "message": "no"}), ""),
    ] {
        let policy = policy_with(&[explored(1.0), ("/routes/0/rules", rule(then))]);
        let decision = ask(&policy, "anybody", &[(LITE, Ok(scores(&[0.9])))]);
        assert_eq!((decision.arm, decision.propensity), (NO_INDEX, 1.0), "{attempted}");
        assert_eq!(attempts(&policy, &decision), attempted);
    }
    let policy = policy_with(&[explored(1.0), ("/routes/0/kill_switch", json!(true))]);
    let decision = ask(&policy, "anybody", &[]);
    assert_eq!((decision.arm, decision.outcome), (NO_INDEX, Outcome::Static));
}

#[test]
fn the_holdout_is_never_explored() {
    let holdout = ("/routes/0/holdout", json!({"share": 1.0, "answer": "ham"}));
    let policy = policy_with(&[explored(0.5), holdout]);
    for unit in 0..50 {
        let decision = ask(&policy, &format!("unit-{unit}"), &[]);
        assert_eq!((decision.outcome, decision.arm, decision.propensity), (Outcome::Holdout, NO_INDEX, 1.0));
    }
}

#[test]
fn sticky_by_call_draws_for_each_call_anew() {
    let policy = policy_with(&[("/routes/0/explore", arms(&[("spam-v3", 0.5), ("spam-v4", 0.5)], "call"))]);
    let answers = [(V3, Ok(scores(&[0.9]))), (V4, Ok(scores(&[0.9])))];
    let metadata = vec![("gateway-unit", "ann")];
    let request = request(&metadata, 1);
    let to_v4 = (0..2000).filter(|&call| walk(&policy, &request, id(call), &answers).arm == V4).count();
    assert!((888..1112).contains(&to_v4), "{to_v4} of 2000"); // five standard deviations
}

/// How many of many units draw each arm.
fn draws(explore: &Explore, units: u32) -> HashMap<BackendIx, u32> {
    let mut drawn = HashMap::new();
    for unit in 0..units {
        *drawn.entry(explore.draw(&unit.to_le_bytes()).unwrap().backend).or_insert(0) += 1;
    }
    drawn
}

fn explore(shares: &[(&'static str, f64)]) -> Explore {
    let policy = policy_with(&[("/routes/0/explore", arms(shares, "unit"))]);
    policy.route_at(0).explore.clone().unwrap()
}

#[test]
fn each_arm_is_drawn_with_the_probability_that_is_recorded() {
    let units = 40_000u32;
    let drawn = draws(&explore(&[("spam-v3", 0.7), ("spam-v4", 0.1), ("spam-lite", 0.2)]), units);
    for (arm, share) in [(V3, 0.7), (V4, 0.1), (LITE, 0.2)] {
        let (mean, deviation) = (f64::from(units) * share, (f64::from(units) * share * (1.0 - share)).sqrt());
        assert!((f64::from(drawn[&arm]) - mean).abs() < 5.0 * deviation, "{drawn:?}");
    }
    assert_eq!(draws(&explore(&[("spam-v3", 1.0), ("spam-v4", 0.0)]), 1000)[&V3], 1000);
}

#[test]
fn raising_an_arms_share_moves_units_to_that_arm_and_no_more_than_needed() {
    let before = explore(&[("spam-v3", 0.6), ("spam-lite", 0.3), ("spam-v4", 0.1)]);
    let after = explore(&[("spam-v3", 0.5), ("spam-lite", 0.25), ("spam-v4", 0.25)]);
    let (units, mut moved) = (40_000u32, 0);
    for unit in 0..units {
        let key = unit.to_le_bytes();
        let (from, to) = (before.draw(&key).unwrap().backend, after.draw(&key).unwrap().backend);
        if from != to {
            assert_eq!(to, V4, "unit {unit} left {from} for another than the arm that was raised");
            moved += 1;
        }
    }
    // 15 % must move; five standard deviations are 357.
    assert!((5643..6357).contains(&moved), "{moved} of {units} moved");
}

#[test]
fn the_holdout_is_answered_by_whom_the_settings_name_and_by_nobody_else() {
    let holdout = ("/routes/0/holdout", json!({"share": 1.0, "answer": ["spam-v4", "ham"]}));
    let policy = policy_with(std::slice::from_ref(&holdout));
    let decision = ask(&policy, "ann", &[(V4, Ok(scores(&[0.6])))]);
    assert_eq!((decision.outcome, decision.reason), (Outcome::Holdout, Reason::Holdout), "the floor is the model's");
    assert_eq!((decision.backend, attempts(&policy, &decision).as_str()), (Some(V4), "spam-v4:ok"));
    let decision = ask(&policy, "ann", &[(V4, Err(DOWN))]);
    assert_eq!((decision.outcome, decision.backend), (Outcome::Holdout, Some(HAM)));
    let alone = ("/routes/0/holdout", json!({"share": 1.0, "answer": "spam-v4"}));
    let decision = ask(&policy_with(std::slice::from_ref(&alone)), "ann", &[(V4, Err(DOWN))]);
    assert_eq!((decision.outcome, decision.backend), (Outcome::Holdout, Some(HAM)), "the route's own static answer");
    let decision = ask(&policy_with(&[alone, ("/routes/0/chain", json!(["spam-v3"]))]), "ann", &[(V4, Err(DOWN))]);
    assert_eq!((decision.outcome, decision.reason), (Outcome::Error, Reason::Holdout), "rather nobody than the model");
    let rule =
        json!([{"name": "all", "on": "prediction", "when": "true", "then": {"kind": "to", "backend": "spam-v3"}}]);
    let ruled = policy_with(&[holdout, ("/routes/0/rules", rule)]);
    assert_eq!(ask(&ruled, "ann", &[(V4, Ok(scores(&[0.9])))]).backend, Some(V4), "no rule leads it to the model");
}

proptest! {
    #[test]
    fn a_larger_holdout_keeps_whom_it_had(small in 0.0..1.0f64, more in 0.0..1.0f64, unit in "[a-z0-9]{1,20}") {
        let of = |share: f64| policy_with(&[("/routes/0/holdout", json!({"share": share, "answer": "ham"}))]);
        let answers = [V3, LITE].map(|backend| (backend, Ok(scores(&[0.9]))));
        let held = |share| ask(&of(share), &unit, &answers).outcome == Outcome::Holdout;
        if held(small) {
            prop_assert!(held(small + (1.0 - small) * more));
        }
    }
}

fn review(changes: Value) -> (&'static str, Value) {
    let mut review = json!({"queue": "q", "flagged": 0.3, "unflagged": 0.01, "near": 0.2, "near_margin": 0.1,
                            "fallback": 0.4, "disagreement": 0.5, "segments": {}, "capture": [], "redact": []});
    review.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    ("/routes/0/review", review)
}

fn sample(policy: &Arc<Policy>, answers: Answers, metadata: &Pairs) -> (u8, f32) {
    let row = walk(policy, &request(metadata, 1), [1; 16], answers).rows[0].clone();
    (row.stratum, row.review_pi)
}

#[test]
fn a_prediction_is_of_the_stratum_that_its_score_and_its_outcome_make_it() {
    let policy = policy_with(&[review(json!({})), ("/routes/0/confidence", Value::Null)]);
    let of = |score: f64| sample(&policy, &[(V3, Ok(scores(&[score])))], &vec![]);
    assert_eq!(of(0.5), (stratum::FLAGGED, 0.3));
    assert_eq!(of(0.49), (stratum::NEAR, 0.2));
    assert_eq!(of(0.4), (stratum::NEAR, 0.2));
    assert_eq!(of(0.39), (stratum::LOW, 0.01));
    let fallback = sample(&policy, &[(V3, Err(DOWN)), (LITE, Ok(scores(&[0.9])))], &vec![]);
    assert_eq!(fallback, (stratum::FALLBACK, 0.4));
    let old = json!({"near": null, "near_margin": null, "fallback": null, "disagreement": null, "segments": null});
    let policy = policy_with(&[review(old), ("/routes/0/confidence", Value::Null)]);
    let of = |score: f64| sample(&policy, &[(V3, Ok(scores(&[score])))], &vec![]);
    assert_eq!((of(0.49), of(0.5)), ((stratum::LOW, 0.01), (stratum::FLAGGED, 0.3)));
}

#[test]
fn a_segments_factor_multiplies_its_shares_up_to_certainty() {
    let policy = policy_with(&[review(json!({"segments": {"device=phone": 2.0, "device=fridge": 100.0}}))]);
    let of = |device| sample(&policy, &[(V3, Ok(scores(&[0.9])))], &vec![("x-device", device)]).1;
    assert_eq!((of("phone"), of("fridge"), of("desk")), (0.6, 1.0, 0.3));
}

#[test]
fn a_disagreement_raises_the_probability_to_the_larger_of_both_and_keeps_who_was_chosen() {
    let policy = policy_with(&[review(json!({})), ("/routes/0/mirror", super::calls::mirror(1.0))]);
    let review = policy.route_at(0).review.as_ref().unwrap();
    let (calls, mut first, mut either) = (20_000u32, 0u32, 0u32);
    for call in 0..calls {
        let decision = walk(&policy, &request(&vec![], 1), id(call), &[(V3, Ok(scores(&[0.9])))]);
        let row = &decision.rows[0];
        let raised = decision.raised(review, &id(call), 0).unwrap();
        assert_eq!((row.review_pi, raised.pi, raised.stratum), (0.3, 0.5, stratum::DISAGREEMENT));
        assert!(raised.sampled || !row.sampled, "a row that was chosen was let go");
        first += u32::from(row.sampled);
        either += u32::from(raised.sampled);
    }
    // Five standard deviations: 324 and 354. Two draws of their own would choose 13,000 of them.
    assert!((5676..6324).contains(&first) && (9646..10_354).contains(&either), "{first} and {either} of {calls}");
}

#[test]
fn a_disagreement_raises_nothing_where_that_is_less_or_nobody_wants_a_review() {
    let mirror = ("/routes/0/mirror", super::calls::mirror(1.0));
    let raised = |changes: Value, metadata: Pairs| {
        let policy = policy_with(&[review(changes), mirror.clone()]);
        let decision = walk(&policy, &request(&metadata, 1), [1; 16], &[(V3, Ok(scores(&[0.9])))]);
        decision.raised(policy.route_at(0).review.as_ref().unwrap(), &[1; 16], 0)
    };
    assert!(raised(json!({}), vec![]).is_some());
    assert_eq!(raised(json!({"disagreement": 0.2}), vec![]), None);
    assert_eq!(raised(json!({"disagreement": null}), vec![]), None);
    assert_eq!(raised(json!({}), vec![("gateway-no-review", "1")]), None);
    assert_eq!(raised(json!({"segments": {"device=phone": 0.5}}), vec![("x-device", "phone")]).unwrap().pi, 0.25);
}

#[test]
fn only_methods_that_may_be_repeated_are_copied_and_the_noise_has_a_hash_of_its_own() {
    let mirrors = |methods: Value| {
        let mut mirror = super::calls::mirror(1.0);
        mirror[0]["methods"] = methods;
        mirror[0]["noise"] = json!({"to": "spam-lite", "share": 0.5});
        policy_with(&[("/routes/0/mirror", mirror)])
    };
    let copies = |policy: &Arc<Policy>, call: u32| {
        let begun = Call::begin(Arc::clone(policy), 0, &request(&vec![], 1), id(call));
        (begun.mirrors().to_vec(), begun.noise)
    };
    assert_eq!(copies(&mirrors(json!(["/other.Service/*"])), 1).0, Vec::<u16>::new());
    let policy = mirrors(json!(["/inference.GRPCInferenceService/*"]));
    let noisy = (0..2000).filter(|&call| copies(&policy, call).1 == 1).count();
    assert_eq!(copies(&policy, 1).0, [0]);
    assert!((888..1112).contains(&noisy), "{noisy} of 2000");
}
