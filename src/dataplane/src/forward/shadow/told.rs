//! What a caller was told, kept until the shadows have answered; and what a comparison with them comes to.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use smallvec::{SmallVec, smallvec};

use super::super::decide::Decide;
use super::super::journal::{Journal, text_of};
use super::super::plain::Plain;
use super::super::worker::{Plan, Worker};
use crate::mirror::{Said, compare};
use crate::policy::{Decision, Mirror, Reading, Route, Sample};
use crate::records::{self, Arrival, Batch, Capture, Counter, NO_TEXT, NONE_U16};

/// One call's end. Shared by its copies.
pub struct Told {
    pub worker: Rc<Worker>,
    pub plan: Rc<Plan>,
    decision: Decision,
    id: [u8; 16],
    arrival: Arrival,
    /// Whether its rows have left in the records: only then is there something to amend.
    recorded: bool,
    /// Rows that a shadow was found to contradict: the second one changes nothing.
    raised: RefCell<SmallVec<[bool; 1]>>,
    /// What people will see, should a shadow contradict a row that is then within its probability.
    capture: RefCell<Option<Capture>>,
    captured_bytes: Cell<u64>,
}

impl Told {
    /// `None` without a mirror.
    pub fn new(call: &Plain<'_>, journal: &Journal, decision: Decision, recorded: bool) -> Option<Rc<Self>> {
        if decision.mirrors.is_empty() {
            return None;
        }
        Some(Rc::new(Self {
            worker: call.worker.handle()?,
            plan: Rc::clone(&call.plan),
            id: journal.id,
            arrival: journal.arrival,
            recorded,
            raised: RefCell::new(smallvec![false; decision.rows.len()]),
            capture: RefCell::new(None),
            captured_bytes: Cell::new(0),
            decision,
        }))
    }

    pub fn decision(&self) -> &Decision {
        &self.decision
    }

    pub fn route(&self) -> &Route {
        self.plan.policy().route_at(self.decision.route)
    }

    /// The mirrors that get a copy, with their positions.
    pub fn mirrors(&self) -> impl Iterator<Item = (u16, &Mirror)> {
        let all = &self.route().mirror;
        self.decision.mirrors.iter().filter_map(|&at| Some((at, all.get(usize::from(at))?)))
    }

    /// What a contradiction would make of a row's sample.
    fn sample(&self, row: u32) -> Option<Sample> {
        self.decision.raised(self.route().review.as_ref()?, &self.id, row)
    }

    /// Keeps what people need to see, while it is still there, of a call with a row that only a contradiction brings
    /// before them. The same hash decides now and then, so that it is known for which calls that may be.
    pub fn prepare_capture(&self, call: &Decide<'_, '_, '_>, answer: &Bytes) {
        if !self.recorded || self.decision.disagreement <= 0.0 {
            return;
        }
        let rows = (0_u32..).zip(&self.decision.rows);
        let mut coming = rows.filter(|(at, row)| !row.sampled && self.sample(*at).is_some_and(|then| then.sampled));
        if coming.next().is_none() {
            return;
        }
        match call.captured(Vec::new(), answer) {
            Ok(capture) => {
                self.captured_bytes.set((capture.request.len() + capture.answer.len()) as u64);
                self.capture.replace(Some(capture));
            }
            Err(why) => self.worker.count(why),
        }
    }

    /// Bytes that are held until then.
    pub fn captured_bytes(&self) -> u64 {
        self.captured_bytes.get()
    }

    /// A copy came to nothing.
    pub fn failed(&self, position: u16, noise: bool) {
        self.write(1, |batch| {
            let base = self.base(position, noise, batch);
            batch.mirrors.push(&records::Mirror { result: 1, ..base });
        });
    }

    /// Compares row by row; a route that reads nothing has a single row, and nothing to compare in it.
    pub fn compare(&self, position: u16, noise: bool, readings: &[Reading]) {
        let mut contradicted: SmallVec<[u32; 1]> = SmallVec::new();
        self.write(readings.len().max(1), |batch| {
            let base = self.base(position, noise, batch);
            if readings.is_empty() {
                batch.mirrors.push(&base);
            }
            for ((reading, told), row) in readings.iter().zip(&self.decision.rows).zip(0_u32..) {
                let got = Said { label: told.label.as_ref(), flagged: told.flagged, score: told.score };
                let said = Said { label: reading.label.as_ref(), flagged: reading.flagged, score: reading.score };
                let found = compare(got, said);
                if found.agree == 0 {
                    contradicted.push(row);
                }
                let found = records::Mirror { agree: found.agree, difference: found.difference, row, ..base };
                batch.mirrors.push(&found);
            }
        });
        if !noise && self.recorded {
            self.raise(&contradicted);
        }
    }

    fn write(&self, rows: usize, write: impl FnOnce(&mut Batch)) {
        let limits = self.worker.sink.limits;
        self.worker.sink.write(&self.worker.shared.bell, |batch| {
            if batch.mirrors.row.len() + rows > limits.rows {
                return self.worker.count(Counter::RecordsFull);
            }
            write(batch);
        });
    }

    fn base(&self, position: u16, noise: bool, batch: &mut Batch) -> records::Mirror {
        let (id_hi, id_lo) = self.halves();
        let to = self.route().mirror.get(usize::from(position)).map_or(NONE_U16, |mirror| mirror.to);
        records::Mirror {
            time_us: self.arrival.unix_us_at(Instant::now()),
            policy: self.plan.policy().version(),
            route: self.decision.route,
            backend: self.decision.backend.unwrap_or(NONE_U16),
            to,
            result: 0,
            noise: u8::from(noise),
            segment: batch.strings.intern(self.decision.segment.text()),
            agree: 255,
            difference: f64::NAN,
            id_hi,
            id_lo,
            row: 0,
        }
    }

    fn halves(&self) -> (u64, u64) {
        let id = u128::from_be_bytes(self.id);
        #[allow(clippy::cast_possible_truncation)] // halves of an id
        ((id >> 64) as u64, id as u64)
    }

    /// Rows that a shadow contradicts are more worth a look: tells what their probability is now, and puts those before
    /// people that are within it.
    fn raise(&self, contradicted: &[u32]) {
        let mut raised: SmallVec<[(u32, Sample); 1]> = SmallVec::new();
        for &row in contradicted {
            let mut known = self.raised.borrow_mut();
            if let (Some(known @ false), Some(sample)) = (known.get_mut(row as usize), self.sample(row)) {
                *known = true;
                raised.push((row, sample));
            }
        }
        if raised.is_empty() {
            return;
        }
        let limits = self.worker.sink.limits;
        let fresh = |row: u32| self.decision.rows.get(row as usize).is_some_and(|told| !told.sampled);
        let seen: Vec<u32> =
            raised.iter().filter(|(row, sample)| sample.sampled && fresh(*row)).map(|(row, _)| *row).collect();
        let capture = self.capture.borrow().clone().filter(|_| !seen.is_empty());
        let capture = capture.map(|capture| Capture { rows: seen, ..capture });
        let written = self.worker.sink.write(&self.worker.shared.bell, |batch| {
            if batch.raises.row.len() + raised.len() > limits.rows {
                return Err(Counter::RecordsFull);
            }
            raised.iter().for_each(|(row, sample)| self.push(batch, *row, *sample));
            let kept = capture.is_none_or(|capture| batch.capture(limits, capture));
            kept.then_some(()).ok_or(Counter::CapturesFull)
        });
        if let Err(why) = written {
            self.worker.count(why);
        }
    }

    fn push(&self, batch: &mut Batch, row: u32, sample: Sample) {
        let Some(told) = self.decision.rows.get(row as usize) else { return };
        let (id_hi, id_lo) = self.halves();
        let classes = self.route().prediction.as_ref().map(|spec| &spec.classes[..]);
        let segment = batch.strings.intern(self.decision.segment.text());
        let label = text_of(told.label.as_ref(), classes).map_or(NO_TEXT, |text| batch.strings.intern(text));
        batch.raises.push(&records::Raise {
            id_hi,
            id_lo,
            row,
            time_us: self.arrival.unix_us,
            policy: self.plan.policy().version(),
            route: self.decision.route,
            backend: self.decision.backend.unwrap_or(NONE_U16),
            outcome: told.outcome as u8,
            reason: told.reason as u8,
            rule: told.rule,
            label,
            flagged: told.flagged.map_or(255, u8::from),
            score: told.score,
            confidence: told.confidence,
            segment,
            unit: self.decision.unit,
            stratum: sample.stratum,
            review_pi: sample.pi,
            review_pi_before: told.review_pi,
            sampled: u8::from(sample.sampled),
            sampled_before: u8::from(told.sampled),
            arm: self.decision.arm,
            propensity: self.decision.propensity,
        });
    }
}
