//! The call as CEL values, read where it stands: nothing is built that an expression does not ask for.

use std::collections::HashMap;
use std::fmt;
use std::sync::OnceLock;

use cel::ExecutionError;
use cel::common::traits::{Container, Indexer, Iterable, Iterator, Sizer};
use cel::common::types::{
    CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelString, LIST_TYPE, MAP_TYPE, Type,
};
use cel::common::value::{CowVal, Val};

use super::past::{Fact, Seen};
use super::scope::Predicted;
use crate::policy::peer::Peer;
use crate::policy::request::{Metadata, Request};
use crate::policy::rule::{List, Lists};
use crate::policy::segment::Segment;
use crate::policy::spec::{Input, Param};

static MAP: Type = MAP_TYPE;
static LIST: Type = LIST_TYPE;

fn text(value: &dyn Val) -> Result<&str, ExecutionError> {
    value.downcast_ref::<CelString>().map(CelString::inner).ok_or_else(|| ExecutionError::UnexpectedType {
        got: value.get_type().name().to_owned(),
        want: "string".to_owned(),
    })
}

/// A value with named fields.
#[derive(Clone, Copy)]
pub(super) enum Fields<'a> {
    Request(&'a Request<'a>),
    Lists(&'a Lists),
    Caller(Option<&'a Peer>),
    Prediction(Predicted<'a>),
    Session(Seen<'a>),
    Stats(Seen<'a>),
}

/// The fields that there are, for the check of names.
pub(super) const REQUEST_FIELDS: [&str; 5] = ["model", "id", "rows", "params", "inputs"];
pub(super) const CALLER_FIELDS: [&str; 2] = ["id", "names"];
pub(super) const PREDICTION_FIELDS: [&str; 6] = ["label", "score", "confidence", "margin", "entropy", "value"];

impl<'a> Fields<'a> {
    fn field(&self, name: &str) -> Option<Box<dyn Val + 'a>> {
        match *self {
            Fields::Request(request) => request_field(request, name),
            Fields::Lists(lists) => Some(Box::new(ListVal(lists.get(name)?))),
            Fields::Caller(caller) => caller_field(caller, name),
            Fields::Prediction(predicted) => prediction_field(predicted, name),
            Fields::Session(past) if name == "remembered" => Some(remembered(past)),
            Fields::Session(past) => past.session_field(name).map(fact),
            Fields::Stats(past) => past.stats_field(name).map(fact),
        }
    }
}

fn request_field<'a>(request: &'a Request<'a>, name: &str) -> Option<Box<dyn Val + 'a>> {
    Some(match name {
        "model" => Box::new(CelString::from(request.model)),
        "id" => Box::new(CelString::from(request.id)),
        "rows" => Box::new(CelInt::from(i64::from(request.rows))),
        "params" => {
            let entries = request.params.iter().map(|(name, value)| (CelMapKey::from(*name), param(*value)));
            Box::new(CelMap::from(entries.collect::<HashMap<_, _>>()))
        }
        "inputs" => {
            let entries = request.inputs.iter().map(|one| (CelMapKey::from(one.name), input(one)));
            Box::new(CelMap::from(entries.collect::<HashMap<_, _>>()))
        }
        _ => return None,
    })
}

/// A caller without TLS, or without a certificate, has the id `""` and no names.
fn caller_field<'a>(caller: Option<&'a Peer>, name: &str) -> Option<Box<dyn Val + 'a>> {
    Some(match name {
        "id" => Box::new(CelString::from(caller.map_or("", Peer::id))),
        "names" => {
            let names = caller.map_or(&[][..], Peer::names).iter();
            Box::new(CelList::from(
                names.map(|name| Box::new(CelString::from(name.as_str())) as Box<dyn Val + 'a>).collect::<Vec<_>>(),
            ))
        }
        _ => return None,
    })
}

fn fact<'a>(fact: Fact<'a>) -> Box<dyn Val + 'a> {
    match fact {
        Fact::Count(count) => Box::new(CelInt::from(i64::from(count))),
        Fact::Number(number) => Box::new(CelDouble::from(number)),
        Fact::Text(text) => Box::new(CelString::from(text)),
    }
}

fn remembered<'a>(past: Seen<'a>) -> Box<dyn Val + 'a> {
    let entries =
        past.names.iter().zip(past.session.remembered).map(|((name, _), number)| {
            (CelMapKey::from(&**name), Box::new(CelDouble::from(number)) as Box<dyn Val + 'a>)
        });
    Box::new(CelMap::from(entries.collect::<HashMap<_, _>>()))
}

fn param<'a>(value: Param<'a>) -> Box<dyn Val + 'a> {
    match value {
        Param::Bool(value) => Box::new(CelBool::from(value)),
        Param::Int(value) => Box::new(CelInt::from(value)),
        Param::Float(value) => Box::new(CelDouble::from(value)),
        Param::Text(value) => Box::new(CelString::from(value)),
    }
}

fn input<'a>(input: &'a Input<'a>) -> Box<dyn Val + 'a> {
    let sizes = input.shape.iter().map(|size| Box::new(CelInt::from(*size)) as Box<dyn Val + 'a>);
    let shape: Box<dyn Val + 'a> = Box::new(CelList::from(sizes.collect::<Vec<_>>()));
    let datatype: Box<dyn Val + 'a> = Box::new(CelString::from(input.datatype));
    let fields = [(CelMapKey::from("datatype"), datatype), (CelMapKey::from("shape"), shape)];
    Box::new(CelMap::from(HashMap::from(fields)))
}

fn prediction_field<'a>(predicted: Predicted<'a>, name: &str) -> Option<Box<dyn Val + 'a>> {
    let reading = predicted.reading;
    if name == "label" {
        return Some(Box::new(CelString::from(reading.label_text(predicted.spec)?)));
    }
    let number = reading.number(name)?;
    // A number that the prediction does not have is not there, rather than NaN.
    (!number.is_nan()).then(|| Box::new(CelDouble::from(number)) as Box<dyn Val + 'a>)
}

impl fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fields::Request(_) => "request",
            Fields::Lists(_) => "lists",
            Fields::Caller(_) => "caller",
            Fields::Prediction(_) => "prediction",
            Fields::Session(_) => "session",
            Fields::Stats(_) => "stats",
        })
    }
}

impl Val for Fields<'_> {
    fn get_type(&self) -> &Type {
        &MAP
    }

    fn cel_type() -> &'static Type {
        &MAP
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(*self)
    }
}

impl Indexer for Fields<'_> {
    fn get<'b, 'v>(&'b self, field: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let name = text(field)?;
        self.field(name).map(CowVal::Owned).ok_or_else(|| ExecutionError::no_such_key(name))
    }

    fn steal<'v>(self: Box<Self>, field: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.get(field).map(CowVal::into_owned)
    }
}

/// Where the entries of a map of texts are.
#[derive(Clone, Copy)]
pub(super) enum Texts<'a> {
    Metadata(&'a dyn Metadata),
    Segment(&'a Segment),
}

impl<'a> Texts<'a> {
    pub fn get(&self, name: &str) -> Option<&'a str> {
        match *self {
            Texts::Metadata(metadata) => metadata.get(name),
            Texts::Segment(segment) => segment.get(name),
        }
    }

    fn names(&self) -> Vec<CelString<'static>> {
        let mut names: Vec<String> = Vec::new();
        match self {
            Texts::Metadata(metadata) => metadata.each(&mut |name, _| names.push(name.to_owned())),
            Texts::Segment(segment) => names.extend(segment.each().map(|(name, _)| name.to_owned())),
        }
        names.sort_unstable();
        names.dedup();
        names.into_iter().map(CelString::from).collect()
    }
}

/// A map of texts in which an absent entry reads as `""`.
pub(super) struct TextMap<'a> {
    texts: Texts<'a>,
    /// Only made where an expression goes through all of them.
    names: OnceLock<Vec<CelString<'static>>>,
}

impl<'a> TextMap<'a> {
    pub fn new(texts: Texts<'a>) -> Self {
        TextMap { texts, names: OnceLock::new() }
    }

    fn names(&self) -> &[CelString<'static>] {
        self.names.get_or_init(|| self.texts.names())
    }
}

impl fmt::Debug for TextMap<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

impl Val for TextMap<'_> {
    fn get_type(&self) -> &Type {
        &MAP
    }

    fn cel_type() -> &'static Type {
        &MAP
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_iterable<'b, 'v>(&'b self) -> Option<&'b (dyn Iterable + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_sizer(&self) -> Option<&dyn Sizer> {
        Some(self)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(TextMap::new(self.texts))
    }
}

impl Indexer for TextMap<'_> {
    fn get<'b, 'v>(&'b self, name: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        Ok(CowVal::owned(CelString::from(self.texts.get(text(name)?).unwrap_or(""))))
    }

    fn steal<'v>(self: Box<Self>, name: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.get(name).map(CowVal::into_owned)
    }
}

impl Container for TextMap<'_> {
    fn contains(&self, name: &dyn Val) -> Result<bool, ExecutionError> {
        Ok(self.texts.get(text(name)?).is_some())
    }
}

impl Sizer for TextMap<'_> {
    fn size(&self) -> CelInt {
        CelInt::from(i64::try_from(self.names().len()).unwrap_or(i64::MAX))
    }
}

impl Iterable for TextMap<'_> {
    fn iter<'b, 'v>(&'b self) -> Box<dyn Iterator<'b, 'v> + 'b>
    where
        Self: 'v,
    {
        Box::new(Each(self.names().iter()))
    }
}

/// A list of the settings: a set to look up in, and its items in order to go through.
#[derive(Clone, Copy, Debug)]
struct ListVal<'a>(&'a List);

impl Val for ListVal<'_> {
    fn get_type(&self) -> &Type {
        &LIST
    }

    fn cel_type() -> &'static Type {
        &LIST
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn as_iterable<'b, 'v>(&'b self) -> Option<&'b (dyn Iterable + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_sizer(&self) -> Option<&dyn Sizer> {
        Some(self)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(*self)
    }
}

impl Container for ListVal<'_> {
    fn contains(&self, value: &dyn Val) -> Result<bool, ExecutionError> {
        // As in any list of CEL: what is not a text equals none of them.
        Ok(text(value).is_ok_and(|value| self.0.contains(value)))
    }
}

impl Sizer for ListVal<'_> {
    fn size(&self) -> CelInt {
        CelInt::from(i64::try_from(self.0.items().len()).unwrap_or(i64::MAX))
    }
}

impl Iterable for ListVal<'_> {
    fn iter<'b, 'v>(&'b self) -> Box<dyn Iterator<'b, 'v> + 'b>
    where
        Self: 'v,
    {
        Box::new(Each(self.0.items().iter()))
    }
}

struct Each<'b>(std::slice::Iter<'b, CelString<'static>>);

impl<'b, 'v> Iterator<'b, 'v> for Each<'b> {
    fn next(&mut self) -> Option<&'b (dyn Val + 'v)> {
        self.0.next().map(|item| item as &'b (dyn Val + 'v))
    }
}
