//! Static answers are read back as what they say, by the gateway and by others.

use prost_reflect::DynamicMessage;
use serde_json::{Value as Json, json};

use super::making::{all, policy};
use std::slice::from_ref;

use crate::policy::{Label, Predictions, StaticAnswer};
use crate::wire::descriptor::{read, static_answer};

fn answered(prediction: &Json, answers: &[StaticAnswer], rows: u32) -> (DynamicMessage, Predictions) {
    let policy = policy(&Json::Null, prediction).unwrap_or_else(|faults| panic!("{prediction}: {faults:?}"));
    let route = policy.route_at(0);
    let (described, spec) = (route.described.as_deref().unwrap(), route.prediction.as_ref().unwrap());
    let mut bytes = Vec::new();
    static_answer(&described.form, spec, answers, rows, 100, &mut bytes).unwrap();
    let mut out = Predictions::default();
    read(described, spec, &bytes, 100, &mut out).unwrap_or_else(|fault| panic!("{prediction}: {fault}"));
    (DynamicMessage::decode(all(), &*bytes).unwrap(), out)
}

fn low() -> StaticAnswer {
    StaticAnswer { label: Some("LOW".into()), score: Some(0.25), ..StaticAnswer::default() }
}

#[test]
fn a_static_answer_takes_the_form_of_each_path() {
    let both = [0.75, 0.25];
    for (prediction, scores, label) in [
        (json!({"scores": "items[].score"}), &both[1..], false),
        (json!({"scores": "items[].score", "label": "items[].label"}), &both[1..], true),
        (json!({"scores": "probs"}), &both[..], false),
        (json!({"scores": "probs[]"}), &both[1..], false),
        (json!({"scores": "deeper.deeper.probs"}), &both[..], false),
        (json!({"scores": "items[].probs", "label": "items[].deeper.level"}), &both[..], true),
        (json!({"scores": "items[].probs[2]"}), &both[1..], false),
        (json!({"scores": "items[].by", "label": "items[].level"}), &both[..], true),
        (json!({"scores": "items[].by[\"HIGH\"]"}), &both[1..], false),
        (
            json!({"scores": "deeper.items[].numbered[-1].two.score", "label": "deeper.items[].numbered[-1].two.label"}),
            &both[1..],
            true,
        ),
        (json!({"scores": "tensor"}), &both[..], false),
        (json!({"scores": "tensor", "datatype": "FP16"}), &both[..], false),
        (json!({"scores": "tensor", "datatype": "BF16"}), &both[..], false),
        (json!({"scores": "raw"}), &both[..], false),
        (json!({"scores": "raw", "datatype": "FP64"}), &both[..], false),
        (json!({"label": "names", "scores": "probs"}), &both[..], true),
        (json!({"label": "levels[]", "scores": "probs"}), &both[..], true),
        (json!({"label": "tensor", "scores": "probs"}), &both[..], true),
    ] {
        for rows in [0, 1, 3] {
            let (_, out) = answered(&prediction, from_ref(&low()), rows);
            let rows = rows as usize;
            assert_eq!(out.rows, rows, "{prediction}");
            assert_eq!(out.scores, scores.repeat(rows), "{prediction}");
            let labels = if label { vec![Label::Class(0); rows] } else { Vec::new() };
            assert_eq!(out.labels, labels, "{prediction}");
        }
    }
}

#[test]
fn an_answer_of_one_row_has_one() {
    for prediction in [
        json!({"scores": "score", "label": "label"}),
        json!({"scores": "items[2].score", "label": "items[1].label"}),
        json!({"scores": "by", "label": "level"}),
        json!({"scores": "deeper.by[\"HIGH\"]", "label": "two.label"}),
    ] {
        let (_, out) = answered(&prediction, from_ref(&low()), 1);
        assert_eq!((out.rows, &*out.labels), (1, &[Label::Class(0)][..]), "{prediction}");
    }
}

#[test]
fn elements_that_nobody_reads_stand_before_one_that_is_read() {
    let (message, _) = answered(&json!({"scores": "items[2].score", "label": "items[1].label"}), from_ref(&low()), 1);
    let items = message.get_field_by_name("items").unwrap();
    assert_eq!(items.as_list().unwrap().len(), 3);
}

#[test]
fn numbers_of_every_type_are_written_as_they_are_read() {
    let answer = StaticAnswer { value: Some(3.0), ..StaticAnswer::default() };
    for path in ["score", "maybe", "zigzag", "fixed", "one", "big", "signed", "by[\"x\"]", "probs[]", "tensor"] {
        let prediction = json!({"value": path, "classes": [], "positive": null});
        assert_eq!(answered(&prediction, from_ref(&answer), 1).1.values, [3.0], "{path}");
    }
    let lost = StaticAnswer { value: Some(-3.4), ..StaticAnswer::default() };
    for (path, wanted) in [("zigzag", -3.0), ("fixed", 0.0), ("maybe", -3.0), ("big", 0.0), ("flag", 0.0)] {
        let prediction = json!({"value": path, "classes": [], "positive": null});
        assert_eq!(answered(&prediction, from_ref(&lost), 1).1.values, [wanted], "{path}");
    }
}

#[test]
fn more_rows_than_the_limit_are_not_answered() {
    let policy = policy(&Json::Null, &json!({"scores": "items[].score"})).unwrap();
    let route = policy.route_at(0);
    let (described, spec) = (route.described.as_deref().unwrap(), route.prediction.as_ref().unwrap());
    let mut bytes = Vec::new();
    assert!(static_answer(&described.form, spec, from_ref(&low()), 101, 100, &mut bytes).is_err());
    assert!(bytes.is_empty());
}

#[test]
fn each_row_may_have_an_answer_of_its_own() {
    let high = StaticAnswer { label: Some("HIGH".into()), score: Some(0.875), ..StaticAnswer::default() };
    let answers = [low(), high];
    for (prediction, scores) in [
        (json!({"scores": "items[].score", "label": "items[].level"}), &[0.25, 0.875][..]),
        (json!({"scores": "probs", "label": "names"}), &[0.75, 0.25, 0.125, 0.875]),
        (json!({"scores": "tensor", "label": "levels"}), &[0.75, 0.25, 0.125, 0.875]),
        (json!({"scores": "raw", "label": "tensor"}), &[0.75, 0.25, 0.125, 0.875]),
        (json!({"scores": "deeper.items[].by", "label": "names[]"}), &[0.75, 0.25, 0.125, 0.875]),
    ] {
        let (_, out) = answered(&prediction, &answers, 2);
        assert_eq!(out.scores, scores, "{prediction}");
        assert_eq!(out.labels, [Label::Class(0), Label::Class(1)], "{prediction}");
    }
}
