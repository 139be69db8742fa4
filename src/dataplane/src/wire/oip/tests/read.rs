use proptest::collection::vec;
use proptest::prelude::*;

use super::encode;
use crate::policy::{Label, PredictionSpec, Predictions};
use crate::wire::oip::read;

const MAX_ROWS: usize = 64;

/// How numbers stand in an answer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    Raw,
    Packed,
    Unpacked,
}

pub(super) fn form() -> impl Strategy<Value = Form> {
    prop_oneof![Just(Form::Raw), Just(Form::Packed), Just(Form::Unpacked)]
}

pub(super) fn datatype() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        Just("BOOL"),
        Just("INT8"),
        Just("INT16"),
        Just("INT32"),
        Just("INT64"),
        Just("UINT8"),
        Just("UINT16"),
        Just("UINT32"),
        Just("UINT64"),
        Just("FP16"),
        Just("BF16"),
        Just("FP32"),
        Just("FP64"),
    ]
}

/// One small whole number in raw form; every datatype but BOOL holds 0 to 100.
fn raw(datatype: &str, number: u8) -> Vec<u8> {
    match datatype {
        "BOOL" | "INT8" | "UINT8" => vec![number],
        "INT16" | "UINT16" => u16::from(number).to_le_bytes().to_vec(),
        "INT32" | "UINT32" => u32::from(number).to_le_bytes().to_vec(),
        "INT64" | "UINT64" => u64::from(number).to_le_bytes().to_vec(),
        "FP16" => half::f16::from(number).to_le_bytes().to_vec(),
        "BF16" => half::bf16::from(number).to_le_bytes().to_vec(),
        "FP32" => f32::from(number).to_le_bytes().to_vec(),
        "FP64" => f64::from(number).to_le_bytes().to_vec(),
        other => panic!("{other}"),
    }
}

/// Its field in `InferTensorContents`, wire type and value.
fn typed(datatype: &str, number: u8) -> (u32, u8, Vec<u8>) {
    let varint = encode::varint(u64::from(number));
    match datatype {
        "BOOL" => (1, 0, varint),
        "INT8" | "INT16" | "INT32" => (2, 0, varint),
        "INT64" => (3, 0, varint),
        "UINT8" | "UINT16" | "UINT32" => (4, 0, varint),
        "UINT64" => (5, 0, varint),
        "FP32" => (6, 5, raw(datatype, number)),
        "FP64" => (7, 1, raw(datatype, number)),
        other => panic!("{other}"),
    }
}

pub(super) fn answer(name: &str, datatype: &str, shape: &[i64], numbers: &[u8], form: Form) -> Vec<u8> {
    let form = if matches!(datatype, "FP16" | "BF16") { Form::Raw } else { form };
    let contents: Vec<u8> = match form {
        Form::Raw => Vec::new(),
        Form::Unpacked => numbers
            .iter()
            .flat_map(|&number| {
                let (field, wire_type, value) = typed(datatype, number);
                [encode::tag(field, wire_type), value].concat()
            })
            .collect(),
        Form::Packed => {
            let values: Vec<u8> = numbers.iter().flat_map(|&number| typed(datatype, number).2).collect();
            encode::bytes(typed(datatype, 0).0, &values)
        }
    };
    // An output that nobody asked for stands before it: contents are found by position.
    let other = encode::tensor("other", "FP32", &[1], if matches!(form, Form::Raw) { b"" } else { b"\x32\x04abcd" });
    let mut out = encode::bytes(1, b"spam");
    out.extend(encode::bytes(5, &other));
    out.extend(encode::bytes(5, &encode::tensor(name, datatype, shape, &contents)));
    if let Form::Raw = form {
        out.extend(encode::bytes(6, b"abcd"));
        let values: Vec<u8> = numbers.iter().flat_map(|&number| raw(datatype, number)).collect();
        out.extend(encode::bytes(6, &values));
    }
    out
}

pub(super) fn spec(classes: usize) -> PredictionSpec {
    PredictionSpec {
        scores: Some("s".into()),
        classes: (0..classes).map(|class| format!("c{class}").into()).collect(),
        datatype: "FP32".into(),
        ..PredictionSpec::default()
    }
}

pub(super) fn numbers(datatype: &str, len: usize) -> impl Strategy<Value = Vec<u8>> + use<> {
    let most: u8 = if datatype == "BOOL" { 1 } else { 100 };
    vec(0..=most, len)
}

proptest! {
    #[test]
    fn scores_of_any_datatype_and_form_are_read(
        (datatype, form, rows, classes, numbers) in (datatype(), form(), 0_usize..6, 2_usize..5).prop_flat_map(
            |(datatype, form, rows, classes)| (Just(datatype), Just(form), Just(rows), Just(classes), numbers(datatype, rows * classes)),
        ),
    ) {
        let message = answer("s", datatype, &[rows as i64, classes as i64], &numbers, form);
        let mut out = Predictions { rows: 9, values: vec![1.0], ..Predictions::default() };
        read(&spec(classes), &message, MAX_ROWS, &mut out).unwrap();
        let wanted: Vec<f64> = numbers.iter().map(|&number| f64::from(number)).collect();
        prop_assert_eq!((out.rows, out.columns, out.values.len()), (rows, classes, 0));
        prop_assert_eq!(out.scores, wanted);
    }

    #[test]
    fn any_bytes_are_an_answer_or_an_error(message: Vec<u8>) {
        let mut out = Predictions::default();
        prop_assert!(read(&spec(2), &message, MAX_ROWS, &mut out).is_err());
    }

    /// A backend that answers garbage is `invalid_output`; it can neither crash the gateway nor fill its memory.
    #[test]
    fn a_spoilt_answer_is_read_within_bounds_or_refused(
        message in (datatype(), form()).prop_flat_map(|(datatype, form)| encode::spoil(answer("s", datatype, &[3, 2], &[1, 0, 1, 0, 1, 0], form))),
        all: bool,
    ) {
        let name = || all.then(|| "s".into());
        let spec = PredictionSpec { label: name(), confidence: name(), value: name(), ..spec(2) };
        let mut out = Predictions::default();
        if read(&spec, &message, MAX_ROWS, &mut out).is_ok() {
            prop_assert!(out.rows <= MAX_ROWS);
            prop_assert_eq!(out.scores.len(), out.rows * out.columns);
        }
        prop_assert!(out.scores.capacity() <= 4 * MAX_ROWS);
    }

    #[test]
    fn labels_are_read_as_texts_and_as_indexes(labels in vec("[a-c]{1,2}", 1..6), is_raw: bool) {
        let rows = labels.len() as i64;
        let typed: Vec<u8> = labels.iter().flat_map(|label| encode::bytes(8, label.as_bytes())).collect();
        let raw: Vec<u8> = labels.iter().flat_map(|label| [&(label.len() as u32).to_le_bytes()[..], label.as_bytes()].concat()).collect();
        let tensor = encode::tensor("l", "BYTES", &[rows, 1], if is_raw { b"" } else { &typed });
        let mut message = encode::bytes(5, &tensor);
        if is_raw {
            message.extend(encode::bytes(6, &raw));
        }
        let spec = PredictionSpec { label: Some("l".into()), classes: vec!["a".into(), "b".into()], ..PredictionSpec::default() };
        let mut out = Predictions::default();
        read(&spec, &message, MAX_ROWS, &mut out).unwrap();
        let wanted: Vec<_> = labels.iter().map(|label| match &**label {
            "a" => Label::Class(0),
            "b" => Label::Class(1),
            other => Label::Text(other.into()),
        }).collect();
        prop_assert_eq!(out.labels, wanted);
    }
}

#[track_caller]
fn refused(spec: &PredictionSpec, message: &[u8], words: &str) {
    let fault = read(spec, message, MAX_ROWS, &mut Predictions::default()).unwrap_err();
    assert!(fault.0.contains(words), "{fault}");
}

#[test]
fn a_fault_says_what_was_found_and_what_was_wanted() {
    let good = answer("s", "FP32", &[1, 2], &[1, 0], Form::Raw);
    refused(
        &PredictionSpec { scores: Some("p".into()), ..spec(2) },
        &good,
        "'p': missing; the answer's outputs: other, s",
    );
    refused(&spec(3), &good, "shape [1, 2], wanted [rows, 3]");
    refused(
        &spec(2),
        &answer("s", "FP32", &[2, 2], &[1, 0], Form::Raw),
        "8 bytes of raw contents, shape [2, 2] wants 16",
    );
    refused(
        &spec(2),
        &answer("s", "FP32", &[2, 2], &[1, 0], Form::Packed),
        "2 elements of its datatype, shape [2, 2] wants 4",
    );
    refused(&spec(2), &answer("s", "FP32", &[1], &[1, 0], Form::Packed), "more than the 1 elements");
    refused(&spec(2), &answer("s", "FP32", &[65, 2], &[], Form::Raw), "65 rows, wanted 0 to 64");
    refused(&spec(2), &answer("s", "FP32", &[-1, 2], &[], Form::Raw), "-1 rows");
    refused(&spec(2), &encode::bytes(5, &encode::tensor("s", "FP33", &[1], b"")), "unknown datatype 'FP33'");
    refused(&spec(2), &encode::bytes(5, &encode::tensor("s", "FP16", &[1], b"\x32\x04abcd")), "raw_output_contents");
    refused(&spec(2), &[good.clone(), good].concat(), "stands twice");
    let unmatched = [
        encode::bytes(5, b"\x0a\x01x"),
        encode::bytes(5, &encode::tensor("s", "FP32", &[1], b"")),
        encode::bytes(6, b"abcd"),
    ]
    .concat();
    refused(&spec(2), &unmatched, "it is output 1, but raw_output_contents has 1 entries");
}

#[test]
fn class_indexes_are_labels_within_the_classes() {
    let spec = PredictionSpec { scores: None, label: Some("s".into()), ..spec(3) };
    let mut out = Predictions::default();
    read(&spec, &answer("s", "INT64", &[2], &[2, 0], Form::Packed), MAX_ROWS, &mut out).unwrap();
    assert_eq!(out.labels, [Label::Class(2), Label::Class(0)]);
    refused(&spec, &answer("s", "INT64", &[1], &[3], Form::Raw), "class index 3, wanted 0 to 2");
    refused(&spec, &answer("s", "FP32", &[1], &[1], Form::Raw), "a float");
}

#[test]
fn outputs_must_agree_in_their_rows() {
    let spec = PredictionSpec { confidence: Some("c".into()), ..spec(2) };
    let one = encode::bytes(5, &encode::tensor("s", "FP64", &[1], &encode::bytes(7, &[0; 8])));
    let two = encode::bytes(5, &encode::tensor("c", "FP64", &[2], &encode::bytes(7, &[0; 16])));
    refused(&spec, &[one, two].concat(), "2 rows, but the output before it has 1");
}

#[test]
fn what_is_no_number_is_read_as_it_stands() {
    let tensor = encode::tensor("s", "FP32", &[1], &encode::bytes(6, &f32::NAN.to_le_bytes()));
    let mut out = Predictions::default();
    read(&spec(2), &encode::bytes(5, &tensor), MAX_ROWS, &mut out).unwrap();
    assert!(out.scores[0].is_nan());
}
