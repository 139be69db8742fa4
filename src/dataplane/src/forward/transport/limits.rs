//! What a peer may do to a connection, in one place.
//!
//! `h2` 0.4.18 and later bound rapid resets, CONTINUATION, SETTINGS, PING and tiny-frame floods by themselves once these
//! are set; what goes past closes the connection with ENHANCE_YOUR_CALM.

use std::time::Duration;

/// Streams that a caller may have open at once on one connection.
pub const MAX_CONCURRENT_STREAMS: u32 = 1024;
/// What all metadata of one call may take, as HTTP/2 counts it (names, values, 32 bytes each).
pub const MAX_HEADER_LIST_BYTES: u32 = 64 * 1024;
/// Streams a peer may reset before we have taken them up (CVE-2023-44487).
pub const MAX_PENDING_ACCEPT_RESETS: usize = 256;
/// Streams that we have reset and still remember, so that late frames of theirs are no error.
pub const MAX_REMEMBERED_RESETS: usize = 512;
/// How long they are remembered.
pub const REMEMBER_RESETS: Duration = Duration::from_secs(5);
/// Streams that we reset because of the peer's faults, before the connection is closed.
pub const MAX_FAULTY_STREAMS: usize = 256;
/// What a peer may send on a stream before we take it: what one call can make us hold, a direction.
pub const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// The same for all streams of a connection together.
pub const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// DATA of one stream that waits for the peer's window or the socket.
pub const SEND_BUFFER_BYTES: usize = 256 * 1024;
/// Streams opened on an upstream connection before its SETTINGS say how many it takes.
pub const STREAMS_BEFORE_SETTINGS: usize = 100;

/// The limits of a connection that callers open.
pub fn server() -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    builder
        .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        .max_pending_accept_reset_streams(MAX_PENDING_ACCEPT_RESETS)
        .max_concurrent_reset_streams(MAX_REMEMBERED_RESETS)
        .reset_stream_duration(REMEMBER_RESETS)
        .max_local_error_reset_streams(Some(MAX_FAULTY_STREAMS))
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buffer_size(SEND_BUFFER_BYTES);
    builder
}

/// The limits of a connection that we open to a backend.
pub fn client() -> h2::client::Builder {
    let mut builder = h2::client::Builder::new();
    builder
        .enable_push(false)
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        .initial_max_send_streams(STREAMS_BEFORE_SETTINGS)
        .max_concurrent_reset_streams(MAX_REMEMBERED_RESETS)
        .reset_stream_duration(REMEMBER_RESETS)
        .max_local_error_reset_streams(Some(MAX_FAULTY_STREAMS))
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buffer_size(SEND_BUFFER_BYTES);
    builder
}
