//! People as a backend, and rules that Python judges.

use std::time::Duration;

use super::*;

static NOBODY: Pairs = Vec::new();
const PEOPLE: BackendIx = 4;

/// The document with people under `moderators`, and changes.
fn with_people(changes: &[(&str, Value)]) -> Arc<Policy> {
    let mut document = document();
    document["backends"].as_array_mut().unwrap().push(json!({
        "name": "moderators", "kind": "people", "queue": "moderation", "timeout_s": 20, "max_waiting": 100,
        "max_rows": 4, "redact": ["inputs.email"]
    }));
    for (pointer, value) in changes {
        *document.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}")) = value.clone();
    }
    Arc::new(Policy::compile(&document.to_string()).unwrap_or_else(|faults| panic!("{faults:?}")))
}

fn label(text: &str) -> StaticAnswer {
    StaticAnswer { label: Some(text.into()), ..StaticAnswer::default() }
}

fn chain(names: &[&str]) -> (&'static str, Value) {
    ("/routes/0/chain", json!(names))
}

fn begin(policy: &Arc<Policy>, request: &Request) -> Call {
    Call::begin(Arc::clone(policy), 0, request, [1; 16])
}

#[test]
fn people_answer_row_by_row_and_are_in_no_sample() {
    let review = json!({"queue": "q", "flagged": 1.0, "unflagged": 1.0, "capture": [], "redact": []});
    let policy = with_people(&[chain(&["moderators", "ham"]), ("/routes/0/review", review)]);
    let request = request(&NOBODY, 2);
    let mut call = begin(&policy, &request);
    assert_eq!(call.next(), Step::People(PEOPLE));
    call.answer_by_people(&[label("spam"), label("ham")]);
    assert_eq!(call.next(), Step::Exhausted);
    let decision = call.finish();
    assert_eq!((decision.outcome, decision.reason), (Outcome::Human, Reason::Ok));
    assert_eq!((decision.backend, decision.status), (Some(PEOPLE), 0));
    let rows: Vec<_> = decision.rows.iter().map(|row| (row.label.clone(), row.flagged, row.sampled)).collect();
    assert_eq!(rows, [(Some(Label::Class(1)), Some(true), false), (Some(Label::Class(0)), Some(false), false)]);
    assert!(decision.rows.iter().all(|row| row.stratum == NO_STRATUM && row.review_pi == 0.0 && row.score.is_nan()));
    assert_eq!(attempts(&policy, &decision), "moderators:ok");
}

#[test]
fn people_who_are_late_leave_the_call_to_the_rest_of_the_chain() {
    let policy = with_people(&[chain(&["moderators", "ham"])]);
    let request = request(&NOBODY, 1);
    let mut call = begin(&policy, &request);
    assert_eq!(call.next(), Step::People(PEOPLE));
    call.miss(Reason::Deadline, status::DEADLINE_EXCEEDED);
    assert_eq!(call.next(), Step::Static(HAM));
    let decision = call.finish();
    assert_eq!((decision.outcome, decision.reason), (Outcome::Static, Reason::Deadline));
    assert_eq!(attempts(&policy, &decision), "moderators:deadline,ham:ok");
}

#[test]
fn a_route_of_people_alone_fails_by_a_clear_status_when_nobody_is_at_work() {
    let policy = with_people(&[chain(&["moderators"])]);
    let request = request(&NOBODY, 1);
    let mut call = begin(&policy, &request);
    call.next();
    call.miss(Reason::Deadline, status::DEADLINE_EXCEEDED);
    assert_eq!(call.next(), Step::Exhausted);
    let decision = call.finish();
    assert_eq!((decision.outcome, decision.status), (Outcome::Error, status::DEADLINE_EXCEEDED));
}

#[test]
fn people_answer_while_the_kill_switch_is_on() {
    let policy = with_people(&[chain(&["spam-v3", "moderators"]), ("/routes/0/kill_switch", json!(true))]);
    let request = request(&NOBODY, 1);
    assert_eq!(begin(&policy, &request).next(), Step::People(PEOPLE));
}

#[test]
fn who_is_held_out_never_meets_a_model_even_when_people_are_late() {
    let holdout = json!({"share": 1.0, "answer": "moderators"});
    let policy = with_people(&[("/routes/0/holdout", holdout)]);
    let request = request(&NOBODY, 1);
    let mut call = begin(&policy, &request);
    assert_eq!(call.next(), Step::People(PEOPLE));
    call.miss(Reason::Deadline, status::DEADLINE_EXCEEDED);
    assert_eq!(call.next(), Step::Static(HAM));
    let decision = call.finish();
    assert_eq!((decision.outcome, decision.reason), (Outcome::Holdout, Reason::Holdout));
    assert_eq!(attempts(&policy, &decision), "moderators:deadline,spam-v3:holdout,spam-lite:holdout,ham:ok");
    let mut call = begin(&policy, &request);
    call.next();
    call.answer_by_people(&[label("ham")]);
    assert_eq!(call.finish().outcome, Outcome::Holdout);
}

#[test]
fn a_rule_may_send_a_call_to_people_and_then_along_the_chain_or_not_to_models_at_all() {
    for (kind, after) in [("to", Step::Attempt(V3)), ("answer", Step::Static(HAM))] {
        let rule =
            json!([{"name": "vip", "on": "request", "when": "true", "then": {"kind": kind, "backend": "moderators"}}]);
        let policy = with_people(&[("/routes/0/rules", rule)]);
        let request = request(&NOBODY, 1);
        let mut call = begin(&policy, &request);
        assert_eq!(call.next(), Step::People(PEOPLE));
        call.miss(Reason::Deadline, status::DEADLINE_EXCEEDED);
        assert_eq!(call.next(), after, "{kind}");
    }
}

#[test]
fn people_are_not_shown_what_its_caller_keeps_from_them_nor_more_rows_than_they_take() {
    let policy = with_people(&[chain(&["moderators", "ham"])]);
    let metadata = vec![(NO_REVIEW_METADATA, "1")];
    let mut call = begin(&policy, &request(&metadata, 1));
    assert_eq!(call.next(), Step::Static(HAM));
    assert_eq!(call.finish().attempts[0].status, status::FAILED_PRECONDITION);
    let mut call = begin(&policy, &request(&NOBODY, 5));
    assert_eq!(call.next(), Step::Static(HAM));
    assert_eq!(call.finish().reason, Reason::Overload);
}

#[test]
fn people_have_their_own_time_within_the_calls() {
    let policy = with_people(&[chain(&["moderators", "ham"])]);
    let mut call = begin(&policy, &request(&NOBODY, 1));
    call.next();
    assert_eq!(call.budget(None), Some(Duration::from_secs(20)));
    assert_eq!(call.budget(Some(Duration::from_secs(10))), Some(Duration::from_millis(9975)), "some is kept for ham");
}

fn python(on: &str, then: Value, otherwise: Value) -> Value {
    json!({"name": "odd", "on": on, "when": "true", "python": "rules:odd", "timeout_ms": 50, "otherwise": otherwise,
           "then": then})
}

fn ham() -> Value {
    json!({"kind": "answer", "backend": "ham"})
}

#[test]
fn rules_before_and_after_one_that_python_judges_keep_their_order() {
    let before = json!({"name": "before", "on": "request", "when": "request.rows > 8", "then": {"kind": "reject", "status": "ABORTED", "message": "no"}});
    let after = json!({"name": "after", "on": "request", "when": "request.rows > 2", "then": ham()});
    let rules = json!([before, python("request", json!({"kind": "next"}), json!(false)), after]);
    let policy = policy_with(&[("/routes/0/rules", rules)]);
    let first = |rows: u32, verdict: Verdict| {
        let request = request(&NOBODY, rows);
        let mut call = begin(&policy, &request);
        let mut step = call.next();
        if step == Step::Ask(1) {
            call.tell_request(&request, &verdict);
            step = call.next();
        }
        (step, call.finish().reason_text(&policy))
    };
    assert_eq!(first(9, Verdict::Holds(true)).1, "rule:before", "an earlier rule decides, and Python is not asked");
    assert_eq!(first(3, Verdict::Holds(true)), (Step::Attempt(LITE), "rule:odd".into()));
    assert_eq!(first(3, Verdict::Holds(false)), (Step::Static(HAM), "rule:after".into()));
    assert_eq!(first(1, Verdict::Holds(false)).0, Step::Attempt(V3));
}

#[test]
fn the_stated_answer_counts_when_python_does_not_say() {
    for (otherwise, step) in [
        (json!(false), Step::Attempt(V3)),
        (json!(true), Step::Static(HAM)),
        (json!({"kind": "next"}), Step::Attempt(LITE)),
        (
            json!({"kind": "reject", "status": "UNAVAILABLE", "message": "later"}),
            Step::Reject { status: 14, message: "later".into() },
        ),
    ] {
        let policy = policy_with(&[("/routes/0/rules", json!([python("request", ham(), otherwise.clone())]))]);
        let request = request(&NOBODY, 1);
        let mut call = begin(&policy, &request);
        assert_eq!(call.next(), Step::Ask(0));
        assert_eq!(call.next(), Step::Ask(0), "asked again it says the same");
        call.tell_request(&request, &Verdict::Unknown);
        assert_eq!(call.next(), step, "{otherwise}");
        assert_eq!(call.finish().failed_rules.as_slice(), [0]);
    }
}

#[test]
fn a_rule_on_the_prediction_is_judged_row_by_row_where_its_condition_holds() {
    let mut rule = python("prediction", json!({"kind": "next"}), json!(false));
    rule["when"] = json!("prediction.score > 0.5");
    let policy = policy_with(&[("/routes/0/rules", json!([rule])), ("/routes/0/confidence", json!(null))]);
    let request = request(&NOBODY, 2);
    let judged = |scores_of: &[f64], verdict: Verdict| {
        let mut call = begin(&policy, &request);
        call.next();
        let judgement = call.judge(&request, Ok(&scores(scores_of)));
        if judgement != Judgement::Ask(0) {
            return judgement;
        }
        call.tell_prediction(&request, &verdict)
    };
    assert_eq!(judged(&[0.1, 0.2], Verdict::Holds(true)), Judgement::Accept, "its condition holds for no row");
    assert_eq!(judged(&[0.9, 0.2], Verdict::Holds(true)), Judgement::Miss(Reason::Rule));
    assert_eq!(judged(&[0.9, 0.2], Verdict::Rows(vec![false, true])), Judgement::Accept, "not of the row in question");
    assert_eq!(judged(&[0.9, 0.2], Verdict::Rows(vec![true, false])), Judgement::Miss(Reason::Rule));
    assert_eq!(judged(&[0.9, 0.2], Verdict::Rows(vec![true])), Judgement::Accept, "a row too few is no answer");
}

#[test]
fn python_is_asked_with_plain_values() {
    let rules = json!([python("prediction", json!({"kind": "next"}), json!(false))]);
    let policy = policy_with(&[("/routes/0/rules", rules)]);
    let metadata = vec![("x-device", "phone"), ("x-device", "tablet")];
    let request = request(&metadata, 1);
    let mut call = begin(&policy, &request);
    call.next();
    assert_eq!(call.judge(&request, Ok(&scores(&[0.9]))), Judgement::Ask(0));
    let question = call.question(&request).unwrap();
    assert_eq!((question.function, question.timeout), ("rules:odd", Duration::from_millis(50)));
    let values: Value = serde_json::from_slice(&question.values).unwrap();
    assert_eq!(values["segment"], json!({"device": "phone"}));
    assert_eq!(values["request"]["metadata"], json!({"x-device": "phone"}));
    assert_eq!((&values["request"]["route"], &values["request"]["backend"]), (&json!("spam"), &json!("spam-v3")));
    assert_eq!(values["predictions"][0]["label"], "spam");
    assert_eq!(values["predictions"][0]["value"], Value::Null);
}

#[test]
fn a_shadow_is_settled_once_python_has_spoken() {
    let mirror = json!([{"to": "spam-v4", "share": 1.0, "max_in_flight": 1, "max_bytes": 1, "timeout_ms": 1}]);
    let rules = json!([python("request", ham(), json!(false))]);
    let policy = policy_with(&[("/routes/0/rules", rules), ("/routes/0/mirror", mirror)]);
    for (holds, mirrors) in [(true, 0), (false, 1)] {
        let request = request(&NOBODY, 1);
        let mut call = begin(&policy, &request);
        call.tell_request(&request, &Verdict::Holds(holds));
        assert_eq!(call.mirrors().len(), mirrors);
    }
}

#[test]
fn explain_asks_python_and_takes_peoples_answer() {
    let rules = json!([python("request", json!({"kind": "to", "backend": "moderators"}), json!(false))]);
    let policy = with_people(&[("/routes/0/rules", rules)]);
    let call = json!({"model": "spam", "answers": {"moderators": {"label": "spam"}}}).to_string();
    let explained = explain(&policy, &call, &mut |question| Verdict::Holds(question.function == "rules:odd")).unwrap();
    assert_eq!(explained["decision"]["outcome"], "human");
    assert_eq!(explained["decision"]["reason"], "rule:odd");
    assert_eq!(explained["decision"]["prediction"]["label"], "spam");
    let late = explain(&policy, &call, &mut |_| Verdict::Unknown).unwrap();
    assert_eq!(late["decision"]["reason"], "backend_error", "nothing is said of the models: they do not answer");
}

#[test]
fn faults_of_people_and_of_python_rules_have_their_place() {
    let mut rule = python("request", ham(), json!("false"));
    rule["python"] = json!("odd");
    let faults = |document: Value| {
        let faults = Policy::compile(&document.to_string()).unwrap_err();
        faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let found = faults(document_with(&[("/routes/0/rules", json!([rule]))]));
    assert!(found.contains("routes[0].rules[0].python: found \"odd\""), "{found}");
    assert!(found.contains("routes[0].rules[0].otherwise"), "{found}");
    let mut value = document();
    value["backends"][2] = json!({"name": "ham", "kind": "people", "queue": "", "timeout_s": 20, "max_waiting": 0, "max_rows": 1, "redact": ["email"]});
    let found = faults(value);
    for place in ["backends[2].queue", "backends[2].max_waiting", "backends[2].redact[0]"] {
        assert!(found.contains(place), "{place}: {found}");
    }
}
