//! What is cut out of a request before people see it, by paths such as `request.customer.email`.
//!
//! Brackets are for keys alone: what is said of a list holds for each of its elements, so nothing slips through by its place.

use prost_reflect::MessageDescriptor;

use super::path::{Index, Part as PathPart, PathFault, parse};
use super::resolve::{field_of, key_of, map_of, message_of, strip};
use super::spec::{Cuts, Key, Part};

/// Nothing is cut out yet, but for what the descriptor does not know.
pub fn none(message: &MessageDescriptor) -> Cuts {
    Cuts { known: message.fields().map(|field| field.number()).collect(), parts: Vec::new() }
}

/// Cuts out what a path leads to.
///
/// # Errors
/// [`PathFault`].
pub fn cut(cuts: &mut Cuts, text: &str, root: &MessageDescriptor) -> Result<(), PathFault> {
    let parts = parse(text)?;
    add(cuts, strip(&parts, root, "request"), root)
}

fn add(cuts: &mut Cuts, parts: &[PathPart<'_>], message: &MessageDescriptor) -> Result<(), PathFault> {
    let [part, rest @ ..] = parts else { return Ok(()) };
    let field = field_of(message, part)?;
    let number = field.number();
    if let Some((key, value)) = map_of(&field) {
        return match &part.index {
            Some(index @ (Index::Text(_) | Index::Number(_))) => {
                let key = key_of(part, &key, index)?;
                let (fresh, slot) = entry(&mut cuts.parts, number, key);
                if rest.is_empty() {
                    *slot = None;
                    return Ok(());
                }
                let value = message_of(&value, part)?;
                if fresh {
                    *slot = Some(none(&value));
                }
                // Where the entry goes as a whole, nothing is left to be cut.
                slot.as_mut().map_or(Ok(()), |inner| add(inner, rest, &value))
            }
            None | Some(Index::Each) if rest.is_empty() => {
                cuts.parts.push(Part::Field(number));
                Ok(())
            }
            None | Some(Index::Each) => {
                let value = message_of(&value, part)?;
                let inner = within(&mut cuts.parts, number, &value, true);
                add(inner, rest, &value)
            }
        };
    }
    match (&part.index, field.is_list()) {
        (None, _) | (Some(Index::Each), true) => {}
        (Some(_), true) => {
            let words = format!("what is cut out of {0} is cut out of every element, wanted {0} or {0}[]", part.name);
            return Err(PathFault::new(part.column, words));
        }
        (Some(_), false) => {
            return Err(PathFault::new(part.column, format!("{} is not repeated, wanted no brackets", part.name)));
        }
    }
    if rest.is_empty() {
        cuts.parts.push(Part::Field(number));
        return Ok(());
    }
    let value = message_of(&field.kind(), part)?;
    let inner = within(&mut cuts.parts, number, &value, false);
    add(inner, rest, &value)
}

/// The cuts within a field's messages, or within a map's values.
fn within<'c>(parts: &'c mut Vec<Part>, number: u32, value: &MessageDescriptor, map: bool) -> &'c mut Cuts {
    let known = parts.iter().position(|part| match part {
        Part::Within(field, _) => *field == number && !map,
        Part::Values(field, _) => *field == number && map,
        _ => false,
    });
    let at = known.unwrap_or_else(|| {
        let made = none(value);
        parts.push(if map { Part::Values(number, made) } else { Part::Within(number, made) });
        parts.len() - 1
    });
    match &mut parts[at] {
        Part::Within(_, cuts) | Part::Values(_, cuts) => cuts,
        Part::Field(_) | Part::Entries(..) => unreachable!("just found or made"),
    }
}

/// The cuts of a map's entry, and whether it is new; without any it goes as a whole.
fn entry(parts: &mut Vec<Part>, number: u32, key: Key) -> (bool, &mut Option<Cuts>) {
    let known = parts.iter().position(|part| matches!(part, Part::Entries(field, _) if *field == number));
    let at = known.unwrap_or_else(|| {
        parts.push(Part::Entries(number, Vec::new()));
        parts.len() - 1
    });
    let Part::Entries(_, entries) = &mut parts[at] else { unreachable!("just found or made") };
    let known = entries.iter().position(|(known, _)| *known == key);
    let at = known.unwrap_or_else(|| {
        entries.push((key, None));
        entries.len() - 1
    });
    (known.is_none(), &mut entries[at].1)
}
