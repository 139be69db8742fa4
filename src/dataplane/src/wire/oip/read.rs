//! Reads a route's prediction out of a `ModelInferResponse`, and nothing else of it.

use super::tensor::{Datatype, Tensor, invalid, name_of, shorten};
use super::{response, tensor};
use crate::policy::{InvalidOutput, Label, PredictionSpec, Predictions};
use crate::wire::proto::{self, Fields, Malformed, Value};

/// A label is shown in records and metrics; a longer text is no label.
pub const MAX_LABEL_BYTES: usize = 1024;

/// Reads the outputs that `spec` names from a whole answer into `out`, which is cleared first.
///
/// Numbers are given as they stand, NaN and infinities included: whether they are good is the policy's to say. At most
/// `max_rows` rows and `max_rows * classes` scores are ever held. On an error `out` holds nothing of use.
///
/// # Errors
/// An output is missing, stands twice, has another shape, datatype or length than it should, or the outputs disagree in
/// their rows.
pub fn read(spec: &PredictionSpec, answer: &[u8], max_rows: usize, out: &mut Predictions) -> Result<(), InvalidOutput> {
    out.clear();
    let wanted = [&spec.scores, &spec.label, &spec.confidence, &spec.value].map(Option::as_deref);
    let [scores, label, confidence, value] = find(wanted, answer)?;
    let mut rows = Rows { known: None, max: max_rows };
    if let Some(tensor) = scores {
        read_scores(spec, &tensor, &mut rows, out)?;
    }
    if let Some(tensor) = label {
        read_labels(spec, &tensor, &mut rows, &mut out.labels)?;
    }
    if let Some(tensor) = confidence {
        tensor.numbers(rows.column(&tensor)?, &mut out.confidence)?;
    }
    if let Some(tensor) = value {
        tensor.numbers(rows.column(&tensor)?, &mut out.values)?;
    }
    out.rows = rows.known.unwrap_or(0);
    Ok(())
}

/// The outputs of those names, each with its raw contents if the answer is raw.
fn find<'a, const N: usize>(
    wanted: [Option<&str>; N],
    answer: &'a [u8],
) -> Result<[Option<Tensor<'a>>; N], InvalidOutput> {
    let mut found: [Option<Output<'a>>; N] = [None; N];
    let mut outputs = 0;
    let mut raw = Raw::default();
    let mut fields = Fields::new(answer);
    loop {
        let before = fields.clone();
        let Some(next) = fields.next_field().map_err(malformed)? else {
            break;
        };
        match (next.number, next.value) {
            (response::OUTPUTS, Value::Bytes(message)) => {
                let name = name_of(message).map_err(malformed)?;
                for (wanted, found) in wanted.iter().zip(&mut found) {
                    if *wanted == Some(name) && found.replace(Output { name, message, index: outputs }).is_some() {
                        return Err(invalid(name, "it stands twice in the answer"));
                    }
                }
                outputs += 1;
            }
            (response::RAW, Value::Bytes(_)) => {
                raw.first.get_or_insert(before);
                raw.count += 1;
            }
            _ => {}
        }
    }
    let mut tensors = [const { None }; N];
    for ((wanted, found), tensor) in wanted.iter().zip(found).zip(&mut tensors) {
        let Some(name) = *wanted else {
            continue;
        };
        let found = found.ok_or_else(|| missing(name, answer))?;
        *tensor = Some(Tensor::parse(found.name, found.message, raw.entry(found)?)?);
    }
    Ok(tensors)
}

#[derive(Clone, Copy)]
pub(super) struct Output<'a> {
    pub name: &'a str,
    pub message: &'a [u8],
    pub index: usize,
}

/// The `raw_output_contents`: where the first stands, and how many there are.
#[derive(Default)]
pub(super) struct Raw<'a> {
    pub first: Option<Fields<'a>>,
    pub count: usize,
}

impl<'a> Raw<'a> {
    /// The entry of an output: both lists have one order. None if the answer is typed.
    pub fn entry(&self, output: Output<'a>) -> Result<Option<&'a [u8]>, InvalidOutput> {
        let Some(first) = &self.first else {
            return Ok(None);
        };
        let mut fields = first.clone();
        let mut skip = output.index;
        while let Some(next) = fields.next_field().map_err(malformed)? {
            match (next.number, next.value) {
                (response::RAW, Value::Bytes(raw)) if skip == 0 => return Ok(Some(raw)),
                (response::RAW, Value::Bytes(_)) => skip -= 1,
                _ => {}
            }
        }
        let (index, count) = (output.index, self.count);
        Err(invalid(output.name, format_args!("it is output {index}, but raw_output_contents has {count} entries")))
    }
}

/// The number of rows, on which all outputs must agree.
struct Rows {
    known: Option<usize>,
    max: usize,
}

impl Rows {
    /// The rows of a `[rows]` or `[rows, 1]` output.
    fn column(&mut self, tensor: &Tensor<'_>) -> Result<usize, InvalidOutput> {
        match *tensor.dims {
            [rows] | [rows, 1] => self.agree(rows, tensor),
            _ => Err(tensor.invalid(format_args!("shape {:?}, wanted [rows] or [rows, 1]", tensor.dims))),
        }
    }

    fn agree(&mut self, rows: i64, tensor: &Tensor<'_>) -> Result<usize, InvalidOutput> {
        let max = self.max;
        let rows = usize::try_from(rows)
            .ok()
            .filter(|rows| *rows <= max)
            .ok_or_else(|| tensor.invalid(format_args!("{rows} rows, wanted 0 to {max}")))?;
        match self.known.replace(rows) {
            Some(known) if known != rows => {
                Err(tensor.invalid(format_args!("{rows} rows, but the output before it has {known}")))
            }
            _ => Ok(rows),
        }
    }
}

fn read_scores(
    spec: &PredictionSpec,
    tensor: &Tensor<'_>,
    rows: &mut Rows,
    out: &mut Predictions,
) -> Result<(), InvalidOutput> {
    let classes = spec.classes.len();
    let (held, columns) = match *tensor.dims {
        [held] | [held, 1] if classes <= 2 => (held, 1),
        [held, columns] if usize::try_from(columns) == Ok(classes) => (held, classes),
        _ => {
            let or = if classes <= 2 { ", [rows] or [rows, 1]" } else { "" };
            let words = format_args!("shape {:?}, wanted [rows, {classes}]{or}", tensor.dims);
            return Err(tensor.invalid(words));
        }
    };
    let rows = rows.agree(held, tensor)?;
    out.columns = columns;
    tensor.numbers(rows * columns, &mut out.scores)
}

fn read_labels(
    spec: &PredictionSpec,
    tensor: &Tensor<'_>,
    rows: &mut Rows,
    labels: &mut Vec<Label>,
) -> Result<(), InvalidOutput> {
    let rows = rows.column(tensor)?;
    if tensor.datatype == Datatype::Bytes {
        return tensor.texts(rows, |text| {
            labels.push(text_label(spec, text).map_err(|words| tensor.invalid(words))?);
            Ok(())
        });
    }
    if !tensor.datatype.is_integer() {
        return Err(tensor.invalid("a float, wanted a label: BYTES, or an integer class index"));
    }
    let mut indexes = Vec::with_capacity(rows.min(1024));
    tensor.numbers(rows, &mut indexes)?;
    for index in indexes {
        labels.push(index_label(spec, index).map_err(|words| tensor.invalid(words))?);
    }
    Ok(())
}

pub(in crate::wire) fn text_label(spec: &PredictionSpec, text: &[u8]) -> Result<Label, String> {
    if let Some(class) = spec.classes.iter().position(|class| class.as_bytes() == text) {
        return u16::try_from(class).map(Label::Class).map_err(|_| format!("class {class} is beyond 65535"));
    }
    if text.len() > MAX_LABEL_BYTES {
        return Err(format!("a label of {} bytes, wanted at most {MAX_LABEL_BYTES}", text.len()));
    }
    let text = proto::text(text).map_err(|_| "a label that is not UTF-8".to_owned())?;
    Ok(Label::Text(text.into()))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked against the number of classes")]
#[expect(clippy::cast_precision_loss, reason = "classes are few")]
pub(in crate::wire) fn index_label(spec: &PredictionSpec, index: f64) -> Result<Label, String> {
    if spec.classes.is_empty() {
        return Ok(Label::Text(index.to_string().into()));
    }
    if index >= 0.0 && index < spec.classes.len().min(usize::from(u16::MAX)) as f64 {
        return Ok(Label::Class(index as u16));
    }
    Err(format!("class index {index}, wanted 0 to {}", spec.classes.len() - 1))
}

pub(super) fn malformed(fault: impl Into<Malformed>) -> InvalidOutput {
    let words = format!("the answer is no ModelInferResponse: {}", fault.into());
    InvalidOutput(words.into())
}

/// Which output is missing, and which are there (the first few).
pub(super) fn missing(wanted: &str, answer: &[u8]) -> InvalidOutput {
    let mut there = String::new();
    let mut fields = Fields::new(answer);
    let mut shown = 0;
    while let Ok(Some(next)) = fields.next_field() {
        let (response::OUTPUTS, Value::Bytes(message)) = (next.number, next.value) else {
            continue;
        };
        if shown == 8 {
            there.push_str(", ...");
            break;
        }
        there.push_str(if shown == 0 { "" } else { ", " });
        there.push_str(shorten(tensor::name_of(message).unwrap_or("?")));
        shown += 1;
    }
    if shown == 0 {
        there.push_str("none");
    }
    invalid(wanted, format_args!("missing; the answer's outputs: {there}"))
}
