//! One route of the document: its match, chain, prediction, checks and choices, against the backends that there are.

use std::collections::HashMap;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::compile::milliseconds;
use super::compile_check::check;
use super::compile_prediction as prediction;
use super::compile_rule::Ruled;
use super::compiled::{Backend, BackendIx, Route};
use super::descriptor::{self, Descriptors};
use super::document::Node;
use super::hedge::hedge;
use super::matching::{Match, Method};
use super::recalibration::recalibration;
use super::rule::{Lists, Stage};
use super::sampling::Explore;
use super::segment::Segments;
use super::spec::PredictionSpec;

/// Every entry of a chain may cost an attempt.
const MOST_CHAIN: usize = 32;

/// What a route is compiled against.
pub(super) struct RouteCompiler<'a> {
    pub(super) salt: &'a [u8],
    pub(super) backends: &'a [Backend],
    by_name: &'a HashMap<&'a str, BackendIx>,
    pub(super) segments: &'a Segments,
    pub(super) lists: &'a Arc<Lists>,
    descriptors: &'a Descriptors,
    /// Whether there is room for units to be remembered.
    pub(super) remembers: bool,
    /// Matches and names of the routes before, to find two that are the same.
    seen: Vec<(String, Match)>,
}

impl<'a> RouteCompiler<'a> {
    pub fn new(
        salt: &'a [u8],
        backends: &'a [Backend],
        by_name: &'a HashMap<&'a str, BackendIx>,
        segments: &'a Segments,
        lists: &'a Arc<Lists>,
        descriptors: &'a Descriptors,
        remembers: bool,
    ) -> Self {
        RouteCompiler { salt, backends, by_name, segments, lists, descriptors, remembers, seen: Vec::new() }
    }

    pub fn route(&mut self, node: &Node) -> Option<(Match, Route)> {
        const FIELDS: &[&str] = &[
            "name",
            "match",
            "chain",
            "deadline_ms",
            "request",
            "on_miss",
            "prediction",
            "recalibration",
            "check",
            "confidence",
            "rules",
            "holdout",
            "explore",
            "mirror",
            "review",
            "hedge",
            "kill_switch",
            "loop_guard",
            "session",
            "stats",
        ];
        if !node.object(FIELDS) {
            return None;
        }
        let name = node.field("name").need_text();
        let matched = self.matched(&node.field("match"));
        self.only_once(node, name, &matched);
        let spec = prediction::spec(&node.field("prediction"), &node.field("confidence"));
        let spec = spec.as_ref();
        let compiler =
            descriptor::Compiler { descriptors: self.descriptors, route: node, method: &matched.method, spec };
        let described = compiler.described().map(Box::new);
        let session = self.session(&node.field("session"));
        let stats_within = Self::stats_within(&node.field("stats"));
        let rules =
            self.rules(&node.field("rules"), &Ruled { route: name, spec, session: session.as_ref(), stats_within });
        let table = recalibration(&node.field("recalibration"), spec, |node| Some(self.backend(node)?.0));
        let chain = self.chain(&node.field("chain"), spec);
        let explore = self.explore(&node.field("explore"), name);
        let models = chain.iter().take(1).copied().chain(explore.iter().flat_map(Explore::backends));
        let route = Route {
            name: name.into(),
            model: matched.model.clone(),
            // Rules, the holdout and the loop guard lead to people as well: then it is enough that there are any.
            asks_people: self.backends.iter().any(|backend| backend.as_people().is_some()),
            loop_guard: self.loop_guard(&node.field("loop_guard"), spec, &chain),
            session,
            stats_within,
            wants_session: rules.iter().any(|rule| rule.when.wants_session),
            wants_stats: rules.iter().any(|rule| rule.when.wants_stats),
            key: xxh3_64(name.as_bytes()),
            deadline: milliseconds(&node.field("deadline_ms")),
            splits: self.splits(&node.field("on_miss"), spec),
            check: check(&node.field("check"), spec),
            confidence: prediction::confidence(&node.field("confidence"), spec, self.segments),
            holdout: self.holdout(&node.field("holdout"), name, spec, models),
            mirror: self.mirrors(&node.field("mirror"), name, described.is_some()),
            review: self.review(&node.field("review"), name, spec, described.is_some()),
            hedge: hedge(&node.field("hedge")),
            kill_switch: node.field("kill_switch").flag(),
            has_request_rules: rules.iter().any(|rule| rule.on == Stage::Request),
            has_prediction_rules: rules.iter().any(|rule| rule.on == Stage::Prediction),
            asks_python: rules.iter().any(|rule| rule.on == Stage::Prediction && rule.function.is_some()),
            wants_entropy: rules.iter().any(|rule| rule.when.wants_entropy || rule.function.is_some()),
            chain,
            explore,
            rules,
            prediction: spec.cloned(),
            recalibration: table.map(Box::new),
            described,
        };
        descriptor::addressable(&node.field("chain"), &route, self.backends);
        Some((matched, route))
    }

    /// Whether the rows of a batch may go different ways.
    fn splits(&self, node: &Node, spec: Option<&PredictionSpec>) -> bool {
        match node.text() {
            None | Some("call") => false,
            Some("rows") if spec.is_some() => true,
            Some("rows") => {
                node.fault("rows can only be told apart where the route has a prediction");
                false
            }
            Some(other) => {
                node.fault(format!("found {other:?}, wanted \"call\" or \"rows\""));
                false
            }
        }
    }

    fn matched(&self, node: &Node) -> Match {
        node.object(&["model", "method", "metadata"]);
        let field = node.field("method");
        let method = match field.text() {
            None => Method::Any,
            Some(text) => method(text).unwrap_or_else(|| {
                field.fault(format!("found {text:?}, wanted \"/package.Service/Method\" or \"/package.Service/*\""));
                Method::Any
            }),
        };
        let mut metadata: Vec<(Box<str>, Box<str>)> = node
            .field("metadata")
            .entries()
            .iter()
            .map(|(name, value)| (name.to_ascii_lowercase().into(), value.text().unwrap_or("").into()))
            .collect();
        metadata.sort();
        Match { model: node.field("model").boxed(), method, metadata }
    }

    fn only_once(&mut self, node: &Node, name: &str, matched: &Match) {
        for (other, known) in &self.seen {
            if other == name {
                node.field("name").fault(format!("there are two routes {name:?}"));
            }
            if known == matched {
                node.field("match").fault(format!("the route {other:?} matches the same calls"));
            }
        }
        self.seen.push((name.to_owned(), matched.clone()));
    }

    /// A backend by name, noting where there is none.
    pub(super) fn backend(&self, node: &Node) -> Option<(BackendIx, &'a Backend)> {
        let name = node.need_text();
        let found = self.by_name.get(name).map(|&index| (index, &self.backends[usize::from(index)]));
        if found.is_none() && !name.is_empty() {
            node.fault(format!("there is no backend {name:?}"));
        }
        found
    }

    pub(super) fn static_backend(&self, node: &Node, spec: Option<&PredictionSpec>) -> Option<BackendIx> {
        let (index, backend) = self.backend(node)?;
        if backend.is_model() {
            node.fault(format!("{:?} is a model; wanted a static answer or people", backend.name));
        }
        prediction::answer_fits(node, backend, spec);
        Some(index)
    }

    fn chain(&self, node: &Node, spec: Option<&PredictionSpec>) -> Vec<BackendIx> {
        let items = node.items();
        if items.is_empty() || items.len() > MOST_CHAIN {
            node.fault(format!("found {} backends, wanted 1 to {MOST_CHAIN}", items.len()));
        }
        let mut chain = Vec::new();
        let mut always: Option<&str> = None;
        for item in items.iter().take(MOST_CHAIN) {
            let Some((index, backend)) = self.backend(item) else { continue };
            if chain.contains(&index) {
                item.fault(format!("{:?} stands in the chain twice", backend.name));
                continue;
            }
            if let Some(always) = always {
                item.fault(format!("{:?} is never reached: {always:?} before it always answers", backend.name));
            }
            if backend.is_static() {
                always = Some(&backend.name);
            }
            prediction::answer_fits(item, backend, spec);
            chain.push(index);
        }
        chain
    }
}

pub(super) fn method(text: &str) -> Option<Method> {
    let (service, method) = text.strip_prefix('/')?.split_once('/')?;
    if service.is_empty() || method.is_empty() || method.contains('/') {
        return None;
    }
    Some(match method {
        "*" => Method::Prefix(text[..text.len() - 1].into()),
        _ => Method::Exact(text.into()),
    })
}
