//! What a decision sees of a `ModelInferRequest`: everything but the tensors' contents.

use smallvec::SmallVec;

use super::{field, param, request};
use crate::policy::{Input, Param};
use crate::wire::proto::{self, ENDS_EARLY, Field, Fields, Malformed, Stop, Value};

/// More parameters than any client sends; a later value of a key is looked up among those before it.
pub const MAX_PARAMS: usize = 256;
/// Tables are sent with an input per column, so there may be many.
pub const MAX_INPUTS: usize = 4096;
/// numpy stops at 64 dimensions.
pub const MAX_DIMS: usize = 64;

/// The inputs of a head, as decisions see them.
pub type Inputs<'h> = SmallVec<[Input<'h>; 4]>;

/// The head of a `ModelInferRequest`, borrowed from its bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Head<'a> {
    pub model: &'a str,
    pub version: &'a str,
    pub id: &'a str,
    /// Each key once, with its last value.
    pub params: SmallVec<[(&'a str, Param<'a>); 4]>,
    /// `raw_input_contents` was seen: an answer is to be raw too.
    pub raw: bool,
    /// The message goes on beyond what was searched; what stands there is unknown.
    pub cut: bool,
    inputs: SmallVec<[Tensor<'a>; 4]>,
    dims: SmallVec<[i64; 16]>,
}

/// An input's head; its shape stands in `Head::dims`.
#[derive(Clone, Debug, Default, PartialEq)]
struct Tensor<'a> {
    name: &'a str,
    datatype: &'a str,
    dims: std::ops::Range<usize>,
}

impl<'a> Head<'a> {
    /// Scans a request, or as much of it as is here.
    ///
    /// At most `head_bytes` are searched. Clients write fields in the order of their numbers, so the names, id and
    /// parameters come before the tensors, and a tensor's shape before its contents: a prefix is enough in practice.
    ///
    /// # Errors
    /// Not a protobuf message, a string that is not UTF-8, more than [`MAX_PARAMS`], [`MAX_INPUTS`] or [`MAX_DIMS`]; or
    /// it ends within a field although it is `whole`.
    pub fn scan(message: &'a [u8], whole: bool, head_bytes: usize) -> Result<Self, Malformed> {
        let (message, whole) = match message.get(..head_bytes) {
            Some(prefix) if prefix.len() < message.len() => (prefix, false),
            _ => (message, whole),
        };
        let mut head = Self { cut: !whole, ..Self::default() };
        let mut fields = Fields::new(message);
        loop {
            match fields.next_field() {
                Ok(Some(found)) => head.take(found)?,
                Ok(None) => return Ok(head),
                Err(Stop::Malformed(malformed)) => return Err(malformed),
                Err(Stop::Cut { .. }) if whole => return Err(ENDS_EARLY),
                Err(Stop::Cut { number, held }) => {
                    match (number, held) {
                        (request::INPUTS, Some(held)) => head.take_input(held, false)?,
                        (request::RAW, _) => head.raw = true,
                        _ => {}
                    }
                    return Ok(head);
                }
            }
        }
    }

    /// First dimension of the first input; 1 if unknown.
    pub fn rows(&self) -> u32 {
        let first = self.inputs.first().and_then(|input| self.dims.get(input.dims.clone())?.first());
        first.map_or(1, |&rows| u32::try_from(rows).unwrap_or(if rows < 0 { 1 } else { u32::MAX }))
    }

    /// The inputs, without their contents.
    pub fn inputs(&self) -> Inputs<'_> {
        let view = |input: &Tensor<'a>| Input {
            name: input.name,
            datatype: input.datatype,
            shape: self.dims.get(input.dims.clone()).unwrap_or_default(),
        };
        self.inputs.iter().map(view).collect()
    }

    fn take(&mut self, found: Field<'a>) -> Result<(), Malformed> {
        // A known number of another wire type is an unknown field, as every protobuf parser has it.
        let Value::Bytes(bytes) = found.value else {
            return Ok(());
        };
        match found.number {
            request::NAME => self.model = proto::text(bytes)?,
            request::VERSION => self.version = proto::text(bytes)?,
            request::ID => self.id = proto::text(bytes)?,
            request::PARAMETERS => self.take_param(bytes)?,
            request::INPUTS => self.take_input(bytes, true)?,
            request::RAW => self.raw = true,
            _ => {}
        }
        Ok(())
    }

    fn take_param(&mut self, entry: &'a [u8]) -> Result<(), Malformed> {
        let (key, value) = read_param(entry)?;
        let known = self.params.iter().position(|(known, _)| *known == key);
        match (known, value) {
            (Some(known), Some(value)) => self.params[known].1 = value,
            // A parameter without a value hides what was said before it.
            (Some(known), None) => {
                self.params.remove(known);
            }
            (None, Some(_)) if self.params.len() == MAX_PARAMS => {
                return Err(Malformed("more than 256 parameters"));
            }
            (None, Some(value)) => self.params.push((key, value)),
            (None, None) => {}
        }
        Ok(())
    }

    fn take_input(&mut self, bytes: &'a [u8], whole: bool) -> Result<(), Malformed> {
        if self.inputs.len() == MAX_INPUTS {
            return Err(Malformed("more than 4096 inputs"));
        }
        let start = self.dims.len();
        let mut input = Tensor::default();
        let mut fields = Fields::new(bytes);
        loop {
            let found = match fields.next_field() {
                Ok(Some(found)) => found,
                Ok(None) => break,
                Err(Stop::Cut { .. }) if !whole => break,
                Err(stop) => return Err(stop.into()),
            };
            match (found.number, found.value) {
                (field::NAME, Value::Bytes(name)) => input.name = proto::text(name)?,
                (field::DATATYPE, Value::Bytes(datatype)) => input.datatype = proto::text(datatype)?,
                (field::SHAPE, value) => take_dims(value, start, &mut self.dims)?,
                _ => {}
            }
        }
        input.dims = start..self.dims.len();
        self.inputs.push(input);
        Ok(())
    }
}

/// Appends the dimensions of one `shape` field, packed or not, to those since `start`.
pub(super) fn take_dims<const N: usize>(
    value: Value<'_>,
    start: usize,
    dims: &mut SmallVec<[i64; N]>,
) -> Result<(), Malformed>
where
    [i64; N]: smallvec::Array<Item = i64>,
{
    let mut push = |dim: u64| {
        if dims.len() - start == MAX_DIMS {
            return Err(Malformed("a shape of more than 64 dimensions"));
        }
        dims.push(dim.cast_signed());
        Ok(())
    };
    match value {
        Value::Varint(dim) => push(dim)?,
        Value::Bytes(mut packed) => {
            while !packed.is_empty() {
                push(proto::take_varint(&mut packed).map_err(|_| Malformed("a shape that cannot be read"))?)?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// One entry of a `map<string, InferParameter>`.
fn read_param(entry: &[u8]) -> Result<(&str, Option<Param<'_>>), Malformed> {
    let (mut key, mut value) = ("", None);
    let mut fields = Fields::new(entry);
    while let Some(found) = fields.next_field()? {
        match (found.number, found.value) {
            (1, Value::Bytes(bytes)) => key = proto::text(bytes)?,
            (2, Value::Bytes(choice)) => {
                let mut choices = Fields::new(choice);
                while let Some(found) = choices.next_field()? {
                    value = read_choice(found)?.or(value);
                }
            }
            _ => {}
        }
    }
    Ok((key, value))
}

fn read_choice(found: Field<'_>) -> Result<Option<Param<'_>>, Malformed> {
    Ok(Some(match (found.number, found.value) {
        (param::BOOL, Value::Varint(value)) => Param::Bool(value != 0),
        (param::INT64, Value::Varint(value)) => Param::Int(value.cast_signed()),
        (param::STRING, Value::Bytes(value)) => Param::Text(proto::text(value)?),
        (param::DOUBLE, Value::Fixed64(value)) => Param::Float(f64::from_le_bytes(value)),
        #[expect(clippy::cast_precision_loss, reason = "beyond i64 only the magnitude is left")]
        (param::UINT64, Value::Varint(value)) => i64::try_from(value).map_or(Param::Float(value as f64), Param::Int),
        _ => return Ok(None),
    }))
}

/// The model that a `ModelReadyRequest` or `ModelMetadataRequest` asks about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModelName<'a> {
    pub name: &'a str,
    pub version: &'a str,
}

impl<'a> ModelName<'a> {
    /// Scans a whole message.
    ///
    /// # Errors
    /// Not a protobuf message, or a string that is not UTF-8.
    pub fn scan(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut found = Self::default();
        let mut fields = Fields::new(message);
        while let Some(next) = fields.next_field()? {
            match (next.number, next.value) {
                (request::NAME, Value::Bytes(name)) => found.name = proto::text(name)?,
                (request::VERSION, Value::Bytes(version)) => found.version = proto::text(version)?,
                _ => {}
            }
        }
        Ok(found)
    }
}
