//! Looks at the heads of the frames that a peer sends, for floods that `h2` answers one by one without end.
//!
//! `h2` bounds what a peer can make us hold: resets before a stream is taken up, CONTINUATION, empty and tiny DATA, the
//! header list. It does not bound work: PING, SETTINGS, PRIORITY, WINDOW_UPDATE, resets of streams that are over and
//! unknown frames may come for ever. Nine bytes of each frame are read here, and the payload is skipped: 6 ns a frame.

use std::time::{Duration, Instant};

use super::limits;

/// Bytes of a frame's head.
const HEAD_BYTES: usize = 9;
/// Bytes of a caller's preface, before its first frame.
const PREFACE_BYTES: u32 = 24;
/// What a PING's answer takes on the wire.
const PONG_BYTES: u64 = 17;
/// What the answer to SETTINGS takes on the wire.
const SETTINGS_ACK_BYTES: u64 = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
/// END_STREAM of DATA, ACK of SETTINGS and PING.
const FIRST_FLAG: u8 = 1;
const END_HEADERS: u8 = 4;

/// What a peer did that closes its connection with ENHANCE_YOUR_CALM; the words go with the GOAWAY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    /// More pings than gRPC's rule allows.
    Pings,
    /// More frames that carry nothing than the work under way explains.
    Control,
    /// More calls given up at once than calls made.
    Resets,
    /// A block of metadata longer than any that is passed on.
    Metadata,
}

impl Excess {
    /// The GOAWAY's debug data. gRPC's clients know the first, and ping half as often from then on.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Pings => "too_many_pings",
            Self::Control => "too_many_control_frames",
            Self::Resets => "too_many_resets",
            Self::Metadata => "too_much_metadata",
        }
    }
}

/// How pings are judged.
#[derive(Clone, Copy, Debug)]
pub struct PingRule {
    /// Pings that come sooner than this after the last one are strikes.
    pub interval: Duration,
    /// Strikes beyond this close the connection.
    pub strikes: u32,
}

/// One connection's frames, as they come.
#[derive(Debug)]
pub struct Watch {
    head: [u8; HEAD_BYTES],
    have: usize,
    skip: u32,
    /// `None`: pings count as frames that carry nothing.
    pings: Option<PingRule>,
    last_ping: Option<Instant>,
    /// The most that was sent besides answers to pings and settings, as of the last ping.
    worked_at_ping: u64,
    strikes: u32,
    /// Frames that carry nothing, beyond what was forgiven.
    control: u32,
    since: Option<Instant>,
    sent_since: u64,
    /// What we have answered to pings and settings: no work.
    idle_bytes: u64,
    /// Header blocks begun, and whether the last one is still open.
    blocks: u32,
    in_block: bool,
    /// What the last one took so far on the wire.
    block_bytes: u32,
    /// Whether the frame that is being skipped is part of one.
    of_block: bool,
    /// Streams that the peer has reset: one for each that it opened is a call given up, and counted as such elsewhere.
    resets: u32,
    last_stream: u32,
}

impl Watch {
    /// Of a caller: its preface comes first, and its pings are judged by `pings`.
    #[must_use]
    pub fn caller(pings: PingRule) -> Self {
        Self { skip: PREFACE_BYTES, pings: Some(pings), ..Self::backend() }
    }

    /// Of a backend.
    #[must_use]
    pub fn backend() -> Self {
        Self {
            head: [0; HEAD_BYTES],
            have: 0,
            skip: 0,
            pings: None,
            last_ping: None,
            worked_at_ping: 0,
            strikes: 0,
            control: 0,
            since: None,
            sent_since: 0,
            idle_bytes: 0,
            blocks: 0,
            in_block: false,
            block_bytes: 0,
            of_block: false,
            resets: 0,
            last_stream: 0,
        }
    }

    /// The highest stream that the peer has opened: what a GOAWAY names.
    #[must_use]
    pub fn last_stream(&self) -> u32 {
        // A backend opens none: it answers on ours.
        if self.pings.is_some() { self.last_stream } else { 0 }
    }

    /// The number of the header block that has begun and not ended.
    #[must_use]
    pub fn open_block(&self) -> Option<u32> {
        (self.in_block || (self.of_block && self.skip > 0)).then_some(self.blocks)
    }

    /// Reads what came. `sent` is all that we have sent so far.
    ///
    /// # Errors
    /// [`Excess`]: the connection is to be closed.
    pub fn read(&mut self, mut bytes: &[u8], sent: u64) -> Result<(), Excess> {
        loop {
            let skipped = bytes.len().min(self.skip as usize);
            bytes = &bytes[skipped..];
            // No more than `skip`, so it fits.
            self.skip -= u32::try_from(skipped).unwrap_or(self.skip);
            if bytes.is_empty() {
                return Ok(());
            }
            // Nearly always the head is here in one piece.
            if self.have == 0
                && let Some((&head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>()
            {
                bytes = rest;
                self.frame(head, sent)?;
                continue;
            }
            let taken = bytes.len().min(HEAD_BYTES - self.have);
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have < HEAD_BYTES {
                return Ok(());
            }
            self.have = 0;
            self.frame(self.head, sent)?;
        }
    }

    fn frame(&mut self, head: [u8; HEAD_BYTES], sent: u64) -> Result<(), Excess> {
        let [l2, l1, l0, kind, flags, s3, s2, s1, s0] = head;
        self.skip = u32::from_be_bytes([0, l2, l1, l0]);
        self.of_block = matches!(kind, HEADERS | CONTINUATION);
        match kind {
            DATA if self.skip >= limits::LEAST_DATA_BYTES || flags & FIRST_FLAG != 0 => Ok(()),
            HEADERS => {
                self.last_stream = self.last_stream.max(u32::from_be_bytes([s3, s2, s1, s0]) & 0x7fff_ffff);
                self.blocks = self.blocks.wrapping_add(1);
                self.in_block = flags & END_HEADERS == 0;
                self.block_bytes = 0;
                self.block()
            }
            RST_STREAM if self.resets != self.blocks => {
                self.resets = self.resets.wrapping_add(1);
                Ok(())
            }
            // `h2` counts them.
            CONTINUATION => {
                self.in_block &= flags & END_HEADERS == 0;
                self.block()
            }
            PING if flags & FIRST_FLAG == 0 => {
                // Several pings may be read at once, and answered before the next: what answers them is no work.
                let worked = sent.saturating_sub(self.idle_bytes);
                let idle = worked <= self.worked_at_ping;
                self.worked_at_ping = self.worked_at_ping.max(worked);
                self.idle_bytes += PONG_BYTES;
                match self.pings {
                    Some(rule) => self.ping(rule, idle, Instant::now()),
                    None => self.control(sent),
                }
            }
            _ => {
                if kind == SETTINGS && flags & FIRST_FLAG == 0 {
                    self.idle_bytes += SETTINGS_ACK_BYTES;
                }
                self.control(sent)
            }
        }
    }

    /// More of a header block has come. Callers' are refused by `h2` itself; of a backend's trailers it would drop the rest.
    fn block(&mut self) -> Result<(), Excess> {
        self.block_bytes = self.block_bytes.saturating_add(self.skip);
        let excess = self.pings.is_none() && self.block_bytes > limits::MAX_BLOCK_BYTES;
        if excess { Err(Excess::Metadata) } else { Ok(()) }
    }

    /// gRPC's rule: what we have sent in between makes a ping welcome, as peers measure the way by it.
    ///
    /// Source: <https://github.com/grpc/proposal/blob/master/A8-client-side-keepalive.md>, Server Enforcement.
    fn ping(&mut self, rule: PingRule, idle: bool, now: Instant) -> Result<(), Excess> {
        let before = self.last_ping.replace(now);
        if !idle {
            self.strikes = 0;
            return Ok(());
        }
        let Some(passed) = before.map(|before| now - before) else {
            return Ok(());
        };
        if passed >= limits::FORGIVE_PINGS {
            self.strikes = 0;
        } else if passed < rule.interval {
            self.strikes += 1;
        }
        if self.strikes > rule.strikes { Err(Excess::Pings) } else { Ok(()) }
    }

    fn control(&mut self, sent: u64) -> Result<(), Excess> {
        self.control += 1;
        if self.control <= limits::CONTROL_FRAMES {
            return Ok(());
        }
        self.judge(sent, Instant::now())
    }

    /// So many frames are explained by what we have sent, as peers answer it with updates of their windows; or by a long
    /// time. The clock is read once in so many frames.
    fn judge(&mut self, sent: u64, now: Instant) -> Result<(), Excess> {
        let worked = sent.saturating_sub(self.idle_bytes);
        let explained = worked.saturating_sub(self.sent_since) / limits::CONTROL_FRAME_PER_BYTES;
        let long = self.since.is_none_or(|since| now - since >= limits::CONTROL_WINDOW);
        if explained < u64::from(self.control) && !long {
            return Err(Excess::Control);
        }
        self.control = 0;
        self.since = Some(now);
        self.sent_since = worked;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: PingRule = PingRule { interval: Duration::from_secs(10), strikes: 2 };

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut bytes = vec![len[1], len[2], len[3], kind, flags];
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    fn caller() -> Watch {
        let mut watch = Watch::caller(RULE);
        watch.read(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0).unwrap();
        watch
    }

    #[test]
    fn frames_are_found_however_the_bytes_are_cut() {
        let mut all = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        all.extend(frame(HEADERS, END_HEADERS, 7, b"abc"));
        all.extend(frame(DATA, 0, 7, &[7; 300]));
        all.extend(frame(HEADERS, 0, 9, b""));
        for cut in 1..all.len() {
            let mut watch = Watch::caller(RULE);
            for part in all.chunks(cut) {
                watch.read(part, 0).unwrap();
            }
            assert_eq!((watch.last_stream(), watch.open_block(), watch.control), (9, Some(2), 0), "{cut}");
        }
    }

    #[test]
    fn a_header_block_is_open_until_its_last_byte() {
        let mut watch = caller();
        watch.read(&frame(HEADERS, 0, 1, b"abc"), 0).unwrap();
        let last = frame(CONTINUATION, END_HEADERS, 1, b"abc");
        watch.read(&last[..last.len() - 1], 0).unwrap();
        assert_eq!(watch.open_block(), Some(1));
        watch.read(b"c", 0).unwrap();
        assert_eq!(watch.open_block(), None);
    }

    #[test]
    fn a_third_strike_is_too_much() {
        let ping = frame(PING, 0, 0, &[0; 8]);
        let mut watch = caller();
        let ended = (0..10).map(|at| watch.read(&ping, at * PONG_BYTES)).position(|read| read == Err(Excess::Pings));
        // The first is none, two are allowed.
        assert_eq!(ended, Some(3));
    }

    #[test]
    fn pings_that_come_together_are_answered_together_and_are_strikes_all_the_same() {
        let ping = frame(PING, 0, 0, &[0; 8]);
        for together in 1..=3 {
            let mut watch = caller();
            let ended = (0..4_u64)
                .map(|at| watch.read(&ping, at / together * together * PONG_BYTES))
                .position(|read| read.is_err());
            assert_eq!(ended, Some(3), "{together}");
        }
    }

    #[test]
    fn pings_between_answers_and_an_ordinary_keepalive_are_welcome() {
        let ping = frame(PING, 0, 0, &[0; 8]);
        let mut watch = caller();
        for at in 0..100 {
            watch.read(&ping, at * (PONG_BYTES + 20)).unwrap();
        }
        let (mut watch, mut now) = (caller(), Instant::now());
        for _ in 0..100 {
            watch.ping(RULE, true, now).unwrap();
            now += RULE.interval;
        }
    }

    #[test]
    fn settings_in_between_do_not_make_pings_welcome() {
        let (ping, settings) = (frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, 0, 0, b""));
        let (mut watch, mut sent) = (caller(), 0);
        let ended = (0..10).find_map(|_| {
            watch.read(&ping, sent).err().or_else(|| {
                sent += PONG_BYTES + SETTINGS_ACK_BYTES;
                watch.read(&settings, sent - SETTINGS_ACK_BYTES).err()
            })
        });
        assert_eq!(ended, Some(Excess::Pings));
    }

    #[test]
    fn frames_that_carry_nothing_are_bounded_by_time_and_by_what_was_sent() {
        for (kind, flags, payload) in
            [(2, 0, &[0, 0, 0, 1, 1][..]), (SETTINGS, 0, b""), (8, 0, &[0, 0, 0, 1]), (3, 0, &[0; 4]), (DATA, 0, b"")]
        {
            let frame = frame(kind, flags, 0, payload);
            let mut watch = caller();
            let many = u64::from(limits::CONTROL_FRAMES) * 3;
            let answer = if kind == SETTINGS { SETTINGS_ACK_BYTES } else { 0 };
            assert!((0..many).any(|at| watch.read(&frame, at * answer).is_err()), "{kind}");
            // As many after answers of some bytes are a peer that reads them.
            let mut watch = caller();
            assert!((0..many).all(|at| watch.read(&frame, at * (answer + 30)).is_ok()), "{kind}");
        }
        let (mut watch, mut now) = (caller(), Instant::now());
        for _ in 0..10 {
            watch.judge(0, now).unwrap();
            now += limits::CONTROL_WINDOW;
        }
        watch.control = 1;
        assert_eq!(watch.judge(0, now - limits::CONTROL_WINDOW / 2), Err(Excess::Control));
    }
}
