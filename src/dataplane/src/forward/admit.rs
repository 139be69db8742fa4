//! What a request must be before it is a call: gRPC, and one for which there is room.

use std::time::Instant;

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, request};

use super::caller::{Caller, Gone, Incoming};
use super::deadline;
use super::model;
use super::status::{INTERNAL, INVALID_ARGUMENT, PERMISSION_DENIED, RESOURCE_EXHAUSTED, Status};
use super::transport::limits;
use super::worker::Worker;
use crate::policy::{Allow, Peer};
use crate::records::{Arrival, Counter};

/// Services that the control plane answers, by the beginning of their paths.
const CONTROL: [&str; 3] = ["/gateway.v1.", "/grpc.health.v1.Health/", "/grpc.reflection."];
/// What is said to whom does not speak gRPC.
const WORDS: &str = "This port speaks gRPC: POST over HTTP/2 with content-type application/grpc.\n";

/// Why a request is no call.
pub enum Refusal {
    /// It is not gRPC.
    Http(StatusCode),
    /// It is, and is at fault.
    Grpc(Status),
}

/// Whether the control plane answers this path.
#[must_use]
pub fn is_control(path: &str) -> bool {
    CONTROL.iter().any(|prefix| path.starts_with(prefix))
}

/// Whether a call goes on when the worker is full: who asks for health, or steers, must get through.
#[must_use]
pub fn is_exempt(path: &str) -> bool {
    is_control(path)
        || model::oip_method(path).is_some_and(|method| model::asks_server(method) || method == "ModelReady")
}

/// When the caller gives up, if the request is a gRPC call.
///
/// # Errors
/// [`Refusal`].
pub fn check(head: &request::Parts, arrival: &Arrival) -> Result<Option<Instant>, Refusal> {
    if head.method != Method::POST {
        return Err(Refusal::Http(StatusCode::METHOD_NOT_ALLOWED));
    }
    let kind = head.headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    if !kind.starts_with(b"application/grpc") {
        return Err(Refusal::Http(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    // `h2` lets no other value than `trailers` in.
    if !head.headers.contains_key(header::TE) {
        let words = "the request lacks `te: trailers`: a proxy on its way drops it, and would drop the answer's status";
        return Err(Refusal::Grpc(Status::new(INTERNAL, words)));
    }
    match head.headers.get(deadline::GRPC_TIMEOUT).map(deadline::parse) {
        None => Ok(None),
        Some(Ok(timeout)) => Ok(Some(arrival.at + timeout)),
        Some(Err(words)) => Err(Refusal::Grpc(Status::new(INVALID_ARGUMENT, words))),
    }
}

/// What is said when there is no room.
#[must_use]
pub fn full() -> Refusal {
    let words = "the gateway has all the calls under way that it may have (listen.limits.calls)";
    Refusal::Grpc(Status::new(RESOURCE_EXHAUSTED, words))
}

/// What is said to whom the allow-list does not name.
#[must_use]
pub fn not_allowed(peer: Option<&Peer>) -> Refusal {
    Refusal::Grpc(Status::new(PERMISSION_DENIED, Allow::refusal(peer)))
}

/// Ends what is not a call.
pub async fn refuse(worker: &Worker, incoming: Incoming, refusal: Refusal) {
    let Incoming { head, body, mut caller, arrival, .. } = incoming;
    let ended = match refusal {
        Refusal::Grpc(status) => caller.fail(&status, HeaderMap::new()),
        Refusal::Http(status) => refuse_http(&mut caller, body, status, head.method == Method::HEAD).await,
    };
    if let Err(Gone) = ended {
        worker.count(Counter::Cancelled);
    }
    caller.ended(ended, &arrival, None);
}

/// What is not gRPC is answered when it has ended, so that its frames are judged as a request's.
async fn refuse_http(
    caller: &mut Caller,
    mut body: RecvStream,
    status: StatusCode,
    head_alone: bool,
) -> Result<(), Gone> {
    let reading = async {
        let mut left = limits::REFUSED_BYTES;
        while let Some(chunk) = body.data().await {
            let len = chunk.map_err(|_| Gone)?.len();
            let _ = body.flow_control().release_capacity(len);
            left = left.saturating_sub(len);
            if left == 0 {
                return Ok(());
            }
        }
        body.trailers().await.map(|_| ()).map_err(|_| Gone)
    };
    // Who takes too long is answered all the same.
    tokio::time::timeout(limits::REFUSED_WAIT, reading).await.unwrap_or(Ok(()))?;
    let mut answer = Response::new(());
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
    }
    caller.open(answer, head_alone)?;
    if head_alone { Ok(()) } else { caller.data(Bytes::from_static(WORDS.as_bytes()), true) }
}
