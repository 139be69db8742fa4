//! One output tensor's numbers or texts, from typed or raw contents.

use half::{bf16, f16};
use smallvec::SmallVec;

use super::field;
use super::head::take_dims;
use crate::policy::InvalidOutput;
use crate::wire::proto::{self, Fields, Malformed, Value, take_array, take_varint};

/// The datatypes of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::wire) enum Datatype {
    Bool,
    Int8,
    Int16,
    Int32,
    Int64,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Fp16,
    Bf16,
    Fp32,
    Fp64,
    Bytes,
}

impl Datatype {
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "BOOL" => Self::Bool,
            "INT8" => Self::Int8,
            "INT16" => Self::Int16,
            "INT32" => Self::Int32,
            "INT64" => Self::Int64,
            "UINT8" => Self::Uint8,
            "UINT16" => Self::Uint16,
            "UINT32" => Self::Uint32,
            "UINT64" => Self::Uint64,
            "FP16" => Self::Fp16,
            "BF16" => Self::Bf16,
            "FP32" => Self::Fp32,
            "FP64" => Self::Fp64,
            "BYTES" => Self::Bytes,
            _ => return None,
        })
    }

    /// Bytes of an element in raw contents; 0 where each has a length of its own.
    pub fn width(self) -> usize {
        match self {
            Self::Bool | Self::Int8 | Self::Uint8 => 1,
            Self::Int16 | Self::Uint16 | Self::Fp16 | Self::Bf16 => 2,
            Self::Int32 | Self::Uint32 | Self::Fp32 => 4,
            Self::Int64 | Self::Uint64 | Self::Fp64 => 8,
            Self::Bytes => 0,
        }
    }

    /// Its field in `InferTensorContents`; none where the protocol knows raw contents alone.
    pub fn contents_field(self) -> Option<u32> {
        Some(match self {
            Self::Bool => 1,
            Self::Int8 | Self::Int16 | Self::Int32 => 2,
            Self::Int64 => 3,
            Self::Uint8 | Self::Uint16 | Self::Uint32 => 4,
            Self::Uint64 => 5,
            Self::Fp32 => 6,
            Self::Fp64 => 7,
            Self::Bytes => 8,
            Self::Fp16 | Self::Bf16 => return None,
        })
    }

    /// Appends all of the little-endian numbers in `raw`; what is less than a number at its end is left out.
    #[expect(clippy::cast_precision_loss, reason = "64-bit integers are compared as the scores they stand for")]
    pub fn read_raw(self, raw: &[u8], out: &mut Vec<f64>) {
        macro_rules! extend {
            ($number:ty, $to:expr) => {{
                let (elements, _) = raw.as_chunks::<{ size_of::<$number>() }>();
                out.extend(elements.iter().map(|&bytes| $to(<$number>::from_le_bytes(bytes))));
            }};
        }
        match self {
            Self::Bool => out.extend(raw.iter().map(|&byte| f64::from(u8::from(byte != 0)))),
            Self::Int8 => extend!(i8, f64::from),
            Self::Int16 => extend!(i16, f64::from),
            Self::Int32 => extend!(i32, f64::from),
            Self::Int64 => extend!(i64, |number| number as f64),
            Self::Uint8 => extend!(u8, f64::from),
            Self::Uint16 => extend!(u16, f64::from),
            Self::Uint32 => extend!(u32, f64::from),
            Self::Uint64 => extend!(u64, |number| number as f64),
            Self::Fp16 => extend!(f16, f64::from),
            Self::Bf16 => extend!(bf16, f64::from),
            Self::Fp32 => extend!(f32, f64::from),
            Self::Fp64 => extend!(f64, f64::from),
            Self::Bytes => {}
        }
    }

    /// As the protocol writes it.
    pub fn word(self) -> String {
        format!("{self:?}").to_uppercase()
    }

    pub fn is_integer(self) -> bool {
        !matches!(self, Self::Fp16 | Self::Bf16 | Self::Fp32 | Self::Fp64 | Self::Bytes)
    }
}

/// An `InferOutputTensor`, not yet read.
pub(super) struct Tensor<'a> {
    pub name: &'a str,
    pub datatype: Datatype,
    pub dims: SmallVec<[i64; 4]>,
    /// Its entry in `raw_output_contents`, if the answer is raw.
    pub raw: Option<&'a [u8]>,
    /// The whole message, for its typed contents.
    message: &'a [u8],
}

/// The name in a tensor's message.
pub(super) fn name_of(message: &[u8]) -> Result<&str, Malformed> {
    let mut name: &[u8] = b"";
    let mut fields = Fields::new(message);
    while let Some(found) = fields.next_field()? {
        if let (field::NAME, Value::Bytes(bytes)) = (found.number, found.value) {
            name = bytes;
        }
    }
    proto::text(name)
}

impl<'a> Tensor<'a> {
    pub fn parse(name: &'a str, message: &'a [u8], raw: Option<&'a [u8]>) -> Result<Self, InvalidOutput> {
        let (mut datatype, mut dims) = ("", SmallVec::new());
        let mut fields = Fields::new(message);
        while let Some(found) = fields.next_field().map_err(Malformed::from).map_err(|fault| invalid(name, fault))? {
            match (found.number, found.value) {
                (field::DATATYPE, Value::Bytes(bytes)) => {
                    datatype = proto::text(bytes).map_err(|fault| invalid(name, fault))?;
                }
                (field::SHAPE, value) => take_dims(value, 0, &mut dims).map_err(|fault| invalid(name, fault))?,
                _ => {}
            }
        }
        let known = Datatype::parse(datatype)
            .ok_or_else(|| invalid(name, format_args!("an unknown datatype '{}'", shorten(datatype))))?;
        Ok(Self { name, datatype: known, dims, raw, message })
    }

    pub fn invalid(&self, words: impl std::fmt::Display) -> InvalidOutput {
        invalid(self.name, words)
    }

    /// Appends its `count` elements as numbers.
    pub fn numbers(&self, count: usize, out: &mut Vec<f64>) -> Result<(), InvalidOutput> {
        if self.datatype == Datatype::Bytes {
            return Err(self.invalid("datatype BYTES, wanted numbers"));
        }
        match self.raw {
            Some(raw) => self.raw_numbers(raw, count, out),
            None => self.typed_numbers(count, out),
        }
    }

    fn raw_numbers(&self, raw: &[u8], count: usize, out: &mut Vec<f64>) -> Result<(), InvalidOutput> {
        let wanted = count.saturating_mul(self.datatype.width());
        if raw.len() != wanted {
            let dims = &self.dims;
            let words = format_args!("{} bytes of raw contents, shape {dims:?} wants {wanted}", raw.len());
            return Err(self.invalid(words));
        }
        self.datatype.read_raw(raw, out);
        Ok(())
    }

    fn typed_numbers(&self, count: usize, out: &mut Vec<f64>) -> Result<(), InvalidOutput> {
        self.each_typed_number(count, |number| {
            out.push(number);
            Ok(())
        })
    }

    fn each_typed_number(
        &self,
        count: usize,
        mut visit: impl FnMut(f64) -> Result<(), InvalidOutput>,
    ) -> Result<(), InvalidOutput> {
        let mut held = 0;
        let mut one = |number: Option<f64>| {
            let number = number.ok_or_else(|| self.invalid("typed contents that cannot be read"))?;
            if held == count {
                return Err(self.too_many(count));
            }
            held += 1;
            visit(number)
        };
        self.each_typed(|value| match value {
            Value::Bytes(mut packed) => {
                while !packed.is_empty() {
                    let number = match self.datatype {
                        Datatype::Fp32 => take_array(&mut packed).map(Value::Fixed32),
                        Datatype::Fp64 => take_array(&mut packed).map(Value::Fixed64),
                        _ => take_varint(&mut packed).ok().map(Value::Varint),
                    };
                    one(number.and_then(|number| self.number(number)))?;
                }
                Ok(())
            }
            single => one(self.number(single)),
        })?;
        if held == count { Ok(()) } else { Err(self.too_few(held, count)) }
    }

    /// Visits its `count` elements as numbers, without gathering them.
    pub fn each_number(
        &self,
        count: usize,
        mut visit: impl FnMut(f64) -> Result<(), InvalidOutput>,
    ) -> Result<(), InvalidOutput> {
        // Some at a time: the contents may be megabytes, and what is gathered of them is not.
        const AT_ONCE: usize = 512;
        let Some(raw) = self.raw else { return self.each_typed_number(count, visit) };
        let width = self.datatype.width();
        let wanted = count.saturating_mul(width);
        if width == 0 || raw.len() != wanted {
            // Says what is wrong.
            return self.raw_numbers(raw, count, &mut Vec::new());
        }
        let mut numbers = Vec::with_capacity(AT_ONCE.min(count));
        for part in raw.chunks(AT_ONCE * width) {
            numbers.clear();
            self.raw_numbers(part, part.len() / width, &mut numbers)?;
            numbers.iter().try_for_each(|number| visit(*number))?;
        }
        Ok(())
    }

    /// One typed element; none for a wire type that its datatype cannot have.
    #[expect(clippy::cast_precision_loss, reason = "64-bit integers are compared as the scores they stand for")]
    #[expect(clippy::cast_possible_truncation, reason = "protobuf reads 32-bit numbers from the low bits")]
    fn number(&self, value: Value<'_>) -> Option<f64> {
        Some(match (self.datatype, value) {
            (Datatype::Bool, Value::Varint(number)) => f64::from(u8::from(number != 0)),
            (Datatype::Int8 | Datatype::Int16 | Datatype::Int32, Value::Varint(number)) => {
                f64::from((number as u32).cast_signed())
            }
            (Datatype::Int64, Value::Varint(number)) => number.cast_signed() as f64,
            (Datatype::Uint8 | Datatype::Uint16 | Datatype::Uint32, Value::Varint(number)) => f64::from(number as u32),
            (Datatype::Uint64, Value::Varint(number)) => number as f64,
            (Datatype::Fp32, Value::Fixed32(bytes)) => f64::from(f32::from_le_bytes(bytes)),
            (Datatype::Fp64, Value::Fixed64(bytes)) => f64::from_le_bytes(bytes),
            _ => return None,
        })
    }

    /// Visits its `count` elements as texts; for datatype BYTES.
    pub fn texts(
        &self,
        count: usize,
        mut visit: impl FnMut(&'a [u8]) -> Result<(), InvalidOutput>,
    ) -> Result<(), InvalidOutput> {
        let mut held = 0;
        if let Some(mut raw) = self.raw {
            // Each element is preceded by its length, four bytes, little-endian.
            while !raw.is_empty() {
                if held == count {
                    return Err(self.too_many(count));
                }
                let element =
                    take_array(&mut raw).and_then(|len| raw.split_at_checked(u32::from_le_bytes(len) as usize));
                let Some((element, rest)) = element else {
                    return Err(self.invalid("raw contents that end within an element"));
                };
                visit(element)?;
                raw = rest;
                held += 1;
            }
        } else {
            self.each_typed(|value| {
                let Value::Bytes(element) = value else {
                    return Ok(());
                };
                if held == count {
                    return Err(self.too_many(count));
                }
                held += 1;
                visit(element)
            })?;
        }
        if held == count { Ok(()) } else { Err(self.too_few(held, count)) }
    }

    /// Visits the field of its datatype in every `contents`: protobuf adds repeated fields up.
    pub fn each_typed(
        &self,
        mut visit: impl FnMut(Value<'a>) -> Result<(), InvalidOutput>,
    ) -> Result<(), InvalidOutput> {
        let Some(number) = self.datatype.contents_field() else {
            return Err(self.invalid("a 16-bit float without raw_output_contents, where alone it can stand"));
        };
        let mut fields = Fields::new(self.message);
        while let Some(found) = self.next(&mut fields)? {
            let (field::CONTENTS, Value::Bytes(contents)) = (found.number, found.value) else {
                continue;
            };
            let mut contents = Fields::new(contents);
            while let Some(found) = self.next(&mut contents)? {
                if found.number == number {
                    visit(found.value)?;
                }
            }
        }
        Ok(())
    }

    fn next(&self, fields: &mut Fields<'a>) -> Result<Option<proto::Field<'a>>, InvalidOutput> {
        fields.next_field().map_err(|stop| self.invalid(Malformed::from(stop)))
    }

    fn too_many(&self, count: usize) -> InvalidOutput {
        self.invalid(format_args!("more than the {count} elements of its shape {:?}", self.dims))
    }

    fn too_few(&self, held: usize, count: usize) -> InvalidOutput {
        self.invalid(format_args!("{held} elements of its datatype, shape {:?} wants {count}", self.dims))
    }
}

pub(super) fn invalid(output: &str, words: impl std::fmt::Display) -> InvalidOutput {
    InvalidOutput(format!("output '{}': {words}", shorten(output)).into())
}

/// The front of a text that a peer wrote, short enough for a message.
pub(super) fn shorten(text: &str) -> &str {
    let mut end = text.len().min(64);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
