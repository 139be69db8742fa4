//! One HTTP/2 connection of a caller, from its preface to its end.

use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::keeper;
use crate::forward::transport::watch::{Excess, Watch};
use crate::forward::transport::{Close, Conduct, Cork, Socket, cork, limits};
use crate::forward::{Caller, Incoming, Worker, serve};
use crate::policy::Peer;
use crate::records::{Arrival, Counter};

/// Serves a connection. Once `drain` is called off it takes no new calls, and ends with the last one under way.
pub async fn run(worker: Rc<Worker>, socket: Socket, peer: Option<Rc<Peer>>, drain: CancellationToken) {
    let listening = worker.shared.listening;
    let from = socket.tcp().and_then(|stream| stream.peer_addr().ok()).map(|address| address.ip());
    let (cork, corked) = cork::watched(socket, Watch::caller(listening.pings()));
    let handshake = cork.run(limits::server(&listening).handshake::<_, bytes::Bytes>(corked));
    let handshake = tokio::time::timeout(Duration::from_millis(listening.handshake_ms), handshake).await;
    let mut connection = match handshake {
        Ok(Ok(Ok(connection))) => connection,
        Ok(Ok(Err(error))) => {
            // Who came and went said nothing wrong: a probe of the port.
            if !error.is_io() || cork.progress().read > 0 {
                worker.count(Counter::ConnectionHandshake);
                cork.go_away(h2::Reason::PROTOCOL_ERROR, "HTTP/2 with prior knowledge is wanted");
            }
            return cork.linger().await;
        }
        Ok(Err(_)) => return,
        Err(_) => return worker.count(Counter::ConnectionHandshake),
    };
    let conduct = Rc::new(Conduct::of(from));
    let keeper = tokio::task::spawn_local(keeper::run(Rc::clone(&conduct), cork.clone(), listening));
    let keeper = AbortOnDropHandle::new(keeper);
    let mut draining = std::pin::pin!(drain.cancelled());
    let (mut going, mut ended) = (true, false);
    let close = std::future::poll_fn(|cx| {
        if let Some(close) = conduct.closing(cx) {
            return Poll::Ready(Some(close));
        }
        if going && draining.as_mut().poll(cx).is_ready() {
            going = false;
            connection.graceful_shutdown();
        }
        // Calls that one poll finds came with the same bytes: one reading of the clocks is theirs.
        let mut arrived = None;
        while !ended {
            match connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    let (head, body) = request.into_parts();
                    let arrival = *arrived.get_or_insert_with(Arrival::now);
                    let caller = Caller::new(respond, Rc::clone(&conduct));
                    let incoming = Incoming { head, body, caller, arrival, peer: peer.clone() };
                    // Boxed, since making a task moves its future five times over; and written where it stays.
                    let call = Box::write(Box::new_uninit(), serve(Rc::clone(&worker), incoming));
                    tokio::task::spawn_local(Box::into_pin(call));
                }
                // A peer that broke the protocol; the GOAWAY of `h2` is in the cork already.
                Poll::Ready(Some(Err(error))) => {
                    ended = true;
                    if error.is_go_away() && error.is_library() {
                        worker.count(Counter::ConnectionProtocol);
                    }
                }
                Poll::Ready(None) => ended = true,
                Poll::Pending => break,
            }
        }
        match cork.poll_drain(cx) {
            Poll::Ready(Err(_)) => Poll::Ready(None),
            Poll::Ready(Ok(())) => {
                // Large frames go past the cork: it may hold nothing, and `h2` wait for the socket.
                conduct.choke(cork.is_refused());
                if ended { Poll::Ready(cork.excess().map(Close::Calm)) } else { Poll::Pending }
            }
            Poll::Pending => {
                conduct.choke(true);
                Poll::Pending
            }
        }
    })
    .await;
    drop(keeper);
    // Calls under way learn of the end here, and let go of what they hold.
    drop(connection);
    conduct.choke(false);
    if let Some(counter) = close.map(counter) {
        worker.count(counter);
    }
    end(cork, close).await;
}

fn counter(close: Close) -> Counter {
    match close {
        Close::Calm(Excess::Pings) => Counter::ConnectionPings,
        // A caller's metadata are bounded otherwise.
        Close::Calm(Excess::Control | Excess::Metadata) => Counter::ConnectionControl,
        Close::Calm(Excess::Resets) => Counter::ConnectionResets,
        Close::Silent => Counter::ConnectionSilent,
        Close::Stalled | Close::Unfinished => Counter::ConnectionStalled,
    }
}

async fn end(cork: Cork<Socket>, close: Option<Close>) {
    match close {
        // Nobody listens.
        Some(Close::Silent | Close::Stalled) => return,
        Some(Close::Calm(excess @ Excess::Resets)) => {
            cork.go_away(h2::Reason::ENHANCE_YOUR_CALM, excess.words());
        }
        Some(Close::Unfinished) => cork.go_away(h2::Reason::ENHANCE_YOUR_CALM, "unfinished_headers"),
        // The cork has said it.
        Some(Close::Calm(Excess::Pings | Excess::Control | Excess::Metadata)) | None => {}
    }
    cork.linger().await;
}
