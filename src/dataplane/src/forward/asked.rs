//! The one seam between a call's life and how its service is read: what was asked, and what answers say.
//!
//! A decided call is of the Open Inference Protocol, or of a service that a descriptor describes; nobody else in this room
//! knows which. An enum, so that the first costs nothing by it.

use super::started::Repeat;
use crate::policy::{Input, InvalidOutput, Metadata, Mirror, ModelBackend, Predictions, Request, Route, StaticAnswer};
use crate::wire::Malformed;
use crate::wire::oip::{self, Head, Inputs};

/// Parameters of stateful models (Triton's sequence extension of the protocol).
const SEQUENCE: [&str; 3] = ["sequence_id", "sequence_start", "sequence_end"];

/// What was read of a request.
pub enum Asked<'m> {
    /// A `ModelInferRequest`.
    Oip(Head<'m>),
}

impl Asked<'_> {
    /// The inputs, as decisions see them: [`Asked::request`] borrows them.
    #[must_use]
    pub fn inputs(&self) -> Inputs<'_> {
        match self {
            Self::Oip(head) => head.inputs(),
        }
    }

    /// What decisions see.
    #[must_use]
    pub fn request<'a>(&'a self, method: &'a str, inputs: &'a [Input<'a>], metadata: &'a dyn Metadata) -> Request<'a> {
        match self {
            Self::Oip(head) => Request {
                method,
                model: head.model,
                id: head.id,
                rows: head.rows(),
                params: &head.params,
                inputs,
                metadata,
                caller: None,
                memory: None,
            },
        }
    }

    /// Whether a backend may be sent it a second time: not where it is one of a sequence that the server keeps state of.
    #[must_use]
    pub fn repeat(&self) -> Repeat {
        match self {
            Self::Oip(head) if head.params.iter().any(|(name, _)| SEQUENCE.contains(name)) => Repeat::Never,
            Self::Oip(_) => Repeat::Always,
        }
    }

    /// What to append to the request so that a backend's model is addressed; empty where the caller named it so already.
    #[must_use]
    pub fn address(&self, model: &ModelBackend) -> Vec<u8> {
        match self {
            Self::Oip(head) => oip::address(model, head.model, head.version, head.cut),
        }
    }

    /// Appends to an answer what makes it speak of the model by the name that was asked for.
    pub fn rename(&self, model: Option<&ModelBackend>, out: &mut Vec<u8>) {
        match self {
            Self::Oip(head) => {
                if model.and_then(|model| model.model.as_deref()).is_some_and(|name| name != head.model) {
                    oip::append_model(head.model, None, out);
                }
            }
        }
    }

    /// Appends to an answer of several backends the name that was asked for.
    pub fn name_again(&self, out: &mut Vec<u8>) {
        match self {
            Self::Oip(head) => oip::append_model(head.model, None, out),
        }
    }

    /// Whether answers carry the marks as response parameters, besides the trailers.
    #[must_use]
    pub fn takes_params(&self) -> bool {
        match self {
            Self::Oip(_) => true,
        }
    }

    /// Appends an answer in the form of the route's prediction, for at most `max_rows` rows: one that stands for all of
    /// them, or one a row.
    ///
    /// # Errors
    /// Words on why it cannot take that form; nothing was appended.
    pub fn static_answer(
        &self,
        route: &Route,
        answers: &[StaticAnswer],
        max_rows: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        let Some(spec) = &route.prediction else {
            return Err("the route has no prediction whose form a static answer could take".into());
        };
        let max_rows = u32::try_from(max_rows).unwrap_or(u32::MAX);
        match self {
            Self::Oip(head) => {
                oip::static_answer(spec, answers, head, max_rows, out).map_err(|fault| fault.to_string())
            }
        }
    }

    /// Appends the request as the settings let it leave the call.
    ///
    /// # Errors
    /// What cannot be read cannot be redacted; nothing was appended.
    pub fn redact(&self, whole: &[u8], redact: &[Box<str>], out: &mut Vec<u8>) -> Result<(), Malformed> {
        match self {
            Self::Oip(_) => oip::redact(whole, redact, out),
        }
    }

    /// Appends the request without what a copy is to go without.
    ///
    /// # Errors
    /// What cannot be read cannot be redacted; nothing was appended.
    pub fn without(&self, whole: &[u8], mirror: &Mirror, out: &mut Vec<u8>) -> Result<(), Malformed> {
        match self {
            Self::Oip(_) => oip::without(whole, &mirror.redact_inputs, &mirror.redact_params, out),
        }
    }
}

/// Reads what the route wants of a whole answer into `out`; nothing for a route without a prediction.
///
/// # Errors
/// It holds no such prediction.
pub fn read(route: &Route, answer: &[u8], max_rows: usize, out: &mut Predictions) -> Result<(), InvalidOutput> {
    match &route.prediction {
        Some(spec) => {
            oip::read(spec, answer, max_rows, out)?;
            let outputs = route.check.outputs.as_deref();
            outputs.map_or(Ok(()), |outputs| oip::check(outputs, spec, answer, out.rows))
        }
        None => Ok(()),
    }
}
