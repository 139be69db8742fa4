//! The seam to Python.

pub mod receipt;

use pyo3::prelude::*;

#[pymodule]
fn _dataplane(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    receipt::register(m)
}
