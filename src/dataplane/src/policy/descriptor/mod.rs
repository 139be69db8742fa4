//! Services beyond the Open Inference Protocol: what a route reads, by paths into messages that a descriptor describes.
//!
//! In: `FileDescriptorSet`s, and paths such as `items[].score`. Out: field numbers and types, so that nobody needs the
//! descriptors once the policy is compiled; or faults that say which message has no such field. Never: the bytes of a
//! message, which the wire room reads by what stands here.

mod compile;
mod cuts;
mod form;
mod nearest;
mod path;
mod resolve;
mod spec;

pub(super) use compile::{Compiler, Descriptors, addressable, gather};
pub use spec::{
    Asking, Cuts, Described, DescribedMethod, FieldPath, Form, FormNode, Key, Kind, Number, Part, Put, Step, Take, What,
};
