//! Batches taken apart and put together again.

use proptest::collection::vec;
use proptest::prelude::*;

use super::encode;
use super::read::{Form, answer, datatype, form, numbers, spec};
use crate::policy::Predictions;
use crate::wire::oip::rows::{Part, merge, slice};
use crate::wire::oip::{Head, read};

fn scores(message: &[u8], classes: usize) -> Vec<f64> {
    let mut out = Predictions::default();
    read(&spec(classes), message, 64, &mut out).expect("an answer that can be read");
    out.scores
}

/// Two inputs of four rows, a text and two numbers in each.
fn request(texts: &[&str], numbers: &[f32], raw: bool) -> Vec<u8> {
    let rows = texts.len() as i64;
    let cells: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    let mut message = [encode::bytes(1, b"spam"), encode::bytes(3, b"id-1")].concat();
    if raw {
        message.extend(encode::bytes(5, &encode::tensor("t", "BYTES", &[rows, 1], b"")));
        message.extend(encode::bytes(5, &encode::tensor("x", "FP32", &[rows, 2], b"")));
        let texts = texts.iter().flat_map(|text| [&(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat());
        message.extend(encode::bytes(7, &texts.collect::<Vec<u8>>()));
        message.extend(encode::bytes(7, &cells));
    } else {
        let texts: Vec<u8> = texts.iter().flat_map(|text| encode::bytes(8, text.as_bytes())).collect();
        message.extend(encode::bytes(5, &encode::tensor("t", "BYTES", &[rows, 1], &texts)));
        message.extend(encode::bytes(5, &encode::tensor("x", "FP32", &[rows, 2], &encode::bytes(6, &cells))));
    }
    // A parameter behind the tensors, where appended ones stand.
    message.extend(encode::bytes(4, &[encode::bytes(1, b"k"), encode::bytes(2, &encode::number(2, 7))].concat()));
    message
}

#[test]
fn a_request_with_some_rows_is_the_request_that_had_only_those() {
    for raw in [false, true] {
        let whole = request(&["a", "bb", "", "dddd"], &[1., 2., 3., 4., 5., 6., 7., 8.], raw);
        let wanted = request(&["dddd", "bb"], &[7., 8., 3., 4.], raw);
        let mut out = Vec::new();
        slice(&whole, 4, &[3, 1], &mut out).unwrap();
        let (found, wanted) = (Head::scan(&out, true, usize::MAX), Head::scan(&wanted, true, usize::MAX));
        assert_eq!(found, wanted);
        // Field for field the same, in whatever order they stand.
        assert_eq!(out.len(), request(&["dddd", "bb"], &[7., 8., 3., 4.], raw).len());
        let mut again = Vec::new();
        slice(&out, 2, &[1, 0], &mut again).unwrap();
        let mut other = Vec::new();
        slice(&whole, 4, &[1, 3], &mut other).unwrap();
        assert_eq!(again, other);
    }
}

#[test]
fn what_has_no_rows_of_its_own_is_not_taken_apart() {
    let mut out = Vec::new();
    let odd = [
        encode::bytes(5, &encode::tensor("a", "FP32", &[2], &encode::bytes(6, &[0; 8]))),
        encode::bytes(5, &encode::tensor("b", "FP32", &[1], &encode::bytes(6, &[0; 4]))),
    ]
    .concat();
    assert_eq!(&*slice(&odd, 2, &[0], &mut out).unwrap_err().0, "input 'b' has 1 rows, the batch has 2");
    let region = encode::bytes(4, &encode::bytes(1, b"shared_memory_region"));
    let shared = encode::bytes(5, &[encode::tensor("a", "FP32", &[2], b""), region].concat());
    assert!(slice(&shared, 2, &[0], &mut out).unwrap_err().0.contains("shared memory"));
    let huge = encode::bytes(5, &encode::tensor("a", "FP32", &[2, i64::MAX], b""));
    assert!(slice(&huge, 2, &[0], &mut out).is_err());
    assert!(slice(&request(&["a"], &[1., 2.], true), 1, &[1], &mut out).is_err());
    assert!(out.is_empty());
}

#[test]
fn outputs_of_another_form_are_refused_where_they_are_needed_and_left_out_elsewhere() {
    let first = answer("s", "FP32", &[2, 2], &[1, 2, 3, 4], Form::Packed);
    let other = answer("s", "INT32", &[1, 2], &[9, 9], Form::Packed);
    let parts = [Part { answer: &first, rows: &[Some(0), None] }, Part { answer: &other, rows: &[Some(1)] }];
    let mut out = Vec::new();
    assert!(merge(&parts, 2, &["s"], &mut out).unwrap_err().0.contains("another form"));
    assert!(out.is_empty());
    merge(&parts, 2, &[], &mut out).unwrap();
    assert!(read(&spec(2), &out, 64, &mut Predictions::default()).is_err());
    let parts = [Part { answer: &first, rows: &[Some(0), None] }];
    assert!(merge(&parts, 2, &["s"], &mut Vec::new()).unwrap_err().0.contains("no answer"));
}

proptest! {
    /// Whatever forms two backends answer in, each row comes out as its own backend gave it.
    #[test]
    fn rows_of_two_answers_become_one(
        (first_type, second_type, first_form, second_form, mine, classes, numbers) in (
            datatype(), prop_oneof![Just("FP16"), Just("FP32"), Just("FP64")], form(), form(), vec(any::<bool>(), 1..6), 1_usize..4,
        ).prop_flat_map(|(first, second, one, two, mine, classes)| {
            let floats = matches!(first, "FP16" | "BF16" | "FP32" | "FP64");
            // Only floats stand for each other.
            let second = if floats { second } else { first };
            let cells = numbers(first, mine.len() * classes);
            (Just(first), Just(second), Just(one), Just(two), Just(mine), Just(classes), cells)
        }),
    ) {
        let rows = mine.len();
        let shape = |rows: usize| [rows as i64, classes as i64];
        // The first answers all rows, of which only some are taken: where they are not its own it says 0.
        let own: Vec<u8> = numbers.chunks(classes).zip(&mine).flat_map(|(row, &mine)| row.iter().map(move |&one| if mine { one } else { 0 })).collect();
        let rest: Vec<u8> = numbers.chunks(classes).zip(&mine).filter(|(_, mine)| !**mine).flat_map(|(row, _)| row.to_vec()).collect();
        let first = answer("s", first_type, &shape(rows), &own, first_form);
        let second = answer("s", second_type, &shape(rest.len() / classes), &rest, second_form);
        let taken: Vec<Option<u32>> = mine.iter().zip(0..).map(|(&mine, row)| mine.then_some(row)).collect();
        let others: Vec<Option<u32>> = mine.iter().zip(0..).filter(|(mine, _)| !**mine).map(|(_, row)| Some(row)).collect();
        let parts = [Part { answer: &first, rows: &taken }, Part { answer: &second, rows: &others }];
        let parts = if others.is_empty() { &parts[..1] } else { &parts[..] };
        let mut out = Vec::new();
        merge(parts, rows, &["s"], &mut out).unwrap();
        let wanted: Vec<f64> = numbers.iter().map(|&number| f64::from(number)).collect();
        prop_assert_eq!(scores(&out, classes), wanted);
    }

    #[test]
    fn any_bytes_are_taken_apart_or_refused(message: Vec<u8>, keep in vec(0_u32..4, 0..4)) {
        let mut out = Vec::new();
        if slice(&message, 3, &keep, &mut out).is_err() {
            prop_assert!(out.is_empty());
        }
        let rows: Vec<Option<u32>> = keep.iter().map(|&row| Some(row)).collect();
        let _ = merge(&[Part { answer: &message, rows: &rows }], 3, &[], &mut out);
    }

    /// Sizes are the peer's claims: a message with some bytes changed is refused, or taken apart within its own length.
    #[test]
    fn spoilt_requests_neither_panic_nor_grow(
        message in any::<bool>().prop_flat_map(|raw| encode::spoil(request(&["a", "bb", "ccc"], &[1., 2., 3., 4., 5., 6.], raw))),
    ) {
        let mut out = Vec::new();
        if slice(&message, 3, &[0, 2], &mut out).is_ok() {
            prop_assert!(out.len() <= message.len() + 64);
        }
    }
}
