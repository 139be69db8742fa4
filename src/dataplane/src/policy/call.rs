//! The state machine of one call: whom to ask next, whether what came is good enough, and at the end why.
//!
//! ```text
//! begin => next                 holdout and request rules are judged in `begin`
//! next  => Attempt => judge => Accept => finish
//!                  => judge => Miss   => next
//!                  => miss            => next        the backend failed
//!                  => pass_on         => finish      the failure is the caller's own
//!       => Static                     => finish
//!       => Reject                     => finish
//!       => Exhausted                  => finish
//! any   => abort                      => finish      time ran out, or the caller went away
//! ```

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::choice::salted;
use super::compiled::{BackendIx, NO_INDEX, Policy, Route, RouteIx};
use super::decision::Attempt;
use super::notes::{Note, share};
use super::prediction::InvalidOutput;
use super::reading::Reading;
use super::request::Request;
use super::segment::{Segment, with_unit};
use super::words::{Reason, status};

/// Metadata by which a caller keeps a call from being shown to people.
pub const NO_REVIEW_METADATA: &str = "gateway-no-review";

/// Time kept back for a static answer: it needs hardly any, but many calls may come to it at the same moment (of 300 that
/// shared a hanging backend, 10 ms left 34 without).
const STATIC_RESERVE: Duration = Duration::from_millis(25);

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Ask this model backend.
    Attempt(BackendIx),
    /// Give this static answer; the call ends so.
    Static(BackendIx),
    /// Refuse the call.
    Reject { status: u8, message: Arc<str> },
    /// Nobody is left.
    Exhausted,
}

/// Whether an answer is good enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    Accept,
    /// Not this one: ask `next`, which also knows what a rule wants instead.
    Miss(Reason),
}

/// Why a row or the call did not get its first choice.
pub(super) type Why = (Reason, u16);

/// How the call ended.
#[derive(Clone, Debug)]
pub(super) enum End {
    Answered(BackendIx),
    Static(BackendIx),
    Rejected {
        status: u8,
        message: Arc<str>,
        rule: u16,
    },
    Exhausted,
    /// The backend's status is the caller's own affair.
    PassedOn {
        backend: BackendIx,
        status: u8,
    },
    Aborted {
        reason: Reason,
        status: u8,
    },
}

/// What a rule wants instead of the chain's next backend.
#[derive(Clone, Debug)]
pub(super) enum Wish {
    To(BackendIx),
    Answer(BackendIx),
    Reject { status: u8, message: Arc<str>, rule: u16 },
}

/// One call under way. Owns what it needs, so that it can outlive the request's buffers.
#[derive(Debug)]
pub struct Call {
    pub(super) policy: Arc<Policy>,
    pub(super) route: RouteIx,
    pub(super) id: [u8; 16],
    pub(super) unit: u64,
    pub(super) segment: Segment,
    /// Rows that the request claims to hold.
    pub(super) asked_rows: u32,
    pub(super) no_review: bool,
    pub(super) held_out: bool,
    /// Next position in the chain.
    pub(super) position: usize,
    pub(super) current: Option<BackendIx>,
    pub(super) wish: Option<Wish>,
    pub(super) attempts: SmallVec<[Attempt; 4]>,
    /// The first miss: why the caller did not get the first choice.
    pub(super) first: Option<Why>,
    /// Each row's own first miss, where rows differ; empty where all share the call's.
    pub(super) own: SmallVec<[Option<Why>; 1]>,
    /// Readings of the last judged answer.
    pub(super) readings: SmallVec<[Reading; 1]>,
    /// Rows that a rule wants a person to see; empty where there are none.
    pub(super) marked: SmallVec<[bool; 1]>,
    pub(super) mark_all: bool,
    pub(super) mirrors: SmallVec<[u16; 2]>,
    pub(super) failed_rules: SmallVec<[u16; 2]>,
    /// What was wrong with the last invalid output, for `explain`.
    pub(super) invalid: Option<InvalidOutput>,
    /// The steps in words, where somebody asked for them.
    pub(super) notes: Option<Vec<Note>>,
    pub(super) end: Option<End>,
}

impl Call {
    /// Begins a call of `route`, an index that `policy` gave. `id` is the decision's.
    pub fn begin(policy: Arc<Policy>, route: RouteIx, request: &Request, id: [u8; 16]) -> Call {
        Call::start(policy, route, request, id, None)
    }

    /// Begins a call that keeps its steps in words: `take_notes` has them.
    pub fn begin_explained(policy: Arc<Policy>, route: RouteIx, request: &Request, id: [u8; 16]) -> Call {
        Call::start(policy, route, request, id, Some(Vec::new()))
    }

    fn start(policy: Arc<Policy>, route: RouteIx, request: &Request, id: [u8; 16], notes: Option<Vec<Note>>) -> Call {
        let segment = policy.segments.of(request);
        let mut call = Call {
            route,
            id,
            unit: 0,
            segment,
            asked_rows: request.rows,
            no_review: request.metadata.get(NO_REVIEW_METADATA) == Some("1"),
            held_out: false,
            position: 0,
            current: None,
            wish: None,
            attempts: SmallVec::new(),
            first: None,
            own: SmallVec::new(),
            readings: SmallVec::new(),
            marked: SmallVec::new(),
            mark_all: false,
            mirrors: SmallVec::new(),
            failed_rules: SmallVec::new(),
            invalid: None,
            notes,
            end: None,
            policy,
        };
        call.assign(request);
        if call.route().has_request_rules {
            call.request_rules(request);
        }
        // Who is held out never touches a model; the kill switch stops them all; nothing is compared without a model.
        if call.held_out || call.route().kill_switch || matches!(call.wish, Some(Wish::Answer(_) | Wish::Reject { .. }))
        {
            call.mirrors.clear();
        }
        call.note_mirrors();
        call
    }

    /// Holdout and shadows, by the unit.
    fn assign(&mut self, request: &Request) {
        let policy = Arc::clone(&self.policy);
        let route = policy.route_at(self.route);
        let id = self.id;
        with_unit(policy.unit.as_ref(), request, &id, |unit| {
            self.unit = salted(&policy.salt, unit);
            self.note("unit", || match unit == id {
                true => "the call names no unit: each call is one of its own".to_owned(),
                false => format!("the unit is {:?}", String::from_utf8_lossy(unit)),
            });
            if let Some(holdout) = &route.holdout
                && holdout.choice.chosen(unit)
            {
                self.held_out = true;
                self.note("holdout", || {
                    format!("the unit is in the holdout ({}): it never meets the model", share(holdout.choice.share))
                });
                self.first = Some((Reason::Holdout, NO_INDEX));
                self.wish = Some(Wish::Answer(holdout.answer));
            }
            let chosen = (0u16..).zip(&route.mirror).filter(|(_, mirror)| mirror.choice.chosen(unit));
            self.mirrors = chosen.map(|(position, _)| position).collect();
        });
    }

    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    pub fn route_index(&self) -> RouteIx {
        self.route
    }

    pub fn route(&self) -> &Route {
        self.policy.route_at(self.route)
    }

    pub fn id(&self) -> &[u8; 16] {
        &self.id
    }

    /// `xxh3_64(salt || unit)`.
    pub fn unit(&self) -> u64 {
        self.unit
    }

    pub fn segment(&self) -> &Segment {
        &self.segment
    }

    /// Positions in the route's `mirror` that get a copy; known from the beginning.
    pub fn mirrors(&self) -> &[u16] {
        &self.mirrors
    }

    /// The backend that is being asked.
    pub fn current(&self) -> Option<BackendIx> {
        self.current
    }

    pub fn attempts(&self) -> &[Attempt] {
        &self.attempts
    }

    /// What was wrong with the last answer that was invalid.
    pub fn invalid(&self) -> Option<&InvalidOutput> {
        self.invalid.as_ref()
    }

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
        let policy = Arc::clone(&self.policy);
        let chain = &policy.route_at(self.route).chain;
        let wished = match self.wish.take() {
            Some(Wish::Reject { status, message, rule }) => {
                self.end = Some(End::Rejected { status, message: Arc::clone(&message), rule });
                return Step::Reject { status, message };
            }
            // Nobody else is asked instead: neither the holdout nor a rule that answers lets a model have the call.
            Some(Wish::Answer(backend)) => return self.try_backend(backend).unwrap_or_else(|| self.exhausted()),
            Some(Wish::To(backend)) => {
                // Rerouted to a later one of the chain: those passed over were not wanted.
                if let Some(position) = chain.iter().position(|known| *known == backend) {
                    self.position = self.position.max(position + 1);
                }
                Some(backend)
            }
            None => None,
        };
        if let Some(step) = wished.and_then(|backend| self.try_backend(backend)) {
            return step;
        }
        while let Some(&backend) = chain.get(self.position) {
            self.position += 1;
            if let Some(step) = self.try_backend(backend) {
                return step;
            }
        }
        self.exhausted()
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
                self.pass_over(backend, Reason::KillSwitch);
                return None;
            }
            self.current = Some(backend);
            self.note_backend("attempt", backend, "is asked");
            return Some(Step::Attempt(backend));
        }
        // A static answer is as long as the request claims to be: it must not be made to grow beyond the limit.
        if usize::try_from(self.asked_rows).is_ok_and(|rows| rows > self.policy.limits.max_rows) {
            self.pass_over(backend, Reason::Overload);
            return None;
        }
        self.attempts.push(Attempt { backend, reason: Reason::Ok, rule: NO_INDEX, status: 0, made: false });
        self.note_backend("answer", backend, "answers: it is a static answer");
        self.end = Some(End::Static(backend));
        Some(Step::Static(backend))
    }

    /// Notes a backend that was not asked, and why.
    fn pass_over(&mut self, backend: BackendIx, reason: Reason) {
        let step = if reason == Reason::KillSwitch { "kill_switch" } else { "attempt" };
        self.note_backend(
            step,
            backend,
            match reason {
                Reason::KillSwitch => "is passed over: the kill switch is on",
                _ => "is passed over: the request claims more rows than `limits.max_rows`",
            },
        );
        self.first.get_or_insert((reason, NO_INDEX));
        self.attempts.push(Attempt { backend, reason, rule: NO_INDEX, status: 0, made: false });
    }

    /// The attempt under way failed: `backend_error`, `deadline` or `overload`, with the gRPC status it failed by (0
    /// where there was none).
    pub fn miss(&mut self, reason: Reason, status: u8) {
        self.note_failure(reason, status);
        self.end_attempt((reason, NO_INDEX), status);
    }

    pub(super) fn end_attempt(&mut self, (reason, rule): Why, status: u8) {
        if let Some(backend) = self.current.take() {
            self.first.get_or_insert((reason, rule));
            self.attempts.push(Attempt { backend, reason, rule, status, made: true });
        }
    }

    /// The attempt under way failed by a status that is the caller's own affair (`status::is_miss` says no): it is
    /// passed on as it is.
    pub fn pass_on(&mut self, status: u8) {
        if let Some(backend) = self.current {
            self.note_failure(Reason::BackendError, status);
            self.end_attempt((Reason::BackendError, NO_INDEX), status);
            self.end = Some(End::PassedOn { backend, status });
        }
    }

    /// Ends the call without an answer: time ran out (`Deadline`, `DEADLINE_EXCEEDED`), or the caller went away.
    pub fn abort(&mut self, reason: Reason, status: u8) {
        self.end_attempt((reason, NO_INDEX), status);
        self.end = Some(End::Aborted { reason, status });
    }

    /// The attempt under way answered, and the route reads no prediction.
    pub fn accept(&mut self) {
        if let Some(backend) = self.current.take() {
            self.note_backend("answer", backend, "answers");
            self.attempts.push(Attempt { backend, reason: Reason::Ok, rule: NO_INDEX, status: status::OK, made: true });
            self.end = Some(End::Answered(backend));
        }
    }

    /// How long the attempt under way may take, of the time that is left (`None`: no deadline).
    ///
    /// The backend's own `timeout_ms` bounds it, and something is kept back for those after it in the chain: half where
    /// another model may be asked, hardly anything where only a static answer is left, nothing for the last.
    pub fn budget(&self, left: Option<Duration>) -> Option<Duration> {
        let own = self.current.and_then(|backend| self.policy.backend(backend).as_model()?.timeout);
        let share = left.map(|left| {
            let rest = self.route().chain.get(self.position..).unwrap_or(&[]);
            let mut rest = rest.iter().filter(|backend| {
                Some(**backend) != self.current && !self.attempts.iter().any(|one| one.backend == **backend)
            });
            match rest.next() {
                Some(next) if self.policy.backend(*next).is_model() => left / 2,
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
