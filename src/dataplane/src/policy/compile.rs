//! A policy document becomes a policy: names become indexes, and everything that can be wrong is found now.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::compile_backend::{backends, dns};
use super::compile_route::RouteCompiler;
use super::compiled::{Backend, BackendIx, Limits, Policy, Source};
use super::descriptor::{self, Descriptors};
use super::document::{Faults, Node};
use super::matching::Table;
use super::peer::Allow;
use super::rule::{List, Lists};
use super::segment::{SEGMENT_BYTES, Segments};
use crate::error::Fault;

/// Nobody writes more by hand, and an index (two bytes, one value kept back) must hold it.
pub(super) const MOST_ENTRIES: usize = 4096;
/// Some gigabytes of what is remembered.
const MOST_UNITS: u64 = 100_000_000;
/// A message of gRPC is no longer.
const MOST_MESSAGE_BYTES: u64 = u32::MAX as u64;
/// A day: longer is a mistake in the unit.
pub(super) const MOST_MS: u64 = 24 * 3600 * 1000;

impl Policy {
    /// Compiles a policy document (JSON).
    ///
    /// # Errors
    /// Every fault of the document, each with its path. Nothing of a faulty document is used.
    pub fn compile(document: &str) -> Result<Policy, Vec<Fault>> {
        let value: Value = serde_json::from_str(document).map_err(|error| vec![not_json(&error)])?;
        let faults = Faults::default();
        let policy = compile(&Node::root(&value, &faults));
        match policy {
            Some(policy) if faults.is_empty() => Ok(policy),
            _ => Err(faults.into_vec()),
        }
    }
}

fn not_json(error: &serde_json::Error) -> Fault {
    Fault {
        path: Vec::new(),
        message: format!("the policy document is not JSON: {error}"),
        line: u32::try_from(error.line()).ok(),
        column: u32::try_from(error.column()).ok(),
    }
}

fn compile(root: &Node) -> Option<Policy> {
    const FIELDS: [&str; 13] = [
        "version",
        "salt",
        "receipt_keys",
        "default_backend",
        "identity",
        "lists",
        "limits",
        "trace_share",
        "dns",
        "backends",
        "descriptors",
        "routes",
        "allow",
    ];
    if !root.object(&FIELDS) {
        return None;
    }
    let version = root.field("version").need_whole(u64::from(u32::MAX));
    let salt = hex(&root.field("salt"));
    let receipt_keys = root.field("receipt_keys").items().iter().map(hex).collect();
    let (unit, segments) = identity(&root.field("identity"));
    let lists = Arc::new(lists(&root.field("lists")));
    let limits = limits(&root.field("limits"));
    let trace_share = root.field("trace_share").need_share();

    let dns = dns(&root.field("dns"));
    let backends = backends(&root.field("backends"));
    let mut by_name: HashMap<&str, BackendIx> = HashMap::new();
    for (index, backend) in (0..).zip(&backends) {
        by_name.entry(&backend.name).or_insert(index);
    }
    let default_backend = default_backend(&root.field("default_backend"), &backends, &by_name);

    let routes = root.field("routes");
    let items = routes.items();
    if items.len() > MOST_ENTRIES {
        routes.fault(format!("found {} routes, at most {MOST_ENTRIES} are possible", items.len()));
        return None;
    }
    let descriptors = Descriptors::read(&root.field("descriptors"));
    let mut compiler =
        RouteCompiler::new(&salt, &backends, &by_name, &segments, &lists, &descriptors, limits.units > 0);
    let mut matches = Vec::new();
    let mut compiled = Vec::new();
    let mut described = HashMap::new();
    for (index, item) in (0..).zip(&items) {
        if let Some((matched, route)) = compiler.route(item) {
            descriptor::gather(item, &matched, route.described.as_deref(), &mut described);
            matches.push((index, matched));
            compiled.push(route);
        }
    }
    Some(Policy {
        version: u32::try_from(version).unwrap_or(0),
        salt,
        receipt_keys,
        default_backend,
        unit,
        segments,
        lists,
        limits,
        trace_share,
        dns,
        routes: compiled,
        table: Table::new(matches.into_iter()),
        described,
        backends,
        allow: allow(&root.field("allow")),
    })
}

/// Who may call: nothing for everybody.
fn allow(node: &Node) -> Option<Allow> {
    let patterns = node.texts();
    if patterns.len() > MOST_ENTRIES {
        node.fault(format!("found {} patterns, at most {MOST_ENTRIES} are possible", patterns.len()));
    }
    (!node.is_null()).then(|| Allow::new(patterns.iter().map(|pattern| &**pattern)))
}

fn default_backend(node: &Node, backends: &[Backend], by_name: &HashMap<&str, BackendIx>) -> Option<BackendIx> {
    let name = node.text()?;
    let Some(&index) = by_name.get(name) else {
        node.fault(format!("there is no backend {name:?}"));
        return None;
    };
    if !backends[usize::from(index)].is_model() {
        node.fault(format!("{name:?} is no model; what matches no route can only be forwarded to a model server"));
    }
    Some(index)
}

fn hex(node: &Node) -> Vec<u8> {
    let text = node.need_text();
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).and_then(|value| u8::try_from(value).ok())).collect();
    match digits {
        Some(digits) if digits.len() % 2 == 0 => digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect(),
        _ => {
            // The text is a secret: it is not shown.
            node.fault("wanted hexadecimal digits, two for each byte");
            Vec::new()
        }
    }
}

fn identity(node: &Node) -> (Option<Source>, Segments) {
    if !node.object(&["unit", "segments"]) {
        return (None, Segments::default());
    }
    let unit = source(&node.field("unit"));
    let mut names: Vec<(Box<str>, Source)> = Vec::new();
    for item in node.field("segments").items() {
        if !item.object(&["name", "from"]) {
            continue;
        }
        let name = item.field("name").need_text();
        if name.contains([',', '=']) || names.iter().any(|(known, _)| &**known == name) {
            item.field("name").fault(format!("found {name:?}, wanted a name of its own without `,` or `=`"));
        }
        match source(&item.field("from")) {
            Some(from) => names.push((name.into(), from)),
            None => item.field("from").fault("wanted {\"metadata\": name}, {\"param\": name} or {\"caller\": \"id\"}"),
        }
    }
    let segments = Segments::new(names).unwrap_or_else(|| {
        node.field("segments").fault(format!(
            "names and values of all segments must fit in {SEGMENT_BYTES} bytes; use fewer or shorter names"
        ));
        Segments::default()
    });
    (unit, segments)
}

pub(super) fn source(node: &Node) -> Option<Source> {
    if node.is_null() || !node.object(&["metadata", "param", "caller"]) {
        return None;
    }
    let of = |kind| node.field(kind).boxed();
    match (of("metadata"), of("param"), of("caller")) {
        (Some(name), None, None) => Some(Source::Metadata(name.to_ascii_lowercase().into())),
        (None, Some(name), None) => Some(Source::Param(name)),
        (None, None, Some(name)) if &*name == "id" => Some(Source::CallerId),
        _ => {
            node.fault("wanted one of `metadata`, `param` and `caller: id`");
            None
        }
    }
}

fn lists(node: &Node) -> Lists {
    node.entries().into_iter().map(|(name, items)| (name.into(), Arc::new(List::new(&items.texts())))).collect()
}

fn limits(node: &Node) -> Limits {
    node.object(&[
        "buffer_bytes",
        "replay_bytes",
        "answer_bytes",
        "request_head_bytes",
        "max_rows",
        "units",
        "python_waiting",
        "question_bytes",
    ]);
    // Absent: nothing may wait, so nobody outside is asked.
    let outside =
        |name| Some(node.field(name)).filter(|field| !field.is_null()).map(|field| field.need_whole(u64::MAX));
    let units = node.field("units");
    let bytes = |name| usize::try_from(node.field(name).need_count(MOST_MESSAGE_BYTES)).unwrap_or(usize::MAX);
    Limits {
        buffer_bytes: bytes("buffer_bytes"),
        replay_bytes: bytes("replay_bytes"),
        answer_bytes: bytes("answer_bytes"),
        request_head_bytes: bytes("request_head_bytes"),
        max_rows: bytes("max_rows"),
        python_waiting: outside("python_waiting").map_or(0, |most| u32::try_from(most).unwrap_or(u32::MAX)),
        question_bytes: outside("question_bytes").unwrap_or(0),
        units: if units.is_null() { 0 } else { usize::try_from(units.need_count(MOST_UNITS)).unwrap_or(0) },
    }
}

/// A time in milliseconds, at least one.
pub(super) fn milliseconds(node: &Node) -> Option<Duration> {
    (!node.is_null()).then(|| Duration::from_millis(node.need_count(MOST_MS)))
}
