//! What reads a connection piece by piece: the same must come of it however the pieces are cut.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::forward::append::{Append, Unpack};
use crate::forward::transport::watch::{PingRule, Watch};
use crate::wire::inflate::InflateError;

const MAX_BYTES: usize = 1 << 16;
const SUFFIX: &[u8] = b"\x0a\x07another";

/// The data in pieces of one length, but for the last.
fn pieces(data: &[u8], len: u8) -> impl Iterator<Item = &[u8]> {
    data.chunks(usize::from(len).max(1))
}

/// The watcher of HTTP/2 frames says the same of a connection however it is cut, and never waits for more than a head.
pub fn watch(data: &[u8]) {
    let Some((&[cut, side], frames)) = data.split_first_chunk::<2>() else { return };
    let rule = PingRule { interval: Duration::from_secs(10), strikes: 2 };
    let new = || if side & 1 == 0 { Watch::caller(rule) } else { Watch::backend() };
    let (mut whole, mut cuts) = (new(), new());
    let said = whole.read(frames, 0);
    let mut again = Ok(());
    for piece in pieces(frames, cut) {
        again = cuts.read(piece, 0);
        if again.is_err() {
            break;
        }
    }
    assert_eq!(said, again, "cut in pieces of {cut}");
    if said.is_ok() {
        assert_eq!((whole.last_stream(), whole.open_block()), (cuts.last_stream(), cuts.open_block()));
    }
}

/// What is appended to each message is the same however the stream is cut, and nothing of it is lost or doubled.
pub fn append(data: &[u8]) {
    let Some((&[cut, packed], stream)) = data.split_first_chunk::<2>() else { return };
    let unpack = (packed & 1 == 1).then(|| Unpack { encoding: "gzip".into(), max_bytes: MAX_BYTES });
    let fed = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let mut append = Append::new(Bytes::from_static(SUFFIX), unpack.clone());
        let mut out = VecDeque::new();
        for piece in pieces {
            append.feed(Bytes::copy_from_slice(piece), &mut out)?;
        }
        out.extend(append.rest());
        assert!(append.holds_nothing());
        Ok::<Vec<u8>, InflateError>(out.iter().flatten().copied().collect())
    };
    let whole = fed(&mut std::iter::once(stream));
    let cuts = fed(&mut pieces(stream, cut));
    assert_eq!(whole, cuts, "cut in pieces of {cut}");
    let Ok(whole) = whole else { return };
    if unpack.is_none() {
        let added = whole.len().checked_sub(stream.len()).expect("nothing of the stream is lost");
        assert_eq!(added % SUFFIX.len(), 0, "what is appended goes out whole");
    }
}
