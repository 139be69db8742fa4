//! What a route reads out of answers, and what a static answer says: the part of the compiled policy that the wire room needs.

/// A parameter of an Open Inference Protocol request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Param<'a> {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(&'a str),
}

/// An input tensor, without its contents.
#[derive(Clone, Debug, PartialEq)]
pub struct Input<'a> {
    pub name: &'a str,
    pub datatype: &'a str,
    pub shape: &'a [i64],
}

/// An answer that is always there. Takes the form of the route's `prediction`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StaticAnswer {
    pub label: Option<Box<str>>,
    /// Score of the route's `positive`.
    pub score: Option<f64>,
    pub scores: Option<Vec<f64>>,
    pub value: Option<f64>,
}

/// Which outputs hold the prediction, and what they mean.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PredictionSpec {
    /// Output `[rows, classes]`, or `[rows]` / `[rows, 1]` with the score of `positive`.
    pub scores: Option<Box<str>>,
    /// BYTES (or integer class index) output.
    pub label: Option<Box<str>>,
    pub confidence: Option<Box<str>>,
    pub value: Option<Box<str>>,
    pub classes: Vec<Box<str>>,
    /// Index into `classes`.
    pub positive: Option<u16>,
    /// Flagged when score(positive) is at least this.
    pub threshold: f64,
    /// Of the score, confidence and value tensors of a static answer: `FP32`, `FP64`, ...
    pub datatype: Box<str>,
}

/// What an output of an answer must be; what is `None` may be anything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OutputCheck {
    pub name: Box<str>,
    pub datatype: Option<Box<str>>,
    /// -1 for a dimension of any size.
    pub shape: Option<Vec<i64>>,
    pub range: Option<(f64, f64)>,
    /// Texts that it may hold; for BYTES.
    pub labels: Option<Vec<Box<str>>>,
    /// Whether it may be missing.
    pub optional: bool,
}

/// What the outputs of an answer must be, beyond those that the prediction is read from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OutputsCheck {
    pub outputs: Vec<OutputCheck>,
    /// Whether an output that is neither named here nor read makes the answer invalid.
    pub only_known: bool,
    /// Whether each has as many rows as the prediction.
    pub same_rows: bool,
}
