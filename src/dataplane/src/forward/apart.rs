//! A batch whose rows go different ways: only those that missed are sent on, and the answers are put together at the end.
//!
//! Which rows these are is the policy's to say; here are their bytes.

use bytes::Bytes;

use super::answer::Final;
use super::asked::Asked;
use super::decide::Decide;
use super::message::{Message, framed};
use crate::policy::{InvalidOutput, PredictionSpec};
use crate::wire::oip::Head;
use crate::wire::oip::rows::{Part, merge, slice};

/// The parts of a batch so far.
pub struct Apart {
    /// Answers, and for each of their rows which row of the request it answers.
    parts: Vec<(Bytes, Vec<Option<u32>>)>,
    /// The request with the rows that are left.
    rest: Message,
}

/// Outputs that every answer must have in the same form, or their rows cannot stand beside each other.
fn needed(spec: &PredictionSpec) -> Vec<&str> {
    [&spec.scores, &spec.label, &spec.confidence, &spec.value].into_iter().flatten().map(|name| &**name).collect()
}

impl Decide<'_, '_, '_> {
    /// The request as it is sent to the next backend: whole, or the rows that are left.
    pub(super) fn sent(&self) -> &Message {
        self.rest().unwrap_or(self.message)
    }

    /// The rows that are left of a batch that was taken apart.
    pub(super) fn rest(&self) -> Option<&Message> {
        self.apart.as_ref().filter(|_| !self.state.left().is_empty()).map(|apart| &apart.rest)
    }

    /// Before an answer is judged: tells the policy whether the request can be taken apart by its rows, and looks whether
    /// the answer's can stand beside those that are kept.
    pub(super) fn prepare_rows(&mut self, answer: &Bytes) -> Result<(), InvalidOutput> {
        if let (Some(apart), Some(spec)) = (&self.apart, &self.route.prediction)
            && !self.state.left().is_empty()
        {
            let all: Vec<_> = self.state.left().iter().map(|&row| Some(row)).collect();
            let parts = apart.parts.iter().map(|(answer, rows)| Part { answer, rows });
            let parts: Vec<_> = parts.chain([Part { answer, rows: &all }]).collect();
            return merge(&parts, self.request.rows as usize, &needed(spec), &mut Vec::new());
        }
        if self.state.splits()
            && matches!(self.asked, Asked::Oip(_))
            && let Some(whole) = self.whole_request()
            && slice(&whole, self.request.rows, &[], &mut Vec::new()).is_ok()
        {
            self.state.split();
        }
        Ok(())
    }

    /// Of an answer that missed for some rows, keeps the others.
    pub(super) fn keep_rows(&mut self, answer: &Bytes) {
        if self.state.taken().is_empty() {
            return;
        }
        let mut rest = Vec::new();
        let sliced =
            self.whole_request().and_then(|whole| slice(&whole, self.request.rows, self.state.left(), &mut rest).ok());
        if sliced.is_none() {
            // It could be taken apart when the policy was told so; should it not be now, nothing is lost but time.
            return self.state.whole_again();
        }
        let rest = framed(rest);
        let part = (answer.clone(), self.state.taken().to_vec());
        match &mut self.apart {
            Some(apart) => {
                apart.parts.push(part);
                apart.rest = rest;
            }
            None => self.apart = Some(Box::new(Apart { parts: vec![part], rest })),
        }
    }

    /// Puts the last answer, for the rows that were left, and those that were kept together.
    pub(super) fn put_together(&mut self, end: Final) -> Final {
        let (Some(apart), Some(spec)) = (self.apart.take(), &self.route.prediction) else { return end };
        let left: Vec<_> = self.state.left().iter().map(|&row| Some(row)).collect();
        let last = match &end {
            Final::Answered { message, .. } => &message.plain,
            Final::Static { plain } => plain,
            Final::Begun(_) | Final::Failed => return end,
        };
        if left.is_empty() {
            return end;
        }
        let parts = apart.parts.iter().map(|(answer, rows)| Part { answer, rows });
        let parts: Vec<_> = parts.chain([Part { answer: last, rows: &left }]).collect();
        let mut plain = Vec::new();
        match merge(&parts, self.request.rows as usize, &needed(spec), &mut plain) {
            Ok(()) => {
                self.asked.name_again(&mut plain);
                Final::Static { plain: plain.into() }
            }
            // Only a static answer comes here unlooked at: then all rows get it, as in a batch that falls back whole.
            Err(_) => {
                self.state.whole_again();
                match self.state.current_static() {
                    Some(backend) => self.static_answer(backend),
                    None => end,
                }
            }
        }
    }

    /// Does something with what was asked: of a batch taken apart, with the rows that are left.
    pub(super) fn with_asked<T>(&self, make: impl FnOnce(&Asked<'_>) -> T) -> T {
        match self.rest().and_then(|rest| Head::scan(&rest.plain, true, usize::MAX).ok()) {
            Some(head) => make(&Asked::Oip(head)),
            None => make(self.asked),
        }
    }
}
