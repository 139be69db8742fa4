//! What a rule can see, borrowed from the call.

use cel::common::types::CelString;
use cel::common::value::CowVal;
use cel::context::VariableResolver;

use super::past::Seen;
use super::values::{Fields, TextMap, Texts};
use crate::policy::reading::Reading;
use crate::policy::request::Request;
use crate::policy::rule::Lists;
use crate::policy::segment::Segment;
use crate::policy::spec::PredictionSpec;

/// One row's prediction, and the backend that made it.
#[derive(Clone, Copy)]
pub(in crate::policy) struct Predicted<'a> {
    pub reading: &'a Reading,
    pub spec: &'a PredictionSpec,
    pub backend: &'a str,
}

/// What a rule can see.
#[derive(Clone, Copy)]
pub(in crate::policy) struct Scope<'a> {
    pub request: &'a Request<'a>,
    pub segment: &'a Segment,
    pub route: &'a str,
    pub lists: &'a Lists,
    /// Only for rules on a prediction.
    pub predicted: Option<Predicted<'a>>,
    /// Only where a rule of the route names it.
    pub past: Option<Seen<'a>>,
}

/// The variables of a rule; `prediction` and `backend` only on a prediction.
pub(super) const VARIABLES: [&str; 8] =
    ["request", "metadata", "caller", "segment", "lists", "route", "session", "stats"];
pub(super) const PREDICTION_VARIABLES: [&str; 2] = ["prediction", "backend"];

impl VariableResolver for Scope<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        let fields = |fields: Fields<'b>| Some(CowVal::owned(fields));
        let texts = |texts: Texts<'b>| Some(CowVal::owned(TextMap::new(texts)));
        match variable {
            "request" => fields(Fields::Request(self.request)),
            "metadata" => texts(Texts::Metadata(self.request.metadata)),
            "caller" => fields(Fields::Caller(self.request.caller)),
            "segment" => texts(Texts::Segment(self.segment)),
            "lists" => fields(Fields::Lists(self.lists)),
            "session" => fields(Fields::Session(self.past?)),
            "stats" => fields(Fields::Stats(self.past?)),
            "route" => Some(CowVal::owned(CelString::from(self.route))),
            "prediction" => fields(Fields::Prediction(self.predicted?)),
            "backend" => Some(CowVal::owned(CelString::from(self.predicted?.backend))),
            _ => None,
        }
    }
}
