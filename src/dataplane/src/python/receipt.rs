//! Receipts as Python sees them: a text on one side, a dict on the other.

use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

use crate::policy::OUTCOMES;
use crate::wire::receipt::{Claims, MAX_ROWS, Row, Signer};

create_exception!(
    _dataplane,
    ReceiptError,
    PyException,
    "A receipt that is not taken. `args` are a kind (`malformed`, `foreign`, `forged`) and what is wrong in words."
);

/// What a receipt says, if one of `keys` signed it.
#[pyfunction]
fn verify_receipt<'py>(py: Python<'py>, receipt: &str, keys: Vec<Vec<u8>>) -> PyResult<Bound<'py, PyDict>> {
    let refuse = |kind: &'static str, words: String| ReceiptError::new_err((kind, words));
    let said = Signer::new(&keys).verify(receipt).map_err(|fault| refuse(fault.kind(), fault.to_string()))?;
    let rows = PyList::empty(py);
    for row in &said.rows {
        let outcome = OUTCOMES.get(usize::from(row.outcome));
        let outcome = outcome.ok_or_else(|| refuse("malformed", "not a receipt: an unknown outcome".into()))?;
        let one = PyDict::new(py);
        one.set_item("score", Some(row.score).filter(|score| !score.is_nan()))?;
        one.set_item("flagged", row.flagged)?;
        one.set_item("sampled", row.sampled)?;
        one.set_item("outcome", outcome)?;
        one.set_item("class", row.class)?;
        one.set_item("review_pi", row.review_pi)?;
        rows.append(one)?;
    }
    let dict = PyDict::new(py);
    dict.set_item("id", PyBytes::new(py, &said.id))?;
    dict.set_item("time_ms", said.time_ms())?;
    dict.set_item("policy", said.policy)?;
    dict.set_item("route", said.route)?;
    dict.set_item("backend", said.backend)?;
    dict.set_item("segment", said.segment)?;
    let (arm, propensity) = said.arm.map_or((None, 1.0), |(arm, propensity)| (Some(arm), propensity));
    dict.set_item("arm", arm)?;
    dict.set_item("propensity", propensity)?;
    dict.set_item("rows", rows)?;
    Ok(dict)
}

/// A receipt that says `fields`, in the form that `verify_receipt` gives; `time_ms` is the one in `id`.
#[pyfunction]
fn sign_receipt(fields: &Bound<'_, PyDict>, key: &[u8]) -> PyResult<String> {
    let text = |name: &str| -> PyResult<String> { field(fields, name)?.extract() };
    let (route, backend, segment) = (text("route")?, text("backend")?, text("segment")?);
    let mut rows = Vec::new();
    for row in field(fields, "rows")?.try_iter()? {
        rows.push(row_from(row?.cast::<PyDict>()?)?);
    }
    if rows.len() > MAX_ROWS {
        let words = format!("{} rows, a receipt covers at most {MAX_ROWS}", rows.len());
        return Err(PyValueError::new_err(words));
    }
    let arm: Option<String> = fields.get_item("arm")?.map_or(Ok(None), |arm| arm.extract())?;
    let propensity: f32 = fields.get_item("propensity")?.map_or(Ok(1.0), |value| value.extract())?;
    let claims = Claims {
        id: field(fields, "id")?.extract()?,
        policy: field(fields, "policy")?.extract()?,
        route: &route,
        backend: &backend,
        segment: &segment,
        arm: arm.as_deref().map(|arm| (arm, propensity)),
        rows: &rows,
    };
    let mut receipt = String::new();
    let signed = Signer::new(&[key]).sign(&claims, &mut receipt);
    signed.map_err(|unsigned| PyValueError::new_err(unsigned.to_string()))?;
    Ok(receipt)
}

fn row_from(row: &Bound<'_, PyDict>) -> PyResult<Row> {
    let outcome: String = field(row, "outcome")?.extract()?;
    let number = OUTCOMES.iter().position(|known| *known == outcome).and_then(|number| u8::try_from(number).ok());
    Ok(Row {
        score: field(row, "score")?.extract::<Option<f32>>()?.unwrap_or(f32::NAN),
        flagged: field(row, "flagged")?.extract()?,
        sampled: field(row, "sampled")?.extract()?,
        outcome: number.ok_or_else(|| PyValueError::new_err(format!("an unknown outcome '{outcome}'")))?,
        class: field(row, "class")?.extract()?,
        review_pi: field(row, "review_pi")?.extract()?,
    })
}

fn field<'py>(dict: &Bound<'py, PyDict>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    let found = dict.get_item(name)?;
    found.ok_or_else(|| PyValueError::new_err(format!("a receipt without '{name}'")))
}

/// Adds the functions and the error to the module.
///
/// # Errors
/// The module refuses them.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("ReceiptError", m.py().get_type::<ReceiptError>())?;
    m.add_function(wrap_pyfunction!(verify_receipt, m)?)?;
    m.add_function(wrap_pyfunction!(sign_receipt, m)?)
}
