//! Batches whose rows go different ways.

use proptest::prelude::*;

use super::*;

const NOBODY: Pairs = Vec::new();

fn policy(changes: &[(&str, Value)]) -> Arc<Policy> {
    let mut document = document_with(changes);
    document["routes"][0]["on_miss"] = json!("rows");
    Arc::new(Policy::compile(&document.to_string()).unwrap_or_else(|faults| panic!("{faults:?}")))
}

/// What the backends say of each row of the whole batch; walks it, and says which rows each was asked for.
fn walk_rows(policy: &Arc<Policy>, rows: u32, says: &[(BackendIx, &[f64])]) -> (Decision, Vec<(BackendIx, Vec<u32>)>) {
    let nobody = NOBODY;
    let request = request(&nobody, rows);
    let mut call = Call::begin(Arc::clone(policy), 0, &request, [1; 16]);
    let mut asked = Vec::new();
    while let Step::Attempt(backend) = call.next() {
        call.split();
        let left: Vec<u32> = if call.left().is_empty() { (0..rows).collect() } else { call.left().to_vec() };
        asked.push((backend, left.clone()));
        let Some((_, said)) = says.iter().find(|(known, _)| *known == backend) else {
            call.miss(Reason::BackendError, status::UNAVAILABLE);
            continue;
        };
        let said: Vec<f64> = left.iter().map(|&row| said[row as usize]).collect();
        if call.judge(&request, Ok(&scores(&said))) == Judgement::Accept {
            break;
        }
        let taken = call.taken().to_vec();
        assert!(taken.is_empty() || taken.len() == left.len());
        for (target, row) in taken.iter().zip(left) {
            assert!(target.is_none_or(|target| target == row), "a row is kept for another");
        }
    }
    (call.finish(), asked)
}

fn shown(policy: &Policy, decision: &Decision) -> Vec<String> {
    let row = |row: &Row| {
        let backend = row.backend.map_or("nobody", |backend| &policy.backend(backend).name);
        format!("{} {} {}", row.outcome.text(), reason_text(policy, 0, row.reason, row.rule), backend)
    };
    decision.rows.iter().map(row).collect()
}

#[test]
fn only_the_rows_that_missed_go_on_and_each_says_who_answered_it() {
    let policy = policy(&[]);
    let says = [(V3, &[0.99, 0.6, 0.01, 0.7][..]), (LITE, &[0.0, 0.95, 0.0, 0.6][..])];
    let (decision, asked) = walk_rows(&policy, 4, &says);
    assert_eq!(asked, [(V3, vec![0, 1, 2, 3]), (LITE, vec![1, 3])]);
    assert_eq!(
        shown(&policy, &decision),
        ["model ok spam-v3", "fallback low_confidence spam-lite", "model ok spam-v3", "static low_confidence ham"]
    );
    assert_eq!(decision.rows.iter().map(|row| row.score).collect::<Vec<_>>(), [0.99, 0.95, 0.01, 0.0]);
    assert_eq!((decision.outcome, decision.reason), (Outcome::Static, Reason::LowConfidence));
    assert_eq!(attempts(&policy, &decision), "spam-v3:low_confidence,spam-lite:low_confidence,ham:ok");
}

#[test]
fn a_batch_of_good_rows_or_of_one_row_is_as_ever() {
    let policy = policy(&[]);
    let (decision, asked) = walk_rows(&policy, 2, &[(V3, &[0.99, 0.01])]);
    assert_eq!(asked.len(), 1);
    assert_eq!(shown(&policy, &decision), ["model ok spam-v3"; 2]);
    let (decision, _) = walk_rows(&policy, 1, &[(V3, &[0.6]), (LITE, &[0.9])]);
    assert_eq!(shown(&policy, &decision), ["fallback low_confidence spam-lite"]);
}

#[test]
fn a_backend_that_fails_costs_the_rows_that_are_left_no_more_than_their_next_choice() {
    let policy = policy(&[]);
    let (decision, asked) = walk_rows(&policy, 3, &[(V3, &[0.99, 0.6, 0.01])]);
    assert_eq!(asked[1], (LITE, vec![1]));
    assert_eq!(shown(&policy, &decision), ["model ok spam-v3", "static low_confidence ham", "model ok spam-v3"]);
    // The first backend failed for all rows; only then do they part.
    let (decision, asked) = walk_rows(&policy, 2, &[(LITE, &[0.9, 0.6])]);
    assert_eq!(asked[1], (LITE, vec![0, 1]));
    assert_eq!(shown(&policy, &decision), ["fallback backend_error spam-lite", "static backend_error ham"]);
}

#[test]
fn an_invalid_row_is_no_fault_of_the_others() {
    let policy = policy(&[]);
    let (decision, asked) = walk_rows(&policy, 3, &[(V3, &[0.99, f64::NAN, 0.6]), (LITE, &[0.0, 0.9, 0.9])]);
    assert_eq!(asked[1], (LITE, vec![1, 2]));
    assert_eq!(
        shown(&policy, &decision),
        ["model ok spam-v3", "fallback invalid_output spam-lite", "fallback low_confidence spam-lite"]
    );
    assert_eq!(decision.reason, Reason::InvalidOutput);
}

#[test]
fn where_nobody_answers_the_rows_that_are_left_nobody_answers_the_call() {
    let policy = policy(&[("/routes/0/chain", json!(["spam-v3", "spam-lite"]))]);
    let (decision, _) = walk_rows(&policy, 2, &[(V3, &[0.99, 0.6]), (LITE, &[0.9, 0.6])]);
    assert_eq!((decision.outcome, decision.rows.len()), (Outcome::Error, 1));
}

#[test]
fn a_rule_that_rejects_a_row_rejects_the_call() {
    let rule = json!([{"name": "no", "on": "prediction", "when": "prediction.score > 0.95",
        "then": {"kind": "reject", "status": "INVALID_ARGUMENT", "message": "no"}}]);
    let policy = policy(&[("/routes/0/rules", rule)]);
    let (decision, _) = walk_rows(&policy, 2, &[(V3, &[0.99, 0.9])]);
    assert_eq!((decision.outcome, decision.status), (Outcome::Rejected, 3));
}

#[test]
fn a_batch_that_is_one_again_is_answered_whole_and_keeps_its_reasons() {
    let policy = policy(&[]);
    let nobody = NOBODY;
    let request = request(&nobody, 3);
    let mut call = Call::begin(Arc::clone(&policy), 0, &request, [1; 16]);
    assert_eq!(call.next(), Step::Attempt(V3));
    call.split();
    assert_eq!(call.judge(&request, Ok(&scores(&[0.99, 0.6, 0.01]))), Judgement::Miss(Reason::LowConfidence));
    call.whole_again();
    assert!(call.left().is_empty());
    assert_eq!(call.next(), Step::Attempt(LITE));
    assert_eq!(call.judge(&request, Ok(&scores(&[0.9, 0.9, 0.1]))), Judgement::Accept);
    assert_eq!(shown(&policy, &call.finish()), ["fallback low_confidence spam-lite"; 3]);
}

proptest! {
    /// Whatever the backends say, each row comes from the first of the chain that was sure of it, in its own place.
    #[test]
    fn each_row_comes_from_the_first_that_was_sure(said in proptest::collection::vec((0.0..1.0_f64, 0.0..1.0_f64), 2..9)) {
        let policy = policy(&[]);
        let (first, second): (Vec<f64>, Vec<f64>) = said.iter().copied().unzip();
        let rows = u32::try_from(said.len()).unwrap();
        let (decision, _) = walk_rows(&policy, rows, &[(V3, &first), (LITE, &second)]);
        let sure = |score: f64| score.max(1.0 - score) >= 0.8;
        prop_assert_eq!(decision.rows.len(), said.len());
        for (row, (one, other)) in decision.rows.iter().zip(said) {
            let wanted = if sure(one) { (Some(V3), one) } else if sure(other) { (Some(LITE), other) } else { (Some(HAM), 0.0) };
            prop_assert_eq!((row.backend, row.score), wanted);
            prop_assert_eq!(row.reason == Reason::Ok, wanted.0 == Some(V3));
        }
    }
}
