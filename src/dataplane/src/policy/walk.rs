//! A call's way along its chain: who is asked next, who is passed over, and how long each may take.

use std::sync::Arc;
use std::time::Duration;

use super::call::{Call, End, Pair, Step, Why, Wish};
use super::compiled::{BackendIx, BackendKind, NO_INDEX};
use super::decision::Attempt;
use super::hedge::After;
use super::words::{Reason, status};

/// Time kept back for a static answer: it needs hardly any, but many calls may come to it at the same moment (of 300 that
/// shared a hanging backend, 10 ms left 34 without).
const STATIC_RESERVE: Duration = Duration::from_millis(25);

const TOO_MANY_ROWS: &str = "is passed over: the request claims more rows than `limits.max_rows`";
/// An attempt that was under way when another one answered: it was late, and was cancelled for it.
fn given_up() -> Attempt {
    Attempt { backend: NO_INDEX, reason: Reason::Deadline, rule: NO_INDEX, status: status::CANCELLED, made: true }
}

impl Call {
    /// Whom to ask next. Once the call has ended it says how, again.
    #[allow(clippy::should_implement_trait)] // not an iterator: each step depends on what became of the last
    pub fn next(&mut self) -> Step {
        if let Some(end) = &self.end {
            return match end {
                End::Static(backend) => Step::Static(*backend),
                End::Rejected { status, message, .. } => Step::Reject { status: *status, message: Arc::clone(message) },
                _ => Step::Exhausted,
            };
        }
        if let Some(asking) = &self.asking {
            return Step::Ask(asking.rule);
        }
        let policy = Arc::clone(&self.policy);
        let route = policy.route_at(self.route);
        let mut chain = self.chain_of(route);
        let wished = match self.wish.take() {
            Some(Wish::Reject { status, message, rule }) => {
                self.arm_to_ask(true);
                self.end = Some(End::Rejected { status, message: Arc::clone(&message), rule });
                return Step::Reject { status, message };
            }
            // Nobody else is asked instead: a rule that answers lets no model have the call. Where it is people and they do
            // not answer in time, the chain goes on without its models.
            Some(Wish::Answer(backend)) => {
                self.arm_to_ask(true);
                self.without_models = true;
                return self.try_backend(backend).unwrap_or_else(|| self.exhausted());
            }
            Some(Wish::To(backend)) => {
                // Rerouted to a later one of the chain: those passed over were not wanted.
                if let Some(position) = chain.iter().position(|known| *known == backend) {
                    self.position = self.position.max(position + 1);
                }
                Some(backend)
            }
            None => None,
        };
        let first = self.arm_to_ask(wished.is_some()).or(wished);
        if let Some(step) = first.and_then(|backend| self.try_backend(backend)) {
            return step;
        }
        loop {
            while let Some(&backend) = chain.get(self.position) {
                self.position += 1;
                if let Some(step) = self.try_backend(backend) {
                    return step;
                }
            }
            if !self.held_out || self.without_models {
                return self.exhausted();
            }
            // Nobody of those who were to answer instead of the model has: then whoever of the route is no model.
            (self.without_models, self.position) = (true, 0);
            chain = &route.chain;
        }
    }

    fn exhausted(&mut self) -> Step {
        self.end = Some(End::Exhausted);
        Step::Exhausted
    }

    /// The step that asks `backend`; `None` where it was asked already or is passed over.
    fn try_backend(&mut self, backend: BackendIx) -> Option<Step> {
        if self.attempts.iter().any(|attempt| attempt.backend == backend) {
            return None;
        }
        if self.policy.backend(backend).is_model() {
            if self.route().kill_switch {
                self.pass_over((backend, Reason::KillSwitch, NO_INDEX), "is passed over: the kill switch is on");
                return None;
            }
            if self.without_models {
                let (reason, rule) = self.first.unwrap_or((Reason::Ok, NO_INDEX));
                self.pass_over((backend, reason, rule), "is passed over: no model was to answer");
                return None;
            }
            self.current = Some(backend);
            self.note_backend("attempt", backend, "is asked");
            self.note_hedge();
            return Some(Step::Attempt(backend));
        }
        // A static answer is as long as the request claims to be: it must not be made to grow beyond the limit.
        if usize::try_from(self.asked_rows).is_ok_and(|rows| rows > self.policy.limits.max_rows) {
            self.pass_over((backend, Reason::Overload, NO_INDEX), TOO_MANY_ROWS);
            return None;
        }
        if let Some(people) = self.policy.backend(backend).as_people() {
            return self.try_people(backend, people.max_rows);
        }
        self.attempts.push(Attempt { backend, reason: Reason::Ok, rule: NO_INDEX, status: 0, made: false });
        self.note_backend("answer", backend, "answers: it is a static answer");
        self.end = Some(End::Static(backend));
        Some(Step::Static(backend))
    }

    /// Notes a backend that was not asked, and why.
    pub(super) fn pass_over(&mut self, (backend, reason, rule): (BackendIx, Reason, u16), words: &str) {
        let step = if reason == Reason::KillSwitch { "kill_switch" } else { "attempt" };
        self.note_backend(step, backend, words);
        self.first.get_or_insert((reason, rule));
        self.attempts.push(Attempt { backend, reason, rule, status: 0, made: false });
    }

    /// The attempt under way failed: `backend_error`, `deadline` or `overload`, with the gRPC status it failed by (0
    /// where there was none).
    pub fn miss(&mut self, reason: Reason, status: u8) {
        self.note_failure(reason, status);
        self.end_attempt((reason, NO_INDEX), status);
    }

    /// The attempt under way has not become the answer. Where there is another one beside it, that one is under way now.
    pub(super) fn end_attempt(&mut self, (reason, rule): Why, status: u8) {
        let Some(backend) = self.current.take() else { return };
        let attempt = Attempt { backend, reason, rule, status, made: true };
        match self.pair.take() {
            None => {
                self.first.get_or_insert((reason, rule));
                self.list(attempt);
            }
            Some(pair) if backend == pair.slow => {
                self.first.get_or_insert((reason, rule));
                self.attempts.push(attempt);
                self.current = Some(pair.quick);
            }
            // It explains nothing as long as the one before it may still answer.
            Some(pair) => {
                self.slot = u8::try_from(self.attempts.len()).ok();
                self.attempts.push(attempt);
                self.current = Some(pair.slow);
            }
        }
    }

    /// In the order in which they were asked.
    fn list(&mut self, attempt: Attempt) {
        match self.slot.take() {
            Some(slot) => self.attempts.insert(usize::from(slot), attempt),
            None => self.attempts.push(attempt),
        }
    }

    /// The attempt under way failed by a status that is the caller's own affair (`status::is_miss` says no): it is
    /// passed on as it is.
    pub fn pass_on(&mut self, status: u8) {
        if let Some(backend) = self.current {
            self.note_failure(Reason::BackendError, status);
            self.end_attempt((Reason::BackendError, NO_INDEX), status);
            self.give_up();
            self.end = Some(End::PassedOn { backend, status });
        }
    }

    /// Ends the call without an answer: time ran out (`Deadline`, `DEADLINE_EXCEEDED`), or the caller went away.
    pub fn abort(&mut self, reason: Reason, status: u8) {
        while self.current.is_some() {
            self.end_attempt((reason, NO_INDEX), status);
        }
        self.end = Some(End::Aborted { reason, status });
    }

    /// The attempt under way answered, and the route reads no prediction.
    pub fn accept(&mut self) {
        let Some(backend) = self.current.take() else { return };
        self.note_backend("answer", backend, "answers");
        let answered = Attempt { backend, reason: Reason::Ok, rule: NO_INDEX, status: status::OK, made: true };
        let late = |backend| Attempt { backend, ..given_up() };
        match self.pair.take() {
            None => self.list(answered),
            Some(pair) if backend == pair.slow => self.attempts.extend([answered, late(pair.quick)]),
            Some(pair) => {
                self.first.get_or_insert((Reason::Deadline, NO_INDEX));
                self.attempts.extend([late(pair.slow), answered]);
            }
        }
        self.end = Some(End::Answered(backend));
    }

    /// Whether `hedge` would find someone.
    pub fn can_hedge(&self) -> bool {
        self.company().is_some()
    }

    /// The position in the chain of whoever may be asked beside the attempt under way.
    fn company(&self) -> Option<usize> {
        // A prediction that waits for Python's word has the call to itself; rows that go different ways follow one answer
        // after the other.
        let route = self.route();
        let alone = self.pair.is_none() && self.slot.is_none() && !route.asks_python && !route.splits;
        let slow = self.current.filter(|_| alone)?;
        let asked = |one: BackendIx| one == slow || self.attempts.iter().any(|attempt| attempt.backend == one);
        let chain = self.chain();
        let position = (self.position..chain.len()).find(|&at| !asked(chain[at]))?;
        self.policy.backend(chain[position]).is_model().then_some(position)
    }

    /// The attempt under way is late: the next model of the chain, to be asked beside it. None where there is none, where
    /// a static answer comes before it, and where two are under way already.
    pub fn hedge(&mut self) -> Option<BackendIx> {
        let (slow, position) = (self.current?, self.company()?);
        let quick = self.route().chain[position];
        self.position = position + 1;
        self.note_backend("attempt", quick, "is asked as well");
        self.pair = Some(Pair { slow, quick });
        self.current = Some(quick);
        Some(quick)
    }

    fn note_hedge(&mut self) {
        let first = self.attempts.iter().all(|attempt| !attempt.made);
        let (Some(hedge), Some(position)) = (self.route().hedge.filter(|_| first), self.company()) else { return };
        let name = self.policy.backend(self.route().chain[position]).name.clone();
        self.note("hedge", || match hedge.after {
            After::Fixed(after) => format!("{name} is asked as well should that take longer than {after:?}"),
            After::Quantile(share) => {
                format!("{name} is asked as well should that take longer than all but {:.0} %", (1.0 - share) * 100.0)
            }
        });
    }

    /// Says which of the two attempts under way is spoken of.
    pub fn turn_to(&mut self, backend: BackendIx) {
        if self.pair.is_some_and(|pair| pair.slow == backend || pair.quick == backend) {
            self.current = Some(backend);
        }
    }

    /// Whether the attempt under way was begun beside one that may still answer: its failure is nobody's yet.
    pub fn is_ahead(&self) -> bool {
        self.pair.is_some_and(|pair| self.current == Some(pair.quick))
    }

    /// The attempt that is still under way is waited for no longer.
    pub(super) fn give_up(&mut self) {
        if self.current.is_some() {
            let Attempt { reason, rule, status, .. } = given_up();
            self.end_attempt((reason, rule), status);
        }
    }

    /// Whether somebody behind the attempt under way could still answer: only then may its backend be passed over because
    /// its circuit is open.
    pub fn has_next(&self) -> bool {
        let rest = self.route().chain.get(self.position..).unwrap_or(&[]);
        let mut rest = rest.iter().filter(|backend| Some(**backend) != self.current);
        let fits = usize::try_from(self.asked_rows).is_ok_and(|rows| rows <= self.policy.limits.max_rows);
        rest.any(|backend| {
            let asked = self.attempts.iter().any(|one| one.backend == *backend);
            !asked && (fits || self.policy.backend(*backend).is_model())
        })
    }

    /// How long the attempt under way may take, of the time that is left (`None`: no deadline).
    ///
    /// The backend's own `timeout_ms` bounds it, and something is kept back for those after it in the chain: half where
    /// another model may be asked, hardly anything where only a static answer is left, nothing for the last.
    pub fn budget(&self, left: Option<Duration>) -> Option<Duration> {
        let own = self.current.and_then(|backend| match &self.policy.backend(backend).kind {
            BackendKind::Model(model) => model.timeout,
            BackendKind::People(people) => Some(people.timeout),
            BackendKind::Static(_) => None,
        });
        let share = left.map(|left| {
            let rest = self.chain().get(self.position..).unwrap_or(&[]);
            let mut rest = rest.iter().filter(|backend| {
                Some(**backend) != self.current && !self.attempts.iter().any(|one| one.backend == **backend)
            });
            match rest.next() {
                Some(next) if !self.policy.backend(*next).is_static() => left / 2,
                Some(_) => left - STATIC_RESERVE.min(left / 10),
                None => left,
            }
        });
        match (own, share) {
            (Some(own), Some(share)) => Some(own.min(share)),
            (own, share) => own.or(share),
        }
    }
}
