//! What becomes of the values that a path leads to: numbers and labels, row by row, or a count of rows.

use crate::policy::descriptor::{FieldPath, Kind, Take};
use crate::policy::{InvalidOutput, Label, PredictionSpec};
use crate::wire::oip::read::{index_label, text_label};
use crate::wire::proto::{Malformed, Value};

use super::scalar::{integer_of, number_of};
use super::scan::Sink;

impl From<Malformed> for InvalidOutput {
    fn from(malformed: Malformed) -> Self {
        InvalidOutput(format!("the answer cannot be read: {malformed}").into())
    }
}

/// What is wrong with what a path leads to.
pub fn invalid(path: &FieldPath, words: impl std::fmt::Display) -> InvalidOutput {
    InvalidOutput(format!("{}: {words}", path.text).into())
}

fn too_many(path: &FieldPath, max: usize) -> InvalidOutput {
    invalid(path, format_args!("more than {max} rows"))
}

/// Numbers of rows: one a row, or one for each class.
pub struct Numbers<'p, 'o> {
    path: &'p FieldPath,
    spec: &'p PredictionSpec,
    out: &'o mut Vec<f64>,
    /// Numbers a row.
    columns: usize,
    max_rows: usize,
    found: Option<f64>,
    /// Where the row under way begins in `out`.
    start: usize,
}

impl<'p, 'o> Numbers<'p, 'o> {
    /// Appends to `out`, at most `max_rows` rows of `columns` numbers.
    pub fn new(
        path: &'p FieldPath,
        spec: &'p PredictionSpec,
        columns: usize,
        max_rows: usize,
        out: &'o mut Vec<f64>,
    ) -> Self {
        let start = out.len();
        Self { path, spec, out, columns, max_rows, found: None, start }
    }

    /// Rows read; numbers that stand row after row are divided here.
    pub fn rows(&self) -> Result<usize, InvalidOutput> {
        let rows = self.out.len() / self.columns.max(1);
        if rows * self.columns != self.out.len() {
            return Err(invalid(
                self.path,
                format_args!("{} numbers, wanted {} for each row", self.out.len(), self.columns),
            ));
        }
        Ok(rows)
    }

    fn push(&mut self, number: f64) -> Result<(), InvalidOutput> {
        if self.out.len() >= self.max_rows.saturating_mul(self.columns) {
            return Err(too_many(self.path, self.max_rows));
        }
        self.out.push(number);
        Ok(())
    }
}

impl<'a> Sink<'a> for Numbers<'_, '_> {
    type Fault = InvalidOutput;

    fn value(&mut self, value: Value<'a>, _whole: bool) -> Result<(), InvalidOutput> {
        let Kind::Number(kind) = self.path.kind else { return Ok(()) };
        let Some(number) = number_of(kind, value) else { return Ok(()) };
        if *self.path.take() == Take::All {
            return self.push(number);
        }
        self.found = Some(number);
        Ok(())
    }

    fn entry(&mut self, key: &'a [u8], value: Value<'a>) -> Result<(), InvalidOutput> {
        let Kind::Number(kind) = self.path.kind else { return Ok(()) };
        if self.out.len() == self.start {
            for _ in 0..self.columns {
                self.push(f64::NAN)?;
            }
        }
        let class = self.spec.classes.iter().position(|class| class.as_bytes() == key);
        let slot = class.and_then(|class| self.out.get_mut(self.start + class));
        if let (Some(slot), Some(number)) = (slot, number_of(kind, value)) {
            *slot = number;
        }
        Ok(())
    }

    fn forget(&mut self, rows: bool) {
        self.found = None;
        if rows {
            self.start = 0;
        }
        self.out.truncate(self.start);
    }

    fn row(&mut self, reached: bool) -> Result<(), InvalidOutput> {
        match self.path.take() {
            Take::ByClass => {
                let there = self.out.get(self.start..).unwrap_or(&[]);
                let absent = self.spec.classes.iter().enumerate();
                let absent = absent.map(|(at, class)| (there.get(at).copied().unwrap_or(f64::NAN), class));
                if let Some((_, class)) = absent.into_iter().find(|(number, _)| number.is_nan()) {
                    return Err(invalid(self.path, format_args!("it has no number for {class:?}")));
                }
            }
            Take::All => {
                let count = self.out.len() - self.start;
                if self.path.has_rows() && count != self.columns {
                    return Err(invalid(self.path, format_args!("{count} numbers in a row, wanted {}", self.columns)));
                }
                if !self.path.has_rows() && !reached {
                    return Err(invalid(self.path, "missing in the answer"));
                }
            }
            _ => {
                let zero = (reached && self.path.zero_if_absent).then_some(0.0);
                let found = self.found.take().or(zero);
                self.push(found.ok_or_else(|| invalid(self.path, "missing in the answer"))?)?;
            }
        }
        self.start = self.out.len();
        Ok(())
    }
}

/// Labels, one a row.
pub struct Labels<'p, 'o, 'a> {
    path: &'p FieldPath,
    spec: &'p PredictionSpec,
    out: &'o mut Vec<Label>,
    max_rows: usize,
    found: Option<Value<'a>>,
}

impl<'p, 'o> Labels<'p, 'o, '_> {
    /// Appends to `out`, at most `max_rows` of them.
    pub fn new(path: &'p FieldPath, spec: &'p PredictionSpec, max_rows: usize, out: &'o mut Vec<Label>) -> Self {
        Self { path, spec, out, max_rows, found: None }
    }

    fn label(&self, value: Value<'_>) -> Result<Label, InvalidOutput> {
        let label = match (&self.path.kind, value) {
            (Kind::Text | Kind::Bytes, Value::Bytes(text)) => text_label(self.spec, text),
            (Kind::Enum(names), Value::Varint(bits)) => {
                #[expect(clippy::cast_possible_truncation, reason = "enums are 32-bit numbers")]
                let number = (bits as u32).cast_signed();
                match names.iter().find(|(known, _)| *known == number) {
                    Some((_, name)) => text_label(self.spec, name.as_bytes()),
                    None => Err(format!("{number}, which the enum has no name for")),
                }
            }
            (Kind::Number(kind), value) => {
                #[expect(clippy::cast_precision_loss, reason = "classes are few")]
                let index = integer_of(*kind, value).unwrap_or(-1) as f64;
                index_label(self.spec, index)
            }
            _ => Err("no label".into()),
        };
        label.map_err(|words| invalid(self.path, words))
    }
}

impl<'a> Sink<'a> for Labels<'_, '_, 'a> {
    type Fault = InvalidOutput;

    fn value(&mut self, value: Value<'a>, _whole: bool) -> Result<(), InvalidOutput> {
        self.found = Some(value);
        Ok(())
    }

    fn forget(&mut self, rows: bool) {
        self.found = None;
        if rows {
            self.out.clear();
        }
    }

    fn row(&mut self, reached: bool) -> Result<(), InvalidOutput> {
        let zero = (reached && self.path.zero_if_absent).then(|| super::scalar::zero(&self.path.kind));
        let found = self.found.take().or(zero);
        let label = self.label(found.ok_or_else(|| invalid(self.path, "missing in the answer"))?)?;
        if self.out.len() == self.max_rows {
            return Err(too_many(self.path, self.max_rows));
        }
        self.out.push(label);
        Ok(())
    }
}

/// How many rows there are.
#[derive(Default)]
pub struct Count(pub u32);

impl<'a> Sink<'a> for Count {
    type Fault = Malformed;

    fn value(&mut self, _value: Value<'a>, _whole: bool) -> Result<(), Malformed> {
        Ok(())
    }

    fn forget(&mut self, rows: bool) {
        if rows {
            self.0 = 0;
        }
    }

    fn row(&mut self, _reached: bool) -> Result<(), Malformed> {
        self.0 = self.0.saturating_add(1);
        Ok(())
    }
}
