//! Sends copies of an answered call to shadows, and compares what comes back with what the caller got.
//!
//! A copy is made of the call's own bytes, by reference; it has its own connections, caps and time, and nobody waits for it.
//! It goes out after the answer, whole or not at all; what does not go out is counted, by reason.
//!
//! `mod` decides what goes out, `copy` is a copy's way, `told` what the caller was told and what a comparison comes to.

mod copy;
mod told;

use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use http::HeaderValue;

use super::append::Append;
use super::decide::Decide;
use super::exchange::Outbound;
use super::journal::Journal;
use super::message::{Frames, GRPC_ENCODING, frames};
use super::metadata::{EXPLAIN, NO_REVIEW, SHADOW};
use super::plain::Plain;
use super::upload::Upload;
use crate::mirror::Full;
use crate::policy::{BackendIx, Decision, Mirror, ModelBackend, Outcome};
use crate::records::Counter;
use crate::wire::oip;

use copy::Copy;
use told::Told;

/// Frames of a copy, and whether they are inflated where the call's own were compressed; or why there is none.
type Made = Result<(Frames, bool), Counter>;

/// Copies of a decided call. `answer`: what was read of it, if it was; `recorded`: its rows have left in the records.
pub fn send(call: &Decide<'_, '_, '_>, decision: Decision, answer: Option<&Bytes>, recorded: bool) {
    let Some(told) = Told::new(call.call, &call.journal, decision, recorded) else { return };
    if let Some(answer) = answer {
        told.prepare_capture(call, answer);
    }
    let bytes = call.upload.bytes().max(call.message.plain.len() as u64) + told.captured_bytes();
    for (position, mirror) in told.mirrors() {
        let mut redacted = None;
        let mut make = |model: &ModelBackend| made(call, mirror, model, &mut redacted);
        let sender = Sender { call: call.call, told: &told, position, mirror, bytes };
        sender.send_with_noise(&mut make);
    }
}

/// Copies of a call whose answers nobody reads: the shadow is only seen to answer. `named`: the model and version that its
/// messages name, where they do.
pub fn send_unread(
    call: &Plain<'_>,
    journal: &Journal,
    upload: &Upload,
    named: Option<(&str, &str)>,
    decision: Decision,
) {
    let Some(told) = Told::new(call, journal, decision, false) else { return };
    for (position, mirror) in told.mirrors() {
        let mut make = |model: &ModelBackend| {
            let suffix = named.map_or_else(Vec::new, |(name, version)| oip::address(model, name, version, false));
            let chunks = upload.chunks().filter(|_| upload.is_ended()).ok_or(Counter::MirrorReplay)?;
            Ok((appended(chunks, suffix), false))
        };
        let sender = Sender { call, told: &told, position, mirror, bytes: upload.bytes() };
        sender.send_with_noise(&mut make);
    }
}

/// The request's frames for one shadow; `redacted` keeps what was taken out for the next one.
fn made(call: &Decide<'_, '_, '_>, mirror: &Mirror, model: &ModelBackend, redacted: &mut Option<Bytes>) -> Made {
    let suffix = call.asked.address(model);
    if mirror.redacts() {
        if redacted.is_none() {
            let whole = call.whole_request().ok_or(Counter::MirrorReplay)?;
            let mut plain = Vec::new();
            // What cannot be redacted does not leave.
            call.asked.without(&whole, mirror, &mut plain).map_err(|_| Counter::MirrorUnreadable)?;
            *redacted = Some(plain.into());
        }
        let plain = redacted.as_ref().map_or_else(Bytes::new, Bytes::clone);
        return Ok((frames(&plain, &suffix), call.message.compressed));
    }
    if call.message.whole {
        return Ok(call.message.with(&suffix));
    }
    let chunks = call.upload.chunks().filter(|_| call.upload.is_ended()).ok_or(Counter::MirrorReplay)?;
    Ok((appended(chunks, suffix), false))
}

fn appended(chunks: Vec<Bytes>, suffix: Vec<u8>) -> Frames {
    if suffix.is_empty() {
        return chunks.into();
    }
    let (mut append, mut out) = (Append::new(suffix.into(), None), VecDeque::new());
    for chunk in chunks {
        // Nothing is unpacked, so nothing fails.
        let _ = append.feed(chunk, &mut out);
    }
    out.into_iter().collect()
}

/// One call to one of its route's mirrors.
struct Sender<'a, 'w> {
    call: &'a Plain<'w>,
    told: &'a Rc<Told>,
    position: u16,
    mirror: &'a Mirror,
    /// What the call's copy holds at most.
    bytes: u64,
}

impl Sender<'_, '_> {
    /// To the shadow; then, if the unit is among those, to the primary's twin, where the primary itself has answered.
    fn send_with_noise(&self, make: &mut dyn FnMut(&ModelBackend) -> Made) {
        let decision = self.told.decision();
        // Who answered needs no copy to be compared with itself: an arm may be a shadow as well.
        if decision.backend == Some(self.mirror.to) {
            return;
        }
        let sent = self.send(self.mirror.to, false, make);
        let route = self.told.route();
        let primary = decision.outcome == Outcome::Model && decision.backend == route.chain.first().copied();
        if let (Ok(()), true, Some(noise)) = (sent, primary, &self.mirror.noise)
            && decision.noise >> self.position & 1 == 1
        {
            let _ = self.send(noise.to, true, make);
        }
    }

    fn send(&self, to: BackendIx, noise: bool, make: &mut dyn FnMut(&ModelBackend) -> Made) -> Result<(), ()> {
        self.try_send(to, noise, make).map_err(|why| {
            if let Some(why) = why {
                self.call.worker.count(why);
            }
        })
    }

    fn try_send(
        &self,
        to: BackendIx,
        noise: bool,
        make: &mut dyn FnMut(&ModelBackend) -> Made,
    ) -> Result<(), Option<Counter>> {
        let plan = &self.call.plan;
        let model = plan.policy().backend(to).as_model().filter(|_| plan.shadow(to).is_some()).ok_or(None)?;
        let gauge = &plan.snapshot.shadows[usize::from(self.told.decision().route)][usize::from(self.position)];
        // First the place, then the work: a shadow that is full costs no more than this.
        let ticket = gauge.admit(self.bytes, self.mirror.max_in_flight, self.mirror.max_bytes);
        let ticket = ticket.map_err(|full| match full {
            Full::InFlight => Counter::MirrorInFlight,
            Full::Bytes => Counter::MirrorBytes,
        })?;
        let (frames, inflated) = make(model)?;
        let outbound = self.outbound(inflated);
        let copy = Copy {
            told: Rc::clone(self.told),
            outbound,
            frames,
            position: self.position,
            to,
            noise,
            max_bytes: self.mirror.max_bytes,
            ticket,
        };
        tokio::task::spawn_local(copy.run(self.mirror.timeout));
        Ok(())
    }

    /// The call's own head, authority and all, with a mark, without what a copy must not carry.
    fn outbound(&self, inflated: bool) -> Outbound {
        let from = &self.call.outbound;
        let mut headers = from.headers.clone();
        headers.insert(SHADOW, HeaderValue::from_static("1"));
        headers.remove(NO_REVIEW);
        headers.remove(EXPLAIN);
        for name in &self.mirror.strip {
            headers.remove(&**name);
        }
        if inflated {
            headers.remove(GRPC_ENCODING);
        }
        Outbound { uri: from.uri.clone(), headers, trace: from.trace }
    }
}
