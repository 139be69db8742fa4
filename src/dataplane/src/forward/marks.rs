//! What an answer says of itself: the trailers, and for the Open Inference Protocol the same as response parameters.
//!
//! All texts of a call stand in one buffer, and every header value is a slice of it.

use std::fmt::Write as _;
use std::ops::Range;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

use super::worker::Snapshot;
use crate::policy::{self, Decision, Param, status};
use crate::wire::oip;
use crate::wire::receipt::{Claims, MAX_ROWS, Row};

/// Rows whose outcomes and reasons are shown one by one; larger batches show the call's.
const SHOWN_ROWS: usize = 64;
/// What the texts of a usual call take.
const USUAL_BYTES: usize = 384;

const COUNT: usize = 7;
/// Trailer, response parameter, and whether no two calls share its value.
static NAMES: [(HeaderName, &str, bool); COUNT] = [
    (HeaderName::from_static("gateway-decision-id"), "gateway_decision_id", true),
    (HeaderName::from_static("gateway-outcome"), "gateway_outcome", false),
    (HeaderName::from_static("gateway-reason"), "gateway_reason", false),
    (HeaderName::from_static("gateway-backend"), "gateway_backend", false),
    (HeaderName::from_static("gateway-policy"), "gateway_policy", false),
    (HeaderName::from_static("gateway-attempts"), "gateway_attempts", false),
    (HeaderName::from_static("gateway-receipt"), "gateway_receipt", true),
];

/// The marks of one decision.
pub struct Marks {
    text: Bytes,
    /// By position in [`NAMES`]; empty where there is nothing to say.
    ranges: [Range<usize>; COUNT],
}

impl Marks {
    /// Puts a decision into words, and signs its receipt.
    #[must_use]
    pub fn of(snapshot: &Snapshot, id: &[u8; 16], decision: &Decision) -> Self {
        let policy = &*snapshot.policy;
        let mut text = String::with_capacity(USUAL_BYTES);
        let mut ends = [0; COUNT];
        let mut ends_at = ends.iter_mut();
        let mut mark = |text: &String| {
            if let Some(end) = ends_at.next() {
                *end = text.len();
            }
        };
        let mut buffer = [0; uuid::fmt::Hyphenated::LENGTH];
        text.push_str(uuid::Uuid::from_bytes(*id).hyphenated().encode_lower(&mut buffer));
        mark(&text);
        let by_row = (2..=SHOWN_ROWS).contains(&decision.rows.len());
        if by_row {
            for (at, row) in decision.rows.iter().enumerate() {
                text.push_str(if at == 0 { "" } else { "," });
                text.push_str(row.outcome.text());
            }
        } else {
            text.push_str(decision.outcome.text());
        }
        mark(&text);
        if by_row {
            for (at, row) in decision.rows.iter().enumerate() {
                text.push_str(if at == 0 { "" } else { "," });
                policy::push_reason(policy, decision.route, row.reason, row.rule, &mut text);
            }
        } else {
            policy::push_reason(policy, decision.route, decision.reason, decision.rule, &mut text);
        }
        mark(&text);
        text.push_str(decision.backend.map_or("", |backend| &policy.backend(backend).name));
        mark(&text);
        let _ = write!(text, "{}", policy.version());
        mark(&text);
        policy::push_attempts(policy, decision.route, &decision.attempts, &mut text);
        mark(&text);
        sign(snapshot, id, decision, &mut text);
        mark(&text);
        let mut start = 0;
        let ranges = ends.map(|end| std::mem::replace(&mut start, end)..end);
        Self { text: Bytes::from(text), ranges }
    }

    /// Adds the trailers.
    pub fn trailers(&self, headers: &mut HeaderMap) {
        for ((name, _, unique), range) in NAMES.iter().zip(&self.ranges) {
            if !range.is_empty()
                && let Ok(mut value) = HeaderValue::from_maybe_shared(self.text.slice(range.clone()))
            {
                // No other call will have this value: keep it out of the table by which headers are compressed.
                value.set_sensitive(*unique);
                headers.insert(name.clone(), value);
            }
        }
    }

    /// Appends the response parameters to a `ModelInferResponse`.
    pub fn params(&self, out: &mut Vec<u8>) {
        for ((_, name, _), range) in NAMES.iter().zip(&self.ranges) {
            if let (false, Ok(text)) = (range.is_empty(), std::str::from_utf8(&self.text[range.clone()])) {
                oip::append_param(name, Param::Text(text), out);
            }
        }
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
