//! The data plane as Python runs it: started, given policies, drained, shut down.
//!
//! Python is never called from here, and nothing here waits while holding the GIL.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use numpy::PyArray1;
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};
use serde::Deserialize;
use tokio::sync::watch::Sender;

use super::certificates::{ListenTls, server_tls};
use super::desk;
use super::policy::{Policy, policy_error};
use crate::forward::transport::Address;
use crate::forward::transport::limits::Listening;
use crate::forward::{Gauges, Shared, Snapshot, certificates_in_use, reload_certificates};
use crate::listen::{Options, Server};
use crate::records::{Batch, Bell, Capture, Column, Limits, Sink, take};

/// Workers that make sense on one machine.
const MAX_WORKERS: usize = 256;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    inference: String,
    workers: usize,
    control_socket: Option<String>,
    #[serde(default)]
    tls: Option<ListenTls>,
    ring_rows: usize,
    capture_bytes: usize,
    #[serde(default)]
    listening: Listening,
}

/// Forwards calls on threads of its own until it is shut down.
#[pyclass(module = "gateway._dataplane", frozen)]
pub struct Dataplane {
    options: Options,
    shared: Arc<Shared>,
    gauges: Vec<Arc<Gauges>>,
    sinks: Vec<Arc<Sink>>,
    server: OnceLock<Server>,
    turn: Mutex<usize>,
    /// Threads do not survive a fork: whoever is not this process is told so.
    process: u32,
}

#[pymethods]
impl Dataplane {
    #[new]
    fn new(py: Python<'_>, options: &str, policy: &Policy) -> PyResult<Self> {
        let settings: Settings =
            serde_json::from_str(options).map_err(|error| PyValueError::new_err(format!("options: {error}")))?;
        if !(1..=MAX_WORKERS).contains(&settings.workers) {
            return Err(PyValueError::new_err(format!(
                "options: workers is {}, wanted 1 to {MAX_WORKERS}",
                settings.workers
            )));
        }
        let address =
            |text: &str| Address::parse(text).map_err(|words| PyValueError::new_err(format!("options: {words}")));
        let inference = address(&settings.inference)?;
        let control = settings.control_socket.map(|path| Address::Unix(path.into()));
        if settings.tls.is_some() && !matches!(inference, Address::Tcp(_)) {
            return Err(PyValueError::new_err("options: TLS on a unix socket, wanted host:port"));
        }
        let tls = settings.tls.map(|tls| py.detach(|| server_tls(tls))).transpose()?;
        let snapshot =
            py.detach(|| Snapshot::new(policy.compiled(), None)).map_err(|faults| policy_error(py, &faults))?;
        let shared = Arc::new(Shared {
            snapshot: ArcSwap::from_pointee(snapshot),
            published: Sender::default(),
            bell: Bell::default(),
            desk: Arc::default(),
            serving: AtomicBool::new(true),
            control,
            listening: settings.listening,
            tls,
        });
        let limits = Limits {
            rows: settings.ring_rows.div_ceil(settings.workers),
            capture_bytes: settings.capture_bytes.div_ceil(settings.workers),
        };
        Ok(Self {
            options: Options { inference, workers: settings.workers },
            shared,
            gauges: (0..settings.workers).map(|_| Arc::default()).collect(),
            sinks: (0..settings.workers).map(|_| Arc::new(Sink::new(limits))).collect(),
            server: OnceLock::new(),
            turn: Mutex::new(0),
            process: std::process::id(),
        })
    }

    /// Binds and serves. The addresses that were really bound.
    fn start(&self, py: Python<'_>) -> PyResult<BTreeMap<&'static str, String>> {
        self.check_process()?;
        if self.server.get().is_some() {
            return Err(PyRuntimeError::new_err("the data plane has been started before"));
        }
        let started = py.detach(|| Server::start(&self.options, &self.shared, &self.gauges, &self.sinks));
        let server = started.map_err(|error| PyOSError::new_err((error.error.raw_os_error(), error.to_string())))?;
        let address = server.address.clone();
        if self.server.set(server).is_err() {
            return Err(PyRuntimeError::new_err("the data plane has been started before"));
        }
        Ok(BTreeMap::from([("inference", address)]))
    }

    /// Calls that begin from now on see this policy; those under way keep theirs.
    fn publish(&self, py: Python<'_>, policy: &Policy) -> PyResult<()> {
        let before = self.shared.snapshot.load_full();
        let made = py.detach(|| Snapshot::new(policy.compiled(), Some(&before)));
        self.shared.snapshot.store(Arc::new(made.map_err(|faults| policy_error(py, &faults))?));
        self.shared.published.send_replace(());
        Ok(())
    }

    /// Reads the files of certificates, keys and trust again. What is good is taken for new connections; where anything
    /// is wrong, what was read before stays in use.
    fn reload_certificates<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        super::certificates::reloaded(py, &py.detach(|| reload_certificates(&self.shared)))
    }

    /// The certificates in use.
    fn certificates<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        super::certificates::in_use(py, certificates_in_use(&self.shared))
    }

    /// Waits for rows, up to `timeout_ms`; `None` when none came.
    fn drain<'py>(&self, py: Python<'py>, timeout_ms: u64) -> PyResult<Option<Bound<'py, PyDict>>> {
        self.check_process()?;
        let batch = py.detach(|| {
            let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
            take(&self.sinks, &self.shared.bell, &mut turn, Duration::from_millis(timeout_ms))
        });
        batch.map(|batch| batch_dict(py, batch)).transpose()
    }

    /// What was counted since the start, and what is under way.
    fn counters(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        let (mut connections, mut calls) = (0, 0);
        for gauges in &self.gauges {
            connections += gauges.connections.load(Relaxed) as u64;
            calls += gauges.calls.load(Relaxed) as u64;
            for (name, count) in gauges.counters.each() {
                *counts.entry(name.to_owned()).or_insert(0) += count;
            }
        }
        counts.insert("connections".to_owned(), connections);
        counts.insert("in_flight".to_owned(), calls);
        let (waiting, late) = self.shared.desk.counts();
        counts.insert("dropped.reply.late".to_owned(), late);
        for (people, count) in waiting {
            counts.insert(desk::waiting_name(&people), u64::from(count));
        }
        let snapshot = self.shared.snapshot.load();
        let units = snapshot.units.counts(Instant::now());
        counts.insert("units.loop_guard".to_owned(), units.guarded);
        counts.insert("units.session".to_owned(), units.sessions);
        counts.insert("dropped.unit.full".to_owned(), units.evicted);
        for (backend, guard) in snapshot.policy.backends().iter().zip(&snapshot.guards) {
            if backend.is_model() {
                counts.insert(format!("in_flight.{}", backend.name), u64::from(guard.in_flight.load(Relaxed)));
            }
            if let Some(state) = guard.circuit() {
                counts.insert(format!("circuit.{}", backend.name), u64::from(state));
            }
        }
        counts
    }

    /// Whether each route, and each model that routes match, could answer a call now.
    fn health(&self) -> BTreeMap<String, bool> {
        let snapshot = self.shared.snapshot.load();
        snapshot.health(Instant::now()).into_iter().map(|(name, can)| (name.to_owned(), can)).collect()
    }

    /// Waits for questions of calls, up to `timeout_ms`: those that were asked, and those that nobody waits for any more.
    fn questions<'py>(&self, py: Python<'py>, timeout_ms: u64) -> PyResult<(Bound<'py, PyList>, Vec<u64>)> {
        self.check_process()?;
        let (asked, withdrawn) = py.detach(|| self.shared.desk.questions(Duration::from_millis(timeout_ms)));
        Ok((desk::question_list(py, asked)?, withdrawn))
    }

    /// Answers a question; false where nobody waits for it any more.
    #[pyo3(signature = (question, reply))]
    fn reply(&self, question: u64, reply: Option<desk::Answer>) -> bool {
        self.shared.desk.reply(question, desk::Answer::into_reply(reply))
    }

    /// Whether `ServerReady` and `ServerLive` say yes where no backend answers them.
    fn set_serving(&self, serving: bool) {
        self.shared.serving.store(serving, Relaxed);
    }

    /// Takes no new calls, lets those under way finish for `grace_ms`, then stops. May be called again.
    fn shutdown(&self, py: Python<'_>, grace_ms: u64) {
        if let (Some(server), Ok(())) = (self.server.get(), self.check_process()) {
            py.detach(|| {
                self.shared.desk.close_people();
                server.shutdown(Duration::from_millis(grace_ms));
            });
        }
    }
}

impl Dataplane {
    fn check_process(&self) -> PyResult<()> {
        if std::process::id() == self.process {
            return Ok(());
        }
        Err(PyRuntimeError::new_err("the data plane was made in another process: make it after the fork"))
    }
}

fn table<'py>(py: Python<'py>, columns: Vec<(&'static str, Column)>) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, column) in columns {
        match column {
            Column::U8(column) => dict.set_item(name, PyArray1::from_vec(py, column))?,
            Column::U16(column) => dict.set_item(name, PyArray1::from_vec(py, column))?,
            Column::U32(column) => dict.set_item(name, PyArray1::from_vec(py, column))?,
            Column::U64(column) => dict.set_item(name, PyArray1::from_vec(py, column))?,
            Column::I64(column) => dict.set_item(name, PyArray1::from_vec(py, column))?,
            Column::F32(column) => dict.set_item(name, PyArray1::from_vec(py, column))?,
            Column::F64(column) => dict.set_item(name, PyArray1::from_vec(py, column))?,
        }
    }
    Ok(dict)
}

fn capture_dict<'py>(py: Python<'py>, capture: Capture) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("id", PyBytes::new(py, &capture.id))?;
    dict.set_item("rows", capture.rows)?;
    dict.set_item("route", capture.route)?;
    dict.set_item("queue", capture.queue)?;
    dict.set_item("request", PyBytes::new(py, &capture.request))?;
    dict.set_item("answer", PyBytes::new(py, &capture.answer))?;
    dict.set_item("policy", capture.policy)?;
    dict.set_item("time_us", capture.time_us)?;
    Ok(dict)
}

fn batch_dict<'py>(py: Python<'py>, batch: Batch) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("records", table(py, batch.records.into_columns())?)?;
    dict.set_item("attempts", table(py, batch.attempts.into_columns())?)?;
    dict.set_item("mirrors", table(py, batch.mirrors.into_columns())?)?;
    dict.set_item("raises", table(py, batch.raises.into_columns())?)?;
    dict.set_item("strings", batch.strings.into_texts())?;
    let captures = batch.captures.into_iter().map(|capture| capture_dict(py, capture));
    dict.set_item("captures", PyList::new(py, captures.collect::<PyResult<Vec<_>>>()?)?)?;
    Ok(dict)
}
