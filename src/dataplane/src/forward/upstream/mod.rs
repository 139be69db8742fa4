//! Connections to one backend, a worker's own.
//!
//! Several endpoints are balanced call by call: of two drawn by lot, the one where another call costs less ([`cost`]). An
//! endpoint that cannot be reached is left alone for a while that doubles, and its calls fail at once, so that the chain
//! goes on. A name stands for all its addresses ([`super::resolve`]): those that vanish finish their calls, those that join
//! are connected to beside the calls. Nothing here waits without end: whoever waits holds a deadline.

mod cost;
mod endpoint;
mod link;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::guard::Reach;
use super::resolve;
use super::transport::Address;
use super::transport::tls::ClientTls;
use crate::policy::{self, Dns};

pub use endpoint::{Endpoint, Lease};

/// Addresses that one name stands for at most.
const MAX_ADDRESSES: usize = 256;

/// Why no stream could be had.
#[derive(Clone, Debug)]
pub struct Unreachable(pub String);

/// What a worker's connections to a backend go by: two backends that say the same share them.
#[derive(Clone)]
pub struct Spec {
    /// Where it listens.
    pub endpoints: Vec<policy::Endpoint>,
    /// How names among them are resolved.
    pub dns: Dns,
    /// For a connection to stand.
    pub connect_timeout: Duration,
    /// Connections kept open to each endpoint.
    pub warm: u32,
    /// What they are encrypted by.
    pub tls: Option<Arc<ClientTls>>,
}

/// What tells specs apart.
pub type Key = (Vec<policy::Endpoint>, Dns, Duration, u32, Option<*const ClientTls>);

impl Spec {
    /// Two that are the same have the same.
    #[must_use]
    pub fn key(&self) -> Key {
        let tls = self.tls.as_ref().map(Arc::as_ptr);
        (self.endpoints.clone(), self.dns.clone(), self.connect_timeout, self.warm, tls)
    }
}

/// What its endpoints share.
pub struct Pool {
    endpoints: RefCell<Vec<Rc<Endpoint>>>,
    connect_timeout: Duration,
    warm: usize,
    tls: Option<Arc<ClientTls>>,
    reach: Arc<Reach>,
    epoch: Instant,
    /// Rung when a stream or a connection has become free, dialling has failed, or a name was resolved.
    changed: Notify,
    /// Names that have not been resolved yet, nor failed to be.
    unresolved: Cell<usize>,
    /// Why a name has no address.
    fault: RefCell<String>,
}

/// The connections of a worker to one backend.
pub struct Upstream {
    pool: Rc<Pool>,
    dns: Dns,
    names: Vec<(Box<str>, u16)>,
    begun: Cell<bool>,
    tasks: RefCell<Vec<AbortHandle>>,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.tasks.borrow().iter().for_each(AbortHandle::abort);
    }
}

impl Pool {
    /// Something about its connections is otherwise: who waits looks again, and the rest of the gateway is told.
    fn changed(&self) {
        let (now, endpoints) = (Instant::now(), self.endpoints.borrow());
        if endpoints.iter().any(|endpoint| endpoint.is_connected()) {
            self.reach.reached();
        } else if !endpoints.is_empty() {
            let lost = endpoints.iter().map(|endpoint| endpoint.lost_until(now, self));
            match lost.collect::<Option<Vec<_>>>().and_then(|lost| lost.into_iter().max()) {
                Some(until) => self.reach.lost_until(millis(until, self.epoch)),
                None => self.reach.forget(),
            }
        }
        self.changed.notify_waiters();
    }

    /// A name stands for these addresses now.
    pub fn resolved(self: &Rc<Self>, name: usize, host: &str, addresses: &[SocketAddr]) {
        let mut endpoints = self.endpoints.borrow_mut();
        endpoints.retain(|endpoint| {
            let stays = endpoint.name.get() != Some(name)
                || addresses.iter().any(|address| endpoint.address == Address::Tcp(address.to_string()));
            endpoint.gone.set(!stays);
            stays
        });
        for address in addresses.iter().take(MAX_ADDRESSES) {
            let address = Address::Tcp(address.to_string());
            if !endpoints.iter().any(|known| known.name.get() == Some(name) && known.address == address) {
                let endpoint = Endpoint::new(address, host.into(), Some(name), self);
                endpoint.tend();
                endpoints.push(endpoint);
            }
        }
        drop(endpoints);
        self.changed();
    }

    /// A name could not be resolved; what it stood for stays. It is tried again by then.
    pub fn unresolved(&self, fault: String, until: Instant) {
        *self.fault.borrow_mut() = fault;
        if self.endpoints.borrow().is_empty() {
            self.reach.lost_until(millis(until, self.epoch));
        }
        self.changed.notify_waiters();
    }

    /// A name has been tried for the first time.
    pub fn tried(&self) {
        self.unresolved.set(self.unresolved.get().saturating_sub(1));
    }
}

fn millis(at: Instant, epoch: Instant) -> u64 {
    u64::try_from(at.saturating_duration_since(epoch).as_millis()).unwrap_or(u64::MAX)
}

impl Upstream {
    /// Nothing is opened or resolved before [`Upstream::begin`], or the first call. `epoch` is the data plane's beginning.
    #[must_use]
    pub fn new(spec: &Spec, epoch: Instant) -> Self {
        let pool = Rc::new(Pool {
            endpoints: RefCell::default(),
            connect_timeout: spec.connect_timeout,
            warm: spec.warm as usize,
            tls: spec.tls.clone(),
            reach: Arc::default(),
            epoch,
            changed: Notify::new(),
            unresolved: Cell::new(0),
            fault: RefCell::default(),
        });
        let mut names = Vec::new();
        for endpoint in &spec.endpoints {
            if let policy::Endpoint::Dns { host, port } = endpoint {
                names.push((host.clone(), *port));
            } else {
                let address = Address::from(endpoint);
                let host = address.host().into();
                pool.endpoints.borrow_mut().push(Endpoint::new(address, host, None, &pool));
            }
        }
        pool.unresolved.set(names.len());
        Self { pool, dns: spec.dns.clone(), names, begun: Cell::new(false), tasks: RefCell::default() }
    }

    /// At one address, connected to by the first call.
    #[must_use]
    pub fn at(address: Address, connect_timeout: Duration) -> Self {
        let none = Spec { endpoints: Vec::new(), dns: Dns::default(), connect_timeout, warm: 0, tls: None };
        let upstream = Self::new(&none, Instant::now());
        let host = address.host().into();
        upstream.pool.endpoints.borrow_mut().push(Endpoint::new(address, host, None, &upstream.pool));
        upstream
    }

    /// Takes over the endpoints that both have: their connections, and what is known of them. Calls under way notice nothing.
    pub fn take_over(&self, before: &Self) {
        if self.pool.tls.as_ref().map(Arc::as_ptr) != before.pool.tls.as_ref().map(Arc::as_ptr) {
            return;
        }
        let (mut mine, theirs) = (self.pool.endpoints.borrow_mut(), before.pool.endpoints.borrow());
        for endpoint in theirs.iter() {
            let Some(number) = endpoint.name.get() else {
                if let Some(same) = mine.iter_mut().find(|known| known.address == endpoint.address) {
                    endpoint.move_to(&self.pool, None);
                    *same = Rc::clone(endpoint);
                }
                continue;
            };
            // What a name stood for stands until it is resolved anew.
            if let Some(name) = self.names.iter().position(|name| Some(name) == before.names.get(number)) {
                endpoint.move_to(&self.pool, Some(name));
                mine.push(Rc::clone(endpoint));
            }
        }
        if mine.iter().any(|endpoint| endpoint.is_connected()) {
            self.pool.reach.reached();
        }
    }

    /// Begins to resolve names, and opens the connections that are kept warm.
    pub fn begin(&self) {
        if self.begun.replace(true) {
            return;
        }
        if !self.names.is_empty() {
            let resolver = resolve::resolver(&self.dns);
            for (name, (host, port)) in self.names.iter().enumerate() {
                let name = resolve::Name { number: name, host: host.clone(), port: *port };
                let task = resolve::follow(Rc::downgrade(&self.pool), resolver.clone(), name, self.dns.clone());
                self.tasks.borrow_mut().push(tokio::task::spawn_local(task).abort_handle());
            }
        }
        self.pool.endpoints.borrow().iter().for_each(Endpoint::tend);
    }

    /// What this worker knows of whether it can be reached.
    #[must_use]
    pub fn reach(&self) -> Arc<Reach> {
        Arc::clone(&self.pool.reach)
    }

    /// Endpoints that could not be reached are tried by the next call, however long they were to be left alone.
    pub fn rouse(&self) {
        self.pool.endpoints.borrow().iter().for_each(|endpoint| endpoint.rouse());
    }

    /// A place that is free now, on another endpoint than `avoid` if there is one; if there is none, one is on its way.
    fn take(&self, avoid: Option<&Rc<Endpoint>>) -> Option<Lease> {
        let endpoints = self.pool.endpoints.borrow();
        match endpoints.as_slice() {
            [] => None,
            [only] => only.place(None).or_else(|| {
                only.dial(Instant::now());
                None
            }),
            all => take_of(all, avoid),
        }
    }

    /// A place for a stream, connecting if need be. The caller bounds the wait.
    ///
    /// # Errors
    /// No endpoint can be reached, with the last fault in words.
    pub async fn lease(&self, avoid: Option<&Rc<Endpoint>>) -> Result<Lease, Unreachable> {
        self.begin();
        loop {
            if let Some(lease) = self.take(avoid) {
                return Ok(lease);
            }
            let changed = self.pool.changed.notified();
            if self.is_hopeless() {
                return Err(Unreachable(self.fault()));
            }
            changed.await;
        }
    }

    /// Whether nothing is under way that could bring a place.
    fn is_hopeless(&self) -> bool {
        let endpoints = self.pool.endpoints.borrow();
        self.pool.unresolved.get() == 0 && !endpoints.iter().any(|endpoint| endpoint.is_hopeful())
    }

    fn fault(&self) -> String {
        let fault = self.pool.endpoints.borrow().iter().find_map(|endpoint| endpoint.fault());
        fault.unwrap_or_else(|| match self.pool.fault.borrow().as_str() {
            "" => "no endpoint can be reached".into(),
            fault => fault.to_owned(),
        })
    }
}

/// Of two endpoints by lot the one that costs less; where it has no place now, whoever has one at the least cost.
fn take_of(all: &[Rc<Endpoint>], avoid: Option<&Rc<Endpoint>>) -> Option<Lease> {
    let now = Instant::now();
    let shunned = |n: usize| all[n].is_resting(now) || avoid.is_some_and(|avoid| Rc::ptr_eq(avoid, &all[n]));
    let first = fastrand::usize(..all.len());
    let second = (first + 1 + fastrand::usize(..all.len() - 1)) % all.len();
    let picked = match (shunned(first), shunned(second)) {
        (false, true) => first,
        (true, false) => second,
        (false, false) if all[first].cost(now) <= all[second].cost(now) => first,
        (false, false) => second,
        // Both rest, or have just failed: any other that does not.
        (true, true) => (0..all.len()).find(|&n| !shunned(n)).unwrap_or(first),
    };
    if let Some(lease) = all[picked].place(Some(now)) {
        return Some(lease);
    }
    all[picked].dial(now);
    let mut others: Vec<usize> = (0..all.len()).filter(|&n| n != picked && all[n].is_connected()).collect();
    others.sort_by(|&one, &other| all[one].cost(now).total_cmp(&all[other].cost(now)));
    let place = |shun: bool| {
        let mut others = others.iter().filter(|&&n| shunned(n) == shun);
        others.find_map(|&n| all[n].place(Some(now)))
    };
    // Rather a connection that is on its way than an endpoint that has just failed.
    place(false).or_else(|| if all.iter().any(|one| one.is_dialling()) { None } else { place(true) })
}

/// Whether the peer has certainly not taken the stream up, so that it may be sent again elsewhere.
#[must_use]
pub fn unprocessed(error: &h2::Error) -> bool {
    error.reason() == Some(h2::Reason::REFUSED_STREAM) || (error.is_go_away() && error.is_remote())
}
