//! What must hold for any bytes whatever: one function a parser, called by cargo-fuzz and, on seeds and their neighbours,
//! by the tests.
//!
//! In: bytes of an adversary. Out: nothing, or a panic that names what does not hold. Never: a part of the gateway;
//! this room is built for tests and fuzzers alone.

mod certificate;
mod described;
mod policy;
mod stream;
#[cfg(test)]
mod tests;
mod wire;

pub use certificate::certificate;
pub use described::described;
pub use policy::{call, cel, policy};
pub use stream::{append, watch};
pub use wire::{answer, frame, inflate, receipt, request, rows};

/// A parser and what must hold for it.
pub type Target = (&'static str, fn(&[u8]));

/// Every one, by the name of its fuzzer and of the folder of its seeds.
pub const TARGETS: &[Target] = &[
    ("answer", answer),
    ("append", append),
    ("call", call),
    ("cel", cel),
    ("certificate", certificate),
    ("described", described),
    ("frame", frame),
    ("inflate", inflate),
    ("policy", policy),
    ("receipt", receipt),
    ("request", request),
    ("rows", rows),
    ("watch", watch),
];
