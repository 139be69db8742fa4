//! Workers: a thread each, with a runtime of its own, and connections handed to the one with the fewest.

use std::fmt;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection;
use super::socket::{Accepted, Bound, bind};
use crate::forward::transport::tls::{self, Refused, ServerTls};
use crate::forward::transport::{Address, Socket};
use crate::forward::{Gauges, Shared, Worker};
use crate::policy::Peer;
use crate::records::{Counter, Sink};

/// How long the acceptor rests after the system could not give it a socket (too many open files).
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// Tasks polled before the sockets are looked at again: with tokio's 61, a full load of calls was cut into two batches.
const EVENT_INTERVAL: u32 = 128;
/// The part of the grace, one in so many, in which a process that is going still takes whatever comes.
const WELCOME_PART: u32 = 4;
/// How often it looks whether anybody is still there.
const WELCOME_LOOK: Duration = Duration::from_millis(10);
/// How long a worker's thread may take to end once its calls are over or given up.
const THREAD_GRACE: Duration = Duration::from_secs(2);

/// What to run.
pub struct Options {
    /// Where inference listens.
    pub inference: Address,
    /// Threads.
    pub workers: usize,
}

/// The listener could not be set up.
#[derive(Debug)]
pub struct StartError {
    /// Where.
    pub address: String,
    /// Why.
    pub error: std::io::Error,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}: {}", self.address, self.error)
    }
}

impl std::error::Error for StartError {}

/// One worker, from outside its thread.
struct Post {
    sockets: UnboundedSender<Accepted>,
    gauges: Arc<Gauges>,
}

/// A running data plane.
pub struct Server {
    /// The address really bound.
    pub address: String,
    gauges: Vec<Arc<Gauges>>,
    drain: CancellationToken,
    stop: CancellationToken,
    threads: Mutex<Vec<JoinHandle<()>>>,
    ended: Mutex<Receiver<()>>,
}

impl Server {
    /// Binds, and starts a thread for each of `gauges` and `sinks`.
    ///
    /// # Errors
    /// The address cannot be bound, or a thread cannot be started.
    pub fn start(
        options: &Options,
        shared: &Arc<Shared>,
        gauges: &[Arc<Gauges>],
        sinks: &[Arc<Sink>],
    ) -> Result<Self, StartError> {
        let fault = |error| StartError { address: options.inference.to_string(), error };
        let (bound, address) = bind(&options.inference).map_err(fault)?;
        let (drain, stop) = (CancellationToken::new(), CancellationToken::new());
        let (tell, ended) = channel();
        let mut posts = Vec::new();
        let mut inboxes = Vec::new();
        for gauges in gauges {
            let (sockets, inbox) = unbounded_channel();
            posts.push(Post { sockets, gauges: Arc::clone(gauges) });
            inboxes.push(inbox);
        }
        let mut first = Some((bound, posts));
        let mut threads = Vec::new();
        for (number, ((inbox, gauges), sink)) in inboxes.into_iter().zip(gauges).zip(sinks).enumerate() {
            let role = Role {
                shared: Arc::clone(shared),
                gauges: Arc::clone(gauges),
                sink: Arc::clone(sink),
                inbox,
                accepts: first.take(),
                drain: drain.clone(),
                stop: stop.clone(),
                ended: tell.clone(),
            };
            let thread = std::thread::Builder::new().name(format!("dataplane-{number}")).spawn(move || role.run());
            match thread {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    stop.cancel();
                    return Err(fault(error));
                }
            }
        }
        let gauges = gauges.to_vec();
        Ok(Self { address, gauges, drain, stop, threads: Mutex::new(threads), ended: Mutex::new(ended) })
    }

    /// Lets calls under way finish for `grace`, then ends. May be called again, to no effect.
    ///
    /// Callers learn from others that this process is going (its readiness, its endpoint), and they learn it late: as long
    /// as anybody is connected, new calls and connections are welcome for the first part of the grace. Only then does each
    /// connection get its GOAWAY, which refuses nothing that was on its way, and the listener is closed.
    pub fn shutdown(&self, grace: Duration) {
        let until = Instant::now() + grace;
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let welcome = until.checked_sub(grace - grace / WELCOME_PART).unwrap_or(until);
        let connected = || self.gauges.iter().any(|gauges| gauges.connections.load(Relaxed) > 0);
        while !threads.is_empty() && connected() && Instant::now() < welcome {
            std::thread::park_timeout(WELCOME_LOOK);
        }
        self.drain.cancel();
        let wait = |count: usize, until: Instant| {
            (0..count)
                .take_while(|_| {
                    let left = until.saturating_duration_since(Instant::now());
                    !matches!(ended.recv_timeout(left), Err(RecvTimeoutError::Timeout))
                })
                .count()
        };
        let done = wait(threads.len(), until);
        self.stop.cancel();
        let done = done + wait(threads.len() - done, Instant::now() + THREAD_GRACE);
        if done == threads.len() {
            for thread in threads {
                let _ = thread.join();
            }
        }
        // A thread that has not ended by now is left behind: joining it could hang the process's exit.
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Tells that a thread has ended, however it did.
struct Ended(Sender<()>);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

/// What a worker's thread is given.
struct Role {
    shared: Arc<Shared>,
    gauges: Arc<Gauges>,
    sink: Arc<Sink>,
    inbox: UnboundedReceiver<Accepted>,
    accepts: Option<(Bound, Vec<Post>)>,
    drain: CancellationToken,
    stop: CancellationToken,
    ended: Sender<()>,
}

impl Role {
    fn run(self) {
        let _ended = Ended(self.ended.clone());
        // Without a runtime nothing can be served; the other workers go on, and this one's socket is closed.
        let Ok(runtime) = Builder::new_current_thread()
            .enable_all()
            .event_interval(EVENT_INTERVAL)
            .build_local(LocalOptions::default())
        else {
            return;
        };
        runtime.block_on(self.serve());
        runtime.shutdown_background();
    }

    async fn serve(mut self) {
        let worker = Worker::new(Arc::clone(&self.shared), Arc::clone(&self.gauges), Arc::clone(&self.sink));
        worker.keep_up();
        let connections = TaskTracker::new();
        if let Some((bound, posts)) = self.accepts.take() {
            let most = self.shared.listening.connections;
            connections.spawn_local(accept(bound, posts, most, self.drain.clone()));
        }
        let serving = async {
            while let Some(accepted) = self.inbox.recv().await {
                let Ok(socket) = accepted.adopt() else {
                    self.gauges.connections.fetch_sub(1, Relaxed);
                    continue;
                };
                let tls = self.shared.tls.clone();
                let (worker, drain, gauges) = (Rc::clone(&worker), self.drain.clone(), Arc::clone(&self.gauges));
                connections.spawn_local(async move {
                    let opened = match tls {
                        None => Some((socket, None)),
                        Some(tls) => encrypted(&tls, socket, &gauges).await,
                    };
                    if let Some((socket, peer)) = opened {
                        connection::run(worker, socket, peer, drain).await;
                    }
                    gauges.connections.fetch_sub(1, Relaxed);
                });
            }
            // The acceptor is gone, so no socket will come.
            connections.close();
            connections.wait().await;
        };
        tokio::select! {
            () = serving => {}
            () = self.stop.cancelled() => {}
        }
    }
}

/// The handshake, before anything of HTTP/2; nothing comes back for a connection that was refused and counted.
async fn encrypted(tls: &ServerTls, socket: Socket, gauges: &Gauges) -> Option<(Socket, Option<Rc<Peer>>)> {
    let Socket::Tcp(stream) = socket else {
        return Some((socket, None));
    };
    match tls::accept(tls, stream).await {
        Ok((socket, peer)) => Some((socket, Some(Rc::new(peer)))),
        Err(refused) => {
            gauges.counters.add(match refused {
                Refused::PlainText => Counter::PlainText,
                Refused::NoAlpn => Counter::NoAlpn,
                Refused::Certificate => Counter::ClientCertificate,
                Refused::Handshake => Counter::Handshake,
                Refused::Timeout => Counter::HandshakeTimeout,
            });
            None
        }
    }
}

/// Accepts until drained, and hands each socket to the worker with the fewest, up to `most` each.
async fn accept(bound: Bound, posts: Vec<Post>, most: usize, drain: CancellationToken) {
    let Ok(listener) = bound.listen() else { return };
    loop {
        let accepted = tokio::select! {
            // Who has connected already is taken in, also after the last moment.
            biased;
            accepted = listener.accept() => accepted,
            () = drain.cancelled() => return,
        };
        match accepted {
            Ok(accepted) => {
                let Some(post) = posts.iter().min_by_key(|post| post.gauges.connections.load(Relaxed)) else {
                    return;
                };
                if post.gauges.connections.load(Relaxed) >= most {
                    post.gauges.counters.add(Counter::OverloadConnections);
                    continue;
                }
                post.gauges.connections.fetch_add(1, Relaxed);
                let _ = post.sockets.send(accepted);
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}
