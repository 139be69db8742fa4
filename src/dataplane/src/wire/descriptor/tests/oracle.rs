//! The same paths, walked over messages that are built in memory: slow, and by other people's code.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};

use crate::policy::InvalidOutput;

/// A part of a path: a field, and what stands in brackets.
#[derive(Clone, Debug)]
pub struct Part {
    pub field: FieldDescriptor,
    pub index: Index,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Index {
    None,
    Each,
    At(usize),
    Key(MapKey),
}

pub fn text(path: &[Part]) -> String {
    let part = |part: &Part| {
        let index = match &part.index {
            Index::None => String::new(),
            Index::Each => "[]".into(),
            Index::At(at) => format!("[{at}]"),
            Index::Key(MapKey::String(key)) => format!("[{key:?}]"),
            Index::Key(MapKey::I32(key)) => format!("[{key}]"),
            Index::Key(_) => unreachable!(),
        };
        format!("{}{index}", part.field.name())
    };
    path.iter().map(part).collect::<Vec<_>>().join(".")
}

/// A path that ends at a field of which `wanted` says that it is good; none if the dice lead nowhere.
pub fn path(
    root: &MessageDescriptor,
    dice: &mut fastrand::Rng,
    rows: bool,
    wanted: impl Fn(&Kind) -> bool,
) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    let mut message = root.clone();
    let mut each = false;
    for _ in 0..4 {
        let fields: Vec<FieldDescriptor> = message.fields().collect();
        let field = fields[dice.usize(..fields.len())].clone();
        let (kind, index) = match field.kind() {
            Kind::Message(entry) if field.is_map() => {
                let text = entry.map_entry_key_field().kind() == Kind::String;
                let key = if text {
                    MapKey::String(["LOW", "HIGH", ""][dice.usize(..3)].into())
                } else {
                    MapKey::I32(dice.i32(-1..2))
                };
                (entry.map_entry_value_field().kind(), Index::Key(key))
            }
            kind if field.is_list() => {
                let here = rows && !each && dice.bool();
                each |= here;
                (kind, if here { Index::Each } else { Index::At(dice.usize(..3)) })
            }
            kind => (kind, Index::None),
        };
        parts.push(Part { field, index });
        if wanted(&kind) {
            return Some(parts);
        }
        match kind {
            Kind::Message(inner) if inner.full_name() == "t.All" => message = inner,
            _ => return None,
        }
    }
    None
}

/// What the path leads to, row by row; `None` for a row that has no value.
pub fn values(message: &DynamicMessage, path: &[Part]) -> Vec<Option<Value>> {
    let [part, rest @ ..] = path else { return Vec::new() };
    let missing = || if rest.iter().any(|part| part.index == Index::Each) { Vec::new() } else { vec![None] };
    let deeper = |value: &Value| match value {
        Value::Message(inner) if !rest.is_empty() => values(inner, rest),
        value => vec![Some(value.clone())],
    };
    let field = &part.field;
    match &part.index {
        Index::None if field.supports_presence() && !message.has_field(field) => missing(),
        Index::None => deeper(&message.get_field(field)),
        Index::Each => message.get_field(field).as_list().unwrap().iter().flat_map(deeper).collect(),
        Index::At(at) => {
            let list = message.get_field(field);
            list.as_list().unwrap().get(*at).map_or_else(missing, deeper)
        }
        Index::Key(key) => {
            let map = message.get_field(field);
            map.as_map().unwrap().get(key).map_or_else(missing, deeper)
        }
    }
}

/// A value as a number.
pub fn number(value: &Value) -> f64 {
    match value {
        Value::Bool(value) => f64::from(u8::from(*value)),
        Value::I32(value) => f64::from(*value),
        Value::I64(value) => *value as f64,
        Value::U32(value) => f64::from(*value),
        Value::U64(value) => *value as f64,
        Value::F32(value) => f64::from(*value),
        Value::F64(value) => *value,
        other => panic!("{other:?} is no number"),
    }
}

/// A value as a label's text.
pub fn label(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bytes(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
        Value::EnumNumber(number) => ["NONE", "LOW", "HIGH"][usize::try_from(*number).unwrap()].into(),
        other => panic!("{other:?} is no label"),
    }
}

/// Whether what was read is what was expected; a row without a value makes the answer invalid.
pub fn agree<T: PartialEq + std::fmt::Debug>(
    expected: Vec<Option<T>>,
    read: Result<Vec<T>, InvalidOutput>,
) -> Result<(), String> {
    let expected: Option<Vec<T>> = expected.into_iter().collect();
    match (expected, read) {
        (Some(expected), Ok(read)) if expected == read => Ok(()),
        (None, Err(_)) => Ok(()),
        (expected, read) => Err(format!("expected {expected:?}, read {read:?}")),
    }
}

pub fn is_number(kind: &Kind) -> bool {
    !matches!(kind, Kind::String | Kind::Bytes | Kind::Enum(_) | Kind::Message(_))
}

pub fn is_label(kind: &Kind) -> bool {
    matches!(kind, Kind::String | Kind::Bytes | Kind::Enum(_))
}
