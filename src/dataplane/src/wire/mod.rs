//! Bytes as others wrote them: gRPC frames, protobuf scanning, the Open Inference Protocol, described
//! services, receipts.
//!
//! In: bytes of a peer that may say anything. Out: borrowed views of the few fields that a decision needs, and bytes to
//! append or to answer with. Never: a panic, a copy of a tensor that the route does not read, or memory reserved on a
//! peer's word; re-encoding of a message that is passed on.

pub mod descriptor;
pub mod frame;
pub mod inflate;
pub mod oip;
pub mod proto;
pub mod receipt;

pub use proto::Malformed;
