//! What an answer says of itself: the trailers, and for the Open Inference Protocol the same as response parameters.
//!
//! What calls decided alike have in common is put into words once.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

use super::snapshot::Snapshot;
use super::status::{GRPC_STATUS, code_value};
use super::worker::Plan;
use crate::policy::{self, Attempt, BackendIx, Decision, NO_INDEX, Outcome, Param, Reason, RouteIx, status};
use crate::wire::oip;
use crate::wire::receipt::{Claims, MAX_ROWS, Row};

/// Rows whose outcomes and reasons are shown one by one; larger batches show the call's.
const SHOWN_ROWS: usize = 64;
/// What a decision id and a usual receipt take.
const USUAL_BYTES: usize = 160;
const ID_BYTES: usize = uuid::fmt::Hyphenated::LENGTH;

/// Trailer and response parameter of what each call has of its own.
static DECISION_ID: (HeaderName, &str) = (HeaderName::from_static("gateway-decision-id"), "gateway_decision_id");
static RECEIPT: (HeaderName, &str) = (HeaderName::from_static("gateway-receipt"), "gateway_receipt");
/// The same of what calls share.
static SHARED: [(HeaderName, &str); 5] = [
    (HeaderName::from_static("gateway-outcome"), "gateway_outcome"),
    (HeaderName::from_static("gateway-reason"), "gateway_reason"),
    (HeaderName::from_static("gateway-backend"), "gateway_backend"),
    (HeaderName::from_static("gateway-policy"), "gateway_policy"),
    (HeaderName::from_static("gateway-attempts"), "gateway_attempts"),
];

/// Decisions of one kind that are kept in words; more kinds than these begin anew.
const KINDS: usize = 16;

/// What the words of a decision depend on, but for its id, its receipt, and rows that are shown one by one.
#[derive(PartialEq)]
struct Kind {
    route: RouteIx,
    outcome: Outcome,
    reason: Reason,
    rule: u16,
    backend: Option<BackendIx>,
    status: u8,
    attempts: SmallVec<[Attempt; 4]>,
}

impl Kind {
    fn is_of(&self, decision: &Decision) -> bool {
        self.outcome == decision.outcome
            && self.reason == decision.reason
            && self.status == decision.status
            && self.backend == decision.backend
            && self.rule == decision.rule
            && self.route == decision.route
            && self.attempts == decision.attempts
    }
}

/// Rows that are shown one by one: none of a call of one row, whose words are the call's, and none of a large batch.
fn shown(decision: &Decision) -> &[policy::Row] {
    if (2..=SHOWN_ROWS).contains(&decision.rows.len()) { &decision.rows } else { &[] }
}

/// The words of all decisions of a kind.
struct Words {
    kind: Kind,
    /// The trailers, with nothing yet where each call has its own; with `grpc-status` where it is OK.
    trailers: HeaderMap,
    /// The response parameters, without those that each call has of its own.
    params: Vec<u8>,
}

/// Words that calls of one policy share: most calls are decided like others before them, and putting a decision into
/// words, header values and hash places took longer than reading the prediction.
#[derive(Default)]
pub struct Known(RefCell<Vec<Rc<Words>>>);

impl Known {
    fn of(&self, policy: &policy::Policy, decision: &Decision) -> Rc<Words> {
        if !shown(decision).is_empty() {
            return Rc::new(Words::of(policy, decision));
        }
        let mut all = self.0.borrow_mut();
        if let Some(known) = all.iter().find(|known| known.kind.is_of(decision)) {
            return Rc::clone(known);
        }
        if all.len() >= KINDS {
            all.clear();
        }
        let words = Rc::new(Words::of(policy, decision));
        all.push(Rc::clone(&words));
        words
    }
}

impl Words {
    fn of(policy: &policy::Policy, decision: &Decision) -> Self {
        let shown = shown(decision);
        let joined = |one: &dyn Fn(&policy::Row, &mut String), call: &dyn Fn(&mut String)| {
            let mut text = String::new();
            for (at, row) in shown.iter().enumerate() {
                text.push_str(if at == 0 { "" } else { "," });
                one(row, &mut text);
            }
            if shown.is_empty() {
                call(&mut text);
            }
            text
        };
        let outcome = joined(&|row, text| text.push_str(row.outcome.text()), &|text| {
            text.push_str(decision.outcome.text());
        });
        let reason =
            joined(&|row, text| policy::push_reason(policy, decision.route, row.reason, row.rule, text), &|text| {
                policy::push_reason(policy, decision.route, decision.reason, decision.rule, text)
            });
        let backend = decision.backend.map_or(String::new(), |backend| policy.backend(backend).name.to_string());
        let mut attempts = String::new();
        policy::push_attempts(policy, decision.route, &decision.attempts, &mut attempts);
        let mut trailers = HeaderMap::new();
        let mut params = Vec::new();
        if decision.status == status::OK {
            trailers.insert(GRPC_STATUS, code_value(status::OK));
        }
        trailers.insert(DECISION_ID.0.clone(), HeaderValue::from_static(""));
        let texts = [outcome, reason, backend, policy.version().to_string(), attempts];
        for ((name, param), text) in SHARED.iter().zip(texts) {
            if text.is_empty() {
                continue;
            }
            oip::append_param(param, Param::Text(&text), &mut params);
            if let Ok(value) = HeaderValue::try_from(text) {
                trailers.insert(name.clone(), value);
            }
        }
        trailers.insert(RECEIPT.0.clone(), HeaderValue::from_static(""));
        let kind = Kind {
            route: decision.route,
            outcome: decision.outcome,
            reason: decision.reason,
            rule: decision.rule,
            backend: decision.backend,
            status: decision.status,
            attempts: decision.attempts.clone(),
        };
        Self { kind, trailers, params }
    }
}

/// The marks of one decision.
pub struct Marks {
    words: Rc<Words>,
    /// The decision id, then the receipt if there is one.
    own: Bytes,
}

impl Marks {
    /// Puts a decision into words, and signs its receipt.
    #[must_use]
    pub fn of(plan: &Plan, id: &[u8; 16], decision: &Decision) -> Self {
        let mut own = String::with_capacity(USUAL_BYTES);
        let mut buffer = [0; ID_BYTES];
        own.push_str(uuid::Uuid::from_bytes(*id).hyphenated().encode_lower(&mut buffer));
        sign(&plan.snapshot, id, decision, &mut own);
        Self { words: plan.known.of(plan.policy(), decision), own: Bytes::from(own) }
    }

    /// The trailers; those of an answered call say `grpc-status: 0`.
    #[must_use]
    pub fn trailers(&self) -> HeaderMap {
        let mut trailers = self.words.trailers.clone();
        let mut signed = false;
        for (name, value) in &mut trailers {
            let range = if *name == DECISION_ID.0 {
                0..ID_BYTES
            } else if *name == RECEIPT.0 && self.own.len() > ID_BYTES {
                signed = true;
                ID_BYTES..self.own.len()
            } else {
                continue;
            };
            if let Ok(own) = HeaderValue::from_maybe_shared(self.own.slice(range)) {
                *value = own;
                // No other call will have this value: keep it out of the table by which headers are compressed.
                value.set_sensitive(true);
            }
        }
        if !signed {
            trailers.remove(&RECEIPT.0);
        }
        trailers
    }

    /// Appends the response parameters to a `ModelInferResponse`.
    pub fn params(&self, out: &mut Vec<u8>) {
        let mut own = |name: &str, text: &[u8]| {
            if let (false, Ok(text)) = (text.is_empty(), std::str::from_utf8(text)) {
                oip::append_param(name, Param::Text(text), out);
            }
        };
        own(DECISION_ID.1, &self.own[..ID_BYTES]);
        own(RECEIPT.1, &self.own[ID_BYTES..]);
        out.extend_from_slice(&self.words.params);
    }
}

fn sign(snapshot: &Snapshot, id: &[u8; 16], decision: &Decision, text: &mut String) {
    let Some(signer) = &snapshot.signer else {
        return;
    };
    // What was not answered has no prediction that a label could be about.
    if decision.status != status::OK || decision.rows.len() > MAX_ROWS {
        return;
    }
    let route = snapshot.policy.route_at(decision.route);
    let classes = route.prediction.as_ref().map_or(&[][..], |spec| &spec.classes);
    let class = |label: &policy::Label| match label {
        policy::Label::Class(class) => u8::try_from(*class).ok().filter(|&class| class < u8::MAX),
        policy::Label::Text(text) => {
            let at = classes.iter().position(|known| known == text)?;
            u8::try_from(at).ok()
        }
    };
    #[allow(clippy::cast_possible_truncation)] // the receipt keeps scores as f32
    let rows: SmallVec<[Row; 1]> = decision
        .rows
        .iter()
        .map(|row| Row {
            score: row.score as f32,
            flagged: row.flagged,
            sampled: row.sampled,
            outcome: row.outcome as u8,
            class: row.label.as_ref().and_then(class),
            review_pi: row.review_pi,
        })
        .collect();
    let claims = Claims {
        id: *id,
        policy: snapshot.policy.version(),
        route: &route.name,
        backend: decision.backend.map_or("", |backend| &snapshot.policy.backend(backend).name),
        segment: decision.segment.text(),
        arm: (decision.arm != NO_INDEX).then(|| (&*snapshot.policy.backend(decision.arm).name, decision.propensity)),
        rows: &rows,
    };
    let before = text.len();
    if signer.sign(&claims, text).is_err() {
        text.truncate(before);
    }
}

/// The trailer that a caller asks for by `gateway-explain: 1`: the steps in words.
#[must_use]
pub fn explain(policy: &policy::Policy, decision: &Decision) -> HeaderValue {
    let route = policy.route_at(decision.route);
    let mut words = format!("policy {}; route {}", policy.version(), route.name);
    if !decision.segment.text().is_empty() {
        let _ = write!(words, "; segment {}", decision.segment.text());
    }
    for attempt in &decision.attempts {
        let _ = write!(words, "; {} ", policy.backend(attempt.backend).name);
        policy::push_reason(policy, decision.route, attempt.reason, attempt.rule, &mut words);
        if attempt.status != status::OK {
            let _ = write!(words, " ({})", status::name(attempt.status));
        }
        if !attempt.made {
            words.push_str(" (not asked)");
        }
    }
    let _ = write!(words, "; outcome {}", decision.outcome.text());
    for (at, row) in decision.rows.iter().enumerate().take(SHOWN_ROWS) {
        if row.score.is_finite() {
            let _ = write!(words, "; row {at} score {:.6}", row.score);
        }
        if row.confidence.is_finite() {
            let _ = write!(words, " confidence {:.6}", row.confidence);
        }
        if let Some(flagged) = row.flagged {
            words.push_str(if flagged { " flagged" } else { " not flagged" });
        }
        if row.review_pi > 0.0 {
            let _ = write!(words, " review {:.4}{}", row.review_pi, if row.sampled { " sampled" } else { "" });
        }
    }
    for mirror in &decision.mirrors {
        if let Some(mirror) = route.mirror.get(usize::from(*mirror)) {
            let _ = write!(words, "; mirror {}", policy.backend(mirror.to).name);
        }
    }
    super::status::message_value(&words)
}
