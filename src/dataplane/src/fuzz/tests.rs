//! The short run: every seed, and seeds changed by chance with a fixed seed, so that a run can be repeated.

use std::fs;
use std::path::Path;

use super::TARGETS;

/// Changed seeds tried per target; about a second each in the profile of tests.
const TRIES: u32 = 60_000;

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a folder that can be read").path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} holds no seeds", folder.display());
    files.iter().map(|file| fs::read(file).expect("a seed that can be read")).collect()
}

/// Changes a few bytes, as fuzzers do: flips, cuts, doublings, and pieces of another seed.
fn change(random: &mut fastrand::Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut data = random.choice(seeds).expect("there are seeds").clone();
    for _ in 0..random.usize(1..=4) {
        let at = random.usize(0..=data.len());
        match random.u8(0..6) {
            0 if at < data.len() => data[at] ^= 1 << random.u8(0..8),
            1 if at < data.len() => data[at] = *random.choice(&[0, 1, 0x7f, 0x80, 0xff, b'"', b'{']).expect("some"),
            2 => data.truncate(at),
            3 => data.insert(at, random.u8(..)),
            4 => {
                let end = random.usize(at..=data.len().min(at + 64));
                data.splice(at..at, data[at..end].to_vec());
            }
            _ => {
                let other = random.choice(seeds).expect("there are seeds");
                let from = random.usize(0..=other.len());
                let piece = &other[from..random.usize(from..=other.len().min(from + 64))];
                data.splice(at..at, piece.iter().copied());
            }
        }
    }
    data
}

#[test]
fn seeds_and_their_neighbours_break_nothing() {
    for (name, target) in TARGETS {
        let seeds = seeds(name);
        seeds.iter().for_each(|seed| target(seed));
        let mut random = fastrand::Rng::with_seed(7);
        // What is compiled takes 100 times as long as a message that is read.
        let tries = if matches!(*name, "cel" | "policy") { TRIES / 30 } else { TRIES };
        for _ in 0..tries {
            target(&change(&mut random, &seeds));
        }
    }
}

#[test]
fn every_target_has_its_fuzzer() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
    let mut found: Vec<String> = fs::read_dir(folder)
        .expect("there are fuzzers")
        .map(|entry| entry.expect("readable").path().file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    found.sort();
    assert_eq!(found, TARGETS.iter().map(|(name, _)| *name).collect::<Vec<_>>());
}
