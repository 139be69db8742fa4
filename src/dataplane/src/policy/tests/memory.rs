//! What is remembered and what it changes: the way out of loops.

use super::*;

const DOWN: (Reason, u8) = (Reason::BackendError, status::UNAVAILABLE);

/// A past that tests make up.
#[derive(Default)]
pub(super) struct Known {
    pub met: Met,
    pub session: Session,
    pub stats: Stats,
}

impl Memory for Known {
    fn met(&self, _: &LoopGuard, _: u64) -> Met {
        self.met
    }

    fn session(&self, _: &SessionSpec, _: u64) -> Session {
        self.session
    }

    fn stats(&self, _: RouteIx) -> Stats {
        self.stats
    }
}

fn met(fallbacks: u32, negatives: u32) -> Known {
    Known { met: Met { fallbacks, negatives }, ..Known::default() }
}

pub(super) fn guard(then: &str) -> Value {
    json!({"limit": 3, "within_s": 600, "then": then, "on": ["fallback", "same_negative"], "negative": []})
}

fn guarded(then: &str, changes: &[(&str, Value)]) -> Arc<Policy> {
    let guard = guard(then);
    let all = [("/routes/0/loop_guard", guard), ("/limits/units", json!(1000))];
    policy_with(&[&all, changes].concat())
}

/// Walks a call of a named unit, and says what is to be learnt of it.
fn taught(policy: &Arc<Policy>, known: &Known, answers: Answers) -> (Decision, Option<Lesson>) {
    let metadata = vec![("x-user-id", "u-1")];
    let request = Request { memory: Some(known), ..request(&metadata, 1) };
    let mut call = Call::begin(Arc::clone(policy), 0, &request, [1; 16]);
    walk_on(&mut call, &request, answers);
    let decision = call.finish();
    let lesson = call.lesson(&decision);
    (decision, lesson)
}

fn outcome(policy: &Arc<Policy>, known: &Known, answers: Answers) -> (Outcome, String, String) {
    let (decision, _) = taught(policy, known, answers);
    (decision.outcome, decision.reason_text(policy), attempts(policy, &decision))
}

fn good() -> Result<Predictions, (Reason, u8)> {
    Ok(scores(&[0.1]))
}

#[test]
fn past_the_limit_a_unit_gets_the_way_out_and_the_reason_says_so() {
    let policy = guarded("spam-v4", &[("/routes/0/mirror", calls::mirror(1.0))]);
    let usual = (Outcome::Model, "ok".into(), "spam-v3:ok".into());
    assert_eq!(outcome(&policy, &met(2, 2), &[(V3, good())]), usual, "at two of three nothing has changed");
    for known in [met(3, 0), met(0, 3), met(200, 0)] {
        let out = (Outcome::Fallback, "loop_guard".into(), "spam-v4:ok".into());
        assert_eq!(outcome(&policy, &known, &[(V4, good())]), out);
        assert!(taught(&policy, &known, &[(V4, good())]).0.mirrors.is_empty());
    }
}

#[test]
fn the_way_out_may_be_a_static_answer() {
    let policy = guarded("ham", &[("/routes/0/chain", json!(["spam-v3", "spam-lite"]))]);
    let out = (Outcome::Static, "loop_guard".into(), "ham:ok".into());
    assert_eq!(outcome(&policy, &met(3, 0), &[]), out);
}

#[test]
fn where_the_way_out_fails_the_chain_is_better_than_nothing() {
    let policy = guarded("spam-v4", &[]);
    let answers = [(V4, Err(DOWN)), (V3, good())];
    let found = outcome(&policy, &met(3, 0), &answers);
    assert_eq!(found, (Outcome::Model, "loop_guard".into(), "spam-v4:backend_error,spam-v3:ok".into()));
}

#[test]
fn an_answer_by_the_way_out_does_not_count() {
    let policy = guarded("spam-v4", &[]);
    let (_, lesson) = taught(&policy, &met(3, 0), &[(V4, Ok(scores(&[0.99])))]);
    assert_eq!(lesson.unwrap().counts, None);
}

#[test]
fn what_a_unit_was_told_is_counted() {
    let policy = guarded("spam-v4", &[]);
    let counts = |answers: Answers| taught(&policy, &met(0, 0), answers).1.unwrap().counts;
    let spam = label_hash("spam");
    assert_eq!(counts(&[(V3, good())]), Some((false, Told::Other)));
    assert_eq!(counts(&[(V3, Ok(scores(&[0.9])))]), Some((false, Told::Negative(spam))));
    assert_eq!(counts(&[(V3, Err(DOWN)), (LITE, good())]), Some((true, Told::Other)));
    assert_eq!(counts(&[(V3, Err(DOWN)), (LITE, Ok(scores(&[0.9])))]), Some((true, Told::Negative(spam))));
    assert_eq!(counts(&[(V3, Err(DOWN)), (LITE, Err(DOWN))]), Some((true, Told::Other)), "a static answer");
}

#[test]
fn nobody_at_all_is_a_fallback_too_but_a_callers_own_fault_is_not() {
    let policy = guarded("spam-v4", &[("/routes/0/chain", json!(["spam-v3"]))]);
    let (decision, lesson) = taught(&policy, &met(0, 0), &[(V3, Err(DOWN))]);
    assert_eq!((decision.outcome, lesson.unwrap().counts), (Outcome::Error, Some((true, Told::Nothing))));
    let metadata = vec![("x-user-id", "u-1")];
    let request = request(&metadata, 1);
    let mut call = Call::begin(Arc::clone(&policy), 0, &request, [1; 16]);
    call.next();
    call.pass_on(3);
    let decision = call.finish();
    assert_eq!(call.lesson(&decision).unwrap().counts, Some((false, Told::Nothing)));
}

#[test]
fn other_labels_may_be_the_negative_ones() {
    let mut named = guard("spam-v4");
    named["negative"] = json!(["ham"]);
    let policy = policy_with(&[("/routes/0/loop_guard", named), ("/limits/units", json!(1000))]);
    let counts = |score: f64| taught(&policy, &met(0, 0), &[(V3, Ok(scores(&[score])))]).1.unwrap().counts;
    assert_eq!(counts(0.1), Some((false, Told::Negative(label_hash("ham")))));
    assert_eq!(counts(0.9), Some((false, Told::Other)));
}

#[test]
fn only_what_is_asked_for_counts() {
    let mut only = guard("spam-v4");
    only["on"] = json!(["fallback"]);
    let policy = policy_with(&[("/routes/0/loop_guard", only), ("/limits/units", json!(1000))]);
    let (decision, lesson) = taught(&policy, &met(0, 200), &[(V3, Ok(scores(&[0.9])))]);
    assert_eq!((decision.reason, lesson.unwrap().counts), (Reason::Ok, Some((false, Told::Nothing))));
}

#[test]
fn a_batch_is_a_negative_answer_where_every_row_is() {
    let policy = guarded("spam-v4", &[]);
    let metadata = vec![("x-user-id", "u-1")];
    for (rows, told) in [([0.9, 0.95], Told::Negative(label_hash("spam"))), ([0.9, 0.1], Told::Other)] {
        let request = request(&metadata, 2);
        let mut call = Call::begin(Arc::clone(&policy), 0, &request, [1; 16]);
        walk_on(&mut call, &request, &[(V3, Ok(scores(&rows)))]);
        let decision = call.finish();
        assert_eq!(call.lesson(&decision).unwrap().counts, Some((false, told)));
    }
}

#[test]
fn a_held_out_unit_is_left_alone_and_nothing_is_learnt_of_it() {
    let policy = guarded("spam-v4", &[("/routes/0/holdout", json!({"share": 1.0, "answer": "ham"}))]);
    let (decision, lesson) = taught(&policy, &met(200, 200), &[]);
    assert_eq!((decision.outcome, decision.reason), (Outcome::Holdout, Reason::Holdout));
    assert_eq!(lesson, None);
}

#[test]
fn the_kill_switch_spares_the_way_out_too_and_its_answers_do_not_count() {
    let policy = guarded("spam-v4", &[("/routes/0/kill_switch", json!(true))]);
    let (decision, lesson) = taught(&policy, &met(0, 0), &[]);
    assert_eq!((decision.reason, lesson.unwrap().counts), (Reason::KillSwitch, None));
    let (decision, _) = taught(&policy, &met(3, 0), &[]);
    assert!(decision.attempts.iter().all(|attempt| !attempt.made));
    assert_eq!((decision.outcome, decision.reason), (Outcome::Static, Reason::LoopGuard));
}

#[test]
fn what_a_rule_answers_or_refuses_stays_so_and_does_not_count() {
    let rule = |then: Value| json!([{"name": "r", "on": "request", "when": "true", "then": then}]);
    let answers = rule(json!({"kind": "answer", "backend": "ham"}));
    let policy = guarded("spam-v4", &[("/routes/0/rules", answers)]);
    let (decision, lesson) = taught(&policy, &met(3, 0), &[]);
    assert_eq!((decision.outcome, decision.reason_text(&policy).as_str()), (Outcome::Static, "rule:r"));
    assert_eq!(lesson.unwrap().counts, None);
    for then in [json!({"kind": "next"}), json!({"kind": "to", "backend": "spam-lite"})] {
        let policy = guarded("spam-v4", &[("/routes/0/rules", rule(then))]);
        let (decision, _) = taught(&policy, &met(3, 0), &[(V4, good())]);
        assert_eq!(decision.reason, Reason::LoopGuard, "but what leads on leads out");
    }
}

#[test]
fn a_call_that_names_no_unit_is_neither_remembered_nor_looked_up() {
    let policy = guarded("spam-v4", &[]);
    let metadata = Pairs::new();
    let known = met(3, 3);
    let request = Request { memory: Some(&known), ..request(&metadata, 1) };
    let mut call = Call::begin(Arc::clone(&policy), 0, &request, [1; 16]);
    walk_on(&mut call, &request, &[(V3, good())]);
    let decision = call.finish();
    assert_eq!((decision.reason, call.lesson(&decision).unwrap().key), (Reason::Ok, None));
}

#[test]
fn a_route_that_remembers_nothing_has_nothing_to_teach() {
    let policy = policy_with(&[]);
    assert_eq!(taught(&policy, &met(9, 9), &[(V3, good())]).1, None);
}

#[test]
fn a_unit_is_another_one_on_another_route() {
    let key = |name: &str| {
        let policy = guarded("spam-v4", &[("/routes/0/name", json!(name))]);
        taught(&policy, &met(0, 0), &[(V3, good())]).1.unwrap().key
    };
    assert!(key("spam").is_some());
    assert_ne!(key("spam"), key("eggs"));
    assert_eq!(key("spam"), key("spam"), "and the same one under the next policy");
}

#[test]
fn a_guard_that_leads_back_or_counts_nothing_is_refused() {
    let faults = |pointer: &str, value: Value| {
        let mut document = document_with(&[("/routes/0/loop_guard", guard("spam-v4")), ("/limits/units", json!(1000))]);
        *document.pointer_mut(pointer).unwrap() = value;
        Policy::compile(&document.to_string()).unwrap_err().remove(0).message
    };
    let cases = [
        ("/routes/0/loop_guard/then", json!("spam-v3"), "whom the unit is stuck with"),
        ("/routes/0/loop_guard/then", json!("nobody"), "there is no backend"),
        ("/routes/0/loop_guard/on", json!([]), "wanted one or both"),
        ("/routes/0/loop_guard/on", json!(["error"]), "wanted one or both"),
        ("/routes/0/loop_guard/negative", json!(["eggs"]), "is not among the classes"),
        ("/routes/0/loop_guard/limit", json!(256), "whole number from 1 to 255"),
        ("/routes/0/prediction/positive", json!(null), "no answer is negative"),
        ("/limits/units", json!(null), "leaves no room"),
    ];
    for (pointer, value, words) in cases {
        let found = faults(pointer, value);
        assert!(found.contains(words), "{found}");
    }
}
