//! One row of an answer as the route understands it: label, score of the positive class, how sure.

use super::compiled::{Check, Confidence, Measure};
use super::prediction::{InvalidOutput, Label, Predictions};
use super::recalibration::Recalibration;
use super::segment::Segment;
use super::spec::{PredictionSpec, StaticAnswer};

/// What one row says. Numbers that there are none of are NaN.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    pub label: Option<Label>,
    /// Score of `positive`.
    pub score: f64,
    /// By the route's measure; without one the named output, else the largest probability.
    pub confidence: f64,
    /// Largest less second largest probability.
    pub margin: f64,
    /// `H(p) / ln(k)`: 0 is sure, 1 knows nothing. Worked out only where it is asked for.
    pub entropy: f64,
    pub value: f64,
    /// Whether it says `positive`; `None` where the route has no such class.
    pub flagged: Option<bool>,
}

impl Default for Reading {
    fn default() -> Self {
        Reading {
            label: None,
            score: f64::NAN,
            confidence: f64::NAN,
            margin: f64::NAN,
            entropy: f64::NAN,
            value: f64::NAN,
            flagged: None,
        }
    }
}

impl Reading {
    /// Reads a row that `shape` and `check_row` found good, its scores by the table if there is one.
    ///
    /// In a binary prediction label and flag never contradict: both follow the threshold.
    pub fn of_row(
        spec: &PredictionSpec,
        table: Option<&Recalibration>,
        measure: Option<Measure>,
        with_entropy: bool,
        predictions: &Predictions,
        row: usize,
    ) -> Reading {
        let mut reading = Reading { value: at(&predictions.values, row), ..Reading::default() };
        let output = at(&predictions.confidence, row);
        let mut largest = f64::NAN;
        if let Some(scores) = row_scores(predictions, row) {
            let pair;
            let scores = if let [score] = *scores {
                pair = binary(spec, score);
                &pair[..]
            } else {
                scores
            };
            let mapped = table.zip(spec.positive).map(|(table, positive)| table.scores(positive, scores));
            let scores = mapped.as_deref().unwrap_or(scores);
            largest = reading.read_scores(spec, scores);
            if with_entropy || measure == Some(Measure::Entropy) {
                reading.entropy = entropy(scores);
            }
        }
        if let Some(label) = predictions.labels.get(row) {
            reading.set_label(spec, label.clone());
        }
        reading.confidence = match measure {
            Some(Measure::MaxProbability) => largest,
            Some(Measure::Margin) => reading.margin,
            Some(Measure::Entropy) => 1.0 - reading.entropy,
            Some(Measure::Output) => output,
            None if output.is_nan() => largest,
            None => output,
        };
        reading
    }

    /// What a static answer says.
    pub fn of_static(spec: &PredictionSpec, answer: &StaticAnswer) -> Reading {
        let mut reading = Reading { value: answer.value.unwrap_or(f64::NAN), ..Reading::default() };
        if let Some(scores) = answer.scores.as_deref().filter(|scores| scores.len() > 1) {
            reading.read_scores(spec, scores);
        } else if let Some(score) = answer.score {
            reading.score = score;
            reading.flagged = spec.positive.map(|_| score >= spec.threshold);
            if spec.classes.len() == 2 {
                reading.read_scores(spec, &binary(spec, score));
            }
        }
        if let Some(label) = &answer.label {
            let class =
                spec.classes.iter().position(|class| class == label).and_then(|class| u16::try_from(class).ok());
            let flagged = reading.flagged;
            reading.set_label(spec, class.map_or_else(|| Label::Text(label.clone()), Label::Class));
            reading.flagged = reading.flagged.or(flagged);
        }
        // A static answer is not a measurement: it has no confidence.
        Reading { confidence: f64::NAN, margin: f64::NAN, entropy: f64::NAN, ..reading }
    }

    /// Sets label, score, flag and margin from probabilities by class; gives the largest.
    fn read_scores(&mut self, spec: &PredictionSpec, scores: &[f64]) -> f64 {
        let (mut best, mut largest, mut second) = (0, f64::NEG_INFINITY, f64::NEG_INFINITY);
        for (class, &score) in scores.iter().enumerate() {
            if score > largest {
                (best, second, largest) = (class, largest, score);
            } else if score > second {
                second = score;
            }
        }
        self.margin = largest - second;
        if let Some(positive) = spec.positive {
            self.score = scores.get(usize::from(positive)).copied().unwrap_or(f64::NAN);
            let flagged = self.score >= spec.threshold;
            self.flagged = Some(flagged);
            if scores.len() == 2 {
                best = usize::from(positive);
                if !flagged {
                    best = 1 - best.min(1);
                }
            }
        }
        self.label = u16::try_from(best).ok().map(Label::Class);
        largest
    }

    /// A label that the backend gave itself goes before one worked out from scores; the flag follows the score where
    /// there is one.
    fn set_label(&mut self, spec: &PredictionSpec, label: Label) {
        if self.score.is_nan() {
            self.flagged = spec.positive.map(|positive| label == Label::Class(positive));
        }
        self.label = Some(label);
    }

    /// A number by the name that rules know it by; NaN where there is none.
    pub(super) fn number(&self, name: &str) -> Option<f64> {
        match name {
            "score" => Some(self.score),
            "confidence" => Some(self.confidence),
            "margin" => Some(self.margin),
            "entropy" => Some(self.entropy),
            "value" => Some(self.value),
            _ => None,
        }
    }

    /// What a prediction of this form has, for rules to be tried on.
    pub(super) fn sample(spec: &PredictionSpec) -> Reading {
        let there = |known: bool| if known { 0.5 } else { f64::NAN };
        let scores = spec.scores.is_some();
        let label = if spec.classes.is_empty() { Label::Text("sample".into()) } else { Label::Class(0) };
        Reading {
            label: (scores || spec.label.is_some()).then_some(label),
            score: there(scores && spec.positive.is_some()),
            confidence: there(scores || spec.confidence.is_some()),
            margin: there(scores),
            entropy: there(scores),
            value: there(spec.value.is_some()),
            flagged: None,
        }
    }

    /// The text of the label.
    pub fn label_text<'a>(&'a self, spec: &'a PredictionSpec) -> Option<&'a str> {
        self.label.as_ref().map(|label| label_text(label, spec))
    }
}

/// The text of a label: the class's name, or what the backend said.
pub fn label_text<'a>(label: &'a Label, spec: &'a PredictionSpec) -> &'a str {
    match label {
        Label::Class(class) => spec.classes.get(usize::from(*class)).map_or("", |name| name),
        Label::Text(text) => text,
    }
}

fn at(values: &[f64], row: usize) -> f64 {
    values.get(row).copied().unwrap_or(f64::NAN)
}

fn row_scores(predictions: &Predictions, row: usize) -> Option<&[f64]> {
    let columns = predictions.columns;
    let scores = predictions.scores.get(row.checked_mul(columns)?..(row + 1).checked_mul(columns)?)?;
    (!scores.is_empty()).then_some(scores)
}

/// `[1 - s, s]`, in the order of the classes. Without `positive` the score is of the last class.
fn binary(spec: &PredictionSpec, score: f64) -> [f64; 2] {
    if spec.positive == Some(0) { [score, 1.0 - score] } else { [1.0 - score, score] }
}

/// Normalised entropy of probabilities; what is not a probability adds nothing.
fn entropy(scores: &[f64]) -> f64 {
    let entropy: f64 = scores.iter().filter(|score| **score > 0.0).map(|score| -score * score.ln()).sum();
    #[allow(clippy::cast_precision_loss)] // at most a few thousand classes
    let most = (scores.len() as f64).ln();
    (entropy / most).clamp(0.0, 1.0)
}

/// Whether the answer holds what the route reads, in the right shape.
pub(super) fn shape(
    spec: &PredictionSpec,
    check: &Check,
    predictions: &Predictions,
    asked: u32,
) -> Result<(), InvalidOutput> {
    let rows = predictions.rows;
    // An answer of one row is one prediction of the whole request: not every model has a batch dimension.
    if (rows != 1 || check.same_rows) && u32::try_from(rows) != Ok(asked) {
        return Err(InvalidOutput(format!("found {rows} rows, wanted {asked}").into()));
    }
    let classes = spec.classes.len();
    let columns = predictions.columns;
    if spec.scores.is_some() {
        if columns != classes && !(columns == 1 && classes == 2) {
            return Err(InvalidOutput(format!("found {columns} scores a row, wanted {classes}").into()));
        }
        if Some(predictions.scores.len()) != rows.checked_mul(columns) {
            return Err(InvalidOutput("the scores are not all there".into()));
        }
    }
    for (wanted, found, words) in [
        (spec.label.is_some(), predictions.labels.len(), "the labels are not all there"),
        (spec.confidence.is_some(), predictions.confidence.len(), "the confidences are not all there"),
        (spec.value.is_some(), predictions.values.len(), "the values are not all there"),
    ] {
        if wanted && found != rows {
            return Err(InvalidOutput(words.into()));
        }
    }
    Ok(())
}

/// Whether a row's numbers and label are what the route allows.
pub(super) fn check_row(
    spec: &PredictionSpec,
    check: &Check,
    predictions: &Predictions,
    row: usize,
) -> Result<(), InvalidOutput> {
    if let Some(scores) = row_scores(predictions, row) {
        numbers(scores, check.range)?;
        if let Some(wanted) = check.sum
            && scores.len() > 1
        {
            let sum: f64 = scores.iter().sum();
            if (sum - wanted).abs() > check.sum_tolerance {
                return Err(InvalidOutput(format!("the scores sum to {sum}, wanted {wanted}").into()));
            }
        }
    }
    if let Some(confidence) = predictions.confidence.get(row) {
        numbers(std::slice::from_ref(confidence), None)?;
    }
    if let Some(value) = predictions.values.get(row) {
        // A range speaks of the scores; where the route reads none, of the value.
        let range = if spec.scores.is_none() { check.range } else { None };
        numbers(std::slice::from_ref(value), range)?;
    }
    match predictions.labels.get(row) {
        Some(label) => check_label(spec, check, label),
        None => Ok(()),
    }
}

/// Every number is finite and within the range.
fn numbers(values: &[f64], range: Option<(f64, f64)>) -> Result<(), InvalidOutput> {
    for value in values {
        if !value.is_finite() {
            return Err(InvalidOutput(format!("found {value}, wanted a finite number").into()));
        }
        if let Some((low, high)) = range
            && !(low..=high).contains(value)
        {
            return Err(InvalidOutput(format!("found {value}, wanted {low} to {high}").into()));
        }
    }
    Ok(())
}

fn check_label(spec: &PredictionSpec, check: &Check, label: &Label) -> Result<(), InvalidOutput> {
    let text = label_text(label, spec);
    let allowed = match (&check.labels, label) {
        (Some(labels), _) => labels.iter().any(|known| &**known == text),
        (None, Label::Class(class)) => usize::from(*class) < spec.classes.len(),
        (None, Label::Text(_)) => spec.classes.is_empty(),
    };
    if allowed {
        return Ok(());
    }
    // The text is the backend's: as much as a line needs.
    let shown: String = text.chars().take(60).collect();
    Err(InvalidOutput(format!("found the label {shown:?}, which is not among those wanted").into()))
}

/// The floor of a row: the largest of those that apply, if any does.
pub(super) fn floor_of(confidence: &Confidence, label: Option<&Label>, segment: &Segment) -> Option<f64> {
    let by_label = match label {
        Some(Label::Class(class)) => confidence.per_class.iter().find(|(known, _)| known == class).map(|one| one.1),
        Some(Label::Text(text)) => confidence.per_text.iter().find(|(known, _)| known == text).map(|one| one.1),
        None => None,
    };
    let by_segment = confidence
        .per_segment
        .iter()
        .filter(|(name, value, _)| segment.get(name) == Some(value))
        .map(|(_, _, floor)| *floor);
    confidence.floor.into_iter().chain(by_label).chain(by_segment).reduce(f64::max)
}
