//! Certificates as Python sees them: what is in use, what was taken anew, what is wrong with files.

use std::path::PathBuf;
use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use serde::Deserialize;

use crate::forward::transport::tls::{Certificate, FileFault, Files, Reader, ServerFiles, ServerTls};
use crate::forward::{Place, Reloaded};
use crate::policy::BackendTls;

/// The listener's files, as the options name them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListenTls {
    cert: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
}

impl ListenTls {
    fn files(self) -> ServerFiles {
        ServerFiles { cert: self.cert, key: self.key, client_ca: self.client_ca }
    }
}

/// A backend's files, as the policy document names them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelTls {
    ca: Option<Box<str>>,
    cert: Option<Box<str>>,
    key: Option<Box<str>>,
    server_name: Option<Box<str>>,
}

/// Reads the listener's files.
pub(super) fn server_tls(tls: ListenTls) -> PyResult<Arc<ServerTls>> {
    ServerTls::new(tls.files()).map(Arc::new).map_err(|faults| {
        let words: Vec<String> = faults.iter().map(|fault| format!("{}: {}", fault.file, fault.found)).collect();
        PyValueError::new_err(format!("options: tls: {}", words.join("; ")))
    })
}

fn fault_dict<'py>(py: Python<'py>, fault: &FileFault) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("setting", fault.setting)?;
    dict.set_item("file", &fault.file)?;
    dict.set_item("found", &fault.found)?;
    dict.set_item("mend", &fault.mend)?;
    Ok(dict)
}

fn certificate_dict<'py>(py: Python<'py>, one: &Certificate) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("setting", one.setting)?;
    dict.set_item("file", &one.file)?;
    dict.set_item("not_before", one.not_before)?;
    dict.set_item("not_after", one.not_after)?;
    dict.set_item("names", &one.names)?;
    Ok(dict)
}

pub(super) fn in_use(py: Python<'_>, all: Vec<(Place, Certificate)>) -> PyResult<Bound<'_, PyList>> {
    let each = all.iter().map(|(place, one)| {
        let dict = certificate_dict(py, one)?;
        dict.set_item("place", place)?;
        Ok(dict)
    });
    PyList::new(py, each.collect::<PyResult<Vec<_>>>()?)
}

pub(super) fn reloaded<'py>(py: Python<'py>, reloaded: &Reloaded) -> PyResult<Bound<'py, PyDict>> {
    let faults = reloaded.faults.iter().map(|(place, fault)| {
        let dict = fault_dict(py, fault)?;
        dict.set_item("place", place)?;
        Ok(dict)
    });
    let dict = PyDict::new(py);
    dict.set_item("taken", &reloaded.taken)?;
    dict.set_item("faults", faults.collect::<PyResult<Vec<_>>>()?)?;
    Ok(dict)
}

/// What is wrong with the files of a listener (`side` is `listen`) or of a backend (`backend`), named in JSON.
#[pyfunction]
fn check_certificates<'py>(py: Python<'py>, side: &str, files: &str) -> PyResult<Bound<'py, PyDict>> {
    let wrong = |error: serde_json::Error| PyValueError::new_err(format!("files: {error}"));
    let reader = match side {
        "listen" => {
            let files = serde_json::from_str::<ListenTls>(files).map_err(wrong)?.files();
            py.detach(|| checked(&files))
        }
        "backend" => {
            let ModelTls { ca, cert, key, server_name } = serde_json::from_str(files).map_err(wrong)?;
            let files = BackendTls { ca, cert, key, server_name };
            py.detach(|| checked(&files))
        }
        _ => return Err(PyValueError::new_err("side: wanted listen or backend")),
    };
    let faults = |all: &[FileFault]| all.iter().map(|fault| fault_dict(py, fault)).collect::<PyResult<Vec<_>>>();
    let certificates = reader.certificates.iter().map(|one| certificate_dict(py, one));
    let dict = PyDict::new(py);
    dict.set_item("faults", faults(&reader.faults)?)?;
    dict.set_item("warnings", faults(&reader.warnings)?)?;
    dict.set_item("certificates", certificates.collect::<PyResult<Vec<_>>>()?)?;
    Ok(dict)
}

fn checked(files: &impl Files) -> Reader {
    let mut reader = Reader::new();
    let _ = files.read(&mut reader);
    reader
}

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(check_certificates, m)?)
}
