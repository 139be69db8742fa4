//! The past of a call that is only thought of: what is remembered of its unit and of its route.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::compiled::{Route, RouteIx};
use super::memory::{LoopGuard, Memory, Met, Session, SessionSpec, Stats, label_hash};

/// What is thought to be remembered. What is not said is 0.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ThoughtPast {
    loop_guard: Option<ThoughtMet>,
    session: Option<ThoughtSession>,
    stats: ThoughtStats,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ThoughtMet {
    fallbacks: u32,
    negatives: u32,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ThoughtSession {
    calls: u32,
    answered: u32,
    fallbacks: u32,
    flagged: u32,
    repeats: u32,
    last_label: String,
    last_score: f64,
    last_confidence: f64,
    last_value: f64,
    remembered: BTreeMap<String, f64>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ThoughtStats {
    calls: u32,
    fallback_share: f64,
    predictions: u32,
    flagged_share: f64,
    score_mean: f64,
    score_sd: f64,
    value_mean: f64,
    value_sd: f64,
}

impl ThoughtPast {
    /// Whether something is said of the unit, which then has to be named.
    pub fn is_of_unit(&self) -> bool {
        self.loop_guard.is_some() || self.session.is_some()
    }

    /// Whether the route remembers what is said.
    ///
    /// # Errors
    /// What it does not remember, in words.
    pub fn fits(&self, route: &Route) -> Result<(), String> {
        if self.loop_guard.is_some() && route.loop_guard.is_none() {
            return Err(format!("the call: the route {} has no loop_guard", route.name));
        }
        let known = route.session.as_ref().map_or(&[][..], |spec| &spec.remember);
        let mut said = self.session.iter().flat_map(|session| session.remembered.keys());
        match said.find(|name| !known.iter().any(|(known, _)| **known == **name)) {
            Some(name) => Err(format!("the call: the route {} does not remember {name:?}", route.name)),
            None => Ok(()),
        }
    }
}

impl Memory for ThoughtPast {
    fn met(&self, _: &LoopGuard, _: u64) -> Met {
        self.loop_guard
            .as_ref()
            .map_or(Met::default(), |met| Met { fallbacks: met.fallbacks, negatives: met.negatives })
    }

    fn session(&self, spec: &SessionSpec, _: u64) -> Session {
        let Some(said) = &self.session else { return Session::default() };
        let mut session = Session {
            calls: said.calls,
            answered: said.answered,
            fallbacks: said.fallbacks,
            flagged: said.flagged,
            repeats: said.repeats,
            label: if said.last_label.is_empty() { 0 } else { label_hash(&said.last_label) },
            score: said.last_score,
            confidence: said.last_confidence,
            value: said.last_value,
            ..Session::default()
        };
        for ((name, _), number) in spec.remember.iter().zip(&mut session.remembered) {
            *number = said.remembered.get(&**name).copied().unwrap_or(0.0);
        }
        session
    }

    fn stats(&self, _: RouteIx) -> Stats {
        let said = &self.stats;
        Stats {
            calls: said.calls,
            fallback_share: said.fallback_share,
            predictions: said.predictions,
            flagged_share: said.flagged_share,
            score_mean: said.score_mean,
            score_sd: said.score_sd,
            value_mean: said.value_mean,
            value_sd: said.value_sd,
        }
    }
}
