//! Conditions of rules: CEL, checked when the policy is compiled, quick when a call is judged.
//!
//! In: a text, and what the rule can see. Out: whether it holds, or that it could not be evaluated. Never: a clock,
//! randomness, a loop whose length a caller chooses freely, or a context built for a call whose rules need none.
//!
//! Common comparisons become a small tree of our own (`fast`), which reads the call where it stands; everything else
//! is left to the interpreter of the `cel` crate, part by part, so that one unusual term does not slow the others down.
//! The interpreter is also the oracle of the tests.
//!
//! What differs from a plain map in CEL: `metadata["x"]` and `segment.x` are `""` where there is no such
//! entry (`has(metadata.x)` and `"x" in metadata` tell absent from empty), so that a rule about an optional header
//! cannot fail; `request.params.x` is an error where it is absent, as its type is not known. `caller.id` is
//! `""` and `caller.names` empty for a caller who has shown no certificate.

mod check;
mod fast;
mod operand;
mod past;
mod presence;
#[cfg(any(test, fuzzing))]
pub(super) mod sample;
mod scope;
#[cfg(test)]
mod tests;
mod types;
mod values;

use std::sync::{Arc, LazyLock};

use cel::common::types::CelBool;
use cel::{Context, Env, IdedExpr, Value};

pub(super) use check::CelFault;
pub(super) use past::Seen;
pub(super) use scope::{Predicted, Scope};

use super::segment::Segments;
use fast::Fast;

/// One for all: building it costs 40 us.
static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// The condition could not be evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failed;

/// A compiled condition.
#[derive(Debug)]
pub(super) struct Condition {
    fast: Fast,
    /// The whole expression, for the interpreter as the tests' oracle.
    #[cfg(any(test, fuzzing))]
    whole: IdedExpr,
    /// Whether it names the prediction, and so has to be judged for each row.
    pub per_row: bool,
    /// Whether it asks for `prediction.entropy`, which costs logarithms.
    pub wants_entropy: bool,
    /// Whether it asks for what is remembered of the unit / of the route, which has to be kept for it.
    pub wants_session: bool,
    pub wants_stats: bool,
}

impl Condition {
    /// Compiles a condition. `sample` is what the rule will be able to see.
    ///
    /// # Errors
    /// Everything that is wrong with it: syntax, limits, unknown names, wrong types.
    pub fn compile(text: &str, sample: &Scope, segments: &Segments) -> Result<Condition, Vec<CelFault>> {
        let checked = check::check(text, sample, segments)?;
        let fast = Fast::compile(&checked.expr, sample.lists)
            .map_err(|message| vec![CelFault { message, at: Some((1, 1)) }])?;
        Ok(Condition {
            fast,
            #[cfg(any(test, fuzzing))]
            whole: checked.expr,
            per_row: checked.names_prediction,
            wants_entropy: checked.wants_entropy,
            wants_session: checked.wants_session,
            wants_stats: checked.wants_stats,
        })
    }

    /// Whether the condition holds.
    pub fn holds(&self, scope: &Scope) -> Result<bool, Failed> {
        self.fast.holds(scope)
    }

    /// Whether no part of it is left to the interpreter.
    #[cfg(test)]
    pub fn is_fast(&self) -> bool {
        self.fast.is_whole()
    }

    /// The same by the interpreter alone: the oracle of `holds`.
    #[cfg(any(test, fuzzing))]
    pub fn interpreted(&self, scope: &Scope) -> Result<bool, Failed> {
        interpret(&self.whole, scope)
    }
}

/// Evaluates an expression that must be a boolean.
fn interpret(expr: &IdedExpr, scope: &Scope) -> Result<bool, Failed> {
    let mut context = Context::with_env(Arc::clone(&ENV));
    context.set_variable_resolver(scope);
    let value = Value::resolve_val(expr, &context).map_err(|_| Failed)?;
    value.downcast_ref::<CelBool>().map(|value| *value.inner()).ok_or(Failed)
}
