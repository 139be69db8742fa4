//! The seam to Python: what comes in is checked and copied once, what goes out leaves as columns.

mod certificates;
mod desk;
mod plane;
mod policy;
pub mod receipt;

use pyo3::prelude::*;

#[pymodule]
fn _dataplane(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    m.add_class::<plane::Dataplane>()?;
    certificates::register(m)?;
    policy::register(m)?;
    receipt::register(m)
}
