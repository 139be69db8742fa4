//! A late attempt gets company: the next model of the chain is asked as well, and the first good answer is the call's.
//!
//! Only calls that are here whole and may be sent twice, only up to a share of a route's calls, and never a static answer,
//! which needs no time. Both attempts run within the call's own task; the one that is not needed is reset.
//!
//! Source: Dean and Barroso 2013, The Tail at Scale, CACM 56:74-80 (hedged requests); the budget is that of gRFC A6 in
//! spirit: a slow backend must not double the load.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::answer::Final;
use super::attempt::{AskBody, Came, ask};
use super::caller::{Caller, Gone};
use super::decide::{Decide, Ready};
use super::exchange::{Alarm, Fault, Target, watched};
use super::quantile::Quantile;
use super::retry;
use super::started::{Repeat, Started};
use super::status::CANCELLED;
use super::upstream::Upstream;
use super::worker::{Occupied, Plan};
use crate::policy::{After, BackendIx, Hedge, Policy, Reason, Route};
use crate::records::Counter;

/// Calls that may be hedged in a row before the share counts.
const BURST: f64 = 10.0;

/// What one worker knows of a route's hedging.
#[derive(Debug)]
pub struct Hedging {
    /// Calls that may be hedged now.
    allowance: Cell<f64>,
    /// How long is late, by the position of a backend in the chain.
    late: Vec<Quantile>,
}

impl Hedging {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(route: &Route, hedge: &Hedge) -> Self {
        let share = if let After::Quantile(share) = hedge.after { share } else { 0.0 };
        Self { allowance: Cell::new(BURST), late: route.chain.iter().map(|_| Quantile::new(share)).collect() }
    }

    fn quantile(&self, route: &Route, backend: BackendIx) -> Option<&Quantile> {
        self.late.get(route.chain.iter().position(|one| *one == backend)?)
    }

    /// One more call, of which a share may be hedged.
    fn earn(&self, hedge: &Hedge) {
        self.allowance.set((self.allowance.get() + hedge.share).min(BURST));
    }

    fn spend(&self) -> bool {
        let enough = self.allowance.get() >= 1.0;
        if enough {
            self.allowance.set(self.allowance.get() - 1.0);
        }
        enough
    }
}

/// What is known of each route that hedges: what is late is not learnt anew where the policy has changed elsewhere.
#[must_use]
pub fn carried_over(policy: &Policy, before: Option<&Plan>) -> Vec<Option<Rc<Hedging>>> {
    let known = |route: &Route| {
        let before = before?;
        let at = before.policy().routes().iter().position(|known| known.name == route.name)?;
        let known = &before.policy().routes()[at];
        let then = known.chain.iter().map(|one| &before.policy().backend(*one).name);
        let now = route.chain.iter().map(|one| &policy.backend(*one).name);
        (known.hedge == route.hedge && then.eq(now)).then(|| before.all_hedging()[at].clone())?
    };
    let hedging = policy.routes().iter().map(|route| {
        let hedge = route.hedge.as_ref()?;
        Some(known(route).unwrap_or_else(|| Rc::new(Hedging::new(route, hedge))))
    });
    hedging.collect()
}

type Asking<'a> = Pin<Box<dyn Future<Output = Result<Came, Fault>> + 'a>>;

/// An attempt under way.
struct UnderWay<'a> {
    backend: BackendIx,
    started: Rc<Started>,
    place: Occupied,
    upstream: &'a Upstream,
    asking: Asking<'a>,
    began: Instant,
}

impl<'a> UnderWay<'a> {
    /// It has come to its end, and is an attempt like any other.
    fn ended(self) -> Option<Ready<'a>> {
        let Self { backend, started, place, upstream, asking, .. } = self;
        drop(asking);
        Some(Ready { backend, started: Rc::into_inner(started)?, place, upstream, suffix: Vec::new() })
    }
}

impl<'a> Decide<'a, '_, '_> {
    /// How the call may be hedged, if it may.
    pub(super) fn may_hedge(&self, backend: BackendIx) -> Option<(&'a Hedge, &'a Hedging)> {
        let hedge = self.route.hedge.as_ref()?;
        let hedging = self.call.plan.hedging(self.state.route_index())?;
        (self.message.whole && self.may_be_asked_twice(backend) && self.state.attempts().iter().all(|one| !one.made))
            .then_some((hedge, hedging))
    }

    fn may_be_asked_twice(&self, backend: BackendIx) -> bool {
        match self.asked.repeat() {
            Repeat::Never => false,
            Repeat::Always => true,
            Repeat::Listed => {
                let model = self.call.plan.policy().backend(backend).as_model();
                let retry = model.and_then(|model| model.retry.as_ref());
                retry.is_some_and(|retry| retry::is_listed(retry, self.call.outbound.uri.path()))
            }
        }
    }

    /// One attempt, and another beside it once it is late; `None` sends the call on along its chain.
    pub(super) async fn hedged(
        &mut self,
        caller: &mut Caller,
        backend: BackendIx,
        (hedge, hedging): (&'a Hedge, &'a Hedging),
    ) -> Result<Option<Final>, Gone> {
        hedging.earn(hedge);
        let Some(first) = self.begin(backend) else { return Ok(None) };
        let late = match hedge.after {
            After::Fixed(after) => Some(after),
            After::Quantile(_) => hedging.quantile(self.route, backend).and_then(Quantile::get),
        };
        let mut alarm = Alarm::new(late.map(|late| first.began + late));
        let mut under_way = vec![first];
        loop {
            let next = watched(caller, &mut alarm, |_, cx| {
                for (at, one) in under_way.iter_mut().enumerate() {
                    if let Poll::Ready(came) = one.asking.as_mut().poll(cx) {
                        return Poll::Ready((at, came));
                    }
                }
                Poll::Pending
            });
            match next.await {
                Ok((at, came)) => {
                    let ended = under_way.swap_remove(at);
                    let (whose, began) = (ended.backend, ended.began);
                    let Some(ready) = ended.ended() else { return Ok(None) };
                    // A failure says nothing of how long an answer takes.
                    if whose == backend && matches!(came, Ok(_) | Err(Fault::Deadline)) {
                        self.learn(hedge, hedging, whose, began.elapsed());
                    }
                    self.state.turn_to(whose);
                    let made = self.came(ready, came)?;
                    if made.is_none() && self.state.current().is_some() {
                        continue;
                    }
                    // Whoever is left is not needed any more.
                    for one in under_way {
                        if one.backend == backend {
                            self.learn(hedge, hedging, backend, one.began.elapsed());
                            self.call.worker.count(Counter::HedgedFirst);
                        }
                        self.journal.end(&one.started, one.backend, Reason::Deadline, CANCELLED);
                    }
                    return Ok(made);
                }
                Err(Fault::Deadline) => {
                    alarm = Alarm::new(None);
                    under_way.extend(self.company(hedging));
                }
                Err(_) => {
                    for one in under_way {
                        self.journal.end(&one.started, one.backend, Reason::Deadline, CANCELLED);
                    }
                    self.state.abort(Reason::Deadline, CANCELLED);
                    return Err(Gone);
                }
            }
        }
    }

    /// The attempt beside the late one, where there is someone to ask and it may be done.
    fn company(&mut self, hedging: &Hedging) -> Option<UnderWay<'a>> {
        if !self.state.can_hedge() {
            return None;
        }
        if !hedging.spend() {
            self.call.worker.count(Counter::HedgeBudget);
            return None;
        }
        let backend = self.state.hedge()?;
        self.call.worker.count(Counter::Hedged);
        self.begin(backend)
    }

    fn learn(&self, hedge: &Hedge, hedging: &Hedging, backend: BackendIx, took: Duration) {
        if let (After::Quantile(_), Some(quantile)) = (hedge.after, hedging.quantile(self.route, backend)) {
            quantile.add(took);
        }
    }

    /// Begins an attempt that runs by itself.
    fn begin(&mut self, backend: BackendIx) -> Option<UnderWay<'a>> {
        let ready = self.prepare(backend)?;
        let (call, until, hold) = (self.call, self.share(), self.hold());
        let (frames, inflated) = self.message.with(&ready.suffix);
        let head = ready.head(&call.outbound, inflated);
        let Ready { backend, started, place, upstream, .. } = ready;
        let started = Rc::new(started);
        let own = Rc::clone(&started);
        let asking = Box::pin(async move {
            let (mut nobody, mut alarm) = (Caller::nobody(), Alarm::new(until));
            let target = Target { worker: call.worker, upstream, started: Some(&own) };
            ask(target, &mut nobody, &mut alarm, head, AskBody::Whole(&frames), hold).await
        });
        Some(UnderWay { backend, started, place, upstream, asking, began: Instant::now() })
    }
}
