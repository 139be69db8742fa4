//! Answers that need no model, in the form of the route's prediction: the fields that it reads, and nothing else.

use crate::policy::descriptor::{Form, FormNode, Key, Kind, Number, Put, Take, What};
use crate::policy::{PredictionSpec, StaticAnswer};
use crate::wire::oip::answer::{NoAnswer, label, put_raw, scores};
use crate::wire::oip::tensor::Datatype;
use crate::wire::proto::{put_bytes, put_number, put_varint};

use super::scalar::unzigzag;
use super::tensor;

/// Appends an answer of `rows` rows that are all the same.
///
/// # Errors
/// [`NoAnswer`]; nothing was appended.
pub fn static_answer(
    form: &[FormNode],
    spec: &PredictionSpec,
    answer: &StaticAnswer,
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
    let scores = scores(spec, answer);
    let writer = Writer { spec, answer, scores: scores.as_deref(), datatype };
    let start = out.len();
    let written = writer.nodes(form, rows as usize, out);
    if written.is_err() {
        out.truncate(start);
    }
    written
}

struct Writer<'s> {
    spec: &'s PredictionSpec,
    answer: &'s StaticAnswer,
    scores: Option<&'s [f64]>,
    datatype: Datatype,
}

impl Writer<'_> {
    fn nodes(&self, nodes: &[FormNode], rows: usize, out: &mut Vec<u8>) -> Result<(), NoAnswer> {
        nodes.iter().try_for_each(|node| self.node(node, rows, out))
    }

    fn node(&self, node: &FormNode, rows: usize, out: &mut Vec<u8>) -> Result<(), NoAnswer> {
        for _ in 0..node.pad {
            self.empty(node, out);
        }
        let (times, rows) = if node.take == Take::Each { (rows, 1) } else { (1, rows) };
        let before = out.len();
        match &node.inner {
            Form::Message(inner) => {
                let mut message = Vec::new();
                self.nodes(inner, rows, &mut message)?;
                match &node.take {
                    Take::Key(key) => put_entry(node.field, key, |entry| put_bytes(2, &message, entry), out),
                    _ => put_bytes(node.field, &message, out),
                }
            }
            Form::Value(put) => self.value(node, put, rows, out)?,
        }
        let once = out.len() - before;
        match times {
            0 => out.truncate(before),
            _ => (1..times).for_each(|_| out.extend_from_within(before..before + once)),
        }
        Ok(())
    }

    /// An element that nobody reads, in front of one that somebody reads.
    fn empty(&self, node: &FormNode, out: &mut Vec<u8>) {
        match &node.inner {
            Form::Value(Put { kind: Kind::Number(number), .. }) => put_scalar(node.field, *number, 0.0, out),
            Form::Value(Put { kind: Kind::Enum(_), .. }) => put_number(node.field, 0, out),
            Form::Value(_) | Form::Message(_) => put_bytes(node.field, &[], out),
        }
    }

    fn value(&self, node: &FormNode, put: &Put, rows: usize, out: &mut Vec<u8>) -> Result<(), NoAnswer> {
        let label = || label(self.spec, self.answer, self.scores).ok_or(NoAnswer::Lacks("label"));
        match (put.what, &put.kind) {
            (What::Label, kind) => self.label(node, kind, label()?, rows, out),
            (What::Scores, kind) => {
                let scores = self.scores.ok_or(NoAnswer::Lacks("score"))?;
                self.scores(node, kind, scores, rows, out);
            }
            (What::Confidence, kind) => {
                // What says no score is said without doubt.
                let confidence = self.scores.into_iter().flatten().copied().reduce(f64::max).unwrap_or(1.0);
                self.number(node, kind, confidence, rows, out);
            }
            (What::Value, kind) => {
                let value = self.answer.value.ok_or(NoAnswer::Lacks("value"))?;
                self.number(node, kind, value, rows, out);
            }
        }
        Ok(())
    }

    fn scores(&self, node: &FormNode, kind: &Kind, scores: &[f64], rows: usize, out: &mut Vec<u8>) {
        match (kind, &node.take) {
            (Kind::Tensor, _) => {
                self.tensor(node, &[rows, scores.len()][..1 + usize::from(scores.len() > 1)], scores, rows, out)
            }
            (Kind::Bytes, _) => {
                let mut cells = Vec::new();
                scores.iter().for_each(|score| put_raw(self.datatype, *score, &mut cells));
                put_field(node, &cells.repeat(rows), out);
            }
            (Kind::Number(number), Take::All) => {
                let mut cells = Vec::new();
                scores.iter().for_each(|score| put_cell(*number, *score, &mut cells));
                put_bytes(node.field, &cells.repeat(rows), out);
            }
            (Kind::Number(number), Take::ByClass) => {
                for (class, score) in self.spec.classes.iter().zip(scores) {
                    put_entry(
                        node.field,
                        &Key::Text(class.clone()),
                        |entry| put_scalar(2, *number, *score, entry),
                        out,
                    );
                }
            }
            _ => self.number(node, kind, self.positive(scores), rows, out),
        }
    }

    /// The score of `positive`, or of the last class.
    fn positive(&self, scores: &[f64]) -> f64 {
        let at = if scores.len() == 1 { 0 } else { self.spec.positive.map_or(scores.len() - 1, usize::from) };
        scores.get(at).copied().unwrap_or(0.0)
    }

    fn number(&self, node: &FormNode, kind: &Kind, number: f64, rows: usize, out: &mut Vec<u8>) {
        match (kind, &node.take) {
            (Kind::Tensor, _) => self.tensor(node, &[rows], &[number], rows, out),
            (Kind::Number(kind), Take::Key(key)) => {
                put_entry(node.field, key, |entry| put_scalar(2, *kind, number, entry), out);
            }
            (Kind::Number(kind), _) => put_scalar(node.field, *kind, number, out),
            _ => {}
        }
    }

    fn tensor(&self, node: &FormNode, dims: &[usize], row: &[f64], rows: usize, out: &mut Vec<u8>) {
        let Some((dtype, field)) = tensor::dtype(self.datatype) else { return };
        let mut tensor = Vec::new();
        tensor::put_head(dtype, dims, &mut tensor);
        let mut cells = Vec::new();
        for number in row {
            match self.datatype {
                Datatype::Fp16 => put_varint(u64::from(half::f16::from_f64(*number).to_bits()), &mut cells),
                Datatype::Bf16 => put_varint(u64::from(half::bf16::from_f64(*number).to_bits()), &mut cells),
                datatype => put_raw(datatype, *number, &mut cells),
            }
        }
        put_bytes(field, &cells.repeat(rows), &mut tensor);
        put_field(node, &tensor, out);
    }

    fn label(&self, node: &FormNode, kind: &Kind, label: &str, rows: usize, out: &mut Vec<u8>) {
        let class = self.spec.classes.iter().position(|class| **class == *label);
        match kind {
            Kind::Tensor => {
                let Some((dtype, field)) = tensor::dtype(Datatype::Bytes) else { return };
                let mut tensor = Vec::new();
                tensor::put_head(dtype, &[rows], &mut tensor);
                let mut cell = Vec::new();
                put_bytes(field, label.as_bytes(), &mut cell);
                tensor.extend(cell.repeat(rows));
                put_field(node, &tensor, out);
            }
            Kind::Enum(names) => {
                let number = names.iter().find(|(_, name)| **name == *label).map_or(0, |(number, _)| *number);
                let bits = i64::from(number).cast_unsigned();
                match &node.take {
                    Take::Key(key) => put_entry(node.field, key, |entry| put_number(2, bits, entry), out),
                    _ => put_number(node.field, bits, out),
                }
            }
            #[expect(clippy::cast_precision_loss, reason = "classes are few")]
            Kind::Number(_) => self.number(node, kind, class.unwrap_or(0) as f64, rows, out),
            _ => put_field(node, label.as_bytes(), out),
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
