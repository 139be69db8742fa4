//! Reads the policy document, and notes every fault with its path instead of stopping at the first.
//!
//! serde's derive stops at the first fault and forgets where in the document it was; the document is small and read
//! once, so it is parsed into a tree and walked.

use std::cell::RefCell;

use serde_json::Value;

use crate::error::{Fault, Step};

/// Where faults are gathered.
#[derive(Debug, Default)]
pub(super) struct Faults(RefCell<Vec<Fault>>);

impl Faults {
    pub fn add(&self, fault: Fault) {
        self.0.borrow_mut().push(fault);
    }

    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    pub fn into_vec(self) -> Vec<Fault> {
        self.0.into_inner()
    }
}

/// A value of the document and the way to it. An absent field reads like `null`.
#[derive(Clone, Debug)]
pub(super) struct Node<'a> {
    value: &'a Value,
    path: Vec<Step>,
    faults: &'a Faults,
}

static NULL: Value = Value::Null;

impl<'a> Node<'a> {
    pub fn root(value: &'a Value, faults: &'a Faults) -> Self {
        Node { value, path: Vec::new(), faults }
    }

    pub fn fault(&self, message: impl Into<String>) {
        self.fault_at(message, None);
    }

    /// A fault within a text, at its line and column.
    pub fn fault_at(&self, message: impl Into<String>, at: Option<(u32, u32)>) {
        let (line, column) = at.unzip();
        self.faults.add(Fault { path: self.path.clone(), message: message.into(), line, column });
    }

    fn wanted(&self, wanted: &str) {
        self.fault(format!("found {}, wanted {wanted}", shown(self.value)));
    }

    fn child(&self, step: Step, value: &'a Value) -> Node<'a> {
        let mut path = self.path.clone();
        path.push(step);
        Node { value, path, faults: self.faults }
    }

    pub fn is_null(&self) -> bool {
        self.value.is_null()
    }

    /// Whether this is an object; notes what it is not, and keys that nobody reads.
    pub fn object(&self, known: &[&str]) -> bool {
        let Value::Object(map) = self.value else {
            self.wanted("an object");
            return false;
        };
        for (key, value) in map {
            if !known.contains(&key.as_str()) {
                self.child(Step::Key(key.clone()), value)
                    .fault(format!("unknown field, wanted one of {}", known.join(", ")));
            }
        }
        true
    }

    pub fn field(&self, key: &str) -> Node<'a> {
        self.child(Step::Key(key.to_owned()), self.value.get(key).unwrap_or(&NULL))
    }

    /// The elements of a list; none for `null`.
    pub fn items(&self) -> Vec<Node<'a>> {
        match self.value {
            Value::Array(items) => {
                items.iter().enumerate().map(|(index, item)| self.child(Step::Index(index), item)).collect()
            }
            Value::Null => Vec::new(),
            _ => {
                self.wanted("a list");
                Vec::new()
            }
        }
    }

    /// The entries of a map; none for `null`.
    pub fn entries(&self) -> Vec<(&'a str, Node<'a>)> {
        match self.value {
            Value::Object(map) => {
                map.iter().map(|(key, value)| (key.as_str(), self.child(Step::Key(key.clone()), value))).collect()
            }
            Value::Null => Vec::new(),
            _ => {
                self.wanted("a map");
                Vec::new()
            }
        }
    }

    pub fn is_text(&self) -> bool {
        self.value.is_string()
    }

    pub fn text(&self) -> Option<&'a str> {
        match self.value {
            Value::String(text) => Some(text),
            Value::Null => None,
            _ => {
                self.wanted("a text");
                None
            }
        }
    }

    /// A text that must be there; empty, and noted, where it is not.
    pub fn need_text(&self) -> &'a str {
        let text = self.text();
        if self.is_null() || text == Some("") {
            self.wanted("a text that is not empty");
        }
        text.unwrap_or("")
    }

    pub fn boxed(&self) -> Option<Box<str>> {
        self.text().map(Into::into)
    }

    /// Texts of a list.
    pub fn texts(&self) -> Vec<Box<str>> {
        self.items().iter().map(|item| item.need_text().into()).collect()
    }

    /// A finite number.
    pub fn number(&self) -> Option<f64> {
        if self.is_null() {
            return None;
        }
        let number = self.value.as_f64();
        if number.is_none() {
            self.wanted("a number");
        }
        number
    }

    pub fn need_number(&self) -> f64 {
        if self.is_null() {
            self.wanted("a number");
        }
        self.number().unwrap_or(0.0)
    }

    /// A probability, 0 to 1.
    pub fn need_share(&self) -> f64 {
        let share = self.need_number();
        if !(0.0..=1.0).contains(&share) {
            self.wanted("a share from 0 to 1");
        }
        share
    }

    /// A whole number from 0 to `most`.
    pub fn need_whole(&self, most: u64) -> u64 {
        let number = self.value.as_u64().filter(|number| *number <= most);
        if number.is_none() {
            self.wanted(&format!("a whole number from 0 to {most}"));
        }
        number.unwrap_or(0)
    }

    /// A whole number from 1 to `most`.
    pub fn need_count(&self, most: u64) -> u64 {
        let number = self.value.as_u64().filter(|number| (1..=most).contains(number));
        if number.is_none() {
            self.wanted(&format!("a whole number from 1 to {most}"));
        }
        number.unwrap_or(1)
    }

    /// True or false; `None` for whatever else.
    pub fn boolean(&self) -> Option<bool> {
        self.value.as_bool()
    }

    pub fn flag(&self) -> bool {
        if !self.is_null() && !self.value.is_boolean() {
            self.wanted("true or false");
        }
        self.value.as_bool().unwrap_or(false)
    }
}

/// A value in a fault's words, never longer than a line.
fn shown(value: &Value) -> String {
    const MOST: usize = 60;
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::Object(_) => "an object".to_owned(),
        Value::String(text) if text.chars().count() > MOST => {
            format!("\"{}...\"", text.chars().take(MOST).collect::<String>())
        }
        other => other.to_string(),
    }
}
