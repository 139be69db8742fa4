//! Batches, checks, confidence and the review sample: what stands in each row.

use super::*;

const NOBODY: Pairs = Vec::new();

fn review() -> (&'static str, Value) {
    let review = json!({"queue": "moderation", "flagged": 0.3, "unflagged": 0.05, "capture": ["inputs"], "redact": ["inputs.email"]});
    ("/routes/0/review", review)
}

#[test]
fn a_batch_falls_back_when_any_row_misses() {
    let policy = policy_with(&[]);
    let answers = [(V3, Ok(scores(&[0.99, 0.6, 0.01]))), (LITE, Ok(scores(&[0.9, 0.9, 0.1])))];
    let decision = walk(&policy, &request(&NOBODY, 3), [1; 16], &answers);
    assert_eq!((decision.outcome, decision.backend), (Outcome::Fallback, Some(LITE)));
    // Rows that did not miss themselves take the call's reason.
    assert!(decision.rows.iter().all(|row| row.reason == Reason::LowConfidence));
    assert_eq!(decision.rows.iter().map(|row| row.score).collect::<Vec<_>>(), [0.9, 0.9, 0.1]);
}

#[test]
fn each_row_keeps_its_own_first_miss() {
    let rule =
        json!([{"name": "sure-spam", "on": "prediction", "when": "prediction.score > 0.95", "then": {"kind": "next"}}]);
    let policy = policy_with(&[("/routes/0/rules", rule)]);
    let answers = [(V3, Ok(scores(&[0.99, 0.6, 0.01]))), (LITE, Ok(scores(&[0.9, 0.9, 0.1])))];
    let decision = walk(&policy, &request(&NOBODY, 3), [1; 16], &answers);
    let reasons: Vec<_> = decision.rows.iter().map(|row| (row.reason, row.rule)).collect();
    assert_eq!(reasons, [(Reason::Rule, 0), (Reason::LowConfidence, NO_INDEX), (Reason::Rule, 0)]);
    assert_eq!(decision.reason_text(&policy), "rule:sure-spam");
}

#[test]
fn what_is_not_a_prediction_is_invalid() {
    let policy = policy_with(&[]);
    let good = scores(&[0.9]);
    let cases = [
        ("not finite", scores(&[f64::NAN])),
        ("infinite", scores(&[f64::INFINITY])),
        ("out of range", Predictions { scores: vec![-0.2, 1.2], ..good.clone() }),
        ("does not sum to 1", Predictions { scores: vec![0.5, 0.9], ..good.clone() }),
        ("three classes", Predictions { columns: 3, scores: vec![0.1, 0.2, 0.7], ..good.clone() }),
        ("a score is missing", Predictions { scores: vec![0.1], ..good.clone() }),
        ("no scores", Predictions { scores: vec![], ..good.clone() }),
        ("no columns", Predictions { columns: 0, scores: vec![], ..good.clone() }),
        ("two rows of three", scores(&[0.9, 0.9])),
        ("no rows", scores(&[])),
    ];
    for (words, predictions) in cases {
        let mut answers = vec![(V3, Ok(predictions)), (LITE, Ok(scores(&[0.9, 0.9, 0.9])))];
        let decision = walk(&policy, &request(&NOBODY, 3), [1; 16], &answers);
        assert_eq!((decision.outcome, decision.reason), (Outcome::Fallback, Reason::InvalidOutput), "{words}");
        answers[0].1 = Ok(scores(&[0.9, 0.9, 0.9]));
        assert_eq!(walk(&policy, &request(&NOBODY, 3), [1; 16], &answers).outcome, Outcome::Model);
    }
}

#[test]
fn an_answer_of_one_row_is_one_prediction_of_the_whole_request() {
    let policy = policy_with(&[]);
    let decision = walk(&policy, &request(&NOBODY, 224), [1; 16], &[(V3, Ok(scores(&[0.9])))]);
    assert_eq!((decision.outcome, decision.rows.len()), (Outcome::Model, 1));
}

#[test]
fn the_score_of_the_positive_class_alone_is_enough() {
    let policy = policy_with(&[]);
    let one = Predictions { rows: 1, columns: 1, scores: vec![0.1], ..Predictions::default() };
    let decision = walk(&policy, &request(&NOBODY, 1), [1; 16], &[(V3, Ok(one))]);
    let row = &decision.rows[0];
    assert_eq!((row.score, row.confidence, row.flagged), (0.1, 0.9, Some(false)));
    assert_eq!(row.label, Some(Label::Class(0)));
}

#[test]
fn label_and_flag_follow_the_threshold_and_never_contradict() {
    let policy = policy_with(&[("/routes/0/prediction/threshold", json!(0.9)), ("/routes/0/confidence", json!(null))]);
    let decision = walk(&policy, &request(&NOBODY, 2), [1; 16], &[(V3, Ok(scores(&[0.89, 0.9])))]);
    let seen: Vec<_> = decision.rows.iter().map(|row| (row.flagged, row.label.clone())).collect();
    assert_eq!(seen, [(Some(false), Some(Label::Class(0))), (Some(true), Some(Label::Class(1)))]);
}

#[test]
fn every_measure_is_higher_where_the_model_is_surer() {
    for (measure, sure, unsure) in [("max_probability", 0.9, 0.6), ("margin", 0.8, 0.2), ("entropy", 0.531, 0.029)] {
        let policy = policy_with(&[
            ("/routes/0/confidence/measure", json!(measure)),
            ("/routes/0/confidence/floor", json!(null)),
        ]);
        let decision = walk(&policy, &request(&NOBODY, 2), [1; 16], &[(V3, Ok(scores(&[0.9, 0.4])))]);
        let found: Vec<f64> = decision.rows.iter().map(|row| row.confidence).collect();
        assert!((found[0] - sure).abs() < 1e-3 && (found[1] - unsure).abs() < 1e-3, "{measure}: {found:?}");
    }
}

#[test]
fn a_named_output_can_be_the_measure_and_is_read() {
    let policy = policy_with(&[("/routes/0/confidence/measure", json!("output:sure"))]);
    let spec = policy.route_at(0).prediction.as_ref().unwrap();
    assert_eq!(spec.confidence.as_deref(), Some("sure"));
    let unsure = Predictions { confidence: vec![0.2], ..scores(&[0.99]) };
    let sure = Predictions { confidence: vec![0.95], ..scores(&[0.6]) };
    let decision = walk(&policy, &request(&NOBODY, 1), [1; 16], &[(V3, Ok(unsure)), (LITE, Ok(sure))]);
    assert_eq!((decision.reason, decision.rows[0].confidence), (Reason::LowConfidence, 0.95));
}

#[test]
fn the_largest_floor_that_applies_counts() {
    let policy = policy_with(&[
        ("/routes/0/confidence/per_label", json!({"spam": 0.9})),
        ("/routes/0/confidence/per_segment", json!({"device=phone": 0.95})),
    ]);
    let phone = vec![("x-device", "phone")];
    let outcome = |metadata: &Pairs, score: f64| {
        walk(&policy, &request(metadata, 1), [1; 16], &[(V3, Ok(scores(&[score]))), (LITE, Ok(scores(&[0.0])))]).outcome
    };
    assert_eq!(outcome(&NOBODY, 0.15), Outcome::Model, "ham needs 0.8");
    assert_eq!(outcome(&NOBODY, 0.85), Outcome::Fallback, "spam needs 0.9");
    assert_eq!(outcome(&NOBODY, 0.92), Outcome::Model);
    assert_eq!(outcome(&phone, 0.92), Outcome::Fallback, "on the phone all need 0.95");
    assert_eq!(outcome(&phone, 0.07), Outcome::Fallback);
    assert_eq!(outcome(&phone, 0.97), Outcome::Model);
}

#[test]
fn labels_and_values_are_checked_too() {
    let prediction = json!({"scores": null, "label": "verdict", "confidence": "sure", "value": "amount",
        "classes": ["ham", "spam"], "positive": "spam", "threshold": 0.5, "datatype": "FP32"});
    let policy = policy_with(&[
        ("/routes/0/prediction", prediction),
        ("/routes/0/check", json!({"range": [0, 10], "sum": null, "sum_tolerance": 0.001, "labels": null})),
        ("/routes/0/confidence", json!(null)),
        (
            "/backends/2",
            json!({"name": "ham", "kind": "static", "label": "ham", "score": null, "scores": null, "value": 1.0}),
        ),
    ]);
    let answer = |label: Label, sure: f64, value: f64| Predictions {
        rows: 1,
        labels: vec![label],
        confidence: vec![sure],
        values: vec![value],
        ..Predictions::default()
    };
    let outcome = |answer: Predictions| {
        let good = self::scores(&[]);
        let lite =
            Predictions { rows: 1, labels: vec![Label::Class(0)], confidence: vec![1.0], values: vec![1.0], ..good };
        walk(&policy, &request(&NOBODY, 1), [1; 16], &[(V3, Ok(answer)), (LITE, Ok(lite))])
    };
    let good = outcome(answer(Label::Class(1), 0.7, 3.0));
    assert_eq!((good.outcome, good.rows[0].flagged, good.rows[0].confidence), (Outcome::Model, Some(true), 0.7));
    assert!(good.rows[0].score.is_nan());
    for bad in [
        answer(Label::Text("eggs".into()), 0.7, 3.0),
        answer(Label::Class(2), 0.7, 3.0),
        answer(Label::Class(1), f64::NAN, 3.0),
        answer(Label::Class(1), 0.7, 11.0),
    ] {
        assert_eq!(outcome(bad.clone()).reason, Reason::InvalidOutput, "{bad:?}");
    }
}

#[test]
fn review_samples_by_stratum_with_the_probability_it_used() {
    let policy = policy_with(&[review()]);
    let (mut flagged, mut unflagged) = (0, 0);
    let count = 4000u32;
    for call in 0..count {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&call.to_le_bytes());
        let decision = walk(&policy, &request(&NOBODY, 2), id, &[(V3, Ok(scores(&[0.9, 0.1])))]);
        let [spam, ham] = &decision.rows[..] else { panic!("two rows") };
        assert_eq!((spam.stratum, spam.review_pi), (1, 0.3));
        assert_eq!((ham.stratum, ham.review_pi), (0, 0.05));
        flagged += u32::from(spam.sampled);
        unflagged += u32::from(ham.sampled);
    }
    // Five standard deviations: 145 and 69.
    assert!((1055..1345).contains(&flagged), "{flagged} of {count} flagged");
    assert!((131..269).contains(&unflagged), "{unflagged} of {count} unflagged");
}

#[test]
fn a_review_rule_puts_a_row_before_a_person_for_certain() {
    let rule =
        json!([{"name": "look", "on": "prediction", "when": "prediction.score > 0.8", "then": {"kind": "review"}}]);
    let policy = policy_with(&[review(), ("/routes/0/rules", rule)]);
    let decision = walk(&policy, &request(&NOBODY, 2), [1; 16], &[(V3, Ok(scores(&[0.9, 0.1])))]);
    assert_eq!((decision.outcome, decision.reason), (Outcome::Model, Reason::Ok), "the call goes on");
    assert_eq!((decision.rows[0].review_pi, decision.rows[0].sampled), (1.0, true));
    assert_eq!(decision.rows[1].review_pi, 0.05);
}

#[test]
fn a_caller_who_wants_no_review_gets_none() {
    let rule = json!([{"name": "look", "on": "request", "when": "true", "then": {"kind": "review"}}]);
    let policy = policy_with(&[review(), ("/routes/0/rules", rule)]);
    let metadata = vec![("gateway-no-review", "1")];
    let decision = walk(&policy, &request(&metadata, 1), [1; 16], &[(V3, Ok(scores(&[0.9])))]);
    assert_eq!((decision.rows[0].review_pi, decision.rows[0].sampled, decision.rows[0].stratum), (0.0, false, 1));
    let decision = walk(&policy, &request(&NOBODY, 1), [1; 16], &[(V3, Ok(scores(&[0.9])))]);
    assert_eq!((decision.rows[0].review_pi, decision.rows[0].sampled), (1.0, true));
}

#[test]
fn nothing_is_reviewed_of_a_call_that_nobody_answered() {
    let policy = policy_with(&[review(), ("/routes/0/chain", json!(["spam-v3"]))]);
    let decision = walk(&policy, &request(&NOBODY, 1), [1; 16], &[(V3, Err((Reason::BackendError, 14)))]);
    let row = &decision.rows[0];
    assert_eq!((row.stratum, row.review_pi, row.sampled), (NO_STRATUM, 0.0, false));
}

#[test]
fn a_batch_without_rows_has_nothing_to_review() {
    let rule = json!([{"name": "look", "on": "request", "when": "true", "then": {"kind": "review"}}]);
    let policy = policy_with(&[review(), ("/routes/0/rules", rule)]);
    let decision = walk(&policy, &request(&NOBODY, 0), [1; 16], &[(V3, Ok(scores(&[])))]);
    assert_eq!((decision.outcome, decision.rows.len(), decision.rows[0].sampled), (Outcome::Model, 1, false));
}

#[test]
fn a_segment_is_short_and_unambiguous_whatever_a_caller_sends() {
    let policy = policy_with(&[]);
    let text = |value: &'static str| {
        let metadata = vec![("x-device", value)];
        Call::begin(Arc::clone(&policy), 0, &request(&metadata, 1), [1; 16]).segment().text().to_owned()
    };
    assert_eq!(text("phone"), "device=phone");
    assert_eq!(text(""), "");
    for odd in
        ["a,b", "a=b", "a b", "a value that is much too long to be one of a few that numbers can be told apart by"]
    {
        assert_eq!(text(odd), "device=other", "{odd:?}");
    }
    assert!(policy.route_at(0).prediction.is_some());
}
