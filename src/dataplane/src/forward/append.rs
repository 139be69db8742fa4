//! Appends bytes to each gRPC message of a stream as it flows by.
//!
//! In protobuf the last value of a scalar wins and an embedded message given twice is merged, so a name is changed by what
//! is appended: nothing is decoded, held back or copied. What is compressed cannot be appended to and goes on as it came.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use crate::wire::frame::{self, HEAD_BYTES};

enum State {
    /// (start) => Head => Body | Untouched
    Head(BytesMut),
    /// Body => Head, once `left` bytes have passed.
    Body { left: u64, append: bool },
    /// The stream has lost its step: whoever reads it shall say so.
    Untouched,
}

/// The bytes appended to each message, and where in the stream we are.
pub struct Append {
    suffix: Bytes,
    state: State,
}

impl Append {
    /// Appends `suffix` to every message.
    #[must_use]
    pub fn new(suffix: Bytes) -> Self {
        Self { suffix, state: State::Head(BytesMut::new()) }
    }

    /// Takes bytes of the stream, gives what goes on in their place.
    pub fn feed(&mut self, mut chunk: Bytes, out: &mut VecDeque<Bytes>) {
        while !chunk.is_empty() {
            match &mut self.state {
                State::Untouched => out.push_back(std::mem::take(&mut chunk)),
                State::Head(have) => {
                    let missing = (HEAD_BYTES - have.len()).min(chunk.len());
                    have.extend_from_slice(&chunk[..missing]);
                    chunk.advance(missing);
                    if have.len() == HEAD_BYTES {
                        self.open(out);
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
            }
        }
    }

    fn open(&mut self, out: &mut VecDeque<Bytes>) {
        let State::Head(have) = &mut self.state else {
            return;
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
    }

    fn close(&mut self, append: bool, out: &mut VecDeque<Bytes>) {
        if append {
            out.push_back(self.suffix.clone());
        }
        self.state = State::Head(BytesMut::new());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn framed(messages: &[Vec<u8>], compressed: bool) -> Vec<u8> {
        let mut all = Vec::new();
        for message in messages {
            all.extend(frame::head(compressed, u32::try_from(message.len()).unwrap()));
            all.extend(message);
        }
        all
    }

    fn run(stream: &[u8], cuts: &[usize]) -> Vec<u8> {
        let (mut append, mut out) = (Append::new(Bytes::from_static(b"++")), VecDeque::new());
        let mut rest = Bytes::copy_from_slice(stream);
        for cut in cuts {
            let here = (*cut).min(rest.len());
            append.feed(rest.split_to(here), &mut out);
        }
        append.feed(rest, &mut out);
        out.iter().flatten().copied().collect()
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
    }

    #[test]
    fn a_stream_out_of_step_goes_on_as_it_came() {
        let stream = [9, 0, 0, 0, 1, 7, 7, 7];
        assert_eq!(run(&stream, &[3]), stream);
    }
}
