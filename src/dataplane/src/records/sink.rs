//! Where a worker puts its rows, and where they are taken out whole.
//!
//! One lock a worker, held for the time of some pushes or one swap: the taker never makes a worker wait for work of its own.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::columns::{Attempts, Mirrors, Raises, Records};
use super::strings::Strings;

/// How long a taker lets rows gather once there are some: batches of useful size, without making a reader wait.
const LINGER: Duration = Duration::from_millis(20);
/// Rows at which a batch is taken at once.
const BATCH_ROWS: usize = 4096;

/// What a worker may hold until it is taken.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Rows of a table.
    pub rows: usize,
    /// Bytes of captures.
    pub capture_bytes: usize,
}

/// What was captured of one call for review, redacted.
#[derive(Clone, Debug)]
pub struct Capture {
    /// Decision id.
    pub id: [u8; 16],
    /// Rows that were sampled.
    pub rows: Vec<u32>,
    /// The route's name.
    pub route: String,
    /// The queue's name.
    pub queue: String,
    /// `ModelInferRequest`.
    pub request: Vec<u8>,
    /// `ModelInferResponse`.
    pub answer: Vec<u8>,
    /// Version of the policy.
    pub policy: u32,
    /// Arrival, microseconds since 1970.
    pub time_us: i64,
}

/// Everything a worker has to say since the last batch.
#[derive(Debug, Default)]
pub struct Batch {
    /// Calls by row.
    pub records: Records,
    /// Attempts of those calls.
    pub attempts: Attempts,
    /// Shadows compared.
    pub mirrors: Mirrors,
    /// Rows that a shadow contradicted.
    pub raises: Raises,
    /// Texts that the tables point to.
    pub strings: Strings,
    /// Captures.
    pub captures: Vec<Capture>,
    captured_bytes: usize,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.records.row.is_empty()
            && self.mirrors.row.is_empty()
            && self.raises.row.is_empty()
            && self.captures.is_empty()
    }

    /// Whether `rows` more rows and `attempts` more attempts have room.
    #[must_use]
    pub fn has_room(&self, limits: Limits, rows: usize, attempts: usize) -> bool {
        self.records.row.len() + rows <= limits.rows && self.attempts.record.len() + attempts <= limits.rows
    }

    /// Adds a capture, or says that it has no room.
    pub fn capture(&mut self, limits: Limits, capture: Capture) -> bool {
        let bytes = capture.request.len() + capture.answer.len();
        if self.captured_bytes + bytes > limits.capture_bytes {
            return false;
        }
        self.captured_bytes += bytes;
        self.captures.push(capture);
        true
    }
}

/// Wakes who waits for rows.
#[derive(Debug, Default)]
pub struct Bell {
    rung: Mutex<bool>,
    heard: Condvar,
}

impl Bell {
    /// Wakes the taker.
    pub fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.heard.notify_one();
    }

    /// Waits for a ring until `until`; false when the time is up.
    fn wait(&self, until: Instant) -> bool {
        let mut rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        while !*rung {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            rung = self.heard.wait_timeout(rung, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        *rung = false;
        true
    }
}

/// One worker's rows.
#[derive(Debug)]
pub struct Sink {
    /// What it may hold.
    pub limits: Limits,
    batch: Mutex<Batch>,
}

impl Sink {
    /// An empty one.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, batch: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Batch> {
        self.batch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes rows, and wakes the taker when these are the first or make a batch full.
    pub fn write<T>(&self, bell: &Bell, write: impl FnOnce(&mut Batch) -> T) -> T {
        let mut batch = self.lock();
        let (was_empty, before) = (batch.is_empty(), batch.records.row.len());
        let written = write(&mut batch);
        let after = batch.records.row.len();
        let ring = (was_empty && !batch.is_empty()) || (before < BATCH_ROWS && after >= BATCH_ROWS);
        drop(batch);
        if ring {
            bell.ring();
        }
        written
    }

    fn take(&self) -> Option<Batch> {
        let mut batch = self.lock();
        if batch.is_empty() {
            return None;
        }
        // As much room as these rows took: growing row by row copies every column several times over.
        let next = Batch {
            records: Records::with_capacity(batch.records.row.len()),
            attempts: Attempts::with_capacity(batch.attempts.record.len()),
            ..Batch::default()
        };
        Some(std::mem::replace(&mut *batch, next))
    }

    fn rows(&self) -> usize {
        self.lock().records.row.len()
    }
}

/// Takes the next worker's batch, waiting up to `timeout` for one. `turn` remembers whose turn it is.
pub fn take(sinks: &[std::sync::Arc<Sink>], bell: &Bell, turn: &mut usize, timeout: Duration) -> Option<Batch> {
    let until = Instant::now() + timeout;
    let mut lingered = false;
    loop {
        let rows = sinks.iter().map(|sink| sink.rows()).max().unwrap_or(0);
        if lingered || rows >= BATCH_ROWS || timeout.is_zero() {
            for _ in 0..sinks.len() {
                *turn = (*turn + 1) % sinks.len();
                if let Some(batch) = sinks[*turn].take() {
                    return Some(batch);
                }
            }
            lingered = false;
        }
        let empty = sinks.iter().all(|sink| sink.lock().is_empty());
        if empty {
            if !bell.wait(until) {
                return None;
            }
        } else {
            let linger = (Instant::now() + LINGER).min(until);
            // Rows came since the last ring: let others join them, until one worker's batch is full.
            while bell.wait(linger) {
                if sinks.iter().any(|sink| sink.rows() >= BATCH_ROWS) {
                    break;
                }
            }
            lingered = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn sink() -> Arc<Sink> {
        Arc::new(Sink::new(Limits { rows: 10, capture_bytes: 100 }))
    }

    fn capture(bytes: usize) -> Capture {
        Capture {
            id: [0; 16],
            rows: vec![0],
            route: "r".into(),
            queue: "q".into(),
            request: vec![0; bytes],
            answer: vec![],
            policy: 1,
            time_us: 0,
        }
    }

    #[test]
    fn a_taker_gets_each_worker_in_turn_and_nothing_when_all_is_quiet() {
        let (bell, sinks, mut turn) = (Bell::default(), [sink(), sink()], 0);
        for sink in &sinks {
            sink.write(&bell, |batch| batch.capture(sink.limits, capture(1)));
        }
        let wait = Duration::from_millis(50);
        assert!(take(&sinks, &bell, &mut turn, wait).is_some());
        assert!(take(&sinks, &bell, &mut turn, wait).is_some());
        assert!(take(&sinks, &bell, &mut turn, Duration::ZERO).is_none());
    }

    #[test]
    fn a_waiting_taker_is_woken_by_the_first_row() {
        let (bell, sinks) = (Arc::new(Bell::default()), [sink()]);
        let taker = std::thread::spawn({
            let (bell, sinks) = (Arc::clone(&bell), sinks.clone());
            move || take(&sinks, &bell, &mut 0, Duration::from_secs(20)).is_some()
        });
        sinks[0].write(&bell, |batch| batch.capture(sinks[0].limits, capture(1)));
        assert!(taker.join().unwrap());
    }

    #[test]
    fn captures_past_their_bytes_are_refused_whole() {
        let (bell, sink) = (Bell::default(), sink());
        assert!(sink.write(&bell, |batch| batch.capture(sink.limits, capture(60))));
        assert!(!sink.write(&bell, |batch| batch.capture(sink.limits, capture(60))));
        assert!(sink.write(&bell, |batch| batch.capture(sink.limits, capture(40))));
    }
}
