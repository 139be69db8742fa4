//! What stands between a call and a backend: its circuit, its retry budget, and whether it can be reached.
//!
//! A [`Guard`] is one for all workers, so that seven failures are seven failures however many workers there are. What every
//! call touches of it is only read there: a worker counts how its calls end in a [`Member`] of its own, which the others
//! read when something has failed.

use std::cell::Cell;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::circuit::{Admission, BUCKETS, Circuit, Tally};
use super::retry::{BUDGET_SECONDS, Budget};
use super::status::{
    CANCELLED, DATA_LOSS, DEADLINE_EXCEEDED, INTERNAL, RESOURCE_EXHAUSTED, UNAUTHENTICATED, UNAVAILABLE, UNKNOWN,
};
use crate::policy::{self, ModelBackend, Reason, Retry};

/// A time-out says something of the backend only when it had longer than this many of its usual answers take.
const FAIR_SHARE: f32 = 2.0;
/// Weight of one answer in what is usual.
const USUAL_WEIGHT: f32 = 0.05;
/// Calls of one kind that a bucket counts.
const MOST_IN_BUCKET: u64 = (1 << 20) - 1;

/// How one attempt counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The backend answered, be it with a status that is the caller's own affair.
    Good,
    /// It failed, or the way to it.
    Bad,
    /// It had too little time, perhaps.
    Late,
    /// Nothing was learnt: the caller went away, or the backend was not asked, or it is full.
    Nothing,
}

/// What an attempt that ended so says of its backend.
#[must_use]
pub fn verdict(reason: Reason, status: u8) -> Verdict {
    match (reason, status) {
        (Reason::Overload | Reason::CircuitOpen, _) | (_, CANCELLED | RESOURCE_EXHAUSTED) => Verdict::Nothing,
        (_, DEADLINE_EXCEEDED) => Verdict::Late,
        (_, UNKNOWN | INTERNAL | UNAVAILABLE | DATA_LOSS) => Verdict::Bad,
        (_, code) if code > UNAUTHENTICATED => Verdict::Bad,
        _ => Verdict::Good,
    }
}

/// Whether a backend can be reached from one worker. Written by that worker alone.
#[derive(Debug, Default)]
pub struct Reach(AtomicU64);

impl Reach {
    const UNKNOWN: u64 = 0;
    const REACHED: u64 = 1;

    /// A connection stands.
    pub fn reached(&self) {
        self.0.store(Self::REACHED, Relaxed);
    }

    /// Nothing is known.
    pub fn forget(&self) {
        self.0.store(Self::UNKNOWN, Relaxed);
    }

    /// No endpoint can be reached, as far as is known until then (milliseconds from any beginning that all share).
    pub fn lost_until(&self, millis: u64) {
        self.0.store(millis.max(Self::REACHED + 1), Relaxed);
    }
}

/// One worker's part: what it alone writes.
#[derive(Debug)]
pub struct Member {
    /// Second (24 bits), good and bad (20 bits each).
    buckets: [AtomicU64; BUCKETS],
    reach: Arc<Reach>,
}

impl Member {
    fn count(&self, second: u64, good: bool) {
        let bucket = &self.buckets[usize::try_from(second).unwrap_or(0) % BUCKETS];
        let (kept, second) = (bucket.load(Relaxed), second & 0xff_ffff);
        let kept = if kept >> 40 == second { kept } else { second << 40 };
        let shift = if good { 20 } else { 0 };
        if (kept >> shift) & MOST_IN_BUCKET < MOST_IN_BUCKET {
            bucket.store(kept + (1 << shift), Relaxed);
        }
    }

    fn tally(&self, from: u64, to: u64) -> Tally {
        let mut tally = Tally::default();
        for second in from..=to {
            let kept = self.buckets[usize::try_from(second).unwrap_or(0) % BUCKETS].load(Relaxed);
            if kept >> 40 == second & 0xff_ffff {
                tally.good += (kept >> 20) & MOST_IN_BUCKET;
                tally.bad += kept & MOST_IN_BUCKET;
            }
        }
        tally
    }
}

/// One backend, as all workers see it.
#[derive(Debug)]
pub struct Guard {
    rules: Option<policy::Circuit>,
    retry: Option<Retry>,
    epoch: Instant,
    /// Calls under way.
    pub in_flight: Arc<AtomicU32>,
    /// What `circuit` is in: read by every call, without its lock.
    state: AtomicU8,
    streak: AtomicU32,
    circuit: Mutex<Circuit>,
    budget: Option<Mutex<Budget>>,
    members: Mutex<Vec<Weak<Member>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Guard {
    /// A backend of which nothing is known. `epoch` is the data plane's own beginning.
    #[must_use]
    pub fn new(model: &ModelBackend, in_flight: Arc<AtomicU32>, epoch: Instant) -> Self {
        let now = Instant::now();
        Self {
            rules: model.circuit.clone(),
            retry: model.retry.clone(),
            epoch,
            in_flight,
            state: AtomicU8::new(0),
            streak: AtomicU32::new(0),
            circuit: Mutex::default(),
            budget: model.retry.as_ref().map(|retry| Mutex::new(Budget::new(retry, now))),
            members: Mutex::default(),
        }
    }

    /// For what is no model server: nothing is counted.
    #[must_use]
    pub fn idle(epoch: Instant) -> Self {
        Self {
            rules: None,
            retry: None,
            epoch,
            in_flight: Arc::default(),
            state: AtomicU8::new(0),
            streak: AtomicU32::new(0),
            circuit: Mutex::default(),
            budget: None,
            members: Mutex::default(),
        }
    }

    /// 0 closed, 1 open, 2 half open; `None` where there is no circuit.
    #[must_use]
    pub fn circuit(&self) -> Option<u8> {
        self.rules.as_ref().map(|_| self.state.load(Relaxed))
    }

    /// Whether it could take a call: its circuit would let one through, and some worker reaches it, or none has tried.
    #[must_use]
    pub fn can(&self, now: Instant) -> bool {
        if self.state.load(Relaxed) != 0 && !lock(&self.circuit).would_admit(now) {
            return false;
        }
        let millis = self.millis(now);
        let members = lock(&self.members);
        let known = members.iter().filter_map(Weak::upgrade).map(|member| member.reach.0.load(Relaxed));
        let (mut reached, mut lost) = (false, false);
        for reach in known {
            reached |= reach == Reach::REACHED;
            lost |= reach > Reach::REACHED && reach > millis;
        }
        reached || !lost
    }

    /// Whether some worker reaches it.
    #[must_use]
    pub fn is_reached(&self) -> bool {
        let members = lock(&self.members);
        members.iter().filter_map(Weak::upgrade).any(|member| member.reach.0.load(Relaxed) == Reach::REACHED)
    }

    /// The time as [`Reach`] has it.
    #[must_use]
    pub fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.epoch).as_millis()).unwrap_or(u64::MAX)
    }

    fn second(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.epoch).as_secs()
    }

    fn tally(&self, now: Instant, seconds: u64, since: Option<Instant>) -> Tally {
        let to = self.second(now);
        let from = to.saturating_sub(seconds - 1).max(since.map_or(0, |since| self.second(since) + 1));
        let mut members = lock(&self.members);
        members.retain(|member| member.strong_count() > 0);
        members
            .iter()
            .filter_map(Weak::upgrade)
            .map(|member| member.tally(from, to))
            .fold(Tally::default(), |sum, one| Tally { good: sum.good + one.good, bad: sum.bad + one.bad })
    }

    fn store(&self, circuit: &Circuit) {
        self.state.store(circuit.number(), Relaxed);
    }

    fn admit(&self, now: Instant) -> Admission {
        let mut circuit = lock(&self.circuit);
        let admission = circuit.admit(now);
        self.store(&circuit);
        admission
    }

    fn probed(&self, now: Instant, good: bool) {
        let Some(rules) = &self.rules else { return };
        let mut circuit = lock(&self.circuit);
        circuit.probed(rules, now, good);
        self.store(&circuit);
        if good {
            self.streak.store(0, Relaxed);
        }
    }

    fn failed(&self, now: Instant) {
        let Some(rules) = &self.rules else { return };
        let streak = self.streak.fetch_add(1, Relaxed).saturating_add(1);
        let mut circuit = lock(&self.circuit);
        let tally = self.tally(now, BUCKETS as u64, circuit.since());
        if circuit.failed(rules, now, streak, tally) {
            self.store(&circuit);
        }
    }
}

/// A worker's view of a [`Guard`].
#[derive(Debug)]
pub struct Watch {
    /// What all workers share.
    pub guard: Arc<Guard>,
    member: Arc<Member>,
    /// How long an answer usually takes, in microseconds; 0 while none is known.
    usual_us: Cell<f32>,
}

impl Watch {
    /// A worker joins; `reach` is what it knows of the backend's endpoints.
    #[must_use]
    pub fn new(guard: Arc<Guard>, reach: Arc<Reach>) -> Self {
        let member = Arc::new(Member { buckets: Default::default(), reach });
        lock(&guard.members).push(Arc::downgrade(&member));
        Self { guard, member, usual_us: Cell::new(0.0) }
    }

    /// Whether it knows the backend's endpoints by this.
    #[must_use]
    pub fn reaches(&self, reach: &Arc<Reach>) -> bool {
        Arc::ptr_eq(&self.member.reach, reach)
    }

    /// Whether it is told how attempts end.
    #[must_use]
    pub fn is_needed(&self) -> bool {
        self.guard.rules.is_some() || self.guard.retry.is_some()
    }

    /// How calls are repeated.
    #[must_use]
    pub fn retry(&self) -> Option<&Retry> {
        self.guard.retry.as_ref()
    }

    /// A call asks for the backend.
    #[must_use]
    pub fn admit(&self) -> Admission {
        if self.guard.state.load(Relaxed) == 0 {
            return Admission::Pass;
        }
        self.guard.admit(Instant::now())
    }

    /// An attempt has ended after `took`.
    pub fn ended(&self, verdict: Verdict, probe: bool, took: Duration, now: Instant) {
        let took_us = took.as_secs_f32() * 1e6;
        let usual = self.usual_us.get();
        let good = match verdict {
            Verdict::Good => {
                let usual = if usual > 0.0 { usual + (took_us - usual) * USUAL_WEIGHT } else { took_us };
                self.usual_us.set(usual);
                true
            }
            Verdict::Bad => false,
            Verdict::Late if took_us >= FAIR_SHARE * usual => false,
            Verdict::Late | Verdict::Nothing => {
                if probe {
                    self.lost(now);
                }
                return;
            }
        };
        self.member.count(self.guard.second(now), good);
        if probe {
            self.guard.probed(now, good);
        } else if !good {
            self.guard.failed(now);
        } else if self.guard.streak.load(Relaxed) != 0 {
            self.guard.streak.store(0, Relaxed);
        }
    }

    /// A probe came to nothing.
    pub fn lost(&self, now: Instant) {
        let mut circuit = lock(&self.guard.circuit);
        circuit.lost(now);
        self.guard.store(&circuit);
    }

    /// Takes a retry out of the budget; none while the circuit is open, as a retry is no probe.
    #[must_use]
    pub fn may_retry(&self, now: Instant) -> bool {
        let guard = &self.guard;
        let (Some(retry), Some(budget), 0) = (&guard.retry, &guard.budget, guard.state.load(Relaxed)) else {
            return false;
        };
        let tally = guard.tally(now, BUDGET_SECONDS as u64, None);
        let attempts = tally.good + tally.bad + u64::from(guard.in_flight.load(Relaxed));
        lock(budget).take(retry, now, guard.second(now), attempts)
    }
}

/// Whether a guard stands for the same backend as before: then it goes on.
#[must_use]
pub fn is_same(one: &ModelBackend, other: &ModelBackend) -> bool {
    (&one.endpoints, &one.retry, &one.circuit) == (&other.endpoints, &other.retry, &other.circuit)
}
