//! Rules: a condition in CEL, and what to do where it holds.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::compiled::BackendIx;

/// Named lists of the settings, as sets: `x in lists.name` is one look-up however long the list is.
pub type Lists = HashMap<Box<str>, HashSet<Box<str>>>;

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
    Reject { status: u8, message: Arc<str> },
    /// Go on, and put it before a person.
    Review,
}

/// A compiled rule.
#[derive(Debug)]
pub struct Rule {
    pub name: Box<str>,
    pub on: Stage,
    pub then: Action,
}
