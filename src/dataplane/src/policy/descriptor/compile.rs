//! A route's paths become what the wire room reads by; every fault is noted where the path stands.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost_reflect::{DescriptorPool, MethodDescriptor, ServiceDescriptor};

use super::nearest::{did_you_mean, listed};
use super::path::PathFault;
use super::resolve::{Purpose, resolve};
use super::spec::{Asking, Described, DescribedMethod, FieldPath, Kind, Take, What};
use super::{cuts, form};
use crate::policy::compiled::{Backend, Route};
use crate::policy::document::Node;
use crate::policy::matching::{Match, Method};
use crate::policy::rule::{Action, Otherwise};
use crate::policy::spec::PredictionSpec;

/// The Open Inference Protocol's service is read without a descriptor.
const OIP: &str = "/inference.GRPCInferenceService/";
const OIP_READ: &str = "/inference.GRPCInferenceService/ModelInfer";
/// Rules see so many fields of a request; each costs a look at its bytes.
const MOST_PARAMS: usize = 64;

/// All descriptors of the document.
pub struct Descriptors(Option<DescriptorPool>);

impl Descriptors {
    /// Reads the sets, each in base64.
    pub fn read(node: &Node) -> Self {
        let items = node.items();
        if items.is_empty() {
            return Self(None);
        }
        let mut pool = DescriptorPool::new();
        for item in items {
            let set = match STANDARD.decode(item.need_text()) {
                Ok(set) => set,
                Err(_) => {
                    item.fault("wanted a FileDescriptorSet in base64");
                    continue;
                }
            };
            // The library trusts that descriptors are what protoc makes: of others it says so, or panics.
            match caught(|| pool.decode_file_descriptor_set(&*set)) {
                Some(Ok(())) => {}
                Some(Err(error)) => item.fault(format!(
                    "no FileDescriptorSet that stands by itself: {error} (protoc --include_imports \
                     --descriptor_set_out makes one)"
                )),
                None => {
                    item.fault(
                        "a FileDescriptorSet that contradicts itself; protoc --descriptor_set_out makes a good one",
                    );
                    pool = DescriptorPool::new();
                }
            }
        }
        Self(Some(pool))
    }

    fn method(&self, path: &str) -> Result<MethodDescriptor, String> {
        let pool = self.0.as_ref().ok_or_else(|| {
            format!(
                "answers of {path} are read by a descriptor, and there are no `descriptors` (`gateway descriptors \
                 HOST:PORT -o FILE` asks a server for its own)"
            )
        })?;
        let (service, method) = path.trim_start_matches('/').split_once('/').unwrap_or((path, ""));
        let services: Vec<ServiceDescriptor> = pool.services().collect();
        let names = || services.iter().map(ServiceDescriptor::full_name);
        let Some(found) = services.iter().find(|known| known.full_name() == service) else {
            let mend = did_you_mean(service, names());
            return Err(format!("the descriptors have no service {service}; they have {}{mend}", listed(names())));
        };
        let methods: Vec<MethodDescriptor> = found.methods().collect();
        let names = || methods.iter().map(MethodDescriptor::name);
        methods.iter().find(|known| known.name() == method).cloned().ok_or_else(|| {
            let mend = did_you_mean(method, names());
            format!("the service {service} has no method {method}; it has {}{mend}", listed(names()))
        })
    }
}

/// What comes of it; nothing where it panics.
fn caught<T>(of: impl FnOnce() -> T) -> Option<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(of)).ok()
}

/// What a route is compiled from.
pub struct Compiler<'a, 'n> {
    pub descriptors: &'a Descriptors,
    pub route: &'a Node<'n>,
    pub method: &'a Method,
    pub spec: Option<&'a PredictionSpec>,
}

impl Compiler<'_, '_> {
    /// What the route reads; `None` where it is one of the Open Inference Protocol, or reads nothing.
    pub fn described(&self) -> Option<Described> {
        let request = self.route.field("request");
        let method = match self.method {
            Method::Any => None,
            Method::Prefix(prefix) if &**prefix == OIP => None,
            Method::Exact(path) if &**path == OIP_READ => None,
            Method::Prefix(path) | Method::Exact(path) => Some(path),
        };
        let Some(path) = method else {
            if !request.is_null() {
                request.fault(
                    "the Open Inference Protocol says where everything stands; `request` is for a `match.method` that \
                     `descriptors` describe",
                );
            }
            return None;
        };
        if request.is_null() && self.spec.is_none() {
            return None;
        }
        let at = self.route.field(if self.spec.is_some() { "prediction" } else { "request" });
        if matches!(self.method, Method::Prefix(_)) {
            at.fault(format!("{path}* are many methods, and each has messages of its own; wanted one method"));
            return None;
        }
        let found = caught(|| self.descriptors.method(path));
        let method = match found.unwrap_or_else(|| Err("the descriptors contradict themselves".into())) {
            Ok(method) => method,
            Err(words) => {
                at.fault(words);
                return None;
            }
        };
        if method.is_client_streaming() || method.is_server_streaming() {
            at.fault(format!("{path} is a stream, whose messages are passed on unread; only unary methods are read"));
            return None;
        }
        let described = caught(|| self.of(&method, &request));
        if described.is_none() {
            at.fault(format!("the descriptors of {path} contradict themselves"));
        }
        described
    }

    fn of(&self, method: &MethodDescriptor, request: &Node) -> Described {
        let prediction = self.route.field("prediction");
        let output = |name: &str, text: &Option<Box<str>>, purpose| {
            let text = text.as_deref()?;
            let field = prediction.field(name);
            let measured = field.is_null();
            // The measure `output:<path>` is a path as well.
            let field = if measured { self.route.field("confidence").field("measure") } else { field };
            let offset = if measured { 7 } else { 0 };
            noted(&field, offset, resolve(text, &method.output(), purpose))
        };
        let spec = self.spec.cloned().unwrap_or_default();
        let mut described = Described {
            request_type: method.input().full_name().into(),
            answer_type: method.output().full_name().into(),
            asking: self.asking(method, request),
            scores: output("scores", &spec.scores, Purpose::Scores),
            label: output("label", &spec.label, Purpose::Label),
            confidence: output("confidence", &spec.confidence, Purpose::Column),
            value: output("value", &spec.value, Purpose::Column),
            form: Vec::new(),
            cuts: cuts::none(&method.input()),
            copies: Vec::new(),
        };
        enum_classes(&prediction, &spec, &described);
        if let Some(path) = &described.scores
            && matches!(path.kind, Kind::Number(_))
            && !matches!(path.take(), Take::All | Take::ByClass)
            && spec.classes.len() > 2
        {
            let classes = spec.classes.len();
            prediction.field("scores").fault(format!("one score a row says nothing about {classes} classes"));
        }
        let outputs = [
            (&described.scores, What::Scores),
            (&described.label, What::Label),
            (&described.confidence, What::Confidence),
            (&described.value, What::Value),
        ];
        match form::lay_out(outputs.into_iter().filter_map(|(path, what)| Some((path.as_ref()?, what)))) {
            Ok(form) => described.form = form,
            Err(words) => prediction.fault(words),
        }
        for item in self.route.field("review").field("redact").items() {
            noted(&item, 0, cuts::cut(&mut described.cuts, item.need_text(), &method.input()));
        }
        for mirror in self.route.field("mirror").items() {
            let redact = mirror.field("redact").items();
            described.copies.push((!redact.is_empty()).then(|| {
                let mut copy = cuts::none(&method.input());
                for item in redact {
                    noted(&item, 0, cuts::cut(&mut copy, item.need_text(), &method.input()));
                }
                copy
            }));
        }
        described
    }

    fn asking(&self, method: &MethodDescriptor, request: &Node) -> Asking {
        if request.is_null() || !request.object(&["rows", "id", "model", "params"]) {
            return Asking::default();
        }
        let input = method.input();
        let one = |field: &Node, purpose| {
            let text = field.text()?;
            noted(field, 0, resolve(text, &input, purpose))
        };
        let params = request.field("params");
        let entries = params.entries();
        if entries.len() > MOST_PARAMS {
            params.fault(format!("found {} params, at most {MOST_PARAMS} are possible", entries.len()));
        }
        let compiled = |(name, field): &(&str, Node)| Some(((*name).into(), one(field, Purpose::Param)?));
        let asking = Asking {
            rows: one(&request.field("rows"), Purpose::Rows),
            id: one(&request.field("id"), Purpose::Id),
            model: one(&request.field("model"), Purpose::Model),
            params: entries.iter().take(MOST_PARAMS).filter_map(compiled).collect(),
        };
        if let Some(model) = &asking.model
            && model.steps.iter().any(|step| step.take != Take::One)
        {
            request.field("model").fault("the name of the model stands once, so no part of its path has brackets");
        }
        asking
    }
}

/// What the backends that a described route leads to want of it: a place for the model's name, and nothing that only
/// requests of the Open Inference Protocol have.
pub fn addressable(node: &Node, route: &Route, backends: &[Backend]) {
    let Some(described) = route.described.as_deref() else { return };
    let action = |action: &Action| if let Action::To(to) | Action::Answer(to) = action { Some(*to) } else { None };
    let rules = route.rules.iter().flat_map(|rule| {
        let otherwise = rule.function.as_ref().and_then(|function| match &function.otherwise {
            Otherwise::Does(does) => action(does),
            Otherwise::Holds(_) => None,
        });
        action(&rule.then).into_iter().chain(otherwise)
    });
    let copies = route
        .mirror
        .iter()
        .flat_map(|mirror| [mirror.to].into_iter().chain(mirror.noise.as_ref().map(|noise| noise.to)));
    let arms = route.explore.iter().flat_map(|explore| explore.backends());
    let ways = route
        .loop_guard
        .iter()
        .map(|guard| guard.then)
        .chain(route.holdout.iter().flat_map(|holdout| holdout.chain.iter().copied()));
    let others = copies.chain(arms).chain(ways);
    let mut reached: Vec<_> = route.chain.iter().copied().chain(rules).chain(others).collect();
    reached.sort_unstable();
    reached.dedup();
    for backend in reached.into_iter().filter_map(|backend| backends.get(usize::from(backend))) {
        let name = &backend.name;
        if backend.as_people().is_some_and(|people| !people.redact.is_empty()) {
            node.fault(format!(
                "{name:?} names inputs that people are not shown, and requests of this route have none: wanted people \
                 without `redact`, and `review.redact` with paths"
            ));
        }
        let Some(model) = backend.as_model() else { continue };
        if model.model.is_some() && described.asking.model.is_none() {
            node.fault(format!(
                "{name:?} names a model, and the route does not say where a request names it: wanted `request.model`"
            ));
        }
        if model.version.is_some() {
            node.fault(format!(
                "{name:?} names a version, which only requests of the Open Inference Protocol can be given"
            ));
        }
    }
}

/// Routes of one method must agree on where a request names its model: it is what they are told apart by.
pub fn gather(
    node: &Node,
    matched: &Match,
    described: Option<&Described>,
    methods: &mut HashMap<Box<str>, DescribedMethod>,
) {
    let (Method::Exact(path), Some(described)) = (&matched.method, described) else { return };
    if !methods.entry(path.clone()).or_default().add(described) {
        let model = node.field("request").field("model");
        model.fault(format!("another route of {path} finds the model elsewhere; both must look at one place"));
    }
    if matched.model.is_some() && described.asking.model.is_none() {
        let model = node.field("match").field("model");
        model.fault("the route does not say where a request names its model: wanted `request.model`");
    }
}

fn enum_classes(prediction: &Node, spec: &PredictionSpec, described: &Described) {
    let Some(FieldPath { kind: Kind::Enum(names), .. }) = &described.label else { return };
    for (class, item) in spec.classes.iter().zip(prediction.field("classes").items()) {
        if !names.iter().any(|(_, name)| name == class) {
            let has = || names.iter().map(|(_, name)| &**name);
            let mend = did_you_mean(class, has());
            item.fault(format!("the label's enum has no value {class:?}; it has {}{mend}", listed(has())));
        }
    }
}

fn noted<T>(node: &Node, offset: u32, resolved: Result<T, PathFault>) -> Option<T> {
    resolved.map_err(|fault| node.fault_at(fault.message, Some((1, fault.column + offset)))).ok()
}
