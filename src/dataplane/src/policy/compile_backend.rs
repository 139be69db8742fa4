//! What backends the document names: model servers with how they are called, static answers, and people.

use std::time::Duration;

use super::compile::{MOST_ENTRIES, MOST_MS, milliseconds};
use super::compiled::{Backend, BackendKind, BackendTls, Circuit, Dns, Endpoint, ModelBackend, People, Retry};
use super::document::Node;
use super::spec::StaticAnswer;

/// Attempts beyond the first; a budget bounds them together, this bounds one call's.
const MOST_ATTEMPTS: u64 = 10;
/// Connections that are kept open to one endpoint: as many as a worker opens at all.
const MOST_WARM: u64 = 8;
/// A day: longer is a mistake in the unit.
const MOST_S: f64 = 86_400.0;

pub(super) fn backends(node: &Node) -> Vec<Backend> {
    let items = node.items();
    if items.len() > MOST_ENTRIES {
        node.fault(format!("found {} backends, at most {MOST_ENTRIES} are possible", items.len()));
    }
    let mut backends: Vec<Backend> = Vec::new();
    for item in items.iter().take(MOST_ENTRIES) {
        let name: Box<str> = if item.object(&[
            "name",
            "kind",
            "endpoints",
            "model",
            "version",
            "timeout_ms",
            "max_in_flight",
            "connect_timeout_ms",
            "retry",
            "circuit",
            "warm",
            "label",
            "score",
            "scores",
            "value",
            "tls",
            "queue",
            "timeout_s",
            "max_waiting",
            "max_rows",
            "redact",
        ]) {
            item.field("name").need_text().into()
        } else {
            "".into()
        };
        if backends.iter().any(|known| known.name == name) {
            item.field("name").fault(format!("there are two backends {name:?}"));
        }
        let kind = match item.field("kind").text() {
            Some("static") => BackendKind::Static(static_answer(item)),
            Some("people") => BackendKind::People(people(item)),
            found => {
                if found != Some("grpc") {
                    item.field("kind").fault("wanted \"grpc\", \"static\" or \"people\"");
                }
                BackendKind::Model(model(item))
            }
        };
        // Kept even when faulty, so that indexes and names still lead to the right one.
        backends.push(Backend { name, kind });
    }
    backends
}

fn static_answer(node: &Node) -> StaticAnswer {
    let scores = node.field("scores");
    StaticAnswer {
        label: node.field("label").boxed(),
        score: node.field("score").number(),
        scores: (!scores.is_null()).then(|| scores.items().iter().map(Node::need_number).collect()),
        value: node.field("value").number(),
    }
}

fn people(node: &Node) -> People {
    let most = u64::from(u32::MAX);
    let count = |name: &str| u32::try_from(node.field(name).need_count(most)).unwrap_or(u32::MAX);
    #[allow(clippy::cast_precision_loss)] // a day of milliseconds
    let timeout_s = node.field("timeout_s").need_number().clamp(0.001, MOST_MS as f64 / 1000.0);
    People {
        queue: node.field("queue").need_text().into(),
        timeout: Duration::from_secs_f64(timeout_s),
        max_waiting: count("max_waiting"),
        max_rows: count("max_rows"),
        redact: redacted(&node.field("redact")),
    }
}

/// Names of inputs that are taken out: `inputs.email` in settings is `email` here.
pub(super) fn redacted(node: &Node) -> Vec<Box<str>> {
    let mut redact = Vec::new();
    for item in node.items() {
        match item.need_text().strip_prefix("inputs.") {
            Some(input) if !input.is_empty() => redact.push(input.into()),
            _ => item.fault("wanted \"inputs.<name>\""),
        }
    }
    redact
}

fn model(node: &Node) -> ModelBackend {
    let endpoints = node.field("endpoints");
    let items = endpoints.items();
    if items.is_empty() {
        endpoints.fault("wanted at least one endpoint");
    }
    ModelBackend {
        endpoints: items.iter().filter_map(endpoint).collect(),
        model: node.field("model").boxed(),
        version: node.field("version").boxed(),
        timeout: milliseconds(&node.field("timeout_ms")),
        max_in_flight: u32::try_from(node.field("max_in_flight").need_count(u64::from(u32::MAX))).unwrap_or(u32::MAX),
        connect_timeout: Duration::from_millis(node.field("connect_timeout_ms").need_count(MOST_MS)),
        retry: retry(&node.field("retry")),
        circuit: circuit(&node.field("circuit")),
        warm: warm(&node.field("warm")),
        tls: backend_tls(&node.field("tls")),
    }
}

fn backend_tls(node: &Node) -> Option<BackendTls> {
    if node.is_null() || !node.object(&["ca", "cert", "key", "server_name"]) {
        return None;
    }
    let of = |name| node.field(name).boxed();
    let tls = BackendTls { ca: of("ca"), cert: of("cert"), key: of("key"), server_name: of("server_name") };
    if tls.cert.is_some() != tls.key.is_some() {
        node.fault("wanted `cert` and `key` together, or neither");
    }
    Some(tls)
}

fn retry(node: &Node) -> Option<Retry> {
    if node.is_null() || !node.object(&["attempts", "methods", "budget_share", "budget_per_s", "jitter"]) {
        return None;
    }
    Some(Retry {
        attempts: u32::try_from(node.field("attempts").need_count(MOST_ATTEMPTS)).unwrap_or(1),
        methods: node.field("methods").texts(),
        budget_share: node.field("budget_share").need_share(),
        budget_per_s: node.field("budget_per_s").need_number().max(0.0),
        jitter: node.field("jitter").need_share(),
    })
}

fn circuit(node: &Node) -> Option<Circuit> {
    const FIELDS: [&str; 5] = ["failures", "success_rate", "min_calls", "probe_first_s", "probe_last_s"];
    if node.is_null() || !node.object(&FIELDS) {
        return None;
    }
    let count = |name| u32::try_from(node.field(name).need_count(u64::from(u32::MAX))).unwrap_or(u32::MAX);
    let (first, last) = (seconds(&node.field("probe_first_s")), seconds(&node.field("probe_last_s")));
    Some(Circuit {
        failures: count("failures"),
        success_rate: node.field("success_rate").need_share(),
        min_calls: count("min_calls"),
        probe_first: first,
        probe_last: last.max(first),
    })
}

fn warm(node: &Node) -> u32 {
    if node.is_null() {
        return 0;
    }
    u32::try_from(node.need_whole(MOST_WARM)).unwrap_or(0)
}

/// A time in seconds, more than none and at most a day.
fn seconds(node: &Node) -> Duration {
    let seconds = node.need_number();
    if !(seconds > 0.0 && seconds <= MOST_S) {
        node.fault(format!("found {seconds}, wanted more than 0 and at most {MOST_S} s"));
        return Duration::from_secs(1);
    }
    Duration::from_secs_f64(seconds)
}

/// How names are resolved; a document that says nothing gets what the system says, as often as it says.
pub(super) fn dns(node: &Node) -> Dns {
    if node.is_null() || !node.object(&["servers", "min_ttl_s", "max_ttl_s"]) {
        return Dns::default();
    }
    let servers = node.field("servers").items();
    let servers = servers.iter().filter_map(|item| {
        let text = item.need_text();
        let server = text.parse();
        if server.is_err() {
            item.fault(format!("found {text:?}, wanted the address of a name server and its port"));
        }
        server.ok()
    });
    let servers = servers.collect();
    let (min_ttl, max_ttl) = (seconds(&node.field("min_ttl_s")), seconds(&node.field("max_ttl_s")));
    Dns { servers, min_ttl, max_ttl: max_ttl.max(min_ttl) }
}

fn endpoint(node: &Node) -> Option<Endpoint> {
    let text = node.need_text();
    if let Some(path) = text.strip_prefix("unix:") {
        return Some(Endpoint::Unix(path.into()));
    }
    let (dns, address) = match text.strip_prefix("dns:") {
        Some(address) => (true, address),
        None => (false, text),
    };
    let parts = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    let Some((host, port)) = parts.filter(|(host, port)| !host.is_empty() && *port != 0) else {
        node.fault(format!("found {text:?}, wanted \"host:port\", \"dns:host:port\" or \"unix:/path\""));
        return None;
    };
    // `[::1]:8001`: the brackets belong to the notation, not to the address.
    let host: Box<str> = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).into();
    Some(if dns { Endpoint::Dns { host, port } } else { Endpoint::Tcp { host, port } })
}
