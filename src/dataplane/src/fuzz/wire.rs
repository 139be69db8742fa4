//! Frames, Open Inference Protocol messages, receipts.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::policy::{Param, PredictionSpec, Predictions};
use crate::wire::frame::{HEAD_BYTES, head, read_head};
use crate::wire::inflate::inflate as inflate_message;
use crate::wire::oip::rows::{Part, merge, slice};
use crate::wire::oip::{self, Head};
use crate::wire::receipt::{Claims, Receipt, Signer};

const MAX_BYTES: u32 = 1 << 16;
const MAX_ROWS: usize = 256;
const KEY: &[u8] = b"a key that only the fuzzer has";

/// A stream of frames reads the same however it is cut, and never more than the limit.
pub fn frame(data: &[u8]) {
    let mut rest = data;
    while let Ok(Some(found)) = read_head(rest, MAX_BYTES) {
        assert!(found.len <= MAX_BYTES);
        assert_eq!(head(found.compressed, found.len), rest[..HEAD_BYTES]);
        for short in 0..HEAD_BYTES {
            assert_eq!(read_head(&rest[..short], MAX_BYTES), Ok(None), "a head is read before it is here");
        }
        let Some(next) = rest.get(HEAD_BYTES + found.len as usize..) else { return };
        rest = next;
    }
}

/// What is inflated is never longer than the limit, whatever the peer packed.
pub fn inflate(data: &[u8]) {
    for encoding in ["gzip", "deflate", "identity", "snappy"] {
        let mut out = Vec::new();
        let done = inflate_message(encoding, data, MAX_BYTES as usize, &mut out);
        assert!(done.is_err() || out.len() <= MAX_BYTES as usize);
    }
}

/// A request's head: a prefix says nothing else than the whole, and the model that is appended is the one that counts.
pub fn request(data: &[u8]) {
    let mut addressed = data.to_vec();
    oip::append_model("another", Some("7"), &mut addressed);
    let Ok(whole) = Head::scan(data, true, usize::MAX) else {
        let _ = Head::scan(data, false, 64);
        return;
    };
    assert!(!whole.cut);
    let _ = (whole.rows(), whole.inputs().len());
    let read = Head::scan(&addressed, true, usize::MAX).expect("what was appended spoils nothing");
    assert_eq!((read.model, read.version), ("another", "7"));
    assert_eq!((read.id, &read.params, read.rows()), (whole.id, &whole.params, whole.rows()));
    let mut redacted = Vec::new();
    if oip::redact(data, &["secret"], &mut redacted).is_ok() {
        let read = Head::scan(&redacted, true, usize::MAX).expect("what was redacted is still a request");
        assert!(read.inputs().iter().all(|input| input.name != "secret"), "a redacted input is still there");
    }
}

/// A batch that was taken apart is a batch of as many rows as were kept, and never longer than it was.
pub fn rows(data: &[u8]) {
    let Some((&[rows, first, second], message)) = data.split_first_chunk::<3>() else { return };
    let keep = [u32::from(first), u32::from(second)];
    let mut sliced = Vec::new();
    if slice(message, u32::from(rows), &keep, &mut sliced).is_ok() {
        assert!(sliced.len() <= 2 * message.len() + 64, "a slice of {} bytes of {}", sliced.len(), message.len());
        let mut again = Vec::new();
        slice(&sliced, 2, &[0, 1], &mut again).expect("what was taken apart can be taken apart again");
        assert_eq!(sliced, again, "a slice of all rows is the batch itself");
    }
    let parts = [Part { answer: message, rows: &[Some(0), None] }, Part { answer: message, rows: &[None, Some(1)] }];
    let mut merged = Vec::new();
    if merge(&parts, 2, &[], &mut merged).is_ok() {
        let mut again = Vec::new();
        let whole = [Part { answer: &merged, rows: &[Some(0), Some(1)] }];
        merge(&whole, 2, &[], &mut again).expect("what was put together can be read");
        assert_eq!(merged, again);
    }
}

fn spec(kind: u8) -> PredictionSpec {
    let name = |wanted: bool, name: &str| wanted.then(|| name.into());
    PredictionSpec {
        scores: name(kind & 3 != 1, "p"),
        label: name(kind & 3 == 1, "l"),
        confidence: name(kind & 4 != 0, "c"),
        value: name(kind & 8 != 0, "v"),
        classes: vec!["ham".into(), "spam".into()],
        positive: Some(1),
        threshold: 0.5,
        datatype: "FP32".into(),
    }
}

/// A prediction is whole or not there, and the gateway's own parameters change nothing of it.
pub fn answer(data: &[u8]) {
    let Some((&kind, message)) = data.split_first() else { return };
    let spec = spec(kind);
    let mut read = Predictions::default();
    if oip::read(&spec, message, MAX_ROWS, &mut read).is_err() {
        return;
    }
    assert!(read.rows <= MAX_ROWS);
    assert_eq!(read.scores.len(), if spec.scores.is_some() { read.rows * read.columns } else { 0 });
    assert_eq!(read.labels.len(), if spec.label.is_some() { read.rows } else { 0 });
    assert_eq!(read.confidence.len(), if spec.confidence.is_some() { read.rows } else { 0 });
    assert_eq!(read.values.len(), if spec.value.is_some() { read.rows } else { 0 });
    let mut marked = message.to_vec();
    oip::append_model("asked-for", None, &mut marked);
    oip::append_param("gateway_outcome", Param::Text("model"), &mut marked);
    let mut again = Predictions::default();
    oip::read(&spec, &marked, MAX_ROWS, &mut again).expect("what was appended spoils nothing");
    // NaN is unequal to itself, so the bits are compared.
    let bits = |predictions: &Predictions| -> Vec<u64> {
        let numbers = predictions.scores.iter().chain(&predictions.confidence).chain(&predictions.values);
        numbers.map(|number| number.to_bits()).collect()
    };
    assert_eq!((again.rows, &again.labels, bits(&again)), (read.rows, &read.labels, bits(&read)));
}

/// Nobody's text is a receipt without the key; with the key, what was signed reads back and signs to the same text.
pub fn receipt(data: &[u8]) {
    let signer = Signer::new(&[KEY]);
    if let Ok(text) = std::str::from_utf8(data) {
        assert!(signer.verify(text).is_err(), "a receipt that nobody signed");
    }
    let mut body = data.to_vec();
    if let Some(key_id) = body.get_mut(1) {
        *key_id = Sha256::digest(KEY)[0];
    }
    let mac = Hmac::<Sha256>::new_from_slice(KEY).expect("any key will do").chain_update(&body).finalize();
    let tag = &mac.into_bytes()[..16];
    let text = URL_SAFE_NO_PAD.encode([&body, tag].concat());
    let Ok(Receipt { id, policy, route, backend, segment, arm, rows }) = signer.verify(&text) else { return };
    let arm = arm.as_ref().map(|(arm, propensity)| (&**arm, *propensity));
    let claims = Claims { id, policy, route: &route, backend: &backend, segment: &segment, arm, rows: &rows };
    let mut again = String::new();
    signer.sign(&claims, &mut again).expect("what was a receipt can be one again");
    assert!(signer.verify(&again).is_ok());
}
