//! Decides, and nothing else.
//!
//! In: a compiled policy, what a request's head says, what a backend's answer predicts. Out: what to do next, and at the
//! end the decision with its reasons. Never: I/O, a clock, randomness, or an allocation on the usual path.

pub mod prediction;
pub mod spec;

pub use prediction::{InvalidOutput, Label, Predictions};
pub use spec::{Input, Param, PredictionSpec, StaticAnswer};
