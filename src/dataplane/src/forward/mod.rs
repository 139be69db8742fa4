//! A call's life: whom it goes to, attempts within one deadline, fallback, answer.
//!
//! In: an HTTP/2 stream that the listener accepted. Out: bytes to backends and back, the answer with its trailers, a row
//! for the records. Never: Python, a lock across an await, memory without a limit, or bytes read that no route needs.

mod admit;
mod answer;
mod apart;
pub mod append;
mod asked;
mod attempt;
mod caller;
mod certificates;
mod circuit;
mod compression;
mod deadline;
mod decide;
mod described;
mod exchange;
mod guard;
mod handover;
mod hedge;
mod infer;
mod inflow;
mod journal;
mod marks;
mod message;
mod metadata;
mod model;
mod outside;
mod plain;
mod quantile;
mod resolve;
mod retry;
mod routed;
mod shadow;
mod snapshot;
mod started;
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

use h2::RecvStream;

pub use caller::{Caller, Incoming};
pub use certificates::{Place, Reloaded, in_use as certificates_in_use, reload as reload_certificates};
pub use snapshot::Snapshot;
pub use worker::{Gauges, Shared, Worker};

use caller::Gone;
use exchange::Outbound;
use trace::Trace;

use crate::records::Counter;
use crate::wire::oip::method;

/// Counts a call while it is under way.
struct Under<'a>(&'a Gauges);

impl Drop for Under<'_> {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Relaxed);
    }
}

/// Serves one call to its end.
pub async fn serve(worker: Rc<Worker>, incoming: Incoming) {
    let full = worker.gauges.calls.fetch_add(1, Relaxed) >= worker.shared.listening.calls;
    let under = Under(&worker.gauges);
    let until = match admit::check(&incoming.head, &incoming.arrival) {
        Ok(_) if full && !admit::is_exempt(incoming.head.uri.path()) => {
            worker.count(Counter::OverloadCalls);
            return Box::pin(admit::refuse(&worker, incoming, admit::full())).await;
        }
        Ok(until) => until,
        Err(refusal) => return Box::pin(admit::refuse(&worker, incoming, refusal)).await,
    };
    let plan = worker.plan();
    if let Some(allow) = plan.policy().allow()
        && !allow.admits(incoming.peer.as_deref())
    {
        worker.count(Counter::NotAllowed);
        let refusal = admit::not_allowed(incoming.peer.as_deref());
        return Box::pin(admit::refuse(&worker, incoming, refusal)).await;
    }
    let Incoming { head, body, mut caller, arrival, peer } = incoming;
    let trace = Trace::of(&head.headers, plan.policy().trace_share());
    let mut headers = head.headers;
    metadata::admit(&mut headers);
    if peer.is_some() {
        // Who calls was shown by a certificate, or by nothing: no other word for it goes on.
        headers.remove(metadata::CLIENT_CERTIFICATE);
    }
    let outbound = Outbound { uri: head.uri, headers, trace };
    let call = plain::Plain { worker: &worker, plan, outbound, arrival, peer, until, waited: Cell::default() };
    let ended = if call.outbound.uri.path() == method::MODEL_INFER {
        // Written where it stays: `Box::pin` makes its 4 KB on the stack and copies them.
        Box::into_pin(Box::write(Box::new_uninit(), call.infer(&mut caller, body))).await
    } else {
        Box::pin(others(&call, &mut caller, body)).await
    };
    if let Err(Gone) = ended {
        worker.count(Counter::Cancelled);
    }
    caller.ended(ended, &call.arrival, until);
    drop(under);
}

/// What no route reads.
async fn others(call: &plain::Plain<'_>, caller: &mut Caller, body: RecvStream) -> Result<(), Gone> {
    let path = call.outbound.uri.path();
    if admit::is_control(path) {
        return Box::pin(call.control(caller, body)).await;
    }
    if let Some(method) = model::oip_method(path) {
        if model::names_model(method) {
            return Box::pin(call.about_model(caller, body, method)).await;
        }
        if model::asks_server(method) {
            return Box::pin(call.about_server(caller, body, method)).await;
        }
    }
    if call.plan.policy().described(path).is_some() {
        return Box::into_pin(Box::write(Box::new_uninit(), call.described(caller, body))).await;
    }
    let route = call.plan.policy().route(path, None, &metadata::Seen(&call.outbound.headers));
    match route {
        Some(route) => call.routed(caller, body, route).await,
        None => call.untouched(caller, body).await,
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
