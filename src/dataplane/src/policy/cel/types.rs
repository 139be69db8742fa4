//! Types of an expression's parts, found by trying them on a sample: the `cel` crate has no type checker.

use cel::common::ast::IdedExpr;
use cel::common::value::CowVal;
use cel::{Context, ExecutionError, Value};

use super::ENV;
use super::scope::Scope;

/// Types as CEL compares them: numbers among each other, else like with like. `null` may stand for anything.
pub(super) fn comparable(left: &str, right: &str) -> bool {
    let number = |name: &str| ["int", "uint", "double"].contains(&name);
    left == right
        || (number(left) && number(right))
        || [left, right].iter().any(|name| ["null_type", "dyn"].contains(name))
}

/// The type of an expression on the sample; `None` where that cannot be known.
pub(super) fn type_of(expr: &IdedExpr, sample: &Scope) -> Option<String> {
    with_value(expr, sample, |value| value.get_type().name().to_owned()).ok()
}

/// Evaluates on the sample. An error is `Some` words where it is a fault of the expression, `None` where it may be of
/// the sample's values only.
pub(super) fn with_value<T>(
    expr: &IdedExpr,
    sample: &Scope,
    take: impl FnOnce(&CowVal) -> T,
) -> Result<T, Option<String>> {
    let mut context = Context::with_env(std::sync::Arc::clone(&ENV));
    context.set_variable_resolver(sample);
    let result = Value::resolve_val(expr, &context);
    match result {
        Ok(value) => Ok(take(&value)),
        Err(error) => Err(of_types(&error).then(|| error.to_string())),
    }
}

/// Whether an error is of the types and names in the expression, which no other values would mend.
fn of_types(error: &ExecutionError) -> bool {
    matches!(
        error,
        ExecutionError::NoSuchOverload(_)
            | ExecutionError::UndeclaredReference(_)
            | ExecutionError::UnexpectedType { .. }
            | ExecutionError::UnsupportedBinaryOperator(..)
            | ExecutionError::UnsupportedTargetType { .. }
            | ExecutionError::UnsupportedKeyType(_)
            | ExecutionError::UnsupportedIndex(..)
            | ExecutionError::NotSupportedAsMethod { .. }
            | ExecutionError::InvalidArgumentCount { .. }
            | ExecutionError::MissingArgumentOrTarget
            | ExecutionError::ValuesNotComparable(..)
    )
}
