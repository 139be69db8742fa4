//! A call's life: whom it goes to, attempts within one deadline, fallback, answer.
//!
//! In: an HTTP/2 stream that the listener accepted. Out: bytes to backends and back, the answer with its trailers, a row
//! for the records. Never: Python, a lock across an await, memory without a limit, or bytes read that no route needs.

mod answer;
mod append;
mod asked;
mod attempt;
mod caller;
mod certificates;
mod compression;
mod deadline;
mod decide;
mod described;
mod exchange;
mod handover;
mod infer;
mod journal;
mod marks;
mod message;
mod metadata;
mod model;
mod plain;
mod routed;
mod shadow;
mod status;
mod through;
mod trace;
pub mod transport;
mod upload;
mod upstream;
mod worker;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use http::{Method, StatusCode, header};

pub use caller::{Caller, Incoming};
pub use certificates::{Place, Reloaded, in_use as certificates_in_use, reload as reload_certificates};
pub use worker::{Gauges, Shared, Snapshot, Worker};

use caller::Gone;
use exchange::Outbound;
use status::{INVALID_ARGUMENT, PERMISSION_DENIED, Status};
use trace::Trace;

use crate::policy::Allow;
use crate::wire::oip::method;

/// Services that the control plane answers, by the beginning of their paths.
const CONTROL: [&str; 3] = ["/gateway.v1.", "/grpc.health.v1.Health/", "/grpc.reflection."];

/// Counts a call while it is under way.
struct Under<'a>(&'a Gauges);

impl Drop for Under<'_> {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Relaxed);
    }
}

/// Serves one call to its end.
pub async fn serve(worker: Rc<Worker>, incoming: Incoming) {
    worker.gauges.calls.fetch_add(1, Relaxed);
    let under = Under(&worker.gauges);
    if let Err(Gone) = dispatch(&worker, incoming).await {
        worker.count(crate::records::Counter::Cancelled);
    }
    drop(under);
}

async fn dispatch(worker: &Worker, incoming: Incoming) -> Result<(), Gone> {
    let Incoming { head, body, mut caller, arrival, peer } = incoming;
    if head.method != Method::POST {
        return caller.refuse(StatusCode::METHOD_NOT_ALLOWED);
    }
    let kind = head.headers.get(header::CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
    if !kind.starts_with(b"application/grpc") {
        return caller.refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    let plan = worker.plan();
    if let Some(allow) = plan.policy().allow()
        && !allow.admits(peer.as_deref())
    {
        worker.count(crate::records::Counter::NotAllowed);
        let status = Status::new(PERMISSION_DENIED, Allow::refusal(peer.as_deref()));
        return caller.fail(&status, http::HeaderMap::new());
    }
    let until = match head.headers.get(deadline::GRPC_TIMEOUT).map(deadline::parse) {
        None => None,
        Some(Ok(timeout)) => Some(arrival.at + timeout),
        Some(Err(words)) => {
            return caller.fail(&Status::new(INVALID_ARGUMENT, words), http::HeaderMap::new());
        }
    };
    let trace = Trace::of(&head.headers, plan.policy().trace_share());
    let mut headers = head.headers;
    metadata::admit(&mut headers);
    if peer.is_some() {
        // Who calls was shown by a certificate, or by nothing: no other word for it goes on.
        headers.remove(metadata::CLIENT_CERTIFICATE);
    }
    let outbound = Outbound { uri: head.uri, headers, trace };
    let call = plain::Plain { worker, plan, outbound, arrival, peer, until, waited: Cell::default() };
    let path = call.outbound.uri.path();
    if path == method::MODEL_INFER {
        // Written where it stays: `Box::pin` makes its 4 KB on the stack and copies them.
        return Box::into_pin(Box::write(Box::new_uninit(), call.infer(&mut caller, body))).await;
    }
    if CONTROL.iter().any(|prefix| path.starts_with(prefix)) {
        return Box::pin(call.control(&mut caller, body)).await;
    }
    if let Some(method) = model::oip_method(path) {
        if model::names_model(method) {
            return Box::pin(call.about_model(&mut caller, body, method)).await;
        }
        if model::asks_server(method) {
            return Box::pin(call.about_server(&mut caller, body, method)).await;
        }
    }
    if call.plan.policy().described(path).is_some() {
        return Box::into_pin(Box::write(Box::new_uninit(), call.described(&mut caller, body))).await;
    }
    let route = call.plan.policy().route(path, None, &metadata::Seen(&call.outbound.headers));
    match route {
        Some(route) => Box::pin(call.routed(&mut caller, body, route)).await,
        None => Box::pin(call.untouched(&mut caller, body)).await,
    }
}

/// The earlier of two points in time, where there are any.
fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<A, B, F>(_: impl Fn(A, B) -> F) -> usize {
        size_of::<F>()
    }

    /// A future is moved when its task is made: at 8 KB that was a seventh of a call's time.
    #[test]
    fn a_calls_task_is_small() {
        assert!(size(serve) <= 1536, "{}", size(serve));
    }
}
