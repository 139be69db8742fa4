//! What of a request may leave the call: its bytes, less what the operator cuts out and what no descriptor knows.

use smallvec::SmallVec;

use crate::policy::descriptor::{Cuts, Part};
use crate::wire::proto::{Fields, Malformed, Value, put_bytes};

use super::scan::is_key;

/// Appends the message without what is cut out. Never more bytes than `message` has, but for lengths that were written
/// shorter than they need be.
///
/// # Errors
/// Not a whole protobuf message as far as it is walked; nothing was appended.
pub fn redact(cuts: &Cuts, message: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    let start = out.len();
    let done = copy(cuts, message, out);
    if done.is_err() {
        out.truncate(start);
    }
    done
}

/// What is done with a field.
enum Fate<'c> {
    Goes,
    Stays,
    /// It is copied with these cut out, of it or of the value of an entry.
    Cut(SmallVec<[(&'c Cuts, bool); 2]>),
}

fn copy(cuts: &Cuts, message: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut fields = Fields::new(message);
    loop {
        let before = fields.rest();
        let Some(found) = fields.next_field()? else {
            return Ok(());
        };
        match fate(cuts, found.number, found.value)? {
            Fate::Goes => {}
            Fate::Stays => out.extend_from_slice(&before[..before.len() - fields.rest().len()]),
            Fate::Cut(within) => {
                // A field that is a message to the descriptor and none on the wire is unknown, and does not leave.
                let Value::Bytes(bytes) = found.value else { continue };
                let mut bytes = bytes.to_vec();
                for (cuts, entry) in within {
                    let mut less = Vec::with_capacity(bytes.len());
                    if entry {
                        copy_entry(cuts, &bytes, &mut less)?
                    } else {
                        copy(cuts, &bytes, &mut less)?
                    }
                    bytes = less;
                }
                put_bytes(found.number, &bytes, out);
            }
        }
    }
}

fn fate<'c>(cuts: &'c Cuts, number: u32, value: Value<'_>) -> Result<Fate<'c>, Malformed> {
    if !cuts.known.contains(&number) {
        return Ok(Fate::Goes);
    }
    let mut within = SmallVec::new();
    for part in &cuts.parts {
        match part {
            Part::Field(field) if *field == number => return Ok(Fate::Goes),
            Part::Within(field, cuts) if *field == number => within.push((cuts, false)),
            Part::Values(field, cuts) if *field == number => within.push((cuts, true)),
            Part::Entries(field, entries) if *field == number => {
                let Value::Bytes(entry) = value else { return Ok(Fate::Goes) };
                let key = key_of(entry)?;
                for (wanted, cuts) in entries {
                    match cuts {
                        _ if !is_key(wanted, key) => {}
                        None => return Ok(Fate::Goes),
                        Some(cuts) => within.push((cuts, true)),
                    }
                }
            }
            _ => {}
        }
    }
    Ok(if within.is_empty() { Fate::Stays } else { Fate::Cut(within) })
}

fn key_of(entry: &[u8]) -> Result<Option<Value<'_>>, Malformed> {
    let mut key = None;
    let mut fields = Fields::new(entry);
    while let Some(found) = fields.next_field()? {
        if found.number == 1 {
            key = Some(found.value);
        }
    }
    Ok(key)
}

/// Copies a map's entry, with something cut out of its value.
fn copy_entry(cuts: &Cuts, entry: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut fields = Fields::new(entry);
    loop {
        let before = fields.rest();
        let Some(found) = fields.next_field()? else {
            return Ok(());
        };
        match (found.number, found.value) {
            (1, _) => out.extend_from_slice(&before[..before.len() - fields.rest().len()]),
            (2, Value::Bytes(value)) => {
                let mut less = Vec::with_capacity(value.len());
                copy(cuts, value, &mut less)?;
                put_bytes(2, &less, out);
            }
            _ => {}
        }
    }
}
