//! The parts of a route that choose by chance: holdout, exploration, mirrors, review.

use std::time::Duration;

use super::choice::Choice;
use super::compile::MOST_MS;
use super::compile_backend::redacted;
use super::compile_prediction as prediction;
use super::compile_route::{RouteCompiler, method};
use super::compiled::BackendIx;
use super::document::Node;
use super::matching::Method;
use super::sampling::{Arm, Explore, Holdout, Mirror, Noise, Review};
use super::spec::PredictionSpec;

/// A call keeps one bit of each.
const MOST_MIRRORS: usize = 16;
const MOST_ARMS: usize = 16;
/// How far shares of arms may be from adding up to one: what a sum of decimal fractions is off.
const SUM_TOLERANCE: f64 = 1e-6;
const MODEL_INFER: &str = "/inference.GRPCInferenceService/ModelInfer";

impl RouteCompiler<'_> {
    /// `models`: the first of the chain, and all arms.
    pub(super) fn holdout(
        &self,
        node: &Node,
        route: &str,
        spec: Option<&PredictionSpec>,
        models: impl Iterator<Item = BackendIx>,
    ) -> Option<Holdout> {
        if node.is_null() || !node.object(&["share", "answer"]) {
            return None;
        }
        let share = node.field("share").need_share();
        let models: Vec<BackendIx> = models.collect();
        let field = node.field("answer");
        // One name stands for a list of one.
        let named = if field.is_text() { vec![field] } else { field.items() };
        let mut chain: Vec<BackendIx> = Vec::new();
        for item in &named {
            let Some((index, backend)) = self.backend(item) else { continue };
            if backend.is_model() && models.contains(&index) {
                item.fault(format!("{:?} is the model that the holdout never meets", backend.name));
            }
            if chain.contains(&index) {
                item.fault(format!("{:?} stands there twice", backend.name));
            }
            if chain.last().is_some_and(|last| self.backends[usize::from(*last)].as_static().is_some()) {
                item.fault(format!("{:?} is never reached: a static answer before it always answers", backend.name));
            }
            prediction::answer_fits(item, backend, spec);
            chain.push(index);
        }
        if named.is_empty() {
            node.field("answer").fault("wanted a backend that answers instead of the model");
        }
        Some(Holdout { choice: Choice::new(self.salt, "holdout", route, share), chain })
    }

    pub(super) fn explore(&self, node: &Node, route: &str) -> Option<Explore> {
        if node.is_null() || !node.object(&["arms", "sticky"]) {
            return None;
        }
        let field = node.field("arms");
        let mut arms: Vec<Arm> = Vec::new();
        for item in field.items().iter().take(MOST_ARMS) {
            if !item.object(&["backend", "share"]) {
                continue;
            }
            let name = item.field("backend");
            let share = item.field("share").need_share();
            let Some((backend, found)) = self.backend(&name) else { continue };
            if !found.is_model() {
                name.fault(format!("{:?} is no model; only models are explored", found.name));
            }
            if arms.iter().any(|known| known.backend == backend) {
                name.fault(format!("{:?} is an arm already", found.name));
            }
            let choice = Choice::new(self.salt, &format!("explore:{}", found.name), route, share);
            arms.push(Arm { backend, choice });
        }
        let (count, sum) = (field.items().len(), arms.iter().map(|arm| arm.choice.share).sum::<f64>());
        if !(2..=MOST_ARMS).contains(&count) {
            field.fault(format!("found {count} arms, wanted 2 to {MOST_ARMS}"));
        } else if arms.len() == count && (sum - 1.0).abs() > SUM_TOLERANCE {
            field.fault(format!("the shares add up to {sum}, wanted 1"));
        }
        let sticky = node.field("sticky");
        if !matches!(sticky.text(), Some("unit" | "call")) {
            sticky.fault("wanted \"unit\" or \"call\"");
        }
        Some(Explore { arms, by_unit: sticky.text() == Some("unit") })
    }

    pub(super) fn mirrors(&self, node: &Node, route: &str, described: bool) -> Vec<Mirror> {
        const FIELDS: [&str; 9] =
            ["to", "share", "methods", "noise", "redact", "strip", "max_in_flight", "max_bytes", "timeout_ms"];
        let mut mirrors: Vec<Mirror> = Vec::new();
        let items = node.items();
        if items.len() > MOST_MIRRORS {
            node.fault(format!("found {} mirrors, at most {MOST_MIRRORS} are possible", items.len()));
        }
        for item in items.iter().take(MOST_MIRRORS) {
            if !item.object(&FIELDS) {
                continue;
            }
            let Some((to, name)) = self.copy_to(&item.field("to")) else { continue };
            if mirrors.iter().any(|known| known.to == to) {
                item.field("to").fault(format!("there are two mirrors to {name:?}"));
            }
            let share = item.field("share").need_share();
            let noise = item.field("noise");
            let noise = (!noise.is_null() && noise.object(&["to", "share"])).then(|| {
                let (to, _) = self.copy_to(&noise.field("to"))?;
                let share = noise.field("share").need_share();
                Some(Noise { to, choice: Choice::new(self.salt, &format!("noise:{name}"), route, share) })
            });
            let redact = item.field("redact");
            // What is cut out of a described request stands in `Described`, by the order of the mirrors.
            let cut = (described && !redact.items().is_empty()).then_some(mirrors.len());
            let (redact_inputs, redact_params) = if described { Default::default() } else { taken_out(&redact) };
            let most = u64::from(u32::MAX);
            mirrors.push(Mirror {
                to,
                choice: Choice::new(self.salt, &format!("mirror:{name}"), route, share),
                methods: methods(&item.field("methods")),
                noise: noise.flatten(),
                redact_inputs,
                redact_params,
                cut,
                strip: item.field("strip").texts().iter().map(|name| name.to_ascii_lowercase().into()).collect(),
                max_in_flight: u32::try_from(item.field("max_in_flight").need_count(most)).unwrap_or(u32::MAX),
                max_bytes: item.field("max_bytes").need_count(most),
                timeout: Duration::from_millis(item.field("timeout_ms").need_count(MOST_MS)),
            });
        }
        mirrors
    }

    fn copy_to(&self, node: &Node) -> Option<(BackendIx, &str)> {
        let (to, backend) = self.backend(node)?;
        if !backend.is_model() {
            node.fault(format!("{:?} is no model; a copy can only go to one", backend.name));
        }
        Some((to, &backend.name))
    }

    pub(super) fn review(
        &self,
        node: &Node,
        route: &str,
        spec: Option<&PredictionSpec>,
        described: bool,
    ) -> Option<Review> {
        const FIELDS: [&str; 10] = [
            "queue",
            "flagged",
            "unflagged",
            "near",
            "near_margin",
            "fallback",
            "disagreement",
            "segments",
            "capture",
            "redact",
        ];
        if node.is_null() || !node.object(&FIELDS) {
            return None;
        }
        if spec.is_none() {
            node.fault("the route reads no prediction that people could judge; give it a `prediction`");
        }
        let capture = node.field("capture");
        let kept = capture.texts();
        let whole = if described { "request" } else { "inputs" };
        if kept.iter().any(|what| &**what != whole) {
            capture.fault(format!("only {whole:?} can be captured"));
        }
        let share =
            |name: &str| Some(node.field(name)).filter(|field| !field.is_null()).map(|field| field.need_share());
        let margin = share("near_margin");
        if margin.is_none() && !node.field("near").is_null() {
            node.field("near_margin").fault("wanted how near the threshold `near` is");
        }
        let mut segments = Vec::new();
        for (key, factor) in node.field("segments").entries() {
            let parts = key.split_once('=').filter(|(name, _)| self.segments.names().any(|known| known == *name));
            let number = factor.need_number();
            if number < 0.0 {
                factor.fault(format!("found {number}, wanted a factor of 0 or more"));
            }
            match parts {
                Some((name, value)) => segments.push((name.into(), value.into(), number)),
                None => factor.fault(format!("found {key:?}, wanted \"<segment>=<value>\" of a segment in `identity`")),
            }
        }
        Some(Review {
            queue: node.field("queue").need_text().into(),
            choice: Choice::new(self.salt, "review", route, 1.0),
            flagged: node.field("flagged").need_share(),
            low: node.field("unflagged").need_share(),
            near: share("near"),
            near_from: spec.zip(margin).map_or(f64::NAN, |(spec, margin)| spec.threshold - margin),
            fallback: share("fallback"),
            disagreement: share("disagreement"),
            segments,
            capture: kept,
            // What is cut out of a described request stands in `Described`.
            redact: if described { Vec::new() } else { redacted(&node.field("redact")) },
        })
    }
}

/// What may be done twice; `ModelInfer` where nothing is said.
fn methods(node: &Node) -> Vec<Method> {
    if node.is_null() {
        return vec![Method::Exact(MODEL_INFER.into())];
    }
    let read = |item: &Node| {
        let text = item.need_text();
        let found = method(text);
        if found.is_none() {
            item.fault(format!("found {text:?}, wanted \"/package.Service/Method\" or \"/package.Service/*\""));
        }
        found
    };
    node.items().iter().filter_map(read).collect()
}

/// Inputs and parameters that a copy goes without.
fn taken_out(node: &Node) -> (Vec<Box<str>>, Vec<Box<str>>) {
    let (mut inputs, mut params) = (Vec::new(), Vec::new());
    for item in node.items() {
        match item.need_text().split_once('.') {
            Some(("inputs", name)) if !name.is_empty() => inputs.push(name.into()),
            Some(("params", name)) if !name.is_empty() => params.push(name.into()),
            _ => item.fault("wanted \"inputs.<name>\" or \"params.<name>\""),
        }
    }
    (inputs, params)
}
