//! A call that is only thought of, walked through by the code that decides real ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::asking::{Question, Verdict};
use super::call::{Call, Judgement, Step};
use super::compiled::{BackendIx, NO_INDEX, Policy};
use super::decision::{Decision, Row, reason_text};
use super::explain_past::ThoughtPast;
use super::notes::{Note, share};
use super::peer::{Allow, Peer};
use super::prediction::{InvalidOutput, Label, Predictions};
use super::reading::label_text;
use super::request::Request;
use super::sampling::stratum;
use super::spec::{Param, PredictionSpec, StaticAnswer};
use super::words::{Outcome, Reason, status};

const MODEL_INFER: &str = "/inference.GRPCInferenceService/ModelInfer";
/// More rows would say nothing new.
const MOST_ROWS: u32 = 1024;

/// The call as it is thought of.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Thought {
    model: Option<String>,
    method: Option<String>,
    metadata: BTreeMap<String, String>,
    params: BTreeMap<String, Value>,
    rows: u32,
    id: String,
    answers: BTreeMap<String, Answer>,
    answer: Option<Answer>,
    /// Names of the caller's certificate; none for a caller without TLS.
    caller: Option<Vec<String>>,
    /// What is remembered of the unit and the route.
    past: ThoughtPast,
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

/// What a model backend is thought to answer, the same for every row.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Answer {
    score: Option<f64>,
    scores: Option<Vec<f64>>,
    label: Option<String>,
    confidence: Option<f64>,
    value: Option<f64>,
    error: Option<String>,
    timeout: bool,
}

/// What comes of asking a backend.
enum Came {
    Prediction(Result<Predictions, InvalidOutput>),
    Status(u8),
    Timeout,
}

/// Who judges rules in Python.
pub type Ask<'a> = &'a mut dyn FnMut(&Question) -> Verdict;

/// The steps and the decision, as JSON. `ask` judges rules in Python.
///
/// # Errors
/// The call is not what it should be, in words.
pub fn explain(policy: &Arc<Policy>, call: &str, ask: Ask) -> Result<Value, String> {
    let mut thought: Thought = serde_json::from_str(call).map_err(|error| format!("the call: {error}"))?;
    if !(1..=MOST_ROWS).contains(&thought.rows) {
        return Err(format!("the call: found {} rows, wanted 1 to {MOST_ROWS}", thought.rows));
    }
    let names = std::mem::take(&mut thought.metadata).into_iter();
    let metadata: Vec<(String, String)> = names.map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
    let params = thought.params.iter().map(|(name, value)| Ok((name.as_str(), param(value)?)));
    let params = params.collect::<Result<Vec<_>, String>>()?;
    let method = thought.method.as_deref().unwrap_or(MODEL_INFER);
    let caller = thought.caller.take().map(Peer::new);
    if let Some(allow) = policy.allow()
        && !allow.admits(caller.as_ref())
    {
        return Ok(not_allowed(Allow::refusal(caller.as_ref())));
    }
    let request = Request {
        method,
        model: thought.model.as_deref().unwrap_or(""),
        id: &thought.id,
        rows: thought.rows,
        params: &params,
        inputs: &[],
        metadata: &metadata,
        caller: caller.as_ref(),
        memory: Some(&thought.past),
    };
    let Some(route) = policy.route(method, thought.model.as_deref(), &metadata) else {
        return without_route(policy, &thought);
    };
    let name = &policy.route_at(route).name;
    let mut notes = vec![Note { step: "match", text: format!("the call goes to the route {name}") }];
    thought.past.fits(policy.route_at(route))?;
    let mut call = Call::begin_explained(Arc::clone(policy), route, &request, [0; 16]);
    if thought.past.is_of_unit() && !call.named {
        return Err("the call: a past is a unit's, and the call names none; give it the unit, or an id".to_owned());
    }
    let spec = policy.route_at(route).prediction.as_ref();
    loop {
        let backend = match call.next() {
            Step::Attempt(backend) => backend,
            Step::Ask(_) => {
                let verdict = call.question(&request).map_or(Verdict::Unknown, |question| ask(&question));
                call.tell_request(&request, &verdict);
                continue;
            }
            Step::People(backend) => {
                match thought.of_people(policy, backend, spec)? {
                    Some(answer) => call.answer_by_people(&vec![answer; thought.rows as usize]),
                    None => call.miss(Reason::Deadline, status::DEADLINE_EXCEEDED),
                }
                continue;
            }
            Step::Static(_) | Step::Reject { .. } | Step::Exhausted => break,
        };
        match thought.of(policy, backend, spec)? {
            Came::Prediction(prediction) => {
                let mut judgement = call.judge(&request, prediction.as_ref());
                while let Judgement::Ask(_) = judgement {
                    let verdict = call.question(&request).map_or(Verdict::Unknown, |question| ask(&question));
                    judgement = call.tell_prediction(&request, &verdict);
                }
                if judgement == Judgement::Accept {
                    break;
                }
            }
            Came::Timeout => call.miss(Reason::Deadline, status::DEADLINE_EXCEEDED),
            Came::Status(code) if status::is_miss(code) => call.miss(Reason::BackendError, code),
            Came::Status(code) => call.pass_on(code),
        }
    }
    let decision = call.finish();
    notes.extend(call.take_notes());
    notes.extend(ending(policy, &decision));
    Ok(json!({"steps": steps(&notes), "decision": decision_json(policy, &decision)}))
}

fn steps(notes: &[Note]) -> Vec<Value> {
    notes.iter().map(|note| json!({"step": note.step, "text": note.text})).collect()
}

fn ending(policy: &Policy, decision: &Decision) -> Vec<Note> {
    let mut notes = Vec::new();
    let row = &decision.rows[0];
    if let Some(review) = &policy.route_at(decision.route).review
        && row.review_pi > 0.0
    {
        let (share, stratum) = (share(f64::from(row.review_pi)), stratum::name(row.stratum));
        let text = format!("a person sees it in {} with probability {share} ({stratum})", review.queue);
        notes.push(Note { step: "review", text });
        if decision.disagreement > row.review_pi {
            let share = self::share(f64::from(decision.disagreement));
            notes.push(Note { step: "review", text: format!("with {share} once a shadow says otherwise") });
        }
    }
    if let Some(message) = decision.message.as_deref() {
        let step = if decision.outcome == Outcome::Rejected { "reject" } else { "error" };
        notes.push(Note { step, text: format!("{}: {message}", status::name(decision.status)) });
    }
    notes
}

/// A call that meets no route.
fn undecided(outcome: Outcome, reason: Reason, backend: Option<&str>, code: u8, message: Option<String>) -> Value {
    json!({
        "route": null, "outcome": outcome.text(), "reason": reason.text(), "backend": backend, "attempts": [],
        "prediction": null, "flagged": null, "review_probability": 0.0, "status": status::name(code),
        "message": message, "segment": "", "rows": [], "arm": null, "propensity": 1.0,
    })
}

fn not_allowed(words: String) -> Value {
    let steps = [Note { step: "allow", text: words.clone() }];
    let decision = undecided(Outcome::Rejected, Reason::Ok, None, status::PERMISSION_DENIED, Some(words));
    json!({"steps": self::steps(&steps), "decision": decision})
}

fn without_route(policy: &Arc<Policy>, thought: &Thought) -> Result<Value, String> {
    let model = thought.model.as_deref();
    let Some(backend) = policy.default_backend() else {
        let (code, words) = match model {
            Some(model) => (status::NOT_FOUND, format!("no route for the model {model:?} and no default_backend")),
            None => (status::UNIMPLEMENTED, "no route for the method and no default_backend".to_owned()),
        };
        let steps = [Note { step: "match", text: words.clone() }];
        let decision = undecided(Outcome::Error, Reason::Ok, None, code, Some(words));
        return Ok(json!({"steps": self::steps(&steps), "decision": decision}));
    };
    let name = &policy.backend(backend).name;
    let steps = [Note { step: "match", text: format!("no route matches: {name} gets the call untouched") }];
    let code = match thought.of(policy, backend, None)? {
        Came::Prediction(_) => status::OK,
        Came::Status(code) => code,
        Came::Timeout => status::DEADLINE_EXCEEDED,
    };
    let decision = match code {
        status::OK => undecided(Outcome::Model, Reason::Ok, Some(name), code, None),
        _ => undecided(Outcome::Error, Reason::BackendError, Some(name), code, None),
    };
    Ok(json!({"steps": self::steps(&steps), "decision": decision}))
}

fn param(value: &Value) -> Result<Param<'_>, String> {
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
    fn of(&self, policy: &Policy, backend: BackendIx, spec: Option<&PredictionSpec>) -> Result<Came, String> {
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
            Some(spec) => answer.predictions(spec, self.rows as usize),
            None => Ok(Predictions::default()),
        }))
    }
}

impl Thought {
    /// What people answer; those of whom nothing is said, or no label, do not answer in time.
    fn of_people(
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
    /// The outputs that the route reads, from what was said of the answer.
    fn predictions(&self, spec: &PredictionSpec, rows: usize) -> Result<Predictions, InvalidOutput> {
        let missing = |what: &str| InvalidOutput(format!("the answer has no {what}").into());
        let mut out = Predictions { rows, ..Predictions::default() };
        if spec.scores.is_some() {
            let scores = self.scores(spec).ok_or_else(|| missing("scores"))?;
            out.columns = scores.len();
            out.scores = scores.repeat(rows);
        }
        if spec.label.is_some() {
            let label = self.label(spec).ok_or_else(|| missing("label"))?;
            out.labels = vec![label; rows];
        }
        if spec.confidence.is_some() {
            let sure = self.confidence.or(self.score.map(|score| score.max(1.0 - score)));
            out.confidence = vec![sure.ok_or_else(|| missing("confidence"))?; rows];
        }
        if spec.value.is_some() {
            out.values = vec![self.value.ok_or_else(|| missing("value"))?; rows];
        }
        Ok(out)
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

/// A decision as JSON: `route`, `outcome`, `reason`, `backend`, `attempts` (pairs), `prediction`, `flagged`,
/// `review_probability`, `status`, `message`, `segment`, `arm`, `propensity`, and the same by row in `rows`.
pub fn decision_json(policy: &Policy, decision: &Decision) -> Value {
    let route = policy.route_at(decision.route);
    let name = |backend: BackendIx| &*policy.backend(backend).name;
    let why = |reason, rule| reason_text(policy, decision.route, reason, rule);
    let answered = decision.status == status::OK;
    let prediction = |row: &Row| {
        let spec = route.prediction.as_ref().filter(|_| answered)?;
        let label = row.label.as_ref().map(|label| label_text(label, spec));
        // NaN becomes null: there is no such number.
        Some(json!({"label": label, "score": row.score, "confidence": row.confidence}))
    };
    let rows: Vec<Value> = decision
        .rows
        .iter()
        .map(|row| {
            json!({
                "outcome": row.outcome.text(), "reason": why(row.reason, row.rule), "prediction": prediction(row),
                "flagged": row.flagged, "review_probability": row.review_pi, "sampled": row.sampled,
                "stratum": stratum::name(row.stratum),
            })
        })
        .collect();
    let attempts: Vec<(&str, String)> =
        decision.attempts.iter().map(|one| (name(one.backend), why(one.reason, one.rule))).collect();
    let mirrors: Vec<&str> = decision.mirrors.iter().map(|one| name(route.mirror[usize::from(*one)].to)).collect();
    let arm = (decision.arm != NO_INDEX).then(|| name(decision.arm));
    let first = &decision.rows[0];
    json!({
        "route": route.name, "outcome": decision.outcome.text(), "reason": why(decision.reason, decision.rule),
        "backend": decision.backend.map(name), "attempts": attempts, "prediction": prediction(first),
        "flagged": first.flagged, "review_probability": first.review_pi, "status": status::name(decision.status),
        "message": decision.message, "segment": decision.segment.text(), "mirrors": mirrors, "rows": rows,
        "arm": arm, "propensity": decision.propensity,
    })
}
