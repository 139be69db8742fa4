//! The Open Inference Protocol (KServe v2, `grpc_predict_v2.proto`), scanned rather than decoded.
//!
//! In: a request's or an answer's bytes. Out: the head that decisions see, the prediction a route reads, bytes to append,
//! whole answers that need no model, and what may be kept of a request. Never: the contents of a tensor nobody named.
//!
//! Where a message says a thing twice, the last one counts, as protobuf has it. Parsers may still differ in corners that a
//! caller could aim at, so a call that was matched by its model name ought to have that name appended ([`append_model`]):
//! then the backend sees the very name the route was chosen by.

pub mod answer;
pub mod append;
pub mod capture;
mod check;
pub mod head;
pub mod read;
pub mod rows;
pub(in crate::wire) mod tensor;

pub use answer::{NoAnswer, READY, static_answer, static_metadata};
pub use append::{address, append_model, append_param};
use capture::is_shared;
pub use capture::{redact, without};
pub use check::check;
pub use head::{Head, Inputs, ModelName};
pub use read::read;

/// The service whose calls are read; anything else is matched by method alone.
pub const SERVICE: &str = "inference.GRPCInferenceService";

/// Paths of the methods that the gateway knows more of than their name.
pub mod method {
    pub const SERVER_LIVE: &str = "/inference.GRPCInferenceService/ServerLive";
    pub const SERVER_READY: &str = "/inference.GRPCInferenceService/ServerReady";
    pub const SERVER_METADATA: &str = "/inference.GRPCInferenceService/ServerMetadata";
    pub const MODEL_READY: &str = "/inference.GRPCInferenceService/ModelReady";
    pub const MODEL_METADATA: &str = "/inference.GRPCInferenceService/ModelMetadata";
    pub const MODEL_INFER: &str = "/inference.GRPCInferenceService/ModelInfer";
    pub const MODEL_STREAM_INFER: &str = "/inference.GRPCInferenceService/ModelStreamInfer";
}

/// Field numbers of `ModelInferRequest`; `NAME` and `VERSION` are the same in `ModelInferResponse`, `ModelReadyRequest`
/// and `ModelMetadataRequest`.
mod request {
    pub const NAME: u32 = 1;
    pub const VERSION: u32 = 2;
    pub const ID: u32 = 3;
    pub const PARAMETERS: u32 = 4;
    pub const INPUTS: u32 = 5;
    pub const RAW: u32 = 7;
}

/// Field numbers of `ModelInferResponse`.
mod response {
    pub const ID: u32 = 3;
    pub const PARAMETERS: u32 = 4;
    pub const OUTPUTS: u32 = 5;
    pub const RAW: u32 = 6;
}

/// Field numbers of `InferInputTensor`, `InferOutputTensor` and (the first three) `TensorMetadata`.
mod field {
    pub const NAME: u32 = 1;
    pub const DATATYPE: u32 = 2;
    pub const SHAPE: u32 = 3;
    pub const PARAMETERS: u32 = 4;
    pub const CONTENTS: u32 = 5;
}

/// Field numbers of `InferParameter`.
mod param {
    pub const BOOL: u32 = 1;
    pub const INT64: u32 = 2;
    pub const STRING: u32 = 3;
    pub const DOUBLE: u32 = 4;
    pub const UINT64: u32 = 5;
}

#[cfg(test)]
mod tests;
