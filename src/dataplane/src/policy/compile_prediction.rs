//! What a route reads out of an answer, and what it demands of it.

use super::compiled::{Backend, Confidence, Measure};
use super::document::Node;
use super::segment::Segments;
use super::spec::PredictionSpec;

/// An index of a class takes two bytes, one in a receipt.
const MOST_CLASSES: usize = 4096;
const DATATYPES: [&str; 4] = ["FP16", "BF16", "FP32", "FP64"];

/// Which outputs hold the prediction. The output that a confidence is measured by (`output:<name>`) is read as well.
pub(super) fn spec(node: &Node, confidence: &Node) -> Option<PredictionSpec> {
    if node.is_null() {
        return None;
    }
    if !node.object(&["scores", "label", "confidence", "value", "classes", "positive", "threshold", "datatype"]) {
        return None;
    }
    let classes = node.field("classes").texts();
    if classes.len() > MOST_CLASSES {
        node.field("classes").fault(format!("found {} classes, at most {MOST_CLASSES} are possible", classes.len()));
    }
    for (index, class) in classes.iter().enumerate().take(MOST_CLASSES) {
        if classes[..index].contains(class) {
            node.field("classes").fault(format!("the class {class:?} stands there twice"));
        }
    }
    let positive = node.field("positive");
    let positive = positive.text().and_then(|name| {
        let found = classes.iter().position(|class| &**class == name);
        if found.is_none() {
            positive.fault(format!("{name:?} is not among the classes"));
        }
        u16::try_from(found?).ok()
    });
    let datatype = node.field("datatype");
    let name = datatype.need_text();
    if !DATATYPES.contains(&name) {
        datatype.fault(format!("found {name:?}, wanted one of {}", DATATYPES.join(", ")));
    }
    let mut spec = PredictionSpec {
        scores: node.field("scores").boxed(),
        label: node.field("label").boxed(),
        confidence: node.field("confidence").boxed(),
        value: node.field("value").boxed(),
        positive,
        threshold: node.field("threshold").need_number(),
        datatype: name.into(),
        classes,
    };
    if spec.scores.is_none() && spec.label.is_none() && spec.value.is_none() {
        node.fault("wanted at least one of `scores`, `label` and `value`");
    }
    if spec.scores.is_some() && spec.classes.len() < 2 {
        node.field("classes").fault("scores need at least two classes");
    }
    measured_output(&mut spec, &confidence.field("measure"));
    Some(spec)
}

fn measured_output(spec: &mut PredictionSpec, measure: &Node) {
    let Some(output) = measure.text().and_then(|text| text.strip_prefix("output:")) else { return };
    match &spec.confidence {
        None => spec.confidence = Some(output.into()),
        Some(known) if &**known == output => {}
        Some(known) => {
            measure.fault(format!("found the output {output:?}, but the prediction's confidence is {known:?}"));
        }
    }
}

pub(super) fn confidence(node: &Node, spec: Option<&PredictionSpec>, segments: &Segments) -> Option<Confidence> {
    if node.is_null() || !node.object(&["measure", "floor", "per_label", "per_segment"]) {
        return None;
    }
    let Some(spec) = spec else {
        node.fault("the route reads no prediction that could be sure; give it a `prediction`");
        return None;
    };
    let field = node.field("measure");
    let measure = match field.need_text() {
        "max_probability" => Measure::MaxProbability,
        "margin" => Measure::Margin,
        "entropy" => Measure::Entropy,
        text if text.strip_prefix("output:").is_some_and(|name| !name.is_empty()) => Measure::Output,
        _ => {
            field.fault("wanted \"max_probability\", \"margin\", \"entropy\" or \"output:<name>\"");
            return None;
        }
    };
    if measure != Measure::Output && spec.scores.is_none() {
        field.fault("this is worked out from scores, which the prediction has none of; use \"output:<name>\"");
    }
    let mut confidence = Confidence {
        measure,
        floor: node.field("floor").number(),
        per_class: Vec::new(),
        per_text: Vec::new(),
        per_segment: Vec::new(),
    };
    for (label, floor) in node.field("per_label").entries() {
        match spec.classes.iter().position(|class| &**class == label) {
            Some(class) => confidence.per_class.push((u16::try_from(class).unwrap_or(u16::MAX), floor.need_number())),
            None if spec.classes.is_empty() => confidence.per_text.push((label.into(), floor.need_number())),
            None => floor.fault(format!("{label:?} is not among the classes")),
        }
    }
    for (key, floor) in node.field("per_segment").entries() {
        let parts = key.split_once('=').filter(|(name, _)| segments.names().any(|known| known == *name));
        match parts {
            Some((name, value)) => confidence.per_segment.push((name.into(), value.into(), floor.need_number())),
            None => floor.fault(format!("found {key:?}, wanted \"<segment>=<value>\" of a segment in `identity`")),
        }
    }
    Some(confidence)
}

/// Notes where a static answer cannot take the form of the route's prediction.
pub(super) fn answer_fits(node: &Node, backend: &Backend, spec: Option<&PredictionSpec>) {
    if backend.as_people().is_some() && spec.is_none_or(|spec| spec.value.is_some()) {
        node.fault(format!(
            "people ({:?}) answer with a label in the form of the route's `prediction`; this route has no such form",
            backend.name
        ));
    }
    let Some(answer) = backend.as_static() else { return };
    let Some(spec) = spec else {
        node.fault(format!(
            "the static answer {:?} takes its form from the route's `prediction`; give it one",
            backend.name
        ));
        return;
    };
    let class = answer.label.as_deref().and_then(|label| spec.classes.iter().position(|class| &**class == label));
    if let Some(label) = &answer.label
        && class.is_none()
        && !spec.classes.is_empty()
    {
        node.fault(format!("the label {label:?} of the static answer {:?} is not among the classes", backend.name));
    }
    if let Some(scores) = &answer.scores
        && scores.len() != spec.classes.len()
    {
        node.fault(format!(
            "the static answer {:?} has {} scores for {} classes",
            backend.name,
            scores.len(),
            spec.classes.len()
        ));
    }
    let from_score = answer.score.is_some() && spec.positive.is_some() && spec.classes.len() == 2;
    if spec.scores.is_some() && answer.scores.is_none() && class.is_none() && !from_score {
        node.fault(format!(
            "the static answer {:?} needs `scores`, a `label`, or a `score` of `positive`",
            backend.name
        ));
    }
    if spec.scores.is_none() && spec.label.is_some() && answer.label.is_none() {
        node.fault(format!("the static answer {:?} needs a `label`", backend.name));
    }
    if spec.value.is_some() && answer.value.is_none() {
        node.fault(format!("the static answer {:?} needs a `value`", backend.name));
    }
}
