//! Decides, and nothing else.
//!
//! In: a compiled policy, what a request's head says, what a backend's answer predicts. Out: what to do next, and at the
//! end the decision with its reasons. Never: I/O, a clock, randomness, or an allocation on the usual path.
//!
//! Rooms: `document` and `compile*` make a policy of JSON; `matching` finds routes; `cel` judges conditions; `call`,
//! `assign`, `walk`, `asking`, `judging`, `reading`, `recalibration` and `finish` are one call's life; `choice` is every random choice and
//! `sampling` what they are made for; `notes` and `explain` say it in words.
//!
//! `Policy::compile` takes the whole document or names every fault in it; `Policy::route` finds a call's route; `Call`
//! walks it: `begin`, then `next` / `miss` / `judge` until somebody has answered or nobody is left, then `finish`.

mod asking;
mod assign;
mod batch;
mod call;
mod cel;
mod choice;
mod compile;
mod compile_backend;
mod compile_check;
mod compile_memory;
mod compile_prediction;
mod compile_route;
mod compile_rule;
mod compile_sampling;
mod compiled;
mod decision;
pub mod descriptor;
mod document;
mod explain;
mod explain_past;
mod finish;
mod hedge;
mod judging;
mod matching;
mod memory;
mod notes;
mod peer;
pub mod prediction;
mod reading;
mod recalibration;
mod recall;
mod request;
mod rule;
mod sampling;
mod segment;
pub mod spec;
#[cfg(test)]
mod tests;
mod thought;
mod walk;
mod words;

pub use asking::{Question, Verdict};
pub use call::{Call, Judgement, NO_REVIEW_METADATA, Step};
#[cfg(any(test, fuzzing))]
pub use cel::sample::agree;
pub use choice::Choice;
pub use compiled::{
    Backend, BackendIx, BackendKind, BackendTls, Check, Circuit, Confidence, Dns, Endpoint, Limits, Measure,
    ModelBackend, NO_INDEX, People, Policy, Retry, Route, RouteIx, Source,
};
pub use decision::{Attempt, Decision, NO_STRATUM, Row, push_attempts, push_reason, reason_text};
pub use descriptor::{Described, DescribedMethod};
pub use explain::{Ask, decision_json, explain};
pub use hedge::{After, Hedge};
pub use memory::{
    LastAnswer, Lesson, LoopGuard, MOST_REMEMBERED, Memory, Met, Moments, Said, Session, SessionSpec, Stats, Told,
    label_hash,
};
pub use notes::Note;
pub use peer::{Allow, Peer};
pub use prediction::{InvalidOutput, Label, Predictions};
pub use reading::{Reading, label_text};
pub use recalibration::Recalibration;
pub use request::{Metadata, Request};
pub use rule::{Action, Function, Otherwise, Rule, Stage};
pub use sampling::{Arm, Explore, Holdout, Mirror, Noise, Review, Sample, stratum};
pub use segment::{SEGMENT_BYTES, Segment, UNIT_METADATA};
pub use spec::{Input, OutputCheck, OutputsCheck, Param, PredictionSpec, StaticAnswer};
pub use words::{OUTCOMES, Outcome, REASONS, Reason, status};
