//! Common comparisons, taken out of the interpreter's hands when a policy is compiled.
//!
//! Means exactly what CEL means: `==` between different types is false, ordering between them an error, `&&` and `||`
//! absorb the error of a side that does not matter. A part that is none of these stays with the interpreter.

use std::sync::Arc;

use cel::IdedExpr;
use cel::common::ast::{CallExpr, Expr, operators};
use regex::Regex;

use super::operand::{Map, Operand, Scalar, entry, equal, literal_text, order};
use super::scope::Scope;
use super::{Failed, interpret};
use crate::policy::peer::Peer;
use crate::policy::rule::{List, Lists};

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
