//! The data plane: decides and forwards every call, without Python on its path.
//!
//! Rooms, each importing only from those after it:
//! `python -> listen -> forward -> {mirror, records} -> wire -> policy -> error`.

pub mod error;
pub mod policy;
pub mod records;
pub mod wire;
pub mod forward;
pub mod listen;
pub mod mirror;
pub mod python;
