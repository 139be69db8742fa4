//! Which route a call belongs to: the most specific that matches.
//!
//! Naming the model outranks everything; then the exact method, then the longest method prefix; then more metadata
//! conditions; then the place in the document.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::compiled::RouteIx;
use super::request::Metadata;

/// Which methods a route takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    Any,
    /// `/package.Service/`, from `/package.Service/*`.
    Prefix(Box<str>),
    Exact(Box<str>),
}

impl Method {
    pub fn takes(&self, method: &str) -> bool {
        match self {
            Method::Any => true,
            Method::Prefix(prefix) => method.starts_with(&**prefix),
            Method::Exact(exact) => method == &**exact,
        }
    }

    fn rank(&self) -> (u8, usize) {
        match self {
            Method::Any => (0, 0),
            Method::Prefix(prefix) => (1, prefix.len()),
            Method::Exact(_) => (2, 0),
        }
    }
}

/// What a route is matched by. `metadata` is sorted by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    pub model: Option<Box<str>>,
    pub method: Method,
    pub metadata: Vec<(Box<str>, Box<str>)>,
}

#[derive(Debug)]
struct Candidate {
    method: Method,
    metadata: Vec<(Box<str>, Box<str>)>,
    route: RouteIx,
}

/// Routes by model; within each list the most specific first.
#[derive(Debug, Default)]
pub struct Table {
    by_model: HashMap<Box<str>, Vec<Candidate>>,
    any_model: Vec<Candidate>,
}

impl Table {
    pub fn new(matches: impl Iterator<Item = (RouteIx, Match)>) -> Self {
        let mut table = Table::default();
        for (route, Match { model, method, metadata }) in matches {
            let candidates = match model {
                Some(model) => table.by_model.entry(model).or_default(),
                None => &mut table.any_model,
            };
            candidates.push(Candidate { method, metadata, route });
        }
        for candidates in table.by_model.values_mut().chain([&mut table.any_model]) {
            candidates.sort_by_key(|one| Reverse((one.method.rank(), one.metadata.len(), Reverse(one.route))));
        }
        table
    }

    pub fn find(&self, method: &str, model: Option<&str>, metadata: &dyn Metadata) -> Option<RouteIx> {
        let first_of = |candidates: &[Candidate]| {
            let matching = candidates.iter().find(|one| {
                one.method.takes(method) && one.metadata.iter().all(|(name, value)| metadata.get(name) == Some(value))
            });
            matching.map(|one| one.route)
        };
        model
            .and_then(|model| self.by_model.get(model))
            .and_then(|candidates| first_of(candidates))
            .or_else(|| first_of(&self.any_model))
    }
}
