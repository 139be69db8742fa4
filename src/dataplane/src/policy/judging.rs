//! What a call's rules, checks and floors say.
//!
//! A condition that cannot be evaluated errs on the safe side, and is noted: a rule on the request is skipped, as if it
//! did not hold; one on a prediction counts as a miss by that rule, whatever it would have done; one that only asks for
//! a review is taken to hold.

use std::ops::Range;
use std::sync::Arc;

use smallvec::SmallVec;

use super::asking::{Asking, Judging};
use super::call::{Call, Judgement, Why, Wish};
use super::cel::{Failed, Predicted, Scope};
use super::compiled::{BackendIx, NO_INDEX, Policy, Route};
use super::decision::Attempt;
use super::memory::{Past, Said};
use super::prediction::{InvalidOutput, Predictions};
use super::reading::{self, Reading};
use super::request::Request;
use super::rule::{Action, Rule, Stage};
use super::spec::PredictionSpec;
use super::words::{Reason, status};

pub(super) type Own = SmallVec<[Option<Why>; 1]>;

fn rules(route: &Route, stage: Stage) -> impl Iterator<Item = (u16, &Rule)> {
    (0u16..).zip(&route.rules).filter(move |(_, rule)| rule.on == stage)
}

/// What a rule wants instead of the next of the chain.
fn wish(action: &Action, rule: u16) -> Option<Wish> {
    match action {
        Action::Next | Action::Review => None,
        Action::To(backend) => Some(Wish::To(*backend)),
        Action::Answer(backend) => Some(Wish::Answer(*backend)),
        Action::Reject { status, message } => {
            Some(Wish::Reject { status: *status, message: Arc::clone(message), rule })
        }
    }
}

impl Call {
    /// Rules before anybody is asked, from the one at `from` on: the first that holds decides.
    pub(super) fn request_rules(&mut self, request: &Request, from: u16) {
        let past = self.past.take();
        self.judge_request(request, past.as_deref(), from);
        self.past = past;
    }

    fn judge_request(&mut self, request: &Request, past: Option<&Past>, from: u16) {
        let policy = Arc::clone(&self.policy);
        let route = policy.route_at(self.route);
        let segment = self.segment;
        let past = past.map(|past| past.seen(route));
        let lists = &policy.lists;
        let scope = Scope { request, segment: &segment, route: &route.name, lists, predicted: None, past };
        for (index, rule) in rules(route, Stage::Request).filter(|(index, _)| *index >= from) {
            let holds = rule.when.holds(&scope);
            self.note_rule(rule, holds, None);
            let Ok(holds) = holds else {
                self.failed_rule(index);
                continue;
            };
            if !holds {
                continue;
            }
            if rule.function.is_some() {
                self.asking = Some(Box::new(Asking { rule: index, judging: None }));
                return;
            }
            if rule.then == Action::Review {
                self.mark_all = true;
                continue;
            }
            self.request_rule_holds(route, index, &rule.then);
            return;
        }
    }

    pub(super) fn request_rule_holds(&mut self, route: &Route, index: u16, then: &Action) {
        // Who is held out never meets the model, so there is nothing to reroute; but what is refused, is refused to all.
        if self.held_out && !matches!(then, Action::Reject { .. }) {
            return;
        }
        let why = (Reason::Rule, index);
        self.first.get_or_insert(why);
        if *then == Action::Next
            && let Some(&backend) = route.chain.first()
        {
            self.position = 1;
            let (reason, rule) = why;
            self.attempts.push(Attempt { backend, reason, rule, status: status::OK, made: false });
        }
        if let Some(wish) = wish(then, index) {
            self.wish = Some(wish);
        }
    }

    pub(super) fn failed_rule(&mut self, index: u16) {
        if !self.failed_rules.contains(&index) {
            self.failed_rules.push(index);
        }
    }

    /// Judges the answer of the attempt under way: checks, prediction rules, confidence.
    ///
    /// A batch is taken or missed as a whole: it misses when any row does. An invalid row goes before a rule, a rule
    /// before low confidence, an earlier rule before a later one.
    pub fn judge(&mut self, request: &Request, predictions: Result<&Predictions, &InvalidOutput>) -> Judgement {
        let policy = Arc::clone(&self.policy);
        let route = policy.route_at(self.route);
        let (Some(spec), Some(backend)) = (&route.prediction, self.current) else {
            self.accept();
            return Judgement::Accept;
        };
        self.readings.clear();
        self.marked.clear();
        let mut own = Own::new();
        if let Err(invalid) = self.check(route, spec, predictions, &mut own) {
            return self.miss_by((Reason::InvalidOutput, NO_INDEX), own, Some(invalid));
        }
        if let Some(past) = &mut self.past {
            past.said.get_or_insert_with(|| Said::of(&self.readings));
            past.value = self.readings.first().map_or(f64::NAN, |reading| reading.value);
        }
        self.judge_on(request, (spec, backend), Judging { own, next: 0, first: None, held: SmallVec::new() })
    }

    /// Goes on with rules and confidence from where `judging` has come.
    pub(super) fn judge_on(
        &mut self,
        request: &Request,
        (spec, backend): (&PredictionSpec, BackendIx),
        mut judging: Judging,
    ) -> Judgement {
        let policy = Arc::clone(&self.policy);
        let route = policy.route_at(self.route);
        let mut why = None;
        if route.has_prediction_rules {
            if let Some(rule) = self.prediction_rules(&policy, spec, request, backend, &mut judging) {
                self.asking = Some(Box::new(Asking { rule, judging: Some(judging) }));
                return Judgement::Ask(rule);
            }
            if let Some((index, wish)) = judging.first {
                self.wish = wish;
                why = Some((Reason::Rule, index));
            }
        }
        let mut own = judging.own;
        // The floor is the model's; who is held out gets what there is instead of it.
        let unsure = if self.held_out { None } else { self.low_confidence(route, &mut own) };
        match self.invalid_row(&own).or(why).or(unsure) {
            Some(why) => self.miss_by(why, own, None),
            None => {
                self.accept();
                Judgement::Accept
            }
        }
    }

    fn miss_by(&mut self, why: Why, own: Own, invalid: Option<InvalidOutput>) -> Judgement {
        let ahead = self.is_ahead();
        if self.batch.is_some() {
            if self.first.is_none() {
                self.own.clone_from(&own);
            }
            self.keep_good_rows(&own);
        } else if self.first.is_none() && !ahead {
            self.own = own;
        }
        if invalid.is_some() {
            self.invalid = invalid;
        }
        self.end_attempt(why, status::OK);
        if !ahead && self.wish.is_some() {
            self.heed();
        }
        Judgement::Miss(why.0)
    }

    /// What a rule wants goes before an attempt that was begun on the chance, unless it is the one that is wanted.
    fn heed(&mut self) {
        match (&self.wish, self.current) {
            (Some(Wish::To(wanted)), Some(current)) if *wanted == current => self.wish = None,
            _ => self.give_up(),
        }
    }

    /// Reads every row, or says what is wrong with the first one that is.
    fn check(
        &mut self,
        route: &Route,
        spec: &PredictionSpec,
        predictions: Result<&Predictions, &InvalidOutput>,
        own: &mut Own,
    ) -> Result<(), InvalidOutput> {
        let result = predictions.map_err(Clone::clone).and_then(|predictions| {
            reading::shape(spec, &route.check, predictions, self.asked_rows)?;
            let mut invalid = None;
            for row in 0..predictions.rows {
                let checked = reading::check_row(spec, &route.check, predictions, row);
                own.push(checked.is_err().then_some((Reason::InvalidOutput, NO_INDEX)));
                if let Err(words) = checked {
                    invalid.get_or_insert(words);
                }
            }
            // Where rows go different ways, the others need not suffer for one.
            if let Some(invalid) = invalid {
                if self.batch.is_none() || own.iter().all(Option::is_some) {
                    return Err(invalid);
                }
                self.invalid = Some(invalid);
            }
            let measure = route.confidence.as_ref().map(|confidence| confidence.measure);
            let table = self.current.and_then(|backend| route.table_of(backend));
            let read = |row| Reading::of_row(spec, table, measure, route.wants_entropy, predictions, row);
            self.readings.extend((0..predictions.rows).map(read));
            if table.is_some() && self.notes.is_some() {
                let scores: Vec<f64> = self.readings.iter().map(|reading| reading.score).collect();
                self.note("recalibration", || format!("by the table fitted on labels the score is {scores:?}"));
            }
            Ok(())
        });
        match &result {
            Ok(()) => self.note("check", || "the prediction is present, finite and of the wanted shape".to_owned()),
            Err(InvalidOutput(words)) => self.note("check", || format!("the answer is invalid: {words}")),
        }
        result
    }

    /// Rules on the prediction, up to one that Python has to be asked about: that one is given back. What the call misses
    /// by is the earliest rule that holds for any row.
    fn prediction_rules(
        &mut self,
        policy: &Policy,
        spec: &PredictionSpec,
        request: &Request,
        backend: BackendIx,
        judging: &mut Judging,
    ) -> Option<u16> {
        let route = policy.route_at(self.route);
        let segment = self.segment;
        let readings = std::mem::take(&mut self.readings);
        let past = self.past.take();
        let mut asked = None;
        let from = judging.next;
        for (index, rule) in rules(route, Stage::Prediction).filter(|(index, _)| *index >= from) {
            let judged = if rule.when.per_row { readings.len() } else { readings.len().min(1) };
            for (row, reading) in readings.iter().enumerate().take(judged) {
                if matches!(judging.own.get(row), Some(Some((Reason::InvalidOutput, _)))) {
                    continue;
                }
                let predicted = Predicted { reading, spec, backend: &policy.backend(backend).name };
                let scope = Scope {
                    request,
                    segment: &segment,
                    route: &route.name,
                    lists: &policy.lists,
                    predicted: Some(predicted),
                    past: past.as_deref().map(|past| past.seen(route)),
                };
                let holds = rule.when.holds(&scope);
                self.note_rule(rule, holds, rule.when.per_row.then_some(row));
                if holds.is_err() {
                    self.failed_rule(index);
                }
                // What could not be evaluated counts as if it held, but leads nowhere else than along the chain.
                // Who is held out met no model that a rule could judge; but what is refused, is refused to all.
                let of_models = !matches!(rule.then, Action::Review | Action::Reject { .. });
                if holds == Ok(false) || (self.held_out && of_models) {
                    continue;
                }
                let rows = if rule.when.per_row { row..row + 1 } else { 0..readings.len() };
                if rule.function.is_some() && holds.is_ok() {
                    judging.held.resize(readings.len(), false);
                    judging.held[rows].fill(true);
                    asked = Some(index);
                    continue;
                }
                self.rule_holds(judging, (index, &rule.then), rows, holds.is_ok());
            }
            if asked.is_some() {
                break;
            }
        }
        self.readings = readings;
        self.past = past;
        asked
    }

    /// A rule on the prediction holds for some rows; or it could not be judged (`known` is false) and counts as if.
    pub(super) fn rule_holds(
        &mut self,
        judging: &mut Judging,
        (index, then): (u16, &Action),
        rows: Range<usize>,
        known: bool,
    ) {
        if *then == Action::Review {
            self.marked.resize(judging.own.len(), false);
            self.marked[rows].fill(true);
            return;
        }
        for own in &mut judging.own[rows] {
            own.get_or_insert((Reason::Rule, index));
        }
        match &mut judging.first {
            None => judging.first = Some((index, known.then(|| wish(then, index)).flatten())),
            // One row failed the rule, another one fulfils it: then it is known what it wants.
            Some((first, none @ None)) if *first == index && known => *none = wish(then, index),
            Some(_) => {}
        }
    }

    /// Marks rows under their floor; what the call then misses by.
    fn low_confidence(&mut self, route: &Route, own: &mut [Option<Why>]) -> Option<Why> {
        let confidence = route.confidence.as_ref()?;
        let mut missed = None;
        let readings = std::mem::take(&mut self.readings);
        for (reading, own) in readings.iter().zip(own) {
            let floor = reading::floor_of(confidence, reading.label.as_ref(), &self.segment);
            // Written so that what cannot be compared is not sure.
            let sure = floor.is_none_or(|floor| reading.confidence >= floor);
            if !sure {
                let why = (Reason::LowConfidence, NO_INDEX);
                own.get_or_insert(why);
                missed = Some(why);
            }
            self.note("confidence", || {
                let found = reading.confidence;
                match floor {
                    None => format!("the confidence is {found}; no floor applies"),
                    Some(floor) if sure => format!("the confidence {found} reaches the floor {floor}"),
                    Some(floor) => format!("the confidence {found} is under the floor {floor}"),
                }
            });
        }
        self.readings = readings;
        missed
    }

    fn note_rule(&mut self, rule: &Rule, holds: Result<bool, Failed>, row: Option<usize>) {
        self.note("rule", || {
            let of_row = row.filter(|row| *row > 0).map_or(String::new(), |row| format!(" for row {row}"));
            let words = match (holds, rule.on, &rule.then) {
                (Ok(true), _, _) => "holds",
                (Ok(false), _, _) => "does not hold",
                (Err(Failed), Stage::Request, _) => "could not be evaluated and is skipped",
                (Err(Failed), Stage::Prediction, Action::Review) => "could not be evaluated: a person will look",
                (Err(Failed), Stage::Prediction, _) => "could not be evaluated and counts as a miss",
            };
            format!("the rule {} {words}{of_row}", rule.name)
        });
    }
}
