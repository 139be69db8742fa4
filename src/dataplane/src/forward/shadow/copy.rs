//! A copy's way to its shadow, and its answer's way back: counted byte by byte, given up when its time is over.

use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use smallvec::SmallVec;

use super::super::asked;
use super::super::caller::Caller;
use super::super::exchange::{Alarm, Body, Fault, Opened, Outbound, Target, open, watched};
use super::super::message::{Frames, Message};
use super::super::status::{self, DEADLINE_EXCEEDED, OK, Status};
use super::super::through::not_grpc;
use super::told::Told;
use crate::mirror::Ticket;
use crate::policy::{BackendIx, Reading};
use crate::records::Counter;

/// A copy on its way.
pub struct Copy {
    pub told: Rc<Told>,
    pub outbound: Outbound,
    pub frames: Frames,
    /// Of the mirror, in its route.
    pub position: u16,
    /// Who gets it.
    pub to: BackendIx,
    /// Whether that is the primary's twin.
    pub noise: bool,
    /// What all of the mirror's copies and their answers may hold.
    pub max_bytes: u64,
    pub ticket: Ticket,
}

/// Why there is nothing to compare: what it is counted as.
struct Lost(Counter);

impl From<Fault> for Lost {
    fn from(fault: Fault) -> Self {
        Self(match fault {
            Fault::Deadline => Counter::MirrorTimeout,
            _ => Counter::MirrorError,
        })
    }
}

/// What a shadow answered.
struct Came {
    headers: HeaderMap,
    framed: Bytes,
    code: u8,
}

impl Copy {
    /// Asks, compares, and writes down what came of it.
    pub async fn run(mut self, timeout: Duration) {
        let mut alarm = Alarm::new(Some(Instant::now() + timeout));
        let came = self.ask(&mut alarm).await;
        match came.and_then(|came| self.readings(came)) {
            Ok(readings) => self.told.compare(self.position, self.noise, &readings),
            Err(Lost(why)) => {
                self.told.worker.count(why);
                self.told.failed(self.position, self.noise);
            }
        }
    }

    async fn ask(&mut self, alarm: &mut Alarm) -> Result<Came, Lost> {
        let told = Rc::clone(&self.told);
        let upstream = told.plan.shadow(self.to).ok_or(Lost(Counter::MirrorError))?;
        let (span, mut nobody) = (fastrand::u64(1..), Caller::nobody());
        let head = |left| self.outbound.head(left, span);
        let target = Target { worker: &told.worker, upstream, started: None };
        let opened = open(target, &mut nobody, alarm, head, Body::Whole(&self.frames)).await?;
        let Opened { lease, answer, .. } = opened;
        let (head, mut from) = answer.into_parts();
        if not_grpc(head.status, &head.headers).is_some() {
            return Err(Lost(Counter::MirrorError));
        }
        if from.is_end_stream() {
            return Ok(Came { code: code_of(&head.headers), headers: head.headers, framed: Bytes::new() });
        }
        // What nobody reads is not held either.
        let read = told.route().prediction.is_some();
        let mut chunks: SmallVec<[Bytes; 2]> = SmallVec::new();
        let step = watched(&mut nobody, alarm, |_, cx| {
            loop {
                match ready!(from.poll_data(cx)) {
                    Some(Ok(chunk)) => {
                        let _ = from.flow_control().release_capacity(chunk.len());
                        if read {
                            if self.ticket.grow(chunk.len() as u64, self.max_bytes).is_err() {
                                return Poll::Ready(Err(Lost(Counter::MirrorAnswer)));
                            }
                            chunks.push(chunk);
                        }
                    }
                    Some(Err(_)) => return Poll::Ready(Err(Lost(Counter::MirrorError))),
                    None => return from.poll_trailers(cx).map_err(|_| Lost(Counter::MirrorError)),
                }
            }
        });
        let trailers = step.await.inspect_err(|fault| {
            if matches!(fault, Fault::Deadline) {
                lease.timed_out();
            }
        })??;
        let code = code_of(&trailers.unwrap_or_default());
        Ok(Came { headers: head.headers, framed: joined(chunks), code })
    }

    /// The shadow's readings, row by row; none for a route that reads nothing.
    fn readings(&self, came: Came) -> Result<Vec<Reading>, Lost> {
        match came.code {
            OK => {}
            DEADLINE_EXCEEDED => return Err(Lost(Counter::MirrorTimeout)),
            _ => return Err(Lost(Counter::MirrorError)),
        }
        let (told, route) = (&self.told, self.told.route());
        let Some(spec) = &route.prediction else { return Ok(Vec::new()) };
        let limits = told.plan.policy().limits();
        let most = limits.answer_bytes.min(usize::try_from(self.max_bytes).unwrap_or(usize::MAX));
        let invalid = || Lost(Counter::MirrorInvalid);
        let message = Message::read(came.framed, true, &came.headers, most).map_err(|_| invalid())?;
        let mut scratch = told.worker.predictions.borrow_mut();
        asked::read(route, &message.plain, limits.max_rows, &mut scratch).map_err(|_| invalid())?;
        if scratch.rows != told.decision().rows.len() {
            return Err(invalid());
        }
        let measure = route.confidence.as_ref().map(|confidence| confidence.measure);
        // A twin is the same model as the primary, whose table is made for it.
        let model = if self.noise { route.chain.first().copied() } else { Some(self.to) };
        let table = model.and_then(|model| route.table_of(model));
        Ok((0..scratch.rows).map(|row| Reading::of_row(spec, table, measure, false, &scratch, row)).collect())
    }
}

/// The status that headers or trailers name; a shadow that names none has failed.
fn code_of(headers: &HeaderMap) -> u8 {
    Status::read(headers).map_or(status::INTERNAL, |status| status.code)
}

fn joined(mut chunks: SmallVec<[Bytes; 2]>) -> Bytes {
    if chunks.len() < 2 {
        return chunks.pop().unwrap_or_default();
    }
    let mut all = BytesMut::with_capacity(chunks.iter().map(Bytes::len).sum());
    // Each is let go of once it is copied: they are not held twice.
    chunks.drain(..).for_each(|chunk| all.extend_from_slice(&chunk));
    all.freeze()
}
