//! Questions as Python sees them: a dict each; and what it replies.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

use crate::desk::{Question, Reply};

/// What Python may reply.
#[derive(FromPyObject)]
pub enum Answer {
    Holds(bool),
    Rows(Vec<bool>),
    Labels(Vec<String>),
}

impl Answer {
    pub fn into_reply(answer: Option<Self>) -> Reply {
        match answer {
            Some(Self::Holds(holds)) => Reply::Holds(holds),
            Some(Self::Rows(rows)) => Reply::Rows(rows),
            Some(Self::Labels(labels)) => Reply::Labels(labels.into_iter().map(Into::into).collect()),
            None => Reply::Nothing,
        }
    }
}

/// `waiting.python_rule`, or `waiting.people.<backend>`.
pub fn waiting_name(people: &str) -> String {
    if people.is_empty() { "waiting.python_rule".to_owned() } else { format!("waiting.people.{people}") }
}

pub fn question_list<'py>(py: Python<'py>, asked: Vec<(u64, Question)>) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for (id, question) in asked {
        let dict = PyDict::new(py);
        dict.set_item("question", id)?;
        match question {
            Question::Rule { function, timeout, values } => {
                dict.set_item("kind", "rule")?;
                dict.set_item("function", &*function)?;
                dict.set_item("timeout_s", timeout.as_secs_f64())?;
                dict.set_item("values", PyBytes::new(py, &values))?;
            }
            Question::People(task) => {
                dict.set_item("kind", "people")?;
                dict.set_item("backend", &*task.backend)?;
                dict.set_item("queue", &*task.queue)?;
                dict.set_item("route", &*task.route)?;
                dict.set_item("id", PyBytes::new(py, &task.id))?;
                dict.set_item("rows", task.rows)?;
                dict.set_item("segment", &*task.segment)?;
                dict.set_item("unit", task.unit)?;
                dict.set_item("policy", task.policy)?;
                dict.set_item("time_us", task.time_us)?;
                dict.set_item("until_us", task.until_us)?;
                dict.set_item("request", PyBytes::new(py, &task.request))?;
            }
        }
        list.append(dict)?;
    }
    Ok(list)
}
