//! Reads a route's prediction out of an answer, along its paths and no further.

use crate::policy::descriptor::{Described, FieldPath, Kind, Take};
use crate::policy::{InvalidOutput, Label, PredictionSpec, Predictions};
use crate::wire::oip::read::{index_label, text_label};
use crate::wire::oip::tensor::Datatype;
use crate::wire::proto::{Malformed, Value};

use super::scan::{One, follow};
use super::sinks::{Labels, Numbers, invalid};
use super::tensor::{Tensor, raw_numbers};

/// Reads what the route's paths lead to into `out`, which is cleared first.
///
/// Numbers are given as they stand, NaN and infinities included. At most `max_rows` rows and `max_rows * classes` scores
/// are ever held. On an error `out` holds nothing of use.
///
/// # Errors
/// No such message, a value is missing, or the paths disagree in their rows.
pub fn read(
    described: &Described,
    spec: &PredictionSpec,
    answer: &[u8],
    max_rows: usize,
    out: &mut Predictions,
) -> Result<(), InvalidOutput> {
    out.clear();
    let reader = Reader { spec, answer, max_rows };
    let mut rows = None;
    if let Some(path) = &described.scores {
        let found = reader.scores(path, out)?;
        agree(path, &mut rows, found)?;
    }
    if let Some(path) = &described.label {
        let found = reader.labels(path, &mut out.labels)?;
        agree(path, &mut rows, found)?;
    }
    for (path, out) in [(&described.confidence, &mut out.confidence), (&described.value, &mut out.values)] {
        if let Some(path) = path {
            let found = reader.column(path, out)?;
            agree(path, &mut rows, found)?;
        }
    }
    out.rows = rows.unwrap_or(0);
    Ok(())
}

fn agree(path: &FieldPath, rows: &mut Option<usize>, found: usize) -> Result<(), InvalidOutput> {
    match rows.replace(found) {
        Some(known) if known != found => {
            Err(invalid(path, format_args!("{found} rows, but the path before it has {known}")))
        }
        _ => Ok(()),
    }
}

struct Reader<'a> {
    spec: &'a PredictionSpec,
    answer: &'a [u8],
    max_rows: usize,
}

impl<'a> Reader<'a> {
    fn scores(&self, path: &FieldPath, out: &mut Predictions) -> Result<usize, InvalidOutput> {
        let classes = self.spec.classes.len();
        match path.kind {
            Kind::Tensor => {
                let tensor = self.tensor(path)?;
                let (held, columns) = match *tensor.dims {
                    [held] | [held, 1] if classes <= 2 => (held, 1),
                    [held, columns] if usize::try_from(columns) == Ok(classes) => (held, classes),
                    _ => {
                        let or = if classes <= 2 { ", [rows] or [rows, 1]" } else { "" };
                        return Err(invalid(
                            path,
                            format_args!("shape {:?}, wanted [rows, {classes}]{or}", tensor.dims),
                        ));
                    }
                };
                let rows = self.rows(path, held)?;
                out.columns = columns;
                tensor.numbers(rows * columns, &mut out.scores).map_err(|words| invalid(path, words))?;
                Ok(rows)
            }
            Kind::Bytes => {
                let (Value::Bytes(raw), _) = self.one(path)? else { return Err(invalid(path, "no bytes")) };
                let datatype = Datatype::parse(&self.spec.datatype).unwrap_or(Datatype::Fp32);
                let row = datatype.width() * classes;
                if row == 0 || raw.len() % row != 0 {
                    return Err(invalid(path, format_args!("{} bytes, wanted {row} for each row", raw.len())));
                }
                let rows = self.rows(path, i64::try_from(raw.len() / row).unwrap_or(i64::MAX))?;
                out.columns = classes;
                raw_numbers(datatype, raw, rows * classes, &mut out.scores).map_err(|words| invalid(path, words))?;
                Ok(rows)
            }
            _ => {
                let every = matches!(path.take(), Take::All | Take::ByClass);
                out.columns = if every { classes } else { 1 };
                self.numbers(path, out.columns, &mut out.scores)
            }
        }
    }

    fn column(&self, path: &FieldPath, out: &mut Vec<f64>) -> Result<usize, InvalidOutput> {
        if path.kind != Kind::Tensor {
            return self.numbers(path, 1, out);
        }
        let tensor = self.tensor(path)?;
        let rows = self.tensor_rows(path, &tensor)?;
        tensor.numbers(rows, out).map_err(|words| invalid(path, words))?;
        Ok(rows)
    }

    fn numbers(&self, path: &FieldPath, columns: usize, out: &mut Vec<f64>) -> Result<usize, InvalidOutput> {
        let mut numbers = Numbers::new(path, self.spec, columns, self.max_rows, out);
        follow(path, self.answer, true, &mut numbers)?;
        numbers.rows()
    }

    fn labels(&self, path: &FieldPath, out: &mut Vec<Label>) -> Result<usize, InvalidOutput> {
        if path.kind != Kind::Tensor {
            let mut labels = Labels::new(path, self.spec, self.max_rows, out);
            follow(path, self.answer, true, &mut labels)?;
            return Ok(out.len());
        }
        let tensor = self.tensor(path)?;
        let rows = self.tensor_rows(path, &tensor)?;
        let fault = |words: String| invalid(path, words);
        let datatype = tensor.datatype().map_err(fault)?;
        if datatype == Datatype::Bytes {
            let read = tensor.texts(rows, |text| {
                out.push(text_label(self.spec, text)?);
                Ok(())
            });
            read.map_err(fault)?;
            return Ok(rows);
        }
        if !datatype.is_integer() {
            return Err(invalid(path, "a float, wanted a label: strings, or integer class indexes"));
        }
        let mut indexes = Vec::with_capacity(rows.min(1024));
        tensor.numbers(rows, &mut indexes).map_err(fault)?;
        for index in indexes {
            out.push(index_label(self.spec, index).map_err(fault)?);
        }
        Ok(rows)
    }

    /// The one value of a path without rows.
    fn one(&self, path: &FieldPath) -> Result<(Value<'a>, u32), InvalidOutput> {
        let mut one = One::default();
        follow(path, self.answer, true, &mut one).map_err(|malformed: Malformed| InvalidOutput::from(malformed))?;
        let value = one.value.map(|(value, _)| value);
        let value = value.or_else(|| (one.reached && path.zero_if_absent).then_some(Value::Bytes(&[])));
        Ok((value.ok_or_else(|| invalid(path, "missing in the answer"))?, one.met))
    }

    fn tensor(&self, path: &FieldPath) -> Result<Tensor<'a>, InvalidOutput> {
        match self.one(path)? {
            // To merge two tensors would want a tensor that is built.
            (_, 2..) => Err(invalid(path, "it stands twice in the answer")),
            (Value::Bytes(bytes), _) => Tensor::read(bytes, true).map_err(|fault| invalid(path, fault)),
            _ => Err(invalid(path, "no tensor")),
        }
    }

    /// The rows of a `[rows]` or `[rows, 1]` tensor.
    fn tensor_rows(&self, path: &FieldPath, tensor: &Tensor<'_>) -> Result<usize, InvalidOutput> {
        match *tensor.dims {
            [rows] | [rows, 1] => self.rows(path, rows),
            _ => Err(invalid(path, format_args!("shape {:?}, wanted [rows] or [rows, 1]", tensor.dims))),
        }
    }

    fn rows(&self, path: &FieldPath, rows: i64) -> Result<usize, InvalidOutput> {
        let max = self.max_rows;
        let good = usize::try_from(rows).ok().filter(|rows| *rows <= max);
        good.ok_or_else(|| invalid(path, format_args!("{rows} rows, wanted 0 to {max}")))
    }
}
