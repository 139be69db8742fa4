//! The plainest encoder that could be right; shares nothing with the code under test.

use proptest::prelude::*;

pub fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let byte = (value % 128) as u8;
        value /= 128;
        if value == 0 {
            out.push(byte);
            return out;
        }
        out.push(byte + 128);
    }
}

pub fn tag(number: u32, wire_type: u8) -> Vec<u8> {
    varint(u64::from(number) * 8 + u64::from(wire_type))
}

pub fn bytes(number: u32, value: &[u8]) -> Vec<u8> {
    [tag(number, 2), varint(value.len() as u64), value.to_vec()].concat()
}

pub fn number(number: u32, value: u64) -> Vec<u8> {
    [tag(number, 0), varint(value)].concat()
}

pub fn tensor(name: &str, datatype: &str, shape: &[i64], contents: &[u8]) -> Vec<u8> {
    let dims: Vec<u8> = shape.iter().flat_map(|&dim| varint(dim.cast_unsigned())).collect();
    let head = [bytes(1, name.as_bytes()), bytes(2, datatype.as_bytes()), bytes(3, &dims)].concat();
    if contents.is_empty() { head } else { [head, bytes(5, contents)].concat() }
}

/// A field that no message of the protocol has, of any wire type.
pub fn unknown() -> impl Strategy<Value = Vec<u8>> {
    let simple = prop_oneof![
        any::<u64>().prop_map(|value| number(1000, value)),
        any::<[u8; 8]>().prop_map(|value| [tag(1001, 1), value.to_vec()].concat()),
        any::<[u8; 4]>().prop_map(|value| [tag(1002, 5), value.to_vec()].concat()),
        any::<Vec<u8>>().prop_map(|value| bytes(1003, &value)),
        // Known numbers of a wire type they do not have.
        any::<u64>().prop_map(|value| number(1, value)),
        any::<u64>().prop_map(|value| number(5, value)),
    ];
    simple.prop_recursive(4, 16, 4, |inner| {
        proptest::collection::vec(inner, 0..4).prop_map(|fields| [tag(1004, 3), fields.concat(), tag(1004, 4)].concat())
    })
}

/// A valid message with some of its bytes changed, or cut short.
pub fn spoil(message: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let len = message.len().max(1);
    let changes = proptest::collection::vec((0..len, any::<u8>()), 0..4);
    (Just(message), changes, 0..=len).prop_map(|(mut message, changes, end)| {
        for (at, byte) in changes {
            if let Some(changed) = message.get_mut(at) {
                *changed = byte;
            }
        }
        message.truncate(end);
        message
    })
}
