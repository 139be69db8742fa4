//! What common comparisons compare: a literal, or a value of the call read where it stands.

use std::cmp::Ordering;

use cel::IdedExpr;
use cel::common::ast::{Expr, LiteralValue, operators};

use super::Failed;
use super::past::Fact;
use super::scope::Scope;
use crate::policy::peer::Peer;
use crate::policy::spec::Param;

/// A map of texts.
#[derive(Clone, Copy, Debug)]
pub(super) enum Map {
    Metadata,
    Segment,
}

/// Something that is compared.
#[derive(Debug)]
pub(super) enum Operand {
    Text(Box<str>),
    Bool(bool),
    Int(i64),
    Double(f64),
    Entry(Map, Box<str>),
    Param(Box<str>),
    CallerId,
    Model,
    Id,
    Rows,
    Route,
    Backend,
    Label,
    /// A number of the prediction.
    Prediction(Box<str>),
    /// What is known of the unit's past.
    Session(Box<str>),
    /// A number of its last answered request.
    Remembered(Box<str>),
    /// What is known of the route's past.
    Stats(Box<str>),
}

/// The value of an operand.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scalar<'a> {
    Text(&'a str),
    Bool(bool),
    Int(i64),
    Double(f64),
}

impl Map {
    pub fn of(expr: &IdedExpr) -> Option<Map> {
        match &expr.expr {
            Expr::Ident(name) => Map::named(name),
            _ => None,
        }
    }

    fn named(name: &str) -> Option<Map> {
        match name {
            "metadata" => Some(Map::Metadata),
            "segment" => Some(Map::Segment),
            _ => None,
        }
    }

    pub fn get<'a>(self, scope: &Scope<'a>, name: &str) -> Option<&'a str> {
        match self {
            Map::Metadata => scope.request.metadata.get(name),
            Map::Segment => scope.segment.get(name),
        }
    }
}

pub(super) fn literal_text(expr: &IdedExpr) -> Option<&str> {
    match &expr.expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
        _ => None,
    }
}

/// `root.name` or `root["name"]` as (root, name).
pub(super) fn entry(expr: &IdedExpr) -> Option<(&str, &str)> {
    let (root, name) = step(expr)?;
    match &root.expr {
        Expr::Ident(root) => Some((root, name)),
        _ => None,
    }
}

pub(super) fn step(expr: &IdedExpr) -> Option<(&IdedExpr, &str)> {
    match &expr.expr {
        Expr::Select(select) if !select.test => Some((&select.operand, &select.field)),
        Expr::Call(call) if call.func_name == operators::INDEX && call.target.is_none() => match &call.args[..] {
            [operand, name] => Some((operand, literal_text(name)?)),
            _ => None,
        },
        _ => None,
    }
}

impl Operand {
    pub fn of(expr: &IdedExpr) -> Option<Operand> {
        match &expr.expr {
            Expr::Literal(LiteralValue::String(text)) => return Some(Operand::Text(text.inner().into())),
            Expr::Literal(LiteralValue::Boolean(value)) => return Some(Operand::Bool(*value.inner())),
            Expr::Literal(LiteralValue::Int(value)) => return Some(Operand::Int(*value.inner())),
            Expr::Literal(LiteralValue::Double(value)) => return Some(Operand::Double(*value.inner())),
            Expr::Ident(name) => {
                return match name.as_str() {
                    "route" => Some(Operand::Route),
                    "backend" => Some(Operand::Backend),
                    _ => None,
                };
            }
            _ => {}
        }
        let (root, name) = step(expr)?;
        if let Some(map) = Map::of(root) {
            return Some(Operand::Entry(map, name.into()));
        }
        if entry(root) == Some(("request", "params")) {
            return Some(Operand::Param(name.into()));
        }
        if entry(root) == Some(("session", "remembered")) {
            return Some(Operand::Remembered(name.into()));
        }
        match entry(expr)? {
            // A map is nothing to compare.
            ("session", "remembered") => None,
            ("session", name) => Some(Operand::Session(name.into())),
            ("stats", name) => Some(Operand::Stats(name.into())),
            ("caller", "id") => Some(Operand::CallerId),
            ("request", "model") => Some(Operand::Model),
            ("request", "id") => Some(Operand::Id),
            ("request", "rows") => Some(Operand::Rows),
            ("prediction", "label") => Some(Operand::Label),
            ("prediction", name) => Some(Operand::Prediction(name.into())),
            _ => None,
        }
    }

    pub fn value<'a>(&'a self, scope: &Scope<'a>) -> Result<Scalar<'a>, Failed> {
        Ok(match self {
            Operand::Text(text) => Scalar::Text(text),
            Operand::Bool(value) => Scalar::Bool(*value),
            Operand::Int(value) => Scalar::Int(*value),
            Operand::Double(value) => Scalar::Double(*value),
            Operand::Entry(map, name) => Scalar::Text(map.get(scope, name).unwrap_or("")),
            Operand::Param(name) => match scope.request.param(name).ok_or(Failed)? {
                Param::Text(text) => Scalar::Text(text),
                Param::Bool(value) => Scalar::Bool(value),
                Param::Int(value) => Scalar::Int(value),
                Param::Float(value) => Scalar::Double(value),
            },
            Operand::CallerId => Scalar::Text(scope.request.caller.map_or("", Peer::id)),
            Operand::Model => Scalar::Text(scope.request.model),
            Operand::Id => Scalar::Text(scope.request.id),
            Operand::Rows => Scalar::Int(i64::from(scope.request.rows)),
            Operand::Route => Scalar::Text(scope.route),
            Operand::Backend => Scalar::Text(scope.predicted.ok_or(Failed)?.backend),
            Operand::Label => {
                let predicted = scope.predicted.ok_or(Failed)?;
                Scalar::Text(predicted.reading.label_text(predicted.spec).ok_or(Failed)?)
            }
            Operand::Prediction(name) => {
                let number = scope.predicted.and_then(|predicted| predicted.reading.number(name));
                Scalar::Double(number.filter(|number| !number.is_nan()).ok_or(Failed)?)
            }
            Operand::Session(name) => scope.past.and_then(|past| past.session_field(name)).ok_or(Failed)?.into(),
            Operand::Stats(name) => scope.past.and_then(|past| past.stats_field(name)).ok_or(Failed)?.into(),
            Operand::Remembered(name) => {
                Scalar::Double(scope.past.and_then(|past| past.remembered(name)).ok_or(Failed)?)
            }
        })
    }

    pub fn text<'a>(&'a self, scope: &Scope<'a>) -> Result<&'a str, Failed> {
        match self.value(scope)? {
            Scalar::Text(text) => Ok(text),
            _ => Err(Failed),
        }
    }
}

impl<'a> From<Fact<'a>> for Scalar<'a> {
    fn from(fact: Fact<'a>) -> Self {
        match fact {
            Fact::Count(count) => Scalar::Int(i64::from(count)),
            Fact::Number(number) => Scalar::Double(number),
            Fact::Text(text) => Scalar::Text(text),
        }
    }
}

pub(super) fn equal(left: Scalar, right: Scalar) -> bool {
    match (left, right) {
        (Scalar::Text(left), Scalar::Text(right)) => left == right,
        (Scalar::Bool(left), Scalar::Bool(right)) => left == right,
        (Scalar::Text(_) | Scalar::Bool(_), _) | (_, Scalar::Text(_) | Scalar::Bool(_)) => false,
        (left, right) => order(left, right) == Some(Ordering::Equal),
    }
}

#[allow(clippy::cast_precision_loss)] // as the interpreter compares int with double
pub(super) fn order(left: Scalar, right: Scalar) -> Option<Ordering> {
    match (left, right) {
        (Scalar::Text(left), Scalar::Text(right)) => Some(left.cmp(right)),
        (Scalar::Bool(left), Scalar::Bool(right)) => Some(left.cmp(&right)),
        (Scalar::Int(left), Scalar::Int(right)) => Some(left.cmp(&right)),
        (Scalar::Int(left), Scalar::Double(right)) => (left as f64).partial_cmp(&right),
        (Scalar::Double(left), Scalar::Int(right)) => left.partial_cmp(&(right as f64)),
        (Scalar::Double(left), Scalar::Double(right)) => left.partial_cmp(&right),
        _ => None,
    }
}
