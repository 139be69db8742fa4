//! A call that waits for somebody outside: people for an answer, Python for a rule. The wait is the call's own, within its
//! time; when nobody says anything, the call goes on as its settings say.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::answer::Final;
use super::asked::Asked;
use super::caller::{Caller, Gone};
use super::decide::{Decide, Unsettled};
use super::exchange::{Alarm, Fault, watched};
use super::plain::Plain;
use super::status::{CANCELLED, INTERNAL, OK, RESOURCE_EXHAUSTED, Status, UNAVAILABLE};
use crate::desk::{Pending, Question, Refused, Reply, Task};
use crate::policy::{self, BackendIx, People, Reason, Request, StaticAnswer, Verdict};
use crate::records::Counter;
use crate::wire::frame::HEAD_BYTES;

/// Waits for a reply.
async fn reply(caller: &mut Caller, alarm: &mut Alarm, mut pending: Pending) -> Result<Reply, Fault> {
    watched(caller, alarm, |_, cx| pending.poll(cx)).await
}

impl Plain<'_> {
    /// What Python says about the rule that the call is at, within the rule's time and the call's.
    pub async fn verdict(
        &self,
        caller: &mut Caller,
        state: &policy::Call,
        request: &Request<'_>,
        until: Option<Instant>,
    ) -> Result<Verdict, Gone> {
        let Some(question) = state.question(request) else { return Ok(Verdict::Unknown) };
        let limits = self.plan.policy().limits();
        let own = Instant::now() + question.timeout;
        let mut alarm = Alarm::new(Some(until.map_or(own, |until| own.min(until))));
        let asked = Question::Rule {
            function: question.function.into(),
            timeout: alarm.left().unwrap_or_default(),
            values: question.values,
        };
        let pending = match self.worker.shared.desk.ask(asked, limits.python_waiting, limits.question_bytes) {
            Ok(pending) => pending,
            Err(_) => {
                self.worker.count(Counter::RulesFull);
                return Ok(Verdict::Unknown);
            }
        };
        match reply(caller, &mut alarm, pending).await {
            Ok(Reply::Holds(holds)) => Ok(Verdict::Holds(holds)),
            Ok(Reply::Rows(rows)) => Ok(Verdict::Rows(rows)),
            Ok(Reply::Nothing | Reply::Labels(_)) => {
                self.worker.count(Counter::RulesFailed);
                Ok(Verdict::Unknown)
            }
            Err(Fault::Gone) => Err(Gone),
            Err(_) => {
                self.worker.count(Counter::RulesLate);
                Ok(Verdict::Unknown)
            }
        }
    }
}

impl Decide<'_, '_, '_> {
    async fn verdict(&mut self, caller: &mut Caller) -> Result<Verdict, Gone> {
        let asked = Instant::now();
        let verdict = self.call.verdict(caller, &self.state, self.request, self.until).await;
        self.journal.waited(asked.elapsed());
        if verdict.is_err() {
            self.state.abort(Reason::Deadline, CANCELLED);
        }
        verdict
    }

    /// Asks Python about the rule that the state machine is at; `None` sends the call on its way.
    pub async fn ask_python(&mut self, caller: &mut Caller) -> Result<Option<Final>, Gone> {
        let verdict = self.verdict(caller).await?;
        let Some(unsettled) = self.unsettled.take() else {
            self.state.tell_request(self.request, &verdict);
            return Ok(None);
        };
        let Unsettled { backend, answer, message } = *unsettled;
        let judgement = self.state.tell_prediction(self.request, &verdict);
        Ok(self.judged(backend, answer, message, judgement))
    }

    /// Asks people, and waits for them; `None` sends the call on along its chain.
    pub async fn ask_people(&mut self, caller: &mut Caller, backend: BackendIx) -> Result<Option<Final>, Gone> {
        let started = self.journal.start();
        let policy = Arc::clone(self.call.plan.policy());
        let Some(people) = policy.backend(backend).as_people() else {
            self.miss(&started, backend, Reason::BackendError, Status::new(INTERNAL, "nobody to ask"));
            return Ok(None);
        };
        let left = self.until.map(|until| until.saturating_duration_since(Instant::now()));
        let budget = self.state.budget(left).unwrap_or(people.timeout);
        let until = Instant::now() + budget;
        let mut alarm = Alarm::new(Some(until));
        let asked = match self.put_to_people(caller, &mut alarm, backend, people, until).await {
            Ok(Ok(pending)) => reply(caller, &mut alarm, pending).await,
            Ok(Err(status)) => {
                self.call.worker.count(Counter::PeopleFull);
                self.miss(&started, backend, Reason::Overload, status);
                return Ok(None);
            }
            Err(fault) => Err(fault),
        };
        match asked {
            Ok(Reply::Labels(labels)) => Ok(self.people_answered(&started, backend, labels)),
            Ok(_) => {
                self.call.worker.count(Counter::PeopleFailed);
                let words = format!("{} could not be asked", policy.backend(backend).name);
                self.miss(&started, backend, Reason::BackendError, Status::new(UNAVAILABLE, words));
                Ok(None)
            }
            Err(Fault::Gone) => {
                self.journal.end(&started, backend, Reason::Deadline, CANCELLED);
                self.state.abort(Reason::Deadline, CANCELLED);
                Err(Gone)
            }
            Err(_) => {
                self.call.worker.count(Counter::PeopleLate);
                self.out_of_time(&started, backend);
                Ok(None)
            }
        }
    }

    /// Puts the call before people; a status where it cannot be.
    async fn put_to_people(
        &mut self,
        caller: &mut Caller,
        alarm: &mut Alarm,
        backend: BackendIx,
        people: &People,
        until: Instant,
    ) -> Result<Result<Pending, Status>, Fault> {
        let policy = self.call.plan.policy();
        let (name, limits) = (&policy.backend(backend).name, policy.limits());
        if !self.message.whole {
            // Nobody has pulled the rest so far: people are shown a request whole or not at all.
            let upload = &mut self.upload;
            watched(caller, alarm, |_, cx| upload.poll_gather(cx, HEAD_BYTES + limits.replay_bytes + 1)).await??;
        }
        let Some(whole) = self.whole_request() else {
            let words = format!("the request is longer than what is kept for {name}");
            return Ok(Err(Status::new(RESOURCE_EXHAUSTED, words)));
        };
        let mut redact = people.redact.clone();
        redact.extend(self.route.review.iter().flat_map(|review| review.redact.iter().cloned()));
        let mut request = Vec::new();
        // What cannot be redacted does not leave: people's own list names inputs, which only one protocol has.
        let named = people.redact.is_empty() || matches!(self.asked, Asked::Oip(_));
        if !named || self.asked.redact(&whole, &redact, &mut request).is_err() {
            self.call.worker.count(Counter::CapturesUnreadable);
            return Ok(Err(Status::new(RESOURCE_EXHAUSTED, format!("the request cannot be redacted for {name}"))));
        }
        let arrival = self.journal.arrival;
        let task = Task {
            backend: name.clone(),
            queue: people.queue.clone(),
            route: self.route.name.clone(),
            id: self.journal.id,
            rows: self.rows_to_answer(),
            segment: self.state.segment().text().into(),
            unit: self.state.unit(),
            policy: policy.version(),
            time_us: arrival.unix_us,
            until_us: arrival.unix_us_at(until),
            request,
        };
        let asked = Question::People(Box::new(task));
        let asked = self.call.worker.shared.desk.ask(asked, people.max_waiting, limits.question_bytes);
        Ok(asked.map_err(|refused| {
            let words = match refused {
                Refused::Full => "has all the calls waiting that it may have",
                Refused::Bytes => "has all the bytes waiting that it may have",
                Refused::Closed => "is not asked any more: the gateway is stopping",
            };
            Status::new(RESOURCE_EXHAUSTED, format!("{name} {words}"))
        }))
    }

    /// Rows of the request that people are asked about: those that are left of a batch taken apart, else all.
    fn rows_to_answer(&self) -> Vec<u32> {
        match self.state.left() {
            [] => (0..self.request.rows.max(1)).collect(),
            left => left.to_vec(),
        }
    }

    /// Whether each is a label that the route knows.
    fn are_labels(&self, answers: &[StaticAnswer]) -> bool {
        let classes = self.route.prediction.as_ref().map_or(&[][..], |spec| &spec.classes);
        classes.is_empty() || answers.iter().flat_map(|answer| &answer.label).all(|label| classes.contains(label))
    }

    fn people_answered(
        &mut self,
        started: &super::started::Started,
        backend: BackendIx,
        labels: Vec<Box<str>>,
    ) -> Option<Final> {
        let answers: Vec<StaticAnswer> =
            labels.into_iter().map(|label| StaticAnswer { label: Some(label), ..StaticAnswer::default() }).collect();
        let mut plain = Vec::new();
        let max_rows = self.call.plan.policy().limits().max_rows;
        let mut written = if answers.len() == self.rows_to_answer().len() && self.are_labels(&answers) {
            self.with_asked(|asked| asked.static_answer(self.route, &answers, max_rows, &mut plain))
        } else {
            Err("people's answer has other rows than were asked for, or a label that the route does not have".into())
        };
        let plain = Bytes::from(plain);
        if written.is_ok() && self.rest().is_some() {
            // It will stand beside the rows that were kept.
            written = self.prepare_rows(&plain).map_err(|invalid| invalid.to_string());
        }
        match written {
            Ok(()) => {
                self.journal.end(started, backend, Reason::Ok, OK);
                self.state.answer_by_people(&answers);
                Some(Final::Static { plain })
            }
            Err(words) => {
                self.miss(started, backend, Reason::InvalidOutput, Status::new(INTERNAL, words));
                None
            }
        }
    }
}
