//! The answer's message as a static answer writes it: the fields that the route reads, each once, lists within lists.

use super::spec::{FieldPath, Form, FormNode, Put, Step, Take, What};

/// Lays out the paths of a prediction.
///
/// # Errors
/// Words, where a list is gone through in two ways.
pub fn lay_out<'p>(paths: impl Iterator<Item = (&'p FieldPath, What)>) -> Result<Vec<FormNode>, String> {
    let mut nodes = Vec::new();
    for (path, what) in paths {
        add(&mut nodes, path, &path.steps, what)?;
    }
    order(&mut nodes);
    Ok(nodes)
}

fn add(nodes: &mut Vec<FormNode>, path: &FieldPath, steps: &[Step], what: What) -> Result<(), String> {
    let [step, rest @ ..] = steps else { return Ok(()) };
    let same_field = |node: &&mut FormNode| node.field == step.field;
    if let Some(other) = nodes.iter_mut().filter(same_field).find(|node| !beside(&node.take, &step.take)) {
        return match &mut other.inner {
            // A value that is read twice is written once.
            Form::Value(_) if other.take == step.take => Ok(()),
            Form::Message(inner) if other.take == step.take => add(inner, path, rest, what),
            _ => Err(format!("{} goes through a field in another way than the paths before it", path.text)),
        };
    }
    let inner = if rest.is_empty() {
        Form::Value(Put { what, kind: path.kind.clone() })
    } else {
        let mut inner = Vec::new();
        add(&mut inner, path, rest, what)?;
        Form::Message(inner)
    };
    nodes.push(FormNode { field: step.field, take: step.take.clone(), pad: 0, inner });
    Ok(())
}

/// Whether both may stand in one message: different elements, or different entries.
fn beside(one: &Take, other: &Take) -> bool {
    match (one, other) {
        (Take::At(one), Take::At(other)) => one != other,
        (Take::Key(one), Take::Key(other)) => one != other,
        _ => false,
    }
}

/// Elements in their order, with what is missing between them.
fn order(nodes: &mut [FormNode]) {
    let place = |node: &FormNode| if let Take::At(at) = node.take { at } else { 0 };
    nodes.sort_by_key(|node| (node.field, place(node)));
    let (mut field, mut next) = (0, 0);
    for node in nodes {
        if let Take::At(at) = node.take {
            let first = if node.field == field { next } else { 0 };
            (node.pad, field, next) = (at - first, node.field, at + 1);
        }
        if let Form::Message(inner) = &mut node.inner {
            order(inner);
        }
    }
}
