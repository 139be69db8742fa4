//! What is seen of a request, whole or cut, and what is cut out of it.

use proptest::prelude::*;
use prost::Message as _;
use prost_reflect::{DynamicMessage, ReflectMessage, Value};
use serde_json::{Value as Json, json};

use super::making::{METHOD, all, document, message, policy};
use super::oracle::{is_label, is_number, path, text, values};
use crate::policy::{Param, Policy};
use crate::wire::descriptor::{Head, model_of, redact};
use crate::wire::proto::put_bytes;

fn params(of: &str) -> Json {
    json!({"params": {"p": of}})
}

fn described(policy: &Policy) -> &crate::policy::Described {
    policy.route_at(0).described.as_deref().unwrap()
}

fn seen(param: &Param<'_>, value: &Value) -> bool {
    match (param, value) {
        (Param::Bool(seen), Value::Bool(value)) => seen == value,
        (Param::Int(seen), Value::I32(value)) => *seen == i64::from(*value),
        (Param::Int(seen), Value::I64(value)) => seen == value,
        (Param::Int(seen), Value::U32(value)) => *seen == i64::from(*value),
        (Param::Int(seen), Value::U64(value)) => u64::try_from(*seen) == Ok(*value),
        (Param::Float(seen), Value::U64(value)) => *seen == *value as f64,
        (Param::Float(seen), Value::F32(value)) => *seen == f64::from(*value),
        (Param::Float(seen), Value::F64(value)) => seen == value,
        (Param::Text(seen), Value::String(value)) => seen == value,
        (Param::Text(seen), Value::EnumNumber(_)) => *seen == super::oracle::label(value),
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn params_are_those_of_the_built_message(seed: u64) {
        let mut dice = fastrand::Rng::with_seed(seed);
        let wanted = |kind: &prost_reflect::Kind| {
            is_number(kind) || (is_label(kind) && *kind != prost_reflect::Kind::Bytes)
        };
        let Some(path) = path(&all(), &mut dice, false, wanted) else { return Ok(()) };
        let policy = policy(&params(&text(&path)), &json!({"value": "score"})).unwrap();
        let message = message(&mut dice, 3);
        let bytes = message.encode_to_vec();
        let head = Head::scan(described(&policy), &bytes, true, 1 << 16).unwrap();
        let expected = values(&message, &path).remove(0);
        match (head.params.first(), &expected) {
            (None, None) => {}
            (Some((name, param)), Some(value)) => prop_assert!(*name == "p" && seen(param, value), "{param:?} {value}"),
            other => prop_assert!(false, "{} gave {other:?}", text(&path)),
        }
    }

    #[test]
    fn a_cut_request_never_says_what_the_whole_one_does_not(seed: u64, share in 0.0..1.0_f64) {
        let mut dice = fastrand::Rng::with_seed(seed);
        let Some(path) = path(&all(), &mut dice, false, is_number) else { return Ok(()) };
        let request = json!({"params": {"p": text(&path)}, "rows": "tensor", "model": "deeper.label", "id": "label"});
        let policy = policy(&request, &json!({"value": "score"})).unwrap();
        let message = message(&mut dice, 3);
        let bytes = message.encode_to_vec();
        let whole = Head::scan(described(&policy), &bytes, true, 1 << 16);
        let cut = &bytes[..((bytes.len() as f64) * share) as usize];
        let head = Head::scan(described(&policy), cut, false, 1 << 16);
        match (whole, head) {
            (Ok(whole), Ok(head)) => {
                prop_assert!(head.cut);
                // A message is written once here, so what was found is what there is.
                prop_assert!(head.params.is_empty() || head.params == whole.params);
                prop_assert!(head.model.is_empty() || head.model == whole.model);
            }
            // Of a tensor that is none, the front may still be one.
            (Err(_), _) => {}
            (Ok(_), Err(malformed)) => prop_assert!(false, "{malformed}"),
        }
    }

    #[test]
    fn what_is_cut_out_is_gone_and_the_rest_is_there(seed: u64) {
        let mut dice = fastrand::Rng::with_seed(seed);
        let paths = ["label", "deeper.label", "items.names", "by[\"LOW\"]", "numbered[1].label", "numbered.raw",
            "numbered[0]", "two.items.score", "items.deeper.tensor", "by", "numbered[1]", "probs"];
        let chosen: Vec<&str> = paths.into_iter().filter(|_| dice.u8(..4) == 0).collect();
        let review = json!({"queue": "q", "flagged": 1.0, "unflagged": 1.0, "capture": ["request"], "redact": chosen});
        let document = document(&Json::Null, &json!({"value": "score"}), &review);
        let policy = Policy::compile(&document.to_string()).unwrap();
        let message = message(&mut dice, 3);
        let mut bytes = message.encode_to_vec();
        // What the descriptor does not know, somebody may have hidden there.
        put_bytes(99, b"secret", &mut bytes);
        let mut out = Vec::new();
        redact(&described(&policy).cuts, &bytes, &mut out).unwrap();
        let left = DynamicMessage::decode(all(), &*out).unwrap();
        prop_assert_eq!(left.unknown_fields().count(), 0);
        let mut expected = message;
        for path in chosen {
            clear(&mut expected, path);
        }
        // An empty list that was set is written as one that was not. In its Debug form a type that holds itself never ends.
        let expected = DynamicMessage::decode(all(), &*expected.encode_to_vec()).unwrap();
        prop_assert!(left == expected, "left {left}, expected {expected}");
    }

    #[test]
    fn any_bytes_are_cut_or_a_fault(seed: u64, noise in prop::collection::vec(any::<u8>(), 0..100)) {
        let review = json!({"queue": "q", "flagged": 1.0, "unflagged": 1.0, "capture": ["request"],
            "redact": ["deeper.label", "numbered[1].label", "numbered.raw", "by[\"LOW\"]"]});
        let document = document(&json!({"rows": "items"}), &json!({"value": "score"}), &review);
        let policy = Policy::compile(&document.to_string()).unwrap();
        let mut dice = fastrand::Rng::with_seed(seed);
        let mut bytes = message(&mut dice, 2).encode_to_vec();
        for _ in 0..3 {
            if !bytes.is_empty() {
                let at = dice.usize(..bytes.len());
                bytes[at] = dice.u8(..);
            }
        }
        for bytes in [&noise, &bytes] {
            let _ = redact(&described(&policy).cuts, bytes, &mut Vec::new());
            let _ = Head::scan(described(&policy), bytes, true, 64);
            let _ = Head::scan(described(&policy), bytes, false, 64);
        }
    }
}

/// Takes out of a built message what a path of `redact` says.
fn clear(message: &mut DynamicMessage, path: &str) {
    let (part, rest) = path.split_once('.').map_or((path, None), |(part, rest)| (part, Some(rest)));
    let (name, key) = part.split_once('[').map_or((part, None), |(name, key)| (name, key.strip_suffix(']')));
    let field = message.descriptor().get_field_by_name(name).unwrap();
    if !message.has_field(&field) {
        return;
    }
    let Some(rest) = rest else {
        match (key, message.get_field_mut(&field)) {
            (Some(key), Value::Map(map)) => map.retain(|known, _| !is_key(known, key)),
            _ => message.clear_field(&field),
        }
        return;
    };
    match message.get_field_mut(&field) {
        Value::Message(inner) => clear(inner, rest),
        Value::List(list) => list.iter_mut().for_each(|item| clear(item.as_message_mut().unwrap(), rest)),
        Value::Map(map) => {
            for (known, value) in map {
                if key.is_none_or(|key| is_key(known, key)) {
                    clear(value.as_message_mut().unwrap(), rest);
                }
            }
        }
        _ => {}
    }
}

fn is_key(known: &prost_reflect::MapKey, key: &str) -> bool {
    match known {
        prost_reflect::MapKey::String(known) => format!("{known:?}") == key,
        prost_reflect::MapKey::I32(known) => known.to_string() == key,
        _ => false,
    }
}

#[test]
fn a_model_is_addressed_by_what_is_appended() {
    let mut document = document(&json!({"model": "deeper.two.label"}), &json!({"value": "score"}), &Json::Null);
    document["backends"][0]["model"] = json!("ours");
    let policy = Policy::compile(&document.to_string()).unwrap();
    let model = policy.backend(0).as_model().unwrap();
    let mut dice = fastrand::Rng::with_seed(7);
    for depth in 0..4 {
        let bytes = message(&mut dice, depth).encode_to_vec();
        let method = policy.described(METHOD).unwrap();
        let head = Head::scan(described(&policy), &bytes, true, 1 << 16).unwrap();
        assert_eq!(model_of(method, &bytes, true, 1 << 16), Ok(head.model));
        let sent = [&bytes[..], &head.address(model)].concat();
        let again = Head::scan(described(&policy), &sent, true, 1 << 16).unwrap();
        assert_eq!(again.model, "ours");
        assert!(again.address(model).is_empty(), "what is addressed already needs nothing more");
        let whole = DynamicMessage::decode(all(), &*sent).unwrap();
        assert!(whole.has_field_by_name("deeper"));
        // Beyond what was searched another name may stand.
        let cut = Head::scan(described(&policy), &sent, false, 1 << 16).unwrap();
        assert!(!cut.address(model).is_empty());
    }
}

#[test]
fn rows_are_counted_or_read() {
    let mut dice = fastrand::Rng::with_seed(3);
    for _ in 0..50 {
        let message = message(&mut dice, 3);
        let bytes = message.encode_to_vec();
        let items = message.get_field_by_name("items").unwrap().as_list().unwrap().len();
        let fixed = message.get_field_by_name("fixed").unwrap().as_u32().unwrap();
        for (path, rows) in [("items", items), ("items[]", items), ("fixed", fixed as usize)] {
            let policy = policy(&json!({"rows": path}), &json!({"value": "score"})).unwrap();
            let head = Head::scan(described(&policy), &bytes, true, 1).map(|head| head.rows as usize);
            // A number beyond the head is not seen, and one row is as good as unknown.
            let expected = if path == "fixed" && bytes.len() > 1 { 1 } else { rows };
            assert_eq!(head, Ok(expected), "{path}");
        }
    }
}
