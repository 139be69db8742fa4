//! What a call asks outside and waits for: Python about a rule, people about an answer.
//!
//! The state machine stays pure: it says what it wants to know, keeps how far it has come, and is told. What is asked is
//! plain values, as JSON; what is told may be nothing, and then the rule's stated answer counts.

use std::time::Duration;

use serde_json::{Map, Value, json};
use smallvec::SmallVec;

use super::call::{Call, Judgement, Step, Wish};
use super::compiled::{BackendIx, NO_INDEX};
use super::decision::Attempt;
use super::judging::Own;
use super::reading::Reading;
use super::request::Request;
use super::rule::{Action, Otherwise};
use super::spec::{Param, StaticAnswer};
use super::words::{Reason, status};

/// A rule that Python is asked about.
#[derive(Debug)]
pub(super) struct Asking {
    pub rule: u16,
    /// How far the rules on the prediction have come; none for a rule on the request.
    pub judging: Option<Judging>,
}

/// How far the rules on a prediction have come.
#[derive(Debug)]
pub(super) struct Judging {
    /// Each row's own first miss.
    pub own: Own,
    /// The rule to go on with.
    pub next: u16,
    /// The first rule that holds, and what it wants.
    pub first: Option<(u16, Option<Wish>)>,
    /// Rows for which the condition of the rule that is asked about holds.
    pub held: SmallVec<[bool; 1]>,
}

/// What Python says about a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Whether it holds for the whole call.
    Holds(bool),
    /// Whether it holds, row by row.
    Rows(Vec<bool>),
    /// Nothing: it was late, raised, or could not be asked. The rule's stated answer counts.
    Unknown,
}

/// What Python is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Question<'a> {
    /// `package.module:function`.
    pub function: &'a str,
    pub timeout: Duration,
    /// `{"request": {...}, "segment": {...}}`, on a prediction also `"predictions": [{...}]`, row by row.
    pub values: Vec<u8>,
}

impl Call {
    /// What Python is to be asked now; none where it is not waited for.
    pub fn question(&self, request: &Request) -> Option<Question<'_>> {
        let asking = self.asking.as_ref()?;
        let function = self.route().rules.get(usize::from(asking.rule))?.function.as_ref()?;
        let mut values = json!({"request": request_values(request), "segment": self.segment_values()});
        values["request"]["route"] = (*self.route().name).into();
        if let (Some(_), Some(spec), Some(backend)) = (&asking.judging, &self.route().prediction, self.current) {
            values["request"]["backend"] = (*self.policy.backend(backend).name).into();
            let rows = self.readings.iter().map(|reading| {
                // NaN becomes null: there is no such number.
                json!({
                    "label": reading.label_text(spec), "score": reading.score, "confidence": reading.confidence,
                    "margin": reading.margin, "entropy": reading.entropy, "value": reading.value,
                })
            });
            values["predictions"] = rows.collect();
        }
        Some(Question { function: &function.name, timeout: function.timeout, values: values.to_string().into_bytes() })
    }

    fn segment_values(&self) -> Value {
        self.segment.each().map(|(name, value)| (name.to_owned(), value.into())).collect::<Map<_, _>>().into()
    }

    /// What Python says about the rule on the request that `next` asked about.
    pub fn tell_request(&mut self, request: &Request, verdict: &Verdict) {
        let Some(asking) = self.asking.take() else { return };
        let policy = std::sync::Arc::clone(&self.policy);
        let route = policy.route_at(self.route);
        if let Some(then) = self.verdict_on_request(asking.rule, verdict) {
            if then == Action::Review {
                self.mark_all = true;
            } else {
                self.request_rule_holds(route, asking.rule, &then);
                return self.settle();
            }
        }
        self.request_rules(request, asking.rule + 1);
        if self.asking.is_none() {
            self.settle();
        }
    }

    /// What the rule does, if it holds.
    fn verdict_on_request(&mut self, index: u16, verdict: &Verdict) -> Option<Action> {
        let rule = self.route().rules.get(usize::from(index))?;
        let (then, otherwise) = (rule.then.clone(), rule.function.as_ref()?.otherwise.clone());
        let does = match (verdict, otherwise) {
            (Verdict::Holds(holds), _) => holds.then_some(then),
            // Before a prediction there are no rows to tell apart.
            (Verdict::Rows(_) | Verdict::Unknown, Otherwise::Holds(holds)) => holds.then_some(then),
            (Verdict::Rows(_) | Verdict::Unknown, Otherwise::Does(action)) => Some(action),
        };
        let known = matches!(verdict, Verdict::Holds(_));
        self.note_verdict(index, known, does.is_some());
        if !known {
            self.failed_rule(index);
        }
        does
    }

    /// What Python says about the rule on the prediction that `judge` asked about.
    pub fn tell_prediction(&mut self, request: &Request, verdict: &Verdict) -> Judgement {
        let policy = std::sync::Arc::clone(&self.policy);
        let route = policy.route_at(self.route);
        let asking = self.asking.take().map(|asking| *asking);
        let (Some(Asking { rule: index, judging: Some(mut judging) }), Some(spec), Some(backend)) =
            (asking, &route.prediction, self.current)
        else {
            self.accept();
            return Judgement::Accept;
        };
        judging.next = index + 1;
        if let Some(rule) = route.rules.get(usize::from(index))
            && let Some(function) = &rule.function
        {
            let held = std::mem::take(&mut judging.held);
            let (then, said, known) = match verdict {
                Verdict::Holds(holds) => (&rule.then, SmallVec::from_elem(*holds, held.len()), true),
                Verdict::Rows(rows) if rows.len() == held.len() => (&rule.then, SmallVec::from_slice(rows), true),
                Verdict::Rows(_) | Verdict::Unknown => match &function.otherwise {
                    Otherwise::Holds(holds) => (&rule.then, SmallVec::from_elem(*holds, held.len()), false),
                    Otherwise::Does(action) => (action, held.clone(), false),
                },
            };
            let said: &SmallVec<[bool; 1]> = &said;
            let rows = || (0..held.len()).filter(|row| held[*row] && said[*row]);
            self.note_verdict(index, known, rows().next().is_some());
            if !known {
                self.failed_rule(index);
            }
            for row in rows() {
                self.rule_holds(&mut judging, (index, then), row..row + 1, true);
            }
        }
        self.judge_on(request, (spec, backend), judging)
    }

    fn note_verdict(&mut self, index: u16, known: bool, holds: bool) {
        let policy = std::sync::Arc::clone(&self.policy);
        let Some(rule) = policy.route_at(self.route).rules.get(usize::from(index)) else { return };
        self.note("rule", || {
            let words = match (known, holds) {
                (true, true) => "holds, says Python",
                (true, false) => "does not hold, says Python",
                (false, true) => "got no answer from Python, and counts as if it held",
                (false, false) => "got no answer from Python, and counts as if it did not hold",
            };
            format!("the rule {} {words}", rule.name)
        });
    }

    /// The step that asks people; `None` where they cannot be.
    pub(super) fn try_people(&mut self, backend: BackendIx, max_rows: u32) -> Option<Step> {
        if self.no_review {
            self.note_backend("attempt", backend, "are passed over: the caller wants no person to see the call");
            let reason = Reason::BackendError;
            self.first.get_or_insert((reason, NO_INDEX));
            let status = status::FAILED_PRECONDITION;
            self.attempts.push(Attempt { backend, reason, rule: NO_INDEX, status, made: false });
            return None;
        }
        if self.asked_rows > max_rows {
            let words = "are passed over: the request has more rows than their `max_rows`";
            self.pass_over((backend, Reason::Overload, NO_INDEX), words);
            return None;
        }
        self.current = Some(backend);
        self.note_backend("attempt", backend, "are asked, and the caller waits");
        Some(Step::People(backend))
    }

    /// People answered, row by row, as many rows as were asked for.
    pub fn answer_by_people(&mut self, answers: &[StaticAnswer]) {
        let policy = std::sync::Arc::clone(&self.policy);
        let Some(backend) = self.current.take() else { return };
        self.note_backend("answer", backend, "answer");
        if let Some(spec) = &policy.route_at(self.route).prediction {
            self.readings = answers.iter().map(|answer| Reading::of_static(spec, answer)).collect();
        }
        self.attempts.push(Attempt { backend, reason: Reason::Ok, rule: NO_INDEX, status: status::OK, made: true });
        self.end = Some(super::call::End::People(backend));
    }
}

fn request_values(request: &Request) -> Value {
    let mut metadata = Map::new();
    request.metadata.each(&mut |name, value| {
        // As CEL has it: the first value of a name.
        metadata.entry(name).or_insert_with(|| value.into());
    });
    let params = request.params.iter().map(|(name, value)| {
        let value = match value {
            Param::Bool(value) => json!(value),
            Param::Int(value) => json!(value),
            Param::Float(value) => json!(value),
            Param::Text(value) => json!(value),
        };
        ((*name).to_owned(), value)
    });
    let inputs = request
        .inputs
        .iter()
        .map(|input| (input.name.to_owned(), json!({"datatype": input.datatype, "shape": input.shape})));
    let caller = request.caller.map(|caller| json!({"id": caller.id(), "names": caller.names()}));
    json!({
        "caller": caller, "method": request.method, "model": request.model, "id": request.id, "rows": request.rows,
        "params": params.collect::<Map<_, _>>(), "inputs": inputs.collect::<Map<_, _>>(), "metadata": metadata,
    })
}
