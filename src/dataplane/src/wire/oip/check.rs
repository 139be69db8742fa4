//! Outputs of an answer against what the settings say of them: also those that no prediction is read from.
//!
//! Nothing is copied but some hundred numbers at a time, and nothing is looked at that the settings do not name.

use smallvec::SmallVec;

use super::read::{Output, Raw, malformed, missing};
use super::response;
use super::tensor::{Datatype, Tensor, invalid, name_of, shorten};
use crate::policy::{InvalidOutput, OutputCheck, OutputsCheck, PredictionSpec};
use crate::wire::proto::{Fields, Value};

/// Whether an answer's outputs are as `wanted`; `rows` are the prediction's.
///
/// # Errors
/// The first that is not: which, what was found, what was wanted.
pub fn check(wanted: &OutputsCheck, spec: &PredictionSpec, answer: &[u8], rows: usize) -> Result<(), InvalidOutput> {
    let mut found: SmallVec<[Option<Output>; 8]> = SmallVec::from_elem(None, wanted.outputs.len());
    let mut raw = Raw::default();
    let mut outputs = 0;
    let mut fields = Fields::new(answer);
    loop {
        let before = fields.clone();
        let Some(next) = fields.next_field().map_err(malformed)? else { break };
        match (next.number, next.value) {
            (response::OUTPUTS, Value::Bytes(message)) => {
                let name = name_of(message).map_err(malformed)?;
                let at = wanted.outputs.iter().position(|known| *known.name == *name);
                if let Some(found) = at.map(|at| &mut found[at]) {
                    if found.replace(Output { name, message, index: outputs }).is_some() {
                        return Err(invalid(name, "it stands twice in the answer"));
                    }
                } else if wanted.only_known && !is_read(spec, name) {
                    return Err(unknown(wanted, spec, name));
                }
                outputs += 1;
            }
            (response::RAW, Value::Bytes(_)) => {
                raw.first.get_or_insert(before);
                raw.count += 1;
            }
            _ => {}
        }
    }
    for (wanted_here, found) in wanted.outputs.iter().zip(found) {
        match found {
            Some(found) => {
                let tensor = Tensor::parse(found.name, found.message, raw.entry(found)?)?;
                one(wanted_here, &tensor, wanted.same_rows.then_some(rows))?;
            }
            None if wanted_here.optional => {}
            None => return Err(missing(&wanted_here.name, answer)),
        }
    }
    Ok(())
}

fn is_read(spec: &PredictionSpec, name: &str) -> bool {
    [&spec.scores, &spec.label, &spec.confidence, &spec.value].into_iter().flatten().any(|known| **known == *name)
}

fn unknown(wanted: &OutputsCheck, spec: &PredictionSpec, name: &str) -> InvalidOutput {
    let read = [&spec.scores, &spec.label, &spec.confidence, &spec.value].into_iter().flatten();
    let mut known: Vec<&str> =
        wanted.outputs.iter().map(|output| &*output.name).chain(read.map(|name| &**name)).collect();
    known.sort_unstable();
    known.dedup();
    invalid(name, format_args!("it is unknown; wanted {}", known.join(", ")))
}

fn one(wanted: &OutputCheck, tensor: &Tensor<'_>, rows: Option<usize>) -> Result<(), InvalidOutput> {
    if let Some(datatype) = wanted.datatype.as_deref()
        && Datatype::parse(datatype) != Some(tensor.datatype)
    {
        return Err(tensor.invalid(format_args!("datatype {}, wanted {datatype}", tensor.datatype.word())));
    }
    let dims = &tensor.dims;
    if let Some(shape) = &wanted.shape {
        let fits = shape.len() == dims.len()
            && shape.iter().zip(dims).all(|(wanted, found)| wanted == found || (*wanted == -1 && *found >= 0));
        if !fits {
            return Err(tensor.invalid(format_args!("shape {dims:?}, wanted {shape:?}")));
        }
    }
    if let Some(rows) = rows
        && dims.first().is_none_or(|found| usize::try_from(*found) != Ok(rows))
    {
        return Err(tensor.invalid(format_args!("shape {dims:?}, wanted {rows} rows as the prediction has")));
    }
    let size = dims.iter().try_fold(1usize, |size, dim| size.checked_mul(usize::try_from(*dim).ok()?));
    let Some(size) = size else {
        return Err(tensor.invalid(format_args!("shape {dims:?}, which no tensor has")));
    };
    if tensor.datatype == Datatype::Bytes {
        return texts(wanted, tensor, size);
    }
    if wanted.labels.is_some() {
        return Err(tensor.invalid(format_args!("datatype {}, wanted labels, which are BYTES", tensor.datatype.word())));
    }
    // What is no float is finite.
    if wanted.range.is_none() && tensor.datatype.is_integer() {
        return Ok(());
    }
    let mut at = 0;
    tensor.each_number(size, |number| {
        if !number.is_finite() {
            return Err(tensor.invalid(format_args!("element {at} is {number}, wanted a finite number")));
        }
        match wanted.range {
            Some((low, high)) if !(low..=high).contains(&number) => {
                return Err(tensor.invalid(format_args!("element {at} is {number}, wanted {low} to {high}")));
            }
            _ => at += 1,
        }
        Ok(())
    })
}

fn texts(wanted: &OutputCheck, tensor: &Tensor<'_>, size: usize) -> Result<(), InvalidOutput> {
    if wanted.range.is_some() {
        return Err(tensor.invalid("datatype BYTES, wanted numbers"));
    }
    let Some(labels) = &wanted.labels else { return Ok(()) };
    let mut at = 0;
    tensor.texts(size, |text| {
        if !labels.iter().any(|label| label.as_bytes() == text) {
            let found = String::from_utf8_lossy(text);
            let (found, labels) = (shorten(&found), labels.join(", "));
            return Err(tensor.invalid(format_args!("element {at} is {found:?}, wanted one of {}", shorten(&labels))));
        }
        at += 1;
        Ok(())
    })
}
