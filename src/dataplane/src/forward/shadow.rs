//! Sends a copy of an answered call to a shadow, and compares what comes back with what the caller got.
//!
//! The copy is made of the call's own bytes, by reference; it has its own connections, caps and time, and nobody waits for
//! it. It goes out whole or not at all.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderValue;
use smallvec::SmallVec;

use super::append::Append;
use super::asked;
use super::attempt::{AskBody, Hold, ask};
use super::caller::Caller;
use super::decide::Decide;
use super::exchange::{Alarm, Fault, Outbound, Target};
use super::message::{Frames, GRPC_ENCODING, Message};
use super::metadata::{EXPLAIN, NO_REVIEW, SHADOW};
use super::status::OK;
use super::worker::{Plan, Worker};
use crate::mirror::{Full, Ticket, compare};
use crate::policy::{BackendIx, Decision, Label, Reading, RouteIx};
use crate::records::{self, Counter, NONE_U16};

/// A copy on its way.
struct Copy {
    worker: Rc<Worker>,
    plan: Rc<Plan>,
    outbound: Outbound,
    frames: Frames,
    timeout: Duration,
    route: RouteIx,
    backend: BackendIx,
    to: BackendIx,
    id: [u8; 16],
    time: records::Arrival,
    /// What the caller got, row by row.
    rows: SmallVec<[(Option<Label>, f64); 1]>,
    _ticket: Ticket,
}

/// Sends a copy to the route's mirror at `position`, or counts why not.
pub fn send(call: &Decide<'_, '_, '_>, decision: &Decision, position: usize) {
    let (plan, worker) = (&call.call.plan, call.call.worker);
    let Some(mirror) = call.route.mirror.get(position) else {
        return;
    };
    let (Some(model), Some(_)) = (plan.policy().backend(mirror.to).as_model(), plan.shadow(mirror.to)) else {
        return;
    };
    let suffix = call.asked.address(model);
    let (frames, inflated) = if call.message.whole {
        call.message.with(&suffix)
    } else if let Some(chunks) = call.upload.chunks().filter(|_| call.upload.is_ended()) {
        (appended(chunks, suffix), false)
    } else {
        return worker.count(Counter::MirrorReplay);
    };
    let bytes = frames.iter().map(Bytes::len).sum::<usize>() as u64;
    let gauge = &plan.snapshot.shadows[usize::from(decision.route)][position];
    let ticket = match gauge.admit(bytes, mirror.max_in_flight, mirror.max_bytes) {
        Ok(ticket) => ticket,
        Err(Full::InFlight) => return worker.count(Counter::MirrorInFlight),
        Err(Full::Bytes) => return worker.count(Counter::MirrorBytes),
    };
    let mut headers = call.call.outbound.headers.clone();
    headers.insert(SHADOW, HeaderValue::from_static("1"));
    headers.remove(NO_REVIEW);
    headers.remove(EXPLAIN);
    if inflated {
        headers.remove(GRPC_ENCODING);
    }
    let Some(worker) = worker.handle() else {
        return;
    };
    let copy = Copy {
        worker,
        plan: Rc::clone(plan),
        outbound: Outbound { uri: call.call.outbound.uri.clone(), headers, trace: call.call.outbound.trace },
        frames,
        timeout: mirror.timeout,
        route: decision.route,
        backend: decision.backend.unwrap_or(NONE_U16),
        to: mirror.to,
        id: call.journal.id,
        time: call.journal.arrival,
        rows: decision.rows.iter().map(|row| (row.label.clone(), row.score)).collect(),
        _ticket: ticket,
    };
    tokio::task::spawn_local(copy.run());
}

fn appended(chunks: Vec<Bytes>, suffix: Vec<u8>) -> Frames {
    if suffix.is_empty() {
        return chunks.into();
    }
    let (mut append, mut out) = (Append::new(suffix.into()), VecDeque::new());
    chunks.into_iter().for_each(|chunk| append.feed(chunk, &mut out));
    out.into_iter().collect()
}

impl Copy {
    async fn run(self) {
        let compared = self.ask().await;
        let failed = match &compared {
            Ok(readings) if readings.len() == self.rows.len() => false,
            Err(Fault::Deadline) => {
                self.worker.count(Counter::MirrorTimeout);
                true
            }
            Ok(_) | Err(_) => {
                self.worker.count(Counter::MirrorError);
                true
            }
        };
        let readings = compared.unwrap_or_default();
        let id = u128::from_be_bytes(self.id);
        #[allow(clippy::cast_possible_truncation)] // halves of an id
        let base = records::Mirror {
            time_us: self.time.unix_us_at(Instant::now()),
            policy: self.plan.policy().version(),
            route: self.route,
            backend: self.backend,
            to: self.to,
            result: u8::from(failed),
            agree: 255,
            difference: f64::NAN,
            id_hi: (id >> 64) as u64,
            id_lo: id as u64,
            row: 0,
        };
        let rows = if failed { 1 } else { readings.len() };
        let limits = self.worker.sink.limits;
        self.worker.sink.write(&self.worker.shared.bell, |batch| {
            if batch.mirrors.row.len() + rows > limits.rows {
                return self.worker.count(Counter::RecordsFull);
            }
            if failed {
                batch.mirrors.push(&base);
                return;
            }
            for ((reading, (label, score)), row) in readings.iter().zip(&self.rows).zip(0_u32..) {
                let compared = compare((label.as_ref(), *score), (reading.label.as_ref(), reading.score));
                batch.mirrors.push(&records::Mirror {
                    agree: compared.agree,
                    difference: compared.difference,
                    row,
                    ..base
                });
            }
        });
    }

    /// The shadow's readings, row by row.
    async fn ask(&self) -> Result<Vec<Reading>, Fault> {
        let unreachable = || Fault::Unreachable("the shadow is no model server".into());
        let upstream = self.plan.shadow(self.to).ok_or_else(unreachable)?;
        let mut alarm = Alarm::new(Some(Instant::now() + self.timeout));
        let span = fastrand::u64(1..);
        let head = |left| self.outbound.head(left, span);
        let limits = self.plan.policy().limits();
        let mut nobody = Caller::nobody();
        let body = AskBody::Whole(&self.frames);
        let hold = Hold::whole(limits.answer_bytes);
        let target = Target { worker: &self.worker, upstream, started: None };
        let answer = ask(target, &mut nobody, &mut alarm, head, body, hold).await?.whole()?;
        let route = self.plan.policy().route_at(self.route);
        let Some(spec) = &route.prediction else {
            return Ok(Vec::new());
        };
        if answer.status.code == super::status::DEADLINE_EXCEEDED {
            return Err(Fault::Deadline);
        }
        let unread = |words: String| Fault::Unreachable(words);
        if answer.status.code != OK {
            return Err(unread(answer.status.message.into_owned()));
        }
        let message = Message::read(answer.framed, true, &answer.headers, limits.answer_bytes);
        let message = message.map_err(|status| unread(status.message.into_owned()))?;
        let mut scratch = self.worker.predictions.borrow_mut();
        asked::read(route, &message.plain, limits.max_rows, &mut scratch)
            .map_err(|invalid| unread(invalid.to_string()))?;
        let measure = route.confidence.as_ref().map(|confidence| confidence.measure);
        Ok((0..scratch.rows).map(|row| Reading::of_row(spec, measure, false, &scratch, row)).collect())
    }
}
