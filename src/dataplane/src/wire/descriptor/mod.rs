//! Messages of services that a descriptor describes, read by compiled paths.
//!
//! In: a request's or an answer's bytes, and what a route's paths became. Out: the head that decisions see, the prediction,
//! whole answers that need no model, and what may be kept of a request. Never: a message built in memory; a field that no
//! path leads through is passed over by its length.
//!
//! A message may say a thing twice: the last value counts, messages are merged, lists add up, of a `oneof` the last member
//! is set, of a map's key the last entry, as protobuf has it.

mod answer;
mod head;
mod read;
mod redact;
mod scalar;
mod scan;
mod sinks;
mod tensor;
#[cfg(test)]
mod tests;

pub use answer::static_answer;
pub use head::{Head, model_of};
pub use read::read;
pub use redact::redact;
