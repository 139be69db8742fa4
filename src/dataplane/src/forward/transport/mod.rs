//! HTTP/2 connections, seen from below: sockets, TLS, the cork, and the limits that both sides set.
//!
//! Above this line a call knows `h2` streams only; below it nothing knows of calls. An HTTP/2 engine of another kind would
//! take this room's place and that of `listen::connection`.

pub mod conduct;
pub mod cork;
pub mod limits;
pub mod socket;
pub mod tls;
pub mod watch;

pub use conduct::{Close, Conduct};
pub use cork::{Cork, Corked};
pub use socket::{Address, Socket};
