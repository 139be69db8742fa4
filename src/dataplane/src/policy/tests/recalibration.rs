//! Scores by a table: monotone, within its ends, and what is decided by them.

use proptest::prelude::*;

use super::*;

fn table(x: &[f64], y: &[f64]) -> Value {
    json!({"x": x, "y": y, "backend": null})
}

fn with_table(table: &Value) -> Result<Arc<Policy>, Vec<String>> {
    let mut document = document();
    document["routes"][0]["recalibration"] = table.clone();
    Policy::compile(&document.to_string())
        .map(Arc::new)
        .map_err(|faults| faults.into_iter().map(|fault| fault.message).collect())
}

fn score_of(decision: &Decision) -> f64 {
    decision.rows[0].score
}

/// Knots that compile.
fn knots() -> impl Strategy<Value = (Vec<f64>, Vec<f64>)> {
    prop::collection::btree_set(0..=1000u32, 2..20).prop_flat_map(|x| {
        let many = x.len();
        let x: Vec<f64> = x.into_iter().map(|knot| f64::from(knot) / 1000.0).collect();
        prop::collection::vec(0..=1000u32, many).prop_map(move |mut y| {
            y.sort_unstable();
            (x.clone(), y.into_iter().map(|knot| f64::from(knot) / 1000.0).collect())
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_table_never_falls_and_stays_within_its_ends((x, y) in knots(), one in 0.0..=1.0f64, other in 0.0..=1.0f64) {
        let policy = with_table(&table(&x, &y)).unwrap();
        let table = policy.route_at(0).table_of(0).unwrap();
        let (low, high) = (one.min(other), one.max(other));
        prop_assert!(table.score(low) <= table.score(high));
        prop_assert!((y[0]..=y[y.len() - 1]).contains(&table.score(one)));
        for (x, y) in x.iter().zip(&y) {
            prop_assert!((table.score(*x) - y).abs() < 1e-12, "a knot is met");
        }
        prop_assert!(table.score(f64::NAN).is_nan());
    }

    #[test]
    fn probabilities_still_add_up((x, y) in knots(), of_spam in 0.0..=1.0f64) {
        let policy = with_table(&table(&x, &y)).unwrap();
        let mapped = policy.route_at(0).table_of(0).unwrap().scores(1, &[1.0 - of_spam, of_spam]);
        prop_assert!((mapped.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        let three = policy.route_at(0).table_of(0).unwrap().scores(0, &[of_spam, 0.5 - of_spam / 2.0, 0.5 - of_spam / 2.0]);
        prop_assert!((three.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn the_straight_table_changes_nothing(of_spam in 0.0..=1.0f64) {
        let plain = Pairs::new();
        let request = request(&plain, 1);
        let answers = [(0, Ok(scores(&[of_spam]))), (1, Ok(scores(&[of_spam])))];
        let with = walk(&with_table(&table(&[0.0, 1.0], &[0.0, 1.0])).unwrap(), &request, [1; 16], &answers);
        let without = walk(&policy_with(&[]), &request, [1; 16], &answers);
        prop_assert_eq!(with.outcome, without.outcome);
        prop_assert_eq!(with.attempts, without.attempts);
    }
}

#[test]
fn flag_confidence_and_record_go_by_the_new_score() {
    let plain = Pairs::new();
    let request = request(&plain, 1);
    // .95 is worth .55: flagged still, and no longer sure enough for a floor of .8.
    let policy = with_table(&table(&[0.0, 0.9, 1.0], &[0.0, 0.5, 0.6])).unwrap();
    let decision = walk(&policy, &request, [1; 16], &[(0, Ok(scores(&[0.95]))), (1, Ok(scores(&[0.1])))]);
    assert_eq!(decision.attempts[0].reason, Reason::LowConfidence);
    let decision = walk(&policy, &request, [1; 16], &[(0, Ok(scores(&[0.18])))]);
    assert!((score_of(&decision) - 0.1).abs() < 1e-12);
    assert!((decision.rows[0].confidence - 0.9).abs() < 1e-12);
    assert_eq!(decision.rows[0].flagged, Some(false));
}

#[test]
fn a_table_of_one_model_leaves_the_others_alone() {
    let plain = Pairs::new();
    let request = request(&plain, 1);
    let mut of_one = table(&[0.0, 1.0], &[0.4, 0.6]);
    of_one["backend"] = json!("spam-v3");
    let policy = with_table(&of_one).unwrap();
    let decision = walk(&policy, &request, [1; 16], &[(0, Ok(scores(&[0.99]))), (1, Ok(scores(&[0.99])))]);
    assert_eq!(decision.backend, Some(1), "the first one is no longer sure");
    assert!((score_of(&decision) - 0.99).abs() < 1e-12);
}

#[test]
fn a_table_that_falls_or_has_nothing_to_map_is_refused() {
    for (broken, words) in [
        (table(&[0.0, 1.0], &[0.5, 0.4]), "never falls"),
        (table(&[0.5, 0.5], &[0.1, 0.4]), "x rises"),
        (table(&[0.0], &[0.0]), "1 and 1 knots"),
        (table(&[0.0, 1.0], &[0.0]), "2 and 1 knots"),
        (table(&[0.0, 2.0], &[0.0, 1.0]), "share"),
        (json!({"x": [0, 1], "y": [0, 1], "backend": "nobody"}), "no backend"),
    ] {
        let faults = with_table(&broken).unwrap_err();
        assert!(faults.iter().any(|fault| fault.contains(words)), "{faults:?}");
    }
}
