//! TensorFlow's tensors: content or typed values, and the shape that says how many.

use proptest::prelude::*;
use prost::Message as _;
use prost_reflect::{DynamicMessage, Value};
use serde_json::{Value as Json, json};

use super::making::{all, policy};
use crate::policy::{InvalidOutput, Label, Predictions};
use crate::wire::descriptor::{Head, read};

/// An answer whose tensor has this dtype and shape, and these fields.
fn answer(dtype: i32, dims: &[i64], fields: Vec<(&str, Value)>) -> DynamicMessage {
    let mut message = DynamicMessage::new(all());
    let tensor_field = message.descriptor().get_field_by_name("tensor").unwrap();
    let tensor_type = tensor_field.kind().as_message().unwrap().clone();
    let shape_type = tensor_type.get_field_by_name("tensor_shape").unwrap().kind().as_message().unwrap().clone();
    let dim_type = shape_type.get_field_by_name("dim").unwrap().kind().as_message().unwrap().clone();
    let dims = dims.iter().map(|size| {
        let mut dim = DynamicMessage::new(dim_type.clone());
        dim.set_field_by_name("size", Value::I64(*size));
        Value::Message(dim)
    });
    let mut shape = DynamicMessage::new(shape_type.clone());
    shape.set_field_by_name("dim", Value::List(dims.collect()));
    let mut tensor = DynamicMessage::new(tensor_type.clone());
    tensor.set_field_by_name("dtype", Value::I32(dtype));
    tensor.set_field_by_name("tensor_shape", Value::Message(shape));
    for (name, value) in fields {
        tensor.set_field_by_name(name, value);
    }
    message.set_field(&tensor_field, Value::Message(tensor));
    message
}

use prost_reflect::ReflectMessage;

fn floats(values: &[f32]) -> Value {
    Value::List(values.iter().map(|value| Value::F32(*value)).collect())
}

fn content(values: &[f32]) -> Value {
    Value::Bytes(values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>().into())
}

fn read_as(prediction: &Json, message: &DynamicMessage) -> Result<Predictions, InvalidOutput> {
    let policy = policy(&Json::Null, prediction).unwrap_or_else(|faults| panic!("{faults:?}"));
    let route = policy.route_at(0);
    let mut out = Predictions::default();
    let (described, spec) = (route.described.as_deref().unwrap(), route.prediction.as_ref().unwrap());
    read(described, spec, &message.encode_to_vec(), 10, &mut out).map(|()| out)
}

fn scores(message: &DynamicMessage) -> Result<Vec<f64>, InvalidOutput> {
    read_as(&json!({"scores": "response.tensor"}), message).map(|out| out.scores)
}

#[test]
fn content_and_typed_values_say_the_same() {
    let values = [0.25, 0.75, 0.5, 0.5];
    for fields in [("float_val", floats(&values)), ("tensor_content", content(&values))] {
        let message = answer(1, &[2, 2], vec![fields]);
        assert_eq!(scores(&message), Ok(vec![0.25, 0.75, 0.5, 0.5]));
    }
    // The numbers alone, without the shape: all classes, row after row.
    let message = answer(1, &[2, 2], vec![("float_val", floats(&values))]);
    let out = read_as(&json!({"scores": "tensor.float_val"}), &message).unwrap();
    assert_eq!((out.rows, out.columns), (2, 2));
    let halves = answer(19, &[2], vec![("half_val", Value::List(vec![Value::I32(0x3800), Value::I32(0x3c00)]))]);
    assert_eq!(scores(&halves), Ok(vec![0.5, 1.0]));
}

#[test]
fn the_last_value_stands_for_those_that_are_not_written() {
    assert_eq!(scores(&answer(1, &[3], vec![("float_val", floats(&[0.25, 0.5]))])), Ok(vec![0.25, 0.5, 0.5]));
    assert_eq!(scores(&answer(1, &[2, 2], vec![("float_val", floats(&[0.5]))])), Ok(vec![0.5; 4]));
    assert_eq!(scores(&answer(1, &[2, 2], vec![])), Ok(vec![0.0; 4]));
}

#[test]
fn what_does_not_fit_its_shape_is_invalid() {
    for (dtype, dims, fields, words) in [
        (1, &[2][..], vec![("float_val", floats(&[0.1, 0.2, 0.3]))], "more than the 2 elements"),
        (1, &[3], vec![("tensor_content", content(&[0.1]))], "4 bytes of content, wanted 12"),
        (1, &[2, 3], vec![], "shape [2, 3]"),
        (1, &[11], vec![], "11 rows, wanted 0 to 10"),
        (1, &[-1], vec![], "-1 rows"),
        (1, &[], vec![], "shape []"),
        (7, &[2], vec![], "a tensor of strings"),
        (8, &[2], vec![], "dtype 8"),
    ] {
        let fault = scores(&answer(dtype, dims, fields)).unwrap_err();
        assert!(fault.to_string().contains(words), "{fault}");
        assert!(fault.to_string().starts_with("response.tensor: "), "{fault}");
    }
    let missing = DynamicMessage::new(all());
    assert_eq!(scores(&missing).unwrap_err().to_string(), "response.tensor: missing in the answer");
}

#[test]
fn labels_are_strings_or_class_indexes() {
    let label = json!({"label": "tensor"});
    let texts = Value::List(vec![Value::Bytes("HIGH".into()), Value::Bytes("odd".into())]);
    let out = read_as(&label, &answer(7, &[2], vec![("string_val", texts)])).unwrap();
    assert_eq!(out.labels, [Label::Class(1), Label::Text("odd".into())]);
    let indexes = Value::List(vec![Value::I64(1), Value::I64(0)]);
    let out = read_as(&label, &answer(9, &[2], vec![("int64_val", indexes)])).unwrap();
    assert_eq!(out.labels, [Label::Class(1), Label::Class(0)]);
    assert!(read_as(&label, &answer(1, &[1], vec![])).is_err(), "a float is no label");
}

#[test]
fn the_rows_of_a_cut_request_are_those_of_its_tensors_shape() {
    let policy = policy(&json!({"rows": "tensor"}), &json!({"value": "score"})).unwrap();
    let described = policy.route_at(0).described.as_deref().unwrap();
    let bytes = answer(1, &[7, 2], vec![("tensor_content", content(&[0.5; 14]))]).encode_to_vec();
    let head = Head::scan(described, &bytes[..bytes.len() - 20], false, 1 << 16).unwrap();
    assert_eq!((head.rows, head.cut), (7, true));
}

proptest! {
    #[test]
    fn any_bytes_are_a_tensor_or_a_fault(noise in prop::collection::vec(any::<u8>(), 0..100), path in 0..3) {
        let mut bytes = Vec::new();
        crate::wire::proto::put_bytes(20, &noise, &mut bytes);
        let prediction = [json!({"scores": "tensor"}), json!({"label": "tensor"}), json!({"value": "tensor", "classes": [], "positive": null})];
        let policy = policy(&json!({"rows": "tensor"}), &prediction[path as usize]).unwrap();
        let route = policy.route_at(0);
        let (described, spec) = (route.described.as_deref().unwrap(), route.prediction.as_ref().unwrap());
        let _ = read(described, spec, &bytes, 100, &mut Predictions::default());
        let _ = Head::scan(described, &bytes, false, 64);
    }
}
