//! Conditions: what they see, what is refused, and that the quick way means what the interpreter means.

use proptest::prelude::*;

use super::check::MOST_BYTES;
use super::sample::{compile, judge};
use super::*;

#[test]
fn conditions_see_the_call_and_both_ways_agree() {
    let cases: [(&str, Result<bool, Failed>, bool); 61] = [
        ("true", Ok(true), true),
        ("request.model == 'spam'", Ok(true), true),
        ("request['model'] != 'spam'", Ok(false), true),
        ("request.id.startsWith('req-')", Ok(true), true),
        ("request.id.endsWith('-1') && request.id.contains('q')", Ok(true), true),
        ("request.id.matches('^req-[0-9]+$')", Ok(true), true),
        ("request.rows > 64", Ok(false), true),
        ("request.rows >= 3 && request.rows <= 3", Ok(true), true),
        ("request.rows < 3.5", Ok(true), true),
        ("64 < request.rows || route == 'spam'", Ok(true), true),
        ("metadata['x-sender'] in lists.trusted", Ok(true), true),
        ("!(metadata['x-sender'] in lists.trusted)", Ok(false), true),
        ("metadata['absent'] in lists.trusted", Ok(false), true),
        ("metadata['absent'] == ''", Ok(true), true),
        ("metadata.absent == ''", Ok(true), true),
        ("has(metadata.absent)", Ok(false), true),
        ("'x-empty' in metadata", Ok(true), true),
        ("'x-sender' in metadata && !('nope' in metadata)", Ok(true), true),
        ("metadata['x-device'] in ['phone', 'tablet']", Ok(true), true),
        ("segment.device == 'phone'", Ok(true), true),
        ("segment.account == ''", Ok(true), true),
        ("has(segment.device) && !has(segment.account)", Ok(true), true),
        ("caller.id == 'spiffe://acme/ns/prod/sa/web' && has(caller.id)", Ok(true), true),
        ("caller.id.startsWith('spiffe://acme/ns/prod/')", Ok(true), true),
        ("'web.acme' in caller.names && !('api.acme' in caller.names)", Ok(true), true),
        ("metadata['x-sender'] in caller.names || 7 in caller.names", Ok(false), true),
        ("caller.names.exists(name, name.endsWith('.acme')) && size(caller.names) == 2", Ok(true), false),
        ("caller.names[0] == caller.id && has(caller.names)", Ok(true), false),
        ("prediction.label == 'spam' && prediction.score > 0.5", Ok(true), true),
        ("prediction.margin == 0.8 && prediction.entropy < 0.5", Ok(true), true),
        ("prediction.confidence > 1", Ok(false), true),
        ("backend == 'spam-v3'", Ok(true), true),
        ("request.params.tier == 'gold'", Ok(true), true),
        ("request.params['dry']", Ok(true), true),
        ("request.params.dry && request.params.count == 3", Ok(true), true),
        ("request.params.temperature <= 0.5", Ok(true), true),
        ("request.params.count == 'three'", Ok(false), true),
        ("request.params.count < 'three'", Err(Failed), true),
        ("request.params.absent == 1", Err(Failed), true),
        ("request.params.absent == 1 || true", Ok(true), true),
        ("true || request.params.absent == 1", Ok(true), true),
        ("request.params.absent == 1 && false", Ok(false), true),
        ("request.params.absent == 1 && true", Err(Failed), true),
        ("request.params.tier", Err(Failed), true),
        ("has(request.params.tier) && !has(request.params.absent)", Ok(true), false),
        ("request.inputs['email'].shape[0] == 3 && request.inputs.email.datatype == 'BYTES'", Ok(true), false),
        ("size(request.inputs) == 1 && 'email' in request.inputs", Ok(true), false),
        ("int(metadata['x-num']) + 1 == 8", Ok(true), false),
        ("int(metadata['absent']) == 0", Err(Failed), false),
        ("lists.trusted.exists(one, metadata['x-sender'].endsWith(one))", Ok(true), false),
        ("session.calls > 4 && session.answered == 4 && session.fallbacks < 2 && session.flagged == 2", Ok(true), true),
        ("session.repeats >= 3 && session.last_label == prediction.label", Ok(true), true),
        ("prediction.score > session.last_score && session.last_confidence < 0.81", Ok(true), true),
        ("request.params.count >= session.remembered.quantity && session.last_value == 12.5", Ok(true), true),
        ("session.remembered['quantity'] > 3.0", Ok(false), true),
        ("session['calls'] in [5, 6] && has(session.remembered.quantity)", Ok(true), false),
        ("size(session.remembered) == 1", Ok(true), false),
        ("stats.calls > 200 && stats.flagged_share > 0.5 && stats.fallback_share == 0.0", Ok(true), true),
        ("prediction.score > stats.score_mean + 3.0 * stats.score_sd", Ok(true), false),
        ("session.last_label in ['spam'] && session.last_label.startsWith('s')", Ok(true), true),
        ("metadata.exists(name, name.startsWith('x-s')) && size(metadata) == 4", Ok(true), false),
    ];
    for (text, expected, fast) in cases {
        let condition = compile(text, true).unwrap_or_else(|faults| panic!("{text}: {faults:?}"));
        assert_eq!(judge(&condition), (expected, expected), "{text}");
        assert_eq!(condition.is_fast(), fast, "{text}");
    }
}

#[test]
fn faults_name_line_and_column() {
    let cases: [(&str, &str, (u32, u32)); 28] = [
        ("request.rows >", "Syntax error", (1, 15)),
        ("request.rows > 64 &&\n  metadta['x'] == ''", "there is no `metadta`", (2, 3)),
        ("'é' == 'é' && nobody == 1", "there is no `nobody`", (1, 15)),
        ("request.colour == ''", "request has no `colour`", (1, 8)),
        ("metadata['x'] in lists.untrusted", "there is no list \"untrusted\"", (1, 23)),
        ("caller.name == ''", "caller has no `name`; it has id, names", (1, 7)),
        ("caller.id in lists.untrusted", "there is no list", (1, 19)),
        ("segment.planet == 'mars'", "there is no segment \"planet\"", (1, 8)),
        ("prediction.score > 0.5", "known only to rules on a prediction", (1, 1)),
        ("backend == 'x'", "known only to rules on a prediction", (1, 1)),
        ("request.rows > '64'", "no matching overload", (1, 14)),
        ("false && request.rows > '64'", "no matching overload", (1, 23)),
        ("request.rows == '64'", "int and string are never equal", (1, 14)),
        ("request.rows in lists.trusted", "never a value of type int", (1, 14)),
        ("request.rows", "the condition is of type int, wanted bool", (1, 8)),
        ("request.model && true", "the left side is of type string", (1, 8)),
        ("shout(request.model) == ''", "Undeclared reference to 'shout'", (1, 6)),
        ("request.model.shout() == ''", "Undeclared reference to 'shout'", (1, 20)),
        ("request.model.matches(metadata['x'])", "must be written out", (1, 22)),
        ("request.model.matches('(')", "cannot be used", (1, 1)),
        ("lists.long.all(x, x != '')", "too long to go through", (1, 15)),
        ("metadata.all(x, metadata.all(y, x == y))", "at most 1 loop", (1, 29)),
        ("metadata.all(x, x.matches('a'))", "within a loop", (1, 26)),
        ("session.age > 3", "session has no `age`", (1, 8)),
        ("stats.p99 > 3.0", "stats has no `p99`", (1, 6)),
        ("session.remembered.price > 3.0", "\"price\" is not remembered", (1, 19)),
        ("session.last_label > 3", "no matching overload", (1, 20)),
        ("session.calls", "the condition is of type int", (1, 8)),
    ];
    for (text, words, at) in cases {
        let faults = compile(text, false).err().unwrap_or_else(|| panic!("{text} is taken"));
        assert_eq!(faults.len(), 1, "{text}: {faults:?}");
        assert!(faults[0].message.contains(words), "{text}: {:?}", faults[0].message);
        assert_eq!(faults[0].at, Some(at), "{text}: {:?}", faults[0].message);
    }
}

#[test]
fn a_number_that_the_prediction_does_not_have_is_a_fault() {
    let faults = compile("prediction.value > 1.0", true).unwrap_err();
    assert!(faults[0].message.contains("the route's prediction has no value"), "{faults:?}");
    let faults = compile("prediction.mood > 1.0", true).unwrap_err();
    assert!(faults[0].message.contains("prediction has no `mood`"), "{faults:?}");
}

#[test]
fn conditions_are_bounded() {
    let long = format!("'{}' == ''", "x".repeat(MOST_BYTES));
    let deep = format!("{}true{}", "(".repeat(200), ")".repeat(200));
    let chained = format!("1{} == 1", " + 1".repeat(100));
    let wide = format!("request.model in [{}]", vec!["'a'"; 600].join(","));
    for text in [&long[..], &deep, &chained, &wide, &wide[..2000]] {
        assert!(compile(text, false).is_err(), "{}...", &text[..40]);
    }
}

#[test]
fn only_a_rule_that_names_the_prediction_is_judged_by_row() {
    assert!(compile("prediction.score > 0.5", true).unwrap().per_row);
    assert!(!compile("request.rows > 3", true).unwrap().per_row);
    assert!(compile("prediction.entropy > 0.5", true).unwrap().wants_entropy);
    assert!(!compile("prediction.score > 0.5", true).unwrap().wants_entropy);
    let wants = |text| compile(text, true).map(|one| (one.per_row, one.wants_session, one.wants_stats)).unwrap();
    assert_eq!(wants("session.calls > 3"), (false, true, false));
    assert_eq!(wants("false && stats.calls > 3"), (false, false, true));
    assert_eq!(wants("metadata.all(session, session != 'session.calls')"), (false, false, false));
}

/// Expressions made of what rules are made of.
fn expression() -> impl Strategy<Value = String> {
    let text = prop_oneof![
        Just("metadata['x-sender']"),
        Just("metadata.absent"),
        Just("segment.device"),
        Just("request.model"),
        Just("caller.id"),
        Just("request.params.tier"),
        Just("prediction.label"),
        Just("route"),
        Just("session.last_label"),
        Just("'spam'"),
        Just("'gold'"),
        Just("''"),
    ];
    let number = prop_oneof![
        Just("request.rows"),
        Just("prediction.score"),
        Just("prediction.margin"),
        Just("request.params.count"),
        Just("request.params.absent"),
        Just("3"),
        Just("0.9"),
        Just("request.params.temperature"),
        Just("-1"),
        Just("session.calls"),
        Just("session.last_score"),
        Just("session.remembered.quantity"),
        Just("stats.flagged_share"),
        Just("stats.predictions"),
    ];
    let texts = (text.clone(), prop_oneof![Just("=="), Just("!="), Just("<"), Just(">=")], text.clone())
        .prop_map(|(left, operator, right)| format!("{left} {operator} {right}"));
    let numbers =
        (number.clone(), prop_oneof![Just("=="), Just("!="), Just("<"), Just("<="), Just(">"), Just(">=")], number)
            .prop_map(|(left, operator, right)| format!("{left} {operator} {right}"));
    let among =
        (text, prop_oneof![Just("lists.trusted"), Just("caller.names"), Just("['spam', 'b']"), Just("metadata")])
            .prop_map(|(value, among)| format!("{value} in {among}"));
    let leaf = prop_oneof![
        texts,
        numbers,
        among,
        Just("request.params.dry".to_owned()),
        Just("request.params.tier.startsWith('g')".to_owned())
    ];
    leaf.prop_recursive(4, 16, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|one| format!("!({one})")),
            (inner.clone(), inner.clone()).prop_map(|(left, right)| format!("({left}) && ({right})")),
            (inner.clone(), inner).prop_map(|(left, right)| format!("({left}) || ({right})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_quick_way_means_what_the_interpreter_means(text in expression()) {
        if let Ok(condition) = compile(&text, true) {
            let (quick, interpreted) = judge(&condition);
            prop_assert_eq!(quick, interpreted, "{}", text);
        }
    }

    #[test]
    fn no_text_makes_the_check_panic(text in ".{0,60}") {
        let _ = compile(&text, true);
    }

    #[test]
    fn no_expression_makes_the_check_panic(text in "[a-z0-9 .()<>=!&|'\\[\\]{},?:+*/-]{0,60}") {
        let _ = compile(&text, true);
    }
}
