//! What a call is chosen for before anybody is asked, each choice a salted hash: holdout, arm, and shadows.

use std::sync::Arc;

use super::call::Call;
use super::choice::salted;
use super::compiled::{NO_INDEX, Route};
use super::notes::share;
use super::request::Request;
use super::segment::with_unit;
use super::words::Reason;

impl Call {
    /// Holdout, arm and shadows, by the unit. Who is held out explores nothing.
    pub(super) fn assign(&mut self, request: &Request) {
        let policy = Arc::clone(&self.policy);
        let route = policy.route_at(self.route);
        let id = self.id;
        with_unit(policy.unit.as_ref(), request, &id, |unit| {
            self.unit = salted(&policy.salt, unit);
            self.named = unit != id;
            self.note("unit", || match unit == id {
                true => "the call names no unit: each call is one of its own".to_owned(),
                false => format!("the unit is {:?}", String::from_utf8_lossy(unit)),
            });
            if let Some(holdout) = &route.holdout
                && holdout.choice.chosen(unit)
            {
                self.held_out = true;
                self.note("holdout", || {
                    format!("the unit is in the holdout ({}): it never meets the model", share(holdout.choice.share))
                });
                self.first = Some((Reason::Holdout, NO_INDEX));
            } else if route.explore.is_some() {
                self.explore(route, unit);
            }
            for (position, mirror) in (0u16..).zip(&route.mirror) {
                if mirror.takes(request.method) && mirror.choice.chosen(unit) {
                    self.mirrors.push(position);
                    let noise = mirror.noise.as_ref().is_some_and(|noise| noise.choice.chosen(unit));
                    self.noise |= u16::from(noise) << position;
                }
            }
        });
    }

    /// Draws the arm that is asked first. The kill switch lets no model answer, so nothing is explored under it.
    fn explore(&mut self, route: &Route, unit: &[u8]) {
        let Some(explore) = route.explore.as_ref().filter(|_| !route.kill_switch) else { return };
        let id = self.id;
        let Some(arm) = explore.draw(if explore.by_unit { unit } else { &id }) else { return };
        self.arm = arm.backend;
        #[allow(clippy::cast_possible_truncation)] // a probability of 7 digits
        let propensity = arm.choice.share as f32;
        self.propensity = propensity;
        let words = format_args!("is the arm of this {}", if explore.by_unit { "unit" } else { "call" });
        if self.notes.is_some() {
            let words = format!("{words}: its share is {}", share(arm.choice.share));
            self.note_backend("explore", arm.backend, &words);
        }
    }

    /// The arm, if it is still to be asked. A call that is led elsewhere from the start explores nothing.
    pub(super) fn arm_to_ask(&mut self, led_elsewhere: bool) -> Option<u16> {
        if self.arm == NO_INDEX || self.attempts.iter().any(|attempt| attempt.backend == self.arm) {
            return None;
        }
        if led_elsewhere || !self.attempts.is_empty() {
            (self.arm, self.propensity) = (NO_INDEX, 1.0);
            return None;
        }
        Some(self.arm)
    }
}
