//! A call that is only thought of, walked through by the code that decides real ones.

use std::sync::Arc;

use serde_json::{Value, json};

use super::asking::{Question, Verdict};
use super::call::{Call, Judgement, Step};
use super::compiled::{BackendIx, NO_INDEX, Policy};
use super::decision::{Decision, Row, reason_text};
use super::notes::{Note, share};
use super::peer::{Allow, Peer};
use super::reading::label_text;
use super::request::Request;
use super::sampling::stratum;
use super::thought::{Came, Thought, param};
use super::words::{Outcome, Reason, status};

const MODEL_INFER: &str = "/inference.GRPCInferenceService/ModelInfer";
/// More rows would say nothing new.
const MOST_ROWS: u32 = 1024;

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
        if policy.route_at(route).splits {
            call.split();
        }
        let every: Vec<u32>;
        let asked = match call.left() {
            [] => {
                every = (0..thought.rows).collect();
                &every
            }
            left => left,
        };
        match thought.of(policy, backend, spec, asked)? {
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
    let code = match thought.of(policy, backend, None, &[0])? {
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
