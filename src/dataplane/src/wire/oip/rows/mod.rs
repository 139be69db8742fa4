//! A batch in parts: the rows of a request that somebody else is to answer, and answers to some rows each made one.
//!
//! Only a batch whose rows end differently comes here; nothing of it lies on the usual call's path.

mod column;

use super::{request, response};
use crate::policy::InvalidOutput;
use crate::wire::proto::{Fields, Malformed, Value, put_bytes};
use column::Column;

/// An answer to some of a batch's rows.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// `ModelInferResponse`.
    pub answer: &'a [u8],
    /// For each of its rows, which row of the batch it answers; none where another part does.
    pub rows: &'a [Option<u32>],
}

/// A message's tensors, and all else of it as it came.
struct Batch<'a> {
    columns: Vec<Column<'a>>,
    rest: Vec<&'a [u8]>,
    raw: bool,
}

impl<'a> Batch<'a> {
    fn parse(message: &'a [u8], tensor: u32, contents: u32) -> Result<Self, InvalidOutput> {
        let (mut tensors, mut raw, mut rest) = (Vec::new(), Vec::new(), Vec::new());
        let mut fields = Fields::new(message);
        loop {
            let before = fields.rest();
            let found = fields.next_field().map_err(|stop| InvalidOutput(Malformed::from(stop).to_string().into()))?;
            let Some(found) = found else { break };
            match found.value {
                Value::Bytes(bytes) if found.number == tensor => tensors.push(bytes),
                Value::Bytes(bytes) if found.number == contents => raw.push(bytes),
                _ => rest.push(&before[..before.len() - fields.rest().len()]),
            }
        }
        if !raw.is_empty() && raw.len() != tensors.len() {
            let words = format!("{} raw contents of {} tensors", raw.len(), tensors.len());
            return Err(InvalidOutput(words.into()));
        }
        let columns = tensors.iter().enumerate().map(|(at, message)| Column::parse(message, raw.get(at).copied()));
        Ok(Self { columns: columns.collect::<Result<_, _>>()?, rest, raw: !raw.is_empty() })
    }

    /// Writes the message anew, each of the named columns from the rows that are given for it.
    fn write(
        &self,
        tensor: u32,
        contents: u32,
        columns: &[(&Column<'_>, Vec<(&Column<'_>, usize)>)],
        out: &mut Vec<u8>,
    ) {
        self.rest.iter().for_each(|field| out.extend_from_slice(field));
        // A message is raw as a whole or not at all.
        let raw = self.raw || columns.iter().any(|(column, _)| column.is_raw_only());
        let mut raws = Vec::new();
        for (column, from) in columns {
            let (mut written, mut cells) = (Vec::new(), Vec::new());
            column.write(from, raw, &mut written, &mut cells);
            put_bytes(tensor, &written, out);
            if raw {
                put_bytes(contents, &cells, &mut raws);
            }
        }
        out.extend_from_slice(&raws);
    }
}

/// Appends the request with those of its `rows` rows alone that `keep` names, in that order.
///
/// # Errors
/// It cannot be told apart by rows: an input has another number of rows, stands in shared memory, or cannot be read.
/// Nothing was appended.
pub fn slice(message: &[u8], rows: u32, keep: &[u32], out: &mut Vec<u8>) -> Result<(), InvalidOutput> {
    let batch = Batch::parse(message, request::INPUTS, request::RAW)?;
    let rows = rows as usize;
    if let Some(column) = batch.columns.iter().find(|column| column.rows() != rows) {
        let words = format!("input '{}' has {} rows, the batch has {rows}", column.name(), column.rows());
        return Err(InvalidOutput(words.into()));
    }
    if batch.columns.is_empty() || keep.iter().any(|&row| row as usize >= rows) {
        return Err(InvalidOutput("the batch has no such rows".into()));
    }
    let columns = batch.columns.iter().map(|column| (column, keep.iter().map(|&row| (column, row as usize)).collect()));
    let columns: Vec<_> = columns.collect();
    batch.write(request::INPUTS, request::RAW, &columns, out);
    Ok(())
}

/// Appends one answer to `rows` rows, each from the part that answers it. Its form, id and parameters are the first
/// part's; outputs that not every part has are left out, but for those in `needed`.
///
/// # Errors
/// A part has not the rows that it should, lacks a needed output, or has it in another form. Nothing was appended.
pub fn merge(parts: &[Part<'_>], rows: usize, needed: &[&str], out: &mut Vec<u8>) -> Result<(), InvalidOutput> {
    let batches = parts.iter().map(|part| Batch::parse(part.answer, response::OUTPUTS, response::RAW));
    let batches = batches.collect::<Result<Vec<_>, _>>()?;
    let first = batches.first().ok_or_else(|| InvalidOutput("no answer to any row".into()))?;
    let from = sources(parts, rows)?;
    for name in needed {
        if !first.columns.iter().any(|column| column.name() == *name) {
            return Err(InvalidOutput(format!("output '{name}' is missing").into()));
        }
    }
    let mut columns = Vec::with_capacity(first.columns.len());
    for column in &first.columns {
        let fits = |(batch, part): (&'_ Batch<'_>, &Part<'_>)| {
            batch.columns.iter().position(|other| {
                other.name() == column.name() && column.takes(other) && other.rows() == part.rows.len()
            })
        };
        let places: Option<Vec<usize>> = batches.iter().zip(parts).map(fits).collect();
        match places {
            Some(places) => {
                let rows = from.iter().map(|&(part, row)| (&batches[part].columns[places[part]], row));
                columns.push((column, rows.collect()));
            }
            None if needed.contains(&column.name()) => {
                let words = format!("output '{}' has another form than in the answer to other rows", column.name());
                return Err(InvalidOutput(words.into()));
            }
            None => {}
        }
    }
    first.write(response::OUTPUTS, response::RAW, &columns, out);
    Ok(())
}

/// For each row of the batch, the part that answers it, and which of the part's rows that is.
fn sources(parts: &[Part<'_>], rows: usize) -> Result<Vec<(usize, usize)>, InvalidOutput> {
    let mut from = vec![None; rows];
    for (at, part) in parts.iter().enumerate() {
        for (row, target) in part.rows.iter().enumerate() {
            if let Some(place) = target.and_then(|target| from.get_mut(target as usize)) {
                *place = Some((at, row));
            }
        }
    }
    let complete: Option<Vec<_>> = from.into_iter().collect();
    complete.ok_or_else(|| InvalidOutput("a row of the batch has no answer".into()))
}
