//! What a route reads out of an answer, one entry per row of the batch.
//!
//! The buffers are meant to be kept by a worker and filled again for each answer, so that the usual call allocates nothing.

/// A row's label: one of the route's classes, or a text that is not among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Label {
    /// Index into the route's `classes`.
    Class(u16),
    /// As the backend said it; checked against `labels`, shown in records.
    Text(Box<str>),
}

/// The predictions of one answer. A vector is empty where the route reads no such output, else it has an entry per row
/// (`scores`: `rows * classes`, row after row).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Predictions {
    /// Rows of the batch.
    pub rows: usize,
    /// Scores per row in `scores`; 1 when the output holds the score of `positive` alone.
    pub columns: usize,
    /// Scores as the backend gave them.
    pub scores: Vec<f64>,
    /// Labels from a BYTES (or integer class index) output.
    pub labels: Vec<Label>,
    /// A named confidence output.
    pub confidence: Vec<f64>,
    /// A number that is neither score nor label.
    pub values: Vec<f64>,
}

impl Predictions {
    /// Forgets what was read, keeps the memory.
    pub fn clear(&mut self) {
        self.rows = 0;
        self.columns = 0;
        self.scores.clear();
        self.labels.clear();
        self.confidence.clear();
        self.values.clear();
    }
}

/// Why an answer holds no prediction: where, what was found, what was wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidOutput(pub Box<str>);

impl std::fmt::Display for InvalidOutput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidOutput {}
