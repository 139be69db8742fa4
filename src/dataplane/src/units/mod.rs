//! What is remembered between calls, of all workers together: a unit's calls may come on any connection.
//!
//! In: a call's lesson, and when it came. Out: counts and last answers of a unit, a route's recent distribution. Never: a
//! clock of its own, a lock held for longer than some dozens of entries take to look at, more memory than
//! `limits.units` allows, or anything that outlives the process.
//!
//! Two tables, each made only when a route needs it and each of `limits.units` places: what loop guards count (40 bytes a
//! place), and sessions for rules (96 bytes). What a set of sixteen places has no room for goes: the one that would have
//! been forgotten first, counted where it still had time. Both are kept through a new policy, as routes are known by name.

mod guard;
mod session;
mod stats;
mod table;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

pub use guard::Guard;
pub use session::Past;
pub use stats::RouteStats;
pub use table::{SLOT_OVERHEAD_BYTES, Slot, Table};

use crate::policy::{Lesson, LoopGuard, Memory, Met, Policy, RouteIx, Session, SessionSpec, Stats};

/// What is remembered under one policy.
pub struct Units {
    began: Instant,
    guards: Option<Arc<Table<Guard>>>,
    sessions: Option<Arc<Table<Past>>>,
    /// By route; `None` where no rule asks for them.
    stats: Vec<Option<Arc<RouteStats>>>,
}

impl Units {
    /// What a policy needs remembered; what was remembered before goes on.
    #[must_use]
    pub fn new(policy: &Policy, before: Option<&Units>) -> Self {
        let places = policy.limits().units;
        let routes = policy.routes();
        let guarded = routes.iter().any(|route| route.loop_guard.is_some());
        let sessions = routes.iter().any(|route| route.wants_session);
        let stats = routes.iter().map(|route| {
            let within = route.stats_within.filter(|_| route.wants_stats)?;
            let known = before.into_iter().flat_map(|before| before.stats.iter().flatten());
            let known = known.clone().find(|known| known.is_of(route.key, within));
            Some(known.map_or_else(|| Arc::new(RouteStats::new(route.key, within)), Arc::clone))
        });
        Self {
            began: before.map_or_else(Instant::now, |before| before.began),
            guards: guarded.then(|| Table::resized(places, before.and_then(|before| before.guards.as_ref()))),
            sessions: sessions.then(|| Table::resized(places, before.and_then(|before| before.sessions.as_ref()))),
            stats: stats.collect(),
        }
    }

    /// What is remembered, at a point in time.
    #[must_use]
    pub fn at(&self, now: Instant) -> At<'_> {
        At { units: self, now: now.saturating_duration_since(self.began) }
    }

    /// Units remembered now, by what for; and how many went before their time since the start.
    #[must_use]
    pub fn counts(&self, now: Instant) -> Counts {
        let now = seconds(now.saturating_duration_since(self.began));
        Counts {
            guarded: self.guards.as_ref().map_or(0, |table| table.live(now)),
            sessions: self.sessions.as_ref().map_or(0, |table| table.live(now)),
            evicted: self.guards.as_ref().map_or(0, |table| table.evicted())
                + self.sessions.as_ref().map_or(0, |table| table.evicted()),
        }
    }
}

/// How many units are remembered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub guarded: u64,
    pub sessions: u64,
    /// Forgotten before their time.
    pub evicted: u64,
}

fn seconds(since: Duration) -> u32 {
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}

/// What is remembered, at a point in time.
pub struct At<'a> {
    units: &'a Units,
    /// Since the beginning.
    now: Duration,
}

impl Memory for At<'_> {
    fn met(&self, guard: &LoopGuard, key: u64) -> Met {
        let known = self.units.guards.as_ref().and_then(|table| table.get(key, seconds(self.now)));
        known.map_or(Met::default(), |known: Guard| known.met(guard.within, self.now))
    }

    fn session(&self, _: &SessionSpec, key: u64) -> Session {
        let known = self.units.sessions.as_ref().and_then(|table| table.get(key, seconds(self.now)));
        known.map_or(Session::default(), |past: Past| past.0)
    }

    fn stats(&self, route: RouteIx) -> Stats {
        let known = self.units.stats.get(usize::from(route)).and_then(Option::as_ref);
        known.map_or(Stats::default(), |stats| stats.read(self.now))
    }
}

impl At<'_> {
    /// Keeps what a call of `route` has to teach.
    pub fn learn(&self, policy: &Policy, index: RouteIx, lesson: &Lesson) {
        let route = policy.route_at(index);
        let now = seconds(self.now);
        if let (Some(table), Some(guard), Some(key), Some((fallback, told))) =
            (&self.units.guards, &route.loop_guard, lesson.key, lesson.counts)
        {
            let until = now.saturating_add(guard::kept_s(guard.within));
            if fallback || told.is_negative() {
                table.update(key, now, until, |known| known.count(guard.within, self.now, fallback, told));
            } else {
                // A unit that does well is in no loop, and takes no place.
                table.change(key, now, |known| known.count(guard.within, self.now, false, told));
            }
        }
        if let (Some(table), Some(spec), Some(key), true) =
            (&self.units.sessions, &route.session, lesson.key, route.wants_session)
        {
            let until = now.saturating_add(seconds(spec.idle)).saturating_add(1);
            table.update(key, now, until, |past| past.learn(lesson));
        }
        if let Some(Some(stats)) = self.units.stats.get(usize::from(index)) {
            stats.learn(self.now, lesson);
        }
    }
}
