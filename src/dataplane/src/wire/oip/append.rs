//! Fields to append to a message that is otherwise passed on as it is.
//!
//! In protobuf the last value of a scalar wins and map entries add up, so a message needs no decoding to be readdressed.

use super::{param, request, response};
use crate::policy::{ModelBackend, Param};
use crate::wire::proto::{put_bytes, put_double, put_len, put_number, varint_bytes};

/// Appends a model's name, and its version if one is given, to any OIP message with a model: `ModelInferRequest` and
/// `-Response`, `ModelReadyRequest`, `ModelMetadataRequest` and `-Response` (name alone).
///
/// `None` leaves the version that stands in the message; `Some("")` takes it away, which a backend of another model
/// without a version of its own needs.
pub fn append_model(name: &str, version: Option<&str>, out: &mut Vec<u8>) {
    put_bytes(request::NAME, name.as_bytes(), out);
    if let Some(version) = version {
        put_bytes(request::VERSION, version.as_bytes(), out);
    }
}

/// What to append so that a backend's model is addressed; empty where the caller named it so already.
///
/// Where the request's head was `cut`, a later `model_name` may hide in the part that nobody read, and the last one
/// wins: then the name is always appended, so that no caller reaches a model that its route does not lead to.
#[must_use]
pub fn address(model: &ModelBackend, asked: &str, asked_version: &str, cut: bool) -> Vec<u8> {
    let name = model.model.as_deref().unwrap_or(asked);
    let version = match (&model.version, &model.model) {
        (Some(version), _) => Some(&**version),
        // Another model knows nothing of the version that the caller asked for.
        (None, Some(_)) if !asked_version.is_empty() => Some(""),
        (None, _) => cut.then_some(asked_version),
    };
    let mut suffix = Vec::new();
    if cut || name != asked || version.is_some_and(|version| version != asked_version) {
        append_model(name, version, &mut suffix);
    }
    suffix
}

/// Appends one entry of the `parameters` map of a `ModelInferRequest` or `ModelInferResponse`.
pub fn append_param(name: &str, value: Param<'_>, out: &mut Vec<u8>) {
    let key = 1 + varint_bytes(name.len() as u64) + name.len();
    let choice = match value {
        Param::Bool(_) => 2,
        Param::Int(value) => 1 + varint_bytes(value.cast_unsigned()),
        Param::Float(_) => 9,
        Param::Text(value) => 1 + varint_bytes(value.len() as u64) + value.len(),
    };
    put_len(response::PARAMETERS, key + 1 + varint_bytes(choice as u64) + choice, out);
    put_bytes(1, name.as_bytes(), out);
    put_len(2, choice, out);
    match value {
        Param::Bool(value) => put_number(param::BOOL, u64::from(value), out),
        Param::Int(value) => put_number(param::INT64, value.cast_unsigned(), out),
        Param::Float(value) => put_double(param::DOUBLE, value, out),
        Param::Text(value) => put_bytes(param::STRING, value.as_bytes(), out),
    }
}
