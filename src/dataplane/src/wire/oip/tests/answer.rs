use proptest::prelude::*;

use super::encode;
use crate::policy::{Label, PredictionSpec, Predictions, StaticAnswer};
use crate::wire::oip::{Head, ModelName, NoAnswer, read, static_answer, static_metadata};

fn spec(datatype: &str) -> PredictionSpec {
    PredictionSpec {
        scores: Some("probabilities".into()),
        label: Some("label".into()),
        confidence: Some("confidence".into()),
        value: Some("value".into()),
        classes: vec!["ham".into(), "spam".into()],
        positive: Some(1),
        threshold: 0.5,
        datatype: datatype.into(),
    }
}

fn request(rows: i64, raw: bool) -> Vec<u8> {
    let mut message = [encode::bytes(1, b"spam"), encode::bytes(3, b"id-7")].concat();
    message.extend(encode::bytes(5, &encode::tensor("x", "FP32", &[rows, 4], b"")));
    if raw {
        message.extend(encode::bytes(7, b""));
    }
    message
}

fn answered(spec: &PredictionSpec, answer: &StaticAnswer, request: &[u8]) -> Result<Vec<u8>, NoAnswer> {
    let head = Head::scan(request, true, usize::MAX).unwrap();
    let mut out = Vec::new();
    static_answer(spec, std::slice::from_ref(answer), &head, 1000, &mut out).map(|()| out)
}

proptest! {
    /// A caller reads a static answer with the code that reads a model's; so do we.
    #[test]
    fn a_static_answer_reads_back(score in 0.0..=1.0, value in 0.0..100.0, rows in 0_i64..20, raw: bool, datatype in prop_oneof![Just("FP64"), Just("FP32"), Just("FP16"), Just("BF16")]) {
        let spec = spec(datatype);
        let answer = StaticAnswer { score: Some(score), value: Some(value), ..StaticAnswer::default() };
        let request = request(rows, raw);
        let message = answered(&spec, &answer, &request).unwrap();
        let mut out = Predictions::default();
        read(&spec, &message, 1000, &mut out).unwrap();
        prop_assert_eq!((out.rows, out.columns), (rows as usize, 2));
        let precision = match datatype { "FP64" => 0.0, "FP32" => 1e-6, "FP16" => 1e-3, _ => 1e-2 };
        for row in 0..out.rows {
            prop_assert!((out.scores[2 * row] - (1.0 - score)).abs() <= precision);
            prop_assert!((out.scores[2 * row + 1] - score).abs() <= precision);
            prop_assert!((out.confidence[row] - score.max(1.0 - score)).abs() <= precision);
            prop_assert!((out.values[row] - value).abs() <= precision * 100.0);
            prop_assert_eq!(&out.labels[row], &Label::Class(u16::from(score >= 0.5)));
        }
    }

    #[test]
    fn whole_numbers_read_back_from_every_datatype(
        value in 0_u8..=100,
        raw: bool,
        datatype in prop_oneof![Just("INT8"), Just("INT16"), Just("INT32"), Just("INT64"), Just("UINT8"), Just("UINT16"), Just("UINT32"), Just("UINT64")],
    ) {
        let spec = PredictionSpec { value: Some("v".into()), datatype: datatype.into(), ..PredictionSpec::default() };
        let answer = StaticAnswer { value: Some(f64::from(value)), ..StaticAnswer::default() };
        let message = answered(&spec, &answer, &request(3, raw)).unwrap();
        let mut out = Predictions::default();
        read(&spec, &message, 1000, &mut out).unwrap();
        prop_assert_eq!(out.values, vec![f64::from(value); 3]);
    }
}

#[test]
fn a_label_alone_makes_scores_that_are_sure_of_it() {
    let answer = StaticAnswer { label: Some("ham".into()), value: Some(1.0), ..StaticAnswer::default() };
    let message = answered(&spec("FP32"), &answer, &request(1, false)).unwrap();
    let mut out = Predictions::default();
    read(&spec("FP32"), &message, 1, &mut out).unwrap();
    assert_eq!((out.scores, out.confidence, out.labels), (vec![1.0, 0.0], vec![1.0], vec![Label::Class(0)]));
}

#[test]
fn rows_are_only_a_claim_and_bounded() {
    let answer = StaticAnswer { score: Some(0.0), value: Some(0.0), ..StaticAnswer::default() };
    let fault = answered(&spec("FP32"), &answer, &request(i64::MAX, false)).unwrap_err();
    assert_eq!(fault, NoAnswer::TooManyRows { rows: u32::MAX, max: 1000 });
}

#[test]
fn what_the_answer_lacks_is_named_and_nothing_is_written() {
    let request = request(1, false);
    let head = Head::scan(&request, true, usize::MAX).unwrap();
    let mut out = b"before".to_vec();
    let answer = StaticAnswer { score: Some(0.1), ..StaticAnswer::default() };
    let fault = static_answer(&spec("FP32"), std::slice::from_ref(&answer), &head, 10, &mut out).unwrap_err();
    assert_eq!(fault.to_string(), "the static answer gives no value, which the route's prediction has");
    assert_eq!(out, b"before");
    let fault = static_answer(&spec("BYTES"), std::slice::from_ref(&answer), &head, 10, &mut out).unwrap_err();
    assert_eq!(fault, NoAnswer::Datatype("BYTES".into()));
}

#[test]
fn metadata_names_the_model_it_was_asked_about() {
    let mut out = Vec::new();
    static_metadata("spam", &spec("FP32"), &mut out);
    assert_eq!(ModelName::scan(&out).unwrap(), ModelName { name: "spam", version: "" });
}
