//! A call as it is thought of: what it holds, and what backends and people are thought to answer.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::compiled::{BackendIx, Policy};
use super::explain_past::ThoughtPast;
use super::prediction::{InvalidOutput, Label, Predictions};
use super::reading::label_text;
use super::spec::{Param, PredictionSpec, StaticAnswer};
use super::words::status;

/// The call as it is thought of.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Thought {
    pub model: Option<String>,
    pub method: Option<String>,
    pub metadata: BTreeMap<String, String>,
    pub params: BTreeMap<String, Value>,
    pub rows: u32,
    pub id: String,
    pub answers: BTreeMap<String, Answer>,
    pub answer: Option<Answer>,
    /// Names of the caller's certificate; none for a caller without TLS.
    pub caller: Option<Vec<String>>,
    /// What is remembered of the unit and the route.
    pub past: ThoughtPast,
}

impl Default for Thought {
    fn default() -> Self {
        Thought {
            model: None,
            method: None,
            metadata: BTreeMap::new(),
            params: BTreeMap::new(),
            rows: 1,
            id: String::new(),
            answers: BTreeMap::new(),
            answer: None,
            caller: None,
            past: ThoughtPast::default(),
        }
    }
}

/// What a model backend is thought to answer: the same for every row, but for those that `rows` names one by one.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Answer {
    score: Option<f64>,
    scores: Option<Vec<f64>>,
    label: Option<String>,
    confidence: Option<f64>,
    value: Option<f64>,
    error: Option<String>,
    timeout: bool,
    rows: Vec<Answer>,
}

/// What comes of asking a backend.
pub(super) enum Came {
    Prediction(Result<Predictions, InvalidOutput>),
    Status(u8),
    Timeout,
}

pub(super) fn param(value: &Value) -> Result<Param<'_>, String> {
    match value {
        Value::Bool(value) => Ok(Param::Bool(*value)),
        Value::String(value) => Ok(Param::Text(value)),
        Value::Number(value) => value
            .as_i64()
            .map(Param::Int)
            .or_else(|| value.as_f64().map(Param::Float))
            .ok_or_else(|| format!("the call: the parameter {value} is out of range")),
        other => Err(format!("the call: found {other} as a parameter, wanted a text, a number or true or false")),
    }
}

impl Thought {
    /// What `backend` answers. A backend of which nothing is said answers nothing.
    pub(super) fn of(
        &self,
        policy: &Policy,
        backend: BackendIx,
        spec: Option<&PredictionSpec>,
        rows: &[u32],
    ) -> Result<Came, String> {
        let name = &*policy.backend(backend).name;
        let Some(answer) = self.answers.get(name).or(self.answer.as_ref()) else {
            return Ok(match spec {
                Some(_) => Came::Status(status::UNAVAILABLE),
                None => Came::Prediction(Ok(Predictions::default())),
            });
        };
        if answer.timeout {
            return Ok(Came::Timeout);
        }
        if let Some(error) = &answer.error {
            let code = status::by_name(error).filter(|code| *code != status::OK);
            return code
                .map(Came::Status)
                .ok_or_else(|| format!("the answer of {name}: {error:?} is not a failing gRPC status"));
        }
        Ok(Came::Prediction(match spec {
            Some(spec) => answer.predictions(spec, rows),
            None => Ok(Predictions::default()),
        }))
    }
}

impl Thought {
    /// What people answer; those of whom nothing is said, or no label, do not answer in time.
    pub(super) fn of_people(
        &self,
        policy: &Policy,
        backend: BackendIx,
        spec: Option<&PredictionSpec>,
    ) -> Result<Option<StaticAnswer>, String> {
        let name = &*policy.backend(backend).name;
        let (Some(answer), Some(spec)) = (self.answers.get(name), spec) else { return Ok(None) };
        if answer.error.is_some() {
            return Err(format!("the answer of {name}: people give a label, or none in time"));
        }
        let label = answer.label(spec).map(|label| label_text(&label, spec).into());
        Ok(label.map(|label| StaticAnswer { label: Some(label), ..StaticAnswer::default() }))
    }
}

impl Answer {
    /// The outputs that the route reads of those rows, from what was said of the answer.
    fn predictions(&self, spec: &PredictionSpec, rows: &[u32]) -> Result<Predictions, InvalidOutput> {
        let mut out = Predictions { rows: rows.len(), ..Predictions::default() };
        for &row in rows {
            self.rows.get(row as usize).unwrap_or(self).read(spec, &mut out)?;
        }
        out.columns = out.scores.len() / rows.len().max(1);
        Ok(out)
    }

    /// Appends what it says of one row.
    fn read(&self, spec: &PredictionSpec, out: &mut Predictions) -> Result<(), InvalidOutput> {
        let missing = |what: &str| InvalidOutput(format!("the answer has no {what}").into());
        if spec.scores.is_some() {
            out.scores.extend(self.scores(spec).ok_or_else(|| missing("scores"))?);
        }
        if spec.label.is_some() {
            out.labels.push(self.label(spec).ok_or_else(|| missing("label"))?);
        }
        if spec.confidence.is_some() {
            let sure = self.confidence.or(self.score.map(|score| score.max(1.0 - score)));
            out.confidence.push(sure.ok_or_else(|| missing("confidence"))?);
        }
        if spec.value.is_some() {
            out.values.push(self.value.ok_or_else(|| missing("value"))?);
        }
        Ok(())
    }

    /// Scores of all classes: as given, or from the score of `positive`, or from a label and how sure it is.
    fn scores(&self, spec: &PredictionSpec) -> Option<Vec<f64>> {
        if let Some(scores) = &self.scores {
            return Some(scores.clone());
        }
        let classes = spec.classes.len();
        let (class, score) = match (self.score, &self.label) {
            (Some(score), _) => (spec.positive.map_or(classes.checked_sub(1)?, usize::from), score),
            (None, Some(label)) => {
                (spec.classes.iter().position(|class| **class == **label)?, self.confidence.unwrap_or(1.0))
            }
            (None, None) => return None,
        };
        #[allow(clippy::cast_precision_loss)] // a number of classes
        let rest = (1.0 - score) / classes.checked_sub(1).filter(|others| *others > 0)? as f64;
        let mut scores = vec![rest; classes];
        *scores.get_mut(class)? = score;
        Some(scores)
    }

    fn label(&self, spec: &PredictionSpec) -> Option<Label> {
        if let Some(label) = &self.label {
            let class =
                spec.classes.iter().position(|class| **class == **label).and_then(|class| u16::try_from(class).ok());
            return Some(class.map_or_else(|| Label::Text(label.as_str().into()), Label::Class));
        }
        let positive = spec.positive.filter(|_| spec.classes.len() == 2)?;
        let flagged = self.score? >= spec.threshold;
        Some(Label::Class(if flagged { positive } else { 1 - positive.min(1) }))
    }
}
