//! Common comparisons, taken out of the interpreter's hands when a policy is compiled.
//!
//! Means exactly what CEL means: `==` between different types is false, ordering between them an error, `&&` and `||`
//! absorb the error of a side that does not matter. A part that is none of these stays with the interpreter.

use std::cmp::Ordering;
use std::sync::Arc;

use cel::IdedExpr;
use cel::common::ast::{CallExpr, Expr, LiteralValue, operators};
use regex::Regex;

use super::scope::Scope;
use super::{Failed, interpret};
use crate::policy::peer::Peer;
use crate::policy::rule::{List, Lists};
use crate::policy::spec::Param;

/// A pattern longer than its compiled form may be is a fault of the policy.
const MOST_PATTERN_BYTES: usize = 1 << 20;

/// A boolean.
#[derive(Debug)]
pub(super) enum Fast {
    Not(Box<Fast>),
    And(Box<Fast>, Box<Fast>),
    Or(Box<Fast>, Box<Fast>),
    Equal(Operand, Operand),
    NotEqual(Operand, Operand),
    Order(Operand, Wanted, Operand),
    InList(Operand, Arc<List>),
    InTexts(Operand, Vec<Box<str>>),
    InMap(Operand, Map),
    InCallerNames(Operand),
    Text(Operand, TextTest),
    Truth(Operand),
    Interpreted(Arc<IdedExpr>),
}

/// Which orderings make a comparison true.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug)]
pub(super) enum TextTest {
    StartsWith(Operand),
    EndsWith(Operand),
    Contains(Operand),
    Matches(Regex),
}

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
}

/// The value of an operand.
#[derive(Clone, Copy, Debug)]
enum Scalar<'a> {
    Text(&'a str),
    Bool(bool),
    Int(i64),
    Double(f64),
}

impl Fast {
    /// Compiles an expression that was checked.
    ///
    /// # Errors
    /// A pattern of `matches` that is no regular expression.
    pub fn compile(expr: &IdedExpr, lists: &Lists) -> Result<Fast, String> {
        if let Some(fast) = Fast::of(expr, lists)? {
            return Ok(fast);
        }
        Ok(match Operand::of(expr) {
            Some(operand) => Fast::Truth(operand),
            None => Fast::Interpreted(Arc::new(expr.clone())),
        })
    }

    fn of(expr: &IdedExpr, lists: &Lists) -> Result<Option<Fast>, String> {
        let Expr::Call(call) = &expr.expr else { return Ok(None) };
        if let Some(target) = &call.target {
            let test = match (Operand::of(target), &call.args[..]) {
                (Some(text), [argument]) => text_test(&call.func_name, argument)?.map(|test| Fast::Text(text, test)),
                _ => None,
            };
            return Ok(test);
        }
        Ok(match (call.func_name.as_str(), &call.args[..]) {
            (operators::LOGICAL_NOT, [inner]) => Some(Fast::Not(Box::new(Fast::compile(inner, lists)?))),
            (operators::LOGICAL_AND, [left, right]) => {
                Some(Fast::And(Box::new(Fast::compile(left, lists)?), Box::new(Fast::compile(right, lists)?)))
            }
            (operators::LOGICAL_OR, [left, right]) => {
                Some(Fast::Or(Box::new(Fast::compile(left, lists)?), Box::new(Fast::compile(right, lists)?)))
            }
            (operators::IN, [value, among]) => Operand::of(value).and_then(|value| within(value, among, lists)),
            (_, [left, right]) => Operand::of(left).zip(Operand::of(right)).and_then(|pair| comparison(call, pair)),
            _ => None,
        })
    }

    pub fn holds(&self, scope: &Scope) -> Result<bool, Failed> {
        match self {
            Fast::Not(inner) => inner.holds(scope).map(|holds| !holds),
            Fast::And(left, right) => match left.holds(scope) {
                Ok(false) => Ok(false),
                Ok(true) => right.holds(scope),
                Err(Failed) => {
                    if right.holds(scope)? {
                        Err(Failed)
                    } else {
                        Ok(false)
                    }
                }
            },
            Fast::Or(left, right) => match left.holds(scope) {
                Ok(true) => Ok(true),
                Ok(false) => right.holds(scope),
                Err(Failed) => {
                    if right.holds(scope)? {
                        Ok(true)
                    } else {
                        Err(Failed)
                    }
                }
            },
            Fast::Equal(left, right) => Ok(equal(left.value(scope)?, right.value(scope)?)),
            Fast::NotEqual(left, right) => Ok(!equal(left.value(scope)?, right.value(scope)?)),
            Fast::Order(left, wanted, right) => {
                let ordering = order(left.value(scope)?, right.value(scope)?).ok_or(Failed)?;
                Ok(match wanted {
                    Wanted::Less => ordering.is_lt(),
                    Wanted::LessOrEqual => ordering.is_le(),
                    Wanted::Greater => ordering.is_gt(),
                    Wanted::GreaterOrEqual => ordering.is_ge(),
                })
            }
            Fast::InList(value, list) => Ok(matches!(value.value(scope)?, Scalar::Text(text) if list.contains(text))),
            Fast::InTexts(value, texts) => {
                Ok(matches!(value.value(scope)?, Scalar::Text(text) if texts.iter().any(|one| &**one == text)))
            }
            Fast::InCallerNames(value) => {
                let names = scope.request.caller.map_or(&[][..], Peer::names);
                Ok(matches!(value.value(scope)?, Scalar::Text(text) if names.iter().any(|name| name == text)))
            }
            Fast::InMap(name, map) => Ok(map.get(scope, name.text(scope)?).is_some()),
            Fast::Text(value, test) => {
                let value = value.text(scope)?;
                Ok(match test {
                    TextTest::StartsWith(part) => value.starts_with(part.text(scope)?),
                    TextTest::EndsWith(part) => value.ends_with(part.text(scope)?),
                    TextTest::Contains(part) => value.contains(part.text(scope)?),
                    TextTest::Matches(pattern) => pattern.is_match(value),
                })
            }
            Fast::Truth(value) => match value.value(scope)? {
                Scalar::Bool(value) => Ok(value),
                _ => Err(Failed),
            },
            Fast::Interpreted(expr) => interpret(expr, scope),
        }
    }

    /// Whether no part of it needs the interpreter.
    #[cfg(test)]
    pub fn is_whole(&self) -> bool {
        match self {
            Fast::Not(inner) => inner.is_whole(),
            Fast::And(left, right) | Fast::Or(left, right) => left.is_whole() && right.is_whole(),
            Fast::Interpreted(_) => false,
            _ => true,
        }
    }
}

fn comparison(call: &CallExpr, (left, right): (Operand, Operand)) -> Option<Fast> {
    let wanted = match call.func_name.as_str() {
        operators::EQUALS => return Some(Fast::Equal(left, right)),
        operators::NOT_EQUALS => return Some(Fast::NotEqual(left, right)),
        operators::LESS => Wanted::Less,
        operators::LESS_EQUALS => Wanted::LessOrEqual,
        operators::GREATER => Wanted::Greater,
        operators::GREATER_EQUALS => Wanted::GreaterOrEqual,
        _ => return None,
    };
    Some(Fast::Order(left, wanted, right))
}

fn within(value: Operand, among: &IdedExpr, lists: &Lists) -> Option<Fast> {
    if let Some(map) = Map::of(among) {
        return Some(Fast::InMap(value, map));
    }
    if let Expr::List(list) = &among.expr {
        let texts: Option<Vec<Box<str>>> = list.elements.iter().map(|one| literal_text(one).map(Into::into)).collect();
        return Some(Fast::InTexts(value, texts?));
    }
    let (root, name) = entry(among)?;
    if (root, name) == ("caller", "names") {
        return Some(Fast::InCallerNames(value));
    }
    (root == "lists").then(|| lists.get(name)).flatten().map(|list| Fast::InList(value, Arc::clone(list)))
}

fn text_test(function: &str, argument: &IdedExpr) -> Result<Option<TextTest>, String> {
    if function == "matches" {
        let Some(pattern) = literal_text(argument) else { return Ok(None) };
        let regex = regex::RegexBuilder::new(pattern).size_limit(MOST_PATTERN_BYTES).build();
        return regex
            .map(|regex| Some(TextTest::Matches(regex)))
            .map_err(|error| format!("the pattern {pattern:?} of `matches` cannot be used: {error}"));
    }
    let Some(part) = Operand::of(argument) else { return Ok(None) };
    Ok(match function {
        "startsWith" => Some(TextTest::StartsWith(part)),
        "endsWith" => Some(TextTest::EndsWith(part)),
        "contains" => Some(TextTest::Contains(part)),
        _ => None,
    })
}

impl Map {
    fn of(expr: &IdedExpr) -> Option<Map> {
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

    fn get<'a>(self, scope: &Scope<'a>, name: &str) -> Option<&'a str> {
        match self {
            Map::Metadata => scope.request.metadata.get(name),
            Map::Segment => scope.segment.get(name),
        }
    }
}

fn literal_text(expr: &IdedExpr) -> Option<&str> {
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

fn step(expr: &IdedExpr) -> Option<(&IdedExpr, &str)> {
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
    fn of(expr: &IdedExpr) -> Option<Operand> {
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
        match entry(expr)? {
            ("caller", "id") => Some(Operand::CallerId),
            ("request", "model") => Some(Operand::Model),
            ("request", "id") => Some(Operand::Id),
            ("request", "rows") => Some(Operand::Rows),
            ("prediction", "label") => Some(Operand::Label),
            ("prediction", name) => Some(Operand::Prediction(name.into())),
            _ => None,
        }
    }

    fn value<'a>(&'a self, scope: &Scope<'a>) -> Result<Scalar<'a>, Failed> {
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
        })
    }

    fn text<'a>(&'a self, scope: &Scope<'a>) -> Result<&'a str, Failed> {
        match self.value(scope)? {
            Scalar::Text(text) => Ok(text),
            _ => Err(Failed),
        }
    }
}

fn equal(left: Scalar, right: Scalar) -> bool {
    match (left, right) {
        (Scalar::Text(left), Scalar::Text(right)) => left == right,
        (Scalar::Bool(left), Scalar::Bool(right)) => left == right,
        (Scalar::Text(_) | Scalar::Bool(_), _) | (_, Scalar::Text(_) | Scalar::Bool(_)) => false,
        (left, right) => order(left, right) == Some(Ordering::Equal),
    }
}

#[allow(clippy::cast_precision_loss)] // as the interpreter compares int with double
fn order(left: Scalar, right: Scalar) -> Option<Ordering> {
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
