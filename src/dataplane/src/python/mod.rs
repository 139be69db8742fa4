//! The seam to Python.
