//! What the wire room costs a call, in nanoseconds: medians of a thousand rounds, each long enough for the
//! clock and short enough not to be interrupted.
//!
//! `cargo bench --bench wire`. Criterion would bring forty crates for seven lines of output.

use std::hint::black_box;
use std::time::Instant;

use _dataplane::policy::{Param, PredictionSpec, Predictions, StaticAnswer};
use _dataplane::wire::oip::{Head, append_model, append_param, read, redact, static_answer};
use _dataplane::wire::proto::{put_bytes, put_varint};
use _dataplane::wire::receipt::{Claims, Row, Signer};

const ROUNDS: usize = 1001;
const ROUND_NS: u128 = 100_000;

fn main() {
    let small = request(37, true);
    let large = request(262_144, true);
    println!("requests of {} and {} bytes", small.len(), large.len());
    measure("head of a small request", || drop(black_box(Head::scan(black_box(&small), true, 65536))));
    measure("head of a 1 MB request, whole", || drop(black_box(Head::scan(black_box(&large), true, 65536))));
    measure("head of a 1 MB request, its first 64 KiB", || {
        drop(black_box(Head::scan(black_box(&large[..65536]), false, 65536)));
    });

    let spec = PredictionSpec {
        scores: Some("probabilities".into()),
        classes: vec!["ham".into(), "spam".into()],
        positive: Some(1),
        threshold: 0.5,
        datatype: "FP32".into(),
        ..PredictionSpec::default()
    };
    let mut out = Predictions::default();
    for (name, rows, raw) in
        [("1 row", 1, true), ("1 row, typed", 1, false), ("64 rows", 64, true), ("64 rows, typed", 64, false)]
    {
        let answer = answer(&spec, rows, raw);
        measure(&format!("prediction of {name} x 2 classes"), || {
            read(&spec, black_box(&answer), 65536, &mut out).unwrap()
        });
    }
    let mut beside = Vec::new();
    put_bytes(5, &tensor("embedding", "FP32", &[1, 262_144]), &mut beside);
    beside.extend(answer(&spec, 1, true));
    put_raw_first(&mut beside);
    measure("prediction of 1 row beside a 1 MB tensor", || read(&spec, black_box(&beside), 65536, &mut out).unwrap());

    let mut bytes = Vec::new();
    measure("appended model name and version", || {
        bytes.clear();
        append_model(black_box("spam_lite"), Some("3"), &mut bytes);
    });
    measure("appended response parameters (7)", || {
        bytes.clear();
        for _ in 0..7 {
            append_param(black_box("gateway_decision_id"), Param::Text("019300000000700080000000"), &mut bytes);
        }
    });
    let said = StaticAnswer { score: Some(0.0), ..StaticAnswer::default() };
    measure("static answer, 1 row", || {
        bytes.clear();
        let head = Head::scan(black_box(&small), true, 65536).unwrap();
        static_answer(&spec, std::slice::from_ref(&said), &head, 65536, &mut bytes).unwrap();
    });
    measure("redaction of a small request", || {
        bytes.clear();
        redact(black_box(&small), &["email"], &mut bytes).unwrap();
    });

    let signer = Signer::new(&[[7; 32]]);
    let row = Row { score: 0.9, flagged: Some(true), sampled: false, outcome: 0, class: Some(1), review_pi: 0.05 };
    let mut receipt = String::new();
    for (name, rows) in [("1 row", 1), ("64 rows", 64)] {
        let rows = vec![row; rows];
        let claims = Claims {
            id: [9; 16],
            policy: 7,
            route: "spam",
            backend: "spam-v3",
            segment: "device=phone",
            arm: None,
            rows: &rows,
        };
        measure(&format!("receipt of {name}, signed"), || {
            receipt.clear();
            signer.sign(black_box(&claims), &mut receipt).unwrap();
        });
        measure(&format!("receipt of {name}, verified"), || drop(signer.verify(black_box(&receipt)).unwrap()));
    }
}

fn measure(name: &str, mut work: impl FnMut()) {
    let mut times = 1_u32;
    let mut round = |times: u32| {
        let start = Instant::now();
        (0..times).for_each(|_| work());
        start.elapsed().as_nanos()
    };
    while round(times) < ROUND_NS {
        times *= 2;
    }
    let mut rounds: Vec<_> = (0..ROUNDS).map(|_| round(times)).collect();
    rounds.sort_unstable();
    let each = |round: u128| round as f64 / f64::from(times);
    let (median, best) = (each(rounds[ROUNDS / 2]), each(rounds[0]));
    println!("{name:45} {median:>8.0} ns, at best {best:.0}");
}

fn tensor(name: &str, datatype: &str, shape: &[u64]) -> Vec<u8> {
    let mut dims = Vec::new();
    shape.iter().for_each(|&dim| put_varint(dim, &mut dims));
    let mut tensor = Vec::new();
    put_bytes(1, name.as_bytes(), &mut tensor);
    put_bytes(2, datatype.as_bytes(), &mut tensor);
    put_bytes(3, &dims, &mut tensor);
    tensor
}

/// A request with three parameters and two inputs, one of `floats` FP32 numbers.
fn request(floats: u64, raw: bool) -> Vec<u8> {
    let mut message = Vec::new();
    append_model("spam", Some("3"), &mut message);
    put_bytes(3, b"3f1c9a40-7d1e-4c57-9a63-2f0f3a3b9d10", &mut message);
    append_param("device", Param::Text("phone"), &mut message);
    append_param("tries", Param::Int(3), &mut message);
    append_param("new", Param::Bool(true), &mut message);
    put_bytes(5, &tensor("features", "FP32", &[1, floats]), &mut message);
    put_bytes(5, &tensor("email", "BYTES", &[1]), &mut message);
    if raw {
        put_bytes(7, &vec![0; 4 * usize::try_from(floats).unwrap()], &mut message);
        put_bytes(7, b"\x0d\0\0\0a@example.org", &mut message);
    }
    message
}

fn answer(spec: &PredictionSpec, rows: u64, raw: bool) -> Vec<u8> {
    let mut asked = Vec::new();
    put_bytes(5, &tensor("x", "FP32", &[rows]), &mut asked);
    if raw {
        put_bytes(7, b"", &mut asked);
    }
    let head = Head::scan(&asked, true, usize::MAX).unwrap();
    let said = StaticAnswer { score: Some(0.25), ..StaticAnswer::default() };
    let mut message = Vec::new();
    static_answer(spec, std::slice::from_ref(&said), &head, 65536, &mut message).unwrap();
    message
}

/// Puts the large tensor's raw contents before the small one's, where its place in the list of outputs has them.
fn put_raw_first(message: &mut Vec<u8>) {
    let own: [u8; 10] = *message.last_chunk().unwrap();
    message.truncate(message.len() - own.len());
    put_bytes(6, &vec![0; 4 * 262_144], message);
    message.extend(own);
}
