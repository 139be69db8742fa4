//! What a route remembers of its calls: the loop guard, sessions for rules, how far back its statistics look.

use std::time::Duration;

use super::compile::source;
use super::compile_prediction::answer_fits;
use super::compile_route::RouteCompiler;
use super::compiled::{BackendIx, Source};
use super::document::Node;
use super::memory::{LoopGuard, MOST_REMEMBERED, SessionSpec};
use super::spec::PredictionSpec;

/// Counts are kept in bytes, by eighths of the time.
const MOST_LIMIT: u64 = 255;
/// A week: a unit that is still remembered then has long come back as another.
const MOST_S: u64 = 7 * 24 * 3600;

pub(super) fn seconds(node: &Node) -> Duration {
    Duration::from_secs(node.need_count(MOST_S))
}

impl RouteCompiler<'_> {
    pub(super) fn loop_guard(
        &self,
        node: &Node,
        spec: Option<&PredictionSpec>,
        chain: &[BackendIx],
    ) -> Option<LoopGuard> {
        if node.is_null() || !node.object(&["limit", "within_s", "then", "on", "negative"]) {
            return None;
        }
        self.must_remember(node, "a loop guard");
        let field = node.field("then");
        let (then, backend) = self.backend(&field)?;
        if chain.first() == Some(&then) {
            field.fault(format!("{:?} is whom the unit is stuck with; wanted another backend", backend.name));
        }
        answer_fits(&field, backend, spec);
        let on = node.field("on");
        let kinds = on.texts();
        if kinds.is_empty() || kinds.iter().any(|kind| !["fallback", "same_negative"].contains(&&**kind)) {
            on.fault("wanted one or both of \"fallback\" and \"same_negative\"");
        }
        let counts = |wanted: &str| kinds.iter().any(|kind| &**kind == wanted);
        let field = node.field("negative");
        let negative = field.texts();
        if let Some(spec) = spec.filter(|spec| !spec.classes.is_empty()) {
            for item in field.items() {
                let label = item.text().unwrap_or("");
                if !spec.classes.iter().any(|class| **class == *label) {
                    item.fault(format!("{label:?} is not among the classes"));
                }
            }
        }
        if counts("same_negative") && negative.is_empty() && spec.is_none_or(|spec| spec.positive.is_none()) {
            on.fault("no answer is negative: the prediction has no `positive`, and `negative` names no label");
        }
        Some(LoopGuard {
            limit: u32::try_from(node.field("limit").need_count(MOST_LIMIT)).unwrap_or(u32::MAX),
            within: seconds(&node.field("within_s")),
            then,
            on_fallback: counts("fallback"),
            on_negative: counts("same_negative"),
            negative,
        })
    }

    pub(super) fn session(&self, node: &Node) -> Option<SessionSpec> {
        if node.is_null() || !node.object(&["idle_s", "remember"]) {
            return None;
        }
        let field = node.field("remember");
        let mut remember: Vec<(Box<str>, Source)> = Vec::new();
        for item in field.items() {
            if !item.object(&["name", "from"]) {
                continue;
            }
            let name = item.field("name").need_text();
            if remember.iter().any(|(known, _)| &**known == name) {
                item.field("name").fault(format!("{name:?} is remembered twice"));
            }
            match source(&item.field("from")) {
                Some(from) => remember.push((name.into(), from)),
                None => item.field("from").fault("wanted {\"metadata\": name} or {\"param\": name}"),
            }
        }
        if remember.len() > MOST_REMEMBERED {
            field.fault(format!("found {} numbers, at most {MOST_REMEMBERED} are remembered", remember.len()));
        }
        Some(SessionSpec { idle: seconds(&node.field("idle_s")), remember })
    }

    pub(super) fn stats_within(node: &Node) -> Option<Duration> {
        if node.is_null() || !node.object(&["within_s"]) {
            return None;
        }
        Some(seconds(&node.field("within_s")))
    }

    /// Without room for units nothing is remembered of any.
    pub(super) fn must_remember(&self, node: &Node, what: &str) {
        if !self.remembers {
            node.fault(format!("{what} remembers units, and `limits.units` leaves no room for any"));
        }
    }
}
