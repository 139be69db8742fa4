//! Answers that need no model: static answers in the form of the route's prediction, and what is said of such a model.

use std::fmt;

use half::{bf16, f16};

use super::tensor::Datatype;
use super::{Head, append_model, field, response};
use crate::policy::{PredictionSpec, StaticAnswer};
use crate::wire::proto::{put_bytes, put_len, put_varint, varint_bytes};

/// `ServerLiveResponse`, `ServerReadyResponse` and `ModelReadyResponse` of what is live or ready.
pub const READY: &[u8] = &[0x08, 0x01];

/// What metadata says of a model that is a static answer.
pub const PLATFORM: &str = "gateway_static";

/// Why a static answer cannot take the form of the route's prediction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// The route's prediction has an output that the answer says nothing of.
    Lacks(&'static str),
    /// The route's `datatype` holds no numbers.
    Datatype(Box<str>),
    TooManyRows {
        rows: u32,
        max: u32,
    },
    /// Neither one answer nor one a row.
    OtherRows {
        rows: u32,
        answers: usize,
    },
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lacks(what) => write!(f, "the static answer gives no {what}, which the route's prediction has"),
            Self::Datatype(name) => write!(f, "datatype '{name}' of the route's prediction holds no numbers"),
            Self::TooManyRows { rows, max } => {
                write!(f, "{rows} rows asked for, at most {max} are answered")
            }
            Self::OtherRows { rows, answers } => write!(f, "{rows} rows asked for, {answers} are answered"),
        }
    }
}

impl std::error::Error for NoAnswer {}

/// Appends a `ModelInferResponse`: the route's outputs, raw if the request was; id and model echoed. `answers` are as many
/// as there are rows, or one that stands for all.
///
/// `rows` are only the caller's claim, so no more than `max_rows` are written.
///
/// # Errors
/// [`NoAnswer`]; nothing was appended.
pub fn static_answer(
    spec: &PredictionSpec,
    answers: &[StaticAnswer],
    request: &Head<'_>,
    max_rows: u32,
    out: &mut Vec<u8>,
) -> Result<(), NoAnswer> {
    let rows = request.rows();
    if rows > max_rows {
        return Err(NoAnswer::TooManyRows { rows, max: max_rows });
    }
    if answers.len() != 1 && answers.len() != rows as usize {
        return Err(NoAnswer::OtherRows { rows, answers: answers.len() });
    }
    let writer = Writer::new(spec, rows as usize, request.raw)?;
    let start = out.len();
    append_model(request.model, Some(request.version).filter(|version| !version.is_empty()), out);
    if !request.id.is_empty() {
        put_bytes(response::ID, request.id.as_bytes(), out);
    }
    let mut raw = Vec::new();
    let written = writer.outputs(spec, answers, out, &mut raw);
    if written.is_err() {
        out.truncate(start);
    }
    out.extend_from_slice(&raw);
    written
}

/// Appends a `ModelMetadataResponse`: the outputs of the route's prediction; rows, and whatever the inputs are, are open.
pub fn static_metadata(model: &str, spec: &PredictionSpec, out: &mut Vec<u8>) {
    const METADATA_PLATFORM: u32 = 3;
    const METADATA_OUTPUTS: u32 = 5;
    append_model(model, None, out);
    put_bytes(METADATA_PLATFORM, PLATFORM.as_bytes(), out);
    let columns = spec.classes.len().max(1) as u64;
    let outputs = [
        (&spec.scores, &*spec.datatype, Some(columns)),
        (&spec.label, "BYTES", None),
        (&spec.confidence, &*spec.datatype, None),
        (&spec.value, &*spec.datatype, None),
    ];
    for (name, datatype, columns) in outputs {
        let Some(name) = name else {
            continue;
        };
        let mut tensor = Vec::new();
        put_head(name, datatype, u64::MAX, columns, &mut tensor);
        put_bytes(METADATA_OUTPUTS, &tensor, out);
    }
}

/// A tensor's name, datatype and shape.
fn put_head(name: &str, datatype: &str, rows: u64, columns: Option<u64>, tensor: &mut Vec<u8>) {
    put_bytes(field::NAME, name.as_bytes(), tensor);
    put_bytes(field::DATATYPE, datatype.as_bytes(), tensor);
    put_len(field::SHAPE, varint_bytes(rows) + columns.map_or(0, varint_bytes), tensor);
    put_varint(rows, tensor);
    if let Some(columns) = columns {
        put_varint(columns, tensor);
    }
}

struct Writer<'s> {
    rows: usize,
    raw: bool,
    datatype: Datatype,
    datatype_name: &'s str,
}

impl<'s> Writer<'s> {
    fn new(spec: &'s PredictionSpec, rows: usize, raw: bool) -> Result<Self, NoAnswer> {
        let datatype = Datatype::parse(&spec.datatype)
            .filter(|datatype| *datatype != Datatype::Bytes)
            .ok_or_else(|| NoAnswer::Datatype(spec.datatype.clone()))?;
        // The protocol has no typed field for 16-bit floats, and an answer is raw as a whole or not at all.
        let raw = raw || datatype.contents_field().is_none();
        Ok(Self { rows, raw, datatype, datatype_name: &spec.datatype })
    }

    fn outputs(
        &self,
        spec: &PredictionSpec,
        answers: &[StaticAnswer],
        out: &mut Vec<u8>,
        raw: &mut Vec<u8>,
    ) -> Result<(), NoAnswer> {
        let scores: Vec<Option<Vec<f64>>> = answers.iter().map(|answer| scores(spec, answer)).collect();
        if let Some(name) = &spec.scores {
            let scores = scores.iter().map(|row| row.as_deref().ok_or(NoAnswer::Lacks("score")));
            let scores = scores.collect::<Result<Vec<_>, _>>()?;
            let width = scores.first().map_or(1, |row| row.len());
            let columns = if width > 1 || spec.classes.len() == 1 { Some(width) } else { None };
            self.numbers(name, &scores.concat(), columns, out, raw);
        }
        if let Some(name) = &spec.label {
            let labels = answers.iter().zip(&scores);
            let labels = labels
                .map(|(answer, scores)| label(spec, answer, scores.as_deref()).ok_or(NoAnswer::Lacks("label")))
                .collect::<Result<Vec<_>, _>>()?;
            self.texts(name, &labels, out, raw);
        }
        if let Some(name) = &spec.confidence {
            // What says no score is said without doubt.
            let confidence =
                |scores: &Option<Vec<f64>>| scores.iter().flatten().copied().reduce(f64::max).unwrap_or(1.0);
            let confidence: Vec<f64> = scores.iter().map(confidence).collect();
            self.numbers(name, &confidence, None, out, raw);
        }
        if let Some(name) = &spec.value {
            let values = answers.iter().map(|answer| answer.value.ok_or(NoAnswer::Lacks("value")));
            self.numbers(name, &values.collect::<Result<Vec<_>, _>>()?, None, out, raw);
        }
        Ok(())
    }

    /// What is said of each row, or of all.
    fn every_row(&self, cells: Vec<u8>, answers: usize) -> Vec<u8> {
        if answers == self.rows { cells } else { cells.repeat(self.rows) }
    }

    fn numbers(&self, name: &str, numbers: &[f64], columns: Option<usize>, out: &mut Vec<u8>, raw: &mut Vec<u8>) {
        let mut tensor = Vec::new();
        put_head(name, self.datatype_name, self.rows as u64, columns.map(|columns| columns as u64), &mut tensor);
        let mut cells = Vec::new();
        for &number in numbers {
            self.put_number(number, &mut cells);
        }
        let cells = self.every_row(cells, numbers.len() / columns.unwrap_or(1).max(1));
        self.finish(&mut tensor, &cells, out, raw);
    }

    fn texts(&self, name: &str, texts: &[&str], out: &mut Vec<u8>, raw: &mut Vec<u8>) {
        let mut tensor = Vec::new();
        put_head(name, "BYTES", self.rows as u64, None, &mut tensor);
        let mut cells = Vec::new();
        for text in texts {
            if self.raw {
                let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
                cells.extend_from_slice(&len.to_le_bytes());
                cells.extend_from_slice(text.as_bytes());
            } else {
                put_bytes(8, text.as_bytes(), &mut cells);
            }
        }
        let cells = self.every_row(cells, texts.len());
        if self.raw {
            self.finish(&mut tensor, &cells, out, raw);
        } else {
            put_bytes(field::CONTENTS, &cells, &mut tensor);
            put_bytes(response::OUTPUTS, &tensor, out);
        }
    }

    /// Ends a tensor with its contents: its own, packed, or an entry of the raw ones, which come after all outputs.
    fn finish(&self, tensor: &mut Vec<u8>, cells: &[u8], out: &mut Vec<u8>, raw: &mut Vec<u8>) {
        match self.datatype.contents_field() {
            Some(number) if !self.raw => {
                let len = 1 + varint_bytes(cells.len() as u64) + cells.len();
                put_len(field::CONTENTS, len, tensor);
                put_bytes(number, cells, tensor);
            }
            _ => put_bytes(response::RAW, cells, raw),
        }
        put_bytes(response::OUTPUTS, tensor, out);
    }

    /// One element, as raw or as packed contents have it. Numbers beyond the datatype's range become its nearest.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates, as documented above")]
    fn put_number(&self, number: f64, cells: &mut Vec<u8>) {
        let whole = number.round();
        match (self.datatype, self.raw) {
            (Datatype::Fp32, _) => cells.extend((number as f32).to_le_bytes()),
            (Datatype::Fp64, _) => cells.extend(number.to_le_bytes()),
            (Datatype::Fp16, _) => cells.extend(f16::from_f64(number).to_le_bytes()),
            (Datatype::Bf16, _) => cells.extend(bf16::from_f64(number).to_le_bytes()),
            (Datatype::Bool, _) => cells.push(u8::from(number >= 0.5)),
            (Datatype::Int8, true) => cells.extend((whole as i8).to_le_bytes()),
            (Datatype::Int16, true) => cells.extend((whole as i16).to_le_bytes()),
            (Datatype::Int32, true) => cells.extend((whole as i32).to_le_bytes()),
            (Datatype::Int64, true) => cells.extend((whole as i64).to_le_bytes()),
            (Datatype::Uint8, true) => cells.extend((whole as u8).to_le_bytes()),
            (Datatype::Uint16, true) => cells.extend((whole as u16).to_le_bytes()),
            (Datatype::Uint32, true) => cells.extend((whole as u32).to_le_bytes()),
            (Datatype::Uint64, true) => cells.extend((whole as u64).to_le_bytes()),
            (Datatype::Int8, false) => put_varint(i64::from(whole as i8).cast_unsigned(), cells),
            (Datatype::Int16, false) => put_varint(i64::from(whole as i16).cast_unsigned(), cells),
            (Datatype::Int32, false) => put_varint(i64::from(whole as i32).cast_unsigned(), cells),
            (Datatype::Int64, false) => put_varint((whole as i64).cast_unsigned(), cells),
            (Datatype::Uint8, false) => put_varint(u64::from(whole as u8), cells),
            (Datatype::Uint16, false) => put_varint(u64::from(whole as u16), cells),
            (Datatype::Uint32, false) => put_varint(u64::from(whole as u32), cells),
            (Datatype::Uint64, false) => put_varint(whole as u64, cells),
            (Datatype::Bytes, _) => {}
        }
    }
}

/// One number of a floating-point datatype, as raw contents have it.
#[expect(clippy::cast_possible_truncation, reason = "a score as its datatype holds it")]
pub(in crate::wire) fn put_raw(datatype: Datatype, number: f64, cells: &mut Vec<u8>) {
    match datatype {
        Datatype::Fp64 => cells.extend(number.to_le_bytes()),
        Datatype::Fp16 => cells.extend(f16::from_f64(number).to_le_bytes()),
        Datatype::Bf16 => cells.extend(bf16::from_f64(number).to_le_bytes()),
        _ => cells.extend((number as f32).to_le_bytes()),
    }
}

/// The scores of one row: as given, else from the score of `positive`, else all on the label.
pub(in crate::wire) fn scores(spec: &PredictionSpec, answer: &StaticAnswer) -> Option<Vec<f64>> {
    let classes = spec.classes.len();
    if let Some(scores) = &answer.scores {
        return Some(scores.clone());
    }
    match (answer.score, spec.positive) {
        (Some(score), Some(positive)) if classes == 2 => {
            let mut scores = vec![1.0 - score; 2];
            *scores.get_mut(usize::from(positive))? = score;
            return Some(scores);
        }
        (Some(score), _) if classes < 2 => return Some(vec![score]),
        _ => {}
    }
    let label = answer.label.as_deref()?;
    let at = spec.classes.iter().position(|class| **class == *label)?;
    let mut scores = vec![0.0; classes];
    scores[at] = 1.0;
    Some(scores)
}

/// The label: as given, else what the scores say.
pub(in crate::wire) fn label<'a>(
    spec: &'a PredictionSpec,
    answer: &'a StaticAnswer,
    scores: Option<&[f64]>,
) -> Option<&'a str> {
    if let Some(label) = &answer.label {
        return Some(label);
    }
    let scores = scores?;
    let at = match spec.positive.map(usize::from) {
        Some(positive) if scores.len() == 2 && *scores.get(positive)? >= spec.threshold => positive,
        Some(positive) if scores.len() == 2 => 1 - positive,
        _ => (0..scores.len()).max_by(|&one, &other| scores[one].total_cmp(&scores[other]))?,
    };
    spec.classes.get(at).map(|class| &**class)
}
