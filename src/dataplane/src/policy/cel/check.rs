//! Checks a condition when the policy is compiled: syntax, limits, names, types.
//!
//! The `cel` crate has no type checker. Names are checked against what there is; types by a trial run on a sample of
//! every part of the expression, so that `false && 1 < "a"` is found too. What depends on values that only a call has
//! (`request.params.x`) is not known here: it fails the rule at run time, and `gateway check` knows more.

use cel::common::ast::{ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SourceInfo, operators};

use super::ENV;
use super::past::{SESSION_FIELDS, STATS_FIELDS};
use super::presence::present_to_in;
use super::scope::{PREDICTION_VARIABLES, Scope, VARIABLES};
use super::types::{comparable, type_of, with_value};
use super::values::{CALLER_FIELDS, PREDICTION_FIELDS, REQUEST_FIELDS};
use crate::policy::segment::Segments;

/// Longest text of a condition.
pub(super) const MOST_BYTES: usize = 2048;
/// Most nodes of the expanded expression: bounds the cost of judging it once.
pub(super) const MOST_NODES: usize = 512;
/// Deepest nesting: the interpreter recurses.
pub(super) const MOST_NESTING: u16 = 32;
/// Loops within loops would multiply what a caller sends.
pub(super) const MOST_LOOPS: usize = 1;
/// Longest list of the settings that a loop may go through; `in` looks up in one of any length.
pub(super) const MOST_LOOPED_ITEMS: usize = 1000;

const TYPES: [&str; 10] = ["bool", "int", "uint", "double", "string", "bytes", "list", "map", "null_type", "type"];

/// A fault of a condition, at a line and column (in characters, from 1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::policy) struct CelFault {
    pub message: String,
    pub at: Option<(u32, u32)>,
}

/// A condition without faults.
pub(super) struct Checked {
    pub expr: IdedExpr,
    pub names_prediction: bool,
    pub wants_entropy: bool,
    pub wants_session: bool,
    pub wants_stats: bool,
}

pub(super) fn check(text: &str, sample: &Scope, segments: &Segments) -> Result<Checked, Vec<CelFault>> {
    if text.len() > MOST_BYTES {
        let message =
            format!("found {} bytes, at most {MOST_BYTES} are possible; use a list of the settings", text.len());
        return Err(vec![CelFault { message, at: None }]);
    }
    let parser = ENV.parser().enable_optional_syntax(false);
    let parser = parser.max_recursion_depth(MOST_NESTING).error_recovery_limit(1);
    let (mut expr, source) = parser.parse_with_source_info(text).map_err(|errors| {
        let fault = |error: &cel::ParseError| CelFault { message: error.msg.clone(), at: position(error.pos) };
        let mut faults: Vec<CelFault> = errors.errors.iter().map(fault).collect();
        faults.dedup();
        faults
    })?;
    let mut checker = Checker {
        text,
        source: &source,
        sample,
        segments,
        faults: Vec::new(),
        nodes: 0,
        prediction: false,
        entropy: false,
        session: false,
        stats: false,
    };
    checker.names(&mut expr, &mut Vec::new(), Depth::default());
    // A trial of what is too large, or of names that do not exist, would say nothing new.
    if checker.faults.is_empty() {
        checker.trial(&expr);
    }
    if checker.faults.is_empty() {
        checker.must_be_boolean(&expr, "the condition");
    }
    let Checker { faults, prediction, entropy, session, stats, .. } = checker;
    if faults.is_empty() {
        Ok(Checked {
            expr,
            names_prediction: prediction,
            wants_entropy: entropy,
            wants_session: session,
            wants_stats: stats,
        })
    } else {
        Err(faults)
    }
}

fn position((line, column): (isize, isize)) -> Option<(u32, u32)> {
    Some((u32::try_from(line).ok()?.max(1), u32::try_from(column).ok()?.max(1)))
}

#[derive(Clone, Copy, Default)]
struct Depth {
    nesting: u16,
    loops: usize,
}

struct Checker<'a> {
    text: &'a str,
    source: &'a SourceInfo,
    sample: &'a Scope<'a>,
    segments: &'a Segments,
    faults: Vec<CelFault>,
    nodes: usize,
    prediction: bool,
    entropy: bool,
    session: bool,
    stats: bool,
}

impl Checker<'_> {
    fn fault(&mut self, id: u64, message: impl Into<String>) {
        let at = self.source.offset_for(id).map(|(start, _)| self.place(start as usize));
        self.faults.push(CelFault { message: message.into(), at });
    }

    /// Line and column of the character at `offset`, in bytes.
    fn place(&self, offset: usize) -> (u32, u32) {
        let (mut line, mut column) = (1, 1);
        for (_, character) in self.text.char_indices().take_while(|(at, _)| *at < offset) {
            if character == '\n' {
                (line, column) = (line + 1, 1);
            } else {
                column += 1;
            }
        }
        (line, column)
    }

    /// Limits and names, from the root down. `bound` are the variables of the loops around.
    fn names(&mut self, expr: &mut IdedExpr, bound: &mut Vec<String>, depth: Depth) {
        self.nodes += 1;
        if self.nodes > MOST_NODES || depth.nesting > MOST_NESTING {
            // Once is enough, and what lies beneath is not looked at.
            if self.faults.is_empty() {
                self.fault(
                    expr.id,
                    format!("too large: at most {MOST_NODES} parts, {MOST_NESTING} deep, are possible"),
                );
            }
            return;
        }
        let inner = Depth { nesting: depth.nesting + 1, ..depth };
        present_to_in(expr, bound);
        let id = expr.id;
        self.name(expr, bound);
        match &mut expr.expr {
            Expr::Call(call) => {
                if call.func_name == "matches" {
                    self.pattern(id, call.args.last(), depth);
                }
                for part in call.target.as_deref_mut().into_iter().chain(&mut call.args) {
                    self.names(part, bound, inner);
                }
            }
            Expr::Comprehension(one) => self.looped(id, one, bound, inner),
            Expr::List(list) => list.elements.iter_mut().for_each(|one| self.names(one, bound, inner)),
            Expr::Map(map) => {
                for entry in &mut map.entries {
                    if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                        self.names(&mut entry.key, bound, inner);
                        self.names(&mut entry.value, bound, inner);
                    }
                }
            }
            Expr::Select(select) => self.names(&mut select.operand, bound, inner),
            Expr::Struct(_) => self.fault(id, "messages cannot be built in a rule"),
            Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => {}
        }
    }

    fn looped(&mut self, id: u64, one: &mut ComprehensionExpr, bound: &mut Vec<String>, depth: Depth) {
        if depth.loops >= MOST_LOOPS {
            self.fault(id, format!("at most {MOST_LOOPS} loop (all, exists, map, filter) within another is possible"));
            return;
        }
        let names_of =
            |expr: &IdedExpr| super::operand::entry(expr).map(|(root, name)| (root.to_owned(), name.to_owned()));
        if let Some((root, name)) = names_of(&one.iter_range)
            && root == "lists"
            && self.sample.lists.get(name.as_str()).is_some_and(|list| list.items().len() > MOST_LOOPED_ITEMS)
        {
            self.fault(id, format!("lists.{name} is too long to go through; `in` looks up in a list of any length"));
        }
        self.names(&mut one.iter_range, bound, depth);
        self.names(&mut one.accu_init, bound, depth);
        let outer = bound.len();
        bound.push(one.accu_var.clone());
        bound.push(one.iter_var.clone());
        bound.extend(one.iter_var2.clone());
        let inner = Depth { loops: depth.loops + 1, ..depth };
        for part in [&mut one.loop_cond, &mut one.loop_step, &mut one.result] {
            self.names(part, bound, inner);
        }
        bound.truncate(outer);
    }

    fn pattern(&mut self, id: u64, pattern: Option<&IdedExpr>, depth: Depth) {
        if !matches!(pattern.map(|one| &one.expr), Some(Expr::Literal(LiteralValue::String(_)))) {
            self.fault(id, "the pattern of `matches` must be written out: it is prepared once");
        } else if depth.loops > 0 {
            self.fault(
                id,
                "`matches` within a loop would be prepared for each element; use startsWith, endsWith or contains",
            );
        }
    }

    /// Whether a name, or a field of one, exists.
    fn name(&mut self, expr: &IdedExpr, bound: &[String]) {
        if let Expr::Ident(name) = &expr.expr {
            let on_prediction = PREDICTION_VARIABLES.contains(&name.as_str());
            if bound.contains(name) || TYPES.contains(&name.as_str()) || VARIABLES.contains(&name.as_str()) {
                let bound = bound.contains(name);
                self.session |= name == "session" && !bound;
                self.stats |= name == "stats" && !bound;
                return;
            }
            if on_prediction && self.sample.predicted.is_some() {
                self.prediction |= name == "prediction";
                return;
            }
            self.fault(
                expr.id,
                match on_prediction {
                    true => format!("`{name}` is known only to rules on a prediction"),
                    false => format!("there is no `{name}`; there are {}", self.variables()),
                },
            );
            return;
        }
        self.remembered(expr);
        let Some((root, field)) = super::operand::entry(expr) else { return };
        if bound.iter().any(|known| known == root) {
            return;
        }
        let (root, field) = (root.to_owned(), field.to_owned());
        match root.as_str() {
            "lists" if !self.sample.lists.contains_key(field.as_str()) => {
                self.fault(expr.id, format!("there is no list {field:?} in `lists`"));
            }
            "segment" if !self.segments.names().any(|known| known == field) => {
                self.fault(expr.id, format!("there is no segment {field:?} in `identity`"));
            }
            "prediction" => self.prediction_field(expr.id, &field),
            "session" if field == "last_label" && self.sample.past.is_some_and(|past| past.classes.is_empty()) => {
                self.fault(expr.id, "a last label is only known among the classes of the route's `prediction`");
            }
            root => self.field(expr.id, root, &field),
        }
    }

    /// Whether a variable of closed fields has that one.
    fn field(&mut self, id: u64, root: &str, field: &str) {
        let fields: &[&str] = match root {
            "request" => &REQUEST_FIELDS,
            "caller" => &CALLER_FIELDS,
            "session" => &SESSION_FIELDS,
            "stats" => &STATS_FIELDS,
            _ => return,
        };
        if !fields.contains(&field) {
            self.fault(id, format!("{root} has no `{field}`; it has {}", fields.join(", ")));
        }
    }

    /// Whether what is asked of `session.remembered` is remembered.
    fn remembered(&mut self, expr: &IdedExpr) {
        let Some((map, name)) = super::operand::step(expr) else { return };
        if super::operand::entry(map) != Some(("session", "remembered")) {
            return;
        }
        let names = self.sample.past.map_or(&[][..], |past| past.names);
        if !names.iter().any(|(known, _)| &**known == name) {
            self.fault(expr.id, format!("{name:?} is not remembered: see the route's `session.remember`"));
        }
    }

    fn prediction_field(&mut self, id: u64, field: &str) {
        let Some(predicted) = self.sample.predicted else { return };
        self.entropy |= field == "entropy";
        let there = match field {
            "label" => predicted.reading.label.is_some(),
            _ => predicted.reading.number(field).is_some_and(|number| !number.is_nan()),
        };
        if !PREDICTION_FIELDS.contains(&field) {
            self.fault(id, format!("prediction has no `{field}`; it has {}", PREDICTION_FIELDS.join(", ")));
        } else if !there {
            self.fault(id, format!("the route's prediction has no {field}: see its `prediction`"));
        }
    }

    fn variables(&self) -> String {
        let mut names = VARIABLES.to_vec();
        if self.sample.predicted.is_some() {
            names.extend(PREDICTION_VARIABLES);
        }
        names.join(", ")
    }

    /// Evaluates every part on the sample, the innermost first; a part whose inner part is at fault is not tried.
    fn trial(&mut self, expr: &IdedExpr) -> bool {
        let parts: Vec<&IdedExpr> = match &expr.expr {
            Expr::Call(call) => call.target.as_deref().into_iter().chain(&call.args).collect(),
            Expr::Comprehension(one) => vec![&one.iter_range],
            Expr::List(list) => list.elements.iter().collect(),
            Expr::Select(select) => vec![&select.operand],
            _ => Vec::new(),
        };
        let before = self.faults.len();
        let mut sound = true;
        for part in &parts {
            sound &= self.trial(part);
        }
        if !sound {
            return false;
        }
        if let Expr::Call(call) = &expr.expr {
            self.operands(expr.id, &call.func_name, &parts);
        }
        if self.faults.len() == before
            && let Err(words) = with_value(expr, self.sample, |_| ())
            && let Some(words) = words
        {
            self.fault(expr.id, words);
        }
        self.faults.len() == before
    }

    /// What evaluation on one sample does not show: sides that are skipped, and comparisons that are never true.
    fn operands(&mut self, id: u64, function: &str, parts: &[&IdedExpr]) {
        match (function, parts) {
            (operators::LOGICAL_AND | operators::LOGICAL_OR, [left, right]) => {
                self.must_be_boolean(left, "the left side");
                self.must_be_boolean(right, "the right side");
            }
            (operators::CONDITIONAL, [condition, ..]) => self.must_be_boolean(condition, "the condition"),
            (operators::EQUALS | operators::NOT_EQUALS, [left, right]) => {
                let (left, right) = (type_of(left, self.sample), type_of(right, self.sample));
                if let (Some(left), Some(right)) = (left, right)
                    && !comparable(&left, &right)
                {
                    self.fault(id, format!("{left} and {right} are never equal"));
                }
            }
            (operators::IN, [value, among])
                if super::operand::entry(among).is_some_and(|(root, _)| root == "lists") =>
            {
                if let Some(found) = type_of(value, self.sample)
                    && found != "string"
                {
                    self.fault(id, format!("a list of the settings holds texts, and never a value of type {found}"));
                }
            }
            _ => {}
        }
    }

    fn must_be_boolean(&mut self, expr: &IdedExpr, what: &str) {
        if let Some(found) = type_of(expr, self.sample)
            && found != "bool"
        {
            self.fault(expr.id, format!("{what} is of type {found}, wanted bool"));
        }
    }
}
