//! Single values as they stand on the wire.

use crate::policy::descriptor::{Kind, Number};
use crate::wire::proto::{Malformed, Value, take_array, take_varint};

/// Whether a value has the wire type of its field; one that has not is an unknown field.
pub fn is_of(kind: &Kind, value: Value<'_>) -> bool {
    match kind {
        Kind::Number(number) => number_of(*number, value).is_some(),
        Kind::Enum(_) => matches!(value, Value::Varint(_)),
        Kind::Text | Kind::Bytes | Kind::Tensor | Kind::Message => matches!(value, Value::Bytes(_)),
    }
}

/// What a field without presence says by its absence, and a map's entry that has no value.
pub fn zero(kind: &Kind) -> Value<'static> {
    match kind {
        Kind::Number(Number::Double | Number::Fixed64 | Number::Sfixed64) => Value::Fixed64([0; 8]),
        Kind::Number(Number::Float | Number::Fixed32 | Number::Sfixed32) => Value::Fixed32([0; 4]),
        Kind::Number(_) | Kind::Enum(_) => Value::Varint(0),
        Kind::Text | Kind::Bytes | Kind::Tensor | Kind::Message => Value::Bytes(&[]),
    }
}

/// A number; `None` for a wire type that it cannot have.
#[expect(clippy::cast_precision_loss, reason = "64-bit integers are compared as the scores they stand for")]
pub fn number_of(number: Number, value: Value<'_>) -> Option<f64> {
    Some(match (number, value) {
        (Number::Double, Value::Fixed64(bytes)) => f64::from_le_bytes(bytes),
        (Number::Float, Value::Fixed32(bytes)) => f64::from(f32::from_le_bytes(bytes)),
        (Number::Uint64, Value::Varint(bits)) => bits as f64,
        (Number::Fixed64, Value::Fixed64(bytes)) => u64::from_le_bytes(bytes) as f64,
        _ => integer_of(number, value)? as f64,
    })
}

/// An integer; one that is too large for its sign wraps, as in any parser that keeps 64 bits.
#[expect(clippy::cast_possible_truncation, reason = "protobuf reads 32-bit numbers from the low bits")]
pub fn integer_of(number: Number, value: Value<'_>) -> Option<i64> {
    Some(match (number, value) {
        (Number::Int32, Value::Varint(bits)) => i64::from((bits as u32).cast_signed()),
        (Number::Uint32, Value::Varint(bits)) => i64::from(bits as u32),
        (Number::Int64 | Number::Uint64, Value::Varint(bits)) => bits.cast_signed(),
        (Number::Sint32, Value::Varint(bits)) => i64::from((zigzag(u64::from(bits as u32)) as u32).cast_signed()),
        (Number::Sint64, Value::Varint(bits)) => zigzag(bits).cast_signed(),
        (Number::Bool, Value::Varint(bits)) => i64::from(bits != 0),
        (Number::Fixed32, Value::Fixed32(bytes)) => i64::from(u32::from_le_bytes(bytes)),
        (Number::Sfixed32, Value::Fixed32(bytes)) => i64::from(i32::from_le_bytes(bytes)),
        (Number::Fixed64 | Number::Sfixed64, Value::Fixed64(bytes)) => i64::from_le_bytes(bytes),
        _ => return None,
    })
}

/// Small numbers of either sign in few bits.
fn zigzag(bits: u64) -> u64 {
    (bits >> 1) ^ (bits & 1).wrapping_neg()
}

/// The back and forth of [`zigzag`].
pub fn unzigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

/// Visits the elements of a list's field: one that stands alone, or packed ones.
///
/// # Errors
/// Packed numbers that end within one, unless the message is cut there; and what `visit` says.
pub fn elements<'a, F: From<Malformed>>(
    kind: &Kind,
    value: Value<'a>,
    whole: bool,
    mut visit: impl FnMut(Value<'a>) -> Result<(), F>,
) -> Result<(), F> {
    let (Value::Bytes(mut packed), Kind::Number(_) | Kind::Enum(_)) = (value, kind) else {
        return if is_of(kind, value) { visit(value) } else { Ok(()) };
    };
    let template = zero(kind);
    while !packed.is_empty() {
        let next = match template {
            Value::Fixed64(_) => take_array(&mut packed).map(Value::Fixed64),
            Value::Fixed32(_) => take_array(&mut packed).map(Value::Fixed32),
            _ => take_varint(&mut packed).ok().map(Value::Varint),
        };
        match next {
            Some(next) => visit(next)?,
            None if whole => return Err(Malformed("packed numbers that cannot be read").into()),
            None => return Ok(()),
        }
    }
    Ok(())
}
