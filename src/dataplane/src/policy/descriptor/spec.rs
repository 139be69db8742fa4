//! What paths become: field numbers and types, by which the wire room reads, writes and cuts messages.

/// Names of an enum's values.
pub type EnumNames = Box<[(i32, Box<str>)]>;

/// How a number stands on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    Double,
    Float,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Sint32,
    Sint64,
    Fixed32,
    Fixed64,
    Sfixed32,
    Sfixed64,
    Bool,
}

impl Number {
    pub fn is_float(self) -> bool {
        matches!(self, Self::Double | Self::Float)
    }
}

/// What a path ends at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Number(Number),
    Text,
    /// Read as little-endian numbers of the route's datatype, or as a text.
    Bytes,
    /// Read by name.
    Enum(EnumNames),
    /// `tensorflow.TensorProto`.
    Tensor,
    /// Only counted.
    Message,
}

/// The key of a map's entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    Text(Box<str>),
    Int(Number, i64),
}

/// Which of a field's values a step takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Take {
    /// The one there is: the last value counts, and messages that stand twice are merged.
    One,
    /// An element of a list.
    At(u32),
    /// Every element, a row each.
    Each,
    /// Every value, of one row or row after row.
    All,
    /// The entry of a map.
    Key(Key),
    /// Of a map by class: the entries of all classes, in the order of the classes.
    ByClass,
}

/// One field on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub field: u32,
    pub take: Take,
    /// Other fields of the same `oneof`: whichever comes last is the one that is set.
    pub rivals: Box<[u32]>,
}

/// A path, compiled. The last step is the value's own field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldPath {
    /// As the settings have it.
    pub text: Box<str>,
    pub steps: Box<[Step]>,
    pub kind: Kind,
    /// A field without presence is not on the wire when it is zero: its absence says so.
    pub zero_if_absent: bool,
}

impl FieldPath {
    /// Whether the answer has a row for each element that the path goes through.
    pub fn has_rows(&self) -> bool {
        self.steps.iter().any(|step| step.take == Take::Each)
    }

    /// How the value's own field is taken.
    pub fn take(&self) -> &Take {
        self.steps.last().map_or(&Take::One, |step| &step.take)
    }
}

/// What of a request decisions see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asking {
    pub rows: Option<FieldPath>,
    pub id: Option<FieldPath>,
    pub model: Option<FieldPath>,
    /// Shown to rules as `request.params`.
    pub params: Vec<(Box<str>, FieldPath)>,
}

impl Asking {
    /// Whether rows are counted, for which all of the request must be here.
    pub fn counts_rows(&self) -> bool {
        let rows = self.rows.as_ref();
        rows.is_some_and(|rows| matches!(rows.take(), Take::Each | Take::All))
    }
}

/// What a written value says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Scores,
    Label,
    Confidence,
    Value,
}

/// How a written value is typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    pub what: What,
    pub kind: Kind,
}

/// A part of the answer's message as a static answer writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormNode {
    pub field: u32,
    pub take: Take,
    /// Elements of the list that stand before this one and that nobody reads.
    pub pad: u32,
    pub inner: Form,
}

/// What stands within.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    Message(Vec<FormNode>),
    Value(Put),
}

/// What is cut out of a message before it leaves the call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cuts {
    /// Fields that the descriptor knows: what it does not know does not leave.
    pub known: Box<[u32]>,
    pub parts: Vec<Part>,
}

/// A field of which something is cut out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Field(u32),
    /// Of each of its messages.
    Within(u32, Cuts),
    /// Entries of a map by their keys; an entry without cuts goes as a whole.
    Entries(u32, Vec<(Key, Option<Cuts>)>),
    /// Of each entry's value.
    Values(u32, Cuts),
}

/// A route of a service that a descriptor describes. The paths of its prediction stand in the same order as in
/// `PredictionSpec`, whose texts they were made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Described {
    /// Full name of the request's message.
    pub request_type: Box<str>,
    /// Full name of the answer's message.
    pub answer_type: Box<str>,
    pub asking: Asking,
    pub scores: Option<FieldPath>,
    pub label: Option<FieldPath>,
    pub confidence: Option<FieldPath>,
    pub value: Option<FieldPath>,
    /// How a static answer is written.
    pub form: Vec<FormNode>,
    /// What a reviewer must not see.
    pub cuts: Cuts,
    /// What copies go without, by the order of the route's mirrors; `None` goes whole.
    pub copies: Vec<Option<Cuts>>,
}

/// A method that at least one route reads by a descriptor.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DescribedMethod {
    /// Where its requests name a model, if routes are told apart by it.
    pub model: Option<FieldPath>,
    /// Whether a route counts the request's rows.
    pub counts_rows: bool,
}

impl DescribedMethod {
    /// Takes one more route of the method; `false` where it finds the model elsewhere than those before.
    pub fn add(&mut self, described: &Described) -> bool {
        self.counts_rows |= described.asking.counts_rows();
        match (&self.model, &described.asking.model) {
            (Some(known), Some(model)) => known.steps == model.steps,
            (None, model) => {
                self.model.clone_from(model);
                true
            }
            (Some(_), None) => true,
        }
    }
}
