//! Rules: a condition in CEL, and what to do where it holds.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use cel::common::types::CelString;

use super::cel::Condition;
use super::compiled::BackendIx;

/// Named lists of the settings.
pub type Lists = HashMap<Box<str>, Arc<List>>;

/// A list of texts: a set, so that `x in lists.name` is one look-up however long it is, and the items in their order.
#[derive(Debug)]
pub struct List {
    set: HashSet<Box<str>>,
    items: Vec<CelString<'static>>,
}

impl List {
    pub fn new(texts: &[Box<str>]) -> Self {
        let items = texts.iter().map(|text| CelString::from(text.to_string())).collect();
        List { set: texts.iter().cloned().collect(), items }
    }

    pub fn contains(&self, text: &str) -> bool {
        self.set.contains(text)
    }

    pub(super) fn items(&self) -> &[CelString<'static>] {
        &self.items
    }
}

/// When a rule is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Before any backend is asked.
    Request,
    /// On each prediction; per row where the rule names the prediction.
    Prediction,
}

/// What a rule does where its condition holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// As if the prediction had missed: on along the chain.
    Next,
    /// Ask this backend.
    To(BackendIx),
    /// Give this static answer.
    Answer(BackendIx),
    Reject {
        status: u8,
        message: Arc<str>,
    },
    /// Go on, and put it before a person.
    Review,
}

/// A compiled rule.
#[derive(Debug)]
pub struct Rule {
    pub name: Box<str>,
    pub on: Stage,
    pub(super) when: Condition,
    /// What is asked besides, where the condition holds.
    pub function: Option<Function>,
    pub then: Action,
}

/// A rule's Python function: judged outside, within a time, with a stated answer when it does not say.
#[derive(Clone, Debug, PartialEq)]
pub struct Function {
    /// `package.module:function`.
    pub name: Box<str>,
    pub timeout: Duration,
    pub otherwise: Otherwise,
}

/// What counts when a function is late, raises, or cannot be asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Otherwise {
    /// Whether the rule holds.
    Holds(bool),
    /// It holds, and leads there.
    Does(Action),
}
