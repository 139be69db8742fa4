//! The policy as Python holds it: compiled once, asked what it would do, measured.

use std::hint::black_box;
use std::sync::Arc;

use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};

use super::desk::Answer;
use crate::error::{Fault, Step as PathStep};
use crate::policy::{
    self, Call, Decision, Judgement, Predictions, Question, Reason, Request, RouteIx, Step, Verdict, status,
};
use crate::wire::oip::{self, Head};

create_exception!(
    gateway._dataplane,
    PolicyError,
    PyException,
    "Every fault of a policy document: args[0] is a list of dicts."
);

/// A compiled policy document: immutable, and cheap to share.
#[pyclass(module = "gateway._dataplane", frozen)]
pub struct Policy(Arc<policy::Policy>);

fn fault_dict<'py>(py: Python<'py>, fault: &Fault) -> PyResult<Bound<'py, PyDict>> {
    let path = PyList::empty(py);
    for step in &fault.path {
        match step {
            PathStep::Key(key) => path.append(key)?,
            PathStep::Index(index) => path.append(index)?,
        }
    }
    let dict = PyDict::new(py);
    dict.set_item("path", path)?;
    dict.set_item("message", &fault.message)?;
    dict.set_item("line", fault.line)?;
    dict.set_item("column", fault.column)?;
    Ok(dict)
}

/// What Python says about a rule of a call that is only thought of.
fn verdict(ask: &Py<PyAny>, question: &Question) -> PyResult<Verdict> {
    Python::attach(|py| {
        let values = PyBytes::new(py, &question.values);
        let said = ask.call1(py, (question.function, values, question.timeout.as_secs_f64()))?;
        Ok(match said.extract::<Option<Answer>>(py)? {
            Some(Answer::Holds(holds)) => Verdict::Holds(holds),
            Some(Answer::Rows(rows)) => Verdict::Rows(rows),
            Some(Answer::Labels(_)) | None => Verdict::Unknown,
        })
    })
}

/// All faults in one error.
pub(super) fn policy_error(py: Python<'_>, faults: &[Fault]) -> PyErr {
    let faults = faults.iter().map(|fault| fault_dict(py, fault)).collect::<PyResult<Vec<_>>>();
    match faults.and_then(|faults| PyList::new(py, faults)) {
        Ok(faults) => PolicyError::new_err((faults.unbind(),)),
        Err(error) => error,
    }
}

type Pairs = Vec<(String, String)>;

#[pymethods]
impl Policy {
    #[new]
    fn new(py: Python<'_>, document: &str) -> PyResult<Self> {
        match py.detach(|| policy::Policy::compile(document)) {
            Ok(compiled) => Ok(Self(Arc::new(compiled))),
            Err(faults) => Err(policy_error(py, &faults)),
        }
    }

    #[getter]
    fn version(&self) -> u32 {
        self.0.version()
    }

    /// What would happen to a call, as JSON.
    #[pyo3(signature = (call, ask = None))]
    fn explain(&self, py: Python<'_>, call: &str, ask: Option<Py<PyAny>>) -> PyResult<String> {
        let mut fault = None;
        let mut judge = |question: &Question| match ask.as_ref().map(|ask| verdict(ask, question)) {
            None => Verdict::Unknown,
            Some(Ok(verdict)) => verdict,
            Some(Err(error)) => {
                fault = Some(error);
                Verdict::Unknown
            }
        };
        let explained = py.detach(|| policy::explain(&self.0, call, &mut judge));
        if let Some(fault) = fault {
            return Err(fault);
        }
        explained.map(|value| value.to_string()).map_err(PyValueError::new_err)
    }

    /// The decision on a real request and real answers, as JSON.
    #[pyo3(signature = (request, metadata, answers, decision_id = [0; 16]))]
    fn decide(
        &self,
        request: &[u8],
        metadata: Pairs,
        answers: std::collections::HashMap<String, Vec<u8>>,
        decision_id: [u8; 16],
    ) -> PyResult<String> {
        let mut predictions = Predictions::default();
        let answer_of = |backend: u16| answers.get(&*self.0.backend(backend).name).map(Vec::as_slice);
        let decided = decide(&self.0, request, &metadata, decision_id, &answer_of, &mut predictions)
            .map_err(PyValueError::new_err)?;
        Ok(policy::decision_json(&self.0, &decided).to_string())
    }

    /// Runs one part of a decision `times` over, for benchmarks: `match`, `read`, `rules` (all of a decision but
    /// reading messages) or `decide`.
    fn bench(&self, part: &str, request: &[u8], metadata: Pairs, answer: &[u8], times: u32) -> PyResult<()> {
        let run = Bench { policy: &self.0, request, metadata: &metadata, answer };
        match part {
            "match" => run.matching(times),
            "read" => run.reading(times),
            "rules" => run.rules(times),
            "decide" => run.deciding(times),
            _ => Err("wanted match, read, rules or decide".to_owned()),
        }
        .map_err(PyValueError::new_err)
    }
}

impl Policy {
    /// What the data plane runs on.
    pub fn compiled(&self) -> Arc<policy::Policy> {
        Arc::clone(&self.0)
    }
}

/// Finds the route of a request by its head.
fn head_and_route<'a>(
    policy: &policy::Policy,
    request: &'a [u8],
    metadata: &Pairs,
) -> Result<(Head<'a>, RouteIx), String> {
    let head = Head::scan(request, true, policy.limits().request_head_bytes).map_err(|fault| fault.to_string())?;
    let route = policy.route(oip::method::MODEL_INFER, Some(head.model), metadata);
    let route = route.ok_or_else(|| format!("no route for the model {:?}", head.model))?;
    Ok((head, route))
}

/// Hands over the request as decisions see it.
fn with_request<T>(head: &Head, metadata: &Pairs, take: impl FnOnce(&Request) -> T) -> T {
    let inputs = head.inputs();
    take(&Request {
        method: oip::method::MODEL_INFER,
        model: head.model,
        id: head.id,
        rows: head.rows(),
        params: &head.params,
        inputs: &inputs,
        metadata,
        caller: None,
        memory: None,
    })
}

/// Decides on messages. A backend without an answer is unavailable; so are people and Python.
fn decide<'a>(
    policy: &Arc<policy::Policy>,
    request: &[u8],
    metadata: &Pairs,
    id: [u8; 16],
    answer_of: &dyn Fn(u16) -> Option<&'a [u8]>,
    predictions: &mut Predictions,
) -> Result<Decision, String> {
    let (head, route) = head_and_route(policy, request, metadata)?;
    Ok(with_request(&head, metadata, |request| {
        let mut call = Call::begin(Arc::clone(policy), route, request, id);
        loop {
            let backend = match call.next() {
                Step::Attempt(backend) => backend,
                Step::Ask(_) => {
                    call.tell_request(request, &Verdict::Unknown);
                    continue;
                }
                Step::People(_) => {
                    call.miss(Reason::Deadline, status::DEADLINE_EXCEEDED);
                    continue;
                }
                Step::Static(_) | Step::Reject { .. } | Step::Exhausted => break,
            };
            let Some(answer) = answer_of(backend) else {
                call.miss(Reason::BackendError, status::UNAVAILABLE);
                continue;
            };
            let route = policy.route_at(route);
            let read = match &route.prediction {
                Some(spec) => oip::read(spec, answer, policy.limits().max_rows, predictions).and_then(|()| {
                    let outputs = route.check.outputs.as_deref();
                    outputs.map_or(Ok(()), |outputs| oip::check(outputs, spec, answer, predictions.rows))
                }),
                None => Ok(()),
            };
            let mut judgement = call.judge(request, read.as_ref().map(|()| &*predictions));
            while let Judgement::Ask(_) = judgement {
                judgement = call.tell_prediction(request, &Verdict::Unknown);
            }
            if judgement == Judgement::Accept {
                break;
            }
        }
        call.finish()
    }))
}

/// What is measured.
struct Bench<'a> {
    policy: &'a Arc<policy::Policy>,
    request: &'a [u8],
    metadata: &'a Pairs,
    answer: &'a [u8],
}

impl Bench<'_> {
    fn matching(&self, times: u32) -> Result<(), String> {
        for _ in 0..times {
            black_box(head_and_route(self.policy, black_box(self.request), self.metadata)?);
        }
        Ok(())
    }

    /// Reads the answer into `out`, as the route of the request does.
    fn read(&self, route: RouteIx, out: &mut Predictions) -> Result<(), String> {
        let spec = self.policy.route_at(route).prediction.as_ref().ok_or("the route reads no prediction")?;
        let max_rows = self.policy.limits().max_rows;
        oip::read(spec, black_box(self.answer), max_rows, out).map_err(|invalid| invalid.to_string())
    }

    fn reading(&self, times: u32) -> Result<(), String> {
        let (_, route) = head_and_route(self.policy, self.request, self.metadata)?;
        let mut predictions = Predictions::default();
        for _ in 0..times {
            self.read(route, &mut predictions)?;
            black_box(&predictions);
        }
        Ok(())
    }

    fn rules(&self, times: u32) -> Result<(), String> {
        let (head, route) = head_and_route(self.policy, self.request, self.metadata)?;
        let mut predictions = Predictions::default();
        self.read(route, &mut predictions)?;
        with_request(&head, self.metadata, |request| {
            for _ in 0..times {
                let mut call = Call::begin(Arc::clone(self.policy), route, black_box(request), [0; 16]);
                while let Step::Attempt(_) = call.next() {
                    if call.judge(request, Ok(&predictions)) == Judgement::Accept {
                        break;
                    }
                }
                black_box(call.finish());
            }
        });
        Ok(())
    }

    fn deciding(&self, times: u32) -> Result<(), String> {
        let mut predictions = Predictions::default();
        let answer_of = |_| Some(self.answer);
        for _ in 0..times {
            let request = black_box(self.request);
            black_box(decide(self.policy, request, self.metadata, [0; 16], &answer_of, &mut predictions)?);
        }
        Ok(())
    }
}

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("STRATA", PyTuple::new(m.py(), policy::stratum::STRATA)?)?;
    m.add("OUTCOMES", PyTuple::new(m.py(), policy::OUTCOMES)?)?;
    m.add("REASONS", PyTuple::new(m.py(), policy::REASONS)?)?;
    m.add("PolicyError", m.py().get_type::<PolicyError>())?;
    m.add_class::<Policy>()
}
