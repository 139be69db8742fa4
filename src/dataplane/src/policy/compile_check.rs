//! What a route demands of an answer.

use super::compiled::Check;
use super::document::Node;
use super::spec::{OutputCheck, OutputsCheck, PredictionSpec};

/// Each is looked at in every answer.
const MOST_OUTPUTS: usize = 64;
const MOST_DIMS: usize = 8;
const DATATYPES: [&str; 14] = [
    "BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "FP16", "BF16", "FP32", "FP64",
    "BYTES",
];

pub(super) fn check(node: &Node, spec: Option<&PredictionSpec>) -> Check {
    const FIELDS: [&str; 7] = ["range", "sum", "sum_tolerance", "labels", "outputs", "unknown_outputs", "rows"];
    if node.is_null() || !node.object(&FIELDS) {
        return Check::default();
    }
    let (sum, labels) = (node.field("sum"), node.field("labels"));
    let rows = node.field("rows");
    let same_rows = match rows.text() {
        None => false,
        Some("same") => true,
        Some(_) => {
            rows.fault("wanted \"same\"");
            false
        }
    };
    let check = Check {
        range: range(&node.field("range")),
        sum: sum.number(),
        sum_tolerance: node.field("sum_tolerance").number().unwrap_or(0.0),
        labels: (!labels.is_null()).then(|| labels.texts()),
        same_rows,
        outputs: outputs(node, same_rows).map(Box::new),
    };
    let checks = check.range.is_some() || check.sum.is_some() || check.labels.is_some() || check.outputs.is_some();
    if spec.is_none() && (checks || same_rows) {
        node.fault("the route reads no prediction that could be checked; give it a `prediction`");
    }
    check
}

fn range(node: &Node) -> Option<(f64, f64)> {
    let ends: Vec<f64> = node.items().iter().map(Node::need_number).collect();
    match *ends {
        [low, high] if low <= high => Some((low, high)),
        [] if node.is_null() => None,
        _ => {
            node.fault("wanted two numbers, the lower one first");
            None
        }
    }
}

fn outputs(node: &Node, same_rows: bool) -> Option<OutputsCheck> {
    let (field, unknown) = (node.field("outputs"), node.field("unknown_outputs"));
    let only_known = match unknown.text() {
        None | Some("allow") => false,
        Some("miss") => true,
        Some(_) => {
            unknown.fault("wanted \"allow\" or \"miss\"");
            false
        }
    };
    let items = field.items();
    if items.len() > MOST_OUTPUTS {
        field.fault(format!("found {} outputs, at most {MOST_OUTPUTS} are possible", items.len()));
    }
    let mut outputs: Vec<OutputCheck> = Vec::new();
    for item in items.iter().take(MOST_OUTPUTS) {
        if let Some(output) = output(item) {
            if outputs.iter().any(|known| known.name == output.name) {
                item.field("name").fault(format!("the output {:?} stands there twice", output.name));
            }
            outputs.push(output);
        }
    }
    (only_known || !outputs.is_empty()).then_some(OutputsCheck { outputs, only_known, same_rows })
}

fn output(node: &Node) -> Option<OutputCheck> {
    if !node.object(&["name", "datatype", "shape", "range", "labels", "optional"]) {
        return None;
    }
    let (kind, shape, labels) = (node.field("datatype"), node.field("shape"), node.field("labels"));
    let datatype = kind.boxed();
    if let Some(name) = datatype.as_deref().filter(|name| !DATATYPES.contains(name)) {
        kind.fault(format!("found {name:?}, wanted one of {}", DATATYPES.join(", ")));
    }
    #[allow(clippy::cast_possible_truncation)] // whole, and checked
    let dims: Vec<i64> = shape.items().iter().map(|item| item.need_number() as i64).collect();
    let whole = shape.items().iter().all(|item| item.number().is_some_and(|size| size >= -1.0 && size.fract() == 0.0));
    if !whole || dims.len() > MOST_DIMS {
        shape.fault(format!("wanted at most {MOST_DIMS} whole numbers, -1 for any size"));
    }
    let range = range(&node.field("range"));
    let bytes = datatype.as_deref() == Some("BYTES");
    if !labels.is_null() && (range.is_some() || (datatype.is_some() && !bytes)) {
        labels.fault("labels are texts, of an output of BYTES");
    }
    if range.is_some() && bytes {
        node.field("range").fault("a range is of numbers, and BYTES are none");
    }
    Some(OutputCheck {
        name: node.field("name").need_text().into(),
        datatype,
        shape: (!shape.is_null()).then_some(dims),
        range,
        labels: (!labels.is_null()).then(|| labels.texts()),
        optional: node.field("optional").flag(),
    })
}
