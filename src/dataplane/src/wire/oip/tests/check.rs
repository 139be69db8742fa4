//! Outputs against what the settings say of them.

use proptest::prelude::*;

use super::encode;
use crate::policy::{OutputCheck, OutputsCheck, PredictionSpec};
use crate::wire::oip::check;

fn spec() -> PredictionSpec {
    PredictionSpec { scores: Some("p".into()), classes: vec!["a".into(), "b".into()], ..PredictionSpec::default() }
}

fn wanted() -> OutputCheck {
    OutputCheck { name: "x".into(), ..OutputCheck::default() }
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// An answer of raw outputs.
fn raw(outputs: &[(&str, &str, &[i64], Vec<u8>)]) -> Vec<u8> {
    let tensors =
        outputs.iter().map(|(name, kind, shape, _)| encode::bytes(5, &encode::tensor(name, kind, shape, b"")));
    let contents = outputs.iter().map(|(.., contents)| encode::bytes(6, contents));
    tensors.chain(contents).flatten().collect()
}

/// An answer of one typed output of FP32.
fn typed(shape: &[i64], values: &[f32]) -> Vec<u8> {
    encode::bytes(5, &encode::tensor("x", "FP32", shape, &encode::bytes(6, &floats(values))))
}

fn texts(texts: &[&str]) -> Vec<u8> {
    texts
        .iter()
        .flat_map(|text| [&u32::try_from(text.len()).unwrap().to_le_bytes(), text.as_bytes()].concat())
        .collect()
}

fn said(of: OutputCheck, answer: &[u8]) -> String {
    let all = OutputsCheck { outputs: vec![of], only_known: true, same_rows: true };
    check(&all, &spec(), answer, 2).map_or_else(|fault| fault.to_string(), |()| "good".to_owned())
}

#[test]
fn what_is_wrong_is_said_with_what_was_found_and_wanted() {
    let shape = || Some(vec![-1, 2]);
    let x = |kind: &'static str, shape: &'static [i64], contents: Vec<u8>| raw(&[("x", kind, shape, contents)]);
    let good = || x("FP32", &[2, 2], floats(&[0.1, 0.9, 0.5, 0.5]));
    let ranged = || OutputCheck { range: Some((0.0, 1.0)), ..wanted() };
    let labelled = || OutputCheck { labels: Some(vec!["ham".into(), "spam".into()]), ..wanted() };
    let cases: [(OutputCheck, Vec<u8>, &str); 18] = [
        (OutputCheck { shape: shape(), datatype: Some("FP32".into()), ..ranged() }, good(), "good"),
        (OutputCheck { datatype: Some("FP64".into()), ..wanted() }, good(), "output 'x': datatype FP32, wanted FP64"),
        (OutputCheck { shape: Some(vec![-1, 3]), ..wanted() }, good(), "output 'x': shape [2, 2], wanted [-1, 3]"),
        (OutputCheck { shape: Some(vec![2]), ..wanted() }, good(), "output 'x': shape [2, 2], wanted [2]"),
        (ranged(), x("FP32", &[2], floats(&[0.5, 1.5])), "output 'x': element 1 is 1.5, wanted 0 to 1"),
        (wanted(), x("FP32", &[2], floats(&[0.5, f32::NAN])), "output 'x': element 1 is NaN, wanted a finite number"),
        (
            wanted(),
            x("FP32", &[2], floats(&[f32::INFINITY, 1.0])),
            "output 'x': element 0 is inf, wanted a finite number",
        ),
        (wanted(), typed(&[2], &[1.0, f32::NAN]), "output 'x': element 1 is NaN, wanted a finite number"),
        (ranged(), x("INT8", &[2], vec![1, 0xff]), "output 'x': element 1 is -1, wanted 0 to 1"),
        (wanted(), x("FP32", &[3], floats(&[1.0; 3])), "output 'x': shape [3], wanted 2 rows as the prediction has"),
        (wanted(), x("FP32", &[2], floats(&[1.0])), "output 'x': 4 bytes of raw contents, shape [2] wants 8"),
        (wanted(), x("FP32", &[2, -1], floats(&[1.0])), "output 'x': shape [2, -1], which no tensor has"),
        (labelled(), x("BYTES", &[2], texts(&["ham", "spam"])), "good"),
        (
            labelled(),
            x("BYTES", &[2], texts(&["ham", "eggs"])),
            "output 'x': element 1 is \"eggs\", wanted one of ham, spam",
        ),
        (labelled(), good(), "output 'x': datatype FP32, wanted labels, which are BYTES"),
        (ranged(), x("BYTES", &[2], texts(&["ham", "spam"])), "output 'x': datatype BYTES, wanted numbers"),
        (wanted(), raw(&[]), "output 'x': missing; the answer's outputs: none"),
        (OutputCheck { optional: true, ..wanted() }, raw(&[]), "good"),
    ];
    for (of, answer, words) in cases {
        assert_eq!(said(of, &answer), words);
    }
}

#[test]
fn an_output_that_nobody_knows_is_a_miss_only_where_that_is_wanted() {
    let one = || floats(&[1.0, 2.0]);
    let answer = raw(&[("x", "FP32", &[2], one()), ("p", "FP32", &[2], one()), ("debug", "FP32", &[2], one())]);
    assert_eq!(said(wanted(), &answer), "output 'debug': it is unknown; wanted p, x");
    let lax = OutputsCheck { outputs: vec![wanted()], only_known: false, same_rows: false };
    assert_eq!(check(&lax, &spec(), &answer, 7), Ok(()));
    let twice = raw(&[("x", "FP32", &[2], one()), ("x", "FP32", &[2], one())]);
    assert_eq!(said(wanted(), &twice), "output 'x': it stands twice in the answer");
}

#[test]
fn a_fault_at_the_end_of_a_long_output_is_found_without_gathering_it() {
    let mut values = vec![0.5f32; 300_000];
    values.push(f32::NAN);
    let shape = [1, i64::try_from(values.len()).unwrap()];
    for answer in [raw(&[("x", "FP32", &shape, floats(&values))]), typed(&shape, &values)] {
        let lax = OutputsCheck { outputs: vec![wanted()], ..OutputsCheck::default() };
        let fault = check(&lax, &spec(), &answer, 1).unwrap_err().to_string();
        assert_eq!(fault, "output 'x': element 300000 is NaN, wanted a finite number");
    }
}

proptest! {
    #[test]
    fn no_answer_makes_the_check_panic(answer in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = said(OutputCheck { range: Some((0.0, 1.0)), ..wanted() }, &answer);
    }

    #[test]
    fn a_shape_is_only_a_claim(dims in prop::collection::vec(any::<i64>(), 0..6), contents in prop::collection::vec(any::<u8>(), 0..40)) {
        let answer = raw(&[("x", "UINT8", &dims, contents.clone())]);
        let lax = OutputsCheck {
            outputs: vec![OutputCheck { range: Some((0.0, 255.0)), ..wanted() }],
            ..OutputsCheck::default()
        };
        let size = dims.iter().try_fold(1i128, |size, dim| size.checked_mul(i128::from(*dim)));
        let fits = dims.iter().all(|dim| *dim >= 0) && size == Some(contents.len() as i128);
        prop_assert_eq!(check(&lax, &spec(), &answer, 1).is_ok(), fits);
    }
}
