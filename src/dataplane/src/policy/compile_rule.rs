//! The rules of a route: conditions tried on a sample of what they will see, and what they lead to.

use std::time::Duration;

use super::cel::{CelFault, Condition, Predicted, Scope, Seen};
use super::compile::MOST_MS;
use super::compile_prediction as prediction;
use super::compile_route::RouteCompiler;
use super::document::Node;
use super::memory::{Session, SessionSpec, Stats};
use super::reading::Reading;
use super::request::Request;
use super::rule::{Action, Function, Otherwise, Rule, Stage};
use super::spec::PredictionSpec;
use super::words::status;

/// Every rule may be judged for every call.
const MOST_RULES: usize = 256;

/// What a rule belongs to.
pub(super) struct Ruled<'a> {
    pub route: &'a str,
    pub spec: Option<&'a PredictionSpec>,
    pub session: Option<&'a SessionSpec>,
    pub stats_within: Option<Duration>,
}

impl RouteCompiler<'_> {
    pub(super) fn rules(&self, node: &Node, of: &Ruled) -> Vec<Rule> {
        let items = node.items();
        if items.len() > MOST_RULES {
            node.fault(format!("found {} rules, at most {MOST_RULES} are possible", items.len()));
        }
        let mut rules: Vec<Rule> = Vec::new();
        for item in items.iter().take(MOST_RULES) {
            let Some(rule) = self.rule(item, of) else { continue };
            if rules.iter().any(|known| known.name == rule.name) {
                item.field("name").fault(format!("there are two rules {:?}", rule.name));
            }
            rules.push(rule);
        }
        rules
    }

    fn rule(&self, node: &Node, of: &Ruled) -> Option<Rule> {
        if !node.object(&["name", "on", "when", "python", "timeout_ms", "otherwise", "then"]) {
            return None;
        }
        let name = node.field("name").need_text();
        let field = node.field("on");
        let on = match field.text() {
            Some("request") => Stage::Request,
            Some("prediction") => Stage::Prediction,
            _ => {
                field.fault("wanted \"request\" or \"prediction\"");
                return None;
            }
        };
        if on == Stage::Prediction && of.spec.is_none() {
            field.fault("the route reads no prediction; give it a `prediction`");
        }
        let then = self.action(&node.field("then"), of.spec);
        let when = self.condition(&node.field("when"), on, of);
        let python = node.field("python");
        let function = if python.is_null() { None } else { Some(self.function(node, of.spec)?) };
        Some(Rule { name: name.into(), on, when: when?, function, then: then? })
    }

    /// What a rule asks Python, and what counts when it does not say.
    fn function(&self, rule: &Node, spec: Option<&PredictionSpec>) -> Option<Function> {
        let name = rule.field("python");
        let text = name.need_text();
        if !text.split_once(':').is_some_and(|(module, function)| !module.is_empty() && !function.is_empty()) {
            name.fault(format!("found {text:?}, wanted \"package.module:function\""));
        }
        let otherwise = rule.field("otherwise");
        let otherwise = match otherwise.boolean() {
            Some(holds) => Otherwise::Holds(holds),
            None => Otherwise::Does(self.action(&otherwise, spec)?),
        };
        let timeout = Duration::from_millis(rule.field("timeout_ms").need_count(MOST_MS));
        Some(Function { name: text.into(), timeout, otherwise })
    }

    /// Compiles the condition of a rule against a sample of what it will see.
    fn condition(&self, node: &Node, on: Stage, of: &Ruled) -> Option<Condition> {
        let Ruled { route, spec, session, stats_within } = *of;
        let metadata = vec![("sample", "sample")];
        let request = Request {
            method: "/sample.Service/Method",
            model: "sample",
            id: "sample",
            rows: 1,
            params: &[],
            inputs: &[],
            metadata: &metadata,
            caller: None,
            memory: None,
        };
        let segment = self.segments.of(&request);
        let reading = spec.map(Reading::sample);
        let predicted = spec
            .zip(reading.as_ref())
            .filter(|_| on == Stage::Prediction)
            .map(|(spec, reading)| Predicted { reading, spec, backend: "sample" });
        let past = Seen {
            session: &Session::default(),
            stats: &Stats::default(),
            names: session.map_or(&[][..], |session| &session.remember),
            classes: spec.map_or(&[][..], |spec| &spec.classes),
        };
        let past = Some(past);
        let sample = Scope { request: &request, segment: &segment, route, lists: self.lists, predicted, past };
        match Condition::compile(node.need_text(), &sample, self.segments) {
            Ok(condition) => {
                if condition.wants_session {
                    self.must_remember(node, "`session`");
                }
                if (condition.wants_session && session.is_none()) || (condition.wants_stats && stats_within.is_none()) {
                    node.fault("the rule names what the route does not remember; give it `session` and `stats`");
                }
                Some(condition)
            }
            Err(faults) => {
                for CelFault { message, at } in faults {
                    node.fault_at(message, at);
                }
                None
            }
        }
    }

    fn action(&self, node: &Node, spec: Option<&PredictionSpec>) -> Option<Action> {
        if !node.object(&["kind", "backend", "status", "message"]) {
            return None;
        }
        let kind = node.field("kind");
        match kind.text() {
            Some("next") => Some(Action::Next),
            Some("review") => Some(Action::Review),
            Some("answer") => self.static_backend(&node.field("backend"), spec).map(Action::Answer),
            Some("to") => {
                let to = node.field("backend");
                let (index, backend) = self.backend(&to)?;
                prediction::answer_fits(&to, backend, spec);
                Some(if backend.is_static() { Action::Answer(index) } else { Action::To(index) })
            }
            Some("reject") => {
                let code = node.field("status");
                let text = code.need_text();
                let status = status::by_name(text).filter(|status| *status != status::OK);
                if status.is_none() {
                    code.fault(format!("found {text:?}, wanted the name of a gRPC status such as INVALID_ARGUMENT"));
                }
                let message = node.field("message").text().unwrap_or("refused by a rule of the route");
                Some(Action::Reject { status: status?, message: message.into() })
            }
            _ => {
                kind.fault("wanted \"next\", \"to\", \"answer\", \"reject\" or \"review\"");
                None
            }
        }
    }
}
