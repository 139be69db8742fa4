use proptest::collection::vec;
use proptest::prelude::*;

use super::encode;
use crate::policy::Param;
use crate::wire::oip::{Head, ModelName, append_model, append_param, redact};

const WHOLE: usize = usize::MAX;

#[derive(Clone, Debug, PartialEq)]
enum Choice {
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Text(String),
}

impl Choice {
    fn encode(&self) -> Vec<u8> {
        match self {
            Self::Bool(value) => encode::number(1, u64::from(*value)),
            Self::Int(value) => encode::number(2, value.cast_unsigned()),
            Self::Text(value) => encode::bytes(3, value.as_bytes()),
            Self::Float(value) => [encode::tag(4, 1), value.to_le_bytes().to_vec()].concat(),
            Self::Uint(value) => encode::number(5, *value),
        }
    }

    fn param(&self) -> Param<'_> {
        match self {
            Self::Bool(value) => Param::Bool(*value),
            Self::Int(value) => Param::Int(*value),
            Self::Uint(value) => i64::try_from(*value).map_or(Param::Float(*value as f64), Param::Int),
            Self::Float(value) => Param::Float(*value),
            Self::Text(value) => Param::Text(value),
        }
    }
}

fn choice() -> impl Strategy<Value = Choice> {
    prop_oneof![
        any::<bool>().prop_map(Choice::Bool),
        any::<i64>().prop_map(Choice::Int),
        any::<u64>().prop_map(Choice::Uint),
        (-1e300..1e300).prop_map(Choice::Float),
        ".{0,12}".prop_map(Choice::Text),
    ]
}

#[derive(Clone, Debug)]
struct Request {
    model: String,
    version: String,
    id: String,
    params: Vec<(String, Choice)>,
    inputs: Vec<(String, String, Vec<i64>, Vec<u8>)>,
    raw: Vec<Vec<u8>>,
    noise: Vec<u8>,
}

impl Request {
    fn encode(&self) -> Vec<u8> {
        let mut out = self.noise.clone();
        out.extend(encode::bytes(1, self.model.as_bytes()));
        out.extend(encode::bytes(2, self.version.as_bytes()));
        out.extend(encode::bytes(3, self.id.as_bytes()));
        for (name, choice) in &self.params {
            let entry = [encode::bytes(1, name.as_bytes()), encode::bytes(2, &choice.encode())].concat();
            out.extend(encode::bytes(4, &entry));
        }
        for (name, datatype, shape, contents) in &self.inputs {
            out.extend(encode::bytes(5, &encode::tensor(name, datatype, shape, contents)));
        }
        for raw in &self.raw {
            out.extend(encode::bytes(7, raw));
        }
        out.extend(&self.noise);
        out
    }
}

fn request() -> impl Strategy<Value = Request> {
    let input = ("[a-d]{1,3}", "[A-Z0-9]{1,5}", vec(any::<i64>(), 0..4), vec(any::<u8>(), 0..20));
    let noise = vec(encode::unknown(), 0..3).prop_map(|fields| fields.concat());
    // Few keys, so that some come twice.
    let params = vec(("[a-c]", choice()), 0..5);
    ("\\PC{0,8}", "[0-9]{0,3}", "\\PC{0,8}", params, vec(input, 0..4), vec(vec(any::<u8>(), 0..20), 0..3), noise)
        .prop_map(|(model, version, id, params, inputs, raw, noise)| Request {
            model,
            version,
            id,
            params,
            inputs,
            raw,
            noise,
        })
}

proptest! {
    #[test]
    fn what_was_encoded_is_what_is_seen(request in request()) {
        let message = request.encode();
        let head = Head::scan(&message, true, WHOLE).unwrap();
        prop_assert_eq!((head.model, head.version, head.id), (&*request.model, &*request.version, &*request.id));
        prop_assert_eq!((head.raw, head.cut), (!request.raw.is_empty(), false));
        for (name, _) in &request.params {
            let (_, last) = request.params.iter().rfind(|(known, _)| known == name).unwrap();
            let seen: Vec<_> = head.params.iter().filter(|(known, _)| known == name).copied().collect();
            prop_assert_eq!(seen, vec![(&**name, last.param())]);
        }
        let inputs = head.inputs();
        prop_assert_eq!(inputs.len(), request.inputs.len());
        for (seen, (name, datatype, shape, _)) in inputs.iter().zip(&request.inputs) {
            prop_assert_eq!((seen.name, seen.datatype, seen.shape), (&**name, &**datatype, &**shape));
        }
        let first = request.inputs.first().and_then(|(_, _, shape, _)| shape.first().copied()).unwrap_or(1);
        let wanted = if first < 0 { 1 } else { u32::try_from(first).unwrap_or(u32::MAX) };
        prop_assert_eq!(head.rows(), wanted);
    }

    /// Large requests are decided on their first bytes, so a cut must never look like a broken message.
    #[test]
    fn any_prefix_of_a_good_request_is_good(request in request(), share in 0.0..1.0) {
        let message = request.encode();
        let end = (message.len() as f64 * share) as usize;
        let head = Head::scan(&message[..end], false, WHOLE).unwrap();
        prop_assert!(head.cut);
        prop_assert!(head.model.is_empty() || head.model == request.model);
        let limited = Head::scan(&message, true, end).unwrap();
        prop_assert_eq!(&limited, &head);
    }

    #[test]
    fn any_bytes_are_a_request_or_an_error(message: Vec<u8>, whole: bool) {
        let _ = Head::scan(&message, whole, WHOLE);
        let _ = ModelName::scan(&message);
        let _ = redact(&message, &["a"], &mut Vec::new());
    }

    #[test]
    fn a_spoilt_request_is_seen_or_refused(message in request().prop_flat_map(|request| encode::spoil(request.encode())), whole: bool) {
        let _ = Head::scan(&message, whole, WHOLE);
        let mut kept = Vec::new();
        if redact(&message, &["a"], &mut kept).is_ok() {
            prop_assert!(kept.len() <= message.len());
            prop_assert!(redact(&kept, &["a"], &mut Vec::new()).is_ok());
        }
    }

    #[test]
    fn what_is_appended_wins(request in request(), name in "\\PC{0,200}", version in proptest::option::of("[0-9]{0,3}"), key in "[a-c]", value in choice()) {
        let mut message = request.encode();
        append_model(&name, version.as_deref(), &mut message);
        append_param(&key, value.param(), &mut message);
        let head = Head::scan(&message, true, WHOLE).unwrap();
        prop_assert_eq!(head.model, &*name);
        prop_assert_eq!(head.version, version.as_deref().unwrap_or(&request.version));
        let seen: Vec<_> = head.params.iter().filter(|(known, _)| *known == key).copied().collect();
        prop_assert_eq!(seen, vec![(&*key, value.param())]);
        prop_assert_eq!(head.inputs().len(), request.inputs.len());
    }

    /// Payloads leave the call redacted: an input that is named leaves no byte of its contents behind.
    #[test]
    fn a_redacted_input_is_gone_with_its_contents(request in request(), raw: bool) {
        let mut request = request;
        const SECRET: &[u8] = b"the secret";
        for (position, (_, _, _, contents)) in request.inputs.iter_mut().enumerate() {
            *contents = if raw { Vec::new() } else { encode::bytes(8, format!("typed {position}").as_bytes()) };
        }
        request.inputs.push(("a".into(), "BYTES".into(), vec![1], if raw { Vec::new() } else { encode::bytes(8, SECRET) }));
        request.raw = (0..request.inputs.len() - 1).map(|position| format!("raw {position}").into_bytes()).collect();
        request.raw.push(SECRET.to_vec());
        if !raw {
            request.raw.clear();
        }
        let message = request.encode();
        let mut kept = Vec::new();
        redact(&message, &["a"], &mut kept).unwrap();
        prop_assert!(!kept.windows(SECRET.len()).any(|window| window == SECRET));
        let head = Head::scan(&kept, true, WHOLE).unwrap();
        prop_assert_eq!((head.model, head.id), (&*request.model, &*request.id));
        prop_assert!(head.params.is_empty());
        let names: Vec<_> = request.inputs.iter().enumerate().filter(|(_, (name, ..))| name != "a").collect();
        prop_assert_eq!(head.inputs().len(), names.len());
        for (position, _) in names {
            let contents = format!("{} {position}", if raw { "raw" } else { "typed" });
            prop_assert!(kept.windows(contents.len()).any(|window| window == contents.as_bytes()));
        }
    }
}

#[test]
fn raw_contents_that_nobody_owns_refuse_the_capture() {
    let input = encode::bytes(5, &encode::tensor("a", "BYTES", &[1], b""));
    let message = [input, encode::bytes(7, b"whose"), encode::bytes(7, b"are these")].concat();
    let mut kept = b"before".to_vec();
    assert!(redact(&message, &["a"], &mut kept).is_err());
    assert_eq!(kept, b"before");
}

#[test]
fn an_input_in_shared_memory_takes_no_raw_contents() {
    let region = encode::bytes(4, &encode::bytes(1, b"shared_memory_region"));
    let shared = encode::bytes(5, &[encode::tensor("s", "FP32", &[1], b""), region].concat());
    let secret = encode::bytes(5, &encode::tensor("email", "BYTES", &[1], b""));
    let open = encode::bytes(5, &encode::tensor("age", "FP32", &[1], b""));
    let message =
        [shared.clone(), secret, open.clone(), encode::bytes(7, b"a@b.c"), encode::bytes(7, b"1234")].concat();
    let mut kept = Vec::new();
    redact(&message, &["email"], &mut kept).unwrap();
    assert_eq!(kept, [shared, open, encode::bytes(7, b"1234")].concat());
}

#[test]
fn a_flood_of_parameters_or_inputs_is_refused() {
    let params: Vec<u8> = (0..300)
        .flat_map(|n| {
            let entry =
                [encode::bytes(1, format!("p{n}").as_bytes()), encode::bytes(2, &encode::number(1, 1))].concat();
            encode::bytes(4, &entry)
        })
        .collect();
    assert!(Head::scan(&params, true, WHOLE).is_err());
    assert!(Head::scan(&encode::bytes(5, b"").repeat(5000), true, WHOLE).is_err());
    let dims = encode::bytes(5, &encode::tensor("x", "FP32", &[1; 65], b""));
    assert!(Head::scan(&dims, true, WHOLE).is_err());
}

#[test]
fn a_name_that_is_not_text_is_refused() {
    assert!(Head::scan(&encode::bytes(1, b"\xff"), true, WHOLE).is_err());
}

#[test]
fn a_cut_tensor_still_tells_its_shape() {
    let tensor = encode::tensor("x", "FP32", &[7, 3], &[0; 4096]);
    let message = [encode::bytes(1, b"spam"), encode::bytes(5, &tensor)].concat();
    let head = Head::scan(&message, true, 64).unwrap();
    assert_eq!((head.model, head.rows(), head.cut), ("spam", 7, true));
    assert_eq!(head.inputs()[0].shape, [7, 3]);
}
