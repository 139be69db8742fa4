//! What a call finds around it: the policy, the connections of its worker, and where its record goes.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::circuit::Admission;
use super::guard::{Guard, Watch};
use super::hedge::{self, Hedging};
use super::marks::Known;
use super::snapshot::Snapshot;
use super::started::Started;
use super::status::{RESOURCE_EXHAUSTED, Status, UNAVAILABLE};
use super::transport::Address;
use super::transport::limits::Listening;
use super::transport::tls::ServerTls;
use super::upstream::{self, Spec, Upstream};
use crate::desk::Desk;
use crate::policy::{self, BackendIx, Policy, Predictions, Reason, RouteIx};
use crate::records::{Bell, Counter, Counters, Sink};

/// Bytes of long answers that may wait on one worker for callers to read them.
const HELD_ANSWER_BYTES: usize = 256 * 1024 * 1024;
/// How long the control plane, on this very machine, may take to accept a connection.
const CONTROL_CONNECT_TIMEOUT: Duration = Duration::from_millis(1000);

/// What all workers share.
pub struct Shared {
    /// The policy that new calls see.
    pub snapshot: ArcSwap<Snapshot>,
    /// Tells workers without calls that there is another.
    pub published: watch::Sender<()>,
    /// Wakes who drains.
    pub bell: Bell,
    /// Where calls ask Python.
    pub desk: Arc<Desk>,
    /// Whether new calls are welcome: `ServerReady` says so where no backend answers it.
    pub serving: AtomicBool,
    /// Where the control plane listens.
    pub control: Option<Address>,
    /// Limits of the listener's side.
    pub listening: Listening,
    /// What callers' connections are encrypted by; `None` for plain text.
    pub tls: Option<Arc<ServerTls>>,
}

/// What one worker's counts are known by outside its thread.
#[derive(Default)]
pub struct Gauges {
    /// Connections open.
    pub connections: AtomicUsize,
    /// Calls under way.
    pub calls: AtomicUsize,
    /// Counts.
    pub counters: Counters,
}

/// The connections that a policy's backends need, on one worker.
pub struct Plan {
    /// The policy they belong to.
    pub snapshot: Arc<Snapshot>,
    /// Decisions under this policy, in words.
    pub known: Known,
    upstreams: Vec<Option<Rc<Upstream>>>,
    shadows: Vec<Option<Rc<Upstream>>>,
    watches: Vec<Rc<Watch>>,
    /// By route; nothing for those that do not hedge.
    hedging: Vec<Option<Rc<Hedging>>>,
}

impl Plan {
    /// What is known of a route's hedging.
    #[must_use]
    pub fn hedging(&self, route: RouteIx) -> Option<&Hedging> {
        self.hedging.get(usize::from(route))?.as_deref()
    }

    /// The same, to be carried over by name.
    #[must_use]
    pub fn all_hedging(&self) -> &[Option<Rc<Hedging>>] {
        &self.hedging
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> &Arc<Policy> {
        &self.snapshot.policy
    }

    /// Keeps what a finished call has to teach, before its caller can come again.
    pub fn learn(&self, call: &policy::Call, decision: &policy::Decision, arrival: Instant) {
        if let Some(lesson) = call.lesson(decision) {
            self.snapshot.units.at(arrival).learn(self.policy(), decision.route, &lesson);
        }
    }

    /// Connections of a backend; `None` for what is no model server.
    #[must_use]
    pub fn upstream(&self, backend: BackendIx) -> Option<&Rc<Upstream>> {
        self.upstreams.get(usize::from(backend))?.as_ref()
    }

    /// The same by the backend's name.
    fn named(&self, name: &str, is_shadow: bool) -> Option<&Rc<Upstream>> {
        let index = self.policy().backends().iter().position(|backend| &*backend.name == name)?;
        let all = if is_shadow { &self.shadows } else { &self.upstreams };
        all[index].as_ref()
    }

    /// Connections of a shadow: its own, so that it cannot take a call's place.
    #[must_use]
    pub fn shadow(&self, backend: BackendIx) -> Option<&Rc<Upstream>> {
        self.shadows.get(usize::from(backend))?.as_ref()
    }
}

/// By addresses, time to connect, TLS (by where it lies in memory: each reads its own files) and whether it is for copies.
type Pools = HashMap<(upstream::Key, bool), Rc<Upstream>>;

/// One thread's world. Nothing in it is shared with another thread but by counts.
pub struct Worker {
    /// What all workers share.
    pub shared: Arc<Shared>,
    /// This worker's counts.
    pub gauges: Arc<Gauges>,
    /// This worker's records.
    pub sink: Arc<Sink>,
    /// Connections to the control plane.
    pub control: Option<Rc<Upstream>>,
    plan: RefCell<Option<Rc<Plan>>>,
    /// The buffer that predictions are read into. Calls take turns with it, never across an await.
    pub predictions: RefCell<Predictions>,
    held: Cell<usize>,
    this: Weak<Worker>,
}

impl Worker {
    /// A worker without connections.
    #[must_use]
    pub fn new(shared: Arc<Shared>, gauges: Arc<Gauges>, sink: Arc<Sink>) -> Rc<Self> {
        let control = shared.control.clone().map(|address| Rc::new(Upstream::at(address, CONTROL_CONNECT_TIMEOUT)));
        Rc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            shared,
            gauges,
            sink,
            control,
            plan: RefCell::default(),
            predictions: RefCell::default(),
            held: Cell::new(0),
        })
    }

    /// Takes each policy when it is published, be there calls or not: connections are opened before the first call needs
    /// them, and those to backends that are gone close with their last.
    pub fn keep_up(&self) {
        let (worker, mut published) = (Weak::clone(&self.this), self.shared.published.subscribe());
        tokio::task::spawn_local(async move {
            while let Some(worker) = worker.upgrade() {
                drop(worker.plan());
                drop(worker);
                if published.changed().await.is_err() {
                    return;
                }
            }
        });
    }

    /// The policy of a call that begins now. Connections that the next policy needs as well are kept.
    #[must_use]
    pub fn plan(&self) -> Rc<Plan> {
        let snapshot = self.shared.snapshot.load();
        if let Some(plan) = &*self.plan.borrow()
            && Arc::ptr_eq(&plan.snapshot, &snapshot)
        {
            return Rc::clone(plan);
        }
        let plan = Rc::new(self.build(Arc::clone(&snapshot)));
        *self.plan.borrow_mut() = Some(Rc::clone(&plan));
        plan
    }

    fn build(&self, snapshot: Arc<Snapshot>) -> Plan {
        let before = self.plan.borrow();
        let mut pools = Pools::new();
        if let Some(before) = &*before {
            for (index, spec) in before.snapshot.specs().enumerate() {
                let Some(spec) = spec else { continue };
                for (pool, is_shadow) in [(&before.upstreams[index], false), (&before.shadows[index], true)] {
                    if let Some(pool) = pool {
                        pools.insert((of_kind(spec.clone(), is_shadow).key(), is_shadow), Rc::clone(pool));
                    }
                }
            }
        }
        let epoch = snapshot.epoch();
        let mut of = |spec: Option<Spec>, name: &str, is_shadow: bool| {
            let spec = of_kind(spec?, is_shadow);
            let pool = pools.entry((spec.key(), is_shadow)).or_insert_with(|| {
                let upstream = Upstream::new(&spec, epoch);
                if let Some(before) = before.as_ref().and_then(|before| before.named(name, is_shadow)) {
                    upstream.take_over(before);
                }
                Rc::new(upstream)
            });
            if spec.warm > 0 {
                pool.begin();
            }
            Some(Rc::clone(pool))
        };
        let specs = || snapshot.policy.backends().iter().zip(snapshot.specs());
        let upstreams: Vec<_> = specs().map(|(backend, spec)| of(spec, &backend.name, false)).collect();
        let shadows = specs().map(|(backend, spec)| of(spec, &backend.name, true)).collect();
        let joined: HashMap<*const Guard, &Rc<Watch>> = before
            .iter()
            .flat_map(|before| before.watches.iter().map(|watch| (Arc::as_ptr(&watch.guard), watch)))
            .collect();
        let watch = |(guard, upstream): (&Arc<Guard>, &Option<Rc<Upstream>>)| {
            let reach = upstream.as_ref().map(|upstream| upstream.reach()).unwrap_or_default();
            let known = joined.get(&Arc::as_ptr(guard)).filter(|watch| watch.reaches(&reach));
            known.map_or_else(|| Rc::new(Watch::new(Arc::clone(guard), reach)), |watch| Rc::clone(watch))
        };
        let watches = snapshot.guards.iter().zip(&upstreams).map(watch).collect();
        let hedging = hedge::carried_over(&snapshot.policy, before.as_deref());
        drop(before);
        Plan { snapshot, known: Known::default(), upstreams, shadows, watches, hedging }
    }

    /// The worker itself, for what outlives a call.
    #[must_use]
    pub fn handle(&self) -> Option<Rc<Self>> {
        self.this.upgrade()
    }

    /// One more of something.
    pub fn count(&self, counter: Counter) {
        self.gauges.counters.add(counter);
    }

    /// A place among the calls under way at a backend, whose circuit only stands in the way where the call `has_next`.
    ///
    /// # Errors
    /// Why the backend is not to be asked.
    pub fn occupy(
        &self,
        plan: &Plan,
        backend: BackendIx,
        started: &Started,
        has_next: impl FnOnce() -> bool,
    ) -> Result<Occupied, Refused> {
        let limit = plan.policy().backend(backend).as_model().map_or(u32::MAX, |model| model.max_in_flight);
        let watch = &plan.watches[usize::from(backend)];
        if watch.guard.in_flight.fetch_add(1, Relaxed) >= limit {
            watch.guard.in_flight.fetch_sub(1, Relaxed);
            self.count(Counter::OverloadBackend);
            return Err(Refused::Full);
        }
        let place = Occupied(Rc::clone(watch));
        let admission = watch.admit();
        if admission == Admission::Refused && has_next() {
            return Err(Refused::Open);
        }
        started.watch(watch, admission);
        Ok(place)
    }

    /// Counts bytes of an answer that waits for its caller to read it; `None` when too many wait already.
    #[must_use]
    pub fn hold(&self, bytes: usize) -> Option<Held<'_>> {
        let held = self.held.get() + bytes;
        if held > HELD_ANSWER_BYTES {
            self.count(Counter::AnswersFull);
            return None;
        }
        self.held.set(held);
        Some(Held { worker: self, bytes })
    }

    /// A decision id, RFC 9562's version 7: milliseconds, then what no other call of this millisecond has.
    #[must_use]
    pub fn decision_id(unix_us: i64) -> [u8; 16] {
        let millis = u64::try_from(unix_us / 1000).unwrap_or(0);
        let random = fastrand::u128(..).to_le_bytes();
        let mut bytes = [0; 10];
        bytes.copy_from_slice(&random[..10]);
        uuid::Builder::from_unix_timestamp_millis(millis, &bytes).into_uuid().into_bytes()
    }
}

/// Bytes of an answer that waits; given back when dropped.
pub struct Held<'a> {
    worker: &'a Worker,
    bytes: usize,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.worker.held.set(self.worker.held.get() - self.bytes);
    }
}

/// A shadow's connections are opened by its first copy.
fn of_kind(spec: Spec, is_shadow: bool) -> Spec {
    if is_shadow { Spec { warm: 0, ..spec } } else { spec }
}

/// A place at a backend, given back when dropped.
pub struct Occupied(Rc<Watch>);

impl Drop for Occupied {
    fn drop(&mut self) {
        self.0.guard.in_flight.fetch_sub(1, Relaxed);
    }
}

/// Why a backend is not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It has its fill of calls.
    Full,
    /// Its circuit is open.
    Open,
}

impl Refused {
    /// The word for it.
    #[must_use]
    pub fn reason(self) -> Reason {
        match self {
            Self::Full => Reason::Overload,
            Self::Open => Reason::CircuitOpen,
        }
    }

    /// What a caller is told where nobody else answers.
    #[must_use]
    pub fn status(self, name: &str) -> Status {
        match self {
            Self::Full => {
                Status::new(RESOURCE_EXHAUSTED, format!("{name} has all the calls under way that it may have"))
            }
            Self::Open => Status::new(UNAVAILABLE, format!("{name} is left alone: its circuit is open")),
        }
    }
}
