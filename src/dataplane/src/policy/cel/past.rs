//! `session` and `stats`: what is remembered of the unit and of the route, as rules name it.
//!
//! All of it is defined from the first call on, as 0 or `""`: `session.answered > 0` tells whether there was an answer.

use crate::policy::compiled::Source;
use crate::policy::memory::{Session, Stats, label_hash};

/// What a rule can see of the past.
#[derive(Clone, Copy, Debug)]
pub(in crate::policy) struct Seen<'a> {
    pub session: &'a Session,
    pub stats: &'a Stats,
    /// Names of `Session::remembered`.
    pub names: &'a [(Box<str>, Source)],
    /// The route's, to put `Session::label` into words.
    pub classes: &'a [Box<str>],
}

/// A value of the past.
#[derive(Clone, Copy, Debug)]
pub(in crate::policy) enum Fact<'a> {
    Count(u32),
    Number(f64),
    Text(&'a str),
}

/// The fields that there are, for the check of names; `remembered` is a map.
pub(super) const SESSION_FIELDS: [&str; 10] = [
    "calls",
    "answered",
    "fallbacks",
    "flagged",
    "repeats",
    "last_label",
    "last_score",
    "last_confidence",
    "last_value",
    "remembered",
];
pub(super) const STATS_FIELDS: [&str; 8] =
    ["calls", "fallback_share", "predictions", "flagged_share", "score_mean", "score_sd", "value_mean", "value_sd"];

impl<'a> Seen<'a> {
    pub fn session_field(&self, name: &str) -> Option<Fact<'a>> {
        let session = self.session;
        Some(match name {
            "calls" => Fact::Count(session.calls),
            "answered" => Fact::Count(session.answered),
            "fallbacks" => Fact::Count(session.fallbacks),
            "flagged" => Fact::Count(session.flagged),
            "repeats" => Fact::Count(session.repeats),
            "last_label" => Fact::Text(self.last_label()),
            "last_score" => Fact::Number(session.score),
            "last_confidence" => Fact::Number(session.confidence),
            "last_value" => Fact::Number(session.value),
            _ => return None,
        })
    }

    pub fn stats_field(&self, name: &str) -> Option<Fact<'a>> {
        let stats = self.stats;
        Some(match name {
            "calls" => Fact::Count(stats.calls),
            "fallback_share" => Fact::Number(stats.fallback_share),
            "predictions" => Fact::Count(stats.predictions),
            "flagged_share" => Fact::Number(stats.flagged_share),
            "score_mean" => Fact::Number(stats.score_mean),
            "score_sd" => Fact::Number(stats.score_sd),
            "value_mean" => Fact::Number(stats.value_mean),
            "value_sd" => Fact::Number(stats.value_sd),
            _ => return None,
        })
    }

    /// A number of the last answered request.
    pub fn remembered(&self, name: &str) -> Option<f64> {
        let at = self.names.iter().position(|(known, _)| &**known == name)?;
        self.session.remembered.get(at).copied()
    }

    /// The class that was answered last; `""` for none, or one that the classes of a new policy do not have.
    fn last_label(&self) -> &'a str {
        let known = self.session.label;
        let class = self.classes.iter().find(|class| known != 0 && label_hash(class) == known);
        class.map_or("", |class| class)
    }
}
