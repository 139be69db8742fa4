//! The data plane: decides and forwards every call, without Python on its path.
//!
//! Rooms, each importing only from those after it:
//! `python -> listen -> forward -> {mirror, records, desk, units} -> wire -> policy`.

pub mod desk;
pub mod error;
pub mod forward;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod listen;
pub mod mirror;
pub mod policy;
pub mod python;
pub mod records;
pub mod units;
pub mod wire;

/// A call makes and drops some dozens of small objects; glibc's allocator cost a tenth of the calls a second.
#[cfg(not(test))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
