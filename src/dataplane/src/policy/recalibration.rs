//! A model's scores as probabilities: a monotone table, fitted on labels, through which the score of `positive` goes
//! before anything is decided by it.
//!
//! The answer itself stays as the model gave it; flag, confidence, rules, shadows and the record see the new score.

use smallvec::SmallVec;

use super::compiled::BackendIx;
use super::document::Node;
use super::spec::PredictionSpec;

/// No finer than the grid that scores are counted on.
const MOST_KNOTS: usize = 1000;

/// Scores of a row, without an allocation for up to this many classes.
pub(super) type Scores = SmallVec<[f64; 8]>;

/// Knots of a piecewise linear function that never falls.
#[derive(Clone, Debug, PartialEq)]
pub struct Recalibration {
    /// Rising, 0 to 1.
    x: Box<[f64]>,
    y: Box<[f64]>,
    /// Whose scores it was fitted on; every model's if `None`.
    backend: Option<BackendIx>,
}

/// Reads it out of the document; `backend`: a backend by its name, noting where there is none.
pub(super) fn recalibration(
    node: &Node,
    spec: Option<&PredictionSpec>,
    backend: impl FnOnce(&Node) -> Option<BackendIx>,
) -> Option<Recalibration> {
    if node.is_null() || !node.object(&["x", "y", "backend"]) {
        return None;
    }
    if spec.is_none_or(|spec| spec.scores.is_none() || spec.positive.is_none()) {
        node.fault("the route reads no score of `positive` that could be mapped");
        return None;
    }
    let knots = |name: &str| -> Box<[f64]> { node.field(name).items().iter().map(Node::need_share).collect() };
    let (x, y) = (knots("x"), knots("y"));
    if x.len() < 2 || x.len() > MOST_KNOTS || x.len() != y.len() {
        node.fault(format!("found {} and {} knots, wanted 2 to {MOST_KNOTS}, as many x as y", x.len(), y.len()));
        return None;
    }
    if !x.windows(2).all(|pair| pair[0] < pair[1]) || !y.windows(2).all(|pair| pair[0] <= pair[1]) {
        node.fault("wanted knots whose x rises and whose y never falls");
        return None;
    }
    let of = node.field("backend");
    let backend = if of.is_null() { None } else { Some(backend(&of)?) };
    Some(Recalibration { x, y, backend })
}

impl Recalibration {
    /// Whether it speaks of this backend's scores.
    pub fn is_for(&self, backend: BackendIx) -> bool {
        self.backend.is_none_or(|known| known == backend)
    }

    /// The score by the table; beyond its ends that of the end, and NaN for NaN.
    pub fn score(&self, score: f64) -> f64 {
        if score.is_nan() {
            return score;
        }
        let above = self.x.partition_point(|knot| *knot <= score);
        if above == 0 {
            return self.y[0];
        }
        let (low, left) = (self.y[above - 1], self.x[above - 1]);
        let Some(&right) = self.x.get(above) else { return low };
        let high = self.y[above];
        // Rounding must not carry it over the next knot: it would fall there.
        (high - low).mul_add((score - left) / (right - left), low).clamp(low, high)
    }

    /// Scores by class: that of `positive` by the table, the others share the rest as they did before.
    pub(super) fn scores(&self, positive: u16, scores: &[f64]) -> Scores {
        let positive = usize::from(positive);
        let Some(&before) = scores.get(positive) else { return Scores::from_slice(scores) };
        let after = self.score(before);
        let rest: f64 = scores.iter().enumerate().filter(|(class, _)| *class != positive).map(|(_, score)| score).sum();
        #[allow(clippy::cast_precision_loss)] // at most a few thousand classes
        let others = scores.len().saturating_sub(1).max(1) as f64;
        let share = |score: f64| if rest > 0.0 { score / rest } else { 1.0 / others };
        let mapped = |(class, score): (usize, &f64)| {
            if class == positive { after } else { (1.0 - after) * share(*score) }
        };
        scores.iter().enumerate().map(mapped).collect()
    }
}
