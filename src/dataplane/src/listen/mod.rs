//! Accepts connections and speaks HTTP/2 with a cork.
//!
//! In: an address, and how many workers there are. Out: each stream of each connection, handed to `forward` on the worker
//! that holds the connection. Never: work of a call's, or a socket that is not accounted for.

mod connection;
mod keeper;
mod server;
mod socket;

pub use server::{Options, Server, StartError};
