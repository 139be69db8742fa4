//! Documents: what is refused, and that every fault is said at once with its place.

use proptest::prelude::*;

use super::*;
use crate::error::Fault;

fn faults(changes: &[(&str, Value)]) -> Vec<String> {
    let document = document_with(changes).to_string();
    Policy::compile(&document).err().unwrap_or_default().iter().map(Fault::to_string).collect()
}

/// One change makes exactly this fault.
fn one(pointer: &str, value: Value, words: &str) {
    let faults = faults(&[(pointer, value)]);
    assert!(faults.len() == 1 && faults[0].contains(words), "{pointer}: wanted {words:?}, found {faults:#?}");
}

#[test]
fn each_fault_says_where_it_is_and_what_was_wanted() {
    let rule = |when: &str| json!([{"name": "r", "on": "request", "when": when, "then": {"kind": "next"}}]);
    one("/version", json!("seven"), "version: found \"seven\", wanted a whole number");
    one("/salt", json!("not hex"), "salt: wanted hexadecimal digits");
    one("/default_backend", json!("nobody"), "default_backend: there is no backend \"nobody\"");
    one("/default_backend", json!("ham"), "is no model");
    one("/backends/0/endpoints", json!([]), "backends[0].endpoints: wanted at least one");
    one("/backends/0/endpoints", json!(["nowhere"]), "backends[0].endpoints[0]: found \"nowhere\"");
    one("/backends/0/kind", json!("smtp"), "backends[0].kind: wanted \"grpc\", \"static\" or \"people\"");
    one("/backends/3/name", json!("spam-v3"), "backends[3].name: there are two backends");
    one("/backends/2/label", json!("eggs"), "routes[0].chain[2]: the label \"eggs\"");
    one("/routes/0/chain", json!([]), "routes[0].chain: found 0 backends");
    one("/routes/0/chain", json!(["spam-v3", "spam-v3"]), "routes[0].chain[1]: \"spam-v3\" stands in the chain twice");
    one("/routes/0/chain", json!(["ham", "spam-v3"]), "routes[0].chain[1]: \"spam-v3\" is never reached");
    one("/routes/0/chain", json!(["spam-v9"]), "routes[0].chain[0]: there is no backend \"spam-v9\"");
    one("/routes/0/deadline_ms", json!(0), "routes[0].deadline_ms: found 0, wanted a whole number from 1");
    one("/routes/0/prediction/positive", json!("eggs"), "routes[0].prediction.positive: \"eggs\" is not among");
    one("/routes/0/prediction/datatype", json!("TF32"), "routes[0].prediction.datatype: found \"TF32\"");
    one("/routes/0/check/range", json!([1, 0]), "routes[0].check.range: wanted two numbers");
    one("/routes/0/confidence/measure", json!("vibes"), "routes[0].confidence.measure: wanted");
    one("/routes/0/confidence/per_label", json!({"eggs": 0.9}), "routes[0].confidence.per_label.eggs: \"eggs\" is not");
    one(
        "/routes/0/confidence/per_segment",
        json!({"planet=mars": 0.9}),
        "routes[0].confidence.per_segment.planet=mars",
    );
    one("/routes/0/holdout", json!({"share": 1.5, "answer": "ham"}), "routes[0].holdout.share: found 1.5");
    one(
        "/routes/0/holdout",
        json!({"share": 0.5, "answer": "spam-v3"}),
        "routes[0].holdout.answer: \"spam-v3\" is the model",
    );
    one("/routes/0/rules", rule("nobody == 1"), "routes[0].rules[0].when: there is no `nobody`");
    one("/routes/0/kill_switch", json!("yes"), "routes[0].kill_switch: found \"yes\", wanted true or false");
}

#[test]
fn an_unknown_field_is_named() {
    let mut document = document();
    document["routes"][0]["colour"] = json!("red");
    let faults = Policy::compile(&document.to_string()).unwrap_err();
    assert_eq!(faults.len(), 1);
    assert!(faults[0].to_string().starts_with("routes[0].colour: unknown field"), "{}", faults[0]);
}

#[test]
fn all_faults_are_said_at_once() {
    let faults = faults(&[
        ("/default_backend", json!("nobody")),
        ("/trace_share", json!(2)),
        ("/backends/0/max_in_flight", json!(0)),
        ("/routes/0/chain", json!(["spam-v9", "ham"])),
        ("/routes/0/rules", json!([{"name": "r", "on": "request", "when": "1 +", "then": {"kind": "dance"}}])),
    ]);
    for place in ["default_backend", "trace_share", "backends[0].max_in_flight", "routes[0].chain[0]"] {
        assert!(faults.iter().any(|fault| fault.starts_with(place)), "{place} in {faults:#?}");
    }
    assert!(faults.iter().any(|fault| fault.starts_with("routes[0].rules[0].then.kind")), "{faults:#?}");
    assert!(faults.iter().any(|fault| fault.starts_with("routes[0].rules[0].when: Syntax error")), "{faults:#?}");
}

#[test]
fn two_routes_that_match_the_same_are_refused() {
    let mut document = document();
    let mut twin = document["routes"][0].clone();
    twin["name"] = json!("twin");
    document["routes"].as_array_mut().unwrap().push(twin);
    let faults = Policy::compile(&document.to_string()).unwrap_err();
    assert_eq!(faults[0].to_string(), "routes[1].match: the route \"spam\" matches the same calls");
}

#[test]
fn what_is_not_json_is_one_fault_with_its_place() {
    let faults = Policy::compile("{\n  \"version\": }").unwrap_err();
    assert_eq!((faults.len(), faults[0].line, faults[0].path.len()), (1, Some(2), 0));
}

#[test]
fn endpoints_are_told_apart() {
    let endpoints = json!(["10.0.0.1:80", "[::1]:81", "dns:models:82", "unix:/run/m.sock"]);
    let policy = policy_with(&[("/backends/0/endpoints", endpoints)]);
    let found = &policy.backend(V3).as_model().unwrap().endpoints;
    let expected = [
        Endpoint::Tcp { host: "10.0.0.1".into(), port: 80 },
        Endpoint::Tcp { host: "::1".into(), port: 81 },
        Endpoint::Dns { host: "models".into(), port: 82 },
        Endpoint::Unix("/run/m.sock".into()),
    ];
    assert_eq!(found[..], expected);
}

#[test]
fn secrets_are_decoded_and_never_shown() {
    let policy = policy_with(&[]);
    assert_eq!((policy.salt().len(), policy.receipt_keys()), (16, &[vec![0xaa, 0xbb]][..]));
    assert!(!faults(&[("/salt", json!("secret!"))])[0].contains("secret"));
}

/// Any JSON, not too large.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        prop_oneof!["spam-v3", "ham", "metadata", "output:x", "scores", "request.rows > 1", "[1].all(x, x > 0)"]
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map("[a-z_]{0,8}", inner, 0..5).prop_map(Value::from_iter),
        ]
    })
}

/// Every place of a document.
fn pointers(value: &Value, at: &str, out: &mut Vec<String>) {
    out.push(at.to_owned());
    match value {
        Value::Object(map) => map.iter().for_each(|(key, inner)| pointers(inner, &format!("{at}/{key}"), out)),
        Value::Array(items) => {
            for (index, inner) in items.iter().enumerate() {
                pointers(inner, &format!("{at}/{index}"), out);
            }
        }
        _ => {}
    }
}

fn full_document() -> Value {
    document_with(&[
        ("/routes/0/holdout", json!({"share": 0.1, "answer": ["spam-lite", "ham"]})),
        ("/routes/0/explore", sampling::arms(&[("spam-v3", 0.5), ("spam-v4", 0.5)], "unit")),
        ("/routes/0/mirror", calls::mirror(0.5)),
        (
            "/routes/0/review",
            json!({"queue": "q", "flagged": 0.5, "unflagged": 0.5, "near": 0.6, "near_margin": 0.1, "fallback": 0.2,
                   "disagreement": 0.9, "segments": {"device=phone": 2.0}, "capture": ["inputs"], "redact": ["inputs.a"]}),
        ),
        (
            "/routes/0/rules",
            json!([
                {"name": "a", "on": "request", "when": "request.rows > 64", "then": {"kind": "next"}},
                {"name": "b", "on": "prediction", "when": "prediction.score > 0.5", "then": {"kind": "to", "backend": "spam-v4"}},
            ]),
        ),
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_text_makes_the_compiler_panic(text in ".{0,200}") {
        let _ = Policy::compile(&text);
    }

    #[test]
    fn no_document_makes_the_compiler_or_a_call_panic(place in any::<prop::sample::Index>(), value in any_json(),
                                                       score in any::<f64>()) {
        let mut document = full_document();
        let mut places = Vec::new();
        pointers(&document, "", &mut places);
        if let Some(found) = document.pointer_mut(place.get(&places).as_str()) {
            *found = value;
        }
        match Policy::compile(&document.to_string()) {
            Err(faults) => prop_assert!(!faults.is_empty()),
            Ok(policy) if policy.routes().is_empty() => {}
            Ok(policy) => {
                let policy = Arc::new(policy);
                let metadata = vec![("x-device", "phone")];
                let answers = [V3, LITE, HAM, V4].map(|backend| (backend, Ok(scores(&[score]))));
                let decision = walk(&policy, &request(&metadata, 1), [1; 16], &answers);
                prop_assert!(!decision.rows.is_empty());
            }
        }
    }

    #[test]
    fn no_prediction_makes_a_call_panic(
        rows in 0..5usize, columns in 0..4usize, asked in 0..5u32,
        scores in prop::collection::vec(any::<f64>(), 0..12),
        labels in prop::collection::vec(any::<u16>(), 0..5),
        confidence in prop::collection::vec(any::<f64>(), 0..5),
        values in prop::collection::vec(any::<f64>(), 0..5),
    ) {
        let labels = labels.into_iter().map(|one| if one % 2 == 0 { Label::Class(one / 2) } else { Label::Text("x".into()) }).collect();
        let predictions = Predictions { rows, columns, scores, labels, confidence, values };
        let policy = policy_with(&[("/routes/0/rules", full_document()["routes"][0]["rules"].clone())]);
        let metadata: Pairs = vec![];
        let answers = [V3, LITE, V4].map(|backend| (backend, Ok(predictions.clone())));
        let decision = walk(&policy, &request(&metadata, asked), [1; 16], &answers);
        prop_assert!(!decision.rows.is_empty());
        // What a model said is only ever given if it is finite.
        if decision.outcome == Outcome::Model && rows > 0 {
            prop_assert!(decision.rows.iter().all(|row| row.score.is_finite() && row.confidence >= 0.8));
        }
    }
}
