//! Connections to one backend, a worker's own.
//!
//! Several endpoints are balanced by the power of two choices on calls under way. An endpoint that cannot be reached is left
//! alone for a while that doubles, and its calls fail at once, so that the chain goes on. Nothing here waits without end:
//! whoever waits holds a deadline.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::SendStream;
use h2::client::{Connection, ResponseFuture, SendRequest};
use tokio::sync::Notify;

use super::guard::Reach;
use super::transport::tls::ClientTls;
use super::transport::{Address, Cork, Corked, Socket, cork, limits};

/// Connections to one endpoint, opened when the others are full of streams.
const MAX_CONNECTIONS: usize = 8;
/// How long an endpoint is left alone after it could not be reached, at first and at most.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_LAST: Duration = Duration::from_secs(1);
/// Calls in a row that ran out of time without a sign of life; then the connection is taken for dead.
const SILENT_CALLS: u32 = 8;
/// How long the system tries to deliver to a peer that has vanished.
const USER_TIMEOUT: Duration = Duration::from_secs(20);

/// Why no stream could be had.
#[derive(Clone, Debug)]
pub struct Unreachable(pub String);

struct Link {
    send: RefCell<SendRequest<Bytes>>,
    active: Cell<usize>,
    silent: Cell<u32>,
    /// Whether it ever answered anything.
    heard: Cell<bool>,
    /// No new streams: closed, told to go away, or silent.
    spent: Cell<bool>,
}

/// Somewhere that a backend listens.
pub struct Endpoint {
    address: Address,
    tls: Option<Arc<ClientTls>>,
    links: RefCell<Vec<Rc<Link>>>,
    dialling: Cell<bool>,
    failures: Cell<u32>,
    /// Connections in a row that ended before anything was answered.
    unheard: Cell<u32>,
    rest_until: Cell<Option<Instant>>,
    fault: RefCell<String>,
    /// Rung when a stream or a connection has become free, or dialling has failed.
    changed: Notify,
}

/// The connections of a worker to one backend.
pub struct Upstream {
    endpoints: Vec<Rc<Endpoint>>,
    connect_timeout: Duration,
    reach: Arc<Reach>,
}

/// A place on a connection, given back when dropped.
pub struct Lease {
    link: Rc<Link>,
    endpoint: Rc<Endpoint>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.link.active.set(self.link.active.get() - 1);
        self.endpoint.changed.notify_one();
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

    /// No more streams on this connection: it was told to go away.
    pub fn retire(&self) {
        self.link.spent.set(true);
        self.endpoint.links.borrow_mut().retain(|link| !Rc::ptr_eq(link, &self.link));
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
        self.link.silent.set(0);
        self.link.heard.set(true);
        self.endpoint.unheard.set(0);
        self.endpoint.failures.set(0);
        self.endpoint.rest_until.set(None);
    }
}

impl Endpoint {
    fn resting(&self) -> bool {
        self.rest_until.get().is_some_and(|until| until > Instant::now())
    }

    fn active(&self) -> usize {
        self.links.borrow().iter().map(|link| link.active.get()).sum()
    }

    /// A free place on the connection with the fewest calls.
    fn place(self: &Rc<Self>) -> Option<Lease> {
        let mut links = self.links.borrow_mut();
        links.retain(|link| !link.spent.get());
        let link = links.iter().min_by_key(|link| link.active.get())?;
        if link.active.get() >= link.send.borrow().current_max_send_streams() {
            return None;
        }
        link.active.set(link.active.get() + 1);
        Some(Lease { link: Rc::clone(link), endpoint: Rc::clone(self) })
    }

    /// Opens one more connection in the background, unless one is being opened or there are enough.
    fn dial(self: &Rc<Self>, timeout: Duration) {
        if self.dialling.get()
            || (self.resting() && self.failures.get() > 0)
            || self.links.borrow().len() >= MAX_CONNECTIONS
        {
            return;
        }
        self.dialling.set(true);
        let endpoint = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let dialled = tokio::time::timeout(timeout, connect(&endpoint.address, endpoint.tls.as_deref())).await;
            endpoint.dialling.set(false);
            match dialled {
                Ok(Ok((send, connection, cork))) => {
                    let link = Rc::new(Link {
                        send: RefCell::new(send),
                        active: Cell::new(0),
                        silent: Cell::new(0),
                        heard: Cell::new(false),
                        spent: Cell::new(false),
                    });
                    endpoint.links.borrow_mut().push(Rc::clone(&link));
                    endpoint.changed.notify_waiters();
                    // Whoever drives must not keep alive: the connection closes when nobody else can open streams on it.
                    let (link, endpoint) = (weaken(link), weaken(endpoint));
                    drive(connection, cork).await;
                    let unheard = link.upgrade().is_some_and(|link| {
                        link.spent.set(true);
                        !link.heard.get()
                    });
                    if let Some(endpoint) = endpoint.upgrade() {
                        if unheard {
                            endpoint.closed_unheard();
                        }
                        endpoint.links.borrow_mut().retain(|link| !link.spent.get());
                        endpoint.changed.notify_waiters();
                    }
                    return;
                }
                Ok(Err(error)) => endpoint.rest(error.to_string()),
                Err(_) => endpoint.rest(format!("no connection within {} ms", timeout.as_millis())),
            }
            endpoint.changed.notify_waiters();
        });
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
}

impl Upstream {
    /// Connections are opened by the first calls, not here.
    #[must_use]
    pub fn new(addresses: Vec<Address>, connect_timeout: Duration, tls: Option<&Arc<ClientTls>>) -> Self {
        let endpoints = addresses
            .into_iter()
            .map(|address| {
                Rc::new(Endpoint {
                    address,
                    tls: tls.map(Arc::clone),
                    links: RefCell::default(),
                    dialling: Cell::new(false),
                    failures: Cell::new(0),
                    unheard: Cell::new(0),
                    rest_until: Cell::new(None),
                    fault: RefCell::default(),
                    changed: Notify::new(),
                })
            })
            .collect();
        Self { endpoints, connect_timeout, reach: Arc::default() }
    }

    /// What this worker knows of whether it can be reached.
    pub fn reach(&self) -> Arc<Reach> {
        Arc::clone(&self.reach)
    }

    fn choose(&self, avoid: Option<&Rc<Endpoint>>) -> Option<&Rc<Endpoint>> {
        match self.endpoints.as_slice() {
            [] => None,
            [only] => Some(only),
            all => {
                let first = fastrand::usize(..all.len());
                let second = (first + 1 + fastrand::usize(..all.len() - 1)) % all.len();
                let better = |a: usize, b: usize| {
                    if all[a].active() <= all[b].active() { a } else { b }
                };
                let shunned = |n: usize| all[n].resting() || avoid.is_some_and(|avoid| Rc::ptr_eq(avoid, &all[n]));
                let picked = match (shunned(first), shunned(second)) {
                    (false, true) => first,
                    (true, false) => second,
                    (false, false) => better(first, second),
                    // Both rest, or have just failed: any other that does not.
                    (true, true) => (0..all.len()).find(|&n| !shunned(n)).unwrap_or(first),
                };
                Some(&all[picked])
            }
        }
    }

    /// A place for a stream, connecting if need be. The caller bounds the wait.
    ///
    /// # Errors
    /// No endpoint can be reached, with the last fault in words.
    pub async fn lease(&self, avoid: Option<&Rc<Endpoint>>) -> Result<Lease, Unreachable> {
        for _ in 0..=self.endpoints.len() {
            let Some(endpoint) = self.choose(avoid) else {
                return Err(Unreachable("the backend has no endpoints".into()));
            };
            loop {
                if let Some(lease) = endpoint.place() {
                    return Ok(lease);
                }
                let changed = endpoint.changed.notified();
                endpoint.dial(self.connect_timeout);
                if !endpoint.dialling.get() && endpoint.links.borrow().is_empty() {
                    break;
                }
                changed.await;
            }
        }
        let resting = self.endpoints.iter().find(|endpoint| endpoint.failures.get() > 0);
        let words = resting.map(|endpoint| format!("{}: {}", endpoint.address, endpoint.fault.borrow()));
        Err(Unreachable(words.unwrap_or_else(|| "no endpoint can be reached".into())))
    }
}

fn weaken<T>(strong: Rc<T>) -> Weak<T> {
    Rc::downgrade(&strong)
}

type Dialled = (SendRequest<Bytes>, Connection<Corked<Socket>, Bytes>, Cork<Socket>);

async fn connect(address: &Address, tls: Option<&ClientTls>) -> io::Result<Dialled> {
    let socket = address.connect(tls).await?;
    if let Some(stream) = socket.tcp() {
        let _ = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(USER_TIMEOUT));
    }
    let (cork, corked) = cork::cork(socket);
    let (send, connection) = cork.run(limits::client().handshake(corked)).await?.map_err(io::Error::other)?;
    Ok((send, connection, cork))
}

/// Keeps the connection going until either side closes it.
async fn drive(mut connection: Connection<Corked<Socket>, Bytes>, cork: Cork<Socket>) {
    std::future::poll_fn(|cx| {
        let polled = std::pin::Pin::new(&mut connection).poll(cx);
        match (cork.poll_drain(cx), polled) {
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(_)) => Poll::Ready(()),
            (_, Poll::Pending) => Poll::Pending,
        }
    })
    .await;
}

/// Whether the peer has certainly not taken the stream up, so that it may be sent again elsewhere.
#[must_use]
pub fn unprocessed(error: &h2::Error) -> bool {
    error.reason() == Some(h2::Reason::REFUSED_STREAM) || (error.is_go_away() && error.is_remote())
}
