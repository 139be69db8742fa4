//! The desk: where a call asks Python something and waits, and Python comes for the questions.
//!
//! In: questions of calls, replies of Python. Out: questions in the order in which they were asked, and which of them
//! nobody waits for any more. Never: a wait on the asking side but in the call's own task, a question without a bound, or
//! Python's own objects. What does not fit is refused at once.

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Question {
    /// A rule's Python function.
    Rule {
        /// `package.module:function`.
        function: Box<str>,
        /// How long the call waits for it.
        timeout: Duration,
        /// Its arguments, as JSON.
        values: Vec<u8>,
    },
    /// People, about an answer.
    People(Box<Task>),
}

/// What people are to answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// The backend's name.
    pub backend: Box<str>,
    /// Whose tasks they are.
    pub queue: Box<str>,
    /// The route's name.
    pub route: Box<str>,
    /// Decision id.
    pub id: [u8; 16],
    /// Which rows of the request are to be answered.
    pub rows: Vec<u32>,
    /// The call's segment.
    pub segment: Box<str>,
    /// Hash of the unit.
    pub unit: u64,
    /// Version of the policy.
    pub policy: u32,
    /// Arrival, microseconds since 1970.
    pub time_us: i64,
    /// Until when the call waits.
    pub until_us: i64,
    /// The request, redacted.
    pub request: Vec<u8>,
}

impl Question {
    fn bytes(&self) -> u64 {
        match self {
            Self::Rule { values, .. } => values.len() as u64,
            Self::People(task) => task.request.len() as u64,
        }
    }

    /// Those that share a limit: the people of one backend, all Python rules.
    fn group(&self) -> &str {
        match self {
            Self::Rule { .. } => RULES,
            Self::People(task) => &task.backend,
        }
    }
}

/// No backend's name is empty.
const RULES: &str = "";

/// What Python says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Labels, row by row.
    Labels(Vec<Box<str>>),
    /// Whether the rule holds.
    Holds(bool),
    /// Whether it holds, row by row.
    Rows(Vec<bool>),
    /// It has no answer: the function raised, or the task could not be kept.
    Nothing,
}

/// Why a question was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// As many as may wait are waiting.
    Full,
    /// Their bytes fill what is kept for them.
    Bytes,
    /// People are not asked any more: the data plane is stopping.
    Closed,
}

struct Waiting {
    reply: oneshot::Sender<Reply>,
    group: Box<str>,
    bytes: u64,
    /// Python has come for it.
    taken: bool,
}

#[derive(Default)]
struct Inner {
    last: u64,
    waiting: HashMap<u64, Waiting>,
    /// Questions that Python has not come for, oldest first.
    fresh: BTreeMap<u64, Question>,
    /// Questions that Python has come for, and that nobody waits for any more; never more than it has come for.
    withdrawn: Vec<u64>,
    groups: HashMap<Box<str>, u32>,
    bytes: u64,
    late: u64,
    people_closed: bool,
}

impl Inner {
    /// Takes a question off the table.
    fn clear(&mut self, id: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&id)?;
        self.bytes -= waiting.bytes;
        if let Some(count) = self.groups.get_mut(&waiting.group) {
            *count -= 1;
        }
        self.fresh.remove(&id);
        Some(waiting)
    }

    fn withdraw(&mut self, id: u64) {
        if self.clear(id).is_some_and(|waiting| waiting.taken) {
            self.withdrawn.push(id);
        }
    }

    fn is_quiet(&self) -> bool {
        self.fresh.is_empty() && self.withdrawn.is_empty()
    }
}

/// Questions that wait. Shared by all workers and Python; its lock is held for a few pushes.
#[derive(Default)]
pub struct Desk {
    inner: Mutex<Inner>,
    heard: Condvar,
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a question on the desk, where at most `most` of its group and `most_bytes` of all may wait.
    ///
    /// # Errors
    /// [`Refused`]; nothing waits then.
    pub fn ask(self: &Arc<Self>, question: Question, most: u32, most_bytes: u64) -> Result<Pending, Refused> {
        let (tell, reply) = oneshot::channel();
        let mut inner = self.lock();
        if inner.people_closed && matches!(question, Question::People(_)) {
            return Err(Refused::Closed);
        }
        let bytes = question.bytes();
        if inner.groups.get(question.group()).copied().unwrap_or(0) >= most {
            return Err(Refused::Full);
        }
        if inner.bytes + bytes > most_bytes {
            return Err(Refused::Bytes);
        }
        match inner.groups.get_mut(question.group()) {
            Some(count) => *count += 1,
            None => _ = inner.groups.insert(question.group().into(), 1),
        }
        inner.last += 1;
        let id = inner.last;
        inner.bytes += bytes;
        let waiting = Waiting { reply: tell, group: question.group().into(), bytes, taken: false };
        inner.waiting.insert(id, waiting);
        inner.fresh.insert(id, question);
        drop(inner);
        self.heard.notify_one();
        Ok(Pending { desk: Arc::clone(self), id, reply })
    }

    /// Takes what was asked and what was withdrawn, waiting up to `timeout` for either.
    pub fn questions(&self, timeout: Duration) -> (Vec<(u64, Question)>, Vec<u64>) {
        let until = Instant::now() + timeout;
        let mut inner = self.lock();
        while inner.is_quiet() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            inner = self.heard.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let fresh = std::mem::take(&mut inner.fresh);
        for id in fresh.keys() {
            if let Some(waiting) = inner.waiting.get_mut(id) {
                waiting.taken = true;
            }
        }
        let withdrawn = std::mem::take(&mut inner.withdrawn);
        drop(inner);
        (fresh.into_iter().collect(), withdrawn)
    }

    /// Gives a reply to who waits for it. False where nobody does any more: then it is counted as late.
    pub fn reply(&self, id: u64, reply: Reply) -> bool {
        let mut inner = self.lock();
        let Some(waiting) = inner.clear(id) else {
            inner.late += 1;
            return false;
        };
        drop(inner);
        waiting.reply.send(reply).is_ok()
    }

    /// Ends every wait for people, and takes no more questions to them: for a data plane that is stopping, whose calls
    /// would outlast its grace. Rules are asked on: they are quick, and calls under way still need them.
    pub fn close_people(&self) {
        let mut inner = self.lock();
        inner.people_closed = true;
        let people = inner.waiting.iter().filter(|(_, waiting)| &*waiting.group != RULES);
        let people: Vec<u64> = people.map(|(id, _)| *id).collect();
        for id in people {
            inner.withdraw(id);
        }
        drop(inner);
        self.heard.notify_one();
    }

    /// Questions that wait, by backend of people; by the empty name those about rules. And replies that came too late.
    pub fn counts(&self) -> (Vec<(Box<str>, u32)>, u64) {
        let inner = self.lock();
        (inner.groups.iter().map(|(name, count)| (name.clone(), *count)).collect(), inner.late)
    }
}

/// A question that waits; withdrawn when dropped.
pub struct Pending {
    desk: Arc<Desk>,
    id: u64,
    reply: oneshot::Receiver<Reply>,
}

impl Pending {
    /// Ready with the reply; `Nothing` where the wait was ended from elsewhere.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Reply> {
        Pin::new(&mut self.reply).poll(cx).map(|reply| reply.unwrap_or(Reply::Nothing))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let mut inner = self.desk.lock();
        inner.withdraw(self.id);
        let ring = !inner.withdrawn.is_empty();
        drop(inner);
        if ring {
            self.desk.heard.notify_one();
        }
    }
}

#[cfg(test)]
mod tests;
