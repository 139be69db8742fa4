//! A map from keys that are hashes already to small values, with a bound on its memory that nothing can pass.
//!
//! A set-associative cache: a key belongs to one set of sixteen places. A full set gives up the place that would have
//! been forgotten first. Sets grow as they are needed, so that few units take little memory.
//!
//! A hash map with a list by age would keep the oldest exactly, at three times the bytes a unit; here, of as many live
//! units as there are places, a tenth is forgotten early.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Places of a set.
const WAYS: usize = 16;
/// Locks: few enough to be small, enough that workers seldom meet.
const SHARDS: usize = 64;
/// Sets looked at under one lock by who counts or copies.
const SETS_AT_ONCE: usize = 64;

/// What a set costs beside its places, by place.
pub const SLOT_OVERHEAD_BYTES: usize = size_of::<Vec<u8>>().div_ceil(WAYS);

/// A place.
#[derive(Clone, Copy, Debug)]
pub struct Slot<V> {
    key: u64,
    /// Seconds since the beginning at which it is forgotten.
    until_s: u32,
    value: V,
}

type Sets<V> = Vec<Vec<Slot<V>>>;

/// Values by key, all workers'.
pub struct Table<V> {
    shards: Vec<Mutex<Sets<V>>>,
    sets: usize,
    evicted: AtomicU64,
}

impl<V: Copy + Default> Table<V> {
    /// A table of at least `places` places.
    #[must_use]
    pub fn new(places: usize) -> Self {
        // As many in each shard, so that a key's shard and set are found without a division.
        let in_shard = places.div_ceil(WAYS * SHARDS).max(1);
        Self {
            shards: (0..SHARDS).map(|_| Mutex::new(vec![Vec::new(); in_shard])).collect(),
            sets: in_shard * SHARDS,
            evicted: AtomicU64::new(0),
        }
    }

    /// `before` itself where it has as many places, else a table of that size with what was in it.
    #[must_use]
    pub fn resized(places: usize, before: Option<&Arc<Self>>) -> Arc<Self> {
        let made = Self::new(places);
        match before {
            Some(before) if before.sets == made.sets => return Arc::clone(before),
            Some(before) => {
                made.evicted.store(before.evicted(), Relaxed);
                before.each(|slot| made.place(slot.key, 0, slot.until_s, |value| *value = slot.value));
            }
            None => {}
        }
        Arc::new(made)
    }

    /// Places that there are.
    #[must_use]
    pub fn places(&self) -> usize {
        self.sets * WAYS
    }

    /// The most memory that it ever takes.
    #[must_use]
    pub fn most_bytes(&self) -> usize {
        self.places() * size_of::<Slot<V>>() + self.sets * size_of::<Vec<Slot<V>>>()
    }

    /// Memory taken now.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let taken = |sets: &Sets<V>| sets.iter().map(|set| set.capacity() * size_of::<Slot<V>>()).sum::<usize>();
        let places = self.shards.iter().map(|shard| taken(&lock(shard))).sum::<usize>();
        places + self.sets * size_of::<Vec<Slot<V>>>()
    }

    /// The value of a key, where it is remembered.
    #[must_use]
    pub fn get(&self, key: u64, now_s: u32) -> Option<V> {
        let (shard, set) = self.set_of(key);
        let sets = lock(shard);
        let slot = sets[set].iter().find(|slot| slot.key == key)?;
        (slot.until_s > now_s).then_some(slot.value)
    }

    /// Changes the value of a key, from nothing where it is not remembered, and keeps it until `until_s`.
    pub fn update(&self, key: u64, now_s: u32, until_s: u32, change: impl FnOnce(&mut V)) {
        self.place(key, now_s, until_s, change);
    }

    /// Changes the value of a key that is remembered, for as long as it was to be.
    pub fn change(&self, key: u64, now_s: u32, change: impl FnOnce(&mut V)) {
        let (shard, set) = self.set_of(key);
        let mut sets = lock(shard);
        if let Some(slot) = sets[set].iter_mut().find(|slot| slot.key == key && slot.until_s > now_s) {
            change(&mut slot.value);
        }
    }

    fn place(&self, key: u64, now_s: u32, until_s: u32, change: impl FnOnce(&mut V)) {
        let (shard, set) = self.set_of(key);
        let mut sets = lock(shard);
        let set = &mut sets[set];
        let mut fresh = Slot { key, until_s, value: V::default() };
        let at = match set.iter().position(|slot| slot.key == key) {
            Some(at) => at,
            None if set.len() < WAYS => {
                if set.len() == set.capacity() {
                    set.reserve_exact(set.len().clamp(4, WAYS - set.len()));
                }
                change(&mut fresh.value);
                return set.push(fresh);
            }
            None => {
                let first = (0..set.len()).min_by_key(|at| set[*at].until_s).unwrap_or(0);
                if set[first].until_s > now_s {
                    self.evicted.fetch_add(1, Relaxed);
                }
                set[first].until_s = 0;
                first
            }
        };
        let slot = &mut set[at];
        if slot.until_s > now_s {
            fresh.value = slot.value;
            fresh.until_s = until_s.max(slot.until_s);
        }
        change(&mut fresh.value);
        *slot = fresh;
    }

    /// Keys remembered now.
    #[must_use]
    pub fn live(&self, now_s: u32) -> u64 {
        let mut live = 0;
        self.each(|slot| live += u64::from(slot.until_s > now_s));
        live
    }

    /// Keys that went before their time, to make place.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Relaxed)
    }

    /// Visits every place, some at a time: a call never waits for all of them.
    fn each(&self, mut visit: impl FnMut(&Slot<V>)) {
        for shard in &self.shards {
            for from in (0..self.sets / SHARDS).step_by(SETS_AT_ONCE) {
                let sets = lock(shard);
                sets.iter().skip(from).take(SETS_AT_ONCE).flatten().for_each(&mut visit);
            }
        }
    }

    /// The shard of a key, and its set there.
    fn set_of(&self, key: u64) -> (&Mutex<Sets<V>>, usize) {
        #[allow(clippy::cast_possible_truncation)] // below the number of sets
        let set = ((u128::from(key) * self.sets as u128) >> 64) as usize;
        (&self.shards[set % SHARDS], set / SHARDS)
    }
}

/// A table whose holder panicked is as good as any: a value is written whole or not at all.
fn lock<V>(shard: &Mutex<Sets<V>>) -> MutexGuard<'_, Sets<V>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
