//! What a peer may do to a connection, in one place.
//!
//! `h2` 0.4.18 and later bound what peers can make us hold by resets, CONTINUATION and tiny frames once these are set, and
//! [`watch`](super::watch) what they can make us do; what goes past closes the connection with ENHANCE_YOUR_CALM.

use std::time::Duration;

use serde::Deserialize;

use super::watch::PingRule;

/// Streams that a caller may have open at once on one connection.
pub const MAX_CONCURRENT_STREAMS: u32 = 1024;
/// What all metadata of one call may take, as HTTP/2 counts it (names, values, 32 bytes each).
pub const MAX_HEADER_LIST_BYTES: u32 = 64 * 1024;
/// How much more `h2` takes of a backend before it drops what is too long: less than that is seen and told by the call.
const ROOM_FOR_METADATA: u32 = 4;
/// What a header block of a backend may take on the wire. Whatever of a block is more than four times
/// [`MAX_HEADER_LIST_BYTES`] and was dropped in silence took more than this.
pub const MAX_BLOCK_BYTES: u32 = 96 * 1024;
/// Streams a peer may reset before we have taken them up (CVE-2023-44487).
pub const MAX_PENDING_ACCEPT_RESETS: usize = 256;
/// Streams of a caller that we have reset and still remember, so that late frames of theirs are no error.
pub const MAX_REMEMBERED_RESETS: usize = 1024;
/// The same of a backend: every call that its caller gives up is one.
pub const MAX_REMEMBERED_CANCELS: usize = 16_384;
/// How long they are remembered.
pub const REMEMBER_RESETS: Duration = Duration::from_secs(5);
/// Streams that we reset because of a caller's faults in a connection's life, before it is closed.
pub const MAX_FAULTY_STREAMS: usize = 1024;
/// The same of a backend's connection, on which all its calls depend; late frames of streams that are forgotten count too.
pub const MAX_FAULTY_ANSWERS: usize = 100_000;
/// What a peer may send on a stream before we take it: what one call can make us hold, a direction.
pub const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// The same for all streams of a connection together: so many that streams which nobody reads never stop the others.
pub const CONNECTION_WINDOW_BYTES: u32 = MAX_CONCURRENT_STREAMS * STREAM_WINDOW_BYTES;
/// What DATA frames of less than 256 bytes may lack to that, all those of a connection together that nobody has taken yet.
/// Calls take theirs at once, so this bounds what one reading of the socket finds: many short tokens are no attack.
pub const TINY_DATA_BYTES: usize = 32 * 1024 * 1024;
/// DATA that is shorter than a message's own head, and does not end its stream, is no ordinary gRPC.
pub const LEAST_DATA_BYTES: u32 = 5;
/// DATA of one stream that waits for the peer's window or the socket.
pub const SEND_BUFFER_BYTES: usize = 256 * 1024;
/// Streams opened on an upstream connection before its SETTINGS say how many it takes.
pub const STREAMS_BEFORE_SETTINGS: usize = 100;

/// Frames that carry nothing (SETTINGS, PRIORITY, WINDOW_UPDATE, resets of what is over, unknown ones) that a peer may send
/// in [`CONTROL_WINDOW`], besides those that what we sent explains.
pub const CONTROL_FRAMES: u32 = 1000;
/// In which time.
pub const CONTROL_WINDOW: Duration = Duration::from_secs(10);
/// So many bytes that we sent explain one such frame: a peer answers DATA with updates of two windows.
pub const CONTROL_FRAME_PER_BYTES: u64 = 8;
/// A ping after so long a silence is welcome, whatever was before: gRPC's own interval.
pub const FORGIVE_PINGS: Duration = Duration::from_secs(300);
/// Calls that a caller may give up in haste in [`CONTROL_WINDOW`], besides one for each that ended otherwise.
pub const HASTY_RESETS: u32 = 1000;
/// What haste is: the caller's mind changed within this time, and not because the call's own time was up.
pub const HASTE: Duration = Duration::from_millis(100);
/// How long a connection that we close is read on, so that its peer learns why.
pub const LINGER: Duration = Duration::from_secs(1);
/// And how much is read.
pub const LINGER_BYTES: usize = 1024 * 1024;
/// How much of what is not gRPC is read before it is refused, and how long.
pub const REFUSED_BYTES: usize = 64 * 1024;
/// How long.
pub const REFUSED_WAIT: Duration = Duration::from_secs(1);

/// What an operator may set of the listener's side. What is absent is as it stands here.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listening {
    /// Connections that one worker holds.
    pub connections: usize,
    /// Calls under way on one worker; more are refused at once.
    pub calls: usize,
    /// Streams that a caller may have open at once on one connection.
    pub streams: u32,
    /// What all metadata of one call may take.
    pub header_bytes: u32,
    /// How long a peer may take to say that it speaks HTTP/2.
    pub handshake_ms: u64,
    /// How long a caller may be silent before it is asked whether it is there.
    pub keepalive_ms: u64,
    /// How long it may take to answer that.
    pub keepalive_timeout_ms: u64,
    /// Pings of a caller that come sooner than this, with nothing sent in between, are strikes.
    pub ping_interval_ms: u64,
    /// Strikes beyond this close the connection.
    pub ping_strikes: u32,
}

impl Default for Listening {
    fn default() -> Self {
        Self {
            connections: 8192,
            calls: 16_384,
            streams: MAX_CONCURRENT_STREAMS,
            header_bytes: MAX_HEADER_LIST_BYTES,
            handshake_ms: 10_000,
            keepalive_ms: 60_000,
            keepalive_timeout_ms: 20_000,
            ping_interval_ms: 10_000,
            ping_strikes: 2,
        }
    }
}

impl Listening {
    /// How pings are judged.
    #[must_use]
    pub fn pings(&self) -> PingRule {
        PingRule { interval: Duration::from_millis(self.ping_interval_ms), strikes: self.ping_strikes }
    }
}

/// The limits of a connection that callers open.
#[must_use]
pub fn server(limits: &Listening) -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    builder
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(limits.header_bytes)
        .max_pending_accept_reset_streams(MAX_PENDING_ACCEPT_RESETS)
        .max_concurrent_reset_streams(MAX_REMEMBERED_RESETS)
        .reset_stream_duration(REMEMBER_RESETS)
        .max_local_error_reset_streams(Some(MAX_FAULTY_STREAMS))
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .data_frame_budget(TINY_DATA_BYTES)
        .max_send_buffer_size(SEND_BUFFER_BYTES);
    builder
}

/// The limits of a connection that we open to a backend.
pub fn client() -> h2::client::Builder {
    let mut builder = h2::client::Builder::new();
    builder
        .enable_push(false)
        .max_header_list_size(MAX_HEADER_LIST_BYTES * ROOM_FOR_METADATA)
        .initial_max_send_streams(STREAMS_BEFORE_SETTINGS)
        .max_concurrent_reset_streams(MAX_REMEMBERED_CANCELS)
        .reset_stream_duration(REMEMBER_RESETS)
        .max_local_error_reset_streams(Some(MAX_FAULTY_ANSWERS))
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .data_frame_budget(TINY_DATA_BYTES)
        .max_send_buffer_size(SEND_BUFFER_BYTES);
    builder
}
