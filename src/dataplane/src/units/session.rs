//! A unit's own recent past on a route, for rules that name `session`.

use crate::policy::{Lesson, Session};

/// What is kept of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Past(pub Session);

impl Past {
    /// Adds a call.
    pub fn learn(&mut self, lesson: &Lesson) {
        let session = &mut self.0;
        session.calls = session.calls.saturating_add(1);
        session.fallbacks = session.fallbacks.saturating_add(u32::from(lesson.fallback));
        session.flagged = session.flagged.saturating_add(u32::from(lesson.flagged));
        let Some(answer) = &lesson.answer else { return };
        let again = session.answered > 0 && session.label == answer.label;
        session.answered = session.answered.saturating_add(1);
        session.repeats = if again { session.repeats.saturating_add(1) } else { 1 };
        session.label = answer.label;
        session.score = answer.score;
        session.confidence = answer.confidence;
        session.value = answer.value;
        session.remembered = answer.remembered;
    }
}
