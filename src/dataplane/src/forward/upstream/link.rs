//! One connection to an endpoint: opened, driven, and watched for a peer that has vanished.
//!
//! A connection that nothing moves on is watched by the system (TCP keepalive): gRPC servers take HTTP/2 pings without calls for
//! an attack (`too_many_pings`). A ping is sent where calls wait in silence or have run out of time, and not again before the
//! peer has answered something, or five minutes have passed, which is what those servers allow.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Weak;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use h2::{Ping, PingPong};
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::forward::transport::tls::ClientTls;
use crate::forward::transport::{Address, Cork, Corked, Socket, cork, limits};

/// How long the system tries to deliver to a peer that has vanished.
const USER_TIMEOUT: Duration = Duration::from_secs(20);
/// The system asks a peer that has been still for so long whether it is there; so often; and gives up after so many.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(10);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(3);
const KEEPALIVE_TIMES: u32 = 3;
/// How often a connection is looked at.
const TICK: Duration = Duration::from_secs(1);
/// Ticks that calls wait without any of them being answered, before a ping.
const QUIET_TICKS: u32 = 10;
/// Ticks after a ping: no more calls; and the end.
const RETIRE_TICKS: u32 = 2;
const LOST_TICKS: u32 = 10;
/// Ticks before another ping to a peer that answers nothing else.
const REPEAT_TICKS: u32 = 300;

/// A connection, as calls see it.
pub struct Link {
    pub send: RefCell<SendRequest<Bytes>>,
    pub active: Cell<usize>,
    /// Calls in a row that ran out of time.
    pub silent: Cell<u32>,
    /// Whether it ever answered anything.
    pub heard: Cell<bool>,
    /// Whether it answered anything since it was last looked at.
    pub lively: Cell<bool>,
    /// Whether a call was given up unanswered since then, and nothing was answered after it.
    pub suspect: Cell<bool>,
    /// No new streams: closed, told to go away, or silent.
    pub spent: Cell<bool>,
}

impl Link {
    pub fn new(send: SendRequest<Bytes>) -> Self {
        Self {
            send: RefCell::new(send),
            active: Cell::new(0),
            silent: Cell::new(0),
            heard: Cell::new(false),
            lively: Cell::new(false),
            suspect: Cell::new(false),
            spent: Cell::new(false),
        }
    }
}

/// A connection that stands, before anybody uses it.
pub struct Dialled {
    pub send: SendRequest<Bytes>,
    connection: Connection<Corked<Socket>, Bytes>,
    cork: Cork<Socket>,
}

/// Opens a connection.
pub async fn connect(address: &Address, host: &str, tls: Option<&ClientTls>) -> io::Result<Dialled> {
    let socket = address.connect(host, tls).await?;
    if let Some(stream) = socket.tcp() {
        let stream = socket2::SockRef::from(stream);
        let keepalive = socket2::TcpKeepalive::new()
            .with_time(KEEPALIVE_AFTER)
            .with_interval(KEEPALIVE_EVERY)
            .with_retries(KEEPALIVE_TIMES);
        // What the system will not do is what the deadlines of calls are for.
        let _ = stream.set_tcp_user_timeout(Some(USER_TIMEOUT));
        let _ = stream.set_tcp_keepalive(&keepalive);
    }
    let (cork, corked) = cork::cork(socket);
    let (send, connection) = cork.run(limits::client().handshake(corked)).await?.map_err(io::Error::other)?;
    Ok(Dialled { send, connection, cork })
}

/// Keeps the connection going until either side closes it, or its peer is found to have vanished. Whoever drives must not
/// keep the link alive: the connection closes when nobody else can open streams on it.
pub async fn drive(dialled: Dialled, link: &Weak<Link>, retire: impl Fn()) {
    let Dialled { send, mut connection, cork } = dialled;
    drop(send);
    let mut watch = connection.ping_pong().map(Keepalive::new);
    std::future::poll_fn(|cx| {
        if let Some(watch) = &mut watch
            && watch.poll(cx, link, &retire).is_ready()
        {
            return Poll::Ready(());
        }
        let polled = std::pin::Pin::new(&mut connection).poll(cx);
        match (cork.poll_drain(cx), polled) {
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(_)) => Poll::Ready(()),
            (_, Poll::Pending) => Poll::Pending,
        }
    })
    .await;
}

/// What is known of a peer's life. Pure but for the ping: counts ticks.
#[derive(Debug, Default, PartialEq, Eq)]
struct Pulse {
    /// Ticks that calls have waited in silence.
    quiet: u32,
    /// Ticks since a ping that was not answered.
    waiting: Option<u32>,
    /// Ticks until another ping is welcome where the peer says nothing.
    resting: u32,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
enum Act {
    Nothing,
    Ping,
    Retire,
    Close,
}

impl Pulse {
    /// A tick has passed; what happened in it.
    fn tick(&mut self, calls: bool, lively: bool, suspect: bool) -> Act {
        if lively {
            *self = Self { waiting: self.waiting, ..Self::default() };
        }
        if let Some(ticks) = &mut self.waiting {
            *ticks += 1;
            return match *ticks {
                RETIRE_TICKS => Act::Retire,
                LOST_TICKS.. => Act::Close,
                _ => Act::Nothing,
            };
        }
        self.resting = self.resting.saturating_sub(1);
        self.quiet = if calls && !lively { self.quiet + 1 } else { 0 };
        if self.resting == 0 && (suspect || self.quiet >= QUIET_TICKS) {
            *self = Self { quiet: 0, waiting: Some(0), resting: REPEAT_TICKS };
            return Act::Ping;
        }
        Act::Nothing
    }

    /// The ping came back.
    fn pong(&mut self) {
        self.waiting = None;
    }
}

struct Keepalive {
    pings: PingPong,
    pulse: Pulse,
    ticks: Interval,
}

impl Keepalive {
    fn new(pings: PingPong) -> Self {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { pings, pulse: Pulse::default(), ticks }
    }

    /// Ready when the peer has vanished.
    fn poll(&mut self, cx: &mut Context<'_>, link: &Weak<Link>, retire: impl Fn()) -> Poll<()> {
        if self.pulse.waiting.is_some() && self.pings.poll_pong(cx).is_ready() {
            self.pulse.pong();
        }
        while self.ticks.poll_tick(cx).is_ready() {
            let Some(link) = link.upgrade() else { continue };
            match self.pulse.tick(link.active.get() > 0, link.lively.take(), link.suspect.take()) {
                Act::Nothing => {}
                Act::Ping => {
                    if self.pings.send_ping(Ping::opaque()).is_err() || self.pings.poll_pong(cx).is_ready() {
                        self.pulse.pong();
                    }
                }
                Act::Retire => retire(),
                Act::Close => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(pulse: &mut Pulse, times: u32, calls: bool, lively: bool) -> Vec<Act> {
        (0..times).map(|_| pulse.tick(calls, lively, false)).filter(|act| *act != Act::Nothing).collect()
    }

    #[test]
    fn a_quiet_connection_without_calls_is_never_pinged() {
        assert_eq!(ticks(&mut Pulse::default(), 10_000, false, false), []);
    }

    #[test]
    fn one_that_answers_is_never_pinged() {
        assert_eq!(ticks(&mut Pulse::default(), 10_000, true, true), []);
    }

    #[test]
    fn calls_that_wait_in_silence_are_asked_after_and_a_peer_that_does_not_answer_is_given_up() {
        assert_eq!(ticks(&mut Pulse::default(), 20, true, false), [Act::Ping, Act::Retire, Act::Close]);
    }

    #[test]
    fn a_call_that_ran_out_of_time_asks_at_once() {
        assert_eq!(Pulse::default().tick(false, false, true), Act::Ping);
    }

    /// gRPC servers count pings without answers between them, and close the connection at the third in five minutes.
    #[test]
    fn a_peer_that_only_pongs_is_not_pinged_again_for_five_minutes() {
        let mut pulse = Pulse::default();
        assert_eq!(pulse.tick(true, false, true), Act::Ping);
        pulse.pong();
        assert_eq!(ticks(&mut pulse, REPEAT_TICKS - 1, true, false), []);
        assert_eq!(ticks(&mut pulse, 2, true, false), [Act::Ping]);
        pulse.pong();
        assert_eq!(ticks(&mut pulse, 1, true, true), []);
        assert_eq!(pulse.tick(true, false, true), Act::Ping);
    }
}
