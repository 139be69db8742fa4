use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

fn row() -> impl Strategy<Value = Row> {
    let class = option::of(0..u8::MAX);
    (-1.0_f32..1.0, option::of(any::<bool>()), any::<bool>(), 0_u8..8, class, 0.0_f32..1.0).prop_map(
        |(score, flagged, sampled, outcome, class, review_pi)| Row {
            score,
            flagged,
            sampled,
            outcome,
            class,
            review_pi,
        },
    )
}

fn receipt() -> impl Strategy<Value = Receipt> {
    let arm = option::of(("\\PC{0,60}", 0.0_f32..1.0));
    (any::<[u8; 16]>(), any::<u32>(), "\\PC{0,60}", "\\PC{0,60}", "[a-z=,]{0,64}", arm, vec(row(), 0..5)).prop_map(
        |(id, policy, route, backend, segment, arm, rows)| Receipt { id, policy, route, backend, segment, arm, rows },
    )
}

fn sign(signer: &Signer, receipt: &Receipt) -> String {
    let Receipt { id, policy, route, backend, segment, arm, rows } = receipt;
    let arm = arm.as_ref().map(|(arm, propensity)| (&**arm, *propensity));
    let claims = Claims { id: *id, policy: *policy, route, backend, segment, arm, rows };
    let mut text = String::new();
    signer.sign(&claims, &mut text).unwrap();
    text
}

fn plain() -> Receipt {
    let row = Row { score: 0.5, flagged: Some(true), sampled: false, outcome: 0, class: Some(1), review_pi: 0.25 };
    let (route, backend, segment) = ("spam".into(), "spam-v3".into(), String::new());
    Receipt { id: [1; 16], policy: 7, route, backend, segment, arm: None, rows: vec![row] }
}

proptest! {
    #[test]
    fn what_was_signed_is_what_is_verified(receipt in receipt(), key: Vec<u8>, newer: Vec<u8>) {
        let text = sign(&Signer::new(&[&key]), &receipt);
        prop_assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
        // Keys are rotated: one that no longer signs still verifies.
        prop_assert_eq!(Signer::new(&[&newer, &key]).verify(&text), Ok(receipt));
    }

    #[test]
    fn no_bit_of_a_receipt_can_be_changed(receipt in receipt(), at: proptest::sample::Index, bit in 0_u8..8) {
        let signer = Signer::new(&[b"key"]);
        let mut bytes = URL_SAFE_NO_PAD.decode(sign(&signer, &receipt)).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(signer.verify(&URL_SAFE_NO_PAD.encode(&bytes)).is_err());
    }

    #[test]
    fn any_text_is_refused_without_a_panic(text in "\\PC{0,200}", bytes in vec(any::<u8>(), 0..200)) {
        let signer = Signer::new(&[b"key"]);
        prop_assert!(signer.verify(&text).is_err());
        prop_assert!(signer.verify(&URL_SAFE_NO_PAD.encode(bytes)).is_err());
    }
}

#[test]
fn a_foreign_a_forged_and_a_cut_receipt_are_told_apart() {
    let ours = Signer::new(&[b"our key"]);
    let text = sign(&ours, &plain());
    assert_eq!(Signer::new(&[b"their key"]).verify(&text), Err(ReceiptFault::Foreign));
    let mut bytes = URL_SAFE_NO_PAD.decode(&text).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    assert_eq!(ours.verify(&URL_SAFE_NO_PAD.encode(&bytes)), Err(ReceiptFault::Forged));
    assert!(matches!(ours.verify(&text[..text.len() - 4]), Err(ReceiptFault::Malformed(_))));
    assert!(matches!(ours.verify(&format!("{text}==")), Err(ReceiptFault::Malformed(_))));
}

#[test]
fn a_receipt_of_one_row_takes_less_than_100_bytes() {
    let text = sign(&Signer::new(&[b"key"]), &plain());
    assert!(text.len() < 100, "{}", text.len());
}

#[test]
fn a_receipt_covers_256_rows_and_verifies_at_its_longest() {
    let signer = Signer::new(&[b"key"]);
    let long = "n".repeat(255);
    let rows = vec![plain().rows[0]; 1000];
    let segment = "s".repeat(64);
    let text = sign(&signer, &Receipt { route: long.clone(), backend: long, segment, rows, ..plain() });
    assert_eq!(signer.verify(&text).unwrap().rows.len(), MAX_ROWS);
}

#[test]
fn what_does_not_fit_is_left_out_whole_or_refused() {
    let signer = Signer::new(&[b"key"]);
    let text = sign(&signer, &Receipt { segment: "s".repeat(65), ..plain() });
    assert_eq!(signer.verify(&text).unwrap().segment, "");
    let long = "n".repeat(256);
    let mut out = String::new();
    let claims = Claims { id: [0; 16], policy: 0, route: &long, backend: "", segment: "", arm: None, rows: &[] };
    assert!(signer.sign(&claims, &mut out).is_err());
    assert!(Signer::new::<&[u8]>(&[]).sign(&Claims { route: "", ..claims }, &mut out).is_err());
    assert_eq!(out, "");
}

#[test]
fn a_key_is_never_shown() {
    assert_eq!(format!("{:?}", Signer::new(&[b"secret"])), "Signer { keys: 1 }");
}
