//! What leaves the data plane, as columns.
