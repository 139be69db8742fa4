//! Messages of services that a descriptor describes.

use std::sync::LazyLock;

use crate::policy::{Policy, Predictions};
use crate::wire::descriptor::{Head, model_of, read, redact};

const MAX_ROWS: usize = 64;
const HEAD_BYTES: usize = 96;

/// `examples/settings/any-service.yaml` as a policy document; `make fuzz-seeds` writes it.
static POLICY: LazyLock<Policy> =
    LazyLock::new(|| Policy::compile(include_str!("described.json")).expect("the example compiles"));

/// Requests and answers of every described route.
pub fn described(data: &[u8]) {
    for route in POLICY.routes() {
        let described = route.described.as_deref().expect("the routes of the example are described");
        let spec = route.prediction.as_ref().expect("the routes of the example have a prediction");
        let mut out = Predictions::default();
        if read(described, spec, data, MAX_ROWS, &mut out).is_ok() {
            assert!(out.rows <= MAX_ROWS);
            assert!(out.scores.len() == out.rows * out.columns && out.columns <= spec.classes.len());
            assert!(out.labels.len() == out.rows || spec.label.is_none());
        }
        let mut kept = Vec::new();
        if redact(&described.cuts, data, &mut kept).is_ok() {
            assert!(kept.len() <= data.len(), "what is cut out of {data:?} makes it longer");
            let mut again = Vec::new();
            assert!(redact(&described.cuts, &kept, &mut again).is_ok());
            assert_eq!(again, kept, "what was cut out is gone");
        }
        for whole in [true, false] {
            if let Ok(head) = Head::scan(described, data, whole, HEAD_BYTES) {
                assert!(head.params.len() <= described.asking.params.len());
                assert!(head.cut || data.len() <= HEAD_BYTES);
            }
        }
    }
    for path in ["/scoring.Scorer/Score", "/tensorflow.serving.PredictionService/Predict"] {
        let method = POLICY.described(path).expect("the methods of the example are described");
        let _ = model_of(method, data, true, HEAD_BYTES);
    }
}
