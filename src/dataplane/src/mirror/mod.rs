//! Copies that never delay a call.
