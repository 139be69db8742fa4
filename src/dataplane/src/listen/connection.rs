//! One HTTP/2 connection of a caller, from its preface to its end.

use std::rc::Rc;
use std::task::Poll;

use tokio_util::sync::CancellationToken;

use crate::forward::transport::{Socket, cork, limits};
use crate::forward::{Caller, Incoming, Worker, serve};
use crate::policy::Peer;
use crate::records::Arrival;

/// How long a peer may take to say that it speaks HTTP/2.
const HANDSHAKE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

/// Serves a connection. Once `drain` is called off it takes no new calls, and ends with the last one under way.
pub async fn run(worker: Rc<Worker>, socket: Socket, peer: Option<Rc<Peer>>, drain: CancellationToken) {
    let (cork, corked) = cork::cork(socket);
    let server = limits::server();
    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, cork.run(server.handshake::<_, bytes::Bytes>(corked)));
    let Ok(Ok(Ok(mut connection))) = handshake.await else {
        return;
    };
    let mut draining = std::pin::pin!(drain.cancelled());
    let (mut going, mut ended) = (true, false);
    std::future::poll_fn(|cx| {
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
                    let peer = peer.clone();
                    let incoming = Incoming { head, body, caller: Caller::new(respond), arrival, peer };
                    // Boxed, since making a task moves its future five times over; and written where it stays.
                    let call = Box::write(Box::new_uninit(), serve(Rc::clone(&worker), incoming));
                    tokio::task::spawn_local(Box::into_pin(call));
                }
                // Closed, or a peer that broke the protocol; its GOAWAY is in the cork already.
                Poll::Ready(Some(Err(_)) | None) => ended = true,
                Poll::Pending => break,
            }
        }
        match cork.poll_drain(cx) {
            Poll::Ready(Err(_)) => Poll::Ready(()),
            Poll::Ready(Ok(())) if ended => Poll::Ready(()),
            _ => Poll::Pending,
        }
    })
    .await;
}
