//! A call's steps in words, for `explain`. Nothing is written unless somebody asked for it.

use super::call::Call;
use super::compiled::BackendIx;
use super::words::{Reason, status};

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// `unit`, `holdout`, `explore`, `kill_switch`, `rule`, `attempt`, `check`, `confidence`, `answer`, `review`, `mirror`, ...
    pub step: &'static str,
    pub text: String,
}

/// A share as people read it: `2 %`.
pub(super) fn share(share: f64) -> String {
    // Shares are written with few digits; what single precision and a product by 100 add to them is noise.
    format!("{} %", (share * 1e6).round() / 1e4)
}

impl Call {
    /// The steps so far; none unless the call was begun with `begin_explained`.
    pub fn take_notes(&mut self) -> Vec<Note> {
        self.notes.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Notes a step; `text` is only made where somebody asked.
    pub(super) fn note(&mut self, step: &'static str, text: impl FnOnce() -> String) {
        if let Some(notes) = &mut self.notes {
            notes.push(Note { step, text: text() });
        }
    }

    pub(super) fn note_backend(&mut self, step: &'static str, backend: BackendIx, what: &str) {
        if self.notes.is_some() {
            let text = format!("{} {what}", self.policy.backend(backend).name);
            self.note(step, || text);
        }
    }

    /// The attempt under way failed.
    pub(super) fn note_failure(&mut self, reason: Reason, code: u8) {
        if let Some(backend) = self.current
            && self.notes.is_some()
        {
            let status = if code == status::OK { String::new() } else { format!(" with {}", status::name(code)) };
            self.note_backend("attempt", backend, &format!("did not answer{status}: {}", reason.text()));
        }
    }

    pub(super) fn note_mirrors(&mut self) {
        if self.notes.is_none() {
            return;
        }
        for position in self.mirrors.clone() {
            let mirror = &self.policy.route_at(self.route).mirror[usize::from(position)];
            let (to, share) = (mirror.to, share(mirror.choice.share));
            self.note_backend("mirror", to, &format!("gets a copy: the unit is among its {share}"));
        }
    }
}
