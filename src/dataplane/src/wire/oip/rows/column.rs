//! One tensor of a batch, cut into its rows.

use std::borrow::Cow;

use half::{bf16, f16};

use super::super::tensor::{Datatype, Tensor, invalid, name_of};
use super::super::{field, is_shared};
use crate::policy::InvalidOutput;
use crate::wire::proto::{
    Fields, Malformed, Value, put_bytes, put_len, put_varint, take_array, take_varint, varint_bytes,
};

/// A tensor's elements: as raw contents have them, but for texts, which have no width.
enum Cells<'a> {
    Fixed(Cow<'a, [u8]>),
    Texts(Vec<&'a [u8]>),
}

/// An `InferInputTensor` or `InferOutputTensor` whose first dimension is the rows of a batch.
pub(super) struct Column<'a> {
    tensor: Tensor<'a>,
    /// The datatype as the peer wrote it.
    datatype: &'a str,
    /// Its parameters, with their tags.
    params: Vec<&'a [u8]>,
    cells: Cells<'a>,
    rows: usize,
    /// Elements of one row.
    width: usize,
}

impl<'a> Column<'a> {
    /// Reads a tensor, with its entry among the raw contents if there is one.
    ///
    /// # Errors
    /// It cannot be read, has no rows, or stands in shared memory, where nobody but the model server sees it.
    pub fn parse(message: &'a [u8], raw: Option<&'a [u8]>) -> Result<Self, InvalidOutput> {
        let malformed = |fault: Malformed| InvalidOutput(fault.to_string().into());
        let name = name_of(message).map_err(malformed)?;
        if is_shared(message).map_err(malformed)? {
            return Err(invalid(name, "it stands in shared memory, so its rows cannot be told apart"));
        }
        let tensor = Tensor::parse(name, message, raw)?;
        let (mut datatype, mut params) = ("", Vec::new());
        let mut fields = Fields::new(message);
        loop {
            let before = fields.rest();
            let Some(found) = fields.next_field().map_err(|stop| malformed(stop.into()))? else { break };
            match (found.number, found.value) {
                (field::DATATYPE, Value::Bytes(text)) => datatype = std::str::from_utf8(text).unwrap_or(""),
                (field::PARAMETERS, Value::Bytes(_)) => params.push(&before[..before.len() - fields.rest().len()]),
                _ => {}
            }
        }
        let sizes: Option<Vec<usize>> = tensor.dims.iter().map(|&dim| usize::try_from(dim).ok()).collect();
        let sizes = sizes.ok_or_else(|| tensor.invalid(format_args!("the shape {:?}", tensor.dims)))?;
        let (&rows, rest) = sizes.split_first().ok_or_else(|| tensor.invalid("no rows: its shape is empty"))?;
        let width = rest.iter().try_fold(1_usize, |all, &one| all.checked_mul(one));
        let count = width.and_then(|width| width.checked_mul(rows));
        // Every element takes at least a byte on the wire, so this bounds what is reserved by what was sent.
        let (Some(width), Some(count)) =
            (width, count.filter(|&count| count <= message.len() + raw.map_or(0, <[u8]>::len)))
        else {
            return Err(tensor.invalid(format_args!("shape {:?} holds more elements than were sent", tensor.dims)));
        };
        let cells = cells(&tensor, count)?;
        Ok(Self { tensor, datatype, params, cells, rows, width })
    }

    pub fn name(&self) -> &'a str {
        self.tensor.name
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Whether rows of the other can stand among this one's.
    pub fn takes(&self, other: &Column<'_>) -> bool {
        let converts = self.tensor.datatype == other.tensor.datatype
            || (is_float(self.tensor.datatype) && is_float(other.tensor.datatype));
        converts && self.tensor.dims[1..] == other.tensor.dims[1..]
    }

    /// Whether the protocol can only write it raw.
    pub fn is_raw_only(&self) -> bool {
        self.tensor.datatype.contents_field().is_none()
    }

    /// Writes a tensor like this one whose rows are those of `from`, each a column and a row of it: the tensor without
    /// its contents into `tensor`, raw contents into `contents` if it is to be `raw`.
    pub fn write(&self, from: &[(&Column<'_>, usize)], raw: bool, tensor: &mut Vec<u8>, contents: &mut Vec<u8>) {
        put_bytes(field::NAME, self.tensor.name.as_bytes(), tensor);
        put_bytes(field::DATATYPE, self.datatype.as_bytes(), tensor);
        let dims: Vec<u64> = std::iter::once(from.len() as u64)
            .chain(self.tensor.dims[1..].iter().map(|dim| dim.cast_unsigned()))
            .collect();
        put_len(field::SHAPE, dims.iter().map(|&dim| varint_bytes(dim)).sum(), tensor);
        dims.iter().for_each(|&dim| put_varint(dim, tensor));
        self.params.iter().for_each(|param| tensor.extend_from_slice(param));
        if raw {
            from.iter().for_each(|(column, row)| column.put_raw(*row, self.tensor.datatype, contents));
            return;
        }
        let mut typed = Vec::new();
        match (&self.cells, self.tensor.datatype.contents_field()) {
            (Cells::Texts(_), Some(number)) => {
                for (column, row) in from {
                    if let Cells::Texts(texts) = &column.cells {
                        let texts = &texts[row * column.width..][..column.width];
                        texts.iter().for_each(|text| put_bytes(number, text, &mut typed));
                    }
                }
            }
            (Cells::Fixed(_), Some(number)) => {
                let mut cells = Vec::new();
                from.iter().for_each(|(column, row)| column.put_raw(*row, self.tensor.datatype, &mut cells));
                put_bytes(number, &packed(self.tensor.datatype, cells), &mut typed);
            }
            (_, None) => {}
        }
        put_bytes(field::CONTENTS, &typed, tensor);
    }

    /// Appends a row as raw contents of `datatype`.
    fn put_raw(&self, row: usize, datatype: Datatype, out: &mut Vec<u8>) {
        match &self.cells {
            Cells::Texts(texts) => {
                for text in &texts[row * self.width..][..self.width] {
                    out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
                    out.extend_from_slice(text);
                }
            }
            Cells::Fixed(cells) => {
                let own = self.tensor.datatype;
                let bytes = self.width * own.width();
                let row = &cells[row * bytes..][..bytes];
                if own == datatype {
                    out.extend_from_slice(row);
                } else {
                    row.chunks_exact(own.width()).for_each(|cell| put_float(float(own, cell), datatype, out));
                }
            }
        }
    }
}

fn is_float(datatype: Datatype) -> bool {
    matches!(datatype, Datatype::Fp16 | Datatype::Bf16 | Datatype::Fp32 | Datatype::Fp64)
}

fn float(datatype: Datatype, mut cell: &[u8]) -> f64 {
    match datatype {
        Datatype::Fp16 => take_array(&mut cell).map(|bytes| f16::from_le_bytes(bytes).to_f64()),
        Datatype::Bf16 => take_array(&mut cell).map(|bytes| bf16::from_le_bytes(bytes).to_f64()),
        Datatype::Fp32 => take_array(&mut cell).map(|bytes| f64::from(f32::from_le_bytes(bytes))),
        _ => take_array(&mut cell).map(f64::from_le_bytes),
    }
    .unwrap_or(f64::NAN)
}

#[expect(clippy::cast_possible_truncation, reason = "a score is written in the form that the first answer has")]
fn put_float(number: f64, datatype: Datatype, out: &mut Vec<u8>) {
    match datatype {
        Datatype::Fp16 => out.extend(f16::from_f64(number).to_le_bytes()),
        Datatype::Bf16 => out.extend(bf16::from_f64(number).to_le_bytes()),
        Datatype::Fp32 => out.extend((number as f32).to_le_bytes()),
        _ => out.extend(number.to_le_bytes()),
    }
}

/// The elements of a tensor in the form of raw contents.
fn cells<'a>(tensor: &Tensor<'a>, count: usize) -> Result<Cells<'a>, InvalidOutput> {
    if tensor.datatype == Datatype::Bytes {
        let mut texts = Vec::with_capacity(count);
        tensor.texts(count, |text| {
            texts.push(text);
            Ok(())
        })?;
        return Ok(Cells::Texts(texts));
    }
    let bytes = count * tensor.datatype.width();
    if let Some(raw) = tensor.raw {
        if raw.len() != bytes {
            return Err(tensor.invalid(format_args!("{} bytes of raw contents, its shape wants {bytes}", raw.len())));
        }
        return Ok(Cells::Fixed(Cow::Borrowed(raw)));
    }
    let mut fixed = Vec::with_capacity(bytes);
    tensor.each_typed(|value| {
        let complete = match value {
            Value::Bytes(mut packed) => loop {
                if packed.is_empty() {
                    break true;
                }
                let one = match tensor.datatype {
                    Datatype::Fp32 => take_array(&mut packed).map(Value::Fixed32),
                    Datatype::Fp64 => take_array(&mut packed).map(Value::Fixed64),
                    _ => take_varint(&mut packed).ok().map(Value::Varint),
                };
                if fixed.len() >= bytes || !one.is_some_and(|one| put_fixed(tensor.datatype, one, &mut fixed)) {
                    break false;
                }
            },
            single => fixed.len() < bytes && put_fixed(tensor.datatype, single, &mut fixed),
        };
        if complete { Ok(()) } else { Err(tensor.invalid("typed contents that do not fit its shape and datatype")) }
    })?;
    if fixed.len() != bytes {
        return Err(tensor.invalid("fewer typed contents than its shape wants"));
    }
    Ok(Cells::Fixed(Cow::Owned(fixed)))
}

/// One typed element as raw contents have it; false for a wire type that its datatype cannot have.
fn put_fixed(datatype: Datatype, value: Value<'_>, out: &mut Vec<u8>) -> bool {
    match (datatype, value) {
        (Datatype::Fp32, Value::Fixed32(bytes)) => out.extend(bytes),
        (Datatype::Fp64, Value::Fixed64(bytes)) => out.extend(bytes),
        (Datatype::Bool, Value::Varint(number)) => out.push(u8::from(number != 0)),
        // Little-endian: the low bytes come first, and are what protobuf reads of a narrower number.
        (Datatype::Fp32 | Datatype::Fp64, _) => return false,
        (_, Value::Varint(number)) => out.extend(&number.to_le_bytes()[..datatype.width()]),
        _ => return false,
    }
    true
}

/// Raw elements as packed typed contents.
fn packed(datatype: Datatype, cells: Vec<u8>) -> Vec<u8> {
    if is_float(datatype) {
        return cells;
    }
    let signed = matches!(datatype, Datatype::Int8 | Datatype::Int16 | Datatype::Int32 | Datatype::Int64);
    let mut out = Vec::with_capacity(cells.len());
    for cell in cells.chunks_exact(datatype.width()) {
        // Negative numbers are sign-extended to 64 bits, as protobuf writes them.
        let negative = signed && cell.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        wide[..cell.len()].copy_from_slice(cell);
        put_varint(u64::from_le_bytes(wide), &mut out);
    }
    out
}
