//! The compiled policy: indexes instead of names, everything checked, nothing that changes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::descriptor::{Described, DescribedMethod};
use super::hedge::Hedge;
use super::matching::Table;
use super::memory::{LoopGuard, SessionSpec};
use super::peer::Allow;
use super::recalibration::Recalibration;
use super::rule::{Lists, Rule};
use super::sampling::{Explore, Holdout, Mirror, Review};
use super::segment::Segments;
use super::spec::{OutputsCheck, PredictionSpec, StaticAnswer};

/// Position of a route in the policy document.
pub type RouteIx = u16;
/// Position of a backend in the policy document.
pub type BackendIx = u16;
/// No route, backend, rule or arm.
pub const NO_INDEX: u16 = u16::MAX;

/// Where a value of the call is taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Metadata(Box<str>),
    Param(Box<str>),
    /// The first name of the caller's certificate.
    CallerId,
}

/// Where a model server listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// An address or a name that is resolved once per connection.
    Tcp {
        host: Box<str>,
        port: u16,
    },
    /// A name whose every address is an endpoint.
    Dns {
        host: Box<str>,
        port: u16,
    },
    Unix(Box<str>),
}

/// When a call that failed is made again at the same backend.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// Beyond the first.
    pub attempts: u32,
    /// Methods that may be repeated, `/package.Service/Method` or `/package.Service/*`, beside `ModelInfer`.
    pub methods: Vec<Box<str>>,
    /// Retries for each call.
    pub budget_share: f64,
    /// Retries that are free of that.
    pub budget_per_s: f64,
    /// By how much a pause is longer or shorter.
    pub jitter: f64,
}

/// When a backend is left alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Circuit {
    /// Failures in a row.
    pub failures: u32,
    /// Or: fewer successes than this...
    pub success_rate: f64,
    /// ...among at least so many calls of the last ten seconds.
    pub min_calls: u32,
    /// How long, at first and at most.
    pub probe_first: Duration,
    pub probe_last: Duration,
}

/// How `dns:` names are resolved.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Dns {
    /// The system's where there are none.
    pub servers: Vec<std::net::SocketAddr>,
    /// Bounds of how long an answer is good.
    pub min_ttl: Duration,
    pub max_ttl: Duration,
}

impl Default for Dns {
    fn default() -> Self {
        Self { servers: Vec::new(), min_ttl: Duration::from_secs(5), max_ttl: Duration::from_secs(60) }
    }
}

/// What a connection to a backend is encrypted by: paths of PEM files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct BackendTls {
    /// Who may have signed the backend's certificate; `None` for whom this machine trusts.
    pub ca: Option<Box<str>>,
    /// The gateway's own certificate.
    pub cert: Option<Box<str>>,
    /// Its key.
    pub key: Option<Box<str>>,
    /// The name that the backend's certificate must be for; `None` for the endpoint's own.
    pub server_name: Option<Box<str>>,
}

/// A model on a model server.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelBackend {
    pub endpoints: Vec<Endpoint>,
    /// The name it is asked by; `None` leaves the caller's.
    pub model: Option<Box<str>>,
    pub version: Option<Box<str>>,
    pub timeout: Option<Duration>,
    pub max_in_flight: u32,
    pub connect_timeout: Duration,
    pub retry: Option<Retry>,
    pub circuit: Option<Circuit>,
    /// Connections that a worker keeps open to each endpoint.
    pub warm: u32,
    /// `None` for plain text.
    pub tls: Option<BackendTls>,
}

/// People who answer while the caller waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct People {
    /// Whose tasks they are.
    pub queue: Box<str>,
    pub timeout: Duration,
    /// Calls that may wait for them at once.
    pub max_waiting: u32,
    /// A task is made for each row: longer batches are passed over.
    pub max_rows: u32,
    /// Names of inputs that they are not shown.
    pub redact: Vec<Box<str>>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum BackendKind {
    Model(ModelBackend),
    Static(StaticAnswer),
    People(People),
}

/// Something that can answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    pub name: Box<str>,
    pub kind: BackendKind,
}

impl Backend {
    pub fn is_model(&self) -> bool {
        matches!(self.kind, BackendKind::Model(_))
    }

    pub fn as_model(&self) -> Option<&ModelBackend> {
        match &self.kind {
            BackendKind::Model(model) => Some(model),
            BackendKind::Static(_) | BackendKind::People(_) => None,
        }
    }

    pub fn as_static(&self) -> Option<&StaticAnswer> {
        match &self.kind {
            BackendKind::Static(answer) => Some(answer),
            BackendKind::Model(_) | BackendKind::People(_) => None,
        }
    }

    pub fn as_people(&self) -> Option<&People> {
        match &self.kind {
            BackendKind::People(people) => Some(people),
            BackendKind::Model(_) | BackendKind::Static(_) => None,
        }
    }

    /// Whether it answers at once and always.
    pub fn is_static(&self) -> bool {
        matches!(self.kind, BackendKind::Static(_))
    }
}

/// What must hold of a prediction, beyond being present, finite and of the right shape.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Check {
    pub range: Option<(f64, f64)>,
    pub sum: Option<f64>,
    pub sum_tolerance: f64,
    pub labels: Option<Vec<Box<str>>>,
    /// Whether a single row cannot stand for all that were asked for.
    pub same_rows: bool,
    /// Of outputs by name; `None` leaves alone what is not read.
    pub outputs: Option<Box<OutputsCheck>>,
}

/// How sure a prediction must be; higher is surer for every measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    MaxProbability,
    /// Largest less second largest probability.
    Margin,
    /// `1 - H(p) / ln(k)`.
    Entropy,
    /// The output that `PredictionSpec::confidence` names.
    Output,
}

/// Floors of the confidence: the largest of those that apply to a row counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Confidence {
    pub measure: Measure,
    pub floor: Option<f64>,
    /// By class index.
    pub per_class: Vec<(u16, f64)>,
    /// By label text, for labels that are not among the classes.
    pub per_text: Vec<(Box<str>, f64)>,
    /// By name and value of a segment.
    pub per_segment: Vec<(Box<str>, Box<str>, f64)>,
}

/// What a call is matched to.
#[derive(Debug)]
pub struct Route {
    pub name: Box<str>,
    /// The model it was matched by, if it names one.
    pub model: Option<Box<str>>,
    pub chain: Vec<BackendIx>,
    pub deadline: Option<Duration>,
    /// `on_miss: rows`: the rows of a batch that were answered well wait while the others go on along the chain.
    pub splits: bool,
    pub prediction: Option<PredictionSpec>,
    pub recalibration: Option<Box<Recalibration>>,
    /// How requests and answers are read, where that is by a descriptor.
    pub described: Option<Box<Described>>,
    pub check: Check,
    pub confidence: Option<Confidence>,
    pub rules: Vec<Rule>,
    pub holdout: Option<Holdout>,
    pub explore: Option<Explore>,
    pub mirror: Vec<Mirror>,
    pub review: Option<Review>,
    pub hedge: Option<Hedge>,
    pub kill_switch: bool,
    /// Whether people may be asked, so that the request is kept for them.
    pub asks_people: bool,
    /// Whether Python is asked about predictions.
    pub asks_python: bool,
    pub loop_guard: Option<LoopGuard>,
    pub session: Option<SessionSpec>,
    /// How far back `stats` look.
    pub stats_within: Option<Duration>,
    /// Whether a rule names `session` / `stats`: else neither is kept.
    pub wants_session: bool,
    pub wants_stats: bool,
    /// Hash of the name, by which what is remembered outlives the policy.
    pub key: u64,
    /// Whether any rule is judged before / after a backend has answered.
    pub(super) has_request_rules: bool,
    pub(super) has_prediction_rules: bool,
    /// Whether a rule asks for the entropy, which costs logarithms.
    pub(super) wants_entropy: bool,
}

impl Route {
    /// The table that a backend's scores go through, if any does.
    pub fn table_of(&self, backend: BackendIx) -> Option<&Recalibration> {
        self.recalibration.as_deref().filter(|table| table.is_for(backend))
    }

    /// Whether anything is kept of its calls for calls to come.
    pub fn remembers(&self) -> bool {
        self.loop_guard.is_some() || self.wants_session || self.wants_stats
    }

    /// The first model backend of the chain: what `ModelReady` and `ModelMetadata` of the route speak of.
    pub fn first_model(&self, policy: &Policy) -> Option<BackendIx> {
        self.chain.iter().copied().find(|backend| policy.backend(*backend).is_model())
    }
}

/// Limits that hold for every call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    pub buffer_bytes: usize,
    pub replay_bytes: usize,
    pub answer_bytes: usize,
    pub request_head_bytes: usize,
    pub max_rows: usize,
    /// Python rules that may wait for their answer at once.
    pub python_waiting: u32,
    /// Bytes of all questions that wait: Python rules' and people's.
    pub question_bytes: u64,
    /// Units remembered at once; 0 for none.
    pub units: usize,
}

/// A compiled policy document. Immutable: a new document makes a new one.
#[derive(Debug)]
pub struct Policy {
    pub(super) version: u32,
    pub(super) salt: Vec<u8>,
    pub(super) receipt_keys: Vec<Vec<u8>>,
    pub(super) default_backend: Option<BackendIx>,
    pub(super) unit: Option<Source>,
    pub(super) segments: Segments,
    pub(super) lists: Arc<Lists>,
    pub(super) limits: Limits,
    pub(super) trace_share: f64,
    pub(super) dns: Dns,
    pub(super) backends: Vec<Backend>,
    pub(super) routes: Vec<Route>,
    pub(super) table: Table,
    pub(super) described: HashMap<Box<str>, DescribedMethod>,
    /// Who may call; `None` for everybody.
    pub(super) allow: Option<Allow>,
}

impl Policy {
    pub fn version(&self) -> u32 {
        self.version
    }

    pub fn backends(&self) -> &[Backend] {
        &self.backends
    }

    /// A backend by an index that this policy gave.
    pub fn backend(&self, index: BackendIx) -> &Backend {
        &self.backends[usize::from(index)]
    }

    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// A route by an index that this policy gave.
    pub fn route_at(&self, index: RouteIx) -> &Route {
        &self.routes[usize::from(index)]
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    pub fn default_backend(&self) -> Option<BackendIx> {
        self.default_backend
    }

    /// The first signs; all verify.
    pub fn receipt_keys(&self) -> &[Vec<u8>] {
        &self.receipt_keys
    }

    /// Share of calls whose spans are exported when the caller does not say.
    pub fn trace_share(&self) -> f64 {
        self.trace_share
    }

    pub fn dns(&self) -> &Dns {
        &self.dns
    }

    /// Who may call; `None` for everybody.
    pub fn allow(&self) -> Option<&Allow> {
        self.allow.as_ref()
    }

    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// What is known of a method that routes read by a descriptor.
    pub fn described(&self, method: &str) -> Option<&DescribedMethod> {
        self.described.get(method)
    }

    /// The route of a call: the most specific that matches.
    pub fn route(&self, method: &str, model: Option<&str>, metadata: &dyn super::Metadata) -> Option<RouteIx> {
        self.table.find(method, model, metadata)
    }
}
