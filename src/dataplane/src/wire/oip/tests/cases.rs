//! Messages that protobuf encoded (`tests/wire_format/protobuf_cases.py`), and what must be made of them, byte by byte.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::policy::{Label, Param, PredictionSpec, Predictions, StaticAnswer};
use crate::wire::oip::{Head, append_model, append_param, read, redact, static_answer, static_metadata};

#[derive(Deserialize)]
struct Cases {
    heads: Vec<Value>,
    reads: Vec<Value>,
    redactions: Vec<Value>,
    static_answers: Vec<Value>,
    metadata: Vec<Value>,
    appended: Vec<Value>,
}

fn cases() -> Cases {
    serde_json::from_str(include_str!("cases.json")).unwrap()
}

fn bytes(case: &Value, name: &str) -> Vec<u8> {
    STANDARD.decode(case[name].as_str().unwrap()).unwrap()
}

fn text(value: &Value) -> Option<Box<str>> {
    value.as_str().map(Into::into)
}

fn numbers(value: &Value) -> Option<Vec<f64>> {
    let texts = value.as_array()?.iter();
    Some(texts.map(|number| number.as_str().unwrap().parse().unwrap()).collect())
}

fn spec(case: &Value) -> PredictionSpec {
    let spec = &case["spec"];
    PredictionSpec {
        scores: text(&spec["scores"]),
        label: text(&spec["label"]),
        confidence: text(&spec["confidence"]),
        value: text(&spec["value"]),
        classes: spec["classes"].as_array().unwrap().iter().filter_map(text).collect(),
        positive: spec["positive"].as_u64().map(|positive| u16::try_from(positive).unwrap()),
        threshold: spec["threshold"].as_f64().unwrap(),
        datatype: text(&spec["datatype"]).unwrap(),
    }
}

#[test]
fn heads_are_what_protobuf_encoded() {
    let cases = cases().heads;
    assert!(cases.len() >= 4);
    for case in cases {
        let message = bytes(&case, "message");
        let head = Head::scan(&message, true, usize::MAX).unwrap();
        let params: BTreeMap<_, _> = head.params.iter().map(|(name, value)| (*name, shown(*value))).collect();
        let inputs: Vec<_> =
            head.inputs().iter().map(|input| json!([input.name, input.datatype, input.shape])).collect();
        let seen = json!({
            "model": head.model, "version": head.version, "id": head.id, "params": params, "inputs": inputs,
            "raw": head.raw, "rows": head.rows(),
        });
        assert_eq!(seen, case["want"], "{}", case["name"]);
    }
}

fn shown(value: Param<'_>) -> Value {
    match value {
        Param::Bool(value) => json!(["bool_param", value]),
        Param::Int(value) => json!(["int64_param", value]),
        Param::Float(value) => json!(["double_param", value]),
        Param::Text(value) => json!(["string_param", value]),
    }
}

#[test]
fn predictions_are_what_protobuf_encoded() {
    let cases = cases().reads;
    assert!(cases.len() >= 50);
    for case in cases {
        let mut out = Predictions::default();
        read(&spec(&case), &bytes(&case, "message"), 64, &mut out)
            .unwrap_or_else(|fault| panic!("{}: {fault}", case["name"]));
        let labels: Vec<_> = out
            .labels
            .iter()
            .map(|label| match label {
                Label::Class(class) => format!("class {class}"),
                Label::Text(text) => format!("text {text}"),
            })
            .collect();
        let want = &case["want"];
        let name = &case["name"];
        assert_eq!(
            json!([out.rows, out.columns, labels]),
            json!([want["rows"], want["columns"], want["labels"]]),
            "{name}"
        );
        assert_eq!(Some(out.scores), numbers(&want["scores"]), "{name}");
        assert_eq!(Some(out.confidence), numbers(&want["confidence"]), "{name}");
        assert_eq!(Some(out.values), numbers(&want["values"]), "{name}");
    }
}

#[test]
fn a_redacted_request_is_what_protobuf_would_encode_without_the_input() {
    let cases = cases().redactions;
    assert!(cases.len() >= 4);
    for case in cases {
        let drop: Vec<&str> = case["drop"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        let mut kept = Vec::new();
        redact(&bytes(&case, "message"), &drop, &mut kept).unwrap();
        assert_eq!(kept, bytes(&case, "want"), "{}", case["name"]);
    }
}

#[test]
fn a_static_answer_is_what_protobuf_would_encode() {
    let cases = cases().static_answers;
    assert!(cases.len() >= 10);
    for case in cases {
        let said = &case["answer"];
        let answer = StaticAnswer {
            label: text(&said["label"]),
            score: said["score"].as_f64(),
            scores: numbers(&said["scores"]),
            value: said["value"].as_f64(),
        };
        let request = bytes(&case, "request");
        let head = Head::scan(&request, true, usize::MAX).unwrap();
        let mut out = Vec::new();
        static_answer(&spec(&case), &[answer], &head, 64, &mut out).unwrap();
        assert_eq!(out, bytes(&case, "want"), "{}", case["name"]);
    }
}

#[test]
fn static_metadata_is_what_protobuf_would_encode() {
    for case in cases().metadata {
        let mut out = Vec::new();
        static_metadata("spam", &spec(&case), &mut out);
        assert_eq!(out, bytes(&case, "want"), "{}", case["name"]);
    }
}

#[test]
fn appended_fields_are_what_protobuf_would_encode() {
    let cases = cases().appended;
    assert!(cases.len() >= 10);
    for case in cases {
        let mut out = Vec::new();
        if let Some(model) = case["model"].as_str() {
            append_model(model, case["version"].as_str(), &mut out);
        } else {
            let value = &case["value"];
            let value = match case["choice"].as_str().unwrap() {
                "bool_param" => Param::Bool(value.as_bool().unwrap()),
                "int64_param" => Param::Int(value.as_i64().unwrap()),
                "double_param" => Param::Float(value.as_f64().unwrap()),
                "string_param" => Param::Text(value.as_str().unwrap()),
                other => panic!("{other}"),
            };
            append_param(case["param"].as_str().unwrap(), value, &mut out);
        }
        assert_eq!(out, bytes(&case, "want"), "{case}");
    }
}
