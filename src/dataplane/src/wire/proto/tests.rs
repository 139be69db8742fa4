use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn a_varint_reads_back_from_as_many_bytes_as_foretold(value: u64, shift in 0_u32..64, tail: Vec<u8>) {
        let value = value >> shift;
        let mut out = Vec::new();
        put_varint(value, &mut out);
        prop_assert_eq!(out.len(), varint_bytes(value));
        for end in 0..out.len() {
            prop_assert_eq!(take_varint(&mut &out[..end]), Err(VarintFault::Cut));
        }
        out.extend(&tail);
        let mut buf = &out[..];
        prop_assert_eq!(take_varint(&mut buf), Ok(value));
        prop_assert_eq!(buf, &tail[..]);
    }

    /// Each step takes at least a byte, so a scan always ends.
    #[test]
    fn a_walk_over_any_bytes_goes_forward_and_ends(message: Vec<u8>) {
        let mut fields = Fields::new(&message);
        loop {
            let before = fields.rest().len();
            match fields.next_field() {
                Ok(Some(field)) => {
                    prop_assert!(field.number > 0);
                    prop_assert!(fields.rest().len() < before);
                }
                Ok(None) | Err(_) => break,
            }
        }
    }
}

#[test]
fn groups_nest_only_so_deep() {
    let deep = [vec![0x0b; MAX_GROUP_DEPTH], vec![0x0c; MAX_GROUP_DEPTH]].concat();
    assert_eq!(Fields::new(&deep).next_field(), Ok(Some(Field { number: 1, value: Value::Group })));
    let deeper = [vec![0x0b; MAX_GROUP_DEPTH + 1], vec![0x0c; MAX_GROUP_DEPTH + 1]].concat();
    assert_eq!(Fields::new(&deeper).next_field(), Err(Stop::Malformed(Malformed("groups nested too deep"))));
    assert!(matches!(Fields::new(&[0x0b, 0x14]).next_field(), Err(Stop::Malformed(_))));
}

#[test]
fn a_length_is_only_a_claim() {
    let cut = Fields::new(&[0x0a, 0xff, 0xff, 0xff, 0x0f, 1, 2]).next_field();
    assert_eq!(cut, Err(Stop::Cut { number: 1, held: Some(&[1, 2]) }));
    assert!(matches!(Fields::new(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x1f]).next_field(), Err(Stop::Malformed(_))));
}

#[test]
fn tags_out_of_range_are_refused() {
    for message in [&[0x02, 0x00][..], &[0x0f], &[0x0e], &[0x0c], &[0x80, 0x80, 0x80, 0x80, 0x10, 0]] {
        assert!(matches!(Fields::new(message).next_field(), Err(Stop::Malformed(_))), "{message:?}");
    }
}
