//! A call that conditions are tried on, for tests and fuzzers: everything that a rule can see has a value.

use std::sync::Arc;

use super::check::MOST_LOOPED_ITEMS;
use super::*;
use crate::policy::compiled::Source;
use crate::policy::reading::Reading;
use crate::policy::request::Request;
use crate::policy::rule::{List, Lists};
use crate::policy::segment::Segments;
use crate::policy::spec::{Input, Param, PredictionSpec};
use crate::policy::{Label, Peer, Segment, Session, Stats, label_hash};

pub fn spec() -> PredictionSpec {
    PredictionSpec {
        scores: Some("p".into()),
        classes: vec!["ham".into(), "spam".into()],
        positive: Some(1),
        threshold: 0.5,
        datatype: "FP32".into(),
        ..PredictionSpec::default()
    }
}

pub fn lists() -> Lists {
    let long: Vec<Box<str>> = (0..=MOST_LOOPED_ITEMS).map(|one| one.to_string().into()).collect();
    let of = |texts: &[Box<str>]| Arc::new(List::new(texts));
    Lists::from([("trusted".into(), of(&["a@example.org".into(), "b".into()])), ("long".into(), of(&long))])
}

pub fn segments() -> Segments {
    let from = |name: &str| (Box::from(name), Source::Metadata(format!("x-{name}").into()));
    Segments::new(vec![from("device"), from("account")]).unwrap()
}

pub fn names() -> Vec<(Box<str>, Source)> {
    vec![("quantity".into(), Source::Param("count".into()))]
}

pub fn compile(text: &str, on_prediction: bool) -> Result<Condition, Vec<CelFault>> {
    let (spec, lists, segments, metadata) = (spec(), lists(), segments(), vec![("sample", "sample")]);
    let reading = Reading::sample(&spec);
    let request = Request {
        method: "/a.B/C",
        model: "m",
        id: "i",
        rows: 1,
        params: &[],
        inputs: &[],
        metadata: &metadata,
        caller: None,
        memory: None,
    };
    let predicted = on_prediction.then_some(Predicted { reading: &reading, spec: &spec, backend: "b" });
    let (session, stats, names) = (Session::default(), Stats::default(), names());
    let past = Some(Seen { session: &session, stats: &stats, names: &names, classes: &spec.classes });
    let scope = Scope { request: &request, segment: &Segment::default(), route: "r", lists: &lists, predicted, past };
    Condition::compile(text, &scope, &segments)
}

/// A call to judge conditions on.
pub fn judge(condition: &Condition) -> (Result<bool, Failed>, Result<bool, Failed>) {
    let (spec, lists, segments) = (spec(), lists(), segments());
    let metadata = vec![("x-sender", "a@example.org"), ("x-device", "phone"), ("x-empty", ""), ("x-num", "7")];
    let params = [
        ("tier", Param::Text("gold")),
        ("dry", Param::Bool(true)),
        ("count", Param::Int(3)),
        ("temperature", Param::Float(0.5)),
    ];
    let caller = Peer::new(vec!["spiffe://acme/ns/prod/sa/web".into(), "web.acme".into()]);
    let inputs = [Input { name: "email", datatype: "BYTES", shape: &[3, 1] }];
    let request = Request {
        method: "/a.B/C",
        model: "spam",
        id: "req-1",
        rows: 3,
        params: &params,
        inputs: &inputs,
        metadata: &metadata,
        caller: Some(&caller),
        memory: None,
    };
    let segment = segments.of(&request);
    let reading = Reading {
        label: Some(Label::Class(1)),
        score: 0.9,
        confidence: 0.9,
        margin: 0.8,
        entropy: 0.47,
        value: f64::NAN,
        flagged: Some(true),
    };
    let predicted = Some(Predicted { reading: &reading, spec: &spec, backend: "spam-v3" });
    let session = Session {
        calls: 5,
        answered: 4,
        fallbacks: 1,
        flagged: 2,
        repeats: 3,
        label: label_hash("spam"),
        score: 0.7,
        confidence: 0.8,
        value: 12.5,
        remembered: [3.0, 0.0, 0.0, 0.0],
    };
    let stats = Stats { calls: 300, flagged_share: 0.6, score_mean: 0.5, score_sd: 0.1, ..Stats::default() };
    let names = names();
    let past = Some(Seen { session: &session, stats: &stats, names: &names, classes: &spec.classes });
    let scope = Scope { request: &request, segment: &segment, route: "spam", lists: &lists, predicted, past };
    (condition.holds(&scope), condition.interpreted(&scope))
}

/// Any text is a condition on which both evaluators agree, or is refused with words and a place.
pub fn agree(text: &str) {
    for on_prediction in [false, true] {
        match compile(text, on_prediction) {
            Ok(condition) => {
                let (fast, interpreted) = judge(&condition);
                assert_eq!(fast, interpreted, "{text}");
            }
            Err(faults) => assert!(faults.iter().all(|fault| !fault.message.is_empty())),
        }
    }
}
