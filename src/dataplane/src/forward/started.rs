//! An attempt under way, with those before it at the same backend.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::{HeaderValue, Request};
use smallvec::SmallVec;

use super::circuit::Admission;
use super::guard::{Verdict, Watch, verdict};
use super::retry::{self, PREVIOUS_ATTEMPTS, Pushback};
use super::trace::{TRACEPARENT, Trace};
use crate::policy::Reason;

/// Whether the call may be made more than once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// It is one of a sequence.
    Never,
    /// If its method is listed.
    Listed,
    /// It only asks.
    Always,
}

/// An attempt that another one followed at the same backend.
#[derive(Clone, Copy, Debug)]
pub struct Retried {
    /// When it began.
    pub at: Instant,
    /// How long it took.
    pub took: Duration,
    /// How it ended.
    pub status: u8,
    /// Its span.
    pub span: u64,
}

/// What an attempt's end is told to.
struct Watched {
    watch: Rc<Watch>,
    probe: Cell<bool>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.probe.get() {
            self.watch.lost(Instant::now());
        }
    }
}

/// An attempt under way.
pub struct Started {
    first: Instant,
    at: Cell<Instant>,
    span: Cell<u64>,
    trace: Trace,
    repeat: Cell<Repeat>,
    watched: OnceCell<Watched>,
    retried: RefCell<SmallVec<[Retried; 0]>>,
}

impl Started {
    /// It begins now.
    #[must_use]
    pub fn now(trace: Trace) -> Self {
        let now = Instant::now();
        Self {
            first: now,
            at: Cell::new(now),
            span: Cell::new(fastrand::u64(1..)),
            trace,
            repeat: Cell::new(Repeat::Listed),
            watched: OnceCell::new(),
            retried: RefCell::default(),
        }
    }

    /// When the first began.
    #[must_use]
    pub fn first(&self) -> Instant {
        self.first
    }

    /// When the last began.
    #[must_use]
    pub fn at(&self) -> Instant {
        self.at.get()
    }

    /// The last one's span.
    #[must_use]
    pub fn span(&self) -> u64 {
        self.span.get()
    }

    /// Whether it may be made again.
    pub fn may_repeat(&self, repeat: Repeat) {
        self.repeat.set(repeat);
    }

    /// Its end is told to `watch`.
    pub fn watch(&self, watch: &Rc<Watch>, admission: Admission) {
        if watch.is_needed() {
            let probe = Cell::new(admission == Admission::Probe);
            let _ = self.watched.set(Watched { watch: Rc::clone(watch), probe });
        }
    }

    /// Whether it shows if its backend is back.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.watched.get().is_some_and(|watched| watched.probe.get())
    }

    /// Whether another worker reaches the backend.
    #[must_use]
    pub fn is_reached_by_others(&self) -> bool {
        self.watched.get().is_some_and(|watched| watched.watch.guard.is_reached())
    }

    /// Those that came before.
    #[must_use]
    pub fn take_retried(&self) -> SmallVec<[Retried; 0]> {
        self.retried.take()
    }

    /// It has ended for good.
    pub fn ended(&self, reason: Reason, status: u8, now: Instant) {
        self.tell(verdict(reason, status), now);
    }

    fn tell(&self, verdict: Verdict, now: Instant) {
        if let Some(watched) = self.watched.get() {
            let took = now.saturating_duration_since(self.at.get());
            watched.watch.ended(verdict, watched.probe.take(), took, now);
        }
    }

    /// The pause before another attempt after one that ended by `code`, within `left`; `None` when there is to be none.
    #[must_use]
    pub fn again(&self, path: &str, code: u8, pushback: Pushback, left: Option<Duration>) -> Option<Again> {
        let watched = self.watched.get().filter(|watched| !watched.probe.get())?;
        let retry = watched.watch.retry()?;
        let may = match self.repeat.get() {
            Repeat::Never => false,
            Repeat::Always => true,
            Repeat::Listed => retry::is_listed(retry, path),
        };
        let retries = u32::try_from(self.retried.borrow().len()).unwrap_or(u32::MAX);
        let pause = retry::pause(retry, retries, code, pushback, fastrand::f64()).filter(|_| may)?;
        // What would not come back in time is left to those after it in the chain.
        if left.is_some_and(|left| left <= pause) {
            return None;
        }
        let now = Instant::now();
        if !watched.watch.may_retry(now) {
            return Some(Again::Spent);
        }
        let retried = Retried { at: self.at.get(), took: now - self.at.get(), status: code, span: self.span.get() };
        self.tell(verdict(Reason::BackendError, code), now);
        self.retried.borrow_mut().push(retried);
        Some(Again::After(pause))
    }

    /// The pause is over.
    pub fn begin_again(&self) {
        self.at.set(Instant::now());
        self.span.set(fastrand::u64(1..));
    }

    /// What the head of a repeated request says.
    pub fn dress(&self, head: &mut Request<()>) {
        let before = self.retried.borrow().len();
        if before > 0 {
            // The caller may have made some of its own.
            let callers = head.headers().get(PREVIOUS_ATTEMPTS).and_then(|value| value.to_str().ok()?.parse().ok());
            head.headers_mut()
                .insert(PREVIOUS_ATTEMPTS, HeaderValue::from(before.saturating_add(callers.unwrap_or(0))));
            head.headers_mut().insert(TRACEPARENT, self.trace.header(self.span.get()));
        }
    }
}

/// What is to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// Another attempt after a pause.
    After(Duration),
    /// None: the budget is spent.
    Spent,
}
