//! The state machine of one call: whom to ask next, whether what came is good enough, and at the end why.
//!
//! ```text
//! begin => next                 holdout and request rules are judged in `begin`
//! next  => Ask     => tell_request => next             a request rule wants Python's word first
//! next  => Attempt => judge => Accept => finish
//!                  => judge => Miss   => next
//!                  => judge => Ask    => tell_prediction => Accept, Miss or Ask
//!                  => miss            => next        the backend failed
//!                  => pass_on         => finish      the failure is the caller's own
//!       => People  => answer_by_people => finish
//!                  => miss            => next        nobody answered in time
//!       => Static                     => finish
//!       => Reject                     => finish
//!       => Exhausted                  => finish
//! any   => abort                      => finish      time ran out, or the caller went away
//! ```
//!
//! An attempt that is late may get company: `hedge` begins the next of the chain beside it, `turn_to` says which of the two
//! the next word is about. What the second one says counts only for itself as long as the first is under way; once either
//! is accepted the other is given up, and once both have missed the call goes on as ever.
//!
//! ```text
//! Attempt => hedge => turn_to => judge => Accept => finish      the other one is given up
//!                             => miss, judge => Miss            the other one is the attempt under way
//! ```

use std::sync::Arc;

use smallvec::SmallVec;

use super::asking::Asking;
use super::batch::Batch;
use super::compiled::{BackendIx, NO_INDEX, Policy, Route, RouteIx};
use super::decision::Attempt;
use super::memory::Past;
use super::notes::Note;
use super::prediction::InvalidOutput;
use super::reading::Reading;
use super::request::Request;
use super::segment::Segment;
use super::words::Reason;

/// Metadata by which a caller keeps a call from being shown to people.
pub const NO_REVIEW_METADATA: &str = "gateway-no-review";

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Ask this model backend.
    Attempt(BackendIx),
    /// Give this static answer; the call ends so.
    Static(BackendIx),
    /// Ask these people, and wait.
    People(BackendIx),
    /// Ask Python about this rule, and wait: `question` says what, `tell_request` takes the answer.
    Ask(u16),
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
    /// Ask Python about this rule first, and wait: `question` says what, `tell_prediction` takes the answer.
    Ask(u16),
}

/// Why a row or the call did not get its first choice.
pub(super) type Why = (Reason, u16);

/// How the call ended.
#[derive(Clone, Debug)]
pub(super) enum End {
    Answered(BackendIx),
    Static(BackendIx),
    People(BackendIx),
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

/// Two attempts under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair {
    /// Asked first, and late.
    pub slow: BackendIx,
    /// Asked beside it.
    pub quick: BackendIx,
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
    /// Somebody else than a model was to answer, and nobody else than a model is left out.
    pub(super) without_models: bool,
    /// The rule that Python is asked about, and how far the others have come.
    pub(super) asking: Option<Box<Asking>>,
    /// Whether the unit is more than this one call.
    pub(super) named: bool,
    /// Whether the loop guard sends it the way out.
    pub(super) guarded: bool,
    /// What its rules see of the past; `None` where they do not ask.
    pub(super) past: Option<Box<Past>>,
    /// The rows of a batch that is taken apart; boxed, as hardly any is.
    pub(super) batch: Option<Box<Batch>>,
    /// Next position in the chain.
    pub(super) position: usize,
    /// Of two that are under way, the one that is spoken of.
    pub(super) current: Option<BackendIx>,
    pub(super) pair: Option<Pair>,
    /// Where among the attempts the one under way belongs, when one that was asked after it has ended before it.
    pub(super) slot: Option<u8>,
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
    /// Bit `n`: the copy to the mirror at position `n` goes to its `noise` too.
    pub(super) noise: u16,
    /// The first choice by exploration, and the probability it was drawn with.
    pub(super) arm: BackendIx,
    pub(super) propensity: f32,
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
            without_models: false,
            asking: None,
            named: false,
            guarded: false,
            past: None,
            batch: None,
            position: 0,
            current: None,
            pair: None,
            slot: None,
            wish: None,
            attempts: SmallVec::new(),
            first: None,
            own: SmallVec::new(),
            readings: SmallVec::new(),
            marked: SmallVec::new(),
            mark_all: false,
            mirrors: SmallVec::new(),
            noise: 0,
            arm: NO_INDEX,
            propensity: 1.0,
            failed_rules: SmallVec::new(),
            invalid: None,
            notes,
            end: None,
            policy,
        };
        call.assign(request);
        call.recall(request);
        if call.route().has_request_rules {
            call.request_rules(request, 0);
        }
        if call.asking.is_none() {
            call.settle();
        }
        call
    }

    /// All rules on the request are judged: what comes of them and of the loop guard is known.
    pub(super) fn settle(&mut self) {
        self.way_out();
        // Who is held out never touches a model; the kill switch stops them all; nothing is compared without a model.
        if self.held_out
            || self.guarded
            || self.route().kill_switch
            || matches!(self.wish, Some(Wish::Answer(_) | Wish::Reject { .. }))
        {
            self.mirrors.clear();
        }
        self.note_mirrors();
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

    /// Who may answer, in order: the route's chain, or what the holdout has instead.
    pub fn chain(&self) -> &[BackendIx] {
        self.chain_of(self.route())
    }

    pub(super) fn chain_of<'a>(&self, route: &'a Route) -> &'a [BackendIx] {
        match &route.holdout {
            Some(holdout) if self.held_out && !self.without_models => &holdout.chain,
            _ => &route.chain,
        }
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
}
