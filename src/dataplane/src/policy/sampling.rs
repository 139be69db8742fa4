//! What calls and predictions are chosen for by chance: the control group, arms, copies, review.
//!
//! Each choice is a salted hash of its own purpose, so that none says anything about another; see `choice`.

use std::time::Duration;

use super::choice::Choice;
use super::compiled::BackendIx;
use super::decision::{Decision, NO_STRATUM};
use super::matching::Method;
use super::reading::Reading;
use super::segment::Segment;
use super::words::Outcome;

/// How a prediction was sampled for review, by its number in records; what Python shares.
pub mod stratum {
    /// Not flagged, and not near the threshold.
    pub const LOW: u8 = 0;
    /// Flagged.
    pub const FLAGGED: u8 = 1;
    /// Not flagged, but by little.
    pub const NEAR: u8 = 2;
    /// Answered by another than the first choice, on either side of the threshold.
    pub const FALLBACK: u8 = 3;
    /// A shadow said otherwise: known only after the answer.
    pub const DISAGREEMENT: u8 = 4;

    /// Names of the strata, by number.
    pub const STRATA: [&str; 5] = ["low", "flagged", "near", "fallback", "disagreement"];

    /// The name of a stratum; empty for none.
    pub fn name(stratum: u8) -> &'static str {
        STRATA.get(usize::from(stratum)).copied().unwrap_or_default()
    }
}

/// Units that never meet the model.
#[derive(Clone, Debug)]
pub struct Holdout {
    pub choice: Choice,
    /// Who answers them, in order; nobody else is asked.
    pub chain: Vec<BackendIx>,
}

/// One of the backends that a route explores.
#[derive(Clone, Debug)]
pub struct Arm {
    pub backend: BackendIx,
    /// Its probability, and its own hash.
    pub choice: Choice,
}

/// Backends that take turns at being the first choice.
#[derive(Clone, Debug)]
pub struct Explore {
    pub arms: Vec<Arm>,
    /// One arm for all calls of a unit; else each call has its own.
    pub by_unit: bool,
}

impl Explore {
    pub fn backends(&self) -> impl Iterator<Item = BackendIx> + '_ {
        self.arms.iter().map(|arm| arm.backend)
    }

    /// The arm that a key draws: weighted rendezvous hashing. Each arm has a hash of its own, as a clock that rings the
    /// sooner the larger its share; the first to ring is taken.
    ///
    /// P(arm) is its share, exactly. When one arm's share rises, the others keeping their proportions, keys move to that
    /// arm and nowhere else; whatever changes, no more than 2 d / (1 + d) of the keys move, d being the least that must
    /// (the total variation distance), which no scheme without memory undercuts (Angel, Spinka 2019, arXiv:1903.00632).
    pub fn draw(&self, key: &[u8]) -> Option<&Arm> {
        let mut first: Option<(&Arm, f64)> = None;
        for arm in self.arms.iter().filter(|arm| arm.choice.share > 0.0) {
            let rings = -arm.choice.uniform(key).ln() / arm.choice.share;
            if first.is_none_or(|(_, known)| rings < known) {
                first = Some((arm, rings));
            }
        }
        first.map(|(arm, _)| arm)
    }
}

/// A second backend that is the primary's like: what it says otherwise is noise.
#[derive(Clone, Debug)]
pub struct Noise {
    pub to: BackendIx,
    /// Of the units whose calls are copied.
    pub choice: Choice,
}

/// A backend that gets copies.
#[derive(Clone, Debug)]
pub struct Mirror {
    pub to: BackendIx,
    pub choice: Choice,
    /// Only calls of these, as they may be done twice.
    pub methods: Vec<Method>,
    pub noise: Option<Noise>,
    /// Names of inputs that the copy goes without.
    pub redact_inputs: Vec<Box<str>>,
    /// Names of request parameters that the copy goes without.
    pub redact_params: Vec<Box<str>>,
    /// Which of the route's described copies it is, where a descriptor says what it goes without.
    pub cut: Option<usize>,
    /// Metadata that the copy goes without, in lower case.
    pub strip: Vec<Box<str>>,
    pub max_in_flight: u32,
    pub max_bytes: u64,
    pub timeout: Duration,
}

impl Mirror {
    /// Whether something is taken out of the request before it is copied.
    pub fn redacts(&self) -> bool {
        self.cut.is_some() || !(self.redact_inputs.is_empty() && self.redact_params.is_empty())
    }

    pub fn takes(&self, method: &str) -> bool {
        self.methods.iter().any(|one| one.takes(method))
    }
}

/// Which predictions are put before people, and with what of the request.
#[derive(Clone, Debug)]
pub struct Review {
    pub queue: Box<str>,
    pub choice: Choice,
    pub flagged: f64,
    /// Of what is not flagged, but for those near the threshold where they have a share of their own.
    pub low: f64,
    pub near: Option<f64>,
    /// Scores from here up to the threshold are near it; NaN: none is.
    pub near_from: f64,
    /// Of what the first choice did not answer; by side of the decision where there is none.
    pub fallback: Option<f64>,
    /// Of what a shadow contradicts, as far as it is more.
    pub disagreement: Option<f64>,
    /// By name and value of a segment, what its shares are multiplied by.
    pub segments: Vec<(Box<str>, Box<str>, f64)>,
    /// What is kept: `inputs`.
    pub capture: Vec<Box<str>>,
    /// Names of inputs that never leave the call (`inputs.email` in settings is `email` here).
    pub redact: Vec<Box<str>>,
}

/// How one prediction is sampled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    pub stratum: u8,
    pub pi: f32,
    pub sampled: bool,
}

impl Sample {
    /// Of what was not answered.
    pub const NONE: Sample = Sample { stratum: NO_STRATUM, pi: 0.0, sampled: false };
}

impl Review {
    /// What the shares of a segment are multiplied by: the product of all that apply.
    pub fn factor(&self, segment: &Segment) -> f64 {
        let applies = |name: &str, value: &str| segment.get(name) == Some(value);
        self.segments.iter().filter(|(name, value, _)| applies(name, value)).map(|(_, _, factor)| factor).product()
    }

    /// Stratum and share of a prediction.
    ///
    /// One that is neither flagged nor not stands with the unflagged: there is one stratum then.
    pub fn stratum(&self, reading: &Reading, outcome: Outcome) -> (u8, f64) {
        if let (Some(share), Outcome::Fallback | Outcome::Static) = (self.fallback, outcome) {
            return (stratum::FALLBACK, share);
        }
        if reading.flagged == Some(true) {
            return (stratum::FLAGGED, self.flagged);
        }
        match self.near {
            // NaN is near nothing.
            Some(share) if reading.flagged == Some(false) && reading.score >= self.near_from => (stratum::NEAR, share),
            _ => (stratum::LOW, self.low),
        }
    }

    /// Whether the row of a call is within a probability: nested, so that one that was chosen stays chosen when its
    /// probability is raised.
    pub fn chosen(&self, id: &[u8; 16], row: u32, pi: f64) -> bool {
        let mut key = [0u8; 20];
        key[..16].copy_from_slice(id);
        key[16..].copy_from_slice(&row.to_le_bytes());
        self.choice.within(&key, pi)
    }
}

impl Decision {
    /// How a row is sampled once a shadow said otherwise; `None` where that changes nothing.
    ///
    /// The same hash as before is held against the larger of the two probabilities: who was chosen stays chosen, and the
    /// probability of being chosen, now that it is known that they disagree, is that larger one. (Two draws of their own
    /// would make it `1 - (1 - p)(1 - q)`, for more reviews and no more knowledge.)
    pub fn raised(&self, review: &Review, id: &[u8; 16], row: u32) -> Option<Sample> {
        let before = self.rows.get(row as usize)?;
        if before.stratum == NO_STRATUM || before.review_pi >= self.disagreement {
            return None;
        }
        let pi = self.disagreement;
        Some(Sample { stratum: stratum::DISAGREEMENT, pi, sampled: review.chosen(id, row, f64::from(pi)) })
    }
}
