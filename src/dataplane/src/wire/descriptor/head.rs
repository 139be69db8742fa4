//! What a decision sees of a request: its rows, id, model and the fields that the route names.

use std::borrow::Cow;

use smallvec::SmallVec;

use crate::policy::descriptor::{Described, DescribedMethod, FieldPath, Kind, Number};
use crate::policy::{ModelBackend, Param};
use crate::wire::proto::{Malformed, Value, put_bytes};

use super::scalar::{integer_of, number_of};
use super::scan::{follow, one, text};
use super::sinks::Count;
use super::tensor::Tensor;

/// The head of a described request, borrowed from its bytes.
#[derive(Debug)]
pub struct Head<'m> {
    pub described: &'m Described,
    /// Empty where the route does not say where it stands.
    pub model: &'m str,
    pub id: Cow<'m, str>,
    /// 1 if unknown.
    pub rows: u32,
    pub params: SmallVec<[(&'m str, Param<'m>); 4]>,
    /// The message goes on beyond what was searched; what stands there is unknown.
    pub cut: bool,
}

/// The name of the model that a request is for; empty where it has none.
///
/// # Errors
/// Not a protobuf message, or a name that is not UTF-8.
pub fn model_of<'m>(
    method: &DescribedMethod,
    message: &'m [u8],
    whole: bool,
    head_bytes: usize,
) -> Result<&'m str, Malformed> {
    let Some(path) = &method.model else { return Ok("") };
    let (message, whole) = front(message, whole, head_bytes);
    one(path, message, whole)?.map_or(Ok(""), |(value, _)| text(value))
}

fn front(message: &[u8], whole: bool, head_bytes: usize) -> (&[u8], bool) {
    match message.get(..head_bytes) {
        Some(prefix) if prefix.len() < message.len() => (prefix, false),
        _ => (message, whole),
    }
}

impl<'m> Head<'m> {
    /// Scans a request, or as much of it as is here: at most `head_bytes`, but where rows are counted.
    ///
    /// # Errors
    /// Not a protobuf message, or a string that is not UTF-8.
    pub fn scan(
        described: &'m Described,
        message: &'m [u8],
        whole: bool,
        head_bytes: usize,
    ) -> Result<Self, Malformed> {
        let asking = &described.asking;
        let (start, start_whole) = front(message, whole, head_bytes);
        let mut head =
            Self { described, model: "", id: Cow::Borrowed(""), rows: 1, params: SmallVec::new(), cut: !start_whole };
        let found = |path: &FieldPath| one(path, start, start_whole);
        if let Some(path) = &asking.model
            && let Some((value, _)) = found(path)?
        {
            head.model = text(value)?;
        }
        if let Some(path) = &asking.id
            && let Some((value, _)) = found(path)?
        {
            head.id = match (&path.kind, value) {
                (Kind::Number(number), value) => integer_of(*number, value).unwrap_or(0).to_string().into(),
                (_, value) => text(value)?.into(),
            };
        }
        if let Some(path) = &asking.rows {
            head.rows = if asking.counts_rows() {
                let mut count = Count::default();
                follow(path, message, whole, &mut count)?;
                count.0
            } else {
                found(path)?.map_or(Ok(1), |(value, whole)| rows(path, value, whole))?
            };
        }
        for (name, path) in &asking.params {
            if let Some((value, _)) = found(path)?
                && let Some(param) = param(&path.kind, value)?
            {
                head.params.push((name, param));
            }
        }
        Ok(head)
    }

    /// What to append to the request so that a backend's model is addressed: messages that come twice are merged, and the
    /// last name counts. Empty where the caller named it so already.
    pub fn address(&self, model: &ModelBackend) -> Vec<u8> {
        let Some(path) = &self.described.asking.model else { return Vec::new() };
        let name = model.model.as_deref().unwrap_or(self.model);
        if name == self.model && !self.cut {
            return Vec::new();
        }
        let mut made = name.as_bytes().to_vec();
        for step in path.steps.iter().rev() {
            let inner = std::mem::take(&mut made);
            put_bytes(step.field, &inner, &mut made);
        }
        made
    }
}

fn rows(path: &FieldPath, value: Value<'_>, whole: bool) -> Result<u32, Malformed> {
    let rows = match (&path.kind, value) {
        (Kind::Number(number), value) => integer_of(*number, value),
        (Kind::Tensor, Value::Bytes(bytes)) => Tensor::read(bytes, whole)?.dims.first().copied(),
        _ => None,
    };
    Ok(rows.map_or(1, |rows| u32::try_from(rows).unwrap_or(if rows < 0 { 1 } else { u32::MAX })))
}

fn param<'m>(kind: &'m Kind, value: Value<'m>) -> Result<Option<Param<'m>>, Malformed> {
    Ok(match kind {
        Kind::Number(Number::Bool) => integer_of(Number::Bool, value).map(|bit| Param::Bool(bit != 0)),
        Kind::Number(number @ (Number::Uint64 | Number::Fixed64)) => {
            // Beyond what rules count with, only the magnitude is left.
            let whole = integer_of(*number, value).filter(|whole| *whole >= 0).map(Param::Int);
            whole.or_else(|| number_of(*number, value).map(Param::Float))
        }
        Kind::Number(number) if number.is_float() => number_of(*number, value).map(Param::Float),
        Kind::Number(number) => integer_of(*number, value).map(Param::Int),
        Kind::Enum(names) => {
            let number = integer_of(Number::Int32, value);
            let known = names.iter().find(|(known, _)| Some(i64::from(*known)) == number);
            known.map(|(_, name)| Param::Text(name)).or(number.map(Param::Int))
        }
        Kind::Text => Some(Param::Text(text(value)?)),
        Kind::Bytes | Kind::Tensor | Kind::Message => None,
    })
}
