//! `tensorflow.TensorProto`: a tensor's shape, and its numbers or texts, from its content or its typed values.
//!
//! Source: tensorflow/core/framework/tensor.proto, and `Tensor::FromProto`: where there are fewer typed values than
//! elements, the last one stands for the rest; where there are none, zero does.

use smallvec::SmallVec;

use crate::wire::oip::head::MAX_DIMS;
use crate::wire::oip::tensor::Datatype;
use crate::wire::proto::{Fields, Malformed, Stop, Value, put_bytes, put_len, put_number, take_array, take_varint};

/// Field numbers of `TensorProto`.
mod field {
    pub const DTYPE: u32 = 1;
    pub const SHAPE: u32 = 2;
    pub const CONTENT: u32 = 4;
    pub const FLOAT: u32 = 5;
    pub const DOUBLE: u32 = 6;
    pub const INT: u32 = 7;
    pub const STRING: u32 = 8;
    pub const INT64: u32 = 10;
    pub const BOOL: u32 = 11;
    pub const HALF: u32 = 13;
    pub const UINT32: u32 = 16;
    pub const UINT64: u32 = 17;
}

/// A dtype by its number.
fn datatype(dtype: u64) -> Option<Datatype> {
    Some(match dtype {
        1 => Datatype::Fp32,
        2 => Datatype::Fp64,
        3 => Datatype::Int32,
        4 => Datatype::Uint8,
        5 => Datatype::Int16,
        6 => Datatype::Int8,
        7 => Datatype::Bytes,
        9 => Datatype::Int64,
        10 => Datatype::Bool,
        14 => Datatype::Bf16,
        17 => Datatype::Uint16,
        19 => Datatype::Fp16,
        22 => Datatype::Uint32,
        23 => Datatype::Uint64,
        _ => return None,
    })
}

/// The dtype of a datatype that static answers have.
pub fn dtype(datatype: Datatype) -> Option<(u64, u32)> {
    Some(match datatype {
        Datatype::Fp32 => (1, field::FLOAT),
        Datatype::Fp64 => (2, field::DOUBLE),
        Datatype::Bytes => (7, field::STRING),
        Datatype::Bf16 => (14, field::HALF),
        Datatype::Fp16 => (19, field::HALF),
        _ => return None,
    })
}

/// A tensor, not yet read.
pub struct Tensor<'a> {
    pub dtype: u64,
    pub dims: SmallVec<[i64; 4]>,
    content: &'a [u8],
    message: &'a [u8],
}

impl<'a> Tensor<'a> {
    /// Reads dtype and shape.
    ///
    /// # Errors
    /// Not a tensor, or one without a known shape.
    pub fn read(message: &'a [u8], whole: bool) -> Result<Self, Malformed> {
        let mut tensor = Self { dtype: 0, dims: SmallVec::new(), content: &[], message };
        let mut fields = Fields::new(message);
        loop {
            match fields.next_field() {
                Ok(Some(found)) => match (found.number, found.value) {
                    (field::DTYPE, Value::Varint(dtype)) => tensor.dtype = dtype,
                    (field::SHAPE, Value::Bytes(shape)) => tensor.take_shape(shape)?,
                    (field::CONTENT, Value::Bytes(content)) => tensor.content = content,
                    _ => {}
                },
                Ok(None) => return Ok(tensor),
                Err(Stop::Cut { .. }) if !whole => return Ok(tensor),
                Err(stop) => return Err(stop.into()),
            }
        }
    }

    fn take_shape(&mut self, shape: &[u8]) -> Result<(), Malformed> {
        let mut fields = Fields::new(shape);
        while let Some(found) = fields.next_field()? {
            match (found.number, found.value) {
                (2, Value::Bytes(dim)) => {
                    if self.dims.len() == MAX_DIMS {
                        return Err(Malformed("a shape of more than 64 dimensions"));
                    }
                    self.dims.push(size(dim)?);
                }
                (3, Value::Varint(unknown)) if unknown != 0 => return Err(Malformed("a tensor of unknown rank")),
                _ => {}
            }
        }
        Ok(())
    }

    /// Its datatype.
    ///
    /// # Errors
    /// Words: one that is not read.
    pub fn datatype(&self) -> Result<Datatype, String> {
        datatype(self.dtype).ok_or_else(|| format!("dtype {}, which is not read", self.dtype))
    }

    /// Appends its `count` elements as numbers.
    ///
    /// # Errors
    /// Words: more elements than the shape has, or no numbers.
    pub fn numbers(&self, count: usize, out: &mut Vec<f64>) -> Result<(), String> {
        let datatype = self.datatype()?;
        if datatype == Datatype::Bytes {
            return Err("a tensor of strings, wanted numbers".into());
        }
        if !self.content.is_empty() {
            return raw_numbers(datatype, self.content, count, out);
        }
        let number = match datatype {
            Datatype::Fp32 => field::FLOAT,
            Datatype::Fp64 => field::DOUBLE,
            Datatype::Int64 => field::INT64,
            Datatype::Bool => field::BOOL,
            Datatype::Fp16 | Datatype::Bf16 => field::HALF,
            Datatype::Uint32 => field::UINT32,
            Datatype::Uint64 => field::UINT64,
            _ => field::INT,
        };
        let end = out.len() + count;
        let mut take = |value: Value<'_>| match element(datatype, value) {
            Some(_) if out.len() == end => Err(too_many(count, &self.dims)),
            Some(number) => {
                out.push(number);
                Ok(())
            }
            None => Err("values that cannot be read".to_owned()),
        };
        self.each(number, |value| {
            let Value::Bytes(mut packed) = value else { return take(value) };
            while !packed.is_empty() {
                let next = match datatype {
                    Datatype::Fp32 => take_array(&mut packed).map(Value::Fixed32),
                    Datatype::Fp64 => take_array(&mut packed).map(Value::Fixed64),
                    _ => take_varint(&mut packed).ok().map(Value::Varint),
                };
                take(next.ok_or("values that cannot be read")?)?;
            }
            Ok(())
        })?;
        let last = if out.len() + count > end { out.last().copied().unwrap_or(0.0) } else { 0.0 };
        out.resize(end, last);
        Ok(())
    }

    /// Visits its `count` elements as texts.
    ///
    /// # Errors
    /// Words: more elements than the shape has, and what `visit` says.
    pub fn texts(&self, count: usize, mut visit: impl FnMut(&'a [u8]) -> Result<(), String>) -> Result<(), String> {
        let (mut met, mut last) = (0, &b""[..]);
        self.each(field::STRING, |value| {
            let Value::Bytes(text) = value else { return Ok(()) };
            if met == count {
                return Err(too_many(count, &self.dims));
            }
            (met, last) = (met + 1, text);
            visit(text)
        })?;
        for _ in met..count {
            visit(last)?;
        }
        Ok(())
    }

    fn each(&self, number: u32, mut visit: impl FnMut(Value<'a>) -> Result<(), String>) -> Result<(), String> {
        let mut fields = Fields::new(self.message);
        while let Some(found) = fields.next_field().map_err(|stop| Malformed::from(stop).to_string())? {
            if found.number == number {
                visit(found.value)?;
            }
        }
        Ok(())
    }
}

fn size(dim: &[u8]) -> Result<i64, Malformed> {
    let mut size = 0;
    let mut fields = Fields::new(dim);
    while let Some(found) = fields.next_field()? {
        if let (1, Value::Varint(found)) = (found.number, found.value) {
            size = found.cast_signed();
        }
    }
    Ok(size)
}

fn too_many(count: usize, dims: &[i64]) -> String {
    format!("more than the {count} elements of its shape {dims:?}")
}

/// Little-endian numbers, which must be as many as wanted.
pub fn raw_numbers(datatype: Datatype, raw: &[u8], count: usize, out: &mut Vec<f64>) -> Result<(), String> {
    let wanted = count.saturating_mul(datatype.width());
    if raw.len() != wanted {
        return Err(format!("{} bytes of content, wanted {wanted}", raw.len()));
    }
    datatype.read_raw(raw, out);
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "64-bit integers are compared as the scores they stand for")]
#[expect(clippy::cast_possible_truncation, reason = "protobuf reads 32-bit numbers from the low bits")]
fn element(datatype: Datatype, value: Value<'_>) -> Option<f64> {
    Some(match (datatype, value) {
        (Datatype::Fp32, Value::Fixed32(bytes)) => f64::from(f32::from_le_bytes(bytes)),
        (Datatype::Fp64, Value::Fixed64(bytes)) => f64::from_le_bytes(bytes),
        (Datatype::Fp16, Value::Varint(bits)) => half::f16::from_bits(bits as u16).to_f64(),
        (Datatype::Bf16, Value::Varint(bits)) => half::bf16::from_bits(bits as u16).to_f64(),
        (Datatype::Bool, Value::Varint(bits)) => f64::from(u8::from(bits != 0)),
        (Datatype::Int64, Value::Varint(bits)) => bits.cast_signed() as f64,
        (Datatype::Uint32, Value::Varint(bits)) => f64::from(bits as u32),
        (Datatype::Uint64, Value::Varint(bits)) => bits as f64,
        (_, Value::Varint(bits)) => f64::from((bits as u32).cast_signed()),
        _ => return None,
    })
}

/// Appends dtype and shape.
pub fn put_head(dtype: u64, dims: &[usize], out: &mut Vec<u8>) {
    put_number(field::DTYPE, dtype, out);
    let mut shape = Vec::new();
    for dim in dims {
        let mut size = Vec::new();
        put_number(1, *dim as u64, &mut size);
        put_bytes(2, &size, &mut shape);
    }
    put_len(field::SHAPE, shape.len(), out);
    out.extend_from_slice(&shape);
}
