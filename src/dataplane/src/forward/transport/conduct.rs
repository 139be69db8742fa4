//! How a caller's connection behaves, as far as its frames alone do not show it: one small object that the connection,
//! its keeper and its calls share.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::limits;
use super::watch::Excess;

/// Why a connection is closed by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// The peer asks for too much.
    Calm(Excess),
    /// The peer has vanished: no byte came, not even an answer to a ping.
    Silent,
    /// The peer takes nothing of what waits for it.
    Stalled,
    /// The peer began a header block and does not end it.
    Unfinished,
}

/// One connection's conduct.
#[derive(Debug)]
pub struct Conduct {
    /// Where it comes from; `None` for a unix socket.
    from: Option<IpAddr>,
    close: Cell<Option<Close>>,
    driver: RefCell<Option<Waker>>,
    /// Whether the socket takes no more.
    choked: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
    /// Calls that may still be given up in haste.
    hasty: Cell<u32>,
    since: Cell<Option<Instant>>,
}

impl Default for Conduct {
    fn default() -> Self {
        Self {
            from: None,
            close: Cell::default(),
            driver: RefCell::default(),
            choked: Cell::default(),
            waiting: RefCell::default(),
            hasty: Cell::new(limits::HASTY_RESETS),
            since: Cell::default(),
        }
    }
}

impl Conduct {
    /// That of a connection from there.
    #[must_use]
    pub fn of(from: Option<IpAddr>) -> Self {
        // One caller is one caller by whichever of its two addresses it comes.
        Self { from: from.map(|address| address.to_canonical()), ..Self::default() }
    }

    /// Where it comes from; `None` for a unix socket.
    #[must_use]
    pub fn from(&self) -> Option<IpAddr> {
        self.from
    }

    /// Asks for the connection's end; the first reason stands.
    pub fn close(&self, why: Close) {
        if self.close.get().is_none() {
            self.close.set(Some(why));
            self.wake();
        }
    }

    /// Has the connection look after itself, as something is to be written.
    pub fn wake(&self) {
        if let Some(driver) = &*self.driver.borrow() {
            driver.wake_by_ref();
        }
    }

    /// Whether and why the connection is to be closed. Whoever asks is woken when that changes.
    pub fn closing(&self, cx: &mut Context<'_>) -> Option<Close> {
        let mut driver = self.driver.borrow_mut();
        if !driver.as_ref().is_some_and(|driver| driver.will_wake(cx.waker())) {
            *driver = Some(cx.waker().clone());
        }
        self.close.get()
    }

    /// A call ended as calls do.
    pub fn finished(&self) {
        let hasty = self.hasty.get();
        if hasty < limits::HASTY_RESETS {
            self.hasty.set(hasty + 1);
        }
    }

    /// A call was given up by its caller after so long. Many that were given up at once, and few that ended otherwise, are
    /// an attack (CVE-2023-44487): each costs a call at a backend. A call whose own time was up does not count.
    pub fn given_up(&self, after: Duration, timed: bool) {
        if timed || after >= limits::HASTE {
            return;
        }
        if let Some(hasty) = self.hasty.get().checked_sub(1) {
            self.hasty.set(hasty);
            return;
        }
        let now = Instant::now();
        if self.since.get().is_some_and(|since| now - since < limits::CONTROL_WINDOW) {
            self.close(Close::Calm(Excess::Resets));
        } else {
            self.since.set(Some(now));
            self.hasty.set(limits::HASTY_RESETS);
        }
    }

    /// Says whether the socket takes more.
    pub fn choke(&self, choked: bool) {
        if self.choked.replace(choked) && !choked {
            for waiting in self.waiting.take() {
                waiting.wake();
            }
        }
    }

    /// Whether the socket takes no more.
    #[must_use]
    pub fn is_choked(&self) -> bool {
        self.choked.get()
    }

    /// Ready when the socket takes more: what `h2` would hold for a caller that does not read is not handed to it.
    pub fn poll_free(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.choked.get() {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.iter().any(|known| known.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_given_up_at_once_are_bounded_unless_others_end() {
        let haste = Duration::from_millis(1);
        let of = |conduct: &Conduct| conduct.close.get();
        let conduct = Conduct::default();
        let many = 3 * limits::HASTY_RESETS;
        (0..many).for_each(|_| conduct.given_up(haste, false));
        assert_eq!(of(&conduct), Some(Close::Calm(Excess::Resets)));
        let conduct = Conduct::default();
        for _ in 0..many {
            conduct.finished();
            conduct.given_up(haste, false);
            conduct.given_up(haste, true);
            conduct.given_up(limits::HASTE, false);
        }
        assert_eq!(of(&conduct), None);
    }
}
