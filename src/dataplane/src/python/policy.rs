//! The policy as Python holds it.

use std::sync::Arc;

use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::error::{Fault, Step};
use crate::policy;

create_exception!(gateway._dataplane, PolicyError, PyException, "Every fault of a policy document: args[0] is a list of dicts.");

/// A compiled policy document: immutable, and cheap to share.
#[pyclass(module = "gateway._dataplane", frozen)]
pub struct Policy(Arc<policy::Policy>);

fn fault_dict<'py>(py: Python<'py>, fault: &Fault) -> PyResult<Bound<'py, PyDict>> {
    let path = PyList::empty(py);
    for step in &fault.path {
        match step {
            Step::Key(key) => path.append(key)?,
            Step::Index(index) => path.append(index)?,
        }
    }
    let dict = PyDict::new(py);
    dict.set_item("path", path)?;
    dict.set_item("message", &fault.message)?;
    dict.set_item("line", fault.line)?;
    dict.set_item("column", fault.column)?;
    Ok(dict)
}

#[pymethods]
impl Policy {
    #[new]
    fn new(py: Python<'_>, document: &str) -> PyResult<Self> {
        match py.detach(|| policy::Policy::compile(document)) {
            Ok(compiled) => Ok(Self(Arc::new(compiled))),
            Err(faults) => {
                let faults = faults.iter().map(|fault| fault_dict(py, fault)).collect::<PyResult<Vec<_>>>()?;
                Err(PolicyError::new_err((PyList::new(py, faults)?.unbind(),)))
            }
        }
    }

    #[getter]
    fn version(&self) -> u32 {
        self.0.version()
    }
}

impl Policy {
    /// What the data plane runs on.
    pub fn compiled(&self) -> Arc<policy::Policy> {
        Arc::clone(&self.0)
    }
}

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("OUTCOMES", policy::OUTCOMES)?;
    m.add("REASONS", policy::REASONS)?;
    m.add("PolicyError", m.py().get_type::<PolicyError>())?;
    m.add_class::<Policy>()
}
