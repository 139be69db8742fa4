//! A message type with a field of every kind, messages of it, and policies that read them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost::Message as _;
use prost_reflect::prost_types::field_descriptor_proto::{Label, Type};
use prost_reflect::prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    FileDescriptorSet, MessageOptions, MethodDescriptorProto, OneofDescriptorProto, ServiceDescriptorProto,
};
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};
use serde_json::{Value as Json, json};

use crate::error::Fault;
use crate::policy::Policy;

pub const METHOD: &str = "/t.Service/Ask";
pub const CLASSES: [&str; 2] = ["LOW", "HIGH"];

fn field(name: &str, number: i32, kind: Type) -> FieldDescriptorProto {
    FieldDescriptorProto {
        name: Some(name.into()),
        number: Some(number),
        r#type: Some(kind.into()),
        label: Some(Label::Optional.into()),
        ..Default::default()
    }
}

fn typed(name: &str, number: i32, kind: Type, of: &str) -> FieldDescriptorProto {
    FieldDescriptorProto { type_name: Some(of.into()), ..field(name, number, kind) }
}

fn many(field: FieldDescriptorProto) -> FieldDescriptorProto {
    FieldDescriptorProto { label: Some(Label::Repeated.into()), ..field }
}

fn entry(name: &str, key: Type, value: FieldDescriptorProto) -> DescriptorProto {
    DescriptorProto {
        name: Some(name.into()),
        field: vec![field("key", 1, key), value],
        options: Some(MessageOptions { map_entry: Some(true), ..Default::default() }),
        ..Default::default()
    }
}

fn file() -> FileDescriptorProto {
    let fields = vec![
        field("score", 1, Type::Double),
        field("label", 2, Type::String),
        many(field("probs", 3, Type::Float)),
        FieldDescriptorProto { oneof_index: Some(1), proto3_optional: Some(true), ..field("maybe", 4, Type::Int32) },
        typed("level", 5, Type::Enum, ".t.Level"),
        many(typed("by", 6, Type::Message, ".t.All.ByEntry")),
        typed("deeper", 7, Type::Message, ".t.All"),
        field("zigzag", 8, Type::Sint64),
        field("fixed", 9, Type::Fixed32),
        field("flag", 10, Type::Bool),
        field("raw", 11, Type::Bytes),
        FieldDescriptorProto { oneof_index: Some(0), ..field("one", 12, Type::Int32) },
        FieldDescriptorProto { oneof_index: Some(0), ..typed("two", 13, Type::Message, ".t.All") },
        many(field("names", 14, Type::String)),
        many(typed("items", 15, Type::Message, ".t.All")),
        many(typed("numbered", 16, Type::Message, ".t.All.NumberedEntry")),
        many(typed("levels", 17, Type::Enum, ".t.Level")),
        field("big", 18, Type::Uint64),
        field("signed", 19, Type::Sfixed64),
        typed("tensor", 20, Type::Message, ".tensorflow.TensorProto"),
    ];
    let all = DescriptorProto {
        name: Some("All".into()),
        field: fields,
        nested_type: vec![
            entry("ByEntry", Type::String, field("value", 2, Type::Double)),
            entry("NumberedEntry", Type::Sint32, typed("value", 2, Type::Message, ".t.All")),
        ],
        oneof_decl: ["kind", "_maybe"]
            .map(|name| OneofDescriptorProto { name: Some(name.into()), ..Default::default() })
            .to_vec(),
        ..Default::default()
    };
    let values = [("NONE", 0), ("LOW", 1), ("HIGH", 2)];
    let level = EnumDescriptorProto {
        name: Some("Level".into()),
        value: values
            .map(|(name, number)| EnumValueDescriptorProto {
                name: Some(name.into()),
                number: Some(number),
                ..Default::default()
            })
            .to_vec(),
        ..Default::default()
    };
    let method = |name: &str, stream| MethodDescriptorProto {
        name: Some(name.into()),
        input_type: Some(".t.All".into()),
        output_type: Some(".t.All".into()),
        server_streaming: Some(stream),
        ..Default::default()
    };
    FileDescriptorProto {
        name: Some("t.proto".into()),
        package: Some("t".into()),
        syntax: Some("proto3".into()),
        dependency: vec!["tensor.proto".into()],
        message_type: vec![all],
        enum_type: vec![level],
        service: vec![ServiceDescriptorProto {
            name: Some("Service".into()),
            method: vec![method("Ask", false), method("Watch", true)],
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// As much of TensorFlow's tensors as is read.
fn tensor_file() -> FileDescriptorProto {
    let dim =
        DescriptorProto { name: Some("Dim".into()), field: vec![field("size", 1, Type::Int64)], ..Default::default() };
    let shape = DescriptorProto {
        name: Some("TensorShapeProto".into()),
        field: vec![
            many(typed("dim", 2, Type::Message, ".tensorflow.TensorShapeProto.Dim")),
            field("unknown_rank", 3, Type::Bool),
        ],
        nested_type: vec![dim],
        ..Default::default()
    };
    let tensor = DescriptorProto {
        name: Some("TensorProto".into()),
        field: vec![
            field("dtype", 1, Type::Int32),
            typed("tensor_shape", 2, Type::Message, ".tensorflow.TensorShapeProto"),
            field("tensor_content", 4, Type::Bytes),
            many(field("float_val", 5, Type::Float)),
            many(field("string_val", 8, Type::Bytes)),
            many(field("int64_val", 10, Type::Int64)),
            many(field("half_val", 13, Type::Int32)),
        ],
        ..Default::default()
    };
    FileDescriptorProto {
        name: Some("tensor.proto".into()),
        package: Some("tensorflow".into()),
        syntax: Some("proto3".into()),
        message_type: vec![shape, tensor],
        ..Default::default()
    }
}

pub fn set() -> Vec<u8> {
    FileDescriptorSet { file: vec![tensor_file(), file()] }.encode_to_vec()
}

pub fn all() -> MessageDescriptor {
    // One pool: messages of two are never equal.
    static POOL: std::sync::LazyLock<DescriptorPool> =
        std::sync::LazyLock::new(|| DescriptorPool::decode(&*set()).unwrap());
    POOL.get_message_by_name("t.All").unwrap()
}

/// A route of the method; `prediction` has its paths, and classes unless it says otherwise.
pub fn document(request: &Json, prediction: &Json, review: &Json) -> Json {
    let mut made = json!({
        "scores": null, "label": null, "confidence": null, "value": null, "classes": CLASSES, "positive": "HIGH",
        "threshold": 0.5, "datatype": "FP32"
    });
    for (name, value) in prediction.as_object().unwrap() {
        made[name] = value.clone();
    }
    let limits = json!({
        "buffer_bytes": 65536, "replay_bytes": 65536, "answer_bytes": 65536, "request_head_bytes": 65536,
        "max_rows": 65536
    });
    json!({
        "version": 1, "salt": "00", "receipt_keys": [], "default_backend": null,
        "identity": {"unit": null, "segments": []}, "lists": {}, "trace_share": 0.0, "limits": limits,
        "backends": [{
            "name": "one", "kind": "grpc", "endpoints": ["h:1"], "model": null, "version": null, "timeout_ms": null,
            "max_in_flight": 1, "connect_timeout_ms": 1
        }],
        "descriptors": [STANDARD.encode(set())],
        "routes": [{
            "name": "r", "match": {"model": null, "method": METHOD, "metadata": {}}, "chain": ["one"],
            "deadline_ms": null, "request": request, "prediction": made, "check": null, "confidence": null,
            "rules": [], "holdout": null, "mirror": [], "review": review, "kill_switch": false
        }]
    })
}

pub fn policy(request: &Json, prediction: &Json) -> Result<Policy, Vec<Fault>> {
    Policy::compile(&document(request, prediction, &Json::Null).to_string())
}

/// A message with whatever `dice` says, `depth` levels deep.
pub fn message(dice: &mut fastrand::Rng, depth: usize) -> DynamicMessage {
    filled(&all(), dice, depth)
}

fn filled(of: &MessageDescriptor, dice: &mut fastrand::Rng, depth: usize) -> DynamicMessage {
    let mut message = DynamicMessage::new(of.clone());
    for field in of.fields() {
        let nested = matches!(field.kind(), Kind::Message(inner) if !inner.is_map_entry());
        if dice.u8(..3) == 0 || (depth == 0 && (nested || field.is_map())) {
            continue;
        }
        let value = value(&field, dice, depth);
        message.set_field(&field, value);
    }
    message
}

fn value(field: &FieldDescriptor, dice: &mut fastrand::Rng, depth: usize) -> Value {
    let count = dice.usize(..4);
    if field.is_map() {
        let Kind::Message(entry) = field.kind() else { unreachable!() };
        let of = entry.map_entry_value_field();
        let text = entry.map_entry_key_field().kind() == Kind::String;
        let keys = (0..count).map(|_| {
            if text {
                MapKey::String(["LOW", "HIGH", "", "other"][dice.usize(..4)].into())
            } else {
                MapKey::I32(dice.i32(-1..2))
            }
        });
        let keys: Vec<MapKey> = keys.collect();
        return Value::Map(keys.into_iter().map(|key| (key, single(&of.kind(), dice, depth))).collect());
    }
    if field.is_list() {
        return Value::List((0..count).map(|_| single(&field.kind(), dice, depth)).collect());
    }
    single(&field.kind(), dice, depth)
}

fn single(kind: &Kind, dice: &mut fastrand::Rng, depth: usize) -> Value {
    let small = dice.i32(-3..4);
    match kind {
        Kind::Double => Value::F64(f64::from(small) / 4.0),
        Kind::Float => Value::F32(small as f32 / 4.0),
        Kind::Int32 => Value::I32(small),
        Kind::Sint32 | Kind::Sfixed32 => Value::I32(small),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(i64::from(small) << dice.u8(..60)),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(dice.u32(..)),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(dice.u64(..)),
        Kind::Bool => Value::Bool(dice.bool()),
        Kind::String => Value::String(["LOW", "HIGH", "", "text"][dice.usize(..4)].into()),
        Kind::Bytes => Value::Bytes(vec![7; dice.usize(..4)].into()),
        Kind::Enum(_) => Value::EnumNumber(dice.i32(0..3)),
        Kind::Message(of) => Value::Message(filled(of, dice, depth.saturating_sub(1))),
    }
}
