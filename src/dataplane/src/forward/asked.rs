//! The one seam between a call's life and how its service is read: what was asked, and what answers say.
//!
//! A decided call is of the Open Inference Protocol, or of a service that a descriptor describes; nobody else in this room
//! knows which. An enum, so that the first costs nothing by it.

use super::started::Repeat;
use crate::policy::{Input, InvalidOutput, Metadata, Mirror, ModelBackend, Predictions, Request, Route, StaticAnswer};
use crate::wire::oip::{self, Head, Inputs};
use crate::wire::{Malformed, descriptor};

/// Parameters of stateful models (Triton's sequence extension of the protocol).
const SEQUENCE: [&str; 3] = ["sequence_id", "sequence_start", "sequence_end"];

/// What was read of a request.
#[expect(clippy::large_enum_variant, reason = "the usual one is the large one, and a box would cost it an allocation")]
pub enum Asked<'m> {
    /// A `ModelInferRequest`.
    Oip(Head<'m>),
    /// A request of a described service.
    Described(descriptor::Head<'m>),
}

impl Asked<'_> {
    /// The inputs, as decisions see them: [`Asked::request`] borrows them.
    #[must_use]
    pub fn inputs(&self) -> Inputs<'_> {
        match self {
            Self::Oip(head) => head.inputs(),
            Self::Described(_) => Inputs::new(),
        }
    }

    /// What decisions see.
    #[must_use]
    pub fn request<'a>(&'a self, method: &'a str, inputs: &'a [Input<'a>], metadata: &'a dyn Metadata) -> Request<'a> {
        let (model, id, rows, params) = match self {
            Self::Oip(head) => (head.model, head.id, head.rows(), &*head.params),
            Self::Described(head) => (head.model, &*head.id, head.rows, &*head.params),
        };
        Request { method, model, id, rows, params, inputs, metadata, caller: None, memory: None }
    }

    /// Whether a backend may be sent it a second time: not where it is one of a sequence that the server keeps state of.
    #[must_use]
    pub fn repeat(&self) -> Repeat {
        match self {
            Self::Oip(head) if head.params.iter().any(|(name, _)| SEQUENCE.contains(name)) => Repeat::Never,
            Self::Oip(_) => Repeat::Always,
            // Whether somebody else's method only asks, the operator knows.
            Self::Described(_) => Repeat::Listed,
        }
    }

    /// What to append to the request so that a backend's model is addressed; empty where the caller named it so already.
    #[must_use]
    pub fn address(&self, model: &ModelBackend) -> Vec<u8> {
        match self {
            Self::Oip(head) => oip::address(model, head.model, head.version, head.cut),
            Self::Described(head) => head.address(model),
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
            // Where an answer names its model, if it does, nobody has said.
            Self::Described(_) => {}
        }
    }

    /// Appends to an answer of several backends the name that was asked for.
    pub fn name_again(&self, out: &mut Vec<u8>) {
        match self {
            Self::Oip(head) => oip::append_model(head.model, None, out),
            Self::Described(_) => {}
        }
    }

    /// Whether answers carry the marks as response parameters, besides the trailers.
    #[must_use]
    pub fn takes_params(&self) -> bool {
        match self {
            Self::Oip(_) => true,
            Self::Described(_) => false,
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
        let written = match self {
            Self::Oip(head) => oip::static_answer(spec, answers, head, max_rows, out),
            Self::Described(head) => {
                descriptor::static_answer(&head.described.form, spec, answers, head.rows, max_rows, out)
            }
        };
        written.map_err(|fault| fault.to_string())
    }

    /// Appends the request as the settings let it leave the call: without what `redact` names, or, of a described service,
    /// without what the route cuts out.
    ///
    /// # Errors
    /// What cannot be read cannot be redacted; nothing was appended.
    pub fn redact(&self, whole: &[u8], redact: &[Box<str>], out: &mut Vec<u8>) -> Result<(), Malformed> {
        match self {
            Self::Oip(_) => oip::redact(whole, redact, out),
            Self::Described(head) => descriptor::redact(&head.described.cuts, whole, out),
        }
    }

    /// Appends the request without what a copy is to go without.
    ///
    /// # Errors
    /// What cannot be read cannot be redacted; nothing was appended.
    pub fn without(&self, whole: &[u8], mirror: &Mirror, out: &mut Vec<u8>) -> Result<(), Malformed> {
        match self {
            Self::Oip(_) => oip::without(whole, &mirror.redact_inputs, &mirror.redact_params, out),
            Self::Described(head) => {
                let cuts = mirror.cut.and_then(|at| head.described.copies.get(at)).and_then(Option::as_ref);
                // A copy that was to go without something, and of which nobody knows what, does not go.
                let cuts = cuts.ok_or(Malformed("nothing says what the copy goes without"))?;
                descriptor::redact(cuts, whole, out)
            }
        }
    }
}

/// Reads what the route wants of a whole answer into `out`; nothing for a route without a prediction.
///
/// # Errors
/// It holds no such prediction.
pub fn read(route: &Route, answer: &[u8], max_rows: usize, out: &mut Predictions) -> Result<(), InvalidOutput> {
    match (&route.prediction, &route.described) {
        (Some(spec), None) => {
            oip::read(spec, answer, max_rows, out)?;
            let outputs = route.check.outputs.as_deref();
            outputs.map_or(Ok(()), |outputs| oip::check(outputs, spec, answer, out.rows))
        }
        (Some(spec), Some(described)) => descriptor::read(described, spec, answer, max_rows, out),
        (None, _) => Ok(()),
    }
}
