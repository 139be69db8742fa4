//! Answers that need no model, in the form of the route's prediction: the fields that it reads, and nothing else.

use std::ops::Range;

use crate::policy::descriptor::{Form, FormNode, Key, Kind, Number, Put, Take, What};
use crate::policy::{PredictionSpec, StaticAnswer};
use crate::wire::oip::answer::{NoAnswer, label, put_raw, scores};
use crate::wire::oip::tensor::Datatype;
use crate::wire::proto::{put_bytes, put_number, put_varint};

use super::scalar::unzigzag;
use super::tensor;

/// Appends an answer of `rows` rows. `answers` are as many, or one that stands for all.
///
/// # Errors
/// [`NoAnswer`]; nothing was appended.
pub fn static_answer(
    form: &[FormNode],
    spec: &PredictionSpec,
    answers: &[StaticAnswer],
    rows: u32,
    max_rows: u32,
    out: &mut Vec<u8>,
) -> Result<(), NoAnswer> {
    if rows > max_rows {
        return Err(NoAnswer::TooManyRows { rows, max: max_rows });
    }
    let datatype = Datatype::parse(&spec.datatype)
        .filter(|datatype| tensor::dtype(*datatype).is_some())
        .ok_or_else(|| NoAnswer::Datatype(spec.datatype.clone()))?;
    if answers.len() != 1 && answers.len() != rows as usize {
        return Err(NoAnswer::OtherRows { rows, answers: answers.len() });
    }
    let scores: Vec<Option<Vec<f64>>> = answers.iter().map(|answer| scores(spec, answer)).collect();
    let writer = Writer { spec, answers, scores: &scores, datatype };
    let start = out.len();
    let written = writer.nodes(form, &(0..rows as usize), out);
    if written.is_err() {
        out.truncate(start);
    }
    written
}

/// Which of the answer's rows stand within a message.
type Rows = Range<usize>;

struct Writer<'s> {
    spec: &'s PredictionSpec,
    answers: &'s [StaticAnswer],
    /// Of each answer.
    scores: &'s [Option<Vec<f64>>],
    datatype: Datatype,
}

impl Writer<'_> {
    fn nodes(&self, nodes: &[FormNode], rows: &Rows, out: &mut Vec<u8>) -> Result<(), NoAnswer> {
        nodes.iter().try_for_each(|node| self.node(node, rows, out))
    }

    fn node(&self, node: &FormNode, rows: &Rows, out: &mut Vec<u8>) -> Result<(), NoAnswer> {
        for _ in 0..node.pad {
            self.empty(node, out);
        }
        if node.take != Take::Each {
            return self.once(node, rows, out);
        }
        if self.answers.len() == 1 && !rows.is_empty() {
            let before = out.len();
            self.once(node, &(rows.start..rows.start + 1), out)?;
            let once = out.len() - before;
            (1..rows.len()).for_each(|_| out.extend_from_within(before..before + once));
            return Ok(());
        }
        rows.clone().try_for_each(|row| self.once(node, &(row..row + 1), out))
    }

    fn once(&self, node: &FormNode, rows: &Rows, out: &mut Vec<u8>) -> Result<(), NoAnswer> {
        let inner = match &node.inner {
            Form::Message(inner) => inner,
            Form::Value(put) => return self.value(node, put, rows, out),
        };
        let mut message = Vec::new();
        self.nodes(inner, rows, &mut message)?;
        put_field(node, &message, out);
        Ok(())
    }

    /// The answers of these rows, each with its scores.
    fn each(&self, rows: &Rows) -> impl Iterator<Item = (&StaticAnswer, Option<&[f64]>)> {
        let at = |row| if self.answers.len() == 1 { 0 } else { row };
        rows.clone().filter_map(move |row| Some((self.answers.get(at(row))?, self.scores.get(at(row))?.as_deref())))
    }

    /// An element that nobody reads, in front of one that somebody reads.
    fn empty(&self, node: &FormNode, out: &mut Vec<u8>) {
        match &node.inner {
            Form::Value(Put { kind: Kind::Number(number), .. }) => put_scalar(node.field, *number, 0.0, out),
            Form::Value(Put { kind: Kind::Enum(_), .. }) => put_number(node.field, 0, out),
            Form::Value(_) | Form::Message(_) => put_bytes(node.field, &[], out),
        }
    }

    fn value(&self, node: &FormNode, put: &Put, rows: &Rows, out: &mut Vec<u8>) -> Result<(), NoAnswer> {
        // Where a message has one value for all of its rows, it is the first one's.
        let mut each = self.each(rows);
        match put.what {
            What::Label => {
                let label = |(answer, scores)| label(self.spec, answer, scores).ok_or(NoAnswer::Lacks("label"));
                let labels: Vec<&str> = each.map(label).collect::<Result<_, _>>()?;
                self.labels(node, &put.kind, &labels, out);
            }
            What::Scores => {
                let scores: Vec<&[f64]> =
                    each.map(|(_, scores)| scores.ok_or(NoAnswer::Lacks("score"))).collect::<Result<_, _>>()?;
                self.scores(node, &put.kind, &scores, out);
            }
            What::Confidence => {
                // What says no score is said without doubt.
                let sure = |(_, scores): (_, Option<&[f64]>)| {
                    scores.into_iter().flatten().copied().reduce(f64::max).unwrap_or(1.0)
                };
                let confidence: Vec<f64> = each.map(sure).collect();
                self.numbers(node, &put.kind, &confidence, out);
            }
            What::Value => {
                let values = each.try_fold(Vec::new(), |mut values, (answer, _)| {
                    values.push(answer.value.ok_or(NoAnswer::Lacks("value"))?);
                    Ok(values)
                })?;
                self.numbers(node, &put.kind, &values, out);
            }
        }
        Ok(())
    }

    fn scores(&self, node: &FormNode, kind: &Kind, rows: &[&[f64]], out: &mut Vec<u8>) {
        let cells = |put: &dyn Fn(f64, &mut Vec<u8>)| {
            let mut cells = Vec::new();
            rows.iter().copied().flatten().for_each(|score| put(*score, &mut cells));
            cells
        };
        match (kind, &node.take) {
            (Kind::Tensor, _) => {
                let columns = rows.first().map_or(self.spec.classes.len(), |row| row.len());
                let dims = [rows.len(), columns];
                let numbers: Vec<f64> = rows.iter().copied().flatten().copied().collect();
                self.tensor(node, if columns > 1 { &dims } else { &dims[..1] }, &numbers, out);
            }
            (Kind::Bytes, _) => put_field(node, &cells(&|score, cells| put_raw(self.datatype, score, cells)), out),
            (Kind::Number(number), Take::All) => {
                put_bytes(node.field, &cells(&|score, cells| put_cell(*number, score, cells)), out);
            }
            (Kind::Number(number), Take::ByClass) => {
                let first = rows.first().copied().unwrap_or_default();
                for (class, score) in self.spec.classes.iter().zip(first) {
                    let key = Key::Text(class.clone());
                    put_entry(node.field, &key, |entry| put_scalar(2, *number, *score, entry), out);
                }
            }
            _ => {
                let positive: Vec<f64> = rows.iter().map(|scores| self.positive(scores)).collect();
                self.numbers(node, kind, &positive, out);
            }
        }
    }

    /// The score of `positive`, or of the last class.
    fn positive(&self, scores: &[f64]) -> f64 {
        let last = scores.len().saturating_sub(1);
        let at = if scores.len() == 1 { 0 } else { self.spec.positive.map_or(last, usize::from) };
        scores.get(at).copied().unwrap_or(0.0)
    }

    fn numbers(&self, node: &FormNode, kind: &Kind, rows: &[f64], out: &mut Vec<u8>) {
        let first = rows.first().copied().unwrap_or(0.0);
        match (kind, &node.take) {
            (Kind::Tensor, _) => self.tensor(node, &[rows.len()], rows, out),
            (Kind::Number(kind), Take::Key(key)) => {
                put_entry(node.field, key, |entry| put_scalar(2, *kind, first, entry), out);
            }
            (Kind::Number(kind), _) => put_scalar(node.field, *kind, first, out),
            _ => {}
        }
    }

    fn tensor(&self, node: &FormNode, dims: &[usize], numbers: &[f64], out: &mut Vec<u8>) {
        let Some((dtype, field)) = tensor::dtype(self.datatype) else { return };
        let mut tensor = Vec::new();
        tensor::put_head(dtype, dims, &mut tensor);
        let mut cells = Vec::new();
        for number in numbers {
            match self.datatype {
                Datatype::Fp16 => put_varint(u64::from(half::f16::from_f64(*number).to_bits()), &mut cells),
                Datatype::Bf16 => put_varint(u64::from(half::bf16::from_f64(*number).to_bits()), &mut cells),
                datatype => put_raw(datatype, *number, &mut cells),
            }
        }
        put_bytes(field, &cells, &mut tensor);
        put_field(node, &tensor, out);
    }

    fn labels(&self, node: &FormNode, kind: &Kind, rows: &[&str], out: &mut Vec<u8>) {
        let first = rows.first().copied().unwrap_or("");
        match kind {
            Kind::Tensor => {
                let Some((dtype, field)) = tensor::dtype(Datatype::Bytes) else { return };
                let mut tensor = Vec::new();
                tensor::put_head(dtype, &[rows.len()], &mut tensor);
                rows.iter().for_each(|label| put_bytes(field, label.as_bytes(), &mut tensor));
                put_field(node, &tensor, out);
            }
            Kind::Enum(names) => {
                let number = names.iter().find(|(_, name)| **name == *first).map_or(0, |(number, _)| *number);
                let bits = i64::from(number).cast_unsigned();
                match &node.take {
                    Take::Key(key) => put_entry(node.field, key, |entry| put_number(2, bits, entry), out),
                    _ => put_number(node.field, bits, out),
                }
            }
            Kind::Number(_) => {
                let class = self.spec.classes.iter().position(|class| **class == *first).unwrap_or(0);
                #[expect(clippy::cast_precision_loss, reason = "classes are few")]
                self.numbers(node, kind, &[class as f64], out);
            }
            _ => put_field(node, first.as_bytes(), out),
        }
    }
}

/// A field of bytes, or an entry of a map with them.
fn put_field(node: &FormNode, bytes: &[u8], out: &mut Vec<u8>) {
    match &node.take {
        Take::Key(key) => put_entry(node.field, key, |entry| put_bytes(2, bytes, entry), out),
        _ => put_bytes(node.field, bytes, out),
    }
}

fn put_entry(field: u32, key: &Key, value: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
    let mut entry = Vec::new();
    match key {
        Key::Text(text) => put_bytes(1, text.as_bytes(), &mut entry),
        #[expect(clippy::cast_precision_loss, reason = "keys that somebody wrote by hand")]
        Key::Int(number, key) => put_scalar(1, *number, *key as f64, &mut entry),
    }
    value(&mut entry);
    put_bytes(field, &entry, out);
}

/// A number with its tag.
fn put_scalar(field: u32, number: Number, value: f64, out: &mut Vec<u8>) {
    let wire_type = match number {
        Number::Double | Number::Fixed64 | Number::Sfixed64 => 1,
        Number::Float | Number::Fixed32 | Number::Sfixed32 => 5,
        _ => 0,
    };
    put_varint(u64::from(field) << 3 | wire_type, out);
    put_cell(number, value, out);
}

/// A number without one, as packed lists have them. What is beyond its type becomes its nearest.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates, as documented above")]
fn put_cell(number: Number, value: f64, out: &mut Vec<u8>) {
    let whole = value.round();
    match number {
        Number::Double => out.extend(value.to_le_bytes()),
        Number::Float => out.extend((value as f32).to_le_bytes()),
        Number::Int32 => put_varint(i64::from(whole as i32).cast_unsigned(), out),
        Number::Int64 => put_varint((whole as i64).cast_unsigned(), out),
        Number::Uint32 => put_varint(u64::from(whole as u32), out),
        Number::Uint64 => put_varint(whole as u64, out),
        Number::Sint32 => put_varint(u64::from(unzigzag(i64::from(whole as i32)) as u32), out),
        Number::Sint64 => put_varint(unzigzag(whole as i64), out),
        Number::Fixed32 => out.extend((whole as u32).to_le_bytes()),
        Number::Fixed64 => out.extend((whole as u64).to_le_bytes()),
        Number::Sfixed32 => out.extend((whole as i32).to_le_bytes()),
        Number::Sfixed64 => out.extend((whole as i64).to_le_bytes()),
        Number::Bool => out.push(u8::from(value >= 0.5)),
    }
}
