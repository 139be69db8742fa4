//! Facts about what is remembered: how much memory, how long, and what goes first.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::guard::kept_s;
use super::*;
use crate::policy::{Moments, Said, Told};

const WITHIN: Duration = Duration::from_secs(600);

fn key(unit: u64) -> u64 {
    xxh3_64(&unit.to_le_bytes())
}

/// Kilobytes of this process that are in memory.
fn resident_kb() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn ten_million_units_take_no_more_than_was_promised() {
    const PLACES: usize = 262_144;
    let table: Table<Guard> = Table::new(PLACES);
    assert_eq!((table.places(), size_of::<Slot<Guard>>(), size_of::<Slot<Past>>()), (PLACES, 40, 96));
    let most = table.most_bytes();
    assert_eq!(most, PLACES * 40 + PLACES / 16 * 24);
    let before = resident_kb();
    let regular = key(u64::MAX);
    for unit in 0..10_000_000u64 {
        let now = u32::try_from(unit / 100_000).unwrap();
        table.update(key(unit), now, now + 700, |guard| guard.count(WITHIN, Duration::ZERO, true, Told::Nothing));
        if unit % 10_000 == 0 {
            table.update(regular, now, now + 700, |guard| guard.count(WITHIN, Duration::ZERO, true, Told::Nothing));
        }
    }
    assert!(table.bytes() <= most, "{} of {most} bytes", table.bytes());
    let grown = resident_kb().saturating_sub(before) * 1024;
    // Other tests run beside this one; without a bound it were 400 MB.
    assert!(grown < most + 64 * 1024 * 1024, "{grown} bytes more in memory, {most} were promised");
    assert_eq!(table.live(100), PLACES as u64);
    assert_eq!(table.evicted(), 10_000_001 - PLACES as u64, "whatever goes before its time is counted");
    assert!(table.get(regular, 100).is_some(), "who keeps coming is remembered");
    assert!(table.get(key(9_999_999), 100).is_some(), "and who came last");
    assert!(table.get(key(0), 100).is_none(), "the first have gone");
}

#[test]
fn few_units_take_little() {
    let table: Table<Past> = Table::new(262_144);
    for unit in 0..1000 {
        table.update(key(unit), 0, 10, |_| {});
    }
    assert!(table.bytes() < 1_000_000, "{}", table.bytes());
    assert!((0..1000).all(|unit| table.get(key(unit), 9).is_some()));
    assert_eq!(table.live(10), 0, "their time is up");
}

#[test]
fn what_is_forgotten_starts_anew_and_is_no_eviction() {
    let table: Table<Past> = Table::new(16);
    for unit in 0..100_000 {
        let now = u32::try_from(unit).unwrap() * 11;
        table.update(key(unit), now, now + 10, |past| past.0.calls += 1);
        assert_eq!(table.get(key(unit), now).unwrap().0.calls, 1);
    }
    assert_eq!(table.evicted(), 0);
}

#[test]
fn a_table_of_another_size_holds_what_was_known() {
    let small: Arc<Table<Past>> = Table::resized(10_000, None);
    for unit in 0..1000 {
        small.update(key(unit), 0, 100, |past| past.0.calls = 7);
    }
    assert!(Arc::ptr_eq(&small, &Table::resized(10_000, Some(&small))), "the same table goes on");
    let large = Table::resized(100_000, Some(&small));
    assert!((0..1000).all(|unit| large.get(key(unit), 50).is_some_and(|past| past.0.calls == 7)));
    let tiny = Table::resized(16, Some(&small));
    assert!(tiny.bytes() <= tiny.most_bytes());
}

#[test]
fn many_threads_count_every_call() {
    let table: Arc<Table<Past>> = Arc::new(Table::new(100_000));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                (0..20_000u64).for_each(|call| table.update(key(call % 100), 0, 10, |past| past.0.calls += 1));
            });
        }
    });
    assert!((0..100).all(|unit| table.get(key(unit), 0).unwrap().0.calls == 800));
}

#[test]
fn a_row_of_negative_answers_is_ended_by_any_other() {
    let mut guard = Guard::default();
    let at = Duration::from_secs(5);
    let mut told = |told| {
        guard.count(WITHIN, at, false, told);
        guard.met(WITHIN, at).negatives
    };
    assert_eq!([told(Told::Negative(1)), told(Told::Negative(1)), told(Told::Nothing)], [1, 2, 2]);
    assert_eq!([told(Told::Negative(2)), told(Told::Negative(2))], [1, 2], "another negative answer is another row");
    assert_eq!([told(Told::Other), told(Told::Negative(2))], [0, 1]);
}

proptest! {
    /// What is counted counts for all of the time, and for at most a seventh longer.
    #[test]
    fn a_count_lasts_for_its_time(within_s in 1u64..100_000, times in prop::collection::vec(0u64..2_000_000, 1..40), later in 0u64..300_000) {
        let within = Duration::from_secs(within_s);
        let mut times = times;
        times.sort_unstable();
        let mut guard = Guard::default();
        for time in &times {
            guard.count(within, Duration::from_millis(*time), true, Told::Nothing);
        }
        let now = times[times.len() - 1] + later;
        let found = guard.met(within, Duration::from_millis(now)).fallbacks as usize;
        let since = |ms: u64| times.iter().filter(|time| **time + ms > now).count();
        prop_assert!(found >= since(within_s * 1000), "{} of {}", found, since(within_s * 1000));
        prop_assert!(found <= since(within_s * 8000 / 7 + 1), "{} of {}", found, since(within_s * 8000 / 7 + 1));
        prop_assert!(u64::from(kept_s(within)) * 1000 >= within_s * 8000 / 7, "the place is kept as long");
    }

    /// Groups or single numbers, the moments are the same.
    #[test]
    fn moments_of_groups_are_those_of_all(numbers in prop::collection::vec(-1e6f64..1e6, 0..60), cut in 0usize..60) {
        let of = |numbers: &[f64]| {
            let mut moments = Moments::default();
            numbers.iter().for_each(|number| moments.add(*number));
            moments
        };
        let cut = cut.min(numbers.len());
        let (all, mut parts) = (of(&numbers), of(&numbers[..cut]));
        parts.merge(&of(&numbers[cut..]));
        prop_assert_eq!(all.count as usize, numbers.len());
        prop_assert!((all.mean - parts.mean).abs() < 1e-6 && (all.sd() - parts.sd()).abs() < 1e-5);
        if numbers.len() > 1 {
            #[allow(clippy::cast_precision_loss)]
            let mean = numbers.iter().sum::<f64>() / numbers.len() as f64;
            #[allow(clippy::cast_precision_loss)]
            let sd = (numbers.iter().map(|one| (one - mean).powi(2)).sum::<f64>() / (numbers.len() - 1) as f64).sqrt();
            prop_assert!((all.mean - mean).abs() < 1e-6 && (all.sd() - sd).abs() < 1e-5);
        }
    }
}

fn lesson(fallback: bool, said: Option<Said>) -> Lesson {
    Lesson { key: Some(1), fallback, flagged: false, counts: None, answer: None, said }
}

#[test]
fn statistics_look_back_for_their_time_and_no_longer() {
    let stats = RouteStats::new(1, WITHIN);
    let seconds = Duration::from_secs;
    assert_eq!(stats.read(seconds(0)), Stats::default(), "nothing is known yet");
    let mut said = Said { predictions: 1, flagged: 1, ..Said::default() };
    said.scores.add(0.8);
    stats.learn(seconds(0), &lesson(true, None));
    stats.learn(seconds(10), &lesson(false, Some(said)));
    said.scores = Moments::default();
    said.scores.add(0.4);
    said.flagged = 0;
    stats.learn(seconds(590), &lesson(false, Some(said)));
    let read = stats.read(seconds(600));
    assert_eq!((read.calls, read.predictions), (3, 2));
    assert!((read.fallback_share - 1.0 / 3.0).abs() < 1e-12 && (read.flagged_share - 0.5).abs() < 1e-12);
    assert!((read.score_mean - 0.6).abs() < 1e-12 && (read.score_sd - 0.08f64.sqrt()).abs() < 1e-12);
    let read = stats.read(seconds(700));
    assert_eq!((read.calls, read.flagged_share), (1, 0.0), "the first two are too long ago");
    assert_eq!(stats.read(seconds(2000)), Stats::default());
    stats.learn(seconds(2000), &lesson(false, None));
    assert_eq!(stats.read(seconds(2000)).calls, 1, "old parts are not added to");
}
