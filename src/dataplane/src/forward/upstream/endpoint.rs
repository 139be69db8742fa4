//! Somewhere that a backend listens: its connections, and what is known of it.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::SendStream;
use h2::client::ResponseFuture;

use super::Pool;
use super::cost::Cost;
use super::link::{Link, connect, drive};
use crate::forward::transport::Address;

/// Connections to one endpoint, opened when the others are full of streams.
const MAX_CONNECTIONS: usize = 8;
/// How long an endpoint is left alone after it could not be reached, at first, and at most where calls ask for it.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_LAST: Duration = Duration::from_secs(1);
/// The same at most where only `warm` connections ask for it.
const REDIAL_LAST: Duration = Duration::from_secs(5);
/// Calls in a row that ran out of time without a sign of life; then the connection is taken for dead.
const SILENT_CALLS: u32 = 8;

/// Somewhere that a backend listens.
pub struct Endpoint {
    /// What is dialled.
    pub address: Address,
    /// The name that its certificate is for.
    pub host: Box<str>,
    /// Which name of the settings it is an address of.
    pub name: Cell<Option<usize>>,
    /// Whom it belongs to, last; and those before, as long as calls wait there.
    pools: RefCell<Vec<Weak<Pool>>>,
    links: RefCell<Vec<Rc<Link>>>,
    pending: Cell<usize>,
    cost: Cell<Cost>,
    dialling: Cell<bool>,
    tending: Cell<bool>,
    failures: Cell<u32>,
    /// Connections in a row that ended before anything was answered.
    unheard: Cell<u32>,
    rest_until: Cell<Option<Instant>>,
    fault: RefCell<String>,
    /// Its name has lost it: calls under way finish.
    pub gone: Cell<bool>,
}

/// A place on a connection, given back when dropped.
pub struct Lease {
    link: Rc<Link>,
    endpoint: Rc<Endpoint>,
    /// When it was given, where that tells endpoints apart.
    since: Cell<Option<Instant>>,
    /// Whether anything came back.
    answered: Cell<bool>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.link.active.set(self.link.active.get() - 1);
        self.endpoint.pending.set(self.endpoint.pending.get() - 1);
        // Callers give up at the same moment as their deadline does: either way nothing was heard.
        if !self.answered.get() {
            self.link.suspect.set(true);
        }
        // Whoever gives up waiting has learnt that it takes longer.
        if let Some(since) = self.since.get() {
            let now = Instant::now();
            if (now - since).as_secs_f64() > self.endpoint.cost.get().of(0, now) {
                self.endpoint.observe(now - since, now);
            }
        }
        self.endpoint.each_pool(|pool| pool.changed.notify_one());
    }
}

impl Lease {
    /// Opens the stream.
    ///
    /// # Errors
    /// The connection takes no more streams; nothing was sent.
    pub async fn open(
        &self,
        head: http::Request<()>,
        end: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        let ready = std::future::poll_fn(|cx| self.link.send.borrow_mut().poll_ready(cx)).await;
        let opened = ready.and_then(|()| self.link.send.borrow_mut().send_request(head, end));
        if opened.is_err() {
            self.retire();
        }
        opened
    }

    /// Where it leads.
    #[must_use]
    pub fn endpoint(&self) -> Rc<Endpoint> {
        Rc::clone(&self.endpoint)
    }

    /// Whether there are endpoints to choose between.
    #[must_use]
    pub fn is_chosen(&self) -> bool {
        self.since.get().is_some()
    }

    /// No more streams on this connection: it was told to go away.
    pub fn retire(&self) {
        self.endpoint.retire(&self.link);
    }

    /// The call ran out of time; whether anything came back tells a slow peer from a vanished one.
    pub fn timed_out(&self) {
        self.link.silent.set(self.link.silent.get() + 1);
        if self.link.silent.get() >= SILENT_CALLS {
            self.retire();
            // Others are asked first for a while; where there are none, this one is asked all the same.
            self.endpoint.rest_until.set(Some(Instant::now() + BACKOFF_LAST));
        }
    }

    /// The peer has answered something: only now is the endpoint known to be good, as a connection alone shows nothing.
    pub fn heard(&self) {
        self.answered.set(true);
        self.link.silent.set(0);
        self.link.suspect.set(false);
        self.link.heard.set(true);
        self.link.lively.set(true);
        self.endpoint.unheard.set(0);
        self.endpoint.failures.set(0);
        self.endpoint.rest_until.set(None);
        if let Some(since) = self.since.take() {
            let now = Instant::now();
            self.endpoint.observe(now - since, now);
        }
    }

    /// It failed, fast or slow.
    pub fn failed(&self) {
        self.since.set(None);
        let mut cost = self.endpoint.cost.get();
        cost.failed(Instant::now());
        self.endpoint.cost.set(cost);
    }
}

impl Endpoint {
    /// Nothing is known of it, and nothing opened.
    pub fn new(address: Address, host: Box<str>, name: Option<usize>, pool: &Rc<Pool>) -> Rc<Self> {
        Rc::new(Self {
            address,
            host,
            name: Cell::new(name),
            pools: RefCell::new(vec![Rc::downgrade(pool)]),
            links: RefCell::default(),
            pending: Cell::new(0),
            cost: Cell::default(),
            dialling: Cell::new(false),
            tending: Cell::new(false),
            failures: Cell::new(0),
            unheard: Cell::new(0),
            rest_until: Cell::new(None),
            fault: RefCell::default(),
            gone: Cell::new(false),
        })
    }

    /// Goes over to another pool, with its connections and what is known of it.
    pub fn move_to(&self, pool: &Rc<Pool>, name: Option<usize>) {
        let mut pools = self.pools.borrow_mut();
        pools.retain(|pool| pool.strong_count() > 0);
        pools.push(Rc::downgrade(pool));
        self.name.set(name);
        // While it was alone nobody measured it; yet it has answered, which those that join have still to show.
        if self.links.borrow().iter().any(|link| link.heard.get()) {
            let mut cost = self.cost.get();
            cost.has_answered(Instant::now());
            self.cost.set(cost);
        }
    }

    fn pool(&self) -> Option<Rc<Pool>> {
        self.pools.borrow().last()?.upgrade()
    }

    fn each_pool(&self, tell: impl Fn(&Pool)) {
        let pools = self.pools.borrow();
        pools.iter().filter_map(Weak::upgrade).for_each(|pool| tell(&pool));
    }

    fn observe(&self, took: Duration, now: Instant) {
        let mut cost = self.cost.get();
        cost.observe(took, now);
        self.cost.set(cost);
    }

    /// What one more call here would cost.
    pub fn cost(&self, now: Instant) -> f64 {
        self.cost.get().of(self.pending.get(), now)
    }

    /// Whether it is left alone.
    pub fn is_resting(&self, now: Instant) -> bool {
        self.rest_until.get().is_some_and(|until| until > now)
    }

    /// Why it could not be reached when it was last tried.
    pub fn fault(&self) -> Option<String> {
        (self.failures.get() > 0).then(|| format!("{}: {}", self.address, self.fault.borrow()))
    }

    /// Rests no longer: whoever calls has a reason to try it now.
    pub fn rouse(&self) {
        if !self.is_connected() {
            self.rest_until.set(None);
        }
    }

    /// Whether a connection is on its way.
    pub fn is_dialling(&self) -> bool {
        self.dialling.get()
    }

    /// Whether a connection stands, or is on its way.
    pub fn is_hopeful(&self) -> bool {
        self.is_dialling() || self.is_connected()
    }

    /// Whether a connection stands that takes calls.
    pub fn is_connected(&self) -> bool {
        self.links.borrow().iter().any(|link| !link.spent.get())
    }

    /// No more calls on a connection.
    fn retire(&self, link: &Rc<Link>) {
        link.spent.set(true);
        self.links.borrow_mut().retain(|known| !Rc::ptr_eq(known, link));
    }

    /// A free place on the connection with the fewest calls; `now` where endpoints are told apart by their times.
    pub fn place(self: &Rc<Self>, now: Option<Instant>) -> Option<Lease> {
        let mut links = self.links.borrow_mut();
        links.retain(|link| !link.spent.get());
        let link = links.iter().min_by_key(|link| link.active.get())?;
        if link.active.get() >= link.send.borrow().current_max_send_streams() {
            return None;
        }
        link.active.set(link.active.get() + 1);
        self.pending.set(self.pending.get() + 1);
        Some(Lease {
            link: Rc::clone(link),
            endpoint: Rc::clone(self),
            since: Cell::new(now),
            answered: Cell::new(false),
        })
    }

    /// Opens one more connection in the background, unless one is being opened or there are enough.
    pub fn dial(self: &Rc<Self>, now: Instant) {
        let Some(pool) = self.pool() else { return };
        if self.dialling.get()
            || (self.is_resting(now) && self.failures.get() > 0)
            || self.links.borrow().len() >= MAX_CONNECTIONS
        {
            return;
        }
        self.dialling.set(true);
        let (endpoint, timeout) = (Rc::clone(self), pool.connect_timeout);
        tokio::task::spawn_local(async move {
            let dialling = connect(&endpoint.address, &endpoint.host, pool.tls.as_deref());
            let dialled = tokio::time::timeout(timeout, dialling).await;
            endpoint.dialling.set(false);
            match dialled {
                Ok(Ok(dialled)) => {
                    let link = Rc::new(Link::new(dialled.send.clone()));
                    if !endpoint.gone.get() {
                        endpoint.links.borrow_mut().push(Rc::clone(&link));
                    }
                    drop(pool);
                    endpoint.each_pool(Pool::changed);
                    endpoint.tend();
                    let (link, endpoint) = (weaken(link), weaken(endpoint));
                    let retire = || {
                        if let (Some(link), Some(endpoint)) = (link.upgrade(), endpoint.upgrade()) {
                            endpoint.retire(&link);
                            endpoint.tend();
                        }
                    };
                    drive(dialled, &link, retire).await;
                    if let Some(endpoint) = endpoint.upgrade() {
                        endpoint.ended(link.upgrade().as_deref());
                    }
                    return;
                }
                Ok(Err(error)) => endpoint.rest(error.to_string()),
                Err(_) => endpoint.rest(format!("no connection within {} ms", timeout.as_millis())),
            }
            endpoint.each_pool(Pool::changed);
            endpoint.tend();
        });
    }

    /// A connection has ended.
    fn ended(self: &Rc<Self>, link: Option<&Link>) {
        if let Some(link) = link {
            link.spent.set(true);
            if !link.heard.get() {
                self.closed_unheard();
            }
        }
        self.links.borrow_mut().retain(|link| !link.spent.get());
        self.each_pool(Pool::changed);
        self.tend();
    }

    /// Keeps as many connections open as are wanted: one more now, or once it has rested.
    pub fn tend(self: &Rc<Self>) {
        let Some(pool) = self.pool() else { return };
        if self.gone.get() || self.tending.get() || self.links.borrow().len() >= pool.warm {
            return;
        }
        let now = Instant::now();
        let Some(pause) = self.redial_pause(now) else {
            return self.dial(now);
        };
        self.tending.set(true);
        let endpoint = weaken(Rc::clone(self));
        tokio::task::spawn_local(async move {
            tokio::time::sleep(pause).await;
            if let Some(endpoint) = endpoint.upgrade() {
                endpoint.tending.set(false);
                endpoint.tend();
            }
        });
    }

    /// How long to wait before a connection is opened that no call asks for.
    fn redial_pause(&self, now: Instant) -> Option<Duration> {
        let until = self.rest_until.get().filter(|until| *until > now)?;
        let failures = self.failures.get().saturating_sub(1).min(10);
        let pause = BACKOFF_FIRST.saturating_mul(1 << failures).min(REDIAL_LAST).mul_f64(0.9 + 0.2 * fastrand::f64());
        Some(pause.max(until - now))
    }

    /// A connection ended before anything was answered on it. Once may be a server that is going away; twice in a row the
    /// endpoint is no better than one that refuses connections.
    fn closed_unheard(&self) {
        self.unheard.set(self.unheard.get().saturating_add(1));
        if self.unheard.get() > 1 {
            self.rest("it closed the connection before it answered anything".into());
        } else {
            self.rest_until.set(Some(Instant::now() + BACKOFF_FIRST));
        }
    }

    fn rest(&self, fault: String) {
        let failures = self.failures.get();
        let pause = BACKOFF_FIRST.saturating_mul(1 << failures.min(10)).min(BACKOFF_LAST);
        // A fifth of jitter, so that workers and sidecars do not come back in step.
        let pause = pause.mul_f64(0.9 + 0.2 * fastrand::f64());
        self.failures.set(failures.saturating_add(1));
        self.rest_until.set(Some(Instant::now() + pause));
        *self.fault.borrow_mut() = fault;
    }

    /// Until when what is known of it stands, should nobody ask meanwhile; `None` where it may well be reached.
    pub fn lost_until(&self, now: Instant, pool: &Pool) -> Option<Instant> {
        if self.failures.get() == 0 || self.is_hopeful() {
            return None;
        }
        let until = self.rest_until.get().unwrap_or(now);
        // With `warm` connections it is tried again all the time, and each time says so anew.
        Some(if pool.warm > 0 { until.max(now + REDIAL_LAST) + pool.connect_timeout * 2 } else { until })
    }
}

fn weaken<T>(strong: Rc<T>) -> Weak<T> {
    Rc::downgrade(&strong)
}
