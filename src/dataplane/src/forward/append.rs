//! Appends bytes to each gRPC message of a stream as it flows by.
//!
//! In protobuf the last value of a scalar wins and an embedded message given twice is merged, so a name is changed by what
//! is appended: nothing is decoded, held back or copied. What is compressed cannot be appended to: it goes on as it came,
//! or is unpacked first, message by message and up to a limit.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use crate::wire::frame::{self, HEAD_BYTES};
use crate::wire::inflate::{InflateError, inflate};

#[derive(Clone)]
enum State {
    /// (start) => Head => Body | Untouched
    Head(BytesMut),
    /// Body => Head, once `left` bytes have passed.
    Body { left: u64, append: bool },
    /// A compressed message that is to be unpacked; => Head, once `left` bytes have come.
    Packed { left: u64, held: BytesMut },
    /// The stream has lost its step: whoever reads it shall say so.
    Untouched,
}

/// How compressed messages are unpacked.
#[derive(Clone)]
pub struct Unpack {
    /// `grpc-encoding`.
    pub encoding: Box<str>,
    /// Bytes of one message at most, packed and unpacked.
    pub max_bytes: usize,
}

/// The bytes appended to each message, and where in the stream we are.
#[derive(Clone)]
pub struct Append {
    suffix: Bytes,
    unpack: Option<Unpack>,
    state: State,
}

impl Append {
    /// Appends `suffix` to every message, but for compressed ones that nobody unpacks.
    #[must_use]
    pub fn new(suffix: Bytes, unpack: Option<Unpack>) -> Self {
        Self { suffix, unpack, state: State::Head(BytesMut::new()) }
    }

    /// Takes bytes of the stream, gives what goes on in their place.
    ///
    /// # Errors
    /// A compressed message is not what its encoding says, of an unknown one, or longer than what may be unpacked.
    pub fn feed(&mut self, mut chunk: Bytes, out: &mut VecDeque<Bytes>) -> Result<(), InflateError> {
        while !chunk.is_empty() {
            match &mut self.state {
                State::Untouched => out.push_back(std::mem::take(&mut chunk)),
                State::Head(have) => {
                    let missing = (HEAD_BYTES - have.len()).min(chunk.len());
                    have.extend_from_slice(&chunk[..missing]);
                    chunk.advance(missing);
                    if have.len() == HEAD_BYTES {
                        self.open(out)?;
                    }
                }
                State::Body { left, append } => {
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(chunk.len());
                    *left -= here as u64;
                    let (done, append) = (*left == 0, *append);
                    out.push_back(chunk.split_to(here));
                    if done {
                        self.close(append, out);
                    }
                }
                State::Packed { left, held } => {
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(chunk.len());
                    *left -= here as u64;
                    held.extend_from_slice(&chunk.split_to(here));
                    if *left == 0 {
                        let packed = held.split();
                        self.unpack(&packed, out)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// What the stream ended within, as it came: a head or a packed message that is not here whole. Whoever reads it shall
    /// see that it was cut short.
    pub fn rest(&mut self) -> Option<Bytes> {
        match std::mem::replace(&mut self.state, State::Untouched) {
            State::Head(have) => (!have.is_empty()).then(|| have.freeze()),
            State::Packed { left, held } => {
                let len = u32::try_from(left + held.len() as u64).unwrap_or(u32::MAX);
                Some([&frame::head(true, len), &held[..]].concat().into())
            }
            State::Body { .. } | State::Untouched => None,
        }
    }

    /// Whether all that came has gone on.
    #[must_use]
    pub fn holds_nothing(&self) -> bool {
        match &self.state {
            State::Head(have) => have.is_empty(),
            State::Packed { .. } => false,
            State::Body { .. } | State::Untouched => true,
        }
    }

    fn unpack(&mut self, packed: &[u8], out: &mut VecDeque<Bytes>) -> Result<(), InflateError> {
        let mut plain = Vec::new();
        if let Some(Unpack { encoding, max_bytes }) = &self.unpack {
            inflate(encoding, packed, *max_bytes, &mut plain)?;
        }
        let len = u32::try_from(plain.len() + self.suffix.len()).unwrap_or(u32::MAX);
        out.push_back(Bytes::copy_from_slice(&frame::head(false, len)));
        if !plain.is_empty() {
            out.push_back(plain.into());
        }
        self.close(true, out);
        Ok(())
    }

    fn open(&mut self, out: &mut VecDeque<Bytes>) -> Result<(), InflateError> {
        let State::Head(have) = &mut self.state else {
            return Ok(());
        };
        let head = have.split().freeze();
        let suffix = u32::try_from(self.suffix.len()).unwrap_or(u32::MAX);
        let read = frame::read_head(&head, u32::MAX).ok().flatten();
        match read.map(|read| (read, read.len.checked_add(suffix))) {
            Some((read, Some(longer))) if !read.compressed => {
                out.push_back(Bytes::copy_from_slice(&frame::head(false, longer)));
                self.state = State::Body { left: u64::from(read.len), append: true };
                if read.len == 0 {
                    self.close(true, out);
                }
            }
            Some((read, _)) if read.compressed && self.unpack.is_some() => {
                let max = self.unpack.as_ref().map_or(0, |unpack| unpack.max_bytes);
                if read.len as usize > max {
                    return Err(InflateError::TooLong { max });
                }
                self.state = State::Packed { left: u64::from(read.len), held: BytesMut::new() };
                if read.len == 0 {
                    self.unpack(&[], out)?;
                }
            }
            Some((read, _)) => {
                out.push_back(head);
                self.state = State::Body { left: u64::from(read.len), append: false };
                if read.len == 0 {
                    self.close(false, out);
                }
            }
            None => {
                out.push_back(head);
                self.state = State::Untouched;
            }
        }
        Ok(())
    }

    fn close(&mut self, append: bool, out: &mut VecDeque<Bytes>) {
        if append && !self.suffix.is_empty() {
            out.push_back(self.suffix.clone());
        }
        self.state = State::Head(BytesMut::new());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;
    use std::io::Write;

    fn framed(messages: &[Vec<u8>], compressed: bool) -> Vec<u8> {
        let mut all = Vec::new();
        for message in messages {
            all.extend(frame::head(compressed, u32::try_from(message.len()).unwrap()));
            all.extend(message);
        }
        all
    }

    fn run(stream: &[u8], cuts: &[usize]) -> Vec<u8> {
        fed(stream, cuts, None).unwrap()
    }

    fn fed(stream: &[u8], cuts: &[usize], unpack: Option<Unpack>) -> Result<Vec<u8>, InflateError> {
        let (mut append, mut out) = (Append::new(Bytes::from_static(b"++"), unpack), VecDeque::new());
        let mut rest = Bytes::copy_from_slice(stream);
        for cut in cuts {
            let here = (*cut).min(rest.len());
            append.feed(rest.split_to(here), &mut out)?;
        }
        append.feed(rest, &mut out)?;
        Ok(out.iter().flatten().copied().collect())
    }

    fn gzip(message: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(message).unwrap();
        encoder.finish().unwrap()
    }

    fn unpack(max_bytes: usize) -> Option<Unpack> {
        Some(Unpack { encoding: "gzip".into(), max_bytes })
    }

    proptest! {
        #[test]
        fn each_message_is_longer_by_what_is_appended(messages: Vec<Vec<u8>>, cuts in prop::collection::vec(0_usize..9, 0..40)) {
            let longer: Vec<Vec<u8>> = messages.iter().map(|m| [&m[..], b"++"].concat()).collect();
            prop_assert_eq!(run(&framed(&messages, false), &cuts), framed(&longer, false));
        }

        #[test]
        fn compressed_messages_go_on_as_they_came(messages: Vec<Vec<u8>>, cuts in prop::collection::vec(0_usize..9, 0..40)) {
            let stream = framed(&messages, true);
            prop_assert_eq!(run(&stream, &cuts), stream);
        }

        #[test]
        fn what_is_unpacked_is_appended_to_as_well(messages: Vec<(bool, Vec<u8>)>, cuts in prop::collection::vec(0_usize..9, 0..40)) {
            let stream: Vec<u8> = messages.iter().flat_map(|(packed, message)| {
                let body = if *packed { gzip(message) } else { message.clone() };
                framed(&[body], *packed)
            }).collect();
            let longer: Vec<Vec<u8>> = messages.iter().map(|(_, m)| [&m[..], b"++"].concat()).collect();
            prop_assert_eq!(fed(&stream, &cuts, unpack(4096)), Ok(framed(&longer, false)));
        }
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        let bomb = framed(&[gzip(&vec![0; 1 << 20])], true);
        assert_eq!(fed(&bomb, &[], unpack(4096)), Err(InflateError::TooLong { max: 4096 }));
        let claim = frame::head(true, u32::MAX);
        assert_eq!(fed(&claim, &[], unpack(4096)), Err(InflateError::TooLong { max: 4096 }));
    }

    #[test]
    fn a_stream_out_of_step_goes_on_as_it_came() {
        let stream = [9, 0, 0, 0, 1, 7, 7, 7];
        assert_eq!(run(&stream, &[3]), stream);
    }
}
