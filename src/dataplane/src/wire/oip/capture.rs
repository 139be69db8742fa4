//! What of a request may leave the call: its inputs, without those that the operator redacts.
//!
//! For people a whitelist: fields that are not known to be asked for (parameters, requested outputs, unknown fields) are left out.

use smallvec::SmallVec;

use super::{field, request, tensor};
use crate::wire::proto::{Fields, Malformed, Value};

/// Appends the request with its model, version, id and inputs, less the inputs named in `drop` with their contents,
/// typed or raw. Never more bytes than `message` has.
///
/// # Errors
/// Not a whole `ModelInferRequest`; or its raw contents do not match its inputs one by one, so that nobody can say whose
/// they are. Nothing was appended.
pub fn redact<N: AsRef<str>>(message: &[u8], drop: &[N], out: &mut Vec<u8>) -> Result<(), Malformed> {
    let start = out.len();
    let known = |number: u32, _: &[u8]| Ok(matches!(number, request::NAME | request::VERSION | request::ID));
    let done = copy(message, drop, known, out);
    if done.is_err() {
        out.truncate(start);
    }
    done
}

/// Appends the request as it is, less the inputs named in `inputs` with their contents, and the parameters in `params`: for
/// another model, which may need all the rest.
///
/// # Errors
/// As [`redact`]; nothing was appended.
pub fn without<N: AsRef<str>>(message: &[u8], inputs: &[N], params: &[N], out: &mut Vec<u8>) -> Result<(), Malformed> {
    let start = out.len();
    let kept = |number: u32, bytes: &[u8]| {
        if number != request::PARAMETERS {
            return Ok(true);
        }
        let mut key: &[u8] = b"";
        let mut entry = Fields::new(bytes);
        while let Some(found) = entry.next_field()? {
            if let (1, Value::Bytes(name)) = (found.number, found.value) {
                key = name;
            }
        }
        Ok(!params.iter().any(|dropped| dropped.as_ref().as_bytes() == key))
    };
    let done = copy(message, inputs, kept, out);
    if done.is_err() {
        out.truncate(start);
    }
    done
}

/// Appends all inputs but those named, and what else is wanted, by its number and bytes.
fn copy<N: AsRef<str>>(
    message: &[u8],
    drop: &[N],
    wanted: impl Fn(u32, &[u8]) -> Result<bool, Malformed>,
    out: &mut Vec<u8>,
) -> Result<(), Malformed> {
    // For each input that has an entry among the raw contents: whether that is kept.
    let mut kept: SmallVec<[bool; 8]> = SmallVec::new();
    let mut raw = 0;
    let mut fields = Fields::new(message);
    while let Some(found) = fields.next_field()? {
        match (found.number, found.value) {
            (request::INPUTS, Value::Bytes(input)) if !is_shared(input)? => kept.push(keeps(input, drop)?),
            (request::RAW, Value::Bytes(_)) => raw += 1,
            _ => {}
        }
    }
    if raw != 0 && raw != kept.len() {
        return Err(Malformed("raw_input_contents that do not match the inputs"));
    }
    let mut kept = kept.iter();
    let mut fields = Fields::new(message);
    loop {
        let before = fields.rest();
        let Some(found) = fields.next_field()? else {
            return Ok(());
        };
        let copied = match (found.number, found.value) {
            (request::INPUTS, Value::Bytes(input)) => keeps(input, drop)?,
            (request::RAW, Value::Bytes(_)) => kept.next().copied().unwrap_or(false),
            (number, Value::Bytes(bytes)) => wanted(number, bytes)?,
            (number, _) => wanted(number, &[])?,
        };
        if copied {
            out.extend_from_slice(&before[..before.len() - fields.rest().len()]);
        }
    }
}

fn keeps<N: AsRef<str>>(input: &[u8], drop: &[N]) -> Result<bool, Malformed> {
    let name = tensor::name_of(input)?;
    Ok(!drop.iter().any(|dropped| dropped.as_ref() == name))
}

/// An input in shared memory has no entry among the raw contents.
pub(super) fn is_shared(input: &[u8]) -> Result<bool, Malformed> {
    let mut fields = Fields::new(input);
    while let Some(found) = fields.next_field()? {
        let (field::PARAMETERS, Value::Bytes(entry)) = (found.number, found.value) else {
            continue;
        };
        let mut entry = Fields::new(entry);
        while let Some(found) = entry.next_field()? {
            if (found.number, found.value) == (1, Value::Bytes(b"shared_memory_region")) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
