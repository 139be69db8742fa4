//! Paths against a message's descriptor: each part must be there, and the last must be of a type that can be read so.

use prost_reflect::{FieldDescriptor, Kind as Type, MessageDescriptor};

use super::nearest::{did_you_mean, listed};
use super::path::{Index, MOST_INDEX, Part, PathFault, parse};
use super::spec::{FieldPath, Key, Kind, Number, Step, Take};

/// TensorFlow's tensors are read by their dtype and shape.
pub const TENSOR: &str = "tensorflow.TensorProto";

/// What a path is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Scores of all classes, or of one.
    Scores,
    Label,
    /// A number a row.
    Column,
    /// How many rows a request has.
    Rows,
    /// A text.
    Model,
    Id,
    Param,
}

impl Purpose {
    /// The word for the message itself, which may stand in front.
    pub fn root(self) -> &'static str {
        match self {
            Self::Scores | Self::Label | Self::Column => "response",
            Self::Rows | Self::Model | Self::Id | Self::Param => "request",
        }
    }

    fn wanted(self) -> &'static str {
        match self {
            Self::Scores => "a score: a number, a list or a map of numbers, or a tensor",
            Self::Label => "a label: a string, an enum, a class index or a tensor",
            Self::Column => "a number",
            Self::Rows => "a number of rows: an integer, a list or a tensor",
            Self::Model => "a string",
            Self::Id => "an id: a string or an integer",
            Self::Param => "what a rule can see: a number, a string, a bool or an enum",
        }
    }
}

/// Compiles a path that starts at `root`.
///
/// # Errors
/// [`PathFault`], with the field that was probably meant.
pub fn resolve(text: &str, root: &MessageDescriptor, purpose: Purpose) -> Result<FieldPath, PathFault> {
    let parts = parse(text)?;
    let parts = strip(&parts, root, purpose.root());
    let mut message = root.clone();
    let mut steps: Vec<Step> = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        let field = field_of(&message, part)?;
        let last = at + 1 == parts.len();
        let (take, value) = if last { leaf(part, &field, purpose)? } else { inner(part, &field)? };
        if take == Take::Each && steps.iter().any(|step| step.take == Take::Each) {
            return Err(PathFault::new(part.column, "a second `[]`: rows are counted once"));
        }
        let rivals = rivals(&field);
        let one = take == Take::One;
        steps.push(Step { field: field.number(), take, rivals });
        if last {
            let kind = kind_of(&value, part, purpose)?;
            let zero_if_absent = one && !field.supports_presence() && kind != Kind::Tensor;
            let path = FieldPath { text: text.into(), steps: steps.into(), kind, zero_if_absent };
            return fits(path, part, purpose);
        }
        message = message_of(&value, part)?;
    }
    Err(PathFault::new(1, "the path ends before a field"))
}

/// Without the word for the message itself, where the message has no field of that name.
pub fn strip<'p, 't>(parts: &'p [Part<'t>], root: &MessageDescriptor, word: &str) -> &'p [Part<'t>] {
    match parts {
        [first, rest @ ..]
            if first.name == word
                && first.index.is_none()
                && !rest.is_empty()
                && root.get_field_by_name(word).is_none() =>
        {
            rest
        }
        all => all,
    }
}

/// The field that a part names.
pub fn field_of(message: &MessageDescriptor, part: &Part<'_>) -> Result<FieldDescriptor, PathFault> {
    if let Some(field) = message.get_field_by_name(part.name) {
        if field.is_group() {
            return Err(PathFault::new(part.column, format!("{} is a group, which is not read", part.name)));
        }
        return Ok(field);
    }
    let fields: Vec<FieldDescriptor> = message.fields().collect();
    let names = || fields.iter().map(FieldDescriptor::name);
    let name = message.full_name();
    let has = listed(names());
    let mend = did_you_mean(part.name, names());
    Err(PathFault::new(part.column, format!("{name} has no field {:?}; it has {has}{mend}", part.name)))
}

/// The message that the next part is a field of.
pub fn message_of(value: &Type, part: &Part<'_>) -> Result<MessageDescriptor, PathFault> {
    match value {
        Type::Message(message) => Ok(message.clone()),
        other => {
            let words = format!("{} is of type {}, which has no fields", part.name, type_name(other));
            Err(PathFault::new(part.column, words))
        }
    }
}

/// A part on the way to the value: its step, and the type that goes on.
fn inner(part: &Part<'_>, field: &FieldDescriptor) -> Result<(Take, Type), PathFault> {
    let name = part.name;
    let fault = |words: String| Err(PathFault::new(part.column, words));
    if let Some((key, value)) = map_of(field) {
        return match &part.index {
            Some(index @ (Index::Text(_) | Index::Number(_))) => Ok((Take::Key(key_of(part, &key, index)?), value)),
            _ => fault(format!("{name} is a map, wanted {name}[\"<key>\"]")),
        };
    }
    match (&part.index, field.is_list()) {
        (None, false) => Ok((Take::One, field.kind())),
        (None, true) => fault(format!("{name} is repeated, wanted {name}[] for a row each, or {name}[0]")),
        (Some(Index::Each), true) => Ok((Take::Each, field.kind())),
        (Some(Index::Number(at)), true) => Ok((Take::At(place(part, *at)?), field.kind())),
        (Some(Index::Text(_)), true) => fault(format!("{name} is repeated and has no keys, wanted {name}[0]")),
        (Some(_), false) => fault(format!("{name} is not repeated, wanted no brackets")),
    }
}

/// The last part: a list or a map may be taken as a whole.
fn leaf(part: &Part<'_>, field: &FieldDescriptor, purpose: Purpose) -> Result<(Take, Type), PathFault> {
    if part.index.is_none() {
        let whole = match (purpose, map_of(field)) {
            (Purpose::Scores, Some((Type::String, value))) => Some((Take::ByClass, value)),
            (Purpose::Scores, None) if field.is_list() => Some((Take::All, field.kind())),
            (Purpose::Label | Purpose::Column | Purpose::Rows, None) if field.is_list() => {
                Some((Take::Each, field.kind()))
            }
            _ => None,
        };
        if let Some(whole) = whole {
            return Ok(whole);
        }
    }
    inner(part, field)
}

fn place(part: &Part<'_>, at: i64) -> Result<u32, PathFault> {
    let place = u64::try_from(at).ok().filter(|at| *at <= MOST_INDEX).and_then(|at| u32::try_from(at).ok());
    place.ok_or_else(|| PathFault::new(part.column, format!("element {at}, wanted 0 to {MOST_INDEX}")))
}

/// Types of a map's keys and values.
pub fn map_of(field: &FieldDescriptor) -> Option<(Type, Type)> {
    let Type::Message(entry) = field.kind() else { return None };
    field.is_map().then(|| (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind()))
}

/// A map's key as it stands on the wire.
pub fn key_of(part: &Part<'_>, kind: &Type, index: &Index<'_>) -> Result<Key, PathFault> {
    let name = part.name;
    match (kind, index) {
        (Type::String, Index::Text(text)) => Ok(Key::Text(text.as_ref().into())),
        (Type::String, _) => {
            Err(PathFault::new(part.column, format!("the keys of {name} are strings, wanted {name}[\"<key>\"]")))
        }
        (Type::Bool, _) => {
            Err(PathFault::new(part.column, format!("the keys of {name} are bools, which are not read")))
        }
        (kind, Index::Number(key)) => match number_of(kind) {
            Some(number) => Ok(Key::Int(number, *key)),
            None => Err(PathFault::new(part.column, format!("the keys of {name} are not read"))),
        },
        (_, _) => Err(PathFault::new(part.column, format!("the keys of {name} are numbers, wanted {name}[1]"))),
    }
}

fn rivals(field: &FieldDescriptor) -> Box<[u32]> {
    let Some(oneof) = field.containing_oneof() else { return Box::default() };
    oneof.fields().map(|rival| rival.number()).filter(|number| *number != field.number()).collect()
}

fn number_of(kind: &Type) -> Option<Number> {
    Some(match kind {
        Type::Double => Number::Double,
        Type::Float => Number::Float,
        Type::Int32 => Number::Int32,
        Type::Int64 => Number::Int64,
        Type::Uint32 => Number::Uint32,
        Type::Uint64 => Number::Uint64,
        Type::Sint32 => Number::Sint32,
        Type::Sint64 => Number::Sint64,
        Type::Fixed32 => Number::Fixed32,
        Type::Fixed64 => Number::Fixed64,
        Type::Sfixed32 => Number::Sfixed32,
        Type::Sfixed64 => Number::Sfixed64,
        Type::Bool => Number::Bool,
        _ => return None,
    })
}

fn kind_of(value: &Type, part: &Part<'_>, purpose: Purpose) -> Result<Kind, PathFault> {
    Ok(match value {
        Type::String => Kind::Text,
        Type::Bytes => Kind::Bytes,
        Type::Enum(names) => Kind::Enum(names.values().map(|value| (value.number(), value.name().into())).collect()),
        Type::Message(message) if message.full_name() == TENSOR => {
            tensor(message, part)?;
            Kind::Tensor
        }
        Type::Message(_) if purpose == Purpose::Rows => Kind::Message,
        Type::Message(message) => {
            let fields: Vec<FieldDescriptor> = message.fields().collect();
            let has = listed(fields.iter().map(FieldDescriptor::name));
            let name = message.full_name();
            let words = format!("{} is a message ({name}), wanted one of its fields: {has}", part.name);
            return Err(PathFault::new(part.column, words));
        }
        number => match number_of(number) {
            Some(number) => Kind::Number(number),
            None => return Err(PathFault::new(part.column, "a type that is not read")),
        },
    })
}

/// What is called `TensorProto` must be one.
fn tensor(message: &MessageDescriptor, part: &Part<'_>) -> Result<(), PathFault> {
    for (name, number) in [("dtype", 1), ("tensor_shape", 2), ("tensor_content", 4), ("float_val", 5)] {
        if message.get_field_by_name(name).is_none_or(|field| field.number() != number) {
            let words = format!("this {TENSOR} has no {name} = {number}, so it is not TensorFlow's");
            return Err(PathFault::new(part.column, words));
        }
    }
    Ok(())
}

/// Whether what the path ends at can be what it is for.
fn fits(path: FieldPath, part: &Part<'_>, purpose: Purpose) -> Result<FieldPath, PathFault> {
    let integer = matches!(path.kind, Kind::Number(number) if !number.is_float() && number != Number::Bool);
    let many = path.has_rows();
    let good = match (purpose, &path.kind) {
        (Purpose::Scores, Kind::Bytes) => matches!(path.take(), Take::One | Take::At(_) | Take::Key(_)),
        (Purpose::Scores | Purpose::Column, Kind::Number(_))
        | (Purpose::Label, Kind::Text | Kind::Bytes | Kind::Enum(_)) => true,
        (Purpose::Label, Kind::Number(number)) => !number.is_float(),
        (Purpose::Scores | Purpose::Column | Purpose::Label | Purpose::Rows, Kind::Tensor) => {
            if many || matches!(path.take(), Take::ByClass | Take::All) {
                return Err(PathFault::new(part.column, "a tensor has rows of its own, wanted one tensor"));
            }
            true
        }
        (Purpose::Rows, _) if many => {
            if *path.take() != Take::Each {
                return Err(PathFault::new(part.column, "wanted the list whose elements are the rows to be the last"));
            }
            true
        }
        (Purpose::Rows | Purpose::Id, _) if integer => true,
        (Purpose::Id | Purpose::Model, Kind::Text) => true,
        (Purpose::Param, Kind::Number(_) | Kind::Text | Kind::Enum(_)) => true,
        _ => false,
    };
    if !good {
        let found = kind_name(&path.kind);
        return Err(PathFault::new(part.column, format!("{} is {found}, wanted {}", part.name, purpose.wanted())));
    }
    if many && matches!(purpose, Purpose::Id | Purpose::Model | Purpose::Param) {
        return Err(PathFault::new(part.column, "`[]` gives many values, wanted one: an element such as [0]"));
    }
    Ok(path)
}

fn kind_name(kind: &Kind) -> &'static str {
    match kind {
        Kind::Number(Number::Double | Number::Float) => "a floating-point number",
        Kind::Number(Number::Bool) => "a bool",
        Kind::Number(_) => "an integer",
        Kind::Text => "a string",
        Kind::Bytes => "bytes",
        Kind::Enum(_) => "an enum",
        Kind::Tensor => "a tensor",
        Kind::Message => "a message",
    }
}

fn type_name(kind: &Type) -> String {
    format!("{kind:?}").to_lowercase().chars().take_while(char::is_ascii_alphanumeric).collect()
}
